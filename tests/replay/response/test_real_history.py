"""Prices that answer, on history as it was: figures that were reported, and a market with and without impact. Depth is
an assumption, and said; it was chosen among others (docs/impact.md has them), so that nothing here is a prediction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from backtest.imports import import_files, load
from backtest.lake import Lake
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.results import Material, load_material, replayed
from backtest.scenario import Competitive, Scenario
from backtest.scenario.impact import AssetImpact, ConstantProductDepth, Impact, OsmRule
from tests.sketches.history import USD, History, market
from tests.support.maker_exports import real_folder
from tests.support.sketch_history import POOL

pytestmark = pytest.mark.slow

# -- the CRV squeeze of 22 November 2022 -------------------------------------------------------------------------------

COLLATERAL, DEBT = 63_600_000, 92_000_000
"""USDC and CRV of the one account (Aave governance forum, thread 10779); threshold 89 %, bonus 4.5 %, close factor
half.
"""
BAD_DEBT = 2_650_000
"""CRV that nobody owed afterwards: 2.64 to 2.66 million."""
RESERVE, HALF_LIFE = 200_000_000, 300
"""Depth: a constant product of 200 million CRV, so that two million move its price by 2 %, and buyers are answered by
sellers within five minutes. An assumption; with 100 to 400 million and 1 to 15 minutes bad debt is 0.7 to 3.9 million.
"""


def squeeze() -> History:
    """The account along the closes of five-minute bars from noon to the next morning."""
    path = real_folder() / "crashes" / "crash_2022_11" / "binance_spot_5m.parquet"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {path.parent}")
    bars = pq.read_table(path, columns=["symbol", "time", "close"])
    bars = bars.filter(pc.equal(bars["symbol"], "CRVUSDT")).sort_by("time")
    day = [row for row in bars.to_pylist() if "2022-11-22 12" <= str(row["time"]) < "2022-11-23 02"]
    h = History(market(("USDC", 6), ("CRV", 18), accounts=4))
    h.param("liquidation_threshold", 8_900, asset=0).param("liquidation_bonus", 10_450, asset=0)
    h.price(0, USD).price(1, round(day[0]["close"] * USD))
    h.position(0, 0, "collateral", COLLATERAL * 10**6).position(0, 1, "debt", DEBT * 10**18, "borrow")
    for number, row in enumerate(day):
        h.block(10 + 25 * number, 1_000 + 300 * number).price(1, round(row["close"] * USD))
    return h


def squeezed(h: History, reserve: int | None) -> Replay[Any]:
    """Liquidators buy the CRV that they repay; history's price holds what that did, so that it is netted out."""
    scenario = Scenario(liquidators=Competitive())
    if reserve is None:
        return replay(POOL, h.market, h.timeline(), scenario)
    entry = AssetImpact(asset="CRV", depth=ConstantProductDepth(reserve=reserve), half_life=HALF_LIFE, buys=True)
    return replay(POOL, h.market, h.timeline(), scenario, response=PriceResponse(Impact(assets=(entry,)), [h.market]))


def test_the_crv_squeeze() -> None:
    """Bad debt within 25 % of what was reported; without impact there is none."""
    h = squeeze()
    assert not squeezed(h, None).deficits
    found = squeezed(h, RESERVE)
    lost = sum(deficit.amount for deficit in found.deficits) / 10**18
    assert lost == pytest.approx(BAD_DEBT, rel=0.25)
    assert not found.book.state.balances[0]
    assert all(point.oracle == point.history for point in found.points)
    # each repayment above the frontier left the account worse off: 1 / 1.045
    healths = [made.health_before / 10**18 for made in found.liquidations]
    assert min(healths) < 0.89 * 1.045
    assert sum(-sale.amount for sale in found.sales) == DEBT * 10**18 - sum(d.amount for d in found.deficits)


# -- ETH-B through 19 May 2021 -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eth_b(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder: Path = real_folder()
    lake = Lake(tmp_path_factory.mktemp("real") / "lake", create=True)
    import_files(lake, load("maker-vaults"), folder=folder / "maker_eth_b")
    candles = {"hours": [str(folder / "prices" / "eth_usd_1h_2020_2021.csv")]}
    import_files(lake, load("candles"), market="maker-eth-b", sources=candles)
    reconstruct(lake, "maker-eth-b")
    lake.refresh()
    return load_material(lake, "maker-eth-b")


def test_eth_b_through_19_may_2021_with_and_without_impact(eth_b: Material) -> None:
    """A constant product of 100,000 ETH whose falls halve in an hour: 500 ETH move it by 1 %. What an auction sells is
    worth less, so that borrowers get less back; the oracle falls where impact counts twice, and never in a baseline.
    """
    entry = AssetImpact(
        asset="ETH", depth=ConstantProductDepth(reserve=100_000), half_life=3_600, oracle=OsmRule(period=3_600)
    )
    days = {"from_block": 12_416_233, "to_block": 12_500_192}
    plain = Scenario(name="plain", liquidators=Competitive(), **days)
    runs = {"plain": replayed(eth_b, plain)}
    for netting in ("baseline", "observed", "none"):
        scenario = replace(plain, impact=Impact(assets=(entry,), netting=netting))
        runs[netting] = replayed(eth_b, scenario)
    runs["history"] = replayed(eth_b, Scenario(impact=Impact(assets=(entry,)), **days))
    prices = {name: one.tables["run_prices"].to_pylist() for name, one in runs.items()}
    assert not prices["plain"]
    for name in ("baseline", "history"):
        assert all(row["oracle_price"] == row["history_price"] for row in prices[name])
    least = {
        name: min(float(row["oracle_price"] / row["history_price"]) for row in rows)
        for name, rows in prices.items()
        if rows
    }
    assert least["none"] <= least["observed"] < 1
    assert least["none"] == pytest.approx(0.927, abs=0.01)
    seized = {
        name: sum(row["seized_base"] for row in one.tables["run_liquidations"].to_pylist())
        for name, one in runs.items()
    }
    assert seized["plain"] < seized["baseline"] < seized["none"]
