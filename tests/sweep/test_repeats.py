"""Combinations repeated over seeds and over draws of an ensemble: the runs are those of single replays, and intervals
are over them.
"""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy import stats

from backtest.errors import ScenarioError
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report.sweeps import as_text, find_sweep
from backtest.results import run
from backtest.scenario import Competitive, Override, Participation, Scenario
from backtest.scenario.ensemble import Draw
from backtest.sweep import Sweep, sweep
from backtest.sweep.spec import PARTS, Axis, Window
from tests.propose.market import lake_of_four
from tests.support.sketch_history import POOL

BONUS = Override(parameter="liquidation_bonus", asset="WETH", value=10_500)
LATE = Scenario(name="base", liquidators=Participation(mean=300, searchers=2), overrides=(BONUS,))
LEVELS = (10_500, 10_900)
AXES = (Axis(field="overrides[0].value", name="bonus", values=LEVELS),)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of_four(tmp_path / "lake")


def rows(lake: Lake, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.sql(text).to_arrow_table().to_pylist()
    return found


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9), st.integers(1, 4))
def test_draws_stand_for_equal_parts_of_the_weight_and_no_seed_is_used_twice(weights: list[int], repeats: int) -> None:
    each = tuple(
        Draw(weight=float(weight), liquidators=Participation(mean=100 + i)) for i, weight in enumerate(weights)
    )
    found = Sweep(axes=AXES, scenario=LATE, draw=each, repeats=repeats).replicates
    assert len(found) == PARTS * repeats
    assert len({one.seed for one in found}) == len({one.name for one in found}) == len(found)
    counts = Counter(one.draw for one in found)
    for own in each:
        assert abs(counts[own] / repeats - PARTS * own.weight / sum(weights)) <= 1  # systematic: within one part


def test_what_cannot_be_repeated_is_told() -> None:
    with pytest.raises(ScenarioError, match="repeats over seeds, and an axis over the seed"):
        Sweep(axes=(Axis(field="seed", values=(1, 2)),), scenario=LATE, repeats=2)
    with pytest.raises(ScenarioError, match="draws of an ensemble, and an axis over who liquidates"):
        Sweep(
            axes=(Axis(field="liquidators.mean", values=(1, 2)),),
            scenario=LATE,
            draw=(Draw(weight=1.0, liquidators=Participation()),),
        )
    with pytest.raises(ScenarioError, match="repeats = 0"):
        Sweep(axes=AXES, scenario=LATE, repeats=0)
    plain = Sweep(axes=AXES, scenario=LATE)
    assert '"repeats"' not in plain.canonical()  # a sweep of before keeps its id
    assert replace(plain, repeats=2).canonical() != plain.canonical()


@pytest.mark.slow
def test_seeds_are_those_of_single_runs_and_intervals_are_over_them(lake: Lake) -> None:
    """A single window's interval is over its seeds; of several each counts once, by the mean of its seeds."""
    with pytest.raises(ScenarioError, match="repeats of 'competitive' liquidators, which draw nothing here"):
        sweep(lake, "sketch", Sweep(axes=AXES, scenario=replace(LATE, liquidators=Competitive()), repeats=2))
    two = (Window(name="a", to_block=20), Window(name="b", to_block=30))
    for name, windows in (("one", ()), ("two", two)):
        outcome = sweep(lake, "sketch", Sweep(name=name, axes=AXES, scenario=LATE, windows=windows, repeats=3))
        assert outcome.failed == ()
        [ours] = rows(lake, f"SELECT sweep_id FROM sweeps WHERE name = '{name}'")
        amounts: dict[tuple[int, str, int], int] = {}
        for row in rows(
            lake,
            'SELECT m.point, m."window", r.seed, m.amount FROM sweep_measures AS m JOIN runs AS r USING (run_id)'
            f" WHERE sweep_id = '{ours['sweep_id']}' AND measure = 'borrower_loss'",
        ):
            window, _, seed = row["window"].rpartition(", seed ")
            assert int(seed) == row["seed"]
            amounts[row["point"], window, row["seed"]] = int(row["amount"])
        names = sorted({window for _, window, _ in amounts})
        assert {seed for _, _, seed in amounts} == {0, 1, 2}
        assert len(set(amounts.values())) > 2, "seeds and bonuses differ, or nothing is tested"
        single = replace(LATE, overrides=(replace(BONUS, value=LEVELS[1]),), seed=2, to_block=two[-1].to_block)
        if windows:
            alone = run(lake, "sketch", single)
            assert alone.run_id in {row["run_id"] for row in rows(lake, "SELECT run_id FROM sweep_scenarios")}
        apart = {
            (point, window, seed): amount - statistics.mean(amounts[p, window, seed] for p in range(2))
            for (point, window, seed), amount in amounts.items()
        }

        for row in rows(
            lake,
            "SELECT point, windows, mean, half_width FROM sweep_points WHERE measure = 'borrower_loss' AND sweep_id ="
            f" '{ours['sweep_id']}'",
        ):
            units = [[apart[row["point"], window, seed] for seed in range(3)] for window in names]
            each = [statistics.mean(unit) for unit in units] if len(names) > 1 else units[0]
            half = stats.t.ppf(0.975, len(each) - 1) * statistics.stdev(each) / len(each) ** 0.5
            assert row["windows"] == 3 * len(names)
            assert row["half_width"] == pytest.approx(half)
            own = [amount for (point, _, _), amount in amounts.items() if point == row["point"]]
            assert row["mean"] == pytest.approx(statistics.mean(own))
        text = " ".join(as_text(find_sweep(lake, name)).split())
        assert ("Intervals are over 3 seeds" in text) == (not windows)
