"""Sweeps: many scenarios of one market, or of several together, replayed with the code of single runs, stored as single
runs are, and what they have in common.

    from backtest import Lake
    from backtest.sweep import Processes, parse_sweep, sweep

    sweep(Lake("data/lake"), "ethereum-core", parse_sweep(text, "sweep.toml"), Processes(8))

A sweep that was stopped, or killed, continues where its last commit was. Its rows do not depend on who replays them, or
in which order.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import LakeBusy, UserError
from backtest.fitted import kept_fitted
from backtest.joint import members_of, named_in
from backtest.lake import Lake
from backtest.replay import ENGINE_VERSION
from backtest.replay.timeline import Timeline
from backtest.result_tables import RUN_TABLES, SWEEPS
from backtest.results import load_market, read_material
from backtest.runs import apart, named
from backtest.sweep.executors import Dask, Executor, Processes, Serial
from backtest.sweep.plan import Plan, Planned, plan_of
from backtest.sweep.spec import Sweep, parse_sweep, text_of, with_axes
from backtest.sweep.worker import Done, Task, materials_in, pack
from backtest.tables import RULES_VERSION

__all__ = [
    "Dask",
    "Executor",
    "Outcome",
    "Processes",
    "Serial",
    "Sweep",
    "carry_out",
    "parse_sweep",
    "sweep",
    "with_axes",
]

BATCH = 64
"""Replays of one commit, at most;"""
BATCH_SECONDS = 60
"""a commit is made at least this often while replays are done,"""
BATCH_BYTES = 1 << 28
"""and when their tables hold this much."""
_TRIES, _PAUSE = 60, 1.0  # while another writer is at work

Progress = Callable[[int, int, int], None]
"""Called with the number of replays settled, of all, and of those that failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call of ``sweep`` did. ``failed``: (name, reason) of every scenario that has no run, in order."""

    sweep_id: str
    scenarios: int
    replayed: int
    failed: tuple[tuple[str, str], ...]


def sweep(
    lake: Lake,
    market: str,
    spec: Sweep,
    executor: Executor | None = None,
    *,
    retry: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Replay what the lake lacks of a sweep, and store it, batch by batch: runs and the rows that name them in one
    commit.

    Args:
        market: of several, which ``spec.scenario.joint`` names, the first.
        executor: who replays; this process by default.
        retry: try again what failed in an earlier call; else it stays failed.

    Raises:
        UserError: the market's tables are missing or stale; the sweep makes no sense. A scenario that fails raises
            nothing: it is a row.
    """
    lake.refresh()
    timeline = Timeline.of(read_material(lake, market))
    joint = spec.scenario.joint
    if joint is None:
        plan = plan_of(
            spec,
            market,
            lake.digest(market),
            timeline,
            load_market(lake, market).name_of,
            fitted=kept_fitted(lake, market),
        )
    else:
        members = members_of(lake, joint)
        if market != joint.markets[0]:
            raise UserError(f"market '{market}' where the scenario names {', '.join(joint.markets)}", "leave one out")
        plan = plan_of(
            spec, market, lake.digest(market), timeline, lambda text: named_in(members, text), members=members
        )
    return carry_out(lake, plan, executor, retry=retry, progress=progress)


def carry_out(
    lake: Lake, plan: Plan, executor: Executor | None = None, *, retry: bool = False, progress: Progress | None = None
) -> Outcome:
    """Replay what the lake lacks of a plan; arguments as those of ``sweep``."""
    store = _Store(lake, plan)
    store.begin(retry)
    tasks = [Task(run_id, plan.scenarios[run_id]) for run_id in store.lacking]
    settled, total = len(plan.scenarios) - len(tasks), len(plan.scenarios)
    if progress is not None:
        progress(settled, total, len(store.failed))
    if tasks:
        with tempfile.TemporaryDirectory(prefix="backtest-sweep-") as folder:
            for place, market in enumerate((plan.market, *plan.beside)):
                pack(lake, market, Path(folder), place)
            outcomes = (executor or Serial()).outcomes(tasks, folder)
            try:
                for done in outcomes:
                    store.add(done)
                    settled += 1
                    if progress is not None:
                        progress(settled, total, len(store.failed))
            finally:
                # Stopped, too: what is done is kept.
                store.flush()
                materials_in.cache_clear()
    lake.refresh()
    return Outcome(
        plan.sweep_id,
        len(plan.rows),
        store.replayed,
        tuple((row.name, store.failed[row.ordinal]) for row in store.rows_failed()),
    )


class _Store:
    """The rows and runs of one sweep in its lake."""

    def __init__(self, lake: Lake, plan: Plan) -> None:
        self._lake, self._plan = lake, plan
        self._by_run: dict[str, list[Planned]] = {}
        for row in plan.rows:
            if row.run_id is not None:
                self._by_run.setdefault(row.run_id, []).append(row)
        self._attempts: dict[int, int] = {}
        self._done: list[Done] = []
        self._bytes = 0
        self._since = time.monotonic()
        self.failed: dict[int, str] = {}
        """Reason by the ordinal of each row that failed."""
        self.lacking: list[str] = []
        """Runs that are to be replayed, in the order of the plan."""
        self.replayed = 0

    def rows_failed(self) -> list[Planned]:
        """The rows that failed, in order."""
        return [row for row in self._plan.rows if row.ordinal in self.failed]

    def begin(self, retry: bool) -> None:
        """See what is stored; store what can be told without a replay: the sweep itself, scenarios that make no sense,
        runs that are there.
        """
        latest: dict[int, dict[str, Any]] = {}
        for held in self._own("sweep_scenarios"):
            if held["attempt"] > self._attempts.get(held["ordinal"], 0):
                self._attempts[held["ordinal"]], latest[held["ordinal"]] = held["attempt"], held
        stored = self._stored_runs()
        new: list[dict[str, Any]] = []
        for row in self._plan.rows:
            known = latest.get(row.ordinal)
            if known is not None and (known["status"] == "done" or not retry or row.run_id is None):
                if known["status"] != "done":
                    self.failed[row.ordinal] = known["error"]
            elif row.run_id is None:
                new.append(self._row(row, error=row.error))
                self.failed[row.ordinal] = row.error or ""
            elif row.run_id in stored:
                new.append(self._row(row))
            elif row.run_id not in self.lacking:
                self.lacking.append(row.run_id)
        missing = set(self.lacking)
        # A row whose run another row brings anyway is settled with it.
        self._by_run = {
            run: [row for row in rows if run in missing and self._open(row, latest, retry)]
            for run, rows in self._by_run.items()
        }
        described = self._own("sweeps")
        data = {} if described else self._description()
        self._commit({**data, "sweep_scenarios": new})
        if described and described[0]["name"] != self._plan.sweep.name:
            self._rename()

    def add(self, done: Done) -> None:
        """Take the outcome of a replay, and commit when there is enough."""
        self._done.append(done)
        self._bytes += sum(table.nbytes for table in (done.tables or {}).values())
        for row in self._by_run[done.run_id] if done.error is not None else ():
            self.failed[row.ordinal] = done.error or ""
        if len(self._done) >= BATCH or self._bytes >= BATCH_BYTES or time.monotonic() - self._since >= BATCH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Commit what is done: its runs and their rows appear together, or not at all."""
        if self._done:
            self._commit({}, self._done)
        self._done, self._bytes, self._since = [], 0, time.monotonic()

    # -- parts -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _open(row: Planned, latest: Mapping[int, dict[str, Any]], retry: bool) -> bool:
        known = latest.get(row.ordinal)
        return known is None or (retry and known["status"] != "done")

    def _rename(self) -> None:
        """The sweep is stored under another name: it takes the one that it is asked for by."""
        market, sweep_id, name = self._plan.market, self._plan.sweep_id, self._plan.sweep.name
        with self._lake.writer() as writer:
            change = {"results/sweeps": lambda table: named(table, [name] * table.num_rows)}
            writer.edit(market, [sweep_id], change, key="sweep_id")

    def _own(self, name: str) -> list[dict[str, Any]]:
        table = self._lake.read(f"results/{name}", self._plan.market)
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["sweep_id"], self._plan.sweep_id)).to_pylist()
        return rows

    def _stored_runs(self, market: str | None = None) -> set[str]:
        market = market or self._plan.market
        return set(self._lake.read("results/runs", market, columns=["run_id"])["run_id"].to_pylist())

    def _row(self, row: Planned, *, error: str | None = None, replayed: bool = False) -> dict[str, Any]:
        return {
            "ordinal": row.ordinal,
            "attempt": self._attempts.get(row.ordinal, 0) + 1,
            "role": "baseline" if row.point is None else "scenario",
            "point": row.point,
            "window": row.window,
            "response": row.response,
            "name": row.name,
            "run_id": None if error is not None else row.run_id,
            "status": "done" if error is None else "failed",
            "error": error,
            "replayed": replayed,
        }

    def _description(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of every table of ``SWEEPS`` but the scenarios."""
        plan, spec = self._plan, self._plan.sweep
        return {
            "sweeps": [
                {
                    "name": spec.name,
                    "spec": spec.canonical(),
                    "design": spec.design,
                    "points": len(plan.points),
                    "scenarios": len(plan.rows),
                    "lake_digest": plan.digest,
                    "rules_version": RULES_VERSION,
                    "engine_version": ENGINE_VERSION,
                }
            ],
            "sweep_windows": [
                {
                    "name": w.name,
                    "ordinal": i,
                    "from_block": w.from_block,
                    "to_block": w.to_block,
                    "held_out": w.held_out,
                    "of": plan.of.get(w.name),
                }
                for i, w in enumerate(plan.windows)
            ],
            "sweep_objectives": [{"measure": measure, "better": better} for measure, better in spec.better.items()],
            "sweep_values": [
                {
                    "point": point,
                    "axis": axis,
                    "level": plan.levels[axis].index(value),
                    "value": text_of(value),
                    "number": value if isinstance(value, int) and not isinstance(value, bool) else None,
                }
                for point, values in enumerate(plan.points)
                for axis, value in values.items()
            ],
        }

    def _commit(self, rows: Mapping[str, Sequence[Mapping[str, Any]]], done: Sequence[Done] = ()) -> None:
        """One commit of rows of sweeps and of runs, with the rows that name these."""
        for left in range(_TRIES, 0, -1):
            try:
                with self._lake.writer() as writer:
                    stored = self._stored_runs() if done else set()  # meanwhile, by others
                    for market, runs in self._beside(done):
                        writer.append_all(market, runs, stamp=RULES_VERSION)
                    data = self._tables(rows, done, stored)
                    if data:
                        writer.append_all(self._plan.market, data, stamp=RULES_VERSION)
                self.replayed += sum(1 for each in done if each.tables is not None)
                return
            except LakeBusy:
                if left == 1:
                    raise
                time.sleep(_PAUSE)

    def _tables(
        self, rows: Mapping[str, Sequence[Mapping[str, Any]]], done: Sequence[Done], stored: set[str]
    ) -> dict[str, pa.Table]:
        own = {name: list(each) for name, each in rows.items()}
        place = {run_id: i for i, run_id in enumerate(self.lacking)}
        ordered = sorted(done, key=lambda each: place[each.run_id])
        for each in ordered:
            for first, row in enumerate(self._by_run[each.run_id]):
                made = each.error is None and first == 0 and each.run_id not in stored
                own.setdefault("sweep_scenarios", []).append(self._row(row, error=each.error, replayed=made))
        common = {"sweep_id": self._plan.sweep_id, "market": self._plan.market}
        data = {
            f"results/{name}": pa.Table.from_pylist([{**common, **row} for row in each], SWEEPS[name])
            for name, each in own.items()
            if each
        }
        runs = [each.tables for each in ordered if each.tables is not None and each.run_id not in stored]
        return data | self._joined(self._plan.market, runs)

    def _beside(self, done: Sequence[Done]) -> Iterator[tuple[str, dict[str, pa.Table]]]:
        """Runs of the other markets of a joint replay, before the first one's, which the rows of the sweep name."""
        for place, market in enumerate(self._plan.beside):
            stored = self._stored_runs(market) if done else set()
            own = [each.beside[place] for each in done if each.beside]
            runs = [tables for tables in own if tables["runs"]["run_id"][0].as_py() not in stored]
            if runs:
                yield market, self._joined(market, runs)

    def _joined(self, market: str, runs: Sequence[Mapping[str, pa.Table]]) -> dict[str, pa.Table]:
        """The tables of runs of a market as its datasets."""
        if not runs:
            return {}
        names = [*RUN_TABLES, *(["joints"] if "joints" in runs[0] else [])]
        found = {f"results/{name}": pa.concat_tables([tables[name] for tables in runs]) for name in names}
        return found | {"results/runs": apart(self._lake, market, found["results/runs"])}
