"""What a user's call does in a book that may differ from history's, checked as the contract checks it.

Source: morpho-org/morpho-blue v1.0.0, ``src/Morpho.sol`` ``supply``, ``withdraw``, ``borrow``, ``repay``,
``supplyCollateral``, ``withdrawCollateral``, ``setAuthorization``. Callers authorised by the account, and callbacks,
are taken as in history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import AUTHORIZE, AccountId, AssetId, Clock, ParamChange, PositionChange, SettingChange
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.protocols.morpho_blue.account import is_healthy, view_of
from backtest.protocols.morpho_blue.math import to_assets_down, to_assets_up, to_shares_down, to_shares_up
from backtest.protocols.morpho_blue.state import COLLATERAL, MorphoState, Position, Totals, accrual, indexes_after

Convert = Callable[[int, int, int], int]

# Assets to shares and shares to assets, as each call rounds them.
_ROUNDING: Mapping[str, tuple[Convert, Convert]] = {
    "supply": (to_shares_down, to_assets_up),
    "withdraw": (to_shares_up, to_assets_down),
    "borrow": (to_shares_up, to_assets_down),
    "repay": (to_shares_down, to_assets_up),
}


def act(state: MorphoState, action: Action, prices: Mapping[AssetId, int], now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. A call may name assets or shares, which its log does not say: taken is the one that
    gives the logged amounts in this book, else the assets; a call that emptied a balance takes the shares. The fee's
    shares are no action: accruals credit them.
    """
    if action.name == "parameter":
        return _parameter(state, action, now)
    if action.name == AUTHORIZE:
        return Acted(_whose(action), action.changes)
    place, main = next((i, change) for i, change in enumerate(action.changes) if isinstance(change, PositionChange))
    if action.name == "treasury":
        return Acted(main.account, ())
    position = replace(state.positions.get(main.account, Position()))
    emptied = place in action.emptied
    try:
        if main.asset == COLLATERAL:
            return _collateral(state, action, main, position, emptied, prices, now)
        return _loan(state, action, main, position, emptied, prices, now)
    except PriceMissing as missing:
        return Refusal(missing.what)


def _whose(action: Action) -> AccountId:
    return next(change.account for change in action.changes if isinstance(change, SettingChange))


def _parameter(state: MorphoState, action: Action, now: Clock) -> Acted:
    """Interest recomputed: an accrual by itself is made here too; one that an action made then comes with that action,
    where it is made.
    """
    nobody = AccountId(-1)
    names = {change.name for change in action.changes if isinstance(change, ParamChange)}
    if "accrued_with_action" in names:
        return Acted(nobody, ())
    if "accrued" in names:
        return Acted(nobody, (*accrual(state, now), *indexes_after(state, state.accrued(now.timestamp), now)))
    return Acted(nobody, action.changes)


def _changed(
    action: Action, main: PositionChange, delta: int, amount: int
) -> list[PositionChange | SettingChange | ParamChange]:
    """The action's changes with its own one resized; flags stay as they were."""
    return [replace(main, delta=delta, amount=amount) if change is main else change for change in action.changes]


def _collateral(
    state: MorphoState,
    action: Action,
    main: PositionChange,
    position: Position,
    emptied: bool,
    prices: Mapping[AssetId, int],
    now: Clock,
) -> Acted | Refusal:
    amount = abs(main.delta) if action.amount is None else action.amount
    if action.name == "supply":
        return (
            Acted(main.account, tuple(_changed(action, main, amount, amount)), amount)
            if amount
            else Refusal("zero assets")
        )
    amount = position.collateral if emptied else min(amount, position.collateral)
    if not amount:
        return Refusal("zero assets")
    position.collateral -= amount
    totals = state.accrued(now.timestamp)
    if not is_healthy(state, position, totals, prices):
        return Refusal("insufficient collateral")
    after = view_of(state, position, totals, prices) if position.borrow_shares else None
    changes = (*_accrual(state, now), *_changed(action, main, -amount, amount), *indexes_after(state, totals, now))
    return Acted(main.account, changes, amount, after)


def _loan(
    state: MorphoState,
    action: Action,
    main: PositionChange,
    position: Position,
    emptied: bool,
    prices: Mapping[AssetId, int],
    now: Clock,
) -> Acted | Refusal:
    name, totals = action.name, state.accrued(now.timestamp)
    debt = main.side == "debt"
    held = position.borrow_shares if debt else position.supply_shares
    assets, shares = _size(action, main, totals, held, emptied)
    if not assets and not shares:
        return Refusal("inconsistent input: nothing is moved")
    sign = 1 if name in ("supply", "borrow") else -1
    if debt:
        position.borrow_shares += sign * shares
        totals.borrow_shares += sign * shares
        totals.borrow_assets = max(0, totals.borrow_assets + sign * assets)
    else:
        position.supply_shares += sign * shares
        totals.supply_shares += sign * shares
        totals.supply_assets += sign * assets
    after = None
    if name == "borrow":
        if not is_healthy(state, position, totals, prices):
            return Refusal("insufficient collateral")
        after = view_of(state, position, totals, prices)
    if name in ("borrow", "withdraw") and totals.borrow_assets > totals.supply_assets:
        return Refusal("insufficient liquidity")
    changes = (
        *_accrual(state, now),
        *_changed(action, main, sign * shares, assets),
        *indexes_after(state, totals, now),
    )
    return Acted(main.account, changes, assets, after)


def _size(action: Action, main: PositionChange, totals: Totals, held: int, emptied: bool) -> tuple[int, int]:
    """(assets, shares) of a call on the loan token, no more than is held where it takes away."""
    to_shares, to_assets = _ROUNDING[action.name]
    sums = (
        (totals.borrow_assets, totals.borrow_shares)
        if main.side == "debt"
        else (totals.supply_assets, totals.supply_shares)
    )
    takes = action.name in ("withdraw", "repay")
    logged = (main.amount or 0, abs(main.delta))
    assets = logged[0] if action.amount is None else action.amount
    if emptied and logged[1] != held:
        return to_assets(held, *sums), held
    if action.amount is None or emptied:
        if (logged[0], to_shares(logged[0], *sums)) == logged or (to_assets(logged[1], *sums), logged[1]) == logged:
            return logged if not takes or logged[1] <= held else (to_assets(held, *sums), held)
        if emptied:
            return to_assets(held, *sums), held
    shares = to_shares(assets, *sums)
    return (assets, shares) if not takes or shares <= held else (to_assets(held, *sums), held)


def _accrual(state: MorphoState, now: Clock) -> tuple[ParamChange, ...]:
    return tuple(accrual(state, now)) if now.timestamp > state.totals.updated else ()
