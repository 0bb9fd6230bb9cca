"""How VaR and ES settle as paths are added: a chart of a convergence table."""

from __future__ import annotations

from collections.abc import Sequence

from backtest.report.charts import WIDTH, Money, Spec
from backtest.risk.tail import TailRisk


def settling(title: str, found: Sequence[TailRisk], decimals: int, currency: str) -> Spec:
    """One panel: the measures of the first paths (``risk.tail.convergence``) against how many they are, with VaR's
    interval as a band where both of its ends exist.
    """
    unit = 10**decimals
    largest = max(max(row.es, row.var_high or 0) for row in found) / unit
    money = Money.of([{"loss": largest}], "loss", currency=currency)

    lines = money.apply(
        [
            {"paths": row.paths, "loss": value / unit, "measure": name}
            for row in found
            for name, value in (("VaR", row.var), ("ES", row.es))
        ],
        "loss",
    )
    band = money.apply(
        [
            {"paths": row.paths, "low": row.var_low / unit, "high": row.var_high / unit}
            for row in found
            if row.var_low is not None and row.var_high is not None
        ],
        "low",
        "high",
    )
    x = {"field": "paths", "type": "quantitative", "title": "Paths", "scale": {"type": "log"}}
    y = {"type": "quantitative", "title": f"Bad debt added ({money.unit})", "axis": {"format": ",.4~g", "tickCount": 5}}
    return {
        "title": title,
        "width": WIDTH - 80,
        "height": 130,
        "layer": [
            {
                "data": {"values": band},
                "mark": {"type": "area", "color": "#0072B2", "opacity": 0.18},
                "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
            {
                "data": {"values": lines},
                "mark": {"type": "line", "point": True},
                "encoding": {
                    "x": x,
                    "y": {"field": "loss", **y},
                    "color": {
                        "field": "measure",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": ["VaR", "ES"], "range": ["#0072B2", "#D55E00"]},
                    },
                },
            },
        ],
    }
