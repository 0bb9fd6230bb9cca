"""What a user's call does in a book that may differ from history's, checked as the contracts check it.

Source: curvefi/curve-stablecoin at 58289a42, ``contracts/Controller.vy`` ``_create_loan``, ``_add_collateral_borrow``,
``repay``. A call on another's loan, and one through a callback, is taken as the owner's own. What the controller has to
lend (its debt ceiling, a vault's cash) is taken as in history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange, SettingChange
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.protocols.llamma.account import LEAST_BANDS, first_band, oracle_price, view
from backtest.protocols.llamma.amm import MOST_BANDS
from backtest.protocols.llamma.math import AmmReverts
from backtest.protocols.llamma.state import BORROWED, COLLATERAL, LlammaState, apply
from backtest.units import WAD

Change = PositionChange | SettingChange | ParamChange


def act(state: LlammaState, action: Action, prices: Mapping[AssetId, int], now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``."""
    first = action.changes[0]
    if isinstance(first, ParamChange):
        return Acted(AccountId(-1), action.changes)
    state.refuse_regridded(now)
    account = first.account
    moved = {change.side: change for change in action.changes if isinstance(change, PositionChange)}
    told = {change.setting: change.value for change in action.changes if isinstance(change, SettingChange)}
    debt, collateral = ((moved[side].amount or 0) if side in moved else 0 for side in ("debt", "collateral"))
    if action.amount is not None:
        if action.name in ("supply", "withdraw"):
            collateral = action.amount
        else:
            debt = action.amount
    try:
        price = oracle_price(state, prices, now)
        if action.name == "repay":
            closes = any(
                place in action.emptied for place, change in enumerate(action.changes) if change is moved["debt"]
            )
            return _repay(state, account, None if closes else debt, action, price, now, prices)
        return _borrow(state, account, debt, collateral, told, action, price, now, prices)
    except AmmReverts as refused:
        return Refusal(str(refused))
    except PriceMissing as missing:
        return Refusal(f"no price of {missing.what}")


def _borrow(
    state: LlammaState, account: AccountId, more: int, collateral: int, told: Mapping[str, int], action: Action,
    price: int, now: Clock, prices: Mapping[AssetId, int],
) -> Acted | Refusal:  # fmt: skip
    loan, time = state.loan(account), now.timestamp
    x, y = state.amm.held_down(loan.shares, loan.first)
    bands = len(loan.shares) or told.get("last_band", 0) - told.get("first_band", 0) + 1
    if not loan.initial and action.name != "borrow":
        return Refusal("the loan does not exist")
    if not LEAST_BANDS <= bands <= MOST_BANDS:
        return Refusal("so many bands are not allowed")
    if x:
        return Refusal("already in underwater mode")
    if action.name == "withdraw" and collateral > y:
        return Refusal("more collateral than it has")
    left = y - collateral if action.name == "withdraw" else y + collateral
    debt = state.debt_up(loan, time) + more
    changes = _moved_bands(state, account, debt, left, bands, price, now)
    named = action.name
    changes[:0] = [
        position_change(now, account, BORROWED, "debt", debt - loan.initial, amount=more, action=named),
        position_change(now, account, COLLATERAL, "collateral", left - loan.deposited, amount=collateral, action=named),
    ]
    amount = collateral if named in ("supply", "withdraw") else more
    return _acted(state, account, changes, amount, now, prices)


def _moved_bands(
    state: LlammaState, account: AccountId, debt: int, collateral: int, bands: int, price: int, now: Clock
) -> list[Change]:
    """All shares leave, and so much collateral enters the bands that carry the debt."""
    loan = state.loan(account)
    book = replace(state, amm=state.amm.copy())
    changes: list[Change] = []
    if loan.shares:
        changes.append(setting_change(now, account, "withdrawn", COLLATERAL, WAD, action="repay"))
        book.amm.withdraw(loan.shares, loan.first, WAD)
    n = first_band(book, collateral, debt, bands, price, now.timestamp)
    book.amm.deposit(collateral, n, n + bands - 1)
    values = {
        "liquidation_discount": state.liquidation_discount,
        "first_band": n,
        "last_band": n + bands - 1,
        "deposited": collateral,
    }
    return changes + [setting_change(now, account, name, COLLATERAL, value) for name, value in values.items()]


def _repay(
    state: LlammaState, account: AccountId, asked: int | None, action: Action, price: int, now: Clock,
    prices: Mapping[AssetId, int],
) -> Acted | Refusal:  # fmt: skip
    loan = state.loan(account)
    owed = state.debt_up(loan, now.timestamp)
    if not owed:
        return Refusal("the loan does not exist")
    paid = owed if asked is None else min(asked, owed)
    if not paid:
        return Refusal("nothing is repaid")
    after = owed - paid
    y = state.amm.held_down(loan.shares, loan.first)[1]
    left, changes = loan.deposited, list[Change]()
    if not after:
        left = 0
        if loan.shares:
            changes.append(setting_change(now, account, "withdrawn", COLLATERAL, WAD))
    elif loan.first > state.amm.active_after_skip():
        left = y
        changes = _moved_bands(state, account, after, y, len(loan.shares), price, now)
    given = y if not after else 0
    changes[:0] = [
        position_change(now, account, BORROWED, "debt", after - loan.initial, amount=paid, action="repay"),
        position_change(now, account, COLLATERAL, "collateral", left - loan.deposited, amount=given, action="repay"),
    ]
    return _acted(state, account, changes, paid, now, prices)


def _acted(
    state: LlammaState, account: AccountId, changes: list[Change], amount: int, now: Clock,
    prices: Mapping[AssetId, int],
) -> Acted:  # fmt: skip
    name = next(change.action for change in changes if isinstance(change, PositionChange))
    made = [replace(change, action=name) if isinstance(change, SettingChange) else change for change in changes]
    book = state.copy()
    for change in made:
        apply(book, change)
    after = view(book, account, prices, now) if book.loan(account).initial else None
    return Acted(account, tuple(made), amount, after)
