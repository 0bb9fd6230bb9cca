"""How users behave in a book that is no longer history's. ``FrozenUsers``: they do what they did, as far as it fits.

Each historical change passes through ``adapt`` before it reaches the book. A model that re-checks actions under the scenario's
parameters, or lets users respond, takes the same place: all changes of one action share ``action_seq``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from backtest.model import AccountId, AssetId, PositionChange, SettingChange, Side
from backtest.protocols import State
from backtest.replay.book import Book
from backtest.units import RAY

Change = TypeVar("Change", PositionChange, SettingChange)
Key = tuple[AccountId, AssetId, Side]


@dataclass
class Clamped:
    """Actions of one kind that did not fit: how many changes, and by how much (base units, at stored indexes, rounded down)."""

    count: int = 0
    value_base: int = 0


class FrozenUsers:
    """Users repeat their historical actions.

    A change that would leave a balance negative is cut to what is there; an action that emptied a balance in history empties
    it here, however much it holds; a transfer hands over what the sender could give. Where a seizure emptied a balance that
    history kept as collateral, the next deposit counts as collateral again, as a first deposit does.
    """

    def __init__(self) -> None:
        self._history: dict[Key, int] = {}
        self._apart: dict[Key, int] = {}
        """Replayed minus historical scaled balance, where they differ."""
        self._flags: dict[tuple[AccountId, AssetId], int] = {}
        self._short: tuple[int, AssetId, Side, int] | None = None
        """A transfer whose sender gave something else than in history: action, asset, side, difference."""
        self._receivers: set[AccountId] = set()
        self.clamped: dict[str, Clamped] = {}
        """Actions of users that did not fit, by action."""
        self.unfunded: dict[str, Clamped] = {}
        """The same of accounts that received collateral in liquidations which the replay leaves out: history's liquidators, treasuries."""

    def historical(self, change: PositionChange | SettingChange) -> None:
        """History made this change and the replay does not (it belongs to a liquidation that is left out)."""
        if isinstance(change, PositionChange):
            key = (change.account, change.asset, change.side)
            self._history[key] = self._history.get(key, 0) + change.delta
            self._drift(key, -change.delta)
            if change.delta > 0:
                self._receivers.add(change.account)
        elif change.setting == "collateral_enabled" and change.asset is not None:
            self._flags[change.account, change.asset] = change.value

    def modelled(self, change: PositionChange) -> None:
        """The replay made this change and history did not."""
        self._drift((change.account, change.asset, change.side), change.delta)

    def adapt(self, change: PositionChange | SettingChange, book: Book[State]) -> Sequence[PositionChange | SettingChange]:
        """What a historical change of a user becomes."""
        if type(change) is SettingChange:
            if change.setting == "collateral_enabled" and change.asset is not None:
                self._flags[change.account, change.asset] = change.value
            return (change,)
        assert type(change) is PositionChange
        key = (change.account, change.asset, change.side)
        history = self._history
        before = history.get(key, 0)
        history[key] = after = before + change.delta
        if not self._apart and self._short is None:
            return (change,)
        drift = self._apart.get(key, 0)
        short = self._received(change)
        if not drift and not short:
            return (change,)
        here = before + drift
        delta = change.delta + short
        if change.delta < 0:
            delta = -here if after == 0 else max(change.delta, -here)
        changed = delta - change.delta
        if changed:
            self._drift(key, changed)
            self._count(change, abs(changed) if not short else 0, book)
            if change.action == "transfer" and change.delta < 0:
                self._short = (change.action_seq, change.asset, change.side, -changed)
        adapted = replace(change, delta=delta) if changed else change
        if delta > 0 and here == 0 and before > 0 and change.side == "collateral" and self._flags.get((change.account, change.asset)):
            return (adapted, _enable(change))
        return (adapted,)

    def _received(self, change: PositionChange) -> int:
        """How much more (or, negative, less) than in history the receiving side of a transfer gets."""
        if self._short is None or change.delta <= 0:
            return 0
        action, asset, side, difference = self._short
        if (action, asset, side) != (change.action_seq, change.asset, change.side):
            return 0
        self._short = None
        return max(difference, -change.delta)

    def _drift(self, key: Key, delta: int) -> None:
        drift = self._apart.get(key, 0) + delta
        if drift:
            self._apart[key] = drift
        else:
            self._apart.pop(key, None)

    def _count(self, change: PositionChange, scaled: int, book: Book[State]) -> None:
        if not scaled:
            return
        index = book.indexes.get(change.asset)
        ray = RAY if index is None else index.supply_index if change.side == "collateral" else index.borrow_index
        counts = self.unfunded if change.account in self._receivers else self.clamped
        counted = counts.setdefault(change.action, Clamped())
        counted.count += 1
        counted.value_base += book.value_down(change.asset, scaled * ray // RAY)


def _enable(change: PositionChange) -> SettingChange:
    return SettingChange(
        seq=change.seq,
        block_number=change.block_number,
        log_index=change.log_index,
        timestamp=change.timestamp,
        account=change.account,
        setting="collateral_enabled",
        asset=change.asset,
        value=1,
        action=change.action,
        action_seq=change.action_seq,
    )
