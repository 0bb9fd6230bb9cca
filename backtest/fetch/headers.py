"""Headers: what the lake knows of them, which of them to store, and the branch of the chain that they pin down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtest.errors import FetchError
from backtest.fetch.rpc import Header, Rpc
from backtest.foreign import shown
from backtest.lake import Lake, Writer
from backtest.tables import RAW_STATE

DATASET = "raw/chain/Header"
_TIP = "tip"


def header_table(headers: Sequence[Header]) -> pa.Table:
    """Rows of ``raw/chain/Header``, ascending; FetchError naming the block of a malformed one."""
    rows = []
    for header in sorted(headers, key=lambda h: int(h.number, 16)):
        try:
            base_fee = None if header.base_fee_per_gas is None else int(header.base_fee_per_gas, 16)
            hash_, parent = bytes.fromhex(header.hash[2:]), bytes.fromhex(header.parent_hash[2:])
            rows.append((int(header.number, 16), hash_, parent, int(header.timestamp, 16), base_fee))
            if len(hash_) != 32 or len(parent) != 32:
                raise ValueError
        except ValueError:
            raise FetchError(f"the node's header of block {header.number} is malformed", "use another node") from None
    schema = RAW_STATE[DATASET]
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _words(table: pa.Table, name: str) -> npt.NDArray[np.uint8]:
    """A column of 32-byte words as (rows, 32) bytes."""
    return np.frombuffer(b"".join(table.column(name).to_pylist()), np.uint8).reshape(-1, 32)


class HeaderBook:
    """Number, hash, parent and time of every header in the lake. Many threads may read while one adds."""

    def __init__(self, lake: Lake, market: str) -> None:
        self._held: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]] = (
            np.empty(0, np.int64),
            np.empty((0, 32), np.uint8),
        )
        self._parents: npt.NDArray[np.uint8] = np.empty((0, 32), np.uint8)
        self._times: npt.NDArray[np.int64] = np.empty(0, np.int64)
        if market in lake.markets() and DATASET in lake.datasets(market):
            self.add(lake.read(DATASET, market, columns=["block_number", "block_hash", "parent_hash", "timestamp"]))

    def add(self, table: pa.Table) -> None:
        """Add rows that are not in the book yet."""
        if not table.num_rows:
            return
        numbers = table.column("block_number").to_numpy()
        numbers = np.concatenate([self._held[0], numbers])
        hashes = np.concatenate([self._held[1], _words(table, "block_hash")])
        order = np.argsort(numbers, kind="stable")
        self._parents = np.concatenate([self._parents, _words(table, "parent_hash")])[order]
        self._times = np.concatenate([self._times, table.column("timestamp").to_numpy()])[order]
        self._held = numbers[order], hashes[order]

    def check_links(self, table: pa.Table) -> None:
        """Hold new rows against each other and against the book: a header names the hash of the one before it, and
        times never go back.

        Raises:
            FetchError: two headers of neighbouring blocks do not fit together, or time goes back between two.
        """
        if not table.num_rows:
            return
        numbers = np.concatenate([self._held[0], table.column("block_number").to_numpy()])
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        hashes, parents = (
            np.concatenate([held, _words(table, name)])[order]
            for held, name in ((self._held[1], "block_hash"), (self._parents, "parent_hash"))
        )
        times = np.concatenate([self._times, table.column("timestamp").to_numpy()])[order]
        loose = (numbers[1:] == numbers[:-1] + 1) & (parents[1:] != hashes[:-1]).any(axis=1)
        for row in np.flatnonzero(loose | (times[1:] < times[:-1]))[:1].tolist():
            low, high = int(numbers[row]), int(numbers[row + 1])
            why = "does not name the hash of the one before it" if loose[row] else "has an earlier time than it"
            raise FetchError(
                f"the headers of blocks {low} and {high} contradict each other: that of {high} {why}",
                f"use another node; if the lake holds a false one: backtest fetch ... --again {low}..{high}",
            )

    def hashes(self, blocks: Iterable[int]) -> dict[int, str]:
        """0x hash of those of ``blocks`` that are in the book."""
        numbers, hashes = self._held
        wanted = np.unique(np.fromiter(blocks, np.int64))
        at = np.searchsorted(numbers, wanted)
        inside = at < len(numbers)
        found = (
            inside & (numbers[np.minimum(at, max(len(numbers) - 1, 0))] == wanted)
            if len(numbers)
            else np.zeros(len(wanted), bool)
        )
        return {
            int(block): "0x" + hashes[row].tobytes().hex() for block, row in zip(wanted[found], at[found], strict=True)
        }

    def new(self, headers: Iterable[Header]) -> list[Header]:
        """Those that are not in the book, each once."""
        by_number = {int(header.number, 16): header for header in headers}
        known = self.hashes(by_number)
        return [header for number, header in sorted(by_number.items()) if number not in known]


def forget_tip(lake: Lake, writer: Writer, market: str, first: int, last: int) -> None:
    """Let go of a tip within an inclusive range that is fetched again: its hash may be what was wrong."""
    tip = lake.provenance(market).get(_TIP, "")
    if tip and first <= int(tip.split()[0]) <= last:
        writer.set_provenance(market, {_TIP: ""})


class Tip:
    """The newest block whose hash vouches for everything stored: each commit notes its last block here, and every later
    commit and run first looks whether the node still has it. A hash fixes all blocks before it, so one is enough.
    """

    def __init__(self, lake: Lake, writer: Writer, rpc: Rpc, market: str) -> None:
        self._writer, self._rpc, self._market = writer, rpc, market
        stored = lake.provenance(market).get(_TIP, "") if market in lake.markets() else ""
        self._held: tuple[int, str] | None = (int(stored.split()[0]), stored.split()[1]) if stored else None

    def check(self) -> None:
        """FetchError if the node's chain no longer has the tip."""
        if self._held is None:
            return
        number, hash_ = self._held
        header = self._rpc.header(number)
        if header is None:
            raise FetchError(
                f"{self._rpc.name} does not have block {number}, up to which the lake is filled",
                "use a node that is in sync",
            )
        if header.hash != hash_:
            raise FetchError(
                f"block {number} has hash {shown(header.hash, 80)} now, it was {hash_} when the lake was filled: the"
                " chain was reorganised",
                "fetch into a new lake, with --finality finalized or more confirmations",
            )

    def move(self, number: int, hash_: str) -> None:
        """Note a newer tip; to be called before the rows are committed, so that no stored row is without one."""
        if self._held is None or number > self._held[0]:
            self._held = number, hash_
            self._writer.set_provenance(self._market, {_TIP: f"{number} {hash_}"})
