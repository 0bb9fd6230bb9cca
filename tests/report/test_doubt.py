"""Where the doubt about an effect comes from: by hand, and as laws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.report.doubt import PairedRuns, PartedDoubt, doubts_of, mean_of
from backtest.report.verdict import intervals

ONE = ["repaid"]


def pair(draw: int, seed: int, effect: int, weight: float = 1.0, account: str = "a") -> PairedRuns:
    """One account that the proposal changes by so much."""
    return PairedRuns(draw, weight, seed, {account: {"repaid": 1000 + effect}}, {account: {"repaid": 1000}}, {})


def doubt(pairs: Sequence[PairedRuns], *, random: bool = True, population: int = 50) -> PartedDoubt:
    return doubts_of(pairs, ONE, population=population, seed=3, random=random)["repaid"]


def test_the_mean_weighs_draws_and_not_their_seeds() -> None:
    """Draw 1 (weight 3) says 10 and 20, draw 2 (weight 1) says 55: 3/4 of 15 and 1/4 of 55 are 25."""
    pairs = [pair(1, 0, 10, 3), pair(1, 1, 20, 3), pair(2, 0, 55, 1)]
    assert mean_of(pairs, [10, 20, 55]) == 25
    assert mean_of(pairs[:1], [10**37 + 1]) == 10**37 + 1  # exact where there is one


def test_the_models_doubt_is_what_draws_differ_by() -> None:
    """Ten draws of equal weight: their outer quantiles at 95 % are the least and the largest; one of next to no weight
    is none.
    """
    pairs = [pair(draw, 0, 10 * draw) for draw in range(1, 11)]
    assert doubt(pairs, random=False).model == (10, 100)
    pairs.append(pair(11, 0, 10**6, weight=1e-3))
    assert doubt(pairs, random=False).model == (10, 100)
    assert doubt(pairs[:1]).model is None


def test_the_doubt_of_chance_is_students_t_by_hand() -> None:
    """Seeds say 10 and 14: mean 12, variance 8, error 2; t of one degree of freedom is 12.706: 12 ± 25.41. Two draws of
    equal weight with those seeds have two degrees (4.303) and an error of sqrt(2): ± 6.09.
    """
    assert doubt([pair(1, 0, 10), pair(1, 1, 14)]).chance == (-14, 38)
    twice = [pair(draw, seed, 10 + 4 * seed) for draw in (1, 2) for seed in (0, 1)]
    assert doubt(twice).chance == (math.floor(12 - 6.09), math.ceil(12 + 6.09))
    assert doubt([pair(1, 0, 10)]).chance is None  # one seed says nothing
    silent = doubt([pair(1, 0, 10)], random=False)
    assert (silent.chance, silent.random) == (None, False)


def test_one_pair_has_the_interval_of_compare() -> None:
    one = {f"{n}": {"repaid": n * n} for n in range(20)}
    pairs = [PairedRuns(0, 1.0, 0, one, {}, {})]
    found = doubts_of(pairs, ONE, population=100, seed=7, random=False)["repaid"]
    assert found.all == found.accounts == intervals(one, {}, population=100, seed=7)["repaid"]


def test_what_is_not_by_account_has_no_doubt_of_accounts() -> None:
    pairs = [PairedRuns(draw, 1.0, 0, {}, {}, {"repaid": 10 * draw}) for draw in range(1, 4)]
    found = doubt(pairs, random=False)
    assert (found.accounts, found.model, found.all) == (None, (10, 30), (10, 30))


def test_no_difference_has_no_doubt() -> None:
    pairs = [pair(draw, seed, 0) for draw in (1, 2) for seed in (0, 1)]
    assert doubt(pairs) == PartedDoubt((0, 0), (0, 0), (0, 0), (0, 0))


def test_a_population_smaller_than_its_accounts_is_an_error() -> None:
    pairs = [PairedRuns(0, 1.0, 0, {"a": {"repaid": 1}, "b": {"repaid": 1}}, {}, {})]
    with pytest.raises(ValueError, match="a population of 1 holds 2 accounts"):
        doubt(pairs, population=1)


EFFECTS = st.lists(st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=2), min_size=2, max_size=5)


@settings(max_examples=15, deadline=None)
@given(EFFECTS)
def test_all_doubts_together_hold_each_of_accounts_and_model(effects: list[list[int]]) -> None:
    """Many accounts that all do the same leave accounts next to no part; draws that say the same leave the model
    none."""
    pairs = [pair(draw, seed, own[seed]) for draw, own in enumerate(effects) for seed in (0, 1)]
    found = doubt(pairs)
    mean = sum(map(sum, effects)) / (2 * len(effects))
    assert found.model is not None
    assert found.model[0] <= mean <= found.model[1]
    assert found.all[0] <= found.all[1]
    assert doubt(pairs) == found  # the same question, the same interval
    mirrored = doubt([pair(one.draw, one.seed, -effects[one.draw][one.seed]) for one in pairs])
    assert mirrored.model == (-found.model[1], -found.model[0])
