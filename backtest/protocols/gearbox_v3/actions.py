"""What a user's multicall does in a book that may differ from history's, checked as the contracts check it.

Source: Gearbox-protocol/core-v3 at 510fc654, ``contracts/credit/CreditFacadeV3.sol`` ``multicall``, ``_manageDebt``,
``_updateQuota``, ``CreditManagerV3.sol`` ``manageDebt``, ``fullCollateralCheck``, ``PoolQuotaKeeperV3.sol``
``updateQuota``. A multicall is made again whole: the debt changes by what was borrowed or repaid, quotas become what
they became, tokens change by as much as in history, whatever a swap would bring here. Its collateral check asks the
oracle's main prices: safe prices, which some calls ask for, are not known. Bots, permissions and a pause are taken as
in history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange, SettingChange
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.gearbox_v3.account import valued, view_of
from backtest.protocols.gearbox_v3.liquidation import (
    Change,
    after_repayment,
    left_with,
    reindexed,
    repayment,
    with_index,
)
from backtest.protocols.gearbox_v3.math import (
    decreased,
    fee_down,
    increased,
    quota_increase,
    quota_interest_down,
)
from backtest.protocols.gearbox_v3.state import UNDERLYING, CreditAccount, GearboxState, total_quoted
from backtest.protocols.interface import Acted, Action, Refusal

Oracle = Mapping[AssetId, int]


def act(state: GearboxState, action: Action, prices: Oracle, now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. ``amount`` stands for the debt borrowed or repaid, else for the first token that is
    added or taken; the underlying on the account follows a debt.
    """
    if all(isinstance(change, ParamChange) for change in action.changes):
        return Acted(AccountId(-1), with_index(state, list(action.changes), now))
    try:
        return _multicall(state, action, prices, now)
    except PriceMissing as missing:
        return Refusal(missing.what)


class _Call:
    """What history's multicall moved, and what of it is asked for here."""

    def __init__(self, action: Action) -> None:
        moves = [(place, each) for place, each in enumerate(action.changes) if isinstance(each, PositionChange)]
        settings = [each for each in action.changes if isinstance(each, SettingChange)]
        first = next(each for each in action.changes if isinstance(each, PositionChange | SettingChange))
        self.account, self.name = first.account, action.name
        self.tokens = {each.asset: each.delta for _, each in moves if each.side == "collateral"}
        debt = next(((place, each) for place, each in moves if each.side == "debt"), None)
        self.amount = 0 if debt is None else debt[1].amount or 0
        self.borrows = debt is not None and debt[1].delta > 0
        self.repays_all = debt is not None and debt[0] in action.emptied and not self.borrows
        self.empties = {each.asset for place, each in moves if each.side == "collateral" and place in action.emptied}
        self.quotas = {
            each.asset: each.value for each in settings if each.setting == "quota" and each.asset is not None
        }
        self.owner = next((each for each in settings if each.setting == "owner"), None)
        # A repayment of interest alone moves no principal: its amount is what the pool got.
        self.repays = debt is not None and debt[1].delta < 0
        cash = [each.value for each in settings if each.setting == "pool_cash"]
        if debt is None and cash:
            self.amount, self.repays = cash[0], True
        if action.amount is not None:
            self._ask(action.amount)

    def _ask(self, amount: int) -> None:
        if self.borrows or self.repays:
            self.follow(amount)
            return
        if self.tokens:
            asset = next(iter(self.tokens))
            self.tokens[asset] = amount if self.tokens[asset] > 0 else -amount

    def follow(self, amount: int) -> None:
        """Another amount of debt: the underlying on the account differs by as much."""
        more = amount - self.amount if self.borrows else self.amount - amount
        if more:
            self.tokens[UNDERLYING] = self.tokens.get(UNDERLYING, 0) + more
        self.amount = amount


def _multicall(state: GearboxState, action: Action, prices: Oracle, now: Clock) -> Acted | Refusal:
    call, time = _Call(action), now.timestamp
    own = state.account(call.account)
    changes: list[Change] = []
    if call.owner is not None:
        changes.append(call.owner)
    if state.is_expired(time) and not call.repays_all and (call.borrows or own.debt):
        return Refusal("the credit facade has expired")
    if (call.borrows or call.repays) and own.updated == now.block_number:
        return Refusal("its debt was changed in the same block")
    after = own
    if call.borrows:
        borrowed = _borrow(state, call, after, now, changes)
        if isinstance(borrowed, Refusal):
            return borrowed
        after = borrowed
    if call.repays_all:  # quotas end before the last of the debt is repaid
        call.quotas |= dict.fromkeys(own.quotas, 0)
    quoted = _quotas(state, call, after, now, changes)
    if isinstance(quoted, Refusal):
        return quoted
    after = quoted
    if call.repays:
        owed = state.owed(after, time)
        if not owed.debt:
            return Refusal("the account owes nothing")
        call.follow(owed.total if call.repays_all else min(call.amount, owed.total))
        paid = decreased(call.amount, owed)
        if (refused := after_repayment(state, after, paid)) is not None:
            return refused
        changes += repayment(state, call.account, after, paid, now, call.name)
        after = reindexed(state, left_with(after, paid), time)
    moved = _tokens(call, after, now, changes)
    if isinstance(moved, Refusal):
        return moved
    after = moved
    view = None
    if after.debt:
        if valued(state, after, prices, time).is_unhealthy:
            return Refusal("not enough collateral")
        view = view_of(state, after, prices, time)
    amount = call.amount or next((abs(delta) for delta in call.tokens.values() if delta), 0)
    risky = call.borrows or any(delta < 0 for delta in call.tokens.values())
    return Acted(call.account, with_index(state, changes, now), amount, view if risky else None)


def _borrow(
    state: GearboxState, call: _Call, own: CreditAccount, now: Clock, changes: list[Change]
) -> CreditAccount | Refusal:
    time = now.timestamp
    if not call.amount:
        return Refusal("nothing is borrowed")
    debt, index = increased(call.amount, own.debt, state.index_at(time), own.debt_index)
    if debt < state.params.get("least_debt", 0) or debt > state.params.get("greatest_debt", debt):
        return Refusal("outside the least and the greatest debt")
    if state.recompute:
        left = state.pool.available - call.amount
        if left < 0:
            return Refusal("the pool has not as much")
        if (curve := state.curve) is not None and curve.refuses(state.pool.expected_at(time), left):
            return Refusal("borrowing above the second kink is forbidden")
    changes.append(
        position_change(now, call.account, UNDERLYING, "debt", call.amount, amount=call.amount, action=call.name)
    )
    changes.append(setting_change(now, call.account, "debt_index", UNDERLYING, index, action=call.name))
    return replace(own, debt=debt, debt_index=index)


def _quotas(
    state: GearboxState, call: _Call, own: CreditAccount, now: Clock, changes: list[Change]
) -> CreditAccount | Refusal:
    time = now.timestamp
    for asset, wanted in call.quotas.items():
        quota, last = own.quotas.get(asset, (0, 0))
        index = state.quota_index_at(asset, time)
        interest = own.quota_interest + quota_interest_down(quota, index, last)
        fees, after = own.quota_fees, wanted
        if wanted > quota:
            if not own.debt:
                return Refusal("a quota without debt")
            limit = state.of_assets.get(("quota_limit", asset), 0)
            given = quota_increase(total_quoted(state, asset), limit, wanted - quota)
            if given < wanted - quota:
                return Refusal("the token's quotas are used up")
            fees += fee_down(given, state.of_assets.get(("quota_increase_fee", asset), 0))
        own = replace(own, quota_interest=interest, quota_fees=fees).quoted(asset, after, index)
        values = {"quota_interest": interest, "quota_fees": fees}
        changes.append(setting_change(now, call.account, "quota", asset, after, action=call.name))
        changes += [
            setting_change(now, call.account, name, UNDERLYING, value, action=call.name)
            for name, value in values.items()
        ]
    return own


def _tokens(call: _Call, own: CreditAccount, now: Clock, changes: list[Change]) -> CreditAccount | Refusal:
    for asset, delta in call.tokens.items():
        held = own.held.get(asset, 0)
        by = -held if asset in call.empties else delta
        if held + by < 0:
            return Refusal("more than there is")
        if by:
            own = own.holding(asset, held + by)
            changes.append(
                position_change(now, call.account, asset, "collateral", by, amount=abs(by), action=call.name)
            )
    return own
