"""The answer to a proposed change of parameters: what is known of it, in what words, and in which tables. Pure: figures
come from replays, and from the exact book of one moment (``backtest.propose``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from backtest.report.doubt import PairedRuns, PartedDoubt, doubts_of, mean_of
from backtest.report.verdict import Contributions, Measure, Verdict, totals_of

POWER, INCOME = "borrowing_power", "protocol_income"
MEASURES = (
    Measure("repaid", "Debt liquidated", "money"),
    Measure("bad_debt", "Bad debt", "money"),
    Measure("borrower_loss", "Borrowers' loss", "money"),
    Measure(POWER, "Borrowing power", "money"),
    Measure(INCOME, "Protocol income", "money"),
    Measure("liquidations", "Liquidations", "count"),
    Measure("accounts", "Accounts liquidated", "count"),
)
"""The first five are of the one screen."""
SHORT = 5
BETTER: Mapping[str, Literal["less", "more"]] = {
    "bad_debt": "less",
    "borrower_loss": "less",
    POWER: "more",
    INCOME: "more",
}
"""Which way a measure is a gain; of those that are not here neither way is."""
BPS = 10_000
WAD = 10**18


@dataclass(frozen=True, slots=True)
class Term:
    """One parameter of an asset, a category or the market, in the words' units; None: history never set it."""

    of: str
    name: str
    present: int | None
    proposed: int | None
    basis_points: bool = True


@dataclass(frozen=True, slots=True)
class Newly:
    """An account that the change by itself makes liquidatable: base units, health as wad, and the step of the ramp at
    which that happens.
    """

    account: str
    debt: int
    collateral: int
    health_before: int
    health_after: int
    step: int


@dataclass(frozen=True, slots=True)
class ProposalMoment:
    """What the change does by itself the moment it takes effect; see ``replay.what_if.proposal.Effect``. ``newly``: the
    largest first; ``steps`` of the ramp that is held beside it, ``days`` long.
    """

    block: int
    timestamp: int
    touched: int
    of: int
    left_alone: int
    newly: tuple[Newly, ...]
    power_before: int
    power_after: int
    steps: int
    days: int

    @property
    def debt(self) -> int:
        """Of all accounts that it makes liquidatable."""
        return sum(one.debt for one in self.newly)


@dataclass(frozen=True, slots=True)
class Shock:
    """The book of the moment after a fall of prices (basis points), present and proposed; base units. ``accounts`` and
    ``debt`` may be liquidated then, ``repaid`` is what frictionless liquidators repay of it (None: liquidations take
    time here, nobody has acted), ``bad_debt`` what no collateral stands behind afterwards.
    """

    assets: str
    fall: int
    accounts: tuple[int, int]
    debt: tuple[int, int]
    repaid: tuple[int, int] | None
    bad_debt: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ProposalOutcome:
    """What one run came to: by account, the market's borrowing power at the end of its window, and the value of users'
    actions that its rules refused.
    """

    contributions: Contributions
    power: int
    refused: int = 0

    @property
    def totals(self) -> dict[str, int]:
        """Each of ``MEASURES``."""
        return {**totals_of(self.contributions, [measure.key for measure in MEASURES]), POWER: self.power}


@dataclass(frozen=True, slots=True)
class ProposalRun:
    """A proposal and its baseline under one draw of the model, one seed and one response of users."""

    draw: int
    weight: float
    seed: int
    response: str
    proposed: ProposalOutcome
    present: ProposalOutcome


@dataclass(frozen=True, slots=True)
class ProposalFinding:
    """One measure: means over draws and seeds. ``without_largest``: the effect without the account of which most debt
    is liquidated; None where the measure is not by account. ``draws``: the effect of each draw, with its weight.
    """

    verdict: Verdict
    proposed: int
    doubt: PartedDoubt
    without_largest: int | None
    draws: tuple[tuple[float, int], ...]

    @property
    def measure(self) -> Measure:
        """Which."""
        return self.verdict.measure


@dataclass(frozen=True, slots=True)
class PairedVerdict:
    """What a change does under an ensemble, whose ``words`` these are: every measure's finding over ``draws`` and
    ``seeds`` each, of a market of ``population`` accounts; the runs are stored as a sweep.
    """

    findings: tuple[ProposalFinding, ...]
    words: str
    draws: int
    seeds: int
    population: int
    sweep: str


@dataclass(frozen=True, slots=True)
class Point:
    """One parameter set of a search: its changed parameters in order, and what replays of it came to (means over
    draws); None: refused, with the reason.
    """

    values: tuple[int, ...]
    totals: Mapping[str, int] | None
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A grid around the proposal, and how many runs it took. ``names`` of the parameters; ``present`` and ``proposed``
    are points of it. ``loss`` is held ``against`` another measure: debt liquidated, or borrowing power where the
    proposal moves that.
    """

    names: tuple[str, ...]
    present: tuple[int, ...]
    proposed: tuple[int, ...]
    within: int
    points: tuple[Point, ...]
    runs: int
    loss: str = "bad_debt"
    against: str = "repaid"

    def front(self) -> list[Point]:
        """The sets that no other beats in one of the two measures without losing in the other."""
        better = -1 if self.against == POWER else 1
        known = [
            (point, better * point.totals[self.against], point.totals[self.loss])
            for point in self.points
            if point.totals is not None
        ]

        def beaten(own: tuple[Point, int, int]) -> bool:
            return any(a <= own[1] and b <= own[2] and (a, b) != own[1:] for _, a, b in known)

        return [own[0] for own in known if not beaten(own)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Everything that is said about a proposal. Amounts are base units of ``decimals`` decimals.

    Attributes:
        changes: the changed parameters as on the command line.
        baseline: who liquidates, in words; ``frictionless``: the best case; ``ensemble``: several draws say so.
        draws, seeds: how many stand behind the figures.
        largest: the account of which most debt is liquidated.
        refused: the value of users' actions that the rules refused, present and proposed.
        warnings: terms that are dangerous by themselves.
        notes: what all runs assume. runs: how many replays; sweep: what they are stored as.
        markets: the market; of several all of them, and ``parts`` are the answers of each, in its own base units.
    """

    market: str
    markets: tuple[str, ...]
    lake: str
    currency: str
    decimals: int
    changes: tuple[str, ...]
    baseline: str
    frictionless: bool
    ensemble: bool
    draws: int
    seeds: int
    seed: int
    from_block: int
    to_block: int
    from_timestamp: int
    to_timestamp: int
    digest: str
    rules: str
    engine: str
    population: int
    largest: str | None
    refused: tuple[int, int]
    terms: tuple[Term, ...]
    warnings: tuple[str, ...]
    moment: ProposalMoment
    findings: tuple[ProposalFinding, ...]
    shocks: tuple[Shock, ...]
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    runs: int
    sweep: str
    search: Search | None = None
    responses: tuple[str, ...] = field(default=())
    parts: tuple[Proposal, ...] = ()

    def finding(self, key: str) -> ProposalFinding:
        """That of a measure."""
        return next(each for each in self.findings if each.measure.key == key)

    def searched(self, search: Search) -> Proposal:
        """The same with a search: its losses are bad debt, or borrowers' loss where bad debt cannot be judged."""
        loss = "bad_debt" if self.finding("bad_debt").verdict.judged else "borrower_loss"
        against = "repaid" if self.moment.power_before == self.moment.power_after else POWER
        return replace(self, search=replace(search, loss=loss, against=against), runs=self.runs + search.runs)

    def asset_shocks(self) -> dict[str, list[Shock]]:
        """By assets, in order."""
        found: dict[str, list[Shock]] = {}
        for shock in self.shocks:
            found.setdefault(shock.assets, []).append(shock)
        return found


def findings_of(
    runs: Sequence[ProposalRun],
    history: ProposalOutcome | None,
    *,
    population: int,
    seed: int,
    random: bool,
    ensemble: bool,
) -> tuple[tuple[ProposalFinding, ...], str | None]:
    """Every measure's, and the account of which most debt is liquidated.

    Args:
        runs: each draw and seed with frozen users; each draw with the others at one seed at least.
        history: the observed run of the same blocks; None: what history would tell is not judged.
        population: number of accounts of the market.
        random: whether the model draws.
        ensemble: several draws stand for what is not known of the model.
    """
    pairs = [_pair(run) for run in runs if run.response == "frozen"]
    frozen = [run for run in runs if run.response == "frozen"]
    keys = [measure.key for measure in MEASURES]
    doubts = doubts_of(pairs, keys, population=population, seed=seed, random=random)
    effects = [_effects(run) for run in frozen]
    largest = _largest(pairs)
    past = None if history is None else history.totals
    bands = _bands(runs)
    found = []
    for measure in MEASURES:
        key = measure.key
        bounds = doubts[key].all
        verdict = Verdict(
            measure,
            baseline=mean_of(pairs, [run.present.totals[key] for run in frozen]),
            effect=mean_of(pairs, [effect[key] for effect in effects]),
            low=bounds[0],
            high=bounds[1],
            history=None if past is None else past[key],
            band={response: band[key] for response, band in bands.items()},
            ensemble=ensemble,
        )
        without = None
        if key != POWER and largest is not None:
            own = [_of(pair.proposed, largest, key) - _of(pair.present, largest, key) for pair in pairs]
            without = mean_of(pairs, [effect[key] - one for effect, one in zip(effects, own, strict=True)])
        proposed = mean_of(pairs, [run.proposed.totals[key] for run in frozen])
        found.append(ProposalFinding(verdict, proposed, doubts[key], without, _by_draw(pairs, effects, key)))
    return tuple(found), largest


def refused_of(runs: Sequence[ProposalRun]) -> tuple[int, int]:
    """The value of users' actions that were refused, present and proposed: means, with frozen users."""
    frozen = [run for run in runs if run.response == "frozen"]
    pairs = [_pair(run) for run in frozen]
    sides = [run.present.refused for run in frozen], [run.proposed.refused for run in frozen]
    return mean_of(pairs, sides[0]), mean_of(pairs, sides[1])


def _pair(run: ProposalRun) -> PairedRuns:
    whole = {POWER: run.proposed.power - run.present.power}
    return PairedRuns(run.draw, run.weight, run.seed, run.proposed.contributions, run.present.contributions, whole)


def _effects(run: ProposalRun) -> dict[str, int]:
    ours, theirs = run.proposed.totals, run.present.totals
    return {key: ours[key] - theirs[key] for key in ours}


def _bands(runs: Sequence[ProposalRun]) -> dict[str, dict[str, int]]:
    """The effects by users' response, over the seeds that every response has."""
    found = {}
    responses = list(dict.fromkeys(run.response for run in runs))
    asked = [{(run.draw, run.seed) for run in runs if run.response == response} for response in responses]
    shared = set.intersection(*asked)
    for response in responses:
        own = [run for run in runs if run.response == response and (run.draw, run.seed) in shared]
        pairs = [_pair(run) for run in own]
        effects = [_effects(run) for run in own]
        found[response] = {
            measure.key: mean_of(pairs, [effect[measure.key] for effect in effects]) for measure in MEASURES
        }
    return found


def _by_draw(
    pairs: Sequence[PairedRuns], effects: Sequence[Mapping[str, int]], key: str
) -> tuple[tuple[float, int], ...]:
    whole = sum({pair.draw: pair.weight for pair in pairs}.values())
    found = []
    for draw in sorted({pair.draw for pair in pairs}):
        own = [(pair, effect[key]) for pair, effect in zip(pairs, effects, strict=True) if pair.draw == draw]
        found.append((own[0][0].weight / whole, mean_of([pair for pair, _ in own], [value for _, value in own])))
    return tuple(found)


def _largest(pairs: Sequence[PairedRuns]) -> str | None:
    """The account of which most debt is liquidated in all these runs together, the first of several."""
    sums: dict[str, int] = {}
    for pair in pairs:
        for side in (pair.proposed, pair.present):
            for account, own in side.items():
                sums[account] = sums.get(account, 0) + own.get("repaid", 0)
    return min(sums, key=lambda account: (-sums[account], account), default=None) if any(sums.values()) else None


def _of(contributions: Contributions, account: str, key: str) -> int:
    return contributions.get(account, {}).get(key, 0)
