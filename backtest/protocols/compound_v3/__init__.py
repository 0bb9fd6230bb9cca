"""Compound V3: one Comet, a base token that is supplied and borrowed against several collaterals.

``math`` rounds, ``state`` is the book, ``account`` health, ``liquidation`` what an absorption and a purchase do,
``storefront`` the mechanism, ``actions`` users' calls; ``events`` and ``fold`` turn logs and readings into canonical
tables.

A market is one proxy (role ``comet``). Asset 0 is the base token. Base units are the prices' own: 10^-8 of what its
feeds count in, dollars or ether.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    Reading,
    SourceChange,
)
from backtest.protocols.claims import Claim, Tables
from backtest.protocols.compound_v3.account import exposure, exposures, figures, holdings, safe_prices, view, views
from backtest.protocols.compound_v3.actions import act
from backtest.protocols.compound_v3.claims import claims
from backtest.protocols.compound_v3.events import EVENTS, price_sources, readings, tokens
from backtest.protocols.compound_v3.liquidation import observed_order, pairs, quote
from backtest.protocols.compound_v3.state import BORROW_CURVE, CometState, accounts, apply, open_state
from backtest.protocols.compound_v3.storefront import Storefront
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
from backtest.protocols.mechanism import Mechanism
from backtest.protocols.storage import Steps, StoredAccount, Subject
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    (
        "Rules of Compound V3 are exact by vectors: worked by hand from its source, and held against figures recorded"
        " of its compiled contracts; its bytecode is on no package registry, so no test runs it."
    ),
    (
        "An absorption writes off what the debt exceeds the collateral's value at its liquidation factor: that is the"
        " bad debt; what the protocol's sale of the collateral then brings is in the rows of step 'buy'."
    ),
    (
        "A buyer takes an absorbed collateral whole, in the moment when the market's price leaves a gain; collateral"
        " that the protocol held before is not on offer. Its reserves are those that its logs tell: base tokens sent to"
        " it without a call are not known."
    ),
)


class CompoundV3(LendingProtocol[CometState]):
    """``LendingProtocol`` for one Comet. Stateless."""

    name = "compound-v3"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("AbsorbDebt",)
    exposure_parameters = frozenset({"liquidation_threshold", *BORROW_CURVE})
    order_parameters = frozenset({"storefront_near"})
    parts_accounts = True
    parameters: Mapping[str, int] = MappingProxyType(
        dict.fromkeys(("ltv", "liquidation_threshold", "liquidation_factor", "store_front_price_factor"), WAD // BPS)
    )
    parameters_said = (
        "`ltv` is Comet's borrowCollateralFactor, `liquidation_threshold` its liquidateCollateralFactor,"
        " `liquidation_factor` what an absorbed collateral is credited at, and `store_front_price_factor` the share of"
        " the rest that its buyers get."
    )
    # Median of calls recorded of the compiled contracts.
    gas_units: Mapping[str, int] = MappingProxyType({"absorb": 182_000, "buy": 141_000})
    evidence = "by vectors"
    assumptions: Sequence[str] = ASSUMPTIONS

    @override
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        """The proxy emits everything."""
        return contracts

    @override
    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        """See ``events.price_sources``."""
        return price_sources(raw)

    @override
    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        """None: implementations have no revision; what they hold is read (``readings``)."""
        return ()

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """None."""
        return ()

    @override
    def readings(self, raw: RawEvents) -> Iterable[Reading]:
        """See ``events.readings``."""
        return readings(raw)

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """The base token, then collateral in the contract's order."""
        return tokens(raw)

    @override
    def claims(
        self, config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
    ) -> Iterator[Claim]:
        """See ``claims.claims``."""
        return claims(config, tables, blocks, accounts)

    @override
    def stored(self, subject: Subject) -> Steps[StoredAccount[CometState]]:
        """See ``storage.stored``."""
        from backtest.protocols.compound_v3.storage import stored  # a replay needs none of it

        return stored(subject)

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.compound_v3.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.compound_v3.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> CometState:
        """See ``state.open_state``."""
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: CometState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: CometState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: CometState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def exposures(self, state: CometState, accounts: Sequence[AccountId], now: Clock) -> Exposures | None:
        """See ``account.exposures``."""
        return exposures(state, accounts, now)

    @override
    def view(self, state: CometState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view_of``."""
        return view(state, account, prices.oracle, now)

    @override
    def views(self, state: CometState, prices: Prices, now: Clock) -> Views | None:
        """See ``account.views``."""
        return views(state, prices.oracle, now)

    @override
    def figures(self, state: CometState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: CometState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def safe_prices(
        self, state: CometState, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """See ``account.safe_prices``."""
        return safe_prices(state, account, asset, prices.oracle, now)

    @override
    def weight(self, state: CometState, account: AccountId, asset: AssetId) -> int:
        """Wad: the collateral's liquidateCollateralFactor."""
        return state.param("liquidation_threshold", asset)

    @override
    def pairs(self, state: CometState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: CometState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def mechanism(self, cost: int) -> Mechanism[CometState]:
        """See ``storefront``."""
        return Storefront()

    @override
    def act(self, state: CometState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """Why no implementation can hold these parameters (AssetList.getPackedAssetInternal, Comet's constructor)."""
        threshold = values.get("liquidation_threshold")
        if threshold is not None and values.get("ltv", 0) >= threshold:
            return "a borrow collateral factor at or above the liquidation collateral factor"
        if (threshold or 0) > WAD:
            return "a liquidation collateral factor above one"
        if values.get("store_front_price_factor", 0) > WAD:
            return "a storefront price factor above one"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """The threshold is stored in wad; an absorption gives nobody a bonus."""
        return LiquidationTerms(values.get("liquidation_threshold"))

    @override
    def observed_order(self, state: CometState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


COMPOUND_V3 = CompoundV3()
