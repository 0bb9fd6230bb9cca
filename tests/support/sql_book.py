"""A book in a lake, for SQL."""

from __future__ import annotations

from typing import Any

from tests.support.lake_tables import RAY, account

YEAR = 31_536_000


def book() -> dict[str, list[dict[str, Any]]]:
    """Two assets (WETH 18 decimals, USDC 6), two accounts, one liquidation; blocks 1 to 5, a year between 2 and 5.

    Alice supplies 10 WETH at index 1 in block 1 and takes 4 back in block 4. Bob supplies 2 WETH and borrows 1000 USDC
    at index 1.25 (800e6 scaled) in block 2; in block 4 Alice liquidates 100 USDC of it for 0.0525 WETH.
    """
    weth, usdc = 10**18, 10**6
    times = {1: 1_600_000_000, 2: 1_600_000_100, 3: 1_600_000_200, 4: 1_600_000_300, 5: 1_600_000_100 + YEAR}

    def at(seq: int, block: int, log_index: int, **row: Any) -> dict[str, Any]:
        return {"seq": seq, "block_number": block, "log_index": log_index, "timestamp": times[block], **row}

    def moved(
        seq: int, block: int, log: int, account_id: int, asset: int, side: str, delta: int, action: str
    ) -> dict[str, Any]:
        change = {
            "account_id": account_id,
            "asset_id": asset,
            "side": side,
            "delta": delta,
            "action": action,
            "action_seq": seq,
        }
        return at(seq, block, log, **change)

    spine = [
        (0, 1, 0),
        (1, 1, 1),
        (2, 1, 2),
        (3, 1, 3),
        (4, 2, 0),
        (5, 2, 1),
        (7, 3, 0),
        (8, 4, 0),
        (9, 4, 1),
        (10, 4, 2),
    ]
    return {
        "accounts": [{"account_id": 0, "account": account(0xA11CE)}, {"account_id": 1, "account": account(0xB0B)}],
        "assets": [
            {"asset_id": 0, "asset": account(0xE7), "symbol": "WETH", "decimals": 18},
            {"asset_id": 1, "asset": account(0x05D), "symbol": "USDC", "decimals": 6},
        ],
        "blocks": [{"block_number": block, "timestamp": time} for block, time in times.items()],
        "events": [
            at(*place, transaction_index=0, transaction_hash=bytes(32), address=account(1), event="Supply")
            for place in spine
        ],
        "params": [
            at(0, 1, 0, name="pool_revision", value=10),
            at(1, 1, 1, asset_id=0, name="liquidation_threshold", value=8_000),
            at(7, 3, 0, asset_id=0, name="liquidation_threshold", value=8_250),
        ],
        "prices": [
            at(0, 1, 0, asset_id=0, price=2_000 * 10**8, method="feed", exact=True),
            at(0, 1, 0, asset_id=1, price=10**8, method="feed", exact=True),
            at(6, 3, -1, asset_id=0, price=1_500 * 10**8, method="formula", exact=False),
            at(9, 4, 1, asset_id=0, price=1_000 * 10**8, method="feed", exact=True),
        ],
        "indexes": [
            at(4, 2, 0, asset_id=1, supply_index=RAY, borrow_index=RAY * 5 // 4, supply_rate=0, borrow_rate=RAY // 10),
            at(4, 2, 0, asset_id=0, supply_index=RAY, borrow_index=RAY, supply_rate=RAY // 20, borrow_rate=0),
        ],
        "position_events": [
            moved(2, 1, 2, 0, 0, "collateral", 10 * weth, "supply"),
            moved(4, 2, 0, 1, 0, "collateral", 2 * weth, "supply"),
            moved(5, 2, 1, 1, 1, "debt", 800 * usdc, "borrow"),
            moved(8, 4, 0, 0, 0, "collateral", -4 * weth, "withdraw"),
            moved(10, 4, 2, 1, 0, "collateral", -weth * 525 // 10_000, "liquidation"),
            moved(10, 4, 2, 1, 1, "debt", -80 * usdc, "liquidation"),
        ],
        "setting_events": [
            at(4, 2, 0, account_id=1, setting="collateral_enabled", asset_id=0, value=1, action="supply", action_seq=4)
        ],
        "liquidations": [
            at(
                10,
                4,
                2,
                transaction_hash=bytes(32),
                account_id=1,
                liquidator_id=0,
                debt_asset_id=1,
                collateral_asset_id=0,
                repaid=100 * usdc,
                seized=weth * 525 // 10_000,
                protocol_fee=0,
                receive_collateral_token=False,
            )
        ],
        "deficits": [],
    }
