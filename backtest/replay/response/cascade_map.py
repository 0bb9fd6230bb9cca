"""The cascade map of an asset: what selling at each price level sets off, whether that is more than set it off, and
where falls come to rest. Pure.

After a shock s an asset trades at P0 (1 - s). At a price P accounts sell Q(P), which leaves f(Q(P)) of the price: the
map T(P) = P0 (1 - s) f(Q(P)). Its slope kappa = d ln f(Q(P)) / d ln P says how far each further fall sets off the next:
a small shock is amplified 1 / (1 - kappa) times, and where kappa passes one the map ruptures. The static fixed point
P* = T(P*), reached from P0 (1 - s) downwards, is the least fall that bears itself (Tarski). What was sold stays sold,
so that it exists. Sales are those of frictionless liquidators: what no longer pays because the sale itself loses too
much is sold here all the same, so that replays fall less far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

from backtest.replay.response.curves import PriceCurve
from backtest.units import BPS, RAY

SCALE = 1 << 20
"""Depth is scaled in parts of this,"""
LARGEST = 1 << 40
"""up to this, which is a million times as much."""


@dataclass(frozen=True, slots=True)
class SoldAt:
    """What is sold where the price is lower: native units of the asset, how many accounts can be liquidated, and the
    debt repaid, base units.
    """

    amount: int
    accounts: int = 0
    repaid_base: int = 0


SoldAtPrice = Callable[[int], SoldAt]
"""By the part of the price that is left, of RAY."""


@dataclass(frozen=True, slots=True)
class PriceLevel:
    """One price level. ``left``: of the price, of RAY; ``answered``: what its sales leave of a price, of RAY;
    ``slope``: kappa from the level above to this one, None at the first.
    """

    left: int
    sold: SoldAt
    answered: int
    slope: float | None


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Where a shock comes to rest. ``shock``: basis points; ``left``: of the price before it, of RAY; ``rounds``: times
    that the map was asked; ``amplification``: logarithm of the whole fall over that of the shock.
    """

    shock: int
    left: int
    rounds: int
    sold: SoldAt
    amplification: float


def levels_of(sold_at: SoldAtPrice, curve: PriceCurve, falls: Sequence[int]) -> tuple[PriceLevel, ...]:
    """The map at falls (basis points, from the smallest); what is sold never shrinks from one to the next."""
    sold: list[tuple[int, SoldAt]] = []
    for fall in falls:
        left = RAY * (BPS - fall) // BPS
        found = sold_at(left)
        if sold and found.amount < sold[-1][1].amount:
            found = SoldAt(sold[-1][1].amount, found.accounts, found.repaid_base)
        sold.append((left, found))
    return _levels(sold, curve, SCALE)


def _levels(sold: Sequence[tuple[int, SoldAt]], curve: PriceCurve, depth: int) -> tuple[PriceLevel, ...]:
    levels: list[PriceLevel] = []
    for left, found in sold:
        answered = max(1, curve.factor(found.amount * SCALE // depth))
        slope = None
        if levels:
            before = levels[-1]
            slope = log(answered / before.answered) / log(left / before.left)
        levels.append(PriceLevel(left, found, answered, slope))
    return tuple(levels)


def rupture(levels: Sequence[PriceLevel]) -> PriceLevel | None:
    """The first level at which what a fall sets off is as much as the fall itself."""
    return next((level for level in levels if level.slope is not None and level.slope >= 1), None)


def critical_depth(levels: Sequence[PriceLevel], curve: PriceCurve) -> int | None:
    """The least depth at which the map ruptures nowhere on these levels, in parts of ``SCALE`` of the curve's; None
    where no depth up to a million times it is enough, 0 where the least is.
    """
    sold = [(level.left, level.sold) for level in levels]

    def holds(depth: int) -> bool:
        return rupture(_levels(sold, curve, depth)) is None

    if not holds(LARGEST):
        return None
    low, high = 0, LARGEST
    while high - low > max(1, high >> 12):  # to a part in four thousand
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high if low else 0


def fixed_point(sold_at: SoldAtPrice, curve: PriceCurve, shock: int, most: int = 1_000) -> FixedPoint:
    """From the shock downwards until no fall sets off a further one. RuntimeError after ``most`` rounds."""
    start = left = RAY * (BPS - shock) // BPS
    sold = SoldAt(0)
    for number in range(1, most + 1):
        found = sold_at(left)
        sold = found if found.amount > sold.amount else sold
        after = max(1, start * curve.factor(sold.amount) // RAY)
        if after >= left:
            amplified = log(left / RAY) / log(start / RAY) if shock else 1.0
            return FixedPoint(shock, left, number, sold, amplified)
        left = after
    raise RuntimeError(f"no fixed point after {most} rounds")


def depth_within(curve: PriceCurve, fall: int) -> int:
    """The most that can be sold until the price is lower by ``fall`` basis points; native units."""
    least = RAY * (BPS - fall) // BPS
    high = 1
    while curve.factor(high) >= least:
        high *= 2
        if high > 10**60:
            return high
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if curve.factor(middle) >= least else (low, middle)
    return low
