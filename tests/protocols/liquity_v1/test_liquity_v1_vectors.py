"""Liquity V1 by vectors: numbers worked by hand from liquity/dev at 5174ecd0, the arithmetic beside them."""

from __future__ import annotations

import pytest

from backtest.model import ParamChange
from backtest.protocols.interface import Acted, LinearExposure, Order, Refusal
from backtest.protocols.liquity_v1 import LIQUITY_V1
from backtest.protocols.liquity_v1.account import exposure, safe_prices
from backtest.protocols.liquity_v1.actions import valid
from backtest.protocols.liquity_v1.liquidation import PAIR
from backtest.protocols.liquity_v1.math import (
    borrowing_fee_down,
    compounded_down,
    decayed,
    gain_down,
    loss_up,
    nominal_ratio_down,
    per_unit_down,
    power_half_up,
    ratio_down,
    stake_down,
)
from tests.protocols.liquity_v1.hand import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    E18,
    ETH,
    LUSD,
    NOW,
    PLACE,
    POOL,
    acted,
    liquidate,
    moved,
    opened,
    opens,
    prices,
    puts,
    quoted,
    refusal,
)

RICH = opens(BOB, 100 * E18, 20_000 * E18)
"""100 ether: keeps the system far from recovery mode at a thousand dollars."""
POOR = opens(ALICE, 2 * E18, 2_000 * E18)
"""2 ether against 2,000 LUSD: below 110 % under 1,100 dollars."""


# -- LiquityMath -------------------------------------------------------------------------------------------------------


def test_a_ratio_is_cut() -> None:
    """3 x 1000 / 7 = 428.57..., in wad 428571428571428571428 of a unit of 1e18."""
    assert ratio_down(3 * E18, 7 * E18, 1_000 * E18) == 428_571_428_571_428_571_428


def test_no_debt_is_the_greatest_ratio() -> None:
    assert ratio_down(1, 0, E18) == 2**256 - 1


def test_the_nominal_ratio_has_twenty_digits() -> None:
    assert nominal_ratio_down(2 * E18, 2_000 * E18) == 10**20 // 1_000


def test_a_base_rate_halves_in_twelve_hours() -> None:
    """0.999037758833783^720 by squaring, each product to nearest: 0.5 to fifteen digits, and never exactly."""
    assert abs(power_half_up(999_037_758_833_783_000, 720) - E18 // 2) < 10**6
    assert abs(decayed(4 * E18 // 100, 720) - 2 * E18 // 100) < 10**5


def test_powers_of_small_exponents() -> None:
    """One: itself. Two: 0.998076443575628... = (0.999037758833783)^2 = 0.99807644357..., to nearest. None: one."""
    base = 999_037_758_833_783_000
    assert power_half_up(base, 0) == E18
    assert power_half_up(base, 1) == base
    assert power_half_up(base, 2) == (base * base + E18 // 2) // E18
    assert power_half_up(base, 3) == ((base * base + E18 // 2) // E18 * base + E18 // 2) // E18


def test_a_millennium_is_the_longest_time() -> None:
    assert power_half_up(999_037_758_833_783_000, 10**12) == power_half_up(999_037_758_833_783_000, 525_600_000)


@pytest.mark.parametrize(
    ("rate", "fee"),
    [(0, 5), (E18 // 100, 15), (45 * E18 // 1_000, 50), (E18, 50)],
    ids=["floor", "above", "cap", "far"],
)
def test_the_borrowing_fee_is_half_a_percent_and_the_base_rate_up_to_five(rate: int, fee: int) -> None:
    """Of 1,000 LUSD: 0.5 % is 5; with 1 % more 15; 4.5 % reach the cap of 5 %."""
    assert borrowing_fee_down(1_000 * E18, rate) == fee * E18


# -- stakes and redistribution -----------------------------------------------------------------------------------------


def test_a_stake_is_the_collateral_before_any_liquidation_and_a_share_after() -> None:
    """90 staked stand for 95: 10 ether are 10 x 90 / 95 = 9.473684210526315789 staked."""
    assert stake_down(10 * E18, 0, 0) == 10 * E18
    assert stake_down(10 * E18, 90 * E18, 95 * E18) == 9_473_684_210_526_315_789


def test_what_a_division_leaves_is_given_out_next_time() -> None:
    """10 units over 3: 3.33 each and a third left, which makes the next 11 x 1e18 / 3."""
    assert per_unit_down(10, 0, 3) == (3_333_333_333_333_333_333, 1)
    assert per_unit_down(10, 1, 3) == (3_333_333_333_333_333_333, 2)
    assert per_unit_down(10, 2, 3) == (3_333_333_333_333_333_334, 0)


def test_without_a_pool_the_other_troves_take_over() -> None:
    """At 1,050 alice is at 105 %. 2 / 200 = 0.01 ether to the caller; 1.99 and 2,000 over 100 staked: 0.0199 and 20."""
    state = opened(RICH, POOR)
    fill = liquidate(state, ALICE, 1_050 * E18)
    assert (fill.repaid, fill.seized, fill.protocol_fee) == (2_000 * E18, E18 // 100, 199 * E18 // 100)
    assert (fill.paid, fill.reward, fill.deficits) == (0, 200 * E18, ())
    assert (state.coll_sum, state.debt_sum) == (199 * E18 // 10_000, 20 * E18)
    assert state.entire(state.trove(BOB)) == (10_199 * E18 // 100, 22_000 * E18)
    assert state.trove(BOB).debt == 20_000 * E18
    assert (state.default_coll, state.default_debt) == (199 * E18 // 100, 2_000 * E18)


def test_snapshots_leave_the_callers_collateral_out() -> None:
    """100 staked stand for 100 + 1.99. A trove of 10 then has 10 x 100 / 101.99 = 9.804882831650161780 staked."""
    state = opened(RICH, POOR)
    liquidate(state, ALICE, 1_050 * E18)
    assert (state.stakes_then, state.colls_then) == (100 * E18, 10_199 * E18 // 100)
    for change in opens(CAROL, 10 * E18, 3_000 * E18):
        LIQUITY_V1.apply(state, change)
    assert state.trove(CAROL).stake == 9_804_882_831_650_161_780
    assert state.pending(state.trove(CAROL)) == (0, 0)


def test_troves_share_by_their_stakes() -> None:
    """300 staked: 1.99 / 300 = 0.006633333333333333 each; 100 staked get 0.6633333333333333, 200 twice that."""
    state = opened(RICH, opens(CAROL, 200 * E18, 20_000 * E18), POOR)
    liquidate(state, ALICE, 1_050 * E18)
    assert state.pending(state.trove(BOB)) == (663_333_333_333_333_300, 666_666_666_666_666_666_600)
    assert state.pending(state.trove(CAROL)) == (1_326_666_666_666_666_600, 1_333_333_333_333_333_333_200)
    assert state.coll_error == 199 * 10**16 * E18 - 6_633_333_333_333_333 * 300 * E18


# -- the stability pool ------------------------------------------------------------------------------------------------


def test_a_pool_that_has_enough_pays_all() -> None:
    """10,000 deposited; 2,000 lost: each loses 0.2 and one unit more, so that P = 0.799999999999999999."""
    state = opened(RICH, POOR, puts(CAROL, 10_000 * E18))
    fill = liquidate(state, ALICE, 1_050 * E18)
    assert (fill.seized, fill.protocol_fee) == (E18 // 100, 199 * E18 // 100)
    assert (state.product, state.pool_deposits, state.pool_coll) == (8 * E18 // 10 - 1, 8_000 * E18, 199 * E18 // 100)
    assert state.deposit_of(state.deposits[CAROL]) == 8_000 * E18 - 10_000
    assert state.gain_of(state.deposits[CAROL]) == 199 * E18 // 100
    assert (state.coll_sum, state.debt_sum) == (0, 0)


def test_too_much_loss_is_made_good_next_time() -> None:
    """The first loss took 1 x 10,000e18 too much, of a wad; the second begins with that: (1,000e36 - 1e22) / 8,000e18 =
    0.125 - 1.25 of a unit, cut to ...998, and one: 0.124999999999999999.
    """
    assert loss_up(2_000 * E18, 0, 10_000 * E18) == (2 * E18 // 10 + 1, 10**22)
    assert loss_up(1_000 * E18, 10**22, 8_000 * E18)[0] == 125 * E18 // 1_000 - 1


def test_a_pool_that_has_less_pays_that_and_the_rest_is_shared() -> None:
    """500 of 2,000: a quarter of 1.99 to the pool, cut: 0.4975; 1,500 and 1.4925 to the troves; the pool is empty."""
    state = opened(RICH, POOR, puts(CAROL, 500 * E18))
    liquidate(state, ALICE, 1_050 * E18)
    assert (state.pool_deposits, state.epoch, state.scale, state.product) == (0, 1, 0, E18)
    assert state.pool_coll == 4_975 * E18 // 10_000
    assert (state.default_coll, state.default_debt) == (14_925 * E18 // 10_000, 1_500 * E18)
    assert state.deposit_of(state.deposits[CAROL]) == 0
    assert state.gain_of(state.deposits[CAROL]) == 4_975 * E18 // 10_000


def test_the_product_is_scaled_up_before_it_loses_its_digits() -> None:
    """2,000 of 2,000.000001 lost: 5e-10 are left, below 1e-9: P = 5e8 less one, times 1e9, and the scale is one."""
    state = opened(RICH, POOR, puts(CAROL, 2_000 * E18 + 10**12))
    liquidate(state, ALICE, 1_050 * E18)
    factor = E18 - (2_000 * E18 * E18 // (2_000 * E18 + 10**12) + 1)
    assert factor < 10**9
    assert (state.scale, state.product) == (1, factor * 10**9)


def test_deposits_over_scales() -> None:
    """One scale later a billionth of the product counts; two scales later, or below a billionth, nothing is left."""
    assert compounded_down(100 * E18, E18 // 2, E18, 0) == 50 * E18
    assert compounded_down(100 * E18, E18 // 2, E18 // 10**6, 1) == 100 * E18 * 10**6 // 2 // 10**9
    assert compounded_down(100 * E18, E18, 1, 2) == 0
    assert compounded_down(10**9, E18 // 10**9 - 1, E18, 0) == 0
    assert compounded_down(10**9, E18 // 10**9, E18, 0) == 1


def test_gains_of_the_next_scale_count_a_billionth() -> None:
    """100 x (3e36 + 5e45 / 1e9) / 1e18 / 1e18 = 100 x 8 = 800."""
    assert gain_down(100, 3 * E18 * E18, 5 * E18 * E18 * 10**9, E18) == 800


# -- recovery mode -----------------------------------------------------------------------------------------------------


def test_recovery_mode_is_below_one_and_a_half_of_all() -> None:
    """102 ether against 22,000: 150 % at 22,000 x 1.5 / 102 = 323.529411764705882352.9..."""
    state = opened(RICH, POOR)
    assert not state.recovers(323_529_411_764_705_882_353)
    assert state.recovers(323_529_411_764_705_882_352)


def test_at_or_below_its_debt_a_trove_is_shared_whole_in_recovery_mode() -> None:
    """At 320 alice has 640 against 2,000: 32 %. The pool has enough and pays nothing."""
    state = opened(RICH, POOR, puts(CAROL, 10_000 * E18))
    liquidate(state, ALICE, 320 * E18)
    assert (state.pool_deposits, state.default_debt) == (10_000 * E18, 2_000 * E18)


def test_in_normal_mode_the_pool_pays_for_a_trove_under_water() -> None:
    """At 900 alice is at 90 %, the system at 417 %: the pool loses 2,000 for 1.99 x 900 = 1,791 dollars."""
    state = opened(RICH, POOR, puts(CAROL, 10_000 * E18))
    liquidate(state, ALICE, 900 * E18)
    assert (state.pool_deposits, state.pool_coll) == (8_000 * E18, 199 * E18 // 100)


WEAK = opens(ALICE, 10 * E18, 10_000 * E18), opens(BOB, 13 * E18, 10_000 * E18)
"""At 1,200: 120 % and 156 %, all together 138 %: recovery mode."""


def test_above_the_least_ratio_a_trove_loses_no_more_than_that_in_recovery_mode() -> None:
    """At 1,200: 10,000 x 1.1 / 1,200 = 9.166666666666666666 ether, of which 0.5 % 0.045833333333333333 to the caller;
    0.833333333333333334 are the owner's.
    """
    state = opened(*WEAK, puts(CAROL, 20_000 * E18))
    fill = liquidate(state, ALICE, 1_200 * E18)
    assert (fill.repaid, fill.seized) == (10_000 * E18, 45_833_333_333_333_333)
    assert fill.protocol_fee == 9_166_666_666_666_666_666 - 45_833_333_333_333_333 == state.pool_coll
    assert state.coll == 13 * E18
    assert state.troves.keys() == {BOB}


def test_the_pool_has_to_have_all_of_such_a_debt() -> None:
    state = opened(*WEAK, puts(CAROL, 10_000 * E18 - 1))
    assert refusal(quoted(state, ALICE, 1_200 * E18)) == "nothing to liquidate"
    assert LIQUITY_V1.pairs(state, ALICE, prices(1_200 * E18), NOW) == ()


def test_who_is_at_the_systems_ratio_or_above_is_left_in_recovery_mode() -> None:
    state = opened(*WEAK, puts(CAROL, 20_000 * E18))
    assert refusal(quoted(state, BOB, 1_200 * E18)) == "nothing to liquidate"


def test_outside_recovery_mode_nobody_above_the_least_ratio_is_liquidated() -> None:
    """At 1,400: 140 % and 182 %, all together 161 %."""
    state = opened(*WEAK, puts(CAROL, 20_000 * E18))
    assert refusal(quoted(state, ALICE, 1_400 * E18)) == "nothing to liquidate"


def test_the_last_trove_stays() -> None:
    assert refusal(quoted(opened(POOR), ALICE, 900 * E18)) == "it is the only trove of the system"


def test_exactly_at_the_least_ratio_a_trove_is_safe() -> None:
    """2 x 1,100 / 2,000 = 1.1."""
    state = opened(RICH, POOR)
    assert refusal(quoted(state, ALICE, 1_100 * E18)) == "nothing to liquidate"
    assert not isinstance(quoted(state, ALICE, 1_100 * E18 - 1), Refusal)
    view = LIQUITY_V1.view(state, ALICE, prices(1_100 * E18), NOW)
    assert (view.collateral_base, view.debt_base, view.health) == (2_200 * E18, 2_000 * E18, E18)
    assert LIQUITY_V1.view(state, ALICE, prices(1_100 * E18 - 1), NOW).health == E18 - 1
    assert safe_prices(state, ALICE, ETH, {}) is not None
    assert safe_prices(state, ALICE, ETH, {}).least_up == 1_100 * E18  # type: ignore[union-attr]


def test_another_share_for_the_caller() -> None:
    """2 % of 2 ether."""
    fill = liquidate(opened(RICH, POOR, gas_share=E18 // 50), ALICE, 1_050 * E18)
    assert fill.seized == 4 * E18 // 100


def test_two_troves_of_one_call_settle_together() -> None:
    """Of history: both closed before the pool pays once, 4,000 of 10,000 in one step, where two calls take two."""
    state = opened(RICH, POOR, opens(DAVE, 2 * E18, 2_000 * E18), puts(CAROL, 10_000 * E18))
    for account, left in ((ALICE, 2), (DAVE, 1)):
        for name, value in (("batch", left), ("batch_mode", 1)):
            LIQUITY_V1.apply(state, ParamChange(**PLACE, name=name, value=value))
        fill = LIQUITY_V1.quote(state, Order(account, PAIR, BOB, 2_000 * E18), prices(1_050 * E18), NOW)
        assert not isinstance(fill, Refusal)
        assert fill.repaid == 2_000 * E18
        for change in fill.changes:
            LIQUITY_V1.apply(state, change)
        assert state.pool_deposits == (10_000 if left == 2 else 6_000) * E18
    assert state.product == 6 * E18 // 10 - 1


# -- users' calls ------------------------------------------------------------------------------------------------------


def test_opening_owes_the_fee_and_the_gas_reserve() -> None:
    """3,000 drawn at a base rate of 1 %: 1.5 % are 45; with 200 for gas 3,245."""
    state = opened(RICH, base_rate=E18 // 100)
    found = acted(
        state, 1_000 * E18, *opens(ALICE, 10 * E18, 0)[1:], moved(ALICE, LUSD, "debt", 1, "open", 3_000 * E18)
    )
    assert isinstance(found, Acted)
    assert {(c.asset, c.delta) for c in found.changes if getattr(c, "action", "") == "open"} == {  # type: ignore[union-attr]
        (ETH, 10 * E18), (LUSD, 3_245 * E18),
    }  # fmt: skip


def test_the_base_rate_decays_by_whole_minutes() -> None:
    """59 seconds: the whole rate of 1 %, 15 of 1,000; 60: 0.999037758833783 of it, 14.99037758833783."""
    for seconds, fee in ((59, 15 * E18), (60, 5 * E18 + 9_990_377_588_337_830_000)):
        state = opened(RICH, POOR, base_rate=E18 // 100)
        found = acted(state, 2_000 * E18, moved(ALICE, LUSD, "debt", 1, "borrow", 1_000 * E18), time=seconds)
        assert isinstance(found, Acted)
        assert found.changes[-1].delta == 1_000 * E18 + fee  # type: ignore[union-attr]


def test_in_recovery_mode_drawing_costs_nothing_and_needs_the_critical_ratio() -> None:
    """At 1,200 all are at 138 %. 20 ether more and 1,000 drawn: 30 x 1,200 / 11,000 = 327 %."""
    state = opened(*WEAK)
    both = moved(ALICE, ETH, "collateral", 1, "supply", 20 * E18), moved(ALICE, LUSD, "debt", 1, "borrow", 1_000 * E18)
    found = acted(state, 1_200 * E18, *both)
    assert isinstance(found, Acted)
    assert found.changes[-1].delta == 1_000 * E18  # type: ignore[union-attr]
    assert "critical ratio" in refusal(acted(state, 1_200 * E18, both[1]))


def test_what_recovery_mode_forbids() -> None:
    """Collateral stays; a ratio that allows it may not fall; nobody closes; repaying and topping up go through."""
    state = opened(*WEAK)
    weak, strong = (10 * E18, 10_000 * E18), (13 * E18, 10_000 * E18)
    assert "withdrawn" in str(valid(state, strong, (12 * E18, 10_000 * E18), 1_200 * E18, recovers=True))
    assert "fall" in str(valid(state, strong, (13 * E18, 10_100 * E18), 1_200 * E18, recovers=True))
    assert valid(state, weak, (10 * E18, 9_000 * E18), 1_200 * E18, recovers=True) is None
    assert valid(state, weak, (11 * E18, 10_000 * E18), 1_200 * E18, recovers=True) is None
    end = moved(BOB, ETH, "collateral", -13 * E18, "close"), moved(BOB, LUSD, "debt", -10_000 * E18, "close")
    assert refusal(acted(state, 1_200 * E18, *end)) == "no trove is closed in recovery mode"


def test_in_normal_mode_the_trove_and_all_together_have_to_stay_up() -> None:
    """At 1,400: alice may owe 14,000 / 1.1; all together 32,200 / 1.5 = 21,466 against 20,000."""
    state = opened(*WEAK)
    before = 10 * E18, 10_000 * E18
    assert (
        valid(state, before, (10 * E18, 12_800 * E18), 1_400 * E18, recovers=False)
        == "the trove would be below the least ratio"
    )
    assert "all troves" in str(valid(state, before, (10 * E18, 11_500 * E18), 1_400 * E18, recovers=False))
    assert valid(state, before, (10 * E18, 11_400 * E18), 1_400 * E18, recovers=False) is None


def test_a_trove_keeps_the_least_net_debt() -> None:
    """2,000 with the 200 of gas: what is repaid below is refused."""
    state = opened(RICH, opens(ALICE, 10 * E18, 2_100 * E18))
    assert isinstance(acted(state, 2_000 * E18, moved(ALICE, LUSD, "debt", -1, "repay", 100 * E18)), Acted)
    assert "least" in refusal(acted(state, 2_000 * E18, moved(ALICE, LUSD, "debt", -1, "repay", 100 * E18 + 1)))


def test_whoever_closes_repays_all_but_the_gas_reserve() -> None:
    state = opened(RICH, POOR)
    end = moved(ALICE, ETH, "collateral", -1, "close"), moved(ALICE, LUSD, "debt", -1, "close")
    found = acted(state, 2_000 * E18, *end)
    assert isinstance(found, Acted)
    assert [(c.delta, c.amount) for c in found.changes[1:]] == [  # type: ignore[union-attr]
        (-2 * E18, 2 * E18), (-2_000 * E18, 1_800 * E18),
    ]  # fmt: skip


def test_nobody_withdraws_a_deposit_while_a_trove_can_be_liquidated() -> None:
    state = opened(RICH, POOR, puts(CAROL, 1_000 * E18))
    call = moved(POOL, LUSD, "collateral", -1, "offset"), moved(CAROL, LUSD, "collateral", -1, "withdraw", 400 * E18)
    assert refusal(acted(state, 1_050 * E18, *call)) == "a trove is below the least ratio: nobody withdraws"
    found = acted(state, 1_100 * E18, *call)
    assert isinstance(found, Acted)
    assert found.changes[-1].delta == -400 * E18  # type: ignore[union-attr]


def test_a_redemption_takes_from_the_lowest_ratio_at_face_value() -> None:
    """At 2,000: alice (200 %) before bob (1,000 %). 1,800 close her trove, two ether; 900 more are 0.45 of his."""
    state = opened(RICH, POOR)
    asked = moved(ALICE, LUSD, "debt", -1, "redemption", 2_700 * E18)
    found = acted(state, 2_000 * E18, asked)
    assert isinstance(found, Acted)
    moves = [(c.account, c.asset, c.delta) for c in found.changes if c.action == "redemption"]  # type: ignore[union-attr]
    assert moves == [
        (ALICE, LUSD, -2_000 * E18), (ALICE, ETH, -2 * E18), (BOB, LUSD, -900 * E18), (BOB, ETH, -45 * E18 // 100),
    ]  # fmt: skip


def test_a_redemption_leaves_troves_below_the_least_ratio_alone() -> None:
    """At 1,050 alice is at 105 %: all 900 come from bob, 900 / 1,050 ether, cut."""
    state = opened(RICH, POOR)
    found = acted(state, 1_050 * E18, moved(ALICE, LUSD, "debt", -1, "redemption", 900 * E18))
    assert isinstance(found, Acted)
    moves = [(c.account, c.delta) for c in found.changes if c.action == "redemption"]  # type: ignore[union-attr]
    assert moves == [(BOB, -900 * E18), (BOB, -857_142_857_142_857_142)]


def test_a_redemption_that_would_leave_less_than_the_least_is_given_up() -> None:
    """1,799 of alice's 1,800 would leave 1 net."""
    state = opened(RICH, POOR)
    found = acted(state, 2_000 * E18, moved(ALICE, LUSD, "debt", -1, "redemption", 1_799 * E18))
    assert refusal(found) == "no trove to redeem from"


def test_pending_rewards_become_a_troves_own_at_its_next_call() -> None:
    """Bob has 1.99 and 2,000 pending; he tops up by one: stake (101.99 + 1) x 100 / 101.99."""
    state = opened(RICH, POOR)
    liquidate(state, ALICE, 1_050 * E18)
    found = acted(state, 1_050 * E18, moved(BOB, ETH, "collateral", 1, "supply", E18))
    assert isinstance(found, Acted)
    for change in found.changes:
        LIQUITY_V1.apply(state, change)
    trove = state.trove(BOB)
    assert (trove.coll, trove.debt) == (10_299 * E18 // 100, 22_000 * E18)
    assert trove.stake == 10_299 * E18 // 100 * 100 * E18 // (10_199 * E18 // 100)
    assert (state.default_coll, state.default_debt, state.pending(trove)) == (0, 0, (0, 0))


# -- the screen, and terms ---------------------------------------------------------------------------------------------


def test_the_screen_looks_at_whoever_recovery_mode_may_reach() -> None:
    """2 x price against 2,000 x 1.5: from 1,500 on nobody has to look."""
    form = exposure(opened(RICH, POOR), ALICE)
    assert isinstance(form, LinearExposure)
    assert form.constant + form.weights[ETH] * 1_500 * E18 == pytest.approx(0)
    assert exposure(opened(RICH), ALICE) is None


def test_terms_that_make_no_sense_are_named() -> None:
    assert LIQUITY_V1.fault({"liquidation_ratio": E18}) is not None
    assert LIQUITY_V1.fault({"liquidation_ratio": 12 * E18 // 10, "critical_ratio": 11 * E18 // 10}) is not None
    assert LIQUITY_V1.fault({"liquidation_ratio": 11 * E18 // 10, "critical_ratio": 15 * E18 // 10}) is None
    terms = LIQUITY_V1.liquidation_terms({"liquidation_ratio": 125 * E18 // 100})
    assert (terms.threshold, terms.bonus) == (8 * E18 // 10, None)


def test_figures_are_those_of_the_contracts() -> None:
    state = opened(RICH, POOR, puts(ALICE, 500 * E18))
    told = {figure.name: figure.value for figure in LIQUITY_V1.figures(state, ALICE, prices(1_050 * E18), NOW)}
    assert (told["debt"], told["coll"], told["stake"]) == (2_000 * E18, 2 * E18, 2 * E18)
    assert told["collateral_ratio"] == 105 * E18 // 100
    assert told["total_collateral_ratio"] == 102 * 1_050 * E18 // 22_000
    assert (told["recovery_mode"], told["compounded_deposit"], told["gain"]) == (0, 500 * E18, 0)


# -- terms of mechanisms that are not Liquity's ------------------------------------------------------------------------


def test_agreed_terms_take_from_the_trove_alone() -> None:
    state = opened(RICH, POOR)
    order = Order(ALICE, PAIR, BOB, repay=500 * E18, seize=E18 // 2, agreed=True)
    fill = LIQUITY_V1.quote(state, order, prices(1_050 * E18), NOW)
    assert not isinstance(fill, Refusal)
    assert (fill.paid, fill.reward) == (500 * E18, 0)
    for change in fill.changes:
        LIQUITY_V1.apply(state, change)
    assert state.entire(state.trove(ALICE)) == (3 * E18 // 2, 1_500 * E18)
    assert (
        refusal(LIQUITY_V1.quote(state, order, prices(1_200 * E18), NOW)) == "the trove is at or above the least ratio"
    )
