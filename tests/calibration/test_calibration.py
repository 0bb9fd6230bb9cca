"""Calibration: known parameters are found again, figures of the literature come out, tests of fit tell right from
wrong.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.calibration import bid_share, depth, latency, participation
from backtest.calibration.fitting import chi_square, distance, generator, ks_test, split_at
from backtest.errors import UserError
from backtest.replay.competition.contests import Entrant, sealed_bid
from backtest.replay.competition.draws import Draws, negative_binomial, poisson
from backtest.replay.competition.slippage import depth_loss_up
from tests.support.closed_forms import bid_share as expected_bid_share
from tests.support.closed_forms import participation_share, poisson_share, single_bidder_share, two_step

SIGMAS = 4.5  # a false alarm once in 150,000


def near(estimates: list[float], truth: float, bias: float = 0.0) -> bool:
    """The mean of estimates from independent samples is within its interval of the truth; ``bias`` is what a fit may be
    off by itself.
    """
    error = float(np.std(estimates, ddof=1)) / math.sqrt(len(estimates))
    return abs(float(np.mean(estimates)) - truth) <= SIGMAS * error + bias


# -- tests of fit ------------------------------------------------------------------------------------------------------


def test_splits() -> None:
    assert split_at(100, 0.7) == 70
    for rows, share in ((100, 0.0), (100, 1.0), (100, 0.95), (30, 0.5)):
        with pytest.raises(UserError, match="split"):
            split_at(rows, share)


def test_chi_square_by_hand() -> None:
    """(18 - 20)^2 / 20 + (22 - 20)^2 / 20 with the last two cells, of 2 expected each, pooled into the one before."""
    counts, probabilities = np.array([18, 20, 1, 1]), np.array([0.5, 0.4, 0.05, 0.05])
    found = chi_square(counts, probabilities, 0)
    assert found.statistic == pytest.approx(0.4)
    assert found.freedom == 1
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(0.2)))
    assert chi_square(counts, probabilities, 1).p_value is None


def test_distance_by_hand() -> None:
    assert distance(np.array([3, 1, 0]), np.array([0.5, 0.25, 0.25])) == pytest.approx(0.25)


def test_p_values_are_even_where_the_fit_is_right_and_small_where_it_is_not() -> None:
    true = np.array([0.4, 0.3, 0.2, 0.1])
    samples = generator(1).multinomial(300, true, size=60)
    values = [ks_test(sample, true, seed=number, draws=99).p_value or 0.0 for number, sample in enumerate(samples)]
    assert near(values, 0.5, 0.05)  # discrete, so a little above a half
    assert ks_test(samples[0], np.array([0.25] * 4), seed=0, draws=99).p_value == 0.01


# -- latency -----------------------------------------------------------------------------------------------------------

TRUE = {
    "exponential": (0.6, 4.0),
    "gamma": (0.6, 0.5, 9.0),
    "log-normal": (0.95, 0.5, 1.5),
    "at once or exponential": (0.8, 0.6, 12.0),
    "at once or log-normal": (0.9, 0.4, 1.5, 1.0),
    "two exponentials": (0.5, 0.7, 0.5, 15.0),
}
FAMILIES = {family.name: family for family in latency.FAMILIES}


def times(name: str, rows: int, random: np.random.Generator) -> np.ndarray:
    """Times in blocks, drawn without the code under test."""
    _, *own = TRUE[name]
    match name:
        case "exponential":
            return random.exponential(own[0], rows)
        case "gamma":
            return random.gamma(own[0], own[1], rows)
        case "log-normal":
            return random.lognormal(own[0], own[1], rows)
        case "at once or exponential":
            return np.where(random.random(rows) < own[0], 0.0, random.exponential(own[1], rows))
        case "at once or log-normal":
            return np.where(random.random(rows) < own[0], 0.0, random.lognormal(own[1], own[2], rows))
    return np.where(random.random(rows) < own[0], random.exponential(own[1], rows), random.exponential(own[2], rows))


def drawn(name: str, rows: int, seed: int, limit: int = 100) -> np.ndarray:
    """Counts of distances: an update anywhere in its block, a shift, a time; those at the limit or beyond are not
    seen.
    """
    random = generator(seed)
    distances = np.floor(random.random(rows) + TRUE[name][0] + times(name, rows, random)).astype(int)
    return latency.tally(distances[distances < limit], limit)


@pytest.mark.parametrize("name", TRUE)
def test_probabilities_are_those_of_what_is_drawn(name: str) -> None:
    limit, rows = 30, 200_000
    fit = latency.LatencyFit(FAMILIES[name], TRUE[name], limit)
    counts = drawn(name, rows, 3, limit)
    p = fit.probabilities
    assert p.sum() == pytest.approx(1)
    assert (np.abs(counts / counts.sum() - p) <= SIGMAS * np.sqrt(p * (1 - p) / counts.sum()) + 1e-5).all()
    beyond = 1 - counts.sum() / rows
    assert abs(fit.beyond - beyond) <= SIGMAS * math.sqrt(beyond * (1 - beyond) / rows) + 1e-5
    expected = float(times(name, rows, generator(5)).mean())
    assert fit.excess == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", ["exponential", "log-normal", "at once or exponential"])
def test_parameters_are_found_again(name: str) -> None:
    fits = [latency.fit(FAMILIES[name], drawn(name, 1_500, seed)) for seed in range(12)]
    for place, truth in enumerate(TRUE[name]):
        assert near([one.values[place] for one in fits], truth, 0.01 * (1 + truth)), (name, place)


@pytest.mark.parametrize("name", TRUE)
def test_no_family_beats_the_true_one_by_more_than_chance_on_what_is_held_out(name: str) -> None:
    ranked = latency.candidates(drawn(name, 4_000, 1), drawn(name, 4_000, 2))
    held_out = {one.fit.family.name: one.held_out for one in ranked}
    assert [one.held_out for one in ranked] == sorted(held_out.values(), reverse=True)
    assert held_out[name] >= ranked[0].held_out - 0.003


def test_tests_of_fit_reject_the_wrong_family_only() -> None:
    counts = drawn("log-normal", 1_000, 4)
    right, wrong = (
        latency.tested(latency.fit(FAMILIES[name], counts), counts, seed=0, draws=99)
        for name in ("log-normal", "exponential")
    )
    assert (right.p_value or 0) > 0.02
    assert wrong.p_value == 0.01
    assert wrong.statistic > 5 * right.statistic


def test_the_fastest_of_a_race_takes_the_time_that_was_fitted() -> None:
    fit = latency.LatencyFit(latency.EXPONENTIAL, (0.5, 4.0), 100)
    floor, each = latency.race_of(fit, searchers=5, block_seconds=0.25)
    assert (floor, each) == (125, 5_000)
    draws = Draws(1)
    fastest = [float(floor + min(draws.waiting_time(each, "t", i, j) for j in range(5))) for i in range(4_000)]
    assert near(fastest, 1_000 * 0.25 * (fit.shift + fit.excess), 0.5)  # waiting times are rounded down


# -- participation -----------------------------------------------------------------------------------------------------


def test_figures_of_the_literature() -> None:
    assert participation.mean_of_single(0.36, conditional=True) == pytest.approx(1.78, abs=0.005)
    assert participation.mean_of_recapture(0.73) == pytest.approx(2.59, abs=0.005)
    size = participation.size_of_none(3.3, 0.2)  # Maker, February 2021
    assert (1 + 3.3 / size) ** -size == pytest.approx(0.2)
    assert participation.ParticipationFit(3.3, size, False).none == pytest.approx(0.2)
    assert math.exp(-3.3) < 0.04  # what a Poisson number says
    first, gain = two_step(100, 84, 0.83, 0.05, 0.5)
    assert first == pytest.approx(7.782, abs=5e-4)
    assert gain == pytest.approx(0.0926, abs=5e-5)


@given(st.floats(0.001, 0.999))
def test_means_are_solved_for_exactly(share: float) -> None:
    assert poisson_share(participation.mean_of_recapture(share)) == pytest.approx(share, abs=1e-9)
    assert single_bidder_share(participation.mean_of_single(share, conditional=True)) == pytest.approx(share, abs=1e-9)


def test_many_who_seldom_show_up_are_a_poisson_number() -> None:
    assert participation_share(0.4, 2) == pytest.approx(0.16)  # both
    assert participation_share(2.59 / 10**6, 10**6) == pytest.approx(poisson_share(2.59), abs=1e-5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: participation.mean_of_single(0.36, conditional=False), "a mean of 0.8061 and one of 1.2228 give it"),
        (lambda: participation.mean_of_single(0.5, conditional=False), "at most 0.3679"),
        (lambda: participation.mean_of_single(36, conditional=True), "between 0 and 1"),
        (lambda: participation.mean_of_recapture(1.0), "the share recaptured is 1.0"),
        (lambda: participation.size_of_none(3.3, 0.02), "already gives 0.03688"),
        (lambda: participation.size_of_none(0.0, 0.2), "above zero"),
        (lambda: participation.poisson(np.array([5, 0]), conditional=False), "no auction has a bidder"),
        (lambda: participation.poisson(np.array([0, 5]), conditional=True), "every auction has one bidder"),
    ],
)
def test_shares_that_no_mean_gives(call: object, said: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=said):
        call()


def bidders(thresholds: tuple[int, ...], rows: int, seed: int, conditional: bool) -> np.ndarray:
    """Counts of the numbers that a replay draws."""
    draws = Draws(seed)
    numbers = np.array([draws.number(thresholds, "number", i) for i in range(rows)])
    return participation.tally(numbers[numbers > 0] if conditional else numbers, 60)


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
def test_means_and_sizes_are_found_again_from_what_a_replay_draws(conditional: bool) -> None:
    plain = [
        participation.poisson(bidders(poisson(17_800, 60), 800, seed, conditional), conditional=conditional).mean
        for seed in range(12)
    ]
    assert near(plain, 1.78)
    fits = [
        participation.negative_binomial(
            bidders(negative_binomial(33_000, 12_400, 60), 2_000, seed, conditional), conditional=conditional
        )
        for seed in range(12)
    ]
    assert near([fit.mean for fit in fits], 3.3, 0.03)
    assert near([math.log(fit.size or 0) for fit in fits], math.log(1.24), 0.03)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_right_distribution_is_chosen(conditional: bool) -> None:
    spread, even = (
        participation.candidates(*(bidders(law, 1_500, seed, conditional) for seed in (1, 2)), conditional=conditional)
        for law in (negative_binomial(33_000, 12_400, 60), poisson(25_900, 60))
    )
    assert spread[0].fit.name == "negative-binomial"
    assert (spread[0].test.p_value or 0) > 1e-3
    assert (spread[0].test_held_out.p_value or 0) > 1e-3
    assert (spread[1].test.p_value or 0) < 1e-9
    poissons = next(one for one in even if one.fit.size is None)
    assert poissons.held_out >= even[0].held_out - 0.002
    assert (poissons.test.p_value or 0) > 1e-3


def test_probabilities_of_bidders_are_whole() -> None:
    for fit in (participation.ParticipationFit(1.78, None, False), participation.ParticipationFit(3.3, 1.24, True)):
        assert fit.probabilities(5).sum() == pytest.approx(1)
        assert (fit.probabilities(5)[0] == 0) == fit.conditional
    assert participation.ParticipationFit(1.78, None, False).alone == pytest.approx(1.78 * math.exp(-1.78))
    most = participation.ParticipationFit(1.78, None, False).most()
    assert sum(1.78**k * math.exp(-1.78) / math.factorial(k) for k in range(most + 1)) >= 1 - 1e-4


# -- bid share ---------------------------------------------------------------------------------------------------------


def test_the_cost_is_found_again_from_a_replays_auctions() -> None:
    """C / V = 0.3 from sealed bids as a replay makes them; the standard error is that of the fit itself."""
    value, cost, draws = 10**9, 3 * 10**8, Draws(2)
    searchers, shares = [], []
    for i in range(4_000):
        n = 2 + i % 9
        costs = [draws.below(cost + 1, "cost", i, j) for j in range(n)]
        paid = sealed_bid(
            [Entrant(j, str(j), value - c, c) for j, c in enumerate(costs)], [value - cost] * n, n - 1
        ).price
        searchers.append(float(n))
        shares.append(paid / value)
    x = bid_share.regressor(np.array(searchers), None)
    fit = bid_share.fit(x, np.array(shares))
    assert abs(fit.cost - 0.3) <= SIGMAS * fit.error
    assert fit.error < 0.003
    assert 0.1 < fit.r_squared < 1
    assert fit.predicted(bid_share.regressor(np.array([4.0]), None))[0] == pytest.approx(
        expected_bid_share(fit.cost, 4)
    )
    assert (bid_share.lack_of_fit(fit, np.array(searchers), np.array(shares)).p_value or 0) > 1e-4
    flat = np.array(shares) - np.array(shares).mean() * (np.array(searchers) > 8)
    wrong = bid_share.lack_of_fit(bid_share.fit(x, flat), np.array(searchers), flat).p_value
    assert wrong is not None
    assert wrong < 1e-9
    valued = bid_share.fit(bid_share.regressor(np.array(searchers), np.full(4_000, float(value))), np.array(shares))
    assert valued.cost == pytest.approx(fit.cost * value)


def test_lack_of_fit_by_hand() -> None:
    """Means 0.6 and 0.8 at two and four searchers, the line at C / V = 1 says 1/3 and 0.6; within groups 4 * 0.1^2."""
    searchers, shares = np.array([2.0, 2.0, 4.0, 4.0]), np.array([0.5, 0.7, 0.7, 0.9])
    test = bid_share.lack_of_fit(bid_share.BidShareFit(1.0, 0.0, 0.0, 4), searchers, shares)
    assert test.statistic == pytest.approx((2 * (0.6 - 1 / 3) ** 2 + 2 * 0.2**2) / (0.04 / 2))
    assert bid_share.lack_of_fit(bid_share.BidShareFit(1.0, 0.0, 0.0, 2), searchers[1:3], shares[1:3]).p_value is None


def test_bids_above_what_is_at_stake_fit_no_cost() -> None:
    with pytest.raises(UserError, match="not below what is at stake"):
        bid_share.fit(np.array([0.5, 0.4]), np.array([1.2, 1.1]))


# -- depth -------------------------------------------------------------------------------------------------------------


def pool_quotes(reserve: float, noise: float = 0.0) -> list[depth.Quote]:
    """Quotes of a pool without a fee in rounds an hour apart, the price rising by 1 % from round to round."""
    random = generator(9)
    quotes = []
    for number in range(12):
        price = 2_000 * 1.01**number * 10.0**-12  # smallest units of 6 decimals for one of 18
        for size in np.exp(random.uniform(math.log(1e-5), math.log(0.5), 20)) * reserve:
            bought = size * price / (1 + size / reserve) * math.exp(noise * random.standard_normal())
            quotes.append(depth.Quote(3_600 * number + len(quotes), float(size), float(bought)))
    return quotes


def test_the_curve_of_a_pool_is_found_again() -> None:
    reserve = 5e21
    found = depth.measured(pool_quotes(reserve))
    assert len(found.prices) == 12
    assert found.prices.max() / found.prices.min() == pytest.approx(1.01**11, rel=1e-3)
    curve = depth.curve(found.sizes, found.lost)
    sizes = np.array([0.001, 0.01, 0.05, 0.2])  # of the pool, whose reserve differs in worth by 12 % between rounds
    worth = float(np.median(found.prices)) * reserve
    assert curve.at(sizes * worth) == pytest.approx(sizes / (1 + sizes), abs=0.015)
    errors = depth.held_out(found.sizes, found.lost)
    assert errors.quotes == 120
    assert errors.median < 0.001
    assert depth.held_out(*depth.measured(pool_quotes(reserve, 0.01))[:2]).median > 0.003


@given(st.lists(st.floats(-1, 1), max_size=15))
def test_pooling_is_the_nearest_that_never_falls(values: list[float]) -> None:
    """Pool adjacent violators, against the formula: max over starts of min over ends of averages."""
    found = depth.pooled(values)
    assert all(one <= other + 1e-12 for one, other in pairwise(found))
    mean = {(a, b): float(np.mean(values[a : b + 1])) for a in range(len(values)) for b in range(a, len(values))}
    for place, one in enumerate(found):
        assert one == pytest.approx(
            max(min(mean[a, b] for b in range(place, len(values))) for a in range(place + 1)), abs=1e-9
        )


@given(st.integers(1, 10**13))
def test_a_curve_is_read_as_a_replay_reads_it(size: int) -> None:
    found = depth.measured(pool_quotes(5e21))
    points = depth.points(depth.curve(found.sizes, found.lost), 100.0)
    own = depth.SlippageCurve(tuple(float(size) for size, _ in points), tuple(loss / 10_000 for _, loss in points))
    loss, beyond = depth_loss_up(size, tuple(points))
    assert beyond == (size > points[-1][0])
    assert loss / size == pytest.approx(float(own.at(np.array([float(size)]))[0]), abs=1 / size + 1e-6)


def test_too_few_quotes() -> None:
    with pytest.raises(UserError, match="39 quotes"):
        depth.measured(pool_quotes(1e20)[:39])
