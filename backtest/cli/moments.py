"""Blocks as options take them: a number, or a date or time of day in UTC, which known blocks place."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING

from backtest.cli.numbers import whole
from backtest.errors import UserError
from backtest.foreign import shown

if TYPE_CHECKING:
    from backtest.fetch.rpc import Rpc
    from backtest.lake import Lake

FIRST, LAST = "--from-block", "--to-block"


def bound(said: str | None, option: str) -> tuple[int | None, bool]:
    """A block, or seconds since 1970 and True where an option says a date; UserError for what is neither. Nothing where
    it says nothing.
    """
    from backtest.scenario import seconds_of

    if said is None:
        return None, False
    if re.match(r"[0-9]{4}-", said):
        return seconds_of(said, option), True
    try:
        return whole(said, option), False
    except UserError:
        raise UserError(
            f"{option} {shown(said, 40)} is no block and no date",
            "give a block such as 19000000, or a date or time in UTC such as 2020-03-12T08:00:00",
        ) from None


def placed(said: str | None, option: str, at: Callable[[int], int]) -> int | None:
    """The block that an option says, or that ``at`` gives for the time that it says."""
    value, dated = bound(said, option)
    return at(value) if dated and value is not None else value


def window_of(lake: Lake, market: str, first: str | None, last: str | None) -> tuple[int | None, int | None]:
    """``--from-block`` and ``--to-block`` as block numbers, as windows of a sweep understand them: the first known
    block at or after a time, the last at or before one. UserError for what is neither, or lies outside the history.
    """

    return (
        placed(first, FIRST, lambda seconds: _placed_in(lake, market, seconds, f"{FIRST} {first}", begins=True)),
        block_of(lake, market, last, LAST),
    )


def block_of(lake: Lake, market: str, said: str | None, option: str) -> int | None:
    """A block, or the last known one at or before a time; errors as those of ``window_of``."""
    return placed(said, option, lambda seconds: _placed_in(lake, market, seconds, f"{option} {said}", begins=False))


def _placed_in(lake: Lake, market: str, seconds: int, said: str, *, begins: bool) -> int:
    table = lake.read("canonical/blocks", market, columns=["block_number", "timestamp"]).sort_by("block_number")
    blocks, times = table["block_number"].to_pylist(), table["timestamp"].to_pylist()
    place = bisect_left(times, seconds) if begins else bisect_right(times, seconds) - 1
    if not 0 <= place < len(blocks):
        raise UserError(f"{said} is outside the history of '{market}'", "leave it out, or give another date")
    return int(blocks[place])


def blocks_of_node(
    rpc: Rpc, lowest: int, highest: Callable[[], int], first: tuple[str | None, str], last: tuple[str | None, str]
) -> tuple[int | None, int | None]:
    """The same of a chain, by its node: what two options say, each given with its name. A date is placed between the
    blocks ``lowest`` and ``highest``, by headers.
    """
    known: dict[int, int] = {}

    def time(block: int) -> int:
        if block not in known:
            known[block] = int(rpc.headers([block])[0].timestamp, 16)
        return known[block]

    def at(seconds: int, said: str | None, option: str, *, begins: bool) -> int:
        end = max(lowest, highest())
        if begins and seconds > time(end):
            raise UserError(f"{option} {said} is after block {end}, the last final one", "give an earlier date")
        if not begins and seconds < time(lowest):
            raise UserError(f"{option} {said} is before block {lowest}, the market's first", "give a later date")
        place = bisect_left if begins else bisect_right
        return lowest + place(range(lowest, end + 1), seconds, key=time) - (0 if begins else 1)

    return (
        placed(*first, lambda seconds: at(seconds, *first, begins=True)),
        placed(*last, lambda seconds: at(seconds, *last, begins=False)),
    )
