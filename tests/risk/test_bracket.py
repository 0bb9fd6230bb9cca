"""What no move can do: bounds against closed forms, and against the exact book moved at random."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from backtest.at_risk import _collateral, _searched
from backtest.lake import Lake
from backtest.protocols.registry import protocol_named
from backtest.replay.what_if.proposal import after_move, book_at
from backtest.resources import resource
from backtest.results import load_material
from backtest.risk.book import AccountRisk, standings_of
from backtest.risk.bracket import CLOSE, dearest, excluded, is_bounded
from backtest.risk.reverse import Exposed, exposed, smallest
from backtest.units import WAD

USD = 10**8


def picture_of(owed: list[list[float]], held: list[list[float]], bonus: float = 1.0) -> Exposed:
    rows = len(owed)
    return Exposed(
        tuple(range(len(owed[0]) - 1)),
        np.array(held) * USD,
        np.array(owed) * USD,
        np.full(rows, 1 / bonus),
        np.zeros(rows),
    )


@pytest.mark.parametrize("bonus", [1.0, 1.05], ids=["without", "with"])
def test_one_account_of_one_collateral_is_its_closed_form(bonus: float) -> None:
    """It holds 1,000 and owes 800 of what stands: beyond reserves of 50 from 750 (1 + i) / 1000 of the price on."""
    picture = picture_of([[0.0, 800.0]], [[1_000.0, 0.0]], bonus)
    exact = -math.log(750 * bonus / 1_000)
    found = excluded(picture, 50 * USD, exact)
    assert CLOSE * exact <= found.size <= exact
    assert excluded(picture, 50 * USD, 0.5 * exact).size == pytest.approx(0.5 * exact)  # no further than is asked
    assert excluded(picture, 50 * USD, 2 * exact).size == pytest.approx(exact, rel=0.01)
    assert excluded(picture, 800 * USD, 3.0).size == pytest.approx(3.0)


def test_two_prices_that_part() -> None:
    """1,000 of one against 900 of the other: nothing is bad up to |z| = ln(1000 / 900) / sqrt 2, each half of it."""
    picture = picture_of([[0.0, 900.0, 0.0]], [[1_000.0, 0.0, 0.0]])
    exact = math.log(1_000 / 900) / math.sqrt(2)
    found = excluded(picture, USD // 100, 2 * exact)
    assert 0.98 * exact <= found.size <= exact * (1 + 1e-4)


def test_what_is_bad_already_excludes_nothing() -> None:
    assert excluded(picture_of([[0.0, 900.0]], [[800.0, 0.0]]), 50 * USD, 1.0).size == 0


def test_the_dearest_liquidation_counts_for_all() -> None:
    picture = picture_of([[0.0, 800.0]], [[1_000.0, 0.0]])
    assert excluded(picture, 50 * USD, 1.0, bonus=1.2).size == pytest.approx(-math.log(0.9), rel=0.01)


@pytest.fixture(scope="module")
def sample() -> tuple[Any, Any, list[AccountRisk], Any]:
    """The bundled book at its end, the prices that are searched, its accounts, and history's parameters."""
    material = load_material(Lake(resource("sample") / "lake"), "sample-crash")
    timeline = material.timeline()
    protocol = protocol_named(material.config.protocol)
    book = book_at(protocol, material.market, timeline, timeline.last_block, ended=True)
    found, unvalued = standings_of(book, _collateral(material.tables, book), cost=None, depth={})
    assert not unvalued
    return book, _searched(book, found), list(found), timeline.params


@pytest.mark.slow
@pytest.mark.parametrize("reserves", [1_000, 100_000], ids=["few", "many"])
def test_no_move_within_leaves_more_than_reserves(
    sample: tuple[Any, Any, list[AccountRisk], Any], reserves: int
) -> None:
    """The exact book after moves at random on the edge of what is excluded, those of the searches' ways among them; and
    the smallest move that is enough lies beyond.
    """
    book, assets, found, params = sample
    picture = exposed(book, assets, found)
    bonus = dearest(book, params)
    assert bonus is not None
    assert bonus > 1
    assert is_bounded(book, picture)
    limit = reserves * 10**book.market.base_decimals
    nearest = smallest(book, assets, found, limit).found[0]
    none = excluded(picture, limit, nearest.size, bonus).size
    assert 0.4 * nearest.size < none <= nearest.size
    draw = np.random.default_rng(reserves)
    ways = [*draw.standard_normal((60, len(assets))), *np.eye(len(assets)), *-np.eye(len(assets))]
    ways.append(np.array([nearest.direction.get(asset, 0) for asset in assets]) * -1.0)
    worst = 0
    for way in ways:
        factors = np.exp(way / np.linalg.norm(way) * none)
        move = {asset: int(factor * WAD) for asset, factor in zip(assets, factors.tolist(), strict=True)}
        worst = max(worst, after_move(book, move).bad_debt_base)
    assert worst <= limit
    assert worst or reserves < 100_000  # a move that leaves something is among them
