"""Rates and accrual worked out by hand; the chain itself decides in test_end_to_end, test_random_actions and
test_twins.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from backtest.errors import RulesError
from backtest.model import Clock, IndexUpdate, ParamChange
from backtest.protocols.aave_v3.actions import act
from backtest.protocols.aave_v3.interest import TouchedReserves, rates
from backtest.protocols.aave_v3.native_amounts import _range, roundest
from backtest.protocols.interface import Action
from backtest.units import RAY, SECONDS_PER_YEAR
from tests.support.aave_books import DEBT, NOW, START
from tests.support.aave_toy import PERCENT, toy

YEAR_LATER = Clock(200, 0, START + SECONDS_PER_YEAR)


@pytest.mark.parametrize(
    ("debt", "liquidity", "borrow", "supply"),
    [
        (0, 100, 1 * PERCENT, 0),
        (40, 60, 3 * PERCENT, 12 * PERCENT * 9 // 100),  # half the way to the kink: 1 + 2; 3 * 0.4 * 0.9
        (80, 20, 5 * PERCENT, 36 * PERCENT // 10),
        (90, 10, 425 * PERCENT // 10, 34_425 * PERCENT // 1000),  # 5 + 75 / 2; 42.5 * 0.9 * 0.9
        (100, 0, 80 * PERCENT, 72 * PERCENT),
    ],
)
@pytest.mark.parametrize("revision", [3, 10])
def test_the_two_slopes(revision: int, debt: int, liquidity: int, borrow: int, supply: int) -> None:
    book = toy(revision)
    assert rates(book.state, book.state.reserves[DEBT], NOW, debt=debt, liquidity=liquidity, deficit=0) == (
        supply,
        borrow,
    )


def test_bad_debt_lowers_the_supply_rate_from_33_on() -> None:
    """40 of 100 used and 100 of deficit: suppliers share 3 % * 0.2 * 0.9."""
    for revision, supply in ((3, 108 * PERCENT // 100), (7, 54 * PERCENT // 100)):
        book = toy(revision)
        assert rates(book.state, book.state.reserves[DEBT], NOW, debt=40, liquidity=60, deficit=100) == (
            supply,
            3 * PERCENT,
        )


def test_a_tiny_debt_shows_the_average_of_30() -> None:
    """Through (1e9 * rate) half-up and back a debt of one unit keeps 9 digits of its rate."""
    book = toy(3)
    odd = replace(book.state.reserves[DEBT], base_rate=123_456_789_123_456_789_123_456_789 // 1000)
    supply, borrow = rates(book.state, odd, NOW, debt=1, liquidity=0, deficit=0)
    exact = (borrow * 9 + 5) // 10
    assert supply != exact
    assert abs(supply - exact) <= 10**18


def test_what_cannot_be_recomputed_says_so() -> None:
    book = toy(10)
    with pytest.raises(RulesError, match="would have -1 units of liquidity"):
        rates(book.state, book.state.reserves[DEBT], NOW, debt=1, liquidity=-1, deficit=0)
    book.state.reserves[DEBT].optimal_usage = None
    with pytest.raises(RulesError, match="the rate strategy of DEBT is not known"):
        rates(book.state, book.state.reserves[DEBT], NOW, debt=1, liquidity=1, deficit=0)


@pytest.mark.parametrize("revision", [3, 10])
def test_a_year_of_interest_and_the_treasury_s_share(revision: int) -> None:
    """1000 owed at 10 %, suppliers at 5 %: supply index 1.05, borrow index 1.1052 (three terms: 1.105166...), interest
    105, a tenth of it (10.5, to nearest 11) at 1.05: 10.48, to nearest and down 10.
    """
    book = toy(revision)
    book.borrow(DEBT, 1_000)
    book.index(DEBT, RAY, RAY, 5 * PERCENT, 10 * PERCENT)
    touched = TouchedReserves(book.state, YEAR_LATER).accrue(DEBT)
    assert touched.supply_index == 105 * RAY // 100
    assert abs(touched.borrow_index / RAY - 1.105166) < 1e-5
    assert touched.accrued_to_treasury == 10


def test_indexes_stand_still_without_a_rate_or_a_debt() -> None:
    book = toy(10)
    book.index(DEBT, RAY, 2 * RAY, 0, 10 * PERCENT)
    touched = TouchedReserves(book.state, YEAR_LATER).accrue(DEBT)
    assert (touched.supply_index, touched.borrow_index) == (RAY, 2 * RAY)


def test_a_flash_loan_s_premium_goes_to_suppliers_to_33_and_to_the_treasury_after() -> None:
    """100 of premium on 10,000 supplied, 30 % of it the protocol's: the index rises by 0.7 % to 3.3; from 3.4 on all
    accrues.
    """
    for revision, index, accrued in ((3, RAY * 1007 // 1000, 30), (10, RAY, 100)):
        book = toy(revision)
        book.param("flash_premium_to_protocol", 3000)
        book.supply(DEBT, 10_000)
        book.param("liquidity", 10_000, asset=DEBT)
        touched_reserves = TouchedReserves(book.state, NOW)
        touched_reserves.premium(DEBT, 100)
        update, *params = touched_reserves.changes()
        assert isinstance(update, IndexUpdate)
        assert update.supply_index == index
        values = {change.name: change.value for change in params if isinstance(change, ParamChange)}
        assert values == {"accrued_to_treasury": accrued, "liquidity": 10_100}


def test_a_new_reserve_factor_takes_effect_at_once_from_31_on() -> None:
    change = ParamChange(
        seq=1,
        block_number=200,
        log_index=0,
        timestamp=YEAR_LATER.timestamp,
        name="reserve_factor",
        value=5000,
        asset=DEBT,
    )
    for revision, kinds in ((3, ["ParamChange"]), (10, ["IndexUpdate", "ParamChange", "ParamChange", "IndexUpdate"])):
        book = toy(revision)
        book.supply(DEBT, 100_000)
        book.borrow(DEBT, 40_000)
        book.param("liquidity", 60_000, asset=DEBT)
        book.index(DEBT, RAY, RAY, PERCENT, 3 * PERCENT)
        acted = act(book.state, Action("parameter", (change,)), book.prices, YEAR_LATER)  # type: ignore[arg-type]
        assert [type(effect).__name__ for effect in acted.changes] == kinds  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0, 0, 0), (7, 7, 7), (999, 1001, 1000), (1_234_500, 1_234_567, 1_234_500), (95, 96, 95), (10, 100, 100)],
)
def test_the_roundest_amount(low: int, high: int, found: int) -> None:
    assert roundest(low, high) == found


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("index", [RAY, RAY + 1, 11 * RAY // 10, 3 * RAY // 2, 7 * RAY // 3])
@pytest.mark.parametrize("scaled", [1, 2, 66, 10**20 + 7])
def test_all_amounts_of_the_range_scale_to_the_number_and_none_outside(directed: bool, index: int, scaled: int) -> None:
    def scale(amount: int) -> int:
        return -(-amount * RAY // index) if directed else (amount * RAY + index // 2) // index

    low, high = _range(scaled, index, directed)
    assert low <= high
    assert scale(low) == scale(high) == scaled
    assert scale(low - 1) != scaled != scale(high + 1)
