"""A market's own history, without a replay."""

from __future__ import annotations

from backtest.model import Clock, Market, Prices
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol, State
from backtest.replay.timeline import Timeline


def state_at(
    protocol: LendingProtocol[State], market: Market, timeline: Timeline, block: int
) -> tuple[State, Prices, Clock]:
    """A market as it was at the end of ``block``: history's own changes, nothing re-enacted."""
    book = Book.open(protocol, market)
    for transaction in timeline.transactions(block):
        for event in transaction:
            book.relive(event)
    return book.state, book.prices, timeline.clock_at(block)
