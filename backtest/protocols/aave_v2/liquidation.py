"""What one ``liquidationCall`` does, in four parts: ACCRUE, CHECK, SIZE, SETTLE.

Source: aave/protocol-v2 ``lendingpool/LendingPoolCollateralManager.sol`` liquidationCall,
_calculateAvailableCollateralToLiquidate; ``libraries/logic/ValidationLogic.sol`` validateLiquidationCall;
``tokenization/AToken.sol``, ``VariableDebtToken.sol`` and ``StableDebtToken.sol`` burn, transferOnLiquidation. No
protocol fee, no write-off, no ban of liquidating oneself. Where indexes and rates are history's, a fill carries no
change of them, nor the mint of the treasury's share that the call's updateState makes; where they are recomputed, it
carries what it does to each reserve.

The contract keeps a borrow flag per asset; here an account borrows what it has debt in. A call that repays the last
unit of a debt leaves the flag: it asks for that asset's price from then on and changes no amount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation, PositionChange, SettingChange
from backtest.protocols.aave.effects import Effect, Effects
from backtest.protocols.aave.math import percent_mul_half_up, ray_div_half_up
from backtest.protocols.aave_v2.account import (
    account_data,
    collateral_of,
    is_collateral,
    price_of,
    stable_debt_of,
    variable_debt_of,
)
from backtest.protocols.aave_v2.interest import TouchedReserves
from backtest.protocols.aave_v2.rules import LIQUIDATION_HEALTH, TESTED, Taken, label, taken_for
from backtest.protocols.aave_v2.state import AaveV2State, Account, Reserve, lacks, liquidity_moved
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import BPS, WAD

OracleP = Mapping[AssetId, int]

CANNOT_PAY = "the collateral's reserve has not enough of the underlying to pay the liquidator"
NOT_STORED = "the debt that the call may burn is less than what it counts: suppliers of the debt earn nothing"


@dataclass(slots=True)
class _Case:
    """One order after ACCRUE: the two reserves at ``now``, and the borrower's native balances in them."""

    order: Order
    now: Clock
    account: Account
    health: int
    debt_reserve: Reserve
    collateral_reserve: Reserve
    debt_price: int
    collateral_price: int
    income: int
    variable: int
    stable: int
    collateral: int

    @property
    def debt(self) -> int:
        return self.variable + self.stable


def quote(state: AaveV2State, order: Order, oracle: OracleP, now: Clock) -> Fill | Refusal:
    """What ``order`` would do at ``now`` with these oracle prices; the state is not changed.

    An amount above the most that may be repaid acts like None (all that may be). The changes, applied in order, leave
    every balance and flag of borrower and liquidator as the call leaves them on the chain.
    """
    revision = state.rules
    try:
        case = _accrue(state, order, oracle, now)
    except PriceMissing as missing:
        return Refusal(missing.what)
    if reason := _check(state, case):
        return Refusal(reason)
    size = _size(state, case)
    if size.repaid > case.debt or size.seized > case.collateral:
        return Refusal("more is agreed than the account owes or holds")
    reserve = case.collateral_reserve
    if not order.receive_collateral_token and lacks(state, reserve, size.seized, now):
        return Refusal(CANNOT_PAY, unpaid=(reserve.asset, size.seized))
    changes = Effects(now, "liquidation")
    if reason := _burn_debt(case, size.repaid, changes) or _take(state, case, size.seized, changes):
        return Refusal(reason)
    return Fill(
        order=order,
        repaid=size.repaid,
        seized=size.seized,
        protocol_fee=0,
        changes=(*changes.all, *_reserves(state, case, size, changes)),
        rules=label(revision),
        rules_tested=revision == TESTED,
    )


# -- ACCRUE, CHECK, SIZE ---------------------------------------------------------------------------------------------


def _accrue(state: AaveV2State, order: Order, oracle: OracleP, now: Clock) -> _Case:
    account = state.accounts.get(order.account) or Account()
    debt_reserve, reserve = state.reserves[order.pair.debt_asset], state.reserves[order.pair.collateral_asset]
    return _Case(
        order=order,
        now=now,
        account=account,
        health=account_data(state, order.account, oracle, now).health_factor,
        debt_reserve=debt_reserve,
        collateral_reserve=reserve,
        debt_price=price_of(state, debt_reserve.asset, oracle, now),
        collateral_price=price_of(state, reserve.asset, oracle, now),
        income=reserve.income(now.timestamp),
        variable=variable_debt_of(debt_reserve, account, now.timestamp),
        stable=stable_debt_of(debt_reserve, account, now.timestamp),
        collateral=collateral_of(reserve, account, now.timestamp),
    )


def _check(state: AaveV2State, case: _Case) -> str | None:
    """whenNotPaused, then validateLiquidationCall, in its order."""
    if state.paused:
        return "the pool is paused"
    if not (case.collateral_reserve.active and case.debt_reserve.active):
        return "reserve is not active"
    if case.health >= LIQUIDATION_HEALTH and not case.order.early:
        return "health factor is not below 1"
    if case.collateral_reserve.asset not in case.account.enabled or not is_collateral(case.collateral_reserve):
        return "the asset is not enabled as collateral"
    return None if case.debt else "the account has no debt in this asset"


def _size(state: AaveV2State, case: _Case) -> Taken:
    order = case.order
    if order.agreed:
        assert order.repay is not None
        assert order.seize is not None
        return Taken(order.repay, order.seize)
    most = percent_mul_half_up(case.debt, state.close_factor)
    return taken_for(
        most if order.repay is None else min(order.repay, most),
        case.collateral,
        case.collateral_reserve.liquidation_bonus,
        case.debt_price,
        case.debt_reserve.unit,
        case.collateral_price,
        case.collateral_reserve.unit,
    )


# -- SETTLE ----------------------------------------------------------------------------------------------------------


def _burn_debt(case: _Case, amount: int, changes: Effects) -> str | None:
    """Variable debt is burned before stable; why a token would revert. The burn divides by the index that updateState
    stores, the amount comes from the one that views accrue.
    """
    asset, borrower, account, reserve = case.debt_reserve.asset, case.order.account, case.account, case.debt_reserve
    if case.variable >= amount or case.variable:
        scaled = ray_div_half_up(min(amount, case.variable), reserve.stored_debt_index(case.now.timestamp))
        if not scaled:
            return "no debt token would be burned: the amount is too small"
        if scaled > account.debt[asset]:
            return NOT_STORED
        changes.position(borrower, asset, "debt", -scaled)
    if amount > case.variable:
        left = case.debt - amount
        changes.setting(borrower, "stable_principal", asset, left)
        changes.setting(borrower, "stable_rate", asset, account.stable[asset].rate if left else 0)
        changes.setting(borrower, "stable_since", asset, case.now.timestamp if left else 0)
        changes.setting(borrower, "stable_moved", asset, case.variable - amount)
    return None


def _take(state: AaveV2State, case: _Case, amount: int, changes: Effects) -> str | None:
    """Collateral tokens are burned, or go to the liquidator; why that would revert."""
    order, asset = case.order, case.collateral_reserve.asset
    scaled, held = ray_div_half_up(amount, case.income), case.account.collateral.get(asset, 0)
    if not order.receive_collateral_token and not scaled:
        return "no collateral token would be burned: the amount is too small"
    if scaled > held:
        return "more collateral tokens would be taken than there are"
    changes.position(order.account, asset, "collateral", -scaled)
    if order.receive_collateral_token:
        changes.position(order.liquidator, asset, "collateral", scaled)
        receiver = state.accounts.get(order.liquidator) or Account()
        if not receiver.collateral.get(asset):
            changes.setting(order.liquidator, "collateral_enabled", asset, 1)
    if amount == case.collateral:
        changes.setting(order.account, "collateral_enabled", asset, 0)
    return None


def _reserves(state: AaveV2State, case: _Case, size: Taken, changes: Effects) -> Sequence[Effect]:
    """What the call does to the reserves it touches: nothing to the seized one where tokens change hands. The
    underlying leaves before the repaid debt arrives, and the rates of the seized reserve are set in between. Under
    history's rates only liquidity moves.
    """
    order, debt, collateral = case.order, case.debt_reserve.asset, case.collateral_reserve.asset
    taken = 0 if order.receive_collateral_token else size.seized
    if not state.recompute:
        return [
            *liquidity_moved(state, debt, size.repaid, case.now),
            *liquidity_moved(state, collateral, -taken, case.now),
        ]
    touched_reserves, last = TouchedReserves(state, case.now), debt == collateral and not order.receive_collateral_token
    burned = sum(c.delta for c in changes.all if isinstance(c, PositionChange) and c.side == "debt")
    touched_reserves.move(debt, debt=burned, liquidity=0 if last else size.repaid, late=size.repaid if last else 0)
    for change in changes.all:
        if isinstance(change, SettingChange) and change.setting == "stable_moved":
            touched_reserves.burn_stable(debt, case.account.stable[debt], -change.value)
    if not order.receive_collateral_token:
        touched_reserves.move(collateral, liquidity=-taken)
    return touched_reserves.changes()


# -- Which orders ----------------------------------------------------------------------------------------------------


def pairs(state: AaveV2State, account: AccountId, oracle: OracleP, now: Clock) -> Sequence[Pair]:
    """Every pair an eligible account may be liquidated with now, by debt asset and then collateral asset; empty where a
    price is missing.
    """
    book = state.accounts.get(account)
    if book is None or state.paused or not book.owing:
        return ()
    try:
        if account_data(state, account, oracle, now).health_factor >= LIQUIDATION_HEALTH:
            return ()
    except PriceMissing:
        return ()
    reserves = state.reserves
    takeable = [
        asset
        for asset in sorted(book.enabled)
        if asset in book.collateral and is_collateral(reserves[asset]) and reserves[asset].active
    ]
    return [Pair(debt, collateral) for debt in sorted(book.owing) if reserves[debt].active for collateral in takeable]


def weight(state: AaveV2State, asset: AssetId) -> int:
    """Wad: the liquidation threshold of a collateral."""
    return state.reserves[asset].liquidation_threshold * WAD // BPS


def observed_order(state: AaveV2State, past: HistoricalLiquidation, oracle: OracleP, now: Clock) -> Order:
    """The order that explains a historical liquidation: as much as possible if that gives its two amounts, else exactly
    what was repaid. The event shows what was repaid, not what was asked for: where the collateral limited the call,
    asking for the repaid amount alone may take a few units less.

    A debt whose suppliers earn nothing loses its interest in the very call that liquidates it (``stored_debt_index``),
    after the call has counted it, and the call's new index is in the book already: there both amounts are agreed where
    the debt as counted explains them.
    """
    order = Order(
        account=past.account,
        pair=Pair(past.debt_asset, past.collateral_asset),
        liquidator=past.liquidator,
        receive_collateral_token=past.receive_collateral_token,
    )
    exactly = msgspec.structs.replace(order, repay=past.repaid)
    if _explains(quote(state, order, oracle, now), past):
        return order
    reserve = state.reserves[past.debt_asset]
    if reserve.lost[0] == now.block_number and not _explains(quote(state, exactly, oracle, now), past):
        counted = replace(state, reserves=state.reserves.copy())
        counted.reserves[past.debt_asset] = replace(reserve, borrow_index=reserve.lost[1])
        if any(_explains(quote(counted, asked, oracle, now), past) for asked in (order, exactly)):
            return msgspec.structs.replace(exactly, seize=past.seized, agreed=True)
    return exactly


def _explains(answer: Fill | Refusal, past: HistoricalLiquidation) -> bool:
    return isinstance(answer, Fill) and (answer.repaid, answer.seized) == (past.repaid, past.seized)
