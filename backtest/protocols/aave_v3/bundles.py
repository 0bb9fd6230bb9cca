"""Which logs belong to one action of a user: integers only, in chain order, one transaction at a time.

The pool closes every action with a log of its own, and emits the token logs and collateral flags of the action right
before it, with no foreign call in between. So each closing log takes the rows before it that it can have caused, back
to the one that starts it. A transfer of aTokens has no closing log but its ``BalanceTransfer``. Order of emission, by
version (``libraries/logic/`` of aave-v3-core and aave-v3-origin; ``|`` alternatives, ``[]`` where it applies):

- LiquidationLogic.executeLiquidationCall: [flag off] debt burn [stable burn] [DeficitCreated], then collateral burn |
  transfer to the liquidator [liquidator's flag on, until 3.5] [fee transfer to the treasury], then (3.3+) for each
  other
  debt: burn, DeficitCreated; LiquidationCall. The debt burn of the named pair is always there and is the only one of
  its reserve and user, so it marks where the call begins.
- SupplyLogic: mint [flag on] Supply (MintUnbacked); [flag off, until 3.4] burn [flag off, 3.5+] Withdraw; a
  transfer's flags come before its BalanceTransfer until 3.3 and after it from 3.4 on (``AToken._transfer``).
- BorrowLogic: mint, Borrow; debt burn [aToken burn [flag off]] Repay; both debts, SwapBorrowRateMode (until 3.1).
- PoolLogic.executeMintToTreasury: mint, MintedToTreasury. LiquidationLogic.executeEliminateDeficit: [flag off] burn,
  DeficitCovered.

A burn smaller than the interest accrued is logged as a Mint, so token logs count by account and asset, not by name.
Logs that only print interest change nothing and are left out before grouping.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from backtest.words.digits import compiled

Numbers = npt.NDArray[np.int32]
Shorts = npt.NDArray[np.int16]
Keys = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]

# Rows: what a log is. ``asset``, ``a`` and ``b`` mean, in this order:
COLLATERAL = 0  # aToken Mint or Burn: asset, account
DEBT = 1  # variable debt token Mint or Burn: asset, account
STABLE = 2  # stable debt token Mint or Burn: asset, account
TRANSFER = 3  # BalanceTransfer: asset, from, to
FLAG_ON = 4  # asset, account
FLAG_OFF = 5
DEFICIT = 6  # DeficitCreated: asset, account
SUPPLY = 7  # asset, account
WITHDRAW = 8  # asset, account
BORROW = 9  # asset, account
REPAY = 10  # asset, account
TREASURY = 11  # MintedToTreasury: asset
COVER = 12  # DeficitCovered: asset, caller
EMODE = 13  # account
SWAP = 14  # SwapBorrowRateMode, RebalanceStableBorrowRate: asset, account
LIQUIDATION = 15  # collateral asset, account, liquidator; ``debt_asset`` beside it
INITIALIZED = 16  # aToken Initialized: asset, treasury
UNBACKED = 17  # MintUnbacked: asset, account

ACTIONS = (
    "supply",
    "withdraw",
    "borrow",
    "repay",
    "transfer",
    "liquidation",
    "treasury",
    "collateral-flag",
    "emode",
    "cover",
    "other",
    "mint-unbacked",
)
_NAMES = {name: code for code, name in enumerate(ACTIONS)}
_SUPPLY, _WITHDRAW, _BORROW, _REPAY = _NAMES["supply"], _NAMES["withdraw"], _NAMES["borrow"], _NAMES["repay"]
_TRANSFER, _LIQUIDATION, _TREASURY = _NAMES["transfer"], _NAMES["liquidation"], _NAMES["treasury"]
_FLAG, _EMODE, _COVER, _OTHER = _NAMES["collateral-flag"], _NAMES["emode"], _NAMES["cover"], _NAMES["other"]
_UNBACKED = _NAMES["mint-unbacked"]


@compiled
def _liquidation(
    p: int,
    start: int,
    kind: Codes,
    asset: Shorts,
    debt_asset: Shorts,
    a: Numbers,
    b: Numbers,
    receives: Codes,
    closed: Numbers,
) -> int:
    """Give a LiquidationCall at ``p`` the rows of its call; the row of its fee transfer, or -1."""
    user, liquidator, collateral = a[p], b[p], asset[p]
    begin = p - 1
    while begin >= start and not (
        (kind[begin] == DEBT or kind[begin] == STABLE) and asset[begin] == debt_asset[p] and a[begin] == user
    ):
        begin -= 1
    if begin < start or closed[begin] != -1:
        return -1
    if (
        kind[begin] == STABLE
        and begin > start
        and kind[begin - 1] == DEBT
        and asset[begin - 1] == debt_asset[p]
        and a[begin - 1] == user
    ):
        begin -= 1
    if (
        begin > start
        and kind[begin - 1] == FLAG_OFF
        and asset[begin - 1] == collateral
        and a[begin - 1] == user
        and closed[begin - 1] == -1
    ):
        begin -= 1
    fee = -1
    seized = receives[p] == 0
    for q in range(begin, p):
        own = closed[q] == -1
        if kind[q] == COLLATERAL or kind[q] == FLAG_OFF:
            own = own and asset[q] == collateral and a[q] == user
        elif kind[q] == TRANSFER:
            own = own and asset[q] == collateral and a[q] == user
            if own and seized:
                fee = q
            elif own and b[q] == liquidator:
                seized = True
        elif kind[q] == FLAG_ON:
            own = own and asset[q] == collateral and a[q] == liquidator
        else:
            own = own and kind[q] <= DEFICIT and a[q] == user
        if own:
            closed[q] = p
    return fee


@compiled
def _is(
    q: int,
    p: int,
    want: int,
    kind: Codes,
    asset: Shorts,
    a: Numbers,
    account: int,
    start: int,
    end: int,
    closed: Numbers,
) -> bool:
    """Whether row ``q`` is a free row of this kind for the asset of ``p`` and this account (-1: any)."""
    return bool(
        start <= q < end
        and closed[q] == -1
        and kind[q] == want
        and asset[q] == asset[p]
        and (account == -1 or a[q] == account)
    )


@compiled
def _close(
    p: int,
    start: int,
    end: int,
    kind: Codes,
    asset: Shorts,
    a: Numbers,
    b: Numbers,
    flags_after: Codes,
    closed: Numbers,
) -> int:
    """Give the closing log at ``p`` its rows; its action."""
    what = kind[p]
    q = p - 1
    if what in (SUPPLY, UNBACKED):
        if _is(q, p, FLAG_ON, kind, asset, a, a[p], start, end, closed):
            q -= 1
        if _is(q, p, COLLATERAL, kind, asset, a, a[p], start, end, closed):
            closed[q:p] = p
        return _SUPPLY if what == SUPPLY else _UNBACKED
    if what in (WITHDRAW, COVER):
        if _is(q, p, FLAG_OFF, kind, asset, a, a[p], start, end, closed):
            q -= 1
        if _is(q, p, COLLATERAL, kind, asset, a, a[p], start, end, closed):
            if q == p - 1 and _is(q - 1, p, FLAG_OFF, kind, asset, a, a[p], start, end, closed):
                q -= 1
            closed[q:p] = p
        return _WITHDRAW if what == WITHDRAW else _COVER
    if what in (BORROW, TREASURY):
        if (
            _is(q, p, COLLATERAL, kind, asset, a, -1, start, end, closed)
            if what == TREASURY
            else (
                _is(q, p, DEBT, kind, asset, a, a[p], start, end, closed)
                or _is(q, p, STABLE, kind, asset, a, a[p], start, end, closed)
            )
        ):
            closed[q] = p
        return _BORROW if what == BORROW else _TREASURY
    if what in (REPAY, SWAP):
        if what == REPAY:
            if _is(q, p, FLAG_OFF, kind, asset, a, -1, start, end, closed):
                q -= 1
            if _is(q, p, COLLATERAL, kind, asset, a, -1, start, end, closed):
                q -= 1
        found = False
        for _ in range(1 if what == REPAY else 2):
            if _is(q, p, DEBT, kind, asset, a, a[p], start, end, closed) or _is(
                q, p, STABLE, kind, asset, a, a[p], start, end, closed
            ):
                found = True
                q -= 1
        if found:
            closed[q + 1 : p] = p
        return _REPAY if what == REPAY else _OTHER
    if what == TRANSFER:
        step = 1 if flags_after[p] else -1
        q = p + step
        for _ in range(2):
            if _is(q, p, FLAG_OFF, kind, asset, a, a[p], start, end, closed) or _is(
                q, p, FLAG_ON, kind, asset, a, b[p], start, end, closed
            ):
                closed[q] = p
                q += step
        return _TRANSFER
    if what == EMODE:
        return _EMODE
    return _FLAG if what in (FLAG_ON, FLAG_OFF) else _OTHER


@compiled
def _group(
    tx: Keys,
    kind: Codes,
    asset: Shorts,
    debt_asset: Shorts,
    a: Numbers,
    b: Numbers,
    receives: Codes,
    flags_after: Codes,
    closed: Numbers,
    fee: Numbers,
    action: Codes,
) -> None:
    start = 0
    while start < len(tx):
        end = start + 1
        while end < len(tx) and tx[end] == tx[start]:
            end += 1
        for p in range(start, end):
            if kind[p] == LIQUIDATION:
                fee[p] = _liquidation(p, start, kind, asset, debt_asset, a, b, receives, closed)
                closed[p] = p
        # Pool logs first, then transfers, then flags on their own: each takes only what the ones before left.
        for turn in range(3):
            for p in range(start, end):
                first = kind[p] >= SUPPLY
                ready = first if turn == 0 else (kind[p] == TRANSFER) if turn == 1 else True
                if ready and closed[p] == -1:
                    action[p] = _close(p, start, end, kind, asset, a, b, flags_after, closed)
                    closed[p] = p
        for p in range(start, end):
            action[p] = _LIQUIDATION if kind[closed[p]] == LIQUIDATION else action[closed[p]]
        start = end


class LogRows(Protocol):
    """Logs of whole transactions in chain order, column by column; ids are -1 where a row has none."""

    tx: Keys
    kind: Codes
    asset: Shorts
    debt_asset: Shorts
    a: Numbers
    b: Numbers
    receives: Codes
    """LiquidationCall: 1 where the liquidator takes aTokens."""
    flags_after: Codes
    """1 where a transfer's flags follow its BalanceTransfer (3.4+)."""


def group(rows: LogRows) -> tuple[Numbers, Codes, Numbers]:
    """For every row: the row that closes its action (its own where it stands alone), the action's code in ``ACTIONS``,
    and, for a LiquidationCall, the row of the fee transfer to the treasury (-1: none)."""
    closed = np.full(len(rows.tx), -1, np.int32)
    fee = np.full(len(rows.tx), -1, np.int32)
    action = np.full(len(rows.tx), _OTHER, np.int8)
    _group(
        rows.tx,
        rows.kind,
        rows.asset,
        rows.debt_asset,
        rows.a,
        rows.b,
        rows.receives,
        rows.flags_after,
        closed,
        fee,
        action,
    )
    return closed, action, fee
