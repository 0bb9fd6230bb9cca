"""Aave V2, pool revisions 1 and 2, and forks that kept its code.

``rules`` rounds and sizes, ``state`` is the book, ``account`` totals and health, ``liquidation`` one call, ``actions``
what users do; ``events``, ``bundles``, ``reserves``, ``params`` and ``fold`` turn raw logs into canonical tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa
from typing_extensions import override

from backtest.markets import MarketConfig
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    Constant,
    Deployment,
    EventSpec,
    HistoricalLiquidation,
    Market,
    MarketEvent,
    Prices,
    SourceChange,
)
from backtest.protocols.aave_v2.account import account_data, account_view, holdings, linear_exposure
from backtest.protocols.aave_v2.actions import act
from backtest.protocols.aave_v2.claims import claims
from backtest.protocols.aave_v2.events import EVENTS, constants, deployments, discover, price_sources, underlying_tokens
from backtest.protocols.aave_v2.liquidation import observed_order, pairs, quote, weight
from backtest.protocols.aave_v2.rules import ASSUMPTIONS, parameter_fault
from backtest.protocols.aave_v2.state import MOVED_SHORT, AaveV2State, apply, open_accounts, open_state
from backtest.protocols.claims import Claim, Tables
from backtest.protocols.folding import Running
from backtest.protocols.interface import (
    AccountView,
    Acted,
    Action,
    Exposure,
    Exposures,
    Figure,
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
from backtest.protocols.storage import Steps, StoredAccount, Subject
from backtest.units import BPS, WAD

__all__ = ["AAVE_V2", "AaveV2"]


class AaveV2(LendingProtocol[AaveV2State]):
    """Aave V2. Prices are the oracle's, in its base currency (on Ethereum and Polygon ETH, 18 decimals)."""

    name = "aave-v2"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("LiquidationCall",)
    exposure_parameters = frozenset({"pool_revision", "liquidation_threshold", "paused", "active"})
    order_parameters: frozenset[str] = frozenset({MOVED_SHORT})
    early = True
    parts_accounts = True
    # Median of liquidations on a node running version 1.0.1.
    gas_units: Mapping[str, int] = MappingProxyType({"liquidate": 420_000})
    # Basis points, as stored.
    parameters: Mapping[str, int] = MappingProxyType(
        dict.fromkeys(("ltv", "liquidation_threshold", "liquidation_bonus", "close_factor"), 1)
    )
    assumptions: Sequence[str] = ASSUMPTIONS

    @override
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        """See ``events.discover``."""
        return discover(contracts, raw)

    @override
    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        """See ``events.price_sources``."""
        return price_sources(raw)

    @override
    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        """See ``events.deployments``."""
        return deployments(raw)

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """See ``events.constants``."""
        return constants(raw)

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """See ``events.underlying_tokens``."""
        return underlying_tokens(raw)

    @override
    def claims(
        self, config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
    ) -> Iterator[Claim]:
        """See ``claims.claims``."""
        return claims(config, tables, blocks, accounts)

    @override
    def stored(self, subject: Subject) -> Steps[StoredAccount[AaveV2State]]:
        """See ``storage.stored``."""
        from backtest.protocols.aave_v2.storage import stored  # a replay needs none of it

        return stored(subject)

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.aave_v2.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.aave_v2.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> AaveV2State:
        """See ``state.open_state``. A reserve without a known rate strategy stops a recomputing replay at its first
        call (RulesError).
        """
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: AaveV2State, event: MarketEvent) -> None:
        """See ``state.apply``: strict, raises RulesError where a balance would fall below zero."""
        apply(state, event)

    @override
    def open_accounts(self, state: AaveV2State, opening: Opening) -> bool:
        """See ``state.open_accounts``: scaled balances are sums."""
        open_accounts(state, opening)
        return True

    @override
    def accounts(self, state: AaveV2State) -> Sequence[AccountId]:
        """Accounts with a scaled balance or debt, in id order."""
        return sorted(id for id, book in state.accounts.items() if book.collateral or book.owing)

    @override
    def exposure(self, state: AaveV2State, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.linear_exposure``."""
        return linear_exposure(state, account, now)

    @override
    def exposures(self, state: AaveV2State, accounts: Sequence[AccountId], now: Clock) -> Exposures:
        """See ``valuation.exposures``."""
        from backtest.protocols.aave_v2.valuation import exposures  # see views

        return exposures(state, accounts, now)

    @override
    def views(self, state: AaveV2State, prices: Prices, now: Clock) -> Views:
        """See ``valuation.views``."""
        from backtest.protocols.aave_v2.valuation import views  # compiled: whoever values one account needs none of it

        return views(state, prices, now)

    @override
    def view(self, state: AaveV2State, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """Totals by ``account.account_data``; raises PriceMissing where the contract would revert. Health is None where
        the debt is worth nothing.
        """
        return account_view(account_data(state, account, prices.oracle, now))

    @override
    def figures(self, state: AaveV2State, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """The six numbers of ``LendingPool.getUserAccountData``, in its order."""
        units = ("base", "base", "base", "bps", "bps", "wad")
        data = account_data(state, account, prices.oracle, now)
        return [Figure(name, value, unit) for name, value, unit in zip(data._fields, data, units, strict=True)]

    @override
    def holdings(self, state: AaveV2State, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def pairs(self, state: AaveV2State, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: AaveV2State, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def weight(self, state: AaveV2State, account: AccountId, asset: AssetId) -> int:
        """See ``liquidation.weight``."""
        return weight(state, asset)

    @override
    def act(self, state: AaveV2State, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``calls.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """See ``rules.parameter_fault``."""
        return parameter_fault(values)

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """Stored in basis points; 0 is no collateral."""
        threshold, bonus = values.get("liquidation_threshold"), values.get("liquidation_bonus")
        return LiquidationTerms(threshold * WAD // BPS if threshold else None, bonus * WAD // BPS if bonus else None)

    @override
    def observed_order(self, state: AaveV2State, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


AAVE_V2 = AaveV2()
