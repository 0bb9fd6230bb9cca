"""What a stress came to, as text and as a page: losses of each case with VaR and ES, their distribution, a fan of
price paths, and models against data. From SQL alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from backtest.errors import UserError
from backtest.report import stress_book, stress_markets, tables
from backtest.report.charts import WIDTH, Money, Spec
from backtest.report.page import CaptionedChart, draw, fill_in
from backtest.report.selection import Query, Row, printable
from backtest.report.settling import settling
from backtest.report.stress_markets import LOSSES, MEMBERS
from backtest.report.tables import MISSING, Table
from backtest.risk.tail import TailRisk, adjusted, convergence, tail_risk

if TYPE_CHECKING:
    from backtest.lake import Lake

LEVELS = (9_500, 9_900)
WRAPPED = 140
BINS = 40
FEW = 20
"""Paths from which on a case has a distribution."""
FANS = 6
"""Cases whose fan is drawn, at most."""
_STATISTICS = {
    "deviation": "Deviation of a step",
    "kurtosis": "Excess kurtosis",
    "hill": "Tail index (Hill)",
    "clustering": "Clustering",
    "worst_step": "Worst step",
    "fall_half_hour_99": "Fall in 30 min, 1 in 100",
    "fall_half_hour_most": "Fall in 30 min, most",
    "tail_dependence": "Tail dependence",
}


@dataclass(frozen=True, slots=True)
class StressView:
    """A stress as its lake shows it. ``stress`` is the row of ``stresses``."""

    query: Query
    stress: Row
    decimals: int
    currency: str

    @property
    def head(self) -> str:
        """What it is, in one line."""
        row = self.stress
        todo = row["paths"] - row["done"] - row["failed"]
        hours = row["steps"] * row["step_seconds"] / 3_600
        parts = [
            f"{row['done']:,} of {row['paths']:,} paths of {hours:g} hours in steps of {row['step_seconds']:,} s done",
            f"seed {row['seed']}",
        ]
        return ", ".join(
            [*parts, *([f"{row['failed']:,} failed"] if row["failed"] else []), *([f"{todo:,} to do"] if todo else [])]
        )

    @property
    def of(self) -> str:
        """The market, or all of several."""
        names = [row["of_market"] for row in self.rows(MEMBERS)]
        return ", ".join(names) or str(self.stress["market"])

    @property
    def book(self) -> str:
        """The book before anything happened, in a sentence."""
        row = self.stress
        return (
            f"block {row['block_number']:,}, {tables.moment(row['timestamp'])}: collateral"
            f" {self._money(row['collateral_base'])}, debt {self._money(row['debt_base'])}, bad debt"
            f" {self._money(row['bad_debt_base'])}; where no price moves {self._money(row['still_repaid_base'])} is"
            f" liquidated and bad debt ends at {self._money(row['still_bad_debt_base'])}"
        )

    @property
    def notes(self) -> list[str]:
        """What it assumes."""
        found: list[str] = json.loads(self.stress["notes"])
        return found

    def rows(self, text: str) -> list[Row]:
        """Rows of a SELECT in which ``$stress`` stands for this one."""
        return self.query(text.replace("$stress", "'" + self.stress["stress_id"] + "'"))

    def losses(self, ordinal: int, column: str = "added_bad_debt_base") -> list[int]:
        """One of each path of a case, in order of their numbers, base units."""
        rows = self.rows(
            f"SELECT {column} AS loss FROM stress_paths WHERE stress_id = $stress AND ordinal = {int(ordinal)} AND"
            " error IS NULL ORDER BY path"
        )
        return [int(row["loss"]) for row in rows]

    def tables(self) -> list[tuple[str, Table]]:
        """Every table that has rows, with its title."""
        made = [
            ("Losses of each case", self._losses()),
            ("Each market with the others, and alone", stress_markets.markets(self.rows(LOSSES), self._money)),
            ("Value at risk and expected shortfall of bad debt", self._risk()),
            ("Bad debt with what selling costs at the stated depth: liquidity-adjusted", self._liquidity()),
            ("Runs on deposits, and liquidations that could not be paid", self._withdrawals()),
            ("The 99th percentile over the first paths: how it settles", self._convergence()),
            (
                "Both sides of what the scenario changes, means over the paths",
                stress_book.sides(self.rows, self.decimals),
            ),
            ("Borrowing power against value at risk", stress_book.frontier(self.rows, self.decimals)),
            ("Critical liquidity", stress_book.depths(self.rows)),
            ("Models against the data they are fitted to", self._statistics()),
            ("Sources", self._sources()),
            ("Failed", self._failed()),
        ]
        return [(title, table) for title, table in made if table.rows]

    def _money(self, value: object) -> str:
        if value is None:
            return MISSING
        return tables.money(round(value) if isinstance(value, float) else value, self.decimals)

    def _cases(self) -> list[Row]:
        return self.rows("SELECT * FROM stress_losses WHERE stress_id = $stress ORDER BY ordinal")

    def _losses(self) -> Table:
        rows = [
            (
                row["case_name"],
                tables.count(row["paths"]),
                tables.count(row["losing"]),
                *(self._money(row[key]) for key in ("mean_base", "median_base", "worst_base", "lar95_base")),
                f"{row['liquidations']:,.1f}",
                f"{row['lowest_price'] / 100:.1f} %",
            )
            for row in self._cases()
        ]
        titles = ("Paths", "Adding\nbad debt", "Bad debt,\nmean", "Median", "Worst", "Liquidated,\n95 %")
        return Table(("Case", *titles, "Liquidations,\nmean", "Lowest price"), tuple(rows))

    def _risk(self) -> Table:
        """Of cases with enough paths."""
        rows = []
        for row in self._cases():
            if row["paths"] < FEW:
                continue
            losses = self.losses(row["ordinal"])
            for level in LEVELS:
                found = tail_risk(losses, level)
                rows.append(
                    (
                        f"{row['case_name']}, {level / 100:g} %",
                        self._money(found.var),
                        self._between(found.var_low, found.var_high),
                        self._money(found.es),
                        self._between(found.es_low, found.es_high),
                        tables.count(found.beyond),
                    )
                )
        return Table(("Case, percentile", "VaR", "95 % interval", "ES", "95 % interval", "Paths\nbeyond"), tuple(rows))

    def _liquidity(self) -> Table:
        """Of cases with enough paths, where depth is stated."""
        means = {
            row["ordinal"]: row
            for row in self.rows("SELECT * FROM stress_liquidity WHERE stress_id = $stress AND level = 9900")
        }
        rows = []
        for row in self._cases():
            if row["paths"] < FEW or row["ordinal"] not in means:
                continue
            losses = adjusted(self.losses(row["ordinal"]), self._selling(row["ordinal"]))
            mean = means[row["ordinal"]]
            for level in LEVELS:
                found = tail_risk(losses, level)
                rows.append(
                    (
                        f"{row['case_name']}, {level / 100:g} %",
                        self._money(found.var),
                        self._between(found.var_low, found.var_high),
                        self._money(found.es),
                        self._between(found.es_low, found.es_high),
                        *(self._money(mean[f"{name}_mean_base"]) for name in ("sold", "left", "unstated")),
                    )
                )
        header = ("Case, percentile", "VaR", "95 % interval", "ES", "95 % interval")
        return Table((*header, "Lost by selling,\nmean", "By selling\nthe rest", "Of unknown\ndepth"), tuple(rows))

    def _withdrawals(self) -> Table:
        """By case and asset; several markets by name."""
        found = self.rows(
            "SELECT * FROM stress_withdrawals WHERE stress_id = $stress ORDER BY ordinal, of_market, short_most_base"
            " DESC, utilisation_most DESC NULLS LAST, asset"
        )
        several = len({row["of_market"] for row in found}) > 1
        rows = [
            (
                f"{row['case_name']}: {row['asset']}{' of ' + row['of_market'] if several else ''}",
                tables.count(row["withheld_paths"]),
                *(_part(row[name]) for name in ("withheld_mean", "withheld_most", "utilisation_most")),
                tables.count(row["short_paths"]),
                f"{row['short_accounts']:,.1f}",
                self._money(row["short_most_base"]),
            )
            for row in found
            if row["withheld_paths"] or row["short_paths"] or (row["utilisation_most"] or 0) > 0
        ]
        header = ("Case: asset", "Paths that\nwithhold", "Withheld,\nmean", "most", "Utilisation,\nmost")
        return Table((*header, "Paths with\nunpaid calls", "Accounts,\nmean", "Collateral,\nmost"), tuple(rows))

    def _selling(self, ordinal: int) -> list[int]:
        """What selling costs on each path of a case, in order of their numbers, base units."""
        rows = self.rows(
            "SELECT s.sold_base + s.left_base AS loss FROM stress_selling AS s JOIN stress_paths AS p USING (stress_id,"
            f" ordinal, path) WHERE stress_id = $stress AND ordinal = {int(ordinal)} AND p.error IS NULL ORDER BY path"
        )
        return [int(row["loss"]) for row in rows]

    def _convergence(self) -> Table:
        rows = []
        for row in self._cases():
            found: Sequence[TailRisk] = convergence(self.losses(row["ordinal"])) if row["paths"] >= 200 else ()
            if len(found) > 1:
                rows += [
                    (
                        f"{row['case_name']}, {each.paths:,} paths",
                        self._money(each.var),
                        self._between(each.var_low, each.var_high),
                        self._money(each.es),
                    )
                    for each in found
                ]
        return Table(("Case", "VaR", "95 % interval", "ES"), tuple(rows))

    def _between(self, low: int | None, high: int | None) -> str:
        return f"{self._money(low)} to {self._money(high)}"

    def _statistics(self) -> Table:
        shown = self.rows("""
            SELECT c.name AS case_name, s.asset, s.statistic, s.data, s.model FROM stress_statistics AS s
            JOIN stress_cases AS c USING (stress_id, ordinal) WHERE s.stress_id = $stress ORDER BY s.ordinal, s.asset
        """)
        found: dict[tuple[str, str], dict[str, Row]] = {}
        for row in shown:
            found.setdefault((row["case_name"], row["asset"]), {})[row["statistic"]] = row
        rows: list[tuple[str, ...]] = []
        case = ""
        for (name, asset), by in found.items():
            if name != case:
                rows.append((name,))
                case = name
            pairs = (by.get(statistic) for statistic in _STATISTICS)
            rows.append((f"  {asset}", *(MISSING if pair is None else _pair(pair) for pair in pairs)))
        return Table(
            ("Asset: model (data)", *(title.replace(", ", ",\n") for title in _STATISTICS.values())), tuple(rows)
        )

    def _sources(self) -> Table:
        shown = self.rows("SELECT * FROM stress_cases WHERE stress_id = $stress ORDER BY ordinal")
        rows = [
            (
                row["name"],
                ", ".join(filter(None, [row["model"], row["events"]])),
                row["source"] if row["paths"] else f"does not concern this market; {row['source']}",
            )
            for row in shown
        ]
        return Table(("Case", "Made of", "Source"), tuple(rows), words=frozenset({1, 2}))

    def _failed(self) -> Table:
        shown = self.rows("""
            SELECT c.name, count(*) AS number, arg_min(p.error, p.path) AS error
            FROM stress_paths AS p JOIN stress_cases AS c USING (stress_id, ordinal)
            WHERE p.stress_id = $stress AND p.error IS NOT NULL GROUP BY c.name, p.ordinal ORDER BY p.ordinal
        """)
        rows = [(row["name"], tables.count(row["number"]), row["error"]) for row in shown]
        return Table(("Case", "Paths", "Such as"), tuple(rows), words=frozenset({2}))

    def figures(self) -> list[CaptionedChart]:
        """Distributions and fans, not yet drawn."""
        cases = self._cases()
        return [
            CaptionedChart(
                "Distribution of losses",
                "Paths by the bad debt that they add; the count on a logarithmic scale. Lines: VaR (dashed) and ES"
                " (dotted) at 99 %.",
                self._distribution([row for row in cases if row["paths"] >= FEW and row["worst_base"] > 0]),
                empty="No case of many paths adds bad debt.",
            ),
            CaptionedChart(
                "How the 99th percentile settles",
                "VaR and ES of the first paths, of twice as many, and so on to all; shaded: their 95 % intervals, where"
                " there are paths enough for both of its ends.",
                self._settling(cases),
                empty="No case has paths enough that add bad debt.",
            ),
            CaptionedChart(
                "Price paths",
                "Market price of the asset that falls lowest, as a multiple of its beginning: the middle half and nine"
                " tenths of the paths, their median, and the lowest of all at each step.",
                self._fans(cases),
                empty="No price moves.",
            ),
            *stress_markets.figures(self.rows, self.decimals, self.currency),
            *stress_book.figures(self.rows, self.decimals, self.currency),
        ]

    def _settling(self, cases: Sequence[Row]) -> Spec | None:
        shown = [row for row in cases if row["paths"] >= 200 and row["worst_base"] > 0][:FANS]
        panels = [
            settling(row["case_name"], convergence(self.losses(row["ordinal"])), self.decimals, self.currency)
            for row in shown
        ]
        return {"vconcat": panels, "spacing": 14} if panels else None

    def _distribution(self, cases: Sequence[Row]) -> Spec | None:
        panels: list[Spec] = []
        for row in cases[:FANS]:
            losses = self.losses(row["ordinal"])
            found = tail_risk(losses)
            money = Money.of([{"loss": max(losses) / 10**self.decimals}], "loss", currency=self.currency)
            scaled = [
                each["loss"] for each in money.apply([{"loss": loss / 10**self.decimals} for loss in losses], "loss")
            ]
            low, high = min(scaled), max(scaled)
            width = (high - low) / BINS or 1.0
            counts = [0] * BINS
            for loss in scaled:
                counts[min(BINS - 1, int((loss - low) / width))] += 1
            bars = [
                {"low": low + place * width, "high": low + (place + 1) * width, "paths": count, "none": 0.5}
                for place, count in enumerate(counts)
                if count
            ]
            lines = money.apply(
                [
                    {"at": value / 10**self.decimals, "what": what}
                    for what, value in (("VaR 99 %", found.var), ("ES 99 %", found.es))
                ],
                "at",
            )
            panels.append(
                {
                    "title": row["case_name"],
                    "width": WIDTH - 80,
                    "height": 130,
                    "layer": [
                        {
                            "data": {"values": bars},
                            "mark": {"type": "bar", "color": "#0072B2"},
                            "encoding": {
                                "x": _quantity("low", f"Bad debt added ({money.unit})"),
                                "x2": {"field": "high"},
                                "y": {
                                    "field": "paths",
                                    "type": "quantitative",
                                    "title": "Paths",
                                    "scale": {"type": "log", "domainMin": 0.5},
                                },
                                "y2": {"field": "none"},
                            },
                        },
                        {
                            "data": {"values": lines},
                            "mark": {"type": "rule", "color": "#D55E00", "strokeWidth": 2},
                            "encoding": {
                                "x": _quantity("at", f"Bad debt added ({money.unit})"),
                                "strokeDash": {
                                    "field": "what",
                                    "type": "nominal",
                                    "title": None,
                                    "scale": {"domain": ["VaR 99 %", "ES 99 %"], "range": [[7, 3], [2, 2]]},
                                },
                            },
                        },
                    ],
                }
            )
        return {"vconcat": panels, "spacing": 14} if panels else None

    def _fans(self, cases: Sequence[Row]) -> Spec | None:
        panels: list[Spec] = []
        step = self.stress["step_seconds"] / 3_600
        for row in cases:
            shown = self.rows(f"""
                WITH fallen AS (
                    SELECT asset FROM stress_fan WHERE stress_id = $stress AND ordinal = {int(row["ordinal"])}
                    GROUP BY asset ORDER BY min(lowest), asset LIMIT 1
                )
                SELECT f.* FROM stress_fan AS f JOIN fallen USING (asset)
                WHERE stress_id = $stress AND ordinal = {int(row["ordinal"])} ORDER BY step
            """)
            if not shown or len(panels) == FANS:
                continue
            thin = max(1, len(shown) // 144)
            values = [
                {"hours": each["step"] * step, **{key: round(each[key], 6) for key in _QUANTILES}}
                for each in shown[::thin]
            ]
            x = _quantity("hours", "Hours")
            layers: list[Spec] = [
                {
                    "mark": {"type": "area", "color": "#0072B2", "opacity": shade},
                    "encoding": {"x": x, "y": _quantity(low, "Multiple"), "y2": {"field": high}},
                }
                for low, high, shade in (("q05", "q95", 0.18), ("q25", "q75", 0.3))
            ]
            layers += [
                {
                    "mark": {"type": "line", "color": colour, "strokeDash": dash},
                    "encoding": {"x": x, "y": _quantity(key, "Multiple")},
                }
                for key, colour, dash in (("q50", "#222222", [1, 0]), ("lowest", "#D55E00", [4, 3]))
            ]
            title = f"{row['case_name']}: {shown[0]['asset']}"
            panels.append(
                {"title": title, "data": {"values": values}, "width": WIDTH - 80, "height": 130, "layer": layers}
            )
        return {"vconcat": panels, "spacing": 14} if panels else None


_QUANTILES = ("lowest", "q05", "q25", "q50", "q75", "q95")


def find_stress(lake: Lake, word: str, *, market: str | None = None) -> StressView:
    """The stress whose id starts with, or whose suite's name is, ``word``. UserError where it is none or several."""

    def query(text: str) -> list[Row]:
        return printable(lake.sql(text).to_arrow_table().to_pylist())

    known = [row for row in query("SELECT * FROM stresses ORDER BY name, stress_id") if market in (None, row["market"])]
    if not known:
        raise UserError("the lake holds no stresses", "make one first: backtest stress --help")
    hits = [row for row in known if row["stress_id"].startswith(word) or row["name"] == word]
    if len(hits) != 1:
        names = ", ".join(f"{row['stress_id'][:12]} ({row['name']})" for row in (hits or known)[:8])
        raise UserError(
            f"{'several stresses match' if hits else 'there is no stress'} '{word}'",
            f"give an id or its first digits: {names}",
        )
    config = lake.market_config(hits[0]["market"])
    return StressView(query, hits[0], config.base_decimals, config.base_currency)


def as_text(view: StressView) -> str:
    """The whole outcome for a terminal."""
    lines = [f"Stress {view.stress['name']} of {view.of}: {view.head}; id {view.stress['stress_id'][:16]}"]
    lines += wrap(f"Book: {view.book}.", WRAPPED)
    lines += wrap(
        f"Amounts in {view.currency}; bad debt is what a path adds to what comes to pass where no price moves.", WRAPPED
    )
    for title, table in view.tables():
        if title not in ("Sources", "Models against the data they are fitted to"):
            lines += ["", title, tables.as_text(table)]
    lines += ["", *(line for note in view.notes for line in wrap(note, WRAPPED))]
    return "\n".join(lines)


def write_stress_report(view: StressView, path: Path) -> None:
    """Write a stress as one offline page."""
    fill_in("stress.html", path, view=view, figures=[draw(figure) for figure in view.figures()])


def _quantity(field: str, title: str) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False},
        "axis": {"format": ",.4~g", "tickCount": 5},
    }


def _part(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1%}"


def _pair(row: Row) -> str:
    return f"{_short(row['model'])}\n({_short(row['data'])})"


def _short(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3g}".replace("-", "−")
