"""Searchers that compete for what is on offer, one contest an opportunity and moment, by the model that the scenario
names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from backtest import scenario as config
from backtest.auctions.bidding import Bid, Bidder
from backtest.model import AccountId, Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import State
from backtest.protocols.mechanism import Bidders, Opportunity
from backtest.replay.competition import contests
from backtest.replay.competition.absence import Absence, Overlooked
from backtest.replay.competition.contests import Entrant, Result
from backtest.replay.competition.costs import CostModel, with_bid
from backtest.replay.competition.draws import WORD, Draws, softmax_weights
from backtest.replay.competition.gas import NEVER
from backtest.replay.competition.models import (
    FRONT_RUNNER,
    Competition,
    LiquidatorModel,
    NobodyElse,
    Take,
    of_chosen_pair,
)
from backtest.replay.competition.opportunities import (
    ABSENT,
    AUCTIONED,
    BUSY,
    CALLS,
    GAS_ABOVE_CAPS,
    NO_CAPITAL,
    NOT_INCLUDED,
    OVERLOOKED,
    OWN_COSTS,
    REACTION,
    STUCK,
    UNPROFITABLE,
    WAITING,
    Key,
)
from backtest.replay.competition.purse import Purse, Till
from backtest.replay.competition.reaction import Reaction
from backtest.replay.competition.showing import Showing, lot_word
from backtest.replay.competition.strategy import Sizes, first_step, of_size
from backtest.replay.competition.unprofitable import count_sales, rents, told
from backtest.replay.mechanisms.offers import Offers
from backtest.replay.record import Waterfall
from backtest.scenario import Oev, Participation, PriorityGas, SealedBid, Searcher
from backtest.units import BPS

DAY, DRIFT = 86_400, 100
"""What an opportunity leaves may move in quiet, by interest, by so many basis points of what is paid within a day."""
REVERT_GAS = 2_500
"""Gas of a reverted call where the model does not say, basis points of one that goes through."""


_CLOSEST = (UNPROFITABLE, GAS_ABOVE_CAPS, NO_CAPITAL, STUCK, BUSY, ABSENT)
"""What keeps a searcher from an opportunity, in the order in which it is looked at; the reason is that of the searcher
who came closest.
"""


_NOBODY = Bidder("", 0, most=0)
"""To whom nothing is worth anything."""


@dataclass(slots=True)
class _Offer:
    """One opportunity as searchers see it: the pair and size they would take; where its bonus goes, with a flash loan
    and without.
    """

    key: Key
    chosen: Opportunity
    borrowed: Waterfall
    owned: Waterfall

    @property
    def profit(self) -> int:
        return max(self.borrowed.rent, self.owned.rent)

    def paid(self, searcher: Searcher) -> Waterfall:
        return self.borrowed if searcher.capital is None else self.owned


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What was left of an account when somebody last valued it, after event ``seq``: the offer, its profit before bids,
    and why. ``hopeful``: other gas may change that.
    """

    chosen: Opportunity
    profit: int
    reason: str
    hopeful: bool
    seq: int


class Searchers:
    """See the module. Owned by one replay.

    Attributes:
        missed: why each opportunity was left at this moment.
        standing: see ``LiquidatorModel``.
    """

    receive_collateral_token = False
    stateless = False

    def __init__(self, terms: config.Contest, costs: CostModel, draws: Draws, till: Till | None = None) -> None:
        self.terms, self.costs = terms, costs
        self._till = till or Till(Purse(terms.each))
        self.missed: dict[Key, str] = {}
        self.standing: set[AccountId] = set()
        self._each = terms.each
        self._draws = draws
        self._absence = Absence(terms, draws)
        looks = min(terms.mean, 10_000) if isinstance(terms, Participation) else 10_000
        wait = terms.reaction + terms.block_seconds * 10_000 // max(looks, 1)
        self._overlooked, self._reaction = Overlooked(terms, draws, wait), Reaction(terms)
        self._showing = Showing(terms, draws, self._absence, self._overlooked, self._reaction)
        self._begun = False
        self._varies = terms.partial > 0 or terms.pair == "any"
        """Whether what is asked for is drawn: the next who looks may want what this one did not."""
        self._owners = any(searcher.capital is not None for searcher in self._each)
        by_chance = terms.distribution != "searchers" if isinstance(terms, Participation) else isinstance(terms, Oev)
        self._drawn = by_chance or (
            isinstance(terms, Participation) and any(searcher.shows_up < BPS for searcher in self._each)
        )
        self._waits: dict[AccountId, _Waiting] = {}
        """Accounts of which one thing was left at the last look, and nothing else is on offer,"""
        self._let: set[AccountId] = set()
        """and those of them that nobody looks at now."""
        self._unprofitable: set[AccountId] = set()
        """Those that did not pay at the last look,"""
        self._told = False
        """whether it was asked at this one which accounts have nothing that pays."""
        self._decided = False
        """and whether what stays on offer at it was asked already."""
        self._sticks = any(searcher.stuck for searcher in self._each)
        self._keenest: dict[str | None, tuple[tuple[tuple[int, int, int], int], Bidder]] = {}
        """By holder of a standing bid: who is keenest of the others, and at which look and state of the purse."""
        self._alike: list[Bidder] | None = None
        """The bidders of every auction at this look, where neither draws nor money tell auctions apart."""
        self._moment = (-1, -1)
        self._look = (-1, -1, -1)
        self._calls: dict[Key, int] = {}
        self._second: dict[Key, tuple[str, int, int]] = {}
        """Who goes on with its second step, and its bid for the first in proportion to that one's value."""
        self._held: dict[Key, tuple[tuple[int, int], int]] = {}
        """Oracle auctions: the prices of the last update, and when others may come in."""
        self._again: int | None = None
        self._short: dict[Key, list[tuple[int, int]]] = {}
        """Of what costs of their own kept back: what everybody who was able would gain before them, and who."""
        self._offers: dict[Key, tuple[Sequence[Opportunity], _Offer]] = {}
        self._sizes = Sizes()
        self._counted: set[Key] = set()
        """Whose quotes of sales were counted at this look without being made."""

    # -- LiquidatorModel ----------------------------------------------------------------------------------------------

    def choose(self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]) -> Take | None:
        """The opportunity worth most whose contest somebody wins; ties by account address. What nobody takes is left
        for this moment.
        """
        self._enter(book)
        if not self._begun:
            self._begun = True
            if self._overlooked.some:
                self._overlooked.stood(list(open_to), book.now.timestamp)
        if isinstance(self.terms, Participation) and isinstance(open_to, Offers) and not self._sticks:
            self._let_be(book, self.terms, open_to)
        if isinstance(open_to, Offers) and not self._told and self._may_be_told:
            self._told = True
            self._let_unprofitable(book, open_to)
        due: list[tuple[int, str, _Offer]] = []
        for account, opportunities in open_to.items():
            self._told_before(account)
            for key, offers in _by_lot(account, opportunities):
                if offers[0].always:
                    take = self._goes_on(book, key, offers[0])
                    if take is not None:
                        return take
                    self.missed[key] = NO_CAPITAL
                    continue
                if key not in self.missed:
                    offer = self._offer(book, key, offers)
                    due.append((-offer.profit, book.address(account), offer))
        for _, _, offer in sorted(due, key=lambda each: (each[0], each[1], each[2].key[1] or 0)):
            take = self._contest(book, offer)
            if take is not None:
                return take
        if self._reaction.some:
            plain = [account for account, offers in open_to.items() if any(_is_plain(offer) for offer in offers)]
            self._reaction.seen([*plain, *self._let, *self.standing], book.now.timestamp)
        return None

    def left(
        self, book: Book[State], open_to: Mapping[AccountId, Sequence[Opportunity]]
    ) -> dict[Key, tuple[Opportunity, int]]:
        """See ``LiquidatorModel``."""
        self._decided = True
        found = {}
        waits: dict[AccountId, _Waiting] = {}
        for account, opportunities in open_to.items():
            several = False
            for key, offers in _by_lot(account, opportunities):
                offer = self._offer(book, key, offers)
                found[key] = offer.chosen, offer.profit
                if key[1] is None and not several and key in self.missed:
                    hopeful = offer.profit + offer.borrowed.gas > 0
                    waits[account] = _Waiting(offer.chosen, offer.profit, self.missed[key], hopeful, book.seq)
                else:
                    waits.pop(account, None)
                several = True
        for account in self._let:
            wait = waits[account] = self._waits[account]
            found[account, None] = wait.chosen, wait.profit
        for account in self._waits.keys() - waits.keys() - self.standing:
            del self._waits[account]
        self._waits.update(waits)
        unprofitable = {account for account, wait in waits.items() if wait.reason == UNPROFITABLE}
        self._unprofitable = unprofitable | self.standing
        return found

    def wake(self, now: Clock) -> int | None:
        """When what was left may find a taker by time alone."""
        return None if self._again is None else max(self._again, now.timestamp + 1)

    def present(self, book: Book[State], key: Key) -> list[Searcher]:
        """Who looks at this block and can act at its gas price: the bidders of an auction that goes on for a while."""
        self._enter(book)
        found: list[Searcher] = []
        if not (shown := self._showing.names(self._draw_key(book, key))):
            return found
        for place, searcher in enumerate(self._each):
            if self._absence.away(place, book.now.timestamp):
                continue
            if searcher.name in shown and self._till.purse.stuck(searcher.name) <= book.now.timestamp:
                if self._above_cap(book, searcher):
                    self._get_stuck(book, searcher)
                else:
                    found.append(searcher)
        return found

    # -- Bidders
    # --------------------------------------------------------------------------------------------------------

    @property
    def bidders(self) -> Bidders:
        """Itself."""
        return self

    def bidding(self, book: Book[State], account: AccountId, lot: int) -> list[Bidder]:
        """See ``mechanism.Bidders``: a bid and the call that ends the auction at this moment's gas; capital that no
        other auction ties up.
        """
        self._enter(book)
        if self._alike is not None:
            return self._alike
        if not (there := self.present(book, (account, lot))):
            return []
        calls = self.costs.bidding_up(book)
        found = [
            Bidder(
                each.name,
                calls + each.min_profit,
                each.margin,
                self._till.free(each.name, book.now.timestamp, (account, lot)),
            )
            for each in there
        ]
        if not self._owners and not self._drawn:
            self._alike = found
        return found

    def keenest(self, book: Book[State], holder: str | None) -> Bidder | None:
        """See ``mechanism.Bidders``: whoever neither is away nor has a gas cap below the fee of now, with the least
        costs and the most money of any of them. Where a transaction gets stuck, who looks must be drawn.
        """
        self._enter(book)
        if self._sticks:
            return None
        changes, known = self._till.purse.changes, self._keenest.get(holder)
        if known is not None and known[0] == (self._look, changes):
            return known[1]
        now, found = book.now.timestamp, _NOBODY
        there = [
            each
            for place, each in enumerate(self._each)
            if each.name != holder and not self._absence.away(place, now) and not self._above_cap(book, each)
        ]
        if there:
            money = [self._till.free(each.name, now) for each in there] if self._owners else [None]
            least, margin = min(each.min_profit for each in there), min(each.margin for each in there)
            most = max((free for free in money if free is not None), default=None) if None not in money else None
            found = Bidder("", self.costs.bidding_up(book) + least, margin, most)
        if known is not None and known[1] == found:
            found = known[1]
        self._keenest[holder] = (self._look, changes), found
        return found

    def bidding_changes(self, now: int) -> int:
        """See ``mechanism.Bidders``: at once where who looks is drawn for each block."""
        if self._drawn:
            return now + self.terms.block_seconds
        times = (self._absence.changes(now), *self._till.purse.frees, self.costs.changes_after(now))
        return min((time for time in times if time > now), default=NEVER)

    def bidding_from(self, account: AccountId, lot: int, now: int) -> int:
        """See ``mechanism.Bidders``: who looks is known ahead."""
        first = self.bidding_changes(now)
        if not self._drawn or not isinstance(self.terms, Participation):
            return first
        return self._showing.next(self.terms, (account, lot), first)

    def _goes_on(self, book: Book[State], key: Key, offer: Opportunity) -> Take | None:
        """What happens anyway; None where its bidder has bid its money away at this moment. A bid ties up its bidder's
        own money until a better one comes, or the auction ends and the lot is sold.
        """
        made: tuple[Bid, ...] = ()
        if offer.taker is not None:
            searcher = next(each for each in self._each if each.name == offer.taker)
            till, now, pays = self._till, book.now.timestamp, sum(bid.bid for bid in offer.bids if bid.won)
            free = till.free(searcher.name, now, key)
            if free is not None and pays > free:
                return None
            till.untie(key)
            if not offer.fill.repaid:
                till.tie(key, searcher.name, pays)
            else:
                made = offer.bids
                if free is not None:
                    till.lend(searcher.name, now + searcher.recycle, pays)
        return Take(offer, self.costs.charged(book, offer), offer.taker, made)

    def _let_be(self, book: Book[State], terms: Participation, open_to: Offers) -> None:
        """What was left before is left as it was where nobody looks at it now, or where nothing happened since that
        could change why it was left. It is not valued then; only whether it is still on offer is asked.
        """
        now = book.now.timestamp
        for account in open_to.unquoted:
            self._let.discard(account)
            self._told_before(account)
            key, wait = (account, None), self._waits.get(account)
            if wait is None or key in self._calls:
                continue
            if wait.reason == REACTION and self._reaction.ready(account, now) <= now:
                continue  # why it is left is another reason from now on
            new = wait.seq < book.seq or self._by_time(wait.reason, hopeful=wait.hopeful)
            somebody = self._showing.next(terms, key, now) if new else NEVER
            if somebody > now and book.protocol.pairs(book.state, account, book.prices, book.now):
                open_to.let_be(account)
                self._let.add(account)
                self.missed[key] = wait.reason
                if somebody < NEVER:
                    self._look_at(somebody)

    @property
    def _may_be_told(self) -> bool:
        """Whether what does not pay is left for that reason, whatever else there is to say of it."""
        terms = self.terms
        fixed = terms.pair == "most-profitable" and terms.size == "largest" and terms.strategy != "patient"
        return fixed and not self._varies and not self._overlooked.some

    def _let_unprofitable(self, book: Book[State], open_to: Offers) -> None:
        """What did not pay at the last look, and does not now, is left again: told of all accounts at once, and nothing
        of them is quoted. Those that nothing of is on offer any more are none of the offers.
        """
        asked = open_to.unquoted
        if (found := told(open_to, asked, self.costs)) is None:
            return
        known = rents(book, self.costs, found, owned=self._owners)
        open_to.nothing(set(asked).difference(known.account.tolist(), found.rest))
        loses, hopes = known.high < 0, np.zeros(len(known.high), np.bool_)
        if self.costs.moves:  # whether other gas may change that must be certain as well
            hopes, none = known.low + known.gas > 0, known.high + known.gas <= 0
            loses &= hopes | none
        let = self._unprofitable.intersection(known.account[loses].tolist())
        let.difference_update(found.rest, (account for account, _ in self._calls))
        open_to.let_all(let)
        self.standing = let
        if self.costs.counts:
            count_sales(self.costs, found, let, 1 + self._owners)
        hopeful = let.intersection(known.account[hopes].tolist()) if hopes.any() else set()
        if isinstance(self.terms, Participation):
            for account in let:
                wait = self._waits[account]
                self._waits[account] = replace(wait, hopeful=account in hopeful, seq=book.seq)
        for account in hopeful:  # when is the same for all
            again = self._worth_a_look((account, None), UNPROFITABLE, book.now.timestamp, hopeful=True)
            if again is not None:
                self._look_at(again)
            break

    def _told_before(self, account: AccountId) -> None:
        """What is on offer about an account may have changed since it was left; at a look each is contested once."""
        if account in self.standing:
            self.standing.discard(account)
            self.missed[account, None] = UNPROFITABLE
            self._counted.add((account, None))

    # -- one contest ---------------------------------------------------------------------------------------------------

    def _enter(self, book: Book[State]) -> None:
        moment = (book.now.block_number, book.now.timestamp)
        if moment != self._moment:
            self._moment = moment
            self._calls.clear()
            self._second.clear()
        look = (*moment, book.seq)
        if look != self._look:  # all that is open is looked at anew, at the prices and costs of now
            self._look = look
            self._again = self._alike = None
            self.missed.clear()
            self._offers.clear()
            self._sizes.clear()
            self._counted.clear()
            self._let.clear()
            self.standing, self._told = set(), False
        elif self._decided:  # a second decision at the same look
            for account in list(self.standing):
                self._told_before(account)
        self._decided = False

    def _offer(self, book: Book[State], key: Key, offers: Sequence[Opportunity]) -> _Offer:
        known = self._offers.get(key)
        if known is not None and known[0] == offers and self.costs.seat is None:  # else what was sold since counts
            return known[1]
        costs, again = self.costs, self.costs.seat is None and (known is not None or key in self._counted)
        counts = costs.sales, costs.beyond, costs.drained
        chosen = max(
            (self._valued(book, key, offer) for offer in of_chosen_pair(self.terms.pair, book, key[0], offers)),
            key=lambda offer: (
                offer.profit,
                -offer.chosen.order.pair.debt_asset,
                -offer.chosen.order.pair.collateral_asset,
            ),
        )
        if again:  # the same sale at the same look, which something else changed
            costs.sales, costs.beyond, costs.drained = counts
        self._offers[key] = offers, chosen
        return chosen

    def _valued(self, book: Book[State], key: Key, offer: Opportunity) -> _Offer:
        if self.terms.size == "most-profitable":
            offer = self._sizes.best(book, self.costs, offer)
        borrowed = self.costs.charged(book, offer, flash=True)
        return _Offer(key, offer, borrowed, self.costs.charged(book, offer) if self._owners else borrowed)

    def _contest(self, book: Book[State], offer: _Offer) -> Take | None:
        key, terms = offer.key, self.terms
        if self._calls.get(key, 0) >= terms.max_calls:
            self._leave(book, key, CALLS)
            return None
        if terms.strategy == "patient" and self._is_partial(book, offer.chosen):
            self._leave(book, key, WAITING)
            return None
        if key[1] is None and self._overlooked.until(key[0], book.now.timestamp) > book.now.timestamp:
            self._leave(book, key, OVERLOOKED)
            return None
        whole, offer = offer, self._asked(book, offer)
        able, obstacle = self._able(book, offer)
        if not able and offer is not whole:
            offer = whole
            able, obstacle = self._able(book, offer)
        if not able:
            self._leave(book, key, obstacle, hopeful=offer.profit + offer.borrowed.gas > 0)
            return None
        going_on = self._second.pop(key, None)
        if going_on is not None:
            result: Result | str = _gone_on(able, going_on)
        else:
            if terms.strategy == "two-step":
                offer = self._first_of_two(book, offer)
                able, obstacle = self._able(book, offer)
            result = self._held_contest(book, offer, able) if able else obstacle
        if isinstance(result, str):
            self._leave(book, key, result)
            return None
        return self._won(book, offer, result)

    def _able(self, book: Book[State], offer: _Offer) -> tuple[list[Entrant], str]:
        """Searchers that would gain, and what keeps off the one that came closest where there is none."""
        able, closest = [], 0
        cost = book.cost_up(offer.chosen.order.pair.debt_asset, offer.chosen.fill.paid)
        now = book.now.timestamp
        for index, searcher in enumerate(self._each):
            value = offer.paid(searcher).rent - searcher.min_profit - -(-cost * searcher.margin // BPS)
            if value < 0:
                continue
            if offer.key[1] is None and self._reaction.ready(offer.key[0], now) > now:
                return [], REACTION
            if self._absence.away(index, now):
                closest = max(closest, _CLOSEST.index(ABSENT))
            elif self._till.purse.stuck(searcher.name) > now:
                closest = max(closest, _CLOSEST.index(STUCK))
            elif self._above_cap(book, searcher):
                self._get_stuck(book, searcher)
                closest = max(closest, _CLOSEST.index(GAS_ABOVE_CAPS))
            elif (free := self._till.free(searcher.name, now)) is not None and cost > free:
                closest = max(closest, _CLOSEST.index(NO_CAPITAL))
            elif searcher.calls is not None and self._till.purse.calls(searcher.name, now) >= searcher.calls:
                closest = max(closest, _CLOSEST.index(BUSY))
            else:
                able.append(Entrant(index, searcher.name, value))
        return able, _CLOSEST[closest]

    def _held_contest(self, book: Book[State], offer: _Offer, able: list[Entrant]) -> Result | str:
        terms, draws, key = self.terms, self._draws, self._draw_key(book, offer.key)
        able = sorted(
            able, key=lambda entrant: draws.word("tie", *key, entrant.index)
        )  # of equals the first wins: nobody is always first
        match terms:
            case PriorityGas() | SealedBid():
                drawn = [draws.below(terms.private_cost + 1, "private cost", *key, each.index) for each in able]
                pairs = [
                    (replace(e, value=e.value - c, private=c), e.value - terms.private_cost)
                    for e, c in zip(able, drawn, strict=True)
                ]
                keen = [(entrant, least) for entrant, least in pairs if entrant.value >= 0]
                if not keen:
                    paid = offer.chosen.fill.paid
                    drift = book.cost_up(offer.chosen.order.pair.debt_asset, paid) * DRIFT // BPS
                    self._short[offer.key] = [(each.value + drift, each.index) for each in able]
                    return OWN_COSTS
                entrants = [entrant for entrant, _ in keen]
                if isinstance(terms, SealedBid):
                    return contests.sealed_bid(entrants, [least for _, least in keen], len(able) - 1)
                lost = offer.borrowed.gas * terms.revert_gas // BPS
                if terms.cooperative:
                    chosen = draws.below(len(entrants), "turn", *key)
                    return contests.cooperative(entrants, chosen, -(-offer.borrowed.gas * terms.bump // BPS), lost)
                return contests.open_auction(entrants, terms.bump, lost)
            case Participation():
                shown = self._showing.names(self._draw_key(book, offer.key))
                there = [entrant for entrant in able if entrant.name in shown]
                return contests.second_price(there, terms.reserve) if there else NOT_INCLUDED
            case Oev():
                return self._oracle_auction(book, terms, offer, able)
            case config.LatencyRace():
                return self._race(terms, able, key)
        raise TypeError(type(terms))

    def _race(self, terms: config.LatencyRace, able: list[Entrant], key: tuple[int, ...]) -> Result:
        """Held back are all but the holder of the lane, who pays for it only where it wins."""
        latency = [self._each[entrant.index].latency for entrant in able]
        lane = terms.express_lane
        back = [terms.advantage if lane is not None and entrant.name != lane else 0 for entrant in able]
        if terms.race == "softmax":
            weights = softmax_weights([one + held for one, held in zip(latency, back, strict=True)], terms.temperature)
            first = self._draws.weighted(weights, "race", *key)
            times = [0 if i == first else 1 for i in range(len(able))]
        else:
            waits = [
                self._draws.waiting_time(one * 1_000, "latency", *key, entrant.index)
                for one, entrant in zip(latency, able, strict=True)
            ]
            times = [
                terms.floor * 1_000 + wait + held * 1_000 for wait, held in zip(waits, back, strict=True)
            ]  # microseconds
        result = contests.first_come(able, times)
        if result.winner.name != lane:
            return result
        return contests.first_come(able, times, result.winner.value * terms.lane_fee // BPS)

    def _oracle_auction(self, book: Book[State], terms: Oev, offer: _Offer, able: list[Entrant]) -> Result | str:
        """An update of the pair's oracle prices is sold, or not; what is not sold, or whose time is over, is
        anybody's.
        """
        pair, now = offer.chosen.order.pair, book.now.timestamp
        prices = book.oracle.get(pair.collateral_asset, 0), book.oracle.get(pair.debt_asset, 0)
        known = self._held.get(offer.key)
        if known is None or known[0] != prices:
            covered = self._draws.chance(terms.coverage, "coverage", now, pair.collateral_asset)
            self._held[offer.key] = prices, now + terms.delay * terms.block_seconds if covered else now
            if covered:
                shown = self._showing.names(self._draw_key(book, offer.key))
                there = [entrant for entrant in able if entrant.name in shown]
                if there:
                    del self._held[offer.key]
                    return contests.second_price(there)
        if now < self._held[offer.key][1]:
            return AUCTIONED
        return contests.second_price(able)

    def _next_cheap(self, key: Key, now: int) -> int:
        """The first of the moments after ``now``, a block apart, at which the costs of its own that somebody draws may
        leave something; within a day, in which what is left of them moves by less than ``DRIFT``.
        """
        terms, draws, step = self.terms, self._draws, self.terms.block_seconds
        assert isinstance(terms, PriorityGas | SealedBid)
        if self._absence.some:
            return now + step
        account, lot = key
        first = now + DAY
        for value, place in self._short[key]:
            high = min(WORD - 1, ((value + 1 << 64) - 1) // (terms.private_cost + 1))  # see ``Draws.below``
            word = lot_word(lot)
            first = min(first, draws.first_time(0, high, now + step, step, "private cost", account, word, place))
        return first

    # -- what follows --------------------------------------------------------------------------------------------------

    def _won(self, book: Book[State], offer: _Offer, result: Result) -> Take:
        winner, key, searcher = result.winner, offer.key, self._each[result.winner.index]
        calls = self._calls.get(key, 0)
        bids, name = result.bids, winner.name
        self._till.purse.called(name, book.now.timestamp)
        if self._draws.chance(self.terms.front_run, "front run", *self._draw_key(book, key)):
            lost = offer.paid(searcher).gas * REVERT_GAS // BPS
            mine = tuple(replace(bid, paid=lost, won=False) if bid.won else bid for bid in bids)
            bids, name = (*mine, Bid(FRONT_RUNNER, winner.value, result.price, result.price, True)), FRONT_RUNNER
        elif searcher.capital is not None:
            cost = book.cost_up(offer.chosen.order.pair.debt_asset, offer.chosen.fill.paid)
            self._till.lend(name, book.now.timestamp + searcher.recycle, cost)
            self._look_at(book.now.timestamp + self.terms.block_seconds)  # who was left now may find no money any more
        self._calls[key] = calls + 1
        self._offers.pop(key, None)
        self._counted.discard(key)
        if self.terms.strategy == "two-step" and key not in self._second and calls == 0:
            self._second[key] = winner.name, result.price, max(winner.value, 1)
        shares = {}
        bid = result.price
        if isinstance(self.terms, Oev) and key not in self._held:  # sold by the oracle's auction
            shares = {
                "protocol_share": bid * self.terms.protocol_share // BPS,
                "oracle_share": bid * self.terms.oracle_share // BPS,
            }
            bid -= sum(shares.values())
        self._held.pop(key, None)
        return Take(offer.chosen, with_bid(offer.paid(searcher), bid=bid, private=winner.private, **shares), name, bids)

    def _leave(self, book: Book[State], key: Key, reason: str, *, hopeful: bool = False) -> None:
        self.missed[key] = reason
        again = self._worth_a_look(key, reason, book.now.timestamp, hopeful=hopeful)
        if again is not None:
            self._look_at(again)

    def _look_at(self, time: int) -> None:
        """Not later than then."""
        self._again = time if self._again is None else min(self._again, time)

    def _by_time(self, reason: str, *, hopeful: bool) -> bool:
        """Whether what was left for this reason may find a taker though nothing happens."""
        by_time = (NOT_INCLUDED, OWN_COSTS, STUCK, NO_CAPITAL, CALLS, BUSY, ABSENT, OVERLOOKED, REACTION)
        return reason in by_time or (hopeful and (self.costs.moves or self._varies))

    def _worth_a_look(self, key: Key, reason: str, now: int, *, hopeful: bool) -> int | None:
        """When what was left for this reason may find a taker by time alone; None: never."""
        step = self.terms.block_seconds
        if reason == AUCTIONED:
            return self._held[key][1]
        if not self._by_time(reason, hopeful=hopeful):
            return None
        if reason == REACTION:
            return now + -(-(self._reaction.ready(key[0], now) - now) // step) * step
        if reason in (STUCK, CALLS, BUSY) or self._till.purse.is_tied or self._sticks:
            return now + step
        if reason == OWN_COSTS:
            first = self._next_cheap(key, now)
            if self.costs.moves:
                first = min(first, self.costs.changes_after(now))
            return now + -(-(first - now) // step) * step
        if reason == OVERLOOKED:
            seen = self._overlooked.until(key[0], now)
            return None if seen == NEVER else now + -(-(seen - now) // step) * step
        first = self.costs.changes_after(now) if self.costs.moves else NEVER
        if reason in (ABSENT, NO_CAPITAL):
            first = min(first, self._absence.back(now + step) if reason == ABSENT else self._absence.changes(now))
        if reason == NOT_INCLUDED or (self._varies and reason in (UNPROFITABLE, NO_CAPITAL)):
            if not isinstance(self.terms, Participation):
                return now + step
            first = min(first, self._showing.next(self.terms, key, now + step))
        if reason == NO_CAPITAL:
            first = min([first, *(back for back in self._till.purse.returns if back > now)])
        return None if first == NEVER else now + -(-(first - now) // step) * step

    def _first_of_two(self, book: Book[State], offer: _Offer) -> _Offer:
        """The offer cut to what leaves the account unhealthy, where that is less."""
        if offer.key in self._second or self._calls.get(offer.key, 0):
            return offer
        first = first_step(book, offer.chosen)
        return offer if first is None else self._valued(book, offer.key, first)

    def _asked(self, book: Book[State], offer: _Offer) -> _Offer:
        """What is asked for this time: the offer itself, another pair of the account, or a part, where they are drawn.
        All of it where the rules refuse that part.
        """
        draws, key = self._draws, self._draw_key(book, offer.key)
        if offer.key[1] is not None or offer.chosen.opens:
            return offer
        pairs = self._offers[offer.key][0]
        if self.terms.pair == "any" and len(pairs) > 1:
            other = pairs[draws.below(len(pairs), "pair", *key)]
            offer = offer if other is offer.chosen else self._valued(book, offer.key, other)
        if not draws.chance(self.terms.partial, "in part", *key):
            return offer
        repay = offer.chosen.fill.repaid * (1 + draws.below(BPS, "part", *key)) // BPS
        part = of_size(book, offer.chosen, repay) if repay else None
        return offer if part is None else self._valued(book, offer.key, part)

    def _is_partial(self, book: Book[State], offer: Opportunity) -> bool:
        """More debt of the pair is there than may be repaid, and collateral for it."""
        holdings = {h.asset: h for h in book.protocol.holdings(book.state, offer.order.account, book.now)}
        pair, fill = offer.order.pair, offer.fill
        debt, collateral = holdings.get(pair.debt_asset), holdings.get(pair.collateral_asset)
        if debt is None or collateral is None:
            return False
        return fill.repaid < debt.debt and fill.seized + fill.protocol_fee < collateral.collateral

    def _above_cap(self, book: Book[State], searcher: Searcher) -> bool:
        gas = self.costs.gas
        return searcher.gas_cap is not None and gas is not None and gas.base_fee(book.now.timestamp) > searcher.gas_cap

    def _get_stuck(self, book: Book[State], searcher: Searcher) -> None:
        if searcher.stuck:
            self._till.purse.stick(searcher.name, book.now.timestamp + searcher.stuck)

    def _draw_key(self, book: Book[State], key: Key) -> tuple[int, int, int]:
        account, lot = key
        return book.now.timestamp, account, lot_word(lot) | self._calls.get(key, 0)


def _by_lot(account: AccountId, opportunities: Sequence[Opportunity]) -> Iterator[tuple[Key, Sequence[Opportunity]]]:
    """The pairs of one account are one opportunity; each open auction is one of its own, and so is what happens
    anyway.
    """
    plain = [offer for offer in opportunities if _is_plain(offer)]
    for offer in opportunities:
        if not _is_plain(offer):
            yield (account, offer.lot), (offer,)
    if plain:
        yield (account, None), plain


def _is_plain(offer: Opportunity) -> bool:
    return offer.lot is None and not offer.always


def _gone_on(able: Sequence[Entrant], going_on: tuple[str, int, int]) -> Result | str:
    """The second step is that of who made the first; it bids as much of its value as then."""
    name, bid, value = going_on
    mine = [entrant for entrant in able if entrant.name == name]
    if not mine:
        return NOT_INCLUDED
    return contests.first_come(mine, [0], mine[0].value * bid // value)


def model_of(
    liquidators: config.Liquidators, costs: CostModel, seed: int = 0, till: Till | None = None
) -> LiquidatorModel:
    """The model that a scenario asks for; ``till``: of a purse that its searchers have for other markets too."""
    if isinstance(liquidators, config.Contest):
        return Searchers(liquidators, costs, Draws(seed), till)
    return Competition(liquidators, costs) if isinstance(liquidators, config.Competitive) else NobodyElse()
