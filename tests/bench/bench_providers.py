"""Failover: what a request takes whose provider dies while it is asked, until another one's answer is there.

Three ways to die, each twenty times, of one of two providers in front of a made-up chain on this machine: it hangs up,
it answers with errors, it is silent from one moment on. Before each, both are well and have been asked.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from backtest.fetch.providers import Providers, ProviderSettings
from backtest.fetch.rpc import Rpc
from tests.support import faults as f
from tests.support.synthetic import ChainNode, made_up_chain

ROUNDS = 20
ASKED = 8


def run() -> list[dict[str, Any]]:
    chain = made_up_chain(height=200, seed=5, odd=False)
    with ChainNode(chain, {}) as node:
        ways = {"hangs up": f.dropped, "answers errors": f.server_error, "is silent": None}
        return [_row(name, [_lost(node.url, fault) for _ in range(ROUNDS)]) for name, fault in ways.items()]


def _lost(url: str, fault: f.Fault | None) -> float:
    """Seconds of the slowest of some requests, one after another, the first of which meets the fault."""
    over = threading.Event()

    def silent(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response:
        over.wait(30)
        return 0, {}, b""

    def slower(body: bytes, forward: f.Forward, draw: random.Random) -> f.Response:
        time.sleep(0.005)
        return forward(body)

    try:
        with f.FaultProxy(url, f.Plan()) as first, f.FaultProxy(url, f.Plan(always=[slower])) as second:
            providers = Providers([ProviderSettings(first.url, "first"), ProviderSettings(second.url, "second")], 0.0)
            with Rpc(providers, workers=4) as rpc:
                for block in range(1, ASKED + 1):
                    rpc.header(block)
                first.plan = f.Plan(always=[fault or silent])
                waits = []
                for block in range(ASKED + 1, 2 * ASKED + 1):
                    started = time.perf_counter()
                    assert rpc.header(block) is not None
                    waits.append(time.perf_counter() - started)
                over.set()
                return max(waits)
    finally:
        over.set()


def _row(way: str, waits: list[float]) -> dict[str, Any]:
    waits.sort()
    return {
        "name": f"providers: one {way}, until another one's answer",
        "value": round(1_000 * waits[len(waits) // 2], 1),
        "unit": "ms",
        "baseline": None,
        "ratio": None,
        "shape": f"median of {ROUNDS}, at most {1_000 * waits[-1]:.0f} ms",
    }


if __name__ == "__main__":
    for row in run():
        print(row)
