"""Sweeps of the bundled crash: scenarios a minute by one process and by two."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from backtest.lake import Lake
from backtest.resources import resource
from backtest.scenario import Competitive, Scenario
from backtest.sweep import Executor, Processes, Serial, Sweep, sweep, with_axes

MARKET = "sample-crash"


def run() -> list[dict[str, Any]]:
    """Scenarios a minute; ``baseline`` of the processes is the serial figure."""
    base, axes = with_axes(
        Scenario(name="base", liquidators=Competitive()),
        ["WETH.liquidation_threshold=8100..8400/100", "liquidation_bonus+=0..400/100"],
    )
    spec = Sweep(axes=axes, scenario=base)
    lake = Lake(resource("sample") / "lake")
    accounts, events = (lake.read(f"canonical/{name}", MARKET).num_rows for name in ("accounts", "events"))
    shape = f"{accounts} accounts, {events} events, 20 sets and a baseline"
    _rate(Serial(), Sweep(axes=axes[:1], scenario=base))  # compiled functions are cached
    began = time.process_time()
    serial = _rate(Serial(), spec)
    seconds = (time.process_time() - began) / 21
    both = _rate(Processes(2), spec)
    return [
        {
            "name": "sweep, one process",
            "value": serial,
            "unit": "scenarios/min",
            "baseline": None,
            "ratio": None,
            "shape": shape,
        },
        {
            "name": "sweep, two processes",
            "value": both,
            "unit": "scenarios/min",
            "baseline": serial,
            "ratio": both / serial,
            "shape": shape,
        },
        {
            "name": "sweep, one scenario",
            "value": seconds,
            "unit": "CPU s",
            "baseline": None,
            "ratio": None,
            "shape": shape,
        },
    ]


def _rate(executor: Executor, spec: Sweep) -> float:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(resource("sample") / "lake", Path(folder) / "lake")
        started = time.perf_counter()
        outcome = sweep(Lake(Path(folder) / "lake"), MARKET, spec, executor)
        return outcome.replayed * 60 / (time.perf_counter() - started)


if __name__ == "__main__":
    for figure in run():
        print(figure)
