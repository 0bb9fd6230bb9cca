"""What a user's call does in a book that may differ from history's, checked as the contract checks it.

Source: silo-finance/silo-contracts-v2 at 340a49b8, ``silo-core/contracts/lib/Actions.sol`` ``deposit``, ``withdraw``,
``borrow``, ``repay``, ``transitionCollateral``; ``SiloERC4626Lib.sol``, ``SiloLendingLib.sol``,
``utils/ShareCollateralToken.sol``, ``ShareDebtToken.sol``. A call names assets or shares, which its log does not say:
taken is the one that gives the logged amounts in this book, else the assets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, IndexUpdate, ParamChange, PositionChange, SettingChange
from backtest.protocols.changes import setting_change
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.protocols.silo_v2.account import is_below_max_ltv, is_solvent, view_of
from backtest.protocols.silo_v2.math import SharePool, liquidity
from backtest.protocols.silo_v2.state import (
    ACCRUED,
    NOBODY,
    PROTECTED,
    SILOS,
    WITH_ACTION,
    Position,
    Silo,
    SiloState,
    accruals,
    copied,
    indexes_after,
    move,
    moved,
)

Change = PositionChange | SettingChange | ParamChange | IndexUpdate


class _Reverts(Exception):
    """The contract would; the message is its error."""


def act(state: SiloState, action: Action, prices: Mapping[AssetId, int], now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``."""
    if action.name == "parameter":
        return _parameter(state, action, now)
    moves = [(n, change) for n, change in enumerate(action.changes) if isinstance(change, PositionChange)]
    try:
        if not moves:
            return _switched(state, action, prices, now)
        return _Call(state, action, prices, now, moves).made()
    except PriceMissing as missing:
        return Refusal(missing.what)
    except _Reverts as refused:
        return Refusal(str(refused))
    except ZeroDivisionError:
        return Refusal("a division by zero")


def _parameter(state: SiloState, action: Action, now: Clock) -> Acted:
    """Interest recomputed: an accrual by itself is made here too; one that an action made then comes with that action,
    where it is made.
    """
    changes = [change for change in action.changes if isinstance(change, ParamChange)]
    if any(change.name == WITH_ACTION for change in changes):
        return Acted(NOBODY, ())
    alone = [int(change.asset) for change in changes if change.name == ACCRUED and change.asset is not None]
    if alone:
        own = accruals(state, now, alone)
        return Acted(NOBODY, (*own, *indexes_after(state, state.found(now.timestamp, alone), now)))
    return Acted(NOBODY, action.changes)


def _switched(state: SiloState, action: Action, prices: Mapping[AssetId, int], now: Clock) -> Acted:
    """``switchCollateralToThisSilo`` of releases before 3.10: another silo backs the debt."""
    (change,) = (each for each in action.changes if isinstance(each, SettingChange))
    has = replace(state.of(change.account), backed_by=change.value)
    if has.debtor is None:
        return Acted(change.account, (change,))
    silos = state.accrued(now.timestamp)
    if not is_solvent(state, has, silos, prices):
        raise _Reverts("NotSolvent")
    accrued, indexes = accruals(state, now), indexes_after(state, silos, now)
    return Acted(change.account, (*accrued, change, *indexes), 0, view_of(state, has, silos, prices))


class _Call:
    """One call: its account's position and the silos as it goes on."""

    def __init__(
        self,
        state: SiloState,
        action: Action,
        prices: Mapping[AssetId, int],
        now: Clock,
        moves: Sequence[tuple[int, PositionChange]],
    ) -> None:
        self.state, self.action, self.prices, self.now, self.moves = state, action, prices, now, moves
        self.place, self.main = moves[0]
        self.account = self.main.account
        self.has: Position = state.of(self.account)
        self.silo = int(self.main.asset) % PROTECTED
        self.silos: tuple[Silo, Silo] = state.silos
        self.changes: list[Change] = []
        self.amount = 0

    def made(self) -> Acted:
        kind = "transition" if len({change.account for _, change in self.moves}) < len(self.moves) else self.action.name
        risky = {
            "supply": self._supply,
            "withdraw": self._withdraw,
            "borrow": self._borrow,
            "repay": self._repay,
            "transfer": self._transfer,
            "transition": self._transition,
        }[kind]()
        self.changes += indexes_after(self.state, self.silos, self.now)
        view = None
        if risky and self.has.debtor is not None:
            view = view_of(self.state, self.has, self.silos, self.prices)
        return Acted(self.account, tuple(self.changes), self.amount, view)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _supply(self) -> bool:
        self._touch([self.silo])
        pool = self._pool(self.main.asset)
        amount, shares = self._sized(pool.shares_down, pool.assets_up)
        self._move(self.main, shares, amount)
        return False

    def _withdraw(self) -> bool:
        self._touch(SILOS)
        self._take(self.main)
        self._check_solvency(self.silo)
        return True

    def _take(self, main: PositionChange) -> None:
        """SiloERC4626Lib.withdraw."""
        pool, held = self._pool(main.asset), self._held(main.asset)
        if self.place in self.action.emptied:
            shares = held
            amount = pool.assets_down(shares)
        else:
            amount, shares = self._sized(pool.shares_up, pool.assets_down)
        if not shares or not amount:
            raise _Reverts("ReturnZeroAssets or ReturnZeroShares")
        if amount > self._free(main.asset):
            raise _Reverts("NotEnoughLiquidity")
        if shares > held:
            raise _Reverts("more shares than there are")
        self._move(main, -shares, amount)

    def _borrow(self) -> bool:
        if self.has.owed[1 - self.silo]:
            raise _Reverts("BorrowNotPossible: there is a debt in the other silo")
        told = [change for change in self.action.changes if isinstance(change, SettingChange)]
        before = self.has.backed_by
        backing = told[0].value if told else 1 - self.silo if before is None else before
        self._touch(SILOS if backing != self.silo else [self.silo])
        self._back(self.account, backing)
        own = self.silos[self.silo]
        amount, shares = self._sized(own.owed.shares_up, own.owed.assets_down)
        if not shares or not amount:
            raise _Reverts("ReturnZeroAssets or ReturnZeroShares")
        if amount > liquidity(own.collateral, own.debt):
            raise _Reverts("NotEnoughLiquidity")
        self._move(self.main, shares, amount)
        if not is_below_max_ltv(self.state, self.has, self.silos, self.prices):
            raise _Reverts("AboveMaxLtv")
        return True

    def _repay(self) -> bool:
        """SiloLendingLib.repay: more than the debt is cut to it."""
        self._touch([self.silo])
        owed, held = self.silos[self.silo].owed, self.has.owed[self.silo]
        if self.place in self.action.emptied:
            amount, shares = owed.assets_up(held), held
        else:
            amount, shares = self._sized(owed.shares_down, owed.assets_up)
        if shares > held:
            amount, shares = owed.assets_up(held), held
        if not shares or not amount:
            raise _Reverts("ReturnZeroAssets or ReturnZeroShares")
        if amount > owed.assets:
            raise _Reverts("RepayTooHigh")
        self._move(self.main, -shares, amount)
        return False

    def _transfer(self) -> bool:
        """Shares change hands: of collateral where its giver stays solvent, of debt where its taker does."""
        if self.main.side == "debt":
            return self._debt_transfer()
        backing = self.has.backing
        self._touch(SILOS if backing == self.silo else [])
        pool, held = self._pool(self.main.asset), self._held(self.main.asset)
        shares = self._whole(held, pool)
        if shares > held:
            raise _Reverts("more shares than there are")
        if not shares:
            raise _Reverts("ZeroTransfer")
        worth = pool.assets_down(shares)
        self._move(self.main, -shares, worth)
        for _, change in self.moves[1:]:
            self._given(change, shares, worth)
        self._check_solvency(self.silo)
        return True

    def _debt_transfer(self) -> bool:
        (_, give), (_, take) = self.moves
        self._touch(SILOS)
        owed = self.silos[self.silo].owed
        held = self.has.owed[self.silo]
        shares = self._whole(held, owed)
        if shares > held:
            raise _Reverts("more shares than are owed")
        if not shares:
            raise _Reverts("ZeroTransfer")
        taker, backing = self.state.of(take.account), self.has.backed_by
        if taker.owed[1 - self.silo]:
            raise _Reverts("DebtExistInOtherSilo")
        worth = owed.assets_up(shares)
        self._move(give, -shares, worth)
        self.account, self.has = take.account, taker  # whose risk it is that rises
        if taker.backed_by is None and backing is not None:
            self._back(take.account, backing)
        self._given(take, shares, worth)
        self.has = moved(self.has, take.asset, True, shares)[0]
        if not is_solvent(self.state, self.has, self.silos, self.prices):
            raise _Reverts("RecipientNotSolventAfterTransfer")
        return True

    def _transition(self) -> bool:
        """Lent to protected or back (Actions.transitionCollateral): a withdrawal and a deposit of what it came to."""
        (_, taken), (_, given) = self.moves
        self._touch(SILOS)
        self._take(taken)
        shares = self._pool(given.asset).shares_down(self.amount)
        if not shares:
            raise _Reverts("ReturnZeroShares")
        self._move(given, shares, self.amount)
        self._check_solvency(self.silo)
        return True

    # -- what they share -----------------------------------------------------------------------------------------------

    def _touch(self, silos: Sequence[int]) -> None:
        """Accrue them."""
        self.changes += accruals(self.state, self.now, silos)
        self.silos = copied(self.state.found(self.now.timestamp, silos))

    def _back(self, account: AccountId, backing: int) -> None:
        """SiloConfig.setOtherSiloAsCollateralSilo, onDebtTransfer."""
        if self.has.backed_by != backing:
            self.has = replace(self.has, backed_by=backing)
            name = self.action.name
            self.changes.append(setting_change(self.now, account, "collateral_silo", None, backing, action=name))

    def _check_solvency(self, silo: int) -> None:
        """Where what was taken away backs a debt (Actions._checkSolvencyWithoutAccruingInterest)."""
        if silo == self.has.backing and not is_solvent(self.state, self.has, self.silos, self.prices):
            raise _Reverts("NotSolvent")

    def _pool(self, asset: AssetId) -> SharePool:
        own = self.silos[asset % PROTECTED]
        return own.kept if asset >= PROTECTED else own.lent

    def _held(self, asset: AssetId) -> int:
        shares = self.has.protected if asset >= PROTECTED else self.has.lent
        return shares[asset % PROTECTED]

    def _free(self, asset: AssetId) -> int:
        own = self.silos[asset % PROTECTED]
        return own.protected if asset >= PROTECTED else liquidity(own.collateral, own.debt)

    def _whole(self, held: int, pool: SharePool) -> int:
        """Shares that a transfer names."""
        if self.place in self.action.emptied:
            return held
        return abs(self.main.delta) if self.action.amount is None else pool.shares_down(self.action.amount)

    def _sized(self, to_shares: Callable[[int], int], to_assets: Callable[[int], int]) -> tuple[int, int]:
        """(assets, shares)."""
        logged = self.main.amount or 0, abs(self.main.delta)
        if self.action.amount is None and to_assets(logged[1]) == logged[0]:
            return logged
        amount = logged[0] if self.action.amount is None else self.action.amount
        return amount, to_shares(amount)

    def _given(self, change: PositionChange, shares: int, worth: int) -> None:
        """What another account gets of a transfer, which leaves the totals as they are."""
        self.changes.append(replace(change, delta=shares, amount=worth))
        move(self.silos, change.asset, change.side == "debt", shares, worth)

    def _move(self, main: PositionChange, delta: int, amount: int) -> None:
        """The change in this book, which the account's position and the silo's totals then have."""
        self.changes.append(replace(main, delta=delta, amount=amount))
        self.amount, debt = amount, main.side == "debt"
        self.has = moved(self.has, main.asset, debt, delta)[0]
        move(self.silos, main.asset, debt, delta, amount)
