"""A joint replay that is looked at: what is seen is the book, and looking changes nothing."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from backtest.contagion.books import MarketBook, connected, merged
from backtest.contagion.moments import MOMENTS, MarketLooks, at_each, steps_of
from backtest.replay.joint import JointPart, replay_jointly
from backtest.replay.record import Replay
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.proposal import book_at
from backtest.scenario import Competitive, Scenario
from tests.support.contest_history import POOL
from tests.support.random_history import random_history

WORTHS = (Fraction(1), Fraction(5, 4))


def _outcome(one: Replay[Any]) -> tuple[Any, ...]:
    return list(one.liquidations), list(one.deficits), one.totals, one.horizons, one.book.state.balances, one.refused


@pytest.mark.parametrize("seed", range(4))
def test_what_is_seen_is_the_book(seed: int) -> None:
    """History's own right before the first block, and at the end what the replay hands back."""
    first = 40 if seed % 2 else None
    scenario = Scenario(liquidators=Competitive(), from_block=first)
    histories = [random_history(100 * seed + n, steps=30) for n in range(2)]
    markets = [replace(h.market, name=f"m{n}") for n, h in enumerate(histories)]
    lines = [h.timeline() for h in histories]
    since, until = min(line.timestamp_from(first or 0) for line in lines), max(map(_end, lines))
    watched = [
        MarketLooks(POOL, market, worth, {}, {}, steps_of(line, first, line.last_block, since, until))
        for market, worth, line in zip(markets, WORTHS, lines, strict=True)
    ]
    plain = [
        JointPart(POOL, market, line, scenario, worth, samples=5)
        for market, line, worth in zip(markets, lines, WORTHS, strict=True)
    ]
    ended = replay_jointly([replace(part, onlooker=one.onlooker) for part, one in zip(plain, watched, strict=True)])
    assert [_outcome(one) for one in ended] == [_outcome(one) for one in replay_jointly(plain)]
    for one, line, outcome, worth in zip(watched, lines, ended, WORTHS, strict=True):
        assert (next(iter(one.steps)) == 0, list(one.steps)[-1]) == (first is not None, MOMENTS)
        assert [found.step for found in one.seen] == list(one.steps)
        assert [found.timestamp for found in one.seen] == [
            line.clock_at(block).timestamp for block in one.steps.values()
        ]
        assert one.seen[-1].bound == connected([MarketBook(one.market.name, outcome.book, worth)])
        if first is not None:
            book = book_at(POOL, one.market, line, first, ended=False)
            book.now = line.clock_at(one.steps[0])
            assert one.seen[0].bound == connected([MarketBook(one.market.name, book, worth)])
    whole = [bound for step, bound, _ in at_each(watched) if step == MOMENTS]
    assert whole == [merged([one.seen[-1].bound for one in watched])]


def _end(line: Timeline) -> int:
    return line.clock_at(line.last_block).timestamp


def test_one_by_one_is_as_all_at_once() -> None:
    books = []
    for number, worth in enumerate(WORTHS):
        h = random_history(7 + number, steps=20)
        line = h.timeline()
        book = book_at(POOL, replace(h.market, name=f"m{number}"), line, line.last_block, ended=True)
        books.append(MarketBook(f"m{number}", book, worth))
    assert merged([connected([one]) for one in books]) == connected(books)
