"""Results to one offline page: everything on it comes from SQL over a lake; nothing is replayed.

write_report(Lake("data/lake"), ["4f1c", "9a02"], Path("report.html"))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from backtest.report import competition, joint, joint_network, selection, tables
from backtest.report.selection import Query, Row, Selection, printable

if TYPE_CHECKING:
    from backtest.lake import Lake


def select(lake: Lake, wanted: Sequence[str] = (), *, market: str | None = None) -> Selection:
    """The runs of a comparison or page, and what they are compared with.

    Args:
        lake: where the runs are.
        wanted: ids, first digits of ids, or names; none for all runs of the lake (``selection.choose``).
        market: whose runs; may be None where the words, or all runs of the lake, are of one market.

    Raises:
        UserError: a run is unknown, ambiguous or of an older version, or they are of several markets.
    """
    query = _query(lake)
    runs, known, older = selection.choose(query, wanted, market)
    config = lake.market_config(runs[0]["market"])
    return Selection(query, runs, known, config.name, str(lake.path), config.base_decimals, config.base_currency, older)


def find(lake: Lake, word: str, *, market: str | None = None) -> Row:
    """The stored run that ``word`` names: its id, first digits of it, or its name. UserError where it is none or
    several.
    """
    return selection.find(_query(lake), word, market)


def write_report(lake: Lake, wanted: Sequence[str], path: Path, *, market: str | None = None) -> Selection:
    """Write the page of these runs to ``path``; see ``select`` for the arguments and errors."""
    from backtest.report.page import write_runs

    shown = select(lake, wanted, market=market)
    write_runs(shown, path, chain_id=lake.market_config(shown.market).chain_id)
    return shown


def opportunities_of(lake: Lake, run_id: str, *, market: str) -> list[str]:
    """Printed lines on what came of a run's opportunities and where the bonus went; none where it has no
    opportunities.
    """
    config = lake.market_config(market)
    return competition.lines(_query(lake), run_id, config.base_decimals, config.base_currency)


def joint_of(lake: Lake, joint_id: str) -> str:
    """Printed tables of what the markets of a joint replay lose together and alone, what that says, and what connects
    them.
    """
    from backtest.report.text import WIDTH

    query = _query(lake)
    network, said = joint_network.tables_of(query, joint_id)
    lines = [tables.as_text(joint.table(query, joint_id)), "", joint.sentence(query, joint_id)]
    for title, table in network:
        lines += ["", title, tables.as_text(table)]
    return "\n".join([*lines, *(["", *wrap(said, WIDTH)] if network else [])])


def ranking_of(lake: Lake, joint_id: str) -> str:
    """A printed table of who matters to a joint replay, and what it rests on; empty where nobody was left out."""
    from backtest.report.text import WIDTH

    ranks, said = joint.ranking(_query(lake), joint_id)
    return "" if ranks is None else "\n".join([tables.as_text(ranks), "", *wrap(said, WIDTH)])


def repeats_of(lake: Lake, run_id: str, *, market: str) -> str:
    """A printed table of means over the seeds under which a run was repeated, with 95 % intervals; empty where it was
    not.
    """
    config = lake.market_config(market)
    table = competition.repeats(_query(lake), run_id, config.base_decimals, config.base_currency)
    return "" if table is None else tables.as_text(table)


def _query(lake: Lake) -> Query:
    def query(text: str) -> list[Row]:
        return printable(lake.sql(text).to_arrow_table().to_pylist())

    return query


def notes(runs: Sequence[Row]) -> list[str]:
    """Assumptions and warnings that the runs state, each once: first those of all runs, then others after the names of
    their runs.
    """
    labels = tables.labels_of(runs)
    stated_by: dict[str, list[str]] = {}
    for label, run in zip(labels, runs, strict=True):
        for note in tables.notes_of(run):
            stated_by.setdefault(note, []).append(label)
    shared = [note for note, names in stated_by.items() if names == labels]
    return shared + [f"{', '.join(names)}: {note}" for note, names in stated_by.items() if names != labels]
