"""The pairs of a world: what the tool says of each change, and what the chain says that had it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backtest.report.proposal import Proposal
from tests.chain.node import Node
from tests.coverage.asked import answer, asked, equals, recorded
from tests.coverage.chain import MEASURES, START, Happened, opened, play
from tests.coverage.scored import said_of
from tests.coverage.world import DOSES, world

PARAMETERS = tuple(DOSES)


def pairs_of(seed: int, count: int = len(PARAMETERS), *, equal: bool = True) -> Iterator[dict[str, Any]]:
    """Pairs of one world, as rows: what the tool says of one parameter, and the truth; then of equal parameters."""
    with Node(timestamp=START) as node, tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        market, own = opened(node), world(seed)
        a = play(market, own)
        lake = recorded(market, Path(folder) / "lake", a.last_block)
        changes = list(own.changes.items())[:count]
        b = {change: play(market, own, change) for change in changes}
        if a.totals["liquidations"] == 0:
            return  # nothing to learn from, nothing to ask
        known = asked(lake, seed)
        about = {"seed": seed, "bots": own.bots, "calibrated": known.calibrated}
        for change in changes:
            for baseline, ensemble in (("calibrated", known.ensemble), ("frictionless", None)):
                found = answer(lake, ensemble, *change, a.change_block)
                said = {"baseline": baseline, "parameter": change[0], "value": change[1]}
                yield {**about, **said, "measures": _rows(found, a, b[change])}
        if equal:
            for findings in equals(known):
                yield {
                    **about,
                    "baseline": "calibrated",
                    "parameter": "",
                    "measures": {f.measure.key: said_of(f) for f in findings},
                }


def _rows(found: Proposal, a: Happened, b: Happened) -> dict[str, dict[str, Any]]:
    rows = {}
    for key in MEASURES:
        finding = found.finding(key)
        assert finding.verdict.history == a.totals[key], (key, finding.verdict.history, a.totals)
        rows[key] = {**said_of(finding), "truth": b.totals[key] - a.totals[key]}
    return rows


def world_of(seed: int) -> list[dict[str, Any]]:
    """All pairs of a world."""
    return list(pairs_of(seed))
