"""A baseline that resembles history: frictions of liquidators fitted to a market of a lake, and tested on what the fit
did not see.

History is split by time, or another market is held out. Draws of frictions are replayed over the part that is learnt
from and held against it (``calibration.frictions``); those that are kept are replayed over the part held out, which
says how well they do there, beside frictionless liquidators and a rate model that knows no accounts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.compute as pc
from msgspec.structs import replace

from backtest.calibration import frictions as f
from backtest.calibration import shown as s
from backtest.calibration.fitting import Floats
from backtest.errors import UserError
from backtest.lake import Lake
from backtest.protocols.registry import protocol_named
from backtest.replay.competition.gas import NO_FEES
from backtest.replay.engine import Engine, mechanism_for, replay
from backtest.replay.forecast import look_ahead
from backtest.replay.memory import uncollected
from backtest.replay.record import Liquidation
from backtest.results import Material, require_current
from backtest.scenario import Competitive, Scenario
from backtest.sweep.executors import begin_worker
from backtest.sweep.worker import material_in, pack

FAR = 10
"""A draw is stopped once accounts have stood on offer for this many times as long as in history, and"""
AT_LEAST = 60
"""in history counts as this many seconds for each liquidation: it is far from history, and slow."""
NAIVE_DRAWS = 400
ROLLING = 3
"""Parts of the held-out window, each forecast from history's own book at its beginning."""
FEWEST = 5
"""Liquidations of each of them, and the fewest that are held out: a test on fewer says nothing, a fit needs more."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A market whose tables lie in ``folder``, where every process reads them; ``unit``: base units of one unit of its
    base currency.
    """

    name: str
    folder: str
    unit: int

    @classmethod
    def of(cls, lake: Lake, market: str, folder: Path) -> Packed:
        """Pack the tables of a market into a folder."""
        require_current(lake, market)
        pack(lake, market, folder)
        return cls(market, str(folder), 10 ** lake.market_config(market).base_decimals)


@dataclass(frozen=True, slots=True)
class FitWindow:
    """One side of the split: its blocks, what history shows of it, and what frictionless liquidators do in it.

    ``patience``: seconds for which accounts may stand on offer, all together, before a draw is stopped.
    """

    market: Packed
    first: int
    last: int
    start: int
    seconds: int
    history: s.Shown
    frictionless: s.Shown
    taken: tuple[Liquidation, ...]
    """What happened."""
    patience: int

    @property
    def liquidations(self) -> int:
        """How many happened."""
        return int(self.history.liquidations)


@dataclass(frozen=True, slots=True)
class Rolled:
    """A part of what was held out: what the kept draws show of it, and log densities by measure of what happened in it,
    of the draws, of frictionless liquidators, and of the rate model (``shown.RATED`` only).
    """

    window: FitWindow
    shown: Floats
    scores: Floats
    frictionless: Floats
    naive: Floats


@dataclass(frozen=True, slots=True)
class Fit:
    """``kept`` draws with their weights; ``learnt`` and ``tested`` are what each of them shows of either window, on the
    scale of ``shown.vector``; ``rolling`` are the parts of what was held out, with their scores.
    """

    learn: FitWindow
    held_out: FitWindow
    priors: tuple[f.Prior, ...]
    kept: f.Kept
    learnt: Floats
    tested: Floats
    rolling: tuple[Rolled, ...]
    draws: int
    stopped: int
    unit: int
    frictionless_distance: float

    def range_of(self, vectors: Floats, name: str) -> tuple[float, float, float]:
        """Of a measure, the kept draws' weighted 5, 50 and 95 % points."""
        column = vectors[:, s.NAMES.index(name)]
        low, middle, high = (s.plain(name, f.quantile(column, self.kept.weights, at)) for at in (0.05, 0.5, 0.95))
        return low, middle, high

    def unmatched(self, vectors: Floats, window: FitWindow) -> list[str]:
        """Measures of a window of which history lies outside the kept draws' 5 to 95 %."""
        missed = []
        for name in s.NAMES:
            low, _, high = self.range_of(vectors, name)
            if not low * (1 - 1e-9) - 1e-9 <= getattr(window.history, name) <= high * (1 + 1e-9) + 1e-9:
                missed.append(name)
        return missed


@dataclass(frozen=True, slots=True)
class TooFew:
    """History says too little to fit anything: ``liquidations`` of the blocks asked for."""

    liquidations: int
    first: int
    last: int
    unit: int


def fit(
    lake: Lake,
    market: str,
    base: Scenario,
    *,
    split: float | int = 0.5,
    elsewhere: tuple[Lake, str] | None = None,
    draws: int = 90,
    kept: int = 20,
    seed: int = 0,
    workers: int = 2,
    progress: Progress = lambda what, done, of: None,
) -> Fit | TooFew:
    """Fit the frictions of a market's liquidators.

    Args:
        base: what every draw shares: costs, users, blocks. Its liquidators are replaced.
        split: share of history's liquidations that is learnt from, between 0 and 1; or the first block held out.
        elsewhere: a market that is held out in place of the rest; all that is asked for is learnt from.
        draws: how many sets of frictions are tried: two thirds from the prior, the rest around those that did best.
        kept: how many of them make up the result.
        workers: processes; the result is the same for any number.

    Raises:
        UserError: too few liquidations on one side of the split only, or no current tables.
    """
    with tempfile.TemporaryDirectory(prefix="backtest-baseline-") as folder:
        own = Packed.of(lake, market, Path(folder))
        blocks = _blocks(own, base)
        if isinstance(blocks, TooFew):
            return blocks
        first, last, happened = blocks
        if elsewhere is None:
            other, (first, cut, last) = own, _split(*blocks, split)
            begin, end, taken = cut + 1, last, [block for block in happened if block > cut]
        else:
            (Path(folder) / "held-out").mkdir()
            other, cut = Packed.of(*elsewhere, Path(folder) / "held-out"), last
            found = _blocks(other, replace(base, from_block=None, to_block=None))
            if isinstance(found, TooFew):
                raise UserError(
                    f"{other.name} has {found.liquidations} liquidations, too few to be held out",
                    f"it needs {2 * f.LEAST} or more: name another market",
                )
            begin, end, taken = found
        progress("history and frictionless liquidators", 0, 2)
        learn = _window(own, base, first, cut)
        progress("history and frictionless liquidators", 1, 2)
        held_out = _window(other, base, begin, end)
        progress("history and frictionless liquidators", 2, 2)
        paid = [made for made in learn.taken if made.takes]
        priors = f.priors_of(
            max(median(made.seized_base - made.repaid_base for made in paid) / own.unit, 1e-6),
            max(median(made.repaid_base for made in paid) / own.unit, 1e-6),
        )
        with _pool(own.folder, workers) as measured:

            def all_of(what: str, tried: Sequence[f.Draw], window: FitWindow, begin: int) -> Floats:
                jobs = [
                    _Job(
                        window.market,
                        _within(f.scenario_of(draw, base, unit=window.market.unit, seed=seed + begin + at), window),
                        window.patience if window is learn else None,
                    )
                    for at, draw in enumerate(tried)
                ]
                rows = []
                for done, row in enumerate(measured(jobs), 1):
                    rows.append(row)
                    progress(what, done, len(jobs))
                return np.array(rows)

            inferred = f.infer(
                priors,
                s.vector(learn.history),
                lambda what, tried, begin: all_of(what, tried, learn, begin),
                draws=draws,
                kept=kept,
                seed=seed,
            )
            tested = all_of("kept draws on held-out blocks", inferred.kept.draws, held_out, draws)
            parts = _parts(begin, end, taken)
            windows = [held_out] if len(parts) < 2 else [_window(other, base, *part) for part in parts]
            shown = (
                [tested]
                if len(parts) < 2
                else [
                    all_of("kept draws, part by part", inferred.kept.draws, window, draws + len(inferred.kept.draws))
                    for window in windows
                ]
            )
    seen, vectors, scale = s.vector(learn.history), inferred.vectors, inferred.scale
    final = inferred.kept
    best = s.vector(learn.frictionless)
    learnt = vectors[list(final.index)]
    return Fit(
        learn=learn,
        held_out=held_out,
        priors=priors,
        kept=final,
        learnt=learnt,
        tested=tested,
        rolling=_rolled(learn, learnt, windows, shown, final.weights, np.maximum(0.25 * scale, 0.05), seed),
        draws=draws,
        stopped=int((~np.isfinite(vectors).all(axis=1)).sum()),
        unit=own.unit,
        frictionless_distance=float(np.sqrt((((best - seen) / scale) ** 2).mean())),
    )


def _rolled(
    learn: FitWindow,
    learnt: Floats,
    windows: Sequence[FitWindow],
    shown: Sequence[Floats],
    weights: Floats,
    least: Floats,
    seed: int,
) -> tuple[Rolled, ...]:
    """The scores of each part in turn; every forecaster is as sure as its errors on the windows before let it be, and
    none takes itself for surer than ``least``.
    """
    places = [s.NAMES.index(name) for name in s.RATED]

    def naive(window: FitWindow) -> Floats:
        hours = s.hourly(learn.taken, learn.start, learn.seconds, unit=learn.market.unit)
        return f.naive(hours, -(-window.seconds // 3_600), seed=seed, draws=NAIVE_DRAWS)

    def error(vectors: Floats, own: Floats, window: FitWindow, at: Sequence[int]) -> Floats:
        middle = [f.quantile(vectors[:, place], own, 0.5) for place in range(vectors.shape[1])]
        return np.maximum(least[at], np.abs(np.array(middle) - s.vector(window.history)[at]))

    every, one, even = list(range(len(s.NAMES))), np.ones(1), np.full(NAIVE_DRAWS, 1 / NAIVE_DRAWS)
    before = [
        [error(learnt, weights, learn, every)],
        [error(s.vector(learn.frictionless)[None, :], one, learn, every)],
        [error(naive(learn), even, learn, places)],
    ]
    found = []
    for window, vectors in zip(windows, shown, strict=True):
        forecasts = (
            (vectors, weights, every),
            (s.vector(window.frictionless)[None, :], one, every),
            (naive(window), even, places),
        )
        scores = []
        for errors, (rows, own, at) in zip(before, forecasts, strict=True):
            scores.append(f.log_scores(rows, own, s.vector(window.history)[at], np.array(errors)))
            errors.append(error(rows, own, window, at))
        found.append(Rolled(window, vectors, *scores))
    return tuple(found)


# -- windows
# --------------------------------------------------------------------------------------------------------------------


def _blocks(market: Packed, base: Scenario) -> tuple[int, int, list[int]] | TooFew:
    """The first and last block asked for, and that of each liquidation in them."""
    whole = material_in(market.folder)
    timeline = whole.timeline(base.oracle_delay)
    first = max(base.from_block or 0, timeline.first_block)
    last = timeline.last_known_block(base.to_block)
    every = whole.tables["liquidations"]["block_number"].to_pylist()
    blocks = sorted(block for block in every if first <= block <= last)
    if len(blocks) < 2 * f.LEAST:
        return TooFew(len(blocks), first, last, market.unit)
    return first, last, blocks


def _split(first: int, last: int, blocks: Sequence[int], split: float | int) -> tuple[int, int, int]:
    """(first block, last one learnt from, last block)."""
    cut = split - 1 if isinstance(split, int) else blocks[max(0, round(split * len(blocks)) - 1)]
    before = sum(block <= cut for block in blocks)
    if before < f.LEAST or len(blocks) - before < FEWEST:
        raise UserError(
            f"--split leaves {before} liquidations in blocks {first} to {cut} and {len(blocks) - before} after them",
            f"the part learnt from needs {f.LEAST} or more and the part held out {FEWEST}: give another",
        )
    return first, cut, last


def _parts(first: int, last: int, blocks: Sequence[int]) -> list[tuple[int, int]]:
    """A stretch of blocks in up to ``ROLLING`` parts with as many liquidations each, as far as blocks can be cut so."""
    count = max(1, min(ROLLING, len(blocks) // FEWEST))
    ends = sorted({blocks[len(blocks) * part // count - 1] for part in range(1, count)} - {blocks[-1]})
    return list(zip([first, *(end + 1 for end in ends)], [*ends, last], strict=True))


def _window(market: Packed, base: Scenario, first: int, last: int) -> FitWindow:
    """What history and frictionless liquidators show."""
    material, unit = _until(market.folder, last), market.unit
    timeline, protocol = material.timeline(base.oracle_delay), protocol_named(material.config.protocol)
    last = timeline.last_known_block(last)  # a split between two blocks with events ends at the first of them
    history = Scenario(from_block=first, to_block=last, oracle_delay=base.oracle_delay)
    past = replay(protocol, material.market, timeline, history, samples=0)
    ahead = look_ahead(protocol, material.market, timeline, Competitive(), {}, from_block=first, to_block=last)
    taken = tuple(made for made in past.liquidations if first <= made.clock.block_number <= last)
    stretches = s.stretches_of(ahead.alarms)
    frictionless, stood = _replayed(
        material, replace(base, liquidators=Competitive(), from_block=first, to_block=last), unit, None
    )
    assert frictionless is not None
    start = timeline.timestamp_from(first)
    waited = max(s.waited(stretches, taken), stood, AT_LEAST * len(taken))
    return FitWindow(
        market=market,
        first=first,
        last=last,
        start=start,
        seconds=timeline.clock_at(last).timestamp - start,
        history=s.shown(taken, stretches, past.horizons[0], unit=unit),
        frictionless=frictionless,
        taken=taken,
        patience=FAR * waited,
    )


def _within(scenario: Scenario, window: FitWindow) -> Scenario:
    return replace(scenario, from_block=window.first, to_block=window.last)


# -- replays
# --------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _until(folder: str, last: int) -> Material:
    """A market's history up to a block, as if nothing were known after it: no replay goes on beyond its window."""
    whole = material_in(folder)
    tables = {
        name: table.filter(pc.less_equal(table["block_number"], last))
        if "block_number" in table.column_names
        else table
        for name, table in whole.tables.items()
    }
    return Material.of(whole.config, whole.digest, tables)


def _replayed(material: Material, scenario: Scenario, unit: int, patience: int | None) -> tuple[s.Shown | None, int]:
    """What a model's replay shows (None where it was stopped), and for how many seconds opportunities stood."""
    fees = NO_FEES if scenario.costs.gas is None else material.base_fees()
    protocol = protocol_named(material.config.protocol)
    with uncollected():
        engine = Engine(
            protocol, material.market, material.timeline(scenario.oracle_delay), scenario,
            mechanism_for(protocol, scenario), start=material.start(scenario), base_fees=fees,
        )  # fmt: skip
        stood, since = 0, None
        for transaction in engine.transactions():
            now = transaction[-1].timestamp
            stood += engine.opportunities.standing * (now - (now if since is None else since))
            since = now
            if patience is not None and stood > patience:
                return None, stood
            engine.advance(transaction)
        outcome = engine.finish()
    first = scenario.from_block or 0
    taken = [made for made in outcome.liquidations if made.clock.block_number >= first]
    return s.shown(taken, s.stretches_in(outcome.spells), outcome.horizons[0], unit=unit), stood


@dataclass(frozen=True, slots=True)
class _Job:
    market: Packed
    scenario: Scenario
    patience: int | None


def _done(job: _Job) -> Floats:
    last = job.scenario.to_block
    assert last is not None
    found, _ = _replayed(_until(job.market.folder, last), job.scenario, job.market.unit, job.patience)
    return np.full(len(s.NAMES), np.nan) if found is None else s.vector(found)


@contextmanager
def _pool(folder: str, workers: int) -> Iterator[Callable[[Sequence[_Job]], Iterator[Floats]]]:
    """Replays jobs in processes; what they show, in the order of the jobs."""
    if workers == 1:
        yield lambda jobs: map(_done, jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=begin_worker, initargs=(folder,))
    try:
        yield lambda jobs: pool.map(_done, jobs)
    except BrokenProcessPool:
        raise UserError(
            "a process that replayed draws died (killed, or out of memory)", "run it again, or with --workers 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
