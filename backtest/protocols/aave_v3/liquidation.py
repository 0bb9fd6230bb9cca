"""What one ``liquidationCall`` does, in four parts: ACCRUE, CHECK, SIZE, SETTLE; every version by its ``Rules``.

Source: LiquidationLogic.executeLiquidationCall, _calculateDebt (to 3.2), _calculateAvailableCollateralToLiquidate,
_liquidateATokens (to 3.5), _burnDebtTokens, _burnBadDebt (3.3+); ValidationLogic.validateLiquidationCall,
validateAutomaticUseAsCollateral; ScaledBalanceTokenBase._burnScaled; StableDebtToken.burn (3.0, 3.1). Where indexes and
rates are history's, a fill carries no change of them, also where a call that history did not see would have moved them;
where they are recomputed, it carries what it does to each reserve.

The contract keeps a borrow flag per asset; here an account borrows what it has scaled debt in. They differ only where a
partial repayment burned the last scaled unit (an index above 2), with no effect on any amount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
)
from backtest.protocols.aave_v3.account import (
    AccountData,
    account_data,
    category_of,
    collateral_of,
    debt_of,
    debts,
    is_collateral,
    liquidation_bonus,
    liquidation_threshold,
    price_of,
    price_source,
    priced_as,
)
from backtest.protocols.aave_v3.effects import Effects
from backtest.protocols.aave_v3.interest import TouchedReserves, accrued_indexes, moved
from backtest.protocols.aave_v3.math import ROUNDING, percent_div, percent_div_down, percent_mul, ray_div, ray_mul
from backtest.protocols.aave_v3.rules import LIQUIDATION_HEALTH, MIN_LEFTOVER_BASE, Aftermath, Rules, Taken, Target
from backtest.protocols.aave_v3.state import AaveState, Account, Reserve, lacks
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import BPS, WAD, mul_div_up
from backtest.words import rule

OracleP = Mapping[AssetId, int]

NO_DEBT = "the account has no debt in this asset"
NO_BONUS = "the collateral has no liquidation bonus configured"
DUST = "it would leave dust: clear the debt, or the collateral, or leave 1000 base-currency units of both"
NO_COLLATERAL_BURNED = "no collateral token would be burned: the amount is too small"
NO_DEBT_BURNED = "no debt token would be burned: the amount is too small"
"""Refusals that ``together`` knows as well."""
CANNOT_PAY = "the collateral's reserve has not enough of the underlying to pay the liquidator"


@dataclass(slots=True)
class _Case:
    """One order after ACCRUE: the two reserves at ``now``, the borrower's native balances in them, and its totals."""

    rules: Rules
    order: Order
    now: Clock
    account: Account
    data: AccountData
    debt_reserve: Reserve
    collateral_reserve: Reserve
    debt_price: int
    collateral_price: int
    debt_index: int
    income: int
    debt: int
    collateral: int
    bonus: int


@dataclass(slots=True)
class _Size:
    """Native amounts: ``repaid`` by the liquidator, ``gross`` taken from the borrower = ``seized`` + ``fee``."""

    repaid: int
    seized: int
    fee: int

    @property
    def gross(self) -> int:
        return self.seized + self.fee


def quote(state: AaveState, order: Order, oracle: OracleP, now: Clock) -> Fill | Refusal:
    """What ``order`` would do at ``now`` with these oracle prices; the state is not changed.

    An amount above the most that may be repaid acts like None (all that may be). ``seized`` excludes the protocol fee,
    and ``protocol_fee`` is what reaches the treasury, after the cap by the remaining balance. The changes, applied in
    order, leave every scaled balance, flag and deficit as the call leaves them on the chain.

    Raises:
        RulesError: no rules in force yet, or a fee is due and the reserve's treasury is unknown.
    """
    try:
        case = _accrue(state, order, oracle, now)
    except PriceMissing as missing:
        return Refusal(missing.what)
    if reason := _check(case):
        return Refusal(reason)
    size = _size(state, case)
    return _check_size(case, size) or _check_pays(state, case, size) or _settle(state, case, size)


# -- ACCRUE ----------------------------------------------------------------------------------------------------------


def _accrue(state: AaveState, order: Order, oracle: OracleP, now: Clock) -> _Case:
    rules = state.rules
    account = state.accounts.get(order.account) or Account()
    debt_reserve = state.reserves[order.pair.debt_asset]
    collateral_reserve = state.reserves[order.pair.collateral_asset]
    category = category_of(state, account)
    source = price_source(rules, category)  # the debt's price whatever its own category (LL _getConfigurationData)
    return _Case(
        rules=rules,
        order=order,
        now=now,
        account=account,
        data=account_data(state, order.account, oracle, now),
        debt_reserve=debt_reserve,
        collateral_reserve=collateral_reserve,
        debt_price=price_of(state, debt_reserve.asset if source is None else source, oracle, now),
        collateral_price=price_of(state, priced_as(rules, collateral_reserve, account, category), oracle, now),
        debt_index=accrued_indexes(debt_reserve, rules, now.timestamp)[1],
        income=collateral_reserve.income(now.timestamp),
        debt=debt_of(state, account, debt_reserve.asset, now.timestamp),
        collateral=collateral_of(state, account, collateral_reserve.asset, now.timestamp),
        bonus=liquidation_bonus(rules, collateral_reserve, account, category),
    )


# -- CHECK -----------------------------------------------------------------------------------------------------------


def closed(rules: Rules, reserve: Reserve, now: Clock) -> str | None:
    """Why no liquidation may touch this reserve now, or None (validateLiquidationCall; the grace period is inclusive,
    3.1+).
    """
    if not reserve.active:
        return "reserve is not active"
    if reserve.paused:
        return "reserve is paused"
    if rules.grace_period and reserve.grace_until >= now.timestamp:
        return f"reserve is in its liquidation grace period until {reserve.grace_until}"
    return None


def _check(case: _Case) -> str | None:
    rules, order = case.rules, case.order
    if order.account == order.liquidator and not rules.self_liquidation:
        return "self-liquidation is forbidden"
    for reserve in (case.debt_reserve, case.collateral_reserve):
        if reason := closed(rules, reserve, case.now):
            return reason
    if case.data.health_factor >= LIQUIDATION_HEALTH and not order.early:
        return "health factor is not below 1"
    if case.collateral_reserve.asset not in case.account.enabled or not is_collateral(rules, case.collateral_reserve):
        return "the asset is not enabled as collateral"
    if not case.debt:
        return NO_DEBT
    if not case.bonus:
        return NO_BONUS
    return None


# -- SIZE ------------------------------------------------------------------------------------------------------------


def _size(state: AaveState, case: _Case) -> _Size:
    if case.order.agreed:
        return _agreed(case)
    rules = case.rules
    debt_unit, collateral_unit = case.debt_reserve.unit, case.collateral_reserve.unit
    debt_price, collateral_price = case.debt_price, case.collateral_price
    most = rules.max_debt(
        Target(
            debt=case.debt,
            debt_base=rules.debt_value(case.debt, debt_price, debt_unit),
            collateral_base=case.collateral * collateral_price // collateral_unit,
            total_debt_base=case.data.total_debt_base,
            health=case.data.health_factor,
            close_factor=state.close_factor,
            debt_unit=debt_unit,
            debt_price=debt_price,
        )
    )
    repaid = most if case.order.repay is None else min(case.order.repay, most)
    repaid, gross = taken_for(
        repaid, case.collateral, case.bonus, debt_price, debt_unit, collateral_price, collateral_unit,
        ROUNDING[rules.bonus_mul], ROUNDING[rules.needed_div],
    )  # fmt: skip
    share = case.collateral_reserve.liquidation_protocol_fee
    fee = fee_of(gross, case.bonus, share, ROUNDING[rules.fee_div], ROUNDING[rules.fee_mul])
    return _Size(repaid=repaid, seized=gross - fee, fee=fee)


@rule
def taken_for(
    repaid: int, held: int, bonus: int, debt_price: int, debt_unit: int, price: int, unit: int, bonus_mul: int,
    needed_div: int,
) -> tuple[int, int]:  # fmt: skip
    """What is repaid, and the collateral that is taken for it: with the bonus, or all that is ``held`` and the debt for
    that without it (_calculateAvailableCollateralToLiquidate). ``bonus_mul``, ``needed_div``: roundings.
    """
    gross = percent_mul(debt_price * repaid * unit // (price * debt_unit), bonus, bonus_mul)
    if gross <= held:
        return repaid, gross
    return percent_div(price * held * debt_unit // (debt_price * unit), bonus, needed_div), held


@rule
def fee_of(gross: int, bonus: int, share: int, fee_div: int, fee_mul: int) -> int:
    """The protocol's share (bps) of the bonus part of what is taken; two roundings."""
    return percent_mul(gross - percent_div(gross, bonus, fee_div), share, fee_mul) if share else 0


def _agreed(case: _Case) -> _Size:
    """What a mechanism says; the protocol takes its share of what is beyond the debt's worth."""
    order, reserve = case.order, case.collateral_reserve
    assert order.repay is not None
    assert order.seize is not None
    worth = case.debt_price * order.repay * reserve.unit // (case.collateral_price * case.debt_reserve.unit)
    fee = 0 if order.early else case.rules.fee_mul(max(0, order.seize - worth), reserve.liquidation_protocol_fee)
    return _Size(repaid=order.repay, seized=order.seize - fee, fee=fee)


def _check_size(case: _Case, size: _Size) -> Refusal | None:
    rules = case.rules
    if size.repaid > case.debt or size.gross > case.collateral:
        return Refusal("more is agreed than the account owes or holds")
    if rules.leaves_no_dust and size.repaid < case.debt and size.gross < case.collateral:
        debt_left = rules.debt_value(case.debt - size.repaid, case.debt_price, case.debt_reserve.unit)
        collateral_left = (case.collateral - size.gross) * case.collateral_price // case.collateral_reserve.unit
        if debt_left < MIN_LEFTOVER_BASE or collateral_left < MIN_LEFTOVER_BASE:
            return Refusal(DUST, instead=_without_dust(case, size.repaid))
    if not case.order.receive_collateral_token and not rules.collateral_scaled(size.seized, case.income):
        return Refusal(NO_COLLATERAL_BURNED)
    return None


def _check_pays(state: AaveState, case: _Case, size: _Size) -> Refusal | None:
    """Whether the collateral's reserve can pay the liquidator (LL _burnCollateralATokens; ``state.lacks``).

    In every version the underlying leaves before the repaid debt arrives (safeTransferFrom is the call's last step): of
    one asset, too, the reserve has to pay out of what it has. From 3.1 on the virtual balance counts the repayment
    already, the token balance, which the transfer needs, does not. Who takes aTokens asks nothing of it.
    """
    reserve = case.collateral_reserve
    if case.order.receive_collateral_token or not lacks(state, reserve, size.seized, case.now):
        return None
    return Refusal(CANNOT_PAY, unpaid=(reserve.asset, size.seized))


def _without_dust(case: _Case, most: int) -> int | None:
    """A repayment, at most ``most``, that leaves what must be left of both; short of the largest by rounding only. None
    if there is none.
    """
    found = without_dust(
        case.debt, case.collateral, most, case.bonus, case.debt_price, case.debt_reserve.unit, case.collateral_price,
        case.collateral_reserve.unit,
    )  # fmt: skip
    return found if found > 0 else None


@rule
def without_dust(
    debt: int, held: int, most: int, bonus: int, debt_price: int, debt_unit: int, price: int, unit: int
) -> int:
    """See ``_without_dust``; nothing above 0 where there is none."""
    takeable = held - mul_div_up(MIN_LEFTOVER_BASE, unit, price)
    without_bonus = percent_div_down(max(takeable, 0), bonus)
    left = debt - mul_div_up(MIN_LEFTOVER_BASE, debt_unit, debt_price)
    return min(most, left, price * without_bonus * debt_unit // (debt_price * unit))


# -- SETTLE ----------------------------------------------------------------------------------------------------------


def _settle(state: AaveState, case: _Case, size: _Size) -> Fill | Refusal:
    rules, order, now = case.rules, case.order, case.now
    borrower, asset = order.account, case.collateral_reserve.asset
    scaled_balance = case.account.collateral.get(asset, 0)
    after = rules.aftermath(
        Taken(
            gross=size.gross,
            seized=size.seized,
            fee=size.fee,
            balance=case.collateral,
            scaled_balance=scaled_balance,
            income=case.income,
            price=case.collateral_price,
            unit=case.collateral_reserve.unit,
            total_collateral_base=case.data.total_collateral_base,
        )
    )
    writes_off = rules.writes_off and after.depleted
    changes = Effects(now, "liquidation")
    if after.clears_flag:
        changes.setting(borrower, "collateral_enabled", asset, 0)
    if not _burn_debt(case, case.debt if writes_off else size.repaid, changes):
        return Refusal(NO_DEBT_BURNED)

    scaled_seized = rules.collateral_scaled(size.seized, case.income)
    remaining = scaled_balance - scaled_seized
    changes.position(borrower, asset, "collateral", -scaled_seized)
    if order.receive_collateral_token:
        changes.position(order.liquidator, asset, "collateral", scaled_seized)
        if order.liquidator == borrower:
            remaining = scaled_balance
        if _enables_receiver(state, case, after):
            changes.setting(order.liquidator, "collateral_enabled", asset, 1)
    fee = _settle_fee(case, size.fee, remaining, changes)

    deficits = _write_off(state, case, size.repaid, changes) if writes_off else ()
    return Fill(
        order=order,
        repaid=size.repaid,
        seized=size.seized,
        protocol_fee=fee,
        changes=(*changes.all, *_reserves(state, case, size, changes, deficits)),
        deficits=deficits,
        rules=rules.label,
        rules_tested=rules.tested,
    )


def _burn_debt(case: _Case, amount: int, changes: Effects) -> bool:
    """Burn ``amount`` of native debt, variable before stable; False where the token would refuse to burn nothing."""
    rules, asset, borrower = case.rules, case.debt_reserve.asset, case.order.account
    variable = rules.debt_balance(case.account.debt.get(asset, 0), case.debt_index)
    if amount <= variable or variable:
        scaled = rules.debt_scaled(min(amount, variable), case.debt_index)
        if not scaled:
            return False
        changes.position(borrower, asset, "debt", -scaled)
    if amount > variable:
        stable = case.account.stable[asset]
        left = case.debt - amount
        changes.setting(borrower, "stable_principal", asset, left)
        changes.setting(borrower, "stable_rate", asset, stable.rate if left else 0)
        changes.setting(borrower, "stable_since", asset, case.now.timestamp if left else 0)
        changes.setting(borrower, "stable_moved", asset, variable - amount)
    return True


def _settle_fee(case: _Case, fee: int, remaining: int, changes: Effects) -> int:
    """Move the protocol fee to the treasury, no more than the borrower has left; the native amount that moved."""
    if not fee:
        return 0
    rules, reserve = case.rules, case.collateral_reserve
    scaled, fee = fee_moved(
        fee, remaining, case.income, ROUNDING[rules.collateral_scaled], ROUNDING[rules.collateral_balance]
    )
    if reserve.treasury is None:
        raise RulesError(
            f"block {case.now.block_number}: asset {reserve.asset} pays a liquidation fee and its treasury is unknown",
            "fetch the collateral token's Initialized event (from the market's start block)",
        )
    changes.position(case.order.account, reserve.asset, "collateral", -scaled)
    changes.position(AccountId(reserve.treasury), reserve.asset, "collateral", scaled)
    return fee


@rule
def fee_moved(fee: int, remaining: int, income: int, scaled_by: int, balance_by: int) -> tuple[int, int]:
    """Scaled and native units of the fee, no more than what remains (scaled); two roundings."""
    scaled = ray_div(fee, income, scaled_by)
    if scaled <= remaining:
        return scaled, fee
    return remaining, ray_mul(remaining, income, balance_by)


def _enables_receiver(state: AaveState, case: _Case, after: Aftermath) -> bool:
    """Whether received collateral tokens become collateral of the liquidator (_liquidateATokens and
    validateAutomaticUseAsCollateral, to 3.5).

    Isolated collateral never (see ASSUMPTIONS), an asset without loan-to-value never; else only if nothing else is
    isolated.
    """
    rules, asset, liquidator = case.rules, case.collateral_reserve.asset, case.order.liquidator
    book = state.accounts.get(liquidator) or Account()
    enabled = set(book.enabled)
    if liquidator == case.order.account:
        if not (rules.self_receiver_enables and after.clears_flag):
            return False
        enabled.discard(asset)
    elif not rules.receiver_enables or book.collateral.get(asset):
        return False
    if case.collateral_reserve.debt_ceiling or not case.collateral_reserve.ltv:
        return False
    return not (len(enabled) == 1 and state.reserves[next(iter(enabled))].debt_ceiling)


def _write_off(state: AaveState, case: _Case, repaid: int, changes: Effects) -> tuple[tuple[AssetId, int], ...]:
    """Debt that no collateral is left for becomes the reserves' deficit (_burnDebtTokens, _burnBadDebt; 3.3+), in order
    of reserve id.
    """
    rules, account = case.rules, case.account
    lost: list[tuple[AssetId, int]] = []
    if case.debt > repaid:
        lost.append((case.debt_reserve.asset, case.debt - repaid))
    for asset in sorted(account.debt, key=lambda a: state.reserves[a].reserve_id):
        reserve = state.reserves[asset]
        if asset != case.debt_reserve.asset and reserve.active:
            index = reserve.debt_index(case.now.timestamp, rules)
            debt = rules.debt_balance(account.debt[asset], index)
            changes.position(case.order.account, asset, "debt", -rules.debt_scaled(debt, index))
            lost.append((asset, debt))
    for asset, amount in lost:
        changes.param("deficit_created", asset, amount)
    return tuple(lost)


def _reserves(
    state: AaveState, case: _Case, size: _Size, changes: Effects, deficits: Sequence[tuple[AssetId, int]]
) -> Sequence[IndexUpdate | ParamChange]:
    """What the call does to the reserves it touches: nothing to the seized one where tokens change hands, but that from
    3.5 on it accrues (and, being the debt's own, twice). Under history's rates only liquidity moves.
    """
    if not state.recompute:
        taken = 0 if case.order.receive_collateral_token else size.seized
        return [
            *moved(state, case.debt_reserve.asset, size.repaid, case.now),
            *moved(state, case.collateral_reserve.asset, -taken, case.now),
        ]
    rules, touched_reserves = case.rules, TouchedReserves(state, case.now)
    debt, collateral = case.debt_reserve.asset, case.collateral_reserve.asset
    touched_reserves.accrue(debt)
    if rules.accrues_seized:
        touched_reserves.accrue(collateral, twice=collateral == debt)
    written = dict(deficits)
    paid_last = rules.reads_balance and collateral == debt and not case.order.receive_collateral_token
    touched_reserves.move(debt, liquidity=0 if paid_last else size.repaid, late=size.repaid if paid_last else 0)
    if not case.order.receive_collateral_token:
        touched_reserves.move(collateral, liquidity=-size.seized)
    for change in changes.all:
        if isinstance(change, PositionChange) and change.side == "debt":
            touched_reserves.move(change.asset, debt=change.delta, deficit=written.pop(change.asset, 0))
        elif isinstance(change, SettingChange) and change.setting == "stable_moved":
            read_again = collateral == debt and not case.order.receive_collateral_token
            touched_reserves.burn_stable(debt, case.account.stable[debt], -change.value, read_again=read_again)
    return touched_reserves.changes()


# -- Which orders ----------------------------------------------------------------------------------------------------


def pairs(state: AaveState, account: AccountId, oracle: OracleP, now: Clock) -> Sequence[Pair]:
    """Every pair an eligible account may be liquidated with now, by debt asset and then collateral asset; empty where a
    price is missing.
    """
    book = state.accounts.get(account)
    if book is None or not (book.debt or book.stable):
        return ()
    try:
        if account_data(state, account, oracle, now).health_factor >= LIQUIDATION_HEALTH:
            return ()
    except PriceMissing:
        return ()
    rules, reserves, held = state.rules, state.reserves, book.collateral
    takeable = [
        asset
        for asset in sorted(book.enabled)
        if asset in held and is_collateral(rules, reserves[asset]) and closed(rules, reserves[asset], now) is None
    ]
    owed = [
        asset
        for asset in sorted(debts(book) if book.stable else book.debt)
        if closed(rules, reserves[asset], now) is None
    ]
    return [Pair(debt, collateral) for debt in owed for collateral in takeable]


def weight(state: AaveState, account: AccountId, asset: AssetId) -> int:
    """Wad: the liquidation threshold of a collateral for this account, by its e-mode."""
    book = state.accounts.get(account) or Account()
    return liquidation_threshold(state.rules, state.reserves[asset], book, category_of(state, book)) * WAD // BPS


def observed_order(state: AaveState, past: HistoricalLiquidation, oracle: OracleP, now: Clock) -> Order:
    """The order that explains a historical liquidation: as much as possible if that gives its two amounts, else exactly
    what was repaid.

    The event shows what was repaid, not what was asked for. Asking for all matters where the collateral limited the
    call: asking for the repaid amount alone would then take a few units less collateral. Both amounts are compared, as
    a request may by chance equal that limit.
    """
    order = Order(
        account=past.account,
        pair=Pair(past.debt_asset, past.collateral_asset),
        liquidator=past.liquidator,
        receive_collateral_token=past.receive_collateral_token,
    )
    fill = quote(state, order, oracle, now)
    if isinstance(fill, Fill) and (fill.repaid, fill.seized) == (past.repaid, past.seized):
        return order
    return Order(
        account=past.account,
        pair=order.pair,
        liquidator=past.liquidator,
        repay=past.repaid,
        receive_collateral_token=past.receive_collateral_token,
    )
