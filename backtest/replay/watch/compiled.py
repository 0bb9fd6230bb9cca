"""Compiled loops over linear forms; ``tests/support/plain_screen.py`` is the readable twin of each. They may run
while other threads do.

A form is a row of sparse terms, each a column and a weight (not negative): ``span[i]`` says where its collateral begins
and ends, and where its debt, which follows, ends. It is safe where the collateral's sum is above the debt's; a missing
value (NaN) makes it unsafe. Functions that call each other stay in this one file, as numba's cache asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Columns = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]

SHIFT = 3
"""Eight nodes of a level make one of the next."""
ROUNDING = 1.0 + 1e-12
"""A bound holds by this factor: sums of up to a thousand non-negative terms, and quotients by a base, err by less."""

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function as machine code, kept on disk. Division by zero gives infinity or NaN, as in NumPy."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def borrowing(function: F) -> F:
    """The same of a function that reads and writes elements of arrays alone: references to arrays are not counted."""
    njit: Any = numba.njit
    return cast(F, njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function))


@borrowing
def _sum(first: int, stop: int, column: Columns, weight: Floats, values: Floats) -> float:
    total = 0.0
    for entry in range(first, stop):
        total += weight[entry] * values[column[entry]]
    return total


@borrowing
def first_unsafe(
    rows: Ints, start: Ints, stop: Ints, span: Ints, column: Columns, weight: Floats, base: Columns,
    values: Floats, unit_of: Columns, low: Floats, high: Floats, offset: Ints, found: Ints,
) -> int:  # fmt: skip
    """For each of ``rows`` the first tick in [start, stop) at which it is not safe, or ``stop``, into ``found``; how
    many forms were evaluated.

    ``values``: ticks x columns. ``low``, ``high``: units x nodes x columns, bounds of all ticks under a node, in a
    unit; the nodes of level l (from 1) begin at ``offset[l - 1]``, and ``offset[-1]`` is their number. A row is bounded
    in ``unit_of[base[row]]``.
    """
    looks = 0
    top = len(offset) - 1
    for place in range(len(rows)):
        row = rows[place]
        begin, middle, end = span[row]
        unit = unit_of[base[row]]
        tick, last = start[place], stop[place]
        level = 0
        while tick < last:
            while level < top and tick & ((1 << SHIFT * (level + 1)) - 1) == 0:
                level += 1
            looks += 1
            while level > 0:
                node = offset[level - 1] + (tick >> SHIFT * level)
                if _sum(begin, middle, column, weight, low[unit, node]) > ROUNDING * _sum(
                    middle, end, column, weight, high[unit, node]
                ):
                    break
                level -= 1
                looks += 1
            if level == 0 and not _sum(begin, middle, column, weight, values[tick]) > _sum(
                middle, end, column, weight, values[tick]
            ):
                break
            tick = ((tick >> SHIFT * level) + 1) << SHIFT * level
        found[place] = min(tick, last)
    return looks


@compiled
def bounds(values: Floats, units: Columns, offset: Ints, low: Floats, high: Floats) -> None:
    """Fill ``low`` and ``high`` (see ``first_unsafe``); a unit is a column of ``values``. NaN where anything below is
    missing.
    """
    ticks, columns = values.shape
    span = 1 << SHIFT
    for unit in range(len(units)):
        for node in range(offset[1] if len(offset) > 1 else 0):
            for column in range(columns):
                low[unit, node, column], high[unit, node, column] = np.inf, 0.0
            for tick in range(node * span, min((node + 1) * span, ticks)):
                one = 1.0 / values[tick, units[unit]]
                for column in range(columns):
                    value = values[tick, column] * one
                    # a comparison with NaN is false: once missing, a node stays missing
                    if not value >= low[unit, node, column]:
                        low[unit, node, column] = (
                            value if low[unit, node, column] == low[unit, node, column] else np.nan
                        )
                    if not value <= high[unit, node, column]:
                        high[unit, node, column] = (
                            value if high[unit, node, column] == high[unit, node, column] else np.nan
                        )
        for level in range(1, len(offset) - 1):
            below, here = offset[level - 1], offset[level]
            for node in range(offset[level + 1] - here):
                for column in range(columns):
                    least, most = np.inf, 0.0
                    for child in range(below + node * span, min(below + (node + 1) * span, here)):
                        if not low[unit, child, column] >= least:
                            least = low[unit, child, column] if least == least else np.nan
                        if not high[unit, child, column] <= most:
                            most = high[unit, child, column] if most == most else np.nan
                    low[unit, here + node, column], high[unit, here + node, column] = least, most


@compiled
def slacks(rows: Ints, span: Ints, column: Columns, weight: Floats, values: Floats, found: Floats) -> None:
    """By which share all collateral may fall and all debt rise at once until each of ``rows`` is unsafe, into
    ``found``.

    ``values``: one a column. NaN where one of them is missing; 0 for a form that is worth nothing.
    """
    for place in range(len(rows)):
        begin, middle, end = span[rows[place]]
        plus = _sum(begin, middle, column, weight, values)
        minus = ROUNDING * _sum(middle, end, column, weight, values)
        found[place] = (plus - minus) / (plus + minus) if plus + minus != 0.0 else 0.0


@compiled
def with_term(span: Ints, column: Columns, wanted: Columns, found: Flags) -> None:
    """Which rows have a term in any of the wanted columns: into ``found`` (rows)."""
    for row in range(len(span)):
        for entry in range(span[row, 0], span[row, 2]):
            for one in wanted:
                found[row] |= column[entry] == one


@compiled
def moved(values: Floats, bases: Columns, used: Flags, limit: Floats, reference: Floats, due: Flags) -> None:
    """At which levels, in units of which bases, a value has moved by more than the level's limit: into ``due`` (levels
    x bases).

    ``reference`` (levels x bases x columns) holds the values at the last time; where something is due it becomes the
    values now. ``used`` (bases x columns): values that any row with this base depends on.
    """
    for unit in range(len(bases)):
        one = 1.0 / values[bases[unit]]
        for level in range(len(limit)):
            far = False
            for column in range(len(values)):
                if used[unit, column]:
                    now, then = values[column] * one, reference[level, unit, column]
                    near = abs(now - then) <= limit[level] * then or (now != now and then != then)
                    far = far or not near
            due[level, unit] = far
            if far:
                for column in range(len(values)):
                    reference[level, unit, column] = values[column] * one


@compiled
def net(
    account: Columns, slot: Columns, words: Ints, free: Flags, stops: Ints, slots: int, kept: Flags, total: Ints
) -> bool:
    """Sums of 128-bit integers between stops: the last row of each account and slot before each stop is ``kept``, with
    the sum of all since the one kept before it in ``total``. False as soon as a running sum is negative.

    Rows are in time's order; ``stops`` are rows, increasing, the last one behind all. Rows that are not ``free`` stay
    as they are. ``slot``: what
    of the account, below ``slots``. ``words`` and ``total``: rows x (low, high), two's complement.
    """
    accounts = account.max() + 1 if len(account) else 0
    begin = np.zeros(accounts + 1, dtype=np.int64)
    for row in range(len(account)):
        if free[row]:
            begin[account[row] + 1] += 1
    for one in range(accounts):
        begin[one + 1] += begin[one]
    place = begin[:-1].copy()
    order = np.empty(begin[-1], dtype=np.int32)
    for row in range(len(account)):
        if free[row]:
            order[place[account[row]]] = row
            place[account[row]] += 1
    # of each slot: whose it is now, its row that was last, the running sum up to it, and that of the row kept before it
    whose = np.full(slots, -1, dtype=np.int64)
    last = np.empty(slots, dtype=np.int64)
    low, high = np.empty(slots, dtype=np.uint64), np.empty(slots, dtype=np.int64)
    low_before, high_before = np.empty(slots, dtype=np.uint64), np.empty(slots, dtype=np.int64)
    used = np.empty(slots, dtype=np.int64)
    for one in range(accounts):
        stop, count = 0, 0
        for at in range(begin[one], begin[one + 1] + 1):
            ends = at == begin[one + 1]
            row = len(account) if ends else order[at]
            if ends or row >= stops[stop]:
                for which in range(count):
                    of = used[which]
                    if last[of] >= 0:
                        kept[last[of]] = True
                        total[last[of], 0] = np.int64(low[of] - low_before[of])
                        borrowed = np.int64(1) if low[of] < low_before[of] else np.int64(0)
                        total[last[of], 1] = high[of] - high_before[of] - borrowed
                        low_before[of], high_before[of], last[of] = low[of], high[of], -1
                while not ends and row >= stops[stop]:
                    stop += 1
            if ends:
                break
            of = slot[row]
            if whose[of] != one:
                whose[of], used[count] = one, of
                count += 1
                low[of], high[of], low_before[of], high_before[of] = np.uint64(0), 0, np.uint64(0), 0
            added = np.uint64(words[row, 0])
            low[of] = low[of] + added
            high[of] += words[row, 1] + (np.int64(1) if low[of] < added else np.int64(0))
            if high[of] < 0:
                return False
            last[of] = row
    return True
