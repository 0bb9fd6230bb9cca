"""Exact integer arithmetic. Every function names its rounding; nothing here knows a protocol or imports anything.

All arguments are non-negative unbounded Python integers, as the contracts' are unsigned; a zero divisor raises
ZeroDivisionError as the contract would revert. Units: WAD = 1e18, RAY = 1e27, BPS = 1e4 (basis points).
"""

from __future__ import annotations

WAD = 10**18
RAY = 10**27
BPS = 10**4
GWEI = 10**9
"""Wei: what base fees are told in."""
SECONDS_PER_YEAR = 31_536_000
UINT256_MAX = 2**256 - 1


def mul_div_down(a: int, b: int, d: int) -> int:
    """floor(a * b / d)."""
    return a * b // d


def mul_div_up(a: int, b: int, d: int) -> int:
    """ceil(a * b / d)."""
    return (a * b + d - 1) // d


def mul_div_half_up(a: int, b: int, d: int) -> int:
    """a * b / d rounded to nearest, halves up, with the divisor's half floored: floor((a * b + floor(d / 2)) / d).

    aave-v3-core ``WadRayMath.sol``, ``PercentageMath.sol``: ``rayMul``, ``rayDiv``, ``wadDiv``, ``percentMul``,
    ``percentDiv``.
    """
    return (a * b + d // 2) // d


def rpow_half_up(x: int, n: int) -> int:
    """x to the n, x a ray, by squaring, each multiplication rounded to nearest, halves up.

    makerdao/dss ``src/jug.sol`` and ``src/abaci.sol`` ``rpow(x, n, b)`` with b one ray; 0 to the 0 is one, as there.
    """
    if x == 0:
        return RAY if n == 0 else 0
    half = RAY // 2
    z = x if n % 2 else RAY
    n //= 2
    while n:
        x = (x * x + half) // RAY
        if n % 2:
            z = (z * x + half) // RAY
        n //= 2
    return z
