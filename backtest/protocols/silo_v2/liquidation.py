"""What one ``liquidationCall`` does.

Source: silo-finance/silo-contracts-v2 at 340a49b8, ``silo-core/contracts/hooks/liquidation/PartialLiquidation.sol``,
``lib/PartialLiquidationExecLib.sol``. A call offers an amount of the debt token; the rules say how much of it is
repaid. Below a loan-to-value of 100 % at most what brings it down to the target, and all where that is above 90 % of
the debt; from 100 % on any part, for as much collateral as there is: what stays owed is bad debt that nobody writes
off. Protected collateral is taken first. The liquidator is given share tokens, or what they redeem for, which the silo
must have on hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from backtest.errors import PriceMissing, RulesError
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    ParamChange,
    PositionChange,
    SettingChange,
    Side,
)
from backtest.protocols.changes import position_change
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.silo_v2.account import deposits_down, is_solvent, worth_of
from backtest.protocols.silo_v2.math import BAD_DEBT, least_repay_up, liquidation_down, liquidity, split
from backtest.protocols.silo_v2.state import (
    PROTECTED,
    RULES,
    Position,
    Silo,
    SiloState,
    accruals,
    copied,
    indexes_after,
    move,
)
from backtest.units import UINT256_MAX, mul_div_down

Change = PositionChange | SettingChange | IndexUpdate | ParamChange


def _pair(has: Position) -> Pair | None:
    debtor, backing = has.debtor, has.backing
    return None if debtor is None or backing is None else Pair(AssetId(debtor), AssetId(backing))


def pairs(state: SiloState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """What is owed and the token that backs it, where the borrower is insolvent and has any; none without a price."""
    has = state.of(account)
    pair = _pair(has) if has.pledges else None
    try:
        solvent = pair is None or is_solvent(state, has, state.accrued(now.timestamp), prices)
    except PriceMissing:
        return ()
    return () if pair is None or solvent else (pair,)


def quote(state: SiloState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """What ``order`` would do at ``now``; the state is not changed. ``order.repay`` is the contract's
    ``_maxDebtToCover``; None offers the whole debt, from a loan-to-value of 100 % on the least that takes all
    collateral. The pair's collateral is the token: protected shares of it and lent ones are one collateral.
    """
    has, silos = state.of(order.account), state.accrued(now.timestamp)
    pair = _pair(has)
    if pair is None:
        return Refusal("UserIsSolvent: there is no debt")
    if order.pair != pair:
        return Refusal("UnexpectedCollateralToken or UnexpectedDebtToken")
    try:
        sized = (_agreed if order.agreed else _sized)(state, order, has, silos, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    except ZeroDivisionError:
        return Refusal("UnknownRatio: collateral or debt is worth nothing")
    if isinstance(sized, Refusal):
        return sized
    made = _Call(state, order, has, now).made(*sized)
    if isinstance(made, Refusal) and made.unpaid is not None and not order.agreed:
        return _smaller(state, order, prices, now, made, sized)
    return made


def _smaller(
    state: SiloState, order: Order, prices: Mapping[AssetId, int], now: Clock, refused: Refusal, sized: tuple[int, int]
) -> Refusal:
    """The refusal of a call whose collateral is not on hand, with as much less as would go through."""
    assert refused.unpaid is not None
    (taken, repaid), missing = sized, refused.unpaid[1]
    less = mul_div_down(repaid, max(0, taken - missing - 1), taken)
    if not less or isinstance(quote(state, replace(order, repay=less), prices, now), Refusal):
        return refused
    return Refusal(refused.reason, less, refused.unpaid)


def _sized(
    state: SiloState, order: Order, has: Position, silos: Sequence[Silo], prices: Mapping[AssetId, int]
) -> tuple[int, int] | Refusal:
    """Collateral and debt, native units (PartialLiquidationExecLib.liquidationPreview)."""
    worth, backing = worth_of(state, has, silos, prices), has.backing
    if worth is None or backing is None or order.repay == 0 or not worth.debt:
        return Refusal("NoDebtToCover")
    if not worth.collateral:
        return Refusal("NoCollateralToLiquidate")
    if worth.ltv <= state.term(backing, "liquidation_threshold"):
        return Refusal("UserIsSolvent")
    terms = state.term(backing, "liquidation_target_ltv"), state.term(backing, "liquidation_bonus")
    most = UINT256_MAX if order.repay is None else order.repay
    if order.repay is None and worth.ltv >= BAD_DEBT:
        most = least_repay_up(worth, terms[1])
    taken, repaid = liquidation_down(worth, most, *terms)
    if not taken or not repaid:
        return Refusal("NoRepayAssets")
    if repaid > most:
        return Refusal("FullLiquidationRequired")
    return taken, repaid


def _agreed(
    state: SiloState, order: Order, has: Position, silos: Sequence[Silo], prices: Mapping[AssetId, int]
) -> tuple[int, int] | Refusal:
    """A mechanism has set both amounts."""
    assert order.repay is not None
    assert order.seize is not None
    worth, backing = worth_of(state, has, silos, prices), has.backing
    assert worth is not None
    assert backing is not None
    if not order.early and worth.ltv <= state.term(backing, "liquidation_threshold"):
        return Refusal("UserIsSolvent")
    if order.seize > worth.collateral:
        return Refusal("takes more collateral than there is")
    return order.seize, min(order.repay, worth.debt)


class _Call:
    """One call after its amounts are known: its changes and the totals as it goes on."""

    def __init__(self, state: SiloState, order: Order, has: Position, now: Clock) -> None:
        self.state, self.order, self.has, self.now = state, order, has, now
        debtor, backing = has.debtor, has.backing
        assert debtor is not None
        assert backing is not None
        self.debtor, self.backing = debtor, backing
        touched = sorted({debtor, backing})
        self.silos = copied(state.found(now.timestamp, touched))
        self.changes: list[Change] = [*accruals(state, now, touched)]

    def made(self, taken: int, repaid: int) -> Fill | Refusal:
        silos, back = self.silos, self.silos[self.backing]
        from_lent, from_protected = split(taken, deposits_down(self.has, silos, self.backing)[1])
        lent, protected = back.lent.shares_down(from_lent), back.kept.shares_down(from_protected)
        repaid = self._repay(repaid)
        if not repaid:
            return Refusal("ReturnZeroShares: less than a share of the debt")
        if not lent and not protected:
            return Refusal("NoCollateralToLiquidate: less than a share")
        got = 0
        for asset, shares in ((self.backing, lent), (self.backing + PROTECTED, protected)):
            if not shares:
                continue
            worth = (back.kept if asset >= PROTECTED else back.lent).assets_down(shares)
            free = back.protected if asset >= PROTECTED else liquidity(back.collateral, back.debt)
            if self.order.receive_collateral_token or not worth:
                # What is worth nothing cannot be redeemed: the liquidator is given the shares (_tryRedeem).
                self._move(self.order.account, AssetId(asset), -shares, worth)
                self._move(self.order.liquidator, AssetId(asset), shares, worth)
            elif worth > free:
                return Refusal("NotEnoughLiquidity", unpaid=(AssetId(self.backing), worth - free))
            else:
                self._move(self.order.account, AssetId(asset), -shares, worth)
            got += worth
        self.changes += indexes_after(self.state, silos, self.now)
        return Fill(self.order, repaid, got, 0, tuple(self.changes), rules=RULES)

    def _repay(self, assets: int) -> int:
        """Silo.repay on behalf of the borrower (SiloLendingLib.repay); what it comes to."""
        owed, has = self.silos[self.debtor].owed, self.has.owed[self.debtor]
        shares = owed.shares_down(assets)
        if shares > has:
            shares, assets = has, owed.assets_up(has)
        if not shares:
            return 0
        self._move(self.order.account, AssetId(self.debtor), -shares, assets, debt=True)
        return assets

    def _move(self, account: AccountId, asset: AssetId, delta: int, amount: int, debt: bool = False) -> None:
        side: Side = "debt" if debt else "collateral"
        self.changes.append(position_change(self.now, account, asset, side, delta, amount=amount))
        move(self.silos, asset, debt, delta, amount)


def observed_order(state: SiloState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock) -> Order:
    """The call that made a historical liquidation: what it repaid is the least that it can have offered. Raises
    RulesError where the borrower owes nothing in this book.
    """
    pair = _pair(state.of(past.account))
    if pair is None:
        raise RulesError(f"block {past.block_number}: a liquidation of whoever owes nothing", "run backtest check")
    return Order(
        past.account, pair, past.liquidator, repay=past.repaid, receive_collateral_token=past.receive_collateral_token
    )
