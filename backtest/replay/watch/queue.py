"""When each row is looked up next, as compiled code keeps it: for each tick of a chunk the rows that are due in it, as
a list through arrays, so that a row comes, moves and goes in no time.

``due`` (rows): the tick, or ``NEVER``; ``head`` (ticks): the first row of each; ``after`` and ``before`` (rows): its
neighbours, -1 for none.
"""

from __future__ import annotations

import numpy as np

from backtest.replay.watch.compiled import Ints
from backtest.words.digits import compiled

NEVER = -1


@compiled
def remove(row: int, due: Ints, head: Ints, after: Ints, before: Ints) -> None:
    """The row is due at no tick any more."""
    if due[row] != NEVER:
        if before[row] >= 0:
            after[before[row]] = after[row]
        else:
            head[due[row]] = after[row]
        if after[row] >= 0:
            before[after[row]] = before[row]
        due[row] = NEVER


@compiled
def put(row: int, tick: int, due: Ints, head: Ints, after: Ints, before: Ints) -> None:
    """The row is due at this tick of the chunk, and at no other; at none where that is behind the chunk."""
    remove(row, due, head, after, before)
    if tick < len(head):
        due[row] = tick
        after[row], before[row] = head[tick], -1
        if head[tick] >= 0:
            before[head[tick]] = row
        head[tick] = row


@compiled
def put_all(rows: Ints, ticks: Ints, due: Ints, head: Ints, after: Ints, before: Ints) -> None:
    """The same of many."""
    for place in range(len(rows)):
        put(rows[place], ticks[place], due, head, after, before)


@compiled
def remove_all(rows: Ints, due: Ints, head: Ints, after: Ints, before: Ints) -> None:
    """The same of many."""
    for place in range(len(rows)):
        remove(rows[place], due, head, after, before)


@compiled
def due_in(first: int, last: int, head: Ints, after: Ints) -> Ints:
    """The rows that are due in these ticks (both inclusive)."""
    count = 0
    for tick in range(first, last + 1):
        row = head[tick]
        while row >= 0:
            count += 1
            row = after[row]
    found = np.empty(count, np.int64)
    count = 0
    for tick in range(first, last + 1):
        row = head[tick]
        while row >= 0:
            found[count] = row
            count += 1
            row = after[row]
    return found


@compiled
def first_due(tick: int, head: Ints) -> int:
    """The first tick from this one on in which a row is due; the end of the chunk where none is."""
    while tick < len(head) and head[tick] < 0:
        tick += 1
    return tick
