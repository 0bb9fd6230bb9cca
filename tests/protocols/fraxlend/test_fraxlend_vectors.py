"""The rules by hand, from FraxlendPairCore.sol, VaultAccount.sol and VariableInterestRate.sol at 2bed49d4."""

from __future__ import annotations

from typing import Any

import pytest

from backtest.model import HistoricalLiquidation
from backtest.protocols.fraxlend import FRAXLEND
from backtest.protocols.fraxlend.account import high_rate_up
from backtest.protocols.fraxlend.math import (
    full_rate_down,
    interest_down,
    least_shares_up,
    ltv_down,
    new_rate_down,
    taken_down,
    to_amount_down,
    to_amount_up,
    to_shares_down,
    to_shares_up,
    utilisation_down,
)
from backtest.protocols.fraxlend.state import COLLATERAL, LENT
from backtest.protocols.interface import Fill, Refusal
from tests.protocols.fraxlend.hand import (
    ALICE,
    BOB,
    E18,
    KEEPER,
    LENDER,
    NOW,
    PAIR_ITSELF,
    STEEP,
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


@pytest.mark.parametrize(
    ("rule", "arguments", "expected"),
    [
        (to_shares_down, (7, 0, 0), 7),  # nothing yet: a share is a unit
        (to_shares_down, (10, 30, 20), 6),  # 10 x 20 / 30 = 6.67
        (to_shares_up, (10, 30, 20), 7),  # 6 x 30 / 20 = 9 < 10: one more
        (to_shares_up, (9, 30, 20), 6),  # 9 x 20 / 30 = 6, and 6 x 30 / 20 = 9: not one more
        (to_amount_down, (7, 30, 20), 10),  # 7 x 30 / 20 = 10.5
        (to_amount_up, (7, 30, 20), 11),  # 10 x 20 / 30 = 6 < 7: one more
        (to_amount_up, (6, 30, 20), 9),  # exactly
        (to_amount_up, (5, 0, 0), 5),  # no shares yet
        # 1,400 x 5 x 10^14 / 10^18 = 0.7 of an ether: 70 %
        (ltv_down, (1_400 * E18, 5 * 10**14, E18), 70_000),
        # 3 x 5 x 10^17 / 10^18 = 1.5, cut to 1; 1 x 10^5 / 3 = 33,333.3, where 1.5 / 3 would be 50,000
        (ltv_down, (3, 5 * 10**17, 3), 33_333),
        (utilisation_down, (2, 3), 66_666),  # 2 x 10^5 / 3
        (utilisation_down, (0, 0), 0),
        # 100 s x 10^6 x 10^13 / 10^18 = 1,000; a tenth is 100; 100 x 5 x 10^5 / (2 x 10^6 + 1,000 - 100) = 24.98
        (interest_down, (10**6, 2 * 10**6, 5 * 10**5, 10_000, 10**13, 100), (1_000, 24)),
        (interest_down, (10**6, 2 * 10**6, 5 * 10**5, 0, 10**13, 100), (1_000, 0)),
        (interest_down, (1, 2, 2, 10_000, 10**9, 1), (0, 0)),  # 10^9 / 10^18: nothing
        (interest_down, (2**128 - 2, 2**128 - 2, 1, 0, 10**18, 1), (0, 0)),  # would take more than 128 bits
    ],
)
def test_arithmetic(rule: Any, arguments: tuple[int, ...], expected: Any) -> None:
    assert rule(*arguments) == expected


@pytest.mark.parametrize(
    ("elapsed", "used", "before", "expected"),
    [
        # Between 75 and 85 %: as it was.
        (10**6, 80_000, 2 * 10**10, 2 * 10**10),
        # Nothing used: short = 1, so it halves in a half life: 2 x 10^10 x 172,800 / (172,800 + 172,800).
        (172_800, 0, 2 * 10**10, 10**10),
        # 37.5 %: short = 0.5, squared 0.25; 172,800 / (172,800 + 43,200) = 0.8.
        (172_800, 37_500, 2 * 10**10, 16 * 10**9),
        # All used: over = 1: doubles.
        (172_800, 100_000, 10**10, 2 * 10**10),
        # 92.5 %: over = 0.5: (172,800 + 43,200) / 172,800 = 1.25.
        (172_800, 92_500, 10**10, 125 * 10**8),
        # Twice as much would be 6 x 10^10: bounded above.
        (172_800, 100_000, 3 * 10**10, 4 * 10**10),
        # 1.5 x 10^9 halved is below 10^9: bounded below.
        (172_800, 0, 15 * 10**8, 10**9),
    ],
)
def test_the_rate_at_full_use(elapsed: int, used: int, before: int, expected: int) -> None:
    assert full_rate_down(STEEP, elapsed, used, before) == expected


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        # Full 2.01 x 10^10, zero 10^8: the vertex is 2 x 10^10 x 0.2 + 10^8 = 4.1 x 10^9.
        (80_000, 4_100_000_000),
        # Above: 4.1 x 10^9 + 2,000 x 1.6 x 10^10 / 20,000 = 5.7 x 10^9.
        (82_000, 5_700_000_000),
        # Below, at 76 %: 10^8 + 76,000 x 4 x 10^9 / 80,000 = 3.9 x 10^9.
        (76_000, 3_900_000_000),
    ],
)
def test_the_rate_along_the_curve(used: int, expected: int) -> None:
    assert new_rate_down(STEEP, 0, used, 20_100_000_000) == (expected, 20_100_000_000)


@pytest.mark.parametrize(
    ("repaid", "collateral", "protocol", "expected"),
    [
        # Worth 500 at 0.5; clean 550 < 1,000: dirty 500 x 1.09 = 545.
        (1_000, 1_000, 0, (545, 0, False)),
        # Clean 550 = 550: all, though nothing is left over.
        (1_000, 550, 0, (550, 0, True)),
        # Clean 550 > 549: all.
        (1_000, 549, 0, (549, 0, True)),
        # 551: one unit stays, and the dirty fee gives 545.
        (1_000, 551, 0, (545, 0, False)),
        # A tenth of 545 for the protocol: 54.5.
        (1_000, 1_000, 10_000, (545, 54, False)),
        # Of all: 549 / 10.
        (1_000, 549, 10_000, (549, 54, True)),
        # 1,001 x 0.5 = 500.5, cut; then as above.
        (1_001, 1_000, 0, (545, 0, False)),
    ],
)
def test_what_a_call_takes(repaid: int, collateral: int, protocol: int, expected: tuple[int, int, bool]) -> None:
    assert taken_down(repaid, E18 // 2, collateral, 10_000, 9_000, protocol) == expected


def test_the_fewest_shares_that_take_all() -> None:
    """549 / 1.1 = 499.1, up 500; at 0.5 worth 1,000; at two shares for three units 666.7, up 667: worth 1,000 again."""
    assert least_shares_up(549, E18 // 2, 10_000, 3_000, 2_000) == 667
    assert taken_down(to_amount_down(667, 3_000, 2_000), E18 // 2, 549, 10_000, 9_000, 0).whole
    assert not taken_down(to_amount_down(666, 3_000, 2_000), E18 // 2, 549, 10_000, 9_000, 0).whole


def test_equality_is_solvent() -> None:
    """At 2,000 an ether bears 1,500: 75.000 % is solvent. 1,500.03 would be 75.0015 %, cut to 75.001: insolvent;
    1,500.01 is 75.0005 %, cut to 75.000: solvent still."""
    for more, insolvent in ((0, False), (E18 // 100, False), (3 * E18 // 100, True)):
        state = book(1_500)
        FRAXLEND.apply(state, moved(ALICE, "debt", more, "borrow", more))
        assert bool(FRAXLEND.pairs(state, ALICE, at(2_000), NOW)) == insolvent
        health = FRAXLEND.view(state, ALICE, at(2_000), NOW).health
        assert health is not None
        assert (health < E18) == insolvent


def test_health_is_the_limit_over_the_loan_to_value() -> None:
    """70.000 %: 75,000 / 70,000."""
    seen = FRAXLEND.view(book(), ALICE, at(2_000), NOW)
    assert (seen.collateral_base, seen.debt_base, seen.health) == (E18, 7 * E18 // 10, 75 * E18 // 70)
    assert seen.borrowing_power_base == 75 * E18 // 100


def test_without_collateral_or_a_limit() -> None:
    state = opened(moved(BOB, "debt", 5, "borrow", 5))
    assert FRAXLEND.view(state, BOB, at(2_000), NOW).health == 0
    assert FRAXLEND.pairs(state, BOB, at(2_000), NOW)
    free = book(1_999, liquidation_threshold=0)
    assert not FRAXLEND.pairs(free, ALICE, at(1_000), NOW)
    assert FRAXLEND.exposure(free, ALICE, NOW) is None


def test_a_whole_repayment_that_leaves_collateral_pays_the_dirty_fee() -> None:
    """1,400 at 1,600 are 0.875 of an ether; clean 0.9625 < 1: dirty 0.875 x 1.09 = 0.95375. Nothing is written off."""
    state = book()
    fill = liquidate(state, 1_600)
    assert (fill.repaid, fill.seized, fill.protocol_fee, fill.deficits) == (1_400 * E18, 95_375 * 10**13, 0, ())
    assert state.of(ALICE).collateral == E18 - 95_375 * 10**13
    assert state.totals.borrowed == state.totals.borrow_shares == 0


def test_the_liquidator_repays_what_takes_all_and_the_rest_is_written_off() -> None:
    """At 1,250: 1,400 are 1.12 of an ether, 1.232 with the fee. All is taken for 1 / 1.1 of an ether, rounded up at
    each step: 0.909090909090909091 x 1,250 = 1,136.363636363636363750; 263.636363636363636250 are lost."""
    state = book()
    fill = liquidate(state, 1_250)
    assert fill.repaid == 1_136_363_636_363_636_363_750
    assert fill.deficits == ((LENT, 263_636_363_636_363_636_250),)
    assert fill.seized == E18
    assert state.totals.lent == 10_000 * E18 - 263_636_363_636_363_636_250
    assert state.of(ALICE).borrow_shares == state.totals.borrow_shares == state.totals.borrowed == 0


def test_the_protocol_s_part_goes_to_the_pair() -> None:
    """A tenth of 0.95375."""
    state = book(liquidation_protocol_fee=10_000)
    fill = liquidate(state, 1_600)
    assert (fill.seized, fill.protocol_fee) == (858_375 * 10**12, 95_375 * 10**12)
    assert state.of(PAIR_ITSELF).collateral == 95_375 * 10**12


def test_part_of_a_debt() -> None:
    """700 at 1,600: 0.4375 x 1.09 = 0.476875."""
    state = book()
    fill = liquidate(state, 1_600, repay_scaled=700 * E18)
    assert (fill.repaid, fill.seized, state.of(ALICE).borrow_shares) == (700 * E18, 476_875 * 10**12, 700 * E18)
    assert liquidate(book(), 1_600, repay=700 * E18).seized == 476_875 * 10**12


def test_amounts_of_shares_that_are_worth_more() -> None:
    """1,400 shares owe 1,540; of one wei of a share 1.1: one down for what is taken, two up for what is repaid."""
    state = book()
    state.totals.borrowed = 1_540 * E18
    fill = quoted(state, 1_000, repay_scaled=1)
    assert isinstance(fill, Fill)
    assert (fill.repaid, fill.seized) == (2, 0)


@pytest.mark.parametrize(
    ("changed", "usd", "order", "why"),
    [
        ({}, 2_000, {}, "BorrowerSolvent"),
        ({"liquidation_paused": 1}, 1_250, {}, "LiquidatePaused"),
        ({}, 1_600, {"repay_scaled": 1_401 * E18}, "more shares"),
        ({}, 1_600, {"repay_scaled": 0}, "nothing"),
        # Dirty 20 % above clean 10 %: 0.875 x 1.2 = 1.05 ether of one, which _removeCollateral refuses.
        ({"partial_liquidation_bonus": 120_000}, 1_600, {}, "more collateral"),
        ({}, 1_600, {"receive_collateral_token": True}, "no token"),
    ],
)
def test_what_is_refused(changed: dict[str, int], usd: int, order: dict[str, Any], why: str) -> None:
    refused = quoted(book(**changed), usd, **order)
    assert isinstance(refused, Refusal)
    assert why in refused.reason


def test_agreed_amounts() -> None:
    """A mechanism's: 700 for half an ether, a tenth of it the protocol's; an owner who sells early pays no fee."""
    state = book(liquidation_protocol_fee=10_000)
    own = {"repay": 700 * E18, "seize": E18 // 2, "agreed": True}
    fill = quoted(state, 1_600, **own)
    assert isinstance(fill, Fill)
    assert (fill.seized, fill.protocol_fee) == (45 * E18 // 100, 5 * E18 // 100)
    early = quoted(state, 2_000, **own, early=True)
    assert isinstance(early, Fill)
    assert (early.repaid, early.seized, early.protocol_fee) == (700 * E18, E18 // 2, 0)


def test_an_observed_liquidation_is_its_shares() -> None:
    known = {"debt_asset": LENT, "collateral_asset": COLLATERAL, "repaid": 1, "seized": 1, "protocol_fee": 0}
    past = HistoricalLiquidation(
        **place(), account=ALICE, liquidator=KEEPER, **known, receive_collateral_token=False, debt_scaled=9
    )  # type: ignore[arg-type]
    assert FRAXLEND.observed_order(book(), past, at(1_250), NOW).repay_scaled == 9


def test_an_accrual_charges_the_new_rate_for_all_the_time_since() -> None:
    """14 % used for a half life: short = 61 / 75, squared 3,721 / 5,625, so that the rate at full use is 4 x 10^10 x
    5,625 / 9,346 = 24,074,470,361; the vertex 23,974,470,361 x 0.2 = 4,794,894,072 above zero's 10^8; at 14 % 10^8 +
    14,000 x 4,794,894,072 / 80,000 = 939,106,462 a second; x 172,800 s x 1,400 = 0.22718863528704. With a fee of 10 %,
    fTokens for a tenth of that."""
    state = book(curve=STEEP)
    FRAXLEND.apply(state, param("fee", 10_000))
    assert state.rates(later(172_800).timestamp) == (939_106_462, 24_074_470_361)
    after = state.accrued(later(172_800).timestamp)
    assert after.borrowed == 1_400 * E18 + 172_800 * 1_400 * 939_106_462
    assert after.lent - 10_000 * E18 == after.borrowed - 1_400 * E18 == 227_188_635_287_040_000
    fee = 22_718_863_528_704_000
    assert after.lent_shares - 10_000 * E18 == fee * 10_000 * E18 // (after.lent - fee)
    assert state.totals.borrowed == 1_400 * E18


def test_no_interest_while_it_is_paused_nor_of_the_time_until_it_goes_on() -> None:
    state = book(curve=STEEP)
    FRAXLEND.apply(state, param("interest_paused", 1))
    assert state.accrued(later(10**6).timestamp).borrowed == 1_400 * E18
    FRAXLEND.apply(state, param("interest_paused", 0, later(10**6).timestamp))
    assert state.accrued(later(10**6).timestamp).borrowed == 1_400 * E18
    assert state.accrued(later(10**6 + 1).timestamp).borrowed > 1_400 * E18


def test_fee_shares_are_the_pair_s() -> None:
    state = book(curve=STEEP)
    FRAXLEND.apply(state, param("fee", 10_000))
    liquidate(state, 1_250, later(172_800))
    assert state.of(PAIR_ITSELF).supply_shares == state.totals.lent_shares - 10_000 * E18 > 0


def test_borrowing_is_checked_by_the_high_rate() -> None:
    """Low 5 x 10^14, high 5.1 x 10^14: 1,470 are 73.5 % by the one and 74.97 % by the other, 1,480 75.48 %. They differ
    by 1,960 of 10^5 of the high one."""
    rates = {"low_rate": 5 * 10**14, "high_rate": 51 * 10**13}
    state = book(max_deviation=1_960, **rates)
    assert high_rate_up(state, 5 * 10**14) == 51 * 10**13
    assert acted(state, moved(ALICE, "debt", 1, "borrow", 80 * E18)) == "Insolvent"
    assert acted(state, moved(ALICE, "debt", 1, "borrow", 70 * E18)).amount == 70 * E18
    narrow = book(max_deviation=1_959, **rates)
    assert acted(narrow, moved(ALICE, "debt", 1, "borrow", E18)) == "ExceedsMaxOracleDeviation"


@pytest.mark.parametrize(
    ("changed", "call", "why"),
    [
        ({"borrow_limit": 1_400 * E18}, moved(ALICE, "debt", 1, "borrow", 1), "ExceedsBorrowLimit"),
        ({"deposit_limit": 10_000 * E18}, moved(BOB, "collateral", 1, "supply", 1), "ExceedsDepositLimit"),
        ({}, moved(LENDER, "collateral", -1, "withdraw", 8_601 * E18), "InsufficientAssets"),
        ({"withdraw_paused": 1}, moved(LENDER, "collateral", -1, "withdraw", 1), "WithdrawPaused"),
        ({"repay_paused": 1}, moved(ALICE, "debt", -1, "repay", 1), "RepayPaused"),
        ({}, moved(ALICE, "debt", -1_401 * E18, "repay", 1), "more shares than are owed"),
        # 1,400 need 0.9333... of an ether at 2,000.
        ({}, moved(ALICE, "collateral", -1, "withdraw", 7 * E18 // 100, 1), "Insolvent"),
        ({}, moved(ALICE, "collateral", -1, "withdraw", 2 * E18, 1), "more collateral"),
    ],
)
def test_calls_that_revert(changed: dict[str, int], call: Any, why: str) -> None:
    assert why in acted(book(**changed), call)


def test_calls_round_against_their_caller() -> None:
    """At three units a two shares: 10 borrowed are 7 shares (6.67 up), 7 shares repaid 11 units (10.5 up)."""
    state = book()
    state.totals.borrowed, state.totals.borrow_shares = 3_000, 2_000
    FRAXLEND.apply(state, moved(BOB, "collateral", E18, "supply", E18, 1))
    assert acted(state, moved(BOB, "debt", 99, "borrow", 10)).changes[0].delta == 7
    state.totals.borrowed, state.totals.borrow_shares = 3_000, 2_000
    assert acted(state, moved(BOB, "debt", -7, "repay", 99)).amount == 11


def test_an_emptied_debt_is_all_there_is() -> None:
    state = book()
    assert acted(state, moved(ALICE, "debt", -5, "repay", 5), emptied=frozenset({0})).amount == 1_400 * E18
    assert state.of(ALICE).borrow_shares == 0


def test_a_leveraged_call_is_checked_at_its_end() -> None:
    """Bob brings half an ether, borrows 2,000 and buys one: 2,000 against 1.5 ether is 66.7 %. Of half as much the swap
    gives half as much."""
    calls = [
        moved(BOB, "collateral", E18 // 2, "borrow", E18 // 2, 1),
        moved(BOB, "debt", 2_000 * E18, "borrow", 2_000 * E18),
        moved(BOB, "collateral", E18, "borrow", E18, 1),
    ]
    state = book()
    assert acted(state, *calls).view.debt_base == E18
    assert state.of(BOB).collateral == 3 * E18 // 2
    half = book()
    assert acted(half, *calls, amount=1_000 * E18).amount == 1_000 * E18
    assert half.of(BOB).collateral == E18
    assert acted(book(), *calls, usd=1_600) == "Insolvent"  # 1.25 / 1.5 = 83.3 %


def test_collateral_sold_to_repay() -> None:
    """Half an ether for 1,000: 400 stay against half an ether, 40 %."""
    state = book()
    calls = (
        moved(ALICE, "collateral", -E18 // 2, "repay", E18 // 2, 1),
        moved(ALICE, "debt", -1, "repay", 1_000 * E18),
    )
    assert acted(state, *calls).amount == 1_000 * E18
    assert (state.of(ALICE).borrow_shares, state.of(ALICE).collateral) == (400 * E18, E18 // 2)
