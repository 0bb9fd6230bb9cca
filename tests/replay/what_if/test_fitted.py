"""Owners who decide by hazards: the same result whichever way a replay looks, nothing new where nothing differs, and
the stated elasticities.
"""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from backtest.errors import ScenarioError
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.shortcuts.common_start import start_of
from backtest.scenario import Competitive, FittedUsers, Hazard, Observed, Override, Scenario, Users
from backtest.scenario.users import Act
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.support.compiled_loop import outcome
from tests.support.random_history import random_history

POOL = FixedSpreadPool()


def hazard(act: Act, *coefficients: int) -> Hazard:
    return Hazard(act=act, coefficients=coefficients, sizes=(500, 3_000))


FITTED = FittedUsers(
    step=2_592_000,
    hazards=(
        hazard("repay", -5_000_000, 6_000_000, 0, 0, 500_000, 0),
        hazard("supply", -6_000_000, 6_000_000, 0, 0, 0, 200_000),
        hazard("borrow", -1_000_000, -3_000_000, 0, 0, 0, 0),
        hazard("withdraw", -3_000_000),
    ),
)
LOWER = Override(parameter="liquidation_threshold", value=7_500, from_block=40)
USERS = Users(response="fitted", fitted=FITTED)
MODEL = Scenario(liquidators=Competitive(), users=USERS, overrides=(LOWER,), from_block=40, allow_invalid=True)


@pytest.mark.parametrize("seed", range(3))
def test_every_way_to_replay_gives_the_same(seed: int) -> None:
    h = random_history(seed, liquidations=True)
    history = h.timeline()
    for scenario in (MODEL, replace(MODEL, users=replace(USERS, refused="shrink"), seed=7)):
        plain: Replay[object] = replay(POOL, h.market, history, scenario, samples=5, screened=False)
        quick = replay(POOL, h.market, history, scenario, samples=5)
        for name, value in outcome(plain).items():
            assert outcome(quick)[name] == value, name
        start = start_of(POOL, h.market, history, scenario)
        again = replay(POOL, h.market, history, scenario, samples=5, start=start)
        assert outcome(again)["liquidations"] == outcome(plain)["liquidations"]
        assert (again.book, again.actions) == (plain.book, plain.actions)


def test_owners_act_and_do_not_act_by_their_health_here() -> None:
    found: Counter[str] = Counter()
    for seed in range(6):
        h = random_history(seed)
        result: Replay[object] = replay(POOL, h.market, h.timeline(), MODEL)
        for one in result.actions:
            found[one.outcome] += one.count
    assert found["made"] > 0


def test_history_itself_is_history() -> None:
    """In a book that is history's nobody is moved to anything."""
    h = random_history(3)
    observed: Replay[object] = replay(POOL, h.market, h.timeline(), Scenario(liquidators=Observed(), users=USERS))
    plain: Replay[object] = replay(POOL, h.market, h.timeline(), Scenario())
    assert (observed.book, observed.actions) == (plain.book, plain.actions)


def test_hazards_at_base_rates_change_nothing_of_accounts_that_owe_in_both() -> None:
    flat = FittedUsers(step=2_592_000, hazards=(hazard("repay", -50_000_000),))
    h = random_history(4)
    frozen = replace(MODEL, users=Users())
    ours: Replay[object] = replay(POOL, h.market, h.timeline(), replace(MODEL, users=replace(USERS, fitted=flat)))
    theirs: Replay[object] = replay(POOL, h.market, h.timeline(), frozen)
    assert outcome(ours) == outcome(theirs)


def test_seeds_draw_and_the_same_seed_draws_the_same() -> None:
    h = random_history(5)
    once, again = (replay(POOL, h.market, h.timeline(), MODEL) for _ in range(2))
    assert (once.book, once.actions) == (again.book, again.actions)


def test_without_hazards_it_is_refused() -> None:
    h = random_history(0)
    with pytest.raises(ScenarioError, match="without hazards"):
        replay(POOL, h.market, h.timeline(), replace(MODEL, users=Users(response="fitted")))


def test_words_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ScenarioError, match="response = 'frozen'"):
        Users(fitted=FITTED)
    with pytest.raises(ScenarioError, match="departures = -1"):
        Users(departures=-1)
    with pytest.raises(ScenarioError, match="2 coefficients"):
        hazard("repay", 1, 2)
    with pytest.raises(ScenarioError, match="twice"):
        FittedUsers(step=3_600, hazards=(hazard("repay", 1), hazard("repay", 1)))
