"""Hours of following in minutes: ``python -m tests.followed --minutes 10 --seed 1``. A market of the real contracts on
the local node, block after block, with reorganisations of depth 1 to 12, restarts, kills at random instants, a node
that stalls and a webhook that refuses; after each round nothing may be lost or doubled, and the lake is compared with a
later fetch.

``--seconds 172800`` is one round over a chain with a block in every second: what the market's contracts saw in two
days, with blocks without logs between. Where nothing happens, the follower looks at the node every minute or so of
the chain's time, where something does, every block or three.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chain.market import START, Record, run
from tests.chain.node import Node
from tests.support.branching import BranchingNode, SecondsNode
from tests.support.followed import DEEPEST, Hook, Trial

BEGIN = 100
"""The node's block behind which there is a block in every second: all but the market's first accounts come later."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--begin", type=int, default=BEGIN, help="the node's block from which there is one a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    total: Counter[str] = Counter()
    seed = options.seed
    with Node(timestamp=START) as node:
        record = run(node, "upgraded")
        while time.monotonic() < ends:
            total += (
                _by_seconds(record, seed, options.begin, options.seconds, ends)
                if options.seconds
                else _by_blocks(record, seed, ends)
            )
            total["rounds"] += 1
            seed += 1
            if options.seconds:
                break
    print(f"nothing lost, nothing doubled: {dict(total)}")


def _by_blocks(record: Record, seed: int, ends: float) -> Counter[str]:
    with (
        BranchingNode(record.deployment.node, record.last_block, finality=20) as shown,
        Hook() as hook,
        tempfile.TemporaryDirectory() as folder,
    ):
        shown.height = 120
        trial = _trial(record, shown, Path(folder), hook, seed)
        _round(trial, record.last_block, ends)
    print(f"seed {seed}: {dict(trial.counts)}, depths {dict(sorted(trial.depths.items()))}", flush=True)
    return trial.counts


def _trial(record: Record, shown: BranchingNode, folder: Path, hook: Hook, seed: int) -> Trial:
    config = record.deployment.market_config("followed")
    return Trial(shown, config, folder, hook, seed, sources_until=record.marks["source"][0])


def _round(trial: Trial, last: int, ends: float) -> None:
    trial.start()
    while trial.node.chain[trial.node.height].behind < last - 30 and time.monotonic() < ends:
        trial.live()
        trial.step()
        event = trial.draw.random()
        if event < 0.03:
            trial.stop()
            trial.hook.refuse = trial.draw.random() < 0.3
            trial.start()
        elif event < 0.06:
            trial.stop()
            trial.killed(trial.live, trial.draw.uniform(0.2, 2.0))
            trial.start()
    trial.hook.refuse = False
    trial.finish()
    trial.check()


def _by_seconds(record: Record, seed: int, begin: int, seconds: int, ends: float) -> Counter[str]:
    """One round over so many blocks, fewer where ``ends`` comes first."""
    with (
        SecondsNode(record.deployment.node, record.last_block, begin, finality=20) as shown,
        Hook() as hook,
        tempfile.TemporaryDirectory() as folder,
    ):
        shown.height = begin + 20
        trial = _trial(record, shown, Path(folder), hook, seed)
        _seconds(trial, shown, begin + 20 + seconds, ends)
    return trial.counts


def _seconds(trial: Trial, shown: SecondsNode, last: int, ends: float) -> None:
    draw, began, told = trial.draw, time.monotonic(), 0

    def live() -> None:
        if shown.busy(DEEPEST, 6):
            trial.live()
            return
        trial.grow(draw.randrange(1, 121))
        if draw.random() < 0.05:
            trial.reorganise(sum(trial.depths.values()) % DEEPEST + 1)

    trial.start()
    while shown.height < min(last, len(shown.chain) - 150) and time.monotonic() < ends:
        live()
        trial.step()
        event = draw.random()
        if event < 0.01:
            trial.stop()
            trial.hook.refuse = draw.random() < 0.3
            trial.start()
        elif event < 0.02:
            trial.stop()
            trial.killed(live, draw.uniform(0.2, 2.0))
            trial.start()
        elif event < 0.03:
            trial.stall(live)
        if shown.height - told > 5_000:
            told = shown.height
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
            print(
                f"{shown.height:,} blocks, {time.monotonic() - began:,.0f} s, {most:,.0f} MB, {dict(trial.counts)}",
                flush=True,
            )
    depths = dict(sorted(trial.depths.items()))
    print(f"followed {time.monotonic() - began:,.0f} s: {dict(trial.counts)}, depths {depths}", flush=True)
    trial.hook.refuse = False
    trial.finish()
    trial.check(every=60)
    print(f"checked after {time.monotonic() - began:,.0f} s: {len(trial.alerts()):,} alerts", flush=True)


if __name__ == "__main__":
    main()
