"""Raw logs as a warehouse decodes them: a table for each event, a column for each argument. Decoded by eth_abi, not by
the project's own decoder.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from eth_abi.abi import decode

from backtest.abi import Argument, parse_event
from backtest.fetch.decode import topic0
from backtest.model import EventSpec

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "recorded"
Row = dict[str, Any]


def recorded() -> list[Row]:
    """Every log that cryo recorded of the tests' market, with the time of its block."""
    files = sorted((RECORDED / "cryo").glob("*__logs__*.parquet"))
    blocks = pq.read_table(next((RECORDED / "cryo").glob("*__blocks__*.parquet")))
    times = dict(zip(blocks["block_number"].to_pylist(), blocks["timestamp"].to_pylist(), strict=True))
    rows = pa.concat_tables([pq.read_table(file) for file in files]).to_pylist()
    return [{**row, "timestamp": times[row["block_number"]]} for row in rows]


def tables(logs: Iterable[Row], specs: Sequence[EventSpec]) -> dict[str, list[Row]]:
    """Event name to its rows, under the names of the ABI; addresses and bytes as bytes, numbers as integers. Only logs
    of these events, from any contract.
    """
    known: dict[tuple[bytes, int], EventSpec] = {}
    for spec in specs:
        if spec.note is None:
            abi = parse_event(spec.signature)
            known.setdefault((bytes.fromhex(topic0(spec)[2:]), 1 + len(abi.indexed)), spec)
    out: dict[str, list[Row]] = defaultdict(list)
    for log in logs:
        topics = [topic for topic in (log[f"topic{place}"] for place in range(4)) if topic]
        spec = known.get((topics[0], len(topics))) if topics else None
        if spec is None:
            continue
        abi = parse_event(spec.signature)
        held = {
            argument.name: _of_topic(argument, topic) for argument, topic in zip(abi.indexed, topics[1:], strict=True)
        }
        values = decode([argument.type for argument in abi.data], log["data"])
        held |= {argument.name: _value(argument, value) for argument, value in zip(abi.data, values, strict=True)}
        key = {
            "contract_address": log["address"],
            "evt_tx_hash": log["transaction_hash"],
            "evt_tx_index": log["transaction_index"],
            "evt_index": log["log_index"],
            "evt_block_time": datetime.fromtimestamp(log["timestamp"], UTC).strftime("%Y-%m-%d %H:%M:%S.000 UTC"),
            "evt_block_number": log["block_number"],
        }
        out[abi.name].append({**key, **{argument.name: held[argument.name] for argument in abi.arguments}})
    return dict(out)


def _of_topic(argument: Argument, topic: bytes) -> Any:
    return topic if argument.dynamic else _value(argument, decode([argument.type], topic)[0])


def _value(argument: Argument, value: Any) -> Any:
    return bytes.fromhex(value[2:]) if argument.type == "address" else value


def texts(row: Row) -> Row:
    """A row as CSV and JSON have it."""
    return {name: "0x" + value.hex() if isinstance(value, bytes) else str(value) for name, value in row.items()}


def struct(row: Row, name: str, members: Sequence[str]) -> Row:
    """The row with these columns as one of JSON."""
    inner = {member: texts(row)[member] for member in members}
    kept = {column: value for column, value in row.items() if column not in members}
    return {**kept, name: json.dumps(inner)}


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One file, every value in quotes where it holds a comma."""
    lines = [",".join(rows[0])]
    for row in rows:
        lines.append(
            ",".join('"' + text.replace('"', '""') + '"' if "," in text else text for text in texts(row).values())
        )
    path.write_text("\n".join([*lines, ""]))


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    """Bytes as bytes, small numbers as integers, the others as text, as VARBINARY and UINT256 are exported."""
    columns = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if all(isinstance(value, int) and not isinstance(value, bool) for value in values) and max(values) >= 1 << 63:
            values = [str(value) for value in values]
        columns[name] = pa.array(values)
    pq.write_table(pa.table(columns), path)
