"""Users whose actions are made again: whatever was seized, no balance turns negative, what history emptied is empty,
transfers create nothing.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from backtest.model import AccountId, AssetId, PositionChange, Side
from backtest.protocols.book import Book
from backtest.replay.what_if.users import UserActions
from backtest.scenario import Users
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
        amount=abs(delta),
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


@given(steps, st.sampled_from(["skip", "shrink"]))
def test_the_book_stays_possible_and_skipped_actions_conserve_tokens(
    script: list[tuple[str, int, int, int, bool]], refused: str
) -> None:
    pool, described = FixedSpreadPool(), market(("A", 0))
    book = Book.open(pool, described)
    users = UserActions(pool, described, Users(refused=refused), recompute=False)
    book.oracle[ASSET] = 1
    history: Counter[Key] = Counter()
    brought = 0  # collateral that calls brought into the replay, minus what they and seizures took out of it

    def user(action: str, *moves: tuple[int, Side, int], seq: int) -> int:
        """Collateral that the action brings into the replay's book."""
        for account, side, delta in moves:
            history[account, side] += delta
        changes = tuple(change(account, side, delta, action, seq) for account, side, delta in moves)
        made = users.remake(action, changes, book, checked=True)
        for effect in made:
            book.apply(effect)
        for effect in made:
            if isinstance(effect, PositionChange) and effect.delta < 0 and history[effect.account, effect.side] == 0:
                assert not book.state.balances[effect.account].get((ASSET, effect.side))
        return sum(
            effect.delta for effect in made if isinstance(effect, PositionChange) and effect.side == "collateral"
        )

    for seq, (action, account, other, amount, everything) in enumerate(script):
        side: Side = "debt" if action in ("borrow", "repay") else "collateral"
        held = history[account, side]
        amount = held if everything else min(amount, held)
        if action in ("supply", "borrow"):
            brought += user(action, (account, side, amount or 1), seq=seq)
        elif action in ("withdraw", "repay") and amount:
            brought += user(action, (account, side, -amount), seq=seq)
        elif action == "transfer" and amount and account != other:
            assert user(action, (account, side, -amount), (other, side, amount), seq=seq) == 0
        elif action == "seize" and (here := book.state.balances.get(account, {}).get((ASSET, side))):
            taken = change(account, side, -min(amount or 1, here), "liquidation", seq)
            users.modelled(taken)
            book.apply(taken)
            brought += taken.delta
        elif action == "left out" and amount:
            users.historical(change(account, side, -amount, "liquidation", seq))
            history[account, side] -= amount
    assert (
        sum(balance for held in book.state.balances.values() for (_, s), balance in held.items() if s == "collateral")
        == brought
    )


@given(steps)
def test_in_the_book_of_history_every_action_is_history_s_own(script: list[tuple[str, int, int, int, bool]]) -> None:
    """Nothing seized and no rule against it: recorded changes come back as they are."""
    pool, described = FixedSpreadPool(), market(("A", 0))
    book = Book.open(pool, described)
    users = UserActions(pool, described, Users(), recompute=False)
    for seq, (_, account, _, amount, everything) in enumerate(script):
        held = book.state.balances.get(account, {}).get((ASSET, "collateral"), 0)
        delta = -(held if everything else min(held, amount)) if seq % 2 and held else amount
        recorded = (change(account, "collateral", delta, "supply" if delta > 0 else "withdraw", seq),)
        book.oracle[ASSET] = 1
        made = users.remake(recorded[0].action, recorded, book, checked=True)
        assert tuple(made) == recorded
        for effect in made:
            book.apply(effect)
    assert users.counts == []
    assert users.made == len(script)
