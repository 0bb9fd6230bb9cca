"""Measures of connection, worked by hand."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from backtest.contagion.matrices import debt_rank, leading_eigenvector, linear_round, overlap, run_off


def test_overlap_and_its_eigenvector_by_hand() -> None:
    """100^2 / 1000 = 10; 100 * 50 / 1000 = 5; 50^2 / 1000 + 50^2 / 500 = 7.5. The eigenvalue of ((10, 5), (5, 7.5)) is
    (17.5 + sqrt(2.5^2 + 10^2)) / 2, its vector in proportion to (5, that - 10).
    """
    found = overlap([[100, 0], [50, 50]], [1_000, 500])
    assert found.tolist() == [[10, 5], [5, 7.5]]
    value, vector = leading_eigenvector(found)
    largest = (17.5 + sqrt(106.25)) / 2
    assert value == pytest.approx(largest, rel=1e-12)
    assert vector.tolist() == pytest.approx([5 / (largest - 5), (largest - 10) / (largest - 5)], rel=1e-12)


def test_what_nothing_moves_connects_nobody() -> None:
    assert overlap([[100, 7], [50, 7]], [None, None]).tolist() == [[0, 0], [0, 0]]
    value, vector = leading_eigenvector(np.zeros((2, 2)))
    assert (value, vector.tolist()) == (0, [0, 0])


def test_one_linear_round_by_hand() -> None:
    """Two banks of 100 with 90 and 80 of debt: leverage 9 and 4. One holds the first asset, the other half of each; it
    falls by 10 %: they lose 10 and 5, and sell 90 and 20, of the first asset 100 and of the second 10. At a depth of
    1000 prices fall by 10 % and 1 %: 10 and 5.5 are lost, of 30 in all. The first one's sales alone: 9 + 4.5.
    """
    found = linear_round([[100, 0], [50, 50]], [90, 80], [1_000, 1_000], [-0.1, 0])
    assert found.direct.tolist() == pytest.approx([1.0, 0.25])
    assert found.indirect.tolist() == pytest.approx([1.0, 0.275])
    assert found.systemicness.tolist() == pytest.approx([13.5 / 30, 2 / 30])
    assert found.aggregate == pytest.approx(15.5 / 30)
    assert found.aggregate == pytest.approx(found.systemicness.sum())


def test_nobody_sells_more_than_it_has() -> None:
    """Leverage 99 on a fall of 10 %: 990 would be sold of 100. Who owes more than it holds has no equity to lose."""
    found = linear_round([[100], [100]], [99, 120], [1_000], [-0.1])
    assert found.systemicness.tolist() == pytest.approx([20.0, 20.0])  # 100 sold: 10 % of 200, of an equity of 1
    assert np.isnan(found.indirect[1])


def test_debt_rank_by_hand() -> None:
    """1 fails; 2 takes over half, 3 a half of that; 3 gives 2 a half of its quarter, which 2 does not pass on again."""
    weights = np.array([[0, 0.5, 0], [0, 0, 0.5], [0, 0.5, 0]])
    assert debt_rank(weights, [1, 0, 0]).tolist() == [1, 0.625, 0.25]
    assert debt_rank(weights * 4, [1, 0, 0]).tolist() == [1, 1, 1]
    assert debt_rank(weights, [0, 0, 0]).tolist() == [0, 0, 0]


def test_a_run_by_hand() -> None:
    """Of 100 supplied 80 are lent: a tenth can be paid out, of a third 20 of 33.3, and then all is lent."""
    assert run_off(100, 80, 0.1).after == pytest.approx(80 / 90)
    assert run_off(100, 80, 0.1).withheld == pytest.approx(0)
    third = run_off(100, 80, 1 / 3)
    assert (third.before, third.after, third.withheld) == pytest.approx((0.8, 1.0, 0.4))
    assert run_off(0, 0, 0.5) == run_off(0, 0, 0.1)
