"""Pools of Uniswap v3 from the package's own bytecode, and a trader that does random things in them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from backtest.model import PoolChange, PoolId
from backtest.pools.uniswap_v3 import MAX_SQRT_PRICE, MAX_TICK, MIN_SQRT_PRICE, PoolState, Swapped, sqrt_price_at
from tests.chain.contracts import artifact_uniswap_v3, own
from tests.chain.node import Contract, Node, Reverted

SPACINGS = {100: 1, 500: 10, 3000: 60, 10000: 200}


@dataclass(slots=True)
class Exchange:
    """The factory, and a trader that holds every token of its pools."""

    node: Node
    factory: Contract
    trader: Contract

    def pool(self, token_a: Contract, token_b: Contract, fee: int, tick: int, beyond: int = 0) -> ChainPool:
        """A new pool, initialized at a tick's price and as far ``beyond`` it as X96 units say."""
        if fee not in SPACINGS or self.factory.call("feeAmountTickSpacing", fee) == 0:
            self.factory.send("enableFeeAmount", fee, SPACINGS[fee])
        self.factory.send("createPool", token_a.address, token_b.address, fee)
        address = self.factory.call("getPool", token_a.address, token_b.address, fee)
        made = Contract(self.node, address, artifact_uniswap_v3("UniswapV3Pool").abi)
        created = self.node.block_number
        made.send("initialize", sqrt_price_at(tick) + beyond)
        return ChainPool(self, made, fee, SPACINGS[fee], created)


def deploy_exchange(node: Node, *tokens: Contract) -> Exchange:
    """A factory, and a trader with 10^60 native units of each token."""
    trader = node.deploy(own("Trader.sol")["Trader"])
    for token in tokens:
        token.send("mint", trader.address, 10**60)
    return Exchange(node, node.deploy(artifact_uniswap_v3("UniswapV3Factory")), trader)


@dataclass(slots=True)
class ChainPool:
    """One pool. ``positions``: liquidity by range of ticks, all of the trader's."""

    exchange: Exchange
    contract: Contract
    fee: int
    spacing: int
    created: int
    positions: dict[tuple[int, int], int] = field(default_factory=dict)

    def mint(self, lower: int, upper: int, liquidity: int) -> None:
        self.exchange.trader.send("mint", self.contract.address, lower, upper, liquidity)
        self.positions[lower, upper] = self.positions.get((lower, upper), 0) + liquidity

    def burn(self, lower: int, upper: int, liquidity: int) -> None:
        self.exchange.trader.send("burn", self.contract.address, lower, upper, liquidity)
        self.positions[lower, upper] -= liquidity

    def swap(self, zero_for_one: bool, amount: int, limit: int | None = None) -> bool:
        """Whether it went through: a pool reverts where it stands at the limit."""
        try:
            self.exchange.trader.send(
                "swap", self.contract.address, zero_for_one, amount, self.limit(zero_for_one, limit)
            )
        except Reverted:
            return False
        return True

    def limit(self, zero_for_one: bool, limit: int | None) -> int:
        return limit if limit is not None else MIN_SQRT_PRICE + 1 if zero_for_one else MAX_SQRT_PRICE - 1

    def probes(self, asked: list[tuple[bool, int, int | None]]) -> list[Swapped | None]:
        """What swaps (token 0 in, amount, limit) would do now, by the contract; None where it reverts."""
        trader = self.exchange.trader
        function = trader.function("probe")
        calls = [(self.contract.address, down, amount, self.limit(down, limit)) for down, amount, limit in asked]
        requests = [
            ("eth_call", [{"to": trader.address, "data": "0x" + function.encode(call).hex()}, "latest"])
            for call in calls
        ]
        found: list[Swapped | None] = []
        for (down, _, _), answer in zip(asked, self.exchange.node.batch(requests), strict=True):
            if isinstance(answer, Exception):
                found.append(None)
                continue
            amount0, amount1, price, tick, liquidity = function.decode(bytes.fromhex(answer[2:]))
            found.append(
                Swapped(amount0, -amount1, price, tick, liquidity)
                if down
                else Swapped(amount1, -amount0, price, tick, liquidity)
            )
        return found

    def read(self, block: int | str = "latest") -> tuple[int, int, int]:
        """Price, tick and active liquidity, as the contract has them."""
        price, tick, *_ = self.contract.call("slot0", block=block)
        return price, tick, self.contract.call("liquidity", block=block)

    def ticks(self, some: list[int]) -> dict[int, tuple[int, int]]:
        """``liquidityGross`` and ``liquidityNet`` of ticks, where they are initialized."""
        found = {tick: self.contract.call("ticks", tick) for tick in some}
        return {tick: (values[0], values[1]) for tick, values in found.items() if values[7]}

    def state(self) -> PoolState:
        """The pool as its own calls and the trader's positions say."""
        price, tick, liquidity = self.read()
        made = PoolState(self.fee, self.spacing)
        place = {"seq": 0, "block_number": 0, "log_index": 0, "timestamp": 0, "pool": PoolId(0)}
        for (lower, upper), amount in self.positions.items():
            made.apply(PoolChange(**place, tick=lower, upper=upper, liquidity=amount))
        made.apply(PoolChange(**place, tick=tick, liquidity=liquidity, sqrt_price=price))
        return made

    def play(self, draw: random.Random, steps: int, size: int) -> int:
        """Mints, burns and swaps of about ``size`` liquidity; how many of them went through."""
        done = 0
        for _ in range(steps):
            _, tick, _ = self.read()
            kind = draw.random()
            held = sorted(place for place, amount in self.positions.items() if amount)
            if kind < 0.35 or not held:
                widest = MAX_TICK // self.spacing
                middle, width = (
                    tick // self.spacing + draw.randint(-120, 120),
                    draw.choice([1, 2, 7, 40, 300, 3000, 2 * widest]),
                )
                lower, upper = max(middle - width // 2, -widest), min(middle - width // 2 + width, widest)
                if lower < upper:
                    self.mint(lower * self.spacing, upper * self.spacing, draw.randint(1, size))
                    done += 1
            elif kind < 0.5:
                lower, upper = draw.choice(held)
                amount = self.positions[lower, upper]
                self.burn(lower, upper, draw.choice([amount, amount // 2, 0]))
                done += 1
            else:
                done += self.swap(*draw_swap(draw, self.state(), size))
        return done


def draw_swap(draw: random.Random, pool: PoolState, size: int) -> tuple[bool, int, int | None]:
    """Token 0 in or not, an amount of any order of magnitude (negative: out), sometimes with a price limit near by."""
    down = draw.random() < 0.5
    amount = draw.randint(1, 10 ** draw.randint(0, len(str(size)))) * (-1 if draw.random() < 0.25 else 1)
    if draw.random() < 0.8:
        return down, amount, None
    target = pool.tick + draw.randint(1, 400) * pool.spacing * (-1 if down else 1)
    limit = sqrt_price_at(min(max(target, -MAX_TICK + 1), MAX_TICK - 1)) + draw.randint(0, 10**6)
    return down, amount, limit
