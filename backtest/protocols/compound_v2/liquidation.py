"""What one ``liquidateBorrow`` call does.

Source: compound-finance/compound-protocol, ``contracts/CToken.sol`` ``liquidateBorrowFresh``, ``seizeInternal``;
``contracts/Comptroller.sol`` ``liquidateBorrowAllowed``, ``liquidateCalculateSeizeTokens``. The call accrues the cToken
that is repaid and the one that is seized, then asks for a shortfall. The liquidator gets cTokens, of which code from
2.9 on keeps a share for its reserves. There is no write-off: what is left when the collateral is gone stays owed.
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
    Side,
)
from backtest.protocols.compound_v2.account import Fresh, has_shortfall, price_of
from backtest.protocols.compound_v2.math import (
    DEPRECATING,
    HALF_UP,
    div_down,
    mul_down,
    product,
    seize_tokens_down,
)
from backtest.protocols.compound_v2.state import (
    NOBODY,
    UNPLACED,
    Account,
    CompoundState,
    CTokenMarket,
    accrual,
    indexes_after,
    place,
)
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import WAD

Change = PositionChange | SettingChange | IndexUpdate | ParamChange


def pairs(state: CompoundState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """Every debt with every cToken held, entered or not, as far as a call that accrues these two finds a shortfall;
    nothing where an entered cToken has no price.
    """
    own = state.accounts.get(account, NOBODY)
    if not own.debts or not own.tokens or state.seize_paused:
        return ()
    fresh = {asset: state.accrued(asset, now) for asset in sorted(own.debts.keys() | own.tokens.keys())}
    found = []
    for debt in sorted(own.debts):
        for collateral in sorted(own.tokens):
            pair = Pair(debt, collateral)
            if prices.get(collateral) and prices.get(debt) and _allowed(state, own, pair, prices, fresh) is None:
                found.append(pair)
    return found


def _allowed(state: CompoundState, own: Account, pair: Pair, prices: Mapping[AssetId, int], fresh: Fresh) -> str | None:
    """Why Comptroller.liquidateBorrowAllowed refuses at any size; None: it does not."""
    debt, collateral = pair.debt_asset, pair.collateral_asset
    if _deprecated(state, debt):
        return None
    try:
        touched = {debt: fresh[debt], collateral: fresh[collateral]}
        return None if has_shortfall(state, own, prices, touched) else "the account has no shortfall"
    except PriceMissing as missing:
        return missing.what


def _deprecated(state: CompoundState, asset: AssetId) -> bool:
    return state.revision == DEPRECATING and state.pools[asset].deprecated


def most_repay_down(tokens: int, ratio: int) -> int:
    """The most that may be repaid for at most ``tokens`` cTokens: the inverse of the cut product with ``ratio``."""
    return ((tokens + 1) * WAD - 1) // ratio


def quote(state: CompoundState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """What ``order`` would do at ``now``; the state is not changed.

    ``order.repay`` is the call's argument, taken as it is: one that seizes more than there is reverts. None: as much as
    the close factor and the collateral allow. Where both amounts are agreed, close factor and incentive do not apply.
    Where the liquidator is to receive the underlying, it redeems its cTokens at once.
    """
    own, debt, collateral = (
        state.accounts.get(order.account, NOBODY),
        order.pair.debt_asset,
        order.pair.collateral_asset,
    )
    if order.account == order.liquidator:
        return Refusal("an account cannot liquidate itself")
    if debt not in own.debts or collateral not in own.tokens:
        return Refusal("the account does not owe the one or hold the other")
    if state.seize_paused:
        return Refusal("seize is paused")
    fresh = {asset: state.accrued(asset, now) for asset in (debt, collateral)}
    try:
        price_borrowed, price_collateral = (price_of(state, asset, prices) for asset in (debt, collateral))
    except PriceMissing as missing:
        return Refusal(missing.what)
    if why := None if order.early else _allowed(state, own, order.pair, prices, fresh):
        return Refusal(why)
    owed, held, pool = own.owed(debt, fresh[debt].index), own.tokens[collateral], fresh[collateral]
    rate = pool.exchange_rate
    if order.agreed:
        assert order.repay is not None
        assert order.seize is not None
        repaid = min(order.repay, owed)
        tokens = held if order.seize >= mul_down(rate, held) else div_down(order.seize, rate)
    else:
        terms = pool.incentive, price_borrowed, price_collateral, rate, state.revision
        top = owed if _deprecated(state, debt) else mul_down(state.close_factor, owed)
        ratio = div_down(product(terms[0], terms[1], terms[4]), product(terms[2], terms[3], terms[4]))
        most = min(top, most_repay_down(held, ratio)) if ratio else top
        repaid = most if order.repay is None else order.repay
        if repaid > top:
            return Refusal("repays more than the close factor allows", instead=most or None)
        tokens = seize_tokens_down(repaid, *terms)
        if tokens > held:
            return Refusal("seizes more than the account holds", instead=most or None)
    if not repaid:
        return Refusal("nothing is repaid")
    return _settle(state, order, own, fresh, now, repaid, tokens)


def _settle(
    state: CompoundState,
    order: Order,
    own: Account,
    fresh: Mapping[AssetId, CTokenMarket],
    now: Clock,
    repaid: int,
    tokens: int,
) -> Fill | Refusal:
    account, debt, collateral = order.account, order.pair.debt_asset, order.pair.collateral_asset
    changes: list[Change] = [change for asset in fresh for change in accrual(state, asset, now)]
    left = {asset: replace(pool) for asset, pool in fresh.items()}
    principal = own.owed(debt, fresh[debt].index) - repaid
    changes.append(_moved(account, debt, "debt", principal - own.debts[debt][0], repaid, now))
    left[debt].cash += repaid
    left[debt].borrows -= repaid
    pool = left[collateral]
    rate = pool.exchange_rate  # as seizeInternal reads it: repaying does not change it
    kept = mul_down(tokens, pool.seize_share)
    fee, given = mul_down(rate, kept), tokens - kept
    changes.append(_moved(account, collateral, "collateral", -tokens, None, now))
    changes.append(_moved(order.liquidator, collateral, "collateral", given, None, now))
    if kept:
        changes.append(_share(account, collateral, fee, now))
    pool.supply -= kept
    pool.reserves += fee
    seized = mul_down(rate, given)
    if not order.receive_collateral_token and given:
        seized = mul_down(pool.exchange_rate, given)
        if pool.cash < seized:
            return Refusal("the cToken has not the cash to redeem what is seized", unpaid=(collateral, seized))
        changes.append(_moved(order.liquidator, collateral, "collateral", -given, seized, now, "withdraw"))
        pool.cash -= seized
        pool.supply -= given
    for asset in left:
        changes += indexes_after(state, asset, left[asset], now)
    name = f"comptroller {'to nearest' if state.revision == HALF_UP else 'cut'}"
    tested = not kept and not _deprecated(state, debt)
    rules = name + (", seize share" if kept else "") + (", deprecated market" if _deprecated(state, debt) else "")
    return Fill(order, repaid, seized, fee, tuple(changes), rules=rules, rules_tested=tested)


def _moved(
    account: AccountId,
    asset: AssetId,
    side: Side,
    delta: int,
    amount: int | None,
    now: Clock,
    action: str = "liquidation",
) -> PositionChange:
    return PositionChange(
        **place(now),
        account=account,
        asset=asset,
        side=side,
        delta=delta,
        action=action,
        action_seq=UNPLACED,
        amount=amount,
    )


def _share(account: AccountId, asset: AssetId, value: int, now: Clock) -> SettingChange:
    return SettingChange(
        **place(now),
        account=account,
        setting="protocol_share",
        asset=asset,
        value=value,
        action="liquidation",
        action_seq=UNPLACED,
    )


def observed_order(
    state: CompoundState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock
) -> Order:
    """The call of a historical liquidation: its log says what was repaid."""
    pair = Pair(past.debt_asset, past.collateral_asset)
    return Order(past.account, pair, past.liquidator, repay=past.repaid, receive_collateral_token=True)
