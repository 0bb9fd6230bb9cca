"""Natural experiments of a lake, by hand."""

from __future__ import annotations

import re
from pathlib import Path

from backtest.lake import Lake
from backtest.scenario import PARAMETERS
from tests.sketches.history import USD, USDC, WETH, borrower, opened
from tests.support.sketch_lake import lake_of

DAY = 86_400


def test_changes_with_what_was_liquidated_around_them(tmp_path: Path) -> None:
    """WETH's threshold is set to 80 %, to 78 % on day 20 and to 75 % on day 25; a loan-to-value comes from nothing."""
    h = borrower(opened(), 0, 10, 12_000)
    h.param("ltv", 0, asset=WETH)
    h.block(10, 10 * DAY).param("ltv", 7000, asset=WETH)
    for block, day in ((20, 19), (40, 21), (41, 22), (70, 26)):
        if day == 21:
            h.block(30, 20 * DAY).param("liquidation_threshold", 7800, asset=WETH)
            h.param("liquidation_threshold", 7800, asset=WETH)  # no change
        if day == 26:
            h.block(60, 25 * DAY).param("liquidation_threshold", 7500, asset=WETH)
        h.block(block, day * DAY).price(WETH, 1000 * USD)
        with h.transaction():
            h.position(0, USDC, "debt", -100 * 10**6, "liquidation").position(0, WETH, "collateral", -1, "liquidation")
            h.liquidation(0, 3, USDC, WETH, repaid=100 * 10**6, seized=1)
    h.block(80, 30 * DAY).price(WETH, 900 * USD)
    lake = lake_of(tmp_path / "lake", h)
    found = lake.sql(
        "SELECT symbol, name, value_before, value, days_before, days_after, liquidations_before, liquidations_after,"
        " others, scorable FROM parameter_changes ORDER BY seq"
    ).fetchall()
    assert [tuple(map(str, row)) for row in found] == [
        ("WETH", "liquidation_threshold", "8000", "7800", "14.0", "5.0", "1", "2", "0", "False"),
        ("WETH", "liquidation_threshold", "7800", "7500", "5.0", "5.0", "2", "1", "0", "False"),
    ]


def test_every_parameter_that_a_scenario_may_change_is_among_them() -> None:
    text = (Path(__file__).parents[2] / "queries/marts/parameter_changes.sql").read_text()
    listed = text[text.index("unnest([") : text.index("])")]
    assert re.findall(r"'(\w+)'", listed) == list(PARAMETERS)


def test_the_bundled_crash_has_one_of_a_threshold() -> None:
    lake = Lake(Path(__file__).parents[2] / "data/sample/lake")
    found = lake.sql(
        "SELECT symbol, value_before, value, liquidations_before, liquidations_after FROM parameter_changes"
        " WHERE name = 'liquidation_threshold' AND symbol = 'WBTC'"
    ).fetchall()
    assert [tuple(map(str, row)) for row in found] == [("WBTC", "7800", "7600", "1", "207")]
