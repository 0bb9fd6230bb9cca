"""One Morpho Blue market worked out by hand: USDC (6) lent against WETH (18), threshold 86 %, nothing accrued unless a
test says so.

Shares are worth 10^-6 units each while no interest was paid. A price of 2000 USDC is 2000 x 10^24 (36 + 6 - 18
decimals).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from backtest.errors import PriceMissing, RulesError
from backtest.model import (
    AccountId,
    Asset,
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    Market,
    ParamChange,
    PositionChange,
    Prices,
    Side,
)
from backtest.protocols.interface import Acted, Action, Fill, Order, Refusal
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.irm import INITIAL_RATE_AT_TARGET
from backtest.protocols.morpho_blue.liquidation import PAIR
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, RATE_SCALE, MorphoState

USDC, ETH, WAD, SHARE = 10**6, 10**18, 10**18, 10**6
LENDER, BORROWER, LIQUIDATOR = AccountId(0), AccountId(1), AccountId(2)
MARKET = Market(
    name="hand",
    protocol="morpho-blue",
    chain_id=1,
    assets=(Asset(LOAN, "0x" + "01" * 20, "USDC", 6), Asset(COLLATERAL, "0x" + "02" * 20, "WETH", 18)),
    accounts=("lender", "borrower", "liquidator"),
    base_decimals=8,
    price_decimals=24,
)
PLACE = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 1000}
NOW = Clock(1, 5, 1000)


def at(price: int) -> Prices:
    oracle = {LOAN: 10**24, COLLATERAL: price * 10**24}
    return Prices(oracle, oracle, oracle)


def param(name: str, value: int, asset: AssetId | None = None) -> ParamChange:
    return ParamChange(**PLACE, name=name, value=value, asset=asset)


def moved(
    account: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int | None
) -> PositionChange:
    return PositionChange(
        **PLACE, account=account, asset=asset, side=side, delta=delta, action=action, action_seq=0, amount=amount
    )


SUPPLY = moved(LENDER, LOAN, "collateral", 5_000 * USDC * SHARE, "supply", 5_000 * USDC)
DEPOSIT = moved(BORROWER, COLLATERAL, "collateral", ETH, "supply", ETH)
BORROW = moved(BORROWER, LOAN, "debt", 1_700 * USDC * SHARE, "borrow", 1_700 * USDC)


def book(*, recompute: bool = False) -> MorphoState:
    """The lender lends 5000, the borrower owes 1700 against one ETH."""
    state = MORPHO_BLUE.open(MARKET, recompute=recompute)
    for event in (
        param("created", 1),
        param("liquidation_threshold", 86 * WAD // 100, COLLATERAL),
        SUPPLY,
        DEPOSIT,
        BORROW,
    ):
        MORPHO_BLUE.apply(state, event)
    return state


def quoted(state: MorphoState, price: int, **asked: int) -> Fill:
    fill = MORPHO_BLUE.quote(state, Order(BORROWER, PAIR, LIQUIDATOR, **asked), at(price), NOW)
    assert isinstance(fill, Fill), fill
    return fill


def refused(state: MorphoState, price: int, **asked: int) -> str:
    refusal = MORPHO_BLUE.quote(state, Order(BORROWER, PAIR, LIQUIDATOR, **asked), at(price), NOW)
    assert isinstance(refusal, Refusal), refusal
    return refusal.reason


def test_health_turns_where_the_collateral_carries_less_than_the_debt() -> None:
    """0.86 x 2000 = 1720 carries 1700: 1720 / 1700 = 1.011764705882352941. At 1976 it carries 1699.36."""
    state = book()
    view = MORPHO_BLUE.view(state, BORROWER, at(2000), NOW)
    assert (view.collateral_base, view.debt_base, view.borrowing_power_base) == (
        2000 * 10**8,
        1700 * 10**8,
        1720 * 10**8,
    )
    assert view.health == 1_011_764_705_882_352_941
    assert not MORPHO_BLUE.pairs(state, BORROWER, at(2000), NOW)
    assert MORPHO_BLUE.pairs(state, BORROWER, at(1976), NOW) == (PAIR,)
    assert MORPHO_BLUE.view(state, LENDER, at(2000), NOW).health is None
    with pytest.raises(PriceMissing, match="WETH has no price"):
        MORPHO_BLUE.view(state, BORROWER, Prices({LOAN: 10**24}, {}, {}), NOW)


def test_all_the_debt_at_1900() -> None:
    """1700 x 1.043841336116910229 = 1774.530271 (cut), at 1900: 0.933963300526315789 ETH."""
    fill = quoted(book(), 1900)
    assert (fill.repaid, fill.seized, fill.deficits) == (1_700 * USDC, 933_963_300_526_315_789, ())
    assert fill == structs.replace(quoted(book(), 1900, repay_scaled=1_700 * USDC * SHARE), order=fill.order)


def test_half_of_the_collateral_at_1900() -> None:
    """0.5 x 1900 = 950, over the factor (0.958, a little more as the factor is cut): 910.1, rounded up by one unit."""
    fill = quoted(book(), 1900, seize=ETH // 2)
    assert (fill.repaid, fill.seized, fill.deficits) == (910_100_001, ETH // 2, ())


def test_a_native_amount_becomes_shares_rounded_down() -> None:
    """500 x 1.043841336116910229 = 521.920668 (cut), at 1900: 0.274695088421052631 ETH."""
    fill = quoted(book(), 1900, repay=500 * USDC)
    assert (fill.repaid, fill.seized) == (500 * USDC, 274_695_088_421_052_631)


def test_bad_debt_is_shared_at_once() -> None:
    """At 1000 the debt would take 1.77 ETH: all of it is taken for 958.000001, and 741.999999 are lost by the
    lender.
    """
    state = book()
    fill = quoted(state, 1000)
    assert (fill.repaid, fill.seized, fill.deficits) == (958_000_001, ETH, ((LOAN, 741_999_999),))
    for change in fill.changes:
        MORPHO_BLUE.apply(state, change)
    totals = state.totals
    assert (totals.borrow_assets, totals.borrow_shares) == (0, 0)
    assert (totals.supply_assets, totals.supply_shares) == (5_000 * USDC - 741_999_999, 5_000 * USDC * SHARE)
    (lent,) = MORPHO_BLUE.holdings(state, LENDER, NOW)
    assert lent.collateral == 4_258_000_001
    assert list(MORPHO_BLUE.accounts(state)) == [LENDER]


def test_one_wei_left_keeps_the_debt() -> None:
    fill = quoted(book(), 1000, seize=ETH - 1)
    assert (fill.repaid, fill.deficits) == (958_000_001, ())


def test_orders_that_the_contract_refuses() -> None:
    state = book()
    assert refused(state, 2000) == "position is healthy"
    assert refused(state, 1900, seize=ETH + 1) == "repays more than the position owes"
    assert refused(state, 1000, seize=ETH + 1) == "seizes more collateral than there is"
    assert refused(state, 1900, repay_scaled=1_700 * USDC * SHARE + 1) == "repays more than the position owes"
    assert refused(state, 1000, repay_scaled=1_700 * USDC * SHARE) == "seizes more collateral than there is"
    assert (
        refused(state, 1900, seize=0)
        == refused(state, 1900, repay=0)
        == "inconsistent input: nothing is repaid or seized"
    )
    missing = MORPHO_BLUE.quote(state, Order(BORROWER, PAIR, LIQUIDATOR), Prices({}, {}, {}), NOW)
    assert missing == Refusal("WETH has no price")


def test_an_incentive_of_its_own() -> None:
    """The factor follows the threshold unless it is set: 1700 x 1.05 = 1785, at 1900: 0.939473684210526315 ETH."""
    state = book()
    MORPHO_BLUE.apply(state, param("liquidation_threshold", 77 * WAD // 100, COLLATERAL))
    assert state.incentive_factor == 1_074_113_856_068_743_286
    MORPHO_BLUE.apply(state, param("liquidation_bonus", 105 * WAD // 100, COLLATERAL))
    assert quoted(state, 1900).seized == 939_473_684_210_526_315


@pytest.mark.parametrize("asked", [{"seize": ETH // 3}, {"repay_scaled": 123_456_789_012_345}, {}])
def test_a_liquidation_that_happened_is_explained(asked: dict[str, int]) -> None:
    state = book()
    fill = quoted(state, 1900, **asked)
    shares = next(-change.delta for change in fill.changes if isinstance(change, PositionChange))
    past = HistoricalLiquidation(
        **PLACE,
        account=BORROWER,
        liquidator=LIQUIDATOR,
        debt_asset=LOAN,
        collateral_asset=COLLATERAL,
        repaid=fill.repaid,
        seized=fill.seized,
        protocol_fee=0,
        receive_collateral_token=False,
        debt_scaled=shares,
    )
    order = MORPHO_BLUE.observed_order(state, past, at(1900), NOW)
    again = MORPHO_BLUE.quote(state, order, at(1900), NOW)
    assert isinstance(again, Fill)
    assert again.changes == fill.changes


# -- interest
# ------------------------------------------------------------------------------------------------------------


def test_recorded_interest_and_its_fee() -> None:
    """1e-9 a second for 1e6 s on 1700: 0.001000500166666666 x 1700 = 1.700850 (cut). A fee of 10 %: 0.170085, worth
    0.170085 x (5000e12 + 1e6) / (5001.700850 - 0.170085 + 1e-6) shares = 170032959246 (cut)."""
    state = book()
    MORPHO_BLUE.apply(state, param("fee", WAD // 10, LOAN))
    later = Clock(9, 0, 1_001_000)
    MORPHO_BLUE.apply(
        state,
        IndexUpdate(**PLACE, asset=LOAN, supply_index=1, borrow_index=1, supply_rate=0, borrow_rate=10**9 * RATE_SCALE),
    )
    expected = state.accrued(later.timestamp)
    assert (expected.borrow_assets, expected.supply_assets) == (1_701_700_850, 5_001_700_850)
    MORPHO_BLUE.apply(state, replace(param("accrued", 10**9, LOAN), timestamp=later.timestamp))
    assert state.totals == replace(expected, rate=state.totals.rate)
    assert state.totals.supply_shares - 5_000 * USDC * SHARE == 170_085 * (5_000 * 10**12 + 10**6) // (
        5_001_700_850 - 170_085 + 1
    )


def test_the_curve_runs_between_accruals() -> None:
    """34 % used: the rate is (1 - 0.75 x 0.62222...) of that at target in the first instant, and drifts down from
    there.
    """
    state = book()
    MORPHO_BLUE.apply(state, param("rate_at_target", INITIAL_RATE_AT_TARGET, LOAN))
    assert state.totals.rates(1000)[0] == 676_475_562
    rate, end = state.totals.rates(1000 + 86_400)
    assert end is not None
    assert rate < 676_475_562
    assert end < INITIAL_RATE_AT_TARGET


def test_interest_cannot_be_recomputed_without_the_curve() -> None:
    state = book(recompute=True)
    with pytest.raises(RulesError, match="other than the adaptive curve"):
        MORPHO_BLUE.apply(state, replace(param("accrued", 10**9, LOAN), timestamp=2000))


def test_exposure_turns_before_health_does() -> None:
    state = book()
    for price in range(1960, 2000):
        exposure = MORPHO_BLUE.exposure(state, BORROWER, NOW)
        assert exposure is not None
        value = exposure.constant + sum(weight * at(price).oracle[asset] for asset, weight in exposure.weights.items())
        if MORPHO_BLUE.pairs(state, BORROWER, at(price), NOW):
            assert value < 0
        elif price > 1980:
            assert value > 0
    assert MORPHO_BLUE.exposure(state, LENDER, NOW) is None


# -- users
# ---------------------------------------------------------------------------------------------------------------


def acted(
    state: MorphoState, change: PositionChange, price: int = 2000, *, emptied: bool = False, amount: int | None = None
) -> Acted | Refusal:
    action = Action(change.action, (change,), frozenset([0]) if emptied else frozenset(), amount)
    return MORPHO_BLUE.act(state, action, at(price), NOW)


def test_borrowing_up_to_the_limit_and_no_further() -> None:
    """1720 may be owed: 20 more, not 20.000001."""
    more = moved(BORROWER, LOAN, "debt", 20 * USDC * SHARE, "borrow", 20 * USDC)
    made = acted(book(), more)
    assert isinstance(made, Acted)
    assert (made.changes, made.amount) == ((more,), 20 * USDC)
    assert made.view is not None
    assert made.view.health == WAD
    assert acted(book(), more, amount=20 * USDC + 1) == Refusal("insufficient collateral")


def test_liquidity_bounds_lenders_and_borrowers() -> None:
    """3300 are there."""
    out = moved(LENDER, LOAN, "collateral", -3_300 * USDC * SHARE, "withdraw", 3_300 * USDC)
    made = acted(book(), out)
    assert isinstance(made, Acted)
    assert made.view is None
    assert acted(book(), out, amount=3_300 * USDC + 1) == Refusal("insufficient liquidity")
    more = moved(BORROWER, LOAN, "debt", 3_301 * USDC * SHARE, "borrow", 3_301 * USDC)
    assert acted(book(), more, price=10_000) == Refusal("insufficient liquidity")


def test_collateral_goes_as_far_as_the_debt_lets_it() -> None:
    """1700 / 0.86 / 2000 = 0.98837209302325581395... ETH must stay."""
    out = moved(BORROWER, COLLATERAL, "collateral", -(10**16), "withdraw", 10**16)
    made = acted(book(), out)
    assert isinstance(made, Acted)
    assert made.amount == 10**16
    assert acted(book(), out, amount=ETH - 988_372_093_023_255_813) == Refusal("insufficient collateral")
    assert acted(book(), replace(out, account=LENDER)) == Refusal("zero assets")


def test_a_repayment_that_emptied_empties_and_one_too_large_is_cut() -> None:
    less = moved(BORROWER, LOAN, "debt", -600 * USDC * SHARE, "repay", 600 * USDC)
    for made in (acted(book(), less, emptied=True), acted(book(), less, amount=9_000 * USDC)):
        assert isinstance(made, Acted)
        (change,) = made.changes
        assert isinstance(change, PositionChange)
        assert (change.delta, change.amount, made.amount) == (-1_700 * USDC * SHARE, 1_700 * USDC, 1_700 * USDC)


def test_the_form_that_gives_the_logged_amounts_is_taken() -> None:
    """With 1.5 units a share: 100 assets give 66666666 shares by assets; 66666667 shares cost 101 by shares, which the
    log then says.
    """
    state = book()
    state.totals.borrow_assets = 1_700 * USDC * 3 // 2
    state.totals.borrow_shares = 1_700 * USDC * SHARE
    by_assets = moved(BORROWER, LOAN, "debt", -66_666_666, "repay", 100)
    by_shares = moved(BORROWER, LOAN, "debt", -66_666_667, "repay", 101)
    for change in (by_assets, by_shares):
        made = acted(state, change)
        assert isinstance(made, Acted)
        assert made.changes == (change,)
    unlike = acted(state, moved(BORROWER, LOAN, "debt", -70_000_000, "repay", 90))
    assert isinstance(unlike, Acted)
    assert unlike.amount == 90


def test_what_cannot_be_applied_is_named() -> None:
    state = book()
    with pytest.raises(RulesError, match="account borrower would hold -1 units of WETH"):
        MORPHO_BLUE.apply(state, moved(BORROWER, COLLATERAL, "collateral", -ETH - 1, "withdraw", ETH + 1))
    with pytest.raises(RulesError, match="how many loan tokens moved"):
        MORPHO_BLUE.apply(state, moved(LENDER, LOAN, "collateral", 5, "supply", None))
    with pytest.raises(RulesError, match="unknown parameter 'speed'"):
        MORPHO_BLUE.apply(state, param("speed", 1))
