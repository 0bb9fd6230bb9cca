"""The effects of one call on a book, in order, all at one clock."""

from __future__ import annotations

from backtest.model import AccountId, AssetId, Clock, IndexUpdate, ParamChange, PositionChange, SettingChange, Side

UNPLACED = -1
"""``seq`` of changes that are not events of the history."""

Effect = PositionChange | SettingChange | IndexUpdate | ParamChange


def param(now: Clock, name: str, asset: AssetId, value: int) -> ParamChange:
    """A market-wide value that a call leaves."""
    return ParamChange(
        seq=UNPLACED,
        block_number=now.block_number,
        log_index=now.log_index,
        timestamp=now.timestamp,
        name=name,
        value=value,
        asset=asset,
    )


class Effects:
    """Collects effects of one ``action``, all at one clock."""

    def __init__(self, now: Clock, action: str) -> None:
        self._now, self._action = now, action
        self.all: list[Effect] = []

    def position(self, account: AccountId, asset: AssetId, side: Side, delta: int) -> None:
        """A change of a scaled balance; none for zero."""
        now = self._now
        if delta:
            self.all.append(
                PositionChange(
                    seq=UNPLACED,
                    block_number=now.block_number,
                    log_index=now.log_index,
                    timestamp=now.timestamp,
                    account=account,
                    asset=asset,
                    side=side,
                    delta=delta,
                    action=self._action,
                    action_seq=UNPLACED,
                )
            )

    def setting(self, account: AccountId, setting: str, asset: AssetId | None, value: int) -> None:
        """A change of an account's own setting."""
        now = self._now
        self.all.append(
            SettingChange(
                seq=UNPLACED,
                block_number=now.block_number,
                log_index=now.log_index,
                timestamp=now.timestamp,
                account=account,
                setting=setting,
                asset=asset,
                value=value,
                action=self._action,
                action_seq=UNPLACED,
            )
        )

    def param(self, name: str, asset: AssetId, value: int) -> None:
        """A market-wide value."""
        self.all.append(param(self._now, name, asset, value))
