"""``backtest stress``: the book of a market under shocked prices, and how much of it goes bad."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from backtest.cli.numbers import Whole
from backtest.errors import UserError


def stress(
    suite: str = "",
    *,
    lake: Path | None = None,
    market: Annotated[list[str] | None, Parameter(negative="")] = None,
    rate: Annotated[list[str] | None, Parameter(negative="")] = None,
    block: str | None = None,
    paths: Whole | None = None,
    horizon: Whole | None = None,
    step: Whole | None = None,
    seed: Whole = 0,
    scenario: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    workers: Whole | None = None,
    scheduler: str | None = None,
    retry: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Carry the book of one moment on along shocked prices, settle every path in exact integers, and say what is lost.

    Without a suite: the suites that ship. A stress that was stopped continues when it is run again; what is stored is
    not replayed. A path that fails is recorded with its reason. Exits with 1 if none has an outcome.

    Examples:

        backtest stress

        backtest stress crashes --lake backtest-demo/lake --market sample-crash

        backtest stress market --lake data/lake --market ethereum-core --paths 10000 --workers 8 --output stress.html

        backtest stress my-suite.toml --lake data/lake --market ethereum-core --block 2024-08-04 --set WETH.ltv=7500

        backtest stress crashes --lake data/lake --market ethereum-core --market ethereum-prime

    Parameters
    ----------
    suite
        Name of a suite that ships, or a TOML file (docs/stress.md).
    lake
        Folder of the lake, or s3://bucket/prefix.
    market
        Market to stress; may be left out where the lake holds one. Several, each with an option of its own, are
        stressed together and each alone (docs/several-markets.md).
    rate
        Of several markets, what one unit of a base currency is worth in the first one's, CURRENCY=NUMBER.
    block
        At whose end the book stands, or a date or time in UTC; without it the last of the history.
    paths
        Paths of each case that draws; without it the suite's number.
    horizon
        Length of a path in seconds; without it the suite's.
    step
        From one step to the next in seconds; without it the suite's. Where an oracle speaks once an hour, 3600.
    seed
        Seed of the draws.
    scenario
        TOML file of a scenario: who liquidates, costs, parameters; in place of the suite's.
    set_
        A changed parameter that holds on every path, as in backtest replay (of several markets also in one of them,
        MARKET:WETH.ltv=7500); may be repeated.
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

    from backtest.cli.moments import block_of
    from backtest.cli.replay import read_scenario, with_markets
    from backtest.cli.sweep import bar, only_market
    from backtest.lake import Lake
    from backtest.report.stress import as_text, find_stress, write_stress_report
    from backtest.scenario import parse_override
    from backtest.stress import digest_of, find_suite, suites
    from backtest.stress import stress as run_stress
    from backtest.sweep import Dask, Executor, Processes, Serial

    if not suite:
        for each in suites():
            print(f"{each.name:<14} version {each.version}, {len(each.cases)} cases: {each.description}")
        return 0
    if lake is None:
        raise UserError("no lake", "name one with --lake")
    if workers is not None and (workers < 1 or scheduler is not None):
        said = " and --scheduler together" if scheduler else ""
        raise UserError(f"--workers {workers}{said}", "give 1 or more, without a scheduler")
    if paths is not None and not 1 <= paths <= 1_000_000:
        raise UserError(f"--paths {paths}", "give 1 to 1000000")
    wanted = find_suite(suite)
    base = wanted.scenario if scenario is None else read_scenario(scenario)
    if base.joint is not None or len(market or []) > 1 or rate:
        base = with_markets(base, market or [], rate or [], asked_for="--scenario with --market")
    base = replace(base, overrides=(*base.overrides, *map(parse_override, set_ or [])))
    grid = {name: value for name, value in (("horizon", horizon), ("step", step)) if value is not None}
    wanted = replace(wanted, scenario=base, **grid)
    opened = Lake(lake)
    named = base.joint.markets if base.joint is not None else market
    chosen = named[0] if named else only_market(opened.markets(), str(opened.path))
    at = block_of(opened, chosen, block, "--block")
    cluster = Dask(scheduler) if scheduler else None
    count = workers or os.cpu_count() or 1
    executor: Executor = cluster or (Processes(count) if count > 1 else Serial())
    try:
        with bar() as progress:
            outcome = run_stress(
                opened, chosen, wanted, executor, block=at, seed=seed, paths=paths, retry=retry, progress=progress
            )
    finally:
        if cluster is not None:
            cluster.close()
    view = find_stress(opened, outcome.stress_id)
    print(as_text(view))
    print(
        f"\n{outcome.replayed:,} paths replayed now; digest {digest_of(opened, chosen, outcome.stress_id)[:16]}. More:"
        f' backtest sql --lake {opened.path} "SELECT * FROM stress_losses"; docs/stress.md'
    )
    if output is not None:
        write_stress_report(view, output)
        print(f"Page: {output}")
    return 1 if len(outcome.failed) == outcome.paths else 0
