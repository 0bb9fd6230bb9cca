"""What a user's call does in a book that may differ from history's: deposit, withdraw, borrow, repay, transfer, flags,
and debt at stable rates.

Source: aave/protocol-v2 ``lendingpool/LendingPool.sol``; ``libraries/logic/ValidationLogic.sol`` validateDeposit,
validateWithdraw, validateBorrow, validateRepay, validateTransfer, validateSwapRateMode,
validateSetUseReserveAsCollateral; ``GenericLogic.sol`` balanceDecreaseAllowed; ``tokenization/StableDebtToken.sol``
mint, burn.

Checked again is what another book, other parameters or other prices can change. A reserve's flags (active, frozen) are
history's and let the call pass then, and so is whether a stable loan may be rebalanced, and the rate of a new one: it
starts from a market rate (``LendingRateOracle``) that no log tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange, SettingChange
from backtest.protocols.aave.effects import Effect, Effects
from backtest.protocols.aave.math import percent_div_half_up, percent_mul_half_up, ray_div_half_up, ray_mul_half_up
from backtest.protocols.aave_v2.account import AccountData, account_data, account_view, is_collateral, price_of
from backtest.protocols.aave_v2.interest import WAD_TO_RAY, TouchedReserves
from backtest.protocols.aave_v2.rules import LIQUIDATION_HEALTH, decreased_health
from backtest.protocols.aave_v2.state import (
    AaveV2State,
    Account,
    Reserve,
    StableDebt,
    applied,
    lacks,
    liquidity_moved,
)
from backtest.protocols.interface import Acted, Action, Refusal

MOST_OF_LIQUIDITY = 2_500
"""Basis points of what the reserve has that one stable loan may take (LendingPool MAX_STABLE_RATE_BORROW_SIZE_PERCENT).
"""
NO_LIQUIDITY = "the reserve has not enough liquidity"
NOTHING_OWED = "the account has no debt in this asset"
NO_STABLE = "the account has no stable debt in this asset"
UNHEALTHY = "health factor would fall below 1"


@dataclass(slots=True)
class _Call:
    """One call being made by ``account`` in the reserve of its asset."""

    state: AaveV2State
    oracle: Mapping[AssetId, int]
    now: Clock
    action: Action
    effects: Effects
    account: AccountId
    reserve: Reserve
    touched_reserves: TouchedReserves

    @property
    def asset(self) -> AssetId:
        return self.reserve.asset

    @property
    def book(self) -> Account:
        return self.state.accounts.get(self.account) or Account()

    @property
    def income(self) -> int:
        return self.reserve.income(self.now.timestamp)

    @property
    def stored_index(self) -> int:
        return self.reserve.stored_debt_index(self.now.timestamp)

    @property
    def variable(self) -> int:
        """Native variable debt, as views accrue it."""
        return ray_mul_half_up(self.book.debt.get(self.asset, 0), self.reserve.debt_index(self.now.timestamp))

    @property
    def supplied(self) -> int:
        """Native aToken balance."""
        return ray_mul_half_up(self.book.collateral.get(self.asset, 0), self.income)

    def empties(self, change: PositionChange) -> bool:
        """History's balance was nothing after this change."""
        return self.action.changes.index(change) in self.action.emptied

    def asked(self, change: PositionChange) -> int:
        """Native units that the call asks for: given, as logged, or what the scaled change was worth where no log says
        it.
        """
        if self.action.amount is not None:
            return self.action.amount
        if change.amount is not None:
            return change.amount
        index = self.stored_index if change.side == "debt" else self.income
        return ray_mul_half_up(abs(change.delta), index)

    def before(self) -> AccountData:
        """The account's six numbers as it is; PriceMissing."""
        return account_data(self.state, self.account, self.oracle, self.now)

    def after(self) -> AccountData:
        """Once the call is made; PriceMissing."""
        with applied(self.state, self.effects.all):
            return self.before()

    def acted(self, amount: int, moved: int = 0, *, risky: bool = False) -> Acted:
        """``moved``: native units that come into the reserve. ``risky``: the call raises the risk of its account."""
        if self.state.recompute:
            changes = (*self.effects.all, *self.touched_reserves.changes())
        else:
            changes = (*self.effects.all, *liquidity_moved(self.state, self.asset, moved, self.now))
        data = self.after() if risky else None
        view = account_view(data) if data is not None and data.total_debt_base else None
        return Acted(self.account, changes, amount, view)


def act(state: AaveV2State, action: Action, oracle: Mapping[AssetId, int], now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``."""
    first = action.changes[0]
    if isinstance(first, ParamChange):
        return _parameter(state, first, now)
    moves = [change for change in action.changes if isinstance(change, PositionChange)]
    if state.recompute and action.name == "treasury":  # each call mints its own share, which has taken this one's place
        return Acted(first.account, (), sum(move.amount or 0 for move in moves))
    settings = [change for change in action.changes if isinstance(change, SettingChange)]
    loans = [change for change in settings if change.setting == "stable_moved"]

    def call_of(change: PositionChange | SettingChange) -> _Call:
        assert change.asset is not None
        effects, reserve = Effects(now, action.name), state.reserves[change.asset]
        return _Call(state, oracle, now, action, effects, change.account, reserve, TouchedReserves(state, now))

    try:
        if loans:
            call = call_of(loans[0])
            terms = {change.setting: change.value for change in settings if change.account == call.account}
            return _stable(call, loans, moves, terms) or _recorded(state, action)
        if action.name == "collateral-flag" and settings:
            return _flag(call_of(settings[0]), bool(settings[0].value))
        if action.name in _CALLS and moves:
            return _CALLS[action.name](call_of(moves[0]), moves) or _recorded(state, action)
    except PriceMissing as missing:
        return Refusal(missing.what)
    return _recorded(state, action)


# -- deposit, withdraw, transfer, flags ------------------------------------------------------------------------------


def _deposit(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    amount = call.asked(moves[0])
    scaled = ray_div_half_up(amount, call.income)
    if not scaled:
        return Refusal("the amount is too small to be supplied")
    call.effects.position(call.account, call.asset, "collateral", scaled)
    if not call.book.collateral.get(call.asset):
        call.effects.setting(call.account, "collateral_enabled", call.asset, 1)
    call.touched_reserves.move(call.asset, liquidity=amount)
    return call.acted(amount, amount)


def _withdraw(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    balance = call.supplied
    amount = balance if call.empties(moves[0]) else call.asked(moves[0])
    scaled = ray_div_half_up(amount, call.income)
    if not scaled:
        return Refusal("there is nothing to withdraw" if not balance else "the amount is too small to be withdrawn")
    if amount > balance:
        return Refusal("the account has less than that")
    if not _decrease_allowed(call, amount):
        return Refusal(UNHEALTHY)
    if lacks(call.state, call.reserve, amount, call.now):
        return Refusal(NO_LIQUIDITY)
    risky = call.asset in call.book.enabled
    if amount == balance and risky:
        call.effects.setting(call.account, "collateral_enabled", call.asset, 0)
    call.effects.position(call.account, call.asset, "collateral", -scaled)
    call.touched_reserves.move(call.asset, liquidity=-amount)
    return call.acted(amount, -amount, risky=risky and bool(call.book.owing))


def _decrease_allowed(call: _Call, amount: int) -> bool:
    """GenericLogic balanceDecreaseAllowed: health without ``amount`` of the asset, by the average threshold."""
    if not call.book.owing or call.asset not in call.book.enabled or not is_collateral(call.reserve):
        return True
    data = call.before()
    if not data.total_debt_base:
        return True
    less = price_of(call.state, call.asset, call.oracle, call.now) * amount // call.reserve.unit
    if less >= data.total_collateral_base:
        return False
    health = decreased_health(
        data.total_collateral_base,
        data.current_liquidation_threshold,
        less,
        call.reserve.liquidation_threshold,
        data.total_debt_base,
    )
    return health >= LIQUIDATION_HEALTH


def _transfer(call: _Call, moves: list[PositionChange]) -> Acted | Refusal | None:
    source = next((move for move in moves if move.delta < 0), None)
    target = next((move for move in moves if move.delta > 0), None)
    if source is None or target is None:
        return None
    call.account = source.account
    balance, held = call.supplied, call.book.collateral.get(call.asset, 0)
    amount = balance if call.empties(source) else call.asked(source)
    scaled = ray_div_half_up(amount, call.income)
    if amount > balance or scaled > held:
        return Refusal("the account has less than that")
    call.effects.position(call.account, call.asset, "collateral", -scaled)
    call.effects.position(target.account, call.asset, "collateral", scaled)
    if call.book.owing and call.after().health_factor < LIQUIDATION_HEALTH:  # before the flags change
        return Refusal(UNHEALTHY)
    risky = call.asset in call.book.enabled
    if amount == balance and risky:
        call.effects.setting(call.account, "collateral_enabled", call.asset, 0)
    receiver = call.state.accounts.get(target.account) or Account()
    if amount and not receiver.collateral.get(call.asset):
        call.effects.setting(target.account, "collateral_enabled", call.asset, 1)
    return call.acted(amount, risky=risky and bool(call.book.owing))


def _flag(call: _Call, enable: bool) -> Acted | Refusal:
    if not call.supplied:
        return Refusal("the account has nothing of the asset")
    if (call.asset in call.book.enabled) == enable:
        return Acted(call.account, ())
    if not enable and not _decrease_allowed(call, call.supplied):
        return Refusal(UNHEALTHY)
    call.effects.setting(call.account, "collateral_enabled", call.asset, int(enable))
    return call.acted(0, risky=not enable and bool(call.book.owing))


# -- borrow, repay ---------------------------------------------------------------------------------------------------


def _borrow(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    amount = call.asked(moves[0])
    scaled = ray_div_half_up(amount, call.stored_index)
    if not scaled:
        return Refusal("the amount is too small to be borrowed")
    if reason := _not_covered(call, amount):
        return Refusal(reason)
    if lacks(call.state, call.reserve, amount, call.now):
        return Refusal(NO_LIQUIDITY)
    call.effects.position(call.account, call.asset, "debt", scaled)
    call.touched_reserves.move(call.asset, debt=scaled, liquidity=-amount)
    return call.acted(amount, -amount, risky=True)


def _not_covered(call: _Call, amount: int) -> str | None:
    """validateBorrow: the account as it is, and what it wants beside it."""
    if not call.reserve.borrowing_enabled:
        return "the asset cannot be borrowed"
    data = call.before()
    price = price_of(call.state, call.asset, call.oracle, call.now)
    if not data.total_collateral_base or not data.ltv:
        return "the account has no collateral with a loan-to-value"
    if data.health_factor <= LIQUIDATION_HEALTH:
        return "health factor would be below 1"
    owed = data.total_debt_base + price * amount // call.reserve.unit
    if percent_div_half_up(owed, data.ltv) > data.total_collateral_base:
        return "the collateral cannot cover the new debt"
    return None


def _repay(call: _Call, moves: list[PositionChange]) -> Acted | Refusal | None:
    change = moves[0]
    if change.side != "debt":
        return None
    owed, debt = call.book.debt.get(call.asset, 0), call.variable
    if not debt:
        return Refusal(NOTHING_OWED)
    paid = debt if call.empties(change) else min(call.asked(change), debt)
    scaled = ray_div_half_up(paid, call.stored_index)
    if not scaled:
        return Refusal("the amount is too small to be repaid")
    if scaled > owed:
        return Refusal("the debt that the call may burn is less than what it counts")
    call.effects.position(call.account, call.asset, "debt", -scaled)
    call.touched_reserves.move(call.asset, debt=-scaled, liquidity=paid)
    return call.acted(paid, paid)


# -- debt at stable rates --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Loan:
    """The stable debt of the call's account in its reserve, as it changes; ``rate`` is what history's new loan paid."""

    call: _Call
    debt: StableDebt

    @property
    def owed(self) -> int:
        return self.debt.balance(self.call.now.timestamp)

    def lend(self, amount: int, rate: int) -> None:
        """StableDebtToken mint: the rate becomes the average by what is owed."""
        owed = self.owed
        weighted = ray_mul_half_up(self.debt.rate, owed * WAD_TO_RAY) + ray_mul_half_up(amount * WAD_TO_RAY, rate)
        average = ray_div_half_up(weighted, (owed + amount) * WAD_TO_RAY)
        self.call.touched_reserves.mint_stable(self.call.asset, amount, rate)
        self.debt = StableDebt(owed + amount, average, self.call.now.timestamp)
        self._tell(amount, rate)

    def pay(self, amount: int) -> None:
        """StableDebtToken burn."""
        left = self.owed - amount
        self.call.touched_reserves.burn_stable(self.call.asset, self.debt, amount)
        self.debt = StableDebt(left, self.debt.rate, self.call.now.timestamp) if left else StableDebt()
        self._tell(-amount)

    def _tell(self, moved: int, rate: int | None = None) -> None:
        call, debt = self.call, self.debt
        terms = {"stable_principal": debt.principal, "stable_rate": debt.rate, "stable_since": debt.since}
        if rate is not None:
            terms["stable_loan_rate"] = rate
        for setting, value in (terms | {"stable_moved": moved}).items():
            call.effects.setting(call.account, setting, call.asset, value)


def _stable(
    call: _Call, loans: list[SettingChange], moves: list[PositionChange], terms: Mapping[str, int]
) -> Acted | Refusal | None:
    """A call that moves stable debt: borrow, repay, and of one account in one asset swap of the rate mode or
    rebalance. Users' responses leave stable loans as they are: ``Action.amount`` is not asked.
    """
    loan = _Loan(call, call.book.stable.get(call.asset, StableDebt()))
    moved, rate, swapped = loans[0].value, terms.get("stable_loan_rate", 0), 0
    variable = next((move for move in moves if move.side == "debt"), None)
    if call.action.name == "borrow":
        refused, brought = _borrow_stable(loan, moved, rate), -moved
    elif call.action.name == "repay":
        if not loan.owed:
            return Refusal(NO_STABLE)
        brought = loan.owed if not terms.get("stable_principal") else min(-moved, loan.owed)
        refused = None
        loan.pay(brought)
    elif variable is not None:
        swapped = loan.owed if moved < 0 else call.variable
        refused, brought = _swap(loan, to_variable=moved < 0, rate=rate), 0
    elif len(loans) == 2:
        refused, brought = _rebalance(loan, rate), 0
    else:
        return None
    if refused:
        return Refusal(refused)
    call.touched_reserves.move(call.asset, liquidity=brought)
    return call.acted(swapped or abs(brought), brought, risky=call.action.name != "repay")


def _borrow_stable(loan: _Loan, amount: int, rate: int) -> str | None:
    call, reserve = loan.call, loan.call.reserve
    if reason := _not_covered(call, amount) or _not_at_stable_rate(call, amount):
        return reason
    most = percent_mul_half_up(max(reserve.liquidity, 0), MOST_OF_LIQUIDITY)
    if amount > most and lacks(call.state, reserve, reserve.liquidity + 1, call.now):
        return "one stable loan may not take so much of the liquidity"
    loan.lend(amount, rate)
    return None


def _not_at_stable_rate(call: _Call, amount: int) -> str | None:
    """Where the reserve has no stable rate; and such a debt must exceed what the account has of the same asset as
    collateral.
    """
    if not call.reserve.stable_borrowing_enabled:
        return "the asset cannot be borrowed at a stable rate"
    if call.asset in call.book.enabled and call.reserve.ltv and amount <= call.supplied:
        return "the account has more of the asset as collateral than it would owe at a stable rate"
    return None


def _swap(loan: _Loan, *, to_variable: bool, rate: int) -> str | None:
    """All of the account's debt of one kind becomes one of the other."""
    call, owed = loan.call, loan.owed
    if to_variable:
        if not owed:
            return NO_STABLE
        loan.pay(owed)
        scaled = ray_div_half_up(owed, call.stored_index)
    else:
        variable = call.variable
        if not variable:
            return NOTHING_OWED
        if reason := _not_at_stable_rate(call, owed + variable):
            return reason
        scaled = -ray_div_half_up(variable, call.stored_index)
        if -scaled > call.book.debt[call.asset]:
            return "the debt that the call may burn is less than what it counts"
        loan.lend(variable, rate)
    if not scaled:
        return "the amount is too small to be swapped"
    call.effects.position(call.account, call.asset, "debt", scaled)
    call.touched_reserves.move(call.asset, debt=scaled)
    return None


def _rebalance(loan: _Loan, rate: int) -> str | None:
    owed = loan.owed
    if not owed:
        return NO_STABLE
    loan.pay(owed)
    loan.lend(owed, rate)
    return None


# -- history's own ---------------------------------------------------------------------------------------------------


def _parameter(state: AaveV2State, change: ParamChange, now: Clock) -> Acted:
    """A parameter of the market, or a flash loan's premium, where interest is recomputed. The configurator accrues
    nothing before it changes one.
    """
    if change.name != "flash_premium" or change.asset is None:
        return Acted(AccountId(-1), (change,))
    touched_reserves = TouchedReserves(state, now)
    touched_reserves.premium(change.asset, change.value)
    return Acted(AccountId(-1), tuple(touched_reserves.changes()))


def _recorded(state: AaveV2State, action: Action) -> Acted:
    """History's own changes, no balance below zero: the treasury's share, and what has no rule here (stray logs)."""
    changes: list[Effect] = []
    for change in action.changes:
        if isinstance(change, PositionChange) and change.delta < 0:
            book = state.accounts.get(change.account) or Account()
            held = (book.debt if change.side == "debt" else book.collateral).get(change.asset, 0)
            if -change.delta > held:
                change = replace(change, delta=-held)
        if not isinstance(change, PositionChange) or change.delta:
            changes.append(change)
    first = action.changes[0]
    assert not isinstance(first, ParamChange)
    return Acted(first.account, tuple(changes))


_CALLS: dict[str, Callable[[_Call, list[PositionChange]], Acted | Refusal | None]] = {
    "supply": _deposit,
    "withdraw": _withdraw,
    "borrow": _borrow,
    "repay": _repay,
    "transfer": _transfer,
}
