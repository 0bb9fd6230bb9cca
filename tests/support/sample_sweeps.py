"""A small sweep of the bundled sample, and all rows that a sweep stores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from backtest.lake import Lake
from backtest.resources import resource
from backtest.result_tables import RESULTS, SWEEPS
from backtest.scenario import Competitive, Scenario
from backtest.sweep import Sweep, sweep, with_axes
from backtest.sweep.spec import Window

CRASH = "sample-crash"
BASE = Scenario(name="base", liquidators=Competitive())


def sample(folder: Path) -> Lake:
    shutil.copytree(resource("sample") / "lake", folder)
    return Lake(folder)


def small(**more: Any) -> Sweep:
    """Four parameter sets of the sample before its crash: quick to replay."""
    base, axes = with_axes(BASE, ["WETH.liquidation_threshold=8100,8300", "liquidation_bonus+=0,200"])
    return Sweep(
        axes=axes,
        scenario=base,
        windows=(Window(name="early", to_block=120), Window(name="late", from_block=121, to_block=150, held_out=True)),
        **more,
    )


def rows_of(lake: Lake, market: str) -> dict[str, list[str]]:
    """Every row of every table of runs and sweeps, sorted: what must not depend on who replayed."""
    lake.refresh()
    names = [name for name in {**RESULTS, **SWEEPS} if f"results/{name}" in lake.datasets(market)]
    return {name: sorted(map(repr, lake.read(f"results/{name}", market).to_pylist())) for name in names}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, dict[str, list[str]]]:
    """The small sweep of the sample, replayed by one process, and its rows."""
    lake = sample(tmp_path_factory.mktemp("serial") / "lake")
    outcome = sweep(lake, CRASH, small())
    assert (outcome.scenarios, outcome.replayed, outcome.failed) == (10, 10, ())
    return lake, rows_of(lake, CRASH)
