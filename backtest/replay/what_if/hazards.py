"""How probable it is that a borrower acts: what hazards are functions of, measured in the same way where they are
fitted (``calibration.hazards``) and where users of a replay decide by them (``what_if.owners``).

Floats: they say how probable an act is, never how much of anything is moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log1p
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from backtest.model import AccountId, AssetId, PositionChange, PriceUpdate
from backtest.protocols.book import Book
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.impact import views_of
from backtest.scenario.users import ACTS, Act, FittedUsers
from backtest.units import WAD

DAY = 86_400
"""Seconds over which a price's move is taken."""
NEAREST = 1.25
"""Nearness is cut there: a borrower at 0.8 of the liquidation health is as near as can be."""
MILLION = 1_000_000
_LARGEST_LOGIT = 30.0


class Borrower(NamedTuple):
    """A borrower at one moment: health (wad), debt and collateral (base units)."""

    health: int
    debt: int
    collateral: int


def standings(book: Book[Any]) -> dict[AccountId, Borrower]:
    """Every account with debt whose health is known, now."""
    views = views_of(book)
    rows = np.flatnonzero(views.debt.positive)
    debt, collateral = views.debt.take(rows).integers(), views.collateral.take(rows).integers()
    health = [(high << 64) | low for low, high in views.health[rows].tolist()]
    accounts = views.account[rows].tolist()
    found = {
        AccountId(account): Borrower(*numbers)
        for account, *numbers in zip(accounts, health, debt, collateral, strict=True)
    }
    for account, view in views.rest.items():
        if view is not None and view.health is not None and view.debt_base:
            found[account] = Borrower(view.health, view.debt_base, view.collateral_base)
    return found


def main_collateral(book: Book[Any], account: AccountId) -> AssetId | None:
    """The asset of which the account has most by value, among what counts towards its health; None: it has none."""
    best: tuple[int, int] | None = None
    for held in book.protocol.holdings(book.state, account, book.now):
        if held.collateral_enabled and held.collateral:
            one = (book.value_down(held.asset, held.collateral), -held.asset)
            best = one if best is None or one > best else best
    return None if best is None else AssetId(-best[1])


class Moves:
    """How far prices went within a day, in history: from the oracle's prices of a timeline."""

    def __init__(self, timeline: Timeline) -> None:
        rows, (assets, prices) = timeline.floats(PriceUpdate, "asset", "price")
        known = ~np.isnan(prices)
        times = timeline.timestamps[np.searchsorted(timeline.blocks, timeline.block[rows])]
        self._of: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
        for asset in np.unique(assets[known]).tolist():
            own = known & (assets == asset)
            self._of[int(asset)] = times[own], prices[own]

    def percent(self, asset: AssetId | None, price: int | None, now: int) -> float:
        """By how many percent, up or down, ``price`` is away from history's a day before ``now`` (seconds); from the
        first that is known, where that is later. 0 without a price: such an account has no health either.
        """
        if asset is None or price is None or asset not in self._of:
            return 0.0
        times, prices = self._of[asset]
        then = float(prices[max(0, int(np.searchsorted(times, now - DAY, side="right")) - 1)])
        return 100.0 * abs(price / then - 1.0) if then else 0.0


def terms_of(standing: Borrower, percent: float, unit: int) -> tuple[float, ...]:
    """What logits are linear in (``scenario.users.TERMS``): 1; nearness, which is one over the health, so 1 where the
    account may be liquidated, and 0 far from it; its square; ln(1 + debt) in whole units of the base currency; ln(1 +
    percent) of the move; nearness times that. ``unit``: base units of one of the currency.
    """
    near = NEAREST if standing.health * NEAREST <= WAD else WAD / standing.health
    move = log1p(percent)
    return 1.0, near, near * near, log1p(standing.debt / unit), move, near * move


class Chances:
    """The chance of each act in one step of time."""

    def __init__(self, fitted: FittedUsers) -> None:
        self.constant = {
            one.act: _chance(one.coefficients[0] / MILLION) for one in fitted.hazards if len(one.coefficients) == 1
        }
        """Where nothing more could be told of history: the same for everybody,"""
        self.told: Mapping[Act, Sequence[float]] = {
            one.act: [number / MILLION for number in one.coefficients]
            for one in fitted.hazards
            if len(one.coefficients) > 1
        }
        """and coefficients of the others."""
        self.sizes = {one.act: one.sizes for one in fitted.hazards}

    def of(self, terms: Sequence[float]) -> dict[Act, float]:
        """By act, of an account in the standing that these terms say."""
        found = dict(self.constant)
        for act, coefficients in self.told.items():
            found[act] = _chance(sum(one * other for one, other in zip(coefficients, terms, strict=True)))
        return found


def _chance(logit: float) -> float:
    return 1.0 / (1.0 + exp(-min(max(logit, -_LARGEST_LOGIT), _LARGEST_LOGIT)))


def acts_in(timeline: Timeline, step: int, since: int = 0) -> dict[int, set[tuple[AccountId, Act]]]:
    """Who did what in which step of time (time // ``step``) in history, from ``since`` (seconds) on."""
    rows = timeline.rows(PositionChange)
    if not len(rows):
        return {}
    times = timeline.timestamps[np.searchsorted(timeline.blocks, timeline.block[rows])]
    actions, accounts = timeline.values(PositionChange, np.ones(len(rows), dtype=np.bool_), "action", "account")
    found: dict[int, set[tuple[AccountId, Act]]] = {}
    for time, action, account in zip(times.tolist(), actions, accounts, strict=True):
        if action in ACTS and time >= since:
            found.setdefault(time // step, set()).add((account, action))
    return found
