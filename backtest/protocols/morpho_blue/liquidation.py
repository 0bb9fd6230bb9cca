"""What one ``liquidate`` call does.

Source: morpho-org/morpho-blue v1.0.0, ``src/Morpho.sol`` ``liquidate``. A call names either the collateral to seize or
the shares to repay; there is no close factor, no fee and no pause. Debt that is left when the collateral is gone is
written off in the same call, from what suppliers own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    ParamChange,
    PositionChange,
    SettingChange,
)
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.morpho_blue.account import is_healthy, max_borrow_down, price_of
from backtest.protocols.morpho_blue.math import (
    ORACLE_PRICE_SCALE,
    VIRTUAL_ASSETS,
    VIRTUAL_SHARES,
    to_assets_down,
    to_assets_up,
    to_shares_down,
    to_shares_up,
)
from backtest.protocols.morpho_blue.state import (
    COLLATERAL,
    LOAN,
    RULES,
    MorphoState,
    Position,
    Totals,
    accrual,
    indexes_after,
)
from backtest.units import WAD, mul_div_down, mul_div_up
from backtest.words import rule

PAIR = Pair(LOAN, COLLATERAL)

IS_HEALTHY = Refusal("position is healthy")

Change = PositionChange | SettingChange | IndexUpdate | ParamChange


@rule
def assets_for_up(seized: int, price: int, incentive: int) -> int:
    """Native loan units to repay for ``seized`` collateral."""
    return mul_div_up(mul_div_up(seized, price, ORACLE_PRICE_SCALE), WAD, incentive)


@rule
def shares_for_up(seized: int, price: int, incentive: int, total_assets: int, total_shares: int) -> int:
    """The same in borrow shares; the totals are those of what is borrowed."""
    return to_shares_up(assets_for_up(seized, price, incentive), total_assets, total_shares)


@rule
def seized_for_down(shares: int, price: int, incentive: int, total_assets: int, total_shares: int) -> int:
    """Collateral that ``shares`` of repaid debt take; ZeroDivisionError at a price of zero, as the contract reverts."""
    repaid = to_assets_down(shares, total_assets, total_shares)
    return mul_div_down(mul_div_down(repaid, incentive, WAD), ORACLE_PRICE_SCALE, price)


@rule
def most_of(
    shares: int, collateral: int, price: int, incentive: int, total_assets: int, total_shares: int
) -> tuple[int, int]:
    """The largest call that repays at most so many shares: shares repaid, collateral seized."""
    seized = seized_for_down(shares, price, incentive, total_assets, total_shares)
    if seized <= collateral:
        return shares, seized
    return shares_for_up(collateral, price, incentive, total_assets, total_shares), collateral


HEALTHY, ON_OFFER, NOTHING, TOO_MUCH = range(4)
REASONS: Mapping[int, str] = {
    NOTHING: "inconsistent input: nothing is repaid or seized",
    TOO_MUCH: "repays more than the position owes",
}


@rule
def offered(
    shares: int, collateral: int, total_assets: int, total_shares: int, price: int, lltv: int, incentive: int,
    execution_price: int, loan_price: int, unit: int, loan_unit: int,
) -> tuple[int, int, int]:  # fmt: skip
    """How a call on a position that owes ends if it asks for as much as possible (``HEALTHY`` ...), what the liquidator
    pays, rounded up, and what it gets, rounded down, both base units. ``execution_price`` is what collateral is sold
    for.
    """
    if max_borrow_down(collateral, price, lltv) >= to_assets_up(shares, total_assets, total_shares):
        return HEALTHY, 0, 0
    repaid, seized = most_of(shares, collateral, price, incentive, total_assets, total_shares)
    if not repaid and not seized:
        return NOTHING, 0, 0
    if repaid > shares:
        return TOO_MUCH, 0, 0
    paid = to_assets_up(repaid, total_assets, total_shares)
    return ON_OFFER, mul_div_up(paid, loan_price, loan_unit), mul_div_down(seized, execution_price, unit)


@rule
def offered_at_most(
    shares: int, collateral: int, total_assets: int, total_shares: int, least_assets: int, price: int, lltv: int,
    incentive: int, execution_price: int, loan_price: int, unit: int, loan_unit: int,
) -> int:  # fmt: skip
    """A bound of what the liquidator gets beyond what it pays in ``offered`` (base units), as long as debt per share
    ``is_between`` what it is with ``least_assets`` and with ``total_assets``, at ``total_shares``.

    Where less is owed per share, a healthy position stays healthy. One that is repaid whole still is: it loses no more
    collateral than now, and repays what it owes. One whose collateral is short loses all of it and repays what that
    pays for, or owes so little by then that it is repaid whole. Nothing is refused that is not refused now: a call does
    nothing only where there is no collateral, and collateral that is short never pays for more than is owed. (Let F be
    what is owed, rounded down, n that with the incentive, rounded down. Collateral is short where n is worth more than
    all of it; so n is at least what it is worth, rounded up, and F at least that without the incentive, rounded up.)
    """
    if max_borrow_down(collateral, price, lltv) >= to_assets_up(shares, total_assets, total_shares):
        return 0
    seized = seized_for_down(shares, price, incentive, total_assets, total_shares)
    paid = to_assets_up(shares, least_assets, total_shares)
    if seized > collateral:
        seized, paid = collateral, min(paid, assets_for_up(collateral, price, incentive))
    return mul_div_down(seized, execution_price, unit) - mul_div_up(paid, loan_price, loan_unit)


@rule
def is_between(total_assets: int, total_shares: int, least_assets: int, most_assets: int, at_shares: int) -> bool:
    """Whether debt per share is between what it is with ``least_assets`` and with ``most_assets``, at ``at_shares``."""
    now, per = (total_assets + VIRTUAL_ASSETS) * (at_shares + VIRTUAL_SHARES), total_shares + VIRTUAL_SHARES
    return (least_assets + VIRTUAL_ASSETS) * per <= now and now <= (most_assets + VIRTUAL_ASSETS) * per


@rule
def least_assets_after(total_assets: int, calls: int) -> int:
    """What is borrowed if debt per share falls, at the shares of now, as far as so many calls may make it. A call moves
    it by its roundings alone, down unless nothing is left: what is repaid, and what is written off, is rounded up to a
    native unit each, which is as much as two of now while half of the shares are left.
    """
    return max(0, total_assets - 4 * calls)


@rule
def left_by(
    shares: int, seized: int, borrow_shares: int, collateral: int, borrow_assets: int, total_shares: int
) -> tuple[int, int, int, int, int]:
    """A call that repays ``shares`` of a position's and seizes so much: native units repaid, shares written off and
    what they owed, and the market's totals of what is borrowed afterwards. What is written off leaves what is supplied
    as well.
    """
    repaid, lost, lost_shares = to_assets_up(shares, borrow_assets, total_shares), 0, 0
    borrow_assets, total_shares = max(0, borrow_assets - repaid), total_shares - shares
    if seized == collateral and borrow_shares > shares:
        lost_shares = borrow_shares - shares
        lost = min(borrow_assets, to_assets_up(lost_shares, borrow_assets, total_shares))
        borrow_assets, total_shares = borrow_assets - lost, total_shares - lost_shares
    return repaid, lost_shares, lost, borrow_assets, total_shares


def pairs(state: MorphoState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """The one pair, where the position is unhealthy; nothing where the price is missing."""
    position = state.positions.get(account)
    if position is None or not position.borrow_shares:
        return ()
    try:
        return () if is_healthy(state, position, state.accrued(now.timestamp), prices) else (PAIR,)
    except PriceMissing:
        return ()


def quote(state: MorphoState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """What ``order`` would do at ``now``; the state is not changed.

    ``order.seize`` and ``order.repay_scaled`` are the contract's two arguments, taken as they are. ``order.repay``
    (native units, cut to what is owed) is turned into shares, rounded down. With none of them as much as possible: all
    the debt, or the collateral where that is less. Where both are agreed, the incentive factor does not apply.
    """
    position = state.positions.get(order.account, Position())
    totals = state.accrued(now.timestamp)
    try:
        price = price_of(state, COLLATERAL, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    if order.pair != PAIR:
        return Refusal("the market has no such pair")
    if not order.early and is_healthy(state, position, totals, prices):
        return IS_HEALTHY
    incentive = state.incentive_factor
    shares, seized = _size(order, position, totals, price, incentive)
    if not shares and not seized:
        return Refusal(REASONS[NOTHING])
    if shares > position.borrow_shares:
        return Refusal(REASONS[TOO_MUCH])
    if seized > position.collateral:
        return Refusal("seizes more collateral than there is")
    return _settle(state, order, position, totals, now, shares, seized)


def _size(order: Order, position: Position, totals: Totals, price: int, incentive: int) -> tuple[int, int]:
    """(shares repaid, collateral seized)."""
    if order.agreed:
        assert order.repay is not None
        assert order.seize is not None
        if order.repay_scaled is not None:
            return order.repay_scaled, order.seize
        whole = order.repay >= totals.debt_up(position.borrow_shares)
        shares = (
            position.borrow_shares if whole else to_shares_down(order.repay, totals.borrow_assets, totals.borrow_shares)
        )
        return shares, order.seize
    terms = price, incentive, totals.borrow_assets, totals.borrow_shares
    if order.seize is not None:
        return (shares_for_up(order.seize, *terms), order.seize) if order.seize else (0, 0)
    if order.repay_scaled is not None:
        return order.repay_scaled, seized_for_down(order.repay_scaled, *terms)
    shares = position.borrow_shares
    if order.repay is not None:
        shares = min(shares, to_shares_down(order.repay, totals.borrow_assets, totals.borrow_shares))
    return most_of(shares, position.collateral, *terms)


def _settle(
    state: MorphoState, order: Order, position: Position, totals: Totals, now: Clock, shares: int, seized: int
) -> Fill:
    account = order.account
    repaid, lost_shares, lost, borrow_assets, borrow_shares = left_by(
        shares, seized, position.borrow_shares, position.collateral, totals.borrow_assets, totals.borrow_shares
    )
    changes: list[Change] = [
        *accrual(state, now), *taken(now, account, shares, repaid, seized, lost_shares, lost)
    ]  # fmt: skip
    left = replace(
        totals,
        borrow_assets=borrow_assets,
        borrow_shares=borrow_shares,
        supply_assets=totals.supply_assets - lost,
    )
    changes += indexes_after(state, left, now)
    deficits = ((LOAN, lost),) if lost_shares else ()
    return Fill(order, repaid, seized, 0, tuple(changes), deficits, rules=RULES, rules_tested=True)


def taken(
    now: Clock, account: AccountId, shares: int, repaid: int, seized: int, lost_shares: int, lost: int
) -> list[PositionChange | SettingChange]:
    """What a call changes in an account, in order: debt, collateral, and debt that is written off."""
    changes: list[PositionChange | SettingChange] = [
        position_change(now, account, LOAN, "debt", -shares, amount=repaid),
        position_change(now, account, COLLATERAL, "collateral", -seized, amount=seized),
    ]
    if lost_shares:
        changes.append(position_change(now, account, LOAN, "debt", -lost_shares, amount=lost))
        changes.append(setting_change(now, account, "bad_debt", LOAN, lost))
    return changes


def _shares(fill: Fill) -> int:
    return next(-change.delta for change in fill.changes if isinstance(change, PositionChange))


def observed_order(state: MorphoState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock) -> Order:
    """The call that explains a historical liquidation: by the collateral it seized where that gives the logged shares,
    else by the shares.
    """
    order = Order(past.account, PAIR, past.liquidator, seize=past.seized)
    if past.debt_scaled is None:
        return order
    fill = quote(state, order, prices, now)
    if isinstance(fill, Fill) and _shares(fill) == past.debt_scaled:
        return order
    return Order(past.account, PAIR, past.liquidator, repay_scaled=past.debt_scaled)
