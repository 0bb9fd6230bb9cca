"""What a call does to the reserves it touches where interest is recomputed: accrual, liquidity, rates.

Source: ReserveLogic (RL) updateState, _updateIndexes, _accrueToTreasury, updateInterestRates, cumulateToLiquidityIndex;
BridgeLogic (BL) executeMintUnbacked, executeBackUnbacked (to 3.3); DefaultReserveInterestRateStrategy (3.0,
aave/aave-v3-core) and DefaultReserveInterestRateStrategyV2 (3.1+, aave-dao/aave-v3-origin) calculateInterestRates;
``stable`` for stable-rate debt; ``rules`` says which version does what. The contracts read a token's
balance (3.0) or a virtual one (3.1+); both are what
calls brought and took, as long as nobody sends underlying to the aToken by hand: a replay compares its rates with
history's and says so.

Rates depend on the state after a call, and all its steps share a timestamp, so each reserve's rates are computed once,
at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.errors import RulesError
from backtest.model import AssetId, Clock, IndexUpdate, ParamChange
from backtest.protocols.aave.effects import param
from backtest.protocols.aave_v3.math import linear_interest, percent_mul_half_up, ray_div_half_up, ray_mul_half_up
from backtest.protocols.aave_v3.rules import Rules
from backtest.protocols.aave_v3.stable import (
    WAD_TO_RAY,
    StableTotal,
    burned,
    minted,
    rate_of_new_loan,
    total_of,
)
from backtest.protocols.aave_v3.state import MOVED, MOVED_SHORT, UNPLACED, AaveState, Reserve, StableDebt, is_short
from backtest.units import BPS, RAY


@dataclass(slots=True)
class _Touched:
    """One reserve within a call: as accrued to now, and what the call adds to it (scaled debt, native liquidity,
    deficit and unbacked amount).

    ``late`` is the part of ``liquidity`` that arrives after the rates were computed; ``stable`` the totals of stable
    debt after the call, and ``shown`` the total that the rates see where that is another one.
    """

    supply_index: int
    borrow_index: int
    accrued_to_treasury: int
    stable: StableTotal
    shown: int | None = None
    unbacked: int = 0
    debt: int = 0
    liquidity: int = 0
    late: int = 0
    deficit: int = 0
    rates: bool = False


class TouchedReserves:
    """The reserves that one call touches. Reads the state and changes nothing; ``changes`` are what it does to them."""

    def __init__(self, state: AaveState, now: Clock) -> None:
        self._state, self._now = state, now
        self._touched: dict[AssetId, _Touched] = {}

    def accrue(self, asset: AssetId, *, twice: bool = False) -> _Touched:
        """``updateState``: indexes to now and the treasury's share of the interest; nothing where that was done at this
        timestamp already.

        ``twice``: from a copy made before the first time, which mints the treasury's share again (a liquidation of debt
        in its own collateral, 3.5+).
        """
        touched = self._touched.get(asset)
        if touched is not None and not twice:
            return touched
        reserve, rules = self._state.reserves[asset], self._state.rules
        supply, borrow = accrued_indexes(reserve, rules, self._now.timestamp)
        accrued = reserve.accrued_to_treasury if touched is None else touched.accrued_to_treasury
        if reserve.reserve_factor and reserve.updated != self._now.timestamp:
            interest = rules.debt_accrued(reserve.scaled_debt, reserve.borrow_index, borrow)
            if reserve.stable_total:
                stable = total_of(reserve)
                interest += stable.at(self._now.timestamp) - stable.at(reserve.updated)
            accrued += rules.collateral_minted(percent_mul_half_up(interest, reserve.reserve_factor), supply)
        if touched is None:
            touched = self._touched[asset] = _Touched(supply, borrow, accrued, total_of(reserve))
        touched.accrued_to_treasury = accrued
        return touched

    def move(
        self, asset: AssetId, *, debt: int = 0, liquidity: int = 0, late: int = 0, deficit: int = 0, unbacked: int = 0
    ) -> None:
        """A step of the call after accrual: scaled debt, native liquidity, deficit and unbacked amount added (or,
        negative, taken); rates follow.

        ``late``: liquidity that arrives when the rates are set already.
        """
        touched = self.accrue(asset)
        touched.debt += debt
        touched.liquidity += liquidity + late
        touched.late += late
        touched.deficit += deficit
        touched.unbacked += unbacked
        touched.rates = True

    def mint_stable(self, asset: AssetId, debt: StableDebt, amount: int, rate: int) -> StableDebt:
        """A stable loan of ``amount`` at ``rate``; the account's debt after it."""
        touched = self.accrue(asset)
        touched.stable, after = minted(touched.stable, debt, amount, rate, self._now.timestamp)
        touched.shown, touched.rates = None, True
        return after

    def burn_stable(self, asset: AssetId, debt: StableDebt, amount: int, *, read_again: bool = False) -> StableDebt:
        """``amount`` of a stable debt is paid; what is left of it. ``read_again``: the call reads the totals once more
        before it sets the rates (a liquidation of debt in its own collateral).
        """
        touched = self.accrue(asset)
        touched.stable, after, shown = burned(touched.stable, debt, amount, self._now.timestamp)
        touched.shown, touched.rates = None if read_again else shown, True
        return after

    def premium(self, asset: AssetId, amount: int) -> None:
        """A flash loan's premium (FlashLoanLogic _handleFlashLoanRepayment): to 3.3 suppliers get what the treasury
        does not.
        """
        state, treasury = self._state, amount
        if state.rules.premium_to_suppliers:
            treasury = percent_mul_half_up(amount, state.premium_to_protocol)
        self._share(asset, treasury, amount - treasury)

    def bridge_fee(self, asset: AssetId, amount: int) -> None:
        """What a bridge pays beside what it backs, of suppliers and treasury (BL executeBackUnbacked)."""
        treasury = percent_mul_half_up(amount, self._state.bridge_fee_to_protocol)
        self._share(asset, treasury, amount - treasury)

    def _share(self, asset: AssetId, treasury: int, suppliers: int) -> None:
        """Liquidity that comes as income, of suppliers by RL cumulateToLiquidityIndex."""
        touched, reserve, rules = self.accrue(asset), self._state.reserves[asset], self._state.rules
        if suppliers:
            supplied = rules.collateral_balance(reserve.scaled_supply, touched.supply_index)
            supplied += ray_mul_half_up(touched.accrued_to_treasury, touched.supply_index)
            share = ray_div_half_up(suppliers * WAD_TO_RAY, supplied * WAD_TO_RAY) + RAY
            touched.supply_index = ray_mul_half_up(share, touched.supply_index)
        touched.accrued_to_treasury += rules.collateral_minted(treasury, touched.supply_index)
        self.move(asset, liquidity=treasury + suppliers)

    def back(self, asset: AssetId, amount: int) -> None:
        """A bridge brings what it had minted without it, no more than is unbacked (BL executeBackUnbacked)."""
        backed = min(amount, self._state.reserves[asset].unbacked + self.accrue(asset).unbacked)
        self.move(asset, liquidity=backed, unbacked=-backed)

    def mint_to_treasury(self, asset: AssetId) -> int:
        """Scaled units that the treasury gets of what had accrued (PoolLogic executeMintToTreasury): no accrual, no new
        rates.
        """
        reserve, rules = self._state.reserves[asset], self._state.rules
        return rules.treasury_scaled(reserve.accrued_to_treasury, reserve.income(self._now.timestamp))

    def moved(self) -> list[ParamChange]:
        """What the call brings to the reserves, or takes from them, under history's rates."""
        return [
            change
            for asset, touched in self._touched.items()
            for change in moved(self._state, asset, touched.liquidity, self._now)
        ]

    def changes(self) -> list[IndexUpdate | ParamChange]:
        """Everything that the call does to the reserves, in the order in which it touched them."""
        state, now = self._state, self._now
        found: list[IndexUpdate | ParamChange] = []
        for asset, touched in self._touched.items():
            reserve, offered = state.reserves[asset], None
            supply_rate, borrow_rate = reserve.supply_rate, reserve.borrow_rate
            if touched.rates:
                debt = state.rules.debt_balance(reserve.scaled_debt + touched.debt, touched.borrow_index)
                liquidity, deficit = (
                    reserve.liquidity + touched.liquidity - touched.late,
                    reserve.deficit + touched.deficit,
                )
                stable = touched.stable.at(now.timestamp) if touched.shown is None else touched.shown
                supply_rate, borrow_rate = rates(
                    state,
                    reserve,
                    now,
                    debt=debt,
                    liquidity=liquidity,
                    deficit=deficit,
                    stable=(stable, touched.stable.average),
                    unbacked=reserve.unbacked + touched.unbacked,
                )
                offered = 0
                if state.rules.quotes_stable:
                    offered = rate_of_new_loan(reserve, stable=stable, variable=debt, liquidity=liquidity)
            found.append(
                IndexUpdate(
                    seq=UNPLACED,
                    block_number=now.block_number,
                    log_index=now.log_index,
                    timestamp=now.timestamp,
                    asset=asset,
                    supply_index=touched.supply_index,
                    borrow_index=touched.borrow_index,
                    supply_rate=supply_rate,
                    borrow_rate=borrow_rate,
                )
            )
            if touched.accrued_to_treasury != reserve.accrued_to_treasury:
                found.append(param(now, "accrued_to_treasury", asset, touched.accrued_to_treasury))
            if touched.liquidity:
                found.append(param(now, "liquidity", asset, reserve.liquidity + touched.liquidity))
            if touched.unbacked:
                found.append(param(now, "unbacked", asset, reserve.unbacked + touched.unbacked))
            if offered is not None and offered != reserve.stable_borrow_rate:
                found.append(param(now, "stable_borrow_rate", asset, offered))
            if touched.stable != total_of(reserve):
                found.append(param(now, "stable_total", asset, touched.stable.principal))
                found.append(param(now, "stable_average", asset, touched.stable.average))
                found.append(param(now, "stable_total_since", asset, touched.stable.since))
        return found


def moved(state: AaveState, asset: AssetId, amount: int, now: Clock) -> list[ParamChange]:
    """That underlying came into a reserve, or (negative) left it, under history's rates; nothing where nobody asks."""
    reserve = state.reserves[asset]
    if not amount or not reserve.told:
        return []
    least = min(reserve.liquidity, reserve.liquidity + amount)
    return [param(now, MOVED_SHORT if is_short(state, reserve, least, now) else MOVED, asset, amount)]


def accrued_indexes(reserve: Reserve, rules: Rules, timestamp: int) -> tuple[int, int]:
    """Supply and borrow index as RL _updateIndexes stores them: neither moves without a rate to move it, or without
    debt.
    """
    elapsed = timestamp - reserve.updated
    supply, borrow = reserve.supply_index, reserve.borrow_index
    if not elapsed:
        return supply, borrow
    if reserve.supply_rate:
        supply = ray_mul_half_up(linear_interest(reserve.supply_rate, elapsed), supply)
    if reserve.scaled_debt:
        borrow = ray_mul_half_up(rules.compounded_interest(reserve.borrow_rate, elapsed), borrow)
    return supply, borrow


def rates(
    state: AaveState,
    reserve: Reserve,
    now: Clock,
    *,
    debt: int,
    liquidity: int,
    deficit: int,
    stable: tuple[int, int] = (0, 0),
    unbacked: int = 0,
) -> tuple[int, int]:
    """Yearly supply and borrow rate (rays) by calculateInterestRates, for native variable ``debt``, ``liquidity``,
    ``deficit`` and ``unbacked``, and ``stable`` debt (native, and its average rate).

    Raises:
        RulesError: the reserve's strategy is not known, or the reserve would have less than no liquidity.
    """
    symbol = state.market.assets[reserve.asset].symbol
    if reserve.optimal_usage is None:
        raise RulesError(
            f"block {now.block_number}: the rate strategy of {symbol} is not known, so its interest cannot be"
            " recomputed",
            "fetch the market again with this version, or replay with rates = 'historical'",
        )
    if liquidity < 0:
        raise RulesError(
            f"block {now.block_number}: {symbol} would have {liquidity} units of liquidity",
            "more was taken than calls brought: replay with rates = 'historical'",
        )
    rules, borrow_rate = state.rules, reserve.base_rate
    total = debt + stable[0]
    if not total:
        return 0, borrow_rate
    usage = ray_div_half_up(total, liquidity + total)
    missing = unbacked + (deficit if rules.deficit_in_usage else 0)
    supply_usage = ray_div_half_up(total, liquidity + total + missing)
    if usage > reserve.optimal_usage:
        excess = ray_div_half_up(usage - reserve.optimal_usage, RAY - reserve.optimal_usage)
        borrow_rate += reserve.slope1 + ray_mul_half_up(reserve.slope2, excess)
    else:
        borrow_rate += ray_div_half_up(ray_mul_half_up(reserve.slope1, usage), reserve.optimal_usage)
    overall = borrow_rate
    if rules.averages_rates:  # _getOverallBorrowRate
        weighted = ray_mul_half_up(debt * WAD_TO_RAY, borrow_rate) + ray_mul_half_up(stable[0] * WAD_TO_RAY, stable[1])
        overall = ray_div_half_up(weighted, total * WAD_TO_RAY)
    return percent_mul_half_up(ray_mul_half_up(overall, supply_usage), BPS - reserve.reserve_factor), borrow_rate
