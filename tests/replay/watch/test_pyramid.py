"""The pruning screen finds what every account at every tick finds: random books, loops, interest, missing prices,
actions, ramps.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.replay.watch.bounds import Pyramid, groups
from backtest.replay.watch.compiled import SHIFT
from backtest.replay.watch.forms import Form, Forms
from tests.bench import bench_screen
from tests.support import plain_screen

ETH, STAKED, USD, OTHER = range(4)


def random_values(draw: np.random.Generator, ticks: int, *, missing: bool) -> np.ndarray:
    """Ticks x 8 columns: collateral values of the four assets, then debt values, with interest, a misprint, a ramp of a
    threshold, gaps.
    """
    log = np.cumsum(draw.normal(0, draw.choice([1e-5, 1e-3, 0.02]), (ticks, 4)), axis=0)
    log[:, STAKED] = log[:, ETH] + np.arange(ticks) * 1e-5 + draw.normal(0, 1e-4, ticks)
    log[:, USD] = draw.normal(0, 1e-6, ticks)
    price = np.exp(log) * np.array([2000.0, 2200.0, 1.0, 1e-6])
    if draw.random() < 0.3:
        price[draw.integers(ticks), draw.integers(4)] *= draw.choice([0.01, 100])
    time = np.cumsum(draw.choice([0, 12, 86_400, 40 * 86_400], ticks))[:, None] / 31_536_000
    values = np.concatenate(
        [price * np.exp(time * draw.uniform(0, 0.2, 4)), price * np.exp(time * draw.uniform(0, 0.8, 4))], axis=1
    )
    if draw.random() < 0.5:
        begin = draw.integers(ticks)
        values[begin:, draw.integers(4)] *= np.linspace(1, draw.choice([0.5, 0.9, 1.1]), ticks - begin)
    if missing:
        for _ in range(draw.integers(1, 4)):
            begin, asset = draw.integers(ticks), draw.integers(4)
            values[begin : begin + draw.integers(1, 30), [asset, 4 + asset]] = np.nan
    return values


def random_row(draw: np.random.Generator, values: np.ndarray, tick: int) -> Form:
    """An account opened at a tick at a health of 0.999 to 1.5; most often a loop of the staked token at 1.01 to
    1.05.
    """
    at = np.nan_to_num(values[tick], nan=1.0)
    worth = 10 ** draw.uniform(-3, 8)
    if draw.random() < 0.5:
        return (
            [(STAKED, worth / at[STAKED])],
            [(4 + ETH, worth / draw.uniform(1.01, 1.05) / at[4 + ETH])],
            int(draw.integers(4)),
        )
    held = draw.choice(4, draw.integers(1, 4), replace=False)
    owed = draw.choice(4, draw.integers(1, 4), replace=False)
    health = draw.choice([0.999, 1.0, 1.0001, 1.01, 1.1, 1.5])
    collateral = [(int(a), worth / len(held) / at[a]) for a in held]
    debt = [(4 + int(a), worth / len(owed) / health / at[4 + a]) for a in owed]
    return collateral, debt, int(draw.integers(4))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 7, 8, 9, 63, 64, 65, 300, 700]), st.booleans())
def test_the_screen_finds_what_every_account_at_every_tick_finds(seed: int, ticks: int, missing: bool) -> None:
    """Rows of an account whose weights change hold from tick to tick; from a hit the search goes on to the next."""
    draw = np.random.default_rng(seed)
    values = random_values(draw, ticks, missing=missing)
    cuts = [sorted({0, ticks, *draw.integers(0, ticks, draw.integers(0, 3)).tolist()}) for _ in range(20)]
    spans = [(first, stop) for cut in cuts for first, stop in pairwise(cut)]
    rows = [random_row(draw, values, first) for first, _ in spans]
    pyramid, forms = Pyramid.over(values, list(range(4))), Forms.of(rows)
    start, stop = (np.array(column, dtype=np.int64) for column in zip(*spans, strict=True))
    every = np.arange(len(rows))
    for _ in range(4):
        found, looks = pyramid.first_unsafe(forms, every, start, stop)
        assert found.tolist() == [
            plain_screen.first_unsafe(c, d, values, s, e) for (c, d, _), s, e in zip(rows, start, stop, strict=True)
        ]
        assert looks >= (start < stop).sum()
        start = np.minimum(found + 1, stop)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_with_a_margin_no_exact_crossing_is_missed(seed: int) -> None:
    """Health of exactly one, give or take what a double can tell: weights tilted by 1e-9 are unsafe wherever exact
    fractions are.
    """
    draw = np.random.default_rng(seed)
    values = random_values(draw, 40, missing=False)
    exact = [[Fraction(v) for v in line] for line in values.tolist()]
    rows = []
    for _ in range(10):
        collateral, debt, base = random_row(draw, values, 0)
        at = int(draw.integers(40))
        owed = sum(Fraction(w) * exact[at][c] for c, w in debt)
        held = sum(Fraction(w) * exact[at][c] for c, w in collateral)
        rows.append((collateral, [(c, float(Fraction(w) * held / owed)) for c, w in debt], base))
    tilted = Forms.of([(collateral, [(c, w * (1 + 1e-9)) for c, w in debt], base) for collateral, debt, base in rows])
    count = len(rows)
    found, _ = Pyramid.over(values, list(range(4))).first_unsafe(
        tilted, np.arange(count), np.zeros(count, np.int64), np.full(count, 40)
    )
    for (collateral, debt, _), tick in zip(rows, found.tolist(), strict=True):
        for before in range(tick):
            assert sum(Fraction(w) * exact[before][c] for c, w in collateral) > sum(
                Fraction(w) * exact[before][c] for c, w in debt
            )
        assert tick < 40


def test_a_pyramid_whose_bounds_are_wrong_is_noticed() -> None:
    """The comparisons here have teeth: a bound that is a mean misses crossings."""
    made = bench_screen.book("crash", 300, 2_000, fall=0.4)
    forms, right = made.forms(), made.pyramid()
    broken = replace(right, low=(right.low + right.high) / 2)
    plain = bench_screen.dense(made, 1).tolist()
    found = [
        pyramid.first_unsafe(forms, np.arange(300), made.first, made.stop)[0].tolist() for pyramid in (right, broken)
    ]
    assert found[0] == plain
    assert found[1] != plain


@pytest.mark.parametrize(
    "options", [{}, {"fall": 0.4}, {"fall": 0.1, "loops": 0.5, "actions": 3}, {"loops": 1.0}], ids=str
)
def test_the_books_of_the_benchmark_with_any_number_of_threads(options: dict[str, float]) -> None:
    made = bench_screen.book("small", 400, 1_500, **options)
    plain = bench_screen.dense(made, 1)
    for threads in (1, 3):
        assert bench_screen.screen(made, made.forms(), threads)[0].tolist() == plain.tolist()


def test_several_searches_may_run_at_once() -> None:
    made = bench_screen.book("small", 400, 1_500, fall=0.4)
    plain = bench_screen.dense(made, 1).tolist()
    with ThreadPoolExecutor(4) as pool:
        assert all(
            found.tolist() == plain
            for found, _ in pool.map(lambda _: bench_screen.screen(made, made.forms(), 2), range(8))
        )


def test_loops_are_pruned_in_units_of_their_base_only() -> None:
    """ETH falls by 40 %: in dollars every stretch looks dangerous to a loop at 1.02, in ETH none does."""
    values = np.concatenate([bench_screen.walk(20_000, 0.4, np.random.default_rng(1)), np.ones((20_000, 1))], axis=1)
    at = values[0]
    loop = ([(bench_screen.STAKED, 1 / at[bench_screen.STAKED])], [(bench_screen.ETH, 1 / 1.02 / at[bench_screen.ETH])])
    pyramid = Pyramid.over(values, [bench_screen.ASSETS, bench_screen.ETH])
    looks = {}
    for place, base in enumerate(("dollar", "ETH")):
        found, looks[base] = pyramid.first_unsafe(
            Forms.of([(*loop, place)]), np.array([0]), np.array([0]), np.array([20_000])
        )
        assert found == [20_000]
    assert looks["ETH"] <= 5
    assert looks["dollar"] > 20 * looks["ETH"]


def test_correlated_assets_share_a_leader() -> None:
    prices = bench_screen.walk(20_000, 0.4, np.random.default_rng(1))
    prices = np.concatenate([prices, np.full((20_000, 1), np.nan)], axis=1)
    assert groups(prices) == [0, 0, 2, 3, -1, -1, -1, -1, -1]
    assert groups(prices[:1]) == [-1] * 9


def test_zero_prices_and_prices_that_never_come_bound_nothing() -> None:
    values = np.ones((20, 3))
    values[5:9, 1] = 0.0
    values[:, 2] = np.nan
    rows: list[Form] = [
        ([(0, 2.0)], [(1, 1.0)], 0),
        ([(1, 2.0)], [(0, 1.0)], 1),
        ([(0, 2.0)], [(0, 1.0)], 2),
        ([(2, 2.0)], [(0, 1.0)], 0),
    ]
    found, _ = Pyramid.over(values, [0, 1, 2]).first_unsafe(
        Forms.of(rows), np.arange(4), np.zeros(4, np.int64), np.full(4, 20)
    )
    assert found.tolist() == [20, 5, 20, 0]


def test_the_kernels_levels_are_those_of_the_pyramid() -> None:
    """One node at the top, whatever the length."""
    for ticks, nodes in ((1, 0), (2, 1), (8, 1), (9, 3), (64, 9), (65, 12)):
        pyramid = Pyramid.over(np.ones((ticks, 1)), [0])
        assert pyramid.low.shape == (1, nodes, 1)
        assert (pyramid.low == 1).all()
    assert SHIFT == 3
