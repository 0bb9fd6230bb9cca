"""The screen of a replay without feedback: prices and indexes are history's, so each account's next look is known in
advance.

A tick is a transaction that changes a price or an index. Its values hold from it up to the next: collateral with the
interest earned at its beginning, debt with that owed at its end, so that whoever looks in between, or when interest
alone has moved, is on the safe side. An account is looked up in a pyramid of values when it changes, and again after
each tick at which it was a candidate; between, it costs nothing.
"""

from __future__ import annotations

import heapq
import sys
from bisect import bisect_right
from collections.abc import Collection
from copy import copy
from dataclasses import dataclass

import numpy as np

from backtest.model import AccountId, AssetId, IndexUpdate, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.interface import State
from backtest.replay.timeline import Timeline
from backtest.replay.watch.bounds import Pyramid, groups
from backtest.replay.watch.compiled import Floats, Ints
from backtest.replay.watch.screen import Rows, Watch
from backtest.units import RAY, SECONDS_PER_YEAR

CHUNK = 65_536
"""Ticks whose values are in memory at a time: 8 bytes x (2 x assets + 1) each, and a seventh of that for each group of
assets.
"""


@dataclass(frozen=True, slots=True)
class _Steps:
    """Something of one asset that holds from each of these ticks on: columns of ``values``."""

    tick: Ints
    values: Floats

    def at(self, first: int, stop: int, before: float) -> Floats:
        """Columns x ticks [first, stop); ``before`` where nothing holds yet."""
        place = np.searchsorted(self.tick, np.arange(first, stop), side="right") - 1
        found = np.full((self.values.shape[1], stop - first), before)
        found[:, place >= 0] = self.values[place[place >= 0]].T
        return found


class Ticks:
    """What a timeline says of prices and indexes in advance. Tick 0 is before anything is known.

    Attributes:
        seq: of each tick, the last of its price and index events; increasing.
    """

    def __init__(self, timeline: Timeline, assets: int) -> None:
        self._assets = assets
        price_row, price = timeline.floats(PriceUpdate, "asset", "seq", "timestamp", "price")
        index_row, index = timeline.floats(
            IndexUpdate, "asset", "seq", "timestamp", "supply_index", "borrow_index", "supply_rate", "borrow_rate"
        )
        rows = np.concatenate([price_row, index_row])
        transaction, tick_of = np.unique(np.searchsorted(timeline.ends, rows, side="right"), return_inverse=True)
        tick_of = tick_of + 1
        seq, time = np.full(len(transaction) + 1, -2.0), np.zeros(len(transaction) + 1)
        np.maximum.at(seq, tick_of, np.concatenate([price[1], index[1]]))
        np.maximum.at(time, tick_of, np.concatenate([price[2], index[2]]))
        self.seq: list[int] = seq.astype(np.int64).tolist()
        self._time = time
        self._until = np.append(time[1:], max(time[-1], timeline.timestamps[-1]))
        self._prices = [_steps(tick_of[: len(price_row)], price[0] == asset, price[3:]) for asset in range(assets)]
        self._indexes = [_steps(tick_of[len(price_row) :], index[0] == asset, index[2:]) for asset in range(assets)]

    def prices(self, first: int, stop: int) -> Floats:
        """Ticks x assets, NaN where there is none."""
        return np.stack([steps.at(first, stop, np.nan)[0] for steps in self._prices], axis=1)

    def values(self, first: int, stop: int, prices: Floats) -> Floats:
        """Ticks x columns as of ``screen.Rows``, from these prices."""
        values = np.empty((stop - first, 1 + 2 * self._assets))
        values[:, 0] = 1.0
        for asset, steps in enumerate(self._indexes):
            updated, supply, borrow, supply_rate, borrow_rate = steps.at(first, stop, np.nan)
            earned = supply_rate / RAY * np.maximum(0, self._time[first:stop] - updated) / SECONDS_PER_YEAR
            due = borrow_rate / RAY * np.maximum(0, self._until[first:stop] - updated) / SECONDS_PER_YEAR
            listed = ~np.isnan(updated)
            values[:, 1 + asset] = prices[:, asset] * np.where(listed, supply / RAY * (1 + earned), 1.0)
            values[:, 1 + self._assets + asset] = prices[:, asset] * np.where(listed, borrow / RAY * np.exp(due), 1.0)
        return values


def _steps(tick: Ints, mine: np.ndarray, columns: list[Floats]) -> _Steps:
    return _Steps(tick[mine], np.stack(columns, axis=1)[mine])


class Foresight(Watch[State]):
    """See the module. Wrong as soon as a price or an index is not history's. ``looked`` and ``read`` count candidates
    and forms evaluated.
    """

    def __init__(self, timeline: Timeline, assets: int) -> None:
        self._rows: Rows[State] = Rows(assets)
        self._ticks = Ticks(timeline, assets)
        self._tick = -1
        self._first = self._stop = 0
        """The ticks of the chunk in memory."""
        self._price = np.empty((0, assets))
        self._pyramid: Pyramid | None = None
        self._next: list[tuple[int, int]] = []
        """A queue of (tick, row); it holds where ``_due`` says the same."""
        self._due: dict[int, int] = {}
        self._now: set[int] = set()
        """Rows that are candidates at the tick."""
        self.looked = 0
        self.read = 0

    def copy(self) -> Foresight[State]:
        """Independent of this one; what is known of prices and indexes is shared."""
        made = copy(self)
        made._rows, made._next, made._due, made._now = (
            self._rows.copy(),
            self._next.copy(),
            self._due.copy(),
            self._now.copy(),
        )
        return made

    def touch(self, account: AccountId) -> None:
        """The account is looked up again before the next answer."""
        self._rows.touch(account)

    def touch_parameter(self, asset: AssetId | None) -> None:
        """Every account with a term in the asset, or every account, is looked up again."""
        self._rows.touch_parameter(asset)

    def candidates(self, book: Book[State]) -> list[AccountId]:
        """See ``Watch``."""
        changed, gone = self._rows.refresh(book)
        for row in gone:
            self._due.pop(row, None)
            self._now.discard(row)
        tick = bisect_right(self._ticks.seq, book.seq) - 1
        rows: Collection[int] = changed
        if tick != self._tick:
            self._tick = tick
            due = {*changed, *self._now}
            while self._next and self._next[0][0] <= tick:
                at, row = heapq.heappop(self._next)
                if self._due.get(row) == at:
                    due.add(row)
            rows = due
            if tick >= self._stop:
                self._load(tick)
                rows = self._rows.all()
        if rows:
            self._look_up(rows)
        self.looked += len(self._now)
        return self._rows.accounts(self._now)

    @property
    def next_look(self) -> int:
        """Up to which seq (exclusive) there is no candidate, as long as nothing is touched; -1 where it is not
        known.
        """
        if self._now or self._tick < 0 or self._rows.waits:
            return -1
        while self._next and self._due.get(self._next[0][1]) != self._next[0][0]:
            heapq.heappop(self._next)
        tick = min(self._next[0][0] if self._next else self._stop, self._stop)
        return self._ticks.seq[tick] if tick < len(self._ticks.seq) else sys.maxsize

    def _load(self, tick: int) -> None:
        """The chunk of ticks from this one on."""
        self._first, self._stop = tick, min(tick + CHUNK, len(self._ticks.seq))
        self._next.clear()
        self._price = self._ticks.prices(self._first, self._stop)
        assets = self._price.shape[1]
        bases = [0, *(0 if leader < 0 else 1 + assets + leader for leader in groups(self._price))]
        self._pyramid = Pyramid.over(self._ticks.values(self._first, self._stop, self._price), bases)

    def _look_up(self, rows: Collection[int]) -> None:
        """The next tick from this one on at which each row may be unsafe."""
        assert self._pyramid is not None
        boxes = self._rows.boxes
        linear = np.array([row for row in rows if row not in boxes] if boxes else list(rows), dtype=np.int64)
        start = np.full(len(linear), self._tick - self._first)
        found, read = self._pyramid.first_unsafe(
            self._rows.forms, linear, start, np.full(len(linear), self._stop - self._first)
        )
        self.read += read
        found += self._first
        self._note(linear, found)
        if boxes:
            outside = [row for row in rows if row in boxes]
            self._note(
                np.array(outside, dtype=np.int64),
                np.array([self._first_outside(row) for row in outside], dtype=np.int64),
            )

    def _note(self, rows: Ints, ticks: Ints) -> None:
        """These rows are looked up again at these ticks."""
        self._due.update(zip(rows.tolist(), ticks.tolist(), strict=True))
        now = ticks == self._tick
        self._now.difference_update(rows[~now].tolist())
        self._now.update(rows[now].tolist())
        later = ~now & (ticks < self._stop)
        queued = list(zip(ticks[later].tolist(), rows[later].tolist(), strict=True))
        if len(queued) > len(self._next):  # a heap of all is made in the time of its length
            self._next += queued
            heapq.heapify(self._next)
        else:
            for one in queued:
                heapq.heappush(self._next, one)

    def _first_outside(self, row: int) -> int:
        prices = self._price[self._tick - self._first :]
        self.read += len(prices)
        inside = np.ones(len(prices), dtype=np.bool_)
        for asset, (low, high) in self._rows.boxes[row].box.items():
            inside &= (low <= prices[:, asset]) & (prices[:, asset] <= high)
        outside = np.flatnonzero(~inside)
        return self._tick + int(outside[0]) if len(outside) else self._stop
