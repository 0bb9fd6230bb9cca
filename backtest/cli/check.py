"""``backtest check``: whether a lake keeps its invariants."""

from __future__ import annotations

import sys
from pathlib import Path


def check(*, lake: Path) -> int:
    """Check a lake: files against their digests, coverage, and the queries of queries/checks. Exits with 1 if anything is violated.

    Examples:

        backtest check --lake data/lake

    Parameters
    ----------
    lake
        Folder of the lake.
    """
    from rich.console import Console
    from rich.table import Table

    from backtest.lake import Lake, checks
    from backtest.reconstruct import is_current

    opened = Lake(lake)
    console = Console(highlight=False, markup=False)
    progress = Console(stderr=True).status("") if sys.stderr.isatty() else None
    findings = []
    if progress:
        progress.start()
    try:
        for finding in checks.run(opened, progress=progress.update if progress else None):
            findings.append(finding)
        stale = [name for name in opened.markets() if any(part.startswith("raw/") for part in opened.datasets(name)) and not is_current(opened, name)]
        findings.append(checks.Finding("canonical", "canonical tables are built from the raw events", len(stale), tuple(stale)))
    finally:
        if progress:
            progress.stop()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("violations", justify="right")
    table.add_column("what must hold, and what does not", overflow="fold")
    for finding in findings:
        table.add_row(finding.check, "failed" if finding.violations is None else str(finding.violations), finding.purpose.rstrip("."))
        for example in finding.examples:
            table.add_row("", "", f"  {example}")
    console.print(table)
    broken = [finding for finding in findings if not finding.passed]
    console.print(f"{len(findings)} checks, {len(broken)} violated" if broken else f"{len(findings)} checks, none violated")
    return 1 if broken else 0
