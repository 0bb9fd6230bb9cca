"""A stated range of oracle prices held against what the chain accepted: made-up vaults, numbers by hand; and how the
count is told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backtest.model import AssetId
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.params import DOG_2_0
from backtest.replay.forecast import Ahead, PriceRanges, look_ahead
from backtest.report.validation import causes_table, figures_table, range_sentence, told
from backtest.scenario import Competitive
from backtest.units import RAY, WAD
from backtest.validation import _Held, _range_notes
from tests.sketches.history import History, market

ETH, DAI = 0, 1
TAKEN, LOW, HIGH = 1_300, 1_200, 1_400
"""The price taken for the oracle's, and the range that is stated for it."""


def vaults(dust: int = 0) -> History:
    """Eight vaults with 10 collateral each; at 130 % each may owe 10,000 at the price taken, 10,769 at its highest."""
    h = History(replace(market(("ETH", 18), ("DAI", 18), protocol="maker"), base_decimals=18))
    for name, value in {
        "liquidation_ratio": 13 * RAY // 10,
        "liquidation_penalty": 113 * WAD // 100,
        "liquidation_system": DOG_2_0,
        "dust": dust,
    }.items():
        h.param(name, value)
    h.index(DAI).price(DAI, WAD).price(ETH, TAKEN * WAD)
    for account in range(8):
        h.position(account, ETH, "collateral", 10 * WAD)
    return h.block(100, 7_200)


def asked(h: History, ranges: list[tuple[int, int] | None] | None = None, **window: int) -> Ahead:
    bounds = [(LOW * WAD, HIGH * WAD)] if ranges is None else ranges
    known = {AssetId(ETH): PriceRanges([3_600 * place for place in range(len(bounds))], bounds)}
    return look_ahead(MAKER, h.market, h.timeline(), Competitive(), known, **window)  # type: ignore[arg-type]


def borrow(h: History, account: int, dai: int) -> History:
    return h.position(account, DAI, "debt", dai * WAD, "borrow")


def test_what_the_chain_accepted_beyond_the_best_price_of_the_range_refutes_it() -> None:
    h = vaults()
    borrow(h, 0, 10_000)  # safe at the price taken
    borrow(h, 1, 10_769)  # safe at the highest price only
    borrow(h, 2, 10_770)  # at no price of the range
    h.position(0, ETH, "collateral", -WAD, "withdraw")  # 9 x 1,400 / 1.3 = 9,692
    h.position(2, DAI, "debt", -WAD, "repay")  # lowers risk: nothing to check
    h.position(3, ETH, "collateral", 5 * WAD, "supply")
    found = asked(h)
    assert found.accepted == {0: 2, 1: 1, 2: 1}
    assert found.beyond == {0: 1, 2: 1}


def test_a_liquidation_of_what_was_safe_at_every_price_refutes_it_too() -> None:
    """At 1,200 a vault of 10 may owe 9,230."""
    h = vaults()
    for account, owed in ((0, 9_300), (1, 9_200)):
        borrow(h, account, owed)
    for account, owed in ((0, 9_300), (1, 9_200)):
        closing = h.next_seq + 2
        with h.transaction():
            h.position(account, ETH, "collateral", -10 * WAD, "liquidation", closing)
            h.position(account, DAI, "debt", -owed * WAD, "liquidation", closing)
            h.liquidation(account, 7, DAI, ETH, owed * WAD, 10 * WAD)
    found = asked(h)
    assert found.accepted == {0: 2, 1: 2}
    assert found.beyond == {1: 1}
    assert [past.possible for past in found.pasts] == [True, False]


def test_what_is_refused_at_every_price_says_nothing_about_the_range() -> None:
    """A debt below the dust, which exports may show where a flow is missing."""
    h = vaults(dust=5_000 * WAD)
    borrow(h, 0, 1_000)
    found = asked(h)
    assert (found.accepted, found.beyond) == ({0: 1}, {})


def test_where_no_range_is_known_nothing_is_held_against_it() -> None:
    h = borrow(vaults(), 0, 50_000)
    gap = asked(h, [(LOW * WAD, HIGH * WAD), None, None, None])
    assert (gap.accepted, gap.beyond) == ({}, {})
    exact = look_ahead(MAKER, h.market, h.timeline(), Competitive(), {})
    assert (exact.accepted, exact.beyond) == ({}, {})
    other = look_ahead(MAKER, h.market, h.timeline(), Competitive(), {AssetId(9): PriceRanges([0], [(1, 2)])})
    assert (other.accepted, other.beyond) == ({}, {})


def test_only_what_lies_in_the_window_counts() -> None:
    h = borrow(vaults(), 0, 10_770).block(200, 7_300)
    borrow(h, 1, 10_770).block(300, 7_400)
    borrow(h, 2, 10_770)
    assert asked(h, from_block=200, to_block=299).beyond == {1: 1}


def test_a_withdrawal_that_empties_a_vault_with_its_debt_is_accepted() -> None:
    """Debt and collateral go to nothing in one call."""
    h = borrow(vaults(), 0, 10_000)
    call = h.next_seq + 1
    with h.transaction():
        h.position(0, DAI, "debt", -10_000 * WAD, "withdraw", call)
        h.position(0, ETH, "collateral", -10 * WAD, "withdraw", call)
    found = asked(h)
    assert (found.accepted, found.beyond) == ({0: 2}, {})


# -- told --------------------------------------------------------------------------------------------------------------


def row(accepted: int | None, beyond: int | None, alarms: str = "all") -> dict[str, Any]:
    return {"accepted": accepted, "accepted_beyond": beyond, "alarms": alarms}


def test_the_count_is_told_with_the_figures_and_names_whose_they_are() -> None:
    assert range_sentence(row(None, None)) == ""
    assert range_sentence(row(1_200, 0)).startswith("None of 1,200")
    assert range_sentence(row(1_200, 29)).startswith("29 of 1,200")
    assert "does not hold" in range_sentence(row(1_200, 29))
    (sound,) = _range_notes(_Held(accepted=1_200, by_account={}, left_out=0))
    assert "nothing here refutes it" in sound
    many = {f"vault {place}": 9 - place for place in range(7)}
    refuted, apart = _range_notes(_Held(accepted=1_200, by_account=many, left_out=3))
    assert "42 lie outside" in refuted
    assert "vault 0: 9" in refuted
    assert "and 2 accounts more" in refuted
    assert "Another 3" in apart


def test_alarms_throughout_a_range_are_shown_where_one_is_stated_only() -> None:
    both = [row(None, None), row(None, None, "throughout")]
    assert told(both) == both[:1]
    stated = [row(5, 1), row(5, 1, "throughout")]
    assert told(stated) == stated


@pytest.mark.parametrize(("ranged", "words"), [(True, "false alarm (throughout the range)"), (False, "false alarm")])
def test_nothing_shown_calls_an_alarm_certain(ranged: bool, words: str) -> None:
    alarm = {"mode": "one-step", "outcome": "false alarm", "throughout": True, "cause": "its owner acted"}
    table = causes_table([alarm], ranged=ranged)
    assert table.rows == (("one step ahead", words, "its owner acted", "1"),)
    assert figures_table([]).header == ("",)
