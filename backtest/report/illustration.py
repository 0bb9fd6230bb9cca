"""The Black Thursday illustration as text and as a page, from the rows of its grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from backtest.report import tables
from backtest.report.charts import Spec
from backtest.report.page import CaptionedChart, draw, fill_in
from backtest.report.tables import MISSING, Table
from backtest.report.text import WIDTH

Row = Mapping[str, Any]

TITLE = "Black Thursday, 12 March 2020: an illustration"
LABEL = "Illustration: vaults and keepers are assumptions, nothing was fitted to the outcome."
HISTORY = (
    "What happened on 12 and 13 March 2020 (whiterabbit, 14 March 2020): 36 % of liquidations were won for nothing,"
    " with collateral of 8.32 million USD; the hole was 5.67 million DAI."
)
SHARE = 0.36
_WAYS = (
    (10, "day", "Rules 1.0, gas as it was"),
    (10, "calm", "Rules 1.0, gas without the spike"),
    (20, "day", "Rules 2.0, gas as it was"),
)


def grids(rows: Sequence[Row]) -> list[tuple[str, Table]]:
    """A table for each way, with its title: keepers down, medians of caps across; in each cell what auctions gave away
    and what was short.
    """
    medians = sorted({row["cap_median_gwei"] for row in rows})
    header = ("Keepers, stuck", *(f"cap {median} gwei" for median in medians))
    made = []
    for rules, gas, title in _WAYS:
        mine = {
            (row["stuck_seconds"], row["keepers"], row["cap_median_gwei"]): row
            for row in rows
            if (row["rules"], row["gas"]) == (rules, gas)
        }
        if not mine:
            continue
        lines = []
        for stuck, keepers in sorted({key[:2] for key in mine}):
            lines.append(
                (f"{keepers}, {stuck / 60:g} min", *(_cell(mine[stuck, keepers, median]) for median in medians))
            )
        made.append(
            (
                f"{title}: share of auctions won for nothing (interval), and shortfall in million DAI",
                Table(header, tuple(lines)),
            )
        )
    return made


def totals(rows: Sequence[Row]) -> Table:
    """Each way over all of its keepers: from the least to the most of the cells' means."""
    lines = []
    for rules, gas, title in _WAYS:
        mine = [row for row in rows if (row["rules"], row["gas"]) == (rules, gas)]
        if mine:
            cells = (
                _span(mine, "auctions", 1, "{:,.0f}"),
                _span(mine, "free_share", 0.01, "{:.0f} %"),
                _span(mine, "free_value", 1e6, "{:.2f}"),
                _span(mine, "shortfall", 1e6, "{:.2f}"),
                _span(mine, "recovered", 0.01, "{:.0f} %"),
                _span(mine, "waiting", 1, "{:,.0f}"),
            )
            lines.append((title, *cells))
    header = (
        "",
        "Auctions",
        "Won for nothing",
        "Collateral for nothing\nmillion USD",
        "Shortfall\nmillion DAI",
        "Paid for\ncollateral sold",
        "Open at the end",
    )
    return Table(header, tuple(lines))


def region_lines(rows: Sequence[Row]) -> list[str]:
    """For which keepers the interval of the share holds the day's, and what was short there."""
    mine = [row for row in rows if (row["rules"], row["gas"]) == (10, "day") and row["free_share"] is not None]
    inside = [row for row in mine if row["free_share_low"] <= SHARE <= row["free_share_high"]]
    if not inside:
        return [
            f"The share of the day, {SHARE:.0%}, is in none of the {len(mine)} intervals of rules 1.0 with the day's"
            " gas."
        ]
    shortfalls = [row["shortfall"] / 1e6 for row in inside]
    low, high = min(row["shortfall_low"] for row in inside) / 1e6, max(row["shortfall_high"] for row in inside) / 1e6
    lines = [
        f"Rules 1.0, gas as it was: the interval of the share holds the day's {SHARE:.0%} in {len(inside)} of"
        f" {len(mine)} cells; there the shortfall is {min(shortfalls):.2f} to {max(shortfalls):.2f} million DAI"
        f" ({low:.2f} to {high:.2f} with intervals)."
    ]
    for row in inside:
        keepers = (
            f"{row['keepers']} keepers, cap {row['cap_median_gwei']} gwei, stuck {row['stuck_seconds'] / 60:g} min"
        )
        free = f"{row['free_share']:.0%} ({row['free_share_low']:.0%} to {row['free_share_high']:.0%}) won for nothing"
        lines.append(
            f"  {keepers}: {free}, {row['free_value'] / 1e6:.2f} million USD, shortfall {row['shortfall'] / 1e6:.2f}"
            " million DAI"
        )
    return lines


def as_text(rows: Sequence[Row], facts: Sequence[str]) -> str:
    """The whole for a terminal."""
    lines = [
        TITLE,
        LABEL,
        "",
        tables.as_text(totals(rows)),
        *wrap("From the least to the most over keepers, each the mean of its draws. " + HISTORY, WIDTH),
    ]
    for title, table in grids(rows):
        lines += ["", title, tables.as_text(table)]
    lines += ["", *region_lines(rows), "", "What it assumes"]
    for fact in facts:
        lines += wrap(fact, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def heat_map(rows: Sequence[Row], field: str, scale: float, shown: str) -> Spec:
    """Keepers against medians of caps, a panel for each way and stuck time."""
    kept = ("cap_median_gwei", "keepers", "stuck_seconds", field, f"{field}_low", f"{field}_high")
    lines = []
    for rules, gas, way in _WAYS:
        panels = []
        for stuck in sorted({row["stuck_seconds"] for row in rows}):
            mine = [
                {key: row[key] / scale if key.startswith(field) and row[key] is not None else row[key] for key in kept}
                for row in rows
                if (row["rules"], row["gas"], row["stuck_seconds"]) == (rules, gas, stuck)
            ]
            if mine:
                panels.append(_panel(mine, field, f"{way}, stuck {stuck / 60:g} min" if gas == "day" else way, shown))
        if panels:
            lines.append({"hconcat": panels, "spacing": 18})
    return {"vconcat": lines, "spacing": 18, "resolve": {"scale": {"color": "shared"}}}


def _panel(rows: Sequence[Row], field: str, title: str, shown: str) -> Spec:
    colour = {
        "field": field,
        "type": "quantitative",
        "title": None,
        "scale": {"scheme": "oranges", "domainMin": 0},
        "legend": {"format": shown},
    }
    axes = {
        "x": {
            "field": "cap_median_gwei",
            "type": "ordinal",
            "title": "Median of keepers' caps (gwei)",
            "axis": {"labelAngle": 0},
        },
        "y": {"field": "keepers", "type": "ordinal", "title": "Keepers (number)", "sort": "descending"},
    }
    names = ((field, "Mean"), (f"{field}_low", "Interval from"), (f"{field}_high", "to"))
    tooltip = [{"field": name, "title": words, "type": "quantitative", "format": shown} for name, words in names]
    text = {"field": field, "type": "quantitative", "format": shown}
    return {
        "title": title,
        "data": {"values": list(rows)},
        "width": {"step": 58},
        "height": {"step": 30},
        "layer": [
            {"mark": "rect", "encoding": {**axes, "color": colour, "tooltip": tooltip}},
            {"mark": {"type": "text", "fontSize": 12}, "encoding": {**axes, "text": text}},
        ],
    }


def write_page(rows: Sequence[Row], facts: Sequence[str], path: Path) -> None:
    """The same as one offline page with heat maps."""
    figures = [
        CaptionedChart(
            "Auctions won for nothing",
            f"Mean share over draws; the day had {SHARE:.0%}.",
            heat_map(rows, "free_share", 1, ".0%"),
        ),
        CaptionedChart(
            "Shortfall", "Mean over draws, million DAI; the day had 5.67.", heat_map(rows, "shortfall", 1e6, ".2f")
        ),
    ]
    fill_in(
        "illustration.html",
        path,
        title=TITLE,
        label=LABEL,
        history=HISTORY,
        totals=totals(rows),
        figures=[draw(figure) for figure in figures],
        region=region_lines(rows),
        grids=grids(rows),
        facts=facts,
    )


def _cell(row: Row) -> str:
    if row["free_share"] is None:
        return f"{MISSING}\n{MISSING}"
    return (
        f"{row['free_share']:.0%} ({row['free_share_low'] * 100:.0f}–{row['free_share_high'] * 100:.0f})\n"
        f"{row['shortfall'] / 1e6:.2f} ({row['shortfall_low'] / 1e6:.2f}–{row['shortfall_high'] / 1e6:.2f})"
    )


def _span(rows: Sequence[Row], field: str, scale: float, shown: str) -> str:
    values = [row[field] / scale for row in rows if row[field] is not None]
    if not values:
        return MISSING
    low, high = shown.format(min(values)), shown.format(max(values))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"
