"""Claims on claims in a joint replay: an asset of one market that is a deposit of another is worth what it stands for,
times what is left of that market's deposits; and while nobody can withdraw there, it sells for nothing.

A market's loss is what it wrote off, and debt beyond the collateral of its account, beyond what was so when the window
began (history's prices know of that) and what its reserve fund pays. All its depositors bear it alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.model import AccountId, AssetId, Clock, MarketEvent, MarketPrice, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.changes import unplaced
from backtest.replay.response.selling import LEAST, SAME, Ratio
from backtest.replay.what_if.impact import views_of
from backtest.units import RAY

if TYPE_CHECKING:
    from backtest.replay.mitigations import Mitigations
    from backtest.replay.response import Seat


def deposits_of(book: Book[Any]) -> int:
    """Everything that is supplied, base units, each holding rounded down."""
    return sum(
        book.value_down(holding.asset, holding.collateral)
        for account in book.protocol.accounts(book.state)
        for holding in book.protocol.holdings(book.state, account, book.now)
    )


def left_down(deposits: int, lost: int) -> int:
    """Of RAY: what a loss leaves of each deposit, rounded down; all of it where nothing is deposited."""
    return RAY * (deposits - min(deposits, lost)) // deposits if deposits else RAY


def short_of(book: Book[Any], without: frozenset[AccountId] = frozenset()) -> int:
    """Debt beyond the collateral of its account, over all accounts that can be valued but those ``without``, base
    units.
    """
    views = views_of(book)
    least = views.collateral.minus(views.debt)
    counted = least.negative
    if without:
        counted = counted & ~np.isin(views.account, np.fromiter(without, np.int64, len(without)))
    rest = (
        view.debt_base - view.collateral_base
        for account, view in views.rest.items()
        if view is not None and account not in without
    )
    return -least.take(counted).total() + sum(short for short in rest if short > 0)


class Deposits:
    """A market, as seen by those who hold claims on its deposits: what its loss leaves of them from the window's first
    block on, and whether they can be withdrawn. Deposits are those of that moment, or, where there were none, of the
    first loss.

    Attributes:
        seat, mitigated: of its replay, where it has them.
    """

    def __init__(
        self, reserve: int = 0, known: tuple[int, int] | None = None, without: frozenset[AccountId] = frozenset()
    ) -> None:
        """``reserve``: what funds pay before depositors do, base units. ``known``: deposits and debt without cover as
        the window begins, where somebody counted them. ``without``: accounts whose debt is not counted.
        """
        self._reserve, self._known, self._without = reserve, known, without
        self._deposits = self._before = self._lost = 0
        self.begun = False
        self.seat: Seat | None = None
        self.mitigated: Mitigations | None = None

    def begin(self, book: Book[Any]) -> None:
        """The window begins."""
        self.begun = True
        self._deposits, self._before = self._known or (deposits_of(book), short_of(book, self._without))

    def lost(self, total: int, book: Book[Any]) -> None:
        """``total``: debt written off in the window and debt without cover now, base units."""
        self._lost = max(0, total - self._before - self._reserve)
        if self._lost and not self._deposits:
            self._deposits = deposits_of(book)

    def left(self) -> int:
        """Of RAY."""
        return left_down(self._deposits, self._lost)

    def answered(self, asset: AssetId) -> Ratio:
        """What its oracle says of an asset after sales, to what history's did."""
        return SAME if self.seat is None else self.seat.answered(asset)

    def locked(self, asset: AssetId, now: int) -> bool:
        """Whether nobody can withdraw the asset now (seconds): what raises users' risk is stopped."""
        return self.mitigated is not None and self.mitigated.locked(asset, now)

    def turns(self, now: int) -> int | None:
        """The next time at which that may change by itself."""
        return None if self.mitigated is None else self.mitigated.turns(now)


@dataclass(slots=True)
class _Held:
    """A claim: on whom, on which of its assets; and what was last told of its prices, by others and by this."""

    issuer: Deposits
    underlying: AssetId
    price: int | None = None
    traded: int | None = None
    left: int = RAY
    stuck: bool = False


class Claims:
    """The claims of one market on others. Owned by one replay."""

    def __init__(self, claims: Mapping[AssetId, tuple[Deposits, AssetId]], answering: frozenset[AssetId]) -> None:
        """``answering``: those whose own price answers to sales (``scenario.impact``), so that what sales of what they
        stand for do is in it already.
        """
        self._held = {asset: _Held(*claim) for asset, claim in sorted(claims.items())}
        self._answering = answering

    def begin(self, book: Book[Any]) -> None:
        """Where a replay begins with a book that stands."""
        for asset, held in self._held.items():
            held.price, held.traded = book.oracle.get(asset), book.traded.get(asset)

    def reading(self, now: int) -> tuple[tuple[int, bool], ...]:
        """Of each claim what is left of its price, of RAY, and whether nobody can withdraw what it stands for."""
        return tuple(
            (self._left(asset, held), held.issuer.locked(held.underlying, now)) for asset, held in self._held.items()
        )

    def priced(self, event: PriceUpdate | MarketPrice) -> PriceUpdate | MarketPrice:
        """What a price of a claim comes to."""
        held = self._held.get(event.asset)
        if held is None:
            return event
        held.left = self._left(event.asset, held)
        if isinstance(event, PriceUpdate):
            held.price = event.price
            return _left_of(event, held.left)
        held.traded = event.price
        held.stuck = held.issuer.locked(held.underlying, event.timestamp)
        return replace(event, price=0) if held.stuck else _left_of(event, held.left)

    def due(self, clock: Clock) -> list[MarketEvent]:
        """Prices as they were last told, to be ``priced`` anew, of claims that are worth something else now."""
        found: list[MarketEvent] = []
        for (asset, held), (left, stuck) in zip(self._held.items(), self.reading(clock.timestamp), strict=True):
            at = unplaced(clock)
            if left != held.left and held.price is not None:
                found.append(PriceUpdate(**at, asset=asset, price=held.price))
            if stuck != held.stuck or (left != held.left and held.traded is not None):
                found.append(MarketPrice(**at, asset=asset, price=held.traded))
        return found

    def wake(self, now: Clock) -> int | None:
        """The next time at which a price may change by itself."""
        times = (held.issuer.turns(now.timestamp) for held in self._held.values())
        return min((time for time in times if time is not None), default=None)

    def _left(self, asset: AssetId, held: _Held) -> int:
        own, history = SAME if asset in self._answering else held.issuer.answered(held.underlying)
        return max(LEAST, held.issuer.left() * own // history)


def _left_of(event: PriceUpdate | MarketPrice, left: int) -> PriceUpdate | MarketPrice:
    """Rounded down; a price stays above zero, since one of zero is one that nobody knows."""
    if left == RAY or not event.price:
        return event
    return replace(event, price=max(1, event.price * left // RAY))
