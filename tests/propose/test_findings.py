"""What runs of a proposal come to: effects, verdicts, bands and sentences, by hand from made-up runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from backtest.report.proposal import (
    POWER,
    Point,
    ProposalFinding,
    ProposalMoment,
    ProposalOutcome,
    ProposalRun,
    Search,
    Term,
    findings_of,
)
from backtest.report.proposal.shown import terms_table
from backtest.report.proposal.words import answer

NONE = ProposalOutcome({}, 0)


def outcome(power: int = 0, **debts: int) -> ProposalOutcome:
    """Accounts of which so much debt was liquidated, at a loss of a tenth."""
    return ProposalOutcome(
        {
            name: {"repaid": debt, "borrower_loss": debt // 10, "liquidations": 1, "accounts": 1}
            for name, debt in debts.items()
        },
        power,
    )


def run(proposed: ProposalOutcome, present: ProposalOutcome, **more: Any) -> ProposalRun:
    fields: dict[str, Any] = {"draw": 0, "weight": 1.0, "seed": 0, "response": "frozen", **more}
    return ProposalRun(proposed=proposed, present=present, **fields)


def told(*runs: ProposalRun, history: ProposalOutcome | None = NONE, **more: Any) -> Mapping[str, ProposalFinding]:
    terms: dict[str, Any] = {"population": 1000, "seed": 0, "random": False, "ensemble": False, **more}
    found, _ = findings_of(runs, history, **terms)
    return {each.measure.key: each for each in found}


def many(debt: int, count: int = 400) -> dict[str, int]:
    return {f"a{n}": debt for n in range(count)}


def test_effect_levels_and_own_error() -> None:
    """History 90, present 100, proposed 130: an effect of 30 beyond a distance of 10."""
    found = told(run(outcome(7, **many(130)), outcome(5, **many(100))), history=outcome(5, **many(90)))
    repaid = found["repaid"]
    assert (repaid.verdict.baseline, repaid.proposed, repaid.verdict.effect) == (40_000, 52_000, 12_000)
    assert (repaid.verdict.own_error, repaid.verdict.words) == (4_000, "higher")
    assert (found[POWER].verdict.effect, found["bad_debt"].verdict.words) == (2, "no material difference")
    assert found["liquidations"].verdict.effect == 0


def test_a_level_that_the_baseline_does_not_tell_is_not_judged_with_or_without_an_ensemble() -> None:
    runs = [run(outcome(**many(130)), outcome(**many(100)), draw=draw) for draw in (0, 1)]
    for history in (outcome(**many(301)), outcome(**many(33)), None):
        for ensemble in (True, False):
            found = told(*runs, history=history, ensemble=ensemble)
            assert found["repaid"].verdict.words == "cannot be judged here"


def test_the_error_of_levels_hides_no_effect_but_what_a_difference_keeps_of_it_does() -> None:
    """Present 100 where history had 137: the effect of 35 is below that distance. Two draws that say 30 and 40. Of the
    distance (14,800) a difference keeps 70 % under an ensemble, which leaves the interval (from about 11,000 on) above
    0, and 90 % without one.
    """
    runs = [run(outcome(**many(130 + 10 * draw)), outcome(**many(100)), draw=draw) for draw in (0, 1)]
    past = outcome(**many(137))
    for ensemble, error, words in ((True, 10_360, "higher"), (False, 13_320, "no material difference")):
        found = told(*runs, history=past, ensemble=ensemble)["repaid"].verdict
        assert (found.effect, found.own_error, found.difference_error) == (14_000, 14_800, error)
        assert found.interval == (found.low - error, found.high + error)
        assert found.words == words


def test_draws_that_disagree_are_no_material_difference() -> None:
    """+30 with three quarters of the weight, -30 with a quarter: the mean is +15, and which it is is not known."""
    runs = [
        run(outcome(**many(130)), outcome(**many(100)), draw=0, weight=3),
        run(outcome(**many(70)), outcome(**many(100)), draw=1, weight=1),
    ]
    found = told(*runs, history=outcome(**many(100)), ensemble=True)["repaid"]
    assert (found.verdict.effect, found.doubt.model) == (6_000, (-12_000, 12_000))
    assert found.verdict.words == "no material difference"
    assert found.draws == ((0.75, 12_000), (0.25, -12_000))


def test_the_band_compares_what_every_response_has() -> None:
    """Frozen users under two draws, others under the heavier alone: its effects are compared."""
    present = outcome(**many(100))
    runs = [
        run(outcome(**many(130)), present, draw=0, weight=3),
        run(outcome(**many(190)), present, draw=1, weight=1),
        run(outcome(**many(90)), present, draw=0, weight=3, response="same-ltv"),
    ]
    found = told(*runs, history=present, ensemble=True)["repaid"]
    assert found.verdict.effect == 400 * (0.75 * 30 + 0.25 * 90)
    assert found.verdict.band == {"frozen": 12_000, "same-ltv": -4_000}
    assert found.verdict.words == "higher, but not for every response of users"


def test_without_the_largest_account() -> None:
    """The largest by debt in both together is b; the effect without it is that of the others."""
    present, proposed = outcome(a=100, b=900), outcome(a=110, b=700)
    found, largest = findings_of([run(proposed, present)], present, population=10, seed=0, random=False, ensemble=False)
    by_key = {each.measure.key: each for each in found}
    assert largest == "b"
    assert (by_key["repaid"].verdict.effect, by_key["repaid"].without_largest) == (-190, 10)
    assert by_key[POWER].without_largest is None


def test_equal_runs_say_no_difference_in_every_measure() -> None:
    same = outcome(5, **many(100))
    runs = [run(same, same, draw=draw, response=response) for draw in (0, 1) for response in ("frozen", "same-ltv")]
    for history in (same, outcome(6, **many(120))):
        for each in told(*runs, history=history, ensemble=True, random=True).values():
            assert (each.verdict.effect, each.doubt.all, each.verdict.words) == (0, (0, 0), "no material difference")
            assert set(each.verdict.band.values()) == {0}


# -- the front ---------------------------------------------------------------------------------------------------------


def point(value: int, **totals: int) -> Point:
    return Point((value,), {"bad_debt": 0, "borrower_loss": 0, **totals})


def search(against: str, *points: Point) -> Search:
    return Search(
        names=("WETH.ltv",), present=(1,), proposed=(2,), within=9, points=points, runs=len(points), against=against
    )


@pytest.mark.parametrize(("against", "front"), [(POWER, [2, 3]), ("repaid", [1, 3])])
def test_the_front_is_of_what_nothing_beats_in_both(against: str, front: list[int]) -> None:
    """More borrowing power is better, or less debt liquidated; less bad debt always."""
    points = [
        point(1, bad_debt=5, repaid=10, borrowing_power=10),
        point(2, bad_debt=5, repaid=20, borrowing_power=20),
        point(3, bad_debt=1, repaid=30, borrowing_power=5),
        Point((4,), None, "refused"),
    ]
    assert [each.values[0] for each in search(against, *points).front()] == front
    assert [each.values[0] for each in search(against, points[0], points[0]).front()] == [1, 1]  # equal beats nothing


# -- parameters --------------------------------------------------------------------------------------------------------


def test_of_many_places_the_screen_shows_what_changes() -> None:
    """Eleven assets of which one parameter changes: eight rows and how many more; in full every parameter."""

    def asked(terms: Sequence[Term]) -> Any:
        """What the table of parameters reads of a proposal."""
        moment = ProposalMoment(1, 1, 0, 0, 0, (), 5, 5, 10, 30)
        return SimpleNamespace(terms=tuple(terms), moment=moment, currency="USD", decimals=8)

    terms = [
        Term(f"A{n}", name, present, present - 100 * (name == "liquidation_threshold"))
        for n in range(11)
        for name, present in (("ltv", 7000), ("liquidation_threshold", 8000), ("liquidation_bonus", 10500))
    ]
    screen = terms_table(asked(terms), full=False).rows
    assert screen[0] == ("A0 liquidation threshold", "80.00 %", "79.00 %")
    assert (len(screen), screen[-1][0]) == (9, "... and 3 more: --full")
    few = terms_table(asked(terms[:3]), full=False).rows
    assert [row[0] for row in few][:2] == ["A0 loan-to-value", "A0 liquidation threshold"]
    assert few[-1] == ("A0 liquidations do harm from a loan-to-value of", "95.24 %", "95.24 %")
    whole = terms_table(asked(terms), full=True).rows
    assert len(whole) == 11 * 5 + 1
    assert ("A3 threshold x (1 + bonus)", "84.00 %", "82.95 %") in whole


@pytest.mark.parametrize(
    ("lost", "said"), [(0, "It costs, and no gain is seen here: "), (5_000, "In what can be judged it costs: ")]
)
def test_where_a_measure_cannot_be_judged_the_sentence_does_not_speak_for_all(lost: int, said: str) -> None:
    """History had bad debt and the baseline none: whether that gets better nobody can tell."""
    past = outcome(5, **many(100))
    if lost:
        past.contributions["a0"]["bad_debt"] = lost
    found = told(run(outcome(5, **many(130)), outcome(5, **many(100))), history=past)
    nothing = {"refused": (0, 0), "moment": SimpleNamespace(newly=()), "shocks": (), "decimals": 0, "currency": "USD"}
    first, *_ = answer(SimpleNamespace(findings=tuple(found.values()), **nothing))  # type: ignore[arg-type]
    assert first.startswith(said)
