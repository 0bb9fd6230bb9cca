"""The book of one Aave V3 market during a replay: reserves, e-mode categories, accounts; and how canonical events
change it.

``apply`` is strict: a change that would leave a scaled balance below zero raises, since on the chain it would have
reverted. In a counterfactual replay history's own actions may not fit the changed book: the engine cuts and counts them
before they come here.
Deficits: a fill carries ``ParamChange('deficit_created', asset)``, native units that are added to the reserve's
deficit, so that fills quoted together and applied one after the other add up. No rule of a liquidation reads it.
Liquidity: what a reserve has of its underlying is what calls brought and took. Where interest is recomputed, calls say
what they leave; under history's rates every logged amount moves it, and calls that differ from history say by how much
(``MOVED``, ``MOVED_SHORT``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

from typing_extensions import override

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
from backtest.protocols.aave_v3.live import Live
from backtest.protocols.aave_v3.math import compounded_interest_v30, linear_interest, ray_mul_half_up
from backtest.protocols.aave_v3.rules import DEFAULT_CLOSE_FACTOR, Rules, rules_for
from backtest.protocols.interface import Opening
from backtest.protocols.loop import Stretch
from backtest.units import RAY

UNPLACED = -1
"""``seq`` of changes that are not events of the history."""


@dataclass(slots=True)
class Reserve:
    """One asset: indexes (ray) as of ``updated`` (seconds), yearly rates (ray), parameters in basis points, totals in
    scaled units.

    ``reserve_id`` is the position in the pool's list of reserves, the order in which the contract walks an account;
    ``treasury`` the account that collects protocol fees; ``grace_until`` a timestamp; ``deficit`` is native units. Caps
    are whole tokens (0: none); the four numbers of the rate strategy are rays (``optimal_usage`` None: not known).
    ``liquidity`` is native: what can be borrowed, withdrawn or seized; under history's rates it is known where it is
    ``told``: every call since the listing logged its amount, and none was of stable-rate debt. ``accrued_to_treasury``
    (scaled), ``unbacked`` (native: minted by bridges) and the totals of stable debt (3.0, 3.1: principal, average rate,
    as of when; see ``stable``) are kept where interest is recomputed only. The five numbers of stable rates are rays
    (``stable_base`` None: not known); ``stable_borrow_rate`` is what a new stable loan pays. ``ltv`` is the one in
    force: 0 while history holds the own one back (``ltv_withheld``: frozen from 3.1 on, or set aside, 3.6), whatever
    ``own_ltv`` is meanwhile.
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
    own_ltv: int = 0
    ltv_withheld: int = 0
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
    told: bool = False
    unbacked: int = 0
    stable_base: int | None = None
    stable_slope1: int = 0
    stable_slope2: int = 0
    stable_excess_offset: int = 0
    optimal_stable_share: int = 0
    stable_borrow_rate: int = 0
    stable_total: int = 0
    stable_average: int = 0
    stable_total_since: int = 0

    def __copy__(self) -> Reserve:
        made = object.__new__(Reserve)
        for name in _RESERVE_FIELDS:
            setattr(made, name, getattr(self, name))
        return made

    def list_anew(self, reserve_id: int) -> None:
        """A listing: nothing is left of an earlier one (PoolLogic executeDropReserve deletes all data of a reserve,
        ReserveLogic init sets both indexes to one ray; all versions). What it is configured as follows in parameters;
        balances are those of its tokens, and the treasury is named by them.

        Under history's rates liquidity is the sum of what the logs moved, which a past in short brings before its
        listings: it stays. What the earlier listing leaves of it are the few units of its roundings.
        """
        listed = Reserve(self.asset, self.unit, reserve_id)
        kept = {"treasury", "scaled_supply", "scaled_debt", "told"} | ({"liquidity"} if self.told else set())
        for name in _RESERVE_FIELDS:
            if name not in kept:
                setattr(self, name, getattr(listed, name))

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
    is the treasury's share of flash loan premiums to 3.3, ``bridge_fee_to_protocol`` (bps) that of bridges' fees.
    """

    market: Market
    reserves: list[Reserve]
    categories: dict[int, Category] = field(default_factory=dict)
    books: dict[AccountId, Account] = field(default_factory=dict, repr=False)
    """The accounts, but for what ``passed`` did to them: read ``accounts``."""
    revision: Rules | None = None
    close_factor: int = DEFAULT_CLOSE_FACTOR
    recompute: bool = False
    premium_to_protocol: int = 0
    bridge_fee_to_protocol: int = 0
    told_from: int = field(default=0, compare=False)
    """From this block on liquidity is history's: what came before may be there in short, in another order."""
    own: set[AccountId] | None = field(default=None, compare=False, repr=False)
    """Accounts that no copy of this state shares; None: all. The others are copied before they change."""
    live: Live | None = field(default=None, compare=False, repr=False)
    """The accounts as columns, but for those in ``moved``, which changed since; None: not made yet."""
    moved: set[AccountId] = field(default_factory=set, compare=False, repr=False)
    passed: list[Stretch] = field(default_factory=list, compare=False, repr=False)
    """What compiled code did to the columns and nobody wrote into the objects yet."""
    latest: dict[AccountId, tuple[int, Rules, dict[AssetId, int], Any]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """``account.account_data``'s last answers with the timestamp, rules and prices that they depend on; none of an
    account that changed since.
    """
    weights: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)
    """``valuation.weights`` of each e-mode, as long as no parameter changes."""
    largest: dict[AssetId, int] = field(default_factory=dict, compare=False, repr=False)
    """The most that one borrower holds of an asset (scaled), where somebody asked and nothing changed it since."""

    def __deepcopy__(self, memo: dict[int, Any]) -> AaveState:
        """Independent of this one; an account is copied when either changes it."""
        self.own = set()
        categories = deepcopy(self.categories, memo)
        return replace(
            self,
            reserves=[copy(reserve) for reserve in self.reserves],
            categories=categories,
            books=self.accounts.copy(),
            own=set(),
            latest={},
            weights=self.weights.copy(),
            largest=self.largest.copy(),
            live=None if self.live is None else self.live.copy(),
            moved=self.moved.copy(),
            passed=[],
        )

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AaveState):
            return NotImplemented
        mine, theirs = self.accounts, other.accounts  # what is put off is made
        return mine == theirs and all(getattr(self, name) == getattr(other, name) for name in _COMPARED)

    __hash__ = None  # type: ignore[assignment]

    @property
    def accounts(self) -> dict[AccountId, Account]:
        """Every account as an object, as of now."""
        self.catch_up()
        return self.books

    def catch_up(self) -> None:
        """The objects are what the columns are."""
        if self.passed:
            passed, self.passed = self.passed, []
            for stretch in passed:
                _write(self, stretch)

    def account(self, account: AccountId) -> Account:
        """An account that may be changed, new where there was none."""
        self.catch_up()
        self.moved.add(account)
        return self.to_write(account)

    def to_write(self, account: AccountId) -> Account:
        """Its object, whatever the columns know; no copy of this state shares it."""
        book = self.books.get(account)
        if book is None:
            book = self.books[account] = Account()
        elif self.own is not None and account not in self.own:
            book = self.books[account] = book.copy()
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


_COMPARED = [each.name for each in fields(AaveState) if each.compare and each.name != "books"]


def _write(state: AaveState, stretch: Stretch) -> None:
    """What compiled code did to accounts, into their objects."""
    for account, asset, side, delta in stretch.positions:
        book = state.to_write(account)
        held = book.debt if side == "debt" else book.collateral
        if balance := held.get(asset, 0) + delta:
            held[asset] = balance
        else:
            held.pop(asset, None)
    for account, _, asset, _ in stretch.settings:
        state.to_write(account).enabled.discard(asset)


_RESERVE_PARAMS = frozenset(
    {
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
        "unbacked",
        "stable_base",
        "stable_slope1",
        "stable_slope2",
        "stable_excess_offset",
        "optimal_stable_share",
        "stable_borrow_rate",
        "stable_total",
        "stable_average",
        "stable_total_since",
    }
)
_CATEGORY_PARAMS = {
    "emode_ltv": "ltv",
    "emode_liquidation_threshold": "liquidation_threshold",
    "emode_liquidation_bonus": "liquidation_bonus",
    "emode_isolated": "isolated",
}
_MEMBERSHIPS = {"emode_collateral": "collateral", "emode_borrowable": "borrowable", "emode_ltvzero": "ltvzero"}
# Known parameters that no rule here depends on.
_UNUSED_PARAMS = frozenset({"collateral_token_revision", "debt_token_revision", "flash_premium_total"})
MOVED, MOVED_SHORT = "liquidity_moved", "liquidity_moved_short"
"""Native units that came into a reserve, or (negative) left it; the second where another order may depend on it, since
there is, or was, less than what a borrower may hold.
"""
# What a flash loan or a bridge brought; what of it was earned is in the recorded indexes already.
_BRINGS = frozenset({MOVED, MOVED_SHORT, "flash_premium", "bridge_fee", "backed"})
_BROUGHT: Mapping[tuple[str, str], int] = {
    ("supply", "collateral"): 1,
    ("withdraw", "collateral"): -1,
    ("borrow", "debt"): -1,
    ("repay", "debt"): 1,
    ("repay", "collateral"): -1,
}
"""By action and side, the sign of what a logged amount does to the reserve (SupplyLogic, BorrowLogic, all versions). A
repayment with aTokens has both of the last two, and brings nothing; what a bridge mints (``mint-unbacked``) brings
nothing either.
"""
_STABLE = {"stable_principal": "principal", "stable_rate": "rate", "stable_since": "since"}


def open_state(market: Market, *, recompute: bool = False) -> AaveState:
    """The empty book of a market; reserve ids are the asset ids until events say otherwise."""
    reserves = [Reserve(asset.id, 10**asset.decimals, asset.id, told=not recompute) for asset in market.assets]
    return AaveState(market, reserves, recompute=recompute)


def open_accounts(state: AaveState, opening: Opening) -> None:
    """The accounts that a replay begins with, into a book that knows none of them; RulesError as in ``apply``."""
    accounts, state.live = state.accounts, None  # of a book that was looked at when it was empty
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
        if name == "stable_principal" and of is not None:
            state.reserves[of].told = False
    state.largest.clear()
    for of, side, action, amount in opening.moved:
        _bring(state.reserves[of], action, side, amount)
    state.told_from = opening.until


def lacks(state: AaveState, reserve: Reserve, amount: int, now: Clock) -> bool:
    """Whether the reserve cannot pay out this much of its underlying: AToken.burn and transferUnderlyingTo revert (3.0:
    the token balance), as ReserveLogic.updateInterestRatesAndVirtualBalance does (3.1+: the virtual balance).

    Under history's rates not asked where that is not known: before ``told_from``, of a reserve that is not ``told``,
    and where the logs leave less than nothing or nobody has supplied (GHO before 3.4 is minted for its borrowers).
    """
    if state.recompute:
        return reserve.liquidity < amount
    if not reserve.told or now.block_number < state.told_from or not reserve.scaled_supply:
        return False
    return 0 <= reserve.liquidity < amount


def is_short(state: AaveState, reserve: Reserve, liquidity: int, now: Clock) -> bool:
    """Whether this much liquidity may be too little for an order: less than what one borrower may hold."""
    if not reserve.told or now.block_number < state.told_from or reserve.liquidity < 0:
        return False
    most = state.rules.collateral_balance(largest_of(state, reserve.asset), reserve.income(now.timestamp))
    return liquidity < most


def _bring(reserve: Reserve, action: str, side: str, amount: int | None) -> None:
    """What a logged amount does to the reserve; None: the log does not say it."""
    if sign := _BROUGHT.get((action, side)):
        if amount is None:
            reserve.told = False
        else:
            reserve.liquidity += sign * amount


def largest_of(state: AaveState, asset: AssetId) -> int:
    """At least what any one borrower holds of an asset, scaled units: looked up once, then raised as borrowers come to
    hold more, and never lowered.
    """
    found = state.largest.get(asset)
    if found is None:
        for at in range(len(state.reserves)):
            state.largest.setdefault(AssetId(at), 0)
        for book in state.accounts.values():
            raise_largest(state, book)
        found = state.largest[asset]
    return found


def raise_largest(state: AaveState, account: Account) -> None:
    """After a change of an account that may have made it a borrower, or the largest."""
    largest = state.largest
    if largest and (account.debt or account.stable):
        for asset, balance in account.collateral.items():
            if balance > largest.get(asset, balance):
                largest[asset] = balance


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
        if event.name != MOVED and event.name != MOVED_SHORT:  # no value of an account depends on it
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
    if delta > 0:
        raise_largest(state, account)
    if reserve.told and event.seq != UNPLACED:
        _bring(reserve, event.action, event.side, event.amount)


def _apply_setting(state: AaveState, event: SettingChange) -> None:
    account = state.account(event.account)
    _set(account, event.setting, event.asset, event.value, event.block_number)
    if event.setting == "stable_principal" and event.asset is not None:
        state.reserves[event.asset].told = False
        state.largest.clear()


def _set(account: Account, name: str, asset: AssetId | None, value: int, block: int) -> None:
    if name == "emode":
        account.emode = value
    elif asset is None:
        raise RulesError(f"block {block}: setting '{name}' names no asset", "rebuild the canonical tables")
    elif name == "collateral_enabled":
        (account.enabled.add if value else account.enabled.discard)(asset)
    elif name == "stable_moved":
        pass  # what a call moved: its terms say what it left
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
    elif name == "bridge_fee_to_protocol":
        state.bridge_fee_to_protocol = value
    elif name == "reserve_id" and asset is not None:
        state.reserves[asset].list_anew(value)
    elif name in ("ltv", "ltv_withheld") and asset is not None:
        reserve = state.reserves[asset]
        setattr(reserve, "own_ltv" if name == "ltv" else name, value)
        reserve.ltv = 0 if reserve.ltv_withheld else reserve.own_ltv
    elif name == "deficit_created" and asset is not None:
        state.reserves[asset].deficit += value
    elif name in _BRINGS and asset is not None:
        state.reserves[asset].liquidity += value
    elif name in _RESERVE_PARAMS and asset is not None:
        if name == "treasury":
            state.catch_up()  # whoever it is: fees go to its object at once
        setattr(state.reserves[asset], name, value)
    elif name in _CATEGORY_PARAMS and category is not None:
        setattr(state.categories.setdefault(category, Category()), _CATEGORY_PARAMS[name], value)
    elif name == "emode_price_source" and category is not None:
        source = AssetId(value) if value >= 0 else None
        state.categories.setdefault(category, Category()).price_source = source
        state.live = None  # it holds nobody whose e-mode has a price of its own
    elif name in _MEMBERSHIPS and category is not None and asset is not None:
        members = getattr(state.categories.setdefault(category, Category()), _MEMBERSHIPS[name])
        (members.add if value else members.discard)(asset)
    elif name not in _UNUSED_PARAMS:  # also a known name without its asset or category
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", "rebuild the canonical tables")
