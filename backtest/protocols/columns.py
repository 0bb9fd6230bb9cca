"""A book as columns: what a protocol's rules take of each account, kept from one look at all accounts to the next.

A state keeps ``Columns`` and which accounts changed since; copies of a state share the columns, which never change. A
protocol names its columns by saying what its accounts' rows are; the rest is here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from backtest.errors import PriceMissing
from backtest.model import AccountId
from backtest.protocols.interface import AccountView, Ints, Views
from backtest.words.columns import DIGITS, Found, Words, words

_SIGN, _LOW = np.uint64(63), (1 << 64) - 1
_DIGITS = np.array([1.0, 2.0**64, 2.0**128, 2.0**192])


@dataclass(frozen=True, slots=True)
class Columns:
    """``account`` increasing; ``values``: columns x accounts x 4 digits, integers, not negative (or no words)."""

    account: Ints
    values: Words

    def among(self, accounts: Sequence[AccountId]) -> Columns:
        """Those of some accounts that are here with numbers that are words."""
        ids = np.unique(np.array(accounts, np.int64))
        place = np.searchsorted(self.account, ids)
        there = place < len(self.account)
        place = place[there]
        place = place[self.account[place] == ids[there]]
        if len(place):
            place = place[(self.values[:, place, 3] >> _SIGN == 0).all(axis=0)]
        return Columns(self.account[place], self.values[:, place])

    def floats(self, column: int) -> npt.NDArray[np.float64]:
        """One of the columns to 15 digits, for screens."""
        found: npt.NDArray[np.float64] = self.values[column].astype(np.float64) @ _DIGITS
        return found


@dataclass(slots=True)
class InPlace:
    """The numbers of every account, by id, which compiled code reads and writes in place.

    Attributes:
        values: accounts x numbers x 2 digits, the low one first; zeros of those that hold nothing.
        plain: accounts with numbers that are longer: they are left to the plain rules.
        rank: of each account, its place when they are sorted by address; copies share it.
        moved: accounts that are not as in ``values``.
    """

    values: Words
    plain: npt.NDArray[np.bool_]
    rank: Ints
    moved: set[AccountId] = field(default_factory=set)

    @classmethod
    def of(cls, columns: Columns, addresses: Sequence[str]) -> InPlace:
        """As the columns are; ``addresses`` of all accounts that there may be."""
        count, width = len(addresses), len(columns.values)
        values, plain, rank = (
            np.zeros((count, width, 2), np.uint64),
            np.zeros(count, np.bool_),
            np.empty(count, np.int64),
        )
        values[columns.account] = columns.values[:, :, :2].transpose(1, 0, 2)
        plain[columns.account] = columns.values[:, :, 2:].any(axis=(0, 2))
        rank[np.argsort(np.array(addresses, np.bytes_), kind="stable")] = np.arange(count)
        return cls(values, plain, rank)

    def copy(self) -> InPlace:
        """Independent of this one."""
        return replace(self, values=self.values.copy(), plain=self.plain.copy(), moved=self.moved.copy())

    def refresh(self, row: Callable[[AccountId], tuple[int, ...] | None]) -> None:
        """Nobody is ``moved`` any more; ``row`` as in ``refreshed``."""
        for account in self.moved:
            numbers = row(account) or (0,) * self.values.shape[1]
            self.plain[account] = wide = any(number >> 128 for number in numbers)
            self.values[account] = 0 if wide else [(number & _LOW, number >> 64) for number in numbers]
        self.moved.clear()

    def columns(self) -> Columns:
        """Of all that hold anything; nobody is ``moved`` or ``plain``."""
        account = np.flatnonzero(self.values.any(axis=(1, 2)))
        values = np.zeros((self.values.shape[1], len(account), DIGITS), np.uint64)
        values[:, :, :2] = self.values[account].transpose(1, 0, 2)
        return Columns(account, values)


def refreshed(
    known: Columns | None,
    changed: Collection[AccountId],
    every: Callable[[], Iterable[AccountId]],
    row: Callable[[AccountId], tuple[int, ...] | None],
    width: int,
) -> Columns:
    """The columns now, ``width`` of them.

    Args:
        known: as they were when only ``changed`` had not changed yet; None: never made.
        every: all accounts that hold anything, in id order. row: an account's numbers; None: it holds nothing.
    """
    if known is None or 2 * len(changed) > len(known.account):
        return _of(every(), row, width)
    if not changed:
        return known
    new = _of(sorted(changed), row, width)
    stay = ~np.isin(known.account, np.fromiter(changed, np.int64, len(changed)))
    account = known.account[stay]
    place = np.searchsorted(account, new.account)
    values = np.insert(known.values[:, stay], place, new.values, axis=1)
    return Columns(np.insert(account, place, new.account), values)


def _of(accounts: Iterable[AccountId], row: Callable[[AccountId], tuple[int, ...] | None], width: int) -> Columns:
    ids: list[AccountId] = []
    rows: list[tuple[int, ...]] = []
    for account in accounts:
        if (numbers := row(account)) is not None:
            ids.append(account)
            rows.append(numbers)
    values = words([number for numbers in rows for number in numbers]).reshape(len(rows), width, DIGITS)
    return Columns(np.array(ids, np.int64), np.ascontiguousarray(values.transpose(1, 0, 2)))


def views_of(columns: Columns, found: Found, view: Callable[[AccountId], AccountView]) -> Views:
    """The views of all accounts, from what a rule says of them: collateral, debt, borrowing power (base units) and
    health (wad; 0 without debt), in this order. ``view`` is the plain rule, for what does not fit.
    """
    parts = [found.wide(place) for place in range(3)]
    health = found.columns[3]
    fits = parts[0][2] & parts[1][2] & parts[2][2] & ~health[:, 2:].any(axis=1)
    rest: Mapping[AccountId, AccountView | None] = {
        account: _plain(view, account) for account in columns.account[~fits].tolist()
    }
    every = columns.account, *(low for low, _, _ in parts), health[:, :2], np.stack([high for _, high, _ in parts], 1)
    account, collateral, debt, power, both, high = every if fits.all() else (column[fits] for column in every)
    category = np.zeros(len(account), np.int64)
    return Views(account, collateral, debt, power, both, category, rest, high.T if high.any() else None)


def _plain(view: Callable[[AccountId], AccountView], account: AccountId) -> AccountView | None:
    try:
        return view(account)
    except PriceMissing:
        return None
