"""Paths of a stress over a synthetic Aave V3.6 book: a day of five-minute steps, settled in exact integers; where
prices do not answer to liquidations, and where they do.

``python -m tests.bench.bench_stress`` prints the rows; ``make bench`` collects ``run()``.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow as pa

from backtest.model import AssetId
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.ahead import standing
from backtest.scenario import Competitive, Scenario
from backtest.scenario.impact import AssetImpact, ChainlinkRule, ConstantProductDepth, Impact
from backtest.shocks import Panel, StressCase, Suite, fits_of
from backtest.shocks.models import Filtered, Jumps
from backtest.stress.paths import Prepared, StressQuestion, row_of
from backtest.tables import AMOUNT
from tests.bench.bench_replay import ASSETS, market, timeline
from tests.bench.memory import peak_memory

ACCOUNTS, STEPS, STEP = 100_000, 288, 300
PATHS, BOUND_SECONDS, BOUND_GIB = 10_000, 900.0, 4.0
SAMPLE, FEW = 40, 24
CASES = {
    "calm": StressCase(name="calm", prices=Filtered()),
    "crash": StressCase(name="crash", prices=Jumps(per_day=20_000, size=-1_000, deviation=500)),
}


IMPACT = Impact(
    netting="none",
    assets=tuple(
        AssetImpact(
            asset=f"A{place}",
            depth=ConstantProductDepth(reserve=10_000_000),
            half_life=3_600,
            permanent=2_000,
            oracle=ChainlinkRule(deviation=50, heartbeat=3_600, delay=12),
            measured="an assumption",
        )
        for place in range(ASSETS // 2)
    ),
)
"""Each volatile asset is sold into a constant product that holds ten million of it."""


def data(assets: int, rows: int = 8_640, step: int = STEP) -> Panel:
    """A month of returns: volatile assets at a deviation of 0.25 % a step and a correlation of 0.8, clustered; the
    others stand.
    """
    draw = np.random.default_rng(11)
    volatile = assets // 2
    common = draw.standard_t(5, (rows, 1)) * np.sqrt(0.6)
    own = draw.standard_normal((rows, volatile))
    waves = np.exp(0.5 * np.sin(np.arange(rows) / 50))[:, None]
    returns = np.zeros((rows, assets))
    returns[:, :volatile] = 0.0025 * waves * (np.sqrt(0.8) * common + np.sqrt(0.2) * own)
    return Panel(tuple(f"A{place}" for place in range(assets)), step, 1_600_000_000, returns, np.ones(assets, np.bool_))


def prepared(accounts: int, assets: int, steps: int = STEPS, *, answers: bool = False) -> Prepared:
    """The book that stands, and the fits."""
    base = Scenario(name="bench", liquidators=Competitive(), impact=IMPACT if answers else Impact())
    suite = Suite(name="bench", version=1, cases=tuple(CASES.values()), horizon=steps * STEP, scenario=base)
    history, panel = timeline(accounts, 20, fall=0.0, assets=assets), data(assets)
    params = params_of(history)
    stands = standing(AAVE_V3, market(accounts, assets), history, params, 10)
    fits = fits_of(suite.cases, panel)
    asked = StressQuestion(suite=suite, block=10, seed=1, panel=(panel.assets, panel.step, panel.end))
    columns = tuple(AssetId(place) for place in range(assets))
    return Prepared(asked, stands, panel, tuple(fits[case.name] for case in suite.cases), columns, None)


def params_of(history: Timeline) -> pa.Table:
    """History's parameters as a table again."""
    rows = history.params
    return pa.table(
        {
            "seq": [row.seq for row in rows],
            "block_number": [row.block_number for row in rows],
            "log_index": pa.array([row.log_index for row in rows], pa.int32()),
            "timestamp": [row.timestamp for row in rows],
            "asset_id": pa.array([row.asset for row in rows], pa.int16()),
            "category": pa.array([row.category for row in rows], pa.int32()),
            "name": pa.array([row.name for row in rows]).dictionary_encode(),
            "value": pa.array([row.value for row in rows], AMOUNT),
        }
    )


def _paths(made: Prepared, case: int, numbers: range) -> tuple[float, int]:
    """Seconds of the processor, and liquidations of all."""
    row_of(made, case, numbers[0])  # compiles, once
    begun = time.process_time()
    count = sum(row_of(made, case, number)["liquidations"] for number in numbers)
    return time.process_time() - begun, count


def _part(case: int, sample: int, answers: bool, place: int) -> tuple[float, float, int, int]:
    """In a process of its own: seconds of the processor for what is made once, and for half of a sample; liquidations;
    peak memory, bytes.
    """
    begun = time.process_time()
    made = prepared(ACCOUNTS, ASSETS, answers=answers)
    once = time.process_time() - begun
    seconds, count = _paths(made, case, range(place, sample, 2))
    return once, seconds, count, peak_memory()


def _row(name: str, value: float, unit: str, shape: str, baseline: Any = None, ratio: Any = None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "shape": shape}


def run() -> list[dict[str, Any]]:
    """Paths a minute and 10,000 paths on two cores from a sample of two processes; then cost curves on one."""
    rows = []
    kinds = (("calm", SAMPLE, False), ("crash", SAMPLE, False), ("calm", SAMPLE, True), ("crash", FEW, True))
    for name, sample, answers in kinds:
        place = list(CASES).index(name)
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            parts = list(pool.map(_part, [place] * 2, [sample] * 2, [answers] * 2, [0, 1]))
        each = sum(part[1] for part in parts) / sample
        whole = max(part[0] for part in parts) + each * PATHS / 2
        count = sum(part[2] for part in parts) / sample
        memory = sum(part[3] for part in parts) / 2**30
        shape = (
            f"{ACCOUNTS} accounts x {ASSETS} assets x {STEPS} steps, {count:,.0f} liquidations a path; from"
            f" {sample} paths in 2 processes"
        )
        name += ", prices that answer" if answers else ""
        rows += [
            _row(f"stress paths, {name}, two cores", 120 / each, "paths/min", shape),
            _row(f"10,000 stress paths, {name}", whole, "s", shape, BOUND_SECONDS, BOUND_SECONDS / whole),
            _row(f"peak memory, stress, {name}", memory, "GiB", shape, BOUND_GIB, BOUND_GIB / memory),
        ]
    curves = [(25_000, ASSETS, STEPS), (50_000, ASSETS, STEPS), (ACCOUNTS, ASSETS, STEPS)]
    curves += [(ACCOUNTS, 16, STEPS), (ACCOUNTS, 32, STEPS), (ACCOUNTS, ASSETS, 72), (ACCOUNTS, ASSETS, 1_152)]
    for accounts, assets, steps in curves:
        seconds, count = _paths(prepared(accounts, assets, steps), 1, range(1, 11))
        shape = f"{accounts} accounts x {assets} assets x {steps} steps, {count / 10:,.0f} liquidations a path"
        rows.append(_row("cost curve, a stress path", seconds / 10 * 1_000, "ms", shape))
    # Where prices answer most of the time goes into sales: by accounts of a calm day, and by liquidations of a crash.
    for accounts in (25_000, 50_000, ACCOUNTS):
        for case, name in enumerate(CASES):
            seconds, count = _paths(prepared(accounts, ASSETS, answers=True), case, range(1, 11))
            shape = f"{accounts} accounts x {ASSETS} assets, {name}, {count / 10:,.0f} liquidations a path"
            rows.append(_row("cost curve, a stress path, prices that answer", seconds / 10 * 1_000, "ms", shape))
    made = prepared(ACCOUNTS, ASSETS)
    for paths in (10, 40, 160):
        seconds, _ = _paths(made, 1, range(1, paths + 1))
        rows.append(_row("cost curve, stress paths", seconds, "s", f"{paths} paths, {ACCOUNTS} accounts"))
    return rows


if __name__ == "__main__":
    for figure in run():
        print(figure)
