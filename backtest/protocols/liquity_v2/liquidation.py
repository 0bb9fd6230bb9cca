"""What liquidating a trove does, and who is paid what.

Source: liquity/bold at b40fa9b9, ``TroveManager.sol`` ``batchLiquidateTroves``, ``_liquidate``,
``_sendGasCompensation``.

The stability pool pays, but for the BOLD that always stays in it, and gets collateral up to its penalty; other troves
take over the rest, with collateral up to theirs; what is above is the owner's (CollSurplusPool). The caller brings
nothing: it gets 0.0375 WETH and a part of the collateral that the pool takes. Nothing is written off: debt that is
shared out and not covered is the other troves' loss, from then on in their ratios.

A replay's own liquidations are calls for one trove each. A call of history may have closed several: its troves settle
together, with the last of them, as the contract does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backtest.errors import PriceMissing
from backtest.model import AccountId, AssetId, Clock, HistoricalLiquidation
from backtest.protocols.changes import parameter_change, position_change
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.liquity.math import ratio_down
from backtest.protocols.liquity_v2.account import price_of
from backtest.protocols.liquity_v2.math import Split, split_down
from backtest.protocols.liquity_v2.state import (
    BATCH,
    BOLD,
    COLL,
    DEFAULT,
    GATHERED,
    LIQUIDATED,
    LIQUIDATION,
    POOL,
    RULES,
    SURPLUS,
    BranchState,
    Latest,
)
from backtest.protocols.liquity_v2.touch import Change, gone, moves_many, touched
from backtest.units import WAD

PAIR = Pair(BOLD, COLL)


def parted(state: BranchState, latest: Latest, price: int, available: int) -> Split | None:
    """What a call does to a trove, ``available`` being what the pool may still pay; None: it is not below the least
    ratio.
    """
    if not latest.debt or ratio_down(latest.coll, latest.debt, price) >= state.param("liquidation_ratio"):
        return None
    terms = (state.param(name) for name in ("gas_share", "liquidation_penalty", "redistribution_penalty"))
    return split_down(latest.coll, latest.debt, available, price, *terms)


def only_one(state: BranchState) -> bool:
    """The last trove cannot be liquidated (TroveManager._requireMoreThanOneTroveInSystem)."""
    return len(state.troves) < 2


def pairs(state: BranchState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """One, where the trove may be liquidated."""
    try:
        price = price_of(state, prices)
    except PriceMissing:
        return ()
    latest = state.latest(state.trove(account), now.timestamp)
    found = None if only_one(state) else parted(state, latest, price, state.available())
    return (PAIR,) if found is not None else ()


def quote(state: BranchState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """What liquidating the trove would do at ``now``; the state is not changed.

    ``repaid`` is all its debt, of which the liquidator pays nothing (``repaid_by_others``); ``seized`` what the caller
    gets of the collateral, ``protocol_fee`` what the pool and the other troves get, ``reward`` the caller's WETH, in
    BOLD at the oracle's price where WETH is the branch's collateral. An order that names ``repay`` without agreeing it
    is one of a call of history (``observed_order``).
    """
    try:
        price = price_of(state, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    if order.pair != PAIR:
        return Refusal("a trove owes BOLD against its branch's collateral")
    if order.account not in state.troves:
        return Refusal("the trove is not there, or closed")
    latest = state.latest(state.trove(order.account), now.timestamp)
    if order.agreed:
        return _agreed(state, order, latest, price, now)
    if only_one(state):
        return Refusal("it is the only trove of the branch")
    several = state.params.get(BATCH, 0) if order.repay is not None else 0
    gathered = [state.params.get(name, 0) for name in GATHERED] if several > 0 else [0] * 5
    found = parted(state, latest, price, state.available() - gathered[0])
    if found is None:
        return Refusal("nothing to liquidate")
    changes = gone(state, order.account, latest, now, LIQUIDATION)
    own = found.offset, found.to_pool, found.debt_shared, found.coll_shared, found.surplus
    sums = [one + more for one, more in zip(gathered, own, strict=True)]
    if several <= 1:
        changes += settled(state, sums, now)
        sums = [0] * 5
    if several:
        changes += [parameter_change(now, name, value) for name, value in zip(GATHERED, sums, strict=True)]
    return Fill(
        order,
        latest.debt,
        found.gas_coll,
        found.to_pool + found.coll_shared,
        tuple(changes),
        rules=RULES,
        repaid_by_others=latest.debt,
        reward=state.params.get("gas_reward", 0) * price // WAD,
    )


def settled(state: BranchState, sums: Sequence[int], now: Clock) -> list[Change]:
    """What a call moves once all its troves are closed: the pool pays and gets, the other troves take over, what is
    left is kept for the owners.
    """
    offset, to_pool, debt, coll, surplus = sums
    changes: list[Change] = []
    if offset or to_pool:
        changes += [
            position_change(now, POOL, COLL, "collateral", to_pool),
            position_change(now, POOL, BOLD, "collateral", -offset),
        ]
    if debt:
        changes += [
            position_change(now, DEFAULT, COLL, "collateral", coll),
            position_change(now, DEFAULT, BOLD, "debt", debt),
            moves_many(state, now),
        ]
    if surplus:
        changes.append(position_change(now, SURPLUS, COLL, "collateral", surplus))
    return [*changes, parameter_change(now, LIQUIDATED, 1)]


def _agreed(state: BranchState, order: Order, latest: Latest, price: int, now: Clock) -> Fill | Refusal:
    """Terms of a mechanism that is not Liquity's: the liquidator brings the debt and takes the collateral, of a trove
    below the least ratio; who has nothing left has no trove.
    """
    assert order.repay is not None
    assert order.seize is not None
    if ratio_down(latest.coll, latest.debt, price) >= state.param("liquidation_ratio"):
        return Refusal("the trove is at or above the least ratio")
    if order.repay > latest.debt or order.seize > latest.coll or not (order.repay or order.seize):
        return Refusal("more than there is, or nothing")
    changes = touched(state, order.account, latest, now, by_debt=-order.repay, action=LIQUIDATION, amount=order.repay)
    changes += [
        position_change(now, order.account, COLL, "collateral", -order.seize, amount=order.seize),
        parameter_change(now, LIQUIDATED, 1),
    ]
    return Fill(order, order.repay, order.seize, 0, tuple(changes), rules=RULES)


def observed_order(past: HistoricalLiquidation) -> Order:
    """The order of a historical one, as part of the call that it was in."""
    return Order(past.account, PAIR, past.liquidator, past.repaid)
