"""A change of parameters and its baseline under the same draws of who liquidates and the same keyed seeds: which runs
that takes, what they came to, and the calibrated ensemble that a lake keeps for such questions.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

import pyarrow as pa
from msgspec.structs import replace

from backtest.errors import UserError
from backtest.joint import JointMember, joint_ids, named_in
from backtest.lake import Lake
from backtest.replay import ENGINE_VERSION
from backtest.report import proposal as report
from backtest.report.proposal import stored
from backtest.report.selection import Row, printable
from backtest.result_tables import ENSEMBLES
from backtest.results import Material, baseline_of, load_material, responding_by, run_id_of
from backtest.scenario import FITTED, RESPONSES, Competitive, Scenario, draws
from backtest.scenario.ensemble import Draw, Ensemble, drawn, parse_ensemble
from backtest.scenario.settled import settled
from backtest.sweep import Executor, Processes, Progress, Serial, Sweep, carry_out
from backtest.sweep.plan import Plan, Planned
from backtest.sweep.spec import Axis, Level, Window
from backtest.tables import RULES_VERSION

FRICTIONLESS = Ensemble(draw=(Draw(weight=1.0, liquidators=Competitive()),))
DRAWS, SEEDS = 6, 2
"""Of an ensemble, where a question does not say how many."""
HEAVIEST = 2
"""Draws of the ensemble under which users' responses, and the sets of a search, are replayed."""
_SMALL = 100_000
"""Events to replay in all, below which starting processes takes longer than they save."""


class PairedPlan:
    """The runs that a change takes, over the blocks of its scenario.

    Args:
        altered: the change, whoever liquidates in it; its seed is the first of ``seeds``.
        words: what the runs and the plan are called by, after ``verb``.
        ensemble: who liquidates, all draws of it.
        seeds: of each draw, where one draws; else one is replayed.
        responses: of users under the heaviest draws, as in history (``frozen``) first; empty: every stated one, and the
            fitted one where the lake of the one market keeps it.
        members: of several markets, which ``altered.joint`` names, all of them; ``material`` is the first one's. Its
            history is not among the runs then: each market's own is.
    """

    def __init__(
        self,
        altered: Scenario,
        words: str,
        ensemble: Ensemble,
        seeds: int,
        material: Material,
        *,
        verb: str,
        responses: Sequence[str] = (),
        members: Sequence[JointMember] = (),
    ) -> None:
        self._members = members
        self.altered, self.baseline, self.ensemble, self.material = altered, baseline_of(altered), ensemble, material
        self.random = any(draws(draw.liquidators) for draw in ensemble.draw)
        self.seeds = range(altered.seed, altered.seed + (seeds if self.random else 1))
        weights = ensemble.weights
        self.heaviest = sorted(range(len(weights)), key=lambda draw: (-weights[draw], draw))[:HEAVIEST]
        self.cells: dict[tuple[int, int, str], tuple[str, str]] = {}
        """Draw, seed and response to the ids of the change's run and its baseline's."""
        self._verb, self.responses = verb, tuple(responses) or responses_for(material, members)
        self.plan = self._plan(words)

    def scenario(self, base: Scenario, draw: int, seed: int, response: str, name: str) -> Scenario:
        """One run."""
        fitted = None if self._members else self.material.fitted
        own = responding_by(replace(base, name=name, seed=seed), response, fitted)
        return settled(drawn(own, self.ensemble.draw[draw]), self.name_of)

    def name_of(self, text: str) -> str:
        """The one name of an asset that is given by symbol or address."""
        return named_in(self._members, text) if self._members else self.material.market.name_of(text)

    def run_of(self, scenario: Scenario, place: int = 0) -> str:
        """The id of a scenario's run, of several markets of that at ``place``."""
        if self._members:
            return joint_ids(scenario, self._members)[1][place]
        return run_id_of(scenario, self.material.market.name, self.material.digest)

    def planned(self, name: str, rows: Sequence[tuple[dict[str, Level] | None, str, Scenario]], base: Scenario) -> Plan:
        """Scenarios with their points (None: a baseline, or history) as the plan of a sweep."""
        market, digest = self.material.market.name, self.material.digest
        points: list[Mapping[str, Level]] = []
        made: list[Planned] = []
        scenarios: dict[str, Scenario] = {}
        for values, response, scenario in rows:
            if values is not None and values not in points:
                points.append(values)
            run_id = self.run_of(scenario)
            place = None if values is None else points.index(values)
            made.append(Planned(len(made), place, "all", response, scenario.name, run_id))
            scenarios.setdefault(run_id, scenario)
        levels: dict[str, list[Level]] = {}
        for point in points:
            for label, level in point.items():
                if level not in levels.setdefault(label, []):
                    levels[label].append(level)
        axes = tuple(Axis(field="seed", name=label, values=tuple(own)) for label, own in levels.items())
        spec = Sweep(name=name, scenario=base, axes=axes)
        body = json.dumps([market, digest, RULES_VERSION, ENGINE_VERSION, *(row.run_id for row in made)])
        sweep_id = hashlib.sha256(f"{self._verb} {body}".encode()).hexdigest()
        window = Window(name="all", from_block=self.altered.from_block, to_block=self.altered.to_block)
        beside = tuple(member.config.name for member in self._members[1:])
        return Plan(
            spec, sweep_id, market, digest, (window,), tuple(points), levels, tuple(made), scenarios, beside=beside
        )

    def _plan(self, words: str) -> Plan:
        rows: list[tuple[dict[str, Level] | None, str, Scenario]] = []
        present: list[tuple[dict[str, Level] | None, str, Scenario]] = []
        if not self._members:
            history = Scenario(from_block=self.altered.from_block, to_block=self.altered.to_block)
            history = settled(history, self.name_of)
            self.history = self.run_of(history)
            present.append((None, "frozen", history))
        for draw in range(len(self.ensemble.draw)):
            for response in self.responses if draw in self.heaviest else RESPONSES[:1]:
                for seed in self.seeds if response == RESPONSES[0] else self.seeds[:1]:
                    which = f"draw {draw + 1}, seed {seed}, {response}"
                    ours = self.scenario(self.altered, draw, seed, response, f"{words}, {which}")
                    theirs = self.scenario(self.baseline, draw, seed, response, f"present, {which}")
                    self.cells[draw, seed, response] = self.run_of(ours), self.run_of(theirs)
                    rows.append(({"draw": draw + 1, "seed": seed}, response, ours))
                    present.append((None, response, theirs))
        return self.planned(f"{self._verb} {words}", [*rows, *present], rows[0][2])

    def runs(self, outcomes: Mapping[str, report.ProposalOutcome]) -> list[report.ProposalRun]:
        """What they came to."""
        weights = self.ensemble.weights
        return [
            report.ProposalRun(draw, weights[draw], seed, response, outcomes[ours], outcomes[theirs])
            for (draw, seed, response), (ours, theirs) in self.cells.items()
        ]


def responses_for(material: Material, members: Sequence[JointMember]) -> tuple[str, ...]:
    """How users respond where a question does not say: those of several markets are fitted to none of them."""
    return RESPONSES if members or material.fitted is None else (*RESPONSES, FITTED)


def executor_for(workers: int | None, events: int) -> Executor:
    """Who replays: processes, where so many events are worth starting them. UserError for fewer than one."""
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}", "give 1 or more")
    count = workers or (1 if events < _SMALL else os.cpu_count() or 1)
    return Processes(count) if count > 1 else Serial()


# -- a verdict of its own ----------------------------------------------------------------------------------------------


def paired_verdict(
    lake: Lake,
    market: str,
    altered: Scenario,
    name: str,
    ensemble: Ensemble,
    *,
    material: Material | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> report.PairedVerdict:
    """What a change does under an ensemble; runs that the lake lacks are replayed and stored.

    Args:
        altered: the change, over its blocks, whoever liquidates in it.
        name: what the stored runs are called by.
        ensemble: of more than ``DRAWS`` draws so many stand for all.

    Raises:
        UserError: a replay failed, or the market's tables are missing or stale.
    """
    material = material or load_material(lake, market)
    few = ensemble.at_most(DRAWS)
    asked = PairedPlan(altered, name, few, SEEDS, material, verb="compare")
    executor = executor_for(workers, len(asked.plan.scenarios) * len(material.timeline()))
    outcome = carry_out(lake, asked.plan, executor, retry=True, progress=progress)
    if outcome.failed:
        failed, reason = outcome.failed[0]
        raise UserError(f"a replay of {name} failed ({failed}): {reason}", "mend that, and ask again")

    def query(text: str) -> list[Row]:
        return printable(lake.sql(text).to_arrow_table().to_pylist())

    run_ids = list(asked.plan.scenarios)
    outcomes, population = stored.outcomes(query, run_ids), stored.population(query, run_ids)
    findings, _ = report.findings_of(
        asked.runs(outcomes),
        outcomes[asked.history],
        population=population,
        seed=altered.seed,
        random=asked.random,
        ensemble=len(few.draw) > 1,
    )
    return report.PairedVerdict(
        findings,
        said(ensemble, market, window_of(asked.altered, material)),
        len(few.draw),
        len(asked.seeds),
        population,
        asked.plan.sweep_id,
    )


def said(ensemble: Ensemble, market: str, window: tuple[int, int]) -> str:
    """An ensemble in words: its title, what it rests on, and how many of the window's blocks it was fitted on: there it
    resembles history more than it would elsewhere.
    """
    title = f"ensemble '{ensemble.title}'" if ensemble.title else "an ensemble without a title"
    told = f"{title}, {ensemble.source or 'whose source is not stated'}"
    if not ensemble.fitted_on:
        return told
    first, last = window
    shared = sum(each.shared(market, first, last) for each in ensemble.fitted_on)
    return f"{told}; {shared:,} of the {last - first + 1:,} blocks asked about are those that it was fitted on"


def window_of(scenario: Scenario, material: Material) -> tuple[int, int]:
    """First and last block in which a scenario's model acts."""
    timeline = material.timeline()
    return max(scenario.from_block or 0, timeline.first_block), timeline.last_known_block(scenario.to_block)


# -- the one that a lake keeps -----------------------------------------------------------------------------------------


def keep_ensemble(lake: Lake, market: str, text: str) -> None:
    """Keep an ensemble, as TOML, as that under which questions about a market's parameters are asked from now on."""
    ensemble = parse_ensemble(text, "the calibrated ensemble")
    row = {
        "market": market,
        "title": ensemble.title,
        "source": ensemble.source,
        "draws": len(ensemble.draw),
        "text": text,
        "lake_digest": lake.digest(market),
        "rules_version": RULES_VERSION,
        "engine_version": ENGINE_VERSION,
    }
    name = "results/ensembles"
    with lake.writer() as writer:
        kept = pa.Table.from_pylist([row], ENSEMBLES["ensembles"])
        writer.replace(market, name, [(name, kept)], stamp=RULES_VERSION)
    lake.refresh()


def kept_ensemble(lake: Lake, market: str) -> Ensemble | None:
    """What ``keep_ensemble`` kept last, whose source says so where it was calibrated on other data than the lake holds
    now; None: nothing yet.
    """
    held = lake.read("results/ensembles", market).to_pylist()
    if not held:
        return None
    [last] = held
    ensemble = parse_ensemble(last["text"], f"the ensemble that {lake.path} keeps of {market}")
    if last["lake_digest"] == lake.digest(market):
        return ensemble
    return replace(ensemble, source=f"{ensemble.source} (on other data than the lake holds now: calibrate anew)")
