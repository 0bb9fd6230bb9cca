"""The smallest shock: along one direction against every basis point, over all directions against a grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from backtest.errors import UserError
from backtest.protocols.book import Book
from backtest.replay.what_if import proposal as what_if
from backtest.risk.book import standings_of
from backtest.risk.reverse import bad_debt_after, exposed, reverse_along, size_of, smallest
from backtest.units import WAD
from tests.propose.market import four_borrowers
from tests.sketches.history import ETH, USD, USDC, WETH, History, market
from tests.support.sketch_history import POOL

DOWN = {WETH: 10_000}


@pytest.fixture
def book() -> Book[Any]:
    """Four accounts with 1 WETH of 2,000 $, threshold 80 %, bonus 5 %, owing 1,000, 1,300, 1,550 and 1,590 $."""
    h = four_borrowers()
    return what_if.book_at(POOL, h.market, h.timeline(), 10, ended=False)


def two_collaterals() -> Book[Any]:
    """Two accounts: one owes 800 $ on 1 AAA of 1,000 $, the other 700 $ on 1 BBB of 1,000 $ and 2 units of BBB on
    4,000 $: what falls and what rises both hurt.
    """
    h = History(market(("AAA", 18), ("BBB", 18), ("USD", 6)))
    for asset in (0, 1, 2):
        h.param("liquidation_threshold", 9_000, asset=asset).param("liquidation_bonus", 10_000, asset=asset)
    h.param("close_factor", 10_000)
    h.price(0, 1_000 * USD).price(1, 1_000 * USD).price(2, USD)
    h.position(0, 0, "collateral", ETH, "supply").position(0, 2, "debt", 800 * 10**6, "borrow")
    h.position(1, 1, "collateral", ETH, "supply").position(1, 2, "debt", 700 * 10**6, "borrow")
    h.position(2, 2, "collateral", 4_000 * 10**6, "supply").position(2, 1, "debt", 2 * ETH, "borrow")
    h.block(5)
    return what_if.book_at(POOL, h.market, h.timeline(), 5, ended=True)


@pytest.mark.parametrize("reserves", [0, 5 * USD, 200 * USD, 900 * USD], ids=["none", "few", "some", "many"])
def test_the_least_fall_is_that_of_looking_everywhere(book: Book[Any], reserves: int) -> None:
    """At 2,000 (1 - x) dollars every collateral pays for 1 / 1.05 of it: bad debt is the sum of what is missing."""
    found = reverse_along(book, DOWN, reserves)
    assert found is not None
    price = 2000 * (1 - found.fall / 10_000)
    owed = [debt for debt in (1000, 1300, 1550, 1590) if debt > price / 1.05]
    assert found.bad_debt == pytest.approx((sum(owed) - len(owed) * price / 1.05) * USD, rel=1e-6)
    assert found.before <= reserves < found.bad_debt
    assert found.size == pytest.approx(-math.log(1 - found.fall / 10_000))
    first = next(fall for fall in range(found.fall - 40, 10_000) if bad_debt_after(book, DOWN, fall) > reserves)
    assert found.fall == first
    assert reverse_along(book, DOWN, reserves, rung=77) == found


def test_no_fall_is_enough_where_reserves_are_all_debt(book: Book[Any]) -> None:
    assert reverse_along(book, DOWN, 5440 * USD) is None
    fallen = what_if.moved(book, {WETH: WAD // 10})
    found = reverse_along(fallen, DOWN, 0)
    assert found is not None
    assert (found.fall, found.size) == (0, 0)
    for direction, reserves, said in ((DOWN, -1, "reserves of -1"), ({WETH: 0}, 0, "nothing moves")):
        with pytest.raises(UserError, match=said):
            reverse_along(book, direction, reserves)


def test_a_price_that_rises(book: Book[Any]) -> None:
    """USDC at 1.2 makes debts of 1,908 $ and 1,860 $ against 2,000 / 1.05 = 1,904.76 $."""
    found = reverse_along(book, {USDC: -10_000}, 0)
    assert found is not None
    assert found.fall == 1_980  # 1.198 * 1,590 = 1,904.82
    assert found.size == pytest.approx(math.log(1.198))
    assert reverse_along(what_if.moved(book, {USDC: WAD // 10**4}), {USDC: -10_000}, 10**4 * USD) is None


@pytest.mark.parametrize("reserves", [50, 150, 400, 900], ids=str)
def test_the_smallest_over_all_directions_is_the_grids(reserves: int) -> None:
    """Without a bonus, bad debt is max(0, 800 - 1000 a) + max(0, 700 - 1000 b) + max(0, 2000 b - 4000) for factors a
    and b of the two prices: the nearest point beyond, on a grid of log changes, is no nearer than what was found.
    """
    book = two_collaterals()
    found, _ = standings_of(book, {0: 10_000, 1: 10_000})
    answer = smallest(book, [0, 1], found, reserves * USD)
    best = answer.found[0]
    log = np.linspace(-5, 2.3, 1_461)
    a, b = np.exp(log)[:, None], np.exp(log)[None, :]
    bad = np.maximum(0, 800 - 1000 * a) + np.maximum(0, 700 - 1000 * b) + np.maximum(0, 2000 * b - 4000)
    sizes = np.hypot(log[:, None], log[None, :])
    nearest = float(sizes[bad > reserves].min())
    assert best.size <= nearest + 0.002
    assert best.size >= nearest - 0.012  # the grid's own step, twice
    assert best.bad_debt > reserves * USD >= best.before
    assert [one.size for one in answer.found] == sorted(one.size for one in answer.found)
    assert answer.reached >= len(answer.found)


def test_a_metric_makes_what_is_usual_near() -> None:
    """Where the first price moves ten times as much as the second as a rule, the answer is of the first."""
    book = two_collaterals()
    found, _ = standings_of(book, {0: 10_000, 1: 10_000})
    first = smallest(book, [0, 1], found, 150 * USD, metric=np.diag([0.01, 1.0])).found[0]
    assert set(first.direction) == {0}
    assert first.size == pytest.approx(0.1 * -math.log(0.65), abs=1e-3)  # 800 - 650
    second = smallest(book, [0, 1], found, 150 * USD, metric=np.diag([1.0, 0.01])).found[0]
    assert set(second.direction) == {1}
    assert second.size == pytest.approx(0.1 * -math.log(0.55), abs=1e-3)
    assert size_of({0: 10_000, 1: 5_000}, 5_000, np.diag([1.0, 4.0])) == pytest.approx(
        math.hypot(math.log(0.5), 2 * math.log(0.75))
    )


def test_the_picture_is_the_book(book: Book[Any]) -> None:
    found, _ = standings_of(book, DOWN)
    picture = exposed(book, [WETH, USDC], found)
    for fall in (0, 2_000, 3_000, 5_000):
        short, slope = picture.short(np.array([math.log(1 - fall / 10_000), 0.0]))
        assert short == pytest.approx(bad_debt_after(book, DOWN, fall), rel=1e-7)
        nearby = picture.short(np.array([math.log(1 - fall / 10_000) + 1e-7, 0.0]))[0]
        assert (nearby - short) / 1e-7 == pytest.approx(slope[0], rel=1e-4, abs=1)
