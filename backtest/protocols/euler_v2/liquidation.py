"""What one ``liquidate`` call does.

Source: euler-xyz/euler-vault-kit, ``src/EVault/modules/Liquidation.sol`` ``calculateLiquidation``,
``calculateMaxLiquidation``, ``executeLiquidation``; ``shared/BorrowUtils.sol`` ``transferBorrow``.

The liquidator takes over the debt, and the shares at a discount that is what the health is below one. In a book of a
model it repays what it took over and converts the shares in the same batch, which is how one without capital acts;
with ``receive_collateral_token`` it keeps both, as the call by itself leaves them. No close factor, no fee; what nobody
repays once all collateral is gone is written off, from what lenders own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    HistoricalLiquidation,
    IndexUpdate,
    ParamChange,
    PositionChange,
    SettingChange,
)
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.euler_v2.account import Liquidity, liquidity, value_of
from backtest.protocols.euler_v2.math import DEBT_UNIT, LEAST_SOCIALIZED, discount_factor, most_liquidated
from backtest.protocols.euler_v2.state import (
    DONT_SOCIALIZE,
    LENT,
    OP_LIQUIDATE,
    RULES,
    Account,
    EulerState,
    Vault,
    is_disabled,
    move_debt,
    status_after,
)
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import mul_div_down

Change = PositionChange | SettingChange | IndexUpdate | ParamChange


def cools_off(state: EulerState, has: Account, now: int) -> bool:
    """Whether the account's last status check is too recent (isInLiquidationCoolOff)."""
    return now < has.checked + state.param("liquidation_cool_off")


def pairs(state: EulerState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """Each enabled collateral that an account in violation holds; nothing while it cools off, or where a price is
    missing.
    """
    has, time = state.account(account), now.timestamp
    if not has.debt or cools_off(state, has, time) or is_disabled(state, OP_LIQUIDATE):
        return ()
    try:
        if not liquidity(state, has, state.all_accrued(time), prices, time).is_violation:
            return ()
    except PriceMissing:
        return ()
    return [Pair(LENT, asset) for asset in sorted(has.enabled) if asset in has.shares and state.is_recognized(asset)]


def quote(state: EulerState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """What ``order`` would do at ``now``; the state is not changed. ``order.repay`` native units, or as much as the
    vault allows. Where both amounts are agreed the discount does not apply, and shares leave for as many tokens.
    """
    has, time, asset = state.account(order.account), now.timestamp, order.pair.collateral_asset
    vaults = state.all_accrued(time)
    if is_disabled(state, OP_LIQUIDATE):
        return Refusal("liquidations are disabled")
    if order.account == order.liquidator:
        return Refusal("self liquidation")
    if order.pair.debt_asset != LENT or asset == LENT or not state.is_recognized(asset):
        return Refusal("no such collateral")
    if asset not in has.enabled:
        return Refusal("the collateral is not enabled")
    if not order.early and cools_off(state, has, time):
        return Refusal("the account's last status check is too recent")
    try:
        found = liquidity(state, has, vaults, prices, time)
        if not order.early and not found.is_violation:
            return Refusal("the account is no violation")
        sized = _size(state, order, has, found, vaults, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    if isinstance(sized, Refusal):
        return sized
    return _settle(state, order, has, found, vaults, sized, now)


def _size(
    state: EulerState,
    order: Order,
    has: Account,
    found: Liquidity,
    vaults: Sequence[Vault],
    prices: Mapping[AssetId, int],
) -> tuple[int, int] | Refusal:
    """Native units repaid, shares seized."""
    asset = order.pair.collateral_asset
    balance, vault = has.shares.get(asset, 0), vaults[asset]
    if order.agreed:
        assert order.repay is not None
        assert order.seize is not None
        shares = balance if order.seize >= vault.worth_down(balance) else vault.for_up(order.seize)
        if order.repay > found.owed or order.seize > vault.worth_down(balance):
            return Refusal("more than there is")
        return (order.repay, shares) if order.repay or shares else Refusal("nothing")
    factor = discount_factor(found.adjusted, found.liability, state.param("max_liquidation_discount"))
    if not factor:
        return Refusal("the discount is everything: the vault would divide by zero")
    worth = value_of(state, has, asset, vault, prices)
    most = most_liquidated(found.liability, found.owed, balance, worth, factor)
    if order.repay is None:
        return most if any(most) else Refusal("nothing is repaid or seized")
    if order.repay > most[0]:
        return Refusal("repays more than allowed", instead=most[0] or None)
    if not most[0]:
        return most if any(most) else Refusal("nothing is repaid or seized")
    if not order.repay:
        return Refusal("nothing is repaid or seized")
    return order.repay, mul_div_down(order.repay, most[1], most[0])


def _settle(
    state: EulerState,
    order: Order,
    has: Account,
    found: Liquidity,
    vaults: Sequence[Vault],
    sized: tuple[int, int],
    now: Clock,
) -> Fill:
    repaid, shares = sized
    asset, lent, account = order.pair.collateral_asset, replace(vaults[LENT]), order.account
    accumulator, keeps = lent.accumulator, order.receive_collateral_token
    current = has.current(accumulator)
    moved = debt_moved(current, repaid)
    changes: list[Change] = []
    left = current - moved
    if repaid:
        changes.append(_debt(now, account, left - has.debt, 0 if keeps else repaid))
        move_debt(lent, current, left, "liquidation", 0 if keeps else repaid)
        if keeps:
            taker = state.account(order.liquidator)
            held = taker.current(accumulator)
            changes.append(_debt(now, order.liquidator, held + moved - taker.debt, 0))
            move_debt(lent, held, held + moved, "liquidation", 0)
    tokens = vaults[asset].worth_down(shares)
    if shares:
        changes.append(position_change(now, account, asset, "collateral", -shares, amount=tokens))
        if keeps:
            changes.append(position_change(now, order.liquidator, asset, "collateral", shares, amount=tokens))
    deficits: tuple[tuple[AssetId, int], ...] = ()
    lost = found.owed - repaid
    if lost > 0 and _is_socialized(state, has, found, asset, shares):
        changes.append(_debt(now, account, -left, 0))
        changes.append(setting_change(now, account, "bad_debt", LENT, lost))
        lent.debt = max(0, lent.debt - left)
        deficits = ((LENT, lost),)
    changes += status_after(state, lent, now)
    return Fill(order, repaid, tokens, 0, tuple(changes), deficits, rules=RULES)


def debt_moved(current: int, assets: int) -> int:
    """How much debt (2^-31 units) of an account that owes ``current`` stands for so many native units where it changes
    hands (BorrowUtils.transferBorrow): all of it where less than one would be left, or lack.
    """
    amount = assets * DEBT_UNIT
    return current if abs(amount - current) < DEBT_UNIT else amount


def _debt(now: Clock, account: AccountId, delta: int, amount: int) -> PositionChange:
    return position_change(now, account, LENT, "debt", delta, amount=amount)


def _is_socialized(state: EulerState, has: Account, found: Liquidity, asset: AssetId, shares: int) -> bool:
    """Whether what is left of the debt is written off: no enabled collateral has a balance (checkNoCollateral)."""
    if found.liability < LEAST_SOCIALIZED or state.param("config_flags") & DONT_SOCIALIZE:
        return False
    left = {each: has.shares.get(each, 0) for each in has.enabled if state.is_recognized(each)}
    left[asset] -= shares
    return not any(left.values())


def observed_order(state: EulerState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock) -> Order:
    """The call that explains a historical liquidation: what it repaid; worthless shares were taken for nothing."""
    return Order(
        past.account,
        Pair(LENT, past.collateral_asset),
        past.liquidator,
        repay=past.repaid or None,
        receive_collateral_token=True,
    )
