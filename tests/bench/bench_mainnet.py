"""A market of mainnet's size from lake to stored result: 200,000 accounts, 50 assets, 10 million position events, 1
million ticks.

``python -m tests.bench.bench_mainnet`` prints the rows; ``make bench`` collects ``run()``. Each replay runs in a
process of its own, which says what
it took and its peak memory. Events are synthetic: every account supplies and borrows once, then supplies and withdraws
small amounts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.lake import Lake
from backtest.reconstruct import stamp
from backtest.results import run as run_scenario
from backtest.scenario import Competitive, Scenario
from backtest.tables import AMOUNT, CANONICAL
from tests.bench.memory import peak_memory
from tests.support.lake_tables import CONFIG, MARKET, account, canonical

ACCOUNTS, ASSETS, POSITIONS, TICKS = 200_000, 50, 10_000_000, 1_000_000
VOLATILE = ASSETS // 2  # assets below are collateral, the others are borrowed
CHUNK = 1_000_000
PER_BLOCK = 10
GIB = 2**30


def synthetic(path: Path, accounts: int, positions: int, ticks: int) -> tuple[Lake, int]:
    """A lake with such a market, and the number of its last block."""
    draw = np.random.default_rng(1)
    rows = [("pool_revision", None, 10)]
    for asset in range(ASSETS):
        rows += [
            ("liquidation_threshold", asset, 8000),
            ("liquidation_bonus", asset, 10500),
            ("liquidation_protocol_fee", asset, 1000),
        ]
        rows += [("treasury", asset, accounts), ("ltv", asset, 7700), ("borrowing_enabled", asset, 1)]
    first = len(rows) + ASSETS
    params = [
        {"seq": n, "block_number": 0, "name": name, "asset_id": asset, "value": value}
        for n, (name, asset, value) in enumerate(rows)
    ]
    opening = [
        {"seq": len(rows) + a, "block_number": 0, "asset_id": a, "price": _par(a), "method": "feed", "exact": True}
        for a in range(ASSETS)
    ]
    small = canonical(
        {
            "assets": [{"asset_id": n, "asset": account(n), "symbol": f"T{n}", "decimals": 18} for n in range(ASSETS)],
            "accounts": [{"account_id": n, "account": account(n)} for n in range(accounts + 1)],
            "params": params,
            "prices": opening,
        }
    )
    # 3 events open an account; then one tick after every few position events
    opened = 3 * accounts
    later = positions - 2 * accounts
    spread = np.sort(draw.choice(later + ticks, ticks, replace=False))
    is_tick = np.zeros(later + ticks, dtype=np.bool_)
    is_tick[spread] = True
    seq = first + opened + np.arange(later + ticks)
    block = 1 + (seq - first) // PER_BLOCK
    lake = Lake(path, create=True)

    def chunks() -> Iterator[tuple[str, pa.Table]]:
        yield from small.items()
        yield from _opening(draw, accounts, first)
        yield from _prices(draw, seq[is_tick], block[is_tick])
        yield from _later(draw, accounts, seq[~is_tick], block[~is_tick])

    with lake.writer() as writer:
        writer.set_market(CONFIG)
        writer.replace(MARKET, "canonical/", chunks(), stamp=stamp(lake, MARKET))
    return lake, int(block[-1])


def _par(asset: int) -> int:
    return 1000 * 10**8 if asset < VOLATILE else 10**8


def _opening(draw: np.random.Generator, accounts: int, first: int) -> Iterator[tuple[str, pa.Table]]:
    start = np.arange(accounts)
    held, owed = start % VOLATILE, VOLATILE + start % (ASSETS - VOLATILE)
    worth = (10 ** draw.uniform(2, 6, accounts)).astype(
        np.int64
    )  # dollars: milli-units of collateral, at 1000 dollars each
    debt = (worth * 800 / draw.uniform(1.05, 3, accounts)).astype(np.int64)
    seq = first + 3 * start
    both = np.stack([seq, seq + 2], axis=1).ravel()
    delta = np.stack([worth * 10**3, debt * 10**3], axis=1).ravel()
    names = pa.DictionaryArray.from_arrays(pa.array(np.tile([0, 1], accounts).astype(np.int32)), ["supply", "borrow"])
    sides = pa.DictionaryArray.from_arrays(pa.array(np.tile([0, 1], accounts).astype(np.int32)), ["collateral", "debt"])
    amounts = _words(delta, 10**12)
    yield _table(
        "position_events", both, 1 + (both - first) // PER_BLOCK, account_id=pa.array(np.repeat(start,
        2).astype(np.int32)),
        asset_id=pa.array(np.stack([held, owed], axis=1).ravel().astype(np.int16)), side=sides, delta=amounts,
        action=names,
        action_seq=pa.array(both), amount=amounts,
    )  # fmt: skip
    yield _table(
        "setting_events", seq + 1, 1 + (seq + 1 - first) // PER_BLOCK, account_id=pa.array(start.astype(np.int32)),
        setting=pa.array(["collateral_enabled"] * accounts).dictionary_encode(),
        asset_id=pa.array(held.astype(np.int16)),
        value=_words(np.ones(accounts, dtype=np.int64), 1),
        action=pa.array(["other"] * accounts).dictionary_encode(), action_seq=pa.array(seq + 1),
    )  # fmt: skip


def _prices(draw: np.random.Generator, seq: np.ndarray, block: np.ndarray) -> Iterator[tuple[str, pa.Table]]:
    """A volatile asset a tick, walking by 0.1 %; all fall by 30 % in the last twentieth."""
    count = len(seq)
    moved = np.arange(count) % VOLATILE
    step = draw.normal(0, 0.001, count)
    step[-count // 20 :] += np.log(0.7) * VOLATILE / (count // 20)
    price = np.empty(count)
    for asset in range(VOLATILE):
        price[moved == asset] = 1000e8 * np.exp(np.cumsum(step[moved == asset]))
    yield _table(
        "prices", seq, block, asset_id=pa.array(moved.astype(np.int16)), price=_words(price.astype(np.int64), 1),
        method=pa.array(["feed"]).dictionary_encode().take(pa.array(np.zeros(count, dtype=np.int32))),
        exact=pa.array(np.ones(count, dtype=np.bool_)),
    )  # fmt: skip


def _later(
    draw: np.random.Generator, accounts: int, seq: np.ndarray, block: np.ndarray
) -> Iterator[tuple[str, pa.Table]]:
    for start in range(0, len(seq), CHUNK):
        rows = slice(start, start + CHUNK)
        count = len(seq[rows])
        who = np.repeat((accounts * draw.random((count + 1) // 2) ** 2).astype(np.int32), 2)[:count]
        size = np.repeat(draw.integers(10**12, 10**15, (count + 1) // 2), 2)[:count]
        out = np.arange(count) % 2
        zeros = pa.array(np.zeros(count, dtype=np.int32))
        yield _table(
            "position_events", seq[rows], block[rows], account_id=pa.array(who),
            asset_id=pa.array((who % VOLATILE).astype(np.int16)),
            side=pa.DictionaryArray.from_arrays(zeros, ["collateral"]), delta=_words(np.where(out, -size, size), 1),
            action=pa.DictionaryArray.from_arrays(pa.array(out.astype(np.int32)), ["supply", "withdraw"]),
            action_seq=pa.array(seq[rows]),
            amount=_words(size, 1),
        )  # fmt: skip


def _words(values: np.ndarray, times: int) -> pa.Array:
    """values (64 bits) times a factor, exactly."""
    if times == 1:
        words = np.stack([values, values >> 63], axis=1)
        return pa.Array.from_buffers(AMOUNT, len(values), [None, pa.py_buffer(words.astype(np.int64).tobytes())])
    return pa.array([value * times for value in values.tolist()], AMOUNT)


def _table(of: str, seq: np.ndarray, block: np.ndarray, **columns: pa.Array) -> tuple[str, pa.Table]:
    count = len(seq)
    every = {
        "market": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), [MARKET]),
        "seq": pa.array(seq),
        "block_number": pa.array(block),
        "log_index": pa.array((seq % PER_BLOCK).astype(np.int32)),
        "timestamp": pa.array(block * 12),
        **columns,
    }
    schema = CANONICAL[of]
    columns = [
        every[field.name] if field.name in every or not field.nullable else pa.nulls(count, field.type)
        for field in schema
    ]
    return f"canonical/{of}", pa.table(columns, schema=schema)


def child(path: str, from_block: int | None) -> None:
    """One replay in this process; prints seconds by the clock and of the processor (start included), liquidations, peak
    memory in bytes.
    """
    scenario = Scenario() if from_block is None else Scenario(liquidators=Competitive(), from_block=from_block)
    start = time.perf_counter()
    stored = run_scenario(Lake(Path(path)), MARKET, scenario)
    seconds, busy = time.perf_counter() - start, time.process_time()
    peak = peak_memory()
    print(json.dumps([seconds, busy, stored.summary["liquidations"], peak]))


def run(accounts: int = ACCOUNTS, positions: int = POSITIONS, ticks: int = TICKS) -> list[dict[str, Any]]:
    """Seconds and memory of a re-enactment, and of a replay whose model acts in the last tenth."""
    folder = Path(tempfile.mkdtemp(prefix="bench-mainnet-"))
    rows = []
    try:
        _, last = synthetic(folder / "lake", accounts, positions, ticks)
        for name, begin in (("re-enactment", None), ("competitive, last tenth", last * 9 // 10)):
            command = [
                sys.executable,
                "-m",
                "tests.bench.bench_mainnet",
                str(folder / "lake"),
                *([] if begin is None else [str(begin)]),
            ]
            seconds, busy, liquidations, peak = json.loads(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout
            )
            shape = (
                f"{accounts} accounts, {ASSETS} assets, {positions} position events, {ticks} ticks, {liquidations}"
                " liquidations; one core"
            )
            took = f"{shape}; {busy:.0f} s of the processor"
            rows.append(
                {
                    "name": f"lake to result, {name}",
                    "value": seconds,
                    "unit": "s",
                    "baseline": 60.0,
                    "ratio": 60 / seconds,
                    "shape": took,
                }
            )
            rows.append(
                {
                    "name": f"peak memory, {name}",
                    "value": peak / GIB,
                    "unit": "GiB",
                    "baseline": 8.0,
                    "ratio": 8 * GIB / peak,
                    "shape": shape,
                }
            )
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
    else:
        for row in run():
            print(f"{row['name']:40} {row['value']:>8.2f} {row['unit']:4} {row['ratio']:>6.2f} {row['shape']}")
