"""crvUSD and LlamaLend: one controller with its LLAMMA, loans in bands that are exchanged as the price moves.

``math`` rounds, ``amm`` is the AMM, ``state`` the book, ``account`` health, ``liquidation`` what a hard liquidation and
an exchange do, ``soft`` the mechanism (a stated arbitrageur), ``actions`` users' calls; ``events`` and ``fold`` turn
logs and readings into canonical tables.

A market is an AMM and its controller. Asset 0 is the borrowed token, asset 1 the collateral. Base units are 10^-18
borrowed tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa
from typing_extensions import override

from backtest.markets import MarketConfig
from backtest.model import (
    AccountId,
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
    Order,
    Pair,
    RawEvents,
    Refusal,
)
from backtest.protocols.llamma.account import exposure, figures, holdings, view
from backtest.protocols.llamma.actions import act
from backtest.protocols.llamma.claims import claims
from backtest.protocols.llamma.events import EVENTS, PRICED, price_sources, readings, tokens
from backtest.protocols.llamma.liquidation import exchanged, observed_order, pairs, quote
from backtest.protocols.llamma.soft import SoftLiquidation
from backtest.protocols.llamma.state import EXCHANGED, LlammaState, accounts, apply, open_state
from backtest.protocols.mechanism import Mechanism
from backtest.units import BPS, WAD

ASSUMPTIONS = (
    (
        "Rules of LLAMMA and its controller are exact by vectors: worked by hand from their source, and held against"
        " figures recorded of the compiled contracts; their bytecode is on no package registry, so no test runs it."
    ),
    (
        "Soft liquidation is one arbitrageur's: whenever liquidators look, it exchanges with the AMM until the AMM's"
        " price, its fee counted, is the market's, where that gains more than a call costs and a thousandth of the"
        " borrowed token; what it buys it sells at the market's price."
    ),
    (
        "A hard liquidation is of the whole loan. Nothing is written off: a loan whose tokens are worth less than its"
        " debt stays, and is bad debt of the market."
    ),
)


class Llamma(LendingProtocol[LlammaState]):
    """``LendingProtocol`` for one controller and its AMM. Stateless."""

    name = "llamma"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = PRICED
    exposure_parameters = frozenset({*EXCHANGED, "silent_fee", "amplification", "base_price"})
    order_parameters = frozenset(EXCHANGED)
    parameters: Mapping[str, int] = MappingProxyType(
        {"amplification": 1, **dict.fromkeys(("loan_discount", "liquidation_discount", "amm_fee"), WAD // BPS)}
    )
    parameters_said = (
        "`amplification` is A: a band is 1 / A of the price wide; it holds from the market's first block or not at all."
        " `loan_discount` and `liquidation_discount` are those of loans that are made or changed from then on: a loan"
        " keeps its own."
    )
    evidence = "by vectors"
    assumptions: Sequence[str] = ASSUMPTIONS

    @override
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        """The two contracts emit everything."""
        return contracts

    @override
    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        """See ``events.price_sources``."""
        return price_sources(raw)

    @override
    def deployments(self, raw: RawEvents) -> Sequence[Deployment]:
        """None: neither contract is a proxy."""
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
        """The borrowed token, the collateral."""
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
        from backtest.protocols.llamma.fold import fold  # a replay needs none of it

        return fold(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold``."""
        from backtest.protocols.llamma.fold import fold

        return fold(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> LlammaState:
        """See ``state.open_state``."""
        return open_state(market, recompute=recompute)

    @override
    def apply(self, state: LlammaState, event: MarketEvent) -> None:
        """See ``state.apply``."""
        apply(state, event)

    @override
    def accounts(self, state: LlammaState) -> Sequence[AccountId]:
        """See ``state.accounts``."""
        return accounts(state)

    @override
    def exposure(self, state: LlammaState, account: AccountId, now: Clock) -> Exposure | None:
        """See ``account.exposure``."""
        return exposure(state, account, now)

    @override
    def view(self, state: LlammaState, account: AccountId, prices: Prices, now: Clock) -> AccountView:
        """See ``account.view``."""
        return view(state, account, prices.oracle, now)

    @override
    def figures(self, state: LlammaState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``account.figures``."""
        return figures(state, account, prices.oracle, now)

    @override
    def holdings(self, state: LlammaState, account: AccountId, now: Clock) -> Sequence[Holding]:
        """See ``account.holdings``."""
        return holdings(state, account, now)

    @override
    def pairs(self, state: LlammaState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Pair]:
        """See ``liquidation.pairs``."""
        return pairs(state, account, prices.oracle, now)

    @override
    def quote(self, state: LlammaState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
        """See ``liquidation.quote``."""
        return quote(state, order, prices.oracle, now)

    @override
    def mechanism(self, cost: int) -> Mechanism[LlammaState]:
        """See ``soft``."""
        return SoftLiquidation()

    @override
    def act(self, state: LlammaState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
        """See ``actions.act``."""
        return act(state, action, prices.oracle, now)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """Why a factory or a controller refuses these parameters (``ControllerFactory.add_market``,
        ``Controller.set_borrowing_discounts``, ``set_amm_fee``).
        """
        loan, liquidation = values.get("loan_discount"), values.get("liquidation_discount")
        if loan is not None and liquidation is not None and loan <= liquidation:
            return "a loan discount that is not above the liquidation discount"
        if liquidation is not None and liquidation < WAD // 100:
            return "a liquidation discount below 1 %"
        if loan is not None and loan > WAD // 2:
            return "a loan discount above 50 %"
        a, fee = values.get("amplification"), values.get("amm_fee")
        if a is not None and not 2 <= a <= 10_000:
            return "an amplification that is not from 2 to 10,000"
        if fee is not None and (fee < 10**6 or fee > min(4 * WAD // a if a else WAD, WAD // 10)):
            return "a fee of nothing, or above 4 / A or 10 %"
        return None

    @override
    def observed_order(self, state: LlammaState, past: HistoricalLiquidation, prices: Prices, now: Clock) -> Order:
        """See ``liquidation.observed_order``."""
        return observed_order(state, past, prices.oracle, now)

    @override
    def relived(
        self, state: LlammaState, past: HistoricalLiquidation, prices: Prices, now: Clock
    ) -> Sequence[MarketEvent]:
        """An exchange with the AMM, whose amounts alone are in the history; see ``liquidation.exchanged``."""
        return exchanged(state, past, prices.oracle, now)


LLAMMA = Llamma()
