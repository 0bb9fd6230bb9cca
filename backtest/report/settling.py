"""How VaR and ES settle as paths are added: a chart of a convergence table."""

from __future__ import annotations

from collections.abc import Sequence

from backtest.report.charts import WIDTH, Money, Spec
from backtest.risk.tail import TailRisk


def settling(title: str, found: Sequence[TailRisk], decimals: int, currency: str) -> Spec:
    """One panel: the measures of the first paths (``risk.tail.convergence``) against how many they are, with their
    intervals as bands where both of their ends exist.
    """
    unit = 10**decimals
    largest = max(max(row.es, row.var_high or 0, row.es_high or 0) for row in found) / unit
    money = Money.of([{"loss": largest}], "loss", currency=currency)

    lines = money.apply(
        [
            {"paths": row.paths, "loss": value / unit, "measure": name}
            for row in found
            for name, value in (("VaR", row.var), ("ES", row.es))
        ],
        "loss",
    )
    band, beyond = (
        money.apply(
            [
                {"paths": row.paths, "low": low / unit, "high": high / unit}
                for row, low, high in each
                if low is not None and high is not None
            ],
            "low",
            "high",
        )
        for each in (
            [(row, row.var_low, row.var_high) for row in found],
            [(row, None if row.es_low is None else max(0, row.es_low), row.es_high) for row in found],
        )
    )
    x = {"field": "paths", "type": "quantitative", "title": "Paths", "scale": {"type": "log"}}
    y = {"type": "quantitative", "title": f"Bad debt added ({money.unit})", "axis": {"format": ",.4~g", "tickCount": 5}}
    return {
        "title": title,
        "width": WIDTH - 80,
        "height": 130,
        "layer": [
            *(
                {
                    "data": {"values": values},
                    "mark": {"type": "area", "color": colour, "opacity": shade},
                    "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}},
                }
                for values, colour, shade in ((beyond, "#D55E00", 0.1), (band, "#0072B2", 0.18))
            ),
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
