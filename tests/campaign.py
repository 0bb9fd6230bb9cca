"""Faults by the hundred: each a fetch into a new lake past what misbehaves: a proxy, a disk, a killed process.

What may come out: the clean lake (equal); an error with a remedy, and the clean lake once a good node is asked (named
error); a lake that says by a note or by ``check`` what is amiss, and is the clean one once its blocks are taken again
(named lake). Anything else is wrong.

    python -m tests.campaign --faults 1000 --seed 1
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from backtest.errors import UserError
from backtest.fetch import feeds
from backtest.fetch import logs as logs_module
from backtest.fetch.adapters import raw_address
from backtest.fetch.raw import LakeEvents
from backtest.lake import Lake, checks, storage
from backtest.prices.fold import fold_prices
from backtest.tables import RAW_STATE
from tests.support import faults as f
from tests.support.fetching import calls_of, run
from tests.support.lies import counted_anew, false_header
from tests.support.priced_chain import PricedNode
from tests.support.synthetic import ChainNode, Vaults, made_up_chain, market
from tests.support.zygote import ROOT, ZYGOTE

READS = RAW_STATE["raw/oracle/Read"].empty_table()
OUTCOMES = ("equal", "named error", "named lake", "wrong")
HEIGHT = 60
WINDOW = 25
"""Blocks of oracle state in one commit: several, so that each window begins with reads of old state."""

# -- faults of one request
# --------------------------------------------------------------------------------------------------


def calls_fault(change: Callable[[dict[str, Any], random.Random], None]) -> f.Fault:
    """A fault in the answers to eth_call: ``change`` gets each reply of one."""

    def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if b'"eth_call"' not in body:
            return None
        status, headers, data = forward(body)
        requests, replies = json.loads(body), json.loads(data)
        calls = {one["id"] for one in _listed(requests) if one["method"] == "eth_call"}
        for reply in _listed(replies):
            if reply["id"] in calls:
                change(reply, draw)
        return status, headers, json.dumps(replies).encode()

    return fault


def _listed(body: Any) -> list[dict[str, Any]]:
    return body if isinstance(body, list) else [body]


def reverted(reply: dict[str, Any], draw: random.Random) -> None:
    reply.pop("result", None)
    reply["error"] = {"code": 3, "message": "execution reverted"}


def told(value: str | None) -> Callable[[dict[str, Any], random.Random], None]:
    def change(reply: dict[str, Any], draw: random.Random) -> None:
        reply.pop("error", None)
        reply["result"] = value

    return change


def singly(change: Callable[[dict[str, Any], random.Random], None], chance: float) -> f.Fault:
    """The change to some calls of a batch only."""
    return calls_fault(lambda reply, draw: change(reply, draw) if draw.random() < chance else None)


def of_old_blocks(change: Callable[[dict[str, Any], random.Random], None] | None) -> f.Fault:
    """The change to calls at blocks below the last one; None: they are answered from its state."""

    def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if b'"eth_call"' not in body:
            return None
        requests = json.loads(body)
        old = {
            one["id"] for one in _listed(requests) if one["method"] == "eth_call" and int(one["params"][1], 16) < HEIGHT
        }
        for one in _listed(requests) if change is None else ():
            if one["id"] in old:
                one["params"][1] = hex(HEIGHT)
        status, headers, data = forward(json.dumps(requests).encode())
        replies = json.loads(data)
        for reply in _listed(replies) if change is not None else ():
            if reply["id"] in old:
                change(reply, draw)
        return status, headers, json.dumps(replies).encode()

    return fault


def swapped(across: bool) -> f.Fault:
    """Two neighbouring logs of a block change their indexes, within one transaction or across two."""

    def swap(logs: list[dict[str, Any]], draw: random.Random) -> list[dict[str, Any]]:
        pairs = [
            (one, other)
            for one, other in itertools.pairwise(logs)
            if one["blockNumber"] == other["blockNumber"]
            and (one["transactionHash"] != other["transactionHash"]) == across
        ]
        pairs = pairs or [
            (one, other) for one, other in itertools.pairwise(logs) if one["blockNumber"] == other["blockNumber"]
        ]
        for one, other in [draw.choice(pairs)] if pairs else []:
            one["logIndex"], other["logIndex"] = other["logIndex"], one["logIndex"]
        return logs

    return f.logs_fault(swap)


def broken_data(draw: random.Random, once: bool) -> f.Fault:
    """One log's data do not fit its event, in replies for ranges only, or however it is asked for."""
    drawn = draw.random()

    def spoil(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        long = [log for log in logs if len(log["data"]) == 194]
        if long:
            log = min(long, key=lambda log: abs(int(log["blockNumber"], 16) - drawn * HEIGHT))
            log["data"] = log["data"][:-2] + "77"
        return logs

    if once:
        return f.logs_fault(lambda logs, _: spoil(logs))

    def fault(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
        if b"eth_getLogs" not in body:
            return None

        def change(result: Any) -> Any:
            return [
                {**log, "data": log["data"][:-2] + "77"}
                if len(log["data"]) == 194 and int(log["blockNumber"], 16) % 7 == int(drawn * 7)
                else log
                for log in result
            ]

        return f.changed_results(body, forward, change)

    return fault


# -- where they are dealt
# ---------------------------------------------------------------------------------------------------


@dataclass
class Scene:
    """A good node, what a fetch from it takes, and what the clean lake is."""

    node: ChainNode
    protocol: Vaults
    digest: str = ""
    notes: frozenset[str] = frozenset()
    violated: frozenset[str] = frozenset()

    def fetch(self, lake: Lake, url: str, **options: Any) -> list[str]:
        """The notes of a fetch."""
        fixed = {"headers": "all", "omissions": "always", "protocol": self.protocol}
        return run(lake, url, **{**fixed, **options}).notes

    def learn(self, folder: Path) -> None:
        lake = Lake(folder, create=True)
        self.notes = frozenset(self.fetch(lake, self.node.url))
        self.digest, self.violated = lake.digest("made-up"), self.named(lake)

    def is_clean(self, path: Path) -> bool:
        return Lake(path).digest("made-up") == self.digest

    def outcome(self, path: Path, said: str, notes: list[str]) -> str:
        """What came of a fetch that ended with ``said``, or else with these notes."""
        if said:
            if "; " not in said:
                return "wrong"
            try:
                notes = self.fetch(Lake(path), self.node.url)
            except UserError as error:  # what was stored before contradicts the good node
                notes = [str(error)]
            if self.is_clean(path):
                return "named error"
        elif self.is_clean(path):
            return "equal"
        if not set(notes) - self.notes and not self.named(Lake(path)) - self.violated:
            return "wrong"
        self.fetch(Lake(path), self.node.url, again=(0, HEIGHT))
        return "named lake" if self.is_clean(path) else "wrong"

    def named(self, lake: Lake) -> frozenset[str]:
        """What ``check`` finds; of prices, which have no canonical tables here, what it would find in those."""
        found = frozenset(one.check for one in checks.run(lake) if not one.passed)
        if not isinstance(self.node, PricedNode):
            return found
        raw = {dataset: lake.read(dataset, "made-up") for dataset in lake.datasets("made-up")}
        events = LakeEvents(lake, "made-up", "vaults", self.protocol.events)
        times = {row["block_number"]: row["timestamp"] for row in raw["raw/chain/Header"].to_pylist()}
        prices = fold_prices(market(), raw, self.protocol.price_sources(events), times)
        reads = {(row["block_number"], row["asset"]) for row in raw.get("raw/oracle/Read", READS).to_pylist()}
        unread = [
            block
            for change in self.protocol.price_sources(events)
            for block in events.table("Label")["block_number"].to_pylist()
            if block >= change.block_number and (block, raw_address(change.asset)) not in reads
        ]
        found |= {"prices__read_at_liquidations"} if unread else set()
        return found | {f"overruled {(prices.schema.metadata or {}).get(b'mismatches')!r}"}


@dataclass
class Kind:
    """``deal(scene, path, draw)``: (how many faults were dealt, what came out)."""

    scene: str
    deal: Callable[[Scene, Path, random.Random], tuple[int, str]]


def by_proxy(make: Callable[[random.Random], f.Fault], always: bool = False) -> Callable[..., tuple[int, str]]:
    """Replies at random, up to eight, each counted; or all replies, counted as one."""

    def deal(scene: Scene, path: Path, draw: random.Random) -> tuple[int, str]:
        fault = make(draw)
        plan = f.Plan(sometimes=[fault], chance=draw.choice([0.2, 0.5, 1.0]), seed=draw.getrandbits(30), most=8)
        if always:
            plan = f.Plan(always=[fault])
        said, notes = "", []
        with f.FaultProxy(scene.node.url, plan) as proxy:
            try:
                notes = scene.fetch(Lake(path, create=True), proxy.url, attempts=12, workers=2)
            except UserError as error:
                said = str(error)
        dealt = min(1, plan.dealt.total()) if always else plan.dealt["sometimes"]
        return dealt, scene.outcome(path, said, notes)

    return deal


class FailingOs:
    """``os``, of which one call in the storage fails."""

    def __init__(self, after: int, code: int) -> None:
        self._left, self._code = after, code
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("fsync", "fchmod", "replace", "link"):
            return real

        def call(*args: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                self.failed = 1
                raise OSError(self._code, os.strerror(self._code))
            return real(*args)

        return call


def by_disk(code: int) -> Callable[..., tuple[int, str]]:
    """From some write on, a disk that is full or broken."""

    def deal(scene: Scene, path: Path, draw: random.Random) -> tuple[int, str]:
        said, notes = "", []
        failing = FailingOs(draw.randrange(80), code)
        lake = Lake(path, create=True)
        with mock.patch.object(storage, "os", failing):
            try:
                notes = scene.fetch(lake, scene.node.url)
            except UserError as error:
                said = str(error)
        return failing.failed, scene.outcome(path, said, notes)

    return deal


@dataclass
class Killer:
    """Processes that fetch and are killed."""

    zygote: subprocess.Popen[str]
    longest: float = field(default=0.15)

    def deal(self, scene: Scene, path: Path, draw: random.Random) -> tuple[int, str]:
        """Up to four kills at random moments; then once to the end."""
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        killed = 0
        for _ in range(draw.randrange(1, 5)):
            self.zygote.stdin.write(f"{scene.node.url} {path}\n")
            self.zygote.stdin.flush()
            child = int(self.zygote.stdout.readline())
            time.sleep(draw.uniform(0.0, self.longest))
            os.kill(child, signal.SIGKILL)
            self.zygote.stdin.write("wait\n")
            self.zygote.stdin.flush()
            killed += os.WIFSIGNALED(int(self.zygote.stdout.readline()))
        notes = scene.fetch(Lake(path, create=True), scene.node.url)
        return killed, scene.outcome(path, "", notes)


@contextmanager
def killer() -> Iterator[Killer]:
    command = [sys.executable, "-c", ZYGOTE]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as zygote:
        yield Killer(zygote)
        assert zygote.stdin is not None
        zygote.stdin.close()


def kinds(kill: Killer) -> Mapping[str, Kind]:
    """Every kind of fault by name, group first."""

    def header(name: str) -> Callable[[random.Random], f.Fault]:
        values = {"timestamp": lambda draw: hex(draw.randrange(1 << 30))}
        word = values.get(name, lambda draw: f"0x{draw.getrandbits(256):064x}")
        return lambda draw: false_header(draw.randrange(1, HEIGHT), **{name: word(draw)})

    reorder = f.logs_fault(lambda logs, own: [counted_anew(log) for log in logs])
    plain: dict[str, f.Fault] = {
        "transport: 429": f.too_many_requests,
        "transport: rate in body": f.rate_in_body,
        "transport: 5xx": f.server_error,
        "transport: truncated": f.truncated,
        "transport: cut off": f.cut_off,
        "transport: dropped": f.dropped,
        "content: omitted": f.omitted,
        "content: omitted ends": f.omitted_ends,
        "content: doubled": f.doubled,
        "order: shuffled": f.shuffled,
        "order: indexes anew": reorder,
        "order: swapped in a transaction": swapped(False),
        "order: swapped across two": swapped(True),
        "lies: batches revert": calls_fault(reverted),
        "lies: batches empty": calls_fault(told("0x")),
        "lies: batches null": calls_fault(told(None)),
        "lies: calls revert": singly(reverted, 0.3),
        "lies: calls empty": singly(told("0x"), 0.3),
    }
    state = {
        "old state reverts": of_old_blocks(reverted),
        "old state empty": of_old_blocks(told("0x")),
        "old state null": of_old_blocks(told(None)),
        "latest state": of_old_blocks(None),
    }
    found = {name: Kind("plain", by_proxy(lambda draw, fault=fault: fault)) for name, fault in plain.items()}
    found["content: broken data once"] = Kind("plain", by_proxy(lambda draw: broken_data(draw, True)))
    found["content: broken data"] = Kind("plain", by_proxy(lambda draw: broken_data(draw, False), always=True))
    for name in ("parentHash", "hash", "timestamp"):
        found[f"lies: header {name}"] = Kind("plain", by_proxy(header(name)))
    for scene in ("feeds", "caps"):
        for name, fault in {**state, "calls revert": singly(reverted, 0.2)}.items():
            found[f"oracle of {scene}: {name}, at times"] = Kind(scene, by_proxy(lambda draw, fault=fault: fault))
        for name, fault in state.items():
            found[f"oracle of {scene}: {name}"] = Kind(scene, by_proxy(lambda draw, fault=fault: fault, always=True))
    found["kills: SIGKILL"] = Kind("plain", kill.deal)
    found["disk: full"] = Kind("plain", by_disk(errno.ENOSPC))
    found["disk: broken"] = Kind("feeds", by_disk(errno.EIO))
    return found


def campaign(faults: int, seed: int) -> dict[str, Counter[str]]:
    """Kind to how often it was tried and what came out: counted are faults that were dealt."""
    draw = random.Random(seed)
    chain = made_up_chain(height=HEIGHT, per_block=2.0, seed=seed, odd=False)
    table: dict[str, Counter[str]] = {}
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(feeds, "WINDOW", WINDOW))
        stack.enter_context(mock.patch.object(logs_module, "COMMIT_ROWS", 25))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scenes = {"plain": Scene(stack.enter_context(ChainNode(chain, calls_of(chain))), Vaults())}
        for name, capped in (("feeds", False), ("caps", True)):
            priced = stack.enter_context(PricedNode(HEIGHT, seed, capped))
            scenes[name] = Scene(priced, priced.protocol)
        for name, scene in scenes.items():
            scene.learn(folder / name)
        every = kinds(stack.enter_context(killer()))
        dealt = number = 0
        while dealt < faults:
            for name, kind in every.items():
                number += 1
                made, outcome = kind.deal(scenes[kind.scene], folder / f"lake{number}", draw)
                dealt += made
                counts = table.setdefault(name, Counter())
                counts["tried"] += made
                counts[outcome] += made
                counts["wrong"] += outcome == "wrong" and not made
    return table


def main() -> int:
    """Exit code: 1 where a lake came out wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    table = campaign(given.faults, given.seed)
    columns = ("tried", *OUTCOMES)
    print(f"{'kind':<44}" + "".join(f"{name:>13}" for name in columns))
    for kind, counts in [*table.items(), ("all", sum(table.values(), Counter()))]:
        print(f"{kind:<44}" + "".join(f"{counts[name]:>13}" for name in columns))
    return 1 if any(counts["wrong"] for counts in table.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
