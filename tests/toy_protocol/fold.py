"""Logs of the shop, and the canonical tables that they come to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from backtest.markets import MarketConfig
from backtest.model import EventSpec
from backtest.protocols.interface import RawEvents
from backtest.tables import CANONICAL
from backtest.units import RAY
from tests.toy_protocol.rules import ETH, USDX

EVENTS: tuple[EventSpec, ...] = (
    EventSpec("Terms", "Terms(uint16 threshold, uint16 bonus)", "shop"),
    EventSpec("Priced", "Priced(uint256 price)", "shop"),
    EventSpec("Pledged", "Pledged(address indexed user, int256 eth)", "shop"),
    EventSpec("Lent", "Lent(address indexed user, int256 usdx)", "shop"),
    EventSpec("Seized", "Seized(address indexed user, address indexed by, uint256 repaid, uint256 eth)", "shop"),
)
_ASSETS = ((ETH, "0x" + "e1" * 20, "ETH", 18), (USDX, "0x" + "d1" * 20, "USDX", 6))
_MOVES = {
    "Pledged": (ETH, "collateral", "eth", "supply", "withdraw"),
    "Lent": (USDX, "debt", "usdx", "borrow", "repay"),
}


def fold(config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
    """See ``LendingProtocol.fold``: one log is one action."""
    logs = [(event.name, row) for event in EVENTS for row in raw.table(event.name).to_pylist()]
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    ids: dict[str, int] = {}
    for event, log in sorted(logs, key=lambda each: each[1]["seq"]):
        place = {name: log[name] for name in ("seq", "block_number", "log_index", "timestamp")}
        for table, columns in _rows(event, log, ids):
            rows[table].append({"market": config.name, **place, **columns})
    head = {"market": config.name}
    rows["assets"] = [
        {**head, "asset_id": a, "asset": b, "symbol": c, "decimals": d, "collateral_token": None, "debt_token": None}
        for a, b, c, d in _ASSETS
    ]
    rows["accounts"] = [{**head, "account_id": number, "account": account} for account, number in ids.items()]
    for name, found in rows.items():
        yield name, pa.Table.from_pylist(found, CANONICAL[name])


def _rows(event: str, log: Mapping[str, Any], ids: dict[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    def known(address: bytes) -> int:
        return ids.setdefault("0x" + address.hex(), len(ids))

    if event == "Terms":
        for asset in (ETH, USDX):
            still = {"supply_index": RAY, "borrow_index": RAY, "supply_rate": 0, "borrow_rate": 0}
            yield "indexes", {"asset_id": asset, **still}
        for name, value in (("liquidation_threshold", log["threshold"]), ("liquidation_bonus", log["bonus"])):
            yield "params", {"asset_id": ETH, "category": None, "name": name, "value": value}
        yield "prices", _price(USDX, 10**8, "fixed")
    elif event == "Priced":
        yield "prices", _price(ETH, int(log["price"]), "feed")
    elif event in _MOVES:
        asset, side, column, more, less = _MOVES[event]
        delta = int(log[column])
        yield "position_events", _move(log, known(log["user"]), asset, side, delta, more if delta > 0 else less)
    else:
        account, repaid, seized = known(log["user"]), int(log["repaid"]), int(log["eth"])
        yield "position_events", _move(log, account, USDX, "debt", -repaid, "liquidation")
        yield "position_events", _move(log, account, ETH, "collateral", -seized, "liquidation")
        yield (
            "liquidations",
            {
                "transaction_hash": log["transaction_hash"],
                "account_id": account,
                "liquidator_id": known(log["by"]),
                "debt_asset_id": USDX,
                "collateral_asset_id": ETH,
                "repaid": repaid,
                "seized": seized,
                "protocol_fee": 0,
                "receive_collateral_token": False,
            },
        )


def _price(asset: int, price: int, method: str) -> dict[str, Any]:
    return {"asset_id": asset, "price": price, "source": None, "method": method, "exact": True}


def _move(log: Mapping[str, Any], account: int, asset: int, side: str, delta: int, action: str) -> dict[str, Any]:
    whose = {"account_id": account, "asset_id": asset, "side": side, "delta": delta}
    return {**whose, "action": action, "action_seq": log["seq"], "amount": abs(delta)}
