"""A sweep as charts: its front with intervals, each measure over two axes, and what moves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backtest.report.charts import WIDTH, Money, Spec
from backtest.report.selection import Row

_SHADES = {"not dominated": "#D55E00", "not told apart": "#56B4E9", "dominated": "#8a8a8a"}
_SHAPES = {"not dominated": "circle", "not told apart": "square", "dominated": "diamond"}
_UNITS = {"number": "", "seconds": "seconds", "points": "of 10,000", "bps": "%"}


@dataclass(frozen=True, slots=True)
class SweepCharts:
    """Draws rows of sweeps. ``measures``: every measure in words; ``units``: the unit of each that the sweep has."""

    currency: str
    decimals: int
    measures: Mapping[str, str]
    units: Mapping[str, str]

    def _scaled(self, rows: list[Row], measure: str, *fields: str) -> tuple[list[Row], str]:
        """The rows with these fields in a unit for people, and the unit in words (none of a number)."""
        unit = self.units[measure]
        divisor = 10.0**self.decimals if unit == "base" else 100.0 if unit == "bps" else 1.0
        plain = Money(divisor, _UNITS.get(unit, "")).apply(rows, *fields)
        if unit != "base":
            return plain, _UNITS[unit]
        money = Money.of(plain, *fields, currency=self.currency)
        return money.apply(plain, *fields), money.unit

    def scatter(self, rows: list[Row], x: str, ys: Sequence[str]) -> Spec:
        """Sets as points (``x``, ``y``, ``x_low`` ...), coloured by ``standing``: a panel for each response."""
        rows, x_unit = self._scaled(rows, x, "x", "x_low", "x_high")
        rows, y_unit = self._scaled(rows, ys[0], "y", "y_low", "y_high")
        titles = {
            "x": _with(f"{self.measures[x]}", x_unit),
            "y": _with(" and ".join(self.measures[measure] for measure in ys), y_unit),
        }
        axes: dict[str, Any] = {
            side: {
                "field": side,
                "type": "quantitative",
                "title": title[:1].upper() + title[1:],
                "scale": {"zero": False, "padding": 12},
                "axis": {"format": ",.5~g", "tickCount": 5},
            }
            for side, title in titles.items()
        }
        tooltip = [
            {"field": "point", "title": "Set"},
            {"field": "parameters", "title": "Parameters"},
            {"field": "standing", "title": "Standing"},
            *(
                {"field": f"{side}{end}", "title": f"{title}{words}", "type": "quantitative", "format": ",.5~g"}
                for side, title in titles.items()
                for end, words in (("", ""), ("_low", ", low"), ("_high", ", high"))
            ),
        ]
        colour, shape = (
            {
                "field": "standing",
                "type": "nominal",
                "title": None,
                "scale": {"domain": list(of), "range": list(of.values())},
            }
            for of in (_SHADES, _SHAPES)
        )
        bars: list[Spec] = [
            {
                "transform": [{"filter": f"isValid(datum.{side}_low)"}],
                "mark": {"type": "rule", "opacity": 0.4},
                "encoding": {
                    **axes,
                    side: {**axes[side], "field": f"{side}_low"},
                    f"{side}2": {"field": f"{side}_high"},
                    "color": colour,
                },
            }
            for side in ("x", "y")
        ]
        dots: Spec = {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.9},
            "encoding": {**axes, "color": colour, "shape": shape, "tooltip": tooltip},
        }
        panels = [
            {
                "title": f"Users: {response}",
                "data": {"values": [row for row in rows if row["response"] == response]},
                "width": WIDTH - 60,
                "height": 240,
                "layer": [*bars, dots],
            }
            for response in dict.fromkeys(row["response"] for row in rows)
        ]
        return {"vconcat": panels, "spacing": 18}

    def heat(self, rows: list[Row]) -> Spec:
        """A panel for each response and measure: ``value`` over ``x`` and ``y``, in the order of levels; with one axis
        alone it is both.
        """
        panels: list[Spec] = []
        for response, measure in dict.fromkeys((row["response"], row["measure"]) for row in rows):
            mine = [row for row in rows if (row["response"], row["measure"]) == (response, measure)]
            values, unit = self._scaled(mine, measure, "value")
            one = mine[0]["x_axis"] == mine[0]["y_axis"]
            x, y = (
                {
                    "field": side,
                    "type": "ordinal",
                    "title": mine[0]["x_axis"] if side == "x" else None,  # long, and the panel is low
                    "sort": [
                        each
                        for _, each in sorted({(row[f"{side}_level"], row[side]) for row in mine}, reverse=side == "y")
                    ],
                    "axis": {"labelAngle": 0, "labelLimit": 140},
                }
                for side in ("x", "y")
            )
            places = {"x": x} if one else {"x": x, "y": y}
            tooltip = [
                {"field": "x", "title": x["title"]},
                *([] if one else [{"field": "y", "title": mine[0]["y_axis"]}]),
                {
                    "field": "value",
                    "title": _with(self.measures[measure], unit),
                    "type": "quantitative",
                    "format": ",.4~g",
                },
                {"field": "sets", "title": "Sets", "type": "quantitative"},
            ]
            colour = {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": {"scheme": "cividis", "zero": False},
                "legend": {"orient": "right", "format": ",.4~r", "gradientLength": 70},
            }
            panels.append(
                {
                    "title": f"{_with(self.measures[measure], unit)}"
                    + ("" if one else f", rows: {mine[0]['y_axis']}")
                    + f"; users: {response}",
                    "data": {"values": values},
                    "width": WIDTH - 240,
                    "height": 40 if one else {"step": 28},
                    "layer": [
                        {
                            "mark": {"type": "rect", "stroke": "white"},
                            "encoding": {**places, "color": colour, "tooltip": tooltip},
                        },
                        {
                            "transform": [{"filter": "datum.front"}],
                            "mark": {
                                "type": "rect",
                                "filled": False,
                                "stroke": _SHADES["not dominated"],
                                "strokeWidth": 3,
                            },
                            "encoding": places,
                        },
                    ],
                }
            )
        return {"vconcat": panels, "spacing": 16, "resolve": {"scale": {"color": "independent"}}}

    def bars(self, rows: list[Row]) -> Spec:
        """The effect of each axis on each measure, a panel for each measure."""
        panels: list[Spec] = []
        for measure in dict.fromkeys(row["measure"] for row in rows):
            mine, unit = self._scaled([row for row in rows if row["measure"] == measure], measure, "effect")
            title = _with("Effect", unit)
            panels.append(
                {
                    "title": self.measures[measure],
                    "data": {"values": [{**row, "users": f"{row['axis']} ({row['response']})"} for row in mine]},
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
                            "title": title,
                            "axis": {"format": ",.3~r", "tickCount": 5},
                        },
                        "tooltip": [
                            {"field": "users", "title": "Axis (users)", "type": "nominal"},
                            {"field": "effect", "title": title, "type": "quantitative", "format": ",.4~g"},
                            {
                                "field": "correlation",
                                "title": "Rank correlation",
                                "type": "quantitative",
                                "format": ".2f",
                            },
                            {
                                "field": "rank_share",
                                "title": "Ranks explained",
                                "type": "quantitative",
                                "format": ".0%",
                            },
                        ],
                    },
                }
            )
        return {"vconcat": panels, "spacing": 14}


def _with(words: str, unit: str) -> str:
    return f"{words} ({unit})" if unit else words
