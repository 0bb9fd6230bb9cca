"""What the book would be with the effects of a call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy

from backtest.model import IndexUpdate, ParamChange, PositionChange, SettingChange
from backtest.protocols.aave.effects import Effect as Effect
from backtest.protocols.aave.effects import Effects as Effects
from backtest.protocols.aave_v3.state import AaveState, apply


@contextmanager
def applied(state: AaveState, effects: Iterable[Effect]) -> Iterator[None]:
    """The state with these effects, as long as the block runs; as it was afterwards."""
    effects = list(effects)
    accounts = {
        e.account: state.accounts.get(e.account) for e in effects if isinstance(e, (PositionChange, SettingChange))
    }
    reserves = {
        e.asset: state.reserves[e.asset]
        for e in effects
        if isinstance(e, (IndexUpdate, ParamChange)) and e.asset is not None
    }
    moved = [state.reserves[e.asset] for e in effects if isinstance(e, PositionChange) and e.asset not in reserves]
    totals = [
        (reserve.scaled_supply, reserve.scaled_debt) for reserve in moved
    ]  # all that a change of a balance does to a reserve
    for account, book in accounts.items():
        if book is not None:
            state.accounts[account] = book.copy()
    for asset, reserve in reserves.items():
        state.reserves[asset] = copy(reserve)
    try:
        for effect in effects:
            apply(state, effect)
        yield
    finally:
        state.latest.clear()
        if reserves:
            state.weights.clear()
        for account, book in accounts.items():
            if book is None:
                state.accounts.pop(account, None)
            else:
                state.accounts[account] = book
                if state.own is not None:  # what it owned was the copy
                    state.own.discard(account)
        for asset, reserve in reserves.items():
            state.reserves[asset] = reserve
        for reserve, (supply, debt) in zip(moved, totals, strict=True):
            reserve.scaled_supply, reserve.scaled_debt = supply, debt
