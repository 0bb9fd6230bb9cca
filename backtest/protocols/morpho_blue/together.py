"""The liquidations of one moment in a market: the most profitable again and again, as long as one pays.

Each one moves the market's totals, on which all others depend, but by its roundings alone: what each position pays at
most is known as long as that is all, and after each liquidation only those that may pay most are quoted anew. All
positions are quoted, and bounded, in one call of the compiled rules. The one that is taken is made by the plain ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from backtest.model import AccountId, AssetId, Clock, PositionChange, Prices, SettingChange, Side
from backtest.protocols.interface import Fill, Order, Spreads, Together
from backtest.protocols.morpho_blue.account import view_of
from backtest.protocols.morpho_blue.liquidation import (
    ON_OFFER,
    PAIR,
    REASONS,
    is_between,
    least_assets_after,
    offered,
    offered_at_most,
    quote,
)
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, RULES, MorphoState, Position, Totals, apply
from backtest.words.columns import numbers, over, words

_Taken = tuple[Fill, int, int | None, int | None]
"""Profit after the cost, health before and after."""


def together(
    state: MorphoState,
    accounts: Sequence[AccountId],
    prices: Prices,
    now: Clock,
    liquidator: AccountId,
    *,
    cost: int,
    calls: Mapping[AccountId, int],
    most: int,
) -> Together | None:
    """See ``protocols.Together``; rows are in the order in which they are taken."""
    price = prices.oracle.get(COLLATERAL)
    if state.recompute or price is None or LOAN not in prices.oracle or _by_contract(state, accounts):
        return None
    ids = [account for account in accounts if state.positions.get(account, Position()).borrow_shares]
    if not ids:
        return _of([], [], set())
    book = replace(
        state, positions={account: state.positions[account] for account in ids}, columns=None, moved=set(), live=None
    )
    book.totals = replace(state.totals)
    left = _Left(ids, book, _terms(state, prices, price), cost, [most - calls.get(account, 0) for account in ids])
    taken: list[_Taken] = []
    while True:
        totals = book.accrued(now.timestamp)
        found = left.next(totals)
        if found is None:
            return None
        best, profit = found
        if best < 0:
            return _of(taken, left.on_offer, left.refused)
        account = ids[best]
        fill = quote(book, Order(account, PAIR, liquidator), prices.oracle, now)
        assert isinstance(fill, Fill)
        before = view_of(book, book.positions[account], totals, prices.oracle).health
        for change in fill.changes:
            apply(book, change)
        after = view_of(book, book.positions[account], book.accrued(now.timestamp), prices.oracle).health
        taken.append((fill, profit - cost, before, after))


class _Left:
    """Who may still be liquidated at a moment; places are those of ``ids``."""

    def __init__(
        self, ids: Sequence[AccountId], book: MorphoState, terms: tuple[int, ...], cost: int, calls: list[int]
    ) -> None:
        """``calls``: how many more of each account; positions are looked up in the book, which changes."""
        self._ids, self._book, self._terms, self._cost, self._calls = ids, book, terms, cost, calls
        self.on_offer: list[AccountId] = []
        """Of all that are there, when all were last quoted;"""
        self.refused: set[tuple[AccountId, str]] = set()
        """the same of all times, and why."""
        self._bounds: list[tuple[int, int]] = []
        """What each place that may pay pays at most, negative, and the place: in order,"""
        self._range = 0, 0, 0
        """as long as debt per share is in this range (``liquidation.is_between``)."""

    def next(self, totals: Totals) -> tuple[int, int] | None:
        """The place of who pays most (-1: nobody does) and how much; None where a number is no word."""
        if self._bounds and is_between(totals.borrow_assets, totals.borrow_shares, *self._range):
            best = self._best_bounded(totals)
            if best is not None:
                return best
        return self._of_all(totals)

    def _best_bounded(self, totals: Totals) -> tuple[int, int] | None:
        best: tuple[int, str, int] | None = None
        for place, (bound, at) in enumerate(self._bounds):
            if best is not None and bound > best[0]:
                break
            profit = self._quoted(at, totals)
            if profit is not None and profit > self._cost:
                found = -profit, self._book.market.accounts[self._ids[at]], place
                best = found if best is None else min(best, found)
        if best is None:
            return None
        _, at = self._bounds.pop(best[2])
        return self._take(at, -best[0])

    def _take(self, at: int, profit: int) -> tuple[int, int]:
        self._calls[at] -= 1
        return at, profit

    def _quoted(self, at: int, totals: Totals) -> int | None:
        """The profit of a position that is on offer."""
        position = self._book.positions[self._ids[at]]
        how, paid, brought = offered(
            position.borrow_shares, position.collateral, totals.borrow_assets, totals.borrow_shares, *self._terms
        )
        return brought - paid if how == ON_OFFER else None

    def _of_all(self, totals: Totals) -> tuple[int, int] | None:
        """The same of all that owe, each of which is bounded then."""
        positions = self._book.positions
        there = [at for at, account in enumerate(self._ids) if positions[account].borrow_shares]
        held = words([positions[self._ids[at]].collateral for at in there])
        owed = words([positions[self._ids[at]].borrow_shares for at in there])
        assets, shares = totals.borrow_assets, totals.borrow_shares
        least = least_assets_after(assets, len(there))
        terms = [words([number]) for number in self._terms]
        found = over(offered, owed, held, words([assets]), words([shares]), *terms, rows=len(there))
        bounded = over(
            offered_at_most, owed, held, words([assets]), words([shares]), words([least]), *terms, rows=len(there)
        )
        if not (found.exact.all() and bounded.exact.all()):
            return None
        outcome, paid, brought = (numbers(column) for column in found.columns)
        self.refused.update(
            (self._ids[at], REASONS[how]) for at, how in zip(there, outcome, strict=True) if how in REASONS
        )
        offers = [
            (costs - sells, self._book.market.accounts[self._ids[at]], at)
            for at, how, costs, sells in zip(there, outcome, paid, brought, strict=True)
            if how == ON_OFFER
        ]
        self.on_offer = [self._ids[at] for _, _, at in offers]
        pays = [offer for offer in offers if -offer[0] > self._cost and self._calls[offer[2]] > 0]
        if not pays:
            return -1, 0
        profit, _, best = min(pays)
        self._range = least, assets, shares
        self._bounds = sorted(
            (-bound, at)
            for at, bound in zip(there, numbers(bounded.columns[0]), strict=True)
            if bound > self._cost and self._calls[at] > 0 and at != best
        )
        return self._take(best, -profit)


def spreads(state: MorphoState, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> Spreads | None:
    """See ``protocols.Spreads``."""
    price = prices.oracle.get(COLLATERAL)
    if state.recompute or price is None or LOAN not in prices.oracle:
        return None
    apart = _by_contract(state, accounts)
    ids = [account for account in accounts if state.positions.get(account, Position()).borrow_shares]
    ids = [account for account in ids if account not in apart]
    held = words([state.positions[account].collateral for account in ids])
    owed = words([state.positions[account].borrow_shares for account in ids])
    totals = state.accrued(now.timestamp)
    terms = [words([number]) for number in _terms(state, prices, price)]
    found = over(offered, owed, held, totals.borrow_assets, totals.borrow_shares, *terms, rows=len(ids))
    outcome, fits = found.columns[0, :, 0].astype(np.int64), found.exact & ~found.columns[1:, :, 1:].any(axis=(0, 2))
    fits &= ~(found.columns[1:, :, 0] >> np.uint64(63)).any(axis=0)
    who = np.array(ids, np.int64)
    offers = fits & (outcome == ON_OFFER)
    count = int(offers.sum())
    paid, brought = (column.view(np.int64) for column in found.columns[1:, offers, 0])
    return Spreads(
        who[offers], np.full(count, LOAN), np.full(count, COLLATERAL), paid, brought,
        apart.union(who[~fits].tolist()),
        [(ids[at], REASONS[int(outcome[at])]) for at in np.flatnonzero(fits & (outcome > ON_OFFER)).tolist()],
    )  # fmt: skip


def _by_contract(state: MorphoState, accounts: Sequence[AccountId]) -> frozenset[AccountId]:
    """Those who authorised a pre-liquidation contract: they are asked one by one."""
    return frozenset(state.authorized.keys() & set(accounts)) if state.authorized else frozenset()


def _terms(state: MorphoState, prices: Prices, price: int) -> tuple[int, ...]:
    """What ``offered`` takes that is the same for all positions and does not move with the totals."""
    market = state.market
    sold, loan = prices.execution.get(COLLATERAL, 0), prices.market.get(LOAN, 0)
    return price, state.lltv, state.incentive_factor, sold, loan, market.unit(COLLATERAL), market.unit(LOAN)


def _of(taken: list[_Taken], on_offer: list[AccountId], refused: set[tuple[AccountId, str]]) -> Together:
    fills = [fill for fill, _, _, _ in taken]
    positions: dict[tuple[AccountId, AssetId, Side], int] = {}
    settings = []
    for fill in fills:
        for change in fill.changes:
            if isinstance(change, PositionChange):
                key = change.account, change.asset, change.side
                positions[key] = positions.get(key, 0) + change.delta
            elif isinstance(change, SettingChange) and change.asset is not None:
                settings.append((change.account, change.setting, change.asset, change.value))
    return Together(
        account=[fill.order.account for fill in fills],
        debt_asset=[LOAN] * len(fills),
        collateral_asset=[COLLATERAL] * len(fills),
        profit=[profit for _, profit, _, _ in taken],
        repaid=[fill.repaid for fill in fills],
        seized=[fill.seized for fill in fills],
        protocol_fee=[0] * len(fills),
        health_before=[before or 0 for _, _, before, _ in taken],
        health_after=[after for _, _, _, after in taken],
        deficits=[(row, asset, amount) for row, fill in enumerate(fills) for asset, amount in fill.deficits],
        positions=[(*key, delta) for key, delta in positions.items() if delta],
        settings=settings,
        on_offer=on_offer,
        refused=sorted(refused),
        rules=(RULES, True),
        fill=fills.__getitem__,
        ordered=True,
    )
