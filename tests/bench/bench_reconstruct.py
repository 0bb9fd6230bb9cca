"""Token events to balances: raw Parquet in a lake, folded to ``position_events`` in a lake.

Half of the tokens round half-up (3.4 and before), half directed (3.5+): Mint, Burn and BalanceTransfer of many
accounts, mixed. ``python -m tests.bench.bench_reconstruct`` runs a tenth of the shape; give a number of events for
another.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.abi import event_schema
from backtest.lake import Lake
from backtest.protocols.aave.columns import amounts
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.reconstruct import History, prefetched, reconstruct
from backtest.tables import RAW_STATE
from tests.support.aave_logs import CONFIG, RAY, SPECS, Logs, a_token, debt_token, time_of

TOKENS = 10
LOGS_PER_BLOCK, LOGS_PER_TX = 20, 5
CHUNK = 1 << 20


def _setup() -> Logs:
    """Five reserves of ten tokens; those of every second one run the code of 3.5 from their listing on."""
    logs = Logs()
    logs.open(revision=9)
    for number in range(TOKENS // 2):
        logs.tx()
        logs.list_asset(f"T{number}")
        for token in (a_token(f"T{number}"), debt_token(f"T{number}")):
            logs.revision(token, f"first of {token}", 4 if number % 2 else 3)
    return logs


def write_lake(path: Path, events: int, accounts: int) -> Lake:
    """A lake of ``events`` token logs in which no balance falls below zero."""
    lake, logs, random = Lake(path, create=True), _setup(), np.random.default_rng(7)
    logs.write(lake)
    start = logs.block + 1
    holders = random.bytes(20 * accounts)
    addresses = pa.FixedSizeBinaryArray.from_buffers(pa.binary(20), accounts, [None, pa.py_buffer(holders)])
    pairs = [bytes.fromhex(name(f"T{number}")[2:]) for number in range(TOKENS // 2) for name in (a_token, debt_token)]
    tokens = pa.array(pairs, pa.binary(20))
    indexes = np.array([(RAY + k * 10**21 + k) for k in range(1 << 12)], object)
    index_words = np.stack([indexes % 2**64, indexes // 2**64], axis=1).astype(np.uint64)
    opening = min(accounts * TOKENS, events // 4)
    for first in range(0, events, CHUNK):
        place = np.arange(first, min(first + CHUNK, events))
        fresh = place < opening
        who = np.where(fresh, place % accounts, random.integers(0, accounts, len(place)))
        other = random.integers(0, accounts, len(place))
        token = np.where(fresh, place // accounts, random.integers(0, TOKENS, len(place)))
        kind = np.where(fresh, 0, random.choice([0, 1, 2], len(place), p=[0.4, 0.3, 0.3]))
        kind = np.where((kind == 2) & (token % 2 == 1), 1, kind)  # debt does not move
        known = fresh | (who + accounts * token < opening)
        kind = np.where(known, kind, 0)
        value = np.zeros((len(place), 2), np.uint64)
        value[:, 0] = np.where(fresh, 10**24 % 2**64, random.integers(1, 10**18, len(place))).astype(np.uint64)
        value[:, 1] = np.where(fresh, 10**24 // 2**64, 0).astype(np.uint64)
        interest = np.zeros((len(place), 2), np.uint64)
        interest[:, 0] = np.where(known, random.integers(0, 10**15, len(place)), 0).astype(np.uint64)
        index = index_words[place * len(index_words) // max(events, 1)]
        zero = np.zeros_like(value)
        columns = {
            "block_number": pa.array(start + place // LOGS_PER_BLOCK),
            "transaction_index": pa.array((place % LOGS_PER_BLOCK // LOGS_PER_TX).astype(np.int32)),
            "log_index": pa.array((place % LOGS_PER_BLOCK).astype(np.int32)),
            "transaction_hash": _hashes(place),
            "address": tokens.take(pa.array(token)),
        }
        data = {}
        for code, event, names in (
            (0, "Mint", ("caller", "on_behalf_of")),
            (1, "Burn", ("from", "target")),
            (2, "BalanceTransfer", ("from", "to")),
        ):
            row = pa.array(np.flatnonzero(kind == code))
            people = (addresses.take(pa.array(who)), addresses.take(pa.array(other)))
            own = dict(zip(names, people if event != "Mint" else people[::-1], strict=True))
            numbers = {
                "value": amounts(value),
                "balance_increase": amounts(zero if code == 2 else interest),
                "index": amounts(index),
            }
            schema = event_schema(SPECS[event])
            table = pa.table({name: {**columns, **own, **numbers}[name] for name in schema.names})
            data[f"raw/aave-v3/{event}"] = table.take(row).cast(schema)
        last = start + (int(place[-1]) if place[-1] + 1 < events else events) // LOGS_PER_BLOCK
        blocks = np.arange(start + first // LOGS_PER_BLOCK, last + 1)
        data["raw/chain/Header"] = _headers(blocks)
        with lake.writer() as writer:
            writer.commit("test", data, from_block=int(blocks[0]), to_block=last)
    with lake.writer() as writer:
        writer.commit("test", {}, from_block=start, to_block=last, covers={"aave-v3": (start, last)})
    return lake


def _hashes(place: Any) -> pa.Array:
    words = np.repeat((place // LOGS_PER_TX)[:, None], 4, axis=1).astype(np.int64)
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(place), [None, pa.py_buffer(np.ascontiguousarray(words))]
    )


def _headers(blocks: Any) -> pa.Table:
    empty = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(blocks), [None, pa.py_buffer(bytes(32 * len(blocks)))]
    )
    fee = np.zeros((len(blocks), 2), np.uint64)
    columns = [pa.array(blocks), empty, empty, pa.array(time_of(blocks)), amounts(fee)]
    return pa.Table.from_arrays(columns, schema=RAW_STATE["raw/chain/Header"])


def run(events: int = 10_000_000, accounts: int = 200_000) -> list[dict[str, Any]]:
    """Two figures: position events alone, and every canonical table with the spine."""
    shape = f"{events:,} token events, {accounts:,} accounts, {TOKENS} tokens, 2 cores"
    with tempfile.TemporaryDirectory() as folder:
        lake = write_lake(Path(folder) / "lake", events, accounts)
        _warm(Path(folder))
        started = time.perf_counter()
        history = History(lake, CONFIG, AAVE_V3, lambda done, total: None)
        chunks = (
            (f"canonical/{name}", table) for name, table in AAVE_V3.fold(CONFIG, history) if name == "position_events"
        )
        with lake.writer() as writer:
            writer.replace("test", "canonical/", prefetched(chunks), stamp="bench")
        positions = time.perf_counter() - started
        started = time.perf_counter()
        reconstruct(lake, "test")
        whole = time.perf_counter() - started
    budget = 15 * events / 10_000_000
    return [
        {
            "name": "fold to position events",
            "value": positions,
            "unit": "s",
            "baseline": budget,
            "ratio": budget / positions,
            "shape": shape,
        },
        {
            "name": "reconstruct, all tables",
            "value": whole,
            "unit": "s",
            "baseline": None,
            "ratio": None,
            "shape": shape,
        },
    ]


def _warm(folder: Path) -> None:
    """Compile before the clock starts."""
    reconstruct(write_lake(folder / "warm", 1000, 100), "test")


if __name__ == "__main__":
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000):
        print(f"{row['name']}: {row['value']:.2f} {row['unit']} ({row['shape']})")
