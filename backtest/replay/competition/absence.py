"""Who is away for a while: searchers whose absence lasts, one by one or all of them together; and accounts that nobody
watches for a while.

Time is cut into stretches, and for each stretch it is drawn whether a searcher is away in all of it. So absences last a
whole number of stretches, are as long as history's where the scenario says so, and are known ahead whatever happens:
baseline and alternative of one seed miss the same searchers at the same time. Where each is away on its own, its
stretches begin at a moment of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from backtest.model import AccountId
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
        self._there = [(0, 0)] * kinds
        """As ``_known``: a stretch in which it is there."""
        self._back = -1, 0
        """A time that ``back`` was asked for last, and its answer: it is asked once for each account on offer."""

    def away(self, searcher: int, now: int) -> bool:
        """Whether the searcher at this place is away at a time (seconds since 1970)."""
        return self.some and self._returns(min(searcher, len(self._phases) - 1), now) > now

    def back(self, now: int) -> int:
        """The first time from ``now`` on at which somebody is there; ``NEVER`` where nobody comes back."""
        if not self.some:
            return now
        if self._back[0] != now:
            first = NEVER
            for kind in range(len(self._phases)):
                first = min(first, self._returns(kind, now))
                if first == now:
                    break
            self._back = now, first
        return self._back[1]

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
        begin, end = self._there[kind]
        if begin <= now < end:
            return now
        phase = self._phases[kind]
        end = _ends(self._draws, self._share, self._length, phase, "away", kind, now)
        if now < end < NEVER:
            self._known[kind] = now, end
        elif end == now:
            self._there[kind] = _stretch(self._length, phase, now)
        return end


class Overlooked:
    """Which accounts nobody watches, and until when. A function of scenario, seed and time, and of who stood on
    offer at the first look: those were left by history's liquidators, and are the more probably overlooked the longer
    such an account stands and the sooner others are taken.

    Args:
        terms: the contest. wait: seconds for which an account that is watched stands on offer, on average.
    """

    def __init__(self, terms: Contest, draws: Draws, wait: int) -> None:
        self._share, self._length, self._draws = terms.overlooked, terms.overlooked_for, draws
        self.some = terms.overlooked > 0
        """Whether anybody is overlooked at all."""
        theirs, others = self._share * self._length, max(1, (BPS - self._share) * wait)
        self._stands = BPS * theirs // (theirs + others)
        self._known: dict[AccountId, tuple[int, int]] = {}
        self._seen: dict[AccountId, tuple[int, int]] = {}
        """As ``_known``: stretches in which somebody looks."""

    def stood(self, accounts: Iterable[AccountId], now: int) -> None:
        """These stand on offer as the replay begins."""
        for account in accounts if self.some else ():
            stretch = now + self._phase(account)
            end = now + self._length - stretch % self._length
            if self._draws.chance(self._stands, "stood", account):
                following = _ends(
                    self._draws, self._share, self._length, self._phase(account), "overlooked", account, end
                )
                self._known[account] = now, max(end, following)

    def until(self, account: AccountId, now: int) -> int:
        """``now``, or when somebody looks at the account again; ``NEVER`` where nobody does."""
        if not self.some:
            return now
        begin, end = self._known.get(account, (0, 0))
        if begin <= now < end:
            return end
        begin, end = self._seen.get(account, (0, 0))
        if begin <= now < end:
            return now
        phase = self._phase(account)
        end = _ends(self._draws, self._share, self._length, phase, "overlooked", account, now)
        if end > now:
            self._known[account] = now, end
        else:
            self._seen[account] = _stretch(self._length, phase, now)
        return end

    def _phase(self, account: AccountId) -> int:
        return self._draws.below(self._length, "overlooked from", account)


def _stretch(length: int, phase: int, now: int) -> tuple[int, int]:
    """From when and until when the stretch lasts that a time lies in."""
    begin = now - (now + phase) % length
    return begin, begin + length


def _ends(draws: Draws, share: int, length: int, phase: int, what: str, kind: int, now: int) -> int:
    """``now``, or the end of the drawn stretches that it lies in; ``NEVER`` where they go on and on."""
    if share >= BPS:
        return NEVER
    first = (now + phase) // length
    for stretch in range(first, first + MOST_STRETCHES):
        if not draws.chance(share, what, stretch, kind):
            return now if stretch == first else stretch * length - phase
    return NEVER
