"""What liquidating a trove does, and who is paid what.

Source: liquity/dev at 5174ecd0, ``TroveManager.sol`` ``batchLiquidateTroves``, ``_liquidateNormalMode``,
``_liquidateRecoveryMode``, ``_getOffsetAndRedistributionVals``, ``_getCappedOffsetVals``, ``_sendGasCompensation``.

The stability pool pays, and gets the collateral; what it cannot pay the other troves take over with its collateral.
The caller brings nothing: it gets 200 LUSD and a part of the collateral. Nothing is written off: debt that a
redistribution shares out and its collateral does not cover is the other troves' loss, from then on in their ratios.

A replay's own liquidations are calls for one trove each (``liquidate``). A call of history may have closed several:
its troves settle together, with the last of them, as the contract does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation, ParamChange, PositionChange
from backtest.protocols.changes import parameter_change, position_change
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.liquity_v1.account import price_of
from backtest.protocols.liquity_v1.math import GAS_DEBT, capped_down, ratio_down, share_down, split_down
from backtest.protocols.liquity_v1.state import (
    BATCH,
    BATCH_MODE,
    DEFAULT,
    ETH,
    GATHERED,
    LIQUIDATED,
    LUSD,
    POOL,
    REDISTRIBUTED,
    REDISTRIBUTION,
    RULES,
    LiquityState,
    Trove,
)
from backtest.units import WAD

Change = PositionChange | ParamChange
PAIR = Pair(LUSD, ETH)
NORMAL, RECOVERY = 1, 2
"""As logged (TroveManagerOperation)."""


class Liquidated(NamedTuple):
    """What becomes of a trove: its debt, what the pool pays of it and gets, what the other troves take over, what the
    caller and the owner get of the collateral; native units.
    """

    debt: int
    offset: int
    to_pool: int
    debt_shared: int
    coll_shared: int
    gas_coll: int
    surplus: int


def liquidated(
    state: LiquityState, trove: Trove, price: int, deposits: int, *, mode: int, total_ratio: int
) -> Liquidated | None:
    """What a call in this mode does to a trove, ``deposits`` being what the pool still has; None: nothing.

    ``total_ratio`` is the whole system's, asked in recovery mode only. That another trove is left is asked by
    ``only_one``.
    """
    coll, debt = state.entire(trove)
    least, ratio = state.param("liquidation_ratio"), ratio_down(coll, debt, price)
    share = state.param("gas_share")
    if ratio >= least:
        if mode != RECOVERY or ratio >= total_ratio or debt > deposits or not deposits:
            return None
        capped = capped_down(debt, price, least)
        gas = share_down(capped, share)
        return Liquidated(debt, debt, capped - gas, 0, 0, gas, coll - capped)
    gas = share_down(coll, share)
    rest = coll - gas
    offset, to_pool = (0, 0) if mode == RECOVERY and ratio <= WAD else split_down(debt, rest, deposits)
    return Liquidated(debt, offset, to_pool, debt - offset, rest - to_pool, gas, 0)


def only_one(state: LiquityState) -> bool:
    """The last trove cannot be closed (TroveManager._requireMoreThanOneTroveInSystem)."""
    return len(state.troves) < 2


def mode_of(state: LiquityState, price: int) -> int:
    """Normal or recovery mode at a price."""
    return RECOVERY if state.recovers(price) else NORMAL


def _alone(state: LiquityState, account: AccountId, price: int) -> Liquidated | None:
    """The outcome of ``liquidate`` for one trove."""
    trove = state.trove(account)
    if not trove.debt or only_one(state):
        return None
    mode = mode_of(state, price)
    return liquidated(state, trove, price, state.pool_deposits, mode=mode, total_ratio=state.total_ratio(price))


def pairs(state: LiquityState, account: AccountId, prices: Mapping[AssetId, int]) -> Sequence[Pair]:
    """One, where the trove may be liquidated."""
    try:
        return (PAIR,) if _alone(state, account, price_of(state, prices)) is not None else ()
    except PriceMissing:
        return ()


def quote(state: LiquityState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """What liquidating the trove would do at ``now``; the state is not changed.

    ``repaid`` is all its debt, of which the liquidator pays nothing (``repaid_by_others``); ``seized`` what the caller
    gets of the collateral, ``protocol_fee`` what the pool and the other troves get, ``reward`` the caller's LUSD. An
    order that names ``repay`` without agreeing it is one of a call of history (``observed_order``).
    """
    try:
        price = price_of(state, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    if order.pair != PAIR:
        return Refusal("a trove owes LUSD against ether")
    trove = state.trove(order.account)
    if not trove.debt:
        return Refusal("the trove is not there, or closed")
    if order.agreed:
        return _agreed(state, order, trove, price, now)
    if only_one(state):
        return Refusal("it is the only trove of the system")
    several = state.params.get(BATCH, 0) if order.repay is not None else 0
    if several and (several > 1 or state.params.get(BATCH_MODE)):
        return _one_of_several(state, order, trove, price, several, now)
    found = _alone(state, order.account, price)
    if found is None:
        return Refusal("nothing to liquidate")
    changes = [*closed(state, order.account, now), *settled(found[1:5], state, now)]
    return _fill(order, found, changes)


def _one_of_several(
    state: LiquityState, order: Order, trove: Trove, price: int, left: int, now: Clock
) -> Fill | Refusal:
    """A trove of a call that closes several: what they come to is gathered, and settled with the last."""
    gathered = [state.params.get(name, 0) for name in GATHERED]
    mode = state.param(BATCH_MODE)
    # Which troves above the least ratio the contract took is in its log; their ratios it compared with a running one.
    found = liquidated(
        state, trove, price, state.pool_deposits - gathered[0], mode=mode, total_ratio=state.param("critical_ratio")
    )
    if found is None:
        return Refusal("nothing to liquidate")
    sums = tuple(one + more for one, more in zip(gathered, found[1:5], strict=True))
    changes = closed(state, order.account, now)
    if left == 1:
        changes += settled(sums, state, now)
        sums = (0, 0, 0, 0)
    changes += [parameter_change(now, name, value) for name, value in zip(GATHERED, sums, strict=True)]
    return _fill(order, found, changes)


def _fill(order: Order, found: Liquidated, changes: Sequence[Change]) -> Fill:
    return Fill(
        order,
        found.debt,
        found.gas_coll,
        found.to_pool + found.coll_shared,
        tuple(changes),
        rules=RULES,
        repaid_by_others=found.debt,
        reward=GAS_DEBT,
    )


def closed(state: LiquityState, account: AccountId, now: Clock, action: str = "liquidation") -> list[Change]:
    """A trove goes, and what it had pending leaves the DefaultPool."""
    trove = state.trove(account)
    coll, debt = state.pending(trove)
    changes: list[Change] = []
    if coll or debt:
        changes += [
            position_change(now, DEFAULT, ETH, "collateral", -coll, action=action),
            position_change(now, DEFAULT, LUSD, "debt", -debt, action=action),
        ]
    return [
        *changes,
        position_change(now, account, ETH, "collateral", -trove.coll, action=action),
        position_change(now, account, LUSD, "debt", -trove.debt, action=action),
    ]


def settled(sums: Sequence[int], state: LiquityState, now: Clock) -> list[Change]:
    """What a call moves once all its troves are closed: the pool pays and gets, the other troves take over."""
    offset, to_pool, debt, coll = sums
    changes: list[Change] = []
    if offset:
        changes += [
            position_change(now, POOL, ETH, "collateral", to_pool),
            position_change(now, POOL, LUSD, "collateral", -offset),
        ]
    if debt:
        changes += [
            position_change(now, DEFAULT, ETH, "collateral", coll),
            position_change(now, DEFAULT, LUSD, "debt", debt),
            parameter_change(now, REDISTRIBUTED, state.params.get(REDISTRIBUTED, 0) + 1),
        ]
    return [*changes, parameter_change(now, LIQUIDATED, 1)]


def applied(state: LiquityState, account: AccountId, now: Clock) -> list[Change]:
    """What a trove has pending becomes its own (TroveManager._applyPendingRewards)."""
    trove = state.trove(account)
    if trove.coll_sum >= state.coll_sum:
        return []
    coll, debt = state.pending(trove)
    return [
        position_change(now, DEFAULT, ETH, "collateral", -coll, action=REDISTRIBUTION),
        position_change(now, DEFAULT, LUSD, "debt", -debt, action=REDISTRIBUTION),
        position_change(now, account, ETH, "collateral", coll, action=REDISTRIBUTION),
        position_change(now, account, LUSD, "debt", debt, action=REDISTRIBUTION),
    ]


def _agreed(state: LiquityState, order: Order, trove: Trove, price: int, now: Clock) -> Fill | Refusal:
    """Terms of a mechanism that is not Liquity's: the liquidator brings the debt and takes the collateral, of a trove
    below the least ratio; who has nothing left has no trove.
    """
    assert order.repay is not None
    assert order.seize is not None
    coll, debt = state.entire(trove)
    if ratio_down(coll, debt, price) >= state.param("liquidation_ratio"):
        return Refusal("the trove is at or above the least ratio")
    if order.repay > debt or order.seize > coll or not (order.repay or order.seize):
        return Refusal("more than there is, or nothing")
    changes = applied(state, order.account, now)
    changes += [
        position_change(now, order.account, ETH, "collateral", -order.seize, amount=order.seize),
        position_change(now, order.account, LUSD, "debt", -order.repay, amount=order.repay),
        parameter_change(now, LIQUIDATED, 1),
    ]
    return Fill(order, order.repay, order.seize, 0, tuple(changes), rules=RULES)


def observed_order(past: HistoricalLiquidation) -> Order:
    """The order of a historical one, as part of the call that it was in."""
    return Order(past.account, PAIR, past.liquidator, past.repaid)
