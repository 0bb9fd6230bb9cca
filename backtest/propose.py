"""A proposed change of parameters, answered: what it does the moment it takes effect, what it would have done over a
market's history under a baseline of liquidators, and after falls of prices.

Baseline and proposal are replayed under the same draws of the model and the same keyed seeds; the runs are stored as a
sweep of the lake, so that the same question again reads them. History of the same blocks is replayed with them: a
verdict depends on the data and on the question, not on what happens to be stored.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from backtest import files
from backtest.errors import ScenarioError, UserError, did_you_mean
from backtest.joint import JointMember, members_of, named_in, parts_of
from backtest.lake import Lake
from backtest.model import AssetId, Market
from backtest.paired import DRAWS, FRICTIONLESS, SEEDS, PairedPlan, executor_for, said, window_of
from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.replay import ENGINE_VERSION
from backtest.replay.mechanisms.lint import warnings
from backtest.replay.timeline import Timeline
from backtest.replay.what_if import proposal as what_if
from backtest.replay.what_if.overrides import EMODE, check
from backtest.report import proposal as report
from backtest.report.proposal import several, stored
from backtest.report.selection import Row, printable
from backtest.report.tables import data_flags
from backtest.results import Material, load_material, run_all
from backtest.risk.falling import held, that_moved
from backtest.scenario import (
    PARAMETERS,
    RESPONSES,
    Competitive,
    Joint,
    Override,
    Scenario,
    parse_override,
    seconds_of,
)
from backtest.scenario.ensemble import Ensemble, parse_ensemble
from backtest.scenario.joint import unmet
from backtest.scenario.settled import settled
from backtest.sweep import Progress, carry_out
from backtest.sweep.plan import Plan
from backtest.sweep.spec import Level
from backtest.tables import RULES_VERSION

NAMED = "frictionless liquidators, who always come at once, cost nothing and never run short"
FALLS = (1_000, 2_000, 3_000, 4_000, 5_000)
"""Of prices, basis points."""
SHOCKED = 4
"""Assets that fall alone, at most, those of the proposal aside."""
STEPS, DAYS = 10, 30
"""The ramp that a change at once is held beside."""
MOST_POINTS = 150


@dataclass(frozen=True, slots=True)
class ProposalQuestion:
    """What is asked.

    Attributes:
        sets: changed parameters, as on the command line.
        ensemble: who liquidates; None: frictionless liquidators.
        draws: draws of the ensemble, at most. seeds: seeds of each draw, from ``seed`` on; one where nothing is drawn.
        within: with a number, also a search around the proposal, up to so many basis points away.
        responses: how users respond: as in history (``frozen``, first) and in other ways; empty: every stated one, and
            the fitted one where the market's lake keeps it.
        joint: several markets that are replayed together: the answer is of all of them, with one of each.
    """

    sets: tuple[str, ...]
    ensemble: Ensemble | None = None
    draws: int = DRAWS
    seeds: int = SEEDS
    seed: int = 0
    from_block: int | None = None
    to_block: int | None = None
    allow_invalid: bool = False
    within: int | None = None
    responses: tuple[str, ...] = ()
    joint: Joint | None = None


def ensemble_of(path: Path) -> Ensemble:
    """The ensemble of a file. UserError, one line, where it is none."""
    return parse_ensemble(files.read_text(path), str(path))


def propose(
    lake: Lake,
    market: str,
    question: ProposalQuestion,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> report.Proposal:
    """Answer a question about a market of a lake; runs that the lake lacks are replayed and stored.

    Args:
        market: of several, which ``question.joint`` names, the first.
        workers: processes; None: one a core, where it is worth starting them.
        progress: called with the number of replays settled, of all, and of those that failed.

    Raises:
        UserError: the market has no current tables; the change makes no sense or is one that the market's configurator
            refuses; a number that does not do.
    """
    _check(question)
    lake.refresh()
    markets = markets_of(lake, market, question.joint)
    overrides = markets.overrides([parse_override(text) for text in question.sets])
    markets.refuse(overrides, allow_invalid=question.allow_invalid)
    asked = _Asked(question, overrides, markets)
    search = None if question.within is None else _Grid(asked, overrides)
    plans = [asked.plan, *([] if search is None else [search.plan])]
    whole = sum(len(plan.scenarios) for plan in plans)
    before = 0
    for plan in plans:

        def shown(done: int, total: int, failed: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, whole, failed)

        executor = executor_for(workers, len(plan.scenarios) * markets.events)
        outcome = carry_out(lake, plan, executor, retry=True, progress=shown)
        if outcome.failed:
            name, reason = outcome.failed[0]
            raise UserError(f"a replay of the proposal failed ({name}): {reason}", "mend that, and ask again")
        before += len(plan.scenarios)

    def query(text: str) -> list[Row]:
        return printable(lake.sql(text).to_arrow_table().to_pylist())

    told = _told(lake, asked, query)
    return told if search is None else told.searched(search.found(query))


def _check(question: ProposalQuestion) -> None:
    if not question.sets:
        raise UserError("nothing is proposed", "say what changes: --set WETH.liquidation_threshold=8000")
    for name, value in (("--draws", question.draws), ("--seeds", question.seeds)):
        if value < 1:
            raise UserError(f"{name} {value}", "give 1 or more")
    if question.within is not None and question.within < 1:
        raise UserError(f"--within {question.within}", "give basis points, 1 or more")


@dataclass(frozen=True, slots=True)
class AskedMarkets:
    """The markets of a question, the first one first; ``members`` is empty where it is one."""

    materials: tuple[Material, ...]
    members: tuple[JointMember, ...]
    joint: Joint | None

    @property
    def events(self) -> int:
        """Of all their histories."""
        return sum(len(material.timeline()) for material in self.materials)

    def name_of(self, text: str) -> str:
        """The name that the first market has for an asset that has it."""
        return named_in(self.members, text) if self.members else self.materials[0].market.name_of(text)

    def worth(self, place: int) -> Fraction:
        """How many base units of the first market one of its own is."""
        return self.members[place].worth if self.members else Fraction(1)

    def overrides(self, asked: Sequence[Override]) -> tuple[Override, ...]:
        """Changes with one name for each asset, in an order of their own."""
        named = Scenario(liquidators=Competitive(), overrides=tuple(asked), joint=self.joint)
        return settled(named, self.name_of).overrides

    def parts(self, scenario: Scenario) -> list[Scenario]:
        """What of a scenario holds in each market, over its own blocks."""
        return parts_of(scenario, self.members, self.materials)[0] if self.members else [scenario]

    def own(self, overrides: Sequence[Override]) -> list[tuple[Override, ...]]:
        """Those of each market, with its own names of assets."""
        scenario = Scenario(liquidators=Competitive(), overrides=tuple(overrides), joint=self.joint, allow_invalid=True)
        return [part.overrides for part in self.parts(scenario)]

    def refuse(self, overrides: Sequence[Override], *, allow_invalid: bool) -> None:
        """ScenarioError for changes that a market's configurator would refuse, or that touch nothing."""
        if self.members:
            scenario = Scenario(liquidators=Competitive(), overrides=tuple(overrides), joint=self.joint)
            unmet(scenario, {member.config.name: (member.has, member.parameters) for member in self.members})
        for material, own in zip(self.materials, self.own(overrides), strict=True):
            protocol = protocol_named(material.config.protocol)
            parameters, fault = protocol.parameters, protocol.fault
            try:
                check(material.market, own, material.timeline(), parameters, fault, allow_invalid=allow_invalid)
            except ScenarioError as error:
                if not self.members:
                    raise
                raise ScenarioError(f"{material.market.name}: {error.what}", error.fix) from None

    def present(self, override: Override, blocks: Sequence[int], option: str = "--best") -> int:
        """The value of the one parameter that an override changes at the end of a block of each market, in the words'
        units. UserError, which names the option, where that is not one number in basis points, or another in each.
        """
        found = {
            present_of(own[0], material.market, material.timeline(), protocol, block, option): material.market.name
            for material, own, block in zip(self.materials, self.own([override]), blocks, strict=True)
            if own and (protocol := protocol_named(material.config.protocol))
        }
        if len(found) > 1:
            names = " and ".join(found.values())
            raise UserError(
                f"{option} {spoken(override)} is another number in {names}",
                f"name one of the markets: {names.split(' ')[0]}:{spoken(override)}",
            )
        return next(iter(found))


def markets_of(lake: Lake, market: str, joint: Joint | None) -> AskedMarkets:
    """The market of a question, or the several that it names. UserError as ``joint.members_of``; ``market`` is not the
    first of them.
    """
    if joint is None:
        return AskedMarkets((load_material(lake, market),), (), None)
    if market != joint.markets[0]:
        raise UserError(f"market '{market}' where {', '.join(joint.markets)} are asked about", "leave one out")
    members = members_of(lake, joint)
    return AskedMarkets(tuple(load_material(lake, name) for name in joint.markets), tuple(members), joint)


# -- which runs -------------------------------------------------------------------------------------------------------


class _Asked(PairedPlan):
    """The runs that a question takes; changes without a moment hold from the window's first block on."""

    def __init__(self, question: ProposalQuestion, overrides: tuple[Override, ...], markets: AskedMarkets) -> None:
        self.question, self.overrides, self.markets = question, overrides, markets
        self.first, self.last = question.from_block, question.to_block
        self.ends = markets.materials[0].timeline().last_known_block(self.last)
        if (self.first or 0) > self.ends:
            raise UserError(f"the window begins at block {self.first}, after its end, {self.ends}", "swap the blocks")
        ensemble = (question.ensemble or FRICTIONLESS).at_most(question.draws)
        words = " ".join(question.sets)
        super().__init__(
            self.under(overrides),
            words,
            ensemble,
            question.seeds,
            markets.materials[0],
            verb="propose",
            responses=question.responses,
            members=markets.members,
        )

    def part(self, run_id: str, scenario: Scenario, place: int) -> str:
        """The id of one market's run of a run of the plan."""
        return run_id if place == 0 else self.run_of(scenario, place)

    def outcomes(self, query: Callable[[str], list[Row]], plan: Plan) -> dict[str, report.ProposalOutcome]:
        """What the runs of a plan came to, of several markets all of them together, by their ids in the plan."""
        parts = [self.outcomes_in(query, plan, place) for place in range(len(self.markets.materials))]
        if len(parts) == 1:
            return parts[0]
        worths = [self.markets.worth(place) for place in range(len(parts))]
        return {
            run_id: several.outcome_of([(worth, own[run_id]) for worth, own in zip(worths, parts, strict=True)])
            for run_id in plan.scenarios
        }

    def outcomes_in(
        self, query: Callable[[str], list[Row]], plan: Plan, place: int
    ) -> dict[str, report.ProposalOutcome]:
        """Those of one market, in its own base units."""
        ids = {run_id: self.part(run_id, scenario, place) for run_id, scenario in plan.scenarios.items()}
        found = stored.outcomes(query, list(ids.values()))
        return {run_id: found[own] for run_id, own in ids.items()}

    def ends_of(self) -> list[int]:
        """The last block of each market."""
        return [
            material.timeline().last_known_block(part.to_block)
            for material, part in zip(self.markets.materials, self.markets.parts(self.altered), strict=True)
        ]

    def under(self, overrides: Sequence[Override]) -> Scenario:
        """The question's scenario with these changes."""
        first = self.first
        moved = tuple(
            replace(each, from_block=first) if first and not each.from_block and each.from_time is None else each
            for each in overrides
        )
        return Scenario(
            overrides=moved,
            allow_invalid=bool(overrides) and self.question.allow_invalid,
            from_block=first,
            to_block=self.last,
            seed=self.question.seed,
            liquidators=Competitive(),
            joint=self.markets.joint,
        )


class _Grid:
    """The runs of a search around the proposal."""

    def __init__(
        self,
        asked: _Asked,
        overrides: tuple[Override, ...],
    ) -> None:
        within, markets = asked.question.within or 0, asked.markets
        ends = asked.ends_of()
        present = tuple(markets.present(each, ends) for each in overrides)
        proposed = tuple(
            each.value if each.value is not None else now + (each.change or 0)
            for each, now in zip(overrides, present, strict=True)
        )
        few = len(overrides) > 2
        levels = [
            _levels(each, now, then, within, few=few)
            for each, now, then in zip(overrides, present, proposed, strict=True)
        ]
        sets = list(itertools.product(*levels))
        if len(sets) > MOST_POINTS:
            raise UserError(f"--best over {len(overrides)} parameters", "propose fewer of them: 3 at most")
        self._asked = asked
        self._refused: dict[tuple[int, ...], str] = {}
        self._ids: dict[tuple[int, ...], list[tuple[float, str]]] = {}
        weights = asked.ensemble.weights
        rows: list[tuple[dict[str, Level] | None, str, Scenario]] = []
        names = tuple(spoken(each) for each in overrides)
        for values in sets:
            own = tuple(replace(each, value=value, change=None) for each, value in zip(overrides, values, strict=True))
            try:
                markets.refuse(own, allow_invalid=asked.question.allow_invalid)
            except ScenarioError as error:
                self._refused[values] = error.what
                continue
            for place in asked.heaviest:
                words = " ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
                name = f"{words}, draw {place + 1}"
                made = asked.scenario(asked.under(own), place, asked.question.seed, RESPONSES[0], name)
                rows.append(({**dict(zip(names, values, strict=True)), "draw": place + 1}, RESPONSES[0], made))
                self._ids.setdefault(values, []).append((weights[place], asked.run_of(made)))
        base = asked.scenario(asked.baseline, asked.heaviest[0], asked.question.seed, RESPONSES[0], "present")
        self.plan = asked.planned(f"propose --best {' '.join(asked.question.sets)}", rows, base)
        self._names, self._present, self._proposed, self._within = names, present, proposed, within

    def found(self, query: Callable[[str], list[Row]]) -> report.Search:
        """What they came to."""
        outcomes = self._asked.outcomes(query, self.plan)
        points = [
            report.Point(values, _mean([(weight, outcomes[run_id].totals) for weight, run_id in own]))
            for values, own in self._ids.items()
        ]
        points += [report.Point(values, None, why) for values, why in self._refused.items()]
        points.sort(key=lambda point: point.values)
        return report.Search(
            names=self._names,
            present=self._present,
            proposed=self._proposed,
            within=self._within,
            points=tuple(points),
            runs=len(outcomes),
        )


def _mean(parts: Sequence[tuple[float, Mapping[str, int]]]) -> dict[str, int]:
    whole = sum(weight for weight, _ in parts)
    return {key: round(sum(weight * totals[key] for weight, totals in parts) / whole) for key in parts[0][1]}


def present_of(
    override: Override,
    market: Market,
    timeline: Timeline,
    protocol: LendingProtocol[Any],
    block: int,
    option: str = "--best",
) -> int:
    """The value that history has at a block of the one parameter that an override changes, in the words' units.
    UserError, which names the option, where that is not one number in basis points.
    """
    word = PARAMETERS[override.parameter]
    asset = None if override.asset is None else market.asset_named(override.asset)
    if override.asset is not None and asset is None:
        raise UserError(
            f"{option} {spoken(override)}: market {market.name} has no asset '{override.asset}'",
            did_you_mean(override.asset, market.names),
        )
    place = (
        (EMODE + override.parameter, None, override.emode)
        if isinstance(override.emode, int)
        else (override.parameter, None if asset is None else asset.id, None)
    )
    of_parts = word.per_part and any(c.name == override.parameter and c.asset is not None for c in timeline.params)
    several = (word.per_asset or of_parts) and place[1:] == (None, None)
    if word.unit != "basis points" or several or override.emode == "all":
        raise UserError(
            f"{option} with {spoken(override)}, which is not one number in basis points",
            "name one asset or one e-mode category of each parameter",
        )
    known = [
        change.value
        for change in timeline.params
        if change.block_number <= block and (change.name, change.asset, change.category) == place
    ]
    if not known:
        raise UserError(f"{option} with {spoken(override)}, which history never set", "propose another parameter")
    return known[-1] // protocol.parameters[override.parameter]


def _levels(override: Override, present: int, proposed: int, within: int, *, few: bool) -> list[int]:
    """Values around the proposal, and the present one."""
    word = PARAMETERS[override.parameter]
    steps = (-within, 0, within) if few else (-within, -(within // 2), 0, within // 2, within)
    values = {present, *(proposed + step for step in steps)}
    return sorted(value for value in values if word.low <= value <= word.high)


def spoken(override: Override) -> str:
    """The one parameter that an override changes, as on the command line."""
    of = f"emode{override.emode}" if isinstance(override.emode, int) else override.asset
    name = f"{of}.{override.parameter}" if of else override.parameter
    return name if override.market is None else f"{override.market}:{name}"


# -- the answer -------------------------------------------------------------------------------------------------------


def _told(lake: Lake, asked: _Asked, query: Callable[[str], list[Row]]) -> report.Proposal:
    markets = asked.markets
    parts = asked.markets.parts(asked.altered)
    histories = [
        asked.history if not markets.members else _history(lake, material.config.name, part)
        for material, part in zip(markets.materials, parts, strict=True)
    ]
    told = [
        _told_in(lake, asked, query, place, overrides, history)
        for place, (overrides, history) in enumerate(zip(markets.own(asked.overrides), histories, strict=True))
    ]
    if len(told) == 1:
        return told[0]
    outcomes = asked.outcomes(query, asked.plan)
    worths = [markets.worth(place) for place in range(len(told))]
    past = [stored.outcomes(query, [history])[history] for history in histories]
    ids = [
        asked.part(run_id, scenario, place)
        for run_id, scenario in asked.plan.scenarios.items()
        for place in range(len(told))
    ]
    runs = asked.runs(outcomes)
    population = stored.population(query, ids)
    findings, largest = report.findings_of(
        runs,
        several.outcome_of(list(zip(worths, past, strict=True))),
        population=population,
        seed=asked.question.seed,
        random=asked.random,
        ensemble=len(asked.ensemble.draw) > 1,
    )
    whole = several.proposal_of(list(zip(worths, told, strict=True)), findings, largest)
    return dataclasses.replace(whole, population=population, changes=_changes(asked.question))


def _history(lake: Lake, market: str, window: Scenario) -> str:
    """The run of a market's own liquidations in a window."""
    history = Scenario(from_block=window.from_block, to_block=window.to_block)
    [run] = run_all(lake, market, [history], renamed=())
    lake.refresh()
    return run.run_id


def _changes(question: ProposalQuestion) -> tuple[str, ...]:
    return tuple(text.strip() for text in question.sets)


def _told_in(
    lake: Lake,
    asked: _Asked,
    query: Callable[[str], list[Row]],
    place: int,
    overrides: tuple[Override, ...],
    history: str,
) -> report.Proposal:
    """Of one market, in its own base units; of several beside the others."""
    question, material = asked.question, asked.markets.materials[place]
    timeline, config, protocol = material.timeline(), material.config, protocol_named(material.config.protocol)
    scenarios = asked.plan.scenarios
    run_ids = [asked.part(run_id, scenario, place) for run_id, scenario in scenarios.items()]
    outcomes = asked.outcomes_in(query, asked.plan, place)
    past = outcomes[history] if history in outcomes else stored.outcomes(query, [history])[history]
    population = stored.population(query, run_ids)
    rows, notes = stored.described(query, [run_id for run_id in run_ids if run_id != history])
    ensemble = len(asked.ensemble.draw) > 1
    runs = asked.runs(outcomes)
    findings, largest = report.findings_of(
        runs, past, population=population, seed=question.seed, random=asked.random, ensemble=ensemble
    )
    block, ended = _moment(overrides, timeline, asked.ends_of()[place])
    book = what_if.book_at(protocol, material.market, timeline, block, ended=ended)
    at_once = what_if.at_once(overrides)
    named = Scenario(liquidators=Competitive(), overrides=at_once, allow_invalid=True)
    window = asked.markets.parts(asked.altered)[place]
    return report.Proposal(
        market=config.name,
        markets=(config.name,),
        lake=str(lake.path),
        currency=config.base_currency,
        decimals=config.base_decimals,
        changes=_changes(question) if not asked.markets.members else tuple(map(_worded, overrides)),
        baseline=NAMED
        if question.ensemble is None
        else said(question.ensemble, config.name, window_of(window, material)),
        frictionless=question.ensemble is None,
        ensemble=ensemble,
        draws=len(asked.ensemble.draw),
        seeds=len(asked.seeds),
        seed=question.seed,
        from_block=rows[0]["from_block"],
        to_block=rows[0]["to_block"],
        from_timestamp=rows[0]["from_timestamp"],
        to_timestamp=rows[0]["to_timestamp"],
        digest=material.digest,
        rules=RULES_VERSION,
        engine=ENGINE_VERSION,
        population=population,
        largest=largest,
        refused=report.refused_of(runs),
        terms=tuple(_terms(book, timeline, overrides)),
        warnings=(
            *warnings(protocol, material.market, timeline, named, block),
            *_meeting(book, timeline, overrides),
        ),
        moment=_at_once(book, timeline, overrides),
        findings=findings,
        shocks=tuple(_shocks(book, timeline, overrides, material.tables)),
        flags=tuple(data_flags(rows)),
        notes=tuple(notes),
        runs=len(run_ids),
        sweep=asked.plan.sweep_id,
        responses=asked.responses,
    )


def _worded(override: Override) -> str:
    """A change in few words: without its moment."""
    if override.value is not None:
        return f"{spoken(override)}={override.value}"
    return f"{spoken(override)}{'+' if (override.change or 0) >= 0 else '-'}={abs(override.change or 0)}"


def _moment(overrides: Sequence[Override], timeline: Timeline, ends: int) -> tuple[int, bool]:
    """When the change takes effect: before the first block that it names, or at the end of the window."""
    blocks = [
        timeline.block_from(seconds_of(each.from_time, "time")) if each.from_time is not None else each.from_block
        for each in overrides
        if each.from_block or each.from_time is not None
    ]
    first = min(blocks, default=None)
    return (ends, True) if first is None or first > ends else (max(first, timeline.first_block), False)


def _at_once(book: Book[Any], timeline: Timeline, overrides: Sequence[Override]) -> report.ProposalMoment:
    effect = what_if.effect_of(book, timeline, overrides, STEPS)
    return report.ProposalMoment(
        block=book.now.block_number,
        timestamp=book.now.timestamp,
        touched=effect.touched,
        of=effect.of,
        left_alone=effect.left_alone,
        newly=tuple(
            report.Newly(
                account=book.market.accounts[made.after.account],
                debt=made.after.debt_base,
                collateral=made.after.collateral_base,
                health_before=made.before.health or 0,
                health_after=made.after.health or 0,
                step=made.step,
            )
            for made in effect.made
        ),
        power_before=effect.power_before,
        power_after=effect.power_after,
        steps=STEPS,
        days=DAYS,
    )


def _places(
    book: Book[Any], timeline: Timeline, overrides: Sequence[Override]
) -> dict[tuple[AssetId | None, int | None], dict[str, tuple[int | None, int]]]:
    """By asset or category that the change touches: every parameter that a scenario may change, present and proposed,
    in the words' units.
    """
    units = book.protocol.parameters
    now: dict[tuple[str, AssetId | None, int | None], int] = {}
    for change in timeline.params:
        if (change.block_number, change.log_index) <= (book.now.block_number, book.now.log_index):
            now[change.name, change.asset, change.category] = change.value
    then = dict(now)
    for changes in what_if.changes_of(book, timeline, overrides):
        then |= {(change.name, change.asset, change.category): change.value for change in changes}
    touched = {key[1:] for key, value in then.items() if now.get(key) != value}
    for each in overrides:
        asset = None if each.asset is None else book.market.asset_named(each.asset)
        touched |= {(None if asset is None else asset.id, each.emode if isinstance(each.emode, int) else None)}
    found: dict[tuple[AssetId | None, int | None], dict[str, tuple[int | None, int]]] = {}
    for (name, asset_id, category), value in then.items():
        plain = name.removeprefix(EMODE)
        if plain in units and (asset_id, category) in touched:
            before = now.get((name, asset_id, category))
            own = (None if before is None else before // units[plain], value // units[plain])
            found.setdefault((asset_id, category), {})[plain] = own
    return dict(sorted(found.items(), key=lambda item: str(item[0])))


def _terms(book: Book[Any], timeline: Timeline, overrides: Sequence[Override]) -> list[report.Term]:
    collateral = {"ltv", "liquidation_threshold", "liquidation_bonus"}
    found = []
    for place, values in _places(book, timeline, overrides).items():
        for name in sorted(values, key=list(PARAMETERS).index):
            present, proposed = values[name]
            if present != proposed or name in collateral:
                plain = PARAMETERS[name].unit == "basis points"
                found.append(report.Term(_said(book.market, *place), name, present, proposed, plain))
    return found


def _meeting(book: Book[Any], timeline: Timeline, overrides: Sequence[Override]) -> list[str]:
    """Where a threshold meets the loan-to-value: a loan of all that is allowed may be liquidated at once."""
    found = []
    for place, values in _places(book, timeline, overrides).items():
        ltv, threshold = (values.get(name, (None, 0))[1] for name in ("ltv", "liquidation_threshold"))
        if ltv and threshold <= ltv:
            found.append(
                f"Warning: {_said(book.market, *place)}: the threshold ({threshold / 100:g} %) meets the loan-to-value"
                f" ({ltv / 100:g} %): whoever borrows all that is allowed may be liquidated at the next interest."
            )
    return found


def _said(market: Market, asset: AssetId | None, category: int | None) -> str:
    if category is not None:
        return f"e-mode {category}"
    return "market" if asset is None else market.label(asset)


def _shocks(
    book: Book[Any], timeline: Timeline, overrides: Sequence[Override], tables: Mapping[str, pa.Table]
) -> list[report.Shock]:
    """Falls of the proposal's assets, of others that moved, and of all that moved together."""
    market, proposed = book.market, what_if.changed(book, timeline, overrides)
    moved, own = that_moved(tables["prices"]), []
    for place in _places(book, timeline, overrides):
        own += [place[0]] if place[0] is not None and place[0] in book.oracle else []
    seized = pc.value_counts(tables["liquidations"]["collateral_asset_id"]).to_pylist()
    often = [AssetId(one["values"]) for one in sorted(seized, key=lambda one: (-one["counts"], one["values"]))]
    alone = list(dict.fromkeys([*own, *[asset for asset in often if asset in moved][:SHOCKED]]))
    cases: dict[str, tuple[AssetId, ...]] = {market.label(asset): (asset,) for asset in alone}
    if len(moved) > 1:
        cases["all that move"] = tuple(moved)
    elif moved:  # the last case is of all that move
        cases[market.label(moved[0])] = cases.pop(market.label(moved[0]), tuple(moved))
    elif (ever := tuple(held(tables["position_events"]))) not in cases.values():
        cases["all collateral"] = ever
    found = []
    for label, assets in cases.items():
        for fall in FALLS if assets else ():
            one, other = (what_if.after_fall(each, assets, fall) for each in (book, proposed))
            acted = one.repaid_base is not None and other.repaid_base is not None
            found.append(
                report.Shock(
                    assets=label,
                    fall=fall,
                    accounts=(one.accounts, other.accounts),
                    debt=(one.debt_base, other.debt_base),
                    repaid=(one.repaid_base or 0, other.repaid_base or 0) if acted else None,
                    bad_debt=(one.bad_debt_base, other.bad_debt_base),
                )
            )
    return found
