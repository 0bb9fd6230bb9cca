"""Fixed-point arithmetic of Comet. Every function names its rounding.

Sources: compound-finance/comet (``main`` of 29 May 2026), ``contracts/CometCore.sol``, ``Comet.sol`` and
``CometWithExtendedAssetList.sol``, whose bodies of the functions named here are the same in both.
"""

from __future__ import annotations

from backtest.units import WAD, mul_div_down, mul_div_up
from backtest.words import rule

INDEX = 10**15
"""One, as indexes count (CometCore.BASE_INDEX_SCALE)."""
ACCRUAL = 10**6
"""What rewards count in for one token (CometCore.BASE_ACCRUAL_SCALE)."""


@rule
def present_down(principal: int, index: int) -> int:
    """What a principal, not negative, is worth: CometCore.presentValueSupply and presentValueBorrow, both cut."""
    return mul_div_down(principal, index, INDEX)


@rule
def supplied_down(value: int, index: int) -> int:
    """The principal of a supplied value (CometCore.principalValueSupply)."""
    return mul_div_down(value, INDEX, index)


@rule
def borrowed_up(value: int, index: int) -> int:
    """The principal of a borrowed value (CometCore.principalValueBorrow)."""
    return mul_div_up(value, INDEX, index)


@rule
def present_value(principal: int, supply_index: int, borrow_index: int) -> int:
    """CometCore.presentValue: what an account has, or below zero owes; towards zero on both sides."""
    if principal >= 0:
        return present_down(principal, supply_index)
    return -present_down(-principal, borrow_index)


@rule
def principal_value(value: int, supply_index: int, borrow_index: int) -> int:
    """CometCore.principalValue: rounds what is supplied down and what is owed up, so against the account."""
    if value >= 0:
        return supplied_down(value, supply_index)
    return -borrowed_up(-value, borrow_index)


@rule
def utilization_down(supplied: int, borrowed: int) -> int:
    """Wad, of present values (Comet.getUtilization); 0 where nothing is supplied."""
    return mul_div_down(borrowed, WAD, supplied) if supplied else 0


@rule
def rate_down(utilization: int, kink: int, base: int, low: int, high: int) -> int:
    """Wad a second (Comet.getSupplyRate, getBorrowRate): each product is cut."""
    if utilization <= kink:
        return base + mul_div_down(low, utilization, WAD)
    return base + mul_div_down(low, kink, WAD) + mul_div_down(high, utilization - kink, WAD)


@rule
def accrued_down(index: int, rate: int, seconds: int) -> int:
    """An index after some time at one rate (Comet.accruedInterestIndices)."""
    return index + mul_div_down(index, rate * seconds, WAD)


@rule
def tracked_down(index: int, speed: int, seconds: int, total: int, least: int, base_scale: int) -> int:
    """The index of rewards after some time (Comet.accrueInternal, divBaseWei): rests below ``least`` of principal."""
    if total < least:
        return index
    return index + mul_div_down(speed * seconds, base_scale, total)


@rule
def rewards_down(principal: int, index_delta: int, index_scale: int, base_scale: int) -> int:
    """What a principal, not negative, earns while its index grows (Comet.updateBasePrincipal): cut twice."""
    return principal * index_delta // index_scale // (base_scale // ACCRUAL)


@rule
def worth_down(amount: int, price: int, scale: int) -> int:
    """Comet.mulPrice; of debts Comet.signedMulPrice, which rounds them towards zero."""
    return mul_div_down(amount, price, scale)


@rule
def base_for_down(value: int, price: int, base_scale: int) -> int:
    """Comet.divPrice: base tokens of a value."""
    return mul_div_down(value, base_scale, price)


@rule
def discounted_down(price: int, store_front_factor: int, liquidation_factor: int) -> int:
    """What the protocol sells a collateral for (Comet.quoteCollateral): the price less the share of the penalty that
    buyers get; discount and price are each cut.
    """
    discount = mul_div_down(store_front_factor, WAD - liquidation_factor, WAD)
    return mul_div_down(price, WAD - discount, WAD)


@rule
def bought_down(base_amount: int, base_price: int, price: int, scale: int, base_scale: int) -> int:
    """Collateral for base tokens at a discounted ``price`` (Comet.quoteCollateral): two divisions, each cut."""
    return base_price * base_amount * scale // price // base_scale


@rule
def paid_up(amount: int, base_price: int, price: int, scale: int, base_scale: int) -> int:
    """The least base tokens for which ``bought_down`` gives so much collateral: its inverse, exact."""
    return mul_div_up(amount * base_scale, price, base_price * scale)
