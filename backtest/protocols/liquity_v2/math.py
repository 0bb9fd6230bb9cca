"""Arithmetic of Liquity V2 (BOLD). Every function names its rounding.

Source: liquity/bold at b40fa9b9 (the commit that records mainnet's deployment of May 2025; core rules are the same at
405f9122), ``contracts/src/``: ``Dependencies/Constants.sol``, ``LiquityBase.sol``, ``TroveManager.sol``,
``ActivePool.sol``, ``StabilityPool.sol``. Amounts and prices have 18 decimals; rates are wad a year.
"""

from __future__ import annotations

from typing import NamedTuple

from backtest.units import WAD, mul_div_down
from backtest.words import rule

YEAR = 31_536_000
"""Constants.ONE_YEAR."""
GAS_ETHER = 375 * 10**14
"""Constants.ETH_GAS_COMPENSATION: WETH that a trove leaves in the gas pool, and the caller of its liquidation gets."""
GAS_SHARE_MOST = 2 * WAD
"""Constants.COLL_GAS_COMPENSATION_CAP."""
RATE_LEAST, RATE_MOST = WAD // 200, 5 * WAD // 2
"""Constants.MIN_ANNUAL_INTEREST_RATE, MAX_ANNUAL_INTEREST_RATE."""
FEE_MOST = WAD // 10
"""Constants.MAX_ANNUAL_BATCH_MANAGEMENT_FEE."""
UPFRONT_PERIOD = COOLDOWN = 7 * 86_400
"""Constants.UPFRONT_INTEREST_PERIOD, INTEREST_RATE_ADJ_COOLDOWN."""
SHARES_RATIO_MOST = 10**9
"""Constants.MAX_BATCH_SHARES_RATIO."""
POOL_LEAST = WAD
"""Constants.MIN_BOLD_IN_SP: what liquidations and withdrawals leave in the stability pool."""
URGENT_BONUS = WAD // 50
"""Constants.URGENT_REDEMPTION_BONUS."""
POOL_SHARE = 3 * WAD // 4
"""Constants.SP_YIELD_SPLIT."""
PRODUCT_ONE, SCALE_FACTOR = 10**36, 10**9
"""StabilityPool.P_PRECISION, SCALE_FACTOR."""
SCALE_SPAN, SCALES_MOST = 2, 8
"""StabilityPool.SCALE_SPAN, MAX_SCALE_FACTOR_EXPONENT."""


@rule
def interest_down(debt: int, rate: int, period: int) -> int:
    """Simple interest of a debt over some seconds, cut twice (LiquityBase._calcInterest)."""
    return debt * rate * period // 31_536_000 // 1_000_000_000_000_000_000


def aggregate_up(weighted: int, period: int) -> int:
    """The same of all debts weighted by their rates, rounded up (ActivePool.calcPendingAggInterest,
    calcPendingAggBatchManagementFee).
    """
    return -(-weighted * period // (YEAR * WAD))


def average_down(weighted: int, debt: int) -> int:
    """The average rate (ActivePool.getNewApproxAvgInterestRateFromTroveChange)."""
    return weighted // debt if debt else 0


def upfront_fee_down(debt: int, rate: int) -> int:
    """Seven days' interest at the average rate (BorrowerOperations._calcUpfrontFee)."""
    return interest_down(debt, rate, UPFRONT_PERIOD)


@rule
def share_down(amount: int, shares: int, total: int) -> int:
    """A trove's part of what is its batch's (TroveManager._getLatestTroveDataFromBatch)."""
    return mul_div_down(amount, shares, total) if total else 0


class Split(NamedTuple):
    """What becomes of a liquidated trove, native units: debt that the stability pool pays and collateral that it gets,
    debt and collateral that other troves take over, the caller's and the owner's part of the collateral.
    """

    offset: int
    to_pool: int
    debt_shared: int
    coll_shared: int
    gas_coll: int
    surplus: int


@rule
def seized_down(coll: int, debt: int, penalty: int, price: int) -> int:
    """As much of a collateral as a debt with its penalty (one and the penalty, wad) is worth
    (TroveManager._getCollPenaltyAndSurplus).
    """
    return min(coll, mul_div_down(debt, penalty, price))


@rule
def split_down(
    coll: int, debt: int, available: int, price: int, gas_share: int, pool_penalty: int, shared_penalty: int
) -> Split:
    """How a liquidation parts a trove's debt and collateral, ``available`` being what the pool may pay
    (TroveManager._getOffsetAndRedistributionVals, _getCollGasCompensation). What is above the pool's penalty may still
    go to the other troves, up to theirs.
    """
    offset, portion, gas, to_pool, surplus, coll_shared = 0, 0, 0, 0, 0, 0
    if available > 0:
        offset = min(debt, available)
        portion = mul_div_down(coll, offset, debt)
        gas = min(mul_div_down(portion, gas_share, 1_000_000_000_000_000_000), 2_000_000_000_000_000_000)
        to_pool = seized_down(portion - gas, offset, pool_penalty, price)
        surplus = portion - gas - to_pool
    rest = debt - offset
    if rest > 0 and coll > portion:
        left = coll - portion + surplus
        coll_shared = seized_down(left, rest, shared_penalty, price)
        surplus = left - coll_shared
    return Split(offset, to_pool, rest, coll_shared, gas, surplus)


def redeemed_down(lot: int, price: int, rate: int) -> tuple[int, int]:
    """Collateral that a redeemed amount of BOLD gets, and the fee that stays in the trove
    (TroveManager._redeemCollateralFromTrove).
    """
    worth = lot * WAD // price
    fee = worth * rate // WAD
    return worth - fee, fee


def urgent_down(wanted: int, coll: int, debt: int, price: int) -> tuple[int, int]:
    """BOLD that an urgent redemption takes from a trove, and the collateral it gets, 2 % more than it is worth, at most
    all (TroveManager._urgentRedeemCollateralFromTrove).
    """
    lot = min(wanted, debt)
    gets = lot * (WAD + URGENT_BONUS) // price
    if gets > coll:
        return coll * price // (WAD + URGENT_BONUS), coll
    return lot, gets


def product_down(product: int, debt: int, deposits: int) -> tuple[int, int]:
    """The pool's product after it paid ``debt`` of its deposits, and by how many scales it was raised
    (StabilityPool.offset).
    """
    numerator, scales = product * (deposits - debt), 0
    while (found := numerator // deposits) < PRODUCT_ONE // SCALE_FACTOR:
        numerator *= SCALE_FACTOR
        scales += 1
    return found, scales


def compounded_down(deposit: int, product: int, before: int, scales: int) -> int:
    """What is left of a deposit, ``scales`` scale changes later (StabilityPool.getCompoundedBoldDeposit)."""
    if scales > SCALES_MOST:
        return 0
    divisor: int = SCALE_FACTOR**scales
    return deposit * product // before // divisor


def gain_down(deposit: int, sums: tuple[int, ...], before: int) -> int:
    """What a deposit earned: ``sums`` are what the sum of its scale grew by and the sums of the next ones, each counted
    a scale less (StabilityPool.getDepositorCollGain, getDepositorYieldGain).
    """
    grown = 0
    for scales, value in enumerate(sums):
        grown += value // int(SCALE_FACTOR**scales)
    return deposit * grown // before
