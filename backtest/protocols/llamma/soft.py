"""Soft liquidation, as a mechanism: an arbitrageur who trades the AMM to the market's price, and who liquidates hard
what may be.

**The arbitrageur.** At every moment at which liquidators look, whoever gains by it exchanges with the AMM until its
own price, the fee counted, is the market's: buys collateral from it while it is cheaper there (the price falls, loans
go into soft liquidation), sells collateral to it while it is dearer (the price rises, they come back). An exchange is
whole, pays the fee, and is made where it gains more than a call costs, a thousandth of the borrowed token at least. The
other tokens come from and go to the market at the market's price.

**Hard.** A loan whose full health is below zero is liquidated whole, by whoever gains by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from typing_extensions import override

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.llamma.account import oracle_price
from backtest.protocols.llamma.liquidation import pairs, quote, surplus
from backtest.protocols.llamma.math import AmmReverts
from backtest.protocols.llamma.state import AMM, BORROWED, COLLATERAL, LlammaState
from backtest.protocols.mechanism import Immediate, Opportunity, spread
from backtest.units import WAD

ARBITRAGE = "arbitrage"
_OPEN = (AMM,)


def arbitrage(state: LlammaState, book: Book[LlammaState], liquidator: AccountId) -> Order | None:
    """The exchange that brings the AMM to the market's price; None where none gains."""
    amm, now = state.amm, book.now
    try:
        price = oracle_price(state, book.oracle, now)
        buys, sells = (_relative(book, prices) for prices in (book.prices.execution, book.prices.market))
    except PriceMissing:
        return None
    oracle = price, amm.limited(book.oracle[COLLATERAL], now.timestamp)[1]
    fee = min(max(amm.fee, oracle[1]), WAD - 1)
    try:
        own = amm.price_down(oracle[0], now.timestamp)
        down, up = buys * (WAD - fee) // WAD, sells * WAD // (WAD - fee)
        if own < down:
            amount, pair = amm.amount_for_price(down, oracle, now.timestamp)[0], Pair(BORROWED, COLLATERAL)
        elif own > up:
            amount, pair = amm.amount_for_price(up, oracle, now.timestamp)[0], Pair(COLLATERAL, BORROWED)
        else:
            return None
    except AmmReverts:
        return None
    return Order(AMM, pair, liquidator, repay=amount) if amount else None


def _relative(book: Book[LlammaState], prices: Mapping[AssetId, int]) -> int:
    """Borrowed tokens for a collateral token, wad; PriceMissing where one has no price."""
    own, other = prices.get(COLLATERAL), prices.get(BORROWED)
    if not own or not other:
        raise PriceMissing(book.market.assets[COLLATERAL].symbol)
    return own * WAD // other


class SoftLiquidation(Immediate[LlammaState]):
    """See the module."""

    name = "soft-liquidation"

    @override
    def opportunities(
        self, book: Book[LlammaState], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """Of the AMM's account an exchange, of a loan its liquidation."""
        state = book.state
        if account == AMM:
            order = arbitrage(state, book, liquidator)
            if order is None:
                return ()
            fill = quote(state, order, book.prices.oracle, book.now)
            if isinstance(fill, Refusal):
                return ()
            gain = spread(book, fill)
            least = book.value_up(BORROWED, book.units[BORROWED] // 1_000)
            return (Opportunity(order, fill, gain, ARBITRAGE),) if gain >= least else ()
        found: list[Opportunity | Refusal] = []
        for pair in pairs(state, account, book.prices.oracle, book.now):
            order = Order(account, pair, liquidator)
            hard: Fill | Refusal = quote(state, order, book.prices.oracle, book.now)
            if isinstance(hard, Fill):
                more = book.proceeds_down(BORROWED, surplus(state, order, book.now))
                found.append(Opportunity(order, hard, spread(book, hard) + more))
            else:
                found.append(hard)
        return found

    @override
    def open_accounts(self) -> Collection[AccountId]:
        """The AMM is always on offer."""
        return _OPEN
