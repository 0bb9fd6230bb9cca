"""What a liquidation that happens leaves behind: in the book, with the users, in what is measured, and in the
record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, Protocol

from msgspec import structs

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, ParamChange, PositionChange, SettingChange
from backtest.protocols.book import Book
from backtest.protocols.interface import State, Together
from backtest.protocols.mechanism import Opportunity, in_base, spread
from backtest.replay.competition.costs import CostModel, before_bids
from backtest.replay.competition.models import Take
from backtest.replay.competition.opportunities import OpportunityBook
from backtest.replay.measure import Measure
from backtest.replay.record import Deficit, Liquidation, Replay, Waterfall
from backtest.replay.response import Seat
from backtest.replay.watch.screen import Watch
from backtest.replay.what_if.users import Effect, UserActions
from backtest.units import WAD


class Taker(Protocol[State]):
    """The engine, as seen from here."""

    watch: Watch[State]

    def take_effect(self, effects: Iterable[Effect]) -> bool:
        """Apply what a call does."""
        ...


@dataclass(slots=True)
class Settlement(Generic[State]):
    """Owned by one replay. ``searchers``: the account of each modelled liquidator. It keeps no engine, or neither would
    go before the garbage collector comes.

    ``made_liquidatable``: accounts that an override made liquidatable, and that are still. ``unpriced``: liquidations,
    and steps of them, by collateral that the oracle had no price of: an auction that was opened before goes on.
    """

    book: Book[State]
    users: UserActions[State]
    measure: Measure[State]
    opportunities: OpportunityBook
    result: Replay[State]
    costs: CostModel
    searchers: Mapping[str, AccountId]
    seat: Seat | None = None
    made_liquidatable: set[AccountId] = field(default_factory=set)
    unpriced: Counter[AssetId] = field(default_factory=Counter)

    def settle(
        self, engine: Taker[State], take: Take, matches: bool | None, lot: int | None = None
    ) -> tuple[set[AccountId], bool]:
        """Apply a fill and record it; the accounts it touched, and whether it changed market-wide state that other
        offers depend on.
        """
        book, opportunity, result, measure = self.book, take.opportunity, self.result, self.measure
        fill = opportunity.fill
        if take.searcher is not None:
            fill = structs.replace(fill, order=structs.replace(fill.order, liquidator=self.searchers[take.searcher]))
        if (
            matches is None and not measure.is_over and (opportunity.opens or fill.repaid or fill.seized)
        ):  # a bid alone takes nothing
            self.opportunities.taken(
                book, opportunity, before_bids(take.waterfall), len(result.liquidations), take.bids
            )
        account = fill.order.account
        before = self._health(account)
        endogenous = self.seat is not None and matches is None and self.seat.endogenous(book, account, lot, opportunity)
        touched, market_wide = {account}, False
        for change in fill.changes:
            if isinstance(change, (PositionChange, SettingChange)):
                self.users.modelled(change)
                touched.add(change.account)
            elif isinstance(change, ParamChange):
                market_wide |= change.name in book.protocol.order_parameters
            else:  # recomputed interest: fills quoted before this one do not know what it did to the reserves
                market_wide = True
        engine.take_effect(fill.changes)  # which touches whom it changes
        engine.watch.touch(account)
        ordinal = len(result.liquidations)
        for asset, amount in fill.deficits:
            self._write_off(ordinal, account, asset, amount)
        if fill.rules:
            result.rules[fill.rules] = fill.rules_tested
        after = self._health(account)
        by_override = self._by_override(account, after)
        made = Liquidation(
            ordinal=ordinal,
            seq=book.seq,
            clock=book.now,
            fill=fill,
            step=opportunity.step,
            profit_base=take.waterfall.rent,
            waterfall=take.waterfall,
            health_before=before,
            health_after=after,
            matches_history=matches,
            made_by_override=by_override,
            stage="opened" if opportunity.opens else "whole" if opportunity.lot is None else "auction",
            lot=lot,
            **in_base(book, fill),
        )
        measure.liquidated(made)
        if not measure.is_over:
            result.liquidations.append(made)
            if fill.order.pair.collateral_asset not in book.oracle:
                self.unpriced[fill.order.pair.collateral_asset] += 1
        if self.seat is not None and made.ends:
            for event in self.seat.settled(book, ordinal, fill, endogenous=endogenous):
                book.apply(event)
        return touched, market_wide

    def settle_together(self, engine: Taker[State], found: Together, order: Sequence[int]) -> None:
        """Liquidations that do not depend on each other, in this order of their rows; records are made when somebody
        reads them.
        """
        book, measure, result = self.book, self.measure, self.result
        self.users.modelled_together(found)
        book.protocol.settle_together(book.state, found)
        for account in {position[0] for position in found.positions}:
            engine.watch.touch(account)
        value = book.value_down
        measure.took(
            len(order),
            sum(map(value, found.debt_asset, found.repaid)),
            sum(map(value, found.collateral_asset, found.seized)),
            sum(map(value, found.collateral_asset, found.protocol_fee)),
        )
        first = len(result.liquidations)
        place_of = dict(zip(order, range(first, first + len(order)), strict=True)) if found.deficits else {}
        for row, asset, amount in sorted(found.deficits, key=lambda lost: place_of[lost[0]]):
            ordinal = first if measure.is_over else place_of[row]
            self._write_off(ordinal, found.account[row], asset, amount)
        label, tested = found.rules
        result.rules[label] = tested
        by_override = (
            [self._by_override(found.account[row], found.health_after[row]) for row in order]
            if self.made_liquidatable
            else ()
        )
        if measure.is_over:
            return
        then, costs = book.priced_now(), self.costs  # what is put off holds no more than it needs

        @cache
        def offer(row: int) -> tuple[Opportunity, Waterfall]:
            fill = found.fill(row)
            opportunity = Opportunity(fill.order, fill, spread(then, fill), fill.step)
            return opportunity, costs.charged(then, opportunity, flash=True)

        def record() -> Iterator[Liquidation]:
            for place, row in enumerate(order):
                opportunity, waterfall = offer(row)
                yield Liquidation(
                    ordinal=first + place,
                    seq=then.seq,
                    clock=then.now,
                    fill=opportunity.fill,
                    step=opportunity.step,
                    profit_base=waterfall.rent,
                    waterfall=waterfall,
                    health_before=found.health_before[row],
                    health_after=found.health_after[row],
                    matches_history=None,
                    made_by_override=bool(by_override) and by_override[place],
                    **in_base(then, opportunity.fill),
                )

        def spell_of(place: int) -> tuple[Opportunity, int]:
            opportunity, waterfall = offer(order[place])
            return opportunity, before_bids(waterfall)

        self.opportunities.taken_together(then, [found.account[row] for row in order], spell_of, first)
        result.liquidations.put_off(len(order), record)

    def _write_off(self, liquidation: int, account: AccountId, asset: AssetId, amount: int) -> None:
        book = self.book
        deficit = Deficit(
            liquidation=liquidation,
            seq=book.seq,
            clock=book.now,
            account=account,
            asset=asset,
            amount=amount,
            amount_base=book.value_down(asset, amount),
        )
        self.measure.wrote_off(deficit)
        if not self.measure.is_over:
            self.result.deficits.append(deficit)

    def by_override(self, accounts: Sequence[AccountId], after: Callable[[int], int | None]) -> dict[int, bool]:
        """Of liquidations one after another (whose, and the health after each) those of accounts that an override made
        liquidatable.
        """
        if not self.made_liquidatable:
            return {}
        made = [row for row, account in enumerate(accounts) if account in self.made_liquidatable]
        return {row: self._by_override(accounts[row], after(row)) for row in made}

    def _health(self, account: AccountId) -> int | None:
        """Wad; None without debt, and where a price is missing."""
        book = self.book
        try:
            return book.protocol.view(book.state, account, book.prices, book.now).health
        except PriceMissing:
            return None

    @property
    def notes(self) -> list[str]:
        """What has to be known of the figures, in sentences."""
        assets = self.book.market.assets
        return [
            f"{count:,} steps of liquidations of {assets[asset].symbol} came while the oracle had no price of it: what"
            " they took counts as nothing in base units, and the health of those accounts is not known"
            for asset, count in sorted(self.unpriced.items())
        ]

    def _by_override(self, account: AccountId, after: int | None) -> bool:
        """Whether an override made the account liquidatable, before it is safe again (its health ``after``)."""
        made = account in self.made_liquidatable
        if made and (after is None or after >= WAD):
            self.made_liquidatable.discard(account)
        return made
