"""The book of one Morpho Blue market during a replay, and how canonical events change it.

Asset 0 is the loan token, asset 1 the collateral token. Lent loan tokens are supply shares (side collateral), borrowed
ones borrow shares (side debt), collateral is plain units. Totals of assets follow from the native ``amount`` beside
each change of shares, so in a changed book they are that book's own.

Interest. History's accruals come as parameters with the rate that was recorded for the time since the one before. In
between, what the contract would accrue (MorphoBalancesLib.expectedMarketBalances) is computed by the adaptive curve
where the market uses it (its ``rate_at_target`` is known); for any other model the rate recorded for the period that
runs is taken, which is exact for a model that depends on the market's totals alone, since those do not change between
accruals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from backtest.protocols.columns import Columns, InPlace
from backtest.protocols.morpho_blue.irm import borrow_rate
from backtest.protocols.morpho_blue.math import (
    VIRTUAL_ASSETS,
    VIRTUAL_SHARES,
    incentive_factor,
    taylor_compounded_down,
    to_assets_down,
    to_assets_up,
    to_shares_down,
)
from backtest.units import RAY, SECONDS_PER_YEAR, WAD, mul_div_down
from backtest.words import rule

LOAN, COLLATERAL = AssetId(0), AssetId(1)
SHARE_DECIMALS = 6
RATE_SCALE = SECONDS_PER_YEAR * (RAY // WAD)
"""A rate a second (wad) times this is the same rate a year (ray)."""
RULES_REVISION = 1
RULES = "morpho-blue 1.0.0"
_TAKES = frozenset({"withdraw", "repay", "liquidation"})
PRE_LIQUIDATION = "pre_liquidation_"
"""An account's setting, with the number of a contract: 1 where it authorised it."""
VAULTS = ("lending_cap", "supply_place", "withdraw_place")
"""What vaults say of themselves (MetaMorpho): a market's own rules ask for none of it."""


@dataclass(frozen=True, slots=True)
class PreTerms:
    """Terms of a pre-liquidation contract (IPreLiquidation.PreLiquidationParams), wad: from which loan-to-value on, and
    close factor and incentive there and at the market's threshold. ``known``: 1 where it asks the market's own oracle
    and no number was left out.
    """

    lltv: int = 0
    close: int = 0
    close_at_lltv: int = 0
    incentive: int = 0
    incentive_at_lltv: int = 0
    known: int = 0


PRE_TERMS: Mapping[str, str] = {
    "pre_lltv": "lltv",
    "pre_lcf1": "close",
    "pre_lcf2": "close_at_lltv",
    "pre_lif1": "incentive",
    "pre_lif2": "incentive_at_lltv",
    "pre_known": "known",
}
"""Parameters of a contract, whose number is their category, and the attribute that each is."""


@dataclass(slots=True)
class Totals:
    """A market as of ``updated`` (seconds). ``fee`` is wad; ``rate`` is the recorded one of the period that runs,
    ``rate_at_target`` the adaptive curve's as of ``updated`` (None: another model); wad a second.
    """

    supply_assets: int = 0
    supply_shares: int = 0
    borrow_assets: int = 0
    borrow_shares: int = 0
    fee: int = 0
    updated: int = 0
    rate: int = 0
    rate_at_target: int | None = None

    def debt_up(self, borrow_shares: int) -> int:
        """What borrow shares owe, native units."""
        return to_assets_up(borrow_shares, self.borrow_assets, self.borrow_shares)

    def supplied_down(self, supply_shares: int) -> int:
        """What supply shares are worth, native units."""
        return to_assets_down(supply_shares, self.supply_assets, self.supply_shares)

    def rates(self, timestamp: int) -> tuple[int, int | None]:
        """Average borrow rate since ``updated`` as the contract would ask for it, and the rate at target then; see the
        module.
        """
        if self.rate_at_target is None:
            return self.rate, None
        return borrow_rate(self.supply_assets, self.borrow_assets, self.rate_at_target, timestamp - self.updated)

    def accrue(self, rate: int, timestamp: int) -> int:
        """Add the interest since ``updated`` at this average rate; the fee shares that it makes
        (Morpho._accrueInterest).
        """
        elapsed, self.updated = timestamp - self.updated, timestamp
        interest, fee_shares = interest_down(
            self.borrow_assets, self.supply_assets, self.supply_shares, self.fee, rate, elapsed
        )
        self.borrow_assets += interest
        self.supply_assets += interest
        self.supply_shares += fee_shares
        return fee_shares


@rule
def interest_down(
    borrow_assets: int, supply_assets: int, supply_shares: int, fee: int, rate: int, elapsed: int
) -> tuple[int, int]:
    """Interest of ``elapsed`` seconds at an average rate, native units, and the shares that the fee (wad) makes of it
    (Morpho._accrueInterest).
    """
    interest = mul_div_down(borrow_assets, taylor_compounded_down(rate, elapsed), WAD)
    if not fee:
        return interest, 0
    fee_amount = mul_div_down(interest, fee, WAD)
    return interest, to_shares_down(fee_amount, supply_assets + interest - fee_amount, supply_shares)


@dataclass(slots=True)
class Position:
    """What one account holds: shares, and native units of the collateral token. One that a book has never changes."""

    supply_shares: int = 0
    borrow_shares: int = 0
    collateral: int = 0

    def copy(self) -> Position:
        """To be changed."""
        return Position(self.supply_shares, self.borrow_shares, self.collateral)

    @property
    def holds(self) -> bool:
        """Whether it is anything at all."""
        return bool(self.supply_shares or self.borrow_shares or self.collateral)


@dataclass(slots=True)
class MorphoState:
    """One market. ``lltv`` and ``incentive`` (None: derived from ``lltv``) are wad; ``fee_recipient`` collects fee
    shares. ``pre_terms`` are those of pre-liquidation contracts by their number, ``authorized`` the numbers of those
    that an account authorised.
    """

    market: Market
    recompute: bool = False
    totals: Totals = field(default_factory=Totals)
    positions: dict[AccountId, Position] = field(default_factory=dict)
    lltv: int = 0
    incentive: int | None = None
    fee_recipient: AccountId | None = None
    pre_terms: dict[int, PreTerms] = field(default_factory=dict)
    authorized: dict[AccountId, frozenset[int]] = field(default_factory=dict)
    columns: Columns | None = field(default=None, compare=False, repr=False)
    """Of every account (``account.columns_of``) but those in ``moved``, which changed since. Copies share it."""
    moved: set[AccountId] = field(default_factory=set, compare=False, repr=False)
    live: InPlace | None = field(default=None, compare=False, repr=False)
    """The same in place, for compiled code (``looped.live_of``); None: nobody asked."""

    def __deepcopy__(self, memo: dict[int, Any]) -> MorphoState:
        """Independent of this one; positions never change, so that both have the same."""
        return replace(
            self,
            totals=replace(self.totals),
            positions=self.positions.copy(),
            pre_terms=self.pre_terms.copy(),
            authorized=self.authorized.copy(),
            moved=self.moved.copy(),
            live=None if self.live is None else self.live.copy(),
        )

    def put(self, account: AccountId, position: Position) -> None:
        """The account's position from now on."""
        self.positions[account] = position
        self.moved.add(account)
        if self.live is not None:
            self.live.moved.add(account)

    def threshold(self, account: AccountId) -> int:
        """The least loan-to-value, wad, beyond which somebody may liquidate the account."""
        numbers = self.authorized.get(account)
        return min([self.lltv, *(self.pre_terms[number].lltv for number in numbers)]) if numbers else self.lltv

    def receive(self, account: AccountId, supply_shares: int) -> None:
        """Fee shares."""
        position = self.positions.get(account, Position())
        self.put(account, replace(position, supply_shares=position.supply_shares + supply_shares))

    @property
    def incentive_factor(self) -> int:
        """The liquidation incentive factor in force, wad."""
        return incentive_factor(self.lltv) if self.incentive is None else self.incentive

    def accrued(self, timestamp: int) -> Totals:
        """The totals with interest up to ``timestamp``, as the contract would have them after ``accrueInterest``;
        nothing changes.
        """
        totals = replace(self.totals)
        if timestamp > totals.updated:
            rate, end = totals.rates(timestamp)
            totals.accrue(rate, timestamp)
            totals.rate_at_target = end
        return totals


def open_state(market: Market, *, recompute: bool = False) -> MorphoState:
    """The empty book. UserError where the market does not have a loan and a collateral token."""
    if len(market.assets) != 2:
        raise UserError(
            f"market '{market.name}' has {len(market.assets)} assets, a Morpho Blue market has two",
            "rebuild the canonical tables",
        )
    return MorphoState(market, recompute)


def apply(state: MorphoState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter or setting, an amount that history does not
            say, interest to be recomputed without the adaptive curve.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        _apply_position(state, event)
    elif isinstance(event, ParamChange):
        _apply_param(state, event)
    elif isinstance(event, SettingChange):
        if event.setting == "bad_debt":  # suppliers share what _apply_position took from the borrower's debt
            state.totals.supply_assets -= event.value
        elif event.setting.startswith(PRE_LIQUIDATION):
            _authorize(state, event.account, int(event.setting.removeprefix(PRE_LIQUIDATION)), bool(event.value))
        elif event.setting != "collateral_enabled":  # says nothing that holding collateral does not
            raise RulesError(
                f"block {event.block_number}: unknown setting '{event.setting}'", "rebuild the canonical tables"
            )
    elif isinstance(event, IndexUpdate):
        state.totals.rate = event.borrow_rate // RATE_SCALE
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _apply_position(state: MorphoState, event: PositionChange) -> None:
    if (
        event.action == "treasury"
    ):  # fee shares, which are in the totals by the accrual; recomputed ones it credited itself
        if not state.recompute:
            state.receive(event.account, event.delta)
        return
    known = state.positions.get(event.account)
    position = Position() if known is None else known.copy()
    state.put(event.account, position)
    if event.asset == COLLATERAL:
        position.collateral = left = position.collateral + event.delta
    elif event.amount is None:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: history does not say how many loan tokens moved",
            "rebuild the canonical tables",
        )
    else:
        totals, assets = state.totals, -event.amount if event.action in _TAKES else event.amount
        if event.side == "debt":
            position.borrow_shares = left = position.borrow_shares + event.delta
            totals.borrow_shares += event.delta
            totals.borrow_assets = max(
                0, totals.borrow_assets + assets
            )  # a repayment may be one more than all (UtilsLib.zeroFloorSub)
        else:
            position.supply_shares = left = position.supply_shares + event.delta
            totals.supply_shares += event.delta
            totals.supply_assets += assets
    if left < 0:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {left} units of {state.market.assets[event.asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )


def _authorize(state: MorphoState, account: AccountId, number: int, allowed: bool) -> None:
    numbers = state.authorized.pop(account, frozenset())
    numbers = numbers | {number} if allowed else numbers - {number}
    if numbers:
        state.authorized[account] = numbers


def _apply_param(state: MorphoState, event: ParamChange) -> None:
    name, value, totals = event.name, event.value, state.totals
    if name in ("accrued", "accrued_with_action"):
        # Interest recomputed: the action that accrued then does so here by itself, where it is not refused.
        if not (state.recompute and name == "accrued_with_action"):
            _accrue(state, value, event)
    elif name == "created":
        totals.updated = event.timestamp
    elif name == "rate_at_target":
        if not state.recompute or totals.rate_at_target is None:
            totals.rate_at_target = value
    elif name == "liquidation_threshold":
        state.lltv = value
    elif name == "liquidation_bonus":
        state.incentive = value
    elif name == "fee":
        totals.fee = value
    elif name == "fee_recipient":
        state.fee_recipient = AccountId(value)
    elif name in PRE_TERMS and event.category is not None:
        terms = state.pre_terms.get(event.category, PreTerms())
        changed: dict[str, Any] = {PRE_TERMS[name]: value}
        state.pre_terms[event.category] = replace(terms, **changed)
    elif name not in ("pool_revision", "share_decimals", *VAULTS):
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", "rebuild the canonical tables")


def _accrue(state: MorphoState, recorded: int, event: ParamChange) -> None:
    totals = state.totals
    rate = recorded
    if state.recompute and event.timestamp > totals.updated:
        if totals.rate_at_target is None:
            raise RulesError(
                f"block {event.block_number}: market '{state.market.name}' has an interest rate model other than the"
                " adaptive curve",
                "leave rates as recorded: rates = 'historical'",
            )
        rate, totals.rate_at_target = totals.rates(event.timestamp)
    fee_shares = totals.accrue(rate, event.timestamp)
    if not fee_shares or not state.recompute:
        return
    if state.fee_recipient is None:
        raise RulesError(
            f"block {event.block_number}: a fee is due and its recipient is unknown",
            "fetch from the first block of the contract",
        )
    state.receive(state.fee_recipient, fee_shares)


def accrual(state: MorphoState, now: Clock) -> list[ParamChange]:
    """The changes that a call makes by accruing at ``now``, before its own."""
    rate, end = state.totals.rates(now.timestamp)
    return accrued_at(now, rate, None if state.recompute else end)


def accrued_at(now: Clock, rate: int, end: int | None) -> list[ParamChange]:
    """The same, of an average rate and the rate at target that it ends at (None: none, or it is recomputed)."""
    changes = [] if end is None else [parameter_change(now, "rate_at_target", end, LOAN)]
    return [*changes, parameter_change(now, "accrued", rate, LOAN)]


def indexes_after(state: MorphoState, totals: Totals, now: Clock) -> list[IndexUpdate]:
    """The indexes that a call leaves, with the totals after it; where interest is as recorded they are history's."""
    return [index_update(totals, unplaced(now))] if state.recompute else []


def index_update(totals: Totals, place: dict[str, int]) -> IndexUpdate:
    """Share prices (ray, of a share of 10^-6 units), and yearly rates from ``totals.updated`` on: the curve's at this
    moment, or the recorded
    one of the period that begins. For SQL and for screens: the rules use totals."""
    borrow = totals.rates(totals.updated)[0]
    used = mul_div_down(totals.borrow_assets, WAD, totals.supply_assets) if totals.supply_assets else 0
    return IndexUpdate(
        **place,
        asset=LOAN,
        supply_index=share_price_down(totals.supply_assets, totals.supply_shares),
        borrow_index=share_price_down(totals.borrow_assets, totals.borrow_shares),
        supply_rate=mul_div_down(mul_div_down(borrow * RATE_SCALE, used, WAD), WAD - totals.fee, WAD),
        borrow_rate=borrow * RATE_SCALE,
    )


def share_price_down(assets: int, shares: int) -> int:
    """Native units per 10^6 shares, ray; one at the start."""
    return mul_div_down(assets + VIRTUAL_ASSETS, RAY * 10**SHARE_DECIMALS, shares + VIRTUAL_SHARES)


def accounts(state: MorphoState) -> Sequence[AccountId]:
    """Accounts that hold anything, in id order."""
    return sorted(id for id, position in state.positions.items() if position.holds)
