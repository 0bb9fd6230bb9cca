"""Decisions about many accounts at once.

A competition that costs nothing, or the same for each call, takes of each account what pays most, again and again. A
protocol that can tell what happens to many accounts (``protocols.Together``) is then asked once a moment. Where no
account depends on another, what others do changes only who comes first, and the liquidations are put in the order in
which they would have been taken one by one; else the protocol gives them in that order.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from typing import Any, Generic

from backtest.model import AccountId
from backtest.protocols.book import Book
from backtest.protocols.interface import State, Together
from backtest.protocols.mechanism import Mechanism
from backtest.replay.competition.models import Competition, LiquidatorModel
from backtest.replay.settlement import Settlement, Taker

FEW = 2
"""Fewer accounts are looked at one by one: arrays would take longer."""


class BatchTaker(Generic[State]):
    """Owned by one replay. ``model``: where it can be told together what the liquidators take."""

    def __init__(
        self,
        book: Book[State],
        settlement: Settlement[State],
        mechanism: Mechanism[State],
        model: LiquidatorModel,
        liquidator: AccountId,
    ) -> None:
        self._book, self._settlement, self._liquidator = book, settlement, liquidator
        self.model = model if isinstance(model, Competition) and model.by_itself and mechanism.as_quoted else None

    def take(
        self, engine: Taker[State], candidates: Sequence[AccountId], refused: set[tuple[AccountId, str]]
    ) -> tuple[bool, Collection[AccountId]]:
        """What happens to the candidates at this moment, if it can be told together: whether anything does, and who is
        to be looked at one by one. Adds to ``refused``.
        """
        book, model = self._book, self.model
        if model is None or book.plain or len(candidates) < FEW:
            return False, candidates
        calls = model.calls(book)
        found = book.protocol.together(
            book.state,
            candidates,
            book.prices,
            book.now,
            self._liquidator,
            cost=model.cost,
            calls=calls,
            most=model.most_calls,
        )
        if found is None:
            return False, candidates
        refused.update(found.refused)
        if not found.account:
            return False, found.on_offer
        calls.update(found.account)
        self._settlement.settle_together(engine, found, _order(found, book))
        return True, found.on_offer


def _order(found: Together, book: Book[Any]) -> list[int]:
    """Rows as a competition takes them: of the next of each account the most profitable, ties by address."""
    if found.ordered:
        return list(range(len(found.account)))
    first = [row for row, account in enumerate(found.account) if not row or found.account[row - 1] != account]
    if len(first) == len(found.account):
        return sorted(first, key=lambda row: (-found.profit[row], book.address(found.account[row])))
    after = dict(zip(first, [*first[1:], len(found.account)], strict=True))
    heap = [(-found.profit[row], book.address(found.account[row]), row, after[row]) for row in first]
    heapq.heapify(heap)
    order = []
    while heap:
        _, address, row, stop = heap[0]
        order.append(row)
        if row + 1 < stop:
            heapq.heapreplace(heap, (-found.profit[row + 1], address, row + 1, stop))
        else:
            heapq.heappop(heap)
    return order
