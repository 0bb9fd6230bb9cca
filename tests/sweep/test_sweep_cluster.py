"""Sweeps on a real Dask cluster on this machine, one worker killed meanwhile, and on a lake in a bucket: the same rows
as by one process.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from backtest import sweep as sweeps
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.sweep import Dask, sweep
from tests.support.bucket_lakes import address, copied_sample, server
from tests.support.dask_cluster import cluster
from tests.support.sample_sweeps import CRASH, rows_of, sample, serial, small

__all__ = ["address", "cluster", "serial", "server"]  # fixtures

# Dask's own: sockets and files that it leaves to the garbage collector, and what it says about busy machines.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_a_worker_is_killed_in_the_middle_and_the_rows_are_the_same(
    serial: tuple[Lake, dict[str, list[str]]], cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "BATCH", 2)
    lake = sample(tmp_path / "lake")
    dask = Dask(cluster.scheduler_address)
    before = dask.client.run(os.getpid)
    assert len(before) == 2
    victim = sorted(before.values())[0]
    shipped: list[str] = []
    seen: list[int] = []

    def kill_one(done: int, total: int, failed: int) -> None:
        seen.append(done)
        if done == 2:
            os.kill(victim, signal.SIGKILL)
        if done == total - 1:
            shipped.extend(dask.client.run(_held).values())

    try:
        outcome = sweep(lake, CRASH, small(), dask, progress=kill_one)
        assert victim not in dask.client.run(os.getpid).values()
        left = dask.client.run(_held)
    finally:
        dask.close()
    assert (outcome.replayed, outcome.failed) == (10, ())
    assert seen == list(range(11))
    assert rows_of(lake, CRASH) == serial[1]
    # the material lay in one folder per worker while the sweep ran, and is gone
    assert shipped
    assert all(shipped)
    assert not any(os.path.exists(folder) for folder in (*shipped, *left.values()))


def test_a_scheduler_that_goes_ends_the_sweep_and_fails_no_scenario(cluster: Any, tmp_path: Path) -> None:
    lake = sample(tmp_path / "lake")
    dask = Dask(cluster.scheduler_address)
    try:
        with pytest.raises(UserError, match="the scheduler is gone; start it again and run the same"):
            sweep(
                lake, CRASH, small(), dask, progress=lambda done, total, failed: cluster.close() if done == 2 else None
            )
    finally:
        dask.close()
    lake.refresh()
    statuses = [row["status"] for row in lake.read("results/sweep_scenarios", CRASH).to_pylist()]
    assert len(statuses) >= 2
    assert set(statuses) == {"done"}


def _held() -> str:
    from backtest.sweep import executors

    return executors._held


def test_a_sweep_on_s3_makes_the_same_rows(serial: tuple[Lake, dict[str, list[str]]], address: str) -> None:
    lake = copied_sample(address)
    assert sweep(lake, CRASH, small()).replayed == 10
    assert rows_of(Lake(address), CRASH) == serial[1]
    assert (
        lake.sql("SELECT count(*) FROM sweep_pareto").fetchall()
        == serial[0].sql("SELECT count(*) FROM sweep_pareto").fetchall()
    )
