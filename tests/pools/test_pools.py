"""Uniswap v3's rules without a chain: hand-worked numbers, laws of swaps, changes of liquidity. Against bytecode:
``test_pools_onchain``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.model import PoolChange, PoolId
from backtest.pools import uniswap_v3 as v3
from backtest.pools.uniswap_v3 import (
    MAX_SQRT_PRICE,
    MAX_TICK,
    MIN_SQRT_PRICE,
    MIN_TICK,
    Q96,
    PoolState,
    Swapped,
    sqrt_price_at,
    swap,
    tick_at,
)

PLACE = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 1, "pool": PoolId(0)}
CONSTANTS = """
    fffcb933bd6fad37aa2d162d1a594001 fff97272373d413259a46990580e213a fff2e50f5f656932ef12357cf3c7fdcc
    ffe5caca7e10e4e61c3624eaa0941cd0
    ffcb9843d60f6159c9db58835c926644 ff973b41fa98c081472e6896dfb254c0 ff2ea16466c96a3843ec78b326b52861
    fe5dee046a99a2a811c461f1969c3053
    fcbe86c7900a88aedcffc83b479aa3a4 f987a7253ac413176f2b074cf7815e54 f3392b0822b70005940c7a398e4b70f3
    e7159475a2c29b7443b29c7fa6e889d9
    d097f3bdfd2022b8845ad8f792aa5825 a9f746462d870fdf8a65dc1f90e061e5 70d869a156d2a1b890bb3df62baf32f7
    31be135f97d08fd981231505542fcfa6
    9aa508b5b7a84e1c677de54f3e99bc9 5d6af8dedb81196699c329225ee604 2216e584f5fa1ea926041bedfe98 48a170391f7dc42444e8fa2
"""
"""What TickMath.sol multiplies by for each bit of a tick."""


def minted(lower: int, upper: int, liquidity: int) -> PoolChange:
    return PoolChange(**PLACE, tick=lower, upper=upper, liquidity=liquidity)


def pool_of(
    ranges: list[tuple[int, int, int]], tick: int, beyond: int = 0, *, fee: int = 3000, spacing: int = 60
) -> PoolState:
    """A pool of these ranges (in units of its spacing) at a tick's price."""
    made = PoolState(fee, spacing)
    price = sqrt_price_at(tick) + beyond
    made.apply(PoolChange(**PLACE, tick=tick_at(price), liquidity=0, sqrt_price=price))
    for lower, upper, liquidity in ranges:
        made.apply(minted(lower * spacing, upper * spacing, liquidity))
    return made


def after(pool: PoolState, done: Swapped) -> PoolState:
    left = pool.copy()
    left.sqrt_price, left.tick, left.liquidity = done.sqrt_price, done.tick, done.liquidity
    return left


edges = st.tuples(st.integers(-400, 399), st.integers(1, 800), st.integers(1, 10**20)).map(
    lambda e: (e[0], min(e[0] + e[1], 400), e[2])
)
pools = st.builds(
    lambda ranges, tick, fee: pool_of(ranges, tick, fee=fee[0], spacing=fee[1]),
    st.lists(edges, min_size=1, max_size=8),
    st.integers(-4000, 4000),
    st.sampled_from([(100, 1), (500, 10), (3000, 60), (10_000, 200)]),
)
amounts = st.integers(0, 22).flatmap(lambda digits: st.integers(1, 10**digits))


def test_ticks() -> None:
    assert [int(word, 16) for word in CONSTANTS.split()] == v3._FACTORS
    assert (sqrt_price_at(MIN_TICK), sqrt_price_at(0), sqrt_price_at(MAX_TICK)) == (MIN_SQRT_PRICE, Q96, MAX_SQRT_PRICE)
    assert (tick_at(MIN_SQRT_PRICE), tick_at(MAX_SQRT_PRICE - 1)) == (MIN_TICK, MAX_TICK - 1)
    with pytest.raises(ValueError, match="887272"):
        sqrt_price_at(MAX_TICK + 1)
    with pytest.raises(ValueError, match="no pool has"):
        tick_at(MAX_SQRT_PRICE)


@given(st.integers(MIN_TICK, MAX_TICK - 1), st.integers(0, 1))
def test_a_price_belongs_to_the_last_tick_not_above_it(tick: int, below: int) -> None:
    price = sqrt_price_at(tick)
    assert tick_at(max(price - below, MIN_SQRT_PRICE)) == max(tick - below, MIN_TICK)


def test_a_swap_by_hand() -> None:
    """1 for 1, liquidity 10^18 in one range, 10^15 in: 0.3 % stay, 997 10^12 move the price to 1 / (1 + 0.000997), and
    1 / (1 + 1 / 0.000997)
    comes out: 996006981039903 and a bit, rounded down."""
    pool = pool_of([(-100, 100, 10**18)], 0)
    done = swap(pool, True, 10**15)
    assert (done.amount_in, done.amount_out) == (10**15, 996_006_981_039_903)
    assert done.sqrt_price == -(-(10**18 << 96) // (10**18 + 997 * 10**12))
    assert (done.tick, done.liquidity) == (-20, 10**18)
    assert v3.amount_out_down(pool, True, 10**15) == done.amount_out
    assert swap(pool, True, -done.amount_out).amount_in <= 10**15
    assert (pool.sqrt_price, pool.tick) == (Q96, 0)  # as it was


def test_a_drained_pool_takes_no_more() -> None:
    pool = pool_of([(-1, 1, 10**18)], 0)
    done = swap(pool, True, 10**20)
    whole = v3.amount0_up(sqrt_price_at(-60), Q96, 10**18)
    assert done.amount_in == whole + -(-whole * 3000 // 997_000)
    assert (done.sqrt_price, done.liquidity) == (MIN_SQRT_PRICE + 1, 0)
    empty = after(pool, done)
    assert swap(empty, True, 10**20) == Swapped(0, 0, MIN_SQRT_PRICE + 1, done.tick, 0)
    back = swap(empty, False, 10**20)
    assert back.sqrt_price == MAX_SQRT_PRICE - 1
    with pytest.raises(ValueError, match="no swap from price 0"):
        swap(PoolState(500, 10), True, 1)
    with pytest.raises(ValueError, match="no swap"):
        swap(pool, True, 1, limit=Q96)


@given(st.lists(edges, max_size=12), st.integers(-24_000, 24_000), st.randoms())
def test_liquidity_is_the_sum_of_its_ranges(ranges: list[tuple[int, int, int]], tick: int, draw: object) -> None:
    pool = pool_of(ranges, tick)
    assert pool.liquidity == sum(amount for lower, upper, amount in ranges if lower * 60 <= tick < upper * 60)
    assert pool.ticks == sorted({edge * 60 for lower, upper, _ in ranges for edge in (lower, upper)})
    assert sum(pool.net.values()) == 0
    for lower, upper, amount in ranges:
        pool.apply(minted(lower * 60, upper * 60, 0))  # a poke
        pool.apply(minted(lower * 60, upper * 60, -amount))
    assert (pool.liquidity, pool.ticks, pool.gross, pool.net) == (0, [], {}, {})


@given(pools, st.booleans(), amounts, amounts)
def test_more_in_gives_more_out_and_never_better_than_the_mid_price(
    pool: PoolState, down: bool, first: int, second: int
) -> None:
    less, more = sorted((first, second))
    one, two = swap(pool, down, less), swap(pool, down, more)
    assert one.amount_out <= two.amount_out
    assert one.amount_in <= two.amount_in <= more
    up, low = v3.mid_price(pool.sqrt_price) if down else v3.mid_price(pool.sqrt_price)[::-1]
    net = two.amount_in * (10**6 - pool.fee)
    assert two.amount_out * low * 10**6 <= net * up
    if (
        two.amount_in == more
        and two.liquidity == pool.liquidity
        and not [t for t in pool.ticks if min(two.tick, pool.tick) < t <= max(two.tick, pool.tick)]
    ):
        usable, part = more * (10**6 - pool.fee) // 10**6, pool.liquidity << 96
        virtual = (part // pool.sqrt_price + 1, pool.liquidity * pool.sqrt_price // Q96 + 1)
        inside, outside = virtual if down else virtual[::-1]
        # The constant product of the range's virtual reserves, multiplied out: with next to nothing it divides by zero.
        assert two.amount_out * (inside - 1 + usable) <= outside * usable


@given(pools, st.booleans(), amounts, amounts)
def test_two_swaps_are_one_but_for_rounding(pool: PoolState, down: bool, first: int, second: int) -> None:
    whole, one = swap(pool, down, first + second), swap(pool, down, first)
    if one.amount_in < first:  # drained by the first
        assert whole.amount_out == one.amount_out
        return
    two = swap(after(pool, one), down, second)
    up, low = v3.mid_price(pool.sqrt_price) if down else v3.mid_price(pool.sqrt_price)[::-1]
    worth = -(-up // low)  # of a unit in
    steps = 4 + len(pool.ticks) + 8 * 60_000 // (256 * pool.spacing)
    assert abs(one.amount_out + two.amount_out - whole.amount_out) <= steps * (worth + 1)


@given(pools, st.booleans(), amounts)
def test_there_and_back_gains_nothing(pool: PoolState, down: bool, amount: int) -> None:
    done = swap(pool, down, amount)
    if done.amount_out:
        assert swap(after(pool, done), not down, done.amount_out).amount_out <= done.amount_in


@given(pools, st.booleans(), amounts)
def test_a_recorded_swap_agrees_whatever_was_asked_for(pool: PoolState, down: bool, amount: int) -> None:
    target = sqrt_price_at(pool.tick + (-500 if down else 500))
    for done in (swap(pool, down, amount), swap(pool, down, -amount), swap(pool, down, amount, target)):
        if done.sqrt_price == pool.sqrt_price and not done.amount_in:
            continue
        recorded = PoolChange(**PLACE, tick=done.tick, liquidity=done.liquidity, sqrt_price=done.sqrt_price)
        paid, given_ = (done.amount_in, -done.amount_out) if down else (-done.amount_out, done.amount_in)
        assert v3.agrees(pool, recorded, paid, given_)
        assert not v3.agrees(pool, replace(recorded, liquidity=done.liquidity + 1), paid, given_)
