"""Logs to Arrow columns, by columns: the hex of all logs of one event becomes one array of 32-byte words.

A log is kept only if it is exactly what Solidity emits for its event: number of topics, length of data, clean padding,
values in range, at most 38 digits unless the argument is wide. Anything else is quarantined with the reason, whole.
Events with ``string``, ``bytes`` or ``bytes32[]`` in their data go log by log through eth_abi; they are rare.
"""

from __future__ import annotations

from binascii import unhexlify
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtest.abi import WORDS, Argument, EventAbi, column_type, event_schema, parse_event
from backtest.fetch.rpc import Log
from backtest.model import EventSpec
from backtest.tables import ADDRESS, AMOUNT, QUARANTINE, RAW_KEY, WORD

Words = npt.NDArray[np.uint8]  # (rows, 32) big-endian
Mask = npt.NDArray[np.bool_]

_DIGITS_38 = 10**38 - 1
_U64 = (1 << 64) - 1


@cache
def topic0(spec: EventSpec) -> str:
    """The first topic of an event, 0x hex; of a note the selector of its function, at the left of the word."""
    from eth_utils.crypto import keccak

    digest = keccak(text=parse_event(spec.signature).canonical)
    return "0x" + (digest if spec.note is None else digest[:4].ljust(32, b"\0")).hex()


class Logs(Protocol):
    """What the decoder reads of logs, wherever they come from. Hashes and addresses are (rows, width) bytes."""

    @property
    def block(self) -> npt.NDArray[np.int64]: ...
    @property
    def transaction_index(self) -> npt.NDArray[np.int64]: ...
    @property
    def log_index(self) -> npt.NDArray[np.int64]: ...
    @property
    def transaction_hash(self) -> npt.NDArray[np.uint8]: ...
    @property
    def address(self) -> npt.NDArray[np.uint8]: ...

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Self:
        """Some of the rows, in the order given."""
        ...

    def groups(
        self, shared: frozenset[str], roles: Mapping[str, str]
    ) -> Iterator[tuple[str, int, str | None, Sequence[int] | npt.NDArray[np.int64]]]:
        """(first topic as 0x hex, number of topics, role, rows): rows that have these together, in the order in which
        the first of each comes. The role is that of the address, where the first topic is one of ``shared``, else None.
        """
        ...

    def topic(self, position: int) -> Words:
        """The topics at a position from 0, of logs that all have one there. ValueError where one is not 32 bytes."""
        ...

    def sizes(self) -> npt.NDArray[np.float64]:
        """Bytes of data of each log; half a byte more where the hex has an odd digit."""
        ...

    def fixed_data(self, size: int) -> npt.NDArray[np.uint8]:
        """(rows, size) data of logs that all have ``size`` bytes of it. ValueError where it is not hex."""
        ...

    def topics_of(self, row: int) -> list[bytes]:
        """The topics of one log."""
        ...

    def data_of(self, row: int) -> bytes:
        """The data of one log."""
        ...


@dataclass(frozen=True)
class LogColumns:
    """The logs of one reply as columns: ``Logs`` whose topics and data stay hex."""

    block: npt.NDArray[np.int64]
    transaction_index: npt.NDArray[np.int64]
    log_index: npt.NDArray[np.int64]
    transaction_hash: npt.NDArray[np.uint8]
    address: npt.NDArray[np.uint8]
    addresses: Sequence[str]
    block_hashes: Sequence[str]
    topics: tuple[Sequence[Any], ...]  # four columns; None where a log has fewer
    data: Sequence[str]
    removed: bool

    def __len__(self) -> int:
        return len(self.data)

    @classmethod
    def of(cls, logs: Sequence[Log]) -> LogColumns:
        """ValueError saying which field of which block is malformed."""
        addresses = [log.address for log in logs]
        return cls(  # one pass a field: many short-lived tuples would keep the garbage collector busy
            _integers([log.block_number for log in logs], "blockNumber"),
            _integers([log.transaction_index for log in logs], "transactionIndex"),
            _integers([log.log_index for log in logs], "logIndex"),
            _fixed([log.transaction_hash for log in logs], 32, "transactionHash"),
            _fixed(addresses, 20, "address"),
            addresses,
            [log.block_hash for log in logs],
            (
                [log.topics.first for log in logs],
                [log.topics.second for log in logs],
                [log.topics.third for log in logs],
                [log.topics.fourth for log in logs],
            ),
            [log.data for log in logs],
            True in [log.removed for log in logs],
        )

    def row(self, row: int) -> tuple[Any, ...]:
        """All that one log says, to be compared."""
        return (
            self.address[row].tobytes(),
            tuple(column[row] and column[row].lower() for column in self.topics),
            self.data[row].lower(),
            self.block_hashes[row].lower(),
            self.transaction_hash[row].tobytes(),
            int(self.transaction_index[row]),
        )

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> LogColumns:
        """Some of the rows, in the order given."""
        index = np.asarray(rows, dtype=np.int64)
        picked = index.tolist()
        return LogColumns(
            self.block[index],
            self.transaction_index[index],
            self.log_index[index],
            self.transaction_hash[index],
            self.address[index],
            [self.addresses[i] for i in picked],
            [self.block_hashes[i] for i in picked],
            tuple([column[i] for i in picked] for column in self.topics),
            [self.data[i] for i in picked],
            self.removed,
        )

    def groups(
        self, shared: frozenset[str], roles: Mapping[str, str]
    ) -> Iterator[tuple[str, int, str | None, Sequence[int]]]:
        """See ``Logs.groups``."""
        firsts, *others = self.topics
        if (
            len(set(firsts)) == 1
            and firsts[0] not in shared
            and all(column.count(None) in (0, len(self)) for column in others)
        ):
            yield firsts[0], sum(column[0] is not None for column in self.topics), None, range(len(self))
            return
        groups: dict[tuple[str, int, str | None], list[int]] = defaultdict(list)
        for row, (first, *rest) in enumerate(zip(*self.topics, strict=True)):
            role = roles.get(self.addresses[row].lower()) if first in shared else None
            groups[first, 4 - rest.count(None), role].append(row)
        for key, rows in groups.items():
            yield *key, rows

    def topic(self, position: int) -> Words:
        """See ``Logs.topic``."""
        return _fixed(self.topics[position], 32, "topics")

    def sizes(self) -> npt.NDArray[np.float64]:
        """See ``Logs.sizes``."""
        digits = np.fromiter(map(len, self.data), np.float64, len(self)) - 2
        return np.maximum(digits, 0) / 2

    def fixed_data(self, size: int) -> npt.NDArray[np.uint8]:
        """See ``Logs.fixed_data``."""
        return _fixed(self.data, size, "data")

    def topics_of(self, row: int) -> list[bytes]:
        """See ``Logs.topics_of``."""
        return [bytes.fromhex(column[row][2:]) for column in self.topics if column[row] is not None]

    def data_of(self, row: int) -> bytes:
        """See ``Logs.data_of``."""
        return bytes.fromhex(self.data[row][2:])


def decode(
    logs: Logs, specs: Iterable[EventSpec], namespace: str, emitters: Mapping[str, Iterable[str]] | None = None
) -> dict[str, pa.Table]:
    """Dataset name (``raw/<namespace>/<event>``) to its rows, in the order of the logs; with a ``Quarantine`` if any do
    not fit.

    Every log's first topic must be that of one of ``specs`` (KeyError otherwise). Specs that share a first topic are
    told apart by the emitting contract, where ``emitters`` (role to addresses) is given, and those that differ in what
    is indexed by the number of topics. ValueError for topics or data that are not hex.
    """
    by_topic: dict[str, list[EventSpec]] = {}
    for spec in specs:
        by_topic.setdefault(topic0(spec), []).append(spec)
    shared = (
        {topic for topic, some in by_topic.items() if len({spec.emitter for spec in some}) > 1} if emitters else set()
    )
    roles = {address: role for role, addresses in (emitters or {}).items() for address in addresses} if shared else {}
    tables: dict[str, pa.Table] = {}
    rejected: list[pa.Table] = []
    for first, count, role, rows in logs.groups(frozenset(shared), roles):
        candidates = [spec for spec in by_topic[first] if role is None or spec.emitter == role]
        spec = next((s for s in candidates if len(parse_event(s.signature).indexed) == count - 1), candidates[0])
        some = logs if len(rows) == len(logs) else logs.take(rows)
        table, refused = _decode_event(some, spec, count)
        if table.num_rows:
            tables[f"raw/{namespace}/{spec.name}"] = table
        if refused.num_rows:
            rejected.append(refused)
    if rejected:
        tables[f"raw/{namespace}/Quarantine"] = pa.concat_tables(rejected)
    return tables


def _decode_event(logs: Logs, spec: EventSpec, topics: int) -> tuple[pa.Table, pa.Table]:
    """(rows that fit, rows that do not) of one event whose logs all have the same number of topics."""
    abi = parse_event(spec.signature)
    schema = event_schema(spec)
    reasons: dict[int, str] = {}
    columns: list[pa.Array]
    if spec.note is not None:
        columns, fits = _decode_note(logs, spec, abi, topics, reasons)
    elif topics - 1 != len(abi.indexed):
        reasons = dict.fromkeys(
            range(len(logs)), f"{topics - 1} indexed arguments where {spec.name} has {len(abi.indexed)}"
        )
        columns = []
        fits = np.zeros(len(logs), bool)
    elif any(argument.dynamic for argument in abi.data):
        columns, fits = _decode_slowly(logs, spec, abi, reasons)
    else:
        columns, fits = _decode_words(logs, spec, abi, reasons)
    good = logs if fits.all() else logs.take(np.flatnonzero(fits))
    table = pa.Table.from_arrays([*_key(good), *columns], schema=schema) if len(good) else schema.empty_table()
    return table, _quarantine(logs, spec, reasons)


def _decode_words(logs: Logs, spec: EventSpec, abi: EventAbi, reasons: dict[int, str]) -> tuple[list[pa.Array], Mask]:
    sizes = logs.sizes()
    fits: Mask = sizes == 32 * len(abi.data)
    for row in np.flatnonzero(~fits).tolist():
        reasons[row] = f"{sizes[row]:g} bytes of data where {spec.name} has {32 * len(abi.data)}"
    rows = np.flatnonzero(fits)
    some = logs if len(rows) == len(logs) else logs.take(rows)
    words: dict[str, Words] = {}
    for position, argument in enumerate(abi.indexed, start=1):
        words[argument.column] = some.topic(position)
    if abi.data:
        data = some.fixed_data(32 * len(abi.data)).reshape(len(some), len(abi.data), 32)
        for position, argument in enumerate(abi.data):
            words[argument.column] = data[:, position]
    return _built(spec, abi.arguments, words, rows, fits, reasons), fits


def _built(
    spec: EventSpec,
    arguments: Sequence[Argument],
    words: dict[str, Words],
    rows: npt.NDArray[np.int64],
    fits: Mask,
    reasons: dict[int, str],
) -> list[pa.Array]:
    """Columns of those of ``rows`` whose words are all valid; the others no longer fit."""
    clean: Mask = np.ones(len(rows), bool)
    for argument in arguments:
        ok, why = _check(words[argument.column], argument, argument.name in spec.wide)
        for row in np.flatnonzero(clean & ~ok).tolist():
            reasons[int(rows[row])] = f"'{argument.name}' {why}"
        clean &= ok
    if not clean.all():
        words = {column: array[clean] for column, array in words.items()}
        fits[rows[~clean]] = False
    return [_build(words[a.column], a, a.name in spec.wide) for a in arguments]


_NOTE_BYTES = 224  # of call data that a note holds, behind an offset and a length
_SENDER = Argument("sender", "sender", "address", True)


def _decode_note(
    logs: Logs, spec: EventSpec, abi: EventAbi, topics: int, reasons: dict[int, str]
) -> tuple[list[pa.Array], Mask]:
    """Anonymous logs of calls (makerdao/dss ``src/lib.sol`` and the deployed ``src/vat.sol``, ``note``): four topics;
    data are an offset of 32, a length of 224 and the first 224 bytes of the call data, zeros behind its end. Topics
    must repeat what the call data say.
    """
    sizes = logs.sizes()
    fits: Mask = (sizes == 64 + _NOTE_BYTES) & (topics == 4)
    for row in np.flatnonzero(~fits).tolist():
        reasons[row] = (
            f"{topics} topics where a note has 4"
            if topics != 4
            else f"{sizes[row]:g} bytes of data where a note has {64 + _NOTE_BYTES}"
        )
    rows = np.flatnonzero(fits)
    some = logs.take(rows)
    data = some.fixed_data(64 + _NOTE_BYTES)
    head = np.frombuffer((32).to_bytes(32, "big") + _NOTE_BYTES.to_bytes(32, "big"), np.uint8)
    call = data[:, 64:]
    selector = np.frombuffer(bytes.fromhex(topic0(spec)[2:10]), np.uint8)
    told: Mask = np.all(data[:, :64] == head, axis=1) & np.all(call[:, :4] == selector, axis=1)
    words: dict[str, Words] = {
        a.column: np.ascontiguousarray(call[:, 4 + 32 * at : 36 + 32 * at]) for at, a in enumerate(abi.arguments)
    }
    first = 1 if spec.note == "arguments" else 2
    for position in range(first, 4):
        at = position - first  # beyond the function's own arguments the topics are zeros, as the call data
        told &= np.all(some.topic(position) == call[:, 4 + 32 * at : 36 + 32 * at], axis=1)
    for row in np.flatnonzero(~told).tolist():
        reasons[int(rows[row])] = f"not a note of {abi.canonical}: topics and call data differ"
    fits[rows[~told]] = False
    if first == 2:
        words["sender"] = some.topic(1)
    arguments = (_SENDER, *abi.arguments) if first == 2 else abi.arguments
    return (
        _built(spec, arguments, {column: array[told] for column, array in words.items()}, rows[told], fits, reasons),
        fits,
    )


def _check(words: Words, argument: Argument, wide: bool) -> tuple[Mask, str]:
    """Which words are valid values of the argument, and what is wrong with the others."""
    if argument.integer is None:
        if (argument.indexed and argument.dynamic) or argument.type == "bytes32":
            return np.ones(len(words), bool), ""
        if argument.type == "address":
            return _between(words, 0, (1 << 160) - 1, False), "is an address with dirty padding"
        if argument.type == "bool":
            return _between(words, 0, 1, False), "is neither 0 nor 1"
        tail = words[:, int(argument.type[5:]) :]
        return ~np.any(tail, axis=1), f"does not fit {argument.type}"
    signed, bits = argument.integer
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if not wide and high > _DIGITS_38:
        return _between(words, max(low, -_DIGITS_38), _DIGITS_38, signed), "has more than 38 digits"
    return _between(words, low, high, signed), f"does not fit {argument.type}"


def _between(words: Words, low: int, high: int, signed: bool) -> Mask:
    """low <= value <= high for 256-bit big-endian words."""
    limbs = words.view(">u8")  # (rows, 4), most significant first

    def at_most(bound: int) -> Mask:
        parts = [bound >> shift & _U64 for shift in (192, 128, 64, 0)]
        result: Mask = limbs[:, 3] <= np.uint64(parts[3])
        for limb in (2, 1, 0):  # lexicographic, from the least significant
            if parts[limb] == 0:
                result &= limbs[:, limb] == 0
            else:
                part = np.uint64(parts[limb])
                result = (limbs[:, limb] < part) | ((limbs[:, limb] == part) & result)
        return result

    if not signed:
        return at_most(high)
    negative = words[:, 0] >= 128
    return np.where(negative, ~at_most((low - 1) % (1 << 256)), at_most(high))


def _build(words: Words, argument: Argument, wide: bool) -> pa.Array:
    """The Arrow column of words that passed ``_check``; no Python work per row."""
    kind = column_type(argument, wide)
    if kind == AMOUNT:  # two little-endian limbs, the lower one first, as Arrow's decimal128
        halves = words.view(">u8")[:, :1:-1].astype("<u8", order="C")
        return pa.Array.from_buffers(kind, len(words), [None, pa.py_buffer(halves)])
    if kind == pa.int64():
        return pa.array(np.ascontiguousarray(words[:, 24:]).view(">i8").ravel().astype(np.int64))
    if kind == pa.bool_():
        return pa.array(words[:, 31].astype(bool))
    width = kind.byte_width
    return _binary(words[:, 12:] if argument.type == "address" else words[:, :width], width)


def _decode_slowly(logs: Logs, spec: EventSpec, abi: EventAbi, reasons: dict[int, str]) -> tuple[list[pa.Array], Mask]:
    """Log by log, for events with text, bytes or an array in their data."""
    from eth_abi.abi import decode as abi_decode
    from eth_abi.exceptions import DecodingError

    kinds = [argument.type for argument in abi.data]
    values: dict[str, list[Any]] = {argument.column: [] for argument in abi.arguments}
    fits: Mask = np.zeros(len(logs), bool)
    for row in range(len(logs)):
        one = logs.take([row])
        words = {a.column: one.topic(position) for position, a in enumerate(abi.indexed, start=1)}
        try:
            found = abi_decode(kinds, logs.data_of(row))
        except (DecodingError, ValueError, OverflowError) as error:
            reasons[row] = f"data is not that of {spec.name}: {type(error).__name__}"
            continue
        for argument, value in zip(abi.data, found, strict=True):
            if not argument.dynamic:
                words[argument.column] = np.frombuffer(_word(value), np.uint8).reshape(1, -1)
        problem = None
        for argument in abi.arguments:
            if argument.column in words:
                ok, why = _check(words[argument.column], argument, argument.name in spec.wide)
                problem = problem or (None if ok.all() else f"'{argument.name}' {why}")
        if problem:
            reasons[row] = problem
            continue
        fits[row] = True
        texts = {
            argument.column: b"".join(value) if argument.type == WORDS else value
            for argument, value in zip(abi.data, found, strict=True)
        }
        for argument in abi.arguments:
            values[argument.column].append(
                words[argument.column] if argument.column in words else texts[argument.column]
            )
    columns = []
    for argument in abi.arguments:
        held = values[argument.column]
        if argument.dynamic and not argument.indexed:
            columns.append(pa.array(held, column_type(argument, False)))
        else:
            columns.append(
                _build(np.concatenate([np.empty((0, 32), np.uint8), *held]), argument, argument.name in spec.wide)
            )
    return columns, fits


def _word(value: Any) -> bytes:
    """A decoded static value back as its word."""
    if isinstance(value, str):
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    if isinstance(value, bytes):
        return value.ljust(32, b"\0")
    return (int(value) % (1 << 256)).to_bytes(32, "big")


def _key(logs: Logs) -> list[pa.Array]:
    return [
        pa.array(logs.block),
        pa.array(logs.transaction_index.astype(np.int32)),
        pa.array(logs.log_index.astype(np.int32)),
        _binary(logs.transaction_hash, 32),
        _binary(logs.address, 20),
    ]


def _quarantine(logs: Logs, spec: EventSpec, reasons: dict[int, str]) -> pa.Table:
    rows = sorted(reasons)
    some = logs.take(rows)
    return pa.Table.from_arrays(
        [
            *_key(some),
            pa.array([spec.name] * len(rows), pa.string()),
            pa.array([reasons[row] for row in rows], pa.string()),
            pa.array([some.topics_of(row) for row in range(len(rows))], pa.list_(WORD)),
            pa.array([some.data_of(row) for row in range(len(rows))], pa.binary()),
        ],
        schema=QUARANTINE,
    )


def _binary(rows: npt.NDArray[np.uint8], width: int) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))])


def _integers(texts: Sequence[str], field: str) -> npt.NDArray[np.int64]:
    """Hex quantities; few distinct ones, so each is parsed once."""
    try:
        values = {text: int(text, 16) for text in set(texts)}
    except (ValueError, TypeError):
        raise ValueError(f"{field} is not a hex number") from None
    if values and not 0 <= min(values.values()) <= max(values.values()) < 1 << 62:
        raise ValueError(f"{field} is out of range")
    return np.fromiter(map(values.__getitem__, texts), np.int64, len(texts))


def _fixed(texts: Sequence[Any], width: int, field: str) -> npt.NDArray[np.uint8]:
    """Hex of one width as (rows, width) bytes. An "x" is no hex digit: if one stands wherever a text should begin, all
    have that width.
    """
    try:
        digits = np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(len(texts), 2 + 2 * width)
        if (digits[:, 0] != ord("0")).any() or (digits[:, 1] != ord("x")).any():
            raise ValueError
        data = unhexlify(digits[:, 2:].tobytes())
    except (ValueError, TypeError):  # binascii.Error and UnicodeEncodeError are ValueErrors
        raise ValueError(f"{field} is not {width} bytes of hex") from None
    return np.frombuffer(data, np.uint8).reshape(len(texts), width)


assert [field.name for field in RAW_KEY] == [
    "block_number",
    "transaction_index",
    "log_index",
    "transaction_hash",
    "address",
]
assert pa.binary(20) == ADDRESS
