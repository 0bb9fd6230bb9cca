"""An account's health, totals and holdings in a pair; and the linear form that screens accounts.

Source: FraxFinance/fraxlend at 2bed49d4, ``src/contracts/FraxlendPairCore.sol`` ``_isSolvent``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.fraxlend.math import PRECISION, RateCurve, ltv_down, new_rate_down, to_amount_down
from backtest.protocols.fraxlend.state import COLLATERAL, LENT, FraxlendState, Position, Totals
from backtest.protocols.interface import AccountView, Figure, Holding, LinearExposure
from backtest.units import WAD, mul_div_down, mul_div_up

FLOAT_ERROR = 1e-9
_HORIZON = 6 * 3600
"""Seconds for which an exposure holds."""
NO_LIMIT_HEALTH = WAD * WAD
"""Of whoever owes to a pair without a limit (a maxLTV of nothing): nobody is insolvent there."""


def rate_down(state: FraxlendState, prices: Mapping[AssetId, int]) -> int:
    """The exchange rate: native collateral for 10^18 native units lent.

    In a pair whose base currency is its collateral the lent token's price is the oracle's low rate itself, and this is
    it, unrounded; where a scenario moves the collateral's price, or prices are in another currency, it is their
    quotient, rounded down. PriceMissing where the oracle would revert.
    """
    lent, collateral = prices.get(LENT), prices.get(COLLATERAL)
    assets = state.market.assets
    for asset, price in ((LENT, lent), (COLLATERAL, collateral)):
        if not price:
            raise PriceMissing(f"{assets[asset].symbol} has no price", "fetch prices, or leave the account out")
    assert lent is not None
    assert collateral is not None
    scale = 18 + assets[COLLATERAL].decimals - assets[LENT].decimals
    return mul_div_down(lent, 10 ** max(scale, 0), collateral * 10 ** max(-scale, 0))


def high_rate_up(state: FraxlendState, rate: int) -> int:
    """The higher of the two rates, by which borrowing is checked: as far above the low one as when the pair last asked
    its oracle (``exchangeRateInfo``).
    """
    low, high = state.params.get("low_rate", 0), state.params.get("high_rate", 0)
    return mul_div_up(rate, high, low) if low and high > low else rate


def is_solvent(state: FraxlendState, has: Position, totals: Totals, rate: int) -> bool:
    """FraxlendPairCore._isSolvent at an exchange rate, with these totals (accrued)."""
    limit = state.params.get("liquidation_threshold", 0)
    if not limit or not (debt := totals.debt_up(has.borrow_shares)):
        return True
    return bool(has.collateral) and ltv_down(debt, rate, has.collateral) <= limit


def health_down(state: FraxlendState, has: Position, totals: Totals, rate: int) -> int | None:
    """The limit over the loan-to-value, wad, below one exactly where the contract says insolvent; None without debt."""
    debt, limit = totals.debt_up(has.borrow_shares), state.params.get("liquidation_threshold", 0)
    if not debt:
        return None
    if not limit:
        return NO_LIMIT_HEALTH
    return mul_div_down(limit, WAD, max(1, ltv_down(debt, rate, has.collateral))) if has.collateral else 0


def view(state: FraxlendState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountView:
    """Accrued to ``now``. What is lent is no collateral and does not count; whoever owes needs both prices."""
    return view_of(state, state.of(account), state.accrued(now.timestamp), prices)


def view_of(state: FraxlendState, has: Position, totals: Totals, prices: Mapping[AssetId, int]) -> AccountView:
    """The same of a position and totals."""
    market, debt = state.market, totals.debt_up(has.borrow_shares)
    if has.collateral and prices.get(COLLATERAL) is None:
        raise PriceMissing(f"{market.assets[COLLATERAL].symbol} has no price", "fetch prices")
    worth = mul_div_down(has.collateral, prices.get(COLLATERAL, 0), market.unit(COLLATERAL))
    power = mul_div_down(worth, state.params.get("liquidation_threshold", 0), PRECISION)
    if not debt:
        return AccountView(worth, 0, None, power)
    health = health_down(state, has, totals, rate_down(state, prices))
    return AccountView(worth, mul_div_up(debt, prices[LENT], market.unit(LENT)), health, power)


def figures(state: FraxlendState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Figure]:
    """``getUserSnapshot`` (fTokens, borrow shares, collateral), what they come to, and the loan-to-value (basis
    points, rounded down).
    """
    has, totals = state.of(account), state.accrued(now.timestamp)
    lent, collateral = (state.market.assets[asset].symbol for asset in (LENT, COLLATERAL))
    debt = totals.debt_up(has.borrow_shares)
    ltv = ltv_down(debt, rate_down(state, prices), has.collateral) // 10 if debt and has.collateral else None
    return [
        Figure("asset_shares", has.supply_shares, "shares"),
        Figure("borrow_shares", has.borrow_shares, "shares"),
        Figure("collateral_balance", has.collateral, collateral),
        Figure("asset_amount", to_amount_down(has.supply_shares, totals.lent, totals.lent_shares), lent),
        Figure("borrow_amount", debt, lent),
        Figure("ltv", ltv, "bps"),
        Figure("health", view_of(state, has, totals, prices).health, "wad"),
    ]


def holdings(state: FraxlendState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """What the account has of the lent token (shares as scaled amounts) and of the collateral."""
    has, totals, found = state.of(account), state.accrued(now.timestamp), []
    if has.supply_shares or has.borrow_shares:
        lent = to_amount_down(has.supply_shares, totals.lent, totals.lent_shares)
        owed = totals.debt_up(has.borrow_shares)
        found.append(Holding(LENT, has.supply_shares, has.borrow_shares, lent, owed, False))
    if has.collateral:
        found.append(Holding(COLLATERAL, has.collateral, 0, has.collateral, 0, True))
    return found


def exposure(state: FraxlendState, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before the position is insolvent; None without debt, or without a limit.

    The contract's cuts only ever lower a loan-to-value, so that the form without them is on the safe side. Its debt is
    what is owed at the end of ``_HORIZON``, whatever happens until then, see ``_growth``.
    """
    has, limit = state.of(account), state.params.get("liquidation_threshold", 0)
    if not has.borrow_shares or not limit:
        return None
    market = state.market
    owed = (state.accrued(now.timestamp).debt_up(has.borrow_shares) + 1) * _growth(state, now)
    weights = {
        COLLATERAL: has.collateral * limit / PRECISION / market.unit(COLLATERAL),
        LENT: -owed / market.unit(LENT),
    }
    return LinearExposure(
        weights, relative_error=FLOAT_ERROR, debt={LENT: -weights[LENT]}, until=now.timestamp + _HORIZON
    )


def _growth(state: FraxlendState, now: Clock) -> float:
    """The most by which a share's price grows within ``_HORIZON``, beside that of the recorded index.

    An accrual charges one rate for all the time since the one before. Where none comes meanwhile, utilisation stays as
    it is and that rate moves one way, so that it is between those of both ends; after one, no rate is above the curve's
    greatest.
    """
    if state.totals.paused or len(state.curve) < len(RateCurve._fields):
        return 1.0
    totals, curve = state.totals, RateCurve(**state.curve)
    since = now.timestamp - totals.updated
    ends = [new_rate_down(curve, seconds, totals.used, totals.full_rate)[0] for seconds in (since, since + _HORIZON)]
    still = (1 + max(ends) / WAD * (since + _HORIZON)) / (1 + ends[0] / WAD * since)
    moving = 1 + max(curve.max_full_util_rate, curve.zero_util_rate) / WAD * _HORIZON
    return max(still, moving) * (1 + FLOAT_ERROR)
