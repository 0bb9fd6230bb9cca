"""Many accounts at once: a book as columns, and what the rules say of it.

What does not fit (stable debt, an asset without a price or with balances of its own kind, numbers that are no words) is
left to the plain rule. ``tests/protocols/aave_v2/test_valuation.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backtest.model import AccountId, Clock, Prices
from backtest.protocols import columns as rows_of_accounts
from backtest.protocols.aave.math import percent_mul_half_up, ray_mul_half_up
from backtest.protocols.aave_v2.account import FLOAT_ERROR, account_data, account_view
from backtest.protocols.aave_v2.rules import health_of
from backtest.protocols.aave_v2.state import AaveV2State
from backtest.protocols.interface import AccountView, Exposures, Ints, Views
from backtest.units import BPS, RAY
from backtest.words import rule
from backtest.words.columns import DIGITS, Found, Words, over, words

Mask = npt.NDArray[np.bool_]
_PLACES = np.array([1.0, 2.0**64, 2.0**128, 2.0**192])


@dataclass(frozen=True, slots=True)
class Columns:
    """Accounts that hold anything, in id order, and their rows, those of each one after another. Never changed.

    ``start``: where the rows of each begin, and the end. A row is a debt (``owed``), or an asset flagged as collateral,
    also without a balance, with what is stored (``scaled``). ``plain``: whether the account has debt at a stable rate.
    """

    account: Ints
    start: Ints
    plain: Mask
    asset: Ints
    owed: Mask
    scaled: Words

    def rows(self, places: Ints) -> Ints:
        """The rows of the accounts at these places."""
        counts = self.start[places + 1] - self.start[places]
        ends = np.cumsum(counts)
        found: Ints = np.repeat(self.start[places] - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)
        return found

    def among(self, places: Ints) -> Columns:
        """Some of the accounts."""
        rows, counts = self.rows(places), self.start[places + 1] - self.start[places]
        start = np.concatenate([[0], np.cumsum(counts)])
        return Columns(
            self.account[places], start, self.plain[places], self.asset[rows], self.owed[rows], self.scaled[rows]
        )


@rule
def added(
    collateral: int, by_ltv: int, by_threshold: int, debt: int, owed: int, scaled: int, index: int, price: int,
    unit: int, ltv: int, threshold: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """An account's totals (base units; two of them times basis points) with one more asset: GenericLogic
    calculateUserAccountData.
    """
    value = price * ray_mul_half_up(scaled, index) // unit
    if owed:
        return collateral, by_ltv, by_threshold, debt + value
    if threshold == 0:
        return collateral, by_ltv, by_threshold, debt
    return collateral + value, by_ltv + value * ltv, by_threshold + value * threshold, debt


@rule
def viewed(collateral: int, by_ltv: int, by_threshold: int, debt: int) -> tuple[int, int, int, int]:
    """Collateral, debt, borrowing power (base units) and health (wad, 0 without debt) that the totals come to."""
    power = percent_mul_half_up(collateral, by_ltv // collateral) if collateral else 0
    return collateral, debt, power, health_of(collateral, by_threshold, debt) if debt else 0


def views(state: AaveV2State, prices: Prices, now: Clock) -> Views:
    """See ``LendingProtocol.views``."""
    columns, reserves = _columns(state), state.reserves
    known = [bool(prices.oracle.get(reserve.asset)) and not reserve.other_balances for reserve in reserves]
    price = words([prices.oracle.get(reserve.asset, 0) for reserve in reserves])
    income = words([reserve.income(now.timestamp) for reserve in reserves])
    index = words([reserve.debt_index(now.timestamp) for reserve in reserves])
    unit, ltv, threshold = (
        words([getattr(reserve, name) for reserve in reserves]) for name in ("unit", "ltv", "liquidation_threshold")
    )
    exact = ~columns.plain
    lacking = np.flatnonzero(~np.array(known, np.bool_)[columns.asset])
    exact[np.searchsorted(columns.start, lacking, side="right") - 1] = False
    totals: Words = np.zeros((4, len(columns.account), DIGITS), np.uint64)
    counts = np.diff(columns.start)
    for turn in range(int(counts.max(initial=0))):  # the first row of each account, then the second, and so on
        of = np.flatnonzero(counts > turn)
        row = columns.start[of] + turn
        asset, owed = columns.asset[row], columns.owed[row]
        found = over(
            added, *(totals[place, of] for place in range(4)), owed.astype(np.int64), columns.scaled[row],
            np.where(owed[:, None], index[asset], income[asset]), price[asset], unit[asset], ltv[asset],
            threshold[asset], rows=len(of),
        )  # fmt: skip
        totals[:, of] = found.columns
        exact[of] &= found.exact
    found = over(viewed, *totals, rows=len(columns.account))
    found = Found(found.columns, found.exact & exact)

    def plain(account: AccountId) -> AccountView:
        return account_view(account_data(state, account, prices.oracle, now))

    return rows_of_accounts.views_of(rows_of_accounts.Columns(columns.account, found.columns), found, plain)


def exposures(state: AaveV2State, accounts: Sequence[AccountId], now: Clock) -> Exposures:
    """See ``LendingProtocol.exposures``: ``account.linear_exposure`` of borrowers without stable debt, each balance
    rounded against the account to a whole unit once more.
    """
    columns, reserves = _columns(state), state.reserves
    ids = np.unique(np.array(accounts, np.int64))
    place = np.searchsorted(columns.account, ids)
    there = place < len(columns.account)
    place = place[there][columns.account[place[there]] == ids[there]]
    before = np.concatenate([[0], np.cumsum(columns.owed)])  # debts before each row
    borrows = before[columns.start[1:]] > before[columns.start[:-1]]
    columns = columns.among(place[borrows[place] & ~columns.plain[place]])
    growth, per_token, threshold = (
        np.array([(r.income(now.timestamp) / RAY, r.debt_index(now.timestamp) / RAY) for r in reserves]).reshape(-1, 2),
        np.array([float(reserve.unit) for reserve in reserves]),
        np.array([reserve.liquidation_threshold for reserve in reserves], np.int64),
    )
    asset, owed = columns.asset, columns.owed
    native = (columns.scaled.astype(np.float64) @ _PLACES) * growth[asset, owed.astype(np.int64)]
    counted = ~owed & (threshold[asset] > 0) & columns.scaled.any(axis=1)
    holder = np.repeat(np.arange(len(columns.account)), np.diff(columns.start))
    lowest, highest = np.full(len(columns.account), BPS + 1), np.full(len(columns.account), -1)
    np.minimum.at(lowest, holder[counted], threshold[asset[counted]])
    np.maximum.at(highest, holder[counted], threshold[asset[counted]])
    averaged = (highest > lowest).astype(np.int64)
    weight = np.maximum(np.floor(native) - 1, 0.0) * (threshold[asset] - averaged[holder]) / (BPS * per_token[asset])
    amount: npt.NDArray[np.float64] = np.where(
        owed, (np.ceil(native) + 1) / per_token[asset], np.where(counted, weight, 0.0)
    )
    terms = np.bincount(holder, owed | counted, len(columns.account)).astype(np.float64)
    return Exposures(columns.account, columns.start, asset, owed, amount, -1.0 - terms, FLOAT_ERROR)


def _columns(state: AaveV2State) -> Columns:
    """The columns of the book now: those known, without whoever changed since, and these anew."""
    known: Columns | None = state.columns
    if known is None or 2 * len(state.moved) > len(known.account):
        known = _made(state, state.accounts)
    elif state.moved:
        stay = known.among(np.flatnonzero(~np.isin(known.account, np.fromiter(state.moved, np.int64))))
        new = _made(state, state.moved)
        parts = stay, new
        counts = np.concatenate([np.diff(part.start) for part in parts])
        joined = Columns(
            np.concatenate([part.account for part in parts]),
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([part.plain for part in parts]),
            np.concatenate([part.asset for part in parts]),
            np.concatenate([part.owed for part in parts]),
            np.concatenate([part.scaled for part in parts]),
        )
        known = joined.among(np.argsort(joined.account, kind="stable"))
    state.columns = known
    state.moved.clear()
    return known


def _made(state: AaveV2State, ids: Collection[AccountId]) -> Columns:
    account: list[int] = []
    start, plain = [0], []
    asset: list[int] = []
    owed: list[bool] = []
    scaled: list[int] = []
    for id in sorted(ids):
        book = state.accounts.get(id)
        if book is None or not (book.collateral or book.owing):
            continue
        sides: Iterable[tuple[bool, Iterable[tuple[int, int]]]] = (
            (False, ((of, book.collateral.get(of, 0)) for of in sorted(book.enabled))),
            (True, sorted(book.debt.items())),
        )
        for side, held in sides:
            for of, amount in held:
                asset.append(of)
                owed.append(side)
                scaled.append(amount)
        account.append(id)
        plain.append(any(debt.principal for debt in book.stable.values()))
        start.append(len(asset))
    return Columns(
        np.array(account, np.int64),
        np.array(start, np.int64),
        np.array(plain, np.bool_),
        np.array(asset, np.int64),
        np.array(owed, np.bool_),
        words(scaled),
    )
