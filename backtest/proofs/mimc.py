"""A hash that circuits compute cheaply: MiMC with exponent 7 over the scalar field of BN254, chained as Miyaguchi and
Preneel do.

Albrecht, Grassi, Rechberger, Roy, Tiessen: MiMC, ePrint 2016/492 (section 2.1 with exponent 7; 91 rounds for this
field, section 4). 7 does not divide the order of the field's multiplicative group, so that each round is a permutation.
The constants are a chain of SHA-256, reduced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""The order of BN254's groups."""
ROUNDS = 91
_SEED = b"liquidation-backtest health 1"


def _constants() -> tuple[int, ...]:
    digest, found = hashlib.sha256(_SEED).digest(), [0]
    for _ in range(ROUNDS - 1):
        found.append(int.from_bytes(digest) % FIELD)
        digest = hashlib.sha256(digest).digest()
    return tuple(found)


CONSTANTS = _constants()
"""By round; the first is zero."""


def encrypted(key: Any, value: Any, times: Callable[[Any, Any], Any]) -> Any:
    """The block cipher: rounds of (value + key + constant)^7, and the key once more. Over whatever adds with integers
    and multiplies by ``times``: elements of the field, or sums of a circuit's wires.
    """
    for constant in CONSTANTS:
        base = value + key + constant
        square = times(base, base)
        value = times(times(times(square, square), square), base)
    return value + key


def chained(values: Iterable[Any], times: Callable[[Any, Any], Any]) -> Any:
    """The hash of some values, of the kind that ``encrypted`` takes."""
    state: Any = 0
    for value in values:
        state = state + value + encrypted(state, value, times)
    return state


def digest(values: Iterable[int]) -> int:
    """The hash of elements of the field."""
    return int(chained(values, lambda a, b: a * b % FIELD) % FIELD)
