"""Blocks and their times: which pairs can be true together, and in which block a time falls. Pure.

Along a chain the times of blocks never go back, and a block has one time. Exports state both for most rows; where they
state a time only, the block lies between the two known blocks around it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

_SPACING = 12
"""Seconds from block to block, where a single known block tells nothing about it."""


def consistent(pairs: Sequence[tuple[int, int, int]]) -> set[tuple[int, int]]:
    """The heaviest set of (block, time) that can be true together: one time a block, times that never go back.

    Args:
        pairs: (block, time, weight) with distinct (block, time); the weight says how many rows state it.

    Returns: the (block, time) that stay. Of equally heavy sets it is always the same one.
    """
    nodes = sorted(pairs, key=lambda node: (node[0], node[1]))
    if all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(nodes)):
        return {(block, time) for block, time, _ in nodes}
    rank = {time: place for place, time in enumerate(sorted({time for _, time, _ in nodes}), 1)}
    heaviest: list[tuple[int, int]] = [(0, -1)] * (
        len(rank) + 1
    )  # Fenwick tree over times: (weight, last node) of the best chain up to each
    before = [-1] * len(nodes)
    start = 0
    while start < len(nodes):
        stop = start
        while stop < len(nodes) and nodes[stop][0] == nodes[start][0]:
            stop += 1
        found = []
        for place in range(
            start, stop
        ):  # all nodes of a block look before any of them is entered: a chain takes one of them
            best, at = (0, -1), rank[nodes[place][1]]
            while at > 0:
                best, at = max(best, heaviest[at]), at - (at & -at)
            before[place] = best[1]
            found.append((best[0] + nodes[place][2], place))
        for weight, place in found:
            at = rank[nodes[place][1]]
            while at < len(heaviest):
                heaviest[at], at = max(heaviest[at], (weight, place)), at + (at & -at)
        start = stop
    best, at = (0, -1), len(rank)
    while at > 0:
        best, at = max(best, heaviest[at]), at - (at & -at)
    kept, place = set(), best[1]
    while place >= 0:
        kept.add(nodes[place][:2])
        place = before[place]
    return kept


def place(times: Sequence[int], blocks: Sequence[int], known: Sequence[int]) -> list[int | None]:
    """In which block each time falls.

    The known block of exactly that time, if there is one; else a block of its own between the two known ones around it,
    at the place that its time has between theirs (outside of them by their average spacing). Distinct times get
    distinct blocks, in order.
    None: there is no block left between the known ones, or below the first. Without any known block a time is its own
        block number.

    Args:
        times: ascending and distinct, seconds.
        blocks: known blocks, ascending and distinct.
        known: their times, never going back.
    """
    if not blocks:
        return list(times)
    out: list[int | None] = []
    spacing = max(1, (known[-1] - known[0]) // max(1, blocks[-1] - blocks[0])) if len(blocks) > 1 else _SPACING
    last = -1
    early = bisect_left(times, known[0])
    for number, time in enumerate(
        times[:early]
    ):  # each at least as far below the first known block as there are times between
        block = min(blocks[0] - (known[0] - time) // spacing, blocks[0] - (early - number))
        last = max(block, last + 1)
        out.append(last if 0 <= last < blocks[0] else None)
    for time in times[early:]:
        after = bisect_left(known, time)
        if after < len(known) and known[after] == time:
            out.append(blocks[after])
            last = max(last, blocks[after])
            continue
        low = blocks[after - 1]
        if after == len(known):
            block = low + max(1, (time - known[-1]) // spacing)
        else:
            block = low + max(1, (blocks[after] - low) * (time - known[after - 1]) // (known[after] - known[after - 1]))
        block = max(block, last + 1)
        if after < len(known) and block >= blocks[after]:
            out.append(None)
        else:
            out.append(block)
            last = block
    return out
