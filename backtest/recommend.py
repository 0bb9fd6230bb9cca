"""The parameter set that does most for a stated aim while a value at risk of bad debt stays below reserves, each
parameter within a bound of what it is; and how sure that is.

A set is judged on the book at the end of the history that is held in: its bad debt over shocked paths (``stress``, the
same seed for all sets) and after a fall of prices at once, its borrowing power by the exact book. What is found is then
held against fresh paths, against the book at the end of the whole history, and, in replays of both windows and under
every response of users, against what happened (``propose``). Nothing that is held out chooses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Literal

import pyarrow.compute as pc
from msgspec.structs import replace

from backtest.errors import ScenarioError, UserError
from backtest.lake import Lake
from backtest.model import AssetId
from backtest.paired import executor_for
from backtest.propose import AskedMarkets, ProposalQuestion, markets_of, propose, spoken
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from backtest.replay.timeline import Timeline
from backtest.replay.what_if import proposal as what_if
from backtest.replay.what_if.impact import views_of
from backtest.report.proposal import POWER, Proposal
from backtest.report.proposal.several import in_first_up
from backtest.report.tables import Table, moment, money
from backtest.report.tables import as_text as table
from backtest.results import Material
from backtest.risk.falling import held, that_moved
from backtest.risk.search import FULLY_AROUND, Sought, Tried, Values, looks_of, ranked, search
from backtest.risk.tail import TailRisk, check_level, paths_needed, tail_risk
from backtest.scenario import PARAMETERS, Competitive, Joint, Override, Scenario, parse_override
from backtest.scenario.ensemble import Ensemble
from backtest.scenario.settled import named
from backtest.shocks import StressCase, Suite
from backtest.shocks.models import Bootstrap
from backtest.stress import stress
from backtest.units import BPS

Aim = Literal["borrowing-power", "protocol-fee", "liquidated"]
AIMS: Mapping[Aim, str] = {
    "borrowing-power": "the most borrowing power",
    "protocol-fee": "the highest mean protocol fee over the paths",
    "liquidated": "the least debt liquidated, in the mean over the paths",
}
HELD_IN = 0.7
"""The share of the history's time that chooses."""
CHECKED = 3
"""Sets that are held against replays of the held-in window, at most."""

Progress = Callable[[int, int, int], None]
"""Called with the number of sets that were looked at, of those that may be, and of those that were refused."""


def paths_at_hand() -> Suite:
    """Shocks that need nothing fitted: a day of half-hours, drawn from the market's own in blocks of half a day."""
    return Suite(
        name="recommend",
        version=1,
        description="A day of the market's own half-hours, drawn again in blocks of half a day.",
        cases=(StressCase(name="bootstrap", prices=Bootstrap(block=24)),),
        step=1_800,
        paths=500,
    )


@dataclass(frozen=True, slots=True)
class RecommendationQuestion:
    """What is asked.

    Attributes:
        over: (parameter as on the command line, bound of its change in basis points).
        reserves: base units. level: percentile of bad debt, basis points.
        suite: shocks and who liquidates; ``paths`` of each case.
        withstand: a fall, basis points, of all collateral that moves, at once, whose bad debt has to be below reserves
            too; None: none.
        step: of the grid of sets, basis points. looks: sets that are judged, at most; None: by the number of
            parameters (``risk.search.looks_of``).
        split: the share of the window's time that is held in.
        ensemble: who liquidates in replays of history; None: frictionless liquidators.
        joint: several markets, whose sums are judged, in base units of the first; its blocks are the moments.
    """

    over: tuple[tuple[str, int], ...]
    reserves: int
    aim: Aim = "borrowing-power"
    level: int = 9_900
    suite: Suite | None = None
    paths: int | None = None
    withstand: int | None = None
    step: int = 25
    looks: int | None = None
    split: float = HELD_IN
    ensemble: Ensemble | None = None
    seed: int = 0
    joint: Joint | None = None

    @property
    def most(self) -> int:
        """Sets that are judged, at most."""
        return looks_of(len(self.over)) if self.looks is None else self.looks


@dataclass(frozen=True, slots=True)
class SetOutcome:
    """What a set came to at one moment: borrowing power, bad debt and debt liquidated over the paths, the mean fee, and
    bad debt after the fall that has to be withstood; base units.
    """

    power: int
    bad_debt: TailRisk
    liquidated: TailRisk
    fee: int
    fallen: int | None

    @property
    def risk(self) -> int:
        """What has to be below reserves."""
        return max(self.bad_debt.var, self.fallen or 0)

    def aimed(self, aim: Aim) -> int:
        """The more the better."""
        return {"borrowing-power": self.power, "protocol-fee": self.fee, "liquidated": -self.liquidated.mean}[aim]


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """What replays of one window say of a set: bad debt present and proposed with frozen users, the interval of the
    difference, and that difference by users' response; likewise of borrowing power; whom it makes liquidatable at once;
    ``warnings`` of terms that are dangerous by themselves.
    """

    window: str
    present: int
    proposed: int
    low: int
    high: int
    by_response: Mapping[str, int]
    power: Mapping[str, int]
    newly: int
    newly_debt: int
    warnings: tuple[str, ...] = ()

    def within(self, reserves: int) -> bool:
        """Bad debt is below reserves, and no response of users makes it larger by what is left of them."""
        left = max(0, reserves - self.present)
        return self.proposed <= max(reserves, self.present) and max(self.by_response.values(), default=0) <= left


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The answer. ``judged``: at the held-in moment, by set. ``fresh``: of the present, best and next sets, on paths of
    another seed; ``later``: on the book at the end of the history. ``dropped``: better sets that replays of the held-in
    window speak against. ``held``: what replays say of a set, held in first.
    """

    market: str
    currency: str
    decimals: int
    names: tuple[str, ...]
    present: Values
    bounds: tuple[tuple[int, int], ...]
    question: RecommendationQuestion
    suite: str
    paths: int
    block: int
    timestamp: int
    end_block: int
    end_timestamp: int
    sought: Sought
    best: Tried | None
    runner_up: Tried | None
    dropped: tuple[Values, ...]
    judged: Mapping[Values, SetOutcome]
    fresh: Mapping[Values, SetOutcome]
    later: Mapping[Values, SetOutcome]
    held: Mapping[Values, tuple[WindowOutcome, ...]]

    @property
    def holds_out(self) -> bool:
        """Fresh paths, the later book and the held-out window keep the limit too."""
        if self.best is None:
            return False
        own = self.best.values
        looks = [found[own].risk <= self.question.reserves for found in (self.fresh, self.later) if own in found]
        return all(looks) and all(one.within(self.question.reserves) for one in self.held.get(own, ()))

    @property
    def why_stopped(self) -> str:
        """In a sentence."""
        count = len(self.sought.tried)
        away = f"one step of {self.question.step} basis points away"
        if len(self.names) > FULLY_AROUND:
            away += " in one or two parameters"
        if not self.sought.settled:
            return f"Stopped as {count} sets were looked at, the most that were asked for (--looks)."
        if self.sought.best is None:
            return f"Stopped as no set {away} has less at risk: {count} were looked at."
        return f"Stopped as no set {away} is better: {count} were looked at."

    @property
    def at_bounds(self) -> tuple[str, ...]:
        """Parameters of the best set that its bound stops."""
        if self.best is None:
            return ()
        step = self.question.step
        return tuple(
            name
            for name, value, (low, high) in zip(self.names, self.best.values, self.bounds, strict=True)
            if value - low < step or high - value < step
        )


def recommend(
    lake: Lake,
    market: str,
    question: RecommendationQuestion,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Recommendation:
    """Find a set, and hold it against what did not choose it. Stresses and replays are stored: the same question again
    reads them. ``market``: of several, which ``question.joint`` names, the first.

    Raises:
        UserError: the market has no current tables or too short a history; a parameter that it does not have or that
            is not one number; numbers that cannot be.
    """
    _check(question)
    lake.refresh()
    markets = markets_of(lake, market, question.joint)
    first = markets.materials[0].config
    sets = _Sets(lake, markets, question, workers)

    def look(values: Values) -> Tried:
        found = sets.tried(values)
        if progress is not None:
            progress(sets.looked, question.most, sets.refused)
        return found

    sought = search(look, sets.present, sets.bounds, step=question.step, limit=question.reserves, most=question.most)
    best, runner_up, dropped, answers = _kept(sets, sought)
    shown = [sets.present, *(one.values for one in (best, runner_up) if one is not None)]
    return Recommendation(
        market=", ".join(material.config.name for material in markets.materials),
        currency=first.base_currency,
        decimals=first.base_decimals,
        names=sets.names,
        present=sets.present,
        bounds=sets.bounds,
        question=question,
        suite=f"{sets.suite.name}, version {sets.suite.version}",
        paths=sets.judge(sets.present, sets.block, question.seed).bad_debt.paths,
        block=sets.block,
        timestamp=sets.time_of(sets.block),
        end_block=sets.last,
        end_timestamp=sets.time_of(sets.last),
        sought=sought,
        best=best,
        runner_up=runner_up,
        dropped=dropped,
        judged={
            one.values: sets.judge(one.values, sets.block, question.seed) for one in sought.tried if not one.refused
        },
        fresh={values: sets.judge(values, sets.block, question.seed + 1) for values in shown},
        later={values: sets.judge(values, sets.last, question.seed) for values in shown},
        held={values: tuple(own) for values, own in answers.items() if values in shown},
    )


def _kept(
    sets: _Sets, sought: Sought
) -> tuple[Tried | None, Tried | None, tuple[Values, ...], dict[Values, list[WindowOutcome]]]:
    """The best set that replays of the held-in window do not speak against, the next one, and those that they do; with
    what replays of both windows say of the first two.
    """
    left = list(sought.tried)
    dropped: list[Values] = []
    answers: dict[Values, list[WindowOutcome]] = {}
    best, runner_up = ranked(left, sets.present, sets.question.reserves)
    while best is not None and best.values != sets.present and len(dropped) < CHECKED:
        answers[best.values] = [sets.replayed(best.values, "held in")]
        if answers[best.values][0].within(sets.question.reserves):
            break
        dropped.append(best.values)
        left.remove(best)
        best, runner_up = ranked(left, sets.present, sets.question.reserves)
    for one in (best, runner_up):
        if one is not None and one.values != sets.present:
            own = answers.setdefault(one.values, [])
            own += [sets.replayed(one.values, window) for window in ("held in", "held out")[len(own) :]]
    return best, runner_up, tuple(dropped), answers


def _check(question: RecommendationQuestion) -> None:
    if question.suite is not None and question.suite.scenario.joint is not None:
        raise UserError(
            "a recommendation over a suite of several markets", "leave [scenario.joint] out of it, and name them"
        )
    if question.reserves < 0:
        raise UserError("--reserves below zero", "give an amount")
    if question.aim not in AIMS:
        raise UserError(f"there is no aim '{question.aim}'", f"give one of {', '.join(AIMS)}")
    check_level(question.level, "percentile")
    if not 0 < question.split < 1:
        raise UserError(f"--split {question.split}", "give a share between 0 and 1, such as 0.7")
    if question.withstand is not None and not 0 < question.withstand < BPS:
        raise UserError(f"--withstand {question.withstand / 100:g}", "give percent, above 0 and below 100")
    if any(bound < question.step for _, bound in question.over):
        raise UserError(f"a bound below the step of {question.step} basis points", "widen it, or take a smaller --step")


class _Sets:
    """Sets of one question, judged."""

    def __init__(
        self, lake: Lake, markets: AskedMarkets, question: RecommendationQuestion, workers: int | None
    ) -> None:
        self.question, self._lake, self._markets = question, lake, markets
        self._timelines = [material.timeline() for material in markets.materials]
        self.last, self.block = _moments(self._timelines, question.split, markets.materials[0].config.name)
        self._overrides = _overrides(question, markets)
        self.names = tuple(spoken(each) for each in self._overrides)
        self.present: Values = tuple(
            markets.present(each, self._blocks(self.block), "--over") for each in self._overrides
        )
        self.bounds = tuple(
            (max(PARAMETERS[each.parameter].low, now - bound), min(PARAMETERS[each.parameter].high, now + bound))
            for each, now, (_, bound) in zip(self._overrides, self.present, question.over, strict=True)
        )
        suite = question.suite or paths_at_hand()
        self.suite = replace(suite, scenario=replace(suite.scenario, joint=question.joint))
        paths = sum(question.paths or self.suite.paths_of(case) for case in self.suite.cases)
        self._executor = executor_for(workers, paths * self.suite.steps)
        self._falling = [_falling(material) for material in markets.materials]
        self._books: dict[int, list[Book[Any]]] = {}
        self._judged: dict[tuple[Values, int, int], SetOutcome] = {}
        self.looked = self.refused = 0

    def time_of(self, block: int) -> int:
        return int(self._timelines[0].clock_at(block).timestamp)

    def _blocks(self, block: int) -> list[int]:
        """The last block of each market at the end of one of the first."""
        at = self.time_of(block)
        others = [timeline.block_before(at) for timeline in self._timelines[1:]]
        return [block, *(place for place in others if place is not None)]

    def of(self, values: Values) -> tuple[Override, ...]:
        """A set as changes; those that leave a parameter as it is are left out."""
        return tuple(
            replace(each, value=value, change=None)
            for each, value, now in zip(self._overrides, values, self.present, strict=True)
            if value != now
        )

    def tried(self, values: Values) -> Tried:
        self.looked += 1
        try:
            self._markets.refuse(self.of(values), allow_invalid=False)
        except ScenarioError as error:
            self.refused += 1
            return Tried(values, None, None, error.what)
        found = self.judge(values, self.block, self.question.seed)
        return Tried(values, found.aimed(self.question.aim), found.risk)

    def judge(self, values: Values, block: int, seed: int) -> SetOutcome:
        """At the end of a block."""
        key = values, block, seed
        if key not in self._judged:
            self._judged[key] = self._judge(values, block, seed)
        return self._judged[key]

    def _judge(self, values: Values, block: int, seed: int) -> SetOutcome:
        question, own = self.question, self.of(values)
        suite = replace(
            self.suite, scenario=replace(self.suite.scenario, overrides=(*self.suite.scenario.overrides, *own))
        )
        market = self._markets.materials[0].config.name
        outcome = stress(
            self._lake, market, suite, self._executor, block=block, seed=seed, paths=question.paths, retry=True
        )
        if outcome.failed:
            raise UserError(f"a path failed: {outcome.failed[0]}", "mend that, and ask again")
        rows = self._lake.read("results/stress_paths", market)
        rows = rows.filter(pc.equal(rows["stress_id"], outcome.stress_id))
        bad, repaid, fees = (
            [int(one) for one in rows[name].to_pylist()]
            for name in ("bad_debt_base", "repaid_base", "protocol_fee_base")
        )
        power, fallen = 0, None if question.withstand is None else 0
        rows_of = zip(self._books_at(block), self._timelines, self._markets.own(own), self._falling, strict=True)
        for place, (book, timeline, mine, falling) in enumerate(rows_of):
            trial, worth = what_if.changed(book, timeline, mine) if mine else book, self._markets.worth(place)
            power += in_first_up(what_if.power_of(views_of(trial)), worth)
            if fallen is not None and question.withstand is not None:
                fallen += in_first_up(what_if.after_fall(trial, falling, question.withstand).bad_debt_base, worth)
        return SetOutcome(
            power=power,
            bad_debt=tail_risk(bad, question.level),
            liquidated=tail_risk(repaid, question.level),
            fee=sum(fees) // len(fees),
            fallen=fallen,
        )

    def _books_at(self, block: int) -> list[Book[Any]]:
        if block not in self._books:
            self._books[block] = [
                what_if.book_at(protocol_named(material.config.protocol), material.market, timeline, place, ended=True)
                for material, timeline, place in zip(
                    self._markets.materials, self._timelines, self._blocks(block), strict=True
                )
            ]
        return self._books[block]

    def replayed(self, values: Values, window: str) -> WindowOutcome:
        """What replays of a window say of a set."""
        words = tuple(f"{spoken(each)}={each.value}" for each in self.of(values))
        bounds = (None, self.block) if window == "held in" else (self.block + 1, None)
        found = propose(
            self._lake,
            self._markets.materials[0].config.name,
            ProposalQuestion(
                words,
                self.question.ensemble,
                seed=self.question.seed,
                from_block=bounds[0],
                to_block=bounds[1],
                joint=self.question.joint,
            ),
        )
        return _held(found, window)


def _held(found: Proposal, window: str) -> WindowOutcome:
    bad, power = found.finding("bad_debt"), found.finding(POWER)
    return WindowOutcome(
        window=window,
        present=bad.verdict.baseline,
        proposed=bad.proposed,
        low=bad.verdict.low,
        high=bad.verdict.high,
        by_response=dict(bad.verdict.band),
        power=dict(power.verdict.band),
        newly=len(found.moment.newly),
        newly_debt=found.moment.debt,
        warnings=found.warnings,
    )


def _moments(timelines: Sequence[Timeline], share: float, market: str) -> tuple[int, int]:
    """Blocks of the first market: the last that all histories cover, and the last of the first share of the time that
    they do.
    """
    first = timelines[0]
    since, until = (
        pick(int(timeline.timestamps[place]) for timeline in timelines) for pick, place in ((max, 0), (min, -1))
    )
    block, last = (first.block_before(at) for at in (int(since + share * (until - since)), until))
    if block is None or last is None or not first.first_block <= block < last:
        together = "" if len(timelines) == 1 else " and the others, together,"
        raise UserError(
            f"the history of '{market}'{together} is too short to hold a part of it out", "fetch more of it"
        )
    return first.last_known_block(last), first.last_known_block(block)


def _overrides(question: RecommendationQuestion, markets: AskedMarkets) -> tuple[Override, ...]:
    if not question.over:
        raise UserError("nothing may change", "say what: --over WETH.liquidation_threshold")
    asked = tuple(parse_override(f"{name}+=0") for name, _ in question.over)
    # In the question's order, as their bounds are.
    found = named(Scenario(liquidators=Competitive(), overrides=asked, joint=markets.joint), markets.name_of).overrides
    if len({spoken(each) for each in found}) < len(found):
        raise UserError("a parameter twice", "name each once")
    markets.refuse(found, allow_invalid=True)
    return found


def _falling(material: Material) -> tuple[AssetId, ...]:
    """Collateral that ever moved, else every collateral."""
    ever, moved = held(material.tables["position_events"]), set(that_moved(material.tables["prices"]))
    return tuple(asset for asset in ever if asset in moved) or tuple(ever)


# -- forms ------------------------------------------------------------------------------------------------------------


def plain(found: Recommendation) -> dict[str, Any]:
    """As JSON holds it: amounts are whole base units as text."""

    def named(values: Values) -> dict[str, int]:
        return dict(zip(found.names, values, strict=True))

    def judged(one: SetOutcome) -> dict[str, Any]:
        return {
            "borrowing_power": str(one.power),
            "bad_debt": _tail(one.bad_debt),
            "liquidated": _tail(one.liquidated),
            "protocol_fee": str(one.fee),
            "bad_debt_after_fall": None if one.fallen is None else str(one.fallen),
        }

    def row(one: Tried | None) -> dict[str, Any] | None:
        if one is None:
            return None
        return {
            "set": named(one.values),
            "held_in": judged(found.judged[one.values]),
            "fresh_paths": judged(found.fresh[one.values]),
            "end_of_history": judged(found.later[one.values]),
            "replays": [
                {
                    "window": own.window,
                    "bad_debt_present": str(own.present),
                    "bad_debt": str(own.proposed),
                    "difference_interval": [str(own.low), str(own.high)],
                    "difference_by_response": {name: str(value) for name, value in own.by_response.items()},
                    "borrowing_power_by_response": {name: str(value) for name, value in own.power.items()},
                    "newly_liquidatable": own.newly,
                    "newly_liquidatable_debt": str(own.newly_debt),
                    "warnings": list(own.warnings),
                    "within_reserves": own.within(found.question.reserves),
                }
                for own in found.held.get(one.values, ())
            ],
        }

    question = found.question
    return {
        "market": found.market,
        "currency": found.currency,
        "decimals": found.decimals,
        "aim": question.aim,
        "reserves": str(question.reserves),
        "percentile": question.level,
        "withstand": question.withstand,
        "suite": found.suite,
        "paths": found.paths,
        "seed": question.seed,
        "held_in_block": found.block,
        "end_block": found.end_block,
        "present": {**(row(Tried(found.present, None, None)) or {}), "set": named(found.present)},
        "bounds": {name: list(bound) for name, bound in zip(found.names, found.bounds, strict=True)},
        "recommended": row(found.best),
        "runner_up": row(found.runner_up),
        "dropped": [named(values) for values in found.dropped],
        "holds_out": found.holds_out,
        "settled": found.sought.settled,
        "why_stopped": found.why_stopped,
        "at_bounds": list(found.at_bounds),
        "tried": [
            {
                "set": named(one.values),
                "aim": None if one.aim is None else str(one.aim),
                "risk": None if one.risk is None else str(one.risk),
                "refused": one.refused or None,
            }
            for one in found.sought.tried
        ],
    }


def _tail(one: TailRisk) -> dict[str, Any]:
    amounts = ("mean", "var", "var_low", "var_high", "es", "es_low", "es_high")
    found: dict[str, Any] = {name: None if (value := getattr(one, name)) is None else str(value) for name in amounts}
    return {"paths": one.paths, "losing": one.losing, **found}


def as_json(found: Recommendation) -> str:
    """All of it, every set that was looked at included."""
    return json.dumps(plain(found), indent=2)


def as_text(found: Recommendation, width: int = 100) -> str:
    """One screen."""
    question = found.question
    percent = f"{question.level / 100:g}"

    def amount(value: int | None) -> str:
        return money(value, found.decimals)

    lines = [
        *wrap(f"{found.market}: {_answer(found, amount)}", width),
        "",
        *wrap(
            f"Aim: {AIMS[question.aim]}, with VaR{percent} of bad debt"
            + (f", and bad debt after a fall of {question.withstand / 100:g} %," if question.withstand else "")
            + f" within reserves of {amount(question.reserves)} {found.currency}. Judged on the book at the end of"
            f" block {found.block} ({moment(found.timestamp)} UTC) over {found.paths:,} paths of suite {found.suite}.",
            width,
        ),
        "",
    ]
    sets = [("present", found.present)]
    sets += [("recommended", found.best.values)] if found.best is not None else []
    sets += [("runner-up", found.runner_up.values)] if found.runner_up is not None else []
    head = ("", *(name for name, _ in sets))
    body: list[tuple[str, ...]] = [
        (name, *(f"{values[place] / 100:.2f} %" for _, values in sets)) for place, name in enumerate(found.names)
    ]
    for label, by in (("held in", found.judged), ("fresh paths", found.fresh), ("end of history", found.later)):
        own = [by[values] for _, values in sets]
        body.append((f"{label}: borrowing power", *(amount(one.power) for one in own)))
        body.append((f"VaR{percent} of bad debt", *(amount(one.bad_debt.var) for one in own)))
        body.append(("95 % interval", *(_between(one.bad_debt.var_low, one.bad_debt.var_high, amount) for one in own)))
        body.append(("ES", *(amount(one.bad_debt.es) for one in own)))
        body.append((f"LaR{percent}", *(amount(one.liquidated.var) for one in own)))
        if question.withstand:
            body.append((f"after −{question.withstand / 100:g} % at once", *(amount(one.fallen) for one in own)))
    lines += [table(Table(head, tuple(body))), ""]
    replays = [
        (
            f"{name}, {own.window}",
            amount(own.present),
            amount(own.proposed),
            f"{amount(own.low)}..{amount(own.high)}",
            _span(own.by_response, amount),
            _span(own.power, amount),
            f"{own.newly:,} ({amount(own.newly_debt)})",
        )
        for name, values in sets
        for own in found.held.get(values, ())
    ]
    if replays:
        heads = (
            "replays",
            "bad debt",
            "then",
            "95 % interval",
            "by response",
            "power by response",
            "liquidatable at once",
        )
        lines += [table(Table(heads, tuple(replays))), ""]
    lines += wrap(" ".join(_said(found)), width)
    return "\n".join(lines) + "\n"


def _between(low: int | None, high: int | None, amount: Callable[[int | None], str]) -> str:
    return f"{'below' if low is None else amount(low)}..{'unknown' if high is None else amount(high)}"


def _span(by: Mapping[str, int], amount: Callable[[int | None], str]) -> str:
    return f"{amount(min(by.values()))}..{amount(max(by.values()))}" if by else "–"


def _answer(found: Recommendation, amount: Callable[[int | None], str]) -> str:
    """The first sentences."""
    reserves = found.question.reserves
    present = found.judged.get(found.present)
    if found.best is None:
        least = min(
            (one for one in found.sought.tried if one.risk is not None), key=lambda one: one.risk or 0, default=None
        )
        text = f"no set within the bounds that was looked at keeps bad debt within reserves of {amount(reserves)}"
        if least is not None:
            text += f"; the least is {amount(least.risk)}, of {_words(found.names, least.values)}"
        return text + ". Nothing is recommended."
    own = found.judged[found.best.values]
    if found.best.values == found.present:
        return f"the present set: none that was looked at does more within reserves of {amount(reserves)}."
    assert present is not None
    if found.question.aim == "borrowing-power":
        change = f"borrowing power {amount(present.power)} becomes {amount(own.power)}"
    elif found.question.aim == "protocol-fee":
        change = f"the mean protocol fee of a path {amount(present.fee)} becomes {amount(own.fee)}"
    else:
        change = f"debt liquidated in the mean {amount(present.liquidated.mean)} becomes {amount(own.liquidated.mean)}"
    held_out = "Fresh paths, the later book and the held-out window keep the limit too."
    if not found.holds_out:
        held_out = "It does NOT hold out: see where the limit is passed below"
        looks = (found.fresh[found.present], found.later[found.present])
        held_out += "; nor does the present set." if max(one.risk for one in looks) > reserves else "."
    return f"{_words(found.names, found.best.values)}: {change}. {held_out}"


def _words(names: Sequence[str], values: Values) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def _said(found: Recommendation) -> list[str]:
    """Why it stopped, what binds, and what the figures cannot say."""
    question = found.question
    lines = [found.why_stopped]
    if found.best is not None:
        own = found.judged[found.best.values]
        if found.at_bounds:
            lines.append(f"At its bound of change: {', '.join(found.at_bounds)}.")
        high = own.bad_debt.var_high
        if high is None:
            needed = paths_needed(question.level)
            lines.append(f"{found.paths:,} paths give VaR no upper end: take {needed:,} or more (--paths).")
        elif own.bad_debt.var <= question.reserves < high:
            lines.append("The interval of VaR reaches beyond reserves: more paths may say otherwise.")
        if not own.bad_debt.losing and own.fallen is None:
            lines.append(
                "No path leaves bad debt, so that the bounds of change bind and not the reserves: take harder shocks or"
                " liquidators who are late (--suite), or a fall to withstand (--withstand)."
            )
    if found.best is not None:
        lines += dict.fromkeys(text for one in found.held.get(found.best.values, ()) for text in one.warnings)
    if found.dropped:
        sets = "; ".join(_words(found.names, values) for values in found.dropped)
        lines.append(f"Replays of the held-in window spoke against: {sets}.")
    return lines
