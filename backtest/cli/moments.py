"""Blocks as options take them: a number, or a date or time of day in UTC, which the lake's known blocks place."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.lake import Lake


def window_of(lake: Lake, market: str, first: str | None, last: str | None) -> tuple[int | None, int | None]:
    """``--from-block`` and ``--to-block`` as block numbers, as windows of a sweep understand them: the first known
    block at or after a time, the last at or before one. UserError for what is neither, or lies outside the history.
    """
    return _block(lake, market, first, "--from-block"), _block(lake, market, last, "--to-block")


def _block(lake: Lake, market: str, said: str | None, option: str) -> int | None:
    if said is None:
        return None
    from backtest.foreign import Unreadable, integer
    from backtest.scenario import seconds_of

    if re.fullmatch(r"[+-]?[0-9]+", said):
        try:
            return integer(said, bits=63)
        except Unreadable as error:
            raise UserError(f"{option}: {error}", "give a block or a date such as 2020-03-12") from None
    seconds = seconds_of(said, option)
    table = lake.read("canonical/blocks", market, columns=["block_number", "timestamp"]).sort_by("block_number")
    blocks, times = table["block_number"].to_pylist(), table["timestamp"].to_pylist()
    if option == "--from-block":
        at = bisect_left(times, seconds)
        found = at < len(blocks)
    else:
        at = bisect_right(times, seconds) - 1
        found = at >= 0
    if not found:
        raise UserError(f"{option} {said} is outside the history of '{market}'", "leave it out, or give another date")
    return int(blocks[at])
