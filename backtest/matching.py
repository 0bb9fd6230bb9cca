"""A model's liquidations held against those that happened: episodes, one-to-one matching, rates with intervals, errors,
causes. Pure.

An episode is a run of rows of one account, each at most ``WITHIN`` after the one before. A predicted and an actual
episode of one account match where at most ``WITHIN`` lies between them; each is matched once. Recall is the share of
what happened that was predicted, precision
the share of what was predicted that happened: by count with Wilson's interval, by debt with a bootstrap over accounts
(Philox, seeded).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from backtest.units import WAD

VERSION = 2
"""Of these rules: part of what names a stored validation."""
WITHIN = 3 * 3600
"""Seconds."""
RESAMPLES = 2_000
LEVEL = 0.95
LATE = 0.95
"""Liquidators are late where they take longer than this share of liquidations took."""
_Z = 1.959963984540054  # the normal quantile of LEVEL, two-sided
WHOLE = 100
"""An episode that leaves less than one part in this many of the collateral and of the debt took the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One liquidation, or one alarm, at ``time`` (seconds). Amounts in native units, ``*_base`` in base units.

    ``pair`` names the debt and the collateral asset, ``repaid_base`` is the value of ``repaid``, ``debt_base`` what
    counts by debt. ``throughout``: at every price within the range that is stated for the oracle's. ``until``: an alarm
    stands until then. ``held_*`` and ``left_*`` (rows that happened): what the account had of the pair right
    before and right after; ``*_scaled`` is debt as the protocol stores it, where history says what was repaid of it.
    ``unwanted``: why the model would not take it at this moment; None where it would.
    """

    account: str
    time: int
    repaid: int
    seized: int
    debt_base: int
    repaid_base: int = 0
    collateral_base: int = 0
    pair: tuple[int, int] = (0, 0)
    health: int | None = None
    throughout: bool = False
    until: int = 0
    held_collateral: int = 0
    held_debt: int = 0
    held_scaled: int = 0
    repaid_scaled: int | None = None
    left_collateral: int = 0
    left_debt: int = 0
    possible: bool = True
    unwanted: str | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """Rows of one account in order of time. ``standing``: its rows repeat one alarm, so that the first one's amounts
    count, not their sum.
    """

    rows: tuple[Row, ...]
    standing: bool = False

    @property
    def account(self) -> str:
        """Whose."""
        return self.rows[0].account

    @property
    def first(self) -> int:
        """Its start, seconds."""
        return self.rows[0].time

    @property
    def last(self) -> int:
        """Its last row, seconds."""
        return self.rows[-1].time

    @property
    def throughout(self) -> bool:
        """Whether any of its rows stands at every price within the stated range."""
        return any(row.throughout for row in self.rows)

    @property
    def debt_base(self) -> int:
        """Base units: repaid, or of an alarm all that the account owes."""
        return self.rows[0].debt_base if self.standing else sum(row.debt_base for row in self.rows)

    @property
    def repaid(self) -> int:
        """Native units: a sum over assets where it has several."""
        return self.rows[0].repaid if self.standing else sum(row.repaid for row in self.rows)

    @property
    def seized(self) -> int:
        """Native units."""
        return self.rows[0].seized if self.standing else sum(row.seized for row in self.rows)

    @property
    def is_whole(self) -> bool:
        """History's, of one pair: nearly nothing of its collateral and debt was left."""
        first, last = self.rows[0], self.rows[-1]
        return (
            len({row.pair for row in self.rows}) == 1
            and last.left_collateral * WHOLE <= first.held_collateral
            and last.left_debt * WHOLE <= first.held_debt
        )


@dataclass(frozen=True, slots=True)
class Pairing:
    """A hit (both), a miss (nothing predicted) or a false alarm (nothing happened), and why, where it can be told."""

    predicted: Episode | None
    actual: Episode | None
    cause: str = ""
    detail: str = ""

    @property
    def outcome(self) -> str:
        """hit, miss or false alarm."""
        return "hit" if self.predicted and self.actual else "miss" if self.actual else "false alarm"

    @property
    def account(self) -> str:
        """Whose."""
        return self.episode.account

    @property
    def first(self) -> int:
        """The earlier of both starts, seconds."""
        return min(episode.first for episode in (self.predicted, self.actual) if episode is not None)

    @property
    def episode(self) -> Episode:
        """The predicted one, else the actual one."""
        found = self.predicted or self.actual
        assert found is not None
        return found

    @property
    def time_error(self) -> int | None:
        """Seconds from the first alarm to the first liquidation: negative where the model was late."""
        return self.actual.first - self.predicted.first if self.actual and self.predicted else None

    @property
    def amount_error(self) -> float | None:
        """Debt predicted over debt repaid, in base units, less one: of the whole episode, or of an alarm's first call
        against the first liquidation.
        """
        if not (self.actual and self.predicted):
            return None
        count = 1 if self.predicted.standing else None
        predicted, happened = (
            sum(row.repaid_base for row in episode.rows[:count]) for episode in (self.predicted, self.actual)
        )
        return predicted / happened - 1 if happened else None


def episodes(rows: Iterable[Row], *, standing: bool = False, within: int = WITHIN) -> list[Episode]:
    """The episodes of rows, in order of their start, then account."""
    by_account: dict[str, list[list[Row]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.time):
        runs = by_account[row.account]
        if runs and row.time - runs[-1][-1].time <= within:
            runs[-1].append(row)
        else:
            runs.append([row])
    found = [Episode(tuple(run), standing) for runs in by_account.values() for run in runs]
    return sorted(found, key=lambda episode: (episode.first, episode.account))


def match(predicted: Iterable[Episode], actual: Iterable[Episode], *, within: int = WITHIN) -> list[Pairing]:
    """As many one-to-one pairs as there can be, and what is left on either side, in order of time, then account.

    Of one account both are in order of time and apart, so that taking the earliest that fits each is the most that can
    be matched.
    """
    theirs: dict[str, list[Episode]] = defaultdict(list)
    for episode in sorted(actual, key=lambda episode: episode.first):
        theirs[episode.account].append(episode)
    found = []
    for alarm in sorted(predicted, key=lambda episode: episode.first):
        waiting = theirs[alarm.account]
        while waiting and waiting[0].last + within < alarm.first:
            found.append(Pairing(None, waiting.pop(0)))
        if waiting and waiting[0].first <= alarm.last + within:
            found.append(Pairing(alarm, waiting.pop(0)))
        else:
            found.append(Pairing(alarm, None))
    found += [Pairing(None, episode) for waiting in theirs.values() for episode in waiting]
    return sorted(found, key=lambda pairing: (pairing.first, pairing.account))


# -- rates -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its interval; None where there is nothing to take a share of."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts, debts (base units) and rates of one set of pairings. ``explained`` counts false alarms and misses with a
    cause.
    """

    actual: int
    predicted: int
    hits: int
    explained: int
    actual_debt: int
    predicted_debt: int
    hit_actual_debt: int
    hit_predicted_debt: int
    recall: Rate
    precision: Rate
    recall_by_debt: Rate
    precision_by_debt: Rate


def wilson(part: int, whole: int) -> Rate:
    """A share and its score interval at ``LEVEL`` (Wilson 1927)."""
    if not whole:
        return Rate(None, None, None)
    share, z2 = part / whole, _Z * _Z
    middle = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    half = _Z / (1 + z2 / whole) * math.sqrt(share * (1 - share) / whole + z2 / (4 * whole * whole))
    return Rate(share, max(0.0, middle - half), min(1.0, middle + half))


def bootstrap(parts: Mapping[str, tuple[int, int]], seed: int) -> Rate:
    """The ratio of two sums over accounts (part, whole), and its percentile interval when accounts are drawn anew with
    replacement.
    """
    whole = sum(row[1] for row in parts.values())
    if not whole:
        return Rate(None, None, None)
    values = np.array([parts[account] for account in sorted(parts)], dtype=np.float64)
    draws = np.random.Generator(np.random.Philox(key=seed)).multinomial(
        len(values), np.full(len(values), 1 / len(values)), size=RESAMPLES
    )
    sums = draws @ values
    ratios = sums[sums[:, 1] > 0]
    low, high = np.quantile(ratios[:, 0] / ratios[:, 1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Rate(sum(row[0] for row in parts.values()) / whole, float(low), float(high))


def score(pairings: Sequence[Pairing], *, seed: int) -> Scores:
    """All rates of these pairings."""
    actual = [p for p in pairings if p.actual]
    predicted = [p for p in pairings if p.predicted]
    hits = [p for p in pairings if p.outcome == "hit"]
    return Scores(
        actual=len(actual),
        predicted=len(predicted),
        hits=len(hits),
        explained=sum(1 for p in pairings if p.outcome != "hit" and p.cause),
        actual_debt=sum(p.actual.debt_base for p in actual if p.actual),
        predicted_debt=sum(p.predicted.debt_base for p in predicted if p.predicted),
        hit_actual_debt=sum(p.actual.debt_base for p in hits if p.actual),
        hit_predicted_debt=sum(p.predicted.debt_base for p in hits if p.predicted),
        recall=wilson(len(hits), len(actual)),
        precision=wilson(len(hits), len(predicted)),
        recall_by_debt=bootstrap(_by_account(actual, lambda p: p.actual), seed),
        precision_by_debt=bootstrap(_by_account(predicted, lambda p: p.predicted), seed),
    )


def _by_account(pairings: Iterable[Pairing], side: Callable[[Pairing], Episode | None]) -> dict[str, tuple[int, int]]:
    """Account to its debt that was matched, and all of it."""
    sums: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for pairing in pairings:
        episode = side(pairing)
        assert episode is not None
        part, whole = sums[pairing.account]
        sums[pairing.account] = (part + episode.debt_base * (pairing.outcome == "hit"), whole + episode.debt_base)
    return sums


def throughout_only(pairings: Iterable[Pairing]) -> list[Pairing]:
    """Without the alarms that stand in a part of the stated range only: an event that only such an alarm predicted was
    missed.
    """
    found = []
    for pairing in pairings:
        if pairing.predicted is None or pairing.predicted.throughout:
            found.append(pairing)
        elif pairing.actual is not None:
            found.append(replace(pairing, predicted=None, cause=PROXY, detail="predicted in a part of the range only"))
    return found


def largest(actual: Iterable[Episode], count: int) -> list[str]:
    """The accounts from which most collateral was seized, base units; ties by account."""
    sums: dict[str, int] = defaultdict(int)
    for episode in actual:
        sums[episode.account] += sum(row.collateral_base for row in episode.rows)
    return sorted(sums, key=lambda account: (-sums[account], account))[:count]


# -- errors ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spread:
    """Of numbers: how many, least, median, 95th percentile, largest; all but the number None where there are none."""

    count: int
    least: float | None
    median: float | None
    p95: float | None
    largest: float | None


def spread(values: Collection[float]) -> Spread:
    """Quantiles by linear interpolation."""
    if not values:
        return Spread(0, None, None, None, None)
    least, median, p95, most = np.quantile(np.array(list(values), dtype=np.float64), [0, 0.5, 0.95, 1])
    return Spread(len(values), float(least), float(median), float(p95), float(most))


def reconstruction(actual: Iterable[Episode]) -> tuple[list[float], list[float]]:
    """Relative errors of collateral and of debt of every episode that took the whole: what the rebuilt account held
    against what was taken.

    Debt is compared as the protocol stores it where history says that of every row, else in native units.
    """
    collateral, debt = [], []
    for episode in actual:
        if episode.is_whole and episode.seized and episode.repaid:
            collateral.append(abs(episode.rows[0].held_collateral / episode.seized - 1))
            scaled = [row.repaid_scaled for row in episode.rows if row.repaid_scaled]
            known = len(scaled) == len(episode.rows)
            held, taken = (
                (episode.rows[0].held_scaled, sum(scaled)) if known else (episode.rows[0].held_debt, episode.repaid)
            )
            debt.append(abs(held / taken - 1))
    return collateral, debt


def contradicted(actual: Iterable[Episode]) -> dict[str, float]:
    """Accounts whose own liquidation says that they did not hold what was rebuilt, with the larger error: more than one
    part in ``WHOLE``.
    """
    found: dict[str, float] = {}
    for episode in actual:
        error = max((abs(one[0]) for one in reconstruction([episode]) if one), default=0.0)
        if error * WHOLE > 1:
            found[episode.account] = max(error, found.get(episode.account, 0.0))
    return found


# -- causes ------------------------------------------------------------------------------------------------------------

OUTSIDE, ACTED, PROXY, BETWEEN, ELSEWHEN, STOOD, UNPROFITABLE, REFUSED, PARTIAL, PASSED, BOOK = (
    "flow outside the data",
    "its owner acted",
    "price proxy",
    "between questions",
    "at another time",
    "nobody came",
    "does not pay",
    "refused by the rules",
    "partial",
    "price came back",
    "the book differs",
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What history says beside its liquidations, by account: times of relief by the owner, what says that flows are
    missing, what the model let be.

    ``proxy``: prices are a venue's in place of the oracle's. ``latency``: seconds within which liquidators come
    (``latency``); None: not known, so that a rescue is in time before the next price.
    """

    relief: Mapping[str, Sequence[int]] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, Sequence[tuple[int, str]]] = field(default_factory=dict)
    proxy: bool = True
    latency: int | None = None


def latency(alarms: Iterable[Row], actual: Iterable[Episode]) -> int | None:
    """Seconds within which ``LATE`` of the alarms that a liquidation followed while they stood were followed by the
    first (nearest rank, up); None where none was.
    """
    times: dict[str, list[int]] = defaultdict(list)
    for episode in actual:
        times[episode.account] += [row.time for row in episode.rows]
    waited = []
    for alarm in alarms:
        taken = sorted(times[alarm.account])
        place = bisect_right(taken, alarm.time - 1)
        if place < len(taken) and taken[place] <= alarm.until:
            waited.append(taken[place] - alarm.time)
    return sorted(waited)[math.ceil(LATE * len(waited)) - 1] if waited else None


def explain(pairings: Sequence[Pairing], evidence: Evidence) -> list[Pairing]:
    """The same pairings of one-step answers, each miss and false alarm with its cause where it can be told, and hits
    that were partial.
    """
    happened: dict[str, list[Episode]] = defaultdict(list)
    for pairing in pairings:
        if pairing.actual:
            happened[pairing.account].append(pairing.actual)
    out = []
    for pairing in pairings:
        if pairing.outcome == "hit":
            cause, detail = _hit(pairing)
        elif pairing.actual:
            cause, detail = _miss(pairing.actual, evidence)
        else:
            assert pairing.predicted is not None
            cause, detail = _false(pairing.predicted, happened[pairing.account], evidence)
        out.append(replace(pairing, cause=cause, detail=detail))
    return out


def _hit(pairing: Pairing) -> tuple[str, str]:
    actual = pairing.actual
    if actual is None or actual.is_whole or not actual.rows[0].held_collateral:
        return "", ""
    return PARTIAL, f"took {actual.seized / actual.rows[0].held_collateral:.1%} of the collateral"


def _miss(actual: Episode, evidence: Evidence) -> tuple[str, str]:
    first = actual.rows[0]
    health = "" if first.health is None else f"health {first.health / WAD:.4f} at the price taken"
    if actual.account in evidence.outside:
        return OUTSIDE, f"{evidence.outside[actual.account]}; {health}"
    let_be = [
        reason
        for time, reason in evidence.refusals.get(actual.account, ())
        if actual.first - WITHIN <= time <= actual.last + WITHIN
    ]
    if let_be:
        return (UNPROFITABLE if let_be[0] == UNPROFITABLE else REFUSED), f"{let_be[0]}; {health}"
    if first.health is None or (first.health >= WAD and not evidence.proxy):
        return "", ""
    if first.health >= WAD:
        if any(row.possible for row in actual.rows):
            return PROXY, f"{health}, liquidatable within its range"
        return (
            PROXY,
            (
                f"{health}: the oracle's price was lower than any of the venue's in that range, or collateral had gone"
                " elsewhere"
            ),
        )
    return BETWEEN, f"liquidatable after the last price update before it, not at one; {health}"


def _false(alarm: Episode, happened: Sequence[Episode], evidence: Evidence) -> tuple[str, str]:
    if alarm.account in evidence.outside:
        return OUTSIDE, evidence.outside[alarm.account]
    throughout = [row for row in alarm.rows if row.throughout]
    rows = throughout or alarm.rows
    first, relief = rows[0], evidence.relief.get(alarm.account, ())
    saved = [time for time in relief[bisect_right(relief, first.time) :] if time <= first.until]
    if saved and rows[-1].time <= saved[0]:
        acted = f"its owner repaid or added collateral {saved[0] - first.time:,} s after the alarm"
        if evidence.latency is None or saved[0] - first.time <= evidence.latency:
            return ACTED, acted
        if throughout:
            return STOOD, f"{acted}, later than {LATE:.0%} of liquidations came ({evidence.latency:,} s)"
    if len(throughout) > 1:
        lowest = min(row.health for row in throughout if row.health is not None)
        hours = (throughout[-1].until - first.time) / 3600
        return STOOD, f"stood at {len(throughout)} questions over {hours:.1f} h, down to health {lowest / WAD:.3f}"
    near = min(happened, key=lambda episode: abs(episode.first - alarm.first), default=None)
    if near is not None and near.first - alarm.last <= 86_400 and alarm.first - near.last <= 86_400:
        return ELSEWHEN, f"liquidated {(near.first - alarm.first) / 3600:+.1f} h from the alarm"
    if not throughout:
        return PROXY, f"health {_health(first)}, safe in a part of the price's range"
    return PASSED, f"health {_health(first)}; the next price made it safe before anybody came"


def _health(row: Row) -> str:
    return "not known" if row.health is None else f"{row.health / WAD:.4f}"


def explain_free(pairings: Sequence[Pairing], ahead: Sequence[Pairing]) -> list[Pairing]:
    """Causes of a free-running replay's misses and false alarms: those of the one-step answers at the same time, else
    that its book differs.
    """
    known: dict[str, list[Pairing]] = defaultdict(list)
    for pairing in ahead:
        known[pairing.account].append(pairing)
    out = []
    for pairing in pairings:
        if pairing.outcome == "hit":
            out.append(replace(pairing, cause=_hit(pairing)[0], detail=_hit(pairing)[1]))
            continue
        same = [one for one in known[pairing.account] if one.outcome == pairing.outcome and _near(one, pairing)]
        if same:
            out.append(replace(pairing, cause=same[0].cause, detail=same[0].detail))
        else:
            out.append(
                replace(pairing, cause=BOOK, detail="one step ahead, in history's own book, the model says otherwise")
            )
    return out


def _near(one: Pairing, other: Pairing) -> bool:
    a, b = one.episode, other.episode
    return a.first - b.last <= WITHIN and b.first - a.last <= WITHIN
