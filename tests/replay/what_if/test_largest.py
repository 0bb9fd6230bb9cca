"""The largest amount at which a call passes, against plain halving."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from backtest.protocols.interface import AccountView
from backtest.replay.what_if.largest import largest


class Made(NamedTuple):
    amount: int
    view: AccountView | None


def halved(asked: int, tried: Callable[[int], Made | None], *, beyond: bool) -> Made | None:
    """The plain twin."""
    low, best, high = 0, None, asked
    if beyond:
        for _ in range(64):
            if (found := tried(high)) is None or found.view is None:
                break
            low, best, high = high, found, 2 * high
        if best is None and found is not None:
            return found
    while high - low > 1:
        middle = (low + high) // 2
        if (found := tried(middle)) is None:
            high = middle
        else:
            low, best = middle, found
    return best


@given(
    asked=st.integers(1, 10**27),
    price=st.integers(1, 10**14),
    unit=st.sampled_from([1, 10**6, 10**18]),
    owed=st.integers(0, 10**16),
    power=st.integers(0, 10**18),
    cap=st.none() | st.integers(0, 10**27),
    bent=st.integers(0, 3),
    viewed=st.booleans(),
    beyond=st.booleans(),
)
def test_it_is_what_halving_finds(
    asked: int, price: int, unit: int, owed: int, power: int, cap: int | None, bent: int, viewed: bool, beyond: bool
) -> None:
    """Debt rises by rounded values, a cap that no slack knows of may bind first, and the slack may be far from linear:
    the amount is the same.
    """
    limit = power * 3 // 4
    trials = 0

    def tried(amount: int) -> Made | None:
        nonlocal trials
        trials += 1
        debt = owed - (-amount * price // unit)
        if debt > limit or (cap is not None and amount > cap):
            return None
        return Made(amount, AccountView(power, debt, None, power) if viewed or amount % 2 else None)

    def slack(view: AccountView) -> int:
        return (limit - view.debt_base) ** (1 + bent)

    if viewed:
        expected = halved(asked, tried, beyond=beyond)
        halvings, trials = trials, 0
        found = largest(asked, tried, lambda made: made.view, [slack], beyond=beyond)
        assert found == expected
        assert trials <= halvings + 8
    else:
        found = largest(asked, tried, lambda made: made.view, [slack], beyond=False)
        assert found == halved(asked, tried, beyond=False)


def test_a_guess_saves_most_trials() -> None:
    """18 decimals, a price of 1,500 in hundred-millionths: 40 trials at most where halving takes 62."""
    trials = []

    def tried(amount: int) -> Made | None:
        trials.append(amount)
        debt = 5 * 10**11 - (-amount * 1_500 * 10**8 // 10**18)
        return Made(amount, AccountView(0, debt, None, 10**12)) if debt <= 10**12 else None

    found = largest(
        3 * 10**18, tried, lambda made: made.view, [lambda v: v.borrowing_power_base - v.debt_base], beyond=True
    )
    assert found is not None
    assert found.amount == 5 * 10**11 * 10**18 // (1_500 * 10**8)
    assert len(trials) <= 40
