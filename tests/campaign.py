"""Faults by the hundred: each a fetch into a new lake through a proxy that misbehaves; the lake must equal the clean
one, or the fetch must end with a named error and, run again from a good node, equal it then.

    python -m tests.campaign --faults 1000 --seed 1
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from backtest.errors import UserError
from backtest.lake import Lake
from tests import faults as f
from tests.synthetic import ChainNode, made_up_chain
from tests.test_fetch_lies import counted_anew, false_header
from tests.test_fetch_logs import calls_of, run

COUNTED = ("tried", "equal", "named error", "wrong")
HEIGHT = 60


def denied_calls(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
    """Reverts instead of answers to calls."""
    return f.error_reply(body, 3, "execution reverted") if b'"eth_call"' in body else None


def empty_calls(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response | None:
    """No bytes instead of answers to calls."""
    if b'"eth_call"' not in body:
        return None
    return f.changed_results(body, forward, lambda result: "0x")


def kinds(draw: random.Random) -> Mapping[str, tuple[str, f.Fault]]:
    """Name to (group, fault)."""
    block = draw.randrange(1, HEIGHT)
    word = f"0x{draw.getrandbits(256):064x}"
    reorder = f.logs_fault(lambda logs, own: [counted_anew(log) for log in logs])
    return {
        "429": ("transport", f.too_many_requests),
        "rate in body": ("transport", f.rate_in_body),
        "5xx": ("transport", f.server_error),
        "truncated": ("transport", f.truncated),
        "cut off": ("transport", f.cut_off),
        "dropped": ("transport", f.dropped),
        "omitted": ("content", f.omitted),
        "omitted ends": ("content", f.omitted_ends),
        "doubled": ("content", f.doubled),
        "shuffled": ("order", f.shuffled),
        "indexes anew": ("order", reorder),
        "parent hash": ("lies", false_header(block, parentHash=word)),
        "header hash": ("lies", false_header(block, hash=word)),
        "header time": ("lies", false_header(block, timestamp=hex(draw.randrange(1 << 30)))),
        "calls revert": ("lies", denied_calls),
        "calls empty": ("lies", empty_calls),
    }


def campaign(faults: int, seed: int) -> dict[str, Counter[str]]:
    """Kind to how often it was tried and what came out. Counted are faults that a proxy dealt."""
    draw = random.Random(seed)
    chain = made_up_chain(height=HEIGHT, per_block=2.0, seed=seed)
    table: dict[str, Counter[str]] = {}
    with ChainNode(chain, calls_of(chain)) as node, tempfile.TemporaryDirectory() as folder:
        clean = Lake(Path(folder) / "clean", create=True)
        run(clean, node.url, headers="all")
        good = clean.digest("made-up")
        dealt = number = 0
        while dealt < faults:
            for name, (group, fault) in kinds(draw).items():
                number += 1
                lake = Lake(Path(folder) / f"lake{number}", create=True)
                plan = f.Plan(sometimes=[fault], chance=draw.choice([0.2, 0.5, 1.0]), seed=draw.getrandbits(30), most=8)
                said = ""
                with f.FaultProxy(node.url, plan) as proxy:
                    try:
                        run(lake, proxy.url, headers="all", omissions="always", attempts=12, workers=2)
                    except UserError as error:
                        said = str(error)
                made = plan.dealt["sometimes"]
                dealt += made
                counts = table.setdefault(f"{group}: {name}", Counter())
                counts["tried"] += made
                if said and ";" in said:
                    run(Lake(lake.path), node.url, headers="all", omissions="always")
                same = Lake(lake.path).digest("made-up") == good
                counts["wrong" if not same else "named error" if said else "equal"] += made
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    table = campaign(given.faults, given.seed)
    print(f"{'kind':<28}" + "".join(f"{name:>14}" for name in COUNTED))
    for kind, counts in [*table.items(), ("all", sum(table.values(), Counter()))]:
        print(f"{kind:<28}" + "".join(f"{counts[name]:>14}" for name in COUNTED))
    return 1 if any(counts["wrong"] for counts in table.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
