"""Users' calls of a protocol without rounding of its own: what the sketches make of an ``Action``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import PositionChange
from backtest.protocols.interface import AccountView, Acted, Action, Refusal


def call(
    action: Action, held: Callable[[PositionChange], int], after: Callable[[tuple], AccountView | None]
) -> Acted | Refusal:
    """Debt is repaid as far as there is any; more collateral than there is cannot leave; a transfer moves one amount.

    ``held``: the scaled balance that a change is about. ``after``: the account of the first change with all changes
    made, None without debt.
    """
    changes, amount = [], 0
    moved = None
    for place, change in enumerate(action.changes):
        if not isinstance(change, PositionChange):
            changes.append(change)
            continue
        delta = change.delta if action.amount is None else (1 if change.delta > 0 else -1) * action.amount
        if delta < 0:
            here = held(change)
            if place in action.emptied or (-delta > here and change.side == "debt"):
                delta = -here
            elif -delta > here:
                return Refusal("less is there")
        elif moved is not None and action.name == "transfer":
            delta = moved
        moved, amount = -delta, amount or abs(delta)
        if delta:
            changes.append(replace(change, delta=delta))
    risky = any(isinstance(c, PositionChange) and (c.delta > 0) == (c.side == "debt") for c in changes)
    try:
        view = after(tuple(changes)) if risky else None
    except PriceMissing as missing:
        return Refusal(missing.what)
    if view is not None and view.health is not None and view.health < 10**18:
        return Refusal("health would fall below 1")
    return Acted(
        action.changes[0].account,
        tuple(changes),
        amount,
        view if view is not None and view.health is not None else None,
    )
