"""What a user's call does in a book that may differ from history's, checked as the contract checks it.

Source: FraxFinance/fraxlend at 2bed49d4, ``src/contracts/FraxlendPairCore.sol`` ``deposit``, ``mint``, ``redeem``,
``withdraw``, ``borrowAsset``, ``addCollateral``, ``removeCollateral``, ``repayAsset``, ``leveragedPosition``,
``repayAssetWithCollateral``. What a swap gave is taken as in history, in proportion to what was sold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange, SettingChange
from backtest.protocols.fraxlend.account import high_rate_up, is_solvent, rate_down, view_of
from backtest.protocols.fraxlend.math import (
    PRECISION,
    to_amount_down,
    to_amount_up,
    to_shares_down,
    to_shares_up,
)
from backtest.protocols.fraxlend.state import (
    COLLATERAL,
    LENT,
    NO_LIMIT,
    FraxlendState,
    Position,
    accrual,
    indexes_after,
)
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.units import mul_div_down

Changes = list[PositionChange | SettingChange | ParamChange]


class _Reverts(Exception):
    """The contract would; the message is its error."""


def act(state: FraxlendState, action: Action, prices: Mapping[AssetId, int], now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. A call may name assets or shares, which its log does not say: of a deposit or a
    withdrawal taken is the one that gives the logged amounts in this book, else the assets.
    """
    if action.name == "parameter":
        return _parameter(state, action, now)
    moves = [(n, change) for n, change in enumerate(action.changes) if isinstance(change, PositionChange)]
    if action.name == "treasury":
        return Acted(moves[0][1].account, ())
    try:
        return _Call(state, action, prices, now).made(moves)
    except PriceMissing as missing:
        return Refusal(missing.what)
    except _Reverts as refused:
        return Refusal(str(refused))
    except ZeroDivisionError:
        return Refusal("a division by zero")


def _parameter(state: FraxlendState, action: Action, now: Clock) -> Acted:
    """Interest recomputed: an accrual by itself is made here too; one that an action made then comes with that action,
    where it is made.
    """
    nobody = AccountId(-1)
    names = {change.name for change in action.changes if isinstance(change, ParamChange)}
    if "accrued_with_action" in names:
        return Acted(nobody, ())
    if "accrued" in names:
        return Acted(nobody, (*accrual(state, now), *indexes_after(state, state.accrued(now.timestamp), now)))
    return Acted(nobody, action.changes)


class _Call:
    """One call: the account's position and the totals as it goes on."""

    def __init__(self, state: FraxlendState, action: Action, prices: Mapping[AssetId, int], now: Clock) -> None:
        self.state, self.action, self.prices, self.now = state, action, prices, now
        self.totals = state.accrued(now.timestamp)
        self.has = Position()
        self.checked = False
        self.amount = 0

    def made(self, moves: list[tuple[int, PositionChange]]) -> Acted:
        account = moves[0][1].account
        self.has = self.state.of(account)
        # FraxlendPair.withdrawFees does not accrue.
        fees = self.action.name == "withdraw" and account == self.state.pair
        if fees:
            self.totals = replace(self.state.totals)
        changes: Changes = [] if fees else [*accrual(self.state, self.now)]
        if self.action.name == "transfer":
            changes += self._transfer(moves)
        elif len(moves) > 1:
            changes += self._leveraged([change for _, change in moves])
        else:
            place, main = moves[0]
            changes.append(self._single(main, place in self.action.emptied))
        if self.checked:
            self._check()
        after = view_of(self.state, self.has, self.totals, self.prices) if self.checked and self._owes else None
        return Acted(account, (*changes, *indexes_after(self.state, self.totals, self.now)), self.amount, after)

    @property
    def _owes(self) -> bool:
        return bool(self.has.borrow_shares)

    def _check(self) -> None:
        """The modifier ``isSolvent`` and, of whoever owes, the two rates of ``_updateExchangeRate``."""
        if not self._owes:
            return
        rate = rate_down(self.state, self.prices)
        high = high_rate_up(self.state, rate)
        if high and mul_div_down(PRECISION, high - rate, high) > self.state.params.get("max_deviation", PRECISION):
            raise _Reverts("ExceedsMaxOracleDeviation")
        if not is_solvent(self.state, self.has, self.totals, high):
            raise _Reverts("Insolvent")

    def _single(self, main: PositionChange, emptied: bool) -> PositionChange:
        if main.asset == COLLATERAL:
            return self._collateral(main, emptied)
        if main.side == "debt":
            return self._borrow(main) if self.action.name == "borrow" else self._repay(main, emptied)
        return self._lend(main, emptied)

    def _wanted(self, main: PositionChange) -> int:
        recorded = main.amount or 0
        return recorded if self.action.amount is None else self.action.amount

    def _collateral(self, main: PositionChange, emptied: bool) -> PositionChange:
        amount = self.has.collateral if emptied else self._wanted(main)
        if self.action.name == "supply":
            return self._moved(main, COLLATERAL, amount, amount)
        if amount > self.has.collateral:
            raise _Reverts("more collateral than there is")
        self.checked = True
        return self._moved(main, COLLATERAL, -amount, amount)

    def _borrow(self, main: PositionChange, amount: int | None = None) -> PositionChange:
        amount, totals = self._wanted(main) if amount is None else amount, self.totals
        if _above(self.state, "borrow_limit", totals.borrowed + amount):
            raise _Reverts("ExceedsBorrowLimit")
        self._available(amount)
        self.checked = True
        shares = to_shares_up(amount, totals.borrowed, totals.borrow_shares)
        return self._moved(main, LENT, shares, amount)

    def _repay(self, main: PositionChange, emptied: bool) -> PositionChange:
        """A repayment names its shares."""
        if self.state.params.get("repay_paused"):
            raise _Reverts("RepayPaused")
        totals = self.totals
        if emptied:
            shares = self.has.borrow_shares
        elif self.action.amount is None:
            shares = -main.delta
        else:
            shares = to_shares_down(self.action.amount, totals.borrowed, totals.borrow_shares)
        if shares > self.has.borrow_shares:
            raise _Reverts("more shares than are owed")
        return self._moved(main, LENT, -shares, to_amount_up(shares, totals.borrowed, totals.borrow_shares))

    def _lend(self, main: PositionChange, emptied: bool) -> PositionChange:
        totals = self.totals
        if self.action.name == "supply":
            amount, shares = self._sized(main, to_shares_down, to_amount_down)
            if _above(self.state, "deposit_limit", totals.lent + amount):
                raise _Reverts("ExceedsDepositLimit")
            return self._moved(main, LENT, shares, amount)
        fees = main.account == self.state.pair
        if self.state.params.get("withdraw_paused") and not fees:
            raise _Reverts("WithdrawPaused")
        to_amount = to_amount_up if fees else to_amount_down
        if emptied:
            shares = self.has.supply_shares
            amount = to_amount(shares, totals.lent, totals.lent_shares)
        else:
            amount, shares = self._sized(main, to_shares_up, to_amount)
        if shares > self.has.supply_shares:
            raise _Reverts("more shares than there are")
        self._available(amount)
        return self._moved(main, LENT, -shares, amount)

    def _sized(
        self, main: PositionChange, to_shares: Callable[..., int], to_amount: Callable[..., int]
    ) -> tuple[int, int]:
        """(assets, shares)."""
        totals, logged = self.totals, (main.amount or 0, abs(main.delta))
        sums = totals.lent, totals.lent_shares
        if self.action.amount is None and to_amount(logged[1], *sums) == logged[0]:
            return logged
        amount = self._wanted(main)
        return amount, to_shares(amount, *sums)

    def _available(self, amount: int) -> None:
        if amount > self.totals.lent - self.totals.borrowed:
            raise _Reverts("InsufficientAssetsInContract")

    def _transfer(self, moves: list[tuple[int, PositionChange]]) -> Changes:
        """Shares; a transfer does not accrue, nor is it checked."""
        (place, main), *others = moves
        shares = self.has.supply_shares if place in self.action.emptied else -main.delta
        if self.action.amount is not None:
            shares = to_shares_down(self.action.amount, self.state.totals.lent, self.state.totals.lent_shares)
        if shares > self.has.supply_shares:
            raise _Reverts("more shares than there are")
        self.totals = replace(self.state.totals)
        self.amount = to_amount_down(shares, self.totals.lent, self.totals.lent_shares)
        sized = [replace(main, delta=-shares, amount=self.amount)]
        return [*sized, *(replace(change, delta=shares, amount=self.amount) for _, change in others)]

    def _leveraged(self, moves: list[PositionChange]) -> Changes:
        """``leveragedPosition`` (initial collateral, debt, bought collateral) or ``repayAssetWithCollateral`` (sold
        collateral, debt), of a recorded swap.
        """
        debt = next(change for change in moves if change.side == "debt")
        recorded, made_up = debt.amount or 0, Changes()
        wanted = recorded if self.action.amount is None else self.action.amount
        for change in moves:
            if change is debt and debt.delta > 0:
                made_up.append(self._borrow(change, wanted))
                self.amount = wanted
            elif change is debt:
                shares = to_shares_down(wanted, self.totals.borrowed, self.totals.borrow_shares)
                if shares > self.has.borrow_shares:
                    raise _Reverts("more shares than are owed")
                made_up.append(self._moved(change, LENT, -shares, wanted))
            else:
                swapped = change is moves[-1] or change.delta < 0
                amount = (
                    mul_div_down(abs(change.delta), wanted, recorded) if swapped and recorded else abs(change.delta)
                )
                if change.delta < 0 and amount > self.has.collateral:
                    raise _Reverts("more collateral than there is")
                sign = 1 if change.delta > 0 else -1
                made_up.append(self._moved(change, COLLATERAL, sign * amount, amount))
        self.checked, self.amount = True, wanted
        return made_up

    def _moved(self, main: PositionChange, asset: AssetId, delta: int, amount: int) -> PositionChange:
        """The change in this book, which the account's position and the totals then have."""
        has, totals, self.amount = self.has, self.totals, amount
        signed = amount if delta > 0 else -amount
        if asset == COLLATERAL:
            self.has = replace(has, collateral=has.collateral + delta)
        elif main.side == "debt":
            self.has = replace(has, borrow_shares=has.borrow_shares + delta)
            totals.borrow_shares += delta
            totals.borrowed += signed
        else:
            self.has = replace(has, supply_shares=has.supply_shares + delta)
            totals.lent_shares += delta
            totals.lent += signed
        return replace(main, delta=delta, amount=amount)


def _above(state: FraxlendState, limit: str, total: int) -> bool:
    most = state.params.get(limit, NO_LIMIT)
    return most != NO_LIMIT and total > most
