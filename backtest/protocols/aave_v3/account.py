"""An account's totals and health, exactly as the pool's getUserAccountData; and the linear form that screens accounts.

Source: GenericLogic.calculateUserAccountData, calculateAvailableBorrows, PoolLogic.executeGetUserAccountData (all
versions); ValidationLogic.getUserReserveLtv (3.6+). The reference has no loan-to-value rules; those here are from the
contracts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.aave_v3.rules import Rules, health_of_averaged_threshold
from backtest.protocols.aave_v3.state import AaveState, Account, Category, Reserve
from backtest.protocols.interface import AccountView, Holding, LinearExposure
from backtest.units import BPS, UINT256_MAX

FLOAT_ERROR = 1e-9
"""Relative error granted to whoever evaluates a linear exposure in double precision (sums of a hundred terms err by
1e-14).
"""
KEPT = 1_024
"""Accounts whose totals are kept until something changes them."""
STABLE_HORIZON = 86_400
"""Seconds ahead for which an exposure counts the growth of stable debt."""


class AccountData(NamedTuple):
    """The six numbers of getUserAccountData: base-currency units, basis points, wad. Health is 2**256 - 1 without
    debt.
    """

    total_collateral_base: int
    total_debt_base: int
    available_borrows_base: int
    current_liquidation_threshold: int
    ltv: int
    health_factor: int


_EMPTY = Account()


def price_of(state: AaveState, asset: AssetId, prices: Mapping[AssetId, int], now: Clock) -> int:
    """The oracle price; PriceMissing where it is absent, None or zero (AaveOracle.getAssetPrice falls through to a
    fallback that is not set).
    """
    price = prices.get(asset)
    if not price:
        symbol = state.market.assets[asset].symbol
        raise PriceMissing(
            f"block {now.block_number}: no oracle price of {symbol}, the contract would revert",
            "fetch its price source",
        )
    return price


def in_emode(rules: Rules, reserve: Reserve, account: Account, category: Category | None) -> bool:
    """Whether the account's e-mode parameters apply to this collateral (EModeLogic.isInEModeCategory to 3.1, the
    collateral list from 3.2).
    """
    if not account.emode:
        return False
    if rules.emode_by_bitmap:
        return category is not None and reserve.asset in category.collateral
    return reserve.emode_category == account.emode


def price_source(rules: Rules, category: Category | None) -> AssetId | None:
    """The asset whose price an e-mode category takes for its members (``EModeCategory.priceSource``, an asset that the
    oracle is asked for: EModeLogic.getEModeConfiguration, 3.0 and 3.1; 3.2 has none); None: each its own.
    """
    return None if category is None or rules.emode_by_bitmap else category.price_source


def priced_as(rules: Rules, reserve: Reserve, account: Account, category: Category | None) -> AssetId:
    """The asset whose price values this one in the account's totals (GenericLogic.calculateUserAccountData)."""
    source = price_source(rules, category)
    return reserve.asset if source is None or not in_emode(rules, reserve, account, category) else source


def is_collateral(rules: Rules, reserve: Reserve) -> bool:
    """Whether a flag on this asset counts: to 3.5 only with a base liquidation threshold, whatever the e-mode
    (GenericLogic, ValidationLogic).
    """
    return reserve.liquidation_threshold != 0 or not rules.threshold_gates_collateral


def liquidation_threshold(rules: Rules, reserve: Reserve, account: Account, category: Category | None) -> int:
    """Basis points of a collateral's value that count towards health (for assets where ``is_collateral``)."""
    if in_emode(rules, reserve, account, category):
        return category.liquidation_threshold if category is not None else 0
    return reserve.liquidation_threshold


def liquidation_bonus(rules: Rules, reserve: Reserve, account: Account, category: Category | None) -> int:
    """10000 + bonus, in basis points (LiquidationLogic.executeLiquidationCall; _getConfigurationData to 3.1)."""
    if in_emode(rules, reserve, account, category):
        return category.liquidation_bonus if category is not None else 0
    return reserve.liquidation_bonus


def loan_to_value(rules: Rules, reserve: Reserve, account: Account, category: Category | None) -> int:
    """Loan-to-value (bps): to 3.5 an asset whose own is zero has none in e-mode either; from 3.6 the category decides
    alone.
    """
    member = in_emode(rules, reserve, account, category)
    if rules.emode_ltv_own:
        if member and category is not None:
            return 0 if reserve.asset in category.ltvzero else category.ltv
        if rules.isolated_emode and category is not None and category.isolated:
            return 0
        return reserve.ltv
    if reserve.ltv and member:
        return category.ltv if category is not None else 0
    return reserve.ltv


def category_of(state: AaveState, account: Account) -> Category | None:
    """The account's e-mode category, None outside e-mode."""
    return state.categories.get(account.emode) if account.emode else None


def debt_of(state: AaveState, account: Account, asset: AssetId, timestamp: int, stable_at: int | None = None) -> int:
    """Native debt in one asset at ``timestamp``: variable, and stable (at ``stable_at`` if given)."""
    rules = state.rules
    scaled = account.debt.get(asset, 0)
    debt = rules.debt_balance(scaled, state.reserves[asset].debt_index(timestamp, rules)) if scaled else 0
    if account.stable and (stable := account.stable.get(asset)):
        debt += stable.balance(timestamp if stable_at is None else stable_at)
    return debt


def collateral_of(state: AaveState, account: Account, asset: AssetId, timestamp: int) -> int:
    """Native balance of the collateral token of one asset, flagged or not."""
    scaled = account.collateral.get(asset, 0)
    return state.rules.collateral_balance(scaled, state.reserves[asset].income(timestamp)) if scaled else 0


def debts(account: Account) -> Iterator[AssetId]:
    """Assets in which the account has debt, in no order (``isBorrowing``)."""
    yield from account.debt
    for asset, stable in account.stable.items():
        if stable.principal and asset not in account.debt:
            yield asset


def account_data(state: AaveState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> AccountData:
    """``getUserAccountData`` at ``now`` with these oracle prices (base units per whole token).

    Raises:
        PriceMissing: an asset that the account has flagged or borrowed has no price.
    """
    rules, timestamp = state.rules, now.timestamp
    latest = state.latest.get(account)
    if latest is not None:  # a liquidation asks several times: may it be, what does it do, health before, health after
        known: AccountData
        at, by, priced, known = latest
        if at == timestamp and by is rules:
            for asset, price in priced.items():
                if prices.get(asset) != price:
                    break
            else:
                return known
    book = state.accounts.get(account, _EMPTY)
    category, reserves, held = category_of(state, book), state.reserves, book.collateral
    collateral = debt = by_ltv = by_threshold = 0
    used: dict[AssetId, int] = {}
    source = price_source(rules, category)
    own_price = source is not None and bool(book.enabled or book.debt or book.stable)
    if source is not None and own_price:  # asked for first, whatever of it the account holds
        used[source] = price_of(state, source, prices, now)
    for asset in book.enabled:
        reserve = reserves[asset]
        named = priced_as(rules, reserve, book, category) if own_price else asset
        price = used[named] = prices.get(named) or price_of(state, named, prices, now)
        if asset not in held or not is_collateral(rules, reserve):
            continue
        value = price * rules.collateral_balance(held[asset], reserve.income(timestamp)) // reserve.unit
        collateral += value
        by_ltv += value * loan_to_value(rules, reserve, book, category)
        by_threshold += value * liquidation_threshold(rules, reserve, book, category)
    for asset in debts(book) if book.stable else book.debt:
        named = priced_as(rules, reserves[asset], book, category) if own_price else asset
        price = used[named] = prices.get(named) or price_of(state, named, prices, now)
        debt += rules.debt_value(debt_of(state, book, asset, timestamp), price, reserves[asset].unit)
    ltv = by_ltv // collateral if collateral else 0
    data = AccountData(
        total_collateral_base=collateral,
        total_debt_base=debt,
        available_borrows_base=max(rules.borrow_power(collateral, ltv) - debt, 0),
        current_liquidation_threshold=by_threshold // collateral if collateral else 0,
        ltv=ltv,
        health_factor=rules.health(collateral, by_threshold, debt) if debt else UINT256_MAX,
    )
    if len(state.latest) >= KEPT:
        state.latest.clear()
    state.latest[account] = timestamp, rules, used, data
    return data


def account_view(rules: Rules, data: AccountData, emode: int = 0) -> AccountView:
    """The six numbers as the engine reads them; no health where the debt is worth nothing."""
    power = rules.borrow_power(data.total_collateral_base, data.ltv)
    return AccountView(
        data.total_collateral_base,
        data.total_debt_base,
        data.health_factor if data.total_debt_base else None,
        power,
        emode,
    )


def collateral_share(state: AaveState, asset: AssetId, threshold: int | None = None) -> float:
    """The share of a collateral's value that counts towards health outside e-mode, on the safe side: a basis point
    lower where the contract floors the average of thresholds (to 3.4).
    """
    bps = state.reserves[asset].liquidation_threshold if threshold is None else threshold
    return max(bps - (state.rules.health is health_of_averaged_threshold), 0) / BPS


def linear_exposure(state: AaveState, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before health falls below 1, as accrued at ``now``; None without debt.

    It errs on the safe side by itself: one native unit more debt and one less of each collateral than there is (the
    rounding of balances, now and after ageing), thresholds one basis point lower where the contract floors the average
    of thresholds (to 3.4), and ``constant`` for the rounding of each value to a whole base unit. Stable debt
    (3.0, 3.1) is counted as of ``until``. Where the e-mode has a price of its own the form is good for one look: that
    price's asset has no interest, by which the form could be aged.
    """
    book = state.accounts.get(account, _EMPTY)
    owing: Collection[AssetId] = set(debts(book)) if book.stable else book.debt
    if not owing:
        return None
    rules, reserves, timestamp, category = state.rules, state.reserves, now.timestamp, category_of(state, book)
    until = timestamp + STABLE_HORIZON if book.stable else None
    if price_source(rules, category) is not None:
        until = timestamp - 1
    weights: dict[AssetId, float] = {}
    debt: dict[AssetId, float] = {}
    for asset in owing:
        owed = (debt_of(state, book, asset, timestamp, until) + 1) / reserves[asset].unit
        by = priced_as(rules, reserves[asset], book, category)
        debt[by] = debt.get(by, 0.0) + owed
        weights[by] = weights.get(by, 0.0) - owed
    held = book.collateral
    used = [
        reserve
        for reserve in map(reserves.__getitem__, book.enabled)
        if reserve.asset in held and is_collateral(rules, reserve)
    ]
    for reserve in used:
        share = collateral_share(state, reserve.asset, liquidation_threshold(rules, reserve, book, category))
        balance = rules.collateral_balance(held[reserve.asset], reserve.income(timestamp)) - 1
        if balance > 0:
            by = priced_as(rules, reserve, book, category)
            weights[by] = weights.get(by, 0.0) + balance * share / reserve.unit
    return LinearExposure(weights, -float(len(owing) + len(used) + 1), FLOAT_ERROR, debt, until, not book.emode)


def holdings(state: AaveState, account: AccountId, now: Clock) -> list[Holding]:
    """What the account holds of each asset, in asset order. Stable debt counts in ``debt`` and has no scaled amount."""
    book = state.accounts.get(account, _EMPTY)
    return [
        Holding(
            asset=asset,
            collateral_scaled=book.collateral.get(asset, 0),
            debt_scaled=book.debt.get(asset, 0),
            collateral=collateral_of(state, book, asset, now.timestamp),
            debt=debt_of(state, book, asset, now.timestamp),
            collateral_enabled=asset in book.enabled,
        )
        for asset in sorted(book.collateral.keys() | set(debts(book)))
    ]
