"""Arithmetic of Liquity V1. Every function names its rounding.

Source: liquity/dev at commit 5174ecd0 (the one that mainnet's deployment record names),
``packages/contracts/contracts/``: ``Dependencies/LiquityMath.sol``, ``Dependencies/LiquityBase.sol``,
``TroveManager.sol``, ``StabilityPool.sol``. Amounts and prices have 18 decimals. Later code in that repository (2025)
differs: it has no epochs and keeps one LUSD in the pool.
"""

from __future__ import annotations

from backtest.protocols.liquity.math import health_down, per_unit_down, ratio_down, reward_down, stake_down
from backtest.units import UINT256_MAX, WAD, mul_div_down
from backtest.words import rule

__all__ = ["health_down", "per_unit_down", "ratio_down", "reward_down", "stake_down"]
NICR_PRECISION = 10**20
GAS_DEBT = 200 * WAD
"""LiquityBase.LUSD_GAS_COMPENSATION: part of every debt, and what the caller of a liquidation gets."""
FEE_FLOOR, FEE_MOST = WAD // 200, WAD // 20
"""LiquityBase.BORROWING_FEE_FLOOR, TroveManager.MAX_BORROWING_FEE."""
MINUTE_DECAY = 999_037_758_833_783_000
"""TroveManager.MINUTE_DECAY_FACTOR: half in twelve hours."""
MOST_MINUTES = 525_600_000
SCALE_FACTOR = 10**9
"""StabilityPool.SCALE_FACTOR."""


def nominal_ratio_down(coll: int, debt: int) -> int:
    """The ratio without a price, by which troves are sorted (LiquityMath._computeNominalCR)."""
    return coll * NICR_PRECISION // debt if debt else UINT256_MAX


def loss_up(debt: int, error: int, deposits: int) -> tuple[int, int]:
    """What each LUSD deposited loses, wad, and by how much that is too much; everything where nothing is left
    (StabilityPool._computeRewardsPerUnitStaked).
    """
    if debt == deposits:
        return WAD, 0
    numerator = debt * WAD - error
    each = numerator // deposits + 1
    return each, each * deposits - numerator


@rule
def split_down(debt: int, coll: int, deposits: int) -> tuple[int, int]:
    """How much debt the pool offsets, and how much collateral it gets for it
    (TroveManager._getOffsetAndRedistributionVals).
    """
    offset = min(debt, deposits)
    return offset, mul_div_down(coll, offset, debt) if offset else 0


@rule
def capped_down(debt: int, price: int, least: int) -> int:
    """The collateral that a trove above the least ratio loses in recovery mode
    (TroveManager._getCappedOffsetVals).
    """
    return mul_div_down(debt, least, price)


@rule
def share_down(coll: int, share: int) -> int:
    """The caller's part of a collateral, ``share`` wad. At 0.5 % that is coll / 200, cut
    (LiquityBase._getCollGasCompensation).
    """
    return mul_div_down(coll, share, WAD)


def decayed(rate: int, minutes: int) -> int:
    """The base rate after so many minutes, cut (TroveManager._calcDecayedBaseRate)."""
    return rate * power_half_up(MINUTE_DECAY, minutes) // WAD


def power_half_up(base: int, exponent: int) -> int:
    """By squaring, each product to nearest (LiquityMath._decPow)."""
    n, x, y = min(exponent, MOST_MINUTES), base, WAD
    if not n:
        return WAD
    while n > 1:
        if n % 2:
            y = _product_half_up(x, y)
        x = _product_half_up(x, x)
        n //= 2
    return _product_half_up(x, y)


def _product_half_up(x: int, y: int) -> int:
    return (x * y + WAD // 2) // WAD


@rule
def borrowing_fee_down(amount: int, rate: int) -> int:
    """The fee of drawing an amount at a base rate (TroveManager._calcBorrowingRate, _calcBorrowingFee)."""
    return mul_div_down(min(FEE_FLOOR + rate, FEE_MOST), amount, WAD)


@rule
def compounded_down(deposit: int, product: int, before: int, scales: int) -> int:
    """What is left of a deposit of the same epoch, ``scales`` scale changes later; nothing where that is less than a
    billionth (StabilityPool._getCompoundedStakeFromSnapshots).
    """
    if scales > 1:
        return 0
    left = mul_div_down(deposit, product, before)
    if scales:
        left = left // SCALE_FACTOR
    return left if left >= deposit // 1_000_000_000 else 0


def gain_down(deposit: int, first: int, second: int, before: int) -> int:
    """ETH that a deposit earned: ``first`` is what the sum of its scale grew by, ``second`` the sum of the next scale
    (StabilityPool._getETHGainFromSnapshots).
    """
    return deposit * (first + second // SCALE_FACTOR) // before // WAD
