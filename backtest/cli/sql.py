"""``backtest sql``: queries over a lake, in one go or at a prompt; and database files for other DuckDB clients."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from backtest import foreign
from backtest.errors import UserError, did_you_mean
from backtest.files import TEXT_LIMIT

if TYPE_CHECKING:
    from backtest.lake.queries import Query
    from backtest.lake.sql import Session

SLACK = 512 << 20  # what a process needs beside DuckDB: threads' stacks, rows on their way out
Format = Literal["table", "csv", "json", "parquet"]

_HELP = """\
.tables          views and macros, with what they are
.schema NAME     columns of one, with their units
.format FORMAT   table, csv or json
.help            this
.quit            leave (also Ctrl-D)
Anything else is SQL and ends with a semicolon."""


def sql(
    query: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    *,
    lake: Path,
    file: Annotated[Path | None, Parameter(name=["--file", "-f"])] = None,
    format: Format = "table",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    attach: Path | None = None,
    memory: str = "4GB",
    threads: int | None = None,
    disk: str = "20GB",
    timeout: float | None = None,
    trust: bool = False,
) -> None:
    """Query a lake: its history, and the runs stored beside it. Without a query it asks at a prompt.

    Only SELECT and EXPLAIN: nothing can be changed, and no file but the lake's is read. Type .tables at the prompt for
    what there is.

    Examples:

        backtest sql --lake data/lake

        backtest sql --lake data/lake "SELECT * FROM liquidations ORDER BY repaid_usd DESC LIMIT 10"

        backtest sql --lake data/lake --format csv -o balances.csv "FROM balances_at(17000000)"

        backtest sql --lake data/lake "SELECT account, health FROM health(NULL, [17000000]) WHERE health < 1.05"

        backtest sql --lake data/lake --file question.sql

        backtest sql --lake data/lake - < question.sql

        backtest sql --lake data/lake --attach market.duckdb

    Parameters
    ----------
    query
        One SELECT; '-' reads it from standard input.
    lake
        Folder of the lake.
    file
        Read the query from this file.
    format
        How to print rows. csv, json (one object a line) and parquet keep every digit of an amount; table stops after
        200 rows.
    output
        File to write instead of standard output.
    attach
        Write a DuckDB database file with the same views over the lake's files, for other DuckDB clients (1.1 or later,
        but not 1.4.0 and 1.4.1).
    memory
        Most memory, such as 500MB or 4GB: of DuckDB, and of the process but for what it has at the start and 512 MB.
    threads
        Most threads, up to one a core, which is what there is without it.
    disk
        Most temporary space on disk.
    timeout
        Seconds after which a query is stopped; without it none is. Ctrl-C stops one at any time.
    trust
        Do not compare the lake's files with their digests first.
    """
    from backtest.files import read_text
    from backtest.lake import Lake, Limits
    from backtest.lake.sql import attach as write_database

    if query is not None and file is not None:
        raise UserError("a query and --file together", "give one of them")
    if query is not None and re.fullmatch(r"--?[a-z][\w-]*(=.*)?", query):
        raise UserError(f"unknown option {foreign.shown(query, 40)}", "see 'backtest sql --help'")
    if timeout is not None and not 0 < timeout < 10**9:
        raise UserError(f"--timeout {timeout} is no number of seconds", "give one above 0, such as 60")
    limits = Limits(memory=memory, threads=threads, disk=disk)
    opened = Lake(lake, trust=trust)
    if output is not None:
        _outside(output, opened.path)
    if attach is not None:
        _outside(attach, opened.path)
        write_database(opened, attach)
        print(f"{attach}: the views of {opened.path}; SELECT table_name FROM duckdb_views() lists them")
        if query is None and file is None:
            return
    session = opened.session(limits)
    if file is not None:
        query = read_text(file)
    elif query == "-":
        query = _standard_input()
    if query is None and not sys.stdin.isatty():
        raise UserError("no query", "give one in quotes, --file FILE, or '-' to read it from standard input")
    with bounded(limits.bytes + SLACK):
        if query is None:
            _prompt(session, format, timeout)
        elif output is None:
            if format == "parquet" and sys.stdout.isatty():
                raise UserError("Parquet is not for a terminal", "add --output FILE")
            _write(session, query, format, sys.stdout.buffer, timeout)
        else:
            unfinished = output.with_name(output.name + ".unfinished")
            try:
                with unfinished.open("wb") as stream:
                    _write(session, query, format, stream, timeout)
                unfinished.replace(output)
            finally:
                unfinished.unlink(missing_ok=True)


def _standard_input() -> str:
    try:
        return foreign.text(sys.stdin.buffer.read(TEXT_LIMIT))
    except foreign.Unreadable as error:
        raise UserError(f"standard input: {error}", "give SQL in UTF-8") from None


def _outside(output: Path, lake: Path | str) -> None:
    """UserError where a file would be written into the lake's own folders, or where no path is."""
    if "\0" in str(output):
        raise UserError(f"{foreign.shown(str(output))}: a path holds no NUL", "name another file")
    if isinstance(lake, Path) and output.resolve().is_relative_to(lake.resolve()):
        raise UserError(f"{output} lies in the lake, which holds nothing but its own files", "name a file elsewhere")


@contextmanager
def bounded(more: int) -> Iterator[None]:
    """Let this process have at most ``more`` bytes beyond what it has: what functions build beside DuckDB's own count
    of its memory. Where the system has no such bound, none is set.
    """
    import resource

    try:
        held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + more
    if soft != resource.RLIM_INFINITY:
        wanted = min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _write(session: Session, query: str, format: str, stream: IO[bytes], timeout: float | None) -> None:
    import shutil

    from backtest.lake.output import write

    width = shutil.get_terminal_size().columns if stream.isatty() else None
    write(session, query, format, stream, width=width, timeout=timeout)
    stream.flush()


def _prompt(session: Session, format: str, timeout: float | None) -> None:
    """Read, run, print, until the end of input. History is kept between sessions."""
    import atexit
    import os
    import readline

    from backtest.lake import queries

    history = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "backtest" / "sql_history"
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        history.touch()
        readline.read_history_file(history)
        atexit.register(readline.write_history_file, history)
    except OSError:
        pass  # a home that cannot be written has no history
    known = {query.name: query for query in queries.load() if query.folder != "checks"}
    print(".help for help; views and macros: .tables")
    while (text := _statement()) is not None:
        try:
            if not text.startswith("."):
                _write(session, text, format, sys.stdout.buffer, timeout)
                continue
            word, _, rest = text.partition(" ")
            if word == ".quit":
                return
            if word == ".tables":
                print(
                    "\n".join(
                        f"{_signature(query):40}{query.purpose}"
                        for query in sorted(known.values(), key=lambda q: q.name)
                    )
                )
            elif word == ".schema":
                print(_schema(known, rest.strip()))
            elif word == ".format" and rest.strip() in ("table", "csv", "json"):
                format = rest.strip()
            else:
                print(_HELP)
        except UserError as error:
            print(f"backtest: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            print()


def _statement() -> str | None:
    """One statement from the prompt, which may take several lines; None at the end of input."""
    lines: list[str] = []
    while True:
        try:
            line = input("... " if lines else "sql> ").strip()
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            lines.clear()
            continue
        if not lines and (not line or line.startswith(".")):
            if line:
                return line
            continue
        lines.append(line)
        if line.endswith(";"):
            return "\n".join(lines)


def _signature(query: Query) -> str:
    return f"{query.name}({', '.join(query.parameters)})" if query.parameters else query.name


def _schema(known: Mapping[str, Query], name: str) -> str:
    if name not in known:
        raise UserError(f"there is no view '{name}'", did_you_mean(name, known))
    query = known[name]
    rows = [*query.parameters.items(), *query.columns.items()]
    return "\n".join(
        [
            f"{_signature(query)}: {query.purpose}",
            f"one row: {query.grain}",
            *(f"  {column:26}{what}" for column, what in rows),
        ]
    )
