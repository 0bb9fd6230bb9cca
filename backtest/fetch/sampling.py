"""Finding when a value changed that no log tells of: bisection between samples, all searches in step. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from itertools import pairwise
from typing import TypeVar

CHANGES_BETWEEN_SAMPLES = 3
RESTLESS_GAPS = 8

Key = TypeVar("Key", bound=Hashable)
Samples = dict[int, int | None]


def refine(
    series: Mapping[Key, Samples], read: Callable[[list[tuple[Key, int]]], list[int | None]], *, known: bool = False
) -> set[Key]:
    """Fill in the samples of each series, then, wherever two neighbours differ, find the blocks of the changes between
    them.

    At most ``CHANGES_BETWEEN_SAMPLES`` changes between two samples are found; a value that changed and changed back
    between them is not seen. Keys with more than ``RESTLESS_GAPS`` gaps of more changes are left alone and returned.
    """
    if not known:
        asked = [(key, block) for key, samples in series.items() for block in sorted(samples)]
        for (key, block), value in zip(asked, read(asked), strict=True):
            series[key][block] = value
    restless: dict[Key, int] = defaultdict(int)
    forks: dict[tuple[Key, int], int] = defaultdict(int)
    work = [
        (key, low, low, high)
        for key, samples in series.items()
        for (low, old), (high, new) in neighbours(samples)
        if old != new and high - low > 1
    ]
    while work:
        middles = [(key, (low + high) // 2) for key, _, low, high in work]
        answers = read(middles)
        left = []
        for (key, gap, low, high), (_, middle), value in zip(work, middles, answers, strict=True):
            series[key][middle] = value
            halves = [(a, b) for a, b in ((low, middle), (middle, high)) if series[key][a] != series[key][b]]
            if len(halves) == 2:
                forks[key, gap] += 1
                restless[key] += forks[key, gap] == CHANGES_BETWEEN_SAMPLES
            left += [(key, gap, a, b) for a, b in halves if b - a > 1]
        work = [
            item
            for item in left
            if forks[item[0], item[1]] < CHANGES_BETWEEN_SAMPLES and restless[item[0]] <= RESTLESS_GAPS
        ]
    return {key for key, gaps in restless.items() if gaps}


def neighbours(samples: Mapping[int, int | None]) -> list[tuple[tuple[int, int | None], tuple[int, int | None]]]:
    ordered = sorted(samples.items())
    return list(pairwise(ordered))
