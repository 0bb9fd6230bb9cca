"""Replays of synthetic Aave V3.6 markets: events a second, account-ticks a second, and what the screen saves.

``python -m tests.bench.bench_replay`` prints the rows; ``make bench`` collects ``run()``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.model import Asset, AssetId, Market
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.engine import replay
from backtest.replay.timeline import Timeline
from backtest.scenario import Competitive, Scenario
from backtest.tables import AMOUNT, CANONICAL

ASSETS = 8
EVENTS = 1_000_000
STABLE = ASSETS // 2  # assets below are volatile collateral, the others are borrowed


def market(accounts: int) -> Market:
    """Eight assets of 18 decimals; the last account is the treasury."""
    assets = tuple(Asset(AssetId(i), f"0x{i:040x}", f"A{i}", 18) for i in range(ASSETS))
    return Market(name="bench", protocol="aave-v3", chain_id=1, assets=assets, accounts=tuple(f"0x{i:040x}" for i in range(accounts + 1)))


def timeline(accounts: int, ticks: int, *, fall: float, seed: int = 1) -> Timeline:
    """Every account supplies one volatile asset and borrows one stable at a health of 1.05 to 3; then one price a block.

    Prices of the volatile assets walk by 0.1 % a tick and fall by ``fall`` in the middle tenth of the ticks.
    """
    draw = np.random.default_rng(seed)
    settings = [("pool_revision", None, 10)]
    for asset in range(ASSETS):
        settings += [("liquidation_threshold", asset, 8000), ("liquidation_bonus", asset, 10500), ("liquidation_protocol_fee", asset, 1000)]
        settings += [("treasury", asset, accounts), ("ltv", asset, 7700), ("borrowing_enabled", asset, 1)]
    rows = len(settings)
    start = np.arange(accounts)
    collateral, debt = start % STABLE, STABLE + start % (ASSETS - STABLE)
    worth = (10 ** draw.uniform(2, 6, accounts)).astype(np.int64)
    owed = (worth * 0.8 / draw.uniform(1.05, 3, accounts)).astype(np.int64)
    walk = np.zeros(ticks)
    walk[ticks * 9 // 20 : ticks * 11 // 20] = np.log(1 - fall) / max(1, ticks // 10) * STABLE
    moved = np.arange(ticks) % STABLE
    log_price = np.zeros((ticks, STABLE))
    log_price[np.arange(ticks), moved] = walk + draw.normal(0, 0.001, ticks)
    prices = np.exp(np.cumsum(log_price, axis=0))[np.arange(ticks), moved] * 1000e8
    first = rows + ASSETS + 3 * accounts
    key = {
        "params": np.arange(rows),
        "prices": np.concatenate([rows + np.arange(ASSETS), first + np.arange(ticks)]),
        "setting_events": rows + ASSETS + 3 * start + 1,
    }
    position_seq = (rows + ASSETS + 3 * start[:, None] + np.array([0, 2])).ravel()
    blocks_of = {name: np.where(seq < first, 1, seq - first + 2) for name, seq in key.items()}
    tables = {
        "params": _table(
            "params",
            key["params"],
            blocks_of["params"],
            asset_id=pa.array([a for _, a, _ in settings], pa.int16()),
            category=pa.nulls(rows, pa.int32()),
            name=pa.array([n for n, _, _ in settings]).dictionary_encode(),
            value=pa.array([v for _, _, v in settings]).cast(AMOUNT),
        ),
        "prices": _table(
            "prices",
            key["prices"],
            blocks_of["prices"],
            asset_id=pa.array(np.concatenate([np.arange(ASSETS), moved]).astype(np.int16)),
            price=_amounts(np.concatenate([[1000e8] * STABLE, [1e8] * (ASSETS - STABLE), prices]).astype(np.int64)),
        ),
        "position_events": _table(
            "position_events",
            position_seq,
            np.ones_like(position_seq),
            account_id=pa.array(np.repeat(start, 2).astype(np.int32)),
            asset_id=pa.array(np.stack([collateral, debt], axis=1).ravel().astype(np.int16)),
            side=pa.DictionaryArray.from_arrays(pa.array(np.tile([0, 1], accounts).astype(np.int32)), ["collateral", "debt"]),
            delta=_amounts(np.stack([worth * 10**6, owed * 10**9], axis=1).ravel(), shift=10**9),
            action=pa.DictionaryArray.from_arrays(pa.array(np.tile([0, 1], accounts).astype(np.int32)), ["supply", "borrow"]),
            action_seq=pa.array(position_seq),
            amount=_amounts(np.stack([worth * 10**6, owed * 10**9], axis=1).ravel(), shift=10**9),
        ),
        "setting_events": _table(
            "setting_events",
            key["setting_events"],
            np.ones(accounts, dtype=np.int64),
            account_id=pa.array(start.astype(np.int32)),
            setting=pa.array(["collateral_enabled"] * accounts).dictionary_encode(),
            asset_id=pa.array(collateral.astype(np.int16)),
            value=_amounts(np.ones(accounts, dtype=np.int64)),
            action=pa.array(["other"] * accounts).dictionary_encode(),
            action_seq=pa.array(key["setting_events"]),
        ),
    }
    return Timeline.of(tables)


def _amounts(values: np.ndarray, shift: int = 1) -> pa.Array:
    """Exact decimals; values times ``shift`` may pass 64 bits."""
    if shift == 1:
        words = np.stack([values, np.zeros_like(values)], axis=1)
        return pa.Array.from_buffers(AMOUNT, len(values), [None, pa.py_buffer(words.tobytes())])
    return pa.array([int(v) * shift for v in values.tolist()], AMOUNT)


def _table(of: str, seq: np.ndarray, block: np.ndarray, **columns: pa.Array) -> pa.Table:
    log_index = pa.array(np.zeros(len(seq), dtype=np.int32))
    every = {"seq": pa.array(seq), "block_number": pa.array(block), "log_index": log_index, "timestamp": pa.array(block * 12), **columns}
    wanted = [field.name for field in CANONICAL[of] if field.name in every]
    return pa.table([every[column] for column in wanted], wanted)


def _seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def _row(name: str, value: float, unit: str, shape: str, baseline: str = "", ratio: float | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "shape": shape}


def run(accounts: int = 20_000, ticks: int = 4_000) -> list[dict[str, Any]]:
    """Decoding of a timeline; competitive replays of a calm and of a crash book; the screen against looking at everyone."""
    rows = []
    many = timeline(EVENTS // 3, 0, fall=0)
    seconds, count = _seconds(lambda: sum(len(t) for t in many.transactions()))
    rows.append(_row("timeline to events", count / seconds, "events/s", f"{count} events"))
    seconds, result = _seconds(lambda: replay(AAVE_V3, market(EVENTS // 3), many, Scenario()))
    rows.append(_row("observed replay", result.events / seconds, "events/s", f"{result.events} events"))
    for name, fall in (("calm", 0.0), ("crash", 0.4)):
        history = timeline(accounts, ticks, fall=fall)
        seconds, result = _seconds(lambda h=history: replay(AAVE_V3, market(accounts), h, Scenario(liquidators=Competitive())))
        shape = f"{accounts} accounts x {ASSETS} assets x {ticks} ticks, {len(result.liquidations)} liquidations"
        rows.append(_row(f"competitive replay, {name} book", accounts * ticks / seconds, "account-ticks/s", f"{shape}, {seconds:.2f} s"))
    small, few = 500, 200
    history = timeline(small, few, fall=0.4)
    plain, _ = _seconds(lambda: replay(AAVE_V3, market(small), history, Scenario(liquidators=Competitive()), screened=False))
    fast, result = _seconds(lambda: replay(AAVE_V3, market(small), history, Scenario(liquidators=Competitive())))
    shape = f"{small} accounts x {ASSETS} assets x {few} ticks, {len(result.liquidations)} liquidations"
    rows.append(_row("screen", small * few / fast, "account-ticks/s", shape, "every account by the exact rule", plain / fast))
    return rows


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:32} {row['value']:>14,.0f} {row['unit']:16} {row['ratio'] or '':>6} {row['shape']}")
