"""Compiled twin of ``tokens``: scaled changes of millions of token events in chain order, with everyone's running balance.

128-bit unsigned integers are pairs of 64-bit words (high, low), everything unsigned: mixing in a signed integer would make
numba compute in floats, hence ``U``. Functions that call each other stay in this one file, as numba's cache asks.
``tests/test_aave_fold.py`` compares every rule with the plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from backtest.protocols.aave_v3.tokens import DIRECTED_COLLATERAL, DISCOUNTED, HALF_UP
from backtest.units import RAY

Words = npt.NDArray[np.uint64]
Keys = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
Quads = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int32]

MINT, BURN, OUT, IN = 0, 1, 2, 3
"""What happened to an account: Mint, Burn, or a BalanceTransfer from or to it."""

OK, FULL, NEGATIVE, TOO_LARGE = 0, 1, 2, 3
"""How ``_scaled_deltas`` ended; all but OK come with the row."""

U = np.uint64
_0, _1, _32, _63 = U(0), U(1), U(32), U(63)
_LOW = U(0xFFFFFFFF)
_BASE = U(1 << 32)
_TOP = U(1 << 31)
_RAY_HI, _RAY_LO = U(RAY >> 64), U(RAY & (1 << 64) - 1)
_HALF_HI, _HALF_LO = U(RAY // 2 >> 64), U(RAY // 2 & (1 << 64) - 1)
_LESS_HI, _LESS_LO = U(RAY - 1 >> 64), U(RAY - 1 & (1 << 64) - 1)
_LIMIT_HI, _LIMIT_LO = U(10**38 >> 64), U(10**38 & (1 << 64) - 1)
_SPREAD = U(0x9E3779B97F4A7C15)

F = TypeVar("F", bound=Callable[..., Any])
Word = np.uint64
Pair = tuple[np.uint64, np.uint64]


def compiled(function: F) -> F:
    """The function as machine code, kept on disk; it may run while other threads do."""
    return cast(F, numba.njit(cache=True, nogil=True)(function))


@compiled
def _mul64(a: Word, b: Word) -> Pair:
    """a * b as (high, low)."""
    al, ah, bl, bh = a & _LOW, a >> _32, b & _LOW, b >> _32
    low = al * bl
    middle = ah * bl + (low >> _32)
    cross = al * bh + (middle & _LOW)
    return ah * bh + (middle >> _32) + (cross >> _32), (cross << _32) | (low & _LOW)


@compiled
def _less(ah: Word, al: Word, bh: Word, bl: Word) -> bool:
    return bool(ah < bh or (ah == bh and al < bl))


@compiled
def _add(ah: Word, al: Word, bh: Word, bl: Word) -> Pair:
    low = al + bl
    return ah + bh + (_1 if low < al else _0), low


@compiled
def _sub(ah: Word, al: Word, bh: Word, bl: Word) -> Pair:
    return ah - bh - (_1 if al < bl else _0), al - bl


@compiled
def _mul_add_div(u: Words, v: Words, ah: Word, al: Word, bh: Word, bl: Word, ch: Word, cl: Word, dh: Word, dl: Word) -> Pair:
    """floor((a * b + c) / d) as (high, low), for d >= 2**64 and a quotient below 2**128.

    Schoolbook division in base 2**32 (Knuth, The Art of Computer Programming 2, algorithm D); ``u`` and ``v`` are scratch.
    """
    n1, n0 = _mul64(al, bl)
    ph, pl = _mul64(ah, bl)
    qh, ql = _mul64(al, bh)
    rh, rl = _mul64(ah, bh)
    n1 = n1 + pl
    carry = _1 if n1 < pl else _0
    n1 = n1 + ql
    carry += _1 if n1 < ql else _0
    n2 = rl + carry
    carry = _1 if n2 < rl else _0
    n2 = n2 + ph
    carry += _1 if n2 < ph else _0
    n2 = n2 + qh
    carry += _1 if n2 < qh else _0
    n3 = rh + carry
    n0 = n0 + cl
    carry = _1 if n0 < cl else _0
    n1 = n1 + carry
    carry = _1 if n1 < carry else _0
    n1 = n1 + ch
    carry += _1 if n1 < ch else _0
    n2 = n2 + carry
    n3 = n3 + (_1 if n2 < carry else _0)

    v[0], v[1], v[2], v[3] = dl & _LOW, dl >> _32, dh & _LOW, dh >> _32
    n = 4 if v[3] else 3
    shift, top = _0, v[n - 1]
    while top < _TOP:
        top <<= _1
        shift += _1
    back = _32 - shift
    u[0], u[1], u[2], u[3] = n0 & _LOW, n0 >> _32, n1 & _LOW, n1 >> _32
    u[4], u[5], u[6], u[7] = n2 & _LOW, n2 >> _32, n3 & _LOW, n3 >> _32
    u[8] = u[7] >> back
    for i in range(7, 0, -1):
        u[i] = ((u[i] << shift) | (u[i - 1] >> back)) & _LOW
    u[0] = (u[0] << shift) & _LOW
    for i in range(n - 1, 0, -1):
        v[i] = ((v[i] << shift) | (v[i - 1] >> back)) & _LOW
    v[0] = (v[0] << shift) & _LOW

    high, low = _0, _0
    first, second = v[n - 1], v[n - 2]
    for j in range(8 - n, -1, -1):
        digit = _0
        if u[j + n] or u[j + n - 1] >= first:
            head = (u[j + n] << _32) | u[j + n - 1]
            digit = head // first
            rest = head - digit * first
            while digit >= _BASE or digit * second > ((rest << _32) | u[j + n - 2]):
                digit -= _1
                rest += first
                if rest >= _BASE:
                    break
            carry, borrow = _0, _0
            for i in range(n):
                product = digit * v[i] + carry
                carry = product >> _32
                part = u[i + j] - (product & _LOW) - borrow
                u[i + j] = part & _LOW
                borrow = part >> _63
            part = u[j + n] - carry - borrow
            u[j + n] = part & _LOW
            if part >> _63:
                digit -= _1
                carry = _0
                for i in range(n):
                    part = u[i + j] + v[i] + carry
                    u[i + j] = part & _LOW
                    carry = part >> _32
                u[j + n] = (u[j + n] + carry) & _LOW
        high = (high << _32) | (low >> _32)
        low = (low << _32) | digit
    return high, low


@compiled
def _div_half_up(u: Words, v: Words, ah: Word, al: Word, ih: Word, il: Word) -> Pair:
    """``ray_div_half_up``."""
    return _mul_add_div(u, v, ah, al, _RAY_HI, _RAY_LO, ih >> _1, (il >> _1) | (ih << _63), ih, il)


@compiled
def _mul_half_up(u: Words, v: Words, ah: Word, al: Word, ih: Word, il: Word) -> Pair:
    """``ray_mul_half_up``."""
    return _mul_add_div(u, v, ah, al, ih, il, _HALF_HI, _HALF_LO, _RAY_HI, _RAY_LO)


@compiled
def _find(keys: Keys, key: np.int64) -> Word:
    """The slot of ``key`` in an open-addressed table of a power of two of slots, free ones -1: its own or the free one it may take."""
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
def _intern(words: Quads, order: Keys, start: int, known: Quads, count: int, slots: Numbers, ids: Numbers) -> tuple[int, int]:
    """Number the addresses in ``order`` from its ``start`` on, each new one by the next number, until the table is half full.

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
    """See ``Balances.deltas``, from row ``start`` on. Returns (code, row, slots used); FULL before a row that may need new slots."""
    u, v = np.zeros(9, np.uint64), np.zeros(4, np.uint64)
    for row in range(start, len(op)):
        if 2 * used + 4 > len(keys):
            return FULL, row, used
        slot = _find(keys, account[row])
        if keys[slot] == -1:
            keys[slot] = account[row]
            used += 1
        sh, sl = values[slot, 0], values[slot, 1]
        vh, vl, ih, il = value[row, 1], value[row, 0], index[row, 1], index[row, 0]
        kind, how = op[row], rule[row]
        if kind >= OUT:
            if unscaled[row]:
                vh, vl = _div_half_up(u, v, vh, vl, ih, il)
            minus = kind == OUT
            dh, dl = vh, vl
        else:
            bh, bl = interest[row, 1], interest[row, 0]
            if kind == BURN:
                minus = True
                ah, al = _add(vh, vl, bh, bl)
            else:
                minus = _less(vh, vl, bh, bl)
                ah, al = _sub(bh, bl, vh, vl) if minus else _sub(vh, vl, bh, bl)
            if how == HALF_UP:
                dh, dl = _div_half_up(u, v, ah, al, ih, il)
            elif how == DISCOUNTED:
                now_h, now_l = _mul_half_up(u, v, sh, sl, ih, il)
                # The account's last index has a slot of its own, under a key below the free mark.
                last = _find(keys, -2 - account[row])
                if keys[last] == -1:
                    keys[last] = -2 - account[row]
                    used += 1
                then_h, then_l = _mul_half_up(u, v, sh, sl, values[last, 0], values[last, 1])
                gh, gl = _sub(now_h, now_l, then_h, then_l)
                gh, gl = _sub(gh, gl, bh, bl)
                now_h, now_l = _sub(now_h, now_l, gh, gl)
                if minus and ah == now_h and al == now_l:
                    dh, dl = sh, sl
                else:
                    dh, dl = _div_half_up(u, v, ah, al, ih, il)
                    gh, gl = _div_half_up(u, v, gh, gl, ih, il)
                    if minus:
                        dh, dl = _add(dh, dl, gh, gl)
                    elif _less(dh, dl, gh, gl):
                        dh, dl = _sub(gh, gl, dh, dl)
                        minus = True
                    else:
                        dh, dl = _sub(dh, dl, gh, gl)
                values[last, 0], values[last, 1] = ih, il
            else:
                collateral = how == DIRECTED_COLLATERAL
                if collateral:
                    nh, nl = _mul_add_div(u, v, sh, sl, ih, il, _0, _0, _RAY_HI, _RAY_LO)
                else:
                    nh, nl = _mul_add_div(u, v, sh, sl, ih, il, _LESS_HI, _LESS_LO, _RAY_HI, _RAY_LO)
                if minus:
                    if _less(nh, nl, ah, al):
                        return NEGATIVE, row, used
                    nh, nl = _sub(nh, nl, ah, al)
                else:
                    nh, nl = _add(nh, nl, ah, al)
                if collateral:
                    ch, cl = _sub(ih, il, _0, _1)
                    nh, nl = _mul_add_div(u, v, nh, nl, _RAY_HI, _RAY_LO, ch, cl, ih, il)
                else:
                    nh, nl = _mul_add_div(u, v, nh, nl, _RAY_HI, _RAY_LO, _0, _0, ih, il)
                minus = _less(nh, nl, sh, sl)
                dh, dl = _sub(sh, sl, nh, nl) if minus else _sub(nh, nl, sh, sl)
        if minus:
            if _less(sh, sl, dh, dl):
                return NEGATIVE, row, used
            sh, sl = _sub(sh, sl, dh, dl)
            dh, dl = _sub(_0, _0, dh, dl)
        else:
            sh, sl = _add(sh, sl, dh, dl)
            if not _less(sh, sl, _LIMIT_HI, _LIMIT_LO):
                return TOO_LARGE, row, used
        values[slot, 0], values[slot, 1] = sh, sl
        out[row, 0], out[row, 1] = dl, dh
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
        """Numbers of addresses (rows of five 32-bit words); new ones are numbered as ``order``, a permutation, meets them."""
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

        Returns: (code, row, changes): OK and one row of two's complement (low, high) words a change, or how and where it failed.
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
