"""A market's history as immutable columns, merged into one stream of events that a replay consumes.

Order: by ``seq``; rows that one log gave come as parameters, indexes, prices, pools, market prices, positions,
settings, liquidation. A replay takes the stream a transaction at a time, since nobody can act inside the transaction of
another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import UserError
from backtest.model import (
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    MarketEvent,
    MarketPrice,
    ParamChange,
    PoolChange,
    PositionChange,
    PriceUpdate,
    SettingChange,
)

if TYPE_CHECKING:
    from backtest.replay.passing import Passing

Ints = npt.NDArray[np.int64]

_FEW, _CHUNK = 256, 16_384

# Table, event class, and the event's own attributes with the column each comes from; the order is that of rows of one
# log.
_KINDS: tuple[tuple[str, type[MarketEvent], dict[str, str]], ...] = (
    ("params", ParamChange, {"name": "name", "value": "value", "asset": "asset_id", "category": "category"}),
    (
        "indexes",
        IndexUpdate,
        {
            "asset": "asset_id",
            "supply_index": "supply_index",
            "borrow_index": "borrow_index",
            "supply_rate": "supply_rate",
            "borrow_rate": "borrow_rate",
        },
    ),
    ("prices", PriceUpdate, {"asset": "asset_id", "price": "price"}),
    (
        "pool_events",
        PoolChange,
        {"pool": "pool_id", "tick": "tick", "liquidity": "liquidity", "upper": "upper", "sqrt_price": "sqrt_price"},
    ),
    ("market_prices", MarketPrice, {"asset": "asset_id", "price": "price"}),
    (
        "position_events",
        PositionChange,
        {
            "account": "account_id",
            "asset": "asset_id",
            "side": "side",
            "delta": "delta",
            "action": "action",
            "action_seq": "action_seq",
            "amount": "amount",
        },
    ),
    (
        "setting_events",
        SettingChange,
        {
            "account": "account_id",
            "setting": "setting",
            "asset": "asset_id",
            "value": "value",
            "action": "action",
            "action_seq": "action_seq",
        },
    ),
    (
        "liquidations",
        HistoricalLiquidation,
        {
            "account": "account_id",
            "liquidator": "liquidator_id",
            "debt_asset": "debt_asset_id",
            "collateral_asset": "collateral_asset_id",
            "repaid": "repaid",
            "seized": "seized",
            "protocol_fee": "protocol_fee",
            "receive_collateral_token": "receive_collateral_token",
            "deficits": "deficits",
            "debt_scaled": "debt_scaled",
        },
    ),
)
_KEY = {"seq": "seq", "block_number": "block_number", "log_index": "log_index", "timestamp": "timestamp"}


class _Column:
    """One column, cut into lists of Python values. Amounts keep their 128-bit words: an int costs no Decimal."""

    def __init__(self, column: pa.ChunkedArray | pa.Array) -> None:
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_dictionary(array.type):
            self.words = np.asarray(array.indices.to_numpy(zero_copy_only=False))
            self.names: list[str] | None = array.dictionary.to_pylist()
            self.null = None
            return
        self.names = None
        self.null = np.asarray(array.is_null().to_numpy(zero_copy_only=False)) if array.null_count else None
        if pa.types.is_decimal128(array.type):
            buffer = array.buffers()[1]
            words = np.frombuffer(buffer, dtype="<i8") if buffer is not None else np.empty(0, dtype="<i8")
            self.words = words.reshape(-1, 2)[array.offset : array.offset + len(array)]
        elif pa.types.is_fixed_size_binary(array.type):  # whole numbers of more digits, big-endian
            width, buffer = array.type.byte_width, array.buffers()[1]
            octets = np.frombuffer(buffer, dtype=np.uint8) if buffer is not None else np.empty(0, dtype=np.uint8)
            self.words = octets[: len(octets) // width * width].reshape(-1, width)[
                array.offset : array.offset + len(array)
            ]
        else:
            filled = pc.fill_null(array, False if pa.types.is_boolean(array.type) else 0) if array.null_count else array
            self.words = filled.to_numpy(zero_copy_only=False)

    def values(self, start: int, stop: int) -> list[Any]:
        """Rows [start, stop) as ints, bools or text; None where null."""
        words = self.words[start:stop]
        if words.dtype == np.uint8:
            out: list[Any] = [int.from_bytes(word, "big") for word in map(bytes, words)]
        elif words.ndim == 2:
            low, high = words[:, 0], words[:, 1]
            if ((low >> 63) == high).all():  # every value fits 64 bits
                out = low.tolist()
            else:
                out = [
                    (top << 64) | bottom
                    for bottom, top in zip(low.view(np.uint64).tolist(), high.tolist(), strict=True)
                ]
        else:
            out = words.tolist()
            if self.names is not None:
                names = self.names
                return [names[i] for i in out]
        if self.null is not None and self.null[start:stop].any():
            return [None if null else value for value, null in zip(out, self.null[start:stop].tolist(), strict=True)]
        return out

    def floats(self) -> npt.NDArray[np.float64]:
        """All rows as the nearest doubles, NaN where null; of numbers only."""
        words = self.words
        wide = words.ndim == 2
        found = (
            words[:, 1].astype(np.float64) * 2.0**64 + words[:, 0].view(np.uint64) if wide else words.astype(np.float64)
        )
        if self.null is not None:
            found[self.null] = np.nan
        return found

    def take(self, rows: npt.NDArray[np.bool_]) -> _Column:
        """The column of the rows of a mask."""
        made = self.valued(self.words[rows])
        made.null = None if self.null is None else self.null[rows]
        return made

    def valued(self, words: npt.NDArray[Any]) -> _Column:
        """The column with other values."""
        made = copy(self)
        made.words = words
        return made


class _Columns(Mapping[str, "_Column | list[Any]"]):
    """The columns of a table by attribute of the event class, each read from the table when it is first asked for."""

    def __init__(self, table: pa.Table, sources: Mapping[str, str], made: Mapping[str, _Column | list[Any]]) -> None:
        """``sources``: which column of the table an attribute comes from. ``made``: those that are there already."""
        self._table, self._sources, self._made = table, sources, dict(made)

    def __getitem__(self, attribute: str) -> _Column | list[Any]:
        if attribute not in self._made:
            self._made[attribute] = _Column(self._table[self._sources[attribute]])
        return self._made[attribute]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def taken(self, rows: npt.NDArray[np.bool_]) -> _Columns:
        """Those of the rows of a mask."""
        made = {
            name: column.take(rows) if isinstance(column, _Column) else list(compress(column, rows))
            for name, column in self._made.items()
        }
        unread = list(dict.fromkeys(source for name, source in self._sources.items() if name not in made))
        return _Columns(self._table.select(unread).filter(pa.array(rows)), self._sources, made)

    def replaced(self, attribute: str, words: npt.NDArray[Any]) -> _Columns:
        """With other values in one column."""
        column = self[attribute]
        assert isinstance(column, _Column)
        return _Columns(self._table, self._sources, {**self._made, attribute: column.valued(words)})


@dataclass(frozen=True)
class _Kind:
    event: type[MarketEvent]
    columns: Mapping[str, _Column | list[Any]]
    """By attribute of the event class."""

    def build(self, start: int, stop: int) -> list[MarketEvent]:
        """Events of rows [start, stop), made column by column: a third of the cost of calling the frozen class for
        each.
        """
        new: Any = self.event.__new__
        events: list[MarketEvent] = list(map(new, [self.event] * (stop - start)))
        for attribute, column in self.columns.items():
            setter = getattr(self.event, attribute).__set__
            values = column[start:stop] if isinstance(column, list) else column.values(start, stop)
            deque(map(setter, events, values), maxlen=0)
        return events


@dataclass(frozen=True)
class Timeline:
    """The canonical history of one market. Share it: nothing in it changes, and a scenario's overrides are not in it.

    Attributes:
        kinds: one entry for each table that becomes events.
        kind: int8, which kind each merged row is of; rows of one kind are in its table's order.
        block: int64, block of each merged row.
        ends: int64, merged row at which each transaction ends (exclusive), increasing.
        blocks, timestamps: every block whose time is known, in order; seconds.
    """

    kinds: tuple[_Kind, ...]
    kind: npt.NDArray[np.int8]
    block: Ints
    ends: Ints
    blocks: Ints
    timestamps: Ints

    @classmethod
    def of(cls, tables: Mapping[str, pa.Table], *, price_digits: int = 0) -> Timeline:
        """From canonical tables (``backtest.tables.CANONICAL``), each sorted by ``seq``; a missing table counts as
        empty.

        Of ``market_prices`` only those with a source become events: what an import brings is a venue's, which the
        oracle's stand for. Without ``events`` (the spine, which knows transactions) every seq is a transaction of its
        own. ``price_digits``: how many more decimals prices have than base units; those digits are in ``price_rest``.
        """
        if (venue := tables.get("market_prices")) is not None:
            tables = {**tables, "market_prices": venue.filter(pc.is_valid(venue["source"]))}
        tables = {name: table for name, table in tables.items() if table.num_rows}
        deficits = _deficits_by_liquidation(tables.get("deficits"))
        kinds: list[_Kind] = []
        keys: list[list[Ints]] = []
        for name, event, own in _KINDS:
            table = tables.get(name)
            columns: Mapping[str, _Column | list[Any]] = {}
            if table is not None:
                keys.append([_whole_numbers(table[column]) for column in ("seq", "block_number", "timestamp")])
                made: dict[str, _Column | list[Any]] = {}
                if "deficits" in own:
                    made["deficits"] = [deficits.get(s, ()) for s in keys[-1][0].tolist()]
                if "price" in own and price_digits:
                    made["price"] = _whole_prices(table, price_digits)
                columns = _Columns(table, _KEY | own, made)
            else:
                keys.append([np.empty(0, dtype=np.int64)] * 3)
            kinds.append(_Kind(event, columns))
        seq, block, timestamp = (np.concatenate(parts) for parts in zip(*keys, strict=True))
        order = np.argsort(seq, kind="stable")  # the tables are sorted: quick; and their order is kept within one log
        codes = np.repeat(np.arange(len(keys), dtype=np.int8), [len(own[0]) for own in keys])
        seq, block = seq[order], block[order]
        blocks, at = _firsts(block)
        timestamps = timestamp[order[at]]
        known = tables.get("blocks")
        if known is not None:
            blocks = np.concatenate([blocks, known["block_number"].to_numpy()])
            timestamps = np.concatenate([timestamps, known["timestamp"].to_numpy()])
        unique, first = np.unique(blocks, return_index=True)
        return cls(
            kinds=tuple(kinds),
            kind=codes[order],
            block=block,
            ends=_transaction_ends(seq, block, tables.get("events")),
            blocks=unique,
            timestamps=timestamps[first],
        )

    def __len__(self) -> int:
        return len(self.kind)

    def __iter__(self) -> Iterator[MarketEvent]:
        for transaction in self.transactions():
            yield from transaction

    def transactions(self, to_block: int | None = None, from_block: int = 0) -> Reader:
        """Events from ``from_block`` up to the end of ``to_block``, a list for each transaction. Never empty lists;
        about 1 us an event.
        """
        stop_row = len(self) if to_block is None else int(np.searchsorted(self.block, to_block, side="right"))
        start = int(np.searchsorted(self.block, from_block))
        return Reader(
            self, int(np.searchsorted(self.ends, start, side="right")),
            int(np.searchsorted(self.ends, stop_row, side="right")),
        )  # fmt: skip

    def event(self, row: int) -> MarketEvent:
        """One of the merged rows."""
        code = int(self.kind[row])
        place = int(self.places[row])
        return self.kinds[code].build(place, place + 1)[0]

    @cached_property
    def passing(self) -> Passing:
        """Prices and indexes as compiled code reads them."""
        from backtest.replay.passing import Passing  # numba, which takes a second to be there

        return Passing(self)

    @cached_property
    def places(self) -> npt.NDArray[np.int32]:
        """Of each merged row, which of its kind it is."""
        found = np.empty(len(self), np.int32)
        for code in range(len(self.kinds)):
            rows = np.flatnonzero(self.kind == code)
            found[rows] = np.arange(len(rows), dtype=np.int32)
        return found

    def rows(self, event: type[MarketEvent]) -> Ints:
        """Where among the merged rows all events of one kind are."""
        return np.flatnonzero(self.kind == _code(event))

    def column(self, event: type[MarketEvent], attribute: str) -> tuple[npt.NDArray[Any], list[str] | None]:
        """One attribute of all events of a kind, as stored: integers, pairs of 64-bit words (low, high), or places in
        the list of names beside it.
        """
        column = self.kinds[_code(event)].columns.get(attribute)
        return (column.words, column.names) if isinstance(column, _Column) else (np.empty(0, dtype=np.int64), None)

    def nulls(self, event: type[MarketEvent], attribute: str) -> npt.NDArray[np.bool_]:
        """Of which events of a kind an attribute that is stored as numbers is None."""
        column = self.kinds[_code(event)].columns.get(attribute)
        null = column.null if isinstance(column, _Column) else None
        return np.zeros(len(self.rows(event)), dtype=np.bool_) if null is None else null

    def values(self, event: type[MarketEvent], mask: npt.NDArray[np.bool_], *attributes: str) -> list[list[Any]]:
        """Attributes of some events of a kind (a mask over all of it), as the events have them."""
        columns, count = self.kinds[_code(event)].columns, int(np.count_nonzero(mask))
        if not count:
            return [[] for _ in attributes]
        found = [columns[name] for name in attributes]
        return [
            column.take(mask).values(0, count) if isinstance(column, _Column) else list(compress(column, mask))
            for column in found
        ]

    def thinned(
        self, kept: Mapping[type[MarketEvent], npt.NDArray[np.bool_]], deltas: npt.NDArray[np.int64]
    ) -> Timeline:
        """The timeline with only these events of some kinds (a mask each), and other deltas (words) of the position
        changes that are left.
        """
        stays = np.ones(len(self), dtype=np.bool_)
        kinds = list(self.kinds)
        for code, (_, event, _) in enumerate(_KINDS):
            mask = kept.get(event)
            if mask is None or not len(mask):
                continue
            stays[self.rows(event)[~mask]] = False
            columns = kinds[code].columns
            if isinstance(columns, _Columns):
                columns = columns.taken(mask)
                kinds[code] = _Kind(event, columns.replaced("delta", deltas) if event is PositionChange else columns)
        rows = np.flatnonzero(stays)
        transaction = np.searchsorted(self.ends, rows, side="right")
        ends = np.append(np.flatnonzero(np.diff(transaction)) + 1, len(rows)) if len(rows) else self.ends[:0]
        return replace(
            self, kinds=tuple(kinds), kind=self.kind[rows], block=self.block[rows], ends=ends.astype(np.int64)
        )

    def floats(self, event: type[MarketEvent], *attributes: str) -> tuple[Ints, list[npt.NDArray[np.float64]]]:
        """All events of one kind: their rows among the merged ones, and each of these attributes as the nearest
        doubles, NaN where null.
        """
        rows = self.rows(event)
        if not len(rows):
            return rows, [np.empty(0)] * len(attributes)
        columns = [self.kinds[_code(event)].columns[name] for name in attributes]
        return rows, [
            column.floats() if isinstance(column, _Column) else np.array(column, dtype=np.float64) for column in columns
        ]

    @cached_property
    def params(self) -> tuple[ParamChange, ...]:
        """Every historical parameter change, in order."""
        count = int((self.kind == 0).sum())
        return tuple(event for event in self.kinds[0].build(0, count) if isinstance(event, ParamChange))

    @property
    def first_block(self) -> int:
        """The first block with an event or a known header."""
        self._require_any()
        return int(self.blocks[0])

    @property
    def last_block(self) -> int:
        """The last block with an event or a known header."""
        self._require_any()
        return int(self.blocks[-1])

    def clock_at(self, block: int) -> Clock:
        """The end of ``block`` (a log index after all of its logs). UserError if the block's timestamp is not known."""
        at = int(np.searchsorted(self.blocks, block))
        if at == len(self.blocks) or self.blocks[at] != block:
            near = ", ".join(str(b) for b in self.blocks[max(0, at - 1) : at + 1].tolist())
            raise UserError(f"block {block} has no known timestamp", f"the nearest blocks with one: {near or 'none'}")
        return Clock(block, END_OF_BLOCK, int(self.timestamps[at]))

    def timestamp_from(self, block: int) -> int:
        """The timestamp of the first known block at or after ``block``, or of the last one."""
        self._require_any()
        return int(self.timestamps[min(int(np.searchsorted(self.blocks, block)), len(self.blocks) - 1)])

    def block_from(self, timestamp: int) -> int:
        """The first known block at or after a time (seconds); the one after the last where there is none."""
        self._require_any()
        at = int(np.searchsorted(self.timestamps, timestamp))
        return int(self.blocks[at]) if at < len(self.blocks) else self.last_block + 1

    def block_before(self, timestamp: int) -> int | None:
        """The last known block at or before a time (seconds); None where the history starts later, or ends before
        it.
        """
        at = int(np.searchsorted(self.timestamps, timestamp, side="right"))
        ends_before = at == len(self.blocks) and (not at or int(self.timestamps[-1]) < timestamp)
        return None if at == 0 or ends_before else int(self.blocks[at - 1])

    def last_known_block(self, to_block: int | None) -> int:
        """The last block at or before ``to_block`` whose timestamp is known."""
        if to_block is None or to_block >= self.last_block:
            return self.last_block
        if to_block < self.first_block:
            raise UserError(
                f"block {to_block} is before the first one of the history", f"it starts at {self.first_block}"
            )
        return int(self.blocks[np.searchsorted(self.blocks, to_block, side="right") - 1])

    def sample_blocks(self, count: int, from_block: int, to_block: int) -> list[int]:
        """At most ``count`` blocks with events of the window: half spread evenly in time, half over its blocks with
        events (which crowd where much happens); its last one always among them.
        """
        within = np.unique(self.block[(self.block >= from_block) & (self.block <= to_block)])
        if count <= 0 or not len(within):
            return []
        times = self.timestamps[np.searchsorted(self.blocks, within)]
        last = len(within) - 1
        by_time = np.searchsorted(times, np.linspace(times[0], times[-1], count - count // 2))
        by_block = np.linspace(0, last, count // 2).astype(np.int64)
        return [int(block) for block in within[np.unique([*by_time, *by_block, last])[-count:]].tolist()]

    def _require_any(self) -> None:
        if not len(self.blocks):
            raise UserError("the history is empty", "fetch and reconstruct the market first")


class Reader(Iterator[Sequence[MarketEvent]]):
    """The transactions of a timeline, one after another; some may be left out.

    Attributes:
        place: which transaction comes next. stop: the one behind the last.
    """

    def __init__(self, timeline: Timeline, place: int, stop: int) -> None:
        self.place, self.stop = place, stop
        self._timeline = timeline
        self._events: list[MarketEvent] = []
        self._end = place
        self._row = 0
        """Transactions up to ``_end`` are made; the first of those begins at this row."""
        self._room = _FEW
        """How many rows are made at once: few where some were left out."""

    def skip_to(self, place: int) -> None:
        """The transaction that comes next is this one, not before ``place``."""
        self.place = place
        if place >= self._end:
            self._room = _FEW

    def __next__(self) -> Sequence[MarketEvent]:
        if self.place >= self.stop:
            raise StopIteration
        if self.place >= self._end:
            self._make()
        ends = self._timeline.ends
        begin = int(ends[self.place - 1]) if self.place else 0
        found = self._events[begin - self._row : int(ends[self.place]) - self._row]
        self.place += 1
        return found

    def _make(self) -> None:
        """Whole transactions from the next one on, about ``_room`` rows of them."""
        timeline = self._timeline
        ends, begin = timeline.ends[: self.stop], int(timeline.ends[self.place - 1]) if self.place else 0
        self._row = begin
        self._end = max(self.place + 1, int(np.searchsorted(ends, begin + self._room, side="right")))
        self._room = min(4 * self._room, _CHUNK)
        stop = int(ends[self._end - 1])
        codes = timeline.kind[begin:stop]
        streams: list[Iterator[MarketEvent]] = []
        for code, kind in enumerate(timeline.kinds):
            places = timeline.places[begin:stop][codes == code]
            streams.append(iter(kind.build(int(places[0]), int(places[-1]) + 1)) if len(places) else iter(()))
        nexts = [stream.__next__ for stream in streams]
        self._events = [nexts[code]() for code in codes.tolist()]


END_OF_BLOCK = 2**31 - 1


def _code(event: type[MarketEvent]) -> int:
    return next(code for code, (_, kind, _) in enumerate(_KINDS) if kind is event)


def _whole_numbers(column: pa.ChunkedArray) -> Ints:
    """A column without nulls in 64 bits."""
    found: Ints = column.to_numpy().astype(np.int64, copy=False)
    return found


def _firsts(values: Ints) -> tuple[Ints, Ints]:
    """Values where they differ from the one before, and their places."""
    at = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return values[at], at


def _whole_prices(table: pa.Table, digits: int) -> list[int | None]:
    """The oracle's own numbers: whole base units, then the digits below, which a market's prices do not have."""
    whole = _Column(table["price"]).values(0, table.num_rows)
    rest = (
        _Column(table["price_rest"]).values(0, table.num_rows)
        if "price_rest" in table.schema.names
        else [0] * len(whole)
    )
    return [
        None if unit is None else int(unit * 10**digits + (low or 0)) for unit, low in zip(whole, rest, strict=True)
    ]


def _deficits_by_liquidation(table: pa.Table | None) -> dict[int, tuple[tuple[AssetId, int], ...]]:
    """Debts written off, by the seq of the liquidation that did it."""
    found: dict[int, list[tuple[AssetId, int]]] = {}
    if table is not None:
        columns = [
            _Column(table[name]).values(0, table.num_rows) for name in ("liquidation_seq", "asset_id", "amount", "kind")
        ]
        for liquidation, asset, amount, kind in zip(*columns, strict=True):
            if kind == "created" and liquidation is not None:
                found.setdefault(liquidation, []).append((asset, amount))
    return {seq: tuple(amounts) for seq, amounts in found.items()}


def _transaction_ends(seq: Ints, block: Ints, events: pa.Table | None) -> Ints:
    """Exclusive end rows of the transactions of merged rows."""
    if not len(seq):
        return np.empty(0, dtype=np.int64)
    if events is None:
        transaction = seq
    else:
        spine = events["seq"].to_numpy()
        at = np.minimum(np.searchsorted(spine, seq), len(spine) - 1)
        # a row that no log of the spine gave (a price read at the end of a block) stands alone
        # exports do not say it: then nobody acts inside the block
        index = pc.fill_null(events["transaction_index"], -1).to_numpy().astype(np.int64)
        transaction = np.where(spine[at] == seq, index[at], -2 - seq)
    changes = (np.diff(block) != 0) | (np.diff(transaction) != 0)
    return np.append(np.flatnonzero(changes) + 1, len(seq)).astype(np.int64)
