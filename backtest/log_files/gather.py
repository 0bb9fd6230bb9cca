"""Files of raw logs and of blocks to two spools: logs of the events that a market may need, in chain order, and
blocks.

Each file is read once. Rows that no event of the market can be are left out as they are read; what is left of a chain's
whole logs is what has a first topic of the market's protocol, its feeds or its pools.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import UserError
from backtest.fetch.decode import topic0
from backtest.foreign import shown
from backtest.log_files import columns as c
from backtest.log_files.decoded import EventTable, KnownEvents, table_of
from backtest.log_files.layouts import FittedLayout, fit, load
from backtest.log_files.reading import LogFile
from backtest.log_files.spool import Spool, differ, same_as_next
from backtest.tables import AMOUNT, WORD

_REMEDY = "export it again; nothing was imported"
Ints = npt.NDArray[np.int64]

LOGS = pa.schema(
    [
        ("block_number", pa.int64()),
        ("transaction_index", pa.int32()),
        ("log_index", pa.int32()),
        ("transaction_hash", WORD),
        ("address", pa.int32()),  # numbers of addresses and first topics, see ``Gathered``
        ("event", pa.int32()),
        ("topics", pa.int8()),
        ("topic1", WORD),
        ("topic2", WORD),
        ("topic3", WORD),
        ("data", pa.large_binary()),
        ("timestamp", pa.int64()),  # null where the file has none
        ("block_hash", WORD),
    ]
)
BLOCKS = pa.schema(
    [
        ("block_number", pa.int64()),
        ("timestamp", pa.int64()),
        ("base_fee", AMOUNT),
        ("block_hash", WORD),
        ("parent_hash", WORD),
    ]
)


class Numbers:
    """Numbers for byte strings of one width, from 0 in the order in which they came."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self._known: dict[bytes, int] = {}

    def of(self, value: bytes) -> int:
        """The number of one, a new one if it has none."""
        number = self._known.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def get(self, value: bytes) -> int | None:
        """The number of one, if it came."""
        return self._known.get(value)

    def of_all(self, words: npt.NDArray[np.uint8]) -> Ints:
        """Numbers of many, (rows, width)."""
        coded = _binary(words).dictionary_encode()
        numbers = np.array([self.of(value) for value in coded.dictionary.to_pylist()], np.int64)
        return numbers[np.asarray(coded.indices)] if len(numbers) else np.zeros(0, np.int64)


@dataclass(slots=True)
class Gathered:
    """What the files hold. ``addresses``, ``events``: what the numbers of the logs stand for.

    ``read``: rows of logs in all files; ``files``: layout to how many; ``doubled``: logs that came again, the same;
    ``removed``: retracted logs, left out; ``first``, ``last``: blocks of any log of the files; ``whole``: the files
    hold every log of their blocks, as the sequence of log indexes says, but for ``gaps``, in words; ``unused``: name of
    a decoded event that the market does not need to the rows of it.
    """

    logs: Spool
    blocks: Spool
    addresses: Numbers
    events: Numbers
    read: int = 0
    doubled: int = 0
    removed: int = 0
    files: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    whole: bool = False
    gaps: str = ""
    unused: dict[str, int] = field(default_factory=dict)


def gather(
    files: Sequence[LogFile],
    events: Sequence[bytes],
    folder: Path,
    *,
    mapping: str | None = None,
    chain_id: int | None = None,
    decoded: KnownEvents | None = None,
    advance: Callable[[int], None] | None = None,
) -> Gathered:
    """Read all files.

    Args:
        events: first topics that are kept.
        folder: where spools may lie.
        mapping: layout of all files; None finds each by the columns of the file.
        chain_id: what files that name their chain must say.
        decoded: the events that tables of decoded events may hold.
        advance: told the bytes of each file that was read.

    Raises:
        UserError: a file that is no file of logs or blocks, that is damaged, or that contradicts itself or another.
    """
    layouts = load(mapping)
    numbers = Numbers()
    for topic in events:
        numbers.of(topic)
    found = Gathered(None, None, Numbers(), numbers)  # type: ignore[arg-type]
    found.logs = Spool(folder, ("block_number", "log_index"), lambda table: _checked_logs(table, found))
    found.blocks = Spool(folder, ("block_number",), _checked_blocks)
    known = pa.array(events, pa.binary(32))
    indexes = _Indexes()
    for file in files:
        names = file.columns()
        fits = fit(layouts, names, file.name)
        found.files[fits.layout] = found.files.get(fits.layout, 0) + 1
        row = 0
        tables = _Tables(decoded or KnownEvents((), {}), names, fits, file.name)
        for batch in file.batches(names if fits.kind == "events" else fits.wanted()):
            size = len(next(iter(batch.values())))
            try:
                if fits.kind == "logs":
                    _add_logs(found, fits, batch, known, chain_id, indexes)
                elif fits.kind == "events":
                    _check_chain(fits, batch, chain_id)
                    for part, rows, made in tables.parts(batch, size):
                        _add_events(found, fits, part, rows, made, tables.known)
                else:
                    found.blocks.add(_block_rows(fits, batch, chain_id))
            except c.Wrong as wrong:
                raise UserError(f"{file.name}, row {row + wrong.row + 1}: {wrong}", _REMEDY) from None
            except pa.ArrowException as error:  # text that is not UTF-8, where a column is read as text
                said = shown((str(error).splitlines() or ["damaged"])[0], 200)
                raise UserError(f"{file.name}, rows {row + 1} to {row + size}: {said}", _REMEDY) from None
            row += size
        for event, count in tables.unused.items():
            found.unused[event] = found.unused.get(event, 0) + count
        if advance:
            advance(file.size())
    found.logs.finish()
    found.blocks.finish()
    found.whole, found.gaps = indexes.judge()
    return found


def _add_logs(
    found: Gathered,
    fits: FittedLayout,
    batch: Mapping[str, Any],
    known: Any,
    chain_id: int | None,
    indexes: _Indexes,
) -> None:
    names = fits.columns

    def column(field: str) -> Any:
        return batch[str(names[field])]

    blocks = c.integers(column("block_number"), "block number")
    logs = c.integers(column("log_index"), "log index")
    _check_bits(logs, "log index", 24)
    if not len(blocks):
        return
    _check_chain(fits, batch, chain_id)
    found.read += len(blocks)
    low, high = int(blocks.min()), int(blocks.max())
    found.first = low if found.first is None else min(found.first, low)
    found.last = high if found.last is None else max(found.last, high)
    named = names["topics"]
    topic_columns = [batch[named]] if isinstance(named, str) else [batch[name] for name in named]
    first: Any
    if isinstance(named, str):
        words, counts = c.topics_of(topic_columns, "topics")
        first = words[0]
    else:
        words, counts = [], np.zeros(0, np.int8)
        first, _ = c.fixed(topic_columns[0], 32, "topic 0")
    keep = np.asarray(pc.is_in(_binary(first), value_set=known))
    if "removed" in names:
        gone = c.flags(column("removed"), "removed")
        found.removed += int((gone & keep).sum())
        keep &= ~gone
        indexes.add(blocks[~gone], logs[~gone])
    else:
        indexes.add(blocks, logs)
    if not keep.any():
        return
    rows = np.flatnonzero(keep)
    every = len(rows) == len(blocks)
    place = pa.array(rows)

    def kept(values: Any) -> Any:
        values = c.plain(values)
        return values if every else values.take(place)

    try:
        if not words:
            words, counts = c.topics_of([kept(values) for values in topic_columns], "topics")
        elif not every:
            words, counts = [word[rows] for word in words], counts[rows]
        transactions = c.integers(kept(column("transaction_index")), "transaction index")
        _check_bits(transactions, "transaction index", 31)
        hashes = _given(kept(column("transaction_hash")), 32, "transaction hash")
        addresses = _given(kept(column("address")), 20, "address")
        data = c.data_of(kept(column("data")), "data")
        times = c.times(kept(column("timestamp")), "block time") if "timestamp" in names else None
        block_hashes = c.fixed(kept(column("block_hash")), 32, "block hash") if "block_hash" in names else None
    except c.Wrong as wrong:
        raise c.Wrong(int(rows[wrong.row]), str(wrong)) from None
    found.logs.add(
        pa.Table.from_arrays(
            [
                pa.array(blocks if every else blocks[rows]),
                pa.array(transactions.astype(np.int32)),
                pa.array((logs if every else logs[rows]).astype(np.int32)),
                _binary(hashes),
                pa.array(found.addresses.of_all(addresses).astype(np.int32)),
                pa.array(found.events.of_all(words[0]).astype(np.int32)),
                pa.array(counts),
                *(_binary(word) for word in words[1:]),
                data,
                pa.nulls(len(rows), pa.int64()) if times is None else pa.array(times, mask=times < 0),
                pa.nulls(len(rows), WORD) if block_hashes is None else _masked(*block_hashes),
            ],
            schema=LOGS,
        )
    )


class _Tables:
    """What the rows of one file of decoded events are of: one event, or several where a column names it."""

    def __init__(self, known: KnownEvents, columns: Sequence[str], fits: FittedLayout, name: str) -> None:
        self.known, self._columns, self._fits, self._name = known, columns, fits, name
        self._made: dict[str, EventTable | None] = {}
        self.unused: dict[str, int] = {}

    def parts(self, batch: Mapping[str, Any], size: int) -> list[tuple[Mapping[str, Any], Ints, EventTable]]:
        """The columns of the rows of each event, their places in the batch, and what they are; rows of an event that
        the market does not need are counted as ``unused``.
        """
        every = np.arange(size)
        column = self._fits.columns.get("event")
        if not isinstance(column, str):
            groups: list[tuple[str, Ints]] = [("", every)]
        else:
            texts = c.plain(batch[column]).cast(pa.string())
            if texts.null_count:
                raise c.Wrong(int(np.flatnonzero(np.asarray(texts.is_null()))[0]), "event is missing")
            groups = [
                (text, np.flatnonzero(np.asarray(pc.equal(texts, text)))) for text in pc.unique(texts).to_pylist()
            ]
        out: list[tuple[Mapping[str, Any], Ints, EventTable]] = []
        for event, rows in groups:
            if event not in self._made:
                arguments = self._fits.arguments
                self._made[event] = table_of(self.known, self._columns, self._fits, arguments, self._name, event)
            made = self._made[event]
            if made is None:
                called = event or self._name
                self.unused[called] = self.unused.get(called, 0) + len(rows)
                continue
            place = pa.array(rows)
            out.append(({name: c.plain(values).take(place) for name, values in batch.items()}, rows, made))
        return out


def _add_events(
    found: Gathered, fits: FittedLayout, batch: Mapping[str, Any], rows: Ints, table: EventTable, known: KnownEvents
) -> None:
    """Put the logs that decoded rows came from to the others."""
    names = fits.columns

    def column(field: str) -> Any:
        return batch[str(names[field])]

    if not len(rows):
        return
    try:
        blocks = c.integers(column("block_number"), "block number")
        logs = c.integers(column("log_index"), "log index")
        _check_bits(logs, "log index", 24)
        transactions = c.integers(column("transaction_index"), "transaction index")
        _check_bits(transactions, "transaction index", 31)
        hashes = _given(column("transaction_hash"), 32, "transaction hash")
        if "address" in names:
            addresses = _given(column("address"), 20, "address")
        elif (own := known.contracts.get(table.spec.emitter)) is not None:
            addresses = np.tile(np.frombuffer(bytes.fromhex(own[2:]), np.uint8), (len(rows), 1))
        else:
            raise c.Wrong(0, f"no column says which contract emitted {table.abi.name}")
        times = c.times(column("timestamp"), "block time") if "timestamp" in names else None
        block_hashes = c.fixed(column("block_hash"), 32, "block hash") if "block_hash" in names else None
        topics, count, data = table.encoded(batch, len(rows))
    except c.Wrong as wrong:
        raise c.Wrong(int(rows[wrong.row]), str(wrong)) from None
    found.read += len(rows)
    low, high = int(blocks.min()), int(blocks.max())
    found.first = low if found.first is None else min(found.first, low)
    found.last = high if found.last is None else max(found.last, high)
    event = found.events.of(bytes.fromhex(topic0(table.spec)[2:]))
    found.logs.add(
        pa.Table.from_arrays(
            [
                pa.array(blocks),
                pa.array(transactions.astype(np.int32)),
                pa.array(logs.astype(np.int32)),
                _binary(hashes),
                pa.array(found.addresses.of_all(addresses).astype(np.int32)),
                pa.array(np.full(len(rows), event, np.int32)),
                pa.array(np.full(len(rows), count, np.int8)),
                *(_binary(word) for word in topics),
                data,
                pa.nulls(len(rows), pa.int64()) if times is None else pa.array(times, mask=times < 0),
                pa.nulls(len(rows), WORD) if block_hashes is None else _masked(*block_hashes),
            ],
            schema=LOGS,
        )
    )


def _block_rows(fits: FittedLayout, batch: Mapping[str, Any], chain_id: int | None) -> pa.Table:
    names = fits.columns
    blocks = c.integers(batch[str(names["block_number"])], "block number")
    _check_chain(fits, batch, chain_id)
    times = c.times(batch[str(names["timestamp"])], "block time")
    fees = (
        c.amounts(batch[str(names["base_fee"])], "base fee") if "base_fee" in names else pa.nulls(len(blocks), AMOUNT)
    )
    hashes = [
        _masked(*c.fixed(batch[str(names[field])], 32, field.replace("_", " ")))
        if field in names
        else pa.nulls(len(blocks), WORD)
        for field in ("block_hash", "parent_hash")
    ]
    return pa.Table.from_arrays([pa.array(blocks), pa.array(times, mask=times < 0), fees, *hashes], schema=BLOCKS)


def _given(column: Any, width: int, field: str) -> npt.NDArray[np.uint8]:
    words, held = c.fixed(column, width, field)
    if not held.all():
        raise c.Wrong(int(np.flatnonzero(~held)[0]), f"{field} is missing")
    return words


def _check_bits(values: Ints, field: str, bits: int) -> None:
    wrong = values >= 1 << bits
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise c.Wrong(row, f"{field} {values[row]} is out of range")


def _check_chain(fits: FittedLayout, batch: Mapping[str, Any], chain_id: int | None) -> None:
    if chain_id is None or "chain_id" not in fits.columns:
        return
    column = c.plain(batch[str(fits.columns["chain_id"])])
    if column.null_count == len(column):
        return
    told = c.integers(column, "chain id")
    if (told != chain_id).any():
        row = int(np.flatnonzero(told != chain_id)[0])
        raise c.Wrong(row, f"it is of chain {told[row]}, and the market is on chain {chain_id}")


def _binary(words: npt.NDArray[np.uint8]) -> Any:
    words = np.ascontiguousarray(words)
    return pa.Array.from_buffers(pa.binary(words.shape[1]), len(words), [None, pa.py_buffer(words)])


def _masked(words: npt.NDArray[np.uint8], held: npt.NDArray[np.bool_]) -> Any:
    made = _binary(words)
    return made if held.all() else pc.if_else(pa.array(held), made, pa.scalar(None, made.type))


# -- what the data themselves can say ----------------------------------------------------------------------------------


def _checked_logs(table: pa.Table, found: Gathered) -> pa.Table:
    """Sorted logs of whole blocks, each once.

    Raises:
        UserError: two different logs in one place, two branches of the chain, or indexes that count anew in each
            transaction.
    """
    again = same_as_next(table, ("block_number", "log_index"))
    blocks, logs = table["block_number"].to_numpy(), table["log_index"].to_numpy()
    if len(again):
        own = [name for name in LOGS.names if name not in ("timestamp", "block_hash")]
        other = differ(table, again, own)
        if len(other):
            row = int(other[0])
            raise UserError(
                f"the files hold two different logs as log {logs[row]} of block {blocks[row]}",
                "give files of one chain and one branch of it; nothing was imported",
            )
        found.doubled += len(again)
    together = same_as_next(table, ("block_number",))
    for name, what in (("block_hash", "hashes"), ("timestamp", "times")):
        other = differ(table, together, [name])
        if len(other):
            raise UserError(
                f"the files give block {blocks[int(other[0])]} two {what}: they are of two branches of the chain",
                "export it again once its blocks are final; nothing was imported",
            )
    transactions = table["transaction_index"].to_numpy()
    fallen = together[(transactions[together + 1] < transactions[together]) & (logs[together] != logs[together + 1])]
    if len(fallen):
        row = int(fallen[0])
        raise UserError(
            f"the files count log indexes within each transaction: in block {blocks[row]}, log {logs[row]} is of"
            f" transaction {transactions[row]} and log {logs[row + 1]} of transaction {transactions[row + 1]}",
            "export the index of the log in its block; nothing was imported",
        )
    if not len(again):
        return table
    keep = np.ones(table.num_rows, bool)
    keep[again + 1] = False
    return table.filter(pa.array(keep))


def _checked_blocks(table: pa.Table) -> pa.Table:
    """Sorted blocks, each once, with all that any file says of it."""
    again = same_as_next(table, ("block_number",))
    if not len(again):
        return table
    other = differ(table, again, BLOCKS.names)
    if len(other):
        raise UserError(
            f"the files describe block {table['block_number'][int(other[0])].as_py()} in two ways",
            "give files of one chain and one branch of it; nothing was imported",
        )
    grouped = table.group_by("block_number", use_threads=False).aggregate(
        [(name, "max") for name in ("timestamp", "base_fee", "block_hash", "parent_hash")]
    )
    return grouped.rename_columns(
        {f"{name}_max": name for name in ("timestamp", "base_fee", "block_hash", "parent_hash")}
    ).select(BLOCKS.names)


class _Indexes:
    """Whether files hold every log of their blocks: then log indexes count each block from 0 without a gap. Of files in
    which they do not, this soon loses interest.
    """

    LOOK = 4_096
    """Blocks after which files in which fewer than half count so are taken for a selection."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Ints]] = []
        self._waiting = 0
        self._selection = False

    def add(self, blocks: Ints, logs: Ints) -> None:
        """Rows of any file."""
        if self._selection or not len(blocks):
            return
        if (blocks[1:] >= blocks[:-1]).all():
            starts = np.flatnonzero(np.append(True, blocks[1:] != blocks[:-1]))
            self._parts.append(
                (blocks[starts], np.diff(np.append(starts, len(blocks))), np.maximum.reduceat(logs, starts))
            )
        else:
            order = np.argsort(blocks, kind="stable")
            self.add(blocks[order], logs[order])
            return
        self._waiting += len(starts)
        if self._waiting >= self.LOOK and len(self._parts) > 1:
            self._merge()

    def judge(self) -> tuple[bool, str]:
        """(whether the files hold every log of their blocks, but for few blocks; which ones these are, in words)."""
        if self._parts:
            self._merge(last=True)
        if self._selection or not self._parts:
            return False, ""
        blocks, counts, most = self._parts[0]
        gaps = np.flatnonzero(counts < most + 1)
        if len(gaps) > len(blocks) // 20:
            return False, ""
        if not len(gaps):
            return True, ""
        row = int(gaps[0])
        more = f", and some of {len(gaps) - 1} other blocks" if len(gaps) > 1 else ""
        return True, (
            f"log indexes run without a gap in {len(blocks) - len(gaps)} blocks, but {most[row] + 1 - counts[row]} of"
            f" the {most[row] + 1} logs of block {blocks[row]} are not there{more}"
        )

    def _merge(self, last: bool = False) -> None:
        blocks = np.concatenate([part[0] for part in self._parts])
        counts = np.concatenate([part[1] for part in self._parts])
        most = np.concatenate([part[2] for part in self._parts])
        order = np.argsort(blocks, kind="stable")
        blocks, counts, most = blocks[order], counts[order], most[order]
        starts = np.flatnonzero(np.append(True, blocks[1:] != blocks[:-1]))
        self._parts = [(blocks[starts], np.add.reduceat(counts, starts), np.maximum.reduceat(most, starts))]
        self._waiting = 0
        dense = int((self._parts[0][1] == self._parts[0][2] + 1).sum())
        if 2 * dense < len(starts) and (last or len(starts) >= self.LOOK):
            self._selection, self._parts = True, []
