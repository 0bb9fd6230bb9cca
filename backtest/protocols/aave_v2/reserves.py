"""The reserves of a market and their tokens, and the revisions of its pool. Read once, before the fold streams the
rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.protocols.aave.columns import INCOMPLETE, address_set, address_text, rows
from backtest.protocols.aave_v2.events import pool_changes
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL
from backtest.units import WAD


@dataclass
class Listing:
    """Assets, dense in order of listing (which is the pool's: ``LendingPool._addReserveToList``), the log of each, and
    their tokens in the same order. A reserve of V2 is listed once and never dropped.
    """

    assets: list[str] = field(default_factory=list)
    logs: list[Mapping[str, Any]] = field(default_factory=list)
    a_tokens: list[str] = field(default_factory=list)
    debt_tokens: list[str] = field(default_factory=list)
    stable_tokens: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, raw: RawEvents) -> Listing:
        listing = cls()
        for row in rows(raw, "ReserveInitialized"):
            listing.assets.append(address_text(row["asset"]))
            listing.logs.append(row)
            listing.a_tokens.append(address_text(row["a_token"]))
            listing.debt_tokens.append(address_text(row["variable_debt_token"]))
            listing.stable_tokens.append(address_text(row["stable_debt_token"]))
        return listing

    def sets(self) -> Mapping[str, pa.Array]:
        """Value sets that turn addresses into asset numbers: by role of the emitter, and ``reserve``."""
        return {
            "reserve": address_set(self.assets),
            "aToken": address_set(self.a_tokens),
            "debt token": address_set(self.debt_tokens),
            "stable debt token": address_set(self.stable_tokens),
        }


def assets_table(config: MarketConfig, raw: RawEvents, listing: Listing) -> pa.Table:
    """Canonical ``assets``; symbols and decimals from ``raw/chain/Token``."""
    known = {address_text(row["address"]): row for row in rows(raw, "raw/chain/Token")}
    body = []
    for asset, address in enumerate(listing.assets):
        if address not in known:
            raise RulesError(f"nothing says the decimals of reserve {address}", INCOMPLETE)
        body.append(
            {
                "market": config.name,
                "asset_id": asset,
                "asset": address,
                "symbol": known[address]["symbol"],
                "decimals": known[address]["decimals"],
                "collateral_token": listing.a_tokens[asset],
                "debt_token": listing.debt_tokens[asset],
            }
        )
    return pa.Table.from_pylist(body, CANONICAL["assets"])


def revisions(raw: RawEvents) -> list[tuple[Mapping[str, Any], int]]:
    """The log and the revision of every implementation of the pool, in chain order; UserError where one was not
    read.
    """
    read = {
        (address_text(row["address"]), address_text(row["implementation"])): int(row["revision"])
        for row in rows(raw, "raw/chain/Revision")
    }
    found = []
    for row, proxy, code in pool_changes(raw):
        if (proxy, code) not in read:
            raise UserError(
                f"the revision of {code}, which {proxy} runs from block {row['block_number']} on, is not in the lake",
                "run the fetch again: it reads what is missing",
            )
        found.append((row, read[proxy, code]))
    return found


def refuse_other_units(config: MarketConfig, raw: RawEvents) -> None:
    """UserError where the oracle says that a price has other decimals than the market's description does."""
    said = [(row, int(row["base_currency_unit"])) for row in rows(raw, "BaseCurrencySet")]
    said += [(row, WAD) for row in rows(raw, "WethSet")]
    for row, unit in said:
        if unit != 10**config.base_decimals:
            raise UserError(
                f"market '{config.name}': base_decimals = {config.base_decimals}, but the oracle"
                f" {address_text(row['address'])} says at block {row['block_number']} that one unit of its base"
                f" currency is {unit}",
                "correct base_decimals (and base_currency) in the market's description; a changed one needs a new lake",
            )
