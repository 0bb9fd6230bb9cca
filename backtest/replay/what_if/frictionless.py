"""What frictionless liquidators take of a book at one moment. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.protocols.mechanism import Opportunity
from backtest.replay.mechanisms import mechanism_of

CALLS = 100
"""Liquidations of one account at one moment, at most."""


@dataclass(slots=True)
class TakenAtOnce:
    """Base units repaid and, by asset, written off; native units of collateral that liquidators got, or that went into
    auctions, by asset.
    """

    repaid_base: int = 0
    lost: Counter[AssetId] = field(default_factory=Counter)
    seized: Counter[AssetId] = field(default_factory=Counter)

    @property
    def lost_base(self) -> int:
        """Of all assets."""
        return self.lost.total()


def liquidated_at_once(book: Book[Any], accounts: Sequence[AccountId]) -> TakenAtOnce:
    """Liquidate these accounts at once, of each the most profitable again and again until none pays, by the protocol's
    own mechanism; auctions that liquidations open stay open. The book changes.
    """
    mechanism, taken = mechanism_of(book.protocol), TakenAtOnce()
    liquidator = AccountId(len(book.market.accounts))
    calls: Mapping[AccountId, int] = {}
    found = (
        book.protocol.together(book.state, accounts, book.prices, book.now, liquidator, cost=0, calls=calls, most=CALLS)
        if mechanism.as_quoted
        else None
    )
    if found is not None:
        for row, amount in enumerate(found.repaid):
            taken.repaid_base += book.value_down(found.debt_asset[row], amount)
            taken.seized[found.collateral_asset[row]] += found.seized[row]
        for _, asset, amount in found.deficits:
            taken.lost[asset] += book.value_up(asset, amount)
        book.protocol.settle_together(book.state, found)
        accounts = found.on_offer
    for account in accounts:
        for _ in range(CALLS):
            offers = [
                offer
                for offer in mechanism.opportunities(book, account, liquidator, receive_collateral_token=False)
                if isinstance(offer, Opportunity) and (offer.profit > 0 or offer.always)
            ]
            if not offers:
                break
            fill = max(offers, key=lambda offer: offer.profit).fill  # the first of several that pay alike
            for change in fill.changes:
                book.apply(change)
            taken.repaid_base += book.value_down(fill.order.pair.debt_asset, fill.repaid)
            for asset, amount in fill.deficits:
                taken.lost[asset] += book.value_up(asset, amount)
            taken.seized[fill.order.pair.collateral_asset] += fill.seized
    return taken
