"""How much debt is repaid for how much collateral, at terms that are not the protocol's: exact integers, prices and
units as in ``Book``.

A ``factor`` is wad: the value of the collateral that leaves the account for each unit of value of the debt repaid; one
plus the bonus.
"""

from __future__ import annotations

from backtest.units import BPS, WAD


def seized_down(repaid: int, debt_price: int, debt_unit: int, price: int, unit: int, factor: int) -> int:
    """Collateral for a repayment, native units."""
    return repaid * debt_price * unit * factor // (price * debt_unit * WAD)


def repaid_up(seized: int, debt_price: int, debt_unit: int, price: int, unit: int, factor: int) -> int:
    """The repayment that all of some collateral is worth, native units."""
    return -(-seized * price * debt_unit * WAD // (debt_price * unit * factor))


def health_bonus_down(health: int, bonus: int, least: int, lowest: int) -> int:
    """Factor, wad. ``bonus`` (10000 + bonus), ``least`` and ``lowest`` in ten-thousandths, health wad below one.

    aave-v4 ``LiquidationLogic.sol`` ``calculateLiquidationBonus``: from its least at a health of one in a straight line
    to the largest.
    """
    most, floor = bonus * WAD // BPS, (BPS * BPS + (bonus - BPS) * least) * WAD // (BPS * BPS)
    low = lowest * WAD // BPS
    return most if health <= low else floor + (most - floor) * (WAD - health) // (WAD - low)


def harmless_down(factor: int, collateral_base: int, debt_base: int) -> int:
    """A factor that leaves no less collateral for each unit of debt than there was: at most collateral / debt, and one
    at least.
    """
    return max(WAD, min(factor, collateral_base * WAD // debt_base)) if debt_base else factor


def debt_to_target_up(debt_base: int, health: int, target: int, factor: int, weight: int) -> int | None:
    """Value of the debt to repay so that health reaches ``target``: D (T - HF) / (T - factor x weight); all wad but the
    values.

    None where no repayment gets there, since each unit repaid takes as much weighted collateral as the target asks for
    it.
    """
    per_unit = target - factor * weight // WAD
    return -(-debt_base * (target - health) // per_unit) if per_unit > 0 else None


def discount_factor_down(health: int, most: int) -> int:
    """Factor, wad, of a discount of one less health, at most ``most`` basis points: 1 / (1 - discount).

    Euler V2 ``Liquidation.sol`` ``calculateMaxLiquidation``: the discount factor is the health score, and no less than
    the configured one.
    """
    return WAD * WAD // max(health, (BPS - most) * WAD // BPS)
