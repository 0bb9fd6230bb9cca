"""Market descriptions: which protocol, on which chain, at which addresses. TOML files, one per market."""

from __future__ import annotations

import re

import msgspec

from backtest.errors import UserError

_ADDRESS = re.compile(r"^0x[0-9a-fA-F]{40}$")


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One market, as in ``data/markets/*.toml``.

    ``contracts`` maps a role of the protocol (for Aave V3: provider, pool, configurator, oracle) to its address;
    ``start_block`` is the first block in which any of them emitted a log, or one before it; ``base_currency`` and
    ``base_decimals`` are the name and decimals of the oracle's base currency; ``price_decimals`` are those of its exact prices where they
    have more. ``parameters`` say which of several markets in the same contracts this is, in the protocol's own words (Maker: ilk; Morpho
    Blue: id).
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

    def __post_init__(self) -> None:
        if self.price_decimals is not None and self.price_decimals < self.base_decimals:
            raise UserError(
                f"market '{self.name}': price_decimals = {self.price_decimals} is below base_decimals = {self.base_decimals}", "lower base_decimals"
            )
        if self.start_block < 0:
            raise UserError(f"market '{self.name}': start_block = {self.start_block}", "block numbers start at 0")
        for role, address in self.contracts.items():
            if not _ADDRESS.match(address):
                raise UserError(f"market '{self.name}': contracts.{role} = '{address}' is not an address", "give 0x and 40 hex digits")
        msgspec.structs.force_setattr(self, "contracts", {role: address.lower() for role, address in self.contracts.items()})


def parse_market(text: str, where: str) -> MarketConfig:
    """A market from TOML text; ``where`` names its file in errors."""
    try:
        return msgspec.toml.decode(text, type=MarketConfig)
    except msgspec.DecodeError as error:
        raise UserError(f"{where}: {error}", "see data/markets for complete examples") from None
