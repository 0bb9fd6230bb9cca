"""What owners of accounts do, or may not do: caps, isolated margin, automation at a health, sizes at constant risk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

import numpy as np

from backtest import scenario as config
from backtest.model import AccountId, AssetId, PositionChange, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.interface import AccountView, Acted, Action, Holding, Order, Pair, Refusal
from backtest.replay.competition.draws import Draws
from backtest.replay.mechanisms.sizing import debt_to_target_up, seized_down
from backtest.replay.mitigations.part import Changes, Part
from backtest.replay.mitigations.ranges import Ranges
from backtest.replay.record import MitigationEffect
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.users import Effect, UserActions
from backtest.units import BPS, WAD


class Host(Protocol):
    """The engine, as seen from here."""

    book: Book[Any]
    users: UserActions[Any]
    liquidator: AccountId

    def take_effect(self, effects: Iterable[Effect]) -> bool:
        """Apply what a call does."""
        ...


class Acting(Part, ABC):
    """A part that acts by itself."""

    @abstractmethod
    def act(self, host: Host) -> None:
        """Before liquidators look."""
        ...


class Capped(Part):
    """See ``scenario.DepthCap``. All accounts are summed at each action that raises the total."""

    def __init__(self, terms: config.DepthCap, asset: AssetId) -> None:
        self._cap, self._asset = terms.depth_base * terms.multiple // BPS, asset
        self._side = "collateral" if terms.side == "supply" else "debt"

    def refuses(self, book: Book[Any], changes: Changes) -> bool:
        """What would leave more than the cap, by the amounts that history says; less than there is passes whatever the
        total.
        """
        more = 0
        for change in changes:
            if isinstance(change, PositionChange) and (change.asset, change.side) == (self._asset, self._side):
                more += (change.amount or 0) * (1 if change.delta > 0 else -1)
        return more > 0 and book.value_up(self._asset, self._total(book) + more) > self._cap

    def _total(self, book: Book[Any]) -> int:
        held = (
            holding
            for account in book.protocol.accounts(book.state)
            for holding in book.protocol.holdings(book.state, account, book.now)
            if holding.asset == self._asset
        )
        return sum(holding.collateral if self._side == "collateral" else holding.debt for holding in held)


class Parted(Acting):
    """See ``scenario.IsolatedMargin``."""

    def __init__(self) -> None:
        self._done = False
        self._parted: dict[AccountId, int] = {}

    def act(self, host: Host) -> None:
        """Once."""
        if self._done:
            return
        self._done, book = True, host.book
        for account in list(book.protocol.accounts(book.state)):
            self._part(host, account)

    def _part(self, host: Host, account: AccountId) -> None:
        book = host.book
        holdings = book.protocol.holdings(book.state, account, book.now)
        debts = [holding for holding in holdings if holding.debt_scaled]
        counts = {
            holding.asset: book.value_down(holding.asset, holding.collateral)
            * (book.protocol.weight(book.state, account, holding.asset) or 0)
            for holding in holdings
            if holding.collateral_scaled and holding.collateral_enabled
        }
        counts = {asset: value for asset, value in counts.items() if value}
        if len(counts) < 2 or not debts or any(holding.asset not in book.oracle for holding in (*holdings,)):
            return
        view = book.protocol.view(book.state, account, book.prices, book.now)
        whole, stays = sum(counts.values()), max(counts, key=lambda asset: (counts[asset], -asset))
        for holding in holdings:
            if holding.asset in counts and holding.asset != stays:
                shares = [(debt.asset, debt.debt_scaled * counts[holding.asset] // whole) for debt in debts]
                self._move(host, account, holding, shares, view.category)
        self._parted[account] = view.debt_base

    def _move(
        self, host: Host, account: AccountId, holding: Holding, debts: Sequence[tuple[AssetId, int]], category: int
    ) -> None:
        book = host.book
        own, now = AccountId(len(book.market.accounts)), book.now
        book.market = book.market.with_account(f"{book.address(account)}#{book.market.names[holding.asset]}")
        scaled, action = holding.collateral_scaled, "part"
        effects: list[Effect] = [
            position_change(now, account, holding.asset, "collateral", -scaled, action=action),
            position_change(now, own, holding.asset, "collateral", scaled, action=action),
            setting_change(now, own, "collateral_enabled", holding.asset, 1, action=action),
        ]
        if category:
            effects.append(setting_change(now, own, "emode", None, category, action=action))
        for asset, share in debts:
            if share:
                effects.append(position_change(now, account, asset, "debt", -share, action=action))
                effects.append(position_change(now, own, asset, "debt", share, action=action))
        host.users.of_themselves(effects, None)
        host.take_effect(effects)

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """How many accounts were parted, and their debt then."""
        return [self.did("parted", len(self._parted), sum(self._parted.values()))] if self._parted else []


class Triggered(Acting):
    """See ``scenario.OwnerTrigger``."""

    def __init__(self, terms: config.OwnerTrigger, seed: int) -> None:
        self._terms, self._draws = terms, Draws(seed)
        self._health, self._target = terms.health * WAD // BPS, terms.target * WAD // BPS
        self._since: dict[AccountId, int] = {}
        self._acted: dict[AccountId, int] = {}
        self._refused: dict[str, set[AccountId]] = {}

    def act(self, host: Host) -> None:
        """Whoever is below the health, and long enough, in order of the ids."""
        book, terms = host.book, self._terms
        below = [account for account in self._below(book) if self._has_it(account)]
        self._since = {account: self._since.get(account, book.now.timestamp) for account in below}
        for account in below:
            if book.now.timestamp >= self._since[account] + terms.delay:
                made = self._move(host, account)
                if isinstance(made, Refusal):
                    self._refused.setdefault(made.reason, set()).add(account)
                else:
                    self._acted[account] = self._acted.get(account, 0) + made

    def _has_it(self, account: AccountId) -> bool:
        return self._draws.chance(self._terms.share, "owner trigger", account)

    def _below(self, book: Book[Any]) -> list[AccountId]:
        views = views_of(book)
        limit = self._health
        if limit < 2**64:
            rows = views.debt.positive & (views.health[:, 1] == 0) & (views.health[:, 0] < np.uint64(limit))
        else:
            rows = views.debt.positive & (views.health[:, 1] * 2.0**64 + views.health[:, 0] < limit)
        found = cast("list[AccountId]", views.account[rows].tolist())
        rest = (a for a, view in views.rest.items() if view and view.health is not None and view.health < limit)
        return sorted([*found, *rest])

    def _move(self, host: Host, account: AccountId) -> int | Refusal:
        """What it takes to reach the target, base units."""
        book, by = host.book, self._terms.by
        view = book.protocol.view(book.state, account, book.prices, book.now)
        holdings = book.protocol.holdings(book.state, account, book.now)
        debt = max(holdings, key=lambda held: (book.value_down(held.asset, held.debt), -held.asset))
        pledged = [held for held in holdings if held.collateral_enabled and held.collateral]
        if view.health is None or not debt.debt:
            return Refusal("nothing is owed")
        if by != "repay" and not pledged:
            return Refusal("no collateral")
        if by == "repay":
            value = debt_to_target_up(view.debt_base, view.health, self._target, WAD, 0)
            assert value is not None
            return self._call(host, account, debt, "debt", min(debt.debt, _native_up(book, debt.asset, value)))
        collateral = max(pledged, key=lambda held: (book.value_down(held.asset, held.collateral), -held.asset))
        weight = book.protocol.weight(book.state, account, collateral.asset)
        if not weight:
            return Refusal("its largest collateral does not count")
        if by == "top-up":
            value = -(-view.debt_base * (self._target - view.health) // weight)
            return self._call(host, account, collateral, "collateral", _native_up(book, collateral.asset, value))
        return self._sell(host, account, view, debt, collateral, weight)

    def _call(self, host: Host, account: AccountId, held: Holding, side: str, amount: int) -> int | Refusal:
        """The owner repays, or supplies, with money from elsewhere."""
        book, all_of_it = host.book, side == "debt" and amount >= held.debt
        if side == "debt":
            scaled = -(held.debt_scaled if all_of_it else max(1, held.debt_scaled * amount // held.debt))
            change = position_change(book.now, account, held.asset, "debt", scaled, amount=amount, action="repay")
        else:
            scaled = max(1, held.collateral_scaled * amount // held.collateral)
            change = position_change(
                book.now, account, held.asset, "collateral", scaled, amount=amount, action="supply"
            )
        action = Action(change.action, (change,), frozenset({0} if all_of_it else ()), None if all_of_it else amount)
        acted = book.protocol.act(book.state, action, book.prices, book.now)
        if isinstance(acted, Refusal):
            return acted
        host.users.of_themselves(acted.changes, acted.amount)
        host.take_effect(acted.changes)
        return book.value_down(held.asset, acted.amount)

    def _sell(
        self, host: Host, account: AccountId, view: AccountView, debt: Holding, collateral: Holding, weight: int
    ) -> int | Refusal:
        book, factor = host.book, WAD + self._terms.cost * WAD // BPS
        assert view.health is not None
        value = debt_to_target_up(view.debt_base, view.health, self._target, factor, weight)
        repay = debt.debt if value is None else min(debt.debt, _native_up(book, debt.asset, value))
        prices = (
            book.oracle[debt.asset],
            book.units[debt.asset],
            book.oracle[collateral.asset],
            book.units[collateral.asset],
        )
        seize = seized_down(repay, *prices, factor)
        if seize > collateral.collateral:
            repay, seize = repay * collateral.collateral // seize, collateral.collateral
        order = Order(
            account, Pair(debt.asset, collateral.asset), host.liquidator, repay, seize=seize, agreed=True, early=True
        )
        if not repay or not seize:
            return Refusal("too small")
        fill = book.protocol.quote(book.state, order, book.prices, book.now)
        if isinstance(fill, Refusal):
            return fill
        if fill.deficits:
            return Refusal("it would leave debt without collateral")
        host.users.of_themselves(fill.changes, None)
        host.take_effect(fill.changes)
        return book.value_down(debt.asset, fill.repaid)

    def wakes(self, now: int) -> int | None:
        """When the next one's delay is over."""
        due = (since + self._terms.delay for since in self._since.values())
        return min((time for time in due if time > now), default=None)

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """Who acted, and what came to nothing."""
        acted = [self.did("acted", len(self._acted), sum(self._acted.values()))] if self._acted else []
        return [*acted, *(self.did("refused", len(who), detail=why) for why, who in sorted(self._refused.items()))]


def _native_up(book: Book[Any], asset: AssetId, value: int) -> int:
    return -(-value * book.units[asset] // book.oracle[asset])


class Sized(Part):
    """See ``scenario.RiskSizing``."""

    def __init__(self, terms: config.RiskSizing) -> None:
        self._times, self._ranges = terms.ranges, Ranges(terms.window)

    def round(self, book: Book[Any], event: PriceUpdate) -> PriceUpdate:
        """Its range is told."""
        self._ranges.note(book, event)
        return event

    def within(self, book: Book[Any], acted: Acted) -> Callable[[AccountView], bool] | None:
        """Health times (1 - ranges x range) is one at least: 1 - 1 / HF is the fall that the position bears. A call
        that opens a position brings its collateral itself.
        """
        holdings = book.protocol.holdings(book.state, acted.account, book.now)
        held = {holding.asset for holding in holdings if holding.collateral}
        for change in acted.changes:
            if isinstance(change, PositionChange) and change.side == "collateral" and change.delta > 0:
                held.add(change.asset)
        widest = max((self._ranges.range_up(asset, book.now.timestamp) for asset in held), default=0)
        bears = BPS * BPS - self._times * widest
        return None if not widest else lambda view: view.health is None or view.health * bears >= WAD * BPS * BPS
