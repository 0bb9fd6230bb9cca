"""Prices that answer, on history as it was: figures that were reported, and a market with and without impact. Depth is
stated, and how it was come by (docs/impact.md has what other depths give); outcomes were known before it was.
"""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from statistics import NormalDist, stdev
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from backtest.imports import import_files, load
from backtest.lake import Lake
from backtest.protocols.registry import protocol_named
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.replay.what_if import proposal as what_if
from backtest.replay.what_if.impact import views_of
from backtest.results import Material, load_material, replayed
from backtest.risk.book import moves
from backtest.scenario import Competitive, Scenario
from backtest.scenario.impact import AssetImpact, ConstantProductDepth, Impact, OsmRule
from backtest.units import BPS, WAD
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
HALF_LIFE = 300
"""Seconds after which sellers have answered half of what buyers did: a bar, since depth is estimated over bars. An
assumption.
"""


def bars(first: str, last: str) -> list[dict[str, Any]]:
    """Five-minute bars of CRV from one time until another."""
    path = real_folder() / "crashes" / "crash_2022_11" / "binance_spot_5m.parquet"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {path.parent}")
    every = pq.read_table(path, columns=["symbol", "time", "open", "close", "volume"])
    every = every.filter(pc.equal(every["symbol"], "CRVUSDT")).sort_by("time")
    return [row for row in every.to_pylist() if first <= str(row["time"]) < last]


def depth_of(rows: list[dict[str, Any]]) -> int:
    """The reserve of a constant product that is as deep, for little, as trading in these bars: 2 / lambda, whole CRV,
    lambda being Kyle's, the slope through zero of log returns over signed volume, and a bar's volume signed by bulk
    (Easley, Lopez de Prado and O'Hara 2012): bought is the part that the normal law gives for its return over the
    deviation of all.
    """
    returns = [math.log(row["close"] / row["open"]) for row in rows]
    law = NormalDist(0, stdev(returns))
    signed = [row["volume"] * (2 * law.cdf(one) - 1) for row, one in zip(rows, returns, strict=True)]
    slope = sum(one * flow for one, flow in zip(returns, signed, strict=True)) / sum(flow * flow for flow in signed)
    return round(2 / slope)


def squeeze() -> History:
    """The account along the closes of five-minute bars from noon to the next morning."""
    day = bars("2022-11-22 12", "2022-11-23 02")
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
    """Bad debt within 25 % of what was reported, at the depth of the 24 hours before; without impact there is none."""
    h = squeeze()
    assert not squeezed(h, None).deficits
    reserve = depth_of(bars("2022-11-21 12", "2022-11-22 12"))
    assert reserve == pytest.approx(200.9e6, rel=1e-3)
    found = squeezed(h, reserve)
    lost = sum(deficit.amount for deficit in found.deficits) / 10**18
    assert lost == pytest.approx(BAD_DEBT, rel=0.25)
    assert not found.book.state.balances[0]
    assert all(point.oracle == point.history for point in found.points)
    # each repayment above the frontier left the account worse off: 1 / 1.045
    healths = [made.health_before / 10**18 for made in found.liquidations]
    assert min(healths) < 0.89 * 1.045
    assert sum(-sale.amount for sale in found.sales) == DEBT * 10**18 - sum(d.amount for d in found.deficits)


def test_the_squeeze_with_depth_of_other_windows() -> None:
    """The morning or the week before say the same within 25 %; with the days of FTX, 1 November on, depth is a third
    less, and bad debt beyond what was reported: it is the estimate's window that is stated, not only its formula.
    """
    h = squeeze()
    lost = [
        sum(one.amount for one in squeezed(h, depth_of(bars(first, "2022-11-22 12"))).deficits) / 10**18
        for first in ("2022-11-22 00", "2022-11-15", "2022-11-01")
    ]
    assert lost[:2] == [pytest.approx(BAD_DEBT, rel=0.25)] * 2
    assert lost[2] > 1.25 * BAD_DEBT


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


# -- what a small move makes liquidatable ------------------------------------------------------------------------------


def test_what_three_percent_make_liquidatable(eth_b: Material) -> None:
    """Perez, Werner, Xu and Livshits 2021 find of Compound that 3 % off a price make more than ten million dollars
    liquidatable. The shape on ETH-B, whose whole debt was 35 to 143 million: so it was at three of six moments, each
    time by one vault or two, and at the others it was none to 7 million. Nobody is made safe by a fall.
    """
    protocol, timeline = protocol_named("maker"), eth_b.timeline()
    eth = next(asset.id for asset in eth_b.market.assets if asset.symbol == "ETH")
    more = {}
    for day in ("2021-04-15", "2021-05-12", "2021-05-18", "2021-06-20", "2021-09-05", "2021-11-30"):
        block = timeline.block_before(int(datetime.fromisoformat(f"{day}T00:00+00:00").timestamp()))
        assert block is not None
        book = what_if.book_at(protocol, eth_b.market, timeline, block, ended=True)
        owed = [
            sum(
                one.debt_base
                for one in what_if.standings(views_of(what_if.moved(book, moves({eth: BPS}, fall))), unsafe=True)
            )
            for fall in (0, 100, 200, 300, 500, 1_000, 2_000)
        ]
        assert owed == sorted(owed)
        more[day] = (owed[3] - owed[0]) / (10**6 * WAD)
    beyond = {day: million for day, million in more.items() if million > 10}
    assert beyond == {
        "2021-05-12": pytest.approx(14.5, abs=0.1),
        "2021-06-20": pytest.approx(19.7, abs=0.1),
        "2021-11-30": pytest.approx(30.9, abs=0.1),
    }
    assert max(million for day, million in more.items() if day not in beyond) < 7
