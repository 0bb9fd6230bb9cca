"""The book of one lending vault and its collaterals during a replay, and how canonical events change it.

Asset 0 is the token that the vault lends: side collateral counts the vault's shares, which are no collateral, side
debt 2^-31 units as of the account's last call (``UserStorage.owed``), which grow by the interest accumulator since.
Assets from 1 on are the collateral vaults: their shares, worth what they convert to. Cash, debt and shares of the
lending vault follow from the calls of this book; those of a collateral vault are history's (``vault_*`` parameters)
whatever its depositors do here.

A vault accrues in the calls that touch it, and every one of them logs its status: each event of asset 0 accrues here.
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
    Clock,
    IndexUpdate,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    PriceUpdate,
    SettingChange,
)
from backtest.protocols.changes import unplaced
from backtest.protocols.columns import Columns
from backtest.protocols.euler_v2.math import (
    DEBT_UNIT,
    MAX_AMOUNT,
    MAX_DEBT,
    NO_CAP,
    VIRTUAL_DEPOSIT,
    accumulated_down,
    assets_down,
    assets_up,
    fee_shares_down,
    grown_down,
    kink_rate,
    ltv_at,
    owed_up,
    shares_down,
    shares_up,
)
from backtest.units import BPS, RAY, SECONDS_PER_YEAR, mul_div_down

LENT = AssetId(0)
"""What the vault lends."""
RULES = "euler-v2 vaults of March 2025 (by vectors)"
RULES_REVISION = 1
REBUILD = "rebuild the canonical tables"
INITIAL_FEE = 1_000
"""Basis points of interest (Constants.DEFAULT_INTEREST_FEE)."""
ALL_OPS = (1 << 15) - 1
UNKNOWN_RATE, KINK = 0, 1
"""Values of ``rate_model``: no model that the rules know; one bent line (IRMLinearKink)."""

OP_WITHDRAW, OP_REDEEM, OP_TRANSFER, OP_SKIM, OP_BORROW, OP_REPAY = (1 << bit for bit in range(2, 8))
OP_DEPOSIT, OP_MINT, OP_REPAY_WITH_SHARES, OP_PULL_DEBT, OP_LIQUIDATE = 1, 2, 1 << 8, 1 << 9, 1 << 11
DONT_SOCIALIZE = 1
"""Bit of the configuration flags (Constants.CFG_DONT_SOCIALIZE_DEBT)."""

MARKET_WIDE = frozenset(
    {
        "max_liquidation_discount",
        "liquidation_cool_off",
        "config_flags",
        "hooked_ops",
        "hook_target",
        "supply_cap",
        "borrow_cap",
        "base_rate",
        "slope",
        "jump_slope",
        "kink",
        "rate_model",
        "touched",
    }
)
PER_COLLATERAL = frozenset({"ltv", "liquidation_threshold", "initial_threshold", "ramp_end", "ramp_duration"})
STATUS = frozenset({"vault_cash", "vault_debt", "vault_shares", "vault_accumulator", "vault_rate"})
_NOTHING: Mapping[AssetId, int] = MappingProxyType({})


@dataclass(slots=True)
class Vault:
    """One vault as of ``updated``. Native units, shares, ``debt`` of 2^-31 units; ``fee`` in basis points, ``rate`` ray
    a second.
    """

    cash: int = 0
    debt: int = 0
    shares: int = 0
    fees: int = 0
    accumulator: int = RAY
    updated: int = 0
    rate: int = 0
    fee: int = INITIAL_FEE

    @property
    def borrows(self) -> int:
        """What is owed to it, native units, rounded up."""
        return owed_up(max(self.debt, 0))

    @property
    def assets(self) -> int:
        """All that its shares stand for."""
        return self.cash + self.borrows

    @property
    def share_price(self) -> int:
        """Native units of a share, ray, cut: for screens and SQL."""
        return mul_div_down(self.assets + VIRTUAL_DEPOSIT, RAY, self.shares + VIRTUAL_DEPOSIT)

    def accrue(self, timestamp: int) -> None:
        """Cache.initVaultCache."""
        if timestamp <= self.updated:
            return
        accumulator = accumulated_down(self.accumulator, self.rate, timestamp - self.updated)
        debt = self.debt
        if debt * accumulator < 1 << 256:
            debt = debt * accumulator // self.accumulator
        if debt > MAX_DEBT:
            return
        made = fee_shares_down(self.debt, debt, self.cash, self.shares, self.fee)
        if self.shares + made <= MAX_AMOUNT:
            self.shares += made
            self.fees += made
        self.debt, self.accumulator, self.updated = debt, accumulator, timestamp

    def worth_down(self, shares: int) -> int:
        """Shares in native units."""
        return assets_down(shares, self.assets, self.shares)

    def worth_up(self, shares: int) -> int:
        """Shares in native units."""
        return assets_up(shares, self.assets, self.shares)

    def for_down(self, amount: int) -> int:
        """Native units in shares."""
        return shares_down(amount, self.assets, self.shares)

    def for_up(self, amount: int) -> int:
        """Native units in shares."""
        return shares_up(amount, self.assets, self.shares)


@dataclass(frozen=True, slots=True)
class Account:
    """What one account has: shares by asset, no zeros; a debt as of accumulator ``since``; the collateral that it
    enabled; when its status was last checked (seconds).
    """

    shares: Mapping[AssetId, int] = field(default_factory=lambda: _NOTHING)
    debt: int = 0
    since: int = RAY
    enabled: frozenset[AssetId] = frozenset()
    checked: int = 0
    number: int = 0
    """Which of its owner's accounts it is: their addresses differ by this in the last byte."""

    @property
    def holds(self) -> bool:
        """Whether it is anything at all."""
        return bool(self.shares or self.debt)

    def holding(self, asset: AssetId, shares: int) -> Account:
        """With another balance."""
        held = {**self.shares, asset: shares}
        if not shares:
            del held[asset]
        return replace(self, shares=dict(sorted(held.items())))

    def current(self, accumulator: int) -> int:
        """The debt now, 2^-31 units (BorrowUtils.getCurrentOwed)."""
        return grown_down(self.debt, accumulator, self.since) if self.debt else 0


NOBODY = Account()


@dataclass(slots=True)
class EulerState:
    """One lending vault with its collaterals, by asset. ``time`` is that of the last event."""

    market: Market
    vaults: list[Vault]
    recompute: bool = False
    people: dict[AccountId, Account] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    of_assets: dict[tuple[str, AssetId], int] = field(default_factory=dict)
    time: int = 0
    columns: Columns | None = field(default=None, compare=False, repr=False)
    """Of every account (``account.columns_of``) but those in ``moved``, which changed since. Copies share it."""
    moved: set[AccountId] = field(default_factory=set, compare=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> EulerState:
        """Independent of this one; accounts never change, so that both have the same."""
        return replace(
            self,
            vaults=[replace(vault) for vault in self.vaults],
            people=self.people.copy(),
            params=self.params.copy(),
            of_assets=self.of_assets.copy(),
            moved=self.moved.copy(),
        )

    def account(self, account: AccountId) -> Account:
        """What an account has; nothing where it is not known."""
        return self.people.get(account, NOBODY)

    def put(self, account: AccountId, has: Account) -> None:
        """What it has from now on."""
        self.people[account] = has
        self.moved.add(account)

    def accrued(self, asset: AssetId, timestamp: int) -> Vault:
        """A vault with interest up to ``timestamp``, as a call would leave it; the state is not changed."""
        vault = replace(self.vaults[asset])
        vault.accrue(timestamp)
        return vault

    def all_accrued(self, timestamp: int) -> list[Vault]:
        """Every vault, by asset."""
        return [self.accrued(asset.id, timestamp) for asset in self.market.assets]

    def param(self, name: str, default: int = 0) -> int:
        """A parameter of the lending vault."""
        return self.params.get(name, default)

    def is_recognized(self, asset: AssetId) -> bool:
        """Whether it ever got an LTV (LTVConfig.isRecognizedCollateral)."""
        return ("ramp_end", asset) in self.of_assets

    def borrow_ltv(self, asset: AssetId) -> int:
        """Basis points; 0 where there is none."""
        return self.of_assets.get(("ltv", asset), 0)

    def liquidation_ltv(self, asset: AssetId, now: int) -> int:
        """Basis points, on its way down where it was lowered; 0 where there is none."""
        terms = self.of_assets
        target = terms.get(("liquidation_threshold", asset), 0)
        return ltv_at(
            target,
            terms.get(("initial_threshold", asset), target),
            terms.get(("ramp_end", asset), 0),
            terms.get(("ramp_duration", asset), 1) or 1,
            now,
        )

    def model_rate(self, vault: Vault, block: int) -> int:
        """What the rate model says of a vault. RulesError where no rule knows it."""
        if self.param("rate_model") == UNKNOWN_RATE:
            raise RulesError(
                f"block {block}: market '{self.market.name}' has an interest rate model that the rules do not know",
                "leave rates as recorded: rates = 'historical'",
            )
        curve = (self.param(name) for name in ("base_rate", "slope", "jump_slope", "kink"))
        return kink_rate(vault.cash, vault.borrows, *curve)


def open_state(market: Market, *, recompute: bool = False) -> EulerState:
    """The empty book."""
    if not market.assets:
        raise UserError(f"market '{market.name}' has no asset", REBUILD)
    return EulerState(market, [Vault() for _ in market.assets], recompute)


def apply(state: EulerState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter or setting, an amount that history does not
            say.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    state.time = max(state.time, event.timestamp)
    if isinstance(event, PositionChange):
        _apply_position(state, event)
    elif isinstance(event, ParamChange):
        _apply_param(state, event)
    elif isinstance(event, SettingChange):
        _apply_setting(state, event)
    elif isinstance(event, IndexUpdate):
        if event.asset == LENT:
            vault = state.vaults[LENT]
            vault.accrue(event.timestamp)
            vault.rate = event.borrow_rate // SECONDS_PER_YEAR
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _apply_position(state: EulerState, event: PositionChange) -> None:
    has, vault = state.account(event.account), state.vaults[LENT]
    if event.asset == LENT:
        vault.accrue(event.timestamp)
        if event.amount is None:
            raise RulesError(
                f"block {event.block_number}, log {event.log_index}: history does not say how much was moved", REBUILD
            )
    left = (has.debt if event.side == "debt" else has.shares.get(event.asset, 0)) + event.delta
    if left < 0:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {left} units of {state.market.assets[event.asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    if event.side == "collateral":
        state.put(event.account, has.holding(event.asset, left))
        if event.asset == LENT:
            _lent(vault, event, event.amount or 0)
        return
    move_debt(vault, has.current(vault.accumulator), left, event.action, event.amount or 0)
    state.put(event.account, replace(has, debt=left, since=vault.accumulator))


def _lent(vault: Vault, event: PositionChange, amount: int) -> None:
    """Shares of the lending vault were made or taken back."""
    if event.action == "transfer":
        return
    if event.action == "treasury":  # shares that are in the total by accruals
        vault.fees = max(0, vault.fees - event.delta)
        return
    vault.shares += event.delta
    if event.action != "repay_with_shares":
        vault.cash += amount if event.delta > 0 else -amount


def move_debt(vault: Vault, before: int, after: int, action: str, amount: int) -> None:
    """A debt that is ``before`` now becomes ``after`` (increaseBorrow, decreaseBorrow, transferBorrow). ``amount`` of
    a liquidation: what was repaid in the same call; a debt that only changes hands leaves the total as it is, once both
    sides are done.
    """
    paid = amount and action in ("repay", "repay_with_shares", "liquidation")
    if paid and vault.debt <= before:
        vault.debt = after
    else:
        vault.debt += after - before
    if action == "borrow":
        vault.cash -= amount
    elif action in ("repay", "liquidation"):
        vault.cash += amount


def _apply_setting(state: EulerState, event: SettingChange) -> None:
    has = state.account(event.account)
    if event.setting == "collateral_enabled" and event.asset is not None:
        one = frozenset((event.asset,))
        state.put(event.account, replace(has, enabled=has.enabled | one if event.value else has.enabled - one))
    elif event.setting == "status_checked":
        state.put(event.account, replace(has, checked=event.value))
    elif event.setting == "sub_account":
        state.put(event.account, replace(has, number=event.value))
    elif event.setting == "bad_debt":  # the rest of a debt was written off, which may be more than all debt by rounding
        state.vaults[LENT].debt = max(0, state.vaults[LENT].debt)
    else:
        raise RulesError(f"block {event.block_number}: unknown setting '{event.setting}'", REBUILD)


def _apply_param(state: EulerState, event: ParamChange) -> None:
    name, value, asset = event.name, event.value, event.asset
    if asset is None:
        if name == "created":
            state.vaults[LENT].updated = value
        elif name in MARKET_WIDE:
            state.params[name] = value
        elif name != "euler_revision":
            raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", REBUILD)
        return
    vault = state.vaults[asset]
    if name in PER_COLLATERAL:
        state.of_assets[name, asset] = value
    elif name == "vault_fee":
        vault.accrue(event.timestamp)
        vault.fee = value
    elif name in STATUS and asset == LENT:  # for SQL: this book has its own
        pass
    elif name == "vault_cash":
        vault.cash = value
    elif name == "vault_debt":
        vault.debt = value
    elif name == "vault_shares":
        vault.shares = value
    elif name == "vault_accumulator":
        vault.accumulator = value
    elif name == "vault_rate":  # the last of a status: all of it is as of now
        vault.rate, vault.updated = value, event.timestamp
    elif name not in ("debt_is_principal", "share_decimals", "share_price_fell"):  # for SQL and for screens
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", REBUILD)


def index_update(vault: Vault, asset: AssetId, place: Mapping[str, int]) -> IndexUpdate:
    """Share price and accumulator (ray), and rates a year. Of asset 0 both stand for 2^31 scaled units. Collateral has
    no rate here: between two statuses screens count what shares were worth.
    """
    if asset != LENT:
        price = vault.share_price
        return IndexUpdate(**place, asset=asset, supply_index=price, borrow_index=RAY, supply_rate=0, borrow_rate=0)
    rate, assets = vault.rate * SECONDS_PER_YEAR, vault.assets
    earned = mul_div_down(rate, vault.borrows, assets) if assets else 0
    return IndexUpdate(
        **place,
        asset=LENT,
        supply_index=mul_div_down(assets + VIRTUAL_DEPOSIT, RAY * DEBT_UNIT, vault.shares + VIRTUAL_DEPOSIT),
        borrow_index=vault.accumulator,
        supply_rate=mul_div_down(earned, BPS - vault.fee, BPS),
        borrow_rate=rate,
    )


def status_after(state: EulerState, vault: Vault, now: Clock) -> list[IndexUpdate]:
    """The status that a call leaves with its new rate; where interest is as recorded it is history's."""
    if not state.recompute:
        return []
    after = replace(vault, rate=state.model_rate(vault, now.block_number))
    return [index_update(after, LENT, unplaced(now))]


def caps_fault(state: EulerState, before: Vault, after: Vault) -> str | None:
    """Why the vault's own check after a call would refuse it (RiskManager.checkVaultStatus)."""
    if after.borrows > state.param("borrow_cap", NO_CAP) and after.borrows > before.borrows:
        return "borrow cap exceeded"
    supply = after.cash + max(after.debt, 0) // DEBT_UNIT
    if supply > state.param("supply_cap", NO_CAP) and supply > before.assets:
        return "supply cap exceeded"
    return None


def is_disabled(state: EulerState, operation: int) -> bool:
    """Whether a kind of call is switched off (Base.callHook without a target); what a hook's contract says of it is not
    known, and taken as in history.
    """
    return bool(state.param("hooked_ops") & operation) and not state.param("hook_target")


def accounts(state: EulerState) -> Sequence[AccountId]:
    """Accounts that hold anything, in id order."""
    return sorted(id for id, has in state.people.items() if has.holds)
