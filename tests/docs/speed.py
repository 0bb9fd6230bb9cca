"""Write table and chart of docs/speed.md from build/bench.json: run ``make bench`` as that page says, then ``python -m
tests.docs.speed``.
"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

ROOT = Path(__file__).parents[2]
PAGE, CHART, FIGURES = ROOT / "docs/speed.md", ROOT / "docs/speed.svg", ROOT / "build/bench.json"
START, END = "<!-- figures: written by tests/docs/speed.py -->", "<!-- end of figures -->"
OURS = (
    "screen, ", "exact replay", "history before", "one of many", "1,000 scenarios", "step engine", "cost curve",
    "lake to result", "peak memory",
    "screened replay",
)  # fmt: skip


def figures() -> list[dict[str, Any]]:
    """The rows that belong on the page."""
    rows = json.loads(FIGURES.read_text(encoding="utf-8"))
    return [row for row in rows if row["name"].startswith(OURS)]


def table(rows: list[dict[str, Any]]) -> str:
    """One line a figure, and where and when it was taken."""
    lines = []
    for row in rows:
        value, baseline, ratio = (_number(row[field]) for field in ("value", "baseline", "ratio"))
        lines.append(f"| {row['name']} | {value} {row['unit']} | {baseline} | {ratio} | {row['shape']} |")
    processor = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    cores = sum(line.startswith("processor") for line in _cpuinfo())
    taken = (
        f"{datetime.now(UTC):%d %B %Y}, {processor}, {cores} virtual cores shared with other work, Python"
        f" {platform.python_version()}"
    )
    return "\n".join(
        [f"Taken on {taken}.", "", "| what | figure | held against | ratio | shape |", "|---|---|---|---|---|", *lines]
    )


def chart(rows: list[dict[str, Any]]) -> alt.FacetChart:
    """Account-ticks a second, on a logarithmic scale."""
    found = []
    for row in rows:
        if row["name"].startswith("screen, "):
            book = row["name"].removeprefix("screen, ")
            found += [(book, "pruning screen", row["value"]), (book, "dense compiled loop", row["baseline"])]
        elif row["unit"] == "account-ticks/s" and row["name"].startswith("step engine"):
            found.append(
                (row["name"].split(", ")[1].removesuffix(" book"), "step engine, settled exactly", row["value"])
            )
        elif row["name"].startswith("exact replay from"):
            accounts, ticks = (word for place, word in enumerate(row["shape"].split(" ")) if place in (0, 6))
            found.append(
                (
                    row["name"].split(", ")[1].removesuffix(" book"),
                    "replay, settled exactly",
                    int(accounts) * int(ticks) / row["value"],
                )
            )
    data = pd.DataFrame(found, columns=["book", "engine", "account-ticks a second"])
    x = alt.X(
        "account-ticks a second:Q",
        scale=alt.Scale(type="log", domain=[1e8, 1e12]),
        axis=alt.Axis(format="~s", tickCount=5),
    )
    y, color = alt.Y("engine:N", title=None), alt.Color("engine:N", legend=None)
    points = alt.Chart(data, width=560).mark_point(size=90, filled=True).encode(x=x, y=y, color=color)
    text = points.mark_text(align="left", dx=8).encode(text=alt.Text("account-ticks a second:Q", format=".2s"))
    row = alt.Row("book:N", title=None, header=alt.Header(labelAngle=0, labelAlign="left"))
    return (points + text).facet(row=row).resolve_scale(y="independent")


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


if __name__ == "__main__":
    found = figures()
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{head}{START}\n\n{table(found)}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    chart(found).save(CHART)
