"""An account's totals and health, exactly as the pool's getUserAccountData; and the linear form that screens accounts.

Source: aave/protocol-v2 ``libraries/logic/GenericLogic.sol`` calculateUserAccountData, calculateAvailableBorrowsETH;
``lendingpool/LendingPool.sol`` getUserAccountData.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.aave.math import percent_mul_half_up, ray_mul_half_up
from backtest.protocols.aave_v2.rules import health_of
from backtest.protocols.aave_v2.state import AaveV2State, Account, Reserve
from backtest.protocols.interface import AccountView, Holding, LinearExposure
from backtest.units import BPS, UINT256_MAX

FLOAT_ERROR = 1e-9
"""Relative error granted to whoever evaluates a linear exposure in double precision."""
STABLE_HORIZON = 86_400
"""Seconds ahead for which an exposure counts the growth of stable debt."""

_EMPTY = Account()


class AccountData(NamedTuple):
    """The six numbers of getUserAccountData, in its order: base-currency units (on Ethereum wei of ETH), basis points,
    wad. Health is 2**256 - 1 without debt.
    """

    total_collateral_base: int
    total_debt_base: int
    available_borrows_base: int
    current_liquidation_threshold: int
    ltv: int
    health_factor: int


def price_of(state: AaveV2State, asset: AssetId, prices: Mapping[AssetId, int], now: Clock) -> int:
    """The oracle price; PriceMissing where it is absent or zero (``misc/AaveOracle.sol`` getAssetPrice falls through to
    a fallback), and where the asset's balances have no rule here.
    """
    symbol = state.market.assets[asset].symbol
    if state.reserves[asset].other_balances:
        raise PriceMissing(
            f"block {now.block_number}: what an aToken of {symbol} is worth is not known: it rebases by its own rules",
            "leave its holders out; docs/aave-v2.md says which assets",
        )
    price = prices.get(asset)
    if not price:
        raise PriceMissing(
            f"block {now.block_number}: no oracle price of {symbol}, the contract would revert",
            "fetch its price source",
        )
    return price


def is_collateral(reserve: Reserve) -> bool:
    """Whether a flag on this asset counts (GenericLogic, ValidationLogic): only with a liquidation threshold."""
    return reserve.liquidation_threshold != 0


def variable_debt_of(reserve: Reserve, account: Account, timestamp: int) -> int:
    """Native units (``tokenization/VariableDebtToken.sol`` balanceOf)."""
    scaled = account.debt.get(reserve.asset, 0)
    return ray_mul_half_up(scaled, reserve.debt_index(timestamp)) if scaled else 0


def stable_debt_of(reserve: Reserve, account: Account, timestamp: int) -> int:
    """Native units (``tokenization/StableDebtToken.sol`` balanceOf)."""
    stable = account.stable.get(reserve.asset)
    return stable.balance(timestamp) if stable else 0


def debt_of(reserve: Reserve, account: Account, timestamp: int) -> int:
    """Native debt of both kinds."""
    return variable_debt_of(reserve, account, timestamp) + stable_debt_of(reserve, account, timestamp)


def collateral_of(reserve: Reserve, account: Account, timestamp: int) -> int:
    """Native aToken balance, flagged or not (``tokenization/AToken.sol`` balanceOf)."""
    scaled = account.collateral.get(reserve.asset, 0)
    return ray_mul_half_up(scaled, reserve.income(timestamp)) if scaled else 0


def account_data(state: AaveV2State, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountData:
    """``getUserAccountData`` at ``now`` with these oracle prices (base units per whole token).

    Raises:
        PriceMissing: an asset that the account has flagged or borrowed has no price.
    """
    book, timestamp, reserves = state.accounts.get(account, _EMPTY), now.timestamp, state.reserves
    collateral = debt = by_ltv = by_threshold = 0
    for asset in book.enabled:
        reserve = reserves[asset]
        price = price_of(state, asset, prices, now)
        if is_collateral(reserve) and asset in book.collateral:
            value = price * collateral_of(reserve, book, timestamp) // reserve.unit
            collateral += value
            by_ltv += value * reserve.ltv
            by_threshold += value * reserve.liquidation_threshold
    for asset in book.owing:
        reserve = reserves[asset]
        debt += price_of(state, asset, prices, now) * debt_of(reserve, book, timestamp) // reserve.unit
    ltv = by_ltv // collateral if collateral else 0
    return AccountData(
        total_collateral_base=collateral,
        total_debt_base=debt,
        available_borrows_base=max(percent_mul_half_up(collateral, ltv) - debt, 0),
        current_liquidation_threshold=by_threshold // collateral if collateral else 0,
        ltv=ltv,
        health_factor=health_of(collateral, by_threshold, debt) if debt else UINT256_MAX,
    )


def account_view(data: AccountData) -> AccountView:
    """The six numbers as the engine reads them; no health where the debt is worth nothing."""
    power = percent_mul_half_up(data.total_collateral_base, data.ltv)
    health = data.health_factor if data.total_debt_base else None
    return AccountView(data.total_collateral_base, data.total_debt_base, health, power)


def linear_exposure(state: AaveV2State, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before health falls below 1, as accrued at ``now``; None without debt.

    It errs on the safe side by itself: one native unit more debt and one less of each collateral than there is (the
    rounding of balances, now and after ageing), thresholds one basis point lower where the contract floors the average
    of differing ones, and ``constant`` for the rounding of each value to a whole base unit. Stable debt is counted as
    of ``until``.
    """
    book, timestamp, reserves = state.accounts.get(account, _EMPTY), now.timestamp, state.reserves
    owing = book.owing
    if not owing:
        return None
    until = timestamp + STABLE_HORIZON if book.stable else None
    weights: dict[AssetId, float] = {}
    debt: dict[AssetId, float] = {}
    for asset in owing:
        reserve = reserves[asset]
        owed = variable_debt_of(reserve, book, timestamp) + stable_debt_of(reserve, book, until or timestamp) + 1
        debt[asset] = owed / reserve.unit
        weights[asset] = -debt[asset]
    used = [reserves[asset] for asset in book.enabled if asset in book.collateral and is_collateral(reserves[asset])]
    averaged = len({reserve.liquidation_threshold for reserve in used}) > 1
    for reserve in used:
        balance = collateral_of(reserve, book, timestamp) - 1
        if balance > 0:
            weight = balance * (reserve.liquidation_threshold - averaged) / (BPS * reserve.unit)
            weights[reserve.asset] = weights.get(reserve.asset, 0.0) + weight
    return LinearExposure(weights, -float(len(owing) + len(used) + 1), FLOAT_ERROR, debt, until)


def holdings(state: AaveV2State, account: AccountId, now: Clock) -> list[Holding]:
    """What the account holds of each asset, in asset order. Stable debt counts in ``debt`` and has no scaled amount."""
    book = state.accounts.get(account, _EMPTY)
    return [
        Holding(
            asset=asset,
            collateral_scaled=book.collateral.get(asset, 0),
            debt_scaled=book.debt.get(asset, 0),
            collateral=collateral_of(state.reserves[asset], book, now.timestamp),
            debt=debt_of(state.reserves[asset], book, now.timestamp),
            collateral_enabled=asset in book.enabled,
        )
        for asset in sorted(book.collateral.keys() | book.owing)
    ]
