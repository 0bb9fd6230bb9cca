"""The charts of a proposal's page, as Vega-Lite specifications from exact numbers already made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backtest.report.charts import WIDTH, Money, Spec
from backtest.report.page import CaptionedChart
from backtest.report.proposal import MEASURES, POWER, SHORT, Proposal, Search

_PRESENT, _PROPOSED = "#0072B2", "#D55E00"
_PARTS = ("all together", "single accounts", "the model", "chance", "users")


def figures(p: Proposal) -> list[CaptionedChart]:
    """Every figure, not yet drawn."""
    found = [
        CaptionedChart(
            "Effects, and where their doubt comes from",
            "Dot: the effect. Lines: its 95 % intervals, all together and by what they come from; the line of users is"
            " the range over their responses. What is not known has no line.",
            _effects(p),
        ),
        CaptionedChart(
            "Prices fall at once",
            "Debt that is liquidatable then, and debt that no collateral stands behind once frictionless liquidators"
            " have acted, by how far the prices of one moment fall; each asset alone, and all that move together.",
            _shocks(p) if p.shocks else None,
            empty="No price of this market moves.",
        ),
    ]
    if p.search is not None and len(p.search.names) in (1, 2):
        found.append(
            CaptionedChart(
                "Around the proposal",
                "Each cell is a parameter set, its replays' means; blue outline: the present one, orange: the proposed"
                " one. Empty: refused by the market's configurator.",
                _heat(p, p.search),
            )
        )
    return found


def _effects(p: Proposal) -> Spec:
    panels: list[Spec] = []
    for each in p.findings[:SHORT]:
        verdict, doubt, scale = each.verdict, each.doubt, 10**p.decimals
        users = (min(verdict.band.values()), max(verdict.band.values())) if verdict.band else None
        bounds = zip(_PARTS, (verdict.interval, doubt.accounts, doubt.model, doubt.chance, users), strict=True)
        rows = [
            {
                "part": part,
                "effect": verdict.effect / scale,
                "low": None if own is None else own[0] / scale,
                "high": None if own is None else own[1] / scale,
            }
            for part, own in bounds
        ]
        money = Money.of(rows, "effect", "low", "high", currency=p.currency)
        x: dict[str, Any] = {"type": "quantitative", "axis": {"format": ",.3~g", "tickCount": 5}}
        y = {"field": "part", "type": "nominal", "title": None, "sort": list(_PARTS), "axis": {"ticks": False}}
        panels.append(
            {
                "title": f"{each.measure.label}: {verdict.words}",
                "data": {"values": money.apply(rows, "effect", "low", "high")},
                "width": WIDTH - 200,
                "height": {"step": 17},
                "layer": [
                    {
                        "mark": {"type": "rule", "color": "#888"},
                        "encoding": {"x": {"datum": 0, **x}},
                    },
                    {
                        "mark": {"type": "rule", "strokeWidth": 3, "color": _PRESENT},
                        "encoding": {
                            "x": {"field": "low", "title": f"Effect ({money.unit})", **x},
                            "x2": {"field": "high"},
                            "y": y,
                        },
                    },
                    {
                        "mark": {"type": "point", "filled": True, "size": 55, "color": _PROPOSED},
                        "encoding": {"x": {"field": "effect", **x}, "y": y},
                    },
                ],
            }
        )
    return {"vconcat": panels, "spacing": 14}


def _shocks(p: Proposal) -> Spec:
    scale = 10**p.decimals
    panels: list[Spec] = []
    for assets, shocks in p.asset_shocks().items():
        both: list[Spec] = []
        for key, title in (("debt", "Liquidatable debt"), ("bad_debt", "Bad debt")):
            rows = [
                {"fall": -shock.fall / 100, "side": side, "value": pair[at] / scale}
                for shock in shocks
                for pair in [shock.debt if key == "debt" else shock.bad_debt]
                for at, side in enumerate(("present", "proposed"))
            ]
            money = Money.of(rows, "value", currency=p.currency)
            sides = {"domain": ["present", "proposed"]}
            colour = {
                "field": "side",
                "type": "nominal",
                "title": None,
                "scale": {**sides, "range": [_PRESENT, _PROPOSED]},
            }
            dash = {
                "field": "side",
                "type": "nominal",
                "title": None,
                "scale": {**sides, "range": [[1, 0], [6, 3]]},
            }
            both.append(
                {
                    "title": f"{assets}: {title.lower()}",
                    "data": {"values": money.apply(rows, "value")},
                    "width": WIDTH // 2 - 90,
                    "height": 130,
                    "mark": {"type": "line", "point": True},
                    "encoding": {
                        "x": {
                            "field": "fall",
                            "type": "quantitative",
                            "title": "Fall of the price (%)",
                            "scale": {"reverse": True, "zero": False},
                        },
                        "y": {
                            "field": "value",
                            "type": "quantitative",
                            "title": money.unit,
                            "axis": {"format": ",.3~g", "tickCount": 4},
                        },
                        "color": colour,
                        "strokeDash": dash,
                    },
                }
            )
        panels.append({"hconcat": both, "spacing": 24})
    return {"vconcat": panels, "spacing": 18}


def _heat(p: Proposal, search: Search) -> Spec:
    """A panel for bad debt and one for what it is traded against, over one or two parameters."""
    scale, x_name = 10**p.decimals, search.names[0]
    y_name = search.names[1] if len(search.names) == 2 else ""
    panels = []
    for key in dict.fromkeys((search.loss, "bad_debt", search.against)):
        label = next(measure.label for measure in MEASURES if measure.key == key)
        rows = list(_cells(search, key, scale))
        money = Money.of(rows, "value", currency=p.currency)
        shown = money.apply(rows, "value")
        x = {"field": "x", "type": "ordinal", "title": x_name, "sort": "ascending"}
        y = {"field": "y", "type": "ordinal", "title": y_name or None, "sort": "descending"}
        tooltip = [
            {"field": "x", "title": x_name},
            *([{"field": "y", "title": y_name}] if y_name else []),
            {"field": "value", "title": f"{label} ({money.unit})", "format": ",.4~g"},
            {"field": "said", "title": "Set"},
        ]
        panels.append(
            {
                "title": f"{label} ({money.unit})",
                "data": {"values": shown},
                "width": WIDTH - 220,
                "height": {"step": 34},
                "layer": [
                    {
                        "mark": {"type": "rect", "stroke": "white"},
                        "encoding": {
                            "x": x,
                            "y": y,
                            "tooltip": tooltip,
                            "color": {
                                "field": "value",
                                "type": "quantitative",
                                "title": None,
                                "scale": {"scheme": "viridis" if key == POWER else "cividis"},
                                "legend": {"orient": "right", "format": ",.3~g"},
                            },
                        },
                    },
                    *(
                        {
                            "transform": [{"filter": f"datum.said === '{side}'"}],
                            "mark": {"type": "rect", "filled": False, "stroke": colour, "strokeWidth": 4},
                            "encoding": {"x": x, "y": y},
                        }
                        for side, colour in (("present", _PRESENT), ("proposed", _PROPOSED))
                    ),
                ],
            }
        )
    return {"vconcat": panels, "spacing": 18, "resolve": {"scale": {"color": "independent"}}}


def _cells(search: Search, key: str, scale: int) -> Iterator[dict[str, Any]]:
    named = {search.present: "present", search.proposed: "proposed"}
    for point in search.points:
        yield {
            "x": point.values[0],
            "y": point.values[1] if len(point.values) == 2 else "",
            "value": None if point.totals is None else point.totals[key] / scale,
            "said": named.get(point.values, "refused" if point.totals is None else "neighbour"),
        }
