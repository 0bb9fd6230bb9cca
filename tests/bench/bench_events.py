"""An exact replay of an event-heavy book: users act in the window, a threshold is lowered in steps, and a quarter of
the accounts are loops.

``python -m tests.bench.bench_events`` prints the row; ``make bench`` collects ``run()``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.mechanism import ProtocolSpread
from backtest.replay.engine import Engine
from backtest.replay.memory import uncollected
from backtest.replay.timeline import Timeline
from backtest.replay.watch.foresight import Foresight
from backtest.tables import AMOUNT
from tests.bench.bench_replay import ASSETS, WINDOW, _amounts, _table, market

STEPS = 200
"""Of the ramp, one basis point each."""


def timeline(accounts: int, ticks: int, seed: int = 1) -> Timeline:
    """As that of ``bench_replay``, falling by a tenth in the middle: in each block a price, then a user's action; in
    some a step of the ramp.

    Asset 1 is a staked asset 0: it moves with it, and accounts that hold it owe asset 0 at a health of 1.02 to 1.1. The
    others hold a volatile asset and owe a stable one. Actions are supplies, withdrawals and borrows of 1 % of what the
    account has or owes.
    """
    stable, draw = ASSETS // 2, np.random.default_rng(seed)
    who = np.arange(accounts)
    collateral, debt = who % stable, stable + who % (ASSETS - stable)
    loops = collateral == 1
    debt[loops] = 0
    worth = (10 ** draw.uniform(2, 6, accounts)).astype(np.int64)
    owed = (worth * 0.8 / np.where(loops, draw.uniform(1.02, 1.1, accounts), draw.uniform(1.05, 3, accounts))).astype(
        np.int64
    )
    unit = np.where(np.arange(ASSETS) < stable, 10**6, 10**9)  # scaled units of 1e9 a dollar, at the first price
    settings = [("pool_revision", None, 10)]
    for asset in range(ASSETS):
        settings += [
            ("liquidation_threshold", asset, 8000),
            ("liquidation_bonus", asset, 10500),
            ("liquidation_protocol_fee", asset, 1000),
        ]
        settings += [("treasury", asset, accounts), ("ltv", asset, 7700), ("borrowing_enabled", asset, 1)]
    opened = len(settings) + ASSETS
    first = opened + 3 * accounts
    tick = np.arange(ticks)
    log = np.cumsum(draw.normal(0, 0.001, (ticks, stable)), axis=0)
    log += np.cumsum(
        np.where((tick >= ticks * 9 // 20) & (tick < ticks * 11 // 20), np.log(0.9) / max(1, ticks // 10), 0.0)
    )[:, None]
    log[:, 1] = log[:, 0] + draw.normal(0, 1e-5, ticks).cumsum()
    moved = np.where(tick % stable == 1, 1, tick % stable)
    log[tick % stable == 1, 1] = log[np.maximum(tick[tick % stable == 1] - 1, 0), 0]  # right after its base
    price_seq, act_seq, ramp_seq = (
        first + 3 * tick,
        first + 3 * tick + 1,
        first + 3 * (ticks // STEPS) * np.arange(STEPS) + 2,
    )

    def block(seq: np.ndarray) -> np.ndarray:
        return np.where(seq < first, 1, (seq - first) // 3 + 2)

    actor, kind = draw.integers(0, accounts, ticks), draw.integers(0, 3, ticks)  # supply, withdraw, borrow
    borrows = kind == 2
    start_seq = (opened + 3 * who[:, None] + np.array([0, 2])).ravel()
    seq = np.concatenate([start_seq, act_seq])
    scaled = (
        np.where(borrows, owed[actor] * unit[debt[actor]], worth[actor] * unit[collateral[actor]])
        // 100
        * np.where(kind == 1, -1, 1)
    )
    delta = _decimals(np.concatenate([np.stack([worth * unit[collateral], owed * unit[debt]], axis=1).ravel(), scaled]))
    names = ["supply", "borrow", "withdraw"]
    action = np.concatenate([np.tile([0, 1], accounts), np.array([0, 2, 1])[kind]]).astype(np.int32)
    side = np.concatenate([np.tile([0, 1], accounts), borrows]).astype(np.int32)
    params = [*settings, *(("liquidation_threshold", 2, 7_999 - step) for step in range(STEPS))]
    param_seq = np.concatenate([np.arange(len(settings)), ramp_seq])
    prices = np.exp(log[tick, moved]) * 1000e8
    price_of = np.concatenate([[1000e8] * stable, [1e8] * (ASSETS - stable), prices]).astype(np.int64)
    every_price = np.concatenate([len(settings) + np.arange(ASSETS), price_seq])
    flag_seq = opened + 3 * who + 1
    tables = {
        "params": _table(
            "params", param_seq, block(param_seq), asset_id=pa.array([a for _, a, _ in params], pa.int16()),
            category=pa.nulls(len(params), pa.int32()), name=pa.array([n for n, _, _ in params]).dictionary_encode(),
            value=pa.array([v for _, _, v in params]).cast(AMOUNT),
        ),
        "prices": _table(
            "prices", every_price, block(every_price), asset_id=pa.array(np.concatenate([np.arange(ASSETS),
            moved]).astype(np.int16)),
            price=_amounts(price_of),
        ),
        "position_events": _table(
            "position_events", seq, block(seq), account_id=pa.array(np.concatenate([np.repeat(who, 2),
            actor]).astype(np.int32)),
            asset_id=pa.array(
                np.concatenate(
                    [np.stack([collateral, debt], axis=1).ravel(), np.where(borrows, debt[actor], collateral[actor])]
                ).astype(np.int16)
            ),
            side=pa.DictionaryArray.from_arrays(pa.array(side), ["collateral", "debt"]), delta=delta,
            action=pa.DictionaryArray.from_arrays(pa.array(action), names), action_seq=pa.array(seq),
            amount=_unsigned(delta),
        ),
        "setting_events": _table(
            "setting_events", flag_seq, np.ones(accounts, np.int64), account_id=pa.array(who.astype(np.int32)),
            setting=pa.array(["collateral_enabled"] * accounts).dictionary_encode(),
            asset_id=pa.array(collateral.astype(np.int16)),
            value=_amounts(np.ones(accounts, dtype=np.int64)),
            action=pa.array(["other"] * accounts).dictionary_encode(),
            action_seq=pa.array(flag_seq),
        ),
    }  # fmt: skip
    return Timeline.of(tables)


def _decimals(values: np.ndarray) -> pa.Array:
    """Billions of these, exactly."""
    return pa.array([int(value) * 10**9 for value in values.tolist()], AMOUNT)


def _unsigned(values: pa.Array) -> pa.Array:
    """Amounts as logged: without a sign."""
    return pa.array([abs(value.as_py()) for value in values], AMOUNT)


def run(accounts: int = 100_000, ticks: int = 20_000) -> list[dict[str, Any]]:
    """Seconds of the processor for one replay with all of its history, and the share of account-ticks that the screen
    evaluated.
    """
    history, of = timeline(accounts, ticks), market(accounts)
    start = time.process_time()
    with uncollected():
        engine = Engine(AAVE_V3, of, history, WINDOW, ProtocolSpread())
        reader = engine.transactions()
        for transaction in reader:
            engine.advance(transaction)
            engine.run_ahead(reader)
        result = engine.finish()
    seconds = time.process_time() - start
    assert isinstance(engine.watch, Foresight)
    hit = len({made.fill.order.account for made in result.liquidations})
    refused = sum(count.count for count in result.actions if count.outcome == "skipped")
    share = engine.watch.read / (accounts * ticks)
    shape = (
        f"{accounts} accounts x {ASSETS} assets x {ticks} ticks, {accounts // 4} loops, {ticks} actions ({refused}"
        f" refused), a ramp of {STEPS} steps"
    )
    shape += f", {len(result.liquidations)} liquidations of {hit} accounts, {share:.2g} of account-ticks evaluated"
    return [
        {
            "name": "exact replay, event-heavy book",
            "value": seconds,
            "unit": "s",
            "baseline": None,
            "ratio": None,
            "shape": shape,
        }
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)
