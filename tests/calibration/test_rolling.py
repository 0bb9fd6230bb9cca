"""Scores that roll over what was held out."""

from __future__ import annotations

import numpy as np

from backtest.baseline import FitWindow, Packed, _rolled
from backtest.calibration import shown as s


def _shown(size: float) -> s.Shown:
    return s.Shown(**dict.fromkeys(s.NAMES, size))


def _window(first: int, history: float, frictionless: float) -> FitWindow:
    return FitWindow(Packed("made up", "", 1), first, first + 9, 0, 7_200, _shown(history), _shown(frictionless), (), 1)


def test_each_part_is_scored_by_the_errors_before_it() -> None:
    """Draws that are right everywhere beat frictionless liquidators that are not, in every part; who was far off in one
    part is not taken for sure in the next.
    """
    learn = _window(0, 0.5, 0.9)
    parts = [_window(10, 0.5, 0.9), _window(20, 0.5, 0.9), _window(30, 0.5, 0.9)]
    right = np.tile(s.vector(_shown(0.5)), (2, 1))
    weights, least = np.array([0.25, 0.75]), np.full(len(s.NAMES), 0.05)
    found = _rolled(learn, right, parts, [right] * 3, weights, least, 0)
    assert [each.window.first for each in found] == [10, 20, 30]
    assert all((each.scores > each.frictionless).all() for each in found)
    assert all(each.naive.shape == (len(s.RATED),) for each in found)
    assert (found[0].scores < found[2].scores).all()  # right once is less than right three times
    wrong = np.tile(s.vector(_shown(0.9)), (2, 1))
    humbled = _rolled(learn, right, parts, [wrong, right, right], weights, least, 0)
    assert (humbled[1].scores < found[1].scores).all()
