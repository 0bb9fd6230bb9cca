"""Shares, loan-to-value, interest and what a liquidation takes, each cut where the contract cuts.

Source: FraxFinance/fraxlend at 2bed49d4 (pairs of version 3.0.0), ``src/contracts/libraries/VaultAccount.sol``,
``FraxlendPairCore.sol``, ``VariableInterestRate.sol`` (2.0.0). Amounts and shares are native units, fees and
loan-to-value are of 10^5, rates wad a second; an exchange rate is native collateral for 10^18 native units lent.
"""

from __future__ import annotations

from typing import NamedTuple

from backtest.units import WAD, mul_div_down, mul_div_up

PRECISION = 10**5
"""LTV_PRECISION, LIQ_PRECISION, UTIL_PREC, FEE_PRECISION and DEVIATION_PRECISION of ``FraxlendPairConstants.sol``."""
MOST = 2**128
"""Totals are of 128 bits: interest that would make them longer is not accrued."""


def to_shares_down(amount: int, total: int, shares: int) -> int:
    """VaultAccount.toShares(amount, false)."""
    return amount if total == 0 else mul_div_down(amount, shares, total)


def to_shares_up(amount: int, total: int, shares: int) -> int:
    """VaultAccount.toShares(amount, true). ZeroDivisionError for a total without shares, as the contract reverts."""
    if total == 0:
        return amount
    down = mul_div_down(amount, shares, total)
    return down + (mul_div_down(down, total, shares) < amount)


def to_amount_down(amount_of: int, total: int, shares: int) -> int:
    """VaultAccount.toAmount(shares, false): what ``amount_of`` shares are worth."""
    return amount_of if shares == 0 else mul_div_down(amount_of, total, shares)


def to_amount_up(amount_of: int, total: int, shares: int) -> int:
    """VaultAccount.toAmount(shares, true). ZeroDivisionError for shares of nothing, as the contract reverts."""
    if shares == 0:
        return amount_of
    down = mul_div_down(amount_of, total, shares)
    return down + (mul_div_down(down, shares, total) < amount_of)


def ltv_down(debt: int, rate: int, collateral: int) -> int:
    """Loan-to-value, cut twice (FraxlendPairCore._isSolvent); ``collateral`` is above zero."""
    return mul_div_down(mul_div_down(debt, rate, WAD), PRECISION, collateral)


class RateCurve(NamedTuple):
    """Immutables of a ``VariableInterestRate``: utilisations of 10^5, rates wad a second, seconds, a share in wad."""

    min_target_util: int
    max_target_util: int
    vertex_utilization: int
    min_full_util_rate: int
    max_full_util_rate: int
    zero_util_rate: int
    rate_half_life: int
    vertex_rate_percent: int


def full_rate_down(curve: RateCurve, elapsed: int, used: int, before: int) -> int:
    """The rate at full use after ``elapsed`` seconds at a utilisation (getFullUtilizationInterest)."""
    life = curve.rate_half_life * WAD * WAD
    new = before
    if used < curve.min_target_util:
        short = mul_div_down(curve.min_target_util - used, WAD, curve.min_target_util)
        new = mul_div_down(before, life, life + short * short * elapsed)
    elif used > curve.max_target_util:
        over = mul_div_down(used - curve.max_target_util, WAD, PRECISION - curve.max_target_util)
        new = mul_div_down(before, life + over * over * elapsed, life)
    # The contract cuts the result to 64 bits before it is bounded.
    return max(curve.min_full_util_rate, min(curve.max_full_util_rate, new % 2**64))


def new_rate_down(curve: RateCurve, elapsed: int, used: int, before: int) -> tuple[int, int]:
    """The rate that an accrual charges for all of ``elapsed`` seconds, and the rate at full use (getNewRate)."""
    full, zero = full_rate_down(curve, elapsed, used, before), curve.zero_util_rate
    vertex = mul_div_down(full - zero, curve.vertex_rate_percent, WAD) + zero
    if used < curve.vertex_utilization:
        return zero + mul_div_down(used, vertex - zero, curve.vertex_utilization), full
    rise = mul_div_down(used - curve.vertex_utilization, full - vertex, PRECISION - curve.vertex_utilization)
    return vertex + rise, full


def utilisation_down(borrowed: int, lent: int) -> int:
    """Of 10^5; nothing where nothing is lent (FraxlendPairCore._calculateInterest)."""
    return mul_div_down(PRECISION, borrowed, lent) if lent else 0


def interest_down(borrowed: int, lent: int, lent_shares: int, fee: int, rate: int, elapsed: int) -> tuple[int, int]:
    """Interest that an accrual adds, and the shares that the fee makes of it (FraxlendPairCore._calculateInterest)."""
    interest = mul_div_down(elapsed * borrowed, rate, WAD)
    if not interest or interest + max(borrowed, lent) >= MOST:
        return 0, 0
    if not fee:
        return interest, 0
    of_fee = mul_div_down(interest, fee, PRECISION)
    return interest, mul_div_down(of_fee, lent_shares, lent + interest - of_fee)


class Taken(NamedTuple):
    """What leaves a borrower, the protocol's part of it, and whether nothing is left: then debt is written off."""

    collateral: int
    fee: int
    whole: bool


def taken_down(repaid: int, rate: int, collateral: int, clean: int, dirty: int, protocol: int) -> Taken:
    """Collateral that a call takes (FraxlendPairCore.liquidate).

    Args:
        repaid: what the shares are worth, rounded down, native units. clean, dirty: fees of 10^5, of a call that
            takes all and of one that does not. protocol: of 10^5, of what is taken.
    """
    worth = mul_div_down(repaid, rate, WAD)
    whole = collateral <= mul_div_down(worth, PRECISION + clean, PRECISION)
    seized = collateral if whole else mul_div_down(worth, PRECISION + dirty, PRECISION)
    return Taken(seized, mul_div_down(protocol, seized, PRECISION), whole)


def least_shares_up(collateral: int, rate: int, clean: int, total: int, shares: int) -> int:
    """The fewest shares whose call takes all of so much collateral: the inverse of ``taken_down``, exact. ``rate`` and
    the totals are above zero.
    """
    worth = mul_div_up(collateral, PRECISION, PRECISION + clean)
    return mul_div_up(mul_div_up(worth, WAD, rate), shares, total)
