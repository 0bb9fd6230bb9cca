"""What every part of a scenario is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, get_args

import msgspec

from backtest import foreign
from backtest.errors import ScenarioError

LARGEST = 2**63 - 1
"""Counts, blocks, seconds and shares are stored as 64-bit integers;"""
LARGEST_AMOUNT = 10**38 - 1
"""amounts and prices of gas have 38 digits."""
_AMOUNTS = frozenset(
    {
        "base_fee",
        "capital",
        "curve",
        "from_",
        "daily_volume",
        "depth_base",
        "dust",
        "gas_cap",
        "gas_cost",
        "min_profit",
        "most_repaid",
        "native_price",
        "private_cost",
        "reserve",
        "tiers",
        "tip",
        "to",
        "values",
    }
)


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen table whose unknown fields are errors, and whose values are checked whatever way they come: a file, an
    option, Python.
    """

    def __post_init__(self) -> None:
        """ScenarioError, which names the field, for a value of another type or beyond what is stored."""
        for name, kind in _fields(type(self)):
            value = getattr(self, name)
            where = f"{type(self).__name__}.{name}"
            try:
                same = _same(msgspec.convert(value, kind), value)
            except (msgspec.ValidationError, RecursionError) as error:
                raise ScenarioError(
                    f"{where} = {foreign.shown(_said(value), 80)}: {error}",
                    self._remedy(name, value) or _expected(kind),
                ) from None
            if not same:
                raise ScenarioError(f"{where} is a {type(value).__name__}", "give a tuple")
            _bound(where, value, LARGEST_AMOUNT if name in _AMOUNTS else LARGEST)

    def _remedy(self, field: str, value: object) -> str:
        """What to write instead of a value of another type, where that can be told."""
        return ""


@lru_cache(maxsize=256)
def _fields(kind: type[Strict]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.type) for field in msgspec.structs.fields(kind))


def _same(made: object, given: object) -> bool:
    """Whether a conversion changed nothing, not even a list to a tuple."""
    if isinstance(given, tuple) and isinstance(made, tuple):
        return len(made) == len(given) and all(map(_same, made, given))
    return type(made) is type(given)


def _said(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return type(value).__name__


def _expected(kind: Any) -> str:
    structs = [part.__name__ for part in get_args(kind) if isinstance(part, type) and issubclass(part, Strict)]
    return f"give one of {', '.join(structs)}" if structs else "see docs/scenarios.md"


def _bound(where: str, value: object, largest: int) -> None:
    if isinstance(value, tuple):
        for item in value:
            _bound(where, item, largest)
    elif isinstance(value, int) and abs(value) > largest:
        limit = "2^63 - 1" if largest == LARGEST else "10^38 - 1"
        raise ScenarioError(
            f"{where} is no number that can be stored ({value.bit_length()} bits)",
            f"give a whole number from 0 to {limit}",
        )


def seconds_of(text: str, where: str) -> int:
    """A date or time of day in UTC as seconds since 1970; ScenarioError names ``where``."""
    try:
        if not text.isascii():  # Python reads digits of other scripts too
            raise ValueError
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise ScenarioError(
            f"{where} = '{foreign.shown(text, 40)}' is no date", "write 2020-03-12 or 2020-03-12T08:00:00, in UTC"
        ) from None


def plain(name: str, where: str) -> None:
    """ScenarioError for a name that cannot be shown everywhere: with control characters, or far too long."""
    if len(name) > 2_000 or foreign.shown(name, len(name)) != name:
        raise ScenarioError(
            f"{where} = '{foreign.shown(name, 40)}' is no name", "give up to 2,000 characters that can be printed"
        )


def at_least(least: int, **fields: int | None) -> None:
    """ScenarioError for the first field below ``least``; the fields' names say where they are (``costs__tip`` is
    costs.tip). None passes.
    """
    for name, value in fields.items():
        if value is not None and value < least:
            where = name.replace("__", ".")
            raise ScenarioError(
                f"{where} = {value} is {'negative' if least == 0 else 'too small'}", f"give {least} or more"
            )


def share(**fields: int) -> None:
    """ScenarioError for the first field that is no share in basis points."""
    for name, value in fields.items():
        if not 0 <= value <= 10_000:
            raise ScenarioError(f"{name.replace('__', '.')} = {value} is no share", "give basis points, 0 to 10000")
