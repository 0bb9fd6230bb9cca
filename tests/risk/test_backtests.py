"""Tests of measures: published numbers, sums by hand, nominal rejection on simulated truth, and the crash files."""

from __future__ import annotations

import math
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy import stats

from backtest.errors import UserError
from backtest.risk.backtests import exceedances, kupiec, kupiec_p, markov, shortfall_test

CRASHES = Path(os.environ.get("BACKTEST_REAL_DATA", Path(__file__).parents[2].parent / "shared" / "real")) / "crashes"


@pytest.mark.parametrize(
    ("chance", "days", "least", "most"),
    [
        (0.01, 255, None, 7),
        (0.01, 510, 1, 11),
        (0.01, 1000, 4, 17),
        (0.05, 255, 6, 21),
        (0.05, 510, 16, 36),
        (0.05, 1000, 37, 65),
        (0.10, 1000, 81, 120),
    ],
    ids=str,
)
def test_kupiecs_table(chance: float, days: int, least: int | None, most: int) -> None:
    """The numbers of exceedances strictly between which a 5 % test does not reject, as Kupiec 1995 prints them."""
    kept = [count for count in range(days + 1) if kupiec(days, count, chance) < stats.chi2.ppf(0.95, 1)]
    assert kept[-1] == most - 1
    if least is not None:
        assert kept[0] == least + 1


def test_kupiec_by_hand() -> None:
    """2 of 4 days at 25 %: 2 ln(0.5^4 / (0.75^2 0.25^2)) = 2 ln(16 / 9); as far off are 2, 3 and 4 days."""
    assert kupiec(4, 2, 0.25) == pytest.approx(2 * math.log(16 / 9))
    assert kupiec(4, 1, 0.25) == pytest.approx(0)
    assert kupiec(4, 0, 0.25) == pytest.approx(-8 * math.log(0.75))  # 2.3014, more than of two days
    assert kupiec_p(4, 2, 0.25) == pytest.approx(1 - 4 * 0.25 * 0.75**3)
    assert kupiec_p(4, 1, 0.25) == pytest.approx(1)
    assert kupiec_p(4, 4, 0.25) == pytest.approx(0.25**4)


def test_independence_by_hand() -> None:
    """Three in a row of ten days: from a day with one follow 2 and 1, from a day without 1 and 5."""
    hits = np.array([[0, 0, 0, 1, 1, 1, 0, 0, 0, 0]], dtype=bool)
    seen = 2 * math.log(2 / 3) + math.log(1 / 3) + math.log(1 / 6) + 5 * math.log(5 / 6)
    alone = 3 * math.log(3 / 9) + 6 * math.log(6 / 9)
    assert markov(hits)[0] == pytest.approx(2 * (seen - alone))
    short = np.array([1, 1, 0, 0, 0, 0, 0])
    found = exceedances(short, np.full(7, 0.5), 9_000)
    assert found.independence is not None
    orders = np.array(sorted(set(permutations(short.tolist()))), dtype=bool)
    exact = float((markov(orders) >= markov(short[None, :] > 0)[0] - 1e-9).mean())
    assert found.independence.p_value == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4_999))
    assert exceedances([0, 0, 1, 0], [0.5] * 4, 9_000).independence is None


def test_the_shortfall_statistics_by_hand() -> None:
    """Two exceedances of 3 and 5 where 2 is the shortfall: Z1 = 1 - 4 / 2, Z2 = 1 - 4 / (4 * 0.5)."""
    found = shortfall_test([0, 3, 5, 1], [1] * 4, [2] * 4, np.array([[0, 0, 0, 0], [9, 9, 9, 9], [3, 0, 0, 5]]), 5_000)
    assert found.first is not None
    assert (found.first.statistic, found.second.statistic, found.exceeded) == (-1, -1, 2)
    assert found.first.p_value == pytest.approx(3 / 3)  # of two draws with exceedances: -3.5 and -1
    assert found.second.p_value == pytest.approx(3 / 4)
    assert shortfall_test([0, 0], [1, 1], [2, 2], np.array([[0.0, 3.0]]), 5_000).first is None


@pytest.mark.slow
def test_acerbi_and_szekelys_critical_value() -> None:
    """They print -0.70 for Z2 of 250 normal days at 97.5 %, at the 5 % level."""
    var = stats.norm.ppf(0.975)
    es = stats.norm.pdf(var) / 0.025
    drawn = np.random.default_rng(3).standard_normal((20_000, 250))
    draws = 1 - (np.where(drawn > var, drawn, 0) / es).sum(axis=1) / (250 * 0.025)
    assert np.quantile(draws, 0.05) == pytest.approx(-0.70, abs=0.03)
    at = float(np.quantile(draws, 0.05))
    days = np.zeros(250)
    days[:8] = (1 - at) * 250 * 0.025 * es / 8  # eight equal exceedances that come to that value
    found = shortfall_test(days, np.full(250, var), np.full(250, es), drawn, 9_750)
    assert found.second.p_value == pytest.approx(0.05, abs=0.005)


@pytest.mark.slow
def test_true_models_are_rejected_as_often_as_stated() -> None:
    """200 samples of 500 days under a true model of Student's t (4), tested at 5 %: exact tests of counts reject at
    most that often and not much less, Z2 as often (within four standard errors); losses 1.5 times as large are found
    out.
    """
    random, samples, days, level = np.random.default_rng(11), 200, 500, 9_500
    truth = stats.t(4)
    var = float(truth.ppf(0.95))
    es = float(truth.expect(lambda x: x, lb=var, conditional=True))
    simulated = truth.rvs(size=(999, days), random_state=random)
    rejected: dict[str, list[bool]] = {name: [] for name in ("uc", "ind", "cc", "z1", "z2", "worse uc", "worse z2")}
    for number in range(samples):
        realised = truth.rvs(size=days, random_state=random)
        for losses, words in ((realised, ""), (1.5 * realised, "worse ")):
            if words and number >= 50:
                continue
            told = exceedances(losses, np.full(days, var), level, seed=number, draws=499)
            short = shortfall_test(losses, np.full(days, var), np.full(days, es), simulated, level)
            assert told.independence is not None
            assert short.first is not None
            ours = {
                "uc": told.coverage.p_value,
                "ind": told.independence.p_value,
                "cc": told.conditional.p_value,
                "z1": short.first.p_value,
                "z2": short.second.p_value,
            }
            for name, p_value in ours.items():
                assert p_value is not None
                if words + name in rejected:
                    rejected[words + name].append(p_value <= 0.05)
    rates = {name: float(np.mean(own)) for name, own in rejected.items()}
    error = math.sqrt(0.05 * 0.95 / samples)
    exact = sum(stats.binom.pmf(k, days, 0.05) for k in range(days + 1) if kupiec_p(days, k, 0.05) <= 0.05)
    assert 0.03 < exact <= 0.05
    assert abs(rates["uc"] - exact) < 4 * error, rates
    for name in ("ind", "cc", "z1", "z2"):
        assert abs(rates[name] - 0.05) < 4 * error, (name, rates)
    assert rates["worse uc"] > 0.8
    assert rates["worse z2"] > 0.9


@pytest.mark.parametrize(
    ("losses", "measures", "level", "said"),
    [
        ([1, 2], [1], 9_900, "2 losses and 1 measures"),
        ([1], [1], 9_900, "1 days"),
        ([1, math.nan], [1, 1], 9_900, "no number"),
        ([1, 2], [1, 1], 10_000, "10000"),
    ],
    ids=["lengths", "one day", "nan", "level"],
)
def test_mistakes_are_one_line(losses: list[float], measures: list[float], level: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        exceedances(losses, measures, level)
    with pytest.raises(UserError, match="nothing or less"):
        shortfall_test([1, 2], [1, 1], [0, 1], np.ones((3, 2)), 9_900)
    with pytest.raises(UserError, match="shape"):
        shortfall_test([1, 2], [1, 1], [1, 1], np.ones((3, 3)), 9_900)


# -- history ----------------------------------------------------------------------------------------------------------

WINDOW, LEVEL = 1_000, 9_900
FILES = {
    "2021-05": ("crash_2021_05_19/binance_spot_1m.parquet", "ETH", 5),
    "2022-11": ("crash_2022_11/binance_spot_5m.parquet", "ETH", 1),
    "2023-03": ("crash_2023_03_11/binance_spot_5m.parquet", "ETH", 1),
    "2025-02": ("crash_2025_02_03/binance_futures_5m.parquet", "ETH", 1),
}


def falls_of(name: str) -> np.ndarray:
    """Five-minute log falls of ETH through a crash."""
    path, symbol, every = FILES[name]
    if not (CRASHES / path).exists():
        pytest.skip("no real data here")
    table = pq.read_table(CRASHES / path)
    symbols = [one for one in set(table["symbol"].to_pylist()) if one.startswith(symbol)]
    assert len(symbols) == 1
    own = table.filter(pc.equal(table["symbol"], symbols[0])).sort_by("time")
    return -np.diff(np.log(own["close"].to_numpy()[::every]))


def said_before(falls: np.ndarray, *, filtered: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Realised falls, VaR, ES and draws of each moment from what was known: of the last 1,000 falls as they were, or
    scaled to the volatility of the moment (exponential weights, 0.94).
    """
    scale = np.ones(len(falls))
    if filtered:
        variance = float(np.var(falls[:100]))
        for at, fall in enumerate(falls):
            scale[at] = math.sqrt(variance)
            variance = 0.94 * variance + 0.06 * fall**2
    plain = falls / scale
    windows = np.lib.stride_tricks.sliding_window_view(plain, WINDOW)[:-1]
    ordered = np.sort(windows, axis=1)
    later = scale[WINDOW:]
    var, es = ordered[:, 989] * later, ordered[:, 990:].mean(axis=1) * later
    picks = np.random.default_rng(5).integers(0, WINDOW, (199, len(later)))
    return falls[WINDOW:], var, es, ordered[np.arange(len(later)), picks] * later


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_measures_through_a_crash(name: str) -> None:
    """Falls as they were are exceeded too often or in clusters, so that both at once are rejected at 1 %; scaled to the
    moment's volatility they are exceeded on 0.7 to 1.6 % of the moments, and neither test finds them out. What was
    expected before the run, and what came: docs/risk.md.
    """
    falls = falls_of(name)
    plain = exceedances(*said_before(falls, filtered=False)[:2], LEVEL, draws=499)
    losses, var, es, drawn = said_before(falls, filtered=True)
    scaled = exceedances(losses, var, LEVEL, draws=499)
    short = shortfall_test(losses, var, es, drawn, LEVEL)
    print(name, plain, scaled, short)
    assert plain.conditional.p_value is not None
    assert plain.conditional.p_value <= 0.01
    assert 0.007 <= scaled.exceeded / scaled.days <= 0.016
    assert scaled.conditional.p_value is not None
    assert short.second.p_value is not None
    assert min(scaled.conditional.p_value, short.second.p_value) > 0.05
