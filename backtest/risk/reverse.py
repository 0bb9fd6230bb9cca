"""Reverse stress: the smallest move of prices, in one direction or over all directions, after which the bad debt of a
book is more than its reserves. Pure.

The book is the exact one of a moment. Nobody acts but frictionless liquidators, who come at once where the protocol's
liquidations are settled at once; a protocol whose liquidations take time is held to its collateral at the new prices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize

from backtest.errors import UserError
from backtest.model import AssetId
from backtest.protocols.book import Book
from backtest.replay.what_if.proposal import after_move
from backtest.risk.book import AccountRisk, Direction, farthest, moves
from backtest.units import BPS, WAD

RUNG = 250
"""Falls that are looked at before the least one is searched between two of them, basis points."""
LEAST, MOST = math.log(1e-3), math.log(11)
"""Log changes of a price that are searched: it rises by ten times itself at most."""
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reverse:
    """A move that makes bad debt exceed reserves.

    Attributes:
        direction: as in ``risk.book``. fall: along it, basis points.
        size: the root of the sum of squared log changes of prices, or in the metric that was given.
        bad_debt: after it; ``before``: after one basis point less. Base units.
        accounts, debt: that may be liquidated then.
    """

    direction: Direction
    fall: int
    size: float
    bad_debt: int
    before: int
    accounts: int
    debt: int


@dataclass(frozen=True, slots=True)
class Smallest:
    """The answer over all directions: the smallest that was found, and the next ones that go another way, best first.

    ``starts`` is how many ways the search set out on, ``reached`` how many of them go beyond the reserves.
    """

    found: tuple[Reverse, ...]
    starts: int
    reached: int


def bad_debt_after(book: Book[Any], direction: Direction, fall: int) -> int:
    """Written off, or beyond the collateral of its account; base units."""
    return after_move(book, moves(direction, fall)).bad_debt_base


def reverse_along(
    book: Book[Any], direction: Direction, reserves: int, *, rung: int = RUNG, metric: _Floats | None = None
) -> Reverse | None:
    """The least fall along a direction (whole basis points) after which bad debt is more than ``reserves`` (base
    units); None: none is.

    Exact at that basis point and the one below it. That no smaller one does it is looked at on falls ``rung`` apart:
    bad debt grows with a fall but for what liquidators take before, which can make it dip between two of them.

    Args:
        metric: of sizes, for the direction's assets in order; None: the plain length of the log changes.

    Raises:
        UserError: reserves below zero, or a direction without a move.
    """
    if reserves < 0:
        raise UserError(f"reserves of {reserves}", "give base units, 0 or more")
    if not any(direction.values()):
        raise UserError("a direction in which nothing moves", "name one asset or more")
    between = _between(book, direction, reserves, rung)
    if between is None:
        return None
    low, high = between
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bad_debt_after(book, direction, middle) > reserves else (middle, high)
    then = after_move(book, moves(direction, high))
    return Reverse(
        direction=dict(direction),
        fall=high,
        size=size_of(direction, high, metric),
        bad_debt=then.bad_debt_base,
        before=bad_debt_after(book, direction, high - 1) if high else then.bad_debt_base,
        accounts=then.accounts,
        debt=then.debt_base,
    )


def _between(book: Book[Any], direction: Direction, reserves: int, rung: int) -> tuple[int, int] | None:
    """The first of the falls looked at after which bad debt is beyond, and the one before it. Where prices only rise,
    rungs beyond the first doubling grow with the rise, so that ten times the price is reached soon.
    """
    most, before, fall = farthest(direction), 0, 0
    while bad_debt_after(book, direction, fall) <= reserves:
        if fall >= most:
            return None
        before, fall = fall, min(fall + max(rung, fall // 20 if fall > BPS else 0), most)
    return before, fall


def size_of(direction: Direction, fall: int, metric: _Floats | None = None) -> float:
    """How large a move is: the root of z' M z of the log changes z of its assets' prices, M the identity where none is
    given (the inverse of a covariance of log returns makes it Mahalanobis' distance, so that what is usual is small).
    """
    changes = np.array([math.log(max(factor, 1) / WAD) for factor in moves(direction, fall).values()])
    return math.sqrt(float(changes @ (changes if metric is None else metric @ changes)))


@dataclass(frozen=True, slots=True)
class Exposed:
    """What the accounts with debt hold and owe of some assets, and of all others, in base units as floats: rows are
    accounts. ``cover``: the share of a collateral's value that repays debt where it is liquidated, 1 / (1 + i).
    ``unexplained``: of each account's totals, what its holdings do not come to.
    """

    assets: tuple[AssetId, ...]
    held: _Floats
    owed: _Floats
    cover: _Floats
    unexplained: _Floats

    def short(self, changes: _Floats) -> tuple[float, _Floats]:
        """Bad debt after log changes of the prices of ``assets``, and its slope in each of them."""
        factors = np.append(np.exp(changes), 1.0)
        owed, held = self.owed * factors, self.held * factors * self.cover[:, None]
        beyond = owed.sum(axis=1) - held.sum(axis=1)
        hit = beyond > 0
        slope: _Floats = (owed[hit] - held[hit]).sum(axis=0)[:-1]
        return float(beyond[hit].sum()), slope


def exposed(book: Book[Any], assets: Sequence[AssetId], found: Sequence[AccountRisk]) -> Exposed:
    """Of the accounts of ``standings_of``."""
    place = {asset: column for column, asset in enumerate(assets)}
    held, owed = (np.zeros((len(found), len(assets) + 1)) for _ in range(2))
    unexplained = np.zeros(len(found))
    for row, one in enumerate(found):
        for holding in book.protocol.holdings(book.state, one.account, book.now):
            column = place.get(holding.asset, len(assets))
            if holding.collateral_enabled:
                held[row, column] += book.value_down(holding.asset, holding.collateral)
            owed[row, column] += book.value_up(holding.asset, holding.debt)
        # What the protocol's own totals have beyond the holdings' value at the oracle's prices moves with none of them.
        more, owing = one.collateral - held[row].sum(), one.debt - owed[row].sum()
        held[row, -1] += more
        owed[row, -1] += owing
        unexplained[row] = abs(more) + abs(owing)
    bonus = np.array([one.bonus or WAD for one in found], dtype=np.float64)
    return Exposed(tuple(assets), held, owed, WAD / bonus, unexplained)


def smallest(
    book: Book[Any],
    assets: Sequence[AssetId],
    found: Sequence[AccountRisk],
    reserves: int,
    *,
    metric: _Floats | None = None,
    keep: int = 3,
    further: Sequence[Direction] = (),
    picture: Exposed | None = None,
) -> Smallest:
    """The smallest move of the prices of ``assets``, up or down, after which bad debt is more than ``reserves``.

    In two steps. On a float picture of the book, bad debt is a sum of convex pieces of prices; sequential quadratic
    programming (SLSQP, Kraft 1988) finds points of it that are nearest to no change, from where many ways first go
    beyond the reserves: each asset alone down and up, all held down, all owed up. Then the way to each is walked in the
    exact book (``reverse_along``), and the smallest exact one is the answer: an upper bound, as no search over all
    directions proves that nothing nearer exists (what is outside of the safe set is not convex). How near it may be:
    ``risk.bracket``.

    Args:
        found: of ``standings_of``; what its liquidations take is the picture's.
        further: directions that are walked besides.
        metric: of sizes, assets in order; None: the plain length of the log changes.
        keep: answers, at most.
        picture: what ``exposed`` says; None: it is asked.
    """
    picture = exposed(book, assets, found) if picture is None else picture
    count = len(assets)
    whole = max(float(picture.owed.sum()), 1.0)
    weigh = np.eye(count) if metric is None else metric
    ways: list[Direction] = [dict(one) for one in further]
    starts, edges = _starts(picture), []
    for start in starts:
        edge = _edge(picture, start, reserves)
        if edge is None:
            continue
        edges.append(edge)
        best = optimize.minimize(
            lambda z: float(z @ weigh @ z) / 2,
            edge,
            jac=lambda z: weigh @ z,
            bounds=[(LEAST, MOST)] * count,
            constraints={
                "type": "ineq",
                "fun": lambda z: (picture.short(z)[0] - reserves) / whole * count,
                "jac": lambda z: picture.short(z)[1] / whole * count,
            },
            method="SLSQP",
            options={"maxiter": 200, "ftol": 1e-10},
        ).x
        nearer = float(best @ weigh @ best) < float(edge @ weigh @ edge)
        way = _direction(assets, best if nearer and picture.short(best)[0] >= reserves - 1e-6 * whole else edge)
        if way and not any(_alike(way, other) for other in ways):
            ways.append(way)
    exact = [one for way in ways if (one := reverse_along(book, way, reserves)) is not None]
    sized = [
        Reverse(one.direction, one.fall, _sized(assets, one, weigh), one.bad_debt, one.before, one.accounts, one.debt)
        for one in exact
    ]
    sized.sort(key=lambda one: (one.size, sorted(one.direction.items())))
    return Smallest(tuple(sized[:keep]), len(starts), len(edges))


def _sized(assets: Sequence[AssetId], one: Reverse, weigh: _Floats) -> float:
    return size_of({asset: one.direction.get(asset, 0) for asset in assets}, one.fall, weigh)


def _starts(picture: Exposed) -> list[_Floats]:
    count = len(picture.assets)
    held, owed = picture.held.sum(axis=0)[:-1], picture.owed.sum(axis=0)[:-1]
    starts = []
    for column in range(count):
        for change, there in ((-1.5, held[column]), (1.2, owed[column])):
            if there > 0:
                alone = np.zeros(count)
                alone[column] = change
                starts.append(alone)
    starts += [np.where(held > owed, -1.0, 0.0), np.where(owed > held, 1.0, 0.0), np.where(held > owed, -1.0, 1.0)]
    return [start for start in starts if start.any()]


def _edge(picture: Exposed, way: _Floats, reserves: int) -> _Floats | None:
    """Where log changes along a way first make the picture's bad debt more than the reserves; None: nowhere."""
    reach = min((MOST / change if change > 0 else LEAST / change for change in way.tolist() if change), default=0.0)
    if picture.short(way * reach)[0] <= reserves:
        return None
    low, high = 0.0, reach
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if picture.short(way * middle)[0] > reserves else (middle, high)
    edge: _Floats = way * high
    return edge


def _direction(assets: Sequence[AssetId], changes: _Floats) -> Direction:
    """The straight way of prices to some log changes: the largest weighs one, those below a hundredth of it nothing."""
    falls = 1 - np.exp(changes)
    top = float(np.abs(falls).max())
    if not top:
        return {}
    weights = {asset: round(float(fall) / top * BPS) for asset, fall in zip(assets, falls, strict=True)}
    return {asset: weight for asset, weight in weights.items() if abs(weight) >= BPS // 100}


def _alike(one: Direction, other: Direction) -> bool:
    """Every weight within two hundredths of the largest."""
    return all(abs(one.get(asset, 0) - other.get(asset, 0)) <= BPS // 50 for asset in {*one, *other})
