"""Fixed-point arithmetic of Compound V2 and of its interest rate models. Every function names its rounding.

Sources: compound-finance/compound-protocol, ``contracts/ExponentialNoError.sol`` (``mul_``, ``div_``: cut),
``contracts/Exponential.sol`` up to Comptroller G5 (``mulExp``: to nearest), ``contracts/CToken.sol``,
``contracts/Comptroller.sol``, ``contracts/JumpRateModel.sol``, ``contracts/WhitePaperInterestRateModel.sol``. A
mantissa is a number times 1e18 (a wad).
"""

from __future__ import annotations

from backtest.units import WAD
from backtest.words import rule

MOST_RATE = 5 * 10**12
"""CTokenInterfaces.borrowRateMaxMantissa: a period of interest above it is refused."""
NO_KINK = 10**37
"""The kink of a model without one: utilisation never reaches it."""
HALF_UP, CUT, DEPRECATING = 1, 2, 3
"""Revisions of the Comptroller: products to nearest (up to G5); products cut (from G6); the same, and whoever owes a
deprecated market may be liquidated (from G7, ``isDeprecated``)."""


@rule
def mul_down(a: int, b: int) -> int:
    """ExponentialNoError.mul_ of two mantissas, and mul_ScalarTruncate."""
    return a * b // WAD


@rule
def mul_half_up(a: int, b: int) -> int:
    """Exponential.mulExp: half the scale is added before it is cut."""
    return (a * b + WAD // 2) // WAD


@rule
def product(a: int, b: int, revision: int) -> int:
    """Two mantissas multiplied as this revision of the Comptroller does."""
    return mul_half_up(a, b) if revision == HALF_UP else mul_down(a, b)


@rule
def div_down(a: int, b: int) -> int:
    """ExponentialNoError.div_ and Exponential.getExp: ``a`` / ``b``, a mantissa; ZeroDivisionError as they revert."""
    return a * WAD // b


@rule
def tokens_to_denom(factor: int, rate: int, price: int, revision: int) -> int:
    """What a cToken counts for as collateral, mantissa (Comptroller.getHypotheticalAccountLiquidityInternal):
    collateral factor x exchange rate, then x price.
    """
    return product(product(factor, rate, revision), price, revision)


@rule
def seize_tokens_down(
    repaid: int, incentive: int, price_borrowed: int, price_collateral: int, rate: int, revision: int
) -> int:
    """Comptroller.liquidateCalculateSeizeTokens: cTokens for ``repaid`` units; two products, a quotient, a product."""
    ratio = div_down(product(incentive, price_borrowed, revision), product(price_collateral, rate, revision))
    return mul_down(ratio, repaid)


@rule
def exchange_rate_down(cash: int, borrows: int, reserves: int, supply: int) -> int:
    """CToken.exchangeRateStoredInternal where there are cTokens."""
    return (cash + borrows - reserves) * WAD // supply


@rule
def borrow_balance_down(principal: int, index: int, since: int) -> int:
    """CToken.borrowBalanceStoredInternal: ``principal`` as of index ``since``."""
    return principal * index // since


@rule
def borrow_rate_down(
    cash: int, borrows: int, reserves: int, base: int, slope: int, jump: int, kink: int
) -> int:  # fmt: skip
    """JumpRateModel.getBorrowRate, a mantissa a period; WhitePaperInterestRateModel.getBorrowRate with ``NO_KINK``."""
    used = borrows * WAD // (cash + borrows - reserves) if borrows else 0
    if used <= kink:
        return used * slope // WAD + base
    return (used - kink) * jump // WAD + (kink * slope // WAD + base)


@rule
def factor_up(before: int, after: int) -> int:
    """The simple interest factor that took a borrow index from ``before`` to ``after`` (both from 1e18 on).

    CToken.accrueInterest adds floor(factor x before / 1e18), and no two whole factors add the same to an index of at
    least one: the least that adds ``after - before`` is the one.
    """
    return -((before - after) * WAD // before)
