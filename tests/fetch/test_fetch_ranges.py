"""Gap arithmetic by table and by property; the width controller against model nodes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.fetch.ranges import Range, Width, gaps, length


@pytest.mark.parametrize(
    ("wanted", "covered", "missing"),
    [
        ((1, 10), [], [(1, 10)]),
        ((1, 10), [(1, 10)], []),
        ((1, 10), [(0, 20)], []),
        ((1, 10), [(3, 5)], [(1, 2), (6, 10)]),
        ((1, 10), [(1, 3), (8, 10)], [(4, 7)]),
        ((1, 10), [(8, 12), (0, 3)], [(4, 7)]),
        ((1, 10), [(1, 3), (4, 6)], [(7, 10)]),
        ((1, 10), [(2, 2)], [(1, 1), (3, 10)]),
        ((1, 10), [(11, 20)], [(1, 10)]),
        ((5, 5), [(5, 5)], []),
        ((5, 5), [(4, 4), (6, 6)], [(5, 5)]),
        ((1, 10), [(1, 6), (3, 4)], [(7, 10)]),
        ((2, 1), [], []),
    ],
)
def test_gaps(wanted: Range, covered: list[Range], missing: list[Range]) -> None:
    assert gaps(wanted, covered) == missing


blocks = st.integers(0, 60)
ranges = st.tuples(blocks, blocks).map(lambda pair: (min(pair), max(pair)))


@given(ranges, st.lists(ranges, max_size=6))
def test_gaps_are_exactly_the_blocks_not_covered(wanted: Range, covered: list[Range]) -> None:
    found = gaps(wanted, covered)
    have = {block for low, high in covered for block in range(low, high + 1)}
    want = set(range(wanted[0], wanted[1] + 1))
    assert [block for low, high in found for block in range(low, high + 1)] == sorted(want - have)
    assert length(found) == len(want - have)
    assert all(b[0] > a[1] + 1 for a, b in itertools.pairwise(found))


def drive(width: Width, limit: int, total: int, named: bool) -> tuple[int, list[int]]:
    """Ask a node that answers at most ``limit`` blocks; (refusals, widths answered)."""
    done = refusals = 0
    answered = []
    while done < total:
        blocks = min(width.blocks, total - done)
        if blocks > limit:
            refusals += 1
            width.refused(blocks, limit if named else None, named)
        else:
            width.answered(blocks, 0)
            answered.append(blocks)
            done += blocks
    return refusals, answered


@pytest.mark.parametrize("limit", [1, 10, 800, 1999, 2000, 10_000])
def test_a_named_limit_is_met_once(limit: int) -> None:
    refusals, answered = drive(Width(), limit, 50 * limit, named=True)
    assert refusals <= 1
    assert max(answered) == limit


@pytest.mark.parametrize("limit", [1, 3, 800, 3_000])
def test_an_unnamed_limit_is_found_by_halving(limit: int) -> None:
    refusals, answered = drive(Width(), limit, 500 * limit, named=False)
    assert refusals < 40
    assert max(answered) > limit / 2


def test_an_off_by_one_limit_does_not_halve() -> None:
    width = Width(800)
    width.refused(800, 800, firm=True)
    assert width.blocks == 799


def test_width_follows_the_density_of_logs() -> None:
    width = Width(2_000)
    width.answered(2_000, 100_000)
    assert width.blocks == 200
    width.answered(200, 9_000)
    assert width.blocks == 200
    width.answered(200, 100)
    assert width.blocks == 400


def test_a_single_block_stays_one() -> None:
    width = Width(1)
    width.refused(1)
    assert width.blocks == 1
    width.answered(1, 10**6)
    assert width.blocks == 1
