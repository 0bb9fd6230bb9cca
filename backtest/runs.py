"""Stored runs by name: each name stands for one run of a market. List, rename, delete; each change is one commit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from backtest import foreign
from backtest.errors import UserError
from backtest.lake import Lake

LONGEST = 200


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as the list shows it. ``dependants``: ids of runs that are compared with it; ``sweeps``: names
    of sweeps that it is a part of; ``superseded``: blocks that were fetched again since and came out otherwise.
    """

    run_id: str
    name: str
    market: str
    kind: str | None
    liquidations: int
    dependants: tuple[str, ...]
    sweeps: tuple[str, ...]
    superseded: str | None = None


def stored(lake: Lake, market: str | None = None) -> list[StoredRun]:
    """Every run of the lake, by market and name."""
    rows = lake.sql(
        """
        SELECT r.run_id, r.name, r.market, p.kind, r.liquidations, (SELECT list(DISTINCT d.run_id ORDER BY d.run_id)
            FROM run_pairs AS d WHERE r.run_id IN (d.baseline_id, d.history_id)), (SELECT list(DISTINCT w.name ORDER BY
            w.name) FROM sweep_scenarios AS s JOIN sweeps AS w USING (sweep_id) WHERE s.run_id = r.run_id), r.superseded
        FROM runs AS r LEFT JOIN run_pairs AS p USING (run_id, market) ORDER BY r.market, r.name, r.run_id
        """
    ).fetchall()
    found = [
        StoredRun(run_id, name, where, kind, liquidations, tuple(dependants or ()), tuple(sweeps or ()), gone)
        for run_id, name, where, kind, liquidations, dependants, sweeps, gone in rows
    ]
    return [run for run in found if market in (None, run.market)]


def find(lake: Lake, word: str, market: str | None = None) -> StoredRun:
    """The run whose id starts with, or whose name is, ``word``. UserError where it is none or several."""
    known = stored(lake, market)
    hits = [run for run in known if run.name == word] or [run for run in known if word and run.run_id.startswith(word)]
    if len(hits) != 1:
        shown = ", ".join(f"{run.run_id[:12]} ({foreign.shown(run.name, 60)})" for run in (hits or known)[:8])
        what = f"{'several runs match' if hits else 'there is no run'} '{foreign.shown(word, 60)}'"
        raise UserError(what, f"give an id or its first digits: {shown or 'none is stored'}")
    return hits[0]


def rename(lake: Lake, run: StoredRun, name: str) -> None:
    """Give a run another name. UserError for a name that another run of its market has, or that is no line of text."""
    _checked(name)
    with lake.writer() as writer:
        for other, held in _names(lake, run.market).items():
            if held == name and other != run.run_id:
                raise UserError(f"'{name}' is the name of run {other[:12]}", "choose another, or rename that one first")
        writer.edit(run.market, [run.run_id], {"results/runs": lambda table: named(table, [name] * table.num_rows)})


def take(lake: Lake, market: str, run_id: str, name: str) -> str:
    """Give a stored run the name that it was asked for by; returns the name that it has now (``unlike``)."""
    with lake.writer() as writer:
        wanted = unlike(_names(lake, market), run_id, name)
        writer.edit(market, [run_id], {"results/runs": lambda table: named(table, [wanted] * table.num_rows)})
    return wanted


def delete(lake: Lake, chosen: Collection[StoredRun], *, dependants: bool = False) -> int:
    """Delete all rows of runs; returns how many. UserError where others are compared with one of them, or a sweep has
    it, unless ``dependants``: then those that are compared with them go too, and sweeps replay what they lack when
    they are run again.
    """
    ids = {run.run_id for run in chosen}
    if dependants:
        ids |= {other for run in chosen for other in run.dependants}
    for run in chosen if not dependants else ():
        remedy = "delete those first, or all of them: --with-dependants"
        if others := [other[:12] for other in run.dependants if other not in ids]:
            what = ", ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else "")
            raise UserError(f"run '{foreign.shown(run.name)}' is what {what} are compared with", remedy)
        if run.sweeps:
            raise UserError(
                f"run '{foreign.shown(run.name)}' is a part of sweep '{foreign.shown(run.sweeps[0])}'", remedy
            )
    rows = 0
    with lake.writer() as writer:
        for market in sorted({run.market for run in chosen}):
            rows += writer.edit(market, ids, {})
        writer.collect_garbage()
    return rows


def delete_all(lake: Lake, market: str) -> int:
    """Delete all stored results of a market, runs and sweeps and validations, read or not; returns how many rows."""
    rows = sum(file.rows for file in lake.files(None, market) if file.dataset.startswith("results/"))
    with lake.writer() as writer:
        writer.replace(market, "results/", (), stamp="")
    return rows


def apart(lake: Lake, market: str, runs: pa.Table) -> pa.Table:
    """Rows of ``runs`` that are about to be stored, with names that no other run of the market has."""
    known = _names(lake, market)
    names = []
    for run_id, name in zip(runs["run_id"].to_pylist(), runs["name"].to_pylist(), strict=True):
        names.append(unlike(known, run_id, name))
        known[run_id] = names[-1]
    return runs if names == runs["name"].to_pylist() else named(runs, names)


def unlike(known: Mapping[str, str], run_id: str, name: str) -> str:
    """``name``, or where another run has it, that with the first digits of the id behind it."""
    taken = any(held == name and other != run_id for other, held in known.items())
    return f"{name} ({run_id[:8]})" if taken else name


def named(runs: pa.Table, names: list[str]) -> pa.Table:
    """The rows under these names."""
    place = runs.schema.get_field_index("name")
    field = runs.schema.field(place)
    return runs.set_column(place, field, pa.array(names, pa.string()).cast(field.type))


def _names(lake: Lake, market: str) -> dict[str, str]:
    table = lake.read("results/runs", market, columns=["run_id", "name"])
    return dict(zip(table["run_id"].to_pylist(), pc.cast(table["name"], pa.string()).to_pylist(), strict=True))


def _checked(name: str) -> None:
    if not name.strip() or len(name) > LONGEST or foreign.shown(name, LONGEST) != name:
        raise UserError(f"'{foreign.shown(name, 60)}' is no name", f"give one line of 1 to {LONGEST} characters")
