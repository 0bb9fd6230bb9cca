"""What verbs that read a user's CSV file share: its rows, with places for errors, and lines of text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from backtest import files, foreign
from backtest.errors import UserError, did_you_mean

LIMIT = 1 << 28
"""Bytes of a file, at most."""
csv.field_size_limit(1 << 24)  # of the whole process: as imports have it, so that no order of loading decides


class CsvRow(dict[str, str]):
    """A row of a CSV file that knows where it stands."""

    where: str

    def has(self, column: str) -> bool:
        """Whether there is such a column with something in it."""
        return bool((self.get(column) or "").strip())

    def number(self, column: str, least: float) -> float:
        """A number at or above ``least``."""
        try:
            value = float(self._exact(column))
        except foreign.Unreadable:
            value = math.nan
        if not least <= value < math.inf:
            said = foreign.shown(self.get(column) or "", 40)
            raise UserError(f"{self.where}: {column} is '{said}'", f"give a number of {least:g} or more")
        return value

    def whole(self, column: str, least: int) -> int:
        """A whole number at or above ``least`` and of at most 63 bits, exact; 5.0 is one."""
        value = self.number(column, least)
        exact = self._exact(column)
        if exact != exact.to_integral_value() or value >= 1 << 63:
            raise UserError(f"{self.where}: {column} is '{self[column]}'", "give a whole number below 2^63")
        return int(exact)

    def _exact(self, column: str) -> Decimal:
        return foreign.decimal((self.get(column) or "").strip())


def rows_of(file: Path, columns: Sequence[str]) -> Iterator[CsvRow]:
    """The rows of a CSV file that has these columns; UserError names file and line."""
    name = foreign.shown(str(file))
    try:
        text = foreign.text(files.read_bytes(file, LIMIT))
    except foreign.Unreadable as error:
        raise UserError(f"{name} is no CSV file: {error}", "export it as CSV in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="")
    try:
        there = reader.fieldnames or []
        for column in columns:
            if column not in there:
                raise UserError(
                    f"{name}: no column '{column}'", did_you_mean(column, there) if there else "the file is empty"
                )
        for values in reader:
            if "" in values and "" not in there:
                raise UserError(f"{name} line {reader.line_num}: more fields than columns", "export it as CSV again")
            row = CsvRow(values)
            row.where = f"{name} line {reader.line_num}"
            yield row
    except csv.Error as error:
        raise UserError(f"{name} is no CSV file: {error}", "export it as CSV in UTF-8") from None


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns under each other: the first to the left, the rest to the right, sentences as they are."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def listed(counts: dict[str, int]) -> str:
    """How many rows were left out, and why."""
    return ", ".join(f"{count:,} rows {why}" for why, count in counts.items() if count) or "nothing"


def days(seconds: Iterable[int]) -> str:
    """The day, or the first and the last, in UTC."""
    ends = sorted(seconds)
    try:
        first, last = (datetime.fromtimestamp(end, UTC).date().isoformat() for end in (ends[0], ends[-1]))
    except (ValueError, OverflowError, OSError):
        raise UserError(f"a time of {ends[-1]}", "give seconds since 1970") from None
    return first if first == last else f"{first} to {last}"


def period(seconds: Iterable[int | None]) -> str:
    """The days of those that are known, with a comma; nothing where none is."""
    known = [one for one in seconds if one is not None]
    return f"{days(known)}, " if known else ""
