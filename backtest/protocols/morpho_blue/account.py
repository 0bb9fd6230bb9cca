"""An account's health, totals and holdings in a Morpho Blue market; and the linear form that screens accounts.

Source: morpho-org/morpho-blue v1.0.0, ``src/Morpho.sol`` ``_isHealthy``;
    ``src/libraries/periphery/MorphoBalancesLib.sol``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols import AccountView, Figure, Holding, LinearExposure, SafePrices
from backtest.protocols.morpho_blue.math import ORACLE_PRICE_SCALE
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, MorphoState, Position, Totals
from backtest.units import WAD, mul_div_down

_EMPTY = Position()
_HORIZON = 86_400
"""Seconds for which an exposure holds;"""
_HEADROOM = 1.2
"""how much the rate may rise meanwhile at the same utilisation (50 / year for a day: 1.15), and"""
_FLOAT_ERROR = 1e-9
"""the relative error of its floats."""


def price_of(state: MorphoState, asset: AssetId, prices: Mapping[AssetId, int]) -> int:
    """The oracle's price; PriceMissing where it would revert."""
    price = prices.get(asset)
    if price is None:
        raise PriceMissing(
            f"{state.market.assets[asset].symbol} has no price", "fetch prices, or leave the account out"
        )
    return price


def max_borrow_down(state: MorphoState, position: Position, price: int) -> int:
    """The most that the collateral carries, native loan units: collateral x price x lltv, cut twice."""
    return mul_div_down(mul_div_down(position.collateral, price, ORACLE_PRICE_SCALE), state.lltv, WAD)


def is_healthy(state: MorphoState, position: Position, totals: Totals, prices: Mapping[AssetId, int]) -> bool:
    """Morpho._isHealthy with these totals (accrued): no debt, or no more than the collateral carries."""
    if not position.borrow_shares:
        return True
    return max_borrow_down(state, position, price_of(state, COLLATERAL, prices)) >= totals.debt_up(
        position.borrow_shares
    )


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
    owed = state.accrued(now.timestamp).debt_up(position.borrow_shares)
    return SafePrices(least_up=least_healthy_price_up(position.collateral, owed, state.lltv))


def view_of(state: MorphoState, position: Position, totals: Totals, prices: Mapping[AssetId, int]) -> AccountView:
    """Totals and health of a position. Lent loan tokens are no collateral and do not count. Health is below one exactly
    where the contract
    says unhealthy: what the collateral carries over the debt, wad, cut."""
    market = state.market
    collateral = debt = power = 0
    health = None
    if position.collateral:
        collateral = position.collateral * price_of(state, COLLATERAL, prices) // market.unit(COLLATERAL)
    if position.borrow_shares:
        loan_price, owed = price_of(state, LOAN, prices), totals.debt_up(position.borrow_shares)
        carries = max_borrow_down(state, position, price_of(state, COLLATERAL, prices))
        debt = -(-owed * loan_price // market.unit(LOAN))
        power, health = carries * loan_price // market.unit(LOAN), mul_div_down(carries, WAD, owed)
    elif position.collateral and LOAN in prices:
        power = max_borrow_down(state, position, prices[COLLATERAL]) * prices[LOAN] // market.unit(LOAN)
    return AccountView(collateral, debt, health, power)


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
    carries = max_borrow_down(state, position, price_of(state, COLLATERAL, prices)) if position.collateral else 0
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
    """A form that is negative before the position is unhealthy; None without debt.

    Counts the debt with a day's interest from now at a rate a fifth above the present one, since between two accruals
    the curve's rate may lie above the recorded average; the debt's weight ages by the borrow index besides.
    ``constant`` covers the cuts to whole units.
    """
    position = state.positions.get(account, _EMPTY)
    if not position.borrow_shares:
        return None
    market, totals = state.market, state.accrued(now.timestamp)
    rate = max(totals.rates(now.timestamp)[0], state.totals.rate) / WAD
    owed = (totals.debt_up(position.borrow_shares) + 1) * (1 + _HEADROOM * rate * _HORIZON)
    weights = {
        COLLATERAL: position.collateral * state.lltv / WAD / market.unit(COLLATERAL),
        LOAN: -owed / market.unit(LOAN),
    }
    slack = 3 * 10.0 ** (market.base_decimals - market.assets[LOAN].decimals) + 1
    return LinearExposure(
        weights,
        constant=-slack,
        relative_error=_FLOAT_ERROR,
        debt={LOAN: -weights[LOAN]},
        until=now.timestamp + _HORIZON,
    )
