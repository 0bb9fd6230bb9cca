"""Files of weighted draws: read strictly, errors name the draw, fewer draws stand for many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.calibration.ensemble import ensemble_text
from backtest.errors import ScenarioError
from backtest.paired import said
from backtest.scenario import Competitive, Costs, Participation
from backtest.scenario.ensemble import Draw, Ensemble, FittedOn, parse_ensemble

GOOD = """
title = "crash"
source = "calibrated on crash, blocks 1 to 9, 40 liquidations, seed 0"
fitted = { market = "crash", from_block = 1, to_block = 9 }

[[draw]]
weight = 0.25
liquidators = { kind = "participation", mean = 9000 }

[[draw]]
weight = 3
liquidators = { kind = "competitive" }
costs = { flash_fee = 5 }
"""


def test_an_ensemble_is_read_and_its_weights_are_shares() -> None:
    found = parse_ensemble(GOOD, "e.toml")
    assert (found.title, found.source.split(",")[0]) == ("crash", "calibrated on crash")
    assert [draw.liquidators for draw in found.draw] == [Participation(mean=9000), Competitive()]
    assert [draw.costs for draw in found.draw] == [Costs(), Costs(flash_fee=5)]
    assert found.weights == pytest.approx((1 / 13, 12 / 13))
    [fitted] = found.fitted_on
    blocks = [("crash", 9, 20), ("crash", 10, 20), ("crash", 0, 30), ("other", 1, 9)]
    assert [fitted.shared(*each) for each in blocks] == [1, 0, 9, 0]


def test_what_was_pooled_is_a_list_and_the_file_reads_back() -> None:
    """Blocks of each market are said where that market is asked about, and of another none."""
    pooled = (FittedOn(market="a", from_block=1, to_block=9), FittedOn(market="b", from_block=5, to_block=7))
    text = ensemble_text(["two"], "pooled over a, b", "calibrated", [(1.0, Participation())], Costs(), pooled)
    found = parse_ensemble(text, "e.toml")
    assert found.fitted_on == found.fitted == pooled
    for market, blocks in (("a", 9), ("b", 3), ("c", 0)):
        assert f"{blocks} of the 20 blocks asked about" in said(found, market, (1, 20))
    with pytest.raises(ScenarioError, match="names a market twice"):
        parse_ensemble(text.replace('market = "b"', 'market = "a"'), "e.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mean", "meen", "draw[0]: unknown field 'liquidators.meen'; did you mean 'mean'?"),
        ("mean = 9000", "mean = -1", "draw[0]: liquidators.mean = -1 is negative"),
        ('"competitive"', '"competitve"', "draw[1]: unknown liquidators 'competitve'; did you mean 'competitive'?"),
        ('"competitive"', '"observed"', "draw[1]: unknown liquidators 'observed'; known: competitive,"),
        ('kind = "participation"', 'model = "participation"', "draw[0]: liquidators without their kind; known:"),
        ("weight = 3", "weight = 0", "draw[1]: weight = 0.0 is no weight; give a number above 0"),
        ("weight = 3", "weight = inf", "draw[1]: weight = inf is no weight"),
        ("weight = 3", "weight = nan", "draw[1]: weight = nan is no weight"),
        ("weight = 3", "weight = '3'", "draw[1]: weight: Expected `float`, got `str`"),
        ("weight = 3", "", "draw[1]: Object missing required field `weight`"),
        ("weight = 3", "weigth = 3", "draw[1]: unknown field 'weigth'; did you mean 'weight'?"),
        ("flash_fee = 5", "flash_fee = 99999", "draw[1]: costs.flash_fee = 99999 is no share"),
        ("to_block = 9", "to_block = 0", "fitted: blocks 1 to 0; give a first and a last block"),
        ("to_block = 9", "to = 9", "unknown field 'fitted.to'"),
        ('title = "crash"', 'titel = "crash"', "unknown field 'titel'; did you mean 'title'?"),
        ('title = "crash"', 'title = "a\\u0007b"', "is no name"),
        ("[[draw]]", "[draw", "is not TOML"),
        (GOOD, 'title = "none"', "missing required field `draw`"),
        (GOOD, "draw = []", "0 draws; give 1 to 1,000"),
        (GOOD, "draw = [3]", "draw[0] is no table"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_draw(old: str, new: str, said: str) -> None:
    with pytest.raises(ScenarioError) as found:
        parse_ensemble(GOOD.replace(old, new), "e.toml")
    assert str(found.value).startswith("e.toml")
    assert said in str(found.value)
    assert "\n" not in str(found.value)


@given(st.lists(st.floats(5e-324, 1e308), min_size=1, max_size=30), st.integers(1, 12))
def test_fewer_draws_stand_for_all(weights: list[float], count: int) -> None:
    """Each draw that is kept has its share, to one part in ``count``; the shares of any ensemble sum to one."""
    whole = Ensemble(draw=tuple(Draw(weight=w, liquidators=Competitive(gas_cost=i)) for i, w in enumerate(weights)))
    assert sum(whole.weights) == pytest.approx(1)
    fewer = whole.at_most(count)
    assert len(fewer.draw) <= count or fewer is whole
    assert fewer.at_most(count) == fewer
    kept = {draw.liquidators: share for draw, share in zip(fewer.draw, fewer.weights, strict=True)}
    for draw, share in zip(whole.draw, whole.weights, strict=True):
        assert abs(kept.get(draw.liquidators, 0.0) - share) <= 1 / count + 1e-9
