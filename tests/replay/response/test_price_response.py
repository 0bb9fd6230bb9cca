"""Prices that answer to sales: closed forms, what a baseline nets out, and what liquidators and oracles make of it."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt, log

import pytest

from backtest.model import Clock, MarketPrice, Pool, PoolChange, PoolId, PriceUpdate
from backtest.pools.uniswap_v3 import PoolState, sqrt_price_at, swap, tick_at
from backtest.replay.engine import Engine, mechanism_for, replay
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse, Sold
from backtest.scenario import Competitive, Override, Scenario
from backtest.scenario.impact import (
    AssetImpact,
    ChainlinkRule,
    ConstantProductDepth,
    Depth,
    Impact,
    NoDepth,
    OsmRule,
    PoolsDepth,
    TwapRule,
)
from backtest.units import RAY
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market, opened
from tests.support.sketch_history import POOL

COMPETITIVE = Scenario(liquidators=Competitive())
STRICTER = Scenario(
    liquidators=Competitive(), overrides=(Override(parameter="liquidation_threshold", value=7_500, asset="WETH"),)
)
AT_ONCE = ChainlinkRule(deviation=50, heartbeat=3_600, delay=0)


def impact(depth: Depth, **terms: object) -> Impact:
    return Impact(assets=(AssetImpact(asset="WETH", depth=depth, **{"oracle": AT_ONCE, **terms}),))


def crowd() -> History:
    """Six borrowers of 10 to 15 WETH, each further from liquidation, and a fall by steps."""
    h = opened()
    for account in range(6):
        borrower(h, account, 10 + account, (10 + account) * (1_000 - 12 * account))
    for block, price in ((10, 1_240), (20, 1_225), (40, 1_215), (60, 1_230), (600, 1_400)):
        h.block(block).price(WETH, price * USD)
    return h


def run(
    h: History, terms: Impact, netted: object = None, scenario: Scenario = COMPETITIVE, **options: object
) -> tuple[Replay[object], PriceResponse]:
    response = PriceResponse(terms, [h.market], netted)
    return replay(POOL, h.market, h.timeline(), scenario, response=response, **options), response


def same(one: Replay[object], other: Replay[object]) -> bool:
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("liquidations", "deficits", "totals", "horizons", "actions", "refused", "spells")
    )


def test_no_impact_is_the_replay_without_it() -> None:
    h = crowd()
    plain = replay(POOL, h.market, h.timeline(), COMPETITIVE, samples=5)
    for terms in (Impact(), impact(NoDepth())):
        for netted in (None, ()):
            found, _ = run(h, terms, netted, samples=5)
            assert same(found, plain)
            assert all(point.history == point.oracle == point.market for point in found.points)


def test_a_sale_into_a_constant_product_by_hand() -> None:
    """10 WETH are sold into 400: they bring 1 / (1 + 10 / 400), and the price falls to the square of that."""
    h = opened()
    response = PriceResponse(impact(ConstantProductDepth(reserve=400)), [h.market], ())
    seat, token = response.seat(h.market), h.market.assets[WETH].asset
    now = Clock(5, 0, 60)
    value = 10 * 2_000 * USD
    assert seat.loss_up(WETH, 10 * ETH, value, now) == value - value * 400 // 410
    response._selling.sell(Sold(now, token, 10 * ETH, token))
    assert response.factor(token, 60) == RAY * 400 * 400 // (410 * 410)
    # what is left of the market is met by the next sale: the two bring what one of both would have
    second = value - seat.loss_up(WETH, 10 * ETH, value, now)
    assert second / value * 400 / 410 * 400 / 410 == pytest.approx((400 * 20 / 420 - 400 * 10 / 410) / 10, rel=1e-12)


def test_the_baseline_has_historys_rounds_to_the_last_integer() -> None:
    h = crowd()
    terms = impact(ConstantProductDepth(reserve=700), half_life=900, permanent=1_000)
    base, response = run(h, terms)
    assert base.sales
    again, _ = run(h, terms, response.sales)
    assert same(base, again)
    for found in (base, again):
        assert all(point.history == point.oracle for point in found.points)
        assert all(point.market == point.history for point in found.points if point.reason == "history")
        assert any(point.market < point.history for point in found.points if point.reason == "sale")
        assert not any(sale.endogenous for sale in found.sales)
    assert again.points == base.points


def test_without_netting_sales_make_sales() -> None:
    """Every fall sets off the next: all are liquidated though history's price makes two of them liquidatable."""
    h = crowd()
    terms = impact(ConstantProductDepth(reserve=700))
    base, response = run(h, terms)
    counted_twice, _ = run(h, terms, ())
    assert len({sale.account for sale in base.sales}) < len({sale.account for sale in counted_twice.sales})
    assert [sale.endogenous for sale in counted_twice.sales].count(True) >= 3
    rounds = [point.reason for point in counted_twice.points].count("deviation")
    assert rounds >= 3
    assert max(sale.round for sale in counted_twice.sales) >= 1
    # what the changed threshold sells more than the baseline is what moves prices
    stricter, _ = run(h, terms, response.sales, STRICTER)
    off = [point for point in stricter.points if point.oracle != point.history]
    assert off
    assert all(point.oracle < point.history for point in off)


def test_a_sale_that_no_longer_pays_is_not_made() -> None:
    """The bonus is 5 %: into a thin market liquidators sell, in sizes that pay, until the price is lower by that."""
    late = ChainlinkRule(deviation=50, heartbeat=3_600, delay=10**6)
    often = Scenario(liquidators=Competitive(max_calls=200))
    h = borrower(borrower(opened(), 0, 10, 10_000), 1, 10, 10_000)
    h.block(10).price(WETH, 1_200 * USD)
    deep, _ = run(h, impact(ConstantProductDepth(reserve=10**6), oracle=late), scenario=often)
    thin, _ = run(h, impact(ConstantProductDepth(reserve=95), oracle=late), scenario=often)
    assert not deep.spells[-1].reason
    assert {spell.reason for spell in thin.spells if spell.ending == "missed"} == {"unprofitable"}
    assert sum(sale.amount for sale in thin.sales) < sum(sale.amount for sale in deep.sales)
    end = thin.sales[-1].market_after
    assert end * 1.05 / (1_200 * USD) == pytest.approx(1, abs=0.01)
    assert all(made.waterfall.rent > 0 for made in (*deep.liquidations, *thin.liquidations))
    for made in (*deep.liquidations, *thin.liquidations):
        paid = made.waterfall
        assert paid.bonus + paid.basis + paid.reward == paid.protocol_fee + paid.slippage + paid.rent


def test_what_is_repaid_may_have_to_be_bought() -> None:
    """10 are bought of 400: at 1 / (1 - 10 / 400) of the price, which rises to the square of that; selling them again
    undoes it.
    """
    h = opened()
    token = h.market.assets[WETH].asset
    response = PriceResponse(impact(ConstantProductDepth(reserve=400), buys=True), [h.market], ())
    seat, now, cost = response.seat(h.market), Clock(5, 0, 60), 10 * 2_000 * USD
    assert seat.premium_up(WETH, 10 * ETH, cost, now) == -(-cost * 400 // 390) - cost
    seat.sold(token, -10 * ETH, token, now)
    assert response.factor(token, 60) == RAY * 400 * 400 // (390 * 390)
    assert seat.premium_up(WETH, 390 * ETH, cost, now) > 10**5 * cost  # no more than all can be bought
    seat.sold(token, 10 * ETH, token, now)
    assert response.factor(token, 60) == RAY
    # a debt that rises as it is repaid: without buying two accounts are liquidated, with it the third as well
    h = opened()
    h.param("liquidation_threshold", 8_000, asset=USDC).param("close_factor", 10_000)
    h.param("liquidation_bonus", 10_500, asset=USDC)
    for account, owed in ((0, 100), (1, 99), (2, 96)):
        h.position(account, USDC, "collateral", 250_000 * 10**6)
        h.position(account, WETH, "debt", owed * ETH, "borrow")
    h.block(10).price(WETH, 2_040 * USD)
    plain = replay(POOL, h.market, h.timeline(), COMPETITIVE)
    squeezed, _ = run(h, impact(ConstantProductDepth(reserve=15_000), buys=True), ())
    assert {made.fill.order.account for made in plain.liquidations} == {0, 1}
    assert {sale.account for sale in squeezed.sales} == {0, 1, 2}
    assert all(sale.amount < 0 for sale in squeezed.sales)


def test_buyers_come_back_by_the_half_life() -> None:
    h = opened()
    token = h.market.assets[WETH].asset
    terms = impact(ConstantProductDepth(reserve=1_000), half_life=600, permanent=2_500)
    response = PriceResponse(terms, [h.market], ())
    response._selling.sell(Sold(Clock(5, 0, 60), token, 100 * ETH, token))
    for seconds, left in ((0, 100), (600, 62.5), (1_200, 43.75), (900, 25 + 75 * 0.5**1.5), (10**7, 25)):
        assert response.factor(token, 60 + seconds) / RAY == pytest.approx((1_000 / (1_000 + left)) ** 2, rel=1e-9)


def test_an_inventory_is_sold_over_time() -> None:
    h = opened()
    token = h.market.assets[WETH].asset
    response = PriceResponse(impact(ConstantProductDepth(reserve=1_000), sells=2_000), [h.market], ())
    seat = response.seat(h.market)
    response._selling.sell(Sold(Clock(5, 0, 60), token, 100 * ETH, token))
    assert response.factor(token, 60) == RAY
    assert seat.wake(Clock(5, 0, 60)) == 160
    seat.rounds_due(Clock(100, 0, 1_060))
    assert response.factor(token, 1_060) / RAY == pytest.approx((1_000 / 1_050) ** 2, rel=1e-9)
    seat.rounds_due(Clock(300, 0, 5_000))
    assert response.factor(token, 5_000) / RAY == pytest.approx((1_000 / 1_100) ** 2, rel=1e-9)


def test_what_is_sold_as_something_else_moves_that() -> None:
    """An LST without a market of its own is sold as WETH, at their prices: both fall by as much."""
    h = History(market(("WETH", 18), ("wstETH", 18)))
    weth, lst = (asset.asset for asset in h.market.assets)
    terms = Impact(
        assets=(
            AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=1_000)),
            AssetImpact(asset="wstETH", into="WETH"),
        )
    )
    response = PriceResponse(terms, [h.market], ())
    seat = response.seat(h.market)
    for event in h.price(0, 2_000 * USD).price(1, 2_400 * USD).timeline():
        seat.adjusted(event)
    response._selling.sell(Sold(Clock(5, 0, 60), lst, 100 * ETH, weth))
    for token in (weth, lst):
        assert response.factor(token, 60) / RAY == pytest.approx((1_000 / 1_120) ** 2, rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "when"),
    [
        (ChainlinkRule(deviation=50, heartbeat=3_600, delay=24), 84),
        (ChainlinkRule(deviation=9_000, heartbeat=3_600, delay=0), 12 + 3_600),
        (OsmRule(period=3_600), 7_200),
        (TwapRule(window=800), 160),
    ],
    ids=["deviation", "heartbeat", "osm", "twap"],
)
def test_the_oracle_follows_by_its_own_rule(rule: object, when: int) -> None:
    """A sale at second 60 moves the market at once, the oracle by its rule."""
    h = opened()
    token = h.market.assets[WETH].asset
    response = PriceResponse(impact(ConstantProductDepth(reserve=1_000), oracle=rule), [h.market], ())
    seat = response.seat(h.market)
    for event in h.timeline():
        if hasattr(event, "price"):
            seat.adjusted(event)
    response._selling.sell(Sold(Clock(5, 0, 60), token, 100 * ETH, token))
    seat.rounds_due(Clock(5, 1, 60))
    now, moved = 60, None
    while moved is None and now < 10_000:
        now = seat.wake(Clock(5, 1, now))
        told = seat.rounds_due(Clock(5, 1, now))
        moved = next((event for event in told if type(event).__name__ == "PriceUpdate"), None)
    assert now == when
    full = 2_000 * USD * (1_000 / 1_100) ** 2
    if isinstance(rule, TwapRule):
        assert full < moved.price < 2_000 * USD
    else:
        assert moved.price == pytest.approx(full, abs=1)


def test_what_is_not_sold_raises_no_price_before_history_tells_of_it() -> None:
    """The baseline sold 100 of 1,000 at second 60; history's next round holds that, and only then is the price higher
    by it. What had been sold before history's last round is given back at once.
    """
    h = opened()
    token = h.market.assets[WETH].asset
    before = [Sold(Clock(0, 0, 0), token, 50 * ETH, token), Sold(Clock(5, 0, 60), token, 100 * ETH, token)]
    for netted, at_once, later in (
        (before[1:], 1.0, 1.1**2),
        (before, 1.05**2, 1.15**2),
    ):
        response = PriceResponse(impact(ConstantProductDepth(reserve=1_000)), [h.market], netted)
        seat = response.seat(h.market)
        for event in h.timeline():
            if isinstance(event, PriceUpdate):
                seat.adjusted(event)
        seat.rounds_due(Clock(6, 0, 72))
        assert seat.assets[WETH].oracle == pytest.approx(2_000 * USD * at_once, abs=1)
        assert seat.points[-1].market == pytest.approx(2_000 * USD * at_once, abs=1)
        place = {"seq": 99, "block_number": 7, "log_index": 0, "timestamp": 84, "asset": WETH}
        [told, *_] = seat.adjusted(PriceUpdate(**place, price=1_900 * USD))
        assert told.price == pytest.approx(1_900 * USD * later, abs=1)


def test_a_fetched_pool_is_sold_into_as_history_left_it() -> None:
    """By the pool's own rules, after each of history's swaps; what is outstanding is sold into it first."""
    h = opened()
    tokens = tuple(asset.asset for asset in h.market.assets)
    pool = Pool(
        id=PoolId(0), address="0xpool", kind="uniswap-v3", tokens=(tokens[0], tokens[1]), decimals=(18, 6),
        assets=(WETH, USDC), fee=3_000, spacing=60, prices=tokens[0],
    )  # fmt: skip
    at = {price: tick_at(isqrt(price * 10**6 * 2**192 // 10**18)) for price in (1_900, 2_000)}
    h.pool(0, 0, sqrt_price=sqrt_price_at(at[2_000])).pool(-300_000, 10**18, upper=0).pool(
        -204_000, 10**19, upper=-180_000
    )
    h.block(10).pool(at[1_900], 11 * 10**18, sqrt_price=sqrt_price_at(at[1_900])).price(WETH, 1_900 * USD)
    made = replace(h.market, pools=(pool,))
    response = PriceResponse(impact(PoolsDepth()), [made], ())
    seat, state = response.seat(made), PoolState(3_000, 60)
    for event in h.timeline():
        if isinstance(event, PoolChange):
            state.apply(event)
        if isinstance(event, PoolChange | PriceUpdate | MarketPrice):
            seat.adjusted(event)
        if isinstance(event, PoolChange) and state.liquidity:
            out = swap(state, True, 50 * ETH).amount_out
            worth = 50 * ETH * state.sqrt_price**2 // 2**192
            value, now = 10**18, Clock(event.block_number, event.log_index, event.timestamp)
            assert seat.loss_up(WETH, 50 * ETH, value, now) == pytest.approx(value - value * out // worth, rel=1e-6)
    seat.sold(tokens[0], 50 * ETH, tokens[1], Clock(10, 5, 120))
    first = swap(state, True, 50 * ETH)
    left = (first.sqrt_price / state.sqrt_price) ** 2
    assert response.factor(tokens[0], 120) / RAY == pytest.approx(left, rel=1e-12)
    after = PoolState(3_000, 60, first.sqrt_price, first.tick, first.liquidity, state.gross, state.net, state.ticks)
    out = swap(after, True, 50 * ETH).amount_out
    worth = 50 * ETH * after.sqrt_price**2 // 2**192
    assert seat.loss_up(WETH, 50 * ETH, 10**18, Clock(10, 6, 120)) == pytest.approx(
        10**18 - 10**18 * out // worth, rel=1e-6
    )


def test_markets_that_share_a_token_share_what_is_sold_of_it() -> None:
    """Two markets on one clock: the first sells WETH, and the account of the second is liquidated at a round of its own
    oracle, though nothing happened there.
    """
    here, there = opened(), opened()
    borrower(here, 0, 100, 100 * 1_550)
    borrower(there, 0, 10, 10 * 1_560)
    here.block(10).price(WETH, 1_900 * USD)
    for h in (here, there):
        h.block(20).price(USDC, USD)
    markets = [replace(here.market, name="here"), replace(there.market, name="there")]
    response = PriceResponse(impact(ConstantProductDepth(reserve=2_000)), markets, ())
    engines = [
        Engine(POOL, market, h.timeline(), COMPETITIVE, mechanism_for(POOL, COMPETITIVE), response=response)
        for market, h in zip(markets, (here, there), strict=True)
    ]
    stamped = [
        (transaction[0].timestamp, number, order, transaction)
        for number, engine in enumerate(engines)
        for order, transaction in enumerate(engine.transactions())
    ]
    for _, number, _, transaction in sorted(stamped, key=lambda each: each[:3]):
        engines[number].advance(transaction)
    first, second = (engine.finish() for engine in engines)
    assert [sale.account for sale in first.sales]
    assert {sale.account for sale in second.sales} == {0}
    assert all(sale.endogenous for sale in second.sales)
    assert len(response.sales) == len(first.sales) + len(second.sales)
    alone = replay(
        POOL, markets[1], there.timeline(), COMPETITIVE,
        response=PriceResponse(impact(ConstantProductDepth(reserve=2_000)), markets, ()),
    )  # fmt: skip
    assert not alone.sales


def test_rounds_add_up_in_logs() -> None:
    """Selling q into a constant product lowers the log of the price by 2 log(1 + q / x), however it is split."""
    h = opened()
    token = h.market.assets[WETH].asset
    response = PriceResponse(impact(ConstantProductDepth(reserve=1_000)), [h.market], ())
    for number in range(50):
        response._selling.sell(Sold(Clock(5 + number, 0, 60 + number), token, 2 * ETH, token))
    assert log(response.factor(token, 200) / RAY) == pytest.approx(-2 * log(1.1), rel=1e-12)
