"""Small made-up exports in the form of Maker vault exports, mappings written by tests, and a protocol that folds
imported flows.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from backtest.imports import ImportSummary, import_files, load
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.maker import MAKER
from backtest.tables import CANONICAL

ROOT = Path(__file__).parents[2]
START = 1_599_998_400  # a full hour
Row = dict[str, str]


def real(name: str) -> Path:
    """A folder of real exports; the test is skipped where they are not there."""
    folder = Path(os.environ.get("BACKTEST_REAL_DATA", ROOT.parent / "shared/real"))
    if not (folder / name).is_dir():
        pytest.skip(f"no real history in {folder}: set BACKTEST_REAL_DATA")
    return folder / name


def tx(number: int) -> str:
    """A made-up transaction hash."""
    return f"0x{number:064x}"


def at(block: int) -> str:
    """The time of a block: one every ten minutes."""
    seconds = 600 * block
    day, rest = divmod(START - 1_599_955_200 + seconds, 86_400)
    return f"2020-09-{13 + day:02d}T{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}Z"


def seconds(block: int) -> int:
    """The same as seconds."""
    return START + 600 * block


def vaults() -> dict[str, list[Row]]:
    """Two vaults: one lives, one is bitten in block 60. Files by the name of their source."""
    urn = {"7": "0x" + "07" * 20, "8": "0x" + "08" * 20}

    def place(block: int, number: int, index: int) -> Row:
        return {
            "BLOCK_NUMBER": str(block),
            "BLOCK_TIMESTAMP": at(block),
            "TX_HASH": tx(number),
            "EVENT_INDEX": str(index),
        }

    def parameter(block: int, name: str, old: str, new: str, by: str = "DssSpell") -> Row:
        time = at(block).replace("T0", " ").replace("T", " ").rstrip("Z")
        return {
            "BLOCK": str(block),
            "TIMESTAMP": time,
            "TX_HASH": tx(1000 + block),
            "PARAMETER": name,
            "ILK": "ETH-B",
            "FROM_VALUE": old,
            "TO_VALUE": new,
            "SOURCE_TYPE": by,
        }

    both = {"VAULT_NUMBER": "7", "COLLATERAL_TYPE": "ETH-B"}
    other = {"VAULT_NUMBER": "8", "COLLATERAL_TYPE": "ETH-B"}
    return {
        "creations": [
            {**place(10, 1, 2), **both, "URN_ADDRESS": urn["7"]},
            {**place(12, 2, 2), **other, "URN_ADDRESS": urn["8"]},
        ],
        "deposits": [
            _deposit(10, urn, "7", "2.5"),
            _deposit(12, urn, "8", "1.000000000000000001"),
            _deposit(30, urn, "7", "0.5"),
        ],
        "withdrawals": [
            {**place(30, 5, 4), **both, "WITHDRAWN_AMOUNT_ADJ": "1E-1"},
            {**place(50, 6, 0), **both, "WITHDRAWN_AMOUNT_ADJ": "0.2"},
        ],
        "borrows": [
            {**place(10, 1, 0), **both, "DAI_MINTED": "500"},
            {**place(12, 2, 9), **other, "DAI_MINTED": "250.25"},
        ],
        "repayments": [{**place(50, 7, 3), **both, "URN_ADDRESS": urn["7"], "DAI_REPAYED": "100"}],
        "liquidations": [
            {
                **place(60, 8, 1),
                **other,
                "URN_ADDRESS": urn["8"],
                "ORIGIN_FROM_ADDRESS": "0x" + "AB" * 20,
                "DEBT_TO_COVER_AMOUNT": "250",
                "COLLATERAL_LIQUIDATED_AMOUNT": "1.000000000000000001",
                "DAI_REPAYED_AMOUNT": "250.25",
            }
        ],
        "parameter_changes": [
            parameter(5, "FLIPPER.tau", "172800", "21600"),
            parameter(5, "FLIPPER.tau", "0", "172800"),
            parameter(5, "JUG.ilks.duty", "0", "0.06"),
            parameter(5, "CAT.ilks.chop", "0", "0.13"),
            parameter(5, "CAT.ilks.dunk", "0", "50000"),
            parameter(6, "DC-IAM.ilks.gap", "0", "1000"),
            parameter(6, "DC-IAM.ilks.line", "0", "100000"),
            parameter(40, "VAT.ilks.line", "1000", "1750.25", "DssAutoLine"),
        ],
    }


def _deposit(block: int, urn: Mapping[str, str], vault: str, amount: str) -> Row:
    return {
        "BLOCK_NUMBER": str(block),
        "BLOCK_TIMESTAMP": at(block),
        "URN_ADDRESS": urn[vault],
        "VAULT_NUMBER": vault,
        "DEPOSIT_AMOUNT_ADJ": amount,
    }


def write(folder: Path, files: Mapping[str, Sequence[Row]]) -> Path:
    """Sources as CSV files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return folder


def import_vaults(lake: Lake, folder: Path, **more: Any) -> ImportSummary:
    """The shipped mapping over a folder."""
    return import_files(lake, load("maker-vaults"), folder=folder, **more)


def mapping(folder: Path, selects: Mapping[str, str], *, market: bool = True, more: str = "") -> Path:
    """A mapping over one source, ``rows``, with columns a and t."""
    folder.mkdir(parents=True, exist_ok=True)
    described = '[market]\nname = "own"\nprotocol = "maker"\nchain_id = 1\nbase_decimals = 18\n' if market else ""
    source = '[sources.rows]\nfiles = "rows*"\ncolumns = ["a", "t"]\n'
    (folder / "mapping.toml").write_text(
        f'description = "a test"\n{more}\n[assets]\neth = 18\nusd = 6\n{described}{source}'
    )
    for name, sql in selects.items():
        (folder / f"{name}.sql").write_text(sql)
    return folder


FLOWS = "SELECT source_row, 'me' AS account, 'eth' AS asset, 'supply' AS action, a AS amount, t AS timestamp FROM rows"


class Toy(LendingProtocol[Any]):
    """As much of a protocol as reconstruction uses: flows and liquidations to balances, without interest; what is
    missing is added first.
    """

    events = ()
    liquidation_events = ()
    oracle_delay = 3600
    imported_columns = MAKER.imported_columns
    imported_parameters = MAKER.imported_parameters

    def price_sources(self, raw: Any) -> tuple[()]:
        return ()

    def fold(self, config: MarketConfig, raw: Any) -> Iterator[tuple[str, pa.Table]]:
        changes = []
        for row in raw.table("raw/import/Flow").to_pylist():
            changes.append(
                (row["seq"], row, row["account"], row["asset"], row["side"], int(row["amount"]), row["action"])
            )
        for row in raw.table("raw/import/Liquidation").to_pylist():
            for asset, side, amount in (
                (row["debt_asset"], "debt", row["repaid"]),
                (row["collateral_asset"], "collateral", row["seized"]),
            ):
                changes.append((row["seq"], row, row["account"], asset, side, -int(amount), "liquidation"))
        changes.sort(key=lambda change: change[0])
        assets = {name: number for number, name in enumerate(sorted({change[3] for change in changes}))}
        accounts = {name: number for number, name in enumerate(dict.fromkeys(change[2] for change in changes))}
        yield "assets", _table("assets", [_asset(config.name, name, number) for name, number in assets.items()])
        yield (
            "accounts",
            _table(
                "accounts",
                [{"market": config.name, "account_id": number, "account": name} for name, number in accounts.items()],
            ),
        )
        held: dict[tuple[str, str, str], int] = {}
        rows = []
        for seq, row, account, asset, side, delta, action in changes:
            key = (account, asset, side)
            lacking = -(held.get(key, 0) + delta)
            if lacking > 0:
                rows.append(
                    _change(config.name, seq, row, accounts[account], assets[asset], side, lacking, "unrecorded")
                )
            held[key] = held.get(key, 0) + delta + max(lacking, 0)
            rows.append(_change(config.name, seq, row, accounts[account], assets[asset], side, delta, action))
        yield "position_events", _table("position_events", rows)


def _asset(market: str, name: str, number: int) -> dict[str, Any]:
    return {"market": market, "asset_id": number, "asset": name, "symbol": name.upper(), "decimals": 18}


def _change(
    market: str, seq: int, row: Mapping[str, Any], account: int, asset: int, side: str, delta: int, action: str
) -> dict[str, Any]:
    place = {name: row[name] for name in ("block_number", "log_index", "timestamp")}
    own = {
        "account_id": account,
        "asset_id": asset,
        "side": side,
        "delta": delta,
        "action": action,
        "action_seq": seq,
        "amount": abs(delta),
    }
    return {"market": market, "seq": seq, **place, **own}


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = CANONICAL[name]
    return pa.table([pa.array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema)
