"""What a user's call does in a book that may differ from history's, checked as the contract checks it.

Source: compound-finance/comet, ``contracts/Comet.sol`` and ``CometWithExtendedAssetList.sol`` ``supplyBase``,
``withdrawBase``, ``transferBase``, ``supplyCollateral``, ``withdrawCollateral``, ``transferCollateral``. Callers whom
the account allowed are taken as in history. Whether the contract holds enough base tokens to pay out is not asked: what
somebody sent it without a call is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, IndexUpdate, ParamChange, PositionChange, SettingChange
from backtest.protocols.compound_v3.account import is_collateralized, view_of
from backtest.protocols.compound_v3.state import (
    BASE,
    SUPPLY_PAUSED,
    TRANSFER_PAUSED,
    WITHDRAW_PAUSED,
    CometState,
    Indexes,
    held_change,
    index_update,
    place_of,
    principal_changes,
    rates_after,
)
from backtest.protocols.interface import AccountView, Acted, Action, Refusal

Prices = Mapping[AssetId, int]

_PAUSES = {
    "supply": SUPPLY_PAUSED,
    "repay": SUPPLY_PAUSED,
    "withdraw": WITHDRAW_PAUSED,
    "borrow": WITHDRAW_PAUSED,
    "transfer": TRANSFER_PAUSED,
}
GIVING, TAKING, MOVING = ("repay", "supply"), ("borrow", "withdraw"), ("transfer", "transfer")
"""What a call does on the debt side and on the supply side."""


def act(state: CometState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. A call on the base token moves the amount of history's; one that left the only side
    it touched at zero moves all of that side (``type(uint256).max``).
    """
    if action.name == "parameter":
        return _parameter(state, action, now)
    moves = [change for change in action.changes if isinstance(change, PositionChange)]
    if state.paused(_PAUSES[action.name]):
        return Refusal("paused")
    try:
        if moves[0].asset != BASE:
            return _collateral(state, action, moves, prices, now)
        return _base(state, action, moves, prices, now)
    except PriceMissing as missing:
        return Refusal(missing.what)


def _parameter(state: CometState, action: Action, now: Clock) -> Acted:
    """Interest recomputed: a call that changed nobody accrues here too."""
    changes: list[PositionChange | SettingChange | IndexUpdate | ParamChange] = [*action.changes]
    if any(isinstance(change, ParamChange) and change.name == "accrued" for change in changes):
        at = state.accrued(now.timestamp)
        changes.append(index_update(at, rates_after(state, at, 0, 0), place_of(now)))
    return Acted(AccountId(-1), tuple(changes))


def _base(
    state: CometState, action: Action, moves: Sequence[PositionChange], prices: Prices, now: Clock
) -> Acted | Refusal:
    at = state.accrued(now.timestamp)
    giver = moves[0].account  # of a transfer: changes of who gives come first
    amount = (
        sum(move.amount or 0 for move in moves if move.account == giver) if action.amount is None else action.amount
    )
    if 0 in action.emptied and sum(move.account == giver for move in moves) == 1:
        has = at.present(state.position(giver).principal)
        amount = max(-has if moves[0].side == "debt" else has, 0)
    if not amount and action.amount is not None:
        return Refusal("nothing is moved")
    after: dict[AccountId, int] = {}

    def move(account: AccountId, by: int) -> int:
        value = at.present(state.position(account).principal) + by
        after[account] = at.principal(value)
        return value

    if action.name in GIVING:
        move(giver, amount)
        return _made(state, at, after, GIVING, amount, giver, None, now)
    left = move(giver, -amount)
    if action.name == "transfer":
        move(next(change.account for change in moves if change.account != giver), amount)
    view = None
    if left < 0:
        if -left < state.param("base_borrow_min"):
            return Refusal("borrows less than the least")
        position = replace(state.position(giver), principal=after[giver])
        if not is_collateralized(state, position, at, prices):
            return Refusal("not collateralized")
        view = view_of(state, position, at, prices)
    return _made(state, at, after, MOVING if action.name == "transfer" else TAKING, amount, giver, view, now)


def _made(
    state: CometState,
    at: Indexes,
    after: Mapping[AccountId, int],
    named: tuple[str, str],
    amount: int,
    giver: AccountId,
    view: AccountView | None,
    now: Clock,
) -> Acted:
    place = place_of(now)
    changes: list[PositionChange | IndexUpdate] = []
    if state.recompute:
        before = {account: state.position(account).principal for account in after}
        supply_by = sum(max(new, 0) - max(before[account], 0) for account, new in after.items())
        borrow_by = sum(max(-new, 0) - max(-before[account], 0) for account, new in after.items())
        changes.append(index_update(at, rates_after(state, at, supply_by, borrow_by), place))
    for account, principal in after.items():
        changes += principal_changes(state, account, principal, place, named, amount)
    return Acted(giver, tuple(changes), amount, view)


def _collateral(
    state: CometState, action: Action, moves: Sequence[PositionChange], prices: Prices, now: Clock
) -> Acted | Refusal:
    """No call on collateral accrues interest: health is asked at the stored indexes."""
    asset, giver, place = moves[0].asset, moves[0].account, place_of(now)
    position = state.position(giver)
    held = position.held.get(asset, 0)
    amount = abs(moves[0].delta) if action.amount is None else action.amount
    if action.name == "supply":
        if state.total_held.get(asset, 0) + amount > state.param("supply_cap", asset):
            return Refusal("supply cap exceeded")
        given = held_change(giver, asset, "collateral", amount, "supply", amount, place)
        return Acted(giver, (given, *_flags(action)), amount)
    if 0 in action.emptied:
        amount = held
    if amount > held:
        return Refusal("more than there is")
    left = position.holding(asset, held - amount)
    if not is_collateralized(state, left, state.indexes, prices):
        return Refusal("not collateralized")
    view = view_of(state, left, state.accrued(now.timestamp), prices) if left.principal < 0 else None
    changes = [held_change(giver, asset, "collateral", -amount, action.name, amount, place)]
    if action.name == "transfer":
        taker = next(change.account for change in moves if change.account != giver)
        changes.append(held_change(taker, asset, "collateral", amount, action.name, amount, place))
    return Acted(giver, (*changes, *_flags(action)), amount, view)


def _flags(action: Action) -> list[SettingChange]:
    """That an account holds a collateral for the first time, as history notes it."""
    return [change for change in action.changes if isinstance(change, SettingChange)]
