"""What a sweep says of liquidators, against sums over the rows of its runs; axes of words move results too."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest

from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report.sweeps import as_text, find_sweep
from backtest.scenario import Competitive, Modelled, Participation, Scenario
from backtest.sweep import Sweep, sweep, with_axes
from tests.propose.market import lake_of_four
from tests.support.sketch_history import POOL

pytestmark = pytest.mark.slow  # together they take what a quick run has no time for

ALONE = Participation(searchers=1, mean=5_000)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of_four(tmp_path / "lake")


def swept(lake: Lake, liquidators: Modelled, *axes: str) -> str:
    base, varied = with_axes(Scenario(name="base", liquidators=liquidators), axes)
    return sweep(lake, "sketch", Sweep(scenario=base, axes=varied)).sweep_id


def rows(lake: Lake, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.sql(text).to_arrow_table().to_pylist()
    return found


def test_each_figure_is_the_sum_over_the_runs_rows(lake: Lake) -> None:
    found = swept(lake, ALONE, "WETH.liquidation_bonus=10500,10800", "liquidators.mean=2500,9000")
    shown = rows(lake, f"SELECT * FROM sweep_liquidators WHERE sweep_id = '{found}' ORDER BY point")
    assert len(shown) == 4
    for row in shown:
        parts = rows(lake, f"SELECT * FROM run_waterfalls WHERE run_id = '{row['run_id']}'")
        for part in ("rent", "bid", "protocol_share", "oracle_share"):
            assert row[f"{part}_base"] == sum(each[f"{part}_base"] for each in parts)
        seen = rows(lake, f"SELECT * FROM opportunities WHERE run_id = '{row['run_id']}'")
        assert row["opportunities"] == len(seen) > 0
        taken = [each["seconds"] for each in seen if each["ending"] == "taken"]
        assert row["median_seconds"] == (statistics.median_low(taken) if taken else None)
        assert row["p90_seconds"] == (max(taken) if taken else None)  # of two
        assert row["missed_debt_base"] == sum(
            each["repaid_base"] for each in seen if each["ending"] != "taken" and each["missed"]
        )
        assert row["contests"] == len(taken)
        if taken:  # alone: all of the volume, and next to nothing bid
            assert (row["hhi"], row["zero_bid_share"], row["bid_base"]) == (10_000, 1, 0)
            assert row["rent_base"] > 0
    assert any(row["contests"] for row in shown)


def test_the_outcome_shows_their_side_where_somebody_bids(lake: Lake) -> None:
    bids = as_text(find_sweep(lake, swept(lake, ALONE, "WETH.liquidation_bonus=10500,10800")))
    assert "Liquidators: means over the windows that are not held out" in bids
    assert "10,000" in bids
    plain = as_text(find_sweep(lake, swept(lake, Competitive(), "WETH.liquidation_bonus=10500,10800")))
    assert "Liquidators: means" not in plain


def test_an_axis_of_words_has_an_effect_and_no_correlation(lake: Lake) -> None:
    """Patient liquidators wait until all of the debt may be repaid: they repay otherwise than greedy ones."""
    found = swept(lake, ALONE, "liquidators.strategy=greedy,patient,two-step", "WETH.liquidation_bonus=10500,10800")
    effects = rows(
        lake,
        "SELECT axis, measure, rank_correlation, effect, points FROM sweep_sensitivity"
        f" WHERE sweep_id = '{found}' AND measure = 'repaid' ORDER BY axis",
    )
    assert [row["axis"] for row in effects] == ["WETH.liquidation_bonus", "liquidators.strategy"]
    words = effects[1]
    assert (words["rank_correlation"], words["points"]) == (None, 6)
    assert words["effect"] > 0
