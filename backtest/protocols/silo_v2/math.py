"""Shares, values, interest with its fractions, what a liquidation repays and takes, each cut where the contract cuts.

Source: silo-finance/silo-contracts-v2 at 340a49b8 (3.18.0), ``silo-core/contracts/lib/SiloMathLib.sol``,
``SiloSolvencyLib.sol``, ``SiloLendingLib.sol``, ``hooks/liquidation/lib/PartialLiquidationLib.sol``; the same rules
since 1.0.0, but for ``fraction_down``, which came with 3.0.0. Assets and shares are native units, ratios and fees wad.
"""

from __future__ import annotations

from typing import NamedTuple

from backtest.units import UINT256_MAX, WAD, mul_div_down, mul_div_up

OFFSET = 10**3
"""Shares of one native unit while a silo is empty (SiloMathLib._DECIMALS_OFFSET_POW); debt has none."""
BAD_DEBT = WAD
"""Loan-to-value from which any part may be repaid (PartialLiquidationLib._BAD_DEBT)."""
FULL_LIQUIDATION = 9 * WAD // 10
"""Above this part of the debt all of it is to be repaid (PartialLiquidationLib._FULL_LIQUIDATION_THRESHOLD)."""
UNDERESTIMATION = 2
"""PartialLiquidationLib._UNDERESTIMATION, of the view ``maxLiquidation`` alone."""
FRACTIONS_BELOW = 10**13
"""A debt from which what rounding leaves of interest is not kept (SiloLendingLib._ROUNDING_THRESHOLD)."""
INFINITE = UINT256_MAX
"""Loan-to-value of whoever owes something against nothing (SiloSolvencyLib._INFINITY)."""


class SharePool(NamedTuple):
    """Assets and shares of one kind in a silo; ``debt``: borrowed ones, which have no virtual share."""

    assets: int
    shares: int
    debt: bool = False

    def _sums(self) -> tuple[int, int]:
        """SiloMathLib._commonConvertTo: what is left of assets where nobody has a share counts for nobody."""
        assets = self.assets if self.shares else 0
        return (assets, self.shares) if self.debt else (assets + 1, self.shares + OFFSET)

    def shares_down(self, assets: int) -> int:
        """SiloMathLib.convertToShares, floor. ZeroDivisionError for shares of nothing, as the contract reverts."""
        total, shares = self._sums()
        return assets if shares == 0 else mul_div_down(assets, shares, total)

    def shares_up(self, assets: int) -> int:
        """The same, ceil."""
        total, shares = self._sums()
        return assets if shares == 0 else mul_div_up(assets, shares, total)

    def assets_down(self, shares: int) -> int:
        """SiloMathLib.convertToAssets, floor."""
        total, all_shares = self._sums()
        return shares if all_shares == 0 else mul_div_down(shares, total, all_shares)

    def assets_up(self, shares: int) -> int:
        """The same, ceil."""
        total, all_shares = self._sums()
        return shares if all_shares == 0 else mul_div_up(shares, total, all_shares)


def liquidity(collateral: int, debt: int) -> int:
    """What may be borrowed or withdrawn (SiloMathLib.liquidity)."""
    return max(0, collateral - debt)


def ltv_up(debt_value: int, collateral_value: int) -> int:
    """Loan-to-value, wad (SiloSolvencyLib.calculateLtv, ltvMath)."""
    if not collateral_value:
        return INFINITE if debt_value else 0
    return mul_div_up(debt_value, WAD, collateral_value)


def utilisation_down(collateral: int, debt: int) -> int:
    """Wad, at most one (SiloMathLib.calculateUtilization)."""
    return min(WAD, mul_div_down(debt, WAD, collateral)) if collateral and debt else 0


def interest_down(debt: int, rcomp: int) -> int:
    """What an accrual adds to a debt (SiloMathLib.getDebtAmountsWithInterest, mulDivOverflow); nothing where it would
    need more than 256 bits.
    """
    if debt * rcomp > UINT256_MAX:
        return 0
    interest = mul_div_down(debt, rcomp, WAD)
    return interest if debt + interest <= UINT256_MAX else 0


def fees_down(interest: int, fees: int) -> int:
    """The DAO's and the deployer's part of interest (SiloMathLib.getCollateralAmountsWithInterest)."""
    return mul_div_down(interest, fees, WAD) if interest * fees <= UINT256_MAX else 0


def fraction_down(total: int, percent: int, fraction: int) -> tuple[int, int]:
    """The unit (0 or 1) that remainders have come to, and what remains, wad (SiloMathLib.calculateFraction)."""
    if not total:
        return 0, fraction
    if total * percent > UINT256_MAX:
        return 0, 0
    return divmod(fraction + total * percent % WAD, WAD)


def by_ratio_down(value: int, assets: int, of_value: int) -> int:
    """Assets that a part of a value stands for, or the other way round (PartialLiquidationLib.valueToAssetsByRatio).
    ZeroDivisionError where the whole is worth nothing (UnknownRatio).
    """
    return mul_div_down(value, assets, of_value)


def max_repay_down(debt: int, collateral: int, target: int, fee: int) -> int:
    """The most that may be repaid, as a value, so that the loan-to-value comes down to ``target``; all of the debt
    where that is above 90 % of it, or cannot be reached (PartialLiquidationLib.estimateMaxRepayValue).

    Args:
        debt, collateral: values. target, fee: wad.
    """
    if not debt or fee >= WAD:
        return 0
    if debt >= collateral or not target:
        return debt
    if target * collateral >= debt * WAD:
        return 0
    divider = target + mul_div_down(target, fee, WAD)
    if divider >= WAD:
        return debt
    repay = (debt * WAD - target * collateral) // (WAD - divider)
    if repay > debt or mul_div_down(repay, WAD, debt) > FULL_LIQUIDATION:
        return debt
    return repay


def taken_down(repaid: int, collateral: int, fee: int) -> int:
    """Collateral for what is repaid and the liquidator's fee, at most all: values, or assets of one token
    (PartialLiquidationLib.calculateCollateralToLiquidate).
    """
    return min(collateral, repaid + mul_div_down(repaid, fee, WAD))


class Backed(NamedTuple):
    """A borrower's collateral of both kinds and debt: native units, and values by the solvency oracles."""

    collateral: int
    collateral_value: int
    debt: int
    debt_value: int

    @property
    def ltv(self) -> int:
        """Wad, rounded up."""
        return ltv_up(self.debt_value, self.collateral_value)


def liquidation_down(worth: Backed, most: int, target: int, fee: int) -> tuple[int, int]:
    """Collateral that a call takes and debt that it repays, native units (PartialLiquidationLib.liquidationPreview).

    Args:
        most: what the call offers (``_maxDebtToCover``). target: liquidationTargetLtv, wad. fee: wad.

    Raises:
        ZeroDivisionError: collateral or debt is worth nothing (UnknownRatio).
    """
    if worth.ltv >= BAD_DEBT:
        repaid = min(most, worth.debt)
        value = by_ratio_down(repaid, worth.debt_value, worth.debt)
    else:
        most_value = max_repay_down(worth.debt_value, worth.collateral_value, target, fee)
        if most_value == worth.debt_value:
            repaid, value = worth.debt, worth.debt_value
        else:
            repaid = min(most, by_ratio_down(most_value, worth.debt, worth.debt_value))
            value = by_ratio_down(repaid, worth.debt_value, worth.debt)
    taken = taken_down(value, worth.collateral_value, fee)
    return by_ratio_down(taken, worth.collateral, worth.collateral_value), repaid


def max_liquidation_down(worth: Backed, target: int, fee: int) -> tuple[int, int]:
    """What the view says may be taken and repaid, two units of collateral short (PartialLiquidationLib.maxLiquidation).

    Raises:
        ZeroDivisionError: collateral or debt is worth nothing.
    """
    repay = max_repay_down(worth.debt_value, worth.collateral_value, target, fee)
    value = taken_down(repay, worth.collateral_value, fee)
    taken = by_ratio_down(value, worth.collateral, worth.collateral_value)
    return max(0, taken - UNDERESTIMATION), by_ratio_down(repay, worth.debt, worth.debt_value)


def least_repay_up(worth: Backed, fee: int) -> int:
    """The least debt that takes all collateral, at most the whole: the inverse of ``taken_down`` and of the ratio.

    Exact; the debt is worth something.
    """
    value = mul_div_up(worth.collateral_value, WAD, WAD + fee)
    return min(worth.debt, mul_div_up(value, worth.debt, worth.debt_value))


def split(taken: int, protected: int) -> tuple[int, int]:
    """Collateral that is taken from what is lent and from what is protected: that first
    (PartialLiquidationLib.splitReceiveCollateralToLiquidate).
    """
    return max(0, taken - protected), min(taken, protected)
