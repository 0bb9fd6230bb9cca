"""Replays that go on from a common start are the replays from the beginning, and do not touch each other."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.lake import Lake
from backtest.model import Market
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.reconstruct import is_current, reconstruct
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.shortcuts.common_start import start_of
from backtest.replay.timeline import Timeline
from backtest.resources import resource
from backtest.results import load_market, load_material, load_timeline, replayed
from backtest.scenario import Competitive, Observed, Override, Scenario, Users
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.support.random_history import random_history

FROM = 250


def scenario(*overrides: Override, **options: object) -> Scenario:
    return Scenario(liquidators=Competitive(), overrides=overrides, **{"from_block": FROM, **options})  # type: ignore[arg-type]


SCENARIOS = (
    scenario(),
    scenario(Override(parameter="liquidation_threshold", value=8000, asset="WETH", from_block=FROM)),
    scenario(
        Override(parameter="liquidation_bonus", change=200, from_block=FROM),
        Override(parameter="close_factor", value=10_000, from_block=300),
    ),
)


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory) -> tuple[Market, Timeline]:
    folder: Path = tmp_path_factory.mktemp("sample") / "lake"
    shutil.copytree(resource("sample") / "lake", folder)
    lake = Lake(folder)
    if not is_current(lake, "sample-crash"):
        reconstruct(lake, "sample-crash")
        lake.refresh()
    return load_market(lake, "sample-crash"), load_timeline(lake, "sample-crash")


def same(one: Replay[object], other: Replay[object]) -> None:
    for name in (
        "from_clock", "liquidations", "deficits", "totals", "mismatches", "left_out", "events", "refused", "actions",
        "actions_made", "horizons",
        "short_of", "made_liquidatable", "reach", "rules", "overrides",
    ):  # fmt: skip
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.slow
def test_scenarios_from_a_start_are_those_from_the_beginning(crash: tuple[Market, Timeline]) -> None:
    start = start_of(AAVE_V3, *crash, SCENARIOS[0])
    before = deepcopy(start.book.state)
    assert start.liquidations
    for each in (*SCENARIOS, *reversed(SCENARIOS)):
        whole, short = (replay(AAVE_V3, *crash, each, samples=6, start=s) for s in (None, start))
        same(whole, short)
        assert whole.liquidations[len(start.liquidations) :]
        assert whole.book.state == short.book.state
        assert start.book.state == before


def test_a_reenactment_in_short_is_the_whole_one(crash: tuple[Market, Timeline]) -> None:
    one, other = (replay(AAVE_V3, *crash, Scenario(), samples=12, screened=short) for short in (True, False))
    same(one, other)
    assert one.liquidations
    assert one.book.state == other.book.state


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 80))
def test_the_same_on_random_histories(seed: int, block: int) -> None:
    h = random_history(seed)
    timeline = h.timeline()
    block = min(block, timeline.last_block)
    each = scenario(Override(parameter="close_factor", value=9000, from_block=block), from_block=block)
    start = start_of(FixedSpreadPool(), h.market, timeline, each)
    for _ in range(2):
        whole, short = (replay(FixedSpreadPool(), h.market, timeline, each, start=s) for s in (None, start))
        same(whole, short)
        assert whole.book.state.balances == short.book.state.balances


@pytest.mark.parametrize(
    "other",
    [
        scenario(from_block=FROM + 1),
        scenario(Override(parameter="close_factor", value=9000)),
        scenario(users=Users(response="same-ltv")),
        scenario(rates="recomputed"),
        Scenario(liquidators=Observed(), from_block=FROM),
    ],
    ids=["window", "override before it", "users", "rates", "history's liquidators"],
)
def test_what_differs_before_the_window_does_not_go_on(crash: tuple[Market, Timeline], other: Scenario) -> None:
    start = start_of(AAVE_V3, *crash, scenario())
    with pytest.raises(ValueError, match="does not go on"):
        replay(AAVE_V3, *crash, other, start=start)


def test_only_a_model_with_historys_rates_has_a_start(crash: tuple[Market, Timeline]) -> None:
    for other in (Scenario(), scenario(rates="recomputed")):
        with pytest.raises(ValueError, match="no common start"):
            start_of(AAVE_V3, *crash, other)


def test_the_material_of_a_sweep_shares_starts_where_it_may(tmp_path: Path) -> None:
    """One start for scenarios that change nothing before the window; the rows are those of a replay from the
    beginning.
    """
    shutil.copytree(resource("sample") / "lake", tmp_path / "lake")
    material = load_material(Lake(tmp_path / "lake"), "sample-crash")
    baseline, threshold, several = SCENARIOS
    start = material.start(baseline)
    assert start is not None
    assert material.start(threshold) is material.start(several) is start
    for each in (baseline, several):
        whole, short = replayed(material, each, samples=4), replayed(material, each, samples=4, start=start)
        assert whole.tables == short.tables
    early = Override(parameter="liquidation_bonus", change=200, from_block=FROM - 1)
    dated = Override(parameter="liquidation_bonus", change=200, from_time="2020-03-12")
    for other in (
        scenario(early),
        scenario(dated),
        scenario(rates="recomputed"),
        Scenario(liquidators=Competitive()),
        Scenario(from_block=FROM),
    ):
        assert material.start(other) is None
    assert material.start(scenario(users=Users(response="same-ltv"))) is not start
