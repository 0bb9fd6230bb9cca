"""The largest amount at which a call passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from backtest.protocols.interface import AccountView

T = TypeVar("T")
Slack = Callable[[AccountView], int]
"""How far an account is from a limit, about linear in the amount of the call that brought it there: 0 at the limit.
Only guesses are made with it.
"""

_DOUBLINGS: Final = 64
_MARGINS: Final = (16, 28, 40)
"""How near a guess is looked on both sides of it, one after another: as bits of the guess."""


def largest(
    asked: int,
    tried: Callable[[int], T | None],
    view: Callable[[T], AccountView | None],
    slacks: Sequence[Slack],
    *,
    beyond: bool,
) -> T | None:
    """What ``tried`` gives at the largest amount (native units) below ``asked`` at which it gives anything; None where
    even one unit is too much. It is taken to give something up to some amount and nothing above.

    Found by halving, which guesses make short: where ``slacks`` (of the ``view`` of what was tried) run out. A guess is
    tried like any other amount, so that the answer does not depend on it. ``beyond``: above ``asked`` too; and
    ``asked`` itself where what it gives has no view.
    """
    low, high, best = 0, asked, None
    seen: list[tuple[int, AccountView]] = []

    def passes(amount: int) -> bool:
        nonlocal low, high, best
        found = tried(amount)
        if found is None:
            high = amount
            return False
        low, best = amount, found
        if (then := view(found)) is not None:
            seen.append((amount, then))
        return True

    if beyond:
        for _ in range(_DOUBLINGS):
            found = tried(high)
            if found is None or (then := view(found)) is None:
                break
            seen.append((high, then))
            low, best, high = high, found, 2 * high
        if best is None and found is not None:
            return found
    while high - low > 1 and len(seen) < 2 and not (seen and any(slack(seen[0][1]) == 0 for slack in slacks)):
        passes((low + high) // 2)
    for bits in _MARGINS if seen else ():
        guess = _runs_out(seen, slacks)
        if guess is None or not low <= guess <= high:
            break
        for middle in (guess - (guess >> bits) - 1, guess + (guess >> bits) + 1):
            if low < middle < high:
                passes(middle)
    while high - low > 1:
        passes((low + high) // 2)
    return best


def _runs_out(seen: Sequence[tuple[int, AccountView]], slacks: Sequence[Slack]) -> int | None:
    """Where the first of the slacks is zero, by the last of what passed and one well apart from it."""
    found = []
    (start, first), (end, last) = seen[0], seen[-1]
    for slack in slacks:
        left = slack(last)
        fallen = slack(first) - left
        if left == 0 or fallen > 0:
            found.append(end + (left and (end - start) * left // fallen))
    return min(found, default=None)
