"""Steps of a parameter that history takes are known in advance: nobody is asked anew, and nobody is missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from msgspec import structs

from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.aave_v3 import AAVE_V3, AaveV3
from backtest.protocols.aave_v3.state import AaveState
from backtest.protocols.interface import Exposure, Exposures
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.shortcuts import stretch
from backtest.scenario import Competitive, Override, Scenario
from tests.bench.bench_events import timeline
from tests.bench.bench_replay import market

ACCOUNTS, TICKS = 300, 200
WINDOW = Scenario(liquidators=Competitive(), from_block=2)
LEAVES = Override(parameter="liquidation_threshold", value=7_990, asset="A2", from_block=90)
BONUS = Override(parameter="liquidation_bonus", value=10_900, asset="A2", from_block=90)
SCENARIOS = {
    "along": WINDOW,
    "beside": structs.replace(WINDOW, overrides=(BONUS,)),
    "left": structs.replace(WINDOW, overrides=(LEAVES,)),
}


class Counted(AaveV3):
    """How many exposures are asked for, and what is known of the ramp in advance."""

    def __init__(self, ahead: float = 1.0) -> None:
        self.asked: Counter[str] = Counter()
        self._ahead = ahead

    def exposure(self, state: AaveState, account: AccountId, now: Clock) -> Exposure | None:
        self.asked["exposures"] += 1
        return super().exposure(state, account, now)

    def exposures(self, state: AaveState, accounts: Sequence[AccountId], now: Clock) -> Exposures:
        self.asked["exposures"] += len(accounts)
        return super().exposures(state, accounts, now)

    def collateral_share(self, state: AaveState, asset: AssetId, value: int | None = None) -> float | None:
        share = super().collateral_share(state, asset, value)
        later = value is not None and share is not None and value < 7_995
        return share * self._ahead if later and share is not None else share


def outcome(result: Replay[object]) -> tuple[object, ...]:
    found = result.liquidations, result.spells, result.totals, result.horizons, result.events, result.actions
    return (*found, result.reach, result.refused, result.book.state)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_ramp_is_followed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretch, "MANY", 0)
    history, of, protocol = timeline(ACCOUNTS, TICKS), market(ACCOUNTS), Counted()
    quick = replay(protocol, of, history, SCENARIOS[name], samples=5)
    plain = replay(AAVE_V3, of, history, SCENARIOS[name], samples=5, screened=False)
    assert outcome(quick) == outcome(plain)
    assert quick.liquidations
    # everyone once, whoever acts, and a quarter of them at every step once the ramp is another
    alone = ACCOUNTS + TICKS + len(quick.liquidations)
    assert (protocol.asked["exposures"] < alone + ACCOUNTS) == (name != "left")


def test_a_step_that_is_not_as_it_was_foreseen_asks_everyone_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    history, of, protocol = timeline(ACCOUNTS, TICKS), market(ACCOUNTS), Counted(ahead=1.1)
    plain = replay(AAVE_V3, of, history, WINDOW, screened=False)
    assert outcome(replay(protocol, of, history, WINDOW)) == outcome(plain)
    assert protocol.asked["exposures"] > 50 * ACCOUNTS // 4
