"""History itself, asked one step ahead: at every price update, who may be liquidated now in history's own book?

Nothing is re-enacted and nothing differs from history: before each question the book is what history left. Liquidations
that happened are not shown to the model; what was there right before each of them is kept, to be held against its
answers (``backtest.matching``). Where an oracle's price is known within a range only, what the chain accepted is held
against that range: an action that the rules refuse at every price within it says that the range does not hold.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from backtest.errors import PriceMissing
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    Prices,
    PriceUpdate,
    Side,
)
from backtest.model import SettingChange as Setting
from backtest.protocols.book import Book
from backtest.protocols.interface import Acted, Action, LendingProtocol, Refusal, State
from backtest.replay.competition.costs import CostModel
from backtest.replay.competition.searchers import model_of
from backtest.replay.mechanisms import mechanism_of
from backtest.replay.timeline import Timeline
from backtest.replay.watch.screen import Screen
from backtest.replay.what_if.users import actions_of, raises_risk
from backtest.scenario import Competitive, Costs

Key = tuple[AccountId, AssetId, Side]


@dataclass(frozen=True, slots=True)
class PriceRanges:
    """Between what an asset's oracle price lies, where it is known by a venue's prices only: steps by time (seconds).

    ``bounds[i]`` holds from ``times[i]`` on: (low, high) in base units, None where the venue has no price for that
    moment.
    """

    times: Sequence[int]
    bounds: Sequence[tuple[int, int] | None]

    def at(self, time: int) -> tuple[int, int] | None:
        """The bounds in force; None where there are none."""
        place = bisect_right(self.times, time) - 1
        return self.bounds[place] if place >= 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """The model would liquidate this account now. Amounts: of the first call in native units, of the account in base
    units.

    ``throughout``: also at the most favourable price within the range stated for the oracle's, so at every price within
    it. ``until``: time of the next question.
    """

    account: AccountId
    clock: Clock
    until: int
    repaid: int
    seized: int
    repaid_base: int
    debt_base: int
    health: int | None
    throughout: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A liquidation that happened, and what stood right before it: balances of its pair in native units (debt accrued;
    ``held_scaled`` as the protocol stores it), health.

    ``possible``: liquidatable at the least favourable price within the range of the oracle's. ``left``: whether
    anything of the pair's
    debt and of its collateral was left right after. ``refusal``: why the model did not want it then; None where it did.
    """

    event: HistoricalLiquidation
    repaid_base: int
    seized_base: int
    held_collateral: int
    held_debt: int
    held_scaled: int
    left_collateral: int
    left_debt: int
    health: int | None
    possible: bool
    refusal: str | None


@dataclass(slots=True)
class Ahead:
    """All answers. ``relief`` are the times at which an account's owner repaid or added collateral; ``outside`` are
    accounts of which history says that some of their changes are not recorded; ``refusals`` are times and reasons at
    which eligible accounts were let be.

    ``accepted`` counts what the chain accepted and a range of prices can be held against, by account: actions that
    raise risk, and liquidations. ``beyond`` counts those of them that the rules refuse at every price within the range,
    though not at every price.
    """

    alarms: list[Alarm] = field(default_factory=list)
    pasts: list[Past] = field(default_factory=list)
    relief: dict[AccountId, list[int]] = field(default_factory=dict)
    outside: set[AccountId] = field(default_factory=set)
    refusals: dict[AccountId, list[tuple[int, str]]] = field(default_factory=dict)
    accepted: dict[AccountId, int] = field(default_factory=dict)
    beyond: dict[AccountId, int] = field(default_factory=dict)
    questions: int = 0


UNRECORDED = "unrecorded"
"""The action of a change that no record says, but that others imply."""
_FAR = 10**6
"""So many times beyond its range a price is as good (or bad) as any: what is still refused has another reason."""


def look_ahead(
    protocol: LendingProtocol[State],
    market: Market,
    timeline: Timeline,
    terms: Competitive,
    ranges: Mapping[AssetId, PriceRanges],
    *,
    from_block: int | None = None,
    to_block: int | None = None,
) -> Ahead:
    """Ask at the end of every transaction that updates a price.

    Args:
        terms: the model: what it costs, how it chooses.
        ranges: by asset; an asset that is not there has exactly known prices.
        from_block, to_block: questions, liquidations and accepted actions of these blocks only, inclusive.
    """
    walk = _Walk(protocol, market, terms, ranges, from_block or 0)
    for transaction in timeline.transactions(to_block):
        walk.advance(transaction)
    walk.ask_until(walk.book.now.timestamp + 1)
    return walk.found


class _Walk(Generic[State]):
    def __init__(
        self,
        protocol: LendingProtocol[State],
        market: Market,
        terms: Competitive,
        ranges: Mapping[AssetId, PriceRanges],
        from_block: int,
    ) -> None:
        self._liquidator = AccountId(len(market.accounts))
        self.book: Book[State] = Book.open(protocol, replace(market, accounts=(*market.accounts, "model:competitive")))
        self.found = Ahead()
        self._terms, self._ranges, self._from = terms, ranges, from_block
        self._screen: Screen[State] = Screen(len(market.assets))
        self._mechanism, self._model = (
            mechanism_of(protocol, terms.gas_cost),
            model_of(terms, CostModel.of(Costs(), market, protocol, fixed=terms.gas_cost)),
        )
        self._open: list[Alarm] = []
        self._balances: dict[Key, int] = {}

    def advance(self, transaction: Sequence[MarketEvent]) -> None:
        """One transaction of history, then the question if it moved a price."""
        book = self.book
        waiting = {event.seq: event for event in transaction if isinstance(event, HistoricalLiquidation)}
        actions = actions_of(transaction) if self._ranges else {}
        before: dict[int, Past] = {}
        priced = False
        for event in transaction:
            book.now, book.seq = Clock(event.block_number, event.log_index, event.timestamp), event.seq
            if isinstance(event, HistoricalLiquidation):
                self._after(before.get(event.seq) or self._before(event))
                for effect in book.relive(event):
                    self._noted(effect)
                continue
            if (
                isinstance(event, PositionChange | Setting)
                and event.action_seq in waiting
                and event.action_seq not in before
            ):
                before[event.action_seq] = self._before(waiting[event.action_seq])
            if isinstance(event, PositionChange | Setting) and event.action_seq in actions:
                self._act(actions.pop(event.action_seq))
            book.apply(event)
            self._noted(event)
            priced |= isinstance(event, PriceUpdate)
        if priced and book.now.block_number >= self._from:
            self._ask()

    def _noted(self, event: MarketEvent) -> None:
        if isinstance(event, PositionChange):
            key = (event.account, event.asset, event.side)
            self._balances[key] = self._balances.get(key, 0) + event.delta
        if isinstance(event, PositionChange | Setting):
            self._screen.touch(event.account)
            if event.action == UNRECORDED:
                self.found.outside.add(event.account)
            elif (
                event.action != "liquidation"
                and isinstance(event, PositionChange)
                and (event.delta > 0) == (event.side == "collateral")
            ):
                self.found.relief.setdefault(event.account, []).append(event.timestamp)
        elif isinstance(event, ParamChange) and event.name in self.book.protocol.exposure_parameters:
            self._screen.touch_parameter(event.asset if event.category is None else None)

    # -- the question
    # ----------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        book = self.book
        self.ask_until(book.now.timestamp)
        self.found.questions += 1
        for account in self._screen.candidates(book):
            if not book.protocol.pairs(book.state, account, book.prices, book.now):
                continue
            answer = self._wanted(account)
            if isinstance(answer, str):
                self.found.refusals.setdefault(account, []).append((book.now.timestamp, answer))
                continue
            view = book.protocol.view(book.state, account, book.prices, book.now)
            self._open.append(
                Alarm(
                    account=account,
                    clock=book.now,
                    until=book.now.timestamp,
                    repaid=answer[0],
                    seized=answer[1],
                    repaid_base=answer[2],
                    debt_base=view.debt_base,
                    health=view.health,
                    throughout=self._possible_at(account, favourable=True),
                )
            )

    def ask_until(self, time: int) -> None:
        """The alarms of the last question stand until this time."""
        self.found.alarms += [replace(alarm, until=time) for alarm in self._open]
        self._open = []

    def _wanted(self, account: AccountId) -> tuple[int, int, int] | str:
        """What the model takes of an account first (repaid, seized, value repaid), or why it takes nothing."""
        book = self.book
        offers = self._mechanism.opportunities(
            book, account, self._liquidator, receive_collateral_token=self._model.receive_collateral_token
        )
        open_to = [offer for offer in offers if not isinstance(offer, Refusal)]
        if not open_to:
            return next((offer.reason for offer in offers if isinstance(offer, Refusal)), "not liquidatable")
        take = self._model.choose(book, {account: open_to})
        if take is None:
            return "does not pay"
        fill = take.opportunity.fill
        return fill.repaid, fill.seized, book.value_down(fill.order.pair.debt_asset, fill.repaid)

    # -- the stated range
    # ----------------------------------------------------------------------------------------------------

    def _possible_at(self, account: AccountId, *, favourable: bool) -> bool:
        """Whether the account may be liquidated at the best (or worst) prices for its owner that the oracle may have
        had.
        """
        prices = self._extreme(self._sides(account), favourable=favourable)
        if prices is None:
            return not favourable
        return bool(self.book.protocol.pairs(self.book.state, account, prices, self.book.now))

    def _sides(self, account: AccountId) -> dict[AssetId, bool]:
        """The assets of an account, and whether a higher price is better for its owner."""
        holdings = self.book.protocol.holdings(self.book.state, account, self.book.now)
        return {holding.asset: bool(holding.collateral) for holding in holdings}

    def _extreme(self, sides: Mapping[AssetId, bool], *, favourable: bool, far: int = 1) -> Prices | None:
        """The best (or worst) prices for whoever has these assets, within the stated ranges or ``far`` times beyond;
        None where one has no range at this moment.
        """
        prices = dict(self.book.oracle)
        for asset, collateral in sides.items():
            known = self._ranges.get(asset)
            if known is None:
                continue
            bounds, taken = known.at(self.book.now.timestamp), prices.get(asset)
            if bounds is None or taken is None:
                return None
            high = favourable == collateral
            prices[asset] = max(bounds[1], taken) * far if high else max(min(bounds[0], taken) // far, 1)
        return Prices(prices, prices, prices)

    def _act(self, changes: Sequence[PositionChange | Setting]) -> None:
        """An action that the chain accepted, in the book right before it, at the most favourable prices."""
        book, first = self.book, changes[0]
        if first.action == UNRECORDED or not raises_risk(changes):
            return
        sides: dict[AssetId, bool] = {}
        for change in changes:
            sides |= self._sides(change.account)
        for change in changes:
            if isinstance(change, PositionChange):
                sides.setdefault(change.asset, change.side == "collateral")
        action = Action(first.action, tuple(changes), self._emptied(changes))
        self._hold(
            first.account,
            sides,
            lambda prices: isinstance(book.protocol.act(book.state, action, prices, book.now), Acted),
            favourable=True,
        )

    def _emptied(self, changes: Sequence[PositionChange | Setting]) -> frozenset[int]:
        """The places of changes that leave history's balance at zero."""
        left: dict[Key, int] = {}
        found = []
        for place, change in enumerate(changes):
            if isinstance(change, PositionChange):
                key = (change.account, change.asset, change.side)
                left[key] = left.get(key, self._balances.get(key, 0)) + change.delta
                if change.delta < 0 and not left[key]:
                    found.append(place)
        return frozenset(found)

    def _hold(
        self, account: AccountId, sides: Mapping[AssetId, bool], allowed: Callable[[Prices], bool], *, favourable: bool
    ) -> None:
        """What the chain accepted of an account against the range; not counted where there is none at this moment."""
        if self.book.now.block_number < self._from or not any(asset in self._ranges for asset in sides):
            return
        try:
            nearest = self._extreme(sides, favourable=favourable)
            farthest = self._extreme(sides, favourable=favourable, far=_FAR)
            if nearest is None or farthest is None:
                return
            beyond = not allowed(nearest) and allowed(farthest)
        except PriceMissing:
            return
        self.found.accepted[account] = self.found.accepted.get(account, 0) + 1
        if beyond:
            self.found.beyond[account] = self.found.beyond.get(account, 0) + 1

    # -- what happened
    # ---------------------------------------------------------------------------------------------------

    def _held(self, event: HistoricalLiquidation) -> tuple[int, int, int]:
        """Collateral, debt, and the debt as the protocol stores it, of the pair."""
        holdings = {h.asset: h for h in self.book.protocol.holdings(self.book.state, event.account, self.book.now)}
        collateral, debt = holdings.get(event.collateral_asset), holdings.get(event.debt_asset)
        return collateral.collateral if collateral else 0, debt.debt if debt else 0, debt.debt_scaled if debt else 0

    def _before(self, event: HistoricalLiquidation) -> Past:
        book = self.book
        collateral, debt, scaled = self._held(event)
        self._hold(
            event.account,
            self._sides(event.account),
            lambda prices: bool(book.protocol.pairs(book.state, event.account, prices, book.now)),
            favourable=False,
        )
        try:
            health = book.protocol.view(book.state, event.account, book.prices, book.now).health
            possible = self._possible_at(event.account, favourable=False)
            eligible = bool(book.protocol.pairs(book.state, event.account, book.prices, book.now))
            wanted = self._wanted(event.account) if eligible else "not liquidatable at this price"
        except PriceMissing:
            health, possible, wanted = None, False, "an asset has no price"
        return Past(
            event=event,
            repaid_base=book.value_down(event.debt_asset, event.repaid),
            seized_base=book.value_down(event.collateral_asset, event.seized + event.protocol_fee),
            held_collateral=collateral,
            held_debt=debt,
            held_scaled=scaled,
            left_collateral=0,
            left_debt=0,
            health=health,
            possible=possible,
            refusal=wanted if isinstance(wanted, str) else None,
        )

    def _after(self, past: Past) -> None:
        if past.event.block_number >= self._from:
            collateral, debt, _ = self._held(past.event)
            self.found.pasts.append(replace(past, left_collateral=collateral, left_debt=debt))
