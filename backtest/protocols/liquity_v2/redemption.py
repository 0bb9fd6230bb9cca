"""Redemptions: in order of rates, or of any trove once the branch is shut down.

Source: liquity/bold at b40fa9b9, ``TroveManager.sol`` ``redeemCollateral``, ``_redeemCollateralFromTrove``,
``_applySingleRedemption``, ``urgentRedemption``; ``CollateralRegistry.sol`` ``redeemCollateral``.

How much of a redemption a branch gets, and its rate, depend on all branches and on the supply of BOLD: both are
history's, as is the price at which it is made, in proportion to the oracle's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from backtest.model import AccountId, Clock, PositionChange
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.interface import Acted, Refusal
from backtest.protocols.liquity.math import ratio_down
from backtest.protocols.liquity_v2.math import redeemed_down, urgent_down
from backtest.protocols.liquity_v2.state import (
    BOLD,
    COLL,
    POINTED,
    REDEEMED_AT,
    REDEEMED_FOR,
    REDEEMED_RATE,
    ZOMBIE,
    BranchState,
    apply,
)
from backtest.protocols.liquity_v2.touch import Change, batch_touched, management_fee, minted, touched
from backtest.units import WAD

REDEEM = "redemption"


def redeem(state: BranchState, wanted: int, price: int, now: Clock) -> Acted | Refusal:
    """From the lowest rate upwards; of troves below a ratio of one nothing."""
    if state.total_ratio(price, now.timestamp) < state.param("shutdown_ratio"):
        return Refusal("all troves of the branch together are below the shutdown ratio")
    at, paid_at, rate = (state.params.get(name, 0) for name in (REDEEMED_AT, REDEEMED_FOR, REDEEMED_RATE))
    paid = paid_at if price == at or not at else price * paid_at // at
    book, changes, redeemed, first = state.__deepcopy__({}), list[Change](), 0, AccountId(-1)
    for account in state.redeemable():
        if redeemed >= wanted:
            break
        latest = book.latest(book.trove(account), now.timestamp)
        if ratio_down(latest.coll, latest.debt, price) < WAD:
            continue
        begun = begins(book, account, now)
        debt = _debt(book, account, begun, now)
        lot = min(wanted - redeemed, debt)
        coll, _ = redeemed_down(lot, paid or price, rate)
        changes += begun + redeemed_from(book, account, coll, lot, now, ordered=True)
        first = account if first < 0 else first
        redeemed += lot
    if not redeemed:
        return Refusal("no trove to redeem from")
    return Acted(first, tuple(whole(changes, redeemed)), redeemed)


def _debt(book: BranchState, account: AccountId, begun: Sequence[Change], now: Clock) -> int:
    for change in begun:
        apply(book, change)
    return book.latest(book.trove(account), now.timestamp).debt


def begins(state: BranchState, account: AccountId, now: Clock) -> list[Change]:
    """The batch of a trove records its interest before anything is computed
    (TroveManager._updateBatchInterestPriorToRedemption); nothing for a trove by itself.
    """
    batch = state.trove(account).batch
    if batch is None:
        return []
    return [*minted(state, now, other=management_fee(state, batch, now)), *batch_touched(state, batch, now)]


def redeemed_from(
    book: BranchState, account: AccountId, coll: int, lot: int, now: Clock, *, ordered: bool
) -> list[Change]:
    """A trove loses collateral and debt, applied to ``book`` too. In ordered redemptions one that is left with less
    than the least debt leaves the list.
    """
    trove, latest = book.trove(account), book.latest(book.trove(account), now.timestamp)
    changes = touched(book, account, latest, now, by_debt=-lot, action=REDEEM)
    changes.append(position_change(now, account, COLL, "collateral", -coll, action=REDEEM))
    if ordered:
        changes += _shrunk(book, account, trove.zombie, latest.debt - lot, now)
    for change in changes:
        apply(book, change)
    return changes


def _shrunk(book: BranchState, account: AccountId, zombie: int, debt: int, now: Clock) -> list[Change]:
    if debt >= book.param("dust"):
        return []
    found = list[Change]()
    if not zombie:
        if debt:
            found = [
                setting_change(now, each, "zombie", BOLD, ZOMBIE, action=REDEEM)
                for each, other in book.troves.items()
                if other.zombie == POINTED
            ]
        found.append(setting_change(now, account, "zombie", BOLD, POINTED if debt else ZOMBIE, action=REDEEM))
    elif not debt:
        found.append(setting_change(now, account, "zombie", BOLD, ZOMBIE, action=REDEEM))
    return found


def urgent(state: BranchState, order: Sequence[AccountId], wanted: int, price: int, now: Clock) -> Acted | Refusal:
    """Of the troves that the caller named, 2 % more collateral than BOLD is worth."""
    book, changes, redeemed, first = state.__deepcopy__({}), list[Change](), 0, AccountId(-1)
    for account in order:
        latest = book.latest(book.trove(account), now.timestamp)
        if redeemed >= wanted or account not in book.troves or not latest.debt:
            continue
        lot, coll = urgent_down(wanted - redeemed, latest.coll, latest.debt, price)
        changes += redeemed_from(book, account, coll, lot, now, ordered=False)
        first = account if first < 0 else first
        redeemed += lot
    if first < 0:
        return Refusal("no trove to redeem from")
    return Acted(first, tuple(whole(changes, redeemed)), redeemed)


def whole(changes: Sequence[Change], redeemed: int) -> list[Change]:
    """The changes of a redemption, balances before settings, of which the first trove's says how much BOLD all of it
    was.
    """
    found = sorted(changes, key=lambda change: not isinstance(change, PositionChange))
    for place, each in enumerate(found):
        if isinstance(each, PositionChange) and each.action == REDEEM:
            found[place] = replace(each, amount=redeemed)
            break
    return found
