"""What the compiled loop of a replay did, and what of a replay is the same whichever way it was made."""

from __future__ import annotations

from collections import Counter

import pytest

from backtest.protocols import loop as rows
from backtest.protocols.aave_v3.state import MOVED, MOVED_SHORT
from backtest.protocols.interface import LendingProtocol
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.replay.shortcuts import loop, stretch
from backtest.replay.shortcuts.common_start import start_of
from backtest.scenario import Scenario
from tests.sketches.history import History


def outcome(result: Replay[object]) -> dict[str, object]:
    kept = "spells deficits totals horizons events reach made_liquidatable refused rules actions book"
    found = {name: getattr(result, name) for name in kept.split()}
    # whether another order might depend on what a reserve has left is said to be on the safe side
    return found | {"liquidations": [repr(made).replace(MOVED_SHORT, MOVED) for made in result.liquidations]}


def count_ends(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the loop ended a stretch in which way, and how many liquidations it made; books are small here."""
    monkeypatch.setattr(stretch, "MANY", 0)
    found: Counter[str] = Counter()
    compiled = loop.loop_of

    def counted(rules: rows.CompiledRules) -> object:
        def run(*args: object) -> None:
            state = next(arg for arg in args if getattr(arg, "shape", None) == (loop.STATE,))
            before = int(state[loop.COUNT])  # type: ignore[index]
            compiled(rules)(*args)
            found[("done", "not here", "no room")[state[loop.ENDED]]] += 1  # type: ignore[index]
            found["made"] += int(state[loop.COUNT]) - before  # type: ignore[index]

        return run

    monkeypatch.setattr(loop, "loop_of", counted)
    return found


def compare(protocol: LendingProtocol[object], h: History, scenario: Scenario, seed: int) -> int:
    """A replay, one from a common start, and another from the same, against the plain one; how many liquidations."""
    history = h.timeline()
    plain = replay(protocol, h.market, history, scenario, samples=5, screened=False)
    quick = replay(protocol, h.market, history, scenario, samples=5)
    for name, value in outcome(plain).items():
        assert outcome(quick)[name] == value, (seed, name)
    start = start_of(protocol, h.market, history, scenario)
    for _ in range(2):  # what the first made of the start is the same for the second
        again = replay(protocol, h.market, history, scenario, samples=5, start=start)
        assert outcome(again)["liquidations"] == outcome(plain)["liquidations"], seed
        assert (again.horizons, again.book) == (plain.horizons, plain.book)
    return len(plain.liquidations)
