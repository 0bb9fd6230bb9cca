"""A suite of stress cases as one frozen value, parsed strictly from TOML; and the paths of a case."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from backtest.errors import ScenarioError, UserError
from backtest.scenario import Competitive, Scenario
from backtest.scenario.base import Strict, at_least, plain
from backtest.scenario.toml import parse_toml
from backtest.shocks.draws import stream
from backtest.shocks.events import AnyEvent
from backtest.shocks.models import AnyModel, Filtered, Fit
from backtest.shocks.panel import Panel, columns
from backtest.shocks.path import StressPath

LONGEST = 2_000
"""Steps of a path, at most."""
FARTHEST = 23.0
"""Of a price's logarithm: ten thousand million times as much, or as little."""


class Follow(Strict, frozen=True):
    """When an oracle that follows the market speaks: where the price moved by ``deviation`` from what it said, or
    ``heartbeat`` after that (Chainlink's rule).
    """

    deviation: int = 0
    """Basis points; 0: at every step."""
    heartbeat: int = 3_600
    """Seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(0, deviation=self.deviation)
        at_least(1, heartbeat=self.heartbeat)


class StressCase(Strict, frozen=True):
    """One thing that may happen: how prices move, and what happens beside."""

    name: str
    """What tables call it."""
    prices: AnyModel = Filtered()
    """How they move by themselves."""
    events: tuple[AnyEvent, ...] = ()
    """What happens beside, in this order."""
    paths: int | None = None
    """How many paths; None: the suite's number, one where nothing is drawn."""
    needs: tuple[str, ...] = ()
    """Assets of which the market must have one, else the case does not concern it."""
    source: str = ""
    """Where its figures are from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.name, "case")
        at_least(1, paths=self.paths)

    @property
    def random(self) -> bool:
        """Whether its paths differ."""
        spans = [getattr(event, field) for event in self.events for field in event.__struct_fields__]
        drawn = any(
            isinstance(span, tuple) and len(span) == 2 and isinstance(span[0], int) and span[0] != span[1]
            for span in spans
        )
        return self.prices.random or drawn

    def concerns(self, panel: Panel) -> bool:
        """Whether the market has what it needs."""
        return not self.needs or bool(columns(panel, self.needs))

    def path(self, fit: Fit, panel: Panel, follow: Follow, seed: int, number: int, steps: int) -> StressPath:
        """One of its paths, a function of the seed, the case's name and the path's number."""
        path = StressPath.still(steps, len(panel.assets))
        drawn = self.prices.draw(fit, stream(seed, f"{self.name}/prices", number), steps)
        level = np.cumsum(drawn.returns, axis=0)
        if not np.abs(level).max(initial=0.0) < FARTHEST:  # not a number is none either
            raise UserError(
                f"case '{self.name}': a price moves beyond e^{FARTHEST} times itself",
                "take a smaller scale or volatility",
            )
        path.market[:] = path.oracle[:] = np.exp(level)
        for beside, values in ((path.gas, drawn.gas), (path.depth, drawn.depth)):
            if values is not None:
                beside *= values
        for place, event in enumerate(self.events):
            event.happen(path, panel, stream(seed, f"{self.name}/{place}", number))
        if follow.deviation:
            _follow(path, follow, panel.step)
        return path


class Suite(Strict, frozen=True):
    """Named and versioned cases, the grid that they are drawn on, and who liquidates."""

    name: str
    """What tables call it."""
    version: int
    """Raised when a case changes."""
    cases: tuple[StressCase, ...]
    """What may happen."""
    description: str = ""
    """In a sentence."""
    horizon: int = 86_400
    """Seconds."""
    step: int = 300
    """Seconds."""
    days: int = 90
    """Of history that models are fitted to, at most; as many as there are where there are fewer."""
    paths: int = 1_000
    """Of each case that draws, unless asked for otherwise."""
    oracle: Follow = Follow()
    """How oracles follow the market."""
    scenario: Scenario = Scenario(name="stress", liquidators=Competitive())
    """Who liquidates, at which costs and by which mechanism; and changed parameters. Its blocks are not read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.name, "suite")
        at_least(1, version=self.version, step=self.step, days=self.days, paths=self.paths)
        if not self.cases:
            raise ScenarioError("a suite without cases", "give one [[cases]] at least")
        names = [case.name for case in self.cases]
        if len(set(names)) < len(names):
            raise ScenarioError("two cases of the same name", "names differ")
        if self.horizon % self.step or not 1 <= self.steps <= LONGEST:
            raise ScenarioError(
                f"a horizon of {self.horizon} s in steps of {self.step} s",
                f"give a whole number of steps, 1 to {LONGEST}",
            )

    @property
    def steps(self) -> int:
        """Of a path."""
        return self.horizon // self.step

    def paths_of(self, case: StressCase) -> int:
        """How many paths of a case are drawn."""
        return case.paths or (self.paths if case.random else 1)

    def canonical(self) -> str:
        """Canonical JSON: sorted keys."""
        body: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(self, scenario=Scenario()))
        body["scenario"] = json.loads(self.scenario.canonical())
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def digest_with(self, *parts: str) -> str:
        """SHA-256, hex, of the suite and what else decides its results."""
        return hashlib.sha256(json.dumps([self.canonical(), *parts]).encode()).hexdigest()


def parse_suite(text: str, where: str) -> Suite:
    """A suite from TOML text; ``where`` names its file in errors. ScenarioError, one line, for anything not
    understood.
    """
    return parse_toml(text, Suite, where, "docs/stress.md")


def fits_of(cases: Sequence[StressCase], panel: Panel) -> Mapping[str, Fit]:
    """The fit of each case that concerns the market, by name."""
    return {case.name: case.prices.fit(panel) for case in cases if case.concerns(panel)}


def _follow(path: StressPath, follow: Follow, step: int) -> None:
    """The oracle says nothing where it would not speak; in place."""
    said, since = np.ones(path.oracle.shape[1]), np.zeros(path.oracle.shape[1])
    for row in path.oracle:
        since += step
        with np.errstate(invalid="ignore"):
            moved = np.abs(row / said - 1) >= follow.deviation / 10_000
        speaks = ~np.isnan(row) & (moved | (since >= follow.heartbeat))
        said, since = np.where(speaks, row, said), np.where(speaks, 0, since)
        row[~speaks] = np.nan
