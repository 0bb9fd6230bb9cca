"""What an alternative changes against its baseline, and whether that is more than the own error of a difference and
chance. Pure.

A measure that the baseline does not tell of history is not judged, and an error that is not known is never taken for
none: a verdict is a matter of the data and the question.

The interval is a paired bootstrap over accounts: the market's accounts are drawn anew, with replacement, as many as
there are, each with what it contributes to the alternative and to the baseline. It says how much of an effect hangs on
which accounts happened to be there; it does not know about other prices. Draws come from a counter-based generator
(Philox) keyed by the scenario's seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from backtest.report.difference import difference_error

RESAMPLES = 2_000
LEVEL = 0.95
TIMES = 3
"""A baseline tells a measure where it has more than one part in this many of what history had, and less than so many
times as much.
"""
UNJUDGED, UNKNOWN = "cannot be judged here", "by an error that is not known"
JUDGEABLE = (
    "To judge it takes a baseline that has it: liquidators who are late, absent or short of capital as history's were"
    " (participation, latency-race; backtest calibrate), and prices as the oracle had them."
)
_AT_ONCE = 4_000_000  # draws held in memory


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of a verdict: a sum over accounts. ``observed``: history has it too, so that the replay's own error is
    known.
    """

    key: str
    label: str
    kind: Literal["count", "money"]
    observed: bool = True


MEASURES = (
    Measure("repaid", "Debt liquidated", "money"),
    Measure("liquidations", "Liquidations", "count"),
    Measure("accounts", "Accounts liquidated", "count"),
    Measure("bad_debt", "Bad debt, realised and open", "money"),
    Measure("borrower_loss", "Borrowers' loss", "money"),
    Measure("protocol_fee", "Protocol fee", "money"),
    Measure("profit", "Liquidators' profit", "money", observed=False),
)

Contributions = Mapping[str, Mapping[str, int]]
"""Account to measure to what it contributes; an account or a measure that is not there contributes nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One measure of one alternative. Amounts in base units; ``low`` and ``high`` bound the effect at ``LEVEL``.

    ``own_error`` is the distance of the baseline from ``history``, None where that is not known. ``band`` is the effect
    by the users' response, each against the baseline of the same response; the alternative's own response is among
    them.
    """

    measure: Measure
    baseline: int
    effect: int
    low: int
    high: int
    history: int | None = None
    band: Mapping[str, int] = field(default_factory=dict)
    ensemble: bool = False
    """Several draws stand behind it, whose doubt ``low`` and ``high`` hold."""

    @property
    def own_error(self) -> int | None:
        """The distance of the baseline from history: the error of levels, most of which a difference does not have."""
        return None if self.history is None else abs(self.baseline - self.history)

    @property
    def difference_error(self) -> int | None:
        """What of it a difference keeps, as measured (``report.difference``); None where it is not known."""
        distance = self.own_error
        return None if distance is None else difference_error(self.measure.key, distance, ensemble=self.ensemble)

    @property
    def interval(self) -> tuple[int, int]:
        """``low`` and ``high``, wider by the own error of the difference where that is known."""
        error = self.difference_error or 0
        return self.low - error, self.high + error

    @property
    def judged(self) -> bool:
        """Whether the baseline tells of history what this measures; False where history would say it and is not
        there.
        """
        if not self.measure.observed:
            return True
        return self.history is not None and reproduces(self.baseline, self.history)

    @property
    def material(self) -> bool:
        """The interval, own error of the difference included, leaves zero out."""
        low, high = self.interval
        return not low <= 0 <= high

    @property
    def settled(self) -> bool:
        """No response of users that was replayed takes the effect away or turns it round."""
        return all(effect * self.effect > 0 for effect in self.band.values())

    @property
    def words(self) -> str:
        """The verdict in words."""
        if not self.judged:
            return UNJUDGED
        if not self.material:
            return "no material difference"
        way = "higher" if self.effect > 0 else "lower"
        way = way if self.own_error is not None else f"{way}, {UNKNOWN}"
        return way if self.settled else f"{way}, but not for every response of users"


def reproduces(baseline: int, history: int) -> bool:
    """Whether a baseline has about what history had: see ``TIMES``."""
    less, more = sorted((abs(baseline), abs(history)))
    return baseline == history or (baseline * history > 0 and less * TIMES > more)


def totals(contributions: Contributions) -> dict[str, int]:
    """Each measure summed over accounts, exactly."""
    return totals_of(contributions, [measure.key for measure in MEASURES])


def totals_of(contributions: Contributions, keys: Iterable[str]) -> dict[str, int]:
    """These figures summed over accounts, exactly."""
    return {key: sum(own.get(key, 0) for own in contributions.values()) for key in keys}


def judge(
    alternative: Contributions,
    baseline: Contributions,
    *,
    population: int,
    seed: int,
    history: Contributions | None = None,
    band: Mapping[str, tuple[Contributions, Contributions]] | None = None,
) -> list[Verdict]:
    """A verdict for each of ``MEASURES``.

    Args:
        population: number of accounts of the market in either run, those that contribute nothing included.
        seed: of the draws.
        history: the observed run of the same blocks; None: own errors are not known, and what history would tell is
            not judged.
        band: users' response to (alternative, baseline) under it.
    """
    ours, theirs = totals(alternative), totals(baseline)
    bounds = intervals(alternative, baseline, population=population, seed=seed)
    past = None if history is None else totals(history)
    effects = {response: _less(totals(one), totals(other)) for response, (one, other) in (band or {}).items()}
    return [
        Verdict(
            measure,
            baseline=theirs[measure.key],
            effect=ours[measure.key] - theirs[measure.key],
            low=bounds[measure.key][0],
            high=bounds[measure.key][1],
            history=past[measure.key] if past is not None and measure.observed else None,
            band={response: effect[measure.key] for response, effect in effects.items()},
        )
        for measure in MEASURES
    ]


def intervals(
    alternative: Contributions, baseline: Contributions, *, population: int, seed: int, resamples: int = RESAMPLES
) -> dict[str, tuple[int, int]]:
    """Bounds of each measure's effect, base units rounded outwards; see the module. The same arguments give the same
    bounds.
    """
    accounts = sorted({*alternative, *baseline})
    keys = [measure.key for measure in MEASURES]
    differences = [
        [alternative.get(a, {}).get(key, 0) - baseline.get(a, {}).get(key, 0) for key in keys] for a in accounts
    ]
    moved = [row for row in differences if any(row)]
    if not moved:
        return dict.fromkeys(keys, (0, 0))
    if population < len(accounts):
        raise ValueError(f"a population of {population} holds {len(accounts)} accounts")
    # Only how often each account with a difference is drawn matters: the others share the last cell.
    chances = np.append(np.full(len(moved), 1 / population), (population - len(moved)) / population)
    values = np.array(moved, dtype=np.float64)
    draws = np.random.Generator(np.random.Philox(key=seed))
    step = max(1, _AT_ONCE // len(chances))
    sums = np.concatenate(
        [
            draws.multinomial(population, chances, size=min(step, resamples - done))[:, :-1] @ values
            for done in range(0, resamples, step)
        ]
    )
    low, high = np.quantile(sums, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {key: (math.floor(low[i]), math.ceil(high[i])) for i, key in enumerate(keys)}


def _less(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {key: one[key] - other[key] for key in one}
