"""A pawnshop: ETH (18 decimals) is pledged, USDX (6 decimals, worth one dollar) is lent without interest. Whoever is
unsafe is liquidated at a fixed bonus, as much as the caller likes. Small enough to work out by hand.

A contract that does not exist is cited as one that does would be: pawnshop ``Shop.sol`` ``seize``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from backtest.errors import PriceMissing, RulesError
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    MarketEvent,
    ParamChange,
    PositionChange,
    Prices,
)
from backtest.protocols.changes import position_change
from backtest.protocols.interface import AccountView, Fill, Holding, LinearExposure, Order, Pair, Refusal
from backtest.units import BPS, WAD

ETH, USDX = AssetId(0), AssetId(1)
PAIR = Pair(USDX, ETH)
UNITS = {ETH: 10**18, USDX: 10**6}


@dataclass
class Shop:
    """``held`` (ETH) and ``owed`` (USDX) by account, native units, no zeros; ``params`` in basis points."""

    held: dict[AccountId, int] = field(default_factory=dict)
    owed: dict[AccountId, int] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)


def apply(state: Shop, event: MarketEvent) -> None:
    """One canonical event. RulesError where a balance would fall below zero."""
    if isinstance(event, PositionChange):
        side = state.held if event.side == "collateral" else state.owed
        balance = side.get(event.account, 0) + event.delta
        if balance < 0:
            raise RulesError(f"block {event.block_number}: account {event.account} would hold {balance}")
        side[event.account] = balance
        if not balance:
            del side[event.account]
    elif isinstance(event, ParamChange):
        state.params[event.name] = event.value
    elif not isinstance(event, HistoricalLiquidation | IndexUpdate):
        raise RulesError(f"block {event.block_number}: a pawnshop has no {type(event).__name__}")


def value_down(prices: Prices, asset: AssetId, amount: int) -> int:
    """Base units; PriceMissing without a price."""
    if asset not in prices.oracle:
        raise PriceMissing(f"no price of asset {asset}", "fetch further")
    return amount * prices.oracle[asset] // UNITS[asset]


def view(state: Shop, account: AccountId, prices: Prices) -> AccountView:
    """Health: collateral times threshold over debt, cut once."""
    held, owed = (value_down(prices, a, side.get(account, 0)) for a, side in ((ETH, state.held), (USDX, state.owed)))
    carried = held * state.params["liquidation_threshold"]
    return AccountView(held, owed, carried * WAD // (owed * BPS) if owed else None, carried // BPS)


def exposure(state: Shop, account: AccountId) -> LinearExposure | None:
    """The same as a linear form; what is cut is below three base units."""
    if account not in state.owed:
        return None
    held = state.held.get(account, 0) / UNITS[ETH] * state.params["liquidation_threshold"] / BPS
    return LinearExposure({ETH: held, USDX: -state.owed[account] / UNITS[USDX]}, constant=-3.0, relative_error=1e-9)


def holdings(state: Shop, account: AccountId) -> list[Holding]:
    """Nothing is scaled."""
    held, owed = state.held.get(account, 0), state.owed.get(account, 0)
    found = [Holding(ETH, held, 0, held, 0, True), Holding(USDX, 0, owed, 0, owed, False)]
    return [each for each in found if each.collateral or each.debt]


def pairs(state: Shop, account: AccountId, prices: Prices) -> list[Pair]:
    """The one pair of an unsafe account."""
    try:
        health = view(state, account, prices).health
    except PriceMissing:
        return []
    return [PAIR] if health is not None and health < WAD and state.held.get(account) else []


def quote(state: Shop, order: Order, prices: Prices, now: Clock) -> Fill | Refusal:
    """``Shop.sol`` ``seize``: the debt that the caller repays, and its worth with the bonus of collateral, cut; where
    there is less, all of it for its own worth, rounded up.
    """
    if order.pair not in pairs(state, order.account, prices):
        return Refusal("safe")
    owed, held = state.owed[order.account], state.held[order.account]
    if order.agreed:
        assert order.repay is not None
        assert order.seize is not None
        if order.repay > owed or order.seize > held:
            return Refusal("more than there is")
        repaid, seized = order.repay, order.seize
    else:
        repaid = min(owed, owed if order.repay is None else order.repay)
        rate = state.params["liquidation_bonus"] * prices.oracle[USDX] * UNITS[ETH]
        per = BPS * prices.oracle[ETH] * UNITS[USDX]
        seized = repaid * rate // per
        if seized > held:
            repaid, seized = min(repaid, -(-held * per // rate)), held
    if not repaid or not seized:
        return Refusal("nothing")
    lost = owed - repaid if seized == held else 0

    changes = (
        position_change(now, order.account, USDX, "debt", -repaid - lost),
        position_change(now, order.account, ETH, "collateral", -seized),
    )
    return Fill(order, repaid, seized, 0, changes, ((USDX, lost),) if lost else (), "pawnshop 1")
