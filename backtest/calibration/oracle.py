"""The oracle's price as it was: between what, by what the chain accepted and by a venue's range. Pure, exact integers.

Between two steps of the oracle its price is one number. The venue's range says where that lay; calls that raised their
owner's risk and liquidations narrow it by the protocol's own check (``replay.accepted``), and so do, as far as they do
not contradict those, accounts that stood longer than liquidators take. What is left is the step's interval.

The price in it is the likeliest: whoever stood, however shortly, is likelier to have stood at a price at which nobody
could liquidate. Among the prices of the interval that let all of these be, or as many as can be, it is the one nearest
to what stands for the oracle today, so that nothing is moved without evidence.

All of it is in-sample: the liquidations that a model is held against are among what the path was made from. What an
account's own evidence was worth is told by the path of all others (``scores``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backtest.model import AccountId
from backtest.replay.accepted import ACTION, LIQUIDATION, STOOD, Bound, Kind

LATE = 0.95
"""An account says something by standing once it stood longer than this share of liquidations took."""
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Moment:
    """A step of the oracle: from ``time`` (seconds) for ``period`` seconds it says one price. ``proxy`` stands for it
    today, ``venue`` is between what it may have been, both ends included; None: not known.
    """

    time: int
    period: int
    proxy: int
    venue: Range | None


@dataclass(frozen=True, slots=True)
class PathStep:
    """A moment with its interval, both ends included (None: nothing bounds that side), the price nearest to the proxy
    in it, and which bound made each end (None: the venue's range).

    ``conflict``: why there is no interval by evidence, "" where there is one; the venue's range then stands.
    ``unused``: accounts that stood where a liquidation, or the range, says that they could have been liquidated.
    """

    moment: Moment
    low: int | None
    high: int | None
    price: int
    low_by: Bound | None = None
    high_by: Bound | None = None
    conflict: str = ""
    unused: tuple[AccountId, ...] = ()

    @property
    def moved(self) -> bool:
        """Whether evidence moved the price away from the proxy."""
        return self.price != self.moment.proxy


@dataclass(frozen=True, slots=True)
class Score:
    """How many of an evidence's bounds a price obeys: of the proxy, of the path, and of the path of all other accounts.

    ``inside``: bounds that some price in the interval of all others obeys.
    """

    kind: Kind
    bounds: int
    proxy: int
    path: int
    others: int
    inside: int


@dataclass(frozen=True, slots=True)
class Derived:
    """The path of one asset. ``apart``: accounts whose evidence is not used, with the reason; ``outside``: how many
    bounds of each kind lie outside the venue's range; ``scores``: of the accounts that are used.
    """

    steps: Sequence[PathStep]
    apart: Mapping[AccountId, str]
    outside: Mapping[Kind, int]
    used: Mapping[Kind, int]
    scores: Sequence[Score] = field(default=())

    @property
    def conflicts(self) -> list[PathStep]:
        """Steps whose actions and liquidations leave no price."""
        return [step for step in self.steps if step.conflict]


def patience_of(bounds: Iterable[Bound], share: float = LATE) -> int | None:
    """Seconds within which this share of accounts was first liquidated after the step that they were liquidated in
    began (nearest rank, up); None without liquidations.
    """
    first: dict[tuple[AccountId, int], int] = {}
    for bound in bounds:
        if bound.kind == LIQUIDATION:
            first.setdefault((bound.account, bound.step), bound.clock.timestamp - bound.step)
    waited = sorted(first.values())
    return waited[math.ceil(share * len(waited)) - 1] if waited else None


def set_apart(
    bounds: Iterable[Bound], moments: Sequence[Moment], contradicted: Mapping[AccountId, str]
) -> dict[AccountId, str]:
    """Accounts whose own history contradicts itself, with why: those given, and those that acted, or were liquidated,
    where the venue's range forbids it.
    """
    ranges = {moment.time: moment.venue for moment in moments}
    found = dict(contradicted)
    for bound in bounds:
        venue = ranges.get(bound.step)
        if bound.kind != STOOD and venue is not None and (beyond := _beyond(bound, venue)):
            found.setdefault(bound.account, f"{bound.what} {beyond:.2%} beyond the venue's range")
    return found


def derive(
    moments: Sequence[Moment], bounds: Iterable[Bound], apart: Mapping[AccountId, str], patience: int | None
) -> Derived:
    """The path, with what each end rests on.

    Args:
        moments: in order of time.
        bounds: all, of one asset.
        apart: accounts whose bounds are left out (``set_apart``).
        patience: seconds; standing for longer narrows the interval, for less only tells where in it the price was.
            None: standing says nothing.
    """
    ranges = {moment.time: moment.venue for moment in moments}
    by_step: dict[int, list[Bound]] = defaultdict(list)
    outside: dict[Kind, int] = {ACTION: 0, LIQUIDATION: 0, STOOD: 0}
    used: dict[Kind, int] = dict(outside)
    for bound in bounds:
        if bound.kind == STOOD and patience is None:
            continue
        if bound.kind != STOOD or bound.stood > (patience or 0):
            venue = ranges.get(bound.step)
            outside[bound.kind] += venue is not None and _beyond(bound, venue) > 0
            used[bound.kind] += bound.account not in apart
        if bound.account not in apart:
            by_step[bound.step].append(bound)
    told = [_Told.of(moment, by_step.get(moment.time, ()), patience or 0) for moment in moments]
    return Derived([one.step() for one in told], dict(apart), outside, used, tuple(_scores(told)))


def _beyond(bound: Bound, venue: Range) -> float:
    """By how much of its price a bound forbids the whole range; 0 where it does not."""
    if bound.least_up is not None and bound.least_up > venue[1]:
        return bound.least_up / venue[1] - 1
    if bound.most_down is not None and bound.most_down < venue[0]:
        return 1 - bound.most_down / venue[0]
    return 0.0


@dataclass(slots=True)
class _Ends:
    """The interval so far, and what made its ends."""

    low: int | None = None
    high: int | None = None
    low_by: Bound | None = None
    high_by: Bound | None = None

    def narrow(self, bound: Bound) -> None:
        if bound.least_up is not None and (self.low is None or bound.least_up > self.low):
            self.low, self.low_by = bound.least_up, bound
        if bound.most_down is not None and (self.high is None or bound.most_down < self.high):
            self.high, self.high_by = bound.most_down, bound

    def fit(self, bounds: Iterable[Bound]) -> list[AccountId]:
        """Narrow by every bound that leaves a price, the loosest first; whose do not, is returned."""
        left_out = []
        for bound in sorted(bounds, key=lambda one: (one.least_up or 0, -(one.most_down or 0))):
            if self.allows(bound):
                self.narrow(bound)
            else:
                left_out.append(bound.account)
        return left_out

    @property
    def empty(self) -> bool:
        return self.low is not None and self.high is not None and self.low > self.high

    def allows(self, bound: Bound) -> bool:
        return not (
            (bound.least_up is not None and self.high is not None and bound.least_up > self.high)
            or (bound.most_down is not None and self.low is not None and bound.most_down < self.low)
        )

    def nearest(self, price: int) -> int:
        if self.low is not None and price < self.low:
            return self.low
        return self.high if self.high is not None and price > self.high else price


@dataclass(frozen=True, slots=True)
class _Told:
    """What is known of one moment: what the contracts let through, who stood for longer than liquidators take
    (``long``) and who did not (``short``), one bound an account, its tightest. Whoever was liquidated in the step was
    waiting for that.
    """

    moment: Moment
    hard: Sequence[Bound]
    long: Sequence[Bound]
    short: Sequence[Bound]

    @classmethod
    def of(cls, moment: Moment, bounds: Sequence[Bound], patience: int) -> _Told:
        hard = [bound for bound in bounds if bound.kind != STOOD]
        taken = {bound.account for bound in hard if bound.kind == LIQUIDATION}
        stood: tuple[dict[AccountId, Bound], dict[AccountId, Bound]] = {}, {}
        for bound in bounds:
            if bound.kind == STOOD and bound.account not in taken:
                held = stood[bound.stood <= patience]
                held[bound.account] = _tighter(held.get(bound.account), bound)
        return cls(moment, hard, list(stood[0].values()), list(stood[1].values()))

    def without(self, account: AccountId) -> _Told:
        """As if the account were not there."""
        parts = ([one for one in part if one.account != account] for part in (self.hard, self.long, self.short))
        return _Told(self.moment, *parts)

    def interval(self) -> tuple[_Ends | None, list[AccountId]]:
        """None where the contracts' own evidence leaves no price; and whose long standing does not fit."""
        ends = _Ends(*(self.moment.venue or (None, None)))
        for bound in self.hard:
            ends.narrow(bound)
        return (None, []) if ends.empty else (ends, ends.fit(self.long))

    def likeliest(self, ends: _Ends) -> int:
        """The price in this interval."""
        within = replace(ends)
        within.fit(self.short)
        return within.nearest(self.moment.proxy)

    def step(self) -> PathStep:
        ends, unused = self.interval()
        if ends is not None:
            price = self.likeliest(ends)
            return PathStep(self.moment, ends.low, ends.high, price, ends.low_by, ends.high_by, unused=tuple(unused))
        venue = _Ends(*(self.moment.venue or (None, None)))
        least, most = _Ends(), _Ends()
        for bound in self.hard:
            least.narrow(bound)
            most.narrow(bound)
        why = f"{_named(least.low_by)} contradicts {_named(most.high_by)}"
        price = venue.nearest(self.moment.proxy)
        return PathStep(self.moment, venue.low, venue.high, price, least.low_by, most.high_by, why)


def _tighter(one: Bound | None, other: Bound) -> Bound:
    """The bound that says more, of two of one account's that look the same way."""
    if one is None:
        return other
    more = (other.least_up or 0) > (one.least_up or 0)
    if one.most_down is not None and other.most_down is not None:
        more = other.most_down < one.most_down
    return other if more else one


def _named(bound: Bound | None) -> str:
    return "the venue's range" if bound is None else f"{bound.what} in block {bound.clock.block_number}"


def _scores(told: Sequence[_Told]) -> Iterable[Score]:
    """Of each kind, one account left out at a time: its own bounds held against the path that all others make. One
    bound for each action; for each step one for an account's liquidations and one for its standing.
    """
    counts: dict[Kind, list[int]] = {ACTION: [0] * 5, LIQUIDATION: [0] * 5, STOOD: [0] * 5}
    for one in told:
        whole, _ = one.interval()
        step = one.step()
        taken = {bound.account: bound for bound in reversed(one.hard) if bound.kind == LIQUIDATION}
        actions = [bound for bound in one.hard if bound.kind == ACTION]
        # Only who makes an end, or moves the price, can be missed.
        decides = {bound.account for bound in (*one.hard, *one.long, *one.short) if whole is None or _near(bound, step)}
        others: dict[AccountId, tuple[_Ends, int]] = {}
        for account in decides:
            rest = one.without(account)
            ends = rest.interval()[0] or _Ends(*(one.moment.venue or (None, None)))
            others[account] = ends, rest.likeliest(ends)
        ends = whole or _Ends(step.low, step.high)
        for bound in (*actions, *taken.values(), *one.long):
            left, price = others.get(bound.account, (ends, step.price))
            row = counts[bound.kind]
            row[0] += 1
            row[1] += bound.allows(one.moment.proxy)
            row[2] += bound.allows(step.price)
            row[3] += bound.allows(price)
            row[4] += left.allows(bound)
    for kind, row in counts.items():
        yield Score(kind, *row)


def _near(bound: Bound, step: PathStep) -> bool:
    """Whether a bound makes an end of the interval or its price."""
    return bound.least_up in (step.low, step.price) or bound.most_down in (step.high, step.price)
