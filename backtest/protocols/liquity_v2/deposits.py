"""Depositors of the stability pool.

Source: liquity/bold at b40fa9b9, ``StabilityPool.sol`` ``provideToSP``, ``withdrawFromSP``, ``claimAllCollGains``.
"""

from __future__ import annotations

from backtest.model import AccountId, Clock, PositionChange
from backtest.protocols.changes import position_change
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.protocols.liquity_v2.math import POOL_LEAST
from backtest.protocols.liquity_v2.state import BOLD, COLL, INTEREST, OFFSET, OWN, POOL, BranchState
from backtest.protocols.liquity_v2.touch import Change, after, minted

SUPPLY, WITHDRAW = "supply", "withdraw"


def deposit(state: BranchState, action: Action, now: Clock) -> Acted | Refusal:
    """Providing, withdrawing (at most what is left), or claiming what an emptied deposit left behind.

    Whether a call left its gains in the pool is told by the change named ``interest`` of its deposit.
    """
    own = [each for each in action.changes if isinstance(each, PositionChange) and each.account not in OWN]
    if not own:
        return Refusal("there is no deposit")
    account = own[0].account
    named = next((each for each in own if each.action in (SUPPLY, WITHDRAW)), None)
    if named is None:
        return claimed(state, account, now)
    amount = (named.amount or 0) if action.amount is None else action.amount
    claims = not any(each.asset == BOLD and each.action == INTEREST for each in own)
    before = state.deposits.get(account)
    if named.action == SUPPLY:
        if not amount:
            return Refusal("nothing is moved")
        return Acted(account, tuple(deposited(state, account, amount, now, claims=claims)), amount)
    if before is None:
        return Refusal("there is no deposit")
    compounded = state.deposit_of(before)
    emptied = any(action.changes[place] is named for place in action.emptied)
    amount = compounded if emptied else min(amount, compounded)
    changes = deposited(state, account, -amount, now, claims=claims)
    if after(state, changes).pool_deposits < POOL_LEAST:
        return Refusal("a BOLD always stays in the stability pool")
    return Acted(account, tuple(changes), amount)


def deposited(state: BranchState, account: AccountId, by: int, now: Clock, *, claims: bool) -> list[Change]:
    """A deposit gets ``by`` more BOLD; its gains are paid out, or kept: yield in the deposit, collateral beside it."""
    changes = minted(state, now)
    then = after(state, changes)
    before, stashed = then.deposits.get(account), then.stashed.get(account, 0)
    left, gain, yields = (then.deposit_of(before), then.gain_of(before), then.yield_of(before)) if before else (0, 0, 0)
    kept = 0 if claims else yields
    sent = stashed + gain if claims else 0
    steps: list[Change] = [
        position_change(now, POOL, COLL, "collateral", -sent, action=OFFSET),
        position_change(now, POOL, BOLD, "collateral", by + kept, action=OFFSET),
        position_change(now, POOL, BOLD, "debt", -yields, action=OFFSET),
    ]
    if before is not None:
        steps.append(position_change(now, account, BOLD, "collateral", left - before.value, action=OFFSET))
    if not claims:
        steps.append(position_change(now, account, BOLD, "collateral", kept, action=INTEREST))
    if gain or stashed:
        steps.append(position_change(now, account, COLL, "collateral", gain - sent, action=OFFSET))
    name = SUPPLY if by > 0 else WITHDRAW
    steps.append(position_change(now, account, BOLD, "collateral", by, amount=abs(by), action=name))
    if by > 0 and then.yield_pending and then.pool_deposits + by + kept >= POOL_LEAST:
        steps.append(position_change(now, POOL, BOLD, "debt", then.yield_pending, action=OFFSET))
    return changes + steps


def claimed(state: BranchState, account: AccountId, now: Clock) -> Acted | Refusal:
    """Collateral that was left in the pool is paid out."""
    stashed = state.stashed.get(account, 0)
    if account in state.deposits or not stashed:
        return Refusal("there is a deposit, or nothing to claim")
    return Acted(account, tuple(taken_out(state, account, stashed, now)))


def taken_out(state: BranchState, account: AccountId, stashed: int, now: Clock) -> list[Change]:
    """All collateral that a depositor left in the pool."""
    return [
        *minted(state, now),
        position_change(now, POOL, COLL, "collateral", -stashed, action=OFFSET),
        position_change(now, account, COLL, "collateral", -stashed, action=OFFSET),
    ]
