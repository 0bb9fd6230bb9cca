"""Results to one offline page: everything on it comes from SQL over a lake; nothing is replayed.

write_report(Lake("data/lake"), ["4f1c", "9a02"], Path("report.html"))
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backtest.report import queries as q
from backtest.report import tables

if TYPE_CHECKING:
    from backtest.lake import Lake


def select(lake: Lake, wanted: Sequence[str] = (), *, base: str | None = None, market: str | None = None) -> q.Selection:
    """The runs of a page.

    Args:
        lake: where the runs are.
        wanted: ids, first digits of ids, or names; none for all runs of the lake.
        base: the run that others are compared with; None picks ``tables.base_of``.
        market: whose runs; may be None where the words, or all runs of the lake, are of one market.

    Raises:
        UserError: a run is unknown or ambiguous, or they are of several markets.
    """

    def query(text: str) -> list[q.Row]:
        rows: list[q.Row] = lake.sql(text).to_arrow_table().to_pylist()
        return rows

    runs = q.find_runs(query, wanted, market)
    config = lake.market_config(runs[0]["market"])
    chosen = tables.base_of(runs) if base is None else q.find_runs(query, [base], config.name)[0]
    if chosen not in runs:
        runs = (chosen, *runs)
    return q.Selection(query, runs, chosen, config.name, config.base_decimals, config.base_currency)


def write_report(lake: Lake, wanted: Sequence[str], path: Path, *, base: str | None = None, market: str | None = None) -> q.Selection:
    """Write the page of these runs to ``path``; see ``select`` for the arguments and errors."""
    from backtest.report.page import render

    selection = select(lake, wanted, base=base, market=market)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(selection, chain_id=lake.market_config(selection.market).chain_id), encoding="utf-8")
    return selection


def notes(runs: Sequence[q.Row]) -> list[str]:
    """Assumptions and warnings that the runs state, each once: first those of all runs, then others after the names of their runs."""
    labels = tables.labels_of(runs)
    stated_by: dict[str, list[str]] = {}
    for label, run in zip(labels, runs, strict=True):
        for note in json.loads(run["notes"]):
            stated_by.setdefault(note, []).append(label)
    shared = [note for note, names in stated_by.items() if names == labels]
    return shared + [f"{', '.join(names)}: {note}" for note, names in stated_by.items() if names != labels]
