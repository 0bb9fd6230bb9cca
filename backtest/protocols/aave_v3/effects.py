"""The effects of one call on the book, in order, and what the book would be with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy

from backtest.model import AccountId, AssetId, Clock, IndexUpdate, ParamChange, PositionChange, SettingChange, Side
from backtest.protocols.aave_v3.interest import param
from backtest.protocols.aave_v3.state import UNPLACED, AaveState, apply

Effect = PositionChange | SettingChange | IndexUpdate | ParamChange


class Effects:
    """Collects effects of one ``action``, all at one clock."""

    def __init__(self, now: Clock, action: str) -> None:
        self._now, self._action = now, action
        self.all: list[Effect] = []

    def position(self, account: AccountId, asset: AssetId, side: Side, delta: int) -> None:
        """A change of a scaled balance; none for zero."""
        now = self._now
        if delta:
            self.all.append(
                PositionChange(
                    seq=UNPLACED,
                    block_number=now.block_number,
                    log_index=now.log_index,
                    timestamp=now.timestamp,
                    account=account,
                    asset=asset,
                    side=side,
                    delta=delta,
                    action=self._action,
                    action_seq=UNPLACED,
                )
            )

    def setting(self, account: AccountId, setting: str, asset: AssetId | None, value: int) -> None:
        """A change of an account's own setting."""
        now = self._now
        self.all.append(
            SettingChange(
                seq=UNPLACED,
                block_number=now.block_number,
                log_index=now.log_index,
                timestamp=now.timestamp,
                account=account,
                setting=setting,
                asset=asset,
                value=value,
                action=self._action,
                action_seq=UNPLACED,
            )
        )

    def param(self, name: str, asset: AssetId, value: int) -> None:
        """A market-wide value."""
        self.all.append(param(self._now, name, asset, value))


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
