"""Arithmetic of inclusive block ranges, and how many blocks to ask for at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Range = tuple[int, int]


def gaps(wanted: Range, covered: Iterable[Range]) -> list[Range]:
    """The parts of ``wanted`` that no range of ``covered`` holds, ascending."""
    start, stop = wanted
    missing = []
    for low, high in sorted(covered):
        if high < start:
            continue
        if low > stop:
            break
        if low > start:
            missing.append((start, low - 1))
        start = max(start, high + 1)
    if start <= stop:
        missing.append((start, stop))
    return missing


def length(ranges: Iterable[Range]) -> int:
    """Blocks in disjoint ranges."""
    return sum(high - low + 1 for low, high in ranges)


def halves(items: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Two parts of a list of at least two."""
    middle = len(items) // 2
    return items[:middle], items[middle:]


class Width:
    """How many blocks to ask for at once: halved or set as the node says on refusal, doubled while replies stay small.

    A firm limit (a number of blocks the node names) is kept for good; any other refusal sets a ceiling at three
    quarters of what was refused, which is lifted after ``PATIENCE`` answers, since the density of logs changes along a
    chain.
    """

    PATIENCE = 64

    def __init__(self, start: int = 2_000, most: int = 1_000_000, rows: int = 10_000) -> None:
        self.blocks = start
        self._most = most
        self._ceiling = most
        self._rows = rows
        self._answers = 0

    def answered(self, blocks: int, rows: int) -> None:
        """``blocks`` were answered with ``rows`` logs."""
        self._answers += 1
        if self._answers % self.PATIENCE == 0:
            self._ceiling = min(self._ceiling * 2, self._most)
        if rows > 2 * self._rows:
            self.blocks = max(1, min(self.blocks, blocks * self._rows // rows))
        elif blocks >= self.blocks and rows <= self._rows // 2:
            self.blocks = max(1, min(self.blocks * 2, self._ceiling))

    def refused(self, blocks: int, suggested: int | None = None, firm: bool = False) -> None:
        """``blocks`` were refused; the node said it would answer ``suggested``."""
        self._answers = 0
        if suggested is not None and suggested == blocks:
            suggested = blocks - 1  # "Max range: 800" may count from zero
        smaller = suggested if suggested is not None and 0 < suggested < blocks else blocks // 2
        if firm and suggested is not None and suggested < blocks:
            self._most = min(self._most, max(1, suggested))
        self._ceiling = max(1, smaller, min(self._ceiling, self._most, blocks * 3 // 4))
        self.blocks = max(1, min(self.blocks, smaller, self._ceiling))
