"""Configuration logs to parameters over time. Few rows, read whole.

Names and units are those of ``backtest.tables.CANONICAL['params']``: basis points, a bonus is 10000 + bonus; a flag is
0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from backtest.markets import MarketConfig
from backtest.protocols.aave.addresses import Addresses
from backtest.protocols.aave.columns import address_text, rows
from backtest.protocols.aave_v3.events import STABLE_GETTERS, STRATEGY_EVENTS, STRATEGY_GETTERS
from backtest.protocols.aave_v3.reserves import Drop, ListedReserve, Listing, Versions
from backtest.protocols.interface import RawEvents
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
# seeded here. A bit is that of a reserve id, whichever asset has it: see ``_memberships``.
_MEMBERSHIP = {
    "AssetCollateralInEModeChanged": ("emode_collateral", "collateral"),
    "AssetBorrowableInEModeChanged": ("emode_borrowable", "borrowable"),
    "AssetLtvzeroInEModeChanged": ("emode_ltvzero", "ltvzero"),
}
# What a listing sets (``ConfiguratorLogic.executeInitReserve``: an empty configuration, then active), and a drop leaves
# (``PoolLogic.executeDropReserve`` deletes the reserve's data).
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
    "grace_until": 0,
    "emode_category": 0,
    "borrowable_in_isolation": 0,
    "siloed": 0,
}
_DROPPED = {**_LISTED, "active": 0}
_ZEROES_FROZEN_FROM_POOL = 4
"""First pool revision (3.1) whose configurator takes a frozen reserve's loan-to-value away."""
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
    for drop in listing.drops:
        for name, value in _DROPPED.items():
            yield drop.row, name, value, drop.asset, None
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
    yield from _memberships(raw, listing, number)
    yield from _withheld(raw, listing, versions, number)
    for row in rows(raw, "FlashloanPremiumTotalUpdated"):
        yield row, "flash_premium_total", int(row["new_flashloan_premium_total"]), None, None
    for row in rows(raw, "FlashloanPremiumToProtocolUpdated"):
        yield row, "flash_premium_to_protocol", int(row["new_flashloan_premium_to_protocol"]), None, None
    for row in rows(raw, "BridgeProtocolFeeUpdated"):
        yield row, "bridge_fee_to_protocol", int(row["new_bridge_protocol_fee"]), None, None
    for row in rows(raw, "BackUnbacked"):  # as a flash loan's premium: no parameters, but a call
        yield row, "bridge_fee", int(row["fee"]), asset_of(row, "reserve"), None
        yield row, "backed", int(row["amount"]), asset_of(row, "reserve"), None
    for row in rows(
        raw,
        "FlashLoan",
        # what it left in the reserve, also nothing: no parameter, but a call that accrues (one that became a debt is a
        # borrow)
    ):
        if not row["interest_rate_mode"]:
            yield row, "flash_premium", int(row["premium"]), asset_of(row), None


def _memberships(raw: RawEvents, listing: Listing, number: Mapping[str, int]) -> Iterator[Entry]:
    """Who is on an e-mode category's lists: the asset whose reserve id has its bit there.

    A bitmap outlives the reserve (``executeDropReserve`` does not touch it): the next one in its place is on the same
    lists, and the one that left, listed again elsewhere, is on those of its new place. A log for an asset that is not
    listed (refused from 3.6 on) writes the bit of id 0 (``PoolConfigurator.setAssetCollateralInEMode``,
    ``setAssetBorrowableInEMode``).
    """
    steps: list[tuple[Mapping[str, Any], ListedReserve | Drop | None, str]] = []
    steps += [(reserve.row, reserve, "") for reserve in listing.reserves]
    steps += [(drop.row, drop, "") for drop in listing.drops]
    steps += [(row, None, event) for event in _MEMBERSHIP for row in rows(raw, event)]
    bits: dict[tuple[str, int], set[int]] = {}
    place: dict[int, int] = {}  # reserve id to the asset that has it
    for row, change, event in sorted(steps, key=lambda step: step[0]["seq"]):
        if change is None:
            name, column = _MEMBERSHIP[event]
            asset, category, on = number.get(address_text(row["asset"])), row["category_id"], bool(row[column])
            id = next((id for id, holder in place.items() if holder == asset), 0)
            ids = bits.setdefault((name, category), set())
            (ids.add if on else ids.discard)(id)
            if id in place:
                yield row, name, int(on), place[id], category
            continue
        listed = isinstance(change, ListedReserve)
        for (name, category), ids in bits.items():
            if change.id in ids:
                yield row, name, int(listed), change.asset, category
        if listed:
            place[change.id] = change.asset
        else:
            del place[change.id]


def _withheld(raw: RawEvents, listing: Listing, versions: Versions, number: Mapping[str, int]) -> Iterator[Entry]:
    """``ltv_withheld``: 1 where a loan-to-value of 0 is not the reserve's own, which waits: while it is frozen from 3.1
    on, or as long as one is pending (PoolConfigurator setReserveFreeze, configureReserveAsCollateral,
    setReserveLtvzero).

    In 3.6 unfreezing does not bring it back: it stays pending until it is set, or taken, again. In 3.0 a freeze changes
    nothing about it.
    """
    events = ("PendingLtvChanged", "CollateralConfigurationChanged", "ReserveFrozen")
    steps: list[tuple[int, str, Mapping[str, Any]]] = []
    steps += [(row["seq"], event, row) for event in events for row in rows(raw, event)]
    steps += [(change.row["seq"], "Pool", change.row) for change in versions.pool]
    empty = [reserve.row for reserve in listing.reserves] + [drop.row for drop in listing.drops]
    steps += [(row["seq"], "Empty", row) for row in empty]
    ltv, pending, frozen, withheld = (dict.fromkeys(range(len(listing.assets)), 0) for _ in range(4))
    for seq, event, row in sorted(steps, key=lambda step: step[0]):
        touched = list(withheld) if event == "Pool" else [number[address_text(row["asset"])]]
        for asset in touched:
            if event == "PendingLtvChanged":
                pending[asset] = int(row["ltv"])
            elif event == "CollateralConfigurationChanged":
                ltv[asset] = int(row["ltv"])
            elif event == "ReserveFrozen":
                frozen[asset] = int(row["frozen"])
            elif event == "Empty":  # what is pending is the configurator's, and stays
                ltv[asset] = frozen[asset] = 0
            by_freeze = frozen[asset] and versions.pool_at(seq) >= _ZEROES_FROZEN_FROM_POOL
            now = int(not ltv[asset] and bool(pending[asset] or by_freeze))
            if now != withheld[asset]:
                withheld[asset] = now
                yield row, "ltv_withheld", now, asset, None


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
            for getters in (STRATEGY_GETTERS, STABLE_GETTERS):
                values = {name: constants.get((row[column], getter)) for name, getter in getters.items()}
                known = {name: int(value) for name, value in values.items() if value is not None}
                if len(known) == len(values):
                    for name, number in known.items():
                        yield row, name, number, asset_of(row), None
