"""What a sweep says: refused sets as one line, a front of one set in words, levels as pairs, one id for one sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report.sweeps import as_text, find_sweep
from backtest.scenario import Competitive, Scenario
from backtest.sweep import Sweep, sweep, with_axes
from tests.test_replay_engine import POOL, liquidated_history
from tests.test_results import lake_of


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of(tmp_path / "lake", liquidated_history())


def swept(lake: Lake, *axes: str) -> str:
    base, varied = with_axes(Scenario(name="base", liquidators=Competitive()), axes)
    return sweep(lake, "sketch", Sweep(scenario=base, axes=varied)).sweep_id


def test_refused_sets_are_one_line(lake: Lake) -> None:
    found = swept(lake, "WETH.ltv=7000,9000,9100,9200")
    text = as_text(find_sweep(lake, found))
    [line] = [line for line in text.split("\n") if "such as: " in line]
    assert line.split()[1] == "3"
    assert max(map(len, text.split("\n"))) <= 200


def test_a_front_of_one_set_says_so(lake: Lake) -> None:
    text = as_text(find_sweep(lake, swept(lake, "WETH.ltv=7000")))
    assert "Users frozen: one parameter set is complete, so there is nothing to choose among." in text


def test_pairs_are_values_of_their_axis(lake: Lake) -> None:
    found = swept(lake, "WETH.liquidation_threshold,WETH.ltv=8000:7000,7800:6900")
    rows = lake.sql(f"SELECT value, number FROM sweep_values WHERE sweep_id = '{found}' ORDER BY point").fetchall()
    assert rows == [("8000:7000", None), ("7800:6900", None)]
    assert swept(lake, "weth.liquidation_threshold,weth.ltv=8000:7000,7800:6900") != ""
