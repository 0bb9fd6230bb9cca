"""A node's logs and blocks in the form in which programs and warehouses export them: real columns, types and spellings.

``cryo`` and ``ethereum-etl`` write here what cryo 0.3.2 and ethereum-etl 2.4.2 wrote of a local node, column by column;
the others are made by their documented schemas.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backtest.fetch.rpc import Rpc

Log = dict[str, Any]
Block = dict[str, Any]


def logs_of(url: str, last: int) -> list[Log]:
    """Every log of blocks 0 to ``last``, as eth_getLogs gives it."""
    with Rpc(url) as rpc:
        found: list[Log] = rpc.call("eth_getLogs", [{"fromBlock": "0x0", "toBlock": hex(last)}])
    return found


def blocks_of(url: str, last: int) -> list[Block]:
    """Every header."""
    with Rpc(url) as rpc:
        return rpc.call_many([("eth_getBlockByNumber", [hex(block), False]) for block in range(last + 1)])


def _int(text: str) -> int:
    return int(text, 16)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text[2:])


def _quantity(text: str) -> bytes:
    return bytes.fromhex(f"{int(text, 16):x}".rjust(len(f"{int(text, 16):x}") + 1 & ~1, "0"))


def _topic(log: Log, place: int) -> str | None:
    topics: list[str] = log["topics"]
    return topics[place] if place < len(topics) else None


def _time(block: Block, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return datetime.fromtimestamp(_int(block["timestamp"]), UTC).strftime(form)


def _table(rows: Sequence[dict[str, Any]], kinds: dict[str, Any]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()})


def _parts(logs: Sequence[Log], count: int) -> Iterable[Sequence[Log]]:
    size = max(1, -(-len(logs) // count))
    return (logs[start : start + size] for start in range(0, len(logs), size))


def cryo(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """``cryo logs``, ``cryo blocks --include-columns parent_hash``."""
    large = pa.large_binary()
    kinds = {"block_number": pa.uint32(), "transaction_index": pa.uint32(), "log_index": pa.uint32()}
    kinds |= dict.fromkeys(("transaction_hash", "address", "topic0", "topic1", "topic2", "topic3", "data"), large)
    kinds["chain_id"] = pa.uint64()
    for number, part in enumerate(_parts(logs, 3)):
        rows = [
            {
                "block_number": _int(log["blockNumber"]),
                "transaction_index": _int(log["transactionIndex"]),
                "log_index": _int(log["logIndex"]),
                "transaction_hash": _bytes(log["transactionHash"]),
                "address": _bytes(log["address"]),
                **{f"topic{place}": _bytes(_topic(log, place)) for place in range(4)},
                "data": _bytes(log["data"]),
                "chain_id": 31_337,
            }
            for log in part
        ]
        pq.write_table(_table(rows, kinds), folder / f"local__logs__{number:08d}.parquet")
    kinds = {"block_hash": large, "parent_hash": large, "author": large, "block_number": pa.uint32()}
    kinds |= {"gas_used": pa.uint64(), "timestamp": pa.uint32(), "base_fee_per_gas": pa.uint64()}
    rows = [
        {
            "block_hash": _bytes(block["hash"]),
            "parent_hash": _bytes(block["parentHash"]),
            "author": bytes(20),
            "block_number": _int(block["number"]),
            "gas_used": 0,
            "timestamp": _int(block["timestamp"]),
            "base_fee_per_gas": _int(block["baseFeePerGas"]),
        }
        for block in blocks
    ]
    pq.write_table(_table(rows, kinds), folder / "local__blocks__00000000.parquet")


def _etl(log: Log) -> dict[str, Any]:
    return {
        "log_index": _int(log["logIndex"]),
        "transaction_hash": log["transactionHash"],
        "transaction_index": _int(log["transactionIndex"]),
        "block_hash": log["blockHash"],
        "block_number": _int(log["blockNumber"]),
        "address": log["address"],
        "data": log["data"],
        "topics": log["topics"],
    }


def ethereum_etl_csv(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """``ethereumetl export_receipts_and_logs`` and ``export_blocks_and_transactions``: its workers finish in any
    order.
    """
    third = len(logs) // 3
    _csv(
        folder / "logs.csv",
        [{**_etl(log), "topics": ",".join(log["topics"])} for log in [*logs[third:], *logs[:third]]],
    )
    _csv(
        folder / "blocks.csv",
        [
            {
                "number": _int(block["number"]),
                "hash": block["hash"],
                "parent_hash": block["parentHash"],
                "nonce": "0x0000000000000000",
                "logs_bloom": block["logsBloom"],
                "timestamp": _int(block["timestamp"]),
                "transaction_count": 0,
                "base_fee_per_gas": _int(block["baseFeePerGas"]),
            }
            for block in blocks
        ],
    )


def ethereum_etl_json(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """The same with ``.json`` as the output's name: no blocks among them."""
    _lines(folder / "logs.json", [_etl(log) for log in logs])


def bigquery_json(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """An export of ``crypto_ethereum.logs`` as JSON: integers as text, nulls and empty lists left out; and of
    ``.blocks``.
    """
    known = {block["number"]: block for block in blocks}
    rows = []
    for log in logs:
        row = {name: str(value) if isinstance(value, int) else value for name, value in _etl(log).items()}
        row["block_timestamp"] = _time(known[log["blockNumber"]])
        rows.append({name: value for name, value in row.items() if value})
    _lines(folder / "000000000000.json", rows)
    _lines(
        folder / "blocks-000000000000.json",
        [
            {
                "timestamp": _time(block),
                "number": str(_int(block["number"])),
                "hash": block["hash"],
                "parent_hash": block["parentHash"],
                "base_fee_per_gas": str(_int(block["baseFeePerGas"])),
            }
            for block in blocks
        ],
    )


def bigquery_parquet(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """The same as Parquet: topics are a list of text, times are microseconds."""
    known = {block["number"]: block for block in blocks}
    kinds = dict.fromkeys(("log_index", "transaction_index", "block_number"), pa.int64())
    kinds |= dict.fromkeys(("transaction_hash", "address", "data", "block_hash"), pa.string())
    kinds |= {"topics": pa.list_(pa.string()), "block_timestamp": pa.timestamp("us", "UTC")}
    rows = [{**_etl(log), "block_timestamp": _int(known[log["blockNumber"]]["timestamp"]) * 1_000_000} for log in logs]
    pq.write_table(_table(rows, kinds), folder / "logs-000000000000.parquet")
    _headers(folder / "blocks.csv", blocks)


def bigquery_csv(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """CSV knows no lists: ``TO_JSON_STRING(topics) AS topics``."""
    known = {block["number"]: block for block in blocks}
    rows = [
        {
            **_etl(log),
            "topics": json.dumps(log["topics"], separators=(",", ":")),
            "block_timestamp": _time(known[log["blockNumber"]]),
        }
        for log in logs
    ]
    _csv(folder / "logs.csv", rows)
    _headers(folder / "blocks.csv", blocks)


def hypersync(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """``logs.parquet`` and ``blocks.parquet`` of its client."""
    kinds = {"removed": pa.bool_(), "log_index": pa.uint64(), "transaction_index": pa.uint64()}
    kinds |= dict.fromkeys(("transaction_hash", "block_hash"), pa.binary())
    kinds |= {"block_number": pa.uint64()}
    kinds |= dict.fromkeys(("address", "data", "topic0", "topic1", "topic2", "topic3"), pa.binary())
    rows = [
        {
            "removed": False,
            "log_index": _int(log["logIndex"]),
            "transaction_index": _int(log["transactionIndex"]),
            "transaction_hash": _bytes(log["transactionHash"]),
            "block_hash": _bytes(log["blockHash"]),
            "block_number": _int(log["blockNumber"]),
            "address": _bytes(log["address"]),
            "data": _bytes(log["data"]),
            **{f"topic{place}": _bytes(_topic(log, place)) for place in range(4)},
        }
        for log in logs
    ]
    pq.write_table(_table(rows, kinds), folder / "logs.parquet")
    kinds = {"number": pa.uint64(), "hash": pa.binary(), "parent_hash": pa.binary(), "timestamp": pa.binary()}
    kinds["base_fee_per_gas"] = pa.binary()
    own = [
        {
            "number": _int(block["number"]),
            "hash": _bytes(block["hash"]),
            "parent_hash": _bytes(block["parentHash"]),
            "timestamp": _quantity(block["timestamp"]),
            "base_fee_per_gas": _quantity(block["baseFeePerGas"]),
        }
        for block in blocks
    ]
    pq.write_table(_table(own, kinds), folder / "blocks.parquet")


def dune_csv(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """``ethereum.logs``: VARBINARY is 0x and hex, here of mixed case, times are UTC with milliseconds."""
    known = {block["number"]: block for block in blocks}
    rows = [
        {
            "block_time": _time(known[log["blockNumber"]], "%Y-%m-%d %H:%M:%S.000 UTC"),
            "block_number": _int(log["blockNumber"]),
            "block_hash": log["blockHash"],
            "contract_address": "0x" + log["address"][2:].upper() if number % 2 else log["address"],
            **{f"topic{place}": _topic(log, place) or "" for place in range(4)},
            "data": log["data"] if number % 3 else "0X" + log["data"][2:].upper(),
            "tx_hash": log["transactionHash"],
            "index": _int(log["logIndex"]),
            "tx_index": _int(log["transactionIndex"]),
            "block_date": _time(known[log["blockNumber"]], "%Y-%m-%d"),
        }
        for number, log in enumerate(logs)
    ]
    _csv(folder / "logs.csv", rows)
    _headers(folder / "blocks.csv", blocks)


def flipside_csv(logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> None:
    """``ethereum.core.fact_event_logs`` of a warehouse that writes bytes as ``\\x``, with its names in capitals."""
    known = {block["number"]: block for block in blocks}
    rows = [
        {
            "BLOCK_NUMBER": _int(log["blockNumber"]),
            "BLOCK_TIMESTAMP": _time(known[log["blockNumber"]], "%Y-%m-%d %H:%M:%S.000"),
            "TX_HASH": log["transactionHash"].replace("0x", "\\x"),
            "TX_POSITION": _int(log["transactionIndex"]),
            "EVENT_INDEX": _int(log["logIndex"]),
            "CONTRACT_ADDRESS": log["address"].replace("0x", "\\x"),
            "TOPICS": json.dumps(log["topics"], indent=1),
            "DATA": log["data"].replace("0x", "\\x"),
            "EVENT_REMOVED": "FALSE",
        }
        for log in logs
    ]
    for row in rows:
        row["TOPICS"] = row["TOPICS"].replace("\n", " ")
    _csv(folder / "logs.csv", rows)
    _headers(folder / "blocks.csv", blocks)


def _headers(path: Path, blocks: Sequence[Block]) -> None:
    rows = [
        {
            "number": _int(block["number"]),
            "time": _time(block),
            "hash": block["hash"],
            "parent_hash": block["parentHash"],
            "base_fee_per_gas": _int(block["baseFeePerGas"]),
        }
        for block in blocks
    ]
    _csv(path, rows)


def _csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


Form = Callable[[Sequence[Log], Sequence[Block], Path], None]
FORMS: dict[str, Form] = {
    "cryo": cryo,
    "ethereum-etl, CSV": ethereum_etl_csv,
    "ethereum-etl, JSON": ethereum_etl_json,
    "BigQuery, JSON": bigquery_json,
    "BigQuery, Parquet": bigquery_parquet,
    "BigQuery, CSV": bigquery_csv,
    "HyperSync": hypersync,
    "Dune": dune_csv,
    "Flipside": flipside_csv,
}
"""Each without blocks has its times from the facts; the others give blocks whole."""


def exported(form: str, logs: Sequence[Log], blocks: Sequence[Block], folder: Path) -> Path:
    """The folder, with the files of that form in it."""
    folder.mkdir(parents=True)
    FORMS[form](logs, blocks, folder)
    return folder
