"""Tables in and out of Parquet files: zstd, sorted in chain order, columns checked against their schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from backtest import foreign
from backtest.errors import LakeError

ORDER = ("seq", "block_number", "transaction_index", "log_index")
_ROW_GROUP = 1 << 17
_REMEDY = "run 'backtest check'; restore the file from a copy, or fetch into a new lake"


def conform(table: pa.Table, schema: pa.Schema, dataset: str) -> pa.Table:
    """The table with exactly this schema: same columns in the same order, no nulls where none may be.

    Plain text is accepted for a dictionary column; nothing else is converted. LakeError names dataset and column.
    """
    if table.schema.names != schema.names:
        wrong = sorted(set(table.schema.names) ^ set(schema.names)) or ["their order"]
        raise LakeError(
            f"{dataset}: columns differ from the schema in {', '.join(wrong)}", f"write {', '.join(schema.names)}"
        )
    columns = []
    for field, column in zip(schema, table.columns, strict=True):
        if column.type != field.type:
            if not (pa.types.is_dictionary(field.type) and _plain(column.type) == field.type.value_type):
                raise LakeError(
                    f"{dataset}: column '{field.name}' is {column.type}, not {field.type}",
                    "convert it before committing",
                )
            column = column.cast(field.type.value_type).dictionary_encode().cast(field.type)
        if not field.nullable and column.null_count:
            raise LakeError(
                f"{dataset}: column '{field.name}' has {column.null_count} nulls",
                "missing values are allowed only where the schema says so",
            )
        columns.append(column)
    return pa.table(columns, schema=schema)


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def in_chain_order(table: pa.Table) -> pa.Table:
    """Sorted by seq, or else by (block_number, transaction_index, log_index); tables without these stay as they are."""
    keys = [name for name in ORDER if name in table.schema.names]
    if "seq" in keys:
        keys = ["seq"]
    if not keys or table.num_rows < 2 or _is_sorted(table, keys):
        return table
    indices = pc.sort_indices(table, sort_keys=[(key, "ascending") for key in keys])
    return table.take(indices)


def _is_sorted(table: pa.Table, keys: Sequence[str]) -> bool:
    tied = None
    for key in keys:
        column = table.column(key).combine_chunks()
        before, after = column.slice(0, len(column) - 1), column.slice(1)
        wrong = pc.greater(before, after)
        if pc.any(wrong if tied is None else pc.and_(tied, wrong)).as_py():
            return False
        same = pc.equal(before, after)
        tied = same if tied is None else pc.and_(tied, same)
    return True


def schema_of(path: str) -> pa.Schema:
    """The columns of one file."""
    return pq.read_schema(path).remove_metadata()


def row_count(file: str | bytes) -> int:
    """The rows of a file (its path, or its bytes) by its footer; LakeError where it has none that can be read."""
    try:
        rows: int = pq.read_metadata(pa.BufferReader(file) if isinstance(file, bytes) else file).num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LakeError(_first_line(error), _REMEDY) from None
    return rows


def block_range(path: str) -> tuple[int, int] | None:
    """First and last block of a file by its statistics; None where it has none or cannot be read."""
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return None
    if "block_number" not in metadata.schema.names:
        return None
    column = metadata.schema.names.index("block_number")
    found = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    ends = [(part.min, part.max) for part in found if part is not None and part.has_min_max]
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None


def encode(table: pa.Table) -> pa.Buffer:
    """The bytes of one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP)
    return sink.getvalue()


def read(
    path: str, schema: pa.Schema, columns: Sequence[str] | None, blocks: tuple[int | None, int | None]
) -> pa.Table:
    """Rows of one file within an inclusive block range, in the types of ``schema``.

    Columns that an older version did not write are null where they may be, else a LakeError.
    """
    filters = []
    if "block_number" in schema.names:
        if blocks[0] is not None:
            filters.append(("block_number", ">=", blocks[0]))
        if blocks[1] is not None:
            filters.append(("block_number", "<=", blocks[1]))
    wanted = [schema.field(name) for name in (columns if columns is not None else schema.names)]
    try:
        held = pq.read_schema(path).names
        names = [field.name for field in wanted if field.name in held]
        table = (
            pq.read_table(path, columns=names, filters=filters, partitioning=None)
            if filters
            else pq.ParquetFile(path).read(columns=names)
        )
    except FileNotFoundError:
        raise LakeError(
            f"{path} is gone", "the lake was compacted meanwhile: refresh() and read again, or restore the file"
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LakeError(f"{path}: {_first_line(error)}", _REMEDY) from None
    filled = []
    for field in wanted:
        if field.name in held:
            filled.append(_as(field, table[field.name], path))
        elif field.nullable:
            filled.append(pa.nulls(table.num_rows, field.type))
        else:
            raise LakeError(
                f"{path} has no column '{field.name}'",
                "an older version wrote it: rebuild canonical tables, or run replays again",
            )
    return pa.table(filled, schema=pa.schema(wanted))


def _as(field: pa.Field, column: pa.ChunkedArray, path: str) -> pa.ChunkedArray:
    """A column in the type of its schema; LakeError where it is another, or null where it may not be."""
    try:
        found = column if column.type == field.type else column.cast(field.type)
    except (pa.ArrowException, ValueError) as error:
        raise LakeError(
            f"{path}: column '{field.name}' is {column.type}, not {field.type} ({_first_line(error)})", _REMEDY
        ) from None
    if not field.nullable and found.null_count:
        raise LakeError(f"{path}: column '{field.name}' has {found.null_count} nulls, where none may be", _REMEDY)
    return found


def _first_line(error: Exception) -> str:
    return foreign.shown(str(error).strip().split("\n")[0] or type(error).__name__)
