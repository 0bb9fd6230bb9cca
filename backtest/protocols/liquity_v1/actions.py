"""What a user's call does in a book that may differ from history's, checked as the contracts check it.

Source: liquity/dev at 5174ecd0, ``BorrowerOperations.sol`` ``openTrove``, ``_adjustTrove``, ``closeTrove``,
``_requireValidAdjustmentInCurrentMode``; ``TroveManager.sol`` ``redeemCollateral``; ``StabilityPool.sol``
``provideToSP``, ``withdrawFromSP``, ``withdrawETHGainToTrove``, ``_requireNoUnderCollateralizedTroves``.

The base rate, from which fees follow, is history's. That users hold the LUSD that they repay or redeem is taken as in
history; whoever redeems gives the hints that fit this book.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, PositionChange
from backtest.protocols.changes import position_change
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.protocols.liquity_v1.account import price_of, view_of
from backtest.protocols.liquity_v1.liquidation import Change, applied, only_one
from backtest.protocols.liquity_v1.math import (
    GAS_DEBT,
    borrowing_fee_down,
    decayed,
    nominal_ratio_down,
    ratio_down,
)
from backtest.protocols.liquity_v1.state import (
    DEFAULT,
    ETH,
    LUSD,
    OFFSET,
    POOL,
    REDISTRIBUTION,
    LiquityState,
    Trove,
)
from backtest.units import WAD

OPEN, CLOSE, REDEEM = "open", "close", "redemption"
SUPPLY, WITHDRAW, BORROW, REPAY = "supply", "withdraw", "borrow", "repay"
Prices = Mapping[AssetId, int]


def act(state: LiquityState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. A call asks for the amounts of history's changes; where it empties the deposit or
    closes the trove, for all of it.
    """
    moves = [change for change in action.changes if isinstance(change, PositionChange)]
    if not moves:
        return Acted(AccountId(-1), action.changes)
    try:
        price = price_of(state, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    own = [each for each in moves if each.account not in (POOL, DEFAULT) and each.action != REDISTRIBUTION]
    if not own:  # a redemption that gave a trove up
        account = moves[-1].account
        return Acted(account, tuple(touched(state, account, now)))
    if action.name == REDEEM:
        return _redeem(state, (own[0].amount or 0) if action.amount is None else action.amount, price, now)
    if any(each.account == POOL and each.asset == LUSD for each in moves):
        return _deposit(state, action, own, price, now)
    if own[0].action == CLOSE:
        return _close(state, own[0].account, price, now)
    return _adjust(state, action, own, price, now)


def base_rate(state: LiquityState, timestamp: int) -> int:
    """The base rate at a time, wad (TroveManager._calcDecayedBaseRate)."""
    minutes = max(0, timestamp - state.params.get("fee_time", 0)) // 60
    return decayed(state.params.get("base_rate", 0), minutes)


def _total_after(state: LiquityState, coll: int, debt: int, price: int) -> int:
    """BorrowerOperations._getNewTCRFromTroveChange."""
    return ratio_down(state.coll + coll, state.debt + debt, price)


def valid(
    state: LiquityState, before: tuple[int, int] | None, after: tuple[int, int], price: int, *, recovers: bool
) -> str | None:
    """Why a trove may not go from one collateral and debt to another, or be opened (``before`` None); None: it may."""
    old, new = before or (0, 0), after
    least, critical = state.param("liquidation_ratio"), state.param("critical_ratio")
    ratio = ratio_down(*new, price)
    if recovers:
        if new[0] < old[0]:
            return "no collateral is withdrawn in recovery mode"
        if new[1] > old[1]:
            if ratio < critical:
                return "in recovery mode the trove has to be at the critical ratio at least"
            if before is not None and ratio < ratio_down(*old, price):
                return "in recovery mode the trove's ratio may not fall"
    elif ratio < least:
        return "the trove would be below the least ratio"
    elif _total_after(state, new[0] - old[0], new[1] - old[1], price) < critical:
        return "all troves together would be below the critical ratio"
    if (before is None or new[1] < old[1]) and new[1] - GAS_DEBT < state.param("dust"):
        return "less net debt than the least"
    return None


def _adjust(
    state: LiquityState, action: Action, own: Sequence[PositionChange], price: int, now: Clock
) -> Acted | Refusal:
    """Opening a trove, or changing one; ``action.amount`` is asked for of the change that the action is named by."""
    account, opens = own[0].account, own[0].action == OPEN
    trove = state.troves.get(account)
    if opens == (trove is not None):
        return Refusal("the trove is there already" if opens else "the trove is not there, or closed")
    amounts = {each.asset: each.amount or 0 for each in own}
    named = LUSD if opens else own[-1].asset
    if action.amount is not None:
        amounts[named] = action.amount
    signs = {each.asset: 1 if each.delta >= 0 else -1 for each in own}
    by_coll = amounts.get(ETH, 0) * signs.get(ETH, 1)
    by_debt = amounts.get(LUSD, 0) * signs.get(LUSD, 1)
    if not by_coll and not by_debt:
        return Refusal("nothing is moved")
    recovers = state.recovers(price)
    drawn = by_debt
    if by_debt > 0 and not recovers:
        by_debt += borrowing_fee_down(by_debt, base_rate(state, now.timestamp))
    if opens:
        by_debt += GAS_DEBT
    before = (0, 0) if trove is None else state.entire(trove)
    after = before[0] + by_coll, before[1] + by_debt
    if after[0] < 0 or after[1] < (0 if opens else GAS_DEBT):
        return Refusal("more than there is")
    why = valid(state, None if opens else before, after, price, recovers=recovers)
    if why is not None:
        return Refusal(why)
    made: list[Change] = [*touched(state, account, now), *adjusted(account, by_coll, by_debt, drawn, now, opens=opens)]
    risk = by_coll < 0 or by_debt > 0
    view = view_of(state, Trove(*after), {ETH: price}) if risk else None
    return Acted(account, tuple(made), amounts[named], view)


def adjusted(
    account: AccountId, by_coll: int, by_debt: int, moved: int, now: Clock, *, opens: bool
) -> list[PositionChange]:
    """A trove gets this much more collateral and debt; ``moved`` is the LUSD that its owner got or gave."""
    names = (OPEN, OPEN) if opens else (SUPPLY if by_coll > 0 else WITHDRAW, BORROW if by_debt > 0 else REPAY)
    changes = []
    if by_coll:
        changes.append(position_change(now, account, ETH, "collateral", by_coll, amount=abs(by_coll), action=names[0]))
    if by_debt:
        changes.append(position_change(now, account, LUSD, "debt", by_debt, amount=abs(moved), action=names[1]))
    return changes[::-1] if opens else changes


def touched(state: LiquityState, account: AccountId, now: Clock) -> list[Change]:
    """What every call on a trove begins with: what it has pending becomes its own. The DefaultPool is named even where
    that is nothing, so that a book whose redistributions are not history's makes no call of history as it was.
    """
    return applied(state, account, now) or [position_change(now, DEFAULT, ETH, "collateral", 0, action=REDISTRIBUTION)]


def _close(state: LiquityState, account: AccountId, price: int, now: Clock) -> Acted | Refusal:
    trove = state.troves.get(account)
    if trove is None:
        return Refusal("the trove is not there, or closed")
    if state.recovers(price):
        return Refusal("no trove is closed in recovery mode")
    coll, debt = state.entire(trove)
    if only_one(state):
        return Refusal("it is the only trove of the system")
    if _total_after(state, -coll, -debt, price) < state.param("critical_ratio"):
        return Refusal("all troves together would be below the critical ratio")
    changes = [*touched(state, account, now), *emptied(account, coll, debt, now)]
    return Acted(account, tuple(changes), coll)


def emptied(account: AccountId, coll: int, debt: int, now: Clock) -> list[PositionChange]:
    """A trove of this collateral and debt is closed by its owner, who repays all but what the gas pool holds."""
    return [
        position_change(now, account, ETH, "collateral", -coll, amount=coll, action=CLOSE),
        position_change(now, account, LUSD, "debt", -debt, amount=debt - GAS_DEBT, action=CLOSE),
    ]


def _redeem(state: LiquityState, wanted: int, price: int, now: Clock) -> Acted | Refusal:
    """From the trove of the lowest ratio at or above the least one upwards; of equals the one of the lower id first."""
    least, changes, redeemed = state.param("liquidation_ratio"), list[Change](), 0
    if state.total_ratio(price) < least:
        return Refusal("all troves together are below the least ratio")
    entire = {account: state.entire(trove) for account, trove in state.troves.items()}
    left, first = len(entire), AccountId(-1)
    for account in sorted(entire, key=lambda each: (nominal_ratio_down(*entire[each]), each)):
        coll, debt = entire[account]
        if ratio_down(coll, debt, price) < least:
            continue
        lot = min(wanted - redeemed, debt - GAS_DEBT)
        paid = lot * WAD // price
        if lot <= 0:
            break
        if debt - lot == GAS_DEBT:
            if left < 2:
                return Refusal("it is the only trove of the system")
            left -= 1
            changes += [*touched(state, account, now), *redeemed_from(account, coll, debt, now)]
        elif debt - lot - GAS_DEBT < state.param("dust"):  # given up
            break
        else:
            changes += [*touched(state, account, now), *redeemed_from(account, paid, lot, now)]
        first = account if first < 0 else first
        redeemed += lot
    if not redeemed:
        return Refusal("no trove to redeem from")
    return Acted(first, tuple(whole(changes, redeemed)), redeemed)


def redeemed_from(account: AccountId, coll: int, debt: int, now: Clock) -> list[PositionChange]:
    """A trove loses collateral and debt by a redemption."""
    return [
        position_change(now, account, LUSD, "debt", -debt, action=REDEEM),
        position_change(now, account, ETH, "collateral", -coll, action=REDEEM),
    ]


def whole(changes: Sequence[Change], redeemed: int) -> list[Change]:
    """The changes of a redemption, of which the first trove's says how much LUSD all of it was."""
    found = list(changes)
    for place, each in enumerate(found):
        if isinstance(each, PositionChange) and each.action == REDEEM:
            found[place] = replace(each, amount=redeemed)
            break
    return found


def _deposit(
    state: LiquityState, action: Action, own: Sequence[PositionChange], price: int, now: Clock
) -> Acted | Refusal:
    """Providing to the stability pool, withdrawing, or taking the gain out."""
    account = own[0].account
    deposit = state.deposits.get(account)
    named = next((each for each in own if each.action in (SUPPLY, WITHDRAW)), None)
    amount = (named.amount or 0 if named else 0) if action.amount is None else action.amount
    left, gain = (state.deposit_of(deposit), state.gain_of(deposit)) if deposit else (0, 0)
    giving = named is not None and named.action == SUPPLY
    if not giving:
        if deposit is None:
            return Refusal("there is no deposit")
        empties = any(place in action.emptied and action.changes[place] is named for place in action.emptied)
        amount = left if empties else min(amount, left)
        if amount and (why := _undercollateralised(state, price)):
            return Refusal(why)
    by = amount if giving else -amount
    return Acted(account, tuple(deposited(state, account, left, gain, by, now)), amount)


def _undercollateralised(state: LiquityState, price: int) -> str | None:
    """StabilityPool._requireNoUnderCollateralizedTroves: the trove of the lowest ratio is not below the least one."""
    least = state.param("liquidation_ratio")
    below = any(ratio_down(*state.entire(trove), price) < least for trove in state.troves.values())
    return "a trove is below the least ratio: nobody withdraws" if below else None


def deposited(
    state: LiquityState, account: AccountId, left: int, gain: int, by: int, now: Clock
) -> list[PositionChange]:
    """A deposit of which ``left`` is left gets ``by`` more, and its gain is taken out."""
    before = state.deposits.get(account)
    loss = left - (before.value if before else 0)
    changes = [
        position_change(now, POOL, ETH, "collateral", -gain, action=OFFSET),
        position_change(now, POOL, LUSD, "collateral", by, action=OFFSET),
    ]
    if before is not None:
        changes.append(position_change(now, account, LUSD, "collateral", loss, action=OFFSET))
    if by:
        name = SUPPLY if by > 0 else WITHDRAW
        changes.append(position_change(now, account, LUSD, "collateral", by, amount=abs(by), action=name))
    return changes
