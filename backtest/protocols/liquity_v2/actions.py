"""What a user's call does in a book that may differ from history's, checked as the contracts check it.

Source: liquity/bold at b40fa9b9, ``BorrowerOperations.sol``; deposits are in ``deposits``, redemptions in
``redemption``.

That users hold the BOLD that they repay or redeem, and accept the fee, is taken as in history. No log says between
which rates a batch's manager or a delegate may choose, and how often: what they did in history they may do here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, PositionChange, SettingChange
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.protocols.liquity.math import ratio_down
from backtest.protocols.liquity_v2.account import price_of, viewed
from backtest.protocols.liquity_v2.deposits import deposit
from backtest.protocols.liquity_v2.math import (
    COOLDOWN,
    FEE_MOST,
    RATE_LEAST,
    RATE_MOST,
    SHARES_RATIO_MOST,
    average_down,
    upfront_fee_down,
)
from backtest.protocols.liquity_v2.redemption import REDEEM, redeem, urgent
from backtest.protocols.liquity_v2.state import (
    ACTIVE,
    BOLD,
    CLOSE,
    COLL,
    INTEREST,
    OPEN,
    OWN,
    POOL,
    REBATCH,
    REDISTRIBUTION,
    UPFRONT,
    BranchState,
    Latest,
)
from backtest.protocols.liquity_v2.touch import (
    Change,
    batch_touched,
    given,
    gone,
    management_fee,
    minted,
    moves_many,
    touched,
)
from backtest.units import WAD

SUPPLY, WITHDRAW, BORROW, REPAY = "supply", "withdraw", "borrow", "repay"
RATE, JOIN, LEAVE, KICK, REGISTER, LOWER, SHUTDOWN, APPLY = (
    "set_rate", "join_batch", "leave_batch", "kick", "register_batch", "lower_fee", "shutdown", "apply",
)  # fmt: skip
ORACLE_FAILED = "oracle_failure"
Prices = Mapping[AssetId, int]
_WITHIN = frozenset({REDISTRIBUTION, INTEREST, UPFRONT, REBATCH})


def act(state: BranchState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. A call asks for the amounts of history's changes; where it closes the trove, for all
    of it.
    """
    moves = [each for each in action.changes if isinstance(each, PositionChange)]
    named = [each for each in action.changes if isinstance(each, SettingChange)]
    if not moves and not named:
        return Acted(AccountId(-1), action.changes)
    try:
        price = price_of(state, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    own = [each for each in moves if each.account not in OWN and each.account not in state.batches]
    kinds = {each.action for each in own} | {each.action for each in named}
    if SHUTDOWN in kinds or ORACLE_FAILED in kinds:
        return shut_down(state, price, now, failed=ORACLE_FAILED in kinds)
    if any(each.account == POOL and each.side == "collateral" for each in moves) and REDEEM not in kinds:
        return deposit(state, action, now)
    if REDEEM in kinds:
        first = next(each for each in own if each.action == REDEEM)
        wanted = (first.amount or 0) if action.amount is None else action.amount
        if state.shutdown:
            order = list(dict.fromkeys(each.account for each in own if each.action == REDEEM))
            return urgent(state, order, wanted, price, now)
        return redeem(state, wanted, price, now)
    if CLOSE in kinds:
        return close(state, next(each.account for each in own if each.action == CLOSE), price, now)
    if state.shutdown:
        return Refusal("the branch is shut down")
    settings = {(each.action, each.setting): each for each in named}
    for kind in (REGISTER, LOWER):
        if kind in kinds:
            values = {each.setting: each.value for each in named}
            return registered(state, named[0].account, values, kind, now)
    for (kind, setting), each in settings.items():
        if kind == RATE and each.account in state.batches:
            return batch_rate(state, each.account, each.value, price, now)
        if kind == RATE:
            return new_rate(state, each.account, each.value, price, now)
        if kind == JOIN and setting == "batch":
            return join(state, each.account, AccountId(each.value - 1), price, now)
        if kind in (LEAVE, KICK) and setting == "rate":
            return leave(state, each.account, each.value, price, now, kicked=kind == KICK)
    if OPEN in kinds:
        return _open(state, action, own, named, price, now)
    asked = [each for each in own if each.action not in _WITHIN]
    if not asked:
        return applied(state, own[0].account, now) if own else Refusal("nothing is moved")
    return _adjust(state, action, asked, price, now)


def upfront_fee(
    state: BranchState, debt: int, now: Clock, *, weighted: int, fee: int = 0, redist: int = 0, more: int = 0
) -> int:
    """The fee on ``debt`` at the average rate of all, ``weighted`` being by how much the sum of weighted debts is about
    to change, the rest what recorded debt is (ActivePool.getNewApproxAvgInterestRateFromTroveChange).
    """
    recorded = state.recorded + state.pending_interest(now.timestamp) + redist + more + fee
    return upfront_fee_down(debt, average_down(state.weighted + weighted, recorded))


def _whole(state: BranchState, batch: AccountId, now: Clock) -> int:
    """All debt of a batch (entireDebtWithoutRedistribution)."""
    each = state.batches[batch]
    return each.debt + sum(state.accrued(each, now.timestamp))


def too_many(state: BranchState, batch: AccountId, now: Clock) -> bool:
    """Whether a batch's debt is too much for its shares (TroveManager._requireBelowMaxSharesRatio)."""
    return state.batches[batch].shares * SHARES_RATIO_MOST < _whole(state, batch, now)


def _total_after(state: BranchState, coll: int, debt: int, price: int, now: Clock) -> int:
    """BorrowerOperations._getNewTCRFromTroveChange."""
    return ratio_down(state.coll + coll, state.debt(now.timestamp) + debt, price)


def _least(state: BranchState, *, batched: bool) -> int:
    return state.param("liquidation_ratio") + (state.param("batch_margin") if batched else 0)


_BELOW_LEAST = "the trove would be below the least ratio"
_BELOW_CRITICAL = "all troves of the branch together would be below the critical ratio"


def _open(
    state: BranchState, action: Action, own: Sequence[PositionChange], named: Sequence[SettingChange], price: int,
    now: Clock,
) -> Acted | Refusal:  # fmt: skip
    opens = [each for each in own if each.action == OPEN]
    account = opens[0].account
    coll = next((each.amount or 0 for each in opens if each.asset == COLL), 0)
    drawn = next((each.amount or 0 for each in opens if each.asset == BOLD), 0)
    drawn = drawn if action.amount is None else action.amount
    chosen = {each.setting: each.value for each in named if each.account == account}
    batch = AccountId(chosen["batch"] - 1) if chosen.get("batch") else None
    if batch is not None and batch not in state.batches:
        return Refusal("there is no such batch")
    found = opened(state, account, coll, drawn, chosen.get("rate", 0), batch, price, now)
    if isinstance(found, Refusal):
        return found
    changes, debt = found
    return Acted(account, tuple(changes), drawn, viewed(coll, debt, price, state.param("liquidation_ratio")))


def opened(
    state: BranchState, account: AccountId, coll: int, drawn: int, rate: int, batch: AccountId | None, price: int,
    now: Clock, fee: int | None = None,
) -> tuple[list[Change], int] | Refusal:  # fmt: skip
    """A trove is opened, by itself or in a batch; its changes and its debt. ``fee`` is history's, unchecked
    (BorrowerOperations._openTrove).
    """
    checked, managed = fee is None, management_fee(state, batch, now)
    if batch is None:
        weighted = drawn * rate
    else:
        whole, of = _whole(state, batch, now), state.batches[batch]
        weighted = (whole + drawn) * of.rate - of.debt * of.rate
    if fee is None:
        fee = upfront_fee(state, drawn, now, weighted=weighted, fee=managed, more=drawn)
    debt = drawn + fee
    if checked:
        if account in state.troves:
            return Refusal("the trove is there already")
        if batch is None and not RATE_LEAST <= rate <= RATE_MOST:
            return Refusal("a rate out of bounds")
        if debt < state.param("dust"):
            return Refusal("less debt than the least")
        if ratio_down(coll, debt, price) < _least(state, batched=batch is not None):
            return Refusal(_BELOW_LEAST)
        if _total_after(state, coll, debt, price, now) < state.param("critical_ratio"):
            return Refusal(_BELOW_CRITICAL)
        if batch is not None and too_many(state, batch, now):
            return Refusal("the batch has too much debt for its shares")
    changes = minted(state, now, fee=fee, other=drawn + managed)
    if batch is None:
        chosen = setting_change(now, account, "rate", BOLD, rate, action=OPEN)
        changes.append(position_change(now, account, BOLD, "debt", fee, action=UPFRONT))
        stored = drawn
    else:
        of, whole = state.batches[batch], _whole(state, batch, now)
        stored = of.shares * debt // whole if whole else debt
        chosen = setting_change(now, account, "batch", BOLD, batch + 1, action=OPEN)
        changes += batch_touched(state, batch, now, debt)
    changes += [
        position_change(now, account, BOLD, "debt", stored, amount=drawn, action=OPEN),
        position_change(now, account, COLL, "collateral", coll, amount=coll, action=OPEN),
        chosen,
    ]
    return changes, debt


def _adjust(
    state: BranchState, action: Action, asked: Sequence[PositionChange], price: int, now: Clock
) -> Acted | Refusal:
    """``action.amount`` is asked for of the change that the action is named by, the last."""
    account, amounts = asked[0].account, {each.asset: each.amount or 0 for each in asked}
    if account not in state.troves:
        return Refusal("the trove is not there, or closed")
    if action.amount is not None:
        amounts[asked[-1].asset] = action.amount
    less = {each.asset: each.action in (WITHDRAW, REPAY) for each in asked}
    by_coll = amounts.get(COLL, 0) * (-1 if less.get(COLL) else 1)
    by_debt = amounts.get(BOLD, 0) * (-1 if less.get(BOLD) else 1)
    latest = state.latest(state.trove(account), now.timestamp)
    if by_debt < 0:
        by_debt = -min(-by_debt, max(0, latest.debt - state.param("dust")))
    if not by_coll and not by_debt:
        return Refusal("nothing is moved")
    if latest.coll + by_coll < 0:
        return Refusal("more collateral than there is")
    fee = _fee_of(state, account, latest, by_debt, now) if by_debt > 0 else 0
    why = _valid(state, account, latest, by_coll, by_debt, fee, price, now)
    if why is not None:
        return Refusal(why)
    moved = {COLL: abs(by_coll), BOLD: abs(by_debt)}[asked[-1].asset]
    changes = adjusted(state, account, latest, by_coll, by_debt, fee, now)
    risk = by_coll < 0 or by_debt > 0
    after = latest.coll + by_coll, latest.debt + by_debt + fee
    view = viewed(*after, price, state.param("liquidation_ratio")) if risk else None
    return Acted(account, tuple(changes), moved, view)


def _fee_of(state: BranchState, account: AccountId, latest: Latest, by_debt: int, now: Clock) -> int:
    trove = state.trove(account)
    if trove.batch is None:
        weighted = (latest.debt + by_debt) * trove.rate - trove.debt * trove.rate
    else:
        of = state.batches[trove.batch]
        weighted = (_whole(state, trove.batch, now) + latest.shared_debt + by_debt) * of.rate - of.debt * of.rate
    managed = management_fee(state, trove.batch, now)
    return upfront_fee(state, by_debt, now, weighted=weighted, fee=managed, redist=latest.shared_debt, more=by_debt)


def _valid(
    state: BranchState, account: AccountId, latest: Latest, by_coll: int, by_debt: int, fee: int, price: int, now: Clock
) -> str | None:
    """BorrowerOperations._requireValidAdjustmentInCurrentMode and what comes before it; None: it is."""
    trove, critical = state.trove(account), state.param("critical_ratio")
    coll, debt = latest.coll + by_coll, latest.debt + by_debt + fee
    if debt < state.param("dust"):
        return "less debt than the least"
    if ratio_down(coll, debt, price) < _least(state, batched=trove.batch is not None):
        return _BELOW_LEAST
    total = _total_after(state, by_coll, by_debt + fee, price, now)
    if state.total_ratio(price, now.timestamp) < critical:
        if by_debt > 0 and total < critical:
            return _BELOW_CRITICAL
        if max(0, -by_debt) * WAD < max(0, -by_coll) * price:
            return "below the critical ratio collateral is withdrawn against a repayment of its value only"
    elif total < critical:
        return _BELOW_CRITICAL
    net = by_debt + fee + latest.shared_debt
    if trove.batch is not None and net > 0 and too_many(state, trove.batch, now):
        return "the batch has too much debt for its shares"
    return None


def adjusted(
    state: BranchState, account: AccountId, latest: Latest, by_coll: int, by_debt: int, fee: int, now: Clock
) -> list[Change]:
    """A trove gets this much more collateral and debt, and one that was too small is in the list again."""
    name = BORROW if by_debt > 0 else REPAY
    own, amount = (name, abs(by_debt)) if by_debt else (INTEREST, None)
    changes = touched(state, account, latest, now, by_debt=by_debt, fee=fee, action=own, amount=amount)
    if by_coll:
        name = SUPPLY if by_coll > 0 else WITHDRAW
        changes.append(position_change(now, account, COLL, "collateral", by_coll, amount=abs(by_coll), action=name))
    if state.trove(account).zombie:
        changes.append(setting_change(now, account, "zombie", BOLD, 0, action=name))
    return changes


def close(state: BranchState, account: AccountId, price: int, now: Clock) -> Acted | Refusal:
    """BorrowerOperations.closeTrove."""
    if account not in state.troves:
        return Refusal("the trove is not there, or closed")
    latest = state.latest(state.trove(account), now.timestamp)
    if not state.shutdown:
        if _total_after(state, -latest.coll, -latest.debt, price, now) < state.param("critical_ratio"):
            return Refusal(_BELOW_CRITICAL)
        if len(state.troves) < 2:
            return Refusal("it is the only trove of the branch")
    return Acted(account, tuple(gone(state, account, latest, now, CLOSE)), latest.coll)


def applied(state: BranchState, account: AccountId, now: Clock) -> Acted | Refusal:
    """BorrowerOperations.applyPendingDebt."""
    trove = state.troves.get(account)
    if trove is None:
        return Refusal("the trove is not there, or closed")
    latest = state.latest(trove, now.timestamp)
    if not latest.debt:
        return Refusal("the trove owes nothing")
    if trove.batch is not None and latest.shared_debt and too_many(state, trove.batch, now):
        return Refusal("the batch has too much debt for its shares")
    changes = touched(state, account, latest, now)
    if trove.zombie and latest.debt >= state.param("dust"):
        changes += active_again(account, now)
    return Acted(account, tuple(changes))


def active_again(account: AccountId, now: Clock) -> list[Change]:
    """A trove that was too small is in the list again, by what it was given."""
    return [setting_change(now, account, "zombie", BOLD, 0, action=APPLY)]


def _premature(
    state: BranchState, latest: Latest, fee: int, price: int, now: Clock, *, batched: bool
) -> Refusal | None:
    """BorrowerOperations._applyUpfrontFee."""
    if ratio_down(latest.coll, latest.debt + fee, price) < _least(state, batched=batched):
        return Refusal(_BELOW_LEAST)
    if _total_after(state, 0, fee, price, now) < state.param("critical_ratio"):
        return Refusal(_BELOW_CRITICAL)
    return None


def new_rate(state: BranchState, account: AccountId, rate: int, price: int, now: Clock) -> Acted | Refusal:
    """BorrowerOperations.adjustTroveInterestRate."""
    trove = state.troves.get(account)
    if trove is None or trove.zombie or trove.batch is not None:
        return Refusal("the trove is not there, too small, or in a batch")
    if rate == trove.rate or not RATE_LEAST <= rate <= RATE_MOST:
        return Refusal("a rate out of bounds, or the one it has")
    latest, fee = state.latest(trove, now.timestamp), 0
    if now.timestamp < trove.adjusted + COOLDOWN:
        weighted = latest.debt * rate - trove.debt * trove.rate
        fee = upfront_fee(state, latest.debt, now, weighted=weighted, redist=latest.shared_debt)
        if (refused := _premature(state, latest, fee, price, now, batched=False)) is not None:
            return refused
    return Acted(account, tuple(rated_anew(state, account, latest, rate, fee, now)))


def rated_anew(state: BranchState, account: AccountId, latest: Latest, rate: int, fee: int, now: Clock) -> list[Change]:
    """A trove's own rate is another."""
    return [
        *touched(state, account, latest, now, fee=fee),
        setting_change(now, account, "rate", BOLD, rate, action=RATE),
    ]


def registered(
    state: BranchState, batch: AccountId, values: Mapping[str, int], kind: str, now: Clock
) -> Acted | Refusal:
    """BorrowerOperations.registerBatchManager, lowerBatchManagementFee."""
    fee = values["management_fee"]
    if kind == REGISTER:
        if batch in state.batches:
            return Refusal("the batch is there already")
        if fee > FEE_MOST or not RATE_LEAST <= values["rate"] <= RATE_MOST:
            return Refusal("a rate or a fee out of bounds")
        return Acted(batch, tuple(registering(batch, values["rate"], fee, now)))
    if batch not in state.batches or fee >= state.batches[batch].fee:
        return Refusal("there is no such batch, or the fee is not lower")
    return Acted(batch, tuple(lowered(state, batch, fee, now)))


def registering(batch: AccountId, rate: int, fee: int, now: Clock) -> list[Change]:
    """A batch without troves."""
    return [
        setting_change(now, batch, "management_fee", BOLD, fee, action=REGISTER),
        setting_change(now, batch, "rate", BOLD, rate, action=REGISTER),
    ]


def lowered(state: BranchState, batch: AccountId, fee: int, now: Clock) -> list[Change]:
    """A batch's manager takes less."""
    return [
        *minted(state, now, other=management_fee(state, batch, now)),
        *batch_touched(state, batch, now),
        setting_change(now, batch, "management_fee", BOLD, fee, action=LOWER),
    ]


def batch_rate(state: BranchState, batch: AccountId, rate: int, price: int, now: Clock) -> Acted | Refusal:
    """BorrowerOperations.setBatchManagerAnnualInterestRate."""
    of, fee = state.batches[batch], 0
    if not RATE_LEAST <= rate <= RATE_MOST:
        return Refusal("a rate out of bounds")
    if rate != of.rate and now.timestamp < of.adjusted + COOLDOWN:
        whole, managed = _whole(state, batch, now), management_fee(state, batch, now)
        fee = upfront_fee(state, whole, now, weighted=whole * rate - of.debt * of.rate, fee=managed)
        if _total_after(state, 0, fee, price, now) < state.param("critical_ratio"):
            return Refusal(_BELOW_CRITICAL)
    return Acted(batch, tuple(batch_rated(state, batch, rate, fee, now)))


def batch_rated(state: BranchState, batch: AccountId, rate: int, fee: int, now: Clock) -> list[Change]:
    """A batch's rate is another; the fee is all its troves'."""
    return [
        *minted(state, now, fee=fee, other=management_fee(state, batch, now)),
        *batch_touched(state, batch, now, fee),
        setting_change(now, batch, "rate", BOLD, rate, action=RATE),
        moves_many(state, now),
    ]


def join(state: BranchState, account: AccountId, batch: AccountId, price: int, now: Clock) -> Acted | Refusal:
    """BorrowerOperations.setInterestBatchManager."""
    trove = state.troves.get(account)
    if trove is None or trove.zombie or trove.batch is not None or batch not in state.batches:
        return Refusal("the trove is not there, too small, or in a batch; or there is no such batch")
    latest, of = state.latest(trove, now.timestamp), state.batches[batch]
    weighted = (_whole(state, batch, now) + latest.debt) * of.rate - of.debt * of.rate - trove.debt * trove.rate
    managed = management_fee(state, batch, now)
    fee = upfront_fee(state, latest.debt, now, weighted=weighted, fee=managed, redist=latest.shared_debt)
    if (refused := _premature(state, latest, fee, price, now, batched=True)) is not None:
        return refused
    if _whole(state, batch, now) and too_many(state, batch, now):
        return Refusal("the batch has too much debt for its shares")
    return Acted(account, tuple(joined(state, account, latest, batch, fee, now)))


def joined(
    state: BranchState, account: AccountId, latest: Latest, batch: AccountId, fee: int, now: Clock
) -> list[Change]:
    """A trove's debt becomes shares of a batch's."""
    trove, of, debt = state.trove(account), state.batches[batch], latest.debt + fee
    whole = _whole(state, batch, now)
    shares = of.shares * debt // whole if whole else debt
    return [
        *minted(state, now, fee=fee, other=latest.shared_debt + management_fee(state, batch, now)),
        *given(account, latest, now),
        position_change(now, account, BOLD, "debt", -trove.debt, action=REBATCH),
        *batch_touched(state, batch, now, debt),
        position_change(now, account, BOLD, "debt", shares, action=REBATCH),
        setting_change(now, account, "rate", BOLD, 0, action=JOIN),
        setting_change(now, account, "batch", BOLD, batch + 1, action=JOIN),
    ]


def leave(
    state: BranchState, account: AccountId, rate: int, price: int, now: Clock, *, kicked: bool
) -> Acted | Refusal:
    """BorrowerOperations._removeFromBatch."""
    trove = state.troves.get(account)
    if trove is None or trove.batch is None or (trove.zombie and not kicked):
        return Refusal("the trove is not there, too small, or in no batch")
    of, latest, fee = state.batches[trove.batch], state.latest(trove, now.timestamp), 0
    if kicked:
        if not too_many(state, trove.batch, now):
            return Refusal("the batch does not have too much debt for its shares")
        rate = of.rate
    elif not RATE_LEAST <= rate <= RATE_MOST:
        return Refusal("a rate out of bounds")
    if rate != of.rate and now.timestamp < max(of.adjusted, trove.adjusted) + COOLDOWN:
        stays = _whole(state, trove.batch, now) - latest.debt + latest.shared_debt
        weighted = stays * of.rate + latest.debt * rate - of.debt * of.rate
        managed = management_fee(state, trove.batch, now)
        fee = upfront_fee(state, latest.debt, now, weighted=weighted, fee=managed, redist=latest.shared_debt)
        if (refused := _premature(state, latest, fee, price, now, batched=False)) is not None:
            return refused
    return Acted(account, tuple(left(state, account, latest, rate, fee, now, kicked=kicked)))


def left(
    state: BranchState, account: AccountId, latest: Latest, rate: int, fee: int, now: Clock, *, kicked: bool
) -> list[Change]:
    """A trove's shares of a batch's debt become its own debt."""
    trove, name = state.trove(account), KICK if kicked else LEAVE
    assert trove.batch is not None
    return [
        *minted(state, now, fee=fee, other=latest.shared_debt + management_fee(state, trove.batch, now)),
        *batch_touched(state, trove.batch, now, latest.shared_debt - latest.debt),
        *given(account, latest, now),
        position_change(now, account, BOLD, "debt", -trove.shares, action=REBATCH),
        position_change(now, account, BOLD, "debt", latest.debt + fee, action=REBATCH),
        setting_change(now, account, "batch", BOLD, 0, action=name),
        setting_change(now, account, "rate", BOLD, rate, action=name),
    ]


def shut_down(state: BranchState, price: int, now: Clock, *, failed: bool) -> Acted | Refusal:
    """BorrowerOperations.shutdown, shutdownFromOracleFailure."""
    if state.shutdown:
        return Refusal("the branch is shut down already")
    if not failed and state.total_ratio(price, now.timestamp) >= state.param("shutdown_ratio"):
        return Refusal("all troves of the branch together are not below the shutdown ratio")
    return Acted(ACTIVE, tuple(ended(state, now, failed=failed)))


def ended(state: BranchState, now: Clock, *, failed: bool) -> list[Change]:
    """No interest from now on."""
    name = ORACLE_FAILED if failed else SHUTDOWN
    return [*minted(state, now), setting_change(now, ACTIVE, "shutdown", BOLD, now.timestamp, action=name)]
