"""Verdicts: effects, intervals and what counts as material, by hand and as laws."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.report.difference import ENSEMBLE, ONE_MODEL, difference_error, share_of
from backtest.report.verdict import MEASURES, RESAMPLES, Verdict, intervals, judge, totals

KEYS = [measure.key for measure in MEASURES]
ACCOUNTS = st.dictionaries(
    st.sampled_from([f"0x{n:02x}" for n in range(12)]),
    st.fixed_dictionaries({key: st.integers(0, 10**15) for key in KEYS}),
)


def repaid(**amounts: int) -> dict[str, dict[str, int]]:
    """Contributions to debt liquidated alone, by account."""
    return {account: {"repaid": amount} for account, amount in amounts.items()}


def of(verdicts: list[Verdict], key: str) -> Verdict:
    (found,) = (each for each in verdicts if each.measure.key == key)
    return found


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_effect_own_error_and_band_by_hand() -> None:
    """History repaid 100 + 40, the baseline 120 + 30, the alternative 200 + 30 + 5; the same with users who respond:
    130 against 150.
    """
    history, baseline = repaid(a=100, b=40), repaid(a=120, b=30)
    frozen, responding = repaid(a=200, b=30, c=5), (repaid(a=130), repaid(a=150))
    band = {"frozen": (frozen, baseline), "same-ltv": responding}
    verdicts = judge(frozen, baseline, population=100, seed=0, history=history, band=band)
    found = of(verdicts, "repaid")
    assert (found.baseline, found.effect, found.own_error) == (150, 85, 10)
    assert found.band == {"frozen": 85, "same-ltv": -20}
    assert not found.settled
    assert of(verdicts, "profit").own_error is None  # what history's liquidators paid for gas is not known
    unknown = of(judge(frozen, baseline, population=100, seed=0), "repaid")
    assert (unknown.own_error, unknown.words) == (None, "cannot be judged here")  # not known is not none


def test_one_account_alone_is_no_material_difference() -> None:
    """Its effect is there 0, 1, 2, ... times in a resample, and with probability (1 - 1/N)^N, about 0.37, not at
    all.
    """
    low, high = intervals(repaid(a=500), {}, population=1000, seed=3)["repaid"]
    assert (low, high) == (0, 1500)  # 2.5 % of a Poisson(1) draw are above 2, about 1.9 % above 3: 97.5 % are at most 3
    found = of(judge(repaid(a=500), {}, population=1000, seed=3, history={}), "repaid")
    assert found.words == "no material difference"


def test_many_alike_are_material() -> None:
    """400 of 1000 accounts with 10 each: the sum of a resample has mean 4000 and deviation 10 sqrt(1000 x 0.4 x 0.6) =
    154.9.
    """
    many = {f"{n:03}": {"repaid": 10} for n in range(400)}
    low, high = intervals(many, {}, population=1000, seed=0)["repaid"]
    assert abs(low - (4000 - 1.96 * 154.9)) < 40
    assert abs(high - (4000 + 1.96 * 154.9)) < 40
    assert of(judge(many, {}, population=1000, seed=0, history={}), "repaid").words == "higher"
    assert of(judge({}, many, population=1000, seed=0, history=many), "repaid").words == "lower"


MONEY = MEASURES[0]
PROFIT = MEASURES[-1]


@pytest.mark.parametrize(
    ("effect", "low", "high", "error", "band", "words"),
    [
        (50, 10, 90, 9, {}, "higher"),  # its interval is 1 to 99
        (50, 10, 90, 10, {}, "no material difference"),
        (50, 40, 60, 39, {}, "higher"),  # an error of levels many times the effect hides nothing
        (50, 10, 90, None, {}, "cannot be judged here"),
        (50, 0, 90, None, {}, "cannot be judged here"),
        (50, 0, 90, 0, {}, "no material difference"),
        (-50, -90, 0, 0, {}, "no material difference"),
        (-50, -90, -10, 9, {"frozen": -50, "same-ltv": -20, "same-health": -1}, "lower"),
        (-50, -90, -10, 10, {}, "no material difference"),
        (
            -50,
            -90,
            -1,
            0,
            {"frozen": -50, "same-ltv": 0, "same-health": -1},
            "lower, but not for every response of users",
        ),
        (
            50,
            10,
            90,
            0,
            {"frozen": 50, "same-ltv": 10, "same-health": -1},
            "higher, but not for every response of users",
        ),
    ],
)
@pytest.mark.parametrize("ensemble", [False, True], ids=["one model", "ensemble"])
def test_words(
    effect: int, low: int, high: int, error: int | None, band: dict[str, int], words: str, ensemble: bool
) -> None:
    """``error``: of the difference, which is the measured share of the distance from history, rounded up."""
    share = share_of("repaid", ensemble=ensemble)
    history = None if error is None else 1000 + int(error / share)
    found = Verdict(
        MONEY, baseline=1000, effect=effect, low=low, high=high, history=history, band=band, ensemble=ensemble
    )
    assert (found.difference_error, found.words) == (error, words)
    assert found.interval == (low - (error or 0), high + (error or 0))


def test_a_measure_that_was_not_measured_has_the_share_of_the_nearest() -> None:
    for ensemble, shares in ((True, ENSEMBLE), (False, ONE_MODEL)):
        assert share_of("accounts", ensemble=ensemble) == share_of("liquidations", ensemble=ensemble)
        assert share_of("protocol_income", ensemble=ensemble) == share_of("borrower_loss", ensemble=ensemble)
        assert share_of("borrowing_power", ensemble=ensemble) == share_of("repaid", ensemble=ensemble)
        assert {key: share_of(key, ensemble=ensemble) * 100 for key in shares} == shares


def test_the_own_error_of_a_difference_is_exact() -> None:
    assert difference_error("repaid", 10**30 + 1, ensemble=True) == 7 * 10**29 + 1


@pytest.mark.parametrize(
    ("baseline", "history", "judged"),
    [
        (0, 0, True),
        (0, 57_955, False),  # history has bad debt and the baseline none,
        (33, 100, False),  # or a third of it
        (34, 100, True),
        (100, 34, True),
        (100, 33, False),  # the baseline liquidates three times as much
        (5, 0, False),
        (-20, -25, True),
        (-20, 25, False),
    ],
)
def test_what_the_baseline_does_not_tell_of_history_is_not_judged(baseline: int, history: int, judged: bool) -> None:
    found = Verdict(MONEY, baseline=baseline, effect=10**6, low=10**5, high=10**7, history=history)
    assert found.words == ("higher" if judged else "cannot be judged here")


def test_an_error_that_is_never_known_is_not_taken_for_none() -> None:
    """What history's liquidators earned no record says."""
    assert Verdict(PROFIT, baseline=5, effect=5, low=1, high=9).words == "higher, by an error that is not known"
    assert Verdict(PROFIT, baseline=5, effect=5, low=0, high=9).words == "no material difference"


@given(ACCOUNTS, ACCOUNTS, ACCOUNTS)
def test_without_history_no_verdict_contradicts_the_one_with_it(
    one: dict[str, Any], other: dict[str, Any], past: dict[str, Any]
) -> None:
    """Whether history happens to be stored turns nothing round: without it nothing that it would tell is judged."""
    known = judge(one, other, population=20, seed=0, history=past)
    unknown = judge(one, other, population=20, seed=0)
    for with_it, without in zip(known, unknown, strict=True):
        assert without.words == ("cannot be judged here" if without.measure.observed else with_it.words)


# -- laws --------------------------------------------------------------------------------------------------------------


@given(ACCOUNTS, st.integers(0, 2**63 - 1))
def test_a_run_compared_with_itself_has_no_effect(run: dict[str, Any], seed: int) -> None:
    for verdict in judge(run, run, population=100, seed=seed, history=run, band={"frozen": (run, run)}):
        assert (verdict.effect, verdict.low, verdict.high, verdict.words) == (0, 0, 0, "no material difference")
        assert set(verdict.band.values()) == {0}


@settings(max_examples=20, deadline=None)
@given(ACCOUNTS, ACCOUNTS, st.integers(0, 2**63 - 1))
def test_the_same_arguments_give_the_same_interval(one: dict[str, Any], other: dict[str, Any], seed: int) -> None:
    first = intervals(one, other, population=20, seed=seed, resamples=50)
    again = intervals(
        dict(reversed(one.items())), dict(reversed(other.items())), population=20, seed=seed, resamples=50
    )
    assert first == again


@settings(max_examples=20, deadline=None)
@given(ACCOUNTS, ACCOUNTS)
def test_turned_round_the_interval_is_mirrored(one: dict[str, Any], other: dict[str, Any]) -> None:
    there, back = (intervals(*pair, population=20, seed=1, resamples=51) for pair in ((one, other), (other, one)))
    for key in KEYS:
        assert there[key][0] == pytest.approx(-back[key][1], rel=1e-9, abs=1)
        assert there[key][1] == pytest.approx(-back[key][0], rel=1e-9, abs=1)


@given(ACCOUNTS, ACCOUNTS)
def test_effects_are_exact_sums(one: dict[str, Any], other: dict[str, Any]) -> None:
    for verdict in judge(one, other, population=20, seed=0):
        key = verdict.measure.key
        assert verdict.effect == sum(row[key] for row in one.values()) - sum(row[key] for row in other.values())
        assert verdict.baseline == totals(other)[key]
        assert verdict.low <= verdict.high


def test_another_seed_draws_other_accounts() -> None:
    """Of many different amounts: with few, quantiles of different draws may agree."""
    amounts = {f"{n:03}": {"repaid": n * n * n} for n in range(100)}
    assert (
        intervals(amounts, {}, population=1000, seed=0)["repaid"]
        != intervals(amounts, {}, population=1000, seed=1)["repaid"]
    )


def test_draws_are_made_in_parts_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    amounts = {f"{n:03}": {"repaid": n} for n in range(50)}
    at_once = intervals(amounts, {}, population=100, seed=5)
    monkeypatch.setattr("backtest.report.verdict._AT_ONCE", 51 * 7)
    assert intervals(amounts, {}, population=100, seed=5) == at_once
    assert RESAMPLES % 7  # the last part is a smaller one


def test_a_population_smaller_than_its_accounts_is_an_error() -> None:
    with pytest.raises(ValueError, match="a population of 1 holds 2 accounts"):
        intervals(repaid(a=1, b=2), {}, population=1, seed=0)
