"""Many liquidations in one call of the compiled rules are the plain rules' one after another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import Clock, Prices
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.rules import RULES
from backtest.protocols.aave_v3.state import AaveState
from backtest.units import RAY
from tests.support.aave_books import COL, DEBT, LIQUIDATOR, NOW, ONE, OTHER, TREASURY, Toy
from tests.support.aave_moments import BORROWERS, compare
from tests.support.aave_values import INDEX, books

ASSETS = (COL, DEBT, OTHER)


@st.composite
def liquidatable(draw: st.DrawFn) -> tuple[AaveState, Prices, Clock]:
    """Accounts near a health of one, small and large, of several assets, e-modes and closed reserves among them."""
    decimals = draw(st.sampled_from((2, 6, 8, 18)))
    toy = Toy(draw(st.sampled_from(sorted(RULES))), decimals)
    price = {asset: draw(st.sampled_from((ONE, 10 * ONE, 3123 * ONE + 7, 99_999_999))) for asset in ASSETS}
    for asset in ASSETS:
        toy.index(asset, draw(INDEX), draw(INDEX), draw(st.integers(0, RAY // 5)), draw(st.integers(0, RAY)))
        toy.param("ltv", 7000, asset=asset)
        toy.param("liquidation_threshold", draw(st.sampled_from((5000, 8000, 8001, 9500))), asset=asset)
        toy.param("liquidation_bonus", draw(st.sampled_from((10_000, 10_100, 10_500, 11_111))), asset=asset)
        toy.param("liquidation_protocol_fee", draw(st.sampled_from((0, 1, 1000, 10_000))), asset=asset)
        toy.state.reserves[asset].reserve_id = 2 - asset
        toy.param("emode_category", draw(st.integers(0, 1)), asset=asset)
        toy.param("emode_collateral", draw(st.integers(0, 1)), asset=asset, category=1)
        if draw(st.integers(0, 9)) == 0:
            toy.param(draw(st.sampled_from(("active", "liquidation_threshold", "liquidation_bonus"))), 0, asset=asset)
        if draw(st.integers(0, 9)) == 0:
            toy.param("grace_until", NOW.timestamp + draw(st.integers(0, 20)), asset=asset)
    toy.param("emode_ltv", 9000, category=1)
    toy.param("emode_liquidation_threshold", 9300, category=1)
    toy.param("emode_liquidation_bonus", 10_200, category=1)
    toy.param("close_factor", draw(st.sampled_from((5000, 3333, 10_000))))
    for account in BORROWERS:
        worth = draw(st.sampled_from((1, 100, 1900, 2100, 5000, 10**6))) * ONE * draw(st.integers(50, 150)) // 100
        held = draw(st.lists(st.sampled_from(ASSETS), min_size=1, max_size=3, unique=True))
        owed = draw(st.lists(st.sampled_from(ASSETS), min_size=1, max_size=3, unique=True))
        share = draw(st.integers(60, 130))
        parts = draw(st.permutations((1, 2, 5)))  # unequal, so that what half of the debt leaves may be dust
        for asset in held:
            part = worth * parts[asset] // sum(parts[each] for each in held)
            scaled = part * 10**decimals * RAY // (price[asset] * toy.state.reserves[asset].supply_index)
            toy.supply(asset, max(1, scaled), account, enabled=draw(st.integers(0, 9)) > 0)
        for asset in owed:
            part = worth * parts[asset] // sum(parts[each] for each in owed)
            scaled = part * share * 10**decimals * RAY // (100 * price[asset] * toy.state.reserves[asset].borrow_index)
            toy.borrow(asset, max(1, scaled), account)
        toy.setting("emode", draw(st.integers(0, 1)), None, account)
    oracle = {asset: price[asset] for asset in ASSETS if draw(st.integers(0, 19))}
    market = {asset: value * draw(st.integers(97, 103)) // 100 for asset, value in oracle.items()}
    return (
        toy.state,
        Prices(oracle, market, market),
        replace(NOW, timestamp=NOW.timestamp + draw(st.sampled_from((0, 12, 10**7)))),
    )


def priced(state: AaveState, prices: Prices) -> bool:
    return all(
        prices.oracle.get(asset)
        for book in state.accounts.values()
        for asset in {*book.enabled, *book.debt, *book.stable}
    )


@pytest.mark.slow
@settings(max_examples=1_000, deadline=None)
@given(liquidatable(), st.sampled_from((0, 5 * 10**7)), st.sampled_from((1, 2, 10)), st.integers(0, 2))
def test_together_is_one_by_one(book: tuple[AaveState, Prices, Clock], cost: int, most: int, called: int) -> None:
    state, prices, now = book
    if not priced(state, prices):
        prices = replace(prices, oracle={**dict.fromkeys(ASSETS, ONE), **prices.oracle})
    compare(state, list(BORROWERS), prices, now, cost=cost, calls={BORROWERS[0]: called}, most=most)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(books())
def test_extreme_amounts_are_left_to_the_plain_rules_or_the_same(book: tuple[AaveState, Prices, Clock]) -> None:
    state, prices, now = book
    if priced(state, prices):
        compare(state, [account for account in BORROWERS if account in state.accounts], prices, now)


def test_usual_liquidations_need_no_plain_rule() -> None:
    """Of every revision, one after another until the account is safe or written off."""
    for revision in RULES:
        toy = Toy(revision, 18, RAY * 11 // 10, RAY * 12 // 10)
        for account, share in ((BORROWERS[0], 7_500), (BORROWERS[1], 9_900)):
            toy.supply(COL, 10**22, account)
            toy.borrow(DEBT, 10**18 * share, account)
        oracle = dict.fromkeys(ASSETS, ONE)
        found = compare(toy.state, list(BORROWERS), Prices(oracle, oracle, oracle), NOW)
        assert found is not None
        assert {*found.account} == {*BORROWERS}
        if RULES[revision].writes_off:
            assert found.deficits


@pytest.mark.parametrize("revision", [revision for revision in RULES if RULES[revision].leaves_no_dust])
def test_less_is_asked_for_where_dust_would_be_left(revision: int) -> None:
    """Half of 4,040 $ of debt would leave 500 of the 2,520 $ of one of the two."""
    toy = Toy(revision, 18)
    toy.supply(COL, 5_000 * 10**18)
    toy.borrow(DEBT, 2_520 * 10**18)
    toy.borrow(OTHER, 1_520 * 10**18)
    oracle = dict.fromkeys(ASSETS, ONE)
    found = compare(toy.state, [BORROWERS[0]], Prices(oracle, oracle, oracle), NOW, most=1)
    assert found is not None
    assert (found.debt_asset, found.repaid, found.fill(0).order.repay) == ([DEBT], [1_520 * 10**18], 1_520 * 10**18)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([revision for revision in RULES if RULES[revision].leaves_no_dust]), st.sampled_from((6, 18)),
    st.integers(2_000, 3_500),
    st.integers(500, 3_000), st.integers(9_501, 9_999), st.sampled_from((ONE, 3_123 * ONE + 7, 99_999_999)), INDEX,
    INDEX,
)  # fmt: skip
def test_what_is_asked_for_instead_of_dust(
    revision: int, decimals: int, debt: int, other: int, health: int, price: int, supply: int, borrow: int
) -> None:
    """Debts and health at which half of the debt may leave dust of one."""
    toy, unit = Toy(revision, decimals, supply, borrow), 10**decimals
    oracle = {COL: price, DEBT: 99_999_999, OTHER: ONE}
    for asset, dollars in ((DEBT, debt), (OTHER, other)):
        toy.borrow(asset, dollars * ONE * unit * RAY // (oracle[asset] * borrow))
    toy.supply(COL, (debt + other) * ONE * health * unit * RAY // (8_000 * price * supply))
    compare(toy.state, [BORROWERS[0]], Prices(oracle, oracle, oracle), NOW)


def test_a_missing_price_stops_its_account_only() -> None:
    toy = Toy(10, 18)
    for account, asset in ((BORROWERS[0], COL), (BORROWERS[1], OTHER)):
        toy.supply(asset, 10**22, account)
        toy.borrow(DEBT, 9 * 10**21, account)
    oracle = {COL: ONE, DEBT: ONE}
    found = AAVE_V3.together(
        toy.state, list(BORROWERS), Prices(oracle, oracle, oracle), NOW, LIQUIDATOR, cost=0, calls={}, most=10
    )
    assert found is not None
    assert {*found.account} == {BORROWERS[0]}


@pytest.mark.parametrize("why", ["treasury", "unknown treasury", "stable", "recompute"])
def test_what_depends_on_others_is_left_to_the_plain_rules(why: str) -> None:
    toy = Toy(10, 18)
    accounts = [*BORROWERS, TREASURY]
    for account in accounts if why == "treasury" else BORROWERS:
        toy.supply(COL, 10**22, account)
        toy.borrow(DEBT, 9 * 10**21, account)
    if why == "unknown treasury":
        toy.state.reserves[COL].treasury = None
    elif why == "stable":
        toy.setting("stable_principal", 10, DEBT, BORROWERS[0])
    elif why == "recompute":
        toy.state.recompute = True
    oracle = dict.fromkeys(ASSETS, ONE)
    assert (
        AAVE_V3.together(
            toy.state, accounts, Prices(oracle, oracle, oracle), NOW, LIQUIDATOR, cost=0, calls={}, most=10
        )
        is None
    )
