"""``backtest reconstruct``: the canonical tables of a lake, rebuilt from its raw events."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def reconstruct(*, lake: Path, market: str | None = None) -> None:
    """Rebuild the canonical tables of a lake from its raw events.

    Only raw events are fetched; balances, settings, indexes, prices, parameters and liquidations are a fold of them in
    chain order. Tables that are up to date are left as they are. Run it after a fetch.

    Examples:

        backtest reconstruct --lake data/lake

        backtest reconstruct --lake data/lake --market ethereum-core

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Name of the market; without it every market of the lake.
    """
    from rich.progress import Progress

    from backtest.lake import Lake
    from backtest.reconstruct import is_current, unfolded
    from backtest.reconstruct import reconstruct as rebuild
    from backtest.unread import in_words, unread_imports

    opened = Lake(lake)
    for name in [market] if market else opened.markets():
        opened.market_config(name)
        if market is None and (why := unfolded(opened, name)):
            print(why)
            for line in in_words(unread_imports(opened, name)):
                print(f"{name}: {line}")
            continue
        made = [file for file in opened.files(None, name) if file.dataset.startswith("canonical/")]
        if is_current(opened, name) and not opened.damaged(made):
            print(f"{name}: up to date")
            continue
        with Progress(transient=True) as bar:
            task = bar.add_task(name, total=None)
            summary = rebuild(opened, name, progress=partial(_show, bar, task))
        counted = ", ".join(
            f"{rows} {table}" for table, rows in summary.rows.items() if table in ("events", "accounts", "liquidations")
        )
        print(f"{name}: blocks {summary.from_block} to {summary.to_block}: {counted}")
        opened.refresh()
        for note in (*summary.notes, *in_words(unread_imports(opened, name))):
            print(f"{name}: {note}")


def _show(bar: Progress, task: TaskID, done: int, total: int) -> None:
    bar.update(task, completed=done, total=total)
