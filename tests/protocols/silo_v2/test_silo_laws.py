"""What holds after any calls: shares add up, no call makes a lender poorer, a liquidation takes no more than its fee
allows and leads to a lower loan-to-value, and the screen never misses.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId, Clock
from backtest.protocols.interface import Action, Fill, LinearExposure, Order, Pair, Refusal
from backtest.protocols.silo_v2 import SILO_V2
from backtest.protocols.silo_v2.account import is_solvent
from backtest.protocols.silo_v2.math import FULL_LIQUIDATION, max_repay_down
from backtest.protocols.silo_v2.state import SILOS
from backtest.units import WAD
from tests.protocols.silo_v2.hand import (
    ALICE,
    BOB,
    E6,
    E18,
    KEEPER,
    KEPT_WETH,
    LENDER,
    START,
    STEEP,
    USDC,
    WETH,
    at,
    book,
    moved,
)

CALLS = st.lists(
    st.tuples(
        st.sampled_from(["borrow", "repay", "supply", "withdraw", "pledge", "take", "liquidate", "liquidate"]),
        st.sampled_from([ALICE, BOB, LENDER]),
        st.integers(1, 3_000 * E6),
        st.sampled_from([1_000, 1_600, 1_900, 2_000, 2_500]),
        st.integers(0, 3_000_000),
    ),
    max_size=16,
)
PER_ETHER = E18 // (2_000 * E6)


@settings(max_examples=60, deadline=None)
@given(CALLS, st.booleans(), st.booleans())
def test_laws(calls: list[tuple[str, AccountId, int, int, int]], recompute: bool, protected: bool) -> None:
    state, time = book(protected=E18 // 3, curve=STEEP, ri=10**9, recompute=recompute), START
    screens: dict[AccountId, LinearExposure] = {}
    pledge = KEPT_WETH if protected else WETH
    for kind, who, amount, usd, seconds in calls:
        time += seconds
        now, prices = Clock(10 + time, 0, time), at(usd)
        before = state.accrued(time)
        for account, form in screens.items():
            if form.until is not None and time <= form.until and SILO_V2.pairs(state, account, prices, now):
                assert form.constant + sum(w * prices.oracle[asset] for asset, w in form.weights.items()) < 0
        if kind == "liquidate":
            order = Order(who, Pair(USDC, WETH), KEEPER, repay=amount, receive_collateral_token=bool(amount % 2))
            found = SILO_V2.quote(state, order, prices, now)
            assert isinstance(found, Refusal) or not is_solvent(state, state.of(who), before, prices.oracle)
        else:
            asked = {
                "borrow": moved(who, USDC, "debt", 1, "borrow", amount),
                "repay": moved(who, USDC, "debt", -1, "repay", amount),
                "supply": moved(who, USDC, "collateral", 1, "supply", amount),
                "withdraw": moved(who, USDC, "collateral", -1, "withdraw", amount),
                "pledge": moved(who, pledge, "collateral", 1, "supply", amount * PER_ETHER),
                "take": moved(who, pledge, "collateral", -1, "withdraw", amount * PER_ETHER),
            }[kind]
            found = SILO_V2.act(state, Action(asked.action, (asked,)), prices, now)  # type: ignore[assignment]
        if not isinstance(found, Refusal):
            owed = state.of(who).owed[1]
            for change in found.changes:
                SILO_V2.apply(state, change)
            people = state.positions.values()
            for n in SILOS:
                silo, was = state.silos[n], before[n]
                assert sum(has.lent[n] for has in people) == silo.collateral_shares
                assert sum(has.protected[n] for has in people) == silo.protected_shares
                assert sum(has.owed[n] for has in people) == silo.debt_shares
                assert min(silo.collateral, silo.protected, silo.debt) >= 0
                if silo.updated != time:  # this call did not touch it
                    continue
                # Of what is lent a share is worth no less after a call, of what is owed no more.
                assert silo.lent.assets_down(10**40) >= was.lent.assets_down(10**40)
                if silo.debt_shares and was.debt_shares:
                    assert silo.owed.assets_down(10**40) <= was.owed.assets_up(10**40)
            if isinstance(found, Fill):
                assert found.seized * usd // 10**12 <= found.repaid * 105 // 100 + 1
                assert state.of(who).owed[1] < owed
        screens = {
            account: form
            for account in (ALICE, BOB)
            if isinstance(form := SILO_V2.exposure(state, account, now), LinearExposure)
        }


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3_000 * E6), st.integers(1, 4_000), st.integers(0, 6 * 3_600))
def test_health_says_what_the_contract_says_and_the_screen_never_misses(owed: int, usd: int, seconds: int) -> None:
    """The screen of the first moment holds for six hours, at whatever price."""
    state = book(0, curve=STEEP, ri=10**9)
    SILO_V2.apply(state, moved(ALICE, USDC, "debt", owed, "borrow", owed))
    form = SILO_V2.exposure(state, ALICE, Clock(10, 0, START))
    now, prices = Clock(11, 0, START + seconds), at(usd)
    assert isinstance(form, LinearExposure)
    assert form.until == START + 6 * 3_600
    health = SILO_V2.view(state, ALICE, prices, now).health
    assert health is not None
    insolvent = bool(SILO_V2.pairs(state, ALICE, prices, now))
    assert insolvent == (health < WAD)
    form_now = form.constant + sum(weight * prices.oracle[asset] for asset, weight in form.weights.items())
    assert not insolvent or form_now < 0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**30), st.integers(1, 10**30), st.integers(0, WAD), st.integers(0, WAD // 2))
def test_a_repayment_is_all_or_at_most_ninety_percent(debt: int, collateral: int, target: int, fee: int) -> None:
    repaid = max_repay_down(debt, collateral, target, fee)
    assert repaid == debt or 0 <= repaid * WAD // debt <= FULL_LIQUIDATION
