"""Any number of a run as an objective, fronts with intervals, and axes of words: SQL against Python over the same."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from backtest.errors import ScenarioError
from backtest.lake import Lake
from backtest.protocols.registry import PROTOCOLS
from backtest.report import sweeps as report
from backtest.report.sweeps import as_text, find_sweep, write_sweep_report
from backtest.result_tables import RESULTS, SWEEPS
from backtest.scenario import Competitive, Participation, Scenario
from backtest.sweep import Sweep, sweep, with_axes
from backtest.sweep.spec import MEASURES, OBJECTIVES, at, objective_of
from tests.propose.market import lake_of_four
from tests.support.lake_tables import table
from tests.support.sketch_history import POOL

BASE = Scenario(name="base", liquidators=Competitive())


def rows(lake: Lake, text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.sql(text).to_arrow_table().to_pylist()
    return found


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setitem(PROTOCOLS, "sketch", POOL)
    return lake_of_four(tmp_path / "lake")


# -- what may be asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("rent=max", ("rent", "max")),
        ("median_seconds", ("median_seconds", "min")),
        ("protocol_fee", ("protocol_fee", "max")),
        ("repaid=ignore", ("repaid", "ignore")),
    ],
)
def test_an_objective_as_an_option(text: str, meant: tuple[str, str]) -> None:
    assert objective_of(text) == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rent", "'rent' does not say which way is better; write rent=min or rent=max"),
        ("hhi=less", "'hhi=less' does not say which way is better"),
        ("median_second=min", "unknown measure; did you mean 'median_seconds'?"),
        ("bad_debt_base", "unknown measure; did you mean 'bad_debt'?"),
        ("", "unknown measure"),
    ],
)
def test_a_mistaken_objective_is_named(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        objective_of(text)
    assert said in str(caught.value)


def test_objectives_are_those_by_default_with_what_a_sweep_says() -> None:
    _, axes = with_axes(BASE, ["seed=0,1"])
    assert Sweep(axes=axes).better == OBJECTIVES
    asked = Sweep(axes=axes, objectives={"repaid": "ignore", "rent": "max"})
    assert asked.better == {"bad_debt": "min", "borrower_loss": "min", "borrowing_power": "max", "rent": "max"}
    with pytest.raises(ScenarioError, match="every objective is ignored"):
        Sweep(axes=axes, objectives=dict.fromkeys(OBJECTIVES, "ignore"))


def test_an_axis_of_kinds_leaves_out_the_defaults_of_the_kind_that_the_base_has() -> None:
    base, axes = with_axes(
        Scenario(liquidators=Competitive(max_calls=3)), ["liquidators.mean=7", "liquidators.kind=participation"]
    )
    made = at(base, [(axis, axis.levels[0]) for axis in axes])
    assert made.liquidators == Participation(mean=7, max_calls=3)
    given, axes = with_axes(Scenario(liquidators=Competitive(gas_cost=5)), ["liquidators.kind=participation"])
    with pytest.raises(ScenarioError, match=r"unknown field 'liquidators\.gas_cost'"):
        at(given, [(axes[0], "participation")])


# -- views, against Python ---------------------------------------------------------------------------------------------


def made_up(lake: Lake, values: Mapping[tuple[int, str, str], tuple[int, int]], windows: list[str]) -> None:
    """A sweep whose runs have this bad debt and borrowing power, by point, response and window. Points 0, 2, 4 ... have
    the word ``calm``, others ``wild``.
    """
    common = {"sweep_id": "s", "market": "sketch"}
    ended: dict[str, Any] = dict.fromkeys(RESULTS["run_windows"].names, 0) | {"market": "sketch", "label": "end"}
    points = sorted({point for point, _, _ in values})
    data: dict[str, list[dict[str, Any]]] = {
        "sweeps": [{**common, **dict.fromkeys(SWEEPS["sweeps"].names[2:], "x"), "points": len(points), "scenarios": 0}],
        "sweep_windows": [{**common, "name": w, "ordinal": i, "held_out": False} for i, w in enumerate(windows)],
        "sweep_objectives": [
            {**common, "measure": "bad_debt", "better": "min"},
            {**common, "measure": "borrowing_power", "better": "max"},
        ],
        "sweep_values": [
            {**common, "point": p, "axis": "mood", "level": p % 2, "value": ("calm", "wild")[p % 2], "number": None}
            for p in points
        ],
        "sweep_scenarios": [
            {**common, "ordinal": i, "attempt": 1, "role": "scenario", "point": point, "window": window}
            | {"response": response, "name": "n", "run_id": str(i), "status": "done", "replayed": True}
            for i, (point, response, window) in enumerate(values)
        ],
        "run_windows": [
            {**ended, "run_id": str(i), "realised_bad_debt_base": bad, "borrowing_power_base": power}
            for i, (bad, power) in enumerate(values.values())
        ],
    }
    schemas = {**RESULTS, **SWEEPS}
    with lake.writer() as writer:
        writer.append_all("sketch", {f"results/{name}": table(schemas[name], each) for name, each in data.items()})
    lake.refresh()


def beyond(differences: list[int]) -> bool:
    """All zero, or with the lower end of the mean's 95 % interval above zero."""
    if not any(differences):
        return True
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.mean(differences) - stats.t.ppf(0.975, len(differences) - 1) * error > 0


@pytest.mark.slow
def test_a_set_is_dominated_only_beyond_the_interval(lake: Lake) -> None:
    draw, windows, points = random.Random(5), ["a", "b", "c", "d"], range(24)
    level = {p: (draw.randrange(8) * 10, draw.randrange(8) * 10) for p in points}
    values = {
        (p, "frozen", w): (level[p][0] + draw.randrange(40), level[p][1] + draw.choice((0, 0, 20)))
        for p in points
        for w in windows
    }
    made_up(lake, values, windows)

    def costs(p: int, measure: int) -> list[int]:
        return [(1, -1)[measure] * values[p, "frozen", w][measure] for w in windows]

    def differences(mine: int, other: int) -> list[list[int]]:
        return [[m - o for m, o in zip(costs(mine, k), costs(other, k), strict=True)] for k in (0, 1)]

    def beats(other: int, mine: int) -> bool:
        sums = [sum(each) for each in differences(mine, other)]
        return min(sums) >= 0 and max(sums) > 0

    front = [p for p in points if not any(beats(other, p) for other in points)]
    standing: dict[int, tuple[str, int | None]] = {}
    for mine in points:
        sure = [other for other in front if beats(other, mine) and all(map(beyond, differences(mine, other)))]
        said = "dominated" if sure else "not dominated" if mine in front else "not told apart"
        standing[mine] = said, min(sure) if sure else None
    found = rows(lake, "SELECT point, standing, dominated_by, on_front FROM sweep_pareto")
    assert {row["point"]: (row["standing"], row["dominated_by"]) for row in found} == standing
    assert {row["on_front"] for row in found if row["standing"] == "not dominated"} == {True}
    assert {said for said, _ in standing.values()} == {"dominated", "not told apart", "not dominated"}
    shown = rows(lake, "SELECT point, mean, half_width FROM sweep_points WHERE measure = 'bad_debt'")
    all_of = [statistics.mean(values[p, "frozen", w][0] for p in points) for w in windows]
    for row in shown:
        own = costs(row["point"], 0)
        half = stats.t.ppf(0.975, 3) * statistics.stdev(m - o for m, o in zip(own, all_of, strict=True)) / 2
        assert [row["mean"], row["half_width"]] == pytest.approx([statistics.mean(own), half])


@pytest.mark.slow
def test_a_single_window_tells_no_set_to_be_dominated(lake: Lake) -> None:
    made_up(lake, {(0, "frozen", "w"): (1, 9), (1, "frozen", "w"): (5, 3)}, ["w"])
    found = rows(lake, "SELECT point, standing, on_front FROM sweep_pareto ORDER BY point")
    assert [(row["standing"], row["on_front"]) for row in found] == [("not dominated", True), ("not told apart", False)]
    assert "a single window does not show how much differences vary" in " ".join(find_sweep(lake, "s").remarks)


def ranks(values: list[int]) -> list[float]:
    return [float(each) for each in stats.rankdata(values)]


@pytest.mark.slow
def test_words_and_users_are_axes_of_sensitivities(lake: Lake) -> None:
    draw = random.Random(8)
    keys = [(p, users, "w") for p in range(10) for users in ("frozen", "same-ltv")]
    values = {key: (draw.randrange(9) + 4 * (key[0] % 2) + 2 * (key[1] == "frozen"), 0) for key in keys}
    del values[9, "same-ltv", "w"]  # lacks a response: no part of what is over all of them
    made_up(lake, values, ["w"])
    found = {
        (row["axis"], row["response"]): row
        for row in rows(lake, "SELECT * FROM sweep_sensitivity WHERE measure = 'bad_debt'")
    }
    assert set(found) == {("mood", "frozen"), ("mood", "same-ltv"), ("mood", "all"), ("users", "all")}
    whole = {key: bad for key, (bad, _) in values.items() if key[0] != 9}
    for (axis, response), row in found.items():
        own = whole if response == "all" else {key: bad for key, (bad, _) in values.items() if key[1] == response}
        level = {key: key[1] if axis == "users" else ("calm", "wild")[key[0] % 2] for key in own}
        ranked = dict(zip(own, ranks(list(own.values())), strict=True))
        middle = statistics.mean(ranked.values())
        groups = {word: [key for key in own if level[key] == word] for word in set(level.values())}
        between = sum(len(g) * (statistics.mean(ranked[k] for k in g) - middle) ** 2 for g in groups.values())
        means = {word: statistics.mean(own[key] for key in group) for word, group in groups.items()}
        assert row["points"] == len(own)
        assert row["rank_correlation"] is None
        assert row["rank_share"] == pytest.approx(between / sum((rank - middle) ** 2 for rank in ranked.values()))
        assert row["effect"] == pytest.approx(max(means.values()) - min(means.values()))
        assert (means[row["lowest_value"]], means[row["highest_value"]]) == (min(means.values()), max(means.values()))
    equal = rows(lake, "SELECT rank_share FROM sweep_sensitivity WHERE measure = 'borrowing_power'")
    assert {row["rank_share"] for row in equal} == {None}


@pytest.mark.slow
def test_every_measure_is_that_of_its_view(lake: Lake, tmp_path: Path) -> None:
    """Models as an axis of words, and every measure there is as an objective."""
    base, axes = with_axes(BASE, ["liquidators.kind=competitive,participation", "WETH.liquidation_bonus=10500,10800"])
    asked = {measure: way or "max" for measure, way in MEASURES.items()}
    ran = sweep(lake, "sketch", Sweep(scenario=base, axes=axes, objectives=asked))  # type: ignore[arg-type]
    assert ran.failed == ()
    runs = {row["run_id"]: row for row in rows(lake, "SELECT * FROM run_summary")}
    sides = {row["run_id"]: row for row in rows(lake, "SELECT * FROM sweep_liquidators")}
    found: dict[str, dict[str, Any]] = {}
    for row in rows(lake, "SELECT * FROM sweep_measures"):
        found.setdefault(row["run_id"], {})[row["measure"]] = row
    assert len(found) == 4
    for run_id, measures in found.items():
        told = {**runs[run_id], **sides[run_id]}
        numbers = {name.removesuffix("_base") for name, value in told.items() if not isinstance(value, str | None)}
        assert set(measures) - {"borrowing_power"} == numbers - {"point", "held_out"}
        for measure, row in measures.items():
            value = told.get(f"{measure}_base" if row["unit"] == "base" else measure)
            if measure != "borrowing_power":
                assert int(row["amount"]) == round(value * (10_000 if row["unit"] == "bps" else 1)), measure
            assert row["cost"] == (-row["amount"] if asked[measure] == "max" else row["amount"])
    assert set(MEASURES) == set(report.MEASURES) == {m for each in found.values() for m in each}
    words = rows(lake, "SELECT * FROM sweep_sensitivity WHERE axis = 'liquidators.kind' AND measure = 'missed_debt'")
    assert words[0]["rank_correlation"] is None

    view = find_sweep(lake, ran.sweep_id)
    text = as_text(view)
    assert "2 sets have no share of zero bids in some window" in text  # nobody bids where all compete
    assert "not held against history" in text
    write_sweep_report(lake, ran.sweep_id, tmp_path / "page.html")
    assert "liquidators.kind" in (tmp_path / "page.html").read_text()
