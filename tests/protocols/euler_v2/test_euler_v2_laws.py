"""What holds after any calls: debts and shares add up, shares never lose but to bad debt, nobody gains by rounding, and
the columns of all accounts say what each account's own view does.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.euler_v2 import EULER_V2
from backtest.protocols.euler_v2.liquidation import cools_off
from backtest.protocols.euler_v2.state import LENT, EulerState
from backtest.protocols.interface import Acted, Fill, LinearExposure, Order
from tests.protocols.euler_v2.hand import (
    ALICE,
    BOB,
    BTC,
    ETH,
    KEEPER,
    LENDER,
    START,
    USD,
    USDC,
    WBTC,
    WETH,
    acted,
    at,
    flag,
    lends,
    moved,
    opened,
    owes,
    pledges,
)
from tests.support.book_views import every_view, spelt

CALLS = st.lists(
    st.tuples(
        st.sampled_from(["borrow", "borrow", "repay", "lend", "take", "pledge", "withdraw", "liquidate", "liquidate"]),
        st.sampled_from([ALICE, BOB, LENDER]),
        st.integers(1, 9_000 * USDC),
        st.integers(700 * USD, 3_000 * USD),
        st.integers(0, 10_000_000),
        st.booleans(),
    ),
    max_size=25,
)


def rich() -> EulerState:
    """Alice and bob have collateral and owe; the curve is steep, so that interest is felt."""
    curve = {"base_rate": 10**18, "slope": 10**8, "jump_slope": 10**10, "kink": 3 * 10**9, "rate_model": 1}
    first = [lends(20_000 * USDC), *pledges(ALICE, WETH, 2 * ETH), *pledges(BOB, WBTC, BTC // 10)]
    state = opened(*first, owes(ALICE, 2_000 * USDC), recompute=True, **curve)
    EULER_V2.apply(state, flag(BOB, "collateral_enabled", WETH, 1))
    return state


def call(state: EulerState, kind: str, who: AccountId, amount: int, price: int, now: Clock, keeps: bool) -> object:
    """Makes a call, where it does not revert."""
    found: object
    if kind == "liquidate":
        pairs = EULER_V2.pairs(state, who, at(price), now)
        found = None
        if pairs:
            order = Order(who, pairs[amount % len(pairs)], KEEPER, receive_collateral_token=keeps)
            found = EULER_V2.quote(state, order, at(price), now)
    else:
        at_once = {"time": now.timestamp}
        asked = {
            "borrow": owes(who, amount, now.timestamp),
            "repay": moved(who, LENT, "debt", -1, "repay", amount, **at_once),
            "lend": moved(who, LENT, "collateral", 1, "supply", amount, **at_once),
            "take": moved(who, LENT, "collateral", -1, "withdraw", amount, **at_once),
            "pledge": moved(who, WETH, "collateral", amount * 10**8, "supply", amount * 10**8, **at_once),
            "withdraw": moved(who, WETH, "collateral", -amount * 10**8, "withdraw", amount * 10**8, **at_once),
        }[kind]
        found = acted(state, asked, weth=price, now=now)
    if isinstance(found, Acted | Fill):
        for change in found.changes:
            EULER_V2.apply(state, change)
        return found
    return None


@settings(max_examples=80, deadline=None)
@given(CALLS)
def test_laws(calls: list[tuple[str, AccountId, int, int, int, bool]]) -> None:
    state, time = rich(), START
    for kind, who, amount, price, seconds, keeps in calls:
        time += seconds
        now = Clock(10 + time, 0, time)
        before = state.accrued(LENT, time)
        health = EULER_V2.view(state, who, at(price), now).health
        done = call(state, kind, who, amount, price, now, keeps)
        lent = state.accrued(LENT, time)
        people = state.people.values()
        # Debts: each is rounded down as it grows, so that all together are never more than the total, and as good as.
        owed = sum(has.current(lent.accumulator) for has in people)
        assert -len(calls) * 2**33 <= lent.debt - owed <= 2**31 * (len(calls) + 2)
        assert sum(has.shares.get(LENT, 0) for has in people) + lent.fees == lent.shares
        assert min(lent.cash, lent.debt, lent.fees) >= 0
        # A share is worth no less after any call, but for what was written off.
        lost = sum(loss for _, loss in done.deficits) if isinstance(done, Fill) else 0
        gained = (lent.assets + lost + 10**6) * (before.shares + 10**6) - (before.assets + 10**6) * (
            lent.shares + 10**6
        )
        assert gained >= 0 if not lost else gained >= -2 * (lent.shares + 10**6)
        if isinstance(done, Fill):
            assert health is not None
            assert health < 10**18
            assert done.deficits == () or not any(
                state.account(who).shares.get(asset) for asset in state.account(who).enabled
            )
        if isinstance(done, Acted) and done.view is not None and done.view.health is not None:
            assert done.view.debt_base < done.view.borrowing_power_base


@settings(max_examples=60, deadline=None)
@given(CALLS, st.integers(500 * USD, 3_000 * USD), st.integers(0, 7_199))
def test_columns_are_the_views_and_the_screen_is_safe(
    calls: list[tuple[str, AccountId, int, int, int, bool]], price: int, wait: int
) -> None:
    """And where a form says safe at some later price and time, nobody may be liquidated then."""
    state, time = rich(), START
    for kind, who, amount, then, seconds, keeps in calls:
        time += seconds
        call(state, kind, who, amount, then, Clock(10 + time, 0, time), keeps)
    now, later = Clock(10, 0, time), Clock(11, 0, time + wait)
    found = EULER_V2.views(state, at(price), later)
    assert found is not None
    assert every_view(EULER_V2, state, at(price), later) == spelt(found)
    for who in (ALICE, BOB):
        form = EULER_V2.exposure(state, who, now)
        if form is None:
            continue
        assert isinstance(form, LinearExposure)
        many = EULER_V2.exposures(state, [who], now)
        assert many is not None
        oracle = at(price).oracle
        unit = {asset: float(oracle[asset]) for asset in oracle}
        for total in (
            form.constant + sum(weight * unit[asset] for asset, weight in form.weights.items()),
            many.constant[0] + sum(
                (-amount if owed else amount) * unit[AssetId(asset)]
                for asset, owed, amount in zip(many.asset, many.owed, many.amount, strict=True)
            ),
        ):  # fmt: skip
            if total >= 0 and not cools_off(state, state.account(who), later.timestamp):
                assert EULER_V2.pairs(state, who, at(price), later) == ()
