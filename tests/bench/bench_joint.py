"""Joint replays: what one clock and one purse cost, by the number of markets, against replays one by one.

``python -m tests.bench.bench_joint`` prints the rows; ``make bench`` collects ``run()``.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.engine import replay
from backtest.replay.joint import JointPart, purse_of, replay_jointly
from backtest.scenario import Scenario, SealedBid, Searcher
from tests.bench.bench_replay import market, timeline

ACCOUNTS, TICKS = 2_000, 20_000
SCENARIO = Scenario(liquidators=SealedBid(searchers=tuple(Searcher(name=name, capital=10**30) for name in "abc")))


def run() -> list[dict[str, Any]]:
    """Seconds a market, of each number of markets; the baseline is its replay alone in the same run."""
    fixed, history = market(ACCOUNTS), timeline(ACCOUNTS, TICKS, fall=0.3)
    replay(AAVE_V3, fixed, history, SCENARIO)  # compiled
    started = time.perf_counter()
    alone = replay(AAVE_V3, fixed, history, SCENARIO)
    each = time.perf_counter() - started
    rows = []
    for number in (2, 4, 8):
        parts = [JointPart(AAVE_V3, replace(fixed, name=f"m{place}"), history, SCENARIO) for place in range(number)]
        started = time.perf_counter()
        found = replay_jointly(parts, purse=purse_of(SCENARIO))
        taken = (time.perf_counter() - started) / number
        assert [len(one.liquidations) for one in found] == [len(alone.liquidations)] * number
        rows.append(
            {
                "name": f"joint replay of {number} markets, one purse: seconds a market",
                "value": taken,
                "unit": "s",
                "baseline": each,
                "ratio": each / taken,
                "shape": f"{ACCOUNTS:,} accounts, {TICKS:,} prices, {len(alone.liquidations):,} liquidations each",
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
