"""Numbers of options: ASCII digits, exact, and never rounded: 1.5 searchers are a mistake, not 2."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

from cyclopts import Parameter, Token

from backtest import foreign
from backtest.errors import UserError


def whole(text: str, where: str) -> int:
    """A whole number of at most 63 bits; 5.0 and 5e0 are 5. UserError names ``where``."""
    value = number(text, where)
    if value != value.to_integral_value() or abs(value) > 1 << 63:
        raise UserError(
            f"{where} {foreign.shown(text, 40)} is no whole number of 64 bits",
            "give a whole number from 0 to 2^63 - 1",
        )
    return int(value)


def number(text: str, where: str) -> Decimal:
    """A number, exact. UserError names ``where``."""
    try:
        return foreign.decimal(text.replace("_", ""))
    except foreign.Unreadable as error:
        raise UserError(f"{where}: {error}", "give a number in digits, such as 5 or 0.25") from None


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    return whole(tokens[0].value, _option(tokens[0]))


def _number(_: Any, tokens: Sequence[Token]) -> Decimal:
    return number(tokens[0].value, _option(tokens[0]))


def _real(_: Any, tokens: Sequence[Token]) -> float:
    return float(number(tokens[0].value, _option(tokens[0])))


def _option(token: Token) -> str:
    return token.keyword or "argument"


Whole = Annotated[int, Parameter(converter=_whole)]
"""A whole number,"""
Number = Annotated[Decimal, Parameter(converter=_number)]
"""an exact number,"""
Real = Annotated[float, Parameter(converter=_real)]
"""a number for statistics: finite, too."""
