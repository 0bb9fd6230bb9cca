"""Histories of the sketches' markets, made by hand."""

from __future__ import annotations

from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import USD, USDC, WETH, History, borrower, opened

POOL = FixedSpreadPool()


def liquidated_history(seized: int = 131_250_000_000_000_000 * 2) -> History:
    """1 ETH against 1000 USDC; at 1200 $ half the debt (500) buys 500 * 1.05 / 1200 = 0.4375 ETH; history took 0.2625
    for 300.
    """
    h = borrower(opened(), 0, 1, 1000)
    h.block(10).price(WETH, 1200 * USD)
    h.block(11)
    with h.transaction():
        h.position(0, USDC, "debt", -300 * 10**6, "liquidation").position(0, WETH, "collateral", -seized, "liquidation")
        h.liquidation(0, 3, USDC, WETH, repaid=300 * 10**6, seized=seized)
    return h
