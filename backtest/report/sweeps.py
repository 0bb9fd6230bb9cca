"""What the runs of a sweep have in common, as text and as a page: front, worst case, stability of ranks, sensitivities.
From SQL alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from backtest.errors import UserError
from backtest.report import tables
from backtest.report.charts import WIDTH, Money, Spec
from backtest.report.page import CaptionedChart, draw, fill_in
from backtest.report.selection import Query, Row, printable
from backtest.report.tables import MISSING, Table
from backtest.report.verdict import JUDGEABLE, UNJUDGED, reproduces

if TYPE_CHECKING:
    from backtest.lake import Lake

MEASURES = {
    "bad_debt": "bad debt",
    "borrower_loss": "borrowers' loss",
    "borrowing_power": "borrowing power",
    "repaid": "liquidated volume",
}
WRAPPED = 140
"""Columns of running text."""
SHOWN = 25
"""Rows of a table, at most; SQL has them all."""
_FRONT = "#D55E00"
_OTHERS = "#8a8a8a"


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
        fronts = self.rows(
            "SELECT response, count(*) AS sets, count(*) FILTER (on_front) AS front, min(point) FILTER (on_front) AS"
            " point FROM sweep_pareto WHERE sweep_id = $sweep AND NOT held_out GROUP BY response ORDER BY response"
        )
        unjudged = [MEASURES[measure] for measure in self._unjudged()]
        trade_off = (
            f"by what was replayed; {' and '.join(unjudged)} {UNJUDGED}, so whether there is a trade-off is not known"
            if unjudged
            else "so there is no trade-off here"
        )
        single = [
            (
                f"Users {row['response']}: one parameter set is complete, so there is nothing to choose among."
                if row["sets"] == 1
                else f"Users {row['response']}: set #{row['point']} alone is not dominated: no other is better in any"
                f" measure without being worse in another, {trade_off}."
            )
            for row in fronts
            if row["front"] == 1
        ]
        return single + self.overlaps + self.held_against_history

    @property
    def held_against_history(self) -> list[str]:
        """Which measures no set can be judged by, since the baseline does not tell them of history; in sentences."""
        sentences = []
        for measure, rows in self._unjudged().items():
            told = "; ".join(
                f"in window '{row['window']}' history had {self._money(row['past'])}, the baseline"
                f" {self._money(row['amount'])}"
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
        return sentences

    def _unjudged(self) -> dict[str, list[Row]]:
        """Measures to the windows, one row of each, in which a baseline does not tell them."""
        found: dict[str, dict[str, Row]] = {}
        for row in self._held():
            if row["past"] is not None and not reproduces(int(row["amount"]), int(row["past"])):
                found.setdefault(row["measure"], {}).setdefault(row["window"], row)
        return {measure: list(rows.values()) for measure, rows in found.items()}

    def _held(self) -> list[Row]:
        """The baselines' measures beside history's; ``past`` None where history of the window is not stored."""
        return self.rows("""
            WITH ends AS (
                UNPIVOT (
                    SELECT run_id, (realised_bad_debt_base + open_bad_debt_base)::DECIMAL(38, 0) AS bad_debt,
                        (seized_base + protocol_fee_base - repaid_base)::DECIMAL(38, 0) AS borrower_loss,
                        borrowing_power_base AS borrowing_power, repaid_base AS repaid
                    FROM run_windows WHERE label = 'end'
                ) ON bad_debt, borrower_loss, borrowing_power, repaid INTO NAME measure VALUE amount
            )
            SELECT s."window", e.measure, e.amount, h.amount AS past
            FROM sweep_scenarios AS s JOIN run_pairs AS p USING (run_id) JOIN ends AS e USING (run_id)
            JOIN results.sweep_objectives AS o ON o.sweep_id = s.sweep_id AND o.measure = e.measure
            LEFT JOIN ends AS h ON h.run_id = p.history_id AND h.measure = e.measure
            WHERE s.sweep_id = $sweep AND p.kind = 'baseline'
            ORDER BY e.measure, s."window", s.ordinal
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

    def _better(self) -> str:
        rows = self.rows(
            "SELECT measure, better FROM results.sweep_objectives WHERE sweep_id = $sweep ORDER BY measure"
        )
        return ", ".join(
            f"{'less' if row['better'] == 'min' else 'more'} {self._measure(row['measure'])}" for row in rows
        )

    def _money(self, value: object) -> str:
        return (
            MISSING
            if value is None
            else tables.money(round(value) if isinstance(value, float) else value, self.decimals)
        )

    def _front(self, *, held_out: bool) -> Table:
        shown = self.rows(f"""
            WITH chosen AS (SELECT point, response FROM sweep_pareto WHERE sweep_id = $sweep AND NOT held_out AND
            on_front)
            SELECT p.* FROM sweep_pareto AS p JOIN chosen USING (point, response) WHERE sweep_id = $sweep AND
            held_out = {held_out}
            ORDER BY response, bad_debt_base, borrower_loss_base, borrowing_power_base DESC, point
        """)
        keys = (
            "bad_debt_base",
            "borrower_loss_base",
            "borrowing_power_base",
            "repaid_base",
            "worst_bad_debt_base",
            "worst_borrower_loss_base",
        )
        rows = [
            (
                f"#{row['point']}  {row['parameters']}",
                row["response"],
                *(self._money(row[key]) for key in keys),
                "yes" if row["on_worst_front" if not held_out else "on_front"] else "no",
            )
            for row in shown[:SHOWN]
        ]
        titles = (
            "Bad debt",
            "Borrowers' loss",
            "Borrowing power",
            "Liquidated",
            "Bad debt,\nworst window",
            "Borrowers' loss,\nworst window",
        )
        last = "Not dominated\nhere either" if held_out else "Not dominated\nby worst windows"
        return Table(("Parameters", "Users", *titles, last), tuple(_more(rows, len(shown), 9)))

    def _choices(self) -> Table:
        top, unjudged = self._top(), self._unjudged()
        shown = self.rows(f"""
            WITH best AS (
                SELECT p.*, row_number() OVER (PARTITION BY response, measure ORDER BY total_cost_base, point) AS place,
                    count(*) OVER (PARTITION BY response, measure, total_cost_base) AS equal
                FROM sweep_points AS p WHERE sweep_id = $sweep AND complete AND NOT held_out
            )
            SELECT b.*, t.windows AS ranked, t.share, t.held_out_share, t.worst_place FROM best AS b
            LEFT JOIN sweep_top({top}) AS t USING (sweep_id, point, response, measure) WHERE b.place = 1 ORDER BY
            b.response, b.measure
        """)
        rows = [
            (
                self._measure(row["measure"])
                + (f": #{row['point']}" if row["measure"] not in unjudged else "")
                + (f" (and {row['equal'] - 1} equal)" if row["equal"] > 1 and row["measure"] not in unjudged else ""),
                row["response"],
                self._money(row["mean_base"]),
                self._money(row["worst_base"]),
                row["worst_window"],
                _share(row["share"]),
                _share(row["held_out_share"]),
                tables.count(row["worst_place"]),
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
            "SELECT * FROM sweep_sensitivity WHERE sweep_id = $sweep AND effect_base > 0 ORDER BY response, measure,"
            " place, axis"
        )
        rows = [
            (
                row["axis"],
                row["response"],
                MEASURES[row["measure"]],
                tables.count(row["place"]),
                _signed(row["rank_correlation"]),
                self._money(row["effect_base"]),
            )
            for row in shown[:SHOWN]
        ]
        return Table(
            ("Axis", "Users", "Measure", "Place", "Rank correlation", "Effect"), tuple(_more(rows, len(shown), 6))
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
        unit = f"1e{self.decimals}"
        points = self.rows(f"""
            SELECT '#' || point AS point, response, parameters, held_out, on_front, borrowing_power_base / {unit} AS
            power,
                (bad_debt_base + borrower_loss_base) / {unit} AS loss, bad_debt_base / {unit} AS bad, repaid_base /
                {unit} AS repaid
            FROM sweep_pareto WHERE sweep_id = $sweep AND NOT held_out ORDER BY response, sweep_pareto.point
        """)
        effects = self.rows(f"""
            SELECT axis, response, measure, effect_base / {unit} AS effect, rank_correlation AS correlation FROM
            sweep_sensitivity
            WHERE sweep_id = $sweep AND effect_base > 0 ORDER BY response, measure, place, axis
        """)
        return [
            CaptionedChart(
                "Losses against borrowing power",
                _FRONT_CAPTION,
                self._scatter(points) if points else None,
                empty="No parameter set is complete.",
            ),
            CaptionedChart(
                "What moves the results",
                _EFFECT_CAPTION,
                self._bars(effects) if effects else None,
                empty="Nothing moves them.",
            ),
        ]

    def _scatter(self, rows: list[Row]) -> Spec:
        power, loss = (
            Money.of(rows, "power", currency=self.currency),
            Money.of(rows, "loss", "bad", "repaid", currency=self.currency),
        )
        values = [
            {**row, "set": "not dominated" if row["on_front"] else "dominated"}
            for row in loss.apply(power.apply(rows, "power"), "loss", "bad", "repaid")
        ]
        shades = {"domain": ["not dominated", "dominated"], "range": [_FRONT, _OTHERS]}
        panels: list[Spec] = []
        for response in dict.fromkeys(row["response"] for row in values):
            axes = {
                axis: {
                    "field": field,
                    "type": "quantitative",
                    "title": title,
                    "scale": {"zero": False, "padding": 12},
                    "axis": {"format": ",.5~g", "tickCount": 5},
                }
                for axis, field, title in (
                    ("x", "power", f"Borrowing power at the end ({power.unit})"),
                    ("y", "loss", f"Bad debt and borrowers' loss ({loss.unit})"),
                )
            }
            tooltip = [
                {
                    "field": field,
                    "title": title,
                    "type": "quantitative" if title[-1] == ")" else "nominal",
                    **({"format": ",.5~g"} if title[-1] == ")" else {}),
                }
                for field, title in (
                    ("point", "Set"),
                    ("parameters", "Parameters"),
                    ("loss", f"Losses ({loss.unit})"),
                    ("bad", f"Bad debt ({loss.unit})"),
                    ("repaid", f"Liquidated ({loss.unit})"),
                    ("power", f"Borrowing power ({power.unit})"),
                )
            ]
            colour = {"field": "set", "type": "nominal", "title": None, "scale": shades}
            shape = {
                "field": "set",
                "type": "nominal",
                "title": None,
                "scale": {"domain": shades["domain"], "range": ["circle", "diamond"]},
            }
            panels.append(
                {
                    "title": f"Users: {response}",
                    "data": {"values": [row for row in values if row["response"] == response]},
                    "width": WIDTH - 60,
                    "height": 240,
                    "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.85},
                    "encoding": {**axes, "color": colour, "shape": shape, "tooltip": tooltip},
                }
            )
        return {"vconcat": panels, "spacing": 18}

    def _bars(self, rows: list[Row]) -> Spec:
        panels: list[Spec] = []
        for measure in dict.fromkeys(row["measure"] for row in rows):
            mine = [row for row in rows if row["measure"] == measure]
            money = Money.of(mine, "effect", currency=self.currency)
            panels.append(
                {
                    "title": MEASURES[measure],
                    "data": {
                        "values": [
                            {**row, "users": f"{row['axis']} ({row['response']})"}
                            for row in money.apply(mine, "effect")
                        ]
                    },
                    "width": WIDTH - 300,
                    "height": {"step": 18},
                    "mark": {"type": "bar", "color": "#0072B2"},
                    "encoding": {
                        "y": {
                            "field": "users",
                            "type": "nominal",
                            "title": None,
                            "sort": None,
                            "axis": {"ticks": False, "labelLimit": 320},
                        },
                        "x": {
                            "field": "effect",
                            "type": "quantitative",
                            "title": f"Effect ({money.unit})",
                            "axis": {"format": ",.3~g", "tickCount": 5},
                        },
                        "tooltip": [
                            {"field": "users", "title": "Axis (users)", "type": "nominal"},
                            {
                                "field": "effect",
                                "title": f"Effect ({money.unit})",
                                "type": "quantitative",
                                "format": ",.4~g",
                            },
                            {
                                "field": "correlation",
                                "title": "Rank correlation",
                                "type": "quantitative",
                                "format": ".2f",
                            },
                        ],
                    },
                }
            )
        return {"vconcat": panels, "spacing": 14}


_FRONT_CAPTION = (
    "Each point is a parameter set, its means over the windows that are not held out. Orange: no other set is at least"
    " as good in every measure (bad debt, borrowers' loss, borrowing power, liquidated volume) and better in one; a set"
    " may be there for a measure that the axes do not show."
)
_EFFECT_CAPTION = (
    "The measure's mean at the level of the axis where it is highest, less that where it is lowest; windows held out"
    " left aside."
)


def find_sweep(lake: Lake, word: str, *, market: str | None = None) -> View:
    """The sweep whose id starts with, or whose name is, ``word``. UserError where it is none or several."""

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


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0%}"


def _signed(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.2f}".replace("-", "−") if abs(value) >= 0.005 else "0.00"
