"""Cascades: the map and its closed forms, what is monotone and what is not, and figures of the literature."""

from __future__ import annotations

from fractions import Fraction
from math import log

import pytest

from backtest.cascade import sold_at_of
from backtest.model import Clock
from backtest.protocols.book import Book
from backtest.protocols.interface import Order, Pair
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.replay.response.cascade_map import (
    SCALE,
    SoldAt,
    critical_depth,
    fixed_point,
    levels_of,
    rupture,
)
from backtest.replay.response.cascades import cascades_of
from backtest.replay.response.curves import LinearCurve, ProductCurve
from backtest.scenario import Competitive, Scenario
from backtest.scenario.impact import AssetImpact, ChainlinkRule, ConstantProductDepth, Impact
from backtest.units import RAY, WAD
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, opened
from tests.support.sketch_history import POOL

E = 10**18


def linear(slope: Fraction) -> tuple[object, LinearCurve]:
    """Sales in proportion to the fall, into a price that falls in proportion to sales: together by ``slope``."""
    curve = LinearCurve(10_000 * E, 10_000)  # 10,000 sold are 100 %

    def sold_at(left: int) -> SoldAt:
        return SoldAt(int((RAY - left) * slope * 10_000 * E / RAY))

    return sold_at, curve


@pytest.mark.parametrize("slope", [Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(9, 10)], ids=str)
def test_in_the_linear_case_a_shock_is_amplified_one_over_one_minus_the_slope(slope: Fraction) -> None:
    sold_at, curve = linear(slope)
    point = fixed_point(sold_at, curve, 1, most=5_000)
    assert point.amplification == pytest.approx(float(1 / (1 - slope)), rel=2e-3)
    for level in levels_of(sold_at, curve, [0, 1, 2])[1:]:
        assert level.slope == pytest.approx(float(slope), abs=1e-3)


def test_the_map_ruptures_where_its_slope_passes_one() -> None:
    """Accounts thicken from a fall of 20 % on; depth at which they no longer do is found."""

    def sold_at(left: int) -> SoldAt:
        fall = 1 - Fraction(left, RAY)
        return SoldAt(int(1_000 * E * fall / 10 + 8_000 * E * max(0, fall - Fraction(1, 5))))

    curve = ProductCurve(10_000 * E)
    levels = levels_of(sold_at, curve, range(0, 6_100, 100))
    found = rupture(levels)
    assert found is not None
    assert (RAY - found.left) * 100 // RAY == 21
    critical = critical_depth(levels, curve)
    enough, short = (ProductCurve(10_000 * E * critical * part // (SCALE * 1_000)) for part in (1_002, 998))
    assert rupture(levels_of(sold_at, enough, range(0, 6_100, 100))) is None
    assert rupture(levels_of(sold_at, short, range(0, 6_100, 100))) is not None
    assert critical_depth(levels_of(lambda left: SoldAt(0), curve, [0, 100]), curve) == 0


def crowd(count: int = 12, step: int = 9) -> History:
    """Accounts of 10 WETH, each further from liquidation than the one before; the whole debt may be repaid."""
    h = opened(accounts=count + 2)
    h.param("close_factor", 10_000)
    for account in range(count):
        borrower(h, account, 10, 10 * (1_550 - step * account))
    return h


def answered(h: History, reserve: int, netted: object = (), **terms: object) -> Replay[object]:
    entry = {"oracle": ChainlinkRule(deviation=0, heartbeat=3_600, delay=0), **terms}
    impact = Impact(assets=(AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=reserve), **entry),))
    response = PriceResponse(impact, [h.market], netted)
    return replay(POOL, h.market, h.timeline(), Scenario(liquidators=Competitive()), response=response)


def book_of(h: History) -> Book[object]:
    book = Book.open(POOL, h.market)
    for event in h.timeline():
        book.apply(event)
    book.now = Clock(10_000, 0, 10_000)
    return book


def static(h: History, reserve: int, shock: int) -> tuple[int, int]:
    """Price left (RAY) and accounts at the fixed point of a shock, with exact liquidations."""
    point = fixed_point(sold_at_of(book_of(h), WETH, [WETH]), ProductCurve(reserve * E), shock)
    return point.left, point.sold.accounts


def test_the_static_fixed_point_bounds_the_replay_and_meets_it_where_every_sale_pays() -> None:
    """A shock of 4 %. In a replay each account is sold at the price that is there then, all as the static map has it at
    the lowest price: it falls less far, and not much less where nothing stops it.
    """
    for reserve in (1_500, 3_000, 10_000):
        h = crowd()
        left, accounts = static(h, reserve, 400)
        h.block(10).price(WETH, 1_920 * USD)
        found = answered(h, reserve)
        end = found.points[-1].market / (2_000 * USD)
        assert end >= left / RAY - 1e-9
        assert end == pytest.approx(left / RAY, rel=0.03)
        assert len({sale.account for sale in found.sales}) <= accounts
    assert accounts


def test_more_depth_never_makes_the_fixed_point_worse() -> None:
    h = crowd(count=30, step=6)
    for shock in (300, 800, 1_500):
        ends = [static(h, reserve, shock) for reserve in (300, 600, 1_200, 2_400, 100_000)]
        assert ends == sorted(ends, key=lambda end: (end[0], -end[1]))
        assert [accounts for _, accounts in ends] == sorted((accounts for _, accounts in ends), reverse=True)


def test_in_a_replay_more_depth_can_mean_more_bad_debt() -> None:
    """A fall to 1,560 for one block. In the deep market an account that owes 1,525 a WETH is sold out there and then,
    at a loss for good: 40 WETH repay 40 * 1,560 / 1.05. In the thin one a little of it pays, and the recovery spares
    it.
    """
    late = ChainlinkRule(deviation=50, heartbeat=3_600, delay=600)
    worse = []
    for reserve in (100, 10**6):
        h = opened(accounts=4)
        h.param("close_factor", 10_000)
        borrower(h, 0, 40, 40 * 1_525)
        h.block(10).price(WETH, 1_560 * USD).block(11).price(WETH, 2_000 * USD).block(12).price(USDC, USD)
        end = answered(h, reserve, oracle=late).horizons[0]
        worse.append(end.realised_bad_debt_base + end.open_bad_debt_base)
    assert worse == [0, pytest.approx((40 * 1_525 - 40 * 1_560 / 1.05) * USD, rel=1e-4)]


def test_tokens_and_value_are_conserved_through_a_cascade() -> None:
    """What accounts lost is what was sold, and what the pool paid for it all is one sale of the sum."""
    h = crowd()
    h.block(10).price(WETH, 1_900 * USD)
    found = answered(h, 1_500)
    assert len(found.sales) > 3
    assert any(sale.endogenous for sale in found.sales)
    held = {
        account: sum(v for (a, s), v in held.items() if s == "collateral")
        for account, held in found.book.state.balances.items()
    }
    sold = sum(sale.amount for sale in found.sales)
    assert sum(10 * ETH - held.get(account, 0) for account in range(12)) == sold
    curve = ProductCurve(1_500 * E)
    apart, q = 0, 0
    for sale in found.sales:
        value = curve.brings_down(q, sale.amount).value
        assert sale.brought == pytest.approx(value * RAY // (sale.amount * curve.factor(q)), rel=1e-15)
        apart, q = apart + value, q + sale.amount
    assert abs(apart - curve.brings_down(0, sold).value) <= len(found.sales)
    for made in found.liquidations:  # nothing of a bonus is lost on its way
        paid = made.waterfall
        assert paid.bonus + paid.basis + paid.reward == paid.protocol_fee + paid.slippage + paid.gas + paid.rent


def test_a_cascade_is_one_row_with_its_two_falls() -> None:
    h = crowd(step=30)
    h.block(10).price(WETH, 1_900 * USD).block(11).price(WETH, 1_890 * USD)
    h.block(1_000).price(WETH, 1_700 * USD)
    found = answered(h, 1_500)
    first, second = cascades_of(found.points, found.sales)
    assert first.begins.block_number == 10
    assert second.begins.block_number == 1_000
    assert (first.history_before, first.history_low) == (2_000 * USD, 1_890 * USD)
    assert first.market_low <= first.oracle_low < first.history_low
    assert first.rounds > 0
    assert 0 < len(first.endogenous) < len(first.sales)
    assert log(first.oracle_low / first.oracle_before) < log(first.history_low / first.history_before)
    assert first.sold + second.sold == sum(sale.amount for sale in found.sales)


# -- figures of the literature -----------------------------------------------------------------------------------------


def after_a_little(loan_to_value: Fraction, bonus: int, reserve: int | None) -> bool:
    """Whether repaying a millionth of a millionth of an account's debt raises its loan-to-value, by the pool's own
    rules; with a ``reserve`` of WETH what is seized is sold into it.
    """
    h = opened()
    h.param("liquidation_bonus", 10_000 + bonus, asset=WETH)
    units = 10**6
    debt = int(units * 2_000 * 10**6 * loan_to_value)
    h.position(0, WETH, "collateral", units * ETH).position(0, USDC, "debt", debt, "borrow")
    h.param("liquidation_threshold", 1_000, asset=WETH)
    book = book_of(h)
    fill = POOL.quote(book.state, Order(0, Pair(USDC, WETH), 7, repay=10**9), book.prices, book.now)
    price = RAY if reserve is None else ProductCurve(reserve * E).factor(fill.seized)
    before = Fraction(debt * 10**12, units * ETH * 2_000)
    after = Fraction((debt - fill.repaid) * 10**12 * RAY, (units * ETH - fill.seized) * 2_000 * price)
    return after > before


def frontier(bonus: int, reserve: int | None = None) -> float:
    low, high = Fraction(1, 10), Fraction(1)
    for _ in range(34):
        middle = (low + high) / 2
        low, high = (low, middle) if after_a_little(middle, bonus, reserve) else (middle, high)
    return float(low)


@pytest.mark.parametrize(("bonus", "said"), [(450, 0.9569), (500, 0.9524), (750, 0.9302), (1_000, 0.9091)], ids=str)
def test_the_toxic_frontier(bonus: int, said: float) -> None:
    """1 / (1 + i): above it every liquidation leaves the account worse off (Warmuz, Chaudhary and Pinna 2022)."""
    found = frontier(bonus)
    assert found == pytest.approx(1 / (1 + bonus / 10_000), abs=1e-7)
    assert round(found, 4) == said


@pytest.mark.parametrize("depth", [2, 10, 100], ids=str)
def test_mcfarlanes_bound(depth: int) -> None:
    """1 / ((1 + i)(1 + 2 c / y)), c being the account's collateral and y the pool's other side, both in value."""
    reserve = depth * 10**6
    assert frontier(500, reserve) == pytest.approx(1 / (1.05 * (1 + 2 / depth)), abs=1e-6)


def test_the_price_of_a_constant_product_falls_by_two_parts_of_what_is_sold() -> None:
    """The factor 1 + 2 c / y of the literature is the pool's elasticity."""
    curve = ProductCurve(10**6 * E)
    assert (RAY - curve.factor(E)) / RAY == pytest.approx(2 / 10**6, rel=2e-6)


def test_health_follows_the_oracle() -> None:
    """The market falls at once; with a delay nobody else is liquidatable before the oracle says so."""
    h = crowd()
    h.block(10).price(WETH, 1_900 * USD).block(30).price(USDC, USD)
    late = answered(h, 1_500, oracle=ChainlinkRule(deviation=50, heartbeat=3_600, delay=60))
    at_once = answered(h, 1_500)
    assert {sale.clock.timestamp for sale in at_once.sales} == {120}
    first = [sale for sale in late.sales if sale.clock.timestamp == 120]
    assert 0 < len(first) < len(at_once.sales)
    assert min(sale.clock.timestamp for sale in late.sales if sale.endogenous) == 180
    assert all(made.health_before < WAD for made in late.liquidations)
