"""What a user's call does in a book that may differ from history's: supply, withdraw, borrow, repay, transfer, flags,
e-mode.

Each call in four parts: ACCRUE, SIZE, CHECK, SETTLE. Source: SupplyLogic, BorrowLogic, BridgeLogic, EModeLogic,
PoolLogic.executeMintToTreasury, LiquidationLogic.executeEliminateDeficit; ValidationLogic.validateSupply,
validateWithdraw, validateBorrow, validateHFAndLtv (validateHFAndLtvzero from 3.5 on), validateSetUserEMode,
validateUseAsCollateral, validateAutomaticUseAsCollateral, validateSwapRateMode, validateRebalanceStableBorrowRate;
``rules`` says which version does what.

Checked again is what another book, other parameters or other prices can change. A reserve's flags (active, paused,
frozen) are history's and let
the call pass then. Not checked: the debt ceiling of isolated collateral. Caps are checked where interest is
recomputed, since only there the totals they are held against are known; liquidity as ``state.lacks`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from backtest.errors import PriceMissing, RulesError
from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange, SettingChange
from backtest.protocols.aave_v3.account import (
    AccountData,
    account_data,
    account_view,
    category_of,
    debts,
    is_collateral,
    loan_to_value,
    price_of,
    price_source,
)
from backtest.protocols.aave_v3.effects import Effect, Effects, applied
from backtest.protocols.aave_v3.interest import TouchedReserves, accrued_indexes, rates
from backtest.protocols.aave_v3.math import percent_div_half_up, percent_div_up, percent_mul_half_up
from backtest.protocols.aave_v3.rules import LIQUIDATION_HEALTH, Rules
from backtest.protocols.aave_v3.stable import (
    MOST_OF_LIQUIDITY,
    REBALANCED_BELOW,
    StableTotal,
    burned,
    minted,
    total_of,
)
from backtest.protocols.aave_v3.state import AaveState, Account, Reserve, StableDebt, lacks
from backtest.protocols.changes import position_change
from backtest.protocols.interface import AccountView, Acted, Action, Refusal

NO_LIQUIDITY = "the reserve has not enough liquidity"

_RATE_DATA = frozenset({"reserve_factor", "optimal_usage", "base_rate", "slope1", "slope2"})


@dataclass(slots=True)
class _Call:
    """One call being made. ``reserve`` is that of its asset, ``supply_index`` and ``borrow_index`` as the call accrues
    them.
    """

    state: AaveState
    rules: Rules
    oracle: Mapping[AssetId, int]
    now: Clock
    action: Action
    effects: Effects
    touched_reserves: TouchedReserves
    change: PositionChange
    reserve: Reserve
    supply_index: int
    borrow_index: int

    def empties(self, change: PositionChange) -> bool:
        """History's balance was nothing after this change."""
        return self.action.changes.index(change) in self.action.emptied

    def asked(self) -> int:
        """Native units that the call asks for: given, as logged, or what the scaled change was worth where no log says
        it.
        """
        if self.action.amount is not None:
            return self.action.amount
        if self.change.amount is not None:
            return self.change.amount
        if self.change.side == "debt":
            return self.rules.debt_balance(abs(self.change.delta), self.borrow_index)
        return self.rules.collateral_balance(abs(self.change.delta), self.supply_index)

    def account(self, account: AccountId) -> Account:
        return self.state.accounts.get(account) or Account()

    def acted(self, account: AccountId, amount: int, view: AccountView | None = None) -> Acted:
        moved = () if self.state.recompute else self.touched_reserves.moved()
        return Acted(account, (*self.everything(), *moved), amount, view)

    def everything(self) -> list[Effect]:
        """Effects on the book, and on the reserves where interest is recomputed."""
        return [*self.effects.all, *self.touched_reserves.changes()] if self.state.recompute else list(self.effects.all)

    def after(self, account: AccountId) -> AccountData:
        """The account's six numbers once the call is made; PriceMissing."""
        with applied(self.state, self.everything()):
            return account_data(self.state, account, self.oracle, self.now)

    def lacks(self, amount: int) -> Refusal | None:
        """Whether the reserve has less of the underlying than this."""
        return Refusal(NO_LIQUIDITY) if lacks(self.state, self.reserve, amount, self.now) else None


def act(state: AaveState, action: Action, oracle: Mapping[AssetId, int], now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. Parameters and flash loans come as an action ``parameter`` where interest is
    recomputed.
    """
    first = action.changes[0]
    if isinstance(first, ParamChange):
        return _parameter(state, first, now)
    call = _CALLS.get(action.name)
    if isinstance(first, SettingChange) and action.name in ("collateral-flag", "emode"):
        return _setting(state, action, first, oracle, now)
    moves = [change for change in action.changes if isinstance(change, PositionChange)]
    loans = [c for c in action.changes if isinstance(c, SettingChange) and c.setting == "stable_moved"]
    if loans:
        try:
            return _stable(state, action, loans, moves, oracle, now)
        except PriceMissing as missing:
            return Refusal(missing.what)
    if call is None or not moves:
        return _recorded(state, action)
    change = next((move for move in moves if move.side == "debt"), moves[0]) if action.name == "repay" else moves[0]
    reserve = state.reserves[change.asset]
    supply, borrow = accrued_indexes(reserve, state.rules, now.timestamp)
    effects, touched_reserves = Effects(now, action.name), TouchedReserves(state, now)
    try:
        return call(
            _Call(state, state.rules, oracle, now, action, effects, touched_reserves, change, reserve, supply, borrow),
            moves,
        )
    except PriceMissing as missing:
        return Refusal(missing.what)


# -- supply, withdraw
# ---------------------------------------------------------------------------------------------------


def _supply(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    rules, reserve, account = call.rules, call.reserve, call.change.account
    amount = call.asked()
    scaled = rules.collateral_minted(amount, call.supply_index)
    if not scaled:
        return Refusal("the amount is too small to be supplied")
    if call.state.recompute and reserve.supply_cap:
        accrued = call.touched_reserves.accrue(reserve.asset).accrued_to_treasury
        more, native = (scaled, 0) if rules.directed else (0, amount)
        if (
            rules.collateral_balance(reserve.scaled_supply + more + accrued, call.supply_index) + native
            > reserve.supply_cap * reserve.unit
        ):
            return Refusal("the supply cap would be exceeded")
    call.effects.position(account, reserve.asset, "collateral", scaled)
    if call.action.name == "mint-unbacked":
        call.touched_reserves.move(reserve.asset, unbacked=amount)
    else:
        call.touched_reserves.move(reserve.asset, liquidity=amount)
    if not call.account(account).collateral.get(reserve.asset) and may_enable_by_itself(call.state, account, reserve):
        call.effects.setting(account, "collateral_enabled", reserve.asset, 1)
    return call.acted(account, amount)


def _withdraw(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    rules, reserve, account = call.rules, call.reserve, call.change.account
    book = call.account(account)
    held = book.collateral.get(reserve.asset, 0)
    balance = rules.collateral_balance(held, call.supply_index)
    amount, scaled = (balance, held) if call.empties(call.change) else (call.asked(), 0)
    scaled = scaled or rules.collateral_scaled(amount, call.supply_index)
    if not amount or not scaled:
        return Refusal("there is nothing to withdraw" if not held else "the amount is too small to be withdrawn")
    if scaled > held or (amount > balance and not rules.directed):
        return Refusal("the account has less than that")
    if refusal := call.lacks(amount):
        return refusal
    call.effects.position(account, reserve.asset, "collateral", -scaled)
    call.touched_reserves.move(reserve.asset, liquidity=-amount)
    flagged = reserve.asset in book.enabled
    if flagged and (scaled == held if rules.directed else amount == balance):
        call.effects.setting(account, "collateral_enabled", reserve.asset, 0)
    return _checked_exit(call, account, amount, flagged and borrows(book))


def _transfer(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    rules, reserve = call.rules, call.reserve
    source = next((move for move in moves if move.delta < 0), None)
    target = next((move for move in moves if move.delta > 0), None)
    if source is None or target is None:
        return _recorded(call.state, call.action)
    book = call.account(source.account)
    held = book.collateral.get(reserve.asset, 0)
    balance = rules.collateral_balance(held, call.supply_index)
    amount, scaled = (balance, held) if call.empties(source) else (call.asked(), 0)
    scaled = scaled or rules.collateral_scaled(amount, call.supply_index)
    if not held and amount:
        return Refusal("there is nothing to transfer")
    if scaled > held:
        return Refusal("the account has less than that")
    call.effects.position(source.account, reserve.asset, "collateral", -scaled)
    call.effects.position(target.account, reserve.asset, "collateral", scaled)
    flagged = reserve.asset in book.enabled
    if flagged and (scaled == held if rules.directed else amount == balance):
        call.effects.setting(source.account, "collateral_enabled", reserve.asset, 0)
    receiver = call.account(target.account)
    if (
        rules.receiver_enables
        and not receiver.collateral.get(reserve.asset)
        and may_enable_by_itself(call.state, target.account, reserve)
    ):
        call.effects.setting(target.account, "collateral_enabled", reserve.asset, 1)
    return _checked_exit(call, source.account, amount, flagged and borrows(book) and amount > 0)


def _checked_exit(call: _Call, account: AccountId, amount: int, risky: bool) -> Acted | Refusal:
    """Collateral leaves an account: health is checked where it has debt (validateHFAndLtv, from 3.5 on
    validateHFAndLtvzero).
    """
    if not risky:
        return call.acted(account, amount)
    data = call.after(account)
    if reason := _unhealthy(call, account, data, call.reserve):
        return Refusal(reason)
    return call.acted(account, amount, account_view(call.rules, data))


def _unhealthy(call: _Call, account: AccountId, data: AccountData, reserve: Reserve) -> str | None:
    """Health below one; or a collateral without loan-to-value stays while another one leaves."""
    if data.health_factor < LIQUIDATION_HEALTH:
        return "health factor would fall below 1"
    state, rules, book = call.state, call.rules, call.account(account)
    category = category_of(state, book)
    own = (lambda r: loan_to_value(rules, r, book, category)) if rules.emode_ltv_own else (lambda r: r.ltv)
    if not own(reserve):
        return None
    enabled = (state.reserves[asset] for asset in book.enabled)
    without = [other.asset for other in enabled if not own(other) and is_collateral(rules, other)]
    if not without:  # nor is there any afterwards: a call that leaves enables nothing else
        return None
    with applied(state, call.everything()):
        stays = not call.account(account).enabled.isdisjoint(without)
    return "collateral without loan-to-value has to leave first" if stays else None


# -- borrow, repay
# ------------------------------------------------------------------------------------------------------


def _borrow(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    rules, reserve, account = call.rules, call.reserve, call.change.account
    amount = call.asked()
    scaled = rules.debt_minted(amount, call.borrow_index)
    if not scaled:
        return Refusal("the amount is too small to be borrowed")
    if reason := _not_borrowable(call, account, scaled, amount):
        return Refusal(reason)
    if refusal := call.lacks(amount):
        return refusal
    call.effects.position(account, reserve.asset, "debt", scaled)
    call.touched_reserves.move(reserve.asset, debt=scaled, liquidity=-amount)
    if not rules.borrow_checked_after and (reason := _not_covered_before(call, account, amount)):
        return Refusal(reason)
    after = call.after(account)
    if rules.borrow_checked_after:
        needed = after.ltv and percent_div_up(after.total_debt_base, after.ltv)
        if reason := _not_covered(after, after.health_factor >= LIQUIDATION_HEALTH, needed):
            return Refusal(reason)
    return call.acted(account, amount, account_view(rules, after))


def _not_covered_before(call: _Call, account: AccountId, amount: int) -> str | None:
    """validateBorrow to 3.4: the account as it is, and what it wants beside it, by the e-mode's price where that has
    one, whatever the asset's category (3.0 and 3.1).
    """
    reserve, data = call.reserve, account_data(call.state, account, call.oracle, call.now)
    source = price_source(call.rules, category_of(call.state, call.state.accounts.get(account, Account())))
    price = price_of(call.state, reserve.asset if source is None else source, call.oracle, call.now)
    value = price * amount // reserve.unit
    needed = data.ltv and percent_div_half_up(data.total_debt_base + value, data.ltv)
    return _not_covered(data, data.health_factor > LIQUIDATION_HEALTH, needed)


def _not_covered(data: AccountData, healthy: bool, needed: int) -> str | None:
    if not data.total_collateral_base or not data.ltv:
        return "the account has no collateral with a loan-to-value"
    if not healthy:
        return "health factor would be below 1"
    return "the collateral cannot cover the new debt" if needed > data.total_collateral_base else None


def _not_borrowable(call: _Call, account: AccountId, scaled: int, amount: int) -> str | None:
    """validateBorrow, what does not depend on values: e-mode, isolation, siloed assets, and the borrow cap."""
    state, rules, reserve = call.state, call.rules, call.reserve
    book = call.account(account)
    if book.emode and not _borrowable_in_emode(state, rules, reserve, book.emode):
        return "the asset cannot be borrowed in the account's e-mode"
    if not reserve.borrowing_enabled and not (book.emode and rules.emode_lists_all):
        return "the asset cannot be borrowed"
    if _isolated(state, rules, book) and not reserve.borrowable_in_isolation:
        return "the asset cannot be borrowed in isolation"
    owed = [asset for asset in debts(book) if asset != reserve.asset]
    if owed and (reserve.siloed or any(state.reserves[asset].siloed for asset in owed)) and not rules.isolated_emode:
        return "a siloed asset would not be the only debt"
    if state.recompute and reserve.borrow_cap:
        if rules.directed:
            total = rules.debt_balance(reserve.scaled_debt + scaled, call.borrow_index)
        else:
            total = rules.debt_balance(reserve.scaled_debt, call.borrow_index) + amount
            total += total_of(reserve).at(call.now.timestamp)
        if total > reserve.borrow_cap * reserve.unit:
            return "the borrow cap would be exceeded"
    return None


def _repay(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    rules, reserve, change = call.rules, call.reserve, call.change
    if change.side != "debt":
        return _recorded(call.state, call.action)
    tokens = next((move for move in moves if move.side == "collateral"), None)
    owed = call.account(change.account).debt.get(reserve.asset, 0)
    debt = rules.debt_balance(owed, call.borrow_index)
    if not debt:
        return Refusal("the account has no debt in this asset")
    cleared = call.empties(change)
    paid = debt if cleared else min(call.asked(), debt)
    if tokens is not None:
        payer = call.account(tokens.account)
        held = payer.collateral.get(reserve.asset, 0)
        if cleared or call.empties(tokens):
            paid = min(rules.collateral_balance(held, call.supply_index), debt)
    scaled = rules.debt_scaled(paid, call.borrow_index)
    if not scaled:
        return Refusal("the amount is too small to be repaid")
    call.effects.position(change.account, reserve.asset, "debt", -scaled)
    call.touched_reserves.move(reserve.asset, debt=-scaled, liquidity=0 if tokens is not None else paid)
    if tokens is not None and (reason := _paid_in_tokens(call, tokens.account, paid, still_owes=scaled < owed)):
        return Refusal(reason)
    return call.acted(change.account, paid)


def _paid_in_tokens(call: _Call, account: AccountId, paid: int, *, still_owes: bool) -> str | None:
    """The payer's collateral tokens are burned for what is paid; why they cannot be."""
    rules, reserve, payer = call.rules, call.reserve, call.account(account)
    held, gone = payer.collateral.get(reserve.asset, 0), rules.collateral_scaled(paid, call.supply_index)
    if not gone or gone > held:
        return "the payer has fewer collateral tokens than that"
    call.effects.position(account, reserve.asset, "collateral", -gone)
    flagged = reserve.asset in payer.enabled
    if rules.repay_with_tokens and flagged and gone == held:
        call.effects.setting(account, "collateral_enabled", reserve.asset, 0)
    still_owes = still_owes or any(asset != reserve.asset for asset in debts(payer))
    if (
        rules.repay_with_tokens == 2
        and flagged
        and still_owes
        and call.after(account).health_factor < LIQUIDATION_HEALTH
    ):
        return "health factor would fall below 1"
    return None


# -- stable-rate loans (3.0, 3.1)
# ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Loan:
    """The stable debt of one account in the reserve of a call, as it changes."""

    call: _Call
    account: AccountId
    debt: StableDebt
    recorded: Mapping[str, int]
    """History's terms after the action."""
    paid: int = 0

    @property
    def owed(self) -> int:
        return self.debt.balance(self.call.now.timestamp)

    def rate(self) -> int:
        """What a new loan pays: the reserve's rate, and history's own where interest is not recomputed (see
        ``rules.ASSUMPTIONS``).

        Raises RulesError where the strategy's stable rates are not known.
        """
        call, reserve = self.call, self.call.reserve
        if not call.state.recompute:
            return self.recorded.get("stable_rate", 0)
        if call.rules.quotes_stable and reserve.stable_base is None:
            raise RulesError(
                f"block {call.now.block_number}: the stable rates of {call.state.market.assets[reserve.asset].symbol}"
                " are not known, so its interest cannot be recomputed",
                "fetch the market again with this version, or replay with rates = 'historical'",
            )
        return reserve.stable_borrow_rate

    def lend(self, amount: int, rate: int) -> None:
        call = self.call
        if call.state.recompute:
            self.debt = call.touched_reserves.mint_stable(call.reserve.asset, self.debt, amount, rate)
        else:
            self.debt = minted(StableTotal(), self.debt, amount, rate, call.now.timestamp)[1]
        self._tell(amount)

    def pay(self, amount: int) -> None:
        call = self.call
        if call.state.recompute:
            self.debt = call.touched_reserves.burn_stable(call.reserve.asset, self.debt, amount)
        else:
            self.debt = burned(StableTotal(), self.debt, amount, call.now.timestamp)[1]
        self.paid += amount
        self._tell(-amount)

    def _tell(self, moved: int) -> None:
        effects, asset, debt = self.call.effects, self.call.reserve.asset, self.debt
        effects.setting(self.account, "stable_principal", asset, debt.principal)
        effects.setting(self.account, "stable_rate", asset, debt.rate)
        effects.setting(self.account, "stable_since", asset, debt.since)
        effects.setting(self.account, "stable_moved", asset, moved)


def _stable(
    state: AaveState,
    action: Action,
    moved: list[SettingChange],
    moves: list[PositionChange],
    oracle: Mapping[AssetId, int],
    now: Clock,
) -> Acted | Refusal:
    """A call that moves stable debt: borrow, repay, and of one account in one asset swap of the rate mode or rebalance
    (BorrowLogic). No amount is told but that of tokens that pay: users' responses leave stable loans as they are.
    """
    first = moved[0]
    account, asset = first.account, first.asset or AssetId(0)
    reserve = state.reserves[asset]
    supply, borrow = accrued_indexes(reserve, state.rules, now.timestamp)
    effects, touched_reserves = Effects(now, action.name), TouchedReserves(state, now)
    call = _Call(state, state.rules, oracle, now, action, effects, touched_reserves, _NO_MOVE, reserve, supply, borrow)
    debt = call.account(account).stable.get(asset, StableDebt())
    loan = _Loan(call, account, debt, {c.setting: c.value for c in action.changes if isinstance(c, SettingChange)})
    variable = next((move for move in moves if move.side == "debt"), None)
    if action.name == "borrow":
        refused = _borrow_stable(loan, first.value)
    elif action.name == "repay":
        refused = _repay_stable(loan, -first.value, next((move for move in moves if move.side == "collateral"), None))
    elif variable is not None:
        refused = _swap(loan, to_variable=first.value < 0)
    elif len(moved) == 2:
        refused = _rebalance(loan)
    else:
        return _recorded(state, action)
    if refused:
        return Refusal(refused)
    if action.name == "repay":
        return call.acted(account, loan.paid if moves else 0)
    return call.acted(account, 0, account_view(call.rules, call.after(account)))


def _borrow_stable(loan: _Loan, amount: int) -> str | None:
    call, account = loan.call, loan.account
    if reason := _not_borrowable(call, account, 0, amount) or _own_currency(loan, amount):
        return reason
    if call.state.recompute and amount > percent_mul_half_up(call.reserve.liquidity, MOST_OF_LIQUIDITY):
        return "one stable loan may not take so much of the liquidity"
    if reason := _not_covered_before(call, account, amount):
        return reason
    loan.lend(amount, loan.rate())
    call.touched_reserves.move(call.reserve.asset, liquidity=-amount)
    return None


def _own_currency(loan: _Loan, amount: int) -> str | None:
    """A stable debt must exceed what the account has of the same asset as collateral (validateBorrow,
    validateSwapRateMode).
    """
    call, reserve = loan.call, loan.call.reserve
    book = call.account(loan.account)
    held = call.rules.collateral_balance(book.collateral.get(reserve.asset, 0), call.supply_index)
    if reserve.asset in book.enabled and reserve.ltv and amount <= held:
        return "the account has more of the asset as collateral than it would owe at a stable rate"
    return None


def _repay_stable(loan: _Loan, asked: int, tokens: PositionChange | None) -> str | None:
    call, owed = loan.call, loan.owed
    if not owed:
        return "the account has no stable debt in this asset"
    cleared = not loan.recorded["stable_principal"]
    paid = owed if cleared else min(asked, owed)
    if tokens is not None and (cleared or call.empties(tokens)):
        held = call.account(tokens.account).collateral.get(call.reserve.asset, 0)
        paid = min(call.rules.collateral_balance(held, call.supply_index), owed)
    loan.pay(paid)
    call.touched_reserves.move(call.reserve.asset, liquidity=0 if tokens is not None else paid)
    if tokens is None:
        return None
    still_owes = paid < owed or bool(call.account(loan.account).debt.get(call.reserve.asset))
    return _paid_in_tokens(call, tokens.account, paid, still_owes=still_owes)


def _swap(loan: _Loan, *, to_variable: bool) -> str | None:
    """executeSwapBorrowRateMode: all of the account's debt of one kind becomes one of the other."""
    call, asset, rules, owed = loan.call, loan.call.reserve.asset, loan.call.rules, loan.owed
    scaled = call.account(loan.account).debt.get(asset, 0)
    if to_variable:
        if not owed:
            return "the account has no stable debt in this asset"
        loan.pay(owed)
        scaled = rules.debt_minted(owed, call.borrow_index)
    else:
        variable = rules.debt_balance(scaled, call.borrow_index)
        if not variable:
            return "the account has no debt in this asset"
        if reason := _own_currency(loan, owed + variable):
            return reason
        scaled = -rules.debt_scaled(variable, call.borrow_index)
        loan.lend(variable, loan.rate())
    if not scaled:
        return "the amount is too small to be swapped"
    call.effects.position(loan.account, asset, "debt", scaled)
    call.touched_reserves.move(asset, debt=scaled)
    return None


def _rebalance(loan: _Loan) -> str | None:
    """executeRebalanceStableBorrowRate, where suppliers get little compared with the variable rate."""
    call, reserve, owed = loan.call, loan.call.reserve, loan.owed
    if not owed:
        return "the account has no stable debt in this asset"
    if call.state.recompute:
        debt = call.rules.debt_balance(reserve.scaled_debt, call.borrow_index)
        only_variable, _ = rates(
            call.state,
            reserve,
            call.now,
            debt=debt + total_of(reserve).at(call.now.timestamp),
            liquidity=reserve.liquidity,
            deficit=0,
            unbacked=reserve.unbacked,
        )
        if reserve.supply_rate > percent_mul_half_up(only_variable, REBALANCED_BELOW):
            return "the supply rate is too high for a rebalance"
    rate = loan.rate()
    loan.pay(owed)
    loan.lend(owed, rate)
    return None


# -- settings
# -----------------------------------------------------------------------------------------------------------


def _setting(
    state: AaveState, action: Action, change: SettingChange, oracle: Mapping[AssetId, int], now: Clock
) -> Acted | Refusal:
    """A collateral flag or an e-mode that the user sets."""
    account, book, rules = change.account, state.accounts.get(change.account) or Account(), state.rules
    effects = Effects(now, action.name)
    effects.setting(account, change.setting, change.asset, change.value)
    reserve = state.reserves[change.asset or AssetId(0)]
    call = _Call(state, rules, oracle, now, action, effects, TouchedReserves(state, now), _NO_MOVE, reserve, 0, 0)
    if change.setting == "emode":
        refused = _wrong_emode(state, rules, book, change.value)
        checked = book.emode != change.value if rules.emode_always_checked else book.emode != 0
    else:
        if (change.asset in book.enabled) == bool(change.value):
            return Acted(account, ())
        refused = _not_usable(state, account, reserve) if change.value else None
        checked = not change.value
    if refused:
        return Refusal(refused)
    if not checked:
        return call.acted(account, 0)
    try:
        data = call.after(account)
    except PriceMissing as missing:
        return Refusal(missing.what)
    reason = _unhealthy(call, account, data, reserve) if change.setting != "emode" else None
    if reason or data.health_factor < LIQUIDATION_HEALTH:
        return Refusal(reason or "health factor would fall below 1")
    return call.acted(account, 0, account_view(rules, data) if data.total_debt_base else None)


def _wrong_emode(state: AaveState, rules: Rules, book: Account, chosen: int) -> str | None:
    category = state.categories.get(chosen)
    if chosen and (category is None or not category.liquidation_threshold):
        return "the e-mode category does not exist"
    for asset in debts(book):
        reserve = state.reserves[asset]
        if chosen and not _borrowable_in_emode(state, rules, reserve, chosen):
            return "a debt of the account is not borrowable in the e-mode"
        if not chosen and rules.emode_lists_all and not reserve.borrowing_enabled:
            return "a debt of the account is not borrowable outside an e-mode"
    if rules.emode_lists_all:
        entered = Account(emode=chosen)
        if any(not loan_to_value(rules, state.reserves[asset], entered, category) for asset in book.enabled):
            return "a collateral of the account has no loan-to-value in the e-mode"
    return None


def _borrowable_in_emode(state: AaveState, rules: Rules, reserve: Reserve, category: int) -> bool:
    if not rules.emode_by_bitmap:
        return reserve.emode_category == category
    return category in state.categories and reserve.asset in state.categories[category].borrowable


def _not_usable(state: AaveState, account: AccountId, reserve: Reserve) -> str | None:
    """validateUseAsCollateral, and that there is a balance."""
    book = state.accounts.get(account) or Account()
    if not book.collateral.get(reserve.asset):
        return "the account has nothing of the asset"
    return None if _usable(state, book, reserve) else "the asset has no loan-to-value, or other collateral is isolated"


def _usable(state: AaveState, book: Account, reserve: Reserve) -> bool:
    rules, category = state.rules, category_of(state, book)
    ltv = loan_to_value(rules, reserve, book, category) if rules.emode_ltv_own else reserve.ltv
    if not ltv or rules.isolated_emode:
        return bool(ltv)
    return not book.enabled or not (reserve.debt_ceiling or _isolated(state, rules, book))


def _isolated(state: AaveState, rules: Rules, book: Account) -> bool:
    """Whether the account's only collateral is an isolated asset (UserConfiguration.getIsolationModeState; gone in
    3.7).
    """
    return (
        not rules.isolated_emode
        and len(book.enabled) == 1
        and bool(state.reserves[next(iter(book.enabled))].debt_ceiling)
    )


def may_enable_by_itself(state: AaveState, account: AccountId, reserve: Reserve) -> bool:
    """Whether a first balance becomes collateral (validateAutomaticUseAsCollateral): isolated assets never, see
    ``rules.ASSUMPTIONS``.
    """
    if reserve.debt_ceiling and not state.rules.isolated_emode:
        return False
    return _usable(state, state.accounts.get(account) or Account(), reserve)


# -- the protocol's own
# ---------------------------------------------------------------------------------------------------


def _treasury(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    if not call.state.recompute:
        return _recorded(call.state, call.action)
    asset, account = call.reserve.asset, call.change.account
    scaled = call.touched_reserves.mint_to_treasury(asset)
    if not scaled:
        return Refusal("nothing had accrued to the treasury")
    call.effects.position(account, asset, "collateral", scaled)
    call.effects.param("accrued_to_treasury", asset, 0)
    return Acted(account, tuple(call.effects.all), call.rules.collateral_balance(scaled, call.supply_index))


def _cover(call: _Call, moves: list[PositionChange]) -> Acted | Refusal:
    rules, reserve, account = call.rules, call.reserve, call.change.account
    book = call.account(account)
    held = book.collateral.get(reserve.asset, 0)
    amount = min(call.asked(), reserve.deficit)
    scaled = rules.collateral_scaled(amount, call.supply_index)
    if not amount:
        return Refusal("there is no deficit to cover")
    if scaled > held:
        return Refusal("the account has less than that")
    call.effects.position(account, reserve.asset, "collateral", -scaled)
    if reserve.asset in book.enabled and scaled == held:
        call.effects.setting(account, "collateral_enabled", reserve.asset, 0)
    call.effects.param("deficit_created", reserve.asset, -amount)
    call.touched_reserves.move(reserve.asset, deficit=-amount)
    return call.acted(account, amount)


def _parameter(state: AaveState, change: ParamChange, now: Clock) -> Acted:
    """A parameter of the market, or a flash loan's premium, where interest is recomputed.

    From 3.1 on the configurator accrues a reserve before its factor or rate data change, and new rates hold at once
    (PoolConfigurator.setReserveFactor, setReserveInterestRateData); not at its listing, when nothing is in it.
    """
    nobody = AccountId(-1)
    asset = change.asset
    reserve_calls = {
        "flash_premium": TouchedReserves.premium,
        "bridge_fee": TouchedReserves.bridge_fee,
        "backed": TouchedReserves.back,
    }
    if change.name == "reserve_id" and asset is not None and state.reserves[asset].updated:  # listed again
        listed = Reserve(asset, state.reserves[asset].unit, change.value)
        return Acted(nobody, (change, listed.as_update(now, 0, 0)))
    if asset is None or (change.name not in reserve_calls and change.name not in _RATE_DATA):
        return Acted(nobody, (change,))
    reserve = state.reserves[asset]
    touched_reserves = TouchedReserves(state, now)
    if change.name in reserve_calls:
        reserve_calls[change.name](touched_reserves, asset, change.value)
        return Acted(nobody, tuple(touched_reserves.changes()))
    listing = reserve.optimal_usage is None or (
        change.name != "reserve_factor" and not (reserve.scaled_supply or reserve.scaled_debt)
    )
    if state.revision is None or not state.rules.syncs_rates or listing:
        return Acted(nobody, (change,))
    touched_reserves.accrue(asset)
    accrued = touched_reserves.changes()
    with applied(state, [*accrued, change]):
        changed = state.reserves[asset]
        debt = state.rules.debt_balance(changed.scaled_debt, changed.borrow_index)
        supply_rate, borrow_rate = rates(
            state,
            changed,
            now,
            debt=debt,
            liquidity=changed.liquidity,
            deficit=changed.deficit,
            stable=(total_of(changed).at(now.timestamp), changed.stable_average),
            unbacked=changed.unbacked,
        )
        update = changed.as_update(now, supply_rate, borrow_rate)
    return Acted(nobody, (*accrued, change, update))


def _recorded(state: AaveState, action: Action) -> Acted:
    """History's own changes, no balance below zero: what has no rule here (stray logs)."""
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
    return Acted(first.account if not isinstance(first, ParamChange) else AccountId(-1), tuple(changes))


def borrows(book: Account) -> bool:
    """Whether the account has any debt (``isBorrowingAny``)."""
    return next(debts(book), None) is not None


_NO_MOVE = position_change(Clock(0, 0, 0), AccountId(-1), AssetId(0), "collateral", 0, action="")
_CALLS: dict[str, Callable[[_Call, list[PositionChange]], Acted | Refusal]] = {
    "supply": _supply,
    "withdraw": _withdraw,
    "borrow": _borrow,
    "repay": _repay,
    "transfer": _transfer,
    "treasury": _treasury,
    "cover": _cover,
    "mint-unbacked": _supply,
}
