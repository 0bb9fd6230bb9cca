"""The book of one branch of Liquity V2: troves, batches, the stability pool, and the sums by which the contracts know
all debt and interest; how canonical events change it.

Asset 0 is the branch's collateral, asset 1 BOLD. A trove is an account whose address is its id of 32 bytes: the
collateral side of the one and the debt side of the other, both as its last call left them; in a batch its debt side is
its shares of the batch's debt. A batch is its manager's account, whose debt side is the debt of all its troves. What an
account put into the stability pool is the collateral side of BOLD, collateral that it left there to claim the
collateral side of asset 0.

Four accounts are the system's own, so that what a call does to everybody is changes of balances like any other:
``POOL``, the stability pool, holds all deposits, the collateral that they earned, and as its debt the yield that it
owes them; ``DEFAULT``, the DefaultPool, what was redistributed and not claimed; ``ACTIVE``, the ActivePool, has all
recorded debt as its debt (aggRecordedDebt), and on the other side what was minted as interest since the start;
``SURPLUS``, the CollSurplusPool, collateral that owners of liquidated troves may claim.

Source: liquity/bold at b40fa9b9, ``contracts/src/TroveManager.sol``, ``ActivePool.sol``, ``StabilityPool.sol``,
``SortedTroves.sol``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from backtest.errors import RulesError, UserError
from backtest.model import AccountId, AssetId, Market, MarketEvent, ParamChange, PositionChange, PriceUpdate
from backtest.model import SettingChange as Setting
from backtest.protocols.liquity.math import per_unit_down, ratio_down, reward_down, stake_down
from backtest.protocols.liquity_v2.math import (
    POOL_LEAST,
    POOL_SHARE,
    PRODUCT_ONE,
    SCALE_SPAN,
    aggregate_up,
    compounded_down,
    gain_down,
    interest_down,
    product_down,
    share_down,
)
from backtest.units import WAD

COLL, BOLD = AssetId(0), AssetId(1)
POOL, DEFAULT, ACTIVE, SURPLUS = map(AccountId, range(4))
"""The system's own accounts come first in every market."""
OWN = frozenset({POOL, DEFAULT, ACTIVE, SURPLUS})
RULES = "liquity-v2, by vectors"
RULES_REVISION = 1
REDISTRIBUTION, OFFSET, INTEREST, UPFRONT, REBATCH = "redistribution", "offset", "interest", "upfront_fee", "rebatch"
"""Actions of changes that nobody pays or gets: what was pending is added to a trove; balances of the system's own
accounts and what liquidations took of a deposit; interest that is recorded; the fee of drawing; debt that becomes
shares, or the other way, and the batch's own.
"""
OPEN, CLOSE, LIQUIDATION = "open", "close", "liquidation"
_NO_STAKE = frozenset({REDISTRIBUTION, INTEREST, UPFRONT, REBATCH})
TERMS = (
    "liquidation_ratio",
    "critical_ratio",
    "shutdown_ratio",
    "batch_margin",
    "liquidation_penalty",
    "redistribution_penalty",
    "gas_share",
    "dust",
)
"""MCR, CCR, SCR, BCR, one and the two penalties, the caller's share of a collateral, all wad; the least debt."""
BATCH, REDISTRIBUTED, LIQUIDATED = "batch_left", "redistributed", "liquidated"
GATHERED = ("batch_offset", "batch_to_pool", "batch_debt", "batch_coll", "batch_surplus")
"""What the troves of a call that liquidates several came to so far."""
SUMS = ("coll_sum", "debt_sum", "stakes_then", "colls_then", "product", "scale")
"""What a call of liquidations left of the sums and snapshots, for SQL: the book finds them by itself."""
REDEEMED_AT, REDEEMED_FOR, REDEEMED_RATE = "redemption_oracle", "redemption_price", "redemption_rate"
OTHERS = (
    "liquity_revision",
    "gas_reward",
    BATCH,
    REDISTRIBUTED,
    LIQUIDATED,
    *GATHERED,
    *SUMS,
    REDEEMED_AT,
    REDEEMED_FOR,
    REDEEMED_RATE,
)
"""``gas_reward``: ETH_GAS_COMPENSATION where the collateral is WETH, else 0. ``batch_left``: how many troves of a call
of history are still to be liquidated, this one with them. ``redistributed`` counts what changed many debts at once:
redistributions, and new rates and fees of batches. The last three are of the next redemption of history: the oracle's
price, the price it was made at, and its rate.
"""
ZOMBIE, POINTED = 1, 2
"""A trove too small to be redeemed from in order; and that it is the one the next redemption begins with."""


@dataclass(frozen=True, slots=True)
class Trove:
    """TroveManager.Troves and rewardSnapshots. ``debt`` is recorded debt, 0 in a batch, where ``shares`` count;
    ``since`` and ``adjusted``: seconds of its last interest and of its last change of rate; ``place``: its position
    among troves of its rate (or in its batch), the highest being redeemed first.
    """

    coll: int = 0
    debt: int = 0
    shares: int = 0
    stake: int = 0
    coll_sum: int = 0
    debt_sum: int = 0
    rate: int = 0
    since: int = 0
    adjusted: int = 0
    batch: AccountId | None = None
    zombie: int = 0
    place: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """TroveManager.batches: recorded debt and all shares of it, rate and management fee, both wad a year; ``active``:
    how many of its troves are in the list by which redemptions go.
    """

    debt: int = 0
    shares: int = 0
    rate: int = 0
    fee: int = 0
    since: int = 0
    adjusted: int = 0
    place: int = 0
    active: int = 0


@dataclass(frozen=True, slots=True)
class Deposit:
    """StabilityPool.deposits and depositSnapshots."""

    value: int
    product: int
    gains: int
    yields: int
    scale: int


class Latest(NamedTuple):
    """A trove at a time (TroveManager.getLatestTroveData): all collateral and debt, and of these what redistributions
    gave it, its interest and its part of its batch's management fee.
    """

    coll: int
    debt: int
    shared_coll: int
    shared_debt: int
    interest: int
    fee: int


NOTHING = Trove()


@dataclass(slots=True)
class BranchState:
    """One branch. Names of what the contracts store: ``recorded`` aggRecordedDebt, ``weighted`` aggWeightedDebtSum,
    ``since`` lastAggUpdateTime, ``fees``, ``weighted_fees``, ``fees_since`` the same of management fees;
    ``yield_owed`` and ``yield_pending`` those of the pool's yield; ``gains`` and ``yields`` (by scale) S and B.
    """

    market: Market
    troves: dict[AccountId, Trove] = field(default_factory=dict)
    batches: dict[AccountId, Batch] = field(default_factory=dict)
    deposits: dict[AccountId, Deposit] = field(default_factory=dict)
    stashed: dict[AccountId, int] = field(default_factory=dict)
    stakes: int = 0
    stakes_then: int = 0
    colls_then: int = 0
    coll_sum: int = 0
    debt_sum: int = 0
    coll_error: int = 0
    debt_error: int = 0
    active_coll: int = 0
    default_coll: int = 0
    default_debt: int = 0
    surplus: int = 0
    recorded: int = 0
    minted: int = 0
    weighted: int = 0
    since: int = 0
    fees: int = 0
    weighted_fees: int = 0
    fees_since: int = 0
    shutdown: int = 0
    pool_deposits: int = 0
    pool_coll: int = 0
    yield_owed: int = 0
    yield_pending: int = 0
    product: int = PRODUCT_ONE
    scale: int = 0
    gains: dict[int, int] = field(default_factory=dict)
    yields: dict[int, int] = field(default_factory=dict)
    coming_to_pool: int = 0
    """Collateral of a liquidation whose BOLD the pool is about to lose; as ``coming_to_troves``, whose debt comes."""
    coming_to_troves: int = 0
    places: int = 0
    params: dict[str, int] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> BranchState:
        """Independent of this one; troves, batches and deposits never change, so that both have the same."""
        copied = ("troves", "batches", "deposits", "stashed", "gains", "yields", "params")
        return replace(self, **{name: getattr(self, name).copy() for name in copied})

    def param(self, name: str) -> int:
        """A parameter in force; RulesError where nothing says it."""
        if (value := self.params.get(name)) is None:
            raise RulesError(f"nothing says the {name} of market '{self.market.name}'", "rebuild the canonical tables")
        return value

    def trove(self, account: AccountId) -> Trove:
        """A trove; one without anything where there is none."""
        return self.troves.get(account, NOTHING)

    def rate_of(self, trove: Trove) -> int:
        """Its own rate, or its batch's (TroveManager.getTroveAnnualInterestRate)."""
        return trove.rate if trove.batch is None else self.batches[trove.batch].rate

    def period(self, since: int, now: int) -> int:
        """Seconds for which interest is due: none after a shutdown (TroveManager._getInterestPeriod)."""
        return max(0, (min(now, self.shutdown) if self.shutdown else now) - since)

    def accrued(self, batch: Batch, now: int) -> tuple[int, int]:
        """Interest and management fee that a batch has not recorded (TroveManager._getLatestBatchData)."""
        period = self.period(batch.since, now)
        return interest_down(batch.debt, batch.rate, period), interest_down(batch.debt, batch.fee, period)

    def latest(self, trove: Trove, now: int) -> Latest:
        """See ``Latest``."""
        coll = reward_down(trove.stake, self.coll_sum - trove.coll_sum)
        debt = reward_down(trove.stake, self.debt_sum - trove.debt_sum)
        fee = 0
        if trove.batch is None:
            own, interest = trove.debt, interest_down(trove.debt, trove.rate, self.period(trove.since, now))
        else:
            batch = self.batches[trove.batch]
            own, interest, fee = (
                share_down(each, trove.shares, batch.shares) for each in (batch.debt, *self.accrued(batch, now))
            )
        return Latest(trove.coll + coll, own + debt + interest + fee, coll, debt, interest, fee)

    def pending_interest(self, now: int) -> int:
        """ActivePool.calcPendingAggInterest."""
        return 0 if self.shutdown else aggregate_up(self.weighted, now - self.since)

    def pending_fees(self, now: int) -> int:
        """ActivePool.calcPendingAggBatchManagementFee."""
        end = self.shutdown or now
        return aggregate_up(self.weighted_fees, end - min(self.fees_since, end))

    @property
    def coll(self) -> int:
        """LiquityBase.getEntireBranchColl."""
        return self.active_coll + self.default_coll

    def debt(self, now: int) -> int:
        """LiquityBase.getEntireBranchDebt."""
        active = self.recorded + self.pending_interest(now) + self.fees + self.pending_fees(now)
        return active + self.default_debt

    def total_ratio(self, price: int, now: int) -> int:
        """LiquityBase._getTCR, wad."""
        return ratio_down(self.coll, self.debt(now), price)

    def available(self) -> int:
        """Deposits that liquidations may use (TroveManager.batchLiquidateTroves)."""
        return self.pool_deposits - min(POOL_LEAST, self.pool_deposits)

    def deposit_of(self, deposit: Deposit) -> int:
        """StabilityPool.getCompoundedBoldDeposit."""
        return compounded_down(deposit.value, self.product, deposit.product, self.scale - deposit.scale)

    def gain_of(self, deposit: Deposit) -> int:
        """StabilityPool.getDepositorCollGain."""
        return min(_gain(deposit, self.gains, deposit.gains), self.pool_coll)

    def yield_of(self, deposit: Deposit) -> int:
        """StabilityPool.getDepositorYieldGain: without interest that nobody minted yet."""
        return min(_gain(deposit, self.yields, deposit.yields), self.yield_owed)

    def redeemable(self) -> list[AccountId]:
        """Troves in the order in which redemptions take from them: the one that the last redemption left, then the
        lowest rate first, of equals the one that came last, a batch in one piece (SortedTroves).
        """
        first = [account for account, trove in self.troves.items() if trove.zombie == POINTED]

        def order(account: AccountId) -> tuple[int, int, int]:
            trove = self.troves[account]
            piece = trove.place if trove.batch is None else self.batches[trove.batch].place
            return self.rate_of(trove), -piece, -trove.place

        return first + sorted((account for account, trove in self.troves.items() if not trove.zombie), key=order)

    def next_place(self) -> int:
        """The place after all others."""
        self.places += 1
        return self.places

    def put(self, account: AccountId, trove: Trove | None) -> None:
        """A trove from now on, or none; sums follow."""
        before, after = self.trove(account), trove or NOTHING
        self.active_coll += after.coll - before.coll
        self.stakes += after.stake - before.stake
        self.weighted += after.debt * after.rate - before.debt * before.rate
        for each, sign in ((before, -1), (after, 1)):
            if each.batch is not None:
                batch = self.batches[each.batch]
                active = batch.active + (0 if each.zombie else sign)
                self.batches[each.batch] = replace(batch, shares=batch.shares + sign * each.shares, active=active)
        if trove is None:
            self.troves.pop(account, None)
        else:
            self.troves[account] = trove

    def put_batch(self, account: AccountId, batch: Batch) -> None:
        """A batch from now on; sums follow."""
        before = self.batches.get(account, Batch())
        self.weighted += batch.debt * batch.rate - before.debt * before.rate
        self.weighted_fees += batch.debt * batch.fee - before.debt * before.fee
        self.batches[account] = batch


def _gain(deposit: Deposit, sums: Mapping[int, int], then: int) -> int:
    values = [sums.get(deposit.scale + number, 0) for number in range(SCALE_SPAN + 1)]
    return gain_down(deposit.value, (values[0] - then, *values[1:]), deposit.product)


def open_state(market: Market, *, recompute: bool = False) -> BranchState:
    """The empty book. Interest follows this book anyway."""
    if len(market.assets) != 2:
        raise UserError(f"market '{market.name}' is not one collateral and BOLD", "rebuild the canonical tables")
    return BranchState(market)


def apply(state: BranchState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter or setting.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        if event.account in OWN:
            _apply_own(state, event)
        elif event.asset == BOLD and event.side == "collateral":
            _apply_deposit(state, event)
        elif event.asset == COLL and event.action == OFFSET:
            state.stashed[event.account] = _left(state, event, state.stashed.get(event.account, 0))
        elif event.asset == BOLD and event.account in state.batches:
            _apply_batch(state, event)
        else:
            _apply_trove(state, event)
        if event.action == LIQUIDATION:
            state.stakes_then, state.colls_then = state.stakes, state.coll
    elif isinstance(event, Setting):
        _apply_setting(state, event)
    elif isinstance(event, ParamChange):
        if event.name not in TERMS and event.name not in OTHERS:
            raise RulesError(
                f"block {event.block_number}: unknown parameter '{event.name}'", "rebuild the canonical tables"
            )
        state.params[event.name] = event.value
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _left(state: BranchState, event: PositionChange, before: int) -> int:
    if (left := before + event.delta) < 0:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {left} units of {state.market.assets[event.asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    return left


def _apply_own(state: BranchState, event: PositionChange) -> None:
    shares = event.action == LIQUIDATION and event.delta > 0
    match event.account, event.asset, event.side:
        case account, 0, _ if account == POOL:
            state.pool_coll = _left(state, event, state.pool_coll)
            if shares:
                state.coming_to_pool = event.delta
        case account, _, "collateral" if account == POOL:
            left = _left(state, event, state.pool_deposits)
            if event.action == LIQUIDATION:
                _offset(state, -event.delta)
            state.pool_deposits = left
        case account, _, _ if account == POOL:
            _owe_yield(state, event)
        case account, 0, _ if account == DEFAULT:
            state.default_coll = _left(state, event, state.default_coll)
            if shares:
                state.coming_to_troves = event.delta
        case account, _, _ if account == DEFAULT:
            state.default_debt = _left(state, event, state.default_debt)
            if shares:
                _redistribute(state, event.delta)
        case account, 0, _ if account == SURPLUS:
            state.surplus = _left(state, event, state.surplus)
        case account, _, "collateral" if account == ACTIVE:  # ActivePool._mintAggInterest
            state.minted = _left(state, event, state.minted)
            state.since = event.timestamp
            state.yield_pending += event.delta * POOL_SHARE // WAD
        case _:
            state.recorded = _left(state, event, state.recorded)


def _owe_yield(state: BranchState, event: PositionChange) -> None:
    """StabilityPool._updateYieldRewardsSum, _decreaseYieldGainsOwed."""
    state.yield_owed = _left(state, event, state.yield_owed)
    if event.delta > 0:
        state.yield_pending -= event.delta
        grown = state.product * event.delta // state.pool_deposits
        state.yields[state.scale] = state.yields.get(state.scale, 0) + grown


def _offset(state: BranchState, debt: int) -> None:
    """The stability pool loses deposits and gets collateral (StabilityPool.offset)."""
    if debt or state.coming_to_pool:
        grown = state.product * state.coming_to_pool // state.pool_deposits
        state.gains[state.scale] = state.gains.get(state.scale, 0) + grown
        state.product, scales = product_down(state.product, debt, state.pool_deposits)
        state.scale += scales
    state.coming_to_pool = 0


def _redistribute(state: BranchState, debt: int) -> None:
    """All troves get a liquidated one's debt and collateral by their stakes
    (TroveManager._redistributeDebtAndColl).
    """
    each_coll, state.coll_error = per_unit_down(state.coming_to_troves, state.coll_error, state.stakes)
    each_debt, state.debt_error = per_unit_down(debt, state.debt_error, state.stakes)
    state.coll_sum += each_coll
    state.debt_sum += each_debt
    state.coming_to_troves = 0


def _apply_deposit(state: BranchState, event: PositionChange) -> None:
    before = state.deposits.get(event.account)
    left = _left(state, event, before.value if before else 0)
    if left:
        gains, yields = state.gains.get(state.scale, 0), state.yields.get(state.scale, 0)
        state.deposits[event.account] = Deposit(left, state.product, gains, yields, state.scale)
    else:
        state.deposits.pop(event.account, None)


def _apply_batch(state: BranchState, event: PositionChange) -> None:
    """The debt of a batch; the first change of a moment is what it accrued
    (ActivePool._mintBatchManagementFeeAndAccountForChange).
    """
    batch = state.batches[event.account]
    if batch.since != event.timestamp:
        state.fees += state.pending_fees(event.timestamp) - state.accrued(batch, event.timestamp)[1]
        state.fees_since = event.timestamp
    state.put_batch(event.account, replace(batch, debt=_left(state, event, batch.debt), since=event.timestamp))


def _apply_trove(state: BranchState, event: PositionChange) -> None:
    before = state.troves.get(event.account) or _new(state, event.timestamp)
    if event.asset == COLL:
        after = replace(before, coll=_left(state, event, before.coll))
    elif before.batch is None:
        after = replace(before, debt=_left(state, event, before.debt), since=event.timestamp)
    else:
        after = replace(before, shares=_left(state, event, before.shares))
    if event.action == REDISTRIBUTION:
        after = replace(after, coll_sum=state.coll_sum, debt_sum=state.debt_sum)
    if event.action not in _NO_STAKE:  # TroveManager._updateStakeAndTotalStakes
        after = replace(after, stake=stake_down(after.coll, state.stakes_then, state.colls_then))
    gone = event.action in (CLOSE, LIQUIDATION) and not (after.coll or after.debt or after.shares)
    state.put(event.account, None if gone else after)


def _new(state: BranchState, now: int) -> Trove:
    return Trove(coll_sum=state.coll_sum, debt_sum=state.debt_sum, since=now, adjusted=now, place=state.next_place())


def _apply_setting(state: BranchState, event: Setting) -> None:
    now, account, value = event.timestamp, event.account, event.value
    if event.setting == "shutdown":
        state.shutdown = value
    elif event.setting == "management_fee":
        state.put_batch(account, replace(state.batches.get(account, Batch()), fee=value))
    elif event.setting == "rate" and account in state.batches:
        state.put_batch(account, replace(state.batches[account], rate=value, adjusted=now, place=state.next_place()))
    elif event.setting == "rate":
        trove = state.troves.get(account) or _new(state, now)
        state.put(account, replace(trove, rate=value, adjusted=now, place=state.next_place()))
    elif event.setting == "batch":
        trove = state.troves.get(account) or _new(state, now)
        batch, stored = AccountId(value - 1) if value else None, trove.debt + trove.shares
        # Of one log, balances change before settings: what is on the debt side by then is what it is from now on.
        debt, shares = (stored, 0) if batch is None else (0, stored)
        moved = replace(trove, batch=batch, debt=debt, shares=shares, since=now, adjusted=now)
        state.put(account, replace(moved, place=_placed(state, batch)))
    elif event.setting == "zombie":
        trove = state.troves[account]
        place = trove.place if value else _placed(state, trove.batch)
        state.put(account, replace(trove, zombie=value, place=place))
    else:
        raise RulesError(
            f"block {event.block_number}: unknown setting '{event.setting}'", "rebuild the canonical tables"
        )


def _placed(state: BranchState, batch: AccountId | None) -> int:
    """Where a trove comes into the list; with the first of a batch the batch comes (SortedTroves.insertIntoBatch)."""
    place = state.next_place()
    if batch is not None and not state.batches[batch].active:
        state.batches[batch] = replace(state.batches[batch], place=place)
    return place


def accounts(state: BranchState) -> Sequence[AccountId]:
    """Accounts with a trove or a deposit, in id order; none of the system's own, no batch."""
    stashed = {account for account, value in state.stashed.items() if value}
    return sorted(state.troves.keys() | state.deposits.keys() | stashed)


def oracle_price(state: BranchState, prices: Mapping[AssetId, int]) -> int | None:
    """Dollars per unit of collateral, 18 decimals; None where there is none."""
    return prices.get(COLL) or None
