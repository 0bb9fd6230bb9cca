"""A stress on a real Dask cluster on this machine, prices answering to sales, one worker killed meanwhile: the same
bytes as by one process.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backtest.scenario import Joint
from backtest.stress import digest_of, store, stress
from backtest.sweep import Dask
from tests.support.dask_cluster import cluster
from tests.support.sample_sweeps import sample
from tests.support.small_stress import BLOCK, MARKET, small_suite

__all__ = ["cluster"]  # a fixture

# Dask's own: sockets and files that it leaves to the garbage collector, and what it says about busy machines.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("stress")]


def test_a_worker_is_killed_in_the_middle_and_the_bytes_are_the_same(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK", 2)
    lake, again = sample(tmp_path / "lake"), sample(tmp_path / "again")
    dask = Dask(cluster.scheduler_address)
    victim = sorted(dask.client.run(os.getpid).values())[0]

    def kill_one(done: int, total: int, failed: int) -> None:
        if 0 < done <= 2:
            os.kill(victim, signal.SIGKILL)

    try:
        outcome = stress(lake, MARKET, small_suite(answers=True), dask, block=BLOCK, seed=3, progress=kill_one)
        assert victim not in dask.client.run(os.getpid).values()
    finally:
        dask.close()
    assert (outcome.replayed, outcome.failed) == (13, ())
    plain = stress(again, MARKET, small_suite(answers=True), block=BLOCK, seed=3)
    assert plain.stress_id == outcome.stress_id
    assert digest_of(lake, MARKET, outcome.stress_id) == digest_of(again, MARKET, plain.stress_id)


def test_several_markets_go_to_each_worker(cluster: Any, tmp_path: Path) -> None:
    suite = small_suite()
    scenario = replace(suite.scenario, joint=Joint(markets=(MARKET, "sample-calm")))
    suite = replace(suite, scenario=scenario, cases=suite.cases[2:3])
    lake, again = sample(tmp_path / "lake"), sample(tmp_path / "again")
    dask = Dask(cluster.scheduler_address)
    try:
        outcome = stress(lake, MARKET, suite, dask, block=BLOCK)
    finally:
        dask.close()
    assert (outcome.replayed, outcome.failed) == (1, ())
    plain = stress(again, MARKET, suite, block=BLOCK)
    assert digest_of(lake, MARKET, outcome.stress_id) == digest_of(again, MARKET, plain.stress_id)
