"""The range of oracle prices within a window, in integers: the highest over the lowest, less one (Parkinson 1980)."""

from __future__ import annotations

from collections import deque
from typing import Any

from backtest.model import AssetId, PriceUpdate
from backtest.protocols.book import Book
from backtest.units import BPS


class Ranges:
    """Of every asset whose rounds it is told. Prices before the first round told are the one in force then."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._seen: dict[AssetId, deque[tuple[int, int]]] = {}

    def note(self, book: Book[Any], event: PriceUpdate) -> None:
        """A round that the book is about to take; one without a price tells nothing."""
        if event.price is None:
            return
        seen = self._seen.setdefault(event.asset, deque())
        if not seen and (old := book.oracle.get(event.asset)) is not None:
            seen.append((event.timestamp - self._window, old))
        seen.append((event.timestamp, event.price))

    def range_up(self, asset: AssetId, now: int) -> int:
        """Basis points of the lowest price, rounded up; 0 where no round was told."""
        seen = self._seen.get(asset)
        if not seen:
            return 0
        while len(seen) > 1 and seen[1][0] <= now - self._window:
            seen.popleft()  # the first one left was in force when the window began
        low = min(price for _, price in seen)
        return -(-(max(price for _, price in seen) - low) * BPS // low) if low else 0
