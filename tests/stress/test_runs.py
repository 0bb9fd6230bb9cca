"""A run on deposits, by hand: what is paid and withheld, utilisation, and a liquidation that cannot be paid.

Of 30 WETH 20 are lent. Two who owe nothing ask for their 15 and 5, in two parts: the first 10 are paid, and nothing is
left. WETH goes from 2000 to 800 $; 10 of them stand behind 8,200: whoever liquidates would get 8,000 $, all of them,
and there is none. So 200 stay without cover; where nobody leaves all are seized, and 8,200 less 8,000 / 1.05 written
off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from backtest.lake import Lake
from backtest.protocols.interface import Fill, Refusal
from backtest.protocols.registry import PROTOCOLS
from backtest.report.stress import as_text, find_stress
from backtest.scenario import Competitive, Joint, Scenario
from backtest.shocks import StressCase, Suite
from backtest.shocks.events import SuppliersExit
from backtest.shocks.models import Recorded
from backtest.stress import stress
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, USDC, WETH, History, market
from tests.support.sketch_lake import CONFIG, lake_of

LEAVE = SuppliersExit(assets=("WETH",), share=(10_000, 10_000), lasts=(300, 300))
CASE = StressCase(name="run", prices=Recorded(points=((300, 400_000),), assets=("WETH",)), events=(LEAVE,))
SUITE = Suite(
    name="a run", version=1, cases=(CASE,), horizon=900, step=300, scenario=Scenario(liquidators=Competitive())
)  # fmt: skip


class Lent(FixedSpreadPool):
    """Pays out what is there and not lent."""

    def act(self, state: Any, action: Any, prices: Any, now: Any) -> Any:
        change = action.changes[0]
        if action.name == "withdraw" and (action.amount or -change.delta) > self._cash(state, change.asset, now):
            return Refusal("not enough is there")
        return super().act(state, action, prices, now)

    def quote(self, state: Any, order: Any, prices: Any, now: Any) -> Any:
        found, asset = super().quote(state, order, prices, now), order.pair.collateral_asset
        if isinstance(found, Fill) and found.seized > self._cash(state, asset, now):
            return Refusal("not enough is there", unpaid=(asset, found.seized))
        return found

    def _cash(self, state: Any, asset: Any, now: Any) -> int:
        sides = (("collateral", 1), ("debt", -1))
        return sum(sign * state.native(who, asset, side, now) for who in state.balances for side, sign in sides)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", Lent())
    for name in ("g", "h"):
        h = History(market(("WETH", 18), ("USDC", 6), accounts=4, name=name))
        for asset in (WETH, USDC):
            h.param("liquidation_threshold", 8000, asset=asset).param("liquidation_bonus", 10500, asset=asset)
        h.param("close_factor", 10_000).price(WETH, 2000 * USD).price(USDC, USD)
        for account, weth in ((0, 10), (1, 15), (3, 5)):
            h.position(account, WETH, "collateral", weth * ETH)
        h.position(0, USDC, "debt", 8_200 * 10**6, "borrow")
        h.position(2, USDC, "collateral", 100_000 * 10**6).position(2, WETH, "debt", 20 * ETH, "borrow")
        h.block(5).price(USDC, USD)
        found = lake_of(tmp_path / "lake", h, config=msgspec.structs.replace(CONFIG, name=name))
    return found


def test_a_run_by_hand(lake: Lake) -> None:
    assert stress(lake, "g", SUITE).failed == ()
    lake.refresh()
    rows = lake.sql(
        "SELECT step, asked, paid, supplied, lent, withheld, utilisation FROM stress_runs ORDER BY step"
    ).fetchall()
    asked = [(10, 0.0), (20, 0.5), (20, 0.5)]
    assert [(row[0], *(int(value) for value in row[1:5]), *row[5:]) for row in rows] == [
        (step, of * ETH, 10 * ETH, 20 * ETH, 20 * ETH, withheld, 1.0) for step, (of, withheld) in enumerate(asked, 1)
    ]
    [short] = lake.sql("SELECT asset, accounts, value_base FROM stress_unpaid").fetchall()
    assert (*short[:2], int(short[2])) == ("WETH", 1, 8_000 * USD)
    [row] = lake.sql("SELECT liquidations, added_bad_debt_base FROM stress_paths").fetchall()
    assert (row[0], int(row[1])) == (0, 200 * USD)
    [case] = lake.sql(
        "SELECT paths, withheld_paths, withheld_mean, utilisation_most, short_paths, short_most_base"
        " FROM stress_withdrawals"
    ).fetchall()
    assert (*case[:5], int(case[5])) == (1, 1, 0.5, 1.0, 1, 8_000 * USD)
    text = " ".join(as_text(find_stress(lake, "a run")).split())
    assert "Runs on deposits, and liquidations that could not be paid" in text


def test_who_stays_pays(lake: Lake) -> None:
    """Nobody leaves: 10 WETH are there, and are seized."""
    calm = replace(SUITE, cases=(replace(CASE, events=()),))
    stress(lake, "g", calm)
    lake.refresh()
    assert [lake.sql(f"SELECT count(*) FROM {name}").fetchall() for name in ("stress_runs", "stress_unpaid")] == [
        [(0,)], [(0,)],
    ]  # fmt: skip
    [row] = lake.sql("SELECT liquidations, added_bad_debt_base FROM stress_paths").fetchall()
    assert (row[0], int(row[1])) == (1, 8_200 * USD - 761_904_762_000)


def test_each_of_several_markets_has_its_own(lake: Lake) -> None:
    both = replace(SUITE, scenario=Scenario(liquidators=Competitive(), joint=Joint(markets=("g", "h"))))
    assert stress(lake, "g", both).failed == ()
    lake.refresh()
    rows = lake.sql(
        "SELECT of_market, withheld_mean, utilisation_most, short_most_base FROM stress_withdrawals ORDER BY of_market"
    ).fetchall()
    assert [(*row[:3], int(row[3])) for row in rows] == [(name, 0.5, 1.0, 8_000 * USD) for name in ("g", "h")]
