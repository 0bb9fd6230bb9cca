"""Joint replays in tables: what several markets lose together, against the sum of what each loses alone."""

from __future__ import annotations

from dataclasses import dataclass

from backtest.report.selection import Query, Row, Selection
from backtest.report.tables import MISSING, Table, count, money

LOSSES = "SELECT * FROM joint_losses WHERE joint_id = '$joint' ORDER BY label <> 'end', label, place"
TOTALS = "SELECT * FROM joint_totals WHERE joint_id = '$joint' ORDER BY label <> 'end', label"
OF_RUNS = "SELECT DISTINCT joint_id, name FROM joints WHERE run_id IN $runs ORDER BY name, joint_id"


@dataclass(frozen=True, slots=True)
class JointSection:
    """The page's part on one joint replay; ``currency`` is what its amounts are in."""

    joint_id: str
    name: str
    currency: str
    losses: Table


def sections(selection: Selection) -> list[JointSection]:
    """One for each joint replay of which a run is shown."""
    found = []
    for row in selection.fill(OF_RUNS):
        losses = selection.query(LOSSES.replace("$joint", row["joint_id"]))
        if losses:
            found.append(
                JointSection(
                    row["joint_id"], row["name"], losses[0]["currency"], table(selection.query, row["joint_id"])
                )
            )
    return found


def table(query: Query, joint_id: str) -> Table:
    """Markets by moment, joint and alone, with their sum; in the first market's base currency."""
    rows = query(LOSSES.replace("$joint", joint_id))
    totals = {row["label"]: row for row in query(TOTALS.replace("$joint", joint_id))}
    lines: list[tuple[str, ...]] = []
    for label, total in totals.items():
        lines.append(("At the end of the window" if label == "end" else f"{label} later",))
        mine = [row for row in rows if row["label"] == label]
        lines += [_line(row["market"], row) for row in mine]
        short = f" ({total['markets']} of {total['of_markets']} markets)"
        lines.append(_line(f"Together{short if total['markets'] < total['of_markets'] else ''}", total))
    header = ("Market", "Liquidations", "alone", "Bad debt", "alone", "By the other markets")
    return Table(header, tuple(lines))


def sentence(query: Query, joint_id: str) -> str:
    """What the markets do to each other's losses at the end of the window."""
    [end] = [row for row in query(TOTALS.replace("$joint", joint_id)) if row["label"] == "end"]
    return (
        f"Bad debt of {end['of_markets']} markets: {_money(end, 'bad_debt_base')} {end['currency']} together,"
        f" {_money(end, 'alone_bad_debt_base')} in the sum of each alone: {_money(end, 'contagion_base')} comes of what"
        " they share."
    )


def _line(name: str, row: Row) -> tuple[str, ...]:
    counts = (row["liquidations"], row["alone_liquidations"])
    amounts = ("bad_debt_base", "alone_bad_debt_base", "contagion_base")
    return (name, *(_count(value) for value in counts), *(_money(row, key) for key in amounts))


def _count(value: int | None) -> str:
    return MISSING if value is None else count(value)


def _money(row: Row, key: str) -> str:
    return money(row[key], row["decimals"])
