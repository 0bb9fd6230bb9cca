"""Columns of exports to exact arrays, by columns: hex of any prefix and case, bytes, whole numbers, times, topics.

What is not plainly what it should be is ``Wrong``, with the row (from 0, within the batch) and what is the matter.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtest.foreign import shown
from backtest.imports.numbers import seconds

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

MOST = (1 << 62) - 1
_X, _UPPER_X, _ZERO, _BACKSLASH = (ord(sign) for sign in "xX0\\")


class Wrong(ValueError):
    """A value is not what its column should hold. ``row``: from 0."""

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row = row


def plain(column: Any) -> Any:
    """One array: no chunks, no dictionary, no views."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if pa.types.is_dictionary(kind):
        return plain(column.dictionary_decode())
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return column.cast(pa.large_binary())
    return column


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _first(mask: Mask) -> int:
    return int(np.flatnonzero(mask)[0])


def _at(column: Any, row: int) -> Any:
    """A value of a column; text that is not UTF-8 with marks in its place."""
    try:
        return column[row].as_py()
    except UnicodeDecodeError:
        raw: bytes = column.slice(row, 1).cast(pa.large_binary())[0].as_py()
        return raw.decode("utf-8", "replace")


def _said(column: Any, row: int) -> str:
    value = _at(column, row)
    text = f"0x{value.hex()}" if isinstance(value, bytes) else str(value)
    return f"'{shown(text, 80)}'"


# -- numbers and times -------------------------------------------------------------------------------------------------


def integers(column: Any, field: str) -> Ints:
    """Whole numbers that are not negative, as integers, decimals, floats that hold them exactly, or text (digits, or
    0x hex).
    """
    column = plain(column)
    kind = column.type
    if column.null_count:
        raise Wrong(_first(np.asarray(column.is_null())), f"{field} is missing")
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        raise Wrong(0, f"{field} {_said(column, 0)} is not a whole number")
    if _is_bytes(kind):  # quantities as HyperSync keeps them: big-endian, without zeros before
        return _quantities(column, field)
    try:
        if _is_text(kind):
            made = pc.utf8_trim_whitespace(column).cast(pa.int64())
        elif pa.types.is_floating(kind):
            made = column.cast(pa.int64(), safe=True)
            exact = np.abs(np.asarray(made)) < (
                1 << (24 if kind.bit_width == 32 else 53 if kind.bit_width == 64 else 11)
            )
            if not exact.all():
                raise Wrong(_first(~exact), f"{field} {_said(column, _first(~exact))} is a float too large to be exact")
        else:
            made = column.cast(pa.int64(), safe=True)
    except (pa.ArrowException, ValueError) as error:
        if isinstance(error, Wrong):
            raise
        row = next((row for row in range(len(column)) if not _is_whole(_at(column, row))), 0)
        raise Wrong(row, f"{field} {_said(column, row)} is not a whole number") from None
    values: Ints = np.asarray(made).astype(np.int64)
    wrong = (values < 0) | (values > MOST)
    if wrong.any():
        raise Wrong(_first(wrong), f"{field} {_said(column, _first(wrong))} is out of range")
    return values


def _quantities(column: Any, field: str) -> Ints:
    numbers = [int.from_bytes(value, "big") for value in column.to_pylist()]
    late = next((row for row, number in enumerate(numbers) if number > MOST), None)
    if late is not None:
        raise Wrong(late, f"{field} {_said(column, late)} is out of range")
    return np.array(numbers, np.int64)


def _is_whole(value: object) -> bool:
    if isinstance(value, str):
        text = value.strip()
        return text.isascii() and (text.isdigit() or (text[:2].lower() == "0x" and _hex(text[2:])))
    return isinstance(value, int | float | Decimal) and value == value // 1


def _hex(text: str) -> bool:
    return bool(text) and not set(text) - set("0123456789abcdefABCDEF")


def amounts(column: Any, field: str) -> Any:
    """Whole numbers or null, as DECIMAL(38, 0): base fees."""
    column = plain(column)
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.decimal128(38, 0))
    valid = column.is_valid()
    held = integers(column.filter(valid), field)
    out = np.zeros(len(column), np.int64)
    out[np.asarray(valid)] = held
    return pc.if_else(valid, pa.array(out).cast(pa.decimal128(38, 0)), pa.scalar(None, pa.decimal128(38, 0)))


def times(column: Any, field: str) -> Ints:
    """Seconds since 1970; -1 where there is none. Times without a zone are UTC, as blockchain tables have them."""
    column = plain(column)
    kind = column.type
    out = np.full(len(column), -1, np.int64)
    valid = np.asarray(column.is_valid())
    held = column.drop_null()
    if not len(held):
        return out
    if pa.types.is_timestamp(kind):
        units = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        ticks = np.asarray(held.cast(pa.int64()))
        if (ticks % units).any():
            row = int(np.flatnonzero(valid)[_first(ticks % units != 0)])
            raise Wrong(row, f"{field} {_said(column, row)} is not a full second")
        found = ticks // units
    elif _is_text(kind):
        coded = held.dictionary_encode()
        known = np.array(
            [_seconds(_at(coded.dictionary, number), column, field) for number in range(len(coded.dictionary))],
            np.int64,
        )
        found = known[np.asarray(coded.indices)]
    else:
        found = integers(held, field)
    late = (found <= 0) | (found >= 10**11)
    if late.any():
        row = int(np.flatnonzero(valid)[_first(late)])
        raise Wrong(row, f"{field} {_said(column, row)} is no time in seconds since 1970")
    out[valid] = found
    return out


def _seconds(text: str, column: Any, field: str) -> int:
    from zoneinfo import ZoneInfo

    try:
        if text[:2] in ("0x", "0X") and _hex(text[2:]) and len(text) <= 18:
            return min(int(text, 16), MOST)
        return seconds(text.strip(), ZoneInfo("UTC"))
    except ValueError as error:
        raise Wrong(
            max(pc.index(column, text).as_py(), 0), f"{field} {error}".replace(" in mapping.toml", "")
        ) from None


def flags(column: Any, field: str) -> Mask:
    """Whether a log was retracted; a missing value says that it was not."""
    column = plain(column)
    if pa.types.is_boolean(column.type):
        return np.asarray(column.fill_null(False))
    texts = pc.utf8_lower(column.cast(pa.string())).fill_null("false")
    yes = np.asarray(pc.is_in(texts, pa.array(["true", "t", "1"])))
    known = yes | np.asarray(pc.is_in(texts, pa.array(["false", "f", "0", ""])))
    if not known.all():
        raise Wrong(_first(~known), f"{field} {_said(column, _first(~known))} is neither true nor false")
    return yes


# -- bytes -------------------------------------------------------------------------------------------------------------


def fixed(column: Any, width: int, field: str) -> tuple[Bytes, Mask]:
    """((rows, width) bytes, which rows have any): bytes, or hex in any case with ``0x``, ``0X`` or ``\\x`` before it or
    bare. A row without any is zeros; so is an empty one.
    """
    column = plain(column)
    if not (_is_bytes(column.type) or _is_text(column.type)):
        if column.null_count == len(column):
            return np.zeros((len(column), width), np.uint8), np.zeros(len(column), bool)
        raise Wrong(0, f"{field} is a column of {column.type}, not of hex or bytes")
    offsets, data = _unpacked(column, field)
    sizes = np.diff(offsets)
    held: Mask = sizes > 0
    wrong = held & (sizes != width)
    if wrong.any():
        row = _first(wrong)
        raise Wrong(row, f"{field} {_said(column, row)} is not {width} bytes")
    if held.all():
        return data.reshape(len(column), width), held
    out = np.zeros((len(column), width), np.uint8)
    out[held] = data.reshape(-1, width)
    return out, held


def data_of(column: Any, field: str) -> Any:
    """Bytes of any length, as large_binary; a null is empty."""
    column = plain(column)
    if column.null_count == len(column):
        return pa.array([b""] * len(column), pa.large_binary())
    if not (_is_bytes(column.type) or _is_text(column.type)):
        raise Wrong(0, f"{field} is a column of {column.type}, not of hex or bytes")
    offsets, data = _unpacked(column, field)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(column), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    )


def _unpacked(column: Any, field: str) -> tuple[Ints, Bytes]:
    """(offsets from 0, the bytes of all rows behind each other)."""
    if pa.types.is_fixed_size_binary(column.type):
        column = column.cast(pa.binary())
    empty = b"" if _is_bytes(column.type) else ""
    offsets, chars = _buffers(column.fill_null(empty) if column.null_count else column)
    return (offsets, chars) if _is_bytes(column.type) else _from_hex(offsets, chars, column, field)


def _buffers(column: Any) -> tuple[Ints, Bytes]:
    """Offsets from 0, and the bytes, of an array of text or bytes without nulls."""
    wide = pa.types.is_large_binary(column.type) or pa.types.is_large_string(column.type)
    _, places, data = column.buffers()
    count = len(column)
    if places is None or count == 0:
        return np.zeros(count + 1, np.int64), np.empty(0, np.uint8)
    raw = np.frombuffer(places, np.int64 if wide else np.int32)[column.offset : column.offset + count + 1]
    offsets: Ints = raw.astype(np.int64)
    held = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return offsets - offsets[0], held[offsets[0] : offsets[-1]]


def _from_hex(offsets: Ints, chars: Bytes, column: Any, field: str) -> tuple[Ints, Bytes]:
    sizes = np.diff(offsets)
    marked = _marked(offsets, chars)
    if (sizes[marked] >= 2).all() and marked.all() and len(sizes) and (sizes == sizes[0]).all():
        digits = chars.reshape(len(sizes), int(sizes[0]))[:, 2:].reshape(-1)
        left = sizes - 2
    elif marked.any():
        keep = np.ones(len(chars), bool)
        starts = offsets[:-1][marked]
        keep[starts] = keep[starts + 1] = False
        digits = chars[keep]
        left = sizes - 2 * marked
    else:
        digits, left = chars, sizes
    odd = left % 2 == 1
    if odd.any():
        row = _first(odd)
        raise Wrong(row, f"{field} {_said(column, row)} is not hex: it has an odd number of digits")
    try:
        data = unhexlify(digits.tobytes())
    except ValueError:
        row = next((row for row in range(len(column)) if not _is_hex(_at(column, row))), 0)
        raise Wrong(row, f"{field} {_said(column, row)} is not hex") from None
    made = np.zeros(len(offsets), np.int64)
    np.cumsum(left // 2, out=made[1:])
    return made, np.frombuffer(data, np.uint8)


def _marked(offsets: Ints, chars: Bytes) -> Mask:
    """Which rows begin with ``0x``, ``0X`` or ``\\x``."""
    long = np.diff(offsets) >= 2
    starts = np.where(long, offsets[:-1], 0)
    if not len(chars):
        return long
    first, second = chars[starts], chars[np.minimum(starts + 1, len(chars) - 1)]
    marked: Mask = (first == _ZERO) & ((second == _X) | (second == _UPPER_X)) | (first == _BACKSLASH) & (second == _X)
    return long & marked


def _is_hex(text: str | None) -> bool:
    body = text or ""
    body = body[2:] if body[:2] in ("0x", "0X", "\\x") else body
    return not body or _hex(body)


# -- topics ------------------------------------------------------------------------------------------------------------


def topics_of(columns: Sequence[Any], field: str) -> tuple[list[Bytes], npt.NDArray[np.int8]]:
    """(the four topics as (rows, 32) bytes, zeros where there is none; how many each row has), from four columns or
    from one that holds all: a list, or text of them with commas between.
    """
    if len(columns) == 1:
        return _together(plain(columns[0]), field)
    made, count = [], np.zeros(len(columns[0]), np.int8)
    before = np.ones(len(columns[0]), bool)
    for place, column in enumerate(columns):
        words, held = fixed(column, 32, f"topic {place}")
        if (held & ~before).any():
            row = _first(held & ~before)
            raise Wrong(row, f"topic {place} is there and topic {place - 1} is not")
        made.append(words)
        count += held
        before = held
    return made, count


def _together(column: Any, field: str) -> tuple[list[Bytes], npt.NDArray[np.int8]]:
    kind = column.type
    if column.null_count == len(column):
        return [np.zeros((len(column), 32), np.uint8) for _ in range(4)], np.zeros(len(column), np.int8)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _listed(column, field)
    if _is_text(kind):
        return _written(column, field)
    raise Wrong(0, f"{field} is a column of {kind}, not of lists or text")


def _placed(words: Bytes, counts: Ints, field: str) -> tuple[list[Bytes], npt.NDArray[np.int8]]:
    """Words behind each other, and how many each row has, as four columns."""
    if len(counts) and counts.max() > 4:
        raise Wrong(_first(counts > 4), f"{field} holds {int(counts.max())} topics: a log has four at most")
    starts = np.cumsum(counts) - counts
    out = []
    for place in range(4):
        has = counts > place
        topic = np.zeros((len(counts), 32), np.uint8)
        topic[has] = words[starts[has] + place]
        out.append(topic)
    return out, counts.astype(np.int8)


def _listed(column: Any, field: str) -> tuple[list[Bytes], npt.NDArray[np.int8]]:
    counts = np.asarray(pc.list_value_length(column).fill_null(0)).astype(np.int64)
    flat = plain(column.flatten())
    if pa.types.is_struct(flat.type) and flat.type.num_fields == 1:  # list, element, as some writers nest them
        flat = plain(flat.field(0))
    owner = np.repeat(np.arange(len(counts)), counts)
    try:
        words, held = fixed(flat, 32, field)
    except Wrong as wrong:
        raise Wrong(int(owner[wrong.row]) if len(owner) else 0, str(wrong)) from None
    if not held.all():  # a table of four columns made into a list has nulls at its end
        words, owner = words[held], owner[held]
        counts = np.bincount(owner, minlength=len(counts)).astype(np.int64)
    return _placed(words, counts, field)


_WORD = 66
"""Signs of one topic as text: 0x and 64 digits."""


def _written(column: Any, field: str) -> tuple[list[Bytes], npt.NDArray[np.int8]]:
    """Topics as text: with commas between, as JSON, or as other languages write lists."""
    texts = column.fill_null("") if column.null_count else column
    found = _joined(texts)
    if found is None:
        bare = pc.replace_substring_regex(texts, r"[\[\]{}()\"'\s]", "")
        bare = pc.replace_substring_regex(pc.replace_substring(bare, "\\x", "0x"), "^null$", "")
        found = _joined(bare)
        if found is None:
            well = pc.match_substring_regex(bare, r"^(0[xX][0-9a-fA-F]{64}(,0[xX][0-9a-fA-F]{64})*)?$")
            row = _first(~np.asarray(well)) if not pc.all(well).as_py() else 0
            raise Wrong(
                row, f"{field} {_said(column, row)} is no list of topics: 0x and 64 digits each, commas between"
            )
    digits, counts = found
    try:
        words = np.frombuffer(unhexlify(digits.tobytes()), np.uint8).reshape(-1, 32)
    except ValueError:
        row = next(row for row in range(len(column)) if not _is_hex((_at(column, row) or "").replace(",0x", "")))
        raise Wrong(row, f"{field} {_said(column, row)} is not hex") from None
    return _placed(words, counts, field)


def _joined(texts: Any) -> tuple[Bytes, Ints] | None:
    """(hex digits of all topics behind each other, how many each row has) of ``0x...,0x...``; None where a row is
    written otherwise.
    """
    offsets, chars = _buffers(texts)
    sizes = np.diff(offsets)
    counts: Ints = (sizes + 1) // (_WORD + 1)
    if ((sizes + 1) % (_WORD + 1) != 0)[sizes > 0].any():
        return None
    counts[sizes == 0] = 0
    # With a comma behind each row as well, every topic is one piece of 67 signs.
    whole = np.full(int(counts.sum()) * (_WORD + 1), ord(","), np.uint8)
    ends = np.zeros(len(whole), bool)
    ends[np.cumsum(counts)[counts > 0] * (_WORD + 1) - 1] = True
    whole[~ends] = chars
    pieces = whole.reshape(-1, _WORD + 1)
    plain_ones = (
        (pieces[:, 0] == _ZERO) & ((pieces[:, 1] == _X) | (pieces[:, 1] == _UPPER_X)) & (pieces[:, -1] == ord(","))
    )
    return (pieces[:, 2:_WORD].reshape(-1), counts) if plain_ones.all() else None
