"""Configuration logs to parameters over time. Few rows, read whole.

Names and units are those of ``backtest.tables.CANONICAL['params']``: basis points, a bonus is 10000 + bonus; a flag is
0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from backtest.markets import MarketConfig
from backtest.protocols import RawEvents
from backtest.protocols.aave_v3.events import STRATEGY_EVENTS, STRATEGY_GETTERS, address_text
from backtest.protocols.aave_v3.kernel import Addresses
from backtest.protocols.aave_v3.reserves import Listing, Versions, rows
from backtest.tables import CANONICAL

# Event to (parameter, column of its value) of one asset.
_OF_ASSET: dict[str, tuple[tuple[str, str], ...]] = {
    "CollateralConfigurationChanged": (
        ("ltv", "ltv"),
        ("liquidation_threshold", "liquidation_threshold"),
        ("liquidation_bonus", "liquidation_bonus"),
    ),
    "LiquidationProtocolFeeChanged": (("liquidation_protocol_fee", "new_fee"),),
    "ReserveActive": (("active", "active"),),
    "ReservePaused": (("paused", "paused"),),
    "ReserveFrozen": (("frozen", "frozen"),),
    "ReserveBorrowing": (("borrowing_enabled", "enabled"),),
    "ReserveFactorChanged": (("reserve_factor", "new_reserve_factor"),),
    "SupplyCapChanged": (("supply_cap", "new_supply_cap"),),
    "BorrowCapChanged": (("borrow_cap", "new_borrow_cap"),),
    "DebtCeilingChanged": (("debt_ceiling", "new_debt_ceiling"),),
    "LiquidationGracePeriodChanged": (("grace_until", "grace_period_until"),),
    "EModeAssetCategoryChanged": (("emode_category", "new_category_id"),),
    "BorrowableInIsolationChanged": (("borrowable_in_isolation", "borrowable"),),
    "SiloedBorrowingChanged": (("siloed", "new_state"),),
}
_OF_CATEGORY: dict[str, tuple[tuple[str, str], ...]] = {
    "EModeCategoryAdded": (
        ("emode_ltv", "ltv"),
        ("emode_liquidation_threshold", "liquidation_threshold"),
        ("emode_liquidation_bonus", "liquidation_bonus"),
    ),
    "EModeCategoryIsolationChanged": (("emode_isolated", "isolated"),),
}
# The bitmaps of 3.2 and later are only ever written by these (``PoolConfigurator``): the upgrade to 3.2 filled them
# from the old categories with one log each (bgd-labs/protocol-v3.2-upgrade, UpgradePayload.execute), so nothing is
# seeded here.
_MEMBERSHIP = {
    "AssetCollateralInEModeChanged": ("emode_collateral", "collateral"),
    "AssetBorrowableInEModeChanged": ("emode_borrowable", "borrowable"),
    "AssetLtvzeroInEModeChanged": ("emode_ltvzero", "ltvzero"),
}
# What a listing sets (``ConfiguratorLogic.executeInitReserve``: an empty configuration, then active).
_LISTED = {
    "ltv": 0,
    "liquidation_threshold": 0,
    "liquidation_bonus": 0,
    "liquidation_protocol_fee": 0,
    "active": 1,
    "paused": 0,
    "frozen": 0,
    "borrowing_enabled": 0,
    "reserve_factor": 0,
    "supply_cap": 0,
    "borrow_cap": 0,
    "debt_ceiling": 0,
}
# ``IDefaultInterestRateStrategyV2.InterestRateData``, ABI-encoded in the data of ReserveInterestRateDataChanged (3.1+),
# bps there and rays here; a strategy with data of another shape gives no rates.
_RATES = ("optimal_usage", "base_rate", "slope1", "slope2")
_RAY_PER_BPS = 10**23

Entry = tuple[Mapping[str, Any], str, int, int | None, int | None]
"""Log, parameter, value, asset, category."""


def parameters(
    config: MarketConfig, raw: RawEvents, listing: Listing, versions: Versions, accounts: Addresses
) -> pa.Table:
    """All parameters, in chain order; those of one log in the order of the tables above."""
    found = sorted(_entries(raw, listing, versions, accounts), key=lambda entry: entry[0]["seq"])
    body = [
        {
            "market": config.name,
            **{name: log[name] for name in ("seq", "block_number", "log_index", "timestamp")},
            "asset_id": asset,
            "category": category,
            "name": name,
            "value": value,
        }
        for log, name, value, asset, category in found
    ]
    return pa.Table.from_pylist(body, CANONICAL["params"])


def _entries(raw: RawEvents, listing: Listing, versions: Versions, accounts: Addresses) -> Iterator[Entry]:
    number = {address: asset for asset, address in enumerate(listing.assets)}

    def asset_of(row: Mapping[str, Any], column: str = "asset") -> int:
        return number[address_text(row[column])]

    for change in versions.pool:
        yield change.row, "pool_revision", change.revision, None, None
    for token, history in zip(listing.tokens, versions.tokens, strict=True):
        name = "collateral_token_revision" if token.kind == "collateral" else "debt_token_revision"
        for change in history:
            yield change.row, name, change.revision, token.asset, None
    for reserve in listing.reserves:
        yield reserve.row, "reserve_id", reserve.id, reserve.asset, None
        for name, value in _LISTED.items():
            yield reserve.row, name, value, reserve.asset, None
    initialized = rows(raw, "ATokenInitialized")
    treasuries = {row["treasury"] for row in initialized}
    ids = {address: account for account, address in enumerate(accounts.all()) if address in treasuries}
    for row in initialized:
        yield row, "treasury", ids[row["treasury"]], asset_of(row, "underlying_asset"), None
    for event, columns in _OF_ASSET.items():
        for row in rows(raw, event):
            for name, column in columns:
                yield row, name, int(row[column]), asset_of(row), None
    for row in rows(raw, "LiquidationGracePeriodDisabled"):
        yield row, "grace_until", 0, asset_of(row), None
    for row in rows(raw, "ReserveInterestRateDataChanged"):
        for place, name in enumerate(_RATES if len(row["data"]) == 32 * len(_RATES) else ()):
            yield (
                row,
                name,
                int.from_bytes(row["data"][32 * place : 32 * place + 32], "big") * _RAY_PER_BPS,
                asset_of(row),
                None,
            )
    yield from _strategies(raw, asset_of)
    for event, columns in _OF_CATEGORY.items():
        for row in rows(raw, event):
            for name, column in columns:
                yield row, name, int(row[column]), None, row["category_id"]
    yield from _price_sources(raw, listing)
    for event, (name, column) in _MEMBERSHIP.items():
        for row in rows(raw, event):
            yield row, name, int(row[column]), asset_of(row), row["category_id"]
    for row in rows(raw, "FlashloanPremiumTotalUpdated"):
        yield row, "flash_premium_total", int(row["new_flashloan_premium_total"]), None, None
    for row in rows(raw, "FlashloanPremiumToProtocolUpdated"):
        yield row, "flash_premium_to_protocol", int(row["new_flashloan_premium_to_protocol"]), None, None
    for row in rows(
        raw,
        "FlashLoan",
        # what it left in the reserve, also nothing: no parameter, but a call that accrues (one that became a debt is a
        # borrow)
    ):
        if not row["interest_rate_mode"]:
            yield row, "flash_premium", int(row["premium"]), asset_of(row), None


def _price_sources(raw: RawEvents, listing: Listing) -> Iterator[Entry]:
    """The asset whose price a category takes (``PoolConfigurator.setEModeCategory``, to 3.1), -1 for none; of
    categories that ever had one.
    """
    priced: set[int] = set()
    for row in rows(raw, "EModeCategoryAdded"):
        source = listing.priced.get(address_text(row["oracle"]), -1)
        priced |= {row["category_id"]} if source >= 0 else set()
        if row["category_id"] in priced:
            yield row, "emode_price_source", source, None, row["category_id"]


def _strategies(raw: RawEvents, asset_of: Callable[..., int]) -> Iterator[Entry]:
    """Rates of the strategy contracts of 3.0, from where a reserve uses one; none where it has no such constants."""
    constants = {(row["address"], row["name"]): row["value"] for row in raw.table("raw/chain/Constant").to_pylist()}
    for event, column in STRATEGY_EVENTS.items():
        for row in rows(raw, event):
            values = {name: constants.get((row[column], getter)) for name, getter in STRATEGY_GETTERS.items()}
            known = {name: int(value) for name, value in values.items() if value is not None}
            if len(known) == len(values):
                for name, number in known.items():
                    yield row, name, number, asset_of(row), None
