"""What the contracts say of a trove and of a deposit; and the linear form that screens troves.

Source: liquity/bold at b40fa9b9, ``TroveManager.sol`` ``getCurrentICR``, ``getLatestTroveData``, ``StabilityPool.sol``
``getCompoundedBoldDeposit``, ``getDepositorCollGain``, ``getDepositorYieldGain``. A BOLD counts as a dollar wherever
debt is compared with collateral.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.interface import AccountView, Figure, Holding, LinearExposure, SafePrices
from backtest.protocols.liquity.math import health_down, ratio_down
from backtest.protocols.liquity_v2.math import YEAR
from backtest.protocols.liquity_v2.state import BOLD, COLL, BranchState, Trove, oracle_price
from backtest.units import WAD, mul_div_down

_FLOAT_ERROR = 1e-8
"""Of the form, and of what other troves' calls may round away from a trove in a batch."""
HORIZON = 86_400
"""Seconds for which a form holds."""


def price_of(state: BranchState, prices: Mapping[AssetId, int]) -> int:
    """The oracle's price of the collateral; PriceMissing where there is none."""
    price = oracle_price(state, prices)
    if price is None:
        raise PriceMissing(f"{state.market.assets[COLL].symbol} has no price", "fetch prices, or leave the account out")
    return price


def viewed(coll: int, debt: int, price: int, least: int) -> AccountView:
    """Collateral, debt and the most that may be owed, base units; health: the ratio over the least one."""
    health = health_down(coll, debt, price, least) if debt else None
    return AccountView(mul_div_down(coll, price, WAD), debt, health, mul_div_down(coll, price, least))


def view(state: BranchState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountView:
    """See ``viewed``; without a trove no price is needed."""
    latest = state.latest(state.trove(account), now.timestamp)
    if not latest.coll and not latest.debt:
        return AccountView(0, 0, None)
    return viewed(latest.coll, latest.debt, price_of(state, prices), state.param("liquidation_ratio"))


def figures(state: BranchState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Figure]:
    """Of a trove ``getLatestTroveData`` and ``getCurrentICR``, beside the branch's ratio; of a deposit
    ``getCompoundedBoldDeposit``, ``getDepositorCollGain``, ``getDepositorYieldGain`` and ``stashedColl``.
    """
    price, coll = price_of(state, prices), state.market.assets[COLL].symbol
    bold, found = state.market.assets[BOLD].symbol, []
    if (trove := state.troves.get(account)) is not None:
        latest = state.latest(trove, now.timestamp)
        found += [
            Figure("entire_debt", latest.debt, bold),
            Figure("entire_coll", latest.coll, coll),
            Figure("redist_debt_gain", latest.shared_debt, bold),
            Figure("redist_coll_gain", latest.shared_coll, coll),
            Figure("accrued_interest", latest.interest, bold),
            Figure("accrued_batch_management_fee", latest.fee, bold),
            Figure("annual_interest_rate", state.rate_of(trove), "wad"),
            Figure("stake", trove.stake, "shares"),
            Figure("zombie", int(trove.zombie > 0), "1 is yes"),
            Figure("collateral_ratio", ratio_down(latest.coll, latest.debt, price), "wad"),
            Figure("total_collateral_ratio", state.total_ratio(price, now.timestamp), "wad"),
            Figure("shut_down", int(state.shutdown > 0), "1 is yes"),
        ]
    if (deposit := state.deposits.get(account)) is not None:
        found += [
            Figure("compounded_deposit", state.deposit_of(deposit), bold),
            Figure("coll_gain", state.gain_of(deposit), coll),
            Figure("yield_gain", state.yield_of(deposit), bold),
        ]
    if stashed := state.stashed.get(account):
        found.append(Figure("stashed_coll", stashed, coll))
    return found


def holdings(state: BranchState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """The trove with interest and what redistributions gave it; of BOLD the deposit, which is nobody's collateral,
    beside the debt (in a batch stored as shares).
    """
    trove, deposit, found = state.trove(account), state.deposits.get(account), []
    latest, stashed = state.latest(trove, now.timestamp), state.stashed.get(account, 0)
    if latest.coll or stashed:
        found.append(Holding(COLL, trove.coll + stashed, 0, latest.coll + stashed, 0, latest.coll > 0))
    put, left = (deposit.value, state.deposit_of(deposit)) if deposit else (0, 0)
    if latest.debt or put:
        found.append(Holding(BOLD, put, trove.debt or trove.shares, left, latest.debt, False))
    return found


def safe_prices(state: BranchState, account: AccountId, asset: AssetId, now: Clock) -> SafePrices | None:
    """From which price of the collateral on a trove is at the least ratio, which every call that raises its risk asks
    for.
    """
    latest = state.latest(state.trove(account), now.timestamp)
    if asset != COLL or not latest.coll or not latest.debt:
        return None
    return SafePrices(least_up=-(-state.param("liquidation_ratio") * latest.debt // latest.coll))


def exposure(state: BranchState, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before the trove may be liquidated, for a day; None without a trove that owes.

    Its debt is taken as it is at the end of that day with interest on interest, whoever records it meanwhile.
    """
    trove = state.trove(account)
    coll, debt, *_ = state.latest(trove, now.timestamp)
    if not debt:
        return None
    grown = _most(state, trove) * HORIZON / YEAR
    owed = debt * (1 + grown + grown * grown)
    least = state.param("liquidation_ratio") / WAD
    return LinearExposure(
        {COLL: coll / WAD}, constant=-owed * least, relative_error=_FLOAT_ERROR, until=now.timestamp + HORIZON
    )


def _most(state: BranchState, trove: Trove) -> float:
    """By how much its debt grows in a year, as a part of it."""
    fee = 0 if trove.batch is None else state.batches[trove.batch].fee
    return (state.rate_of(trove) + fee) / WAD
