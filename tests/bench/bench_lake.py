"""Balances at a block over ten million position events, from Parquet; and what a commit costs.

``python -m tests.bench.bench_lake`` prints the rows; ``make bench`` collects ``run()``.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.lake import Lake, integrity
from backtest.lake.content import content_digest
from backtest.tables import CANONICAL
from tests.support.lake_tables import CONFIG, MARKET, account, canonical, supplies

EVENTS = 10_000_000
ACCOUNTS = 200_000
ASSETS = 20
HELD = 4  # assets of one account
CHUNK = 1_000_000
BLOCKS = 2_000_000


def positions(events: int) -> Iterator[pa.Table]:
    """Synthetic position events: 18-decimal amounts, skewed towards busy accounts, in chain order."""
    rng = np.random.default_rng(1)
    schema = CANONICAL["position_events"]
    for start in range(0, events, CHUNK):
        count = min(CHUNK, events - start)
        seq = np.arange(start, start + count)
        block = seq * BLOCKS // events
        accounts = (ACCOUNTS * rng.random(count) ** 2).astype(np.int32)
        words = np.zeros((count, 2), dtype=np.int64)
        words[:, 0] = rng.integers(10**12, 10**18, count)
        amounts = pa.Array.from_buffers(pa.decimal128(38, 0), count, [None, pa.py_buffer(words.tobytes())])
        sides = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 2, count), pa.int32()), ["collateral", "debt"])
        columns = {
            "market": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count), pa.int32()), [MARKET]),
            "seq": pa.array(seq),
            "block_number": pa.array(block),
            "log_index": pa.array((seq % 200).astype(np.int32)),
            "timestamp": pa.array(block * 12),
            "account_id": pa.array(accounts),
            "asset_id": pa.array(((accounts * 7 + rng.integers(0, HELD, count)) % ASSETS).astype(np.int16)),
            "side": sides,
            "delta": amounts,
            "action": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count), pa.int32()), ["supply"]),
            "action_seq": pa.array(seq),
            "amount": amounts,
        }
        yield pa.table([columns[field.name] for field in schema], schema=schema)


def synthetic(path: Path, events: int) -> Lake:
    """A lake with these position events and what ``balances_at`` joins with them."""
    small = canonical(
        {
            "assets": [{"asset_id": n, "asset": account(n), "symbol": f"T{n}", "decimals": 18} for n in range(ASSETS)],
            "blocks": [{"block_number": BLOCKS // 2}],
            "params": [{"seq": 0, "block_number": 0, "name": "pool_revision", "value": 10}],
            "prices": [
                {"seq": n, "block_number": 0, "asset_id": n, "price": 10**8, "method": "feed", "exact": True}
                for n in range(ASSETS)
            ],
            "accounts": [{"account_id": n, "account": account(n)} for n in range(ACCOUNTS)],
        }
    )
    lake = Lake(path, create=True)
    with lake.writer() as writer:
        writer.set_market(CONFIG)
        chunks = [*small.items(), *(("canonical/position_events", chunk) for chunk in positions(events))]
        writer.replace(MARKET, "canonical/", iter(chunks), stamp="bench")
    return lake


def _seconds(action: Callable[[], Any], repeats: int = 3) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _opening(path: Path | str, *, trust: bool) -> float:
    """Seconds until a process that has not seen the lake has an answer: manifest, digests, the views that it names."""

    def opened() -> None:
        integrity.forget()
        Lake(path, trust=trust).sql("SELECT count(*) FROM accounts").fetchall()

    return _seconds(opened)


def run(events: int = EVENTS) -> list[dict[str, Any]]:
    """Rows of name, value, unit, baseline (what is asked for), ratio (better than it above 1), shape."""
    folder = Path(tempfile.mkdtemp(prefix="bench-lake-"))
    try:
        start = time.perf_counter()
        lake = synthetic(folder / "lake", events)
        written = events / (time.perf_counter() - start)
        opened, trusted = _opening(lake.path, trust=False), _opening(lake.path, trust=True)
        held = f"{sum(file.bytes for file in lake.files(None)) / 1e6:.0f} MB in {len(lake.files(None))} files"
        block = BLOCKS // 2
        shape = f"{events} position events, {ACCOUNTS} accounts with {HELD} of {ASSETS} assets"
        scaled = _seconds(
            lambda: lake.sql(
                f"SELECT count(*), sum(collateral_scaled), sum(debt_scaled) FROM balances_at({block})"
            ).fetchall()
        )
        rows = _seconds(lambda: lake.sql(f"SELECT * FROM balances_at({block})").to_arrow_table())
        latest = _seconds(lambda: lake.sql(f"SELECT * FROM balances_at({BLOCKS})").to_arrow_table())
        one = _seconds(lambda: lake.sql(f"SELECT * FROM health(['{account(5)}'], [{block}])").fetchall())
        raw = supplies(list(range(200_000)))
        digest = raw.num_rows / _seconds(lambda: content_digest(raw))
        with lake.writer() as writer:
            began = time.perf_counter()
            writer.commit(MARKET, {"raw/aave-v3/Supply": raw}, from_block=0, to_block=200_000)
            committed = raw.num_rows / (time.perf_counter() - began)
        return [
            _row("opened for SQL, every file compared with its digest", opened, "s", None, held),
            _row("opened for SQL with trust, files not compared", trusted, "s", None, held),
            _row("balances at a block, summed, in SQL", scaled, "s", 2.0, shape),
            _row("balances at a block in the middle, every row to Arrow", rows, "s", 2.0, shape),
            _row("balances at the last block, every row to Arrow", latest, "s", 2.0, shape),
            _row("health of one account at a block, in SQL", one, "s", None, shape),
            _row("position events written and committed", written, "rows/s", None, shape),
            _row("content digest of raw events", digest, "rows/s", 1e6, f"{raw.num_rows} rows"),
            _row("raw events committed", committed, "rows/s", None, f"{raw.num_rows} rows, one dataset"),
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _row(name: str, value: float, unit: str, baseline: float | None, shape: str) -> dict[str, Any]:
    ratio = None if baseline is None else (baseline / value if unit == "s" else value / baseline)
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "shape": shape}


if __name__ == "__main__":
    for line in run():
        print(f"{line['name']:60}{line['value']:>14.3f} {line['unit']:8}{line['ratio'] or float('nan'):>8.2f}x")
