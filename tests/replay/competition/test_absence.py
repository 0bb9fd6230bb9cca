"""Searchers who are away for a while: how long, how often, who, and that a look ahead agrees with each moment."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ScenarioError
from backtest.replay.competition.absence import Absence, Overlooked
from backtest.replay.competition.draws import Draws
from backtest.replay.competition.gas import NEVER
from backtest.replay.engine import replay
from backtest.scenario import Participation, Scenario, SealedBid
from backtest.scenario.liquidators import Searcher
from backtest.scenario.liquidators import draws as depends_on_seed
from tests.support.contest_history import POOL, falling, one_account

START = 1_600_000_000


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    share=st.integers(0, 9_900),
    length=st.integers(1, 50),
    searchers=st.integers(1, 4),
    together=st.booleans(),
    now=st.integers(0, 2**40),
)
def test_what_is_known_ahead_is_what_each_moment_says(
    seed: int, share: int, length: int, searchers: int, together: bool, now: int
) -> None:
    terms = Participation(searchers=searchers, absent=share, absence=length, absent_together=together)
    absence = Absence(terms, Draws(seed))

    def out(at: int) -> list[bool]:
        return [absence.away(place, at) for place in range(searchers)]

    back, changes = absence.back(now), absence.changes(now)
    assert all(all(out(at)) for at in range(now, min(back, now + 300)))
    assert back >= now + 300 or not all(out(back))
    if share:
        assert now < changes <= now + length
        assert all(out(at) == out(now) for at in range(now, changes))
    else:
        assert (back, changes) == (now, NEVER)
    if together:
        assert len(set(out(now))) == 1


@pytest.mark.parametrize("together", [True, False])
def test_absences_are_as_many_and_as_long_as_asked_for(together: bool) -> None:
    """Three quarters of the time, stretches of 100 seconds: 400 seconds on average. Of 20,000 stretches the share is
    known to 0.003 (standard error), the mean length to 3 %.
    """
    absence = Absence(Participation(searchers=2, absent=7_500, absence=100, absent_together=together), Draws(5))
    states = [absence.away(1, START + 100 * n) for n in range(20_000)]
    assert abs(sum(states) / len(states) - 0.75) < 0.013
    ends = sum(one and not following for one, following in itertools.pairwise(states))
    assert abs(100 * sum(states) / ends / 400 - 1) < 0.12
    other = [absence.away(0, START + 100 * n) for n in range(20_000)]
    assert (other == states) is together


def test_who_is_away_takes_nothing_and_comes_back() -> None:
    """One account stands on offer; whoever comes back takes it at the first look after the stretch, and of two seeds
    both the time and the reason differ only by who was away.
    """
    h = one_account()
    h.block(40_000).price(1, 10**8)
    times = set()
    for seed in range(6):
        terms = Participation(distribution="searchers", searchers=1, absent=5_000, absence=3_000, absent_together=True)
        outcome = replay(POOL, h.market, h.timeline(), Scenario(liquidators=terms, seed=seed))
        [first, *_] = outcome.spells
        [taken] = [spell for spell in outcome.spells if spell.ending == "taken"] or [None]
        absence = Absence(terms, Draws(seed))
        if absence.away(0, first.begins.timestamp):
            assert first.reason == "absent"
            assert taken is None or taken.ends.timestamp >= absence.back(first.begins.timestamp)
        else:
            assert taken is not None
            assert taken.ends.timestamp == first.begins.timestamp
        times.add(None if taken is None else taken.ends.timestamp - first.begins.timestamp)
    assert len(times) > 1


def test_whoever_is_always_away_is_nobody_and_never_away_changes_nothing() -> None:
    h = falling(12)
    gone = replay(POOL, h.market, h.timeline(), Scenario(liquidators=SealedBid(absent=10_000)))
    assert not gone.liquidations
    assert {spell.reason for spell in gone.spells} <= {"absent", "unprofitable"}
    plain, same = (
        replay(POOL, h.market, h.timeline(), Scenario(liquidators=Participation(mean=3_000, absence=length)))
        for length in (3_600, 7)
    )
    assert plain.liquidations == same.liquidations
    assert plain.spells == same.spells


def test_what_a_scenario_may_say() -> None:
    with pytest.raises(ScenarioError, match=r"liquidators\.absent = 10001"):
        Participation(absent=10_001)
    with pytest.raises(ScenarioError, match=r"liquidators\.absence = 0"):
        Participation(absence=0)
    away = Participation(absent=7_500, absence=3_600)
    assert away.away == "they are away 75 % of the time, for 4 hours on average, each on its own"
    assert SealedBid(absent=10_000, absent_together=True).away.endswith("for good, all of them at once")
    assert depends_on_seed(SealedBid(searchers=1, absent=100))
    assert not depends_on_seed(SealedBid(searchers=1, absent=10_000))


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    share=st.integers(1, 9_900),
    length=st.integers(1, 50),
    now=st.integers(0, 2**40),
    stood=st.booleans(),
)
def test_an_account_is_overlooked_until_it_is_said_to_be(
    seed: int, share: int, length: int, now: int, stood: bool
) -> None:
    """What is known ahead is what each moment says, whoever asks first and in which order."""
    terms = Participation(overlooked=share, overlooked_for=length)
    asked, again = Overlooked(terms, Draws(seed), 12), Overlooked(terms, Draws(seed), 12)
    for one in (asked, again) if stood else ():
        one.stood([7], now)
    until = asked.until(7, now)
    assert until >= now
    for at in range(min(until, now + 300) - 1, now - 1, -1):
        assert again.until(7, at) == until
    assert until >= now + 300 or again.until(7, until) == until
    assert Overlooked(Participation(), Draws(seed), 12).until(7, now) == now


def test_as_many_accounts_are_overlooked_as_asked_for_and_more_of_those_that_stand() -> None:
    """A quarter of 4,000 accounts, known to 0.007 (standard error); of those that stand on offer at the first look the
    longer an overlooked one stands beside others: 0.25 * 36,000 / (0.25 * 36,000 + 0.75 * 1,200), ten in eleven.
    """
    terms = Participation(overlooked=2_500, overlooked_for=36_000)
    some = Overlooked(terms, Draws(3), 1_200)
    assert abs(sum(some.until(each, START) > START for each in range(4_000)) / 4_000 - 0.25) < 0.03
    standing = Overlooked(terms, Draws(3), 1_200)
    standing.stood(range(4_000), START)
    share = sum(standing.until(each, START) > START for each in range(4_000)) / 4_000
    assert abs(share - (10 / 11 + 1 / 11 * 0.25)) < 0.03


def test_a_part_is_asked_for_and_the_rest_comes_later() -> None:
    """One account: in parts it takes more calls, no more debt in any than the first whole one; whom a part does not pay
    asks for all.
    """
    h = one_account(1_250)
    h.block(60).price(1, 10**8)
    whole = replay(POOL, h.market, h.timeline(), Scenario(liquidators=SealedBid(searchers=1)))
    parts = replay(POOL, h.market, h.timeline(), Scenario(liquidators=SealedBid(searchers=1, partial=10_000), seed=1))
    most = whole.liquidations[0].fill.repaid
    assert len(parts.liquidations) > len(whole.liquidations)
    assert all(0 < made.fill.repaid <= most for made in parts.liquidations)
    asks = (Searcher(name="a", min_profit=whole.liquidations[0].seized_base - whole.liquidations[0].repaid_base),)
    greedy = Scenario(liquidators=SealedBid(searchers=asks, partial=10_000), seed=1)
    assert replay(POOL, h.market, h.timeline(), greedy).liquidations[0].fill.repaid == most
    assert depends_on_seed(SealedBid(searchers=1, partial=1))
    assert depends_on_seed(Participation(mean=0, pair="any"))
