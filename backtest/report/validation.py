"""Validations in words, tables and a chart: how well a model tells history."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from backtest.report import tables
from backtest.report.selection import Row, Selection
from backtest.report.tables import MISSING, Table, count, moment, money

MODES = {"one-step": "one step ahead", "free": "free-running"}
RATES = {
    "recall": "Recall by count",
    "recall_by_debt": "Recall by debt",
    "precision": "Precision by count",
    "precision_by_debt": "Precision by debt",
}
# The newest validations of a market from the data that the page shows; a validation made again replaces the one before.
LATEST = """
SELECT * FROM validations WHERE market = $market AND lake_digest IN (SELECT lake_digest FROM runs WHERE run_id IN $runs)
ORDER BY name, run_id, mode DESC, alarms, accounts
"""
EPISODES = (
    "SELECT * FROM validation_episodes WHERE market = $market AND run_id = '$validation' ORDER BY mode DESC, number"
)


def told(rows: Sequence[Row]) -> list[Row]:
    """The figures to show: where oracle prices are known no range is stated, and its alarms are all there are."""
    return [row for row in rows if row["alarms"] == "all" or row["accepted"] is not None]


def range_sentence(row: Mapping[str, Any]) -> str:
    """How many actions that the chain accepted lie outside the stated range; empty where oracle prices are known."""
    if row["accepted"] is None:
        return ""
    what = f"{row['accepted']:,} borrows, withdrawals and liquidations that the chain accepted"
    if not row["accepted_beyond"]:
        return f"None of {what} lies outside the stated range of oracle prices."
    return (
        f"{row['accepted_beyond']:,} of {what} lie outside the stated range of oracle prices: the range does not hold,"
        " and an alarm throughout it may be wrong."
    )


def figures_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rates with intervals and errors: a column for each mode, set of alarms and set of accounts."""
    header = ("", *(f"{MODES[row['mode']]}\n{_alarms(row)}\n{_accounts(row)}" for row in rows))
    lines: list[tuple[str, ...]] = [("Episodes",)]
    for label, key in (
        ("Happened", "actual"),
        ("Predicted", "predicted"),
        ("Matched", "hits"),
        ("Others with a known cause", "explained"),
    ):
        lines.append((label, *(count(row[key]) for row in rows)))
    lines.append(("Rates (95 % interval)",))
    lines += [(label, *(_rate(row, key) for row in rows)) for key, label in RATES.items()]
    lines.append(("Error: median, 95th percentile, largest",))
    lines.append(("Alarm to liquidation, seconds", *(_seconds(row) for row in rows)))
    lines += [
        (label, *(_error(row, key) for row in rows))
        for key, label in (
            ("amount_error", "Debt of a match"),
            ("collateral_error", "Collateral rebuilt"),
            ("debt_error", "Debt rebuilt"),
        )
    ]
    lines.append(("Whole-account episodes of the last two", *(count(row["whole_episodes"]) for row in rows)))
    return Table(header, tuple(lines))


def causes_table(episodes: Sequence[Mapping[str, Any]], *, ranged: bool) -> Table:
    """How many misses and false alarms have which cause; with a stated range, whether they stand throughout it."""
    counted = Counter(
        (row["mode"], row["outcome"], _kind(row, ranged), row["cause"] or "not told")
        for row in episodes
        if row["outcome"] != "hit"
    )
    rows = sorted(
        counted.items(), key=lambda item: (item[0][0] != "one-step", item[0][1], item[0][2], -item[1], item[0][3])
    )
    return Table(
        ("Mode", "Outcome", "Cause", "Episodes"),
        tuple((MODES[m], f"{o}{k}", cause, count(n)) for (m, o, k, cause), n in rows),
        frozenset({1, 2}),
    )


def episodes_table(episodes: Iterable[Mapping[str, Any]], decimals: int, *, ranged: bool) -> Table:
    """One row for each miss or false alarm; with a stated range, whether it stands throughout it."""
    return Table(
        ("Account", "Outcome", "From (UTC)", "Alarms", "Debt", "Health", "Cause", "Detail"),
        tuple(
            (
                row["account"],
                f"{row['outcome']}{_kind(row, ranged)}",
                moment(row["predicted_from"] if row["actual_from"] is None else row["actual_from"])[:16],
                count(row["predicted_rows"]),
                money(
                    row["actual_debt_base"] if row["actual_debt_base"] is not None else row["predicted_debt_base"],
                    decimals,
                ),
                MISSING if row["health"] is None else f"{int(row['health']) / 1e18:.4f}",
                row["cause"] or "not told",
                row["detail"] or "",
            )
            for row in episodes
        ),
        frozenset({1, 6, 7}),
    )


def as_text(
    rows: Sequence[Row],
    episodes: Sequence[Row],
    notes: Sequence[str],
    *,
    decimals: int,
    currency: str,
    shown: int,
) -> str:
    """A validation for a terminal; ``shown`` misses and false alarms of each mode are listed."""
    first, rows = rows[0], told(rows)
    ranged = first["accepted"] is not None
    lines = [
        (
            f"{first['name']}: market {first['market']}, blocks {first['from_block']:,} to {first['to_block']:,};"
            f" amounts in {currency}"
        ),
    ]
    if said := range_sentence(first):
        lines += wrap(said, 136)
    for mode in MODES:
        lines += ["", tables.as_text(figures_table([row for row in rows if row["mode"] == mode]))]
    if left := next((json.loads(row["left_out"]) for row in rows if row["accounts"] != "all"), None):
        lines += ["", f"The largest by collateral seized: {', '.join(left)}"]
    lines += ["", tables.as_text(causes_table(episodes, ranged=ranged))]
    for mode, words in MODES.items():
        for outcome in ("miss", "false alarm"):
            found = [row for row in episodes if row["mode"] == mode and row["outcome"] == outcome]
            if found and shown:
                listed = sorted(found, key=lambda row: (not row["throughout"], row["number"]))[:shown]
                more = f", {shown} of {len(found)}" if len(found) > shown else ""
                lines += [
                    "",
                    f"{words}: {outcome if outcome == 'false alarm' else 'misse'}s{more}",
                    tables.as_text(episodes_table(listed, decimals, ranged=ranged)),
                ]
    lines += ["", "What the figures rest on"]
    for note in notes:
        head, *rest = wrap(note, 136)
        lines += [f"  - {head}", *(f"    {line}" for line in rest)]
    return "\n".join(lines)


def _accounts(row: Mapping[str, Any]) -> str:
    return "all accounts" if row["accounts"] == "all" else str(row["accounts"])


def _narrower(row: Mapping[str, Any]) -> tuple[str, ...]:
    return () if row["alarms"] == "all" else ("throughout the range",)


def _alarms(row: Mapping[str, Any]) -> str:
    return "all alarms" if row["alarms"] == "all" else "alarms throughout the range"


def _kind(row: Mapping[str, Any], ranged: bool) -> str:
    if not ranged or row["throughout"] is None:
        return ""
    return " (throughout the range)" if row["throughout"] else " (in a part of the range)"


def _rate(row: Mapping[str, Any], key: str) -> str:
    if row[key] is None:
        return MISSING
    return f"{row[key]:.1%}\n{row[f'{key}_low']:.1%} to {row[f'{key}_high']:.1%}"


def _seconds(row: Mapping[str, Any]) -> str:
    if row["time_error_median"] is None:
        return MISSING
    return (
        f"{row['time_error_median']:,.0f}, {row['time_error_p95']:,.0f}, {row['time_error_largest']:,.0f}\nleast"
        f" {row['time_error_least']:,.0f}"
    )


def _error(row: Mapping[str, Any], key: str) -> str:
    values = [row[f"{key}_{quantile}"] for quantile in ("median", "p95", "largest")]
    return MISSING if None in values else ", ".join(f"{value:.1e}" if value else "0" for value in values)


# -- the page ----------------------------------------------------------------------------------------------------------


def latest(selection: Selection) -> list[Row]:
    """The figures of the page's validation: rows of one validation, the last by name; none where there is none."""
    rows = selection.fill(LATEST)
    return [row for row in rows if row["run_id"] == rows[-1]["run_id"]] if rows else []


def episodes_of(selection: Selection, run_id: str) -> list[Row]:
    """Every hit, miss and false alarm of a validation."""
    return selection.fill(EPISODES.replace("$validation", run_id))


def chart_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A row for each rate with its interval, for ``Charts.rates``."""
    return [
        {
            "rate": label,
            "set": ", ".join((MODES[row["mode"]], *_narrower(row), _accounts(row))),
            "value": row[key],
            "low": row[f"{key}_low"],
            "high": row[f"{key}_high"],
        }
        for key, label in RATES.items()
        for row in rows
        if row[key] is not None
    ]
