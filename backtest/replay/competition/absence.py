"""Who is away for a while: searchers whose absence lasts, one by one or all of them together.

Time is cut into stretches, and for each stretch it is drawn whether a searcher is away in all of it. So absences last a
whole number of stretches, are as long as history's where the scenario says so, and are known ahead whatever happens:
baseline and alternative of one seed miss the same searchers at the same time. Where each is away on its own, its
stretches begin at a moment of its own.
"""

from __future__ import annotations

from backtest.replay.competition.draws import Draws
from backtest.replay.competition.gas import NEVER
from backtest.scenario import Contest
from backtest.units import BPS

MOST_STRETCHES = 100_000
"""Stretches that are looked ahead at most; whoever is away in all of them does not come back."""


class Absence:
    """When the searchers of a contest are away. Pure: a function of the scenario, the seed and the time."""

    def __init__(self, terms: Contest, draws: Draws) -> None:
        self._share, self._length = terms.absent, terms.absence
        self._draws = draws
        self.some = terms.absent > 0
        """Whether anybody is ever away."""
        kinds = 1 if terms.absent_together else len(terms.each)
        self._phases = [draws.below(self._length, "away from", kind) for kind in range(kinds)]
        self._known = [(0, 0)] * kinds
        """Of each kind an absence found last, from and until: it is asked for many times while it lasts."""

    def away(self, searcher: int, now: int) -> bool:
        """Whether the searcher at this place is away at a time (seconds since 1970)."""
        return self.some and self._returns(min(searcher, len(self._phases) - 1), now) > now

    def back(self, now: int) -> int:
        """The first time from ``now`` on at which somebody is there; ``NEVER`` where nobody comes back."""
        if not self.some:
            return now
        return min((self._returns(kind, now) for kind in range(len(self._phases))), default=NEVER)

    def changes(self, now: int) -> int:
        """The first time after ``now`` at which a stretch begins; ``NEVER`` where nobody is ever away."""
        if not self.some:
            return NEVER
        length = self._length
        return min((now + length - (now + phase) % length for phase in self._phases), default=NEVER)

    def _returns(self, kind: int, now: int) -> int:
        """``now``, or when the absence that it lies in ends."""
        begin, end = self._known[kind]
        if begin <= now < end:
            return end
        if self._share >= BPS:
            return NEVER
        phase = self._phases[kind]
        first = (now + phase) // self._length
        for stretch in range(first, first + MOST_STRETCHES):
            if not self._draws.chance(self._share, "away", stretch, kind):
                break
        else:
            return NEVER
        if stretch == first:
            return now
        end = stretch * self._length - phase
        self._known[kind] = now, end
        return end
