"""What is worth an alert: limits, and what becomes of an account or a feed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from backtest.errors import PriceMissing
from backtest.follow.state import BlockChanges, MarketState
from backtest.model import AccountId, AssetId, Market, ParamChange, PositionChange, SettingChange
from backtest.near import as_decimal, is_near
from backtest.protocols.book import Book
from backtest.protocols.interface import AccountView
from backtest.replay.watch.compiled import Floats
from backtest.replay.watch.screen import Screen
from backtest.units import BPS, WAD

LIQUIDATABLE, NEAR, LARGE, LATE, DEVIATING, BAD_DEBT = (
    "liquidatable",
    "near",
    "large position",
    "feed late",
    "feed deviating",
    "bad debt",
)
KINDS = (LIQUIDATABLE, NEAR, LARGE, LATE, DEVIATING, BAD_DEBT)


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """``within``: an account is near where it could be liquidated once all its collateral fell by so many basis points
    against its debt. ``large_base``: debt in base units from which a position is large; ``late``: seconds without an
    answer after which a feed is late; ``deviates``: basis points by which an oracle's price moves in one block. None:
    no such alert.
    """

    within: int = 500
    large_base: int | None = None
    late: int | None = None
    deviates: int | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that became true in a block. ``who``: an account, a feed or an asset; ``asset``: which of its assets,
    "" where it is no particular one; ``told``: figures as text.
    """

    kind: str
    who: str
    told: Mapping[str, str] = field(default_factory=dict)
    asset: str = ""


class NearScreen(Screen[Any]):
    """Accounts that may be eligible once all collateral is worth ``within`` basis points less."""

    def __init__(self, assets: int, within: int) -> None:
        super().__init__(assets)
        self._kept = 1 - within / BPS

    @override
    def _values(self, book: Book[Any]) -> Floats:
        values = super()._values(book)
        values[1 : 1 + self._assets] *= self._kept
        return values


@dataclass(frozen=True, slots=True)
class Condition:
    """How an account stands: ``risk`` 2 it may be liquidated, 1 it is near; ``lost``: it owes more than its collateral
    is worth.
    """

    risk: int
    lost: bool
    view: AccountView


def condition(view: AccountView, within: int) -> Condition | None:
    """How an account of this view stands; None: it is safe."""
    health = view.health
    if health is None:
        return None
    risk = 2 if health < WAD else int(is_near(health, within))
    lost = view.debt_base > view.collateral_base
    return Condition(risk, lost, view) if risk or lost else None


class WatchList:
    """Who is near, at the end of the block that was looked at last. Only those whom a price, interest or an event may
    have brought near are valued.
    """

    def __init__(self, standing: MarketState, limits: AlertLimits) -> None:
        book = standing.book
        self.limits = limits
        self._screen = NearScreen(len(book.market.assets), limits.within)
        for account in book.protocol.accounts(book.state):
            self._screen.touch(account)
        self.valued = 0
        """Accounts valued by the exact rule so far."""
        self.conditions: dict[AccountId, Condition] = {}
        self.look(standing)

    def look(self, standing: MarketState) -> None:
        """Takes ``conditions`` anew."""
        found = {}
        for account in self._screen.candidates(standing.book):
            view = self._view(standing.book, account)
            if view is not None and (how := condition(view, self.limits.within)) is not None:
                found[account] = how
        self.conditions = found

    def _view(self, book: Book[Any], account: AccountId) -> AccountView | None:
        """None where an asset of the account has no price: the contract would revert."""
        self.valued += 1
        try:
            return book.protocol.view(book.state, account, book.prices, book.now)
        except PriceMissing:
            return None

    def block(self, standing: MarketState, changes: BlockChanges) -> list[Happened]:
        """Takes one block on, and says what became true in it, in a fixed order."""
        touched = sorted(
            {event.account for event in changes.events if isinstance(event, PositionChange | SettingChange)}
        )
        before, owed = self.conditions, self._owed(standing, touched)
        prices = dict(standing.book.oracle)
        relived = standing.take(changes)
        wanted = standing.protocol.exposure_parameters
        for event in (*changes.events, *relived):
            if isinstance(event, PositionChange | SettingChange):
                self._screen.touch(event.account)
            elif isinstance(event, ParamChange) and event.name in wanted:
                self._screen.touch_parameter(event.asset if event.category is None else None)
        self.look(standing)
        found = list(worsened(standing, before, self.conditions))
        found += self._grown(standing, touched, owed)
        found += self._moved(standing, prices)
        lost: dict[tuple[AccountId, AssetId], int] = {}
        for account, asset, amount in changes.written_off:
            lost[account, asset] = lost.get((account, asset), 0) + amount
        for (account, asset), amount in lost.items():
            market = standing.book.market
            told = {"written_off": as_decimal(amount, market.assets[asset].decimals)}
            found.append(Happened(BAD_DEBT, standing.names[account], told, market.label(asset)))
        return found

    def _owed(self, standing: MarketState, accounts: Iterable[AccountId]) -> dict[AccountId, int]:
        if self.limits.large_base is None:
            return {}
        views = {account: self._view(standing.book, account) for account in accounts}
        return {account: view.debt_base for account, view in views.items() if view is not None}

    def _grown(
        self, standing: MarketState, touched: Sequence[AccountId], owed: Mapping[AccountId, int]
    ) -> Iterator[Happened]:
        least = self.limits.large_base
        for account in touched if least is not None else ():
            view = self._view(standing.book, account)
            assert least is not None
            if view is not None and view.debt_base >= least > owed.get(account, 0):
                yield Happened(LARGE, standing.names[account], figures(standing.book.market, view))

    def _moved(self, standing: MarketState, before: Mapping[AssetId, int]) -> Iterator[Happened]:
        most, market = self.limits.deviates, standing.book.market
        for asset, was in sorted(before.items()) if most is not None else ():
            now = standing.book.oracle.get(asset)
            assert most is not None
            if was and (now is None or abs(now - was) * BPS > most * was):
                digits = market.base_decimals if market.price_decimals is None else market.price_decimals
                told = {"price": "none" if now is None else as_decimal(now, digits), "before": as_decimal(was, digits)}
                yield Happened(DEVIATING, market.label(asset), told)


def worsened(
    standing: MarketState, before: Mapping[AccountId, Condition], now: Mapping[AccountId, Condition]
) -> Iterator[Happened]:
    """Accounts that stand worse than before."""
    for account, how in sorted(now.items()):
        past = before.get(account)
        told = figures(standing.book.market, how.view)
        if how.risk > (past.risk if past else 0):
            yield Happened(LIQUIDATABLE if how.risk == 2 else NEAR, standing.names[account], told)
        if how.lost and not (past and past.lost):
            yield Happened(BAD_DEBT, standing.names[account], told)


def figures(market: Market, view: AccountView) -> dict[str, str]:
    """An account's figures, every digit of them."""
    return {
        "health": "none" if view.health is None else as_decimal(view.health, 18),
        "collateral": as_decimal(view.collateral_base, market.base_decimals),
        "debt": as_decimal(view.debt_base, market.base_decimals),
    }
