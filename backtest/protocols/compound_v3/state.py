"""The book of one Comet: principals, collateral, indexes and parameters, and how canonical events change it.

Asset 0 is the base token, the others are collateral in the order of the contract's list. An account's principal is one
signed number: what it supplied counts as the collateral side of asset 0, what it owes as the debt side, and one of them
is zero. Collateral is in native units.

Interest. The contract stores two indexes and when they were last accrued; every call on the base token accrues them
first, and nothing else does. Between, ``accrued`` says what that call would store. Where interest is as recorded, an
``IndexUpdate`` sets both indexes and the rates of the period that begins; where it is recomputed, rates follow this
book's own totals.

Base tokens that the contract holds (``cash``) follow from the calls that moved some: what somebody sent it without a
call, no log of the contract tells.
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
    Side,
)
from backtest.protocols.columns import Columns
from backtest.protocols.compound_v3.math import (
    INDEX,
    accrued_down,
    present_down,
    present_value,
    principal_value,
    rate_down,
    rewards_down,
    tracked_down,
    utilization_down,
)
from backtest.units import RAY, SECONDS_PER_YEAR, WAD

BASE = AssetId(0)
TO_RAY = RAY // INDEX
"""An index of the contract times this is the same in ray."""
RATE_SCALE = SECONDS_PER_YEAR * (RAY // WAD)
"""A rate a second (wad) times this is the same rate a year (ray)."""
RULES_REVISION = 1
RULES = "compound-v3, by vectors"
UNPLACED = -1

SUPPLY_CURVE = ("supply_kink", "supply_rate_base", "supply_rate_slope_low", "supply_rate_slope_high")
BORROW_CURVE = ("borrow_kink", "borrow_rate_base", "borrow_rate_slope_low", "borrow_rate_slope_high")
PER_ASSET = ("ltv", "liquidation_threshold", "liquidation_factor", "supply_cap")
"""Of a collateral, wad and native units: borrowCollateralFactor, liquidateCollateralFactor, liquidationFactor,
supplyCap.
"""
MARKET_WIDE = (
    *SUPPLY_CURVE,
    *BORROW_CURVE,
    "store_front_price_factor",
    "tracking_index_scale",
    "base_tracking_supply_speed",
    "base_tracking_borrow_speed",
    "base_min_for_rewards",
    "base_borrow_min",
    "target_reserves",
)
"""What an implementation holds of the whole market: rates in wad a second, factors in wad, amounts in native units."""
OTHERS = (
    "comet_revision",
    "created",
    "accrued",
    "pause_flags",
    "cash_of_reserves",
    "cash_here",
    "own_storefront",
    "storefront_near",
)
"""``created``: seconds since 1970 from which interest accrues. ``accrued``: a call accrued then and changed nobody.
``cash_of_reserves``: base tokens that history's buyers of collateral brought, less reserves withdrawn, since the start.
In replays only: ``cash_here``, what one of this book's own liquidations brings more; ``own_storefront``, from the first
of them on, when history's buyers do not come any more; ``storefront_near``, with a purchase after which others may find
reserves at their target.
"""
SUPPLY_PAUSED, TRANSFER_PAUSED, WITHDRAW_PAUSED, ABSORB_PAUSED, BUY_PAUSED = (1 << bit for bit in range(5))
"""Bits of ``pause_flags`` (CometCore.PAUSE_SUPPLY_OFFSET and the others)."""
_TAKES = frozenset({"withdraw", "borrow"})
_GIVES = frozenset({"supply", "repay"})
_NOTHING: Mapping[AssetId, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Indexes:
    """What the contract stores of interest (CometStorage): indexes of 10^15, wad a second, seconds."""

    supply: int = INDEX
    borrow: int = INDEX
    tracking_supply: int = 0
    tracking_borrow: int = 0
    updated: int = 0

    def present(self, principal: int) -> int:
        """What a principal has or owes."""
        return present_value(principal, self.supply, self.borrow)

    def principal(self, value: int) -> int:
        """The principal of a present value."""
        return principal_value(value, self.supply, self.borrow)


@dataclass(frozen=True, slots=True)
class Position:
    """What one account has: its principal, below zero where it owes, and collateral (native units, no zeros), with the
    rewards that it earned (``accrued``, of which ``math.ACCRUAL`` are a token) up to an index of rewards.
    """

    principal: int = 0
    held: Mapping[AssetId, int] = field(default_factory=lambda: _NOTHING)
    tracking: int = 0
    accrued: int = 0

    @property
    def holds(self) -> bool:
        """Whether it is anything at all."""
        return bool(self.principal or self.held)

    def holding(self, asset: AssetId, amount: int) -> Position:
        """With another balance of a collateral."""
        held = {**self.held, asset: amount}
        if not amount:
            del held[asset]
        return replace(self, held=dict(sorted(held.items())))


EMPTY = Position()


@dataclass(slots=True)
class CometState:
    """One market. ``params`` by name, ``of_assets`` by name and asset (see ``MARKET_WIDE`` and ``PER_ASSET``);
    ``rates`` are wad a second for the period that runs, supply and borrow, where interest is as recorded.
    """

    market: Market
    recompute: bool = False
    indexes: Indexes = Indexes()
    rates: tuple[int, int] = (0, 0)
    total_supply: int = 0
    """Principal, as ``total_borrow``."""
    total_borrow: int = 0
    total_held: dict[AssetId, int] = field(default_factory=dict)
    cash: int = 0
    """Base tokens that calls brought, less those that they took."""
    positions: dict[AccountId, Position] = field(default_factory=dict)
    params: dict[str, int] = field(default_factory=dict)
    of_assets: dict[tuple[str, AssetId], int] = field(default_factory=dict)
    columns: Columns | None = field(default=None, compare=False, repr=False)
    """Of every account (``account.columns_of``) but those in ``moved``, which changed since. Copies share it."""
    moved: set[AccountId] = field(default_factory=set, compare=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> CometState:
        """Independent of this one; positions never change, so that both have the same."""
        return replace(
            self,
            total_held=self.total_held.copy(),
            positions=self.positions.copy(),
            params=self.params.copy(),
            of_assets=self.of_assets.copy(),
            moved=self.moved.copy(),
        )

    def position(self, account: AccountId) -> Position:
        """What an account has; nothing where it is not known."""
        return self.positions.get(account, EMPTY)

    def param(self, name: str, asset: AssetId | None = None) -> int:
        """A parameter in force; RulesError where nothing says it."""
        value = self.params.get(name) if asset is None else self.of_assets.get((name, asset))
        if value is None:
            whose = "" if asset is None else f" of {self.market.assets[asset].symbol}"
            raise RulesError(
                f"nothing says the {name}{whose} of market '{self.market.name}'",
                "fetch it with a node: its implementation is asked for what it holds",
            )
        return value

    @property
    def base_scale(self) -> int:
        """Native units of one base token."""
        return self.market.unit(BASE)

    def paused(self, flag: int) -> bool:
        """Whether a kind of call is paused (Comet.isSupplyPaused and the others)."""
        return bool(self.params.get("pause_flags", 0) & flag)

    def curve_rates(self, indexes: Indexes | None = None) -> tuple[int, int]:
        """What the curves give for this book's totals at the stored indexes (Comet.getUtilization, getSupplyRate,
        getBorrowRate), wad a second.
        """
        at = self.indexes if indexes is None else indexes
        supplied, borrowed = present_down(self.total_supply, at.supply), present_down(self.total_borrow, at.borrow)
        used = utilization_down(supplied, borrowed)
        supply, borrow = (rate_down(used, *map(self.param, curve)) for curve in (SUPPLY_CURVE, BORROW_CURVE))
        return supply, borrow

    def accrued(self, timestamp: int, *, rewards: bool = False) -> Indexes:
        """The indexes as ``Comet.accrueInternal`` would store them, those of rewards where they are asked for; nothing
        changes.
        """
        at = self.indexes
        seconds = timestamp - at.updated
        if seconds <= 0:
            return at
        supply, borrow = self.curve_rates() if self.recompute else self.rates
        grown = accrued_down(at.supply, supply, seconds), accrued_down(at.borrow, borrow, seconds)
        tracked = self._tracked(seconds) if rewards else (at.tracking_supply, at.tracking_borrow)
        return Indexes(*grown, *tracked, timestamp)

    def _tracked(self, seconds: int) -> tuple[int, int]:
        """The indexes of rewards after some time."""
        at, params = self.indexes, self.params
        terms = params.get("base_min_for_rewards", 0), self.base_scale
        supply, borrow = (params.get(f"base_tracking_{side}_speed", 0) for side in ("supply", "borrow"))
        return (
            tracked_down(at.tracking_supply, supply, seconds, self.total_supply, *terms)
            if supply
            else at.tracking_supply,
            tracked_down(at.tracking_borrow, borrow, seconds, self.total_borrow, *terms)
            if borrow
            else at.tracking_borrow,
        )

    def reserves(self, timestamp: int) -> int:
        """Comet.getReserves: base tokens held, less what is supplied, plus what is borrowed; may be below zero."""
        at = self.accrued(timestamp)
        return self.cash - present_down(self.total_supply, at.supply) + present_down(self.total_borrow, at.borrow)

    def put(self, account: AccountId, principal: int, *, counted: bool = True) -> None:
        """An account's principal from now on, with rewards (Comet.updateBasePrincipal) and, where it is ``counted``,
        totals.
        """
        before, at = self.position(account), self.indexes
        if counted:
            self.total_supply += max(principal, 0) - max(before.principal, 0)
            self.total_borrow += max(-principal, 0) - max(-before.principal, 0)
        self._put(
            account,
            replace(
                before,
                principal=principal,
                tracking=at.tracking_supply if principal >= 0 else at.tracking_borrow,
                accrued=self.rewards(before, at),
            ),
        )

    def rewards(self, position: Position, at: Indexes) -> int:
        """What an account has earned at these indexes, ``math.ACCRUAL`` a token (Comet.updateBasePrincipal). Each
        accrual cuts, and those by ``accrueAccount`` leave no log: the contract's own may be less by one for each.
        """
        grown = (at.tracking_supply if position.principal >= 0 else at.tracking_borrow) - position.tracking
        scale = self.params.get("tracking_index_scale", INDEX)
        return position.accrued + rewards_down(abs(position.principal), grown, scale, self.base_scale)

    def hold(self, account: AccountId, asset: AssetId, amount: int) -> None:
        """An account's balance of a collateral from now on."""
        before = self.position(account)
        self.total_held[asset] = self.total_held.get(asset, 0) + amount - before.held.get(asset, 0)
        self._put(account, before.holding(asset, amount))

    def _put(self, account: AccountId, position: Position) -> None:
        self.positions[account] = position
        self.moved.add(account)


def open_state(market: Market, *, recompute: bool = False) -> CometState:
    """The empty book."""
    if not market.assets:
        raise UserError(f"market '{market.name}' has no base token", "rebuild the canonical tables")
    return CometState(market, recompute)


def apply(state: CometState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter, an amount that history does not say.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        _apply_position(state, event)
    elif isinstance(event, IndexUpdate):
        accrue(state, event.timestamp, event.supply_index // TO_RAY, event.borrow_index // TO_RAY)
        state.rates = event.supply_rate // RATE_SCALE, event.borrow_rate // RATE_SCALE
    elif isinstance(event, ParamChange):
        _apply_param(state, event)
    elif isinstance(event, SettingChange):
        if event.setting != "collateral_enabled":  # says nothing that holding collateral does not
            raise RulesError(
                f"block {event.block_number}: unknown setting '{event.setting}'", "rebuild the canonical tables"
            )
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def accrue(state: CometState, timestamp: int, supply: int, borrow: int) -> None:
    """Store indexes as of a time, with those of rewards."""
    at = state.indexes
    tracked = at.tracking_supply, at.tracking_borrow
    if timestamp > at.updated:
        tracked = state._tracked(timestamp - at.updated)
    state.indexes = Indexes(supply, borrow, *tracked, timestamp)


def _apply_position(state: CometState, event: PositionChange) -> None:
    before = state.position(event.account)
    if event.asset != BASE:
        left = before.held.get(event.asset, 0) + event.delta
    else:
        own = before.principal if event.side == "collateral" else -before.principal
        left = max(own, 0) + event.delta
    if left < 0:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {left} units of {state.market.assets[event.asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    if event.asset != BASE:
        state.hold(event.account, event.asset, left)
        return
    if max(-own, 0):
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            " supply and owe at the same time",
            "the history before it is incomplete",
        )
    # Comet.repayAndSupplyAmount and withdrawAndBorrowAmount: a call that moves nothing may round an account down, and
    # totals do not follow.
    counted = event.delta > 0 or (event.side, event.action) not in (("collateral", "supply"), ("debt", "borrow"))
    state.put(event.account, left if event.side == "collateral" else -left, counted=counted)
    if event.action in _TAKES or event.action in _GIVES:
        if event.amount is None:
            raise RulesError(
                f"block {event.block_number}, log {event.log_index}: history does not say how many base tokens moved",
                "rebuild the canonical tables",
            )
        state.cash += event.amount if event.action in _GIVES else -event.amount


def _apply_param(state: CometState, event: ParamChange) -> None:
    name, value = event.name, event.value
    if event.asset is not None:
        if name not in PER_ASSET:
            raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", "rebuild the canonical tables")
        state.of_assets[name, event.asset] = value
        return
    if name not in MARKET_WIDE and name not in OTHERS:
        raise RulesError(f"block {event.block_number}: unknown parameter '{name}'", "rebuild the canonical tables")
    before = state.params.get(name, 0)
    if name == "cash_of_reserves":
        if state.params.get("own_storefront"):  # history's sales are of collateral that this book sells itself
            return
        state.cash += value - before
    elif name == "cash_here":
        state.cash += value
    state.params[name] = value
    if name == "created":
        state.indexes = replace(state.indexes, updated=value)
    elif (name in SUPPLY_CURVE or name in BORROW_CURVE) and all(
        curve in state.params for curve in (*SUPPLY_CURVE, *BORROW_CURVE)
    ):
        # A new implementation accrues the time since the last call at its own curve.
        state.rates = state.curve_rates()


def place_of(now: Clock) -> dict[str, Any]:
    """The place of an effect."""
    return {"seq": UNPLACED, "block_number": now.block_number, "log_index": now.log_index, "timestamp": now.timestamp}


def index_update(indexes: Indexes, rates: tuple[int, int], place: Mapping[str, int]) -> IndexUpdate:
    """Stored indexes (ray) and rates (a year, ray)."""
    return IndexUpdate(
        **place,
        asset=BASE,
        supply_index=indexes.supply * TO_RAY,
        borrow_index=indexes.borrow * TO_RAY,
        supply_rate=rates[0] * RATE_SCALE,
        borrow_rate=rates[1] * RATE_SCALE,
    )


def rates_after(state: CometState, at: Indexes, supply_by: int, borrow_by: int) -> tuple[int, int]:
    """The curves' rates once totals have changed by so much principal."""
    changed = replace(state, total_supply=state.total_supply + supply_by, total_borrow=state.total_borrow + borrow_by)
    return changed.curve_rates(at)


def principal_changes(
    state: CometState, account: AccountId, after: int, place: Mapping[str, int], named: tuple[str, str], amount: int
) -> list[PositionChange]:
    """An account's principal becomes ``after``: a change of each side that moves, that of the side it leaves first.

    ``named``: what the call does on the debt side and on the supply side. ``amount``, native units, stands with the
    first: one call moved it, whichever sides it touched.
    """
    before = state.position(account).principal
    moves: list[tuple[Side, int, str]] = [
        ("debt", max(-after, 0) - max(-before, 0), named[0]),
        ("collateral", max(after, 0) - max(before, 0), named[1]),
    ]
    if before > 0:
        moves.reverse()
    found: list[PositionChange] = []
    for side, delta, action in moves:
        if delta:
            moved = 0 if found else amount
            found.append(base_change(account, side, delta, action, moved, place))
    return found


def base_change(
    account: AccountId, side: Side, delta: int, action: str, amount: int, place: Mapping[str, int]
) -> PositionChange:
    """A change of principal."""
    return held_change(account, BASE, side, delta, action, amount, place)


def held_change(
    account: AccountId, asset: AssetId, side: Side, delta: int, action: str, amount: int, place: Mapping[str, int]
) -> PositionChange:
    """A change of one balance by a call whose last log stands at ``place``."""
    return PositionChange(
        **place,
        account=account,
        asset=asset,
        side=side,
        delta=delta,
        action=action,
        action_seq=place["seq"],
        amount=amount,
    )


def accounts(state: CometState) -> Sequence[AccountId]:
    """Accounts that hold anything, in id order."""
    return sorted(id for id, position in state.positions.items() if position.holds)
