"""Charts as Vega-Lite specifications, from rows that SQL has already reduced.

Every axis says its unit; runs differ by colour (the palette of Okabe and Ito, then that of Tol; assets: that of Tol;
all common kinds of colour vision tell them apart) and by dash, so that a page printed in grey still reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backtest.report.queries import SHOWN_ASSETS
from backtest.report.selection import Row

Spec = dict[str, Any]

_OKABE_ITO = ("#222222", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_TOL = ("#882255", "#999933", "#332288", "#44AA99", "#661100")
RUN_COLOURS = (*_OKABE_ITO, *_TOL)
RUN_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [12, 3], [4, 4], [1, 3])
ASSET_COLOURS = ("#332288", "#CC6677", "#117733", "#AA4499", "#88CCEE", "#999933")
WIDTH = 820
EFFECTS = ("effect", "low", "high", "band_low", "band_high", "error_low", "error_high")
"""Fields of a row of ``Charts.effects`` that are amounts or numbers; None where not known."""

THEME: Spec = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "padding": 4,
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": "#222",
        "titleColor": "#222",
        "gridColor": "#e6e6e6",
        "domainColor": "#999",
        "tickColor": "#999",
        "titlePadding": 8,
        "minExtent": 56,
    },
    "axisX": {"minExtent": 0},
    "title": {"anchor": "start", "fontSize": 12, "fontWeight": "normal", "color": "#222", "offset": 4},
    "legend": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "orient": "bottom",
        "labelLimit": 330,
        "symbolSize": 250,
        "columns": 2,
    },
    "view": {"stroke": None},
}

_TOOLTIPS: dict[str, Spec] = {
    "name": {"type": "nominal"},
    "time": {"type": "temporal", "format": "%Y-%m-%d %H:%M"},
    "amount": {"type": "quantitative", "format": ",.4~g"},
    "count": {"type": "quantitative", "format": ","},
    "share": {"type": "quantitative", "format": ".1%"},
}


def _tooltip(**fields: tuple[str, str]) -> list[Spec]:
    return [{"field": field, "title": title, **_TOOLTIPS[kind]} for field, (title, kind) in fields.items()]


def _amount(field: str, title: str | None, *, ticks: int = 5, **more: Any) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "axis": {"format": ",.3~f", "tickCount": ticks},
        **more,
    }


def _timed(rows: list[Row]) -> list[Row]:
    """Rows with ``bin`` (seconds) as ``time`` (milliseconds, as Vega counts)."""
    return [
        {**{key: value for key, value in row.items() if key != "bin"}, "time": int(row["bin"]) * 1000} for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Money:
    """Divides currency values so that an axis has short labels, and names the unit."""

    divisor: float
    unit: str

    @classmethod
    def of(cls, rows: list[Row], *fields: str, currency: str) -> Money:
        """Fit for the largest value in these fields."""
        top = max((abs(row[field]) for row in rows for field in fields if row[field] is not None), default=0.0)
        for size, name in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
            if top >= size:
                return cls(size, f"{name} {currency}")
        return cls(1.0, currency)

    def apply(self, rows: list[Row], *fields: str) -> list[Row]:
        """The rows with these fields divided; missing stays missing."""
        return [
            {**row, **{field: None if row[field] is None else row[field] / self.divisor for field in fields}}
            for row in rows
        ]


@dataclass(frozen=True, slots=True)
class Charts:
    """The charts of one page: the same runs, colours, currency and time axis in each.

    ``labels`` are the runs in order; rows carry theirs in the field ``run``. ``start`` and ``end`` are seconds.
    """

    labels: tuple[str, ...]
    currency: str
    start: int
    end: int

    def _time(self, title: str | None = "Time (UTC)", *, labels: bool = True) -> Spec:
        axis = {"tickCount": 8, "labelOverlap": True, "labelExpr": self._time_label(), "labels": labels}
        scale = {
            "type": "utc",
            "domainMin": self.start * 1000,
            "domainMax": self.end * 1000,
            "nice": False,
            "padding": 0,
        }
        return {"field": "time", "type": "temporal", "title": title, "scale": scale, "axis": axis}

    def _time_label(self) -> str:
        """Vega expression: months in windows of years, else days, with hours (24) between them."""
        if self.end - self.start > 300 * 86_400:
            return "utcFormat(datum.value, '%b %Y')"
        return "utcFormat(datum.value, utchours(datum.value) + utcminutes(datum.value) == 0 ? '%d %b' : '%H:%M')"

    def _by_run(self, *, dash: bool = True, legend: bool = True) -> Spec:
        names = list(self.labels)
        colours = [RUN_COLOURS[i % len(RUN_COLOURS)] for i in range(len(names))]
        dashes = [RUN_DASHES[i % len(RUN_DASHES)] for i in range(len(names))]
        shown: Spec = {} if legend else {"legend": None}
        channels: Spec = {
            "color": {
                "field": "run",
                "type": "nominal",
                "title": None,
                "scale": {"domain": names, "range": colours},
                **shown,
            }
        }
        if dash:
            channels["strokeDash"] = {
                "field": "run",
                "type": "nominal",
                "title": None,
                "scale": {"domain": names, "range": dashes},
                **shown,
            }
            # Runs that agree lie on each other: those below are wider, so that each can be seen.
            step = min(1.5, 5.5 / max(len(names) - 1, 1))
            channels["strokeWidth"] = {
                "field": "run",
                "type": "nominal",
                "scale": {
                    "type": "ordinal",
                    "domain": names,
                    "range": [1.5 + step * place for place in reversed(range(len(names)))],
                },
                "legend": None,
            }
        return channels

    def prices_and_liquidations(self, prices: list[Row], timeline: list[Row], step: int, every: str) -> Spec:
        """Oracle prices relative to the start of the window, above the debt that each run liquidated over time."""
        money = Money.of(timeline, "repaid_usd", currency=self.currency)
        timeline = money.apply(timeline, "repaid_usd")
        symbols = list(dict.fromkeys(row["symbol"] for row in prices))
        price: Spec = {
            "title": (
                "Oracle prices relative to the start of the window: the assets that were seized most, at most"
                f" {SHOWN_ASSETS}"
            ),
            "data": {"values": _timed(prices)},
            "width": WIDTH,
            "height": 190,
            "mark": {"type": "line", "interpolate": "step-after", "clip": True},
            "encoding": {
                "x": self._time(None),
                "y": {
                    "field": "relative",
                    "type": "quantitative",
                    "title": "Price (start = 100)",
                    "scale": {"zero": False},
                    "axis": {"tickCount": 5},
                },
                "color": {
                    "field": "symbol",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": symbols, "range": list(ASSET_COLOURS)},
                },
                "tooltip": _tooltip(
                    symbol=("Asset", "name"), time=("From", "time"), price_usd=(f"Price ({self.currency})", "amount")
                ),
            },
        }
        price["encoding"]["color"]["legend"] = {"orient": "top", "columns": 6, "symbolSize": 200}
        top = max((row["repaid_usd"] for row in timeline), default=0.0) or 1.0
        panels = [price]
        for label in self.labels:
            mine = [
                {**row, "until": (row["bin"] + step) * 1000}
                for row in timeline
                if row["run"] == label and row["repaid_usd"]
            ]
            last = label == self.labels[-1]
            bars = {
                "x": self._time("Time (UTC)" if last else None, labels=last),
                "x2": {"field": "until"},
                "y": _amount("repaid_usd", money.unit, ticks=2, scale={"domain": [0, top]}),
                **self._by_run(dash=False, legend=False),
                "tooltip": _tooltip(
                    time=("From", "time"),
                    repaid_usd=(f"Debt repaid ({money.unit})", "amount"),
                    liquidations=("Liquidations", "count"),
                ),
            }
            panels.append(self._bars(f"{label}: debt repaid by liquidators, in bins of {every}", _timed(mine), bars))
        return _stack(panels)

    def _bars(self, title: str, rows: list[Row], encoding: Spec) -> Spec:
        return {
            "title": title,
            "data": {"values": rows},
            "width": WIDTH,
            "height": 56,
            "mark": {"type": "rect", "clip": True},
            "encoding": {**encoding, "y2": {"datum": 0}},
        }

    def effects(self, rows: list[Row]) -> Spec:
        """Effects against the baseline: a panel per measure, a line per alternative; behind the effect its interval,
        the band over users' responses, and in grey the replay's own error to both sides.
        """
        panels = []
        for measure in dict.fromkeys(row["measure"] for row in rows):
            mine = [row for row in rows if row["measure"] == measure]
            unit = "number"
            if mine[0]["kind"] == "money":
                money = Money.of(mine, *EFFECTS, currency=self.currency)
                mine, unit = money.apply(mine, *EFFECTS), money.unit
            names = list(dict.fromkeys(row["run"] for row in mine))
            y = {
                "field": "run",
                "type": "nominal",
                "title": None,
                "sort": names,
                "axis": {"ticks": False, "domain": False, "labelLimit": 260},
            }
            x = _amount("low", f"Change against the baseline ({unit})", scale={"zero": True, "padding": 8})
            grey = {"type": "bar", "size": 22, "opacity": 0.15, "color": "#555"}
            layers: list[Spec] = [
                {"mark": grey, "encoding": {"x": {**x, "field": "error_low"}, "x2": {"field": "error_high"}, "y": y}},
                {
                    "mark": {"type": "bar", "size": 16, "opacity": 0.3},
                    "encoding": {"x": {**x, "field": "band_low"}, "x2": {"field": "band_high"}},
                },
                {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"x": x, "x2": {"field": "high"}}},
                {
                    "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                    "encoding": {"x": {**x, "field": "effect"}},
                },
                {
                    "mark": {"type": "rule", "color": "#999", "strokeDash": [3, 3]},
                    "encoding": {"x": {"datum": 0}, "y": {"value": 0}, "y2": {"value": "height"}},
                },
            ]
            tooltip = _tooltip(
                run=("Run", "name"),
                effect=(f"Effect ({unit})", "amount"),
                low=("Interval from", "amount"),
                high=("to", "amount"),
                band_low=("Band from", "amount"),
                band_high=("to", "amount"),
                words=("Verdict", "name"),
            )
            for layer in layers[1:4]:
                layer["encoding"] |= {"y": y, **self._by_run(dash=False, legend=False), "tooltip": tooltip}
            panels.append(
                {
                    "title": measure,
                    "data": {"values": mine},
                    "width": WIDTH - 180,
                    "height": {"step": 26},
                    "layer": layers,
                }
            )
        return {"vconcat": panels, "spacing": 14, "resolve": {"scale": {"color": "independent"}}}

    @staticmethod
    def rates(rows: list[Row]) -> Spec:
        """Shares with their intervals: a panel per rate, a line per set of alarms and accounts."""
        names = list(dict.fromkeys(row["set"] for row in rows))
        y = {
            "field": "set",
            "type": "nominal",
            "title": None,
            "sort": names,
            "axis": {"ticks": False, "domain": False, "labelLimit": 420},
        }
        scale = {"domain": [0, 1]}
        tooltip = _tooltip(
            set=("Set", "name"), value=("Share", "share"), low=("Interval from", "share"), high=("to", "share")
        )
        panels = []
        for rate in dict.fromkeys(row["rate"] for row in rows):
            x = {
                "field": "low",
                "type": "quantitative",
                "title": "Share of episodes, or of debt",
                "axis": {"format": ".0%", "tickCount": 5},
                "scale": scale,
            }
            layers: list[Spec] = [
                {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"x": x, "x2": {"field": "high"}}},
                {
                    "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                    "encoding": {"x": {**x, "field": "value"}},
                },
            ]
            for layer in layers:
                layer["encoding"] |= {"y": y, "color": {"value": RUN_COLOURS[1]}, "tooltip": tooltip}
            mine = [row for row in rows if row["rate"] == rate]
            panels.append(
                {"title": rate, "data": {"values": mine}, "width": WIDTH - 340, "height": {"step": 22}, "layer": layers}
            )
        return {"vconcat": panels, "spacing": 14}

    def cumulative(self, timeline: list[Row]) -> Spec:
        """Debt liquidated since the start of the window, and what that is beyond the run's own baseline."""
        titles = {"cumulative_usd": "Debt repaid by liquidators"}
        if any(row["beyond_baseline_usd"] is not None for row in timeline):
            titles["beyond_baseline_usd"] = "The same of alternatives, less that of their baseline"
        return self._line_panels(timeline, **titles)

    def by_collateral(self, rows: list[Row]) -> Spec:
        """Debt repaid against each collateral asset, a bar per run."""
        money = Money.of(rows, "repaid_usd", currency=self.currency)
        symbols = list(dict.fromkeys(row["symbol"] for row in rows))
        return {
            "data": {
                "values": [
                    {key: value for key, value in row.items() if key not in ("repaid", "seized")}
                    for row in money.apply(rows, "repaid_usd")
                ]
            },
            "width": WIDTH,
            "height": {"step": 14},
            "mark": {"type": "bar"},
            "encoding": {
                "y": {"field": "symbol", "type": "nominal", "title": None, "sort": symbols, "axis": {"ticks": False}},
                "yOffset": {"field": "run", "type": "nominal", "sort": list(self.labels)},
                "x": _amount("repaid_usd", f"Debt repaid ({money.unit})"),
                **self._by_run(dash=False),
                "tooltip": _tooltip(
                    run=("Run", "name"),
                    symbol=("Collateral", "name"),
                    repaid_usd=(f"Debt repaid ({money.unit})", "amount"),
                    liquidations=("Liquidations", "count"),
                ),
            },
        }

    def totals(self, rows: list[Row]) -> Spec:
        """Collateral and debt of all accounts, and the debt that could be liquidated at the time."""
        return self._line_panels(
            rows,
            collateral_usd="Collateral of all accounts",
            debt_usd="Debt of all accounts",
            liquidatable_usd="Debt of accounts that could be liquidated (highest sample)",
        )

    def bad_debt(self, rows: list[Row]) -> Spec:
        """Debt beyond an account's collateral, and deficits that the protocol has written off."""
        return self._line_panels(
            rows,
            bad_debt_usd="Debt of accounts whose collateral is worth less than it",
            deficit_usd="Deficit written off since the start",
        )

    def _line_panels(self, rows: list[Row], **titles: str) -> Spec:
        """One panel per field, a line per run in each."""
        panels = []
        for field, title in titles.items():
            money = Money.of(rows, field, currency=self.currency)
            last = field == list(titles)[-1]
            lines = {
                "x": self._time("Time (UTC)" if last else None, labels=last),
                "y": _amount(field, money.unit),
                **self._by_run(),
                "tooltip": _tooltip(
                    **{"run": ("Run", "name"), "time": ("From", "time"), field: (f"{title} ({money.unit})", "amount")}
                ),
            }
            data = [{"run": row["run"], "bin": row["bin"], field: row[field]} for row in money.apply(rows, field)]
            mark = {"type": "line", "interpolate": "step-after", "clip": True, "point": _lone(data)}
            panels.append(
                {
                    "title": title,
                    "data": {"values": _timed(data)},
                    "width": WIDTH,
                    "height": 130,
                    "mark": mark,
                    "encoding": lines,
                }
            )
        return {"vconcat": panels, "spacing": 12}

    def waterfall(self, rows: list[Row]) -> Spec:
        """Where the bonus goes: a panel per run, a bar per part, each beginning where the one above it ends."""
        money = Money.of(rows, "from_usd", "to_usd", currency=self.currency)
        rows = money.apply(rows, "from_usd", "to_usd", "amount_usd")
        ends = [0.0, *(row[field] for row in rows for field in ("from_usd", "to_usd"))]
        panels = []
        for label in self.labels:
            mine = [row for row in rows if row["run"] == label]
            names = [row["label"] for row in mine]
            y = {
                "field": "label",
                "type": "nominal",
                "title": None,
                "sort": names,
                "axis": {"ticks": False, "domain": False, "labelLimit": 180},
            }
            x = _amount("from_usd", f"Sum over liquidations ({money.unit})", scale={"domain": [min(ends), max(ends)]})
            encoding = {
                "x": x,
                "x2": {"field": "to_usd"},
                "y": y,
                **self._by_run(dash=False, legend=False),
                "opacity": {
                    "field": "side",
                    "type": "nominal",
                    "scale": {"domain": ["source", "use"], "range": [1, 0.55]},
                    "legend": None,
                },
                "tooltip": _tooltip(
                    run=("Run", "name"),
                    label=("Part", "name"),
                    amount_usd=(f"Amount ({money.unit})", "amount"),
                    percent_of_bonus=("Per cent of the bonus", "amount"),
                ),
            }
            if mine:
                panels.append(
                    {
                        "title": label,
                        "data": {
                            "values": _only(
                                mine, "run", "label", "side", "from_usd", "to_usd", "amount_usd", "percent_of_bonus"
                            )
                        },
                        "width": WIDTH - 180,
                        "height": {"step": 20},
                        "mark": {"type": "bar", "size": 14},
                        "encoding": encoding,
                    }
                )
        return _stack(panels)

    def time_to_liquidation(self, rows: list[Row]) -> Spec:
        """The share of opportunities that was taken by then: each run's line goes on to the right edge."""
        marks = [0, 12, 60, 300, 1800, 7200, 43_200, 259_200, 1_209_600]
        short = "datum.value < 60 ? datum.value + ' s' : datum.value < 7200 ? datum.value / 60 + ' min'"
        words = f"{short} : datum.value < 172800 ? datum.value / 3600 + ' h' : datum.value / 86400 + ' d'"
        top = max(12, *(row["seconds"] for row in rows))
        last = {row["run"]: row for row in sorted(rows, key=lambda row: row["seconds"])}
        rows = [*rows, *({**row, "seconds": top} for row in last.values() if row["seconds"] < top)]
        return {
            "data": {"values": _only(rows, "run", "seconds", "taken_share", "open_share")},
            "width": WIDTH,
            "height": 220,
            "mark": {"type": "line", "interpolate": "step-after", "clip": True},
            "encoding": {
                "x": {
                    "field": "seconds",
                    "type": "quantitative",
                    "title": "Time since the opportunity was first seen (log scale)",
                    "scale": {"type": "symlog", "constant": 6, "domain": [0, top], "nice": False},
                    "axis": {"values": [mark for mark in marks if mark <= top], "labelExpr": words},
                },
                "y": {
                    "field": "taken_share",
                    "type": "quantitative",
                    "title": "Share of opportunities taken (%)",
                    "axis": {"format": ".0%", "tickCount": 5},
                    "scale": {"domain": [0, 1]},
                },
                **self._by_run(),
                "tooltip": _tooltip(
                    run=("Run", "name"),
                    seconds=("Seconds", "count"),
                    taken_share=("Taken by then", "share"),
                    open_share=("Still open", "share"),
                ),
            },
        }

    def bid_share(self, rows: list[Row]) -> Spec:
        """The winner's bid as a share of what the opportunity leaves it, by the number of rivals."""
        x = {
            "field": "rivals",
            "type": "ordinal",
            "title": "Rivals who bid (number)",
            "axis": {"labelAngle": 0, "grid": True},
        }
        share = {"type": "quantitative", "title": "Bid, share of value (%)", "axis": {"format": ".0%", "tickCount": 5}}
        aside = {
            "xOffset": {
                "field": "run",
                "type": "nominal",
                "sort": [label for label in self.labels if any(row["run"] == label for row in rows)],
            }
        }
        tooltip = _tooltip(
            run=("Run", "name"),
            rivals=("Rivals", "count"),
            mean_share=("Mean share", "share"),
            low=("Interval from", "share"),
            high=("to", "share"),
            contests=("Contests", "count"),
        )
        layers: list[Spec] = [
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {"y": {**share, "field": "low"}, "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"y": {**share, "field": "mean_share"}},
            },
        ]
        for layer in layers:
            layer["encoding"] = {"x": x, **layer["encoding"], **aside, **self._by_run(dash=False), "tooltip": tooltip}
        return {
            "data": {"values": _only(rows, "run", "rivals", "contests", "mean_share", "low", "high")},
            "width": WIDTH,
            "height": 240,
            "layer": layers,
        }

    def answered(self, rows: list[Row]) -> Spec:
        """Prices that answer to sales against history's, an asset below the other."""
        panels = []
        for symbol in dict.fromkeys(row["symbol"] for row in rows):
            mine = [row for row in rows if row["symbol"] == symbol]
            panels.append(
                {
                    "title": f"{symbol}: the oracle's price and the market's, of history's",
                    "data": {"values": _timed(mine)},
                    "width": WIDTH,
                    "height": 160,
                    "mark": {"type": "line", "interpolate": "step-after", "clip": True},
                    "encoding": {
                        "x": self._time(),
                        "y": {
                            "field": "relative",
                            "type": "quantitative",
                            "title": "Price (history = 100)",
                            "scale": {"zero": False},
                            "axis": {"tickCount": 5},
                        },
                        **self._by_run(dash=False),
                        "strokeDash": {
                            "field": "price",
                            "type": "nominal",
                            "title": None,
                            "scale": {"domain": ["oracle", "market"], "range": [[1, 0], [3, 3]]},
                        },
                        "tooltip": _tooltip(
                            run=("Run", "name"),
                            price=("Price", "name"),
                            time=("From", "time"),
                            relative=("Of history's (%)", "amount"),
                        ),
                    },
                }
            )
        return _stack(panels)

    def concentration(self, rows: list[Row]) -> Spec:
        """Share of all debt repaid that the most liquidated accounts had."""
        return {
            "data": {"values": rows},
            "width": WIDTH,
            "height": 220,
            "mark": {"type": "line", "interpolate": "step-after", "point": _lone(rows)},
            "encoding": {
                "x": {
                    "field": "rank",
                    "type": "quantitative",
                    "title": "Accounts, those with most debt repaid first (number, log scale)",
                    "scale": {"type": "log", "nice": False},
                    "axis": {"tickCount": 6, "format": "~s"},
                },
                "y": {
                    "field": "share",
                    "type": "quantitative",
                    "title": "Share of all debt repaid (%)",
                    "axis": {"format": ".0%", "tickCount": 5},
                    "scale": {"domain": [0, 1]},
                },
                **self._by_run(),
                "tooltip": _tooltip(run=("Run", "name"), rank=("Accounts", "count"), share=("Share", "share")),
            },
        }

    def health(self, rows: list[Row]) -> Spec:
        """Debt repaid by the health factor just before the liquidation."""
        money = Money.of(rows, "repaid_usd", currency=self.currency)
        rows = [{**row, "to": row["health"] + 0.01} for row in money.apply(rows, "repaid_usd")]
        domain = [min(row["health"] for row in rows), max(1.0, max(row["to"] for row in rows))]
        top = max(row["repaid_usd"] for row in rows) or 1.0
        panels = []
        for label in self.labels:
            last = label == self.labels[-1]
            title = (
                "Health factor just before (1 = liquidation threshold; bins of 0.01, all below 0.50 in one)"
                if last
                else None
            )
            axis = {"format": ".2f", "tickCount": 10, "labels": last}
            bars = {
                "x": {
                    "field": "health",
                    "type": "quantitative",
                    "title": title,
                    "scale": {"domain": domain, "nice": False, "zero": False},
                    "axis": axis,
                },
                "x2": {"field": "to"},
                "y": _amount("repaid_usd", money.unit, ticks=2, scale={"domain": [0, top]}),
                **self._by_run(dash=False, legend=False),
                "tooltip": _tooltip(
                    health=("Health from", "amount"),
                    repaid_usd=(f"Debt repaid ({money.unit})", "amount"),
                    liquidations=("Liquidations", "count"),
                ),
            }
            panels.append(self._bars(label, [row for row in rows if row["run"] == label], bars))
        return _stack(panels)


def _stack(panels: list[Spec]) -> Spec:
    return {"vconcat": panels, "spacing": 10, "resolve": {"scale": {"color": "independent"}}}


def _lone(rows: list[Row]) -> bool:
    """Whether a run has one row only: a line of one point draws nothing, so that points must be drawn."""
    runs = [row["run"] for row in rows]
    return any(runs.count(run) == 1 for run in set(runs))


def _only(rows: list[Row], *fields: str) -> list[Row]:
    """Rows with these fields alone: what a chart shows."""
    return [{field: row[field] for field in fields} for row in rows]
