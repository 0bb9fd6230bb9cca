"""Recomputed interest held against history's, as long as history alone decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backtest.model import AssetId, IndexUpdate, MarketEvent
from backtest.protocols.book import Book
from backtest.replay.record import RateCheck


class RateComparison:
    """Compares, transaction by transaction, the last index update of each asset with what the replay has."""

    def __init__(self) -> None:
        self._updates = self._differing = self._largest = 0

    @property
    def result(self) -> RateCheck:
        """What was compared so far."""
        return RateCheck(updates=self._updates, differing=self._differing, largest=self._largest)

    def compare(self, transaction: Sequence[MarketEvent], book: Book[Any]) -> None:
        """One transaction of history that was replayed."""
        last: dict[AssetId, IndexUpdate] = {event.asset: event for event in transaction if type(event) is IndexUpdate}
        for asset, theirs in last.items():
            ours = book.indexes.get(asset)
            if ours is None:  # a listing: nothing happened to the asset yet
                continue
            self._updates += 1
            pairs = (
                (ours.supply_index, theirs.supply_index),
                (ours.borrow_index, theirs.borrow_index),
                (ours.supply_rate, theirs.supply_rate),
                (ours.borrow_rate, theirs.borrow_rate),
            )
            difference = max(abs(a - b) for a, b in pairs)
            self._differing += difference > 0
            self._largest = max(self._largest, difference)
