"""Aave V3 rules one account at a time: applying events, health, the screening form, quoting a liquidation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from backtest.model import PositionChange
from backtest.protocols.aave_v3.account import account_data, linear_exposure
from backtest.protocols.aave_v3.liquidation import quote
from backtest.protocols.aave_v3.state import apply
from backtest.units import RAY
from tests.support.aave_books import ALICE, COL, DEBT, NOW, OTHER, START, Toy

SHAPE = "3.6, one account, two collaterals, one debt, accrued interest"


def run() -> list[dict[str, Any]]:
    """Microseconds a call, the best of five rounds."""
    toy = Toy(10, decimals=18)
    for asset in (COL, DEBT, OTHER):
        toy.index(asset, RAY * 11 // 10, RAY * 12 // 10, RAY // 50, RAY // 20)
    toy.supply(COL, 10**22)
    toy.supply(OTHER, 10**21)
    toy.borrow(DEBT, 85 * 10**20)
    prices: Any = toy.prices
    now = type(NOW)(NOW.block_number, NOW.log_index, START + 3600)
    order = toy.order()
    at = {
        "seq": 0,
        "block_number": 1,
        "log_index": 1,
        "timestamp": START,
        "account": ALICE,
        "action": "supply",
        "action_seq": 0,
    }
    changes = [PositionChange(**at, asset=COL, side="collateral", delta=delta) for delta in (1, -1)]

    def apply_two() -> None:
        for change in changes:
            apply(toy.state, change)

    return [
        _row("apply a balance change", apply_two, 2, "one account"),
        _row("getUserAccountData", lambda: account_data(toy.state, ALICE, prices, now), 1, SHAPE),
        _row("screening form", lambda: linear_exposure(toy.state, ALICE, now), 1, SHAPE),
        _row("quote a liquidation", lambda: quote(toy.state, order, prices, now), 1, SHAPE),
    ]


def _row(name: str, call: Callable[[], object], calls: int, shape: str) -> dict[str, Any]:
    best = min(_seconds(call) for _ in range(5)) / calls * 1e6
    return {
        "name": f"aave rules: {name}",
        "value": round(best, 2),
        "unit": "us",
        "baseline": None,
        "ratio": None,
        "shape": shape,
    }


def _seconds(call: Callable[[], object], rounds: int = 5_000) -> float:
    start = time.perf_counter()
    for _ in range(rounds):
        call()
    return (time.perf_counter() - start) / rounds


if __name__ == "__main__":
    for row in run():
        print(row)
