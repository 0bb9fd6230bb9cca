"""The knobs of the illustration, one replay for each of their values and seeds, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean, stdev
from typing import Literal

from backtest.black_thursday.day import OUTCOME, RULES_1_0, RULES_2_0, Keepers, Paths, Vaults, market_of
from backtest.protocols.maker import MAKER
from backtest.replay.competition.draws import Draws
from backtest.replay.engine import replay
from backtest.scenario import Costs, Gas, Participation, Scenario, Step
from backtest.units import WAD

Gases = Literal["day", "calm"]
"""Gas as it was, or as it was before the fall all day long."""

LOOK_SECONDS = 60
"""How often somebody looks again at what nobody took, where neither gas nor a price changed."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the grid: rules (10 or 20), gas, and the keepers."""

    rules: int
    gas: Gases
    keepers: Keepers

    @property
    def words(self) -> str:
        """For a table."""
        return f"rules {self.rules // 10}.0, {'gas as it was' if self.gas == 'day' else 'gas without the spike'}"


@dataclass(frozen=True, slots=True)
class GridTask:
    """One replay: a cell with vaults and caps drawn from one seed."""

    cell: Cell
    seed: int
    vaults: Vaults
    paths: Paths


@dataclass(frozen=True, slots=True)
class GridRun:
    """What came of one replay. Amounts in whole wad; ``free`` are auctions won for less than one DAI and ``free_value``
    what their lots were worth at the market's price when they were sold; ``waiting`` are auctions that were still open
    at the day's end.
    """

    cell: Cell
    seed: int
    opened: int
    closed: int
    free: int
    free_value: int
    sold_value: int
    paid: int
    shortfall: int
    waiting: int

    @property
    def free_share(self) -> float | None:
        """Of closed auctions; None where none closed."""
        return self.free / self.closed if self.closed else None


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over seeds with its 95 % interval (Student's t); the same number thrice where there is one seed only."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CellSummary:
    """One cell over its seeds: means of counts, USD and DAI, and of shares (0 to 1). ``free_share`` is None where
    nothing closed in any run.
    """

    cell: Cell
    seeds: int
    auctions: Mean
    free_share: Mean | None
    free_value: Mean
    shortfall: Mean
    recovered: Mean | None
    waiting: Mean


def cells(
    medians: Sequence[int], numbers: Sequence[int], stuck: Sequence[int], sigma: float, capital: int | None = None
) -> list[Cell]:
    """The grid: all keepers under rules 1.0 with the day's gas, the same without its spike, and rules 2.0 with the
    day's gas. Where gas stands still nobody gets stuck, so that there is one time for that.
    """
    ways: list[tuple[int, Gases]] = [(10, "day"), (10, "calm"), (20, "day")]
    return [
        Cell(rules, gas, Keepers(number, median, sigma, seconds, capital))
        for rules, gas in ways
        for seconds in (stuck if gas == "day" else stuck[:1])
        for number in numbers
        for median in medians
    ]


def perform(task: GridTask) -> GridRun:
    """One replay of the day."""
    cell, paths, draws, sample = task.cell, task.paths, Draws(task.seed), task.vaults.sample
    rules = RULES_1_0 if cell.rules == 10 else RULES_2_0
    market, timeline = market_of(paths, task.vaults.drawn(paths.prices[0], draws), rules)
    liquidators = Participation(
        searchers=cell.keepers.drawn(draws, sample), distribution="searchers", block_seconds=LOOK_SECONDS
    )
    costs = Costs(gas=_gas(cell.gas, paths))
    scenario = Scenario(name="black thursday", liquidators=liquidators, costs=costs, from_block=2, seed=task.seed)
    result = replay(MAKER, market, timeline, scenario)
    opened = free_value = sold_value = paid = 0
    ended: set[int] = set()
    free: set[int] = set()
    for step in result.liquidations:
        assert step.lot is not None
        if step.stage == "opened":
            opened += 1
            continue
        if not step.fill.seized:
            continue
        value = step.fill.repaid + step.waterfall.bonus + step.waterfall.basis  # at market prices; DAI counts as one
        sold_value, paid = sold_value + value, paid + step.fill.repaid
        ended.add(step.lot)
        if step.fill.repaid < WAD:
            free.add(step.lot)
            free_value += value
    shortfall = sum(deficit.amount for deficit in result.deficits)
    counted = opened, len(ended), len(free), free_value, sold_value, paid, shortfall, opened - len(ended)
    return GridRun(cell, task.seed, *(figure * sample for figure in counted))


def _gas(kind: Gases, paths: Paths) -> Gas:
    if kind == "calm":
        return Gas(fee="constant", base_fee=paths.calm_gas())
    first = next(i for i in range(len(paths.gas_times)) if paths.gas_times[i] >= paths.start)
    times = [datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S") for time in paths.gas_times[first:]]
    return Gas(
        fee="steps",
        steps=tuple(Step(from_time=time, base_fee=gas) for time, gas in zip(times, paths.gas[first:], strict=True)),
    )


def summarised(runs: Iterable[GridRun]) -> list[CellSummary]:
    """A row for each cell, in the order in which cells first come up."""
    of: dict[Cell, list[GridRun]] = {}
    for run in runs:
        of.setdefault(run.cell, []).append(run)
    return [_summary(cell, sorted(mine, key=lambda run: run.seed)) for cell, mine in of.items()]


def _summary(cell: Cell, runs: Sequence[GridRun]) -> CellSummary:
    shares = [share for run in runs if (share := run.free_share) is not None]
    recovered = [run.paid / run.sold_value for run in runs if run.sold_value]
    return CellSummary(
        cell=cell,
        seeds=len(runs),
        auctions=_mean([run.opened for run in runs]),
        free_share=_mean(shares, 1.0) if shares else None,
        free_value=_mean([run.free_value / WAD for run in runs]),
        shortfall=_mean([run.shortfall / WAD for run in runs]),
        recovered=_mean(recovered) if recovered else None,
        waiting=_mean([run.waiting for run in runs]),
    )


def _mean(values: Sequence[float], most: float | None = None) -> Mean:
    """None of these can be below zero, shares not above one: nor are their intervals."""
    mean = fmean(values)
    if len(values) < 2:
        return Mean(mean, mean, mean)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return Mean(mean, max(0.0, mean - half), mean + half if most is None else min(most, mean + half))


def region(summaries: Iterable[CellSummary]) -> list[CellSummary]:
    """Cells of rules 1.0 with the day's gas whose interval holds the day's share of zero bids."""
    share = OUTCOME["zero_bid_share"]
    return [
        each
        for each in summaries
        if (each.cell.rules, each.cell.gas) == (10, "day")
        and each.free_share is not None
        and each.free_share.low <= share <= each.free_share.high
    ]
