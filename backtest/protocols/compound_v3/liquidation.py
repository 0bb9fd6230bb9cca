"""What ``absorb`` does to one account, and what ``buyCollateral`` sells of what was absorbed.

Source: compound-finance/comet, ``contracts/Comet.sol`` and ``CometWithExtendedAssetList.sol`` ``absorbInternal``,
``buyCollateral``, ``quoteCollateral``.

An absorption takes all collateral of an account and all its debt, for nobody's money: the protocol credits the
collateral at its liquidation factor, and what is left after the debt becomes the account's supply. Debt beyond the
credit is written off by reserves: that is a fill's deficit, by the prices of the absorption. What the protocol's sale
of the collateral brings later is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation, IndexUpdate, ParamChange, PositionChange
from backtest.protocols.compound_v3.account import counted_down, is_liquidatable, price_of
from backtest.protocols.compound_v3.math import base_for_down, bought_down, discounted_down, paid_up, worth_down
from backtest.protocols.compound_v3.state import (
    ABSORB_PAUSED,
    BASE,
    RULES,
    CometState,
    Indexes,
    Position,
    base_change,
    held_change,
    index_update,
    place_of,
    principal_changes,
    rates_after,
)
from backtest.protocols.interface import Fill, Order, Pair, Refusal

Change = PositionChange | IndexUpdate | ParamChange


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What an absorption comes to: what the account owed, what the collateral is credited for, and its principal
    afterwards (base units of the token).
    """

    owed: int
    credit: int
    principal: int

    @property
    def written_off(self) -> int:
        """Debt that no collateral is credited for."""
        return max(0, self.owed - self.credit)

    @property
    def paid_out(self) -> int:
        """``basePaidOut`` of the log: by how much the account's balance grew."""
        return max(self.owed, self.credit)


def absorbed(state: CometState, position: Position, at: Indexes, prices: Mapping[AssetId, int]) -> Absorbed:
    """Comet.absorbInternal of an account that owes; PriceMissing where it would revert."""
    owed = -at.present(position.principal)
    base_price, value = price_of(state, BASE, prices), 0
    for asset, held in position.held.items():
        worth = worth_down(held, price_of(state, asset, prices), state.market.unit(asset))
        value += counted_down(worth, state.param("liquidation_factor", asset))
    credit = base_for_down(value, base_price, state.base_scale)
    return Absorbed(owed, credit, at.principal(max(0, credit - owed)))


def main_collateral(state: CometState, position: Position, prices: Mapping[AssetId, int]) -> AssetId:
    """The collateral that a liquidation is told by: that of the greatest value, of equals the first; the first of the
    market where there is none.
    """
    worth = {
        asset: worth_down(held, price_of(state, asset, prices), state.market.unit(asset))
        for asset, held in position.held.items()
    }
    return max(worth, key=lambda asset: (worth[asset], -asset), default=AssetId(1))


def pairs(state: CometState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """One, where the account may be absorbed: the base token and its main collateral; nothing where it holds none, or a
    price that the contract asks for is missing.
    """
    position = state.position(account)
    if position.principal >= 0 or not position.held:
        return ()
    try:
        if not is_liquidatable(state, position, state.accrued(now.timestamp), prices):
            return ()
        return (Pair(BASE, main_collateral(state, position, prices)),)
    except PriceMissing:
        return ()


def quote(state: CometState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """What absorbing the account would do at ``now``; the state is not changed. Amounts of the order count only where
    they are agreed: then debt and the pair's collateral are taken as they say, and nothing else.

    ``repaid`` is all the debt, ``seized`` the pair's collateral; what else the account holds is in ``changes``.
    """
    position, at = state.position(order.account), state.accrued(now.timestamp)
    if state.paused(ABSORB_PAUSED):
        return Refusal("absorbing is paused")
    if position.principal >= 0:
        return Refusal("the account owes nothing")
    try:
        if not is_liquidatable(state, position, at, prices):
            return Refusal("the account is not liquidatable")
        if order.agreed:
            return _agreed(state, order, position, at, now)
        if order.pair != Pair(BASE, main_collateral(state, position, prices)):
            return Refusal("absorbing takes all collateral at once, told by the one of the greatest value")
        found = absorbed(state, position, at, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    place = place_of(now)
    changes: list[Change] = _accrual(state, at, position.principal, found.principal, now)
    changes += principal_changes(state, order.account, found.principal, place, ("liquidation", "liquidation"), 0)
    changes += [
        held_change(order.account, asset, "collateral", -held, "liquidation", held, place)
        for asset, held in position.held.items()
    ]
    return Fill(
        order,
        found.owed,
        position.held.get(order.pair.collateral_asset, 0),
        0,
        tuple(changes),
        ((BASE, found.written_off),) if found.written_off else (),
        rules=RULES,
    )


def _agreed(state: CometState, order: Order, position: Position, at: Indexes, now: Clock) -> Fill | Refusal:
    """Terms of a mechanism that is not Comet's: both amounts as they say, the debt rounded up as a repayment's is."""
    assert order.repay is not None
    assert order.seize is not None
    asset, owed = order.pair.collateral_asset, -at.present(position.principal)
    held = position.held.get(asset, 0)
    if order.pair.debt_asset != BASE or order.repay > owed or order.seize > held:
        return Refusal("more than there is")
    if not order.repay and not order.seize:
        return Refusal("nothing")
    after = at.principal(order.repay - owed)
    place = place_of(now)
    changes: list[Change] = _accrual(state, at, position.principal, after, now)
    if after != position.principal:
        changes.append(
            base_change(order.account, "debt", position.principal - after, "liquidation", order.repay, place)
        )
    changes.append(held_change(order.account, asset, "collateral", -order.seize, "liquidation", order.seize, place))
    changes += brought(order.repay, now)
    return Fill(order, order.repay, order.seize, 0, tuple(changes), rules=RULES)


def _accrual(state: CometState, at: Indexes, before: int, after: int, now: Clock) -> list[Change]:
    """Indexes that the call stores, where interest is recomputed."""
    if not state.recompute:
        return []
    rates = rates_after(state, at, max(after, 0) - max(before, 0), max(-after, 0) - max(-before, 0))
    return [index_update(at, rates, place_of(now))]


def own_storefront(now: Clock) -> ParamChange:
    """This book liquidates by itself: history's buyers of collateral do not come any more."""
    return ParamChange(**place_of(now), name="own_storefront", value=1)


def brought(more: int, now: Clock) -> list[ParamChange]:
    """Base tokens that a liquidation of this book brings."""
    return [ParamChange(**place_of(now), name="cash_here", value=more), own_storefront(now)]


@dataclass(frozen=True, slots=True)
class StorefrontSale:
    """What a buyer of absorbed collateral pays (base tokens) and gets, native units."""

    paid: int
    bought: int


def sale_price(state: CometState, asset: AssetId, prices: Mapping[AssetId, int]) -> int:
    """What the protocol asks for a collateral (Comet.quoteCollateral); PriceMissing where it would revert."""
    factors = state.param("store_front_price_factor"), state.param("liquidation_factor", asset)
    return discounted_down(price_of(state, asset, prices), *factors)


def sold(state: CometState, asset: AssetId, most: int, prices: Mapping[AssetId, int]) -> StorefrontSale | None:
    """The purchase that takes as near to ``most`` of a collateral as base tokens can be split; None where the least
    payment takes more than that. PriceMissing where quoteCollateral would revert.
    """
    base_price, price = price_of(state, BASE, prices), sale_price(state, asset, prices)
    if not price:  # the contract would divide by zero
        return None
    terms = base_price, price, state.market.unit(asset), state.base_scale
    paid = paid_up(most, *terms)
    if bought_down(paid, *terms) > most:
        paid -= 1
    return StorefrontSale(paid, bought_down(paid, *terms)) if paid > 0 else None


def is_for_sale(state: CometState, now: Clock) -> bool:
    """Comet.buyCollateral: reserves are below their target."""
    reserves = state.reserves(now.timestamp)
    return reserves < 0 or reserves < state.param("target_reserves")


def observed_order(state: CometState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock) -> Order:
    """The absorption of a historical one: it has no amounts of its own."""
    return Order(past.account, Pair(BASE, past.collateral_asset), past.liquidator)
