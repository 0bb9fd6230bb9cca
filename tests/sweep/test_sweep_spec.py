"""Sweeps as values: strict files, axes and their levels, designs, windows, plans and ids."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backtest.errors import ScenarioError
from backtest.scenario import Competitive, Override, Scenario
from backtest.sweep.design import points_of
from backtest.sweep.plan import Plan, plan_of
from backtest.sweep.spec import Axis, Sweep, Window, at, parse_sweep, with_axes
from tests.support.sketch_history import liquidated_history

BASE = Scenario(name="base", liquidators=Competitive(), overrides=(Override(parameter="ltv", asset="ETH", value=5000),))
LTV = Axis(field="overrides[0].value", name="ltv", values=(5000, 6000))
GAS = Axis(field="liquidators.gas_cost", from_=0, to=10, step=5)
FILE = """
name = "ltv by gas"
design = "sobol"
points = 4
responses = ["frozen", "same-ltv"]

[scenario.liquidators]
kind = "competitive"

[[scenario.overrides]]
parameter = "ltv"
asset = "ETH"
value = 5000

[[axes]]
field = "overrides[0].value"
from = 5000
to = 6000
step = 500

[[axes]]
field = ["liquidators.gas_cost", "seed"]
values = [0, 5]

[[windows]]
name = "first"
to_block = 5

[[windows]]
name = "second"
from_block = 6
held_out = true

[objectives]
repaid = "max"
"""


def plan(sweep: Sweep, digest: str = "d") -> Plan:
    return plan_of(sweep, "sketch", digest, liquidated_history().timeline())


def test_a_file_says_what_options_say() -> None:
    read = parse_sweep(FILE, "sweep.toml")
    assert (read.name, read.design, read.points, read.objectives) == ("ltv by gas", "sobol", 4, {"repaid": "max"})
    assert list(read.axes[0].levels) == [5000, 5500, 6000]
    assert read.axes[1].label == "liquidators.gas_cost & seed"
    assert read.windows[1] == Window(name="second", from_block=6, held_out=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('design = "sobol"', 'desing = "sobol"', "sweep.toml: unknown field 'desing'; did you mean 'design'?"),
        ("step = 500", "stp = 500", "unknown field 'axes[0].stp'; did you mean 'step'?"),
        ("from = 5000", "from_ = 5000", "unknown field 'axes[0].from_'; did you mean 'from'?"),
        ('parameter = "ltv"', 'parameter = "ltw"', "unknown parameter 'ltw' in an override; did you mean 'ltv'?"),
        (
            'kind = "competitive"',
            'kind = "competitiv"',
            "unknown liquidators 'competitiv'; did you mean 'competitive'?",
        ),
        ("held_out = true", "heldout = true", "did you mean 'held_out'?"),
        ("points = 4", "points = 6", "points = 6; give 1 or more; of a Sobol design a power of two"),
        ("points = 4", "", "design = 'sobol' without points"),
        ('"same-ltv"]', '"same-lvt"]', "unknown response 'same-lvt'; did you mean 'same-ltv'?"),
        ("repaid =", "repayed =", "unknown measure 'repayed' in objectives; did you mean 'repaid'?"),
        ("to = 6000", "to = 4000", "axis overrides[0].value: no range of whole numbers"),
        ("to = 6000", "values = [1]\nto = 6000", "both values and a range"),
        ("values = [0, 5]", "values = [5, 5]", "a value appears twice"),
        ('name = "second"', 'name = "first"', "two of the same window"),
        ("to_block = 5", "to_block = 5\nto_time = '2020-01-01'", "window first: to_block and to_time together"),
        ("to_block = 5", "held_out = true", "every window is held out"),
        ('field = "overrides[0].value"', 'field = "overrides[0]..value"', "is no path of a field"),
    ],
)
def test_mistakes_in_a_file_are_named(old: str, new: str, said: str) -> None:
    assert old in FILE
    with pytest.raises(ScenarioError) as caught:
        parse_sweep(FILE.replace(old, new, 1), "sweep.toml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("liquidators.gas_cots", 1, "unknown field 'liquidators.gas_cots'; did you mean 'gas_cost'?"),
        ("liquidator.gas_cost", 1, "unknown field 'liquidator'; did you mean 'liquidators'?"),
        (
            "overrides[1].value",
            1,
            "axis overrides[1].value: the base scenario has 1 of overrides; give it there first; the first is [0]",
        ),
        ("overrides.value", 1, "the base scenario has 1 of overrides"),
        ("seed.more", 1, "seed holds no fields"),
        ("liquidators.gas_cost", "much", "liquidators.gas_cost: Expected `int`, got `str`"),
        ("users.response", "angry", "users.response: Invalid enum value 'angry'"),
    ],
)
def test_an_axis_over_no_field_ends_the_sweep_before_it_starts(path: str, value: Any, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        plan(Sweep(axes=(Axis(field=path, values=(value,)),), scenario=BASE))
    assert said in str(caught.value)


def test_axes_set_fields_together_and_nothing_else() -> None:
    both = Axis(field=("overrides[0].value", "seed"), values=(7,))
    assert at(BASE, [(both, 7)]) == replace(BASE, seed=7, overrides=(replace(BASE.overrides[0], value=7),))


def test_axes_as_options_add_overrides_or_vary_fields() -> None:
    base, axes = with_axes(
        BASE,
        [
            "WETH.ltv=7000..8000/500",
            "liquidation_bonus-=0,100",
            "liquidators.gas_cost=1,2",
            "users.response=frozen,same-ltv",
        ],
    )
    assert [(axis.label, axis.paths, list(axis.levels)) for axis in axes] == [
        ("WETH.ltv", ("overrides[1].value",), [7000, 7500, 8000]),
        ("liquidation_bonus change", ("overrides[2].change",), [0, -100]),
        ("liquidators.gas_cost", ("liquidators.gas_cost",), [1, 2]),
        ("users.response", ("users.response",), ["frozen", "same-ltv"]),
    ]
    assert base.overrides[1:] == (
        Override(parameter="ltv", asset="WETH", value=7000),
        Override(parameter="liquidation_bonus", change=0),
    )
    for text in ("WETH.ltv", "=5", "ltv="):
        with pytest.raises(ScenarioError, match="is not understood"):
            with_axes(BASE, [text])


def test_a_grid_is_every_combination_in_order() -> None:
    assert points_of(Sweep(axes=(LTV, GAS), scenario=BASE)) == [(i, j) for i in range(2) for j in range(3)]
    with pytest.raises(ScenarioError, match=r"100,001 points; at most 100,000: take fewer levels"):
        points_of(Sweep(axes=(Axis(field="seed", from_=0, to=100_000),), scenario=BASE))


@settings(deadline=None)  # the first call imports scipy
@given(
    st.sampled_from(["random", "latin-hypercube", "sobol"]),
    st.integers(0, 2**63 - 1),
    st.integers(0, 6),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
def test_drawn_points_are_levels_each_once_and_the_same_again(
    design: Any, seed: int, power: int, sizes: list[int]
) -> None:
    axes = tuple(
        Axis(field="seed", name=str(i), from_=100, to=100 + 7 * (size - 1), step=7) for i, size in enumerate(sizes)
    )
    sweep = Sweep(axes=axes, design=design, points=2**power, seed=seed, scenario=BASE)
    points = points_of(sweep)
    assert points == points_of(sweep)
    assert len(set(points)) == len(points) <= 2**power
    assert all(0 <= place < size for point in points for place, size in zip(point, sizes, strict=True))


@pytest.mark.parametrize("design", ["latin-hypercube", "sobol"])
def test_space_filling_designs_meet_each_level_equally_often(design: Any) -> None:
    axes = tuple(Axis(field="seed", name=str(i), from_=0, to=15) for i in range(2))
    counts = [0, 0]
    for seed in range(5):
        points = points_of(Sweep(axes=axes, design=design, points=16, seed=seed, scenario=BASE))
        assert len(points) == 16
        for axis in range(2):
            counts[axis] += set(Counter(point[axis] for point in points).values()) == {1}
    assert counts == [5, 5]
    assert points_of(Sweep(axes=axes, design=design, points=16, seed=1, scenario=BASE)) != points


def test_a_plan_crosses_points_responses_and_windows_and_adds_baselines() -> None:
    windows = (Window(name="one", to_block=5), Window(name="two", from_block=6))
    made = plan(Sweep(axes=(LTV, GAS), scenario=BASE, windows=windows, responses=("frozen", "same-ltv")))
    assert len(made.points) == 6
    scenarios = [row for row in made.rows if row.point is not None]
    assert len(scenarios) == 6 * 2 * 2
    assert [row.ordinal for row in made.rows] == list(range(len(made.rows)))
    # a baseline per gas cost, response and window
    assert len(made.rows) - len(scenarios) == 3 * 2 * 2
    assert len(made.scenarios) == len(made.rows)
    two = [
        made.scenarios[row.run_id] for row in made.rows if row.window == "two" and row.point is not None and row.run_id
    ]
    assert {scenario.overrides[0].from_block for scenario in two} == {6}  # changes hold from the window's start
    assert all(not made.scenarios[row.run_id].overrides for row in made.rows if row.point is None and row.run_id)


def test_an_override_with_a_moment_of_its_own_keeps_it() -> None:
    base = replace(BASE, overrides=(replace(BASE.overrides[0], from_block=3),))
    made = plan(Sweep(axes=(LTV,), scenario=base, windows=(Window(name="w", from_block=6),)))
    assert {o.from_block for s in made.scenarios.values() for o in s.overrides} == {3}


def test_the_response_is_no_parameter_of_a_point() -> None:
    response = Axis(field="users.response", values=("frozen", "same-health"))
    made = plan(Sweep(axes=(LTV, response), scenario=BASE))
    assert made.points == ({"ltv": 5000}, {"ltv": 6000})
    assert [(row.point, row.response) for row in made.rows if row.point is not None] == [
        (p, r) for p in (0, 1) for r in ("frozen", "same-health")
    ]
    with pytest.raises(ScenarioError, match=r"responses and an axis users\.response together"):
        Sweep(axes=(response,), scenario=BASE, responses=("frozen",))


def test_a_scenario_that_makes_no_sense_is_planned_with_its_reason() -> None:
    made = plan(Sweep(axes=(Axis(field="overrides[0].value", values=(5000, 10_001)),), scenario=BASE))
    (bad,) = [row for row in made.rows if row.run_id is None]
    assert (bad.point, bad.response) == (1, "frozen")
    assert bad.error is not None
    assert "ltv = 10001 is out of range" in bad.error


def test_windows_by_time_become_blocks() -> None:
    history = liquidated_history().timeline()
    made = plan(
        Sweep(
            axes=(LTV,),
            scenario=BASE,
            windows=(Window(name="w", from_time="1970-01-01T00:01:00", to_time="1970-01-01T00:02:00"),),
        )
    )
    (window,) = made.windows
    assert (window.from_block, window.to_block) == (history.block_from(60), history.block_before(120))
    for bad, said in (
        (Window(name="w", to_time="2030-01-01"), "outside the history"),
        (Window(name="w", from_block=90), "window w is empty: it starts at block 90"),
    ):
        with pytest.raises(ScenarioError, match=said):
            plan(Sweep(axes=(LTV,), scenario=BASE, windows=(bad,)))


def test_the_id_depends_on_all_that_decides_and_on_no_name() -> None:
    sweep = Sweep(axes=(LTV,), scenario=BASE)
    same = plan(sweep).sweep_id
    assert plan(replace(sweep, name="other", scenario=replace(BASE, name="other"))).sweep_id == same
    others = [
        plan(sweep, "another digest"),
        plan(replace(sweep, axes=(replace(LTV, values=(5000, 6001)),))),
        plan(replace(sweep, scenario=replace(BASE, seed=1))),
        plan(replace(sweep, responses=("same-ltv",))),
        plan(replace(sweep, windows=(Window(name="w", held_out=False),))),
        plan(replace(sweep, objectives={"repaid": "max"})),
    ]
    assert len({same, *(made.sweep_id for made in others)}) == 1 + len(others)
