"""Exact arithmetic of numbers below 2**128 in machine code: pairs of 64-bit words, high and low.

``mul_div`` is the one operation of the rules: a * b / d, with a rounding that is named. What does not fit (a quotient of 2**128 or more) raises a
flag in the scratch, and whoever asked leaves its case to the plain rules.

Numba's cache on disk knows that a function changed by its own file alone. ``compiled`` names functions by this file's content as well, so that the
files that call into it are compiled anew with it; beyond it, functions that call each other share a file.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from inspect import getsource
from sys import modules
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Word = np.uint64
Pair = tuple[np.uint64, np.uint64]
F = TypeVar("F", bound=Callable[..., Any])

U = np.uint64
_0, _1 = U(0), U(1)
_32, _63, _64 = U(32), U(63), U(64)
_LOW, _BASE, _TOP = U(0xFFFFFFFF), U(1 << 32), U(1 << 63)

DOWN, HALF_UP, UP = 0, 1, 2
"""Roundings."""
SCRATCH, _V, OVER = 14, 9, 13
"""Words of scratch: 9 of numerator, 4 of divisor, and at ``OVER`` whether something did not fit."""
_NAME = sha256(getsource(modules[__name__]).encode()).hexdigest()[:8]


def pair(number: int) -> Pair:
    """A number below 2**128."""
    return U(number >> 64), U(number & (1 << 64) - 1)


ZERO, ONE = pair(0), pair(1)


def compiled(function: F) -> F:
    """The function as machine code, kept on disk; it may run while other threads do."""
    function.__qualname__ += f"_{_NAME}"
    return cast(F, numba.njit(cache=True, nogil=True)(function))


@compiled
def mul(a: Word, b: Word) -> Pair:
    """a * b."""
    al, ah, bl, bh = a & _LOW, a >> _32, b & _LOW, b >> _32
    low = al * bl
    middle = ah * bl + (low >> _32)
    cross = al * bh + (middle & _LOW)
    return ah * bh + (middle >> _32) + (cross >> _32), (cross << _32) | (low & _LOW)


@compiled
def less(a: Pair, b: Pair) -> bool:
    """a < b."""
    return bool(a[0] < b[0] or (a[0] == b[0] and a[1] < b[1]))


@compiled
def some(a: Pair) -> bool:
    """a is not 0."""
    return bool(a[0] | a[1])


@compiled
def add(a: Pair, b: Pair) -> Pair:
    """a + b, below 2**128."""
    low = a[1] + b[1]
    return a[0] + b[0] + (_1 if low < b[1] else _0), low


@compiled
def sub(a: Pair, b: Pair) -> Pair:
    """a - b, not negative."""
    return a[0] - b[0] - (_1 if a[1] < b[1] else _0), a[1] - b[1]


@compiled
def _divide(high: Word, low: Word, divisor: Word) -> Pair:
    """Quotient and rest of two words, whose high one is below the divisor (Hacker's Delight, divlu)."""
    shift = _0
    while divisor < _TOP:
        divisor <<= _1
        shift += _1
    if shift != _0:
        high = (high << shift) | (low >> (_64 - shift))
        low <<= shift
    first, second = divisor >> _32, divisor & _LOW
    quotient = _0
    for part in (low >> _32, low & _LOW):
        digit = high // first
        rest = high - digit * first
        while digit >= _BASE or digit * second > ((rest << _32) | part):
            digit -= _1
            rest += first
            if rest >= _BASE:
                break
        high = ((high << _32) | part) - digit * divisor
        quotient = (quotient << _32) | digit
    return quotient, high >> shift


@compiled
def mul_div(w: Words, a: Pair, b: Pair, d: Pair, rounding: int) -> Pair:
    """a * b / d, rounded as it says; 0 and the flag where it does not fit or d is 0. Half up adds d // 2, as the contracts do."""
    n1, n0 = mul(a[1], b[1])
    n2 = n3 = _0
    if a[0] | b[0]:
        ph, pl = mul(a[0], b[1])
        qh, ql = mul(a[1], b[0])
        rh, rl = mul(a[0], b[0])
        n1 += pl
        carry = _1 if n1 < pl else _0
        n1 += ql
        carry += _1 if n1 < ql else _0
        n2 = rl + carry
        carry = _1 if n2 < carry else _0
        n2 += ph
        carry += _1 if n2 < ph else _0
        n2 += qh
        carry += _1 if n2 < qh else _0
        n3 = rh + carry
    if rounding != DOWN:
        c = sub(d, ONE) if rounding == UP else (d[0] >> _1, (d[1] >> _1) | (d[0] << _63))
        n0 += c[1]
        carry = _1 if n0 < c[1] else _0
        n1 += carry
        carry = _1 if n1 < carry else _0
        n1 += c[0]
        carry += _1 if n1 < c[0] else _0
        n2 += carry
        n3 += _1 if n2 < carry else _0
    if not n3 and not n2 and not d[0] and d[1]:
        top = n1 // d[1]
        return top, _divide(n1 - top * d[1], n0, d[1])[0]
    return _long_divide(w, n3, n2, n1, n0, d)


@compiled
def _long_divide(w: Words, n3: Word, n2: Word, n1: Word, n0: Word, d: Pair) -> Pair:
    """Four words by two: schoolbook division in base 2**32 (Knuth, The Art of Computer Programming 2, algorithm D)."""
    u, v = w[:_V], w[_V:OVER]
    v[0], v[1], v[2], v[3] = d[1] & _LOW, d[1] >> _32, d[0] & _LOW, d[0] >> _32
    n = 4
    while n > 0 and not v[n - 1]:
        n -= 1
    if n < 2:  # by 0, or a quotient so large that nothing here comes near it
        w[OVER] = _1
        return ZERO
    u[0], u[1], u[2], u[3] = n0 & _LOW, n0 >> _32, n1 & _LOW, n1 >> _32
    u[4], u[5], u[6], u[7] = n2 & _LOW, n2 >> _32, n3 & _LOW, n3 >> _32
    shift, top = _0, v[n - 1]
    while top < (_BASE >> _1):
        top <<= _1
        shift += _1
    back = _32 - shift
    u[8] = u[7] >> back
    for i in range(7, 0, -1):
        u[i] = ((u[i] << shift) | (u[i - 1] >> back)) & _LOW
    u[0] = (u[0] << shift) & _LOW
    for i in range(n - 1, 0, -1):
        v[i] = ((v[i] << shift) | (v[i - 1] >> back)) & _LOW
    v[0] = (v[0] << shift) & _LOW
    first, second = v[n - 1], v[n - 2]
    high, low, over = _0, _0, _0
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
        over |= high >> _32
        high = (high << _32) | (low >> _32)
        low = (low << _32) | digit
    w[OVER] |= over
    return high, low
