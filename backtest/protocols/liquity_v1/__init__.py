"""Liquity V1: ether against LUSD in troves, liquidated by a stability pool and, beyond it, by the other troves.

``math`` rounds, ``state`` is the book, ``account`` what the contracts say of a trove, ``liquidation`` what liquidating
one does, ``actions`` users' calls; ``events`` and ``fold`` turn logs into canonical tables.

A market is one TroveManager (role ``trove_manager``), which names the other contracts. Base units are LUSD's own,
10^-18 of a dollar, and so are prices.
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
    Views,
)
from backtest.protocols.liquity_v1.account import exposure, exposures, figures, holdings, safe_prices, view, views
from backtest.protocols.liquity_v1.actions import act
from backtest.protocols.liquity_v1.claims import claims
from backtest.protocols.liquity_v1.events import EVENTS, constants, discover, price_sources, tokens
from backtest.protocols.liquity_v1.liquidation import observed_order, pairs, quote
from backtest.protocols.liquity_v1.state import (
    LIQUIDATED,
    REDISTRIBUTED,
    LiquityState,
    accounts,
    apply,
    open_state,
)
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    "Rules of Liquity V1 are exact by vectors: worked by hand from its source; its own bytecode is not run.",
    (
        "Liquidators close a trove a call and get 200 LUSD and the collateral compensation; the stability pool and the"
        " other troves pay, so that nothing is written off: the other troves bear what a redistribution is short of."
    ),
    ("Depositors of the stability pool come and go as in history, and so does the base rate, from which fees follow."),
)


class LiquityV1(LendingProtocol[LiquityState]):
    """``LendingProtocol`` for one Liquity V1 system. Stateless."""

    name = "liquity-v1"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("TroveLiquidated",)
    exposure_parameters = frozenset({"liquidation_ratio", "critical_ratio", REDISTRIBUTED})
    order_parameters = frozenset({LIQUIDATED})
    parameters: Mapping[str, int] = MappingProxyType(
        {"liquidation_ratio": WAD // BPS, "critical_ratio": WAD // BPS, "gas_share": WAD // BPS, "dust": WAD}
    )
    parameters_said = (
        "`liquidation_ratio` is MCR, `critical_ratio` CCR, `gas_share` the part of a liquidated collateral that the"
        " caller gets, and `dust` the least net debt of a trove."
    )
    evidence = "by vectors"
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
        """None: no contract is behind a proxy."""
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

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.liquity_v1.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.liquity_v1.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> LiquityState:
        """See ``state.open_state``."""
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: LiquityState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: LiquityState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: LiquityState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account)

    @override
    def exposures(self, state: LiquityState, accounts: Sequence[AccountId], now: Clock) -> Exposures | None:
        """See ``account.exposures``."""
        return exposures(state, accounts)

    @override
    def view(self, state: LiquityState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view_of``."""
        return view(state, account, prices.oracle, now)

    @override
    def views(self, state: LiquityState, prices: Prices, now: Clock) -> Views | None:
        """See ``account.views``."""
        return views(state, prices.oracle, now)

    @override
    def figures(self, state: LiquityState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: LiquityState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def safe_prices(
        self, state: LiquityState, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """See ``account.safe_prices``."""
        return safe_prices(state, account, asset, prices.oracle)

    @override
    def weight(self, state: LiquityState, account: AccountId, asset: AssetId) -> int:
        """Wad: what of a collateral's value may be owed, one over the least ratio."""
        return WAD * WAD // state.param("liquidation_ratio")

    @override
    def pairs(self, state: LiquityState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle)

    @override
    def quote(self, state: LiquityState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def act(self, state: LiquityState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """The contracts hold their terms as constants; what no trove could live with is named."""
        least, critical = values.get("liquidation_ratio"), values.get("critical_ratio")
        if least is not None and least <= WAD:
            return "a least ratio of one or below: liquidations would leave nothing for the stability pool"
        if least is not None and critical is not None and critical < least:
            return "a critical ratio below the least ratio"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """The threshold is one over the least ratio; what the pool gains depends on the trove."""
        least = values.get("liquidation_ratio")
        return LiquidationTerms(WAD * WAD // least if least else None)

    @override
    def observed_order(self, state: LiquityState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(past)


LIQUITY_V1 = LiquityV1()
