"""Whether a reserve can pay: hand-worked, plain and compiled, in both rate modes."""

from __future__ import annotations

from copy import deepcopy

import pytest

from backtest.model import AccountId, AssetId, Clock, ParamChange, PositionChange, Prices
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.actions import NO_LIQUIDITY
from backtest.protocols.aave_v3.liquidation import CANNOT_PAY
from backtest.protocols.aave_v3.rules import RULES
from backtest.protocols.aave_v3.state import MOVED, MOVED_SHORT, largest_of, open_accounts
from backtest.protocols.interface import Acted, Action, Opening, Refusal
from tests.support.aave_books import ALICE, BOB, COL, DEBT, NOW, ONE, OTHER, START, Toy
from tests.support.aave_moments import BORROWERS, compare

SEIZED = 5_225_00
"""5000 of debt repaid: 5250 with the bonus, of which the treasury gets a tenth of 250."""


def told(revision: int, liquidity: int, debt: AssetId = DEBT) -> Toy:
    """A health just above 0.95: half of the debt is repaid. COL and its reserve's liquidity, DEBT with plenty."""
    toy = Toy(revision)
    toy.supply(COL, 11_876_00)
    toy.borrow(debt, 10_000_00)
    for asset, amount in ((COL, liquidity), (DEBT, 10**9)):
        toy.state.reserves[asset].told, toy.state.reserves[asset].liquidity = True, amount
    return toy


def change(asset: AssetId, side: str, delta: int, action: str, amount: int | None) -> PositionChange:
    at = {"seq": 5, "block_number": 99, "log_index": 7, "timestamp": START, "action_seq": 5}
    return PositionChange(**at, account=BOB, asset=asset, side=side, delta=delta, action=action, amount=amount)  # type: ignore[arg-type]


@pytest.mark.parametrize("revision", RULES)
@pytest.mark.parametrize("debt", [DEBT, COL], ids=["two assets", "one asset: what is repaid arrives last"])
def test_all_of_the_liquidity_may_be_taken_and_no_unit_more(revision: int, debt: AssetId) -> None:
    toy = told(revision, SEIZED, debt)
    fill = toy.fill(toy.order(debt=debt))
    assert fill.seized == SEIZED
    toy.liquidate(toy.order(debt=debt))
    assert toy.state.reserves[COL].liquidity == (5_000_00 if debt == COL else 0)
    short = told(revision, SEIZED - 1, debt)
    refusal = short.quote(short.order(debt=debt))
    assert refusal == Refusal(CANNOT_PAY, unpaid=(COL, SEIZED))


@pytest.mark.parametrize("revision", RULES)
def test_tokens_are_not_asked_for_and_take_no_liquidity(revision: int) -> None:
    toy = told(revision, 0)
    toy.liquidate(toy.order(tokens=True))
    assert (toy.state.reserves[COL].liquidity, toy.state.reserves[DEBT].liquidity) == (0, 10**9 + 5_000_00)


def test_a_smaller_repayment_may_still_be_paid() -> None:
    toy = told(3, 1_045_00)
    assert toy.fill(toy.order(1_000_00)).seized == 1_045_00
    assert toy.refusal(toy.order(1_000_01)) == CANNOT_PAY


def test_recomputed_interest_refuses_where_it_ended_the_replay() -> None:
    toy = told(10, SEIZED - 1)
    toy.state.recompute = True
    assert toy.refusal() == CANNOT_PAY


def test_what_the_logs_do_not_tell_is_not_asked() -> None:
    """A reserve with a call of no amount, with stable-rate debt, with less than nothing; before the book is whole."""
    untold = told(3, 0)
    untold.do(change(COL, "collateral", 1, "supply", None))
    stable = told(3, 0)
    stable.setting("stable_principal", 0, COL, BOB)
    negative, early = told(3, -1), told(3, 0)
    early.state.told_from = NOW.block_number + 1
    for toy in (untold, stable, negative, early):
        assert toy.fill().seized == SEIZED


def test_logged_amounts_move_liquidity() -> None:
    toy = told(3, 0)
    reserve = toy.state.reserves[COL]
    steps = (
        ("collateral", 90, "supply", 100, 100),
        ("debt", 20, "borrow", 30, 70),
        ("debt", -5, "repay", 7, 77),
        ("collateral", -10, "withdraw", 11, 66),
        ("collateral", -4, "repay", 4, 62),  # with tokens: the debt's change brings the same
        ("collateral", 3, "transfer", 3, 62),
        ("collateral", 2, "treasury", 2, 62),
        ("collateral", -1, "cover", 1, 62),
        ("collateral", -1, "liquidation", None, 62),
    )
    for side, delta, action, amount, after in steps:
        toy.do(change(COL, side, delta, action, amount))
        assert (reserve.liquidity, reserve.told) == (after, True), action
    toy.param("flash_premium", 5, COL)
    assert reserve.liquidity == 67


def test_an_opening_brings_what_it_leaves_out() -> None:
    toy = Toy(3)
    for reserve in toy.state.reserves:
        reserve.told = True
    moved = [(COL, "collateral", "supply", 50), (COL, "debt", "borrow", 20), (OTHER, "collateral", "supply", None)]
    open_accounts(toy.state, Opening([(BOB, COL, "collateral", 50)], [], moved, 7))  # type: ignore[arg-type]
    assert toy.state.reserves[COL].liquidity == 30
    assert [reserve.told for reserve in toy.state.reserves] == [True, True, False]
    assert toy.state.told_from == 7


@pytest.mark.parametrize(("name", "side", "sign"), [("withdraw", "collateral", -1), ("borrow", "debt", 1)])
def test_users_take_no_more_than_there_is(name: str, side: str, sign: int) -> None:
    toy = told(10, 500)
    toy.supply(COL, 5_000, BOB)
    toy.supply(OTHER, 5_000, BOB)
    toy.state.reserves[COL].told = True
    toy.param("borrowing_enabled", 1, COL)

    def act(amount: int) -> Acted | Refusal:
        action = Action(name, (change(COL, side, sign * amount, name, amount),))
        oracle = {COL: ONE, DEBT: ONE, OTHER: ONE}
        return AAVE_V3.act(toy.state, action, Prices(oracle, oracle, oracle), NOW)

    assert act(501) == Refusal(NO_LIQUIDITY)
    done = act(500)
    assert isinstance(done, Acted)
    for effect in done.changes:
        toy.do(effect)
    assert toy.state.reserves[COL].liquidity == 0


# -- plain and compiled ------------------------------------------------------------------------------------------------


def several(liquidity: int) -> tuple[Toy, Prices, Clock]:
    toy = Toy(10, 18)
    for account, share in zip(BORROWERS, (7_500, 8_000), strict=True):
        toy.supply(COL, 9_300 * 10**18, account)
        toy.borrow(DEBT, share * 10**18, account)
    for asset, amount in ((COL, liquidity), (DEBT, 10**30)):
        toy.state.reserves[asset].told, toy.state.reserves[asset].liquidity = True, amount
    oracle = dict.fromkeys((COL, DEBT, OTHER), ONE)
    return toy, Prices(oracle, oracle, oracle), NOW


def test_together_pays_as_one_by_one_where_there_is_plenty() -> None:
    toy, prices, now = several(10**30)
    before = [reserve.liquidity for reserve in toy.state.reserves]
    plain = deepcopy(toy.state)
    found = compare(toy.state, list(BORROWERS), prices, now)
    assert found is not None
    assert found.account
    for row in range(len(found.account)):
        fill = found.fill(row)
        assert {change.name for change in fill.changes if isinstance(change, ParamChange)} >= {MOVED}
        for effect in fill.changes:
            AAVE_V3.apply(plain, effect)
    after = [reserve.liquidity for reserve in toy.state.reserves]
    assert after == [reserve.liquidity for reserve in plain.reserves]
    assert after == [before[0] - sum(found.seized), before[1] + sum(found.repaid), before[2]]


@pytest.mark.parametrize("liquidity", [0, 9_300 * 10**18 - 1, 10**22])
def test_where_one_may_leave_too_little_for_another_the_plain_rules_decide(liquidity: int) -> None:
    toy, prices, now = several(liquidity)
    assert AAVE_V3.together(toy.state, list(BORROWERS), prices, now, AccountId(1), cost=0, calls={}, most=10) is None
    fill = toy.quote()
    if liquidity:
        assert not isinstance(fill, Refusal)
        assert MOVED_SHORT in {change.name for change in fill.changes if isinstance(change, ParamChange)}
    else:
        assert isinstance(fill, Refusal)


def test_the_largest_borrower_is_asked_again_when_it_changes() -> None:
    toy, _, _ = several(10**30)
    assert largest_of(toy.state, COL) == 9_300 * 10**18
    toy.supply(COL, 1, ALICE)
    assert largest_of(toy.state, COL) == 9_300 * 10**18 + 1
    toy.supply(OTHER, 10**30, AccountId(1))  # a lender alone counts for nothing
    assert largest_of(toy.state, OTHER) == 0
