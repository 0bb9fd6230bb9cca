"""Curves of depth: closed forms, sources' own rules, and what holds for every curve."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import PoolChange, PoolId
from backtest.pools.uniswap_v3 import PoolState, sqrt_price_at, swap
from backtest.replay.response.cascade_map import depth_within
from backtest.replay.response.curves import (
    LinearCurve,
    PieceCurve,
    PoolCurve,
    PriceCurve,
    ProductCurve,
    RootCurve,
    StableCurve,
    Unmoved,
    bands,
    book,
    faded_up,
    quoted,
)
from backtest.units import RAY

E = 10**18
SUMMED = {
    "none": Unmoved(),
    "constant-product": ProductCurve(1_000 * E),
    "kyle": LinearCurve(1_000 * E, 500),
    "square-root": RootCurve(50_000 * E, 450, 10_000),
    "bands": bands([(100 * E, 100), (400 * E, 200), (900 * E, 500)]),
    "quotes": quoted([(10 * E, 5), (100 * E, 30), (500 * E, 200)]),
    "book": book([(50 * E, 10), (100 * E, 40), (300 * E, 90)]),
    "stable-swap": StableCurve(10_000 * E, 10_000 * E, 200),
}


def pool() -> PoolState:
    """0.3 % between ticks -6000 and 6000, thinner further out."""
    state = PoolState(3_000, 60)
    place = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 0, "pool": PoolId(0)}
    state.apply(PoolChange(**place, tick=0, liquidity=0, sqrt_price=sqrt_price_at(0)))
    state.apply(PoolChange(**place, tick=-6_000, upper=6_000, liquidity=10**24))
    state.apply(PoolChange(**place, tick=-60_000, upper=60_000, liquidity=10**23))
    return state


@pytest.mark.parametrize("name", SUMMED)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_what_holds_for_every_curve(name: str, data: st.DataObject) -> None:
    """The price falls with what was sold; two sales bring what one of both does; a sale brings no more than its price
    before and no less than its price after, times its size.
    """
    curve: PriceCurve = SUMMED[name]
    q, first, second = (data.draw(st.integers(0, 2_000 * E)) for _ in range(3))
    assert curve.factor(0) == RAY
    assert curve.factor(q) >= curve.factor(q + first)
    one, two, both = (
        curve.brings_down(q, first),
        curve.brings_down(q + first, second),
        curve.brings_down(q, first + second),
    )
    slack = RAY * 10**6  # a millionth of a millionth of a token
    assert abs(one.value + two.value - both.value) <= slack
    assert curve.factor(q + first) * one.sold - slack <= one.value <= curve.factor(q) * one.sold + slack


def test_a_constant_product_by_its_closed_forms() -> None:
    """Of 1,000: 25.98 lower the price by 5 %, 52.63 bring 5 % less on average (models.md, 2.a)."""
    curve = ProductCurve(1_000 * E)
    assert depth_within(curve, 500) / E == pytest.approx(1_000 * (1 / sqrt(0.95) - 1), rel=1e-12)
    assert depth_within(curve, 500) / E == pytest.approx(25.98, abs=0.005)
    sold = 1_000 * E * 5 // 95
    assert sold / E == pytest.approx(52.63, abs=0.005)
    assert curve.brings_down(0, sold).value / (RAY * sold) == pytest.approx(0.95, rel=1e-15)
    # conservation: what the pool gives is what x y = k gives, at every step
    x, y = Fraction(1_000 * E), Fraction(1_000 * E)
    for amount in (7 * E, 31 * E + 1, 5, 400 * E):
        gives = curve.brings_down(int(x) - 1_000 * E, amount).value
        after = x * y / (x + amount)
        assert abs((y - after) * RAY - gives) <= 2
        x, y = x + amount, after
    assert x * y == 10**6 * E * E


def test_kyle_and_the_square_root_by_hand() -> None:
    kyle = LinearCurve(1_000 * E, 500)
    assert kyle.factor(1_000 * E) == RAY * 95 // 100
    assert kyle.brings_down(0, 1_000 * E).value == 1_000 * E * RAY * 975 // 1_000
    assert kyle.factor(20_000 * E) == kyle.factor(30_000 * E) == 0
    assert kyle.brings_down(20_000 * E, E).value == 0
    root = RootCurve(10_000 * E, 400, 10_000)
    assert root.factor(2_500 * E) / RAY == pytest.approx(1 - 0.04 * 0.5, rel=1e-20)
    assert root.brings_down(0, 2_500 * E).value / (2_500 * E * RAY) == pytest.approx(1 - 0.04 * 0.5 * 2 / 3, rel=1e-20)


def test_points_that_do_not_rise_are_pooled() -> None:
    """Isotonic regression: 300 and 100 at equal weight become 200 both."""
    curve = bands([(100 * E, 300), (200 * E, 100), (400 * E, 500)])
    assert [curve.factor(q * E) for q in (100, 200, 400)] == [RAY * bps // 10_000 for bps in (9_800, 9_800, 9_500)]
    assert not curve.is_beyond(400 * E)
    beyond = curve.brings_down(0, 401 * E)
    assert beyond.beyond
    assert curve.factor(1_600 * E) / RAY == pytest.approx(
        1 - 0.05 * 2, rel=1e-20
    )  # the square root of four times as much


def test_quotes_are_met_by_their_own_sizes() -> None:
    """What a quote says is what selling its size brings, where quotes are consistent."""
    points = [(10 * E, 5), (100 * E, 30), (500 * E, 200)]
    curve = quoted(points)
    for size, lost in points:
        assert curve.brings_down(0, size).value / (size * RAY) == pytest.approx(1 - lost / 10_000, rel=1e-20)
    # a larger size that brings more than its parts is pooled with them
    odd = quoted([(100 * E, 100), (200 * E, 40)])
    assert odd.factor(50 * E) == odd.factor(150 * E)


def test_a_book_is_walked_and_ends() -> None:
    curve = book([(50 * E, 10), (100 * E, 40)])
    assert curve.brings_down(0, 100 * E).value == 50 * E * RAY * 9_990 // 10_000 + 50 * E * RAY * 9_960 // 10_000
    last = curve.brings_down(100 * E, 100 * E)
    assert last.sold == 50 * E
    assert last.value == 50 * E * RAY * 9_960 // 10_000
    assert curve.brings_down(150 * E, E).value == 0


def test_a_stable_pool_keeps_its_invariant_and_loses_its_peg() -> None:
    """Sales against the invariant solved as a polynomial in fractions; flat first, then the peg goes."""
    curve = StableCurve(1_000_000 * E, 1_000_000 * E, 100)
    d, ann = 2_000_000 * E, 200
    for q in (1_000 * E, 300_000 * E, 800_000 * E, 3_000_000 * E):
        x = 1_000_000 * E + q
        y = 1_000_000 * E - curve.brings_down(0, q).value // RAY
        off = Fraction(ann * (x + y) + d) - ann * d - Fraction(d**3, 4 * x * y)
        assert abs(off / d) < Fraction(1, 10**12)
    assert curve.factor(100_000 * E) / RAY > 0.997
    assert curve.factor(950_000 * E) / RAY < 0.85
    assert curve.factor(3_000_000 * E) / RAY < 0.02
    # without amplification worth the name it is nearly a constant product
    plain = ProductCurve(1_000 * E)
    flat = StableCurve(1_000 * E, 1_000 * E, 1)
    assert plain.factor(50 * E) < flat.factor(50 * E)


def test_a_fetched_pool_is_swapped_through_exactly() -> None:
    """Two sales are two swaps of the pool's own rules, to the unit; the price is the pool's after them."""
    for zero_for_one in (True, False):
        state = pool()
        curve = PoolCurve(state, zero_for_one)
        first, second = 10**22, 3 * 10**23
        one = swap(state, zero_for_one, first)
        assert curve.brings_down(0, first).value // RAY == one.amount_out
        after = PoolState(3_000, 60, one.sqrt_price, one.tick, one.liquidity, state.gross, state.net, state.ticks)
        two = swap(after, zero_for_one, second)
        assert curve.brings_down(first, second).value // RAY == two.amount_out
        ratio = Fraction(swap(after, zero_for_one, second).sqrt_price, state.sqrt_price) ** 2
        expected = ratio if zero_for_one else 1 / ratio
        assert curve.factor(first + second) / RAY == pytest.approx(float(expected), rel=1e-6)
        drained = curve.brings_down(0, 10**40)
        assert drained.beyond
        assert drained.sold < 10**40


@given(amount=st.integers(1, 10**30), seconds=st.integers(0, 10**6), half_life=st.integers(1, 10**5))
@settings(max_examples=100, deadline=None)
def test_what_fades_halves(amount: int, seconds: int, half_life: int) -> None:
    left = faded_up(amount, seconds, half_life)
    assert left == pytest.approx(amount * 0.5 ** (seconds / half_life), rel=1e-8, abs=1)
    assert faded_up(amount, seconds + half_life, half_life) in (-(-left // 2), left // 2, -(-left // 2) - 1)


def test_pieces_say_what_they_are() -> None:
    assert isinstance(SUMMED["bands"], PieceCurve)
    assert faded_up(7, 5, 0) == 0
    assert faded_up(7, 0, 0) == 7
