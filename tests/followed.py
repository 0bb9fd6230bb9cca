"""Hours of following in minutes: ``python -m tests.followed --minutes 10 --seed 1``. A market of the real contracts on
the local node, block after block, with reorganisations of depth 1 to 12, restarts, kills at random instants and a
webhook that refuses; after each round nothing may be lost or doubled, and the lake is compared with a later fetch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chain.market import START, run
from tests.chain.node import Node
from tests.support.branching import BranchingNode
from tests.support.followed import Hook, Trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    total: Counter[str] = Counter()
    seed = options.seed
    with Node(timestamp=START) as node:
        record = run(node, "upgraded")
        config = record.deployment.market_config("followed")
        while time.monotonic() < ends:
            with (
                BranchingNode(node, record.last_block, finality=20) as shown,
                Hook() as hook,
                tempfile.TemporaryDirectory() as folder,
            ):
                shown.height = 120
                changes = record.marks["source"][0]
                trial = Trial(shown, config, Path(folder), hook, seed, sources_until=changes)
                _round(trial, record.last_block, ends)
            total += trial.counts
            total["rounds"] += 1
            print(f"seed {seed}: {dict(trial.counts)}, depths {dict(sorted(trial.depths.items()))}", flush=True)
            seed += 1
    print(f"nothing lost, nothing doubled: {dict(total)}")


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


if __name__ == "__main__":
    main()
