"""Calls of any kind on a branch, as the contracts would make them: what each would do, or why it is refused."""

from __future__ import annotations

from typing import Any

from backtest.model import AccountId, Clock
from backtest.protocols.changes import position_change
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.protocols.liquity_v2 import actions as calls
from backtest.protocols.liquity_v2.deposits import deposit
from backtest.protocols.liquity_v2.redemption import redeem, urgent
from backtest.protocols.liquity_v2.state import BOLD, COLL, INTEREST, OFFSET, POOL, BranchState
from backtest.units import WAD
from tests.protocols.liquity_v2.hand import ALICE, E18, MANAGER, acted, at, quoted

KINDS = (
    "liquidate", "liquidate", "liquidate", "open", "open_in", "close", "supply", "withdraw", "borrow", "repay", "rate",
    "batch_rate", "lower", "join", "join", "leave", "redeem", "redeem", "apply", "put", "take", "shutdown",
)  # fmt: skip


def moved(who: AccountId, kind: str, amount: int) -> Any:
    """A trove's collateral or debt changes, as history would tell it."""
    asset, side = (COLL, "collateral") if kind in ("supply", "withdraw") else (BOLD, "debt")
    by = -1 if kind in ("withdraw", "repay") else 1
    return position_change(at(), who, asset, side, by, amount=amount, action=kind)  # type: ignore[arg-type]


def pool_call(state: BranchState, who: AccountId, kind: str, amount: int, now: Clock) -> Acted | Refusal:
    """A deposit or a withdrawal; of odd amounts the gains stay in the pool."""
    by, name = (1, "supply") if kind == "put" else (-1, "withdraw")
    changes = [position_change(now, POOL, BOLD, "collateral", by, action=OFFSET)]
    if amount % 2:
        changes.append(position_change(now, who, BOLD, "collateral", 0, action=INTEREST))
    changes.append(position_change(now, who, BOLD, "collateral", by, amount=amount, action=name))
    return deposit(state, Action(name, tuple(changes)), now)


def ratio(state: BranchState, who: AccountId, now: Clock) -> int:
    """A trove's collateral to its debt, wad."""
    latest = state.latest(state.trove(who), now.timestamp)
    return latest.coll * WAD // (latest.debt or 1)


def asked(state: BranchState, kind: str, who: AccountId, amount: int, price: int, time: int) -> Any:
    """What a call would do, or why the contract refuses it."""
    now, percent = at(time), max(1, price % 40) * E18 // 100
    if kind == "liquidate":
        if not state.troves:
            return Refusal("there is no trove")
        lowest = min(state.troves, key=lambda each: ratio(state, each, now))
        return quoted(state, lowest, price // E18 // 3, time)
    if kind in ("open", "open_in"):
        if state.shutdown:
            return Refusal("the branch is shut down")
        batch = MANAGER if kind == "open_in" else None
        made = calls.opened(state, who, amount // 400, amount, percent, batch, price, now)
        return made if isinstance(made, Refusal) else Acted(who, tuple(made[0]))
    if kind in ("supply", "withdraw", "borrow", "repay"):
        size = amount // 500 if kind in ("supply", "withdraw") else amount
        return acted(state, price // E18, [moved(who, kind, size)], time)
    if kind == "redeem":
        return urgent(state, [who, ALICE], amount, price, now) if state.shutdown else redeem(state, amount, price, now)
    if kind in ("put", "take"):
        return pool_call(state, who, kind, amount, now)
    if kind == "close":
        return calls.close(state, who, price, now)
    if state.shutdown:
        return Refusal("the branch is shut down")
    if kind == "batch_rate":
        return calls.batch_rate(state, MANAGER, percent, price, now)
    if kind == "lower":
        return calls.registered(state, MANAGER, {"management_fee": state.batches[MANAGER].fee // 2}, "lower_fee", now)
    if kind == "join":
        return calls.join(state, who, MANAGER, price, now)
    if kind == "leave":
        return calls.leave(state, who, percent, price, now, kicked=False)
    if kind == "rate":
        return calls.new_rate(state, who, percent, price, now)
    if kind == "apply":
        return calls.applied(state, who, now)
    return calls.shut_down(state, price // 8, now, failed=False)
