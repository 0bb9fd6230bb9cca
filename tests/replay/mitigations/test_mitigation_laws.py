"""What holds of mitigations in any combination, on histories at random: no rule is broken, nothing is made or lost, and
looking at everybody comes to the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.record import Replay
from backtest.scenario import (
    CircuitBreaker,
    DepthCap,
    DynamicBonus,
    DynamicCloseFactor,
    FixedSpread,
    Grace,
    IsolatedMargin,
    Mitigation,
    OwnerTrigger,
    Pause,
    PriceBand,
    ProtocolsOwn,
    ReserveFund,
    RiskSizing,
    SizeTiers,
    SocialisedLoss,
    Throttle,
    ToxicHalt,
    VolatilityTiers,
)
from backtest.units import BPS, WAD
from tests.sketches.history import USD, History
from tests.support.aave_history import random_history as aave_history
from tests.support.mitigated import bad_debt, did, mitigated, outcome, squeezed
from tests.support.random_history import random_history

DAY = 86_400
BREAKER = CircuitBreaker(move=2_500, seconds=5 * DAY, scope="market", stops="both")
EVERY: tuple[Mitigation, ...] = (
    Pause(from_time="1970-01-05", until_time="1970-03-01", stops="liquidations"),
    BREAKER,
    CircuitBreaker(move=600, seconds=3_600, window=20 * DAY),
    PriceBand(move=2_000, beyond="clamp"),
    PriceBand(move=2_000, seconds=10 * DAY),
    Grace(seconds=2 * DAY),
    ToxicHalt(),
    Throttle(most_repaid=10**5 * USD, seconds=DAY),
    SizeTiers(tiers=((10**3 * USD, 9_000), (10**5 * USD, 9_700))),
    VolatilityTiers(asset="A1", tiers=((1_000, -500),), parameters="liquidation_threshold"),
    DynamicBonus(least=10_100),
    DynamicCloseFactor(target=10_300),
    DepthCap(asset="A0", depth_base=10**5 * USD),
    OwnerTrigger(health=10_800, target=12_000, by="sell", share=6_000, cost=50),
    OwnerTrigger(share=7_000, delay=3_600),
    OwnerTrigger(by="top-up", share=7_000),
    RiskSizing(),
    ReserveFund(name="fund", reserve=500 * USD, fee_share=5_000),
    SocialisedLoss(),
)
ONCE = (OwnerTrigger,)
"""Of which a scenario has one."""


@st.composite
def combinations(draw: st.DrawFn) -> tuple[Mitigation, ...]:
    """Some of ``EVERY``, in any order that makes sense."""
    chosen = draw(st.lists(st.sampled_from(EVERY), min_size=1, max_size=5, unique_by=repr))
    for kind in ONCE:
        of_kind = [each for each in chosen if isinstance(each, kind)]
        chosen = [each for each in chosen if each not in of_kind[1:]]
    return tuple(sorted(chosen, key=lambda each: isinstance(each, SocialisedLoss)))


def keeps_the_rules(result: Replay[Any], mitigations: tuple[Mitigation, ...]) -> None:
    """What each mitigation promises, of every liquidation of the window."""
    for each in mitigations:
        match each:
            case Pause():
                assert not any(4 * DAY <= made.clock.timestamp < 59 * DAY for made in result.liquidations)
            case Throttle():
                for last in result.liquidations:
                    taken = (
                        made.repaid_base
                        for made in result.liquidations
                        if last.clock.timestamp - each.seconds < made.clock.timestamp <= last.clock.timestamp
                    )
                    assert sum(taken) <= each.most_repaid
            case SizeTiers() if len(mitigations) == 1:
                lowest = min(health for _, health in each.tiers) * WAD // BPS
                assert all(made.health_before is not None for made in result.liquidations)
                tier = [made for made in result.liquidations if (made.health_before or 0) >= lowest]
                assert all(made.health_before < WAD for made in tier)  # type: ignore[operator]
            case OwnerTrigger() if each.share == BPS:
                assert did(result, "acted")[0] > 0


def conserves(h: History, result: Replay[Any]) -> None:
    """Who pays comes to what was written off; balances are not negative; bad debt is never less than nothing."""
    written = sum(deficit.amount_base for deficit in result.deficits)
    if any(effect.effect in ("paid", "shared", "unpaid") for effect in result.mitigations):
        assert sum(did(result, effect)[1] for effect in ("paid", "shared", "unpaid")) == written
    assert bad_debt(result) >= 0
    assert result.horizons[0].realised_bad_debt_base == written
    for account in result.book.protocol.accounts(result.book.state):
        for held in result.book.protocol.holdings(result.book.state, account, result.book.now):
            assert held.collateral_scaled >= 0
            assert held.debt_scaled >= 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), combinations(), st.sampled_from([ProtocolsOwn(), FixedSpread(bonus=10_800)]))
@pytest.mark.slow
def test_any_combination_keeps_its_rules(seed: int, mitigations: tuple[Mitigation, ...], mechanism: Any) -> None:
    h = random_history(seed)
    result = mitigated(h, *mitigations, mechanism=mechanism, seed=seed)
    keeps_the_rules(result, mitigations)
    conserves(h, result)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), combinations(), st.sampled_from([None, 40]))
@pytest.mark.slow
def test_any_combination_on_a_real_protocol_s_rules(
    seed: int, mitigations: tuple[Mitigation, ...], first: int | None
) -> None:
    parted = () if first is None else (IsolatedMargin(),)
    h = aave_history(seed)
    result = mitigated(h, *parted, *mitigations, protocol=AAVE_V3, from_block=first, seed=seed)
    keeps_the_rules(result, mitigations)
    conserves(h, result)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
@pytest.mark.slow
def test_parting_accounts_moves_balances_and_no_sum(seed: int) -> None:
    """Nobody liquidates or acts any more after the parting: all scaled balances of an asset are what they were."""
    h = aave_history(seed)
    found = []
    for parts in ((), (IsolatedMargin(),)):
        nobody = Pause(from_time="1970-01-01", until_time="2100-01-01")
        result = mitigated(h, *parts, nobody, protocol=AAVE_V3, from_block=10)
        book, sums = result.book, Counter[tuple[int, str]]()
        for account in book.protocol.accounts(book.state):
            for held in book.protocol.holdings(book.state, account, book.now):
                sums[held.asset, "collateral"] += held.collateral_scaled
                sums[held.asset, "debt"] += held.debt_scaled
        found.append(+sums)
    assert found[0] == found[1]


def toxic(result: Replay[Any]) -> int:
    """Liquidations of accounts of one pair that leave them less healthy: more debt for each collateral."""
    return sum(
        made.health_after is not None and made.health_after < (made.health_before or 0) - WAD // 10**6
        for made in result.liquidations
    )


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1_300, 2_100), min_size=1, max_size=8))
def test_no_liquidation_behind_a_halt_is_toxic(prices: list[int]) -> None:
    h = squeezed(*prices)
    assert toxic(mitigated(h, ToxicHalt())) == 0
    assert toxic(mitigated(h, DynamicBonus())) == 0


def test_without_a_halt_each_is_worse_than_the_one_before() -> None:
    """All but the last, which leaves nothing."""
    spiral = mitigated(squeezed(1_620))
    assert toxic(spiral) == len(spiral.liquidations) - 1 > 1


def test_the_order_of_those_that_only_withhold_does_not_matter() -> None:
    h = random_history(5, steps=120)
    parts = (Grace(seconds=2 * DAY), ToxicHalt(), SizeTiers(tiers=((10**4 * USD, 9_500),)))
    one, other = mitigated(h, *parts), mitigated(h, *parts[::-1])
    assert outcome(one)[:2] == outcome(other)[:2]
    assert outcome(one)[3:5] == outcome(other)[3:5]
