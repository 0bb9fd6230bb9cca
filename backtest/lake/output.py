"""Query results as text or Parquet. Amounts keep every digit; bytes are 0x and hex digits; null is empty (JSON:
null).
"""

from __future__ import annotations

import csv
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from backtest import foreign
from backtest.errors import LakeError

if TYPE_CHECKING:
    from backtest.lake.sql import Session

FORMATS = ("table", "csv", "json", "parquet")
SHOWN_ROWS = 200
_BATCH = 10_000


def write(
    session: Session,
    query: str,
    form: str,
    stream: IO[bytes],
    *,
    width: int | None = None,
    timeout: float | None = None,
) -> int:
    """Run a query and write its rows; returns how many.

    Args:
        form: one of ``FORMATS``. ``table`` is for reading and stops after ``SHOWN_ROWS`` rows, saying so. ``json`` is
            one object a line, amounts above 2^53 as text, since most readers of JSON round numbers.
        width: columns of the terminal for ``table``; None for as wide as it takes.
        timeout: seconds after which the query is stopped; None for never. One call of a function is not cut short.

    Raises:
        LakeError: the query, in one line; it ran out of time or memory.
        KeyboardInterrupt: Ctrl-C, also while DuckDB is at work.
    """
    import duckdb

    answer = session.sql(query)
    late = threading.Event()

    def stop() -> None:
        late.set()
        answer.interrupt()

    timer = None if timeout is None else threading.Timer(timeout, stop)
    try:
        if timer is not None:
            timer.daemon = True
            timer.start()
        relation = answer.relation if form == "parquet" else answer.printable()
        if form == "table":
            return _table(relation, answer.types, stream, width)
        with relation.to_arrow_reader(_BATCH) as reader:
            return {"csv": _csv, "json": _json, "parquet": _parquet}[form](reader, stream)
    except MemoryError:
        raise LakeError("the query needs more memory than it may use", "raise --memory, or ask for less") from None
    except (duckdb.Error, pa.ArrowException, RuntimeError) as error:
        if late.is_set():
            raise LakeError(f"the query was stopped after {timeout:g} s", "ask for less, or raise --timeout") from None
        # What DuckDB makes of Ctrl-C while a query runs.
        if isinstance(error, RuntimeError) and "interrupted" in str(error):
            raise KeyboardInterrupt from None
        if not isinstance(error, duckdb.Error | pa.ArrowException):
            raise
        raise session.explain(error) from None
    finally:
        if timer is not None:
            timer.cancel()


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


def _cell(value: Any) -> str:
    """Text for a terminal: control sequences, which symbols and names may hold, are shown and not obeyed."""
    text = _text(value)
    return "\n".join(foreign.shown(line, len(line)) for line in text.split("\n"))


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
    twice = [name for name, times in Counter(reader.schema.names).items() if times > 1]
    if twice:
        shown = foreign.shown(twice[0])
        raise LakeError(f"two columns are named '{shown}', and an object of JSON has one", "name them apart with AS")
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


def _table(relation: Any, types: Sequence[str], stream: IO[bytes], width: int | None) -> int:
    from rich.console import Console
    from rich.table import Table

    names = relation.columns
    if names == ["explain_key", "explain_value"]:
        for _, plan in relation.fetchall():
            stream.write("\n".join(foreign.shown(line, len(line)) for line in plan.splitlines()).encode() + b"\n")
        return 1
    rows = relation.limit(SHOWN_ROWS + 1).fetchall()
    numeric = [kind.split("(")[0] in _NUMERIC for kind in types]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, right in zip(names, numeric, strict=True):
        table.add_column(foreign.shown(name), justify="right" if right else "left", overflow="fold")
    for row in rows[:SHOWN_ROWS]:
        table.add_row(*(_cell(value) for value in row))
    text = io.StringIO()
    Console(file=text, width=width or 10_000, highlight=False, markup=False).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    if len(rows) > SHOWN_ROWS:
        lines.append(f"... more than {SHOWN_ROWS} rows: add a LIMIT or use another format")
    stream.write(("\n".join(lines) + "\n").encode())
    return min(len(rows), SHOWN_ROWS)


_NUMERIC = frozenset(
    {
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL",
    }
)


class _Lines:
    """Text into a binary stream, as csv wants it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text.encode())
        return len(text)
