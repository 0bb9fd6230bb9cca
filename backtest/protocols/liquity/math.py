"""Arithmetic that Liquity V1 and V2 have in common. Every function names its rounding.

Source: liquity/dev at 5174ecd0, ``packages/contracts/contracts/``, and liquity/bold at b40fa9b9, ``contracts/src/``:
``Dependencies/LiquityMath.sol``, ``TroveManager.sol``, whose text is the same in both. Amounts and prices have 18
decimals.
"""

from __future__ import annotations

from backtest.units import UINT256_MAX, WAD, mul_div_down
from backtest.words import rule


def ratio_down(coll: int, debt: int, price: int) -> int:
    """Collateral ratio, wad; without debt the greatest number (LiquityMath._computeCR)."""
    return mul_div_down(coll, price, debt) if debt else UINT256_MAX


@rule
def health_down(coll: int, debt: int, price: int, least: int) -> int:
    """The collateral ratio over the least one, wad: below one exactly where the ratio is below the least."""
    return mul_div_down(mul_div_down(coll, price, debt), WAD, least)


@rule
def reward_down(stake: int, grown: int) -> int:
    """What a stake was given while a sum per unit staked grew (V1: TroveManager.getPendingETHReward and
    getPendingLUSDDebtReward; V2: TroveManager._getLatestTroveData).
    """
    return mul_div_down(stake, grown, WAD)


@rule
def stake_down(coll: int, stakes: int, colls: int) -> int:
    """The stake of a collateral, by the snapshots of all stakes and all collateral (TroveManager._computeNewStake)."""
    return mul_div_down(coll, stakes, colls) if colls else coll


def per_unit_down(amount: int, error: int, units: int) -> tuple[int, int]:
    """What each unit gets of an amount and of what was left over before, wad; and what is left over now
    (TroveManager._redistributeDebtAndColl; V1: StabilityPool._computeRewardsPerUnitStaked too).
    """
    numerator = amount * WAD + error
    each = numerator // units
    return each, numerator - each * units
