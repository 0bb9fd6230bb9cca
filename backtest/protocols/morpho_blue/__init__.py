"""Morpho Blue: isolated pairs of one immutable contract.

``math`` rounds, ``irm`` is the adaptive curve, ``state`` the book, ``account`` health, ``liquidation`` and ``actions``
one call each, ``pre_liquidation`` that of a contract which a borrower authorised; ``events`` and ``fold`` turn raw logs
into canonical tables.

A market is one market id (``parameters.id`` of the market file). Its base currency is the loan token, whose price is
one by definition; the collateral's price is the oracle's own number, not rounded: it has 36 + loan decimals -
collateral decimals decimals (``price_decimals``).
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
from backtest.protocols.morpho_blue.account import (
    exposure,
    exposures,
    figures,
    holdings,
    safe_prices,
    shortfall,
    view,
    views,
)
from backtest.protocols.morpho_blue.actions import act
from backtest.protocols.morpho_blue.claims import claims
from backtest.protocols.morpho_blue.events import EVENTS, discover, price_sources, tokens
from backtest.protocols.morpho_blue.math import incentive_factor
from backtest.protocols.morpho_blue.pre_liquidation import STEP, observed_order, pairs, quote
from backtest.protocols.morpho_blue.state import MorphoState, accounts, apply, open_state
from backtest.protocols.morpho_blue.together import spreads, together
from backtest.protocols.storage import Steps, StoredAccount, Subject
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    (
        "Between two recorded accruals interest follows the adaptive curve where the market uses it, else the rate"
        " recorded for that period."
    ),
    (
        "The adaptive curve is tested against a contract of the tests' own written from its formula: its code is on no"
        " package registry."
    ),
    (
        "A borrower who authorised a pre-liquidation contract may be liquidated by it as well, if the contract asks the"
        " market's own oracle; one with an oracle of its own does nothing in a what-if, and what it did is as recorded."
    ),
)


class MorphoBlue(LendingProtocol[MorphoState]):
    """``LendingProtocol`` for one Morpho Blue market. Stateless."""

    name = "morpho-blue"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("Liquidate", "PreLiquidate")
    exposure_parameters = frozenset({"liquidation_threshold"})
    order_parameters = frozenset({"accrued"})
    early = True
    parameters: Mapping[str, int] = {"liquidation_threshold": WAD // BPS, "liquidation_bonus": WAD // BPS}
    # Medians on a node running the deployed contracts, with tokens that only move balances.
    gas_units: Mapping[str, int] = MappingProxyType({"liquidate": 110_000, STEP: 160_000})
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
        """None: the contract is immutable."""
        return ()

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """None."""
        return ()

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """Loan token and collateral token."""
        return tokens(raw)

    @override
    def claims(
        self, config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
    ) -> Iterator[Claim]:
        """See ``claims.claims``."""
        return claims(config, tables, blocks, accounts)

    @override
    def stored(self, subject: Subject) -> Steps[StoredAccount[MorphoState]]:
        """See ``storage.stored``."""
        from backtest.protocols.morpho_blue.storage import stored  # a replay needs none of it

        return stored(subject)

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.morpho_blue.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.morpho_blue.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> MorphoState:
        """See ``state.open_state``. Recomputed interest needs the adaptive curve: RulesError at the first accrual of
        another model.
        """
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: MorphoState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: MorphoState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: MorphoState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def view(self, state: MorphoState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view_of``."""
        return view(state, account, prices.oracle, now)

    @override
    def exposures(self, state: MorphoState, accounts: Sequence[AccountId], now: Clock) -> Exposures | None:
        """See ``account.exposures``."""
        return exposures(state, accounts, now)

    @override
    def views(self, state: MorphoState, prices: Prices, now: Clock) -> Views | None:
        """See ``account.views``."""
        return views(state, prices.oracle, now)

    @override
    def figures(self, state: MorphoState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: MorphoState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def pairs(self, state: MorphoState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``pre_liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: MorphoState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``pre_liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def safe_prices(
        self, state: MorphoState, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """See ``account.safe_prices``."""
        return safe_prices(state, account, asset, now)

    @override
    def together(
        self,
        state: MorphoState,
        accounts: Sequence[AccountId],
        prices: Prices,
        now: Clock,
        liquidator: AccountId,
        *,
        cost: int,
        calls: Mapping[AccountId, int],
        most: int,
    ) -> Together | None:
        """See ``together.together``."""
        return together(state, accounts, prices, now, liquidator, cost=cost, calls=calls, most=most)

    @override
    def spreads(self, state: MorphoState, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> Spreads | None:
        """See ``together.spreads``."""
        return spreads(state, accounts, prices, now)

    @override
    def shortfall(self, state: MorphoState, accounts: Sequence[AccountId], prices: Prices, now: Clock) -> int | None:
        """See ``account.shortfall``."""
        return shortfall(state, accounts, prices.oracle, now)

    @override
    def compiled_rules(self, state: MorphoState, now: Clock) -> CompiledRules | None:
        """See ``looped.compiled_rules``."""
        from backtest.protocols.morpho_blue.looped import compiled_rules  # what only observes compiles nothing

        return compiled_rules(state, now)

    @override
    def weight(self, state: MorphoState, account: AccountId, asset: AssetId) -> int:
        """Wad: the market's liquidation loan-to-value."""
        return state.lltv

    @override
    def act(self, state: MorphoState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """Why no market can have these parameters: Morpho.enableLltv wants a threshold below one; the incentive is at
        least one.
        """
        if values.get("liquidation_threshold", 0) >= WAD:
            return "a liquidation threshold of one or more"
        if values.get("liquidation_bonus", WAD) < WAD:
            return "a liquidation incentive below one"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """Both are stored in wad; an incentive that nobody set follows from the threshold (``incentive_factor``)."""
        threshold = values.get("liquidation_threshold")
        if threshold is None:
            return LiquidationTerms(None)
        bonus = values.get("liquidation_bonus")
        return LiquidationTerms(threshold, incentive_factor(threshold) if bonus is None else bonus)

    @override
    def observed_order(self, state: MorphoState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``pre_liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


MORPHO_BLUE = MorphoBlue()
