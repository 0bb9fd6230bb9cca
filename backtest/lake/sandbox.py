"""What a user's SQL may do: read. Three layers, each enough for most mischief.

1. DuckDB opens nothing but the committed files, loads no extension, sees no Python variable, and its configuration is
locked.
2. One statement of type SELECT or EXPLAIN. The type is not enough: DuckDB 2.0 calls ``WITH x AS (COPY ... TO file)
   SELECT 1`` a SELECT, and with ``use_tmp_file false`` it overwrites a file that may be read. So the parsed tree may
   hold no node that writes, and no table function but those named here (``query('...')`` would hide a statement in a
   text).
3. Data files are read-only on disk, to all but root.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from backtest import foreign
from backtest.errors import LakeError, did_you_mean

if TYPE_CHECKING:
    import duckdb

MOST = 1_000_000  # characters of a query
DEEPEST = 700  # levels of the parsed query, two to a bracket or an operator; the interpreter's own limit varies
TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "repeat", "json_each", "json_tree"})
CATALOG_FUNCTIONS = frozenset(
    {"duckdb_columns", "duckdb_functions", "duckdb_tables", "duckdb_types", "duckdb_views", "pragma_table_info"}
)
# Words and nothing else before the statement: a comment or a text among the options could hold a ")" that is none to
# DuckDB.
_EXPLAIN = re.compile(r"^EXPLAIN\b\s*(\([A-Za-z_,\s]*\)|ANALYZE\b)?", re.IGNORECASE)
_READS = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})


class Named(NamedTuple):
    """What a statement names, in lower case: tables and views without their schema, and functions."""

    tables: frozenset[str]
    functions: frozenset[str]


def check(connection: duckdb.DuckDBPyConnection, sql: str, macros: frozenset[str]) -> Named:
    """What ``sql`` names; LakeError unless it is one statement that only reads. ``macros`` are the table macros that
    may be called.
    """
    import duckdb

    if len(sql) > MOST:
        raise LakeError(f"a query of {len(sql):,} characters", f"at most {MOST:,} are read")
    try:
        foreign.text(sql.encode("utf-8", "surrogatepass"))
        parsed = connection.extract_statements(sql)
    except foreign.Unreadable as error:
        raise LakeError(f"the query is no text: {error}", "write it as a SELECT") from None
    except duckdb.Error as error:
        raise LakeError(one_line(error), "") from None
    if len(parsed) != 1:
        raise LakeError(f"{len(parsed)} statements", "give one SELECT")
    try:
        kind = parsed[0].type.name
    except ValueError:  # a statement that DuckDB's own list of types lacks, such as UPDATE EXTENSIONS
        kind = "such"
    if kind not in ("SELECT", "EXPLAIN"):
        raise LakeError(f"{kind} statements are not allowed here", "only SELECT and EXPLAIN: the lake is read-only")
    text = parsed[0].query
    if kind == "EXPLAIN":
        text = _EXPLAIN.sub("", text, count=1)
    try:
        ((serialized,),) = connection.cursor().execute("SELECT json_serialize_sql($1::VARCHAR)", [text]).fetchall()
        with foreign.bounded_recursion():
            tree = json.loads(serialized)
    except duckdb.Error as error:
        raise LakeError(f"this cannot be checked: {one_line(error)}", "write it as a SELECT") from None
    except RecursionError:
        raise _too_deep() from None
    if tree["error"]:
        raise LakeError(f"this cannot be checked: {tree.get('error_message', 'not a SELECT')}", "write it as a SELECT")
    return _walk(tree, macros)


def _walk(tree: Any, macros: frozenset[str]) -> Named:
    level, depth = [tree], 0
    tables, functions = set[str](), set[str]()
    while level:
        if (depth := depth + 1) > DEEPEST:
            raise _too_deep()
        below: list[Any] = []
        for node in level:
            if isinstance(node, list):
                below += node
            elif isinstance(node, dict):
                _judge(node, macros)
                tables.add(str(node.get("table_name", "")).strip('"').lower())
                functions.add(str(node.get("function_name", "")).lower())
                below += node.values()
        level = below
    return Named(frozenset(tables), frozenset(functions))


def _judge(node: dict[str, Any], macros: frozenset[str]) -> None:
    kind = node.get("type")
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _READS:
        raise LakeError(
            f"{kind.removesuffix('_NODE').removesuffix('_QUERY')} inside a SELECT is not allowed",
            "only SELECT and EXPLAIN: the lake is read-only",
        )
    if kind == "TABLE_FUNCTION":
        name = str((node.get("function") or {}).get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS | CATALOG_FUNCTIONS | macros:
            raise LakeError(f"there is no table function '{name}' here", did_you_mean(name, TABLE_FUNCTIONS | macros))


def _too_deep() -> LakeError:
    return LakeError("the query is nested too deep", "write it flatter: with a list, a join or fewer brackets")


def one_line(error: Exception) -> str:
    """A DuckDB message on one line, without the excerpt of the statement, safe to print."""
    text = str(error).split("\n\nLINE ")[0].split("\nLINE ")[0]
    return foreign.shown(" ".join(text.split("Possible solutions:")[0].split()), 600)
