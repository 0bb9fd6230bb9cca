"""Stresses of several markets in a table: what each loses together with the others, and alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backtest.report.charts import Spec
from backtest.report.page import CaptionedChart
from backtest.report.selection import Row
from backtest.report.tables import Table, count

MEMBERS = "SELECT of_market FROM stress_members WHERE stress_id = $stress ORDER BY place"
FALLEN = "SELECT * FROM stress_contagion WHERE stress_id = $stress ORDER BY fallen, fall, place"
LOSSES = "SELECT * FROM stress_market_losses WHERE stress_id = $stress ORDER BY ordinal, place NULLS LAST"


def markets(rows: Sequence[Row], money: Callable[[object], str]) -> Table:
    """By case and market, with their sum; no rows of a stress of one market. ``money``: base units as text."""
    lines: list[tuple[str, ...]] = []
    for before, row in zip((None, *rows), rows, strict=False):
        if before is None or before["ordinal"] != row["ordinal"]:
            lines.append((row["case_name"],))
        amounts = (
            "mean_base",
            "alone_mean_base",
            "contagion_mean_base",
            "var99_base",
            "alone_var99_base",
            "worst_base",
        )
        lines.append(
            (
                f"  {row['of_market'] or 'Together'}",
                count(row["losing"]),
                count(row["alone_losing"]),
                *(money(row[name]) for name in amounts),
            )
        )
    header = ("Adding\nbad debt", "alone", "Mean", "alone", "By the\nothers", "VaR 99 %", "alone", "Worst")
    return Table(("Case and market", *header), tuple(lines))


def figures(rows: Callable[[str], Sequence[Row]], decimals: int, currency: str) -> list[CaptionedChart]:
    """Who loses by whose fall, not yet drawn; nothing of a stress of one market. ``rows``: of a SELECT."""
    shown = rows(FALLEN)
    if not shown:
        return []
    panels = [
        _heat(field, title, shown, decimals, currency)
        for field, title in (("loss_base", "Bad debt added"), ("contagion_base", "of it by the other markets"))
        if any(int(row[field]) for row in shown)
    ]
    caption = (
        "One asset falls alone, by 30 or 50 %, in the exact books of the moment: the bad debt that this adds in each"
        " market, all of them together, and what of it each would not have alone. Frictionless liquidators, at once;"
        " prices answer where the scenario says so."
    )
    spec: Spec | None = {"vconcat": panels, "spacing": 20, "resolve": {"scale": {"color": "independent"}}}
    empty = "No fall of one asset by up to 50 % adds bad debt in any market."
    return [CaptionedChart("Who loses by whose fall", caption, spec if panels else None, empty=empty)]


def _heat(field: str, title: str, rows: Sequence[Row], decimals: int, currency: str) -> Spec:
    values = [
        {
            "fallen": f"{row['fallen']} −{row['fall'] // 100} %",
            "market": row["of_market"],
            "value": int(row[field]) / 10**decimals,
        }
        for row in rows
    ]
    markets = list(dict.fromkeys(row["market"] for row in values))
    return {
        "title": title,
        "data": {"values": values},
        "mark": {"type": "rect"},
        "width": max(160, 110 * len(markets)),
        "height": {"step": 20},
        "encoding": {
            "x": {"field": "market", "type": "nominal", "sort": markets, "title": "Loses", "axis": {"labelAngle": 0}},
            "y": {"field": "fallen", "type": "nominal", "sort": None, "title": "Falls alone"},
            "color": {"field": "value", "type": "quantitative", "title": currency},
            "tooltip": [
                {"field": "fallen", "type": "nominal"},
                {"field": "market", "type": "nominal"},
                {"field": "value", "type": "quantitative", "format": ",.2f"},
            ],
        },
    }
