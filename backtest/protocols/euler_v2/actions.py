"""What a user's calls do in a book that may differ from history's, checked as the vault and the connector check them.

Source: euler-xyz/euler-vault-kit, ``src/EVault/modules/Vault.sol`` ``deposit``, ``withdraw``, ``redeem``,
``modules/Borrowing.sol`` ``borrow``, ``repay``, ``repayWithShares``, ``pullDebt``, ``modules/Token.sol``,
``modules/RiskManager.sol`` ``checkAccountStatus``, ``checkVaultStatus``; euler-xyz/ethereum-vault-connector,
``src/EthereumVaultConnector.sol`` ``batch``, ``requireAccountStatusCheck``.

Calls of one account in one transaction are one action: the connector asks for the account's health once, at their end,
so that a loan may come before its collateral, and where it refuses nothing of them happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, IndexUpdate, ParamChange, PositionChange, SettingChange
from backtest.protocols.euler_v2.account import is_healthy, view_of
from backtest.protocols.euler_v2.liquidation import debt_moved
from backtest.protocols.euler_v2.math import DEBT_UNIT, owed_up
from backtest.protocols.euler_v2.state import (
    LENT,
    OP_BORROW,
    OP_DEPOSIT,
    OP_MINT,
    OP_PULL_DEBT,
    OP_REDEEM,
    OP_REPAY,
    OP_REPAY_WITH_SHARES,
    OP_SKIM,
    OP_TRANSFER,
    OP_WITHDRAW,
    Account,
    EulerState,
    Vault,
    caps_fault,
    is_disabled,
    move_debt,
    status_after,
)
from backtest.protocols.interface import AccountView, Acted, Action, Refusal

# Calls that make a change; it is refused where all of them are disabled.
_OPS: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("supply", "collateral"): (OP_DEPOSIT, OP_MINT, OP_SKIM),
    ("withdraw", "collateral"): (OP_WITHDRAW, OP_REDEEM),
    ("transfer", "collateral"): (OP_TRANSFER,),
    ("borrow", "debt"): (OP_BORROW,),
    ("repay", "debt"): (OP_REPAY,),
    ("transfer", "debt"): (OP_PULL_DEBT,),
    ("repay_with_shares", "debt"): (OP_REPAY_WITH_SHARES,),
    ("repay_with_shares", "collateral"): (OP_REPAY_WITH_SHARES,),
}


class _Refused(Exception):
    """A call would revert: why."""


@dataclass(slots=True)
class _Batch:
    """The book as the calls so far leave it, with what they changed."""

    state: EulerState
    vaults: list[Vault]
    people: dict[AccountId, Account] = field(default_factory=dict)
    changes: list[PositionChange | SettingChange | ParamChange | IndexUpdate] = field(default_factory=list)
    moved: int | None = None
    """Native units of the first change."""

    def account(self, id: AccountId) -> Account:
        return self.people.get(id, self.state.account(id))


def act(state: EulerState, action: Action, prices: Mapping[AssetId, int], now: Clock) -> Acted | Refusal:
    """See ``LendingProtocol.act``. A log does not say whether shares or tokens were asked for: taken are the logged
    amounts where the vault's rate gives one for the other, else the tokens; all of them where history's call emptied
    the balance.
    """
    if action.name == "parameter":
        return _parameter(state, action, now)
    batch = _Batch(state, state.all_accrued(now.timestamp))
    first = next(change for change in action.changes if not isinstance(change, ParamChange))
    moves = [change for change in action.changes if isinstance(change, PositionChange)]
    if action.amount is not None and len(moves) > 1:
        return Refusal("several calls have no other size")
    try:
        for place, change in enumerate(action.changes):
            if isinstance(change, PositionChange):
                _move(batch, action, change, place in action.emptied)
            elif isinstance(change, SettingChange):
                _set(batch, change, now)
        if fault := caps_fault(state, state.accrued(LENT, now.timestamp), batch.vaults[LENT]):
            return Refusal(fault)
        view = _checked(batch, first.account, action, prices, now)
    except (_Refused, PriceMissing) as refused:
        return Refusal(refused.what if isinstance(refused, PriceMissing) else str(refused))
    touches = any(change.asset == LENT for change in moves)
    changes = (*batch.changes, *(status_after(state, batch.vaults[LENT], now) if touches else ()))
    return Acted(first.account, changes, batch.moved or 0, view)


def _parameter(state: EulerState, action: Action, now: Clock) -> Acted:
    """Interest recomputed: a new model, and a call that only accrues, set the rate here too."""
    changes: list[PositionChange | SettingChange | ParamChange | IndexUpdate] = [*action.changes]
    for change in action.changes:
        if state.recompute and isinstance(change, ParamChange) and change.name in ("rate_model", "touched"):
            of = replace(state, params={**state.params, change.name: change.value})
            changes += status_after(of, state.accrued(LENT, now.timestamp), now)
    return Acted(AccountId(-1), tuple(changes))


def _checked(
    batch: _Batch, account: AccountId, action: Action, prices: Mapping[AssetId, int], now: Clock
) -> AccountView | None:
    """The account's status, where its calls ask for it; its view then."""
    asked = any(_raises(change) for change in action.changes) or any(
        isinstance(change, SettingChange) and change.setting == "status_checked" for change in action.changes
    )
    taker = _taker(action, account)
    has = batch.account(taker)
    if not asked or not has.debt:
        return None
    if not is_healthy(batch.state, has, batch.vaults, prices, now.timestamp):
        raise _Refused("account liquidity: the status check fails")
    return view_of(batch.state, has, batch.vaults, prices, now.timestamp)


def _taker(action: Action, account: AccountId) -> AccountId:
    """Whose status is asked for: of a debt that is pulled, who takes it over."""
    pulled = [
        change.account
        for change in action.changes
        if isinstance(change, PositionChange) and (change.action, change.side) == ("transfer", "debt")
    ]
    return pulled[-1] if pulled else account


def _raises(change: PositionChange | SettingChange | ParamChange) -> bool:
    if isinstance(change, PositionChange):
        return (change.delta > 0) == (change.side == "debt")
    return isinstance(change, SettingChange) and change.setting == "collateral_enabled" and not change.value


def _set(batch: _Batch, change: SettingChange, now: Clock) -> None:
    has, value = batch.account(change.account), change.value
    if change.setting == "collateral_enabled" and change.asset is not None:
        one = frozenset((change.asset,))
        batch.people[change.account] = replace(has, enabled=has.enabled | one if value else has.enabled - one)
    elif change.setting == "status_checked":
        value = now.timestamp
        batch.people[change.account] = replace(has, checked=value)
    batch.changes.append(replace(change, value=value))


def _move(batch: _Batch, action: Action, change: PositionChange, emptied: bool) -> None:
    kind = change.action
    operations = _OPS.get((kind, change.side), ())
    if change.asset == LENT and operations and all(is_disabled(batch.state, each) for each in operations):
        raise _Refused("the operation is disabled")
    amount = change.amount or 0
    if action.amount is not None:
        amount = action.amount
    if change.side == "debt":
        _move_debt(batch, change, kind, amount, emptied)
    else:
        _move_shares(batch, change, kind, amount, emptied, action.amount is not None)


def _done(batch: _Batch, change: PositionChange, delta: int, amount: int) -> None:
    if batch.moved is None:
        batch.moved = amount
    batch.changes.append(replace(change, delta=delta, amount=amount))


def _move_debt(batch: _Batch, change: PositionChange, kind: str, amount: int, emptied: bool) -> None:
    has, lent = batch.account(change.account), batch.vaults[LENT]
    current = has.current(lent.accumulator)
    owed = owed_up(current)
    if kind == "borrow":
        if amount > lent.cash:
            raise _Refused("insufficient cash")
        after = current + amount * DEBT_UNIT
    elif kind == "transfer":
        handed = [each for each in batch.changes if isinstance(each, PositionChange) and each.side == "debt"]
        handed = [each for each in handed if each.action == "transfer"]
        if len(handed) % 2 == 0:  # the first of each two gives
            amount = owed if emptied else min(amount, owed)
            after = current - debt_moved(current, amount)
        else:
            gave = handed[-1]
            before = batch.state.account(gave.account)
            after = current + before.current(lent.accumulator) - (before.debt + gave.delta)
            amount = gave.amount or 0
    else:
        amount = owed if emptied else min(amount, owed)
        after = (owed - amount) * DEBT_UNIT
    if not amount:
        raise _Refused("nothing is moved")
    move_debt(lent, current, after, kind, 0 if kind == "transfer" else amount)
    batch.people[change.account] = replace(has, debt=after, since=lent.accumulator)
    _done(batch, change, after - has.debt, amount)


def _move_shares(batch: _Batch, change: PositionChange, kind: str, amount: int, emptied: bool, resized: bool) -> None:
    has, vault, asset = batch.account(change.account), batch.vaults[change.asset], change.asset
    held, logged = has.shares.get(asset, 0), abs(change.delta)
    if kind == "treasury":
        delta = min(change.delta, vault.fees) if asset == LENT else change.delta
        if asset == LENT:
            vault.fees -= delta
        batch.people[change.account] = has.holding(asset, held + delta)
        _done(batch, change, delta, 0)
        return
    if kind == "transfer" and change.delta > 0:  # what the one before it gave
        given = next((each for each in reversed(batch.changes) if isinstance(each, PositionChange)), None)
        shares = -given.delta if given is not None and given.asset == asset and given.delta < 0 else logged
        batch.people[change.account] = has.holding(asset, held + shares)
        _done(batch, change, shares, vault.worth_down(shares))
        return
    gives = change.delta > 0
    shares = logged
    if resized or (asset == LENT and not emptied):
        fits = not resized and (vault.for_down if gives else vault.for_up)(amount) == logged
        by_shares = not resized and (vault.worth_up if gives else vault.worth_down)(logged) == amount
        if not fits and not by_shares:
            shares = vault.for_down(amount) if gives else vault.for_up(amount)
    if not gives and (emptied or shares > held) and shares != held:
        shares, amount = held, vault.worth_down(held)
    if not shares:
        raise _Refused("zero shares")
    if not gives and asset == LENT and kind == "withdraw" and amount > vault.cash:
        raise _Refused("insufficient cash")
    batch.people[change.account] = has.holding(asset, held + (shares if gives else -shares))
    if asset == LENT and kind != "transfer":
        vault.shares += shares if gives else -shares
        if kind != "repay_with_shares":
            vault.cash += amount if gives else -amount
    _done(batch, change, shares if gives else -shares, amount)
