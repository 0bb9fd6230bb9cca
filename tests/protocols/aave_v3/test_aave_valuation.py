"""Every account at once is every account one by one, whatever the rules, the amounts and what changed since."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId, Clock, Prices
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.rules import RULES
from backtest.protocols.aave_v3.state import AaveState
from backtest.protocols.interface import LinearExposure
from backtest.units import RAY
from tests.support.aave_books import COL, DEBT, NOW, ONE, OTHER, Toy
from tests.support.aave_values import ASSETS, INDEX, PRICE, all_at_once, books, change, one_by_one


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
        assert toy.state.live.base is state.live.base


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
