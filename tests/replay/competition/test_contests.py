"""Models of competition against closed forms: what is drawn, who wins, what is paid."""

from __future__ import annotations

import math
from fractions import Fraction
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.replay.competition.contests import (
    Entrant,
    cooperative,
    first_come,
    open_auction,
    sealed_bid,
    second_price,
    shaded_down,
)
from backtest.replay.competition.draws import WORD, Draws, negative_binomial, poisson, softmax_weights
from backtest.replay.competition.gas import next_base_fee_down, path_of
from backtest.replay.competition.slippage import constant_product_loss_up, depth_loss_up, loss_up, square_root_loss_up
from backtest.scenario import Demand, Slippage
from tests.support.closed_forms import (
    exponential_race,
    participation_share,
    poisson_share,
    sealed_bid_payment,
    sealed_bid_rent,
    single_bidder_share,
    softmax,
)

VALUE, COST = 1_000_000_000, 300_000_000
SIGMAS = 4.5  # a false alarm once in 150,000


def entrants(*values: int) -> list[Entrant]:
    return [Entrant(i, f"s{i}", value) for i, value in enumerate(values)]


def within(values: list[int], expected: float) -> bool:
    """The mean of draws is within its Monte Carlo interval of what is expected."""
    mean = sum(values) / len(values)
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return abs(mean - expected) <= SIGMAS * error + 2


def sealed(draws: Draws, n: int, auction: int) -> tuple[int, int]:
    """Payment and rent of one auction among n bidders of private costs."""
    costs = [draws.below(COST + 1, "cost", auction, i) for i in range(n)]
    result = sealed_bid([Entrant(i, str(i), VALUE - c, c) for i, c in enumerate(costs)], [VALUE - COST] * n, n - 1)
    return result.price, result.winner.value - result.price


# -- draws -------------------------------------------------------------------------------------------------------------


def test_draws_are_functions_of_what_they_are_for() -> None:
    draws = Draws(7)
    assert draws.word("a", 1, 2) == Draws(7).word("a", 1, 2)
    assert (
        len(
            {
                Draws(7).word("a", 1),
                Draws(8).word("a", 1),
                draws.word("b", 1),
                draws.word("a", 2),
                draws.word("a", 1, 1),
            }
        )
        == 5
    )


def philox(key: tuple[int, int], counter: tuple[int, ...]) -> int:
    """The first word of Philox4x64-10 (Salmon et al., SC 2011), as written there."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(10):
        first, second = c0 * 0xD2E7470EE14C6C93, c2 * 0xCA5A826395121157
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second % WORD, (first >> 64) ^ c3 ^ k1, first % WORD
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % WORD, (k1 + 0xBB67AE8584CAA73B) % WORD
    return c0


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(0, WORD - 2), min_size=4, max_size=4))
def test_draws_are_philox(seed: int, counter: list[int]) -> None:
    following = (counter[0] + 1, *counter[1:])  # numpy counts before it draws
    assert Draws(seed).word("x", *counter) == philox((seed, crc32(b"x")), following)


def test_even_draws_are_even() -> None:
    drawn = [Draws(1).below(10, "x", i) for i in range(20_000)]
    counts = [drawn.count(k) for k in range(10)]
    assert (
        sum((count - 2000) ** 2 / 2000 for count in counts) < 33.7
    )  # chi-square with 9 degrees of freedom, 1 in 10,000
    assert within([int(Draws(1).chance(2_500, "y", i)) for i in range(20_000)], 0.25)


def test_waiting_times_are_exponential() -> None:
    times = [Draws(2).waiting_time(1_000_000, "t", i) for i in range(20_000)]
    assert within(times, 1_000_000)
    assert abs(sum(time > 2_000_000 for time in times) / len(times) - math.exp(-2)) < SIGMAS * math.sqrt(
        math.exp(-2) / len(times)
    )


@pytest.mark.parametrize("mean", [0, 5_000, 17_800, 25_900, 100_000])
def test_poisson_thresholds(mean: int) -> None:
    rate = mean / 10_000
    for k, threshold in enumerate(poisson(mean, 12)):
        exact = sum(math.exp(-rate) * rate**j / math.factorial(j) for j in range(k + 1))
        assert threshold / WORD == pytest.approx(exact, abs=1e-12)


def test_negative_binomial_thresholds_and_its_limit() -> None:
    r, p = 1.5, 1.5 / (1.5 + 3.3)
    for k, threshold in enumerate(negative_binomial(33_000, 15_000, 15)):
        exact = sum(math.gamma(j + r) / (math.gamma(r) * math.factorial(j)) * p**r * (1 - p) ** j for j in range(k + 1))
        assert threshold / WORD == pytest.approx(exact, abs=1e-12)
    nearly = negative_binomial(17_800, 10**12, 10)
    assert all(abs(a - b) / WORD < 1e-7 for a, b in zip(nearly, poisson(17_800, 10), strict=True))


def test_softmax() -> None:
    weights = softmax_weights([100, 150, 400], 100)
    assert [w / sum(weights) for w in weights] == pytest.approx(softmax([100, 150, 400], 100))
    wins = [Draws(3).weighted(weights, "race", i) == 0 for i in range(10_000)]
    assert within([int(win) for win in wins], weights[0] / sum(weights))


# -- contests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(2, 11))
def test_sealed_bids_pay_v_minus_2c_over_n_plus_1(n: int) -> None:
    outcomes = [sealed(Draws(n), n, i) for i in range(3_000)]
    assert within([paid for paid, _ in outcomes], sealed_bid_payment(VALUE, COST, n))
    assert within([rent for _, rent in outcomes], sealed_bid_rent(COST, n))


def test_bid_share_rises_with_searchers() -> None:
    shares = [sum(sealed(Draws(5), n, i)[0] for i in range(1_000)) for n in range(2, 11)]
    assert shares == sorted(shares)


@given(st.integers(0, 10**12), st.integers(-(10**12), 10**12), st.integers(1, 12))
def test_a_shaded_bid_is_the_equilibrium(value: int, least: int, rivals: int) -> None:
    """The bid is the value less the integral of (F(x) / F(value))^(n-1), from where values and bids begin."""
    if least >= value:
        least = value - 1
    n, low = rivals + 1, max(least, 0)
    inside = Fraction((value - least) ** n - (low - least) ** n, n * (value - least) ** (n - 1))
    bid = shaded_down(value, least, rivals)
    assert 0 <= value - inside - bid < 1 or (value - inside < 0 and bid == 0)
    assert bid <= value


def test_one_bidder_bids_nothing() -> None:
    assert shaded_down(100, 50, 0) == 0


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=9), st.integers(0, 10_000))
def test_second_price_rent_is_at_most_the_marginal_contribution(values: list[int], reserve: int) -> None:
    result = second_price(entrants(*values), reserve)
    others = sorted(values)[:-1]
    contribution = max(values) - (others[-1] if others else 0)
    assert 0 <= result.winner.value - result.price <= contribution
    assert result.winner.value == max(values)


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=9), st.integers(0, 5_000), st.integers(0, 10**6))
def test_an_open_auction_stops_one_bump_above_the_second(values: list[int], bump: int, lost: int) -> None:
    result = open_auction(entrants(*values), bump, lost)
    second = sorted(values)[-2] if len(values) > 1 else 0
    assert result.price == min(max(values), -(-second * (10_000 + bump) // 10_000))
    assert sum(bid.paid for bid in result.bids) == result.price + (len(values) - 1) * lost
    assert [bid.won for bid in result.bids].count(True) == 1
    assert all(bid.bid <= bid.value for bid in result.bids)


def test_cooperating_searchers_pay_one_step() -> None:
    result = cooperative(entrants(50, 90, 70), 2, 5, 1)
    assert (result.winner.name, result.price) == ("s2", 5)
    assert [bid.paid for bid in result.bids] == [1, 1, 5]


@pytest.mark.parametrize("mean", [10_000, 17_800, 25_900])
def test_participation_pays_its_closed_form(mean: int) -> None:
    """With equal values and no reserve the bid share is P(two or more) = 1 - exp(-m) (1 + m)."""
    counts = [Draws(4).number(poisson(mean, 50), "number", i) for i in range(8_000)]
    paid = [second_price(entrants(*[VALUE] * n)).price // VALUE if n else 0 for n in counts]
    rate = mean / 10_000
    assert within(paid, poisson_share(rate))
    alone = [int(n == 1) for n in counts if n]
    assert within(alone, single_bidder_share(rate))


def test_known_numbers_of_participants_pay_theirs() -> None:
    n, p = 6, 0.4
    paid = [
        second_price(entrants(*[VALUE] * k)).price // VALUE
        for i in range(8_000)
        if (k := sum(Draws(6).chance(4_000, "p", i, j) for j in range(n)))
    ]
    assert within(paid, participation_share(p, n) / (1 - (1 - p) ** n))


def test_an_exponential_race_is_won_in_proportion_to_speed() -> None:
    latencies = (100, 200, 400)
    wins = []
    for i in range(10_000):
        times = [Draws(8).waiting_time(latency * 1_000, "t", i, j) for j, latency in enumerate(latencies)]
        wins.append(first_come(entrants(1, 1, 1), times).winner.index)
    for j, share in enumerate(exponential_race(latencies)):
        assert within([int(win == j) for win in wins], share)


# -- gas ---------------------------------------------------------------------------------------------------------------


def test_base_fees_move_by_an_eighth_at_most() -> None:
    assert next_base_fee_down(800, 20_000) == 900
    assert next_base_fee_down(800, 0) == 700
    assert next_base_fee_down(800, 10_000) == 800
    assert next_base_fee_down(7, 20_000) == 8  # by 1 wei at least
    assert next_base_fee_down(7, 0) == 7


def test_a_path_of_full_blocks() -> None:
    fees = path_of(1_000, 10**9, [Demand(blocks=6, used=20_000), Demand(blocks=1, used=10_000)], 12)
    assert fees.at(999) is None
    assert fees.at(1_000) == fees.at(1_011) == 10**9
    assert fees.at(1_000 + 6 * 12) == pytest.approx(10**9 * 1.125**6, rel=1e-8)  # doubled in about six blocks
    assert fees.at(10**9) == fees.at(1_000 + 7 * 12)


# -- slippage ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**16), st.integers(1, 10**16), st.integers(0, 10_000))
def test_constant_product_is_its_formula(value: int, reserve: int, fee: int) -> None:
    paid = Fraction(value * (10_000 - fee), 10_000)
    exact = value - paid * reserve / (reserve + paid)
    assert 0 <= constant_product_loss_up(value, reserve, fee) - exact < 1


def test_average_slippage_of_a_pool() -> None:
    """Selling x beta / (1 - beta) loses beta on average (no fee)."""
    assert constant_product_loss_up(52_631_578, 10**9, 0) / 52_631_578 == pytest.approx(0.05, rel=1e-6)


@given(st.integers(1, 10**15), st.integers(1, 10**15))
def test_slippage_grows_with_size(value: int, more: int) -> None:
    terms = [
        Slippage(model="constant-product", reserve=10**14),
        Slippage(model="square-root", daily_volume=10**15, daily_volatility=450),
        Slippage(model="depth", curve=((10**12, 5), (10**13, 40), (10**14, 300))),
        Slippage(model="depth", curve=((10**12, 5), (10**13, 40), (10**14, 300)), depth=2_500),
    ]
    for model in terms:
        (less, _), (loss, _) = loss_up(value, model), loss_up(value + more, model)
        assert 0 <= less <= value
        assert loss * value >= (less - 2) * (value + more) - (
            value + more
        )  # the share lost does not fall, but for rounding


def test_square_root_by_hand() -> None:
    # Y = 1, 4.5 % a day, a hundredth of the day's volume: 0.45 %
    assert square_root_loss_up(10**12, 10**14, 450, 10_000) == pytest.approx(45 * 10**8, rel=1e-8)


def test_a_curve_between_and_beyond_its_points() -> None:
    curve = ((1_000_000, 10), (3_000_000, 50))
    assert depth_loss_up(500_000, curve) == (250, False)  # half of the way to 10 bp
    assert depth_loss_up(2_000_000, curve) == (6_000, False)  # 30 bp
    loss, beyond = depth_loss_up(12_000_000, curve)  # four times the last point: twice its slippage
    assert beyond
    assert loss == pytest.approx(120_000, abs=2)
    assert loss_up(1_000_000, Slippage(model="depth", curve=curve, depth=5_000)) == (
        3_000,
        False,
    )  # as one of twice the size, 30 bp
