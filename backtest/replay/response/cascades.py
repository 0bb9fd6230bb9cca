"""What sales set off: liquidations that belong together, and how far prices fell with and without them.

A cascade begins with a liquidation that sells and ends when for a while none does: ``GAP`` seconds, or as long as the
rules of the oracles look back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from backtest.model import AssetId, Clock
from backtest.replay.response.oracles import lookback
from backtest.replay.response.prices import CollateralSale, PricePoint
from backtest.scenario.impact import Impact

GAP = 600
"""Seconds without a sale after which what follows is another cascade, at least."""


def gap_of(terms: Impact) -> int:
    """The seconds of a scenario."""
    return max(GAP, *(lookback(entry.oracle) for entry in terms.assets)) if terms.assets else GAP


class Cascade(NamedTuple):
    """One cascade and one asset whose price answers.

    ``rounds``: of the asset's oracle, that history did not have. Prices ``before`` are those at the end of the block
    before the first sale; the lowest are those from there to the end of the gap after the last one. None where there
    was no price. ``sales`` are ordinals of liquidations, of all assets, ``endogenous`` those of them that history's
    prices would not have made; ``sold``: native units of this asset, less what was bought.
    """

    number: int
    asset: AssetId
    begins: Clock
    ends: Clock
    sales: tuple[int, ...]
    endogenous: tuple[int, ...]
    sold: int
    rounds: int
    history_before: int | None
    oracle_before: int | None
    history_low: int | None
    oracle_low: int | None
    market_low: int | None


def cascades_of(points: Sequence[PricePoint], sales: Sequence[CollateralSale], gap: int = GAP) -> Iterator[Cascade]:
    """From what a replay recorded, in order of time."""
    paths = {asset: [point for point in points if point.asset == asset] for asset in sorted({p.asset for p in points})}
    for number, group in enumerate(_groups(sales, gap)):
        begins, ends = group[0].clock, group[-1].clock
        for asset, own in paths.items():
            first = bisect_left(own, begins.block_number, key=lambda point: point.clock.block_number)
            last = bisect_right(own, ends.timestamp + gap, key=lambda point: point.clock.timestamp)
            before, within = own[first - 1] if first else None, own[first:last]
            seen = within if before is None else [before, *within]
            yield Cascade(
                number=number,
                asset=asset,
                begins=begins,
                ends=ends,
                sales=tuple(dict.fromkeys(sale.ordinal for sale in group)),
                endogenous=tuple(dict.fromkeys(sale.ordinal for sale in group if sale.endogenous)),
                sold=sum(sale.amount for sale in group if sale.asset == asset),
                rounds=_own_rounds(seen),
                history_before=None if before is None else before.history,
                oracle_before=None if before is None else before.oracle,
                history_low=_least([point.history for point in seen]),
                oracle_low=_least([point.oracle for point in seen]),
                market_low=_least([point.market for point in seen]),
            )


def _groups(sales: Sequence[CollateralSale], gap: int) -> Iterator[list[CollateralSale]]:
    group: list[CollateralSale] = []
    for sale in sales:
        if group and sale.clock.timestamp > group[-1].clock.timestamp + gap:
            yield group
            group = []
        group.append(sale)
    if group:
        yield group


def _own_rounds(points: Sequence[PricePoint]) -> int:
    """Changes of the oracle's price where history's did not change."""
    return sum(after.oracle != before.oracle and after.reason != "history" for before, after in pairwise(points))


def _least(prices: Sequence[int | None]) -> int | None:
    return min((price for price in prices if price is not None), default=None)
