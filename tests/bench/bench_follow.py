"""From a block to its alerts, handed over: a market of the real contracts on the local node, through a crash, a block
at a time as fast as its alerts come.

Measured is the time from the moment at which the node shows a block until a destination has its last alert, the look at
the node, requests, fold, health and the write to disk included. The node is on this machine: on another one, thirteen
round trips come to it.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from backtest.fetch.rpc import Rpc
from backtest.follow import AlertLimits, Follower
from backtest.lake import Lake
from tests.chain.market import START
from tests.chain.market import run as played
from tests.chain.node import Node
from tests.support.branching import BranchingNode

POLL = 0.02
BLOCKS = 320


def run() -> list[dict[str, Any]]:
    with (
        Node(timestamp=START) as node,
        tempfile.TemporaryDirectory() as folder,
    ):
        record = played(node, "3.6")
        with BranchingNode(node, record.last_block, finality=20) as shown:
            first = record.last_block - BLOCKS
            shown.height = first
            return _measured(shown, first, record.deployment.market_config("bench"), Path(folder))


def _measured(shown: BranchingNode, first: int, config: Any, folder: Path) -> list[dict[str, Any]]:
    came: dict[int, float] = {}
    shown_at: dict[int, float] = {}
    taken: list[float] = []

    def send(line: bytes, again: bool) -> None:
        came[json.loads(line)["block"]] = time.perf_counter()

    stop = threading.Event()
    with Rpc(shown.url, workers=4) as rpc:
        limits = AlertLimits(large_base=20_000 * 10**8, deviates=300)
        lake = Lake(folder / "lake", create=True)
        with Follower(lake, config, rpc, limits, finality=20, destinations=[("bench", send)]) as follower:
            for number in range(first + 1, first + BLOCKS + 1):
                started = time.perf_counter()
                shown.height, shown_at[number] = number, started
                while follower.step():
                    pass
                taken.append(time.perf_counter() - started)
                stop.wait(POLL)
            while any(one.waiting for one in follower._destinations):
                stop.wait(POLL)
            valued, blocks = follower._watch.valued, follower.counts.blocks
    waits = sorted(came[number] - shown_at[number] for number in came if number in shown_at)
    shape = f"{len(waits)} of {BLOCKS} blocks with alerts, 230 accounts, {valued / blocks:.0f} valued a block"
    return [
        _row("follow: block to alert, median", _at(waits, 0.5), shape),
        _row("follow: block to alert, 99th percentile", _at(waits, 0.99), shape),
        _row("follow: a block taken on, median", _at(sorted(taken), 0.5), f"{BLOCKS} blocks"),
    ]


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _row(name: str, seconds: float, shape: str) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(seconds * 1_000, 1),
        "unit": "ms",
        "baseline": None,
        "ratio": None,
        "shape": shape,
    }


if __name__ == "__main__":
    for row in run():
        print(row)
