"""Vaults and their auctions in a replay, numbers by hand: one vault of 10 collateral that owes 10,000 at a ratio of 130
%.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backtest.auctions.dutch import LINEAR
from backtest.errors import PriceMissing, RulesError, UserError
from backtest.model import AccountId, Clock, IndexUpdate, PositionChange, Prices
from backtest.protocols.interface import Acted, Action, Order, Refusal
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.auctions import Auctions
from backtest.protocols.maker.params import CAT_1_0, CAT_1_1, DOG_2_0
from backtest.protocols.maker.state import MakerState
from backtest.protocols.mechanism import ProtocolSpread
from backtest.protocols.registry import protocol_named
from backtest.protocols.vaults.state import COIN as DAI
from backtest.protocols.vaults.state import COLLATERAL, PAIR
from backtest.replay.engine import replay
from backtest.replay.mechanisms import mechanism_of
from backtest.scenario import Competitive, Override, Scenario, Users, parse_override
from backtest.units import RAY, WAD
from tests.sketches.history import History, market
from tests.support.vault_history import ETH, START, history, run, steps


def test_the_engine_takes_the_protocols_own_mechanism() -> None:
    assert isinstance(mechanism_of(MAKER), Auctions)
    assert isinstance(mechanism_of(protocol_named("aave-v3")), ProtocolSpread)
    assert protocol_named("maker") is MAKER


# -- Dutch
# -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("screened", [True, False])
def test_a_vault_is_barked_and_bought_once_its_price_is_below_the_market(screened: bool) -> None:
    """At 1,290: top 1,419; 1.1 * 0.997 ** 32 < 1 after 960 s. 11,300 are raised, the rest is the owner's."""
    h = history(DOG_2_0, 1_290)
    auctions = Auctions()
    result = replay(
        MAKER, h.market, h.timeline(), Scenario(liquidators=Competitive()), mechanism=auctions, screened=screened
    )
    assert steps(result) == [("bark", 0), ("take", 960)]
    bark, take = (row.fill for row in result.liquidations)
    assert (bark.repaid, bark.seized) == (10_000 * WAD, 10 * WAD)
    price = (
        1_419 * RAY * pow(997, 32) // pow(1_000, 32)
    )  # the contract's rounds each step by less than a ray's last places
    assert take.repaid == 11_300 * WAD
    assert abs(take.seized - 11_300 * WAD * RAY // price) <= 1
    assert result.liquidations[1].profit_base == take.seized * 1_290 - 11_300 * WAD
    assert not result.deficits
    assert not auctions.lots
    assert (result.book.state.ink, result.book.state.art, result.book.state.params["raising"]) == ({}, {}, 0)


@pytest.mark.parametrize(("looks", "taken"), [("any-change", 100), ("price-update", 960)])
def test_a_market_price_makes_liquidators_look_at_open_auctions(looks: str, taken: int) -> None:
    """At 100 s the auction asks 1,406, the oracle says 1,290 and the market pays 1,500. Only oracle prices: as soon as
    that pays by time alone.
    """
    h = history(DOG_2_0, 1_290, end=100).traded(ETH, 1_500 * WAD).block(8_000, START + 40_000).price(DAI, WAD)
    result = run(h, looks=looks)
    assert steps(result) == [("bark", 0), ("take", taken)]
    take = result.liquidations[1]
    assert take.profit_base == take.fill.seized * 1_500 - 11_300 * WAD
    assert take.seized_base == take.fill.seized * 1_290


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (DOG_2_0, [("bark", 0), ("take", 960)]),
        (CAT_1_1, [*[("bite", 0), ("tend", 0), ("dent", 0)] * 3, *[("deal", 3_601)] * 3]),
    ],
)
def test_open_auctions_go_on_where_the_feed_has_lost_its_price(system: int, expected: list[tuple[str, int]]) -> None:
    """Only a reset reads the price (dss ``src/clip.sol`` ``getFeedPrice``); a poke without one sets the spot to zero,
    so that nothing new opens (``src/spot.sol`` ``poke``, ``src/dog.sol`` ``bark``). What is taken is named, as it has
    no value here.
    """
    h = history(system, 1_290, end=50).price(ETH, None).traded(ETH, 1_290 * WAD)
    result = run(h.block(8_000, START + 40_000).price(DAI, WAD))
    assert steps(result) == expected
    last = result.liquidations[-1]
    assert (last.health_before, last.health_after, last.seized_base) == (None, None, 0)
    assert last.fill.seized
    assert any("while the oracle had no price of it" in text for text in result.costs)


def test_costs_make_the_liquidator_wait_for_a_lower_price() -> None:
    """20 more to earn: 8.78 at 1,290 less 11,300 first exceeds 20 when the price is 0.3 % below: one step later."""
    result = run(history(DOG_2_0, 1_290), gas_cost=20 * WAD)
    assert steps(result) == [("bark", 0), ("take", 990)]
    assert 0 < result.liquidations[1].profit_base < 40 * WAD


def test_parts_are_taken_and_the_last_one_ends_the_auction() -> None:
    """4, 4, and what is left of the tab; chost is 0 without dust."""
    result = run(history(DOG_2_0, 1_290), Auctions(largest_take=4 * WAD))
    takes = [row.fill for row in result.liquidations if row.step == "take"]
    assert [fill.seized for fill in takes[:2]] == [4 * WAD, 4 * WAD]
    assert len(takes) == 3
    assert 11_300 * WAD <= sum(fill.repaid for fill in takes) <= 11_300 * WAD + 2  # each rounded up
    assert result.book.state.params["raising"] == 0


def test_parts_leave_chost_or_the_whole_is_taken() -> None:
    """dust 9,000: chost 10,170. A first part may pay 1,130 only; the rest is at chost, so it goes whole."""
    result = run(history(DOG_2_0, 1_290, dust=9_000 * WAD), Auctions(largest_take=4 * WAD))
    takes = [row.fill for row in result.liquidations if row.step == "take"]
    assert [fill.repaid for fill in takes] == [1_130 * WAD, 10_170 * WAD]


def test_an_auction_that_raises_less_than_the_debt_leaves_bad_debt() -> None:
    """At 600: top 660, after 960 s 599.49...: 10 of it, of 10,000 owed. The penalty that was not raised is no debt."""
    result = run(history(DOG_2_0, 600))
    take = result.liquidations[1].fill
    assert take.seized == 10 * WAD
    assert 5_994 * WAD < take.repaid < 6_000 * WAD
    assert [(d.asset, d.amount) for d in result.deficits] == [(DAI, 10_000 * WAD - take.repaid)] or abs(
        result.deficits[0].amount + take.repaid - 10_000 * WAD
    ) <= 1
    assert result.book.state.params["raising"] == 0


def test_an_auction_that_is_too_old_is_reset_and_its_price_starts_again() -> None:
    """tail 900 s ends it before 960 s: a reset each 901 s."""
    assert steps(run(history(DOG_2_0, 1_290, end=3_000, tail=900))) == [
        ("bark", 0),
        ("redo", 901),
        ("redo", 1_802),
        ("redo", 2_703),
    ]


def test_a_reset_takes_the_price_of_its_moment() -> None:
    """At 500 s the market falls to 1,000: 1,419 * 0.997 ** n is still 1,083 at 2,700 s; the reset starts at 1,100 and
    meets it 960 s later.
    """
    h = History(replace(market(("ETH", 18), ("DAI", 18), protocol="maker"), base_decimals=18))
    h.rows = history(DOG_2_0, 1_290, end=500, tail=2_700).rows
    h._block, h._seq, h._log, h._transaction = 4_000, h.rows["events"][-1]["seq"], 0, 0
    h.block(4_001, START + 501).price(ETH, 1_000 * WAD).block(9_000, START + 9_000).price(DAI, WAD)
    assert steps(run(h)) == [("bark", 0), ("redo", 2_701), ("take", 3_661)]


def test_the_hole_holds_a_second_vault_back_until_the_first_is_sold() -> None:
    h = history(DOG_2_0, 2_000, end=10, hole=11_300 * WAD)
    h.position(1, ETH, "collateral", 10 * WAD).position(1, DAI, "debt", 10_000 * WAD, "borrow")
    h.block(5_000, START + 100).price(ETH, 1_290 * WAD).block(9_000, START + 9_000).price(DAI, WAD)
    result = run(h)
    assert [(row.fill.order.account, *step) for row, step in zip(result.liquidations, steps(result), strict=True)] == [
        (0, "bark", 100),
        (0, "take", 1_060),
        (1, "bark", 1_060),
        (1, "take", 2_020),
    ]
    assert result.refused == {"liquidation limit hit": 1}


def test_linear_auctions_and_levels_of_the_breaker() -> None:
    """Linear over 3,600 s from 1,419: below 1,290 from 328 s on. Stopped at 1 nothing starts, at 2 nothing is reset, at
    3 nothing is bought.
    """
    assert steps(run(history(DOG_2_0, 1_290, calc=LINEAR, calc_tau=3_600)))[1] == ("take", 328)
    result = run(history(DOG_2_0, 1_290, stopped=1))
    assert not result.liquidations
    assert result.refused == {"stopped": 1}


@pytest.mark.parametrize(
    ("level", "tail", "expected"),
    [
        (2, 8_400, [("bark", 0), ("take", 960)]),
        (2, 900, [("bark", 0)]),
        (3, 8_400, [("bark", 0)]),
        (1, 900, [("bark", 0), ("redo", 901)]),
    ],
)
def test_the_breaker_while_an_auction_runs(level: int, tail: int, expected: list[tuple[str, int]]) -> None:
    h = history(DOG_2_0, 1_290, end=10, tail=tail).param("stopped", level).block(9_000, START + 1_000).price(DAI, WAD)
    assert steps(run(h)) == expected


def test_the_keeper_is_paid_tip_and_chip() -> None:
    """300 and 0.1 % of 11,300."""
    result = run(history(DOG_2_0, 1_290, tip=300 * WAD, chip=WAD // 1_000))
    assert result.liquidations[0].profit_base == 3_113 * WAD // 10


# -- English
# ---------------------------------------------------------------------------------------------------------------


def test_lots_of_dunk_are_bid_for_their_tab_and_then_for_less_collateral() -> None:
    """5,000 / 1.13 = 4,424.77... of debt and 4.42... of collateral, worth 5,708 at 1,290: the tab, then 5,000 / 1,290 =
    3.875... of it.
    """
    result = run(history(CAT_1_1, 1_290))
    assert steps(result)[:9] == [("bite", 0), ("tend", 0), ("dent", 0)] * 3
    bites = [row.fill for row in result.liquidations if row.step == "bite"]
    assert [fill.repaid for fill in bites] == [
        4_424_778_761_061_946_902_654,
        4_424_778_761_061_946_902_654,
        1_150_442_477_876_106_194_692,
    ]
    assert sum(fill.seized for fill in bites) == 10 * WAD
    deals = sorted((row.fill.repaid, row.fill.seized) for row in result.liquidations if row.step == "deal")
    assert [step for step in steps(result) if step[0] == "deal"] == [("deal", 3_601)] * 3
    assert deals[1:] == [(5_000 * WAD, 3_875_968_992_248_062_016)] * 2
    assert not result.deficits
    assert result.book.state.params["raising"] == 0


def test_a_lot_worth_less_than_its_tab_goes_for_what_it_is_worth() -> None:
    """At 600 the first lot is worth 2,654.86...; bad debt is its debt less that."""
    result = run(history(CAT_1_1, 600))
    assert [step for step, _ in steps(result)] == ["bite", "tend"] * 3 + ["deal"] * 3
    bid = 4_424_778_761_061_946_902 * 600
    first = next(row for row in result.liquidations if row.step == "deal")
    assert (first.fill.repaid, first.fill.seized) == (bid, 4_424_778_761_061_946_902)
    assert result.deficits[0].amount == 4_424_778_761_061_946_902_654 - bid


def test_bidders_leave_two_calls_out_of_the_bid() -> None:
    result = run(history(CAT_1_1, 600), Auctions(cost=10 * WAD), gas_cost=10 * WAD)
    assert (
        next(row for row in result.liquidations if row.step == "deal").fill.repaid
        == 4_424_778_761_061_946_902 * 600 - 20 * WAD
    )


def test_a_better_bid_needs_beg_and_extends_the_auction() -> None:
    """600, then 620 (3.3 % more) at 1,000 s: no bid; 640 (6.7 %) at 2,000 s: a bid that lives until 5,600 s."""
    h = history(CAT_1_1, 600, end=10)
    h.block(5_000, START + 1_000).price(ETH, 620 * WAD).block(5_100, START + 2_000).price(ETH, 640 * WAD)
    h.block(9_000, START + 20_000).price(DAI, WAD)
    result = run(h)
    assert [step for step in steps(result) if step[0] != "bite"] == [("tend", 0)] * 3 + [("tend", 2_000)] * 3 + [
        ("deal", 5_601)
    ] * 3


def test_nobody_bids_for_what_is_worth_less_than_the_calls_and_the_auction_starts_again() -> None:
    """The whole vault is worth 12,900."""
    h = history(CAT_1_1, 1_290, end=16_000, dunk=50_000 * WAD)
    result = run(h, Auctions(cost=7_000 * WAD))
    assert steps(result) == [("bite", 0), ("tick", 7_201), ("tick", 14_402)]


def test_cat_1_0_cuts_by_lumps_of_collateral() -> None:
    result = run(history(CAT_1_0, 1_290, lump=4 * WAD))
    bites = [(row.fill.seized, row.fill.repaid) for row in result.liquidations if row.step == "bite"]
    assert bites == [(4 * WAD, 4_000 * WAD), (4 * WAD, 4_000 * WAD), (2 * WAD, 2_000 * WAD)]
    assert result.rules == {"Cat 1.0": False}


def test_the_box_holds_lots_back() -> None:
    """A box of 6,000 has room for one lot of 5,000 and one of 1,000 with penalty: 884.95... of debt, and a last place
    more for what the first lot's rounding left.
    """
    result = run(history(CAT_1_1, 1_290, end=100, box=6_000 * WAD, dust=500 * WAD))
    bites = [row.fill.repaid for row in result.liquidations if row.step == "bite"]
    assert bites == [4_424_778_761_061_946_902_654, 884_955_752_212_389_380_531]
    assert result.refused == {"liquidation limit hit": 1}


def test_many_lots_take_several_blocks() -> None:
    """20 lots at ten calls a block, three calls each."""
    result = run(history(CAT_1_1, 1_290, dunk=565 * WAD))
    at = [seconds for step, seconds in steps(result) if step == "bite"]
    assert len(at) == 20
    assert at[0] == 0
    assert at[-1] == 13 * 5
    assert sum(row.fill.repaid for row in result.liquidations if row.step == "bite") == 10_000 * WAD


# -- the book
# ----------------------------------------------------------------------------------------------------------------

NOW = Clock(200, 0, 2_000)


def book(ink: int = 10 * WAD, art: int = 10_000 * WAD, **params: int) -> MakerState:
    state = MAKER.open(replace(market(("ETH", 18), ("DAI", 18)), base_decimals=18))
    state.params = {
        "liquidation_ratio": 13 * RAY // 10,
        "liquidation_penalty": 113 * WAD // 100,
        "dust": 500 * WAD,
        **params,
    }
    state.ink, state.art = {AccountId(0): ink}, {AccountId(0): art}
    return state


def at(price: int) -> Prices:
    oracle = {COLLATERAL: price * WAD, DAI: WAD}
    return Prices(oracle, oracle, oracle)


def change(side: str, delta: int, account: int = 0) -> PositionChange:
    asset = COLLATERAL if side == "collateral" else DAI
    return PositionChange(
        seq=1,
        block_number=1,
        log_index=1,
        timestamp=1,
        account=AccountId(account),
        asset=asset,
        side=side,
        delta=delta,
        action="x",
        action_seq=1,  # type: ignore[arg-type]
    )


def act(state: MakerState, name: str, *changes: PositionChange, price: int = 2_000, **options: Any) -> Acted | Refusal:
    return MAKER.act(state, Action(name, changes, **options), at(price), NOW)


def test_view_and_health() -> None:
    view = MAKER.view(book(), AccountId(0), at(2_000), NOW)
    assert (view.collateral_base, view.debt_base) == (20_000 * WAD, 10_000 * WAD)
    assert view.health == 1_538_461_538_461_538_461
    assert view.borrowing_power_base == 15_384_615_384_615_384_615_384
    assert MAKER.view(book(art=0), AccountId(0), at(2_000), NOW).health is None
    with pytest.raises(PriceMissing):
        MAKER.view(book(), AccountId(0), Prices({}, {}, {}), NOW)


def test_debt_follows_the_stored_rate_only() -> None:
    state, key = book(), {"seq": 1, "block_number": 1, "log_index": 1, "timestamp": 1}
    MAKER.apply(
        state,
        IndexUpdate(**key, asset=DAI, supply_index=RAY, borrow_index=11 * RAY // 10, supply_rate=0, borrow_rate=0),
    )
    assert [holding.debt for holding in MAKER.holdings(state, AccountId(0), Clock(9, 9, 10**9))] == [0, 11_000 * WAD]


def test_history_is_repeated_where_the_book_is_historys() -> None:
    borrow = change("debt", 2_000 * WAD)
    done = act(book(), "borrow", borrow)
    assert isinstance(done, Acted)
    assert [c.delta for c in done.changes if isinstance(c, PositionChange)] == [2_000 * WAD]
    assert (done.amount, done.view is not None and done.view.debt_base) == (2_000 * WAD, 12_000 * WAD)
    closed = act(
        book(), "withdraw", change("collateral", -10 * WAD), change("debt", -10_000 * WAD), emptied=frozenset({0, 1})
    )
    assert isinstance(closed, Acted)
    assert (closed.amount, closed.view) == (10 * WAD, None)


def test_what_would_leave_a_vault_unsafe_reverts_and_says_how_much_would_not() -> None:
    """10 at 2,000 over 1.3 carry 15,384.61...; 10,000 need 6.5."""
    refused = act(book(), "borrow", change("debt", 6_000 * WAD))
    assert refused == Refusal("not safe", 5_384_615_384_615_384_615_384)
    assert isinstance(act(book(), "borrow", change("debt", 6_000 * WAD), amount=refused.instead), Acted)
    assert isinstance(act(book(), "borrow", change("debt", 6_000 * WAD), amount=refused.instead + 1), Refusal)
    refused = act(book(), "withdraw", change("collateral", -4 * WAD))
    assert isinstance(refused, Refusal)
    assert refused.instead is not None
    assert 35 * WAD // 10 - 10 <= refused.instead <= 35 * WAD // 10
    assert isinstance(act(book(), "withdraw", change("collateral", -4 * WAD), amount=refused.instead), Acted)
    assert isinstance(act(book(), "withdraw", change("collateral", -4 * WAD), amount=refused.instead + 1), Refusal)


def test_an_unsafe_vault_may_always_be_made_safer() -> None:
    assert isinstance(act(book(), "repay", change("debt", -100 * WAD), price=1_000), Acted)
    assert isinstance(act(book(), "supply", change("collateral", WAD), price=1_000), Acted)
    assert isinstance(act(book(), "withdraw", change("collateral", -WAD), change("debt", -WAD), price=1_000), Refusal)


def test_debt_below_dust_reverts_and_no_debt_does_not() -> None:
    assert act(book(), "repay", change("debt", -9_501 * WAD)) == Refusal("dust")
    assert isinstance(act(book(), "repay", change("debt", -9_500 * WAD)), Acted)
    more = act(book(art=9_000 * WAD), "repay", change("debt", -9_500 * WAD))
    assert isinstance(more, Acted)
    assert [c.delta for c in more.changes if isinstance(c, PositionChange)] == [-9_000 * WAD]  # cut to what is there


def test_a_fork_is_checked_on_both_sides() -> None:
    state = book()
    state.ink[AccountId(1)] = 5 * WAD
    move = (
        change("collateral", -WAD),
        change("debt", -6_000 * WAD),
        change("collateral", WAD, 1),
        change("debt", 6_000 * WAD, 1),
    )
    assert isinstance(act(state, "transfer", *move), Acted)
    assert act(state, "transfer", *move, price=1_200) == Refusal("not safe")


def test_what_cannot_be() -> None:
    with pytest.raises(RulesError, match="ink of account 0 would be -1"):
        MAKER.apply(book(ink=0), change("collateral", -1))
    with pytest.raises(UserError, match="recomputed"):
        MAKER.open(market(("ETH", 18), ("DAI", 18)), recompute=True)
    with pytest.raises(RulesError, match="is no Maker ilk"):
        MAKER.open(market(("ETH", 18), ("USDC", 6)))
    state = book()
    del state.params["liquidation_ratio"]
    with pytest.raises(RulesError, match="nothing says the liquidation_ratio"):
        state.spot(at(1))
    assert MAKER.quote(book(), Order(AccountId(0), PAIR, AccountId(1)), at(1_300), NOW) == Refusal("not unsafe")


def test_what_the_contracts_refuse_to_be_set_to() -> None:
    assert MAKER.fault({"liquidation_penalty": 99 * WAD // 100}) == "a penalty below 100 %"
    assert MAKER.fault({"cut": RAY + 1}) == "a cut above one"
    assert MAKER.fault({"liquidation_system": 12}) == "no such system of liquidations: 10, 11 or 20"
    assert MAKER.fault({"liquidation_penalty": WAD, "cut": RAY, "liquidation_system": 20, "tail": 0}) is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("liquidation_system=20", {"bark", "take"}),
        ("liquidation_system=10", {"bite", "tend", "dent", "deal"}),
        ("liquidation_ratio=12000", set()),
        ("dunk=50000", {"bite", "tend", "dent", "deal"}),
    ],
)
def test_a_scenario_changes_the_rules(override: str, expected: set[str]) -> None:
    """At 1,290 a vault of 130 % is unsafe, one of 120 % is not; the system in force is a parameter."""
    h = history(CAT_1_1, 1_290)
    result = replay(
        MAKER, h.market, h.timeline(), Scenario(liquidators=Competitive(), overrides=(parse_override(override),))
    )
    assert {row.step for row in result.liquidations} == expected


def test_actions_are_checked_again_under_the_scenario() -> None:
    """A borrow to 10,000 at 2,000 passes at 130 % and reverts at 250 %, where 8,000 fit."""
    h = History(replace(market(("ETH", 18), ("DAI", 18), protocol="maker"), base_decimals=18))
    h.param("liquidation_ratio", 13 * RAY // 10).param("liquidation_penalty", 113 * WAD // 100).index(DAI).price(
        DAI, WAD
    ).price(ETH, 2_000 * WAD)
    h.position(0, ETH, "collateral", 10 * WAD).position(0, DAI, "debt", 10_000 * WAD, "borrow")
    plain = replay(MAKER, h.market, h.timeline(), Scenario(liquidators=Competitive()))
    assert (plain.book.state.art, plain.actions) == ({0: 10_000 * WAD}, [])
    higher = (parse_override("liquidation_ratio=25000"),)
    skipped = replay(MAKER, h.market, h.timeline(), Scenario(liquidators=Competitive(), overrides=higher))
    assert skipped.book.state.art == {}
    assert [(a.action, a.outcome, a.reason, a.count) for a in skipped.actions] == [("borrow", "skipped", "not safe", 1)]
    shrunk = replay(
        MAKER,
        h.market,
        h.timeline(),
        Scenario(liquidators=Competitive(), overrides=higher, users=Users(refused="shrink")),
    )
    assert shrunk.book.state.art == {0: 8_000 * WAD}
    same = replay(
        MAKER,
        h.market,
        h.timeline(),
        Scenario(liquidators=Competitive(), overrides=higher, users=Users(response="same-health")),
    )
    assert 0 <= same.book.state.art[AccountId(0)] - 5_200 * WAD < 10_000  # health has 18 digits


def test_of_a_call_that_moves_collateral_and_debt_each_counts_by_its_own_amount() -> None:
    """A vault opens in one frob: at twice the ratio less may be borrowed, and as much collateral comes as before."""
    h = history(20, 1_900)
    h.block(5_000)
    with h.transaction():
        both = h.next_seq + 1
        h.position(1, 0, "collateral", 10 * WAD, "borrow", both).position(1, 1, "debt", 10_000 * WAD, "borrow", both)
    h.block(5_001).price(0, 1_900 * WAD)
    ratio = Override(parameter="liquidation_ratio", value=26_000, from_block=4_500)
    scenario = Scenario(liquidators=Competitive(), overrides=(ratio,), users=Users(refused="shrink"), from_block=4_400)
    result = replay(MAKER, h.market, h.timeline(), scenario)
    owes = result.book.state.art[1]
    assert owes == 10 * 1_900 * WAD * 10 // 26  # as much as the ratio lets it
    assert result.book.state.ink[1] == 10 * WAD
    assert result.horizons[0].outside == {1: owes - 10_000 * WAD}
