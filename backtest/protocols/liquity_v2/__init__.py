"""Liquity V2 (BOLD): branches of one collateral each, whose troves choose their rate, liquidated by a stability pool
and, beyond it, by the other troves.

``math`` rounds, ``state`` is the book, ``account`` what the contracts say of a trove, ``touch`` what every call begins
with, ``liquidation`` what liquidating a trove does, ``actions``, ``deposits`` and ``redemption`` users' calls;
``events`` and ``fold`` turn logs into canonical tables.

A market is one branch, told by its AddressesRegistry (role ``addresses_registry``), which names the other contracts.
Base units are BOLD's own, 10^-18 of a dollar, and so are prices.
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
)
from backtest.protocols.liquity_v2.account import exposure, figures, holdings, safe_prices, view
from backtest.protocols.liquity_v2.actions import act
from backtest.protocols.liquity_v2.claims import claims
from backtest.protocols.liquity_v2.events import EVENTS, constants, discover, price_sources, tokens
from backtest.protocols.liquity_v2.liquidation import observed_order, pairs, quote
from backtest.protocols.liquity_v2.state import LIQUIDATED, REDISTRIBUTED, BranchState, accounts, apply, open_state
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    "Rules of Liquity V2 are exact by vectors: worked by hand from its source; its own bytecode is not run.",
    (
        "Liquidators close a trove a call and get 0.0375 WETH and the collateral compensation; the stability pool and"
        " the other troves pay, so that nothing is written off. The WETH is counted, at the oracle's price, only where"
        " WETH is the branch's collateral."
    ),
    (
        "What a branch gets of a redemption and its rate are history's; so is when a branch is shut down, unless its"
        " ratio does not allow it."
    ),
    (
        "After an oracle failed, prices are those that the branch's price feed gives; a history of WETH in which"
        " ether's oracle failed is refused."
    ),
)
_BOUNDS = {
    "critical_ratio": (WAD + 1, 2 * WAD - 1, "a critical ratio (CCR)"),
    "liquidation_ratio": (WAD + 1, 2 * WAD - 1, "a least ratio (MCR)"),
    "shutdown_ratio": (WAD + 1, 2 * WAD - 1, "a shutdown ratio (SCR)"),
    "batch_margin": (WAD // 20, WAD // 2 - 1, "a margin of batches (BCR)"),
    "liquidation_penalty": (21 * WAD // 20, 6 * WAD // 5, "a penalty of the stability pool"),
    "redistribution_penalty": (WAD, 6 * WAD // 5, "a penalty of redistributions"),
}
"""AddressesRegistry's constructor."""


class LiquityV2(LendingProtocol[BranchState]):
    """``LendingProtocol`` for one branch of Liquity V2. Stateless."""

    name = "liquity-v2"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("Liquidation",)
    exposure_parameters = frozenset({"liquidation_ratio", REDISTRIBUTED})
    order_parameters = frozenset({LIQUIDATED})
    parameters: Mapping[str, int] = MappingProxyType(
        {
            "liquidation_ratio": WAD // BPS,
            "critical_ratio": WAD // BPS,
            "shutdown_ratio": WAD // BPS,
            "batch_margin": WAD // BPS,
            "liquidation_penalty": WAD // BPS,
            "redistribution_penalty": WAD // BPS,
            "gas_share": WAD // BPS,
            "dust": WAD,
        }
    )
    parameters_said = (
        "`liquidation_ratio` is MCR, `critical_ratio` CCR, `shutdown_ratio` SCR, `batch_margin` BCR,"
        " `liquidation_penalty` and `redistribution_penalty` what the stability pool and the other troves may get for a"
        " debt (`10500` is 5 % more), `gas_share` the caller's part of a collateral, `dust` the least debt of a trove."
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
        from backtest.protocols.liquity_v2.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.liquity_v2.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> BranchState:
        """See ``state.open_state``."""
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: BranchState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: BranchState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: BranchState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def view(self, state: BranchState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view``."""
        return view(state, account, prices.oracle, now)

    @override
    def figures(self, state: BranchState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: BranchState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def safe_prices(
        self, state: BranchState, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """See ``account.safe_prices``."""
        return safe_prices(state, account, asset, now)

    @override
    def weight(self, state: BranchState, account: AccountId, asset: AssetId) -> int:
        """Wad: what of a collateral's value may be owed, one over the least ratio."""
        return WAD * WAD // state.param("liquidation_ratio")

    @override
    def pairs(self, state: BranchState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: BranchState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def act(self, state: BranchState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """What the registry's constructor refuses."""
        for name, (low, high, said) in _BOUNDS.items():
            if name in values and not low <= values[name] <= high:
                return f"{said} that the registry refuses"
        pool, shared = values.get("liquidation_penalty"), values.get("redistribution_penalty")
        if pool is not None and shared is not None and pool > shared:
            return "a penalty of the stability pool above that of redistributions"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """The threshold is one over the least ratio; what the pool gains depends on the trove."""
        least = values.get("liquidation_ratio")
        return LiquidationTerms(WAD * WAD // least if least else None)

    @override
    def observed_order(self, state: BranchState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(past)


LIQUITY_V2 = LiquityV2()
