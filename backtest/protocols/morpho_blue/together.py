"""The liquidations of one moment in a market: the most profitable again and again, as long as one pays.

Each one moves the market's totals, on which all others depend: after each, what is still there is quoted anew, all
positions in one call of the compiled rules. The one that is taken is made by the plain ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from backtest.model import AccountId, AssetId, Clock, PositionChange, Prices, SettingChange, Side
from backtest.protocols.interface import Fill, Order, Spreads, Together
from backtest.protocols.morpho_blue.account import view_of
from backtest.protocols.morpho_blue.liquidation import HEALTHY, ON_OFFER, PAIR, REASONS, offered, quote
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, RULES, MorphoState, Position, apply
from backtest.words.columns import Column, numbers, over, words

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
    if state.recompute or price is None or LOAN not in prices.oracle:
        return None
    ids = [account for account in accounts if state.positions.get(account, Position()).borrow_shares]
    if not ids:
        return _of([], [], set())
    names = [state.market.accounts[account] for account in ids]
    book = replace(
        state, positions={account: state.positions[account] for account in ids}, columns=None, moved=set(), live=None
    )
    book.totals = replace(state.totals)
    held = np.array(words([book.positions[account].collateral for account in ids]))
    owed = np.array(words([book.positions[account].borrow_shares for account in ids]))
    done = [calls.get(account, 0) for account in ids]
    taken: list[_Taken] = []
    refused: set[tuple[AccountId, str]] = set()
    terms = _terms(state, prices, price)
    while True:
        totals = book.accrued(now.timestamp)
        found = over(offered, owed, held, totals.borrow_assets, totals.borrow_shares, *terms, rows=len(ids))
        if not found.exact.all():
            return None
        outcome, paid, brought = (numbers(column) for column in found.columns)
        profit = [sells - costs for sells, costs in zip(brought, paid, strict=True)]
        refused.update((ids[at], REASONS[how]) for at, how in enumerate(outcome) if how not in (HEALTHY, ON_OFFER))
        open_to = [at for at, how in enumerate(outcome) if how == ON_OFFER]
        pays = [at for at in open_to if profit[at] > cost and done[at] < most]
        if not pays:
            return _of(taken, [ids[at] for at in open_to], refused)
        best = min(pays, key=lambda at: (-profit[at], names[at]))
        account = ids[best]
        fill = quote(book, Order(account, PAIR, liquidator), prices.oracle, now)
        assert isinstance(fill, Fill)
        before = view_of(book, book.positions[account], totals, prices.oracle).health
        for change in fill.changes:
            apply(book, change)
        left = book.positions[account]
        after = view_of(book, left, book.accrued(now.timestamp), prices.oracle).health
        taken.append((fill, profit[best] - cost, before, after))
        held[best], owed[best] = words([left.collateral])[0], words([left.borrow_shares])[0]
        done[best] += 1


def spreads(state: MorphoState, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> Spreads | None:
    """See ``protocols.Spreads``."""
    price = prices.oracle.get(COLLATERAL)
    if state.recompute or price is None or LOAN not in prices.oracle:
        return None
    ids = [account for account in accounts if state.positions.get(account, Position()).borrow_shares]
    held = words([state.positions[account].collateral for account in ids])
    owed = words([state.positions[account].borrow_shares for account in ids])
    totals = state.accrued(now.timestamp)
    terms = _terms(state, prices, price)
    found = over(offered, owed, held, totals.borrow_assets, totals.borrow_shares, *terms, rows=len(ids))
    outcome, fits = found.columns[0, :, 0].astype(np.int64), found.exact & ~found.columns[1:, :, 1:].any(axis=(0, 2))
    fits &= ~(found.columns[1:, :, 0] >> np.uint64(63)).any(axis=0)
    who = np.array(ids, np.int64)
    offers = fits & (outcome == ON_OFFER)
    count = int(offers.sum())
    paid, brought = (column.view(np.int64) for column in found.columns[1:, offers, 0])
    return Spreads(
        who[offers], np.full(count, LOAN), np.full(count, COLLATERAL), paid, brought,
        frozenset(who[~fits].tolist()),
        [(ids[at], REASONS[int(outcome[at])]) for at in np.flatnonzero(fits & (outcome > ON_OFFER)).tolist()],
    )  # fmt: skip


def _terms(state: MorphoState, prices: Prices, price: int) -> list[Column]:
    """What ``offered`` takes that is the same for all positions and does not move with the totals."""
    market = state.market
    return [
        words([number])
        for number in (
            price, state.lltv, state.incentive_factor, prices.execution.get(COLLATERAL, 0), prices.market.get(LOAN, 0),
            market.unit(COLLATERAL), market.unit(LOAN),
        )
    ]  # fmt: skip


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
