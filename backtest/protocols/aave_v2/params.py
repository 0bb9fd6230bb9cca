"""Configuration logs to parameters over time. Few rows, read whole.

Names and units are those of ``backtest.tables.CANONICAL['params']``: basis points, a bonus is 10000 + bonus; a flag is
0 or 1. ``paused`` is of the market as a whole. ``other_balances`` marks an asset whose aToken these rules do not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.markets import MarketConfig
from backtest.protocols.aave.columns import address_text, integers, numbers_of, rows
from backtest.protocols.aave_v2.events import STRATEGY_EVENTS, STRATEGY_GETTERS
from backtest.protocols.aave_v2.reserves import Listing, revisions
from backtest.protocols.aave_v2.rules import OTHER_BALANCES
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL

_OF_ASSET: dict[str, tuple[tuple[str, str], ...]] = {
    "CollateralConfigurationChanged": (
        ("ltv", "ltv"),
        ("liquidation_threshold", "liquidation_threshold"),
        ("liquidation_bonus", "liquidation_bonus"),
    ),
    "ReserveFactorChanged": (("reserve_factor", "factor"),),
    "BorrowingEnabledOnReserve": (("stable_borrowing_enabled", "stable_rate_enabled"),),
}
_FLAGS: dict[str, tuple[str, int]] = {
    "ReserveActivated": ("active", 1),
    "ReserveDeactivated": ("active", 0),
    "ReserveFrozen": ("frozen", 1),
    "ReserveUnfrozen": ("frozen", 0),
    "BorrowingEnabledOnReserve": ("borrowing_enabled", 1),
    "BorrowingDisabledOnReserve": ("borrowing_enabled", 0),
    "StableRateEnabledOnReserve": ("stable_borrowing_enabled", 1),
    "StableRateDisabledOnReserve": ("stable_borrowing_enabled", 0),
}
_LISTED = {
    "ltv": 0,
    "liquidation_threshold": 0,
    "liquidation_bonus": 0,
    "active": 1,
    "frozen": 0,
    "borrowing_enabled": 0,
    "stable_borrowing_enabled": 0,
    "reserve_factor": 0,
}
"""What a listing sets (``LendingPoolConfigurator.sol`` _initReserve: an empty configuration, then active)."""

Entry = tuple[Mapping[str, Any], str, int, int | None]
"""Log, parameter, value, asset."""


def parameters(config: MarketConfig, raw: RawEvents, listing: Listing, treasuries: Mapping[int, int]) -> pa.Table:
    """All parameters, in chain order; those of one log in the order of the tables above. ``treasuries``: by asset, the
    account that gets its share of the interest, which no log names: known from its first mint, it stands at the
    listing.
    """
    found = sorted(_entries(raw, listing, treasuries), key=lambda entry: entry[0]["seq"])
    body = [
        {
            "market": config.name,
            **{name: log[name] for name in ("seq", "block_number", "log_index", "timestamp")},
            "asset_id": asset,
            "category": None,
            "name": name,
            "value": value,
        }
        for log, name, value, asset in found
    ]
    return pa.Table.from_pylist(body, CANONICAL["params"])


def _entries(raw: RawEvents, listing: Listing, treasuries: Mapping[int, int]) -> Iterator[Entry]:
    number = {address: asset for asset, address in enumerate(listing.assets)}
    for row, revision in revisions(raw):
        yield row, "pool_revision", revision, None
    for asset, row in enumerate(listing.logs):
        yield row, "reserve_id", asset, asset
        for name, value in _LISTED.items():
            yield row, name, value, asset
        if asset in treasuries:
            yield row, "treasury", treasuries[asset], asset
        if listing.a_tokens[asset] in OTHER_BALANCES:
            yield row, "other_balances", 1, asset
    for event, columns in _OF_ASSET.items():
        for row in rows(raw, event):
            for name, column in columns:
                yield row, name, int(row[column]), number[address_text(row["asset"])]
    for event, (name, value) in _FLAGS.items():
        for row in rows(raw, event):
            yield row, name, value, number[address_text(row["asset"])]
    for event, value in (("Paused", 1), ("Unpaused", 0)):
        for row in rows(raw, event):
            yield row, "paused", value, None
    strategies = {(row["address"], row["name"]): row["value"] for row in rows(raw, "raw/chain/Constant")}
    for event, column in STRATEGY_EVENTS.items():
        for row in rows(raw, event):
            values = {name: strategies.get((row[column], getter)) for name, getter in STRATEGY_GETTERS.items()}
            for name, found in values.items():
                if found is not None and None not in values.values():
                    yield row, name, int(found), number[address_text(row["asset"])]
    yield from _premiums(raw, listing, number)


def _premiums(raw: RawEvents, listing: Listing, number: Mapping[str, int]) -> Iterator[Entry]:
    """``flash_premium``: what a flash loan that was paid back left in the reserve. One that became a debt has a Borrow
    of the same reserve as its last log of it before, and left nothing (``LendingPool.sol`` flashLoan).
    """
    loans = rows(raw, "FlashLoan")
    if not loans:
        return
    known = listing.sets()["reserve"]
    written = {}
    for event in ("Borrow", "ReserveDataUpdated"):
        table = raw.table(event)
        written[event] = integers(table, "seq"), numbers_of(table, "reserve", known, "reserve")
    places = {
        (event, asset): seqs[numbers == asset]
        for event, (seqs, numbers) in written.items()
        for asset in range(len(listing.assets))
    }
    for row in loans:
        asset, last = number[address_text(row["asset"])], {}
        for event in written:
            seqs = places[event, asset]
            place = int(np.searchsorted(seqs, row["seq"])) - 1
            last[event] = int(seqs[place]) if place >= 0 else -1
        if last["Borrow"] < last["ReserveDataUpdated"]:
            yield row, "flash_premium", int(row["premium"]), asset
