"""Market prices and pools in a replay: from tables to the book, a past in short, sales, and when liquidators look."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AssetId, Market, MarketPrice, Pool, PoolChange, PoolId, PriceUpdate
from backtest.pools.uniswap_v3 import MAX_SQRT_PRICE, Q96, PoolState, sqrt_price_at, swap
from backtest.protocols.book import Book, Sale
from backtest.replay.engine import replay
from backtest.replay.shortcuts.past import condensed
from backtest.replay.timeline import Timeline
from backtest.scenario import Competitive, Scenario
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import USD, WETH, History, borrower, market, opened

PLAIN = FixedSpreadPool()
BARE = market(("WETH", 18), ("USDC", 6))
LISTED = [asset.asset for asset in BARE.assets]
WETH_USDC = Pool(
    PoolId(0), "0xpool", "uniswap-v3", (LISTED[0], LISTED[1]), (18, 6), (AssetId(0), AssetId(1)), 500, 10, LISTED[0]
)
MARKET = dataclasses.replace(BARE, pools=(WETH_USDC,))


def test_every_field_comes_through_and_imported_prices_are_no_events() -> None:
    h = History(MARKET)
    h.traded(0, 1999, None).traded(0, 2000).pool(-20, 10**30, upper=40).pool(-30, -(10**20), upper=50).pool(
        7, 9, sqrt_price=MAX_SQRT_PRICE
    )
    h.traded(0, None)
    one = {"block_number": 1, "timestamp": 12}
    assert list(h.timeline()) == [
        MarketPrice(seq=1, **one, log_index=1, asset=0, price=2000),
        PoolChange(seq=2, **one, log_index=2, pool=0, tick=-20, upper=40, liquidity=10**30),
        PoolChange(seq=3, **one, log_index=3, pool=0, tick=-30, upper=50, liquidity=-(10**20)),
        PoolChange(seq=4, **one, log_index=4, pool=0, tick=7, liquidity=9, sqrt_price=MAX_SQRT_PRICE),
        MarketPrice(seq=5, **one, log_index=5, asset=0, price=None),
    ]
    assert next(iter(Timeline.of(h.tables(), price_digits=3))).price == 2_000_000


def book_of(timeline: Timeline, block: int | None = None, of: Market = MARKET) -> Book:
    book = Book.open(PLAIN, of)
    for transaction in timeline.transactions(block):
        for event in transaction:
            book.apply(event)
    return book


@pytest.mark.parametrize("of", [BARE, MARKET])
def test_prices_are_the_markets_and_else_the_oracles(of: Market) -> None:
    """With a pool that tells the market price, and where something else does."""
    h = History(of)
    h.price(0, 2000 * 10**8).price(1, 10**8).traded(0, 1900 * 10**8)
    book = book_of(h.timeline(), of=of)
    assert (dict(book.prices.oracle), dict(book.prices.market)) == (
        {0: 2000 * 10**8, 1: 10**8},
        {0: 1900 * 10**8, 1: 10**8},
    )
    assert (book.value_down(0, 10**18), book.proceeds_down(0, 10**18), book.cost_up(0, 10**18)) == (
        2000 * 10**8,
        1900 * 10**8,
        1900 * 10**8,
    )
    copy = book.copy()
    book.apply(MarketPrice(seq=9, block_number=1, log_index=9, timestamp=12, asset=AssetId(0), price=None))
    assert book.prices.market[0] == 2000 * 10**8
    assert copy.prices.market[0] == 1900 * 10**8
    copy.apply(PriceUpdate(seq=10, block_number=2, log_index=1, timestamp=24, asset=AssetId(0), price=1000 * 10**8))
    assert (copy.value_up(0, 10**18), copy.proceeds_down(0, 10**18), copy.cost_up(0, 10**18)) == (
        1000 * 10**8,
        1900 * 10**8,
        1900 * 10**8,
    )
    assert book.prices.oracle[0] == 2000 * 10**8


def test_a_book_without_market_prices_has_the_oracles_only() -> None:
    book = book_of(History(BARE).price(0, 2000 * 10**8).timeline())
    assert book.prices.market is book.prices.execution is book.oracle


def test_a_sale_walks_the_pool_and_leaves_it() -> None:
    h = History(MARKET)
    h.price(1, 99_000_000).pool(-200_010, 10**15, upper=-199_990).pool(
        -200_000, 10**15, sqrt_price=sqrt_price_at(-200_000)
    )
    book = book_of(h.timeline())
    before = dataclasses.replace(book.pools[0].copy())
    small, all_of_it = book.sale_down(AssetId(0), 10**15), book.sale_down(AssetId(0), 10**30)
    assert small is not None
    assert all_of_it is not None
    assert small == Sale(10**15, swap(before, True, 10**15).amount_out * 99_000_000 // 10**6)
    assert all_of_it.sold < 10**30
    assert all_of_it.sold == swap(before, True, 10**30).amount_in
    assert book.pools[0] == before
    assert book.sale_down(AssetId(1), 10**6) is None  # no pool prices it
    assert Book.open(PLAIN, MARKET).sale_down(AssetId(0), 1) is None  # not initialized


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 61))
def test_a_past_in_short_has_the_same_pools_and_market_prices(seed: int, before: int) -> None:
    draw, pool, h = random.Random(seed), PoolState(500, 10), History(MARKET)
    pool.sqrt_price = Q96
    held: list[tuple[int, int, int]] = []
    for block in range(2, 62):
        h.block(block)
        kind = draw.random()
        if kind < 0.3 or not held:
            held.append((draw.randint(-30, 0) * 10, draw.randint(1, 30) * 10, draw.randint(1, 10**12)))
            h.pool(held[-1][0], held[-1][2], upper=held[-1][1])
            pool.apply(
                PoolChange(
                    seq=0,
                    block_number=0,
                    log_index=0,
                    timestamp=0,
                    pool=PoolId(0),
                    tick=held[-1][0],
                    upper=held[-1][1],
                    liquidity=held[-1][2],
                )
            )
        elif kind < 0.4:
            lower, upper, amount = held.pop(draw.randrange(len(held)))
            h.pool(lower, -amount, upper=upper)
            pool.apply(
                PoolChange(
                    seq=0,
                    block_number=0,
                    log_index=0,
                    timestamp=0,
                    pool=PoolId(0),
                    tick=lower,
                    upper=upper,
                    liquidity=-amount,
                )
            )
        elif kind < 0.8:
            done = swap(pool, draw.random() < 0.5, draw.randint(1, 10**10))
            pool.sqrt_price, pool.tick, pool.liquidity = done.sqrt_price, done.tick, done.liquidity
            h.pool(done.tick, done.liquidity, sqrt_price=done.sqrt_price)
        else:
            h.traded(draw.randint(0, 1), draw.randint(1, 10**10) if draw.random() < 0.8 else None)
    timeline = Timeline.of(h.tables(), price_digits=draw.choice([0, 2]))
    short = condensed(timeline, [before])
    assert len(short.timeline) + short.events == len(timeline)
    for block in (before, 61):
        whole, less = book_of(timeline, block), book_of(short.timeline, block)
        assert (whole.traded, whole.pools) == (less.traded, less.pools)
    whole = book_of(timeline)
    if whole.pools and whole.pools[PoolId(0)].sqrt_price:
        assert (whole.pools[PoolId(0)].ticks, whole.pools[PoolId(0)].net) == (pool.ticks, pool.net)


def test_a_market_below_the_bonus_makes_liquidators_wait() -> None:
    """At 1140 $ 0.4375 ETH are 498.75 $ for 500 $, at 1142 $ 499.63 $, at 1190 $ 520.63 $."""
    h = borrower(opened(), 0, 1, 1000)
    h.market = dataclasses.replace(h.market, pools=(WETH_USDC,))
    h.block(9).traded(WETH, 1140 * USD)
    h.block(10).price(WETH, 1200 * USD)
    h.block(12).pool(0, 1, sqrt_price=Q96)
    h.block(13).traded(WETH, 1142 * USD)
    h.block(14).traded(WETH, 1190 * USD)
    h.block(20).traded(WETH, 1300 * USD)
    for looks, found in (("any-change", [(14, 20_62500000)]), ("price-update", [])):
        scenario = Scenario(liquidators=Competitive(looks=looks))  # type: ignore[arg-type]
        results = [replay(PLAIN, h.market, h.timeline(), scenario, screened=flag) for flag in (True, False)]
        assert results[0].liquidations == results[1].liquidations
        assert [(r.clock.block_number, r.profit_base) for r in results[0].liquidations] == found
