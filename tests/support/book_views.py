"""The views of a book, one by one and all at once, in the same form."""

from __future__ import annotations

from typing import Any

from backtest.errors import PriceMissing
from backtest.model import AccountId, Clock, Prices
from backtest.protocols.interface import AccountView, LendingProtocol, Views


def every_view(
    protocol: LendingProtocol[Any], state: Any, prices: Prices, now: Clock
) -> dict[AccountId, AccountView | None]:
    """Each account's own; None where a price is missing."""
    found: dict[AccountId, AccountView | None] = {}
    for account in protocol.accounts(state):
        try:
            found[account] = protocol.view(state, account, prices, now)
        except PriceMissing:
            found[account] = None
    return found


def spelt(views: Views) -> dict[AccountId, AccountView | None]:
    found: dict[AccountId, AccountView | None] = {}
    amounts = (column.integers() for column in (views.collateral, views.debt, views.power))
    others = (column.tolist() for column in (views.category, views.health))
    for account, collateral, debt, power, category, (low, high) in zip(
        views.account.tolist(), *amounts, *others, strict=True
    ):
        found[AccountId(account)] = AccountView(collateral, debt, (high << 64) | low if debt else None, power, category)
    assert list(found) == sorted(found)
    assert not found.keys() & views.rest.keys()
    return dict(sorted({**found, **views.rest}.items()))
