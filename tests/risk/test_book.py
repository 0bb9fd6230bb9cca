"""Distances and kinds of insolvency by hand, and against looking at every basis point."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from backtest.errors import UserError
from backtest.protocols.book import Book
from backtest.replay.what_if import proposal as what_if
from backtest.risk.book import (
    AccountRisk,
    debt_within,
    farthest,
    insolvency,
    insolvent,
    moves,
    standings_of,
    toxic_frontier,
)
from backtest.units import WAD
from tests.propose.market import four_borrowers
from tests.sketches.history import USD, USDC, WETH
from tests.support.sketch_history import POOL

DOWN = {WETH: 10_000}


@pytest.fixture
def book() -> Book[Any]:
    """Four accounts with 1 WETH of 2,000 $, threshold 80 %, bonus 5 %, owing 1,000, 1,300, 1,550 and 1,590 $."""
    h = four_borrowers()
    return what_if.book_at(POOL, h.market, h.timeline(), 10, ended=False)


@pytest.mark.parametrize(
    ("bonus", "frontier"),
    [
        (Fraction(45, 1000), 0.9569),
        (Fraction(5, 100), 0.9524),
        (Fraction(75, 1000), 0.9302),
        (Fraction(10, 100), 0.9091),
    ],
    ids=["4.5", "5", "7.5", "10"],
)
def test_the_toxic_frontier(bonus: Fraction, frontier: float) -> None:
    factor = int((1 + bonus) * WAD)
    assert round(float(toxic_frontier(factor)), 4) == frontier
    # Sold into a constant product with 4 times as much on the other side: 1 + 2 / 4.
    assert toxic_frontier(factor, 100, 400) == toxic_frontier(factor) / Fraction(3, 2)


def test_distances_by_hand(book: Book[Any]) -> None:
    """Liquidation where 0.8 p < debt, toxicity where 1.05 debt > p, insolvency where debt > p; p = 2,000 (1 - x)."""
    found, unvalued = standings_of(book, DOWN)
    assert unvalued == 0
    for one, owed in zip(found, (1000, 1300, 1550, 1590), strict=True):
        assert (one.collateral, one.debt) == (2000 * USD, owed * USD)
        assert one.bonus is not None
        assert 0 <= 105 * WAD // 100 - one.bonus < 100  # what is seized is rounded down to a wei
        falls = range(10_000)
        assert one.liquidation == next(x for x in falls if 8 * 2000 * (10_000 - x) < 10 * owed * 10_000)
        assert one.toxicity == next(x for x in falls if 105 * owed * 10_000 > 100 * 2000 * (10_000 - x))
        assert one.insolvency == next(x for x in falls if owed * 10_000 > 2000 * (10_000 - x))
        # The closed forms 1 - 1 / HF, 1 - LT (1 + i) / HF and 1 - LT / HF, to the basis point.
        health = Fraction(1600, owed)
        for exact, closed in (
            (one.liquidation, 1 - 1 / health),
            (one.toxicity, 1 - Fraction(84, 100) / health),
            (one.insolvency, 1 - Fraction(80, 100) / health),
        ):
            assert 0 <= Fraction(exact, 10_000) - closed <= Fraction(1, 10_000)
    assert [one.liquidation for one in found] == [3751, 1876, 313, 63]
    assert debt_within(found, lambda one: one.liquidation, (62, 63, 1000, 2000, 5000)) == [
        0, 1590 * USD, 3140 * USD, 4440 * USD, 5440 * USD,
    ]  # fmt: skip


def test_what_sells_into_a_shallow_pool_turns_toxic_sooner(book: Book[Any]) -> None:
    """1 WETH of 2,000 $ into a pool with 40,000 $ on the other side: lambda 1.1."""
    found, _ = standings_of(book, DOWN, depth={WETH: 40_000 * USD})
    owed = found[0].debt // USD
    assert found[0].toxicity == next(x for x in range(10_000) if 1155 * owed * 10 > 2000 * (10_000 - x))
    with pytest.raises(UserError, match="depth of 0 for WETH"):
        standings_of(book, DOWN, depth={WETH: 0})


def test_a_price_that_rises_where_it_is_owed(book: Book[Any]) -> None:
    """USDC at 1.1 is liquidation for whom a fall of WETH by a tenth would be; a direction that moves nothing of an
    account never reaches it.
    """
    up, _ = standings_of(book, {USDC: -10_000})
    assert [one.liquidation for one in up] == [6001, 2308, 323, 63]  # 1600 / debt - 1
    together, _ = standings_of(book, {WETH: 10_000, USDC: 10_000})
    assert [(one.liquidation, one.toxicity, one.insolvency) for one in together] == [(None, None, None)] * 4
    half, _ = standings_of(book, {WETH: 5_000})
    assert [one.liquidation for one in half] == [7501, 3751, 626, 126]
    assert farthest({WETH: 5_000}) == 19_999
    assert moves({WETH: 5_000, USDC: -10_000}, 100) == {WETH: 995 * WAD // 1000, USDC: 101 * WAD // 100}


def test_who_may_be_liquidated_now_is_at_no_distance(book: Book[Any]) -> None:
    fallen = what_if.moved(book, {WETH: WAD // 2})
    assert book.oracle[WETH] == 2000 * USD
    found, _ = standings_of(fallen, DOWN, cost=20 * USD)
    assert [(one.liquidation, one.insolvency, one.kind) for one in found] == [
        (0, 1, "type II"),  # 1,000 against 1,000: solvent, and nothing left for whoever closes it
        (0, 0, "type I"),
        (0, 0, "type I"),
        (0, 0, "type I"),
    ]
    assert [(row.kind, row.accounts, row.debt, row.short) for row in insolvent(found)] == [
        ("type I", 3, 4440 * USD, 1440 * USD),
        ("type II", 1, 1000 * USD, 0),
        ("dust", 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("collateral", "debt", "cost", "kind"),
    [
        (99, 100, None, "type I"),
        (100, 100, None, "sound"),
        (99, 100, 10, "type I"),
        (109, 100, 10, "type II"),
        (110, 100, 10, "sound"),
        (3, 10, 10, "dust"),
        (15, 10, 10, "dust"),
        (20, 10, 10, "sound"),
        (0, 0, 10, "sound"),
        (0, 1, None, "type I"),
    ],
    ids=str,
)
def test_kinds_of_insolvency(collateral: int, debt: int, cost: int | None, kind: str) -> None:
    assert insolvency(collateral, debt, cost) == kind


@pytest.mark.slow
def test_every_account_of_the_crash_against_its_rule() -> None:
    """Aave's accounts of the bundled crash: at each distance the exact rule holds, one basis point before it does
    not.
    """
    from backtest.lake import Lake
    from backtest.protocols.registry import protocol_named
    from backtest.resources import resource
    from backtest.results import load_material

    material = load_material(Lake(resource("sample") / "lake"), "sample-crash")
    protocol, timeline = protocol_named(material.config.protocol), material.timeline()
    book = what_if.book_at(protocol, material.market, timeline, timeline.last_block, ended=True)
    direction = {asset.id: 10_000 for asset in material.market.assets if "ETH" in asset.symbol}
    found, unvalued = standings_of(book, direction)
    assert unvalued == 0
    assert len(found) > 20

    def view(one: AccountRisk, fall: int) -> Any:
        then = what_if.moved(book, moves(direction, fall))
        return protocol.view(then.state, one.account, then.prices, then.now)

    reached = 0
    for one in found:
        for distance, holds in (
            (one.liquidation, lambda seen: seen.health < WAD),
            (one.insolvency, lambda seen: seen.debt_base > seen.collateral_base),
        ):
            if distance is None:
                assert not holds(view(one, 9_999))
            else:
                reached += 1
                assert holds(view(one, distance))
                assert distance == 0 or not holds(view(one, distance - 1))
        if one.toxicity is not None and one.liquidation is not None and one.insolvency is not None:
            assert one.toxicity <= one.insolvency
    assert reached > 20
