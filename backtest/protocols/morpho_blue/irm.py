"""The adaptive curve: a rate at the target utilisation that drifts exponentially, and a curve around it.

Source: morpho-org/morpho-blue-irm, ``src/adaptive-curve-irm/AdaptiveCurveIrm.sol`` and ``libraries/ConstantsLib.sol``;
signed wad arithmetic, every product and quotient rounded towards zero.
"""

from __future__ import annotations

from backtest.protocols.morpho_blue.math import div_to_zero, exp_to_zero
from backtest.units import SECONDS_PER_YEAR, WAD
from backtest.words import rule

TARGET_UTILIZATION = 9 * WAD // 10
CURVE_STEEPNESS = 4 * WAD
ADJUSTMENT_SPEED = 50 * WAD // SECONDS_PER_YEAR
INITIAL_RATE_AT_TARGET = 4 * WAD // 100 // SECONDS_PER_YEAR
MIN_RATE_AT_TARGET = WAD // 1000 // SECONDS_PER_YEAR
MAX_RATE_AT_TARGET = 2 * WAD // SECONDS_PER_YEAR


def _mul(a: int, b: int) -> int:
    """wMulToZero."""
    return div_to_zero(a * b, WAD)


def _adapted(start: int, adaptation: int) -> int:
    """AdaptiveCurveIrm._newRateAtTarget."""
    return max(MIN_RATE_AT_TARGET, min(_mul(start, exp_to_zero(adaptation)), MAX_RATE_AT_TARGET))


@rule
def borrow_rate(total_supply: int, total_borrow: int, rate_at_target: int, elapsed: int) -> tuple[int, int]:
    """Average borrow rate over the ``elapsed`` seconds since the last accrual, and the rate at target at their end; wad
    a second.

    Totals are assets as of the last accrual. ``rate_at_target`` 0: the first interaction (AdaptiveCurveIrm._borrowRate,
    _curve).
    """
    utilization = total_borrow * WAD // total_supply if total_supply else 0
    norm = WAD - TARGET_UTILIZATION if utilization > TARGET_UTILIZATION else TARGET_UTILIZATION
    error = div_to_zero((utilization - TARGET_UTILIZATION) * WAD, norm)
    if rate_at_target == 0:
        average = end = INITIAL_RATE_AT_TARGET
    else:
        adaptation = _mul(ADJUSTMENT_SPEED, error) * elapsed
        average = end = rate_at_target
        if adaptation:
            end = _adapted(rate_at_target, adaptation)
            average = (rate_at_target + end + 2 * _adapted(rate_at_target, div_to_zero(adaptation, 2))) // 4
    slope = WAD - WAD * WAD // CURVE_STEEPNESS if error < 0 else CURVE_STEEPNESS - WAD
    return _mul(_mul(slope, error) + WAD, average), end
