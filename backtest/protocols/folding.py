"""Rows of canonical tables, and the same changes in a book that a fold keeps beside them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import pyarrow as pa

from backtest.errors import RulesError
from backtest.model import (
    AccountId,
    AssetId,
    IndexUpdate,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    SettingChange,
    Side,
)
from backtest.protocols.interface import RawEvents, State
from backtest.tables import CANONICAL

Carried = TypeVar("Carried")
Rows = dict[str, list[dict[str, Any]]]
"""By canonical table."""
_PLACE = ("seq", "block_number", "log_index", "timestamp")


class Running:
    """What a fold has in hand between two parts of a history; a copy of it goes on by itself."""

    def __init__(self) -> None:
        self._carried: Any = None

    def begin(self, make: Callable[[], Carried]) -> Carried:
        """What the part before left, or what ``make`` makes where this is the first part."""
        if self._carried is None:
            self._carried = make()
        carried: Carried = self._carried
        return carried


def refuse_quarantined(raw: RawEvents, fix: str) -> None:
    """RulesError for the first log that could not be decoded; ``fix``: what may be done about it."""
    for row in raw.table("Quarantine").sort_by([("block_number", "ascending"), ("log_index", "ascending")]).to_pylist():
        raise RulesError(
            f"block {row['block_number']}, log {row['log_index']}: a {row['event']} log could not be decoded"
            f" ({row['reason']}), so positions after it are unknown",
            fix,
        )


def listed_rows(market: Market, ids: Mapping[str, int], known: int) -> Iterator[tuple[str, pa.Table]]:
    """The canonical tables of a market's assets, none of which has tokens of its own for what is held and owed, and of
    its accounts: those of ``ids`` that came after the first ``known``.
    """
    head = {"market": market.name, "collateral_token": None, "debt_token": None}
    assets = [
        {**head, "asset_id": a.id, "asset": a.asset, "symbol": a.symbol, "decimals": a.decimals} for a in market.assets
    ]
    yield "assets", pa.Table.from_pylist(assets, CANONICAL["assets"])
    people = [
        {"market": market.name, "account_id": n, "account": account}
        for account, n in itertools.islice(ids.items(), known, None)
    ]
    yield "accounts", pa.Table.from_pylist(people, CANONICAL["accounts"])


class BookRows(Generic[State]):
    """The book as of the last log, and ids of accounts in order of first appearance. A fold derives from it."""

    def __init__(self, market: Market, state: State, apply: Callable[[State, MarketEvent], None]) -> None:
        self.market, self.state = market, state
        self.ids: dict[str, int] = {}
        self._apply = apply
        self._rows: Rows = defaultdict(list)
        self._place: dict[str, int] = {}

    def _at(self, row: Mapping[str, Any]) -> None:
        """What follows is of this log."""
        self._place = {name: row[name] for name in _PLACE}

    def _id(self, address: bytes) -> AccountId:
        return AccountId(self.ids.setdefault(f"0x{address.hex()}", len(self.ids)))

    def _add(self, table: str, **columns: Any) -> None:
        self._rows[table].append({"market": self.market.name, **self._place, **columns})

    def _param(self, name: str, value: int, asset: AssetId | None = None) -> None:
        self._apply(self.state, ParamChange(**self._place, name=name, value=value, asset=asset))
        self._add("params", asset_id=asset, category=None, name=name, value=value)

    def _balance(
        self, account: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int | None
    ) -> None:
        """A balance changes, in an action of this log alone."""
        own: dict[str, Any] = {**self._place, "action": action, "action_seq": self._place["seq"], "amount": amount}
        self._changed(PositionChange(account=account, asset=asset, side=side, delta=delta, **own))

    def _changed(self, change: PositionChange) -> None:
        self._apply(self.state, change)
        self._add(
            "position_events",
            account_id=change.account,
            asset_id=change.asset,
            side=change.side,
            delta=change.delta,
            action=change.action,
            action_seq=change.action_seq,
            amount=change.amount,
        )

    def _setting(self, account: AccountId, setting: str, asset: AssetId | None, value: int, action: str) -> None:
        seq = self._place["seq"]
        change = SettingChange(
            **self._place, account=account, setting=setting, asset=asset, value=value, action=action, action_seq=seq
        )
        self._apply(self.state, change)
        self._add(
            "setting_events",
            account_id=account,
            setting=setting,
            asset_id=asset,
            value=value,
            action=action,
            action_seq=seq,
        )

    def _indexed(self, update: IndexUpdate) -> None:
        """Indexes and rates from here on."""
        self._apply(self.state, update)
        self._add(
            "indexes",
            asset_id=update.asset,
            supply_index=update.supply_index,
            borrow_index=update.borrow_index,
            supply_rate=update.supply_rate,
            borrow_rate=update.borrow_rate,
        )
