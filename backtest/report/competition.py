"""Who liquidates, at what price: opportunities, bids, waterfalls and repeats of runs, as lines, tables and rows of
charts. All of it by SQL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backtest.report.selection import Query, Row, Selection
from backtest.report.tables import MISSING, Table, count, money

POINTS = 200  # most points of a run's curve

PARTS = {
    "bonus": "bonus",
    "basis": "oracle to market price",
    "reward": "paid by the protocol",
    "protocol_fee": "protocol fee",
    "slippage": "slippage",
    "sandwich": "sandwiching",
    "gas": "gas",
    "funding": "flash loan",
    "private": "private costs",
    "bid": "bid",
    "protocol_share": "bid, to the protocol",
    "oracle_share": "bid, to the oracle",
    "rent": "searchers' rent",
}
"""What the parts of a waterfall are called."""
MEASURES = {
    "liquidations": "liquidations",
    "repaid": "debt repaid",
    "bad_debt": "bad debt",
    "missed_debt": "debt nobody repaid",
    **PARTS,
}

# One row per run with opportunities: how they ended and after how long.
ENDINGS = """
WITH expired AS (
    SELECT run_id, count(*) FILTER (reason = 'owner acted') AS owner_acted, count(*) FILTER (reason = 'price back') AS
    price_back, count(*) FILTER (reason = 'withheld by a mitigation') AS withheld
    FROM opportunities WHERE run_id IN $runs AND ending = 'expired' GROUP BY run_id
)
SELECT t.*, coalesce(owner_acted, 0) AS owner_acted, coalesce(price_back, 0) AS price_back,
    coalesce(withheld, 0) AS withheld
FROM time_to_liquidation AS t LEFT JOIN expired USING (run_id) WHERE t.run_id IN $runs ORDER BY t.run_id
"""

# One row per run and reason.
MISSED = (
    "SELECT * FROM missed_by_reason WHERE run_id IN $runs ORDER BY run_id, lost_debt_base DESC, debt_base DESC, reason"
)

# One row per run with opportunities and part that is not zero, and where its bar begins and ends: sources rise, uses
# fall, the rent is what is left.
WATERFALL = """
WITH signed AS (
    SELECT *, CASE WHEN part = 'rent' THEN 0 WHEN side = 'use' THEN -amount_base ELSE amount_base END AS step
    FROM waterfall WHERE run_id IN $runs AND run_id IN (SELECT run_id FROM opportunities)
), stacked AS (
    SELECT *, sum(step) OVER (PARTITION BY run_id ORDER BY place) AS level FROM signed
)
SELECT run_id, place, part, side, amount_base, percent_of_bonus, CASE WHEN part = 'rent' THEN 0 ELSE (level -
step)::DOUBLE / $unit END AS from_usd,
    level::DOUBLE / $unit AS to_usd, amount_base::DOUBLE / $unit AS amount_usd
FROM stacked WHERE amount_base <> 0 OR part IN ('bonus', 'rent') ORDER BY run_id, place
"""

# One row per run and searcher.
LEAGUE = """
SELECT * FROM league_table WHERE run_id IN $runs AND run_id IN (SELECT run_id FROM opportunities)
ORDER BY run_id, repaid_base DESC, won DESC NULLS LAST, searcher
"""

# One row per run and time.
CURVE = (
    "SELECT run_id, seconds, taken_share, open_share FROM liquidation_curve WHERE run_id IN $runs ORDER BY run_id,"
    " seconds"
)

# One row per run and number of rivals.
BIDS = (
    "SELECT run_id, rivals, contests, mean_share, low, high FROM bid_share WHERE run_id IN $runs ORDER BY run_id,"
    " rivals"
)

# One row per run with bids.
ZERO = "SELECT * FROM zero_bids WHERE run_id IN $runs ORDER BY run_id"

# One row per scenario that was repeated, and measure, under the run with the lowest seed of those that are shown.
REPEATS = """
SELECT s.run_id, r.* FROM run_repeats AS r JOIN run_seeds AS s USING (repeats_id) WHERE s.run_id IN $runs
QUALIFY row_number() OVER (PARTITION BY r.repeats_id, r.measure ORDER BY s.place) = 1 ORDER BY r.name, r.repeats_id
"""


# -- lines of a terminal -----------------------------------------------------------------------------------------------


def lines(query: Query, run_id: str, decimals: int, currency: str) -> list[str]:
    """What a run says of its opportunities, the reasons why some were missed, and its waterfall; nothing where it has
    no opportunities.
    """

    def rows(text: str) -> list[Row]:
        return query(text.replace("$runs", f"('{run_id}')").replace("$unit", f"1e{decimals}"))

    ended = rows(ENDINGS)
    if not ended:
        return []
    [row] = ended
    why = [f"{row['owner_acted']:,} owner acted", f"{row['price_back']:,} price back"]
    why += [f"{row['withheld']:,} withheld by a mitigation"] if row["withheld"] else []
    gone = f"{row['expired']:,} expired ({', '.join(why)})"
    taken = f"{row['taken']:,} taken ({row['at_once']:,} at once)"
    found = [f"  opportunities {row['opportunities']:,}: {taken}, {gone}, {row['still_open']:,} open at the end"]
    for each in rows(MISSED):
        lost = f"{each['lost']:,} for good, {money(each['lost_debt_base'], decimals)} {currency} of debt"
        found.append(f"    missed      {each['reason']}: {lost}; {each['opportunities']:,} at some look")
    for part in rows(WATERFALL):
        percent = part["percent_of_bonus"]
        share = "" if percent is None or part["part"] == "bonus" else f", {percent:.1f} % of the bonus"
        title = "waterfall" if part["part"] == "bonus" else ""
        found.append(f"  {title:<13} {PARTS[part['part']]} {money(part['amount_base'], decimals)} {currency}{share}")
    for each in rows(ZERO):
        share = f"{each['share']:.1%} [{each['low']:.1%}, {each['high']:.1%}]"
        found.append(
            f"  bids          {each['zero_bids']:,} of {each['contests']:,} contests won for nothing: {share};"
            f" {each['alone']:,} without a rival"
        )
    return found


def repeats(query: Query, run_id: str, decimals: int, currency: str) -> Table | None:
    """Means over the seeds of a run's repeats with 95 % intervals; None where it has no repeats."""
    rows = query(REPEATS.replace("$runs", f"('{run_id}')"))
    return _repeats_table([{**row, "run": row["name"]} for row in rows], decimals, currency) if rows else None


# -- tables and rows of a page -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CompetitionSection:
    """What the page shows of the runs that have opportunities: tables, and rows of charts under the runs' labels."""

    endings: Table
    missed: Table
    league: Table
    repeats: Table
    waterfall: list[Row]
    curve: list[Row]
    bids: list[Row]

    @classmethod
    def of(cls, selection: Selection, labels: Sequence[str]) -> CompetitionSection | None:
        """None where no run has any."""
        names = dict(zip((run["run_id"] for run in selection.runs), labels, strict=True))
        decimals, currency = selection.decimals, selection.currency

        def rows(text: str) -> list[Row]:
            """In the order of the runs."""
            places = list(names)
            return sorted(
                ({**row, "run": names[row["run_id"]]} for row in selection.fill(text)),
                key=lambda row: places.index(row["run_id"]),
            )

        ended = rows(ENDINGS)
        if not ended:
            return None
        return cls(
            endings=_endings_table(ended, rows(ZERO)),
            missed=_missed_table(rows(MISSED), decimals),
            league=_league_table(rows(LEAGUE), decimals),
            repeats=_repeats_table(rows(REPEATS), decimals, currency),
            waterfall=[{**row, "label": PARTS[row["part"]]} for row in rows(WATERFALL)],
            curve=thinned(rows(CURVE)),
            bids=rows(BIDS),
        )


def thinned(rows: Sequence[Row]) -> list[Row]:
    """Rows of a curve by run and rising ``seconds``: all of a short one, of a longer one the last of each of some steps
    that grow with time.
    """
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row)
    kept = []
    for own in runs.values():
        steps = POINTS / math.log2(own[-1]["seconds"] + 2)
        last = {int(steps * math.log2(row["seconds"] + 1)): row for row in own}
        kept += own if len(own) <= POINTS else list(last.values())
    return kept


def _endings_table(ended: Sequence[Row], zero: Sequence[Row]) -> Table:
    bids = {row["run"]: row for row in zero}
    figures = {
        "Opportunities": "opportunities",
        "Taken": "taken",
        "  at once": "at_once",
        "Expired: owner acted": "owner_acted",
        "Expired: price back": "price_back",
        "Open at the end": "still_open",
    }
    if any(row["withheld"] for row in ended):
        figures["Expired: withheld by a mitigation"] = "withheld"
    lines: list[tuple[str, ...]] = [(label, *(count(row[key]) for row in ended)) for label, key in figures.items()]
    times = {
        "Median": "median_seconds",
        "90 % within": "p90_seconds",
        "99 % within": "p99_seconds",
        "Half of all opportunities taken after": "half_taken_seconds",
    }
    lines.append(("Seconds from first seen to taken",))
    lines += [(label, *(count(row[key]) for row in ended)) for label, key in times.items()]
    if bids:
        lines.append(("Bids",))
        own = [bids.get(row["run"]) for row in ended]
        lines.append(("Contests", *(MISSING if each is None else count(each["contests"]) for each in own)))
        lines.append(("  without a rival", *(MISSING if each is None else count(each["alone"]) for each in own)))
        lines.append(("Won for nothing", *(MISSING if each is None else _interval(each) for each in own)))
    return Table(("", *(row["run"] for row in ended)), tuple(lines))


def _missed_table(rows: Sequence[Row], decimals: int) -> Table:
    header = (
        "Run, reason",
        "Opportunities",
        "Looks",
        "Debt at first",
        "Never taken",
        "of these expired",
        "Debt never repaid",
        "Profit forgone",
    )

    def cells(row: Row) -> tuple[str, ...]:
        seen = count(row["opportunities"]), count(row["looks"]), money(row["debt_base"], decimals)
        lost = money(row["lost_debt_base"], decimals), money(row["lost_profit_base"], decimals)
        return (row["reason"], *seen, count(row["lost"]), count(row["lost_expired"]), *lost)

    return Table(header, _by_run(rows, cells))


def _league_table(rows: Sequence[Row], decimals: int) -> Table:
    header = (
        "Run, searcher",
        "Bids",
        "Won",
        "Win rate",
        "Liquidations",
        "Debt repaid",
        "Share",
        "Bids paid",
        "Paid where it lost",
        "Rent",
    )

    def cells(row: Row) -> tuple[str, ...]:
        won = count(row["bids"]), count(row["won"]), _share(row["win_rate"])
        paid = (money(row[key], decimals) for key in ("bid_paid_base", "lost_base", "rent_base"))
        return (
            row["searcher"],
            *won,
            count(row["liquidations"]),
            money(row["repaid_base"], decimals),
            _share(row["volume_share"]),
            *paid,
        )

    named = [
        {**row, "run": row["run"] if row["hhi"] is None else f"{row['run']} (HHI {row['hhi']:,.0f})"} for row in rows
    ]
    return Table(header, _by_run(named, cells))


def _repeats_table(rows: Sequence[Row], decimals: int, currency: str) -> Table:
    header = ("Run, measure", "Mean", "95 % interval", "Standard error", "Smallest", "Largest")
    places = {measure: place for place, measure in enumerate(MEASURES)}

    def cells(row: Row) -> tuple[str, ...]:
        number = row["measure"] == "liquidations"

        def said(value: object) -> str:
            return f"{float(value):,.1f}" if number else money(round(float(value)), decimals)  # type: ignore[arg-type]

        mean, low, high, error = (said(row[key]) for key in ("mean", "low", "high", "standard_error"))
        ends = (count(row[key]) if number else money(row[key], decimals) for key in ("smallest", "largest"))
        return (MEASURES[row["measure"]], mean, f"{low} to {high}", error, *ends)

    shown = sorted((row for row in rows if row["smallest"] or row["largest"]), key=lambda row: places[row["measure"]])
    titled = [
        {**row, "run": f"{row['run']}, {row['runs']} seeds from {row['first_seed']} to {row['last_seed']} ({currency})"}
        for row in shown
    ]
    return Table(header, _by_run(titled, cells))


def _by_run(rows: Sequence[Row], cells: Callable[[Row], tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """A title for each run, in their order, and below it its rows."""
    titles = dict.fromkeys(row["run"] for row in rows)
    return tuple(line for title in titles for line in ((title,), *(cells(row) for row in rows if row["run"] == title)))


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1%}"


def _interval(row: Row) -> str:
    """A share in words, with its interval below."""
    return f"{row['share']:.1%}\n{row['low']:.1%} to {row['high']:.1%}"
