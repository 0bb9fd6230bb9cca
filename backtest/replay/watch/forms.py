"""Sparse linear forms, one a row, in arrays that compiled loops read (``compiled`` says how)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from itertools import accumulate

import numpy as np

from backtest.replay.watch.compiled import Columns, Floats, Ints, with_term

Term = tuple[int, float]
"""A column and a weight, not negative."""
Form = tuple[Sequence[Term], Sequence[Term], int]
"""Collateral terms, debt terms, and the place of its base among the bases that bounds are kept in units of."""


class Forms:
    """A row is unsafe where its collateral is not above its debt.

    ``span``: rows x 3, ``base``: rows, ``column`` and ``weight``: terms; those beyond ``used`` and those of replaced
    rows mean nothing.
    """

    def __init__(self, ends: Ints, column: Columns, weight: Floats, base: Columns) -> None:
        """Rows whose terms follow each other: ``ends`` (2 x rows + 1) of collateral and of debt in turn."""
        self.span = np.stack([ends[:-1:2], ends[1::2], ends[2::2]], axis=1)
        self.column, self.weight, self.base = column, weight, base
        self.used = len(column)

    @classmethod
    def of(cls, forms: Sequence[Form]) -> Forms:
        """These forms in order."""
        ends, column, weight, base = _packed(forms)
        return cls(ends, column, weight, base)

    def __len__(self) -> int:
        return len(self.base)

    def copy(self) -> Forms:
        """Independent of this one."""
        made = copy(self)
        made.span, made.base, made.column, made.weight = (
            self.span.copy(),
            self.base.copy(),
            self.column.copy(),
            self.weight.copy(),
        )
        return made

    def put(self, rows: Sequence[int], forms: Sequence[Form]) -> None:
        """Set or replace these rows; those that come into being between have no terms."""
        if len(rows) == 1 and rows[0] < len(self.base):
            self._put_one(rows[0], *forms[0])
            return
        self.put_packed(rows, *_packed(forms))

    def put_packed(self, rows: Sequence[int], ends: Ints, column: Columns, weight: Floats, base: Columns) -> None:
        """The same, of columns: ``ends`` has where the first form begins, and for each where its held terms end, and
        its owed ones.
        """
        at = np.array(rows, dtype=np.int64)
        most = int(at.max(initial=-1)) + 1
        if most <= len(self.base) and (np.diff(self.span[at]) == np.diff(ends)[: 2 * len(at)].reshape(-1, 2)).all():
            entries = self.terms(at)[1]  # each has as many terms as before
            self.column[entries], self.weight[entries], self.base[at] = column, weight, base
            return
        if most > len(self.base):
            more = max(most, 2 * len(self.base)) - len(self.base)
            self.span = np.concatenate([self.span, np.zeros((more, 3), dtype=np.int64)])
            self.base = np.concatenate([self.base, np.zeros(more, dtype=np.int32)])
        if self.used + len(column) > len(self.column):
            self._pack(room=len(column))
        new = slice(self.used, self.used + len(column))
        self.column[new], self.weight[new] = column, weight
        ends += self.used
        self.span[at, 0], self.span[at, 1], self.span[at, 2], self.base[at] = ends[:-1:2], ends[1::2], ends[2::2], base
        self.used = new.stop

    def _put_one(self, row: int, held: Sequence[Term], owed: Sequence[Term], base: int) -> None:
        """The same of one row that is there."""
        terms = [*held, *owed]
        if self.used + len(terms) > len(self.column):
            self._pack(room=len(terms))
        place = begin = self.used
        column, weight = self.column, self.weight
        for column[place], weight[place] in terms:
            place += 1
        self.span[row] = begin, begin + len(held), place
        self.base[row], self.used = base, place

    def drop(self, row: int | Ints) -> None:
        """The row, or each of several, has no terms any more."""
        self.span[row] = 0

    def rows_with(self, columns: Sequence[int]) -> Ints:
        """Rows that have a term in any of these columns."""
        found = np.zeros(len(self.span), dtype=np.bool_)
        with_term(self.span, self.column, np.array(columns, np.int32), found)
        return np.flatnonzero(found)

    def terms(self, rows: Ints) -> tuple[Ints, Ints]:
        """Row and place of every term of these rows."""
        begin = self.span[rows, 0]
        sizes = self.span[rows, 2] - begin
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.repeat(rows, sizes), np.repeat(begin, sizes) + within

    def _pack(self, room: int) -> None:
        """Leave replaced terms out, and make room for at least as many more as are left."""
        _, entries = self.terms(np.arange(len(self.span)))
        size = len(entries)
        free = np.zeros(max(size, room, 1024))
        self.column = np.concatenate([self.column[entries], free.astype(np.int32)])
        self.weight = np.concatenate([self.weight[entries], free])
        sizes = self.span[:, 2] - self.span[:, 0]
        self.span += (np.cumsum(sizes) - sizes - self.span[:, 0])[:, None]
        self.used = size


def _packed(forms: Sequence[Form]) -> tuple[Ints, Columns, Floats, Columns]:
    sides = [side for form in forms for side in form[:2]]
    terms = [term for side in sides for term in side]
    return (
        np.array([0, *accumulate(map(len, sides))], dtype=np.int64),
        np.array([column for column, _ in terms], dtype=np.int32),
        np.array([weight for _, weight in terms], dtype=np.float64),
        np.array([base for _, _, base in forms], dtype=np.int32),
    )
