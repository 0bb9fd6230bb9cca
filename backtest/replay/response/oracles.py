"""How an oracle follows a market that answers to sales: which ratio a round of history carries, and when there is a
round that history did not have.

The ratio is what history's price is multiplied with. While it is the one that the last round carried, there is nothing
to tell: history's own rounds say the rest. The rules' sources are on the structs of ``scenario.impact``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from backtest.replay.response.selling import SAME, Ratio
from backtest.scenario import impact as words
from backtest.units import BPS, RAY

RatioAt = Callable[[int], Ratio]
"""The market's ratio at a time (seconds), not after now."""
LOOKS = 8
"""Moments of a window whose mean is taken."""
STIR = 1
"""Basis points: a round that would change a price by less waits until somebody looks anyway."""


def alike(one: Ratio, other: Ratio) -> bool:
    """Whether two ratios are the same number."""
    return one[0] * other[1] == other[0] * one[1]


def apart(one: Ratio, other: Ratio, deviation: int) -> bool:
    """Whether one is off the other by so many basis points of it, or more."""
    ours, theirs = one[0] * other[1], other[0] * one[1]
    return abs(ours - theirs) * BPS >= deviation * theirs


class FollowingOracle(Protocol):
    """One oracle of one asset. ``carried``: the ratio of its last round."""

    carried: Ratio

    def history(self, now: int, ratio_at: RatioAt) -> Ratio:
        """History has a round now: which ratio it carries."""
        ...

    def due(self, now: int, ratio_at: RatioAt) -> str | None:
        """Whether there is a round now that history does not have, and why; ``carried`` is then its ratio."""
        ...

    def wake(self, now: int, ratio_at: RatioAt) -> int | None:
        """When time alone brings the next one, as far as that is known; after now."""
        ...


@dataclass(slots=True)
class ChainlinkFollower(FollowingOracle):
    """See ``scenario.impact.ChainlinkRule``. ``pending``: what was seen and is not there yet, and when it will be."""

    rule: words.ChainlinkRule
    carried: Ratio = SAME
    pending: tuple[int, Ratio, str] | None = None
    last: int = 0
    """Time of the last round."""

    def history(self, now: int, ratio_at: RatioAt) -> Ratio:
        """See ``FollowingOracle``."""
        if self.pending is not None and self.pending[0] <= now:
            self.pending = None
        self.last, self.carried = now, ratio_at(now - self.rule.delay)
        return self.carried

    def due(self, now: int, ratio_at: RatioAt) -> str | None:
        """See ``FollowingOracle``."""
        self._see(now, ratio_at(now))
        if self.pending is None or self.pending[0] > now:
            return None
        (_, self.carried, why), self.pending, self.last = self.pending, None, now
        self._see(now, ratio_at(now))
        return why

    def _see(self, now: int, ratio: Ratio) -> None:
        if self.pending is not None or alike(ratio, self.carried):
            return
        off = apart(ratio, self.carried, self.rule.deviation)
        if off or now - self.last >= self.rule.heartbeat:
            self.pending = now + self.rule.delay, ratio, "deviation" if off else "heartbeat"

    def wake(self, now: int, ratio_at: RatioAt) -> int | None:
        """See ``FollowingOracle``."""
        if self.pending is not None:
            return self.pending[0] if self.pending[0] > now else None
        beat = self.last + self.rule.heartbeat
        return beat if beat > now and apart(ratio_at(now), self.carried, STIR) else None


@dataclass(slots=True)
class OsmFollower(FollowingOracle):
    """See ``scenario.impact.OsmRule``."""

    rule: words.OsmRule
    carried: Ratio = SAME
    poked: int = -1
    """The period of the last round."""

    def history(self, now: int, ratio_at: RatioAt) -> Ratio:
        """See ``FollowingOracle``."""
        self.poked = now // self.rule.period
        self.carried = ratio_at(now - self.rule.period)
        return self.carried

    def due(self, now: int, ratio_at: RatioAt) -> str | None:
        """See ``FollowingOracle``."""
        period = now // self.rule.period
        if period <= self.poked:
            return None
        self.poked = period
        ratio = ratio_at((period - 1) * self.rule.period)
        if alike(ratio, self.carried):
            return None
        self.carried = ratio
        return "period"

    def wake(self, now: int, ratio_at: RatioAt) -> int | None:
        """See ``FollowingOracle``."""
        after = (now // self.rule.period + 1) * self.rule.period
        seen = ratio_at(after - self.rule.period)
        stirs = apart(ratio_at(now), self.carried, STIR) or apart(seen, self.carried, STIR)
        return after if stirs else None


@dataclass(slots=True)
class TwapFollower(FollowingOracle):
    """See ``scenario.impact.TwapRule``."""

    rule: words.TwapRule
    carried: Ratio = SAME

    def history(self, now: int, ratio_at: RatioAt) -> Ratio:
        """See ``FollowingOracle``."""
        self.carried = self._mean(now, ratio_at)
        return self.carried

    def due(self, now: int, ratio_at: RatioAt) -> str | None:
        """See ``FollowingOracle``."""
        mean = self._mean(now, ratio_at)
        if alike(mean, self.carried):
            return None
        self.carried = mean
        return "window"

    def wake(self, now: int, ratio_at: RatioAt) -> int | None:
        """See ``FollowingOracle``: a part of the window from now."""
        return now + max(1, self.rule.window // LOOKS) if apart(ratio_at(now), self.carried, STIR) else None

    def _mean(self, now: int, ratio_at: RatioAt) -> Ratio:
        seen = [ratio_at(now - self.rule.window * place // LOOKS) for place in range(LOOKS)]
        if all(ratio == SAME for ratio in seen):
            return SAME
        return sum(own * RAY // base for own, base in seen), RAY * LOOKS


def follower_of(rule: words.OracleRule) -> FollowingOracle:
    """A new one of a scenario's rule."""
    if isinstance(rule, words.OsmRule):
        return OsmFollower(rule)
    return TwapFollower(rule) if isinstance(rule, words.TwapRule) else ChainlinkFollower(rule)


def lookback(rule: words.OracleRule) -> int:
    """How long ago it may ask for, seconds."""
    if isinstance(rule, words.OsmRule):
        return 2 * rule.period
    return rule.window if isinstance(rule, words.TwapRule) else rule.delay
