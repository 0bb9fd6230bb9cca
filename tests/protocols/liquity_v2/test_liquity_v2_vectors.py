"""Rules of Liquity V2 against numbers worked by hand from liquity/bold at b40fa9b9, the arithmetic beside each."""

from __future__ import annotations

import pytest

from backtest.model import AccountId
from backtest.protocols.interface import Acted, Fill
from backtest.protocols.liquity_v2 import LIQUITY_V2
from backtest.protocols.liquity_v2 import actions as calls
from backtest.protocols.liquity_v2.math import (
    aggregate_up,
    compounded_down,
    gain_down,
    interest_down,
    product_down,
    redeemed_down,
    split_down,
    upfront_fee_down,
    urgent_down,
)
from backtest.protocols.liquity_v2.redemption import redeem, urgent
from backtest.protocols.liquity_v2.state import POINTED, ZOMBIE, BranchState
from backtest.protocols.liquity_v2.touch import minted
from tests.protocols.liquity_v2.hand import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    E18,
    MANAGER,
    START,
    YEAR,
    at,
    branch,
    liquidate,
    make,
    opens,
    prices,
    puts,
    quoted,
    refusal,
    registers,
)

TERMS = E18 // 200, 105 * E18 // 100, 11 * E18 // 10


def two(**changed: int) -> BranchState:
    """Alice has 2 ether and owes 2,000, bob 100 and 20,000, both at 5 %."""
    state = branch(**changed)
    opens(state, BOB, 100, 20_000)
    opens(state, ALICE, 2, 2_000)
    return state


def done(found: object) -> Acted:
    assert isinstance(found, Acted), found
    return found


@pytest.mark.parametrize(
    ("debt", "rate", "period", "is_"),
    [
        (2_000 * E18, E18 // 20, YEAR, 100 * E18),  # 2,000 x 5 %
        (2_000 * E18, E18 // 20, YEAR // 2, 50 * E18),
        (1, E18 // 20, YEAR, 0),  # 0.05 of a unit, cut
        (3, E18, 1, 0),
        (YEAR, E18, 1, 1),
        (2_000 * E18, E18 // 20, 12, 38_051_750_380_517),  # 100e18 x 12 / 31,536,000 = 3.8051750380517503e13
    ],
)
def test_interest_is_simple_and_cut(debt: int, rate: int, period: int, is_: int) -> None:
    assert interest_down(debt, rate, period) == is_


def test_interest_of_all_is_rounded_up() -> None:
    """1e18 x 1 / (31,536,000 x 1e18) is a fraction: 1; exactly a unit stays one."""
    assert aggregate_up(E18, 1) == 1
    assert aggregate_up(E18, YEAR) == 1
    assert aggregate_up(E18 + 1, YEAR) == 2


def test_the_upfront_fee_is_a_week() -> None:
    """36,500 at 5 %: 1,825 a year, 5 a day, 35 a week."""
    assert upfront_fee_down(36_500 * E18, E18 // 20) == 35 * E18


def test_a_pool_that_pays_all_gets_its_penalty_and_the_owner_the_rest() -> None:
    """2 ether, 2,000 of debt at 1,000: 0.01 to the caller; 2,000 x 1.05 / 1,000 = 2.1, above 1.99: all to the pool."""
    assert split_down(2 * E18, 2_000 * E18, 3_000 * E18, 1_000 * E18, *TERMS) == (
        2_000 * E18, 199 * E18 // 100, 0, 0, E18 // 100, 0,
    )  # fmt: skip


def test_what_is_above_the_penalty_is_the_owners() -> None:
    """2.18 ether, 2,000, price 1,000: caller 0.0109, pool 2.1, owner 2.18 - 0.0109 - 2.1 = 0.0691."""
    assert split_down(218 * E18 // 100, 2_000 * E18, 3_000 * E18, 1_000 * E18, *TERMS) == (
        2_000 * E18, 21 * E18 // 10, 0, 0, 109 * E18 // 10_000, 691 * E18 // 10_000,
    )  # fmt: skip


def test_the_callers_part_has_a_cap() -> None:
    """1,000 ether: 0.5 % would be 5, it is 2."""
    assert split_down(1_000 * E18, 950_000 * E18, 10**6 * E18, 1_000 * E18, *TERMS).gas_coll == 2 * E18


def test_without_a_pool_nothing_is_the_callers_and_all_is_shared_up_to_its_penalty() -> None:
    """2.18 ether against 2,000 at 1,000: 2,000 x 1.1 / 1,000 = 2.2, more than there is."""
    assert split_down(218 * E18 // 100, 2_000 * E18, 0, 1_000 * E18, *TERMS) == (
        0, 0, 2_000 * E18, 218 * E18 // 100, 0, 0,
    )  # fmt: skip


def test_a_pool_that_pays_a_half_leaves_its_surplus_to_the_other_troves_first() -> None:
    """2.18 ether, 2,000, pool 1,000: portion 1.09, caller 0.00545, pool 1.05, over 0.03455; the rest 1.09 + 0.03455 =
    1.12455, of which 1,000 x 1.1 / 1,000 = 1.1 is shared, 0.02455 the owner's.
    """
    assert split_down(218 * E18 // 100, 2_000 * E18, 1_000 * E18, 1_000 * E18, *TERMS) == (
        1_000 * E18, 105 * E18 // 100, 1_000 * E18, 11 * E18 // 10, 545 * E18 // 100_000, 2_455 * E18 // 100_000,
    )  # fmt: skip


def test_a_redemption_leaves_its_fee_in_the_trove() -> None:
    """1,000 at 2,000: 0.5 ether, of which 0.5 % stay: 0.0025."""
    assert redeemed_down(1_000 * E18, 2_000 * E18, E18 // 200) == (4_975 * E18 // 10_000, 25 * E18 // 10_000)


def test_an_urgent_redemption_gets_two_percent_more_and_at_most_all() -> None:
    """1,000 at 2,000: 0.51. Of 0.3 ether: 0.3 x 2,000 / 1.02 = 588.2352941176470588 BOLD."""
    assert urgent_down(1_000 * E18, E18, 5_000 * E18, 2_000 * E18) == (1_000 * E18, 51 * E18 // 100)
    assert urgent_down(1_000 * E18, 3 * E18 // 10, 5_000 * E18, 2_000 * E18) == (
        588_235_294_117_647_058_823,
        3 * E18 // 10,
    )


@pytest.mark.parametrize(
    ("debt", "deposits", "is_"),
    [
        (1, 4, (75 * 10**34, 0)),  # three quarters
        (10**9 - 1, 10**9, (10**27, 0)),  # a billionth is still in the scale
        (10**10 - 1, 10**10, (10**35, 1)),  # a tenth of that is not: 1e26 x 1e9
        (10**19 - 1, 10**19, (10**35, 2)),  # 1e17, twice raised
    ],
)
def test_the_product_is_raised_before_it_loses_digits(debt: int, deposits: int, is_: tuple[int, int]) -> None:
    assert product_down(10**36, debt, deposits) == is_


def test_a_deposit_is_what_the_product_left_of_it() -> None:
    """100 x 0.75; a scale later a billionth of that; nine scales later nothing."""
    assert compounded_down(100 * E18, 75 * 10**34, 10**36, 0) == 75 * E18
    assert compounded_down(100 * E18, 75 * 10**34, 10**36, 1) == 75 * 10**9
    assert compounded_down(10**90, 10**36, 10**36, 8) == 10**18
    assert compounded_down(10**90, 10**36, 10**36, 9) == 0


def test_gains_of_later_scales_count_less() -> None:
    """(5e36 + 2e45 / 1e9 + 7e54 / 1e18) x 100 / 1e36 = 14 x 100."""
    assert gain_down(100, (5 * 10**36, 2 * 10**45, 7 * 10**54), 10**36) == 1_400


def test_debt_grows_by_the_rate_and_the_sum_of_all_is_recorded_up() -> None:
    """After half a year 2,000 at 5 % are 2,050 and 20,000 are 20,500; all is 22,550."""
    state = two()
    assert state.latest(state.trove(ALICE), START + YEAR // 2).debt == 2_050 * E18
    assert state.debt(START + YEAR // 2) == 22_550 * E18


def test_a_batch_shares_interest_and_fee_by_shares() -> None:
    """4,000 and 6,000 at 5 % and 1 %: a year later 4,240 and 6,360; recorded are 10,000, and 100 of fees to come."""
    state = branch()
    registers(state, MANAGER)
    opens(state, ALICE, 10, 4_000, batch=MANAGER)
    opens(state, BOB, 10, 6_000, batch=MANAGER)
    assert [state.latest(state.trove(who), START + YEAR).debt for who in (ALICE, BOB)] == [4_240 * E18, 6_360 * E18]
    assert (state.recorded, state.pending_fees(START + YEAR)) == (10_000 * E18, 100 * E18)
    assert state.debt(START + YEAR) == 10_600 * E18


def test_who_joins_later_gets_fewer_shares() -> None:
    """The batch owes 10,600 for 10,000 shares: 5,300 more are 5,000 shares."""
    state = branch()
    registers(state, MANAGER)
    opens(state, ALICE, 10, 10_000, batch=MANAGER)
    opens(state, BOB, 10, 5_300, batch=MANAGER, time=YEAR)
    assert (state.trove(BOB).shares, state.batches[MANAGER].shares) == (5_000 * E18, 15_000 * E18)
    assert state.batches[MANAGER].debt == 15_900 * E18
    assert state.fees == 0


def test_a_liquidation_is_paid_by_the_pool_but_for_the_bold_that_stays() -> None:
    """Pool 1,001: 1,000 of 2,000 are offset with 1 ether, of which 0.005 are the caller's; 1,000 x 1.05 / 1,090 =
    0.9633 go to the pool, and the rest with the other ether (1,000 x 1.1 / 1,090 = 1.0092 at most) to bob.
    """
    state = two()
    puts(state, CAROL, 1_001)
    fill = liquidate(state, ALICE, 1_090)
    assert (fill.repaid, fill.repaid_by_others, fill.seized) == (2_000 * E18, 2_000 * E18, 5 * E18 // 1_000)
    assert (state.pool_deposits, state.default_debt) == (E18, 1_000 * E18)
    assert state.pool_coll == 1_050 * E18 // 1_090
    assert state.default_coll == 1_100 * E18 // 1_090
    assert state.surplus == 2 * E18 - 5 * E18 // 1_000 - state.pool_coll - state.default_coll
    assert fill.reward == 375 * 1_090 * E18 // 10_000
    assert state.scale == 0
    assert state.product == 10**36 // 1_001


def test_other_troves_take_over_by_their_stakes() -> None:
    """Bob is the only other one: all 2,000 and 2 ether (2,000 x 1.1 / 1,090 = 2.018, more than there is)."""
    state = two()
    liquidate(state, ALICE, 1_090)
    latest = state.latest(state.trove(BOB), START)
    assert (latest.coll, latest.debt) == (102 * E18, 22_000 * E18)
    assert (state.stakes_then, state.colls_then) == (100 * E18, 102 * E18)


def test_at_the_least_ratio_nothing_is_liquidated_and_a_unit_below_it_is() -> None:
    """2 ether x 1,100 / 2,000 is 1.1 exactly; a second later the debt is more."""
    assert refusal(quoted(two(), ALICE, 1_100)) == "nothing to liquidate"
    assert isinstance(quoted(two(), ALICE, 1_100, 1), Fill)


def test_the_last_trove_is_not_liquidated() -> None:
    state = branch()
    opens(state, ALICE, 2, 2_000)
    assert refusal(quoted(state, ALICE, 1_000)) == "it is the only trove of the branch"
    assert LIQUITY_V2.pairs(state, ALICE, prices(1_000), at()) == ()


def test_three_quarters_of_interest_are_the_depositors() -> None:
    """22,000 at 5 % for a year: 1,100, of which 825 go to the only deposit."""
    state = two()
    puts(state, CAROL, 1_000)
    puts(state, CAROL, 1, time=YEAR, claims=False)
    assert state.minted == 1_100 * E18
    assert state.deposits[CAROL].value == 1_826 * E18
    assert state.yield_owed == 0


def test_interest_waits_until_there_is_a_bold_in_the_pool() -> None:
    state = two()
    make(state, minted(state, at(YEAR)))
    assert (state.yield_pending, state.yield_owed) == (825 * E18, 0)
    puts(state, CAROL, 1_000, time=YEAR)
    assert state.yield_pending == 0
    assert state.yield_of(state.deposits[CAROL]) == 825 * E18


def test_redemptions_go_by_rate_and_leave_small_troves_behind() -> None:
    """1 %, 2 %, 3 %: 2,500 take all 2,000 of the first and 500 of the second, which is then the next one's first."""
    state = branch()
    for who, rate in ((ALICE, 1), (BOB, 2), (CAROL, 3)):
        opens(state, who, 10, 2_000, rate=rate)
    found = done(redeem(state, 2_500 * E18, 1_000 * E18, at()))
    make(state, found.changes)
    assert [state.latest(state.trove(who), START).debt for who in (ALICE, BOB, CAROL)] == [0, 1_500 * E18, 2_000 * E18]
    assert [state.trove(who).coll for who in (ALICE, BOB)] == [8 * E18, 95 * E18 // 10]
    assert [state.trove(who).zombie for who in (ALICE, BOB, CAROL)] == [ZOMBIE, POINTED, 0]
    assert state.redeemable() == [BOB, CAROL]
    assert state.recorded == 3_500 * E18


def test_of_equal_rates_the_last_one_is_redeemed_first_and_a_batch_in_one_piece() -> None:
    state = branch()
    registers(state, MANAGER)
    opens(state, ALICE, 10, 2_000, batch=MANAGER)
    opens(state, BOB, 10, 2_000)
    opens(state, CAROL, 10, 2_000, batch=MANAGER)
    assert state.redeemable() == [BOB, CAROL, ALICE]


def test_a_trove_under_water_is_not_redeemed() -> None:
    """Alice's 2 ether are 1,800 at 900."""
    state = two()
    assert done(redeem(state, 100 * E18, 900 * E18, at())).account == BOB


def test_an_urgent_redemption_takes_the_troves_named() -> None:
    state = two()
    make(state, calls.ended(state, at(), failed=True))
    found = done(urgent(state, [ALICE], 1_000 * E18, 1_000 * E18, at()))
    make(state, found.changes)
    assert (state.trove(ALICE).coll, state.trove(ALICE).debt) == (98 * E18 // 100, 1_000 * E18)


def test_a_shutdown_ends_interest() -> None:
    state = two()
    make(state, calls.ended(state, at(YEAR), failed=False))
    assert state.debt(START + 2 * YEAR) == 23_100 * E18
    assert state.latest(state.trove(ALICE), START + 2 * YEAR).debt == 2_100 * E18


def test_a_branch_is_shut_down_below_its_ratio_only() -> None:
    """102 x 250 / 22,000 = 1.159; x 230: 1.066."""
    assert "not below" in refusal(calls.shut_down(two(), 250 * E18, at(), failed=False))
    done(calls.shut_down(two(), 230 * E18, at(), failed=False))


def test_joining_a_batch_pays_a_week_and_needs_the_margin() -> None:
    """At 1,190 alice's ratio is 1.19, below 1.1 + 0.1; at 2,000 the fee is 2,000 x 5 % x 7 / 365."""
    state = two()
    registers(state, MANAGER, fee=0)
    assert "least ratio" in refusal(calls.join(state, ALICE, MANAGER, 1_190 * E18, at()))
    make(state, done(calls.join(state, ALICE, MANAGER, 2_000 * E18, at())).changes)
    fee = 100 * E18 * 604_800 // YEAR
    assert state.trove(ALICE).shares == state.batches[MANAGER].debt == 2_000 * E18 + fee
    assert state.weighted == (22_000 * E18 + fee) * E18 // 20


def test_leaving_a_batch_brings_the_debt_back() -> None:
    state = branch()
    registers(state, MANAGER)
    opens(state, ALICE, 10, 4_000, batch=MANAGER)
    opens(state, BOB, 10, 6_000, batch=MANAGER)
    make(state, done(calls.leave(state, ALICE, E18 // 10, 2_000 * E18, at(YEAR), kicked=False)).changes)
    assert (state.trove(ALICE).debt, state.trove(ALICE).rate) == (4_240 * E18, E18 // 10)
    assert (state.batches[MANAGER].debt, state.batches[MANAGER].shares) == (6_360 * E18, 6_000 * E18)
    assert state.recorded == 10_600 * E18
    assert state.weighted == 4_240 * E18 * E18 // 10 + 6_360 * E18 * E18 // 20


def test_a_rate_changed_within_a_week_costs_and_later_does_not() -> None:
    state = two()
    early = done(calls.new_rate(state, ALICE, E18 // 10, 2_000 * E18, at(1)))
    late = done(calls.new_rate(state, ALICE, E18 // 10, 2_000 * E18, at(604_800)))
    assert any(getattr(each, "action", "") == "upfront_fee" for each in early.changes)
    assert not any(getattr(each, "action", "") == "upfront_fee" for each in late.changes)


def test_a_closed_trove_repays_all() -> None:
    state = two()
    make(state, done(calls.close(state, ALICE, 2_000 * E18, at(YEAR))).changes)
    assert ALICE not in state.troves
    assert (state.recorded, state.active_coll) == (21_000 * E18, 100 * E18)
    assert refusal(calls.close(state, BOB, 2_000 * E18, at(YEAR))).startswith("it is the only")


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("liquidation_ratio", E18, True), ("liquidation_ratio", 11 * E18 // 10, False),
        ("critical_ratio", 2 * E18, True), ("shutdown_ratio", E18, True), ("batch_margin", E18 // 100, True),
        ("liquidation_penalty", 104 * E18 // 100, True), ("redistribution_penalty", 121 * E18 // 100, True),
    ],
)  # fmt: skip
def test_the_registry_refuses(name: str, value: int, refused: bool) -> None:
    assert (LIQUITY_V2.fault({name: value}) is not None) == refused


def test_figures_say_what_the_contract_says() -> None:
    told = {each.name: each.value for each in LIQUITY_V2.figures(two(), ALICE, prices(1_100), at(YEAR))}
    assert (told["entire_debt"], told["accrued_interest"]) == (2_100 * E18, 100 * E18)
    assert told["collateral_ratio"] == 2_200 * E18 * E18 // (2_100 * E18)
    assert LIQUITY_V2.accounts(two()) == [ALICE, BOB]
    assert AccountId(DAVE) not in two().troves
