"""The SQL files of ``queries/``: one SELECT a file, named after its view, with a header that says what it is.

Folders: functions (one expression a file, a macro of that name), staging (one view per stored table), intermediate,
marts, macros (table macros: views with parameters) and checks (views that return violations). A header is a block of
comment lines: ``Purpose``, ``Grain`` (of a function: ``Result``), for macros and functions ``Parameters``, and
``Columns`` with the unit of each. Every column of seconds since 1970 gets a time in UTC beside it: ``timestamp`` a
``time``, ``from_timestamp`` a ``from_time``, ``actual_from`` an ``actual_from_time``.

What a protocol's numbers mean is in ``protocols/<name>/``, functions of its own among it: the part ``health.sql`` of
``protocols/some_name/`` is the macro ``some_name_health``. Common SQL names no protocol: its ``FROM
protocols.health(accounts, blocks)`` stands for the union of that part of every folder, in the columns that the common
header describes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from backtest.errors import LakeError
from backtest.resources import resource

FOLDERS = ("functions", "staging", "intermediate", "marts", "macros", "checks")
PROTOCOLS = "protocols"
_PART = re.compile(r"\bFROM protocols\.([a-z_]+)(\([^()]*\))?")
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_CALL = re.compile(r"\b([a-z_][a-z0-9_]*)\(")
_ENTRY = re.compile(r"^--   ([a-z_][a-z0-9_]*): (.+)$")


@dataclass(frozen=True, slots=True)
class Query:
    """One file. ``parameters`` and ``columns`` map names to what the header says of them; ``select`` is the text
    without comments. ``scalar``: an expression, not a SELECT; its ``grain`` is what it results in.
    """

    name: str
    folder: str
    purpose: str
    grain: str
    parameters: dict[str, str]
    columns: dict[str, str]
    select: str
    scalar: bool = False

    @property
    def statement(self) -> str:
        """What creates the view or macro."""
        if self.parameters:
            kind = "" if self.scalar else "TABLE "
            return f"CREATE OR REPLACE MACRO {self.name}({', '.join(self.parameters)}) AS {kind}{self.select}"
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
    scalar = folder == "functions" or "Result" in parts
    wanted = {"Purpose"} | ({"Result"} if scalar else {"Grain", "Columns"})
    wanted |= {"Parameters"} if scalar or folder == "macros" else set()
    for part in sorted(wanted - parts.keys()):
        raise LakeError(
            f"queries/{folder}/{name}.sql: the header has no '{part}:'", "see the other files of the folder"
        )
    select = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip().rstrip(";")
    columns = entries["Columns"]
    if folder != "checks" and any(map(_is_time, columns.items())):
        columns, select = _with_times(columns, select)
    grain = parts["Result" if scalar else "Grain"]
    return Query(name, folder, parts["Purpose"], grain, entries["Parameters"], columns, select, scalar)


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


def load(folder: Path | None = None, protocols: Collection[str] | None = None) -> list[Query]:
    """All queries, each after those that it mentions.

    Args:
        folder: defaults to the queries that ship with the package.
        protocols: names of the protocols that common queries are about, so that a lake does not plan what it has no
            rows for; None, or none that has a folder: all.

    Raises:
        LakeError: a header lacks something, a name is given twice, queries mention each other in a circle, a protocol's
            folder lacks a part that common queries are made of, or a column of it.
    """
    named = frozenset(protocol.replace("-", "_") for protocol in protocols or ())
    return list(_shipped(resource("queries"), named) if folder is None else _load(folder, named))


@cache
def _shipped(root: Path, protocols: frozenset[str]) -> list[Query]:
    """What ships does not change while a process runs."""
    return _load(root, protocols)


def _load(root: Path, protocols: frozenset[str]) -> list[Query]:
    found: dict[str, Query] = {}

    def add(path: Path, name: str, part: str) -> Query:
        if name in found:
            raise LakeError(f"{path}: there is a query of that name in {found[name].folder}", "names are unique")
        found[name] = parse(name, part, path.read_text())
        return found[name]

    parts: dict[str, dict[str, Query]] = {}
    for own in sorted(path for path in (root / PROTOCOLS).glob("*") if path.is_dir()):
        parts[own.name] = {
            path.stem: add(path, f"{own.name}_{path.stem}", PROTOCOLS) for path in sorted(own.glob("*.sql"))
        }
    for part in FOLDERS:
        for path in sorted((root / part).glob("*.sql")):
            add(path, path.stem, part)
    # Every folder is looked at, whatever the lake has: a missing part is seen before its protocol is.
    for query in found.values():
        _over_protocols(query, parts)
    chosen = {name: own for name, own in parts.items() if name in protocols} or parts
    found = {name: _over_protocols(query, chosen) for name, query in found.items()}
    mentions = {name: _mentions(query, found) for name, query in found.items()}
    try:
        return [found[name] for name in TopologicalSorter(mentions).static_order()]
    except CycleError as error:
        raise LakeError(
            f"queries mention each other in a circle: {' -> '.join(error.args[1])}", "break the circle"
        ) from None


def valued_in_sql(protocol: str, folder: Path | None = None) -> bool:
    """Whether views and functions of health and holdings have rows for markets of a protocol: it has a folder."""
    return ((folder or resource("queries")) / PROTOCOLS / protocol.replace("-", "_")).is_dir()


def _over_protocols(query: Query, parts: Mapping[str, Mapping[str, Query]]) -> Query:
    """The query with each ``FROM protocols.<part>`` as the union of that part of these protocols."""

    def union(match: re.Match[str]) -> str:
        wanted = [name for name in query.columns if name != "time"]
        selects = []
        for name, own in parts.items():
            part = own.get(match[1])
            if part is None:
                raise LakeError(f"queries/{PROTOCOLS}/{name}: no {match[1]}.sql", f"'{query.name}' is made of it")
            if missing := [column for column in wanted if column not in part.columns]:
                raise LakeError(
                    f"queries/{PROTOCOLS}/{name}/{match[1]}.sql: no column '{missing[0]}'",
                    f"'{query.name}' has it: see its header",
                )
            selects.append(f"SELECT {', '.join(wanted)} FROM {part.name}{match[2] or ''}")
        return f"FROM ({' UNION ALL '.join(selects)})"

    return replace(query, select=_PART.sub(union, query.select))


def _mentions(query: Query, found: Mapping[str, Query]) -> set[str]:
    """The names of other queries in this one; of those with parameters only where they are called (``health`` is a
    column, too).
    """
    text = _without_schemas(query.select)
    words, called = set(_WORD.findall(text)), set(_CALL.findall(text))
    return {name for name in words & found.keys() if name in called or not found[name].parameters} - {query.name}


def _without_schemas(select: str) -> str:
    """The text without names of stored tables (``canonical.liquidations``), which are not views of ours."""
    return re.sub(r"\b(lake|raw|canonical|results)\.[a-z_]+", "", select)
