"""The readable twins of ``replay/watch/compiled.py``: every account at every tick."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from backtest.replay.watch.forms import Term


def safe(collateral: Sequence[Term], debt: Sequence[Term], values: np.ndarray) -> np.ndarray:
    """At which ticks collateral is above debt; False where a value is missing."""
    plus, minus = np.zeros(len(values)), np.zeros(len(values))
    for column, weight in collateral:
        plus += weight * values[:, column]
    for column, weight in debt:
        minus += weight * values[:, column]
    return plus > minus


def first_unsafe(collateral: Sequence[Term], debt: Sequence[Term], values: np.ndarray, start: int, stop: int) -> int:
    """The first tick in [start, stop) that is not safe, or ``stop``."""
    unsafe = np.flatnonzero(~safe(collateral, debt, values[start:stop]))
    return start + int(unsafe[0]) if len(unsafe) else stop
