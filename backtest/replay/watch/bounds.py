"""The pruning screen: the first tick at which each account may be unsafe, where all values are known in advance.

Over the ticks stands a pyramid of least and greatest values. Where an account is safe with the least value of each of
its collaterals and the greatest of each of its debts in a stretch of ticks, it is safe in all of it; the search
descends only where that bound fails and climbs again
when it stands at the start of a longer stretch. Bounds are in units of a base, the leader of the group of assets that
the account owes: a loop of a staked token against its base then moves by their ratio, not by their common price in
dollars.

What may be bounded is whatever the columns hold: prices, prices with interest, prices with a threshold that changes. An
account whose weights change is several rows, each for the ticks in which its weights hold, or is asked about again from
the change on.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from backtest.replay.watch.compiled import SHIFT, Columns, Floats, Ints, bounds, first_unsafe
from backtest.replay.watch.forms import Forms


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Values (ticks x columns, not negative, NaN where missing) and their bounds; see ``kernels.first_unsafe`` for the
    layout.
    """

    values: Floats
    unit_of: Columns
    low: Floats
    high: Floats
    offset: Ints

    @classmethod
    def over(cls, values: Floats, bases: Sequence[int]) -> Pyramid:
        """Build the bounds: a pass over the values for each unit. ``bases``: for each base of a form the column that is
        its unit.
        """
        sizes = [len(values)]
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] >> SHIFT))
        offset = np.array([0, *accumulate(sizes[1:])], dtype=np.int64)
        units, unit_of = np.unique(np.array(bases, dtype=np.int32), return_inverse=True)
        low = np.empty((len(units), int(offset[-1]), values.shape[1]))
        high = np.empty_like(low)
        bounds(values, units, offset, low, high)
        return cls(values, unit_of.astype(np.int32), low, high, offset)

    def first_unsafe(self, forms: Forms, rows: Ints, start: Ints, stop: Ints, *, threads: int = 1) -> tuple[Ints, int]:
        """For each of ``rows`` of ``forms`` the first tick in [start, stop) at which it may be unsafe (``stop`` if
        there is none), and how
        many forms were evaluated: bounds and ticks together."""
        found = np.empty(len(rows), dtype=np.int64)
        parts = [slice(k * len(rows) // threads, (k + 1) * len(rows) // threads) for k in range(threads)]

        def search(part: slice) -> int:
            return first_unsafe(
                rows[part], start[part], stop[part], forms.span, forms.column, forms.weight, forms.base,
                self.values, self.unit_of, self.low, self.high, self.offset, found[part],
            )  # fmt: skip

        if threads == 1:
            return found, search(parts[0])
        with ThreadPoolExecutor(threads) as pool:
            return found, sum(pool.map(search, parts))


def groups(prices: Floats, *, samples: int = 1024) -> list[int]:
    """The leader of each asset's group of correlated assets: an asset, or -1 where its price in the base currency
    itself is the steadiest.

    ``prices`` is ticks x assets. An asset joins the first leader against which its price moves less than half as much
    as against the base currency, and leads a group of its own where there is none; one that hardly moves at all, or is
    never priced, is grouped with the base currency.
    """
    ticks, count = prices.shape
    few = prices[:: max(1, ticks // samples)]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(few)
    motion = [_motion(logs[:, asset]) for asset in range(count)]
    leader = [-1] * count
    leaders: list[int] = []
    for asset in sorted(range(count), key=lambda a: -np.isfinite(logs[:, a]).sum()):
        if motion[asset] <= _STEADY:
            continue
        near = (other for other in leaders if _motion(logs[:, asset] - logs[:, other]) < motion[asset] / 2)
        leader[asset] = next(near, asset)
        if leader[asset] == asset:
            leaders.append(asset)
    return leader


_STEADY = 1e-4
"""A price that moves by less between two samples stands for the base currency."""


def _motion(logs: Floats) -> float:
    """Root mean square of the changes of a logarithm; 0 where nothing is known, so that nobody waits for it."""
    steps = np.diff(logs)
    known = steps[np.isfinite(steps)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else 0.0
