"""Users' calls of a played market as actions: those that a history records, and those that were refused."""

from __future__ import annotations

from collections.abc import Sequence

from backtest.model import AccountId, Asset, PositionChange, SettingChange, Side
from backtest.protocols.aave_v2.state import AaveV2State
from backtest.protocols.interface import Action
from tests.chain.aave_v2 import STABLE, Request
from tests.chain.node import UINT256_MAX

Change = PositionChange | SettingChange


def recorded(state: AaveV2State, changes: Sequence[Change]) -> Action:
    """The action that these changes are, with the balances that they empty."""
    emptied = set()
    for place, change in enumerate(changes):
        if isinstance(change, PositionChange):
            book = state.accounts.get(change.account)
            side = {} if book is None else book.debt if change.side == "debt" else book.collateral
            if side.get(change.asset, 0) + change.delta == 0:
                emptied.add(place)
    return Action(changes[0].action, tuple(changes), frozenset(emptied))


def refused(request: Request, account: AccountId, other: AccountId, asset: Asset) -> Action | None:
    """The action that a refused call asked for; None for one whose refusal is history's alone."""
    kind, place = request.kind, {"seq": 1, "block_number": request.block, "log_index": 0, "timestamp": 0}
    all_of_it = request.amount == UINT256_MAX

    def move(name: str, side: Side, delta: int, who: AccountId = account) -> PositionChange:
        amount = None if all_of_it else request.amount
        return PositionChange(
            **place, account=who, asset=asset.id, side=side, delta=delta, action=name, action_seq=1, amount=amount
        )

    def terms(name: str, moved: int, principal: int = 1) -> list[Change]:
        values = {
            "stable_principal": principal,
            "stable_rate": 10**25,
            "stable_since": 1,
            "stable_loan_rate": 10**25,
            "stable_moved": moved,
        }
        return [
            SettingChange(
                **place, account=account, setting=setting, asset=asset.id, value=value, action=name, action_seq=1
            )
            for setting, value in values.items()
        ]

    changes: list[Change]
    if kind == "deposit":
        changes = [move("supply", "collateral", 1)]
    elif kind.startswith("withdraw"):
        changes = [move("withdraw", "collateral", -1)]
    elif kind == "borrow":
        changes = [move("borrow", "debt", 1)]
    elif kind == "borrow stable":
        changes = terms("borrow", request.amount)
    elif kind in ("repay", "repay all"):
        changes = [move("repay", "debt", -1)]
    elif kind == "repay stable":
        changes = terms("repay", -request.amount, principal=0 if all_of_it else 1)
    elif kind.startswith("transfer"):
        changes = [move("transfer", "collateral", -1), move("transfer", "collateral", 1, other)]
    elif kind == "collateral":
        flag = terms("collateral-flag", 0)[0]
        changes = [
            SettingChange(
                **place,
                account=account,
                setting="collateral_enabled",
                asset=asset.id,
                value=request.amount,
                action=flag.action,
                action_seq=1,
            )
        ]
    elif kind == "swap":
        to_variable = request.amount == STABLE
        changes = [*terms("other", -1 if to_variable else 1), move("other", "debt", 1 if to_variable else -1)]
    else:
        return None
    return Action(changes[0].action, tuple(changes), frozenset({0} if all_of_it else ()))
