"""Fraxlend: isolated pairs, one token lent against one collateral.

``math`` rounds, ``state`` is the book, ``account`` health, ``liquidation`` and ``actions`` one call each; ``events``
and ``fold`` turn logs and readings into canonical tables.

A market is one pair of version 3. Its base currency is its collateral, so that the price of what is lent is the
oracle's low exchange rate itself, not rounded; see ``account.rate_down``.
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
from backtest.protocols.fraxlend.account import exposure, figures, holdings, view
from backtest.protocols.fraxlend.actions import act
from backtest.protocols.fraxlend.claims import claims
from backtest.protocols.fraxlend.events import EVENTS, price_sources, readings, tokens
from backtest.protocols.fraxlend.liquidation import observed_order, pairs, quote
from backtest.protocols.fraxlend.math import PRECISION, RateCurve
from backtest.protocols.fraxlend.state import FraxlendState, accounts, apply, open_state
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
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    (
        "Rules of Fraxlend pairs are exact by vectors, worked by hand from their source: their bytecode is on no"
        " package registry, so no test runs it."
    ),
    (
        "Between two updates of a pair's exchange rate, the rate by which borrowing is checked is as far above the low"
        " one as at the last update."
    ),
)


class Fraxlend(LendingProtocol[FraxlendState]):
    """``LendingProtocol`` for one pair. Stateless."""

    name = "fraxlend"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("Liquidate",)
    exposure_parameters = frozenset({"liquidation_threshold", "interest_paused", *RateCurve._fields})
    order_parameters = frozenset({"accrued"})
    early = True
    parameters: Mapping[str, int] = MappingProxyType(
        dict.fromkeys(
            (
                "liquidation_threshold",
                "liquidation_bonus",
                "partial_liquidation_bonus",
                "liquidation_protocol_fee",
            ),
            PRECISION // BPS,
        )
    )
    parameters_said = (
        "`liquidation_threshold` is maxLTV, for borrowing and for liquidation. `liquidation_bonus` is the clean fee, of"
        " a call that takes all collateral, `partial_liquidation_bonus` the dirty one, of any other; each is set by"
        " itself. `liquidation_protocol_fee` is a share of all that is taken."
    )
    evidence = "by vectors"
    assumptions: Sequence[str] = ASSUMPTIONS

    @override
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        """The pair emits everything."""
        return contracts

    @override
    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        """See ``events.price_sources``."""
        return price_sources(raw)

    @override
    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        """None: a pair is no proxy."""
        return ()

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """None; what the pair was made with is read (``readings``)."""
        return ()

    @override
    def readings(self, raw: RawEvents) -> Iterable[Reading]:
        """See ``events.readings``."""
        return readings(raw)

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """The token that is lent, the collateral."""
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
        from backtest.protocols.fraxlend.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.fraxlend.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> FraxlendState:
        """See ``state.open_state``."""
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: FraxlendState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: FraxlendState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: FraxlendState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def view(self, state: FraxlendState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view``."""
        return view(state, account, prices.oracle, now)

    @override
    def figures(self, state: FraxlendState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: FraxlendState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def weight(self, state: FraxlendState, account: AccountId, asset: AssetId) -> int:
        """Wad: maxLTV."""
        return state.params.get("liquidation_threshold", 0) * WAD // PRECISION

    @override
    def pairs(self, state: FraxlendState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: FraxlendState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def act(self, state: FraxlendState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """``FraxlendPair.setMaxLTV`` and ``setLiquidationFees`` check nothing but the sign."""
        for name in ("liquidation_bonus", "partial_liquidation_bonus"):
            if values.get(name, PRECISION) < PRECISION:
                return "a liquidation fee below nothing"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """maxLTV and one and the clean fee, both of 10^5."""
        threshold, bonus = (values.get(name) for name in ("liquidation_threshold", "liquidation_bonus"))
        return LiquidationTerms(*(None if each is None else each * WAD // PRECISION for each in (threshold, bonus)))

    @override
    def observed_order(self, state: FraxlendState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


FRAXLEND = Fraxlend()
