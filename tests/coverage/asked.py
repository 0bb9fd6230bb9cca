"""What the tool says of a change, from chain A's lake alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from backtest.baseline import Portion, TooFew, fit
from backtest.cli.calibrate_baseline import prior_written, written
from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.propose import ProposalQuestion, _Asked, propose
from backtest.reconstruct import reconstruct
from backtest.report.proposal import Proposal, ProposalFinding, ProposalRun, findings_of, stored
from backtest.report.selection import Row
from backtest.results import load_material
from backtest.scenario import Scenario
from backtest.scenario.ensemble import Ensemble, parse_ensemble
from backtest.sweep import Serial, carry_out
from tests.coverage.chain import Market

NAME = "world"
DRAWS, KEPT = 45, 12
"""Of ``calibrate baseline``: half of what it does unless told otherwise."""
HALVES = tuple(
    (one, other)
    for one, other in (
        ((0, 1), (2, 3)), ((0, 1), (4, 5)), ((0, 1), (6, 7)), ((2, 3), (4, 5)), ((2, 3), (6, 7)), ((4, 5), (6, 7)),
        ((0, 2), (1, 3)), ((0, 4), (1, 5)), ((0, 6), (1, 7)), ((2, 4), (3, 5)), ((2, 6), (3, 7)), ((4, 6), (5, 7)),
        ((0, 3), (1, 2)),
    )
)  # fmt: skip
"""Seeds of the two sides of a pair of equal parameters."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Chain A's lake and who liquidates there, as ``calibrate baseline`` says. ``calibrated``: history sufficed."""

    lake: Lake
    ensemble: Ensemble
    calibrated: bool


def recorded(market: Market, folder: Path, last_block: int) -> Lake:
    """The chain as it stands, fetched into a lake of its own."""
    lake = Lake(folder, create=True)
    config = market.deployment.market_config(NAME)
    fetch(lake, config, Rpc(market.node.url), to_block=last_block, finality=0, headers="all")
    lake.refresh()
    reconstruct(lake, NAME)
    lake.refresh()
    return lake


def asked(lake: Lake, seed: int) -> Asked:
    """The lake with the ensemble that a user would take."""
    found = fit(lake, [Portion(NAME)], Scenario(), draws=DRAWS, kept=KEPT, seed=seed, workers=1)
    if isinstance(found, TooFew):
        text = prior_written(found, KEPT, seed, Scenario())
    else:
        text = written(found, seed, Scenario())
    return Asked(lake, parse_ensemble(text, "the ensemble"), not isinstance(found, TooFew))


def answer(lake: Lake, ensemble: Ensemble | None, name: str, value: int, block: int) -> Proposal:
    """``propose`` about one parameter of WETH from a block on. Users do on both chains what they did: the other
    responses, which no interval holds, are left out.
    """
    where = "close_factor" if name == "close_factor" else f"WETH.{name}"
    question = ProposalQuestion((f"{where}={value}@{block}",), ensemble)
    with mock.patch("backtest.propose.RESPONSES", ("frozen",)):
        return propose(lake, NAME, question, workers=1)


def equals(of: Asked) -> Iterator[tuple[ProposalFinding, ...]]:
    """What is found of pairs of equal parameters whose sides have random numbers of their own: nothing cancels."""
    with mock.patch("backtest.propose.RESPONSES", ("frozen",)):
        question = _Asked(ProposalQuestion((), of.ensemble, seeds=8), (), load_material(of.lake, NAME))
    outcome = carry_out(of.lake, question.plan, Serial(), retry=True)
    assert not outcome.failed, outcome.failed

    def query(text: str) -> list[Row]:
        return of.lake.sql(text).to_arrow_table().to_pylist()

    ids = list(question.plan.scenarios)
    outcomes, population = stored.outcomes(query, ids), stored.population(query, ids)
    runs, history = question.runs(outcomes), outcomes[question.history]
    by_seed = {(run.draw, run.seed): run for run in runs}
    draws = sorted({run.draw for run in runs})
    for ours, theirs in HALVES:
        pairs: list[ProposalRun] = [
            replace(by_seed[draw, two], proposed=by_seed[draw, one].present)
            for draw in draws
            for one, two in zip(ours, theirs, strict=True)
        ]
        yield findings_of(pairs, history, population=population, seed=0, random=True, ensemble=len(draws) > 1)[0]
