"""The rules of Comet worked by hand from its source, with the arithmetic shown (``hand`` has the market).

Source: compound-finance/comet at d5a30b0a (29 May 2026), ``contracts/CometCore.sol``,
``CometWithExtendedAssetList.sol``.
Session figures of the compiled contracts are in ``test_compound_v3_recorded``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from backtest.errors import PriceMissing, RulesError
from backtest.model import AccountId, Clock, HistoricalLiquidation, PositionChange, Prices
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.compound_v3 import math as rules
from backtest.protocols.compound_v3.account import is_collateralized, is_liquidatable
from backtest.protocols.compound_v3.liquidation import absorbed, is_for_sale, sale_price, sold
from backtest.protocols.compound_v3.state import BASE
from backtest.protocols.interface import Acted, Action, Fill, LinearExposure, Order, Pair, Refusal
from tests.protocols.compound_v3.hand import (
    ALICE,
    BOB,
    BTC,
    BUYER,
    ETH,
    LENDER,
    MARKET,
    NOW,
    ONE,
    START,
    USD,
    USDC,
    WAD,
    WBTC,
    WETH,
    at,
    book,
    indexes,
    moved,
    opened,
    param,
)

MAIN = Pair(BASE, WETH)
SUPPLY_INDEX, BORROW_INDEX = 1_012_345_678_901_234, 1_034_567_890_123_456

# -- principals: CometCore ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("principal", "value"),
    [
        # 1,000,000 x 1.012345678901234 = 1,012,345.678..., cut
        (1_000_000, 1_012_345),
        (0, 0),
        (1, 1),
        # -1,000,000 x 1.034567890123456 = -1,034,567.89..., towards zero
        (-1_000_000, -1_034_567),
        (-1, -1),
    ],
)
def test_what_a_principal_is_worth(principal: int, value: int) -> None:
    assert rules.present_value(principal, SUPPLY_INDEX, BORROW_INDEX) == value


@pytest.mark.parametrize(
    ("value", "principal"),
    [
        # 1,000,000 / 1.012345678901234 = 987,804.878..., cut
        (1_000_000, 987_804),
        (1, 0),
        (2, 1),
        # 1,000,000 / 1.034567890123456 = 966,587.2..., up
        (-1_000_000, -966_588),
        (-1, -1),
    ],
)
def test_the_principal_of_a_value(value: int, principal: int) -> None:
    assert rules.principal_value(value, SUPPLY_INDEX, BORROW_INDEX) == principal


# -- rates and indexes: getUtilization, getSupplyRate, getBorrowRate, accruedInterestIndices ---------------------------


def test_use_and_rates_below_the_kink() -> None:
    """1,500 of 10,000: 15 %. Supply 1,030,568,239 x 0.15 = 154,585,235.85; borrow 475,646,879 + 1,109,842,719 x 0.15
    (166,476,407.85): 642,123,286.
    """
    assert rules.utilization_down(10_000 * USDC, 1_500 * USDC) == 150_000_000_000_000_000
    assert book().curve_rates() == (154_585_235, 642_123_286)


def test_rates_above_the_kink() -> None:
    """9,000 of 10,000: 90 %. Supply 1,030,568,239 x 0.8 (824,454,591.2) + 12,683,916,793 x 0.1 (1,268,391,679.3):
    2,092,846,270. Borrow 475,646,879 + 1,109,842,719 x 0.8 (887,874,175.2) + 7,927,447,995 x 0.1 (792,744,799.5):
    2,156,265,853.
    """
    state = book(moved(BOB, BASE, "debt", 7_500 * USDC, "borrow", 7_500 * USDC))
    assert state.curve_rates() == (2_092_846_270, 2_156_265_853)


def test_rates_where_nothing_is_supplied() -> None:
    assert rules.utilization_down(0, 5) == 0
    assert opened().curve_rates() == (0, 475_646_879)


def test_a_day_of_interest() -> None:
    """86,400 seconds at 642,123,286: 55,479,451,910,400 of a wad; 10^15 times that / 10^18 = 55,479,451,910.4, cut.
    Supply: 154,585,235 x 86,400 = 13,356,164,304,000: 13,356,164,304.
    """
    state = book(recompute=True)
    after = state.accrued(START + 86_400)
    assert (after.supply, after.borrow) == (ONE + 13_356_164_304, ONE + 55_479_451_910)
    assert after.updated == START + 86_400
    assert state.accrued(START) == state.indexes


def test_recorded_rates_hold_until_the_next_accrual() -> None:
    state = book(indexes(ONE, ONE, (10**9, 2 * 10**9)))
    after = state.accrued(START + 1_000)
    # 10^15 x (10^9 x 1,000) / 10^18
    assert (after.supply, after.borrow) == (ONE + 10**9, ONE + 2 * 10**9)


def test_a_new_curve_counts_from_the_last_accrual_on() -> None:
    """The contract accrues by the rates it has when it accrues (accrueInternal): an upgrade does not accrue."""
    state = book(indexes(ONE, ONE, (154_585_235, 642_123_286)), param("borrow_rate_base", 10**9))
    # 10^9 + 166,476,407 = 1,166,476,407 a second; x 1,000: 1,166,476,407,000 of a wad
    assert state.accrued(START + 1_000).borrow == ONE + 1_166_476_407


# -- rewards: accrueInternal, updateBasePrincipal ----------------------------------------------------------------------


def test_rewards_follow_the_principal() -> None:
    """2 x 10^11 a second over 10,000 USDC: 1,000 s x 2 x 10^11 x 10^6 / 10^10 = 2 x 10^10 of an index of 10^15. The
    lender's 10^10 x 2 x 10^10 / 10^15 = 200,000, in 10^-6 of a token, the base token's decimals being six.
    """
    state = book()
    COMPOUND_V3.apply(state, indexes(ONE, ONE, time=START + 1_000))
    assert state.indexes.tracking_supply == 2 * 10**10
    # 10^11 x 1,000 x 10^6 / (1,500 x 10^6) = 66,666,666,666.6, cut
    assert state.indexes.tracking_borrow == 66_666_666_666
    assert state.rewards(state.position(LENDER), state.indexes) == 200_000
    # 1,500 x 10^6 x 66,666,666,666 / 10^15 = 99,999.9
    assert state.rewards(state.position(ALICE), state.indexes) == 99_999


def test_rewards_rest_below_the_least_principal() -> None:
    """900 USDC borrowed are less than the 1,000 that baseMinForRewards asks for."""
    state = book(moved(ALICE, BASE, "debt", -600 * USDC, "repay", 600 * USDC))
    COMPOUND_V3.apply(state, indexes(ONE, ONE, time=START + 1_000))
    assert (state.indexes.tracking_supply, state.indexes.tracking_borrow) == (2 * 10**10, 0)


def test_rewards_of_a_base_token_with_eighteen_decimals_are_cut_to_six() -> None:
    # 7 x 10^18 x 3 x 10^10 / 10^15 = 2.1 x 10^14; / 10^12 = 210
    assert rules.rewards_down(7 * 10**18, 3 * 10**10, ONE, 10**18) == 210
    assert rules.rewards_down(7 * 10**18, 3 * 10**7, ONE, 10**18) == 0  # 2.1 x 10^11, below 10^12


# -- health: isLiquidatable, isBorrowCollateralized --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "liquidatable", "collateralized"),
    [
        # carries 2,000 x 0.895 = 1,790 and 2,000 x 0.825 = 1,650, owes 1,500
        (2_000 * USD, False, True),
        # 1,818.19 x 0.825 = 1,500.00675; 1,818.18 x 0.825 = 1,499.9985
        (181_819_000_000, False, True),
        (181_818_000_000, False, False),
        # 1,675.97765363 x 0.895 = 1,499.99999999885, cut to ...999; one unit more: 1,500.00000000780
        (167_597_765_363, True, False),
        (167_597_765_364, False, False),
    ],
)
def test_where_an_account_turns(price: int, liquidatable: bool, collateralized: bool) -> None:
    state = book()
    position, prices = state.position(ALICE), at(price).oracle
    assert is_liquidatable(state, position, state.indexes, prices) == liquidatable
    assert is_collateralized(state, position, state.indexes, prices) == collateralized
    view = COMPOUND_V3.view(state, ALICE, at(price), NOW)
    assert view.health is not None
    assert (view.health < WAD) == liquidatable
    assert COMPOUND_V3.pairs(state, ALICE, at(price), NOW) == ((Pair(BASE, WETH),) if liquidatable else ())
    safe = COMPOUND_V3.safe_prices(state, ALICE, WETH, at(price), NOW)
    assert safe is not None
    assert safe.least_up == 167_597_765_364


def test_the_view_of_two_collaterals() -> None:
    """2,000 and 0.1 bitcoin at 30,000: worth 5,000; carries 1,790 + 2,310 = 4,100; may owe 1,650 + 2,100 = 3,750. 1,500
    owed: 4,100 / 1,500 = 2.7333...
    """
    state = book(moved(ALICE, WBTC, "collateral", BTC // 10, "supply", BTC // 10))
    view = COMPOUND_V3.view(state, ALICE, at(2_000 * USD), NOW)
    assert (view.collateral_base, view.debt_base, view.borrowing_power_base) == (5_000 * USD, 1_500 * USD, 3_750 * USD)
    assert view.health == 2_733_333_333_333_333_333


def test_values_are_cut_twice() -> None:
    """3 wei at 1 unit a token are worth nothing; 10^18 + 1 wei at 33 units are worth 33 and count for 29 (29.535)."""
    state = opened(moved(ALICE, WETH, "collateral", ETH + 1, "supply"), moved(ALICE, BASE, "debt", 29, "borrow", 29))
    view = COMPOUND_V3.view(state, ALICE, at(33, usdc=10**6), NOW)
    assert (view.collateral_base, view.debt_base, view.health) == (33, 29, WAD)
    assert not COMPOUND_V3.pairs(state, ALICE, at(33, usdc=10**6), NOW)
    assert COMPOUND_V3.pairs(state, ALICE, at(32, usdc=10**6), NOW)  # 28.64 counts for 28


def test_a_debt_worth_less_than_a_unit_is_none() -> None:
    """signedMulPrice cuts towards zero: -1 x 10^5 / 10^6 is 0, which is not below zero."""
    state = opened(moved(ALICE, BASE, "debt", 1, "borrow", 1), moved(ALICE, WETH, "collateral", 1, "supply"))
    assert COMPOUND_V3.view(state, ALICE, at(1, usdc=10**5), NOW).health is None
    assert COMPOUND_V3.pairs(state, ALICE, at(1, usdc=10**5), NOW) == ()
    assert COMPOUND_V3.pairs(state, ALICE, at(1, usdc=10**6), NOW) == (Pair(BASE, WETH),)


def test_a_debt_without_collateral_is_absorbed_for_nothing() -> None:
    """No contract's call leaves one; where there is one, it is told by the first asset, and nobody comes for it."""
    state = opened(moved(ALICE, BASE, "debt", 5 * USDC, "borrow", 5 * USDC))
    assert COMPOUND_V3.pairs(state, ALICE, at(USD), NOW) == ()
    fill = COMPOUND_V3.quote(state, Order(ALICE, Pair(BASE, WETH), BUYER), at(USD), NOW)
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.seized, fill.deficits) == (5 * USDC, 0, ((BASE, 5 * USDC),))


def test_debt_counts_with_the_interest_that_absorb_accrues() -> None:
    """1,500 x (1 + 0.0116...) above 1,510: 1,687.2 x 0.895 = 1,510.044."""
    state = book(indexes(ONE, ONE, (0, 10**10)))
    price, later = 168_720_000_000, Clock(20, 0, START + 1_000_000)
    assert not COMPOUND_V3.pairs(state, ALICE, at(price), NOW)
    # 10^10 x 10^6 s = 10^16 of a wad: the index is 1.01, the debt 1,515
    assert COMPOUND_V3.pairs(state, ALICE, at(price), later)
    assert COMPOUND_V3.view(state, ALICE, at(price), later).debt_base == 1_515 * USD


def test_prices_are_asked_for_in_turn() -> None:
    """One ether is enough: the feed of bitcoin, which has no answer, is not asked. Absorbing asks them all."""
    state = book(moved(ALICE, WBTC, "collateral", 1, "supply"))
    only = Prices({BASE: USD, WETH: 2_000 * USD}, {}, {})
    assert not is_liquidatable(state, state.position(ALICE), state.indexes, only.oracle)
    with pytest.raises(PriceMissing, match="WBTC has no price"):
        COMPOUND_V3.view(state, ALICE, only, NOW)
    low = Prices({BASE: USD, WETH: 1_000 * USD}, {}, {})
    assert COMPOUND_V3.pairs(state, ALICE, low, NOW) == ()
    refusal = COMPOUND_V3.quote(state, Order(ALICE, Pair(BASE, WETH), BUYER), low, NOW)
    assert isinstance(refusal, Refusal)
    assert "WBTC has no price" in refusal.reason


def test_the_form_is_negative_before_the_account_turns() -> None:
    state = book()
    form = COMPOUND_V3.exposure(state, ALICE, NOW)
    assert isinstance(form, LinearExposure)
    for price in (167_597_765_363, 160_000_000_000):
        assert form.weights[WETH] * price + form.weights[BASE] * USD + form.constant < 0
    assert form.weights[WETH] * 2_000 * USD + form.weights[BASE] * USD + form.constant > 0
    assert COMPOUND_V3.exposure(state, LENDER, NOW) is None


# -- absorb ------------------------------------------------------------------------------------------------------------


def quoted(price: int, *events: PositionChange, wbtc: int = 30_000 * USD, usdc: int = USD) -> Fill:
    state = book(*events)
    (pair,) = COMPOUND_V3.pairs(state, ALICE, at(price, wbtc, usdc), NOW)
    fill = COMPOUND_V3.quote(state, Order(ALICE, pair, BUYER), at(price, wbtc, usdc), NOW)
    assert isinstance(fill, Fill), fill
    return fill


def test_credit_beyond_the_debt_becomes_supply() -> None:
    """At 1,650: 1,650 x 0.95 = 1,567.5 is credited, 1,500 owed: 67.5 are left as supply."""
    fill = quoted(1_650 * USD)
    assert (fill.repaid, fill.seized, fill.protocol_fee, fill.deficits) == (1_500 * USDC, ETH, 0, ())
    moves = [(c.asset, c.side, c.delta) for c in fill.changes if isinstance(c, PositionChange)]
    assert moves == [
        (BASE, "debt", -1_500 * USDC),
        (BASE, "collateral", 67_500_000),
        (WETH, "collateral", -ETH),
    ]


def test_debt_beyond_the_credit_is_written_off() -> None:
    """At 1,500: 1,425 is credited, 75 of 1,500 are paid by reserves."""
    fill = quoted(1_500 * USD)
    assert fill.deficits == ((BASE, 75 * USDC),)
    assert [c.delta for c in fill.changes if isinstance(c, PositionChange)] == [-1_500 * USDC, -ETH]


def test_an_absorption_takes_every_collateral() -> None:
    """At 800 and 0.01 bitcoin at 30,000: 760 + 279 = 1,039 is credited, 461 written off; ether is worth more."""
    fill = quoted(800 * USD, moved(ALICE, WBTC, "collateral", BTC // 100, "supply"))
    assert fill.deficits == ((BASE, 461 * USDC),)
    assert fill.order.pair == Pair(BASE, WETH)
    taken = {c.asset: -c.delta for c in fill.changes if isinstance(c, PositionChange) and c.asset != BASE}
    assert taken == {WETH: ETH, WBTC: BTC // 100}


def test_the_main_collateral_is_that_of_the_greatest_value() -> None:
    fill = quoted(200 * USD, moved(ALICE, WBTC, "collateral", BTC // 100, "supply"))
    assert (fill.order.pair, fill.seized) == (Pair(BASE, WBTC), BTC // 100)


def test_the_credit_is_cut_at_each_step() -> None:
    """1,567.50 dollars at 1.00000007 a USDC: 156,750,000,000 x 10^6 / 100,000,007 = 1,567,499,890.27 units. Less
    1,500,000,000: 67,499,890.
    """
    state = book()
    found = absorbed(state, state.position(ALICE), state.indexes, at(1_650 * USD, usdc=100_000_007).oracle)
    assert (found.owed, found.credit, found.principal) == (1_500 * USDC, 1_567_499_890, 67_499_890)
    assert (found.written_off, found.paid_out) == (0, 1_567_499_890)


def test_indexes_round_against_the_account() -> None:
    """Debt principal 1,500,000,000 at 1.034567890123456 owes 1,551,851,835 (.185); 1,650 x 0.95 = 1,567.5: 15,648,165
    left, at 1.012345678901234 a principal of 15,457,333 (.07).
    """
    state = book(indexes(SUPPLY_INDEX, BORROW_INDEX))
    found = absorbed(state, state.position(ALICE), state.indexes, at(1_650 * USD).oracle)
    assert (found.owed, found.credit, found.principal) == (1_551_851_835, 1_567_500_000, 15_457_333)


def test_what_absorb_refuses() -> None:
    state = book()

    def reason(price: int, account: AccountId = ALICE, pair: Pair = MAIN) -> str:
        refusal = COMPOUND_V3.quote(state, Order(account, pair, BUYER), at(price), NOW)
        assert isinstance(refusal, Refusal)
        return refusal.reason

    assert reason(2_000 * USD) == "the account is not liquidatable"
    assert reason(1_000 * USD, LENDER) == "the account owes nothing"
    assert "all collateral at once" in reason(1_000 * USD, pair=Pair(BASE, WBTC))
    COMPOUND_V3.apply(state, param("pause_flags", 1 << 3))
    assert reason(1_000 * USD) == "absorbing is paused"


def test_a_historical_absorption_is_asked_for_again() -> None:
    past = HistoricalLiquidation(
        seq=0, block_number=10, log_index=0, timestamp=START, account=ALICE, liquidator=BUYER, debt_asset=BASE,
        collateral_asset=WETH, repaid=1, seized=1, protocol_fee=0, receive_collateral_token=False,
    )  # fmt: skip
    order = COMPOUND_V3.observed_order(book(), past, at(1_000 * USD), NOW)
    assert order == Order(ALICE, Pair(BASE, WETH), BUYER)


def test_agreed_terms_leave_the_rest_alone() -> None:
    """A what-if mechanism repays 500 for 0.4 ether: 1,000 are owed and 0.6 ether held."""
    state = book()
    order = Order(ALICE, Pair(BASE, WETH), BUYER, repay=500 * USDC, seize=4 * ETH // 10, agreed=True)
    fill = COMPOUND_V3.quote(state, order, at(1_600 * USD), NOW)
    assert isinstance(fill, Fill)
    for change in fill.changes:
        COMPOUND_V3.apply(state, change)
    position = state.position(ALICE)
    assert (position.principal, dict(position.held)) == (-1_000 * USDC, {WETH: 6 * ETH // 10})
    assert state.cash == 9_000 * USDC  # 10,000 in, 1,500 out, 500 back


# -- storefront: quoteCollateral, buyCollateral, getReserves -----------------------------------------------------------


def test_what_the_protocol_asks() -> None:
    """Half of 5 %: 2,000 x 0.975 = 1,950; half of 7 %: 30,000 x 0.965 = 28,950."""
    state = book()
    prices = at(2_000 * USD).oracle
    assert (sale_price(state, WETH, prices), sale_price(state, WBTC, prices)) == (1_950 * USD, 28_950 * USD)
    # 10^8 x 975 x 10^6 x 10^18 / 195,000,000,000 / 10^6 = 0.5 ether
    assert rules.bought_down(975 * USDC, USD, 1_950 * USD, ETH, USDC) == ETH // 2


def test_a_price_is_cut_before_it_divides() -> None:
    """0.93 credited, a third of the rest to buyers: 0.07 x 0.333333333333333333 = 0.023333333333333333 (.31); 12,345
    units x 0.976666666666666667 = 12,056.95, cut.
    """
    assert rules.discounted_down(12_345, 333_333_333_333_333_333, 930_000_000_000_000_000) == 12_056


def test_a_whole_lot_is_bought_to_the_unit_that_money_can_be_split() -> None:
    """One ether at 1,950 is 1,950 USDC. 1 ether less one wei costs the same, and would give a wei too much: a unit less
    buys 0.999999999487179487 (10^18 x 1,949,999,999 / 1,950,000,000).
    """
    state, prices = book(), at(2_000 * USD).oracle
    whole = sold(state, WETH, ETH, prices)
    assert whole is not None
    assert (whole.paid, whole.bought) == (1_950 * USDC, ETH)
    less = sold(state, WETH, ETH - 1, prices)
    assert less is not None
    assert (less.paid, less.bought) == (1_950 * USDC - 1, 999_999_999_487_179_487)
    assert sold(state, WETH, 1, prices) is None  # a unit buys 512,820,512 wei


def test_reserves_are_what_is_held_and_not_owed_to_suppliers() -> None:
    """10,000 came, 1,500 went; 10,000 are supplied and 1,500 borrowed: nothing. A day of interest at the curve adds
    1,500 x 0.00005547945191 - 10,000 x 0.000013356164304 = 83,219 - 133,561 units, each cut on its own.
    """
    state = book(recompute=True)
    assert state.reserves(START) == 0
    assert state.reserves(START + 86_400) == -(10_000_133_561 - 10_000 * USDC) + (1_500_083_219 - 1_500 * USDC)


def test_history_s_sales_and_withdrawals_of_reserves_count() -> None:
    state = book(param("cash_of_reserves", 6_000 * USDC))
    assert state.reserves(START) == 6_000 * USDC
    assert not is_for_sale(state, NOW)  # the target is 5,000
    COMPOUND_V3.apply(state, param("cash_of_reserves", 5_000 * USDC - 1))
    assert is_for_sale(state, NOW)
    # from the first liquidation of the model on, history's buyers do not come
    COMPOUND_V3.apply(state, param("own_storefront", 1))
    COMPOUND_V3.apply(state, param("cash_of_reserves", 9_000 * USDC))
    COMPOUND_V3.apply(state, param("cash_here", 10))
    assert state.reserves(START) == 5_000 * USDC + 9


def test_reserves_below_zero_sell_whatever_the_target() -> None:
    assert is_for_sale(book(param("cash_of_reserves", -1), target_reserves=0), NOW)
    assert not is_for_sale(book(target_reserves=0), NOW)


# -- users' calls ------------------------------------------------------------------------------------------------------


def made(
    name: str, change: PositionChange, *more: PositionChange, price: int = 2_000 * USD, **options: object
) -> object:
    state = options.pop("state", None) or book()
    emptied = frozenset(options.pop("emptied", ()))  # type: ignore[call-overload]
    action = Action(name, (change, *more), emptied, options.get("amount"))  # type: ignore[arg-type]
    return COMPOUND_V3.act(state, action, at(price), NOW)  # type: ignore[arg-type]


def changes(acted: object) -> list[tuple[int, str, int, str]]:
    assert isinstance(acted, Acted), acted
    return [(c.account, c.side, c.delta, c.action) for c in acted.changes if isinstance(c, PositionChange)]


def test_a_repayment_beyond_the_debt_is_supplied() -> None:
    """Alice pays 2,000 of 1,500."""
    acted = made("repay", moved(ALICE, BASE, "debt", -1_500 * USDC, "repay", 2_000 * USDC))
    assert changes(acted) == [
        (ALICE, "debt", -1_500 * USDC, "repay"),
        (ALICE, "collateral", 500 * USDC, "supply"),
    ]


def test_a_withdrawal_beyond_the_supply_borrows() -> None:
    """The lender, with one bitcoin, takes 12,000 of 10,000."""
    state = book(moved(LENDER, WBTC, "collateral", BTC, "supply"))
    acted = made("borrow", moved(LENDER, BASE, "debt", 1, "borrow", 12_000 * USDC), state=state)
    assert changes(acted) == [
        (LENDER, "collateral", -10_000 * USDC, "withdraw"),
        (LENDER, "debt", 2_000 * USDC, "borrow"),
    ]
    assert isinstance(acted, Acted)
    assert acted.view is not None
    assert acted.view.debt_base == 2_000 * USD


def test_what_users_are_refused() -> None:
    def reason(*args: object, **options: object) -> str:
        refusal = made(*args, **options)  # type: ignore[arg-type]
        assert isinstance(refusal, Refusal), refusal
        return refusal.reason

    more = moved(ALICE, BASE, "debt", 151 * USDC, "borrow", 151 * USDC)
    assert reason("borrow", more) == "not collateralized"  # 1,651 above 1,650
    assert not isinstance(made("borrow", replace(more, amount=150 * USDC)), Refusal)
    small = moved(BOB, BASE, "debt", 99 * USDC, "borrow", 99 * USDC)
    assert reason("borrow", small) == "borrows less than the least"
    take = moved(ALICE, WETH, "collateral", -ETH // 10, "withdraw", ETH // 10)
    assert reason("withdraw", take) == "not collateralized"  # 0.9 x 1,650 = 1,485
    assert reason("withdraw", replace(take, delta=-2 * ETH)) == "more than there is"
    give = moved(BOB, WBTC, "collateral", 50 * BTC + 1, "supply")
    assert reason("supply", give) == "supply cap exceeded"
    assert reason("supply", give, state=book(param("pause_flags", 1))) == "paused"
    assert reason("withdraw", take, state=book(param("pause_flags", 1 << 2))) == "paused"
    assert reason("borrow", more, price=0) == "WETH has no price"


def test_a_call_that_empties_moves_all_there_is() -> None:
    """History repaid 1,000 to the last unit; here 1,500 are owed. Who owes nothing pays nothing."""
    repay = moved(ALICE, BASE, "debt", -1_000 * USDC, "repay", 1_000 * USDC)
    assert changes(made("repay", repay, emptied=(0,))) == [(ALICE, "debt", -1_500 * USDC, "repay")]
    assert changes(made("repay", replace(repay, account=LENDER), emptied=(0,))) == []
    out = moved(LENDER, BASE, "collateral", -1, "withdraw", 1)
    assert changes(made("withdraw", out, emptied=(0,))) == [(LENDER, "collateral", -10_000 * USDC, "withdraw")]


def test_what_is_sent_leaves_one_and_reaches_the_other() -> None:
    state = book(indexes(SUPPLY_INDEX, BORROW_INDEX))
    gives = moved(LENDER, BASE, "collateral", -1, "transfer", 1_000 * USDC)
    takes = moved(BOB, BASE, "collateral", 1, "transfer", 1_000 * USDC)
    # 10,000,000,000 are worth 10,123,456,789 (.01): 9,123,456,789 are left, a principal of 9,012,195,121 (.83);
    # 1,000,000,000 are one of 987,804,878 (.16)
    assert changes(made("transfer", gives, takes, state=state)) == [
        (LENDER, "collateral", 9_012_195_121 - 10_000_000_000, "transfer"),
        (BOB, "collateral", 987_804_878, "transfer"),
    ]


def test_collateral_that_is_sent_needs_health() -> None:
    gives = moved(ALICE, WETH, "collateral", -ETH // 20, "transfer", ETH // 20)
    takes = moved(BOB, WETH, "collateral", ETH // 20, "transfer", ETH // 20)
    assert [row[0] for row in changes(made("transfer", gives, takes))] == [ALICE, BOB]  # 0.95 x 1,650 = 1,567.5
    assert isinstance(made("transfer", gives, takes, price=1_800 * USD), Refusal)


def test_interest_recomputed_comes_with_the_call() -> None:
    state = book(recompute=True)
    repay = moved(ALICE, BASE, "debt", -500 * USDC, "repay", 500 * USDC)
    action = Action("repay", (repay,))
    acted = COMPOUND_V3.act(state, action, at(2_000 * USD), Clock(20, 0, START + 86_400))
    assert isinstance(acted, Acted)
    for change in acted.changes:
        COMPOUND_V3.apply(state, change)
    assert state.indexes.borrow == ONE + 55_479_451_910
    # 1,500,000,000 x 1.00005547945191 = 1,500,083,219.18; less 500,000,000, up:
    # 1,000,083,219 / 1.00005547945191 = 1,000,027,738.009
    assert state.position(ALICE).principal == -1_000_027_739
    assert state.total_borrow == -state.position(ALICE).principal


# -- what cannot be ----------------------------------------------------------------------------------------------------


def test_a_history_that_cannot_be_is_refused() -> None:
    state = book()
    for change, said in (
        (moved(ALICE, WETH, "collateral", -2 * ETH, "withdraw"), "would hold -1000000000000000000 units of WETH"),
        (moved(ALICE, BASE, "debt", -1_501 * USDC, "repay", 1), "would hold -1000000 units of USDC as debt"),
        (moved(ALICE, BASE, "collateral", 1, "supply", 1), "supply and owe at the same time"),
        (replace(moved(BOB, BASE, "collateral", 1, "supply"), amount=None), "does not say how many base tokens"),
    ):
        with pytest.raises(RulesError, match=said):
            COMPOUND_V3.apply(state, change)
    with pytest.raises(RulesError, match="unknown parameter 'nothing'"):
        COMPOUND_V3.apply(state, param("nothing", 1))
    bare = COMPOUND_V3.open(MARKET)
    with pytest.raises(RulesError, match="nothing says the supply_kink of market 'hand'"):
        bare.curve_rates()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ltv": 9 * WAD // 10, "liquidation_threshold": 9 * WAD // 10}, "at or above the liquidation"),
        ({"liquidation_threshold": WAD + 1}, "above one"),
        ({"store_front_price_factor": WAD + 1}, "storefront price factor above one"),
    ],
)
def test_parameters_that_no_implementation_can_hold(values: dict[str, int], said: str) -> None:
    assert said in (COMPOUND_V3.fault(values) or "")
    assert COMPOUND_V3.fault({"ltv": 8 * WAD // 10, "liquidation_threshold": 9 * WAD // 10}) is None


def test_a_call_that_moves_nothing_rounds_an_account_and_no_total() -> None:
    """Supplying nothing to 999,999 at 1.5: worth 1,499,998, a principal of 999,998 (.67), while repayAndSupplyAmount
    knows of no withdrawal.
    """
    state = opened(
        indexes(15 * ONE // 10, 15 * ONE // 10), moved(BOB, BASE, "collateral", 999_999, "supply", 1_499_999)
    )
    assert state.indexes.principal(state.indexes.present(999_999)) == 999_998
    COMPOUND_V3.apply(state, moved(BOB, BASE, "collateral", -1, "supply", 0))
    assert (state.position(BOB).principal, state.total_supply) == (999_998, 999_999)
