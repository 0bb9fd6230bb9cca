"""Many liquidations of one moment in a Morpho market, each of which moves the totals that all others are valued by.

``python -m tests.bench.bench_moment`` prints the rows; ``make bench`` collects ``run()``. A fall of the price is the
compiled loop's; an override is told together (``LendingProtocol.together``).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from backtest.model import Asset, Market
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.irm import INITIAL_RATE_AT_TARGET
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN
from backtest.replay.engine import replay
from backtest.replay.timeline import Timeline
from backtest.scenario import Competitive, Override, Scenario
from backtest.units import WAD
from tests.sketches.history import History

UNIT = 10**24
FIRST = 10
BY_PRICE = Scenario(liquidators=Competitive(), from_block=FIRST)
BY_OVERRIDE = Scenario(
    liquidators=Competitive(), from_block=FIRST, allow_invalid=True,
    overrides=(Override(parameter="liquidation_threshold", value=5_000, asset="WETH", from_block=FIRST),),
)  # fmt: skip


def book(accounts: int, *, fall: float, seed: int = 1) -> tuple[Market, Timeline]:
    """Positions of 100 to 1,000,000 dollars that owe 70 to 86 % of them; the price falls once, by ``fall``."""
    assets = Asset(LOAN, "0x" + "01" * 20, "USDC", 6), Asset(COLLATERAL, "0x" + "02" * 20, "WETH", 18)
    of = Market(
        name="sketch", protocol="morpho-blue", chain_id=1, assets=assets,
        accounts=tuple(f"0x{i:040x}" for i in range(accounts + 1)), base_decimals=8, price_decimals=24,
    )  # fmt: skip
    h = History(of).param("created", 1).param("liquidation_threshold", 86 * WAD // 100, COLLATERAL)
    h.param("rate_at_target", INITIAL_RATE_AT_TARGET, LOAN).price(LOAN, UNIT).price(COLLATERAL, 2_000 * UNIT)
    draw = np.random.default_rng(seed)
    worth = (10 ** draw.uniform(8, 12, accounts)).astype(np.int64)  # native units of the loan token
    owed = (worth * draw.uniform(0.7, 0.86, accounts)).astype(np.int64)
    lent = 2 * int(owed.sum())
    h.position(accounts, LOAN, "collateral", lent * 10**6, "supply", amount=lent)
    for account, (holds, owes) in enumerate(zip(worth.tolist(), owed.tolist(), strict=True)):
        h.position(account, COLLATERAL, "collateral", holds * 10**12 // 2_000)
        h.position(account, LOAN, "debt", owes * 10**6, "borrow", amount=owes)
    h.block(FIRST).price(COLLATERAL, 2_000 * UNIT)
    h.block(FIRST + 1).price(COLLATERAL, int(2_000 * (1 - fall)) * UNIT)
    return of, h.timeline()


def run(sizes: tuple[int, ...] = (500, 1_000, 2_000, 4_000)) -> list[dict[str, Any]]:
    """Seconds of the processor for a replay in which everybody is liquidated in one moment, the least of two."""
    rows = []
    for name, scenario, fall in (("price", BY_PRICE, 0.2), ("override", BY_OVERRIDE, 0.0)):
        replay(MORPHO_BLUE, *book(500, fall=fall), scenario)  # compiled
        for accounts in sizes:
            of, history = book(accounts, fall=fall)
            least, result = float("inf"), None
            for _ in range(2):
                started = time.process_time()
                result = replay(MORPHO_BLUE, of, history, scenario)
                least = min(least, time.process_time() - started)
            assert result is not None
            assert len(result.liquidations) == accounts
            shape = f"{accounts} liquidations in one moment, {len(result.deficits)} with bad debt"
            rows.append(
                {
                    "name": f"one moment, {name}",
                    "value": least,
                    "unit": "s",
                    "baseline": None,
                    "ratio": None,
                    "shape": shape,
                }
            )
    return rows


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:22} {row['value']:8.3f} {row['unit']} {row['shape']}")
