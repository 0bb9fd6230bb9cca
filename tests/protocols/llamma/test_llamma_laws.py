"""Laws of the AMM under random calls, by vectors: nobody gets what others have, no closed path of exchanges gains,
paths of prices cost loans what arbitrageurs gain, health does not fall when the price rises.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.protocols.llamma.account import health
from backtest.protocols.llamma.amm import Amm, AmmTerms
from backtest.protocols.llamma.math import AmmReverts
from backtest.units import WAD
from tests.protocols.llamma.hand import ALICE, BOB, CAROL, ONE, START, loan, opened

pytestmark = pytest.mark.slow

Held = dict[int, tuple[int, tuple[int, ...]]]
CALLS = st.lists(
    st.tuples(
        st.sampled_from(("deposit", "withdraw", "part", "pump", "dump")),
        st.integers(0, 5),
        st.integers(10**6, 10**21),
        st.integers(600, 1_600),
    ),
    max_size=25,
)


def made(fee: int = 0) -> Amm:
    return Amm(AmmTerms(100, ONE), fee=fee, admin_fee=WAD // 2, rate_time=START)


def to_price(pool: Amm, price: int, time: int) -> None:
    """Exchanges to a price, which is the oracle's too, long after the last exchange."""
    amount, pump = pool.amount_for_price(price, (price, 0), time)
    if amount:
        pool.exchange(price, time, pump=pump, paid=amount)


@given(CALLS, st.sampled_from((0, 6 * 10**15)))
@settings(max_examples=60, deadline=None)
def test_users_never_have_more_than_the_bands(calls: list[tuple[str, int, int, int]], fee: int) -> None:
    pool, held = made(fee), Held()
    time = START
    for kind, who, amount, level in calls:
        time += 200
        price = ONE * level // 1_000
        try:
            if kind == "deposit" and who not in held:
                first = max(pool.active + 1, 0) + who
                held[who] = first, pool.deposit(amount, first, first + 4 + who)
            elif kind in ("withdraw", "part") and who in held:
                first, shares = held[who]
                part = WAD if kind == "withdraw" else 1 + amount % (WAD - 1)
                *_, left = pool.withdraw(shares, first, part)
                held[who] = first, left
                if not left:
                    del held[who]
            elif kind in ("pump", "dump"):
                pool.exchange(price, time, pump=kind == "pump", paid=amount)
        except AmmReverts:
            continue
        sums = [0, 0]
        for first, shares in held.values():
            for place, value in enumerate(pool.held_down(shares, first)):
                sums[place] += value
        bands = [sum(band.x for band in pool.bands.values()), sum(band.y for band in pool.bands.values())]
        assert sums[0] <= bands[0]
        assert sums[1] <= bands[1]
        for n, band in pool.bands.items():
            own = sum(shares[n - first] for first, shares in held.values() if first <= n < first + len(shares))
            assert own == band.shares
            assert not (band.x and n > pool.active)
            assert not (band.y and n < pool.active)


@given(
    st.integers(10**15, 10**21),
    st.integers(600, 1_600),
    st.lists(st.tuples(st.booleans(), st.integers(1, 10**21)), min_size=1, max_size=6),
    st.sampled_from((0, 10**15, 6 * 10**15)),
)
@settings(max_examples=80, deadline=None)
def test_no_closed_path_of_exchanges_gains(
    collateral: int, level: int, trades: list[tuple[bool, int]], fee: int
) -> None:
    """At one price of the oracle: who ends with no less of one token than it began with has no more of the other."""
    pool, price, x, y = made(fee), ONE * level // 1_000, 0, 0
    pool.deposit(collateral, 1, 20)
    for pump, amount in trades:
        done = pool.exchange(price, START, pump=pump, paid=amount)
        x, y = (x - done.paid, y + done.bought) if pump else (x + done.bought, y - done.paid)
    if y > 0:  # gives back what it bought
        done = pool.exchange(price, START, pump=False, paid=y)
        x, y = x + done.bought, y - done.paid
    elif y < 0:  # buys back what it sold
        done = pool.exchange(price, START, pump=True, wanted=min(-y, sum(band.y for band in pool.bands.values())))
        x, y = x - done.paid, y + done.bought
    if y <= 0:
        assert x <= 0


@given(st.lists(st.integers(70, 130), min_size=2, max_size=8), st.integers(10**18, 10**21))
@settings(max_examples=40, deadline=None)
def test_what_loans_lose_grows_along_the_path(levels: list[int], collateral: int) -> None:
    """Without a fee, each way down and back costs a loan something, and never gives it anything."""
    pool = made()
    pool.deposit(collateral, 1, 20)
    to_price(pool, 2 * ONE, START)
    left = [sum(band.y for band in pool.bands.values())]
    for turn, level in enumerate(levels, 1):
        to_price(pool, ONE * level // 100, START + 1_000 * turn)
        to_price(pool, 2 * ONE, START + 1_000 * turn + 500)
        assert not sum(band.x for band in pool.bands.values()) > 10**6  # all back, but for dust
        left.append(sum(band.y for band in pool.bands.values()))
    assert all(after <= before + 1_000 for before, after in pairwise(left))  # dust of the way before
    if min(levels) < 95:
        assert left[-1] < left[0]


@given(st.lists(st.integers(1, 4_000), min_size=2, max_size=8), st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_health_never_falls_when_the_price_rises(levels: list[int], debt: int) -> None:
    """Of a loan in whose bands nothing was exchanged; else a price far above sells borrowed tokens dearly."""
    state = opened(*loan(ALICE, debt * ONE // 100, 4 * ONE, 1, 4), *loan(BOB, ONE, 9 * ONE, 3, 8), a=100)
    one = state.loan(ALICE)
    found = [
        health(state, one, debt * ONE // 100, ONE * level // 2_000, START, full=True, discount=one.discount)
        for level in sorted(levels)
    ]
    slack = 10**6  # roundings of a few units of a debt of a hundredth
    assert all(low <= high + slack for low, high in pairwise(found))
    assert CAROL not in state.loans
