"""Accounts that fall, for contests."""

from __future__ import annotations

from backtest.scenario import (
    Costs,
    Gas,
    Slippage,
)
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import USD, USDC, WETH, History, borrower, opened

POOL = FixedSpreadPool()


GWEI = 10**9


GAS = Gas(fee="constant", base_fee=30 * GWEI, units=500_000)


COSTLY = Costs(
    gas=GAS, flash_fee=5, sandwich=20, slippage=(Slippage(model="constant-product", reserve=5_000_000 * USD),)
)


def falling(accounts: int = 20, steps: int = 12, each: int = 60) -> History:
    """Borrowers of rising leverage, WETH falling from 2000 $ by ``each`` every ten blocks."""
    h = opened(accounts)
    for account in range(accounts):
        borrower(h, account, 10, 12_000 + 150 * account)
    for step in range(1, steps + 1):
        h.block(10 * step).price(WETH, (2000 - each * step) * USD)
    h.block(10 * steps + 50).price(USDC, USD)
    return h


def one_account(price: int = 1400) -> History:
    """10 ETH against 11,300 USDC: unhealthy below 1412.50 $."""
    h = borrower(opened(), 0, 10, 11_300)
    h.block(10).price(WETH, price * USD)
    return h
