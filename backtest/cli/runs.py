"""``backtest runs``: what a lake stores of replays; other names; deletion."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from backtest.errors import UserError

runs = App(
    name="runs",
    help="""List, rename and delete stored runs. A name stands for one run of a market.

Examples:

    backtest runs list --lake data/lake

    backtest runs rename 4f1c 'bonus 10 %' --lake data/lake

    backtest runs delete 'bonus 10 %' --lake data/lake
""",
    help_format="plaintext",
)


@runs.command(name="list")
def list_(*, lake: Path, market: str | None = None) -> None:
    """List stored runs.

    Parameters
    ----------
    lake
        Folder of the lake.
    market
        Only runs of this market.
    """
    from rich.console import Console
    from rich.table import Table

    from backtest.foreign import shown
    from backtest.lake import Lake
    from backtest.runs import stored

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "name", "market", "kind", "liquidations", "compared with it", "sweeps"):
        table.add_column(
            name, overflow="fold", justify="right" if name in ("liquidations", "compared with it") else "left"
        )
    found = stored(Lake(lake), market)
    for run in found:
        cells = (run.run_id[:12], shown(run.name), run.market, run.kind or "older version", str(run.liquidations))
        table.add_row(*cells, str(len(run.dependants)), shown(", ".join(run.sweeps)))
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 10_000)
    console.print(table if found else "no runs are stored")
    for run in found:
        if run.superseded:
            console.print(
                f"run {run.run_id[:12]} was made before {run.superseded} were fetched again and came out otherwise: "
                "replay it, and delete this one"
            )


@runs.command
def rename(run: str, name: str, *, lake: Path, market: str | None = None) -> None:
    """Give a stored run another name, which no other run of its market may have.

    Parameters
    ----------
    run
        Its id, first digits of it, or its name.
    name
        The new name.
    lake
        Folder of the lake.
    market
        Only runs of this market.
    """
    from backtest.lake import Lake
    from backtest.runs import find
    from backtest.runs import rename as change

    opened = Lake(lake)
    found = find(opened, run, market)
    change(opened, found, name)
    print(f"run {found.run_id[:12]}: '{name}'")


@runs.command
def delete(
    *words: str, lake: Path, market: str | None = None, with_dependants: bool = False, all: bool = False
) -> None:
    """Delete stored runs: all their rows, in one commit.

    Parameters
    ----------
    words
        Ids, first digits of ids, or names.
    lake
        Folder of the lake.
    market
        Only runs of this market.
    with_dependants
        Also runs that are compared with one of them, and runs that are a part of a sweep.
    all
        Everything that was stored of a market: runs, sweeps and validations; also where files are damaged.
    """
    from backtest.cli.replay import only_market
    from backtest.lake import Lake
    from backtest.runs import delete as remove
    from backtest.runs import delete_all, find

    if bool(words) == all:
        raise UserError("which runs?", "name some, or give --all")
    opened = Lake(lake)
    if all:
        name = market or only_market(opened)
        opened.market_config(name)
        print(f"{name}: {delete_all(opened, name):,} rows of results deleted")
        return
    chosen = [find(opened, word, market) for word in words]
    rows = remove(opened, chosen, dependants=with_dependants)
    print(f"{rows:,} rows deleted: {', '.join(run.run_id[:12] for run in chosen)}")
