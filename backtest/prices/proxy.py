"""A venue's prices as a stand-in for a protocol's oracle: pure.

Where the oracle's own prices are not known, those of a market are, at the start of each of its periods. An oracle with
a delay takes the market's price at every full ``hop`` and puts it in force ``delay`` seconds later (makerdao/osm,
src/osm.sol, ``poke``: the price read one hop ago becomes current; times are cut to full hops by ``era() - era() %
hop``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

HOP = 3600
"""Seconds between two steps of an OSM."""


@dataclass(frozen=True, slots=True)
class ProxyStep:
    """From ``timestamp`` on the oracle says ``price``, which the market had at ``market_timestamp``.

    ``gap``: the market has no row for the moment that the oracle would have read, so this is the last price before it.
    """

    timestamp: int
    price: int
    market_timestamp: int
    gap: bool


def proxy_steps(
    times: Sequence[int],
    prices: Sequence[int],
    periods: Sequence[int | None] | None = None,
    *,
    delay: int,
    hop: int = HOP,
) -> list[ProxyStep]:
    """The steps of an oracle that follows a market.

    With ``delay`` 0 every market price is in force at once. Else the price in force from each full hop ``h`` on is the
    market's at ``h - delay``: the last row at or before it. Missing rows are not filled in silence: a step whose row is
    older than the row's period keeps its price and is flagged.

    Args:
        times: ascending and distinct, seconds.
        prices: base-currency units per whole token, of the same length.
        periods: seconds for which each row speaks; None where that is not known (such a row is never flagged).
        delay: seconds, 0 or more.
        hop: seconds between two steps, 1 or more.

    Returns: steps in order of time, as far as the rows reach (the last one's period included).
    """
    if delay < 0 or hop < 1:
        raise ValueError(f"delay {delay} and hop {hop}: give 0 or more, and 1 or more")
    if not times:
        return []
    spans = list(periods) if periods is not None else [None] * len(times)
    if delay == 0:
        return _at_once(times, prices, spans)
    end = times[-1] + (spans[-1] or 1) - 1 + delay
    first = -(-(times[0] + delay) // hop) * hop
    steps = []
    for moment in range(first, end + 1, hop):
        row = bisect_right(times, moment - delay) - 1
        steps.append(ProxyStep(moment, prices[row], times[row], _after_gap(times[row], spans[row], moment - delay)))
    return steps


def _at_once(times: Sequence[int], prices: Sequence[int], spans: Sequence[int | None]) -> list[ProxyStep]:
    """Every row at its own time; where the row before it ended earlier, its price goes on, flagged, from that end."""
    ended = {stop: start for start, stop in gaps(times, spans)}
    steps = []
    for row, time in enumerate(times):
        if time in ended:
            steps.append(ProxyStep(ended[time], prices[row - 1], times[row - 1], True))
        steps.append(ProxyStep(time, prices[row], time, False))
    return steps


def _after_gap(time: int, span: int | None, moment: int) -> bool:
    """Whether a row speaks for a moment no more."""
    return span is not None and moment >= time + span


def gaps(times: Sequence[int], periods: Sequence[int | None]) -> list[tuple[int, int]]:
    """Spans without a price, as (first second without, first second with one again)."""
    out = []
    for row in range(1, len(times)):
        span = periods[row - 1]
        if span is not None and times[row - 1] + span < times[row]:
            out.append((times[row - 1] + span, times[row]))
    return out
