"""The replay loop: history's events in order, liquidations by the scenario's model.

A transaction at a time: what users and governance did is applied (``users``, ``overrides``); a historical liquidation
is re-enacted by the protocol's own rules from the state before it, its recorded effects left out; and, where a model
acts, after each transaction that changed a price, an index or a parameter (or, as the scenario says, a price) the model
takes what it wants until it wants nothing more. Nobody acts inside another's transaction. An account that interest
alone made liquidatable is seen at the next such moment. While offers stand that did not pay, or auctions are open, a
market price or a pool that moved is such a moment too. Where interest is recomputed, history's index
updates are not applied: every call says what it does to the reserves it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Generic

from msgspec import structs

from backtest.errors import RulesError, ScenarioError
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    Market,
    MarketEvent,
    MarketPrice,
    ParamChange,
    PoolChange,
    PositionChange,
    PriceUpdate,
    SettingChange,
)
from backtest.protocols.book import Book
from backtest.protocols.interface import Action, LendingProtocol, Opening, Refusal, Spreads, State
from backtest.protocols.mechanism import Mechanism, Opportunity, spread
from backtest.replay.claims import Claims, Deposits
from backtest.replay.competition.batch import BatchTaker
from backtest.replay.competition.costs import CostModel
from backtest.replay.competition.gas import NO_FEES, BaseFees
from backtest.replay.competition.models import Take, searcher_names
from backtest.replay.competition.opportunities import OpportunityBook
from backtest.replay.competition.purse import Till
from backtest.replay.competition.searchers import model_of
from backtest.replay.deferred import Deferred
from backtest.replay.measure import Measure, Onlooker
from backtest.replay.mechanisms import mechanism_of, swapped
from backtest.replay.mechanisms.lint import warnings
from backtest.replay.mechanisms.offers import Offers
from backtest.replay.memory import uncollected
from backtest.replay.mitigations import mitigations_of
from backtest.replay.record import Mismatch, Replay, Unpaid
from backtest.replay.response import PriceResponse
from backtest.replay.settlement import Settlement
from backtest.replay.shortcuts.past import Condensed, condensed
from backtest.replay.shortcuts.quiet import Quiet
from backtest.replay.shortcuts.stretch import Stretches
from backtest.replay.timeline import Reader, Timeline
from backtest.replay.watch.foresight import EndingForesight, Foresight
from backtest.replay.watch.screen import EveryAccount, Screen, Watch
from backtest.replay.what_if.impact import reach_of, views_of, with_late
from backtest.replay.what_if.overrides import Overrides, check
from backtest.replay.what_if.owners import owners_of
from backtest.replay.what_if.rates import RateComparison
from backtest.replay.what_if.users import Effect, UserActions, actions_of
from backtest.scenario import Competitive, Observed, Scenario

if TYPE_CHECKING:
    from backtest.replay.shortcuts.common_start import Start

Progress = Callable[[int, int], None]
"""Called now and then with the number of events replayed, and of all."""
_CHANGES = (PositionChange, SettingChange)
"""What an account's actions are made of; as a tuple, since a union is put together anew at every test."""


def replay(
    protocol: LendingProtocol[State],
    market: Market,
    timeline: Timeline,
    scenario: Scenario,
    *,
    mechanism: Mechanism[State] | None = None,
    samples: int = 0,
    screened: bool = True,
    start: Start[State] | None = None,
    base_fees: BaseFees = NO_FEES,
    response: PriceResponse | None = None,
    onlooker: Onlooker | None = None,
    progress: Progress | None = None,
) -> Replay[State]:
    """Replay one market under a scenario.

    Args:
        mechanism: how liquidations settle; the protocol's own way by default. Owned by this replay.
        samples: at how many blocks of the window totals are taken.
        screened: False looks at every account at every decision: the plain reference, same result.
        start: what ``common_start.start_of`` made for a scenario that is the same up to its first block; same result.
            ValueError where this one is not.
        base_fees: of history's blocks, for costs that ask for them.
        response: prices that answer to what is sold; None: history's, whatever is sold. From a common start no pool
            is followed.
        onlooker: who looks at the book on the way.

    Raises:
        ScenarioError: an override names an asset that the market does not have, or makes no sense.
        RulesError: no rule covers a contract revision in the history; names its block.
    """
    with uncollected():
        engine = Engine(
            protocol,
            market,
            timeline,
            scenario,
            mechanism or mechanism_for(protocol, scenario),
            samples,
            screened,
            start,
            base_fees,
            response,
            onlooker=onlooker,
        )
        reported = engine.result.events
        reader = engine.transactions()
        for transaction in reader:
            engine.advance(transaction)
            engine.run_ahead(reader)
            if progress is not None and engine.result.events - reported >= 2_000:
                reported = engine.result.events
                progress(reported, len(timeline))
        return engine.finish()


def refuse_joint(scenario: Scenario) -> None:
    """ScenarioError for a scenario of several markets where one is replayed."""
    if scenario.joint is not None:
        raise ScenarioError(
            f"a scenario of {len(scenario.joint.markets)} markets where one is replayed",
            "leave [joint] out, or replay it by backtest replay",
        )


def mechanism_for(protocol: LendingProtocol[State], scenario: Scenario) -> Mechanism[State]:
    """The way of liquidating that a scenario names, or the protocol's own; new for each replay."""
    cost = getattr(scenario.liquidators, "gas_cost", 0)
    return swapped(scenario.mechanism, cost) or mechanism_of(protocol, cost)


class Engine(Generic[State]):
    """One market's replay in progress. Feed ``advance`` the transactions in order, then ``finish``.

    ``without``: accounts that nobody liquidates from the scenario's first block on; not from a ``start``, which knows
    of none.
    """

    def __init__(
        self,
        protocol: LendingProtocol[State],
        market: Market,
        timeline: Timeline,
        scenario: Scenario,
        mechanism: Mechanism[State],
        samples: int = 0,
        screened: bool = True,
        start: Start[State] | None = None,
        base_fees: BaseFees = NO_FEES,
        response: PriceResponse | None = None,
        till: Till | None = None,
        deposits: Deposits | None = None,
        claims: Claims | None = None,
        without: frozenset[AccountId] = frozenset(),
        onlooker: Onlooker | None = None,
    ) -> None:
        refuse_joint(scenario)
        if start is not None and without:
            raise ValueError("from a common start everybody may be liquidated")
        self._without = without
        units, first = protocol.parameters, max(scenario.from_block or 0, timeline.first_block)
        check(market, scenario.overrides, timeline, units, protocol.fault, allow_invalid=scenario.allow_invalid)
        self.liquidator = AccountId(len(market.accounts))
        names = searcher_names(scenario.liquidators)
        searchers = {name: AccountId(self.liquidator + place) for place, name in enumerate(names)}
        market = replace(market, accounts=(*market.accounts, *(f"model:{name}" for name in names)))
        self._recompute = scenario.rates == "recomputed"
        self._overrides = Overrides(market, scenario.overrides, timeline, units)
        if start is not None and not start.suits(timeline, scenario, self._overrides.first_block):
            raise ValueError("the scenario does not go on from this start")
        self.book = Book.open(protocol, market, recompute=self._recompute) if start is None else start.book.copy()
        self.book.market = market  # a common start knows no searchers of this scenario
        self.book.plain = not screened
        self.users: UserActions[State] = (
            UserActions(protocol, market, scenario.users, recompute=self._recompute)
            if start is None
            else start.users.copy()
        )
        model = None if isinstance(scenario.liquidators, Observed) else scenario.liquidators
        self._deposits, self._claims = deposits, claims
        linked = deposits is not None or claims is not None
        self._screen = None if start is None else start.screen
        """Makes a screen of everybody as of the start."""
        self.watch: Watch[State]
        if not (model and screened):
            self.watch = EveryAccount(without)
        elif self._recompute or linked or not (response is None or response.known):  # what prices will be is not known
            self.watch = Screen(len(market.assets), without) if start is None else start.screen()
        elif start is not None and response is not None:
            self.watch = EndingForesight.of(start.watch)
        elif start is not None:
            self.watch = start.watch.copy()
        else:
            self.watch = Foresight(timeline, len(market.assets), without)
        self._measure = Measure(self.book, timeline, scenario, samples, self.users.outside, onlooker)
        self._opening: Opening | None = None
        self._seat = None if response is None else response.seat(market, first)
        begin = timeline.timestamp_from(first)
        self._owners = owners_of(scenario, timeline, protocol, market, begin) if model is not None else None
        self.users.owners = self._owners
        self._quiet = Quiet(self.book, self.users, self._measure, self._overrides, self._seat, self._owners)
        in_short = screened and start is None and (response is None or model is not None)
        past = self._past(timeline, first, acts=model is not None) if in_short else Condensed(timeline)
        self._timeline = past.timeline
        self._acts_from = (scenario.from_block or 0) if model else None
        self._prices_only = model is not None and model.looks == "price-update"
        self._acting = False
        self._offered = False
        """Whether offers stand that the model did not want when it last looked."""
        self._block = -1
        self.last: MarketEvent | None = None if start is None else start.last
        self._woke_after: MarketEvent | None = None
        """The last transaction's end, where time has passed since."""
        self._mitigated = mitigations_of(scenario, protocol, market)
        if self._mitigated is not None:
            mechanism, self.users.beside = self._mitigated.around(mechanism), self._mitigated
            if self._mitigated.moves_prices:
                self._lose_foresight()
        if deposits is not None:
            deposits.seat, deposits.mitigated = self._seat, self._mitigated
        self._answers = self._seat is not None or claims is not None
        """Whether prices may be others than history's,"""
        self._mechanism = mechanism
        self._warnings = tuple(warnings(protocol, market, timeline, scenario, first)) if scenario.alters else ()
        fixed = scenario.liquidators.gas_cost if isinstance(scenario.liquidators, Competitive) else 0
        self._costs = CostModel.of(
            scenario.costs, market, protocol, fees=base_fees, start=timeline.timestamp_from(first), fixed=fixed
        )
        self._costs.answered_by(self._seat)
        self._model = model_of(scenario.liquidators, self._costs, scenario.seed, till)
        mechanism.bidders = self._model.bidders
        self.opportunities = OpportunityBook()
        self._rates = RateComparison() if self._recompute else None
        self._refused: set[tuple[AccountId, str]] = set()
        self._unpaid: dict[tuple[AccountId, AssetId], Unpaid] = {}
        if first > self._measure.end:
            raise ScenarioError(
                f"from_block = {first} is after the last block of the window, {self._measure.end}",
                "give an earlier one",
            )
        self.result: Replay[State] = Replay(book=self.book, from_clock=Clock(first, -1, timeline.timestamp_from(first)))
        self._settlement = Settlement(
            self.book, self.users, self._measure, self.opportunities, self.result, self._costs, searchers, self._seat
        )
        self._together = BatchTaker(self.book, self._settlement, mechanism, self._model, self.liquidator)
        self._stretches = Stretches(
            self._settlement, self._timeline, self._together.model if not self._prices_only else None, self._overrides,
            self.liquidator,
        )  # fmt: skip
        self.result.events, self.users.made = self.result.events + past.events, self.users.made + past.actions
        self._begin = 0
        self._start = start
        if start is not None:
            self._go_on_from(start)
            if self._seat is not None:
                self._seat.begin(start.book)
            if claims is not None:
                claims.begin(start.book)

    def _past(self, timeline: Timeline, first: int, *, acts: bool) -> Condensed:
        """History in short, as far as nobody asks for more."""
        past = Condensed(timeline)
        if self._recompute or not self.book.begin(Opening((), ())):
            return past
        if not acts:
            past = condensed(timeline, self._measure.reads)
        elif not self._overrides.begins_within(timeline.first_block, first):
            past = condensed(timeline, [first])
        if past.events or any(mask.any() for mask in past.opens.values()):
            self._opening, past = past.opened()
        return past

    def _open(self, opening: Opening) -> None:
        """Accounts come with what their past, which is left out, comes to."""
        self.book.begin(opening)
        self.users.begin(opening)
        for account in {*(held[0] for held in opening.balances), *(made[0] for made in opening.settings)}:
            self.watch.touch(account)

    def _go_on_from(self, start: Start[State]) -> None:
        """What the window's past left behind, apart from book and users."""
        result = self.result
        self._begin = start.block
        result.liquidations, result.deficits, result.mismatches = (
            Deferred(start.liquidations),
            Deferred(start.deficits),
            list(start.mismatches),
        )
        result.events, result.rules = start.events, dict(start.rules)
        for change in self._timeline.params:
            if change.block_number < start.block:
                change = self._overrides.replaced(change)
                if self._mitigated is not None:
                    self._mitigated.parameter(change)

    def transactions(self, to_block: int | None = None) -> Reader:
        """The transactions up to a block, or the window's last horizon; from its first block where the replay goes on
        from a start.
        """
        return self._timeline.transactions(self._measure.last if to_block is None else to_block, self._begin)

    def advance(self, transaction: Sequence[MarketEvent]) -> None:
        """One transaction of history, and what it makes liquidators do."""
        if self._quiet.passes(transaction):
            self.result.events += len(transaction)
            self.last = transaction[-1]
            return
        if transaction[0].block_number != self._block:
            self._enter_block(transaction[0])
            self._quiet.ends()
        moved = False
        event = transaction[-1]
        try:
            if not self._repeats(transaction):
                waiting = actions_of(transaction)
                for event in transaction:
                    moved |= self._apply(event, waiting)
        except RulesError as error:
            if str(event.block_number) in error.what:
                raise
            raise RulesError(f"block {event.block_number}: {error.what}", error.fix) from error
        if self._rates is not None and not self._acting:
            self._rates.compare(transaction, self.book)
        self.result.events += len(transaction)
        self.last = event
        if moved and self._acting:
            self._stand_at(event)
            self._decide()

    def run_ahead(self, reader: Reader) -> None:
        """After a transaction: those that come next, as far as they are prices and indexes alone and the compiled loop
        can tell what they make liquidators do. The same as ``advance`` of each, in a fraction of the time.
        """
        if self._acting and not self._offered and isinstance(self.watch, Foresight):
            self.stand()
            last = self._stretches.run(self.watch, reader, self._refused, self._own_wake())
            self.last = self.last if last is None else last
            if self.watch.waits:
                self.watch.go_to(self.watch.ticks.at(self.book.seq), self.book)
            self._quiet.goes_on(self.watch)

    def finish(self) -> Replay[State]:
        """Time runs to the last horizon; the outcome."""
        self._pass_time(self._measure.last + 1, self._timeline.clock_at(self._measure.last).timestamp)
        result = self.result
        reasons = sorted(reason for _, reason in self._refused)
        result.refused = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
        result.unpaid = [self._unpaid[key] for key in sorted(self._unpaid)]
        result.actions, result.overrides = self.users.counts, self._overrides.touched
        result.actions_made = self.users.made
        result.totals, result.horizons, result.short_of = (
            self._measure.totals,
            self._measure.horizons,
            self._measure.short_of,
        )
        result.rate_check = self._rates.result if self._rates is not None else None
        result.costs = [*self._warnings, *self._costs.sentences(), *self._settlement.notes]
        if self._seat is not None:
            result.costs += self._seat.response.sentences()
            end = self._measure.end
            result.points = [point for point in self._seat.points if point.clock.block_number <= end]
            result.sales = [sale for sale in self._seat.sales if sale.clock.block_number <= end]
        result.mitigations = self._mitigated.finish(result) if self._mitigated is not None else []
        self.opportunities.close()
        result.spells = self.opportunities.spells
        return result

    # -- history -----------------------------------------------------------------------------------------------------

    def _enter_block(self, first: MarketEvent) -> None:
        """Time passes up to a block, and overrides start in it, before its first transaction."""
        self._pass_time(first.block_number, first.timestamp)
        self._block = first.block_number
        self._acting = self._acts_from is not None and self._block >= self._acts_from
        clock = Clock(self._block, -1, first.timestamp)
        due, texts = self._overrides.due(self.book.seq, clock)
        start, self._start = self._start, None
        if due:
            self.book.now = clock
            before = views_of(self.book) if start is None else start.views_at(clock, self.book)
            for change in due:
                self._set_parameter(change)
            reach, made = reach_of(texts, before, views_of(self.book), clock)
            self.result.reach.append(reach)
            self.result.made_liquidatable += made
            self._settlement.made_liquidatable.update(one.account for one in made)
            if self._acting and not self._prices_only:
                self._decide()
        if (
            self._opening is not None
        ):  # in the first block, after its overrides: they find the book as empty as the whole history leaves it
            self._open(self._opening)
            self._opening = None
        if self._deposits is not None and self._acting and not self._deposits.begun:
            self._deposits.begin(self.book)
        if self._answers and self._acting:
            self.book.now = clock
            self.respond()

    def stand(self) -> None:
        """Where the last transaction ended, or where time has passed to since."""
        if self.last is not None and self.last is not self._woke_after:
            self._stand_at(self.last)

    def _stand_at(self, event: MarketEvent) -> None:
        self.book.seq, self.book.now = event.seq, Clock(event.block_number, event.log_index, event.timestamp)

    def _repeats(self, transaction: Sequence[MarketEvent]) -> bool:
        """Before a model acts: makes a transaction as recorded and returns True, where nothing in it is re-enacted or
        of an account that differs from history. The same as ``_apply``, without its questions.
        """
        if self._acting or self._recompute:
            return False
        differs = self.users.differs
        for event in transaction:
            kind = type(event)
            if kind is PositionChange or kind is SettingChange:
                if event.action == "liquidation" or event.account in differs:  # type: ignore[union-attr]
                    return False
            elif kind is HistoricalLiquidation:
                return False
        self.users.repeat(transaction)
        apply, state, touch = self.book.protocol.apply, self.book.state, self.watch.touch
        waiting = actions_of(transaction)
        for event in transaction:
            if isinstance(event, _CHANGES):
                changes = waiting[event.action_seq]
                if changes[-1] is event:
                    for change in changes:
                        apply(state, change)
                        touch(change.account)
            elif isinstance(event, ParamChange):
                self._set_parameter(self._overrides.replaced(event))
            else:
                self._move(event)
        return True

    def _move(self, event: MarketEvent) -> None:
        """An index, a price or a pool moves as in history, or as prices answer."""
        if self._seat is None or not isinstance(event, PriceUpdate | MarketPrice | PoolChange):
            self._take(event)
            return
        for moved in self._seat.adjusted(event):
            self._take(moved)

    def _take(self, event: MarketEvent) -> None:
        """The book takes an event, of a claim's price what is left, of an oracle's round what mitigations let it."""
        if self._claims is not None and isinstance(event, PriceUpdate | MarketPrice):
            event = self._claims.priced(event)
        if self._mitigated is not None and self._acting and isinstance(event, PriceUpdate):
            event = self._mitigated.round(self.book, event, self._set_parameter)
        self.book.apply(event)

    def _apply(self, event: MarketEvent, waiting: dict[int, list[PositionChange | SettingChange]]) -> bool:
        """One event of history; whether it is one after which liquidators look."""
        if isinstance(event, _CHANGES):
            if event.action == "liquidation":
                self.users.historical(event)
                self.users.shadow(event)
                return False
            changes = waiting[event.action_seq]
            if changes[-1] is not event:
                return False
            self._stand_at(event)
            made = self.users.remake(event.action, tuple(changes), self.book, checked=self._acting)
            for change in changes:
                self.watch.touch(change.account)
                self.opportunities.owner_acted(change.account)
            return self.take_effect(made) and not self._prices_only
        if isinstance(event, HistoricalLiquidation):
            self.users.shadow(event)
            if self._acting:
                self.result.left_out += not self._measure.is_over
            else:
                self._stand_at(event)
                self._reenact(event)
            return False
        self.users.shadow(event)
        if isinstance(event, ParamChange):
            replaced = self._overrides.replaced(event)
            if not self._recompute:
                self._set_parameter(replaced)
            else:
                self._stand_at(event)
                self.take_effect(self._parameter_call(replaced))
            return not self._prices_only
        if isinstance(event, IndexUpdate) and self._recompute:
            return False
        self._move(event)
        if isinstance(event, MarketPrice | PoolChange):
            return not self._prices_only and (self._offered or bool(self._mechanism.open_accounts()))
        return isinstance(event, PriceUpdate) or not self._prices_only

    def _parameter_call(self, change: ParamChange) -> Sequence[Effect]:
        book = self.book
        acted = book.protocol.act(book.state, Action("parameter", (change,)), book.prices, book.now)
        return () if isinstance(acted, Refusal) else acted.changes

    def take_effect(self, effects: Iterable[Effect]) -> bool:
        """Apply what a call does; whether an index moved."""
        moved = False
        for effect in effects:
            if isinstance(effect, ParamChange):
                self._set_parameter(effect)
                continue
            self.book.apply(effect)
            if isinstance(effect, IndexUpdate):
                moved = True
                self._lose_foresight()
            else:
                self.watch.touch(effect.account)
        return moved

    def _lose_foresight(self) -> None:
        """An index or a price moved otherwise than in history: what lies ahead is not known any more."""
        if isinstance(self.watch, EndingForesight) and self._screen is not None:
            self.watch = self.watch.told(self._screen())
        elif isinstance(self.watch, Foresight):
            self.watch = Screen(len(self.book.market.assets), self._without)
            for account in self.book.protocol.accounts(self.book.state):
                self.watch.touch(account)

    def _set_parameter(self, change: ParamChange) -> None:
        if self._mitigated is not None:
            change = self._mitigated.parameter(change)
        self.book.apply(change)
        if change.name in self.book.protocol.exposure_parameters:
            self.watch.touch_parameter(change.asset if change.category is None else None, change.name)

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
            self.result.mismatches.append(
                Mismatch(past, (fill.repaid, fill.seized, fill.protocol_fee), "amounts differ")
            )
        offer = Opportunity(order, fill, spread(book, fill), fill.step)
        self._settlement.settle(self, Take(offer, self._costs.charged(book, offer)), same)

    # -- time --------------------------------------------------------------------------------------------------------

    def _pass_time(self, block: int, timestamp: int) -> None:
        """Up to a new block: auctions wake up, and what was to be measured on the way is."""
        measure = self._measure
        self.stand()
        while (wake := self.next_wake()) is not None and wake <= timestamp:
            self.wake(wake, block)
        measure.pass_to(block)
        while label := measure.horizon_before(block):
            self._take_horizon(label)

    def next_wake(self) -> int | None:
        """When time alone changes what is offered, or who takes it; asked where the engine stands."""
        if self._acts_from is None:
            return None
        own = self._own_wake()
        return min((time for time in (self._wake_of_liquidators(), own) if time is not None), default=None)

    def _own_wake(self) -> int | None:
        """When owners who decide by themselves look or act next."""
        return None if self._owners is None else self._owners.wake()

    def _wake_of_liquidators(self) -> int | None:
        times = [self._mechanism.wake(self.book.now), self._model.wake(self.book.now)]
        if self._seat is not None:
            times.append(self._seat.wake(self.book.now))
        if self._claims is not None:
            times.append(self._claims.wake(self.book.now))
        return min((time for time in times if time is not None), default=None)

    def wake(self, time: int, block: int) -> None:
        """Time passes to ``time``, before any event of ``block``: owners act whose moment it is, and liquidators look
        where it is theirs, or where an index moved.
        """
        theirs, own = self._wake_of_liquidators(), self._own_wake()
        self._pass_to(time, block)
        looks = theirs is not None and theirs <= time
        if self._owners is not None and own is not None and own <= time:
            looks |= self._owners.wakes(time, self) and not self._prices_only
        if looks and not (self._answers and self.respond()):
            self._decide()

    def act_of_owner(self, effects: Sequence[Effect], amount: int | None) -> bool:
        """An owner did something of itself; ``amount`` native units, where money moved. Whether an index moved."""
        self.users.of_themselves(effects, amount)
        for effect in effects:
            if isinstance(effect, _CHANGES):
                self.opportunities.owner_acted(effect.account)
        return self.take_effect(effects)

    def hear(self, time: int, block: int) -> None:
        """Somebody sold in another market at ``time``, or it lost something, before any event of ``block`` here: prices
        answer, and liquidators look where that is something to look after.
        """
        if self._answers and self._acting:
            self.stand()
            self._pass_to(time, block)
            self.respond()

    def _pass_to(self, time: int, block: int) -> None:
        measure = self._measure
        while (label := measure.horizon_before(block)) and self._timeline.clock_at(
            measure.next_horizon
        ).timestamp < time:
            self._take_horizon(label)
        self.book.now = replace(self.book.now, timestamp=time)
        self._woke_after = self.last

    @property
    def end(self) -> Clock:
        """The end of the last horizon: what comes later is not asked."""
        return self._timeline.clock_at(self._measure.last)

    def _take_horizon(self, label: str) -> None:
        """The end of the window is kept as it is where the replay goes on to later horizons."""
        self._measure.take_horizon()
        if label == "end":
            self.result.reach = with_late(self.result.reach, self._overrides, self.book)
        if label == "end" and self._measure.last > self._measure.end:
            self.result.book = self.book.copy()

    # -- liquidators -------------------------------------------------------------------------------------------------

    def respond(self) -> bool:
        """Prices become what they are now, after sales and losses of any market and by the oracles' rules; where that
        is something liquidators look after, they do, and whether.
        """
        if not self._answered():
            return False
        self._decide()
        return True

    def _answered(self) -> bool:
        moved = [] if self._seat is None else self._seat.rounds_due(self.book.now)
        moved += [] if self._claims is None else self._claims.due(self.book.now)
        if self._seat is not None and not self._seat.response.known:  # somebody sold, maybe in another market
            self._lose_foresight()
        for event in moved:
            self._take(event)
        waits = not self._prices_only and (self._offered or bool(self._mechanism.open_accounts()))
        return any(isinstance(event, PriceUpdate) or waits for event in moved)

    def _decide(self) -> None:
        """Liquidators act until they want nothing more, and again after each round of an oracle that their sales bring
        at once.
        """
        self._decide_once()
        while self._answers and self._answered():
            self._decide_once()

    def _decide_once(self) -> None:
        """The model acts until it wants nothing more. An offer stands until its account, or market-wide state,
        changes.
        """
        book, mechanism, model = self.book, self._mechanism, self._model
        if self._mitigated is not None:
            self._mitigated.act(self)
        may_be = self.watch.candidates(book)
        taken, rest = self._together.take(self, may_be, self._refused)
        valued = self._valued if mechanism.as_quoted else None
        open_to = Offers(self._on_offer, {*rest, *mechanism.due(book)}, self._spreads, valued)
        while (take := model.choose(book, open_to)) is not None:
            taken = True
            lot = mechanism.settle(book, take.opportunity)
            touched, market_wide = self._settlement.settle(self, take, None, lot)
            if self._seat is not None and not self._seat.response.known:
                self._lose_foresight()
            open_to.outdate(touched)
            if market_wide or (self._mitigated is not None and self._mitigated.binds_others):
                open_to.outdate_all()
                open_to.outdate([*self.watch.candidates(book), *mechanism.due(book)])
            elif self._seat is not None and self._seat.buys:
                open_to.outdate_all()
            elif self._seat is not None:  # whoever sells now gets less than was quoted before
                open_to.lower_all()
        if not self._measure.is_over:
            withheld = self._mitigated.waiting if self._mitigated is not None else ()
            left = model.left(book, open_to)
            self.opportunities.look(book, left, model.missed, withheld, model.standing)
        self._offered = bool(open_to)
        self._quiet.decided(bool(may_be or taken or open_to), self.watch, mechanism, model)
        self._measure.decided(self.watch.candidates(book) if taken else may_be)
        if self._deposits is not None:
            self._deposits.lost(self._measure.bad_debt, book)

    def _spreads(self, accounts: Sequence[AccountId]) -> Spreads | None:
        book = self.book
        if book.plain or not self._mechanism.as_quoted or self._model.receive_collateral_token:
            return None
        found = book.protocol.spreads(book.state, accounts, book.prices, book.now)
        if found is not None:
            self._refused.update(found.refused)
        return found

    def _valued(self, offers: Sequence[Opportunity]) -> list[Opportunity]:
        return [structs.replace(offer, profit=spread(self.book, offer.fill)) for offer in offers]

    def _on_offer(self, account: AccountId) -> list[Opportunity]:
        receive = self._model.receive_collateral_token
        found = self._mechanism.opportunities(self.book, account, self.liquidator, receive_collateral_token=receive)
        offers = [offer for offer in found if isinstance(offer, Opportunity)]
        if len(offers) < len(found):
            refusals = [offer for offer in found if isinstance(offer, Refusal)]
            self._refused.update((account, refusal.reason) for refusal in refusals)
            for refusal in refusals:
                if refusal.unpaid is not None and not self._measure.is_over:
                    asset, amount = refusal.unpaid
                    value = self.book.value_down(asset, amount)
                    known = self._unpaid.get((account, asset))
                    if known is None or value > known.value_base:
                        self._unpaid[account, asset] = Unpaid(account, asset, amount, value)
        return offers
