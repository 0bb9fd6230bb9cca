"""What a verdict needs beside the runs that are named: history's own replay of their blocks, the baseline, users who
respond, and the same question under the calibrated ensemble. All of it is made where it is wanted, so that a verdict
does not depend on what happens to be stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.lake import Lake
    from backtest.report.proposal import PairedVerdict
    from backtest.report.selection import Selection
    from backtest.scenario import Scenario
    from backtest.scenario.ensemble import Ensemble


def selected(lake: Lake, wanted: Sequence[str], *, market: str | None = None) -> Selection:
    """``report.select``, with the replays of history that its verdicts need stored."""
    from backtest.report import select

    chosen = select(lake, wanted, market=market)
    return select(lake, wanted, market=market) if _made(lake, chosen.market, chosen.alternatives) else chosen


def judged(
    lake: Lake, wanted: Sequence[str], *, market: str | None, ensemble: Ensemble | None, stated: bool
) -> Selection:
    """``selected``, with everything else that verdicts on alternatives need.

    Args:
        ensemble: under which every alternative is judged; None: that which the lake keeps of the market, for those that
            state no model but the frictionless one.
        stated: judge all by the models that they state.
    """
    from backtest.paired import kept_ensemble
    from backtest.report import select

    chosen = selected(lake, wanted, market=market)
    if _responding(lake, chosen):
        chosen = select(lake, [run["run_id"] for run in chosen.runs], market=market)
    if stated:
        return chosen
    kept = None if ensemble is not None else kept_ensemble(lake, chosen.market)
    return replace(chosen, paired=_paired(lake, chosen, ensemble, kept))


def of_sweep(lake: Lake, market: str, sweep_id: str) -> None:
    """Store the replays of history that the baselines of a sweep are held against."""
    from backtest.report.sweeps import find_sweep

    view = find_sweep(lake, sweep_id, market=market)
    _made(
        lake,
        market,
        view.rows(
            "SELECT DISTINCT from_block, to_block, lake_digest, rules_version, engine_version, history_id FROM runs"
            " JOIN (SELECT run_id, kind, history_id FROM run_pairs) USING (run_id)"
            " JOIN (SELECT sweep_id, run_id FROM sweep_scenarios) USING (run_id)"
            " WHERE sweep_id = $sweep AND kind = 'baseline' ORDER BY from_block, to_block"
        ),
    )


def _paired(lake: Lake, chosen: Selection, given: Ensemble | None, kept: Ensemble | None) -> dict[str, PairedVerdict]:
    """By run id the verdicts under an ensemble."""
    from backtest.cli.sweep import bar
    from backtest.paired import paired_verdict
    from backtest.results import load_material

    asked = [
        (run, scenario, ensemble)
        for run, scenario in _alternatives(lake, chosen)
        if scenario.joint is None and (ensemble := given or (kept if _states_nothing(scenario) else None)) is not None
    ]
    if not asked:
        return {}
    material = load_material(lake, chosen.market)
    found = {}
    for run, scenario, ensemble in asked:
        with bar() as progress:
            found[run["run_id"]] = paired_verdict(
                lake, chosen.market, scenario, run["name"], ensemble, material=material, progress=progress
            )
    return found


def _states_nothing(scenario: Scenario) -> bool:
    """Whether a scenario says nothing of who liquidates but the best case."""
    from backtest.scenario import Competitive, Costs

    return scenario.liquidators == Competitive() and scenario.costs == Costs()


def _responding(lake: Lake, chosen: Selection) -> bool:
    """Replay and store the baselines, and users' responses with theirs, that the bands of alternatives lack. Whether
    there is something new.
    """
    from backtest.cli.replay import progress_bar
    from backtest.fitted import kept_fitted
    from backtest.joint import run_jointly
    from backtest.results import band_of, baseline_of, run_all
    from backtest.scenario import FITTED

    fitted = kept_fitted(lake, chosen.market)
    lacking = {}
    for run, scenario in _alternatives(lake, chosen):
        beside = None if scenario.joint is not None else fitted  # of one market
        lacks_fitted = beside is not None and FITTED not in chosen.band(run)
        if run["baseline_id"] is None or chosen.missing_responses(run) or lacks_fitted:
            for one in (baseline_of(scenario), *band_of(scenario, beside)):
                lacking[one.canonical()] = one
    together = [one for one in lacking.values() if one.joint is not None]
    alone = [one for one in lacking.values() if one.joint is None]
    if not lacking:
        return False
    try:
        with progress_bar() as progress:
            made = [made.replayed for made in run_all(lake, chosen.market, alone, progress=progress, renamed=())]
            made += [run_jointly(lake, one, progress=progress, renamed=()).replayed for one in together]
    except (UserError, OSError):  # the lake may be read-only, or busy
        return False
    lake.refresh()
    return any(made)


def _alternatives(lake: Lake, chosen: Selection) -> list[tuple[dict[str, Any], Scenario]]:
    """Those that can be replayed on today's data by today's rules, with their scenarios."""
    from backtest.joint import with_own_name
    from backtest.results import scenario_of

    now = _now(lake, chosen.market)
    return [(run, with_own_name(scenario_of(run))) for run in chosen.alternatives if _versions(run) == now]


def _now(lake: Lake, market: str) -> tuple[str, str, str]:
    from backtest.replay import ENGINE_VERSION
    from backtest.tables import RULES_VERSION

    return lake.digest(market), RULES_VERSION, ENGINE_VERSION


def _versions(run: dict[str, Any]) -> tuple[str, str, str]:
    return run["lake_digest"], run["rules_version"], run["engine_version"]


def _made(lake: Lake, market: str, runs: Iterable[dict[str, Any]]) -> bool:
    """Replay and store what these lack; runs of other data or versions stay without, and so does what cannot be
    replayed. Whether there is something new.
    """
    from backtest.cli.replay import progress_bar
    from backtest.results import run
    from backtest.scenario import Scenario

    now = _now(lake, market)
    windows = {
        (row["from_block"], row["to_block"]) for row in runs if row["history_id"] is None and _versions(row) == now
    }
    found = False
    for first, last in sorted(windows):
        try:
            with progress_bar() as progress:
                run(lake, market, Scenario(from_block=first, to_block=last), progress=progress)
        except (UserError, OSError):  # the lake may be read-only, or busy
            continue
        found = True
    if found:
        lake.refresh()
    return found
