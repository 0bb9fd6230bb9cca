"""What changed parameters do to the book of one moment, by themselves and when prices fall: exact, nobody acting but
frictionless liquidators. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from backtest.model import AccountId, AssetId, Clock, Market, ParamChange
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol, Views
from backtest.protocols.mechanism import ProtocolSpread
from backtest.replay.mechanisms import mechanism_of
from backtest.replay.shortcuts.common_start import start_of
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.frictionless import liquidated_at_once
from backtest.replay.what_if.impact import reach_of, views_of
from backtest.replay.what_if.overrides import Overrides
from backtest.scenario import Competitive, Override, Scenario
from backtest.units import BPS, WAD


@dataclass(frozen=True, slots=True)
class BookStanding:
    """An account in base units; health is wad, None without debt."""

    account: AccountId
    collateral_base: int
    debt_base: int
    health: int | None
    power_base: int

    @property
    def unsafe(self) -> bool:
        """It may be liquidated."""
        return self.health is not None and self.health < WAD


@dataclass(frozen=True, slots=True)
class Made:
    """An account that the change makes liquidatable: as it stood, as it stands then, and the step of a ramp of equal
    steps at which that happens (the last one at the latest).
    """

    before: BookStanding
    after: BookStanding
    step: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What the change does the moment it takes effect. ``touched``: accounts with debt whose health or borrowing power
    it changes, ``of`` all with debt, ``left_alone`` those in a category that it does not reach; base units.
    """

    touched: int
    of: int
    left_alone: int
    made: tuple[Made, ...]
    power_before: int
    power_after: int


@dataclass(frozen=True, slots=True)
class Fallen:
    """The book after a fall of prices: how many accounts may be liquidated then and their debt, what frictionless
    liquidators repay of it at once, and what debt no collateral stands behind afterwards (written off, or beyond its
    account's collateral). ``repaid_base`` None: the protocol's liquidations take time, so nobody has acted.
    """

    accounts: int
    debt_base: int
    repaid_base: int | None
    bad_debt_base: int


def book_at(
    protocol: LendingProtocol[Any], market: Market, timeline: Timeline, block: int, *, ended: bool
) -> Book[Any]:
    """History's book before a block, or where it ``ended``."""
    before = Scenario(liquidators=Competitive(), from_block=block)
    book: Book[Any] = start_of(protocol, market, timeline, before).book.copy()
    book.now = Clock(block, -1, timeline.timestamp_from(block))
    for transaction in timeline.transactions(block, block) if ended else ():
        for event in transaction:
            book.relive(event)
    if ended:
        book.now = timeline.clock_at(block)
    return book


def at_once(overrides: Sequence[Override]) -> tuple[Override, ...]:
    """The same changes without their moments: in full from the start."""
    return tuple(
        replace(each, from_block=0, from_time=None, until_block=None, until_time=None, steps=1) for each in overrides
    )


def changes_of(
    book: Book[Any], timeline: Timeline, overrides: Sequence[Override], steps: int = 1
) -> Iterator[list[ParamChange]]:
    """The changes of parameters that these overrides make of history's at the book's moment, in equal steps; what
    already is as it shall be is left out.
    """
    ramp = at_once(overrides)
    if steps > 1:
        ramp = tuple(replace(each, until_block=steps, steps=steps) for each in ramp)
    live = Overrides(book.market, ramp, timeline, book.protocol.parameters)
    now = {}
    for change in timeline.params:
        if (change.block_number, change.log_index) <= (book.now.block_number, book.now.log_index):
            live.replaced(change)
            now[change.name, change.asset, change.category] = change.value
    for step in range(1, steps + 1):
        due = live.due(book.seq, Clock(step, -1, book.now.timestamp))[0]
        moved = [change for change in due if now.get((change.name, change.asset, change.category)) != change.value]
        now |= {(change.name, change.asset, change.category): change.value for change in moved}
        yield moved


def effect_of(book: Book[Any], timeline: Timeline, overrides: Sequence[Override], steps: int) -> Effect:
    """What the overrides do to a book, which stays as it is; ``steps`` of the ramp that is held beside it."""
    before, trial = views_of(book), book.copy()
    for changes in changes_of(book, timeline, overrides):
        for change in changes:
            trial.apply(change)
    after = views_of(trial)
    reach, made = reach_of(["the proposal"], before, after, book.now)
    spared = dict.fromkeys((one.account for one in made), steps)
    ramp = book.copy()
    for step, changes in enumerate(changes_of(book, timeline, overrides, steps), 1) if made else ():
        for change in changes:
            ramp.apply(change)
        for standing in standings(views_of(ramp), unsafe=True):
            if standing.account in spared:
                spared[standing.account] = min(spared[standing.account], step)
    wanted = set(spared)
    then = {one.account: one for one in standings(before) if one.account in wanted} if wanted else {}
    now = {one.account: one for one in standings(after, unsafe=True) if one.account in wanted}
    found = [Made(then[account], now[account], spared[account]) for account in spared]
    found.sort(key=lambda one: (-one.after.debt_base, one.after.account))
    return Effect(
        touched=reach.accounts,
        of=reach.of,
        left_alone=reach.in_emode,
        made=tuple(found),
        power_before=power_of(before),
        power_after=power_of(after),
    )


def changed(book: Book[Any], timeline: Timeline, overrides: Sequence[Override]) -> Book[Any]:
    """A copy of the book in which the overrides hold."""
    trial = book.copy()
    for changes in changes_of(book, timeline, overrides):
        for change in changes:
            trial.apply(change)
    return trial


def after_fall(book: Book[Any], assets: Sequence[AssetId], fall: int) -> Fallen:
    """What happens to a book, which stays as it is, where the prices of some assets are lower by ``fall`` basis points
    all at once; prices rounded down.
    """
    return after_move(book, dict.fromkeys(assets, (BPS - fall) * WAD // BPS))


def after_move(book: Book[Any], factors: Mapping[AssetId, int]) -> Fallen:
    """What happens to a book, which stays as it is, where prices are so many times (wad) what they were; rounded
    down.
    """
    trial = moved(book.copy(), factors)
    risky = list(standings(views_of(trial), unsafe=True))
    settles = type(mechanism_of(book.protocol)) is ProtocolSpread
    taken = liquidated_at_once(trial, [standing.account for standing in risky]) if settles else None
    short = _short(views_of(trial))
    return Fallen(
        accounts=len(risky),
        debt_base=sum(standing.debt_base for standing in risky),
        repaid_base=None if taken is None else taken.repaid_base,
        bad_debt_base=short + (0 if taken is None else taken.lost_base),
    )


def moved(book: Book[Any], factors: Mapping[AssetId, int]) -> Book[Any]:
    """The book at prices so many times (wad) its own, rounded down; its state is the same object."""
    oracle, traded = (
        {asset: price * factors.get(asset, WAD) // WAD for asset, price in prices.items()}
        for prices in (book.oracle, book.traded)
    )
    return dataclasses.replace(book, oracle=oracle, traded=traded)


def standings(views: Views, *, unsafe: bool = False) -> Iterator[BookStanding]:
    """Every account that can be valued, or those of them that may be liquidated; in id order."""
    low, high = views.health[:, 0], views.health[:, 1]
    rows = ((views.debt.positive & (high == 0) & (low < WAD)) if unsafe else views.account >= 0).nonzero()[0]
    columns = (amounts.take(rows).integers() for amounts in (views.collateral, views.debt, views.power))
    parts = zip(views.account[rows].tolist(), low[rows].tolist(), high[rows].tolist(), *columns, strict=True)
    found = [
        BookStanding(AccountId(account), collateral, debt, (above << 64) | below if debt else None, power)
        for account, below, above, collateral, debt, power in parts
    ]
    for account, view in views.rest.items():
        if view is not None:
            one = BookStanding(account, view.collateral_base, view.debt_base, view.health, view.borrowing_power_base)
            found += [one] if one.unsafe or not unsafe else []
    yield from sorted(found, key=lambda one: one.account)


def _short(views: Views) -> int:
    """Debt beyond the collateral of its account, over all accounts."""
    least = views.collateral.minus(views.debt)
    rest = (view for view in views.rest.values() if view is not None)
    return -least.take(least.negative).total() + sum(max(0, one.debt_base - one.collateral_base) for one in rest)


def power_of(views: Views) -> int:
    """What all accounts may owe when they borrow, base units."""
    return views.power.total() + sum(view.borrowing_power_base for view in views.rest.values() if view is not None)
