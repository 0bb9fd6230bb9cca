"""Auctions on the accounts of any protocol. Nothing leaves an account before somebody has bought: its owner may still act, and an auction ends where
the account is healthy again. Prices fall and bids count by the rules of Maker's contracts (``protocols.maker.clip``, ``flip``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from backtest import scenario as config
from backtest.model import AccountId, Clock
from backtest.protocols import Fill, Order, Pair, Refusal, State
from backtest.protocols.maker.clip import Bounds, Curve
from backtest.protocols.maker.flip import Flip
from backtest.protocols.maker.params import STAIRSTEP
from backtest.replay.book import Book
from backtest.replay.mechanism import FixedSpread, Mechanism, Opportunity
from backtest.replay.mechanisms.agreed import Terms, sale
from backtest.units import BPS, RAY, WAD

BLOCK_SECONDS = 12
"""Where a bid was made, others may answer this much later."""


@dataclass(frozen=True, slots=True)
class _Falling:
    """One Dutch auction: when it started, and the oracle's price of each pair then (collateral, debt)."""

    started: int
    prices: dict[Pair, tuple[int, int]]


class DutchAuctions(Mechanism[Any]):
    """See ``scenario.Dutch``. An auction that must start anew does so at the next moment at which anything changes: time alone does not."""

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
            factor = book.oracle[pair.collateral_asset] * debt * RAY * WAD // (book.oracle[pair.debt_asset] * collateral * share)
            if factor > WAD:
                most = holdings[pair.debt_asset].debt * self._close // BPS
                offer = sale(book, account, pair, liquidator, Terms(factor, most), holdings[pair.collateral_asset].collateral)
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
        self._own: FixedSpread[Any] = FixedSpread()
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
    """One English auction of a pair: ``flip`` holds bids (native debt times ray) and the lot (native collateral)."""

    pair: Pair
    flip: Flip


class EnglishAuctions(Mechanism[Any]):
    """See ``scenario.English``. One account stands for all bidders, who bid what the lot sells for less the ``cost`` (base units) of two calls."""

    name = "english"

    def __init__(self, terms: config.English, cost: int = 0) -> None:
        self._terms, self._cost = terms, cost
        self._beg = terms.beg * WAD // BPS
        self._open: dict[AccountId, _Rising] = {}

    def opportunities(
        self, book: Book[State], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """The step that is due: a better bid, or the sale to the winner."""
        pairs = book.protocol.pairs(book.state, account, book.prices, book.now)
        auction = self._kept(book, account, pairs)
        if auction is None:
            return ()
        now, flip, pair = book.now.timestamp, auction.flip, auction.pair
        if flip.is_won(now):
            order = Order(account, pair, liquidator, repay=flip.bid // RAY, seize=flip.lot, agreed=True)
            fill = book.protocol.quote(book.state, order, book.prices, book.now)
            if isinstance(fill, Refusal):
                return [fill]
            profit = book.proceeds_down(pair.collateral_asset, fill.seized) - book.cost_up(pair.debt_asset, fill.repaid)
            return [Opportunity(order, fill, profit, "deal", always=True)]
        if not flip.is_open(now):
            return ()
        bid, lot = self._best(book, auction)
        if bid == flip.tab == flip.bid:
            step = "dent" if flip.dent_refused(lot, self._beg, now) is None else None
        else:
            step, lot = "tend" if bid and flip.tend_refused(bid, self._beg, now) is None else None, flip.lot
        if step is None:
            return ()
        order = Order(account, pair, liquidator, repay=bid // RAY, seize=lot)
        return [Opportunity(order, Fill(order, 0, 0, 0, ()), 0, step, lot=account, always=True)]  # a step, no liquidation by itself

    def _kept(self, book: Book[State], account: AccountId, pairs: Sequence[Pair]) -> _Rising | None:
        """The account's auction: the one that is open, as long as it fits the account, else a new one; None where it is healthy."""
        known = self._open.get(account)
        if not pairs:
            self._open.pop(account, None)
            return None
        now = book.now.timestamp
        holdings = {h.asset: h for h in book.protocol.holdings(book.state, account, book.now)}
        if known is not None and known.pair in pairs and not known.flip.is_abandoned(now):
            owed, held = holdings[known.pair.debt_asset].debt, holdings[known.pair.collateral_asset].collateral
            if known.flip.bid <= owed * RAY and known.flip.lot <= held:
                return known
        pair = max(
            pairs,
            key=lambda p: (
                book.value_down(p.debt_asset, holdings[p.debt_asset].debt),
                book.value_down(p.collateral_asset, holdings[p.collateral_asset].collateral),
                -p.debt_asset,
                -p.collateral_asset,
            ),
        )
        flip = Flip(holdings[pair.debt_asset].debt * RAY, holdings[pair.collateral_asset].collateral, now + self._terms.tau)
        self._open[account] = _Rising(pair, flip)
        return self._open[account]

    def _best(self, book: Book[State], auction: _Rising) -> tuple[int, int]:
        """The bid (native debt x ray) that leaves nothing beyond the cost, and, where that is the whole debt, the least lot for it."""
        pair, flip = auction.pair, auction.flip
        price = book.prices.market.get(pair.debt_asset, 0)
        value = book.proceeds_down(pair.collateral_asset, flip.lot) - 2 * self._cost
        whole = flip.tab // RAY
        bid = max(0, value) * book.units[pair.debt_asset] // price if price else 0
        if bid < whole:
            return bid * RAY, flip.lot
        worth = book.cost_up(pair.debt_asset, whole) + 2 * self._cost
        sells = book.prices.execution[pair.collateral_asset]
        return flip.tab, min(flip.lot, -(-worth * book.units[pair.collateral_asset] // sells))

    def settle(self, book: Book[State], opportunity: Opportunity) -> int | None:
        """A bid stands, or the auction is over."""
        account, order, now = opportunity.order.account, opportunity.order, book.now.timestamp
        if opportunity.step == "deal":
            del self._open[account]
            return None
        auction = self._open[account]
        assert order.repay is not None
        assert order.seize is not None
        self._open[account] = replace(auction, flip=auction.flip.with_bid(order.repay * RAY, order.seize, self._terms.ttl, now))
        return None

    def open_accounts(self) -> Collection[AccountId]:
        """Those with an auction."""
        return self._open.keys()

    def wake(self, now: Clock) -> int | None:
        """When a bid has stood, or an auction without one is over; what is due and refused waits until something changes."""
        times = [min(each.flip.expires, each.flip.end) + 1 if each.flip.expires else each.flip.end + 1 for each in self._open.values()]
        return min((time for time in times if time > now.timestamp), default=None)
