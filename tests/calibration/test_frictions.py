"""Frictions of liquidators, found again in histories that were made with known ones; and the parts of the inference by
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from backtest.baseline import FitWindow, Packed, _fees_to_cap, _parts, _split
from backtest.calibration import frictions as f
from backtest.calibration import shown as s
from backtest.calibration.ensemble import ensemble_text
from backtest.calibration.fitting import Floats
from backtest.errors import UserError
from backtest.foreign import toml_value
from backtest.replay.competition.gas import BaseFees, fees_within
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import Costs, Gas, Participation, Scenario, Slippage
from backtest.scenario.toml import parse_scenario
from tests.sketches.history import USD
from tests.support.contest_history import POOL, falling

PRIORS = f.priors_of(500.0, 8_000.0)
HISTORY = falling(20, steps=12, each=60)
TIMELINE = HISTORY.timeline()


def shown(liquidators: Participation, seed: int) -> s.Shown:
    """What a replay of a small market shows."""
    outcome: Replay[Any] = replay(POOL, HISTORY.market, TIMELINE, Scenario(liquidators=liquidators, seed=seed))
    return s.shown(outcome.liquidations, s.stretches_in(outcome.spells), outcome.horizons[0], unit=USD)


def measured(what: str, draws: Sequence[f.Draw], before: int) -> Floats:
    return np.array([s.vector(shown(f.model_of(one, unit=USD), before + at)) for at, one in enumerate(draws)])


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.05, 0.3])
def test_attention_is_found_again(truth: float) -> None:
    """The kept draws cover it and are narrower than the prior; what made no difference stays wide."""
    seen = s.vector(shown(Participation(mean=round(truth * 10_000)), 1_000_003))
    found = f.infer(PRIORS, seen, measured, draws=90, kept=12, seed=4)
    by_name = {one.prior.name: one for one in f.known(PRIORS, found.kept)}
    attention = by_name["attention"]
    assert attention.points is not None
    assert attention.points[0] <= truth <= attention.points[2]
    assert attention.left < 0.75
    assert attention.verdict != "cannot tell"
    assert by_name["capital"].left > attention.left
    again = f.infer(PRIORS, seen, measured, draws=90, kept=12, seed=4)
    assert again.kept.draws == found.kept.draws
    assert again.kept.weights.tolist() == found.kept.weights.tolist()


def test_the_nth_draw_does_not_depend_on_how_many_there_are() -> None:
    assert f.first_draws(PRIORS, 7, 20)[:5] == f.first_draws(PRIORS, 7, 5)
    assert f.first_draws(PRIORS, 7, 5) != f.first_draws(PRIORS, 8, 5)


def test_draws_of_the_prior_lie_within_it_and_are_spread() -> None:
    draws = f.first_draws(PRIORS, 1, 400)
    for prior in PRIORS:
        values = [draw[prior.name] for draw in draws]
        if prior.choices:
            assert set(values) == set(prior.choices)
            continue
        there = [prior.place(value) for value in values if value]
        assert 0 <= min(there) < 0.1 < 0.9 < max(there) <= 1
        assert abs(values.count(0.0) / len(values) - prior.none) < 0.1


def test_weights_undo_how_draws_were_drawn() -> None:
    """Of draws two thirds of which lie around kept ones, the weighted ones are spread as the prior is."""
    first = f.first_draws(PRIORS, 2, 1_000)
    vectors = np.array([[np.log(one["attention"]), one["strategy"] == "patient"] for one in first], float)
    kept = f.keep(first, vectors, np.array([0.0, 1.0]), np.ones(2), 20, np.ones(len(first)))
    more = f.next_draws(PRIORS, kept, 2, 2_000)
    every = [*first, *more]
    weights = f.undone(PRIORS, every, kept, 2 / 3)
    weights /= weights.sum()
    for name, tolerance in (("attention", 0.06), ("searchers", 0.06), ("capital", 0.09)):
        prior = next(one for one in PRIORS if one.name == name)
        there = np.array([bool(one[name]) for one in every])
        assert weights[~there].sum() == pytest.approx(prior.none, abs=tolerance)
        places = np.array([prior.place(one[name]) if one[name] else 0.0 for one in every])
        assert weights[there & (places < 0.5)].sum() == pytest.approx((1 - prior.none) / 2, abs=tolerance)
    patient = np.array([one["strategy"] == "patient" for one in every])
    assert weights[patient].sum() == pytest.approx(1 / 3, abs=0.09)
    assert patient[len(first) :].mean() > 0.6  # they do lie around the kept ones


def test_a_cap_on_the_base_fee_is_fitted_where_there_is_one_to_be_above() -> None:
    """Between the median and the highest; and the model is told in wei."""
    prior = f.priors_of(500.0, 8_000.0, (20.0, 400.0))[-1]
    assert (prior.name, prior.low, prior.high) == ("gas_cap", 20.0, 400.0)
    assert "gas_cap" not in {each.name for each in PRIORS}
    draw = f.first_draws(PRIORS, 0, 1)[0]
    assert {each.gas_cap for each in f.model_of({**draw, "gas_cap": 37.5}, unit=USD).each} == {37_500_000_000}
    assert {each.gas_cap for each in f.model_of({**draw, "gas_cap": 0.0}, unit=USD).each} == {None}


def test_base_fees_of_the_blocks_learnt_from_bound_the_cap_or_say_why_there_is_none() -> None:
    gwei = 10**9
    seen = s.Shown(**dict.fromkeys(s.NAMES, 1.0))
    packed, gas = Packed("made up", "", 1), Scenario(costs=Costs(gas=Gas()))

    def asked(*fees: int) -> tuple[tuple[float, float] | None, str]:
        windows = [FitWindow(packed, 0, 9, 0, 120, seen, seen, (), 1, part) for part in (fees[:2], fees[2:])]
        return _fees_to_cap(windows, gas)

    assert asked(10 * gwei, 30 * gwei, 20 * gwei, 90 * gwei) == ((25.0, 90.0), "")
    assert asked(0, 0, 0, 90 * gwei, 30 * gwei) == ((30.0, 90.0), "")  # none is below the lowest that is one
    assert asked(0, 0, 0)[1] == "no base fee above zero is known in the blocks learnt from"
    assert "never rises above its median of 30 gwei" in asked(30 * gwei, 30 * gwei, 5 * gwei)[1]
    assert _fees_to_cap([], Scenario())[1].startswith("gas costs nothing")


def test_base_fees_that_hold_one_after_the_other() -> None:
    history, market = BaseFees([0, 100, 200, 300], [5, 7, 9, 11]), HISTORY.market
    assert fees_within(Gas(), market, history, 150, 299) == (7, 9)
    assert fees_within(Gas(), market, history, 100, 300) == (7, 9, 11)
    assert fees_within(Gas(fee="constant", base_fee=3), market, history, 100, 300) == (3,)
    spike = Gas(spike=2, spike_from="1970-01-01T00:02:00", spike_until="1970-01-01T00:04:00")
    assert fees_within(spike, market, history, 150, 299) == (14, 18, 9)
    assert fees_within(None, market, history, 100, 300) == ()


def test_a_stopped_draw_is_never_kept_and_too_many_are_refused() -> None:
    draws = f.first_draws(PRIORS, 0, 6)
    vectors = np.array([[np.nan], [3.0], [1.0], [np.nan], [2.0], [0.0]])
    kept = f.keep(draws, vectors, np.zeros(1), np.ones(1), 5, np.ones(6))
    assert kept.index == (5, 2, 4, 1)
    assert kept.weights.sum() == pytest.approx(1)
    assert sorted(kept.weights, reverse=True) == kept.weights.tolist()

    def stopped(what: str, tried: Sequence[f.Draw], before: int) -> Floats:
        return np.full((len(tried), 1), np.nan)

    with pytest.raises(UserError, match="6 of 6 draws were stopped"):
        f.infer(PRIORS, np.zeros(1), stopped, draws=9, kept=3, seed=0)


def test_an_ensemble_reads_back_through_the_strict_scenario() -> None:
    models = [f.model_of(draw, unit=USD) for draw in f.first_draws(PRIORS, 5, 12)]
    costs = Costs(gas=Gas(fee="constant", base_fee=30 * 10**9), flash_fee=5, slippage=(Slippage(model="none"),))
    text = ensemble_text(["made up"], 'a "market"', "a test", [(1 / 12, model) for model in models], costs)
    read = toml_value(text)
    assert (read["title"], read["source"]) == ('a "market"', "a test")
    assert sum(one["weight"] for one in read["draw"]) == pytest.approx(1, abs=1e-4)
    parts = text.split("[[draw]]\n")[1:]
    scenarios = [parse_scenario(part.partition("\n")[2], "a draw") for part in parts]
    assert [one.liquidators for one in scenarios] == models
    assert {one.costs for one in scenarios} == {costs}


def test_a_forecast_is_as_sure_as_its_errors_before() -> None:
    """By hand: after one error of 2 a Cauchy of scale 2; after two, 3 and 4, Student's t of two degrees of freedom and
    scale sqrt(12.5). Beyond that, who was right before and is wrong now loses more than who was wrong all the time.
    """
    one, zero = np.ones(1), np.zeros(1)
    assert f.log_scores(np.zeros((1, 1)), one, zero, np.array([[2.0]]))[0] == pytest.approx(-np.log(2 * np.pi))
    two = f.log_scores(np.zeros((1, 1)), one, zero, np.array([[3.0], [4.0]]))[0]
    assert two == pytest.approx(-np.log(2 * np.sqrt(2) * np.sqrt(12.5)))
    mixed = f.log_scores(np.array([[0.0], [2.0]]), np.array([0.25, 0.75]), zero, np.array([[2.0]]))[0]
    assert mixed == pytest.approx(np.log((0.25 + 0.75 / 2) / (2 * np.pi)))
    sure, humble = (f.log_scores(np.full((1, 1), 3.0), one, zero, np.array([[past]]))[0] for past in (0.1, 3.0))
    assert sure < humble


def test_what_is_held_out_is_cut_where_as_many_liquidations_lie() -> None:
    """Parts follow each other without a gap; blocks with many at once are not cut; few liquidations are one part."""
    assert _parts(10, 99, [*range(20, 35)]) == [(10, 24), (25, 29), (30, 99)]
    assert _parts(10, 99, [20] * 15) == [(10, 99)]
    assert _parts(10, 99, [20] * 4 + [50] * 5) == [(10, 99)]
    assert _parts(10, 99, [20] * 6 + [99] * 6) == [(10, 20), (21, 99)]


def test_fewer_may_be_held_out_than_are_learnt_from() -> None:
    """Ten to learn from and five to be held against; a date (a block) or a share, one less of either is refused."""
    blocks = [*range(20, 35)]
    assert _split(10, 99, blocks, 30) == (10, 29, 99)
    assert _split(10, 99, blocks, 0.66) == (10, 29, 99)
    for split in (29, 31, 0.5):
        with pytest.raises(UserError, match="the part learnt from needs 10 or more and the part held out 5"):
            _split(10, 99, blocks, split)
