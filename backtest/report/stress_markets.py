"""Stresses of several markets in a table: what each loses together with the others, and alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backtest.report.selection import Row
from backtest.report.tables import Table, count

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
