"""One SELECT of an import mapping over text relations: the SQL that users write to say what the columns of their files
mean.

It runs in a database of its own that holds nothing but the given relations, with the locks of
``backtest.lake.sandbox``: no files,
no network, no extensions, one SELECT. What comes back is text, exact: a column of floats is refused.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa

from backtest.errors import LakeError, did_you_mean
from backtest.lake import sandbox
from backtest.lake.relations import quoted

_UNKNOWN_TABLE = re.compile(r"Table with name \"?([^ \"]+)\"? does not exist")
_UNKNOWN_COLUMN = re.compile(
    r"Referenced column \"([^\"]+)\" not found|does not have a column named \"([^\"]+)\"|column named \"([^\"]+)\""
)
_PARAMETER = re.compile(r"\$([a-z_][a-z0-9_]*)")
_INEXACT = frozenset({"FLOAT", "DOUBLE", "REAL"})
SECONDS = 600.0
"""How long one SELECT may run."""
_FEW, _MORE = 1_000_000, 20
"""Rows that a SELECT may return: some, and so many times those of its sources. A join without a condition has more."""


_JOIN = "is there a join without a condition? Mend the SELECT; nothing was imported"


class TextDatabase:
    """Relations of text columns, for SELECTs by their names. Close it, or use it in a ``with``."""

    def __init__(self, relations: Mapping[str, pa.Table], memory: str = "4GB", seconds: float = SECONDS) -> None:
        import duckdb

        self._seconds = seconds
        self._most = _FEW + _MORE * sum(table.num_rows for table in relations.values())
        self._columns = {name: list(table.schema.names) for name, table in relations.items()}
        self.connection = duckdb.connect(
            ":memory:",
            config={
                "python_enable_replacements": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self.connection.execute(f"SET memory_limit = {quoted(memory)}")
        self.connection.execute("SET temp_directory = ''")  # nothing is written anywhere: what does not fit is an error
        self.connection.execute(f"SET threads = {os.cpu_count() or 1}")
        for name, table in relations.items():
            self.connection.register("incoming", table)
            self.connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM incoming')
            self.connection.unregister("incoming")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def __enter__(self) -> TextDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def select(self, sql: str, parameters: Mapping[str, str], where: str) -> pa.Table:
        """The rows of one SELECT, every column as text.

        Args:
            sql: the statement; ``$name`` stands for a parameter.
            parameters: their values.
            where: names the file in errors.

        Raises:
            LakeError: anything but one SELECT, an unknown relation, column or parameter, a column of floats, more time,
                memory or rows than a mapping may take; in one line.
        """
        import duckdb

        text = _without_comments(sql)
        wanted = set(_PARAMETER.findall(text))
        for name in sorted(wanted - parameters.keys()):
            raise LakeError(f"{where}: unknown parameter '${name}'", did_you_mean(name, parameters))
        try:
            sandbox.check(self.connection, text, frozenset())
            relation = self.connection.sql(text, params={name: parameters[name] for name in sorted(wanted)} or None)
            kinds = list(zip(relation.columns, map(str, relation.types), strict=True))
            for name, kind in kinds:
                if kind in _INEXACT:
                    raise LakeError(
                        f"{where}: column '{name}' is {kind}, which is not exact",
                        "leave amounts as text: decimals are converted after the SELECT",
                    )
            doubled = sorted({name for name, _ in kinds if sum(name == other for other, _ in kinds) > 1})
            if doubled:
                raise LakeError(f"{where}: column '{doubled[0]}' comes twice", "name each output column once")
            with self._timed():
                found = relation.limit(self._most + 1).to_arrow_table()
            if found.num_rows > self._most:
                raise LakeError(f"{where}: it returns more than {self._most:,} rows", _JOIN)
            return _as_text(found, kinds, where)
        except duckdb.InterruptException:
            raise LakeError(f"{where}: it ran longer than {self._seconds:g} seconds", _JOIN) from None
        except duckdb.OutOfMemoryException as error:
            raise LakeError(f"{where}: {sandbox.one_line(error).split('.')[0]}", _JOIN) from None
        except duckdb.Error as error:
            raise self._explained(error, where) from None
        except RecursionError:
            raise LakeError(f"{where}: it is nested too deep", "mend the SELECT; nothing was imported") from None
        except LakeError as error:
            raise error if error.what.startswith(where) else LakeError(f"{where}: {error.what}", error.fix) from None

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Interrupts what runs inside after the time that a SELECT has."""
        timer = threading.Timer(self._seconds, self.connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _explained(self, error: Exception, where: str) -> LakeError:
        text = str(error)
        if match := _UNKNOWN_TABLE.search(text):
            return LakeError(f"{where}: there is no source '{match[1]}'", did_you_mean(match[1], self._columns))
        if match := _UNKNOWN_COLUMN.search(text):
            name = next(group for group in match.groups() if group)
            known: Sequence[str] = sorted({column for columns in self._columns.values() for column in columns})
            return LakeError(f"{where}: no source has a column '{name}'", did_you_mean(name.rsplit(".", 1)[-1], known))
        return LakeError(f"{where}: {sandbox.one_line(error)}", "mend the SELECT; nothing was imported")


def _as_text(table: pa.Table, kinds: Sequence[tuple[str, str]], where: str) -> pa.Table:
    columns = []
    for column, (name, kind) in zip(table.columns, kinds, strict=True):
        try:
            columns.append(column if pa.types.is_string(column.type) else column.cast(pa.string()))
        except pa.ArrowException:
            fix = "give it as text: CAST(... AS VARCHAR), or '0x' || hex(...) of bytes; nothing was imported"
            raise LakeError(f"{where}: column '{name}' is {kind}, which is no text", fix) from None
    return pa.table(columns, names=table.schema.names)


def _without_comments(sql: str) -> str:
    """The statement without lines that are comments, as in the files of ``queries/``."""
    return "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--")).strip().rstrip(";")
