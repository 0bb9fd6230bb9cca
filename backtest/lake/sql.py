"""SQL over a lake: a DuckDB connection with the views of ``queries/``, locked down for text that users write."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import threading
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from backtest import foreign
from backtest.errors import LakeError, did_you_mean
from backtest.lake import queries, relations, sandbox
from backtest.lake.answer import Answer

if TYPE_CHECKING:
    import duckdb

    from backtest.lake import Lake

STORAGE_VERSION = "v1.0.0"
"""DuckDB's format of attached files: 1.1.3, 1.2.2, 1.3.2, 1.4.5 and 1.5.6 read it; 1.4.0 and 1.4.1 cannot bind macros
with several CTEs.
"""

_AMOUNT = re.compile(r"([0-9]{1,9}(\.[0-9]{1,3})?) ?([kKMGT]i?B|B)", re.ASCII)
_UNKNOWN = re.compile(
    r'(Table|Table Function|Scalar Function|Aggregate Function) with name "?([A-Za-z0-9_./]+)"? (?:does not exist|is'
    r" not)"
)
_READ = re.compile(r"\b(?:from|join)\s+\(?(?:\w+\.)?(\w+)")
_CALL = re.compile(r'(\w+)"?\s*\(')
_CATALOG = re.compile(r"\b(duckdb_|pragma_|pg_|sqlite_|information_schema|show)", re.IGNORECASE)
"""What a query that asks for all views says."""


@cache
def _temporary() -> str:
    """A folder of this process, only for its user, removed at exit: relations may outlive the session that made
    them.
    """
    folder = tempfile.mkdtemp(prefix="backtest-sql-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may use: ``memory`` and ``disk`` (temporary files) as DuckDB writes them, ``threads`` None for
    all cores, which are also the most.
    """

    memory: str = "4GB"
    threads: int | None = None
    disk: str = "20GB"

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise LakeError(f"{self.threads} threads", "give 1 or more")
        for name, amount in (("memory", self.memory), ("disk", self.disk)):
            if not _AMOUNT.fullmatch(amount):
                what = foreign.shown(amount, 40)
                raise LakeError(
                    f"{name} '{what}' is no amount", "check the limits: write it such as 500MB, 4GB or 2GiB"
                )

    @property
    def bytes(self) -> int:
        """``memory`` as a number."""
        found = _AMOUNT.fullmatch(self.memory)
        assert found is not None
        unit = found[3]
        base = 1024 if "i" in unit else 1000
        return int(float(found[1]) * base ** "bkmgt".index(unit[0].lower()))

    @property
    def cores(self) -> int:
        """Threads to start: as many as wanted, and not more than the machine has cores."""
        most = os.cpu_count() or 1
        return min(self.threads or most, most)


class Session:
    """The views of one version of a lake, each made when a query first names it, or what reads it: DuckDB plans all
    that a view reads when it is made. Each query runs on a cursor of its own.

    Raises:
        LakeError: a limit that DuckDB does not understand.
    """

    def __init__(self, lake: Lake, limits: Limits) -> None:
        import duckdb

        lake.provide(lake.files(None))
        known = [query for query in queries.load() if query.folder != "checks"]
        self.names = {query.name for query in known}
        self.taking = {query.name: query.parameters for query in known if query.parameters and not query.scalar}
        self.macros = frozenset(self.taking)
        config: dict[str, str | bool | int | float | list[str]] = {
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        try:
            self.connection = duckdb.connect(":memory:", config=config)
            # By SET: DuckDB 2.0 does not enforce a max_temp_directory_size that is given to connect().
            self.connection.execute(f"SET memory_limit = {relations.quoted(limits.memory)}")
            self.connection.execute(f"SET threads = {limits.cores}")
            self.connection.execute("SET TimeZone = 'UTC'")
            self.connection.execute(f"SET temp_directory = {relations.quoted(tempfile.mkdtemp(dir=_temporary()))}")
            self.connection.execute(f"SET max_temp_directory_size = {relations.quoted(limits.disk)}")
            for schema in relations.SCHEMAS:
                self.connection.execute(f"CREATE SCHEMA {schema}")
            paths = ", ".join(relations.quoted(file.path) for file in lake.files(None))
            self.connection.execute(f"SET allowed_paths = [{paths}]")
        except duckdb.Error as error:
            raise _unopened(error) from None
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")
        self._waiting = list(relations.relations(lake))
        """What is not made yet, each after what it reads."""
        self._using = threading.RLock()
        """Whoever uses the connection itself: it refuses a second caller, and cursors do not."""

    def sql(self, text: str) -> Answer:
        """What one SELECT or EXPLAIN answers; LakeError in one line otherwise."""
        import duckdb

        with self._using:
            named = sandbox.check(self.connection, text, self.macros)
            cursor = self._cursor(named, every=bool(_CATALOG.search(text)))
        try:
            relation = cursor.sql(text)
        except duckdb.Error as error:
            raise self.explain(error) from None
        if relation is None:
            raise LakeError("the statement returns nothing", "give a SELECT")
        return Answer(relation, cursor)

    def cursor(self, select: str) -> duckdb.DuckDBPyConnection:
        """A cursor for one of ``queries/``; LakeError where a file is unsound."""
        return self._cursor(_names(select), every=False)

    def _cursor(self, named: sandbox.Named, *, every: bool) -> duckdb.DuckDBPyConnection:
        """A cursor on which every view and macro that a statement names exists, or every one that there is."""
        import duckdb

        with self._using:
            tables, functions = named
            made = set[int]()
            for place in range(len(self._waiting) - 1, -1, -1):  # what reads comes after what it reads
                relation = self._waiting[place]
                if every or relation.name.lower() in (functions if relation.called else tables):
                    made.add(place)
                    read, called = _names(relation.statement)
                    tables, functions = tables | read, functions | called
            try:
                for place in sorted(made):
                    self.connection.execute(self._waiting[place].statement)
            except duckdb.Error as error:
                raise _unopened(error) from None
            self._waiting = [relation for place, relation in enumerate(self._waiting) if place not in made]
            return self.connection.cursor()

    def explain(self, error: Exception) -> LakeError:
        """A DuckDB error as one line, with the nearest view where a name is unknown."""
        if match := _UNKNOWN.search(str(error)):
            name = match[2].lower()
            if (taking := self.taking.get(name)) is not None:
                return LakeError(f"'{name}' is a function and takes arguments", f"FROM {name}({', '.join(taking)})")
            return LakeError(f"there is no view or function '{match[2]}'", did_you_mean(name, self.names))
        return LakeError(sandbox.one_line(error), "")


@lru_cache(maxsize=4_096)
def _names(text: str) -> sandbox.Named:
    """What one of ``queries/`` reads and may call. A column may have the name of a view: what stands after FROM or JOIN
    is a table, and so all that they read stands there.
    """
    lower = text.lower()
    return sandbox.Named(frozenset(_READ.findall(lower)), frozenset(_CALL.findall(lower)))


def _unopened(error: Exception) -> LakeError:
    return LakeError(
        f"cannot open the lake for SQL: {sandbox.one_line(error)}",
        "check the limits; 'backtest check' looks at the files",
    )


def attach(lake: Lake, path: str | os.PathLike[str]) -> None:
    """Write a DuckDB database file with the views and macros of this version of the lake, over its files by absolute
    path.

    A file that an earlier call wrote is replaced; any other is a LakeError.
    """
    import duckdb

    lake.provide(lake.files(None))
    target = Path(path).absolute()
    if target.exists() and not _is_ours(target):
        raise LakeError(f"{target} exists and was not written by backtest", "name a new file")
    unfinished = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    connection = duckdb.connect(":memory:", config={"python_enable_replacements": False})
    try:
        connection.execute(
            f"ATTACH {relations.quoted(str(unfinished))} AS lake_file (STORAGE_VERSION"
            f" {relations.quoted(STORAGE_VERSION)})"
        )
        connection.execute("USE lake_file")
        for schema in relations.SCHEMAS:
            connection.execute(f"CREATE SCHEMA {schema}")
        for relation in relations.relations(lake):
            connection.execute(relation.statement)
        connection.execute("USE memory")
        connection.execute("DETACH lake_file")
        os.replace(unfinished, target)
    except (duckdb.Error, OSError) as error:
        raise LakeError(
            f"cannot write {target}: {sandbox.one_line(error)}", "check the folder and its permissions"
        ) from None
    finally:
        connection.close()
        unfinished.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    import duckdb

    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return connection.execute(
                "SELECT count(*) FROM duckdb_views() WHERE schema_name = 'lake' AND view_name = 'files'"
            ).fetchone() == (1,)
    except duckdb.Error:
        return False
