"""What holds after any calls: sums of stakes, debts and collateral, what liquidations and redemptions move, and what
the stability pool owes.
"""

from __future__ import annotations

from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId
from backtest.protocols.interface import Acted, Fill, Refusal
from backtest.protocols.liquity_v2.math import split_down
from backtest.protocols.liquity_v2.state import REDEEMED_RATE, BranchState
from backtest.protocols.liquity_v2.touch import minted
from backtest.units import WAD
from tests.protocols.liquity_v2.calls import KINDS, asked
from tests.protocols.liquity_v2.hand import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    E18,
    MANAGER,
    START,
    at,
    branch,
    make,
    opens,
    puts,
    registers,
)

USERS = [ALICE, BOB, CAROL, DAVE, AccountId(9)]
URGENT = 102 * E18 // 100
CALLS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(USERS),
        st.one_of(st.integers(1, 4_000 * E18), st.integers(2_000 * E18, 6_000 * E18)),
        st.integers(400 * E18, 3_000 * E18),
        st.integers(0, 5_000_000),
    ),
    max_size=25,
)


def held(state: BranchState, now: int, slack: int) -> None:
    """Sums over troves, batches and deposits are the system's."""
    troves = list(state.troves.values())
    assert sum(trove.stake for trove in troves) == state.stakes
    assert sum(trove.coll for trove in troves) == state.active_coll
    assert state.weighted == sum(each.debt * each.rate for each in [*troves, *state.batches.values()])
    assert state.weighted_fees == sum(each.debt * each.fee for each in state.batches.values())
    of = state.batches[MANAGER]
    assert of.shares == sum(trove.shares for trove in troves)
    assert of.active == sum(trove.batch == MANAGER and not trove.zombie for trove in troves)
    latest = [state.latest(trove, now) for trove in troves]
    assert 0 <= state.debt(now) - sum(each.debt for each in latest) < slack
    assert 0 <= state.coll - sum(each.coll for each in latest) < slack
    deposits = list(state.deposits.values())
    assert sum(map(state.deposit_of, deposits)) <= state.pool_deposits
    assert sum(map(state.gain_of, deposits)) + sum(state.stashed.values()) <= state.pool_coll
    assert sum(map(state.yield_of, deposits)) <= state.yield_owed


@settings(max_examples=60, deadline=None)
@given(CALLS)
def test_sums_hold_after_any_calls(made_of: list[tuple[str, AccountId, int, int, int]]) -> None:
    """Recorded debt with what is due is never less than the troves' and more only by what is rounded: a unit a call for
    interest and one for fees, a unit a trove, and what redistributions cut per unit staked, under 10^4 units a call.
    """
    state, time = branch(**{REDEEMED_RATE: E18 // 200}), 0
    registers(state, MANAGER)
    opens(state, BOB, 100, 20_000)
    opens(state, ALICE, 3, 3_000, rate=3)
    opens(state, CAROL, 4, 3_500, batch=MANAGER)
    opens(state, DAVE, 10, 9_000, batch=MANAGER)
    puts(state, ALICE, 4_000)
    puts(state, DAVE, 1_300)
    for count, (kind, who, amount, price, later) in enumerate(made_of):
        time += later
        before, now = deepcopy(state), START + time
        made = asked(state, kind, who, amount, price, time)
        assert state == before
        if isinstance(made, Refusal):
            continue
        make(state, made.changes)
        held(state, now, 10**4 * (count + 2))
        assert state.minted - before.minted >= before.pending_interest(now)
        if kind == "liquidate":
            liquidated(before, state, made, now)
        elif kind == "redeem":
            redeemed(before, state, made, price, now)
        elif kind in ("put", "take", "apply", "lower"):
            assert state.debt(now) == before.debt(now)


def liquidated(before: BranchState, state: BranchState, made: Fill, now: int) -> None:
    """Debt goes to the pool's depositors or to other troves, collateral to these, to the caller or to the owner."""
    account = made.order.account
    latest = before.latest(before.trove(account), now)
    paid = before.pool_deposits - state.pool_deposits
    assert account not in state.troves
    assert before.debt(now) - state.debt(now) == paid
    assert made.repaid == latest.debt == paid + (state.default_debt - before.default_debt + latest.shared_debt)
    owner = state.surplus - before.surplus
    assert made.seized + made.protocol_fee + owner == latest.coll
    assert min(made.seized, made.protocol_fee, owner) >= 0
    assert before.coll - state.coll == made.seized + owner + state.pool_coll - before.pool_coll
    assert made.repaid_by_others == made.repaid


def redeemed(before: BranchState, state: BranchState, made: Acted, price: int, now: int) -> None:
    """Debt falls by what was burnt, and collateral by no more than that is worth (2 % more after a shutdown)."""
    assert made.amount is not None
    assert before.debt(now) - state.debt(now) == made.amount
    out = before.coll - state.coll
    most = URGENT if before.shutdown else WAD
    troves = len(before.troves)
    assert 0 <= out * price <= (made.amount + troves) * most
    if not before.shutdown:
        assert (out + 2 * troves) * price >= made.amount * (WAD - E18 // 200)


@given(
    st.integers(1, 10**24),
    st.integers(1, 10**28),
    st.integers(0, 10**28),
    st.integers(1, 10**24),
    st.integers(0, E18),
    st.integers(0, E18 // 5),
    st.integers(0, E18 // 5),
)
def test_a_liquidation_parts_what_there_is(
    coll: int, debt: int, available: int, price: int, share: int, pool: int, more: int
) -> None:
    """To the unit; the pool and the other troves get at most what their debt with its penalty is worth."""
    found = split_down(coll, debt, available, price, share, WAD + pool, WAD + pool + more)
    assert found.offset + found.debt_shared == debt
    assert found.offset <= available
    assert found.to_pool + found.coll_shared + found.gas_coll + found.surplus == coll
    assert min(found) >= 0
    assert found.to_pool * price <= found.offset * (WAD + pool)
    assert found.coll_shared * price <= found.debt_shared * (WAD + pool + more)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_interest_minted_twice_is_at_most_a_unit_more(first: int, second: int) -> None:
    """Rounded up once more; three quarters wait for the pool's depositors."""
    once, twice = branch(), branch()
    for state in (once, twice):
        opens(state, BOB, 100, 20_000)
    make(twice, minted(twice, at(first)))
    for state in (once, twice):
        make(state, minted(state, at(first + second)))
    assert 0 <= twice.minted - once.minted <= 1
    assert abs(twice.yield_pending - once.yield_pending) <= 1
