"""Auctions at a discount as a mechanism: ``liquidateSAFE`` opens a lot, purchases settle it, time lowers what is asked.

The price is the oracle's, so that it follows the market; only the discount is the auction's own. A liquidator takes the
whole of what is on offer (``house.whole_bid_up``) once that costs less than the collateral sells for less its costs.
An auction has no end: at the greatest discount it stays open until somebody buys.

Opening a lot is done whatever it earns: the liquidator gets nothing for it, and somebody who means to buy always does.
Its row holds the debt and the collateral that leave the SAFE; the rows of purchases hold what buyers pay and get. What
a closed lot raised less than its debt (without penalty) is bad debt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from backtest.model import AccountId, Clock, PositionChange
from backtest.protocols.book import Book
from backtest.protocols.geb import house
from backtest.protocols.geb.params import INCREASING, OPEN_DOLLAR, SOLD, SYSTEMS
from backtest.protocols.geb.state import SafeState
from backtest.protocols.interface import Fill, Order, Refusal
from backtest.protocols.mechanism import Mechanism, Opportunity
from backtest.protocols.vaults.actions import quote, raised, raised_by
from backtest.protocols.vaults.state import COIN, COLLATERAL, PAIR, pairs
from backtest.units import RAY

BLOCK_SECONDS = 13
"""After a decision that left something open the mechanism looks again this much later: a block of the time."""
_FEED = 10**9
"""Prices of the market are rays, those of the feeds wads."""


@dataclass(frozen=True, slots=True)
class Lot:
    """One open auction: ``raising`` rad are asked for ``left`` wad; ``due`` is the debt (rad) that opened it.

    ``started`` and ``deadline`` are times. An increasing discount keeps what it began with, ``least``, ``most`` and
    ``rate``; the other houses go by their parameters as they are now.
    """

    account: AccountId
    system: int
    due: int
    raising: int
    left: int
    started: int
    least: int
    most: int
    rate: int
    deadline: int


class DiscountAuctions(Mechanism[SafeState]):
    """See the module. ``lots`` are those that are open, by number."""

    name = "auction"

    def __init__(self) -> None:
        self.lots: dict[int, Lot] = {}
        self._next = 0
        self._looks: dict[int, int] = {}
        """When each may offer something else, as long as prices are what they were."""
        self._openable: set[AccountId] = set()

    @override
    def opportunities(
        self, book: Book[SafeState], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """Purchases of the account's open lots, oldest first, then a new lot where it is unsafe."""
        found: list[Opportunity | Refusal] = []
        for number, lot in self.lots.items():
            if lot.account != account:
                continue
            offer = self._purchase(book, number, lot, liquidator, book.now.timestamp)
            self._looks[number] = self._next_look(book, number, lot, liquidator, pays=offer is not None)
            if offer is not None:
                found.append(offer)
        self._openable.discard(account)
        if pairs(book.state, account, book.prices):
            opening = self._opening(book, account, liquidator)
            found.append(opening)
            if isinstance(opening, Opportunity):
                self._openable.add(account)
        return found

    @override
    def settle(self, book: Book[SafeState], opportunity: Opportunity) -> int | None:
        """A lot opens, or closes; its number."""
        number = opportunity.lot
        if number is None:
            number = self._next
            self._next += 1
            self.lots[number] = self._opened(book, opportunity.fill)
            self._looks[number] = book.now.timestamp
        else:
            del self.lots[number], self._looks[number]
        return number

    @override
    def open_accounts(self) -> Collection[AccountId]:
        """Accounts with open lots, and those that could be liquidated again."""
        return {lot.account for lot in self.lots.values()} | self._openable

    @override
    def wake(self, now: Clock) -> int | None:
        """The next time at which a lot offers something new, as far as prices stay what they are."""
        times = [max(look, now.timestamp + 1) for look in self._looks.values() if look]
        if self._openable:
            times.append(now.timestamp + BLOCK_SECONDS)
        return min(times, default=None)

    # -- opening -------------------------------------------------------------------------------------------------------

    def _opening(self, book: Book[SafeState], account: AccountId, liquidator: AccountId) -> Opportunity | Refusal:
        state = book.state
        if state.system() not in SOLD:
            return Refusal(f"auctions of {SYSTEMS.get(state.system(), state.system())} are not modelled")
        fill = quote(state, Order(account, PAIR, liquidator), book.prices, book.now)
        if isinstance(fill, Refusal):
            return fill
        return Opportunity(fill.order, fill, 0, "start", always=True, opens=True)

    def _opened(self, book: Book[SafeState], fill: Fill) -> Lot:
        """``startAuction``."""
        state, now = book.state, book.now.timestamp
        due = (
            -sum(
                change.delta for change in fill.changes if isinstance(change, PositionChange) and change.side == "debt"
            )
            * state.rate()
        )
        return Lot(
            fill.order.account,
            state.system(),
            due,
            raised_by(fill),
            fill.seized,
            now,
            least=state.param("min_discount"),
            most=state.param("max_discount"),
            rate=state.param("discount_rate"),
            deadline=now + state.param("discount_seconds"),
        )

    # -- purchases -----------------------------------------------------------------------------------------------------

    def _purchase(
        self, book: Book[SafeState], number: int, lot: Lot, liquidator: AccountId, at: int
    ) -> Opportunity | None:
        """The whole of what is on offer at a time, if it costs less than it sells for."""
        price = price_now(book, lot, at)
        if not price:
            return None
        minimum = book.state.param("minimum_bid")
        bid = house.whole_bid_up(lot.left, lot.raising, price, minimum)
        buys = house.buy_readjusted if lot.system == OPEN_DOLLAR else house.buy
        made = buys(lot.left, lot.raising, bid, price, minimum)
        if isinstance(made, str):
            return None
        profit = book.proceeds_down(COLLATERAL, made.bought) - book.cost_up(COIN, made.paid)
        if profit <= 0:
            return None
        deficit = -(-max(0, lot.due - made.paid * RAY) // RAY)
        fill = Fill(
            Order(lot.account, PAIR, liquidator, made.paid),
            made.paid,
            made.bought,
            0,
            (raised(book.state, -made.freed, book.now, 0, lot.system),),
            ((COIN, deficit),) if deficit else (),
            SYSTEMS[lot.system],
        )
        return Opportunity(fill.order, fill, profit, "buy", number)

    def _next_look(self, book: Book[SafeState], number: int, lot: Lot, liquidator: AccountId, *, pays: bool) -> int:
        """When the offer changes by time alone: the next block where it pays already but the model wants more; the
        first time at which it pays; 0 where none does.
        """
        now = book.now.timestamp
        if pays:
            return now + BLOCK_SECONDS
        end = max(lot.deadline, now + 1) if lot.system == INCREASING else lot.started + _LONGEST
        if now >= end or self._purchase(book, number, lot, liquidator, end) is None:
            return 0
        low, high = now, end
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if self._purchase(book, number, lot, liquidator, middle) is not None else (middle, high)
            )
        return high


_LONGEST = 10 * 86_400
"""Open Dollar's discount has no deadline; whatever its rate, it is not looked further ahead."""


def discount_now(state: SafeState, lot: Lot, at: int) -> int:
    """Wad: of a lot at a time."""
    if lot.system == INCREASING:
        return house.next_discount_down(lot.least, lot.most, lot.rate, lot.started, lot.deadline, at)
    if lot.system == OPEN_DOLLAR:
        least, most = state.param("min_discount"), state.param("max_discount")
        return house.discount_since_down(least, most, state.param("discount_rate"), at - lot.started)
    return state.param("min_discount")


def price_now(book: Book[SafeState], lot: Lot, at: int) -> int:
    """Wad: coins for a unit of a lot's collateral at a time; 0 without a price."""
    state, prices = book.state, book.prices
    if COLLATERAL not in prices.oracle or COIN not in prices.oracle:
        return 0
    fsm = prices.oracle[COLLATERAL] // _FEED
    redemption = state.redemption_price(prices, replace(book.now, timestamp=at))
    discount = discount_now(state, lot, at)
    if lot.system == OPEN_DOLLAR:
        return house.discounted_first_down(fsm, redemption, discount)
    collateral = house.base_price_down(
        fsm,
        prices.market.get(COLLATERAL, 0) // _FEED,
        state.param("lower_collateral_deviation"),
        state.param("upper_collateral_deviation"),
    )
    market = prices.market.get(COIN, 0) if state.param("coin_oracle") else 0
    coin = house.coin_price_down(
        redemption,
        market // _FEED * _FEED,
        state.param("lower_coin_deviation"),
        state.param("upper_coin_deviation"),
        state.param("min_coin_deviation"),
    )
    return house.discounted_down(collateral, coin, discount)
