"""Shapes of the literature, by the engine: what was expected is in the docstrings, was written before the runs, and is
not fitted (docs/literature.md). Depths and books are made up; the shape is what is held.
"""

from __future__ import annotations

from fractions import Fraction
from math import log
from typing import Any

import pytest

from backtest.contagion.books import MarketBook
from backtest.contagion.fire_sales import DepthOf, FireSale, NetworkShock, fire_sale
from backtest.contagion.matrices import overlap
from backtest.protocols.book import Book
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.replay.response.curves import LinearCurve
from backtest.replay.several import state_at
from backtest.scenario import Competitive, English, FixedSpread, Mechanism, Scenario, SealedBid
from backtest.scenario.impact import AssetImpact, ChainlinkRule, ConstantProductDepth, Impact
from backtest.units import BPS, RAY
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market, opened
from tests.support.sketch_history import POOL

pytestmark = pytest.mark.slow


def answered(h: History, scenario: Scenario, reserve: int, **terms: Any) -> Replay[Any]:
    """WETH is sold into a constant product, and no impact is taken to be in history's prices."""
    entry = AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=reserve), **terms)
    return replay(
        POOL, h.market, h.timeline(), scenario, response=PriceResponse(Impact(assets=(entry,)), [h.market], ())
    )


# -- auctions dampen where taking part is cheap (Bank of Canada, staff working paper 2025-12) --------------------------

SEARCHERS, COLLATERAL, DEBT, BONUS = 20, Fraction(14_000), Fraction(11_300), Fraction(105, 100)


def sold(mechanism: Mechanism, cost: float, seed: int) -> tuple[float, float]:
    """WETH that one account's liquidation sells, and the log fall of its price, where each of 20 searchers takes part
    with the probability at which it just pays: cost = (1 - p)^19 of what the lot leaves one that is alone.
    """
    takes_part = 1 - cost ** (1 / (SEARCHERS - 1))
    liquidators = SealedBid(searchers=SEARCHERS, absent=round(BPS * (1 - takes_part)), absence=10**8)
    h = borrower(opened(), 0, 10, int(DEBT))
    h.block(10).price(WETH, 1_400 * USD).block(2_000).price(USDC, USD)
    found = answered(h, Scenario(liquidators=liquidators, mechanism=mechanism, seed=seed), 10_000)
    lowest = min((point.market / (1_400 * USD) for point in found.points if point.reason == "sale"), default=1.0)
    return sum(sale.amount for sale in found.sales) / ETH, -log(lowest)


def test_auctions_dampen_impact_only_where_participation_is_cheap() -> None:
    """10 WETH of 1,400 $ against 11,300 $. A fixed spread of 5 % sells 11,300 * 1.05 / 1,400 = 8.475 whoever comes. An
    English auction sells 8.07 where two or more come (bids rise to the debt, then ask for its worth), and all 10 where
    one is alone, which bids nothing. With n that come of 20 at probability p the auction sells less on average where
    P(n = 1 | n > 0) < (8.475 - 8.071) / (10 - 8.071) = 0.209, so for costs of a part c < 0.07 of the lot. Expected at
    c = 0.01: dampens; at c = 0.3: amplifies. The same searchers are there for both.
    """
    amounts: dict[float, list[tuple[float, float]]] = {}
    for cost, cheap in ((0.01, True), (0.3, False)):
        auction, spread = (
            [sold(mechanism, cost, seed) for seed in range(24)]
            for mechanism in (English(ttl=600, tau=3_600), FixedSpread(bonus=10_500, close_factor=BPS))
        )
        for (by_auction, _), (by_spread, _) in zip(auction, spread, strict=True):
            assert by_spread == pytest.approx(8.475 if by_auction else 0.0, abs=0.001)
            assert any(by_auction == pytest.approx(amount, abs=0.01) for amount in (0.0, 8.075, 10.0))
        falls = [sum(fall for _, fall in each) for each in (auction, spread)]
        assert (falls[0] < falls[1]) == cheap
        assert falls[0] != falls[1]
        amounts[cost] = auction
    alone = [sum(amount > 9 for amount, _ in each) for each in amounts.values()]
    assert alone[0] <= 4 < alone[1]  # of 24: 1.1 expected at 0.01, and 8.5 at 0.3

    def gap(cost: float) -> float:
        p = 1 - cost ** (1 / (SEARCHERS - 1))
        lone = SEARCHERS * p * (1 - p) ** (SEARCHERS - 1) / (1 - (1 - p) ** SEARCHERS)
        return lone - float((DEBT * BONUS - DEBT) / (COLLATERAL - DEBT))

    low, high = 1e-6, 0.9
    for _ in range(60):
        low, high = ((low + high) / 2, high) if gap((low + high) / 2) < 0 else (low, (low + high) / 2)
    assert low == pytest.approx(0.07, abs=0.01)


# -- a thin market (Gudgeon, Perez, Harz, Livshits and Gervais 2020, The Decentralized Financial Crisis) ---------------


def under_water(reserve: int) -> float:
    """Million dollars of debt, of 400, that are written off or beyond their collateral after 19 days in which the price
    falls by 2 % a day and half of what own sales did to it is gone after a day.
    """
    days, every, accounts, each = 19, 21_600, 20, 20_000_000
    h = opened(accounts)
    h.param("close_factor", 5_000)
    for account in range(accounts):
        borrower(h, account, each * (100 + 15 * account // accounts) // (2_000 * 80) + 1, each)
    for step in range(1, days * 86_400 // every + 1):
        price = round(2_000 * USD * 0.98 ** (step * every / 86_400))
        h.block(10 + step * 100, 1_000 + step * every).price(WETH, price)
    oracle = ChainlinkRule(deviation=0, heartbeat=3_600, delay=0)
    found = answered(h, Scenario(liquidators=Competitive()), reserve, half_life=86_400, oracle=oracle)
    book = found.book
    views = [POOL.view(book.state, account, book.prices, book.now) for account in range(accounts)]
    beyond = sum(view.debt_base for view in views if view.debt_base > view.collateral_base)
    return (beyond + sum(one.amount_base for one in found.deficits)) / (USD * 10**6)


def test_four_hundred_million_go_under_water_within_19_days_in_a_thin_market() -> None:
    """Loans over 69.6 to 80 % of their collateral, threshold 80 %, bonus 5 %. 0.98^19 = 0.681: without a market all of
    the 400 million are beyond their collateral by then; a deep one clears them on the way. Expected: all in the
    thinnest, nothing in the deepest, the less the more depth.
    """
    lost = [under_water(reserve) for reserve in (1, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)]
    assert lost[0] == pytest.approx(400)
    assert lost[-2:] == [0, 0]
    assert lost == sorted(lost, reverse=True)
    assert lost[1] > 350


# -- indirect contagion through what is held in common (Cont and Schaanning 2019) --------------------------------------

WBTC = 2
TOKENS = tuple(f"0x{place:040x}" for place in range(3))
DEPTH = 10**9
"""Dollars of sales that would take all of a price, of each asset."""


def held(name: str, owed: int, **worth: int) -> MarketBook:
    """One account with so many dollars of collateral (WETH at 2,000 $, WBTC at 20,000 $) that owes so many USDC."""
    h = History(market(("WETH", 18), ("USDC", 6), ("WBTC", 8), accounts=4, name=name))
    for asset in (WETH, WBTC):
        h.param("liquidation_threshold", 8_000, asset=asset).param("liquidation_bonus", 10_500, asset=asset)
    h.param("close_factor", BPS).price(WETH, 2_000 * USD).price(USDC, USD).price(WBTC, 20_000 * USD)
    for asset, symbol, unit in ((WETH, "weth", ETH // 2_000), (WBTC, "wbtc", 10**8 // 20_000)):
        if worth.get(symbol):
            h.position(0, asset, "collateral", worth[symbol] * unit)
    h.position(0, USDC, "debt", owed * 10**6, "borrow")
    timeline = h.timeline()
    state, prices, now = state_at(POOL, h.market, timeline, timeline.last_block)
    book = Book(POOL, h.market, state, now)
    book.oracle.update(prices.oracle)
    return MarketBook(name, book)


def shocked(markets: list[MarketBook], fall: int) -> FireSale:
    curves = {WETH: LinearCurve(DEPTH * ETH // 2_000, BPS), WBTC: LinearCurve(DEPTH * 10**8 // 20_000, BPS)}
    depths = {TOKENS[asset]: DepthOf(curve) for asset, curve in curves.items()}
    return fire_sale(markets, NetworkShock({TOKENS[WETH]: fall}, {}), depths)


def test_losses_reach_who_does_not_hold_what_fell_by_what_is_held_in_common() -> None:
    """WETH falls. ``b`` holds it beside WBTC and sells both, so that ``c``, which holds WBTC alone, is liquidated;
    where ``b`` holds no WBTC, ``c`` keeps everything. Expected: nothing below the fall at which ``b`` is liquidated
    (100 of WETH and 100 of WBTC bear 150 at 80 % until WETH is down by 12.5 %), then all at once (the threshold of
    Cont and Schaanning); and the price that ``c`` meets is lower by what ``b`` sold over the depth, as in the
    liquidity-weighted overlap, within 1 %.
    """
    million = 10**6
    c = held("c", 79_500_000, wbtc=100 * million)
    together = [held("b", 150 * million, weth=100 * million, wbtc=100 * million), c]
    apart = [held("b", 75 * million, weth=100 * million), c]
    for fall, hit in ((600, 0), (1_240, 0), (1_260, 1), (2_000, 1)):
        found = shocked(together, fall)
        assert (found.accounts["b"], found.accounts["c"]) == (hit, hit)
    assert shocked(apart, 2_000).accounts == {"b": 1, "c": 0}
    alone = shocked(together[:1], 2_000)
    sold_of = {asset: alone.sold.get(TOKENS[asset], 0) for asset in (WETH, WBTC)}
    dollars = sold_of[WBTC] * 20_000 / 10**8
    assert dollars > 0
    exposures = [[0.0, dollars], [0.0, 100.0 * million]]  # what b sells of each, what c holds
    predicted = overlap(exposures, [DEPTH, DEPTH])[0, 1]
    lost = 100 * million * (1 - alone.left[TOKENS[WBTC]] / RAY)
    assert lost == pytest.approx(predicted, rel=0.01)
    # c's own sale goes into the price that b left
    found = shocked(together, 2_000)
    assert found.left[TOKENS[WBTC]] < alone.left[TOKENS[WBTC]]
