"""A market of the sketches whose answers are known by hand."""

from __future__ import annotations

from pathlib import Path

from backtest.lake import Lake
from tests.sketches.history import USD, USDC, WETH, History, borrower, opened
from tests.support.sketch_lake import lake_of


def four_borrowers() -> History:
    """Four accounts with 1 WETH of 2,000 $ each, threshold 80 %, bonus 5 %, loan-to-value 75 %; they owe 1,000, 1,300,
    1,550 and 1,590 $. The price falls to 1,900 $ for a while: the last two may be liquidated (1,520 $); history
    liquidated 600 $ of the last one, for 0.33 WETH, and the third stood.
    """
    h = opened()
    h.param("ltv", 7500, asset=WETH)
    for account, owed in enumerate((1000, 1300, 1550, 1590)):
        borrower(h, account, 1, owed)
    h.block(10).price(WETH, 1900 * USD)
    h.block(11)
    seized = 33 * 10**16
    with h.transaction():
        h.position(3, USDC, "debt", -600 * 10**6, "liquidation").position(3, WETH, "collateral", -seized, "liquidation")
        h.liquidation(3, 7, USDC, WETH, repaid=600 * 10**6, seized=seized)
    h.block(20).price(WETH, 2000 * USD)
    h.block(30)
    return h


def lake_of_four(path: Path) -> Lake:
    """It in a lake, as market ``sketch``."""
    return lake_of(path, four_borrowers())
