"""Logs and readings of a credit manager to canonical rows; and what the fold refuses, by name."""

from __future__ import annotations

from typing import Any

import pytest

from backtest.errors import RulesError
from backtest.protocols.gearbox_v3 import GEARBOX_V3
from backtest.units import RAY
from tests.protocols.gearbox_v3.hand import ETH, USDC, YEAR
from tests.protocols.gearbox_v3.raw import ACCOUNT, ADDRESSES, KEEPER, OWNER, TOKENS, Raw, account, folded, pool

Row = dict[str, Any]
MANAGER = ADDRESSES["manager"]
LENT = (3, "Deposit", {"sender": KEEPER, "owner": KEEPER, "assets": 10_000 * USDC, "shares": 10_000 * USDC})
OPENED: list[tuple[int, str, Row]] = [
    (4, "OpenCreditAccount", {"credit_account": ACCOUNT, "on_behalf_of": OWNER, "caller": OWNER, "code": 0}),
    (4, "StartMultiCall", {"credit_account": ACCOUNT, "caller": OWNER}),
    (4, "Borrow", {"credit_manager": MANAGER, "credit_account": ACCOUNT, "amount": 1_500 * USDC}),
    (4, "UpdateQuota", {"credit_account": ACCOUNT, "token": TOKENS[1], "quota_change": 3_000 * USDC}),
    (4, "AddCollateral", {"credit_account": ACCOUNT, "token": TOKENS[1], "amount": ETH}),
    (4, "FinishMultiCall", {}),
]
RATE = RAY // 100 * 15 // 80
"""1,500 of 10,000 are lent."""


def quota_index(block: int) -> int:
    """At 4 % a year since block 2."""
    return 1 + RAY // 10_000 * 12 * (block - 2) * 400 // YEAR


AT_OPEN = [
    *pool(3, RAY, 0, 10_000 * USDC, 10_000 * USDC, 0, 0),
    *pool(4, RAY, RATE, 10_000 * USDC, 8_500 * USDC, 1_500 * USDC, 120 * USDC),
    *account(4, 1_500 * USDC, RAY, (0, ETH), (3_000 * USDC, quota_index(4))),
]


def moves(rows: dict[str, list[Row]]) -> list[tuple[Any, ...]]:
    names = ("asset_id", "side", "delta", "action", "amount")
    return [
        tuple(int(row[name]) if name in ("delta", "amount") else row[name] for name in names)
        for row in rows["position_events"]
    ]


def test_an_account_is_opened() -> None:
    rows = folded(Raw([LENT, *OPENED], AT_OPEN))
    assert moves(rows) == [
        (0, "debt", 1_500 * USDC, "borrow", 1_500 * USDC),
        (1, "collateral", ETH, "borrow", ETH),
    ]
    told = {(row["setting"], row["asset_id"]): int(row["value"]) for row in rows["setting_events"]}
    assert told == {("owner", 0): 1, ("quota", 1): 3_000 * USDC, ("debt_index", 0): RAY}
    assert int(rows["indexes"][-1]["borrow_rate"]) == RATE
    others = {row["name"]: int(row["value"]) for row in rows["params"] if row["name"].startswith("others")}
    assert others == {"others_expected": 10_000 * USDC, "others_available": 10_000 * USDC}


def liquidated(profit: int, loss: int, left: int, index: int) -> tuple[list[tuple[int, str, Row]], list[Row]]:
    logs: list[tuple[int, str, Row]] = [
        (9, "StartMultiCall", {"credit_account": ACCOUNT, "caller": KEEPER}),
        (9, "FinishMultiCall", {}),
        (9, "UpdateQuota", {"credit_account": ACCOUNT, "token": TOKENS[1], "quota_change": -3_000 * USDC}),
        (
            9,
            "Repay",
            {"credit_manager": MANAGER, "borrowed_amount": 1_500 * USDC, "profit": profit, "loss": loss},
        ),
        (
            9,
            "LiquidateCreditAccount",
            {"credit_account": ACCOUNT, "liquidator": KEEPER, "to": KEEPER, "remaining_funds": left},
        ),
    ]
    told = [
        *pool(9, index, 0, 10_000 * USDC, 10_000 * USDC, 0, 0),
        *account(9, 0, RAY, (left, 0), (0, quota_index(4))),
    ]
    return logs, told


def test_a_liquidation() -> None:
    """60 seconds: 1,500 x 0.1875 % of a year are 5 units, 3,000 x 4 % 228 of quotas (228.3)."""
    index = RAY * (RAY + RATE * 60 // YEAR) // RAY
    logs, told = liquidated(24_750_000, 0, 59 * USDC, index)
    rows = folded(Raw([LENT, *OPENED, *logs], [*AT_OPEN, *told]))
    (row,) = rows["liquidations"]
    assert (int(row["repaid"]), int(row["seized"])) == (1_500 * USDC + 5 + 228 + 24_750_000 + 59 * USDC, ETH)
    assert moves(rows)[2:] == [
        (0, "debt", -1_500 * USDC, "liquidation", 1_524_750_233),
        (0, "collateral", 59 * USDC, "liquidation", 59 * USDC),
        (1, "collateral", -ETH, "liquidation", ETH),
    ]
    assert not rows["deficits"]
    logs, told = liquidated(0, 40 * USDC, 0, index)
    rows = folded(Raw([LENT, *OPENED, *logs], [*AT_OPEN, *told]))
    assert [int(row["amount"]) for row in rows["deficits"]] == [40 * USDC]


def test_what_is_asked_for() -> None:
    raw = Raw([LENT, *OPENED])
    asked = {(one.block_number, one.address, one.call) for one in GEARBOX_V3.readings(raw)}
    read = {(one["block_number"], "0x" + one["address"].hex(), one["call"]) for one in (*raw.readings, *AT_OPEN)}
    assert asked == read
    assert list(GEARBOX_V3.tokens(raw)) == ["0x" + token.hex() for token in TOKENS]


def without(call: str, rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row["call"].startswith(call)]


def test_what_is_refused() -> None:
    with pytest.raises(RulesError, match=r"version 300: only Gearbox V3\.1"):
        folded(Raw(version=300))
    with pytest.raises(RulesError, match=r"block 4: balanceOf.* was not read"):
        folded(Raw([LENT, *OPENED], without("balanceOf", AT_OPEN)))
    debt = account(4, 1_500 * USDC + 1, RAY, (0, ETH), (3_000 * USDC, quota_index(4)))
    with pytest.raises(RulesError, match="owes a principal of 1500000001"):
        folded(Raw([LENT, *OPENED], [*AT_OPEN[:14], *debt]))
    stored = account(4, 1_500 * USDC, RAY + 1, (0, ETH), (3_000 * USDC, quota_index(4)))
    with pytest.raises(RulesError, match="of its debt"):
        folded(Raw([LENT, *OPENED], [*AT_OPEN[:14], *stored]))
    logs, told = liquidated(0, 0, 0, RAY)
    with pytest.raises(RulesError, match="the pool's index is"):
        folded(Raw([LENT, *OPENED, *logs], [*AT_OPEN, *told]))
