"""Which alerts a market's history asks for, the plain way: every account valued at the end of every block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backtest.errors import PriceMissing
from backtest.follow.limits import BAD_DEBT, DEVIATING, LARGE, LIQUIDATABLE, NEAR, AlertLimits
from backtest.lake import Lake
from backtest.model import AccountId, Clock, HistoricalLiquidation, PositionChange, SettingChange
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from backtest.replay.timeline import END_OF_BLOCK
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import BookStanding, standings
from backtest.results import load_market, load_timeline
from backtest.units import WAD

Expected = set[tuple[str, str, str, int]]


MARGIN = 200
"""Basis points: accounts that are further from every limit are passed over for ``every`` blocks in which nothing
happens but interest.
"""


def expected_alerts(lake: Lake, name: str, limits: AlertLimits, first: int, last: int, every: int = 1) -> Expected:
    """(kind, who, asset, block) of everything but late feeds that becomes true in the blocks behind ``first``; and of
    accounts, what is so at its end.

    ``every``: in blocks without events, only accounts within ``MARGIN`` of a limit are valued; all are every so many
    blocks, and none may have moved by half of it meanwhile.
    """
    market, timeline = load_market(lake, name), load_timeline(lake, name)
    book: Book[Any] = Book.open(protocol_named(market.protocol), market)
    found: Expected = set()
    before: dict[AccountId, tuple[int, bool]] = {}
    owed: dict[AccountId, int] = {}
    blocks = lake.read("canonical/blocks", name, columns=["block_number", "timestamp"]).to_pylist()
    times = {row["block_number"]: row["timestamp"] for row in blocks}
    transactions = list(timeline.transactions(last))
    place, whole = 0, first - every
    close: list[AccountId] = []
    healths: dict[AccountId, int] = {}
    for block in range(first, last + 1):
        touched, events = set(), place
        prices = dict(book.oracle)
        while place < len(transactions) and transactions[place][0].block_number <= block:
            for event in transactions[place]:
                if type(event) is not HistoricalLiquidation:
                    book.apply(event)
                if isinstance(event, PositionChange | SettingChange):
                    touched.add(event.account)
            place += 1
        book.now = Clock(block, END_OF_BLOCK, times[block])
        now: dict[AccountId, tuple[int, bool]] = {}
        debts = dict(owed)
        quiet = place == events and block < whole + every
        valued = _some(book, close) if quiet else standings(views_of(book))
        if not quiet:
            still, before_this = place == events, healths
            healths, close, whole, debts = {}, [], block, {}
        for one in valued:
            debts[one.account] = one.debt_base
            if one.health is None:
                continue
            if not quiet:
                healths[one.account] = one.health
                if every > 1 and _is_close(one, limits):
                    close.append(one.account)
                elif still and (was := before_this.get(one.account)) is not None:
                    assert abs(one.health - was) * 20_000 <= was * MARGIN, one
            near = one.health * (10_000 - limits.within) < WAD * 10_000
            risk = 2 if one.health < WAD else int(near)
            lost = one.debt_base > one.collateral_base
            if risk or lost:
                now[one.account] = risk, lost
        if quiet:
            now |= {account: how for account, how in before.items() if account not in now and account not in close}
        for account, (risk, lost) in now.items():
            past = before.get(account, (0, False))
            if risk > past[0]:
                found.add((LIQUIDATABLE if risk == 2 else NEAR, market.accounts[account], "", block))
            if lost and not past[1]:
                found.add((BAD_DEBT, market.accounts[account], "", block))
        if block > first:
            least, most = limits.large_base, limits.deviates
            for account in touched if least is not None else ():
                assert least is not None
                if debts.get(account, 0) >= least > owed.get(account, 0):
                    found.add((LARGE, market.accounts[account], "", block))
            for asset, was in prices.items() if most is not None else ():
                assert most is not None
                if abs((book.oracle.get(asset) or 0) - was) * 10_000 > most * was:
                    found.add((DEVIATING, market.label(asset), "", block))
        before, owed = now, debts
    for row in lake.read("canonical/deficits", name, from_block=first + 1, to_block=last).to_pylist():
        if row["kind"] == "created":
            who, label = market.accounts[row["account_id"]], market.label(row["asset_id"])
            found.add((BAD_DEBT, who, label, row["block_number"]))
    return found


def _some(book: Book[Any], accounts: Iterable[AccountId]) -> list[BookStanding]:
    found = []
    for account in accounts:
        try:
            view = book.protocol.view(book.state, account, book.prices, book.now)
        except PriceMissing:
            continue
        power = view.borrowing_power_base
        found.append(BookStanding(account, view.collateral_base, view.debt_base, view.health, power))
    return found


def _is_close(one: BookStanding, limits: AlertLimits) -> bool:
    assert one.health is not None
    lines = (
        (one.health, WAD),
        (one.health * (10_000 - limits.within), WAD * 10_000),
        (one.debt_base, one.collateral_base),
    )
    return any(abs(value - line) * 10_000 < line * MARGIN for value, line in lines)
