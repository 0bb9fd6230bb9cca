"""Comet's own way of liquidating, as a mechanism: an account is absorbed as soon as it may be, and what it held is sold
to buyers at a discount.

**Absorb.** Whoever calls it gets nothing but points, so that it happens whatever it earns: somebody who means to buy
makes it. The protocol then owns each collateral of the account as a lot.

**Buy.** A lot is on offer at the oracle's price less the discount, while reserves are below their target and buying is
not paused. It is bought whole by whoever gains by it: sells it for more than it pays, costs included. A buyer that the
market's price does not leave a gain does not come, and the protocol keeps the lot; what a lot has less than a base
unit buys stays too. Collateral that the protocol owned before the replay's liquidators act is not on offer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from msgspec.structs import replace
from typing_extensions import override

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange
from backtest.protocols.book import Book
from backtest.protocols.compound_v3.liquidation import (
    StorefrontSale,
    brought,
    is_for_sale,
    own_storefront,
    pairs,
    quote,
    sale_price,
    sold,
)
from backtest.protocols.compound_v3.math import paid_up
from backtest.protocols.compound_v3.state import BASE, BUY_PAUSED, RULES, CometState, place_of
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.mechanism import Mechanism, Opportunity


@dataclass(frozen=True, slots=True)
class Lot:
    """Collateral that the protocol took from an account and has not sold, native units."""

    account: AccountId
    asset: AssetId
    left: int


class Storefront(Mechanism[CometState]):
    """See the module."""

    name = "absorb"

    def __init__(self) -> None:
        self.lots: dict[int, Lot] = {}
        self._next = 0
        self._of: dict[AccountId, list[int]] = {}
        self._left: dict[AssetId, int] = {}
        """Of all lots together."""

    @override
    def opportunities(
        self, book: Book[CometState], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """What may be bought of the account's lots, oldest first, then its absorption where it may be absorbed."""
        state, now = book.state, book.now
        found: list[Opportunity | Refusal] = []
        if (lots := self._of.get(account)) and not state.paused(BUY_PAUSED) and is_for_sale(state, now):
            near = self._reaches_target(book)
            offers = (self._offer(book, number, self.lots[number], liquidator, near=near) for number in lots)
            found += [offer for offer in offers if offer is not None]
        for pair in pairs(state, account, book.prices.oracle, now):
            fill = quote(state, Order(account, pair, liquidator), book.prices.oracle, now)
            if isinstance(fill, Refusal):
                found.append(fill)
                continue
            fill = replace(fill, changes=(*fill.changes, own_storefront(now)))
            found.append(Opportunity(fill.order, fill, 0, "absorb", always=True, opens=True))
        return found

    def _reaches_target(self, book: Book[CometState]) -> bool:
        """Whether reserves would be at their target if all lots were sold: then one sale may end another offer."""
        room = book.state.param("target_reserves") - book.state.reserves(book.now.timestamp)
        try:
            asked = (
                paid_up(left, book.oracle[BASE], sale_price(book.state, asset, book.oracle), *self._scales(book, asset))
                for asset, left in self._left.items()
                if left
            )
            return sum(asked) >= room
        except (PriceMissing, KeyError, ZeroDivisionError):
            return True

    @staticmethod
    def _scales(book: Book[CometState], asset: AssetId) -> tuple[int, int]:
        return book.market.unit(asset), book.state.base_scale

    def _offer(
        self, book: Book[CometState], number: int, lot: Lot, liquidator: AccountId, *, near: bool
    ) -> Opportunity | None:
        """The whole lot at the protocol's price; None where there is none, or the lot is too small."""
        try:
            sale = sold(book.state, lot.asset, lot.left, book.oracle)
        except PriceMissing:
            return None
        if sale is None:
            return None
        order = Order(lot.account, Pair(BASE, lot.asset), liquidator, sale.paid)
        changes = brought(sale.paid, book.now)
        if near:
            changes.append(ParamChange(**place_of(book.now), name="storefront_near", value=1))
        fill = Fill(order, sale.paid, sale.bought, 0, tuple(changes), rules=RULES)
        return Opportunity(order, fill, _gain(book, lot.asset, sale), "buy", number)

    @override
    def settle(self, book: Book[CometState], opportunity: Opportunity) -> int | None:
        """A lot for each collateral of an absorbed account, the first of which names it; or a lot is sold."""
        account, number = opportunity.order.account, opportunity.lot
        if number is not None:
            sold_lot = self.lots.pop(number)
            self._left[sold_lot.asset] -= sold_lot.left
            self._of[account].remove(number)
            if not self._of[account]:
                del self._of[account]
            return number
        first, main = self._next, opportunity.order.pair.collateral_asset
        taken = [
            Lot(account, change.asset, -change.delta)
            for change in opportunity.fill.changes
            if isinstance(change, PositionChange) and change.asset != BASE
        ]
        for lot in sorted(taken, key=lambda lot: (lot.asset != main, lot.asset)):
            self.lots[self._next] = lot
            self._left[lot.asset] = self._left.get(lot.asset, 0) + lot.left
            self._of.setdefault(account, []).append(self._next)
            self._next += 1
        return first if taken else None

    @override
    def open_accounts(self) -> Collection[AccountId]:
        """Accounts whose collateral is not sold yet."""
        return self._of.keys()

    @override
    def wake(self, now: Clock) -> int | None:
        """Never: what is on offer follows prices, and reserves."""
        return None


def _gain(book: Book[CometState], asset: AssetId, sale: StorefrontSale) -> int:
    """Base units: what the collateral is sold for less what it costs, both rounded against the buyer."""
    return book.proceeds_down(asset, sale.bought) - book.cost_up(BASE, sale.paid)
