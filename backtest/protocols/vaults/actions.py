"""What calls do to the book: a bite or bark (``quote``), and what owners do with their vaults (``act``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backtest.model import AccountId, Clock, HistoricalLiquidation, ParamChange, PositionChange, Prices
from backtest.protocols.changes import parameter_change, position_change
from backtest.protocols.interface import Acted, Action, Fill, Order, Refusal
from backtest.protocols.vaults.rules import Seizure, part
from backtest.protocols.vaults.state import (
    RAISED,
    RAISED_FREELY,
    VaultState,
    coin_of,
    collateral_of,
    pair_of,
    pairs,
    view,
)
from backtest.units import RAY

Key = tuple[AccountId, str]
_RAISED = frozenset({RAISED, RAISED_FREELY})


def quote(state: VaultState, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
    """What a bite or bark does: collateral and debt leave the vault for an auction, whatever the auction brings later.

    ``repaid`` is the debt that leaves the vault, without penalty (rounded down to a wad), ``seized`` the collateral. An
    order with ``repay_scaled`` (art) or ``repay`` is history's own: it takes the debt that was taken then, if the vault
    is unsafe here, and opens no auction. One that is agreed sells collateral for debt at once, without the contracts'
    penalty; less debt than ``dust`` may not be left.
    """
    account, ilk = order.account, state.ilk_of(order.account)
    if order.pair != pair_of(ilk):
        return Refusal("no such pair")
    if not pairs(state, account, prices):
        return Refusal("not unsafe")
    ink, art, rate, system = state.ink.get(account, 0), state.art[account], state.rate(ilk), state.system(ilk)
    limits = state.limits(ilk)
    if order.agreed:
        return _sold(state, order, ink, art, now)
    observed = order.repay is not None or order.repay_scaled is not None
    if observed:
        dart = min(art, order.repay_scaled) if order.repay_scaled is not None else _dart(rate, art, order.repay or 0)
        taken: Seizure | str = part(ink, art, rate, limits.chop, dart) if dart else "null auction"
    else:
        taken = state.seizure(account, limits)
    if isinstance(taken, str):
        return Refusal(taken)
    changes: list[PositionChange | ParamChange] = [*_grab(account, ilk, taken.dink, taken.dart, now)]
    if not observed:
        changes.append(raised(state, taken.tab, now, ilk, system))
    return Fill(order, taken.due // RAY, taken.dink, 0, tuple(changes), rules=state.contracts(ilk))


def _sold(state: VaultState, order: Order, ink: int, art: int, now: Clock) -> Fill | Refusal:
    """DAI for collateral as agreed, in the vault's own terms: debt falls by what is paid, rounded down to art, all of
    it where the whole is paid.
    """
    assert order.repay is not None
    assert order.seize is not None
    ilk = state.ilk_of(order.account)
    rate = state.rate(ilk)
    owed = -(-art * rate // RAY)
    if order.repay > owed or order.seize > ink:
        return Refusal("more is agreed than the vault owes or holds")
    dart = art if order.repay == owed else order.repay * RAY // rate
    if dart < art and (art - dart) * rate < state.param("dust", ilk) * RAY and order.seize < ink:
        return Refusal("dust")
    return Fill(
        order, order.repay, order.seize, 0, _grab(order.account, ilk, order.seize, dart, now), rules="a sale as agreed"
    )


def _grab(account: AccountId, ilk: int, dink: int, dart: int, now: Clock) -> tuple[PositionChange, PositionChange]:
    """Collateral and normalised debt leave a vault."""

    return (
        position_change(now, account, collateral_of(ilk), "collateral", -dink),
        position_change(now, account, coin_of(ilk), "debt", -dart),
    )


def raised(state: VaultState, delta: int, now: Clock, ilk: int, system: int) -> ParamChange:
    """All auctions together are to raise ``delta`` rad more (or less) than before; Dog ``digs`` and Cat ``claw`` go
    through here. Its name says whether that may bound another liquidation.
    """
    name = RAISED_FREELY if state.is_free(state.limits(ilk)) else RAISED
    change = parameter_change(now, name, delta)
    return change if state.ilks == 1 else replace(change, asset=collateral_of(ilk), category=system)


def raised_by(fill: Fill) -> int:
    """Rad: by how much a fill raises what all auctions together are to raise."""
    return next(change.value for change in fill.changes if isinstance(change, ParamChange) and change.name in _RAISED)


def observed_order(state: VaultState, past: HistoricalLiquidation) -> Order:
    """The order that takes as much debt as history's did."""
    pair = pair_of(state.ilk_of(past.account))
    if past.debt_scaled is not None:
        return Order(past.account, pair, past.liquidator, repay_scaled=past.debt_scaled)
    return Order(past.account, pair, past.liquidator, past.repaid)


_EXPORT_DIGITS = 10**9
"""Exports print amounts with nine digits or more: what is left below that is their rounding, no rule of a contract."""


def _dart(rate: int, art: int, repaid: int) -> int:
    """The normalised debt that ``repaid`` (wad, a rounded debt) stands for; the whole where only the rounding would be
    left.
    """
    dart = -(-repaid * RAY // rate)
    return art if abs(art - dart) <= 1 + art // _EXPORT_DIGITS else min(art, dart)


# -- owners ------------------------------------------------------------------------------------------------------------


def act(state: VaultState, action: Action, prices: Prices, now: Clock) -> Acted | Refusal:
    """One frob, or one fork, of history made again here (dss ``src/vat.sol`` ``frob``, ``fork``).

    Debt may not grow, nor collateral shrink, in a vault that ends unsafe; whoever owes ends with ``dust`` at least.
    Debt ceilings hold in a market of several ilks (``_ceiling``). ``amount`` (wad) replaces what the action's name
    says: DAI of a borrow or repayment, collateral of a supply or withdrawal.
    """
    own = _side(action.name)
    recorded = [change for change in action.changes if isinstance(change, PositionChange)]
    if len(recorded) < len(action.changes):
        return Refusal("no such setting")
    touched, ilk = dict.fromkeys(change.account for change in recorded), recorded[0].asset // 2
    ink = {account: state.ink.get(account, 0) for account in touched}
    art = {account: state.art.get(account, 0) for account in touched}
    moved, net, rate = 0, dict[Key, int](), state.rate(ilk)
    done: list[tuple[PositionChange, int, int]] = []
    for place, change in enumerate(recorded):
        side = ink if change.side == "collateral" else art
        here = side[change.account]
        asked = _asked(rate, change, action.amount if change.side == own else None)
        delta = -here if place in action.emptied else max(asked, -here)
        side[change.account] = here + delta
        net[change.account, change.side] = net.get((change.account, change.side), 0) + delta
        native = change.amount if delta == change.delta else None
        native = _native(rate, change, delta) if native is None else native
        if delta:
            done.append((change, delta, native))
        if change.side == own:
            moved = max(moved, native)
    account = recorded[0].account
    after = type(state)(
        {a: v for a, v in ink.items() if v},
        {a: v for a, v in art.items() if v},
        state.params,
        state.rates,
        state.ilks,
        dict.fromkeys(touched, ilk),
        state.own,
        changes=state.changes,
    )
    drawn = sum(net.get((who, "debt"), 0) for who in touched)
    if drawn > 0 and (ceiling := _ceiling(state, ilk, drawn)) is not None:
        return ceiling
    for who in touched:
        refused = _frob_refused(state, after, who, net, prices, action, ilk)
        if refused is not None:
            return refused
    risky = net.get((account, "debt"), 0) > 0 or net.get((account, "collateral"), 0) < 0
    seen = view(after, account, prices) if risky and account in after.art else None
    changes = tuple(replace(change, delta=delta, amount=native) for change, delta, native in done)
    return Acted(account, changes, moved, seen)


def _asked(rate: int, change: PositionChange, amount: int | None) -> int:
    """The recorded delta, or that of an amount (wad) asked for instead."""
    if amount is None:
        return change.delta
    signed = amount if change.delta > 0 else -amount
    # DssProxyActions draws up and wipes down (dss-proxy-actions ``_getDrawDart``, ``_getWipeDart``): the ceiling of
    # either
    return signed if change.side == "collateral" else -(-signed * RAY // rate)


def _side(name: str) -> str:
    return "debt" if name in ("borrow", "repay") else "collateral"


def _native(rate: int, change: PositionChange, delta: int) -> int:
    """Wad: collateral, or debt at the stored rate, rounded to what the owner gets (borrow, down) or pays (repayment,
    up).
    """
    if change.side == "collateral":
        return abs(delta)
    return delta * rate // RAY if delta >= 0 else -(delta * rate // RAY)


def _ceiling(state: VaultState, ilk: int, dart: int) -> Refusal | None:
    """The check of ``frob`` "ceiling-exceeded" (dss ``src/vat.sol``): Art * rate <= line of the ilk, where the history
    says it. Only in a market of several ilks. Not the Vat's Line: no log that is read says it.
    """
    line = state.set(ilk, "line")
    if state.ilks == 1 or line is None:
        return None
    rate = state.rate(ilk)
    room = line * RAY - state.owed.get(ilk, 0) * rate
    if dart * rate <= room:
        return None
    amount = max(0, room) // rate * rate // RAY
    return Refusal("ceiling exceeded", amount or None)


def _frob_refused(
    before: VaultState,
    after: VaultState,
    account: AccountId,
    net: Mapping[Key, int],
    prices: Prices,
    action: Action,
    ilk: int,
) -> Refusal | None:
    """The checks of ``frob`` on one vault: "not-safe" and "dust"; with the largest amount that passes, where one
    would.
    """
    dart, dink = net.get((account, "debt"), 0), net.get((account, "collateral"), 0)
    art, tab = after.art.get(account, 0), after.debt(account)
    ink = after.ink.get(account, 0)
    if (dart > 0 or dink < 0) and tab:
        if collateral_of(ilk) not in prices.oracle:
            return Refusal("no price")
        spot = before.cap(prices, ilk)
        if tab > ink * spot:
            return Refusal("not safe", _largest(before, account, spot, ink, tab, action, before.rate(ilk)))
    if art and tab < before.param("dust", ilk) * RAY:
        return Refusal("dust")
    return None


def _largest(
    before: VaultState, account: AccountId, spot: int, ink: int, tab: int, action: Action, rate: int
) -> int | None:
    """The amount (wad) of a borrow or withdrawal that would leave the vault just safe; None where there is none."""
    if action.name == "borrow":
        dart = ink * spot // rate - before.art.get(account, 0)
        amount = dart * rate // RAY
        # drawn up to a whole unit of art again, it must still fit
        while amount > 0 and (before.art.get(account, 0) - (-amount * RAY // rate)) * rate > ink * spot:
            amount -= 1
    elif action.name == "withdraw" and spot:
        amount = before.ink.get(account, 0) - -(-tab // spot)
    else:
        return None
    return amount if amount > 0 else None
