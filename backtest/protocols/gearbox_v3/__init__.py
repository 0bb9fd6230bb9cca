"""Gearbox V3.1: one credit manager, whose credit accounts borrow from a pool and hold many tokens.

``math`` rounds, ``state`` is the book, ``account`` health, ``liquidation`` what a liquidation does, whole or of a part,
``whole`` the mechanism, ``actions`` users' multicalls; ``events`` and ``fold`` turn logs and readings into canonical
tables.

A market is a credit manager with its pool. Asset 0 is the underlying. Base units are dollars of 8 decimals.
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
from backtest.protocols.folding import Running
from backtest.protocols.gearbox_v3.account import exposure, figures, holdings, view
from backtest.protocols.gearbox_v3.actions import act
from backtest.protocols.gearbox_v3.claims import claims
from backtest.protocols.gearbox_v3.events import EVENTS, LIQUIDATIONS, discover, price_sources, readings, tokens
from backtest.protocols.gearbox_v3.liquidation import observed_order, pairs, quote
from backtest.protocols.gearbox_v3.state import (
    MARKET_WIDE,
    OTHERS,
    PER_ASSET,
    GearboxState,
    accounts,
    apply,
    open_state,
)
from backtest.protocols.gearbox_v3.whole import WholeAccount
from backtest.protocols.interface import (
    AccountView,
    Acted,
    Action,
    Exposure,
    Figure,
    Fill,
    Holding,
    LendingProtocol,
    LiquidationTerms,
    Order,
    Pair,
    RawEvents,
    Refusal,
)
from backtest.protocols.mechanism import Mechanism
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    (
        "Rules of Gearbox V3.1 are exact by vectors: worked by hand from its source; no test runs its bytecode, and no"
        " real market was fetched yet."
    ),
    (
        "A liquidator takes a whole credit account and sells every token that it held; partial liquidations are"
        " explained where history has them. A liquidation with a loss happens whatever the market's loss policy says."
    ),
    (
        "What a credit account holds is known in the blocks in which a log names it: tokens that it was sent, or that"
        " grew by themselves, count from the next of them on. Collateral is valued at the oracle's main prices."
    ),
)


class GearboxV3(LendingProtocol[GearboxState]):
    """``LendingProtocol`` for one credit manager. Stateless."""

    name = "gearbox-v3"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = LIQUIDATIONS
    exposure_parameters = frozenset({*PER_ASSET, *MARKET_WIDE} - {*OTHERS})
    order_parameters = frozenset[str]()
    parameters: Mapping[str, int] = MappingProxyType(
        dict.fromkeys(("liquidation_threshold", "liquidation_premium", "liquidation_fee"), 1)
    )
    parameters_said = (
        "`liquidation_premium` and `liquidation_fee` are those of unhealthy accounts; what they leave of 10,000 is the"
        " threshold of the underlying. A `liquidation_threshold` that is overridden does not move as a ramp of history"
        " would move it."
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
        """None: no contract is a proxy."""
        return ()

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """None; what the contracts were made with is read (``readings``)."""
        return ()

    @override
    def readings(self, raw: RawEvents) -> Iterable[Reading]:
        """See ``events.readings``."""
        return readings(raw)

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
        from backtest.protocols.gearbox_v3.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.gearbox_v3.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> GearboxState:
        """See ``state.open_state``."""
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: GearboxState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: GearboxState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: GearboxState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def view(self, state: GearboxState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view``."""
        return view(state, account, prices.oracle, now)

    @override
    def figures(self, state: GearboxState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: GearboxState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def pairs(self, state: GearboxState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: GearboxState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def mechanism(self, cost: int) -> Mechanism[GearboxState]:
        """See ``whole``."""
        return WholeAccount()

    @override
    def act(self, state: GearboxState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """Why the manager or its configurator refuses these parameters (CreditManagerV3's constructor,
        CreditConfiguratorV3.setFees and ``_setLiquidationThreshold``).
        """
        premium, fee = values.get("liquidation_premium", 0), values.get("liquidation_fee", 0)
        if fee > premium:
            return "a liquidation fee above the premium"
        if premium + fee >= BPS:
            return "a premium and a fee of all there is"
        if values.get("liquidation_threshold", 0) > BPS - premium - fee:
            return "a liquidation threshold above what premium and fee leave, that of the underlying"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """The threshold, and the gain of a liquidator who pays what the discount leaves."""
        threshold, premium = values.get("liquidation_threshold"), values.get("liquidation_premium")
        return LiquidationTerms(
            None if threshold is None else threshold * WAD // BPS,
            None if premium is None or premium >= BPS else WAD * BPS // (BPS - premium),
        )

    @override
    def owner_in(self, state: GearboxState, account: AccountId) -> str | None:
        """Whoever opened the credit account."""
        owner = state.account(account).owner
        return state.market.accounts[owner] if owner >= 0 else None

    @override
    def weight(self, state: GearboxState, account: AccountId, asset: AssetId) -> int:
        """Wad: the threshold when the pool last accrued; a quota may let less count."""
        return state.threshold(asset, state.pool.updated) * WAD // BPS

    @override
    def observed_order(self, state: GearboxState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


GEARBOX_V3 = GearboxV3()
