"""The manifest says which files count, what is covered, and what the columns of each dataset are.

``manifest/NNNNNNNN.json`` are immutable; the highest number is the lake. A commit writes data files, syncs them, and
then publishes the next number if nobody has (``put_if_absent``), so it appears whole or not at all.

A manifest ends with the SHA-256 of all before it (the seal), so that one that is damaged, or edited by hand, is not
read.

Formats: 1 had neither schemas nor, for its files, sha256 and content digest; ``Writer.complete`` adds them before the
first write. 2 had no seal. A newer format than ours is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec
import pyarrow as pa

from backtest import foreign, tables
from backtest.errors import LakeError
from backtest.lake.storage import Storage
from backtest.markets import MarketConfig
from backtest.result_tables import ENSEMBLES, JOINTS, RESULTS, STRESSES, SWEEPS

FORMAT = 3
KEEP_VERSIONS = 8
"""Manifests that stay readable behind the newest: files that any of them names are not deleted."""

_NAME = re.compile(r"^manifest/([0-9]{8})\.json$", re.ASCII)
_SEAL = re.compile(rb',"sha256":"([0-9a-f]{64})"\}\Z')
_PATH = re.compile(r"^data/[^\x00-\x1f\\]+\.parquet$")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Ranges = tuple[tuple[Count, Count], ...]


class FileRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One Parquet file. ``path`` is relative to the lake; ``content`` is the digest of its rows
    (``backtest.lake.content``).
    """

    dataset: str
    path: str
    rows: Count
    bytes: Count
    from_block: Count | None = None
    to_block: Count | None = None
    stamp: str = ""
    sha256: str = ""
    content: str = ""


class MarketRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One market: its description, files in block order per dataset, inclusive block ranges per source, and facts about
    origin.
    """

    config: MarketConfig | None = None
    files: tuple[FileRecord, ...] = ()
    coverage: dict[str, Ranges] = {}
    provenance: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of the lake. ``schemas``: (column, type, nullable) of the datasets that ``backtest.tables`` does not
    declare.
    """

    format: int = FORMAT
    version: int = 0
    schemas: dict[str, tuple[tuple[str, str, bool], ...]] = {}
    markets: dict[str, MarketRecord] = {}


def name_of(version: int) -> str:
    """The key of a manifest version."""
    return f"manifest/{version:08d}.json"


def versions(storage: Storage) -> list[int]:
    """All published versions, ascending."""
    return [int(match[1]) for key in storage.list("manifest") if (match := _NAME.match(key))]


def load_newest(storage: Storage) -> Manifest | None:
    """The newest manifest, migrated to this format; None where there is no lake."""
    while numbers := versions(storage):
        key = name_of(numbers[-1])
        try:
            found = parse(storage.read(key), storage.location(key))
        except FileNotFoundError:
            continue  # a writer published newer versions and removed this one meanwhile
        if found.version != numbers[-1]:
            raise LakeError(f"{storage.location(key)} is the manifest of version {found.version}", _RESTORE)
        return found
    return None


def parse(text: bytes, where: str) -> Manifest:
    """A manifest from JSON; ``where`` names it in errors.

    Raises:
        LakeError: it is none, of a newer format, damaged, edited by hand, or contradicts itself.
    """
    sealed = _SEAL.search(text)
    if sealed and _seal(text[: sealed.start()] + b"}") != sealed[1]:
        raise _damaged(where)
    try:
        body = foreign.json_value(text)
        number = body["format"]
    except (foreign.Unreadable, TypeError, KeyError):
        number = None
    if type(number) is not int or number < 1:
        raise LakeError(f"{where} is not a manifest", _RESTORE)
    if number > FORMAT:
        raise LakeError(
            f"{where} has format {number if number < 1000 else 'of a large number'}, this version reads up to {FORMAT}",
            "install a newer version of backtest",
        )
    if (number >= 3) != bool(sealed):
        raise _damaged(where)
    body.pop("sha256", None)
    for older in range(number, FORMAT):
        body = _MIGRATIONS[older](body)
    try:
        manifest = msgspec.convert(body, Manifest, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise LakeError(f"{where}: {foreign.shown(str(error))}", _RESTORE) from None
    _consistent(manifest, where)
    return manifest


_RESTORE = "restore it from a copy, or delete it: the lake is then what the version before it was"


def _damaged(where: str) -> LakeError:
    return LakeError(f"{where} is not as it was written: damaged, or edited by hand", _RESTORE)


def _seal(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _consistent(manifest: Manifest, where: str) -> None:
    """LakeError where a file is named twice or lies elsewhere, or a schema has an unknown type: what no writer wrote,
    and manifests without a seal may say.
    """
    known: set[str] = set()
    for record in manifest.markets.values():
        for file in record.files:
            if not _PATH.match(file.path) or ".." in file.path.split("/"):
                raise LakeError(f"{where}: '{foreign.shown(file.path)}' is no data file of a lake", _RESTORE)
            if file.path in known:
                raise LakeError(f"{where} names {file.path} twice", _RESTORE)
            known.add(file.path)
    for dataset, columns in manifest.schemas.items():
        for name, kind, _ in columns:
            if type_from_text(kind) is None:
                what = f"column '{foreign.shown(name)}' of {foreign.shown(dataset)} has type '{foreign.shown(kind)}'"
                raise LakeError(f"{where}: {what}", _RESTORE)


def _from_format_1(body: dict[str, Any]) -> dict[str, Any]:
    """Format 1: no schemas, no digests of files; both are optional in memory and made good by the next writer."""
    return {**body, "format": 2, "schemas": {}}


def _from_format_2(body: dict[str, Any]) -> dict[str, Any]:
    """Format 2: no seal; the next writer adds it."""
    return {**body, "format": 3}


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_format_1, 2: _from_format_2}


def encode(manifest: Manifest) -> bytes:
    """JSON with sorted keys, and its seal at the end."""
    body = msgspec.json.encode(manifest, order="deterministic")
    return body[:-1] + b',"sha256":"' + _seal(body) + b'"}'


# --------------------------------------------------------------------------------------------------------------------
# Schemas as text.

_TYPES: dict[str, pa.DataType] = {
    str(kind): kind
    for kind in (
        pa.bool_(),
        pa.int8(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.uint8(),
        pa.uint16(),
        pa.uint32(),
        pa.float64(),
        pa.string(),
        pa.binary(),
        tables.AMOUNT,
        tables.CATEGORY,
    )
}
_FIXED = re.compile(r"^(fixed_size_binary\[([0-9]{1,6})\]|list<(?:item|element): (.+)>)$")


def schema_to_text(schema: pa.Schema) -> tuple[tuple[str, str, bool], ...]:
    """(column, type, nullable) of every column; LakeError for a type that the lake does not store."""
    for field in schema:
        if type_from_text(str(field.type)) is None:
            raise LakeError(
                f"column '{field.name}' has type {field.type}",
                f"use one of {', '.join(_TYPES)}, fixed_size_binary or a list of them",
            )
    return tuple((field.name, str(field.type), bool(field.nullable)) for field in schema)


def type_from_text(text: str) -> pa.DataType | None:
    """The Arrow type that prints as ``text``, or None."""
    if text in _TYPES:
        return _TYPES[text]
    if not (match := _FIXED.match(text)):
        return None
    if match[2]:
        return pa.binary(int(match[2]))
    inner = type_from_text(match[3]) if text.count("list<") < 8 else None  # deeper ones no event has
    return None if inner is None else pa.list_(inner)


def schema_from_text(columns: Iterable[tuple[str, str, bool]]) -> pa.Schema:
    """The inverse of ``schema_to_text``."""
    return pa.schema([pa.field(name, type_from_text(kind), nullable=nullable) for name, kind, nullable in columns])


def declared_schema(dataset: str) -> pa.Schema | None:
    """The schema that ``backtest.tables`` gives a dataset, or None for decoded events (those record their own)."""
    layer, _, name = dataset.partition("/")
    if layer == "canonical":
        return tables.CANONICAL.get(name)
    if layer == "results":
        return RESULTS.get(name) or SWEEPS.get(name) or JOINTS.get(name) or STRESSES.get(name) or ENSEMBLES.get(name)
    if dataset in tables.IMPORTED:
        return tables.IMPORTED[dataset]
    if dataset.endswith("/Quarantine"):
        return tables.QUARANTINE
    return tables.RAW_STATE.get(dataset)


# --------------------------------------------------------------------------------------------------------------------
# Block ranges.


def merge(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Inclusive ranges, sorted, with touching and overlapping ones joined."""
    out: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if out and start <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        else:
            out.append((start, stop))
    return tuple(out)


def overlap(ranges: Iterable[tuple[int, int]], wanted: tuple[int, int]) -> tuple[int, int] | None:
    """The first part of ``wanted`` that ``ranges`` hold already, or None."""
    for start, stop in ranges:
        if start <= wanted[1] and wanted[0] <= stop:
            return max(start, wanted[0]), min(stop, wanted[1])
    return None
