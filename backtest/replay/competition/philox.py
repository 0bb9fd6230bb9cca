"""Philox4x64-10 (Salmon et al., SC 2011) as machine code: the first word of a block, as
``numpy.random.Philox(key, counter).random_raw()`` gives it (checked by the tests), without making a generator for each;
and the first of many blocks whose word lies in a range.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numba
import numpy as np

_U: Any = np.uint64
_LOW, _HALF, _ONE = _U(0xFFFFFFFF), _U(32), _U(1)
_MULTIPLY = _U(0xD2E7470EE14C6C93), _U(0xCA5A826395121157)
_WEYL = _U(0x9E3779B97F4A7C15), _U(0xBB67AE8584CAA73B)


@numba.njit(inline="always")
def _high(a: Any, b: Any) -> Any:
    """The upper 64 bits of a product."""
    low_a, high_a, low_b, high_b = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = high_a * low_b + (low_a * low_b >> _HALF)
    other = low_a * high_b + (middle & _LOW)
    return high_a * high_b + (middle >> _HALF) + (other >> _HALF)


def _first_word(k0: Any, k1: Any, c0: Any, c1: Any, c2: Any, c3: Any) -> Any:
    c0 += _ONE  # numpy raises the counter before it draws
    if c0 == 0:
        c1 += _ONE
        if c1 == 0:
            c2 += _ONE
            if c2 == 0:
                c3 += _ONE
    for turn in range(10):
        if turn:
            k0 += _WEYL[0]
            k1 += _WEYL[1]
        h0, l0 = _high(_MULTIPLY[0], c0), _MULTIPLY[0] * c0
        h1, l1 = _high(_MULTIPLY[1], c2), _MULTIPLY[1] * c2
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
    return c0


_word = numba.njit(inline="always")(_first_word)


def _first_within(
    k0: Any, k1: Any, start: Any, step: Any, most: Any, c1: Any, c2: Any, c3: Any, low: Any, high: Any
) -> Any:
    for _ in range(most):
        if low <= _word(k0, k1, start, c1, c2, c3) <= high:
            break
        start += step
    return start


@cache
def _compiled(function: Callable[..., int], words: int) -> Callable[..., int]:
    """Made at the first draw: who only reads scenarios need not wait for it."""
    signature = f"uint64({', '.join(['uint64'] * words)})"
    return cast(Callable[..., int], numba.njit(signature, cache=True, nogil=True)(function))


def first_word(k0: int, k1: int, c0: int, c1: int, c2: int, c3: int) -> int:
    """Of a key (two words) and a counter (four). OverflowError for what is not below 2^64."""
    return _compiled(_first_word, 6)(k0, k1, c0, c1, c2, c3)


def first_within(
    k0: int, k1: int, start: int, step: int, most: int, c1: int, c2: int, c3: int, *, low: int, high: int
) -> int:
    """Of the counters (start, c1, c2, c3), (start + step, c1, c2, c3) and so on the first whose word lies in ``low`` to
    ``high``, by its first number; where none of the first ``most`` does, that of the one after them.
    """
    return _compiled(_first_within, 10)(k0, k1, start, step, most, c1, c2, c3, low, high)
