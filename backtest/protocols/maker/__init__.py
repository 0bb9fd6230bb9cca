"""Maker vaults of one ilk (makerdao/dss), Liquidations 1.0, 1.1/1.2 and 2.0.

Beside ``protocols/vaults``, whose book, calls and rows these are: ``params`` names, ``rules`` says what a liquidation
takes, ``clip`` what a buyer of it gets, ``auctions`` is the mechanism, ``state`` what the contracts make of the book;
``events`` and ``logs`` fold a node's logs, ``imported`` folds exports, both into ``ledger``.

Accounts are urns. The collateral side of an account is its ink, the debt side its art (wad); ``indexes`` hold the
accumulator as the borrow
index of DAI, with a yearly rate of zero: a Maker debt grows when somebody drips, not in between, and liquidations go by
the stored rate.
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
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    EventSpec,
    Market,
    Prices,
    SourceChange,
)
from backtest.protocols.claims import Claim, Tables
from backtest.protocols.folding import Running
from backtest.protocols.interface import (
    Figure,
    RawEvents,
    SafePrices,
)
from backtest.protocols.maker import state
from backtest.protocols.maker.auctions import Auctions
from backtest.protocols.maker.claims import claims
from backtest.protocols.maker.events import EVENTS, EVERY, discover
from backtest.protocols.maker.params import ASSUMPTIONS, IMPORTED, SAID, UNITS, fault
from backtest.protocols.maker.state import MakerState
from backtest.protocols.storage import Steps, StoredAccount, Subject
from backtest.protocols.vaults.ledger import BEHIND
from backtest.protocols.vaults.protocol import VaultProtocol
from backtest.protocols.vaults.state import RAISED

__all__ = ["MAKER", "Maker"]


class Maker(VaultProtocol[MakerState]):
    """``LendingProtocol`` for one ilk. Stateless; base units are wad, the collateral's price is what its price feed
    says (wad).
    """

    name = "maker"
    events: Sequence[EventSpec] = EVENTS
    liquidation_events: Sequence[str] = ("Bite", "Bark")
    exposure_parameters = frozenset({"liquidation_ratio", "par"})
    order_parameters = frozenset({RAISED, "box", "hole", "global_hole"})
    parameters: Mapping[str, int] = UNITS
    parameters_said = SAID
    # Estimates: no bytecode to measure them on.
    gas_units: Mapping[str, int] = MappingProxyType(
        {
            "bite": 260_000,
            "bark": 280_000,
            "tend": 90_000,
            "dent": 95_000,
            "tick": 60_000,
            "deal": 80_000,
            "take": 220_000,
            "redo": 130_000,
        }
    )
    assumptions: Sequence[str] = ASSUMPTIONS
    # What ``imported`` reads of exports.
    imported_columns: Mapping[str, frozenset[str]] = MappingProxyType(
        {
            "raw/import/Flow": frozenset({"account", "asset", "side", "action", "amount"}),
            "raw/import/Parameter": frozenset({"name", "value"}),
            "raw/import/Liquidation": frozenset(
                {
                    "account",
                    "liquidator",
                    "debt_asset",
                    "collateral_asset",
                    "repaid",
                    "debt_scaled",
                    "seized",
                    "bad_debt",
                }
            ),
        }
    )
    imported_parameters = IMPORTED
    # Seconds from a market price to the oracle's, where only market prices are known: the OSM's hop.
    oracle_delay = 3600

    market_parameters: Sequence[str] = ("ilk",)

    @override
    def describe(self, parameters: Mapping[str, str], known: Sequence[MarketConfig]) -> MarketConfig:
        """The market of another ilk in the contracts of a known one; which token its collateral is, no description
        says.
        """
        ilk, model = parameters["ilk"], known[0]
        if ilk != EVERY and not re.fullmatch(r"[A-Z0-9]+-[A-Z](,[A-Z0-9]+-[A-Z])*", ilk):
            raise UserError(f"ilk '{ilk}'", "write it as the Vat does, for example ETH-A")
        contracts = {role: address for role, address in model.contracts.items() if role != "gem"}
        description = f"Maker vaults of type {ilk} on Ethereum." if ilk != EVERY else "All Maker vaults on Ethereum."
        return msgspec.structs.replace(
            model,
            name=f"maker-{'all' if ilk == EVERY else ilk.lower().replace(',', '-')}",
            description=description,
            parameters=dict(parameters),
            contracts=contracts,
        )

    @override
    def discover(self, contracts: Mapping[str, frozenset[str]], raw: RawEvents) -> Mapping[str, frozenset[str]]:
        """See ``events.discover``."""
        return discover(contracts, raw)

    @override
    def price_sources(self, raw: RawEvents) -> Sequence[SourceChange]:
        """None: the Spotter's own logs say the price, ``fold`` gives it."""
        return ()

    @override
    def tokens(self, raw: RawEvents) -> Sequence[str]:
        """None: the Vat counts every collateral and DAI in wad."""
        return ()

    @override
    def claims(
        self, config: MarketConfig, tables: Tables, blocks: Sequence[int], accounts: Mapping[AccountId, str]
    ) -> Iterator[Claim]:
        """See ``claims.claims``."""
        return claims(config, tables, blocks, accounts)

    @override
    def stored(self, subject: Subject) -> Steps[StoredAccount[MakerState]]:
        """See ``storage.stored``."""
        from backtest.protocols.maker.storage import stored  # a replay needs none of it

        return stored(subject)

    @override
    def fold(self, config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
        """From a node's logs (``logs.fold_logs``), or from exports (``imported.fold_imports``) where there are no
        logs.
        """
        from backtest.protocols.maker.imported import fold_imports, has_imports
        from backtest.protocols.maker.logs import fold_logs

        return fold_imports(config, raw) if has_imports(raw) else fold_logs(config, raw)

    @override
    def fold_on(self, config: MarketConfig, raw: RawEvents, running: Running) -> Iterator[tuple[str, pa.Table]] | None:
        """See ``logs.fold_logs``. None where there are exports."""
        from backtest.protocols.maker.imported import has_imports
        from backtest.protocols.maker.logs import fold_logs

        return None if has_imports(raw) else fold_logs(config, raw, running)

    @override
    def open(self, market: Market, *, recompute: bool = False) -> MakerState:
        """See ``state.open_state``. A stability fee does not follow the book, so nothing is ever recomputed: UserError
        if asked for.
        """
        if recompute:
            raise UserError(
                "rates = 'recomputed': Maker's stability fee is set by governance, whatever the book",
                "use rates = 'historical'",
            )
        return state.open_state(market)

    @override
    def owner_of(self, account: str) -> str:
        """The urn's address: where a market has several ilks, its vaults in each are accounts of their own."""
        return account.partition(BEHIND)[0]

    @override
    def figures(self, book: MakerState, account: AccountId, prices: Prices, now: Clock) -> Sequence[Figure]:
        """See ``state.figures``."""
        return state.figures(book, account, prices)

    @override
    def mechanism(self, cost: int) -> Auctions:
        """See ``auctions``."""
        return Auctions(cost)

    @override
    def safe_prices(
        self, book: MakerState, account: AccountId, asset: AssetId, prices: Prices, now: Clock
    ) -> SafePrices | None:
        """See ``state.safe_prices``."""
        return state.safe_prices(book, account, asset)

    @override
    def fault(self, values: Mapping[str, int]) -> str | None:
        """See ``params.fault``."""
        return fault(values)


MAKER = Maker()
