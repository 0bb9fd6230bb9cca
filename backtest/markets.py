"""Market descriptions: which protocol, on which chain, at which addresses. TOML files, one per market."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from backtest.errors import UserError
from backtest.foreign import Unreadable, shown, toml_value

MOST_BLOCK = (1 << 62) - 1
"""No chain has a later block, and all arithmetic of blocks fits 64 bits."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pool whose trades are fetched with a market, as in ``[[pools]]`` of its file.

    ``prices`` is the token whose market price it tells and into which pool that token is sold: its symbol or address.
    ``start_block`` is the first block with a log of the pool, or one before it; by default the market's.
    """

    address: str
    prices: str
    kind: Literal["uniswap-v3"] = "uniswap-v3"
    start_block: int | None = None

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address):
            raise UserError(
                f"pools.address = '{shown(self.address, 80)}' is not an address", "give 0x and 40 hex digits"
            )
        if self.start_block is not None and not 0 <= self.start_block <= MOST_BLOCK:
            what = f"= {self.start_block}" if abs(self.start_block) < 1 << 64 else "is out of range"
            raise UserError(f"pool {self.address}: start_block {what}", "block numbers start at 0")
        msgspec.structs.force_setattr(self, "address", self.address.lower())


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One market, as in ``data/markets/*.toml``.

    ``contracts`` maps a role of the protocol to its address;
    ``start_block`` is the first block in which any of them emitted a log, or one before it; ``base_currency`` and
    ``base_decimals`` are the name and decimals of the oracle's base currency; ``price_decimals`` are those of its exact
    prices where they have more. ``parameters`` say which of several markets in the same contracts this is, in the
    protocol's own words (``LendingProtocol.market_parameters``). ``pools`` are where its assets are traded.
    """

    name: str
    protocol: str
    chain_id: int
    start_block: int
    contracts: dict[str, str]
    description: str = ""
    base_decimals: int = 8
    base_currency: str = "USD"
    price_decimals: int | None = None
    parameters: dict[str, str] = {}
    pools: tuple[PoolConfig, ...] = ()

    def __post_init__(self) -> None:
        for name, number, low, high in (
            ("base_decimals", self.base_decimals, 0, 77),
            ("price_decimals", self.price_decimals or 0, 0, 77),
            ("start_block", self.start_block, 0, MOST_BLOCK),
            ("chain_id", self.chain_id, 0, (1 << 63) - 1),
        ):
            if not low <= number <= high:
                what = f"= {number}" if abs(number) < 1 << 64 else "is out of range"
                raise UserError(
                    f"market '{shown(self.name, 100)}': {name} {what}",
                    "block numbers start at 0" if name == "start_block" and number < 0 else f"give {low} to {high}",
                )
        if self.price_decimals is not None and self.price_decimals < self.base_decimals:
            raise UserError(
                f"market '{self.name}': price_decimals = {self.price_decimals} is below base_decimals ="
                f" {self.base_decimals}",
                "lower base_decimals",
            )
        for role, address in self.contracts.items():
            if not _ADDRESS.fullmatch(address):
                raise UserError(
                    f"market '{shown(self.name, 100)}': contracts.{shown(role, 40)} = '{shown(address, 80)}' is not an"
                    " address",
                    "give 0x and 40 hex digits",
                )
        named = [pool.address for pool in self.pools]
        if twice := next((address for address in named if named.count(address) > 1), None):
            raise UserError(f"market '{self.name}': pool {twice} is named twice", "leave one of them out")
        msgspec.structs.force_setattr(
            self, "contracts", {role: address.lower() for role, address in self.contracts.items()}
        )

    def keeping_pools_of(self, older: MarketConfig) -> MarketConfig:
        """This description with the pools that only an older one names, before its own."""
        named = {pool.address for pool in self.pools}
        kept = tuple(pool for pool in older.pools if pool.address not in named)
        return msgspec.structs.replace(self, pools=(*kept, *self.pools)) if kept else self


def parse_market(text: str, where: str) -> MarketConfig:
    """A market from TOML text; ``where`` names its file in errors."""
    try:
        config: MarketConfig = toml_value(text, MarketConfig)
    except Unreadable as error:
        raise UserError(f"{shown(where)}: {error}", "see data/markets for complete examples") from None
    if not _NAME.fullmatch(config.name):
        raise UserError(
            f"{shown(where)}: name = '{shown(config.name, 60)}' is not a market name",
            "use up to 100 lower-case letters, digits, '-', '_' and '.'",
        )
    told = (config.base_currency, *config.contracts, *config.parameters, *config.parameters.values())
    if odd := next((text for text in told if not text.isprintable()), None):
        raise UserError(f"{shown(where)}: '{shown(odd, 60)}' holds control characters", "leave them out")
    return config
