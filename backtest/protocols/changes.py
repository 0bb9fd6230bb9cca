"""Changes of a book that are not of the history: what a liquidation or a user's call does in a replay."""

from __future__ import annotations

from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange, SettingChange, Side

UNPLACED = -1
"""``seq`` (and ``action_seq``) of what is no event of the history."""


def unplaced(now: Clock) -> dict[str, int]:
    """The fields of an ``Event`` that is not of the history, at ``now``."""
    return {"seq": UNPLACED, "block_number": now.block_number, "log_index": now.log_index, "timestamp": now.timestamp}


def position_change(
    now: Clock,
    account: AccountId,
    asset: AssetId,
    side: Side,
    delta: int,
    *,
    amount: int | None = None,
    action: str = "liquidation",
) -> PositionChange:
    """``delta`` scaled units more on one side of an account; ``amount`` as in ``PositionChange``."""
    return PositionChange(
        seq=UNPLACED,
        block_number=now.block_number,
        log_index=now.log_index,
        timestamp=now.timestamp,
        account=account,
        asset=asset,
        side=side,
        delta=delta,
        action=action,
        action_seq=UNPLACED,
        amount=amount,
    )


def setting_change(
    now: Clock, account: AccountId, name: str, asset: AssetId | None, value: int, *, action: str = "liquidation"
) -> SettingChange:
    """An account's own setting takes a value."""
    return SettingChange(
        seq=UNPLACED,
        block_number=now.block_number,
        log_index=now.log_index,
        timestamp=now.timestamp,
        account=account,
        setting=name,
        asset=asset,
        value=value,
        action=action,
        action_seq=UNPLACED,
    )


def parameter_change(now: Clock, name: str, value: int, asset: AssetId | None = None) -> ParamChange:
    """A parameter, or what else is of an asset or of the market as a whole, takes a value."""
    return ParamChange(
        seq=UNPLACED,
        block_number=now.block_number,
        log_index=now.log_index,
        timestamp=now.timestamp,
        name=name,
        value=value,
        asset=asset,
    )
