"""An account's health, totals and holdings in a Morpho Blue market; and the linear form that screens accounts.

Source: morpho-org/morpho-blue v1.0.0, ``src/Morpho.sol`` ``_isHealthy``;
    ``src/libraries/periphery/MorphoBalancesLib.sol``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.columns import Columns, refreshed, views_of
from backtest.protocols.interface import AccountView, Exposures, Figure, Holding, LinearExposure, SafePrices, Views
from backtest.protocols.morpho_blue.math import ORACLE_PRICE_SCALE, VIRTUAL_ASSETS, VIRTUAL_SHARES, to_assets_up
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, MorphoState, Position, Totals, accounts
from backtest.units import WAD, mul_div_down, mul_div_up
from backtest.words import rule
from backtest.words.columns import numbers, over, words

_EMPTY = Position()
_HORIZON = 86_400
"""Seconds for which an exposure holds;"""
_HEADROOM = 1.2
"""how much the rate may rise meanwhile at the same utilisation (50 / year for a day: 1.15), and"""
FLOAT_ERROR = 1e-9
"""the relative error of its floats."""
_DOUBLE = 1e-12
"""More than a few operations of doubles err by."""


def price_of(state: MorphoState, asset: AssetId, prices: Mapping[AssetId, int]) -> int:
    """The oracle's price; PriceMissing where it would revert."""
    price = prices.get(asset)
    if price is None:
        raise PriceMissing(
            f"{state.market.assets[asset].symbol} has no price", "fetch prices, or leave the account out"
        )
    return price


@rule
def max_borrow_down(collateral: int, price: int, lltv: int) -> int:
    """The most that the collateral carries, native loan units: collateral x price x lltv, cut twice."""
    return mul_div_down(mul_div_down(collateral, price, ORACLE_PRICE_SCALE), lltv, WAD)


def is_healthy(state: MorphoState, position: Position, totals: Totals, prices: Mapping[AssetId, int]) -> bool:
    """Morpho._isHealthy with these totals (accrued): no debt, or no more than the collateral carries."""
    if not position.borrow_shares:
        return True
    price = price_of(state, COLLATERAL, prices)
    return max_borrow_down(position.collateral, price, state.lltv) >= totals.debt_up(position.borrow_shares)


@rule
def valued(
    collateral: int, borrow_shares: int, total_assets: int, total_shares: int, price: int, loan_price: int, lltv: int,
    unit: int, loan_unit: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Collateral, debt and borrowing power of a position in base units, and its health (wad; 0 without debt).

    Health is below one exactly where the contract says unhealthy: what the collateral carries over the debt, wad, cut.
    ``unit`` and ``loan_unit`` are native units of a whole token; the totals are those of what is borrowed, accrued.
    """
    carries = max_borrow_down(collateral, price, lltv)
    worth, power = mul_div_down(collateral, price, unit), mul_div_down(carries, loan_price, loan_unit)
    if not borrow_shares:
        return worth, 0, power, 0
    owed = to_assets_up(borrow_shares, total_assets, total_shares)
    return worth, mul_div_up(owed, loan_price, loan_unit), power, mul_div_down(carries, WAD, owed)


def least_healthy_price_up(collateral: int, owed: int, lltv: int) -> int:
    """The least price at which ``collateral`` carries ``owed``: the inverse of ``max_borrow_down``, exact.
    ``collateral`` and ``lltv`` above zero.
    """
    value = -(-owed * WAD // lltv)
    return -(-value * ORACLE_PRICE_SCALE // collateral)


def safe_prices(state: MorphoState, account: AccountId, asset: AssetId, now: Clock) -> SafePrices | None:
    """Of the collateral of a position with debt, accrued to ``now``: Morpho._isHealthy asks one price."""
    position = state.positions.get(account, _EMPTY)
    if asset != COLLATERAL or not position.borrow_shares or not position.collateral or not state.lltv:
        return None
    if account in state.authorized:  # a contract liquidates it while it passes, another check than that of its owner
        return None
    owed = state.accrued(now.timestamp).debt_up(position.borrow_shares)
    return SafePrices(least_up=least_healthy_price_up(position.collateral, owed, state.lltv))


def view_of(state: MorphoState, position: Position, totals: Totals, prices: Mapping[AssetId, int]) -> AccountView:
    """See ``valued``. Lent loan tokens are no collateral and do not count; only what the position has needs a price."""
    price = price_of(state, COLLATERAL, prices) if position.collateral or position.borrow_shares else 0
    loan_price = price_of(state, LOAN, prices) if position.borrow_shares else prices.get(LOAN, 0)
    collateral, debt, power, health = valued(
        position.collateral, position.borrow_shares, *_terms(state, totals, price, loan_price)
    )
    return AccountView(collateral, debt, health if position.borrow_shares else None, power)


def _terms(state: MorphoState, totals: Totals, price: int, loan_price: int) -> tuple[int, ...]:
    """What ``valued`` takes that is the same for all positions."""
    market = state.market
    units = market.unit(COLLATERAL), market.unit(LOAN)
    return totals.borrow_assets, totals.borrow_shares, price, loan_price, state.lltv, *units


def views(state: MorphoState, prices: Mapping[AssetId, int], now: Clock) -> Views | None:
    """``view`` of every account; None where a price is missing, or the loan token is worth nothing."""
    price, loan_price = prices.get(COLLATERAL), prices.get(LOAN)
    if price is None or not loan_price:
        return None
    columns, totals = columns_of(state), state.accrued(now.timestamp)
    if not len(columns.account):
        return None
    held = columns.values[_COLLATERAL], columns.values[_BORROW_SHARES]
    found = over(valued, *held, *_terms(state, totals, price, loan_price), rows=len(columns.account))
    return views_of(columns, found, lambda account: view_of(state, state.positions[account], totals, prices))


def shortfall(state: MorphoState, ids: Sequence[AccountId], prices: Mapping[AssetId, int], now: Clock) -> int | None:
    """See ``LendingProtocol.shortfall``; None where a price is missing, or a number is no word."""
    price, loan_price = prices.get(COLLATERAL), prices.get(LOAN)
    if price is None or loan_price is None:
        return None
    positions = [position for account in ids if (position := state.positions.get(account, _EMPTY)).borrow_shares]
    held, owed = (
        words([getattr(position, name) for position in positions]) for name in ("collateral", "borrow_shares")
    )
    found = over(
        valued, held, owed, *_terms(state, state.accrued(now.timestamp), price, loan_price), rows=len(positions)
    )
    if not found.exact.all():
        return None
    worth, debt = numbers(found.columns[0]), numbers(found.columns[1])
    return sum(max(0, owes - holds) for holds, owes in zip(worth, debt, strict=True))


_COLLATERAL, _BORROW_SHARES = 0, 1
"""Columns of the book."""


def columns_of(state: MorphoState) -> Columns:
    """What each account holds and owes, kept until it changes."""

    def row(account: AccountId) -> tuple[int, int, int] | None:
        return row_of(state, account)

    live = state.live
    if live is not None and (state.moved or state.columns is None):
        live.refresh(row)
        if not live.plain.any():
            state.columns = live.columns()
            state.moved.clear()
    state.columns = refreshed(state.columns, state.moved, lambda: accounts(state), row, 3)
    state.moved.clear()
    return state.columns


def row_of(state: MorphoState, account: AccountId) -> tuple[int, int, int] | None:
    """An account's columns; None: it holds nothing."""
    position = state.positions[account]
    return (position.collateral, position.borrow_shares, position.supply_shares) if position.holds else None


def view(state: MorphoState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountView:
    """See ``view_of``, accrued to ``now``."""
    return view_of(state, state.positions.get(account, _EMPTY), state.accrued(now.timestamp), prices)


def figures(state: MorphoState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Figure]:
    """``Morpho.position`` (both kinds of shares, collateral), what they come to (MorphoBalancesLib,
    ``expectedSupplyAssets``
    and ``expectedBorrowAssets``), the most that may be owed, and health as ``view_of`` says it.
    """
    position, totals, market = state.positions.get(account, _EMPTY), state.accrued(now.timestamp), state.market
    loan, collateral = market.assets[LOAN].symbol, market.assets[COLLATERAL].symbol
    held, carries = position.collateral, 0
    if held:
        carries = max_borrow_down(held, price_of(state, COLLATERAL, prices), state.lltv)
    return [
        Figure("supply_shares", position.supply_shares, "shares"),
        Figure("borrow_shares", position.borrow_shares, "shares"),
        Figure("collateral", position.collateral, collateral),
        Figure("supply_assets", totals.supplied_down(position.supply_shares), loan),
        Figure("borrow_assets", totals.debt_up(position.borrow_shares), loan),
        Figure("max_borrow", carries, loan),
        Figure("health_factor", view_of(state, position, totals, prices).health, "wad"),
    ]


def holdings(state: MorphoState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """What the account holds of the loan token (shares as scaled amounts) and of the collateral token.

    As in the contract's own view, fee shares that an accrual now would make count for their recipient from that accrual
    on.
    """
    position = state.positions.get(account, _EMPTY)
    found = []
    if position.supply_shares or position.borrow_shares:
        totals = state.accrued(now.timestamp)
        lent, owed = totals.supplied_down(position.supply_shares), totals.debt_up(position.borrow_shares)
        found.append(Holding(LOAN, position.supply_shares, position.borrow_shares, lent, owed, False))
    if position.collateral:
        found.append(Holding(COLLATERAL, position.collateral, 0, position.collateral, 0, True))
    return found


def exposure(state: MorphoState, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before the position is unhealthy, or beyond the threshold of a pre-liquidation contract
    that the account authorised; None without debt.

    Where the market uses the adaptive curve it counts the debt with a day's interest from now at a rate a fifth above
    the present one, since between two accruals the curve's rate may lie above the recorded average; the debt's weight
    ages by the borrow index besides, and by nothing else where the recorded rate is the one that runs. ``constant``
    covers the cuts to whole units.
    """
    position = state.positions.get(account, _EMPTY)
    if not position.borrow_shares:
        return None
    market, totals = state.market, state.accrued(now.timestamp)
    owed = (totals.debt_up(position.borrow_shares) + 1) * _growth(state, totals, now)
    weights = {
        COLLATERAL: position.collateral * state.threshold(account) / WAD / market.unit(COLLATERAL),
        LOAN: -owed / market.unit(LOAN),
    }
    return LinearExposure(
        weights,
        constant=-_slack(state),
        relative_error=FLOAT_ERROR,
        debt={LOAN: -weights[LOAN]},
        until=_until(totals, now),
    )


def _growth(state: MorphoState, totals: Totals, now: Clock) -> float:
    """Of a debt over the time that an exposure holds, at most, beside that of the recorded index."""
    if totals.rate_at_target is None:
        return 1.0
    rate = max(totals.rates(now.timestamp)[0], state.totals.rate) / WAD
    return 1 + _HEADROOM * rate * _HORIZON


def _until(totals: Totals, now: Clock) -> int | None:
    return None if totals.rate_at_target is None else now.timestamp + _HORIZON


def _slack(state: MorphoState) -> float:
    market = state.market
    return 3 * 10.0 ** (market.base_decimals - market.assets[LOAN].decimals) + 1


def exposures(state: MorphoState, ids: Sequence[AccountId], now: Clock) -> Exposures:
    """``exposure`` of those of some accounts that owe, in doubles, hence a unit more on the safe side."""
    market, totals = state.market, state.accrued(now.timestamp)
    columns = columns_of(state).among(ids)
    owing = columns.values[_BORROW_SHARES].any(axis=1)
    columns = Columns(columns.account[owing], columns.values[:, owing])
    count = len(columns.account)
    share = (totals.borrow_assets + VIRTUAL_ASSETS) / (totals.borrow_shares + VIRTUAL_SHARES)
    owed = (columns.floats(_BORROW_SHARES) * share + 2) * (_growth(state, totals, now) * (1 + _DOUBLE))
    carried = columns.floats(_COLLATERAL) * (state.lltv / WAD / market.unit(COLLATERAL) * (1 - _DOUBLE))
    if state.authorized and state.lltv:
        places = {int(account): place for place, account in enumerate(columns.account)}
        for account in state.authorized.keys() & places.keys():
            carried[places[account]] *= state.threshold(account) / state.lltv * (1 - _DOUBLE)
    return Exposures(
        account=columns.account,
        start=2 * np.arange(count + 1),
        asset=np.tile(np.array([COLLATERAL, LOAN], np.int64), count),
        owed=np.tile(np.array([False, True]), count),
        amount=np.stack([carried, owed / market.unit(LOAN)], axis=1).ravel(),
        constant=np.full(count, -_slack(state)),
        relative_error=FLOAT_ERROR,
        until=_until(totals, now),
    )
