"""Each rule of Euler's vaults by numbers worked by hand from the source, with the arithmetic shown."""

from __future__ import annotations

import pytest

from backtest.errors import PriceMissing, RulesError, UserError
from backtest.model import AssetId, Clock, PositionChange, Prices
from backtest.protocols.euler_v2 import EULER_V2
from backtest.protocols.euler_v2.events import describe
from backtest.protocols.euler_v2.math import (
    DEBT_UNIT,
    MAX_RATE,
    NO_CAP,
    accumulated_down,
    assets_down,
    assets_up,
    cap_of,
    discount_factor,
    fee_shares_down,
    grown_down,
    kink_rate,
    ltv_at,
    most_liquidated,
    multiplier_half_up,
    owed_up,
    shares_down,
    shares_up,
)
from backtest.protocols.euler_v2.state import LENT, OP_BORROW
from backtest.protocols.interface import Acted, Fill, LiquidationTerms
from backtest.units import RAY, WAD
from tests.protocols.euler_v2.hand import (
    ALICE,
    BOB,
    BTC,
    ETH,
    KEEPER,
    LENDER,
    NOW,
    START,
    USD,
    USDC,
    WBTC,
    WETH,
    acted,
    at,
    book,
    flag,
    later,
    lends,
    liquidate,
    made,
    moved,
    opened,
    owes,
    param,
    pledges,
    quoted,
    refusal,
    vault,
)

# -- arithmetic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("debt", "owed"), [(0, 0), (1, 1), (1 << 31, 1), ((1 << 31) + 1, 2), (3 << 31, 3)])
def test_a_debt_is_rounded_up_to_whole_units(debt: int, owed: int) -> None:
    """A unit is 2^31 = 2,147,483,648."""
    assert owed_up(debt) == owed


def test_a_debt_grows_by_the_accumulator_and_keeps_its_fraction() -> None:
    """3 units are 6,442,450,944; x 1.1 = 7,086,696,038.4, cut; / 2,147,483,648 = 3.3, so that 4 are owed."""
    grown = grown_down(3 << 31, 11 * RAY // 10, RAY)
    assert (grown, owed_up(grown)) == (7_086_696_038, 4)


def test_shares_convert_with_the_virtual_deposit() -> None:
    """1,100 and 1 of assets over 1,000 and 1 of shares: 100 shares are 100 x 1101/1001 = 109.99000999..., and 100
    tokens are 100 x 1001/1101 = 90.917347865...
    """
    totals = 1_100 * USDC, 1_000 * USDC
    assert (assets_down(100 * USDC, *totals), assets_up(100 * USDC, *totals)) == (109_990_009, 109_990_010)
    assert (shares_down(100 * USDC, *totals), shares_up(100 * USDC, *totals)) == (90_917_347, 90_917_348)


def test_an_empty_vault_gives_a_share_for_a_unit() -> None:
    """(0 + 10^6) / (0 + 10^6)."""
    assert (shares_down(5, 0, 0), assets_down(5, 0, 0)) == (5, 5)


def test_a_donation_to_an_empty_vault_leaves_no_share_for_little() -> None:
    """1 x 10^6 / (10^6 + 10^6) = 0.5."""
    assert (shares_down(1, 10**6, 0), shares_up(1, 10**6, 0)) == (0, 1)


def test_interest_compounds_each_second() -> None:
    """(1 + 10^-9)^2 = 1 + 2 x 10^-9 + 10^-18; a third second: x (1 + 10^-9) = 1 + 3e-9 + 3e-18 + 1e-27."""
    assert multiplier_half_up(10**18, 1) == RAY + 10**18
    assert multiplier_half_up(10**18, 2) == RAY + 2 * 10**18 + 10**9
    assert multiplier_half_up(10**18, 3) == RAY + 3 * 10**18 + 3 * 10**9 + 1


@pytest.mark.parametrize(("rate", "more"), [(22_360_679_774_997, 0), (22_360_679_774_998, 1)])
def test_each_product_is_rounded_to_nearest(rate: int, more: int) -> None:
    """The square of 22,360,679,774,997.9 is 5 x 10^26: half of a unit of 10^-27."""
    assert multiplier_half_up(rate, 2) == RAY + 2 * rate + more


def test_no_time_is_one_and_an_overflow_accrues_nothing() -> None:
    """2^128 is squared to 2^256; one second needs no square."""
    assert multiplier_half_up(10**18, 0) == RAY
    assert multiplier_half_up((1 << 128) - RAY, 2) is None
    assert multiplier_half_up((1 << 128) - RAY, 1) == 1 << 128
    assert accumulated_down(RAY, (1 << 128) - RAY, 2) == RAY


def test_an_accumulator_is_cut() -> None:
    """1.5 x (1 + 2e-9 + 1e-18) = 1.5000000030000000015."""
    assert accumulated_down(15 * RAY // 10, 10**18, 2) == 1_500_000_003_000_000_001_500_000_000


def test_a_fee_becomes_shares_at_the_rate_that_they_leave() -> None:
    """Debt from 1,000 to 1,100 at 10 %: 10 of 1,600 assets; 1,600 x 1,500 / 1,590 = 1,509.433962 shares."""
    assert fee_shares_down(1_000 * USDC << 31, 1_100 * USDC << 31, 500 * USDC, 1_500 * USDC, 1_000) == 9_433_962


def test_a_fee_below_one_unit_is_none() -> None:
    """9 units at 10 % are 0.9; 10 are one: 110 x 100 / 109 = 100.9, cut."""
    assert fee_shares_down(100 << 31, 109 << 31, 0, 100, 1_000) == 0
    assert fee_shares_down(100 << 31, 110 << 31, 0, 100, 1_000) == 0
    assert fee_shares_down(100 << 31, 120 << 31, 0, 100, 1_000) == 1  # 120 x 100 / 118 = 101.7


@pytest.mark.parametrize(
    ("now", "ltv"), [(0, 8_500), (250, 8_250), (333, 8_167), (999, 7_501), (1_000, 7_500), (2_000, 7_500)]
)
def test_a_lowered_ltv_is_reached_in_a_straight_line(now: int, ltv: int) -> None:
    """7,500 + 1,000 x (1,000 - t) / 1,000."""
    assert ltv_at(7_500, 8_500, 1_000, 1_000, now) == ltv


def test_a_raised_ltv_holds_at_once() -> None:
    assert ltv_at(9_000, 8_500, 1_000, 1_000, 0) == 9_000


@pytest.mark.parametrize(
    ("code", "cap"),
    [(0, NO_CAP), (100 << 6, 1), (250 << 6 | 8, 250_000_000), (1 << 6 | 1, 0), (1023 << 6 | 30, 1023 * 10**28)],
)
def test_caps_are_codes(code: int, cap: int) -> None:
    """10^(code & 63) x (code >> 6) / 100; 0 is no cap."""
    assert cap_of(code) == cap


def test_the_discount_is_what_health_lacks_and_no_more_than_the_greatest() -> None:
    """95 of 100: 5 %. 70 of 100 would be 30 %: 15 %."""
    assert discount_factor(95, 100, 1_500) == 95 * WAD // 100
    assert discount_factor(70, 100, 1_500) == 85 * WAD // 100
    assert discount_factor(1, 3, 10_000) == 333_333_333_333_333_333


def test_a_liquidation_takes_what_the_debt_buys() -> None:
    """1,700 / 0.95 = 1,789.473684210526315789 of 1,900: 0.941828254847645429 of an ether."""
    found = most_liquidated(1_700 * USD, 1_700 * USDC, ETH, 1_900 * USD, 95 * WAD // 100)
    assert found == (1_700 * USDC, 941_828_254_847_645_429)


def test_a_liquidation_of_less_collateral_repays_less() -> None:
    """1,500 < 1,700 / 0.9: 1,500 x 0.9 = 1,350 are repaid, and everything is seized."""
    assert most_liquidated(1_700 * USD, 1_700 * USDC, ETH, 1_500 * USD, 9 * WAD // 10) == (1_350 * USDC, ETH)


def test_worthless_shares_are_taken_for_nothing() -> None:
    assert most_liquidated(1_700 * USD, 1_700 * USDC, 7, 0, 9 * WAD // 10) == (0, 7)


def test_a_bent_line_of_rates() -> None:
    """Use counts in parts of 4,294,967,295: half is 2,147,483,647. Kink at half: below 5 + use x 3; at 3/4, which is
    3,221,225,471: 5 + 2,147,483,647 x 3 + 1,073,741,824 x 7.
    """
    curve = 5, 3, 7, 2_147_483_647
    assert kink_rate(0, 0, *curve) == 5
    assert kink_rate(50, 50, *curve) == 6_442_450_946
    assert kink_rate(25, 75, *curve) == 13_958_643_714
    assert kink_rate(0, 1, 0, 10**12, 0, 1 << 32) == MAX_RATE  # 4.29e21 is more than a vault allows


# -- health ------------------------------------------------------------------------------------------------------------


def test_health_and_totals() -> None:
    """An ether at 2,000 counts 1,700 of 2,000, and 1,660 for a loan; 1,700 / 1,500 = 1.1333..."""
    view = EULER_V2.view(book(), ALICE, at(2_000 * USD), NOW)
    assert (view.collateral_base, view.debt_base, view.borrowing_power_base) == (2_000 * USD, 1_500 * USD, 1_660 * USD)
    assert view.health == 1_133_333_333_333_333_333


def test_an_equal_debt_may_be_liquidated() -> None:
    """1,700 against 1,700: health is a hair below one. A wei of price more, and it is one: 2 x 0.85 = 1.7, cut to 1."""
    state = book(1_700 * USDC)
    assert EULER_V2.view(state, ALICE, at(2_000 * USD), NOW).health == WAD - 1
    assert [pair.collateral_asset for pair in EULER_V2.pairs(state, ALICE, at(2_000 * USD), NOW)] == [WETH]
    assert EULER_V2.view(state, ALICE, at(2_000 * USD + 2), NOW).health == WAD
    assert EULER_V2.pairs(state, ALICE, at(2_000 * USD + 2), NOW) == ()


def test_shares_are_cut_to_tokens_and_then_to_value() -> None:
    """3 shares of a vault with 2 and 1 of assets for 3 and 1 of shares: 3 x 3/4 = 2.25, 2 tokens; at 30,000 a bitcoin
    of 10^8 that is 0.0006 dollars; 80 % is 0.00048.
    """
    events = [*vault(WBTC, 2 * 10**6, 3 * 10**6), *pledges(BOB, WBTC, 3), lends(10 * USDC), owes(BOB, 1)]
    state = opened(*events)
    view = EULER_V2.view(state, BOB, at(2_000 * USD), NOW)
    assert (view.collateral_base, view.debt_base) == (600_000_000_000_000, 10**12)
    assert view.health == 479_999_999_999_999_999_999  # 480 of one, less a hair


def test_collateral_that_is_not_enabled_counts_nothing() -> None:
    state = book(1_500 * USDC, flag(ALICE, "collateral_enabled", WETH, 0))
    view = EULER_V2.view(state, ALICE, at(2_000 * USD), NOW)
    assert (view.collateral_base, view.health) == (0, 0)


def test_what_is_lent_is_no_collateral() -> None:
    assert EULER_V2.view(book(), LENDER, at(2_000 * USD), NOW).collateral_base == 0


def test_several_collaterals_add_up() -> None:
    """1,700 and 0.1 bitcoin of 3,000, 80 %: 4,100 / 1,500 = 2.7333..."""
    state = book(1_500 * USDC, *pledges(ALICE, WBTC, BTC // 10))
    assert EULER_V2.view(state, ALICE, at(2_000 * USD), NOW).health == 2_733_333_333_333_333_333


def test_a_ramp_lowers_health_with_time() -> None:
    """From 85 % to 75 % in 1,000 seconds: after 500, 80 % of 2,000 is 1,600."""
    ramp = {"initial_threshold": 8_500, "ramp_duration": 1_000, "ramp_end": START + 1_000}
    events = [
        param(name, value, WETH) for name, value in {**ramp, "ltv": 7_000, "liquidation_threshold": 7_500}.items()
    ]
    state = book(1_600 * USDC, *events)
    assert EULER_V2.pairs(state, ALICE, at(2_000 * USD), later(499)) == ()
    assert len(EULER_V2.pairs(state, ALICE, at(2_000 * USD), later(500))) == 1
    assert EULER_V2.view(state, ALICE, at(2_000 * USD), NOW).borrowing_power_base == 1_400 * USD


def test_a_missing_price_is_no_number() -> None:
    state, none = book(), Prices({LENT: USD}, {}, {})
    with pytest.raises(PriceMissing, match="eWETH-1 has no price"):
        EULER_V2.view(state, ALICE, none, NOW)
    assert EULER_V2.pairs(state, ALICE, none, NOW) == ()
    assert refusal(quoted(opened(lends(1), *pledges(ALICE, WETH, 1), owes(ALICE, 1)), 0)) == "eWETH-1 has no price"


# -- liquidations ------------------------------------------------------------------------------------------------------


def test_a_liquidation_at_its_discount() -> None:
    """At 1,900 the ether counts 1,615 of 1,700: a discount of 5 %. 1,700 / 0.95 = 1,789.47..., of which a liquidator
    gets 0.941828254847645429 ether, and alice keeps the rest without debt.
    """
    state = book(1_700 * USDC)
    fill = liquidate(state, 1_900 * USD)
    assert (fill.repaid, fill.seized, fill.deficits) == (1_700 * USDC, 941_828_254_847_645_429, ())
    has = state.account(ALICE)
    assert (has.debt, dict(has.shares)) == (0, {WETH: 58_171_745_152_354_571})
    assert (state.vaults[LENT].cash, state.vaults[LENT].debt) == (10_000 * USDC, 0)


def test_a_part_takes_its_part_of_the_shares() -> None:
    """500 of 1,700: 500 x 941,828,254,847,645,429 / 1,700 = 277,008,310,249,307,479.1."""
    state = book(1_700 * USDC)
    fill = liquidate(state, 1_900 * USD, repay=500 * USDC)
    assert (fill.repaid, fill.seized) == (500 * USDC, 277_008_310_249_307_479)
    assert state.account(ALICE).debt == 1_200 * USDC << 31


def test_more_than_allowed_reverts() -> None:
    found = quoted(book(1_700 * USDC), 1_900 * USD, repay=1_700 * USDC + 1)
    assert refusal(found) == "repays more than allowed"
    assert getattr(found, "instead", None) == 1_700 * USDC


def test_what_no_collateral_covers_is_written_off_from_lenders() -> None:
    """At 1,600: 1,360 of 1,700, a discount of 15 % at most; 1,600 x 0.85 = 1,360 are repaid, 340 are lost. The lender's
    10,000 shares were 10,000 of 8,300 and 1,700: now 9,660, and (9,660 + 1) / (10,000 + 1) for each.
    """
    state = book(1_700 * USDC)
    fill = liquidate(state, 1_600 * USD)
    assert (fill.repaid, fill.seized, fill.deficits) == (1_360 * USDC, ETH, ((LENT, 340 * USDC),))
    assert not state.account(ALICE).holds
    assert (state.vaults[LENT].cash, state.vaults[LENT].debt) == (9_660 * USDC, 0)
    (held,) = EULER_V2.holdings(state, LENDER, NOW)
    assert held.collateral == 10_000 * USDC * 9_661 // 10_001


def test_a_flag_keeps_bad_debt_where_it_is() -> None:
    state = book(1_700 * USDC, config_flags=1)
    assert liquidate(state, 1_600 * USD).deficits == ()
    assert state.account(ALICE).debt == 340 * USDC << 31


def test_debt_is_not_written_off_while_other_collateral_is_there() -> None:
    """0.001 bitcoin is 30 dollars, and 24 count."""
    state = book(1_700 * USDC, *pledges(ALICE, WBTC, BTC // 1_000))
    assert liquidate(state, 1_500 * USD).deficits == ()
    assert state.account(ALICE).debt > 0
    assert liquidate(state, 1_500 * USD, WBTC).deficits != ()


def test_worthless_collateral_that_is_left_counts_as_left() -> None:
    """An LTV of nothing is still one: the shares have to go before debt is written off."""
    state = book(1_700 * USDC, *pledges(ALICE, WBTC, 1), param("liquidation_threshold", 0, WBTC))
    assert liquidate(state, 1_500 * USD).deficits == ()


def test_a_debt_worth_little_is_not_written_off() -> None:
    """At a price of 10^-18 dollars a token 1,700 dollars are 0.0000000000000017: 1,700 base units, below 10^6."""
    state = opened(lends(10_000 * USDC), *pledges(ALICE, WETH, ETH), owes(ALICE, 1_700 * USDC))
    prices = at(1_600, usdc=1)
    pair = EULER_V2.pairs(state, ALICE, prices, NOW)[0]
    from backtest.protocols.interface import Order

    fill = EULER_V2.quote(state, Order(ALICE, pair, KEEPER), prices, NOW)
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.deficits) == (1_360 * USDC, ())


def test_a_debt_of_no_value_is_no_violation() -> None:
    """A unit at 10^-7 dollars a token is 0.1 base units: cut to nothing."""
    state = opened(lends(10 * USDC), *pledges(ALICE, WETH, 1), owes(ALICE, 1))
    assert EULER_V2.pairs(state, ALICE, at(1, usdc=10**5), NOW) == ()
    assert EULER_V2.view(state, ALICE, at(1, usdc=10**5), NOW).health is None


def test_an_account_cools_off_after_a_check() -> None:
    state = book(1_700 * USDC, flag(ALICE, "status_checked", None, START), liquidation_cool_off=30)
    assert EULER_V2.pairs(state, ALICE, at(1_900 * USD), later(29)) == ()
    assert refusal(quoted(state, 1_900 * USD, now=later(29))) == "the account's last status check is too recent"
    assert isinstance(quoted(state, 1_900 * USD, now=later(30)), Fill)


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"liquidator": ALICE}, "self liquidation"),
        ({"asset": WBTC}, "the collateral is not enabled"),
        ({"asset": LENT}, "no such collateral"),
        ({"weth": 2_100 * USD}, "the account is no violation"),
        ({"repay": 0}, "nothing is repaid or seized"),
        ({"who": LENDER}, "the collateral is not enabled"),
    ],
)
def test_refused_liquidations(order: dict[str, int], why: str) -> None:
    asset, weth = AssetId(order.pop("asset", WETH)), order.pop("weth", 1_900 * USD)
    assert refusal(quoted(book(1_700 * USDC), weth, asset, **order)) == why


def test_a_liquidator_that_keeps_both_has_debt_and_shares() -> None:
    """The call by itself: total debt and cash stay."""
    state = book(1_700 * USDC)
    fill = liquidate(state, 1_900 * USD, receive_collateral_token=True)
    keeper = state.account(KEEPER)
    assert (keeper.debt, dict(keeper.shares)) == (1_700 * USDC << 31, {WETH: fill.seized})
    assert (state.vaults[LENT].cash, state.vaults[LENT].debt) == (8_300 * USDC, 1_700 * USDC << 31)


def test_agreed_amounts_take_no_discount() -> None:
    """100 dollars for a tenth of an ether, of a vault that gives two tokens a share: 0.05 shares."""
    state = book(1_700 * USDC, *vault(WETH, 2_000 * ETH + 10**6, 1_000 * ETH))
    fill = liquidate(state, 800 * USD, repay=100 * USDC, seize=ETH // 10, agreed=True)
    assert (fill.repaid, fill.seized) == (100 * USDC, ETH // 10)
    assert state.account(ALICE).shares[WETH] == 95 * ETH // 100


def test_a_debt_that_lacks_a_fraction_changes_hands_whole() -> None:
    """1,700 dollars and 3 x 2^-31 units: of 1,700.000001 asked, all; of 1,700 too, since less than a unit is left."""
    from backtest.protocols.euler_v2.liquidation import debt_moved

    owed = (1_700 * USDC << 31) + 3
    assert debt_moved(owed, 1_700 * USDC + 1) == owed
    assert debt_moved(owed, 1_700 * USDC) == owed
    assert debt_moved(owed, 1_700 * USDC - 1) == (1_700 * USDC - 1) << 31


# -- interest and users' calls -----------------------------------------------------------------------------------------


def test_interest_makes_fee_shares_and_raises_debts() -> None:
    """10^-6 a second for 100 seconds: 1.000100004950161... x 1,500 = 1,500.150007... owed up to 1,500.150008; the fee
    is 10 % of 0.150007 = 0.015000: 10,000.150008 x 10,000 / 10,000.135008 shares, 0.014999 more.
    """
    state = book()
    state.vaults[LENT].rate = 10**21
    after = state.accrued(LENT, START + 100)
    assert after.accumulator == 1_000_100_004_950_161_703_921_300_288
    assert owed_up(state.account(ALICE).current(after.accumulator)) == 1_500_150_008
    assert (after.fees, after.shares) == (14_999, 10_000 * USDC + 14_999)


def test_a_loan_keeps_the_fraction_and_a_repayment_does_not() -> None:
    """2^31 x 1,500,000,000 units grown by 1 + 10^-18 add 3.2, cut to 3: borrowing 10 keeps the 3; repaying 10 of
    1,500.000001 owed leaves 1,490.000001 whole.
    """
    state = book()
    state.vaults[LENT].rate = 10**9
    before = state.account(ALICE).debt
    more = made(acted(state, owes(ALICE, 10 * USDC), now=later(1))).changes[0]
    assert isinstance(more, PositionChange)
    assert more.delta == (10 * USDC << 31) + 3
    less = made(acted(state, moved(ALICE, LENT, "debt", -1, "repay", 10 * USDC), now=later(1))).changes[0]
    assert isinstance(less, PositionChange)
    assert before + less.delta == (1_490 * USDC + 1) << 31


def test_all_that_is_owed_can_be_repaid_and_no_more() -> None:
    state = book()
    found = made(acted(state, moved(ALICE, LENT, "debt", -1, "repay", 9_000 * USDC)))
    assert found.amount == 1_500 * USDC
    for change in found.changes:
        EULER_V2.apply(state, change)
    assert (state.account(ALICE).debt, state.vaults[LENT].debt, state.vaults[LENT].cash) == (0, 0, 10_000 * USDC)


def test_a_loan_needs_more_collateral_than_it_may_lose() -> None:
    """1,660 carries a loan, and 1,700 keeps it: 1,660 itself does not pass, one unit less does."""
    state = book(1_500 * USDC)
    assert refusal(acted(state, owes(ALICE, 160 * USDC))) == "account liquidity: the status check fails"
    found = made(acted(state, owes(ALICE, 160 * USDC - 1)))
    assert found.view is not None
    assert found.view.debt_base == 1_660 * USD - 10**12


def test_only_the_end_of_a_batch_is_checked() -> None:
    """Bob borrows 1,000 with nothing, then deposits an ether; the other way round is the same; alone it is refused."""
    state = opened(lends(10_000 * USDC))
    loan, enabled = owes(BOB, 1_000 * USDC), flag(BOB, "collateral_enabled", WETH, 1)
    deposit = moved(BOB, WETH, "collateral", ETH, "supply", ETH)
    end = flag(BOB, "status_checked", None, 7)
    assert refusal(acted(state, loan, end, name="borrow")) == "account liquidity: the status check fails"
    for calls in ((loan, enabled, deposit, end), (enabled, deposit, loan, end)):
        found = made(acted(state, *calls, name="batch"))
        assert found.view is not None
        for change in found.changes:
            EULER_V2.apply(state := opened(lends(10_000 * USDC)) if change is found.changes[0] else state, change)
        assert (state.account(BOB).checked, state.account(BOB).debt) == (START, 1_000 * USDC << 31)


def test_a_repayment_asks_for_no_health() -> None:
    assert isinstance(acted(book(1_700 * USDC), moved(ALICE, LENT, "debt", -1, "repay", USDC), weth=USD), Acted)


def test_collateral_leaves_only_a_healthy_account() -> None:
    """0.9 ether carries 1,494 dollars of 1,500; 0.91 carries 1,510.6."""

    def out(share: int) -> object:
        return acted(book(), moved(ALICE, WETH, "collateral", -share, "withdraw", share))

    assert refusal(out(ETH // 10)) == "account liquidity: the status check fails"  # type: ignore[arg-type]
    assert isinstance(out(9 * ETH // 100), Acted)


def test_collateral_is_switched_off_only_where_nothing_needs_it() -> None:
    off = flag(ALICE, "collateral_enabled", WETH, 0)
    assert refusal(acted(book(), off, name="disable")) == "account liquidity: the status check fails"
    assert isinstance(acted(opened(*pledges(ALICE, WETH, ETH)), off, name="disable"), Acted)


def test_a_vault_lends_what_it_has() -> None:
    """8,500 of 10,000 are left."""
    rich = pledges(BOB, WBTC, 10 * BTC)
    assert refusal(acted(book(1_500 * USDC, *rich), owes(BOB, 8_500 * USDC + 1))) == "insufficient cash"
    assert isinstance(acted(book(1_500 * USDC, *rich), owes(BOB, 8_500 * USDC)), Acted)
    taken = moved(LENDER, LENT, "collateral", -9_000 * USDC, "withdraw", 9_000 * USDC)
    assert refusal(acted(book(), taken)) == "insufficient cash"


def test_caps_refuse_what_goes_further_above_them() -> None:
    """1,500 of 1,600 are borrowed: 100 more are the cap itself, 101 are not. Above it a repayment passes."""
    rich = pledges(BOB, WBTC, BTC)
    state = book(1_500 * USDC, *rich, borrow_cap=1_600 * USDC)
    assert isinstance(acted(state, owes(BOB, 100 * USDC)), Acted)
    assert refusal(acted(state, owes(BOB, 101 * USDC))) == "borrow cap exceeded"
    lower = book(1_500 * USDC, *rich, borrow_cap=100 * USDC, supply_cap=9_000 * USDC)
    assert isinstance(acted(lower, moved(ALICE, LENT, "debt", -1, "repay", USDC)), Acted)
    assert refusal(acted(lower, lends(1))) == "supply cap exceeded"


def test_hooks_disable_calls_and_a_hook_s_contract_is_taken_as_in_history() -> None:
    state = book(hooked_ops=OP_BORROW)
    assert refusal(acted(state, owes(ALICE, 1))) == "the operation is disabled"
    assert isinstance(acted(book(hooked_ops=OP_BORROW, hook_target=1), owes(ALICE, 1)), Acted)
    assert refusal(quoted(book(1_700 * USDC, hooked_ops=1 << 11), 1_900 * USD)) == "liquidations are disabled"


def test_shares_are_taken_for_tokens_rounded_against_the_account() -> None:
    """11,001 of assets for 10,001 of shares: 100 tokens cost 90.9099...; give 90.9099...; a redemption of 50 shares
    pays 54.9995.
    """
    state = book()
    state.vaults[LENT].cash += 1_000 * USDC
    out = made(acted(state, moved(LENDER, LENT, "collateral", -1, "withdraw", 100 * USDC))).changes[0]
    into = made(acted(state, moved(LENDER, LENT, "collateral", 1, "supply", 100 * USDC))).changes[0]
    redeemed = moved(LENDER, LENT, "collateral", -50 * USDC, "withdraw", 54_999_500)
    again = made(acted(state, redeemed)).changes[0]
    assert isinstance(out, PositionChange)
    assert isinstance(into, PositionChange)
    assert isinstance(again, PositionChange)
    assert (-out.delta, into.delta) == (90_909_918, 90_909_917)
    assert (again.delta, again.amount) == (-50 * USDC, 54_999_500)


def test_shares_that_pay_a_debt_leave_the_cash() -> None:
    """Alice deposits 100 and repays with them: 100 shares and 100 of debt go, and cash stays at 8,600."""
    state = book(1_500 * USDC, moved(ALICE, LENT, "collateral", 100 * USDC, "supply", 100 * USDC))
    calls = (
        moved(ALICE, LENT, "collateral", -100 * USDC, "repay_with_shares", 100 * USDC),
        moved(ALICE, LENT, "debt", -1, "repay_with_shares", 100 * USDC),
    )
    for change in made(acted(state, *calls)).changes:
        EULER_V2.apply(state, change)
    lent = state.vaults[LENT]
    assert (lent.cash, lent.shares, owed_up(lent.debt)) == (8_600 * USDC, 10_000 * USDC, 1_400 * USDC)


def test_a_pulled_debt_asks_for_the_taker_s_health() -> None:
    """Bob takes 500 of alice's debt, and has nothing; with an ether he may."""

    def pulls(state: object) -> object:
        calls = [moved(who, LENT, "debt", sign, "transfer", 500 * USDC) for who, sign in ((ALICE, -1), (BOB, 1))]
        return acted(state, *calls)  # type: ignore[arg-type]

    assert refusal(pulls(book())) == "account liquidity: the status check fails"  # type: ignore[arg-type]
    found = pulls(book(1_500 * USDC, *pledges(BOB, WETH, ETH)))
    assert isinstance(found, Acted)
    deltas = [change.delta for change in found.changes if isinstance(change, PositionChange)]
    assert deltas == [-(500 * USDC << 31), 500 * USDC << 31]


def test_several_calls_have_no_other_size() -> None:
    calls = (owes(ALICE, 1), moved(ALICE, WETH, "collateral", 1, "supply", 1))
    assert refusal(acted(book(), *calls, name="batch", amount=5)) == "several calls have no other size"


def test_recomputed_interest_needs_a_model_that_is_known() -> None:
    """Half of 3,000 is lent; the next loan of one makes 1,501 of 3,000: 2,148,915,303 x 3 a second."""
    made_up = {"base_rate": 0, "slope": 3, "jump_slope": 0, "kink": 1 << 32, "rate_model": 1}
    state = opened(
        lends(3_000 * USDC), *pledges(ALICE, WETH, ETH), owes(ALICE, 1_500 * USDC), recompute=True, **made_up
    )
    update = made(acted(state, owes(ALICE, USDC))).changes[-1]
    EULER_V2.apply(state, update)
    assert state.vaults[LENT].rate == 3 * (1_501 * (2**32 - 1) // 3_000)
    unknown = opened(lends(3_000 * USDC), *pledges(ALICE, WETH, ETH), recompute=True)
    with pytest.raises(RulesError, match="an interest rate model that the rules do not know"):
        acted(unknown, owes(ALICE, USDC))


# -- what is said of it ------------------------------------------------------------------------------------------------


def test_figures_are_the_vault_s_own() -> None:
    figures = {each.name: each.value for each in EULER_V2.figures(book(), ALICE, at(2_000 * USD), NOW)}
    assert figures == {
        "collateral_value_liquidation": 1_700 * USD, "collateral_value_borrowing": 1_660 * USD,
        "liability_value": 1_500 * USD, "debt": 1_500 * USDC, "debt_exact": 1_500 * USDC * DEBT_UNIT,
        "shares_eWETH-1": ETH, "last_status_check": 0, "health_factor": 1_133_333_333_333_333_333,
    }  # fmt: skip


def test_prices_at_which_an_account_is_safe() -> None:
    """1,700 of debt needs 2,000 and two wei an ether (as above); of the dollar 1.0000000... less than 1,700 / 1,700."""
    state = book(1_700 * USDC)
    low = EULER_V2.safe_prices(state, ALICE, WETH, at(2_500 * USD), NOW)
    assert low is not None
    assert low.least_up == 2_000 * USD + 2
    high = EULER_V2.safe_prices(state, ALICE, LENT, at(2_000 * USD), NOW)
    assert high is not None
    assert high.most_down == USD - 1
    for price, safe in ((low.least_up, True), (low.least_up - 1, False)):
        assert (EULER_V2.pairs(state, ALICE, at(price), NOW) == ()) == safe
    for price, safe in ((USD - 1, True), (USD, False)):
        assert (EULER_V2.pairs(state, ALICE, at(2_000 * USD, usdc=price), NOW) == ()) == safe


def test_parameters_and_their_faults() -> None:
    assert EULER_V2.liquidation_terms({"liquidation_threshold": 8_500}) == LiquidationTerms(85 * WAD // 100)
    assert EULER_V2.liquidation_terms({}) == LiquidationTerms(None)
    assert EULER_V2.fault({"ltv": 9_000, "liquidation_threshold": 8_500}) == "a borrow LTV above the liquidation LTV"
    assert EULER_V2.fault({"max_liquidation_discount": 10_000}) == "a discount of everything"
    assert EULER_V2.fault({"ltv": 8_500, "liquidation_threshold": 8_500, "max_liquidation_discount": 9_999}) is None
    assert EULER_V2.weight(book(), ALICE, WETH) == 85 * WAD // 100


def test_accounts_of_one_owner() -> None:
    """The last byte differs by the account's number: 0x42 is number 2 of 0x40."""
    state = book(1_500 * USDC, flag(BOB, "sub_account", None, 2))
    assert EULER_V2.owner_in(state, BOB) == state.market.accounts[ALICE]
    assert EULER_V2.owner_in(state, ALICE) is None


def test_a_market_is_described_by_its_vault() -> None:
    found = describe({"vault": "0x" + "AB" * 20}, [])
    assert (found.name, found.parameters, found.base_decimals) == ("euler-abababab", {"vault": "0x" + "ab" * 20}, 18)
    with pytest.raises(UserError, match="vault '0x12' is not an address"):
        describe({"vault": "0x12"}, [])


def test_a_history_that_lacks_a_loan_stops() -> None:
    with pytest.raises(RulesError, match="would hold -1 units of USDC as debt"):
        EULER_V2.apply(opened(), moved(ALICE, LENT, "debt", -1, "repay", 1))
    with pytest.raises(RulesError, match="unknown parameter 'what'"):
        EULER_V2.apply(opened(), param("what", 1))
    assert Clock(10, 5, START) == NOW
