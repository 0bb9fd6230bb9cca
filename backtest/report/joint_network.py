"""What connects the markets of a joint replay, in tables: overlap, DebtRank beside what was lost, and owners in several
markets.
"""

from __future__ import annotations

from collections.abc import Sequence

from backtest.report.selection import Query, Row
from backtest.report.tables import MISSING, Table, count, moment, money

MEASURES = "SELECT * FROM joint_network WHERE joint_id = '$joint' ORDER BY step"
MARKETS = "SELECT market, currency, decimals FROM joints WHERE joint_id = '$joint' ORDER BY place"
OWNERS = """
    WITH owed AS (
        SELECT *, sum(most_debt_base) OVER (PARTITION BY owner) AS owner_debt FROM joint_links WHERE joint_id = '$joint'
    )
    SELECT * FROM owed QUALIFY dense_rank() OVER (ORDER BY owner_debt DESC, owner) <= 8
    ORDER BY owner_debt DESC, owner, of_market
"""
SAID = (
    "Equity: collateral behind debt less debt. Risk index: the weight in the overlap's leading eigenvector (Cont and"
    " Schaanning 2019), at this moment and at the window's end. Others lose: what DebtRank (Battiston et al. 2012; with"
    " sales, Poledna et al. 2021) takes of the others' equity where the market fails. Distress: what liquidations took"
    " of this equity by the window's end, in the replay alone and together; passed on is what DebtRank makes of that"
    " alone, in linear form. The replay is the rule; the rest checks and ranks."
)


def tables_of(query: Query, joint_id: str) -> tuple[list[tuple[str, Table]], str]:
    """Titles and tables with rows, and what they rest on; nothing where the joint replay was stored without."""
    rows = query(MEASURES.replace("$joint", joint_id))
    markets = query(MARKETS.replace("$joint", joint_id))
    if not rows:
        return [], ""
    owing = [row["step"] for row in rows if row["measure"] == "debt" and row["amount_base"]]
    step = min(owing, default=0)
    here = [row for row in rows if row["step"] == step]
    names, decimals = [row["market"] for row in markets], markets[0]["decimals"]
    made = [
        (f"What connects them, {moment(here[0]['timestamp'])}", _markets(rows, here, names, decimals)),
        ("Liquidity-weighted overlap: what the row loses where the column sells", _overlap(here, names, decimals)),
        ("Owners in several markets, by their most debt", _owners(query(OWNERS.replace("$joint", joint_id)))),
    ]
    unpriced = [f"{row['subject']} {round(row['number']):,}" for row in here if row["measure"] == "accounts unpriced"]
    left_out = f" Accounts of which a price is missing are left out: {', '.join(unpriced)}." if unpriced else ""
    return [(title, table) for title, table in made if table.rows], SAID + left_out


def _of(rows: Sequence[Row], measure: str, other: str | None = None) -> dict[str, Row]:
    return {row["subject"]: row for row in rows if row["measure"] == measure and row["other"] == other}


def _markets(rows: Sequence[Row], here: Sequence[Row], names: Sequence[str], decimals: int) -> Table:
    last = [row for row in rows if row["step"] == rows[-1]["step"]]
    debt, index, later = _of(here, "debt"), _of(here, "risk index"), _of(last, "risk index")
    equity = _of(here, "equity")
    ranks = (row for row in here if row["measure"] == "debt rank with sales")
    fails = {row["other"]: row for row in ranks if row["subject"] == "others"}
    distress = [_of(here, f"distress {how}") for how in ("alone", "passed on", "together")]
    lines = [
        (
            name,
            money(debt[name]["amount_base"], decimals),
            money(equity[name]["amount_base"], decimals),
            f"{index[name]['number']:.3f}",
            f"{later[name]['number']:.3f}",
            _share(fails.get(name)),
            *(_share(each.get(name)) for each in distress),
        )
        for name in names
    ]
    header = ("Market", "Debt", "Equity", "Risk index", "at the end", "Others lose\nwhere it fails")
    return Table((*header, "Distress\nalone", "passed on", "together"), tuple(lines))


def _overlap(here: Sequence[Row], names: Sequence[str], decimals: int) -> Table:
    pairs = {(row["subject"], row["other"]): row["number"] for row in here if row["measure"] == "overlap"}
    if not any(pairs.values()):
        return Table((), ())
    lines = [(one, *(money(round(pairs[one, other]), decimals) for other in names)) for one in names]
    return Table(("Market", *names), tuple(lines))


def _owners(rows: Sequence[Row]) -> Table:
    lines: list[tuple[str, ...]] = []
    owner = ""
    for row in rows:
        if row["owner"] != owner:
            owner = row["owner"]
            lines.append((f"{owner}, linked {moment(row['linked_at'])}{', within the window' * row['later']}",))
        amounts = ("start_debt_base", "most_debt_base", "end_debt_base", "bad_debt_base", "alone_bad_debt_base")
        losses = ("borrowers_loss_base", "alone_borrowers_loss_base")
        lines.append(
            (
                f"  {row['of_market']}",
                *(_money(row, key) for key in amounts[:3]),
                *(MISSING if row[key] is None else count(row[key]) for key in ("liquidations", "alone_liquidations")),
                *(_money(row, key) for key in (*losses, *amounts[3:])),
            )
        )
    header = ("Owner", "Debt before", "most", "at the end", "Liquidations", "alone")
    return Table((*header, "Borrower's loss", "alone", "Bad debt", "alone"), tuple(lines))


def _money(row: Row, key: str) -> str:
    return money(row[key], row["decimals"])


def _share(row: Row | None) -> str:
    return MISSING if row is None else f"{row['number']:.2%}"
