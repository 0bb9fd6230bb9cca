"""Totals of many accounts at once: ``account.account_data``'s twin in 64-bit words, exact or not given.

Rounding is the rules' own, told apart by what is added before a division rounds down. Whatever does not fit (stable debt, an amount of 2**100
or more, a value of 2**62 base units or more, a price that is missing) is left to the plain rule. ``tests/test_aave_valuation.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols import AccountView, Exposures, Views
from backtest.protocols.aave_v3.account import FLOAT_ERROR, account_data, account_view, is_collateral, liquidation_threshold, loan_to_value
from backtest.protocols.aave_v3.math import percent_mul_half_up, ray_mul_down, ray_mul_half_up, ray_mul_up
from backtest.protocols.aave_v3.rules import health_of_averaged_threshold
from backtest.protocols.aave_v3.state import AaveState, Account
from backtest.units import BPS, RAY, WAD, mul_div_up

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

U = np.uint64
_0, _1, _32, _64 = U(0), U(1), U(32), U(64)
_LOW, _BASE, _TOP = U(0xFFFFFFFF), U(1 << 32), U(1 << 63)
_BILLION, _WAD, _BPS, _LIMIT = U(10**9), U(WAD), U(BPS), U(1 << 62)
_WORD = (1 << 64) - 1
KEPT = 8
"""Moments of which the values of all rows are kept, 8 bytes a row each."""
_LARGEST = 1 << 100
"""Scaled amounts below it are valued here; indexes are below 2**112."""

_ADDED: dict[Callable[[int, int], int], int] = {ray_mul_down: 0, ray_mul_half_up: RAY // 2, ray_mul_up: RAY - 1}
"""What a rounding of rays adds before it divides."""

F = TypeVar("F", bound=Callable[..., Any])
Word = np.uint64
Pair = tuple[np.uint64, np.uint64]


def compiled(function: F) -> F:
    """The function as machine code, kept on disk; it may run while other threads do."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))


@compiled
def _mul(a: Word, b: Word) -> Pair:
    """a * b as (high, low)."""
    al, ah, bl, bh = a & _LOW, a >> _32, b & _LOW, b >> _32
    low = al * bl
    middle = ah * bl + (low >> _32)
    cross = al * bh + (middle & _LOW)
    return ah * bh + (middle >> _32) + (cross >> _32), (cross << _32) | (low & _LOW)


@compiled
def _add_at(n: Words, place: int, word: Word) -> None:
    """Add a word to a number of little-endian words, from its place on."""
    while word != _0 and place < len(n):
        n[place] += word
        word = _1 if n[place] < word else _0
        place += 1


@compiled
def _add_product(n: Words, place: int, a: Word, b: Word) -> None:
    high, low = _mul(a, b)
    _add_at(n, place, low)
    _add_at(n, place + 1, high)


@compiled
def _shrink(n: Words, divisor: Word) -> None:
    """Divide by a divisor of at most 32 bits, rounding down."""
    rest = _0
    for place in range(len(n) - 1, -1, -1):
        word = n[place]
        if word == _0 and rest == _0:
            continue
        part = (rest << _32) | (word >> _32)
        high = part // divisor
        part = ((part - high * divisor) << _32) | (word & _LOW)
        low = part // divisor
        rest = part - low * divisor
        n[place] = (high << _32) | low


@compiled
def _divide(high: Word, low: Word, divisor: Word) -> Pair:
    """Quotient and rest of a number of two words, whose high one is below the divisor (Hacker's Delight, divlu)."""
    shift = _0
    while divisor < _TOP:
        divisor <<= _1
        shift += _1
    if shift != _0:
        high = (high << shift) | (low >> (_64 - shift))
        low <<= shift
    first, second = divisor >> _32, divisor & _LOW
    quotient = _0
    for part in (low >> _32, low & _LOW):
        digit = high // first
        rest = high - digit * first
        while digit >= _BASE or digit * second > ((rest << _32) | part):
            digit -= _1
            rest += first
            if rest >= _BASE:
                break
        high = ((high << _32) | part) - digit * divisor
        quotient = (quotient << _32) | digit
    return quotient, high >> shift


@compiled
def _value(n: Words, row: Words, index: Words, added: Words, price: Word, units: Words, up: bool) -> Word:
    """Base value of a scaled amount; ``_LIMIT`` where it does not fit."""
    n[:] = _0
    _add_product(n, 0, row[0], index[0])
    _add_product(n, 1, row[0], index[1])
    _add_product(n, 1, row[1], index[0])
    _add_product(n, 2, row[1], index[1])
    _add_at(n, 0, added[0])
    _add_at(n, 1, added[1])
    for _ in range(3):  # a ray is a billion, three times
        _shrink(n, _BILLION)
    low, high, over = n[0], n[1], n[2] | n[3]
    n[:] = _0
    _add_product(n, 0, low, price)
    _add_product(n, 1, high, price)
    if up:
        _add_at(n, 0, units[0] * units[1] - _1)
    _shrink(n, units[0])
    _shrink(n, units[1])
    return n[0] if not (over | n[1] | n[2] | n[3]) and n[0] < _LIMIT else _LIMIT


@compiled
def _row_values(
    asset: Ints, owed: Mask, scaled: Words, price: Words, units: Words, index: Words, added: Words, value_up: bool, found: Words
) -> None:  # fmt: skip
    """Base value of each row. ``index`` and ``added`` are by side: [0] of collateral, [1] of debt."""
    n = np.zeros(4, np.uint64)
    for row in range(len(asset)):
        of = asset[row]
        side = 1 if owed[row] else 0
        found[row] = _value(n, scaled[row], index[side, of], added[side], price[of], units[of], value_up and owed[row])


@compiled
def _values(
    start: Ints,
    asset: Ints,
    owed: Mask,
    values: Words,
    category: Ints,
    price: Words,
    counts: Mask,
    ltv: Words,
    threshold: Words,
    averaged: bool,
    power_added: Word,
    totals: Words,
    health: Words,
    fits: Mask,
) -> None:
    """See ``views``; ``values`` are those of the rows."""
    n = np.zeros(4, np.uint64)
    for account in range(len(start) - 1):
        group = category[account]
        collateral = debt = ltv_high = ltv_low = high = low = _0
        fit = True
        for row in range(start[account], start[account + 1]):
            of = asset[row]
            if price[of] == _0:
                fit = False
                break
            value = values[row]
            if owed[row]:
                debt += value
            elif not counts[of]:
                continue
            else:
                collateral += value
                more, part = _mul(value, ltv[group, of])
                ltv_low += part
                ltv_high += more + (_1 if ltv_low < part else _0)
                more, part = _mul(value, threshold[group, of])
                low += part
                high += more + (_1 if low < part else _0)
            if value >= _LIMIT or collateral >= _LIMIT or debt >= _LIMIT:
                fit = False
                break
        if not fit:
            continue
        power = _0
        if collateral:
            average, _ = _divide(ltv_high, ltv_low, collateral)
            n[:] = _0
            _add_product(n, 0, collateral, average)
            _add_at(n, 0, power_added)
            _shrink(n, _BPS)
            power = n[0]
            if n[1] != _0 or power >= _LIMIT:
                continue
        if debt:
            if averaged:
                average = _divide(high, low, collateral)[0] if collateral else _0
                n[:] = _0
                _add_product(n, 0, collateral, average)
                _add_at(n, 0, _BPS >> _1)
                _shrink(n, _BPS)
                low, high = n[0], n[1]
            n[:] = _0
            _add_product(n, 0, low, _WAD)
            _add_product(n, 1, high, _WAD)
            _add_at(n, 0, debt >> _1)
            if n[2] >= debt or n[3] != _0:
                continue
            middle, last = n[1], n[0]
            quotient_high, rest = _divide(n[2], middle, debt)
            quotient_low, rest = _divide(rest, last, debt)
            n[:] = _0
            n[0], n[1] = quotient_low, quotient_high
            if not averaged:
                _shrink(n, _BPS)
            health[account, 0], health[account, 1] = n[0], n[1]
        totals[0, account], totals[1, account], totals[2, account] = collateral, debt, power
        fits[account] = True


@dataclass(frozen=True, slots=True)
class Columns:
    """Accounts that hold anything, in id order, as columns. Never changed.

    ``start``: where the rows of each begin, and the end; a row is a scaled balance (low, high): a debt (``owed``), or of an asset flagged as
    collateral. ``plain``: accounts that have no rows here.
    """

    account: Ints
    category: Ints
    start: Ints
    asset: Ints
    owed: Mask
    scaled: Words
    plain: tuple[AccountId, ...]
    known: dict[bytes, Words] = field(default_factory=dict, compare=False, repr=False)
    """Base values of the rows at some moments, by all that they depend on: scenarios that share columns look at the same moments."""

    def taken(self, places: Ints) -> Columns:
        """Those of some accounts, by their places; none are plain."""
        sizes = self.start[places + 1] - self.start[places]
        start = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.arange(start[-1]) + np.repeat(self.start[places] - start[:-1], sizes)
        return Columns(self.account[places], self.category[places], start, self.asset[rows], self.owed[rows], self.scaled[rows], ())

    def and_those(self, other: Columns) -> Columns:
        """With those of other accounts behind, hence in no order."""
        return Columns(
            account=np.concatenate([self.account, other.account]),
            category=np.concatenate([self.category, other.category]),
            start=np.concatenate([self.start, other.start[1:] + self.start[-1]]),
            asset=np.concatenate([self.asset, other.asset]),
            owed=np.concatenate([self.owed, other.owed]),
            scaled=np.concatenate([self.scaled, other.scaled]),
            plain=self.plain + other.plain,
        )


def columns_of(accounts: Mapping[AccountId, Account], ids: Collection[AccountId], large: Collection[AccountId] = ()) -> Columns:
    """Those of some accounts; ``large`` are known to have amounts that do not fit."""
    account: list[int] = []
    category: list[int] = []
    start = [0]
    asset: list[int] = []
    owed: list[bool] = []
    scaled: list[int] = []
    plain: list[AccountId] = []
    for id in sorted(ids):
        book = accounts.get(id)
        if book is None or not (book.collateral or book.debt or book.stable):
            continue
        if book.stable:
            if book.collateral or book.debt or any(stable.principal for stable in book.stable.values()):
                plain.append(id)
            continue
        if id in large:
            plain.append(id)
            continue
        held, debts = book.collateral, book.debt
        for flagged in book.enabled:
            asset.append(flagged)
            owed.append(False)
            scaled.append(held.get(flagged, 0))
        if debts:
            asset += debts
            owed += [True] * len(debts)
            scaled += debts.values()
        account.append(id)
        category.append(book.emode)
        start.append(len(asset))
    if max(scaled, default=0) >= _LARGEST:  # they are rare: it is not asked for each
        of = np.repeat(account, np.diff(start)).tolist()
        return columns_of(accounts, ids, {AccountId(id) for id, amount in zip(of, scaled, strict=True) if amount >= _LARGEST})
    words = np.empty((len(scaled), 2), np.uint64)
    words[:, 0] = np.array([amount & _WORD for amount in scaled], np.uint64)
    words[:, 1] = np.array([amount >> 64 for amount in scaled], np.uint64)
    return Columns(
        account=np.array(account, np.int64),
        category=np.array(category, np.int64),
        start=np.array(start, np.int64),
        asset=np.array(asset, np.int64),
        owed=np.array(owed, np.bool_),
        scaled=words,
        plain=tuple(plain),
    )


def _weights(state: AaveState, columns: Columns) -> tuple[Ints, Words, Words]:
    """The group of each account, by its e-mode; loan-to-value and threshold (bps) of each group and asset."""
    rules, reserves = state.rules, state.reserves
    groups = sorted(set(columns.category.tolist()))
    ltv, threshold = np.zeros((2, len(groups), len(reserves)), np.uint64)
    for row, group in enumerate(groups):
        of, category = Account(emode=group), state.categories.get(group) if group else None
        ltv[row] = [loan_to_value(rules, reserve, of, category) for reserve in reserves]
        threshold[row] = [liquidation_threshold(rules, reserve, of, category) for reserve in reserves]
    return np.searchsorted(groups, columns.category), ltv, threshold


def _whole(state: AaveState) -> Columns:
    """The state's columns, made anew where there are none or most accounts changed since."""
    if state.columns is None or 2 * len(state.moved) > len(state.columns.account):
        state.columns, state.moved = columns_of(state.accounts, state.accounts), set()
    whole: Columns = state.columns
    return whole


def _some(state: AaveState, accounts: Sequence[AccountId]) -> Columns:
    """Some accounts as they are now: from the state's columns where they did not change since. A large part of all makes them first."""
    if 4 * len(accounts) > len(state.accounts):
        _whole(state)
    moved = accounts if state.columns is None else state.moved.intersection(accounts)
    changed = columns_of(state.accounts, moved)
    if len(moved) == len(accounts):
        return changed
    whole: Columns = state.columns
    wanted = np.setdiff1d(np.array(accounts, np.int64), np.fromiter(moved, np.int64, len(moved)))
    places = np.searchsorted(whole.account, wanted)
    known = whole.taken(places[np.append(whole.account, -1)[places] == wanted])
    return known.and_those(changed) if moved else known


def exposures(state: AaveState, accounts: Sequence[AccountId], now: Clock) -> Exposures:
    """``account.linear_exposure`` of those of some different accounts that fit and hold anything.

    In doubles, hence a unit more on the safe side; where the contract floors an average of thresholds, always a basis point lower.
    """
    rules, reserves, timestamp, columns = state.rules, state.reserves, now.timestamp, _some(state, accounts)
    sizes = np.diff(columns.start)
    of = np.repeat(np.arange(len(sizes)), sizes)
    owes = np.zeros(len(sizes), np.bool_)
    owes[of[columns.owed]] = True
    counts = np.array([is_collateral(rules, reserve) for reserve in reserves])
    group, _, threshold = _weights(state, columns)
    keep = owes[of] & (columns.owed | (counts[columns.asset] & columns.scaled.any(axis=1)))
    of, asset, owed = of[keep], columns.asset[keep], columns.owed[keep]
    index = np.array([(reserve.income(timestamp) / RAY, reserve.debt_index(timestamp, rules) / RAY) for reserve in reserves])
    unit = np.array([float(reserve.unit) for reserve in reserves])
    balance = (columns.scaled[keep, 1] * 2.0**64 + columns.scaled[keep, 0]) * index[asset, owed.astype(np.int64)]
    share = np.maximum(threshold[group[of], asset] - float(rules.health is health_of_averaged_threshold), 0) / BPS
    amount = np.where(owed, np.ceil(balance) + 2, np.maximum(np.floor(balance) - 2, 0) * share) / unit[asset]
    terms = np.bincount(of, minlength=len(sizes))
    start = np.concatenate([[0], np.cumsum(terms)])
    return Exposures(columns.account, start, asset, owed, amount, np.where(owes, -1.0 - terms, 0.0), FLOAT_ERROR)


def _valued(state: AaveState, columns: Columns, prices: Mapping[AssetId, int], now: Clock) -> tuple[Words, Words, Mask]:
    """Collateral, debt and power (three rows), health (low, high) of each account, and whether they are exact."""
    count = len(columns.account)
    totals, health, fits = np.zeros((3, count), np.uint64), np.zeros((count, 2), np.uint64), np.zeros(count, np.bool_)
    if not count:
        return totals, health, fits
    rules, reserves, timestamp = state.rules, state.reserves, now.timestamp
    price = np.zeros(len(reserves), np.uint64)
    units = np.ones((len(reserves), 2), np.uint64)
    index = np.zeros((2, len(reserves), 2), np.uint64)
    for reserve in reserves:
        at = reserve.asset
        known, ray = prices.get(at) or 0, (reserve.income(timestamp), reserve.debt_index(timestamp, rules))
        if known < 1 << 63 and reserve.unit <= WAD and max(ray) < 1 << 112:
            price[at] = known
            units[at] = min(reserve.unit, 10**9), max(1, reserve.unit // 10**9)
            index[0, at], index[1, at] = ((each & _WORD, each >> 64) for each in ray)
    group, ltv, threshold = _weights(state, columns)
    added = np.array([(each & _WORD, each >> 64) for each in (_ADDED[rules.collateral_balance], _ADDED[rules.debt_balance])], np.uint64)
    value_up = rules.debt_value is mul_div_up
    moment = b"".join((price.tobytes(), index.tobytes(), added.tobytes(), bytes([value_up])))
    values = columns.known.get(moment)
    if values is None:
        if len(columns.known) >= KEPT:
            columns.known.clear()
        values = np.empty(len(columns.asset), np.uint64)
        _row_values(columns.asset, columns.owed, columns.scaled, price, units, index, added, value_up, values)
        columns.known[moment] = values
    _values(
        columns.start,
        columns.asset,
        columns.owed,
        values,
        group,
        price,
        np.array([is_collateral(rules, reserve) for reserve in reserves]),
        ltv,
        threshold,
        rules.health is health_of_averaged_threshold,
        U(BPS // 2 if rules.borrow_power is percent_mul_half_up else 0),
        totals,
        health,
        fits,
    )
    return totals, health, fits


def views(state: AaveState, prices: Mapping[AssetId, int], now: Clock) -> Views:
    """Every account's view at ``now`` with these oracle prices."""
    whole, moved = _whole(state), state.moved
    stay = np.ones(len(whole.account), np.bool_)
    parts, plain = [(whole, stay)], [account for account in whole.plain if account not in moved]
    if moved:
        ids = np.fromiter(moved, np.int64, len(moved))
        places = np.searchsorted(whole.account, ids)
        stay[places[np.append(whole.account, -1)[places] == ids]] = False
        changed = columns_of(state.accounts, moved)
        parts.append((changed, np.ones(len(changed.account), np.bool_)))
        plain += changed.plain
    made: list[tuple[Any, ...]] = []
    for columns, counts in parts:
        totals, health, fits = _valued(state, columns, prices, now)
        plain += columns.account[counts & ~fits].tolist()
        every, keep = (columns.account, *totals.view(np.int64), health, columns.category), counts & fits
        made.append(every if keep.all() else tuple(column[keep] for column in every))
    if moved:
        joined = [np.concatenate(column) for column in zip(*made, strict=True)]
        order = np.argsort(joined[0], kind="stable")
        made = [tuple(column[order] for column in joined)]
    account, collateral, debt, power, health, category = made[0]
    rest = {one: _plain(state, one, prices, now) for one in sorted(plain)}
    return Views(account, collateral, debt, power, health, category, rest)


def _plain(state: AaveState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountView | None:
    try:
        return account_view(state.rules, account_data(state, account, prices, now), state.accounts[account].emode)
    except PriceMissing:
        return None
