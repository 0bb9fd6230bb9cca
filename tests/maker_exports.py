"""Exports of one ilk as ``backtest import`` stores them, made from rows of tests or from the real files where they are there."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest.markets import MarketConfig
from backtest.tables import IMPORTED

FLOW, LIQUIDATION, PARAMETER = "raw/import/Flow", "raw/import/Liquidation", "raw/import/Parameter"
COLLATERAL, DAI = "eth", "dai"
CONFIG = MarketConfig(name="vaults", protocol="maker", chain_id=1, start_block=0, contracts={}, base_decimals=18, parameters={"ilk": "ETH-B"})

# CSV parameter to (name here, decimals of a unit, what is added).
_PARAMETERS: dict[str, tuple[str, int, Decimal]] = {
    "JUG.ilks.duty": ("stability_fee", 27, Decimal(0)),
    "SPOTTER.ilks.mat": ("liquidation_ratio", 27, Decimal(0)),
    "CAT.ilks.chop": ("liquidation_penalty", 18, Decimal(1)),
    "DOG.ilks.chop": ("liquidation_penalty", 18, Decimal(1)),
    "CAT.ilks.dunk": ("dunk", 18, Decimal(0)),
    "DOG.ilks.hole": ("hole", 18, Decimal(0)),
    "VAT.ilks.dust": ("dust", 18, Decimal(0)),
    "VAT.ilks.line": ("line", 18, Decimal(0)),
    "FLIPPER.beg": ("beg", 18, Decimal(1)),
    "FLIPPER.ttl": ("ttl", 0, Decimal(0)),
    "FLIPPER.tau": ("tau", 0, Decimal(0)),
    "CLIPPER.buf": ("buf", 27, Decimal(0)),
    "CLIPPER.tail": ("tail", 0, Decimal(0)),
    "CLIPPER.cusp": ("cusp", 27, Decimal(0)),
    "CLIPPER.chip": ("chip", 18, Decimal(0)),
    "CLIPPER.tip": ("tip", 18, Decimal(0)),
}


class MemoryRaw:
    """``RawEvents`` of rows in memory; rows get ``seq`` in the order of (block_number, log_index)."""

    def __init__(self, rows: Mapping[str, Sequence[Mapping[str, Any]]], parameters: Mapping[str, str] | None = None) -> None:
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
    known = {"transaction_hash": bytes(32), "ordered": True, "ambiguous": False, "source_digest": bytes(32), "source_row": source_row}
    return {"block_number": block, "log_index": log, "timestamp": timestamp, **known}


# -- the real files ----------------------------------------------------------------------------------------------------


def real_folder() -> Path:
    """The folder of real history; the test is skipped, with a message, where it is absent."""
    folder = Path(os.environ.get("BACKTEST_REAL_DATA", Path(__file__).parents[2] / "shared" / "real"))
    if not (folder / "maker_eth_b").is_dir():
        pytest.skip(f"no real history in {folder}: set BACKTEST_REAL_DATA")
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _time(text: str) -> int:
    text = text.rstrip("Z").replace("T", " ")
    date, clock = text.split(" ")
    hours, minutes, seconds = clock.split(":")
    return int(datetime.fromisoformat(f"{date}T{int(hours):02}:{minutes}:{seconds}").replace(tzinfo=UTC).timestamp())


def _wad(text: str, decimals: int = 18) -> int:
    return int((Decimal(text) * 10**decimals).to_integral_value(rounding="ROUND_FLOOR"))


def _chained(changes: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Changes of one parameter in one block in the order in which each starts from the value before."""
    value: dict[str, str] = {}
    left = list(changes)
    while left:
        row = next((row for row in left if Decimal(row["FROM_VALUE"]) == Decimal(value.get(row["PARAMETER"], "0"))), left[0])
        left.remove(row)
        value[row["PARAMETER"]] = row["TO_VALUE"]
        yield row


def real_history(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """``maker_eth_b`` as imported rows: parameters first in a block, then what has a log index, deposits last."""
    source = folder / "maker_eth_b"
    urns = {row["VAULT_NUMBER"]: row["URN_ADDRESS"] for row in _rows(source / "creations.csv")}
    flows, parameters, liquidations = [], [], []
    places: dict[int, int] = {}

    def place(row: Mapping[str, str]) -> dict[str, Any]:
        block = int(row.get("BLOCK_NUMBER") or row["BLOCK"])
        places[block] = places.get(block, -1) + 1
        return key(block, places[block], _time(row.get("BLOCK_TIMESTAMP") or row["TIMESTAMP"]))

    for row in _chained(_rows(source / "parameter_changes.csv")):
        if row["PARAMETER"] in _PARAMETERS:
            name, decimals, more = _PARAMETERS[row["PARAMETER"]]
            value = _wad(str(Decimal(row["TO_VALUE"]) + more), decimals)
            parameters.append({**place(row), "name": name, "asset": None, "category": None, "value": value})
    indexed: list[tuple[dict[str, str], str, str, int, str]] = []
    for file, side, action, sign, column in (
        ("borrows", "debt", "borrow", 1, "DAI_MINTED"),
        ("repayments", "debt", "repay", -1, "DAI_REPAYED"),
        ("withdrawals", "collateral", "withdraw", -1, "WITHDRAWN_AMOUNT_ADJ"),
        ("liquidations", "", "liquidation", 0, ""),
    ):
        indexed += [(row, side, action, sign, column) for row in _rows(source / f"{file}.csv")]
    indexed.sort(key=lambda found: (int(found[0]["BLOCK_NUMBER"]), int(found[0]["EVENT_INDEX"])))
    deposits = [(row, "collateral", "supply", 1, "DEPOSIT_AMOUNT_ADJ") for row in _rows(source / "deposits.csv")]
    for row, side, action, sign, column in [*indexed, *deposits]:
        account = urns[row["VAULT_NUMBER"]]
        if action == "liquidation":
            liquidations.append(
                {
                    **place(row),
                    "account": account,
                    "liquidator": row["ORIGIN_FROM_ADDRESS"],
                    "debt_asset": DAI,
                    "collateral_asset": COLLATERAL,
                    "repaid": _wad(row["DAI_REPAYED_AMOUNT"]),
                    "debt_scaled": _wad(row["DEBT_TO_COVER_AMOUNT"]),
                    "seized": _wad(row["COLLATERAL_LIQUIDATED_AMOUNT"]),
                    "bad_debt": None,
                }
            )
            continue
        asset = DAI if side == "debt" else COLLATERAL
        flows.append({**place(row), "account": account, "asset": asset, "side": side, "action": action, "amount": sign * _wad(row[column])})
    return {FLOW: flows, LIQUIDATION: liquidations, PARAMETER: parameters}


def real_candles(folder: Path) -> list[tuple[int, int, int, int]]:
    """(time, open, low, high) of each hour, prices in wad."""
    found = _rows(folder / "prices" / "eth_usd_1h_2020_2021.csv")
    return [(_time(row["hour_utc"]), _wad(row["open"]), _wad(row["low"]), _wad(row["high"])) for row in found]
