"""What holds after any calls: sums of stakes, debts and collateral, what deposits are worth, and the pool's product."""

from __future__ import annotations

from copy import deepcopy

from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.model import AccountId, PositionChange
from backtest.protocols.interface import Acted, Fill
from backtest.protocols.liquity_v1 import LIQUITY_V1
from backtest.protocols.liquity_v1.state import ETH, LUSD, POOL, LiquityState
from tests.protocols.liquity_v1.hand import (
    ALICE,
    BOB,
    CALLER,
    CAROL,
    DAVE,
    E18,
    acted,
    moved,
    opened,
    opens,
    puts,
    quoted,
)

USERS = [AccountId(number) for number in range(2, 7)]
CALLS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "liquidate",
                "liquidate",
                "liquidate",
                "supply",
                "withdraw",
                "borrow",
                "repay",
                "open",
                "close",
                "redeem",
                "put",
                "take",
            ]
        ),
        st.sampled_from(USERS),
        st.integers(1, 4_000 * E18),
        st.integers(400 * E18, 3_000 * E18),
    ),
    max_size=30,
)


def call(state: LiquityState, kind: str, who: AccountId, amount: int, price: int) -> Acted | Fill | None:
    """Makes a call, where it does not revert."""
    ether = amount // 500
    asked: dict[str, list[PositionChange]] = {
        "supply": [moved(who, ETH, "collateral", 1, "supply", ether)],
        "withdraw": [moved(who, ETH, "collateral", -1, "withdraw", ether)],
        "borrow": [moved(who, LUSD, "debt", 1, "borrow", amount)],
        "repay": [moved(who, LUSD, "debt", -1, "repay", amount)],
        "open": opens(who, ether, amount),
        "close": [moved(who, ETH, "collateral", -1, "close"), moved(who, LUSD, "debt", -1, "close")],
        "redeem": [moved(who, LUSD, "debt", -1, "redemption", amount)],
        "put": puts(who, amount),
        "take": [
            moved(POOL, LUSD, "collateral", -1, "offset"),
            moved(who, LUSD, "collateral", -1, "withdraw", amount),
        ],
    }
    lowest = min(state.troves, key=lambda each: state.trove(each).coll * E18 // state.trove(each).debt)
    made = quoted(state, lowest, price // 3) if kind == "liquidate" else acted(state, price, *asked[kind])
    if not isinstance(made, Acted | Fill):
        return None
    for change in made.changes:
        LIQUITY_V1.apply(state, change)
    return made


@settings(max_examples=80, deadline=None)
@given(CALLS)
def test_sums_hold_and_the_pool_never_owes_more_than_it_has(calls: list[tuple[str, AccountId, int, int]]) -> None:
    """Sums over troves are the system's but for what floors of redistributions keep back, a few units a call; deposits
    and gains together are never more than the pool holds; within an epoch the product never grows.
    """
    troves = ((BOB, 100, 20_000), (ALICE, 3, 3_000), (CAROL, 4, 3_500), (DAVE, 10, 9_000), (CALLER, 6, 2_500))
    state = opened(
        *(opens(who, coll * E18, debt * E18) for who, coll, debt in troves),
        puts(ALICE, 4_000 * E18 + 7),
        puts(DAVE, 1_300 * E18 + 1),
    )
    for kind, who, amount, price in calls:
        before, worth = deepcopy(state), (state.epoch, -state.scale, state.product)
        made = call(state, kind, who, amount, price)
        if made is None:
            assert state == before
            continue
        assert (state.epoch, -state.scale) != worth[:2] or state.product <= worth[2]
        every = list(state.troves.values())
        assert sum(trove.stake for trove in every) == state.stakes
        assert sum(trove.coll for trove in every) == state.active_coll
        assert sum(trove.debt for trove in every) == state.active_debt
        entire = [state.entire(trove) for trove in every]
        slack = 10**4 * (len(calls) + 1)
        assert 0 <= state.coll - sum(coll for coll, _ in entire) < slack
        assert 0 <= state.debt - sum(debt for _, debt in entire) < slack
        deposits = list(state.deposits.values())
        assert sum(map(state.deposit_of, deposits)) <= state.pool_deposits
        assert sum(map(state.gain_of, deposits)) <= state.pool_coll
        assert min(state.default_coll, state.default_debt, state.pool_deposits, state.pool_coll) >= 0
        if kind == "liquidate":
            assert isinstance(made, Fill)
            assert made.paid == 0
            assert made.seized <= before.coll
