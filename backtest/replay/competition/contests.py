"""Who wins one opportunity, and what is paid for it: the models of competition as functions of values and draws. Base
units, integers only.

An entrant's ``value`` is what the opportunity leaves it after its costs and before anything is paid to be included.
Sources: models by name in ``scenario.liquidators``; first-price bids are the equilibrium of independent private values
(Krishna, Auction Theory, ch. 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backtest.auctions.bidding import Bid
from backtest.units import BPS


@dataclass(frozen=True, slots=True)
class Entrant:
    """A searcher that would gain by winning (``value`` >= 0). ``private``: its own costs, taken off its value
    already.
    """

    index: int
    name: str
    value: int
    private: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """Who wins and pays ``price``; ``bids`` are those of everybody, in the order of entrants."""

    winner: Entrant
    price: int
    bids: tuple[Bid, ...]


def shaded_down(value: int, least: int, rivals: int) -> int:
    """A first-price bid where the values of n = ``rivals`` + 1 bidders are even from ``least`` up and bids below zero
    are not made.

    value - (value - least) / n where least >= 0. One bidder alone bids nothing.
    """
    n = rivals + 1
    if n == 1:
        return 0
    if least >= 0:
        return value - -(-(value - least) // n)
    width, below = value - least, -least
    lost: int = -(-(width**n - below**n) // (n * width ** (n - 1)))
    return max(0, value - lost)


def sealed_bid(entrants: Sequence[Entrant], least: Sequence[int], rivals: int) -> Result:
    """Each bids without knowing the others' values; the highest bid wins and is paid. ``least``: the lowest value that
    each could have had.

    ``rivals``: how many others each reckons with, whether or not they turn out to gain by winning.
    """
    bids = [shaded_down(entrant.value, low, rivals) for entrant, low in zip(entrants, least, strict=True)]
    best = max(range(len(entrants)), key=lambda i: (bids[i], -i))
    return _result(entrants, best, bids[best], bids)


def open_auction(entrants: Sequence[Entrant], bump: int, lost: int) -> Result:
    """Bids are seen and replaced: the winner stops one ``bump`` (basis points) above what the second was willing to
    pay; the others pay ``lost``.
    """
    best, second = _two_best(entrants)
    ceiling = -(-entrants[second].value * (BPS + bump) // BPS) if second is not None else 0
    price = min(entrants[best].value, ceiling)
    bids = [price if i == best else min(entrant.value, price) for i, entrant in enumerate(entrants)]
    return _result(entrants, best, price, bids, lost)


def cooperative(entrants: Sequence[Entrant], chosen: int, step: int, lost: int) -> Result:
    """They raise by the least ``step`` in turn instead of competing: the ``chosen`` one is last, at a bid of one
    step.
    """
    price = min(step, entrants[chosen].value)
    return _result(entrants, chosen, price, [price if i == chosen else 0 for i in range(len(entrants))], lost)


def second_price(entrants: Sequence[Entrant], reserve: int = 0) -> Result:
    """Everybody there knows everybody's value: the winner pays the second highest, or alone ``reserve`` (basis points
    of its own value).

    So nobody gains more than it adds to what all could gain together.
    """
    best, second = _two_best(entrants)
    floor = entrants[best].value * reserve // BPS
    price = max(floor, entrants[second].value if second is not None else 0)
    bids = [price if i == best else entrant.value for i, entrant in enumerate(entrants)]
    return _result(entrants, best, price, bids)


def first_come(entrants: Sequence[Entrant], times: Sequence[int], fee: int = 0) -> Result:
    """The least time wins and pays nothing but ``fee``."""
    best = min(range(len(entrants)), key=lambda i: (times[i], i))
    return _result(entrants, best, fee, [fee if i == best else 0 for i in range(len(entrants))])


def _two_best(entrants: Sequence[Entrant]) -> tuple[int, int | None]:
    order = sorted(range(len(entrants)), key=lambda i: (-entrants[i].value, i))
    return order[0], order[1] if len(order) > 1 else None


def _result(entrants: Sequence[Entrant], best: int, price: int, bids: Sequence[int], lost: int = 0) -> Result:
    made = tuple(
        Bid(entrant.name, entrant.value, bid, price if i == best else lost, i == best)
        for i, (entrant, bid) in enumerate(zip(entrants, bids, strict=True))
    )
    return Result(entrants[best], price, made)
