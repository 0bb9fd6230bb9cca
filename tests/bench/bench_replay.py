"""Replays of synthetic Aave V3.6 markets: events a second, account-ticks a second, and what the screen saves.

``python -m tests.bench.bench_replay`` prints the rows; ``make bench`` collects ``run()``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec import structs

from backtest.model import AccountId, Asset, AssetId, Market
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.mechanism import ProtocolSpread
from backtest.replay.engine import Engine, replay
from backtest.replay.memory import uncollected
from backtest.replay.record import Replay
from backtest.replay.shortcuts.common_start import Start, start_of
from backtest.replay.timeline import Timeline
from backtest.replay.watch.screen import Screen
from backtest.scenario import Competitive, Override, Scenario
from backtest.tables import AMOUNT, CANONICAL
from tests.bench.memory import peak_memory

ASSETS = 8
EVENTS = 1_000_000
WINDOW_FROM = 2  # all accounts open in block 1
WINDOW = Scenario(liquidators=Competitive(), from_block=WINDOW_FROM)


def market(accounts: int, assets: int = ASSETS) -> Market:
    """Assets of 18 decimals; the last account is the treasury."""
    listed = tuple(Asset(AssetId(i), f"0x{i:040x}", f"A{i}", 18) for i in range(assets))
    return Market(
        name="bench",
        protocol="aave-v3",
        chain_id=1,
        assets=listed,
        accounts=tuple(f"0x{i:040x}" for i in range(accounts + 1)),
    )


def timeline(
    accounts: int, ticks: int, *, fall: float, assets: int = ASSETS, seed: int = 1, revision: int = 10
) -> Timeline:
    """Every account supplies one volatile asset and borrows one stable at a health of 1.05 to 3; then one price a
    block.

    The first half of the assets is volatile. Their prices walk by 0.1 % a tick and fall by ``fall`` in the middle tenth
    of the ticks. ``revision``: of the pool; 1 and 2 are Aave V2's.
    """
    stable = assets // 2  # assets below are volatile collateral, the others are borrowed
    draw = np.random.default_rng(seed)
    settings = [("pool_revision", None, revision)]
    for asset in range(assets):
        settings += [("liquidation_threshold", asset, 8000), ("liquidation_bonus", asset, 10500)]
        if revision > 2:  # not of Aave V2
            settings.append(("liquidation_protocol_fee", asset, 1000))
        settings += [("treasury", asset, accounts), ("ltv", asset, 7700), ("borrowing_enabled", asset, 1)]
    rows = len(settings)
    start = np.arange(accounts)
    collateral, debt = start % stable, stable + start % (assets - stable)
    worth = (10 ** draw.uniform(2, 6, accounts)).astype(np.int64)
    owed = (worth * 0.8 / draw.uniform(1.05, 3, accounts)).astype(np.int64)
    walk = np.zeros(ticks)
    walk[ticks * 9 // 20 : ticks * 11 // 20] = np.log(1 - fall) / max(1, ticks // 10) * stable
    moved = np.arange(ticks) % stable
    log_price = np.zeros((ticks, stable))
    log_price[np.arange(ticks), moved] = walk + draw.normal(0, 0.001, ticks)
    prices = np.exp(np.cumsum(log_price, axis=0))[np.arange(ticks), moved] * 1000e8
    first = rows + assets + 3 * accounts
    key = {
        "params": np.arange(rows),
        "prices": np.concatenate([rows + np.arange(assets), first + np.arange(ticks)]),
        "setting_events": rows + assets + 3 * start + 1,
    }
    position_seq = (rows + assets + 3 * start[:, None] + np.array([0, 2])).ravel()
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
            asset_id=pa.array(np.concatenate([np.arange(assets), moved]).astype(np.int16)),
            price=_amounts(np.concatenate([[1000e8] * stable, [1e8] * (assets - stable), prices]).astype(np.int64)),
        ),
        "position_events": _table(
            "position_events",
            position_seq,
            np.ones_like(position_seq),
            account_id=pa.array(np.repeat(start, 2).astype(np.int32)),
            asset_id=pa.array(np.stack([collateral, debt], axis=1).ravel().astype(np.int16)),
            side=pa.DictionaryArray.from_arrays(
                pa.array(np.tile([0, 1], accounts).astype(np.int32)), ["collateral", "debt"]
            ),
            delta=_amounts(np.stack([worth * 10**6, owed * 10**9], axis=1).ravel(), shift=10**9),
            action=pa.DictionaryArray.from_arrays(
                pa.array(np.tile([0, 1], accounts).astype(np.int32)), ["supply", "borrow"]
            ),
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
    every = {
        "seq": pa.array(seq),
        "block_number": pa.array(block),
        "log_index": log_index,
        "timestamp": pa.array(block * 12),
        **columns,
    }
    wanted = [field.name for field in CANONICAL[of] if field.name in every]
    return pa.table([every[column] for column in wanted], wanted)


def _seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Of the processor: everything here runs on one core."""
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def _row(
    name: str, value: float, unit: str, shape: str, baseline: Any = None, ratio: float | None = None
) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "shape": shape}


def step_engine(accounts: int, history: Timeline, start: Start[Any]) -> tuple[float, Replay[Any], Screen[Any]]:
    """The window by a screen that knows nothing in advance, as where rates or prices follow the book; from a book that
    stands, everyone read once.
    """
    engine = Engine(AAVE_V3, market(accounts), history, WINDOW, ProtocolSpread(), start=start)
    watch: Screen[Any] = Screen(ASSETS)
    for account in range(accounts):
        watch.touch(AccountId(account))
    engine.watch = watch
    engine.stand()
    watch.candidates(engine.book)

    def window() -> Replay[Any]:
        with uncollected():
            for transaction in engine.transactions():
                engine.advance(transaction)
            return engine.finish()

    return (*_seconds(window), watch)


def scenarios(count: int) -> list[Scenario]:
    """Evenly from a grid of 1,000: 40 thresholds and 25 bonuses of one asset, from the window's first block on."""
    made = []
    for number in (1_000 * k // count for k in range(count)):
        pair = (
            ("liquidation_threshold", 7_710 + 10 * (number % 40)),
            ("liquidation_bonus", 10_300 + 20 * (number // 40)),
        )
        made.append(
            structs.replace(
                WINDOW,
                overrides=tuple(Override(parameter=p, value=v, asset="A0", from_block=WINDOW_FROM) for p, v in pair),
            )
        )
    return made


def _part(accounts: int, ticks: int, fall: float, count: int, place: int, of: int) -> tuple[float, float, int]:
    """In a process of its own: seconds of the processor for its history and start, and for its part of a sample of
    scenarios; peak memory, bytes.
    """
    listed = market(accounts)  # which scenarios share, as they do in a sweep
    begun, start = _seconds(lambda: start_of(AAVE_V3, listed, timeline(accounts, ticks, fall=fall), WINDOW))
    own = scenarios(count)[place::of]
    taken, _ = _seconds(
        lambda: [bool(replay(AAVE_V3, listed, start.timeline, each, start=start).liquidations) for each in own]
    )
    return begun, taken, peak_memory()


def thousand(name: str, accounts: int, ticks: int, fall: float, bound: float, sample: int) -> list[dict[str, Any]]:
    """1,000 scenarios on two cores, from a sample of them replayed in two processes at once; all results are let go."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        parts = list(
            pool.map(_part, *zip(*[(accounts, ticks, fall, sample, place, 2) for place in range(2)], strict=True))
        )
    seconds = max(begun for begun, _, _ in parts) + sum(taken for _, taken, _ in parts) / sample * 1_000 / 2
    shape = (
        f"{accounts} accounts x {ASSETS} assets x {ticks} ticks, a core of two; extrapolated from {sample} scenarios in"
        " 2 processes"
    )
    memory = sum(peak for _, _, peak in parts) / 2**30
    return [
        _row(f"1,000 scenarios, {name} book", seconds, "s", shape, bound, bound / seconds),
        _row(f"peak memory, 1,000 scenarios, {name} book", memory, "GiB", shape, 2.0, 2.0 / memory),
    ]


def book_rows(name: str, accounts: int, ticks: int, fall: float, bounds: dict[str, float]) -> list[dict[str, Any]]:
    """One book: from the beginning, from a common start, several scenarios, and by the step engine; all must liquidate
    the same.
    """
    history, of = timeline(accounts, ticks, fall=fall), market(accounts)
    whole, result = _seconds(lambda: replay(AAVE_V3, of, history, WINDOW))
    begun, start = _seconds(lambda: start_of(AAVE_V3, of, history, WINDOW))
    short, again = _seconds(lambda: replay(AAVE_V3, of, history, WINDOW, start=start))
    many, _ = _seconds(lambda: [replay(AAVE_V3, of, history, each, start=start) for each in scenarios(4)])
    stepped, third, watch = step_engine(accounts, history, start)
    if not result.liquidations == again.liquidations == third.liquidations:
        raise AssertionError(f"{name}: replays differ")
    hit = len({made.fill.order.account for made in result.liquidations})
    total = accounts * ticks
    shape = (
        f"{accounts} accounts x {ASSETS} assets x {ticks} ticks, {len(result.liquidations)} liquidations of {hit}"
        " accounts"
    )

    def seconds(what: str, value: float, more: str = "") -> dict[str, Any]:
        bound = bounds.get(what)
        return _row(f"{what}, {name} book", value, "s", shape + more, bound, None if bound is None else bound / value)

    bound = bounds.get("step engine")
    step = total / stepped
    return [
        seconds("exact replay", whole),
        seconds("history before the window", begun),
        seconds("exact replay from a common start", short),
        seconds("one of many scenarios", many / 4),
        _row(
            f"step engine, {name} book", step, "account-ticks/s",
            f"{shape}, {watch.read / total:.2g} of account-ticks read", bound,
            None if bound is None else step / bound,
        ),
    ]  # fmt: skip


def run(accounts: int = 100_000, ticks: int = 20_000) -> list[dict[str, Any]]:
    """Decoding of a timeline; competitive replays of a calm and of a crash book; the screen against looking at
    everyone; how cost grows.
    """
    rows = []
    many = timeline(EVENTS // 3, 0, fall=0)
    seconds, count = _seconds(lambda: sum(len(t) for t in many.transactions()))
    rows.append(_row("timeline to events", count / seconds, "events/s", f"{count} events"))
    seconds, result = _seconds(lambda: replay(AAVE_V3, market(EVENTS // 3), many, Scenario()))
    rows.append(_row("observed replay", result.events / seconds, "events/s", f"{result.events} events"))
    # 1,000 scenarios on two cores: in 2 minutes on the calm book and 10 on the crash book
    rows += book_rows("calm", accounts, ticks, 0.0, {"one of many scenarios": 0.24, "step engine": 1e9})
    rows += book_rows("crash", accounts, ticks, 0.3, {"exact replay": 2.0, "one of many scenarios": 1.2})
    rows += thousand("calm", accounts, ticks, 0.0, 120, 40) + thousand("crash", accounts, ticks, 0.3, 600, 20)
    for less_accounts, less_ticks, assets in (
        (4, 1, 8),
        (2, 1, 8),
        (1, 1, 8),
        (1, 4, 8),
        (1, 2, 8),
        (1, 1, 16),
        (1, 1, 32),
    ):
        some, few = accounts // less_accounts, ticks // less_ticks
        history = timeline(some, few, fall=0.3, assets=assets)
        seconds, result = _seconds(lambda h=history, n=some, a=assets: replay(AAVE_V3, market(n, a), h, WINDOW))
        shape = f"{some} accounts x {assets} assets x {few} ticks, {len(result.liquidations)} liquidations"
        rows.append(_row("cost curve, crash book", seconds, "s", shape))
    history, of = timeline(accounts, ticks, fall=0.3), market(accounts)
    start = start_of(AAVE_V3, of, history, WINDOW)
    for count in (1, 4, 16):
        seconds, _ = _seconds(
            lambda n=count: [replay(AAVE_V3, of, history, each, start=start).events for each in scenarios(n)]
        )
        rows.append(
            _row(
                "cost curve, scenarios of the crash book",
                seconds,
                "s",
                f"{count} scenarios, {accounts} accounts x {ASSETS} assets x {ticks} ticks",
            )
        )
    small, few = 500, 200
    history = timeline(small, few, fall=0.4)
    plain, _ = _seconds(lambda: replay(AAVE_V3, market(small), history, WINDOW, screened=False))
    fast, result = _seconds(lambda: replay(AAVE_V3, market(small), history, WINDOW))
    shape = (
        f"{small} accounts x {ASSETS} assets x {few} ticks, {len(result.liquidations)} liquidations; against every"
        " account by the exact rule"
    )
    rows.append(
        _row("screened replay", small * few / fast, "account-ticks/s", shape, small * few / plain, plain / fast)
    )
    return rows


if __name__ == "__main__":
    for row in run():
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['name']:46} {row['value']:>16,.2f} {row['unit']:16} {ratio:>8} {row['shape']}")
