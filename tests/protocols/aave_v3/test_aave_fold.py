"""Raw Aave V3 logs to canonical tables: settings, indexes, parameters, assets and accounts; what the fold refuses."""

from __future__ import annotations

import pytest

from backtest.errors import RulesError, UserError
from tests.support.aave_logs import (
    ALICE,
    BOB,
    BOT,
    POOL,
    RAY,
    a_token,
    address,
    asset,
    burn,
    changes,
    debt_token,
    flags,
    folded,
    market,
    people,
    supply,
    time_of,
    transfer,
)


def test_stable_debt() -> None:
    logs = market(1)
    stable = address("stable USDC")
    logs.tx()
    borrowed = logs.block
    logs.log(
        "StableMint",
        at=stable,
        on_behalf_of=ALICE,
        amount=100,
        current_balance=0,
        balance_increase=0,
        new_rate=5 * 10**25,
    )
    b = logs.log("Borrow", reserve=asset("USDC"), on_behalf_of=ALICE, amount=100, interest_rate_mode=1)
    logs.tx()
    # 100 have become 103; 30 repaid: 27 net of interest.
    logs.log("StableBurn", at=stable, **{"from": ALICE}, amount=27, current_balance=103, balance_increase=3)
    r = logs.log("Repay", reserve=asset("USDC"), user=ALICE, amount=30)
    repaid = logs.block
    logs.tx()
    logs.log("StableBurn", at=stable, **{"from": ALICE}, amount=73, current_balance=75, balance_increase=2)
    swap = logs.log("Mint", at=debt_token("USDC"), on_behalf_of=ALICE, value=75, index=RAY)
    logs.log("SwapBorrowRateMode", reserve=asset("USDC"), user=ALICE, interest_rate_mode=1)
    found = folded(logs)
    assert flags(found) == [
        (ALICE, "stable_principal", 1, 100, "borrow", b),
        (ALICE, "stable_rate", 1, 5 * 10**25, "borrow", b),
        (ALICE, "stable_since", 1, time_of(borrowed), "borrow", b),
        (ALICE, "stable_moved", 1, 100, "borrow", b),
        (ALICE, "stable_principal", 1, 73, "repay", r),
        (ALICE, "stable_since", 1, time_of(repaid), "repay", r),
        (ALICE, "stable_moved", 1, -30, "repay", r),
        (ALICE, "stable_principal", 1, 0, "other", swap + 1),
        (ALICE, "stable_rate", 1, 0, "other", swap + 1),
        (ALICE, "stable_since", 1, 0, "other", swap + 1),
        (ALICE, "stable_moved", 1, -75, "other", swap + 1),
    ]
    assert changes(found) == [(ALICE, 1, "debt", 75, "other", swap + 1)]


def test_indexes_start_at_one_ray() -> None:
    logs = market(1, "WETH")
    logs.tx()
    logs.log(
        "ReserveDataUpdated",
        reserve=asset("WETH"),
        liquidity_rate=2,
        stable_borrow_rate=9,
        variable_borrow_rate=3,
        liquidity_index=RAY + 4,
        variable_borrow_index=RAY + 5,
    )
    names = ("supply_index", "borrow_index", "supply_rate", "borrow_rate")
    assert [tuple(int(row[name]) for name in names) for row in folded(logs)["indexes"]] == [
        (RAY, RAY, 0, 0),
        (RAY + 4, RAY + 5, 2, 3),
    ]


def test_parameters() -> None:
    logs = market(4)
    a = asset("WETH")
    logs.tx()
    logs.log("CollateralConfigurationChanged", asset=a, ltv=8000, liquidation_threshold=8250, liquidation_bonus=10500)
    logs.log("LiquidationProtocolFeeChanged", asset=a, old_fee=0, new_fee=1000)
    logs.log("LiquidationGracePeriodChanged", asset=a, grace_period_until=99)
    logs.log("LiquidationGracePeriodDisabled", asset=a)
    logs.log(
        "EModeCategoryAdded", category_id=1, ltv=9000, liquidation_threshold=9300, liquidation_bonus=10100, label="ETH"
    )
    logs.log("EModeAssetCategoryChanged", asset=a, new_category_id=1)
    logs.log(
        "ReserveInterestRateDataChanged", asset=a, data=b"".join(n.to_bytes(32, "big") for n in (9000, 0, 270, 8000))
    )
    logs.tx()
    logs.upgrade_pool(12)
    logs.log("AssetCollateralInEModeChanged", asset=a, category_id=1, collateral=True)
    logs.log("ReservePaused", asset=asset("USDC"), paused=True)
    logs.log("FlashloanPremiumTotalUpdated", new_flashloan_premium_total=5)
    found = folded(logs)
    rows = [
        (r["name"], int(r["value"]), r["asset_id"], r["category"]) for r in found["params"] if r["block_number"] > 2
    ]
    assert rows == [
        ("ltv", 8000, 0, None),
        ("liquidation_threshold", 8250, 0, None),
        ("liquidation_bonus", 10500, 0, None),
        ("liquidation_protocol_fee", 1000, 0, None),
        ("grace_until", 99, 0, None),
        ("grace_until", 0, 0, None),
        ("emode_ltv", 9000, None, 1),
        ("emode_liquidation_threshold", 9300, None, 1),
        ("emode_liquidation_bonus", 10100, None, 1),
        ("emode_category", 1, 0, None),
        ("optimal_usage", 9000 * 10**23, 0, None),
        ("base_rate", 0, 0, None),
        ("slope1", 270 * 10**23, 0, None),
        ("slope2", 8000 * 10**23, 0, None),
        ("pool_revision", 12, None, None),  # not known: kept, so that a replay stops at its block
        ("emode_collateral", 1, 0, 1),
        ("paused", 1, 1, None),
        ("flash_premium_total", 5, None, None),
    ]
    listed = [(r["name"], int(r["value"])) for r in found["params"] if r["block_number"] <= 2 and r["asset_id"] == 1]
    assert listed[:4] == [
        ("treasury", 0),
        ("collateral_token_revision", 2),
        ("debt_token_revision", 2),
        ("reserve_id", 1),
    ]
    assert ("active", 1) in listed
    assert ("ltv", 0) in listed


def test_a_dropped_reserve_frees_its_id() -> None:
    logs = market(1, "A", "B", "C")
    logs.tx()
    logs.log("ReserveDropped", asset=asset("B"))
    logs.tx()
    logs.list_asset("D")
    found = folded(logs)
    assert [(r["asset_id"], int(r["value"])) for r in found["params"] if r["name"] == "reserve_id"] == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 1),
    ]


def test_accounts_in_order_of_first_appearance() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, BOB, "WETH", 100)
    transfer(logs, "WETH", BOB, ALICE, 5)
    logs.log("UserEModeSet", user=BOT, category_id=1)
    found = folded(logs)
    assert list(people(found).values()) == ["treasury", BOB, ALICE, BOT]
    assert [(r["asset_id"], r["symbol"], r["decimals"], r["debt_token"]) for r in found["assets"]] == [
        (0, "WETH", 18, debt_token("WETH")),
        (1, "USDC", 18, debt_token("USDC")),
    ]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_balance_below_zero_names_the_log() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 10)
    logs.tx()
    burn(logs, a_token("WETH"), ALICE, 11)
    with pytest.raises(
        RulesError, match=rf"block 4, log 0: {address(ALICE)} would hold less than no scaled units of {a_token('WETH')}"
    ):
        folded(logs)


def test_an_upgrade_to_unknown_token_code_stops_the_fold() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 10)
    logs.tx()
    logs.upgrade_token(a_token("WETH"), 7)
    logs.tx()
    supply(logs, ALICE, "WETH", 10)
    with pytest.raises(RulesError, match=r"ATOKEN_REVISION 7 .* from block 4 on"):
        folded(logs)


def test_a_revision_that_was_not_read() -> None:
    logs = market(1)
    logs.tx()
    logs.log("TokenUpgraded", at=a_token("WETH"), implementation=address("unread"))
    with pytest.raises(UserError, match=r"which .* runs from block 3 on"):
        folded(logs)


def test_a_quarantined_log_stops_the_fold_unless_nothing_depends_on_it() -> None:
    logs = market(1)
    logs.quarantined("FlashLoan", POOL)
    folded(logs)
    logs.quarantined("Mint", a_token("WETH"))
    with pytest.raises(RulesError, match=rf"block 2, log {logs.index}: a Mint log .* \(data too short\)"):
        folded(logs)


def test_a_token_of_no_reserve() -> None:
    logs = market(1)
    logs.tx()
    burn(logs, address("stranger"), ALICE, 1)
    with pytest.raises(RulesError, match=rf"block 3: {address('stranger')} is not a token of this market"):
        folded(logs)
