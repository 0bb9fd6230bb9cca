"""What every call begins with: interest is minted and recorded, and what a trove has pending becomes its own.

Source: liquity/bold at b40fa9b9, ``ActivePool.sol`` ``mintAggInterestAndAccountForTroveChange``, ``TroveManager.sol``
``_updateBatchShares``, ``_removeTroveSharesFromBatch``, ``_movePendingTroveRewardsToActivePool``, ``_closeTrove``.
"""

from __future__ import annotations

from backtest.model import AccountId, Clock, ParamChange, PositionChange, SettingChange
from backtest.protocols.changes import parameter_change, position_change
from backtest.protocols.liquity_v2.math import POOL_LEAST, POOL_SHARE
from backtest.protocols.liquity_v2.state import (
    ACTIVE,
    BOLD,
    COLL,
    DEFAULT,
    INTEREST,
    POOL,
    REBATCH,
    REDISTRIBUTED,
    REDISTRIBUTION,
    UPFRONT,
    BranchState,
    Latest,
    apply,
)
from backtest.units import WAD

Change = PositionChange | SettingChange | ParamChange


def minted(state: BranchState, now: Clock, *, fee: int = 0, other: int = 0, action: str = INTEREST) -> list[Change]:
    """Interest of all troves since the last call, and an upfront fee: three quarters of it are the stability pool's.
    ``other`` is what else recorded debt changes by.
    """
    amount = state.pending_interest(now.timestamp) + fee
    changes: list[Change] = [
        position_change(now, ACTIVE, BOLD, "collateral", amount, action=action),
        position_change(now, ACTIVE, BOLD, "debt", amount + other, action=action),
    ]
    gets = amount * POOL_SHARE // WAD
    if gets and state.pool_deposits >= POOL_LEAST:
        changes.append(position_change(now, POOL, BOLD, "debt", state.yield_pending + gets, action=action))
    return changes


def batch_touched(
    state: BranchState, batch: AccountId, now: Clock, by: int = 0, action: str = INTEREST
) -> list[Change]:
    """A batch's interest and management fee are recorded, and its debt changes by ``by``."""
    grown = sum(state.accrued(state.batches[batch], now.timestamp))
    changes: list[Change] = [position_change(now, batch, BOLD, "debt", grown, action=action)]
    if by:
        own = REBATCH if action == INTEREST else action
        changes.append(position_change(now, batch, BOLD, "debt", by, action=own))
    return changes


def management_fee(state: BranchState, batch: AccountId | None, now: Clock) -> int:
    """What a batch's manager is about to be minted."""
    return 0 if batch is None else state.accrued(state.batches[batch], now.timestamp)[1]


def given(account: AccountId, latest: Latest, now: Clock) -> list[Change]:
    """Collateral and debt that redistributions gave a trove leave the DefaultPool; the collateral is its own."""
    return [
        *_taken(latest, now, REDISTRIBUTION),
        position_change(now, account, COLL, "collateral", latest.shared_coll, action=REDISTRIBUTION),
    ]


def _taken(latest: Latest, now: Clock, action: str) -> list[Change]:
    pending = ((COLL, "collateral", latest.shared_coll), (BOLD, "debt", latest.shared_debt))
    return [position_change(now, DEFAULT, asset, side, -by, action=action) for asset, side, by in pending if by]  # type: ignore[arg-type]


def shares_of(state: BranchState, account: AccountId, by: int, debt_after: int, now: Clock) -> int:
    """By how many shares of its batch a trove changes with ``by`` more debt, cut; with no debt left by all."""
    trove = state.trove(account)
    assert trove.batch is not None
    batch = state.batches[trove.batch]
    whole = batch.debt + sum(state.accrued(batch, now.timestamp))
    if by < 0 and not debt_after:
        return -trove.shares
    if not whole:
        return by
    return batch.shares * by // whole if by > 0 else -(batch.shares * -by // whole)


def touched(
    state: BranchState,
    account: AccountId,
    latest: Latest,
    now: Clock,
    *,
    by_debt: int = 0,
    fee: int = 0,
    action: str = INTEREST,
    amount: int | None = None,
) -> list[Change]:
    """Interest is minted, what the trove has pending becomes its own, and its debt changes by a fee and ``by_debt``
    (named ``action``); ``latest`` is the trove as the contract has read it.
    """
    batch = state.trove(account).batch
    other = latest.shared_debt + by_debt + management_fee(state, batch, now)
    changes = [*minted(state, now, fee=fee, other=other), *given(account, latest, now)]
    if batch is None:
        steps = [(latest.shared_debt, REDISTRIBUTION), (latest.interest, INTEREST), (fee, UPFRONT)]
        for by, name in steps:
            if by or name == INTEREST:
                changes.append(position_change(now, account, BOLD, "debt", by, action=name))
        by = by_debt
    else:
        net = latest.shared_debt + fee + by_debt
        changes += batch_touched(state, batch, now, net)
        by = shares_of(state, account, net, latest.debt + fee + by_debt, now)
    if by or action != INTEREST:
        changes.append(position_change(now, account, BOLD, "debt", by, action=action, amount=amount))
    return changes


def gone(state: BranchState, account: AccountId, latest: Latest, now: Clock, action: str) -> list[Change]:
    """A trove is closed, by its owner or by a liquidation: all that it has and owes leaves it."""
    trove, own = state.trove(account), latest.debt - latest.shared_debt
    name = action if action == "liquidation" else INTEREST
    changes = minted(state, now, other=management_fee(state, trove.batch, now) - own, action=name)
    changes += _taken(latest, now, action if action == "liquidation" else REDISTRIBUTION)
    if trove.batch is not None:
        changes += batch_touched(state, trove.batch, now, -own, name)
    changes.append(position_change(now, account, COLL, "collateral", -trove.coll, amount=latest.coll, action=action))
    stored = trove.debt if trove.batch is None else trove.shares
    changes.append(position_change(now, account, BOLD, "debt", -stored, amount=latest.debt, action=action))
    return changes


def moves_many(state: BranchState, now: Clock) -> ParamChange:
    """Debts of many troves are no longer what they were: they have to be looked at."""
    return parameter_change(now, REDISTRIBUTED, state.params.get(REDISTRIBUTED, 0) + 1)


def after(state: BranchState, changes: list[Change]) -> BranchState:
    """The book after them; this one is not changed."""
    found = state.__deepcopy__({})
    for change in changes:
        apply(found, change)
    return found
