"""Exact arithmetic of numbers below 2**128 in machine code: pairs of 64-bit words, high and low.

``mul_div`` is the one operation of the rules: a * b / d, with a rounding that is named. What does not fit (a quotient
of 2**128 or more) raises a flag in the scratch, and whoever asked leaves its case to the plain rules.

Numba's cache on disk knows that a function changed by its own file alone. ``compiled`` names functions by this file's
content and by the constants of their own as well, so that whatever calls into it or takes a number from elsewhere is
compiled anew with it; beyond that, functions that call each other share a file.
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
_LOW, _BASE = U(0xFFFFFFFF), U(1 << 32)

DOWN, HALF_UP, UP = 0, 1, 2
"""Roundings."""
SCRATCH, OVER = 1, 0
"""Words of scratch, and the one that says whether something did not fit."""
_SOURCE = getsource(modules[__name__])


def pair(number: int) -> Pair:
    """A number below 2**128."""
    return U(number >> 64), U(number & (1 << 64) - 1)


ZERO, ONE = pair(0), pair(1)


def compiled(function: F) -> F:
    """The function as machine code, kept on disk; it may run while other threads do."""
    constants = {
        name: value for name, value in function.__globals__.items() if isinstance(value, int | np.integer | tuple)
    }
    function.__qualname__ += "_" + sha256(f"{_SOURCE}{sorted(constants.items())}".encode()).hexdigest()[:8]
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
def _leading(word: Word) -> Word:
    """How many leading zeros a word has that is not 0."""
    count = _0
    for step in (_32, U(16), U(8), U(4), U(2), _1):
        if word >> (_64 - step) == _0:
            word <<= step
            count += step
    return count


@compiled
def _divide(high: Word, low: Word, divisor: Word) -> Pair:
    """Quotient and rest of two words, whose high one is below the divisor, which has its top bit set (Hacker's Delight,
    divlu).
    """
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
    return quotient, high


@compiled
def mul_div(w: Words, a: Pair, b: Pair, d: Pair, rounding: int) -> Pair:
    """a * b / d, rounded as it says; 0 and the flag where it does not fit or d is 0. Half up adds d // 2, as the
    contracts do.
    """
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
    if n3 or n2:
        return _long(w, (n3, n2), n1, n0, d)
    if d[0]:
        return _long(w, ZERO, n1, n0, d)
    if not d[1]:
        w[OVER] = _1
        return ZERO
    if not n1:
        return _0, n0 // d[1]
    top, rest, shift = _0, n1, _leading(d[1])
    if n1 >= d[1]:
        top = n1 // d[1]
        rest = n1 - top * d[1]
    if shift:
        rest = (rest << shift) | (n0 >> (_64 - shift))
    return top, _divide(rest, n0 << shift, d[1] << shift)[0]


@compiled
def _step(rest: Pair, word: Word, d: Pair) -> tuple[Word, Pair]:
    """A digit, and the rest, of a rest below the divisor, which has its top bit set, and the next word (Knuth, The Art
    of Computer Programming 2, algorithm D, in base 2**64).
    """
    within = True
    if rest[0] >= d[0]:
        digit, left = ~_0, rest[1] + d[0]
        within = bool(left >= d[0])
    else:
        digit, left = _divide(rest[0], rest[1], d[0])
    product = mul(digit, d[1])
    while within and less((left, word), product):
        digit -= _1
        left += d[0]
        within = bool(left >= d[0])
        product = sub(product, (_0, d[1]))
    return digit, sub((left, word), product)


@compiled
def _long(w: Words, rest: Pair, n1: Word, n0: Word, d: Pair) -> Pair:
    """Four words by two."""
    if not less(rest, d):
        w[OVER] = _1
        return ZERO
    if not d[0]:
        shift = _leading(d[1])
        divisor = d[1] << shift
        if shift:
            back = _64 - shift
            rest, n1, n0 = (_0, (rest[1] << shift) | (n1 >> back)), (n1 << shift) | (n0 >> back), n0 << shift
        high, left = _divide(rest[1], n1, divisor)
        return high, _divide(left, n0, divisor)[0]
    shift = _leading(d[0])
    if shift:
        back = _64 - shift
        d = (d[0] << shift) | (d[1] >> back), d[1] << shift
        rest = (rest[0] << shift) | (rest[1] >> back), (rest[1] << shift) | (n1 >> back)
        n1, n0 = (n1 << shift) | (n0 >> back), n0 << shift
    if rest[0] or not less((rest[1], n1), d):
        high, rest = _step(rest, n1, d)
    else:
        high, rest = _0, (rest[1], n1)
    return high, _step(rest, n0, d)[0]
