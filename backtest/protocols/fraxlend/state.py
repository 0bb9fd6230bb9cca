"""The book of one pair during a replay, and how canonical events change it.

Asset 0 is the token that is lent, asset 1 the collateral. What is lent are fTokens (side collateral), what is borrowed
borrow shares (side debt), collateral is plain units. Totals follow from the native ``amount`` beside each change of
shares, so that in a changed book they are that book's own.

Interest. An accrual of history comes with the rate that its log tells; one that a call makes here, and every one where
interest is recomputed, follows the pair's curve (FraxFinance/fraxlend at 2bed49d4, ``FraxlendPairCore.sol``
``_addInterest``). Shares that the fee makes of it are credited to the pair itself, which is an account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from backtest.protocols.changes import parameter_change, unplaced
from backtest.protocols.fraxlend.math import (
    PRECISION,
    RateCurve,
    interest_down,
    new_rate_down,
    to_amount_up,
    utilisation_down,
)
from backtest.units import RAY, SECONDS_PER_YEAR, WAD, mul_div_down

LENT, COLLATERAL = AssetId(0), AssetId(1)
RATE_SCALE = SECONDS_PER_YEAR * (RAY // WAD)
"""A rate a second (wad) times this is the same rate a year (ray)."""
REVISION = 3
RULES = "fraxlend 3.0.0"
TERMS = ("liquidation_threshold", "liquidation_bonus", "partial_liquidation_bonus", "liquidation_protocol_fee")
"""Of 10^5; a bonus with the one in it."""
PAUSES = ("liquidation_paused", "repay_paused", "withdraw_paused", "interest_paused")
LIMITS = ("borrow_limit", "deposit_limit")
"""Native units; NO_LIMIT where there is none."""
NO_LIMIT = -1
PRICED = ("low_rate", "high_rate", "max_deviation")
"""What the last update of the exchange rate told, and by how much (of 10^5) the two may differ where one borrows."""
_TAKES = frozenset({"withdraw", "repay", "liquidation"})


@dataclass(slots=True)
class Totals:
    """A pair as of ``updated`` (seconds). ``fee`` of 10^5; ``full_rate`` is the rate at full use, wad a second."""

    lent: int = 0
    lent_shares: int = 0
    borrowed: int = 0
    borrow_shares: int = 0
    fee: int = 0
    updated: int = 0
    full_rate: int = 0
    paused: bool = False

    def debt_up(self, shares: int) -> int:
        """What borrow shares owe, native units."""
        return to_amount_up(shares, self.borrowed, self.borrow_shares)

    @property
    def used(self) -> int:
        """Utilisation, of 10^5."""
        return utilisation_down(self.borrowed, self.lent)

    def accrue(self, rate: int, full: int, timestamp: int) -> int:
        """Add the interest since ``updated``; the shares that the fee makes of it."""
        interest, shares = interest_down(
            self.borrowed, self.lent, self.lent_shares, self.fee, rate, timestamp - self.updated
        )
        self.updated, self.full_rate = timestamp, full
        self.borrowed += interest
        self.lent += interest
        self.lent_shares += shares
        return shares


@dataclass(frozen=True, slots=True)
class Position:
    """What one account has: fTokens, borrow shares, native units of the collateral."""

    supply_shares: int = 0
    borrow_shares: int = 0
    collateral: int = 0

    @property
    def holds(self) -> bool:
        """Whether it is anything at all."""
        return bool(self.supply_shares or self.borrow_shares or self.collateral)


@dataclass(slots=True)
class FraxlendState:
    """One pair. ``params``: see ``TERMS``, ``PAUSES``, ``LIMITS``, ``PRICED``; ``curve`` by name."""

    market: Market
    recompute: bool = False
    totals: Totals = field(default_factory=Totals)
    positions: dict[AccountId, Position] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    curve: dict[str, int] = field(default_factory=dict)
    pair: AccountId | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> FraxlendState:
        """Independent of this one; positions never change."""
        return replace(
            self,
            totals=replace(self.totals),
            positions=self.positions.copy(),
            params=self.params.copy(),
            curve=self.curve.copy(),
        )

    def of(self, account: AccountId) -> Position:
        """The account's position."""
        return self.positions.get(account, _EMPTY)

    def rates(self, timestamp: int) -> tuple[int, int]:
        """What an accrual at this time would charge, and the rate at full use that it would leave."""
        if len(self.curve) < len(RateCurve._fields):
            return 0, self.totals.full_rate
        totals = self.totals
        return new_rate_down(RateCurve(**self.curve), timestamp - totals.updated, totals.used, totals.full_rate)

    def accrues(self, timestamp: int) -> bool:
        """Whether a call at this time would (FraxlendPairCore._calculateInterest)."""
        return timestamp > self.totals.updated and not self.totals.paused

    def accrued(self, timestamp: int) -> Totals:
        """The totals as a call at this time finds them (``previewAddInterest``); nothing changes."""
        totals = replace(self.totals)
        if self.accrues(timestamp):
            totals.accrue(*self.rates(timestamp), timestamp)
        return totals


_EMPTY = Position()


def open_state(market: Market, *, recompute: bool = False) -> FraxlendState:
    """The empty book. UserError where the market does not have two tokens."""
    if len(market.assets) != 2:
        raise UserError(
            f"market '{market.name}' has {len(market.assets)} assets, a Fraxlend pair has two",
            "rebuild the canonical tables",
        )
    return FraxlendState(market, recompute)


def apply(state: FraxlendState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter or setting, an amount that history does not
            say.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        _apply_position(state, event)
    elif isinstance(event, ParamChange):
        _apply_param(state, event)
    elif isinstance(event, SettingChange):
        if event.setting == "bad_debt":  # lenders lose what _apply_position took from the borrower's debt
            state.totals.lent -= event.value
        else:
            raise RulesError(
                f"block {event.block_number}: unknown setting '{event.setting}'", "rebuild the canonical tables"
            )
    elif not isinstance(event, PriceUpdate | IndexUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _apply_position(state: FraxlendState, event: PositionChange) -> None:
    if event.action == "treasury":  # the accrual before it credited the shares
        return
    has, totals = state.of(event.account), state.totals
    amount = event.amount or 0
    signed = -amount if event.action in _TAKES else amount
    if event.asset == LENT and event.amount is None:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: history does not say how many tokens moved",
            "rebuild the canonical tables",
        )
    if event.asset == COLLATERAL:
        new = replace(has, collateral=(left := has.collateral + event.delta))
    elif event.side == "debt":
        new = replace(has, borrow_shares=(left := has.borrow_shares + event.delta))
        totals.borrow_shares += event.delta
        totals.borrowed += signed
    else:
        new = replace(has, supply_shares=(left := has.supply_shares + event.delta))
        if event.action != "transfer":
            totals.lent_shares += event.delta
            totals.lent += signed
    if left < 0:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {left} units of {state.market.assets[event.asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    state.positions[event.account] = new


def _apply_param(state: FraxlendState, event: ParamChange) -> None:
    name, value, totals = event.name, event.value, state.totals
    if name in ("accrued", "accrued_with_action"):
        # Interest recomputed: the action that accrued then does so here by itself, where it is not refused.
        if not (state.recompute and name == "accrued_with_action"):
            _accrue(state, value, event.timestamp)
    elif name == "full_rate":  # of the accrual that follows
        if not state.recompute or not totals.full_rate:
            totals.full_rate = value
    elif name == "created":
        totals.updated = event.timestamp - 1
    elif name == "fee":
        totals.fee = value
    elif name == "fee_recipient":
        state.pair = AccountId(value)
    elif name in RateCurve._fields:
        state.curve[name] = value
    elif name in (*TERMS, *PAUSES, *LIMITS, *PRICED):
        state.params[name] = value
        if name == "interest_paused":
            totals.paused = bool(value)
            if not value:  # FraxlendPair.pauseInterest, unpause: no interest of the time between
                totals.updated = event.timestamp
    elif name not in ("pair_version", "interest"):  # what the accrual before it added, for SQL
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", "rebuild the canonical tables")


def _accrue(state: FraxlendState, recorded: int, timestamp: int) -> None:
    """The rate at full use of a recorded accrual came with the parameter before it."""
    if not state.accrues(timestamp):
        return
    rate, full = state.rates(timestamp) if state.recompute else (recorded, state.totals.full_rate)
    shares = state.totals.accrue(rate, full, timestamp)
    if shares and state.pair is not None:
        has = state.of(state.pair)
        state.positions[state.pair] = replace(has, supply_shares=has.supply_shares + shares)


def accrual(state: FraxlendState, now: Clock) -> list[ParamChange]:
    """The changes that a call makes by accruing at ``now``, before its own."""
    if not state.accrues(now.timestamp):
        return []
    rate, full = state.rates(now.timestamp)
    told = [] if state.recompute else [parameter_change(now, "full_rate", full, LENT)]
    return [*told, parameter_change(now, "accrued", rate, LENT)]


def indexes_after(state: FraxlendState, totals: Totals, now: Clock) -> list[IndexUpdate]:
    """The indexes that a call leaves, with the totals after it; where interest is as recorded they are history's."""
    return [index_update(state, totals, unplaced(now))] if state.recompute else []


def index_update(state: FraxlendState, totals: Totals, place: dict[str, int]) -> IndexUpdate:
    """Share prices (ray), and the yearly rates at this utilisation. For SQL and for screens: the rules use totals."""
    curve = state.curve
    known = len(curve) == len(RateCurve._fields)
    rate = new_rate_down(RateCurve(**curve), 0, totals.used, totals.full_rate)[0] * RATE_SCALE if known else 0
    kept = mul_div_down(mul_div_down(rate, totals.used, PRECISION), PRECISION - totals.fee, PRECISION)
    return IndexUpdate(
        **place,
        asset=LENT,
        supply_index=share_price_down(totals.lent, totals.lent_shares),
        borrow_index=share_price_down(totals.borrowed, totals.borrow_shares),
        supply_rate=kept,
        borrow_rate=rate,
    )


def share_price_down(amount: int, shares: int) -> int:
    """Native units a share, ray; one where there is no share."""
    return mul_div_down(amount, RAY, shares) if shares and amount else RAY


def accounts(state: FraxlendState) -> Sequence[AccountId]:
    """Accounts that hold anything, in id order."""
    return sorted(account for account, has in state.positions.items() if has.holds)
