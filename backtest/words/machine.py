"""The 256-bit word of compiled code: what an ``int`` of a rule is there (see the package).

LLVM adds, compares and shifts it as its own i256; products of numbers below 2**127 are four multiplications in line,
larger ones and all quotients go by 64-bit digits (``digits``), since LLVM's own division takes half a microsecond.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from inspect import getsource
from sys import modules
from types import FunctionType
from typing import Any, get_type_hints

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_constant
from numba.core.typeconv.castgraph import Conversion
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, lower_cast, models, register_model, typeof_impl

from backtest.words import BITS, digits
from backtest.words.digits import (
    WordConstant,
    by_one,
    by_two,
    compiled,
    digest_of,
    instruction,
    names_of,
    product,
)

_I64, _I128, I256 = ir.IntType(64), ir.IntType(128), ir.IntType(BITS)


class WordType(types.Type):
    """The type of a word, as numba knows it; 64-bit integers and truth values become one where they meet it."""

    def __init__(self) -> None:
        super().__init__(name="word256")

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """Whole numbers of 64 bits and less fit."""
        return Conversion.promote if isinstance(other, types.Integer | types.Boolean) else None

    def unify(self, typingctx: Any, other: Any) -> Any:
        """A name that is either is a word."""
        return self if isinstance(other, types.Integer | types.Boolean) else None


word = WordType()


@register_model(WordType)
class _WordModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, I256)


@typeof_impl.register(WordConstant)
def _typeof_constant(value: WordConstant, context: Any) -> WordType:
    return word


def _constant(value: int) -> ir.Constant:
    return ir.Constant(I256, value)


# -- from and to other types -------------------------------------------------------------------------------------------


@lower_constant(WordType)
def _lower_constant(context: Any, builder: Any, typ: Any, value: Any) -> Any:
    return _constant(value.value)


@lower_cast(types.Integer, WordType)
def _from_integer(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    if isinstance(fromty, types.IntegerLiteral):
        return _constant(fromty.literal_value)
    return builder.sext(value, I256) if fromty.signed else builder.zext(value, I256)


@lower_cast(types.Boolean, WordType)
def _from_boolean(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    return builder.zext(value, I256)


@lower_cast(WordType, types.Boolean)
def _to_boolean(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    return builder.icmp_unsigned("!=", value, _constant(0))


@instruction
def word_of(typing: Any, high: Any, second: Any, first: Any, low: Any) -> Any:
    """The word of four digits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = builder.zext(args[3], I256)
        for place in (1, 2, 3):
            made = builder.or_(made, builder.shl(builder.zext(args[3 - place], I256), _constant(64 * place)))
        return made

    return word(types.uint64, types.uint64, types.uint64, types.uint64), generate


@instruction
def word_of_pair(typing: Any, high: Any, low: Any) -> Any:
    """The word of two digits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.or_(builder.shl(builder.zext(args[0], I256), _constant(64)), builder.zext(args[1], I256))

    return word(types.uint64, types.uint64), generate


@instruction
def word_of_digit(typing: Any, digit: Any) -> Any:
    """The word of one digit."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.zext(args[0], I256)

    return word(types.uint64), generate


@instruction
def digits_of(typing: Any, number: Any) -> Any:
    """The four digits of a word, the high one first."""
    four = types.UniTuple(types.uint64, 4)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = [builder.trunc(builder.lshr(args[0], _constant(64 * place)), _I64) for place in (3, 2, 1, 0)]
        return context.make_tuple(builder, four, parts)

    return four(word), generate


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _revert(context: Any, builder: Any, wrong: Any, error: type[Exception], text: str) -> None:
    with builder.if_then(wrong, likely=False):
        context.call_conv.return_user_exc(builder, error, (text,))


def _negative(builder: Any, value: Any) -> Any:
    return builder.icmp_signed("<", value, _constant(0))


def _add(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    a, b = args
    total = builder.add(a, b)
    wrong = _negative(builder, builder.and_(builder.xor(a, total), builder.xor(b, total)))
    _revert(context, builder, wrong, OverflowError, "sum")
    return total


def _sub(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    a, b = args
    rest = builder.sub(a, b)
    wrong = _negative(builder, builder.and_(builder.xor(a, b), builder.xor(a, rest)))
    _revert(context, builder, wrong, OverflowError, "difference")
    return rest


def _neg(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _sub(context, builder, sig, (_constant(0), args[0]))


def _call(context: Any, builder: Any, function: Any, sig: Any, args: Any) -> Any:
    """Another compiled function, from here."""
    kind = context.typing_context.resolve_value_type(function)
    found = kind.get_call_type(context.typing_context, sig.args, {})
    return context.get_function(kind, found)(builder, args)


def _mul(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    a, b = args
    small = builder.icmp_unsigned("==", builder.lshr(builder.or_(a, b), _constant(127)), _constant(0))
    place = builder.alloca(I256)
    with builder.if_else(small, likely=True) as (short, long):
        with short:
            wide = [
                (builder.zext(builder.trunc(n, _I64), _I128),
                 builder.zext(builder.trunc(builder.lshr(n, _constant(64)), _I64), _I128))
                for n in (a, b)
            ]  # fmt: skip
            (al, ah), (bl, bh) = wide
            parts = [
                (builder.mul(al, bl), 0),
                (builder.mul(al, bh), 64),
                (builder.mul(ah, bl), 64),
                (builder.mul(ah, bh), 128),
            ]
            total = None
            for part, shift in parts:
                shifted = builder.shl(builder.zext(part, I256), _constant(shift))
                total = shifted if total is None else builder.add(total, shifted)
            builder.store(total, place)
        with long:
            builder.store(_call(context, builder, _mul_long, word(word, word), (a, b)), place)
    return builder.load(place)


def _floordiv(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _call(context, builder, _quotient_down, word(word, word), args)


def _mod(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    quotient = _floordiv(context, builder, sig, args)
    return builder.sub(args[0], builder.mul(quotient, args[1]))


def _shift_amount(context: Any, builder: Any, by: Any) -> tuple[Any, Any]:
    """Cut to 255, and whether it was more."""
    _revert(context, builder, _negative(builder, by), ValueError, "negative shift count")
    far = builder.icmp_unsigned(">", by, _constant(BITS - 1))
    return builder.select(far, _constant(BITS - 1), by), far


def _lshift(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    value, by = args
    near, far = _shift_amount(context, builder, by)
    moved = builder.shl(value, near)
    lost = builder.or_(far, builder.icmp_signed("!=", builder.ashr(moved, near), value))
    wrong = builder.and_(lost, builder.icmp_signed("!=", value, _constant(0)))
    _revert(context, builder, wrong, OverflowError, "shift")
    return moved


def _rshift(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    near, _ = _shift_amount(context, builder, args[1])
    return builder.ashr(args[0], near)


def _and(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.and_(*args)


def _or(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.or_(*args)


def _register(generate: Callable[..., Any], result: Any, arguments: int, *functions: Any) -> None:
    """The operators that one generator is for, between words."""
    takes = (word,) * arguments
    for function in functions:
        cases = [signature(result, *takes)]
        infer_global(function)(type(f"Word_{function.__name__}", (ConcreteTemplate,), {"cases": cases}))
        lower_builtin(function, *takes)(generate)


for _generate, _functions in (
    (_add, (operator.add, operator.iadd)), (_sub, (operator.sub, operator.isub)), (_mul, (operator.mul, operator.imul)),
    (_floordiv, (operator.floordiv, operator.ifloordiv)), (_mod, (operator.mod, operator.imod)),
    (_lshift, (operator.lshift, operator.ilshift)), (_rshift, (operator.rshift, operator.irshift)),
    (_and, (operator.and_, operator.iand)), (_or, (operator.or_, operator.ior)),
):  # fmt: skip
    _register(_generate, word, 2, *_functions)
_register(_neg, word, 1, operator.neg)


def _register_comparison(sign: str, function: Any) -> None:
    def compare(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.icmp_signed(sign, *args)

    _register(compare, types.boolean, 2, function)


for _sign, _function in (
    ("<", operator.lt), ("<=", operator.le), (">", operator.gt), (">=", operator.ge), ("==", operator.eq),
    ("!=", operator.ne),
):  # fmt: skip
    _register_comparison(_sign, _function)


def _truth(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.icmp_unsigned("!=", args[0], _constant(0))


def _not(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.icmp_unsigned("==", args[0], _constant(0))


_register(_truth, types.boolean, 1, bool)
_register(_not, types.boolean, 1, operator.not_)


def _register_choice(sign: str, function: Any) -> None:
    def choose(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        found = args[0]
        for other in args[1:]:
            found = builder.select(builder.icmp_signed(sign, other, found), other, found)
        return found

    for many in (2, 3):
        _register(choose, word, many, function)


_register_choice("<", min)
_register_choice(">", max)

_SOURCE = sha256("".join(map(getsource, (modules[__name__], digits))).encode()).hexdigest()


def digest(function: Callable[..., Any], more: str = "") -> str:
    """Of a function of words: how words are computed with is no part of its own text."""
    return sha256((_SOURCE + more + digest_of(function)).encode()).hexdigest()[:12]


def with_words(function: Any) -> Any:
    """A function of arrays that computes with words, compiled for whatever it is first called with; large numbers are
    ``WordConstant``.
    """
    return compiled(function, made_of=digest(function))


def in_place(function: Any) -> Any:
    """The same of a function that only reads and writes elements of arrays: references to them are not counted (see
    ``digits.compiled``).
    """
    return compiled(function, made_of=digest(function), borrows=True)


def within(function: Any) -> Any:
    """The same, for compiled code alone to call."""
    return compiled(function, made_of=digest(function), inner=True, borrows=True)


@within
def put_row(row: Any, other: Any) -> None:
    """The numbers of another row."""
    for place in range(len(row)):
        row[place] = other[place]


@within
def put_each(row: Any, number: Any) -> None:
    """The same number in every place."""
    for place in range(len(row)):
        row[place] = number


@within
def put_pair(row: Any, place: int, number: Any) -> None:
    """A number into two digits of a row, the high one first; OverflowError where it takes more."""
    d3, d2, d1, d0 = digits_of(number)
    if d3 | d2:
        raise OverflowError("two digits")
    row[place], row[place + 1] = d1, d0


def _words(function: Any) -> Any:
    """Compiled for two words; those that are called first stand first."""
    return compiled(function, (word, word), made_of=digest(function), inner=True, borrows=True)


# -- what does not go in line ------------------------------------------------------------------------------------------


@instruction
def _wrapping(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a - b * c, modulo 2**256."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sub(args[0], builder.mul(args[1], args[2]))

    return word(word, word, word), generate


@instruction
def _right(typing: Any, a: Any, by: Any) -> Any:
    """a >> by, below 256, of a number that is not negative."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.lshr(args[0], builder.zext(args[1], I256))

    return word(word, types.uint64), generate


@instruction
def _length(typing: Any, digit: Any) -> Any:
    """How many bits a digit has."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.sub(ir.Constant(_I64, 64), builder.ctlz(args[0], context.get_constant(types.boolean, False)))

    return types.uint64(types.uint64), generate


@_words
def _mul_long(a: Any, b: Any) -> Any:
    """a * b, of any two words."""
    negative = (a < 0) != (b < 0)
    a3, a2, a1, a0 = digits_of(-a if a < 0 else a)
    b3, b2, b1, b0 = digits_of(-b if b < 0 else b)
    fits, r3, r2, r1, r0 = product(a3, a2, a1, a0, b3, b2, b1, b0)
    found = word_of(r3, r2, r1, r0)
    if not fits or found < 0:
        raise OverflowError("product")
    return -found if negative else found


@_words
def _quotient(n: Any, d: Any) -> Any:
    """n // d of two that are not negative, d above 0.

    Where d has more than two digits both are cut to as many bits as leave d with 128: the quotient, below 2**127, is at
    most two too large then.
    """
    d3, d2, d1, d0 = digits_of(d)
    if not (d3 | d2):
        n3, n2, n1, n0 = digits_of(n)
        if d1:
            q3, q2, q1, q0 = by_two(n3, n2, n1, n0, d1, d0)
        else:
            q3, q2, q1, q0 = by_one(n3, n2, n1, n0, d0)
        return word_of(q3, q2, q1, q0)
    cut = np.uint64(64) + _length(d3) if d3 else _length(d2)
    n3, n2, n1, n0 = digits_of(_right(n, cut))
    _, _, d1, d0 = digits_of(_right(d, cut))
    q3, q2, q1, q0 = by_two(n3, n2, n1, n0, d1, d0)
    found = word_of(q3, q2, q1, q0)
    while _wrapping(n, found, d) < 0:
        found -= 1
    return found


@_words
def _quotient_down(n: Any, d: Any) -> Any:
    """n // d, rounded down as Python does."""
    if d > 0 and n >= 0:
        return _quotient(n, d)
    if d == 0:
        raise ZeroDivisionError("division by zero")
    if (n < 0) == (d < 0):
        return _quotient(-n if n < 0 else n, -d if d < 0 else d)
    over, by = -n if n < 0 else n, -d if d < 0 else d
    found = _quotient(over, by)
    return -found if _wrapping(over, found, by) == 0 else -found - 1


# -- rules -------------------------------------------------------------------------------------------------------------


def kind_of(annotation: Any) -> Any:
    """What numba is told of an annotation: ``int``, ``bool``, or a NamedTuple of them."""
    if annotation is int:
        return word
    if annotation is bool:
        return types.boolean
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        kinds = [kind_of(of) for of in get_type_hints(annotation).values()]
        same = len(set(kinds)) == 1
        return types.NamedUniTuple(kinds[0], len(kinds), annotation) if same else types.NamedTuple(kinds, annotation)
    raise TypeError(f"{annotation!r} is not what a rule may take")


@cache
def machine(rule: Callable[..., Any]) -> Any:
    """The rule as machine code, for other compiled code to call (``columns`` for many rows); compiled once and kept on
    disk.

    The text is the rule's own. Its integers, written there or global, become words, functions that it calls their
    machine code; nothing else that is compiled may be called.

    Raises: TypeError for a parameter that is neither int, bool nor a NamedTuple of them; OverflowError for a number in
        the text that is no word.
    """
    text = rule.__code__
    constants = tuple(WordConstant(value) if type(value) is int else value for value in text.co_consts)
    space: dict[str, Any] = {"__builtins__": __builtins__, "__name__": rule.__module__}
    for name in names_of(text) & rule.__globals__.keys():
        value = rule.__globals__[name]
        if isinstance(value, FunctionType):
            value = machine(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            value = WordConstant(value)
        space[name] = value
    twin = FunctionType(text.replace(co_consts=constants), space, rule.__name__, rule.__defaults__, rule.__closure__)
    twin.__qualname__ = rule.__qualname__
    takes = [kind for name, kind in get_type_hints(rule).items() if name != "return"]
    return compiled(twin, tuple(map(kind_of, takes)), made_of=digest(rule), inner=True, borrows=True)
