"""Aave V3's fixed-point arithmetic, one function per rounding; the rounding is in the name.

Sources (versions name tags of aave-dao/aave-v3-origin; 3.0 is aave/aave-v3-core):
``libraries/math/WadRayMath.sol``, ``libraries/math/PercentageMath.sol`` and ``libraries/math/MathUtils.sol``. The
half-up functions exist since 3.0, the directed ones of rays and ``percent_*_up``/``percent_mul_down`` since 3.5,
``percent_div_down`` since 3.7.

All arguments are non-negative integers: rays (1e27 = one), wads (1e18) or basis points (1e4). A zero divisor raises
ZeroDivisionError where the contract reverts. The contracts also revert when a product needs more than 256 bits; real
amounts are far below that, and these functions return the exact result instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backtest.protocols.aave.math import linear_interest as linear_interest
from backtest.protocols.aave.math import percent_div_half_up as percent_div_half_up
from backtest.protocols.aave.math import percent_mul_half_up as percent_mul_half_up
from backtest.protocols.aave.math import ray_div_half_up as ray_div_half_up
from backtest.protocols.aave.math import ray_mul_half_up as ray_mul_half_up
from backtest.protocols.aave.math import wad_div_half_up as wad_div_half_up
from backtest.units import BPS, RAY, SECONDS_PER_YEAR, mul_div_down, mul_div_up
from backtest.words import rule


@rule
def ray_mul_down(a: int, b: int) -> int:
    """a * b in rays, rounded down (``rayMulFloor``, 3.5+)."""
    return a * b // RAY


@rule
def ray_mul_up(a: int, b: int) -> int:
    """a * b in rays, rounded up (``rayMulCeil``, 3.5+)."""
    return (a * b + RAY - 1) // RAY


@rule
def ray_div_down(a: int, b: int) -> int:
    """a / b in rays, rounded down (``rayDivFloor``, 3.5+)."""
    return a * RAY // b


@rule
def ray_div_up(a: int, b: int) -> int:
    """a / b in rays, rounded up (``rayDivCeil``, 3.5+)."""
    return (a * RAY + b - 1) // b


@rule
def percent_mul_down(value: int, bps: int) -> int:
    """value * bps / 10000, rounded down (``percentMulFloor``, 3.5+)."""
    return value * bps // BPS


@rule
def percent_mul_up(value: int, bps: int) -> int:
    """value * bps / 10000, rounded up (``percentMulCeil``, 3.5+)."""
    return (value * bps + BPS - 1) // BPS


@rule
def percent_div_down(value: int, bps: int) -> int:
    """value * 10000 / bps, rounded down (``percentDivFloor``, 3.7+)."""
    return value * BPS // bps


@rule
def percent_div_up(value: int, bps: int) -> int:
    """value * 10000 / bps, rounded up (``percentDivCeil``, 3.5+)."""
    return (value * BPS + bps - 1) // bps


@rule
def compounded_interest_v30(rate: int, elapsed: int) -> int:
    """Growth factor (ray) of a yearly ``rate`` (ray) over ``elapsed`` seconds: three terms of the binomial series.

    ``calculateCompoundedInterest`` of 3.0 to 3.3.
    """
    if elapsed == 0:
        return RAY
    minus_one = elapsed - 1
    minus_two = elapsed - 2 if elapsed > 2 else 0
    power_two = ray_mul_half_up(rate, rate) // (SECONDS_PER_YEAR * SECONDS_PER_YEAR)
    power_three = ray_mul_half_up(power_two, rate) // SECONDS_PER_YEAR
    second = elapsed * minus_one * power_two // 2
    third = elapsed * minus_one * minus_two * power_three // 6
    return RAY + rate * elapsed // SECONDS_PER_YEAR + second + third


@rule
def compounded_interest_v34(rate: int, elapsed: int) -> int:
    """Growth factor (ray) of a yearly ``rate`` (ray) over ``elapsed`` seconds: the Taylor series of exp to its third
    term.

    ``calculateCompoundedInterest`` of 3.4 and later.
    """
    x = rate * elapsed // SECONDS_PER_YEAR
    return RAY + x + ray_mul_half_up(x, x // 2 + ray_mul_half_up(x, x // 6))


DOWN, HALF_UP, UP = 0, 1, 2
"""Roundings as numbers: what compiled rules know of a revision."""

ROUNDING: Mapping[Callable[..., int], int] = {
    ray_mul_down: DOWN, ray_mul_half_up: HALF_UP, ray_mul_up: UP,
    ray_div_down: DOWN, ray_div_half_up: HALF_UP, ray_div_up: UP,
    percent_mul_down: DOWN, percent_mul_half_up: HALF_UP, percent_mul_up: UP,
    percent_div_down: DOWN, percent_div_half_up: HALF_UP, percent_div_up: UP,
    mul_div_down: DOWN, mul_div_up: UP,
}  # fmt: skip
"""Which rounding a function has."""


@rule
def ray_mul(a: int, b: int, rounding: int) -> int:
    """The one of this rounding."""
    if rounding == HALF_UP:
        return ray_mul_half_up(a, b)
    return ray_mul_up(a, b) if rounding == UP else ray_mul_down(a, b)


@rule
def ray_div(a: int, b: int, rounding: int) -> int:
    """The one of this rounding."""
    if rounding == HALF_UP:
        return ray_div_half_up(a, b)
    return ray_div_up(a, b) if rounding == UP else ray_div_down(a, b)


@rule
def percent_mul(value: int, bps: int, rounding: int) -> int:
    """The one of this rounding."""
    if rounding == HALF_UP:
        return percent_mul_half_up(value, bps)
    return percent_mul_up(value, bps) if rounding == UP else percent_mul_down(value, bps)


@rule
def percent_div(value: int, bps: int, rounding: int) -> int:
    """The one of this rounding."""
    if rounding == HALF_UP:
        return percent_div_half_up(value, bps)
    return percent_div_up(value, bps) if rounding == UP else percent_div_down(value, bps)


@rule
def base_value(amount: int, price: int, unit: int, rounding: int) -> int:
    """Base units of native units: down or up."""
    return mul_div_up(amount, price, unit) if rounding == UP else mul_div_down(amount, price, unit)
