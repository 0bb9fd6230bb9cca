"""Functions of plain integers and the same compiled for 256-bit words."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backtest import units
from backtest.words import columns, digits, machine

LIMIT = 1 << 255
BIG = 3 << 200


def add(a: int, b: int, c: int) -> int:
    return a + b + 0 * (c > 0)


def subtract(a: int, b: int, c: int) -> int:
    return a - b


def multiply(a: int, b: int, c: int) -> int:
    return a * b


def divide(a: int, b: int, c: int) -> int:
    return a // b


def rest(a: int, b: int, c: int) -> int:
    return a % b


def left(a: int, b: int, c: int) -> int:
    return a << (b % 300)


def right(a: int, b: int, c: int) -> int:
    return a >> (b % 300)


def both(a: int, b: int, c: int) -> int:
    return a & b


def either(a: int, b: int, c: int) -> int:
    return a | b


def negated(a: int, b: int, c: int) -> int:
    return -a


def compared(a: int, b: int, c: int) -> tuple[bool, bool, bool, bool, bool, bool]:
    return a < b, a <= b, a > b, a >= b, a == b, a != b


def least(a: int, b: int, c: int) -> tuple[int, int, int]:
    return min(a, b, c), max(a, b), max(a, 0)


def product_over(a: int, b: int, c: int) -> int:
    return a * b // c


def constants(a: int, b: int, c: int) -> int:
    """Global numbers do not wrap, whatever their size; a name may be a small number first."""
    found = 0
    if a > BIG and not b:
        found = BIG
    elif c:
        found += units.WAD * units.WAD if False else 2
    return found + BIG // 3


def called(a: int, b: int, c: int) -> int:
    return divide(a, 3, b) + multiply(2, c, c)


def grown(a: int, b: int, c: int) -> int:
    """Numbers of the text are words from the beginning: nothing wraps at 64 bits."""
    found, steps = 3, 0
    while steps < 60 and steps < a:
        found = found * 9 + 0xFFFF_FFFF_FFFF_FFFF_FFFF
        steps += 1
    return found


def folded(a: int, b: int, c: int) -> int:
    found, steps = a, 0
    while found > 1 and steps < 12:
        found //= 2
        steps += 1
    return found + steps


OPERATIONS: tuple[Callable[..., Any], ...] = (
    add, subtract, multiply, divide, rest, left, right, both, either, negated, compared, least, product_over,
    constants, called, folded, grown, units.mul_div_down, units.mul_div_up, units.mul_div_half_up,
)  # fmt: skip
EXACT = {product_over, units.mul_div_down, units.mul_div_up, units.mul_div_half_up, called}
"""Where a number in between may be no word though the result is one."""

WIDE = st.integers(0, 256).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
EDGES = (0, 1, 32, 63, 64, 127, 128, 129, 191, 192, 254, 255)
EDGE = st.builds(lambda bits, by: (1 << bits) + by, st.sampled_from(EDGES), st.integers(-2, 2))
NUMBER = st.builds(
    lambda n, sign: max(-LIMIT + 1, min(n * sign, LIMIT - 1)), WIDE | EDGE, st.sampled_from((1, 1, 1, -1))
)


def plain(function: Callable[..., Any], *arguments: int) -> tuple[int, ...] | None:
    """As numbers; None where Python raises."""
    try:
        found = function(*arguments)
    except ZeroDivisionError:
        return None
    return tuple(map(int, found)) if isinstance(found, tuple) else (int(found),)


def compare(triples: list[tuple[int, int, int]], *functions: Callable[..., Any]) -> None:
    arguments = [columns.words(column) for column in zip(*triples, strict=True)]
    for function in functions:
        compare_one(function, triples, columns.over(function, *arguments, rows=len(triples)))


def compare_one(function: Callable[..., Any], triples: list[tuple[int, int, int]], found: columns.Found) -> None:
    results = list(zip(*map(columns.numbers, found.columns), strict=True))
    for triple, exact, result in zip(triples, found.exact.tolist(), results, strict=True):
        expected = plain(function, *triple)
        if exact:
            assert result == expected, triple
        elif expected is not None and all(abs(n) < LIMIT for n in expected):
            assert function in EXACT, triple
            a, b, c = triple
            assert max(abs(a * b) + abs(c), c * c) >= LIMIT, triple


@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(NUMBER, min_size=10, max_size=10))
def test_words_are_integers_or_not_given(numbers: list[int]) -> None:
    """A thousand triples an example, each number in each place: 20,000 an operation."""
    triples = [(a, b, c) for a in numbers for b in numbers for c in numbers]
    compare(triples, *OPERATIONS)


def test_quotients_next_to_a_multiple_of_the_divisor() -> None:
    """Where a digit that is guessed too large would show: 20,000 divisors of every length, and their neighbours."""
    draw = random.Random(1)
    triples = []
    for _ in range(20_000):
        divisor = draw.getrandbits(draw.randint(1, 254)) | 1
        if draw.random() < 0.3:  # digits of ones and of zeros
            divisor = max(1, (1 << draw.randint(1, 254)) - draw.choice((0, 1, 1 << draw.randint(0, 60))))
        quotient = draw.getrandbits(max(1, 254 - divisor.bit_length()))
        number = min(LIMIT - 1, max(0, quotient * divisor + draw.choice((-1, 0, 1, divisor - 1))))
        triples.append((number, divisor, 0))
    compare(triples, divide, rest)


class Two(NamedTuple):
    high: int
    low: int
    some: bool


def split(a: int) -> Two:
    return Two(a >> 64, a % (1 << 62), a != 0)


def joined(two: Two) -> int:
    return (two.high + 1) * 3 if two.some else two.low


def through(a: int) -> int:
    return joined(split(a))


def test_several_numbers_have_names() -> None:
    given = [0, 5, (1 << 200) + 17, -3]
    found = columns.over(split, columns.words(given), rows=4)
    assert list(zip(*map(columns.numbers, found.columns), strict=True)) == [split(a) for a in given]
    assert columns.numbers(columns.over(through, columns.words(given), rows=4).columns[0]) == [
        through(a) for a in given
    ]


def constants_added(a: int) -> int:
    return a + 7


def test_columns_are_words_small_integers_or_one_number_for_all() -> None:
    small = np.array([1, -2, 3], np.int64)
    found = columns.over(add, columns.words([10, 20, 30]), small, 7, rows=3)
    assert columns.numbers(found.columns[0]) == [11, 18, 33]
    given = [(1 << 62) + 1, (1 << 124) - 8, (1 << 124) - 7]
    low, high, fits = columns.over(constants_added, columns.words(given), rows=3).wide(0)
    assert fits.tolist() == [True, True, False]
    assert [(int(h) << 62) + int(n) for n, h in zip(low, high, strict=True)][:2] == [n + 7 for n in given[:2]]
    with pytest.raises(ValueError, match="2 rows, not 3"):
        columns.over(add, columns.words([1, 2]), small, 7, rows=3)
    with pytest.raises(ValueError, match="4 digits a row"):
        columns.over(add, np.zeros((3, 2), np.uint64), small, 7, rows=3)
    part = columns.over(add, columns.words([10, 0, 20, 0, 30])[::2], columns.words([1]), 0, rows=3)
    assert columns.numbers(part.columns[0]) == [11, 21, 31]


def wide(a: int) -> int:
    return a + 0x8000000000000000000000000000000000000000000000000000000000000000


def of_text(a: str) -> int:
    return len(a)


def test_what_cannot_be_compiled_exactly_is_refused() -> None:
    with pytest.raises(OverflowError, match="is no word of 256 bits"):
        machine.machine(wide)
    with pytest.raises(TypeError, match="is not what a rule may take"):
        machine.machine(of_text)
    with pytest.raises(OverflowError):
        digits.WordConstant(LIMIT)


def test_a_number_that_is_no_word_is_never_exact() -> None:
    found = columns.over(least, columns.words([1, LIMIT, 3, -LIMIT]), columns.words([9, 9, LIMIT - 1, 9]), 5, rows=4)
    assert found.exact.tolist() == [True, False, True, False]
    assert not columns.over(least, 1, 2, LIMIT, rows=2).exact.any()


def test_a_rule_is_named_by_all_that_it_is_made_of() -> None:
    """Numba's cache would not notice that a constant, or a function elsewhere, has changed."""
    source = "def outer(a: int) -> int:\n    return inner(a) + 1\ndef inner(a: int) -> int:\n    return a * FACTOR\n"
    names = []
    for factor in (2, 3, 2):
        space: dict[str, Any] = {"FACTOR": factor, "__name__": __name__}
        exec(compile(source, __file__, "exec"), space)
        made = machine.machine(space["outer"])
        names.append(made.py_func.__qualname__)
        assert columns.numbers(columns.over(space["outer"], columns.words([5]), rows=1).columns[0]) == [5 * factor + 1]
    assert names[0] == names[2] != names[1]
