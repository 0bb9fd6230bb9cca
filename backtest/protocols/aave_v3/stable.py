"""Stable-rate debt of 3.0 and 3.1: what its token does to one account and to the reserve's totals, and the rate of a
new loan.

Source: StableDebtToken (ST) mint, burn, balanceOf, _calcTotalSupply; DefaultReserveInterestRateStrategy
calculateInterestRates (aave/aave-v3-core, npm @aave/core-v3 1.19.3; aave-dao/aave-v3-origin v3.1.0 has that token too).
Each account accrues by its own rate and the reserve's total by the average of all, each from its own last change, so
the two drift apart by rounding; the token puts up with that, and so do these rules.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.protocols.aave_v3.math import compounded_interest_v30, ray_div_half_up, ray_mul_half_up
from backtest.protocols.aave_v3.state import Reserve, StableDebt
from backtest.units import RAY

WAD_TO_RAY = 10**9
MOST_OF_LIQUIDITY = 2_500
"""Basis points of what the reserve has that one stable loan may take (Pool initialize)."""
REBALANCED_BELOW = 9_000
"""Basis points of the supply rate that all debt would give at the variable rate: only at or below it loans are
rebalanced (ValidationLogic REBALANCE_UP_LIQUIDITY_RATE_THRESHOLD).
"""


@dataclass(frozen=True, slots=True)
class StableTotal:
    """All stable debt of a reserve: ``principal`` (native) as of ``since`` (seconds), at the ``average`` yearly rate
    (ray).
    """

    principal: int = 0
    average: int = 0
    since: int = 0

    def at(self, timestamp: int) -> int:
        """Native debt at ``timestamp`` (ST _calcTotalSupply)."""
        if not self.principal:
            return 0
        return ray_mul_half_up(self.principal, compounded_interest_v30(self.average, timestamp - self.since))


def total_of(reserve: Reserve) -> StableTotal:
    """The totals that a reserve has, where interest is recomputed."""
    return StableTotal(reserve.stable_total, reserve.stable_average, reserve.stable_total_since)


def minted(
    total: StableTotal, debt: StableDebt, amount: int, rate: int, timestamp: int
) -> tuple[StableTotal, StableDebt]:
    """ST mint of ``amount`` native units at ``rate`` (ray): the two rates become averages weighted by what is owed."""
    before, owed = total.at(timestamp), debt.balance(timestamp)
    added = ray_mul_half_up(amount * WAD_TO_RAY, rate)
    own = ray_div_half_up(
        ray_mul_half_up(debt.rate, owed * WAD_TO_RAY) + ray_mul_half_up(amount * WAD_TO_RAY, rate),
        (owed + amount) * WAD_TO_RAY,
    )
    average = ray_div_half_up(
        ray_mul_half_up(total.average, before * WAD_TO_RAY) + added, (before + amount) * WAD_TO_RAY
    )
    return StableTotal(before + amount, average, timestamp), StableDebt(owed + amount, own, timestamp)


def burned(total: StableTotal, debt: StableDebt, amount: int, timestamp: int) -> tuple[StableTotal, StableDebt, int]:
    """ST burn of ``amount`` native units: the totals, the account's debt, and the total that the call hands to the
    rates.

    Where the total is used up before its accounts are, or the average would fall below nothing, the totals become
    nothing; in the second case the call still sees what is left.
    """
    before, owed = total.at(timestamp), debt.balance(timestamp)
    after, shown = StableTotal(0, 0, timestamp), 0
    if before > amount:
        shown = before - amount
        first = ray_mul_half_up(total.average, before * WAD_TO_RAY)
        second = ray_mul_half_up(debt.rate, amount * WAD_TO_RAY)
        if second < first:
            after = StableTotal(shown, ray_div_half_up(first - second, shown * WAD_TO_RAY), timestamp)
    left = StableDebt(owed - amount, debt.rate, timestamp) if amount != owed else StableDebt()
    return after, left, shown


def rate_of_new_loan(reserve: Reserve, *, stable: int, variable: int, liquidity: int) -> int | None:
    """Yearly rate (ray) of the next stable loan, by native totals after a call; None where the strategy is not known
    (3.0; later strategies offer none, which the contracts write as 0).
    """
    if reserve.stable_base is None or reserve.optimal_usage is None:
        return None
    debt, rate = stable + variable, reserve.stable_base
    usage = ray_div_half_up(debt, liquidity + debt) if debt else 0
    share = ray_div_half_up(stable, debt) if debt else 0
    if usage > reserve.optimal_usage:
        excess = ray_div_half_up(usage - reserve.optimal_usage, RAY - reserve.optimal_usage)
        rate += reserve.stable_slope1 + ray_mul_half_up(reserve.stable_slope2, excess)
    else:
        rate += ray_div_half_up(ray_mul_half_up(reserve.stable_slope1, usage), reserve.optimal_usage)
    if share > reserve.optimal_stable_share:
        excess = ray_div_half_up(share - reserve.optimal_stable_share, RAY - reserve.optimal_stable_share)
        rate += ray_mul_half_up(reserve.stable_excess_offset, excess)
    return rate
