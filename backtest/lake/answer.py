"""What a query answers, exact however it is taken: DECIMAL and HUGEINT never become floats on the way to pandas."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_PLAIN = re.compile(
    r"(?:U?(?:TINYINT|SMALLINT|INTEGER|BIGINT)|HUGEINT|FLOAT|DOUBLE|BOOLEAN|VARCHAR|BLOB|\"?NULL\"?"
    r"|DECIMAL\(\d+, ?\d+\))"
    r"(?:\[\d*\])*"
)
_ODD = re.compile(r"DATE|TIME|INTERVAL|MAP|UNION|ENUM|BIT|BIGNUM|UUID|UHUGEINT|VARIANT|GEOMETRY")


class Answer:
    """The rows of one SELECT, read when they are asked for. ``relation`` is DuckDB's own, whose ``.df()`` rounds."""

    def __init__(self, relation: duckdb.DuckDBPyRelation, cursor: duckdb.DuckDBPyConnection) -> None:
        self.relation = relation
        self._cursor = cursor

    def interrupt(self) -> None:
        """Stop the query, from another thread."""
        self._cursor.interrupt()

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.relation.columns)

    @property
    def types(self) -> list[str]:
        """DuckDB's types of the columns."""
        return [str(kind) for kind in self.relation.types]

    def df(self) -> pd.DataFrame:
        """A pandas frame. Exact columns without decimals (amounts, sums of integers) hold Python integers, with
        decimals Decimal; missing ones None.
        """
        table = self.relation.to_arrow_table()
        frame = table.to_pandas()
        for place, kind in enumerate(table.schema.types):
            if pa.types.is_decimal(kind) and kind.scale == 0:
                whole = [None if value is None else int(value) for value in table.column(place).to_pylist()]
                frame.isetitem(place, _objects(whole))
        return frame

    def to_arrow_table(self) -> pa.Table:
        """An Arrow table; amounts are decimal128(38, 0)."""
        return self.relation.to_arrow_table()

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as Python values; amounts are Decimal."""
        if not any("TIME ZONE" in kind for kind in self.types):
            return self.relation.fetchall()
        table = self.relation.to_arrow_table()  # DuckDB's own way to Python needs a package of time zones
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def limit(self, rows: int) -> Answer:
        """The first rows alone."""
        return Answer(self.relation.limit(rows), self._cursor)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The first row as Python values, or None."""
        return next(iter(self.limit(1).fetchall()), None)

    def show(self) -> None:
        """Print the first rows as DuckDB does."""
        self.relation.show()

    def printable(self) -> duckdb.DuckDBPyRelation:
        """The same rows, with every column of a type that Python or Arrow may not hold (times, intervals, maps, ...) as
        the text that DuckDB makes of it.
        """
        texts = [
            not (_PLAIN.fullmatch(kind) or (kind.startswith("STRUCT") and not _ODD.search(kind))) for kind in self.types
        ]
        if not any(texts):
            return self.relation
        names = ['"' + name.replace('"', '""') + '"' for name in self.columns]
        chosen = ", ".join(
            f"CAST(c{place} AS VARCHAR) AS {name}" if text else f"c{place} AS {name}"
            for place, (name, text) in enumerate(zip(names, texts, strict=True))
        )
        inner = ", ".join(f"c{place}" for place in range(len(names)))
        found = self.relation.query("answer", f"SELECT {chosen} FROM answer AS t({inner})")
        assert found is not None  # a SELECT
        return found

    def __repr__(self) -> str:
        return repr(self.relation)


def _objects(values: list[Any]) -> Any:
    import numpy as np

    held = np.empty(len(values), dtype=object)
    held[:] = values
    return held
