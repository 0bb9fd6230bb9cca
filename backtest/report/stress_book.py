"""What a stress says of its book and of others beside it: cascade map, what one asset's fall does to the others,
borrowing power against value at risk, both sides of what the scenario changes. From SQL alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backtest.report.cascade import line_chart
from backtest.report.charts import WIDTH, Money, Spec
from backtest.report.page import CaptionedChart
from backtest.report.selection import Row
from backtest.report.tables import MISSING, Table, count, money

SHOWN = 6
"""Assets, or cases, of which a panel is drawn, at most."""
NAMED = 4
"""Points of the frontier that bear their names, at most; a pointer names all."""
UNTOLD = "Told of one market's book, not of several together: run the stress of each market alone."
Rows = Callable[[str], Sequence[Row]]
"""Of a query in which ``$stress`` stands for the stress."""


def depths(rows: Rows) -> Table:
    """Where the cascade map of each asset ruptures, and how much depth it takes that it does not."""
    found = rows("SELECT * FROM stress_depths WHERE stress_id = $stress ORDER BY asset")
    return Table(
        (
            "Asset",
            "Depth within\n2 %, tokens",
            "Ruptures at\na fall of",
            "Critical, times\nthe depth",
            "Critical,\ntokens",
        ),
        tuple(
            (
                row["asset"],
                f"{row['depth']:,.6g}",
                "nowhere" if row["rupture_fall"] is None else f"{row['rupture_fall'] / 100:g} %",
                "no depth" if row["critical"] is None else f"{row['critical']:.4g}",
                MISSING if row["critical_depth"] is None else f"{row['critical_depth']:,.6g}",
            )
            for row in found
        ),
    )


def sides(rows: Rows, decimals: int) -> Table:
    """Path by path against the stress of the same draws that changes nothing."""
    found = rows("SELECT * FROM stress_sides WHERE stress_id = $stress ORDER BY ordinal")
    return Table(
        (
            "Case", "Paths", "Better", "Worse", "Bad debt\navoided", "brought\nabout", "Liquidated\nless", "more",
            "VaR 99 %,\nchange", "Borrowing power\ngiven up",
        ),
        tuple(
            (
                row["case_name"],
                *(count(row[name]) for name in ("paths", "better", "worse")),
                *(
                    money(round(row[name]), decimals)
                    for name in ("bad_debt_avoided_base", "bad_debt_brought_base", "spared_base", "hurt_base")
                ),
                money(row["var99_change_base"], decimals),
                money(row["borrowing_power_given_up_base"], decimals),
            )
            for row in found
        ),
    )  # fmt: skip


def frontier(rows: Rows, decimals: int) -> Table:
    """Every stress of the same draws, by case; empty where there is none but this one."""
    found = _frontier(rows)
    if len({row["stress_id"] for row in found}) < 2:
        return Table(("Case",), ())
    made: list[tuple[str, ...]] = []
    for row in found:
        if not made or (row["case_name"],) not in made:
            made.append((row["case_name"],))
        made.append(
            (
                f"  {row['changes'] or 'as it is'}{' (this one)' if row['is_this'] else ''}",
                money(row["borrowing_power_base"], decimals),
                money(row["var99_base"], decimals),
                money(round(row["mean_base"]), decimals),
                "yes" if row["efficient"] else "no",
            )
        )
    return Table(
        ("Parameters", "Borrowing\npower", "VaR 99 %", "Bad debt,\nmean", "On the\nfrontier"),
        tuple(made),
        frozenset({4}),
    )


def _frontier(rows: Rows) -> Sequence[Row]:
    return rows("""
        SELECT f.*, f.stress_id = $stress AS is_this FROM stress_frontier AS f
        WHERE f.draws = (SELECT draws FROM stress_books WHERE stress_id = $stress)
        ORDER BY f.ordinal, f.borrowing_power_base, f.var99_base, f.changes
    """)


def figures(rows: Rows, decimals: int, currency: str) -> list[CaptionedChart]:
    """Cascade map, heat map and frontier, not yet drawn."""
    untold = None if rows("SELECT 1 FROM stress_books WHERE stress_id = $stress") else UNTOLD
    return [
        CaptionedChart(
            "Cascade map",
            "What a fall of the price sets off, by the exact book before any path: the further fall that frictionless"
            " liquidators' sales bring (above), and how much of itself each further fall sets off (below); from one, a"
            " dashed line, on the map ruptures.",
            _map(rows("SELECT * FROM stress_levels WHERE stress_id = $stress ORDER BY asset, fall")),
            empty=untold
            or "No price answers to sales in this scenario: name how in [scenario.impact] (docs/impact.md).",
        ),
        CaptionedChart(
            "Contagion",
            "One asset falls alone (rows), by the exact book before any path: collateral of which assets is sold, and"
            " debt in which assets goes bad.",
            _heat(rows("SELECT * FROM stress_spread WHERE stress_id = $stress"), decimals, currency),
            empty=untold or "No fall of one asset alone has anything sold, or goes bad.",
        ),
        CaptionedChart(
            "Borrowing power against value at risk",
            "Each stress of this lake whose paths have the same prices: what all accounts may owe, and bad debt that"
            " one path in a hundred exceeds. Up and to the left is better; the line joins those that none beats.",
            _scatter(_frontier(rows), decimals, currency),
            empty=untold
            or "No other stress of the same paths is stored: run it again with other parameters (--set), or let"
            " backtest recommend try some.",
        ),
    ]


def _map(found: Sequence[Row]) -> Spec | None:
    panels: list[Spec] = []
    for asset in sorted({row["asset"] for row in found})[:SHOWN]:
        points = [
            {"fall": row["fall"] / 100, "set_off": row["answered"] / 100, "slope": row["slope"]}
            for row in found
            if row["asset"] == asset
        ]
        panels.append({"title": asset, **line_chart(points, "set_off", "Lowers it further by (%)", height=140)})
        sloped = [point for point in points if point["slope"] is not None]
        panels.append(line_chart(sloped, "slope", "Slope", rule=1.0, height=110))
    return {"vconcat": panels, "spacing": 14} if panels else None


def _heat(found: Sequence[Row], decimals: int, currency: str) -> Spec | None:
    panels: list[Spec] = []
    fallen = sorted({row["fallen"] for row in found})
    for fall in sorted({row["fall"] for row in found}):
        for field, said, scheme in (("sold_base", "Sold", "blues"), ("bad_debt_base", "Goes bad", "oranges")):
            values = [
                {"falls": row["fallen"], "asset": row["asset"], "value": int(row[field]) / 10**decimals}
                for row in found
                if row["fall"] == fall and row[field]
            ]
            if not values:
                continue
            scale = Money.of(values, "value", currency=currency)
            shown, hit = scale.apply(values, "value"), sorted({row["asset"] for row in values})
            most = max(row["value"] for row in shown)
            panels.append(
                {
                    "title": f"{said} where one falls by {fall / 100:g} % ({scale.unit})",
                    "data": {"values": shown},
                    "width": min(WIDTH - 220, 70 * len(hit)),
                    "height": max(40, 28 * len(fallen)),
                    "encoding": {
                        "x": {
                            "field": "asset",
                            "type": "nominal",
                            "sort": hit,
                            "title": None,
                            "axis": {"labelAngle": -40},
                        },
                        "y": {"field": "falls", "type": "nominal", "sort": fallen, "title": "Falls"},
                    },
                    "layer": [
                        {
                            "mark": {"type": "rect"},
                            "encoding": {
                                "color": {
                                    "field": "value",
                                    "type": "quantitative",
                                    "legend": None,
                                    "scale": {"scheme": scheme, "type": "sqrt"},
                                },
                                "tooltip": [{"field": name, "type": "nominal"} for name in ("falls", "asset")]
                                + [{"field": "value", "type": "quantitative", "format": ",.4~g"}],
                            },
                        },
                        {
                            "mark": {"type": "text", "fontSize": 11},
                            "encoding": {
                                "text": {"field": "value", "type": "quantitative", "format": ",.3~g"},
                                "color": {
                                    "condition": {
                                        "test": f"datum.value > {0.45 * most}",
                                        "value": "white",
                                    },
                                    "value": "#222",
                                },
                            },
                        },
                    ],
                }
            )
    return {"vconcat": panels, "spacing": 20, "resolve": {"scale": {"color": "independent"}}} if panels else None


def _scatter(found: Sequence[Row], decimals: int, currency: str) -> Spec | None:
    panels: list[Spec] = []
    for ordinal in sorted({row["ordinal"] for row in found}):
        own = [row for row in found if row["ordinal"] == ordinal]
        if len(own) < 2 or not any(row["var99_base"] for row in own) or len(panels) == SHOWN:
            continue
        points = [
            {
                "power": int(row["borrowing_power_base"]) / 10**decimals,
                "risk": int(row["var99_base"]) / 10**decimals,
                "what": row["changes"] or "as it is",
                "kind": "this one" if row["is_this"] else "on the frontier" if row["efficient"] else "beaten",
                "efficient": row["efficient"],
            }
            for row in own
        ]
        power, risk = Money.of(points, "power", currency=currency), Money.of(points, "risk", currency=currency)
        points = risk.apply(power.apply(points, "power"), "risk")
        axes = {
            name: {
                "field": field,
                "type": "quantitative",
                "title": f"{title} ({scale.unit})",
                "scale": {"zero": False, "nice": True},
                "axis": {"format": ",.5~g", "tickCount": 5},
            }
            for name, field, title, scale in (("x", "risk", "VaR 99 %", risk), ("y", "power", "Borrowing power", power))
        }
        best = [point for point in points if point["efficient"]]
        panels.append(
            {
                "title": own[0]["case_name"],
                "width": WIDTH - 80,
                "height": 220,
                "layer": [
                    {
                        "data": {"values": best},
                        "mark": {"type": "line", "interpolate": "step-after", "color": "#999"},
                        "encoding": {**axes, "order": {"field": "risk"}},
                    },
                    {
                        "data": {"values": points},
                        "mark": {"type": "point", "filled": True, "size": 70},
                        "encoding": {
                            **axes,
                            "color": {
                                "field": "kind",
                                "type": "nominal",
                                "title": None,
                                "scale": {
                                    "domain": ["this one", "on the frontier", "beaten"],
                                    "range": ["#D55E00", "#0072B2", "#999999"],
                                },
                            },
                            "tooltip": [{"field": "what", "type": "nominal", "title": "Parameters"}]
                            + [
                                {"field": name, "type": "quantitative", "format": ",.5~g"} for name in ("power", "risk")
                            ],
                        },
                    },
                    {
                        "data": {"values": best[:NAMED]},
                        "mark": {"type": "text", "align": "left", "dx": 8, "dy": -8, "fontSize": 11, "limit": 260},
                        "encoding": {**axes, "text": {"field": "what"}},
                    },
                ],
            }
        )
    return {"vconcat": panels, "spacing": 14} if panels else None
