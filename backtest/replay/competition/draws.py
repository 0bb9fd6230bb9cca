"""Random draws as a function of what they are for, in integers only: the same on every machine.

Philox (Salmon et al., SC 2011) turns a key and a counter into 256 random bits. The key is the seed and the name of what
is drawn, the counter says for whom and when. So two scenarios of one seed draw the same for the same account, searcher
and moment, whatever else happens in them, and their difference is that of the scenarios. What needs logarithms or
exponentials goes through ``decimal``, which rounds the same everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from decimal import Context, Decimal
from functools import lru_cache
from zlib import crc32

from backtest.replay.competition.philox import first_within, first_word
from backtest.units import BPS

WORD = 2**64
TEN_THOUSAND = 10_000
MOST_AHEAD = 1 << 20
"""Moments that are looked ahead at most: at 12 seconds each, almost five months."""
_named = lru_cache(maxsize=256)(lambda what: crc32(what.encode()))
_EXACT = Context(prec=40)


class Draws:
    """The draws of one run. Every method takes the name of what is drawn and up to four numbers below 2^64 that say for
    whom and when.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def word(self, what: str, *key: int) -> int:
        """Evenly distributed over the whole numbers below 2^64."""
        first, second, third, fourth = (*key, *(0,) * (4 - len(key)))
        return first_word(self._seed, _named(what), first, second, third, fourth)

    def below(self, limit: int, what: str, *key: int) -> int:
        """A whole number from 0 to ``limit`` - 1, evenly (Lemire's multiplication; off by less than limit / 2^64)."""
        return self.word(what, *key) * limit >> 64

    def chance(self, share: int, what: str, *key: int) -> bool:
        """True with a probability of ``share`` basis points. What is certain needs no draw, and no draw changes
        another.
        """
        return share > 0 and (share >= BPS or self.below(BPS, what, *key) < share)

    def waiting_time(self, mean: int, what: str, *key: int) -> int:
        """Exponential with this mean, rounded down."""
        return int(-(Decimal(self.word(what, *key) + 1) / WORD).ln(_EXACT) * mean)

    def number(self, thresholds: Sequence[int], what: str, *key: int) -> int:
        """How many, by cumulative probabilities in 2^64-ths as ``poisson`` and ``negative_binomial`` give them."""
        return bisect_right(thresholds, self.word(what, *key))

    def first_time(self, low: int, high: int, start: int, step: int, what: str, *key: int) -> int:
        """The first of the moments ``start``, ``start`` + ``step`` and so on at which ``word(what, moment, *key)`` lies
        in ``low`` to ``high``; where that is none of the next ``MOST_AHEAD``, a moment before it.
        """
        first, second, third = (*key, *(0,) * (3 - len(key)))
        named = _named(what)
        return first_within(self._seed, named, start, step, MOST_AHEAD, first, second, third, low=low, high=high)

    def weighted(self, weights: Sequence[int], what: str, *key: int) -> int:
        """An index, each as probable as its weight says; weights are not negative and not all zero."""
        place = self.below(sum(weights), what, *key)
        for index, weight in enumerate(weights):
            place -= weight
            if place < 0:
                return index
        raise ValueError("no weight is above zero")


@lru_cache(maxsize=64)
def poisson(mean: int, most: int) -> tuple[int, ...]:
    """P(N <= k) in 2^64-ths for k below ``most``, N Poisson with ``mean`` ten-thousandths; larger numbers count as
    ``most``.
    """
    rate = Decimal(mean) / TEN_THOUSAND
    each = (-rate).exp(_EXACT)
    return _cumulated(each, lambda k, last: _EXACT.divide(_EXACT.multiply(last, rate), Decimal(k)), most)


@lru_cache(maxsize=64)
def negative_binomial(mean: int, size: int, most: int) -> tuple[int, ...]:
    """The same for a negative binomial of this mean and size parameter, both ten-thousandths: variance = mean + mean^2
    / size.
    """
    m, r = Decimal(mean) / TEN_THOUSAND, Decimal(size) / TEN_THOUSAND
    stays, goes = _EXACT.divide(r, r + m), _EXACT.divide(m, r + m)
    each = _EXACT.power(stays, r)
    return _cumulated(
        each, lambda k, last: _EXACT.divide(_EXACT.multiply(_EXACT.multiply(last, goes), r + k - 1), Decimal(k)), most
    )


def _cumulated(first: Decimal, following: object, most: int) -> tuple[int, ...]:
    assert callable(following)
    found, each, total = [], first, Decimal(0)
    for k in range(most):
        if k:
            each = following(k, each)
        total = _EXACT.add(total, each)
        found.append(min(WORD, int(total * WORD)))
    return tuple(found)


def softmax_weights(latencies: Sequence[int], temperature: int) -> tuple[int, ...]:
    """Weights in proportion to exp(-latency / temperature), the largest 2^64; both in milliseconds."""
    fastest = min(latencies)
    return tuple(int((Decimal(fastest - each) / temperature).exp(_EXACT) * WORD) for each in latencies)
