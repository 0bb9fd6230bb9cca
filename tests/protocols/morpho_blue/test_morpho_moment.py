"""Bounds of what positions pay while others are liquidated, and that few are quoted again because of them."""

from __future__ import annotations

from collections import Counter
from importlib import import_module

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.liquidation import (
    HEALTHY,
    NOTHING,
    ON_OFFER,
    TOO_MUCH,
    assets_for_up,
    is_between,
    least_assets_after,
    left_by,
    most_of,
    offered,
    offered_at_most,
)
from backtest.protocols.morpho_blue.math import ORACLE_PRICE_SCALE
from backtest.replay.engine import replay
from backtest.scenario import Competitive, Scenario
from backtest.units import WAD
from tests.bench.bench_moment import BY_OVERRIDE, book
from tests.support.compiled_loop import compare, count_ends, outcome
from tests.support.morpho_history import crowded_history

LLTV, FIRST = 86 * WAD // 100, 10
AMOUNTS = st.one_of(st.integers(0, 30), st.integers(0, 10**4), st.integers(0, 10**9))


@st.composite
def moments(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """A position whose debt is near what its collateral carries, or pays for, with the totals that there are; the terms
    of the market; and assets that debt per share may fall to.
    """
    price = draw(st.sampled_from((1, 7, 10**3))) * ORACLE_PRICE_SCALE // draw(st.sampled_from((1, 3, 10**3)))
    incentive = draw(st.sampled_from((WAD, WAD + 1, 1_043_841_336_116_910_229, 115 * WAD // 100)))
    collateral = draw(AMOUNTS)
    worth = collateral * price // ORACLE_PRICE_SCALE
    near = draw(st.sampled_from((worth * LLTV // WAD, assets_for_up(collateral, price, incentive), worth)))
    owed = max(1, near + draw(st.integers(-4, 4)))
    assets = owed + draw(AMOUNTS)
    total_shares = draw(st.integers(1, 4)) * assets * 10**6 // draw(st.integers(1, 4)) + draw(st.integers(0, 10**6))
    shares = max(1, min(total_shares, owed * (total_shares + 10**6) // (assets + 1) + draw(st.integers(-2, 2))))
    sold = draw(st.sampled_from((price, price * 97 // 100, price * 103 // 100))) * 100 // ORACLE_PRICE_SCALE
    terms = (price, LLTV, incentive, sold, draw(st.sampled_from((100, 10**8))), 1, draw(st.sampled_from((1, 10**6))))
    return (shares, collateral, assets, total_shares), terms, draw(st.integers(0, assets))


@settings(max_examples=250, deadline=None)
@given(moments(), st.data())
def test_bounds_hold_while_debt_per_share_is_between(
    moment: tuple[tuple[int, ...], tuple[int, ...], int], data: st.DataObject
) -> None:
    (shares, collateral, assets, total_shares), terms, least = moment
    bound = offered_at_most(shares, collateral, assets, total_shares, least, *terms)
    then, _, _ = offered(shares, collateral, assets, total_shares, *terms)
    later_shares = data.draw(st.one_of(st.just(total_shares), st.integers(0, total_shares)))
    low, high = (made * (later_shares + 10**6) // (total_shares + 10**6) - 1 for made in (least + 1, assets + 1))
    later = data.draw(st.integers(max(0, low), max(0, low, high)))
    assume(is_between(later, later_shares, least, assets, total_shares))
    how, paid, brought = offered(shares, collateral, later, later_shares, *terms)
    assert brought - paid <= bound or how != ON_OFFER
    assert how == HEALTHY or then != HEALTHY
    assert how != NOTHING or then == NOTHING
    assert TOO_MUCH not in (then, how)


def test_bounds_by_hand() -> None:
    """Totals of 99 assets and 99e6 shares: with the virtual ones 10e6 shares owe 10. A unit of collateral is worth one
    of the loan token, and is sold for as much; the incentive is 15 %. Base units are native ones.
    """
    totals, terms = (99, 99 * 10**6), (ORACLE_PRICE_SCALE, LLTV, 115 * WAD // 100, 1, 1, 1, 1)
    # 11 carry 9.46, less than 10; 10 take 11.5, so 11. With 95 assets 9.6 are owed, 10 rounded up: 11 - 10.
    assert offered_at_most(10 * 10**6, 11, *totals, 95, *terms) == 1
    # With 89 assets 9 are owed: 11 - 9.
    assert offered_at_most(10 * 10**6, 11, *totals, 89, *terms) == 2
    # 10 are less than 11 and pay for 10 / 1.15 = 8.7, so 9, which is less than the 10 that are owed: 10 - 9.
    assert offered_at_most(10 * 10**6, 10, *totals, 95, *terms) == 1
    # With 79 assets 8 are owed, fewer than 9: 10 - 8.
    assert offered_at_most(10 * 10**6, 10, *totals, 79, *terms) == 2
    # 12 carry 10.32, more than is owed.
    assert offered_at_most(10 * 10**6, 12, *totals, 79, *terms) == 0
    # After 5 calls at least 99 - 4 x 5 are borrowed; after 30 nothing may be.
    assert (least_assets_after(99, 5), least_assets_after(99, 30)) == (79, 0)
    assert is_between(49, 49 * 10**6, 99, 99, 99 * 10**6)
    assert not is_between(48, 49 * 10**6, 99, 99, 99 * 10**6)
    assert is_between(48, 49 * 10**6, 97, 99, 99 * 10**6)  # 98 / 100 = 49 / 50
    assert not is_between(50, 49 * 10**6, 97, 99, 99 * 10**6)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=2, max_size=8))
def test_calls_lower_debt_per_share_by_their_roundings(odd: int, positions: list[tuple[int, int]]) -> None:
    terms = ORACLE_PRICE_SCALE, 115 * WAD // 100
    owed = [(collateral * 4 // 5 + more) * 10**6 + odd for collateral, more in positions]
    assets, shares = sum(owed) // 10**6 + odd % 3, sum(owed)
    first, least = (assets, shares), least_assets_after(assets, len(owed))
    for (collateral, _), own in zip(positions, owed, strict=True):
        repaid, seized = most_of(own, collateral, *terms, assets, shares)
        if not own or repaid > own:
            continue
        before = assets, shares
        _, _, _, assets, shares = left_by(repaid, seized, own, collateral, assets, shares)
        if assets:  # else what is left, rounded up, is nothing, and a share may be worth more than before
            assert is_between(assets, shares, 0, *before)
        if assets and 2 * shares >= first[1]:
            assert is_between(assets, shares, least, *first)


@pytest.mark.parametrize("holds", [True, False])
def test_few_are_quoted_again_as_long_as_bounds_hold(holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()
    together = import_module("backtest.protocols.morpho_blue.together")
    over = together.over

    def counted(*args: int) -> tuple[int, int, int]:
        asked["one"] += 1
        return offered(*args)

    def counted_over(rule: object, *args: object, rows: int) -> object:
        asked["all"] += rule is counted
        return over(offered if rule is counted else rule, *args, rows=rows)  # type: ignore[arg-type]

    monkeypatch.setattr(together, "offered", counted)
    monkeypatch.setattr(together, "over", counted_over)
    if not holds:
        monkeypatch.setattr(together, "is_between", lambda *_: False)
    of, history = book(100, fall=0.0)
    made = replay(MORPHO_BLUE, of, history, BY_OVERRIDE)
    assert len(made.liquidations) == 100
    assert 70 < asked["one"] < 200 if holds else not asked["one"]
    assert 2 <= asked["all"] < 10 if holds else asked["all"] == 101
    assert outcome(made) == outcome(replay(MORPHO_BLUE, of, history, BY_OVERRIDE, screened=False))


def test_a_crowd_is_liquidated_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, total = count_ends(monkeypatch), 0
    for seed in range(100, 112):
        scenario = Scenario(liquidators=Competitive(gas_cost=seed % 3 * 200), from_block=FIRST)
        total += compare(MORPHO_BLUE, crowded_history(seed), scenario, seed)
    assert total > 200
    assert ended["made"] > total // 3
    assert ended["not here"] > 0
