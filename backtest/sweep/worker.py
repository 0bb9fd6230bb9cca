"""One replay of a sweep in whatever process does it, and the material that it needs, held once per process.

Material travels as the canonical tables in uncompressed Arrow files, opened memory-mapped: processes of one machine
share their pages.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import msgspec
import pyarrow as pa

from backtest.joint import asked_of, members_among, replayed_jointly
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.replay import ENGINE_VERSION
from backtest.results import Material, read_material, replayed
from backtest.scenario import Scenario
from backtest.tables import RULES_VERSION
from backtest.version import VERSION

VERSIONS = (VERSION, RULES_VERSION, ENGINE_VERSION)


@dataclass(frozen=True, slots=True)
class Done:
    """A task's tables, or why there are none. ``beside``: of a replay of several markets those of the others."""

    run_id: str
    tables: Mapping[str, pa.Table] | None
    error: str | None
    beside: tuple[Mapping[str, pa.Table], ...] = ()


class Job(Protocol):
    """A task that executors carry to whoever does it."""

    @property
    def run_id(self) -> str:
        """What its outcome is known by."""

    def perform(self, folder: str) -> Done:
        """Do it, from the material in a folder. Whatever goes wrong is its reason: it must not end the others."""


@dataclass(frozen=True, slots=True)
class Task:
    """A scenario to be replayed from the material in a folder. ``versions`` are those of the program that asks."""

    run_id: str
    scenario: Scenario
    versions: tuple[str, str, str] = VERSIONS

    def perform(self, folder: str) -> Done:
        """See ``Job``."""
        if self.versions != VERSIONS:
            theirs, ours = "/".join(self.versions), "/".join(VERSIONS)
            return Done(self.run_id, None, f"the worker runs version {ours}, the sweep {theirs}: install the same")
        try:
            first, *others = _replayed(materials_in(folder), self.scenario)
        except Exception as error:
            kind = "" if hasattr(error, "fix") else f"{type(error).__name__}: "
            return Done(self.run_id, None, kind + " ".join(str(error).split()))
        return Done(self.run_id, first, None, tuple(others))


def _replayed(materials: Sequence[Material], scenario: Scenario) -> list[Mapping[str, pa.Table]]:
    """The tables of each market's run."""
    if scenario.joint is None:
        return [replayed(materials[0], scenario, start=materials[0].start(scenario)).tables]
    members = members_among(materials, scenario.joint)
    made = replayed_jointly(materials, members, asked_of(scenario, members))
    return [{**run.tables, "joints": row} for run, row in made]


def pack(lake: Lake, market: str, folder: Path, place: int = 0) -> None:
    """Write the material of a market into a folder. ``place``: among the markets of the folder."""
    for name, table in read_material(lake, market).items():
        with pa.OSFile(str(folder / f"{place}.{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
            out.write_table(table.combine_chunks())
    body = msgspec.json.encode((lake.market_config(market), lake.digest(market)))
    (folder / f"{place}.config.json").write_bytes(body)


@lru_cache(maxsize=1)
def materials_in(folder: str) -> tuple[Material, ...]:
    """The material of every market of a folder, loaded once per process."""
    found: list[Material] = []
    while (described := Path(folder) / f"{len(found)}.config.json").exists():
        tables = {}
        for path in sorted(Path(folder).glob(f"{len(found)}.*.arrow")):
            with pa.memory_map(str(path)) as source:
                tables[path.stem.partition(".")[2]] = pa.ipc.open_file(source).read_all()
        config, digest = msgspec.json.decode(described.read_bytes(), type=tuple[MarketConfig, str])
        found.append(Material.of(config, digest, tables))
    return tuple(found)


def material_in(folder: str) -> Material:
    """That of the first, or only, market of a folder."""
    return materials_in(folder)[0]


def unpacked(files: Mapping[str, bytes], within: str) -> str:
    """A new folder with these files."""
    folder = tempfile.mkdtemp(prefix="backtest-sweep-", dir=within)
    for name, data in files.items():
        (Path(folder) / name).write_bytes(data)
    return folder
