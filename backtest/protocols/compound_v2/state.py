"""The book of a Compound V2 market during a replay, and how canonical events change it.

An asset is one cToken. Side collateral counts cTokens, side debt the principal as of the account's last call in that
cToken (``CToken.accountBorrows``), which grows by the borrow index since. What an account holds counts as collateral
only where it entered the cToken (setting ``collateral_enabled``). Cash, borrows, reserves and supply of each cToken
follow from the native ``amount`` beside each change, so that in a changed book the exchange rate is that book's own.

Interest is a rate a period (a block, or a second), simple between two accruals. History's accruals come as parameters
with the rate of the time since the one before, which the recorded borrow indexes tell exactly (``math.factor_up``).
Since the last accrual the rate model's rate is taken where it is one of those in ``math``, else the one that the next
accrual will record. Where interest is recomputed the model must be known.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from backtest.protocols.compound_v2.math import (
    CUT,
    MOST_RATE,
    borrow_balance_down,
    borrow_rate_down,
    exchange_rate_down,
    mul_down,
)
from backtest.units import RAY, SECONDS_PER_YEAR, WAD

UNPLACED = -1
INDEX_SCALE = RAY // WAD
TAKES = frozenset({"withdraw", "repay", "liquidation"})
REBUILD = "rebuild the canonical tables"
UNKNOWN_RATE, MODEL = 0, 1
"""Values of ``rate_model``: no model that the rules know; base, slope, jump and kink are those of the model."""
_FIELDS = {
    "liquidation_threshold": "factor",
    "liquidation_bonus": "incentive",
    "reserve_factor": "reserve_factor",
    "protocol_seize_share": "seize_share",
    "borrow_cap": "cap",
    "mint_paused": "mint_paused",
    "borrow_paused": "borrow_paused",
    "base_rate": "base",
    "slope": "slope",
    "jump_slope": "jump",
    "kink": "kink",
    "rate_model": "model",
}
_MARKET_FIELDS = {
    "close_factor": "close_factor",
    "seize_paused": "seize_paused",
    "transfer_paused": "transfer_paused",
    "comptroller_revision": "revision",
    "interest_by_second": "by_second",
    "periods_per_year": "periods_per_year",
}


@dataclass(slots=True)
class CTokenMarket:
    """One cToken as of period ``updated``. Native units; ``index``, rates and shares are mantissas; ``supply`` counts
    cTokens. ``rate`` is that of the time that runs, a period; ``shown_at``, ``shown`` and ``shown_rate`` are time,
    yearly rate (ray) and exchange rate of its last index update.
    """

    cash: int = 0
    borrows: int = 0
    reserves: int = 0
    supply: int = 0
    index: int = WAD
    updated: int = 0
    rate: int = 0
    factor: int = 0
    incentive: int = 0
    reserve_factor: int = 0
    seize_share: int = 0
    cap: int = 0
    mint_paused: int = 0
    borrow_paused: int = 0
    base: int = 0
    slope: int = 0
    jump: int = 0
    kink: int = 0
    model: int = UNKNOWN_RATE
    shown_at: int = 0
    shown: int = 0
    shown_rate: int = 0

    @property
    def exchange_rate(self) -> int:
        """Native units of a cToken, mantissa (CToken.exchangeRateStored); 0 where there are no cTokens: the first one's
        rate is in no log.
        """
        return exchange_rate_down(self.cash, self.borrows, self.reserves, self.supply) if self.supply else 0

    @property
    def deprecated(self) -> bool:
        """Comptroller.isDeprecated."""
        return self.factor == 0 and bool(self.borrow_paused) and self.reserve_factor == WAD

    def model_rate(self) -> int:
        """What the rate model says now, mantissa a period; where it would divide by zero, more than is allowed."""
        if self.borrows and self.cash + self.borrows <= self.reserves:
            return MOST_RATE + 1
        return borrow_rate_down(self.cash, self.borrows, self.reserves, self.base, self.slope, self.jump, self.kink)

    def accrue(self, rate: int, period: int) -> None:
        """Interest since ``updated`` at a rate (CToken.accrueInterest): every product cut."""
        factor = rate * (period - self.updated)
        interest = mul_down(factor, self.borrows)
        self.reserves += mul_down(self.reserve_factor, interest)
        self.borrows += interest
        self.index += mul_down(factor, self.index)
        self.updated = period


@dataclass(slots=True)
class Account:
    """What one account holds, by asset, no zeros: cTokens; debts as (principal, index then); entered cTokens. One that
    a book has never changes.
    """

    tokens: dict[AssetId, int] = field(default_factory=dict)
    debts: dict[AssetId, tuple[int, int]] = field(default_factory=dict)
    entered: frozenset[AssetId] = frozenset()

    def copy(self) -> Account:
        """To be changed."""
        return Account(self.tokens.copy(), self.debts.copy(), self.entered)

    @property
    def holds(self) -> bool:
        """Whether it is anything at all."""
        return bool(self.tokens or self.debts)

    def owed(self, asset: AssetId, index: int) -> int:
        """CToken.borrowBalanceStored at a borrow index."""
        debt = self.debts.get(asset)
        return 0 if debt is None else borrow_balance_down(debt[0], index, debt[1])


NOBODY = Account()


@dataclass(slots=True)
class CompoundState:
    """One Comptroller's market. ``close_factor`` is a mantissa; ``revision`` as in ``math``."""

    market: Market
    pools: list[CTokenMarket]
    recompute: bool = False
    accounts: dict[AccountId, Account] = field(default_factory=dict)
    close_factor: int = 0
    seize_paused: int = 0
    transfer_paused: int = 0
    revision: int = CUT
    by_second: int = 0
    periods_per_year: int = SECONDS_PER_YEAR
    units: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.units = [10**asset.decimals for asset in self.market.assets]

    def __deepcopy__(self, memo: dict[int, Any]) -> CompoundState:
        """Independent of this one; accounts never change, so that both have the same."""
        return replace(self, pools=[replace(pool) for pool in self.pools], accounts=self.accounts.copy())

    def period(self, now: Clock | MarketEvent) -> int:
        """What interest counts."""
        return now.timestamp if self.by_second else now.block_number

    def accrued(self, asset: AssetId, now: Clock) -> CTokenMarket:
        """The cToken with interest up to ``now``, as a call would leave it; the state is not changed.

        Raises:
            RulesError: interest is recomputed, and its rate model is none that the rules know; or the rate is one that
                the contract refuses.
        """
        pool = replace(self.pools[asset])
        if self.period(now) > pool.updated:
            pool.accrue(self.rate(asset, now), self.period(now))
        return pool

    def rate(self, asset: AssetId, now: Clock | MarketEvent) -> int:
        """The rate of the time that runs; errors as in ``accrued``."""
        pool = self.pools[asset]
        if not self.recompute:
            return pool.rate
        if pool.model == UNKNOWN_RATE:
            raise RulesError(
                f"block {now.block_number}: {self.market.assets[asset].symbol} has an interest rate model that the"
                " rules do not know",
                "leave rates as recorded: rates = 'historical'",
            )
        rate = pool.model_rate()
        if rate > MOST_RATE:
            raise RulesError(
                f"block {now.block_number}: the borrow rate of {self.market.assets[asset].symbol} is absurdly high:"
                " every call would revert",
                "leave rates as recorded: rates = 'historical'",
            )
        return rate


def open_state(market: Market, *, recompute: bool = False) -> CompoundState:
    """The empty book."""
    return CompoundState(market, [CTokenMarket() for _ in market.assets], recompute)


def apply(state: CompoundState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter or setting, an amount that history does not
            say, interest to be recomputed by an unknown model.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        _apply_position(state, event)
    elif isinstance(event, ParamChange):
        _apply_param(state, event)
    elif isinstance(event, SettingChange):
        _apply_setting(state, event)
    elif isinstance(event, IndexUpdate):
        pool = state.pools[event.asset]
        pool.rate = event.borrow_rate // (INDEX_SCALE * state.periods_per_year)
        pool.shown_at, pool.shown = event.timestamp, event.borrow_rate
        pool.shown_rate = event.supply_index // INDEX_SCALE
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _apply_position(state: CompoundState, event: PositionChange) -> None:
    pool, asset = state.pools[event.asset], event.asset
    account = state.accounts.get(event.account, NOBODY).copy()
    held = account.debts.get(asset, (0, 0))[0] if event.side == "debt" else account.tokens.get(asset, 0)
    left = held + event.delta
    if left < 0:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {left} units of {state.market.assets[asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    if event.side == "debt":
        account.debts[asset] = (left, pool.index)
        if not left:
            del account.debts[asset]
    else:
        account.tokens[asset] = left
        if not left:
            del account.tokens[asset]
    if account.holds or account.entered:
        state.accounts[event.account] = account
    else:
        state.accounts.pop(event.account, None)
    if event.side == "collateral" and event.action in ("transfer", "liquidation"):
        pool.supply += event.delta if event.action == "liquidation" else 0
        return
    if event.amount is None:
        raise RulesError(f"block {event.block_number}, log {event.log_index}: history does not say what moved", REBUILD)
    moved = event.amount if event.action in ("supply", "repay", "liquidation") else -event.amount
    pool.cash += moved
    if event.side == "debt":
        pool.borrows -= moved
    else:
        pool.supply += event.delta


def _apply_setting(state: CompoundState, event: SettingChange) -> None:
    assert event.asset is not None
    if event.setting == "protocol_share":  # of what was seized, native units: reserves keep it
        state.pools[event.asset].reserves += event.value
        return
    if event.setting != "collateral_enabled":
        raise RulesError(f"block {event.block_number}: unknown setting '{event.setting}'", REBUILD)
    account = state.accounts.get(event.account, NOBODY).copy()
    one = frozenset((event.asset,))
    account.entered = account.entered | one if event.value else account.entered - one
    state.accounts[event.account] = account


def _apply_param(state: CompoundState, event: ParamChange) -> None:
    name, value = event.name, event.value
    if event.asset is None:
        if name not in _MARKET_FIELDS:
            raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", REBUILD)
        setattr(state, _MARKET_FIELDS[name], value)
        return
    pool = state.pools[event.asset]
    if name in ("accrued", "accrued_with_action"):
        # Interest recomputed: the action that accrued then does so here by itself, where it is not refused.
        if not (state.recompute and name == "accrued_with_action"):
            rate = state.rate(event.asset, event) if state.recompute else value
            pool.accrue(rate, state.period(event))
    elif name == "created":
        pool.updated = state.period(event)
    elif name == "cash_found":
        pool.cash += value
    elif name == "cash_lost":
        pool.cash -= value
    elif name == "reserves_added":
        pool.cash += value
        pool.reserves += value
    elif name == "reserves_reduced":
        pool.cash -= value
        pool.reserves -= value
    elif name in ("share_decimals", "debt_is_principal"):  # for SQL: what balances are counted in
        pass
    elif name in _FIELDS:
        setattr(pool, _FIELDS[name], value)
    else:
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", REBUILD)


def accrual(state: CompoundState, asset: AssetId, now: Clock) -> list[ParamChange]:
    """The change that a call makes by accruing at ``now``, before its own; none where that was done in this period."""
    if state.period(now) <= state.pools[asset].updated:
        return []
    return [ParamChange(**place(now), name="accrued", value=state.rate(asset, now), asset=asset)]


def place(now: Clock) -> dict[str, int]:
    """Where an effect stands."""
    return {"seq": UNPLACED, "block_number": now.block_number, "log_index": now.log_index, "timestamp": now.timestamp}


def indexes_after(state: CompoundState, asset: AssetId, pool: CTokenMarket, now: Clock) -> list[IndexUpdate]:
    """The indexes that a call leaves, with the cToken after it; where interest is as recorded they are history's."""
    if not state.recompute:
        return []
    rate = pool.model_rate() if pool.model == MODEL else pool.rate
    return [index_update(state, asset, pool, rate, place(now))]


def index_update(
    state: CompoundState, asset: AssetId, pool: CTokenMarket, rate: int, where: dict[str, int]
) -> IndexUpdate:
    """Exchange rate and borrow index (ray), and the yearly rate of the time that begins. The supply rate is 0: between
    two accruals the Comptroller counts the stored exchange rate. Where there are no cTokens the exchange rate is the
    last one that was, 0 before the first.
    """
    return IndexUpdate(
        **where,
        asset=asset,
        supply_index=(pool.exchange_rate if pool.supply else pool.shown_rate) * INDEX_SCALE,
        borrow_index=pool.index * INDEX_SCALE,
        supply_rate=0,
        borrow_rate=rate * state.periods_per_year * INDEX_SCALE,
    )


def accounts(state: CompoundState) -> Sequence[AccountId]:
    """Accounts that hold anything, in id order."""
    return sorted(id for id, account in state.accounts.items() if account.holds)
