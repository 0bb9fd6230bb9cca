"""Every rule that is marked runs as machine code as it does in plain Python, to the last unit or not at all."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backtest.protocols import registry
from backtest.protocols.aave_v3 import tokens
from backtest.units import RAY, WAD
from backtest.words import RULES, columns
from backtest.words.machine import machine

pytestmark = pytest.mark.slow

assert registry.protocol_named("maker")  # all protocols, and with them their rules
assert tokens.transfer_amount in RULES

ROWS = 150
EDGES = (0, 1, 63, 64, 127, 128, 191, 192, 254)
SIZED = st.integers(0, 255).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
EDGE = st.builds(lambda bits, by: max(0, (1 << bits) + by), st.sampled_from(EDGES), st.integers(-2, 2))
USUAL = st.sampled_from(
    (0, 1, 10_000, 31_536_000, WAD, 86 * WAD // 100, WAD + 10**9, RAY, RAY + 10**19, 10**24, 10**36)
)
NUMBER = USUAL | USUAL | SIZED | EDGE
SIGNED = st.builds(lambda n, sign: n * sign, NUMBER, st.sampled_from((1, 1, -1)))

# Parameters that are not any number: loops are as long as they say, or the rule is of signed numbers.
LIMITED: dict[str, dict[str, st.SearchStrategy[int]]] = {
    "rpow_half_up": {"x": st.integers(0, 2 * RAY), "n": st.integers(0, 3_000)},
    "exp_to_zero": {"x": SIGNED | st.integers(-50 * WAD, 100 * WAD)},
    "div_to_zero": {"a": SIGNED},
    "half_up_delta": {"value": SIGNED},
    "directed_after": {"rule": st.sampled_from((1, 2)), "value": SIGNED},
    "present_value": {"principal": SIGNED},
    "principal_value": {"value": SIGNED},
    "discounted_delta": {"value": SIGNED},
    "transfer_amount": {"unscaled": st.integers(0, 1)},
    "taken": {"system": st.sampled_from((10, 11, 20)), "limited": st.integers(0, 1), "room": SIGNED},
}


def plain(rule: Callable[..., Any], row: tuple[int, ...]) -> tuple[int, ...] | None:
    """As numbers; None where Python raises."""
    try:
        found = rule(*row)
    except (ArithmeticError, ValueError):
        return None
    return tuple(map(int, found)) if isinstance(found, tuple) else (int(found),)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.__module__.split('.')[-2]}.{rule.__name__}")
def test_as_machine_code(rule: Callable[..., Any]) -> None:
    machine(rule)  # what does not compile says so at once
    names = list(inspect.signature(rule).parameters)
    bounds = LIMITED.get(rule.__name__, {})
    seen = 0

    @settings(max_examples=25, deadline=None, phases=[Phase.generate])
    @given(st.tuples(*(st.lists(bounds.get(name, NUMBER), min_size=6, max_size=6) for name in names)), st.integers())
    def compare(pools: tuple[list[int], ...], seed: int) -> None:
        nonlocal seen
        draw = random.Random(seed)
        rows = [tuple(draw.choice(pool) for pool in pools) for _ in range(ROWS)]
        found = columns.over(rule, *(columns.words(column) for column in zip(*rows, strict=True)), rows=ROWS)
        results = zip(*map(columns.numbers, found.columns), strict=True)
        for row, exact, result in zip(rows, found.exact.tolist(), results, strict=True):
            if exact:
                assert result == plain(rule, row), row
                seen += 1

    compare()
    assert seen > ROWS
