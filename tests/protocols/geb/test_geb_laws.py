"""What holds whatever the numbers: of liquidations, purchases and discounts, and of what-ifs over random SAFEs."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.protocols.geb import GEB, house
from backtest.protocols.geb.params import FIXED, INCREASING, OPEN_DOLLAR
from backtest.protocols.geb.rules import redemption_price_down, seizure
from backtest.protocols.vaults.rules import AuctionLimits, carried_down, is_unsafe, least_safe_value_up, valued
from backtest.protocols.vaults.state import COIN, COLLATERAL
from backtest.replay.engine import replay
from backtest.replay.timeline import Timeline
from backtest.scenario import Competitive, Override, Scenario
from backtest.units import RAY, WAD
from tests.sketches.history import History, market
from tests.support.compiled_loop import outcome

RAD = WAD * RAY
wads = st.integers(1, 10**26)
rates = st.integers(RAY // 2, 3 * RAY)
penalties = st.integers(WAD, 2 * WAD)
rads = st.integers(0, 10**9).map(lambda coins: coins * RAD)


@given(wads, wads, rates, penalties, rads, rads, st.none() | st.integers(-RAD, 10**9 * RAD))
def test_a_liquidation_takes_no_more_than_it_may(
    ink: int, art: int, rate: int, chop: int, dust: int, dunk: int, room: int | None
) -> None:
    made = seizure(ink, art, rate, AuctionLimits(chop, dust, 0, dunk, room))
    if isinstance(made, str):
        return
    assert 0 < made.dart <= art
    assert 0 < made.dink <= ink
    assert made.dink * art <= ink * made.dart < (made.dink + 1) * art  # its share of the collateral, cut
    assert made.dart == art or (art - made.dart) * rate >= dust
    assert RAY <= made.tab <= (dunk if room is None else min(dunk, room))
    assert made.due <= made.tab


@given(wads, wads, st.integers(1, 10**32), rates, penalties, st.integers(1, 10 * RAY))
def test_health_is_below_one_where_the_contract_liquidates(
    ink: int, art: int, price: int, rate: int, chop: int, redemption: int
) -> None:
    ratio, safety = chop * 10**9, chop * 10**9 + RAY // 20
    spot, cap = (carried_down(price, redemption, each) for each in (ratio, safety))
    worth, owed, power, health = valued(ink, art, rate, price, RAY, spot, cap, redemption)
    assert (health < WAD) == (ink * spot < art * rate)
    assert is_unsafe(ink, art, rate, spot) == (spot > 0 and health < WAD)
    assert power <= worth
    least = least_safe_value_up(ink, art, rate, redemption, ratio)
    assert not is_unsafe(ink, art, rate, carried_down(least, redemption, ratio))
    assert least == 1 or ink * carried_down(least - 1, redemption, ratio) < art * rate
    assert owed > 0


@given(wads, st.integers(1, 10**9 * RAD), wads, st.integers(1, 10**24), st.integers(0, 10**20), st.booleans())
def test_a_purchase_moves_what_it_says(
    left: int, raising: int, bid: int, price: int, minimum: int, readjusts: bool
) -> None:
    made = (house.buy_readjusted if readjusts else house.buy)(left, raising, bid, price, minimum)
    if isinstance(made, str):
        return
    assert 0 < made.bought <= left
    assert made.paid <= bid
    assert made.paid * RAY < raising + RAY  # at most one unit above what is asked for
    assert made.bought + made.left + made.back == left
    assert made.freed + made.raising == raising
    assert not made.raising or (made.freed == made.paid * RAY and made.left and not made.back)
    assert made.bought == left or made.bought <= made.paid * WAD // price


@given(wads, st.integers(RAY, 10**9 * RAD), st.integers(1, 10**24), st.integers(0, 10**20), st.booleans())
def test_the_least_bid_that_ends_an_auction_ends_it(
    left: int, raising: int, price: int, minimum: int, readjusts: bool
) -> None:
    bid = house.whole_bid_up(left, raising, price, minimum)
    made = (house.buy_readjusted if readjusts else house.buy)(left, raising, bid, price, minimum)
    assert isinstance(made, str) == (min(bid, raising // RAY + 1) * WAD // price == 0)
    if not isinstance(made, str):
        assert not made.raising
        assert made.freed == raising


@given(st.integers(1, WAD), st.integers(1, WAD), st.integers(0, RAY), st.integers(0, 5_000), st.integers(0, 5_000))
def test_a_discount_only_grows_and_keeps_its_bounds(one: int, other: int, rate: int, first: int, second: int) -> None:
    most, least = sorted((one, other))
    early, late = sorted((first, second))
    for each in (
        [house.next_discount_down(least, most, rate, 0, 3_600, at) for at in (early, late)],
        [house.discount_since_down(least, most, rate, at) for at in (early, late)],
    ):
        assert most <= each[1] <= each[0] <= least


@given(st.integers(1, 10 * RAY), st.integers(RAY - 10**19, RAY + 10**19), st.integers(0, 10**6))
def test_a_redemption_price_follows_its_rate(price: int, rate: int, seconds: int) -> None:
    after = redemption_price_down(price, rate, seconds)
    assert after >= 1
    if after > 1:
        assert (after <= price + 1) if rate <= RAY else (after >= price - 1)


def random_safes(seed: int) -> History:
    """Two dozen SAFEs near the edge, under one of the houses; prices and redemption prices that walk."""
    draw = random.Random(seed)
    made = replace(market(("ETH", 18), ("RAI", 18), protocol="geb", accounts=24), base_decimals=18, price_decimals=27)
    h = History(made)
    house_of, discount = draw.choice((FIXED, INCREASING, OPEN_DOLLAR)), draw.choice((95, 99))
    for name, value in (
        ("liquidation_ratio", 135 * RAY // 100), ("safety_ratio", 140 * RAY // 100),
        ("liquidation_penalty", 11 * WAD // 10), ("liquidation_system", house_of), ("dunk", 2_000 * WAD),
        ("dust", draw.choice((0, 100)) * WAD), ("min_discount", discount * WAD // 100),
        ("max_discount", (discount if house_of == FIXED else 88) * WAD // 100), ("discount_seconds", 1_800),
        ("discount_rate", 9999 * RAY // 10_000), ("coin_oracle", draw.randrange(2)),
        ("lower_coin_deviation", 90 * WAD // 100), ("upper_coin_deviation", 90 * WAD // 100),
    ):  # fmt: skip
        h.param(name, value)
    if draw.random() < 0.5:
        h.param("box", draw.choice((3_000, 100_000)) * WAD)
    price, coin = 1_000.0, 3.0
    h.index(COIN).price(COIN, 3 * WAD).price(COLLATERAL, 1_000 * WAD)
    for who in range(24):
        worth = draw.choice((300, 5_000, int(10 ** draw.uniform(2, 5))))
        h.position(who, COLLATERAL, "collateral", worth * WAD // 1_000)
        h.position(who, COIN, "debt", int(worth * draw.uniform(0.6, 1.01) / 1.35 / 3 * 10**9) * 10**9 + 1, "borrow")
    block = 10
    for _ in range(50):
        block += draw.choice((1, 2, 8, 60))
        h.block(block, block * 12)
        kind = draw.random()
        if kind < 0.5:
            price *= draw.choice((0.94, 0.98, 0.995, 1.0, 1.002, 1.02))
            h.price(COLLATERAL, int(price * 10**9) * 10**9)
        elif kind < 0.7:
            coin *= draw.choice((0.999, 1.0005, 1.002))
            h.price(COIN, int(coin * 10**9) * 10**9)
        elif kind < 0.9:
            asset, of = draw.choice(((COLLATERAL, price), (COIN, coin)))
            h.traded(asset, int(of * draw.choice((0.9, 0.97, 1.0, 1.03, 1.1)) * 10**9) * 10**9)
        else:
            h.index(COIN, borrow=RAY + draw.randrange(10**24))
    return h


@pytest.mark.parametrize("seed", range(6))
def test_the_screen_never_misses_and_everything_adds_up(seed: int) -> None:
    h = random_safes(seed)
    timeline = Timeline.of(h.tables(), price_digits=9)
    changed = Override(parameter="liquidation_ratio", value=13_800, from_block=60)
    overrides = (changed,) if seed % 2 else ()
    scenario = Scenario(liquidators=Competitive(), overrides=overrides)
    quick, plain = (
        replay(GEB, h.market, timeline, scenario, screened=screened, samples=5) for screened in (True, False)
    )
    assert outcome(quick) == outcome(plain)
    steps = [row.step for row in quick.liquidations]
    assert steps.count("start") > 2
    assert "buy" in steps
    state = quick.book.state
    started = sum(row.fill.seized for row in quick.liquidations if row.step == "start")
    assert sum(row.fill.seized for row in quick.liquidations if row.step == "buy") <= started
    supplied = sum(int(row["delta"]) for row in h.rows["position_events"] if row["side"] == "collateral")
    assert sum(state.ink.values()) + started == supplied
    assert state.params.get("raising", 0) >= 0
