"""Raw logs as columns: numbers of assets and accounts, amounts as words, and the columns of canonical tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import RulesError
from backtest.protocols.aave.addresses import Addresses, Keys, Numbers, Quads
from backtest.protocols.interface import RawEvents
from backtest.tables import ADDRESS, AMOUNT
from backtest.words.columns import Words

Shorts = npt.NDArray[np.int16]

INCOMPLETE = (
    "fetch the market from its first log on; its description's start_block or provider may be wrong (a changed one"
    " needs a new lake)"
)
"""What to do about a history that lacks what must come first."""


def address_text(raw: bytes) -> str:
    """20 bytes as lower-case 0x text."""
    return "0x" + raw.hex()


def rows(raw: RawEvents, event: str) -> list[dict[str, Any]]:
    """All rows of a dataset with few of them."""
    found: list[dict[str, Any]] = raw.table(event).to_pylist()
    return found


def address_set(addresses: list[str]) -> pa.Array:
    """Addresses as 20-byte values, in order: position is the number that stands for each."""
    return pa.array([bytes.fromhex(address[2:]) for address in addresses], ADDRESS)


def words(table: pa.Table, column: str) -> Words:
    """A DECIMAL(38, 0) column as rows of (low, high) 64-bit words."""
    array = _whole(table[column])
    found = np.frombuffer(array.buffers()[1], np.uint64)
    return found[2 * array.offset : 2 * (array.offset + len(array))].reshape(-1, 2)


def amounts(values: Words) -> pa.Array:
    """Rows of (low, high) words, two's complement, as DECIMAL(38, 0)."""
    return pa.Array.from_buffers(AMOUNT, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def integers(table: pa.Table, column: str) -> Keys:
    """An integer column without nulls as int64."""
    found: Keys = table[column].to_numpy().astype(np.int64, copy=False)
    return found


def numbers_of(table: pa.Table, column: str, known: pa.Array, what: str) -> Shorts:
    """Addresses as their position in ``known``; RulesError names one that is not in it."""
    found = pc.index_in(_whole(table[column]), value_set=known)
    if found.null_count:
        row = pc.index(pc.is_null(found), True).as_py()
        address, block = address_text(table[column][row].as_py()), table["block_number"][row].as_py()
        raise RulesError(f"block {block}: {address} is not a {what} of this market", INCOMPLETE)
    numbers: Shorts = found.to_numpy().astype(np.int16)
    return numbers


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], column.type)
    )


def number_accounts(parts: list[dict[str, Any]], accounts: Addresses) -> tuple[Numbers, Numbers]:
    """Both account columns of all parts, -1 where an event has none. Numbered by log, within a log the first column
    first.
    """
    named = [
        (part, place, words) for part in parts for place, words in enumerate(part["accounts"]) if words is not None
    ]
    if not named:
        return (np.full(sum(len(part["seq"]) for part in parts), -1, np.int32),) * 2
    order = np.argsort(np.concatenate([2 * part["seq"] + place for part, place, _ in named]), kind="stable")
    ids = accounts.number(np.concatenate([words for _, _, words in named]), order)
    found = iter(np.split(ids, np.cumsum([len(words) for _, _, words in named])[:-1]))
    columns: list[list[Numbers]] = [[], []]
    for part in parts:
        for place, words in enumerate(part["accounts"]):
            columns[place].append(np.full(len(part["seq"]), -1, np.int32) if words is None else next(found))
    return np.concatenate(columns[0]), np.concatenate(columns[1])


def address_words(table: pa.Table, column: str) -> Quads:
    array = _whole(table[column])
    words: Quads = np.frombuffer(array.buffers()[1], np.uint32)[
        5 * array.offset : 5 * (array.offset + len(array))
    ].reshape(-1, 5)
    return words


def category(names: tuple[str, ...], codes: npt.NDArray[Any]) -> pa.Array:
    """Codes as dictionary text, the dictionary always whole so that equal rows are equal files."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names))


def event_columns(market: str, seq: Keys, block: Keys, log: npt.NDArray[Any], time: Keys) -> dict[str, pa.Array]:
    """The columns that every canonical event table starts with."""
    return {
        "market": category((market,), np.zeros(len(seq))),
        "seq": pa.array(seq),
        "block_number": pa.array(block),
        "log_index": pa.array(log.astype(np.int32)),
        "timestamp": pa.array(time),
    }
