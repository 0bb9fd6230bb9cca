"""Which logs belong to one action of a user: integers only, in chain order, one transaction at a time.

The pool closes every action with a log of its own. Order of emission (aave/protocol-v2, ``LendingPool.sol``,
``LendingPoolCollateralManager.sol``, ``AToken.sol`` ``_transfer``; ``[]`` where it applies, ``|`` alternatives). Each
``updateState`` first mints the treasury its share of the interest: an aToken ``Mint`` that no Deposit closes, an action
of its own.

- [treasury] mint [flag on] Deposit; [treasury] [flag off] burn Withdraw;
- [treasury] debt mint | stable mint, Borrow; [treasury] debt burn | stable burn, Repay;
- [treasury] two of debt and stable, Swap | RebalanceStableBorrowRate;
- [treasury] [debt burn] [stable burn], then transfer to the liquidator [its flag on] | [treasury] burn; [flag off]
  LiquidationCall;
- [flag off] [flag on] BalanceTransfer; a flag alone.

A stable debt that repays less than its interest is logged as a Mint: stable logs count by account and asset, not by
name.
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
MINT = 0  # aToken Mint: asset, account
BURN = 1  # aToken Burn: asset, account
TRANSFER = 2  # BalanceTransfer: asset, from, to
DEBT = 3  # variable debt token Mint or Burn: asset, account
STABLE = 4  # stable debt token Mint or Burn: asset, account
FLAG_ON = 5  # asset, account
FLAG_OFF = 6
DEPOSIT = 7  # asset, account
WITHDRAW = 8  # asset, account
BORROW = 9  # asset, account
REPAY = 10  # asset, account
SWAP = 11  # Swap, RebalanceStableBorrowRate: asset, account
LIQUIDATION = 12  # collateral asset, account, liquidator; ``debt_asset`` beside it

ACTIONS = ("supply", "withdraw", "borrow", "repay", "transfer", "liquidation", "treasury", "collateral-flag", "other")
_NAMES = {name: code for code, name in enumerate(ACTIONS)}
_SUPPLY, _WITHDRAW, _BORROW, _REPAY = _NAMES["supply"], _NAMES["withdraw"], _NAMES["borrow"], _NAMES["repay"]
_TRANSFER, _LIQUIDATION, _TREASURY = _NAMES["transfer"], _NAMES["liquidation"], _NAMES["treasury"]
_FLAG, _OTHER = _NAMES["collateral-flag"], _NAMES["other"]


@compiled
def _liquidation(
    p: int, start: int, kind: Codes, asset: Shorts, debt_asset: Shorts, a: Numbers, b: Numbers, closed: Numbers
) -> None:
    """Give a LiquidationCall at ``p`` the rows of its call: from the burn of the named debt on."""
    user, liquidator, collateral, owed = a[p], b[p], asset[p], debt_asset[p]
    begin = p - 1
    while begin >= start and not (
        (kind[begin] == DEBT or kind[begin] == STABLE)
        and asset[begin] == owed
        and a[begin] == user
        and closed[begin] == -1
    ):
        begin -= 1
    if begin < start:
        return
    before = begin - 1
    if (
        kind[begin] == STABLE
        and before >= start
        and kind[before] == DEBT
        and asset[before] == owed
        and a[before] == user
        and closed[before] == -1
    ):
        begin = before
    for q in range(begin, p):
        own = closed[q] == -1
        if kind[q] == BURN or kind[q] == FLAG_OFF:
            own = own and asset[q] == collateral and a[q] == user
        elif kind[q] == TRANSFER:
            own = own and asset[q] == collateral and a[q] == user and b[q] == liquidator
        elif kind[q] == FLAG_ON:
            own = own and asset[q] == collateral and a[q] == liquidator
        else:
            own = own and (kind[q] == DEBT or kind[q] == STABLE) and asset[q] == owed and a[q] == user
        if own:
            closed[q] = p


@compiled
def _is(q: int, p: int, want: int, kind: Codes, asset: Shorts, a: Numbers, start: int, closed: Numbers) -> bool:
    """Whether row ``q`` is a free row of this kind for the asset and the account of ``p``."""
    return bool(q >= start and closed[q] == -1 and kind[q] == want and asset[q] == asset[p] and a[q] == a[p])


@compiled
def _close(p: int, start: int, kind: Codes, asset: Shorts, a: Numbers, b: Numbers, closed: Numbers) -> int:
    """Give the closing log at ``p`` its rows; its action."""
    what = kind[p]
    q = p - 1
    if what == DEPOSIT:
        if _is(q, p, FLAG_ON, kind, asset, a, start, closed):
            q -= 1
        if _is(q, p, MINT, kind, asset, a, start, closed):
            closed[q:p] = p
        return _SUPPLY
    if what == WITHDRAW:
        if _is(q, p, BURN, kind, asset, a, start, closed):
            if _is(q - 1, p, FLAG_OFF, kind, asset, a, start, closed):
                q -= 1
            closed[q:p] = p
        return _WITHDRAW
    if what in (BORROW, REPAY, SWAP):
        for _ in range(2 if what == SWAP else 1):
            if _is(q, p, DEBT, kind, asset, a, start, closed) or _is(q, p, STABLE, kind, asset, a, start, closed):
                closed[q] = p
                q -= 1
        return _BORROW if what == BORROW else _REPAY if what == REPAY else _OTHER
    if what == TRANSFER:
        for _ in range(2):
            if q < start or closed[q] != -1 or asset[q] != asset[p]:
                break
            if (kind[q] == FLAG_OFF and a[q] == a[p]) or (kind[q] == FLAG_ON and a[q] == b[p]):
                closed[q] = p
                q -= 1
        return _TRANSFER
    if what == MINT:
        return _TREASURY
    return _FLAG if what in (FLAG_ON, FLAG_OFF) else _OTHER


@compiled
def _group(
    tx: Keys, kind: Codes, asset: Shorts, debt_asset: Shorts, a: Numbers, b: Numbers, closed: Numbers, action: Codes
) -> None:
    start = 0
    while start < len(tx):
        end = start + 1
        while end < len(tx) and tx[end] == tx[start]:
            end += 1
        for p in range(start, end):
            if kind[p] == LIQUIDATION:
                _liquidation(p, start, kind, asset, debt_asset, a, b, closed)
                closed[p] = p
        # Pool logs first, then transfers, then what stands alone: each takes only what the ones before left.
        for turn in range(3):
            for p in range(start, end):
                first = kind[p] >= DEPOSIT
                ready = first if turn == 0 else (kind[p] == TRANSFER) if turn == 1 else True
                if ready and closed[p] == -1:
                    action[p] = _close(p, start, kind, asset, a, b, closed)
                    closed[p] = p
        for p in range(start, end):
            action[p] = _LIQUIDATION if kind[closed[p]] == LIQUIDATION else action[closed[p]]
        start = end


class ActionRows(Protocol):
    """Logs of whole transactions in chain order, column by column; ids are -1 where a row has none."""

    tx: Keys
    kind: Codes
    asset: Shorts
    debt_asset: Shorts
    a: Numbers
    b: Numbers


def group(rows: ActionRows) -> tuple[Numbers, Codes]:
    """For every row: the row that closes its action (its own where it stands alone), and the action's code in
    ``ACTIONS``.
    """
    closed = np.full(len(rows.tx), -1, np.int32)
    action = np.full(len(rows.tx), _OTHER, np.int8)
    _group(rows.tx, rows.kind, rows.asset, rows.debt_asset, rows.a, rows.b, closed, action)
    return closed, action
