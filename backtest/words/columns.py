"""A rule over whole columns: ``over`` gives what it says of every row, and of which rows it can say it.

Columns are words (rows x 4, the low digit first, two's complement), 64-bit integers, or one for all rows: an ``int``,
or a column of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from backtest.words import LARGEST

Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Column = Words | npt.NDArray[np.int64] | int

DIGITS = 4
_BYTES = 8 * DIGITS
NO_WORD = -LARGEST - 1
_2, _62, _LOW, _TOP = np.uint64(2), np.uint64(62), np.uint64((1 << 62) - 1), np.uint64(1 << 60)


def words(numbers: Iterable[int]) -> Words:
    """A column of integers; those that are no words stand as ``NO_WORD``, so that no row of theirs is exact."""
    numbers = list(numbers)
    try:
        joined = b"".join([number.to_bytes(_BYTES, "little", signed=True) for number in numbers])
    except OverflowError:
        return words([number if -LARGEST <= number <= LARGEST else NO_WORD for number in numbers])
    return np.frombuffer(joined, np.uint64).reshape(-1, DIGITS)


def numbers(column: Words) -> list[int]:
    """The integers of a column."""
    data = np.ascontiguousarray(column).tobytes()
    return [int.from_bytes(data[at : at + _BYTES], "little", signed=True) for at in range(0, len(data), _BYTES)]


def widened(column: npt.NDArray[np.int64]) -> Words:
    """64-bit integers as words."""
    found = np.empty((len(column), DIGITS), np.uint64)
    found[:, 0] = column.view(np.uint64)
    found[:, 1:] = (column >> 63).view(np.uint64)[:, None]
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule says of every row: a column for each number it returns, in order (``bool`` as 0 and 1).

    ``exact``: where it says it; elsewhere (a number that is no word, a division by zero) the row is the plain rule's.
    """

    columns: Words
    exact: Mask

    def wide(self, place: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Mask]:
        """One of the columns as its low 62 bits and what is above, and where it is exact, not negative and below
        2**124.
        """
        low, high = self.columns[place, :, 0], self.columns[place, :, 1]
        fits = self.exact & (high < _TOP) & ~self.columns[place, :, 2:].any(axis=1)
        return (low & _LOW).view(np.int64), ((high << _2) | (low >> _62)).view(np.int64), fits


def over(rule: Callable[..., Any], *columns: Column, rows: int) -> Found:
    """The rule over rows; an argument a column."""
    from backtest.words.loops import loop_of  # numba, which takes a second to be there

    results, loop = loop_of(rule)
    found, exact = np.empty((results, rows, DIGITS), np.uint64), np.zeros(rows, np.bool_)
    taken = [_words_of(column, rows) for column in columns]
    places = tuple((made.__array_interface__["data"][0], 0 if len(made) == 1 else made.strides[0]) for made in taken)
    loop(places, rows, found.__array_interface__["data"][0], exact.__array_interface__["data"][0])
    return Found(found, exact)


def _words_of(column: Column, rows: int) -> Words:
    if isinstance(column, int):
        return words([column])
    if len(column) != rows and len(column) != 1:
        raise ValueError(f"a column has {len(column)} rows, not {rows}")
    if column.dtype != np.uint64:
        return widened(cast("npt.NDArray[np.int64]", column))
    if column.shape[1:] != (DIGITS,):
        raise ValueError(f"a column of words has {DIGITS} digits a row, not {column.shape[1:]}")
    return np.ascontiguousarray(cast(Words, column))
