"""The accounts of a book as columns that compiled code reads and writes in place.

Made from the account objects, and kept beside them: an account that Python changed is read anew before the columns are
asked, and what compiled code did is written into the objects when somebody reads those (``AaveState.accounts``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from backtest.model import AccountId
from backtest.words.columns import Words

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """Accounts that hold anything, in id order, as columns. Never changed.

    ``start``: where the rows of each begin, and the end; a row is a scaled balance (low, high): a debt (``owed``), or
    of an asset flagged as collateral. ``others``: how many more assets each holds. ``plain``: accounts that have no
    rows here.
    """

    account: Ints
    category: Ints
    others: Ints
    start: Ints
    asset: Ints
    owed: Mask
    scaled: Words
    plain: tuple[AccountId, ...]
    known: dict[bytes, Valuation] = field(default_factory=dict, compare=False, repr=False)
    """What these accounts are worth at some moments, by all that values depend on: scenarios that share columns look
    at the same moments.
    """

    def holding(self, assets: Mask) -> Ints:
        """Places of the accounts that have collateral in any of these assets (a flag each)."""
        rows = np.concatenate([[0], np.cumsum(assets[self.asset] & ~self.owed)])
        return np.flatnonzero(rows[self.start[1:]] > rows[self.start[:-1]])


@dataclass(slots=True)
class Valuation:
    """Base values of the rows; and in ``found`` what came out with some weights (``valuation.weights``): of each
    account collateral, debt and power (three rows), health (low, high), and whether they are exact.
    """

    value: Words
    groups: list[int]
    group: Ints
    weights: Words
    found: tuple[Words, Words, Mask]


@dataclass(slots=True)
class Live:
    """Rows of every account, by id: ``[begin, end)``, as those of ``Columns``; those beyond ``used`` mean nothing.

    Attributes:
        base: columns of all accounts at some time, which copies share. changed: accounts that are not as there.
        plain: accounts that have no rows here: they are left to the plain rules.
        groups, group: the categories there are, and of each account the place of its own among them; -1: it is left to
            the plain rules.
    """

    base: Columns
    begin: Ints
    end: Ints
    asset: Ints
    owed: Mask
    scaled: Words
    used: int
    category: Ints
    others: Ints
    plain: Mask
    changed: Mask
    groups: list[int]
    group: Ints

    @classmethod
    def of(cls, base: Columns, accounts: int) -> Live:
        """As the columns are; ``accounts``: how many there may be."""
        begin, end, category, others = (np.zeros(accounts, np.int64) for _ in range(4))
        begin[base.account], end[base.account] = base.start[:-1], base.start[1:]
        category[base.account], others[base.account] = base.category, base.others
        plain, changed = np.zeros(accounts, np.bool_), np.zeros(accounts, np.bool_)
        plain[list(base.plain)] = True
        used, groups = len(base.asset), np.unique(base.category).tolist()
        group = np.zeros(accounts, np.int64)
        group[base.account] = np.searchsorted(groups, base.category)
        group[plain] = -1
        return cls(
            base, begin, end, base.asset.copy(), base.owed.copy(), base.scaled.copy(), used, category, others, plain,
            changed, groups, group,
        )  # fmt: skip

    def copy(self) -> Live:
        """Independent of this one; the base is shared."""
        return replace(
            self,
            begin=self.begin.copy(), end=self.end.copy(), asset=self.asset.copy(), owed=self.owed.copy(),
            scaled=self.scaled.copy(), category=self.category.copy(), others=self.others.copy(),
            plain=self.plain.copy(), changed=self.changed.copy(), groups=self.groups.copy(), group=self.group.copy(),
        )  # fmt: skip

    def put(self, ids: Iterable[AccountId], columns: Columns) -> None:
        """These accounts are as in the columns, which hold nobody else; those that are not there hold nothing."""
        which = np.fromiter(ids, np.int64)
        self._reach(int(which.max(initial=-1)))
        self.begin[which] = self.end[which] = 0
        self.category[which], self.others[which], self.plain[which], self.changed[which] = 0, 0, False, True
        self.plain[list(columns.plain)] = True
        rows = len(columns.asset)
        if self.used + rows > len(self.asset):
            more = max(rows, len(self.asset) // 2, 64)
            self.asset = np.concatenate([self.asset, np.zeros(more, np.int64)])
            self.owed = np.concatenate([self.owed, np.zeros(more, np.bool_)])
            self.scaled = np.concatenate([self.scaled, np.zeros((more, 2), np.uint64)])
        new = slice(self.used, self.used + rows)
        self.asset[new], self.owed[new], self.scaled[new] = columns.asset, columns.owed, columns.scaled
        self.begin[columns.account], self.end[columns.account] = (
            self.used + columns.start[:-1], self.used + columns.start[1:],
        )  # fmt: skip
        self.category[columns.account], self.others[columns.account] = columns.category, columns.others
        self.groups += sorted(set(columns.category.tolist()).difference(self.groups))
        self.group[columns.account] = [self.groups.index(category) for category in columns.category.tolist()]
        self.group[list(columns.plain)] = -1
        self.used = new.stop

    def _reach(self, account: int) -> None:
        """Room for accounts up to this one."""
        if account >= len(self.begin):
            more = account + 1 - len(self.begin)
            for name in ("begin", "end", "category", "others", "plain", "changed", "group"):
                known = getattr(self, name)
                setattr(self, name, np.concatenate([known, np.zeros(more, known.dtype)]))

    def among(self, ids: Ints) -> Columns:
        """Of these accounts (increasing) those that hold anything."""
        ids = ids[ids < len(self.begin)]
        sizes = self.end[ids] - self.begin[ids]
        start = np.concatenate([[0], np.cumsum(sizes)])
        row = np.arange(start[-1]) + np.repeat(self.begin[ids] - start[:-1], sizes)
        scaled = self.scaled[row]
        held = np.bincount(np.repeat(np.arange(len(ids)), sizes), scaled.any(axis=1), len(ids)) + self.others[ids] > 0
        if not held.all():
            keep = np.repeat(held, sizes)
            row, scaled = row[keep], scaled[keep]
            start = np.concatenate([[0], np.cumsum(sizes[held])])
        account = ids[held]
        return Columns(
            account, self.category[account], self.others[account], start, self.asset[row], self.owed[row], scaled,
            tuple(AccountId(one) for one in ids[self.plain[ids]].tolist()),
        )  # fmt: skip
