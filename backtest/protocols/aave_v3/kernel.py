"""Compiled twin of ``tokens``: scaled changes of millions of token events in chain order, with everyone's running
balance.

Everything is unsigned: mixing in a signed integer would make numba compute in floats, hence ``U``. Functions that call
each other stay in this one file or in ``words``, as numba's cache asks. ``tests/test_aave_fold.py`` compares every rule
with the plain one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from backtest.protocols.aave_v3.tokens import DIRECTED_COLLATERAL, DISCOUNTED, HALF_UP
from backtest.protocols.aave_v3.words import (
    DOWN,
    OVER,
    SCRATCH,
    UP,
    ZERO,
    U,
    Word,
    Words,
    add,
    compiled,
    less,
    mul_div,
    pair,
    sub,
)
from backtest.protocols.aave_v3.words import HALF_UP as NEAREST
from backtest.units import RAY

Keys = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
Quads = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int32]

MINT, BURN, OUT, IN = 0, 1, 2, 3
"""What happened to an account: Mint, Burn, or a BalanceTransfer from or to it."""

OK, FULL, NEGATIVE, TOO_LARGE = 0, 1, 2, 3
"""How ``_scaled_deltas`` ended; all but OK come with the row."""

_0, _1, _32 = U(0), U(1), U(32)
_RAY, _LIMIT = pair(RAY), pair(10**38)
_SPREAD = U(0x9E3779B97F4A7C15)


@compiled
def _find(keys: Keys, key: np.int64) -> Word:
    """The slot of ``key`` in an open-addressed table of a power of two of slots, free ones -1: its own or the free one
    it may take.
    """
    mask = U(len(keys) - 1)
    slot = (U(key) * _SPREAD) >> _32 & mask
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


@compiled
def _hash(words: Quads, row: int) -> Word:
    mixed = _0
    for place in range(5):
        mixed = (mixed ^ U(words[row, place])) * _SPREAD
        mixed ^= mixed >> _32
    return mixed


@compiled
def _place(known: Quads, count: int, slots: Numbers) -> None:
    """Enter the first ``count`` known addresses into an empty open-addressed table."""
    mask = U(len(slots) - 1)
    for number in range(count):
        slot = _hash(known, number) & mask
        while slots[slot] != -1:
            slot = (slot + _1) & mask
        slots[slot] = number


@compiled
def _intern(
    words: Quads, order: Keys, start: int, known: Quads, count: int, slots: Numbers, ids: Numbers
) -> tuple[int, int]:
    """Number the addresses in ``order`` from its ``start`` on, each new one by the next number, until the table is half
    full.

    Returns how far in ``order`` it came, and the count.
    """
    mask = U(len(slots) - 1)
    for step in range(start, len(order)):
        row = order[step]
        slot = _hash(words, row) & mask
        while True:
            number = slots[slot]
            if number == -1:
                if count == len(known):
                    return step, count
                slots[slot] = number = count
                known[count] = words[row]
                count += 1
                break
            same = True
            for place in range(5):
                same = same and known[number, place] == words[row, place]
            if same:
                break
            slot = (slot + _1) & mask
        ids[row] = number
    return len(order), count


@compiled
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
    w = np.zeros(SCRATCH, np.uint64)
    for row in range(start, len(op)):
        if 2 * used + 4 > len(keys):
            return FULL, row, used
        slot = _find(keys, account[row])
        if keys[slot] == -1:
            keys[slot] = account[row]
            used += 1
        balance, amount, at = (
            (values[slot, 0], values[slot, 1]),
            (value[row, 1], value[row, 0]),
            (index[row, 1], index[row, 0]),
        )
        kind, how = op[row], rule[row]
        if kind >= OUT:
            minus = kind == OUT
            change = mul_div(w, amount, _RAY, at, NEAREST) if unscaled[row] else amount
        else:
            earned = interest[row, 1], interest[row, 0]
            if kind == BURN:
                minus = True
                moved = add(amount, earned)
            else:
                minus = less(amount, earned)
                moved = sub(earned, amount) if minus else sub(amount, earned)
            if how == HALF_UP:
                change = mul_div(w, moved, _RAY, at, NEAREST)
            elif how == DISCOUNTED:
                now = mul_div(w, balance, at, _RAY, NEAREST)
                # The account's last index has a slot of its own, under a key below the free mark.
                last = _find(keys, -2 - account[row])
                if keys[last] == -1:
                    keys[last] = -2 - account[row]
                    used += 1
                then = mul_div(w, balance, (values[last, 0], values[last, 1]), _RAY, NEAREST)
                waived = sub(sub(now, then), earned)
                if minus and moved == sub(now, waived):
                    change = balance
                else:
                    change, waived = mul_div(w, moved, _RAY, at, NEAREST), mul_div(w, waived, _RAY, at, NEAREST)
                    if minus:
                        change = add(change, waived)
                    elif less(change, waived):
                        change = sub(waived, change)
                        minus = True
                    else:
                        change = sub(change, waived)
                values[last, 0], values[last, 1] = at
            else:
                collateral = how == DIRECTED_COLLATERAL
                held = mul_div(w, balance, at, _RAY, DOWN if collateral else UP)
                if minus and less(held, moved):
                    return NEGATIVE, row, used
                held = sub(held, moved) if minus else add(held, moved)
                after = mul_div(w, held, _RAY, at, UP if collateral else DOWN)
                minus = less(after, balance)
                change = sub(balance, after) if minus else sub(after, balance)
        if w[OVER]:
            return TOO_LARGE, row, used
        if minus:
            if less(balance, change):
                return NEGATIVE, row, used
            balance, change = sub(balance, change), sub(ZERO, change)
        else:
            balance = add(balance, change)
            if not less(balance, _LIMIT):
                return TOO_LARGE, row, used
        values[slot, 0], values[slot, 1] = balance
        out[row, 1], out[row, 0] = change
    return OK, 0, used


class Addresses:
    """Addresses numbered from 0 in the order in which they first come."""

    def __init__(self) -> None:
        self._count = 0
        self._known = np.zeros((1 << 11, 5), np.uint32)
        self._slots = np.full(1 << 12, -1, np.int32)

    def __len__(self) -> int:
        return self._count

    def all(self) -> list[bytes]:
        """Every address, by number."""
        joined = self._known[: self._count].tobytes()
        return [joined[20 * number : 20 * number + 20] for number in range(self._count)]

    def number(self, addresses: Quads, order: Keys) -> Numbers:
        """Numbers of addresses (rows of five 32-bit words); new ones are numbered as ``order``, a permutation, meets
        them.
        """
        ids = np.zeros(len(addresses), np.int32)
        done = 0
        while done < len(order):
            if self._count == len(self._known):
                self._known = np.concatenate([self._known, np.zeros_like(self._known)])
                self._slots = np.full(2 * len(self._known), -1, np.int32)
                _place(self._known, self._count, self._slots)
            done, self._count = _intern(addresses, order, done, self._known, self._count, self._slots, ids)
        return ids


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
