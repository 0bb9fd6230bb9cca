"""The rules of Aave V2 as plain integers: interest, balances, health, and what one liquidation takes.

Source: aave/protocol-v2 (npm @aave/protocol-v2 1.0.1; the repository's head of 2023-01-11 computes the same), paths
relative to ``contracts/protocol/``. Pool revisions 1 and 2 are that code. Later revisions (the offboarding of stable
debt, from November 2023) are not published where these rules could be read from, and are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from backtest.errors import RulesError
from backtest.protocols.aave.math import (
    percent_div_half_up,
    percent_mul_half_up,
    ray_div_half_up,
    ray_mul_half_up,
    wad_div_half_up,
)
from backtest.units import BPS, RAY, SECONDS_PER_YEAR, WAD
from backtest.words import rule

CLOSE_FACTOR = 5_000
"""Basis points of the debt in one reserve that one call may repay (``lendingpool/LendingPoolCollateralManager.sol``
LIQUIDATION_CLOSE_FACTOR_PERCENT).
"""
LIQUIDATION_HEALTH = WAD
"""``libraries/logic/GenericLogic.sol`` HEALTH_FACTOR_LIQUIDATION_THRESHOLD."""
REVISIONS = (1, 2)
TESTED = 2
"""The revision whose bytecode the tests run (LENDINGPOOL_REVISION)."""

OTHER_BALANCES: Mapping[str, str] = {
    "0x1982b2f5814301d4e9a8b0201555376e62f82428": "an aToken that rebases with stETH",
    "0x1e6bb68acec8fefbd87d192be09bb274170a0548": "an aToken that rebases with AMPL",
}
"""aTokens of their own kind, by address (aave-address-book, AaveV2Ethereum): what their scaled balances are worth,
these rules do not know.
"""

ASSUMPTIONS = (
    "Underlying that somebody sends to an aToken by hand is not in any log of the market: liquidity counts what calls"
    " brought and took.",
    "Assets whose aToken rebases with its underlying (stETH and AMPL on Ethereum) have no exact balance: whoever holds"
    " one as collateral, or owes it, is not valued and not liquidated.",
)


class Taken(NamedTuple):
    """Native units: repaid by the liquidator, taken from the borrower."""

    repaid: int
    seized: int


def revision_known(revision: int, block_number: int) -> int:
    """The revision; RulesError for one without rules, which names the block at which it came into force."""
    if revision not in REVISIONS:
        raise RulesError(
            f"pool revision {revision} at block {block_number} is unknown; the rules cover revisions"
            f" {REVISIONS[0]} to {REVISIONS[-1]} of Aave V2",
            "replay up to the block before it (to_block), or add its rules to backtest/protocols/aave_v2/rules.py",
        )
    return revision


def label(revision: int) -> str:
    """For results: ``aave-v2 (pool revision 2)``."""
    return f"aave-v2 (pool revision {revision})"


def parameter_fault(values: Mapping[str, int]) -> str | None:
    """Why the configurator would refuse these parameters of a reserve (basis points), or None.

    ``lendingpool/LendingPoolConfigurator.sol`` configureReserveAsCollateral: loan-to-value at most the threshold; with
    a threshold, a bonus above 100 % and threshold times bonus (to nearest) at most 100 %; without one, no bonus.
    """
    ltv, threshold, bonus = (values.get(name, 0) for name in ("ltv", "liquidation_threshold", "liquidation_bonus"))
    if ltv > threshold:
        return f"loan-to-value {ltv} is above the threshold {threshold}"
    if not threshold:
        return f"a bonus of {bonus} without a threshold" if bonus else None
    if bonus <= BPS:
        return f"the bonus {bonus} is not above 100 %"
    if percent_mul_half_up(threshold, bonus) > BPS:
        return f"threshold {threshold} with bonus {bonus} would seize more than all collateral"
    return None


@rule
def compounded_interest(rate: int, elapsed: int) -> int:
    """Growth factor (ray) of a yearly ``rate`` (ray) over ``elapsed`` seconds: three terms of the binomial series, of
    the rate per second rounded down (``libraries/math/MathUtils.sol`` calculateCompoundedInterest).
    """
    if elapsed == 0:
        return RAY
    minus_one = elapsed - 1
    minus_two = elapsed - 2 if elapsed > 2 else 0
    second_rate = rate // SECONDS_PER_YEAR
    power_two = ray_mul_half_up(second_rate, second_rate)
    power_three = ray_mul_half_up(power_two, second_rate)
    second = elapsed * minus_one * power_two // 2
    third = elapsed * minus_one * minus_two * power_three // 6
    return RAY + second_rate * elapsed + second + third


@rule
def scaled_change(value: int, index: int, sign: int) -> int:
    """Scaled units that a token's log of ``value`` native units adds or takes: to nearest, whatever the log
    (``tokenization/AToken.sol`` mint, burn, mintToTreasury, _transfer; ``VariableDebtToken.sol`` mint, burn).
    """
    return sign * ray_div_half_up(value, index)


@rule
def health_of(collateral: int, weighted: int, debt: int) -> int:
    """Wad; the average threshold is rounded down first (GenericLogic calculateUserAccountData,
    calculateHealthFactorFromBalances).
    """
    average = weighted // collateral if collateral else 0
    return wad_div_half_up(percent_mul_half_up(collateral, average), debt)


@rule
def taken_for(repaid: int, held: int, bonus: int, debt_price: int, debt_unit: int, price: int, unit: int) -> Taken:
    """What is repaid, and the collateral that is taken for it: with the bonus, applied before the division, or all that
    is ``held`` and the debt for that without it (LendingPoolCollateralManager
    _calculateAvailableCollateralToLiquidate).
    """
    most = percent_mul_half_up(debt_price * repaid * unit, bonus) // (price * debt_unit)
    if most <= held:
        return Taken(repaid, most)
    needed = percent_div_half_up(price * held * debt_unit // (debt_price * unit), bonus)
    return Taken(min(needed, repaid), held)


@rule
def decreased_health(collateral: int, average: int, less: int, threshold: int, debt: int) -> int:
    """Health (wad) once ``less`` of a collateral's value is gone, by the account's average threshold, which was rounded
    down before (GenericLogic balanceDecreaseAllowed).
    """
    left = collateral - less
    average_left = (collateral * average - less * threshold) // left
    return wad_div_half_up(percent_mul_half_up(left, average_left), debt)
