"""The rules one by one, by vectors: numbers worked by hand from Gearbox-protocol/core-v3 at 510fc654, with the
arithmetic beside them. ``hand`` says what market it is.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace as changed

from backtest.errors import PriceMissing, RulesError
from backtest.model import AssetId, HistoricalLiquidation
from backtest.protocols.gearbox_v3 import GEARBOX_V3
from backtest.protocols.gearbox_v3.math import (
    Owed,
    Payments,
    RateModel,
    Repaid,
    accrued_down,
    decreased,
    increased,
    index_after_down,
    payments,
    quota_increase,
    quota_index_after_down,
    quota_interest_down,
    quota_worth_down,
    revenue_change_to_zero,
    seized_down,
    threshold_at,
)
from backtest.protocols.gearbox_v3.state import UNDERLYING, GearboxState
from backtest.protocols.interface import Acted, Action, Fill, LinearExposure, Order, Pair, Refusal
from backtest.units import RAY, WAD
from tests.protocols.gearbox_v3.hand import (
    ALICE,
    ETH,
    KEEPER,
    MARKET,
    NOW,
    START,
    USD,
    USDC,
    WBTC,
    WETH,
    YEAR,
    at,
    book,
    later,
    loan,
    moved,
    opened,
    param,
    rate,
    setting,
)

ORDER = Order(ALICE, Pair(UNDERLYING, WETH), KEEPER)
CURVE = RateModel(8_000, 9_000, 50, 100, 125, 10_000, 1)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        (0, 50),  # base
        (40, 100),  # 0.5 % + 1 % x 40 / 80
        (80, 150),  # both parts of the first slope
        (85, 2_125),  # in tenths of a basis point's hundredth below: 1.5 % + 1.25 % x 5 / 10 = 2.125 %
        (95, 527_500),  # 0.5 + 1 + 1.25 + 100 x 5 / 10 = 52.75 %
    ],
)
def test_the_rate_has_two_kinks(used: int, expected: int) -> None:
    scale = {2_125: 10**5, 527_500: 10**6}.get(expected, 10**4)
    assert CURVE.rate_down(100, 100 - used) == expected * RAY // scale


def test_borrowing_above_the_second_kink() -> None:
    assert not CURVE.refuses(100, 10)  # used 90 %: not above
    assert CURVE.refuses(1_000, 99)  # 90.1 %
    assert not RateModel(*CURVE[:6], 0).refuses(1_000, 99)
    assert CURVE.rate_down(100, 101) == 50 * RAY // 10**4  # more is there than expected


def test_the_index_grows_linearly_between_calls() -> None:
    assert index_after_down(2 * RAY, RAY // 10, YEAR // 2) == 21 * RAY // 10  # 2 x (1 + 10 % / 2)
    assert index_after_down(7, RAY, 0) == 7


def test_interest_on_a_principal_is_cut() -> None:
    assert accrued_down(1_000, 3 * RAY, 4 * RAY) == 333  # 1,000 x 4 / 3 = 1,333.3
    assert accrued_down(0, 0, RAY) == 0


def test_quotas() -> None:
    # 4 % for a quarter of a year: 10^27 / 10^4 x 7,884,000 x 400 / 31,536,000 = 10^25; the index began at 1
    assert quota_index_after_down(1, 400, YEAR // 4) == RAY // 100 + 1
    assert quota_interest_down(12_345, RAY // 100 + 1, 1) == 123  # 123.45
    assert revenue_change_to_zero(333, 100) == 3  # 3.33
    assert revenue_change_to_zero(333, -100) == -3  # towards zero, as Solidity divides
    assert quota_increase(90, 100, 20) == 10
    assert quota_increase(100, 100, 20) == 0


def test_borrowing_more_keeps_the_interest() -> None:
    assert increased(500, 0, 5 * RAY, 0) == (500, 5 * RAY)
    # 1,000 at index 1, now 1.1: 100 of interest. 1,000 more: 1.1 x 2,000 / (1.1 x 1,000 / 1 + 1,000) = 2,200 / 2,100
    debt, index = increased(1_000, 1_000, 11 * RAY // 10, RAY)
    assert (debt, index) == (2_000, 22 * RAY // 21)
    assert accrued_down(2_000, index, 11 * RAY // 10) == 100


OWED = Owed(debt=1_000, index=11 * RAY // 10, last=RAY, quota_interest=40, quota_fees=10, fee=2_500)


def test_what_is_owed() -> None:
    # interest 100 + 40; fees 10 + 100 / 4 + 40 / 4 = 45
    assert (OWED.interest, OWED.fees, OWED.total) == (140, 45, 1_185)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (6, Repaid(6, 1_000, RAY, 6, 40, 4)),  # of the quota fees, all of it the treasury's
        (35, Repaid(35, 1_000, RAY, 15, 20, 0)),  # 10; of 25, 25 / 1.25 = 20 are interest of quotas, 5 the treasury's
        (60, Repaid(60, 1_000, RAY, 20, 0, 0)),  # 10, 40 + 10
        (185, Repaid(185, 1_000, 11 * RAY // 10, 45, 0, 0)),  # and 100 + 25
        (685, Repaid(685, 500, 11 * RAY // 10, 45, 0, 0)),  # and 500 of the principal
        (9_999, Repaid(1_185, 0, 11 * RAY // 10, 45, 0, 0)),  # no more than is owed
    ],
)
def test_a_repayment_goes_in_order(amount: int, expected: Repaid) -> None:
    assert decreased(amount, OWED) == expected


def test_half_of_the_interest_moves_the_index() -> None:
    """60 and 62: 62 x 10,000 / 12,500 = 49 to the pool, 13 to the treasury; the index becomes
    1.1 x 1 / (1.1 - 49 x 1 / 1,000) = 1.1 / 1.051, at which 1,000 have earned 51.
    """
    paid = decreased(122, OWED)
    assert (paid.debt, paid.profit) == (1_000, 33)
    assert paid.last == 1_100 * RAY // 1_051
    assert accrued_down(1_000, paid.last, OWED.index) in (50, 51)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # funds 96 %: 1,920; 1,185 + 1.5 % x 2,000 = 1,215 to the pool, 705 to the owner; 1,215 - 1,140 profit
        (2_000, Payments(1_215, 705, 75, 0)),
        # 1,200: funds 1,152, asked 1,203: all to the pool, 12 above debt with interest
        (1_200, Payments(1_152, 0, 12, 0)),
        # 1,000: funds 960, 180 are lost
        (1_000, Payments(960, 0, 0, 180)),
        (0, Payments(0, 0, 0, 1_140)),
    ],
)
def test_a_liquidation_pays_pool_treasury_and_owner(value: int, expected: Payments) -> None:
    assert payments(OWED, value, 150, 9_600) == expected


@pytest.mark.parametrize(("time", "expected"), [(0, 9_000), (100, 9_000), (150, 8_500), (133, 8_670), (300, 8_000)])
def test_a_threshold_moves_along_its_ramp(time: int, expected: int) -> None:
    assert threshold_at(9_000, 8_000, 100, 200, time) == expected  # at 133: 9,000 x 0.67 + 8,000 x 0.33


def test_a_quota_is_worth_what_the_underlying_is() -> None:
    assert quota_worth_down(3_000 * USDC, USD, USDC) == 3_000 * USD
    assert quota_worth_down(1, 199_999_999, USDC) == 199  # 199.999999


def test_part_of_a_debt_takes_a_token_at_the_discount() -> None:
    # 960 dollars at 2,000 are 0.48 ether; / 96 % = 0.5
    assert seized_down(960 * USDC, USD, USDC, 2_000 * USD, ETH, 9_600) == ETH // 2


# -- an account --------------------------------------------------------------------------------------------------------


def test_health_counts_thresholds_and_quotas() -> None:
    state = book()
    view = GEARBOX_V3.view(state, ALICE, at(2_000), NOW)
    assert (view.collateral_base, view.debt_base) == (2_000 * USD, 1_500 * USD)
    assert view.health == 12 * WAD // 10  # 2,000 x 90 % / 1,500
    assert GEARBOX_V3.view(state, ALICE, at(5_000), NOW).health == 2 * WAD  # 4,500, but the quota is 3,000


def test_the_underlying_counts_at_what_premium_and_fee_leave() -> None:
    state = book(moved(ALICE, UNDERLYING, "collateral", 1_000 * USDC))
    # 1,800 + 1,000 x (100 - 4 - 1.5) % = 2,745; / 1,500
    assert GEARBOX_V3.view(state, ALICE, at(2_000), NOW).health == 2_745 * WAD // 1_500


def test_a_token_without_a_quota_counts_nothing() -> None:
    state = book(moved(ALICE, WBTC, "collateral", 10**8))
    assert GEARBOX_V3.view(state, ALICE, at(2_000), NOW).collateral_base == 2_000 * USD
    assert [one.collateral_enabled for one in GEARBOX_V3.holdings(state, ALICE, NOW)] == [True, True, False]


def test_interest_of_debt_and_quota_is_owed_with_fees() -> None:
    state = book(rate(RAY, RAY // 10), param("quota_rate", 400, WETH))
    # a year: 150 on 1,500; 4 % of 3,000 = 120; a quarter of both on top: 1,500 + 270 + 67.5
    assert state.owed(state.account(ALICE), START + YEAR).total == 1_837_500_000


def test_prices_that_are_missing() -> None:
    state, prices = book(), at(2_000)
    del prices.oracle[WETH]  # type: ignore[attr-defined]
    with pytest.raises(PriceMissing, match="WETH"):
        GEARBOX_V3.view(state, ALICE, prices, NOW)
    assert GEARBOX_V3.pairs(state, ALICE, prices, NOW) == ()
    assert isinstance(GEARBOX_V3.quote(state, ORDER, prices, NOW), Refusal)


# -- liquidations ------------------------------------------------------------------------------------------------------


def filled(state: GearboxState, order: Order, weth: int, seconds: int = 0) -> Fill:
    fill = GEARBOX_V3.quote(state, order, at(weth), later(seconds))
    assert isinstance(fill, Fill), fill
    for change in fill.changes:
        GEARBOX_V3.apply(state, change)
    return fill


def refused(state: GearboxState, order: Order, weth: int) -> str:
    fill = GEARBOX_V3.quote(state, order, at(weth), NOW)
    assert isinstance(fill, Refusal)
    return fill.reason


def test_an_account_is_liquidated_whole() -> None:
    """At 1,650: 1,485 carry 1,500. Funds 1,584; 1,500 + 24.75 to the pool, 59.25 stay for the owner."""
    state = book()
    assert GEARBOX_V3.pairs(state, ALICE, at(1_650), NOW) == (ORDER.pair,)
    fill = filled(state, ORDER, 1_650)
    assert (fill.repaid, fill.seized, fill.deficits) == (1_584 * USDC, ETH, ())
    own = state.account(ALICE)
    assert (own.debt, own.held, own.quotas) == (0, {UNDERLYING: 59_250_000}, {})


def test_the_accounts_own_underlying_pays_first() -> None:
    """100 of underlying with 0.9 of an ether at 1,700: 1,530 + 100 = 1,630 in all, of which 1,377 + 94.5 carry; funds
    1,564.8.
    """
    state = book(moved(ALICE, UNDERLYING, "collateral", 100 * USDC), moved(ALICE, WETH, "collateral", -ETH // 10))
    fill = filled(state, ORDER, 1_700)
    assert (fill.repaid, fill.repaid_by_others, fill.paid) == (1_564_800_000, 100 * USDC, 1_464_800_000)


def test_underlying_alone_leaves_a_reward() -> None:
    """1,550 carry 1,464.75 of 1,500: funds 1,488 all go to the pool, 12 are lost, 62 are the liquidator's."""
    state = opened(*loan(ALICE, 1_500 * USDC, WETH, ETH, 3_000 * USDC), moved(ALICE, WETH, "collateral", -ETH))
    GEARBOX_V3.apply(state, moved(ALICE, UNDERLYING, "collateral", 1_550 * USDC))
    fill = filled(state, changed(ORDER, pair=Pair(UNDERLYING, UNDERLYING)), 1_000)
    assert (fill.repaid, fill.seized, fill.paid, fill.reward) == (1_488 * USDC, 0, 0, 62 * USDC)
    assert fill.deficits == ((UNDERLYING, 12 * USDC),)


def test_a_loss_closes_the_tokens_quotas() -> None:
    """At 1,000: funds 960 of 1,500."""
    state = book()
    fill = filled(state, ORDER, 1_000)
    assert fill.deficits == ((UNDERLYING, 540 * USDC),)
    assert state.of_assets["quota_limit", WETH] == 0


def test_what_is_left_to_the_owner_in_kind() -> None:
    """0.01 ether at 1,650 is 16.5: so much less stays in the underlying, 42.75."""
    state = book()
    fill = filled(state, changed(ORDER, seize=ETH * 99 // 100), 1_650)
    assert (fill.repaid, fill.seized) == (1_567_500_000, ETH * 99 // 100)
    assert state.account(ALICE).held == {UNDERLYING: 42_750_000, WETH: ETH // 100}


def test_an_expired_account_pays_less() -> None:
    """At 2,000, healthy: funds 98 % = 1,960, 1,500 + 1 % of 2,000 to the pool."""
    state = book(expires=START)
    fill = filled(state, ORDER, 2_000)
    assert fill.repaid == 1_960 * USDC
    assert state.account(ALICE).held == {UNDERLYING: 440 * USDC}
    assert GEARBOX_V3.pairs(book(expires=START + 1), ALICE, at(2_000), NOW) == ()


def test_a_part_is_liquidated() -> None:
    """At 1,650: 792 brought take 792 / 1,650 / 96 % = 0.5 ether; 1.5 % = 11.88 are the fee, 780.12 repay. 0.5 ether
    carry 742.5, 719.88 are left.
    """
    state = book()
    fill = filled(state, changed(ORDER, repay=792 * USDC), 1_650)
    assert (fill.repaid, fill.seized) == (792 * USDC, ETH // 2)
    own = state.account(ALICE)
    assert (own.debt, own.held, own.updated) == (719_880_000, {WETH: ETH // 2}, 21)


def test_parts_that_are_refused() -> None:
    assert "unhealthy afterwards" in refused(book(), changed(ORDER, repay=USDC), 1_650)
    assert "least debt" in refused(book(least_debt=1_000 * USDC), changed(ORDER, repay=792 * USDC), 1_650)
    assert "more than there is" in refused(book(), changed(ORDER, repay=1_590 * USDC), 1_650)
    pair = Pair(UNDERLYING, UNDERLYING)
    assert "underlying is not taken" in refused(book(), changed(ORDER, pair=pair, repay=USDC), 1_650)


def test_liquidations_that_are_refused() -> None:
    assert "not liquidatable" in refused(book(), ORDER, 2_000)
    assert "owes nothing" in refused(opened(), ORDER, 1_000)
    assert "told by its token" in refused(book(), changed(ORDER, pair=Pair(UNDERLYING, WBTC)), 1_650)
    state = book(moved(ALICE, UNDERLYING, "debt", USDC, block=NOW.block_number))
    assert "same block" in refused(state, ORDER, 1_000)
    assert "more than there is" in refused(book(), changed(ORDER, seize=2 * ETH), 1_650)


def test_agreed_amounts() -> None:
    state = book()
    fill = filled(state, changed(ORDER, repay=500 * USDC, seize=ETH // 4, agreed=True), 1_650)
    assert (fill.repaid, fill.seized, state.account(ALICE).debt) == (500 * USDC, ETH // 4, 1_000 * USDC)


def test_orders_of_history() -> None:
    past = HistoricalLiquidation(
        seq=0, block_number=10, log_index=0, timestamp=START, account=ALICE, liquidator=KEEPER, debt_asset=UNDERLYING,
        collateral_asset=WETH, repaid=9, seized=7,
        protocol_fee=0, receive_collateral_token=False, debt_scaled=None,
    )  # fmt: skip
    assert GEARBOX_V3.observed_order(book(), past, at(1_650), NOW) == changed(ORDER, seize=7)


# -- users' calls ------------------------------------------------------------------------------------------------------


def made(state: GearboxState, name: str, *changes: object, weth: int = 2_000, **more: object) -> Acted | Refusal:
    action = Action(name, changes, **more)  # type: ignore[arg-type]
    return GEARBOX_V3.act(state, action, at(weth), later(0))


def test_borrowing_more() -> None:
    acted = made(book(), "borrow", moved(ALICE, UNDERLYING, "debt", 300 * USDC))
    assert isinstance(acted, Acted)
    assert acted.view is not None
    assert acted.view.health == WAD  # 1,800 carry 1,800
    over = made(book(), "borrow", moved(ALICE, UNDERLYING, "debt", 300 * USDC + 1_000))
    assert over == Refusal("not enough collateral")
    assert made(book(greatest_debt=1_700 * USDC), "borrow", moved(ALICE, UNDERLYING, "debt", 300 * USDC)) == Refusal(
        "outside the least and the greatest debt"
    )


def test_repaying_leaves_the_least_debt() -> None:
    few = moved(ALICE, UNDERLYING, "debt", -1_450 * USDC)
    assert made(book(), "repay", few) == Refusal("less than the least debt would be left")


def test_all_is_repaid_once_quotas_are_gone() -> None:
    state = book(rate(RAY, RAY // 10), moved(ALICE, UNDERLYING, "collateral", 2_000 * USDC))
    back = moved(ALICE, UNDERLYING, "debt", -1_500 * USDC)
    action = Action("repay", (back, moved(ALICE, UNDERLYING, "collateral", -1_500 * USDC)), frozenset({0}))
    acted = GEARBOX_V3.act(state, action, at(2_000), later(YEAR))
    assert isinstance(acted, Acted)
    assert acted.amount == 1_687_500_000  # 1,500 + 150 + a quarter of it
    for change in acted.changes:
        GEARBOX_V3.apply(state, change)
    own = state.account(ALICE)
    assert (own.debt, own.quotas, own.held[UNDERLYING]) == (0, {}, 312_500_000)


def test_quotas_that_are_used_up() -> None:
    state = book(param("quota_limit", 3_100 * USDC, WETH))
    assert made(state, "supply", setting(ALICE, "quota", WETH, 3_101 * USDC)) == Refusal(
        "the token's quotas are used up"
    )
    assert isinstance(made(state, "supply", setting(ALICE, "quota", WETH, 3_100 * USDC)), Acted)


def test_more_than_there_is() -> None:
    taken = moved(ALICE, WETH, "collateral", -2 * ETH)
    assert made(book(), "withdraw", taken) == Refusal("more than there is")
    assert made(book(expires=START), "withdraw", taken) == Refusal("the credit facade has expired")


# -- the pool, parameters ----------------------------------------------------------------------------------------------


def test_the_rate_follows_what_is_borrowed() -> None:
    """1,500 of 10,000: 15 / 80 of 1 %."""
    state = book(recompute=True)
    assert state.pool.rate == RAY // 100 * 15 // 80
    assert (state.pool.available, state.pool.borrowed) == (8_500 * USDC, 1_500 * USDC)


def test_parameters_that_are_refused() -> None:
    fault = GEARBOX_V3.fault
    assert "above the premium" in str(fault({"liquidation_premium": 100, "liquidation_fee": 101}))
    assert "all there is" in str(fault({"liquidation_premium": 5_000, "liquidation_fee": 5_000}))
    assert "of the underlying" in str(fault({"liquidation_premium": 400, "liquidation_threshold": 9_601}))
    assert fault({"liquidation_premium": 400, "liquidation_fee": 150, "liquidation_threshold": 9_450}) is None
    with pytest.raises(RulesError, match="unknown parameter"):
        opened(param("nonsense", 1))


def test_an_overridden_threshold_does_not_move() -> None:
    names = ("threshold_from", "threshold_to", "threshold_ramp_start", "threshold_ramp_end")
    ramp = [param(name, value, WETH) for name, value in zip(names, (9_000, 8_000, START, START + 100), strict=True)]
    assert opened(*ramp).threshold(WETH, START + 50) == 8_500
    assert opened(*ramp, param("liquidation_threshold", 8_800, WETH)).threshold(WETH, START + 50) == 8_800


def test_the_screen_never_misses() -> None:
    """The form is below zero wherever the account may be liquidated, at each price of a grid and six hours on."""
    state = book(rate(RAY, RAY // 10), param("quota_rate", 400, WETH))
    form = GEARBOX_V3.exposure(state, ALICE, NOW)
    assert isinstance(form, LinearExposure)
    assert form.until is not None
    for weth in range(1_500, 1_800):
        prices = at(weth)
        value = form.constant + sum(form.weights[AssetId(n)] * prices.oracle[AssetId(n)] for n in form.weights)
        if GEARBOX_V3.pairs(state, ALICE, prices, later(form.until - START)):
            assert value < 0
    assert value > 0
    assert GEARBOX_V3.owner_in(state, ALICE) == MARKET.accounts[3]
