"""Pre-liquidations worked out by hand: USDC (6) lent against one WETH (18), threshold 86 %, nothing accrued.

Shares are worth 10^-6 units each. Contract 0 (``line``): from 70 % on, close factor 10 % to 70 %, incentive 1.01 to
1.05. Contract 1 (``whole``): from 75 % on, close factor 160 %, incentive 1.02 throughout. Contract 2 has an oracle of
its own. Source: morpho-org/pre-liquidation, ``src/PreLiquidation.sol`` ``preLiquidate``.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from backtest.errors import RulesError
from backtest.model import (
    AUTHORIZE,
    AccountId,
    Asset,
    AssetId,
    Clock,
    HistoricalLiquidation,
    Market,
    ParamChange,
    PositionChange,
    Prices,
    SettingChange,
    Side,
)
from backtest.protocols.interface import Acted, Action, Fill, Order, Refusal
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.liquidation import PAIR
from backtest.protocols.morpho_blue.pre_liquidation import AS_RECORDED, STEP, UNKNOWN, Factors, factors_down
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, MorphoState, PreTerms

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
LLTV = 86 * WAD // 100
PERCENT = WAD // 100
LINE = PreTerms(70 * PERCENT, 10 * PERCENT, 70 * PERCENT, 101 * PERCENT, 105 * PERCENT, 1)
WHOLE = PreTerms(75 * PERCENT, 160 * PERCENT, 160 * PERCENT, 102 * PERCENT, 102 * PERCENT, 1)
OTHER = PreTerms(70 * PERCENT, 50 * PERCENT, 50 * PERCENT, 103 * PERCENT, 103 * PERCENT, 0)


def at(price: int, of: int = 1) -> Prices:
    """``price`` / ``of`` USDC."""
    oracle = {LOAN: 10**24, COLLATERAL: price * 10**24 // of}
    return Prices(oracle, oracle, oracle)


def param(name: str, value: int, asset: AssetId | None = None, category: int | None = None) -> ParamChange:
    place = PLACE
    return ParamChange(**place, name=name, value=value, asset=asset, category=category)  # type: ignore[arg-type]


def moved(account: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int) -> PositionChange:
    return PositionChange(
        **PLACE, account=account, asset=asset, side=side, delta=delta, action=action, action_seq=0, amount=amount
    )


def says(number: int, value: int = 1, account: AccountId = BORROWER) -> SettingChange:
    return SettingChange(
        **PLACE, account=account, setting=f"pre_liquidation_{number}", asset=None, value=value, action=AUTHORIZE,
        action_seq=0,
    )  # fmt: skip


def book(owed: int, *authorized: int, collateral: int = ETH) -> MorphoState:
    """The lender lends 5000, the borrower owes so many native units, and authorised contracts by number."""
    state = MORPHO_BLUE.open(MARKET)
    events = [
        param("created", 1),
        param("liquidation_threshold", LLTV, COLLATERAL),
        moved(LENDER, LOAN, "collateral", 5_000 * USDC * SHARE, "supply", 5_000 * USDC),
        moved(BORROWER, COLLATERAL, "collateral", collateral, "supply", collateral),
        moved(BORROWER, LOAN, "debt", owed * SHARE, "borrow", owed),
    ]
    for number, terms in enumerate((LINE, WHOLE, OTHER)):
        names = ("pre_lltv", "pre_lcf1", "pre_lcf2", "pre_lif1", "pre_lif2", "pre_known")
        values = (
            terms.lltv, terms.close, terms.close_at_lltv, terms.incentive, terms.incentive_at_lltv, terms.known,
        )  # fmt: skip
        events += [param(name, value, category=number) for name, value in zip(names, values, strict=True)]
    for event in (*events, *map(says, authorized)):
        MORPHO_BLUE.apply(state, event)
    return state


def quoted(state: MorphoState, prices: Prices, **asked: int) -> Fill:
    fill = MORPHO_BLUE.quote(state, Order(BORROWER, PAIR, LIQUIDATOR, **asked), prices, NOW)
    assert isinstance(fill, Fill), fill
    return fill


def refused(state: MorphoState, prices: Prices, **asked: int) -> str:
    refusal = MORPHO_BLUE.quote(state, Order(BORROWER, PAIR, LIQUIDATOR, **asked), prices, NOW)
    assert isinstance(refusal, Refusal), refusal
    return refusal.reason


def shares_of(fill: Fill) -> int:
    return next(-change.delta for change in fill.changes if isinstance(change, PositionChange))


# What is owed against collateral worth so much; close factor and incentive on the line (its span is 0.86 - 0.7 = 0.16).
LINES = [
    # 1700 / 2125 = 0.8: 0.1 / 0.16 = 0.625 of the way. 0.1 + 0.625 x 0.6 = 0.475; 1.01 + 0.625 x 0.04 = 1.035.
    (1_700_000_000, 2_125_000_000, 475 * 10**15, 1035 * 10**15),
    # 1700 / 2000 = 0.85: 0.15 / 0.16 = 0.9375. 0.1 + 0.5625 = 0.6625; 1.01 + 0.0375 = 1.0475.
    (1_700_000_000, 2_000_000_000, 6625 * 10**14, 10475 * 10**14),
    # 1720 / 2000 = 0.86, the market's own threshold, which it does not exceed: the ends.
    (1_720_000_000, 2_000_000_000, 70 * PERCENT, 105 * PERCENT),
    # 1400.000001 / 2000 = 0.7000000005: 5e8 x 1e18 / 1.6e17 = 3125000000 (wad). x 0.6 = 1875000000; x 0.04 = 125000000.
    (1_400_000_001, 2_000_000_000, 10 * PERCENT + 1_875_000_000, 101 * PERCENT + 125_000_000),
    # 1 / 1.333333 = 0.75000018750004688 (up: 750000187500046876): less 0.7, over 0.16, cut:
    # 50000187500046876 / 0.16 = 312501171875292975. x 0.6 = 187500703125175785; x 0.04 = 12500046875011719 (cut).
    (1_000_000, 1_333_333, 10 * PERCENT + 187_500_703_125_175_785, 101 * PERCENT + 12_500_046_875_011_719),
    # 3 of 4 units: 0.75: 0.05 / 0.16 = 0.3125. 0.1 + 0.1875 = 0.2875; 1.01 + 0.0125 = 1.0225.
    (3, 4, 2875 * 10**14, 10225 * 10**14),
]  # fmt: skip


@pytest.mark.parametrize(("owed", "worth", "close", "incentive"), LINES)
def test_close_factor_and_incentive_lie_on_a_line(owed: int, worth: int, close: int, incentive: int) -> None:
    assert factors_down(owed, worth, LLTV, LINE) == Factors(close, incentive)


@pytest.mark.parametrize(
    ("owed", "worth"),
    [
        (1_400_000_000, 2_000_000_000),  # 70 %, not beyond it
        (1_720_000_001, 2_000_000_000),  # Morpho's own to liquidate
        (1, 1),  # 1 x 0.86 is cut to 0: beyond it
        (1, 0),
    ],
)
def test_outside_of_the_line_the_contract_refuses(owed: int, worth: int) -> None:
    assert factors_down(owed, worth, LLTV, LINE) is None


def test_cut_worth_makes_a_dust_position_liquidatable_early() -> None:
    """7 x 0.7 = 4.9, cut to 4: 5 units are beyond it. 5 / 7 = 0.714285714285714286 (up): less 0.7, over 0.16:
    0.0892857142857142875, cut to 89285714285714287. x 0.6 = 53571428571428572.2, x 0.04 = 3571428571428571.48."""
    assert factors_down(5, 7, LLTV, LINE) == Factors(153_571_428_571_428_572, 1_013_571_428_571_428_571)


# Owed, price, asked for; shares repaid (10^-6 units), repaid and seized.
CALLS = [
    # All that is allowed at 80 %: 1700 x 0.475 = 807.5. x 1.035 = 835.7625, at 2125: 0.3933.
    (1_700, 2_125, {}, 807_500_000 * SHARE, 807_500_000, 393_300_000_000_000_000),
    # At 85 %: 1700 x 0.6625 = 1126.25. x 1.0475 = 1179.746875, at 2000: 0.5898734375.
    (1_700, 2_000, {}, 1_126_250_000 * SHARE, 1_126_250_000, 589_873_437_500_000_000),
    # At 86 %: 1720 x 0.7 = 1204. x 1.05 = 1264.2, at 2000: 0.6321.
    (1_720, 2_000, {}, 1_204_000_000 * SHARE, 1_204_000_000, 632_100_000_000_000_000),
    # By collateral: 0.2 x 2125 = 425, over 1.035: 410.628019323..., up to a unit.
    (1_700, 2_125, {"seize": ETH // 5}, 410_628_020 * SHARE, 410_628_020, ETH // 5),
    # The most that 0.3933 ETH cost is what is allowed: 835.7625 / 1.035 = 807.5.
    (1_700, 2_125, {"seize": 393_300_000_000_000_000}, 807_500_000 * SHARE, 807_500_000, 393_300_000_000_000_000),
    # One wei: worth 2125 x 10^-12 of a unit, up to one; over 1.035, up to one: a whole unit is paid for it.
    (1_700, 2_125, {"seize": 1}, SHARE, 1, 1),
    # By shares: 1.5 units, cut to 1 for the seizing, x 1.035 cut to 1, at 2125: 0.000000000470588235 ETH; 2 are paid.
    (1_700, 2_125, {"repay_scaled": SHARE * 3 // 2}, SHARE * 3 // 2, 2, 470_588_235),
    # By shares: 100 units x 1.035 = 103, cut (103.5), at 2125.
    (1_700, 2_125, {"repay_scaled": 100 * SHARE}, 100 * SHARE, 100, 48_470_588_235),
    # By a native amount: 200 x 1.035 = 207, at 2125: 0.097411764705882352 (cut).
    (1_700, 2_125, {"repay": 200 * USDC}, 200 * USDC * SHARE, 200 * USDC, 97_411_764_705_882_352),
    # More than is allowed, in native units: what is allowed.
    (1_700, 2_125, {"repay": 900 * USDC}, 807_500_000 * SHARE, 807_500_000, 393_300_000_000_000_000),
]


@pytest.mark.parametrize(("owed", "price", "asked", "shares", "repaid", "seized"), CALLS)
def test_a_call_on_the_line(
    owed: int, price: int, asked: dict[str, int], shares: int, repaid: int, seized: int
) -> None:
    state = book(owed * USDC, 0)
    assert MORPHO_BLUE.pairs(state, BORROWER, at(price), NOW) == (PAIR,)
    fill = quoted(state, at(price), **asked)
    assert (shares_of(fill), fill.repaid, fill.seized) == (shares, repaid, seized)
    assert (fill.step, fill.deficits, fill.protocol_fee) == (STEP, (), 0)
    for change in fill.changes:
        MORPHO_BLUE.apply(state, change)
    left, totals = state.positions[BORROWER], state.totals
    assert (left.borrow_shares, left.collateral) == (owed * USDC * SHARE - shares, ETH - seized)
    assert (totals.borrow_assets, totals.supply_assets) == (owed * USDC - repaid, 5_000 * USDC)


def test_a_position_may_be_taken_whole_where_the_close_factor_is_above_one() -> None:
    """1700 x 1.02 = 1734, at 2125: 0.816; nothing is owed, 0.184 stays with the borrower."""
    fill = quoted(book(1_700 * USDC, 1), at(2_125))
    assert (fill.repaid, fill.seized) == (1_700 * USDC, 816 * ETH // 1000)


def test_more_than_the_close_factor_allows_is_refused_with_what_is_allowed() -> None:
    state = book(1_700 * USDC, 0)
    order = Order(BORROWER, PAIR, LIQUIDATOR, repay_scaled=807_500_000 * SHARE + 1)
    too_much = MORPHO_BLUE.quote(state, order, at(2_125), NOW)
    assert too_much == Refusal("repays more than the pre-liquidation contract allows", 807_500_000)
    assert refused(state, at(2_125), seize=393_300_000_000_000_001) == too_much.reason
    whole = book(1_700 * USDC, 1)
    assert refused(whole, at(2_125), repay_scaled=1_700 * USDC * SHARE + 1) == "repays more than the position owes"
    assert refused(whole, at(2_125), seize=ETH + 1) == "repays more than the position owes"
    assert refused(state, at(2_125), seize=0) == "inconsistent input: nothing is repaid or seized"
    assert refused(state, at(2_125), repay_scaled=1) == "inconsistent input: nothing is repaid or seized"


def test_only_who_authorised_it_and_only_until_it_took_it_back() -> None:
    state = book(1_700 * USDC)
    assert refused(state, at(2_125)) == "position is healthy"
    assert not MORPHO_BLUE.pairs(state, BORROWER, at(2_125), NOW)
    MORPHO_BLUE.apply(state, says(0))
    assert quoted(state, at(2_125)).step == STEP
    MORPHO_BLUE.apply(state, says(0, 0))
    assert refused(state, at(2_125)) == "position is healthy"
    assert BORROWER not in state.authorized


def test_of_two_contracts_the_one_that_leaves_more_is_called() -> None:
    """At 80 % the line leaves 835.7625 - 807.5 = 28.2625, the whole 1734 - 1700 = 34. At 72 % only the line is open:
    1530 / 2125. Between them, at 76 %: 1615 x 0.02 = 32.3 against 1615 x 0.325 x 0.025 = 13.1."""
    assert quoted(book(1_700 * USDC, 0, 1), at(2_125)).repaid == 1_700 * USDC
    # 0.02 / 0.16 = 0.125: 0.1 + 0.075 = 0.175; 1530 x 0.175 = 267.75.
    assert quoted(book(1_530 * USDC, 0, 1), at(2_125)).repaid == 267_750_000
    assert quoted(book(1_615 * USDC, 0, 1), at(2_125)).repaid == 1_615 * USDC
    assert quoted(book(1_700 * USDC, 0), at(2_125)).repaid == 807_500_000


def test_beyond_the_market_s_threshold_morpho_liquidates() -> None:
    """1700 / 1900 is 89 %: the factor is the market's, all the debt goes."""
    state = book(1_700 * USDC, 0, 1)
    fill = quoted(state, at(1_900))
    assert (fill.step, fill.repaid, fill.seized) == ("liquidate", 1_700 * USDC, 933_963_300_526_315_789)
    lower = book(1_700 * USDC, 0)  # a threshold below the contract's leaves it nothing
    MORPHO_BLUE.apply(lower, param("liquidation_threshold", 65 * PERCENT, COLLATERAL))
    assert quoted(lower, at(2_125)).step == "liquidate"


def test_a_contract_with_an_oracle_of_its_own_is_named_and_refused() -> None:
    state = book(1_700 * USDC, 2)
    assert MORPHO_BLUE.pairs(state, BORROWER, at(2_125), NOW) == (PAIR,)
    assert refused(state, at(2_125)) == UNKNOWN.reason
    assert quoted(book(1_700 * USDC, 0, 2), at(2_125)).repaid == 807_500_000


def past_of(fill: Fill) -> HistoricalLiquidation:
    return HistoricalLiquidation(
        **PLACE, account=BORROWER, liquidator=LIQUIDATOR, debt_asset=LOAN, collateral_asset=COLLATERAL,
        repaid=fill.repaid, seized=fill.seized, protocol_fee=0, receive_collateral_token=False,
        debt_scaled=shares_of(fill),
    )  # fmt: skip


@pytest.mark.parametrize("asked", [{}, {"seize": ETH // 7}, {"repay_scaled": 123_456_789_012_345}])
@pytest.mark.parametrize("number", [0, 1])
def test_a_call_of_history_is_explained_by_the_contract_that_made_it(asked: dict[str, int], number: int) -> None:
    """The other contract is authorised as well, and would give more or less."""
    fill = quoted(book(1_700 * USDC, number), at(2_125), **asked)
    state = book(1_700 * USDC, 0, 1)
    order = MORPHO_BLUE.observed_order(state, past_of(fill), at(2_125), NOW)
    again = quoted(state, at(2_125), seize=order.seize or 0, repay_scaled=order.repay_scaled or 0)
    assert (again.changes, again.step) == (fill.changes, STEP)


def test_a_call_that_no_contract_explains_differs_or_is_as_recorded() -> None:
    past = past_of(quoted(book(1_700 * USDC, 0), at(2_125), seize=ETH // 5))
    odd = replace(past, debt_scaled=(past.debt_scaled or 0) - 7 * SHARE, repaid=past.repaid - 7)
    state = book(1_700 * USDC, 0)
    fill = MORPHO_BLUE.quote(state, MORPHO_BLUE.observed_order(state, odd, at(2_125), NOW), at(2_125), NOW)
    assert isinstance(fill, Fill)
    assert (fill.seized, fill.repaid) == (odd.seized, past.repaid)
    other = book(1_700 * USDC, 2)
    fill = MORPHO_BLUE.quote(other, MORPHO_BLUE.observed_order(other, odd, at(2_125), NOW), at(2_125), NOW)
    assert isinstance(fill, Fill)
    assert (fill.seized, fill.repaid, shares_of(fill)) == (odd.seized, odd.repaid, odd.debt_scaled)
    assert (fill.rules, fill.rules_tested, fill.step) == (AS_RECORDED, False, STEP)


def test_another_way_of_liquidating_finds_the_account_where_the_contract_would() -> None:
    """Its own price holds: 100 for 0.06 ETH."""
    asked = Order(BORROWER, PAIR, LIQUIDATOR, repay=100 * USDC, seize=6 * ETH // 100, agreed=True)
    fill = MORPHO_BLUE.quote(book(1_700 * USDC, 0), asked, at(2_125), NOW)
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.seized, fill.order) == (100 * USDC, 6 * ETH // 100, asked)
    assert MORPHO_BLUE.quote(book(1_700 * USDC), asked, at(2_125), NOW) == Refusal("position is healthy")


@pytest.mark.parametrize("authorized", [(), (0,), (1,), (0, 1), (2,)])
def test_the_screen_turns_before_anybody_may_call(authorized: tuple[int, ...]) -> None:
    state = book(1_700 * USDC, *authorized)
    alone = MORPHO_BLUE.exposure(state, BORROWER, NOW)
    together = MORPHO_BLUE.exposures(state, [LENDER, BORROWER], NOW)
    assert alone is not None
    assert together is not None
    assert together.account.tolist() == [BORROWER]
    for price in range(1_950, 2_500, 3):
        prices = at(price)
        one = alone.constant + sum(weight * prices.oracle[asset] for asset, weight in alone.weights.items())
        many = together.constant[0] + sum(
            (-amount if owed else amount) * prices.oracle[AssetId(asset)]
            for asset, owed, amount in zip(together.asset, together.owed, together.amount, strict=True)
        )
        if MORPHO_BLUE.pairs(state, BORROWER, prices, NOW):
            assert max(one, many) < 0
        elif price > 2_440:
            assert min(one, many) > 0


def test_fast_ways_leave_whoever_authorised_something_to_the_rules() -> None:
    state = book(1_700 * USDC, 0)
    calls = {"cost": 0, "calls": {}, "most": 9}
    assert MORPHO_BLUE.together(state, [BORROWER], at(1_900), NOW, LIQUIDATOR, **calls) is None  # type: ignore[arg-type]
    spreads = MORPHO_BLUE.spreads(state, [BORROWER], at(1_900), NOW)
    assert spreads is not None
    assert (spreads.rest, len(spreads.account)) == ({BORROWER}, 0)
    assert MORPHO_BLUE.compiled_rules(state, NOW) is None
    assert MORPHO_BLUE.safe_prices(state, BORROWER, COLLATERAL, at(2_125), NOW) is None


def test_to_authorise_is_an_action_that_nothing_refuses() -> None:
    state = book(1_700 * USDC)
    made = MORPHO_BLUE.act(state, Action(AUTHORIZE, (says(1),)), at(1_000), NOW)
    assert made == Acted(BORROWER, (says(1),))
    copy = deepcopy(state)
    MORPHO_BLUE.apply(copy, says(1))
    assert (copy.authorized, state.authorized) == ({BORROWER: {1}}, {})
    with pytest.raises(RulesError, match="unknown setting 'postliquidation'"):
        MORPHO_BLUE.apply(state, replace(says(1), setting="postliquidation"))


@settings(max_examples=80, deadline=None)
@given(
    owed=st.integers(1, 10**13),
    above=st.integers(700_000_000, 860_000_000),
    close=st.tuples(st.integers(0, WAD), st.integers(0, WAD)),
    gain=st.tuples(st.integers(WAD, WAD * WAD // LLTV), st.integers(0, WAD // 6)),
)
def test_what_a_call_leaves_is_healthy_and_within_the_close_factor(
    owed: int, above: int, close: tuple[int, int], gain: tuple[int, int]
) -> None:
    """Any position between the thresholds under any terms that the contract's constructor lets pass."""
    terms = PreTerms(
        70 * PERCENT, close[0], close[0] + close[1], gain[0], min(gain[0] + gain[1], WAD * WAD // LLTV), 1
    )  # fmt: skip
    state, prices = book(owed, 0), at(owed * 1000, above)
    state.pre_terms[0] = terms
    found = MORPHO_BLUE.quote(state, Order(BORROWER, PAIR, LIQUIDATOR), prices, NOW)
    if not isinstance(found, Fill) or found.step != STEP:
        return
    factors = factors_down(owed, prices.oracle[COLLATERAL] // 10**18, LLTV, terms)
    assert factors is not None
    assert terms.close <= factors.close <= terms.close_at_lltv
    assert terms.incentive <= factors.incentive <= terms.incentive_at_lltv
    assert shares_of(found) * WAD <= owed * SHARE * factors.close
    assert found == structs.replace(quoted(state, prices, repay_scaled=shares_of(found)), order=found.order) or (
        found.seized == ETH
    )
    for change in found.changes:
        MORPHO_BLUE.apply(state, change)
    left = MORPHO_BLUE.view(state, BORROWER, prices, NOW)
    assert left.health is None or left.health >= WAD
