"""The book of one Aave V3 market during a replay: reserves, e-mode categories, accounts; and how canonical events
change it.

``apply`` is strict: a change that would leave a scaled balance below zero raises, since on the chain it would have
reverted. In a counterfactual replay history's own actions may not fit the changed book: the engine cuts and counts them
before they come here.
Deficits: a fill carries ``ParamChange('deficit_created', asset)``, native units that are added to the reserve's
deficit, so that fills quoted together and applied one after the other add up. No rule of a liquidation reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from backtest.errors import RulesError
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
from backtest.protocols import Opening
from backtest.protocols.aave_v3.math import compounded_interest_v30, linear_interest, ray_mul_half_up
from backtest.protocols.aave_v3.rules import DEFAULT_CLOSE_FACTOR, Rules, rules_for
from backtest.units import RAY


@dataclass(slots=True)
class Reserve:
    """One asset: indexes (ray) as of ``updated`` (seconds), yearly rates (ray), parameters in basis points, totals in
    scaled units.

    ``reserve_id`` is the position in the pool's list of reserves, the order in which the contract walks an account;
    ``treasury`` the account that collects protocol fees; ``grace_until`` a timestamp; ``deficit`` is native units. Caps
    are whole tokens (0: none); the four numbers of the rate strategy are rays (``optimal_usage`` None: not known).
    ``liquidity`` (native: what can be borrowed) and ``accrued_to_treasury`` (scaled) are kept where interest is
    recomputed only.
    """

    asset: AssetId
    unit: int
    reserve_id: int
    supply_index: int = RAY
    borrow_index: int = RAY
    supply_rate: int = 0
    borrow_rate: int = 0
    updated: int = 0
    ltv: int = 0
    liquidation_threshold: int = 0
    liquidation_bonus: int = 0
    liquidation_protocol_fee: int = 0
    active: int = 1
    paused: int = 0
    debt_ceiling: int = 0
    grace_until: int = 0
    emode_category: int = 0
    treasury: int | None = None
    frozen: int = 0
    borrowing_enabled: int = 0
    borrowable_in_isolation: int = 0
    siloed: int = 0
    supply_cap: int = 0
    borrow_cap: int = 0
    reserve_factor: int = 0
    optimal_usage: int | None = None
    base_rate: int = 0
    slope1: int = 0
    slope2: int = 0
    scaled_supply: int = 0
    scaled_debt: int = 0
    deficit: int = 0
    liquidity: int = 0
    accrued_to_treasury: int = 0

    def __copy__(self) -> Reserve:
        made = object.__new__(Reserve)
        for name in _RESERVE_FIELDS:
            setattr(made, name, getattr(self, name))
        return made

    def income(self, timestamp: int) -> int:
        """Supply index (ray) accrued to ``timestamp`` (ReserveLogic.getNormalizedIncome, all versions)."""
        elapsed = timestamp - self.updated
        return _earned(self.supply_index, self.supply_rate, elapsed) if elapsed else self.supply_index

    def debt_index(self, timestamp: int, rules: Rules) -> int:
        """Borrow index (ray) accrued to ``timestamp`` (ReserveLogic.getNormalizedDebt; the series is the
        revision's).
        """
        elapsed = timestamp - self.updated
        return (
            _owed(rules.compounded_interest, self.borrow_index, self.borrow_rate, elapsed)
            if elapsed
            else self.borrow_index
        )

    def as_update(self, now: Clock, supply_rate: int, borrow_rate: int) -> IndexUpdate:
        """The indexes as they are, with new rates, as of ``now``; not an event of the history."""
        return IndexUpdate(
            seq=-1,
            block_number=now.block_number,
            log_index=now.log_index,
            timestamp=now.timestamp,
            asset=self.asset,
            supply_index=self.supply_index,
            borrow_index=self.borrow_index,
            supply_rate=supply_rate,
            borrow_rate=borrow_rate,
        )


_RESERVE_FIELDS = tuple(Reserve.__slots__)


# One moment asks for the same few indexes again and again, once for each account.
@lru_cache(maxsize=1024)
def _earned(index: int, rate: int, elapsed: int) -> int:
    return ray_mul_half_up(linear_interest(rate, elapsed), index)


@lru_cache(maxsize=1024)
def _owed(compounded: Callable[[int, int], int], index: int, rate: int, elapsed: int) -> int:
    return ray_mul_half_up(compounded(rate, elapsed), index)


@dataclass(slots=True)
class Category:
    """One e-mode category, in basis points. ``collateral``, ``borrowable`` and ``ltvzero`` are the assets on its lists
    (3.2+, 3.2+, 3.6+); ``isolated`` is 3.7's. ``price_source`` is the asset whose oracle price counts in place of its
    members' own (to 3.1); None: each its own.
    """

    ltv: int = 0
    liquidation_threshold: int = 0
    liquidation_bonus: int = 0
    isolated: int = 0
    price_source: AssetId | None = None
    collateral: set[AssetId] = field(default_factory=set)
    borrowable: set[AssetId] = field(default_factory=set)
    ltvzero: set[AssetId] = field(default_factory=set)


@dataclass(slots=True)
class StableDebt:
    """Stable-rate debt of 3.0 and 3.1: principal (native) as of ``since`` (seconds) at a yearly ``rate`` (ray)."""

    principal: int = 0
    rate: int = 0
    since: int = 0

    def balance(self, timestamp: int) -> int:
        """Native debt at ``timestamp`` (StableDebtToken.balanceOf, 3.0 and 3.1)."""
        if not self.principal:
            return 0
        return ray_mul_half_up(self.principal, compounded_interest_v30(self.rate, timestamp - self.since))


@dataclass(slots=True)
class Account:
    """Scaled balances by asset (no zero entries), the assets flagged as collateral, the e-mode category (0: none)."""

    collateral: dict[AssetId, int] = field(default_factory=dict)
    debt: dict[AssetId, int] = field(default_factory=dict)
    enabled: set[AssetId] = field(default_factory=set)
    emode: int = 0
    stable: dict[AssetId, StableDebt] = field(default_factory=dict)

    def copy(self) -> Account:
        """Independent of this one."""
        stable = {asset: copy(debt) for asset, debt in self.stable.items()} if self.stable else {}
        return Account(self.collateral.copy(), self.debt.copy(), self.enabled.copy(), self.emode, stable)


@dataclass(slots=True)
class AaveState:
    """Everything a replay of one market changes; ``close_factor`` (bps) is the contract's constant unless overridden.

    ``recompute``: interest follows this book, and calls say what they do to the reserves. ``premium_to_protocol`` (bps)
    is the treasury's share of flash loan premiums to 3.3.
    """

    market: Market
    reserves: list[Reserve]
    categories: dict[int, Category] = field(default_factory=dict)
    accounts: dict[AccountId, Account] = field(default_factory=dict)
    revision: Rules | None = None
    close_factor: int = DEFAULT_CLOSE_FACTOR
    recompute: bool = False
    premium_to_protocol: int = 0
    own: set[AccountId] | None = field(default=None, compare=False, repr=False)
    """Accounts that no copy of this state shares; None: all. The others are copied before they change."""
    columns: Any = field(default=None, compare=False, repr=False)
    """``valuation.Columns`` of every account but those in ``moved``, which changed since; None: not made yet. Copies
    share it.
    """
    moved: set[AccountId] = field(default_factory=set, compare=False, repr=False)
    latest: dict[AccountId, tuple[int, Rules, dict[AssetId, int], Any]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """``account.account_data``'s last answers with the timestamp, rules and prices that they depend on; none of an
    account that changed since.
    """
    weights: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)
    """``valuation.weights`` of each e-mode, as long as no parameter changes."""

    def __deepcopy__(self, memo: dict[int, Any]) -> AaveState:
        """Independent of this one; an account is copied when either changes it."""
        self.own = set()
        categories = deepcopy(self.categories, memo)
        return replace(
            self,
            reserves=[copy(reserve) for reserve in self.reserves],
            categories=categories,
            accounts=self.accounts.copy(),
            own=set(),
            latest={},
            weights={},
            moved=self.moved.copy(),
        )

    def account(self, account: AccountId) -> Account:
        """An account that may be changed, new where there was none."""
        self.moved.add(account)
        book = self.accounts.get(account)
        if book is None:
            book = self.accounts[account] = Account()
        elif self.own is not None and account not in self.own:
            book = self.accounts[account] = book.copy()
        else:
            return book
        if self.own is not None:
            self.own.add(account)
        return book

    @property
    def rules(self) -> Rules:
        """The rules in force; RulesError before the first ``pool_revision``."""
        if self.revision is None:
            raise RulesError(
                f"market '{self.market.name}': no pool revision is known yet, so no rules apply",
                "fetch from the market's start block, with its upgrade events",
            )
        return self.revision


_RESERVE_PARAMS = frozenset(
    {
        "reserve_id",
        "ltv",
        "liquidation_threshold",
        "liquidation_bonus",
        "liquidation_protocol_fee",
        "active",
        "paused",
        "debt_ceiling",
        "grace_until",
        "emode_category",
        "treasury",
        "frozen",
        "borrowing_enabled",
        "borrowable_in_isolation",
        "siloed",
        "supply_cap",
        "borrow_cap",
        "reserve_factor",
        "optimal_usage",
        "base_rate",
        "slope1",
        "slope2",
        "liquidity",
        "accrued_to_treasury",
    }
)
_CATEGORY_PARAMS = {
    "emode_ltv": "ltv",
    "emode_liquidation_threshold": "liquidation_threshold",
    "emode_liquidation_bonus": "liquidation_bonus",
    "emode_isolated": "isolated",
}
_MEMBERSHIPS = {"emode_collateral": "collateral", "emode_borrowable": "borrowable", "emode_ltvzero": "ltvzero"}
# Known parameters that no rule here depends on; ``flash_premium`` is what a flash loan left, in the recorded indexes
# already.
_UNUSED_PARAMS = frozenset({"collateral_token_revision", "debt_token_revision", "flash_premium_total", "flash_premium"})
_STABLE = {"stable_principal": "principal", "stable_rate": "rate", "stable_since": "since"}


def open_state(market: Market, *, recompute: bool = False) -> AaveState:
    """The empty book of a market; reserve ids are the asset ids until events say otherwise."""
    return AaveState(
        market, [Reserve(asset.id, 10**asset.decimals, asset.id) for asset in market.assets], recompute=recompute
    )


def open_accounts(state: AaveState, opening: Opening) -> None:
    """The accounts that a replay begins with, into a book that knows none of them; RulesError as in ``apply``."""
    accounts, state.columns = state.accounts, None  # of a book that was looked at when it was empty
    state.latest.clear()
    sums = {"collateral": [0] * len(state.reserves), "debt": [0] * len(state.reserves)}
    for who, asset, side, balance in opening.balances:
        account = accounts.get(who)
        if account is None:
            account = accounts[who] = Account()
        if balance:
            (account.debt if side == "debt" else account.collateral)[asset] = balance
            sums[side][asset] += balance
    for reserve, supply, debt in zip(state.reserves, sums["collateral"], sums["debt"], strict=True):
        reserve.scaled_supply += supply
        reserve.scaled_debt += debt
    for who, name, of, value, block in opening.settings:
        account = accounts.get(who)
        if account is None:
            account = accounts[who] = Account()
        _set(account, name, of, value, block)


def apply(state: AaveState, event: MarketEvent) -> None:
    """Apply one canonical event or effect of a fill. Prices are the engine's: a PriceUpdate changes nothing here.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter or setting, an unknown pool revision.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        state.latest.pop(event.account, None)
        _apply_position(state, event)
    elif isinstance(event, IndexUpdate):
        state.latest.clear()
        reserve = state.reserves[event.asset]
        reserve.supply_index, reserve.borrow_index = event.supply_index, event.borrow_index
        reserve.supply_rate, reserve.borrow_rate = event.supply_rate, event.borrow_rate
        reserve.updated = event.timestamp
    elif isinstance(event, SettingChange):
        state.latest.pop(event.account, None)
        _apply_setting(state, event)
    elif isinstance(event, ParamChange):
        state.latest.clear()
        state.weights.clear()
        _apply_param(state, event)
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _apply_position(state: AaveState, event: PositionChange) -> None:
    account = state.account(event.account)
    asset, delta = event.asset, event.delta
    book = account.debt if event.side == "debt" else account.collateral
    balance = book.get(asset, 0) + delta
    if balance > 0:
        book[asset] = balance
    elif balance == 0:
        book.pop(asset, None)
    else:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {balance} scaled units of {state.market.assets[asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    reserve = state.reserves[asset]
    if event.side == "debt":
        reserve.scaled_debt += delta
    else:
        reserve.scaled_supply += delta


def _apply_setting(state: AaveState, event: SettingChange) -> None:
    _set(state.account(event.account), event.setting, event.asset, event.value, event.block_number)


def _set(account: Account, name: str, asset: AssetId | None, value: int, block: int) -> None:
    if name == "emode":
        account.emode = value
    elif asset is None:
        raise RulesError(f"block {block}: setting '{name}' names no asset", "rebuild the canonical tables")
    elif name == "collateral_enabled":
        (account.enabled.add if value else account.enabled.discard)(asset)
    elif name in _STABLE:
        setattr(account.stable.setdefault(asset, StableDebt()), _STABLE[name], value)
    else:
        raise RulesError(f"block {block}: unknown setting '{name}'", "rebuild the canonical tables")


def _apply_param(state: AaveState, event: ParamChange) -> None:
    name, value, asset, category = event.name, event.value, event.asset, event.category
    if name == "pool_revision":
        state.revision = rules_for(value, event.block_number)
    elif name == "close_factor":
        state.close_factor = value
    elif name == "flash_premium_to_protocol":
        state.premium_to_protocol = value
    elif name == "deficit_created" and asset is not None:
        state.reserves[asset].deficit += value
    elif name in _RESERVE_PARAMS and asset is not None:
        setattr(state.reserves[asset], name, value)
    elif name in _CATEGORY_PARAMS and category is not None:
        setattr(state.categories.setdefault(category, Category()), _CATEGORY_PARAMS[name], value)
    elif name == "emode_price_source" and category is not None:
        source = AssetId(value) if value >= 0 else None
        state.categories.setdefault(category, Category()).price_source = source
        state.columns = None  # they hold nobody whose e-mode has a price of its own
    elif name in _MEMBERSHIPS and category is not None and asset is not None:
        members = getattr(state.categories.setdefault(category, Category()), _MEMBERSHIPS[name])
        (members.add if value else members.discard)(asset)
    elif name not in _UNUSED_PARAMS:  # also a known name without its asset or category
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", "rebuild the canonical tables")
