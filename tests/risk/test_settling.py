"""The chart of a convergence table: every row, and a band where the interval has both of its ends."""

from __future__ import annotations

import base64

import pytest

from backtest.report.page import CaptionedChart, draw
from backtest.report.settling import settling
from backtest.risk.tail import convergence


@pytest.mark.slow
def test_every_row_is_drawn() -> None:
    found = convergence([(path * 7_919 % 10_007) * 10**8 for path in range(4_000)])
    spec = settling("a case", found, 8, "USD")
    beyond, band, lines = spec["layer"]
    points = lines["data"]["values"]
    assert [(row["paths"], row["measure"]) for row in points] == [
        (each.paths, name) for each in found for name in ("VaR", "ES")
    ]
    assert [row["paths"] for row in band["data"]["values"]] == [500, 1_000, 2_000, 4_000]  # 368 for both ends
    assert beyond["data"]["values"][-1]["high"] >= points[-1]["loss"] >= beyond["data"]["values"][-1]["low"]
    last, interval = found[-1], band["data"]["values"][-1]
    at = points[-2]["loss"] / (last.var / 10**8)  # thousands, or units
    assert interval["low"] == (last.var_low or 0) / 10**8 * at
    assert interval["low"] <= points[-2]["loss"] <= interval["high"]
    drawn = draw(CaptionedChart("How it settles", "A band and two lines.", {"vconcat": [spec]}, empty="-"))
    svg = base64.b64decode(drawn.picture.removeprefix("data:image/svg+xml;base64,")).decode()
    assert "a case" in svg
    assert svg.count("mark-symbol") >= 2
