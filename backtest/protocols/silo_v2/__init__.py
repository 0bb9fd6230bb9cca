"""Silo V2: isolated markets of two silos, each of which lends its token against the other's.

``math`` rounds, ``irm`` is the rate, ``state`` the book, ``account`` health, ``liquidation`` and ``actions`` one call
each; ``events`` and ``fold`` turn logs and readings into canonical tables.

A market is one ``SiloConfig``. Its base currency is what its oracles quote in.
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
from backtest.protocols.silo_v2.account import exposure, figures, holdings, view
from backtest.protocols.silo_v2.actions import act
from backtest.protocols.silo_v2.claims import claims
from backtest.protocols.silo_v2.events import EVENTS, discover, price_sources, readings, tokens
from backtest.protocols.silo_v2.irm import Gains
from backtest.protocols.silo_v2.liquidation import observed_order, pairs, quote
from backtest.protocols.silo_v2.state import HERE, PROTECTED, TERMS, SiloState, accounts, apply, open_state
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    (
        "Rules of Silo V2 are exact by vectors, worked by hand from their source: their bytecode is on no package"
        " registry, so no test runs it."
    ),
    ("A token's oracle quotes in proportion to the amount, cut once: what it says of 10^18 whole tokens is its price."),
    (
        "Where borrowing is checked by an oracle of its own (maxLtvOracle), whose price is not known, whoever borrows"
        " has to be solvent by the solvency oracle instead."
    ),
)


class SiloV2(LendingProtocol[SiloState]):
    """``LendingProtocol`` for one market. Stateless."""

    name = "silo-v2"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("LiquidationCall",)
    exposure_parameters = frozenset({"liquidation_threshold", *Gains._fields})
    order_parameters = frozenset({HERE})
    early = True
    parameters: Mapping[str, int] = MappingProxyType(dict.fromkeys(TERMS, WAD // BPS))
    parameters_said = (
        "`ltv` is maxLtv, `liquidation_threshold` lt, `liquidation_target_ltv` liquidationTargetLtv (a partial"
        " liquidation goes down to it), `liquidation_bonus` one and liquidationFee: each of a token as collateral,"
        " protected or not."
    )
    evidence = "by vectors"
    assumptions: Sequence[str] = ASSUMPTIONS

    @override
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        """See ``events.discover``."""
        return discover(contracts)

    @override
    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        """See ``events.price_sources``."""
        return price_sources(raw)

    @override
    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        """None: no contract changes its code."""
        return ()

    @override
    def constants(self, raw: RawEvents) -> Sequence[Constant]:
        """None; what the market was made with is read (``readings``)."""
        return ()

    @override
    def readings(self, raw: RawEvents) -> Iterable[Reading]:
        """See ``events.readings``."""
        return readings(raw)

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """Both tokens, then the tokens of protected collateral."""
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
        from backtest.protocols.silo_v2.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.silo_v2.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> SiloState:
        """See ``state.open_state``."""
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: SiloState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: SiloState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: SiloState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def view(self, state: SiloState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view``."""
        return view(state, account, prices.oracle, now)

    @override
    def figures(self, state: SiloState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: SiloState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def weight(self, state: SiloState, account: AccountId, asset: AssetId) -> int:
        """Wad: lt of the token."""
        return state.term(asset % PROTECTED, "liquidation_threshold")

    @override
    def pairs(self, state: SiloState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: SiloState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def act(self, state: SiloState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """``SiloFactory.validateSiloInitData``."""
        threshold = values.get("liquidation_threshold")
        if threshold is None:
            return None
        for name, what in (
            ("ltv", "InvalidMaxLtv: maxLtv"),
            ("liquidation_target_ltv", "LiquidationTargetLtvTooHigh:"),
        ):
            if values.get(name, 0) > threshold:
                return f"{what} above lt"
        if threshold + values.get("liquidation_bonus", WAD) - WAD > WAD:
            return "InvalidLt: lt and liquidationFee are more than one"
        return None

    @override
    def liquidation_terms(self, values: Mapping[str, int]) -> LiquidationTerms:
        """lt, and one and liquidationFee."""
        return LiquidationTerms(values.get("liquidation_threshold"), values.get("liquidation_bonus"))

    @override
    def observed_order(self, state: SiloState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)


SILO_V2 = SiloV2()
