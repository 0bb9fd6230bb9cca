"""Standstills: pauses, circuit breakers, and the time that borrowers have after them or by themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

from backtest import scenario as config
from backtest.model import AccountId, AssetId, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.mechanism import Opportunity
from backtest.replay.mitigations.part import Changes, Looked, Part
from backtest.replay.record import MitigationEffect
from backtest.replay.what_if.users import raises_risk
from backtest.scenario.mitigations import Stops
from backtest.units import BPS


class Standstill(Part, ABC):
    """What stops for a while. ``grace``: for how many seconds longer liquidations do."""

    stopped: Stops
    grace = 0

    @abstractmethod
    def halted(self, now: int, assets: Sequence[AssetId] | None, longer: int = 0) -> bool:
        """Whether it stands still now for what is about these assets; None: for everything."""
        ...

    @abstractmethod
    def ends(self, now: int) -> list[int]:
        """When standstills that have begun, or will, are over for users."""
        ...

    def refuses(self, book: Book[Any], changes: Changes) -> bool:
        """Users are stopped too, all or those who raise their risk."""
        if self.stopped == "liquidations" or not (self.stopped == "everything" or raises_risk(changes)):
            return False
        assets = [change.asset for change in changes if change.asset is not None]
        now = book.now.timestamp
        return self.halted(now, None) or self.halted(now, assets)

    def locks(self, asset: AssetId, now: int) -> bool:
        """Nobody withdraws it."""
        return self.stopped != "liquidations" and (self.halted(now, None) or self.halted(now, [asset]))

    def turns(self, now: int) -> int | None:
        """The next end, or beginning that is known."""
        return min((end for end in self.ends(now) if end > now), default=None)

    def stops(self, looked: Looked) -> bool:
        """The whole market stands still."""
        return self.stopped != "risk" and self.halted(looked.now, None, self.grace)

    def through(self, looked: Looked, offer: Opportunity) -> Opportunity | None:
        """One of its assets does."""
        pair = offer.order.pair
        stopped = self.stopped != "risk" and self.halted(
            looked.now, [pair.debt_asset, pair.collateral_asset], self.grace
        )
        return None if stopped else offer

    def lets_go(self, now: int) -> int | None:
        """When the next one is over, with its grace."""
        return min((end + self.grace for end in self.ends(now) if end + self.grace > now), default=None)


class Paused(Standstill):
    """See ``scenario.Pause``. ``asset``: None is the whole market."""

    def __init__(self, terms: config.Pause, asset: AssetId | None) -> None:
        self.stopped, self._asset = terms.stops, asset
        self._first, self._last = (
            config.seconds_of(text, "mitigation pause") for text in (terms.from_time, terms.until_time)
        )

    def halted(self, now: int, assets: Sequence[AssetId] | None, longer: int = 0) -> bool:
        """Within its time."""
        here = assets is None if self._asset is None else assets is not None and self._asset in assets
        return here and self._first <= now < self._last + longer

    def ends(self, now: int) -> list[int]:
        """Its end."""
        return [self._last] if now >= self._first else []

    def turns(self, now: int) -> int | None:
        """Its beginning, too."""
        return self._first if now < self._first else super().turns(now)


class Tripped(Standstill):
    """See ``scenario.CircuitBreaker``. ``asset``: whose price; None is any."""

    def __init__(self, terms: config.CircuitBreaker, asset: AssetId | None) -> None:
        self.stopped, self._terms, self._asset = terms.stops, terms, asset
        self._until: dict[AssetId, int] = {}
        self._seen: dict[AssetId, deque[tuple[int, int]]] = {}
        self._trips = 0

    def round(self, book: Book[Any], event: PriceUpdate) -> PriceUpdate:
        """Trips where it is far from any price of the window."""
        old, new, terms = book.oracle.get(event.asset), event.price, self._terms
        if self._asset not in (None, event.asset) or old is None or new is None:
            return event
        seen = self._seen.setdefault(event.asset, deque([(event.timestamp, old)]))
        while len(seen) > 1 and seen[1][0] <= event.timestamp - terms.window:
            seen.popleft()  # the first one left is the price at the window's beginning
        if any(abs(new - price) * BPS >= terms.move * price for _, price in seen):
            self._until[event.asset] = event.timestamp + terms.seconds
            self._trips += 1
        if not terms.window:
            seen.clear()
        seen.append((event.timestamp, new))
        return event

    def halted(self, now: int, assets: Sequence[AssetId] | None, longer: int = 0) -> bool:
        """Tripped not too long ago: by any asset where the whole market stops, else by one of these."""
        if (self._terms.scope == "market") != (assets is None):
            return False
        of = self._until if assets is None else [asset for asset in assets if asset in self._until]
        return any(now < self._until[asset] + longer for asset in of)

    def ends(self, now: int) -> list[int]:
        """Of each asset."""
        return list(self._until.values())

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """How often it tripped."""
        return [self.did("tripped", self._trips)] if self._trips else []


class Waited(Part):
    """See ``scenario.Grace``, of each account by itself."""

    def __init__(self, terms: config.Grace) -> None:
        self._seconds = terms.seconds
        self._first: dict[AccountId, int] = {}

    def stops(self, looked: Looked) -> bool:
        """Its time has not passed."""
        if not looked.unsafe:
            return False
        return looked.now < self._first.setdefault(looked.account, looked.now) + self._seconds

    def recovered(self, account: AccountId) -> None:
        """The next time counts anew."""
        self._first.pop(account, None)

    @property
    def follows(self) -> Sequence[AccountId]:
        """Whose time runs or ran: whether they recover must be seen."""
        return list(self._first)

    def lets_go(self, now: int) -> int | None:
        """When the next one's time is over."""
        ends = (first + self._seconds for first in self._first.values())
        return min((end for end in ends if end > now), default=None)
