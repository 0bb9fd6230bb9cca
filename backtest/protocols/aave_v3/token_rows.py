"""Scaled changes of millions of token events in chain order, with everyone's running balance: the rules of ``tokens``,
compiled from their own text, over rows.

Everything else is unsigned: mixing in a signed integer would make numba compute in floats, hence ``U``.
``tests/protocols/aave_v3/test_aave_fold.py`` compares every rule with the plain one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from backtest.protocols.aave.addresses import SPREAD
from backtest.protocols.aave_v3 import tokens
from backtest.protocols.aave_v3.tokens import DISCOUNTED, HALF_UP
from backtest.words.columns import Words
from backtest.words.digits import Digit, U, WordConstant, compiled
from backtest.words.machine import digits_of, machine, with_words, word_of_pair

Keys = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]

MINT, BURN, OUT, IN = 0, 1, 2, 3
"""What happened to an account: Mint, Burn, or a BalanceTransfer from or to it."""

OK, FULL, NEGATIVE, TOO_LARGE = 0, 1, 2, 3
"""How ``_scaled_deltas`` ended; all but OK come with the row."""

_0, _1, _32 = U(0), U(1), U(32)
_LIMIT = WordConstant(10**38)
_half_up_delta, _discounted_delta = machine(tokens.half_up_delta), machine(tokens.discounted_delta)
_directed_after, _transfer_amount = machine(tokens.directed_after), machine(tokens.transfer_amount)


@compiled
def _find(keys: Keys, key: np.int64) -> Digit:
    """The slot of ``key`` in an open-addressed table of a power of two of slots, free ones -1: its own or the free one
    it may take.
    """
    mask = U(len(keys) - 1)
    slot = (U(key) * SPREAD) >> _32 & mask
    while keys[slot] != -1 and keys[slot] != key:
        slot = (slot + _1) & mask
    return slot


@compiled
def _rehash(old_keys: Keys, old_values: Words, keys: Keys, values: Words) -> None:
    for i in range(len(old_keys)):
        if old_keys[i] != -1:
            slot = _find(keys, old_keys[i])
            keys[slot] = old_keys[i]
            values[slot] = old_values[i]


@with_words
def _scaled_deltas(
    op: Bytes,
    rule: Bytes,
    unscaled: Flags,
    account: Keys,
    value: Words,
    interest: Words,
    index: Words,
    keys: Keys,
    values: Words,
    used: int,
    start: int,
    out: Words,
) -> tuple[int, int, int]:
    """See ``Balances.deltas``, from row ``start`` on. Returns (code, row, slots used); FULL before a row that may need
    new slots.
    """
    for row in range(start, len(op)):
        if 2 * used + 4 > len(keys):
            return FULL, row, used
        slot = _find(keys, account[row])
        if keys[slot] == -1:
            keys[slot] = account[row]
            used += 1
        balance = word_of_pair(values[slot, 1], values[slot, 0])
        amount, at = word_of_pair(value[row, 1], value[row, 0]), word_of_pair(index[row, 1], index[row, 0])
        kind, how = op[row], rule[row]
        if kind >= OUT:
            change = _transfer_amount(unscaled[row], amount, at)
            change = -change if kind == OUT else change
        else:
            earned = word_of_pair(interest[row, 1], interest[row, 0])
            moved = -amount if kind == BURN else amount
            if how == HALF_UP:
                change = _half_up_delta(moved, earned, at)
            elif how == DISCOUNTED:
                # The account's last index has a slot of its own, under a key below the free mark.
                last = _find(keys, -2 - account[row])
                if keys[last] == -1:
                    keys[last] = -2 - account[row]
                    used += 1
                change = _discounted_delta(balance, word_of_pair(values[last, 1], values[last, 0]), moved, earned, at)
                values[last] = index[row]
            else:
                after = _directed_after(how, balance, moved, earned, at)
                if after < 0:
                    return NEGATIVE, row, used
                change = after - balance
        balance += change
        if balance < 0:
            return NEGATIVE, row, used
        if balance >= _LIMIT:
            return TOO_LARGE, row, used
        _, _, values[slot, 1], values[slot, 0] = digits_of(balance)
        _, _, out[row, 1], out[row, 0] = digits_of(change)
    return OK, 0, used


class Balances:
    """Running scaled balance (and, for discounted tokens, last index) of every (account, token) seen so far."""

    def __init__(self) -> None:
        self._used = 0
        self._keys = np.full(1 << 12, -1, np.int64)
        self._values = np.zeros((1 << 12, 2), np.uint64)

    def deltas(
        self,
        op: Bytes,
        rule: Bytes,
        unscaled: Flags,
        account: Keys,
        value: Words,
        interest: Words,
        index: Words,
    ) -> tuple[int, int, Words]:
        """Scaled changes of consecutive events, in order, one row an account touched.

        Args:
            op: MINT, BURN, OUT or IN.
            rule: rounding rule of the token (``tokens``).
            unscaled: whether a transfer's value is an amount (``tokens.unscaled_transfers``).
            account: a number for (account, token), not negative.
            value, interest, index: as logged, one row of (low, high) words each; an index is at least one ray.

        Returns: (code, row, changes): OK and one row of two's complement (low, high) words a change, or how and where
            it failed.
        """
        out = np.zeros((len(op), 2), np.uint64)
        code, row = FULL, 0
        while code == FULL:
            if 2 * self._used + 4 > len(self._keys):
                keys, values = self._keys, self._values
                self._keys, self._values = np.full(2 * len(keys), -1, np.int64), np.zeros((2 * len(keys), 2), np.uint64)
                _rehash(keys, values, self._keys, self._values)
            code, row, self._used = _scaled_deltas(
                op, rule, unscaled, account, value, interest, index, self._keys, self._values, self._used, row, out
            )
        return code, row, out
