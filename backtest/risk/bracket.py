"""How near the smallest move of prices that reserves do not cover may be: a size below which no move in any direction
is enough, to stand beside the smallest one that was found. Pure.

A bound of what an account may leave, with debt D and collateral C at the new prices: a liquidation takes 1 + i at most
for each unit that it repays, so that T of collateral pays for T / (1 + i) of debt at least. What is left beyond the
collateral, or written off, is at most D - C + T - T / (1 + i), with T <= C at most D - C / (1 + i). Prices of a
box of log changes make this largest for each account in a corner of its own; the sum of those is a bound for the box.
Boxes are taken from the nearest to no change on and halved until the bound is within the reserves (branch and bound:
Land and Doig 1960; Moore 1966 for the intervals): what is nearer than the first box that is left has been excluded.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from backtest.model import ParamChange
from backtest.protocols.book import Book
from backtest.protocols.mechanism import ProtocolSpread
from backtest.replay.mechanisms import mechanism_of
from backtest.risk.reverse import Exposed
from backtest.units import BPS

BOXES, FEW = 20_000, 500
"""Boxes that are looked at, at most, and of a large book at least;"""
WORK = 300_000_000
"""between, so many times accounts times prices."""
TINY = 1e-4
"""A box whose longest edge is so small a part of what was found is not halved any more."""
CLOSE = 0.99
"""A bound that is so near to what was found is near enough."""
LINEAR = 1e-6
"""Part of an account's totals that its holdings may not explain."""
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Excluded:
    """No move smaller than ``size`` (length of log changes) is enough. ``boxes``: how many were looked at."""

    size: float
    boxes: int


def dearest(book: Book[Any], params: Sequence[ParamChange]) -> float | None:
    """The most that a liquidation ever took for each unit that it repaid, by the history's parameters up to the book's
    moment; None where the protocol has no such parameter.
    """
    unit = book.protocol.parameters.get("liquidation_bonus")
    if unit is None:
        return None
    known = [
        change.value
        for change in params
        if change.name in ("liquidation_bonus", "emode_liquidation_bonus")
        and change.block_number <= book.now.block_number
    ]
    return max(known, default=0) / (unit * BPS) or None


def is_bounded(book: Book[Any], picture: Exposed) -> bool:
    """Whether the bound holds of a book: liquidations settle at once, and totals are linear in the prices."""
    if type(mechanism_of(book.protocol)) is not ProtocolSpread:
        return False
    totals = picture.held.sum(axis=1) + picture.owed.sum(axis=1)
    return bool((picture.unexplained <= LINEAR * np.maximum(1.0, totals)).all())


def excluded(picture: Exposed, reserves: int, most: float, bonus: float = 1.0) -> Excluded:
    """The size up to which no move of the picture's prices makes bad debt more than ``reserves`` (base units).

    Args:
        most: a size that is enough, as was found: nothing beyond it is looked at.
        bonus: the most that a liquidation takes for each unit that it repays; what the picture knows of its accounts
            counts too.
    """
    net = picture.owed - picture.held * min(float(picture.cover.min(initial=1.0)), 1 / bonus)
    # Roundings of the rules: some base units of each amount of each account.
    room = reserves * (1 - 1e-12) - 8.0 * net.size
    top = float(np.exp(most))
    risen, fallen = np.maximum(net[:, :-1], 0.0), np.minimum(net[:, :-1], 0.0)
    may = risen.sum(axis=1) * top + fallen.sum(axis=1) / top + net[:, -1] > 0
    risen, fallen, fixed, whole = risen[may], fallen[may], net[may, -1], np.abs(net[may, :-1])
    count = risen.shape[1]
    budget = min(BOXES, max(FEW, WORK // max(risen.size, 1)))
    heap: list[tuple[float, int, _Floats, _Floats]] = [(0.0, 0, np.full(count, -most), np.full(count, most))]
    looked = 0
    while heap:
        size, _, low, high = heapq.heappop(heap)
        if size >= CLOSE * most or looked >= budget or float((high - low).max()) <= TINY * most:
            return Excluded(min(size, most), looked)
        looked += 1
        up, down = np.exp(high), np.exp(low)
        beyond = risen @ up + fallen @ down + fixed
        hit = beyond > 0
        if float(beyond[hit].sum()) <= room:
            continue
        axis = int(np.argmax(whole[hit].sum(axis=0) * (up - down)))
        middle = (low[axis] + high[axis]) / 2
        for at, bound in ((0, high), (1, low)):
            halved = bound.copy()
            halved[axis] = middle
            box = (low, halved) if at == 0 else (halved, high)
            nearest = np.maximum(0.0, np.maximum(box[0], -box[1]))
            heapq.heappush(heap, (float(np.sqrt(nearest @ nearest)), 2 * looked + at, *box))
    return Excluded(most, looked)
