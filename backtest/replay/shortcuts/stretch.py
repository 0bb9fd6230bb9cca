"""Stretches of prices and indexes in which liquidators act, in the compiled loop (``loop``): what it reads, and what of
the replay is different after it.

Only where liquidators take of each account what pays most, settle at once, and leave nothing on offer; a moment that is
not so, or that does not fit, comes back to the engine. Records of liquidations are made when somebody reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Generic, cast

import numpy as np

from backtest.model import AccountId, AssetId, Clock, MarketEvent, MarketPrice, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.interface import State
from backtest.protocols.loop import (
    ACCOUNT,
    AFTER,
    BEFORE,
    DONE,
    LOST_AMOUNT,
    LOST_ASSET,
    LOST_IN,
    MARKET,
    MOMENT,
    NO_DEBT_LEFT,
    NO_ROOM,
    ORACLE,
    PROFIT,
    CompiledRules,
    Stretch,
    Words,
    number,
    numbers,
)  # fmt: skip
from backtest.protocols.mechanism import Opportunity, in_base, spread
from backtest.replay.competition.costs import before_bids
from backtest.replay.competition.models import Competition
from backtest.replay.record import Deficit, Liquidation, Waterfall
from backtest.replay.settlement import Settlement
from backtest.replay.timeline import Reader, Timeline
from backtest.replay.watch.foresight import Foresight
from backtest.replay.watch.screen import FLOAT_ERROR
from backtest.replay.what_if.overrides import Overrides
from backtest.units import RAY

MANY = 500
"""Accounts with debt from which on the loop is worth the seconds that it takes to compile, once."""
ROOM = 1_024
"""Liquidations that a stretch has room for at first."""
_WORD = (1 << 64) - 1


class Stretches(Generic[State]):
    """Owned by one replay."""

    def __init__(
        self, settlement: Settlement[State], timeline: Timeline, model: Competition | None, overrides: Overrides,
        liquidator: AccountId,
    ) -> None:  # fmt: skip
        self._settlement, self._timeline, self._model, self._overrides = settlement, timeline, model, overrides
        self._liquidator = liquidator
        self._made = self._lost = np.empty((0, 0), np.uint64)
        self._refused = np.empty((0, 0), np.bool_)
        self._done, self._done_in = np.empty(0, np.int64), np.empty(0, np.int64)
        self._idle = 0
        """Transactions up to this one are left to the engine: the loop could not take the last."""

    @cached_property
    def _units(self) -> Words:
        return np.array([(unit >> 64, unit & _WORD) for unit in self._settlement.book.units], np.uint64)

    def run(
        self, watch: Foresight[State], reader: Reader, refused: set[tuple[AccountId, str]], wake: int | None = None
    ) -> MarketEvent | None:
        """From where the book stands, over the transactions that come next, those before ``wake`` (seconds) where it is
        given; the last event of those that were taken, which the reader leaves out. Adds to ``refused``.
        """
        model, book = self._model, self._settlement.book
        few = watch.rows.count < MANY
        if few or model is None or book.plain or reader.place >= reader.stop or reader.place < self._idle:
            return None
        passing = self._timeline.passing
        if not passing.fits or not passing.events.passes[reader.place]:
            return None
        watch.go_to(watch.ticks.at(book.seq), book)
        stop = int(min(reader.stop, passing.next_break(reader.place), passing.later(watch.rows.until)))
        if wake is not None:
            stop = min(stop, passing.later(wake - 1))
        if stop <= reader.place or watch.rows.boxes or watch.rows.waits or not self._is_due(watch, stop):
            return None
        rules = book.protocol.compiled_rules(book.state, book.now)
        if rules is None:
            self._model = None
            return None
        return self._run(watch, reader, stop, rules, model, refused)

    def _is_due(self, watch: Foresight[State], stop: int) -> bool:
        """Whether anybody is looked at before that transaction."""
        from backtest.replay.watch import queue

        tick = watch.first + queue.first_due(watch.tick - watch.first, watch.head)
        if tick >= min(watch.stop, len(watch.ticks.left) + 1):
            return False
        return tick == watch.tick or watch.ticks.left[tick - 1] > len(self._timeline.ends) - stop  # of a past in short

    def _run(
        self, watch: Foresight[State], reader: Reader, stop: int, rules: CompiledRules, model: Competition,
        refused: set[tuple[AccountId, str]],
    ) -> MarketEvent | None:  # fmt: skip
        from backtest.replay.shortcuts import loop

        settlement, passing = self._settlement, self._timeline.passing
        book, measure = settlement.book, settlement.measure
        last_block = min(measure.next_read, self._overrides.next_start - 1)
        price, known, indexes = self._prices()
        looks, scratch = self._looks(watch, len(rules.reasons), len(price))
        self._calls(model, book)
        if self._made.shape[1] != rules.made:
            self._made, self._lost = np.zeros((ROOM, rules.made), np.uint64), np.zeros((ROOM, rules.lost), np.uint64)
            self._refused = np.zeros((len(self._done), len(rules.reasons)), np.bool_)
        state, sums = np.zeros(loop.STATE, np.int64), np.zeros(loop.SUMS, np.uint64)
        state[loop.TRANSACTION], state[loop.TICK], state[loop.PEAKED_AT] = reader.place, watch.tick - watch.first, -1
        for place, amount in ((loop.REALISED, measure.realised), (loop.PEAK, measure.peak)):
            sums[place : place + 2] = amount >> 64, amount & _WORD
        margin = rules.relative_error + FLOAT_ERROR
        first = reader.place
        while True:
            loop.loop_of(rules)(
                rules.columns, passing.events, looks, scratch, price, known, self._units, indexes, self._made,
                self._lost, self._refused, self._done, self._done_in, sums, state, last_block, stop, model.cost,
                model.most_calls, (1 + margin) / (1 - margin),
            )  # fmt: skip
            if state[loop.ENDED] != NO_ROOM:
                break
            self._made = np.concatenate([self._made, np.zeros_like(self._made)])
            self._lost = np.concatenate([self._lost, np.zeros_like(self._lost)])
        taken, count = int(state[loop.TRANSACTION]), int(state[loop.COUNT])
        if state[loop.ENDED] != DONE:
            self._idle = taken + 1
        watch.tick = watch.first + int(state[loop.TICK])
        gone = scratch.gone[: state[loop.GONE]]
        watch.rows.forms.drop(gone)
        watch.rows.leave(gone.tolist())
        if taken == first:
            return None
        then = book.priced_now() if count else book
        last = self._pass(first, taken)
        settlement.result.events += int(state[loop.EVENTS])
        reader.skip_to(taken)
        self._measured(int(state[loop.USED]), sums, int(state[loop.PEAKED_AT]))
        if count:
            made, lost = self._made[:count].copy(), self._lost[: state[loop.USED]].copy()
            self._settle(rules, then, first, made, lost, sums)
            self._note(model, made, last)
        for account, reason in np.argwhere(self._refused).tolist() if self._refused.any() else ():
            refused.add((AccountId(account), rules.reasons[reason]))
            self._refused[account, reason] = False
        book.seq, book.now = last.seq, Clock(last.block_number, last.log_index, last.timestamp)
        return last

    # -- what the loop reads -------------------------------------------------------------------------------------------

    def _prices(self) -> tuple[Any, Any, Any]:
        """Prices and which of them are known; indexes as floats."""
        book = self._settlement.book
        count = len(book.market.assets)
        price, known = np.zeros((count, 4), np.uint64), np.zeros((count, 4), np.bool_)
        for place, prices in ((ORACLE, book.oracle), (MARKET, book.traded)):
            for asset, value in prices.items():
                known[asset, place] = True
                price[asset, place : place + 2] = value >> 64, value & _WORD
        indexes = np.zeros((count, 5))
        indexes[:, 1:3] = 1.0
        for asset, update in book.indexes.items():
            values = update.supply_index, update.borrow_index, update.supply_rate, update.borrow_rate
            indexes[asset] = (update.timestamp, *(value / RAY for value in values))
        return price, known, indexes

    def _looks(self, watch: Foresight[State], reasons: int, assets: int) -> tuple[Any, Any]:
        from backtest.replay.shortcuts import loop

        forms, pyramid, rows = watch.rows.forms, watch.pyramid, watch.rows.count
        assert pyramid is not None
        looks = loop.Looks(
            watch.rows.account, forms.span, forms.column, forms.weight, forms.base, watch.due, watch.head, watch.after,
            watch.before, pyramid.values, pyramid.unit_of, pyramid.low, pyramid.high, pyramid.offset, watch.rows.path,
            watch.rows.share,
        )  # fmt: skip
        terms = 2 * assets + 2
        flags, rest = np.zeros((rows, reasons), np.bool_), np.empty(rows, np.int64)
        parts: list[Any] = [*np.empty((8, rows), np.int64), flags, np.empty(terms, np.int64), np.empty(terms, np.bool_)]
        scratch = loop.Scratch(*parts, *[np.empty(terms), rest])
        return looks, scratch

    def _calls(self, model: Competition, book: Book[State]) -> None:
        """Those of the block so far."""
        accounts = len(book.market.accounts)
        if len(self._done) < accounts:
            self._done, self._done_in = np.zeros(accounts, np.int64), np.full(accounts, -1, np.int64)
        for account, count in model.calls(book).items():
            self._done[account], self._done_in[account] = count, book.now.block_number

    # -- what it wrote -------------------------------------------------------------------------------------------------

    def _pass(self, first: int, taken: int) -> MarketEvent:
        """The book has the prices and indexes that hold after these transactions; the last event of them."""
        timeline, book, users = self._timeline, self._settlement.book, self._settlement.users
        begin, end = int(timeline.ends[first - 1]) if first else 0, int(timeline.ends[taken - 1])
        events = timeline.passing.events
        kind, place = events.kind[begin:end], events.place[begin:end]
        for code, asset in enumerate((events.price_asset, events.index_asset, events.market_asset)):
            rows = np.flatnonzero(kind == code)[::-1]
            _, latest = np.unique(asset[place[rows]], return_index=True)
            for row in rows[latest].tolist():
                event = timeline.event(begin + row)
                users.shadow(event)
                book.apply(event)
        return timeline.event(end - 1)

    def _measured(self, written_off: int, sums: Words, peaked: int) -> None:
        """Bad debt, of which there is some with no liquidation as well; ``peaked``: the transaction of a new peak."""
        from backtest.replay.shortcuts import loop

        peak = None if peaked < 0 else self._timeline.event(int(self._timeline.ends[peaked]) - 1)
        clock = None if peak is None else Clock(peak.block_number, peak.log_index, peak.timestamp)
        self._settlement.measure.passed(written_off, number(sums, loop.REALISED), number(sums, loop.PEAK), clock)

    def _settle(
        self, rules: CompiledRules, then: Book[State], first: int, made: Words, lost: Words, sums: Words
    ) -> None:
        from backtest.replay.shortcuts import loop

        settlement = self._settlement
        measure, result = settlement.measure, settlement.result
        stretch = rules.settle(made, lost, self._liquidator)
        settlement.users.modelled_in_passing(stretch)
        repaid, seized, fee = (number(sums, at) for at in (loop.TOOK_REPAID, loop.TOOK_SEIZED, loop.TOOK_FEE))
        measure.took(len(made), repaid, seized, fee)
        result.rules[rules.rules[0]] = rules.rules[1]
        by_override = settlement.by_override(
            made[:, ACCOUNT].tolist(), lambda row: None if made[row, NO_DEBT_LEFT] else number(made[row], AFTER)
        )
        if not measure.is_over:
            records = _Records(settlement, self._timeline, then, first, stretch, by_override, len(result.liquidations))
            settlement.opportunities.taken_in_passing(records.accounts, records.spell, len(made), records.ordinal)
            result.liquidations.put_off(len(made), records.liquidations)
            result.deficits.put_off(len(lost), records.deficits)

    def _note(self, model: Competition, made: Words, last: MarketEvent) -> None:
        """Calls in the block that goes on."""
        block = self._timeline.passing.events.block[made[:, MOMENT].astype(np.int64)]
        accounts = made[block == last.block_number, ACCOUNT].tolist()
        if accounts:
            book = self._settlement.book
            book.now = Clock(last.block_number, last.log_index, last.timestamp)
            model.calls(book).update(accounts)


class _Records(Generic[State]):
    """The records of a stretch, in the order in which its liquidations were taken: within a moment the most profitable
    of the next of each account, ties by address.
    """

    def __init__(
        self, settlement: Settlement[State], timeline: Timeline, then: Book[State], first: int, stretch: Stretch,
        by_override: Mapping[int, bool], ordinal: int,
    ) -> None:  # fmt: skip
        self._costs, self._timeline, self._then, self._first = settlement.costs, timeline, then, first
        self._stretch, self._by_override, self.ordinal = stretch, by_override, ordinal

    @cached_property
    def order(self) -> list[int]:
        """Rows, as they were taken: of those of one account at a moment the later ones follow at once where they pay
        more, so that the least profit up to each decides.
        """
        made = self._stretch.made
        if self._stretch.ordered:
            return list(range(len(made)))
        account, moment = made[:, ACCOUNT].astype(np.int64), made[:, MOMENT].astype(np.int64)
        least = made[:, PROFIT].view(np.int64).copy()
        follows = np.flatnonzero((account[1:] == account[:-1]) & (moment[1:] == moment[:-1])) + 1
        for row in follows.tolist():
            least[row] = min(least[row], least[row - 1])
        who, place = np.unique(account, return_inverse=True)
        by_address = sorted(range(len(who)), key=lambda at: self._then.address(AccountId(int(who[at]))))
        rank = np.empty(len(who), np.int64)
        rank[by_address] = np.arange(len(who))
        return cast("list[int]", np.lexsort((np.arange(len(made)), rank[place], -least, moment)).tolist())

    @cached_property
    def moments(self) -> dict[int, Book[State]]:
        """The book with the prices, the clock and the last event of each moment."""
        found, timeline, then = {}, self._timeline, self._then
        oracle, traded = dict(then.oracle), dict(then.traded)
        done = self._first
        for moment in np.unique(self._stretch.made[:, MOMENT]).tolist():
            begin, end = int(timeline.ends[done - 1]) if done else 0, int(timeline.ends[moment])
            event = self._timeline.event(end - 1)
            for row in range(begin, end):
                change = self._timeline.event(row)
                if isinstance(change, PriceUpdate | MarketPrice):
                    prices = oracle if isinstance(change, PriceUpdate) else traded
                    if change.price is None:
                        prices.pop(change.asset, None)
                    else:
                        prices[change.asset] = change.price
            now = Clock(event.block_number, event.log_index, event.timestamp)
            found[moment] = replace(then, oracle=dict(oracle), traded=dict(traded), now=now, seq=event.seq)
            done = moment + 1
        return found

    @cached_property
    def _losses(self) -> dict[int, list[int]]:
        """Rows of what each liquidation wrote off."""
        found: dict[int, list[int]] = {}
        for row, of in enumerate(self._stretch.lost[:, LOST_IN].tolist()):
            found.setdefault(of, []).append(row)
        return found

    @cached_property
    def _offers(self) -> dict[int, tuple[Book[State], Opportunity, Waterfall]]:
        return {}

    def _offer(self, row: int) -> tuple[Book[State], Opportunity, Waterfall]:
        known = self._offers.get(row)
        if known is None:
            made = self._stretch.made[row]
            then = self.moments[int(made[MOMENT])]
            fill = self._stretch.fill(made, self._stretch.lost[self._losses.get(row, [])], then.now)
            opportunity = Opportunity(fill.order, fill, spread(then, fill))
            known = self._offers[row] = then, opportunity, self._costs.charged(then, opportunity, flash=True)
        return known

    def accounts(self) -> list[AccountId]:
        """Whom each took from."""
        return cast("list[AccountId]", self._stretch.made[self.order, ACCOUNT].tolist())

    def spell(self, place: int) -> tuple[Book[State], Opportunity, int]:
        """What was on offer, by the place in the order."""
        then, opportunity, waterfall = self._offer(self.order[place])
        return then, opportunity, before_bids(waterfall)

    def liquidations(self) -> Iterator[Liquidation]:
        """In order."""
        made = self._stretch.made
        before, after = numbers(made, BEFORE), numbers(made, AFTER)
        for place, row in enumerate(self.order):
            then, opportunity, waterfall = self._offer(row)
            yield Liquidation(
                ordinal=self.ordinal + place,
                seq=then.seq,
                clock=then.now,
                fill=opportunity.fill,
                step=opportunity.step,
                profit_base=waterfall.rent,
                waterfall=waterfall,
                health_before=before[row],
                health_after=None if made[row, NO_DEBT_LEFT] else after[row],
                matches_history=None,
                made_by_override=self._by_override.get(row, False),
                **in_base(then, opportunity.fill),
            )

    def deficits(self) -> Iterator[Deficit]:
        """In the order of the liquidations."""
        lost, made = self._stretch.lost, self._stretch.made
        for place, row in enumerate(self.order):
            for at in self._losses.get(row, ()):
                then, asset = self.moments[int(made[row, MOMENT])], AssetId(int(lost[at, LOST_ASSET]))
                amount = number(lost[at], LOST_AMOUNT)
                yield Deficit(
                    liquidation=self.ordinal + place,
                    seq=then.seq,
                    clock=then.now,
                    account=AccountId(int(made[row, ACCOUNT])),
                    asset=asset,
                    amount=amount,
                    amount_base=then.value_down(asset, amount),
                )
