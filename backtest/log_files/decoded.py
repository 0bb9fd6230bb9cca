"""Tables of decoded events, under the names of their ABI, back to the logs that they were decoded from.

A warehouse's ``Pool_evt_Supply`` has a column for each argument. What a log held follows from it exactly (topics and
data by the ABI), so that such tables go the way of raw logs: the same decoder, the same datasets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from backtest import foreign
from backtest.abi import WORDS, Argument, EventAbi, parse_event
from backtest.errors import UserError, did_you_mean
from backtest.fetch.decode import topic0
from backtest.foreign import Unreadable, shown
from backtest.imports.numbers import scaled
from backtest.log_files import columns as c
from backtest.log_files.layouts import FittedLayout
from backtest.model import EventSpec

_NAMED = re.compile(r"(?:^|[^A-Za-z0-9])(?:evt|event)_([A-Za-z0-9].*)$", re.IGNORECASE)
_INTEGER = re.compile(r"-?[0-9]{1,78}", re.ASCII)
_WORD = 1 << 256
_LISTED = re.compile(r"0x([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class KnownEvents:
    """The events that a market is made of. ``contracts``: role to the address of those that the market's file names,
    for tables that do not say who emitted.
    """

    specs: Sequence[EventSpec]
    contracts: Mapping[str, str]

    def named(self, name: str) -> list[EventSpec]:
        """Those of this name; notes, which no ABI describes as events, are none."""
        wanted = _plain(name)
        return [spec for spec in self.specs if spec.note is None and _plain(parse_event(spec.signature).name) == wanted]

    def names(self) -> list[str]:
        """Their names, each once."""
        return list(dict.fromkeys(parse_event(spec.signature).name for spec in self.specs if spec.note is None))


@dataclass(frozen=True, slots=True)
class EventTable:
    """Which event the rows of a table are of, and the column of each argument: by its name, or that of its struct."""

    spec: EventSpec
    abi: EventAbi
    columns: Mapping[str, str]

    def wanted(self) -> list[str]:
        """Every column that is read."""
        return list(dict.fromkeys(self.columns.values()))

    def encoded(self, batch: Mapping[str, Any], rows: int) -> tuple[list[Any], int, Any]:
        """((rows, 32) bytes of topics 1 to 3, zeros where there is none; topics of each log; data as large_binary).

        Raises:
            Wrong: a value that is none of its argument's type.
        """
        topics = [self._words(argument, batch, rows) for argument in self.abi.indexed]
        made = [np.frombuffer(b"".join(words), np.uint8).reshape(-1, 32) for words in topics]
        made += [np.zeros((rows, 32), np.uint8)] * (3 - len(made))
        if any(argument.dynamic for argument in self.abi.data):
            data = self._dynamic(batch, rows)
        else:
            parts = [self._words(argument, batch, rows) for argument in self.abi.data]
            data = [b"".join(words) for words in zip(*parts, strict=True)] if parts else [b""] * rows
        return made, 1 + len(topics), pa.array(data, pa.large_binary())

    def _column(self, argument: Argument, batch: Mapping[str, Any]) -> Any:
        called = self.columns[argument.name]
        column = c.plain(batch[called])
        return _members(column, argument) if argument.within and _plain(called) == _plain(argument.within) else column

    def _words(self, argument: Argument, batch: Mapping[str, Any], rows: int) -> list[bytes]:
        column = self._column(argument, batch)
        if argument.integer is not None:
            signed, bits = argument.integer
            return [
                _word(_integer(value, row, argument), signed, bits, row, argument) for row, value in _values(column)
            ]
        if argument.type == "bool":
            _complete(column, argument)
            return [bytes(31) + bytes([bool(flag)]) for flag in c.flags(column, argument.name).tolist()]
        width = 20 if argument.type == "address" else 32 if argument.dynamic else int(argument.type[5:])
        _complete(column, argument)
        held, there = c.fixed(column, width, argument.name)
        if not there.all():
            raise c.Wrong(int(np.flatnonzero(~there)[0]), f"{argument.name} is missing")
        pad = bytes(32 - width)
        raw = np.ascontiguousarray(held).tobytes()
        words = [raw[start : start + width] for start in range(0, rows * width, width)]
        return [pad + word if argument.type == "address" else word + pad for word in words]

    def _dynamic(self, batch: Mapping[str, Any], rows: int) -> list[bytes]:
        from eth_abi.abi import encode

        columns: list[Sequence[Any]] = []
        for argument in self.abi.data:
            if argument.type == "string":  # no argument is null: where a file says nothing it is empty
                column = self._column(argument, batch).cast(pa.string())
                columns.append([value or "" for value in column.to_pylist()])
            elif argument.type == "bytes":
                columns.append(c.data_of(self._column(argument, batch), argument.name).to_pylist())
            elif argument.type == WORDS:
                columns.append([_listed(value, row, argument) for row, value in _values(self._column(argument, batch))])
            else:
                columns.append(self._words(argument, batch, rows))
        kinds = [argument.type if argument.dynamic else "bytes32" for argument in self.abi.data]
        return [encode(kinds, values) for values in zip(*columns, strict=True)]


def table_of(
    known: KnownEvents,
    columns: Sequence[str],
    taken: FittedLayout,
    arguments: Mapping[str, Mapping[str, str]],
    name: str,
    event: str,
) -> EventTable | None:
    """What a table holds. None: an event of this name is none that the market needs.

    Args:
        columns: all that the file has; ``taken`` are those that say where the log is.
        arguments: event to argument to the file's column, where it has another name.
        name: the file's name, which tells the event where it ends in ``evt_Supply``.
        event: the event's name where the rows say it.

    Raises:
        UserError: nothing tells the event, or it lacks an argument.
    """
    free = {_plain(column): column for column in columns if column not in taken.wanted()}
    said = event or _event_name(name, known)
    if said:
        candidates = known.named(said)
        if not candidates:
            return None
        fits = [made for spec in candidates if (made := _fitted(spec, free, arguments, columns))]
        if not fits:
            raise UserError(f"{name}: {_lacking(candidates, free)}", "export it; nothing was imported")
    else:
        fits = [made for spec in known.specs if spec.note is None and (made := _fitted(spec, free, arguments, columns))]
        fits = [made for made in fits if len(made.wanted()) == len(free)] or fits
        most = max((len(made.wanted()) for made in fits), default=0)
        fits = [made for made in fits if len(made.wanted()) == most]
    topics = {topic0(made.spec): made for made in fits}
    if len(topics) == 1:
        return next(iter(topics.values()))
    if topics:
        names = ", ".join(sorted(made.abi.canonical for made in topics.values()))
        raise UserError(
            f"{name}: its columns are those of several events ({shown(names, 200)})",
            "export the raw logs of these; nothing was imported"
            if said
            else "name the file after its event, such as Pool_evt_Supply.csv; nothing was imported",
        )
    raise UserError(
        f"{name}: nothing says which event its rows are of",
        f"name the file after it, such as Pool_evt_{known.names()[0]}.csv, or give a column event; nothing was"
        " imported",
    )


def _event_name(file: str, known: KnownEvents) -> str:
    """The event that a file's name tells: what stands behind ``evt_`` as far as it is one's name (some hold a ``_``,
    and a date may follow), or a name that is an event's.
    """
    stem = re.split(r"[\\/]", file)[-1].split(".csv")[0].split(".parquet")[0].split(".json")[0]
    if found := _NAMED.search(stem):
        words = re.split(r"[^A-Za-z0-9]+", found[1])
        longest = ("_".join(words[:many]) for many in range(len(words), 0, -1))
        return next((name for name in longest if known.named(name)), words[0])
    last = stem.rpartition(".")[2]
    return last if known.named(last) else ""


def _fitted(
    spec: EventSpec, free: Mapping[str, str], arguments: Mapping[str, Mapping[str, str]], columns: Sequence[str]
) -> EventTable | None:
    abi = parse_event(spec.signature)
    own = next((names for event, names in arguments.items() if _plain(event) == _plain(abi.name)), {})
    held = {column.lower(): column for column in columns}
    found: dict[str, str] = {}
    for argument in abi.arguments:
        called = own.get(argument.name)
        column = held.get(called.lower()) if called is not None else free.get(_plain(argument.name))
        if column is None and argument.within:
            column = free.get(_plain(argument.within))
        if column is None:
            return None
        found[argument.name] = column
    return EventTable(spec, abi, found)


def _lacking(candidates: Sequence[EventSpec], free: Mapping[str, str]) -> str:
    """What the nearest of the candidates lacks."""
    short = []
    for spec in candidates:
        abi = parse_event(spec.signature)
        names = [a.name for a in abi.arguments if _plain(a.name) not in free and _plain(a.within or "?") not in free]
        short.append((len(names), abi.canonical, names))
    _, canonical, names = min(short)
    guess = did_you_mean(names[0], free.values()) if names and free else ""
    return f"event {canonical} has an argument {names[0] if names else '?'}, for which it has no column ({guess})"


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _members(column: Any, argument: Argument) -> Any:
    """One member of a struct: of a column of structs, or of JSON."""
    if pa.types.is_struct(column.type):
        names = {_plain(field.name): number for number, field in enumerate(column.type)}
        if _plain(argument.name) not in names:
            raise c.Wrong(0, f"{argument.within} has no {argument.name}")
        return c.plain(column.field(names[_plain(argument.name)]))
    out = []
    for row, value in _values(column):
        try:
            held = foreign.exact_json(value.encode() if isinstance(value, str) else b"")
        except Unreadable as error:
            raise c.Wrong(row, f"{argument.within} is not JSON: {error}") from None
        named = {_plain(name): item for name, item in held.items()} if isinstance(held, dict) else {}
        if _plain(argument.name) not in named or named[_plain(argument.name)] is None:
            raise c.Wrong(row, f"{argument.within} has no {argument.name}")
        out.append(str(named[_plain(argument.name)]))
    return pa.array(out, pa.string())


def _values(column: Any) -> list[tuple[int, Any]]:
    return list(enumerate(column.to_pylist()))


def _complete(column: Any, argument: Argument) -> None:
    if column.null_count:
        raise c.Wrong(int(np.flatnonzero(np.asarray(column.is_null()))[0]), f"{argument.name} is missing")


def _listed(value: Any, row: int, argument: Argument) -> list[bytes]:
    """The words of an array: a list of bytes or hex, or text in which they stand one after another."""
    if value is None or value == "":
        raise c.Wrong(row, f"{argument.name} is missing")
    if isinstance(value, str):
        if _LISTED.sub("", value).strip("[]{}\"', \t\n"):
            raise c.Wrong(row, f"{argument.name} '{shown(value, 60)}' is no list of 32-byte words in hex")
        return [bytes.fromhex(word) for word in _LISTED.findall(value)]
    words = []
    for each in value if isinstance(value, list) else [value]:
        found = _LISTED.fullmatch(each) if isinstance(each, str) else None
        word = bytes.fromhex(found[1]) if found else each
        if not isinstance(word, bytes) or len(word) != 32:
            raise c.Wrong(row, f"{argument.name} '{shown(str(value), 60)}' is no list of 32-byte words")
        words.append(word)
    return words


def _integer(value: Any, row: int, argument: Argument) -> int:
    if value is None or value == "":
        raise c.Wrong(row, f"{argument.name} is missing")
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        kind = "a float, which is not exact: export it as text" if isinstance(value, float) else "no whole number"
        raise c.Wrong(row, f"{argument.name} '{shown(str(value), 60)}' is {kind}")
    if isinstance(value, int):
        return value
    text = str(value).strip()
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        return scaled(text, 0)
    except ValueError as error:
        raise c.Wrong(row, f"{argument.name} {error}") from None


def _word(value: int, signed: bool, bits: int, row: int, argument: Argument) -> bytes:
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    if not low <= value < high:
        raise c.Wrong(row, f"{argument.name} {shown(str(value), 90)} is out of the range of {argument.type}")
    return (value % _WORD).to_bytes(32, "big")
