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
from tests.sketches.history import USD, History, market
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
    for scenario in (
        MODEL,
        replace(MODEL, users=replace(USERS, refused="shrink"), seed=7),
        replace(MODEL, users=replace(USERS, departures=3_000, arrivals=8_000, arrival_size=30_000)),
    ):
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


def borrower() -> History:
    """One account: 10 A at 100 USD, which count to 70 %, against 333.000001 B."""
    h = History(market(("A", 8), ("B", 6), accounts=1))
    for asset, price, threshold in ((0, 100, 7_000), (1, 1, 0)):
        h.param("liquidation_threshold", threshold, asset=asset).param("liquidation_bonus", 10_500, asset=asset)
        h.price(asset, price * USD)
    h.position(0, 0, "collateral", 10 * 10**8)
    h.position(0, 1, "debt", 333_000_001, "borrow")
    for block in range(2, 12):
        h.block(block, block * 21_600 * 2)
        h.price(1, USD)
    return h


def elastic(threshold: int, **users: int) -> Replay[object]:
    """Replayed with a threshold of A, which the override starts after."""
    lower = Override(parameter="liquidation_threshold", asset="A", value=threshold, from_block=3)
    h = borrower()
    scenario = Scenario(liquidators=Competitive(), users=Users(**users), overrides=(lower,))  # type: ignore[arg-type]
    return replay(POOL, h.market, h.timeline(), scenario)


def held(result: Replay[object], account: int) -> dict[tuple[int, str], int]:
    return dict(result.book.state.balances.get(account, {}))  # type: ignore[attr-defined]


def test_newcomers_by_hand() -> None:
    """A counts to 84 instead of 70 %, a fifth more: at 500 basis points for each of the 20 percent one comes for sure.
    It is half of whom it is like: 5 A against 166.500000 B (333.000001 / 2, down). Nobody is like it, later either.
    """
    result = elastic(8_400, arrivals=500, arrival_size=5_000)
    address = result.book.market.accounts[0]
    [newcomer] = [place for place, name in enumerate(result.book.market.accounts) if name == f"{address}+"]
    assert held(result, 0) == {(0, "collateral"): 10 * 10**8, (1, "debt"): 333_000_001}
    assert held(result, newcomer) == {(0, "collateral"): 5 * 10**8, (1, "debt"): 166_500_000}
    assert [(each.action, each.outcome, each.count) for each in result.actions] == [
        ("borrow", "made", 1),
        ("supply", "made", 1),
    ]
    assert len(elastic(8_400, departures=10_000).actions) == 0
    assert len(elastic(7_000, arrivals=10_000).actions) == 0


def test_departures_by_hand() -> None:
    """A counts to 56 instead of 70 %, a fifth less: at 500 basis points for each percent the owner leaves for sure."""
    result = elastic(5_600, departures=500)
    assert held(result, 0) == {}
    assert [(each.action, each.outcome, each.count) for each in result.actions] == [
        ("repay", "made", 1),
        ("withdraw", "made", 1),
    ]
    assert len(elastic(5_600, arrivals=10_000).actions) == 0


@pytest.mark.parametrize(("threshold", "users"), [(8_400, "arrivals"), (5_600, "departures")])
def test_elasticities_are_shares(threshold: int, users: str) -> None:
    """Of 20 percent at 250 basis points each, half: over 60 seeds between 15 and 45, which chance leaves one time in
    ten thousand.
    """
    moved = 0
    for seed in range(60):
        override = Override(parameter="liquidation_threshold", asset="A", value=threshold, from_block=3)
        h = borrower()
        scenario = Scenario(
            liquidators=Competitive(),
            users=Users(**{users: 250}),
            overrides=(override,),
            seed=seed,  # type: ignore
        )
        result: Replay[object] = replay(POOL, h.market, h.timeline(), scenario)
        moved += bool(result.actions)
    assert 15 <= moved <= 45


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
