"""Every account at once is every account one by one, whatever the rules, the amounts and what changed since."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import PriceMissing
from backtest.model import AccountId, Clock, Prices
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.rules import RULES
from backtest.protocols.aave_v3.state import AaveState
from backtest.protocols.interface import AccountView, LinearExposure, Views
from backtest.units import RAY
from tests.aave_books import COL, DEBT, NOW, ONE, OTHER, Toy

Draw = Callable[[st.SearchStrategy[Any]], Any]
ASSETS = (COL, DEBT, OTHER)


def magnitude(bits: int) -> st.SearchStrategy[int]:
    """Integers of every size, and those next to powers of two."""
    near = st.builds(lambda exponent, by: max(1, (1 << exponent) + by), st.integers(0, bits), st.integers(-2, 2))
    return near | st.integers(0, bits).flatmap(lambda width: st.integers(1, 1 << width))


AMOUNT = magnitude(104)
INDEX = magnitude(30).map(lambda extra: RAY + extra * 10**18) | st.just(RAY) | st.just(RAY << 22)
PRICE = st.sampled_from((None, 0, 1, ONE, 2000 * ONE, 10**17 + 1)) | magnitude(66)


@st.composite
def books(draw: st.DrawFn) -> tuple[AaveState, Prices, Clock]:
    toy = Toy(draw(st.sampled_from(sorted(RULES))), draw(st.sampled_from((0, 2, 6, 9, 10, 18, 20))))
    for asset in ASSETS:
        toy.index(asset, draw(INDEX), draw(INDEX), draw(st.integers(0, RAY // 5)), draw(st.integers(0, RAY)))
        toy.param("ltv", draw(st.sampled_from((0, 1, 7500, 9999))), asset=asset)
        toy.param("liquidation_threshold", draw(st.sampled_from((0, 1, 8000, 9999, 10_000))), asset=asset)
        toy.param("emode_category", draw(st.integers(0, 1)), asset=asset)
        if draw(st.booleans()):
            toy.param("emode_collateral", 1, asset=asset, category=1)
    toy.param("emode_ltv", 9000, category=1)
    toy.param("emode_liquidation_threshold", 9300, category=1)
    if draw(st.integers(0, 3)) == 0:  # to 3.1 the category's members have the price of this asset, or of none (-1)
        toy.param("emode_price_source", draw(st.sampled_from((COL, OTHER, -1))), category=1)
    for account in map(AccountId, range(4)):
        change(draw, toy, account)
    oracle = {asset: price for asset in ASSETS if (price := draw(PRICE)) is not None}
    return (
        toy.state,
        Prices(oracle, oracle, oracle),
        replace(NOW, timestamp=NOW.timestamp + draw(st.sampled_from((0, 1, 12, 10**7)))),
    )


def change(draw: Draw, toy: Toy, account: AccountId) -> None:
    for asset in ASSETS:
        if draw(st.booleans()):
            toy.supply(asset, draw(AMOUNT), account, enabled=draw(st.booleans()))
        if draw(st.booleans()):
            toy.borrow(asset, draw(AMOUNT), account)
        if draw(st.integers(0, 9)) == 0:
            toy.setting("stable_principal", draw(AMOUNT), asset, account)
            toy.setting("stable_since", NOW.timestamp, asset, account)
    toy.setting("emode", draw(st.integers(0, 2)), None, account)


def one_by_one(state: AaveState, prices: Prices, now: Clock) -> dict[AccountId, AccountView | None]:
    found: dict[AccountId, AccountView | None] = {}
    for account in AAVE_V3.accounts(state):
        try:
            found[account] = AAVE_V3.view(state, account, prices, now)
        except PriceMissing:
            found[account] = None
    return found


def all_at_once(views: Views) -> dict[AccountId, AccountView | None]:
    found: dict[AccountId, AccountView | None] = {}
    columns = (
        views.account,
        views.collateral_base,
        views.debt_base,
        views.borrowing_power_base,
        views.health,
        views.category,
    )
    for account, collateral, debt, power, (low, high), category in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        assert debt or not (low or high)
        found[AccountId(account)] = AccountView(collateral, debt, (high << 64) | low if debt else None, power, category)
    assert list(found) == sorted(found)
    assert not found.keys() & views.rest.keys()
    return dict(sorted({**found, **views.rest}.items()))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(books())
def test_all_at_once_is_one_by_one(book: tuple[AaveState, Prices, Clock]) -> None:
    assert all_at_once(AAVE_V3.views(*book)) == one_by_one(*book)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_changes_since_are_seen_by_the_copy_that_has_them(data: st.DataObject) -> None:
    state, prices, now = data.draw(books())
    before = all_at_once(AAVE_V3.views(state, prices, now))
    toy = Toy(10)
    toy.state = deepcopy(state)
    for account in data.draw(st.sets(st.sampled_from([AccountId(i) for i in range(4)]))):
        change(data.draw, toy, account)
    toy.param("liquidation_threshold", 7000, asset=COL)
    assert all_at_once(AAVE_V3.views(toy.state, prices, now)) == one_by_one(toy.state, prices, now)
    assert all_at_once(AAVE_V3.views(state, prices, now)) == before == one_by_one(state, prices, now)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_values_kept_of_a_moment_are_those_of_no_other(data: st.DataObject) -> None:
    """Copies with other parameters, prices, indexes, times and rules, each seen again and again: more of them than are
    kept.
    """
    state, prices, now = data.draw(books())
    AAVE_V3.views(state, prices, now)
    for step in range(12):
        toy = Toy(10)
        toy.state = deepcopy(state)
        if step % 2:
            toy.param("liquidation_threshold", 7000 + step, asset=COL)
            toy.param("pool_revision", data.draw(st.sampled_from(sorted(RULES))))
        if data.draw(st.booleans()):
            prices = Prices(*[{asset: price for asset in ASSETS if (price := data.draw(PRICE)) is not None}] * 3)
        if data.draw(st.booleans()):
            now = replace(now, timestamp=now.timestamp + 1000)
        if data.draw(st.booleans()):
            toy.index(DEBT, data.draw(INDEX), data.draw(INDEX))
        assert all_at_once(AAVE_V3.views(toy.state, prices, now)) == one_by_one(toy.state, prices, now)
        assert toy.state.columns is state.columns


def test_usual_amounts_are_valued_in_words() -> None:
    """A book like a real one leaves nothing to the plain rule."""
    for revision in RULES:
        toy = Toy(revision, 18, RAY * 11 // 10, RAY * 12 // 10)
        toy.supply(COL, 10**24)
        toy.borrow(DEBT, 7 * 10**23)
        oracle = dict.fromkeys((COL, DEBT, OTHER), 2000 * ONE)
        views = AAVE_V3.views(toy.state, Prices(oracle, oracle, oracle), NOW)
        assert not views.rest
        assert len(views.account) == 1
        assert all_at_once(views) == one_by_one(toy.state, Prices(oracle, oracle, oracle), NOW)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(books(), st.data())
def test_exposures_at_once_are_on_the_safe_side(book: tuple[AaveState, Prices, Clock], data: st.DataObject) -> None:
    """No more collateral and no less debt than each account's own exposure, and but a little apart where amounts are
    not tiny.
    """
    state, prices, now = book
    if data.draw(st.booleans()):
        AAVE_V3.views(state, prices, now)
        toy = Toy(10)
        toy.state = state
        for account in data.draw(st.sets(st.sampled_from([AccountId(i) for i in range(4)]))):
            change(data.draw, toy, account)
    asked = data.draw(st.lists(st.sampled_from([AccountId(i) for i in range(5)]), unique=True))
    found = AAVE_V3.exposures(state, asked, now)
    owing = {account for account in asked if AAVE_V3.exposure(state, account, now) is not None}
    assert {*found.account.tolist()} <= owing
    assert all(
        state.accounts[account].stable or large(state, account) or priced(state, account)
        for account in owing - {*found.account.tolist()}
    )
    for place, account in enumerate(found.account.tolist()):
        own = AAVE_V3.exposure(state, AccountId(account), now)
        assert isinstance(own, LinearExposure)
        rows = slice(found.start[place], found.start[place + 1])
        terms = list(
            zip(found.asset[rows].tolist(), found.owed[rows].tolist(), found.amount[rows].tolist(), strict=True)
        )
        owed = {asset: amount for asset, is_debt, amount in terms if is_debt}
        assert owed.keys() == own.debt.keys()
        for asset, amount in own.debt.items():
            assert amount * (1 - 1e-12) <= owed[asset] <= amount * (1 + 1e-12) + 4 / state.reserves[asset].unit
        for asset, is_debt, amount in terms:
            if not is_debt:
                most = own.weights.get(asset, 0.0) + own.debt.get(asset, 0.0)
                assert amount <= most + 1e-12 * (abs(most) + own.debt.get(asset, 0.0))
        assert found.constant[place] <= own.constant
        assert found.relative_error == own.relative_error


def priced(state: AaveState, account: AccountId) -> bool:
    """Whether the account's e-mode has a price of its own."""
    category = state.categories.get(state.accounts[account].emode)
    return category is not None and category.price_source is not None


def large(state: AaveState, account: AccountId) -> bool:
    book = state.accounts[account]
    return max([*book.collateral.values(), *book.debt.values()]) >= 1 << 100
