"""A signed margin account: positions of either sign in any asset, USD cash of either sign, a maintenance margin.

A long is the account's collateral side, a short its debt side; asset 0 is the cash. Equity is cash + sum(position *
price); the account may be liquidated when equity < margin * sum(|position| * price), cash apart. A liquidator takes
over a whole long (paying cash into the account), or a whole short (being paid), at the oracle price less ``fee``.
Parameters (basis points): margin, fee.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from backtest.model import ParamChange, PositionChange
from backtest.protocols.changes import position_change
from backtest.protocols.interface import (
    AccountView,
    Acted,
    BoxExposure,
    Fill,
    Holding,
    LendingProtocol,
    LinearExposure,
    Pair,
    Refusal,
)
from backtest.units import BPS, WAD

CASH = 0


@dataclass
class Margins:
    held: dict[int, dict[int, int]] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)


class MarginProtocol(LendingProtocol[Any]):
    """All positions have 18 decimals. ``boxes`` gives accounts of one position a box of prices instead of a linear
    form.
    """

    name = "margin"
    events = liquidation_events = ()
    exposure_parameters = frozenset({"margin"})
    order_parameters: frozenset[str] = frozenset()

    def __init__(self, boxes: bool = False) -> None:
        self._boxes = boxes

    parameters = {}  # noqa: RUF012

    def open(self, market, *, recompute=False):
        return Margins()

    def fault(self, values):
        return None

    def act(self, state, action, prices, now):
        return Acted(action.changes[0].account, action.changes)

    def apply(self, state, event):
        if isinstance(event, PositionChange):
            book = state.held.setdefault(event.account, {})
            book[event.asset] = book.get(event.asset, 0) + (event.delta if event.side == "collateral" else -event.delta)
        elif isinstance(event, ParamChange):
            state.params[event.name] = event.value

    def accounts(self, state):
        return sorted(account for account, book in state.held.items() if any(book.values()))

    def _positions(self, state, account):
        return {asset: size for asset, size in state.held.get(account, {}).items() if size and asset != CASH}

    def exposure(self, state, account, now):
        positions = self._positions(state, account)
        if not positions:
            return None
        margin, cash = (
            state.params["margin"] / BPS,
            state.held[account].get(CASH, 0) / 1e10,
        )  # base units have 8 decimals
        weights = {asset: (size - abs(size) * margin) / WAD for asset, size in positions.items()}
        if self._boxes and len(positions) == 1:
            ((asset, weight),) = weights.items()
            edge = -cash / weight
            return BoxExposure({asset: (edge * (1 + 1e-9), float("inf")) if weight > 0 else (0.0, edge * (1 - 1e-9))})
        return LinearExposure(weights, constant=cash - len(weights), relative_error=1e-9)

    def view(self, state, account, prices, now):
        plus = minus = need = 0
        for asset, size in state.held.get(account, {}).items():
            value = abs(size) * prices.oracle[asset] // WAD
            plus, minus = (plus + value, minus) if size > 0 else (plus, minus + value)
            need += value * state.params["margin"] if asset != CASH else 0
        return AccountView(plus, minus, max(0, (plus - minus) * BPS * WAD // need) if need else None)

    def holdings(self, state, account, now):
        return [
            Holding(a, max(s, 0), max(-s, 0), max(s, 0), max(-s, 0), True)
            for a, s in sorted(state.held.get(account, {}).items())
            if s
        ]

    def pairs(self, state, account, prices, now):
        health = self.view(state, account, prices, now).health
        if health is None or health >= WAD:
            return []
        return [
            Pair(CASH, asset) if size > 0 else Pair(asset, CASH)
            for asset, size in sorted(self._positions(state, account).items())
        ]

    def quote(self, state, order, prices, now):
        if order.pair not in self.pairs(state, order.account, prices, now):
            return Refusal("margin is enough")
        long = order.pair.debt_asset == CASH
        asset = order.pair.collateral_asset if long else order.pair.debt_asset
        size = abs(state.held[order.account][asset])
        cash = (
            size
            * prices.oracle[asset]
            // prices.oracle[CASH]
            * (BPS - state.params["fee"] if long else BPS + state.params["fee"])
            // BPS
        )
        sides = (
            {"collateral": (asset, -size), "debt": (CASH, -cash)}
            if long
            else {"debt": (asset, -size), "collateral": (CASH, -cash)}
        )
        changes = tuple(position_change(now, order.account, a, side, delta) for side, (a, delta) in sides.items())
        return Fill(order, cash if long else size, size if long else cash, 0, changes, rules="margin")
