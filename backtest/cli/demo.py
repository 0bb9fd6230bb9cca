"""``backtest demo``: a governor's question about the bundled crash, answered on one screen; the rest in full and as
pages.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from backtest.errors import UserError
from backtest.scenario import Competitive, Override, Scenario

if TYPE_CHECKING:
    from backtest.lake import Lake

WEAKER = 1000  # basis points, off threshold and loan-to-value
HIGHER_BONUS = 200  # basis points
STEPS = 4  # a quarter of a day apart
DAY = 86_400


QUESTION = f"WETH: liquidation threshold and loan-to-value {WEAKER // 100} points lower"
SETS = (f"WETH.liquidation_threshold-={WEAKER}", f"WETH.ltv-={WEAKER}")
DRAWS = 6  # of the calibrated baseline: few, for a first look


def demo(folder: Path = Path("backtest-demo"), *, full: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Answer a question about the bundled crash: what had been, were WETH weaker collateral?

    Replays its second half under the baseline that is bundled, which was fitted on the first, present parameters beside
    proposed ones; and all of it under frictionless liquidators, the best case, with two more changes. Prints the answer
    on one screen, writes it and the comparison of all as pages, and stores the results as Parquet in a copy of the
    bundled lake. It needs no node and no network. Run again, it reads the runs that are stored already.

    Examples:

        backtest demo

        backtest demo /tmp/first-look --full

    Parameters
    ----------
    folder
        Working folder, made where it does not exist.
    full
        Also users who respond in two ways, and every table, verdict and assumption.
    """
    from backtest.lake import Lake
    from backtest.propose import ProposalQuestion, ensemble_of, propose
    from backtest.reconstruct import is_current, reconstruct
    from backtest.report import select, write_report
    from backtest.report.proposal import forms
    from backtest.report.text import as_text
    from backtest.resources import resource
    from backtest.results import band_of, run

    lake = Lake(_copied_sample(folder))
    market = _crash(lake)
    for name in lake.markets():
        if not is_current(lake, name):
            print(f"reconstructing the canonical tables of {name} from its raw events", file=sys.stderr)
            reconstruct(lake, name)
    lake.refresh()
    first, to_block = _crash_days(lake, market)
    baseline = Scenario(name="baseline", liquidators=Competitive(), to_block=to_block)
    alternatives = scenarios(baseline, first)
    planned = {
        scenario.name: scenario
        for scenario in (
            Scenario(to_block=to_block),
            baseline,
            *(one for each in alternatives for one in (band_of(each) if full else (each,))),
        )
    }
    runs = {}
    for scenario in planned.values():
        print(f"replaying {market}: {scenario.name}", file=sys.stderr)
        runs[scenario.name] = run(lake, market, scenario)
    calm = {
        name: _false_alarms(lake, name, replace(baseline, to_block=None)) for name in lake.markets() if name != market
    }
    lake.refresh()
    wanted = [runs[name].run_id for name in ("history", "baseline", *(scenario.name for scenario in alternatives))]
    page, answer = folder / "report.html", folder / "answer.html"
    write_report(lake, wanted, page)
    fitted = resource("sample") / "baseline.toml"
    ensemble = ensemble_of(fitted)
    [fitted_on] = ensemble.fitted_on
    print(f"replaying {market}: draws of the calibrated baseline, and the proposal", file=sys.stderr)
    found = propose(
        lake,
        market,
        ProposalQuestion(
            SETS,
            ensemble,
            draws=DRAWS,
            seeds=1,
            from_block=fitted_on.to_block + 1,
            to_block=to_block,
            responses=("frozen",),
        ),
        workers=2,
    )
    forms.write_page(found, answer)
    print(*wrap(f"{market}: {lake.market_config(market).description}. Not a real market.", forms.WIDTH), sep="\n")
    print(f"\n{QUESTION}?")
    print(forms.as_answer(found))
    print(_resembles(fitted, found.draws))
    if full:
        print(f"\n{as_text(select(lake, wanted), shared_only=True)}\n\n{forms.as_text(found, full=True)}")
    for name, count in calm.items():
        said = f"{name}, where nobody was liquidated, under frictionless liquidators: {count} liquidations (each would"
        print(*wrap(f"{said} be a false alarm).", forms.WIDTH), sep="\n")
    results = Path(lake.files("results/runs", market)[0].path).parent.parent.relative_to(lake.path)
    print(_next_steps(folder, (answer, page), folder / "lake" / results, market))


def _resembles(fitted: Path, replayed: int) -> str:
    """What the bundled baseline says of itself: how many of its draws were replayed, on what it was fitted, and how it
    does on what it did not see.
    """
    from backtest.files import read_text
    from backtest.propose import ensemble_of

    lines = [line.removeprefix("# ") for line in read_text(fitted).splitlines() if line.startswith("# ")]
    told = [
        line for line in lines if line.startswith(("Bad debt on the held-out", "Not matched on the window held out"))
    ]
    ensemble = ensemble_of(fitted)
    draws = f"{replayed} draws that stand for {len(ensemble.draw)}"
    return "\n".join(("", *wrap(f"The baseline: {draws}, {ensemble.source}. {' '.join(reversed(told))}", 100)))


def scenarios(baseline: Scenario, crash: date) -> tuple[Scenario, ...]:
    """The alternatives of the demo: WETH as weaker collateral from the start, or in steps on the day of the crash, and
    a higher bonus.
    """
    weaker = [Override(parameter=name, asset="WETH", change=-WEAKER) for name in ("ltv", "liquidation_threshold")]
    steps = [
        replace(each, from_time=str(crash), until_time=str(crash + timedelta(days=1)), steps=STEPS) for each in weaker
    ]
    bonus = Override(parameter="liquidation_bonus", change=HIGHER_BONUS)
    points = WEAKER // 100
    return (
        replace(baseline, name=f"WETH −{points} points", overrides=tuple(weaker)),
        replace(baseline, name=f"WETH −{points} in the crash", overrides=tuple(steps)),
        replace(baseline, name=f"bonus +{HIGHER_BONUS // 100} points", overrides=(bonus,)),
    )


def _crash_days(lake: Lake, market: str) -> tuple[date, int]:
    """The day of the first liquidation, and the last block of the day of the last one: what comes later shows how
    losses developed.
    """
    ((first, last),) = lake.sql(
        f"SELECT min(timestamp), max(timestamp) FROM liquidations WHERE market = '{market}'"
    ).fetchall()
    midnight = last - last % DAY + DAY
    ((to_block,),) = lake.sql(
        f"SELECT max(block_number) FROM blocks WHERE market = '{market}' AND timestamp < {midnight}"
    ).fetchall()
    return datetime.fromtimestamp(first, UTC).date(), to_block


def _false_alarms(lake: Lake, market: str, scenario: Scenario) -> int:
    """Liquidations in a market without any, under a scenario; not stored, so that all runs of the lake are of one
    market.
    """
    from backtest.protocols.registry import protocol_named
    from backtest.replay.engine import replay
    from backtest.results import load_market, load_timeline

    protocol = protocol_named(lake.market_config(market).protocol)
    return len(replay(protocol, load_market(lake, market), load_timeline(lake, market), scenario).liquidations)


def _copied_sample(folder: Path) -> Path:
    """The lake in the working folder: the one of an earlier demo, or a fresh copy of the bundled one."""
    from backtest.resources import resource

    source, lake = resource("sample") / "lake", folder / "lake"
    unfinished = folder / "lake.unfinished"
    if not lake.exists():
        if folder.exists() and any(entry != unfinished for entry in folder.iterdir()):
            raise UserError(f"{folder} holds something else", "name an empty or a new folder: backtest demo FOLDER")
        if not source.is_dir():
            raise UserError(
                f"the bundled lake is missing ({source})",
                "install the package again, or record it in a checkout: make sample",
            )
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
        unfinished.rename(lake)
    return lake


def _crash(lake: Lake) -> str:
    """The market of the sample in which something was liquidated."""
    from backtest.protocols.registry import protocol_named

    for market in lake.markets():
        protocol = protocol_named(lake.market_config(market).protocol)
        logs = [f"raw/{protocol.name}/{event}" for event in protocol.liquidation_events]
        if any(file.rows for name in logs for file in lake.files(name, market)):
            return market
    raise UserError(f"no market of {lake.path} has liquidations", "delete the folder and run the demo again")


def _next_steps(folder: Path, pages: tuple[Path, Path], results: Path, market: str) -> str:
    lake = folder / "lake"
    run_as_module = sys.argv[0].endswith("__main__.py")
    command = (
        "backtest"
        if shutil.which("backtest")
        else f"{os.path.relpath(sys.executable)} -m backtest"
        if run_as_module
        else os.path.relpath(sys.argv[0])
    )
    return f"""
The answer as a page: {pages[0]}
Frictionless liquidators, and two more changes: {pages[1]}
Results as Parquet: {results}

Ask it something (every table: {command} demo --full):
  {command} propose --lake {lake} --market {market} \\
    --set WETH.liquidation_bonus=10600
  {command} sql --lake {lake} \\
    "SELECT name, liquidations, repaid_base, bad_debt_base FROM run_summary"
  {command} replay --help"""
