"""From a block to its alerts, handed over: a market of the real contracts on the local node, through a crash, a block
at a time as fast as its alerts come.

Measured is the time from the moment at which the node shows a block until a destination has its last alert, the look at
the node, requests, fold, health and the write to disk included. The node is on this machine: on another one, thirteen
round trips come to it.

Requests and the fold of a block's own logs do not grow with the market; what does is measured on a made-up book of
100,000 accounts: from the moment at which a block's prices are known until its alerts are on disk, through calm, a fall
of a tenth in which nobody liquidates, and after it.
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
from backtest.follow.limits import WatchList
from backtest.follow.outbox import Outbox
from backtest.follow.state import BlockChanges, MarketState, SeenBlock
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.model import PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from tests.bench import bench_replay
from tests.bench.memory import peak_memory
from tests.chain.market import START
from tests.chain.market import run as played
from tests.chain.node import Node
from tests.support.branching import BranchingNode

POLL = 0.02
BLOCKS = 320


LARGE, TICKS, FALL = 100_000, 400, 0.1


def run() -> list[dict[str, Any]]:
    return _real() + large()


def _real() -> list[dict[str, Any]]:
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


def large(accounts: int = LARGE, ticks: int = TICKS) -> list[dict[str, Any]]:
    """One price in every block, of one asset after another."""
    config, history = bench_replay.market(accounts), bench_replay.timeline(accounts, ticks, fall=FALL)
    book: Book[Any] = Book.open(protocol_named(config.protocol), config)
    prices: dict[int, list[tuple[Any, int | None]]] = {}
    for event in history:
        if event.block_number == 1:
            book.apply(event)
        elif isinstance(event, PriceUpdate):
            prices.setdefault(event.block_number, []).append((event.asset, event.price))
    described = MarketConfig(
        name=config.name, protocol=config.protocol, chain_id=1, start_block=1,
        base_decimals=8, contracts={},
    )  # fmt: skip
    standing = MarketState(described, book, config.accounts, 1, None)
    started = time.perf_counter()
    watch = WatchList(standing, AlertLimits())
    opened = time.perf_counter() - started
    took: dict[str, list[float]] = {"calm": [], "fall": [], "after": []}
    counted = dict.fromkeys(took, 0)
    with (
        tempfile.TemporaryDirectory() as folder,
        Outbox(Lake(Path(folder) / "lake", create=True), "bench", 1) as outbox,
    ):
        before = watch.valued
        for number in range(2, ticks + 2):
            at = "calm" if number < ticks * 9 // 20 else "fall" if number < ticks * 11 // 20 else "after"
            block = SeenBlock(number, f"0x{number:064x}", f"0x{number - 1:064x}", book.now.timestamp + 12)
            started = time.perf_counter()
            outbox.write(block, watch.block(standing, BlockChanges(block, (), prices.get(number, ()))))
            took[at].append(time.perf_counter() - started)
            counted[at] += watch.valued - before
            before = watch.valued
    started = time.perf_counter()
    standing.copy()
    copied = time.perf_counter() - started
    rows = []
    for at, waits in took.items():
        shape = f"{accounts} accounts, {len(waits)} blocks, {counted[at] / len(waits):.0f} valued a block"
        rows.append(_row(f"follow, large market, {at}: prices to alerts, median", _at(sorted(waits), 0.5), shape))
        rows.append(
            _row(f"follow, large market, {at}: prices to alerts, 99th percentile", _at(sorted(waits), 0.99), shape)
        )
    shape = f"{accounts} accounts, {peak_memory() >> 20} MB at most in the whole process"
    rows.append(_row("follow, large market: everyone watched anew", opened, shape))
    rows.append(_row("follow, large market: a copy of its state", copied, shape))
    return rows


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
