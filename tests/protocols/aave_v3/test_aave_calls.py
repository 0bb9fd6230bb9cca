"""Users' calls on small books worked out by hand: what each version refuses, takes and leaves. One dollar each, two
decimals, indexes at one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from backtest.model import AccountId, AssetId, PositionChange, SettingChange, Side
from backtest.protocols.aave_v3.actions import act
from backtest.protocols.interface import Acted, Action, Refusal
from backtest.units import RAY
from tests.support.aave_books import ALICE, BOB, COL, DEBT, NOW, ONE, OTHER, Toy

V30, V35, V36, V37 = 3, 9, 10, 11


def toy(revision: int, **kwargs: int) -> Toy:
    """Every asset can be borrowed; Alice has 1000.00 COL."""
    book = Toy(revision, **kwargs)
    for asset in (COL, DEBT, OTHER):
        book.param("borrowing_enabled", 1, asset=asset)
    book.supply(COL, 100_000)
    return book


def moved(
    name: str, *changes: tuple[AccountId, AssetId, Side, int], emptied: tuple[int, ...] = (), amount: int | None = None
) -> Action:
    at = {"seq": 1, "block_number": 100, "log_index": 1, "timestamp": NOW.timestamp, "action": name, "action_seq": 1}
    rows = tuple(
        PositionChange(**at, account=a, asset=s, side=side, delta=d, amount=abs(d)) for a, s, side, d in changes
    )  # type: ignore[arg-type]
    return Action(name, rows, frozenset(emptied), amount)


def setting(name: str, setting: str, value: int, asset: AssetId | None = None) -> Action:
    at = {"seq": 1, "block_number": 100, "log_index": 1, "timestamp": NOW.timestamp, "action": name, "action_seq": 1}
    return Action(name, (SettingChange(**at, account=ALICE, setting=setting, asset=asset, value=value),))  # type: ignore[arg-type]


def made(book: Toy, action: Action) -> Acted:
    acted = act(book.state, action, book.prices, NOW)  # type: ignore[arg-type]
    assert isinstance(acted, Acted), acted
    return acted


def refused(book: Toy, action: Action) -> str:
    refusal = act(book.state, action, book.prices, NOW)  # type: ignore[arg-type]
    assert isinstance(refusal, Refusal), refusal
    return refusal.reason


def borrow(amount: int, asset: AssetId = DEBT) -> Action:
    return moved("borrow", (ALICE, asset, "debt", amount))


def withdraw(amount: int, *, all_: bool = False) -> Action:
    return moved("withdraw", (ALICE, COL, "collateral", -amount), emptied=(0,) if all_ else ())


@pytest.mark.parametrize("revision", [V30, V35, V36, V37])
def test_a_borrow_up_to_the_loan_to_value(revision: int) -> None:
    """1000 at 75 %: 750.00 fit, 750.01 do not; and the state stays as it was."""
    book = toy(revision)
    acted = made(book, borrow(75_000))
    assert (acted.amount, acted.account) == (75_000, ALICE)
    assert acted.view is not None
    assert (acted.view.collateral_base, acted.view.debt_base, acted.view.borrowing_power_base) == (
        1000 * ONE,
        750 * ONE,
        750 * ONE,
    )
    assert acted.view.health == (1_066_666_666_666_666_667 if revision == V30 else 1_066_666_666_666_666_666)
    assert refused(book, borrow(75_001)) == "the collateral cannot cover the new debt"
    assert book.scaled("debt", DEBT) == 0


def test_what_cannot_be_borrowed() -> None:
    book = toy(V36)
    book.param("borrowing_enabled", 0, asset=OTHER)
    assert refused(book, borrow(1, OTHER)) == "the asset cannot be borrowed"
    book.param("siloed", 1, asset=DEBT)
    book.param("borrowing_enabled", 1, asset=OTHER)
    book.borrow(OTHER, 100)
    assert refused(book, borrow(1)) == "a siloed asset would not be the only debt"
    book.param("siloed", 0, asset=DEBT)
    book.param("debt_ceiling", 1, asset=COL)
    assert refused(book, borrow(1)) == "the asset cannot be borrowed in isolation"
    book.param("borrowable_in_isolation", 1, asset=DEBT)
    assert made(book, borrow(1)).amount == 1


@pytest.mark.parametrize("revision", [V30, V36])
def test_a_borrow_that_leaves_health_at_one(revision: int) -> None:
    """Loan-to-value and threshold both 80 %: the last cent of 800.00 may be borrowed, and nothing at a health of 1."""
    book = toy(revision)
    book.param("ltv", 8000, asset=COL)
    book.borrow(DEBT, 79_999)
    assert made(book, borrow(1)).view is not None
    book.borrow(DEBT, 1)
    assert refused(book, borrow(1)) == "health factor would be below 1"


@pytest.mark.parametrize("revision", [V30, V35, V36])
def test_collateral_may_leave_as_far_as_health_allows(revision: int) -> None:
    """600 owed need 750 of collateral at 80 %."""
    book = toy(revision)
    book.borrow(DEBT, 60_000)
    assert made(book, withdraw(25_000)).amount == 25_000
    assert refused(book, withdraw(25_001)) == "health factor would fall below 1"
    assert refused(book, withdraw(100_001)) == "the account has less than that"
    assert refused(book, withdraw(100_000, all_=True)) == "health factor would fall below 1"
    transfer = moved("transfer", (ALICE, COL, "collateral", -25_001), (BOB, COL, "collateral", 25_001))
    assert refused(book, transfer) == "health factor would fall below 1"
    assert refused(book, setting("collateral-flag", "collateral_enabled", 0, COL)) == "health factor would fall below 1"


def test_an_action_that_emptied_takes_all_there_is_and_the_flag() -> None:
    book = toy(V36)
    acted = made(book, withdraw(5, all_=True))
    assert acted.amount == 100_000
    position, flag = acted.changes
    assert isinstance(position, PositionChange)
    assert position.delta == -100_000
    assert isinstance(flag, SettingChange)
    assert (flag.setting, flag.value) == ("collateral_enabled", 0)


@pytest.mark.parametrize(("revision", "enabled"), [(V30, True), (V35, True), (V36, False)])
def test_a_receiver_of_collateral_tokens_enables_them_to_35(revision: int, enabled: bool) -> None:
    book = toy(revision)
    acted = made(book, moved("transfer", (ALICE, COL, "collateral", -100), (BOB, COL, "collateral", 100)))
    flags = [(c.account, c.value) for c in acted.changes if isinstance(c, SettingChange)]
    assert flags == ([(BOB, 1)] if enabled else [])


def test_a_first_supply_becomes_collateral_unless_isolated_or_without_loan_to_value() -> None:
    supply = moved("supply", (BOB, COL, "collateral", 100))
    for name, value, enabled in (("ltv", 7500, True), ("ltv", 0, False), ("debt_ceiling", 1, False)):
        book = toy(V36)
        book.param(name, value, asset=COL)
        flags = [c.value for c in made(book, supply).changes if isinstance(c, SettingChange)]
        assert flags == ([1] if enabled else []), name
    book.supply(OTHER, 100, BOB)
    book.param("debt_ceiling", 1, asset=OTHER)
    book.param("debt_ceiling", 0, asset=COL)
    assert not [c for c in made(book, supply).changes if isinstance(c, SettingChange)], "other collateral is isolated"


def test_zero_loan_to_value_collateral_leaves_first() -> None:
    """Alice has 1000 COL, 1000 OTHER without loan-to-value, and owes 10: COL may not leave before OTHER."""
    for revision in (V30, V36):
        book = toy(revision)
        book.supply(OTHER, 100_000)
        book.param("ltv", 0, asset=OTHER)
        book.borrow(DEBT, 1_000)
        assert refused(book, withdraw(1)) == "collateral without loan-to-value has to leave first"
        assert made(book, moved("withdraw", (ALICE, OTHER, "collateral", -1))).amount == 1


def test_a_repayment_takes_no_more_than_the_debt() -> None:
    book = toy(V36)
    book.borrow(DEBT, 500)
    repay = moved("repay", (ALICE, DEBT, "debt", -700))
    acted = made(book, repay)
    assert (acted.amount, [c.delta for c in acted.changes if isinstance(c, PositionChange)]) == (500, [-500])
    assert made(book, replace(repay, amount=499)).amount == 499
    cleared = moved("repay", (ALICE, DEBT, "debt", -7), emptied=(0,))
    assert made(book, cleared).amount == 500
    assert refused(toy(V36), repay) == "the account has no debt in this asset"


def test_a_repayment_with_collateral_tokens() -> None:
    """500 of debt in COL paid from the same account's COL; to 3.0 the flag of an emptied balance stays."""
    for revision, flags in ((V30, []), (4, [0]), (V36, [0])):
        book = toy(revision)
        book.state.accounts[ALICE].collateral[COL] = 500
        book.borrow(COL, 500)
        both = moved("repay", (ALICE, COL, "debt", -500), (ALICE, COL, "collateral", -500), emptied=(0, 1))
        acted = made(book, both)
        assert [c.delta for c in acted.changes if isinstance(c, PositionChange)] == [-500, -500]
        assert [c.value for c in acted.changes if isinstance(c, SettingChange)] == flags


def test_choosing_an_emode() -> None:
    """Category 1 raises the threshold of COL to 90 % and lends DEBT; 850 owed are healthy in it only."""
    book = toy(V36)
    for name, value in (("emode_ltv", 8500), ("emode_liquidation_threshold", 9000), ("emode_liquidation_bonus", 10100)):
        book.param(name, value, category=1)
    book.param("emode_collateral", 1, asset=COL, category=1)
    book.param("emode_borrowable", 1, asset=DEBT, category=1)
    enter, leave = setting("emode", "emode", 1), setting("emode", "emode", 0)
    assert refused(book, setting("emode", "emode", 7)) == "the e-mode category does not exist"
    book.borrow(DEBT, 85_000)
    assert made(book, enter).changes
    book.setting("emode", 1)
    assert refused(book, leave) == "health factor would fall below 1"
    assert refused(book, borrow(1, OTHER)) == "the asset cannot be borrowed in the account's e-mode"
    book.borrow(OTHER, 1)
    book.setting("emode", 0)
    assert refused(book, enter) == "a debt of the account is not borrowable in the e-mode"


def test_leaving_no_emode_is_not_checked_to_31() -> None:
    """Health is below 1 in any case: 3.1 asks for it only when another category is left."""
    for revision, passes in ((4, True), (5, False)):
        book = toy(revision)
        for name, value in (
            ("emode_ltv", 8500),
            ("emode_liquidation_threshold", 8600),
            ("emode_liquidation_bonus", 10100),
        ):
            book.param(name, value, category=1)
        book.param("emode_category", 1, asset=DEBT)
        book.param("emode_borrowable", 1, asset=DEBT, category=1)
        book.borrow(DEBT, 90_000)
        outcome = act(book.state, setting("emode", "emode", 1), book.prices, NOW)  # type: ignore[arg-type]
        assert isinstance(outcome, Acted) == passes


def test_rounding_is_against_the_user_from_35_on() -> None:
    """Index 1.5: 100 are 66.67 scaled; 3.0 rounds both to 67; from 3.5 on a supply is 66, a withdrawal and a debt 67, a
    repayment 66.
    """
    index = 3 * RAY // 2
    for revision, (supplied, withdrawn, borrowed, repaid) in ((V30, (67, -67, 67, -67)), (V36, (66, -67, 67, -66))):
        book = toy(revision, supply_index=index, borrow_index=index)
        book.borrow(DEBT, 1_000)
        for action, delta in (
            (moved("supply", (ALICE, COL, "collateral", 100)), supplied),
            (withdraw(100), withdrawn),
            (borrow(100), borrowed),
            (moved("repay", (ALICE, DEBT, "debt", -100)), repaid),
        ):
            assert [c.delta for c in made(book, action).changes if isinstance(c, PositionChange)] == [delta], (
                revision,
                action.name,
            )


def test_a_missing_price_is_a_refusal() -> None:
    book = toy(V36)
    book.borrow(DEBT, 1)
    del book.prices[COL]
    assert refused(book, withdraw(1)).startswith("block 100: no oracle price of COL")
