"""Histories in which somebody liquidates: half of the debt, some blocks after an account is on offer; or its owner
cures it first.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from backtest.markets import MarketConfig
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, opened

LIQUIDATOR, UNIT = 0, 10**6


def config(name: str, **changes: object) -> MarketConfig:
    """Of a market of the sketches."""
    terms = {"protocol": "sketch", "chain_id": 31337, "start_block": 1, "contracts": {"pool": "0x" + "11" * 20}}
    return MarketConfig(name=name, **{**terms, **changes})  # type: ignore[arg-type]


@dataclass
class Liquidated:
    """Borrowers 1, 2, .. of ten WETH and debts 150 dollars apart, under a price that falls by ``each`` every ten
    blocks.

    Attributes:
        wait: blocks from when an account is on offer to its liquidation.
        cured: accounts whose owner repays a thousand dollars a block after that instead.
    """

    name: str = "sketch"
    accounts: int = 12
    steps: int = 12
    each: int = 60
    wait: int = 2
    cured: Collection[int] = ()
    history: History = field(init=False)

    def __post_init__(self) -> None:
        h = self.history = opened(self.accounts + 1)
        h.market = replace(h.market, name=self.name)
        held = {}
        for account in range(1, self.accounts + 1):
            debt = 12_000 + 150 * account
            borrower(h, account, 10, debt)
            held[account] = [10 * ETH, debt * UNIT]
        for step in range(1, self.steps + 1):
            price = 2000 - self.each * step
            h.block(10 * step).price(WETH, price * USD)
            due = [a for a, (eth, debt) in held.items() if eth * price * 8 * UNIT < debt * 10 * ETH]
            curing = [account for account in due if account in self.cured]
            if curing:
                h.block(10 * step + 1)
            for account in curing:
                h.position(account, USDC, "debt", -1_000 * UNIT, "repay")
                held[account][1] -= 1_000 * UNIT
            taking = [account for account in due if account not in self.cured]
            if taking:
                h.block(10 * step + self.wait)
            for account in taking:
                repaid = held[account][1] // 2
                seized = repaid * ETH * 10_500 // (price * UNIT * 10_000)
                held[account] = [held[account][0] - seized, held[account][1] - repaid]
                with h.transaction():
                    closing = h.next_seq + 2
                    h.position(account, USDC, "debt", -repaid, "liquidation", closing)
                    h.position(account, WETH, "collateral", -seized, "liquidation", closing)
                    h.liquidation(account, LIQUIDATOR, USDC, WETH, repaid, seized)
        h.block(10 * self.steps + 9).price(USDC, USD)
