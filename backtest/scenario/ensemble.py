"""An ensemble: weighted draws of who liquidates and at what cost, which together say what is known of them and what is
not. Pure.

    title = "sample-crash"
    source = "calibrated on sample-crash, blocks 8 to 400, 120 liquidations, seed 0"
    fitted = { market = "sample-crash", from_block = 8, to_block = 400 }

    [[draw]]
    weight = 0.75
    liquidators = { kind = "participation", mean = 9_000 }
    costs = { flash_fee = 5 }

``liquidators`` and ``costs`` are the tables of scenario files; weights are shares of their sum. Where several markets
were pooled, ``fitted`` is a list of such tables.
"""

from __future__ import annotations

import math
from itertools import accumulate

import msgspec
from msgspec.structs import replace

from backtest import foreign
from backtest.errors import ScenarioError, did_you_mean
from backtest.scenario import Costs, Modelled, Scenario
from backtest.scenario.base import Strict, plain
from backtest.scenario.toml import explained, kinds_of, parse_toml

MOST_DRAWS = 1_000


class Draw(Strict, frozen=True):
    """One set of parameters."""

    weight: float
    """Positive; a share of the sum of all."""
    liquidators: Modelled
    """Who liquidates."""
    costs: Costs = Costs()
    """What a liquidation costs them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ScenarioError(f"weight = {self.weight} is no weight", "give a number above 0")


class FittedOn(Strict, frozen=True):
    """The blocks of a market that an ensemble was fitted on, both ends among them."""

    market: str
    from_block: int
    to_block: int

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.market, "fitted.market")
        if not 0 <= self.from_block <= self.to_block < 1 << 63:
            raise ScenarioError(f"fitted: blocks {self.from_block} to {self.to_block}", "give a first and a last block")

    def shared(self, market: str, first: int, last: int) -> int:
        """How many of these blocks of a market are among them."""
        return max(0, min(last, self.to_block) - max(first, self.from_block) + 1) if market == self.market else 0


class Ensemble(Strict, frozen=True):
    """What a file holds."""

    draw: tuple[Draw, ...]
    """At least one."""
    title: str = ""
    """What tables call it."""
    source: str = ""
    """What it rests on, printed with results."""
    fitted: FittedOn | tuple[FittedOn, ...] | None = None
    """What it resembles because it was made so: one market's blocks, or those of each market that was pooled."""

    def __post_init__(self) -> None:
        super().__post_init__()
        plain(self.title, "title")
        plain(self.source, "source")
        if len({each.market for each in self.fitted_on}) < len(self.fitted_on):
            raise ScenarioError("fitted names a market twice", "give the blocks of each market once")
        if not 1 <= len(self.draw) <= MOST_DRAWS:
            raise ScenarioError(f"{len(self.draw)} draws", f"give 1 to {MOST_DRAWS:,}: [[draw]]")

    @property
    def fitted_on(self) -> tuple[FittedOn, ...]:
        """The blocks of each market that it was fitted on, if it says."""
        return (self.fitted,) if isinstance(self.fitted, FittedOn) else self.fitted or ()

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the draws, in order; their sum is one."""
        largest = max(draw.weight for draw in self.draw)  # so that no sum is beyond what a float holds
        whole = math.fsum(draw.weight / largest for draw in self.draw)
        return tuple(draw.weight / largest / whole for draw in self.draw)

    def parts(self, count: int) -> list[int]:
        """For how many of ``count`` equal parts of the weight each draw stands: for those whose middle lies in its own
        part (systematic resampling).
        """
        ends = list(accumulate(self.weights))
        parts = [0] * len(self.draw)
        for part in range(count):
            middle = (part + 0.5) / count
            parts[next((place for place, end in enumerate(ends) if middle < end), len(ends) - 1)] += 1
        return parts

    def at_most(self, count: int) -> Ensemble:
        """``count`` draws that stand for all, where there are more: every count-th part of the weight by the draw at
        its middle (systematic resampling), so that nothing is left to chance. A draw that stands for several parts has
        their weight.
        """
        if len(self.draw) <= count:
            return self
        kept = zip(self.draw, self.parts(count), strict=True)
        return replace(self, draw=tuple(replace(draw, weight=float(own)) for draw, own in kept if own))


def parse_ensemble(text: str, where: str) -> Ensemble:
    """An ensemble from TOML text; ``where`` names its file in errors. ScenarioError, one line that names the draw, for
    anything not understood.
    """
    try:
        return parse_toml(text, Ensemble, where)
    except ScenarioError as error:
        raise _naming_the_draw(text, where) or error from None


def _naming_the_draw(text: str, where: str) -> ScenarioError | None:
    """What is wrong with the first draw that makes no sense; None where it is something else."""
    try:
        draws = foreign.toml_value(text).get("draw")
    except foreign.Unreadable:
        return None
    for place, draw in enumerate(draws if isinstance(draws, list) else ()):
        named = f"{foreign.shown(where)}: draw[{place}]"
        if not isinstance(draw, dict):
            return ScenarioError(f"{named} is no table", "write [[draw]]")
        kinds, given = kinds_of(Modelled), draw.get("liquidators")
        if isinstance(given, dict) and (kind := str(given.get("kind", ""))) not in kinds:
            what = f"unknown liquidators '{foreign.shown(kind, 60)}'" if kind else "liquidators without their kind"
            return ScenarioError(f"{named}: {what}", did_you_mean(kind, kinds))
        try:
            msgspec.convert(draw, Draw)
        except msgspec.ValidationError as error:
            said = explained(error, draw, named, Draw)
            return ScenarioError(said.what.replace(": scenario: ", ": "), said.fix)
        except ScenarioError as error:
            return ScenarioError(f"{named}: {error.what}", error.fix)
    return None


def drawn(scenario: Scenario, draw: Draw) -> Scenario:
    """The scenario with the liquidators and costs of a draw."""
    return replace(scenario, liquidators=draw.liquidators, costs=draw.costs)
