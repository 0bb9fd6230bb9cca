"""SAFEs of one collateral type (reflexer-labs/geb), with auctions at a fixed or increasing discount; Open Dollar's
auctions besides.

Beside ``protocols/vaults``, whose book, calls and rows these are: ``params`` names, ``rules`` says what a liquidation
takes, ``house`` what a buyer of it gets, ``auctions`` is the mechanism, ``state`` what the contracts make of the book;
``events`` and ``fold`` fold a node's logs.

Accounts are SAFEs by address. The collateral side of an account is its locked collateral, the debt side its generated
debt (wad); ``indexes`` hold the accumulated rate as the borrow index of the coin, with a yearly rate of zero: a debt
grows when somebody taxes, not in between. The coin's price is the redemption price: it moves what every SAFE owes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec
import pyarrow as pa
from typing_extensions import override

from backtest.errors import UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId, AssetId, Clock, EventSpec, Market, Prices, SourceChange
from backtest.protocols.claims import Claim, Tables
from backtest.protocols.folding import Running
from backtest.protocols.geb import state
from backtest.protocols.geb.auctions import DiscountAuctions
from backtest.protocols.geb.claims import claims
from backtest.protocols.geb.events import EVENTS, discover
from backtest.protocols.geb.params import ASSUMPTIONS, SAID, UNITS, fault
from backtest.protocols.geb.state import SafeState
from backtest.protocols.interface import Figure, RawEvents, SafePrices
from backtest.protocols.vaults.protocol import VaultProtocol
from backtest.protocols.vaults.state import RAISED

__all__ = ["GEB", "Geb"]


class Geb(VaultProtocol[SafeState]):
    """``LendingProtocol`` for one collateral type. Stateless; base units are wad, prices ray."""

    name = "geb"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("Liquidate",)
    exposure_parameters = frozenset({"liquidation_ratio"})
    order_parameters = frozenset({RAISED, "box"})
    parameters: Mapping[str, int] = UNITS
    parameters_said = SAID
    evidence = "by vectors"
    # Estimates.
    gas_units: Mapping[str, int] = MappingProxyType({"start": 400_000, "buy": 250_000})
    assumptions: Sequence[str] = ASSUMPTIONS
    # Seconds from a market price to the oracle's, where only market prices are known: the delay of its feed.
    oracle_delay = 3600

    market_parameters: Sequence[str] = ("collateral_type",)

    @override
    def describe(self, parameters: Mapping[str, str], known: Sequence[MarketConfig]) -> MarketConfig:
        """The known market of a collateral type, else one of it in the contracts of a known one: which token its
        collateral is, no description says.
        """
        kind, model = parameters["collateral_type"], known[0]
        for each in known:
            if each.parameters["collateral_type"] == kind:
                return each
        if not re.fullmatch(r"[A-Z0-9]+-[A-Z]", kind):
            raise UserError(f"collateral type '{kind}'", "write it as the SAFEEngine does, for example ETH-A")
        return msgspec.structs.replace(
            model,
            name=f"geb-{kind.lower()}",
            description=f"SAFEs of collateral type {kind}.",
            parameters={**model.parameters, **parameters},
            contracts={role: address for role, address in model.contracts.items() if role != "collateral"},
        )

    @override
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        """See ``events.discover``."""
        return discover(contracts, raw)

    @override
    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        """None: the OracleRelayer's own logs say both prices, ``fold`` gives them."""
        return ()

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """None: the SAFEEngine counts the collateral and the coin in wad."""
        return ()

    @override
    def claims(
        self, config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
    ) -> Iterator[Claim]:
        """See ``claims.claims``."""
        return claims(config, tables, blocks, accounts)

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold_logs``."""
        from backtest.protocols.geb.fold import fold_logs  # a replay needs none of it

        return fold_logs(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]]:
        """See ``fold.fold_logs``."""
        from backtest.protocols.geb.fold import fold_logs

        return fold_logs(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> SafeState:
        """See ``state.open_state``. A stability fee does not follow the book, so nothing is ever recomputed: UserError
        if asked for.
        """
        if recompute:
            raise UserError(
                "rates = 'recomputed': GEB's stability fee and redemption rate do not follow one market's book",
                "use rates = 'historical'",
            )
        return state.open_state(market)

    @override
    def figures(self, book: SafeState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``state.figures``."""
        return state.figures(book, account, prices, now)

    @override
    def mechanism(self, cost: int) -> DiscountAuctions:
        """See ``auctions``; the price is the oracle's, so that costs decide only when somebody buys."""
        return DiscountAuctions()

    @override
    def safe_prices(
        self, book: SafeState, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """See ``state.safe_prices``."""
        return state.safe_prices(book, account, asset, prices)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """See ``params.fault``."""
        return fault(values)


GEB = Geb()
