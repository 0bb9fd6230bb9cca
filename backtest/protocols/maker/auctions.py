"""Maker's auctions as a mechanism: a bite or bark opens a lot, bids and takes settle it, time prices it.

**Dutch (Clip).** The whole lot is offered at the auction's own price (or at most ``largest_take`` of it); a liquidator
takes it once that is at or below what the collateral sells for less its costs. A lot that must be reset is reset at
once.

**English (Flip).** Without a contest one account stands for all bidders. Whenever the engine looks, the best bid is
what the lot sells for less the cost of two calls (the bid and its ``deal``): the least lot worth the tab where the lot
is worth it, else all of its value. That is where bidding among equals with full information ends. A bid stands for
``ttl``; the price may move meanwhile, and a better bid is made only if it is better by ``beg``. The winner deals as
soon as it may. A lot nobody bid for starts again.
Where searchers compete, those who are there at each look bid as ``bidding`` says: nobody, and there is no bid; one, and
it bids next to nothing.

Opening a lot is done whatever it earns: somebody who means to buy always does. Its row holds the debt and the
collateral that leave the vault; the rows of later steps hold what buyers pay and get. What a closed lot raised less
than its debt (without penalty) is bad debt.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec import structs
from typing_extensions import override

from backtest.auctions.bidding import Bid, Bidder, Values, better_bid
from backtest.auctions.dutch import STAIRSTEP, Bounds, Curve
from backtest.auctions.english import EnglishAuction
from backtest.model import AccountId, Clock, PositionChange
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, Order, Refusal
from backtest.protocols.maker import clip
from backtest.protocols.maker.params import DOG_2_0
from backtest.protocols.maker.rules import CONTRACTS, feed_down
from backtest.protocols.maker.state import MakerState
from backtest.protocols.mechanism import Bidders, Mechanism, Opportunity
from backtest.protocols.vaults.actions import quote, raised, raised_by
from backtest.protocols.vaults.state import coin_of, collateral_of, pair_of, pairs
from backtest.units import RAY, WAD

BLOCK_SECONDS = 13
"""After a decision that left something open the mechanism looks again this much later: a block of the time."""


@dataclass(frozen=True, slots=True)
class _Conditions:
    """What an auction's offers depend on beside the auction itself and the time."""

    execution: int
    dai: int
    curve: Curve
    bounds: Bounds
    beg: int
    stopped: int


_NEVER = 1 << 62
_BAND = 100
"""Lots that no execution price up to one in so many above the present one makes pay are not looked at until it is
passed."""

Kind = tuple[int, int]
"""Dutch lots that differ in size only: the price that they started at, and when."""


@dataclass(slots=True)
class _Alike:
    """Dutch lots of one kind. ``look``: when they may offer something new under these conditions; 0: they were looked
    at one by one.
    """

    one: Lot
    numbers: set[int]
    look: int = 0
    under: _Conditions | None = None


@dataclass(frozen=True, slots=True)
class Lot:
    """One open auction. ``due`` is the debt (rad) that opened it, ``paid`` what buyers paid so far (rad).

    Dutch: ``tab`` rad and ``left`` wad remain, ``top`` ray, ``started`` seconds. English: ``flip`` holds them.
    ``holder`` made the standing bid, ``bids`` are those of its contest.
    """

    account: AccountId
    system: int
    due: int
    tab: int
    left: int
    paid: int = 0
    top: int = 0
    started: int = 0
    flip: EnglishAuction | None = None
    holder: str | None = None
    bids: tuple[Bid, ...] = ()


@dataclass(slots=True)
class _Look:
    """``next``: when a lot may offer something new; ``under``: the conditions under which it offers nothing until
    then. ``soon``: of an English lot the first moment before that at which bidders come and go, though nobody who could
    bid. ``beaten``: the bidder to whom an English lot's standing bid is too much, under conditions ``here``.
    """

    next: int = 0
    soon: int = 0
    under: _Conditions | None = None
    beaten: Bidder | None = None
    here: _Conditions | None = None


class Auctions(Mechanism[MakerState]):
    """See the module: the auctions of each ilk by themselves, each with prices, curves and limits of its own.

    Args:
        cost: what one call costs the liquidator, base units; a bidder leaves it out of its bid.
        largest_take: the most collateral (wad) that one take carries away; None: the whole lot.
    """

    name = "auction"

    def __init__(self, cost: int = 0, largest_take: int | None = None) -> None:
        self._make = cost, largest_take
        self._numbers = itertools.count()
        self._ilks: dict[int, IlkAuctions] = {}

    @property
    def lots(self) -> Mapping[int, Lot]:
        """Open lots, by number."""
        return {number: lot for each in self._ilks.values() for number, lot in each.lots.items()}

    def _of(self, book: Book[MakerState], account: AccountId) -> IlkAuctions:
        ilk = book.state.ilk_of(account)
        if ilk not in self._ilks:
            self._ilks[ilk] = IlkAuctions(*self._make, ilk, self._numbers)
        found = self._ilks[ilk]
        found.bidders = self.bidders
        return found

    @override
    def opportunities(
        self, book: Book[MakerState], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """Those of the auctions of the account's ilk."""
        return self._of(book, account).opportunities(
            book, account, liquidator, receive_collateral_token=receive_collateral_token
        )

    @override
    def settle(self, book: Book[MakerState], opportunity: Opportunity) -> int | None:
        """The step happens; the number of its lot."""
        return self._of(book, opportunity.order.account).settle(book, opportunity)

    @override
    def open_accounts(self) -> Collection[AccountId]:
        """Accounts with open lots, and those that could be bitten again, of any ilk."""
        return set[AccountId]().union(*(each.open_accounts() for each in self._ilks.values()))

    @override
    def due(self, book: Book[MakerState]) -> Collection[AccountId]:
        """Those whose lots pay, or must be reset, those with bids, and those that could be bitten again."""
        return set[AccountId]().union(*(each.due(book) for each in self._ilks.values()))

    @override
    def wake(self, now: Clock) -> int | None:
        """The next time at which an auction of any ilk offers something new."""
        watched = any(each.stands for each in self._ilks.values())
        times = [each.wakes(now, watched=watched) for each in self._ilks.values()]
        return min((time for time in times if time is not None), default=None)


class IlkAuctions(Mechanism[MakerState]):
    """The auctions of one ilk. ``numbers`` gives its lots theirs; the rest as in ``Auctions``."""

    name = "auction"

    def __init__(self, cost: int, largest_take: int | None, ilk: int, numbers: Iterator[int]) -> None:
        self.ilk, self.collateral, self.dai, self.pair = ilk, collateral_of(ilk), coin_of(ilk), pair_of(ilk)
        self._numbers = numbers
        self.cost = cost
        self.largest_take = largest_take
        self.lots: dict[int, Lot] = {}
        self._looks: dict[int, _Look] = {}
        """Of each of them."""
        self._of: dict[AccountId, list[int]] = {}
        self._openable: set[AccountId] = set()
        self._again = 0
        self._here: _Conditions | None = None
        self._asked = (-1, 0, 0)
        self._alike: dict[Kind, _Alike] = {}
        self._flips: set[int] = set()
        """Numbers of the other lots."""
        self._awake: set[Kind] = set()
        """Kinds that are looked at at each decision;"""
        self._asleep: list[tuple[int, Kind]] = []
        """the others, by the time at which they may pay, or end, as long as the execution price is below this"""
        self._below = 0
        self._slept_under: _Conditions | None = None
        """and everything else is as it was here."""
        self._plain = True
        """Whether every lot is looked at whenever something may change: the reference, and where nobody asks who is
        due.
        """
        self._looked = 0
        """When it was last asked who is due."""

    # -- Mechanism -----------------------------------------------------------------------------------------------------

    @override
    def opportunities(
        self, book: Book[MakerState], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """Steps of the account's open lots, oldest first, then a new lot where it is unsafe."""
        found: list[Opportunity | Refusal] = []
        now, here = book.now.timestamp, self._conditions(book)
        for number in self._of.get(account, ()):
            look = self._looks[number]
            if look.under is here and now < look.next:
                continue
            lot = self.lots[number]
            offer, look.next = (
                self._english(book, here, number, lot, lot.flip, liquidator)
                if lot.flip is not None
                else self._dutch(book, here, number, lot, liquidator)
            )
            if offer is None:
                look.under = here
                continue
            found.append(offer)
            look.under = None
            if offer.always:  # others may come first: then in the next block
                look.next = min(look.next, now + BLOCK_SECONDS)
            if (
                offer.always and self.bidders is not None
            ):  # a contest takes the first of an account: what follows is looked at after it
                return found
        self._openable.discard(account)
        if pairs(book.state, account, book.prices):
            opening = self._opening(book, account, liquidator)
            found.append(opening)
            if isinstance(opening, Opportunity):
                self._openable.add(account)
        self._again = now + BLOCK_SECONDS
        return found

    @override
    def settle(self, book: Book[MakerState], opportunity: Opportunity) -> int | None:
        """The step happens: a lot opens, changes or closes; its number."""
        number, account = opportunity.lot, opportunity.order.account
        if number is None:
            number = next(self._numbers)
            self._put(number, self._opened(book, opportunity.fill))
            self._of.setdefault(account, []).append(number)
            return number
        lot, after = self.lots[number], self._after(book, self.lots[number], opportunity)
        if after is None or _kind(after) != _kind(lot):
            self._leave(number, lot)
        if after is not None:
            self._put(number, after)
            return number
        del self.lots[number], self._looks[number]
        self._of[account].remove(number)
        if not self._of[account]:
            del self._of[account]
        return number

    @override
    def open_accounts(self) -> Collection[AccountId]:
        """Accounts with open lots, and those that could be bitten again."""
        return self._of.keys() | self._openable

    @override
    def due(self, book: Book[MakerState]) -> Collection[AccountId]:
        """Those whose lots pay, or must be reset, those with bids, and those that could be bitten again."""
        self._plain = book.plain
        if self._plain:
            return self.open_accounts()
        here, now = self._conditions(book), book.now.timestamp
        self._rouse(here, now)
        looks = self._looks
        numbers = [
            number
            for number in self._flips
            if self._openable or looks[number].under is not here or now >= looks[number].next
        ]
        for kind in sorted(self._awake):
            alike = self._alike[kind]
            if alike.under is here and now < alike.look:
                continue
            seconds = now - alike.one.started
            if self._changes(here, alike.one, here.execution, seconds):
                alike.look, alike.under = 0, None
                numbers += alike.numbers
            elif self._changes(here, alike.one, self._below, seconds):
                alike.look, alike.under = self._next_look(here, alike.one, now, False), here
            else:
                self._awake.discard(kind)
                heapq.heappush(self._asleep, (self._first_change(here, alike.one, self._below, now), kind))
        return {*self._openable, *(self.lots[number].account for number in numbers)}

    @override
    def wake(self, now: Clock) -> int | None:
        """The next time at which an auction offers something new, as far as prices stay what they were when it was last
        looked at.
        """
        return self.wakes(now, watched=self.stands)

    @property
    def stands(self) -> bool:
        """Whether something may be on offer that nobody took: a bid that could not be paid, a new lot, or a Dutch lot
        that pays. Then somebody may take it whenever liquidators look.
        """
        if self._plain or self._openable or any(self._looks[number].under is None for number in self._flips):
            return True
        return any(not self._alike[kind].look for kind in self._awake)

    def wakes(self, now: Clock, *, watched: bool) -> int | None:
        """See ``wake``. ``watched``: something else stands on offer, so that liquidators look at every moment at which
        bidders come and go, not only where one of those could bid.
        """
        if self._plain:
            looks = [look.next for look in self._looks.values()]
        else:
            flips = [self._looks[number] for number in self._flips]
            looks = [self._soon(look, now.timestamp) if watched else look.next for look in flips]
            for kind in self._awake:
                alike = self._alike[kind]
                looks += [alike.look] if alike.look else [self._looks[number].next for number in alike.numbers]
            while self._asleep and self._asleep[0][0] <= min(looks, default=_NEVER):
                kind = heapq.heappop(self._asleep)[1]
                if kind in self._alike and kind not in self._awake and self._here is not None:
                    self._awake.add(kind)
                    alike = self._alike[kind]
                    alike.look, alike.under = self._next_look(self._here, alike.one, self._looked, False), self._here
                    looks.append(alike.look)
        times = [max(look, now.timestamp + 1) for look in looks]
        if self._openable:
            times.append(max(self._again, now.timestamp + 1))
        return min(times, default=None)

    def _soon(self, look: _Look, now: int) -> int:
        """The first moment after ``now`` at which an English lot's bidders come or go."""
        while self.bidders is not None and look.soon <= now and look.soon < look.next:
            look.soon = min(look.next, self.bidders.bidding_changes(look.soon))
        return min(look.soon, look.next)

    def _conditions(self, book: Book[MakerState]) -> _Conditions:
        """The same object as long as they are the same, told apart faster."""
        state, prices = book.state, book.prices
        asked = state.changes, prices.execution.get(self.collateral, 0), prices.market.get(self.dai, 0)
        if self._here is not None and asked == self._asked:
            return self._here
        self._asked = asked
        here = _Conditions(
            asked[1], asked[2], state.curve(self.ilk), state.bounds(self.ilk),
            state.param("beg", self.ilk), state.param("stopped", self.ilk),
        )  # fmt: skip
        if self._here is None or here != self._here:
            self._here = here
        return self._here

    # -- lots alike
    # ------------------------------------------------------------------------------------------------------

    def _put(self, number: int, lot: Lot) -> None:
        self.lots[number] = lot
        look = self._looks.setdefault(number, _Look())
        look.under = look.here = None
        if lot.flip is not None:
            self._flips.add(number)
            return
        kind = _kind(lot)
        alike = self._alike.setdefault(kind, _Alike(lot, set()))
        alike.numbers.add(number)
        alike.look = 0
        self._awake.add(kind)

    def _leave(self, number: int, lot: Lot) -> None:
        self._flips.discard(number)
        if (alike := self._alike.get(kind := _kind(lot))) is not None:
            alike.numbers.discard(number)
            if not alike.numbers:
                del self._alike[kind]
                self._awake.discard(kind)

    def _changes(self, here: _Conditions, lot: Lot, execution: int, seconds: int) -> bool:
        """Whether a Dutch lot pays at an execution price, or must be reset, so long after it started."""
        price = here.curve.price_down(lot.top, seconds)
        return here.bounds.is_done(lot.top, price, seconds) or price * here.dai < execution * RAY

    def _rouse(self, here: _Conditions, now: int) -> None:
        """Whoever may pay or end at this moment, or until the next one that time alone brings, is awake."""
        before = self._slept_under
        same = before is not None and replace(before, execution=here.execution) == here
        if not same or not self._below * (_BAND - 2) // _BAND <= here.execution < self._below:
            self._below, self._slept_under = here.execution + here.execution // _BAND + 1, here
            self._awake, self._asleep = set(self._alike), []
        while self._asleep and self._asleep[0][0] <= now:
            kind = heapq.heappop(self._asleep)[1]
            if kind in self._alike:
                self._awake.add(kind)
        self._looked = now

    # -- opening
    # ---------------------------------------------------------------------------------------------------------

    def _opening(self, book: Book[MakerState], account: AccountId, liquidator: AccountId) -> Opportunity | Refusal:
        state = book.state
        system = state.system(self.ilk)
        if system == DOG_2_0 and state.param("stopped", self.ilk) >= 1:
            return Refusal("stopped")
        fill = quote(state, Order(account, self.pair, liquidator), book.prices, book.now)
        if isinstance(fill, Refusal):
            return fill
        reward = 0
        if system == DOG_2_0:
            tip, chip = state.param("tip", self.ilk) * RAY, state.param("chip", self.ilk)
            coin = clip.incentive_down(tip, chip, self._tab_of(book, fill))
            reward = book.value_down(self.dai, coin // RAY)
        return Opportunity(fill.order, fill, reward, "bark" if system == DOG_2_0 else "bite", always=True, opens=True)

    def _tab_of(self, book: Book[MakerState], fill: Fill) -> int:
        """Rad: what the auction of a new lot is to raise: by how much the fill raises the sum of all."""
        return raised_by(fill)

    def _opened(self, book: Book[MakerState], fill: Fill) -> Lot:
        """dss ``src/clip.sol`` and ``src/flip.sol`` ``kick``."""
        state, now, tab = book.state, book.now.timestamp, self._tab_of(book, fill)
        due = -sum(
            change.delta for change in fill.changes if isinstance(change, PositionChange) and change.side == "debt"
        ) * state.rate(self.ilk)
        lot = Lot(fill.order.account, state.system(self.ilk), due, tab, fill.seized)
        if lot.system == DOG_2_0:
            return replace(lot, top=self._top(book), started=now)
        return replace(lot, flip=EnglishAuction(tab, fill.seized, now + state.param("tau", self.ilk)))

    def _top(self, book: Book[MakerState]) -> int:
        """Ray: rmul(feed, buf); 0 without a price."""
        feed = feed_down(book.oracle.get(self.collateral, 0), book.state.param("par"))
        return feed * book.state.param("buf", self.ilk) // RAY

    # -- Dutch
    # -----------------------------------------------------------------------------------------------------------

    def _dutch(
        self, book: Book[MakerState], here: _Conditions, number: int, lot: Lot, liquidator: AccountId
    ) -> tuple[Opportunity | None, int]:
        """What the lot offers now, and when it may offer something else."""
        now = book.now.timestamp
        price = here.curve.price_down(lot.top, now - lot.started)
        if here.bounds.is_done(lot.top, price, now - lot.started):
            can_reset = here.stopped < 2 and self._top(book) > 0
            return self._redo(book, number, lot, liquidator) if can_reset else None, now + BLOCK_SECONDS
        offer = (
            self._take(book, number, lot, liquidator, price)
            if here.stopped < 3 and price * here.dai < here.execution * RAY
            else None
        )
        return offer, self._next_look(here, lot, now, offer is not None)

    def _redo(self, book: Book[MakerState], number: int, lot: Lot, liquidator: AccountId) -> Opportunity:
        state = book.state
        feed = feed_down(book.oracle[self.collateral], state.param("par"))
        coin = clip.redo_incentive_down(
            state.param("tip", self.ilk) * RAY,
            state.param("chip", self.ilk),
            lot.tab,
            lot.left,
            feed,
            self._chost(state),
        )
        return self._step(lot, number, liquidator, "redo", profit=book.value_down(self.dai, coin // RAY))

    def _chost(self, state: MakerState) -> int:
        return clip.chost_down(state.param("dust", self.ilk) * RAY, state.param("liquidation_penalty", self.ilk))

    def _take(
        self, book: Book[MakerState], number: int, lot: Lot, liquidator: AccountId, price: int
    ) -> Opportunity | None:
        if not price:
            return None
        most = lot.left if self.largest_take is None else self.largest_take
        bought = clip.take(lot.tab, lot.left, price, most, self._chost(book.state))
        if isinstance(bought, str):  # a part would leave too little: the whole
            bought = clip.take(lot.tab, lot.left, price, lot.left, 0)
            assert not isinstance(bought, str)
        if not bought.slice:
            return None
        freed = lot.tab if not bought.lot else bought.owe
        deficit = _deficit(lot.due - lot.paid - bought.owe) if not bought.lot else 0
        profit = book.proceeds_down(self.collateral, bought.slice) - book.cost_up(self.dai, -(-bought.owe // RAY))
        fill = Fill(
            Order(lot.account, self.pair, liquidator),
            -(-bought.owe // RAY),
            bought.slice,
            0,
            (raised(book.state, -freed, book.now, self.ilk, lot.system),),
            ((self.dai, deficit),) if deficit else (),
            CONTRACTS[lot.system],
        )
        return Opportunity(fill.order, fill, profit, "take", number)

    def _next_look(self, here: _Conditions, lot: Lot, now: int, pays: bool) -> int:
        """When the offer changes: the next step of a price that pays already, the first one that pays, or when the lot
        must be reset.
        """
        each = here.curve.step if here.curve.kind == STAIRSTEP else 1
        at = (now - lot.started) // each
        if pays:  # but the model wants more
            return lot.started + (at + max(1, BLOCK_SECONDS // each)) * each

        return self._first_change(here, lot, here.execution, now)

    def _first_change(self, here: _Conditions, lot: Lot, execution: int, now: int) -> int:
        """The first time after ``now`` at which a lot pays at this execution price, or must be reset."""
        each = here.curve.step if here.curve.kind == STAIRSTEP else 1
        at = (now - lot.started) // each
        low, high = at, max(at + 1, here.bounds.tail // each + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._changes(here, lot, execution, middle * each) else (middle, high)
        return min(lot.started + high * each, max(lot.started + here.bounds.tail + 1, now + 1))

    # -- English
    # ---------------------------------------------------------------------------------------------------------

    def _english(
        self,
        book: Book[MakerState],
        here: _Conditions,
        number: int,
        lot: Lot,
        flip: EnglishAuction,
        liquidator: AccountId,
    ) -> tuple[Opportunity | None, int]:
        """What the lot offers now, and when time alone makes it offer something else."""
        state, now = book.state, book.now.timestamp
        offer = None
        if flip.is_won(now):
            offer = self._deal(book, number, lot, flip, liquidator)
        elif flip.is_abandoned(now):
            offer = self._step(lot, number, liquidator, "tick")
        elif flip.is_open(now) and self.bidders is not None:
            if not self._is_beyond(book, here, self.bidders, number, lot, flip):
                offer = self._bid_of_few(book, self.bidders, number, lot, flip, liquidator)
        elif flip.is_open(now):
            bid, least = self._best_bid(book, flip)
            beg = state.param("beg", self.ilk)
            if bid == flip.tab and flip.bid == flip.tab:
                if flip.dent_refused(least, beg, now) is None:
                    offer = self._step(lot, number, liquidator, "dent", asked=least)
            elif flip.tend_refused(bid, beg, now) is None:
                offer = self._step(lot, number, liquidator, "tend", asked=bid)
        settled = (min(flip.expires, flip.end) if flip.expires else flip.end) + 1
        look, bidders = self._looks[number], self.bidders
        look.soon = settled if bidders is None else min(settled, bidders.bidding_changes(now))
        if bidders is None or offer is not None or self._plain or look.soon == settled:
            return offer, look.soon
        return offer, min(settled, bidders.bidding_from(lot.account, number, now))

    def _is_beyond(
        self, book: Book[MakerState], here: _Conditions, bidders: Bidders, number: int, lot: Lot, flip: EnglishAuction
    ) -> bool:
        """Whether the standing bid is more than anybody else could give, whoever is there."""
        keenest, look = bidders.keenest(book, lot.holder), self._looks[number]
        if keenest is None:
            return False
        if look.here is not here or look.beaten is not keenest:
            values, proceeds = self._values(book), book.proceeds_down(self.collateral, flip.lot)
            if values is None or better_bid(flip, None, [keenest], here.beg, proceeds, values) is not None:
                return False
            look.here, look.beaten = here, keenest
        return True

    def _values(self, book: Book[MakerState]) -> Values | None:
        """None where something has no price."""
        price, dai = book.prices.execution.get(self.collateral, 0), book.prices.market.get(self.dai, 0)
        return Values(price, book.units[self.collateral], dai, book.units[self.dai]) if price and dai else None

    def _bid_of_few(
        self,
        book: Book[MakerState],
        bidders: Bidders,
        number: int,
        lot: Lot,
        flip: EnglishAuction,
        liquidator: AccountId,
    ) -> Opportunity | None:
        """What those who are there make of it; see ``bidding``."""
        if (values := self._values(book)) is None:
            return None
        there = bidders.bidding(book, lot.account, number)
        found = better_bid(
            flip,
            lot.holder,
            there,
            book.state.param("beg", self.ilk),
            book.proceeds_down(self.collateral, flip.lot),
            values,
        )
        if found is None:
            return None
        step = self._step(lot, number, liquidator, found.step, asked=found.asked)
        return structs.replace(step, taker=found.name, bids=found.bids)

    def _best_bid(self, book: Book[MakerState], flip: EnglishAuction) -> tuple[int, int]:
        """(rad, wad): the bid that leaves nothing beyond the cost of two calls, and, where that is the whole tab, the
        least lot for it.
        """
        price, unit = book.prices.execution.get(self.collateral, 0), book.units[self.collateral]
        dai = book.prices.market.get(self.dai, 0)
        if not price or not dai:
            return 0, flip.lot
        value = book.proceeds_down(self.collateral, flip.lot) - 2 * self.cost
        bid = max(0, value) * RAY * WAD // dai
        if bid < flip.tab:
            return bid, flip.lot
        worth = book.cost_up(self.dai, -(-flip.tab // RAY)) + 2 * self.cost
        return flip.tab, min(flip.lot, -(-worth * unit // price))

    def _deal(
        self, book: Book[MakerState], number: int, lot: Lot, flip: EnglishAuction, liquidator: AccountId
    ) -> Opportunity:
        """The winner takes the lot for its bid; the rest of the lot went back to the owner with each ``dent``."""
        paid = -(-flip.bid // RAY)
        deficit = _deficit(lot.due - flip.bid)
        fill = Fill(
            Order(lot.account, self.pair, liquidator),
            paid,
            flip.lot,
            0,
            (raised(book.state, -flip.tab, book.now, self.ilk, lot.system),),
            ((self.dai, deficit),) if deficit else (),
            CONTRACTS[lot.system],
        )
        profit = book.proceeds_down(self.collateral, flip.lot) - book.cost_up(self.dai, paid)
        return Opportunity(fill.order, fill, profit, "deal", number, always=True, taker=lot.holder, bids=lot.bids)

    # -- steps
    # -----------------------------------------------------------------------------------------------------------

    def _step(
        self, lot: Lot, number: int, liquidator: AccountId, step: str, *, profit: int = 0, asked: int | None = None
    ) -> Opportunity:
        """A step that moves nothing in the book; it happens whatever it earns. ``asked``: the bid (rad), or the lot
        asked for (wad).
        """
        order = Order(lot.account, self.pair, liquidator, asked)
        return Opportunity(
            order, Fill(order, 0, 0, 0, (), rules=CONTRACTS[lot.system]), profit, step, number, always=True
        )

    def _after(self, book: Book[MakerState], lot: Lot, opportunity: Opportunity) -> Lot | None:
        """The lot after a step; None where it is closed."""
        flip, asked, state, now = lot.flip, opportunity.order.repay or 0, book.state, book.now.timestamp
        step = opportunity.step
        if step == "take":
            left, owe = lot.left - opportunity.fill.seized, -raised_by(opportunity.fill)
            return replace(lot, left=left, tab=lot.tab - owe, paid=lot.paid + owe) if left and lot.tab > owe else None
        if step == "redo":
            return replace(lot, top=self._top(book), started=now)
        assert flip is not None
        if step == "tend":
            flip = flip.with_bid(asked, flip.lot, state.param("ttl", self.ilk), now)
        elif step == "dent":
            flip = flip.with_bid(flip.bid, asked, state.param("ttl", self.ilk), now)
        elif step == "tick":
            flip = flip.restarted(state.param("tau", self.ilk), now)
        else:
            return None
        return replace(lot, flip=flip, holder=opportunity.taker, bids=opportunity.bids)


def _kind(lot: Lot) -> Kind:
    return lot.top, lot.started


def _deficit(rad: int) -> int:
    """Wad, rounded up: what a closed lot raised less than its debt."""
    return -(-max(0, rad) // RAY)
