"""Random books of Aave, and their values in two ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from backtest.errors import PriceMissing
from backtest.model import AccountId, Clock, Prices
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.rules import RULES
from backtest.protocols.aave_v3.state import AaveState
from backtest.protocols.interface import AccountView, Views
from backtest.units import RAY
from tests.support.aave_books import COL, DEBT, NOW, ONE, OTHER, Toy

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
