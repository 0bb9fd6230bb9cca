"""Which accounts need the exact rule now: floats that never miss one, integers that decide.

An exposure, a linear form in prices or a box of prices, is asked for when an account, or a parameter it depends on,
changes. Weights are kept divided by the asset's index, so that a form ages with the indexes. Between two updates of an
asset an index grows by a factor within [1 + x, exp(x)], x = rate * seconds / year: linear interest is the lower end,
interest compounded each instant the upper, and a series that is cut off lies between. Collateral is aged by the lower
bound and debt by the upper, so the form read here never lies above the account's own.
Debt is weighted by the margin as well: an account is a candidate where collateral is not above debt by ``margin`` times
the sum of both.

``Screen`` needs to know nothing in advance: an account is read again when values have moved as far as it may bear.
``foresight`` is for histories whose prices and indexes are all known.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Sequence
from copy import copy
from math import exp
from typing import Any, Generic, NamedTuple, Protocol, cast

import numpy as np

from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.protocols.interface import BoxExposure, Exposure, Exposures, LinearExposure, State
from backtest.replay.watch.compiled import Floats, Ints, moved, slacks
from backtest.replay.watch.forms import Form, Forms
from backtest.units import RAY, SECONDS_PER_YEAR

FLOAT_ERROR = 1e-9
"""Bounds the rounding of the sums here, on top of an exposure's own error: 2**-53 times some thousand operations."""
SLACK = np.array([2.0**-k for k in range(1, 10)])
"""Levels of the screen: what an account at a level may bear at least. Those that bear less than the last are read at
every decision.
"""
NEAR = len(SLACK)
GONE = NEAR + 1
FEW = 4
"""Fewer accounts have their assets' indexes bounded one by one."""
MANY = 200
"""Accounts from which on exposures are asked for all at once."""


class Watch(Protocol[State]):
    """What an engine asks: who may need a look."""

    def touch(self, account: AccountId) -> None:
        """The account changed."""
        ...

    def touch_parameter(self, asset: AssetId | None, name: str = "") -> None:
        """A parameter that exposures depend on changed, of one asset or of no particular one."""
        ...

    def candidates(self, book: Book[State]) -> list[AccountId]:
        """Accounts that may be eligible now, in id order: a superset of those that are."""
        ...


class EveryAccount(Watch[State]):
    """The plain reference: look at everyone, always. ``without``: accounts that are never candidates."""

    def __init__(self, without: frozenset[AccountId] = frozenset()) -> None:
        self._without = without

    def touch(self, account: AccountId) -> None:
        """Nothing to do."""

    def touch_parameter(self, asset: AssetId | None, name: str = "") -> None:
        """Nothing to do."""

    def candidates(self, book: Book[State]) -> list[AccountId]:
        """Everyone."""
        return sorted(account for account in book.protocol.accounts(book.state) if account not in self._without)


class IndexBounds(NamedTuple):
    """Lower and upper bound of each asset's indexes now, in units of one."""

    supply_low: list[float]
    supply_high: list[float]
    borrow_low: list[float]
    borrow_high: list[float]


def index_bounds(book: Book[Any], only: Iterable[AssetId] | None = None) -> IndexBounds:
    """As of the book's time; of some assets only, or of all."""
    count, now = len(book.market.assets), book.now.timestamp
    found = IndexBounds(*([1.0] * count for _ in range(4)))
    for asset in book.indexes if only is None else only:
        if (update := book.indexes.get(asset)) is None:
            continue
        years = max(0, now - update.timestamp) / SECONDS_PER_YEAR
        supply, borrow = update.supply_index / RAY, update.borrow_index / RAY
        supplied, borrowed = update.supply_rate / RAY * years, update.borrow_rate / RAY * years
        found.supply_low[asset], found.supply_high[asset] = supply * (1 + supplied), supply * exp(supplied)
        found.borrow_low[asset], found.borrow_high[asset] = borrow * (1 + borrowed), borrow * exp(borrowed)
    return found


class Rows(Generic[State]):
    """The exposure of each account with debt as a row, asked for again when something touched it.

    Columns of a form are 0: the base currency, 1 + a: a unit of asset a supplied, 1 + assets + a: a unit of it owed.
    Its base is 0, or 1 + the asset that is owed most. A row with a box has no terms. Where a parameter's path is known
    in advance, what accounts that follow it hold of the asset is in a column of its own (``path``; -1: there is none),
    whose values move with it: weights there are divided by what it is now (``share``). Accounts ``without`` have none.
    """

    def __init__(self, assets: int, without: frozenset[AccountId] = frozenset()) -> None:
        self.forms = Forms.of(())
        self.boxes: dict[int, BoxExposure] = {}
        self.account: Ints = np.empty(0, np.int64)
        """Of each row, also of those that are free; there may be more places than rows."""
        self.count = 0
        """Rows there are, with those that are free."""
        self._assets = assets
        self._row: Ints = np.empty(0, np.int64)
        """Of each account, -1: none."""
        self._free: list[int] = []
        self._without = without
        self._dirty: set[AccountId] = set()
        self._all_dirty = False
        self._until: list[tuple[int, tuple[AccountId, ...]]] = []
        """Whose form holds up to which time; the earliest first."""
        self.path: Ints = np.full(assets, -1, np.int64)
        self.share = np.ones(assets)
        self.stepped: set[AssetId] = set()
        """Assets with a path of which something changed since it was last compared with it."""

    def touch(self, account: AccountId) -> None:
        """See ``Watch``."""
        self._dirty.add(account)

    def touch_parameter(self, asset: AssetId | None, *, along: bool = False) -> None:
        """See ``Watch``. ``along``: by what is known of it in advance, which is to be compared."""
        if asset is None:
            self._all_dirty = True
            self.stepped.update(cast("list[AssetId]", np.flatnonzero(self.path >= 0).tolist()))
            return
        columns = [1 + asset]
        if self.path[asset] >= 0:
            self.stepped.add(asset)
        if not (along and self.path[asset] >= 0):
            columns += [1 + self._assets + asset, int(self.path[asset])]
        self._touch_terms(columns)
        self._dirty.update(self.of(row) for row, exposure in self.boxes.items() if asset in exposure.box)

    def leave_path(self, asset: AssetId) -> None:
        """The asset's parameter is not what was known in advance, or nobody asks: accounts are asked anew."""
        self._touch_terms([int(self.path[asset])])
        self.path[asset], self.share[asset] = -1, 1.0

    def _touch_terms(self, columns: Sequence[int]) -> None:
        self._dirty.update(self.account[self.forms.rows_with(columns)].tolist())

    def of(self, row: int) -> AccountId:
        """Whose row it is."""
        return AccountId(int(self.account[row]))

    def copy(self) -> Rows[State]:
        """Independent of this one."""
        made = copy(self)
        made.forms, made.boxes, made.account, made._row = (
            self.forms.copy(),
            self.boxes.copy(),
            self.account.copy(),
            self._row.copy(),
        )
        made._free, made._dirty, made._until = self._free.copy(), self._dirty.copy(), self._until.copy()
        made.path, made.share, made.stepped = self.path.copy(), self.share.copy(), self.stepped.copy()
        return made

    @property
    def waits(self) -> bool:
        """Whether something is to be asked for now."""
        return self._all_dirty or bool(self._dirty)

    @property
    def until(self) -> int:
        """The last time (seconds) at which all forms hold."""
        return self._until[0][0] if self._until else sys.maxsize

    def all(self) -> Ints:
        """Rows in use."""
        return self._row[self._row >= 0]

    def refresh(self, book: Book[State]) -> tuple[list[int], list[int]]:
        """Ask for what was touched: rows that are new or changed, and those that are no more."""
        now = book.now.timestamp
        while self._until and self._until[0][0] < now:
            self._dirty.update(heapq.heappop(self._until)[1])
        if self._all_dirty:
            self._dirty.update(cast("list[AccountId]", np.flatnonzero(self._row >= 0).tolist()))
            self._all_dirty = False
        if self._without:
            self._dirty -= self._without
        if not self._dirty:
            return [], []
        few = len(self._dirty) < FEW
        bounds = None if few else index_bounds(book)
        ask, state, clock = book.protocol.exposure, book.state, book.now
        changed: list[int] = []
        gone: list[int] = []
        forms: list[Form] = []
        if len(self._dirty) >= MANY and (found := book.protocol.exposures(state, list(self._dirty), clock)) is not None:
            changed = self._put_many(found, book, bounds or index_bounds(book))
        many = len(changed)
        for account in sorted(self._dirty):
            exposure = ask(state, account, clock)
            row = int(self._row[account]) if account < len(self._row) else -1
            if exposure is not None:
                row = self._take(account) if row < 0 else row
                changed.append(row)
                forms.append(self._form(row, exposure, book, bounds))
            elif row >= 0:
                gone.append(row)
                self.boxes.pop(row, None)
                self.forms.drop(row)
        self.leave(gone)
        self._dirty.clear()
        self.forms.put(changed[many:], forms)
        return changed, gone

    def outside(self, row: int, price: Floats) -> bool:
        """Whether prices (by asset, NaN where missing) have left the row's box."""
        return any(not low <= price[asset] <= high for asset, (low, high) in self.boxes[row].box.items())

    def accounts(self, rows: Ints | Sequence[int]) -> list[AccountId]:
        """In id order."""
        return cast("list[AccountId]", np.sort(self.account[rows]).tolist())

    def leave(self, rows: Sequence[int]) -> None:
        """These rows are no more."""
        if len(rows):
            self._row[self.account[rows]] = -1
            self._free += rows

    def _put_many(self, found: Exposures, book: Book[State], bounds: IndexBounds) -> list[int]:
        """Forms of many accounts, which are then clean; their rows."""
        accounts = cast("list[AccountId]", found.account.tolist())
        self._reach(int(found.account.max(initial=-1)))
        for account in found.account[self._row[found.account] < 0].tolist():
            self._take(account)
        rows: list[int] = self._row[found.account].tolist()
        for row in rows if self.boxes else ():
            self.boxes.pop(row, None)
        count, margin = len(rows), found.relative_error + FLOAT_ERROR
        tilt = (1 + margin) / (1 - margin)
        of = np.repeat(np.arange(count), np.diff(found.start))
        asset, owed, amount = found.asset, found.owed, found.amount
        price = np.array([float(book.oracle.get(each.id, 0)) for each in book.market.assets])
        worth = np.where(owed, amount * price[asset], 0.0)
        base = np.zeros(count, np.int32)
        order = np.argsort(worth, kind="stable")  # the last one stays
        order = order[worth[order] > 0]
        base[of[order]] = 1 + asset[order]
        weight = np.where(
            owed, amount / np.array(bounds.borrow_low)[asset] * tilt, amount / np.array(bounds.supply_high)[asset]
        )
        columns = np.where(owed, 1 + self._assets + asset, 1 + asset)
        if found.follows is not None:
            along = np.flatnonzero(found.follows[of] & ~owed & (self.path[asset] >= 0))
            columns[along] = self.path[asset[along]]
            weight[along] /= self.share[asset[along]]
        below = np.flatnonzero(found.constant < 0)
        of, owed = np.concatenate([of, below]), np.concatenate([owed, np.ones(len(below), np.bool_)])
        column = np.concatenate([columns, np.zeros(len(below), np.int64)])
        weight = np.concatenate([weight, -found.constant[below] * tilt])
        order = np.lexsort((owed, of))
        ends = np.concatenate([[0], np.cumsum(np.bincount(2 * of + owed, minlength=2 * count))])
        self.forms.put_packed(rows, ends, column[order].astype(np.int32), weight[order], base)
        self._dirty.difference_update(accounts)
        if found.until is not None:
            heapq.heappush(self._until, (found.until, tuple(accounts)))
        return rows

    def _take(self, account: AccountId) -> int:
        self._reach(account)
        if self._free:
            row = self._free.pop()
        else:
            row = self.count
            self.count += 1
            if self.count > len(self.account):
                self.account = np.concatenate([self.account, np.empty(max(64, len(self.account)), np.int64)])
        self.account[row] = account
        self._row[account] = row
        return row

    def _reach(self, account: int) -> None:
        """Room for rows of accounts up to this one."""
        if account >= len(self._row):
            more = max(account + 1, 2 * len(self._row)) - len(self._row)
            self._row = np.concatenate([self._row, np.full(more, -1, np.int64)])

    def _form(self, row: int, exposure: Exposure, book: Book[State], bounds: IndexBounds | None) -> Form:
        if isinstance(exposure, BoxExposure):
            self.boxes[row] = exposure
            return (), (), 0
        self.boxes.pop(row, None)
        if exposure.until is not None:
            heapq.heappush(self._until, (exposure.until, (self.of(row),)))
        return self._linear(exposure, book, bounds or index_bounds(book, exposure.weights))

    def _linear(self, exposure: LinearExposure, book: Book[State], bounds: IndexBounds) -> Form:
        margin = exposure.relative_error + FLOAT_ERROR
        tilt = (1 + margin) / (1 - margin)
        held, owed = [], []
        base, most = 0, 0.0
        price, debts = book.oracle, exposure.debt
        if exposure.constant > 0:
            held.append((0, exposure.constant))
        elif exposure.constant < 0:
            owed.append((0, -exposure.constant * tilt))
        for asset, weight in exposure.weights.items():
            debt = debts.get(asset)
            if debt is None:
                debt = max(0.0, -weight)
            if weight + debt > 0:
                along = exposure.follows and self.path[asset] >= 0
                column, share = (int(self.path[asset]), self.share[asset]) if along else (1 + asset, 1.0)
                held.append((column, (weight + debt) / bounds.supply_high[asset] / share))
            if debt > 0:
                owed.append((1 + self._assets + asset, debt / bounds.borrow_low[asset] * tilt))
                worth = debt * price.get(asset, 0)
                if worth > most:
                    base, most = 1 + asset, worth
        return held, owed, base


class Screen(Watch[State]):
    """See the module. ``looked`` and ``read`` count candidates and forms read so far.

    Rows stand at levels, by how far all collateral may fall and all debt rise at once. Each level has the values of a
    moment in units of each base; while no value is further than a share s from it, (1 + s) / (1 - s) bounds how far
    values moved since any row of the level was read.
    """

    def __init__(self, assets: int, without: frozenset[AccountId] = frozenset()) -> None:
        self._rows: Rows[State] = Rows(assets, without)
        self._assets = assets
        self._bases = np.array([0, *range(1 + assets, 1 + 2 * assets)], dtype=np.int32)
        self._used = np.zeros((len(self._bases), 1 + 2 * assets), dtype=np.bool_)
        self._limit = SLACK / (2 + SLACK) * (1 - 1e-9)
        self._then = np.full((NEAR, len(self._bases), 1 + 2 * assets), np.nan)
        self._due = np.zeros((NEAR, len(self._bases)), dtype=np.bool_)
        self._level = np.empty(0, dtype=np.int8)
        self._at: list[list[set[int]]] = [[set() for _ in self._bases] for _ in range(NEAR + 1)]
        """Rows by level and base; all that are near in one set."""
        self._in: dict[int, set[int]] = {}
        """The set that a row is in."""
        self._near = np.empty(0, dtype=np.int64)
        self._unread: list[int] = []
        self.looked = 0
        self.read = 0

    @classmethod
    def over(cls, rows: Rows[State], assets: int) -> Screen[State]:
        """Of rows that are known already, which become its own: all are read at the next decision."""
        made = cls(assets)
        for asset in np.flatnonzero(rows.path >= 0).tolist():
            rows.leave_path(AssetId(asset))
        made._rows, made._unread = rows, rows.all().tolist()
        return made

    def copy(self) -> Screen[State]:
        """Independent of this one."""
        made = copy(self)
        made._rows, made._unread = self._rows.copy(), self._unread.copy()
        made._used, made._then, made._due = self._used.copy(), self._then.copy(), self._due.copy()
        made._level, made._near = self._level.copy(), self._near.copy()
        made._at = [[rows.copy() for rows in level] for level in self._at]
        now = {
            id(mine): own
            for level, ours in zip(self._at, made._at, strict=True)
            for mine, own in zip(level, ours, strict=True)
        }
        made._in = {row: now[id(here)] for row, here in self._in.items()}
        return made

    def touch(self, account: AccountId) -> None:
        """The account's exposure is asked for again before the next reading."""
        self._rows.touch(account)

    def touch_parameter(self, asset: AssetId | None, name: str = "") -> None:
        """Every row with a term in the asset, or every row, is asked for again."""
        self._rows.touch_parameter(asset)

    def candidates(self, book: Book[State]) -> list[AccountId]:
        """See ``Watch``. Reads what was touched, what is near, and the levels whose values have moved by more than they
        may.
        """
        rows, forms = self._rows, self._rows.forms
        changed, gone = rows.refresh(book)
        if self._unread:
            known, self._unread = set(changed) | set(gone), []
            changed += [row for row in rows.all().tolist() if row not in known]
        if changed or gone:
            self._note(changed, gone)
        values = self._values(book)
        moved(values, self._bases, self._used, self._limit, self._then, self._due)
        parts = [self._near, self._linear(changed)]
        for at, base in np.argwhere(self._due).tolist():
            if self._at[at][base]:
                parts.append(np.fromiter(self._at[at][base], dtype=np.int64, count=len(self._at[at][base])))
        due = np.unique(np.concatenate(parts)) if changed or len(parts) > 2 else self._near
        slack = np.empty(len(due))
        slacks(due, forms.span, forms.column, forms.weight, values, slack)
        level = np.where(slack >= SLACK[-1], np.searchsorted(-SLACK, -slack), NEAR)
        self._move(due, level)
        hit = due[~(slack > 0)].tolist()
        if rows.boxes:
            price = np.array([book.oracle.get(asset.id, np.nan) for asset in book.market.assets])
            hit += [row for row in rows.boxes if rows.outside(row, price)]
        self.read += len(due) + len(rows.boxes)
        self.looked += len(hit)
        return rows.accounts(hit)

    def _linear(self, rows: Sequence[int]) -> Ints:
        """Those that are no boxes."""
        return np.array([row for row in rows if row not in self._rows.boxes], dtype=np.int64)

    def _move(self, rows: Ints, level: Ints) -> None:
        """Rows stand at these levels from now on."""
        moves = np.flatnonzero(self._level[rows] != level)
        if not len(moves):
            return
        rows, level = rows[moves], level[moves]
        self._level[rows] = level
        for row, at, base in zip(rows.tolist(), level.tolist(), self._rows.forms.base[rows].tolist(), strict=True):
            self._leave(row)
            self._in[row] = self._at[at][base if at < NEAR else 0]
            self._in[row].add(row)
        self._near = np.fromiter(self._at[NEAR][0], dtype=np.int64, count=len(self._at[NEAR][0]))

    def _leave(self, row: int) -> None:
        if (here := self._in.pop(row, None)) is not None:
            here.discard(row)

    def _note(self, changed: list[int], gone: list[int]) -> None:
        """Rows came, changed or went: the levels cover all, and it is known which values matter in units of each
        base.
        """
        forms = self._rows.forms
        if len(self._level) < len(forms):
            self._level = np.concatenate([self._level, np.full(len(forms) - len(self._level), GONE, dtype=np.int8)])
        for row in (*changed, *gone):
            self._leave(row)
        self._level[changed + gone] = GONE
        self._near = self._near[self._level[self._near] == NEAR]
        of, terms = forms.terms(self._linear(changed))
        self._used[forms.base[of], forms.column[terms]] = True

    def _values(self, book: Book[State]) -> Floats:
        """One a column, NaN where there is no price."""
        values, assets = np.full(1 + 2 * self._assets, np.nan), self._assets
        values[0] = 1.0
        bounds = index_bounds(book)
        for asset, price in book.oracle.items():
            values[1 + asset] = price * bounds.supply_low[asset]
            values[1 + assets + asset] = price * bounds.borrow_high[asset]
        return values
