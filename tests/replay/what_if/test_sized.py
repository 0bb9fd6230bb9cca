"""Which calls of users have an amount that a response may change."""

from __future__ import annotations

import pytest

from backtest.model import AccountId, AssetId, PositionChange, SettingChange
from backtest.protocols.interface import Action
from backtest.replay.what_if.users import _is_sized


def moved(side: str, delta: int, amount: int | None) -> PositionChange:
    return PositionChange(
        seq=1, block_number=1, log_index=0, timestamp=1, account=AccountId(3), asset=AssetId(side == "debt"),
        side=side, delta=delta, action="", action_seq=1, amount=amount,
    )  # fmt: skip


BAND = SettingChange(
    seq=1, block_number=1, log_index=0, timestamp=1, account=AccountId(3), setting="first_band", asset=AssetId(0),
    value=7, action="", action_seq=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "sized"),
    [
        ("supply", (moved("debt", 5, 0), moved("collateral", 100, 100), BAND), False),  # interest comes to the debt
        ("repay", (moved("debt", -40, 40), BAND), False),
        ("borrow", (moved("debt", 45, 40), moved("collateral", 0, 0), BAND), True),
        ("withdraw", (moved("debt", 5, 0), moved("collateral", -100, 100), BAND), True),
        ("borrow", (moved("debt", 45, None),), False),  # history does not say how much was asked for
        ("setting", (BAND,), False),
    ],
)
def test_what_is_borrowed_and_withdrawn_has_another_size_and_nothing_else(
    name: str, changes: tuple[PositionChange | SettingChange, ...], sized: bool
) -> None:
    assert _is_sized(Action(name, changes)) is sized
    assert not _is_sized(Action(name, changes, emptied=frozenset({0})))
