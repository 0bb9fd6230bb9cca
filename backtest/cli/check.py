"""``backtest check``: whether a lake keeps its invariants."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.cli.nodes import Nodes, node_of

if TYPE_CHECKING:
    from backtest.lake import Lake
    from backtest.lake.checks import Finding


def check(*, lake: Path, market: str | None = None, rpc: Nodes = None) -> int:
    """Check a lake: files against their digests, coverage, and the queries of queries/checks. Exits with 1 if anything
    is violated.

    With a node, samples of what the lake says are also compared with the chain: totals of tokens, settings of accounts,
    rounds of feeds.

    Examples:

        backtest check --lake data/lake

        backtest check --lake data/lake --market ethereum-core --rpc http://127.0.0.1:8545

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Market to compare with the chain; without it every market of the lake.
    rpc
        Address of an archive node, or a TOML file of providers; given several times, all are asked. Keys are shown
        nowhere.
    """
    from rich.console import Console
    from rich.table import Table

    from backtest.lake import Lake, checks
    from backtest.reconstruct import is_current, unfolded
    from backtest.unread import in_words, unread_imports

    opened = Lake(lake)
    if market is not None:
        opened.market_config(market)  # names a market that is not there
    console = Console(highlight=False, markup=False)
    progress = Console(stderr=True).status("") if sys.stderr.isatty() else None
    findings = []
    if progress:
        progress.start()
    try:
        for finding in checks.run(opened, progress=progress.update if progress else None):
            findings.append(finding)
        stale = [
            name
            for name in opened.markets()
            if any(part.startswith("raw/") for part in opened.datasets(name))
            and not is_current(opened, name)
            and not unfolded(opened, name)
        ]
        findings.append(
            checks.Finding("canonical", "canonical tables are built from the raw events", len(stale), tuple(stale))
        )
        unread = [f"{name}: {line}" for name in opened.markets() for line in in_words(unread_imports(opened, name))]
        if unread:
            findings.append(checks.Finding("unread", "imported, and of no effect:", 0, tuple(unread[: checks.SHOWN])))
        if rpc:
            findings += [_on_chain(opened, name, rpc) for name in ([market] if market else opened.markets())]
    finally:
        if progress:
            progress.stop()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("violations", justify="right")
    table.add_column("what must hold, and what does not", overflow="fold")
    for finding in findings:
        table.add_row(
            finding.check,
            "failed" if finding.violations is None else str(finding.violations),
            finding.purpose.rstrip("."),
        )
        for example in finding.examples:
            table.add_row("", "", f"  {example}")
    console.print(table)
    broken = [finding for finding in findings if not finding.passed]
    console.print(
        f"{len(findings)} checks, {len(broken)} violated" if broken else f"{len(findings)} checks, none violated"
    )
    return 1 if broken else 0


def _on_chain(lake: Lake, market: str, rpc: list[str]) -> Finding:
    from backtest.fetch.verify import verify
    from backtest.lake.checks import SHOWN, Finding

    with node_of(rpc) as node:
        report = verify(lake, market, node)
    what = ", ".join(f"{count} {kind}" for kind, count in sorted(report.compared.items())) or "nothing to compare"
    return Finding(
        f"chain: {market}", f"the chain says the same: {what}", len(report.mismatches), tuple(report.mismatches[:SHOWN])
    )
