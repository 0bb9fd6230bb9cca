"""What an override does by itself at the moment it takes effect: whom it reaches, and whom it makes liquidatable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from backtest.errors import PriceMissing
from backtest.model import AccountId, Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import AccountView, Views
from backtest.replay.record import MadeLiquidatable, Reach
from backtest.replay.what_if.overrides import Overrides
from backtest.units import WAD


def views_of(book: Book[Any]) -> Views:
    """Every account now: all at once where the protocol can and the book is not ``plain``, else one by one."""
    if not book.plain and (found := book.protocol.views(book.state, book.prices, book.now)) is not None:
        return found
    rest: dict[AccountId, AccountView | None] = {}
    for account in book.protocol.accounts(book.state):
        try:
            rest[account] = book.protocol.view(book.state, account, book.prices, book.now)
        except PriceMissing:
            rest[account] = None
    none = np.empty(0, np.int64)
    return Views(none, none, none, none, np.empty((0, 2), np.uint64), none, rest)


def reach_of(
    overrides: Iterable[str], before: Views, after: Views, clock: Clock
) -> tuple[Reach, list[MadeLiquidatable]]:
    """Compares every account right before and right after; ``overrides`` are the texts of those that took effect."""
    both = after.account
    if np.array_equal(before.account, both):  # as a rule: an override moves no balance
        then = now = np.arange(len(both))
    else:
        both, then, now = np.intersect1d(before.account, both, assume_unique=True, return_indices=True)
    owes, owed = after.debt.positive[now], before.debt.positive[then]
    differs = (after.health[now] != before.health[then]).any(axis=1) | ~owed
    differs = owes & (differs | after.power.take(now).differs(before.power.take(then)))
    unsafe, was_unsafe = (
        (views.health[rows, 1] == 0) & (views.health[rows, 0] < WAD) for views, rows in ((after, now), (before, then))
    )
    hit = np.flatnonzero(owes & unsafe & owed & ~was_unsafe)
    found = zip(both[hit].tolist(), after.debt.take(now[hit]).integers(), strict=True)
    made = [MadeLiquidatable(account=AccountId(account), clock=clock, debt_base=debt) for account, debt in found]
    touched, indebted = int(differs.sum()), int(owes.sum())
    in_category = int((owes & (after.category[now] > 0) & ~differs).sum())
    for account in sorted({*before.rest, *after.rest}):
        earlier, later = _one(before, account), _one(after, account)
        if later is None or later.health is None or earlier is None:
            continue
        indebted += 1
        changed = (later.health, later.borrowing_power_base) != (earlier.health, earlier.borrowing_power_base)
        touched += changed
        in_category += bool(later.category) and not changed
        if later.health < WAD and earlier.health is not None and earlier.health >= WAD:
            made.append(MadeLiquidatable(account=account, clock=clock, debt_base=later.debt_base))
    made.sort(key=lambda one: one.account)
    return Reach(override="; ".join(overrides), accounts=touched, of=indebted, in_emode=in_category), made


def with_late(reach: Iterable[Reach], overrides: Overrides, book: Book[Any]) -> list[Reach]:
    """Overrides that took effect before anyone had debt reach the accounts of now, the window's end; the book is as it
    was afterwards.
    """
    seen = [one for one in reach if one.of]
    late = [text for text in overrides.touched if not any(text in one.override for one in seen)]
    plain, ours = overrides.compared(late, book.now)
    if ours:
        now = views_of(book)
        for change in plain:
            book.apply(change)
        then = views_of(book)
        for change in ours:
            book.apply(change)
        seen.append(replace(reach_of(late, then, now, book.now)[0], at_end=True))
    return seen


def _one(views: Views, account: AccountId) -> AccountView | None:
    """The view of one account, None without one."""
    if account in views.rest:
        return views.rest[account]
    at = int(np.searchsorted(views.account, account))
    if at == len(views.account) or views.account[at] != account:
        return None
    low, high = views.health[at].tolist()
    row = np.array([at])
    collateral, debt, power = (
        amounts.take(row).integers()[0] for amounts in (views.collateral, views.debt, views.power)
    )
    return AccountView(collateral, debt, (high << 64) | low if debt else None, power, int(views.category[at]))
