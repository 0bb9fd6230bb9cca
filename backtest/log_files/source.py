"""Files in a node's place: what ``LogFetcher`` does for logs that a node gives, for logs that files hold. The decoder,
the datasets and the names of coverage are the same; that nothing is left out is what the files claim.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import FetchError, UserError
from backtest.fetch.decode import decode, topic0
from backtest.fetch.headers import DATASET as HEADERS
from backtest.fetch.headers import HeaderBook, header_table
from backtest.fetch.ranges import Range, gaps
from backtest.fetch.rpc import Rpc
from backtest.fetch.sources import CoverageSources
from backtest.lake import Lake, Writer
from backtest.log_files.gather import Gathered
from backtest.log_files.spool import same_as_next
from backtest.markets import MarketConfig
from backtest.model import EventSpec
from backtest.tables import RAW_STATE

COMMIT_ROWS = 1 << 18
TIMES = "raw/chain/BlockTime"
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BinaryLogs:
    """Logs of a spool as ``backtest.fetch.decode.Logs``: topics and data are bytes. ``addresses``, ``events``: what the
    numbers in ``address_id`` and ``event_id`` stand for.
    """

    block: Ints
    transaction_index: Ints
    log_index: Ints
    transaction_hash: Bytes
    address_id: Ints
    event_id: Ints
    topics: Ints
    words: tuple[Bytes, Bytes, Bytes]
    data: Any
    addresses: Sequence[bytes]
    events: Sequence[bytes]

    @classmethod
    def of(cls, table: pa.Table, gathered: Gathered) -> BinaryLogs:
        """The rows of a spool's table."""
        table = table.combine_chunks()

        def numbers(name: str) -> Ints:
            found: Ints = table[name].to_numpy().astype(np.int64)
            return found

        return cls(
            block=numbers("block_number"),
            transaction_index=numbers("transaction_index"),
            log_index=numbers("log_index"),
            transaction_hash=_words(table["transaction_hash"], 32),
            address_id=numbers("address"),
            event_id=numbers("event"),
            topics=numbers("topics"),
            words=(_words(table["topic1"], 32), _words(table["topic2"], 32), _words(table["topic3"], 32)),
            data=_one(table["data"]),
            addresses=gathered.addresses.values,
            events=gathered.events.values,
        )

    def __len__(self) -> int:
        return len(self.block)

    @property
    def address(self) -> Bytes:
        """(rows, 20) bytes."""
        known, place = np.unique(self.address_id, return_inverse=True)
        held = np.frombuffer(b"".join(self.addresses[number] for number in known.tolist()), np.uint8).reshape(-1, 20)
        return held[place]

    def take(self, rows: Sequence[int] | Ints) -> BinaryLogs:
        """See ``Logs.take``."""
        index = np.asarray(rows, np.int64)
        return replace(
            self,
            block=self.block[index],
            transaction_index=self.transaction_index[index],
            log_index=self.log_index[index],
            transaction_hash=self.transaction_hash[index],
            address_id=self.address_id[index],
            event_id=self.event_id[index],
            topics=self.topics[index],
            words=tuple(word[index] for word in self.words),  # type: ignore[arg-type]
            data=self.data.take(pa.array(index)),
        )

    def groups(self, shared: frozenset[str], roles: Mapping[str, str]) -> Iterator[tuple[str, int, str | None, Ints]]:
        """See ``Logs.groups``."""
        codes = self.event_id << 3 | self.topics
        kinds, first = np.unique(codes, return_index=True)
        for code in kinds[np.argsort(first)].tolist():
            rows = np.flatnonzero(codes == code)
            topic = "0x" + self.events[code >> 3].hex()
            if topic not in shared:
                yield topic, code & 7, None, rows
                continue
            by_role: dict[str | None, list[int]] = defaultdict(list)
            for number in np.unique(self.address_id[rows]).tolist():
                by_role[roles.get("0x" + self.addresses[number].hex())].append(number)
            for role, numbers in by_role.items():
                yield topic, code & 7, role, rows[np.isin(self.address_id[rows], numbers)]

    def topic(self, position: int) -> Bytes:
        """See ``Logs.topic``."""
        if position:
            return self.words[position - 1]
        return np.frombuffer(b"".join(self.events[n] for n in self.event_id.tolist()), np.uint8).reshape(-1, 32)

    def sizes(self) -> npt.NDArray[np.float64]:
        """See ``Logs.sizes``."""
        return np.asarray(pc.binary_length(self.data)).astype(np.float64)

    def fixed_data(self, size: int) -> Bytes:
        """See ``Logs.fixed_data``."""
        _, places, data = self.data.buffers()
        offset, count = self.data.offset, len(self.data)
        start = int(np.frombuffer(places, np.int64)[offset]) if count else 0
        return np.frombuffer(data, np.uint8)[start : start + size * count].reshape(count, size)

    def topics_of(self, row: int) -> list[bytes]:
        """See ``Logs.topics_of``."""
        rest = [word[row].tobytes() for word in self.words[: int(self.topics[row]) - 1]]
        return [self.events[int(self.event_id[row])], *rest]

    def data_of(self, row: int) -> bytes:
        """See ``Logs.data_of``."""
        data: bytes = self.data[row].as_py()
        return data


def _one(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _words(column: pa.ChunkedArray, width: int) -> Bytes:
    array = _one(column)
    data = np.frombuffer(array.buffers()[1], np.uint8) if len(array) else np.empty(0, np.uint8)
    return data[array.offset * width : (array.offset + len(array)) * width].reshape(-1, width)


class FileLogs:
    """A ``LogSource`` over what was gathered. ``asked``: the inclusive blocks that the files are complete in; what the
    lake lacks outside stays lacking, and contracts of which it does are ``late``. ``rpc``: a node for headers of blocks
    that the files do not describe; without one such a block has the time that its logs state, or counts as ``untimed``.
    """

    def __init__(
        self,
        lake: Lake,
        writer: Writer,
        config: MarketConfig,
        gathered: Gathered,
        asked: Range,
        rpc: Rpc | None = None,
    ) -> None:
        self.rows: dict[str, int] = defaultdict(int)
        self.claimed: list[Range] = []
        self.late: dict[str, Range] = {}
        self.untimed: set[int] = set()
        self.described: set[int] = set()
        """Blocks whose headers are the files' own."""
        self.sampled: set[int] = set()
        """Blocks whose headers were asked for and not for a log."""
        self.headers = 0
        self._lake, self._writer, self._market, self._gathered, self._rpc = lake, writer, config.name, gathered, rpc
        # What begins with the market is complete from its own beginning on: pools may be older.
        self._asked = 0 if asked[0] <= config.start_block else asked[0], asked[1]
        self._sources = CoverageSources(lake, config.name, config.parameters)
        self._book = HeaderBook(lake, config.name)
        self._timed: dict[int, int] = _held_times(lake, config.name)

    def fetch(
        self, namespace: str, specs: Sequence[EventSpec], emitters: Mapping[str, Iterable[str]], first: int, last: int
    ) -> int:
        """See ``LogSource.fetch``."""
        by_gaps: dict[tuple[tuple[Range, ...], str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for role, addresses in emitters.items():
            if not any(spec.emitter == role for spec in specs):
                continue
            key = self._sources.key(specs, role)
            for address in sorted({address.lower() for address in addresses}):
                source = self._sources.of(namespace, specs, role, address)
                missing = gaps((first, last), self._lake.covered(self._market, source))
                if outside := [part for part in missing if not self._asked[0] <= part[0] <= part[1] <= self._asked[1]]:
                    self.late[address] = outside[0][0], min(outside[0][1], self._asked[0] - 1)
                ours = [(max(low, self._asked[0]), min(high, self._asked[1])) for low, high in missing]
                if missing := [(low, high) for low, high in ours if low <= high]:
                    by_gaps[tuple(missing), key][role].append(address)
        before = sum(self.rows.values())
        for (ranges, key), members in sorted(by_gaps.items()):
            own = [spec for spec in specs if spec.emitter in members]
            for start, stop in ranges:
                self._take(namespace, own, specs, members, key, start, stop)
        return sum(self.rows.values()) - before

    def fetch_headers(self, blocks: Iterable[int]) -> None:
        """See ``LogSource.fetch_headers``."""
        wanted = sorted(set(blocks))
        self.sampled.update(wanted)
        self._commit_headers(wanted, {})

    def _take(
        self,
        namespace: str,
        own: Sequence[EventSpec],
        specs: Sequence[EventSpec],
        members: Mapping[str, Sequence[str]],
        key: str,
        start: int,
        stop: int,
    ) -> None:
        """Decode and commit the logs of these contracts in a range, and say that it is covered."""
        sources = [self._sources.of(namespace, specs, role, one) for role, some in members.items() for one in some]
        wanted = self._wanted(own, members)
        self.claimed.append((start, stop))
        parts: dict[str, list[pa.Table]] = defaultdict(list)
        held, low, times = 0, start, dict[int, int]()
        hashes: dict[int, bytes] = {}
        for part in self._gathered.logs.parts(start, stop) if wanted is not None else ():
            logs = part.filter(pa.array(self._meant(part, wanted, key)))
            if not logs.num_rows:
                continue
            for dataset, table in decode(BinaryLogs.of(logs, self._gathered), own, namespace, members).items():
                parts[dataset].append(table)
            _note_blocks(logs, times, hashes)
            held += logs.num_rows
            if held >= COMMIT_ROWS:
                high = int(part["block_number"][-1].as_py())
                self._commit(parts, times, hashes, low, high, sources)
                parts, held, low, times, hashes = defaultdict(list), 0, high + 1, {}, {}
        if low <= stop:
            self._commit(parts, times, hashes, low, stop, sources)

    def _wanted(self, specs: Sequence[EventSpec], members: Mapping[str, Sequence[str]]) -> Ints | None:
        """The pairs of contract and event that are meant, as numbers; None where the files have none of them."""
        known, events = self._gathered.addresses, self._gathered.events
        pairs = {
            (number, topic)
            for spec in specs
            for address in members.get(spec.emitter, ())
            if (number := known.get(bytes.fromhex(address[2:]))) is not None
            and (topic := events.get(bytes.fromhex(topic0(spec)[2:]))) is not None
        }
        return np.array(sorted(number << 16 | topic for number, topic in pairs), np.int64) if pairs else None

    @staticmethod
    def _meant(part: pa.Table, wanted: Ints | None, key: str) -> npt.NDArray[np.bool_]:
        pairs = part["address"].to_numpy().astype(np.int64) << 16 | part["event"].to_numpy()
        mask: npt.NDArray[np.bool_] = np.isin(pairs, wanted if wanted is not None else np.zeros(0, np.int64))
        if key:
            mask &= np.asarray(pc.equal(part["topic1"], pa.scalar(bytes.fromhex(key[2:]), pa.binary(32))))
        return mask

    def _commit(
        self,
        parts: Mapping[str, Sequence[pa.Table]],
        times: Mapping[int, int],
        hashes: Mapping[int, bytes],
        first: int,
        last: int,
        sources: Sequence[str],
    ) -> None:
        tables = {dataset: pa.concat_tables(found) for dataset, found in sorted(parts.items())}
        self._writer.commit(
            self._market, tables, from_block=first, to_block=last, covers=dict.fromkeys(sources, (first, last))
        )
        for dataset, table in tables.items():
            self.rows[dataset] += table.num_rows
        self._commit_headers(sorted(times), times, hashes)

    def _commit_headers(
        self, blocks: Sequence[int], times: Mapping[int, int], hashes: Mapping[int, bytes] | None = None
    ) -> None:
        """Store what is known of these blocks: headers where files or the node give them whole, else times alone."""
        known = self._book.hashes(blocks)
        missing = [block for block in blocks if block not in known]
        rows, loose = self._described(missing)
        self.described.update(rows["block_number"].to_pylist())
        if self._rpc is not None and (rest := sorted(set(missing) - set(rows["block_number"].to_pylist()))):
            rows, loose = pa.concat_tables([rows, header_table(self._rpc.headers(rest))]), {}
        if rows.num_rows:
            try:
                self._book.check_links(rows)
            except FetchError as error:
                fix = "give files of one branch of the chain, and facts of the same; nothing was imported"
                raise UserError(error.what, fix) from None
            ends = pc.min_max(rows["block_number"])
            self._writer.commit(
                self._market, {HEADERS: rows}, from_block=ends["min"].as_py(), to_block=ends["max"].as_py()
            )
            self._book.add(rows)
            self.headers += rows.num_rows
        headed = self._book.hashes(blocks)
        for block, claimed in (hashes or {}).items():
            if headed.get(block, "0x" + claimed.hex()) != "0x" + claimed.hex():
                raise UserError(
                    f"the logs of block {block} name its hash 0x{claimed.hex()}, its header {headed[block]}",
                    "give logs and blocks of one branch of the chain; nothing was imported",
                )
        own: dict[int, tuple[int, Any]] = {}
        for block in blocks:
            if block in headed or block in self._timed:
                continue
            time, fee = loose.get(block, (None, None))
            time = times.get(block, -1) if time is None else time
            if time < 0:
                self.untimed.add(block)
            else:
                own[block] = time, fee
                self._timed[block] = time
        if own:
            schema = RAW_STATE[TIMES]
            columns = [list(own), [time for time, _ in own.values()], [fee for _, fee in own.values()]]
            table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
            self._writer.commit(self._market, {TIMES: table}, from_block=min(own), to_block=max(own))

    def _described(self, blocks: Sequence[int]) -> tuple[pa.Table, dict[int, tuple[int, Any]]]:
        """(headers of those of the blocks that the files describe whole; time and base fee of those that they describe
        in part).
        """
        schema = RAW_STATE[HEADERS]
        found, loose = [schema.empty_table()], {}
        if blocks:
            wanted = pa.array(blocks)
            for part in self._gathered.blocks.parts(blocks[0], blocks[-1]):
                rows = part.filter(pc.is_in(part["block_number"], value_set=wanted))
                rows = rows.filter(pc.is_valid(rows["timestamp"]))
                whole = pc.and_(pc.is_valid(rows["block_hash"]), pc.is_valid(rows["parent_hash"]))
                found.append(rows.filter(whole).select(schema.names).cast(schema))
                rest = rows.filter(pc.invert(whole))
                for block, time, fee in zip(
                    *(rest[name].to_pylist() for name in ("block_number", "timestamp", "base_fee")), strict=True
                ):
                    loose[block] = time, fee
        return pa.concat_tables(found), loose


def _held_times(lake: Lake, market: str) -> dict[int, int]:
    if market not in lake.markets() or TIMES not in lake.datasets(market):
        return {}
    held = lake.read(TIMES, market)
    return dict(zip(held["block_number"].to_pylist(), held["timestamp"].to_pylist(), strict=True))


def _note_blocks(logs: pa.Table, times: dict[int, int], hashes: dict[int, bytes]) -> None:
    """The blocks of sorted logs, with the time and the hash that these state; -1 where they state no time."""
    again = same_as_next(logs, ("block_number",))
    first = np.ones(logs.num_rows, bool)
    first[again + 1] = False
    some = logs.filter(pa.array(first)).select(["block_number", "timestamp", "block_hash"])
    for block, time, hash_ in zip(*(column.to_pylist() for column in some.columns), strict=True):
        times[block] = -1 if time is None else time
        if hash_ is not None:
            hashes[block] = hash_
