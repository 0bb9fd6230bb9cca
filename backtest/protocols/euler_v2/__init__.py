"""Euler V2: one vault that lends, its collateral vaults, and the connector that ties accounts to both.

``math`` rounds, ``state`` is the book, ``account`` health, ``liquidation`` and ``actions`` one call, or one batch of
them; ``events`` says which logs, ``calls`` which of them are one call, ``ledger`` what a vault's debts come to, and
``fold`` turns them into canonical tables.

A market is one lending vault (``parameters.vault`` of the market file). Asset 0 is the token that it lends, the others
are its collateral vaults. Base units are the vault's unit of account.
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
from backtest.protocols.euler_v2.account import exposure, exposures, figures, holdings, safe_prices, view, views
from backtest.protocols.euler_v2.actions import act
from backtest.protocols.euler_v2.claims import claims
from backtest.protocols.euler_v2.events import (
    EVENTS,
    VAULT,
    describe,
    discover,
    price_sources,
    readings,
    tokens,
)
from backtest.protocols.euler_v2.liquidation import observed_order, pairs, quote
from backtest.protocols.euler_v2.state import EulerState, accounts, apply, open_state
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
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    (
        "Rules of Euler V2 are exact by vectors: worked by hand from its source; its bytecode is on no package"
        " registry, so no test runs it."
    ),
    (
        "A modelled liquidator repays what it took over and converts the shares in the same batch; whether the"
        " collateral vault has as much cash is not asked."
    ),
    (
        "Collateral vaults are as in history, whatever their depositors do here; bid and ask are one price, and an"
        " adapter that finds its feed too old is not known to."
    ),
    "What contracts behind hooks say of a call is taken as in history.",
)


class EulerV2(LendingProtocol[EulerState]):
    """``LendingProtocol`` for one lending vault. Stateless."""

    name = "euler-v2"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("Liquidate",)
    exposure_parameters = frozenset(
        {"liquidation_threshold", "initial_threshold", "ramp_end", "ramp_duration", "share_price_fell"}
    )
    order_parameters: frozenset[str] = frozenset()
    early = True
    market_parameters: Sequence[str] = (VAULT,)
    parameters: Mapping[str, int] = MappingProxyType(
        dict.fromkeys(("ltv", "liquidation_threshold", "max_liquidation_discount", "liquidation_cool_off"), 1)
    )
    parameters_said = (
        "`ltv` is the borrow LTV, `liquidation_threshold` the liquidation LTV that a ramp ends in (a ramp of history's"
        " that is under way goes on towards it)."
    )
    # The middle of what the protocol's own documents say of a batch with few collaterals.
    gas_units: Mapping[str, int] = MappingProxyType({"liquidate": 450_000})
    evidence = "by vectors"
    assumptions: Sequence[str] = ASSUMPTIONS

    @override
    def describe(self, parameters: Mapping[str, str], known: Sequence[MarketConfig]) -> MarketConfig:
        """See ``events.describe``."""
        return describe(parameters, known)

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
        """None: vaults have no revision; what each logs is held against the rules."""
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
        """The lent token, then the collateral vaults."""
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
        from backtest.protocols.euler_v2.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.euler_v2.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> EulerState:
        """See ``state.open_state``. Recomputed interest needs a model of one bent line: RulesError at the first call
        under another.
        """
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: EulerState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: EulerState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: EulerState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def exposures(self, state: EulerState, accounts: Sequence[AccountId], now: Clock) -> Exposures | None:
        """See ``account.exposures``."""
        return exposures(state, accounts, now)

    @override
    def owner_in(self, state: EulerState, account: AccountId) -> str | None:
        """The owner that the connector registered for the account's first 19 bytes."""
        address, number = state.market.accounts[account], state.account(account).number
        return f"0x{int(address, 16) ^ number:040x}" if number else None

    @override
    def view(self, state: EulerState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view_of``."""
        return view(state, account, prices.oracle, now)

    @override
    def views(self, state: EulerState, prices: Prices, now: Clock) -> Views | None:
        """See ``account.views``."""
        return views(state, prices.oracle, now)

    @override
    def figures(self, state: EulerState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: EulerState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def safe_prices(
        self, state: EulerState, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """See ``account.safe_prices``."""
        return safe_prices(state, account, asset, prices.oracle, now)

    @override
    def weight(self, state: EulerState, account: AccountId, asset: AssetId) -> int:
        """Wad: the collateral's liquidation LTV as of the last event."""
        return state.liquidation_ltv(asset, state.time) * WAD // BPS

    @override
    def pairs(self, state: EulerState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: EulerState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def act(self, state: EulerState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """Why the vault would refuse these parameters (Governance.setLTV, setMaxLiquidationDiscount)."""
        threshold = values.get("liquidation_threshold")
        if threshold is not None and values.get("ltv", 0) > threshold:
            return "a borrow LTV above the liquidation LTV"
        if values.get("max_liquidation_discount", 0) >= BPS:
            return "a discount of everything"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """The threshold is stored in basis points; the discount is what an account's health finds."""
        threshold = values.get("liquidation_threshold")
        return LiquidationTerms(threshold * WAD // BPS if threshold else None)

    @override
    def observed_order(self, state: EulerState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


EULER_V2 = EulerV2()
