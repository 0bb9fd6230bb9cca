"""``backtest info``: what a lake holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest.foreign import shown

if TYPE_CHECKING:
    from rich.table import Table

    from backtest.lake import Lake


def info(*, lake: Path, market: str | None = None) -> None:
    """Show what a lake holds: markets, blocks and their gaps, datasets, quarantined logs, whether canonical tables are
    current, which prices are not exact and why, runs.

    Examples:

        backtest info --lake data/lake

        backtest info --lake data/lake --market ethereum-core

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Only this market; without it every market of the lake.
    """
    from rich.console import Console

    from backtest.lake import Lake

    opened = Lake(lake)
    console = Console(highlight=False, markup=False)
    files = opened.files(None, market)
    size = sum(file.bytes for file in files)
    console.print(
        f"{opened.path}: format {opened.manifest.format}, version {opened.manifest.version}, {len(files)} files,"
        f" {_bytes(size)}"
    )
    for name in [market] if market else opened.markets():
        console.print()
        _market(opened, name, console.print)
    runs = opened.sql(
        "SELECT run_id, name, market, liquidator_model, liquidations FROM runs ORDER BY market, name, run_id"
    ).fetchall()
    runs = [run for run in runs if market in (None, run[2])]
    if runs:
        console.print("\nruns")
        console.print(
            _table(
                ("run", "name", "market", "liquidators", "liquidations"),
                [(run[0][:12], *run[1:]) for run in runs],
                right={4},
            )
        )


def _market(lake: Lake, name: str, show: Callable[[Any], None]) -> None:
    from backtest.inexact import doubts, kinds
    from backtest.lake import claims
    from backtest.lake.queries import valued_in_sql
    from backtest.reconstruct import is_current, unfolded
    from backtest.report.tables import moment
    from backtest.unread import in_words, unread_imports

    record = lake.manifest.markets[name]
    if record.config is not None:
        config = record.config
        show(
            f"{name}: {config.protocol} on chain {config.chain_id}, from block {config.start_block}."
            f" {shown(config.description, 1_000)}".rstrip(". ")
        )
    else:
        show(f"{name}: no description")
    if ranges := claims.claimed(lake, name):
        show(f"  {claims.in_words(ranges)} are complete as files claim: no node has shown it")
    for fact, value in sorted(record.provenance.items()):
        if fact == claims.FACT:
            continue
        show(f"  {shown(fact)}: {shown(value)}")
    show(
        _table(("  source", "blocks", "gaps"), _coverage(record.coverage))
        if record.coverage
        else "  no blocks are complete"
    )
    datasets: dict[str, list[int]] = {}
    for file in record.files:
        total = datasets.setdefault(file.dataset, [0, 0, 0])
        for place, amount in enumerate((1, file.rows, file.bytes)):
            total[place] += amount
    rows = [(f"  {dataset}", files, count, _bytes(size)) for dataset, (files, count, size) in datasets.items()]
    show(_table(("  dataset", "files", "rows", "size"), rows, right={1, 2, 3}))
    quarantined = sum(total[1] for dataset, total in datasets.items() if dataset.endswith("/Quarantine"))
    if quarantined:
        show(f"  {quarantined} logs or rows are in quarantine: SELECT * FROM quarantine")
    if record.config is not None:
        for line in in_words(unread_imports(lake, name)):
            show(f"  {shown(line, 400)}")
    if record.config is not None and (why := unfolded(lake, name)):
        show(f"  {why}: SELECT * FROM liquidations WHERE without_state")
    elif any(dataset.startswith("raw/") for dataset in datasets) and not is_current(lake, name):
        show("  canonical tables are missing or older than the raw events: backtest reconstruct")
    elif record.config is not None and "canonical/prices" in datasets:
        told = [
            (f"  {shown(one.asset)}", one.kind, one.steps, moment(one.first), moment(one.last))
            for one in kinds(lake, name)
        ]
        if told:
            show(_table(("  prices", "kind", "steps", "from", "to"), told, right={2}))
        found = doubts(lake, name)
        rows = [(f"  {shown(one.asset)}", one.steps, one.total, one.why) for one in found]
        show(
            _table(("  prices not exact", "steps", "of", "why"), rows, right={1, 2})
            if rows
            else "  all prices are exact"
        )
        if not valued_in_sql(record.config.protocol):
            show("  no rows in views of positions and health: backtest account, near and risk give them")


def _coverage(coverage: Mapping[str, Sequence[tuple[int, int]]]) -> list[tuple[str, str, str]]:
    """Sources with the same ranges share a line."""
    together: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for source, ranges in coverage.items():
        together.setdefault(tuple(ranges), []).append(source)
    rows = []
    for ranges, sources in together.items():
        gaps = [f"{before[1] + 1} to {after[0] - 1}" for before, after in pairwise(ranges)]
        named = ", ".join(sorted(sources)) if len(sources) <= 2 else f"{len(sources)} sources"
        rows.append((f"  {named}", f"{ranges[0][0]} to {ranges[-1][1]}", _some(gaps, 5) or "none"))
    return sorted(rows)


def _some(words: Sequence[str], count: int) -> str:
    return ", ".join(words[:count]) + (f" and {len(words) - count} more" if len(words) > count else "")


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[int] = ()) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(header):
        table.add_column(name, justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(f"{value:,}".replace(",", " ") if isinstance(value, int) else shown(str(value)) for value in row)
        )
    return table


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
