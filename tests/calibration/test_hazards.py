"""Hazards found again in rows that were drawn with known ones; and a kind that nothing tells stays at its base rate."""

from __future__ import annotations

import numpy as np
import pytest

from backtest.calibration.hazards import Steps, fit, log_scores, logistic, logit, steps_of
from backtest.errors import UserError
from backtest.scenario import ACTS
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.support.random_history import random_history

TRUE = np.array([-4.0, 1.5, 2.0, 0.1, 0.3, 0.5])


def drawn(seed: int, rows: int = 40_000) -> Steps:
    """Borrowers who repay by ``TRUE`` and top up whatever their health; nobody else does anything."""
    draw = np.random.default_rng(seed)
    near, size, move = draw.uniform(0, 1.2, rows), draw.uniform(0, 12, rows), draw.exponential(1.0, rows)
    terms = np.stack([np.ones(rows), near, near**2, size, move, near * move], axis=1)
    acted = np.zeros((rows, len(ACTS)), dtype=np.bool_)
    acted[:, 0] = draw.random(rows) < 1 / (1 + np.exp(-terms @ TRUE))
    acted[:, 1] = draw.random(rows) < 0.02
    step = np.arange(rows) * 100 // rows
    sizes = {act: [(0, 1_000), (0, 3_000)] if place < 2 else [] for place, act in enumerate(ACTS)}
    return Steps(3_600, terms, acted, np.ones(rows), draw.integers(0, 400, rows), step, sizes, 0)


def test_a_hazard_is_found_again_and_one_that_nothing_tells_is_not() -> None:
    found = fit(drawn(1), 0.6)
    repay, supply, borrow, _ = found.acts
    assert repay.told
    assert repay.coefficients is not None
    near = np.array([1.0, 0.9, 0.81, 6.0, 1.0, 0.9])
    assert near @ repay.coefficients == pytest.approx(near @ TRUE, abs=0.15)
    assert not supply.told
    assert supply.rate == pytest.approx(0.02, abs=0.003)
    assert borrow.gain is None
    fitted = found.fitted("made up")
    assert [(one.act, len(one.coefficients)) for one in fitted.hazards] == [("repay", 6), ("supply", 1)]
    assert fitted.hazards[1].coefficients == (round(logit(supply.rate) * 1_000_000),)


def test_weights_count_as_rows() -> None:
    steps = drawn(2, 4_000)
    terms, acted = steps.terms, steps.acted[:, 0]
    twice = logistic(np.concatenate([terms, terms]), np.concatenate([acted, acted]), np.ones(8_000))
    assert logistic(terms, acted, np.full(4_000, 2.0)) == pytest.approx(twice, abs=1e-6)


def test_log_scores_by_hand() -> None:
    """At even odds either outcome has ln(1/2); at a logit of ln 3 the one has ln(3/4), the other ln(1/4)."""
    logits = np.array([0.0, 0.0, np.log(3), np.log(3)])
    found = log_scores(logits, np.array([True, False, True, False]))
    assert found == pytest.approx(np.log([0.5, 0.5, 0.75, 0.25]))


def test_rows_of_a_history() -> None:
    h = random_history(1)
    timeline = h.timeline()
    steps = steps_of(FixedSpreadPool(), h.market, timeline, 86_400, timeline.last_block)
    assert len(steps.terms) == len(steps.weight) == len(steps.account) > 0
    assert (steps.terms[:, 0] == 1).all()
    assert (steps.terms[:, 1] > 0).all()
    with pytest.raises(UserError, match="nothing is left"):
        fit(steps, 1.0)
