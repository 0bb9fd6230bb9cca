"""The rows of one stress in its lake."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import LakeBusy
from backtest.lake import Lake
from backtest.result_tables import STRESSES, as_table
from backtest.stress.paths import PathTask
from backtest.sweep.worker import Done
from backtest.tables import RULES_VERSION

SECONDS = 30
"""A commit is made at least this often while paths are done."""
CHUNK = 25
"""Paths of one task, at most."""
_TRIES, _PAUSE = 60, 1.0  # while another writer is at work


class StressStore:
    """What is stored of a stress, and what it lacks. ``failed``: reasons of tasks and paths that failed."""

    def __init__(self, lake: Lake, market: str, stress_id: str) -> None:
        self._lake, self._market, self.stress_id = lake, market, stress_id
        self._done: list[Mapping[str, pa.Table]] = []
        self._since = time.monotonic()
        self.failed: list[str] = []

    def tasks(self, planned: Sequence[int], *, retry: bool) -> list[PathTask]:
        """What is to be done of so many paths by case; ``retry``: failed paths too."""
        stored = self._own("stress_paths", ["stress_id", "ordinal", "path", "error"])
        if retry:
            stored = stored.filter(pc.is_null(stored["error"]))
        there = set(zip(stored["ordinal"].to_pylist(), stored["path"].to_pylist(), strict=True))
        found = []
        for case, count in enumerate(planned):
            lacking = [number for number in range(count) if (case, number) not in there]
            for at in range(0, len(lacking), CHUNK):
                numbers = tuple(lacking[at : at + CHUNK])
                found.append(PathTask(f"{case}/{numbers[0]}", self.stress_id, case, numbers))
        return found

    def describe(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Store what the stress is, where it is not stored; a failed path that is tried again loses its row."""
        data = {
            f"results/{name}": as_table(STRESSES[name], each, {"stress_id": self.stress_id, "market": self._market})
            for name, each in rows.items()
            if each and self.lacks(name)
        }
        if data:
            self._commit(data)

    def lacks(self, name: str) -> bool:
        """Whether one of its tables has no row."""
        return not self._own(name, ["stress_id"]).num_rows

    def forget_failed(self) -> None:
        """Delete the rows of paths that failed."""
        name = "results/stress_paths"
        if pc.any(pc.is_valid(self._own("stress_paths", ["stress_id", "error"])["error"])).as_py():
            with self._lake.writer() as writer:
                change = {name: lambda table: table.filter(pc.is_null(table["error"]))}
                writer.edit(self._market, [self.stress_id], change, key="stress_id")

    def add(self, done: Done) -> int:
        """Take the outcome of a task, and commit now and then; how many paths it settled."""
        if done.tables is None:
            self.failed.append(done.error or "")
            return 0
        table = done.tables["stress_paths"]
        self.failed += [error for error in table["error"].to_pylist() if error is not None]
        self._done.append(done.tables)
        if time.monotonic() - self._since >= SECONDS:
            self.flush()
        return int(table.num_rows)

    def flush(self) -> None:
        """Commit what is done."""
        if self._done:
            names = sorted({name for tables in self._done for name in tables})
            self._commit(
                {
                    f"results/{name}": pa.concat_tables([tables[name] for tables in self._done if name in tables])
                    for name in names
                }
            )
        self._done, self._since = [], time.monotonic()

    def _own(self, name: str, columns: list[str]) -> pa.Table:
        table = self._lake.read(f"results/{name}", self._market, columns=columns)
        return table.filter(pc.equal(table["stress_id"], self.stress_id))

    def _commit(self, data: Mapping[str, pa.Table]) -> None:
        for left in range(_TRIES, 0, -1):
            try:
                with self._lake.writer() as writer:
                    writer.append_all(self._market, data, stamp=RULES_VERSION)
                return
            except LakeBusy:
                if left == 1:
                    raise
                time.sleep(_PAUSE)
