"""Logs of a branch of Liquity V2, written by hand, as a fold reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.markets import MarketConfig
from backtest.protocols.liquity_v2.events import EVENTS, ORACLE, TERMS
from backtest.tables import QUARANTINE, RAW_STATE
from tests.protocols.liquity_v2.hand import E18, START

SPECS = {spec.name: spec for spec in EVENTS}
NAMES = (
    "TroveManager", "BorrowerOperations", "StabilityPool", "ActivePool", "PriceFeed", "DefaultPool",
    "CollSurplusPool", "CollToken", "BoldToken", "WETH",
)  # fmt: skip
AT = {name: bytes([0xC0 + number]) * 20 for number, name in enumerate(NAMES)} | {"WETH": bytes([0xC7]) * 20}
REGISTRY = b"\xcf" * 20
VALUES = {
    "MCR": 11 * E18 // 10, "CCR": 15 * E18 // 10, "SCR": 11 * E18 // 10, "BCR": E18 // 10,
    "LIQUIDATION_PENALTY_SP": E18 // 20, "LIQUIDATION_PENALTY_REDISTRIBUTION": E18 // 10,
}  # fmt: skip
CONFIG = MarketConfig(
    name="hand", protocol="liquity-v2", chain_id=1, start_block=1, base_decimals=18,
    contracts={"addresses_registry": "0x" + REGISTRY.hex(), "trove_manager": "0x" + AT["TroveManager"].hex()},
)  # fmt: skip


def trove(number: int) -> bytes:
    """A trove's id."""
    return bytes([number]) * 32


class Logs:
    """``RawEvents`` of logs, each call in a block of its own, at a time in seconds after the start."""

    parameters: Mapping[str, str] = {}

    def __init__(self, *, ether: bool = True) -> None:
        self.logs: list[tuple[int, str, dict[str, Any]]] = []
        for name, address in AT.items():
            target = address if ether or name != "WETH" else bytes([0xEE]) * 20
            self.logs.append((0, f"{name}AddressChanged", {"target": target}))

    def add(self, time: int, event: str, **columns: Any) -> None:
        """One log; what it does not say is zero."""
        self.logs.append((time, event, columns))

    def table(self, event: str) -> pa.Table:
        """See ``RawEvents.table``."""
        if event == "raw/chain/Token":
            rows = [
                {"address": AT["CollToken"], "symbol": "WETH", "decimals": 18},
                {"address": AT["BoldToken"], "symbol": "BOLD", "decimals": 18},
            ]
            return pa.Table.from_pylist(rows, RAW_STATE[event])
        if event in ("raw/chain/Reference", "raw/chain/Constant"):
            told: list[dict[str, Any]] = [{"address": REGISTRY, "name": name, "value": VALUES[name]} for name in TERMS]
            if event == "raw/chain/Reference":
                told = [{"address": AT["PriceFeed"], "name": ORACLE, "target": b"\xfe" * 20}]
            schema = RAW_STATE[event]
            return pa.Table.from_pylist([{name: row.get(name, 10) for name in schema.names} for row in told], schema)
        if event == "Quarantine":
            return QUARANTINE.empty_table()
        own = event_schema(SPECS[event])
        rows = []
        for seq, (time, name, columns) in enumerate(self.logs):
            if name == event:
                key = {
                    "seq": seq, "timestamp": START + time, "block_number": 10 + time, "transaction_index": 0,
                    "log_index": seq, "transaction_hash": bytes(32), "address": REGISTRY,
                }  # fmt: skip
                empty = {field.name: b"" if pa.types.is_binary(field.type) else 0 for field in own}
                rows.append({**empty, **key, **columns})
        head = pa.schema([("seq", pa.int64()), ("timestamp", pa.int64())])
        return pa.Table.from_pylist(rows, pa.schema([*head, *own]))

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        """In one piece."""
        yield {name: self.table(name).select(["seq", "timestamp", *wanted]) for name, wanted in columns.items()}
