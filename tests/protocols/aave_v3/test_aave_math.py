"""Rounding of Aave's fixed-point functions: hand-worked values, and laws over random integers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.protocols.aave_v3 import math as m
from backtest.units import BPS, RAY, SECONDS_PER_YEAR, WAD

AMOUNTS = st.integers(0, 2**128)
INDEXES = st.integers(RAY, 100 * RAY)
PERCENTAGES = st.integers(1, 20_000)


def test_half_up_rounds_a_half_up_and_less_down() -> None:
    assert m.ray_mul_half_up(1, RAY // 2) == 1
    assert m.ray_mul_half_up(1, RAY // 2 - 1) == 0
    assert m.ray_div_half_up(1, 2 * RAY) == 1  # 0.5
    assert m.ray_div_half_up(1, 3 * RAY) == 0  # 0.33
    assert m.ray_div_half_up(2, 3 * RAY) == 1  # 0.67
    assert m.percent_mul_half_up(1, 5000) == 1
    assert m.percent_mul_half_up(1, 4999) == 0
    assert m.wad_div_half_up(2, 3) == 666666666666666667


def test_an_odd_divisor_has_its_half_floored() -> None:
    # (1 * 10000 + floor(3 / 2)) / 3 = 10001 / 3 = 3333.67 -> 3333; (2 * 10000 + 1) / 3 = 20001 / 3 = 6667.
    assert m.percent_div_half_up(1, 3) == 3333
    assert m.percent_div_half_up(2, 3) == 6667


@pytest.mark.parametrize(
    ("down", "up", "a", "b", "floor"),
    [
        (m.ray_mul_down, m.ray_mul_up, 7, RAY + RAY // 2, 10),  # 10.5
        (m.ray_div_down, m.ray_div_up, 10, 3 * RAY, 3),
        (m.percent_mul_down, m.percent_mul_up, 33, 10_500, 34),  # 34.65
        (m.percent_div_down, m.percent_div_up, 33, 10_500, 31),  # 31.43
    ],
)
def test_directed_rounding_of_an_inexact_result(down, up, a: int, b: int, floor: int) -> None:  # type: ignore[no-untyped-def]
    assert (down(a, b), up(a, b)) == (floor, floor + 1)


def test_a_zero_divisor_fails_as_the_contract_reverts() -> None:
    for function in (
        m.ray_div_half_up,
        m.ray_div_down,
        m.ray_div_up,
        m.percent_div_half_up,
        m.percent_div_up,
        m.percent_div_down,
        m.wad_div_half_up,
    ):
        with pytest.raises(ZeroDivisionError):
            function(1, 0)


def test_simple_interest() -> None:
    # 5 % for a year; one second of a rate that is not a multiple of the year: floor(1e26 / 31536000) =
    # 3170979198376458650.
    assert m.linear_interest(5 * RAY // 100, SECONDS_PER_YEAR) == RAY + 5 * RAY // 100
    assert m.linear_interest(10**26, 1) == RAY + 3170979198376458650


# r = 1e18 per second, that is 3.1536e25 per year.
PER_SECOND = SECONDS_PER_YEAR * 10**18


@pytest.mark.parametrize(
    ("elapsed", "v30", "v34"),
    [
        (0, 0, 0),
        # 3.0: 1e18. 3.4: x = 1e18, x / 6 = 166666666666666666, squared 1.67e8; x * (5e17 + 166666667) = 500000000.17
        (1, 10**18, 10**18 + 500_000_000),
        # 3.0: r^2 per second^2 = 1e9, times 2 * 1 / 2. 3.4: x = 2e18; x * x / 6 = 666666666.67; x * (1e18 + 666666667)
        # = 2000000001.33
        (2, 2 * 10**18 + 10**9, 2 * 10**18 + 2_000_000_001),
        # 3.0: 4 * 3 * 1e9 / 2 = 6e9; r^3 = floor(31536000.5) / 31536000 = 1, times 4 * 3 * 2 / 6 = 4.
        # 3.4: x = 4e18, x / 6 = 666666666666666666; x * that = 2666666666.67 -> 2666666667; x * (2e18 + 2666666667) =
        # 8000000010.67
        (4, 4 * 10**18 + 6 * 10**9 + 4, 4 * 10**18 + 8_000_000_011),
    ],
)
def test_compounded_interest_of_both_series(elapsed: int, v30: int, v34: int) -> None:
    assert m.compounded_interest_v30(PER_SECOND, elapsed) == RAY + v30
    assert m.compounded_interest_v34(PER_SECOND, elapsed) == RAY + v34


@given(AMOUNTS, INDEXES)
def test_each_rounding_is_what_its_name_says(amount: int, index: int) -> None:
    product, quotient = Fraction(amount * index, RAY), Fraction(amount * RAY, index)
    for exact, down, half, up in (
        (product, m.ray_mul_down(amount, index), m.ray_mul_half_up(amount, index), m.ray_mul_up(amount, index)),
        (quotient, m.ray_div_down(amount, index), m.ray_div_half_up(amount, index), m.ray_div_up(amount, index)),
    ):
        assert exact - 1 < down <= exact <= up < exact + 1
        assert abs(exact - half) <= Fraction(1, 2) + Fraction(1, index)
        assert half in (down, up)


@given(AMOUNTS, PERCENTAGES)
def test_percentages_round_as_named(value: int, bps: int) -> None:
    for exact, down, half, up in (
        (
            Fraction(value * bps, BPS),
            m.percent_mul_down(value, bps),
            m.percent_mul_half_up(value, bps),
            m.percent_mul_up(value, bps),
        ),
        (
            Fraction(value * BPS, bps),
            m.percent_div_down(value, bps),
            m.percent_div_half_up(value, bps),
            m.percent_div_up(value, bps),
        ),
    ):
        assert exact - 1 < down <= exact <= up < exact + 1
        assert half in (down, up)


@given(AMOUNTS, INDEXES)
def test_scaling_a_whole_balance_gives_the_stored_units_back(scaled: int, index: int) -> None:
    """Why a full repayment or withdrawal leaves nothing: every version's pair of roundings inverts exactly for an index
    of 1 or more.
    """
    assert m.ray_div_half_up(m.ray_mul_half_up(scaled, index), index) == scaled
    assert m.ray_div_up(m.ray_mul_down(scaled, index), index) == scaled  # collateral, 3.5+
    assert m.ray_div_down(m.ray_mul_up(scaled, index), index) == scaled  # debt, 3.5+


@given(st.integers(0, 10 * RAY), st.integers(0, 3600))
def test_both_series_are_at_least_simple_interest_and_close(rate: int, elapsed: int) -> None:
    simple = m.linear_interest(rate, elapsed)
    v30, v34 = m.compounded_interest_v30(rate, elapsed), m.compounded_interest_v34(rate, elapsed)
    assert v30 >= simple
    assert v34 >= simple
    # They differ by the exponential's r^2 t / 2 per year^2 and by roundings.
    assert abs(v34 - v30) <= (rate * rate // RAY) * max(elapsed, 1) // SECONDS_PER_YEAR**2 + elapsed * elapsed + 10


@given(st.integers(1, 2**100), st.integers(1, 2**100))
def test_wad_division_is_nearest(a: int, b: int) -> None:
    assert abs(Fraction(a * WAD, b) - m.wad_div_half_up(a, b)) <= Fraction(1, 2) + Fraction(1, b)
