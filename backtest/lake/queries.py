"""The SQL files of ``queries/``: one SELECT a file, named after its view, with a header that says what it is.

Folders: staging (one view per stored table), intermediate, marts, macros (table macros: views with parameters) and
checks (views that return violations). A header is a block of comment lines: ``Purpose``, ``Grain``, for macros
``Parameters``, and ``Columns`` with the unit of each. Every column of seconds since 1970 gets a time in UTC beside it:
``timestamp`` a ``time``, ``from_timestamp`` a ``from_time``, ``actual_from`` an ``actual_from_time``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from backtest.errors import LakeError
from backtest.resources import resource

FOLDERS = ("staging", "intermediate", "marts", "macros", "checks")
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_ENTRY = re.compile(r"^--   ([a-z_][a-z0-9_]*): (.+)$")


@dataclass(frozen=True, slots=True)
class Query:
    """One file. ``parameters`` and ``columns`` map names to what the header says of them; ``select`` is the text
    without comments.
    """

    name: str
    folder: str
    purpose: str
    grain: str
    parameters: dict[str, str]
    columns: dict[str, str]
    select: str

    @property
    def statement(self) -> str:
        """What creates the view or macro."""
        if self.folder == "macros":
            return f"CREATE OR REPLACE MACRO {self.name}({', '.join(self.parameters)}) AS TABLE {self.select}"
        return f"CREATE OR REPLACE VIEW {self.name} AS {self.select}"


def parse(name: str, folder: str, text: str) -> Query:
    """A query from its text; LakeError if the header lacks a part."""
    parts: dict[str, str] = {}
    entries: dict[str, dict[str, str]] = {"Parameters": {}, "Columns": {}}
    section = ""
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _ENTRY.match(line):
            entries.setdefault(section, {})[match[1]] = match[2]
        else:
            section, _, rest = line.removeprefix("-- ").partition(":")
            parts[section] = rest.strip()
    wanted = {"Purpose", "Grain", "Columns"} | ({"Parameters"} if folder == "macros" else set())
    for part in sorted(wanted - parts.keys()):
        raise LakeError(
            f"queries/{folder}/{name}.sql: the header has no '{part}:'", "see the other files of the folder"
        )
    select = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip().rstrip(";")
    columns = entries["Columns"]
    if folder != "checks" and any(map(_is_time, columns.items())):
        columns, select = _with_times(columns, select)
    return Query(name, folder, parts["Purpose"], parts["Grain"], entries["Parameters"], columns, select)


def _with_times(columns: dict[str, str], select: str) -> tuple[dict[str, str], str]:
    """The same rows with a ``time`` right behind each ``timestamp``: said once for all views."""
    described: dict[str, str] = {}
    chosen = []
    for name, what in columns.items():
        described[name] = what
        chosen.append(name)
        if _is_time((name, what)):
            time = f"{name.removesuffix('timestamp').removesuffix('_')}_time".removeprefix("_")
            described[time] = f"{name} as date and time, UTC (TIMESTAMP)"
            chosen.append(f"make_timestamp({name} * 1000000) AS {time}")
    return described, f"SELECT {', '.join(chosen)} FROM (\n{select}\n)"


def _is_time(column: tuple[str, str]) -> bool:
    name, what = column
    return name == "timestamp" or "seconds since 1970" in what


def load(folder: Path | None = None) -> list[Query]:
    """All queries, each after those that it mentions. ``folder`` defaults to the queries that ship with the package."""
    root = folder or resource("queries")
    found: dict[str, Query] = {}
    for part in FOLDERS:
        for path in sorted((root / part).glob("*.sql")):
            if path.stem in found:
                raise LakeError(
                    f"{path}: there is a query of that name in {found[path.stem].folder}", "names are unique"
                )
            found[path.stem] = parse(path.stem, part, path.read_text())
    mentions = {
        name: (set(_WORD.findall(_without_schemas(query.select))) & found.keys()) - {name}
        for name, query in found.items()
    }
    try:
        return [found[name] for name in TopologicalSorter(mentions).static_order()]
    except CycleError as error:
        raise LakeError(
            f"queries mention each other in a circle: {' -> '.join(error.args[1])}", "break the circle"
        ) from None


def _without_schemas(select: str) -> str:
    """The text without names of stored tables (``canonical.liquidations``), which are not views of ours."""
    return re.sub(r"\b(lake|raw|canonical|results)\.[a-z_]+", "", select)
