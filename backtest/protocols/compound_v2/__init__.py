"""Compound V2 and its forks: pooled lending behind one Comptroller.

``math`` rounds, ``state`` is the book, ``account`` liquidity, ``liquidation`` and ``actions`` one call each; ``events``
and ``fold`` turn raw logs into canonical tables; ``claims`` are what the contracts can be asked.

A market is one Comptroller with every cToken that it lists, each of them an asset. Prices are the oracle's own numbers:
USD per whole token with 36 decimals, so that the Comptroller's, per native unit and times 1e36, is that over the
token's unit. The base unit is 1e-18 USD, as in the Comptroller's sums.
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
from backtest.protocols.compound_v2.account import exposure, figures, holdings, view
from backtest.protocols.compound_v2.actions import act
from backtest.protocols.compound_v2.claims import claims
from backtest.protocols.compound_v2.events import EVENTS, constants, discover, price_sources, tokens
from backtest.protocols.compound_v2.liquidation import observed_order, pairs, quote
from backtest.protocols.compound_v2.state import NOBODY, CompoundState, accounts, apply, open_state
from backtest.protocols.compound_v2.whole import exposures, views
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
    Views,
)
from backtest.protocols.storage import Steps, StoredAccount, Subject
from backtest.units import BPS, WAD

MOST_FACTOR = 9 * WAD // 10
"""Comptroller.collateralFactorMaxMantissa."""
CLOSE_FACTORS = WAD // 20, 9 * WAD // 10
"""Comptroller.closeFactorMinMantissa and closeFactorMaxMantissa."""

ASSUMPTIONS = (
    (
        "Between two recorded accruals interest follows the rate model, or where that is none that the rules know the"
        " rate that the next one records."
    ),
    (
        "A call accrues the two cTokens that it touches, as the contract does; nobody accrues others beforehand to find"
        " a shortfall."
    ),
    "Tokens that somebody sent to a cToken without a call count from its next accrual on.",
    "The share of what is seized that reserves keep, and deprecated markets, are tested by vectors worked by hand.",
)


class CompoundV2(LendingProtocol[CompoundState]):
    """``LendingProtocol`` for the market of one Comptroller. Stateless."""

    name = "compound-v2"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("LiquidateBorrow",)
    exposure_parameters = frozenset(
        {
            "liquidation_threshold",
            "comptroller_revision",
            "borrow_paused",
            "reserve_factor",
            "base_rate",
            "slope",
            "jump_slope",
            "kink",
            "rate_model",
            "cash_found",
            "cash_lost",
        }
    )
    order_parameters = frozenset({"accrued"})
    early = True
    parameters: Mapping[str, int] = MappingProxyType(
        {"liquidation_threshold": WAD // BPS, "liquidation_bonus": WAD // BPS, "close_factor": WAD // BPS}
    )
    parameters_said = (
        "the threshold is the collateral factor, for borrowing and for liquidation alike; the bonus is the liquidation"
        " incentive, one for all cTokens unless a scenario gives one to an asset"
    )
    assumptions: Sequence[str] = ASSUMPTIONS

    # -- fetch ---------------------------------------------------------------------------------------------------------

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
        """None: no contract has a revision constant."""
        return ()

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """See ``events.constants``."""
        return constants(raw)

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """See ``events.tokens``."""
        return tokens(raw)

    @override
    def claims(
        self, config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
    ) -> Iterator[Claim]:
        """See ``claims.claims``."""
        return claims(config, tables, blocks, accounts)

    # -- reconstruct ---------------------------------------------------------------------------------------------------

    @override
    def stored(self, subject: Subject) -> Steps[StoredAccount[CompoundState]]:
        """See ``storage.stored``."""
        from backtest.protocols.compound_v2.storage import stored  # a replay needs none of it

        return stored(subject)

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.compound_v2.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]] | None:
        """See ``fold.fold_on``."""
        from backtest.protocols.compound_v2.fold import fold_on

        return fold_on(config, raw, running)

    # -- replay --------------------------------------------------------------------------------------------------------

    @override
    def open(self, market: Market, *, recompute: bool = False) -> CompoundState:
        """See ``state.open_state``. Recomputed interest needs a rate model that the rules know: RulesError at the first
        accrual of another.
        """
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: CompoundState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: CompoundState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: CompoundState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def view(self, state: CompoundState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view``."""
        return view(state, account, prices.oracle, now)

    @override
    def exposures(self, state: CompoundState, accounts: Sequence[AccountId], now: Clock) -> Exposures | None:
        """See ``whole.exposures``."""
        return exposures(state, accounts, now)

    @override
    def views(self, state: CompoundState, prices: Prices, now: Clock) -> Views | None:
        """See ``whole.views``."""
        return views(state, prices.oracle)

    @override
    def figures(self, state: CompoundState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: CompoundState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def weight(self, state: CompoundState, account: AccountId, asset: AssetId) -> int | None:
        """Wad: the collateral factor of a cToken that the account entered."""
        entered = state.accounts.get(account, NOBODY).entered
        return state.pools[asset].factor if asset in entered else 0

    @override
    def pairs(self, state: CompoundState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: CompoundState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def act(self, state: CompoundState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """What Comptroller._setCollateralFactor refuses, and up to 2.8 _setCloseFactor and _setLiquidationIncentive."""
        if values.get("liquidation_threshold", 0) > MOST_FACTOR:
            return "a collateral factor above 0.9"
        if values.get("liquidation_bonus", WAD) and values.get("liquidation_bonus", WAD) < WAD:
            return "a liquidation incentive below one"
        close = values.get("close_factor")
        if close is not None and not CLOSE_FACTORS[0] <= close <= CLOSE_FACTORS[1]:
            return "a close factor outside of 0.05 to 0.9"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """Both are stored in wad."""
        return LiquidationTerms(values.get("liquidation_threshold"), values.get("liquidation_bonus"))

    @override
    def observed_order(self, state: CompoundState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


COMPOUND_V2 = CompoundV2()
