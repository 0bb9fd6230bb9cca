"""Where nobody can be unsafe, ticks are not looked at, and the replay is the one that looks."""

from __future__ import annotations

import pytest

from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.shortcuts.common_start import start_of
from backtest.replay.watch import screen
from backtest.replay.watch.foresight import Foresight
from backtest.scenario import Competitive, Override, Scenario
from tests.bench.bench_replay import market, timeline
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, USDC, WETH, borrower, opened

ACCOUNTS, TICKS = 60, 400
RAMP = Override(parameter="liquidation_threshold", change=-300, asset="A0", from_block=50, until_block=350, steps=5)
SCENARIOS = {
    "crash": Scenario(liquidators=Competitive(), from_block=2),
    "ramp": Scenario(liquidators=Competitive(), from_block=2, overrides=(RAMP,)),
    "gas": Scenario(liquidators=Competitive(gas_cost=20 * 10**8), from_block=2),
    "part": Scenario(liquidators=Competitive(max_calls=2), from_block=90, to_block=300),
}


def outcome(result: Replay[object]) -> tuple[object, ...]:
    found = (
        result.liquidations,
        result.spells,
        result.deficits,
        result.totals,
        result.horizons,
        result.events,
        result.reach,
    )
    return (*found, result.made_liquidatable, result.refused, result.costs, result.book)


@pytest.mark.parametrize("name", SCENARIOS)
def test_quiet_ticks_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history, looks = timeline(ACCOUNTS, TICKS, fall=0.3), []
    candidates = Foresight.candidates
    monkeypatch.setattr(Foresight, "candidates", lambda self, book: looks.append(book.seq) or candidates(self, book))
    quick = replay(AAVE_V3, market(ACCOUNTS), history, SCENARIOS[name], samples=9)
    plain = replay(AAVE_V3, market(ACCOUNTS), history, SCENARIOS[name], samples=9, screened=False)
    assert outcome(quick) == outcome(plain)
    assert quick.liquidations
    assert len(set(looks)) < TICKS  # an offer that does not pay keeps being looked at


@pytest.mark.parametrize("screened", [True, False])
def test_a_stretch_that_begins_with_an_override_ends_with_the_transaction_after_it(screened: bool) -> None:
    """Who borrows right after an override started is seen when the price falls."""
    h = opened()
    borrower(h, 0, 1, 10).position(1, WETH, "collateral", ETH)
    h.block(20).position(1, USDC, "debt", 1000 * 10**6, "borrow").block(24).price(WETH, 1200 * USD)
    override = Override(parameter="close_factor", value=10_000, from_block=20)
    scenario = Scenario(liquidators=Competitive(), from_block=10, overrides=(override,))
    result = replay(FixedSpreadPool(), h.market, h.timeline(), scenario, screened=screened)
    assert [(made.fill.order.account, made.clock.block_number) for made in result.liquidations] == [(1, 24)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_exposures_at_once_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history = timeline(ACCOUNTS, TICKS, fall=0.3)
    plain = replay(AAVE_V3, market(ACCOUNTS), history, SCENARIOS[name], samples=9, screened=False)
    monkeypatch.setattr(screen, "MANY", 1)
    quick = replay(AAVE_V3, market(ACCOUNTS), history, SCENARIOS[name], samples=9)
    start = start_of(AAVE_V3, market(ACCOUNTS), history, SCENARIOS[name])
    assert outcome(quick) == outcome(plain)
    assert outcome(replay(AAVE_V3, market(ACCOUNTS), history, SCENARIOS[name], samples=9, start=start)) == outcome(
        plain
    )
