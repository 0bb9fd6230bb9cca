"""``backtest demo``: the bundled crash replayed four times, compared, and written as a page."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backtest.errors import UserError
from backtest.scenario import Competitive, Override, Scenario

if TYPE_CHECKING:
    from backtest.lake import Lake

THRESHOLD_CUT = 300  # basis points
BONUS_RAISE = 200  # basis points


def demo(folder: Path = Path("backtest-demo")) -> None:
    """Replay the bundled crash: history, and competitive liquidators under the parameters of history and under two others.

    Prints a comparison, stores the results as Parquet in a copy of the bundled lake, and writes one report page. It needs no
    node and no network. Run again, it reads the runs that are stored already.

    Examples:

        backtest demo

        backtest demo /tmp/first-look

    Parameters
    ----------
    folder
        Working folder, made where it does not exist.
    """
    from backtest.lake import Lake
    from backtest.reconstruct import is_current, reconstruct
    from backtest.report import notes, select, tables, write_report
    from backtest.results import run

    lake = Lake(_copied_sample(folder))
    market = _crash(lake)
    for name in lake.markets():
        if not is_current(lake, name):
            print(f"reconstructing the canonical tables of {name} from its raw events", file=sys.stderr)
            reconstruct(lake, name)
    lake.refresh()
    runs, baseline = [], Scenario(name="baseline", liquidators=Competitive())
    for scenario in scenarios(lake, market, baseline):
        print(f"replaying {market}: {scenario.name}", file=sys.stderr)
        runs.append(run(lake, market, scenario))
    calm = {name: _false_alarms(lake, name, baseline) for name in lake.markets() if name != market}
    lake.refresh()
    wanted = [run.run_id for run in runs]
    selection = select(lake, wanted)
    page = folder / "report.html"
    write_report(lake, wanted, page)
    print(f"\nChanges are against the baseline; amounts in {selection.currency}.\n")
    print(tables.as_text(tables.comparison(selection, tables.labels_of(selection.runs))))
    for name, count in calm.items():
        print(f"\n{name}, where nobody was liquidated, under the baseline: {count} liquidations (each would be a false alarm)")
    print("\nWhat all four runs assume (the report page says more, by run):")
    for note in notes(selection.runs):
        if all(note in run.notes for run in runs):
            print(f"- {note}")
    results = Path(lake.files("results/runs", market)[0].path).parent.parent.relative_to(lake.path)
    print(_next_steps(folder, page, folder / "lake" / results, wanted))


def scenarios(lake: Lake, market: str, baseline: Scenario) -> Iterator[Scenario]:
    """The four runs of the demo: history, the baseline, and that with a lower threshold of WETH and with a higher bonus of every asset."""
    lower = tuple(_shifted(lake, market, "liquidation_threshold", -THRESHOLD_CUT, symbol="WETH"))
    higher = tuple(_shifted(lake, market, "liquidation_bonus", BONUS_RAISE))
    yield Scenario()
    yield baseline
    yield replace(baseline, name=f"WETH threshold −{THRESHOLD_CUT // 100} points", overrides=lower)
    yield replace(baseline, name=f"bonus +{BONUS_RAISE // 100} points", overrides=higher)


def _false_alarms(lake: Lake, market: str, scenario: Scenario) -> int:
    """Liquidations in a market without any, under a scenario; not stored, so that all runs of the lake are of one market."""
    from backtest.protocols.registry import protocol_named
    from backtest.replay.engine import replay
    from backtest.results import load_market, load_timeline

    protocol = protocol_named(lake.market_config(market).protocol)
    return len(replay(protocol, load_market(lake, market), load_timeline(lake, market), scenario).liquidations)


def _shifted(lake: Lake, market: str, parameter: str, by: int, symbol: str = "") -> Iterator[Override]:
    """Overrides that move the last value of a parameter of one asset, or of every asset that has one, by basis points."""
    rows = lake.sql(
        f"SELECT asset, arg_max(value, seq) AS value FROM params JOIN assets USING (market, asset_id) WHERE market = '{market}' "
        f"AND name = '{parameter}' AND category IS NULL AND symbol LIKE '{symbol or '%'}' GROUP BY asset ORDER BY asset"
    ).fetchall()
    return (Override(parameter=parameter, asset=asset, value=int(value) + by) for asset, value in rows if value)


def _copied_sample(folder: Path) -> Path:
    """The lake in the working folder: the one of an earlier demo, or a fresh copy of the bundled one."""
    from backtest.resources import resource

    source, lake = resource("sample") / "lake", folder / "lake"
    unfinished = folder / "lake.unfinished"
    if not lake.exists():
        if folder.exists() and any(entry != unfinished for entry in folder.iterdir()):
            raise UserError(f"{folder} holds something else", "name an empty or a new folder: backtest demo FOLDER")
        if not source.is_dir():
            raise UserError(f"the bundled lake is missing ({source})", "install the package again, or record it in a checkout: make sample")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
        unfinished.rename(lake)
    return lake


def _crash(lake: Lake) -> str:
    """The market of the sample in which something was liquidated."""
    for market in lake.markets():
        if any(file.rows for file in lake.files("raw/aave-v3/LiquidationCall", market)):
            return market
    raise UserError(f"no market of {lake.path} has liquidations", "delete the folder and run the demo again")


def _next_steps(folder: Path, page: Path, results: Path, runs: list[str]) -> str:
    lake = folder / "lake"
    command = "backtest" if shutil.which("backtest") else os.path.relpath(sys.argv[0])
    return f"""
Report page: {page}
Results as Parquet: {results}
Lake, with history and runs side by side: {lake}

Ask it something:
  {command} sql --lake {lake} "SELECT name, liquidations, repaid_base FROM run_summary"
  {command} sql --lake {lake} "SELECT * FROM run_liquidations WHERE run_id = '{runs[1]}' ORDER BY repaid_base DESC LIMIT 10"
  {command} sql --lake {lake} "SELECT symbol, block_number, price FROM prices JOIN assets USING (market, asset_id) ORDER BY seq DESC LIMIT 10"
Replay it under parameters of your own:
  {command} replay --help"""
