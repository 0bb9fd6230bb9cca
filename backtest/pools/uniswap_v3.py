"""Uniswap v3: what a swap takes and gives, to the unit, and where it leaves the pool.

Rules of Uniswap/v3-core 1.0.1, ``contracts/``: ``UniswapV3Pool.sol`` (``swap``, ``_modifyPosition``) with
``libraries/TickMath.sol``, ``SqrtPriceMath.sol``, ``SwapMath.sol`` and ``TickBitmap.sol``. Prices are square roots of
token 1 per token 0 in native units, times 2^96 (X96); a tick t stands for the price 1.0001^t. Fees are parts of a
million. Protocol fees (``setFeeProtocol``), ``collect`` and ``flash`` move neither price nor liquidity, so nothing here
depends on them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from decimal import Context, Decimal
from functools import lru_cache
from math import floor, log

from backtest.model import PoolChange
from backtest.units import UINT256_MAX, mul_div_down, mul_div_up

MIN_TICK, MAX_TICK = -887_272, 887_272
MIN_SQRT_PRICE, MAX_SQRT_PRICE = 4_295_128_739, 1_461_446_703_485_210_103_287_273_052_203_988_822_378_723_970_342
"""Those of the two ticks; a pool's price is below the second (TickMath.sol)."""
Q96 = 1 << 96
MILLION = 10**6
_WORD = 256
"""Ticks of one word of the pool's bitmap, in units of its spacing: as far as one step of a swap reaches."""


def _factors() -> list[int]:
    """2^128 / 1.0001^(2^k / 2) for each bit k of a tick, to the nearest: the constants of
    ``TickMath.getSqrtRatioAtTick``.
    """
    exact = Context(prec=100)
    factor = exact.divide(Decimal(1), exact.sqrt(Decimal("1.0001")))
    found = []
    for _ in range(MAX_TICK.bit_length()):
        found.append(round(exact.multiply(factor, Decimal(1 << 128))))
        factor = exact.multiply(factor, factor)
    return found


_FACTORS = _factors()


@lru_cache(maxsize=1 << 16)
def sqrt_price_at(tick: int) -> int:
    """The price of a tick, rounded up from 128 binary places to 96 (``TickMath.getSqrtRatioAtTick``). ValueError beyond
    the last ticks.
    """
    if not MIN_TICK <= tick <= MAX_TICK:
        raise ValueError(f"tick {tick} is beyond {MAX_TICK}")
    ratio = 1 << 128
    for bit, factor in enumerate(_FACTORS):
        if abs(tick) >> bit & 1:
            ratio = ratio * factor >> 128
    if tick > 0:
        ratio = UINT256_MAX // ratio
    return -(-ratio >> 32)


def tick_at(sqrt_price: int) -> int:
    """The last tick whose price is not above this one (``TickMath.getTickAtSqrtRatio``). ValueError for a price that no
    pool can have.
    """
    if not MIN_SQRT_PRICE <= sqrt_price < MAX_SQRT_PRICE:
        raise ValueError(f"no pool has the price {sqrt_price}")
    tick = min(max(floor(2 * log(sqrt_price / Q96) / log(1.0001)), MIN_TICK), MAX_TICK - 1)  # about; integers decide
    while sqrt_price_at(tick) > sqrt_price:
        tick -= 1
    while sqrt_price_at(tick + 1) <= sqrt_price:
        tick += 1
    return tick


# -- SqrtPriceMath.sol -------------------------------------------------------------------------------------------------


def amount0_down(low: int, high: int, liquidity: int) -> int:
    """Token 0 between two prices (``getAmount0Delta``, roundUp false)."""
    return mul_div_down(liquidity << 96, high - low, high) // low


def amount0_up(low: int, high: int, liquidity: int) -> int:
    """Token 0 between two prices (``getAmount0Delta``, roundUp true)."""
    return -(-mul_div_up(liquidity << 96, high - low, high) // low)


def amount1_down(low: int, high: int, liquidity: int) -> int:
    """Token 1 between two prices (``getAmount1Delta``, roundUp false)."""
    return mul_div_down(liquidity, high - low, Q96)


def amount1_up(low: int, high: int, liquidity: int) -> int:
    """Token 1 between two prices (``getAmount1Delta``, roundUp true)."""
    return mul_div_up(liquidity, high - low, Q96)


def _after_input(price: int, liquidity: int, amount: int, zero_for_one: bool) -> int:
    """The price once ``amount`` was put in, fee apart, rounded in the pool's favour (``getNextSqrtPriceFromInput``)."""
    if not zero_for_one:
        return price + (amount << 96) // liquidity
    whole = liquidity << 96
    if amount * price + whole <= UINT256_MAX:
        return mul_div_up(whole, price, whole + amount * price)
    return -(-whole // (whole // price + amount))  # the contract's way out where 256 bits do not do


def _after_output(price: int, liquidity: int, amount: int, zero_for_one: bool) -> int:
    """The price once ``amount`` was taken out, rounded in the pool's favour (``getNextSqrtPriceFromOutput``)."""
    if zero_for_one:
        return price - mul_div_up(amount, Q96, liquidity)
    return mul_div_up(liquidity << 96, price, (liquidity << 96) - amount * price)


# -- UniswapV3Pool.sol -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Swapped:
    """What a swap does: native units that the pool takes (its fee included) and gives, and where it stands afterwards.

    ``amount_in`` is less than what was offered where the pool ran out of liquidity or the price reached its limit.
    """

    amount_in: int
    amount_out: int
    sqrt_price: int
    tick: int
    liquidity: int


@dataclass(slots=True)
class PoolState:
    """One pool at one moment.

    Attributes:
        fee: parts of a million of what is put in.
        spacing: ticks between two that may be initialized.
        sqrt_price: X96; 0 before the pool is initialized.
        tick: ``slot0.tick``, which is one below that of the price where a swap ended on a tick on its way down.
        liquidity: active at the price.
        gross, net: of each initialized tick ``liquidityGross`` and ``liquidityNet``.
        ticks: the initialized ones, ascending.
    """

    fee: int
    spacing: int
    sqrt_price: int = 0
    tick: int = 0
    liquidity: int = 0
    gross: dict[int, int] = field(default_factory=dict)
    net: dict[int, int] = field(default_factory=dict)
    ticks: list[int] = field(default_factory=list)

    def copy(self) -> PoolState:
        """Independent of this one."""
        mine = (self.fee, self.spacing, self.sqrt_price, self.tick, self.liquidity)
        return PoolState(*mine, dict(self.gross), dict(self.net), self.ticks.copy())

    def apply(self, change: PoolChange) -> None:
        """A fact of history (``_modifyPosition``; where a swap ended is what its log says)."""
        if change.sqrt_price is not None:
            self.sqrt_price, self.tick, self.liquidity = change.sqrt_price, change.tick, change.liquidity
            return
        assert change.upper is not None
        for tick, sign in ((change.tick, 1), (change.upper, -1)):
            gross = self.gross.get(tick, 0) + change.liquidity
            if gross == 0:
                if tick in self.net:
                    del self.gross[tick], self.net[tick], self.ticks[bisect_left(self.ticks, tick)]
                continue
            if tick not in self.net:
                insort(self.ticks, tick)
            self.gross[tick], self.net[tick] = gross, self.net.get(tick, 0) + sign * change.liquidity
        if self.sqrt_price and change.tick <= self.tick < change.upper:
            self.liquidity += change.liquidity

    def next_tick(self, tick: int, down: bool, liquidity: int) -> tuple[int, bool]:
        """The tick that the next step goes to, and whether it is initialized: within one word of the bitmap, since
        every step rounds (``TickBitmap.nextInitializedTickWithinOneWord``). Without liquidity nothing is rounded, and
        it is the next initialized one.
        """
        if down:
            at = bisect_right(self.ticks, tick) - 1
            found = self.ticks[at] if at >= 0 else None
            edge = tick // self.spacing // _WORD * _WORD * self.spacing if liquidity else MIN_TICK
            tick = max(edge, MIN_TICK) if found is None or found < edge else found
        else:
            at = bisect_right(self.ticks, tick)
            found = self.ticks[at] if at < len(self.ticks) else None
            edge = (((tick // self.spacing + 1) // _WORD + 1) * _WORD - 1) * self.spacing if liquidity else MAX_TICK
            tick = min(edge, MAX_TICK) if found is None or found > edge else found
        return tick, tick == found


def swap(pool: PoolState, zero_for_one: bool, amount: int, limit: int | None = None) -> Swapped:
    """What a swap does in this pool, which it leaves as it is (``UniswapV3Pool.swap``).

    Args:
        zero_for_one: token 0 is put in and token 1 taken out.
        amount: native units put in; negative: to be taken out.
        limit: the price (X96) at which it ends; by default the last one possible, where a drained pool may stand
            already.

    Raises:
        ValueError: the pool is not initialized, or the limit is not on the price's way.
    """
    price, tick, liquidity = pool.sqrt_price, pool.tick, pool.liquidity
    last = MIN_SQRT_PRICE + 1 if zero_for_one else MAX_SQRT_PRICE - 1
    if not price or (limit is not None and not (last <= limit < price if zero_for_one else price < limit <= last)):
        raise ValueError(f"no swap from price {price} to {limit}")
    limit = last if limit is None else limit
    left, paid, given = amount, 0, 0
    while left and price != limit:
        start = price
        ahead, initialized = pool.next_tick(tick, zero_for_one, liquidity)
        end = sqrt_price_at(ahead)
        target = max(end, limit) if zero_for_one else min(end, limit)
        price, put_in, taken_out, fee = _step(price, target, liquidity, left, pool.fee, zero_for_one)
        left += -(put_in + fee) if amount > 0 else taken_out
        paid, given = paid + put_in + fee, given + taken_out
        if price == end:
            if initialized:
                liquidity += -pool.net[ahead] if zero_for_one else pool.net[ahead]
            tick = ahead - zero_for_one
        elif price != start:
            tick = tick_at(price)
    return Swapped(paid, given, price, tick, liquidity)


def _step(
    price: int, target: int, liquidity: int, left: int, fee: int, zero_for_one: bool
) -> tuple[int, int, int, int]:
    """(price afterwards, put in, taken out, fee) of a swap within one tick range (``SwapMath.computeSwapStep``)."""
    low, high = (target, price) if zero_for_one else (price, target)
    if left > 0:
        usable = mul_div_down(left, MILLION - fee, MILLION)
        whole = amount0_up(low, high, liquidity) if zero_for_one else amount1_up(low, high, liquidity)
        end = target if usable >= whole else _after_input(price, liquidity, usable, zero_for_one)
    else:
        whole = amount1_down(low, high, liquidity) if zero_for_one else amount0_down(low, high, liquidity)
        end = target if -left >= whole else _after_output(price, liquidity, -left, zero_for_one)
    if zero_for_one:
        put_in, taken_out = amount0_up(end, price, liquidity), amount1_down(end, price, liquidity)
    else:
        put_in, taken_out = amount1_up(price, end, liquidity), amount0_down(price, end, liquidity)
    if left < 0:
        taken_out = min(taken_out, -left)
    charged = left - put_in if left > 0 and end != target else mul_div_up(put_in, fee, MILLION - fee)
    return end, put_in, taken_out, charged


def amount_out_down(pool: PoolState, zero_for_one: bool, amount_in: int) -> int:
    """Native units that selling ``amount_in`` brings, as far as the pool takes it (``swap`` says how far)."""
    return swap(pool, zero_for_one, amount_in).amount_out


def agrees(pool: PoolState, recorded: PoolChange, amount0: int, amount1: int) -> bool:
    """Whether the rules, from the state before it, give a recorded swap to the unit: amounts, price, tick and
    liquidity.

    Its log does not say what was asked for: an exact input, an exact output, or as much as a price limit allows. One of
    them must fit.
    """
    assert recorded.sqrt_price is not None
    to, price = recorded.sqrt_price, pool.sqrt_price
    zero_for_one = to < price or (to == price and amount0 > 0)
    paid, given = (amount0, -amount1) if zero_for_one else (amount1, -amount0)
    wanted = Swapped(paid, given, to, recorded.tick, recorded.liquidity)
    asked: list[tuple[int, int | None]] = [(paid, None), (-given, None)]
    if to != price:
        asked.append((UINT256_MAX >> 1, to))
    try:
        return any(amount and swap(pool, zero_for_one, amount, limit) == wanted for amount, limit in asked)
    except (ValueError, ZeroDivisionError):
        return False


# -- price -------------------------------------------------------------------------------------------------------------


def mid_price(sqrt_price: int) -> tuple[int, int]:
    """Native units of token 1 for one of token 0, as an exact fraction."""
    return sqrt_price * sqrt_price, Q96 * Q96
