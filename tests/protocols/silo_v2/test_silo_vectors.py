"""The rules by hand, from PartialLiquidationLib.sol, SiloMathLib.sol, SiloSolvencyLib.sol, SiloLendingLib.sol and
InterestRateModelV2.sol at 340a49b8. An amount of ether is worth 2,000 USDC a unit unless a test says otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import pytest

from backtest.errors import RulesError
from backtest.model import HistoricalLiquidation, SettingChange
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.protocols.silo_v2 import SILO_V2
from backtest.protocols.silo_v2.irm import (
    CAP,
    Charge,
    Gains,
    binary_roots,
    compound,
    current_down,
    cut,
    exp2_down,
    exp_down,
)
from backtest.protocols.silo_v2.math import (
    INFINITE,
    Backed,
    SharePool,
    fees_down,
    fraction_down,
    interest_down,
    least_repay_up,
    liquidation_down,
    ltv_up,
    max_liquidation_down,
    max_repay_down,
    split,
    taken_down,
    utilisation_down,
)
from backtest.protocols.silo_v2.state import Silo
from backtest.units import WAD
from tests.protocols.silo_v2.hand import (
    ALICE,
    BOB,
    E6,
    E18,
    KEEPER,
    KEPT_USDC,
    KEPT_WETH,
    LENDER,
    NOW,
    PAIR,
    PERCENT,
    START,
    STEEP,
    USDC,
    WETH,
    acted,
    at,
    book,
    later,
    liquidate,
    moved,
    opened,
    param,
    place,
    quoted,
)

LENT, OWED = SharePool(30, 20_000), SharePool(30, 20, debt=True)


@pytest.mark.parametrize(
    ("rule", "argument", "expected"),
    [
        (SharePool(0, 0).shares_down, 7, 7_000),  # 7 x (0 + 1000) / (0 + 1)
        (SharePool(5, 0).shares_down, 7, 7_000),  # what is left where nobody has a share counts for nobody
        (LENT.shares_down, 10, 6_774),  # 10 x 21,000 / 31 = 6,774.19
        (LENT.shares_up, 10, 6_775),
        (LENT.assets_down, 6_774, 9),  # 6,774 x 31 / 21,000 = 9.9997
        (LENT.assets_up, 6_774, 10),
        (SharePool(0, 0, debt=True).shares_up, 7, 7),  # nothing yet: a share is a unit
        (SharePool(0, 0, debt=True).assets_up, 7, 7),
        (OWED.shares_down, 10, 6),  # 10 x 20 / 30 = 6.67
        (OWED.shares_up, 10, 7),
        (OWED.assets_down, 7, 10),  # 7 x 30 / 20 = 10.5
        (OWED.assets_up, 7, 11),
    ],
    ids=[
        "empty",
        "dust",
        "lent-down",
        "lent-up",
        "worth-down",
        "worth-up",
        "first-debt",
        "first-worth",
        "debt-down",
        "debt-up",
        "owed-down",
        "owed-up",
    ],
)
def test_shares(rule: Any, argument: int, expected: int) -> None:
    assert rule(argument) == expected


@pytest.mark.parametrize(
    ("rule", "arguments", "expected"),
    [
        (ltv_up, (1_700, 2_000), 85 * PERCENT),
        (ltv_up, (1, 3), 333_333_333_333_333_334),
        (ltv_up, (1, 0), INFINITE),
        (ltv_up, (0, 0), 0),
        (utilisation_down, (3, 2), 666_666_666_666_666_666),
        (utilisation_down, (2, 3), WAD),  # at most one
        (utilisation_down, (0, 3), 0),
        (interest_down, (1_999, 10**15), 1),  # 1.999
        (interest_down, (2**200, 2**60), 0),  # would need more than 256 bits
        (fees_down, (1_000, 15 * PERCENT), 150),
        (fees_down, (19, 15 * PERCENT), 2),  # 2.85
        (fraction_down, (7, 3 * 10**17, 0), (0, 10**17)),  # 2.1: a tenth remains
        (fraction_down, (7, 3 * 10**17, 95 * PERCENT), (1, 5 * PERCENT)),  # 0.1 and 0.95
        (fraction_down, (0, 3 * 10**17, 5), (0, 5)),
        (fraction_down, (2**200, 2**60, 5), (0, 0)),
        # Of collateral 2,000 to 80 %, fee 5 %: (1,800 - 1,600) / (1 - 0.8 - 0.04) = 1,250.
        (max_repay_down, (1_800, 2_000, 80 * PERCENT, 5 * PERCENT), 1_250),
        # (1,900 - 1,600) / 0.16 = 1,875 is 98.7 % of 1,900: all.
        (max_repay_down, (1_900, 2_000, 80 * PERCENT, 5 * PERCENT), 1_900),
        # (1,000 - 856) / 0.16 = 900: 90 %, which is not above it.
        (max_repay_down, (1_000, 1_070, 80 * PERCENT, 5 * PERCENT), 900),
        # (1,000 - 855.2) / 0.16 = 905: all.
        (max_repay_down, (1_000, 1_069, 80 * PERCENT, 5 * PERCENT), 1_000),
        (max_repay_down, (1_600, 2_000, 80 * PERCENT, 5 * PERCENT), 0),  # is there already
        (max_repay_down, (2_000, 2_000, 80 * PERCENT, 5 * PERCENT), 2_000),  # 100 %
        (max_repay_down, (1_800, 2_000, 0, 5 * PERCENT), 1_800),  # a target of nothing: all
        (max_repay_down, (1_990, 2_000, 96 * PERCENT, 5 * PERCENT), 1_990),  # 0.96 x 1.05 = 1.008: cannot come down
        (max_repay_down, (1_800, 2_000, 80 * PERCENT, WAD), 0),
        (max_repay_down, (0, 2_000, 80 * PERCENT, 5 * PERCENT), 0),
        (taken_down, (1_250, 2_000, 5 * PERCENT), 1_312),  # 1,250 + 62.5
        (taken_down, (1_950, 2_000, 5 * PERCENT), 2_000),  # 2,047.5
        (split, (10, 4), (6, 4)),
        (split, (4, 10), (0, 4)),
        (split, (0, 10), (0, 0)),
    ],
)
def test_arithmetic(rule: Any, arguments: tuple[int, ...], expected: Any) -> None:
    assert rule(*arguments) == expected


@pytest.mark.parametrize(
    ("worth", "most", "expected"),
    [
        # Collateral 40 worth 2,000, debt 900 worth 1,800: up to 1,250 of value are 625 of debt; 1,312 of value are
        # 26.24 of collateral.
        (Backed(40, 2_000, 900, 1_800), 10**9, (26, 625)),
        # An offer of 100 is worth 200: 210 of collateral's value, 4.2 of it.
        (Backed(40, 2_000, 900, 1_800), 100, (4, 100)),
        # 950 worth 1,900: all of it, whatever is offered; 1,995 of value, 39.9 of collateral.
        (Backed(40, 2_000, 950, 1_900), 100, (39, 950)),
        # 100 %: any part. 100 worth 200, 210 of value.
        (Backed(40, 2_000, 1_000, 2_000), 100, (4, 100)),
        # 125 %: an offer above the debt is the debt; 2,625 of value are cut to all.
        (Backed(40, 2_000, 1_250, 2_500), 10**9, (40, 1_250)),
    ],
)
def test_what_a_call_repays_and_takes(worth: Backed, most: int, expected: tuple[int, int]) -> None:
    assert liquidation_down(worth, most, 80 * PERCENT, 5 * PERCENT) == expected


def test_the_view_is_two_units_short() -> None:
    """26 - 2; a unit of collateral is nothing."""
    assert max_liquidation_down(Backed(40, 2_000, 900, 1_800), 80 * PERCENT, 5 * PERCENT) == (24, 625)
    assert max_liquidation_down(Backed(1, 2_000, 900, 1_900), 80 * PERCENT, 5 * PERCENT) == (0, 900)


def test_the_least_that_takes_all() -> None:
    """2,000 / 1.05 = 1,904.8, up 1,905 of value: 952.5 of a debt of 1,250 worth 2,500, up 953."""
    worth = Backed(40, 2_000, 1_250, 2_500)
    assert least_repay_up(worth, 5 * PERCENT) == 953
    assert liquidation_down(worth, 953, 0, 5 * PERCENT)[0] == 40
    assert liquidation_down(worth, 952, 0, 5 * PERCENT)[0] == 39


# -- interest


def test_divisions_cut_towards_zero() -> None:
    assert [cut(a, b) for a, b in ((7, 2), (-7, 2), (7, -2), (-7, -2))] == [3, -3, -3, 3]


def test_the_exponential() -> None:
    """Its 64 roots of two are those of the library, and it is within three units of the function."""
    roots = binary_roots()
    assert (roots[0], roots[63]) == (0x16A09E667F3BCC908B2FB1366EA957D3E, 0x10000000000000000B17217F7D1CF79AC)
    assert roots[31] == 0x100000000B17217F80F4EF5AADDA45554
    assert (exp_down(0), exp2_down(3 * WAD), exp2_down(-WAD)) == (WAD, 8 * WAD, WAD // 2)
    assert exp_down(-42 * WAD) == 0
    with localcontext() as context:
        context.prec = 60
        for x in (1, 10**9, 86_400 * 10**9, WAD // 3, WAD, 5 * WAD, -WAD // 7):
            exact = (Decimal(x) / WAD).exp() * WAD
            assert abs(exp_down(x) - exact) <= max(3, exact / 10**17)


GAINS = Gains(80 * PERCENT, 90 * PERCENT, 50 * PERCENT, 10**7, 10**11, 10**10, 10**9, 10**13)


@pytest.mark.parametrize(
    ("used", "ri", "t_crit", "seconds", "x", "ri_after", "t_crit_after"),
    [
        # At 85 %: slope 10^7 x 0.05 = 500,000 a second; from 10^9 to 1.5 x 10^9 in 1,000 s: their mean, 1.25 x 10^12.
        # Tcrit falls by 10^13 a second.
        (85, 10**9, 3 * 10**16, 1_000, 1_250_000_000_000, 1_500_000_000, 2 * 10**16),
        # At 95 %: 10^11 x 0.05 = 5 x 10^9 on top; slope 1.5 x 10^6 + 10^11 x 10^13 / 10^18 x 0.05 = 1.55 x 10^6: from
        # 6 x 10^9 to 7.55 x 10^9: 6.775 x 10^12. Tcrit rises.
        (95, 10**9, 0, 1_000, 6_775_000_000_000, 2_500_000_000, 10**16),
        # The same after Tcrit of one half: 7.5 x 10^9 on top, 8.5 to 10.05 x 10^9.
        (95, 10**9, WAD // 2, 1_000, 9_275_000_000_000, 2_500_000_000, WAD // 2 + 10**16),
        # At 10 %: min(0, 10^10 x -0.4) = -4 x 10^9: below klin x 0.1 = 10^8 all the time: 10^8 x 1,000.
        (10, 10**9, 0, 1_000, 100_000_000_000, 100_000_000, 0),
        # At 70 %: slope -10^6, floor 7 x 10^8. From 10^9 to 0, below the floor after a while: 7 x 10^11 +
        # (3 x 10^8)^2 / 10^6 / 2 = 4.5 x 10^10.
        (70, 10**9, 0, 1_000, 745_000_000_000, 700_000_000, 0),
        # At 85 % with nothing before: ri is the floor, 8.5 x 10^8, and rises to 1.35 x 10^9.
        (85, 0, 0, 1_000, 1_100_000_000_000, 1_350_000_000, 0),
    ],
)
def test_the_model(used: int, ri: int, t_crit: int, seconds: int, x: int, ri_after: int, t_crit_after: int) -> None:
    found = compound(GAINS, ri, t_crit, 100 * 10**9, used * 10**9, seconds)
    assert found == Charge(exp_down(x) - WAD, ri_after, t_crit_after)


def test_a_floor_that_is_left_on_the_way() -> None:
    """klow pulls 1.6 x 10^9 below at 34 %: klin 10^9 x 0.34 = 3.4 x 10^8, ri 10^9, r0 -6 x 10^8; uopt 24 % lets it rise
    by 10^6 a second, to 1.4 x 10^9 in 2,000 s: 6.8 x 10^11 + (1.06 x 10^9)^2 / 10^6 / 2 = 5.618 x 10^11."""
    curve = GAINS._replace(uopt=24 * PERCENT)
    found = compound(curve, 10**9, 0, 100 * 10**9, 34 * 10**9, 2_000)
    assert found == Charge(exp_down(680_000_000_000 + 561_800_000_000) - WAD, 3_000_000_000, 0)


def test_a_rate_is_capped_and_starts_anew() -> None:
    """10^14 a second for 100 s is 1 %: above 10,000 % a year, which is 3.17 x 10^12 a second."""
    flat = Gains(80 * PERCENT, 90 * PERCENT, 50 * PERCENT, 0, 0, 0, 0, 0)
    assert compound(flat, 10**14, 5, 100, 85, 100) == Charge(100 * CAP, 0, 0)
    assert compound(flat, 10**12, 5, 100, 85, 100) == Charge(exp_down(10**14) - WAD, 10**12, 5)


def test_an_exponent_beyond_the_library_s_and_assets_beyond_its_limit() -> None:
    flat = Gains(80 * PERCENT, 90 * PERCENT, 50 * PERCENT, 0, 0, 0, 0, 0)
    assert compound(flat, 10**18, 0, 100, 85, 100) == Charge(100 * CAP, 0, 0)  # e^100
    assert compound(flat, 10**12, 7, 2**180, 2**179, 100).rcomp > 0
    assert compound(flat, 10**12, 7, 2**190, 2**189, 100) == Charge(0, 0, 0)


def test_the_current_rate() -> None:
    """At 95 % after 1,000 s: 10^11 x (1 + 0.01) x 0.05 = 5.05 x 10^9, ri 10^9 + 10^7 x 0.15 x 1,000 = 2.5 x 10^9; at
    once at 85 % 10^9."""
    assert current_down(GAINS, 10**9, 0, 100, 95, 1_000) == 7_550_000_000 * 31_536_000
    assert current_down(GAINS, 10**9, 0, 100, 85, 0) == 10**9 * 31_536_000


def test_an_accrual_divides_interest() -> None:
    """10^15 at 10^-4: 10^11, of which 15 % are fees. A debt of 10^13 or more keeps no fractions."""
    silo = Silo(collateral=2 * 10**15, debt=10**15)
    assert silo.charge(10**14, 15 * PERCENT, True) == 10**11
    assert (silo.debt, silo.collateral) == (10**15 + 10**11, 2 * 10**15 + 85 * 10**9)
    assert (silo.interest_left, silo.revenue_left) == (0, 0)


def test_fractions_of_interest_and_of_fees() -> None:
    """1,999 at 10^-3: 1.999. Interest 1, of which fees 0.15: nothing; 0.999 remain, and 0.15 of the fees. Once more:
    1 and 0.999 + 0.999 = one more and 0.998; the fees of two are 0.3, with 0.15 0.45."""
    silo = Silo(collateral=5_000, debt=1_999)
    assert silo.charge(10**15, 15 * PERCENT, True) == 1
    assert (silo.debt, silo.collateral) == (2_000, 5_001)
    assert (silo.interest_left, silo.revenue_left) == (999 * 10**15, 15 * PERCENT)
    silo.debt = 1_999
    assert silo.charge(10**15, 15 * PERCENT, True) == 2
    assert (silo.debt, silo.collateral) == (2_001, 5_003)
    assert (silo.interest_left, silo.revenue_left) == (998 * 10**15, 45 * PERCENT)


def test_no_fractions_before_3_0_0() -> None:
    silo = Silo(collateral=5_000, debt=1_999)
    assert [silo.charge(10**15, 15 * PERCENT, False) for _ in range(2)] == [1, 2]  # the second of 2,000
    assert (silo.interest_left, silo.revenue_left) == (0, 0)


def test_fees_that_have_come_to_a_unit_are_the_lenders_loss() -> None:
    silo = Silo(collateral=5_000, debt=1_000, revenue_left=90 * PERCENT)
    assert silo.charge(10**15, 15 * PERCENT, True) == 1  # its fee 0.15 with 0.9: one
    assert (silo.debt, silo.collateral, silo.revenue_left) == (1_001, 5_000, 5 * PERCENT)


# -- health


def test_equality_is_solvent() -> None:
    """An ether at 2,000 bears 1,600 at 80 %; a unit more is insolvent."""
    for owed, insolvent in ((1_600 * E6, False), (1_600 * E6 + 1, True)):
        state = book(0)
        SILO_V2.apply(state, moved(ALICE, USDC, "debt", owed, "borrow", owed))
        assert bool(SILO_V2.pairs(state, ALICE, at(2_000), NOW)) == insolvent
        health = SILO_V2.view(state, ALICE, at(2_000), NOW).health
        assert health is not None
        assert (health < WAD) == insolvent


def test_health_is_the_threshold_over_the_loan_to_value() -> None:
    """75 %: 0.8 / 0.75; protected collateral counts as lent does."""
    for protected in (0, E18 // 4, E18):
        seen = SILO_V2.view(book(protected=protected), ALICE, at(2_000), NOW)
        assert (seen.collateral_base, seen.debt_base, seen.health) == (2_000 * E6, 1_500 * E6, 80 * WAD // 75)
        assert seen.borrowing_power_base == 1_500 * E6


def test_deposits_of_what_is_owed_do_not_count() -> None:
    state = book(1_650)
    SILO_V2.apply(state, moved(ALICE, USDC, "collateral", 10**12, "supply", 1_000 * E6))
    assert SILO_V2.view(state, ALICE, at(2_000), NOW).collateral_base == 2_000 * E6
    held = {each.asset: each for each in SILO_V2.holdings(state, ALICE, NOW)}
    assert (held[USDC].collateral, held[USDC].debt, held[USDC].collateral_enabled) == (1_000 * E6, 1_650 * E6, False)
    assert held[WETH].collateral_enabled


def test_without_debt_the_better_deposit_says_what_may_be_borrowed() -> None:
    """2,000 at 75 % are 1,500; 1,000 USDC at 75 % are 750."""
    state = book(0)
    SILO_V2.apply(state, moved(ALICE, KEPT_USDC, "collateral", 10**12, "supply", 1_000 * E6))
    seen = SILO_V2.view(state, ALICE, at(2_000), NOW)
    assert (seen.collateral_base, seen.health, seen.borrowing_power_base) == (3_000 * E6, None, 1_500 * E6)


def test_a_debt_in_ether_against_usdc() -> None:
    """The other way round: 1 ether at 2,000 against 2,500 USDC is 80 % of lt 85 %."""
    state = opened(
        moved(LENDER, WETH, "collateral", 10**22, "supply", 10 * E18),
        moved(BOB, KEPT_USDC, "collateral", 25 * 10**11, "supply", 2_500 * E6),
        moved(BOB, WETH, "debt", E18, "borrow", E18),
    )
    assert SILO_V2.view(state, BOB, at(2_000), NOW).health == 85 * WAD // 80
    (pair,) = SILO_V2.pairs(state, BOB, at(2_200), NOW)
    assert (pair.debt_asset, pair.collateral_asset) == (WETH, USDC)


def test_a_debt_backed_by_its_own_token_has_no_price() -> None:
    """900 USDC against 1,000: 90 % of 85 %; a price of ether says nothing."""
    state = opened(
        moved(LENDER, USDC, "collateral", 10**13, "supply", 10**10),
        moved(BOB, KEPT_USDC, "collateral", 10**12, "supply", 1_000 * E6),
        moved(BOB, USDC, "debt", 900 * E6, "borrow", 900 * E6),
        SettingChange(
            **place(), account=BOB, setting="collateral_silo", asset=None, value=1, action="borrow", action_seq=0
        ),
    )
    nothing = replace(at(2_000), oracle={})
    assert SILO_V2.view(state, BOB, nothing, NOW).health == 85 * WAD // 90
    assert SILO_V2.pairs(state, BOB, nothing, NOW)


def test_what_figures_say() -> None:
    told = {each.name: each.value for each in SILO_V2.figures(book(1_650), ALICE, at(2_000), NOW)}
    assert (told["ltv"], told["debt_1"], told["collateral_0"]) == (825 * WAD // 1_000, 1_650 * E6, E18)
    assert told["max_liquidation_debt"] == 943_396_226
    assert told["max_liquidation_collateral"] == 495_283_018_500_000_000 - 2


# -- liquidation


def test_a_partial_liquidation_goes_down_to_the_target() -> None:
    """1,650 of 2,000 is 82.5 %: (1,650 - 1,400) / (1 - 0.7 - 0.035) = 943.396226 (57 %); of ether 943.396226 and
    47.169811 (5 %, cut): 990.566037 / 2,000."""
    state = book(1_650)
    fill = liquidate(state, 2_000)
    assert (fill.repaid, fill.seized) == (943_396_226, 495_283_018_500_000_000)
    after = SILO_V2.view(state, ALICE, at(2_000), NOW)
    assert ltv_up(after.debt_base, after.collateral_base) == pytest.approx(70 * PERCENT, rel=1e-8)


def test_above_ninety_percent_all_is_repaid() -> None:
    """1,900 of 2,000: (1,900 - 1,400) / 0.265 = 1,886.8 is 99 %: all, for 1,995; an offer of less is refused."""
    fill = liquidate(book(1_900), 2_000)
    assert (fill.repaid, fill.seized) == (1_900 * E6, 9_975 * 10**14)
    refused = quoted(book(1_900), 2_000, repay=1_899 * E6)
    assert isinstance(refused, Refusal)
    assert "FullLiquidationRequired" in refused.reason


def test_just_below_a_hundred_percent_the_fee_is_what_is_left() -> None:
    """1,950 x 1.05 = 2,047.5: all the ether."""
    fill = liquidate(book(1_950), 2_000)
    assert (fill.repaid, fill.seized) == (1_950 * E6, E18)


def test_bad_debt_is_repaid_in_any_part_and_stays() -> None:
    """2,100 of 2,000. 1,000 take 1,050; with nothing said the least that takes all: 2,000 / 1.05 = 1,904.761905, up.
    195.238095 stay owed, by whom nobody can liquidate any more."""
    assert (liquidate(book(2_100), 2_000, repay=1_000 * E6).seized) == 525 * 10**15
    state = book(2_100)
    fill = liquidate(state, 2_000)
    assert (fill.repaid, fill.seized, fill.deficits) == (1_904_761_905, E18, ())
    assert state.of(ALICE).owed[1] == 195_238_095
    assert SILO_V2.pairs(state, ALICE, at(2_000), NOW) == ()
    assert SILO_V2.view(state, ALICE, at(2_000), NOW).health == 0
    refused = quoted(state, 2_000)
    assert isinstance(refused, Refusal)
    assert "NoCollateralToLiquidate" in refused.reason


def test_protected_collateral_is_taken_first() -> None:
    """500 are worth 525, 0.2625 ether: 0.25 protected, 0.0125 lent."""
    state = book(1_650, protected=E18 // 4)
    fill = liquidate(state, 2_000, repay=500 * E6)
    assert (fill.repaid, fill.seized) == (500 * E6, 2_625 * 10**14)
    assert (state.of(ALICE).protected[0], state.of(ALICE).lent[0]) == (0, 7_375 * 10**17)
    assert (state.silos[0].protected, state.silos[0].collateral) == (0, 7_375 * 10**14)


def test_share_tokens_instead_of_ether() -> None:
    """Totals stay; the liquidator holds what was taken."""
    state = book(1_650, protected=E18 // 4)
    fill = liquidate(state, 2_000, repay=500 * E6, receive_collateral_token=True)
    assert fill.seized == 2_625 * 10**14
    assert (state.of(KEEPER).protected[0], state.of(KEEPER).lent[0]) == (25 * 10**19, 125 * 10**17)
    assert (state.silos[0].protected, state.silos[0].collateral) == (E18 // 4, 3 * E18 // 4)


def test_ether_that_is_lent_out_cannot_be_redeemed() -> None:
    """0.8 of the lent ether is borrowed: 0.2 is on hand, of 0.4952830185 that a whole call takes. A call for less goes
    through, and so does one for share tokens."""
    state = book(1_650)
    SILO_V2.apply(state, moved(BOB, WETH, "debt", 8 * E18 // 10, "borrow", 8 * E18 // 10))
    refused = quoted(state, 2_000)
    assert isinstance(refused, Refusal)
    assert refused.reason == "NotEnoughLiquidity"
    assert refused.unpaid == (WETH, 295_283_018_500_000_000)
    assert refused.instead is not None
    fill = quoted(state, 2_000, repay=refused.instead)
    assert isinstance(fill, Fill)
    assert 199 * 10**15 < fill.seized <= 200 * 10**15
    assert isinstance(quoted(state, 2_000, receive_collateral_token=True), Fill)


def test_shares_that_redeem_for_nothing_are_given_to_the_liquidator() -> None:
    """Two units of ether for 1,000 shares: alice has 1,000 x 3 / 2,000 = 1.5, cut to one, worth 2 as her debt is. It is
    2,000 / 3 = 666 shares, which redeem for 0.999."""
    state = opened(
        moved(LENDER, USDC, "collateral", 10**13, "supply", 10**10),
        moved(ALICE, WETH, "collateral", 1_000, "supply", 1),
        moved(ALICE, USDC, "debt", 2, "borrow", 2),
    )
    state.silos[0].collateral = 2
    prices = replace(at(2_000), oracle={WETH: 2 * 10**36, USDC: 10**24})
    order = SILO_V2.observed_order(state, _past(repaid=2), prices, NOW)
    assert order.pair == PAIR
    fill = SILO_V2.quote(state, order, prices, NOW)
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.seized) == (2, 0)
    for change in fill.changes:
        SILO_V2.apply(state, change)
    assert (state.of(KEEPER).lent[0], state.of(ALICE).lent[0]) == (666, 334)


def _past(repaid: int, **more: Any) -> HistoricalLiquidation:
    known = {"debt_asset": USDC, "collateral_asset": WETH, "repaid": repaid, "seized": 1, "protocol_fee": 0}
    known |= {"receive_collateral_token": False, **more}
    return HistoricalLiquidation(**place(), account=ALICE, liquidator=KEEPER, **known)  # type: ignore[arg-type]


def test_an_observed_liquidation_offered_what_it_repaid() -> None:
    order = SILO_V2.observed_order(book(), _past(9, receive_collateral_token=True), at(2_000), NOW)
    assert (order.repay, order.receive_collateral_token) == (9, True)
    with pytest.raises(RulesError, match="owes nothing"):
        SILO_V2.observed_order(book(0), _past(9), at(2_000), NOW)


@pytest.mark.parametrize(
    ("state", "usd", "order", "why"),
    [
        (book(), 2_000, {}, "UserIsSolvent"),
        (book(0), 2_000, {}, "UserIsSolvent"),
        (book(1_650), 2_000, {"repay": 0}, "NoDebtToCover"),
        (book(1_650), 0, {}, "UnknownRatio"),
    ],
)
def test_what_is_refused(state: Any, usd: int, order: dict[str, Any], why: str) -> None:
    refused = quoted(state, usd, **order)
    assert isinstance(refused, Refusal)
    assert why in refused.reason


def test_a_call_without_a_price_or_for_another_pair() -> None:
    state, unknown = book(1_650), replace(at(2_000), oracle={USDC: 10**24})
    refused = SILO_V2.quote(state, Order(ALICE, PAIR, KEEPER), unknown, NOW)
    assert isinstance(refused, Refusal)
    assert "no price" in refused.reason
    assert SILO_V2.pairs(state, ALICE, unknown, NOW) == ()
    other = SILO_V2.quote(state, Order(ALICE, Pair(USDC, KEPT_WETH), KEEPER), at(2_000), NOW)
    assert isinstance(other, Refusal)


def test_agreed_amounts() -> None:
    """A mechanism's: 700 for half an ether; an owner who sells early need not be insolvent."""
    own = {"repay": 700 * E6, "seize": E18 // 2, "agreed": True}
    fill = quoted(book(1_650), 2_000, **own)
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.seized) == (700 * E6, E18 // 2)
    assert isinstance(quoted(book(), 2_000, **own), Refusal)
    assert isinstance(quoted(book(), 2_000, **own, early=True), Fill)


def test_a_call_accrues_first() -> None:
    """A day at 10^9 a second is x = 8.64 x 10^-5: with x^2 / 2 = 3.73248 x 10^-9 and x^3 / 6 = 1.074954 x 10^-13 it is
    86,403,732,587,497 of a wad. On 1,650 that is 0.142566 USDC."""
    state = book(1_650, curve=STEEP._replace(ki=0, klow=0, klin=0), ri=10**9)
    rate = state.rate(1, later(86_400).timestamp)
    assert abs(rate.rcomp - 86_403_732_587_497) <= 3
    fill = liquidate(state, 2_000, later(86_400), repay=E6)
    assert fill.repaid == E6
    assert state.silos[1].debt == 1_650_142_566 - E6
    assert state.silos[1].updated == START + 86_400
    assert state.silos[1].done == WAD + rate.rcomp
    # What history charges later for two days, less what this call charged.
    SILO_V2.apply(state, param("accrued", 200 * 10**12, USDC, START + 2 * 86_400))
    left = (WAD + 200 * 10**12) * WAD // (WAD + rate.rcomp) - WAD
    assert state.silos[1].debt == 1_649_142_566 + 1_649_142_566 * left // WAD
    assert state.silos[1].done == WAD


# -- users' calls


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (moved(LENDER, USDC, "collateral", -1, "withdraw", 8_501 * E6), "NotEnoughLiquidity"),
        (moved(BOB, USDC, "collateral", -1, "withdraw", E6), "more shares than there are"),
        (moved(BOB, USDC, "debt", 1, "borrow", 8_501 * E6), "NotEnoughLiquidity"),
        (moved(BOB, USDC, "debt", 1, "borrow", 0), "ReturnZero"),
        (moved(BOB, USDC, "debt", 1, "borrow", E6), "AboveMaxLtv"),  # against nothing
        (moved(ALICE, USDC, "debt", 1, "borrow", 1), "AboveMaxLtv"),  # 1,500 of 2,000 is 75 %
        (moved(ALICE, WETH, "debt", 1, "borrow", 1), "BorrowNotPossible"),
        # 1,500 need 0.9375 of an ether at 80 %.
        (moved(ALICE, WETH, "collateral", -1, "withdraw", 626 * 10**14), "NotSolvent"),
        (moved(BOB, USDC, "debt", -1, "repay", E6), "ReturnZero"),
    ],
)
def test_calls_that_revert(call: Any, why: str) -> None:
    assert why in acted(book(), call)


def test_calls_that_go_through() -> None:
    state = book()
    assert acted(state, moved(ALICE, WETH, "collateral", -1, "withdraw", 624 * 10**14)).amount == 624 * 10**14
    assert acted(state, moved(LENDER, USDC, "collateral", -1, "withdraw", 8_500 * E6)).amount == 8_500 * E6
    assert acted(state, moved(ALICE, USDC, "debt", -1, "repay", 2_000 * E6)).amount == 1_500 * E6  # all that is owed
    assert acted(state, moved(BOB, KEPT_WETH, "collateral", 1, "supply", E18)).changes[-1].delta == 10**21
    seen = acted(state, moved(BOB, USDC, "debt", 1, "borrow", 1_000 * E6)).view
    assert (seen.collateral_base, seen.debt_base) == (2_000 * E6, 1_000 * E6)
    assert state.of(BOB).backed_by == 0


def test_calls_round_against_their_caller() -> None:
    """At 30 units for 20 shares: 10 borrowed are 7 shares, 7 shares repaid 11 units, 10 repaid 6 shares."""
    state = book(ether=10 * E18)
    state.silos[1].debt, state.silos[1].debt_shares = 3_000, 2_000
    assert acted(state, moved(ALICE, USDC, "debt", 99, "borrow", 10)).changes[-1].delta == 7
    state.silos[1].debt, state.silos[1].debt_shares = 3_000, 2_000
    assert acted(state, moved(ALICE, USDC, "debt", -7, "repay", 11)).changes[0].delta == -7
    state.silos[1].debt, state.silos[1].debt_shares = 3_000, 2_000
    assert acted(state, moved(ALICE, USDC, "debt", -9, "repay", 10)).changes[0].delta == -6


def test_an_emptied_balance_is_all_there_is() -> None:
    state = book()
    assert acted(state, moved(ALICE, USDC, "debt", -5, "repay", 5), emptied=frozenset({0})).amount == 1_500 * E6
    assert acted(state, moved(ALICE, WETH, "collateral", -5, "withdraw", 5), emptied=frozenset({0})).amount == E18
    assert not state.of(ALICE).holds


def test_lent_to_protected_and_back() -> None:
    """Half an ether; what is protected cannot be lent. A thousandth too much is refused for who it is not there."""
    state = book()
    way = (
        moved(ALICE, WETH, "collateral", -5 * 10**20, "transfer", E18 // 2),
        moved(ALICE, KEPT_WETH, "collateral", 5 * 10**20, "transfer", E18 // 2),
    )
    assert acted(state, *way).amount == E18 // 2
    assert (state.of(ALICE).lent[0], state.of(ALICE).protected[0]) == (5 * 10**20, 5 * 10**20)
    assert (state.silos[0].collateral, state.silos[0].protected) == (E18 // 2, E18 // 2)
    back = (replace(way[1], delta=-(5 * 10**20)), replace(way[0], delta=5 * 10**20))
    assert acted(state, *back).amount == E18 // 2
    assert state.of(ALICE).protected[0] == 0


def test_transfers_are_checked_for_who_then_bears_the_risk() -> None:
    state = book()
    give = (
        moved(ALICE, WETH, "collateral", -63 * 10**18, "transfer", 63 * 10**15),
        moved(BOB, WETH, "collateral", 63 * 10**18, "transfer", 63 * 10**15),
    )
    assert acted(state, *give) == "NotSolvent"
    owes = (
        moved(ALICE, USDC, "debt", -(10**9), "transfer", 10**9),
        moved(BOB, USDC, "debt", 10**9, "transfer", 10**9),
    )
    assert acted(state, *owes) == "RecipientNotSolventAfterTransfer"
    SILO_V2.apply(state, moved(BOB, KEPT_WETH, "collateral", 10**21, "supply", E18))
    SILO_V2.apply(
        state,
        SettingChange(
            **place(), account=ALICE, setting="collateral_silo", asset=None, value=0, action="borrow", action_seq=0
        ),
    )
    assert acted(state, *owes).view.debt_base == 10**9
    assert (state.of(BOB).owed[1], state.of(BOB).backed_by, state.of(ALICE).owed[1]) == (10**9, 0, 500 * E6)
    assert state.silos[1].debt == 1_500 * E6
    back = tuple(replace(each, account={ALICE: BOB, BOB: ALICE}[each.account]) for each in owes)
    SILO_V2.apply(state, moved(ALICE, WETH, "debt", 1, "borrow", 1))
    assert acted(state, *back) == "DebtExistInOtherSilo"


def test_a_transfer_of_what_backs_nothing_is_not_checked() -> None:
    state = book()
    give = (
        moved(LENDER, USDC, "collateral", -(10**13), "transfer", 10**10),
        moved(ALICE, USDC, "collateral", 10**13, "transfer", 10**10),
    )
    assert acted(state, *give).amount == 10**10
    assert (state.of(ALICE).lent[1], state.silos[1].collateral) == (10**13, 10**10)


def test_another_oracle_for_borrowing_asks_for_solvency_instead() -> None:
    """1,500 and 100 are 80 %: above maxLtv, solvent."""
    state = book()
    SILO_V2.apply(state, param("other_borrow_oracle", 1, WETH))
    assert acted(state, moved(ALICE, USDC, "debt", 1, "borrow", 100 * E6)).amount == 100 * E6
    assert acted(state, moved(ALICE, USDC, "debt", 1, "borrow", E6)) == "AboveMaxLtv"


def test_another_silo_may_back_a_debt_if_it_does() -> None:
    """``switchCollateralToThisSilo``: 1,500 against 2,000 USDC is 75 % of 85 %, against 1,700 it is 88 %."""
    state = book()
    switch = SettingChange(
        **place(), account=ALICE, setting="collateral_silo", asset=None, value=1, action="collateral-flag", action_seq=0
    )
    SILO_V2.apply(state, moved(ALICE, USDC, "collateral", 17 * 10**11, "supply", 1_700 * E6))
    assert acted(state, switch) == "NotSolvent"
    SILO_V2.apply(state, moved(ALICE, USDC, "collateral", 3 * 10**11, "supply", 300 * E6))
    assert acted(state, switch).view.health == 85 * WAD // 75
    assert state.of(ALICE).backing == 1


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"liquidation_threshold": 80 * PERCENT, "ltv": 81 * PERCENT}, "InvalidMaxLtv"),
        (
            {"liquidation_threshold": 80 * PERCENT, "liquidation_target_ltv": 81 * PERCENT},
            "LiquidationTargetLtvTooHigh",
        ),
        ({"liquidation_threshold": 80 * PERCENT, "liquidation_bonus": 121 * PERCENT}, "InvalidLt"),
        ({"liquidation_threshold": 80 * PERCENT, "liquidation_bonus": 120 * PERCENT, "ltv": 80 * PERCENT}, None),
        ({}, None),
    ],
)
def test_what_the_factory_would_refuse(values: dict[str, int], why: str | None) -> None:
    found = SILO_V2.fault(values)
    assert (found is None) if why is None else (found is not None and why in found)


def test_what_a_book_does_not_know_is_said() -> None:
    state = book()
    with pytest.raises(RulesError, match="name the token"):
        SILO_V2.apply(state, param("ltv", 1, KEPT_WETH))
    with pytest.raises(RulesError, match="unknown parameter 'x'"):
        SILO_V2.apply(state, param("x", 1, WETH))
    with pytest.raises(RulesError, match="would hold -1"):
        SILO_V2.apply(state, moved(BOB, WETH, "collateral", -1, "withdraw", 1))
