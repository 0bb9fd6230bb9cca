"""A rule over whole columns: ``over`` gives what it says of every row, and of which rows it can say it.

Columns are words (rows x 4, the low digit first, two's complement), 64-bit integers, or one ``int`` for all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from inspect import getsource
from sys import modules
from types import FunctionType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types

from backtest.words.digits import compiled, instruction
from backtest.words.machine import _I256, LARGEST, _digest, machine, word

Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Column = Words | npt.NDArray[np.int64] | int

DIGITS = 4
_BYTES = 8 * DIGITS
NO_WORD = -LARGEST - 1
_2, _62, _LOW, _TOP = np.uint64(2), np.uint64(62), np.uint64((1 << 62) - 1), np.uint64(1 << 60)


def words(numbers: Iterable[int]) -> Words:
    """A column of integers; those that are no words stand as ``NO_WORD``, so that no row of theirs is exact."""
    numbers = list(numbers)
    try:
        joined = b"".join([number.to_bytes(_BYTES, "little", signed=True) for number in numbers])
    except OverflowError:
        return words([number if -LARGEST <= number <= LARGEST else NO_WORD for number in numbers])
    return np.frombuffer(joined, np.uint64).reshape(-1, DIGITS)


def numbers(column: Words) -> list[int]:
    """The integers of a column."""
    data = np.ascontiguousarray(column).tobytes()
    return [int.from_bytes(data[at : at + _BYTES], "little", signed=True) for at in range(0, len(data), _BYTES)]


def widened(column: npt.NDArray[np.int64]) -> Words:
    """64-bit integers as words."""
    found = np.empty((len(column), DIGITS), np.uint64)
    found[:, 0] = column.view(np.uint64)
    found[:, 1:] = (column >> 63).view(np.uint64)[:, None]
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule says of every row: a column for each number it returns, in order (``bool`` as 0 and 1).

    ``exact``: where it says it; elsewhere (a number that is no word, a division by zero) the row is the plain rule's.
    """

    columns: Words
    exact: Mask

    def wide(self, place: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Mask]:
        """One of the columns as its low 62 bits and what is above, and where it is exact, not negative and below
        2**124.
        """
        low, high = self.columns[place, :, 0], self.columns[place, :, 1]
        fits = self.exact & (high < _TOP) & ~self.columns[place, :, 2:].any(axis=1)
        return (low & _LOW).view(np.int64), ((high << _2) | (low >> _62)).view(np.int64), fits


def over(rule: Callable[..., Any], *columns: Column, rows: int) -> Found:
    """The rule over rows; an argument a column."""
    made = machine(rule)
    results = _width(made.nopython_signatures[0].return_type)
    found, exact = np.empty((results, rows, DIGITS), np.uint64), np.zeros(rows, np.bool_)
    taken = [_spread(column, rows) for column in columns]
    places = tuple((column.__array_interface__["data"][0], column.strides[0]) for column in taken)
    _loop_of(rule)(places, rows, found.__array_interface__["data"][0], exact.__array_interface__["data"][0])
    return Found(found, exact)


def _spread(column: Column, rows: int) -> Words:
    if isinstance(column, int):
        return np.broadcast_to(words([column]), (rows, DIGITS))
    if len(column) != rows:
        raise ValueError(f"a column has {len(column)} rows, not {rows}")
    return cast(Words, column) if column.dtype == np.uint64 else widened(cast("npt.NDArray[np.int64]", column))


def _width(kind: Any) -> int:
    return len(kind) if isinstance(kind, types.BaseTuple) else 1


# Compiled loops get addresses: arrays would be counted in and out at every row.

_COLUMN = types.UniTuple(types.intp, 2)
_BYTE = ir.IntType(8)


def _row_of(kinds: tuple[Any, ...]) -> Any:
    """What takes the numbers of one row out of all columns, as a rule of these parameters wants them."""

    @instruction
    def row_of(typing: Any, columns: Any, row: Any) -> Any:
        found = types.Tuple(kinds)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            made = []
            for place, kind in enumerate(kinds):
                start, stride = (builder.extract_value(args[0], [place, part]) for part in (0, 1))
                at = builder.add(start, builder.mul(stride, args[1]))
                number = builder.load(builder.inttoptr(at, _I256.as_pointer()), align=8)
                none = builder.icmp_signed("==", number, ir.Constant(_I256, NO_WORD))
                with builder.if_then(none, likely=False):
                    context.call_conv.return_user_exc(builder, OverflowError, ("argument",))
                made.append(context.cast(builder, number, word, kind))
            return context.make_tuple(builder, found, made)

        return found(columns, types.intp), generate

    return row_of


def _row(columns: Any, row: int) -> Any:
    """Stands for that of the rule."""


@instruction
def _put(typing: Any, found: Any, rows: Any, row: Any, result: Any) -> Any:
    """A result into its row of every column."""
    many = isinstance(result, types.BaseTuple)
    kinds: list[Any] = [*result] if many else [result]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start, rows, row, value = args
        data = builder.inttoptr(start, _I256.as_pointer())
        for place, kind in enumerate(kinds):
            number = context.cast(builder, builder.extract_value(value, place) if many else value, kind, word)
            at = builder.add(builder.mul(rows, context.get_constant(types.intp, place)), row)
            builder.store(number, builder.gep(data, [at]), align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, result), generate


@instruction
def _mark(typing: Any, flags: Any, row: Any) -> Any:
    """The row's flag is set."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(_BYTE(1), builder.inttoptr(builder.add(*args), _BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _rule(*row: Any) -> Any:
    """Stands for the rule that the loop is made for."""


def _loop(columns: Any, rows: int, found: int, exact: int) -> None:
    for row in range(rows):
        try:
            _put(found, rows, row, _rule(*_row(columns, row)))
            _mark(exact, row)
        except Exception:
            continue


@cache
def _loop_of(rule: Callable[..., Any]) -> Any:
    """The loop with a rule in it."""
    made = machine(rule)
    takes = made.nopython_signatures[0].args
    own = {"_rule": made, "_row": _row_of(takes), "_put": _put, "_mark": _mark}
    loop = FunctionType(_loop.__code__, {"__builtins__": __builtins__, "__name__": __name__, **own}, "_loop")
    loop.__qualname__ = f"over_{rule.__qualname__}"
    signature = types.void(types.UniTuple(_COLUMN, len(takes)), types.intp, types.intp, types.intp)
    return compiled(loop, signature, made_of=_digest(rule, _SOURCE))


_SOURCE = getsource(modules[__name__])
