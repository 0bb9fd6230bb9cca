"""Stretches of history in which nobody can be liquidated and nothing is read: prices and indexes pass, and nothing else
is asked.

Where the screen knows all prices in advance, it knows at which tick an account may be unsafe next. Up to it, a
transaction that only changes prices
and indexes is applied as it is: a decision there would find no candidate, no offer and nothing to measure. Users who
act in it change nothing about that but when they are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from backtest.model import IndexUpdate, MarketEvent, MarketPrice, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.interface import State
from backtest.protocols.mechanism import Mechanism
from backtest.replay.competition.models import LiquidatorModel
from backtest.replay.measure import Measure
from backtest.replay.response import Seat
from backtest.replay.watch.foresight import Foresight
from backtest.replay.watch.screen import Watch
from backtest.replay.what_if.overrides import Overrides
from backtest.replay.what_if.owners import Owners
from backtest.replay.what_if.users import UserActions

_PASSING = frozenset({PriceUpdate, IndexUpdate, MarketPrice})


class Quiet(Generic[State]):
    """Owned by one replay. Only where mechanism and model keep nothing between decisions and never wake by
    themselves.
    """

    def __init__(
        self, book: Book[State], users: UserActions[State], measure: Measure[State], overrides: Overrides,
        seat: Seat | None, owners: Owners | None,
    ) -> None:  # fmt: skip
        self._book, self._users, self._measure, self._overrides, self._seat = book, users, measure, overrides, seat
        self._owners = owners
        self._shadowed = users.responds
        self._nothing = False
        """Whether the last decision found nothing, and none can have more to do than look at accounts."""
        self._before = -1
        """Transactions that end before this seq are quiet,"""
        self._last = -1
        """in blocks up to this one,"""
        self._wake: int | None = None
        """and before the second at which owners look or act next."""

    def decided(
        self, found: bool, watch: Watch[State], mechanism: Mechanism[State], model: LiquidatorModel
    ) -> None:  # fmt: skip
        """A decision found a candidate or an offer, or neither."""
        still = self._seat is None or self._seat.response.idle  # else prices move by time alone
        self._nothing = not found and still and isinstance(watch, Foresight) and mechanism.as_quoted and model.stateless
        if self._nothing and isinstance(watch, Foresight):
            self.goes_on(watch)

    def goes_on(self, watch: Foresight[State]) -> None:
        """Nobody decided since, and the watch knows of all that was touched."""
        if self._nothing:
            self._before = watch.next_look
            self._last = min(self._measure.next_read, self._overrides.next_start - 1)
            self._wake = None if self._owners is None else self._owners.wake()

    def ends(self) -> None:
        """Something follows that a decision just made, when overrides started, knows nothing of."""
        self._before = -1

    def passes(self, transaction: Sequence[MarketEvent]) -> bool:
        """Applies a transaction and returns True where it is quiet; one that is not ends the stretch."""
        last = transaction[-1]
        if last.seq >= self._before:
            return False
        if self._seat is not None and not self._seat.response.idle:  # somebody sold in another market
            self._before = -1
            return False
        due = self._wake is not None and last.timestamp >= self._wake
        if due or last.block_number > self._last or not _PASSING.issuperset(map(type, transaction)):
            self._before = -1
            return False
        apply, seat = self._book.apply, self._seat
        for event in transaction:
            if self._shadowed:
                self._users.shadow(event)
            if seat is not None and isinstance(event, PriceUpdate | MarketPrice):
                for moved in seat.adjusted(event):
                    apply(moved)
            else:
                apply(event)
        return True
