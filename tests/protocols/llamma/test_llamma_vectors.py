"""The rules one by one, by vectors: numbers worked by hand from curvefi/curve-stablecoin at 58289a42, ``AMM.vy`` and
``Controller.vy``, with the arithmetic beside them. ``hand`` says what market it is.
"""

from __future__ import annotations

import pytest

from backtest.errors import PriceMissing, RulesError, UserError
from backtest.model import HistoricalLiquidation, Prices
from backtest.protocols.interface import Action, Fill, Order, Pair, Refusal
from backtest.protocols.llamma import LLAMMA
from backtest.protocols.llamma.account import first_band, health, most_debt_down, y_effective_down
from backtest.protocols.llamma.amm import AmmTerms
from backtest.protocols.llamma.liquidation import part_removed_down, surplus
from backtest.protocols.llamma.math import (
    AmmReverts,
    current_edge_down,
    distance_fee_down,
    exp_down,
    floor_bands,
    ln_of_factory,
    ln_wad,
    log2_wad,
    y0_down,
)
from backtest.protocols.llamma.state import AMM, BORROWED, COLLATERAL
from backtest.units import WAD
from tests.protocols.llamma.hand import ALICE, BOB, CAROL, NOW, ONE, START, amm, loan, opened, param, prices, rate

BAND = {0: (3 * ONE, ONE)}
"""x = 3, y = 1 at a price of 1, A = 2: 2 y0^2 - 5 y0 - 3 = 0, y0 = (5 + 7) / 4 = 3, f = 2 * 3 = 6, g = 3,
(6 + 3)(3 + 1) = 36."""
AT_ONE = (ONE, 0)


def test_y0_is_the_positive_root() -> None:
    assert y0_down(3 * ONE, ONE, ONE, ONE, 2) == 3 * ONE
    # collateral alone at the band's upper edge is y0 itself: b = A p y, y0 = b / (A p)
    assert y0_down(0, 7 * ONE, ONE, ONE, 100) == 7 * ONE
    # borrowed tokens alone: b = 99 x, y0 = 99 * 100 / 100
    assert y0_down(100 * ONE, 0, ONE, ONE, 100) == 99 * ONE


def test_edges_of_a_band_move_against_the_oracle() -> None:
    assert current_edge_down(2 * ONE, ONE) == 8 * ONE  # 2^3 / 1^2
    assert current_edge_down(ONE, 2 * ONE) == ONE // 4  # 1 / 4


@pytest.mark.parametrize(
    ("price", "up", "fee"),
    [
        (2 * ONE, ONE, 1875 * WAD // 10_000),  # from 8 on: (8 - 2) / 8 / 4
        (ONE, 4 * ONE, 1875 * WAD // 10_000),  # up to 4 / 16 = 1 / 4: (1 - 1 / 4) / 4
        (ONE, ONE, 0),  # at its edge, 1 to 4
        (ONE, 3 * ONE // 2, 0),  # 1 / 2.25 = 0.44 to 1.78
    ],
)
def test_the_fee_of_distance_is_a_quarter(price: int, up: int, fee: int) -> None:
    assert distance_fee_down(price, up, 2) == fee


@pytest.mark.parametrize(
    ("price", "elapsed", "old_fee", "taken", "fee"),
    [
        (800, 120, 0, 800, 0),
        (800, 60, 0, 800, 244 * WAD // 1_000),  # (1 - 0.8^3) * 60 / 120 = 0.488 / 2
        (500, 0, 0, 800, 488 * WAD // 1_000),  # at most a fifth down: 1000 / 1.25
        (2_000, 0, 0, 1_250, 488 * WAD // 1_000),  # at most a quarter up
        (1_250, 0, WAD // 10, 1_250, 588 * WAD // 1_000),  # 1000 / 1250 = 0.8, on top of what is left
        (500, 0, 9 * WAD // 10, 800, WAD - 1),  # 0.9 + 0.488 is cut below one
        (1_000, 30, WAD // 10, 1_000, 75 * WAD // 1_000),  # no change: 0.1 * 90 / 120
    ],
)
def test_the_oracle_is_limited_for_two_minutes(price: int, elapsed: int, old_fee: int, taken: int, fee: int) -> None:
    pool = amm(old_price=1_000 * ONE, old_fee=old_fee, price_time=START)
    assert pool.limited(price * ONE, START + elapsed) == (taken * ONE, fee)


def test_interest_is_simple_and_lifts_every_band() -> None:
    pool = amm(rate=WAD // 1_000, rate_mul=105 * WAD // 100)
    assert pool.rate_mul_at(START + 100) == 1_155 * WAD // 1_000  # 1.05 * (1 + 0.001 * 100)
    assert pool.base_price_down(START + 100) == 1_155 * WAD // 1_000
    assert pool.up(0, START + 100) == 1_155 * WAD // 1_000


def test_bands_are_powers() -> None:
    pool = amm()
    for n in (-6, -1, 1, 2, 10, 30):
        exact = WAD * 2**-n if n < 0 else WAD // 2**n
        assert abs(pool.up(n, START) - exact) <= exact * abs(n) // 10**13 + 30  # the factory's logarithm
    assert exp_down(0) == WAD
    with pytest.raises(AmmReverts, match="too far"):
        exp_down(-42 * WAD)


def test_logarithms() -> None:
    # those of deployed AMMs, as their constructors have them: A = 100 (wstETH), A = 30 (CRV)
    assert ln_of_factory(WAD * 100 // 99) == 10_050_335_853_501_431
    assert ln_of_factory(WAD * 30 // 29) == 33_901_551_675_681_339
    assert ln_wad(WAD) == 0
    assert (log2_wad(4 * WAD), log2_wad(WAD // 4), log2_wad(WAD)) == (2 * WAD, -2 * WAD, 0)
    # rounded down: 19 / 10 = 1, -1 / 10 = -1, (-10 - 9) / 10 = -1, (-11 - 9) / 10 = -2
    assert [floor_bands(log, 10) for log in (19, -1, -10, -11)] == [1, -1, -1, -2]
    for nothing in (ln_wad, log2_wad):
        with pytest.raises(AmmReverts):
            nothing(0)


def test_what_a_factory_gives() -> None:
    assert AmmTerms(2, ONE).sqrt_ratio == 1_414_213_562_373_095_048
    assert AmmTerms(2, ONE).farthest == 2**50 * WAD  # (A / (A - 1))^50
    assert AmmTerms(2, ONE, revision=1).farthest == 2**50 * WAD


def test_the_amms_own_price() -> None:
    assert amm(BAND).price_down(ONE, START) == 9 * WAD // 4  # (6 + 3) / (3 + 1)
    assert amm({0: (0, ONE)}).price_down(ONE, START) == ONE  # collateral alone: the lower edge, 1
    assert amm({0: (ONE, 0)}).price_down(ONE, START) == 4 * ONE  # borrowed tokens alone: 1 / (1 / 2)^2
    assert amm().price_down(ONE, START) == 2 * ONE  # nothing: the middle


def test_a_deposit_is_spread_and_the_first_band_gets_the_rest() -> None:
    pool = amm()
    # 1003 over four bands: 250 each, the first 1003 - 750 = 253; shares (0 + 1000) * y / (0 + 1)
    assert pool.deposit(1_003, 1, 4) == (253_000, 250_000, 250_000, 250_000)
    # 2000 more: 500 each; (253000 + 1000) * 500 / 254 = 500000, (250000 + 1000) * 500 / 251 = 500000
    assert pool.deposit(2_000, 1, 4) == (500_000,) * 4
    assert [pool.band(n).y for n in range(1, 5)] == [753, 750, 750, 750]
    assert (pool.low, pool.high, pool.active) == (0, 4, 0)


@pytest.mark.parametrize(
    ("amount", "first", "last", "why"),
    [
        (403, 1, 4, "too little"),  # 100 a band is not more than 100
        (10**6, 1, 51, "too little"),  # 51 bands
        (10**6, 0, 3, "below the current band"),  # borrowed tokens in band 0
        (10**6, -5, -2, "below the current band"),
    ],
)
def test_deposits_that_are_refused(amount: int, first: int, last: int, why: str) -> None:
    with pytest.raises(AmmReverts, match=why):
        amm({0: (ONE, 0)}).deposit(amount, first, last)


def test_a_deposit_skips_empty_bands_below() -> None:
    pool = amm()
    pool.active = 10
    pool.deposit(10**6, 3, 6)
    assert pool.active == 2


def test_a_withdrawal_is_rounded_down_and_the_last_one_leaves_dust_to_the_administrators() -> None:
    pool = amm()
    shares = pool.deposit(1_003, 1, 4)
    half = pool.copy().withdraw(shares, 1, WAD // 2)
    # (253 + 1) * 126500 / 254000 = 126, (250 + 1) * 125000 / 251000 = 125, three times
    assert half == (0, 126 + 3 * 125, (126_500, 125_000, 125_000, 125_000))
    pool.bands[2] = type(pool.bands[2])(77, 400, 250_000)
    # (253 + 1) * 253000 / 254000 = 253, (400 + 1) * 250000 / 251000 = 399, 250 twice; x: 78 * 250000 / 251000 = 77
    assert pool.withdraw(shares, 1, WAD) == (77, 253 + 399 + 250 + 250, ())
    assert (pool.kept_x, pool.kept_y) == (0, 1)
    assert pool.bands == {}
    with pytest.raises(AmmReverts, match="no deposits"):
        pool.withdraw((), 1, WAD)


def test_collateral_is_bought_up_to_the_last_unit_of_a_band() -> None:
    # 36 / 3 - 6 - 3 = 3 empties it; one unit stays by rounding: 36 / 12 - 3 + 1 wei
    done = amm(BAND).trade(AT_ONE, START, pump=True, paid=3 * ONE)
    assert (done.paid, done.bought, done.bands, done.active) == (3 * ONE, ONE - 1, {0: (6 * ONE, 1)}, 0)
    # one unit more goes on, and finds nothing: what is not taken is not paid
    over = amm(BAND).trade(AT_ONE, START, pump=True, paid=3 * ONE + 1)
    assert (over.paid, over.bought, over.bands[0]) == (3 * ONE, ONE, (6 * ONE, 0))


def test_some_collateral_is_bought() -> None:
    # 36 / (6 + 3 + 1.8) - 3 = 0.333..., and a unit
    done = amm(BAND).trade(AT_ONE, START, pump=True, paid=18 * ONE // 10)
    assert (done.bought, done.bands) == (666_666_666_666_666_666, {0: (48 * ONE // 10, 333_333_333_333_333_334)})


def test_the_fee_stays_in_the_band_less_the_administrators_share() -> None:
    # half of 3.6 is the fee; half of 1.8 the administrators': x = 3 + 3.6 - 0.9
    pool = amm(BAND, fee=WAD // 2, admin_fee=WAD // 2)
    done = pool.exchange(ONE, START, pump=True, paid=36 * ONE // 10)
    assert (done.bought, done.kept) == (666_666_666_666_666_666, 9 * ONE // 10)
    assert (pool.band(0).x, pool.kept_x) == (57 * ONE // 10, 9 * ONE // 10)
    # the change of the oracle's price may ask more than the AMM does: 0.75 of 7.2 leaves 1.8 too
    more = amm(BAND, fee=WAD // 2).trade((ONE, 3 * WAD // 4), START, pump=True, paid=72 * ONE // 10)
    assert more.bought == 666_666_666_666_666_666


def test_an_amount_is_bought_exactly() -> None:
    # 36 / (3 + 0.5) - 9 = 1.2857142857142857142...
    done = amm(BAND).trade(AT_ONE, START, pump=True, wanted=ONE // 2)
    assert (done.paid, done.bought, done.bands[0][1]) == (1_285_714_285_714_285_714, ONE // 2, ONE // 2)


def test_collateral_is_sold() -> None:
    # 36 / (3 + 1 + 0.8) - 6 = 1.5, and a unit; all of x would take 36 / 6 - 4 = 2
    done = amm(BAND).trade(AT_ONE, START, pump=False, paid=8 * ONE // 10)
    assert (done.bought, done.bands) == (3 * ONE // 2 - 1, {0: (3 * ONE // 2 + 1, 18 * ONE // 10)})
    whole = amm(BAND).trade(AT_ONE, START, pump=False, wanted=3 * ONE)
    assert (whole.paid, whole.bands) == (2 * ONE, {0: (0, 3 * ONE)})


def test_amounts_in_are_rounded_up_and_out_down_to_units_of_their_tokens() -> None:
    pool = amm(BAND)
    pool.terms = AmmTerms(2, ONE, borrowed_scale=10**12, collateral_scale=10**10)
    # 3 at 6 decimals, 1 - 1 wei at 8 decimals
    done = pool.trade(AT_ONE, START, pump=True, paid=3 * 10**6)
    assert (done.paid, done.bought) == (3_000_000, 99_999_999)
    # 36 / 3.5 - 9 = 1.285714285...: 1.285715 at six decimals
    assert pool.trade(AT_ONE, START, pump=True, wanted=5 * 10**7).paid == 1_285_715


def test_the_amount_to_a_price() -> None:
    # to 4, the top: 36 * 1 / 4 = 9, root 3 = g: y = 0, x = 36 / 3 - 6 = 6, so 3 more
    assert amm(BAND).amount_for_price(4 * ONE, AT_ONE, START) == (3 * ONE, True)
    # to 1, the bottom: root 36 - 3 = 3: 2 more
    assert amm(BAND).amount_for_price(ONE, AT_ONE, START) == (2 * ONE, False)
    # half of what is paid is the fee
    assert amm(BAND, fee=WAD // 2).amount_for_price(4 * ONE, AT_ONE, START) == (6 * ONE, True)


def test_what_bands_come_to_when_the_price_falls() -> None:
    pool = amm({1: (0, ONE)})
    pool.active = 0
    # above the band: y * p_up / sqrt(2), of 500 in 1000 + 1000 shares a quarter: 0.5 / 1.4142... / 4
    shares = (500,)
    assert abs(pool.worth_down(shares, 1, 4 * ONE, START) - 88_388_347_648_318_440) < 10**5
    assert pool.worth_down(shares, 1, 4 * ONE, START, in_y=True) == ONE // 4
    # below it, p = 1 / 8: all is sold at p^3 / (p_down p_up) = (1 / 512) / (1 / 8) = 1 / 64
    assert abs(pool.worth_down(shares, 1, ONE // 8, START) - ONE // 64 // 4) < 10**5


def test_health_and_who_may_be_liquidated() -> None:
    state = opened(*loan(ALICE, ONE // 5, 4 * ONE, 1, 4, discount=WAD // 10))
    one = state.loan(ALICE)
    # four bands of one each, upper edges 1/2 to 1/16, over sqrt 2: 0.9375 / 1.4142135... = 0.66291; less dead shares
    worth = state.amm.worth_down(one.shares, 1, ONE, START)
    assert abs(worth - 662_912_607_362_388_303) < 10**5
    # 0.66291 * 0.9 / 0.2 - 1 = 1.98311, and above the bands (1 - 1/2) * 4 / 0.2 = 10 more
    plain, full = (health(state, one, ONE // 5, ONE, START, full=full, discount=WAD // 10) for full in (False, True))
    assert abs(plain - 1_983_106_733_130_747_364) < 10**6
    assert abs(full - plain - 10 * WAD) < 10**6
    assert LLAMMA.pairs(state, ALICE, Prices(prices(ONE), {}, {}), NOW) == []
    poor = opened(*loan(ALICE, 7 * ONE // 10, 4 * ONE, 1, 4, discount=WAD // 10))
    # 0.66291 * 0.9 / 0.7 - 1 < 0 under the bands; at 2 the price above them makes up for it: 1.5 * 4 / 0.7
    assert LLAMMA.pairs(poor, ALICE, Prices(prices(ONE // 100), {}, {}), NOW) == [Pair(BORROWED, COLLATERAL)]
    assert LLAMMA.pairs(poor, ALICE, Prices(prices(2 * ONE), {}, {}), NOW) == []
    assert LLAMMA.pairs(poor, ALICE, Prices({}, {}, {}), NOW) == []


def test_a_part_of_the_debt_takes_less_of_the_bands() -> None:
    assert part_removed_down(WAD, WAD // 10) == WAD
    assert part_removed_down(WAD // 2, 0) == WAD // 2
    # (1.05 * 0.5 / 1.1 + 0.5) * 0.5 = (0.47727... + 0.5) / 2
    assert part_removed_down(WAD // 2, WAD // 10) == 488_636_363_636_363_636


def test_debts_are_rounded_up_but_for_the_only_one() -> None:
    # 1000 * 1.0005 / 1 = 1000.5
    grown = rate(10_005 * WAD // 10_000, 0)
    alone = opened(*loan(ALICE, 1_000, ONE, 1, 4), grown)
    both = opened(*loan(ALICE, 1_000, ONE, 1, 4), *loan(BOB, 1_000, ONE, 1, 4), grown)
    assert (alone.debt_up(alone.loan(ALICE), START), both.debt_up(both.loan(ALICE), START)) == (1_000, 1_001)
    assert both.total_debt_down(START) == 2_001


def test_what_collateral_carries() -> None:
    terms = AmmTerms(2, ONE)
    # 4 over 4 bands, 10 % off: 0.9 / sqrt 2 = 0.63639..., times 1 + 1/2 + 1/4 + 1/8
    assert abs(y_effective_down(4 * ONE, 4, WAD // 10, terms) - 1_193_242_693_252_298_945) <= 10_000
    state = opened()
    # 4 * 0.91 / 4 / sqrt 2 * 1.875 = 1.20650... at the top of band 0 = 1; for 0.5: 2.413, the first band is 1
    assert first_band(state, 4 * ONE, ONE // 2, 4, ONE, START) == 1
    # for 0.61: 1.978, the first band is 0, whose top is not below the price
    with pytest.raises(AmmReverts, match="too high"):
        first_band(state, 4 * ONE, 61 * ONE // 100, 4, ONE, START)
    # a hair above 1: band 0 may be the first, and all of 1.2065 less 0.01 % be owed
    most = most_debt_down(state, 4 * ONE, 4, ONE + 10**6, START)
    assert abs(most - 1_206_380_000_000_000_000) < 10**13
    assert most_debt_down(state, 4 * ONE, 3, ONE, START) == 0


def test_a_hard_liquidation() -> None:
    state = opened(*loan(ALICE, 7 * ONE // 10, 4 * ONE, 1, 4, discount=WAD // 10))
    order, at = Order(ALICE, Pair(BORROWED, COLLATERAL), CAROL), Prices(prices(ONE // 100), {}, {})
    fill = LLAMMA.quote(state, order, at, NOW)
    assert isinstance(fill, Fill)
    # all four less a unit of rounding a band at most; no borrowed token is in the bands
    assert (fill.repaid, 4 * ONE - 4 <= fill.seized <= 4 * ONE) == (7 * ONE // 10, True)
    for change in fill.changes:
        LLAMMA.apply(state, change)
    assert (LLAMMA.accounts(state), state.amm.bands, state.debtors) == ([], {}, 0)
    assert LLAMMA.quote(state, order, at, NOW) == Refusal("the loan does not exist")


def test_borrowed_tokens_in_the_bands_pay_first() -> None:
    state = opened(*loan(ALICE, 7 * ONE // 10, 4 * ONE, 1, 4, discount=WAD // 10))
    for n in range(1, 5):
        state.amm.bands[n] = type(state.amm.bands[n])(ONE // 8, 0, state.amm.bands[n].shares)
    state.amm.active = 4
    order, at = Order(ALICE, Pair(BORROWED, COLLATERAL), CAROL), Prices(prices(ONE // 100), {}, {})
    fill = LLAMMA.quote(state, order, at, NOW)
    assert isinstance(fill, Fill)
    assert abs(fill.repaid - 2 * ONE // 10) < 10  # 0.7 - 4 / 8
    assert fill.seized == 0
    assert surplus(state, order, NOW) == 0
    for n in range(1, 5):
        state.amm.bands[n] = type(state.amm.bands[n])(ONE // 4, 0, state.amm.bands[n].shares)
    assert abs(surplus(state, order, NOW) - 3 * ONE // 10) < 10  # 1 - 0.7
    # a third of the debt: f = ((1.05 * 2/3 / 1.1) + 1/3) / 3 = 0.32323...
    part = LLAMMA.quote(state, Order(ALICE, order.pair, CAROL, repay=7 * ONE // 30), at, NOW)
    refused = isinstance(part, Refusal)
    assert refused  # 1 of x against 0.7 is healthy: 1 * 0.9 / 0.7 > 1
    own = LLAMMA.quote(state, Order(ALICE, order.pair, ALICE), at, NOW)
    assert isinstance(own, Fill)  # who liquidates itself is not asked for its health
    assert own.repaid == 0


def test_a_partial_liquidation_leaves_the_rest() -> None:
    state = opened(*loan(ALICE, 7 * ONE // 10, 4 * ONE, 1, 4, discount=WAD // 10))
    at = Prices(prices(ONE // 100), {}, {})
    fill = LLAMMA.quote(state, Order(ALICE, Pair(BORROWED, COLLATERAL), CAROL, repay=35 * ONE // 100), at, NOW)
    assert isinstance(fill, Fill)
    assert fill.repaid == 35 * ONE // 100
    assert abs(fill.seized - 4 * 488_636_363_636_363_636) < 10
    for change in fill.changes:
        LLAMMA.apply(state, change)
    left = state.loan(ALICE)
    assert (left.initial, len(left.shares)) == (35 * ONE // 100, 4)
    assert left.deposited == 4 * ONE - 4 * 488_636_363_636_363_636


def test_an_exchange_is_a_liquidation_of_the_amm() -> None:
    state = opened(*loan(ALICE, ONE // 5, 4 * ONE, 1, 4))
    pair, at = Pair(BORROWED, COLLATERAL), Prices(prices(ONE // 4), {}, {})
    fill = LLAMMA.quote(state, Order(AMM, pair, CAROL, repay=ONE // 10), at, NOW)
    assert isinstance(fill, Fill)
    past = HistoricalLiquidation(
        seq=0, block_number=10, log_index=0, timestamp=START, account=AMM, liquidator=CAROL, debt_asset=BORROWED,
        collateral_asset=COLLATERAL, repaid=fill.repaid, seized=fill.seized, protocol_fee=0,
        receive_collateral_token=False,
    )  # fmt: skip
    again = LLAMMA.quote(state, LLAMMA.observed_order(state, past, at, NOW), at, NOW)
    assert isinstance(again, Fill)
    assert (again.repaid, again.seized) == (fill.repaid, fill.seized)
    for change in fill.changes:
        LLAMMA.apply(state, change)
    assert sum(band.x for band in state.amm.bands.values()) == ONE // 10
    assert LLAMMA.quote(state, Order(AMM, pair, CAROL), at, NOW) == Refusal("an exchange without an amount")
    assert isinstance(LLAMMA.quote(state, Order(AMM, pair, CAROL, seize=9 * ONE), at, NOW), Refusal)


def test_users_calls_are_made_by_the_contracts_rules() -> None:
    state, at = opened(*loan(ALICE, ONE // 10, 4 * ONE, 1, 4)), Prices(prices(ONE), {}, {})
    made = tuple(loan(BOB, ONE // 2, 4 * ONE, 1, 4))
    acted = LLAMMA.act(state, Action("borrow", made), at, NOW)  # type: ignore[arg-type]
    assert not isinstance(acted, Refusal)
    assert acted.amount == ONE // 2
    assert {c.setting: c.value for c in acted.changes if hasattr(c, "setting")}["first_band"] == 1
    more = LLAMMA.act(state, Action("borrow", made, amount=61 * ONE // 100), at, NOW)  # type: ignore[arg-type]
    assert more == Refusal("the debt is too high")
    missing = LLAMMA.act(state, Action("borrow", made), Prices({}, {}, {}), NOW)  # type: ignore[arg-type]
    assert isinstance(missing, Refusal)


def test_what_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="leave rates as recorded"):
        LLAMMA.open(opened().market, recompute=True)
    with pytest.raises(RulesError, match="unknown parameter 'ltv'"):
        LLAMMA.apply(opened(), param("ltv", 1))
    event = loan(BOB, 1, 1, 1, 4)[2]
    taken = type(event)(**{**_fields(event), "setting": "withdrawn", "value": WAD})
    with pytest.raises(RulesError, match="no deposits"):
        LLAMMA.apply(opened(*loan(ALICE, ONE // 5, 4 * ONE, 1, 4)), taken)
    with pytest.raises(PriceMissing):
        LLAMMA.view(opened(*loan(ALICE, 1, 4 * ONE, 1, 4)), ALICE, Prices({}, {}, {}), NOW)
    assert LLAMMA.fault({"loan_discount": WAD // 10, "liquidation_discount": WAD // 10}) is not None
    assert LLAMMA.fault({"loan_discount": WAD // 10, "liquidation_discount": WAD // 20}) is None
    assert LLAMMA.fault({"amplification": 1}) is not None


def _fields(event: object) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__dataclass_fields__}  # type: ignore[attr-defined]
