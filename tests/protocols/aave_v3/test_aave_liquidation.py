"""One liquidation call by every version of the rules: hand-worked vectors, boundaries and refusals."""

from __future__ import annotations

import pytest

from backtest.errors import RulesError
from backtest.model import AssetId, Clock, HistoricalLiquidation, PositionChange, SettingChange
from backtest.protocols.aave_v3.account import account_data
from backtest.protocols.aave_v3.liquidation import observed_order, pairs
from backtest.protocols.aave_v3.rules import RULES
from backtest.protocols.interface import Fill, Order, Pair, Refusal
from backtest.units import RAY, WAD
from tests.support.aave_books import ALICE, BOB, COL, DEBT, LIQUIDATOR, NOW, ONE, OTHER, START, TREASURY, Toy

TO_32, FROM_33 = [1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11]


def small(revision: int, collateral: int = 1001, debt: int = 1001) -> Toy:
    """Indexes of 1.5 (supply) and 1.25 (borrow), dollar prices, two decimals: every rounding shows in the last
    digit.
    """
    toy = Toy(revision, supply_index=RAY * 3 // 2, borrow_index=RAY * 5 // 4)
    toy.supply(COL, collateral)
    toy.borrow(DEBT, debt)
    return toy


# -- Rounding, version by version ------------------------------------------------------------------------------------
#
# 1001 scaled of each: collateral 1501.5, debt 1251.25 native; health about 0.96, worth some 15 dollars.
#
# 3.0-3.2: C = 1502, D = 1251; half of D = 625.5 -> 626. base 626, with bonus 657.3 -> 657. Without: 657 / 1.05 = 625.7
# -> 626, bonus part 31, fee 3.1 -> 3, seized 654. Scaled: debt 626 / 1.25 = 500.8 -> 501; 654 / 1.5 = 436; fee 3 / 1.5
# = 2. 3.3-3.4: a small position: all of D = 1251. With bonus 1313.55 -> 1314; 1314 / 1.05 = 1251.43 -> 1251, bonus part
# 63, fee 6.3 -> 6, seized 1308. Scaled: debt 1000.8 -> 1001, all of it; 872; fee 4. 3.5-3.6: C = 1501, D = 1252. With
# bonus 1314.6 -> 1315; 1252.38 -> 1252, bonus part 63, fee 6, seized 1309. Scaled: debt 1001.6 -> 1001; 872.67 -> 873;
# fee 4. 3.7:     with bonus 1314.6 -> 1314; 1251.43 -> 1251, bonus part 63, fee 6.3 -> 7, seized 1307. Scaled: 1001;
# 871.33 -> 872; 4.67 -> 5.
PARTIAL = {
    **dict.fromkeys(TO_32, (626, 654, 3, 501, 436, 2)),
    **dict.fromkeys([7, 8], (1251, 1308, 6, 1001, 872, 4)),
    **dict.fromkeys([9, 10], (1252, 1309, 6, 1001, 873, 4)),
    11: (1252, 1307, 7, 1001, 872, 5),
}


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("revision", RULES)
def test_a_call_that_leaves_collateral(revision: int, tokens: bool) -> None:
    toy = small(revision)
    fill = toy.liquidate(toy.order(tokens=tokens))
    repaid, seized, fee, debt_scaled, seized_scaled, fee_scaled = PARTIAL[revision]
    assert (fill.repaid, fill.seized, fill.protocol_fee, fill.deficits) == (repaid, seized, fee, ())
    assert toy.scaled("debt", DEBT) == 1001 - debt_scaled
    assert toy.scaled("collateral", COL) == 1001 - seized_scaled - fee_scaled
    assert toy.scaled("collateral", COL, TREASURY) == fee_scaled
    assert toy.scaled("collateral", COL, LIQUIDATOR) == (seized_scaled if tokens else 0)
    assert toy.enabled(COL)
    # To 3.5 a liquidator who held none of the tokens has them enabled as collateral.
    assert toy.enabled(COL, LIQUIDATOR) == (tokens and revision <= 9)
    assert fill.rules_tested == RULES[revision].tested
    assert fill.rules == RULES[revision].label


# 1002 scaled collateral = 1503 native exactly, debt 2001 * 1.25 = 2501.25: the collateral limits the call. Also 77 *
# 1.25 = 96.25 of OTHER. 1503 / 1.05 = 1431.43: to 3.4 half up 1431, from 3.5 up 1432. to 3.6: bonus part 1503 - 1431 =
# 72, fee 7.2 -> 7, seized 1496. 3.7: 72, fee -> 8, seized 1495. Scaled collateral: to 3.4 997.33 -> 997 and 4.67 -> 5,
# all 1002; 3.5-3.6: 998 and 5, but only 4 are left: 4 * 1.5 = 6 of fee; 3.7: 996.67 -> 997 and 5.33 -> 6, but 5 are
# left: 7.5 -> 7 of fee. Scaled debt to 3.2: 1431 / 1.25 = 1144.8 -> 1145. From 3.3 all debt goes: 2501 - 1431 = 2502 -
# 1432 = 1070 lost, and 96 or 97 of OTHER.
TOXIC = {
    **dict.fromkeys(TO_32, (1431, 1496, 7, 856, 5, ())),
    **dict.fromkeys([7, 8], (1431, 1496, 7, 0, 5, ((DEBT, 1070), (OTHER, 96)))),
    **dict.fromkeys([9, 10], (1432, 1496, 6, 0, 4, ((DEBT, 1070), (OTHER, 97)))),
    11: (1432, 1495, 7, 0, 5, ((DEBT, 1070), (OTHER, 97))),
}


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("revision", RULES)
def test_a_call_that_takes_all_collateral_and_leaves_bad_debt(revision: int, tokens: bool) -> None:
    toy = small(revision, 1002, 2001)
    toy.borrow(OTHER, 77)
    toy.param("deficit_created", 30, asset=OTHER)
    fill = toy.liquidate(toy.order(tokens=tokens))
    repaid, seized, fee, debt_left, fee_scaled, deficits = TOXIC[revision]
    assert (fill.repaid, fill.seized, fill.protocol_fee, fill.deficits) == (repaid, seized, fee, deficits)
    assert toy.scaled("collateral", COL) == 0
    assert not toy.enabled(COL)
    assert toy.scaled("collateral", COL, TREASURY) == fee_scaled
    assert toy.scaled("collateral", COL, LIQUIDATOR) == (1002 - fee_scaled if tokens else 0)
    assert toy.scaled("debt", DEBT) == debt_left
    assert toy.scaled("debt", OTHER) == (77 if revision in TO_32 else 0)
    lost = dict(deficits)
    assert [reserve.deficit for reserve in toy.state.reserves] == [0, lost.get(DEBT, 0), 30 + lost.get(OTHER, 0)]


def test_other_debts_are_written_off_in_order_of_reserve_id() -> None:
    toy = small(10, 1002, 2001)
    toy.borrow(OTHER, 77)
    toy.borrow(COL, 9)
    toy.state.reserves[OTHER].reserve_id, toy.state.reserves[COL].reserve_id = 0, 2
    assert [asset for asset, _ in toy.fill().deficits] == [DEBT, OTHER, COL]
    toy.param("active", 0, asset=OTHER)  # a reserve that is not active keeps its bad debt
    assert [asset for asset, _ in toy.fill().deficits] == [DEBT, COL]


def test_all_debt_repaid_with_all_collateral_has_no_deficit() -> None:
    """Collateral 105 and debt 100 at a price where both end together: all is taken and nothing is lost."""
    for revision in FROM_33:
        toy = Toy(revision)
        toy.param("liquidation_protocol_fee", 0, asset=COL)
        toy.supply(COL, 105)
        toy.borrow(DEBT, 100)
        fill = toy.liquidate()
        assert (fill.repaid, fill.seized, fill.deficits) == (100, 105, ())
        assert not toy.enabled(COL)


def test_worthless_leftovers_count_as_none() -> None:
    """18 decimals: a few wei of collateral left are worth 0 base units, so 3.3+ writes the rest off; the flag shows
    which version decides how.

    Debt of 1.0 DEBT (2 decimals) worth 1 dollar; collateral 1.05e18 + 5 wei, bonus 5 %, no fee. Repaying 1.0 takes
    1.05e18; 5 wei stay.
    """
    for revision in FROM_33:
        toy = Toy(revision)
        toy.state.reserves[COL].unit = 10**18
        toy.param("liquidation_protocol_fee", 0, asset=COL)
        toy.supply(COL, 105 * 10**16 + 5)
        toy.borrow(DEBT, 100)
        toy.borrow(OTHER, 40)
        fill = toy.liquidate()
        assert (fill.repaid, fill.seized) == (100, 105 * 10**16)
        assert fill.deficits == ((OTHER, 40),)
        assert toy.scaled("collateral", COL) == 5
        assert toy.enabled(COL) == (revision <= 10)  # 3.7 clears the flag with the write-off


# -- Close factor ----------------------------------------------------------------------------------------------------


def large(revision: int, collateral: int = 11_876_00, debts: dict[AssetId, int] | None = None) -> Toy:
    """Indexes of 1, whole dollars with two decimals; a health just above 0.95 by default (11876 * 0.8 / 10000)."""
    toy = Toy(revision)
    toy.supply(COL, collateral)
    for asset, amount in (debts or {DEBT: 10_000_00}).items():
        toy.borrow(asset, amount)
    return toy


@pytest.mark.parametrize("revision", RULES)
def test_half_above_a_health_of_095_all_at_it(revision: int) -> None:
    assert large(revision).fill().repaid == 5_000_00
    at = large(revision, 11_875_00)  # exactly 0.95
    assert account_data(at.state, ALICE, at.prices, NOW).health_factor == 95 * WAD // 100  # type: ignore[arg-type]
    assert at.fill().repaid == 10_000_00


@pytest.mark.parametrize("revision", RULES)
def test_the_close_factor_is_of_the_reserve_to_32_and_of_the_position_after(revision: int) -> None:
    toy = large(revision, debts={DEBT: 3_000_00, OTHER: 7_000_00})
    assert toy.fill().repaid == (1_500_00 if revision in TO_32 else 3_000_00)
    assert toy.fill(toy.order(debt=OTHER)).repaid == (3_500_00 if revision in TO_32 else 5_000_00)


@pytest.mark.parametrize("revision", FROM_33)
def test_small_positions_are_liquidated_whole(revision: int) -> None:
    # Debt of 2000 and 1999.99 dollars beside another debt, so that health stays between 0.95 and 1.
    at = large(revision, 2_376_00, {DEBT: 2_000_00})
    assert at.fill().repaid == 1_000_00
    below = large(revision, 2_375_98, {DEBT: 1_999_99})
    assert below.fill().repaid == 1_999_99
    # Debt of 3000 with 1999.99 dollars of collateral in the reserve (the rest of it in another one): all debt, limited
    # to 1999.99 / 1.05 = 1904.752. With 2000.00 half of the debt is the most, which would leave 425 dollars of
    # collateral; 952.38 takes 1000.00 and leaves 1000.
    toy = large(revision, 1_999_99, {DEBT: 3_000_00})
    toy.supply(OTHER, 1_564_01)
    assert toy.fill().repaid == (1_904_75 if revision <= 8 else 1_904_76)
    toy = large(revision, 2_000_00, {DEBT: 3_000_00})
    toy.supply(OTHER, 1_564_00)
    refusal = toy.quote()
    assert isinstance(refusal, Refusal)
    assert ("dust" in refusal.reason, refusal.instead) == (True, 952_38)
    assert toy.fill(toy.order(952_38)).repaid == 952_38
    assert "dust" in toy.refusal(toy.order(952_40))


@pytest.mark.parametrize("revision", RULES)
def test_an_overridden_close_factor_replaces_the_half(revision: int) -> None:
    toy = large(revision)
    toy.param("close_factor", 3000)
    assert toy.fill().repaid == 3_000_00
    at = large(revision, 11_875_00)
    at.param("close_factor", 3000)
    assert at.fill().repaid == 10_000_00


@pytest.mark.parametrize("revision", RULES)
def test_more_than_allowed_is_all_that_is_allowed(revision: int) -> None:
    toy = large(revision)
    everything = toy.fill()
    assert toy.fill(toy.order(10**30)).changes == toy.fill(toy.order(5_000_00)).changes == everything.changes
    assert toy.fill(toy.order(4_000_00)).repaid == 4_000_00


# -- Dust ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", RULES)
def test_no_dust_from_33(revision: int) -> None:
    """Debt 10000 at a health below 0.95: 9000 may be repaid (1000 left), 9000.01 may not, 10000 may."""
    toy = large(revision, 11_000_00)
    assert toy.fill(toy.order(9_000_00)).repaid == 9_000_00
    if revision in TO_32:
        assert toy.fill(toy.order(9_000_01)).repaid == 9_000_01
    else:
        assert "dust" in toy.refusal(toy.order(9_000_01))
    assert toy.fill(toy.order(10_000_00)).repaid == 10_000_00


@pytest.mark.parametrize("revision", FROM_33)
def test_collateral_dust(revision: int) -> None:
    """10500 dollars of debt, 9450 of collateral: repaying 8047.62 takes 8450.00 and leaves exactly 1000; one cent more
    leaves dust.
    """
    toy = large(revision, 9_450_00, {DEBT: 10_500_00})
    assert toy.fill(toy.order(8_047_62)).repaid == 8_047_62
    assert "dust" in toy.refusal(toy.order(8_047_64))
    assert toy.fill().repaid == 9_000_00  # all collateral


# -- Which collateral, which bonus -----------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", RULES)
def test_emode_bonus(revision: int) -> None:
    toy = large(revision, 10_300_00)
    toy.param("liquidation_protocol_fee", 0, asset=COL)
    toy.param("emode_liquidation_threshold", 9500, category=1)
    toy.param("emode_liquidation_bonus", 10200, category=1)
    toy.param("emode_category", 1, asset=COL)
    toy.param("emode_collateral", 1, asset=COL, category=1)
    toy.setting("emode", 1)
    fill = toy.fill()  # 10300 * 0.95 / 10000 = 0.9785: half, with 2 %
    assert (fill.repaid, fill.seized) == (5_000_00, 5_100_00)
    toy.param("emode_collateral" if revision >= 5 else "emode_category", 0, asset=COL, category=1)
    assert toy.fill().seized > 5_200_00  # back to 80 % and 5 %


@pytest.mark.parametrize("revision", RULES)
def test_collateral_without_a_base_threshold(revision: int) -> None:
    """3.6 liquidates what is flagged, with the bonus of the e-mode; before, an asset without a base threshold is out of
    reach.
    """
    toy = large(revision)
    toy.param("emode_liquidation_threshold", 8000, category=1)
    toy.param("emode_liquidation_bonus", 10500, category=1)
    toy.param("emode_collateral", 1, asset=COL, category=1)
    toy.param("emode_category", 1, asset=COL)
    toy.param("liquidation_threshold", 0, asset=COL)
    toy.param("liquidation_bonus", 0, asset=COL)
    toy.setting("emode", 1)
    if revision >= 10:
        assert toy.fill().repaid == 5_000_00
    else:
        assert toy.refusal() == "the asset is not enabled as collateral"
        assert not pairs(toy.state, ALICE, toy.prices, NOW)  # type: ignore[arg-type]


def test_decimals_and_prices() -> None:
    """3.6: 30000 USDC-like debt (6 decimals) against 10 ETH-like (18) at 3700: health 37000 * 0.8 / 30000 = 0.98667.

    Half: 15000e6 repaid. base = 1e8 * 15000e6 * 1e18 / (3700e8 * 1e6) = 4054054054054054054 (.05); with 5 %:
        4256756756756756756.7 -> ...757.
    Without: 4256756756756756757 / 1.05 = 4054054054054054054.3 -> 4054054054054054054, bonus part 202702702702702703, a
    tenth is 20270270270270270.3 -> 20270270270270270.
    """
    toy = Toy(10)
    toy.state.reserves[COL].unit, toy.state.reserves[DEBT].unit = 10**18, 10**6
    toy.prices[COL] = 3700 * ONE
    toy.supply(COL, 10 * 10**18)
    toy.borrow(DEBT, 30_000 * 10**6)
    fill = toy.fill()
    assert (fill.repaid, fill.protocol_fee) == (15_000 * 10**6, 20270270270270270)
    assert fill.seized == 4256756756756756757 - 20270270270270270


# -- Refusals --------------------------------------------------------------------------------------------------------


def test_refusals_name_their_reason() -> None:
    toy = large(10)
    assert toy.refusal(toy.order(by=ALICE)) == "self-liquidation is forbidden"
    assert toy.refusal(toy.order(debt=OTHER)) == "the account has no debt in this asset"
    assert toy.refusal(toy.order(collateral=OTHER)) == "the asset is not enabled as collateral"
    assert "no debt token would be burned" in toy.refusal(toy.order(0)) or "no collateral token" in toy.refusal(
        toy.order(0)
    )
    toy.prices[DEBT] = None
    assert "no oracle price of DEBT" in toy.refusal()
    toy.prices[DEBT] = ONE * 9 // 10
    assert toy.refusal() == "health factor is not below 1"
    for name, reason in (("paused", "reserve is paused"), ("active", "reserve is not active")):
        toy = large(10)
        for asset in (COL, DEBT):
            toy.param(name, int(name == "paused"), asset=asset)
            assert toy.refusal() == reason
            assert not pairs(toy.state, ALICE, toy.prices, NOW)  # type: ignore[arg-type]
            toy.param(name, int(name != "paused"), asset=asset)
        assert toy.fill()


def test_an_account_at_a_health_of_exactly_one_is_safe() -> None:
    for revision in RULES:
        toy = large(revision, 12_500_00)
        assert toy.refusal() == "health factor is not below 1"
        toy.prices[COL] = ONE - 1
        assert toy.fill()


@pytest.mark.parametrize("revision", RULES)
def test_grace_period_from_31_ends_after_its_second(revision: int) -> None:
    toy = large(revision)
    toy.param("grace_until", START, asset=DEBT)
    if revision <= 3:
        assert toy.fill()
    else:
        assert "grace period" in toy.refusal()
        assert not pairs(toy.state, ALICE, toy.prices, NOW)  # type: ignore[arg-type]
        assert toy.fill(now=Clock(101, 0, START + 1))


@pytest.mark.parametrize("revision", RULES)
def test_an_unknown_treasury_is_an_error_only_where_a_fee_is_due(revision: int) -> None:
    toy = large(revision)
    toy.state.reserves[COL].treasury = None
    with pytest.raises(RulesError, match="block 100: asset 0 pays a liquidation fee and its treasury is unknown"):
        toy.quote()
    toy.param("liquidation_protocol_fee", 0, asset=COL)
    assert toy.fill().protocol_fee == 0


def test_before_the_rules_are_known() -> None:
    toy = large(10)
    toy.state.revision = None
    with pytest.raises(RulesError, match="no pool revision is known yet"):
        toy.quote()


# -- Receivers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [3, 4, 6, 7, 8, 9])
def test_when_received_tokens_become_collateral(revision: int) -> None:
    def enabled_after(toy: Toy) -> bool:
        toy.liquidate(toy.order(tokens=True))
        return toy.enabled(COL, LIQUIDATOR)

    assert enabled_after(large(revision))
    had = large(revision)
    had.supply(COL, 1, LIQUIDATOR, enabled=False)
    assert not enabled_after(had)
    no_ltv = large(revision)
    no_ltv.param("ltv", 0, asset=COL)
    assert not enabled_after(no_ltv)
    isolated_asset = large(revision)
    isolated_asset.param("debt_ceiling", 1, asset=COL)
    assert not enabled_after(isolated_asset)
    isolated_liquidator = large(revision)
    isolated_liquidator.param("debt_ceiling", 1, asset=OTHER)
    isolated_liquidator.supply(OTHER, 1, LIQUIDATOR)
    assert not enabled_after(isolated_liquidator)
    other_collateral = large(revision)
    other_collateral.supply(OTHER, 1, LIQUIDATOR)
    assert enabled_after(other_collateral)


@pytest.mark.parametrize("revision", [1, 4, 6, 7])
def test_self_liquidation_to_33(revision: int) -> None:
    toy = small(revision, 1002, 2001)
    toy.liquidate(toy.order(tokens=True, by=ALICE))
    # All 1002 scaled were taken, 997 came back to the same account and 5 went to the treasury; only 3.3 enables them
    # again.
    assert toy.scaled("collateral", COL) == 997
    assert toy.enabled(COL) == (revision == 7)
    assert toy.scaled("debt", DEBT) == (0 if revision == 7 else 856)


# -- Stable debt -----------------------------------------------------------------------------------------------------


def stable(revision: int = 3) -> Toy:
    """1000 of variable and 9000 of stable debt (at 0 %) against 11876: health just above 0.95."""
    toy = large(revision, debts={DEBT: 1_000_00})
    for name, value in (("stable_principal", 9_000_00), ("stable_rate", 7), ("stable_since", START - 100)):
        toy.setting(name, value, DEBT)
    return toy


def test_variable_debt_is_repaid_before_stable() -> None:
    toy = stable()
    fill = toy.liquidate()
    assert fill.repaid == 5_000_00
    assert toy.scaled("debt", DEBT) == 0
    left = toy.state.accounts[ALICE].stable[DEBT]
    assert (left.principal, left.rate, left.since) == (5_000_00, 7, START)
    # At a health below 0.95 everything goes, and the stable rate is forgotten.
    toy.prices[COL] = ONE * 8 // 10
    assert toy.liquidate().repaid == 5_000_00
    assert (left.principal, left.rate, left.since) == (0, 0, 0)
    assert not pairs(toy.state, ALICE, toy.prices, NOW)  # type: ignore[arg-type]


def test_a_small_repayment_touches_no_stable_debt() -> None:
    toy = stable()
    fill = toy.fill(toy.order(900_00))
    burned = fill.changes[0]
    assert isinstance(burned, PositionChange)
    assert (burned.side, burned.delta) == ("debt", -900_00)
    assert not any(isinstance(change, SettingChange) for change in fill.changes)


def test_stable_debt_alone() -> None:
    toy = stable()
    toy.move("debt", DEBT, -1_000_00)
    toy.prices[COL] = ONE * 9 // 10
    assert pairs(toy.state, ALICE, toy.prices, NOW) == [Pair(DEBT, COL)]  # type: ignore[arg-type]
    assert toy.liquidate(toy.order(4_000_00)).repaid == 4_000_00
    assert toy.state.accounts[ALICE].stable[DEBT].principal == 5_000_00
    assert toy.refusal(toy.order(0))


# -- Pairs and observed orders ---------------------------------------------------------------------------------------


def test_pairs_are_every_debt_with_every_flagged_collateral() -> None:
    toy = large(10, debts={DEBT: 6_000_00, OTHER: 4_000_00})
    toy.supply(OTHER, 1)
    assert pairs(toy.state, ALICE, toy.prices, NOW) == [  # type: ignore[arg-type]
        Pair(DEBT, COL), Pair(DEBT, OTHER), Pair(OTHER, COL), Pair(OTHER, OTHER)
    ]  # fmt: skip
    toy.setting("collateral_enabled", 0, OTHER)
    assert pairs(toy.state, ALICE, toy.prices, NOW) == [Pair(DEBT, COL), Pair(OTHER, COL)]  # type: ignore[arg-type]
    toy.prices[COL] = None
    assert not pairs(toy.state, ALICE, toy.prices, NOW)  # type: ignore[arg-type]
    toy.prices[COL] = 2 * ONE
    assert not pairs(toy.state, ALICE, toy.prices, NOW)  # type: ignore[arg-type]
    assert not pairs(toy.state, BOB, toy.prices, NOW)  # type: ignore[arg-type]


def past(fill: Fill, **changed: int) -> HistoricalLiquidation:
    order = fill.order
    amounts = {"repaid": fill.repaid, "seized": fill.seized, "protocol_fee": fill.protocol_fee} | changed
    return HistoricalLiquidation(
        seq=1, block_number=100, log_index=5, timestamp=START, account=order.account, liquidator=order.liquidator,
        debt_asset=order.pair.debt_asset,
        collateral_asset=order.pair.collateral_asset, receive_collateral_token=order.receive_collateral_token,
        deficits=fill.deficits, **amounts,
    )  # fmt: skip


@pytest.mark.parametrize("revision", RULES)
@pytest.mark.parametrize("repay", [None, 10**9, 1_000_00, 777_77])
@pytest.mark.parametrize("collateral", [11_876_00, 5_001_00])
def test_the_observed_order_repeats_what_happened(revision: int, repay: int | None, collateral: int) -> None:
    toy = large(revision, collateral)
    fill = toy.fill(toy.order(repay, tokens=True))
    order = observed_order(toy.state, past(fill), toy.prices, NOW)  # type: ignore[arg-type]
    again = toy.fill(order)
    assert (again.repaid, again.seized, again.protocol_fee, again.changes) == (
        fill.repaid,
        fill.seized,
        fill.protocol_fee,
        fill.changes,
    )
    assert order.repay in (None, fill.repaid)
    assert order.receive_collateral_token


def test_a_history_that_the_rules_do_not_explain_is_asked_for_as_it_was() -> None:
    toy = large(10)
    order = observed_order(toy.state, past(toy.fill(), repaid=123), toy.prices, NOW)  # type: ignore[arg-type]
    assert order == Order(account=ALICE, pair=Pair(DEBT, COL), liquidator=LIQUIDATOR, repay=123)
