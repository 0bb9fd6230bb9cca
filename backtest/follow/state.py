"""Where a market stands at the end of a block, taken on block by block: the protocol's fold under way, and its book."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest.follow.spans import Span, Told
from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId, Clock, Market, MarketEvent, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.folding import Running
from backtest.protocols.interface import LendingProtocol
from backtest.replay.timeline import END_OF_BLOCK, Timeline

_FOLDED = ("params", "indexes", "prices", "position_events", "setting_events", "liquidations", "deficits")


class Outgrown(Exception):
    """The market is not the one that this state began with: it lists other assets."""


@dataclass(frozen=True, slots=True)
class SeenBlock:
    """A block of the chain. ``timestamp`` in seconds; hashes are 0x hex."""

    number: int
    hash: str
    parent: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class BlockChanges:
    """What one block does to a market: its events in order, the oracle's prices at its end where they differ, and debts
    written off (account, asset, native units).
    """

    block: SeenBlock
    events: Sequence[MarketEvent]
    prices: Sequence[tuple[AssetId, int | None]] = ()
    written_off: Sequence[tuple[AccountId, AssetId, int]] = ()


Losses = dict[int, list[tuple[AccountId, AssetId, int]]]
"""By block: account, asset and native units."""
Visit = Callable[["MarketState", BlockChanges], object]
"""Called for a block instead of ``MarketState.take``, which it has to call."""


class MarketState:
    """One market at the end of ``block``."""

    def __init__(
        self, config: MarketConfig, book: Book[Any], names: Sequence[str], block: int, running: Running | None
    ) -> None:
        """``running``: None where the protocol folds whole histories only."""
        self.config, self.book, self.block, self.names = config, book, block, list(names)
        self._running = running

    @property
    def protocol(self) -> LendingProtocol[Any]:
        return self.book.protocol

    @classmethod
    def at_end(
        cls,
        config: MarketConfig,
        market: Market,
        timeline: Timeline,
        told: Told,
        protocol: LendingProtocol[Any],
        to_block: int,
    ) -> MarketState:
        """Where the history of a lake, which ends with ``told.lake.final``, stands at the end of a block of it."""
        book: Book[Any] = Book.open(protocol, market)
        for transaction in timeline.transactions(to_block):
            for event in transaction:
                book.relive(event)
        seconds = int(timeline.timestamps[max(int((timeline.blocks <= to_block).sum()) - 1, 0)])
        book.now = Clock(to_block, END_OF_BLOCK, seconds)
        running = Running()
        made = protocol.fold_on(config, told.span(-1, told.lake.final), running)
        for _ in made or ():
            pass
        return cls(config, book, market.accounts, to_block, None if made is None else running)

    def copy(self) -> MarketState:
        """As it is now, independent of this one."""
        return MarketState(self.config, self.book.copy(), self.names, self.block, deepcopy(self._running))

    def advance(
        self,
        told: Told,
        blocks: Sequence[SeenBlock],
        prices: Mapping[int, Sequence[tuple[AssetId, int | None]]],
        visit: Visit | None = None,
    ) -> None:
        """Over these blocks, which follow on ``block``.

        Raises:
            Outgrown: the market lists assets that it did not; the state is of no use any more.
            RulesError: the protocol's rules do not explain a log.
        """
        last = blocks[-1].number
        timeline, lost = self._folded(told.span(self.block, last), told, last)
        events: dict[int, list[MarketEvent]] = defaultdict(list)
        for event in timeline:
            events[event.block_number].append(event)
        for block in blocks:
            changes = BlockChanges(
                block, events.get(block.number, ()), prices.get(block.number, ()), lost.get(block.number, ())
            )
            if visit is None:
                self.take(changes)
            else:
                visit(self, changes)

    def take(self, changes: BlockChanges) -> list[MarketEvent]:
        """The effects of one block; those are returned that are not among its events (``Book.relive``)."""
        block, book = changes.block, self.book
        told = [effect for event in changes.events for effect in book.relive(event)]
        for asset, price in changes.prices:
            if book.oracle.get(asset) != price:
                place = {"seq": -1, "block_number": block.number, "log_index": END_OF_BLOCK}
                book.apply(PriceUpdate(**place, timestamp=block.timestamp, asset=asset, price=price))
        book.now = Clock(block.number, END_OF_BLOCK, block.timestamp)
        self.block = block.number
        return told

    def _folded(self, span: Span, told: Told, last: int) -> tuple[Timeline, Losses]:
        """Canonical events behind ``block`` up to ``last``, and debts written off by block."""
        tables: dict[str, list[pa.Table]] = defaultdict(list)
        own = f"raw/{self.config.protocol}/"
        first = self.block + 1
        lake, market = told.lake, self.config.name
        new = any(lake.read(name, market, columns=["block_number"], from_block=first, to_block=last).num_rows
                  for name in lake.datasets(market) if name.startswith(own))  # fmt: skip
        if not new:
            return Timeline.of({}), {}
        running = self._running
        made = None if running is None else self.protocol.fold_on(self.config, span, running)
        if made is None:
            self._running = None  # it has not seen these logs
            made = self.protocol.fold(self.config, told.span(-1, last))
        for name, table in made:
            if name == "accounts":
                self._name(table)
            elif name == "assets" and table.num_rows != len(self.book.market.assets):
                raise Outgrown
            elif name in _FOLDED and table.num_rows:
                tables[name].append(table.filter(pc.greater(table["block_number"], self.block)))
        digits = 0 if self.config.price_decimals is None else self.config.price_decimals - self.config.base_decimals
        whole = {name: pa.concat_tables(parts).sort_by("seq") for name, parts in tables.items()}
        return Timeline.of(whole, price_digits=digits), written_off(whole.get("deficits"))

    def _name(self, table: pa.Table) -> None:
        known = len(self.names)
        numbers, names = (table.sort_by("account_id")[name].to_pylist() for name in ("account_id", "account"))
        first = numbers[0] if numbers else known
        old = names[: known - first]
        if first > known or old != self.names[first:]:
            raise Outgrown  # a fold of the whole numbers accounts otherwise than the one before
        self.names += names[known - first :]


def written_off(deficits: pa.Table | None) -> Losses:
    """The debts that rows of the canonical table say were written off."""
    found: Losses = defaultdict(list)
    for row in () if deficits is None else deficits.to_pylist():
        if row["kind"] == "created":
            found[row["block_number"]].append((row["account_id"], row["asset_id"], int(row["amount"])))
    return found
