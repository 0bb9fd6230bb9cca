"""Gearbox's own way of liquidating, as a mechanism: a credit account is liquidated whole, at once, and the liquidator
sells every token that it held. What that gains is what all of them bring, not the main one alone.

Gearbox-protocol/core-v3 at 510fc654, ``contracts/credit/CreditFacadeV3.sol`` ``liquidateCreditAccount``.
"""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from backtest.model import AccountId, PositionChange
from backtest.protocols.book import Book
from backtest.protocols.gearbox_v3.liquidation import pairs, quote
from backtest.protocols.gearbox_v3.state import UNDERLYING, GearboxState
from backtest.protocols.interface import Fill, Order, Refusal
from backtest.protocols.mechanism import Immediate, Opportunity


class WholeAccount(Immediate[GearboxState]):
    """See the module."""

    name = "whole-account"

    @override
    def opportunities(
        self, book: Book[GearboxState], account: AccountId, liquidator: AccountId, *, receive_collateral_token: bool
    ) -> Sequence[Opportunity | Refusal]:
        """The account, where it may be liquidated."""
        found: list[Opportunity | Refusal] = []
        for pair in pairs(book.state, account, book.prices.oracle, book.now):
            order = Order(account, pair, liquidator)
            fill = quote(book.state, order, book.prices.oracle, book.now)
            found.append(fill if isinstance(fill, Refusal) else Opportunity(order, fill, gain(book, fill)))
        return found


def gain(book: Book[GearboxState], fill: Fill) -> int:
    """Base units: what all tokens taken are sold for, and underlying that is left, less what is brought; all rounded
    against the liquidator. A token without a price brings nothing.
    """
    taken = (
        (change.asset, -change.delta)
        for change in fill.changes
        if isinstance(change, PositionChange) and change.asset != UNDERLYING and change.asset in book.oracle
    )
    brings = sum(book.proceeds_down(asset, amount) for asset, amount in taken)
    return brings + book.proceeds_down(UNDERLYING, fill.reward) - book.cost_up(UNDERLYING, fill.paid)
