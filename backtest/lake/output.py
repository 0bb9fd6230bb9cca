"""Query results as text or Parquet. Amounts keep every digit; bytes are 0x and hex digits; null is empty (JSON:
null).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from backtest.lake.sql import Session

FORMATS = ("table", "csv", "json", "parquet")
SHOWN_ROWS = 200
_BATCH = 10_000


def write(session: Session, query: str, form: str, stream: IO[bytes], *, width: int | None = None) -> int:
    """Run a query and write its rows; returns how many.

    Args:
        form: one of ``FORMATS``. ``table`` is for reading and stops after ``SHOWN_ROWS`` rows, saying so. ``json`` is
            one object a line, amounts above 2^53 as text, since most readers of JSON round numbers.
        width: columns of the terminal for ``table``; None for as wide as it takes.

    Raises:
        LakeError: the query, in one line.
        KeyboardInterrupt: Ctrl-C, also while DuckDB is at work.
    """
    import duckdb

    relation = session.sql(query)
    try:
        if form == "table":
            return _table(relation, stream, width)
        with relation.to_arrow_reader(_BATCH) as reader:
            return {"csv": _csv, "json": _json, "parquet": _parquet}[form](reader, stream)
    except (duckdb.Error, pa.ArrowException) as error:
        raise session.explain(error) from None
    except RuntimeError as error:
        # What DuckDB makes of Ctrl-C while a query runs.
        if "interrupted" not in str(error):
            raise
        raise KeyboardInterrupt from None


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return json.dumps(_plain(value))
    return str(value)


def _plain(value: Any) -> Any:
    """A value as JSON takes it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        whole = int(value) if value == value.to_integral_value() else None
        return whole if whole is not None and abs(whole) <= 2**53 else f"{value:f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, bool | str) else _text(value)


def _csv(reader: pa.RecordBatchReader, stream: IO[bytes]) -> int:
    count = 0
    lines = _Lines(stream)
    out = csv.writer(lines, lineterminator="\n")
    out.writerow(reader.schema.names)
    for batch in reader:
        out.writerows([_text(value) for value in row] for row in _rows(batch))
        count += batch.num_rows
    return count


def _json(reader: pa.RecordBatchReader, stream: IO[bytes]) -> int:
    count = 0
    for batch in reader:
        for row in _rows(batch):
            stream.write(json.dumps(dict(zip(reader.schema.names, map(_plain, row), strict=True))).encode() + b"\n")
        count += batch.num_rows
    return count


def _parquet(reader: pa.RecordBatchReader, stream: IO[bytes]) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(pa.PythonFile(stream, mode="w"), reader.schema, compression="zstd") as out:
        for batch in reader:
            out.write_batch(batch)
            count += batch.num_rows
    return count


def _table(relation: Any, stream: IO[bytes], width: int | None) -> int:
    from rich.console import Console
    from rich.table import Table

    names = relation.columns
    if names == ["explain_key", "explain_value"]:
        for _, plan in relation.fetchall():
            stream.write(plan.encode() + b"\n")
        return 1
    rows = relation.limit(SHOWN_ROWS + 1).fetchall()
    numeric = [str(kind).split("(")[0] in _NUMERIC for kind in relation.types]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, right in zip(names, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows[:SHOWN_ROWS]:
        table.add_row(*(_text(value) for value in row))
    text = io.StringIO()
    Console(file=text, width=width or 10_000, highlight=False, markup=False).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    if len(rows) > SHOWN_ROWS:
        lines.append(f"... more than {SHOWN_ROWS} rows: add a LIMIT or use another format")
    stream.write(("\n".join(lines) + "\n").encode())
    return min(len(rows), SHOWN_ROWS)


_NUMERIC = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL"})


class _Lines:
    """Text into a binary stream, as csv wants it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text.encode())
        return len(text)
