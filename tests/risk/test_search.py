"""A search under a limit, against looking at every set."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from backtest.errors import UserError
from backtest.risk.search import Tried, Values, search


def staircase(values: Values) -> Tried:
    """Power grows with both; risk grows faster the higher the threshold, and a loan-to-value above it is refused."""
    ltv, threshold = values
    if ltv > threshold:
        return Tried(values, None, None, "ltv above threshold")
    return Tried(values, 1_000 * ltv + threshold, max(0, threshold - 8_000) ** 2 // 40 + max(0, ltv - 7_700) * 3)


def flat(values: Values) -> Tried:
    return Tried(values, sum(values), 0)


@pytest.mark.parametrize("limit", [0, 300, 900, 5_000], ids=str)
def test_the_best_of_all_sets(limit: int) -> None:
    present, step = (7_500, 8_000), 25
    found = search(staircase, present, [(7_200, 7_800), (7_700, 8_300)], step=step, limit=limit, most=400)
    every = [staircase(values) for values in itertools.product(range(7_200, 7_801, step), range(7_700, 8_301, step))]
    within = [one for one in every if one.aim is not None and one.risk is not None and one.risk <= limit]
    best = max(within, key=lambda one: one.aim or 0)
    assert found.best == best
    assert found.settled
    assert found.runner_up is not None
    assert found.runner_up.aim is not None
    assert best.aim is not None
    assert found.runner_up.aim <= best.aim
    assert len(found.tried) < len(every) / 3
    assert search(staircase, present, [(7_200, 7_800), (7_700, 8_300)], step=step, limit=limit, most=400) == found


def test_bounds_are_kept_and_the_grid_is_the_present_sets() -> None:
    seen: list[Values] = []

    def look(values: Values) -> Tried:
        seen.append(values)
        return flat(values)

    found = search(look, (8_010,), [(7_900, 8_100)], step=25, limit=0, most=50)
    assert found.best == Tried((8_085,), 8_085, 0)
    assert all(7_900 <= value <= 8_100 and (value - 8_010) % 25 == 0 for (value,) in seen)
    assert len(seen) == len(set(seen))


def test_looks_are_spent() -> None:
    found = search(staircase, (7_500, 8_000), [(7_000, 8_000), (7_500, 8_500)], step=1, limit=900, most=5)
    assert not found.settled
    assert len(found.tried) == 5
    assert found.best is not None


def test_no_set_keeps_the_limit() -> None:
    found = search(lambda values: Tried(values, 1, 10), (5,), [(0, 10)], step=1, limit=9, most=30)
    assert (found.best, found.runner_up, found.settled) == (None, None, True)
    away = search(lambda values: Tried(values, 1, 10 + abs(values[0] - 2)), (9,), [(0, 10)], step=1, limit=9, most=30)
    assert away.settled
    assert min(one.risk or 0 for one in away.tried) == 10  # the search goes where least is at risk
    only = search(lambda values: Tried(values, 1, abs(values[0] - 5)), (5,), [(0, 10)], step=1, limit=0, most=30)
    assert only.best == Tried((5,), 1, 0)
    assert only.runner_up is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: search(flat, (), [], step=1, limit=0, most=1), "over 0 parameters"),
        (lambda: search(flat, (1,) * 4, [(0, 2)] * 4, step=1, limit=0, most=1), "over 4 parameters"),
        (lambda: search(flat, (1,), [(2, 3)], step=1, limit=0, most=1), "leave out the present"),
        (lambda: search(flat, (1,), [(0, 3)], step=0, limit=0, most=1), "step of 0"),
    ],
    ids=["none", "four", "bounds", "step"],
)
def test_mistakes(call: Callable[[], object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        call()
