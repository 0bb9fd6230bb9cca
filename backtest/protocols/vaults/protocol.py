"""What protocols of such vaults have in common of ``LendingProtocol``: calls into the files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from typing_extensions import override

from backtest.model import AccountId, AssetId, Clock, Constant, Deployment, HistoricalLiquidation, MarketEvent, Prices
from backtest.protocols.interface import (
    AccountView,
    Acted,
    Action,
    Exposure,
    Exposures,
    Fill,
    Holding,
    LendingProtocol,
    LiquidationTerms,
    Opening,
    Order,
    Pair,
    RawEvents,
    Refusal,
    Views,
)
from backtest.protocols.vaults import actions
from backtest.protocols.vaults import state as book_of
from backtest.protocols.vaults.state import VaultState
from backtest.units import RAY, WAD

VaultBook = TypeVar("VaultBook", bound=VaultState)


class VaultProtocol(LendingProtocol[VaultBook]):
    """Vaults that owe a coin through an accumulator. Stateless; base units are wad."""

    @override
    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        """None: nothing is a proxy."""
        return ()

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """None."""
        return ()

    @override
    def apply(self, book: VaultBook, event: MarketEvent) -> None:
        """See ``state.apply``: strict, raises RulesError where a balance would fall below zero."""
        book_of.apply(book, event)

    @override
    def open_accounts(self, state: VaultBook, opening: Opening) -> bool:
        """See ``state.open_accounts``: ink and art are sums, and a liquidation depends on one vault alone."""
        book_of.open_accounts(state, opening)
        return True

    @override
    def accounts(self, book: VaultBook) -> Iterable[AccountId]:
        """See ``state.accounts``."""
        return book_of.accounts(book)

    @override
    def exposure(self, book: VaultBook, account: AccountId, now: Clock) -> Exposure | None:
        """See ``state.exposure``."""
        return book_of.exposure(book, account)

    @override
    def view(self, book: VaultBook, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``state.view``."""
        return book_of.view(book, account, prices)

    @override
    def exposures(self, book: VaultBook, accounts: Sequence[AccountId], now: Clock) -> Exposures | None:
        """See ``state.exposures``."""
        return book_of.exposures(book, accounts)

    @override
    def views(self, book: VaultBook, prices: Prices, now: Clock) -> Views | None:
        """See ``state.views``."""
        return book_of.views(book, prices)

    @override
    def holdings(self, book: VaultBook, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``state.holdings``."""
        return book_of.holdings(book, account)

    @override
    def pairs(self, book: VaultBook, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``state.pairs``."""
        return book_of.pairs(book, account, prices)

    @override
    def quote(self, book: VaultBook, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``actions.quote``."""
        return actions.quote(book, order, prices, now)

    @override
    def weight(self, state: VaultBook, account: AccountId, asset: AssetId) -> int:
        """Wad: one over the liquidation ratio."""
        return WAD * RAY // state.param("liquidation_ratio", state.ilk_of(account))

    @override
    def act(self, book: VaultBook, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return actions.act(book, action, prices, now)

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """One over the liquidation ratio. The penalty is what an auction asks for beyond the debt, not what its buyer
        gains: the auction finds that.
        """
        ratio = values.get("liquidation_ratio")
        return LiquidationTerms(WAD * RAY // ratio if ratio else None)

    @override
    def observed_order(self, book: VaultBook, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``actions.observed_order``."""
        return actions.observed_order(book, past)
