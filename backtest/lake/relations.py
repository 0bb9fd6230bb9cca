"""The tables of a lake as DuckDB sees them: schemas ``lake``, ``raw``, ``canonical`` and ``results`` over the committed
files.

Files are listed one by one from the manifest; a dataset without files is an empty relation of the right types, so that
every view of ``queries/`` exists in every lake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from backtest import tables
from backtest.lake import queries, superseded
from backtest.result_tables import ENSEMBLES, JOINTS, RESULTS, STRESSES, SWEEPS

if TYPE_CHECKING:
    from backtest.lake import Lake


SCHEMAS = ("lake", "raw", "canonical", "results")


class Relation(NamedTuple):
    """A view or macro: its name, without a schema, what makes it, and whether it is called, with arguments."""

    name: str
    statement: str
    called: bool = False


def _view(schema: str, name: str, select: str) -> Relation:
    return Relation(name, f"CREATE OR REPLACE VIEW {schema}.{name} AS {select}")


def relations(lake: Lake) -> Iterator[Relation]:
    """All that the lake's tables, views and macros are in a database that has the schemas, each after what it reads."""
    yield from _manifest_views(lake)
    for name, schema in tables.CANONICAL.items():
        yield _view("canonical", name, _select(lake, f"canonical/{name}", schema))
    for name, schema in {**RESULTS, **SWEEPS, **JOINTS, **STRESSES, **ENSEMBLES}.items():
        yield _view("results", name, _select(lake, f"results/{name}", schema))
    quarantined = []
    logs = []
    raw = {name for name in lake.datasets() if name.startswith("raw/")}
    for dataset in sorted({*lake.manifest.schemas, *tables.RAW_STATE, *tables.IMPORTED, *raw}):
        if dataset.endswith("/Quarantine") and dataset not in tables.IMPORTED:
            quarantined.append(dataset)
        else:
            if dataset not in tables.RAW_STATE and dataset not in tables.IMPORTED:
                logs.append(dataset)
            yield _view("raw", raw_name(dataset), _select(lake, dataset, lake.schema(dataset)))
    parts = [_select(lake, dataset, tables.QUARANTINE) for dataset in quarantined] or [
        _empty(tables.QUARANTINE, with_market=True)
    ]
    yield _view("raw", "quarantine", " UNION ALL ".join(parts))
    keys = ", ".join(field.name for field in tables.RAW_KEY)
    places = [
        f"SELECT market, {quoted(dataset)} AS dataset, {keys} FROM ({_select(lake, dataset, lake.schema(dataset))})"
        for dataset in [*logs, *quarantined]
    ]
    nothing = f"SELECT market, '' AS dataset, {keys} FROM ({_empty(tables.QUARANTINE, with_market=True)})"
    yield _view("raw", "logs", " UNION ALL ".join(places) or nothing)
    protocols = {record.config.protocol for record in lake.manifest.markets.values() if record.config is not None}
    for query in queries.load(protocols=protocols):
        if query.folder != "checks":
            yield Relation(query.name, query.statement, bool(query.parameters))


def raw_name(dataset: str) -> str:
    """The name of a raw dataset in schema ``raw``: raw/chain/Header is raw.chain_Header."""
    return re.sub(r"[^A-Za-z0-9]", "_", dataset.removeprefix("raw/"))


def _select(lake: Lake, dataset: str, schema: pa.Schema) -> str:
    """Rows of one dataset over all markets; files that do not name their market get a column that does.

    Declared tables may have been written by an older version: columns that it did not know are null.
    """
    named = "market" in schema.names
    parts = []
    every: list[str] = []
    for market in lake.markets():
        paths = [quoted(file.path) for file in lake.files(dataset, market)]
        if not paths:
            continue
        if named:
            every += paths
        else:
            parts.append(f"SELECT {quoted(market)} AS market, * FROM read_parquet([{', '.join(paths)}])")
    if every:
        return (
            f"{_empty(schema, with_market=False)} UNION ALL BY NAME SELECT * FROM read_parquet([{', '.join(every)}],"
            " union_by_name = true)"
        )
    return " UNION ALL ".join(parts) or _empty(schema, with_market=not named)


def _empty(schema: pa.Schema, *, with_market: bool) -> str:
    columns = [("market", "VARCHAR")] if with_market else []
    columns += [(field.name, duckdb_type(field.type)) for field in schema]
    nothing = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in columns)
    return f"SELECT {nothing} WHERE false"


def duckdb_type(kind: Any) -> str:
    """The DuckDB type in which a Parquet column of this Arrow type arrives."""
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return "VARCHAR"
    if pa.types.is_list(kind):
        return f"{duckdb_type(kind.value_type)}[]"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    return _PLAIN[str(kind)]


_PLAIN = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "float": "FLOAT",
    "double": "DOUBLE",
}


def _manifest_views(lake: Lake) -> Iterator[Relation]:
    markets = []
    coverage = []
    gone = []
    for name, record in lake.manifest.markets.items():
        config = record.config
        if config is not None:
            more = 0 if config.price_decimals is None else config.price_decimals - config.base_decimals
            place = (name, config.protocol, config.chain_id, config.start_block)
            markets.append((*place, config.base_currency, config.base_decimals, more, config.description))
        coverage += [
            (name, source, start, stop) for source, ranges in record.coverage.items() for start, stop in ranges
        ]
        gone += superseded.rows(lake, name)
    files = [
        (f.market, f.dataset, f.from_block, f.to_block, f.rows, f.bytes, f.sha256, f.stamp) for f in lake.files(None)
    ]
    yield _values("markets", _MARKETS, markets)
    yield _values("coverage", _COVERAGE, coverage)
    yield _values("files", _FILES, files)
    yield _values("superseded", _SUPERSEDED, gone)


_MARKETS = {
    "market": "VARCHAR",
    "protocol": "VARCHAR",
    "chain_id": "BIGINT",
    "start_block": "BIGINT",
    "base_currency": "VARCHAR",
    "base_decimals": "INTEGER",
    "price_digits": "INTEGER",
    "description": "VARCHAR",
}
_COVERAGE = {"market": "VARCHAR", "source": "VARCHAR", "from_block": "BIGINT", "to_block": "BIGINT"}
_SUPERSEDED = {"market": "VARCHAR", "lake_digest": "VARCHAR", "superseded": "VARCHAR"}
_FILES = {
    "market": "VARCHAR",
    "dataset": "VARCHAR",
    "from_block": "BIGINT",
    "to_block": "BIGINT",
    "rows": "BIGINT",
    "bytes": "BIGINT",
    "sha256": "VARCHAR",
    "stamp": "VARCHAR",
}


def _values(name: str, columns: dict[str, str], rows: list[tuple[Any, ...]]) -> Relation:
    """A view of constants (not a table: nothing in the database can be written)."""
    cast = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in columns.items())
    lines = rows or [(None,) * len(columns)]
    body = ", ".join(f"({', '.join(literal(value) for value in row)})" for row in lines)
    where = "" if rows else " WHERE false"
    return _view("lake", name, f"SELECT {cast} FROM (VALUES {body}) AS t({', '.join(columns)}){where}")


def literal(value: Any) -> str:
    """A constant of SQL: text, integer or NULL."""
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else quoted(str(value))


def quoted(text: str) -> str:
    """A text constant of SQL."""
    return "'" + text.replace("'", "''") + "'"
