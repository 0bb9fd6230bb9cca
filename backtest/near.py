"""Who is within some share of liquidation, at a block of a lake: every account valued by the protocol's exact rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backtest.account import moment_of
from backtest.lake import Lake
from backtest.model import Market
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import BookStanding, standings
from backtest.results import load_market, load_timeline
from backtest.units import BPS, WAD


@dataclass(frozen=True, slots=True)
class NearList:
    """Accounts near liquidation, worst first.

    Attributes:
        block, timestamp: the moment. since: the block of the market's last event up to there.
        accounts: those that are near, with their names; ``of`` how many have debt.
        unvalued: accounts that could not be valued, since an asset of theirs has no price.
    """

    market: Market
    block: int
    timestamp: int
    accounts: tuple[tuple[str, BookStanding], ...]
    of: int
    unvalued: int


def near_in_lake(
    lake: Lake, market: str, within: int, *, block: int | None = None, time: int | str | None = None
) -> NearList:
    """Accounts that may be liquidated once all their collateral is worth ``within`` basis points less against their
    debt; 0: that may be now. The moment is as of ``account_at``.

    Raises:
        UserError: the moment lies outside the history, or its time is not known.
        LakeError: the market's canonical tables are missing or stale.
        RulesError: no rules cover the history up to there.
    """
    fixed, timeline = load_market(lake, market), load_timeline(lake, market)
    now = moment_of(timeline, market, block, time)
    book: Book[Any] = Book.open(protocol_named(fixed.protocol), fixed)
    for transaction in timeline.transactions(now.block_number):
        for event in transaction:
            book.relive(event)
    book.now = now
    return near_in_book(book, list(fixed.accounts), within)


def near_in_book(book: Book[Any], names: list[str], within: int) -> NearList:
    """The same of a book as it is; ``names`` of accounts by id."""
    views = views_of(book)
    every = [one for one in standings(views) if one.health is not None and one.debt_base > 0]
    found = [one for one in every if is_near(one.health, within)]
    found.sort(key=lambda one: (one.health or 0, -one.debt_base, one.account))
    return NearList(
        market=book.market,
        block=book.now.block_number,
        timestamp=book.now.timestamp,
        accounts=tuple((names[one.account], one) for one in found),
        of=len(every),
        unvalued=sum(view is None for view in views.rest.values()),
    )


def as_decimal(value: int, digits: int) -> str:
    """A number of 10^-digits as a decimal, exact, without trailing zeros."""
    sign, value = ("-" if value < 0 else ""), abs(value)
    high, low = divmod(value, 10**digits)
    fraction = f"{low:0{digits}d}".rstrip("0") if digits else ""
    return f"{sign}{high}.{fraction}" if fraction else f"{sign}{high}"


def is_near(health: int | None, within: int) -> bool:
    """Whether a health (wad) is below one, or would be once all collateral is worth ``within`` basis points less."""
    return health is not None and (health < WAD or health * (BPS - within) < WAD * BPS)
