"""Morpho markets and Maker vaults all at once: compiled rules over a whole book against each account's own view."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import (
    AccountId,
    Asset,
    AssetId,
    Clock,
    IndexUpdate,
    Market,
    ParamChange,
    PositionChange,
    Prices,
    Side,
)
from backtest.protocols.columns import Columns, refreshed
from backtest.protocols.interface import AccountView, Amounts, LendingProtocol, LinearExposure
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.state import MakerState
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.irm import INITIAL_RATE_AT_TARGET
from backtest.units import RAY, WAD
from tests.support.book_views import every_view, spelt

ZERO, ONE = AssetId(0), AssetId(1)
ACCOUNTS = [AccountId(number) for number in range(6)]
PLACE = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 1_000}
NOW = Clock(1, 5, 1_000)

EDGE = st.builds(
    lambda bits, by: max(0, (1 << bits) + by), st.sampled_from((0, 62, 64, 128, 192, 254)), st.integers(-2, 2)
)
SIZED = st.integers(0, 255).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
USUAL = st.integers(0, 10**9).map(lambda thousandths: thousandths * 10**15)
AMOUNT = USUAL | USUAL | SIZED | EDGE
PRICE = st.none() | st.sampled_from((WAD, 10**36, 1, 0)) | SIZED


def moved(account: AccountId, asset: AssetId, side: Side, delta: int, amount: int | None = None) -> PositionChange:
    action = "supply" if side == "collateral" else "borrow"
    return PositionChange(
        **PLACE, account=account, asset=asset, side=side, delta=delta, action=action, action_seq=0, amount=amount
    )


@dataclass
class Case:
    """A protocol, a book of it and what it is looked at with."""

    protocol: LendingProtocol[Any]
    state: Any
    change: Callable[[st.DrawFn, Any, AccountId], None]
    prices: Prices
    now: Clock

    def param(self, name: str, value: int) -> None:
        self.protocol.apply(self.state, ParamChange(**PLACE, name=name, value=value, asset=ONE))


def vault(draw: st.DrawFn, state: Any, account: AccountId) -> None:
    for asset, side in ((ZERO, "collateral"), (ONE, "debt")):
        if draw(st.integers(0, 3)):
            MAKER.apply(state, moved(account, asset, side, draw(AMOUNT)))
    if draw(st.integers(0, 3)) == 0:  # emptied
        MAKER.apply(state, moved(account, ZERO, "collateral", -state.ink.get(account, 0)))


def position(draw: st.DrawFn, state: Any, account: AccountId) -> None:
    if draw(st.integers(0, 3)):
        MORPHO_BLUE.apply(state, moved(account, ONE, "collateral", draw(AMOUNT)))
    if draw(st.booleans()):
        shares = draw(AMOUNT)
        MORPHO_BLUE.apply(
            state, moved(account, ZERO, "debt", shares, shares // draw(st.sampled_from((1, 10**6, 999_983))))
        )
    if draw(st.booleans()):
        shares = draw(AMOUNT)
        MORPHO_BLUE.apply(state, moved(account, ZERO, "collateral", shares, shares // 10**6))


def market(protocol: str, decimals: tuple[int, int], base: int) -> Market:
    price = 36 + decimals[0] - decimals[1] if protocol == "morpho-blue" else None
    assets = tuple(Asset(AssetId(i), f"0x{i:040x}", f"A{i}", each) for i, each in enumerate(decimals))
    return Market(name="made", protocol=protocol, chain_id=1, assets=assets, accounts=tuple(map(str, ACCOUNTS)),
                  base_decimals=base, price_decimals=price)  # fmt: skip


@st.composite
def maker(draw: st.DrawFn) -> Case:
    state = MAKER.open(market("maker", (18, 18), 18))
    oracle = {ONE: WAD}
    if (price := draw(PRICE)) is not None:
        oracle[ZERO] = price
    case = Case(MAKER, state, vault, Prices(oracle, oracle, oracle), NOW)
    case.param("liquidation_ratio", draw(st.sampled_from((13 * RAY // 10, RAY, 1, 1 << 100))))
    case.param("par", draw(st.sampled_from((RAY, RAY + 7, 1, 1 << 120))))
    rate = draw(st.sampled_from((RAY, RAY * 11 // 10 + 1, 1 << 127, 0)))
    MAKER.apply(
        state, IndexUpdate(**PLACE, asset=ONE, supply_index=RAY, borrow_index=rate, supply_rate=0, borrow_rate=0)
    )
    for account in ACCOUNTS:
        vault(draw, state, account)
    return case


@st.composite
def morpho(draw: st.DrawFn) -> Case:
    decimals = draw(st.sampled_from(((6, 18), (18, 18), (18, 8))))
    state = MORPHO_BLUE.open(market("morpho-blue", decimals, draw(st.sampled_from((8, 18)))))
    oracle = {asset: price for asset in (ZERO, ONE) if (price := draw(PRICE)) is not None}
    now = replace(NOW, timestamp=1_000 + draw(st.sampled_from((0, 12, 10**6))))
    case = Case(MORPHO_BLUE, state, position, Prices(oracle, oracle, oracle), now)
    case.param("created", 1)
    case.param("liquidation_threshold", draw(st.sampled_from((86 * WAD // 100, WAD, 0, 1 << 127))))
    if draw(st.booleans()):
        case.param("rate_at_target", INITIAL_RATE_AT_TARGET)
    case.param("fee", draw(st.sampled_from((0, WAD // 10))))
    for account in ACCOUNTS:
        position(draw, state, account)
    return case


CASES = st.one_of(maker(), morpho())


def one_by_one(case: Case) -> dict[AccountId, AccountView | None]:
    return every_view(case.protocol, case.state, case.prices, case.now)


def all_at_once(case: Case) -> dict[AccountId, AccountView | None]:
    """Where the protocol cannot, the engine asks one by one."""
    views = case.protocol.views(case.state, case.prices, case.now)
    return one_by_one(case) if views is None else spelt(views)


@settings(max_examples=600, deadline=None)
@given(CASES)
def test_all_at_once_is_one_by_one(case: Case) -> None:
    assert all_at_once(case) == one_by_one(case)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changes_since_are_seen_by_the_copy_that_has_them(data: st.DataObject) -> None:
    case = data.draw(CASES)
    before = all_at_once(case)
    own = replace(case, state=deepcopy(case.state))
    for _ in range(3):
        for account in data.draw(st.sets(st.sampled_from(ACCOUNTS))):
            case.change(data.draw, own.state, account)
        own.param("liquidation_threshold" if case.protocol is MORPHO_BLUE else "liquidation_ratio", RAY)
        assert all_at_once(own) == one_by_one(own)
        assert all_at_once(case) == before == one_by_one(case)


@settings(max_examples=300, deadline=None)
@given(CASES, st.data())
def test_exposures_at_once_are_on_the_safe_side(case: Case, data: st.DataObject) -> None:
    """No more collateral and no less debt than each account's own, and hardly another number."""
    protocol, state = case.protocol, case.state
    if data.draw(st.booleans()):
        protocol.exposures(state, ACCOUNTS, case.now)
        for account in data.draw(st.sets(st.sampled_from(ACCOUNTS))):
            case.change(data.draw, state, account)
    asked = data.draw(st.lists(st.sampled_from(ACCOUNTS), unique=True))
    found = protocol.exposures(state, asked, case.now)
    assert found is not None
    own = {
        account: exposure for account in asked if (exposure := protocol.exposure(state, account, case.now)) is not None
    }
    assert {*found.account.tolist()} <= own.keys()
    assert all(large(state, account) for account in own.keys() - {*found.account.tolist()})
    for place, account in enumerate(found.account.tolist()):
        mine = own[AccountId(account)]
        assert isinstance(mine, LinearExposure)
        rows = slice(found.start[place], found.start[place + 1])
        columns = (column[rows].tolist() for column in (found.asset, found.owed, found.amount))
        for asset, owed, amount in zip(*columns, strict=True):
            debt = mine.debt.get(asset, 0.0)
            held = mine.weights[asset] + debt
            if owed:
                assert debt <= amount <= debt * (1 + 1e-11) * (1 + one_more(case, AccountId(account)))
            else:
                assert held * (1 - 1e-11) <= amount <= held
        assert found.constant[place] == mine.constant
        assert (found.relative_error, found.until) == (mine.relative_error, mine.until)


def one_more(case: Case, account: AccountId) -> float:
    """The share that a unit more of debt makes; shares may come to none."""
    if case.protocol is MAKER:
        return 0.0
    state = case.state
    return 1 / (1 + state.accrued(case.now.timestamp).debt_up(state.positions[account].borrow_shares))


def large(state: Any, account: AccountId) -> bool:
    if isinstance(state, MakerState):
        return max(state.ink.get(account, 0), state.art.get(account, 0)) >= 1 << 255
    return max(state.positions[account].collateral, state.positions[account].borrow_shares) >= 1 << 255


@pytest.mark.parametrize("protocol", [MAKER, MORPHO_BLUE], ids=lambda protocol: protocol.name)
def test_usual_amounts_are_valued_in_words(protocol: LendingProtocol[Any]) -> None:
    """A book like a real one leaves nothing to the plain rule."""
    price = 2_000 * WAD if protocol is MAKER else 2_000 * 10**24
    oracle = {ZERO: price, ONE: WAD} if protocol is MAKER else {ZERO: 10**24, ONE: price}
    decimals = (18, 18) if protocol is MAKER else (6, 18)
    state = protocol.open(market(protocol.name, decimals, 18 if protocol is MAKER else 8))
    case = Case(protocol, state, vault, Prices(oracle, oracle, oracle), NOW)
    if protocol is MAKER:
        case.param("liquidation_ratio", 13 * RAY // 10)
    else:
        case.param("liquidation_threshold", 86 * WAD // 100)
    for account in ACCOUNTS[:3]:
        if protocol is MAKER:
            protocol.apply(state, moved(account, ZERO, "collateral", 10**23 * (1 + account)))
            protocol.apply(state, moved(account, ONE, "debt", 10**26))
        else:
            protocol.apply(state, moved(account, ONE, "collateral", 10**23 * (1 + account)))
            protocol.apply(state, moved(account, ZERO, "debt", 10**20, 10**14))
    views = protocol.views(state, case.prices, NOW)
    assert views is not None
    assert not views.rest
    assert spelt(views) == one_by_one(case)
    assert len(views.account) == 3


def test_columns_are_made_anew_or_in_part() -> None:
    book: dict[AccountId, tuple[int, int]] = {AccountId(n): (n, 1 << n) for n in range(0, 40, 2)}
    whole = refreshed(None, (), lambda: sorted(book), book.get, 2)
    book[AccountId(7)], book[AccountId(4)] = (7, 7), (44, 44)
    del book[AccountId(10)]
    changed = {AccountId(7), AccountId(4), AccountId(10), AccountId(11)}
    part = refreshed(whole, changed, lambda: sorted(book), book.get, 2)
    anew = refreshed(None, (), lambda: sorted(book), book.get, 2)
    assert np.array_equal(part.account, anew.account)
    assert np.array_equal(part.values, anew.values)
    assert len(whole.account) == 20
    some = part.among([AccountId(11), AccountId(7), AccountId(38), AccountId(99)])
    assert some.account.tolist() == [7, 38]
    assert some.floats(1).tolist() == [7.0, 2.0**38]
    assert refreshed(part, (), lambda: (), book.get, 2) is part
    assert isinstance(refreshed(None, (), lambda: (), book.get, 2), Columns)


WIDE = st.lists(st.tuples(*[st.integers(0, 123).flatmap(lambda bits: st.integers(0, 1 << bits))] * 2), max_size=9)


@given(WIDE, st.booleans())
def test_amounts_of_more_than_a_word(rows: list[tuple[int, int]], short: bool) -> None:
    rows = [(a % (1 << 62), b % (1 << 62)) for a, b in rows] if short else rows

    def column(numbers: list[int]) -> Amounts:
        low, high = (
            np.array([part(n) for n in numbers], np.int64) for part in (lambda n: n % (1 << 62), lambda n: n >> 62)
        )
        return Amounts(low, None if short else high)

    one, other = column([a for a, _ in rows]), column([b for _, b in rows])
    apart = one.minus(other)
    assert apart.integers() == [a - b for a, b in rows]
    assert apart.positive.tolist() == [a > b for a, b in rows]
    assert apart.negative.tolist() == [a < b for a, b in rows]
    assert one.differs(other).tolist() == [a != b for a, b in rows]
    assert apart.total() == sum(a - b for a, b in rows)
    assert apart.take(apart.negative).total() == sum(a - b for a, b in rows if a < b)
