"""Aave V3, versions 3.0 to 3.7.

``math`` rounds, ``rules`` says what each pool revision does, ``state`` is the book, ``account`` totals and health,
``liquidation`` one call; ``events``, ``tokens`` and ``fold`` turn raw logs into canonical tables.
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
from backtest.protocols.aave_v3.account import account_data, account_view, collateral_share, holdings, linear_exposure
from backtest.protocols.aave_v3.actions import act
from backtest.protocols.aave_v3.claims import claims
from backtest.protocols.aave_v3.events import EVENTS, constants, deployments, discover, price_sources, underlying_tokens
from backtest.protocols.aave_v3.liquidation import observed_order, pairs, quote, weight
from backtest.protocols.aave_v3.rules import ASSUMPTIONS, parameter_fault
from backtest.protocols.aave_v3.safe_prices import safe_prices
from backtest.protocols.aave_v3.state import MOVED_SHORT, AaveState, apply, open_accounts, open_state
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
    SafePrices,
    Spreads,
    Together,
    Views,
)
from backtest.protocols.loop import CompiledRules
from backtest.protocols.storage import Steps, StoredAccount, Subject
from backtest.units import BPS, WAD

__all__ = ["AAVE_V3", "ASSUMPTIONS", "AaveV3"]


class AaveV3(LendingProtocol[AaveState]):
    """Aave V3. Prices are the oracle's (an absent one: the contract would
    revert).
    """

    name = "aave-v3"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("LiquidationCall",)
    exposure_parameters = frozenset(
        {
            "pool_revision",
            "liquidation_threshold",
            "emode_category",
            "emode_liquidation_threshold",
            "emode_collateral",
            "emode_price_source",
        }
    )
    share_parameter = "liquidation_threshold"
    order_parameters: frozenset[str] = frozenset({MOVED_SHORT})
    early = True
    parts_accounts = True
    # Median of liquidations on a node running versions 3.0 and 3.6.
    gas_units: Mapping[str, int] = MappingProxyType({"liquidate": 390_000})
    # Basis points, as stored; of an e-mode category where the override says so.
    parameters: Mapping[str, int] = MappingProxyType(
        dict.fromkeys(
            ("ltv", "liquidation_threshold", "liquidation_bonus", "liquidation_protocol_fee", "close_factor"), 1
        )
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
    def stored(self, subject: Subject) -> Steps[StoredAccount[AaveState]]:
        """See ``storage.stored``."""
        from backtest.protocols.aave_v3.storage import stored  # a replay needs none of it

        return stored(subject)

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.aave_v3.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.aave_v3.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> AaveState:
        """See ``state.open_state``. A reserve without a known rate strategy stops a recomputing replay at its first
        call (RulesError).
        """
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: AaveState, event: MarketEvent) -> None:
        """See ``state.apply``: strict, raises RulesError where a balance would fall below zero."""
        apply(state, event)

    @override
    def open_accounts(self, state: AaveState, opening: Opening) -> bool:
        """See ``state.open_accounts``: scaled balances are sums. The book's totals decide rates and caps, and no rule
        of a liquidation reads them.
        """
        open_accounts(state, opening)
        return True

    @override
    def accounts(self, state: AaveState) -> Sequence[AccountId]:
        """Accounts with a scaled balance or stable debt, in id order."""
        return sorted(
            id
            for id, book in state.accounts.items()
            if book.collateral or book.debt or any(s.principal for s in book.stable.values())
        )

    @override
    def exposure(self, state: AaveState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.linear_exposure``."""
        return linear_exposure(state, account, now)

    @override
    def exposures(self, state: AaveState, accounts: Sequence[AccountId], now: Clock) -> Exposures:
        """See ``valuation.exposures``."""
        from backtest.protocols.aave_v3.valuation import exposures  # see views

        return exposures(state, accounts, now)

    @override
    def collateral_share(self, state: AaveState, asset: AssetId, value: int | None = None) -> float | None:
        """See ``account.collateral_share``: of accounts outside e-mode."""
        return None if state.revision is None else collateral_share(state, asset, value)

    @override
    def view(self, state: AaveState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """Totals by ``account.account_data``; raises PriceMissing where the contract would revert. Health is None where
        the debt is worth nothing.
        """
        data = account_data(state, account, prices.oracle, now)
        return account_view(state.rules, data, state.accounts[account].emode if account in state.accounts else 0)

    @override
    def figures(self, state: AaveState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """The six numbers of ``Pool.getUserAccountData``, in its order."""
        units = ("base", "base", "base", "bps", "bps", "wad")
        data = account_data(state, account, prices.oracle, now)
        return [Figure(name, value, unit) for name, value, unit in zip(data._fields, data, units, strict=True)]

    @override
    def views(self, state: AaveState, prices: Prices, now: Clock) -> Views:
        """See ``valuation.views``."""
        from backtest.protocols.aave_v3.valuation import views  # compiled: whoever values one account needs none of it

        return views(state, prices, now)

    @override
    def holdings(self, state: AaveState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def pairs(self, state: AaveState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: AaveState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def together(
        self, state: AaveState, accounts: Sequence[AccountId], prices: Prices, now: Clock, liquidator: AccountId, *,
        cost: int,
        calls: Mapping[AccountId, int], most: int,
    ) -> Together | None:  # fmt: skip
        """See ``together.together``."""
        from backtest.protocols.aave_v3.together import together  # see views

        return together(state, accounts, prices, now, liquidator, cost=cost, calls=calls, most=most)

    @override
    def spreads(self, state: AaveState, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> Spreads | None:
        """See ``together.spreads``."""
        from backtest.protocols.aave_v3.together import spreads  # see views

        return spreads(state, accounts, prices, now)

    @override
    def shortfall(self, state: AaveState, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> int | None:
        """See ``valuation.shortfall``."""
        from backtest.protocols.aave_v3.valuation import shortfall  # see views

        return shortfall(state, accounts, prices, now)

    @override
    def settle_together(self, state: AaveState, found: Together) -> None:
        """See ``together.settle``."""
        from backtest.protocols.aave_v3.together import settle  # see views

        settle(state, found)

    @override
    def compiled_rules(self, state: AaveState, now: Clock) -> CompiledRules | None:
        """See ``looped.compiled_rules``."""
        from backtest.protocols.aave_v3.looped import compiled_rules  # see views

        return compiled_rules(state, now)

    @override
    def safe_prices(
        self, state: AaveState, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """See ``safe_prices.safe_prices``."""
        return safe_prices(state, account, asset, prices.oracle, now)

    @override
    def weight(self, state: AaveState, account: AccountId, asset: AssetId) -> int:
        """See ``liquidation.weight``."""
        return weight(state, account, asset)

    @override
    def act(self, state: AaveState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
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
    def observed_order(self, state: AaveState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


AAVE_V3 = AaveV3()
