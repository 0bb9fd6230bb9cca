"""``backtest report``: runs of a lake as one offline page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    *runs: str,
    lake: Path,
    market: str | None = None,
    sweep: str | None = None,
    stress: str | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("report.html"),
) -> None:
    """Write runs as one HTML page: verdicts, comparison, charts, tables, assumptions. It works offline and prints well.

    The page is made from stored results by SQL; nothing is replayed.

    Examples:

        backtest report --lake backtest-demo/lake -o all.html

        backtest report --sweep 4f1c --lake data/lake -o sweep.html

        backtest report 'bonus +2 points' --lake backtest-demo/lake -o two.html

    Parameters
    ----------
    runs
        Ids, first digits of ids, or names of runs, all of one market; none for every run of the lake.
    lake
        Folder of the lake.
    market
        Only runs of this market.
    sweep
        A sweep instead of runs: its id, first digits of it, or its name.
    stress
        A stress instead of runs: its id, first digits of it, or the name of its suite.
    output
        File to write.
    """
    from backtest.errors import UserError
    from backtest.lake import Lake
    from backtest.report import write_report
    from backtest.report.sweeps import write_sweep_report

    if stress is not None:
        if runs or sweep is not None:
            raise UserError(f"--stress and {'--sweep' if sweep else 'runs'} together", "give one of them")
        from backtest.report.stress import find_stress, write_stress_report

        shown = find_stress(Lake(lake), stress, market=market)
        write_stress_report(shown, output)
        print(f"{output}: stress {shown.stress['name']} of {shown.stress['market']}")
        return
    if sweep is not None:
        if runs:
            raise UserError("--sweep and runs together", "give one of them")
        view = write_sweep_report(Lake(lake), sweep, output, market=market)
        print(f"{output}: sweep {view.sweep['name']} of {view.sweep['market']}")
        return

    selection = write_report(Lake(lake), runs, output, market=market)
    print(f"{output}: {len(selection.runs)} runs of {selection.market}")
