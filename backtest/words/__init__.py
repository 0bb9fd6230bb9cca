"""Rules written once: ordinary functions of integers, which run as plain Python (the reference) and as machine code.

A function marked ``@rule`` takes and returns ``int`` and ``bool`` (or a NamedTuple of them) and calls nothing but
others of its kind, ``min`` and ``max``. Here it stays what it is. ``machine.machine`` compiles the same text with a
256-bit word in the place of ``int``; ``columns.over`` runs it over whole columns.

A word is a whole number within 2**255 of zero. What does not fit raises OverflowError, and a division by
zero ZeroDivisionError, as the contract's arithmetic would revert; columns say of each row whether it was exact, and the
rows that were not are left to the plain function, which knows no bound. So the two can never differ in silence. The
marks are what the tests compare, on numbers at the edges of 64, 128, 192 and 256 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

BITS = 256
LARGEST = (1 << BITS - 1) - 1
"""The largest word; the smallest is as far below zero."""

RULES: list[Callable[..., Any]] = []
"""Every function that is marked, for the tests."""


def rule(function: F) -> F:
    """Marks a function as one that is compiled as well; it is not changed."""
    RULES.append(function)
    return function
