"""What a change does by itself to the book of a moment, and after a fall of prices: by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from backtest.protocols.book import Book
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.replay.timeline import Timeline
from backtest.replay.what_if import proposal as what_if
from backtest.resources import resource
from backtest.scenario import Override
from backtest.units import WAD
from tests.propose.market import four_borrowers
from tests.sketches.history import USD, USDC, WETH
from tests.support.sketch_history import POOL


def lower(value: int) -> list[Override]:
    return [Override(parameter="liquidation_threshold", asset="WETH", value=value)]


@pytest.fixture
def before() -> tuple[Book[Any], Timeline]:
    """The book before block 10: nobody was liquidated yet."""
    h = four_borrowers()
    timeline = h.timeline()
    return what_if.book_at(POOL, h.market, timeline, 10, ended=False), timeline


def test_who_becomes_liquidatable_and_at_which_step_of_a_ramp(before: tuple[Book[Any], Timeline]) -> None:
    """From 80 to 76 %: limits of 1,520 $, so that 1,550 and 1,590 $ are too much. In ten steps of 0.4 points the one
    who owes 1,590 (79.5 %) is hit by the second (79.2 %), the other (77.5 %) by the seventh (77.2 %).
    """
    book, timeline = before
    effect = what_if.effect_of(book, timeline, lower(7600), 10)
    assert (effect.touched, effect.of, effect.left_alone) == (4, 4, 0)
    assert [(made.after.account, made.after.debt_base, made.step) for made in effect.made] == [
        (3, 1590 * USD, 2),
        (2, 1550 * USD, 7),
    ]
    assert [made.before.health for made in effect.made] == [1600 * WAD // 1590, 1600 * WAD // 1550]
    assert [made.after.health for made in effect.made] == [1520 * WAD // 1590, 1520 * WAD // 1550]
    assert what_if.effect_of(book, timeline, lower(7600), 1).made[0].step == 1


def test_no_change_makes_nobody_liquidatable(before: tuple[Book[Any], Timeline]) -> None:
    book, timeline = before
    effect = what_if.effect_of(book, timeline, lower(8000), 10)
    assert (effect.touched, effect.made) == (0, ())
    assert [*what_if.changes_of(book, timeline, lower(8000))] == [[]]
    assert what_if.after_fall(book, [WETH], 2500) == what_if.after_fall(
        what_if.changed(book, timeline, lower(8000)), [WETH], 2500
    )


def test_a_moment_of_the_change_itself_does_not_matter(before: tuple[Book[Any], Timeline]) -> None:
    """A ramp, or a date, is asked about in full."""
    book, timeline = before
    ramp = [
        Override(parameter="liquidation_threshold", asset="WETH", value=7600, from_block=12, until_block=20, steps=2)
    ]
    assert what_if.effect_of(book, timeline, ramp, 10) == what_if.effect_of(book, timeline, lower(7600), 10)
    by = [Override(parameter="liquidation_threshold", asset="WETH", change=-400)]
    assert what_if.effect_of(book, timeline, by, 10) == what_if.effect_of(book, timeline, lower(7600), 10)


@pytest.mark.parametrize(("bonus", "bad"), [(10_500, Fraction(3140) - 2 * 1500 / Fraction("1.05")), (11_000, None)])
def test_bad_debt_after_a_fall_is_what_the_bonus_leaves_uncovered(
    before: tuple[Book[Any], Timeline], bonus: int, bad: Fraction | None
) -> None:
    """At 1,500 $ the two who owe 1,550 and 1,590 are liquidated until nothing is left: 1,500 $ of collateral pay for
    1,500 / (1 + bonus) of debt each, and the rest of 3,140 is lost. The one who owes 1,300 has a limit of 1,200 and is
    liquidated to safety.
    """
    book, timeline = before
    overrides = [Override(parameter="liquidation_bonus", asset="WETH", value=bonus)]
    fallen = what_if.after_fall(what_if.changed(book, timeline, overrides), [WETH], 2500)
    assert (fallen.accounts, fallen.debt_base) == (3, (1550 + 1590 + 1300) * USD)
    lost = bad if bad is not None else Fraction(3140) - 2 * 1500 / Fraction("1.1")
    assert fallen.bad_debt_base == pytest.approx(float(lost) * USD, abs=USD // 100)
    assert fallen.repaid_base is not None
    assert fallen.repaid_base > (3140 - lost) * USD - USD
    assert book.oracle[WETH] == 2000 * USD  # the book stays as it is
    assert len(list(what_if.standings(what_if.views_of(book), unsafe=True))) == 0


def test_a_fall_that_reaches_nobody(before: tuple[Book[Any], Timeline]) -> None:
    book, _ = before
    assert what_if.after_fall(book, [USDC], 5000) == what_if.Fallen(0, 0, 0, 0)  # debt is worth less
    assert what_if.after_fall(book, [], 5000) == what_if.Fallen(0, 0, 0, 0)


def test_the_book_of_a_moment_is_historys() -> None:
    """Before block 11 nothing was liquidated, at its end 600 $ were."""
    h = four_borrowers()
    timeline = h.timeline()
    for block, ended, owed in ((11, False, 1590), (11, True, 990), (30, True, 990)):
        book = what_if.book_at(POOL, h.market, timeline, block, ended=ended)
        assert POOL.view(book.state, 3, book.prices, book.now).debt_base == owed * USD
        assert book.now.block_number == block


def test_accounts_at_once_and_one_by_one_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aave's compiled liquidations of a moment against its plain rules, on the bundled crash."""
    from backtest.lake import Lake
    from backtest.results import load_material

    material = load_material(Lake(resource("sample") / "lake"), "sample-crash")
    protocol = protocol_named(material.config.protocol)
    timeline = material.timeline()
    book = what_if.book_at(protocol, material.market, timeline, timeline.last_block, ended=True)
    assets = [asset.id for asset in material.market.assets if asset.symbol in ("WETH", "wstETH")]
    together = what_if.after_fall(book, assets, 4000)
    monkeypatch.setattr(type(protocol), "together", LendingProtocol.together)
    assert what_if.after_fall(book, assets, 4000) == together
    assert together.accounts > 10
    plain = book.copy()
    plain.plain = True
    for unsafe in (True, False):
        ours, theirs = (list(what_if.standings(what_if.views_of(one), unsafe=unsafe)) for one in (book, plain))
        assert ours == theirs
