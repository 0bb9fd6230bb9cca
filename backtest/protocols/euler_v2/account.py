"""An account's health, totals and holdings against one lending vault; and the linear form that screens accounts.

Source: euler-xyz/euler-vault-kit, ``src/EVault/shared/LiquidityUtils.sol`` ``calculateLiquidity``, ``checkLiquidity``,
``getCollateralValue``, ``getLiabilityValue``; ``modules/RiskManager.sol`` ``accountLiquidity``;
euler-xyz/euler-price-oracle, ``src/EulerRouter.sol`` ``resolveOracle``: shares count as the tokens that they convert
to. Bid and ask are the same price, as those of every adapter of that repository are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.columns import Columns, refreshed, views_of
from backtest.protocols.euler_v2.math import MAX_RATE, assets_down, grown_down, owed_up
from backtest.protocols.euler_v2.state import LENT, Account, EulerState, Vault, accounts
from backtest.protocols.interface import AccountView, Exposures, Figure, Holding, LinearExposure, SafePrices, Views
from backtest.units import BPS, RAY, WAD, mul_div_down
from backtest.words import rule
from backtest.words.columns import Found, Words, over, words

_HORIZON = 2 * 3_600
"""Seconds for which an exposure holds,"""
_GROWTH = (1 + MAX_RATE / RAY) ** _HORIZON
"""and by how much a debt may grow meanwhile: no vault allows more."""
_FLOAT_ERROR = 1e-9
"""The relative error of an exposure's floats."""
_DOUBLE = 1e-12
"""More than a few operations of doubles err by."""

OracleView = Mapping[AssetId, int]


def price_of(state: EulerState, asset: AssetId, prices: OracleView) -> int:
    """A whole token in the unit of account; PriceMissing where the oracle would revert."""
    price = prices.get(asset)
    if not price or price < 0:
        raise PriceMissing(
            f"{state.market.assets[asset].symbol} has no price", "fetch prices, or leave the account out"
        )
    return price


@rule
def value_down(shares: int, assets: int, total: int, price: int, unit: int) -> int:
    """Shares in the unit of account: tokens that they convert to, then the price, each cut."""
    return mul_div_down(assets_down(shares, assets, total), price, unit)


@rule
def with_collateral(
    worth: int, adjusted: int, power: int, shares: int, assets: int, total: int, price: int, unit: int, ltv: int,
    borrow_ltv: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Sums over an account's collateral with one more: what it is worth, what counts against liquidation, and against
    a loan (getCollateralValue); LTVs in basis points.
    """
    more = value_down(shares, assets, total, price, unit)
    return worth + more, adjusted + more * ltv // 10000, power + more * borrow_ltv // 10000


@rule
def rated(
    worth: int, adjusted: int, power: int, debt: int, accumulator: int, since: int, price: int, unit: int
) -> tuple[int, int, int, int]:
    """Collateral, liability and borrowing power in base units, and health of an account with these sums.

    A liability equal to the adjusted collateral may be liquidated, so that health is what is carried, less a hair, over
    the liability: below one exactly where the vault says so. 0 where the liability is worth nothing.
    """
    owed = mul_div_down(owed_up(grown_down(debt, accumulator, since)), price, unit) if debt else 0
    if owed == 0:
        return worth, 0, power, 0
    return worth, owed, power, (adjusted * 1000000000000000000 - 1) // owed if adjusted else 0


class Liquidity(NamedTuple):
    """RiskManager.accountLiquidity for liquidation, base units, with the debt in native ones."""

    adjusted: int
    liability: int
    owed: int

    @property
    def is_violation(self) -> bool:
        """Whether the account may be liquidated (calculateMaxLiquidation)."""
        return self.liability > 0 and self.adjusted <= self.liability


def liability_of(state: EulerState, has: Account, vault: Vault, prices: OracleView) -> tuple[int, int]:
    """What is owed: base units, native units (getLiabilityValue)."""
    owed = owed_up(has.current(vault.accumulator))
    return (owed * price_of(state, LENT, prices) // state.market.unit(LENT) if owed else 0), owed


def value_of(state: EulerState, has: Account, asset: AssetId, vault: Vault, prices: OracleView) -> int:
    """What an account holds of one collateral, base units."""
    price = price_of(state, asset, prices)
    return value_down(has.shares.get(asset, 0), vault.assets, vault.shares, price, state.market.unit(asset))


def liquidity(
    state: EulerState, has: Account, vaults: Sequence[Vault], prices: OracleView, now: int, *, borrowing: bool = False
) -> Liquidity:
    """LiquidityUtils.calculateLiquidity with these vaults (accrued); PriceMissing where it would revert: collateral
    without LTV or balance needs no price.
    """
    adjusted = 0
    for asset in sorted(has.enabled):
        ltv = state.borrow_ltv(asset) if borrowing else state.liquidation_ltv(asset, now)
        if ltv and asset in has.shares:
            adjusted += value_of(state, has, asset, vaults[asset], prices) * ltv // BPS
    return Liquidity(adjusted, *liability_of(state, has, vaults[LENT], prices))


def is_healthy(state: EulerState, has: Account, vaults: Sequence[Vault], prices: OracleView, now: int) -> bool:
    """LiquidityUtils.checkLiquidity: what an owner's call has to leave."""
    if not has.debt:
        return True
    found = liquidity(state, has, vaults, prices, now, borrowing=True)
    return found.adjusted > found.liability


def view_of(state: EulerState, has: Account, vaults: Sequence[Vault], prices: OracleView, now: int) -> AccountView:
    """See ``rated``; only enabled collateral with a balance needs a price, and a debt."""
    sums = (0, 0, 0)
    for asset in sorted(has.enabled):
        if asset in has.shares and state.is_recognized(asset):
            price = price_of(state, asset, prices)
            sums = with_collateral(*sums, has.shares[asset], *_terms(state, asset, vaults[asset], price, now))
    price = price_of(state, LENT, prices) if has.debt else 0
    accumulator = vaults[LENT].accumulator
    worth, debt, power, health = rated(*sums, has.debt, accumulator, has.since, price, state.market.unit(LENT))
    return AccountView(worth, debt, health if debt else None, power)


def _terms(state: EulerState, asset: AssetId, vault: Vault, price: int, now: int) -> tuple[int, ...]:
    ltvs = state.liquidation_ltv(asset, now), state.borrow_ltv(asset)
    return vault.assets, vault.shares, price, state.market.unit(asset), *ltvs


def view(state: EulerState, account: AccountId, prices: OracleView, now: Clock) -> AccountView:
    """See ``view_of``, accrued to ``now``."""
    return view_of(state, state.account(account), state.all_accrued(now.timestamp), prices, now.timestamp)


# -- all accounts at once ----------------------------------------------------------------------------------------------

_DEBT, _SINCE = 0, 1
"""Columns of the book: the stored debt and its accumulator; shares that count as collateral follow, by asset."""


def columns_of(state: EulerState) -> Columns:
    """What each account owes, and holds of enabled collateral, kept until it changes."""
    width = len(state.market.assets)

    def row(account: AccountId) -> tuple[int, ...] | None:
        has = state.people[account]
        if not has.holds:
            return None
        counted = (has.shares.get(AssetId(a), 0) if AssetId(a) in has.enabled else 0 for a in range(1, width))
        return has.debt, has.since, *counted

    state.columns = refreshed(state.columns, state.moved, lambda: accounts(state), row, width + 1)
    state.moved.clear()
    return state.columns


def views(state: EulerState, prices: OracleView, now: Clock) -> Views | None:
    """``view`` of every account; None where what is lent has no price, or nobody has anything."""
    lent_price, columns = prices.get(LENT, 0), columns_of(state)
    rows = len(columns.account)
    if lent_price <= 0 or not rows:
        return None
    vaults, zero = state.all_accrued(now.timestamp), words([0])
    sums: list[Words] = [zero, zero, zero]
    exact = np.ones(rows, np.bool_)
    for asset in map(AssetId, range(1, len(state.market.assets))):
        held = columns.values[_SINCE + asset]
        has = held.any(axis=1)
        if not has.any() or not state.is_recognized(asset):
            continue
        if (price := prices.get(asset, 0)) <= 0:
            exact &= ~has
            continue
        terms = _terms(state, asset, vaults[asset], price, now.timestamp)
        found = over(with_collateral, *sums, held, *terms, rows=rows)
        sums, exact = list(found.columns), exact & found.exact
    debts = columns.values[_DEBT], vaults[LENT].accumulator, columns.values[_SINCE]
    found = over(rated, *sums, *debts, lent_price, state.market.unit(LENT), rows=rows)
    found = Found(found.columns, found.exact & exact)
    return views_of(
        columns, found, lambda account: view_of(state, state.account(account), vaults, prices, now.timestamp)
    )


# -- one account -------------------------------------------------------------------------------------------------------


def figures(state: EulerState, account: AccountId, prices: OracleView, now: Clock) -> Sequence[Figure]:
    """``accountLiquidity`` for liquidation and for a loan, ``debtOf`` and ``debtOfExact``, ``balanceOf`` of each vault,
    when its status was last checked, and health as ``view_of`` says it.
    """
    has, vaults, market = state.account(account), state.all_accrued(now.timestamp), state.market
    found = liquidity(state, has, vaults, prices, now.timestamp)
    power = liquidity(state, has, vaults, prices, now.timestamp, borrowing=True)
    return [
        Figure("collateral_value_liquidation", found.adjusted, "base"),
        Figure("collateral_value_borrowing", power.adjusted, "base"),
        Figure("liability_value", found.liability, "base"),
        Figure("debt", found.owed, market.assets[LENT].symbol),
        Figure("debt_exact", has.current(vaults[LENT].accumulator), "shares"),
        *(Figure(f"shares_{market.label(asset)}", held, "shares") for asset, held in has.shares.items()),
        Figure("last_status_check", has.checked, "seconds"),
        Figure("health_factor", view_of(state, has, vaults, prices, now.timestamp).health, "wad"),
    ]


def holdings(state: EulerState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """Shares as scaled amounts, with the tokens that they convert to; the stored debt, with what is owed."""
    has, found = state.account(account), []
    for asset in sorted({*has.shares, *({LENT} if has.debt else ())}):
        vault, shares = state.accrued(asset, now.timestamp), has.shares.get(asset, 0)
        debt, owed = (has.debt, owed_up(has.current(vault.accumulator))) if asset == LENT else (0, 0)
        found.append(Holding(asset, shares, debt, vault.worth_down(shares), owed, asset in has.enabled))
    return found


def safe_prices(
    state: EulerState, account: AccountId, asset: AssetId, prices: OracleView, now: Clock
) -> SafePrices | None:
    """Of one collateral: from which price on the account is no violation, the other prices as given; of what is lent:
    up to which. None where a price is missing, or it does not turn there.
    """
    has, time = state.account(account), now.timestamp
    vaults = state.all_accrued(time)
    if not has.debt:
        return None
    try:
        found = liquidity(state, has, vaults, {**prices, asset: WAD}, time)
        if asset == LENT:  # liability below adjusted: owed x price / unit < adjusted, cut
            most = (found.adjusted * state.market.unit(LENT) - 1) // found.owed
            return SafePrices(most_down=most) if found.adjusted else None
        ltv = state.liquidation_ltv(asset, time) if asset in has.enabled else 0
        tokens = vaults[asset].worth_down(has.shares.get(asset, 0))
        if not ltv or not tokens:
            return None
        own = value_of(state, has, asset, vaults[asset], {asset: WAD}) * ltv // BPS
        missing = found.liability - (found.adjusted - own) + 1
        if found.liability == 0 or missing <= 0:
            return None
        worth = -(-missing * BPS // ltv)  # the least that counts for what is missing
        return SafePrices(least_up=-(-worth * state.market.unit(asset) // tokens))
    except PriceMissing:
        return None


# -- screens -----------------------------------------------------------------------------------------------------------


def exposure(state: EulerState, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before the account may be liquidated; None without debt.

    Shares count as what they were worth at their vault's last status, with which their index stands, less a unit; LTVs
    as they will be when the form ends, and the debt as it is now with two hours of the greatest rate that a vault
    allows. ``constant`` covers the cuts to base units.
    """
    has = state.account(account)
    if not has.debt:
        return None
    market = state.market
    owed = _owed_most(owed_up(has.current(state.accrued(LENT, now.timestamp).accumulator))) / market.unit(LENT)
    weights = {LENT: -owed}
    for asset in sorted(has.enabled):
        if asset in has.shares and (share := _share(state, asset, now)):
            weights[asset] = max(0, state.vaults[asset].worth_down(has.shares[asset]) - 1) * share
    return LinearExposure(
        weights,
        constant=-_slack(state),
        relative_error=_FLOAT_ERROR,
        debt={LENT: owed},
        until=now.timestamp + _HORIZON,
    )


def _owed_most(owed: float) -> float:
    return (owed + 1) * _GROWTH


def _share(state: EulerState, asset: AssetId, now: Clock) -> float:
    """Of a native unit's price, what counts."""
    return state.liquidation_ltv(asset, now.timestamp + _HORIZON) / BPS / state.market.unit(asset)


def _slack(state: EulerState) -> float:
    return 2.0 * len(state.market.assets) + 2


def exposures(state: EulerState, ids: Sequence[AccountId], now: Clock) -> Exposures:
    """``exposure`` of those of some accounts that owe, in doubles, hence a little more on the safe side."""
    columns = columns_of(state).among(ids)
    owing = columns.values[_DEBT].any(axis=1)
    columns = Columns(columns.account[owing], columns.values[:, owing])
    count, width = len(columns.account), len(state.market.assets)
    amount = np.zeros((count, width))
    if count:
        at = state.accrued(LENT, now.timestamp).accumulator
        grown = columns.floats(_DEBT) * (float(at) / 2**31) / columns.floats(_SINCE) * (1 + _DOUBLE)
        amount[:, LENT] = (grown + 2) * (_GROWTH * (1 + _DOUBLE) / state.market.unit(LENT))
    for asset in map(AssetId, range(1, width)):
        share = _share(state, asset, now)
        if share and columns.values[_SINCE + asset].any():
            vault = state.vaults[asset]
            each = (vault.assets + 10**6) / (vault.shares + 10**6) * (1 - _DOUBLE)
            amount[:, asset] = np.maximum(0.0, columns.floats(_SINCE + asset) * each - 2) * share
    there = amount > 0
    there[:, LENT] = True
    place = np.broadcast_to(np.arange(width), amount.shape)[there]
    return Exposures(
        account=columns.account,
        start=np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64),
        asset=place.astype(np.int64),
        owed=place == LENT,
        amount=amount[there],
        constant=np.full(count, -_slack(state)),
        relative_error=_FLOAT_ERROR,
        until=now.timestamp + _HORIZON,
    )
