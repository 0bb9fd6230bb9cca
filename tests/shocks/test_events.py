"""Each event by hand, on a grid of one step of 300 s."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backtest.errors import ScenarioError
from backtest.shocks import StressCase, StressPath, Suite, parse_suite
from backtest.shocks.draws import stream
from backtest.shocks.events import (
    BridgeLoss,
    Congestion,
    MarketPause,
    OracleFault,
    PegBreak,
    SequencerOutage,
    SuppliersExit,
    WhaleExit,
    Worthless,
)
from backtest.shocks.models import Filtered, NamedCrash, Recorded, Sigmas
from backtest.shocks.panel import columns, panel_of
from backtest.shocks.suite import Follow, fits_of
from tests.support.made_up_prices import STEP, panel

FLAT = panel(np.zeros((10, 2)), ("WETH", "wstETH"))
NAN = float("nan")


def after(*events: Any, steps: int = 6, market: list[float] | None = None) -> StressPath:
    path = StressPath.still(steps, 2)
    if market is not None:
        path.market[:, 1] = path.oracle[:, 1] = market
    for place, event in enumerate(events):
        event.happen(path, FLAT, stream(1, str(place), 0))
    return path


def test_a_peg_breaks_in_a_straight_line_of_logarithms_and_comes_back_by_halves() -> None:
    event = PegBreak(assets=("wstETH",), to=(8_100, 8_100), at=(300, 300), lasts=(600, 600), half_life=300)
    path = after(event)
    # at 600 s half of the way: sqrt(0.81); at 900 s all; then half of the logarithm, a quarter ...
    assert path.market[:, 1] == pytest.approx([1, 0.9, 0.81, 0.9, 0.9**0.5, 0.9**0.25])
    assert path.oracle[:, 1] == pytest.approx(path.market[:, 1])
    assert (path.market[:, 0] == 1).all()
    hard = after(PegBreak(assets=("wstETH",), to=(8_100, 8_100), lasts=(600, 600), at=(0, 0), oracle="hard-coded"))
    assert hard.market[:3, 1] == pytest.approx([0.9, 0.81, 0.81])
    assert (hard.oracle == 1).all()


FALLING = [0.9, 0.8, 0.7, 0.6, 0.7, 0.8]


@pytest.mark.parametrize(
    ("kind", "level", "told"),
    [
        ("misprint", 13_000, [0.9, 1.04, 0.91, 0.6, 0.7, 0.8]),
        ("stale", 10_000, [0.9, 0.9, 0.9, 0.6, 0.7, 0.8]),
        ("capped", 7_500, [0.9, 0.75, 0.7, 0.6, 0.7, 0.8]),
        ("floor", 7_500, [0.9, 0.8, 0.75, 0.6, 0.7, 0.8]),
        ("hard-coded", 10_000, [0.9, 1.0, 1.0, 0.6, 0.7, 0.8]),
    ],
)
def test_oracles_that_are_wrong_from_300_to_900_seconds(kind: Any, level: int, told: list[float]) -> None:
    event = OracleFault(assets=("wstETH",), kind=kind, level=(level, level), at=(300, 300), lasts=(600, 600))
    path = after(event, market=FALLING)
    assert path.said()[:, 1] == pytest.approx(told)
    assert path.market[:, 1] == pytest.approx(FALLING)


def test_collateral_that_is_worth_nothing_and_a_bridge_that_lost() -> None:
    gone = after(Worthless(assets=("wstETH",), at=(600, 600)))
    assert gone.market[:, 1].tolist() == [1, 1, 0, 0, 0, 0]
    assert (gone.oracle == 1).all()
    seen = after(Worthless(assets=("wstETH",), to=(1_000, 1_000), oracle="market"))
    assert seen.oracle[:, 1] == pytest.approx(0.1)
    lost = after(BridgeLoss(assets=("wstETH",), lost=(2_500, 2_500), at=(300, 300)))
    assert lost.market[:, 1] == pytest.approx([1, 0.75, 0.75, 0.75, 0.75, 0.75])
    assert (lost.oracle == 1).all()


@pytest.mark.parametrize("kind", [SequencerOutage, MarketPause])
def test_nothing_happens_while_the_chain_or_the_market_stands(kind: Any) -> None:
    path = after(kind(at=(300, 300), lasts=(600, 600)), market=FALLING)
    assert path.open.tolist() == [True, False, False, True, True, True]
    assert path.said()[:, 1] == pytest.approx([0.9, 0.9, 0.9, 0.6, 0.7, 0.8])


def test_a_whale_sells_into_a_constant_product() -> None:
    path = after(WhaleExit(assets=("WETH",), sold=(10_000, 10_000), lasts=(600, 600), half_life=300))
    # x y = k: who sells s of what a side holds leaves the price at 1 / (1 + s)^2
    assert path.market[:, 0] == pytest.approx([1 / 2.25, 1 / 4, 1 / 2, 1 / 2**0.5, 1 / 2**0.25, 1 / 2**0.125])


def test_suppliers_leave_at_the_step_that_holds_their_time() -> None:
    path = after(
        SuppliersExit(assets=("all",), share=(9_000, 9_000), at=(300, 300)),
        SuppliersExit(assets=("WETH",), share=(500, 500)),
        SuppliersExit(assets=("WETH",), share=(10_000, 10_000), at=(999_999, 999_999)),
    )
    assert path.leaves == [(1, 0, 500), (2, 0, 9_000), (2, 1, 9_000), (6, 0, 10_000)]


def test_suppliers_leave_in_equal_parts() -> None:
    path = after(SuppliersExit(assets=("WETH",), share=(1_000, 1_000), at=(300, 300), lasts=(600, 600)))
    assert path.leaves == [(2, 0, 333), (3, 0, 333), (4, 0, 334)]
    late = after(SuppliersExit(assets=("WETH",), share=(1_000, 1_000), at=(1_500, 1_500), lasts=(9_000, 9_000)))
    assert late.leaves == [(6, 0, 1_000)]


def test_congestion_is_of_its_time() -> None:
    path = after(Congestion(gas=(6, 6), depth=(2_500, 2_500), at=(300, 300), lasts=(300, 300)))
    assert path.gas.tolist() == [1, 6, 1, 1, 1, 1]
    assert path.depth.tolist() == [1, 0.25, 1, 1, 1, 1]


def test_draws_lie_within_their_span_and_reach_both_ends() -> None:
    event = Congestion(gas=(3, 5))
    found = []
    for number in range(200):
        path = StressPath.still(1, 2)
        event.happen(path, FLAT, stream(9, "x", number))
        found.append(path.gas[0])
    assert set(found) == {3.0, 4.0, 5.0}


def test_a_path_depends_on_seed_case_and_number_alone() -> None:
    of = panel(np.random.default_rng(1).normal(0, 0.002, (500, 2)), ("WETH", "wstETH"))
    one = StressCase(name="one", events=(PegBreak(assets=("wstETH",), to=(9_000, 9_900)),))
    suite = Suite(name="s", version=1, cases=(one, StressCase(name="two", prices=Filtered(start="worst"))))
    fits = fits_of(suite.cases, of)

    def drawn(case: StressCase, seed: int, number: int) -> bytes:
        path = case.path(fits[case.name], of, Follow(), seed, number, 50)
        return path.market.tobytes() + path.oracle.tobytes()

    paths = [drawn(one, seed, number) for seed in (0, 1) for number in (0, 1, 2)]
    assert len(set(paths)) == 6
    assert [drawn(one, 0, number) for number in (2, 1, 0)] == paths[2::-1]
    again = StressCase(name="one", prices=Filtered(), events=one.events)
    assert drawn(again, 1, 2) == paths[5]


def test_an_oracle_speaks_by_deviation_or_heartbeat() -> None:
    prices = [1.004, 1.006, 1.010, 1.012, 1.002, 1.002, 1.003, 1.003]
    model = Recorded(
        points=tuple((STEP * place, round(price * 1e6)) for place, price in enumerate(prices, 1)), assets=("all",)
    )
    case = StressCase(name="x", prices=model)
    path = case.path(model.fit(FLAT), FLAT, Follow(deviation=50, heartbeat=900), 0, 0, 8)
    said = [None if np.isnan(price) else round(price, 9) for price in path.oracle[:, 0].tolist()]
    assert path.market[:, 0] == pytest.approx(prices)
    # 1.006 is 60 basis points away; 1.012 is 59 from that; 1.002 is 99 from that; 900 s later the heartbeat
    assert said == [None, 1.006, None, 1.012, 1.002, None, None, 1.003]


def test_sigmas_fall_by_the_datas_own_deviations() -> None:
    draw = np.random.default_rng(4)
    of = panel(draw.normal(0, [0.002, 0.00001], (5_000, 2)), ("WETH", "USDC"))
    model = Sigmas(sigmas=6, seconds=3_600)
    drawn = model.draw(model.fit(of), stream(0, "x", 0), 20).returns
    assert drawn[:12, 0] == pytest.approx(-6 * 0.002 * np.sqrt(12) / 12, rel=0.05)
    assert not drawn[12:].any()
    assert not drawn[:, 1].any()  # steady


def test_recorded_points_hold_until_the_next_and_scale_in_logarithms() -> None:
    model = Recorded(points=((0, 1_000_000), (450, 500_000), (1_200, 640_000)), assets=("WETH",), scale=20_000)
    level = np.exp(np.cumsum(model.draw(model.fit(FLAT), stream(0, "x", 0), 5).returns, axis=0))
    assert level[:, 0] == pytest.approx([1, 0.25, 0.25, 0.64**2, 0.64**2])
    assert (level[:, 1] == 1).all()


def test_a_panel_takes_the_last_price_of_each_point_and_says_what_is_not_known() -> None:
    times = np.array([100, 700, 1_300])
    of = panel_of(
        {"A": (times, np.array([1.0, 2.0, 4.0])), "B": (np.array([1_000]), np.array([5.0]))},
        step=300,
        end=1_500,
        rows=100,
        gas=(np.array([0, 1_000]), np.array([10.0, 30.0])),
        depth=[
            (np.array([0, 1_000]), np.array([4.0, 12.0])),
            (np.array([0, 1_300]), np.array([5.0, 1.0])),
            (np.array([900]), np.array([1.0])),  # not known all along
        ],
    )
    assert len(of) == 4  # of 300, 600 ... 1,500: what lies before the first price is no row
    assert of.returns[:, 0] == pytest.approx(np.log([1, 2, 1, 2]))
    assert of.known.tolist() == [True, False]
    assert not of.returns[:, 1].any()
    assert of.gas == pytest.approx(np.array([10, 10, 30, 30]) / 20)
    assert of.depth == pytest.approx((np.array([4, 4, 12, 12]) / 8 + np.array([5, 5, 5, 1]) / 5) / 2)
    assert columns(of, ("moving",)) == [0]
    assert columns(of, ("steady", "C")) == [1]


HEAD = 'name = "x"\nversion = 1\n'
CASE = HEAD + '[[cases]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "cases = []", "without cases"),
        (HEAD + 'horizon = 1000\n[[cases]]\nname = "a"', "whole number of steps"),
        (CASE + '[[cases]]\nname = "a"', "same name"),
        (CASE + 'events = [{event = "peg-break", assets = ["A"], to = [9, 8]}]', "lower end"),
        (CASE + 'prices = {model = "garch"}', "cases[0].prices.model: unknown 'garch'; known: bootstrap, copula"),
        (
            CASE + 'events = [{event = "peg-brake"}]',
            "cases[0].events[0].event: unknown 'peg-brake'; did you mean 'peg-b",
        ),
        (HEAD + 'cases = "a"', "see docs/stress.md"),
        ("", "suite.toml: Object missing required field `name`; see docs/stress.md"),
        (CASE + 'prices = {model = "filtered", blok = 1}', "blok"),
        (CASE + 'prices = {model = "recorded", points = [[0, 0]]}', "points"),
    ],
    ids=["no-cases", "steps", "twice", "span", "model", "event", "docs", "empty", "field", "points"],
)
def test_a_suite_that_makes_no_sense_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        parse_suite(text, "suite.toml")
    assert said in str(error.value)
    assert "suite.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_every_model_and_event_names_its_source() -> None:
    from backtest.shocks import events, models

    kinds = [*models.AnyModel.__args__, *events.AnyEvent.__args__]
    assert all(len(kind.source) > 10 for kind in kinds)
    assert NamedCrash in kinds


def test_events_that_the_oracle_does_not_see_say_so() -> None:
    """What is lost then is not in losses at the oracle's prices; what the oracle sees, or sees again, is."""
    assert Worthless(assets=("A",)).unseen
    assert not Worthless(assets=("A",), oracle="market").unseen
    assert BridgeLoss(assets=("A",), lost=(3_000, 3_000)).unseen
    assert PegBreak(assets=("A",), to=(9_000, 9_000), oracle="hard-coded").unseen
    assert not PegBreak(assets=("A",), to=(9_000, 9_000)).unseen
    assert OracleFault(assets=("A",), kind="floor").unseen
    assert not OracleFault(assets=("A",), kind="floor", lasts=(60, 60)).unseen
    assert not MarketPause(at=(0, 0), lasts=(60, 60)).unseen
