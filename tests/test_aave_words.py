"""Machine words against Python's integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backtest.protocols.aave_v3.words import DOWN, HALF_UP, OVER, SCRATCH, UP, compiled, mul_div, pair
from backtest.units import RAY

WIDE = st.integers(0, 128).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
EDGE = st.builds(
    lambda bits, by: min(max(0, (1 << bits) + by), (1 << 128) - 1), st.integers(0, 128), st.integers(-2, 2)
)
NUMBER = WIDE | EDGE


def check(a: int, b: int, d: int, rounding: int) -> None:
    w = np.zeros(SCRATCH, np.uint64)
    high, low = mul_div(w, pair(a), pair(b), pair(d), rounding)
    if not d or (exact := (a * b + {DOWN: 0, HALF_UP: d // 2, UP: d - 1}[rounding]) // d) >= 1 << 128:
        assert w[OVER]
    else:
        assert not w[OVER]
        assert (int(high) << 64) | int(low) == exact


@settings(max_examples=1_500, deadline=None)
@given(NUMBER, NUMBER, NUMBER, st.sampled_from((DOWN, HALF_UP, UP)))
@example((1 << 128) - 1, (1 << 128) - 1, (1 << 128) - 1, HALF_UP)
@example((1 << 128) - 1, (1 << 127) + 1, (1 << 127) + 2, UP)
@example(RAY, RAY, RAY, HALF_UP)
@example((1 << 127) + (1 << 64) - 1, (1 << 64) - 1, (1 << 127) + (1 << 63), DOWN)
def test_mul_div_is_that_of_integers(a: int, b: int, d: int, rounding: int) -> None:
    check(a, b, d, rounding)


@settings(max_examples=1_000, deadline=None)
@given(NUMBER, NUMBER, st.integers(-2, 2), st.sampled_from((DOWN, HALF_UP, UP)))
def test_products_next_to_a_multiple_of_the_divisor(quotient: int, d: int, by: int, rounding: int) -> None:
    """Where a digit that is guessed too large would show."""
    check(quotient, d, min(max(0, d + by), (1 << 128) - 1), rounding)
    check(max(0, quotient + by) % (1 << 128), d, d, rounding)


def test_a_function_is_named_by_what_is_compiled_into_it() -> None:
    """Numba's cache would not notice that a constant, or a function of this file, has changed."""
    source = "def double(a):\n    return a * FACTOR\n"
    names = []
    for factor in (2, 3, 2):
        space: dict[str, Any] = {"FACTOR": factor, "__name__": "somewhere"}
        exec(compile(source, __file__, "exec"), space)
        names.append(compiled(space["double"]).__qualname__)
    assert names[0] == names[2] != names[1]
