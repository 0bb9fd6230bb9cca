"""A market with pools on a local node: one fixture, played once for the tests of a module.

WETH is priced by a pool with USDC that is older than the market; WBTC by two, through a token that is no asset of the
market.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from msgspec import structs

from backtest.markets import MarketConfig, PoolConfig
from backtest.pools.uniswap_v3 import sqrt_price_at
from tests.chain import aave
from tests.chain.contracts import own
from tests.chain.deployment import Deployment
from tests.chain.node import Contract, Node
from tests.chain.pools import ChainPool, Exchange, deploy_exchange

NAME = "pooled"
BORROWER, LENDER, OTHER = (f"0x{0xB0B0000 + i:040x}" for i in range(3))


@dataclass
class Played:
    """``weth``, ``wbtc`` and ``mid`` are the pools; ``fell`` is the block in which
    the oracle's price does, ``dear`` that of the swap which makes the liquidation pay."""

    deployment: Deployment
    weth: ChainPool
    wbtc: ChainPool
    mid: ChainPool
    samples: list[int]
    fell: int
    dear: int
    last: int

    @property
    def config(self) -> MarketConfig:
        pools = (
            PoolConfig(address=self.weth.contract.address, prices="weth", start_block=self.weth.created),
            PoolConfig(address=self.wbtc.contract.address, prices=self.deployment.reserves["WBTC"].asset.address),
            PoolConfig(address=self.mid.contract.address, prices="MID"),
        )
        return structs.replace(self.deployment.market_config(NAME), pools=pools)


def tick_of(base: Contract, quote: Contract, price: float, decimals: tuple[int, int]) -> int:
    """The tick at which one whole ``base`` is worth ``price`` whole ``quote``."""
    tick = math.log(price * 10.0 ** (decimals[1] - decimals[0])) / math.log(1.0001)
    return round(tick if base.address.lower() < quote.address.lower() else -tick)


def around(pool: ChainPool, width: int, liquidity: int) -> None:
    middle = pool.read()[1] // pool.spacing
    pool.mint((middle - width) * pool.spacing, (middle + width) * pool.spacing, liquidity)


@pytest.fixture(scope="module")
def played(chain_packages: None) -> Iterator[Played]:
    with Node() as node, pytest.MonkeyPatch.context() as patch:
        made: list[tuple[Exchange, ChainPool]] = []
        plain = aave._tokens

        def tokens(node: Node) -> dict[str, Contract]:
            """The market's tokens, and one that is traded before the market is."""
            found = plain(node)
            exchange = deploy_exchange(node, *found.values())
            pool = exchange.pool(
                found["WETH"], found["USDC"], 500, tick_of(found["WETH"], found["USDC"], 194.0, (18, 6))
            )
            pool.mint(-887_270, 887_270, 10**17)  # more would be amounts of more than 38 digits when it is drained
            around(pool, 600, 4 * 10**20)
            pool.play(random.Random(1), 20, 10**13)
            made.append((exchange, pool))
            return found

        patch.setattr(aave, "_tokens", tokens)
        market = aave.deploy_v36(node)
        (exchange, weth), reserves = made[0], market.reserves
        assert weth.created < market.start_block
        yield _play(node, market, exchange, weth, {symbol: reserve.asset for symbol, reserve in reserves.items()})


def _play(node: Node, market: Deployment, exchange: Exchange, weth: ChainPool, tokens: dict[str, Contract]) -> Played:
    draw, samples = random.Random(2), []
    mid = node.deploy(own("Token.sol")["Token"], "MID", 12)
    mid.send("mint", exchange.trader.address, 10**60)
    to_mid = exchange.pool(tokens["WBTC"], mid, 3000, tick_of(tokens["WBTC"], mid, 40.0, (8, 12)))
    around(to_mid, 300, 10**21)
    to_usdc = exchange.pool(mid, tokens["USDC"], 10_000, tick_of(mid, tokens["USDC"], 198.0, (12, 6)))
    around(to_usdc, 200, 10**21)
    for user, symbol, amount in (
        (LENDER, "USDC", 10**6 * 10**6),
        (BORROWER, "WETH", 100 * 10**18),
        (OTHER, "WBTC", 10**8),
    ):
        node.send(tokens[symbol].transaction("mint", user, amount))
        node.send(market.supply(user, symbol, amount))
    node.send(market.borrow(BORROWER, "USDC", 14_000 * 10**6))
    for pool in (weth, to_mid, to_usdc):
        pool.play(draw, 12, 10**13)
        samples.append(node.block_number)
    _move(weth, tokens, 140.0)  # far below the oracle's price
    node.send(market.reserves["WETH"].feed.transmit(157_00000000))
    fell = node.block_number
    node.send(market.reserves["USDC"].feed.transmit(99_900_000))
    samples.append(node.block_number)
    weth.play(draw, 3, 10**10)
    _move(weth, tokens, 156.5)  # and back to it
    dear = node.block_number
    to_mid.play(draw, 6, 10**14)
    samples.append(node.block_number)
    return Played(market, weth, to_mid, to_usdc, samples, fell, dear, node.mine(3))


def _move(pool: ChainPool, tokens: dict[str, Contract], price: float) -> None:
    """A swap up to the price of WETH in USDC."""
    target = sqrt_price_at(tick_of(tokens["WETH"], tokens["USDC"], price, (18, 6)))
    down = target < pool.read()[0]
    assert pool.swap(down, 10**30, target)
