"""Matching and figures of a validation, numbers by hand; and the walk one step ahead, on made-up vaults."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest import matching
from backtest.matching import Episode, Evidence, Pairing, Row

HOUR = 3600
WAD = 10**18


def row(account: str, time: int, debt: int = 100, **more: object) -> Row:
    return Row(account=account, time=time, debt_base=debt, **{"repaid": debt, "repaid_base": debt, "seized": 1, **more})  # type: ignore[arg-type]


def alarm(account: str, *times: int, debt: int = 100, **more: object) -> Episode:
    return Episode(tuple(row(account, time, debt, until=time + HOUR, **more) for time in times), standing=True)


def event(account: str, *times: int, debt: int = 100, **more: object) -> Episode:
    return Episode(tuple(row(account, time, debt, **more) for time in times))


def test_rows_of_one_account_within_three_hours_are_one_episode() -> None:
    rows = [row("a", 0), row("b", 5), row("a", 3 * HOUR), row("a", 6 * HOUR + 1)]
    found = matching.episodes(rows)
    assert [(one.account, one.first, one.last) for one in found] == [
        ("a", 0, 3 * HOUR),
        ("b", 5, 5),
        ("a", 6 * HOUR + 1, 6 * HOUR + 1),
    ]
    assert [one.debt_base for one in found] == [200, 100, 100]
    assert matching.episodes(rows, standing=True)[0].debt_base == 100


def test_each_episode_is_matched_once_and_the_earliest_that_fits() -> None:
    predicted = [alarm("a", 0), alarm("a", 4 * HOUR), alarm("b", 0), alarm("c", 9 * HOUR)]
    actual = [event("a", 2 * HOUR), event("b", 3 * HOUR), event("c", 0), event("d", 0)]
    found = {(p.account, p.first, p.outcome) for p in matching.match(predicted, actual)}
    assert found == {
        ("a", 0, "hit"),
        ("a", 4 * HOUR, "false alarm"),
        ("b", 0, "hit"),
        ("c", 0, "miss"),
        ("c", 9 * HOUR, "false alarm"),
        ("d", 0, "miss"),
    }


@pytest.mark.parametrize(("gap", "outcome"), [(3 * HOUR, ["hit"]), (3 * HOUR + 1, ["miss", "false alarm"])])
def test_three_hours_are_near_and_a_second_more_is_not(gap: int, outcome: list[str]) -> None:
    assert [p.outcome for p in matching.match([alarm("a", gap)], [event("a", 0)])] == outcome


@given(st.lists(st.integers(0, 60), max_size=8, unique=True), st.lists(st.integers(0, 60), max_size=8, unique=True))
def test_no_other_matching_has_more_pairs(ours: list[int], theirs: list[int]) -> None:
    """Against a matching by augmenting paths."""
    predicted = matching.episodes([row("a", HOUR * t) for t in ours], standing=True)
    actual = matching.episodes([row("a", HOUR * t) for t in theirs])
    near = [
        [j for j, b in enumerate(actual) if b.first - a.last <= matching.WITHIN and a.first - b.last <= matching.WITHIN]
        for a in predicted
    ]
    taken: dict[int, int] = {}

    def augment(i: int, seen: set[int]) -> bool:
        for j in near[i]:
            if j not in seen:
                seen.add(j)
                if j not in taken or augment(taken[j], seen):
                    taken[j] = i
                    return True
        return False

    most = sum(augment(i, set()) for i in range(len(predicted)))
    pairings = matching.match(predicted, actual)
    assert sum(p.outcome == "hit" for p in pairings) == most
    assert len(pairings) == len(predicted) + len(actual) - most


def test_rates_by_count_and_by_debt() -> None:
    pairings = [
        Pairing(alarm("a", 0, debt=400), event("a", 60, debt=300)),
        Pairing(None, event("b", 0, debt=100)),
        Pairing(alarm("c", 0, debt=100), None, cause="its owner acted"),
        Pairing(alarm("d", 0, debt=300), None),
    ]
    found = matching.score(pairings, seed=1)
    assert (found.actual, found.predicted, found.hits, found.explained) == (2, 3, 1, 1)
    assert found.recall.value == 0.5
    assert found.precision.value == pytest.approx(1 / 3)
    assert found.recall_by_debt.value == 0.75
    assert found.precision_by_debt.value == 0.5
    assert found.precision_by_debt.low == 0
    assert matching.score(pairings, seed=1) == found
    assert matching.score(pairings[1:2], seed=1).precision.value is None


def test_wilsons_interval() -> None:
    """Nine of ten: 0.5958 to 0.9821 (Wilson 1927, as tabulated for 95 %)."""
    found = matching.wilson(9, 10)
    assert (found.value, round(found.low or 0, 4), round(found.high or 0, 4)) == (0.9, 0.5958, 0.9821)
    assert matching.wilson(0, 0).value is None
    assert matching.wilson(10, 10).high == pytest.approx(1)


def test_alarms_throughout_the_range_alone_leave_what_others_predicted_as_missed() -> None:
    pairings = [
        Pairing(alarm("a", 0), event("a", 0)),
        Pairing(alarm("b", 0, throughout=True), event("b", 0)),
        Pairing(alarm("c", 0), None),
    ]
    found = matching.throughout_only(pairings)
    assert [(p.account, p.outcome) for p in found] == [("a", "miss"), ("b", "hit")]
    assert found[0].cause == matching.PROXY


def test_errors_of_time_amount_and_reconstruction() -> None:
    happened = event(
        "a", 100, 200, debt=50, held_collateral=1000, held_debt=101, left_collateral=0, left_debt=0, seized=500
    )
    hit = Pairing(alarm("a", 40, debt=60), happened)
    assert hit.time_error == 60
    assert hit.amount_error == pytest.approx(0.2)  # the first call against the first liquidation
    assert Pairing(event("a", 40, debt=150), happened).amount_error == pytest.approx(
        0.5
    )  # a replay's episode against history's
    collateral, debt = matching.reconstruction(
        [happened, event("b", 0, held_collateral=1000, left_collateral=11, held_debt=100)]
    )
    assert collateral == [0]
    assert debt == pytest.approx([0.01])
    stored = event("c", 0, debt=50, held_collateral=1, held_debt=100, held_scaled=202, repaid_scaled=200)
    assert matching.reconstruction([stored])[1] == pytest.approx([0.01])  # as stored, where that is known
    assert matching.spread([1, 2, 3, 4]).median == 2.5
    assert matching.spread([]).largest is None


def test_an_account_whose_liquidation_took_something_else_is_contradicted() -> None:
    held = {"held_collateral": 1000, "left_collateral": 0, "left_debt": 0, "seized": 1000}
    events = [
        event("exact", 0, held_debt=100, **held),
        event("off", 0, held_debt=106, **held),
        event("part", 0, held_debt=300, left_debt=200),
    ]
    assert matching.contradicted(events) == pytest.approx({"off": 0.06})


def test_causes_of_false_alarms() -> None:
    evidence = Evidence(
        relief={"saved": [1800], "late": [8 * HOUR], "little": [1800]}, outside={"moved": "more than it got"}
    )
    alarms = {
        "saved": (alarm("saved", 0, throughout=True), matching.ACTED),
        "moved": (alarm("moved", 0, throughout=True), matching.OUTSIDE),
        "little": (alarm("little", 0, HOUR, throughout=True, health=WAD - 1), matching.STOOD),
        "stood": (alarm("stood", 0, HOUR, 2 * HOUR, throughout=True, health=9 * WAD // 10), matching.STOOD),
        "proxy": (alarm("proxy", 0, health=WAD - 1), matching.PROXY),
        "late": (alarm("late", 0, health=WAD - 1), matching.ELSEWHEN),
        "back": (alarm("back", 0, throughout=True, health=WAD - 1), matching.PASSED),
    }
    pairings = [
        *(Pairing(one, None) for one, _ in alarms.values()),
        Pairing(None, event("late", 5 * HOUR, health=WAD - 1)),
    ]
    found = {p.account: p for p in matching.explain(pairings, evidence) if p.predicted}
    assert {account: p.cause for account, p in found.items()} == {
        account: cause for account, (_, cause) in alarms.items()
    }
    assert "1,800 s" in found["saved"].detail
    assert "+5.0 h" in found["late"].detail
    assert "down to health 0.900" in found["stood"].detail


def test_a_rescue_is_in_time_within_what_liquidations_take() -> None:
    """Three liquidations followed their alarms after 10, 20 and 600 s; a fourth came after its alarm was over."""
    standing = [replace(alarm(who, 0).rows[0], until=HOUR) for who in ("a", "b", "c", "d")]
    taken = [event("a", 10), event("b", 20, 25), event("c", 600), event("d", HOUR + 1)]
    assert matching.latency(standing, taken) == 600
    assert matching.latency(standing[3:], taken) is None
    saved = Pairing(alarm("saved", 0, throughout=True), None)
    unsure = Pairing(alarm("saved", 0, health=WAD - 1), None)
    for latency, cause, of_unsure in (
        (None, matching.ACTED, matching.ACTED),
        (1800, matching.ACTED, matching.ACTED),
        (1799, matching.STOOD, matching.PROXY),
    ):
        evidence = Evidence(relief={"saved": [1800]}, latency=latency)
        assert [one.cause for one in matching.explain([saved, unsure], evidence)] == [cause, of_unsure]
    assert "later than 95% of liquidations came (1,799 s)" in matching.explain([saved], evidence)[0].detail


def test_causes_of_misses_and_partial_hits() -> None:
    evidence = Evidence(
        outside={"moved": "more than it got"},
        refusals={"small": [(0, matching.UNPROFITABLE)], "full": [(0, "liquidation limit hit")]},
    )
    above = {"health": WAD + 1}
    assert matching.explain([Pairing(None, event("exact", 0, **above))], Evidence(proxy=False))[0].cause == ""
    pairings = [
        Pairing(None, event("moved", 0, **above)),
        Pairing(None, event("small", 0, **above)),
        Pairing(None, event("full", 0, **above)),
        Pairing(None, event("near", 0, **above, possible=True)),
        Pairing(None, event("far", 0, **above, possible=False)),
        Pairing(alarm("part", 0), event("part", 0, held_collateral=4, left_collateral=3, held_debt=100)),
        Pairing(None, event("dark", 0)),
        Pairing(None, event("between", 0, health=WAD - 1)),
    ]
    found = {p.account: p for p in matching.explain(pairings, evidence)}
    causes = {account: p.cause for account, p in found.items()}
    assert causes == {
        "moved": matching.OUTSIDE,
        "small": matching.UNPROFITABLE,
        "full": matching.REFUSED,
        "near": matching.PROXY,
        "far": matching.PROXY,
        "part": matching.PARTIAL,
        "dark": "",
        "between": matching.BETWEEN,
    }
    assert "within its range" in found["near"].detail
    assert "within its range" not in found["far"].detail
    assert "25.0%" in found["part"].detail


def test_a_free_replay_takes_over_causes_of_the_same_time() -> None:
    ahead = [
        Pairing(alarm("a", 0), None, matching.ACTED, "by its owner"),
        Pairing(alarm("b", 9 * HOUR), None, matching.ACTED, "by its owner"),
    ]
    free = [Pairing(event("a", HOUR), None), Pairing(event("b", 0), None), Pairing(None, event("c", 0))]
    assert [p.cause for p in matching.explain_free(free, ahead)] == [matching.ACTED, matching.BOOK, matching.BOOK]


def test_the_largest_are_those_with_most_collateral_seized() -> None:
    rows = [
        event("a", 0, collateral_base=5),
        event("b", 0, collateral_base=9),
        event("a", 9 * HOUR, collateral_base=6),
        event("c", 0),
    ]
    assert matching.largest(rows, 2) == ["a", "b"]
