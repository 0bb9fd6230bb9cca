"""Files to text: CSV, JSON and Parquet files as relations in which every column is text, exactly as the file has it.

Formats go by the end of the name: ``.csv``, ``.tsv``, ``.json`` (an array of objects, or one object a line),
``.jsonl``, ``.ndjson``, ``.parquet``, each also with ``.gz``. Numbers of JSON keep their digits; an absent or null
value is null; what is nested stays JSON. Integers and decimals of Parquet are written out, times in ISO form, bytes as
0x hex. A row that does not fit its file is kept apart.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backtest.errors import UserError, did_you_mean
from backtest.imports.mapping import Source

SOURCE_ROW = "source_row"
_ENDS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
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
        return (int(file), int(row)) if file.isdigit() and row.isdigit() and int(file) < len(self.files) else None


def read(declared: Mapping[str, Source], folder: Path | None, given: Mapping[str, Sequence[str]]) -> Sources:
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
            data = _unpacked(path)
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                out.repeated.append(path.name)
                continue
            seen.add(digest)
            number = len(out.files)
            columns, values, rows, bad = _parsed(path, data, number)
            _check_columns(path.name, name, columns, source)
            taken = len(values[0]) if values else 0
            out.files.append(File(name, path.name, digest, taken + len(bad)))
            out.bad += bad
            parts.append(
                ([*columns, SOURCE_ROW], [*values, pa.array([f"{number}:{row}" for row in rows], pa.string())])
            )
        out.tables[name] = _union(parts, source)
    if not out.files:
        raise UserError("no files to import", "give a folder with --folder, or files with --source NAME=GLOB")
    return out


def _matching(name: str, patterns: Sequence[str] | None, source: Source, folder: Path | None) -> list[Path]:
    if patterns is None:
        return sorted(path for path in folder.glob(source.files) if path.is_file()) if folder else []
    found: list[Path] = []
    for pattern in patterns:
        paths = [Path(path) for path in sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))]
        if not any(path.is_file() for path in paths):
            raise UserError(f"--source {name}={pattern}: no such file", "check the path; put globs in quotes")
        found += [path for path in paths if path.is_file()]
    return list(dict.fromkeys(found))


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"{path.name} cannot be unpacked: {error}",
            "the file is cut off or damaged: get it again; nothing was imported",
        ) from None


_Parsed = tuple[list[str], list[Any], Sequence[int], list[BadRow]]


def _parsed(path: Path, data: bytes, number: int) -> _Parsed:
    """Columns, their values, the rows' numbers in the file, and the rows that do not fit."""
    end = Path(path.name.removesuffix(".gz")).suffix.lower()
    if end == ".parquet":
        return _parquet(path.name, data)
    if end not in _ENDS:
        raise UserError(
            f"{path.name}: unknown kind of file", f"its name ends with one of {', '.join(_ENDS)}, and .gz where packed"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path.name}: byte {error.start} is not UTF-8", "convert the file to UTF-8; nothing was imported"
        ) from None
    if end in (".csv", ".tsv"):
        return _csv(path.name, text, number, "," if end == ".csv" else "\t")
    return _json(path.name, text, number)


def _csv(name: str, text: str, number: int, delimiter: str) -> _Parsed:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise UserError(
            f"{name}, line {reader.line_num}: {error}", "the file is cut off or not CSV; nothing was imported"
        ) from None
    if not lines:
        raise UserError(f"{name} is empty", "a CSV file starts with the names of its columns")
    header, body = [column.strip() for column in lines[0]], lines[1:]
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


def _as_json(header: Sequence[str], line: Sequence[str]) -> str:
    named = dict(zip(header, line, strict=False))
    return json.dumps({**named, "": list(line[len(header) :])} if len(line) > len(header) else named)


def _json(name: str, text: str, number: int) -> _Parsed:
    def load(part: str) -> Any:
        return json.loads(part, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_Pairs)

    bad = []
    objects: list[tuple[int, _Pairs]] = []
    if text.lstrip()[:1] == "[":
        try:
            items = list(load(text))
        except ValueError as error:
            raise UserError(f"{name}: {error}", "the file is cut off or not JSON; nothing was imported") from None
    else:
        items = []
        for row, line in enumerate(part for part in text.splitlines() if part.strip()):
            try:
                items.append(load(line))
            except ValueError as error:
                items.append(None)
                bad.append(BadRow(number, row, f"not JSON: {error}", json.dumps(line)))
    refused = {row.row for row in bad}
    for row, item in enumerate(items):
        if row in refused:
            continue
        if not isinstance(item, _Pairs) or len(dict(item)) != len(item):
            reason = "not an object" if not isinstance(item, _Pairs) else "a name comes twice"
            bad.append(BadRow(number, row, reason, json.dumps(item)))
        else:
            objects.append((row, item))
    names = list(dict.fromkeys(key for _, item in objects for key, _ in item))
    dicts = [dict(item) for _, item in objects]
    values = [pa.array([_text(item.get(key)) for item in dicts], pa.string()) for key in names]
    return names, values, [row for row, _ in objects], bad


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
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{name}: {str(error).splitlines()[0]}", "the file is cut off or not Parquet; nothing was imported"
        ) from None
    return (
        table.schema.names,
        [_column_text(column.combine_chunks(), name) for column in table.columns],
        range(table.num_rows),
        [],
    )


def _column_text(column: Any, name: str) -> Any:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column_text(column.dictionary_decode(), name)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if value is None else "0x" + value.hex() for value in column.to_pylist()], pa.string())
    if pa.types.is_nested(kind):
        return pa.array(
            [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()], pa.string()
        )
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise UserError(f"{name}: {str(error).splitlines()[0]}", "write the column as text") from None


def _check_columns(file: str, source: str, columns: Sequence[str], declared: Source) -> None:
    folded = [column.lower() for column in columns]
    if doubled := sorted({column for column in folded if folded.count(column) > 1}):
        raise UserError(f"{file}: column '{doubled[0]}' comes twice", "name each column once; nothing was imported")
    if SOURCE_ROW in folded:
        raise UserError(f"{file} has a column '{SOURCE_ROW}'", "that name is taken: rename it; nothing was imported")
    for wanted in declared.columns:
        if wanted.lower() not in folded:
            spare = [column for column in columns if column.lower() not in {name.lower() for name in declared.columns}]
            hint = f"{did_you_mean(wanted, spare or columns)}; rename it or change the mapping: nothing was imported"
            raise UserError(f"{file} (source '{source}') has no column '{wanted}'", hint)


def _union(parts: Iterable[tuple[list[str], list[Any]]], source: Source) -> pa.Table:
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
