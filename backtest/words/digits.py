"""Multiplication and division of unsigned 64-bit words, which everything wider is made of, and how compiled functions
are kept on disk.

Numba's cache knows that a function changed by the time of its own file. ``compiled`` names each by the content of all
that it is made of: its code, what it calls, its constants, however far away. So nothing stale is ever read.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from types import CodeType, FunctionType
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

from backtest.words import BITS, LARGEST

Digit = np.uint64
Pair = tuple[np.uint64, np.uint64]
Four = tuple[np.uint64, np.uint64, np.uint64, np.uint64]
F = TypeVar("F", bound=Callable[..., Any])

U = np.uint64
_0, _1, _32, _64 = U(0), U(1), U(32), U(64)
_LOW, _BASE = U(0xFFFFFFFF), U(1 << 32)


class WordConstant:
    """A number in the place of an ``int`` of a text: numba would wrap those of 64 bits, and refuse longer ones."""

    def __init__(self, value: int) -> None:
        if not -LARGEST - 1 <= value <= LARGEST:
            raise OverflowError(f"{value} is no word of {BITS} bits")
        self.value = value

    def __repr__(self) -> str:
        return f"WordConstant({self.value})"


def names_of(code: CodeType) -> set[str]:
    """Every global name that the code may ask for."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= names_of(constant)
    return found


def digest_of(function: Callable[..., Any]) -> str:
    """Changes with anything that the function is made of."""
    parts: list[str] = []
    seen: set[int] = set()

    def code(of: CodeType) -> None:
        parts.append(f"{of.co_code.hex()} {of.co_names} {of.co_varnames}")
        for constant in of.co_consts:
            if isinstance(constant, CodeType):
                code(constant)
            else:
                parts.append(repr(constant))

    def add(name: str, value: Any) -> None:
        value = value.py_func if isinstance(value, Dispatcher) else value
        value = getattr(value, "_defn", value)  # an intrinsic
        value = value.value if isinstance(value, WordConstant) else value
        if not isinstance(value, FunctionType):
            parts.append(f"{name} {value if isinstance(value, int | float | tuple | np.generic) else type(value)!r}")
        elif id(value) not in seen:
            seen.add(id(value))
            parts.append(f"{name} {value.__annotations__}")
            code(value.__code__)
            for inner in sorted(names_of(value.__code__) & value.__globals__.keys()):
                add(inner, value.__globals__[inner])

    add(function.__name__, function)
    return sha256("\n".join(parts).encode()).hexdigest()[:12]


def compiled(function: F, *signature: Any, made_of: str = "", inner: bool = False, borrows: bool = False) -> F:
    """The function as machine code, kept on disk; it may run while other threads do. With a ``signature`` for that one
    alone.

    Args:
        inner: only compiled code calls it, which spares the half of compiling that is for Python.
        borrows: it does not count references to arrays, which costs as much as the arithmetic where a function looks at
            a few rows. It may then neither make arrays, nor return one, nor assign one to another: elements alone.
    """
    function.__qualname__ += f"_{made_of or digest_of(function)}{'_borrows' if borrows else ''}"
    options: dict[str, Any] = {"_nrt": False} if borrows else {}
    njit: Any = numba.njit
    made = njit(*signature, cache=True, nogil=True, no_cpython_wrapper=inner, no_cfunc_wrapper=inner, **options)
    return cast(F, made(function))


def instruction(generate: Callable[..., Any]) -> Any:
    """``numba.extending.intrinsic``: what compiled code may call by this name."""
    return intrinsic(generate)


def _inner(function: F) -> F:
    return compiled(function, inner=True)


@instruction
def _leading(typing: Any, digit: Any) -> Any:
    """How many leading zeros a digit has that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), generate


@_inner
def mul(a: Digit, b: Digit) -> Pair:
    """a * b."""
    al, ah, bl, bh = a & _LOW, a >> _32, b & _LOW, b >> _32
    low = al * bl
    middle = ah * bl + (low >> _32)
    cross = al * bh + (middle & _LOW)
    return ah * bh + (middle >> _32) + (cross >> _32), (cross << _32) | (low & _LOW)


@_inner
def divide(high: Digit, low: Digit, divisor: Digit) -> Pair:
    """Quotient and rest of two digits, whose high one is below the divisor, which has its top bit set (Hacker's
    Delight, divlu).
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


@_inner
def step(r1: Digit, r0: Digit, digit: Digit, d1: Digit, d0: Digit) -> tuple[Digit, Digit, Digit]:
    """A digit of the quotient, and the rest (high, low), of a rest below the divisor, which has its top bit set, and
    the next digit (Knuth, The Art of Computer Programming 2, algorithm D, in base 2**64).
    """
    within = True
    if r1 >= d1:
        guess, left = ~_0, r0 + d1
        within = bool(left >= d1)
    else:
        guess, left = divide(r1, r0, d1)
    high, low = mul(guess, d0)
    while within and (left < high or (left == high and digit < low)):
        guess -= _1
        left += d1
        within = bool(left >= d1)
        high -= _1 if low < d0 else _0
        low -= d0
    return guess, left - high - (_1 if digit < low else _0), digit - low


@_inner
def by_one(n3: Digit, n2: Digit, n1: Digit, n0: Digit, d: Digit) -> Four:
    """The quotient of four digits by one that is not 0."""
    if not (n3 | n2 | n1):
        return _0, _0, _0, n0 // d
    shift = _leading(d)
    d <<= shift
    top = _0
    if shift:
        back = _64 - shift
        top, n3, n2 = n3 >> back, (n3 << shift) | (n2 >> back), (n2 << shift) | (n1 >> back)
        n1, n0 = (n1 << shift) | (n0 >> back), n0 << shift
    q3 = q2 = q1 = _0
    if top or n3 >= d:
        q3, n3 = divide(top, n3, d)
    if n3 or n2 >= d:
        q2, n2 = divide(n3, n2, d)
    if n2 or n1 >= d:
        q1, n1 = divide(n2, n1, d)
    return q3, q2, q1, divide(n1, n0, d)[0]


@_inner
def by_two(n3: Digit, n2: Digit, n1: Digit, n0: Digit, d1: Digit, d0: Digit) -> Four:
    """The quotient of four digits by two, of which the high one is not 0."""
    if not (n3 | n2) and (n1 < d1 or (n1 == d1 and n0 < d0)):
        return _0, _0, _0, _0
    shift = _leading(d1)
    top = _0
    if shift:
        back = _64 - shift
        d1, d0 = (d1 << shift) | (d0 >> back), d0 << shift
        top, n3, n2 = n3 >> back, (n3 << shift) | (n2 >> back), (n2 << shift) | (n1 >> back)
        n1, n0 = (n1 << shift) | (n0 >> back), n0 << shift
    q2 = q1 = _0
    if top or n3 > d1 or (n3 == d1 and n2 >= d0):
        q2, n3, n2 = step(top, n3, n2, d1, d0)
    if n3 or n2 > d1 or (n2 == d1 and n1 >= d0):
        q1, n2, n1 = step(n3, n2, n1, d1, d0)
    return _0, q2, q1, step(n2, n1, n0, d1, d0)[0]


@_inner
def product(
    a3: Digit, a2: Digit, a1: Digit, a0: Digit, b3: Digit, b2: Digit, b1: Digit, b0: Digit
) -> tuple[bool, Digit, Digit, Digit, Digit]:
    """The product of two numbers of four digits, and whether it has no more than four."""
    if (a3 and (b3 | b2 | b1)) or (b3 and (a2 | a1)) or (a2 and b2):
        return False, _0, _0, _0, _0
    fits = True
    h00, r0 = mul(a0, b0)
    h01, l01 = mul(a0, b1)
    h10, l10 = mul(a1, b0)
    r1 = h00 + l01
    c1 = _1 if r1 < l01 else _0
    r1 += l10
    c1 += _1 if r1 < l10 else _0
    r2, c2 = c1, _0
    for part in (h01, h10, mul(a0, b2)[1], mul(a1, b1)[1], mul(a2, b0)[1]):
        r2 += part
        c2 += _1 if r2 < part else _0
    r3 = c2
    for part in (
        mul(a0, b2)[0], mul(a1, b1)[0], mul(a2, b0)[0], mul(a0, b3)[1], mul(a3, b0)[1], mul(a1, b2)[1], mul(a2, b1)[1]
    ):  # fmt: skip
        r3 += part
        fits = fits and bool(r3 >= part)
    if mul(a0, b3)[0] | mul(a3, b0)[0] | mul(a1, b2)[0] | mul(a2, b1)[0]:
        fits = False
    return fits, r3, r2, r1, r0
