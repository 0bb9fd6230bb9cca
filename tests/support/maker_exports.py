"""Exports of one ilk as ``backtest import`` stores them, made from rows of tests; and where the real files are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest.markets import MarketConfig
from backtest.tables import IMPORTED

FLOW, LIQUIDATION, PARAMETER = "raw/import/Flow", "raw/import/Liquidation", "raw/import/Parameter"
COLLATERAL, DAI = "eth", "dai"
CONFIG = MarketConfig(
    name="vaults",
    protocol="maker",
    chain_id=1,
    start_block=0,
    contracts={},
    base_decimals=18,
    parameters={"ilk": "ETH-B"},
)


class MemoryRaw:
    """``RawEvents`` of rows in memory; rows get ``seq`` in the order of (block_number, log_index)."""

    def __init__(
        self, rows: Mapping[str, Sequence[Mapping[str, Any]]], parameters: Mapping[str, str] | None = None
    ) -> None:
        self.parameters = dict(parameters or {"ilk": "ETH-B"})
        places = sorted({(row["block_number"], row["log_index"]) for some in rows.values() for row in some})
        self.seq = {place: seq for seq, place in enumerate(places)}
        self._tables = {name: self._table(name, some) for name, some in rows.items()}

    def _table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        ordered = sorted(rows, key=lambda row: (row["block_number"], row["log_index"]))
        body = [{**row, "seq": self.seq[row["block_number"], row["log_index"]]} for row in ordered]
        schema = IMPORTED[name]
        made = pa.Table.from_pylist(body, schema)
        return made.add_column(0, "seq", pa.array([row["seq"] for row in body], pa.int64()))

    def table(self, event: str) -> pa.Table:
        return self._tables.get(event, IMPORTED.get(event, pa.schema([])).empty_table())

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        return ()


def key(block: int, log: int, timestamp: int, source_row: int = 0) -> dict[str, Any]:
    """The columns that every imported row has, as far as a fold looks at them."""
    known = {
        "transaction_hash": bytes(32),
        "ordered": True,
        "ambiguous": False,
        "source_digest": bytes(32),
        "source_row": source_row,
    }
    return {"block_number": block, "log_index": log, "timestamp": timestamp, **known}


def real_folder() -> Path:
    """The folder of real history; the test is skipped, with a message, where it is absent."""
    folder = Path(os.environ.get("BACKTEST_REAL_DATA", Path(__file__).parents[3] / "shared" / "real"))
    if not (folder / "maker_eth_b").is_dir():
        pytest.skip(f"no real history in {folder}: set BACKTEST_REAL_DATA")
    return folder
