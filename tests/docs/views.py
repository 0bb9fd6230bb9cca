"""Write the list of views in docs/sql.md from the headers of queries/: ``python -m tests.docs.views``."""

from __future__ import annotations

from pathlib import Path

from backtest.lake import queries

PAGE = Path(__file__).parents[2] / "docs/sql.md"
START, END = "<!-- views: written by tests/docs/views.py -->", "<!-- end of views -->"
TITLES = {
    "marts": "Ready answers",
    "macros": "Macros: views with parameters",
    "protocols": "A protocol's own: what the common macros are made of, with columns of its own",
    "functions": "Functions: exact arithmetic beyond 127 bits",
    "staging": "Stored tables, history and runs",
    "intermediate": "Building blocks",
    "checks": "Checks: rows are violations (`backtest check` runs them)",
}


def views() -> str:
    """One table a folder: name with parameters, what a row is, purpose."""
    known = sorted(queries.load(), key=lambda query: query.name)
    parts = []
    for folder, title in TITLES.items():
        rows = [
            f"| `{_signature(query)}` | {_cell(query.grain)} | {_cell(query.purpose)} |"
            for query in known
            if query.folder == folder
        ]
        parts.append("\n".join([f"### {title}", "", "| name | one row | what it is |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def page() -> str:
    """The page with its list as the headers are now."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    return f"{head}{START}\n\n{views()}\n{END}{rest.partition(END)[2]}"


def _signature(query: queries.Query) -> str:
    return f"{query.name}({', '.join(query.parameters)})" if query.parameters else query.name


def _cell(text: str) -> str:
    return text.rstrip(".").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
