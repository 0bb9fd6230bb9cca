"""What the data say of a market's prices: joint returns on a grid of time, with gas and depth of the same moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from backtest.errors import UserError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MOVING = 1.1
"""An asset whose price was so many times as high at its highest as at its lowest is one that moves."""
FEWEST = 200
"""Rows that a model is fitted to, at least."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Joint history on a grid.

    Attributes:
        assets: labels, by column.
        step: seconds from one row to the next.
        end: time of the last row, seconds.
        returns: rows x assets, log returns without gaps.
        known: by asset, whether its price is known all along; another one stands still in ``returns``.
        gas, depth: by row, as a multiple of the median of all rows; None where the data do not say it.
    """

    assets: tuple[str, ...]
    step: int
    end: int
    returns: Floats
    known: Bools
    gas: Floats | None = None
    depth: Floats | None = None

    def __len__(self) -> int:
        return len(self.returns)

    @property
    def moving(self) -> Bools:
        """By asset, whether it moves (``MOVING``)."""
        level = np.cumsum(self.returns, axis=0)
        return np.asarray(level.max(axis=0, initial=0.0) - level.min(axis=0, initial=0.0) > np.log(MOVING))

    def required(self) -> Panel:
        """The same; UserError where it is too short to fit a model to."""
        if len(self) < FEWEST:
            raise UserError(
                f"{len(self)} steps of prices are too few for a model of them ({FEWEST} at least)",
                "take a later block, a shorter step, or cases that need no history",
            )
        return self


def panel_of(
    prices: Mapping[str, tuple[Ints, Floats]],
    *,
    step: int,
    end: int,
    rows: int,
    gas: tuple[Ints, Floats] | None = None,
    depth: Sequence[tuple[Ints, Floats]] = (),
) -> Panel:
    """From prices at times (seconds, increasing): the last one at or before each point of the grid, which ends at
    ``end`` and has ``rows`` steps at most, fewer where every asset's history is shorter. Prices are above zero, NaN
    where there is none. ``depth``: of each pool, in units of its own; the panel's is the mean of their multiples.
    """
    first = min((int(times[0]) for times, _ in prices.values() if len(times)), default=end)
    rows = max(0, min(rows, (end - first) // step))
    grid = end - step * np.arange(rows, -1, -1, dtype=np.int64)
    level = np.column_stack([_last(each, grid) for each in prices.values()]) if prices else np.empty((rows + 1, 0))
    known: Bools = np.asarray(np.isfinite(level).all(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(level)
    returns = np.where(known, np.diff(logs, axis=0), 0.0)
    found = Panel(tuple(prices), step, end, returns, known)
    deep = [own for each in depth if (own := _multiple(each, grid[1:])) is not None]
    return replace(found, gas=_multiple(gas, grid[1:]), depth=np.mean(np.stack(deep), axis=0) if deep else None)


def _last(of: tuple[Ints, Floats], grid: Ints) -> Floats:
    times, values = of
    place = np.searchsorted(times, grid, side="right") - 1
    padded = np.append(values, np.nan)  # before the first: none
    found: Floats = padded[place]
    return found


def _multiple(of: tuple[Ints, Floats] | None, grid: Ints) -> Floats | None:
    """As a multiple of the median; None where a row has none."""
    if of is None or not len(of[0]) or not len(grid):
        return None
    found = _last(of, grid)
    middle = float(np.median(found))
    return found / middle if np.isfinite(found).all() and middle > 0 else None


def columns(panel: Panel, wanted: Sequence[str]) -> list[int]:
    """Places of the assets that a list names: labels, ``moving`` (``MOVING``), ``steady`` (all others) or ``all``;
    what the market does not have is left out.
    """
    moves = panel.moving
    found = []
    for place, label in enumerate(panel.assets):
        groups = {"all", "moving" if moves[place] else "steady", label}
        if groups & set(wanted):
            found.append(place)
    return found
