"""The rate of a silo: an integrator with two proportional gains, compounded by an exponential, cut as there.

Source: silo-finance/silo-contracts-v2 at 340a49b8, ``silo-core/contracts/interestRateModel/InterestRateModelV2.sol``;
``lib/PRBMathSD59x18.sol`` and ``PRBMathCommon.sol`` (``exp``, ``exp2``). Rates are wad a second; signed divisions cut
towards zero, as the compiler's do.
"""

from __future__ import annotations

from functools import cache
from math import isqrt
from typing import NamedTuple

from backtest.protocols.silo_v2.math import utilisation_down
from backtest.units import UINT256_MAX, WAD

RCOMP_MAX = 2**16 * WAD
X_MAX = 11_090_370_147_631_773_313
ASSETS_MAX = UINT256_MAX // RCOMP_MAX
"""InterestRateModelV2.ASSET_DATA_OVERFLOW_LIMIT."""
CAP = 3_170_979_198_376
"""The most that a second may add, wad: 10,000 % a year (InterestRateModelV2._compoundInterestRateCAP)."""
_LOG2_E = 1_442_695_040_888_963_407
_INT112 = 2**111


class Gains(NamedTuple):
    """What a model was made with (IInterestRateModelV2.Config without its two variables)."""

    uopt: int
    ucrit: int
    ulow: int
    ki: int
    kcrit: int
    klow: int
    klin: int
    beta: int


class Charge(NamedTuple):
    """What an accrual charges (wad of the debt), and the model's two variables after it."""

    rcomp: int
    ri: int
    t_crit: int


def cut(a: int, b: int) -> int:
    """a / b cut towards zero."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


@cache
def binary_roots() -> tuple[int, ...]:
    """2^(2^-i) for i from 1 to 64, 128 binary digits, to the nearest."""
    value, found = 2 << 1024, []
    for _ in range(64):
        value = isqrt(value << 1024)  # the root of a number of 1024 binary digits
        found.append((value + (1 << 895)) >> 896)
    return tuple(found)


def exp2_down(x: int) -> int:
    """2^x, wad (PRBMathSD59x18.exp2)."""
    if x < 0:
        return 0 if x < -59_794_705_707_972_522_261 else 10**36 // exp2_down(-x)
    fixed = (x << 128) // WAD
    result = 1 << 127
    for place, root in enumerate(binary_roots(), 1):
        if fixed >> (128 - place) & 1:
            result = result * root >> 128
    return ((result << ((fixed >> 128) + 1)) * WAD) >> 128


def exp_down(x: int) -> int:
    """e^x, wad, of x below 88.7 (PRBMathSD59x18.exp)."""
    return 0 if x < -41_446_531_673_892_822_322 else exp2_down(cut(x * _LOG2_E + WAD // 2, WAD))


def compound(curve: Gains, ri: int, t_crit: int, collateral: int, debt: int, seconds: int) -> Charge:
    """An accrual ``seconds`` after the one before (calculateCompoundInterestRateWithOverflowDetection, and what
    getCompoundInterestRateAndUpdate keeps). Assets are those that the one before left.
    """
    used = utilisation_down(collateral, debt)
    slope_i = cut(curve.ki * (used - curve.uopt), WAD)
    if used > curve.ucrit:
        over = used - curve.ucrit
        gain = cut(cut(curve.kcrit * (WAD + t_crit), WAD) * over, WAD)
        slope = slope_i + cut(cut(curve.kcrit * curve.beta, WAD) * over, WAD)
        t_crit += curve.beta * seconds
    else:
        gain = min(0, cut(curve.klow * (used - curve.ulow), WAD))
        slope = slope_i
        t_crit = max(0, t_crit - curve.beta * seconds)
    floor = cut(curve.klin * used, WAD)
    ri = max(ri, floor)
    first = ri + gain
    last = first + slope * seconds
    if first >= floor and last >= floor:
        x = cut((first + last) * seconds, 2)
    elif first < floor and last < floor:
        x = floor * seconds
    elif first >= floor:
        x = floor * seconds - cut(cut((first - floor) ** 2, slope), 2)
    else:
        x = floor * seconds + cut(cut((last - floor) ** 2, slope), 2)
    ri = max(ri + slope_i * seconds, floor)
    rcomp, overflow = _charged(collateral, debt, x)
    if rcomp > CAP * seconds:
        rcomp, overflow = CAP * seconds, True
    if overflow:
        ri = t_crit = 0
    return Charge(rcomp, _kept(ri), _kept(t_crit))


def _charged(collateral: int, debt: int, x: int) -> tuple[int, bool]:
    """InterestRateModelV2._calculateRComp."""
    rcomp, overflow = (RCOMP_MAX, True) if x >= X_MAX else (max(0, exp_down(x) - WAD), False)
    most = max(collateral, debt)
    if most >= ASSETS_MAX:
        return 0, True
    if rcomp * debt > UINT256_MAX or rcomp * debt // WAD > ASSETS_MAX - most:
        return (ASSETS_MAX - most) * WAD // debt, True
    return rcomp, overflow


def _kept(value: int) -> int:
    """As much of it as 112 bits hold."""
    return max(-_INT112, min(_INT112 - 1, value))


def current_down(curve: Gains, ri: int, t_crit: int, collateral: int, debt: int, seconds: int) -> int:
    """The rate a year, wad, ``seconds`` after the last accrual (calculateCurrentInterestRate)."""
    used = utilisation_down(collateral, debt)
    if used > curve.ucrit:
        grown = cut(curve.kcrit * (WAD + t_crit + curve.beta * seconds), WAD)
        gain = cut(grown * (used - curve.ucrit), WAD)
    else:
        gain = min(0, cut(curve.klow * (used - curve.ulow), WAD))
    floor = cut(curve.klin * used, WAD)
    ri = max(max(ri, floor) + cut(curve.ki * (used - curve.uopt) * seconds, WAD), floor)
    return min(10**20, max(ri + gain, floor) * 31_536_000)


def most_a_second(curve: Gains, ri: int, t_crit: int, seconds: int) -> int:
    """No rate within ``seconds`` of the last accrual is above this, wad, at any utilisation."""
    integrated = max(0, curve.ki * (WAD - curve.uopt) // WAD) * seconds
    gain = curve.kcrit * (WAD + t_crit + curve.beta * seconds) // WAD * (WAD - curve.ucrit) // WAD
    return max(ri, curve.klin) + integrated + max(0, gain) + 1
