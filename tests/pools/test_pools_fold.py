"""The fold of pools' logs without a chain: sums before the start, prices by the unit, what is refused, what is
counted.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest

from backtest.errors import LakeError, UserError
from backtest.markets import MarketConfig, PoolConfig
from backtest.model import AssetId, Pool, PoolChange, PoolId
from backtest.pools.fold import PoolFold, PoolLog, pools_of
from backtest.pools.uniswap_v3 import Q96, PoolState, sqrt_price_at, swap, tick_at

A, B, C = (f"0x{i:040x}" for i in (1, 2, 3))
FIRST, SECOND, THIRD = (f"0x{i:040x}" for i in (11, 12, 13))
TOKENS = [
    {"address": bytes.fromhex(token[2:]), "symbol": symbol, "decimals": d}
    for token, symbol, d in ((A, "AAA", 18), (B, "BBB", 6), (C, "CCC", 8))
]


def fact(pool: str, token0: str, token1: str) -> dict[str, Any]:
    raw = {name: bytes.fromhex(text[2:]) for name, text in (("address", pool), ("token0", token0), ("token1", token1))}
    return {**raw, "kind": "uniswap-v3", "fee": 3000, "tick_spacing": 60}


def made(*pools: tuple[str, str, str, str], assets: Sequence[str] = (A, B, C)) -> list[Pool]:
    """From (address, token 0, token 1, priced)."""
    configs = [PoolConfig(address=address, prices=priced) for address, _, _, priced in pools]
    return pools_of(configs, [fact(*pool[:3]) for pool in pools], TOKENS, {asset: i for i, asset in enumerate(assets)})


def log(
    key: int,
    event: str,
    tick: int,
    liquidity: int,
    *,
    pool: int = 0,
    amounts: tuple[int, int] | None = None,
    **more: int,
) -> PoolLog:
    change = PoolChange(
        seq=0,
        block_number=key // 10,
        log_index=key % 10,
        timestamp=0,
        pool=PoolId(pool),
        tick=tick,
        liquidity=liquidity,
        **more,
    )
    return PoolLog(key, event, change, *(amounts or (None, None)))


def swapped(key: int, state: PoolState, zero_for_one: bool, amount: int, pool: int = 0) -> PoolLog:
    done = swap(state, zero_for_one, amount)
    amounts = (done.amount_in, -done.amount_out) if zero_for_one else (-done.amount_out, done.amount_in)
    return log(key, "swap", done.tick, done.liquidity, pool=pool, amounts=amounts, sqrt_price=done.sqrt_price)


def history(seed: int) -> list[PoolLog]:
    """Forty logs of one pool, at places 10, 20, ..."""
    draw, state = random.Random(seed), PoolState(3000, 60)
    logs = [log(10, "initialize", 0, 0, sqrt_price=Q96), log(20, "mint", -6000, 10**12, upper=6000)]
    held = [(-6000, 6000, 10**12)]
    for key in range(30, 410, 10):
        for each in logs[-1 if key > 30 else 0 :]:
            state.apply(each.change)
        kind = draw.random()
        if kind < 0.3:
            held.append((draw.randint(-50, 0) * 60, draw.randint(1, 50) * 60, draw.randint(1, 10**13)))
            logs.append(log(key, "mint", held[-1][0], held[-1][2], upper=held[-1][1], amounts=(1, 1)))
        elif kind < 0.5 and len(held) > 1:
            lower, upper, amount = held.pop()
            logs.append(log(key, "burn", lower, -amount, upper=upper, amounts=(-1, -1)))
        else:
            logs.append(swapped(key, state, draw.random() < 0.5, draw.randint(1, 10**11)))
    return logs


def folded(logs: Sequence[PoolLog], pools: Sequence[Pool], start: int = 0, more: int = 0) -> PoolFold:
    fold = PoolFold(pools, start, more)
    for each in logs:
        fold.log(each)
    fold.end()
    return fold


def state_of(rows: Sequence[dict[str, Any]]) -> PoolState:
    """What a replay makes of the rows."""
    state = PoolState(3000, 60)
    for row in rows:
        price = None if row["sqrt_price"] is None else int.from_bytes(row["sqrt_price"], "big")
        place = {"seq": 0, "block_number": 0, "log_index": 0, "timestamp": 0, "pool": PoolId(0)}
        state.apply(
            PoolChange(**place, tick=row["tick"], upper=row["upper"], liquidity=int(row["liquidity"]), sqrt_price=price)
        )
    return state


@pytest.mark.parametrize("seed", range(12))
def test_what_was_before_the_start_comes_as_its_sum(seed: int) -> None:
    logs, pools = history(seed), made((FIRST, A, B, A))
    whole = folded(logs, pools)
    assert (whole.swaps, whole.differing) == (sum(each.event == "swap" for each in logs), 0)
    for start in (15, 125, 255, 1000):
        late = folded(logs, pools, start)
        assert state_of(late.events) == state_of(whole.events)
        assert (late.swaps, late.differing) == (whole.swaps, 0)
        sums = [row for row in late.events if row["key"] == start]
        assert [row["event"] for row in sums][-1] == "initialize"
        assert {row["event"] for row in sums[:-1]} <= {"mint"}
        assert [row["key"] for row in late.events if row["key"] != start] == [
            each.key for each in logs if each.key >= start
        ]


def test_a_swap_that_the_rules_do_not_give_is_counted_and_named() -> None:
    logs = history(3)
    at = next(i for i, each in enumerate(logs) if each.event == "swap")
    logs[at] = dataclasses.replace(logs[at], amount0=(logs[at].amount0 or 0) * 2 + 1)
    fold = folded(logs, made((FIRST, A, B, A)))
    assert fold.differing == 1
    assert fold.first == f"pool {FIRST}, block {logs[at].key // 10}, log 0"
    assert len(fold.events) == len(logs)  # it happened all the same


def test_history_that_lacks_something_is_refused() -> None:
    logs, pools = history(4), made((FIRST, A, B, A))
    with pytest.raises(UserError, match=r"has a mint in block 2 before it is initialized; its start_block is too late"):
        folded(logs[1:], pools)
    with pytest.raises(LakeError, match="more liquidity is burned in block 3 than was minted"):
        folded([*logs[:2], log(30, "burn", -6000, -(10**12) - 1, upper=6000, amounts=(0, 0))], pools)


def steps(fold: PoolFold) -> list[tuple[int, int, int | None]]:
    return [(row["key"], row["asset_id"], None if row["price"] is None else int(row["price"])) for row in fold.prices]


def test_a_price_steps_with_its_pool_and_with_what_it_is_quoted_in() -> None:
    """18 and 6 decimals; the mid price is exact, and rounded down once. Oracle prices have two decimals more than base
    units.
    """
    fold = PoolFold(made((FIRST, A, B, A)), 0, 2)
    root = sqrt_price_at(tick_at(Q96 * 44_721 // 10**9))  # about 2000 B for an A
    fold.log(log(10, "initialize", tick_at(root), 0, sqrt_price=root))
    fold.oracle(15, AssetId(1), 99_990_000_00)
    fold.log(log(20, "mint", -600_000, 10**12, upper=600_000, amounts=(1, 1)))
    price = 99_990_000_00 * root * root * 10**18 // (Q96 * Q96 * 10**6 * 100)
    assert steps(fold) == [(20, 0, price)]  # not before there is liquidity
    fold.log(log(30, "mint", -60, 5, upper=60, amounts=(1, 1)))
    fold.oracle(40, AssetId(1), 99_990_000_01)
    fold.oracle(50, AssetId(1), 2 * 99_990_000_00)
    fold.oracle(60, AssetId(1), None)
    last = 2 * 99_990_000_00 * root * root * 10**18 // (Q96 * Q96 * 10**6 * 100)
    assert steps(fold)[-2:] == [(50, 0, last), (60, 0, None)]
    assert len(steps(fold)) in (3, 4)  # the third digit below a unit may show
    assert fold.quotes == {1}


def test_two_pools_in_a_row_are_rounded_once() -> None:
    pools = made((FIRST, A, B, A), (SECOND, B, C, B), assets=(A, C))
    assert [pool.assets for pool in pools] == [(0, None), (None, 1)]
    fold = PoolFold(pools, 0, 0)
    one, two = Q96 // 10**7 + 12_345, Q96 * 3 + 7
    for key, number, root in ((10, 0, one), (20, 1, two)):
        fold.log(log(key, "initialize", tick_at(root), 0, pool=number, sqrt_price=root))
        fold.log(log(key + 1, "mint", -600_000, 10**9, pool=number, upper=600_000, amounts=(1, 1)))
    fold.oracle(30, AssetId(1), 7)
    assert steps(fold) == [(30, 0, 7 * one * one * 10**18 * two * two // (Q96**4 * 10**8))]


def test_pools_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(UserError, match="price tokens in each other"):
        made((FIRST, A, B, A), (SECOND, B, C, B), (THIRD, A, C, C))
    with pytest.raises(UserError, match="is not the only one that prices"):
        made((FIRST, A, B, A), (SECOND, A, C, "aaa"))
    with pytest.raises(UserError, match=r"trades AAA .* for BBB .*: prices = 'CCC' names neither"):
        made((FIRST, A, B, "CCC"))
    with pytest.raises(UserError, match="was not fetched; run the fetch again"):
        pools_of([PoolConfig(address=FIRST, prices="AAA")], [], TOKENS, {})
    with pytest.raises(UserError, match="is named twice"):
        MarketConfig(
            name="m",
            protocol="p",
            chain_id=1,
            start_block=0,
            contracts={},
            pools=(PoolConfig(address=FIRST, prices="x"), PoolConfig(address=FIRST, prices="y")),
        )
    with pytest.raises(UserError, match=r"pools.address = '0x1' is not an address"):
        PoolConfig(address="0x1", prices="x")
    with pytest.raises(UserError, match="start_block = -1"):
        PoolConfig(address=FIRST, prices="x", start_block=-1)
