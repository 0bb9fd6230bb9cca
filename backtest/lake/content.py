"""A digest of rows that does not depend on how they are cut into files, or on their order.

Each row becomes a fixed number of bytes (columns in schema order, each with a null byte; text, binary and lists by
their SHA-256), and the content digest is the sum of the SHA-256 of all rows modulo 2^256: the digest of a dataset is
the sum over its files, and merging files leaves it as it was. Rows that occur twice count twice.
Such additive hashes are known as AdHash (Bellare and Micciancio, 1997).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MODULUS = 2**256
Bytes = npt.NDArray[np.uint8]


def content_digest(table: pa.Table) -> str:
    """The digest of all rows, 64 hex digits. About a million rows a second."""
    total = 0
    for batch in table.to_batches(max_chunksize=1 << 17):
        if batch.num_rows:
            total += _sum_of_hashes(_row_bytes(batch))
    return f"{total % MODULUS:064x}"


def add(digests: Iterable[str]) -> str:
    """The digest of the rows of several parts together."""
    return f"{sum(int(digest, 16) for digest in digests) % MODULUS:064x}"


def _sum_of_hashes(rows: Bytes) -> int:
    width = rows.shape[1]
    view = memoryview(rows.tobytes())
    sha256 = hashlib.sha256
    joined = b"".join([sha256(view[start : start + width]).digest() for start in range(0, len(view), width)])
    lanes = np.frombuffer(joined, dtype=">u4").reshape(-1, 8).sum(axis=0, dtype=np.uint64)
    return sum(int(lane) << (32 * (7 - place)) for place, lane in enumerate(lanes))


def _row_bytes(batch: pa.RecordBatch) -> Bytes:
    parts: list[Bytes] = []
    for column in batch.columns:
        parts.append(np.asarray(column.is_null(), dtype=np.uint8).reshape(-1, 1))
        parts.append(_column_bytes(column))
    return np.hstack(parts)


def _column_bytes(column: Any) -> Bytes:
    """(rows, width) bytes of one column; the bytes of a null are zero."""
    kind = column.type
    count = len(column)
    if pa.types.is_dictionary(kind):
        return _by_value(column.dictionary.to_pylist(), column.indices)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        encoded = column.dictionary_encode()
        return _by_value(encoded.dictionary.to_pylist(), encoded.indices)
    if pa.types.is_list(kind):
        return np.frombuffer(b"".join(_hash_value(value) for value in column.to_pylist()), dtype=np.uint8).reshape(
            count, 32
        )
    if pa.types.is_boolean(kind):
        return np.asarray(column.fill_null(False).cast(pa.uint8()).to_numpy(), dtype=np.uint8).reshape(count, 1)
    width = kind.bit_width // 8
    data = np.frombuffer(column.buffers()[1], dtype=np.uint8)[
        column.offset * width : (column.offset + count) * width
    ].reshape(count, width)
    if column.null_count:
        data = data * np.asarray(column.is_valid(), dtype=np.uint8).reshape(-1, 1)
    return data


def _by_value(values: list[Any], indices: pa.Array) -> Bytes:
    table = np.frombuffer(b"".join(_hash_value(value) for value in values) + bytes(32), dtype=np.uint8).reshape(-1, 32)
    return table[np.asarray(indices.fill_null(len(values)), dtype=np.int64)]


def _hash_value(value: Any) -> bytes:
    if value is None:
        return bytes(32)
    if isinstance(value, list):
        return hashlib.sha256(b"".join(_hash_value(item) for item in value) + b"list").digest()
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).digest()
