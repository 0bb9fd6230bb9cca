"""Which accounts need the exact rule now: floats that never miss one, integers that decide.

Each account with debt has a row: its exposure, a linear form in prices or a box of prices. Weights are kept divided by the
asset's index, so that a row ages with the indexes and is asked for again only when the account, or a parameter it depends on,
changes. Between two updates of an asset an index grows by a factor within [1 + x, exp(x)], x = rate * seconds / year: linear
interest is the lower end, interest compounded each instant the upper, and Aave's truncated series lies between. Collateral is
aged by the lower bound and debt by the upper, so the form read here never lies above the account's own.

An account is a candidate when its form is at most ``margin`` times the sum of the absolute terms. After each full reading
those within ``BAND`` of it are kept near; the others cannot become candidates until some price (with its index) has moved by
about that much: with collateral down and debt up by at most a fraction d, ``v - m * abs`` falls by at most ``d (1 + m) abs``.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from backtest.model import AccountId, AssetId, IndexUpdate
from backtest.protocols import BoxExposure, Exposure, LinearExposure, State
from backtest.replay.book import Book
from backtest.units import RAY, SECONDS_PER_YEAR

Floats = npt.NDArray[np.float64]

BAND = 0.05
"""Accounts whose form is below this share of the sum of the absolute terms are read at every decision."""
_FLOAT_ERROR = 1e-9
"""Bounds the rounding of the sums here, on top of an exposure's own error: 2**-53 times some thousand operations."""


class Watch(Protocol[State]):
    """What an engine asks: who may need a look."""

    def touch(self, account: AccountId) -> None:
        """The account changed."""
        ...

    def touch_parameter(self, asset: AssetId | None) -> None:
        """A parameter that exposures depend on changed, of one asset or of no particular one."""
        ...

    def candidates(self, book: Book[State]) -> list[AccountId]:
        """Accounts that may be eligible now, in id order: a superset of those that are."""
        ...


class EveryAccount(Watch[State]):
    """The plain reference: look at everyone, always."""

    def touch(self, account: AccountId) -> None:
        """Nothing to do."""

    def touch_parameter(self, asset: AssetId | None) -> None:
        """Nothing to do."""

    def candidates(self, book: Book[State]) -> list[AccountId]:
        """Everyone."""
        return sorted(book.protocol.accounts(book.state))


@dataclass(frozen=True, slots=True)
class _Values:
    """Prices of all assets now (0 where there is none), and the value of a unit of collateral (lower bound) and of debt (upper)."""

    price: Floats
    priced: npt.NDArray[np.bool_]
    collateral: Floats
    debt: Floats


class Screen(Watch[State]):
    """See the module. One row an account with debt; ``looked`` and ``read`` count candidates and rows read so far."""

    def __init__(self, assets: int) -> None:
        self._row: dict[AccountId, int] = {}
        self._account = np.full(0, -1, dtype=np.int64)
        self._up = np.empty((0, assets))  # collateral weights divided by the supply index
        self._down = np.empty((0, assets))  # debt weights divided by the borrow index
        self._constant = np.empty(0)
        self._margin = np.empty(0)
        self._low = np.empty((0, assets))  # boxes; a linear row has the whole line
        self._high = np.empty((0, assets))
        self._free: list[int] = []
        self._dirty: set[AccountId] = set()
        self._all_dirty = False
        self._until: list[tuple[int, AccountId]] = []
        self._near: set[int] = set()
        self._near_then = 0
        self._last: _Values | None = None
        """Prices of the last full reading, and how many rows were near then."""
        self._widest = 0.0
        self.looked = 0
        self.read = 0

    def touch(self, account: AccountId) -> None:
        """The account's exposure is asked for again before the next reading."""
        self._dirty.add(account)

    def touch_parameter(self, asset: AssetId | None) -> None:
        """Every row with a weight in the asset, or every row, is asked for again."""
        if asset is None:
            self._all_dirty = True
        else:
            held = (self._up[:, asset] > 0) | (self._down[:, asset] > 0) | np.isfinite(self._low[:, asset]) | np.isfinite(self._high[:, asset])
            self._dirty.update(AccountId(a) for a in self._account[held & (self._account >= 0)].tolist())

    def candidates(self, book: Book[State]) -> list[AccountId]:
        """See ``Watch``. Cost: one product over the near rows; over all rows when prices moved far since the last full reading."""
        self._refresh(book)
        now = self._values(book)
        full = self._is_full_reading_due(now)
        rows = np.flatnonzero(self._account >= 0) if full else np.fromiter(self._near, dtype=np.int64, count=len(self._near))
        self.read += len(rows)
        up, down = self._up[rows], self._down[rows]
        plus, minus, constant = up @ now.collateral, down @ now.debt, self._constant[rows]
        value = constant + plus - minus
        size = np.abs(constant) + plus + minus
        always = np.isnan(self._margin[rows])  # boxes
        hit = value <= self._margin[rows] * size
        if always.any():
            low, high = self._low[rows], self._high[rows]
            inside = np.where(now.priced, (low <= now.price) & (now.price <= high), np.isneginf(low) & np.isposinf(high))
            hit = np.where(always, ~inside.all(axis=1), hit)
        if not now.priced.all():  # the exact rule says what a missing price means
            unpriced = ((up[:, ~now.priced] > 0) | (down[:, ~now.priced] > 0)).any(axis=1)
            hit, always = hit | unpriced, always | unpriced
        if full:
            self._near = set(rows[always | (value < BAND * size)].tolist())
            self._last, self._near_then = now, len(self._near)
        found = np.sort(self._account[rows[hit]]).tolist()
        self.looked += len(found)
        return [AccountId(account) for account in found]

    def _is_full_reading_due(self, now: _Values) -> bool:
        last = self._last
        if last is None or len(self._near) > 2 * self._near_then + 256 or (now.priced != last.priced).any():
            return True
        with np.errstate(divide="ignore", invalid="ignore"):
            lost = np.nan_to_num(1 - now.collateral / last.collateral, nan=0.0)
            gained = np.nan_to_num(now.debt / last.debt - 1, nan=0.0)
        moved = max(lost.max(initial=0.0), gained.max(initial=0.0))
        return bool(moved >= (BAND - self._widest) / (1 + self._widest))

    def _values(self, book: Book[State]) -> _Values:
        count = len(book.market.assets)
        price, priced = np.zeros(count), np.zeros(count, dtype=bool)
        for asset, value in book.oracle.items():
            price[asset], priced[asset] = value, True
        supply_low, _ = _index_bounds(book, "supply", count)
        _, borrow_high = _index_bounds(book, "borrow", count)
        return _Values(price, priced, price * supply_low, price * borrow_high)

    # -- rows --------------------------------------------------------------------------------------------------------

    def _refresh(self, book: Book[State]) -> None:
        now = book.now.timestamp
        while self._until and self._until[0][0] < now:
            self._dirty.add(heapq.heappop(self._until)[1])
        if self._all_dirty:
            self._dirty.update(self._row)
            self._all_dirty = False
        if not self._dirty:
            return
        bounds = (*_index_bounds(book, "supply", self._up.shape[1]), *_index_bounds(book, "borrow", self._up.shape[1]))
        for account in sorted(self._dirty):
            self._set(account, book.protocol.exposure(book.state, account, book.now), bounds)
        self._dirty.clear()

    def _set(self, account: AccountId, exposure: Exposure | None, bounds: tuple[Floats, Floats, Floats, Floats]) -> None:
        row = self._row.get(account)
        if exposure is None:
            if row is not None:
                del self._row[account]
                self._account[row] = -1
                self._near.discard(row)
                self._free.append(row)
            return
        if row is None:
            row = self._row[account] = self._take_row()
            self._account[row] = account
        self._near.add(row)
        self._up[row] = self._down[row] = self._constant[row] = self._margin[row] = 0.0
        self._low[row], self._high[row] = -np.inf, np.inf
        if isinstance(exposure, BoxExposure):
            self._margin[row] = np.nan
            for asset, (low, high) in exposure.box.items():
                self._low[row, asset], self._high[row, asset] = low, high
            return
        self._set_linear(row, account, exposure, bounds)

    def _set_linear(self, row: int, account: AccountId, exposure: LinearExposure, bounds: tuple[Floats, Floats, Floats, Floats]) -> None:
        _, supply_high, borrow_low, _ = bounds
        self._constant[row] = exposure.constant
        self._margin[row] = exposure.relative_error + _FLOAT_ERROR
        self._widest = max(self._widest, float(self._margin[row]))
        for asset, weight in exposure.weights.items():
            debt = exposure.debt.get(asset, max(0.0, -weight))
            self._up[row, asset] = max(0.0, weight + debt) / supply_high[asset]
            self._down[row, asset] = debt / borrow_low[asset]
        if exposure.until is not None:
            heapq.heappush(self._until, (exposure.until, account))

    def _take_row(self) -> int:
        if not self._free:
            old = len(self._account)
            new = max(64, old)
            grow: list[tuple[str, Any]] = [("_account", -1), ("_up", 0.0), ("_down", 0.0), ("_constant", 0.0), ("_margin", 0.0)]
            for name, fill in [*grow, ("_low", -np.inf), ("_high", np.inf)]:
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.full((new, *array.shape[1:]), fill, dtype=array.dtype)]))
            self._free = list(range(old + new - 1, old - 1, -1))
        return self._free.pop()


def _index_bounds(book: Book[Any], side: str, count: int) -> tuple[Floats, Floats]:
    """Lower and upper bound of each asset's index now, as floats in units of one."""
    low, high = np.ones(count), np.ones(count)
    now = book.now.timestamp
    for asset, update in book.indexes.items():
        index, rate = _stored(update, side)
        grown = rate * max(0, now - update.timestamp) / SECONDS_PER_YEAR
        low[asset] = index * (1 + grown)
        high[asset] = index * np.exp(grown)
    return low, high


def _stored(update: IndexUpdate, side: str) -> tuple[float, float]:
    if side == "supply":
        return update.supply_index / RAY, update.supply_rate / RAY
    return update.borrow_index / RAY, update.borrow_rate / RAY
