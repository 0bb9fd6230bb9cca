"""What every part of a scenario is made of."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from backtest.errors import ScenarioError


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen table whose unknown fields are errors."""


def seconds_of(text: str, where: str) -> int:
    """A date or time of day in UTC as seconds since 1970; ScenarioError names ``where``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ScenarioError(
            f"{where} = '{text}' is no date", "write 2020-03-12 or 2020-03-12T08:00:00, in UTC"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


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
