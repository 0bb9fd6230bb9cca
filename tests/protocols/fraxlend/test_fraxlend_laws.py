"""What holds after any calls: shares add up and never lose but to bad debt, a liquidation takes no more than its fee
allows, and the screen never misses.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId, Clock
from backtest.protocols.fraxlend import FRAXLEND
from backtest.protocols.fraxlend.account import rate_down
from backtest.protocols.fraxlend.liquidation import PAIR
from backtest.protocols.fraxlend.state import COLLATERAL, LENT
from backtest.protocols.interface import Action, Fill, LinearExposure, Order, Refusal
from tests.protocols.fraxlend.hand import ALICE, BOB, E18, KEEPER, LENDER, START, STEEP, at, book, moved, param

CALLS = st.lists(
    st.tuples(
        st.sampled_from(["borrow", "repay", "supply", "withdraw", "pledge", "take", "liquidate", "liquidate"]),
        st.sampled_from([ALICE, BOB, LENDER]),
        st.integers(1, 3_000 * E18),
        st.sampled_from([1_000, 1_250, 1_600, 2_000, 2_500]),
        st.integers(0, 3_000_000),
    ),
    max_size=20,
)


@settings(max_examples=80, deadline=None)
@given(CALLS, st.booleans())
def test_laws(calls: list[tuple[str, AccountId, int, int, int]], recompute: bool) -> None:
    state, time = book(curve=STEEP, recompute=recompute, liquidation_protocol_fee=10_000), START
    FRAXLEND.apply(state, param("fee", 10_000))
    screens: dict[AccountId, tuple[int, LinearExposure]] = {}
    for kind, who, amount, usd, seconds in calls:
        time += seconds
        now, prices = Clock(10 + time, 0, time), at(usd)
        before = state.accrued(time)
        for account, (since, form) in screens.items():
            if form.until is not None and time <= form.until and since == state.totals.updated:
                value = form.constant + sum(weight * prices.oracle[asset] for asset, weight in form.weights.items())
                if FRAXLEND.pairs(state, account, prices, now):
                    assert value < 0
        if kind == "liquidate":
            found = FRAXLEND.quote(state, Order(who, PAIR, KEEPER, repay_scaled=amount), prices, now)
        else:
            asked = {
                "borrow": moved(who, "debt", 1, "borrow", amount),
                "repay": moved(who, "debt", -amount, "repay", amount),
                "supply": moved(who, "collateral", 1, "supply", amount),
                "withdraw": moved(who, "collateral", -1, "withdraw", amount),
                "pledge": moved(who, "collateral", amount // 2_000, "supply", amount // 2_000, 1),
                "take": moved(who, "collateral", -1, "withdraw", amount // 2_000, 1),
            }[kind]
            found = FRAXLEND.act(state, Action(asked.action, (asked,)), prices, now)  # type: ignore[assignment]
        if not isinstance(found, Refusal):
            for change in found.changes:
                FRAXLEND.apply(state, change)
            after = state.totals
            people = state.positions.values()
            assert sum(has.supply_shares for has in people) == after.lent_shares
            assert sum(has.borrow_shares for has in people) == after.borrow_shares
            assert 0 <= after.borrowed <= after.lent
            lost = sum(each for _, each in found.deficits) if isinstance(found, Fill) else 0
            if after.lent_shares and before.lent_shares and not lost:  # what is lent is worth no less a share
                assert after.lent * before.lent_shares >= before.lent * after.lent_shares - after.lent_shares
            if after.borrow_shares and before.borrow_shares:  # nor is what is owed
                assert after.borrowed * before.borrow_shares >= before.borrowed * after.borrow_shares - (
                    before.borrow_shares + after.borrow_shares
                )
            if isinstance(found, Fill):
                worth = found.repaid * rate_down(state, prices.oracle) // E18
                assert found.seized + found.protocol_fee <= worth * 110_000 // 100_000
                assert not lost or state.of(who).collateral == state.of(who).borrow_shares == 0
        screens = {}
        for account in (ALICE, BOB):
            form = FRAXLEND.exposure(state, account, now)
            if isinstance(form, LinearExposure):
                screens[account] = state.totals.updated, form


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3_000 * E18), st.integers(10**12, 10**18), st.integers(0, 10**6))
def test_health_says_what_the_contract_says_and_the_screen_never_misses(owed: int, price: int, seconds: int) -> None:
    state = book(1, curve=STEEP)
    FRAXLEND.apply(state, moved(ALICE, "debt", owed, "borrow", owed))
    oracle = {LENT: price, COLLATERAL: E18}
    prices = type(at(2_000))(oracle, oracle, oracle)
    now = Clock(11, 0, START + seconds)
    form = FRAXLEND.exposure(state, ALICE, now)
    health = FRAXLEND.view(state, ALICE, prices, now).health
    assert isinstance(form, LinearExposure)
    assert health is not None
    insolvent = bool(FRAXLEND.pairs(state, ALICE, prices, now))
    assert insolvent == (health < E18)
    assert not insolvent or sum(weight * oracle[asset] for asset, weight in form.weights.items()) < 0
