"""A history's book at the ends of some blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from backtest.model import HistoricalLiquidation, Market
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol
from backtest.replay.timeline import Timeline


def books_at(
    protocol: LendingProtocol[Any], market: Market, timeline: Timeline, blocks: Iterable[int]
) -> Iterator[tuple[int, Book[Any]]]:
    """The book at the end of each block, in one walk; read it before going on."""
    wanted, book = sorted(set(blocks)), Book.open(protocol, market)

    def placed(block: int) -> tuple[int, Book[Any]]:
        book.now = timeline.clock_at(block)
        return block, book

    for transaction in timeline.transactions(wanted[-1]):
        while wanted[0] < transaction[0].block_number:
            yield placed(wanted.pop(0))
        for event in transaction:
            if type(event) is not HistoricalLiquidation:
                book.apply(event)
    for block in wanted:
        yield placed(block)
