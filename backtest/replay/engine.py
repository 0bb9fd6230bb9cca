"""The replay loop: history's events in order, liquidations by the scenario's model.

A transaction at a time: what users and governance did is applied (``users``, ``overrides``); a historical liquidation is
re-enacted by the protocol's own rules from the state before it, its recorded effects left out; and, where a model acts, after
each transaction that changed a price, an index or a parameter the model takes what it wants until it wants nothing more.
Nobody acts inside another's transaction. An account that interest alone made liquidatable is seen at the next such moment.
"""

from __future__ import annotations

import gc
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic

from backtest.errors import PriceMissing, RulesError, ScenarioError
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
    SettingChange,
)
from backtest.protocols import Fill, LendingProtocol, Refusal, State
from backtest.replay.book import Book
from backtest.replay.liquidators import model_of
from backtest.replay.mechanism import Mechanism, Opportunity, mechanism_of, spread
from backtest.replay.overrides import Overrides, check
from backtest.replay.record import Deficit, Liquidation, Mismatch, Replay, Totals
from backtest.replay.screen import EveryAccount, Screen, Watch
from backtest.replay.timeline import Timeline
from backtest.replay.users import FrozenUsers
from backtest.scenario import Competitive, Scenario
from backtest.units import WAD

Progress = Callable[[int, int], None]
"""Called now and then with the number of events replayed, and of all."""


def replay(
    protocol: LendingProtocol[State],
    market: Market,
    timeline: Timeline,
    scenario: Scenario,
    *,
    mechanism: Mechanism[State] | None = None,
    samples: int = 0,
    screened: bool = True,
    progress: Progress | None = None,
) -> Replay[State]:
    """Replay one market under a scenario.

    Args:
        mechanism: how liquidations settle; the protocol's own way by default. Owned by this replay.
        samples: at how many blocks of the window totals are taken.
        screened: False looks at every account at every decision: the plain reference, same result.

    Raises:
        ScenarioError: an override names an asset that the market does not have, or makes no sense.
        RulesError: no rule covers a contract revision in the history; names its block.
    """
    engine = Engine(protocol, market, timeline, scenario, mechanism or _mechanism(protocol, scenario), samples, screened)
    reported = 0
    with _uncollected():
        for transaction in engine.transactions():
            engine.advance(transaction)
            if progress is not None and engine.result.events - reported >= 2_000:
                reported = engine.result.events
                progress(reported, len(timeline))
        return engine.finish()


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: books and events hold no cycles, and walking a large book over and over takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def replay_together(markets: Iterable[tuple[LendingProtocol[Any], Market, Timeline]], scenario: Scenario) -> list[Replay[Any]]:
    """Several markets in one run, their transactions interleaved by time, then in the order given."""
    engines = [Engine(protocol, market, timeline, scenario, _mechanism(protocol, scenario)) for protocol, market, timeline in markets]

    def stamped(number: int) -> Iterator[tuple[int, int, int, Sequence[MarketEvent]]]:
        for order, transaction in enumerate(engines[number].transactions()):
            yield transaction[0].timestamp, number, order, transaction

    for _, number, _, transaction in heapq.merge(*(stamped(i) for i in range(len(engines)))):
        engines[number].advance(transaction)
    return [engine.finish() for engine in engines]


def _mechanism(protocol: LendingProtocol[State], scenario: Scenario) -> Mechanism[State]:
    return mechanism_of(protocol, getattr(scenario.liquidators, "gas_cost", 0))


def state_at(protocol: LendingProtocol[State], market: Market, timeline: Timeline, block: int) -> tuple[State, Prices, Clock]:
    """A market as it was at the end of ``block``: history's own changes, nothing re-enacted."""
    book = Book.open(protocol, market)
    for transaction in timeline.transactions(block):
        for event in transaction:
            if type(event) is not HistoricalLiquidation:
                book.apply(event)
    return book.state, book.prices, timeline.clock_at(block)


class Engine(Generic[State]):
    """One market's replay in progress. Feed ``advance`` the transactions in order, then ``finish``."""

    def __init__(
        self,
        protocol: LendingProtocol[State],
        market: Market,
        timeline: Timeline,
        scenario: Scenario,
        mechanism: Mechanism[State],
        samples: int = 0,
        screened: bool = True,
    ) -> None:
        check(market, scenario.overrides, timeline.params, timeline.last_block)
        self.liquidator = AccountId(len(market.accounts))
        market = replace(market, accounts=(*market.accounts, f"model:{scenario.liquidators.__class__.__name__.lower()}"))
        self.book = Book.open(protocol, market)
        self.users = FrozenUsers()
        modelled = isinstance(scenario.liquidators, Competitive)
        self.watch: Watch[State] = Screen(len(market.assets)) if modelled and screened else EveryAccount()
        self._timeline = timeline
        self._to_block = timeline.last_known_block(scenario.to_block)
        self._acts_from = (scenario.from_block or 0) if modelled else None
        self._acting = False
        self._block = -1
        self._last: MarketEvent | None = None
        self._overrides = Overrides(market, scenario.overrides)
        self._mechanism = mechanism
        self._model = model_of(scenario.liquidators)
        self._samples = timeline.sample_blocks(samples, scenario.from_block or 0, self._to_block)[::-1]
        self._refused: set[tuple[AccountId, str]] = set()
        first = max(scenario.from_block or 0, timeline.first_block)
        if first > self._to_block:
            raise ScenarioError(f"from_block = {first} is after the last block of the window, {self._to_block}", "give an earlier one")
        self.result: Replay[State] = Replay(book=self.book, from_clock=Clock(first, -1, timeline.timestamp_from(first)))

    def transactions(self) -> Iterator[Sequence[MarketEvent]]:
        """The window's transactions."""
        return self._timeline.transactions(self._to_block)

    def advance(self, transaction: Sequence[MarketEvent]) -> None:
        """One transaction of history, and what it makes liquidators do."""
        if transaction[0].block_number != self._block:
            self._enter_block(transaction[0])
        moved = False
        try:
            for event in transaction:
                moved |= self._apply(event)
        except RulesError as error:
            if str(event.block_number) in error.what:
                raise
            raise RulesError(f"block {event.block_number}: {error.what}", error.fix) from error
        self.result.events += len(transaction)
        self._last = event
        if moved and self._acting:
            self._stand_at(event)
            self._decide()

    def finish(self) -> Replay[State]:
        """Time runs to the end of the window; the outcome."""
        end = self._timeline.clock_at(self._to_block)
        self._pass_time(end.block_number + 1, end.timestamp)
        self.book.now = end
        result = self.result
        reasons = sorted(reason for _, reason in self._refused)
        result.refused = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
        result.clamped, result.unfunded, result.overrides = self.users.clamped, self.users.unfunded, self._overrides.touched
        return result

    # -- history -----------------------------------------------------------------------------------------------------

    def _enter_block(self, first: MarketEvent) -> None:
        """Time passes up to a block, and overrides start in it, before its first transaction."""
        self._block = first.block_number
        self._acting = self._acts_from is not None and self._block >= self._acts_from
        self._pass_time(self._block, first.timestamp)
        due = self._overrides.due(self.book.seq, Clock(self._block, -1, first.timestamp))
        if due:
            self.book.now = Clock(self._block, -1, first.timestamp)
            for change in due:
                self._set_parameter(change)
            if self._acting:
                self._decide()

    def _stand_at(self, event: MarketEvent) -> None:
        self.book.seq, self.book.now = event.seq, Clock(event.block_number, event.log_index, event.timestamp)

    def _apply(self, event: MarketEvent) -> bool:
        """One event of history; whether it is one after which liquidators look."""
        book = self.book
        if isinstance(event, PositionChange | SettingChange):
            if event.action == "liquidation":
                self.users.historical(event)
                return False
            for change in self.users.adapt(event, book):
                book.apply(change)
            self.watch.touch(event.account)
            return False
        if isinstance(event, HistoricalLiquidation):
            if self._acting:
                self.result.left_out += 1
            else:
                self._stand_at(event)
                self._reenact(event)
            return False
        if isinstance(event, ParamChange):
            self._set_parameter(self._overrides.replaced(event))
        else:
            book.apply(event)
        return True

    def _set_parameter(self, change: ParamChange) -> None:
        self.book.apply(change)
        if change.name in self.book.protocol.exposure_parameters:
            self.watch.touch_parameter(change.asset if change.category is None else None)

    def _reenact(self, past: HistoricalLiquidation) -> None:
        book = self.book
        order = book.protocol.observed_order(book.state, past, book.prices, book.now)
        fill = book.protocol.quote(book.state, order, book.prices, book.now)
        if isinstance(fill, Refusal):
            self.result.mismatches.append(Mismatch(past, None, fill.reason))
            return
        same = (fill.repaid, fill.seized, fill.protocol_fee) == (past.repaid, past.seized, past.protocol_fee)
        same = same and sorted(fill.deficits) == sorted(past.deficits)
        if not same:
            self.result.mismatches.append(Mismatch(past, (fill.repaid, fill.seized, fill.protocol_fee), "amounts differ"))
        profit = spread(book, fill)
        self._settle(Opportunity(order, fill, profit), profit, same)

    # -- time --------------------------------------------------------------------------------------------------------

    def _pass_time(self, block: int, timestamp: int) -> None:
        """Up to a new block: auctions wake up, and totals are taken at the blocks left behind."""
        if self._last is not None:
            self._stand_at(self._last)
        while self._acts_from is not None and (wake := self._mechanism.wake(self.book.now)) is not None and wake <= timestamp:
            self.book.now = replace(self.book.now, timestamp=wake)
            self._decide()
        while self._samples and self._samples[-1] < block:
            self.book.now = self._timeline.clock_at(self._samples.pop())
            self.result.totals.append(self._totals())

    def _totals(self) -> Totals:
        book = self.book
        collateral = debt = liquidatable = bad = accounts = unpriced = 0
        for account in book.protocol.accounts(book.state):
            try:
                view = book.protocol.view(book.state, account, book.prices, book.now)
            except PriceMissing:
                unpriced += 1
                continue
            collateral += view.collateral_base
            debt += view.debt_base
            bad += max(0, view.debt_base - view.collateral_base)
            if view.health is not None and view.health < WAD:
                liquidatable += view.debt_base
                accounts += 1
        return Totals(
            clock=book.now,
            collateral_base=collateral,
            debt_base=debt,
            liquidatable_debt_base=liquidatable,
            bad_debt_base=bad,
            deficit_base=sum(book.value_down(d.asset, d.amount) for d in self.result.deficits),
            accounts_liquidatable=accounts,
            accounts_unpriced=unpriced,
        )

    # -- liquidators -------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        """The model acts until it wants nothing more. An offer stands until its account, or market-wide state, changes."""
        book, mechanism, model = self.book, self._mechanism, self._model
        open_to: dict[AccountId, list[Opportunity]] = {}
        stale: Iterable[AccountId] = sorted({*self.watch.candidates(book), *mechanism.open_accounts()})
        while True:
            for account in stale:
                found = mechanism.opportunities(book, account, self.liquidator, receive_collateral_token=model.receive_collateral_token)
                self._refused.update((account, offer.reason) for offer in found if isinstance(offer, Refusal))
                offers = [offer for offer in found if isinstance(offer, Opportunity)]
                if offers:
                    open_to[account] = offers
                else:
                    open_to.pop(account, None)
            take = model.choose(book, open_to)
            if take is None:
                return
            mechanism.settle(book, take.opportunity)
            touched, market_wide = self._settle(take.opportunity, take.profit, None)
            stale = sorted({*touched, *open_to, *self.watch.candidates(book), *mechanism.open_accounts()} if market_wide else touched)

    def _settle(self, opportunity: Opportunity, profit: int, matches: bool | None) -> tuple[set[AccountId], bool]:
        """Apply a fill and record it; the accounts it touched, and whether it changed market-wide state."""
        book, fill, result = self.book, opportunity.fill, self.result
        account, ordinal = fill.order.account, len(result.liquidations)
        before = book.protocol.view(book.state, account, book.prices, book.now).health
        touched, market_wide = {account}, False
        for change in fill.changes:
            if isinstance(change, ParamChange):
                self._set_parameter(change)
                market_wide |= change.name in book.protocol.order_parameters
                continue
            book.apply(change)
            if isinstance(change, PositionChange):
                self.users.modelled(change)
            touched.add(change.account)
        for changed in touched:
            self.watch.touch(changed)
        for asset, amount in fill.deficits:
            result.deficits.append(self._deficit(ordinal, account, asset, amount))
        if fill.rules:
            result.rules[fill.rules] = fill.rules_tested
        result.liquidations.append(
            Liquidation(
                ordinal=ordinal,
                seq=book.seq,
                clock=book.now,
                fill=fill,
                step=opportunity.step,
                profit_base=profit,
                health_before=before,
                health_after=book.protocol.view(book.state, account, book.prices, book.now).health,
                matches_history=matches,
                **_in_base(book, fill),
            )
        )
        return touched, market_wide

    def _deficit(self, ordinal: int, account: AccountId, asset: AssetId, amount: int) -> Deficit:
        book = self.book
        value = book.value_down(asset, amount)
        return Deficit(liquidation=ordinal, seq=book.seq, clock=book.now, account=account, asset=asset, amount=amount, amount_base=value)


def _in_base(book: Book[State], fill: Fill) -> dict[str, int]:
    pair = fill.order.pair
    return {
        "repaid_base": book.value_down(pair.debt_asset, fill.repaid),
        "seized_base": book.value_down(pair.collateral_asset, fill.seized),
        "protocol_fee_base": book.value_down(pair.collateral_asset, fill.protocol_fee),
    }
