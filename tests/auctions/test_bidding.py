"""English auctions with few bidders: who bids what, as laws of single moments and through whole replays, numbers by
hand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.auctions.bidding import Bidder, Values, Worth, largest_lot_down, least_bid_up, lowered, raised, worth_to
from backtest.auctions.english import EnglishAuction
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.auctions import Auctions, IlkAuctions
from backtest.protocols.maker.params import CAT_1_1, DOG_2_0
from backtest.protocols.maker.state import MakerState
from backtest.replay.competition.gas import BaseFees
from backtest.replay.competition.searchers import Searchers
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import Costs, Gas, Participation, Scenario, Searcher, Step
from backtest.units import BPS, RAY, WAD
from tests.support.random_vaults import random_vaults
from tests.support.vault_history import START, history, steps

GWEI = 10**9
BEG = 105 * WAD // 100

amounts = st.integers(0, 10**6 * RAY * WAD)


@st.composite
def moments(draw: st.DrawFn) -> tuple[EnglishAuction, str | None, list[Worth], int]:
    """An open auction, who holds its bid, those who are there, and beg."""
    tab, lot = draw(st.integers(1, 10**6)) * WAD * RAY, draw(st.integers(2, 10**3)) * WAD
    bid = draw(st.sampled_from((0, 1, tab)) | st.integers(0, tab))
    flip = EnglishAuction(tab, lot, 10**6, bid, 600 if bid else 0)
    there = []
    for number in range(draw(st.integers(0, 4))):
        worth = min(tab, draw(amounts))
        there.append(Worth(f"k{number}", worth, draw(st.integers(1, lot)) if worth == tab else None))
    holder = draw(st.sampled_from(("k0", "k1", "elsewhere"))) if bid else None
    return flip, holder, there, draw(st.sampled_from((BEG, 103 * WAD // 100, WAD)))


@given(moments())
def test_a_bid_is_one_that_the_contract_takes_and_never_above_what_the_lot_is_worth(
    moment: tuple[EnglishAuction, str | None, list[Worth], int],
) -> None:
    flip, holder, there, beg = moment
    found = raised(flip, holder, there, beg)
    others = sorted((worth.bid for worth in there if worth.name != (found or (None,))[0]), reverse=True)
    if found is None:
        able = [worth.name for worth in there if worth.bid >= least_bid_up(flip, beg)]
        assert flip.bid == flip.tab or not able or able == [holder]
        return
    name, bid = found
    worth = next(each.bid for each in there if each.name == name)
    assert flip.tend_refused(bid, beg, 100) is None
    assert bid <= worth
    assert worth >= max(others, default=0)
    assert bid == max(
        least_bid_up(flip, beg), others[0] if others else 0
    )  # what the second would still give, or the least
    assert len(there) > 1 or bid == least_bid_up(flip, beg)


@given(moments())
def test_a_lot_that_is_asked_for_is_one_that_the_contract_takes_and_never_less_than_is_worth_the_tab(
    moment: tuple[EnglishAuction, str | None, list[Worth], int],
) -> None:
    flip, holder, there, beg = moment
    flip = replace(flip, bid=flip.tab, expires=600)
    found = lowered(flip, holder, there, beg)
    if found is None:
        able = [worth.name for worth in there if worth.lot is not None and worth.lot <= largest_lot_down(flip, beg)]
        assert not able or able == [holder]
        return
    name, lot = found
    least = next(each.lot for each in there if each.name == name)
    assert flip.dent_refused(lot, beg, 100) is None
    assert least is not None
    assert least <= lot
    assert lot == min(
        largest_lot_down(flip, beg),
        *(each.lot for each in there if each.name != name and each.lot is not None),
        flip.lot,
    )


@given(
    st.integers(0, 10**24),
    st.integers(0, 10**22),
    st.integers(0, BPS),
    st.none() | st.integers(0, 10**24),
    st.integers(WAD // 2, 2 * WAD),
)
def test_a_lot_is_worth_what_leaves_costs_and_margin(
    proceeds: int, costs: int, margin: int, most: int | None, dai: int
) -> None:
    flip = EnglishAuction(10**5 * WAD * RAY, 50 * WAD, 10**6)
    worth = worth_to(Bidder("k", costs, margin, most), flip, proceeds, Values(max(1, proceeds // 50), WAD, dai, WAD))
    paid = worth.bid * dai // (RAY * WAD)
    assert 0 <= worth.bid <= flip.tab
    assert most is None or paid <= most
    assert not worth.bid or proceeds - paid - costs >= paid * margin // BPS - 1
    assert (worth.lot is None) == (worth.bid < flip.tab)


def test_who_holds_the_bid_does_not_outbid_itself() -> None:
    flip = EnglishAuction(100 * RAY, WAD, 10**6, 1, 600)
    assert raised(flip, "a", [Worth("a", 50 * RAY)], BEG) is None
    assert raised(flip, "a", [Worth("a", 50 * RAY), Worth("b", 1)], BEG) is None  # 1 is no higher bid
    assert raised(flip, "a", [Worth("a", 50 * RAY), Worth("b", 40 * RAY)], BEG) == ("a", 40 * RAY)
    assert raised(flip, "b", [Worth("a", 50 * RAY)], BEG) == ("a", 2)


# -- replays
# -------------------------------------------------------------------------------------------------------------------

FREE = Costs(gas=Gas(fee="constant", base_fee=0, native_price=WAD, units=0))


def run(h: Any, *searchers: Searcher, costs: Costs = FREE, auctions: Auctions | None = None) -> Replay[MakerState]:
    terms = Participation(searchers=searchers, distribution="searchers")
    return replay(MAKER, h.market, h.timeline(), Scenario(liquidators=terms, costs=costs), mechanism=auctions)


def fees(*steps: tuple[int, int]) -> Costs:
    """Base fees (gwei) by seconds after the fall; calls cost nothing, so that only caps matter."""
    times = [
        Step(
            from_time=f"1970-01-01T{(START + s) // 3600:02}:{(START + s) % 3600 // 60:02}:{(START + s) % 60:02}",
            base_fee=fee * GWEI,
        )
        for s, fee in steps
    ]
    first = Step(from_time="1970-01-01T00:00:00", base_fee=10 * GWEI)
    return Costs(gas=Gas(fee="steps", steps=(first, *times), native_price=1, units=1))


def conserved(result: Replay[MakerState]) -> None:
    """Collateral: what left the vault went to winners or, by dents, to its owner. Debt: what was bid and what was not
    covers it.
    """
    opened = [row.fill for row in result.liquidations if row.stage == "opened"]
    deals = [row.fill for row in result.liquidations if row.step == "deal"]
    assert sum(fill.seized for fill in deals) <= sum(fill.seized for fill in opened) == 10 * WAD
    assert sum(fill.repaid for fill in opened) == 10_000 * WAD
    shortfall = sum(deficit.amount for deficit in result.deficits)
    assert sum(fill.repaid for fill in deals) + shortfall >= 10_000 * WAD
    assert result.book.state.params["raising"] == 0


def test_one_bidder_alone_bids_next_to_nothing() -> None:
    """The least: 10^-45 DAI, which a wad rounds up to its last place."""
    result = run(history(CAT_1_1, 1_290), Searcher(name="a"))
    assert steps(result) == [("bite", 0), ("tend", 0)] * 3 + [("deal", 3_601)] * 3
    deals = [row for row in result.liquidations if row.step == "deal"]
    assert [row.fill.repaid for row in deals] == [1, 1, 1]
    assert sum(deficit.amount for deficit in result.deficits) == 10_000 * WAD
    assert {result.book.address(row.fill.order.liquidator) for row in deals} == {"model:a"}
    conserved(result)


def test_two_bidders_pay_what_the_lot_is_worth_to_the_second() -> None:
    """At 600 the lots are worth less than their tabs; b wants to earn 100 with each."""
    result = run(history(CAT_1_1, 600), Searcher(name="a"), Searcher(name="b", min_profit=100 * WAD))
    first = next(row for row in result.liquidations if row.step == "deal")
    value = 4_424_778_761_061_946_902 * 600
    assert first.fill.repaid == value - 100 * WAD
    assert result.book.address(first.fill.order.liquidator) == "model:a"
    assert first.profit_base == 100 * WAD
    conserved(result)


def test_equals_end_where_frictionless_bidding_does() -> None:
    """Two alike, and the one account that stands for all: the same bids, lots and times."""
    from tests.support.vault_history import run as frictionless

    for price in (600, 1_290):
        few = run(history(CAT_1_1, price), Searcher(name="a"), Searcher(name="b"))
        all_of_them = frictionless(history(CAT_1_1, price))
        sold = [
            sorted((row.fill.repaid, row.fill.seized) for row in each.liquidations if row.step == "deal")
            for each in (few, all_of_them)
        ]
        assert sold[0] == sold[1]
        conserved(few)


def test_nobody_below_the_gas_price_means_no_bid_until_gas_falls() -> None:
    """20 gwei for an hour, with caps of 15: the lots wait; then both bid and compete."""
    pair = (Searcher(name="a", gas_cap=15 * GWEI), Searcher(name="b", gas_cap=15 * GWEI))
    result = run(history(CAT_1_1, 600), *pair, costs=fees((0, 20), (3_600, 10)))
    assert steps(result)[:4] == [("bite", 0)] * 3 + [("tend", 3_600)]
    assert next(row.fill.repaid for row in result.liquidations if row.step == "deal") > 2_000 * WAD
    conserved(result)


def test_an_auction_nobody_could_bid_for_starts_again() -> None:
    result = run(history(CAT_1_1, 600, end=8_000), Searcher(name="a", gas_cap=15 * GWEI), costs=fees((0, 20)))
    assert steps(result) == [("bite", 0)] * 3 + [("tick", 7_201)] * 3


def test_a_second_bidder_that_comes_in_time_ends_the_gift() -> None:
    """ttl is an hour. b comes after half of it, and the lots bring what they are worth; after more than that it is too
    late.
    """
    pair = (Searcher(name="a", gas_cap=100 * GWEI), Searcher(name="b", gas_cap=15 * GWEI))
    in_time = run(history(CAT_1_1, 600), *pair, costs=fees((0, 50), (1_800, 10)))
    too_late = run(history(CAT_1_1, 600), *pair, costs=fees((0, 50), (3_601, 10)))
    paid = [[row.fill.repaid for row in result.liquidations if row.step == "deal"] for result in (in_time, too_late)]
    assert min(paid[0]) > 600 * WAD
    assert paid[1] == [1, 1, 1]


def test_who_is_stuck_comes_back_late() -> None:
    """Gas is back after a minute; b's transaction is stuck for longer than a bid lives."""
    pair = (Searcher(name="a", gas_cap=100 * GWEI), Searcher(name="b", gas_cap=15 * GWEI, stuck=4_000))
    result = run(history(CAT_1_1, 600), *pair, costs=fees((0, 50), (60, 10)))
    assert [row.fill.repaid for row in result.liquidations if row.step == "deal"] == [1, 1, 1]


def test_capital_that_stands_in_one_auction_is_not_there_for_another() -> None:
    """b has 3,000: enough for the first lot (2,654), not for the second, which a takes for what b has left. Once b's
    money is back, it bids again.
    """
    auctions = Auctions()
    result = run(
        history(CAT_1_1, 600),
        Searcher(name="a", min_profit=1),
        Searcher(name="b", capital=3_000 * WAD),
        auctions=auctions,
    )
    paid = [row.fill.repaid for row in result.liquidations if row.step == "deal"]
    assert paid[0] > 2_600 * WAD
    assert paid[1] < 400 * WAD
    assert not auctions.lots
    conserved(result)


def test_bids_of_a_deal_say_who_bid_what() -> None:
    h = history(CAT_1_1, 600)
    terms = Participation(
        searchers=(Searcher(name="a"), Searcher(name="b", min_profit=100 * WAD)), distribution="searchers"
    )
    result = replay(MAKER, h.market, h.timeline(), Scenario(liquidators=terms, costs=FREE))
    taken = [spell for spell in result.spells if spell.bids]
    assert len(taken) == 3
    winner, loser = taken[0].bids
    assert (winner.searcher, winner.won, loser.searcher, loser.won, loser.paid) == ("a", True, "b", False, 0)
    assert winner.bid == winner.paid == loser.bid == loser.value
    assert all(result.liquidations[spell.liquidation or 0].step == "deal" for spell in taken)


def test_a_dutch_auction_sells_to_one_bidder_at_its_own_price() -> None:
    """Alone it takes where the price meets the market's: no gift."""
    result = run(history(DOG_2_0, 1_290), Searcher(name="a"))
    assert steps(result) == [("bark", 0), ("take", 960)]
    assert result.liquidations[1].fill.repaid == 11_300 * WAD
    assert result.liquidations[1].waterfall.bid == 0


@pytest.mark.parametrize("cap", [15, 100])
def test_the_spike_makes_the_difference(cap: int) -> None:
    """One has a cap of 100 gwei, the other of 15 or 100: with gas at 50 the first is alone where the other's is low."""
    result = run(
        history(CAT_1_1, 600),
        Searcher(name="a", gas_cap=100 * GWEI),
        Searcher(name="b", gas_cap=cap * GWEI),
        costs=fees((0, 50)),
    )
    free = sum(row.fill.repaid < WAD for row in result.liquidations if row.step == "deal")
    assert free == (3 if cap == 15 else 0)


@pytest.mark.parametrize("cap", [15, 100])
def test_auctions_recover_more_than_a_fixed_spread_only_where_participation_is_cheap(cap: int) -> None:
    """A fixed spread of 13 % sells for value / 1.13 to whoever comes, one is enough (10 at 600: 5,309.73). Two bidders
    make it 6,000, one nothing.
    """
    result = run(
        history(CAT_1_1, 600),
        Searcher(name="a", gas_cap=100 * GWEI),
        Searcher(name="b", gas_cap=cap * GWEI),
        costs=fees((0, 50)),
    )
    recovered, fixed = (
        sum(row.fill.repaid for row in result.liquidations if row.step == "deal"),
        6_000 * WAD * 100 // 113,
    )
    assert (recovered > fixed) == (cap == 100)
    assert recovered < WAD or recovered > 5_999 * WAD


# -- the bound on bids
# -------------------------------------------------------------------------------------------------------------------

MIXED = (
    Searcher(name="a", min_profit=WAD, margin=200),
    Searcher(name="b", capital=3_000 * WAD, recycle=600),
    Searcher(name="c", gas_cap=50 * GWEI, min_profit=5 * WAD),
)
MOVING = Costs(gas=Gas(native_price=100 * WAD))
FEES = BaseFees([0, 300, 600], [30 * GWEI, 300 * GWEI, 40 * GWEI])


@pytest.mark.parametrize(
    "terms",
    [
        Participation(searchers=MIXED, distribution="searchers"),
        Participation(searchers=MIXED, mean=15_000),
        Participation(searchers=MIXED, mean=30_000, absent=5_000, absence=600),
    ],
    ids=["all there", "drawn", "away at times"],
)
def test_nobody_bids_above_the_bound_that_spares_looks(terms: Participation, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each block whoever is there and does not hold the bid is held against ``keenest``, and the bound spares
    nothing: the replay is the same as one that it spares looks.
    """
    compared = 0

    def never(self: Any, book: Any, here: Any, bidders: Any, number: int, lot: Any, flip: EnglishAuction) -> bool:
        nonlocal compared
        values, proceeds = self._values(book), book.proceeds_down(self.collateral, flip.lot)
        keenest = bidders.keenest(book, lot.holder)
        assert keenest is not None
        for bidder in bidders.bidding(book, lot.account, number) if values is not None else ():
            if bidder.name != lot.holder:
                bound, worth = (worth_to(one, flip, proceeds, values) for one in (keenest, bidder))
                assert worth.bid <= bound.bid
                assert worth.lot is None or (bound.lot is not None and bound.lot <= worth.lot)
                compared += 1
        return False

    def each_block(self: Searchers, *of: int) -> int:
        return of[-1] + self.terms.block_seconds

    h = random_vaults(3, steps=30)
    scenario = Scenario(liquidators=terms, costs=MOVING, from_block=10, seed=3)
    found = replay(MAKER, h.market, h.timeline(), scenario, base_fees=FEES)
    monkeypatch.setattr(IlkAuctions, "_is_beyond", never)
    monkeypatch.setattr(Searchers, "bidding_changes", each_block)
    monkeypatch.setattr(Searchers, "bidding_from", each_block)
    plain = replay(MAKER, h.market, h.timeline(), scenario, base_fees=FEES)
    assert found.liquidations == plain.liquidations
    assert (found.deficits, found.horizons, found.book) == (plain.deficits, plain.horizons, plain.book)
    assert compared > 100
