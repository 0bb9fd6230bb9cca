"""GEB's rules worked by hand from the source (reflexer-labs/geb 1a59f16 ``src/single/``, @opendollar/contracts
0.0.0-e31c2151): the arithmetic stands beside each number.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backtest.model import AccountId, Clock, Market, ParamChange, PositionChange, Prices, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.geb import GEB, house
from backtest.protocols.geb.auctions import DiscountAuctions, discount_now, price_now
from backtest.protocols.geb.house import Purchase
from backtest.protocols.geb.params import ENGLISH, FIXED, INCREASING, OPEN_DOLLAR, fault
from backtest.protocols.geb.rules import redemption_price_down, seizure
from backtest.protocols.geb.state import SafeState
from backtest.protocols.interface import Action, Fill, Order, Refusal
from backtest.protocols.vaults.rules import AuctionLimits, Seizure, carried_down, is_unsafe
from backtest.protocols.vaults.state import COIN, COLLATERAL, PAIR
from backtest.units import RAY, WAD
from tests.sketches.history import market

RAD = WAD * RAY
ALICE, KEEPER = AccountId(0), AccountId(1)

# -- OracleRelayer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "rate", "seconds", "expected"),
    [
        (3 * RAY, RAY, 10**6, 3 * RAY),  # a rate of one: nothing moves
        (3 * RAY, 2 * RAY, 0, 3 * RAY),  # no time: nothing is multiplied
        (3 * RAY, 2 * RAY, 3, 24 * RAY),  # 2^3 x 3
        (3 * RAY, RAY // 2, 2, 3 * RAY // 4),  # 1/4 x 3
        # 1.000000001^2 = 1.000000002000000001 exactly; x 3.14 = 3.14000000628000000314
        (314 * RAY // 100, RAY + 10**18, 2, 3_140_000_006_280_000_003_140_000_000),
        # rpow rounds halves up: (1 + 5e-14)^2 = 1 + 1e-13 + 2.5e-27 -> 1e27 + 1e14 + 3 (2.5 up); x 1
        (RAY, RAY + 5 * 10**13, 2, RAY + 10**14 + 3),
        (1, 1, 1, 1),  # 1e-27 x 1e-27 is cut to nothing: never zero
    ],
)
def test_the_redemption_price(price: int, rate: int, seconds: int, expected: int) -> None:
    assert redemption_price_down(price, rate, seconds) == expected


@pytest.mark.parametrize(
    ("value", "redemption", "ratio", "expected"),
    [
        # 2,000 / 3.14 = 636.942675159235668789808917197|45..., / 1.35 = 471.809389006841236140599197923|7
        (2_000 * RAY, 314 * RAY // 100, 135 * RAY // 100, 471_809_389_006_841_236_140_599_197_923),
        (2_000 * RAY, 2 * RAY, 2 * RAY, 500 * RAY),
        (1, 3 * RAY, RAY, 0),  # cut to nothing
    ],
)
def test_the_liquidation_price(value: int, redemption: int, ratio: int, expected: int) -> None:
    assert carried_down(value, redemption, ratio) == expected


def test_a_safe_is_unsafe_strictly_below_its_liquidation_price() -> None:
    """10 ETH at 500 carry 5,000 of debt; one rad more they do not. Without a price nobody is unsafe."""
    assert not is_unsafe(10 * WAD, 5_000 * WAD, RAY, 500 * RAY)
    assert is_unsafe(10 * WAD, 5_000 * WAD, RAY, 500 * RAY - 1)
    assert is_unsafe(10 * WAD, 5_000 * WAD, RAY + 1, 500 * RAY)
    assert not is_unsafe(10 * WAD, 5_000 * WAD, RAY, 0)


# -- LiquidationEngine -------------------------------------------------------------------------------------------------

LIMITS = AuctionLimits(chop=11 * WAD // 10, dust=500 * RAD, dunk=90_000 * RAD, room=200_000 * RAD)


@pytest.mark.parametrize(
    ("ink", "art", "rate", "limits", "expected"),
    [
        # whole: 4,000 x 1.1 = 4,400 to raise
        (10 * WAD, 4_000 * WAD, RAY, LIMITS, Seizure(10 * WAD, 4_000 * WAD, 4_000 * RAD, 4_400 * RAD)),
        # quantity 2,200: 2,200 / 1 / 1.1 = 2,000 of 4,000; half of the collateral
        (
            10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, dunk=2_200 * RAD),
            Seizure(5 * WAD, 2_000 * WAD, 2_000 * RAD, 2_200 * RAD),
        ),
        # what is left of the limit is less than the quantity: 1,100 / 1.1 = 1,000; a quarter
        (
            10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, room=1_100 * RAD),
            Seizure(25 * WAD // 10, 1_000 * WAD, 1_000 * RAD, 1_100 * RAD),
        ),
        # rate 1.25: 2,200 / 1.25 / 1.1 = 1,600 of 4,000 (two fifths), owing 2,000
        (
            10 * WAD, 4_000 * WAD, 5 * RAY // 4, replace(LIMITS, dunk=2_200 * RAD),
            Seizure(4 * WAD, 1_600 * WAD, 2_000 * RAD, 2_200 * RAD),
        ),
        # cut once at the end: 1,000 / 3 / 1.1 = 303.030303030303030303|03; 10 x 303.03.. / 4,000 = 0.7575757575757575|7
        (
            10 * WAD, 4_000 * WAD, 3 * RAY, replace(LIMITS, dunk=1_000 * RAD),
            Seizure(
                757575757575757575, 303_030_303_030_303_030_303, 909_090_909_090_909_090_909 * RAY,
                909_090_909_090_909_090_909 * RAY * 11 // 10,
            ),
        ),
        (10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, room=0), "liquidation limit hit"),
        (10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, room=500 * RAD - 1), "liquidation limit hit"),  # below the floor
        # 3,850 / 1.1 = 3,500: 500 stay, the floor; one unit less would not be enough
        (
            10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, dunk=3_850 * RAD),
            Seizure(875 * WAD // 100, 3_500 * WAD, 3_500 * RAD, 3_850 * RAD),
        ),
        (10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, dunk=3_851 * RAD), "dusty safe"),
        (10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, dunk=0), "null auction"),
        (10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, chop=0), "no penalty is set"),
        (0, 4_000 * WAD, RAY, LIMITS, "null collateral to sell"),
        # one unit of art at a rate of a half: 0.55 units to raise, less than one
        (10 * WAD, 1, RAY // 2, replace(LIMITS, dust=0), "dusty auction"),
        (
            10 * WAD, 4_000 * WAD, RAY, replace(LIMITS, room=None),
            Seizure(10 * WAD, 4_000 * WAD, 4_000 * RAD, 4_400 * RAD),
        ),
    ],
)  # fmt: skip
def test_what_a_liquidation_takes(
    ink: int, art: int, rate: int, limits: AuctionLimits, expected: Seizure | str
) -> None:
    assert seizure(ink, art, rate, limits) == expected


# -- auction houses: prices --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fsm", "median", "expected"),
    [
        (2_000, 0, 2_000),  # no median
        (2_000, 1_900, 1_900),  # within 10 %
        (2_000, 1_700, 1_800),  # no lower than 90 %
        (2_000, 2_050, 2_050),
        (2_000, 2_200, 2_100),  # no higher than 105 %: 2 - 0.95
    ],
)
def test_the_collateral_s_price_in_an_auction(fsm: int, median: int, expected: int) -> None:
    lower, upper = 90 * WAD // 100, 95 * WAD // 100
    assert house.base_price_down(fsm * WAD, median * WAD, lower, upper) == expected * WAD


@pytest.mark.parametrize(
    ("market", "lower", "upper", "least", "expected"),
    [
        (0, 90, 90, 99, 300),  # no oracle
        (280, 100, 100, 99, 300),  # no deviation allowed (as deployed): the redemption price
        (320, 100, 100, 99, 300),
        (280, 90, 100, 99, 280),  # down to 270
        (250, 90, 100, 99, 270),
        (320, 100, 90, 99, 320),  # up to 330: 2 - 0.9
        (350, 100, 90, 99, 330),
        (280, 99, 100, 98, 300),  # an allowance of 1 % where 2 % at least count: none
        (320, 100, 99, 98, 300),
    ],
)
def test_the_coin_s_price_in_an_auction(market: int, lower: int, upper: int, least: int, expected: int) -> None:
    percents = (each * WAD // 100 for each in (lower, upper, least))
    assert house.coin_price_down(3 * RAY, market * RAY // 100, *percents) == expected * RAY // 100


def test_the_price_asked_and_where_the_lineages_cut() -> None:
    """2,000 / 3 = 666.666666666666666666|, x 0.95 = 633.333333333333333332|7. Open Dollar: 1,900 / 3 = 633.3..3."""
    asked = house.discounted_down(2_000 * WAD, 3 * RAY, 95 * WAD // 100)
    assert asked == 633_333_333_333_333_333_332
    first = house.discounted_first_down(2_000 * WAD, 3 * RAY, 95 * WAD // 100)
    assert first == 633_333_333_333_333_333_333


@pytest.mark.parametrize(
    ("current", "seconds", "expected"),
    [
        (96, 0, 96_000_000_000_000_000_000),  # rpow(rate, 0) is one
        (96, 1, 95_040_000_000_000_000_000),  # x 0.99
        (96, 2, 94_089_600_000_000_000_000),  # x 0.9801
        (96, 7, 90_000_000_000_000_000_000),  # 96 x 0.932065 = 89.478...: no further than 90
        (96, 10, 90_000_000_000_000_000_000),  # the deadline
        (90, 3, 90_000_000_000_000_000_000),  # there already
        (0, 1, 90_000_000_000_000_000_000),  # not set: the greatest
    ],
)
def test_a_discount_that_increases(current: int, seconds: int, expected: int) -> None:
    """Hundredths: from 4 % by 1 % of what is paid a second to 10 %, for ten seconds."""
    rate = 99 * RAY // 100
    found = house.next_discount_down(current * WAD // 100, 90 * WAD // 100, rate, 1_000, 1_010, 1_000 + seconds)
    assert found * 100 == expected


def test_a_discount_is_cut_again_with_each_purchase() -> None:
    """0.999999999999999999 of a third: two seconds at once, and one by one."""
    rate, start = RAY // 3, WAD - 1
    at_once = house.next_discount_down(start, 1, rate, 0, 100, 2)
    once = house.next_discount_down(start, 1, rate, 0, 100, 1)
    assert once == (RAY // 3) * (WAD - 1) // RAY == 333_333_333_333_333_332
    assert at_once == 111_111_111_111_111_110  # (1/9, rounded) x (1 - 1e-18): 0.11111111111111111099..., cut
    assert house.next_discount_down(once, 1, rate, 1, 100, 2) == 111_111_111_111_111_110


def test_open_dollar_s_discount() -> None:
    """0.95 x 0.99^2 = 0.931095; no lower than 0.93 from the third second on (0.92178405)."""
    found = [house.discount_since_down(95 * WAD // 100, 93 * WAD // 100, 99 * RAY // 100, t) for t in range(4)]
    assert found == [95 * WAD // 100, 9405 * WAD // 10_000, 931_095 * WAD // 10**6, 93 * WAD // 100]


# -- auction houses: purchases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "raising", "bid", "price", "expected"),
    [
        # 500 coins at 500: one of ten; 4,400 - 500 stay
        (10 * WAD, 4_400 * RAD, 500 * WAD, 500 * WAD, Purchase(500 * WAD, WAD, 9 * WAD, 3_900 * RAD, 500 * RAD)),
        # all of it, exactly: 8.8 for 4,400, 1.2 go back
        (
            10 * WAD, 4_400 * RAD, 4_400 * WAD, 500 * WAD,
            Purchase(4_400 * WAD, 88 * WAD // 10, 0, 0, 4_400 * RAD, 12 * WAD // 10),
        ),
        # more than asked for: one unit above it is paid, and buys 2e-3 units, cut
        (
            10 * WAD, 4_400 * RAD, 5_000 * WAD, 500 * WAD,
            Purchase(4_400 * WAD + 1, 88 * WAD // 10, 0, 0, 4_400 * RAD, 12 * WAD // 10),
        ),
        # the lot is worth 4,000: who bids 4,200 pays it all the same
        (10 * WAD, 4_400 * RAD, 4_200 * WAD, 400 * WAD, Purchase(4_200 * WAD, 10 * WAD, 0, 0, 4_400 * RAD)),
        (10 * WAD, 4_400 * RAD, 4_000 * WAD, 400 * WAD, Purchase(4_000 * WAD, 10 * WAD, 0, 0, 4_400 * RAD)),
        # a rest of less than one unit (a RAY of rads) may not be left
        (10 * WAD, 4_400 * RAD + RAY // 2, 4_400 * WAD, 500 * WAD, "invalid left to raise"),
        (
            10 * WAD, 4_400 * RAD + RAY, 4_400 * WAD, 500 * WAD,
            Purchase(4_400 * WAD, 88 * WAD // 10, 12 * WAD // 10, RAY, 4_400 * RAD),
        ),
        (10 * WAD, 4_400 * RAD, 5 * WAD - 1, 500 * WAD, "invalid bid"),
        (10 * WAD, 4_400 * RAD, 0, 500 * WAD, "invalid bid"),
        (10 * WAD, 4_400 * RAD, 5 * WAD, 10**38, "null bought amount"),
        (0, 4_400 * RAD, 5 * WAD, 500 * WAD, "inexistent auction"),
    ],
)  # fmt: skip
def test_a_purchase(left: int, raising: int, bid: int, price: int, expected: Purchase | str) -> None:
    assert house.buy(left, raising, bid, price, 5 * WAD) == expected


@pytest.mark.parametrize(
    ("left", "raising", "bid", "price", "expected"),
    [
        (10 * WAD, 4_400 * RAD, 500 * WAD, 500 * WAD, Purchase(500 * WAD, WAD, 9 * WAD, 3_900 * RAD, 500 * RAD)),
        # 4,200 at 400 would buy 10.5: 4,200 x 10 / 10.5 = 4,000 are paid
        (10 * WAD, 4_400 * RAD, 4_200 * WAD, 400 * WAD, Purchase(4_000 * WAD, 10 * WAD, 0, 0, 4_400 * RAD)),
        # 4,400 less 4,396 is less than the minimum bid
        (10 * WAD, 4_400 * RAD, 4_396 * WAD, 500 * WAD, "invalid left to raise"),
        (
            10 * WAD, 4_400 * RAD, 4_395 * WAD, 500 * WAD,
            Purchase(4_395 * WAD, 879 * WAD // 100, 121 * WAD // 100, 5 * RAD, 4_395 * RAD),
        ),
        (
            10 * WAD, 4_400 * RAD, 9_000 * WAD, 500 * WAD,
            Purchase(4_400 * WAD + 1, 88 * WAD // 10, 0, 0, 4_400 * RAD, 12 * WAD // 10),
        ),
        (10 * WAD, 4_400 * RAD, 4 * WAD, 500 * WAD, "invalid bid"),
        (10 * WAD, 4_400 * RAD, 5 * WAD, 10**38, "null bought amount"),
        (10 * WAD, 0, 5 * WAD, 500 * WAD, "inexistent auction"),
    ],
)  # fmt: skip
def test_a_purchase_of_open_dollar(left: int, raising: int, bid: int, price: int, expected: Purchase | str) -> None:
    assert house.buy_readjusted(left, raising, bid, price, 5 * WAD) == expected


@pytest.mark.parametrize(
    ("left", "raising", "price", "expected"),
    [
        (10 * WAD, 4_400 * RAD, 500 * WAD, 4_400 * WAD),  # all that is to be raised
        (10 * WAD, 4_400 * RAD + 1, 500 * WAD, 4_400 * WAD + 1),  # up
        (10 * WAD, 4_400 * RAD, 400 * WAD, 4_000 * WAD),  # all of the lot
        (10 * WAD + 1, 4_400 * RAD, 400 * WAD, 4_000 * WAD + 400),
        (3, 4_400 * RAD, WAD // 2, 5 * WAD),  # 1.5 units, but the minimum bid
        # the lot costs half a unit less than what is to be raised: less than a RAY may not be left
        (10 * WAD, 4_000 * RAD + RAY // 2, 400 * WAD, 4_000 * WAD + 1),
    ],
)
def test_the_least_bid_that_ends_an_auction(left: int, raising: int, price: int, expected: int) -> None:
    assert house.whole_bid_up(left, raising, price, 5 * WAD) == expected


# -- in a book ---------------------------------------------------------------------------------------------------------

MARKET: Market = replace(market(("ETH", 18), ("RAI", 18), protocol="geb"), base_decimals=18, price_decimals=27)
PARAMS = {
    "liquidation_ratio": 135 * RAY // 100,
    "safety_ratio": 140 * RAY // 100,
    "liquidation_penalty": 11 * WAD // 10,
    "liquidation_system": INCREASING,
    "dunk": 90_000 * WAD,
    "dust": 500 * WAD,
    "min_discount": 95 * WAD // 100,
    "max_discount": 90 * WAD // 100,
    "discount_rate": 999 * RAY // 1000,
    "discount_seconds": 3_600,
}


def booked(price: int = 2_000, redemption: int = 3 * RAY, **params: int) -> Book[SafeState]:
    """Ten ETH, 4,000 coins of debt."""
    book = Book.open(GEB, MARKET)
    place: dict[str, Any] = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 1_000}
    for name, value in {**PARAMS, **params}.items():
        book.apply(ParamChange(**place, name=name, value=value, asset=None, category=None))
    for asset, side, delta in ((COLLATERAL, "collateral", 10 * WAD), (COIN, "debt", 4_000 * WAD)):
        book.apply(_moved(ALICE, asset, side, delta))
    for asset, value in ((COLLATERAL, price * RAY), (COIN, redemption)):
        book.apply(PriceUpdate(**place, asset=asset, price=value))
    book.now = Clock(1, 0, 1_000)
    return book


def _moved(who: AccountId, asset: Any, side: Any, delta: int, action: str = "borrow") -> PositionChange:
    place: dict[str, Any] = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 1_000}
    return PositionChange(**place, account=who, asset=asset, side=side, delta=delta, action=action, action_seq=0)


def test_a_safe_s_view() -> None:
    """Worth 20,000; owes 4,000 x 3 = 12,000; health 10 x 2,000 / 3 / 1.35 / 4,000 = 1.23456790123456790123...; may owe
    10 x 476.190476190476190476190476190 (2,000 / 3 / 1.4) = 4,761.904761904761904761|9 coins, x 3.
    """
    book = booked()
    seen = GEB.view(book.state, ALICE, book.prices, book.now)
    assert (seen.collateral_base, seen.debt_base) == (20_000 * WAD, 12_000 * WAD)
    assert seen.health == 1_234_567_901_234_567_901
    assert seen.borrowing_power_base == 14_285_714_285_714_285_714_283


def test_a_higher_redemption_price_makes_a_safe_unsafe() -> None:
    """Nothing else moves: 20,000 / 1.35 = 14,814.8 carry 4,000 coins up to 3.7037037... each."""
    for redemption, unsafe in ((3_703 * RAY // 1_000, False), (3_704 * RAY // 1_000, True)):
        book = booked(redemption=redemption)
        assert bool(GEB.pairs(book.state, ALICE, book.prices, book.now)) is unsafe


def test_from_which_price_a_safe_is_safe() -> None:
    """4,000 / 10 = 400 coins a unit, x 1.35 x 3 = 1,620."""
    book = booked()
    found = GEB.safe_prices(book.state, ALICE, COLLATERAL, book.prices, book.now)
    assert found is not None
    assert found.least_up == 1_620 * RAY
    assert GEB.safe_prices(book.state, ALICE, COIN, book.prices, book.now) is None


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (761 * WAD, "passes"),  # 4,761 x 3 x 1.4 = 19,996.2
        (762 * WAD, "not safe"),  # 4,762 x 3 x 1.4 = 20,000.4: above the safety ratio, though far from liquidation
    ],
)
def test_users_are_held_to_the_safety_ratio(amount: int, expected: str) -> None:
    book = booked()
    made = GEB.act(book.state, Action("borrow", (_moved(ALICE, COIN, "debt", amount),)), book.prices, book.now)
    assert (made.reason if isinstance(made, Refusal) else "passes") == expected


def test_users_may_not_leave_less_than_the_floor() -> None:
    book = booked()
    repaid = Action("repay", (_moved(ALICE, COIN, "debt", -3_501 * WAD, "repay"),))
    made = GEB.act(book.state, repaid, book.prices, book.now)
    assert isinstance(made, Refusal)
    assert made.reason == "dust"


def _start(book: Book[SafeState], auctions: DiscountAuctions) -> int:
    (opening,) = auctions.opportunities(book, ALICE, KEEPER, receive_collateral_token=False)
    assert not isinstance(opening, Refusal)
    assert (opening.step, opening.always, opening.opens) == ("start", True, True)
    lot = auctions.settle(book, opening)
    assert lot is not None
    for change in opening.fill.changes:
        book.apply(change)
    return lot


def test_an_auction_from_its_start_to_its_end() -> None:
    """Unsafe at 1,600: 4,400 coins are asked for ten ETH. A coin trades at 3.6: 5 % of discount do not pay, since
    1,600 / 3 x 0.95 = 506.7 coins cost 1,824. From 1,600 / 3.6 = 444.4 coins a unit on it would pay: a discount of
    16.7 %, which 10 % never is; and with 20 % as the greatest, after ln(0.8333.. / 0.95) / ln(0.999) = 130.97 seconds.
    """
    book, auctions = booked(1_600), DiscountAuctions()
    book.traded[COIN] = 36 * RAY // 10
    book._price()
    number = _start(book, auctions)
    lot = auctions.lots[number]
    assert (lot.raising, lot.left, lot.due) == (4_400 * RAD, 10 * WAD, 4_000 * RAD)
    assert auctions.opportunities(book, ALICE, KEEPER, receive_collateral_token=False) == []
    assert auctions.wake(book.now) is None  # 10 % are not enough
    book, auctions = booked(1_600, max_discount=80 * WAD // 100), DiscountAuctions()
    book.traded[COIN] = 36 * RAY // 10
    book._price()
    number = _start(book, auctions)
    assert auctions.opportunities(book, ALICE, KEEPER, receive_collateral_token=False) == []
    assert auctions.wake(book.now) == 1_000 + 131
    book.now = Clock(12, 0, 1_131)
    (offer,) = auctions.opportunities(book, ALICE, KEEPER, receive_collateral_token=False)
    assert not isinstance(offer, Refusal)
    # 0.999^131 x 0.95 = 0.83330..., x 533.33 = 444.43 coins: all of the lot would cost 4,444, so 4,400 buy 9.9003 of it
    price = price_now(book, auctions.lots[number], 1_131)
    assert price == house.discounted_down(1_600 * WAD, 3 * RAY, discount_now(book.state, lot, 1_000) and _discount(131))
    assert (offer.fill.repaid, offer.fill.seized) == (4_400 * WAD, 4_400 * WAD * WAD // price)
    assert (offer.step, offer.fill.deficits) == ("buy", ())
    auctions.settle(book, offer)
    assert not auctions.lots


def _discount(seconds: int) -> int:
    return house.next_discount_down(95 * WAD // 100, 80 * WAD // 100, 999 * RAY // 1000, 0, 3_600, seconds)


def test_bad_debt_is_what_a_lot_raised_less_than_its_debt() -> None:
    """At 600 a unit is 200 coins, 190 with the discount: ten ETH cost 1,900 of a debt of 4,000; 2,100 are lost."""
    book, auctions = booked(600), DiscountAuctions()
    _start(book, auctions)
    (offer,) = auctions.opportunities(book, ALICE, KEEPER, receive_collateral_token=False)
    assert not isinstance(offer, Refusal)
    assert (offer.fill.repaid, offer.fill.seized) == (1_900 * WAD, 10 * WAD)
    assert offer.fill.deficits == ((COIN, 2_100 * WAD),)
    (freed,) = offer.fill.changes
    assert isinstance(freed, ParamChange)
    assert freed.value == -4_400 * RAD
    assert offer.profit == 6_000 * WAD - 5_700 * WAD


def test_a_house_with_a_coin_oracle_sells_by_the_market_s_price_within_bounds() -> None:
    """The coin trades at 2.5, ten per cent below its redemption price at most count: 2.7. 1,600 / 2.7 x 0.95."""
    book, auctions = booked(1_600, coin_oracle=1, lower_coin_deviation=90 * WAD // 100), DiscountAuctions()
    book.traded[COIN] = 25 * RAY // 10
    book._price()
    lot = auctions.lots[_start(book, auctions)]
    assert price_now(book, lot, 1_000) == 1_600 * WAD * RAY // (27 * RAY // 10) * 95 // 100


def test_auctions_go_by_the_redemption_price_to_the_second() -> None:
    """Health by 3, as the price was last updated; the auction by 3 x 1.01^2 = 3.0603 two seconds later."""
    book = booked(1_600, redemption_price=3 * RAY, redemption_time=1_000, redemption_rate=101 * RAY // 100)
    auctions = DiscountAuctions()
    lot = auctions.lots[_start(book, auctions)]
    expected = house.discounted_down(1_600 * WAD, 30_603 * RAY // 10_000, _discount(2))
    assert price_now(book, lot, 1_002) == expected
    assert GEB.figures(book.state, ALICE, book.prices, Clock(2, 0, 1_002))[5].value == 30_603 * RAY // 10_000


@pytest.mark.parametrize(("system", "seconds"), [(FIXED, 500), (OPEN_DOLLAR, 2)])
def test_the_other_houses_go_by_their_parameters_as_they_are(system: int, seconds: int) -> None:
    """A fixed discount does not move; Open Dollar's is 0.95 x 0.999^2 = 0.948100950, before the division by 3."""
    book, auctions = booked(1_600, liquidation_system=system), DiscountAuctions()
    lot = auctions.lots[_start(book, auctions)]
    expected = {FIXED: 1_600 * WAD // 3 * 95 // 100, OPEN_DOLLAR: 1_600 * 948_100_950 * 10**9 // 3}[system]
    assert price_now(book, lot, 1_000 + seconds) == expected


def test_english_auctions_are_refused_by_name() -> None:
    book = booked(1_600, liquidation_system=ENGLISH)
    (found,) = DiscountAuctions().opportunities(book, ALICE, KEEPER, receive_collateral_token=False)
    assert found == Refusal("auctions of GEB EnglishCollateralAuctionHouse are not modelled")


def test_the_limit_counts_what_is_open() -> None:
    """Of 5,000 at once, 4,400 are open: 600 are left, 600 / 1.1 = 545.45 of debt."""
    book, auctions = booked(1_600, box=5_000 * WAD), DiscountAuctions()
    _start(book, auctions)
    book.apply(_moved(KEEPER, COLLATERAL, "collateral", 10 * WAD))
    book.apply(_moved(KEEPER, COIN, "debt", 4_000 * WAD))
    made = GEB.quote(book.state, Order(KEEPER, PAIR, ALICE), book.prices, book.now)
    assert isinstance(made, Fill)
    assert made.repaid == 600 * WAD * 10 // 11


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"liquidation_ratio": 14 * RAY // 10, "safety_ratio": 135 * RAY // 100}, "safety ratio below"),
        ({"min_discount": 90 * WAD // 100, "max_discount": 95 * WAD // 100}, "0 < max_discount <= min_discount"),
        ({"min_discount": WAD + 1}, "0 < max_discount <= min_discount"),
        ({"max_discount": 0}, "0 < max_discount <= min_discount"),
        ({"liquidation_system": 20}, "no such auction house"),
        ({"liquidation_system": ENGLISH}, "no such auction house"),
    ],
)
def test_what_the_contracts_refuse(values: dict[str, int], said: str) -> None:
    assert said in (fault(values) or "")
    assert fault(PARAMS) is None


def test_prices_that_are_missing() -> None:
    book, auctions = booked(1_600), DiscountAuctions()
    lot = auctions.lots[_start(book, auctions)]
    prices = Prices({COLLATERAL: 1_600 * RAY}, {}, {})
    assert GEB.pairs(book.state, ALICE, Prices({}, {}, {}), book.now) == []
    assert GEB.safe_prices(book.state, ALICE, COLLATERAL, prices, book.now) is None
    del book.oracle[COLLATERAL]
    assert price_now(book, lot, 1_000) == 0
