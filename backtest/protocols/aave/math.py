"""Fixed-point arithmetic of all versions of Aave, rounded to nearest.

Sources: ``libraries/math/WadRayMath.sol``, ``PercentageMath.sol`` and ``MathUtils.sol`` of aave/protocol-v2,
aave/aave-v3-core and aave-dao/aave-v3-origin.

All arguments are non-negative integers: rays (1e27 = one), wads (1e18) or basis points (1e4). A zero divisor raises
ZeroDivisionError where the contract reverts. The contracts also revert when a product needs more than 256 bits; real
amounts are far below that, and these functions return the exact result instead.
"""

from __future__ import annotations

from backtest.units import BPS, RAY, SECONDS_PER_YEAR, WAD
from backtest.words import rule

_HALF_RAY = RAY // 2
_HALF_BPS = BPS // 2


@rule
def ray_mul_half_up(a: int, b: int) -> int:
    """a * b in rays, rounded to nearest (``rayMul``)."""
    return (a * b + _HALF_RAY) // RAY


@rule
def ray_div_half_up(a: int, b: int) -> int:
    """a / b in rays, rounded to nearest (``rayDiv``)."""
    return (a * RAY + b // 2) // b


@rule
def wad_div_half_up(a: int, b: int) -> int:
    """a / b in wads, rounded to nearest (``wadDiv``)."""
    return (a * WAD + b // 2) // b


@rule
def percent_mul_half_up(value: int, bps: int) -> int:
    """value * bps / 10000, rounded to nearest (``percentMul``)."""
    return (value * bps + _HALF_BPS) // BPS


@rule
def percent_div_half_up(value: int, bps: int) -> int:
    """value * 10000 / bps, rounded to nearest (``percentDiv``)."""
    return (value * BPS + bps // 2) // bps


@rule
def linear_interest(rate: int, elapsed: int) -> int:
    """Growth factor (ray) of simple interest at a yearly ``rate`` (ray) over ``elapsed`` seconds, all versions
    (``calculateLinearInterest``).
    """
    return RAY + rate * elapsed // SECONDS_PER_YEAR
