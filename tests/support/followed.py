"""A follower put through what happens to followers: reorganisations, restarts, kills, a node that stalls; and what must
hold of it at the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from backtest.errors import FetchError
from backtest.fetch import fetch
from backtest.fetch.adapters import selector
from backtest.fetch.rpc import Rpc
from backtest.follow import AlertLimits, Follower
from backtest.follow.destinations import to_webhook
from backtest.follow.limits import LATE
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.prices.fold import read_sources
from backtest.reconstruct import reconstruct
from tests.support.branching import BranchingNode, Shown
from tests.support.expected_alerts import expected_alerts

LIMITS = AlertLimits(within=300, large_base=20_000 * 10**8, late=2400, deviates=500)
DEEPEST = 12
CUT = ("raw/oracle/State", "raw/oracle/Phase")
"""What an oracle's inputs were at the start of each fetch: these rows hang on how the blocks were cut into fetches,
what follows from them (``canonical/prices``) does not.
"""


class Hook:
    """A webhook that keeps what it gets. ``refuse``: it answers with an error, and keeps nothing."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.refuse = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not owner.refuse:
                    owner.got.append(json.loads(body))
                self.send_response(503 if owner.refuse else 204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alerts"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> Hook:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Trial:
    """One lake that follows a branching node, driven block by block."""

    node: BranchingNode
    config: MarketConfig
    folder: Path
    hook: Hook
    seed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    sources_until: int | None = None
    """The node's block in which an asset gets another source."""
    _old: list[Sequence[Shown]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.path = self.folder / "lake"
        self._follower: Follower | None = None
        self._rpc: Rpc | None = None
        self.first: int | None = None

    # -- in this process ------------------------------------------------------------------------------------------

    def start(self) -> Follower:
        """Open, or open again."""
        self._rpc = Rpc(self.node.url, workers=4, backoff=0.005, max_backoff=0.02, attempts=3, timeout=5)
        self._follower = follower(self.path, self.config, self._rpc, self.node.finality, self.hook.url)
        self._follower.__enter__()
        if self.first is None:
            self.first = self._follower.head.branch.final.number
        return self._follower

    def stop(self) -> None:
        """Close; what is final and waits is not stored."""
        assert self._follower is not None
        assert self._rpc is not None
        self._follower.close()
        self._rpc.close()
        self.counts["restarts"] += 1

    def step(self) -> None:
        """One look at the node, and final blocks stored now and then."""
        assert self._follower is not None
        while self._follower.step():
            pass
        if self.draw.random() < 0.05:
            self.counts["stored"] += self._follower.settle(all_of_it=True)

    def finish(self) -> None:
        """Everything is final, stored and handed over; the follower is closed."""
        assert self._follower is not None
        while self._follower.step():
            pass
        self.node.finality = self._follower.finality = 0
        self._follower.settle(all_of_it=True)
        self.stop()

    def live(self) -> None:
        """Some seconds of the chain, at random: blocks come, now and then others in their place."""
        self.grow(self.draw.randrange(1, 4))
        if self.draw.random() < 0.2:
            self.reorganise(sum(self.depths.values()) % DEEPEST + 1)

    def stall(self, live: Callable[[], None]) -> None:
        """The node does not answer while the chain goes on; then it does again."""
        assert self._follower is not None
        self.node.stalls.set()
        live()
        try:
            self._follower.step()
        except FetchError:
            self.counts["stalls"] += 1
        finally:
            self.node.stalls.clear()
        self.step()

    # -- what happens -----------------------------------------------------------------------------------------------

    def grow(self, blocks: int) -> None:
        """The node has more blocks."""
        before = self.node.height
        self.node.height = min(before + blocks, len(self.node.chain) - 1)
        self.counts["blocks"] += self.node.height - before

    def reorganise(self, depth: int) -> None:
        """The newest blocks are replaced: by a new branch, or by one that was left a while ago."""
        height = self.node.height
        back = [
            chain
            for chain in self._old
            if len(chain) > height + 1 and height - DEEPEST <= self._shared(chain, height) < height
        ]
        if back and self.draw.random() < 0.4:
            chain = self.draw.choice(back)
            depth = height - self._shared(chain, height)
            self._old.append(self.node.chain)
            self.node.show(chain)
            self.counts["redone"] += 1
        else:
            self._old.append(self.node.chain)
            self.node.branch(height - depth, f"{self.seed} {self.counts['reorganisations']}")
        self.node.height = height + self.draw.randrange(2)
        self.depths[depth] += 1
        self.counts["reorganisations"] += 1
        self._old = self._old[-8:]

    def _shared(self, chain: Sequence[Shown], height: int) -> int:
        at = height
        while chain[at].header["hash"] != self.node.chain[at].header["hash"]:
            at -= 1
        return at

    # -- in a process that is killed --------------------------------------------------------------------------------

    def killed(self, live: Callable[[], None], seconds: float) -> None:
        """A follower of its own runs while the chain lives, until it is killed."""
        child = os.fork()
        if not child:
            _run_alone(self.path, self.config, self.node.url, self.node.finality, self.hook.url)
        ends = time.monotonic() + seconds
        try:
            while time.monotonic() < ends:
                live()
                time.sleep(0.03)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self.counts["kills"] += 1

    # -- what must hold -----------------------------------------------------------------------------------------------

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert that was written."""
        path = self.path / "follow" / self.config.name / "outbox.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [row for row in rows if row["kind"] != "block"]

    def check(self, every: int = 1) -> None:
        """At the end: no alert lost, none doubled, each handed over; the lake as a later fetch leaves it. ``every``: as
        of ``expected_alerts``.
        """
        written = self.alerts()
        ids = [row["id"] for row in written]
        assert len(set(ids)) == len(ids)
        undone = {row["undoes"] for row in written if row["kind"] == "undone"}
        assert undone <= set(ids)
        standing = [row for row in written if row["kind"] != "undone" and row["id"] not in undone]
        hashes = {number: shown.header["hash"] for number, shown in enumerate(self.node.chain[: self.node.height + 1])}
        assert [row for row in standing if row["block_hash"] != hashes[row["block"]]] == []
        keys = Counter((row["kind"], row["who"], row.get("asset", ""), row["block_hash"]) for row in standing)
        assert [key for key, times in keys.items() if times > 1] == []
        self._check_lake()
        assert self.first is not None
        lake = Lake(self.path)
        ours = {
            (row["kind"], row["who"], row.get("asset", ""), row["block"]) for row in standing if row["kind"] != LATE
        }
        expected = expected_alerts(lake, self.config.name, LIMITS, self.first, self.node.height, every)
        assert (sorted(expected - ours), sorted(ours - expected)) == ([], [])
        self._check_late(lake, {(row["who"], row["block"]) for row in standing if row["kind"] == LATE})
        self._check_hook(ids)

    def _check_late(self, lake: Lake, ours: set[tuple[str, int]]) -> None:
        """Feeds whose answer got too old, as the node says it of every block until sources change."""
        assert self.first is not None
        sources = read_sources(lake.read("raw/oracle/Source", self.config.name))
        feeds = [source.address for source in sources.values() if source.kind == "feed"]
        expected = set()
        last = self.node.height
        for feed in feeds:
            before = True
            for number in range(self.first, self.node.height + 1):
                shown = self.node.chain[number]
                if self.sources_until is not None and shown.behind >= self.sources_until:
                    last = min(last, number - 1)
                    break
                call = {"to": feed, "data": selector("latestRoundData()")}
                try:
                    told = self.node.state("eth_call", [call], shown.behind)
                except LookupError:
                    continue
                if len(told) < 2 + 5 * 64:  # not there yet
                    continue
                late = int(shown.header["timestamp"], 16) - int(told[2 + 3 * 64 : 2 + 4 * 64], 16) > (LIMITS.late or 0)
                if late and not before:
                    expected.add((feed, number))
                before = late
        assert {one for one in ours if one[1] <= last} == expected
        self.counts["late"] = len(expected)

    def _check_hook(self, ids: list[str]) -> None:
        """Each came; twice only where it is marked as one that may have come before."""
        first = [row["id"] for row in self.hook.got if not row.get("again")]
        assert len(set(first)) == len(first)
        assert sorted({row["id"] for row in self.hook.got}) == sorted(ids)
        self.counts["came again"] = len(self.hook.got) - len(ids)

    def _check_lake(self) -> None:
        name, first = self.config.name, self.first
        assert first is not None
        ours = Lake(self.path)
        reconstruct(ours, name)
        ours.refresh()
        later = Lake(self.folder / "later", create=True)
        with Rpc(self.node.url, workers=4) as rpc:
            fetch(later, self.config, rpc, to_block=first, finality=0)
            fetch(later, self.config, rpc, from_block=first + 1, finality=0, headers="all")
        reconstruct(later, name)
        later.refresh()
        assert ours.digest(name, "canonical/") == later.digest(name, "canonical/")
        for dataset in later.datasets(name):
            if dataset not in CUT:
                assert ours.read(dataset, name).equals(later.read(dataset, name)), dataset


def follower(path: Path, config: MarketConfig, rpc: Rpc, finality: int, hook: str) -> Follower:
    """A follower of the lake there."""
    lake = Lake(path, create=True)
    return Follower(lake, config, rpc, LIMITS, finality=finality, destinations=[("hook", to_webhook(hook))])


def _run_alone(path: Path, config: MarketConfig, url: str, finality: int, hook: str) -> None:
    """Until the process is killed."""
    try:
        with (
            Rpc(url, workers=4, backoff=0.005, max_backoff=0.02, attempts=3, timeout=5) as rpc,
            follower(path, config, rpc, finality, hook) as one,
        ):
            while True:
                one.run(threading.Event(), poll=0.01, patience=0.05)
    except BaseException as error:  # whatever it is, the parent's test goes on without it and fails by what is lost
        print(f"follower ended: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(1)
