"""A venue's prices as an oracle's: what is in force when, and what a gap does; in which block a time falls."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.blocks import consistent, place
from backtest.prices.proxy import ProxyStep, gaps, proxy_steps

HOUR = 3600
rows = st.lists(st.integers(0, 200), min_size=1, max_size=30, unique=True).map(sorted)


def test_with_a_delay_of_an_hour_the_open_of_an_hour_ago_is_in_force() -> None:
    steps = proxy_steps([0, HOUR, 2 * HOUR], [100, 110, 120], [HOUR] * 3, delay=HOUR)
    assert steps == [
        ProxyStep(HOUR, 100, 0, False),
        ProxyStep(2 * HOUR, 110, HOUR, False),
        ProxyStep(3 * HOUR, 120, 2 * HOUR, False),
    ]


def test_a_missing_candle_keeps_the_last_price_and_is_flagged() -> None:
    times, periods = [0, HOUR, 4 * HOUR], [HOUR] * 3
    steps = proxy_steps(times, [100, 110, 140], periods, delay=HOUR)
    assert [(step.timestamp // HOUR, step.price, step.gap) for step in steps] == [
        (1, 100, False),
        (2, 110, False),
        (3, 110, True),
        (4, 110, True),
        (5, 140, False),
    ]
    assert gaps(times, periods) == [(2 * HOUR, 4 * HOUR)]


def test_ten_minute_candles_step_at_full_hours_only() -> None:
    times = [600 * number for number in range(12)]
    steps = proxy_steps(times, list(range(12)), [600] * 12, delay=HOUR)
    assert [(step.timestamp, step.price) for step in steps] == [(HOUR, 0), (2 * HOUR, 6)]


def test_without_a_delay_every_market_price_is_in_force_at_once() -> None:
    steps = proxy_steps([0, 600, 1800], [1, 2, 3], [600] * 3, delay=0)
    assert steps == [
        ProxyStep(0, 1, 0, False),
        ProxyStep(600, 2, 600, False),
        ProxyStep(1200, 2, 600, True),
        ProxyStep(1800, 3, 1800, False),
    ]


def test_nothing_comes_of_nothing_and_nonsense_is_refused() -> None:
    assert proxy_steps([], [], delay=HOUR) == []
    for delay, hop in ((-1, HOUR), (0, 0)):
        with pytest.raises(ValueError, match="give 0 or more"):
            proxy_steps([0], [1], delay=delay, hop=hop)


@given(rows, st.integers(1, 50), st.integers(1, 20), st.integers(1, 30))
def test_a_step_has_the_last_price_that_was_known_a_delay_before(
    times: list[int], delay: int, hop: int, period: int
) -> None:
    prices = [time * 7 + 1 for time in times]
    steps = proxy_steps(times, prices, [period] * len(times), delay=delay, hop=hop)
    assert [step.timestamp for step in steps] == [
        h for h in range(0, 400, hop) if times[0] + delay <= h <= times[-1] + period - 1 + delay
    ]
    for step in steps:
        known = [time for time in times if time <= step.timestamp - delay]
        assert step.market_timestamp == known[-1]
        assert step.price == known[-1] * 7 + 1
        assert step.gap == (step.timestamp - delay >= known[-1] + period)


@given(rows, st.integers(1, 30))
def test_without_a_delay_the_price_in_force_is_the_last_one(times: list[int], period: int) -> None:
    steps = proxy_steps(times, times, [period] * len(times), delay=0)
    assert [step.timestamp for step in steps] == sorted({step.timestamp for step in steps})
    for moment in range(times[0], times[-1] + 1):
        step = [step for step in steps if step.timestamp <= moment][-1]
        known = [time for time in times if time <= moment][-1]
        assert (step.price, step.gap) == (known, moment >= known + period)


# -- blocks
# ------------------------------------------------------------------------------------------------------------------

pairs = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 5)), max_size=7, unique_by=lambda pair: pair[:2]
)


def _possible(found: tuple[tuple[int, int, int], ...]) -> bool:
    ordered = sorted(found)
    return all(a[0] < b[0] and a[1] <= b[1] for a, b in itertools.pairwise(ordered))


@given(pairs)
def test_of_blocks_and_times_the_heaviest_possible_set_stays(stated: list[tuple[int, int, int]]) -> None:
    kept = consistent(stated)
    chosen = tuple(pair for pair in stated if pair[:2] in kept)
    assert _possible(chosen)
    best = max(
        sum(pair[2] for pair in part)
        for size in range(len(stated) + 1)
        for part in itertools.combinations(stated, size)
        if _possible(part)
    )
    assert sum(pair[2] for pair in chosen) == best


@given(rows, st.lists(st.tuples(st.integers(1, 30), st.integers(0, 40)), max_size=12))
def test_a_time_falls_between_the_blocks_around_it(times: list[int], steps: list[tuple[int, int]]) -> None:
    blocks = list(itertools.accumulate((step[0] for step in steps), initial=50))
    known = list(itertools.accumulate((step[1] for step in steps), initial=60))
    found = place(times, blocks, known)
    given_ = [(block, time) for block, time in zip(found, times, strict=True) if block is not None]
    assert [block for block, _ in given_] == sorted({block for block, _ in given_})
    for block, time in given_:
        if block in blocks:
            assert known[blocks.index(block)] == time
        assert all(number < block for number, moment in zip(blocks, known, strict=True) if moment < time)
        assert all(
            number > block or moment == time for number, moment in zip(blocks, known, strict=True) if moment > time
        )


def test_times_and_blocks_by_hand() -> None:
    assert place([5, 9], [], []) == [5, 9]
    assert place([100, 150, 200], [10, 20], [100, 200]) == [10, 15, 20]
    assert place([150], [10, 11], [100, 200]) == [None]
    assert place([40, 260], [10, 20], [100, 200]) == [4, 26]
    assert place([160, 170, 180], [10, 13], [100, 200]) == [11, 12, None]
