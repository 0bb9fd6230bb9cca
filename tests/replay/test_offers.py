"""Offers that are outdated never come back: neither where an account has nothing left to sell, nor where quoting it
fails.
"""

from __future__ import annotations

import pytest

from backtest.crashes import ModelBook, PricePath
from backtest.crashes.book import market_of
from backtest.protocols.maker import MAKER
from backtest.replay.engine import replay
from backtest.replay.mechanisms.offers import Offers
from backtest.scenario import Competitive, FixedSpread, Scenario
from backtest.units import WAD


def test_an_account_that_has_sold_all_and_still_owes_is_no_offer() -> None:
    """One account of 100 debt at a health of 1.1 and 80 %: 137.5 of collateral, worth 55 after the fall to 0.4. All of
    it goes for 52.38 of debt at a bonus of 5 %, and the rest stays owed.
    """
    path = PricePath(collateral="C", debt="D", source="made up", points=(("2020-01-01", "1"), ("2020-01-02", "0.4")))
    book = ModelBook(accounts=1, debt=100, threshold=8_000, bonus=10_500, close_factor=10_000, healths=(11_000, 11_000))
    for screened in (True, False):
        scenario = Scenario(
            liquidators=Competitive(), mechanism=FixedSpread(bonus=10_500, close_factor=10_000), from_block=2
        )
        made = replay(MAKER, *market_of(path, book), scenario, screened=screened)
        (one,) = made.liquidations
        assert one.fill.seized == 1375 * WAD // 10
        assert one.fill.repaid == -(-55 * WAD * 10_000 // 10_500)
        assert made.horizons[0].open_bad_debt_base == 100 * WAD - one.fill.repaid
        assert made.refused["no collateral"] == 1


def test_an_account_that_cannot_be_quoted_is_a_defect_and_no_old_offer() -> None:
    answers: list[list[str]] = [["old"]]
    offers = Offers(lambda account: answers.pop(), [7])  # type: ignore[arg-type,return-value]
    assert list(offers[7]) == ["old"]  # type: ignore[comparison-overlap,index]
    offers.outdate([7])  # type: ignore[list-item]

    def broken(account: object) -> list[str]:
        raise KeyError("no such asset")

    offers._quote = broken  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="account 7 cannot be quoted"):
        list(offers)
