"""Which combinations of levels a sweep replays. A point is the place of one level on each axis.

Drawn designs cut the unit interval of each axis into as many equal parts as the axis has levels, so that bounds are
levels like any other and
whole numbers stay whole: nothing is rounded. The same sweep draws the same points: generators are seeded (PCG64;
scipy's qmc).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from backtest.errors import ScenarioError
from backtest.sweep.spec import MOST, Sweep

Point = tuple[int, ...]


def points_of(sweep: Sweep) -> list[Point]:
    """The points in order, each once. ScenarioError where there are too many."""
    sizes = [len(axis.levels) for axis in sweep.axes]
    if sweep.points is None:
        _bounded(math.prod(sizes))
        return list(itertools.product(*map(range, sizes)))
    _bounded(sweep.points)
    draws = np.random.Generator(np.random.PCG64(sweep.seed))
    if sweep.design == "random":
        unit = draws.random((sweep.points, len(sizes)))
    else:
        from scipy.stats import qmc

        made = (
            qmc.Sobol(len(sizes), scramble=True, rng=draws)
            if sweep.design == "sobol"
            else qmc.LatinHypercube(len(sizes), rng=draws)
        )
        unit = made.random(sweep.points)
    drawn = [
        tuple(min(int(share * size), size - 1) for share, size in zip(row, sizes, strict=True)) for row in unit.tolist()
    ]
    return list(dict.fromkeys(drawn))


def _bounded(count: int) -> None:
    if count > MOST:
        raise ScenarioError(
            f"{count:,} points", f"at most {MOST:,}: take fewer levels, larger steps, or draw points (design = 'sobol')"
        )
