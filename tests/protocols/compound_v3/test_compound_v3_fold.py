"""Logs and readings of a Comet to canonical rows, a log at a time; and what the fold refuses, by name."""

from __future__ import annotations

from typing import Any

import pytest

from backtest.errors import RulesError, UserError
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.compound_v3.events import readings, tokens
from tests.protocols.compound_v3.hand import BTC, ETH, ONE, START, USD, USDC, WAD
from tests.protocols.compound_v3.raw import CODE, PROXY, TOKENS, ZERO, Raw, folded, holds, totals, who, words

Row = dict[str, Any]
LENDER, ALICE, BOB, BUYER = map(who, range(4))
NEW = bytes.fromhex("0e" * 20)


def supply(to: bytes, amount: int) -> tuple[str, Row]:
    return "Supply", {"from": to, "dst": to, "amount": amount}


def withdraw(of: bytes, amount: int) -> tuple[str, Row]:
    return "Withdraw", {"src": of, "to": of, "amount": amount}


def transfer(source: bytes, to: bytes, amount: int) -> tuple[str, Row]:
    return "Transfer", {"from": source, "to": to, "amount": amount}


def pledge(to: bytes, asset: int, amount: int) -> tuple[str, Row]:
    return "SupplyCollateral", {"from": to, "dst": to, "asset": TOKENS[asset], "amount": amount}


def take(of: bytes, asset: int, amount: int) -> tuple[str, Row]:
    return "WithdrawCollateral", {"src": of, "to": of, "asset": TOKENS[asset], "amount": amount}


def absorbed(of: bytes, paid: int, value: int, *taken: tuple[int, int, int]) -> list[tuple[str, Row]]:
    """``taken``: asset, amount and usdValue of each."""
    both = {"absorber": BUYER, "borrower": of}
    names = ("asset", "collateral_absorbed", "usd_value")
    return [
        *(("AbsorbCollateral", {**both, **dict(zip(names, (TOKENS[a], n, v), strict=True))}) for a, n, v in taken),
        ("AbsorbDebt", {**both, "base_paid_out": paid, "usd_value": value}),
    ]


def logs(*blocks: tuple[int, list[tuple[str, Row]]]) -> list[tuple[int, int, str, Row]]:
    """(block, logs of one transaction)."""
    return [(block, 0, event, columns) for block, some in blocks for event, columns in some]


LENT = (2, [supply(LENDER, 10_000 * USDC), transfer(ZERO, LENDER, 10_000 * USDC)])
OWED = (2, [pledge(ALICE, 1, ETH), withdraw(ALICE, 1_500 * USDC)])


def moves(rows: dict[str, list[Row]]) -> list[tuple[Any, ...]]:
    names = ("account_id", "asset_id", "side", "delta", "action", "amount")
    return [
        tuple(int(row[name]) if name in ("delta", "amount") else row[name] for name in names)
        for row in rows["position_events"]
    ]


def test_calls_become_changes_of_principal_and_collateral() -> None:
    """Interest of 12 seconds at 15 % use from block 2 to 3: 642,123,286 x 12 = 7,705,479,432 of a wad, so that what is
    borrowed stands at 1.000000007705479.
    """
    rows = folded(Raw(logs(LENT, OWED, (3, [supply(ALICE, 500 * USDC)]))))
    index = ONE + 7_705_479
    owed = 1_000_000_004  # 1,500,000,011 less 500,000,000; / 1.000000007705479 = 1,000,000,003.3
    assert moves(rows) == [
        (0, 0, "collateral", 10_000 * USDC, "supply", 10_000 * USDC),
        (1, 1, "collateral", ETH, "supply", ETH),
        (1, 0, "debt", 1_500 * USDC, "borrow", 1_500 * USDC),
        (1, 0, "debt", owed - 1_500 * USDC, "repay", 500 * USDC),
    ]
    last = rows["indexes"][-1]
    assert (int(last["supply_index"]), int(last["borrow_index"])) == ((ONE + 1_855_022) * 10**12, index * 10**12)
    assert [row["account"] for row in rows["accounts"]] == ["0x" + each.hex() for each in (LENDER, ALICE)]


def test_a_call_may_cross_from_debt_to_supply_and_back() -> None:
    """2,000 paid where 1,500 are owed, in the same block: 500 are supplied; then 600 taken: 100 owed."""
    rows = folded(
        Raw(
            logs(
                LENT,
                OWED,
                (2, [supply(ALICE, 2_000 * USDC), transfer(ZERO, ALICE, 500 * USDC)]),
                (2, [withdraw(ALICE, 600 * USDC), transfer(ALICE, ZERO, 500 * USDC)]),
            )
        )
    )
    assert moves(rows)[3:] == [
        (1, 0, "debt", -1_500 * USDC, "repay", 2_000 * USDC),
        (1, 0, "collateral", 500 * USDC, "supply", 0),
        (1, 0, "collateral", -500 * USDC, "withdraw", 600 * USDC),
        (1, 0, "debt", 100 * USDC, "borrow", 0),
    ]


def test_base_tokens_that_are_sent() -> None:
    sent = [transfer(LENDER, ZERO, 1_000 * USDC), transfer(ZERO, BOB, 1_000 * USDC)]
    rows = folded(Raw(logs(LENT, (2, sent))))
    assert moves(rows)[1:] == [
        (0, 0, "collateral", -1_000 * USDC, "transfer", 1_000 * USDC),
        (1, 0, "collateral", 1_000 * USDC, "transfer", 1_000 * USDC),
    ]


def test_an_absorption_is_one_liquidation() -> None:
    """At 800 and a bitcoin of 30,000: 0.01 of it. 760 + 279 = 1,039 are credited of 1,500."""
    taken = absorbed(ALICE, 1_500 * USDC, 1_500 * USD, (1, ETH, 800 * USD), (2, BTC // 100, 300 * USD))
    rows = folded(Raw(logs(LENT, OWED, (2, [pledge(ALICE, 2, BTC // 100)]), (2, taken))))
    (row,) = rows["liquidations"]
    assert (int(row["repaid"]), int(row["seized"]), row["debt_asset_id"], row["collateral_asset_id"]) == (
        1_500 * USDC,
        ETH,
        0,
        1,
    )
    (lost,) = rows["deficits"]
    assert (int(lost["amount"]), lost["liquidation_seq"]) == (461 * USDC, row["seq"])
    assert moves(rows)[4:] == [
        (1, 0, "debt", -1_500 * USDC, "liquidation", 0),
        (1, 1, "collateral", -ETH, "liquidation", ETH),
        (1, 2, "collateral", -BTC // 100, "liquidation", BTC // 100),
    ]


def test_credit_beyond_the_debt_is_supply() -> None:
    """At 1,650: 1,567.5 credited; the log pays 1,567.5 out, 67.5 of it as supply."""
    taken = [*absorbed(ALICE, 1_567_500_000, 156_750_000_000, (1, ETH, 1_650 * USD)), transfer(ZERO, ALICE, 67_500_000)]
    rows = folded(Raw(logs(LENT, OWED, (2, taken))))
    assert moves(rows)[3:5] == [
        (1, 0, "debt", -1_500 * USDC, "liquidation", 0),
        (1, 0, "collateral", 67_500_000, "liquidation", 0),
    ]
    assert rows["deficits"] == []
    assert int(rows["liquidations"][0]["repaid"]) == 1_500 * USDC


def test_sales_withdrawals_of_reserves_and_pauses_are_parameters() -> None:
    bought = {"buyer": BUYER, "asset": TOKENS[1], "base_amount": 900, "collateral_amount": 5}
    flags = {
        f"{kind}_paused": kind in ("supply", "absorb") for kind in ("supply", "transfer", "withdraw", "absorb", "buy")
    }
    rows = folded(
        Raw(
            logs(
                (3, [("BuyCollateral", bought)]),
                (4, [("WithdrawReserves", {"to": BUYER, "amount": 200})]),
                (5, [("PauseAction", flags)]),
            )
        )
    )
    last = [(row["name"], int(row["value"])) for row in rows["params"] if row["block_number"] > 2]
    assert last == [("cash_of_reserves", 900), ("cash_of_reserves", 700), ("pause_flags", 0b01001)]


def test_an_upgrade_changes_what_differs() -> None:
    raw = Raw(logs(LENT, (5, [("Upgraded", {"implementation": NEW})])), holds(NEW, 5, borrow_rate_base=7))
    assert [(row["name"], int(row["value"])) for row in folded(raw)["params"] if row["block_number"] == 5] == [
        ("borrow_rate_base", 7)
    ]


# -- readings ----------------------------------------------------------------------------------------------------------

SILENT = (  # somebody accrued in between: other indexes than those of one step
    totals(2, ONE, ONE, 0, 0, 10_000 * USDC, 1_500 * USDC, START + 24, 0),
    totals(9, ONE + 12_985_154, ONE + 53_938_356, 0, 0, 10_000 * USDC, 1_000 * USDC + 36, START + 108, 0),
)


def test_what_the_contract_stored_counts() -> None:
    """Of 1,500 owed 500 are paid at an index that no log explains to the last digit."""
    index = ONE + 53_938_356
    owed = 1_500 * USDC * index // ONE - 500 * USDC
    principal = -(-owed * ONE // index)
    read = totals(9, ONE + 12_985_154, index, 0, 0, 10_000 * USDC, principal, START + 108, 0)
    rows = folded(Raw(logs(LENT, OWED, (9, [supply(ALICE, 500 * USDC)])), [SILENT[0], read]))
    assert int(rows["indexes"][-1]["borrow_index"]) == index * 10**12
    assert moves(rows)[-1][3] == principal - 1_500 * USDC


def test_readings_name_what_is_to_be_asked() -> None:
    raw = Raw(logs(LENT, OWED, (9, [supply(ALICE, 1)])))
    asked = [(each.block_number, each.address, each.call) for each in readings(raw)]
    assert (2, "0x" + CODE.hex(), "getAssetInfo(uint8) 1") in asked
    users = [int.from_bytes(each, "big") for each in (LENDER, ALICE)]
    assert asked[-5:] == [
        (block, "0x" + PROXY.hex(), call)
        for block, some in ((2, users), (9, users[1:]))
        for call in ("totalsBasic()", *(f"userBasic(address) {user}" for user in some))
    ]
    raw.readings = []
    assert not any("getAssetInfo" in each.call for each in readings(raw))  # how many comes first
    assert tokens(raw) == []


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((2, [transfer(LENDER, ZERO, 1_000 * USDC)]), "to or from an account in debt, which the log does not name"),
        ((2, [transfer(ZERO, BOB, 1_000 * USDC)]), "to or from an account in debt, which the log does not name"),
        ((2, [transfer(LENDER, ZERO, 5), transfer(ZERO, BOB, 9)]), "a transfer of 5 and 9 that no amount explains"),
        ((3, [supply(LENDER, 100), transfer(ZERO, LENDER, 77)]), "a Transfer of 77 beside it, 99 by the rules"),
        ((3, [supply(LENDER, 100)]), "a Transfer of None beside it, 99 by the rules"),
        ((2, [pledge(ALICE, 1, 5), take(ALICE, 2, 1)]), "gives up more than it holds of WBTC"),
        ((2, absorbed(ALICE, 1, 1, (1, ETH, 1))), "an absorption of 1 where 1500000000 are owed"),
        ((2, absorbed(ALICE, 1_500 * USDC, 1, (2, ETH, 1))), "an absorption of other collateral than the account has"),
        ((2, absorbed(ALICE, 1, 1, (1, ETH, 1))[:1]), "an absorption without its AbsorbDebt"),
        ((2, [(pledge(BOB, 1, 1)[0], {**pledge(BOB, 1, 1)[1], "asset": who(9)})]), "that no implementation lists"),
    ],
)  # fmt: skip
def test_what_no_rule_explains_stops_the_fold(more: tuple[int, list[tuple[str, Row]]], said: str) -> None:
    with pytest.raises(RulesError, match=said) as raised:
        folded(Raw(logs(LENT, OWED, more)))
    assert f"block {more[0]}, log " in str(raised.value)


def test_totals_that_differ_stop_the_fold() -> None:
    wrong = totals(2, ONE, ONE, 0, 0, 10_000 * USDC, 1_499 * USDC, START + 24, 0)
    with pytest.raises(RulesError, match="debt was sent from one account to another"):
        folded(Raw(logs(LENT, OWED), [wrong]))
    late = totals(2, ONE, ONE, 0, 0, 10_000 * USDC, 1_500 * USDC, START + 23, 0)
    with pytest.raises(RulesError, match="the contract had last accrued at 1000023"):
        folded(Raw(logs(LENT, OWED), [late]))
    with pytest.raises(RulesError, match=r"totalsBasic\(\) of 0xc0c0.* is not what a Comet returns"):
        folded(Raw(logs(LENT), [totals(2, 0, ONE, 0, 0, 1, 1, START, 0)]))


def test_a_principal_that_differs_stops_the_fold() -> None:
    """Somebody sent alice's debt on, which leaves totals as they are and no log."""
    user = int.from_bytes(ALICE, "big")
    read = {"block_number": 2, "address": PROXY, "call": f"userBasic(address) {user}", "value": words(-7)}
    assert folded(Raw(logs(LENT, OWED), [{**read, "value": words(-1_500 * USDC)}]))["position_events"]
    with pytest.raises(RulesError, match=r"0xa1a1.* has a principal of -7 at the end of the block, -1500000000 by the"):
        folded(Raw(logs(LENT, OWED), [read]))


def test_implementations_that_are_no_comet_are_named() -> None:
    raw = Raw(logs(LENT))
    raw.readings = [row for row in raw.readings if row["call"] != "supplyKink()"]
    with pytest.raises(RulesError, match=r"block 2: supplyKink\(\) of the implementation 0x0d0d.* was not read"):
        folded(raw)
    raw.readings.append({"block_number": 2, "address": CODE, "call": "supplyKink()", "value": None})
    with pytest.raises(RulesError, match=r"supplyKink\(\) of the implementation 0x0d0d.* gives nothing"):
        folded(raw)
    raw = Raw(logs(LENT))
    for row in raw.readings:
        if row["call"] == "getAssetInfo(uint8) 0":
            row["value"] = words(1, 2)
    with pytest.raises(RulesError, match="is not what a Comet returns"):
        folded(raw)
    nothing = Raw([])
    nothing.rows.clear()
    with pytest.raises(UserError, match="market 'hand' has no implementation by the last block fetched"):
        folded(nothing)


def test_an_implementation_that_drops_an_asset_is_refused() -> None:
    fewer = [row for row in holds(NEW, 5) if row["call"] != "getAssetInfo(uint8) 1"]
    for row in fewer:
        if row["call"] == "numAssets()":
            row["value"] = words(1)
    raw = Raw(logs(LENT, (5, [("Upgraded", {"implementation": NEW})])), fewer)
    with pytest.raises(RulesError, match=r"block 5: the implementation 0x0e0e.* drops or moves assets"):
        folded(raw)


def test_feeds_are_the_implementations_and_the_proxy_is_asked() -> None:
    feeds = [dict(row) for row in holds(NEW, 5)]
    for row in feeds:
        if row["call"] == "baseTokenPriceFeed()":
            row["value"] = words(0xFEED9)
    raw = Raw(logs(LENT, (5, [("Upgraded", {"implementation": NEW})])), feeds)
    changes = COMPOUND_V3.price_sources(raw)
    assert [(each.block_number, int(each.source, 16)) for each in changes] == [
        (2, 0xFEED0), (2, 0xFEED1), (2, 0xFEED2), (5, 0xFEED9)
    ]  # fmt: skip
    assert {(each.oracle, each.getter) for each in changes} == {("0x" + PROXY.hex(), "getPrice(address)")}
    assert WAD == 10**18
