"""Rows of any number in chain order on disk: an external sort.

Rows come as they stand in the files and go to a temporary folder in sorted pieces. Pieces whose blocks overlap are
merged once, so that afterwards every range of blocks lies in one place. Pieces are mapped into memory, not read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

PIECE_ROWS = 1 << 18
PIECE_BYTES = 256 << 20
Ints = npt.NDArray[np.int64]
Check = Callable[[pa.Table], pa.Table]
"""Looks at sorted rows of whole blocks: drops what comes twice, raises for what contradicts."""


@dataclass(frozen=True, slots=True)
class _Piece:
    path: Path
    first: int
    last: int
    rows: int


@dataclass(slots=True)
class Spool:
    """Rows with ``block_number`` and the other ``keys``, ascending in them. ``check`` sees every block once it is
    whole.
    """

    folder: Path
    keys: Sequence[str]
    check: Check
    rows: int = 0
    _waiting: list[pa.Table] = field(default_factory=list)
    _held: int = 0
    _bytes: int = 0
    _pieces: list[_Piece] = field(default_factory=list)
    _written: int = 0

    def add(self, table: pa.Table) -> None:
        """Some rows, in any order."""
        if not table.num_rows:
            return
        self._waiting.append(table)
        self._held += table.num_rows
        self._bytes += table.nbytes
        if self._held >= PIECE_ROWS or self._bytes >= PIECE_BYTES:
            self._flush(hold=True)

    def finish(self) -> None:
        """All rows are there: merge what overlaps, and look at every block."""
        self._flush()
        pieces = sorted(self._pieces, key=lambda piece: (piece.first, piece.last, piece.path.name))
        self._pieces, self.rows = [], 0
        start = 0
        while start < len(pieces):
            stop, last = start + 1, pieces[start].last
            while stop < len(pieces) and pieces[stop].first <= last:
                last = max(last, pieces[stop].last)
                stop += 1
            for low, high, tables in _together(pieces[start:stop]):
                self._write(self.check(_sorted(pa.concat_tables(tables), self.keys)), low, high)
            for piece in pieces[start:stop]:
                piece.path.unlink()
            start = stop

    def parts(self, first: int, last: int) -> Iterator[pa.Table]:
        """The rows of an inclusive range of blocks, in order, whole blocks at a time."""
        for piece in self._pieces:
            if piece.first <= last and first <= piece.last and (part := _cut(_opened(piece), first, last)).num_rows:
                yield part

    def blocks(self) -> tuple[int, int] | None:
        """The first and the last block with rows; None where there are none."""
        return (self._pieces[0].first, self._pieces[-1].last) if self._pieces else None

    def _flush(self, hold: bool = False) -> None:
        """Write what waits; ``hold``: but for its last block, of which more may come, so that pieces do not overlap."""
        if not self._waiting:
            return
        table = _sorted(pa.concat_tables(self._waiting), self.keys)
        self._waiting, self._held, self._bytes = [], 0, 0
        blocks = table["block_number"].to_numpy()
        cut = int(np.searchsorted(blocks, blocks[-1], "left")) if hold else 0
        if cut:
            self._waiting = [table.slice(cut)]
            self._held, self._bytes = table.num_rows - cut, self._waiting[0].nbytes
            table, blocks = table.slice(0, cut), blocks[:cut]
        self._write(table, int(blocks[0]), int(blocks[-1]))

    def _write(self, table: pa.Table, low: int, high: int) -> None:
        if not table.num_rows:
            return
        path = self.folder / f"{'-'.join(self.keys)}-{self._written:06d}.arrow"
        self._written += 1
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        self._pieces.append(_Piece(path, low, high, table.num_rows))
        self.rows += table.num_rows


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for spools, gone at the end of the ``with``."""
    return tempfile.TemporaryDirectory(prefix="backtest-logs-")


def _opened(piece: _Piece) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(piece.path))).read_all()


def _cut(table: pa.Table, first: int, last: int) -> pa.Table:
    blocks = table["block_number"].combine_chunks().to_numpy()
    low, high = np.searchsorted(blocks, first, "left"), np.searchsorted(blocks, last, "right")
    return table.slice(int(low), int(high - low))


def _together(pieces: Sequence[_Piece]) -> Iterator[tuple[int, int, list[pa.Table]]]:
    """Ranges of blocks of about ``PIECE_ROWS`` rows, with the rows of each piece in them."""
    opened = [_opened(piece) for piece in pieces]
    if len(pieces) == 1:
        yield pieces[0].first, pieces[0].last, opened
        return
    found = [np.unique(table["block_number"].to_numpy(), return_counts=True) for table in opened]
    blocks, place = np.unique(np.concatenate([own for own, _ in found]), return_inverse=True)
    rows = np.bincount(place, weights=np.concatenate([counts for _, counts in found])).astype(np.int64)
    ends, start = np.cumsum(rows), 0
    while start < len(blocks):
        stop = start + max(int(np.searchsorted(ends, ends[start] - rows[start] + PIECE_ROWS, "right")) - start, 1)
        low, high = int(blocks[start]), int(blocks[stop - 1])
        yield low, high, [_cut(table, low, high) for table in opened]
        start = stop


def _sorted(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    order = np.lexsort([table[key].to_numpy() for key in reversed(keys)])
    return table if (np.diff(order) > 0).all() else table.take(pa.array(order))


def same_as_next(table: pa.Table, keys: Sequence[str]) -> Ints:
    """Rows, from 0, that have the keys of the row behind them."""
    same = np.ones(max(table.num_rows - 1, 0), bool)
    for key in keys:
        values = table[key].to_numpy()
        same &= values[1:] == values[:-1]
    return np.flatnonzero(same)


def differ(table: pa.Table, rows: Ints, columns: Sequence[str]) -> Ints:
    """Those of ``rows`` that differ from the row behind them in one of the columns; a null is like any value."""
    if not len(rows):
        return rows
    here, behind = table.take(pa.array(rows)), table.take(pa.array(rows + 1))
    other = np.zeros(len(rows), bool)
    for column in columns:
        equal = pc.equal(here[column], behind[column])
        other |= ~np.asarray(pc.fill_null(equal, True))
    found: Ints = rows[other]
    return found
