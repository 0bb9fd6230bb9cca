"""The book of one Aave V2 market during a replay: reserves, accounts; and how canonical events change it.

``apply`` is strict: a change that would leave a scaled balance below zero raises, since on the chain it would have
reverted. Liquidity: what a reserve has of its underlying is what calls brought and took: every logged amount moves it,
and calls that differ from history say by how much (``MOVED``, ``MOVED_SHORT``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
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
from backtest.protocols.aave.effects import UNPLACED, Effect, param
from backtest.protocols.aave.math import linear_interest, ray_mul_half_up
from backtest.protocols.aave_v2.rules import CLOSE_FACTOR, compounded_interest, revision_known
from backtest.protocols.interface import Opening
from backtest.units import RAY

MOVED, MOVED_SHORT = "liquidity_moved", "liquidity_moved_short"
"""Native units that came into a reserve, or (negative) left it; the second where another order may depend on it, since
there is, or was, less than what a borrower may hold.
"""


@dataclass(frozen=True, slots=True)
class StableTotal:
    """All stable debt of a reserve: ``principal`` (native) as of ``since`` (seconds), at the ``average`` yearly rate
    (ray).
    """

    principal: int = 0
    average: int = 0
    since: int = 0

    def at(self, timestamp: int) -> int:
        """Native debt at ``timestamp`` (``tokenization/StableDebtToken.sol`` _calcTotalSupply)."""
        if not self.principal:
            return 0
        return ray_mul_half_up(self.principal, compounded_interest(self.average, timestamp - self.since))


@dataclass(slots=True)
class Reserve:
    """One asset: indexes (ray) as of ``updated`` (seconds), yearly rates (ray), parameters in basis points, totals in
    scaled units.

    ``liquidity`` is native: what can be borrowed, withdrawn or seized; it is known where it is ``told``: every call
    since the listing logged its amount. ``other_balances``: what its aToken is worth, no rule here knows. ``lost``: the
    block of the last call that found more debt than it stored, and the index by which it found it. The four numbers of
    the rate strategy are rays (``optimal_usage`` None: not known); ``treasury`` is the account that gets the reserve
    factor's share of interest; ``stable``, the totals of stable debt, are kept where interest is recomputed only.
    """

    asset: AssetId
    unit: int
    supply_index: int = RAY
    borrow_index: int = RAY
    supply_rate: int = 0
    borrow_rate: int = 0
    updated: int = 0
    ltv: int = 0
    liquidation_threshold: int = 0
    liquidation_bonus: int = 0
    active: int = 1
    frozen: int = 0
    borrowing_enabled: int = 0
    stable_borrowing_enabled: int = 0
    other_balances: int = 0
    reserve_factor: int = 0
    optimal_usage: int | None = None
    base_rate: int = 0
    slope1: int = 0
    slope2: int = 0
    treasury: int | None = None
    stable: StableTotal = StableTotal()
    scaled_supply: int = 0
    scaled_debt: int = 0
    liquidity: int = 0
    told: bool = True
    lost: tuple[int, int] = (-1, 0)

    def income(self, timestamp: int) -> int:
        """Native units of an aToken's scaled unit (ray): ``libraries/logic/ReserveLogic.sol`` getNormalizedIncome."""
        return ray_mul_half_up(linear_interest(self.supply_rate, timestamp - self.updated), self.supply_index)

    def debt_index(self, timestamp: int) -> int:
        """The same of variable debt, as views accrue it (getNormalizedDebt)."""
        return ray_mul_half_up(compounded_interest(self.borrow_rate, timestamp - self.updated), self.borrow_index)

    def stored_debt_index(self, timestamp: int) -> int:
        """The one that a call stores and its debt tokens use (updateState, _updateIndexes): it stays where it is as
        long as suppliers earn nothing, or nobody owes at the variable rate, and the time in between is lost.
        """
        return self.debt_index(timestamp) if self.supply_rate and self.scaled_debt else self.borrow_index


@dataclass(slots=True)
class StableDebt:
    """Debt at a rate of its own (ray a year): ``principal`` in native units as of ``since`` (seconds)."""

    principal: int = 0
    rate: int = 0
    since: int = 0

    def balance(self, timestamp: int) -> int:
        """Native debt at ``timestamp`` (``tokenization/StableDebtToken.sol`` balanceOf)."""
        if not self.principal:
            return 0
        return ray_mul_half_up(self.principal, compounded_interest(self.rate, timestamp - self.since))


@dataclass(slots=True)
class Account:
    """Scaled balances and variable debts that are not zero, assets flagged as collateral, and stable debts."""

    collateral: dict[AssetId, int] = field(default_factory=dict)
    debt: dict[AssetId, int] = field(default_factory=dict)
    enabled: set[AssetId] = field(default_factory=set)
    stable: dict[AssetId, StableDebt] = field(default_factory=dict)

    def copy(self) -> Account:
        stable = {asset: copy(debt) for asset, debt in self.stable.items()}
        return Account(self.collateral.copy(), self.debt.copy(), self.enabled.copy(), stable)

    @property
    def owing(self) -> set[AssetId]:
        """Assets in which the account has debt (``UserConfiguration.sol`` isBorrowing)."""
        if not self.stable:
            return set(self.debt)
        return self.debt.keys() | {asset for asset, debt in self.stable.items() if debt.principal}


@dataclass(slots=True)
class AaveV2State:
    """See the module. ``close_factor``: basis points, the contract's constant unless a scenario says otherwise.

    ``told_from``: from this block on liquidity is history's: what came before may be there in short, in another order.
    ``own``: accounts that no copy of this state shares; None: all. The others are copied before they change.
    ``largest``: the most that one borrower holds of an asset (scaled), where somebody asked; never lowered.
    ``columns``: ``valuation.Columns`` of every account but those in ``moved``, which changed since; None: not made yet.
    """

    market: Market
    reserves: list[Reserve]
    accounts: dict[AccountId, Account] = field(default_factory=dict)
    revision: int | None = None
    paused: int = 0
    close_factor: int = CLOSE_FACTOR
    recompute: bool = False
    told_from: int = field(default=0, compare=False)
    own: set[AccountId] | None = field(default=None, compare=False, repr=False)
    largest: dict[AssetId, int] = field(default_factory=dict, compare=False, repr=False)
    columns: Any = field(default=None, compare=False, repr=False)
    moved: set[AccountId] = field(default_factory=set, compare=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> AaveV2State:
        """Independent of this one; an account is copied when either changes it."""
        self.own = set()
        return replace(
            self,
            reserves=[copy(reserve) for reserve in self.reserves],
            accounts=self.accounts.copy(),
            own=set(),
            largest=self.largest.copy(),
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
    def rules(self) -> int:
        """The pool's revision; RulesError before the first ``pool_revision``."""
        if self.revision is None:
            raise RulesError(
                f"market '{self.market.name}': no pool revision is known yet, so no rules apply",
                "fetch from the market's start block, with its upgrade events",
            )
        return self.revision


_RESERVE_PARAMS = frozenset(
    {
        "ltv",
        "liquidation_threshold",
        "liquidation_bonus",
        "active",
        "frozen",
        "borrowing_enabled",
        "stable_borrowing_enabled",
        "other_balances",
        "reserve_factor",
        "optimal_usage",
        "base_rate",
        "slope1",
        "slope2",
        "treasury",
        "liquidity",
    }
)
_STABLE_TOTALS = {"stable_total": "principal", "stable_average": "average", "stable_total_since": "since"}
_UNUSED_PARAMS = frozenset({"reserve_id"})
"""Known parameters that no rule here depends on."""
_BRINGS = frozenset({MOVED, MOVED_SHORT, "flash_premium"})
_BROUGHT: Mapping[tuple[str, str], int] = {
    ("supply", "collateral"): 1,
    ("withdraw", "collateral"): -1,
    ("borrow", "debt"): -1,
    ("repay", "debt"): 1,
}
"""By action and side, the sign of what a logged amount does to the reserve (``lendingpool/LendingPool.sol``)."""
_BROUGHT_STABLE: Mapping[str, int] = {"borrow": -1, "repay": -1}
"""The same of ``stable_moved``, which is negative where debt was paid."""
_STABLE = {"stable_principal": "principal", "stable_rate": "rate", "stable_since": "since"}


def open_state(market: Market, *, recompute: bool = False) -> AaveV2State:
    """The empty book of a market."""
    reserves = [Reserve(asset.id, 10**asset.decimals, told=not recompute) for asset in market.assets]
    return AaveV2State(market, reserves, recompute=recompute)


def open_accounts(state: AaveV2State, opening: Opening) -> None:
    """The accounts that a replay begins with, into a book that knows none of them; RulesError as in ``apply``."""
    accounts, state.columns = state.accounts, None  # of a book that was looked at when it was empty
    for who, asset, side, balance in opening.balances:
        account = accounts.setdefault(who, Account())
        if balance:
            (account.debt if side == "debt" else account.collateral)[asset] = balance
            reserve = state.reserves[asset]
            if side == "debt":
                reserve.scaled_debt += balance
            else:
                reserve.scaled_supply += balance
    for who, name, of, value, block in opening.settings:
        _set(accounts.setdefault(who, Account()), name, of, value, block)
        if name == "stable_principal" and of is not None:
            state.reserves[of].told = False  # what its calls moved is not among what the opening says
    state.largest.clear()
    for of, side, action, amount in opening.moved:
        _bring(state.reserves[of], _BROUGHT.get((action, side), 0), amount)
    state.told_from = opening.until


def lacks(state: AaveV2State, reserve: Reserve, amount: int, now: Clock) -> bool:
    """Whether the reserve cannot pay out this much of its underlying (LPCM_NOT_ENOUGH_LIQUIDITY_TO_LIQUIDATE; a
    transfer of more than the aToken has reverts).

    Not asked where that is not known: before ``told_from``, of a reserve that is not ``told``, and where the logs leave
    less than nothing.
    """
    if state.recompute:
        return reserve.liquidity < amount
    if not reserve.told or now.block_number < state.told_from:
        return False
    return 0 <= reserve.liquidity < amount


def liquidity_moved(state: AaveV2State, asset: AssetId, amount: int, now: Clock) -> list[ParamChange]:
    """That underlying came into a reserve, or (negative) left it; nothing where nobody asks."""
    reserve = state.reserves[asset]
    if not amount or not reserve.told:
        return []
    least = min(reserve.liquidity, reserve.liquidity + amount)
    return [param(now, MOVED_SHORT if _is_short(state, reserve, least, now) else MOVED, asset, amount)]


def _is_short(state: AaveV2State, reserve: Reserve, liquidity: int, now: Clock) -> bool:
    """Whether this much liquidity may be too little for an order: less than what one borrower may hold."""
    if now.block_number < state.told_from or reserve.liquidity < 0:
        return False
    most = state.largest.get(reserve.asset)
    if most is None:
        held = (book.collateral.get(reserve.asset, 0) for book in state.accounts.values() if book.debt or book.stable)
        most = state.largest[reserve.asset] = max(held, default=0)
    return liquidity < ray_mul_half_up(most, reserve.income(now.timestamp))


def _bring(reserve: Reserve, sign: int, amount: int | None) -> None:
    """What a logged amount does to the reserve; None: the log does not say it."""
    if sign and amount is None:
        reserve.told = False
    elif amount is not None:
        reserve.liquidity += sign * amount


def apply(state: AaveV2State, event: MarketEvent) -> None:
    """Apply one canonical event or effect of a fill. Prices are the engine's: a PriceUpdate changes nothing here.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter or setting, an unknown pool revision.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        _apply_position(state, event)
    elif isinstance(event, IndexUpdate):
        reserve = state.reserves[event.asset]
        if not reserve.supply_rate and reserve.scaled_debt and event.timestamp != reserve.updated:
            reserve.lost = event.block_number, reserve.debt_index(event.timestamp)
        reserve.supply_index, reserve.borrow_index = event.supply_index, event.borrow_index
        reserve.supply_rate, reserve.borrow_rate = event.supply_rate, event.borrow_rate
        reserve.updated = event.timestamp
    elif isinstance(event, SettingChange):
        _apply_setting(state, event)
    elif isinstance(event, ParamChange):
        _apply_param(state, event)
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _apply_position(state: AaveV2State, event: PositionChange) -> None:
    account, asset, delta = state.account(event.account), event.asset, event.delta
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
        _raise_largest(state, account)
    if event.seq != UNPLACED and not state.recompute:
        _bring(reserve, _BROUGHT.get((event.action, event.side), 0), event.amount)


def _raise_largest(state: AaveV2State, account: Account) -> None:
    """After a change of an account that may have made it a borrower, or the largest."""
    if state.largest and (account.debt or account.stable):
        for asset, balance in account.collateral.items():
            if balance > state.largest.get(asset, balance):
                state.largest[asset] = balance


def _apply_setting(state: AaveV2State, event: SettingChange) -> None:
    account = state.account(event.account)
    _set(account, event.setting, event.asset, event.value, event.block_number)
    if event.asset is None:
        return
    if event.setting == "stable_moved" and event.seq != UNPLACED and not state.recompute:
        _bring(state.reserves[event.asset], _BROUGHT_STABLE.get(event.action, 0), event.value)
    elif event.setting == "stable_principal":
        _raise_largest(state, account)
    elif event.setting == "stable_since" and not account.stable[event.asset].principal:  # the last of a loan's terms
        account.stable.pop(event.asset)


def _set(account: Account, name: str, asset: AssetId | None, value: int, block: int) -> None:
    if asset is None:
        raise RulesError(f"block {block}: setting '{name}' names no asset", "rebuild the canonical tables")
    if name == "collateral_enabled":
        (account.enabled.add if value else account.enabled.discard)(asset)
    elif name in _STABLE:
        setattr(account.stable.setdefault(asset, StableDebt()), _STABLE[name], value)
    elif name not in ("stable_moved", "stable_loan_rate"):  # what a call moved and paid: its terms say what it left
        raise RulesError(f"block {block}: unknown setting '{name}'", "rebuild the canonical tables")


def _apply_param(state: AaveV2State, event: ParamChange) -> None:
    name, value, asset = event.name, event.value, event.asset
    if name == "pool_revision":
        state.revision = revision_known(value, event.block_number)
    elif name == "close_factor":
        state.close_factor = value
    elif name == "paused" and asset is None:
        state.paused = value
    elif name in _BRINGS and asset is not None:
        state.reserves[asset].liquidity += value
    elif name in _RESERVE_PARAMS and asset is not None:
        setattr(state.reserves[asset], name, value)
    elif name in _STABLE_TOTALS and asset is not None:
        reserve = state.reserves[asset]
        reserve.stable = replace(reserve.stable, **{_STABLE_TOTALS[name]: value})
    elif name not in _UNUSED_PARAMS:
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", "rebuild the canonical tables")


@contextmanager
def applied(state: AaveV2State, effects: Iterable[Effect]) -> Iterator[None]:
    """The state with these effects of a user's call, as long as the block runs; as it was afterwards. Changes of
    positions and settings only.
    """
    own_changes = [effect for effect in effects if isinstance(effect, PositionChange | SettingChange)]
    touched = {effect.account: state.accounts.get(effect.account) for effect in own_changes}
    moved, own, largest = state.moved.copy(), state.own, state.largest.copy()
    totals = [(reserve.scaled_supply, reserve.scaled_debt) for reserve in state.reserves]
    state.own = set()  # every account is copied before it changes
    try:
        for effect in own_changes:
            apply(state, effect)
        yield
    finally:
        state.own, state.moved, state.largest = own, moved, largest
        for account, book in touched.items():
            if book is None:
                state.accounts.pop(account, None)
            else:
                state.accounts[account] = book
        for reserve, (supply, debt) in zip(state.reserves, totals, strict=True):
            reserve.scaled_supply, reserve.scaled_debt = supply, debt
