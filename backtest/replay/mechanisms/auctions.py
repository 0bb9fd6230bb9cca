"""Auctions on the accounts of any protocol. Nothing leaves an account before somebody has bought: its owner may still
act, and an auction ends where the account is healthy again. Prices fall and bids count by ``backtest.auctions``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from backtest import scenario as config
from backtest.auctions.bidding import Bid, Bidder, Values, better_bid
from backtest.auctions.dutch import STAIRSTEP, Bounds, Curve
from backtest.auctions.english import EnglishAuction
from backtest.model import AccountId, Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, Order, Pair, Refusal, State
from backtest.protocols.mechanism import Mechanism, Opportunity, ProtocolSpread, spread
from backtest.replay.competition.models import COMPETITIVE
from backtest.replay.mechanisms.agreed import Terms, sale
from backtest.units import BPS, RAY, WAD


@dataclass(frozen=True, slots=True)
class _Falling:
    """One Dutch auction: when it started, and the oracle's price of each pair then (collateral, debt)."""

    started: int
    prices: dict[Pair, tuple[int, int]]


class DutchAuctions(Mechanism[Any]):
    """See ``scenario.Dutch``. An auction that must start anew does so at the next moment at which anything changes:
    time alone does not.
    """

    name = "dutch"

    def __init__(self, terms: config.Dutch) -> None:
        self._close = terms.close_factor
        self._top = terms.buf * RAY // BPS
        self._curve = Curve(STAIRSTEP, 0, terms.step, terms.cut * RAY // BPS)
        self._bounds = Bounds(terms.tail, terms.cusp * RAY // BPS)
        self._step, self._tail = terms.step, terms.tail
        self._open: dict[AccountId, _Falling] = {}

    def opportunities(
        self, book: Book[State], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """Each pair at the price of the moment, once that is below the market's."""
        pairs = book.protocol.pairs(book.state, account, book.prices, book.now)
        if not pairs:
            self._open.pop(account, None)
            return ()
        return self._offers(book, account, liquidator, pairs, self._auction(book, account, pairs, book.now.timestamp))

    def _auction(self, book: Book[State], account: AccountId, pairs: Sequence[Pair], start: int) -> _Falling:
        known, now = self._open.get(account), book.now.timestamp
        if known is None or self._bounds.is_done(self._top, self._price(known, now), now - known.started):
            known = _Falling(start if known is None else now, {})
            self._open[account] = known
        for pair in pairs:
            known.prices.setdefault(pair, (book.oracle[pair.collateral_asset], book.oracle[pair.debt_asset]))
        return known

    def _price(self, auction: _Falling, now: int) -> int:
        """Ray: share of the oracle's price at the start."""
        return self._curve.price_down(self._top, now - auction.started)

    def _offers(
        self, book: Book[State], account: AccountId, liquidator: AccountId, pairs: Sequence[Pair], auction: _Falling
    ) -> list[Opportunity | Refusal]:
        holdings = {h.asset: h for h in book.protocol.holdings(book.state, account, book.now)}
        share, found = self._price(auction, book.now.timestamp), list[Opportunity | Refusal]()
        for pair in pairs:
            collateral, debt = auction.prices[pair]
            # What a unit of debt buys at the auction's price, at the oracle's prices of now.
            factor = (
                book.oracle[pair.collateral_asset]
                * debt
                * RAY
                * WAD
                // (book.oracle[pair.debt_asset] * collateral * share)
            )
            if factor > WAD:
                most = holdings[pair.debt_asset].debt * self._close // BPS
                offer = sale(
                    book, account, pair, liquidator, Terms(factor, most), holdings[pair.collateral_asset].collateral
                )
                found.append(structs.replace(offer, step="take") if isinstance(offer, Opportunity) else offer)
        return found

    def settle(self, book: Book[State], opportunity: Opportunity) -> int | None:
        """The auction goes on for what is left."""
        return None

    def open_accounts(self) -> Collection[AccountId]:
        """Those with an auction."""
        return self._open.keys()

    def wake(self, now: Clock) -> int | None:
        """The next step of any price."""
        times = [
            each.started + ((now.timestamp - each.started) // self._step + 1) * self._step
            for each in self._open.values()
            if now.timestamp - each.started <= self._tail
        ]
        return min(times, default=None)


class HybridLiquidations(DutchAuctions):
    """See ``scenario.Hybrid``."""

    name = "hybrid"

    def __init__(self, terms: config.Hybrid) -> None:
        super().__init__(terms.auction)
        self._wait = terms.blocks * terms.block_seconds
        self._own: ProtocolSpread[Any] = ProtocolSpread()
        self._first: dict[AccountId, int] = {}

    def opportunities(
        self, book: Book[State], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """The protocol's own offers, then those of the auction that started when their time was over."""
        pairs = book.protocol.pairs(book.state, account, book.prices, book.now)
        if not pairs:
            self._first.pop(account, None)
            self._open.pop(account, None)
            return ()
        begins = self._first.setdefault(account, book.now.timestamp) + self._wait
        if book.now.timestamp < begins:
            return self._own.opportunities(book, account, liquidator, receive_collateral_token=receive_collateral_token)
        return self._offers(book, account, liquidator, pairs, self._auction(book, account, pairs, begins))

    def open_accounts(self) -> Collection[AccountId]:
        """Those whose time runs."""
        return self._first.keys()

    def wake(self, now: Clock) -> int | None:
        """When the first auction starts, or a price falls."""
        begins = [first + self._wait for first in self._first.values() if first + self._wait > now.timestamp]
        step = super().wake(now)
        return min([*begins, *([] if step is None else [step])], default=None)


@dataclass(frozen=True, slots=True)
class _Rising:
    """One English auction of a pair: ``english`` holds bids (native debt times a ray) and the lot (native collateral),
    of which ``whole`` is all. ``holder`` made the standing bid; ``bids`` are those of everybody then.
    """

    pair: Pair
    english: EnglishAuction
    whole: int
    holder: str | None = None
    bids: tuple[Bid, ...] = ()


_FEW = (2, 4, 8, 16)
"""Native units, where a lone bidder's are so few that they are no scaled unit of debt: there are more of those to a
unit as an index grows.
"""


class EnglishAuctions(Mechanism[Any]):
    """See ``scenario.English``. Without ``bidders`` two that are alike bid each other up to what the lot sells for less
    the ``cost`` (base units) of two calls.
    """

    name = "english"

    def __init__(self, terms: config.English, cost: int = 0) -> None:
        self._terms, self._cost = terms, cost
        self._beg = terms.beg * WAD // BPS
        self._open: dict[AccountId, _Rising] = {}
        self._due: int | None = None
        """Where bidders come and go: when others may be there."""

    def opportunities(
        self, book: Book[State], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """The step that is due: a better bid, or the sale to the winner."""
        auction = self._kept(book, account)
        if auction is None:
            return ()
        now, english, pair = book.now.timestamp, auction.english, auction.pair
        if english.is_won(now):
            return [self._deal(book, account, liquidator, auction)]
        if not english.is_open(now):
            return ()
        found = better_bid(
            english, auction.holder, self._bidders(book, account), self._beg, *self._values(book, auction)
        )
        if found is None:
            return ()
        lot = found.asked if found.step == "dent" else english.lot
        order = Order(account, pair, liquidator, repay=found.asked if found.step == "tend" else english.bid, seize=lot)
        step = Opportunity(
            order, Fill(order, 0, 0, 0, ()), 0, found.step, lot=account, always=True, taker=found.name, bids=found.bids
        )
        return [step]  # which is no liquidation by itself

    def _bidders(self, book: Book[State], account: AccountId) -> Sequence[Bidder]:
        if self.bidders is None:
            return [Bidder(COMPETITIVE, 2 * self._cost)] * 2
        self._due = self.bidders.bidding_changes(book.now.timestamp)
        return self.bidders.bidding(book, account, account)

    def _values(self, book: Book[State], auction: _Rising) -> tuple[int, Values]:
        """What the lot sells for, and the prices."""
        debt, collateral = auction.pair.debt_asset, auction.pair.collateral_asset
        values = Values(
            book.prices.execution[collateral], book.units[collateral], book.prices.market[debt], book.units[debt]
        )
        return book.proceeds_down(collateral, auction.english.lot), values

    def _deal(
        self, book: Book[State], account: AccountId, liquidator: AccountId, auction: _Rising
    ) -> Opportunity | Refusal:
        """The winner pays, a native unit at least, or the few that the protocol can book. What was all of the debt, or
        of the collateral, when the auction began is all of it with the interest since.
        """
        english, pair = auction.english, auction.pair
        owed, held = self._balances(book, account, pair)
        repay = owed if english.bid == english.tab else -(-english.bid // RAY)
        seize = held if english.lot == auction.whole else english.lot
        refusal: Refusal | None = None
        for paid in (repay, *(few for few in _FEW if repay < few < owed)):
            order = Order(account, pair, liquidator, repay=paid, seize=seize, agreed=True)
            fill = book.protocol.quote(book.state, order, book.prices, book.now)
            if not isinstance(fill, Refusal):
                return Opportunity(
                    order, fill, spread(book, fill), "deal", always=True, taker=auction.holder, bids=auction.bids
                )
            refusal = refusal or fill
        assert refusal is not None
        return refusal

    def _balances(self, book: Book[State], account: AccountId, pair: Pair) -> tuple[int, int]:
        holdings = {h.asset: h for h in book.protocol.holdings(book.state, account, book.now)}
        return holdings[pair.debt_asset].debt, holdings[pair.collateral_asset].collateral

    def _kept(self, book: Book[State], account: AccountId) -> _Rising | None:
        """The account's auction: the one that is open, as long as it fits the account, else a new one; None where it is
        healthy.
        """
        pairs = book.protocol.pairs(book.state, account, book.prices, book.now)
        known = self._open.get(account)
        if not pairs:
            self._open.pop(account, None)
            return None
        now = book.now.timestamp
        if known is not None and known.pair in pairs and not known.english.is_abandoned(now):
            owed, held = self._balances(book, account, known.pair)
            if known.english.bid <= owed * RAY and known.english.lot <= held:
                return known
        sizes = {pair: self._balances(book, account, pair) for pair in pairs}
        pair = max(
            pairs,
            key=lambda p: (
                book.value_down(p.debt_asset, sizes[p][0]),
                book.value_down(p.collateral_asset, sizes[p][1]),
                -p.debt_asset,
                -p.collateral_asset,
            ),
        )
        owed, held = sizes[pair]
        self._open[account] = _Rising(pair, EnglishAuction(owed * RAY, held, now + self._terms.tau), held)
        return self._open[account]

    def settle(self, book: Book[State], opportunity: Opportunity) -> int | None:
        """A bid stands, or the auction is over."""
        account, order, now = opportunity.order.account, opportunity.order, book.now.timestamp
        if opportunity.step == "deal":
            del self._open[account]
            return None
        auction = self._open[account]
        assert order.repay is not None
        assert order.seize is not None
        english = auction.english.with_bid(order.repay, order.seize, self._terms.ttl, now)
        self._open[account] = replace(auction, english=english, holder=opportunity.taker, bids=opportunity.bids)
        return None

    def open_accounts(self) -> Collection[AccountId]:
        """Those with an auction."""
        return self._open.keys()

    def wake(self, now: Clock) -> int | None:
        """When a bid has stood, or an auction without one is over, or others may bid; what is due and refused waits
        until something changes.
        """
        times = [
            min(each.english.expires, each.english.end) + 1 if each.english.expires else each.english.end + 1
            for each in self._open.values()
        ]
        if self._due is not None and self._open:
            times.append(self._due)
        return min((time for time in times if time > now.timestamp), default=None)
