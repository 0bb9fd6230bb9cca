"""An account's health, totals and holdings in a Comet; and the linear form that screens accounts.

Source: compound-finance/comet, ``contracts/Comet.sol`` and ``CometWithExtendedAssetList.sol`` ``isLiquidatable``,
``isBorrowCollateralized``; ``CometExt.sol`` ``baseTrackingAccrued``, ``collateralBalanceOf``.

What an account supplied of the base token is no collateral of anything: whoever has some owes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.columns import Columns, refreshed, views_of
from backtest.protocols.compound_v3.math import INDEX, present_down, rate_down, worth_down
from backtest.protocols.compound_v3.state import BASE, BORROW_CURVE, CometState, Indexes, Position, accounts
from backtest.protocols.interface import AccountView, Exposures, Figure, Holding, LinearExposure, SafePrices, Views
from backtest.units import WAD, mul_div_down
from backtest.words import rule
from backtest.words.columns import Found, Words, over, words

_HORIZON = 6 * 3_600
"""Seconds for which an exposure holds;"""
_HEADROOM = 1.2
"""and how much faster than at full utilisation debts may grow meanwhile: reserves too may be lent."""
_FLOAT_ERROR = 1e-9
"""The relative error of an exposure's floats."""
_DOUBLE = 1e-12
"""More than a few operations of doubles err by."""


def price_of(state: CometState, asset: AssetId, prices: Mapping[AssetId, int]) -> int:
    """The feed's price; PriceMissing where Comet.getPrice would revert."""
    price = prices.get(asset)
    if not price or price < 0:
        raise PriceMissing(
            f"{state.market.assets[asset].symbol} has no price", "fetch prices, or leave the account out"
        )
    return price


@rule
def counted_down(worth: int, factor: int) -> int:
    """What a value counts for at a factor, wad (Comet.mulFactor)."""
    return mul_div_down(worth, factor, WAD)


@rule
def with_collateral(
    worth: int, carries: int, power: int, held: int, price: int, scale: int, threshold: int, ltv: int
) -> tuple[int, int, int]:
    """Sums over an account's collateral with one more: worth, what it carries before it may be absorbed, and what it
    may be borrowed against (isLiquidatable and isBorrowCollateralized each cut twice).
    """
    more = worth_down(held, price, scale)
    return worth + more, carries + counted_down(more, threshold), power + counted_down(more, ltv)


@rule
def rated(
    worth: int, carries: int, power: int, principal: int, index: int, price: int, scale: int
) -> tuple[int, int, int, int]:
    """Collateral, debt and borrowing power in base units, and health (wad; 0 where nothing is owed) of an account with
    these sums. ``principal`` is what it owes. Below one exactly where isLiquidatable says so: what the collateral
    carries over what the debt is worth, cut.
    """
    owed = worth_down(present_down(principal, index), price, scale)
    return worth, owed, power, mul_div_down(carries, WAD, owed) if owed else 0


def is_liquidatable(state: CometState, position: Position, at: Indexes, prices: Mapping[AssetId, int]) -> bool:
    """Comet.isLiquidatable at these indexes. PriceMissing where it would revert: prices are asked for one after
    another, until what is carried is enough.
    """
    return _short(state, position, at, prices, "liquidation_threshold")


def is_collateralized(state: CometState, position: Position, at: Indexes, prices: Mapping[AssetId, int]) -> bool:
    """Comet.isBorrowCollateralized at these indexes, as ``is_liquidatable``."""
    return not _short(state, position, at, prices, "ltv")


def _short(state: CometState, position: Position, at: Indexes, prices: Mapping[AssetId, int], factor: str) -> bool:
    if position.principal >= 0:
        return False
    owed = present_down(-position.principal, at.borrow)
    liquidity = -worth_down(owed, price_of(state, BASE, prices), state.base_scale)
    for asset, held in position.held.items():
        if liquidity >= 0:
            return False
        worth = worth_down(held, price_of(state, asset, prices), state.market.unit(asset))
        liquidity += counted_down(worth, state.param(factor, asset))
    return liquidity < 0


def view_of(state: CometState, position: Position, at: Indexes, prices: Mapping[AssetId, int]) -> AccountView:
    """See ``rated``; only what the account has needs a price."""
    sums = (0, 0, 0)
    for asset, held in position.held.items():
        sums = with_collateral(*sums, held, price_of(state, asset, prices), *_terms(state, asset))
    owes = max(-position.principal, 0)
    price = price_of(state, BASE, prices) if owes else 0
    collateral, debt, power, health = rated(*sums, owes, at.borrow, price, state.base_scale)
    return AccountView(collateral, debt, health if debt else None, power)


def _terms(state: CometState, asset: AssetId) -> tuple[int, int, int]:
    """Scale, threshold and loan-to-value of a collateral."""
    return state.market.unit(asset), state.param("liquidation_threshold", asset), state.param("ltv", asset)


def view(state: CometState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountView:
    """See ``view_of``, accrued to ``now``."""
    return view_of(state, state.position(account), state.accrued(now.timestamp), prices)


_OWED = 0
"""Column of the book: principal that is owed; those of collateral follow, by asset."""


def columns_of(state: CometState) -> Columns:
    """What each account owes (principal) and holds of each collateral, kept until it changes."""
    width = len(state.market.assets)

    def row(account: AccountId) -> tuple[int, ...] | None:
        position = state.positions[account]
        if not position.holds:
            return None
        held = position.held
        return max(-position.principal, 0), *(held.get(AssetId(asset), 0) for asset in range(1, width))

    state.columns = refreshed(state.columns, state.moved, lambda: accounts(state), row, width)
    state.moved.clear()
    return state.columns


def views(state: CometState, prices: Mapping[AssetId, int], now: Clock) -> Views | None:
    """``view`` of every account; None where the base token has no price, or nobody has anything."""
    base_price, columns = prices.get(BASE, 0), columns_of(state)
    rows = len(columns.account)
    if base_price <= 0 or not rows:
        return None
    at, zero = state.accrued(now.timestamp), words([0])
    sums: list[Words] = [zero, zero, zero]
    exact = np.ones(rows, np.bool_)
    for asset in map(AssetId, range(1, len(state.market.assets))):
        held = columns.values[asset]
        has = held.any(axis=1)
        if not has.any():
            continue
        if (price := prices.get(asset, 0)) <= 0:
            exact &= ~has
            continue
        found = over(with_collateral, *sums, held, price, *_terms(state, asset), rows=rows)
        sums, exact = list(found.columns), exact & found.exact
    found = over(rated, *sums, columns.values[_OWED], at.borrow, base_price, state.base_scale, rows=rows)
    found = Found(found.columns, found.exact & exact)
    return views_of(columns, found, lambda account: view_of(state, state.position(account), at, prices))


def figures(state: CometState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Figure]:
    """``userBasic`` (principal), ``balanceOf``, ``borrowBalanceOf``, ``collateralBalanceOf`` of each collateral,
    ``baseTrackingAccrued`` as an accrual now would leave it (see ``CometState.rewards``), and health as ``view_of``
    says it.
    """
    position, at, market = state.position(account), state.accrued(now.timestamp, rewards=True), state.market
    base, value = market.assets[BASE].symbol, at.present(position.principal)
    return [
        Figure("principal", position.principal, base),
        Figure("balance", max(value, 0), base),
        Figure("borrow_balance", max(-value, 0), base),
        *(
            Figure(f"collateral_{market.label(asset)}", held, market.assets[asset].symbol)
            for asset, held in position.held.items()
        ),
        Figure("base_tracking_accrued", state.rewards(position, at), "shares"),
        Figure("health_factor", view_of(state, position, at, prices).health, "wad"),
    ]


def holdings(state: CometState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """The principal as a scaled amount with what it is worth, and each collateral."""
    position, at = state.position(account), state.accrued(now.timestamp)
    found = []
    if position.principal:
        value = at.present(position.principal)
        scaled = max(position.principal, 0), max(-position.principal, 0)
        found.append(Holding(BASE, *scaled, max(value, 0), max(-value, 0), False))
    found += [Holding(asset, held, 0, held, 0, True) for asset, held in position.held.items()]
    return found


def safe_prices(
    state: CometState, account: AccountId, asset: AssetId, prices: Mapping[AssetId, int], now: Clock
) -> SafePrices | None:
    """Of one collateral of an account that owes: from which price on isLiquidatable is false, the other prices as
    given. None where a price is missing, or the others are enough.
    """
    position = state.position(account)
    held = position.held.get(asset)
    if position.principal >= 0 or not held:
        return None
    at, missing = state.accrued(now.timestamp), -1
    try:
        owed = present_down(-position.principal, at.borrow)
        missing = worth_down(owed, price_of(state, BASE, prices), state.base_scale)
        for other, amount in position.held.items():
            if other != asset:
                worth = worth_down(amount, price_of(state, other, prices), state.market.unit(other))
                missing -= counted_down(worth, state.param("liquidation_threshold", other))
    except PriceMissing:
        return None
    threshold = state.param("liquidation_threshold", asset)
    if missing <= 0 or not threshold:
        return None
    worth = -(-missing * WAD // threshold)  # the least that counts for what is missing
    return SafePrices(least_up=-(-worth * state.market.unit(asset) // held))


def exposure(state: CometState, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before the account may be absorbed; None without debt.

    Counts the debt with six hours' interest from now at the rate of full utilisation, since another call may raise the
    rate meanwhile; ``constant`` covers the cuts to base units, two a collateral.
    """
    position = state.position(account)
    if position.principal >= 0:
        return None
    at, market = state.accrued(now.timestamp), state.market
    owed = present_down(-position.principal, at.borrow) * _growth(state) / state.base_scale
    weights = {
        asset: held * state.param("liquidation_threshold", asset) / WAD / market.unit(asset)
        for asset, held in position.held.items()
    }
    return LinearExposure(
        {BASE: -owed, **weights},
        constant=-_slack(state),
        relative_error=_FLOAT_ERROR,
        debt={BASE: owed},
        until=now.timestamp + _HORIZON,
    )


def _growth(state: CometState) -> float:
    """Of a debt over the time that an exposure holds, at most."""
    rate = max(state.rates[1], state.curve_rates()[1], rate_down(WAD, *map(state.param, BORROW_CURVE)))
    return 1 + _HEADROOM * rate / WAD * _HORIZON


def _slack(state: CometState) -> float:
    return 2.0 * len(state.market.assets) + 1


def exposures(state: CometState, ids: Sequence[AccountId], now: Clock) -> Exposures:
    """``exposure`` of those of some accounts that owe, in doubles, hence a unit more on the safe side."""
    market, at = state.market, state.accrued(now.timestamp)
    columns = columns_of(state).among(ids)
    owing = columns.values[_OWED].any(axis=1)
    columns = Columns(columns.account[owing], columns.values[:, owing])
    count, width = len(columns.account), len(market.assets)
    amount = np.zeros((count, width))
    if count:
        grown = at.borrow / INDEX / state.base_scale * _growth(state) * (1 + _DOUBLE)
        amount[:, BASE] = columns.floats(_OWED) * grown
    for asset in map(AssetId, range(1, width)):
        if columns.values[asset].any():
            share = state.param("liquidation_threshold", asset) / WAD / market.unit(asset)
            amount[:, asset] = columns.floats(asset) * (share * (1 - _DOUBLE))
    there = amount > 0
    there[:, BASE] = True
    place = np.broadcast_to(np.arange(width), amount.shape)[there]
    return Exposures(
        account=columns.account,
        start=np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64),
        asset=place.astype(np.int64),
        owed=place == BASE,
        amount=amount[there],
        constant=np.full(count, -_slack(state)),
        relative_error=_FLOAT_ERROR,
        until=now.timestamp + _HORIZON,
    )
