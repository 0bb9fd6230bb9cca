"""Files of logs in parts: Parquet, CSV and JSON, also packed with gzip or zstd. What a file is, its first bytes say,
whatever its name. No file is held in memory as a whole, but for a JSON document that is no list of lines.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from backtest import foreign
from backtest.errors import UserError
from backtest.files import open_bytes
from backtest.foreign import Unreadable, shown

BATCH = 1 << 16
"""Rows of a batch of Parquet and JSON."""
_BLOCK = 8 << 20
_DOCUMENT = 1 << 30
_SEEN = 1_000
"""Objects whose names tell the columns of a JSON file: exports leave out what is null."""
_REMEDY = "export it again; nothing was imported"
_OTHER_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip file, as spreadsheets are"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"BZh", "packed with bzip2"),
    (b"\xfd7zXZ\0", "packed with xz"),
)


@dataclass(frozen=True, slots=True)
class LogFile:
    """One file, by its path and what it is called in messages."""

    path: Path
    name: str

    def size(self) -> int:
        """Bytes, as packed."""
        return self.path.stat().st_size

    def columns(self) -> list[str]:
        """The names of its columns."""
        with self._open() as source:
            return source.columns

    def batches(self, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These columns, part by part, as Arrow arrays.

        Raises:
            UserError: the file is cut off, damaged, or not what its first bytes say.
        """
        with self._open() as source:
            yield from source.batches(wanted)

    @contextmanager
    def _open(self) -> Iterator[_Source]:
        with open_bytes(self.path) as file:
            try:
                with _unpacked(file, self.name) as (stream, packed):
                    yield _source(stream, packed, self.name, self.path)
            except (pa.ArrowException, EOFError, zlib.error, gzip.BadGzipFile, OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                said = shown((str(error).splitlines() or ["damaged"])[0], 200)
                raise UserError(f"{self.name}: it is cut off or damaged: {said}", _REMEDY) from None


def files_in(paths: Sequence[Path]) -> list[LogFile]:
    """The files that are named, and those below folders that are: no hidden ones. UserError where there is none."""
    out: list[LogFile] = []
    for path in paths:
        if path.is_dir():
            inner = sorted(part for part in path.rglob("*") if part.is_file() and not _hidden(part.relative_to(path)))
            if not inner:
                raise UserError(f"there is no file in {shown(str(path))}", "check the path")
            out += [LogFile(part, shown(str(part.relative_to(path)))) for part in inner]
        else:
            open_bytes(path).close()
            out.append(LogFile(path, shown(path.name)))
    if not out:
        raise UserError("no files given", "name files or folders of raw logs")
    return out


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


@contextmanager
def _unpacked(file: BinaryIO, name: str) -> Iterator[tuple[BinaryIO, bool]]:
    """The file's stream, unpacked where it is packed, and whether it is."""
    head = file.read(16)
    file.seek(0)
    for start, kind in _OTHER_KINDS:
        if head.startswith(start):
            raise UserError(f"{name} is {kind}", "export it as Parquet, CSV or JSON, plain or with gzip or zstd")
    if not head:
        raise UserError(f"{name} is empty", "leave it out, or export it again; nothing was imported")
    if head.startswith(b"\x1f\x8b"):
        with gzip.open(file) as stream:
            yield cast(BinaryIO, stream), True
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
            yield cast(BinaryIO, stream), True
    else:
        yield file, False


class _Source(Protocol):
    """An open file: the names of its columns, then its rows, once."""

    columns: list[str]

    def batches(self, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Columns by their names, of some rows after others."""
        ...


def _source(stream: BinaryIO, packed: bool, name: str, path: Path) -> _Source:
    start = stream.read(_BLOCK if packed else 1 << 20)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"PAR1"):
        if packed:
            raise UserError(f"{name} is a packed Parquet file", "unpack it: Parquet packs its columns itself")
        return _Parquet(stream)
    if b"\0" in start[:4096]:
        raise UserError(f"{name} is neither Parquet nor text", "export it as Parquet, CSV or JSON")
    joined = _Joined(start, stream)
    if text.startswith(b"{"):
        return _Lines(joined, start, name)
    if text.startswith(b"["):
        return _Document(joined, name)
    return _Csv(joined, start, name)


class _Joined(io.RawIOBase):
    """What was read already, then the rest; remembers the last byte."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = start, rest
        self.last = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; all that is left without one."""
        if self._start:
            cut = len(self._start) if size < 0 else size
            data, self._start = self._start[:cut], self._start[cut:]
            if size < 0:
                data += self._rest.read()
        else:
            data = self._rest.read(size) if size >= 0 else self._rest.read()
        if data:
            self.last = data[-1:]
        return data


class _Parquet(_Source):
    def __init__(self, stream: BinaryIO) -> None:
        stream.seek(0)
        self._file = pq.ParquetFile(stream)
        self.columns = list(self._file.schema_arrow.names)

    def batches(self, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        for batch in self._file.iter_batches(batch_size=BATCH, columns=list(wanted), use_threads=False):
            yield {name: batch.column(name) for name in wanted}


class _Csv(_Source):
    def __init__(self, stream: _Joined, start: bytes, name: str) -> None:
        self._stream, self._name = stream, name
        line = start.split(b"\n", 1)[0]
        if len(line) == len(start) and len(start) >= 1 << 20:
            raise UserError(f"{name} is neither Parquet, JSON nor CSV", "a CSV file starts with a line of names")
        try:
            header = foreign.text(line)
        except Unreadable as error:
            raise UserError(f"{name}: {error}", "convert the file to UTF-8; nothing was imported") from None
        counts = {mark: header.count(mark) for mark in ",\t;|"}
        self._separator = max(counts, key=lambda mark: counts[mark])
        self.columns = next(csv.reader([header], delimiter=self._separator), [])

    def batches(self, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        reader = pa_csv.open_csv(
            pa.PythonFile(self._stream, "r"),
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            parse_options=pa_csv.ParseOptions(delimiter=self._separator),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(self.columns, pa.string()),
                include_columns=list(wanted),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                null_values=["", "null", "NULL", "\\N", "<nil>"],
            ),
        )
        for batch in reader:
            yield {name: batch.column(name) for name in wanted}
        if self._stream.last not in (b"\n", b"\r"):
            raise UserError(
                f"{self._name}: its last line does not end, so it may be cut off",
                "export it again, or end it with a newline if it is whole; nothing was imported",
            )


class _Topics(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """Up to four topics. Not a list: many lists would keep the garbage collector busy."""

    first: str | None = None
    second: str | None = None
    third: str | None = None
    fourth: str | None = None


Value = str | int | float | bool | _Topics | None


def _row_type(wanted: Sequence[str]) -> type[msgspec.Struct]:
    fields = [f"column_{place}" for place in range(len(wanted))]
    return msgspec.defstruct(
        "Row", [(field, Value, None) for field in fields], rename=dict(zip(fields, wanted, strict=True)), gc=False
    )


def _columns(rows: Sequence[Any], wanted: Sequence[str]) -> dict[str, Any]:
    return {name: _array([getattr(row, f"column_{place}") for row in rows]) for place, name in enumerate(wanted)}


def _array(values: list[Any]) -> Any:
    """Values of one column as Arrow: text or whole numbers; where they are mixed, text."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values), pa.string())
    if kinds == {str}:
        return pa.array(values, pa.large_string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(value is None or -(1 << 63) <= value < 1 << 63 for value in values):
        return pa.array(values, pa.int64())
    if _Topics in kinds:
        return pa.array([_listed(value) for value in values], pa.list_(pa.string()))
    return pa.array([None if value is None else str(value) for value in values], pa.large_string())


def _listed(value: Any) -> list[str] | None:
    if isinstance(value, _Topics):
        return [topic for topic in (value.first, value.second, value.third, value.fourth) if topic is not None]
    return None if value is None else [str(value)]


def _names(objects: Sequence[Any], name: str) -> list[str]:
    for item in objects:
        if not isinstance(item, dict):
            raise UserError(f"{name}: its rows are no objects", "export it as Parquet, CSV or JSON lines")
    return list(dict.fromkeys(key for item in objects for key in item))


class _Lines(_Source):
    """One object a line."""

    def __init__(self, stream: _Joined, start: bytes, name: str) -> None:
        self._stream, self._name = stream, name
        lines = [line for line in start.split(b"\n")[: _SEEN + 1] if line.strip()]
        try:
            self._inner: _Source | None = None
            objects = [foreign.json_value(line) for line in lines[:1] + lines[1:-1]]
        except Unreadable as error:
            self._inner = _Document(stream, name, why=str(error))
            self.columns = self._inner.columns
            return
        if len(lines) == 1 and isinstance(objects[0], dict) and _place_of_rows(objects[0]) is not None:
            inner = _Document(stream, name)
            self._inner, self.columns = inner, inner.columns
            return
        self.columns = _names(objects, name)

    def batches(self, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        if self._inner is not None:
            yield from self._inner.batches(wanted)
            return
        decoder = msgspec.json.Decoder(_row_type(wanted))
        left, row = b"", 0
        while True:
            data = self._stream.read(_BLOCK)
            whole, _cut, rest = (left + data).rpartition(b"\n") if data else (left, b"", b"")
            left = rest
            if whole.strip():
                try:
                    rows = decoder.decode_lines(whole)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise self._wrong(whole, row, decoder, error) from None
                row += len(rows)
                yield _columns(rows, wanted)
            if not data:
                return

    def _wrong(self, lines: bytes, row: int, decoder: Any, error: Exception) -> UserError:
        for line in lines.split(b"\n"):
            if not line.strip():
                continue
            row += 1
            try:
                decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as found:
                return UserError(f"{self._name}, line {row}: {shown(str(found), 200)}", _REMEDY)
        return UserError(f"{self._name}: {shown(str(error), 200)}", _REMEDY)


_PLACES = ("result", "results", "data", "rows", "records")
"""Where documents keep their rows: {"result": {"rows": [...]}}."""


def _place_of_rows(item: Mapping[str, Any]) -> str | None:
    return next((place for place in _PLACES if isinstance(item.get(place), dict | list)), None)


class _Document(_Source):
    """One list of objects, or a document with one inside; held in memory."""

    def __init__(self, stream: _Joined, name: str, why: str = "") -> None:
        self._name = name
        data = stream.read(_DOCUMENT + 1)
        while len(data) <= _DOCUMENT and (more := stream.read(_DOCUMENT + 1 - len(data))):
            data += more
        if len(data) > _DOCUMENT:
            raise UserError(
                f"{name} is one JSON document of more than {_DOCUMENT >> 20} MiB", "export it with one object a line"
            )
        try:
            raw = foreign.json_value(data, msgspec.Raw)
            for _ in range(4):
                if bytes(memoryview(raw)[:64]).lstrip().startswith(b"["):
                    break
                inner = foreign.json_value(raw, dict[str, msgspec.Raw])
                place = _place_of_rows({name: foreign.json_value(value) for name, value in inner.items()})
                if place is None:
                    raise UserError(
                        f"{name} is a JSON document without rows at {', '.join(_PLACES)}"
                        + (f" (as lines: {why})" if why else ""),
                        "export it with one object a line",
                    )
                raw = inner[place]
            self._rows: list[Any] = foreign.json_value(raw, list[msgspec.Raw])
            self.columns = _names([foreign.json_value(item) for item in self._rows[:_SEEN]], name)
        except Unreadable as error:
            raise UserError(f"{name}: it is cut off or not JSON: {why or error}", _REMEDY) from None

    def batches(self, wanted: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        decoder = msgspec.json.Decoder(_row_type(wanted))
        for start in range(0, len(self._rows), BATCH):
            rows = []
            for place, item in enumerate(self._rows[start : start + BATCH], start + 1):
                try:
                    rows.append(decoder.decode(item))
                except msgspec.MsgspecError as error:
                    raise UserError(f"{self._name}, row {place}: {shown(str(error), 200)}", _REMEDY) from None
            yield _columns(rows, wanted)
