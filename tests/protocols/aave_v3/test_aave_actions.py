"""Which logs are one action: bundles of a bot, flags, liquidations and what they take along."""

from __future__ import annotations

import pytest

from tests.support.aave_logs import (
    ALICE,
    BOB,
    BOT,
    POOL,
    RAY,
    TREASURY,
    Logs,
    a_token,
    asset,
    borrow,
    burn,
    changes,
    debt_token,
    flag,
    flags,
    folded,
    liquidation,
    market,
    people,
    supply,
    transfer,
)


def test_supply_borrow_withdraw_repay() -> None:
    logs = market(1)
    logs.tx()
    s = supply(logs, ALICE, "WETH", 100, first=True)
    b = borrow(logs, ALICE, "USDC", 40)
    burn(logs, debt_token("USDC"), ALICE, 40)
    burn(logs, a_token("USDC"), BOB, 0)  # value 0, interest 0: nothing
    r = logs.log("Repay", reserve=asset("USDC"), user=ALICE, repayer=BOB, amount=40)
    flag(logs, ALICE, "WETH", False)
    burn(logs, a_token("WETH"), ALICE, 100)
    w = logs.log("Withdraw", reserve=asset("WETH"), user=ALICE, to=ALICE, amount=100)
    found = folded(logs)
    assert changes(found) == [
        (ALICE, 0, "collateral", 100, "supply", s),
        (ALICE, 1, "debt", 40, "borrow", b),
        (ALICE, 1, "debt", -40, "repay", r),
        (ALICE, 0, "collateral", -100, "withdraw", w),
    ]
    assert flags(found) == [
        (ALICE, "collateral_enabled", 0, 1, "supply", s),
        (ALICE, "collateral_enabled", 0, 0, "withdraw", w),
    ]


def test_a_withdrawal_that_clears_the_flag_after_the_burn() -> None:
    """3.5 and later."""
    logs = market(10)
    logs.tx()
    supply(logs, ALICE, "WETH", 100, first=True)
    burn(logs, a_token("WETH"), ALICE, 100)
    flag(logs, ALICE, "WETH", False)
    w = logs.log("Withdraw", reserve=asset("WETH"), user=ALICE, to=ALICE, amount=100)
    found = folded(logs)
    assert changes(found)[-1][4:] == ("withdraw", w)
    assert flags(found)[-1][4:] == ("withdraw", w)


def test_repay_with_a_tokens_takes_both_burns() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "USDC", 40, first=True)
    borrow(logs, ALICE, "USDC", 40)
    burn(logs, debt_token("USDC"), ALICE, 40)
    burn(logs, a_token("USDC"), ALICE, 40)
    flag(logs, ALICE, "USDC", False)
    r = logs.log("Repay", reserve=asset("USDC"), user=ALICE, repayer=ALICE, amount=40, use_a_tokens=True)
    found = folded(logs)
    assert [change[4:] for change in changes(found)[-2:]] == [("repay", r)] * 2
    assert flags(found)[-1][4:] == ("repay", r)


@pytest.mark.parametrize("revision", [1, 10])
def test_bare_transfers_take_their_flags(revision: int) -> None:
    """Before BalanceTransfer until 3.3, after it from 3.4 on; two transfers in a row keep theirs apart."""
    logs = market(revision)
    logs.tx()
    supply(logs, ALICE, "WETH", 100, first=True)
    logs.tx()
    seqs, changed = [], []
    for sender, to in ((ALICE, BOB), (BOB, BOT)):
        logs.log(
            "Mint", at=a_token("WETH"), on_behalf_of=sender, value=3, balance_increase=3, index=RAY
        )  # prints interest
        if revision == 10:
            seqs.append(transfer(logs, "WETH", sender, to, 100))
        for who, on in ((sender, False), (to, True)):
            flag(logs, who, "WETH", on)
            changed.append((who, on))
        if revision == 1:
            seqs.append(transfer(logs, "WETH", sender, to, 100))
    found = folded(logs)
    assert changes(found)[1:] == [
        (who, 0, "collateral", delta, "transfer", seq)
        for seq, pair in zip(seqs, ((ALICE, BOB), (BOB, BOT)), strict=True)
        for who, delta in zip(pair, (-100, 100), strict=True)
    ]
    assert [(row[0], row[3], row[4], row[5]) for row in flags(found)[1:]] == [
        (who, int(on), "transfer", seqs[place // 2]) for place, (who, on) in enumerate(changed)
    ]


def test_a_transfer_to_oneself_changes_nothing() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 100)
    transfer(logs, "WETH", ALICE, ALICE, 60)
    assert len(changes(folded(logs))) == 1


def test_bare_flags_modes_and_treasury() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 100)
    f = flag(logs, ALICE, "WETH", True)
    e = logs.log("UserEModeSet", user=BOB, category_id=3)
    logs.tx()
    logs.log("Mint", at=a_token("USDC"), caller=POOL, on_behalf_of=TREASURY, value=9, index=RAY)
    m = logs.log("MintedToTreasury", reserve=asset("USDC"), amount_minted=9)
    found = folded(logs)
    assert flags(found) == [
        (ALICE, "collateral_enabled", 0, 1, "collateral-flag", f),
        (BOB, "emode", None, 3, "emode", e),
    ]
    assert changes(found)[-1] == ("treasury", 1, "collateral", 9, "treasury", m)


def test_a_flag_before_a_supply_is_not_part_of_it() -> None:
    logs = market(1)
    logs.tx()
    supply(logs, ALICE, "WETH", 100)
    f = flag(logs, ALICE, "WETH", True)
    s = supply(logs, ALICE, "WETH", 5)
    found = folded(logs)
    assert flags(found)[0][4:] == ("collateral-flag", f)
    assert changes(found)[1][4:] == ("supply", s)


def opened(revision: int) -> Logs:
    logs = market(revision)
    logs.tx()
    supply(logs, ALICE, "WETH", 100, first=True)
    supply(logs, BOB, "USDC", 1000, first=True)
    borrow(logs, ALICE, "USDC", 50)
    borrow(logs, ALICE, "WETH", 20)
    logs.tx()
    return logs


def test_liquidation_takes_its_own_logs_only() -> None:
    """3.0, one transaction of a bot: it supplies, is sent aTokens by the borrower, liquidates twice, and moves its own
    aTokens between.
    """
    logs = opened(1)
    s = supply(logs, BOT, "WETH", 30, first=True)
    t = transfer(logs, "WETH", ALICE, BOT, 1)
    burn(logs, debt_token("USDC"), ALICE, 20)
    logs.log("ReserveDataUpdated", reserve=asset("USDC"), liquidity_index=RAY, variable_borrow_index=RAY)
    transfer(logs, "WETH", ALICE, BOT, 22)
    logs.log("Mint", at=a_token("WETH"), on_behalf_of=TREASURY, value=2, balance_increase=2, index=RAY)
    transfer(logs, "WETH", ALICE, TREASURY, 1)
    first = liquidation(logs, takes_tokens=True, repaid=20, seized=22)
    u = transfer(logs, "WETH", BOT, BOB, 10)
    flag(logs, ALICE, "WETH", False)
    burn(logs, debt_token("USDC"), ALICE, 30)
    burn(logs, a_token("WETH"), ALICE, 70)
    transfer(logs, "WETH", ALICE, TREASURY, 6)
    second = liquidation(logs, repaid=30, seized=70)
    e = logs.log("UserEModeSet", user=BOT, category_id=1)
    found = folded(logs)
    assert changes(found)[4:] == [
        (BOT, 0, "collateral", 30, "supply", s),
        (ALICE, 0, "collateral", -1, "transfer", t),
        (BOT, 0, "collateral", 1, "transfer", t),
        (ALICE, 1, "debt", -20, "liquidation", first),
        (ALICE, 0, "collateral", -22, "liquidation", first),
        (BOT, 0, "collateral", 22, "liquidation", first),
        (ALICE, 0, "collateral", -1, "liquidation", first),
        ("treasury", 0, "collateral", 1, "liquidation", first),
        (BOT, 0, "collateral", -10, "transfer", u),
        (BOB, 0, "collateral", 10, "transfer", u),
        (ALICE, 1, "debt", -30, "liquidation", second),
        (ALICE, 0, "collateral", -70, "liquidation", second),
        (ALICE, 0, "collateral", -6, "liquidation", second),
        ("treasury", 0, "collateral", 6, "liquidation", second),
    ]
    assert flags(found)[-2:] == [
        (ALICE, "collateral_enabled", 0, 0, "liquidation", second),
        (BOT, "emode", None, 1, "emode", e),
    ]
    who = people(found)
    assert [
        (
            who[r["account_id"]],
            who[r["liquidator_id"]],
            int(r["repaid"]),
            int(r["seized"]),
            int(r["protocol_fee"]),
            r["receive_collateral_token"],
        )
        for r in found["liquidations"]
    ] == [(ALICE, BOT, 20, 22, 1, True), (ALICE, BOT, 30, 70, 6, False)]


def test_bad_debt_belongs_to_the_liquidation() -> None:
    """3.6: the named debt and every other one are burned and booked as deficit."""
    logs = opened(10)
    flag(logs, ALICE, "WETH", False)
    burn(logs, debt_token("USDC"), ALICE, 50)
    logs.log("DeficitCreated", user=ALICE, debt_asset=asset("USDC"), amount_created=12)
    burn(logs, a_token("WETH"), ALICE, 97)
    transfer(logs, "WETH", ALICE, TREASURY, 3)
    burn(logs, debt_token("WETH"), ALICE, 20)
    logs.log("DeficitCreated", user=ALICE, debt_asset=asset("WETH"), amount_created=20)
    seq = liquidation(logs, repaid=38, seized=97)
    logs.tx()
    burn(logs, a_token("USDC"), BOB, 12)
    c = logs.log("DeficitCovered", reserve=asset("USDC"), caller=BOB, amount_covered=12)
    found = folded(logs)
    assert changes(found)[4:] == [
        (ALICE, 1, "debt", -50, "liquidation", seq),
        (ALICE, 0, "collateral", -97, "liquidation", seq),
        (ALICE, 0, "collateral", -3, "liquidation", seq),
        ("treasury", 0, "collateral", 3, "liquidation", seq),
        (ALICE, 0, "debt", -20, "liquidation", seq),
        (BOB, 1, "collateral", -12, "cover", c),
    ]
    assert [(r["kind"], r["asset_id"], int(r["amount"]), r["liquidation_seq"]) for r in found["deficits"]] == [
        ("created", 1, 12, seq),
        ("created", 0, 20, seq),
        ("covered", 1, 12, None),
    ]


def test_liquidator_flag_until_3_5() -> None:
    logs = opened(8)
    burn(logs, debt_token("USDC"), ALICE, 5)
    transfer(logs, "WETH", ALICE, BOT, 7)
    flag(logs, BOT, "WETH", True)
    seq = liquidation(logs, takes_tokens=True)
    f = flag(logs, BOT, "WETH", False)  # the bot's own, right after
    assert [row[4:] for row in flags(folded(logs))[-2:]] == [("liquidation", seq), ("collateral-flag", f)]


def test_same_asset_on_both_sides() -> None:
    logs = opened(10)
    burn(logs, debt_token("WETH"), ALICE, 5)
    burn(logs, a_token("WETH"), ALICE, 6)
    seq = liquidation(logs, collateral="WETH", debt="WETH", seized=6)
    assert [change[2:] for change in changes(folded(logs))[4:]] == [
        ("debt", -5, "liquidation", seq),
        ("collateral", -6, "liquidation", seq),
    ]


def test_small_burns_logged_as_mints_belong_to_the_liquidation() -> None:
    """The interest accrued exceeds what is burned: Mint with value below balanceIncrease."""
    logs = opened(1)
    logs.log("Mint", at=debt_token("USDC"), on_behalf_of=ALICE, value=3, balance_increase=8, index=RAY)
    logs.log("Mint", at=a_token("WETH"), on_behalf_of=ALICE, value=1, balance_increase=8, index=RAY)
    seq = liquidation(logs)
    assert [change[2:] for change in changes(folded(logs))[4:]] == [
        ("debt", -5, "liquidation", seq),
        ("collateral", -7, "liquidation", seq),
    ]


def test_fee_in_native_units_by_the_tokens_rounding() -> None:
    """100 scaled at 1.007 are 100.7: nearest 101, down 100."""
    index = RAY * 1007 // 1000
    for revision, fee in ((1, 101), (10, 100)):
        logs = opened(revision)
        burn(logs, debt_token("USDC"), ALICE, 5)
        logs.log("BalanceTransfer", at=a_token("WETH"), **{"from": ALICE}, to=TREASURY, value=100, index=index)
        liquidation(logs)
        assert int(folded(logs)["liquidations"][0]["protocol_fee"]) == fee
