"""Which rules each pool revision has, account totals and health by version, the book's events, and the screening
form.
"""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import PriceMissing, RulesError, UserError
from backtest.model import Clock, HistoricalLiquidation, PriceUpdate
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.account import account_data, holdings, linear_exposure
from backtest.protocols.aave_v3.rules import RULES, rules_for
from backtest.protocols.aave_v3.state import apply, open_state
from backtest.protocols.registry import PROTOCOLS, protocol_named
from backtest.units import RAY, SECONDS_PER_YEAR, UINT256_MAX, WAD
from tests.support.aave_books import ALICE, BOB, COL, DEBT, LIQUIDATOR, NOW, ONE, OTHER, START, Toy, market

VERSIONS = {
    1: "3.0",
    2: "3.0",
    3: "3.0",
    4: "3.1",
    5: "3.2",
    6: "3.2",
    7: "3.3",
    8: "3.4",
    9: "3.5",
    10: "3.6",
    11: "3.7",
}
UP_TO_34, FROM_35 = [1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11]


def data(toy: Toy, now: Clock = NOW):  # type: ignore[no-untyped-def]
    return account_data(toy.state, ALICE, toy.prices, now)  # type: ignore[arg-type]


# -- The table -------------------------------------------------------------------------------------------------------


def test_every_revision_has_its_version_and_only_bytecode_tested_ones_say_so() -> None:
    assert {revision: rules.name for revision, rules in RULES.items()} == VERSIONS
    assert [revision for revision, rules in RULES.items() if rules.tested] == [1, 2, 3, 10]
    assert RULES[10].label == "aave-v3 3.6 (pool revision 10)"


def test_versions_differ_where_their_changes_say() -> None:
    def differences(old: int, new: int) -> set[str]:
        names = {field.name for field in fields(RULES[old])} - {"name", "revision", "tested"}
        return {name for name in names if getattr(RULES[old], name) != getattr(RULES[new], name)}

    assert differences(1, 3) == differences(5, 6) == set()
    assert differences(3, 4) == {
        "grace_period",
        "syncs_rates",
        "reads_balance",
        "repay_with_tokens",
        "quotes_stable",
    }
    assert differences(4, 5) == {"emode_by_bitmap", "averages_rates", "emode_always_checked"}
    assert differences(6, 7) == {
        "max_debt",
        "leaves_no_dust",
        "writes_off",
        "self_receiver_enables",
        "deficit_in_usage",
    }
    assert differences(7, 8) == {
        "self_liquidation",
        "self_receiver_enables",
        "compounded_interest",
        "premium_to_suppliers",
    }
    rounding = {
        "collateral_balance",
        "debt_balance",
        "collateral_scaled",
        "debt_scaled",
        "debt_value",
        "health",
        "borrow_power",
        "needed_div",
    }
    rounding |= {"collateral_minted", "debt_minted", "debt_accrued", "treasury_scaled"}
    assert differences(8, 9) == rounding | {"accrues_seized", "borrow_checked_after", "repay_with_tokens"}
    assert differences(9, 10) == {"threshold_gates_collateral", "emode_ltv_own", "receiver_enables", "emode_lists_all"}
    assert differences(10, 11) == {"bonus_mul", "fee_div", "fee_mul", "aftermath", "isolated_emode"}


def test_an_unknown_revision_names_the_block() -> None:
    with pytest.raises(
        RulesError, match=r"pool revision 12 at block 24000000 is unknown; the rules cover revisions 1 to 11"
    ):
        rules_for(12, 24_000_000)
    toy = Toy(10)
    with pytest.raises(RulesError, match="pool revision 12 at block 99"):
        toy.param("pool_revision", 12)


def test_without_a_revision_nothing_is_judged() -> None:
    with pytest.raises(RulesError, match="market 'toy': no pool revision is known yet"):
        account_data(open_state(market()), ALICE, {}, NOW)


def test_registry() -> None:
    assert PROTOCOLS["aave-v3"] is AAVE_V3
    assert protocol_named("aave-v3") is AAVE_V3
    with pytest.raises(UserError, match="unknown protocol 'aave-v33'; did you mean 'aave-v3'"):
        protocol_named("aave-v33")


# -- Account data ----------------------------------------------------------------------------------------------------


def two_collaterals(revision: int) -> Toy:
    """2000 USD of COL at 82.5 %, 3001 USD of OTHER at 70 %, 3600 USD of debt."""
    toy = Toy(revision)
    toy.param("liquidation_threshold", 8250, asset=COL)
    toy.param("liquidation_threshold", 7000, asset=OTHER)
    toy.param("ltv", 8000, asset=COL)
    toy.param("ltv", 6501, asset=OTHER)
    toy.supply(COL, 2000_00)
    toy.supply(OTHER, 3001_00)
    toy.borrow(DEBT, 3600_00)
    return toy


# weighted threshold: 2000e8 * 8250 + 3001e8 * 7000 = 3.7507e15, over 5001e8 = 7499.90 -> 7499
# weighted ltv: 2000e8 * 8000 + 3001e8 * 6501 = 3.5509501e15, over 5001e8 = 7100.48 -> 7100; 5001e8 * 0.71 = 3550.71 <
# 3600: nothing to borrow


@pytest.mark.parametrize("revision", UP_TO_34)
def test_health_by_averaged_threshold(revision: int) -> None:
    # 5001e8 * 0.7499 = 375024990000; / 360000000000 = 1.0417360833...
    assert data(two_collaterals(revision)) == (5001 * ONE, 3600 * ONE, 0, 7499, 7100, 1041736083333333333)


@pytest.mark.parametrize("revision", FROM_35)
def test_health_by_weighted_sum(revision: int) -> None:
    # 3.7507e15 / 3.6e11 / 1e4 = 1.0418611111...
    assert data(two_collaterals(revision)) == (5001 * ONE, 3600 * ONE, 0, 7499, 7100, 1041861111111111111)


@pytest.mark.parametrize(("revision", "expected"), [(r, 5) for r in UP_TO_34] + [(r, 4) for r in FROM_35])
def test_borrow_power_is_rounded_by_version(revision: int, expected: int) -> None:
    # 6 base units of collateral at 75 % = 4.5: half up 5, floor 4. One native unit is worth 6 base units at a price of
    # 600.
    toy = Toy(revision)
    toy.prices[COL] = 600
    toy.supply(COL, 1)
    assert data(toy) == (6, 0, expected, 8000, 7500, UINT256_MAX)


@pytest.mark.parametrize("revision", RULES)
def test_balances_and_values_round_by_version(revision: int) -> None:
    # 1001 * 1.5 = 1501.5 collateral, 1001 * 1.25 = 1251.25 debt; a price of 150 makes 1.5 base units of each native
    # one.
    toy = Toy(revision, supply_index=RAY * 3 // 2, borrow_index=RAY * 5 // 4)
    toy.prices[COL] = toy.prices[DEBT] = 150
    toy.supply(COL, 1001)
    toy.borrow(DEBT, 1001)
    # half up: 1502 -> 2253, 1251 -> floor(1876.5); directed: 1501 -> floor(2251.5), 1252 -> 1878
    assert data(toy)[:2] == ((2253, 1876) if revision in UP_TO_34 else (2251, 1878))
    # the debt's value is rounded up from 3.5: 1 native unit at 150 / 100 is 1.5
    toy.move("debt", DEBT, -1000)  # 1 * 1.25: half up 1, up 2
    toy.prices[DEBT] = 50  # 0.5 or 1 base units
    assert data(toy)[1] == (0 if revision in UP_TO_34 else 1)
    assert data(toy)[5] == UINT256_MAX or revision in FROM_35


def test_an_empty_account() -> None:
    assert account_data(Toy(10).state, BOB, {}, NOW) == (0, 0, 0, 0, 0, UINT256_MAX)


@pytest.mark.parametrize("revision", RULES)
def test_interest_to_the_moment(revision: int) -> None:
    """Two seconds at 1e18 a second: the series of test_aave_math; balances large enough to show its last digits."""
    toy = Toy(revision, decimals=18)
    per_second = SECONDS_PER_YEAR * 10**18
    toy.index(COL, RAY, RAY, supply_rate=per_second)
    toy.index(DEBT, RAY, RAY, borrow_rate=per_second)
    toy.supply(COL, 10**27)
    toy.borrow(DEBT, 10**27)
    later = Clock(101, 0, START + 2)
    col, debt = holdings(toy.state, ALICE, later)
    assert (col.asset, col.collateral, col.collateral_scaled, col.collateral_enabled) == (
        COL,
        10**27 + 2 * 10**18,
        10**27,
        True,
    )
    assert debt.debt == 10**27 + 2 * 10**18 + (10**9 if revision <= 7 else 2_000_000_001)
    assert holdings(toy.state, ALICE, NOW)[1].debt == 10**27


@pytest.mark.parametrize("revision", RULES)
def test_only_flagged_assets_with_a_threshold_count(revision: int) -> None:
    toy = Toy(revision)
    toy.supply(COL, 500_00)
    toy.supply(OTHER, 100_00, enabled=False)
    toy.borrow(DEBT, 100_00)
    assert data(toy)[0] == 500 * ONE
    # To 3.5 an asset without a base threshold is no collateral; from 3.6 it is one that counts for nothing.
    toy.param("liquidation_threshold", 0, asset=COL)
    toy.param("ltv", 0, asset=COL)
    assert data(toy) == (500 * ONE if revision >= 10 else 0, 100 * ONE, 0, 0, 0, 0)


def emode_account(revision: int) -> Toy:
    """1000 USD of COL in e-mode 1 (95 / 93 / 1 %), 1000 USD of OTHER outside it, 1500 USD of debt."""
    toy = Toy(revision)
    for name, value in (("emode_ltv", 9300), ("emode_liquidation_threshold", 9500), ("emode_liquidation_bonus", 10100)):
        toy.param(name, value, category=1)
    toy.param("emode_category", 1, asset=COL)
    toy.param("emode_collateral", 1, asset=COL, category=1)
    toy.supply(COL, 1000_00)
    toy.supply(OTHER, 1000_00)
    toy.borrow(DEBT, 1500_00)
    toy.setting("emode", 1)
    return toy


@pytest.mark.parametrize("revision", RULES)
def test_emode_of_a_member_and_a_stranger(revision: int) -> None:
    # (9500 + 8000) / 2 = 8750, (9300 + 7500) / 2 = 8400; 2000 * 0.875 / 1500 = 1.1666...; 2000 * 0.84 - 1500 = 180
    assert data(emode_account(revision)) == (
        2000 * ONE,
        1500 * ONE,
        180 * ONE,
        8750,
        8400,
        1166666666666666667 if revision <= 8 else 1166666666666666666,
    )


@pytest.mark.parametrize("revision", RULES)
def test_emode_membership_is_the_assets_own_category_to_31_and_the_list_after(revision: int) -> None:
    toy = emode_account(revision)
    toy.param("emode_category", 0, asset=COL)
    assert data(toy)[3] == (8000 if revision <= 4 else 8750)
    toy = emode_account(revision)
    toy.param("emode_collateral", 0, asset=COL, category=1)
    assert data(toy)[3] == (8750 if revision <= 4 else 8000)


@pytest.mark.parametrize("revision", RULES)
def test_loan_to_value_rules(revision: int) -> None:
    toy = emode_account(revision)
    toy.param(
        "ltv", 0, asset=COL
    )  # to 3.5 this takes the e-mode's away too: 7500 / 2; from 3.6 the category decides alone
    assert data(toy)[4] == (8400 if revision >= 10 else 3750)
    toy.param("ltv", 7500, asset=COL)
    toy.param("emode_ltvzero", 1, asset=COL, category=1)
    assert data(toy)[4] == (3750 if revision >= 10 else 8400)
    toy.param("emode_ltvzero", 0, asset=COL, category=1)
    toy.param("emode_isolated", 1, category=1)  # 3.7: OTHER is outside the category, 9300 / 2
    assert data(toy)[4] == (4650 if revision == 11 else 8400)


@pytest.mark.parametrize("price", [None, 0])
def test_a_missing_price_stops_the_account_that_uses_the_asset(price: int | None) -> None:
    toy = two_collaterals(10)
    toy.prices[OTHER] = price
    with pytest.raises(PriceMissing, match="block 100: no oracle price of OTHER, the contract would revert"):
        data(toy)
    toy.setting("collateral_enabled", 0, OTHER)
    assert data(toy)[0] == 2000 * ONE


def test_stable_debt_counts_and_grows_at_its_own_rate() -> None:
    toy = Toy(3)
    toy.supply(COL, 1000_00)
    toy.borrow(DEBT, 100_00)
    toy.setting("stable_principal", 200_00, DEBT)
    toy.setting("stable_rate", RAY // 10, DEBT)
    toy.setting("stable_since", START, DEBT)
    assert data(toy)[1] == 300 * ONE
    # A year at 10 %: 1 + 0.1 + 0.005 + 0.000167 - about; 20000 native * 1.10517 = 22103.4 -> 22103, with 10000 of
    # variable debt
    assert data(toy, Clock(101, 0, START + SECONDS_PER_YEAR))[1] == 321_03 * ONE // 100


# -- The book --------------------------------------------------------------------------------------------------------


def test_a_balance_never_goes_below_zero() -> None:
    toy = Toy(10)
    toy.supply(COL, 5)
    with pytest.raises(
        RulesError, match=r"block 99, log 7: account 0x0+1 would hold -1 scaled units of COL as collateral"
    ):
        toy.move("collateral", COL, -6)
    assert toy.scaled("collateral", COL) == 5
    toy.move("collateral", COL, -5)
    assert toy.scaled("collateral", COL) == toy.state.reserves[COL].scaled_supply == 0
    assert list(AAVE_V3.accounts(toy.state)) == []


def test_accounts_are_listed_in_id_order() -> None:
    toy = Toy(1)
    toy.supply(COL, 5, BOB)
    toy.borrow(DEBT, 5, ALICE)
    toy.setting("stable_principal", 5, DEBT, LIQUIDATOR)
    assert list(AAVE_V3.accounts(toy.state)) == [ALICE, LIQUIDATOR, BOB]


def test_events_that_the_book_does_not_know_are_refused() -> None:
    toy = Toy(10)
    with pytest.raises(RulesError, match="unknown parameter 'ltvv'"):
        toy.param("ltvv", 1, asset=COL)
    with pytest.raises(RulesError, match="unknown parameter 'ltv'"):
        toy.param("ltv", 1)
    with pytest.raises(RulesError, match="unknown setting 'colour'"):
        toy.setting("colour", 1, COL)
    past = HistoricalLiquidation(
        seq=0, block_number=1, log_index=0, timestamp=1, account=ALICE, liquidator=BOB, debt_asset=DEBT,
        collateral_asset=COL,
        repaid=1, seized=1, protocol_fee=0, receive_collateral_token=False,
    )  # fmt: skip
    with pytest.raises(TypeError, match="HistoricalLiquidation"):
        apply(toy.state, past)
    toy.param("supply_cap", 5, asset=COL)
    toy.do(PriceUpdate(seq=0, block_number=1, log_index=0, timestamp=1, asset=COL, price=5))


# -- The screening form ----------------------------------------------------------------------------------------------


def form_value(
    toy: Toy, prices: dict[int, int], now: Clock = NOW, *, age: dict[int, tuple[float, float]] | None = None
) -> float | None:
    """The form's value less what its error grants; the supply and borrow indexes have since grown by the factors in
    ``age``.
    """
    form = linear_exposure(toy.state, ALICE, now)
    if form is None:
        return None
    terms = [form.constant]
    for asset, weight in form.weights.items():
        supply, borrow = (age or {}).get(asset, (1.0, 1.0))
        debt = form.debt.get(asset, 0.0)
        terms += [(weight + debt) * supply * prices[asset], -debt * borrow * prices[asset]]
    return sum(terms) - form.relative_error * sum(map(abs, terms))


def test_no_debt_needs_no_look() -> None:
    toy = Toy(10)
    toy.supply(COL, 5)
    assert linear_exposure(toy.state, ALICE, NOW) is None


@settings(max_examples=300, deadline=None)
@given(
    revision=st.sampled_from(list(RULES)),
    collateral=st.tuples(*[st.integers(0, 10**10)] * 3),
    debt=st.tuples(*[st.integers(0, 10**10)] * 3),
    thresholds=st.tuples(*[st.integers(1, 9900)] * 3),
    prices=st.tuples(*[st.integers(1, 10**13)] * 3),
    rates=st.tuples(st.integers(0, RAY), st.integers(0, RAY)),
    near=st.integers(-3000, 3000),
    elapsed=st.integers(0, 10 * 86_400),
)
def test_an_account_that_the_form_calls_safe_is_safe(
    revision, collateral, debt, thresholds, prices, rates, near, elapsed
) -> None:  # type: ignore[no-untyped-def]
    """At once and after the form has been aged by the growth of the indexes; prices are moved near the boundary."""
    toy = Toy(revision, supply_index=RAY * 11 // 10, borrow_index=RAY * 13 // 10)
    for asset in (COL, DEBT, OTHER):
        toy.param("liquidation_threshold", thresholds[asset], asset=asset)
        toy.index(asset, RAY * 11 // 10, RAY * 13 // 10, *rates)
        if collateral[asset]:
            toy.supply(asset, collateral[asset])
        if debt[asset]:
            toy.borrow(asset, debt[asset])
        toy.prices[asset] = prices[asset]
    if not any(debt):
        return
    health = data(toy)[5]
    if collateral[COL] and 0 < health < 10**30:
        toy.prices[COL] = max(1, prices[COL] * WAD // health + near)
    now_prices = {asset: price or 0 for asset, price in toy.prices.items()}
    value = form_value(toy, now_prices)
    assert value is not None
    if value >= 0:
        assert data(toy)[5] >= WAD
    later = Clock(101, 0, START + elapsed)
    rules = toy.state.rules
    age = {
        reserve.asset: (
            reserve.income(later.timestamp) / reserve.supply_index,
            reserve.debt_index(later.timestamp, rules) / reserve.borrow_index,
        )
        for reserve in toy.state.reserves
    }
    aged = form_value(toy, now_prices, age=age)
    assert aged is not None
    if aged >= 0:
        assert data(toy, later)[5] >= WAD


def test_the_form_is_tight_for_a_large_account() -> None:
    """It must not send everyone to the exact rule: at a health of 1.001 it is positive, at 0.999 negative."""
    for revision in RULES:
        toy = Toy(revision, decimals=6)
        toy.supply(COL, 10**12)
        toy.borrow(DEBT, 8 * 10**11)
        for price, safe in ((ONE * 1001 // 1000, True), (ONE * 999 // 1000, False)):
            value = form_value(toy, {COL: price, DEBT: ONE, OTHER: ONE})
            assert value is not None
            assert (value >= 0) == safe


def test_stable_debt_bounds_how_long_the_form_holds() -> None:
    toy = Toy(3)
    toy.supply(COL, 1000_00)
    toy.setting("stable_principal", 200_00, DEBT)
    toy.setting("stable_rate", RAY, DEBT)
    toy.setting("stable_since", START, DEBT)
    form = linear_exposure(toy.state, ALICE, NOW)
    assert form is not None
    assert form.until == START + 86_400
    # A day at 100 % a year: 20000 * 1.00274 = 20054.9
    assert form.debt[DEBT] == pytest.approx((20055 + 1) / 100, abs=0.011)
