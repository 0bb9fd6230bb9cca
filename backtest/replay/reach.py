"""What an override does by itself at the moment it takes effect: whom it reaches, and whom it makes liquidatable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from backtest.errors import PriceMissing
from backtest.model import AccountId, Clock
from backtest.protocols import AccountView
from backtest.replay.book import Book
from backtest.replay.record import MadeLiquidatable, Reach
from backtest.units import WAD


def views_of(book: Book[Any]) -> dict[AccountId, AccountView]:
    """Every account that can be valued now."""
    found = {}
    for account in book.protocol.accounts(book.state):
        with suppress(PriceMissing):
            found[account] = book.protocol.view(book.state, account, book.prices, book.now)
    return found


def reach_of(
    overrides: Iterable[str], before: Mapping[AccountId, AccountView], after: Mapping[AccountId, AccountView], clock: Clock
) -> tuple[Reach, list[MadeLiquidatable]]:
    """Compares every account right before and right after; ``overrides`` are the texts of those that took effect."""
    touched = indebted = in_category = 0
    made = []
    for account, now in after.items():
        then = before.get(account)
        if now.health is None or then is None:
            continue
        indebted += 1
        changed = (now.health, now.borrowing_power_base) != (then.health, then.borrowing_power_base)
        touched += changed
        in_category += bool(now.category) and not changed
        if now.health < WAD and then.health is not None and then.health >= WAD:
            made.append(MadeLiquidatable(account=account, clock=clock, debt_base=now.debt_base))
    return Reach(override="; ".join(overrides), accounts=touched, of=indebted, in_emode=in_category), made
