"""Stable-rate debt, bridges, drops and freezes worked out by hand; the chain decides in test_aave_special_onchain."""

from __future__ import annotations

from typing import Any

from backtest.protocols.aave_v3.account import account_data
from backtest.protocols.aave_v3.claims import flags
from backtest.protocols.aave_v3.interest import TouchedReserves, rates
from backtest.protocols.aave_v3.stable import StableTotal, burned, minted, rate_of_new_loan
from backtest.protocols.aave_v3.state import StableDebt
from backtest.units import RAY, SECONDS_PER_YEAR
from tests.support.aave_books import ALICE, COL, DEBT, NOW, START, Toy
from tests.support.aave_logs import CONFIG, Logs, asset, folded
from tests.support.aave_toy import toy

PERCENT = RAY // 100
YEAR = START + SECONDS_PER_YEAR


def test_a_second_loan_makes_an_average_of_both_rates() -> None:
    """1000 at 10 % are 1105 after a year (three terms: 1.10516...); as much again at 20 %: 15 % for all of it."""
    total, debt = minted(StableTotal(), StableDebt(), 1000, 10 * PERCENT, START)
    assert (total, debt) == (StableTotal(1000, 10 * PERCENT, START), StableDebt(1000, 10 * PERCENT, START))
    total, debt = minted(total, debt, 1105, 20 * PERCENT, YEAR)
    assert (total, debt) == (StableTotal(2210, 15 * PERCENT, YEAR), StableDebt(2210, 15 * PERCENT, YEAR))


def test_what_is_paid_leaves_the_average_at_its_own_rate() -> None:
    """2000 at 15 % on average, 500 at 20 % are paid: (300 - 100) / 1500 is 13 1/3 %."""
    total, left, shown = burned(
        StableTotal(2000, 15 * PERCENT, START), StableDebt(1000, 20 * PERCENT, START), 500, START
    )
    assert total == StableTotal(1500, 40 * PERCENT // 3, START)
    assert (left, shown) == (StableDebt(500, 20 * PERCENT, START), 1500)


def test_a_total_that_is_used_up_before_its_accounts() -> None:
    """Paid is all there is, or more interest than the average has (5 % of 1000 against 20 % of 500): nothing is left,
    though in the second case the call still sees 500.
    """
    debt = StableDebt(1000, 20 * PERCENT, START)
    nothing = StableTotal(0, 0, START)
    assert burned(StableTotal(999, 5 * PERCENT, START), debt, 1000, START) == (nothing, StableDebt(), 0)
    left = StableDebt(500, 20 * PERCENT, START)
    assert burned(StableTotal(1000, 5 * PERCENT, START), debt, 500, START) == (nothing, left, 500)


def test_the_rate_of_a_new_loan() -> None:
    """40 of 100 used, half of it stable: 5 + 1 * 40 / 80, and 8 * (50 - 20) / 80 on top, in per cent. At 90 of 100:
    5 + 1 + 60 / 2.
    """
    reserve = toy(3).state.reserves[DEBT]
    assert rate_of_new_loan(reserve, stable=20, variable=20, liquidity=60) is None
    reserve.stable_base, reserve.stable_slope1, reserve.stable_slope2 = 5 * PERCENT, PERCENT, 60 * PERCENT
    reserve.stable_excess_offset, reserve.optimal_stable_share = 8 * PERCENT, 20 * PERCENT
    assert rate_of_new_loan(reserve, stable=20, variable=20, liquidity=60) == 85 * PERCENT // 10
    assert rate_of_new_loan(reserve, stable=0, variable=90, liquidity=10) == 36 * PERCENT
    assert rate_of_new_loan(reserve, stable=0, variable=0, liquidity=10) == 5 * PERCENT


def test_suppliers_earn_the_average_of_both_kinds_and_nothing_on_what_is_unbacked() -> None:
    """3 % on 20 and 10 % on 20 are 6.5 %; times 0.4 and 0.9. With 100 unbacked, times 0.2."""
    book = toy(3)
    terms: dict[str, Any] = {"debt": 20, "liquidity": 60, "deficit": 0, "stable": (20, 10 * PERCENT)}
    assert rates(book.state, book.state.reserves[DEBT], NOW, **terms) == (234 * PERCENT // 100, 3 * PERCENT)
    unbacked = rates(book.state, book.state.reserves[DEBT], NOW, **terms, unbacked=100)
    assert unbacked == (117 * PERCENT // 100, 3 * PERCENT)


def test_a_bridge_backs_no_more_than_is_unbacked_and_shares_its_fee() -> None:
    """300 of 500 are unbacked; a fee of 100, 30 % of it the treasury's, lifts the index of 10,000 by 0.7 %."""
    book = toy(3)
    book.param("bridge_fee_to_protocol", 3000)
    book.param("unbacked", 300, asset=DEBT)
    book.supply(DEBT, 10_000)
    touched_reserves = TouchedReserves(book.state, NOW)
    touched_reserves.bridge_fee(DEBT, 100)
    touched_reserves.back(DEBT, 500)
    for change in touched_reserves.changes():
        book.do(change)
    reserve = book.state.reserves[DEBT]
    assert (reserve.unbacked, reserve.liquidity, reserve.accrued_to_treasury) == (0, 400, 30)
    assert reserve.supply_index == RAY * 1007 // 1000


def test_a_withheld_loan_to_value_waits_whatever_is_set_meanwhile() -> None:
    book = Toy(10)
    book.supply(COL, 1_000_00)
    found = []
    for name, value in (("ltv_withheld", 1), ("ltv", 5500), ("ltv_withheld", 0)):
        book.param(name, value, asset=COL)
        found.append(account_data(book.state, ALICE, book.prices, NOW).ltv)  # type: ignore[arg-type]
    assert found == [0, 0, 5500]


def _params(logs: Logs, *names: str) -> list[tuple[str, int | None, int]]:
    rows = folded(logs, CONFIG)["params"]
    return [(row["name"], row["asset_id"], int(row["value"])) for row in rows if row["name"] in names]


def test_the_next_reserve_in_a_place_is_on_the_lists_of_the_last() -> None:
    logs = Logs()
    logs.open(10)
    logs.tx()
    for name in ("A", "B"):
        logs.list_asset(name)
    logs.log("AssetCollateralInEModeChanged", asset=asset("A"), category_id=1, collateral=True)
    logs.tx()
    logs.log("ReserveDropped", asset=asset("A"))
    logs.list_asset("C")
    logs.list_asset("A")
    found = _params(logs, "reserve_id", "emode_collateral")
    assert found == [
        ("reserve_id", 0, 0),
        ("reserve_id", 1, 1),
        ("emode_collateral", 0, 1),
        ("emode_collateral", 0, 0),
        ("reserve_id", 2, 0),
        ("emode_collateral", 2, 1),
        ("reserve_id", 0, 2),
    ]


def test_what_a_freeze_withholds_by_version() -> None:
    """3.6: what is pending stays so after the freeze ends; a loan-to-value that was 0 before is withheld by the freeze
    alone. 3.0: nothing is.
    """
    for revision, wanted in ((1, []), (10, [("ltv_withheld", 0, 1), ("ltv_withheld", 0, 0)])):
        logs = Logs()
        logs.open(revision)
        logs.tx()
        logs.list_asset("A")
        logs.log("ReserveFrozen", asset=asset("A"), frozen=True)
        logs.log("ReserveFrozen", asset=asset("A"), frozen=False)
        assert _params(logs, "ltv_withheld") == wanted
    logs = Logs()
    logs.open(10)
    logs.tx()
    logs.list_asset("A")
    logs.log("CollateralConfigurationChanged", asset=asset("A"), ltv=7000, liquidation_threshold=8000)
    logs.log("PendingLtvChanged", asset=asset("A"), ltv=7000)
    logs.log("CollateralConfigurationChanged", asset=asset("A"), ltv=0, liquidation_threshold=8000)
    logs.log("ReserveFrozen", asset=asset("A"), frozen=True)
    logs.log("ReserveFrozen", asset=asset("A"), frozen=False)
    assert _params(logs, "ltv_withheld") == [("ltv_withheld", 0, 1)]


def test_verify_takes_a_stable_principal_for_what_it_is_now() -> None:
    """Borrowed twice and repaid: the bit of reserve 1 is set until the last row, and not after it."""
    rows = [
        {"block_number": block, "account_id": 7, "asset_id": 1, "setting": "stable_principal", "value": value}
        for block, value in ((1, 100), (2, 150), (3, 0))
    ]
    assert [flags([], rows, {1: 1}, block)[0].get(7, 0) for block in (1, 2, 3)] == [4, 4, 0]
