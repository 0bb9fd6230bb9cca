"""Laws of a liquidation over random positions, every version: conservation, purity, bad debt, health, what is offered
instead of dust.
"""

from __future__ import annotations

import copy

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backtest.model import Clock
from backtest.protocols.aave_v3.account import account_data
from backtest.protocols.aave_v3.interest import UNPLACED
from backtest.protocols.aave_v3.rules import RULES
from backtest.protocols.interface import Fill, Refusal
from backtest.units import RAY, WAD
from tests.support.aave_books import ALICE, COL, DEBT, LIQUIDATOR, NOW, ONE, OTHER, START, TREASURY, Toy

FROM_33 = [7, 8, 9, 10, 11]
BALANCES = st.integers(1, 10**24)
INDEX = st.integers(RAY, 5 * RAY)


@st.composite
def toxic_or_not(draw: st.DrawFn) -> Toy:
    """Any revision; two collaterals, two debts, random indexes and prices, a health anywhere below 1."""
    toy = Toy(draw(st.sampled_from(list(RULES))))
    units = [10 ** draw(st.sampled_from([2, 6, 8, 18])) for _ in range(3)]
    for asset in (COL, DEBT, OTHER):
        toy.state.reserves[asset].unit = units[asset]
        toy.index(asset, draw(INDEX), draw(INDEX), draw(st.integers(0, RAY)), draw(st.integers(0, RAY)))
        toy.prices[asset] = draw(st.integers(1, 10**13))
        toy.param("liquidation_bonus", draw(st.integers(10_000, 12_000)), asset=asset)
        toy.param("liquidation_protocol_fee", draw(st.sampled_from([0, 1000, 5000, 10_000])), asset=asset)
    toy.supply(COL, draw(BALANCES))
    toy.borrow(DEBT, draw(BALANCES))
    if draw(st.booleans()):
        toy.supply(OTHER, draw(BALANCES))
    if draw(st.booleans()):
        toy.borrow(OTHER, draw(BALANCES))
    health = account_data(toy.state, ALICE, toy.prices, NOW).health_factor  # type: ignore[arg-type]
    wanted = draw(st.integers(WAD // 10, WAD))
    if health > wanted:  # cheaper collateral
        toy.prices[COL] = max(1, (toy.prices[COL] or 0) * wanted // health)
    return toy


@settings(max_examples=400, deadline=None)
@given(toxic_or_not(), st.one_of(st.none(), st.integers(1, 10**26)), st.booleans(), st.integers(0, 10**7))
def test_laws_of_a_fill(toy: Toy, repay: int | None, tokens: bool, elapsed: int) -> None:
    now = Clock(200, 0, START + elapsed)
    rules = toy.state.rules
    before = copy.deepcopy(toy.state)
    answer = toy.quote(toy.order(repay, tokens=tokens), now)
    assert toy.state == before, "a quote changes nothing"
    if isinstance(answer, Refusal) and answer.instead is not None:
        assert repay is None or answer.instead < repay
        assert toy.fill(toy.order(answer.instead, tokens=tokens), now).repaid == answer.instead
    assume(isinstance(answer, Fill))
    fill = toy.liquidate(toy.order(repay, tokens=tokens), now)
    assert fill == answer

    def supply(account: int) -> int:
        book = before.accounts.get(account)  # type: ignore[call-overload]
        return toy.scaled("collateral", COL, account) - (book.collateral.get(COL, 0) if book else 0)  # type: ignore[arg-type]

    income = before.reserves[COL].income(now.timestamp)
    index = before.reserves[DEBT].debt_index(now.timestamp, rules)
    held, owed = before.accounts[ALICE].collateral[COL], before.accounts[ALICE].debt[DEBT]
    collateral, debt = rules.collateral_balance(held, income), rules.debt_balance(owed, index)
    # Conservation: what leaves the borrower reaches the liquidator and the treasury, or is burned for the liquidator.
    burned = -(supply(ALICE) + supply(LIQUIDATOR) + supply(TREASURY))
    assert burned == (0 if tokens else rules.collateral_scaled(fill.seized, income))
    assert toy.state.reserves[COL].scaled_supply == before.reserves[COL].scaled_supply - burned
    assert 0 <= fill.repaid <= debt
    assert fill.repaid or fill.deficits, "only the last worthless collateral may be had for nothing"
    assert fill.seized + fill.protocol_fee <= collateral + 1, "the fee may round up by one where it is capped"
    assert repay is None or fill.repaid <= repay
    # A flag is never left on for what is gone, and never on the receiver from 3.6.
    if not toy.scaled("collateral", COL) and not tokens and rules.revision == 11:
        assert not toy.enabled(COL)
    assert rules.receiver_enables or not toy.enabled(COL, LIQUIDATOR)
    # Bad debt: written off whole or not at all; deficits are booked.
    # What is repaid may burn all of a debt by its rounding, though its balance is a unit more.
    paid_off = rules.debt_scaled(fill.repaid, index) >= owed
    if fill.deficits or (rules.writes_off and not toy.scaled("debt", DEBT) and not paid_off):
        assert not toy.state.accounts[ALICE].debt
        assert sum(reserve.deficit for reserve in toy.state.reserves) == sum(amount for _, amount in fill.deficits)
    if not rules.writes_off:
        assert not fill.deficits
    for change in fill.changes:
        assert (change.seq, change.block_number, change.timestamp) == (UNPLACED, 200, now.timestamp)


@settings(max_examples=200, deadline=None)
@given(
    revision=st.sampled_from(FROM_33),
    debt=st.integers(2_000_00, 3_500_00),
    collateral=st.integers(2_000_00, 3_500_00),
    prices=st.tuples(st.integers(ONE, ONE * 11 // 10), st.integers(ONE, ONE * 11 // 10)),
    health=st.integers(955, 999),
)
def test_what_is_offered_instead_of_dust_goes_through_and_is_the_most(
    revision: int, debt: int, collateral: int, prices: tuple[int, int], health: int
) -> None:
    """One reserve's debt and collateral of an account with more of both elsewhere: the whole close factor may leave
    dust of the collateral.
    """
    toy = Toy(revision)
    toy.supply(COL, collateral)
    toy.borrow(DEBT, debt)
    toy.borrow(OTHER, 2_000_00)
    toy.prices[COL], toy.prices[DEBT] = prices
    owed = debt * prices[1] + 2_000_00 * ONE
    toy.supply(OTHER, max(owed * health // 1000 * 10_000 // 8000 - collateral * prices[0], 0) // ONE + 1)
    answer = toy.quote()
    assume(isinstance(answer, Refusal) and answer.instead is not None)
    assert isinstance(answer, Refusal)
    assert answer.instead is not None
    assert toy.fill(toy.order(answer.instead)).repaid == answer.instead
    assert "dust" in toy.refusal(toy.order(answer.instead + 10))


@settings(max_examples=200, deadline=None)
@given(
    revision=st.sampled_from(list(RULES)),
    debt=st.integers(10**12, 10**22),
    health=st.integers(900, 999),
    bonus=st.integers(10_000, 10_900),
    share=st.integers(1, 100),
)
def test_health_does_not_fall_where_the_collateral_pays_for_the_bonus(
    revision: int, debt: int, health: int, bonus: int, share: int
) -> None:
    """With one collateral worth more than debt times bonus, a liquidation improves health (up to rounding)."""
    toy = Toy(revision, decimals=6)
    collateral = debt * health * 10 // 8000
    toy.param("liquidation_bonus", bonus, asset=COL)
    assume(collateral * 10_000 > debt * bonus)
    toy.supply(COL, collateral)
    toy.borrow(DEBT, debt)
    before = account_data(toy.state, ALICE, toy.prices, NOW).health_factor  # type: ignore[arg-type]
    answer = toy.quote(toy.order(debt * share // 100))
    assume(isinstance(answer, Fill))
    toy.liquidate(toy.order(debt * share // 100))
    after = account_data(toy.state, ALICE, toy.prices, NOW).health_factor  # type: ignore[arg-type]
    assert after >= before - before // 10**6
