"""Integer rules of Gearbox V3.1: interest, quotas, debt, and what a liquidation pays.

Source: Gearbox-protocol/core-v3 at 510fc654, ``contracts/libraries/CreditLogic.sol``, ``QuotasLogic.sol``,
``contracts/pool/LinearInterestRateModelV3.sol``, ``PoolV3.sol``, ``contracts/core/PriceOracleV3.sol``. Indexes and
rates are ray, factors basis points, amounts native units of the underlying unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from backtest.units import BPS, RAY, SECONDS_PER_YEAR, WAD

INDEX_PRECISION = 10**9
RAY_OF_BPS = RAY // BPS


def grown_down(yearly: int, seconds: int) -> int:
    """What a yearly growth comes to in some seconds (CreditLogic.calcLinearGrowth)."""
    return yearly * seconds // SECONDS_PER_YEAR


def index_after_down(index: int, rate: int, seconds: int) -> int:
    """The pool's interest index after some seconds at a rate (PoolV3._calcBaseInterestIndex)."""
    return index * (RAY + grown_down(rate, seconds)) // RAY if seconds else index


def pool_interest_down(borrowed: int, rate: int, seconds: int) -> int:
    """What all principal earns in some seconds (PoolV3._calcBaseInterestAccrued)."""
    return borrowed * grown_down(rate, seconds) // RAY


def quota_index_after_down(index: int, rate: int, seconds: int) -> int:
    """A token's quota index after some seconds at a rate, basis points a year (QuotasLogic.cumulativeIndexSince)."""
    return index + RAY_OF_BPS * seconds * rate // SECONDS_PER_YEAR


def quota_interest_down(quota: int, index: int, last: int) -> int:
    """Interest of a quota between two indexes of its token (QuotasLogic.calcAccruedQuotaInterest)."""
    return quota * (index - last) // RAY


def revenue_change_to_zero(rate: int, change: int) -> int:
    """By how much a change of a quota moves the pool's yearly revenue, rounded towards zero
    (QuotasLogic.calcQuotaRevenueChange).
    """
    return change * rate // BPS if change >= 0 else -(-change * rate // BPS)


def quota_increase(total: int, limit: int, asked: int) -> int:
    """How much of an increase a token's limit leaves (QuotasLogic.calcActualQuotaChange)."""
    return 0 if total >= limit else min(asked, limit - total)


class RateModel(NamedTuple):
    """LinearInterestRateModelV3: basis points, and whether borrowing above ``u2`` is forbidden."""

    u1: int
    u2: int
    base: int
    slope1: int
    slope2: int
    slope3: int
    forbidden: int = 0

    def utilization_down(self, expected: int, available: int) -> int:
        """Wad; 0 where as much is there as is expected."""
        return 0 if expected <= available else WAD * (expected - available) // expected

    def rate_down(self, expected: int, available: int) -> int:
        """Ray a year (``calcBorrowRate``)."""
        used, first, second = self.utilization_down(expected, available), self.u1 * WAD // BPS, self.u2 * WAD // BPS
        rate, slope1, slope2, slope3 = (
            part * RAY_OF_BPS for part in (self.base, self.slope1, self.slope2, self.slope3)
        )
        if expected <= available:
            return rate
        if used <= first:
            return rate + slope1 * used // first
        if used <= second:
            return rate + slope1 + slope2 * (used - first) // (second - first)
        return rate + slope1 + slope2 + slope3 * (used - second) // (WAD - second)

    def refuses(self, expected: int, available: int) -> bool:
        """Whether a loan that leaves the pool so is refused (BorrowingMoreThanU2ForbiddenException)."""
        return bool(self.forbidden) and self.utilization_down(expected, available) > self.u2 * WAD // BPS


def accrued_down(debt: int, last: int, index: int) -> int:
    """Interest on a principal between two indexes of the pool (CreditLogic.calcAccruedInterest)."""
    return debt * index // last - debt if debt else 0


def fee_down(amount: int, fee: int) -> int:
    """A fee of some basis points."""
    return amount * fee // BPS


def increased(amount: int, debt: int, index: int, last: int) -> tuple[int, int]:
    """Principal and the account's index after borrowing more (CreditLogic.calcIncrease)."""
    if not debt:
        return amount, index
    after = debt + amount
    return after, index * after * INDEX_PRECISION // (INDEX_PRECISION * index * debt // last + INDEX_PRECISION * amount)


@dataclass(frozen=True, slots=True)
class Owed:
    """What an account owes at a moment (CollateralDebtData): principal, the pool's index and the account's own,
    interest on the principal and on quotas, and fees for new quotas; ``fee``: the treasury's share of interest.
    """

    debt: int
    index: int
    last: int
    quota_interest: int
    quota_fees: int
    fee: int

    @property
    def base_interest(self) -> int:
        """On the principal."""
        return accrued_down(self.debt, self.last, self.index)

    @property
    def interest(self) -> int:
        """``accruedInterest``."""
        return self.base_interest + self.quota_interest

    @property
    def fees(self) -> int:
        """``accruedFees``; each part is cut by itself."""
        return self.quota_fees + fee_down(self.base_interest, self.fee) + fee_down(self.quota_interest, self.fee)

    @property
    def total(self) -> int:
        """``calcTotalDebt``."""
        return self.debt + self.interest + self.fees


@dataclass(frozen=True, slots=True)
class Repaid:
    """What a repayment of ``amount`` leaves, and what the treasury got (``profit``)."""

    amount: int
    debt: int
    last: int
    profit: int
    quota_interest: int
    quota_fees: int


def decreased(amount: int, owed: Owed) -> Repaid:
    """A repayment: fees of quotas, interest on them, interest on the principal, the principal
    (CreditManagerV3.manageDebt, CreditLogic.calcDecrease). More than is owed is not taken.
    """
    if amount >= owed.total:
        return Repaid(owed.total, 0, owed.index, owed.fees, 0, 0)
    left = amount
    profit = min(left, owed.quota_fees)
    left -= profit
    quota_fees, quota_interest, last = owed.quota_fees - profit, owed.quota_interest, owed.last
    if quota_interest and left:
        share = fee_down(quota_interest, owed.fee)
        if left >= quota_interest + share:
            left -= quota_interest + share
            profit += share
            quota_interest = 0
        else:
            to_pool = left * BPS // (BPS + owed.fee)
            profit += left - to_pool
            left = 0
            quota_interest -= to_pool
    if left:
        interest = owed.base_interest
        share = fee_down(interest, owed.fee)
        if left >= interest + share:
            left -= interest + share
            profit += share
            last = owed.index
        else:
            to_pool = left * BPS // (BPS + owed.fee)
            profit += left - to_pool
            left = 0
            last = (INDEX_PRECISION * owed.index * owed.last) // (
                INDEX_PRECISION * owed.index - INDEX_PRECISION * to_pool * owed.last // owed.debt
            )
    return Repaid(amount, owed.debt - left, last, profit, quota_interest, quota_fees)


@dataclass(frozen=True, slots=True)
class Payments:
    """What a full liquidation pays: to the pool, to the account's owner at least, to the treasury out of what the pool
    got, and what the pool lacks.
    """

    to_pool: int
    to_owner: int
    profit: int
    loss: int


def payments(owed: Owed, value: int, fee: int, discount: int) -> Payments:
    """CreditLogic.calcLiquidationPayments; ``value``: of all collateral, in the underlying. ``discount``: 10,000 less
    the premium.
    """
    with_interest = owed.debt + owed.interest
    funds = value * discount // BPS
    to_pool = owed.total + fee_down(value, fee)
    to_owner = funds - to_pool if funds > to_pool else 0
    if funds <= to_pool:
        to_pool = funds
    return Payments(to_pool, to_owner, max(to_pool - with_interest, 0), max(with_interest - to_pool, 0))


def threshold_at(initial: int, final: int, start: int, end: int, time: int) -> int:
    """A liquidation threshold that moves from one value to another (CreditLogic.getLiquidationThreshold)."""
    if time <= start:
        return initial
    if time >= end:
        return final
    return (initial * (end - time) + final * (time - start)) // (end - start)


def worth_down(amount: int, price: int, scale: int) -> int:
    """Base units of an amount (PriceOracleV3.convertToUSD)."""
    return amount * price // scale


def bought_down(value: int, price: int, scale: int) -> int:
    """Native units for base units (PriceOracleV3.convertFromUSD)."""
    return value * scale // price


def quota_worth_down(quota: int, price: int, scale: int) -> int:
    """Base units that a quota lets its token count for at most (CollateralLogic.calcCollateral: the underlying's price
    of a ray units, which is cut first).
    """
    return quota * (RAY * price // scale) // RAY


def seized_down(amount: int, price: int, scale: int, other_price: int, other_scale: int, discount: int) -> int:
    """How much of a token a partial liquidation takes for an amount of the underlying
    (CreditFacadeV3._calcPartialLiquidationPayments, PriceOracleV3.convert); cut twice.
    """
    return amount * price * other_scale // (other_price * scale) * BPS // discount
