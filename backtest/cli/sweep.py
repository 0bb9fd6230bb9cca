"""``backtest sweep``: many scenarios of one market, stored, and what they have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from backtest import files, foreign
from backtest.cli.numbers import Whole, whole
from backtest.errors import UserError

if TYPE_CHECKING:
    from backtest.lake import Lake
    from backtest.scenario import Scenario
    from backtest.sweep import Progress, Sweep
    from backtest.sweep.spec import Window


def sweep(
    file: Path | None = None,
    *,
    lake: Path,
    market: Annotated[list[str] | None, Parameter(negative="")] = None,
    rate: Annotated[list[str] | None, Parameter(negative="")] = None,
    scenario: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    axis: Annotated[list[str] | None, Parameter(name="--axis", negative="")] = None,
    window: Annotated[list[str] | None, Parameter(name="--window", negative="")] = None,
    held_out: Annotated[list[str] | None, Parameter(name="--held-out", negative="")] = None,
    response: Annotated[list[str] | None, Parameter(name="--response", negative="")] = None,
    objective: Annotated[list[str] | None, Parameter(name="--objective", negative="")] = None,
    design: Literal["grid", "random", "latin-hypercube", "sobol"] | None = None,
    points: Whole | None = None,
    seed: Whole | None = None,
    repeats: Whole | None = None,
    ensemble: Path | None = None,
    stated: Annotated[bool, Parameter(negative="")] = False,
    name: str | None = None,
    workers: Whole | None = None,
    scheduler: str | None = None,
    retry: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Replay many scenarios of a market, store the runs, and say which are not dominated, what moves them, and how
    stable that is.

    Each scenario is replayed as backtest replay does it, with its baseline and with history, which the baseline is held
    against. A sweep that was stopped continues when it
    is run again; what is stored is not replayed. A scenario that fails is recorded with its reason. Exits with 1 if
    none has a run.

    Examples:

        backtest sweep --lake backtest-demo/lake --market sample-crash --axis WETH.liquidation_threshold=8100..8300/100

        backtest sweep sweep.toml --lake data/lake --market ethereum-core --workers 8

        backtest sweep sweep.toml --lake data/lake --market ethereum-core --market ethereum-prime

        backtest sweep sweep.toml --lake s3://bucket/lake --market ethereum-core --scheduler tcp://127.0.0.1:8786

    Parameters
    ----------
    file
        TOML file of a sweep (docs/sweep.md); or give options.
    lake
        Folder of the lake, or s3://bucket/prefix.
    market
        Market to replay; may be left out where the lake holds one. Several, each with an option of its own, are
        replayed together (docs/several-markets.md).
    rate
        Of several markets, what one unit of a base currency is worth in the first one's, CURRENCY=NUMBER.
    scenario
        TOML file of the base scenario; without it competitive liquidators.
    set_
        A changed parameter of the base, as in backtest replay; may be repeated.
    axis
        What varies, PATH=a,b,c or PATH=from..to/step: a path is a field of the scenario (liquidators.gas_cost) or a
        parameter as in --set (WETH.ltv, liquidation_bonus+). May be repeated.
    window
        Blocks or dates, NAME=FROM..TO, either end may be left out; may be repeated.
    held_out
        The same, of a window that is kept apart from what chooses.
    response
        How users respond (frozen, same-ltv, same-health, fitted); may be repeated: every parameter set is replayed
        under each.
    objective
        A measure to choose by, beside bad debt, borrowers' loss, borrowing power and liquidated volume: MEASURE, or
        MEASURE=min, =max or =ignore (rent=min, median_seconds, repaid=ignore); may be repeated.
    design
        All combinations of levels (grid), or some that are drawn.
    points
        How many combinations are drawn.
    seed
        Seed of the draws.
    repeats
        Replay every combination under so many seeds, the same of all, for models that draw: intervals hold chance.
    ensemble
        TOML file of weighted draws of liquidators and costs (docs/propose.md): every combination is replayed under
        each, and intervals hold what is not known of the model. Without it, where the base says nothing of who
        liquidates and no axis does, that which the lake keeps of the market (backtest calibrate baseline).
    stated
        Replay the model that the base states, whatever the lake keeps.
    name
        Name of the sweep in tables.
    workers
        Processes of this machine; without it one a core.
    scheduler
        Address of a Dask scheduler, whose workers replay instead.
    retry
        Try again what failed before.
    output
        Write the outcome as one HTML page too.
    """
    from msgspec.structs import replace

    from backtest.cli.histories import of_sweep
    from backtest.cli.replay import read_scenario, with_markets
    from backtest.lake import Lake
    from backtest.report.sweeps import as_text, find_sweep, write_sweep_report
    from backtest.scenario import Competitive, Scenario
    from backtest.sweep import Dask, Executor, Processes, Serial
    from backtest.sweep import sweep as run_sweep

    opened = Lake(lake)
    options = {
        "--scenario": scenario,
        "--set": set_,
        "--axis": axis,
        "--window": window,
        "--held-out": held_out,
        "--response": response,
        "--objective": objective,
        "--design": design,
        "--points": points,
        "--seed": seed,
        "--repeats": repeats,
        "--name": name,
    }
    if file is not None and (given := [option for option, value in options.items() if value is not None]):
        raise UserError(f"a sweep file and {', '.join(given)} together", "write all of it into the file, or none")
    if workers is not None and (workers < 1 or scheduler is not None):
        raise UserError(
            f"--workers {workers}" + (" and --scheduler together" if scheduler else ""),
            "give 1 or more, without a scheduler",
        )
    if file is not None:
        spec = _read(file)
        spec = replace(spec, scenario=with_markets(spec.scenario, market or [], rate or [], asked_for="--market"))
    else:
        drawn = {"design": design, "points": points, "seed": seed, "name": name, "objectives": _objectives(objective)}
        drawn["repeats"] = repeats
        base = Scenario(name="base", liquidators=Competitive()) if scenario is None else read_scenario(scenario)
        base = with_markets(base, market or [], rate or [], asked_for="--market")
        spec = _from_options(base, set_ or [], axis or [], window or [], held_out or [], response or [], drawn)
    named = market if spec.scenario.joint is None else spec.scenario.joint.markets
    chosen = named[0] if named else only_market(opened.markets(), str(opened.path))
    if stated and ensemble is not None:
        raise UserError("--stated and --ensemble together", "give one of them")
    if not stated and (spec.scenario.joint is None or ensemble is not None):
        spec = _under(spec, opened, chosen, ensemble)
    cluster = Dask(scheduler) if scheduler else None
    count = workers or os.cpu_count() or 1
    executor: Executor = cluster or (Processes(count) if count > 1 else Serial())
    try:
        with bar() as progress:
            outcome = run_sweep(opened, chosen, spec, executor, retry=retry, progress=progress)
    finally:
        if cluster is not None:
            cluster.close()
    of_sweep(opened, chosen, outcome.sweep_id)
    print(as_text(find_sweep(opened, outcome.sweep_id)))
    print(
        f'\n{outcome.replayed:,} replayed now. More: backtest sql --lake {opened.path} "SELECT * FROM sweep_pareto";'
        " docs/sweep.md"
    )
    if output is not None:
        write_sweep_report(opened, outcome.sweep_id, output)
        print(f"Page: {output}")
    return 1 if len(outcome.failed) == outcome.scenarios else 0


def _under(spec: Sweep, lake: Lake, market: str, file: Path | None) -> Sweep:
    """The sweep under an ensemble: that of a file, or that which the lake keeps where the sweep says nothing of who
    liquidates.
    """
    from msgspec.structs import replace

    from backtest.paired import kept_ensemble
    from backtest.propose import ensemble_of
    from backtest.scenario import Competitive, Costs

    if file is not None:
        return replace(spec, draw=ensemble_of(file).draw)
    varied = any(path.startswith(("liquidators", "costs")) for axis in spec.axes for path in axis.paths)
    if spec.draw or varied or spec.scenario.liquidators != Competitive() or spec.scenario.costs != Costs():
        return spec
    kept = kept_ensemble(lake, market)
    return spec if kept is None else replace(spec, draw=kept.draw)


def only_market(markets: Sequence[str], where: str) -> str:
    """The market of a lake that holds one; UserError where it holds another number of them."""
    if len(markets) != 1:
        raise UserError(
            f"{where} holds {len(markets)} markets",
            f"give one with --market: {', '.join(markets) or 'fetch one first'}",
        )
    return markets[0]


def _read(path: Path) -> Sweep:
    from backtest.sweep import parse_sweep

    return parse_sweep(files.read_text(path), str(path))


def _from_options(
    base: Scenario,
    sets: Sequence[str],
    axes: Sequence[str],
    windows: Sequence[str],
    held_out: Sequence[str],
    responses: Sequence[str],
    drawn: dict[str, Any],
) -> Sweep:
    """A sweep given by options alone, of a scenario."""
    from msgspec.structs import replace

    from backtest.scenario import parse_override
    from backtest.sweep import Sweep, with_axes

    base = replace(base, overrides=(*base.overrides, *map(parse_override, sets)))
    base, varied = with_axes(base, axes)
    over = (*(_window(text, held_out=False) for text in windows), *(_window(text, held_out=True) for text in held_out))
    given = {key: value for key, value in drawn.items() if value is not None}
    return Sweep(scenario=base, axes=varied, windows=over, responses=tuple(responses), **given)


def _objectives(texts: Sequence[str] | None) -> dict[str, str] | None:
    from backtest.sweep.spec import objective_of

    found = [objective_of(text) for text in texts or ()]
    if len(dict(found)) < len(found):
        raise UserError("--objective names a measure twice", "give each once")
    return dict(found) if found else None


def _window(text: str, *, held_out: bool) -> Window:
    from backtest.sweep.spec import Window

    found = re.fullmatch(r"(?P<name>[^=]+)=(?P<from>[\w:-]*)\.\.(?P<to>[\w:-]*)", text, re.ASCII)
    if found is None:
        raise UserError(
            f"window '{foreign.shown(text, 80)}' is not understood",
            "write NAME=FROM..TO, blocks or dates: crash=2020-03-12..2020-03-14",
        )
    ends: dict[str, Any] = {}
    for end in ("from", "to"):
        if re.fullmatch(r"[0-9_]+", found[end]):
            ends[f"{end}_block"] = whole(found[end].replace("_", ""), f"--window {found['name']}")
        elif found[end]:
            ends[f"{end}_time"] = found[end]
    return Window(name=found["name"], held_out=held_out, **ends)


@contextmanager
def bar() -> Iterator[Progress]:
    """A progress bar with the time left on standard error, gone when done; none where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    left = TimeRemainingColumn(compact=True)
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        left,
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, speed_estimate_period=600
    ) as bar:
        task = bar.add_task("replaying", total=None, failed="")
        yield lambda done, total, failed: bar.update(
            task, completed=done, total=total, failed=f"{failed} failed" if failed else ""
        )
