"""A minimal lending pool with a fixed spread: what the engine is tested with apart from any real protocol.

Parameters (basis points): liquidation_threshold, liquidation_bonus per asset, close_factor. Every supplied asset is
collateral.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from backtest.errors import PriceMissing
from backtest.model import IndexUpdate, ParamChange, PositionChange
from backtest.protocols.aave_v3.rules import parameter_fault
from backtest.protocols.changes import position_change
from backtest.protocols.interface import (
    AccountView,
    Fill,
    Holding,
    LendingProtocol,
    LinearExposure,
    LiquidationTerms,
    Order,
    Pair,
    Refusal,
)
from backtest.units import BPS, RAY, SECONDS_PER_YEAR, WAD
from tests.sketches.calls import call


@dataclass
class PoolState:
    market: object
    balances: dict[int, dict[tuple[int, str], int]] = field(default_factory=dict)
    params: dict[tuple[str, int | None], int] = field(default_factory=dict)
    indexes: dict[int, IndexUpdate] = field(default_factory=dict)

    def index(self, asset, side, now):
        stored = self.indexes.get(asset)
        if stored is None:
            return RAY
        base, rate = (
            (stored.supply_index, stored.supply_rate)
            if side == "collateral"
            else (stored.borrow_index, stored.borrow_rate)
        )
        return base * (RAY + rate * (now.timestamp - stored.timestamp) // SECONDS_PER_YEAR) // RAY

    def native(self, account, asset, side, now):
        return self.balances.get(account, {}).get((asset, side), 0) * self.index(asset, side, now) // RAY

    def assets(self, account, side):
        return sorted(asset for asset, s in self.balances.get(account, {}) if s == side)


class FixedSpreadPool(LendingProtocol[Any]):
    name = "sketch"
    events = ()
    liquidation_events = ()
    exposure_parameters = frozenset({"liquidation_threshold"})
    order_parameters = frozenset()
    early = True
    parts_accounts = True
    parameters = {"ltv": 1, "liquidation_threshold": 1, "liquidation_bonus": 1, "close_factor": 1}  # noqa: RUF012

    def fault(self, values):
        return parameter_fault({"ltv": 0, **values})

    def liquidation_terms(self, values):
        threshold, bonus = values.get("liquidation_threshold"), values.get("liquidation_bonus")
        return LiquidationTerms(threshold and threshold * WAD // BPS, bonus and bonus * WAD // BPS)

    def open(self, market, *, recompute=False):
        return PoolState(market)

    def act(self, state, action, prices, now):
        account = action.changes[0].account

        def after(changes):
            trial = deepcopy(state)
            for change in changes:
                self.apply(trial, change)
            return self.view(trial, account, prices, now)

        return call(action, lambda c: state.balances.get(c.account, {}).get((c.asset, c.side), 0), after)

    def open_accounts(self, state, opening):
        for account, asset, side, balance in opening.balances:
            held = state.balances.setdefault(account, {})
            if balance:
                held[asset, side] = balance
        return True

    def apply(self, state, event):
        if isinstance(event, PositionChange):
            held, key = state.balances.setdefault(event.account, {}), (event.asset, event.side)
            held[key] = held.get(key, 0) + event.delta
            assert held[key] >= 0, f"{event} leaves {held[key]}"
            if not held[key]:
                del held[key]
        elif isinstance(event, ParamChange):
            state.params[event.name, event.asset] = event.value
        elif isinstance(event, IndexUpdate):
            state.indexes[event.asset] = event

    def accounts(self, state):
        return sorted(account for account, held in state.balances.items() if held)

    def _threshold(self, state, asset):
        return state.params.get(("liquidation_threshold", asset), 0)

    def _unit(self, state, asset):
        return 10 ** state.market.assets[asset].decimals

    def _value(self, state, prices, asset, amount):
        if asset not in prices.oracle:
            raise PriceMissing(f"no price of asset {asset}")
        return amount * prices.oracle[asset] // self._unit(state, asset)

    def exposure(self, state, account, now):
        owed = state.assets(account, "debt")
        if not owed:
            return None
        debt = {a: (state.native(account, a, "debt", now) + 1) / self._unit(state, a) for a in owed}
        weights = {a: -d for a, d in debt.items()}
        for a in state.assets(account, "collateral"):
            held = max(0, state.native(account, a, "collateral", now) - 1) / self._unit(state, a)
            weights[a] = weights.get(a, 0.0) + held * self._threshold(state, a) / BPS
        return LinearExposure(weights, constant=-float(2 + 2 * len(weights)), relative_error=1e-9, debt=debt)

    def view(self, state, account, prices, now):
        collateral = weighted = debt = 0
        for asset in state.assets(account, "collateral"):
            value = self._value(state, prices, asset, state.native(account, asset, "collateral", now))
            collateral += value
            weighted += value * self._threshold(state, asset)
        for asset in state.assets(account, "debt"):
            debt += self._value(state, prices, asset, state.native(account, asset, "debt", now))
        return AccountView(collateral, debt, weighted * WAD // (debt * BPS) if debt else None)

    def holdings(self, state, account, now):
        held = state.balances.get(account, {})
        return [
            Holding(
                asset=asset,
                collateral_scaled=held.get((asset, "collateral"), 0),
                debt_scaled=held.get((asset, "debt"), 0),
                collateral=state.native(account, asset, "collateral", now),
                debt=state.native(account, asset, "debt", now),
                collateral_enabled=True,
            )
            for asset in sorted({asset for asset, _ in held})
        ]

    def pairs(self, state, account, prices, now):
        try:
            health = self.view(state, account, prices, now).health
        except PriceMissing:
            return []
        if health is None or health >= WAD:
            return []
        return [Pair(d, c) for d in state.assets(account, "debt") for c in state.assets(account, "collateral")]

    def quote(self, state, order, prices, now):
        if not order.early and order.pair not in self.pairs(state, order.account, prices, now):
            return Refusal("healthy")
        debt_asset, collateral_asset = order.pair.debt_asset, order.pair.collateral_asset
        debt = state.native(order.account, debt_asset, "debt", now)
        held = state.native(order.account, collateral_asset, "collateral", now)
        if order.agreed:
            if order.repay > debt or order.seize > held:
                return Refusal("too much")
            return self._fill(state, order, order.repay, order.seize, now)
        most = debt * state.params.get(("close_factor", None), 5000) // BPS
        repaid = most if order.repay is None else min(order.repay, most)
        bonus = state.params.get(("liquidation_bonus", collateral_asset), BPS)
        rate = (
            prices.oracle[debt_asset] * self._unit(state, collateral_asset),
            prices.oracle[collateral_asset] * self._unit(state, debt_asset),
        )
        seized = repaid * rate[0] * bonus // (rate[1] * BPS)
        if seized > held:
            seized, repaid = held, min(repaid, -(-held * rate[1] * BPS // (rate[0] * bonus)))
        if not repaid or not seized:
            return Refusal("too small")
        return self._fill(state, order, repaid, seized, now)

    def weight(self, state, account, asset):
        return self._threshold(state, asset) * WAD // BPS

    def _fill(self, state, order, repaid, seized, now):
        debt_asset, collateral_asset = order.pair.debt_asset, order.pair.collateral_asset
        debt = state.native(order.account, debt_asset, "debt", now)
        held = state.native(order.account, collateral_asset, "collateral", now)
        scaled = self._scaled_down(state, order.account, debt_asset, "debt", repaid, now)
        changes = [self._change(order.account, debt_asset, "debt", -scaled, now)]
        taken = (
            state.balances[order.account][collateral_asset, "collateral"]
            if seized == held
            else self._scaled_down(state, order.account, collateral_asset, "collateral", seized, now)
        )
        changes.append(self._change(order.account, collateral_asset, "collateral", -taken, now))
        if order.receive_collateral_token:
            changes.append(self._change(order.liquidator, collateral_asset, "collateral", taken, now))
        deficits = ()
        if seized == held and state.assets(order.account, "collateral") == [collateral_asset] and debt > repaid:
            deficits = ((debt_asset, debt - repaid),)
            left = state.balances[order.account][debt_asset, "debt"] - scaled
            changes.append(self._change(order.account, debt_asset, "debt", -left, now))
        return Fill(order, repaid, seized, 0, tuple(changes), deficits, rules="sketch")

    def _scaled_down(self, state, account, asset, side, amount, now):
        return min(amount * RAY // state.index(asset, side, now), state.balances[account][asset, side])

    def _change(self, account, asset, side, delta, now):
        return position_change(now, account, asset, side, delta)

    def observed_order(self, state, past, prices, now):
        return Order(
            past.account,
            Pair(past.debt_asset, past.collateral_asset),
            past.liquidator,
            past.repaid,
            past.receive_collateral_token,
        )
