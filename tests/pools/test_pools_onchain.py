"""The rules of Uniswap v3 against the bytecode of its pools: states and swaps, to the unit."""

from __future__ import annotations

import random

import pytest
from eth_abi.abi import decode
from eth_utils.crypto import keccak

from backtest.model import PoolChange, PoolId
from backtest.pools.uniswap_v3 import PoolState, agrees, amount_out_down, swap
from tests.chain.contracts import own
from tests.chain.node import Contract, Node
from tests.chain.pools import ChainPool, Exchange, deploy_exchange, draw_swap


@pytest.fixture
def exchange(anvil: Node) -> tuple[Exchange, list[Contract]]:
    tokens = [anvil.deploy(own("Token.sol")["Token"], name, decimals) for name, decimals in (("AAA", 18), ("BBB", 6))]
    return deploy_exchange(anvil, *tokens), tokens


def followed(pool: ChainPool) -> tuple[PoolState, int, list[int]]:
    """The state by the pool's own logs, how many swaps are among them, and the places of those that the rules do not
    give.
    """
    names = {}
    for entry in pool.contract.abi:
        if entry["type"] == "event":
            names[
                "0x" + keccak(text=f"{entry['name']}({','.join(item['type'] for item in entry['inputs'])})").hex()
            ] = entry
    state, swaps, wrong = PoolState(pool.fee, pool.spacing), 0, []
    for log in pool.exchange.node.get_logs(address=pool.contract.address):
        entry = names[log["topics"][0]]
        plain = [item for item in entry["inputs"] if not item["indexed"]]
        values = dict(
            zip(
                (item["name"] for item in plain),
                decode([item["type"] for item in plain], bytes.fromhex(log["data"][2:])),
                strict=True,
            )
        )
        indexed = [item["name"] for item in entry["inputs"] if item["indexed"]]
        words = {
            name: int.from_bytes(bytes.fromhex(topic[2:]), "big", signed=True)
            for name, topic in zip(indexed, log["topics"][1:], strict=True)
        }
        place = {
            "seq": 0,
            "block_number": int(log["blockNumber"], 16),
            "log_index": 0,
            "timestamp": 0,
            "pool": PoolId(0),
        }
        if entry["name"] in ("Mint", "Burn"):
            sign = 1 if entry["name"] == "Mint" else -1
            change = PoolChange(
                **place, tick=words["tickLower"], upper=words["tickUpper"], liquidity=sign * values["amount"]
            )
        elif entry["name"] in ("Initialize", "Swap"):
            change = PoolChange(
                **place, tick=values["tick"], liquidity=values.get("liquidity", 0), sqrt_price=values["sqrtPriceX96"]
            )
            if entry["name"] == "Swap":
                swaps += 1
                if not agrees(state, change, values["amount0"], values["amount1"]):
                    wrong.append(place["block_number"])
        else:
            continue
        state.apply(change)
    return state, swaps, wrong


@pytest.mark.parametrize(
    ("fee", "tick", "beyond"), [(100, 3, 0), (500, -200_405, 12_345), (3000, 76_020, 7), (10000, -400, 0)]
)
def test_states_and_swaps_equal_the_contracts(
    exchange: tuple[Exchange, list[Contract]], fee: int, tick: int, beyond: int
) -> None:
    market, (a, b) = exchange
    draw = random.Random(fee)
    pool = market.pool(a, b, fee, tick, beyond)
    crossed = compared = drained = 0
    for _ in range(7):
        pool.play(draw, 12, 10**15)
        state, swaps, wrong = followed(pool)
        assert not wrong
        price, at, liquidity = pool.read()
        assert (state.sqrt_price, state.tick, state.liquidity) == (price, at, liquidity)
        known = {tick: (state.gross[tick], state.net[tick]) for tick in state.ticks}
        asked = sorted({*known, *(edge for place in pool.positions for edge in place)})
        assert known == pool.ticks(asked)
        asked_swaps = [draw_swap(draw, state, 10**17) for _ in range(60)] + [
            (True, 10**40, None),
            (False, 10**40, None),
        ]
        for (down, amount, limit), theirs in zip(asked_swaps, pool.probes(asked_swaps), strict=True):
            if theirs is None:  # it stands at the last price, or the limit is behind it
                if limit is None:
                    assert swap(state, down, amount).amount_in == 0
                else:
                    with pytest.raises(ValueError, match="no swap"):
                        swap(state, down, amount, limit)
                continue
            ours = swap(state, down, amount, limit)
            assert ours == theirs, (fee, down, amount, limit)
            compared += 1
            low, high = sorted((ours.tick, state.tick))
            crossed += sum(low < each <= high for each in state.ticks)
            drained += amount > 0 and limit is None and ours.amount_in < amount
            if amount > 0 and limit is None:
                assert amount_out_down(state, down, amount) == theirs.amount_out
    assert swaps > 20
    assert compared > 300
    assert crossed > 400
    assert drained > 5
    assert pool.spacing == pool.contract.call("tickSpacing")
