"""Several markets in one replay; and a market's own history, without one."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from backtest.model import Clock, HistoricalLiquidation, Market, MarketEvent, Prices
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol, State
from backtest.replay.engine import Engine, mechanism_for
from backtest.replay.record import Replay
from backtest.replay.timeline import Timeline
from backtest.scenario import Scenario


def replay_markets(
    markets: Iterable[tuple[LendingProtocol[Any], Market, Timeline]], scenario: Scenario
) -> list[Replay[Any]]:
    """Several markets in one run, their transactions interleaved by time, then in the order given."""
    engines = [
        Engine(protocol, market, timeline, scenario, mechanism_for(protocol, scenario))
        for protocol, market, timeline in markets
    ]

    def stamped(number: int) -> Iterator[tuple[int, int, int, Sequence[MarketEvent]]]:
        for order, transaction in enumerate(engines[number].transactions()):
            yield transaction[0].timestamp, number, order, transaction

    for _, number, _, transaction in heapq.merge(*(stamped(i) for i in range(len(engines)))):
        engines[number].advance(transaction)
    return [engine.finish() for engine in engines]


def state_at(
    protocol: LendingProtocol[State], market: Market, timeline: Timeline, block: int
) -> tuple[State, Prices, Clock]:
    """A market as it was at the end of ``block``: history's own changes, nothing re-enacted."""
    book = Book.open(protocol, market)
    for transaction in timeline.transactions(block):
        for event in transaction:
            if type(event) is not HistoricalLiquidation:
                book.apply(event)
    return book.state, book.prices, timeline.clock_at(block)
