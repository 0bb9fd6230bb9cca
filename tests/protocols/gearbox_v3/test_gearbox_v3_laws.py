"""Laws under random numbers, by vectors: nothing is paid twice, nothing is lost, the screen misses nobody."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AssetId
from backtest.protocols.gearbox_v3 import GEARBOX_V3
from backtest.protocols.gearbox_v3.math import Owed, decreased, increased, payments
from backtest.protocols.gearbox_v3.state import UNDERLYING
from backtest.protocols.interface import Fill, LinearExposure, Order
from backtest.units import RAY
from tests.protocols.gearbox_v3.hand import (
    ALICE,
    BTC,
    ETH,
    KEEPER,
    START,
    USDC,
    WBTC,
    WETH,
    YEAR,
    at,
    later,
    loan,
    moved,
    opened,
    param,
    rate,
    setting,
)

AMOUNTS = st.integers(1, 10**15)
OWED = st.builds(
    Owed,
    debt=st.integers(10**6, 10**15),
    index=st.integers(2 * RAY, 3 * RAY),
    last=st.integers(RAY, 2 * RAY),
    quota_interest=st.integers(0, 10**12),
    quota_fees=st.integers(0, 10**12),
    fee=st.integers(0, 10_000),
)


@given(OWED, AMOUNTS)
@settings(max_examples=100, deadline=None)
def test_a_repayment_lowers_what_is_owed_by_no_more_than_it_is(owed: Owed, amount: int) -> None:
    paid = decreased(amount, owed)
    left = Owed(paid.debt, owed.index, paid.last, paid.quota_interest, paid.quota_fees, owed.fee)
    assert 0 <= paid.debt <= owed.debt
    assert owed.total - left.total <= paid.amount + 4  # cuts: interest, its fee, and the split of both
    assert 0 <= paid.profit <= paid.amount <= owed.total
    assert decreased(owed.total, owed).debt == 0


@given(OWED, AMOUNTS)
@settings(max_examples=100, deadline=None)
def test_borrowing_more_keeps_the_interest(owed: Owed, amount: int) -> None:
    debt, last = increased(amount, owed.debt, owed.index, owed.last)
    after = Owed(debt, owed.index, last, owed.quota_interest, owed.quota_fees, owed.fee)
    assert abs(after.base_interest - owed.base_interest) <= 2


@given(OWED, st.integers(0, 10**16), st.integers(0, 1_000), st.integers(1_000, 2_000))
@settings(max_examples=100, deadline=None)
def test_a_liquidation_pays_no_more_than_there_is(owed: Owed, value: int, fee: int, premium: int) -> None:
    due = payments(owed, value, fee, 10_000 - premium)
    assert due.to_pool + due.to_owner <= value * (10_000 - premium) // 10_000
    assert due.to_pool - due.profit + due.loss == owed.debt + owed.interest
    assert not (due.loss and (due.profit or due.to_owner))


@given(
    st.integers(500, 3_000),
    st.integers(0, 3_000),
    st.integers(0, 3_000),
    st.integers(0, 10),
    st.integers(100, 4_000),
    st.integers(1_000, 60_000),
    st.integers(0, 6 * 3_600),
)
@settings(max_examples=150, deadline=None)
def test_the_screen_misses_nobody_and_a_liquidation_ends_the_debt(
    debt: int, weth_quota: int, wbtc_quota: int, tenths: int, weth: int, wbtc: int, seconds: int
) -> None:
    events = loan(ALICE, debt * USDC, WETH, ETH, weth_quota * USDC)
    events += [setting(ALICE, "quota", WBTC, wbtc_quota * USDC), moved(ALICE, WBTC, "collateral", BTC * tenths // 100)]
    events += [rate(RAY, RAY // 10), param("quota_rate", 400, WETH)]
    state = opened(*events)
    form, now, prices = GEARBOX_V3.exposure(state, ALICE, later(0)), later(seconds), at(weth, wbtc)
    assert isinstance(form, LinearExposure)
    pairs = GEARBOX_V3.pairs(state, ALICE, prices, now)
    if not pairs:
        return
    assert form.constant + sum(form.weights[AssetId(n)] * prices.oracle[AssetId(n)] for n in form.weights) < 0
    fill = GEARBOX_V3.quote(state, Order(ALICE, pairs[0], KEEPER), prices, now)
    assert isinstance(fill, Fill)
    assert fill.paid >= 0
    cash = state.pool.available
    for change in fill.changes:
        GEARBOX_V3.apply(state, change)
    own = state.account(ALICE)
    assert (own.debt, own.quotas) == (0, {})
    assert set(own.held) <= {UNDERLYING}
    assert state.pool.available - cash + own.held.get(UNDERLYING, 0) == fill.repaid
    assert now.timestamp < START + YEAR
