"""Which blocks of a market are complete because files claim so: coverage that no node has shown.

Kept with the facts about the origin of a market's data (``provenance``), so that it does not change what the market is:
the same rows give the same digest, whoever vouches for them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backtest.lake.manifest import Ranges, merge

if TYPE_CHECKING:
    from backtest.lake import Lake, Writer

FACT = "claimed by files"
_RANGE = re.compile(r"([0-9]{1,19})\.\.([0-9]{1,19})", re.ASCII)


def claimed(lake: Lake, market: str) -> Ranges:
    """The inclusive block ranges that files claim to be complete; none for a market that is not there."""
    text = lake.provenance(market).get(FACT, "") if market in lake.markets() else ""
    return merge((int(low), int(high)) for low, high in _RANGE.findall(text))


def claim(lake: Lake, writer: Writer, market: str, first: int, last: int) -> None:
    """Add an inclusive range."""
    _set(writer, market, merge([*claimed(lake, market), (first, last)]))


def disown(lake: Lake, writer: Writer, market: str, first: int, last: int) -> None:
    """Take an inclusive range out: a node will say what is in it."""
    before = claimed(lake, market)
    cut = [(low, min(high, first - 1)) for low, high in before] + [(max(low, last + 1), high) for low, high in before]
    kept = merge((low, high) for low, high in cut if low <= high)
    if kept != before:
        _set(writer, market, kept)


def _set(writer: Writer, market: str, ranges: Ranges) -> None:
    writer.set_provenance(market, {FACT: ",".join(f"{low}..{high}" for low, high in ranges)})


def in_words(ranges: Ranges) -> str:
    """ "blocks 1 to 5 and 9 to 12"."""
    return "blocks " + " and ".join(f"{low} to {high}" for low, high in ranges)
