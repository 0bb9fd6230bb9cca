"""Maker's arithmetic, seizures and auctions against numbers worked out by hand from the reference."""

from __future__ import annotations

from backtest.auctions.dutch import EXPONENTIAL, LINEAR, STAIRSTEP, Bounds, Curve
from backtest.auctions.english import EnglishAuction
from backtest.protocols.maker.clip import Bought, chost_down, incentive_down, redo_incentive_down, take
from backtest.protocols.maker.params import CAT_1_0, CAT_1_1, DOG_2_0
from backtest.protocols.maker.rules import feed_down, seizure, spot_down
from backtest.protocols.vaults.math import RAD, per_second, rdiv_down, rmul_down, wmul_down
from backtest.protocols.vaults.rules import AuctionLimits, Seizure, is_unsafe, part
from backtest.units import RAY, WAD, rpow_half_up

CHOP = 113 * WAD // 100


def test_multiplications_and_divisions_round_down() -> None:
    assert (rmul_down(7, RAY // 2), wmul_down(7, WAD // 2), rdiv_down(2, 3)) == (
        3,
        3,
        666_666_666_666_666_666_666_666_666,
    )


def test_powers_round_each_multiplication_to_nearest_halves_up() -> None:
    assert rpow_half_up(11 * RAY // 10, 2) == 121 * RAY // 100
    assert rpow_half_up(11 * RAY // 10, 5) == 161_051 * RAY // 100_000
    assert rpow_half_up(5 * 10**13, 2) == 3  # 25e26 / 1e27 = 2.5
    assert rpow_half_up(RAY + 1, 2) == RAY + 2
    assert [rpow_half_up(9 * RAY, n) for n in (0, 1)] == [RAY, 9 * RAY]
    assert [rpow_half_up(0, n) for n in (0, 1)] == [RAY, 0]


def test_a_fee_of_a_second_compounds_to_the_yearly_one() -> None:
    """Governance files 1000000001847694957439350562 for 6 % a year."""
    duty = per_second(6 * RAY // 100)
    assert 0 <= duty - 1_000_000_001_847_694_957_439_350_562 <= 1
    assert abs(rpow_half_up(duty, 31_536_000) - 106 * RAY // 100) < 10**11


def test_spot_is_price_over_par_over_ratio() -> None:
    assert spot_down(1_300 * WAD, RAY, 13 * RAY // 10) == 1_000 * RAY
    assert spot_down(1_000 * WAD, RAY, 13 * RAY // 10) == 769_230_769_230_769_230_769_230_769_230
    assert feed_down(1_000 * WAD, 2 * RAY) == 500 * RAY


def test_unsafe_is_below_not_at() -> None:
    assert not is_unsafe(10 * WAD, 10_000 * WAD, RAY, 1_000 * RAY)
    assert is_unsafe(10 * WAD, 10_000 * WAD, RAY + 1, 1_000 * RAY)
    assert not is_unsafe(10 * WAD, 10_000 * WAD, RAY, 0)


# -- what a liquidation takes
# --------------------------------------------------------------------------------------------


def test_cat_1_0_takes_a_lump_of_collateral_and_its_share_of_the_debt() -> None:
    limits = AuctionLimits(CHOP, lump=50 * WAD)
    assert seizure(CAT_1_0, 120 * WAD, 12_000 * WAD, RAY, limits) == Seizure(
        50 * WAD, 5_000 * WAD, 5_000 * RAD, 5_650 * RAD
    )
    assert seizure(CAT_1_0, 20 * WAD, 2_000 * WAD, RAY, limits) == Seizure(
        20 * WAD, 2_000 * WAD, 2_000 * RAD, 2_260 * RAD
    )
    assert seizure(CAT_1_0, 0, WAD, RAY, limits) == "no collateral"


def test_cat_1_1_takes_debt_for_dunk_with_penalty() -> None:
    """50,000 / 1.13 = 44,247.787610619469026548...; its share of 100 collateral is 44.247...; a rate of 1.25 makes it
    35,398.23... of art.
    """
    limits = AuctionLimits(CHOP, dust=100 * RAD, dunk=50_000 * RAD, room=1_000_000 * RAD)
    dart = 44_247_787_610_619_469_026_548
    assert seizure(CAT_1_1, 100 * WAD, 100_000 * WAD, RAY, limits) == Seizure(
        44_247_787_610_619_469_026, dart, dart * RAY, dart * RAY * 113 // 100
    )
    found = seizure(CAT_1_1, 100 * WAD, 100_000 * WAD, 125 * RAY // 100, limits)
    assert isinstance(found, Seizure)
    assert found.dart == 35_398_230_088_495_575_221_238
    assert seizure(CAT_1_1, 9 * WAD, 9_000 * WAD, RAY, limits) == Seizure(
        9 * WAD, 9_000 * WAD, 9_000 * RAD, 10_170 * RAD
    )


def test_the_box_of_cat_1_1() -> None:
    """60,000 less 30,000 under auction leaves 30,000: 26,548.67... of debt; below dust there is no room."""
    found = seizure(CAT_1_1, 100 * WAD, 100_000 * WAD, RAY, AuctionLimits(CHOP, dunk=50_000 * RAD, room=30_000 * RAD))
    assert isinstance(found, Seizure)
    assert found.dart == 26_548_672_566_371_681_415_929
    for room in (0, -1, 99 * RAD):
        assert (
            seizure(CAT_1_1, WAD, WAD, RAY, AuctionLimits(CHOP, dust=100 * RAD, dunk=RAD, room=room))
            == "liquidation limit hit"
        )
    assert seizure(CAT_1_1, 0, WAD, RAY, AuctionLimits(CHOP, dunk=RAD)) == "null auction"


def test_the_dog_takes_all_that_the_hole_has_room_for() -> None:
    whole = Seizure(10 * WAD, 100_000 * WAD, 100_000 * RAD, 113_000 * RAD)
    for room in (None, 113_000 * RAD, 500_000 * RAD):
        assert (
            seizure(DOG_2_0, 10 * WAD, 100_000 * WAD, RAY, AuctionLimits(CHOP, dust=15_000 * RAD, room=room)) == whole
        )
    found = seizure(DOG_2_0, 10 * WAD, 100_000 * WAD, RAY, AuctionLimits(CHOP, dust=15_000 * RAD, room=50_000 * RAD))
    assert isinstance(found, Seizure)
    assert (found.dart, found.dink) == (44_247_787_610_619_469_026_548, 4_424_778_761_061_946_902)


def test_the_dog_takes_all_where_the_rest_would_be_dust() -> None:
    """Room for 100,000 is 88,495.57 of debt, the rest of 11,504.42 is below 15,000: all, above the room."""
    found = seizure(DOG_2_0, 10 * WAD, 100_000 * WAD, RAY, AuctionLimits(CHOP, dust=15_000 * RAD, room=100_000 * RAD))
    assert found == Seizure(10 * WAD, 100_000 * WAD, 100_000 * RAD, 113_000 * RAD)


def test_what_the_dog_refuses() -> None:
    def bark(room: int, ink: int = 10 * WAD) -> Seizure | str:
        return seizure(DOG_2_0, ink, 100_000 * WAD, RAY, AuctionLimits(CHOP, dust=15_000 * RAD, room=room))

    assert bark(0) == "liquidation limit hit"
    assert bark(10_000 * RAD) == "dusty auction from partial liquidation"
    assert bark(200_000 * RAD, ink=0) == "null auction"


def test_a_part_of_a_vault_gives_its_share_of_collateral() -> None:
    assert part(9 * WAD, 6_000 * WAD, 2 * RAY, CHOP, 2_000 * WAD) == Seizure(
        3 * WAD, 2_000 * WAD, 4_000 * RAD, 4_520 * RAD
    )


# -- Dutch auctions
# --------------------------------------------------------------------------------------------------------


def test_a_stairstep_reaches_the_market_after_960_seconds_and_halves_in_6930() -> None:
    """buf 1.10, cut 0.997 every 30 s: 1.1 * 0.997 ** n <= 1 from n = 32 on; 0.997 ** 231 < 1/2."""
    curve, top = Curve(STAIRSTEP, 0, 30, 997 * RAY // 1000), 1_100 * RAY
    assert curve.price_down(top, 959) > 1_000 * RAY >= curve.price_down(top, 960)
    assert curve.price_down(top, 6_929) > top // 2 >= curve.price_down(top, 6_930)
    assert curve.price_down(top, 29) == top
    assert curve.price_down(top, 60) == 1_100 * RAY * 994_009 // 1_000_000


def test_the_other_curves() -> None:
    linear = Curve(LINEAR, 3_600, 0, 0)
    prices = [linear.price_down(1_000 * RAY, t) for t in (0, 900, 3_599, 3_600, 9_999)]
    assert prices == [1_000 * RAY, 750 * RAY, 277_777_777_777_777_777_777_777_000, 0, 0]
    assert Curve(EXPONENTIAL, 0, 0, 99 * RAY // 100).price_down(1_000 * RAY, 2) == 9_801 * RAY // 10


def test_an_auction_ends_after_tail_or_below_cusp() -> None:
    bounds = Bounds(8_400, 4 * RAY // 10)
    assert not bounds.is_done(1_000 * RAY, 400 * RAY, 8_400)
    assert bounds.is_done(1_000 * RAY, 400 * RAY, 8_401)
    assert bounds.is_done(1_000 * RAY, 400 * RAY - 1_000, 10)


def test_a_take_never_pays_more_than_the_tab() -> None:
    """20,000 at 3,000: 6.666... of 10."""
    found = take(20_000 * RAD, 10 * WAD, 3_000 * RAY, 10 * WAD, 0)
    assert found == Bought(6_666_666_666_666_666_666, 20_000 * RAD, 0, 3_333_333_333_333_333_334)


def test_a_take_of_everything_may_leave_a_tab() -> None:
    assert take(20_000 * RAD, 10 * WAD, 900 * RAY, 10 * WAD, 16_950 * RAD) == Bought(
        10 * WAD, 9_000 * RAD, 11_000 * RAD, 0
    )


def test_a_partial_take_leaves_chost() -> None:
    """dust 15,000 and penalty 13 %: chost 16,950. 5 at 900 would leave 15,500: it is cut to pay 3,050, for 3.388...
    collateral.
    """
    chost = chost_down(15_000 * RAD, CHOP)
    assert chost == 16_950 * RAD
    assert take(20_000 * RAD, 10 * WAD, 900 * RAY, 5 * WAD, chost) == Bought(
        3_388_888_888_888_888_888, 3_050 * RAD, 16_950 * RAD, 6_611_111_111_111_111_112
    )
    assert take(20_000 * RAD, 10 * WAD, 900 * RAY, 3 * WAD, chost) == Bought(
        3 * WAD, 2_700 * RAD, 17_300 * RAD, 7 * WAD
    )
    assert take(16_950 * RAD, 10 * WAD, 900 * RAY, 5 * WAD, chost) == "no partial purchase"


def test_incentives() -> None:
    """300 DAI and 0.1 % of 113,000; a reset pays nothing where tab or collateral is below chost."""
    assert incentive_down(300 * RAD, WAD // 1_000, 113_000 * RAD) == 413 * RAD
    cases = ((16_950, 1_695), (16_949, 1_695), (16_950, 1_694))
    paid = [redo_incentive_down(300 * RAD, 0, tab * RAD, 10 * WAD, feed * RAY, 16_950 * RAD) for tab, feed in cases]
    assert paid == [300 * RAD, 0, 0]


# -- English auctions
# ------------------------------------------------------------------------------------------------------

BEG = 105 * WAD // 100


def test_bids_rise_by_beg_up_to_the_tab() -> None:
    flip = EnglishAuction(1_000 * RAD, 10 * WAD, end=7_200)
    assert flip.tend_refused(1, BEG, 0) is None  # any first bid, however low
    flip = flip.with_bid(100 * RAD, 10 * WAD, ttl=3_600, now=10)
    assert flip.tend_refused(105 * RAD - 1, BEG, 20) == "insufficient increase"
    assert flip.tend_refused(105 * RAD, BEG, 20) is None
    assert flip.tend_refused(1_001 * RAD, BEG, 20) == "higher than tab"
    assert flip.tend_refused(100 * RAD, BEG, 20) == "bid not higher"
    flip = flip.with_bid(990 * RAD, 10 * WAD, 3_600, 20)
    assert flip.tend_refused(1_000 * RAD, BEG, 30) is None  # the tab itself needs no step
    assert flip.dent_refused(5 * WAD, BEG, 30) == "tend not finished"


def test_then_the_lot_falls_by_beg() -> None:
    flip = EnglishAuction(1_000 * RAD, 105 * WAD // 10, end=7_200).with_bid(1_000 * RAD, 105 * WAD // 10, 3_600, 10)
    assert flip.dent_refused(10 * WAD, BEG, 20) is None
    assert flip.dent_refused(10 * WAD + 1, BEG, 20) == "insufficient decrease"
    assert flip.dent_refused(105 * WAD // 10, BEG, 20) == "lot not lower"


def test_a_bid_wins_after_ttl_or_at_the_end_and_a_lot_without_bids_starts_again() -> None:
    flip = EnglishAuction(1_000 * RAD, WAD, end=7_200)
    assert (flip.is_won(9_999), flip.is_abandoned(7_200), flip.is_abandoned(7_201)) == (False, False, True)
    assert flip.restarted(7_200, 8_000).end == 15_200
    bid = flip.with_bid(RAD, WAD, 3_600, 100)
    assert [bid.is_won(t) for t in (3_700, 3_701)] == [False, True]
    assert [bid.tend_refused(2 * RAD, BEG, t) for t in (3_699, 3_700)] == [None, "already finished"]
    late = flip.with_bid(RAD, WAD, 3_600, 7_100)
    assert [late.is_won(t) for t in (7_200, 7_201)] == [False, True]
    assert not late.is_abandoned(20_000)
