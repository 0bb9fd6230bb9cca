"""The compiled loop of a rule over columns, for ``columns.over``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import getsource
from sys import modules
from types import FunctionType
from typing import Any

from llvmlite import ir
from numba import types

from backtest.words.columns import NO_WORD
from backtest.words.digits import compiled, instruction
from backtest.words.machine import I256, digest, machine, word

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
                number = builder.load(builder.inttoptr(at, I256.as_pointer()), align=8)
                none = builder.icmp_signed("==", number, ir.Constant(I256, NO_WORD))
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
        data = builder.inttoptr(start, I256.as_pointer())
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
def loop_of(rule: Callable[..., Any]) -> tuple[int, Any]:
    """How many numbers a rule returns, and the loop with it: of addresses and strides of columns, the number
    of rows, and the addresses of what is found and of the flags.
    """
    made = machine(rule)
    takes, gives = made.nopython_signatures[0].args, made.nopython_signatures[0].return_type
    own = {"_rule": made, "_row": _row_of(takes), "_put": _put, "_mark": _mark}
    loop = FunctionType(_loop.__code__, {"__builtins__": __builtins__, "__name__": __name__, **own}, "_loop")
    loop.__qualname__ = f"over_{rule.__qualname__}"
    signature = types.void(types.UniTuple(_COLUMN, len(takes)), types.intp, types.intp, types.intp)
    return len(gives) if isinstance(gives, types.BaseTuple) else 1, compiled(
        loop, signature, made_of=digest(rule, _SOURCE)
    )


_SOURCE = getsource(modules[__name__])
