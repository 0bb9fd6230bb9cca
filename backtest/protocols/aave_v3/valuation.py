"""Many accounts at once: a book as columns, and what the compiled rules (``compiled``) say of it, exact or not given.

Whatever does not fit (stable debt, an e-mode with a price of its own, a scaled amount of 2**100 or more, a value of
2**62 base units or more, a price that is missing) is left to the plain rule.
``tests/protocols/aave_v3/test_aave_valuation.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, Prices
from backtest.protocols.aave_v3 import compiled as c
from backtest.protocols.aave_v3.account import (
    FLOAT_ERROR,
    account_data,
    account_view,
    is_collateral,
    liquidation_bonus,
    liquidation_threshold,
    loan_to_value,
)
from backtest.protocols.aave_v3.compiled import Ints, Mask
from backtest.protocols.aave_v3.liquidation import closed
from backtest.protocols.aave_v3.live import Columns, Live, Valuation
from backtest.protocols.aave_v3.math import ROUNDING
from backtest.protocols.aave_v3.rules import (
    Rules,
    aftermath_of_scaled_balance,
    health_of_averaged_threshold,
    max_debt_of_position,
)
from backtest.protocols.aave_v3.state import AaveState, Account
from backtest.protocols.interface import AccountView, Exposures, Views
from backtest.units import BPS, RAY
from backtest.words.columns import Words

_WORD = (1 << 64) - 1
_LARGEST = 1 << 100
"""Scaled amounts below it are valued here; indexes are below 2**112."""
KEPT = 4
"""Moments of which the values of all rows are kept: 8 bytes a row and 41 an account each."""


def columns_of(state: AaveState, ids: Collection[AccountId], large: Collection[AccountId] = ()) -> Columns:
    """Those of some accounts, whose objects are up to date; ``large`` are known to have amounts that do not fit."""
    accounts = state.books
    priced = {number for number, known in state.categories.items() if known.price_source is not None}
    account: list[int] = []
    category: list[int] = []
    others: list[int] = []
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
        if id in large or book.emode in priced:
            plain.append(id)
            continue
        held, debts = book.collateral, book.debt
        unflagged = len(held)
        for flagged in book.enabled:
            asset.append(flagged)
            owed.append(False)
            balance = held.get(flagged, 0)
            scaled.append(balance)
            unflagged -= balance != 0
        if debts:
            asset += debts
            owed += [True] * len(debts)
            scaled += debts.values()
        account.append(id)
        category.append(book.emode)
        others.append(unflagged)
        start.append(len(asset))
    if max(scaled, default=0) >= _LARGEST:  # they are rare: it is not asked for each
        of = np.repeat(account, np.diff(start)).tolist()
        return columns_of(
            state, ids, {AccountId(id) for id, amount in zip(of, scaled, strict=True) if amount >= _LARGEST}
        )
    words = np.empty((len(scaled), 2), np.uint64)
    words[:, 0] = np.array([amount & _WORD for amount in scaled], np.uint64)
    words[:, 1] = np.array([amount >> 64 for amount in scaled], np.uint64)
    return Columns(
        account=np.array(account, np.int64),
        category=np.array(category, np.int64),
        others=np.array(others, np.int64),
        start=np.array(start, np.int64),
        asset=np.array(asset, np.int64),
        owed=np.array(owed, np.bool_),
        scaled=words,
        plain=tuple(plain),
    )


@lru_cache(maxsize=16)
def how_of(rules: Rules) -> Ints:
    """The rules as ``compiled`` reads them."""
    how = np.zeros(c.RULES, np.int64)
    for place, rule in (
        (c.COLLATERAL_BALANCE, rules.collateral_balance), (c.DEBT_BALANCE, rules.debt_balance), (c.COLLATERAL_SCALED,
        rules.collateral_scaled),
        (c.DEBT_SCALED, rules.debt_scaled), (c.DEBT_VALUE, rules.debt_value), (c.BONUS_MUL, rules.bonus_mul),
        (c.NEEDED_DIV, rules.needed_div),
        (c.FEE_DIV, rules.fee_div), (c.FEE_MUL, rules.fee_mul), (c.BORROW_POWER, rules.borrow_power),
    ):  # fmt: skip
        how[place] = ROUNDING[rule]
    how[c.AVERAGED] = rules.health is health_of_averaged_threshold
    how[c.OF_POSITION] = rules.max_debt is max_debt_of_position
    how[c.NO_DUST], how[c.WRITES_OFF] = rules.leaves_no_dust, rules.writes_off
    how[c.BY_SCALED] = rules.aftermath is aftermath_of_scaled_balance
    return how


def terms_of(state: AaveState, assets: Iterable[int], prices: Prices, now: Clock) -> Words:
    """What these assets are at ``now``, as ``compiled`` reads it; a price of 0 where there is none or something does
    not fit.
    """
    rules, timestamp = state.rules, now.timestamp
    terms = np.zeros((len(state.reserves), c.TERMS), np.uint64)
    for at in assets:
        reserve, asset = state.reserves[at], AssetId(at)
        income, index = reserve.income(timestamp), reserve.debt_index(timestamp, rules)
        known = prices.oracle.get(asset) or 0, prices.market.get(asset, 0), prices.execution.get(asset, 0)
        if max(known) < 1 << 63 and reserve.unit < 1 << 63 and max(income, index) < 1 << 112:
            terms[at] = (
                *known, reserve.unit, income >> 64, income & _WORD, index >> 64, index & _WORD,
                reserve.liquidation_protocol_fee,
                is_collateral(rules, reserve), closed(rules, reserve, now) is None, reserve.active != 0,
                reserve.reserve_id, 0,
            )  # fmt: skip
        else:
            terms[at, c.UNFIT] = 1
    return terms


def weights(state: AaveState, category: Ints) -> tuple[Ints, Words]:
    """The group of each account, by its e-mode; threshold, loan-to-value and bonus (three layers, bps) of each group
    and asset.
    """
    groups = sorted(set(category.tolist()))
    return np.searchsorted(groups, category), _weighing(state, groups)


def _weighing(state: AaveState, groups: Sequence[int]) -> Words:
    rules, reserves = state.rules, state.reserves
    found = np.zeros((3, len(groups), len(reserves)), np.uint64)
    for row, group in enumerate(groups):
        if group not in state.weights:
            of, known = Account(emode=group), state.categories.get(group) if group else None
            each = (liquidation_threshold, loan_to_value, liquidation_bonus)
            state.weights[group] = np.array(
                [[weight(rules, reserve, of, known) for reserve in reserves] for weight in each], np.uint64
            )
        found[:, row] = state.weights[group]
    return found


def weights_of(state: AaveState, live: Live) -> tuple[Ints, Words]:
    """The same of all accounts; the group of those that are left to the plain rules, and of treasuries, is -1."""
    treasuries = [reserve.treasury for reserve in state.reserves if reserve.treasury is not None]
    live.group[[treasury for treasury in treasuries if treasury < len(live.group)]] = -1
    return live.group, _weighing(state, live.groups)


def live_of(state: AaveState) -> Live:
    """Every account as it is now, as columns."""
    live = state.live
    if live is None or (
        not state.passed and 2 * np.count_nonzero(live.changed) + 2 * len(state.moved) > len(live.base.account) + 64
    ):
        base = columns_of(state, state.accounts)
        live = state.live = Live.of(base, 1 + max(state.accounts, default=-1))
    elif state.moved:
        live.put(state.moved, columns_of(state, state.moved))
    state.moved.clear()
    return live


def exposures(state: AaveState, accounts: Sequence[AccountId], now: Clock) -> Exposures:
    """``account.linear_exposure`` of those of some accounts that owe, stable debt and very large amounts apart."""
    return _exposures(state, live_of(state).among(np.sort(np.array(accounts, np.int64))), now)


def _exposures(state: AaveState, columns: Columns, now: Clock) -> Exposures:
    """In doubles, hence a unit more on the safe side; where the contract floors an average of thresholds, always a
    basis point lower.
    """
    rules, reserves, timestamp = state.rules, state.reserves, now.timestamp
    sizes = np.diff(columns.start)
    of = np.repeat(np.arange(len(sizes)), sizes)
    some = np.zeros(len(sizes), np.bool_)
    some[of[columns.owed]] = True
    counts = np.array([is_collateral(rules, reserve) for reserve in reserves])
    group, (threshold, _, _) = weights(state, columns.category)
    keep = some[of] & (columns.owed | (counts[columns.asset] & columns.scaled.any(axis=1)))
    of, asset, owed = of[keep], columns.asset[keep], columns.owed[keep]
    index = np.array(
        [(reserve.income(timestamp) / RAY, reserve.debt_index(timestamp, rules) / RAY) for reserve in reserves]
    )
    unit = np.array([float(reserve.unit) for reserve in reserves])
    balance = (columns.scaled[keep, 1] * 2.0**64 + columns.scaled[keep, 0]) * index[asset, owed.astype(np.int64)]
    share = np.maximum(threshold[group[of], asset] - float(rules.health is health_of_averaged_threshold), 0) / BPS
    amount = np.where(owed, np.ceil(balance) + 2, np.maximum(np.floor(balance) - 2, 0) * share) / unit[asset]
    terms = np.bincount(of, minlength=len(sizes))[some]
    start = np.concatenate([[0], np.cumsum(terms)])
    return Exposures(
        columns.account[some], start, asset, owed, amount, -1.0 - terms.astype(np.float64), FLOAT_ERROR,
        follows=columns.category[some] == 0,
    )  # fmt: skip


def _valued(state: AaveState, columns: Columns, prices: Prices, now: Clock) -> tuple[Words, Words, Mask]:
    """Collateral, debt and power (three rows), health (low, high) of each account, and whether they are exact."""
    count = len(columns.account)
    if not count:  # maybe before any rule is known
        return np.zeros((3, 0), np.uint64), np.zeros((0, 2), np.uint64), np.zeros(0, np.bool_)
    terms, how = terms_of(state, range(len(state.reserves)), prices, now), how_of(state.rules)
    known = columns.known.get(key := terms.tobytes() + how.tobytes())
    if known is None:
        groups: list[int] = np.unique(columns.category).tolist()
        group, by = np.searchsorted(groups, columns.category), _weighing(state, groups)
        value, every = np.empty(len(columns.asset), np.uint64), np.arange(count)
        c.row_values(columns.asset, columns.owed, columns.scaled, terms, how, value)
        found = np.zeros((3, count), np.uint64), np.zeros((count, 2), np.uint64), np.zeros(count, np.bool_)
        c.values(every, columns.start, columns.asset, columns.owed, value, group, terms, by[0], by[1], how, *found)
        if len(columns.known) >= KEPT:
            columns.known.clear()
        columns.known[key] = Valuation(value, groups, group, by, found)
        return found
    by = _weighing(state, known.groups)
    differs = (by[:2] != known.weights[:2]).any(axis=(0, 1))
    if not differs.any():
        return known.found
    totals, health, fits = known.found[0].copy(), known.found[1].copy(), known.found[2].copy()
    c.values(
        columns.holding(differs), columns.start, columns.asset, columns.owed, known.value, known.group, terms, by[0],
        by[1], how, totals, health, fits,
    )  # fmt: skip
    return totals, health, fits


def views(state: AaveState, prices: Prices, now: Clock) -> Views:
    """Every account's view at ``now`` with these oracle prices."""
    live = live_of(state)
    moved = np.flatnonzero(live.changed)
    stay = ~live.changed[live.base.account]
    parts = [(live.base, stay)]
    plain: list[int] = np.flatnonzero(live.plain).tolist()
    if len(moved):
        changed = live.among(moved)
        parts.append((changed, np.ones(len(changed.account), np.bool_)))
    made: list[tuple[Any, ...]] = []
    for columns, counts in parts:
        totals, health, fits = _valued(state, columns, prices, now)
        plain += columns.account[counts & ~fits].tolist()
        every, keep = (columns.account, *totals.view(np.int64), health, columns.category), counts & fits
        made.append(every if keep.all() else tuple(column[keep] for column in every))
    if len(moved):
        stayed, came = made
        at = np.searchsorted(stayed[0], came[0])
        made = [tuple(np.insert(one, at, other, axis=0) for one, other in zip(stayed, came, strict=True))]
    account, collateral, debt, power, health, category = made[0]
    rest = {AccountId(one): _plain(state, AccountId(one), prices, now) for one in sorted(plain)}
    return Views(account, collateral, debt, power, health, category, rest)


def shortfall(state: AaveState, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> int:
    """By how much these accounts (increasing) owe more than they hold, base units; whoever holds something without a
    price counts nothing.
    """
    columns = live_of(state).among(np.array(accounts, np.int64))
    (collateral, debt, _), _, fits = _valued(state, columns, prices, now)
    short = debt.view(np.int64) - collateral.view(np.int64)
    found = int(short[fits & (short > 0)].sum())
    for account in (*columns.account[~fits].tolist(), *columns.plain):
        view = _plain(state, AccountId(account), prices, now)
        found += 0 if view is None else max(0, view.debt_base - view.collateral_base)
    return found


def _plain(state: AaveState, account: AccountId, prices: Prices, now: Clock) -> AccountView | None:
    try:
        return account_view(
            state.rules, account_data(state, account, prices.oracle, now), state.accounts[account].emode
        )
    except PriceMissing:
        return None
