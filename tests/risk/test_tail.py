"""VaR and ES by hand, their intervals against exact sums, and how often intervals hold a truth that is known."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from backtest.errors import UserError
from backtest.risk.tail import adjusted, convergence, coverage, fund, paths_needed, tail_risk


def test_a_hundred_losses_by_hand() -> None:
    found = tail_risk(range(100, 0, -1), 9_500)
    assert (found.var, found.es, found.mean, found.beyond) == (95, 98, 51, 5)  # (96 + ... + 100) / 5; 50.5 up
    # Binomial (100, 0.95): P(N <= 89) = 0.0115 and P(N <= 90) = 0.0282; P(N >= 99) = 0.0371 and P(N >= 100) = 0.0059.
    assert (found.var_low, found.var_high) == (90, 100)
    # s^2 = 2.5, ES - VaR = 3: root((2.5 + 0.95 * 9) / 5) = 1.4866, times t(0.975, 4) = 2.7764: 4.1274.
    assert (found.es_low, found.es_high) == (93, 103)


def test_a_part_of_a_path_counts_for_its_part() -> None:
    found = tail_risk([0] * 28 + [100, 400], 9_500)  # 1.5 paths: half of 100, and 400
    assert (found.var, found.es, found.losing) == (100, 300, 2)
    assert found.es_low is None  # one loss beyond says nothing of its spread
    assert tail_risk([0] * 28 + [100, 401], 9_500).es == 301  # 300 2/3, up


def test_too_few_paths_leave_the_end_open() -> None:
    assert paths_needed(9_900) == 368  # 0.99^368 = 0.02476
    assert tail_risk(range(367)).var_high is None
    assert tail_risk(range(368)).var_high == 367
    assert tail_risk([7]) == tail_risk(np.array([7]))
    # One path lies below the 99th percentile with 0.99, so it is a lower end; nothing is an upper one.
    assert (tail_risk([7]).var, tail_risk([7]).var_low, tail_risk([7]).var_high) == (7, 7, None)


def test_amounts_beyond_machine_words_stay_exact() -> None:
    found = tail_risk([10**40 + loss for loss in range(1_000)], 9_900)
    assert found.var == 10**40 + 989
    assert found.es == 10**40 + 995  # 990 ... 999: 994.5, up


@settings(max_examples=60, deadline=None)
@given(
    losses=st.lists(st.integers(0, 10**30), min_size=1, max_size=80),
    level=st.integers(1, 9_999),
    confidence=st.integers(5_000, 9_990),
)
def test_the_interval_is_the_narrowest_exact_one(losses: list[int], level: int, confidence: int) -> None:
    found, ordered, share = tail_risk(losses, level, confidence), sorted(losses), Fraction(level, 10_000)
    count = len(losses)

    def at_most(most: int) -> float:
        return float(
            sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(min(most, count) + 1))
        )

    half = (10_000 - confidence) / 20_000
    low = max((rank for rank in range(1, count + 1) if at_most(rank - 1) <= half), default=None)
    high = min((rank for rank in range(1, count + 1) if 1 - at_most(rank - 1) <= half), default=None)
    assert found.var_low == (None if low is None else ordered[low - 1])
    assert found.var_high == (None if high is None else ordered[high - 1])
    assert found.var == next(loss for loss in ordered if sum(each <= loss for each in losses) >= count * share)
    # ES is the integral of the quantile function over its upper part (Acerbi and Tasche, definition 3.2).
    parts = [max(Fraction(0), Fraction(rank + 1, count) - max(share, Fraction(rank, count))) for rank in range(count)]
    exact = sum((part * loss for part, loss in zip(parts, ordered, strict=True)), Fraction(0)) / (1 - share)
    assert found.es == math.ceil(exact)
    assert found.var <= found.es <= ordered[-1]


def test_convergence_halves_the_paths() -> None:
    losses = [(path * 7919) % 10_007 for path in range(4_000)]
    table = convergence(losses, 9_900)
    assert [row.paths for row in table] == [125, 250, 500, 1_000, 2_000, 4_000]
    assert table[-1] == tail_risk(losses)
    assert table[2] == tail_risk(losses[:500])
    assert [row.paths for row in convergence(losses, rows=2)] == [2_000, 4_000]
    assert [row.paths for row in convergence([1, 2, 3])] == [3]


def test_liquidity_is_added_path_by_path() -> None:
    assert adjusted([0, 5, 9], [4, 0, 1]) == [4, 5, 10]
    # The quantile of the sums is not the sum of the quantiles: 10 here, not 9 + 4.
    assert tail_risk(adjusted([0, 5, 9], [4, 0, 1])).var == 10
    with pytest.raises(UserError, match="3 losses and 1 shortfalls"):
        adjusted([1, 2, 3], [1])


def test_coverage_and_the_fund_that_costs_least() -> None:
    assert coverage(150, 100) == Fraction(3, 2)
    assert coverage(150, 0) is None
    # Held at 2 % a unit and missed at 20 %: the 90th percentile.
    assert fund(range(1, 101), Fraction(2, 100), Fraction(20, 100)) == 90
    assert fund(range(1, 101), Fraction(3), Fraction(2)) == 0
    costs = {held: held * 2 + sum(20 * max(0, loss - held) for loss in range(1, 101)) / 100 for held in range(101)}
    assert min(costs, key=lambda held: costs[held]) in (89, 90)  # the cost is level between the two


@pytest.mark.parametrize(
    ("losses", "level", "said"),
    [
        ([], 9_900, "no losses"),
        ([1], 0, "percentile of 0"),
        ([1], 10_000, "percentile of 10000"),
        ([1.5], 9_900, "no whole"),
    ],
    ids=["none", "zero", "all", "fraction"],
)
def test_mistakes_are_one_line(losses: list[int], level: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        tail_risk(losses, level)
    with pytest.raises(UserError, match="float64"):
        tail_risk(np.array([1.0]))


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 500 samples of 1,000 losses each: VaR's interval at least as often as said, within four standard errors of its
    exact coverage; that of ES nearly so where tails are thin, less where they are heavy (docs/risk.md).
    """
    random, samples, scale = np.random.default_rng(7), 500, 10**6
    cases = {
        "normal": (stats.norm(), 9_500),
        "exponential": (stats.expon(), 9_500),
        "Student's t, 4": (stats.t(4), 9_500),
        "t, far out": (stats.t(4), 9_900),
    }
    rates = {}
    for name, (truth, level) in cases.items():
        share = level / 10_000
        var = truth.ppf(share) * scale
        es = truth.expect(lambda x: x, lb=truth.ppf(share), conditional=True) * scale
        held = np.zeros(2)
        for sample in truth.rvs(size=(samples, 1_000), random_state=random):
            found = tail_risk(np.round(sample * scale).astype(np.int64), level)
            held += _within(found.var_low, var, found.var_high), _within(found.es_low, es, found.es_high)
        rates[name] = held / samples
    exact = {level: _coverage(1_000, level / 10_000) for level in (9_500, 9_900)}
    for name, (_, level) in cases.items():
        assert exact[level] >= 0.95
        assert abs(rates[name][0] - exact[level]) < 4 * math.sqrt(0.05 * 0.95 / samples), (name, rates[name])
    assert rates["normal"][1] > 0.91
    assert rates["exponential"][1] > 0.90
    assert 0.80 < rates["Student's t, 4"][1] < 0.95
    assert 0.70 < rates["t, far out"][1] < 0.95


def _within(low: int | None, truth: float, high: int | None) -> bool:
    assert low is not None
    assert high is not None
    return low <= truth <= high


def _coverage(count: int, share: float) -> float:
    """Of the ranks that the interval of ``count`` losses has."""
    found = tail_risk(range(1, count + 1), round(share * 10_000))
    assert found.var_low
    assert found.var_high
    return float(stats.binom(count, share).cdf(found.var_high - 1) - stats.binom(count, share).cdf(found.var_low - 1))
