"""What a user's call does in a book that may differ from history's, checked as the contracts check it.

Source: compound-finance/compound-protocol, ``contracts/CToken.sol`` ``mintFresh``, ``redeemFresh``, ``borrowFresh``,
``repayBorrowFresh``, ``transferTokens``; ``contracts/Comptroller.sol`` ``mintAllowed``, ``redeemAllowedInternal``,
``borrowAllowed``, ``transferAllowed``, ``enterMarkets``, ``exitMarket``. Allowances are taken as in history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, IndexUpdate, ParamChange, PositionChange, SettingChange
from backtest.protocols.compound_v2.account import has_shortfall, price_of, view_of
from backtest.protocols.compound_v2.math import div_down, mul_down
from backtest.protocols.compound_v2.state import (
    NOBODY,
    Account,
    CompoundState,
    CTokenMarket,
    accrual,
    apply,
    indexes_after,
)
from backtest.protocols.interface import AccountView, Acted, Action, Refusal

Change = PositionChange | SettingChange | ParamChange | IndexUpdate
_MOVES_THE_RATE = frozenset({"rate_model", "reserves_added", "reserves_reduced"})


def act(state: CompoundState, action: Action, prices: Mapping[AssetId, int], now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. Whether a redemption named cTokens or units its log does not say: taken is what
    gives the logged amounts in this book, else the units; one that emptied a balance takes the cTokens.
    """
    if action.name == "parameter":
        return _parameter(state, action, now)
    if action.name in ("enter", "exit"):
        return _membership(state, action, prices)
    place, main = next((i, change) for i, change in enumerate(action.changes) if isinstance(change, PositionChange))
    call = _CALLS[action.name]
    try:
        return call(state, action, main, place in action.emptied, prices, now)
    except PriceMissing as missing:
        return Refusal(missing.what)


def _parameter(state: CompoundState, action: Action, now: Clock) -> Acted:
    """Interest recomputed: an accrual by itself is made here too; one that an action made then comes with that action,
    where it is made.
    """
    nobody = AccountId(-1)
    change = next(change for change in action.changes if isinstance(change, ParamChange))
    if change.name == "accrued_with_action":
        return Acted(nobody, ())
    if change.name == "accrued" and change.asset is not None:
        return Acted(nobody, _with_interest(state, change.asset, state.accrued(change.asset, now), [], now))
    if change.name in _MOVES_THE_RATE and change.asset is not None:
        book = replace(state, pools=[replace(pool) for pool in state.pools])
        apply(book, change)
        return Acted(nobody, (change, *indexes_after(book, change.asset, book.pools[change.asset], now)))
    return Acted(nobody, (change,))


def _with_interest(
    state: CompoundState, asset: AssetId, left: CTokenMarket, changes: list[Change], now: Clock
) -> tuple[Change, ...]:
    """The accrual of a call, what it does itself, and the indexes that it leaves."""
    return (*accrual(state, asset, now), *changes, *indexes_after(state, asset, left, now))


def _asked(action: Action, main: PositionChange) -> int:
    return (main.amount or 0) if action.amount is None else action.amount


def _resized(action: Action, main: PositionChange, delta: int, amount: int) -> list[Change]:
    return [replace(main, delta=delta, amount=amount) if change is main else change for change in action.changes]


def _after(
    state: CompoundState, own: Account, asset: AssetId, left: CTokenMarket, prices: Mapping[AssetId, int]
) -> AccountView | None:
    return view_of(state, own, prices, {asset: left}) if own.debts else None


def _mint(
    state: CompoundState, action: Action, main: PositionChange, emptied: bool, prices: Mapping[AssetId, int], now: Clock
) -> Acted | Refusal:
    asset, left, amount = main.asset, state.accrued(main.asset, now), _asked(action, main)
    if left.mint_paused:
        return Refusal("mint is paused")
    rate = left.exchange_rate
    if rate:
        tokens = div_down(amount, rate)
    elif amount == main.amount:  # the first mint of all: its rate is what history's was
        tokens = main.delta
    else:
        return Refusal("the first exchange rate of the cToken is in no log")
    left.cash += amount
    left.supply += tokens
    changes = _resized(action, main, tokens, amount)
    return Acted(main.account, _with_interest(state, asset, left, changes, now), amount)


def _redeem(
    state: CompoundState, action: Action, main: PositionChange, emptied: bool, prices: Mapping[AssetId, int], now: Clock
) -> Acted | Refusal:
    asset, left = main.asset, state.accrued(main.asset, now)
    own = state.accounts.get(main.account, NOBODY).copy()
    held, rate, amount = own.tokens.get(asset, 0), left.exchange_rate, _asked(action, main)
    if not rate and amount:
        return Refusal("redeems more than it holds")
    tokens = div_down(amount, rate) if rate else 0
    if emptied:
        tokens, amount = held, mul_down(rate, held)
    elif action.amount is None and mul_down(rate, -main.delta) == main.amount:
        tokens = -main.delta
    if tokens > held:
        return Refusal("redeems more than it holds")
    if not tokens and amount:
        return Refusal("redeems no cToken for something")
    if asset in own.entered and has_shortfall(state, own, prices, {asset: left}, (asset, tokens, 0)):
        return Refusal("insufficient liquidity")
    if left.cash < amount:
        return Refusal("the cToken has not the cash")
    left.cash -= amount
    left.supply -= tokens
    _put(own.tokens, asset, held - tokens)
    changes = _resized(action, main, -tokens, amount)
    view = _after(state, own, asset, left, prices)
    return Acted(main.account, _with_interest(state, asset, left, changes, now), amount, view)


def _borrow(
    state: CompoundState, action: Action, main: PositionChange, emptied: bool, prices: Mapping[AssetId, int], now: Clock
) -> Acted | Refusal:
    asset, left, amount = main.asset, state.accrued(main.asset, now), _asked(action, main)
    own = state.accounts.get(main.account, NOBODY).copy()
    own.entered |= {asset}  # borrowAllowed enters it; its log is an action of its own
    if left.borrow_paused:
        return Refusal("borrow is paused")
    price_of(state, asset, prices)
    if left.cap and left.borrows + amount >= left.cap:
        return Refusal("market borrow cap reached")
    if has_shortfall(state, own, prices, {asset: left}, (asset, 0, amount)):
        return Refusal("insufficient liquidity")
    if left.cash < amount:
        return Refusal("the cToken has not the cash")
    owed, principal = own.owed(asset, left.index) + amount, own.debts.get(asset, (0, 0))[0]
    left.cash -= amount
    left.borrows += amount
    if owed:
        own.debts[asset] = owed, left.index
    changes = _resized(action, main, owed - principal, amount)
    view = _after(state, own, asset, left, prices)
    return Acted(main.account, _with_interest(state, asset, left, changes, now), amount, view)


def _repay(
    state: CompoundState, action: Action, main: PositionChange, emptied: bool, prices: Mapping[AssetId, int], now: Clock
) -> Acted | Refusal:
    asset, left = main.asset, state.accrued(main.asset, now)
    own = state.accounts.get(main.account, NOBODY)
    owed, principal = own.owed(asset, left.index), own.debts.get(asset, (0, 0))[0]
    amount = owed if emptied else _asked(action, main)
    if amount > owed:
        return Refusal("repays more than it owes")
    left.cash += amount
    left.borrows -= amount
    changes = _resized(action, main, owed - amount - principal, amount)
    return Acted(main.account, _with_interest(state, asset, left, changes, now), amount)


def _transfer(
    state: CompoundState, action: Action, main: PositionChange, emptied: bool, prices: Mapping[AssetId, int], now: Clock
) -> Acted | Refusal:
    """A transfer accrues nothing: the Comptroller takes all cTokens as they are stored."""
    asset, pool = main.asset, state.pools[main.asset]
    own = state.accounts.get(main.account, NOBODY).copy()
    held = own.tokens.get(asset, 0)
    tokens = held if emptied else -main.delta
    if action.amount is not None and not emptied:
        tokens = div_down(action.amount, pool.exchange_rate) if pool.exchange_rate else 0
    if state.transfer_paused:
        return Refusal("transfer is paused")
    if tokens > held:
        return Refusal("transfers more than it holds")
    if asset in own.entered and has_shortfall(state, own, prices, {}, (asset, tokens, 0)):
        return Refusal("insufficient liquidity")
    amount = mul_down(pool.exchange_rate, tokens)
    if tokens == -main.delta and main.amount is not None and action.amount is None:
        amount = main.amount  # cTokens were asked for, whatever they are worth here
    _put(own.tokens, asset, held - tokens)
    changes: list[PositionChange | SettingChange | ParamChange] = []
    for change in action.changes:
        if isinstance(change, PositionChange):
            changes.append(replace(change, delta=tokens if change.delta > 0 else -tokens, amount=amount))
        else:
            changes.append(change)
    return Acted(main.account, tuple(changes), amount, _after(state, own, asset, pool, prices))


def _membership(state: CompoundState, action: Action, prices: Mapping[AssetId, int]) -> Acted | Refusal:
    change = next(change for change in action.changes if isinstance(change, SettingChange))
    asset, own = change.asset, state.accounts.get(change.account, NOBODY)
    assert asset is not None
    if change.value:
        return Acted(change.account, action.changes)
    if asset in own.debts:
        return Refusal("owes what it would leave")
    try:
        held = own.tokens.get(asset, 0)
        if asset in own.entered and has_shortfall(state, own, prices, {}, (asset, held, 0)):
            return Refusal("insufficient liquidity")
        left = Account(own.tokens, own.debts, own.entered - {asset})
        return Acted(change.account, action.changes, view=view_of(state, left, prices) if own.debts else None)
    except PriceMissing as missing:
        return Refusal(missing.what)


def _put(values: dict[AssetId, int], asset: AssetId, value: int) -> None:
    values[asset] = value
    if not value:
        del values[asset]


_CALLS = {"supply": _mint, "withdraw": _redeem, "borrow": _borrow, "repay": _repay, "transfer": _transfer}
