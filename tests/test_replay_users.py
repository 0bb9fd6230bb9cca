"""Frozen users: whatever the model seized, no balance turns negative, what history emptied is empty, transfers create nothing."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from backtest.model import AccountId, AssetId, PositionChange, Side
from backtest.replay.book import Book
from backtest.replay.users import FrozenUsers
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import market

ASSET = AssetId(0)
Key = tuple[int, Side]


def change(account: int, side: Side, delta: int, action: str, seq: int) -> PositionChange:
    return PositionChange(
        seq=seq,
        block_number=seq,
        log_index=0,
        timestamp=seq,
        account=AccountId(account),
        asset=ASSET,
        side=side,
        delta=delta,
        action=action,
        action_seq=seq,
    )


steps = st.lists(
    st.tuples(
        st.sampled_from(["supply", "borrow", "withdraw", "repay", "transfer", "seize", "left out"]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(1, 100),
        st.booleans(),
    ),
    max_size=60,
)


@given(steps)
def test_the_book_stays_possible(script: list[tuple[str, int, int, int, bool]]) -> None:
    users, book = FrozenUsers(), Book.open(FixedSpreadPool(), market(("A", 0)))
    book.oracle[ASSET] = 1
    history: Counter[Key] = Counter()
    here: Counter[Key] = Counter()
    created = 0  # tokens that the replay has more than history, collateral side

    def user(account: int, side: Side, delta: int, action: str, seq: int) -> int:
        key: Key = (account, side)
        history[key] += delta
        made = users.adapt(change(account, side, delta, action, seq), book)
        applied = sum(part.delta for part in made if isinstance(part, PositionChange))
        here[key] += applied
        assert here[key] >= 0
        if delta < 0 and history[key] == 0:
            assert here[key] == 0
        return applied - delta

    for seq, (action, account, other, amount, everything) in enumerate(script):
        side: Side = "debt" if action in ("borrow", "repay") else "collateral"
        held = history[account, side]
        amount = held if everything else min(amount, held)
        if action in ("supply", "borrow"):
            assert user(account, side, amount or 1, action, seq) == 0
        elif action in ("withdraw", "repay") and amount:
            created += user(account, side, -amount, action, seq) if side == "collateral" else 0 * user(account, side, -amount, action, seq)
        elif action == "transfer" and amount and account != other:
            given_more = user(account, side, -amount, action, seq)
            taken_more = user(other, side, amount, action, seq)
            assert given_more + taken_more == 0
        elif action == "seize" and here[account, side]:
            seized = min(amount or 1, here[account, side])
            users.modelled(change(account, side, -seized, "liquidation", seq))
            here[account, side] -= seized
            created -= seized
        elif action == "left out" and amount:
            users.historical(change(account, side, -amount, "liquidation", seq))
            history[account, side] -= amount
            created += amount
    total = sum(here[a, "collateral"] - history[a, "collateral"] for a in range(4))
    assert total == created
    if not any(action in ("seize", "left out") for action, *_ in script):
        assert here == history
        assert not users.clamped
