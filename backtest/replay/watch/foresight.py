"""The screen of a replay without feedback: prices and indexes are history's, so each account's next look is known in
advance.

A tick is a transaction that changes a price or an index. Its values hold from it up to the next: collateral with the
interest earned at its beginning, debt with that owed at its end, so that whoever looks in between, or when interest
alone has moved, is on the safe side. An account is looked up in a pyramid of values when it changes, and again after
each tick at which it was a candidate; between, it costs nothing.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from copy import copy
from dataclasses import dataclass

import numpy as np

from backtest.model import AccountId, AssetId, IndexUpdate, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.interface import State
from backtest.replay.timeline import Timeline
from backtest.replay.watch import queue
from backtest.replay.watch.bounds import Pyramid, groups
from backtest.replay.watch.compiled import Floats, Ints
from backtest.replay.watch.screen import Rows, Watch
from backtest.units import RAY, SECONDS_PER_YEAR

RAMP = 4
"""Steps of an asset's parameter ahead from which on values move with it."""
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


@dataclass(frozen=True, slots=True)
class _Shares:
    """A parameter known in advance: the share that holds from each of these events on."""

    seq: Ints
    share: Floats

    def at(self, seq: int) -> float:
        """After an event, not before the first of these."""
        return float(self.share[np.searchsorted(self.seq, seq, side="right") - 1])


class Ticks:
    """What a timeline says of prices and indexes in advance. Tick 0 is before anything is known.

    Attributes:
        seq: of each tick, the last of its price and index events; increasing.
        left: of each tick from the first on, how many of the timeline's transactions come after the one before it.
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
        self.left: Ints = len(timeline.ends) - transaction
        self._timeline = timeline
        np.maximum.at(seq, tick_of, np.concatenate([price[1], index[1]]))
        np.maximum.at(time, tick_of, np.concatenate([price[2], index[2]]))
        self.seq: list[int] = seq.astype(np.int64).tolist()
        self._time = time
        self._until = np.append(time[1:], max(time[-1], timeline.timestamps[-1]))
        self._prices = [_steps(tick_of[: len(price_row)], price[0] == asset, price[3:]) for asset in range(assets)]
        self._indexes = [_steps(tick_of[len(price_row) :], index[0] == asset, index[2:]) for asset in range(assets)]

    def at(self, seq: int) -> int:
        """The tick that holds after an event."""
        return bisect_right(self.seq, seq) - 1

    def after(self, time: int) -> int:
        """The first tick later than that."""
        return int(np.searchsorted(self._time, time, side="right"))

    def ramps(self, name: str, after: int) -> dict[AssetId, list[tuple[int, int]]]:
        """Assets whose parameter of this name changes often after an event: the seq of each change, and to what."""
        found: dict[AssetId, list[tuple[int, int]]] = {}
        for change in self._timeline.params:
            if change.name == name and change.asset is not None and change.category is None and change.seq > after:
                found.setdefault(change.asset, []).append((change.seq, change.value))
        return {asset: changes for asset, changes in found.items() if len(changes) >= RAMP}

    def least(self, steps: _Shares, first: int, stop: int) -> Floats:
        """The least share that holds within each of these ticks."""
        ends = np.array(self.seq[first + 1 : stop + 1] + [sys.maxsize] * (first < stop >= len(self.seq)))
        begins = np.array(self.seq[first:stop])
        found = steps.share[np.searchsorted(steps.seq, begins, side="right") - 1]
        within = np.searchsorted(steps.seq, begins, side="right"), np.searchsorted(steps.seq, ends, side="left")
        for tick in np.flatnonzero(within[0] < within[1]).tolist():
            found[tick] = min(found[tick], steps.share[within[0][tick] : within[1][tick]].min())
        return found

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

    def __init__(self, timeline: Timeline, assets: int, without: frozenset[AccountId] = frozenset()) -> None:
        self.rows: Rows[State] = Rows(assets, without)
        self.ticks = Ticks(timeline, assets)
        self.tick = -1
        self.first = self.stop = 0
        """The ticks of the chunk in memory."""
        self._price = np.empty((0, assets))
        self.pyramid: Pyramid | None = None
        self.due, self.head = np.empty(0, np.int64), np.empty(0, np.int64)
        self.after, self.before = np.empty(0, np.int64), np.empty(0, np.int64)
        """When each row is looked up next, in ticks of the chunk (see ``queue``)."""
        self._shares: dict[AssetId, _Shares] | None = None
        """Parameters whose steps are known in advance; None: nobody asked yet."""
        self._share_parameter = ""
        self.looked = 0
        self.read = 0

    def copy(self) -> Foresight[State]:
        """Independent of this one; what is known of prices and indexes is shared."""
        made = copy(self)
        made.rows = self.rows.copy()
        made.due, made.head, made.after, made.before = (part.copy() for part in self._queue)
        return made

    @property
    def _queue(self) -> tuple[Ints, Ints, Ints, Ints]:
        return self.due, self.head, self.after, self.before

    def touch(self, account: AccountId) -> None:
        """The account is looked up again before the next answer."""
        self.rows.touch(account)

    def touch_parameter(self, asset: AssetId | None, name: str = "") -> None:
        """Every account with a term in the asset, or every account, is looked up again; but for those whose next look
        is found with the steps that were known in advance.
        """
        self.rows.touch_parameter(asset, along=name == self._share_parameter)

    def candidates(self, book: Book[State]) -> list[AccountId]:
        """See ``Watch``."""
        self.go_to(self.ticks.at(book.seq), book)
        now = queue.due_in(self.tick - self.first, self.tick - self.first, self.head, self.after)
        self.looked += len(now)
        return self.rows.accounts(now)

    def go_to(self, tick: int, book: Book[State]) -> None:
        """The book stands at this tick: every row is due when it may be unsafe, at this one or later."""
        if self._shares is None:
            self._shares = self._see_ahead(book)
        for asset in self.rows.stepped:
            share = book.protocol.collateral_share(book.state, asset)
            if share == self._shares[asset].at(book.seq):
                self.rows.share[asset] = share
            else:
                self.rows.leave_path(asset)
        self.rows.stepped.clear()
        changed, gone = self.rows.refresh(book)
        if (more := len(self.rows.account) - len(self.due)) > 0:
            room = np.full(more, queue.NEVER, np.int64)
            self.due, self.after, self.before = (
                np.concatenate([part, room]) for part in (self.due, self.after, self.before)
            )
        if gone:
            queue.remove_all(np.array(gone, np.int64), *self._queue)
        look_up = np.array(changed, np.int64)
        if tick != self.tick:
            if tick >= self.stop or self.pyramid is None:
                self._load(tick)
                look_up = self.rows.all()
            else:
                passed = queue.due_in(self.tick - self.first, tick - self.first, self.head, self.after)
                look_up = np.unique(np.concatenate([look_up, passed])) if changed else passed
            self.tick = tick
        if len(look_up):
            self._look_up(look_up)

    @property
    def waits(self) -> bool:
        """Whether somebody was touched and not looked up yet."""
        return self.rows.waits

    @property
    def next_look(self) -> int:
        """Up to which seq (exclusive) there is no candidate, as long as nothing is touched; -1 where it is not
        known, or there is one.
        """
        if self.tick < 0 or self.rows.waits:
            return -1
        tick = self.first + queue.first_due(self.tick - self.first, self.head)
        if self.rows.until < sys.maxsize:
            tick = min(tick, self.ticks.after(self.rows.until))
        if tick <= self.tick:
            return -1
        return self.ticks.seq[tick] if tick < len(self.ticks.seq) else sys.maxsize

    def _see_ahead(self, book: Book[State]) -> dict[AssetId, _Shares]:
        """What follows of parameters in history, as shares."""
        share, state = book.protocol.collateral_share, book.state
        self._share_parameter = book.protocol.share_parameter
        found: dict[AssetId, _Shares] = {}
        for asset, changes in self.ticks.ramps(self._share_parameter, book.seq).items():
            if (now := share(state, asset)) is not None:
                then = [share(state, asset, value) or 0.0 for _, value in changes]
                seq = np.array([-sys.maxsize, *(seq for seq, _ in changes)])
                found[asset] = _Shares(seq, np.array([now, *then]))
                self.rows.path[asset] = 2 * len(self.rows.path) + len(found)
                self.rows.share[asset] = now
        return found

    def _load(self, tick: int) -> None:
        """The chunk of ticks from this one on."""
        self.first, self.stop = tick, min(tick + CHUNK, len(self.ticks.seq))
        self._price = self.ticks.prices(self.first, self.stop)
        assets = self._price.shape[1]
        bases = [0, *(0 if leader < 0 else 1 + assets + leader for leader in groups(self._price))]
        values = self.ticks.values(self.first, self.stop, self._price)
        along = [
            values[:, 1 + asset] * self.ticks.least(steps, self.first, self.stop)
            for asset, steps in (self._shares or {}).items()
        ]
        self.pyramid = Pyramid.over(np.column_stack([values, *along]) if along else values, bases)
        self.due[:] = queue.NEVER
        self.head = np.full(self.stop - self.first, -1, np.int64)

    def _look_up(self, rows: Ints) -> None:
        """The next tick from this one on at which each row may be unsafe."""
        assert self.pyramid is not None
        boxes = self.rows.boxes
        linear = rows[~np.isin(rows, list(boxes))] if boxes else rows
        start = np.full(len(linear), self.tick - self.first)
        found, read = self.pyramid.first_unsafe(
            self.rows.forms, linear, start, np.full(len(linear), self.stop - self.first)
        )
        self.read += read
        self._note(linear, found)
        if boxes:
            outside = [row for row in rows.tolist() if row in boxes]
            self._note(
                np.array(outside, dtype=np.int64),
                np.array([self._first_outside(row) for row in outside], dtype=np.int64),
            )

    def _note(self, rows: Ints, ticks: Ints) -> None:
        """These rows are looked up again at these ticks of the chunk."""
        queue.put_all(rows, ticks, *self._queue)

    def _first_outside(self, row: int) -> int:
        prices = self._price[self.tick - self.first :]
        self.read += len(prices)
        inside = np.ones(len(prices), dtype=np.bool_)
        for asset, (low, high) in self.rows.boxes[row].box.items():
            inside &= (low <= prices[:, asset]) & (prices[:, asset] <= high)
        outside = np.flatnonzero(~inside)
        return self.tick - self.first + int(outside[0]) if len(outside) else self.stop - self.first


class EndingForesight(Foresight[State]):
    """Foresight that may end: what was touched since it began is kept, for the screen that takes its place.

    Attributes:
        touched: accounts. parameters: assets (None: all) of which a parameter was.
    """

    touched: set[AccountId]
    parameters: set[AssetId | None]

    @classmethod
    def of(cls, known: Foresight[State]) -> EndingForesight[State]:
        """Independent of what it goes on from."""
        made = cls.__new__(cls)
        made.__dict__.update(known.copy().__dict__)
        made.touched, made.parameters = set(), set()
        return made

    def touch(self, account: AccountId) -> None:
        """See ``Watch``."""
        self.touched.add(account)
        super().touch(account)

    def touch_parameter(self, asset: AssetId | None, name: str = "") -> None:
        """See ``Watch``."""
        self.parameters.add(asset)
        super().touch_parameter(asset, name)

    def told(self, screen: Watch[State]) -> Watch[State]:
        """A screen that was made where this one began, told what was touched since."""
        for asset in self.parameters:
            screen.touch_parameter(asset)
        for account in self.touched:
            screen.touch(account)
        return screen
