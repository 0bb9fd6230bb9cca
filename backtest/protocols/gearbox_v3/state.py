"""The book of one credit manager of Gearbox V3.1, with the pool that it borrows from, and how canonical events change
it.

Asset 0 is the underlying, which is borrowed; the others are its collateral tokens. An account is a credit account: it
holds tokens (native units, the underlying among them) and owes a principal, the debt side of asset 0. What the
contracts store beside it comes as settings: ``debt_index`` (the pool's index from which interest runs),
``quota_interest`` and ``quota_fees`` (owed already), of each token ``quota`` and ``quota_index``, ``owner``, the
account id of whoever opened it; and what its repayments did to the pool.

Interest. Where it is as recorded, an ``IndexUpdate`` sets the pool's index and rate. Where it is recomputed, the rate
follows this book: what is borrowed, what the pool expects and has. Other managers and lenders move that as in history:
``others_expected``, ``others_available``, ``others_borrowed`` and ``others_revenue`` are sums of what they brought, of
which the step from the one before counts.

Source: Gearbox-protocol/core-v3 at 510fc654, ``contracts/credit/CreditManagerV3.sol``, ``contracts/pool/PoolV3.sol``,
``PoolQuotaKeeperV3.sol``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from backtest.errors import RulesError, UserError
from backtest.model import (
    AccountId,
    AssetId,
    IndexUpdate,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    PriceUpdate,
    SettingChange,
)
from backtest.protocols.gearbox_v3.math import (
    Owed,
    RateModel,
    grown_down,
    index_after_down,
    pool_interest_down,
    quota_index_after_down,
    quota_interest_down,
    revenue_change_to_zero,
    threshold_at,
)
from backtest.units import BPS, RAY

UNDERLYING = AssetId(0)
RULES = "gearbox-v3.1, by vectors"
RULES_REVISION = 2
"""Of the fold, told by ``gearbox_revision``: tables of the first one counted the pool's own interest among what others
brought, and lack its index in some blocks.
"""
REBUILD = "rebuild the canonical tables"
NEVER = 2**40 - 1
"""Seconds since 1970 at which a threshold begins to move where none does."""

CURVE = ("rate_u1", "rate_u2", "rate_base", "rate_slope1", "rate_slope2", "rate_slope3", "rate_above_u2_forbidden")
OTHERS = ("others_expected", "others_available", "others_borrowed", "others_revenue")
FEES = ("liquidation_fee", "liquidation_premium", "liquidation_fee_expired", "liquidation_premium_expired")
MARKET_WIDE = (
    *CURVE,
    *OTHERS,
    *FEES,
    "gearbox_revision",
    "interest_fee",
    "least_debt",
    "greatest_debt",
    "expires",
    "quota_rates_updated",
)
"""Basis points, native units and seconds since 1970."""
PER_ASSET = (
    "liquidation_threshold",
    "threshold_from",
    "threshold_to",
    "threshold_ramp_start",
    "threshold_ramp_end",
    "quota_rate",
    "quota_index",
    "quota_limit",
    "quota_increase_fee",
    "quoted_by_others",
    "forbidden",
)
OWN = ("debt_index", "quota_interest", "quota_fees", "owner")
OF_TOKENS = ("quota", "quota_index")
TO_POOL = ("pool_cash", "pool_profit")
"""What a repayment of the account brings the pool, and what of it the treasury, or (below zero) loses the pool."""
_NOTHING: Mapping[AssetId, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CreditAccount:
    """One credit account. ``held``: native units, no zeros. ``quotas``: of a token the quota and its index, quotas that
    are zero are not there. ``updated``: the block in which its debt last changed, -1 where it never did.
    """

    debt: int = 0
    debt_index: int = 0
    quota_interest: int = 0
    quota_fees: int = 0
    held: Mapping[AssetId, int] = field(default_factory=lambda: _NOTHING)
    quotas: Mapping[AssetId, tuple[int, int]] = field(default_factory=dict)
    owner: int = -1
    updated: int = -1

    @property
    def holds(self) -> bool:
        """Whether it is anything at all."""
        return bool(self.debt or self.held)

    def holding(self, asset: AssetId, amount: int) -> CreditAccount:
        """With another balance."""
        held = {**self.held, asset: amount}
        if not amount:
            del held[asset]
        return replace(self, held=dict(sorted(held.items())))

    def quoted(self, asset: AssetId, quota: int, index: int) -> CreditAccount:
        """With another quota."""
        quotas = {**self.quotas, asset: (quota, index)}
        if not quota:
            del quotas[asset]
        return replace(self, quotas=dict(sorted(quotas.items())))


EMPTY = CreditAccount()


@dataclass(frozen=True, slots=True)
class LendingPool:
    """PoolV3: index and rate (ray) since ``updated``; what it expects (``_expectedLiquidityLU``), has, and lent to all
    managers; yearly revenue of all quotas since ``revenue_updated``.
    """

    index: int = RAY
    rate: int = 0
    updated: int = 0
    expected: int = 0
    available: int = 0
    borrowed: int = 0
    revenue: int = 0
    revenue_updated: int = 0

    def expected_at(self, time: int) -> int:
        """PoolV3.expectedLiquidity."""
        grown = pool_interest_down(self.borrowed, self.rate, time - self.updated) if time > self.updated else 0
        return self.expected + grown + self._quotas(time)

    def _quotas(self, time: int) -> int:
        return grown_down(self.revenue, time - self.revenue_updated) if time > self.revenue_updated else 0

    def moved(self, time: int, curve: RateModel | None, *, expected: int = 0, available: int = 0) -> LendingPool:
        """After a call that accrues and brings so much (PoolV3._updateBaseInterest)."""
        whole, there = self.expected_at(time) + expected, self.available + available
        return replace(
            self,
            index=index_after_down(self.index, self.rate, max(time - self.updated, 0)),
            updated=time,
            revenue_updated=time,
            expected=whole,
            available=there,
            rate=self.rate if curve is None else curve.rate_down(max(whole, 0), max(there, 0)),
        )

    def earning(self, time: int, revenue: int) -> LendingPool:
        """With another revenue of quotas (PoolV3._setQuotaRevenue)."""
        return replace(self, expected=self.expected + self._quotas(time), revenue_updated=time, revenue=revenue)


@dataclass(slots=True)
class GearboxState:
    """One market. ``params`` by name, ``of_assets`` by name and asset."""

    market: Market
    recompute: bool = False
    pool: LendingPool = LendingPool()
    credit_accounts: dict[AccountId, CreditAccount] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    of_assets: dict[tuple[str, AssetId], int] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> GearboxState:
        """Independent of this one; accounts never change, so that both have the same."""
        return replace(
            self,
            credit_accounts=self.credit_accounts.copy(),
            params=self.params.copy(),
            of_assets=self.of_assets.copy(),
        )

    def account(self, account: AccountId) -> CreditAccount:
        """A credit account; an empty one where it is not known."""
        return self.credit_accounts.get(account, EMPTY)

    def param(self, name: str) -> int:
        """A parameter in force; RulesError where nothing says it."""
        value = self.params.get(name)
        if value is None:
            raise RulesError(
                f"nothing says the {name} of market '{self.market.name}'",
                "fetch it with a node: its credit manager is asked for what it was made with",
            )
        return value

    @property
    def curve(self) -> RateModel | None:
        """The pool's interest rate model; None where nothing says it."""
        values = [self.params.get(name) for name in CURVE]
        known = [value for value in values if value is not None]
        return RateModel(*known) if len(known) == len(values) else None

    def index_at(self, time: int) -> int:
        """PoolV3.baseInterestIndex."""
        return index_after_down(self.pool.index, self.pool.rate, max(time - self.pool.updated, 0))

    def quota_index_at(self, asset: AssetId, time: int) -> int:
        """PoolQuotaKeeperV3.cumulativeIndex."""
        since = self.params.get("quota_rates_updated", 0)
        rate, index = self.of_assets.get(("quota_rate", asset), 0), self.of_assets.get(("quota_index", asset), 1)
        return quota_index_after_down(index, rate, max(time - since, 0))

    def threshold(self, asset: AssetId, time: int) -> int:
        """Basis points (CreditManagerV3.liquidationThresholds). Of the underlying what premium and fee leave
        (``ltUnderlying``: the configurator refuses fees that would change it). A threshold that something else than
        the ramp's own begin says does not move.
        """
        if asset == UNDERLYING:
            return BPS - self.param("liquidation_premium") - self.param("liquidation_fee")
        own = self.of_assets.get(("liquidation_threshold", asset), 0)
        if self.of_assets.get(("threshold_from", asset)) != own:
            return own
        names = ("threshold_to", "threshold_ramp_start", "threshold_ramp_end")
        final, start, end = (self.of_assets.get((name, asset), 0) for name in names)
        return threshold_at(own, final, start, end, time)

    def fees(self, time: int, *, unhealthy: bool) -> tuple[int, int]:
        """Fee and premium of a liquidation, basis points: those of expired accounts where health allows none."""
        names = FEES[:2] if unhealthy else FEES[2:]
        fee, premium = map(self.param, names)
        return fee, premium

    def is_expired(self, time: int) -> bool:
        """CreditFacadeV3._isExpired."""
        date = self.params.get("expires", 0)
        return bool(date) and time >= date

    def owed(self, account: CreditAccount, time: int) -> Owed:
        """What an account owes (CreditManagerV3._calcDebtAndCollateral)."""
        interest = account.quota_interest
        for asset, (quota, last) in account.quotas.items():
            interest += quota_interest_down(quota, self.quota_index_at(asset, time), last)
        last = account.debt_index if account.debt else 0
        fee = self.param("interest_fee")
        return Owed(account.debt, self.index_at(time), last, interest, account.quota_fees, fee)


def open_state(market: Market, *, recompute: bool = False) -> GearboxState:
    """The empty book."""
    if not market.assets:
        raise UserError(f"market '{market.name}' has no underlying", REBUILD)
    return GearboxState(market, recompute)


def accounts(state: GearboxState) -> Sequence[AccountId]:
    """Accounts that hold or owe anything, in id order."""
    return sorted(id for id, account in state.credit_accounts.items() if account.holds)


def apply(state: GearboxState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, or an unknown parameter or setting.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        _position(state, event)
    elif isinstance(event, SettingChange):
        _setting(state, event)
    elif isinstance(event, ParamChange):
        _param(state, event)
    elif isinstance(event, IndexUpdate):
        accrued = state.pool.moved(event.timestamp, None)
        state.pool = replace(accrued, index=event.borrow_index, rate=event.borrow_rate)
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _position(state: GearboxState, event: PositionChange) -> None:
    account = state.account(event.account)
    owes = event.side == "debt"
    left = (account.debt if owes else account.held.get(event.asset, 0)) + event.delta
    if left < 0 or (owes and event.asset != UNDERLYING):
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" have {left} units of {state.market.assets[event.asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    if owes:
        _lent(state, event.delta, event.timestamp)
        account = replace(account, debt=left, updated=event.block_number)
    else:
        account = account.holding(event.asset, left)
    state.credit_accounts[event.account] = account


def _lent(state: GearboxState, more: int, time: int) -> None:
    """The pool lends an account more, or gets some principal back; what a repayment brings comes as ``pool_cash``."""
    state.pool = state.pool.moved(time, _curve(state), available=-max(more, 0))
    state.pool = replace(state.pool, borrowed=state.pool.borrowed + more)


def _curve(state: GearboxState) -> RateModel | None:
    return state.curve if state.recompute else None


def _setting(state: GearboxState, event: SettingChange) -> None:
    account, name, value, asset = state.account(event.account), event.setting, event.value, event.asset
    if name in TO_POOL:
        step = {"available" if name == "pool_cash" else "expected": value}
        state.pool = state.pool.moved(event.timestamp, _curve(state), **step)
        return
    if name in OWN:
        own: dict[str, Any] = {name: value}
        account = replace(account, **own)
        if name == "debt_index":  # written by every change of a debt, and by nothing else
            account = replace(account, updated=event.block_number)
    elif name in OF_TOKENS and asset is not None:
        quota, index = account.quotas.get(asset, (0, 0))
        if name == "quota":
            _quoted(state, asset, value - quota, event.timestamp)
            index = state.quota_index_at(asset, event.timestamp)
        account = account.quoted(asset, value if name == "quota" else quota, index if name == "quota" else value)
    else:
        raise RulesError(f"block {event.block_number}: unknown setting '{name}'", REBUILD)
    state.credit_accounts[event.account] = account


def _quoted(state: GearboxState, asset: AssetId, change: int, time: int) -> None:
    """Quotas of a token change, and with them the pool's revenue (PoolQuotaKeeperV3._updateQuota)."""
    more = revenue_change_to_zero(state.of_assets.get(("quota_rate", asset), 0), change)
    if more:
        state.pool = state.pool.earning(time, state.pool.revenue + more)


def _param(state: GearboxState, event: ParamChange) -> None:
    name, value, asset, time = event.name, event.value, event.asset, event.timestamp
    if name not in (MARKET_WIDE if asset is None else PER_ASSET):
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", REBUILD)
    if name == "gearbox_revision" and value != RULES_REVISION:
        raise RulesError(f"tables of market '{state.market.name}' were made by older rules of Gearbox", REBUILD)
    if asset is None:
        before = state.params.get(name, 0)
        state.params[name] = value
        if name == "others_expected":
            state.pool = state.pool.moved(time, _curve(state), expected=value - before)
        elif name == "others_available":
            state.pool = state.pool.moved(time, _curve(state), available=value - before)
        elif name == "others_borrowed":
            state.pool = state.pool.moved(time, _curve(state))
            state.pool = replace(state.pool, borrowed=state.pool.borrowed + value - before)
        elif name == "others_revenue":
            state.pool = state.pool.earning(time, state.pool.revenue + value - before)
        elif name == CURVE[-1]:
            state.pool = state.pool.moved(time, _curve(state))
        return
    if name == "quoted_by_others":
        _quoted(state, asset, value - state.of_assets.get((name, asset), 0), time)
    elif name == "quota_rate":  # PoolQuotaKeeperV3.updateRates: what each token's quotas bring, at the new rate
        total, before = total_quoted(state, asset), state.of_assets.get((name, asset), 0)
        if total:
            more = total * value // BPS - total * before // BPS
            state.pool = state.pool.earning(time, state.pool.revenue + more)
    state.of_assets[name, asset] = value


def total_quoted(state: GearboxState, asset: AssetId) -> int:
    """All quotas of a token, of this manager's accounts and of others'."""
    own = sum(account.quotas[asset][0] for account in state.credit_accounts.values() if asset in account.quotas)
    return own + state.of_assets.get(("quoted_by_others", asset), 0)
