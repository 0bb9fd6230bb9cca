"""A credit account's health, totals and holdings; and the linear form that screens accounts.

Source: Gearbox-protocol/core-v3 at 510fc654, ``contracts/credit/CreditManagerV3.sol`` ``_calcDebtAndCollateral``,
``contracts/libraries/CollateralLogic.sol``. A token counts where the account has a quota of it, and for no more than
the quota; the underlying always does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock
from backtest.protocols.gearbox_v3.math import Owed, bought_down, fee_down, quota_worth_down, worth_down
from backtest.protocols.gearbox_v3.state import UNDERLYING, CreditAccount, GearboxState
from backtest.protocols.interface import AccountView, Figure, Holding, LinearExposure
from backtest.units import BPS, RAY, SECONDS_PER_YEAR, WAD, mul_div_down

_HORIZON = 6 * 3_600
"""Seconds for which an exposure holds;"""
_HEADROOM = 1.2
"""and how much faster than at full utilisation debts may grow meanwhile."""
_FLOAT_ERROR = 1e-9
_EVERYWHERE = LinearExposure({}, constant=-1.0)
"""A look at every decision."""

Oracle = Mapping[AssetId, int]


def price_of(state: GearboxState, asset: AssetId, prices: Oracle) -> int:
    """The feed's price; PriceMissing where PriceOracleV3 would revert."""
    price = prices.get(asset)
    if not price or price < 0:
        raise PriceMissing(
            f"{state.market.assets[asset].symbol} has no price", "fetch prices, or leave the account out"
        )
    return price


@dataclass(frozen=True, slots=True)
class Valued:
    """CollateralDebtData in task DEBT_COLLATERAL: what is owed, and in base units the collateral, what it carries at
    its thresholds and quotas, and the debt; ``value``: the collateral in the underlying.
    """

    owed: Owed
    collateral: int
    carries: int
    debt: int
    value: int

    @property
    def is_unhealthy(self) -> bool:
        """``twvUSD < totalDebtUSD``."""
        return self.carries < self.debt


def valued(state: GearboxState, account: CreditAccount, prices: Oracle, time: int) -> Valued:
    """PriceMissing where the contract would revert."""
    market, owed = state.market, state.owed(account, time)
    price, scale = price_of(state, UNDERLYING, prices), market.unit(UNDERLYING)
    collateral = carries = 0
    for asset, (quota, _) in account.quotas.items():
        held = account.held.get(asset, 0)
        if not held:
            continue
        worth = worth_down(held, price_of(state, asset, prices), market.unit(asset))
        collateral += worth
        carries += min(fee_down(worth, state.threshold(asset, time)), quota_worth_down(quota, price, scale))
    worth = worth_down(account.held.get(UNDERLYING, 0), price, scale)
    collateral += worth
    carries += fee_down(worth, state.threshold(UNDERLYING, time))
    debt = worth_down(owed.total, price, scale)
    return Valued(owed, collateral, carries, debt, bought_down(collateral, price, scale))


def view_of(state: GearboxState, account: CreditAccount, prices: Oracle, time: int) -> AccountView:
    """Below one exactly where the account is unhealthy. What it may owe is what its collateral carries: the contracts
    know one threshold for both.
    """
    if not account.holds:
        return AccountView(0, 0, None)
    found = valued(state, account, prices, time)
    health = mul_div_down(found.carries, WAD, found.debt) if found.debt else None
    return AccountView(found.collateral, found.debt, health, found.carries)


def view(state: GearboxState, account: AccountId, prices: Oracle, now: Clock) -> AccountView:
    """See ``view_of``."""
    return view_of(state, state.account(account), prices, now.timestamp)


def figures(state: GearboxState, account: AccountId, prices: Oracle, now: Clock) -> Sequence[Figure]:
    """``creditAccountInfo`` and ``calcDebtAndCollateral`` of a credit manager."""
    own, time, symbols = state.account(account), now.timestamp, [each.symbol for each in state.market.assets]
    found, base = valued(state, own, prices, time), symbols[UNDERLYING]
    health = mul_div_down(found.carries, WAD, found.debt) if found.debt else None
    return [
        Figure("debt", own.debt, base),
        Figure("cumulative_index_last_update", own.debt_index, "ray"),
        Figure("accrued_interest", found.owed.interest, base),
        Figure("accrued_fees", found.owed.fees, base),
        Figure("total_debt", found.owed.total, base),
        Figure("total_debt_usd", found.debt, "base"),
        Figure("total_value_usd", found.collateral, "base"),
        Figure("twv_usd", found.carries, "base"),
        Figure("total_value", found.value, base),
        *(Figure(f"quota_{symbols[asset]}", quota, base) for asset, (quota, _) in own.quotas.items()),
        *(Figure(f"balance_{symbols[asset]}", held, symbols[asset]) for asset, held in own.held.items()),
        Figure("health_factor", health, "wad"),
    ]


def holdings(state: GearboxState, account: AccountId, now: Clock) -> Sequence[Holding]:
    """Tokens, and the principal with what is owed in all."""
    own = state.account(account)
    assets = sorted({*own.held, *([UNDERLYING] if own.debt else [])})
    owed = state.owed(own, now.timestamp).total if own.debt else 0
    return [
        Holding(
            asset,
            own.held.get(asset, 0),
            own.debt if asset == UNDERLYING else 0,
            own.held.get(asset, 0),
            owed if asset == UNDERLYING else 0,
            asset == UNDERLYING or asset in own.quotas,
        )
        for asset in assets
    ]


def exposure(state: GearboxState, account: AccountId, now: Clock) -> LinearExposure | None:
    """A form that is negative before the account may be liquidated; None without debt.

    In units of the underlying an account is safe while the sum of min(what a token carries, its quota) is no less than
    ``missing``, its debt less what its underlying carries. Tokens whose quota alone covers that count without the
    minimum: either one of them reaches its quota, which is enough, or none does. The others count nothing, so that
    accounts that need them are looked at always; so are all of an expired manager.
    """
    own, time = state.account(account), now.timestamp
    if not own.debt:
        return None
    until, curve = time + _HORIZON, state.curve
    if curve is None or state.is_expired(until):
        return _EVERYWHERE
    market, owed, scale = state.market, state.owed(own, time), state.market.unit(UNDERLYING)
    most = max(curve.rate_down(1, 0), state.pool.rate)
    fees = 1 + owed.fee / BPS
    quoted = sum(
        quota * state.of_assets.get(("quota_rate", asset), 0) / BPS for asset, (quota, _) in own.quotas.items()
    )
    growth = _HEADROOM * _HORIZON / SECONDS_PER_YEAR * fees
    grown = owed.total * (1 + most / RAY * growth) + quoted * growth
    carried = own.held.get(UNDERLYING, 0) * state.threshold(UNDERLYING, time) / BPS
    missing = grown - carried
    weights: dict[AssetId, float] = {UNDERLYING: -missing / scale}
    for asset, (quota, _) in own.quotas.items():
        if quota >= missing * (1 + _FLOAT_ERROR) and (held := own.held.get(asset, 0)):
            threshold = min(state.threshold(asset, time), state.threshold(asset, until))
            weights[asset] = held * threshold / BPS / market.unit(asset)
    return LinearExposure(
        weights,
        constant=-(3.0 * len(market.assets) + 2),
        relative_error=_FLOAT_ERROR,
        debt={UNDERLYING: grown / scale},
        until=until,
    )
