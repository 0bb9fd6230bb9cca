"""Morpho Blue's arithmetic: vectors worked out by hand or printed by the protocol's own SDK (numbers only), and
laws.
"""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.protocols.morpho_blue.irm import (
    INITIAL_RATE_AT_TARGET,
    MAX_RATE_AT_TARGET,
    MIN_RATE_AT_TARGET,
    borrow_rate,
)
from backtest.protocols.morpho_blue.math import (
    div_to_zero,
    exp_to_zero,
    incentive_factor,
    taylor_compounded_down,
    to_assets_down,
    to_assets_up,
    to_shares_down,
    to_shares_up,
)
from backtest.units import WAD

UINT128 = st.integers(0, 2**128 - 1)


@given(UINT128, UINT128, UINT128)
def test_conversions_round_the_exact_quotient(amount: int, assets: int, shares: int) -> None:
    per_share = Fraction(assets + 1, shares + 10**6)
    assert to_assets_down(amount, assets, shares) == math.floor(amount * per_share)
    assert to_assets_up(amount, assets, shares) == math.ceil(amount * per_share)
    assert to_shares_down(amount, assets, shares) == math.floor(amount / per_share)
    assert to_shares_up(amount, assets, shares) == math.ceil(amount / per_share)


@given(UINT128, UINT128, UINT128)
def test_nobody_gains_by_going_in_and_out(amount: int, assets: int, shares: int) -> None:
    assert to_assets_down(to_shares_down(amount, assets, shares), assets, shares) <= amount
    assert to_assets_up(to_shares_up(amount, assets, shares), assets, shares) >= amount


@pytest.mark.parametrize(
    ("lltv", "factor"),
    [
        (385, 1150000000000000000),
        (625, 1126760563380281690),
        (770, 1074113856068743286),
        (860, 1043841336116910229),
        (915, 1026167265264238070),
        (945, 1016776817488561260),
        (965, 1010611419909044972),
        (980, 1006036217303822937),
    ],
)
def test_incentive_of_the_governed_thresholds(lltv: int, factor: int) -> None:
    assert incentive_factor(lltv * 10**15) == factor


@given(st.integers(0, WAD - 1))
def test_incentive_is_the_formula_cut_twice(lltv: int) -> None:
    """The cursor's product is cut, so the factor may lie below the exact quotient by its cut and by that of the
    product.
    """
    exact = min(Fraction(115, 100), 1 / (1 - Fraction(3, 10) * (1 - Fraction(lltv, WAD))))
    assert 0 <= exact * WAD - incentive_factor(lltv) < 4


def test_compounding_by_hand() -> None:
    """A rate of 1e-9 a second for 1e6 s: x = 0.001, x^2/2 = 5e-7, x^3/6 = 1.66...e-10, each cut to a wad."""
    assert taylor_compounded_down(10**9, 10**6) == 10**15 + 5 * 10**11 + 166_666_666
    assert taylor_compounded_down(0, 10**6) == taylor_compounded_down(10**9, 0) == 0


@given(st.integers(0, 10**12), st.integers(0, 10**9))
def test_compounding_is_below_the_exponential(rate: int, seconds: int) -> None:
    x = Fraction(rate * seconds, WAD)
    series = (x + x**2 / 2 + x**3 / 6) * WAD
    assert 0 <= series - taylor_compounded_down(rate, seconds) < 2 + x


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0, WAD),
        (1, WAD + 1),
        (-1, WAD - 1),
        (WAD, 2707864291678420188),
        (-WAD, 370113253479550356),
        (346573590279972654, 1406630217019747831),
        (346573590279972655, 1426966072919605046),
        (-346573590279972655, 703315108509873915),
        (5 * WAD, 148341408957213684736),
        (-40 * WAD, 4),
        (-41446531673892822312, 0),
        (-41446531673892822313, 0),
        (93859467695000404318, 57716089161558943862588783571184261698504523000224082296832),
        (93859467695000404319, 57716089161558943949701069502944508345128422502756744429568),
        (137 * 10**15, 1146384500000000000),  # by hand: 1 + 0.137 + 0.137^2 / 2
    ],
)
def test_exponential_vectors(x: int, expected: int) -> None:
    assert exp_to_zero(x) == expected


@given(st.integers(-20 * WAD, 80 * WAD))
def test_exponential_is_near_the_real_one(x: int) -> None:
    """The rest r is at most ln(2) / 2 from zero. At -ln(2) / 2 the two terms kept give 0.71348 for 0.70711: 0.0090 too
    much, the largest error there is.
    """
    assert exp_to_zero(x) / WAD == pytest.approx(math.exp(x / WAD), rel=9.1e-3)


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**20))
def test_division_cuts_towards_zero(a: int, b: int) -> None:
    assert div_to_zero(a, b) == math.trunc(Fraction(a, b))


@pytest.mark.parametrize(
    ("utilization", "at_target", "elapsed", "average", "end"),
    [
        (900000000000000000, 1268391679, 86400, 1268391679, 1268391679),
        (1000000000000000000, 1268391679, 86400, 5438922544, 1454044805),
        (0, 1268391679, 86400, 296494587, 1106540235),
        (500000000000000000, 1268391679, 12, 845590877, 1268380953),
        (950000000000000000, 3000000000, 604800, 9665992457, 4854826065),
        (123456789012345678, 31709791, 31536000, 11189771, 31709791),
        (999999999999999999, 63419583967, 3600, 253678335867, 63419583967),
        (899999999999999999, 1268391679, 1, 1268391679, 1268391679),
        (700000000000000000, 0, 100, 1056993065, 1268391679),
        (912345678901234567, 987654321, 43, 1353457909, 987662633),
    ],
)
def test_curve_vectors(utilization: int, at_target: int, elapsed: int, average: int, end: int) -> None:
    assert borrow_rate(WAD, utilization, at_target, elapsed) == (average, end)


def test_curve_by_hand() -> None:
    """Nothing supplied counts as nothing used: a quarter of the rate at target, which starts at 4 % a year. Wholly
    used: four times it.
    """
    assert borrow_rate(0, 0, 0, 0) == (INITIAL_RATE_AT_TARGET // 4, INITIAL_RATE_AT_TARGET)
    assert borrow_rate(100, 100, 10**9, 0) == (4 * 10**9, 10**9)


@given(
    st.integers(0, 10**30),
    st.integers(1, 10**30),
    st.integers(MIN_RATE_AT_TARGET, MAX_RATE_AT_TARGET),
    st.integers(0, 10**9),
)
def test_curve_stays_within_its_bounds(borrow: int, supply: int, at_target: int, elapsed: int) -> None:
    average, end = borrow_rate(supply, min(borrow, supply), at_target, elapsed)
    assert MIN_RATE_AT_TARGET <= end <= MAX_RATE_AT_TARGET
    assert MIN_RATE_AT_TARGET // 4 <= average <= 4 * MAX_RATE_AT_TARGET
    assert (end >= at_target) if min(borrow, supply) * 10 >= supply * 9 else (end <= at_target)
