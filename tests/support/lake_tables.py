"""Tiny lakes for tests: canonical tables from lists of dicts, and a lake that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from backtest import tables
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.reconstruct import stamp

MARKET = "toy"
CONFIG = MarketConfig(
    name=MARKET, protocol="aave-v3", chain_id=31337, start_block=1, contracts={"pool": "0x" + "11" * 20}
)
RAY = 10**27
SUPPLY = pa.schema(
    [
        *tables.RAW_KEY,
        pa.field("reserve", tables.ADDRESS, nullable=False),
        pa.field("amount", tables.AMOUNT, nullable=False),
    ]
)
Rows = Sequence[Mapping[str, Any]]


def account(number: int) -> str:
    """A made-up address."""
    return f"0x{number:040x}"


def table(schema: pa.Schema, rows: Rows) -> pa.Table:
    """Rows in the schema's columns; a missing key is null."""
    return pa.table([pa.array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema)


def canonical(data: Mapping[str, Rows], market: str = MARKET) -> dict[str, pa.Table]:
    """Canonical tables by dataset name. ``market`` is filled in; ``log_index`` defaults to 0, ``timestamp`` to 12
    seconds a block.
    """
    out = {}
    for name, rows in data.items():
        full = [{"market": market, "log_index": 0, "timestamp": 12 * row.get("block_number", 0), **row} for row in rows]
        out[f"canonical/{name}"] = table(tables.CANONICAL[name], full)
    return out


def write(path: Path, data: Mapping[str, Rows], config: MarketConfig = CONFIG) -> Lake:
    """A lake whose one market holds these canonical tables."""
    lake = Lake(path, create=True)
    with lake.writer() as writer:
        writer.set_market(config)
        writer.replace(
            config.name, "canonical/", iter(canonical(data, config.name).items()), stamp=stamp(lake, config.name)
        )
    return lake


def supplies(blocks: Sequence[int], amount: int = 7) -> pa.Table:
    """Raw Supply events, one in each of these blocks (several in a block get rising log indexes)."""
    rows = []
    seen: dict[int, int] = {}
    for place, block in enumerate(blocks):
        seen[block] = seen.get(block, -1) + 1
        rows.append(
            {
                "block_number": block,
                "transaction_index": 0,
                "log_index": seen[block],
                "transaction_hash": bytes(31) + bytes([place % 256]),
                "address": bytes(20),
                "reserve": bytes(20),
                "amount": amount + place,
            }
        )
    return table(SUPPLY, rows)
