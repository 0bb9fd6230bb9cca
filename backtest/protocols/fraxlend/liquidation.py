"""What one ``liquidate`` call does.

Source: FraxFinance/fraxlend at 2bed49d4, ``src/contracts/FraxlendPairCore.sol`` ``liquidate``. A call names the borrow
shares to repay; there is no close factor. Where the clean fee on them takes all collateral, the shares that are left
are written off in the same call, from what lenders own; where it does not, the dirty fee applies, even if all is
repaid. The protocol's part is collateral that the pair's own account gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

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
from backtest.protocols.changes import position_change, setting_change
from backtest.protocols.fraxlend.account import is_solvent, rate_down
from backtest.protocols.fraxlend.math import (
    PRECISION,
    Taken,
    least_shares_up,
    taken_down,
    to_amount_down,
    to_shares_down,
)
from backtest.protocols.fraxlend.state import (
    COLLATERAL,
    LENT,
    RULES,
    FraxlendState,
    Position,
    Totals,
    accrual,
    indexes_after,
)
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import mul_div_down

PAIR = Pair(LENT, COLLATERAL)

Change = PositionChange | SettingChange | IndexUpdate | ParamChange


def pairs(state: FraxlendState, account: AccountId, prices: Mapping[AssetId, int], now: Clock) -> Sequence[Pair]:
    """The one pair, where the borrower is insolvent and liquidations are not paused; nothing without a price."""
    has = state.of(account)
    if not has.borrow_shares or state.params.get("liquidation_paused"):
        return ()
    try:
        return () if is_solvent(state, has, state.accrued(now.timestamp), rate_down(state, prices)) else (PAIR,)
    except PriceMissing:
        return ()


def quote(state: FraxlendState, order: Order, prices: Mapping[AssetId, int], now: Clock) -> Fill | Refusal:
    """What ``order`` would do at ``now``; the state is not changed.

    ``order.repay_scaled`` is the contract's argument, taken as it is; ``order.repay`` (cut to what is owed) is turned
    into shares, rounded down. With neither: all shares, or the fewest that take all collateral where those are less.
    """
    has, totals = state.of(order.account), state.accrued(now.timestamp)
    if order.pair != PAIR:
        return Refusal("the pair lends one token against one collateral")
    if order.receive_collateral_token:
        return Refusal("collateral has no token of its own")
    if state.params.get("liquidation_paused"):
        return Refusal("LiquidatePaused")
    try:
        rate = rate_down(state, prices)
    except PriceMissing as missing:
        return Refusal(missing.what)
    if not order.early and is_solvent(state, has, totals, rate):
        return Refusal("BorrowerSolvent")
    if order.agreed:
        shares, taken = _agreed(state, order, has, totals)
    else:
        shares = _shares(state, order, has, totals, rate)
        taken = _taken(state, has, totals, rate, shares)
    if not shares and not taken.collateral:
        return Refusal("nothing is repaid or taken")
    if shares > has.borrow_shares:
        return Refusal("repays more shares than the borrower has")
    if taken.collateral > has.collateral:
        return Refusal("takes more collateral than there is")
    return _settle(state, order, has, totals, now, shares, taken)


def _fees(state: FraxlendState) -> tuple[int, int, int]:
    """Clean, dirty and the protocol's, of 10^5."""
    clean, dirty = (
        max(0, state.params.get(name, PRECISION) - PRECISION)
        for name in ("liquidation_bonus", "partial_liquidation_bonus")
    )
    return clean, dirty, state.params.get("liquidation_protocol_fee", 0)


def _taken(state: FraxlendState, has: Position, totals: Totals, rate: int, shares: int) -> Taken:
    repaid = to_amount_down(shares, totals.borrowed, totals.borrow_shares)
    return taken_down(repaid, rate, has.collateral, *_fees(state))


def _shares(state: FraxlendState, order: Order, has: Position, totals: Totals, rate: int) -> int:
    if order.repay_scaled is not None:
        return order.repay_scaled
    if order.repay is not None:
        return min(has.borrow_shares, to_shares_down(order.repay, totals.borrowed, totals.borrow_shares))
    if not rate or not totals.borrowed:
        return has.borrow_shares
    least = least_shares_up(has.collateral, rate, _fees(state)[0], totals.borrowed, totals.borrow_shares)
    return min(has.borrow_shares, least)


def _agreed(state: FraxlendState, order: Order, has: Position, totals: Totals) -> tuple[int, Taken]:
    """A mechanism has set both amounts; the protocol's part is taken, unless the owner sells early."""
    assert order.repay is not None
    assert order.seize is not None
    whole = order.repay >= totals.debt_up(has.borrow_shares)
    shares = has.borrow_shares if whole else to_shares_down(order.repay, totals.borrowed, totals.borrow_shares)
    fee = 0 if order.early else mul_div_down(_fees(state)[2], order.seize, PRECISION)
    return shares, Taken(order.seize, fee, order.seize == has.collateral)


def _settle(
    state: FraxlendState, order: Order, has: Position, totals: Totals, now: Clock, shares: int, taken: Taken
) -> Fill:
    repaid = totals.debt_up(shares)
    lost_shares = has.borrow_shares - shares if taken.whole else 0
    lost = to_amount_down(lost_shares, totals.borrowed, totals.borrow_shares) if lost_shares else 0
    changes: list[Change] = [*accrual(state, now)]
    changes += taken_from(state, now, order.account, shares, repaid, taken, lost_shares, lost)
    left = replace(
        totals,
        borrowed=totals.borrowed - repaid - lost,
        borrow_shares=totals.borrow_shares - shares - lost_shares,
        lent=totals.lent - lost,
    )
    changes += indexes_after(state, left, now)
    deficits = ((LENT, lost),) if lost_shares else ()
    seized = taken.collateral - taken.fee
    return Fill(order, repaid, seized, taken.fee, tuple(changes), deficits, rules=RULES)


def taken_from(
    state: FraxlendState, now: Clock, account: AccountId, shares: int, repaid: int, taken: Taken, lost_shares: int,
    lost: int,
) -> list[PositionChange | SettingChange]:  # fmt: skip
    """What a call changes in accounts, in order."""
    changes: list[PositionChange | SettingChange] = [
        position_change(now, account, LENT, "debt", -shares, amount=repaid),
        position_change(now, account, COLLATERAL, "collateral", -taken.collateral, amount=taken.collateral),
    ]
    if taken.fee and state.pair is not None:
        changes.append(position_change(now, state.pair, COLLATERAL, "collateral", taken.fee, amount=taken.fee))
    if lost_shares:
        changes.append(position_change(now, account, LENT, "debt", -lost_shares, amount=lost))
        changes.append(setting_change(now, account, "bad_debt", LENT, lost))
    return changes


def observed_order(
    state: FraxlendState, past: HistoricalLiquidation, prices: Mapping[AssetId, int], now: Clock
) -> Order:
    """The call that made a historical liquidation: its log says the shares."""
    if past.debt_scaled is None:
        raise RulesError(
            f"block {past.block_number}: a liquidation without its borrow shares", "rebuild the canonical tables"
        )
    return Order(past.account, PAIR, past.liquidator, repay_scaled=past.debt_scaled)
