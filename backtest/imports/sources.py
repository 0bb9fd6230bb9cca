"""Files to text: CSV, JSON and Parquet files as relations in which every column is text, as the file has it, without
the blanks around it.

Formats go by the end of the name: ``.csv``, ``.tsv``, ``.json`` (an array of objects, one object a line, or a document
in which the mapping says where the rows are), ``.jsonl``, ``.ndjson``, ``.parquet``, each also with ``.gz``. Numbers of
JSON keep their digits; an absent or null value is null; what is nested stays JSON. Integers and decimals of Parquet are
written out, times in ISO form, bytes as 0x hex, and floats with their width behind (``1.5f64``), so that nobody takes
them for exact. A row that does not fit its file is kept apart.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backtest.errors import UserError, did_you_mean
from backtest.files import read_bytes
from backtest.foreign import Unreadable, exact_json, shown
from backtest.foreign import text as as_text
from backtest.imports.mapping import ImportSource

SOURCE_ROW = "source_row"
_ENDS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
_SEPARATORS = {";": '";"', "\t": '"\\t"', "|": '"|"', ",": '","'}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LARGEST = 1 << 30
"""Bytes of a file, unpacked."""
_ROWS = 20_000_000
_PACKED, _PACKED_FLOOR = 100, 64 << 20
"""How many times its size a packed file may unpack to, beyond a floor: tables pack to a tenth or so."""
csv.field_size_limit(1 << 24)


@dataclass(frozen=True, slots=True)
class File:
    """One file that was read. ``digest``: SHA-256 of its bytes, unpacked; ``rows``: those taken and those kept
    apart.
    """

    source: str
    name: str
    digest: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that does not fit its file; ``text`` is what it holds, as JSON."""

    file: int
    row: int
    reason: str
    text: str


@dataclass(slots=True)
class Sources:
    """All that was read. ``tables``: source to its relation, with ``source_row`` as its last column: ``file number:row
    from 0``. ``absent``: sources without files; ``repeated``: files with the same bytes as one before.
    """

    files: list[File] = field(default_factory=list)
    tables: dict[str, pa.Table] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def place(self, source_row: str) -> tuple[int, int] | None:
        """File number and row of a ``source_row``; None for any other text."""
        file, _, row = source_row.partition(":")
        if not (source_row.isascii() and file.isdigit() and row.isdigit() and len(source_row) < 24):
            return None
        number, place = int(file), int(row)
        return (number, place) if number < len(self.files) and place < self.files[number].rows else None


def read(declared: Mapping[str, ImportSource], folder: Path | None, given: Mapping[str, Sequence[str]]) -> Sources:
    """Read the files of every source: those of ``given`` (source to paths or globs), else those of ``folder`` by the
    mapping's globs.

    A source without files is an empty relation: with a folder only where the mapping calls it optional.

    Raises:
        UserError: an unknown source; no file; a file that cannot be read, is cut off, or lacks a column: in one line.
    """
    for name in given:
        if name not in declared:
            raise UserError(f"the mapping has no source '{name}'", did_you_mean(name, declared))
    out = Sources()
    for name, source in declared.items():
        paths = _matching(name, given.get(name), source, folder)
        if not paths:
            if name not in given and folder is not None and not source.optional:
                raise UserError(
                    f"no file of source '{name}' in {folder}",
                    f"expected {source.files}; name its files with --source {name}=GLOB",
                )
            out.absent.append(name)
        parts: list[tuple[list[str], list[Any]]] = []
        seen: set[bytes] = set()
        for path in paths:
            called = shown(path.name)
            data = _unpacked(path, called)
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                out.repeated.append(called)
                continue
            seen.add(digest)
            number = len(out.files)
            columns, values, rows, bad = _parsed(called, data, number, name, source)
            _check_columns(called, name, columns, source)
            values = [pc.utf8_trim_whitespace(column) for column in values]
            out.files.append(File(name, called, digest, len(rows) + len(bad)))
            out.bad += bad
            parts.append(
                ([*columns, SOURCE_ROW], [*values, pa.array([f"{number}:{row}" for row in rows], pa.string())])
            )
        out.tables[name] = _union(parts, source)
    if not out.files:
        raise UserError("no files to import", "give a folder with --folder, or files with --source NAME=GLOB")
    return out


def _matching(name: str, patterns: Sequence[str] | None, source: ImportSource, folder: Path | None) -> list[Path]:
    if patterns is None:
        return sorted(path for path in folder.glob(source.files) if path.is_file()) if folder else []
    found: list[Path] = []
    for pattern in patterns:
        said = f"--source {name}={shown(pattern)}"
        if "\0" in pattern:
            raise UserError(f"{said}: a path holds no NUL", "check the path")
        paths = [Path(path) for path in sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))]
        if not any(path.is_file() for path in paths):
            why = "not a regular file" if any(not path.is_dir() for path in paths) else "no such file"
            raise UserError(f"{said}: {why}", "check the path; put globs in quotes")
        found += [path for path in paths if path.is_file()]
    return list(dict.fromkeys(found))


def _unpacked(path: Path, name: str) -> bytes:
    data = read_bytes(path, _LARGEST)
    if path.suffix.lower() != ".gz":
        return data
    most = min(_LARGEST, max(_PACKED_FLOOR, _PACKED * len(data)))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(most + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{name} cannot be unpacked: {shown(str(error))}",
            "the file is cut off or damaged: get it again; nothing was imported",
        ) from None
    if len(unpacked) > most:
        raise UserError(
            f"{name} unpacks to more than {most >> 20} MiB",
            "is it the file that you meant? Unpack it, or split it; nothing was imported",
        )
    return unpacked


_Parsed = tuple[list[str], list[Any], Sequence[int], list[BadRow]]


def _parsed(called: str, data: bytes, number: int, name: str, source: ImportSource) -> _Parsed:
    """Columns, their values, the rows' numbers in the file, and the rows that do not fit."""
    end = Path(called[:-3] if called.lower().endswith(".gz") else called).suffix.lower()
    if end not in _ENDS:
        raise UserError(
            f"{called}: unknown kind of file",
            f"its name ends with one of {', '.join(_ENDS)}, and .gz where packed",
        )
    for start, kind, ends in _KINDS:
        if data.startswith(start) and end not in ends:
            fix = f"name it {ends[0]}" if ends else "export it as one of " + ", ".join(_ENDS)
            raise UserError(f"{called} is {kind}", f"{fix}; nothing was imported")
    if end == ".parquet":
        return _parquet(called, data)
    try:
        text = as_text(data)
    except Unreadable as error:
        raise UserError(f"{called}: {error}", "convert the file to UTF-8; nothing was imported") from None
    if end in (".csv", ".tsv"):
        return _csv(called, text, number, source.separator or ("," if end == ".csv" else "\t"))
    return _json(called, text, number, name, source)


_KINDS: tuple[tuple[bytes, str, tuple[str, ...]], ...] = (
    (b"PAR1", "a Parquet file", (".parquet",)),
    (b"\x1f\x8b", "packed with gzip", ("with .gz behind",)),
    (b"PK\x03\x04", "a zip file, as spreadsheets are", ()),
    (b"SQLite format 3\0", "an SQLite database", ()),
    (b"ARROW1", "an Arrow file", ()),
)
"""How files of some kinds start, and the ends of names that go with them."""


def _csv(name: str, text: str, number: int, separator: str) -> _Parsed:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        lines = [line for line in islice(reader, _ROWS + 2) if line]
    except csv.Error as error:
        raise UserError(
            f"{name}, line {reader.line_num}: {error}", "the file is cut off or not CSV; nothing was imported"
        ) from None
    if not lines:
        raise UserError(f"{name} is empty", "a CSV file starts with the names of its columns")
    header, body = _header(lines[0]), lines[1:]
    _check_rows(name, len(body))
    bad = {}
    for row, line in enumerate(body):
        if len(line) != len(header):
            bad[row] = f"{len(line)} fields, not {len(header)}"
    if body and not text.endswith(("\n", "\r")):
        bad.setdefault(
            len(body) - 1, "the last line does not end: it may be cut off (end it with a newline if it is whole)"
        )
    apart = [BadRow(number, row, reason, _as_json(header, body[row])) for row, reason in bad.items()]
    rows = [row for row in range(len(body)) if row not in bad] if bad else range(len(body))
    taken = [body[row] for row in rows] if bad else body
    columns = list(zip(*taken, strict=True)) if taken else [() for _ in header]
    return header, [pa.array(column, pa.string()) for column in columns], rows, apart


def _header(names: Sequence[str]) -> list[str]:
    """Names of columns; one without a name (the index of a data frame) is called by its number."""
    return [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]


def _check_rows(name: str, rows: int) -> None:
    if rows > _ROWS:
        raise UserError(f"{name} has more than {_ROWS:,} rows", "split it; nothing was imported")


def _as_json(header: Sequence[str], line: Sequence[str]) -> str:
    named = dict(zip(header, line, strict=False))
    return json.dumps({**named, "": list(line[len(header) :])} if len(line) > len(header) else named)


def _json(called: str, text: str, number: int, name: str, source: ImportSource) -> _Parsed:
    items, bad = _items(called, text, number)
    if source.rows is not None:
        where = source.rows.split(".")
        found = [row for row, item in enumerate(items) if row not in {other.row for other in bad}]
        items = [inner for row in found for inner in _inside(called, items[row], where, name)]
        bad = []
    refused = {row.row for row in bad}
    objects: list[tuple[int, dict[str, Any]]] = []
    surrogates = _SURROGATE.search(text) is not None
    for row, item in enumerate(items):
        if row in refused:
            continue
        reason = _fault(item, surrogates)
        if reason is None:
            objects.append((row, dict(item)))
        else:
            bad.append(BadRow(number, row, reason, json.dumps(_plain(item))))
    names = list(dict.fromkeys(key for _, item in objects for key in item)) if items else list(source.columns)
    if bad and not objects:
        raise UserError(f"{called}: none of its rows can be read: {bad[0].reason}", "nothing was imported")
    if source.rows is None and not {key.lower() for key in names} & {key.lower() for key in source.columns}:
        for _, item in objects:
            if place := _rows_at(item, source.columns):
                raise UserError(
                    f"{called} (source '{name}') is a document with its rows at {shown(place)}",
                    f'say rows = "{shown(place)}" under [sources.{name}] in mapping.toml; nothing was imported',
                )
    values = [pa.array([_text(item.get(key)) for _, item in objects], pa.string()) for key in names]
    return _header(names), values, [row for row, _ in objects], bad


def _items(called: str, text: str, number: int) -> tuple[list[Any], list[BadRow]]:
    """What a file of JSON holds: the items of its array, what its lines say (lines end at line feeds), or the one
    object that goes over several lines; and the lines that are none.
    """
    if not text.strip():
        raise UserError(f"{called} is empty", "a JSON file without rows is []; nothing was imported")
    try:
        if text.lstrip()[:1] == "[":
            items = list(exact_json(text, _Pairs))
            _check_rows(called, len(items))
            return items, []
        items, bad = [], []
        for row, line in enumerate(part for part in text.split("\n") if part.strip()):
            _check_rows(called, row)
            try:
                items.append(exact_json(line, _Pairs))
            except Unreadable as error:
                items.append(None)
                bad.append(BadRow(number, row, f"not JSON: {error}", json.dumps(line)))
        if len(bad) < len(items) and any(isinstance(item, _Pairs) for item in items):
            return items, bad
        return [exact_json(text, _Pairs)], []
    except Unreadable as error:
        raise UserError(f"{called}: {error}", "the file is cut off or not JSON; nothing was imported") from None


def _fault(item: Any, surrogates: bool) -> str | None:
    """Why an item is no row; None: it is one. ``surrogates``: whether its text may hold halves of characters."""
    if not isinstance(item, _Pairs):
        return "not an object"
    if len(dict(item)) != len(item):
        return "a name comes twice"
    if surrogates:
        try:
            json.dumps(_plain(item), ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "it holds half a character (a lone surrogate): it is not Unicode"
    return None


def _inside(called: str, item: Any, path: Sequence[str], name: str) -> list[Any]:
    """The rows at a path of a document; lists on the way are gone through. UserError where there are none, and for a
    reply that tells of errors.
    """
    if isinstance(item, _Pairs) and (errors := dict(item).get("errors")):
        raise UserError(
            f"{called}: the reply tells of errors: {shown(json.dumps(_plain(errors)), 120)}",
            "ask again; nothing was imported",
        )
    found = [item]
    for step, key in enumerate(path):
        flat = [inner for one in found for inner in (one if isinstance(one, list) and not _is_object(one) else [one])]
        found = []
        for one in flat:
            known = dict(one) if isinstance(one, _Pairs) else {}
            if known.get(key) is None:
                raise UserError(
                    f"{called}: there is nothing at '{shown('.'.join(path[: step + 1]))}'",
                    f"{did_you_mean(key, known)}; mend 'rows' of [sources.{name}]; nothing was imported",
                )
            found.append(known[key])
    rows: list[Any] = []
    for one in found:
        if not isinstance(one, list) or _is_object(one):
            raise UserError(
                f"{called}: there is no list at '{shown('.'.join(path))}'",
                f"mend 'rows' of [sources.{name}]; nothing was imported",
            )
        rows += one
    _check_rows(called, len(rows))
    return rows


def _is_object(value: Any) -> bool:
    return isinstance(value, _Pairs)


def _rows_at(item: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    """The path of the first list of objects with these columns, or of any objects; None: there is none."""
    wanted, other = {column.lower() for column in columns}, None
    waiting: list[tuple[str, Any]] = list(item.items())
    for path, value in waiting:  # grows as it goes, level by level
        if _is_object(value):
            waiting += [(f"{path}.{key}", inner) for key, inner in value]
        elif isinstance(value, list) and value and _is_object(value[0]):
            other = other or path
            if wanted <= {key.lower() for key, _ in value[0]}:
                return path
    return other


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with its names as they come."""


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(item) for key, item in value}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _parquet(name: str, data: bytes) -> _Parsed:
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        told = file.metadata
        _check_rows(name, told.num_rows)
        size = sum(told.row_group(group).total_byte_size for group in range(told.num_row_groups))
        if size > _LARGEST:
            raise UserError(f"{name} holds more than {_LARGEST >> 20} MiB", "split it; nothing was imported")
        table = file.read()
        table.validate(full=True)  # text that is not UTF-8 among it
        names = _header(table.schema.names)
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        said = shown((str(error).splitlines() or ["damaged"])[0])
        raise UserError(f"{name}: {said}", "the file is cut off or not Parquet; nothing was imported") from None
    columns = [_column_text(column.combine_chunks(), name, called) for column, called in zip(table, names, strict=True)]
    return names, columns, range(table.num_rows), []


def _column_text(column: Any, name: str, called: str) -> Any:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column_text(column.dictionary_decode(), name, called)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else "0x" + value.hex() for value in column.to_pylist()], pa.string())
    try:
        if pa.types.is_nested(kind):
            return pa.array([None if value is None else _nested(value) for value in column.to_pylist()], pa.string())
        if pa.types.is_floating(kind):
            wide = column.cast(pa.float64()).cast(pa.string())
            return pc.binary_join_element_wise(wide, f"f{kind.bit_width}", "")
        return column.cast(pa.string())
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise UserError(
            f"{name}: column '{shown(called)}' is {shown(str(kind), 60)}, which cannot be read:"
            f" {shown((str(error).splitlines() or [''])[0])}",
            "write the column as text; nothing was imported",
        ) from None


def _nested(value: Any) -> str:
    """A nested value as JSON; floats in it as in columns of their own."""
    return json.dumps(_marked(value), default=str)


def _marked(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value!r}f64"
    if isinstance(value, dict):
        return {key: _marked(inner) for key, inner in value.items()}
    return [_marked(inner) for inner in value] if isinstance(value, list) else value


def _check_columns(file: str, source: str, columns: Sequence[str], declared: ImportSource) -> None:
    folded = [column.lower() for column in columns]
    if doubled := sorted({column for column in folded if folded.count(column) > 1}):
        raise UserError(
            f"{file}: column '{shown(doubled[0])}' comes twice", "name each column once; nothing was imported"
        )
    if SOURCE_ROW in folded:
        raise UserError(f"{file} has a column '{SOURCE_ROW}'", "that name is taken: rename it; nothing was imported")
    for wanted in declared.columns:
        if wanted.lower() not in folded:
            if hint := _separator_of(columns, declared):
                fix = f"its columns seem to be separated by {hint}: say separator = {hint} under [sources.{source}]"
                raise UserError(f"{file} (source '{source}') has no column '{wanted}'", f"{fix}; nothing was imported")
            spare = [column for column in columns if column.lower() not in {name.lower() for name in declared.columns}]
            guess = did_you_mean(wanted, [shown(column, 60) for column in spare or columns][:50])
            hint = f"{guess}; rename it or change the mapping: nothing was imported"
            raise UserError(f"{file} (source '{source}') has no column '{wanted}'", hint)


def _separator_of(columns: Sequence[str], declared: ImportSource) -> str | None:
    """The separator, quoted, that would give the columns that are wanted."""
    wanted = {name.lower() for name in declared.columns}
    parts = columns[0] if len(columns) == 1 else ""
    found = (mark for mark in _SEPARATORS if wanted <= {part.strip(' "').lower() for part in parts.split(mark)})
    return next((_SEPARATORS[mark] for mark in found), None)


def _union(parts: Iterable[tuple[list[str], list[Any]]], source: ImportSource) -> pa.Table:
    """The rows of all files; a column that a file lacks is null there. Names are the mapping's where they differ by
    case only.
    """
    names: dict[str, str] = {name.lower(): name for name in source.columns}
    tables = []
    for columns, values in parts:
        for column in columns:
            names.setdefault(column.lower(), column)
        tables.append(pa.table(values, names=[names[column.lower()] for column in columns]))
    names.setdefault(SOURCE_ROW, SOURCE_ROW)
    empty = pa.schema([pa.field(name, pa.string()) for name in names.values()]).empty_table()
    return pa.concat_tables([empty, *tables], promote_options="default").combine_chunks()
