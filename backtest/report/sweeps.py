"""What the runs of a sweep have in common, as text and as a page: front, worst case, stability of ranks, sensitivities.
From SQL alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from backtest.errors import UserError
from backtest.report import tables
from backtest.report.page import CaptionedChart, draw, fill_in
from backtest.report.selection import Query, Row, printable
from backtest.report.sweep_charts import SweepCharts
from backtest.report.tables import MISSING, Table
from backtest.report.verdict import JUDGEABLE, UNJUDGED, reproduces

if TYPE_CHECKING:
    from backtest.lake import Lake

MEASURES = {
    "bad_debt": "bad debt",
    "borrower_loss": "borrowers' loss",
    "borrowing_power": "borrowing power",
    "repaid": "liquidated volume",
    "liquidations": "liquidations",
    "accounts_liquidated": "accounts liquidated",
    "seized": "collateral seized",
    "protocol_fee": "protocol's fee",
    "deficit": "debt written off",
    "open_bad_debt": "open bad debt",
    "peak_bad_debt": "peak of bad debt",
    "rent": "liquidators' rent",
    "bid": "bids",
    "protocol_share": "protocol's share of bids",
    "oracle_share": "oracle's share of bids",
    "opportunities": "opportunities",
    "median_seconds": "median delay",
    "p90_seconds": "90th percentile delay",
    "missed_debt": "missed debt",
    "hhi": "concentration (HHI)",
    "contests": "contests",
    "zero_bid_share": "share of zero bids",
}
"""Every measure of ``sweep_measures`` in words."""
UNHELD = (
    "rent",
    "bid",
    "protocol_share",
    "oracle_share",
    "opportunities",
    "median_seconds",
    "p90_seconds",
    "missed_debt",
    "hhi",
    "contests",
    "zero_bid_share",
)
"""Those that are not held against history, which shows them of other liquidators or not at all."""
WRAPPED = 140
"""Columns of running text."""
SHOWN = 25
"""Rows of a table, at most; SQL has them all."""


@dataclass(frozen=True, slots=True)
class View:
    """A sweep as its lake shows it. ``sweep`` is the row of ``sweeps``."""

    query: Query
    sweep: Row
    decimals: int
    currency: str

    @property
    def head(self) -> str:
        """What it is, in one line."""
        row = self.sweep
        todo = row["scenarios"] - row["done"] - row["failed"]
        parts = [
            f"{row['design']} design, {row['points']:,} parameter sets",
            f"{row['done']:,} of {row['scenarios']:,} scenarios done",
        ]
        return ", ".join(
            [*parts, *([f"{row['failed']:,} failed"] if row["failed"] else []), *([f"{todo:,} to do"] if todo else [])]
        )

    @property
    def remarks(self) -> list[str]:
        """What to know before the tables, in sentences: fronts of one set, and ``overlaps``."""
        unjudged = [MEASURES[measure] for measure in self._unjudged()]
        trade_off = (
            f"by what was replayed; {' and '.join(unjudged)} {UNJUDGED}, so whether there is a trade-off is not known"
            if unjudged
            else "so there is no trade-off here"
        )
        single = [
            (
                f"Users {response}: one parameter set is complete, so there is nothing to choose among."
                if len(rows) == 1
                else f"Users {response}: set #{front[0]} alone is not dominated: no other is better in any"
                f" measure without being worse in another, {trade_off}."
            )
            for response, rows in self._pareto(held_out=False).items()
            if len(front := [row["point"] for row in rows if row["on_front"]]) == 1
        ]
        return single + self.told_apart + self.overlaps + self.held_against_history

    @property
    def held_against_history(self) -> list[str]:
        """Which measures no set can be judged by, since the baseline does not tell them of history; in sentences."""
        sentences = []
        for measure, rows in self._unjudged().items():
            told = "; ".join(
                f"in window '{row['window']}' history had {self._plain(measure, row['past'])}, the baseline"
                f" {self._plain(measure, row['amount'])}"
                for row in rows
            )
            sentences.append(
                f"{MEASURES[measure].capitalize()} {UNJUDGED}: {told}."
                + (
                    " Where liquidators always come in time, nothing shows what a bonus is for: a lower one looks"
                    " better than it is."
                    if measure == "bad_debt" and all(abs(row["amount"]) < abs(row["past"]) for row in rows)
                    else ""
                )
                + f" {JUDGEABLE}"
            )
        if unknown := sorted({row["window"] for row in self._held() if row["past"] is None}):
            sentences.append(
                f"History of {' and '.join(unknown)} is not stored, so whether the baseline tells it is not known:"
                " backtest sweep replays it."
            )
        if unheld := [MEASURES[measure] for measure in self._ways if measure in UNHELD]:
            sentences.append(
                f"{_first_up(_and(unheld))}: not held against history, so how well the baseline tells "
                + ("it" if len(unheld) == 1 else "them")
                + " is not known."
            )
        return sentences

    def _plain(self, measure: str, value: int) -> str:
        """An amount of a measure that is money or a number."""
        return tables.count(value) if measure in ("liquidations", "accounts_liquidated") else self._money(value)

    @property
    def told_apart(self) -> list[str]:
        """What the intervals over windows allow to be said, and which sets lack an objective; in sentences."""
        sentences = []
        [counted] = self.rows(
            'SELECT count(*) AS n, count(DISTINCT coalesce("of", name)) AS windows FROM results.sweep_windows'
            " WHERE sweep_id = $sweep AND NOT held_out"
        )
        windows, repeats = counted["windows"], counted["n"] // counted["windows"]
        if repeats > 1 and windows == 1:
            over = f"over {repeats} seeds of one window"
            sentences.append(
                f"Intervals are over {repeats} seeds, or draws of an ensemble with a seed each, of one window: they"
                " hold what is not known of the model and chance, not what other windows would say."
            )
        else:
            over = f"over {windows} windows"
        for response, rows in self._pareto(held_out=False).items():
            standings = Counter(row["standing"] for row in rows)
            doubtful, dominated = standings["not told apart"], standings["dominated"]
            if doubtful:
                many = doubtful > 1
                sentences.append(
                    f"Users {response}: {doubtful:,} set{'s' if many else ''} that another beats by the"
                    f" means {'are' if many else 'is'} not told apart from it"
                    + (
                        ": a single window does not show how much differences vary."
                        if counted["n"] == 1
                        else f": {over} the differences vary too much (95 %)."
                    )
                    + f" {dominated:,} {'is' if dominated == 1 else 'are'} dominated beyond the interval."
                )
        ran = self.rows("""
            SELECT point, response FROM sweep_scenarios
            WHERE sweep_id = $sweep AND role = 'scenario' AND NOT held_out AND status = 'done'
            GROUP BY point, response HAVING count(*) = (
                SELECT count(*) FROM results.sweep_windows WHERE sweep_id = $sweep AND NOT held_out
            )
        """)
        each = self._points(held_out=False)
        for measure in self._ways:
            keys = [(row["point"], row["response"], measure) for row in ran]
            if lack := sum(key not in each or not each[key]["complete"] for key in keys):
                sentences.append(
                    f"{lack:,} set{'s have' if lack > 1 else ' has'} no {MEASURES[measure]} in some"
                    " window and so no place in a front: nothing there has it."
                )
        return sentences

    def _pareto(self, *, held_out: bool) -> dict[str, list[Row]]:
        """The sets of ``sweep_pareto`` by users' response. Asked once: planning it takes longer than running it."""
        found: dict[str, list[Row]] = {}
        for row in self.rows("SELECT * FROM sweep_pareto WHERE sweep_id = $sweep ORDER BY response, point"):
            if row["held_out"] == held_out:
                found.setdefault(row["response"], []).append(row)
        return found

    def _points(self, *, held_out: bool) -> dict[tuple[int, str, str], Row]:
        """The rows of ``sweep_points`` by point, response and measure; asked once as well."""
        rows = self.rows("SELECT * FROM sweep_points WHERE sweep_id = $sweep")
        return {(row["point"], row["response"], row["measure"]): row for row in rows if row["held_out"] == held_out}

    def _unjudged(self) -> dict[str, list[Row]]:
        """Measures to the windows, one row of each, in which a baseline does not tell them."""
        found: dict[str, dict[str, Row]] = {}
        for row in self._held():
            if row["past"] is not None and not reproduces(int(row["amount"]), int(row["past"])):
                found.setdefault(row["measure"], {}).setdefault(row["window"], row)
        return {measure: list(rows.values()) for measure, rows in found.items()}

    def _held(self) -> list[Row]:
        """The baselines' measures, means over their seeds, beside history's; ``past`` None where history of the window
        is not stored.
        """
        return self.rows("""
            WITH ends AS (
                UNPIVOT (
                    SELECT run_id, (w.realised_bad_debt_base + w.open_bad_debt_base)::DECIMAL(38, 0) AS bad_debt,
                        (w.seized_base + w.protocol_fee_base - w.repaid_base)::DECIMAL(38, 0) AS borrower_loss,
                        w.borrowing_power_base AS borrowing_power, w.repaid_base AS repaid, w.seized_base AS seized,
                        w.protocol_fee_base AS protocol_fee, w.realised_bad_debt_base AS deficit,
                        w.open_bad_debt_base AS open_bad_debt, w.peak_bad_debt_base AS peak_bad_debt,
                        w.liquidations::DECIMAL(38, 0) AS liquidations,
                        r.accounts_liquidated::DECIMAL(38, 0) AS accounts_liquidated
                    FROM run_windows AS w JOIN runs AS r USING (run_id) WHERE label = 'end'
                ) ON bad_debt, borrower_loss, borrowing_power, repaid, seized, protocol_fee, deficit, open_bad_debt,
                    peak_bad_debt, liquidations, accounts_liquidated INTO NAME measure VALUE amount
            )
            SELECT coalesce(w."of", w.name) AS "window", e.measure,
                (sum(e.amount) // count(*))::DECIMAL(38, 0) AS amount, any_value(h.amount) AS past
            FROM sweep_scenarios AS s JOIN run_pairs AS p USING (run_id) JOIN ends AS e USING (run_id)
            JOIN results.sweep_windows AS w ON w.sweep_id = s.sweep_id AND w.name = s."window"
            JOIN results.sweep_objectives AS o ON o.sweep_id = s.sweep_id AND o.measure = e.measure
            LEFT JOIN ends AS h ON h.run_id = p.history_id AND h.measure = e.measure
            WHERE s.sweep_id = $sweep AND p.kind = 'baseline'
            GROUP BY coalesce(w."of", w.name), e.measure, s.response
            ORDER BY e.measure, 1, min(s.ordinal)
        """)

    def _measure(self, measure: str) -> str:
        """Its name, marked where it cannot be judged."""
        return f"{MEASURES[measure]} ({UNJUDGED})" if measure in self._unjudged() else MEASURES[measure]

    @property
    def overlaps(self) -> list[str]:
        """Windows held out that share blocks with one that chooses, in sentences: what was chosen there is no surprise
        to them.
        """
        found = self.rows("SELECT held_out, chooses FROM sweep_overlaps WHERE sweep_id = $sweep")
        return [
            f"{row['held_out']} is held out and shares blocks with {row['chooses']}, which chooses: no check of its"
            " own."
            for row in found
        ]

    def rows(self, text: str) -> list[Row]:
        """Rows of a SELECT in which ``$sweep`` stands for this one."""
        return self.query(text.replace("$sweep", "'" + self.sweep["sweep_id"] + "'"))

    def tables(self) -> list[tuple[str, Table]]:
        """Every table that has rows, with its title."""
        made = [
            (f"Not dominated ({self._better()}), by means over windows", self._front(held_out=False)),
            ("The same sets in the windows held out", self._front(held_out=True)),
            ("Best by each measure, and how that holds across windows", self._choices()),
            ("Do windows agree? Spearman's rank correlation", self._stability()),
            ("What moves the results: one row per axis", self._sensitivity()),
            ("Liquidators: means over the windows that are not held out", self._liquidators()),
            ("Failed", self._failed()),
        ]
        return [(title, table) for title, table in made if table.rows]

    @property
    def _ways(self) -> dict[str, str]:
        """The objectives, each with min or max."""
        rows = self.rows(
            "SELECT measure, better FROM results.sweep_objectives WHERE sweep_id = $sweep ORDER BY measure"
        )
        return {row["measure"]: row["better"] for row in rows}

    def _better(self) -> str:
        return ", ".join(
            f"{'less' if way == 'min' else 'more'} {self._measure(measure)}" for measure, way in self._ways.items()
        )

    def _money(self, value: object) -> str:
        return (
            MISSING
            if value is None
            else tables.money(round(value) if isinstance(value, float) else value, self.decimals)
        )

    def _amount(self, unit: str, value: float | int | None) -> str:
        """A mean or an amount of a measure in its unit."""
        if value is None:
            return MISSING
        if unit == "base":
            return self._money(value)
        if unit == "bps":
            return f"{value / 100:,.1f} %"
        places = 0 if unit == "points" or value == int(value) else 1
        return f"{value:,.{places}f}{' s' if unit == 'seconds' else ''}"

    def _front(self, *, held_out: bool) -> Table:
        chosen = {
            (row["point"], response)
            for response, rows in self._pareto(held_out=False).items()
            for row in rows
            if row["on_front"]
        }
        found = [row for rows in self._pareto(held_out=held_out).values() for row in rows]
        shown = sorted((row for row in found if (row["point"], row["response"]) in chosen), key=_by_losses)
        each = self._points(held_out=held_out)
        measures = [measure for measure in MEASURES if measure in self._ways]
        worst = [measure for measure in ("bad_debt", "borrower_loss") if measure in measures]

        def cells(row: Row) -> list[str]:
            found = {measure: each[row["point"], row["response"], measure] for measure in measures}
            return [
                *(self._with_interval(found[measure]) for measure in measures),
                *(self._amount(found[measure]["unit"], found[measure]["worst"]) for measure in worst),
            ]

        rows = [
            (
                f"#{row['point']}  {row['parameters']}",
                row["response"],
                *cells(row),
                "yes" if row["on_worst_front" if not held_out else "on_front"] else "no",
            )
            for row in shown[:SHOWN]
        ]
        titles = (*map(_title, measures), *(f"{_title(measure)},\nworst window" for measure in worst))
        last = "Not dominated\nhere either" if held_out else "Not dominated\nby worst windows"
        header = ("Parameters", "Users", *titles, last)
        return Table(header, tuple(_more(rows, len(shown), len(header))))

    def _with_interval(self, row: Row) -> str:
        """A mean, and below it by how much its difference from the mean of all sets may err over windows."""
        mean = self._amount(row["unit"], row["mean"])
        if not row["half_width"]:
            return mean
        return f"{mean}\n± {self._amount(row['unit'], row['half_width'])}"

    def _choices(self) -> Table:
        top, unjudged = self._top(), self._unjudged()
        complete: dict[tuple[str, str], list[Row]] = {}
        for (_, response, measure), row in self._points(held_out=False).items():
            if row["complete"]:
                complete.setdefault((response, measure), []).append(row)
        often = {
            (row["point"], row["response"], row["measure"]): row
            for row in self.rows(f"SELECT * FROM sweep_top({top}) WHERE sweep_id = $sweep")
        }
        shown = []
        for (response, measure), sets in sorted(complete.items()):
            best = min(sets, key=lambda row: (row["total_cost"], row["point"]))
            equal = sum(row["total_cost"] == best["total_cost"] for row in sets)
            shown.append({**often.get((best["point"], response, measure), {}), **best, "equal": equal})
        rows = [
            (
                self._measure(row["measure"])
                + (f": #{row['point']}" if row["measure"] not in unjudged else "")
                + (f" (and {row['equal'] - 1} equal)" if row["equal"] > 1 and row["measure"] not in unjudged else ""),
                row["response"],
                self._amount(row["unit"], row["mean"]),
                self._amount(row["unit"], row["worst"]),
                row["worst_window"],
                _share(row.get("share")),
                _share(row.get("held_out_share")),
                tables.count(row.get("worst_place")),
            )
            for row in shown
        ]
        words = f"Windows in\nthe best {top}"
        return Table(
            ("Best", "Users", "Mean", "Worst", "Worst window", words, f"{words},\nheld out", "Worst place"), tuple(rows)
        )

    def _top(self) -> int:
        """A tenth of the sets, one at least."""
        return max(1, int(self.sweep["points"]) // 10)

    def _stability(self) -> Table:
        shown = self.rows("""
            SELECT * FROM sweep_rank_stability WHERE sweep_id = $sweep AND correlation IS NOT NULL
            ORDER BY response, measure, held_out, "window", other_window
        """)
        rows = [
            (
                f"{row['window']} and {row['other_window']}{' (held out)' if row['held_out'] else ''}",
                row["response"],
                MEASURES[row["measure"]],
                tables.count(row["points"]),
                _signed(row["correlation"]),
            )
            for row in shown[:SHOWN]
        ]
        return Table(("Windows", "Users", "Measure", "Sets", "Correlation"), tuple(_more(rows, len(shown), 5)))

    def _sensitivity(self) -> Table:
        shown = self.rows(
            "SELECT * FROM sweep_sensitivity WHERE sweep_id = $sweep AND effect > 0 ORDER BY response, measure,"
            " place, axis"
        )
        rows = [
            (
                row["axis"],
                row["response"],
                MEASURES[row["measure"]],
                tables.count(row["place"]),
                _signed(row["rank_correlation"]),
                _share(row["rank_share"]),
                self._amount(row["unit"], row["effect"]),
                f"{row['lowest_value']} to {row['highest_value']}",
            )
            for row in shown[:SHOWN]
        ]
        return Table(
            (
                "Axis",
                "Users",
                "Measure",
                "Place",
                "Rank\ncorrelation",
                "Ranks\nexplained",
                "Effect",
                "From least to most",
            ),
            tuple(_more(rows, len(shown), 8)),
        )

    def _liquidators(self) -> Table:
        """What each set was for those who liquidate; no rows where nobody bids in any of them."""
        shown = self.rows("""
            SELECT point, response, any_value(parameters) AS parameters, avg(rent_base) AS rent, avg(bid_base) AS bid,
                avg(protocol_share_base) AS protocol, avg(oracle_share_base) AS oracle, avg(median_seconds) AS median,
                avg(p90_seconds) AS slow, avg(missed_debt_base) AS missed, avg(hhi) AS hhi, avg(zero_bid_share) AS zero,
                sum(sum(contests)) OVER () AS contests
            FROM sweep_liquidators WHERE sweep_id = $sweep AND NOT held_out GROUP BY point, response
            ORDER BY rent DESC, point, response
        """)
        rows = [
            (
                f"#{row['point']}  {row['parameters']}",
                row["response"],
                *(self._money(row[key]) for key in ("rent", "bid", "protocol", "oracle")),
                *(MISSING if row[key] is None else f"{row[key]:,.0f} s" for key in ("median", "slow")),
                self._money(row["missed"]),
                MISSING if row["hhi"] is None else f"{row['hhi']:,.0f}",
                _share(row["zero"]),
            )
            for row in shown[:SHOWN]
            if row["contests"]
        ]
        titles = (
            "Rent",
            "Bids",
            "To the\nprotocol",
            "To the\noracle",
            "Delay,\nmedian",
            "Delay,\n90 %",
            "Missed\ndebt",
        )
        header = ("Parameters", "Users", *titles, "HHI", "Zero\nbids")
        return Table(header, tuple(_more(rows, len(shown) if rows else 0, len(header))))

    def _failed(self) -> Table:
        """One row per kind of reason: reasons that differ by numbers alone are of one kind."""
        shown = self.rows("""
            SELECT count(*) AS number, arg_min(name, ordinal) AS first, arg_max(name, ordinal) AS last,
                arg_min(error, ordinal) AS error
            FROM sweep_scenarios WHERE sweep_id = $sweep AND status = 'failed'
            GROUP BY regexp_replace(error, '[0-9]+', '0', 'g') ORDER BY min(ordinal)
        """)
        rows = [
            (
                row["first"] if row["number"] == 1 else f"{row['first']}\nto {row['last']}",
                tables.count(row["number"]),
                row["error"] if row["number"] == 1 else f"such as: {row['error']}",
            )
            for row in shown[:SHOWN]
        ]
        return Table(("Failed", "Scenarios", "Reason"), tuple(_more(rows, len(shown), 3)))

    def figures(self) -> list[CaptionedChart]:
        """Front and sensitivities as charts, not yet drawn."""
        x, ys = self._sides
        losses = ", ".join(f"'{measure}'" for measure in ys)
        points = self.rows(f"""
            WITH each AS (
                SELECT point, response, "window", sum(amount) FILTER (measure = '{x}') AS x,
                    sum(amount) FILTER (measure IN ({losses})) AS y
                FROM sweep_measures JOIN sweep_pareto USING (sweep_id, point, response, held_out)
                WHERE sweep_id = $sweep AND NOT held_out GROUP BY point, response, "window"
            ), apart AS (
                SELECT *, x::DOUBLE - (sum(x) OVER same)::DOUBLE / count(*) OVER same AS x_difference,
                    y::DOUBLE - (sum(y) OVER same)::DOUBLE / count(*) OVER same AS y_difference
                FROM each WINDOW same AS (PARTITION BY response, "window")
            ), summed AS (
                SELECT point, response, sum(x)::DOUBLE / count(*) AS x, sum(y)::DOUBLE / count(*) AS y,
                    count(*) AS windows, stddev_samp(x_difference ORDER BY "window") / sqrt(count(*)) AS x_error,
                    stddev_samp(y_difference ORDER BY "window") / sqrt(count(*)) AS y_error
                FROM apart GROUP BY point, response
            )
            SELECT '#' || s.point AS point, s.response, p.parameters, p.on_front, p.standing, s.x, s.y,
                s.x - t.t * x_error AS x_low, s.x + t.t * x_error AS x_high,
                s.y - t.t * y_error AS y_low, s.y + t.t * y_error AS y_high
            FROM summed AS s JOIN sweep_pareto AS p ON p.sweep_id = $sweep AND NOT p.held_out AND p.point = s.point
                AND p.response = s.response
            LEFT JOIN student_t AS t ON t.degrees = least(s.windows - 1, 1000)
            ORDER BY s.response, s.point
        """)
        effects = self.rows("""
            SELECT axis, response, measure, effect, rank_correlation AS correlation, rank_share
            FROM sweep_sensitivity WHERE sweep_id = $sweep AND effect > 0 ORDER BY response, measure, place, axis
        """)
        units = {row["measure"]: row["unit"] for held in (False, True) for row in self._points(held_out=held).values()}
        cells = self._cells()
        drawing = SweepCharts(self.currency, self.decimals, MEASURES, units)
        return [
            CaptionedChart(
                f"{_first_up(_and([MEASURES[measure] for measure in ys]))} against {MEASURES[x]}",
                _FRONT_CAPTION,
                drawing.scatter(points, x, ys) if points else None,
                empty="No parameter set is complete.",
            ),
            CaptionedChart(
                "Each measure over the axes that move it most",
                _HEAT_CAPTION,
                drawing.heat(cells) if cells else None,
                empty="No parameter set is complete, or nothing varies.",
            ),
            CaptionedChart(
                "What moves the results",
                _EFFECT_CAPTION,
                drawing.bars(effects) if effects else None,
                empty="Nothing moves them.",
            ),
        ]

    @property
    def _sides(self) -> tuple[str, tuple[str, ...]]:
        """What the front is drawn over: borrowing power against the losses together, or else two objectives."""
        measures = [measure for measure in MEASURES if measure in self._ways]
        losses = tuple(measure for measure in ("bad_debt", "borrower_loss") if measure in measures)
        if "borrowing_power" in measures and losses:
            return "borrowing_power", losses
        return measures[0], (measures[-1 if len(measures) == 1 else 1],)

    def _cells(self) -> list[Row]:
        """Means of each measure at each two values of the two axes that move most measures most; the means of all sets
        there. ``front``: whether one of them is not dominated. Measures that are the same everywhere are left out.
        """
        axes = [
            row["axis"]
            for row in self.rows(
                "SELECT axis, sum(place) AS places FROM sweep_sensitivity WHERE sweep_id = $sweep AND axis IN (SELECT"
                " axis FROM sweep_values WHERE sweep_id = $sweep GROUP BY axis HAVING count(DISTINCT level) > 1)"
                " GROUP BY axis ORDER BY places, axis LIMIT 2"
            )
        ]
        if not axes:
            return []
        x, y = (axis.replace("'", "''") for axis in (axes * 2)[:2])
        cells = self.rows(f"""
            SELECT p.response, p.measure, x.axis AS x_axis, y.axis AS y_axis, x.value AS x, y.value AS y,
                x.level AS x_level, y.level AS y_level, sum(p.total)::DOUBLE / sum(p.windows) AS value,
                count(*) AS sets, bool_or(f.on_front) AS front
            FROM sweep_points AS p
            JOIN sweep_values AS x ON x.sweep_id = p.sweep_id AND x.point = p.point AND x.axis = '{x}'
            JOIN sweep_values AS y ON y.sweep_id = p.sweep_id AND y.point = p.point AND y.axis = '{y}'
            JOIN sweep_pareto AS f ON f.sweep_id = p.sweep_id AND f.point = p.point AND f.response = p.response
                AND NOT f.held_out
            WHERE p.sweep_id = $sweep AND p.complete AND NOT p.held_out
            GROUP BY ALL ORDER BY p.response, p.measure, x_level, y_level
        """)
        found: dict[tuple[str, str], set[float]] = {}
        for row in cells:
            found.setdefault((row["response"], row["measure"]), set()).add(row["value"])
        return [row for row in cells if len(found[row["response"], row["measure"]]) > 1]


_FRONT_CAPTION = (
    "Each point is a parameter set, its means over the windows that are not held out. Where there are several, lines:"
    " the 95 % interval of its difference from the mean of all sets, without what a window does to all."
    " Orange: no other set is at least as good in every objective and better in one; it may be for one that the"
    " axes do not show. Dominated: one of those is better beyond the interval of the difference; not told apart: by the"
    " means alone."
)
_HEAT_CAPTION = (
    "Means of all sets with these two values, over the windows that are not held out. Framed: one of them is not"
    " dominated."
)
_EFFECT_CAPTION = (
    "The measure's mean at the level of the axis where it is highest, less that where it is lowest; windows held out"
    " left aside."
)


def find_sweep(lake: Lake, word: str, *, market: str | None = None) -> View:
    """The sweep whose id starts with, or whose name is, ``word``. UserError where it is none or several."""

    @cache
    def query(text: str) -> list[Row]:
        return printable(lake.sql(text).to_arrow_table().to_pylist())

    known = [row for row in query("SELECT * FROM sweeps ORDER BY name, sweep_id") if market in (None, row["market"])]
    if not known:
        raise UserError("the lake holds no sweeps", "make one first: backtest sweep --help")
    hits = [row for row in known if row["sweep_id"].startswith(word) or row["name"] == word]
    if len(hits) != 1:
        names = ", ".join(f"{row['sweep_id'][:12]} ({row['name']})" for row in (hits or known)[:8])
        raise UserError(
            f"{'several sweeps match' if hits else 'there is no sweep'} '{word}'",
            f"give an id or its first digits: {names}",
        )
    config = lake.market_config(hits[0]["market"])
    return View(query, hits[0], config.base_decimals, config.base_currency)


def as_text(view: View) -> str:
    """The whole outcome for a terminal."""
    lines = [f"Sweep {view.sweep['name']} of {view.sweep['market']}: {view.head}; id {view.sweep['sweep_id'][:16]}"]
    lines.append(
        f"Amounts in {view.currency}, at the oracle price of each execution; means over the windows that are not held"
        " out."
    )
    lines += [line for remark in view.remarks for line in wrap(remark, WRAPPED)]
    for title, table in view.tables():
        lines += ["", title, tables.as_text(table)]
    return "\n".join(lines)


def write_sweep_report(lake: Lake, word: str, path: Path, *, market: str | None = None) -> View:
    """Write a sweep as one offline page; arguments and errors as those of ``find_sweep``."""
    view = find_sweep(lake, word, market=market)
    runs = view.rows(
        "SELECT DISTINCT notes, synthetic, proxy_prices, superseded FROM runs JOIN sweep_scenarios USING (run_id)"
        " WHERE sweep_id = $sweep"
    )
    stated = [tables.notes_of(run) for run in runs]
    shared = [note for note in stated[0] if all(note in other for other in stated)] if stated else []
    fill_in(
        "sweep.html",
        path,
        view=view,
        figures=[draw(figure) for figure in view.figures()],
        notes=shared,
        flags=tables.data_flags(runs),
    )
    return view


def _more(rows: Sequence[tuple[str, ...]], count: int, width: int) -> list[tuple[str, ...]]:
    """The rows, and a last one that says how many are not shown."""
    return [*rows, *([(f"... and {count - len(rows):,} more", *("",) * (width - 1))] if count > len(rows) else [])]


def _by_losses(row: Row) -> tuple[object, ...]:
    """Where a set of the front stands in its table: the least losses first, those without a figure last."""
    losses, power = (row["bad_debt_base"], row["borrower_loss_base"]), row["borrowing_power_base"]
    sides = [*losses, None if power is None else -power]
    return (row["response"], *((side is None, side or 0) for side in sides), row["point"])


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0%}"


def _signed(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.2f}".replace("-", "−") if abs(value) >= 0.005 else "0.00"


def _title(measure: str) -> str:
    """A measure as the head of a column."""
    return _first_up(MEASURES[measure])


def _first_up(words: str) -> str:
    return words[:1].upper() + words[1:]


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
