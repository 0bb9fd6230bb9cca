"""What the contracts say of a trove and of a deposit; and the linear form that screens troves.

Source: liquity/dev at 5174ecd0, ``TroveManager.sol`` ``getCurrentICR``, ``getEntireDebtAndColl``,
``StabilityPool.sol`` ``getCompoundedLUSDDeposit``, ``getDepositorETHGain``. The system counts an LUSD as one dollar
wherever it compares debt with collateral.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.columns import refreshed, views_of
from backtest.protocols.interface import AccountView, Exposures, Figure, Holding, LinearExposure, SafePrices, Views
from backtest.protocols.liquity_v1.math import health_down, ratio_down
from backtest.protocols.liquity_v1.state import ETH, LUSD, LiquityState, Trove, accounts, oracle_price
from backtest.units import WAD, mul_div_down
from backtest.words import rule
from backtest.words.columns import over

_FLOAT_ERROR = 1e-9


def price_of(state: LiquityState, prices: Mapping[AssetId, int]) -> int:
    """The oracle's price of ether; PriceMissing where there is none."""
    price = oracle_price(state, prices)
    if price is None:
        raise PriceMissing(f"{state.market.assets[ETH].symbol} has no price", "fetch prices, or leave the account out")
    return price


@rule
def rated(coll: int, debt: int, price: int, least: int) -> tuple[int, int, int, int]:
    """Collateral, debt and the most that may be owed in base units, and health: the trove's ratio over the least one
    (wad; 0 where nothing is owed).
    """
    worth = mul_div_down(coll, price, WAD)
    return worth, debt, mul_div_down(coll, price, least), health_down(coll, debt, price, least) if debt else 0


def view_of(state: LiquityState, trove: Trove, prices: Mapping[AssetId, int]) -> AccountView:
    """See ``rated``; without a trove no price is needed."""
    coll, debt = state.entire(trove)
    if not coll and not debt:
        return AccountView(0, 0, None)
    worth, owed, power, health = rated(coll, debt, price_of(state, prices), state.param("liquidation_ratio"))
    return AccountView(worth, owed, health if owed else None, power)


def view(state: LiquityState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountView:
    """See ``view_of``."""
    return view_of(state, state.trove(account), prices)


def views(state: LiquityState, prices: Mapping[AssetId, int], now: Clock) -> Views | None:
    """``view`` of every account; None where ether has no price, or nobody has anything."""
    price = oracle_price(state, prices)
    if price is None or not (state.troves or state.deposits):
        return None
    columns = refreshed(None, (), lambda: accounts(state), lambda account: state.entire(state.trove(account)), 2)
    found = over(rated, *columns.values, price, state.param("liquidation_ratio"), rows=len(columns.account))
    return views_of(columns, found, lambda account: view_of(state, state.trove(account), prices))


def figures(state: LiquityState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Figure]:
    """Of a trove: ``getEntireDebtAndColl`` (with what is pending of both), its stake and ``getCurrentICR``, beside the
    system's ``getTCR``; of a deposit ``getCompoundedLUSDDeposit`` and ``getDepositorETHGain``.
    """
    price, found = price_of(state, prices), []
    if (trove := state.troves.get(account)) is not None:
        (coll, debt), (more_coll, more_debt) = state.entire(trove), state.pending(trove)
        found += [
            Figure("debt", debt, "LUSD"),
            Figure("coll", coll, "ETH"),
            Figure("pending_debt", more_debt, "LUSD"),
            Figure("pending_coll", more_coll, "ETH"),
            Figure("stake", trove.stake, "shares"),
            Figure("collateral_ratio", ratio_down(coll, debt, price), "wad"),
            Figure("total_collateral_ratio", state.total_ratio(price), "wad"),
            Figure("recovery_mode", int(state.recovers(price)), "1 is yes"),
        ]
    if (deposit := state.deposits.get(account)) is not None:
        found += [
            Figure("compounded_deposit", state.deposit_of(deposit), "LUSD"),
            Figure("gain", state.gain_of(deposit), "ETH"),
        ]
    return found


def holdings(state: LiquityState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """The trove with what is pending; and of LUSD the deposit, which is nobody's collateral, beside the debt."""
    trove, deposit, found = state.trove(account), state.deposits.get(account), []
    coll, debt = state.entire(trove)
    if coll or trove.coll:
        found.append(Holding(ETH, trove.coll, 0, coll, 0, True))
    put, left = (deposit.value, state.deposit_of(deposit)) if deposit else (0, 0)
    if debt or put:
        found.append(Holding(LUSD, put, trove.debt, left, debt, False))
    return found


def safe_prices(
    state: LiquityState, account: AccountId, asset: AssetId, prices: Mapping[AssetId, int]
) -> SafePrices | None:
    """From which price of ether on a trove is at the least ratio, which every call that raises its risk asks for."""
    coll, debt = state.entire(state.trove(account))
    if asset != ETH or not coll or not debt:
        return None
    return SafePrices(least_up=-(-state.param("liquidation_ratio") * debt // coll))


def exposure(state: LiquityState, account: AccountId) -> LinearExposure | None:
    """A form that is negative before the trove may be liquidated; None without a trove.

    In recovery mode a trove below the whole system's ratio may be, which is below the critical one: whoever is below
    that is looked at. So it depends on nobody else's trove.
    """
    coll, debt = state.entire(state.trove(account))
    if not debt:
        return None
    return LinearExposure({ETH: coll / WAD}, constant=-debt * (_least(state) / WAD), relative_error=_FLOAT_ERROR)


def _least(state: LiquityState) -> int:
    return max(state.param("liquidation_ratio"), state.param("critical_ratio"))


def exposures(state: LiquityState, ids: Sequence[AccountId]) -> Exposures:
    """``exposure`` of those of some accounts that have a trove."""
    found = [(account, *state.entire(trove)) for account in sorted(set(ids)) if (trove := state.troves.get(account))]
    count, least = len(found), _least(state) / WAD
    return Exposures(
        account=np.array([row[0] for row in found], np.int64),
        start=np.arange(count + 1, dtype=np.int64),
        asset=np.zeros(count, np.int64),
        owed=np.zeros(count, np.bool_),
        amount=np.array([row[1] / WAD for row in found], np.float64),
        constant=np.array([-row[2] * least for row in found], np.float64),
        relative_error=_FLOAT_ERROR,
    )
