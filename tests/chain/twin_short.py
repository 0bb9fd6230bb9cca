"""What happens on twin chains where most of a reserve is lent out: liquidators are paid while there is anything."""

from __future__ import annotations

from tests.chain.twin_script import Script

BORROWERS = (
    ("crowd 0", "WETH", 30_000, "USDC", 0.69),
    ("crowd 1", "WETH", 24_000, "DAI", 0.68),
    ("crowd 2", "WETH", 40_000, "USDC", 0.66),
    ("crowd 3", "WETH", 18_000, "DAI", 0.67),
    ("crowd 4", "WETH", 36_000, "USDC", 0.64),
    ("crowd 5", "WETH", 28_000, "DAI", 0.62),
    ("crowd 6", "WETH", 22_000, "USDC", 0.69),
    ("crowd 7", "WETH", 33_000, "DAI", 0.65),
)
"""Collateral, its dollars, debt, and debt over that collateral; some have WBTC of a quarter as well."""


class ShortScript(Script):
    """One borrower takes nearly all WETH that others supplied; while prices fall, some of it comes back and goes."""

    short = True

    def _open(self) -> None:
        self.govern({("WETH", "ltv"): 7000})
        self.block(
            1,
            [
                self.supply("lender 0", "USDC", 900_000),
                self.supply("lender 1", "DAI", 900_000),
                self.supply("lender 2", "WETH", 300_000),
                self.supply("lender 5", "WBTC", 200_000),
                self.supply("safe 0", "USDC", 2_500_000),
                *(self.supply(who, symbol, dollars) for who, symbol, dollars, *_ in BORROWERS),
                *(self.supply(f"crowd {i}", "WBTC", 8_000) for i in (1, 4)),
                self.supply("looper 0", "WBTC", 40_000),
                self.supply("looper 0", "WETH", 20_000),
            ],
        )
        self.block(
            1,
            [
                *(self.borrow(who, debt, dollars * use) for who, _, dollars, debt, use in BORROWERS),
                *(self.borrow(f"crowd {i}", "USDC", 5_000) for i in (1, 4)),
                self.borrow("looper 0", "WETH", 40_000),
                self.borrow("safe 0", "WETH", 470_000),
            ],
        )

    def _live_quietly(self) -> None:
        self.block(2, [self.withdraw("lender 2", "WETH", 200_000, fails=True)], self._prices_at(0.99, 1.0))

    def _slide(self) -> None:
        self.slot()
        self.block(2, [self.withdraw("lender 2", "WETH", 3_000)], self._prices_at(0.95, 0.97))
        self.slot()
        self.block(2, [self.borrow("safe 0", "WETH", 2_000)], self._prices_at(0.92, 0.92))
        self.block(1, [self.repay("safe 0", "WETH", 6_000)], self._prices_at(0.905, 0.86))
        self.slot()
        self.block(2, [self.withdraw("lender 2", "WETH", 4_000)], self._prices_at(0.87, 0.8))
        self.block(1, [self.flash_loan("WETH", 1_000)], self._prices_at(0.85, 0.77))
        self.slot()
        self.block(2, [self.supply("lender 3", "WETH", 9_000)], self._prices_at(0.83, 0.74))
        self.slot()

    def _crash(self) -> None:
        self.block(1, [], self._prices_at(0.8, 0.71))
        self.block(1, [self.borrow("safe 0", "WETH", 1_000)], self._prices_at(0.77, 0.66))
        self.block(1, [self.withdraw("lender 3", "WETH", 2_500)], self._prices_at(0.74, 0.62))

    def _recover(self) -> None:
        self.block(1, [self.repay("safe 0", "WETH", 40_000)], self._prices_at(0.745, 0.63))
        self.block(1, [self.repay("safe 0", "WETH", 200_000)], self._prices_at(0.75, 0.64))

    def _prices_at(self, weth: float, wbtc: float) -> dict[str, float]:
        return {"WETH": 194.61 * weth, "WBTC": 7934 * wbtc}
