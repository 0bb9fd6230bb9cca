"""What a liquidation of a credit account does: whole, or of a part of its debt.

Source: Gearbox-protocol/core-v3 at 510fc654, ``contracts/credit/CreditFacadeV3.sol`` ``liquidateCreditAccount``,
``partiallyLiquidateCreditAccount``, ``CreditManagerV3.sol`` ``liquidateCreditAccount``.

**Whole.** The account's collateral at the oracle's prices, less the premium, pays the pool what is owed and a fee; what
is left is the owner's. The liquidator takes all tokens but the underlying, and brings the underlying that the account
lacks for both: ``repaid`` is what goes to the pool and stays for the owner, ``repaid_by_others`` the account's own
underlying, ``reward`` what is left of it. An order that says ``seize`` leaves the rest of that token to the owner, for
whom it counts at the oracle's price.

**A part.** An order with ``repay``: so much underlying is brought, of which the fee goes to the treasury and the rest
repays; the pair's token is taken at the oracle's price over the discount, and the account must be healthy afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    ParamChange,
    PositionChange,
    SettingChange,
)
from backtest.protocols.changes import UNPLACED, parameter_change, position_change, setting_change
from backtest.protocols.gearbox_v3.account import Valued, price_of, valued
from backtest.protocols.gearbox_v3.math import (
    Owed,
    Payments,
    Repaid,
    bought_down,
    decreased,
    fee_down,
    payments,
    seized_down,
    worth_down,
)
from backtest.protocols.gearbox_v3.state import RULES, UNDERLYING, CreditAccount, GearboxState, apply
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import BPS, RAY

Change = PositionChange | SettingChange | IndexUpdate | ParamChange
Oracle = Mapping[AssetId, int]


def main_collateral(state: GearboxState, account: CreditAccount, prices: Oracle) -> AssetId:
    """The token that a liquidation is told by: that of the greatest value, of equals the first; the underlying where
    the account has nothing else that counts.
    """
    worth = {
        asset: worth_down(held, prices[asset], state.market.unit(asset))
        for asset, held in account.held.items()
        if asset != UNDERLYING and prices.get(asset)
    }
    return max(worth, key=lambda asset: (worth[asset], -asset), default=UNDERLYING)


def liquidatable(state: GearboxState, account: CreditAccount, prices: Oracle, time: int) -> Valued | None:
    """The account's value where it may be liquidated (CreditFacadeV3._revertIfNotLiquidatable); else None. PriceMissing
    where the contract would revert.
    """
    if not account.debt:
        return None
    found = valued(state, account, prices, time)
    return found if found.is_unhealthy or state.is_expired(time) else None


def pairs(state: GearboxState, account: AccountId, prices: Oracle, now: Clock) -> Sequence[Pair]:
    """One, where the account may be liquidated: the underlying and its main collateral."""
    own = state.account(account)
    try:
        if liquidatable(state, own, prices, now.timestamp) is None:
            return ()
    except PriceMissing:
        return ()
    return (Pair(UNDERLYING, main_collateral(state, own, prices)),)


def quote(state: GearboxState, order: Order, prices: Oracle, now: Clock) -> Fill | Refusal:
    """What the order would do at ``now``; the state is not changed. See the module."""
    own, time = state.account(order.account), now.timestamp
    if not own.debt:
        return Refusal("the account owes nothing")
    if order.pair.debt_asset != UNDERLYING:
        return Refusal("only the underlying is owed")
    try:
        found = liquidatable(state, own, prices, time)
        if found is None:
            return Refusal("the account is not liquidatable")
        if own.updated == now.block_number:
            return Refusal("its debt was changed in the same block")
        if order.agreed:
            return _agreed(state, order, own, found.owed, now)
        if order.repay is not None:
            return _part(state, order, own, found, prices, now)
        return _whole(state, order, own, found, prices, now)
    except PriceMissing as missing:
        return Refusal(missing.what)


def _whole(
    state: GearboxState, order: Order, own: CreditAccount, found: Valued, prices: Oracle, now: Clock
) -> Fill | Refusal:
    account, main = order.account, order.pair.collateral_asset
    if main != main_collateral(state, own, prices):
        return Refusal("a whole account is liquidated, told by its token of the greatest value")
    fee, premium = state.fees(now.timestamp, unhealthy=found.is_unhealthy)
    due = payments(found.owed, found.value, fee, BPS - premium)
    taken = {asset: held for asset, held in own.held.items() if asset != UNDERLYING}
    kept = 0
    if order.seize is not None and main != UNDERLYING:
        if order.seize > taken[main]:
            return Refusal("more than there is")
        kept = taken[main] - order.seize
        taken[main] = order.seize
    left = _left_for_owner(state, own, due, main, kept, prices)
    underlying = own.held.get(UNDERLYING, 0)
    repaid = due.to_pool + left
    changes = _ended(state, account, own, due, now)
    moves = {**{asset: -amount for asset, amount in taken.items()}, UNDERLYING: left - underlying}
    changes += [
        position_change(now, account, asset, "collateral", delta, amount=abs(delta))
        for asset, delta in sorted(moves.items())
        if delta
    ]
    return Fill(
        order,
        repaid,
        taken.get(main, 0),
        0,
        with_index(state, changes, now),
        ((UNDERLYING, due.loss),) if due.loss else (),
        rules=RULES,
        repaid_by_others=min(underlying, repaid),
        reward=max(underlying - repaid, 0),
    )


def _left_for_owner(
    state: GearboxState, own: CreditAccount, due: Payments, main: AssetId, kept: int, prices: Oracle
) -> int:
    """Underlying that has to stay on the account: what is due to the owner, less what a kept token is worth
    (CreditManagerV3._getRemainingFunds, where a balance of one counts nothing).
    """
    if kept <= 1 or main not in own.quotas:
        return due.to_owner
    worth = worth_down(kept, price_of(state, main, prices), state.market.unit(main))
    return max(due.to_owner - bought_down(worth, price_of(state, UNDERLYING, prices), state.market.unit(UNDERLYING)), 0)


def _ended(state: GearboxState, account: AccountId, own: CreditAccount, due: Payments, now: Clock) -> list[Change]:
    """Debt and quotas go; a loss closes the tokens' quotas for everybody (``setLimitsToZero``)."""
    changes: list[Change] = []
    for asset in own.quotas:
        changes.append(setting_change(now, account, "quota", asset, 0))
        if due.loss:
            changes.append(parameter_change(now, "quota_limit", 0, asset))
    changes.append(setting_change(now, account, "pool_cash", UNDERLYING, due.to_pool))
    changes.append(setting_change(now, account, "pool_profit", UNDERLYING, due.profit - due.loss))
    changes.append(position_change(now, account, UNDERLYING, "debt", -own.debt, amount=due.to_pool))
    for name in ("quota_interest", "quota_fees"):
        changes.append(setting_change(now, account, name, UNDERLYING, 0))
    return changes


def _part(
    state: GearboxState, order: Order, own: CreditAccount, found: Valued, prices: Oracle, now: Clock
) -> Fill | Refusal:
    assert order.repay is not None
    token, brought = order.pair.collateral_asset, order.repay
    if token == UNDERLYING:
        return Refusal("the underlying is not taken for a part of the debt")
    fee, premium = state.fees(now.timestamp, unhealthy=found.is_unhealthy)
    scales = state.market.unit(UNDERLYING), state.market.unit(token)
    seized = seized_down(
        brought,
        price_of(state, UNDERLYING, prices),
        scales[0],
        price_of(state, token, prices),
        scales[1],
        BPS - premium,
    )
    to_treasury = fee_down(brought, fee)
    if not brought or not seized:
        return Refusal("nothing is repaid or taken")
    if seized > own.held.get(token, 0):
        return Refusal("more than there is")
    paid = decreased(brought - to_treasury, found.owed)
    refused = after_repayment(state, own, paid)
    if refused is not None:
        return refused
    over = brought - to_treasury - paid.amount  # stays on the account
    changes = repayment(state, order.account, own, paid, now, "liquidation")
    changes.append(position_change(now, order.account, token, "collateral", -seized, amount=seized))
    if over:
        changes.append(position_change(now, order.account, UNDERLYING, "collateral", over, amount=over))
    after = left_with(own, paid).holding(token, own.held[token] - seized)
    after = after.holding(UNDERLYING, own.held.get(UNDERLYING, 0) + over)
    after = reindexed(state, after, now.timestamp)
    if valued(state, after, prices, now.timestamp).is_unhealthy:
        return Refusal("the account would be unhealthy afterwards")
    return Fill(order, brought, seized, 0, with_index(state, changes, now), rules=RULES)


def after_repayment(state: GearboxState, own: CreditAccount, paid: Repaid) -> Refusal | None:
    """Why a repayment is refused (CreditManagerV3.manageDebt, CreditFacadeV3._revertIfOutOfDebtLimits)."""
    if not paid.debt and own.quotas:
        return Refusal("all debt is repaid while there are quotas")
    if paid.debt and paid.debt < state.params.get("least_debt", 0):
        return Refusal("less than the least debt would be left")
    return None


def left_with(own: CreditAccount, paid: Repaid) -> CreditAccount:
    """The account after a repayment, its quotas as they were."""
    return replace(
        own, debt=paid.debt, debt_index=paid.last, quota_interest=paid.quota_interest, quota_fees=paid.quota_fees
    )


def reindexed(state: GearboxState, own: CreditAccount, time: int) -> CreditAccount:
    """Interest of quotas runs from now (PoolQuotaKeeperV3.accrueQuotaInterest)."""
    quotas = {asset: (quota, state.quota_index_at(asset, time)) for asset, (quota, _) in own.quotas.items()}
    return replace(own, quotas=quotas)


def repayment(
    state: GearboxState, account: AccountId, own: CreditAccount, paid: Repaid, now: Clock, action: str
) -> list[Change]:
    """What a repayment of a part writes."""
    changes: list[Change] = [
        setting_change(now, account, "quota_index", asset, state.quota_index_at(asset, now.timestamp), action=action)
        for asset in own.quotas
    ]
    changes.append(setting_change(now, account, "pool_cash", UNDERLYING, paid.amount, action=action))
    changes.append(setting_change(now, account, "pool_profit", UNDERLYING, paid.profit, action=action))
    if paid.debt != own.debt:
        delta = paid.debt - own.debt
        changes.append(position_change(now, account, UNDERLYING, "debt", delta, amount=paid.amount, action=action))
    values = {"debt_index": paid.last, "quota_interest": paid.quota_interest, "quota_fees": paid.quota_fees}
    changes += [setting_change(now, account, name, UNDERLYING, value, action=action) for name, value in values.items()]
    return changes


def _agreed(state: GearboxState, order: Order, own: CreditAccount, owed: Owed, now: Clock) -> Fill | Refusal:
    """Terms of a mechanism that is not Gearbox's: both amounts as they say; no fee, and no least debt."""
    assert order.repay is not None
    assert order.seize is not None
    token, account = order.pair.collateral_asset, order.account
    if order.repay > owed.total or order.seize > own.held.get(token, 0):
        return Refusal("more than there is")
    if not order.repay and not order.seize:
        return Refusal("nothing")
    paid = decreased(order.repay, owed)
    changes = repayment(state, account, own, paid, now, "liquidation")
    if not paid.debt:
        changes += [setting_change(now, account, "quota", asset, 0) for asset in own.quotas]
    if order.seize:
        changes.append(position_change(now, account, token, "collateral", -order.seize, amount=order.seize))
    return Fill(order, order.repay, order.seize, 0, with_index(state, changes, now), rules=RULES)


def with_index(state: GearboxState, changes: Sequence[Change], now: Clock) -> tuple[Change, ...]:
    """With the pool's index and rate after them, where interest is recomputed."""
    if not state.recompute:
        return tuple(changes)
    book = deepcopy(state)
    for change in changes:
        apply(book, change)
    return *changes, index_update(book, now)


def index_update(state: GearboxState, now: Clock) -> IndexUpdate:
    """The pool's index and rate (ray) as they are."""
    return IndexUpdate(
        seq=UNPLACED,
        block_number=now.block_number,
        log_index=now.log_index,
        timestamp=now.timestamp,
        asset=UNDERLYING,
        supply_index=RAY,
        borrow_index=state.index_at(now.timestamp),
        supply_rate=0,
        borrow_rate=state.pool.rate,
    )


def observed_order(state: GearboxState, past: HistoricalLiquidation, prices: Oracle, now: Clock) -> Order:
    """The call behind a liquidation of history: of a part, what was brought (``debt_scaled``); of a whole account, as
    much of its main collateral as was taken.
    """
    pair = Pair(past.debt_asset, past.collateral_asset)
    if past.debt_scaled is not None:
        return Order(past.account, pair, past.liquidator, repay=past.debt_scaled)
    return Order(past.account, pair, past.liquidator, seize=past.seized)
