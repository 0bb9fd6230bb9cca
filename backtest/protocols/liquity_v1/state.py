"""The book of one Liquity V1 system: troves, the stability pool, the sums that share out what it cannot take, and how
canonical events change it.

Asset 0 is ether, asset 1 LUSD. A trove is the collateral side of the one and the debt side of the other, both as its
last call left them; what redistributions gave it since is pending (``entire``). What an account put into the stability
pool is the collateral side of LUSD, as of its last call too; what liquidations left of it is ``deposit_of``.

Two accounts are the system's own, so that what a liquidation does to everybody is changes of balances like any other,
which a replay leaves out where it leaves out the liquidation: ``POOL``, the stability pool, holds all deposits (LUSD)
and what they earned (ether); ``DEFAULT``, the DefaultPool, the collateral and debt that were redistributed and not
claimed. A liquidation that takes LUSD from ``POOL`` moves the pool's product and sum; one that gives debt to
``DEFAULT`` moves what each unit staked is given; every change of one takes the snapshots of all stakes and collateral
anew, the last of a call being the one that counts.

Source: liquity/dev at 5174ecd0, ``packages/contracts/contracts/TroveManager.sol``, ``StabilityPool.sol``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backtest.errors import RulesError, UserError
from backtest.model import (
    AccountId,
    AssetId,
    Market,
    MarketEvent,
    ParamChange,
    PositionChange,
    PriceUpdate,
)
from backtest.protocols.liquity_v1.math import (
    SCALE_FACTOR,
    compounded_down,
    gain_down,
    loss_up,
    per_unit_down,
    ratio_down,
    reward_down,
    stake_down,
)
from backtest.units import WAD

ETH, LUSD = AssetId(0), AssetId(1)
POOL, DEFAULT = AccountId(0), AccountId(1)
"""The system's own accounts come first in every market."""
RULES = "liquity-v1, by vectors"
RULES_REVISION = 1
REDISTRIBUTION, OFFSET = "redistribution", "offset"
"""Actions of changes that nobody pays: what was pending is added to a trove; the stability pool's own balances, and
what liquidations took of a deposit.
"""
TERMS = ("liquidation_ratio", "critical_ratio", "gas_share", "dust")
"""MCR, CCR and the caller's share of a collateral, wad; the least net debt, native units. Constants of the code."""
BATCH, BATCH_MODE, REDISTRIBUTED, LIQUIDATED = "batch", "batch_mode", "redistributed", "liquidated"
GATHERED = ("batch_offset", "batch_to_pool", "batch_debt", "batch_coll")
"""What the troves of a call that liquidates several came to so far."""
SUMS = ("coll_sum", "debt_sum", "stakes_then", "colls_then", "product", "scale", "epoch")
"""What a liquidation of history left in the book, for SQL: the book itself takes none of them from there."""
OTHERS = ("liquity_revision", "base_rate", "fee_time", BATCH, BATCH_MODE, REDISTRIBUTED, LIQUIDATED, *GATHERED, *SUMS)
"""``base_rate`` wad, ``fee_time`` seconds, as logged. ``batch``: how many troves of a call of history are still to be
liquidated, this one with them; ``batch_mode``: as which its log says this one was (1 normal, 2 recovery).
``redistributed`` counts redistributions, ``liquidated`` is there whenever a liquidation moved what others depend on.
"""


@dataclass(frozen=True, slots=True)
class Trove:
    """A trove as its last call left it, and the sums per unit staked as of then (TroveManager.Troves,
    rewardSnapshots).
    """

    coll: int = 0
    debt: int = 0
    stake: int = 0
    coll_sum: int = 0
    debt_sum: int = 0


@dataclass(frozen=True, slots=True)
class Deposit:
    """What somebody put into the stability pool, and where the pool stood then (StabilityPool.deposits,
    depositSnapshots).
    """

    value: int
    product: int
    gains: int
    scale: int
    epoch: int


NOTHING = Trove()


@dataclass(slots=True)
class LiquityState:
    """One system. Names of what the contracts store: ``stakes`` totalStakes, ``stakes_then`` and ``colls_then`` the
    snapshots of all stakes and collateral, ``coll_sum`` and ``debt_sum`` L_ETH and L_LUSDDebt with their errors,
    ``product``, ``scale``, ``epoch`` and ``sums`` (by epoch and scale) P, currentScale, currentEpoch and S.
    """

    market: Market
    troves: dict[AccountId, Trove] = field(default_factory=dict)
    deposits: dict[AccountId, Deposit] = field(default_factory=dict)
    stakes: int = 0
    stakes_then: int = 0
    colls_then: int = 0
    coll_sum: int = 0
    debt_sum: int = 0
    coll_error: int = 0
    debt_error: int = 0
    active_coll: int = 0
    active_debt: int = 0
    default_coll: int = 0
    default_debt: int = 0
    pool_deposits: int = 0
    pool_coll: int = 0
    product: int = WAD
    scale: int = 0
    epoch: int = 0
    sums: dict[tuple[int, int], int] = field(default_factory=dict)
    gain_error: int = 0
    loss_error: int = 0
    coming_to_pool: int = 0
    """Ether of a liquidation whose LUSD the pool is about to lose; as ``coming_to_troves``, whose debt is to come."""
    coming_to_troves: int = 0
    params: dict[str, int] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> LiquityState:
        """Independent of this one; troves and deposits never change, so that both have the same."""
        return replace(
            self,
            troves=self.troves.copy(),
            deposits=self.deposits.copy(),
            sums=self.sums.copy(),
            params=self.params.copy(),
        )

    def param(self, name: str) -> int:
        """A parameter in force; RulesError where nothing says it."""
        if (value := self.params.get(name)) is None:
            raise RulesError(f"nothing says the {name} of market '{self.market.name}'", "rebuild the canonical tables")
        return value

    def trove(self, account: AccountId) -> Trove:
        """A trove; one without anything where there is none."""
        return self.troves.get(account, NOTHING)

    def pending(self, trove: Trove) -> tuple[int, int]:
        """Collateral and debt that redistributions gave it since its last call."""
        return (
            reward_down(trove.stake, self.coll_sum - trove.coll_sum),
            reward_down(trove.stake, self.debt_sum - trove.debt_sum),
        )

    def entire(self, trove: Trove) -> tuple[int, int]:
        """Collateral and debt with what is pending (TroveManager.getEntireDebtAndColl)."""
        coll, debt = self.pending(trove)
        return trove.coll + coll, trove.debt + debt

    @property
    def coll(self) -> int:
        """LiquityBase.getEntireSystemColl."""
        return self.active_coll + self.default_coll

    @property
    def debt(self) -> int:
        """LiquityBase.getEntireSystemDebt."""
        return self.active_debt + self.default_debt

    def total_ratio(self, price: int) -> int:
        """LiquityBase._getTCR, wad."""
        return ratio_down(self.coll, self.debt, price)

    def recovers(self, price: int) -> bool:
        """Whether it is in recovery mode (LiquityBase._checkRecoveryMode)."""
        return self.total_ratio(price) < self.param("critical_ratio")

    def deposit_of(self, deposit: Deposit) -> int:
        """What liquidations left of it (StabilityPool.getCompoundedLUSDDeposit)."""
        if deposit.epoch < self.epoch:
            return 0
        return compounded_down(deposit.value, self.product, deposit.product, self.scale - deposit.scale)

    def gain_of(self, deposit: Deposit) -> int:
        """Ether that it earned and nobody took (StabilityPool.getDepositorETHGain)."""
        first = self.sums.get((deposit.epoch, deposit.scale), 0) - deposit.gains
        return gain_down(deposit.value, first, self.sums.get((deposit.epoch, deposit.scale + 1), 0), deposit.product)

    def offset(self, debt: int, coll: int) -> None:
        """The stability pool loses deposits and gets collateral (StabilityPool.offset)."""
        if not self.pool_deposits or not debt:
            return
        gain, self.gain_error = per_unit_down(coll, self.gain_error, self.pool_deposits)
        loss, self.loss_error = loss_up(debt, self.loss_error, self.pool_deposits)
        place = self.epoch, self.scale
        self.sums[place] = self.sums.get(place, 0) + gain * self.product
        left = self.product * (WAD - loss)
        if loss == WAD:
            self.epoch, self.scale, self.product = self.epoch + 1, 0, WAD
        elif left // WAD < SCALE_FACTOR:
            self.product, self.scale = left * SCALE_FACTOR // WAD, self.scale + 1
        else:
            self.product = left // WAD

    def redistribute(self, debt: int, coll: int) -> None:
        """All troves get a liquidated one's debt and collateral, by their stakes
        (TroveManager._redistributeDebtAndColl).
        """
        if not debt:
            return
        each_coll, self.coll_error = per_unit_down(coll, self.coll_error, self.stakes)
        each_debt, self.debt_error = per_unit_down(debt, self.debt_error, self.stakes)
        self.coll_sum += each_coll
        self.debt_sum += each_debt

    def put(self, account: AccountId, trove: Trove) -> None:
        """A trove from now on, or that it is closed; totals follow."""
        before = self.trove(account)
        self.active_coll += trove.coll - before.coll
        self.active_debt += trove.debt - before.debt
        self.stakes += trove.stake - before.stake
        if trove.coll or trove.debt:
            self.troves[account] = trove
        else:
            self.troves.pop(account, None)


def open_state(market: Market, *, recompute: bool = False) -> LiquityState:
    """The empty book. There is no interest to recompute."""
    if len(market.assets) != 2:
        raise UserError(f"market '{market.name}' is not ether and LUSD", "rebuild the canonical tables")
    return LiquityState(market)


def apply(state: LiquityState, event: MarketEvent) -> None:
    """Apply one canonical event or effect.

    Raises:
        RulesError: a balance would fall below zero, an unknown parameter.
        TypeError: an event that is not applied (HistoricalLiquidation is re-enacted by the engine).
    """
    if isinstance(event, PositionChange):
        if event.account == POOL:
            _apply_pool(state, event)
        elif event.account == DEFAULT:
            _apply_default(state, event)
        elif event.asset == LUSD and event.side == "collateral":
            _apply_deposit(state, event)
        else:
            _apply_trove(state, event)
        if event.action == "liquidation":
            state.stakes_then, state.colls_then = state.stakes, state.coll
    elif isinstance(event, ParamChange):
        if event.name not in TERMS and event.name not in OTHERS:
            raise RulesError(
                f"block {event.block_number}: unknown parameter '{event.name}'", "rebuild the canonical tables"
            )
        state.params[event.name] = event.value
    elif not isinstance(event, PriceUpdate):
        raise TypeError(f"{type(event).__name__} is not applied to a book; the engine re-enacts it")


def _left(state: LiquityState, event: PositionChange, before: int) -> int:
    if (left := before + event.delta) < 0:
        raise RulesError(
            f"block {event.block_number}, log {event.log_index}: account {state.market.accounts[event.account]} would"
            f" hold {left} units of {state.market.assets[event.asset].symbol} as {event.side}",
            "the history before it is incomplete",
        )
    return left


def _apply_pool(state: LiquityState, event: PositionChange) -> None:
    if event.asset == ETH:
        state.pool_coll = _left(state, event, state.pool_coll)
        if event.action == "liquidation":
            state.coming_to_pool = event.delta
        return
    left = _left(state, event, state.pool_deposits)
    if event.action == "liquidation":
        state.offset(-event.delta, state.coming_to_pool)
        state.coming_to_pool = 0
    state.pool_deposits = left


def _apply_default(state: LiquityState, event: PositionChange) -> None:
    shared = event.action == "liquidation" and event.delta > 0
    if event.asset == ETH:
        state.default_coll = _left(state, event, state.default_coll)
        if shared:
            state.coming_to_troves = event.delta
        return
    state.default_debt = _left(state, event, state.default_debt)
    if shared:
        state.redistribute(event.delta, state.coming_to_troves)
        state.coming_to_troves = 0


def _apply_deposit(state: LiquityState, event: PositionChange) -> None:
    before = state.deposits.get(event.account)
    left = _left(state, event, before.value if before else 0)
    if left:
        place = state.epoch, state.scale
        state.deposits[event.account] = Deposit(left, state.product, state.sums.get(place, 0), state.scale, state.epoch)
    else:
        state.deposits.pop(event.account, None)


def _apply_trove(state: LiquityState, event: PositionChange) -> None:
    before = state.troves.get(event.account) or Trove(coll_sum=state.coll_sum, debt_sum=state.debt_sum)
    if event.asset == ETH:
        after = replace(before, coll=_left(state, event, before.coll))
    else:
        after = replace(before, debt=_left(state, event, before.debt))
    if event.action == REDISTRIBUTION:
        after = replace(after, coll_sum=state.coll_sum, debt_sum=state.debt_sum)
    else:  # TroveManager._updateStakeAndTotalStakes, _removeStake
        after = replace(after, stake=stake_down(after.coll, state.stakes_then, state.colls_then))
    state.put(event.account, after)


def accounts(state: LiquityState) -> Sequence[AccountId]:
    """Accounts with a trove or a deposit, in id order; none of the system's own."""
    return sorted(state.troves.keys() | state.deposits.keys())


def oracle_price(state: LiquityState, prices: Mapping[AssetId, int]) -> int | None:
    """Dollars per ether, 18 decimals; None where there is none."""
    return prices.get(ETH) or None
