"""Slippage by size from quotes of one pair: how much less than at the smallest sizes a sale brings on average.

Quotes come in rounds of many sizes within a minute or two; prices move between rounds. The price of a round is the
median of its smallest quotes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from backtest.calibration.fitting import Floats
from backtest.errors import UserError

ROUND_GAP = 600
"""Seconds without a quote that end a round."""
SMALLEST = 5
"""Quotes whose median is the price of a round."""
POINTS = 16
"""Points of a curve."""
LEAST_QUOTES = 40


class Quote(NamedTuple):
    """What was offered for a size, both in the tokens' smallest units."""

    seconds: int
    amount_in: float
    amount_out: float


@dataclass(frozen=True, slots=True)
class SlippageCurve:
    """A curve that never falls: slippage (share of the price) by size (smallest units of the token bought, at the price
    of the round).
    """

    sizes: tuple[float, ...]
    slippages: tuple[float, ...]

    def at(self, sizes: Floats) -> Floats:
        """Slippage of these sizes as a replay reads the curve: straight lines from nothing on, beyond the last point
        the square root of size.
        """
        inside = np.interp(sizes, (0.0, *self.sizes), (0.0, *self.slippages))
        beyond = self.slippages[-1] * np.sqrt(np.asarray(sizes) / self.sizes[-1])
        return np.where(np.asarray(sizes) > self.sizes[-1], np.minimum(beyond, 1.0), inside)


class Measured(NamedTuple):
    """Quotes of one pair in order of time."""

    sizes: Floats
    """Smallest units of the token bought, at the price of the round."""
    lost: Floats
    """Slippage against the price of the round, a share."""
    prices: Floats
    """Of each round, smallest units bought for one sold."""


def measured(quotes: Sequence[Quote]) -> Measured:
    """Sizes and slippages of the quotes of one pair. UserError where there are too few."""
    if len(quotes) < LEAST_QUOTES:
        raise UserError(f"{len(quotes)} quotes of the pair", f"a curve needs {LEAST_QUOTES} or more")
    seconds, sold, bought = (
        np.array([quote[field] for quote in sorted(quotes)], dtype=np.float64) for field in range(3)
    )
    breaks = np.nonzero(np.diff(seconds) > ROUND_GAP)[0] + 1
    prices, whole = [], np.empty(len(quotes))
    for part in np.split(np.arange(len(quotes)), breaks):
        smallest = part[np.argsort(sold[part], kind="stable")[:SMALLEST]]
        prices.append(float(np.median(bought[smallest] / sold[smallest])))
        whole[part] = sold[part] * prices[-1]
    return Measured(whole, 1 - bought / whole, np.array(prices))


def curve(sizes: Floats, lost: Floats) -> SlippageCurve:
    """The monotone curve nearest to all quotes (pool adjacent violators), between 0 and 1, read at sizes even on a
    logarithmic scale up to the largest quoted.
    """
    order = np.argsort(sizes, kind="stable")
    nearest = np.clip(pooled(lost[order]), 0.0, 1.0)
    at = np.geomspace(sizes.min(), sizes.max(), POINTS)
    return SlippageCurve(tuple(map(float, at)), tuple(map(float, np.interp(at, sizes[order], nearest))))


def pooled(values: Iterable[float]) -> list[float]:
    """The sequence that never falls and is nearest to these values by squares (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []  # a mean and of how many
    for value in values:
        mean, length = float(value), 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean, length = (before * many + mean * length) / (many + length), many + length
        blocks.append((mean, length))
    return [mean for mean, length in blocks for _ in range(length)]


class Errors(NamedTuple):
    """Predicted less quoted slippage at quotes that were held out, shares of the price."""

    quotes: int
    median: float
    """Of the absolute errors."""
    p90: float
    """90th percentile of the absolute errors."""
    mean: float
    """Signed: above zero the curve overstates slippage."""


def held_out(sizes: Floats, lost: Floats) -> Errors:
    """The errors at every second quote of a curve from the others."""
    made = curve(sizes[::2], lost[::2])
    wrong = made.at(sizes[1::2]) - lost[1::2]
    return Errors(
        len(wrong), float(np.median(np.abs(wrong))), float(np.quantile(np.abs(wrong), 0.9)), float(wrong.mean())
    )


def points(made: SlippageCurve, unit: float) -> list[tuple[int, int]]:
    """A curve as a scenario has it: (size in base units, basis points), sizes rising; ``unit`` is base units per
    smallest unit bought.
    """
    rows: dict[int, int] = {}
    for size, slippage in zip(made.sizes, made.slippages, strict=True):
        if (base := round(size * unit)) > 0:
            rows[base] = round(slippage * 10_000)
    return sorted(rows.items())
