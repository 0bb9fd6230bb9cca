"""Joint replays in tables: what several markets lose together, against the sum of what each loses alone."""

from __future__ import annotations

from dataclasses import dataclass

from backtest.report import joint_network
from backtest.report.selection import Query, Row, Selection
from backtest.report.tables import MISSING, Table, count, money

LOSSES = "SELECT * FROM joint_losses WHERE joint_id = '$joint' ORDER BY label <> 'end', label, place"
TOTALS = "SELECT * FROM joint_totals WHERE joint_id = '$joint' ORDER BY label <> 'end', label"
RANKS = (
    "SELECT * FROM joint_ranks WHERE joint_id = '$joint'"
    " ORDER BY rank_bad_debt, rank_borrowers_loss, rank_repaid, kind, left_out"
)
OF_RUNS = "SELECT DISTINCT joint_id, name FROM joints WHERE run_id IN $runs ORDER BY name, joint_id"


@dataclass(frozen=True, slots=True)
class JointSection:
    """The page's part on one joint replay; ``currency`` is what its amounts are in. ``ranks``: who matters to it, and
    ``ranked`` what that rests on; None where nobody was left out. ``network``: what connects the markets, and
    ``connected`` what that rests on.
    """

    joint_id: str
    name: str
    currency: str
    losses: Table
    ranks: Table | None
    ranked: str
    network: list[tuple[str, Table]]
    connected: str


def sections(selection: Selection) -> list[JointSection]:
    """One for each joint replay of which a run is shown."""
    found = []
    for row in selection.fill(OF_RUNS):
        losses = selection.query(LOSSES.replace("$joint", row["joint_id"]))
        if losses:
            made, (ranks, ranked) = table(selection.query, row["joint_id"]), ranking(selection.query, row["joint_id"])
            network, said = joint_network.tables_of(selection.query, row["joint_id"])
            found.append(
                JointSection(row["joint_id"], row["name"], losses[0]["currency"], made, ranks, ranked, network, said)
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


def ranking(query: Query, joint_id: str) -> tuple[Table | None, str]:
    """What is spared without each market, owner and asset's impact, the largest first, and what that rests on; None
    where nobody was left out.
    """
    rows = query(RANKS.replace("$joint", joint_id))
    if not rows:
        return None, ""
    header = (
        "Without",
        "Bad debt",
        "spared",
        "of others",
        "Borrowers' loss spared",
        "of others",
        "Less repaid",
        "of others",
    )
    lines = []
    for row in rows:
        keys = (
            f"{whose}_{figure}_base"
            for figure in ("bad_debt", "borrowers_loss", "repaid")
            for whose in ("spared", "others")
        )
        cells = (_spared(row, key) for key in keys)
        lines.append((f"{row['kind']} {row['left_out']}", _money(row, "bad_debt_base"), *cells))
    kinds = {row["kind"] for row in rows}
    said = (
        "Who is left out stays in the book and is not liquidated, and does not count; an asset that is left out is sold"
        " as before and its price does not move. Of others: what the rest is spared, without its own."
    )
    said += "" if "asset" in kinds else " No asset is left out: prices do not answer to sales here (--impact)."
    if any(row["drawn"] for row in rows):
        said += (
            " Chance has a part in both replays, and this is one seed: whether a difference is more than chance cannot"
            " be told from it; other seeds tell (--repeats). What is 'none' is exactly zero under this seed."
        )
    else:
        said += " Nothing is drawn: no difference is chance, and what is 'none' is exactly zero."
    return Table(header, tuple(lines)), said


def _spared(row: Row, key: str) -> str:
    return "none" if row[key] == 0 else _money(row, key)


def _line(name: str, row: Row) -> tuple[str, ...]:
    counts = (row["liquidations"], row["alone_liquidations"])
    amounts = ("bad_debt_base", "alone_bad_debt_base", "contagion_base")
    return (name, *(_count(value) for value in counts), *(_money(row, key) for key in amounts))


def _count(value: int | None) -> str:
    return MISSING if value is None else count(value)


def _money(row: Row, key: str) -> str:
    return money(row[key], row["decimals"])
