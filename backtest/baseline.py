"""A baseline that resembles history: frictions of liquidators fitted to a market of a lake, or to several of one
protocol together, and tested on what the fit did not see.

History is split by time, or another market is held out. Draws of frictions are replayed over the part that is learnt
from and held against it (``calibration.frictions``); those that are kept are replayed over the part held out, which
says how well they do there, beside frictionless liquidators and a rate model that knows no accounts. Pooled markets
share the draws: each draw is replayed in all of them, and is near history where it is near that of each.
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
from backtest.replay.competition.gas import NO_FEES, fees_within
from backtest.replay.engine import Engine, mechanism_for, replay
from backtest.replay.forecast import look_ahead
from backtest.replay.memory import uncollected
from backtest.replay.record import Liquidation
from backtest.results import Material, require_current
from backtest.scenario import Competitive, Scenario
from backtest.sweep.executors import begin_worker
from backtest.sweep.worker import material_in, pack
from backtest.units import GWEI

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
    fees: tuple[int, ...] = ()
    """Base fees that liquidators met in it, wei, one after the other; none where gas costs nothing."""

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
class Portion:
    """A market that is learnt from: the blocks that count (None: from the first, to the last), and the ``split``: the
    share of its liquidations that is learnt from, between 0 and 1, or the first block held out.
    """

    market: str
    first: int | None = None
    last: int | None = None
    split: float | int = 0.5


@dataclass(frozen=True, slots=True)
class FitMarket:
    """A market of a fit; ``learnt`` and ``tested`` are what each kept draw shows of either window, on the scale of
    ``shown.vector``; ``rolling`` are the parts of what was held out, with their scores.
    """

    learn: FitWindow
    held_out: FitWindow
    learnt: Floats
    tested: Floats
    rolling: tuple[Rolled, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """``kept`` draws with their weights, and how they do in each market: one, or those that were pooled."""

    markets: tuple[FitMarket, ...]
    priors: tuple[f.Prior, ...]
    kept: f.Kept
    draws: int
    stopped: int
    unit: int
    frictionless_distance: float
    without_cap: str = ""
    """Why no cap on the base fee is fitted; empty where one is."""

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
class Counted:
    """How many liquidations history has in the blocks of a market that were asked for."""

    market: str
    first: int
    last: int
    liquidations: int


@dataclass(frozen=True, slots=True)
class TooFew:
    """History says too little to fit anything, in all ``markets`` together; ``unit`` as that of ``Packed``."""

    markets: tuple[Counted, ...]
    unit: int

    @property
    def liquidations(self) -> int:
        """Of all markets."""
        return sum(each.liquidations for each in self.markets)


def fit(
    lake: Lake,
    portions: Sequence[Portion],
    base: Scenario,
    *,
    elsewhere: tuple[Lake, str] | None = None,
    draws: int = 90,
    kept: int = 20,
    seed: int = 0,
    workers: int = 2,
    progress: Progress = lambda what, done, of: None,
) -> Fit | TooFew:
    """Fit the frictions of a market's liquidators, or those of several markets' together.

    Args:
        portions: the markets, which are of one protocol and one base currency.
        base: what every draw shares: costs, users. Its liquidators and blocks are replaced.
        elsewhere: a market that is held out in place of the rest; all that is asked for of the one market is learnt
            from.
        draws: how many sets of frictions are tried: two thirds from the prior, the rest around those that did best.
        kept: how many of them make up the result.
        workers: processes; the result is the same for any number.

    Raises:
        UserError: markets that cannot be pooled; too few liquidations on one side of the split only; no current tables.
    """
    poolable(lake, [portion.market for portion in portions])
    with tempfile.TemporaryDirectory(prefix="backtest-baseline-") as folder:
        packed = [Packed.of(lake, each.market, _made(folder, f"{at}")) for at, each in enumerate(portions)]
        unit = packed[0].unit
        asked = [
            _blocks(own, replace(base, from_block=portion.first, to_block=portion.last))
            for own, portion in zip(packed, portions, strict=True)
        ]
        if sum(len(happened) for _, _, happened in asked) < 2 * f.LEAST:
            return TooFew(
                tuple(
                    Counted(portion.market, first, last, len(happened))
                    for portion, (first, last, happened) in zip(portions, asked, strict=True)
                ),
                unit,
            )
        if elsewhere is None:
            sides = _sides(packed, asked, [portion.split for portion in portions])
        else:
            other, [(first, last, _)] = Packed.of(*elsewhere, _made(folder, "held-out")), asked
            begin, end, taken = _blocks(other, replace(base, from_block=None, to_block=None))
            if len(taken) < 2 * f.LEAST:
                raise UserError(
                    f"{other.name} has {len(taken)} liquidations, too few to be held out",
                    f"it needs {2 * f.LEAST} or more: name another market",
                )
            sides = [_Side(packed[0], first, last, other, begin, end, tuple(taken))]
        learn, held_out = [], []
        for at, side in enumerate(sides):
            progress("history and frictionless liquidators", 2 * at, 2 * len(sides))
            learn.append(_window(side.own, base, side.first, side.last))
            progress("history and frictionless liquidators", 2 * at + 1, 2 * len(sides))
            held_out.append(_window(side.other, base, side.begin, side.end))
        progress("history and frictionless liquidators", 2 * len(sides), 2 * len(sides))
        fees, without_cap = _fees_to_cap(learn, base)
        priors = _priors(learn, unit, fees)
        with _pool(packed[0].folder, workers) as measured:

            def all_of(what: str, tried: Sequence[f.Draw], windows: Sequence[FitWindow], begin: int) -> Floats:
                """What each draw shows of one window after the other: draws x (windows x measures)."""
                jobs = [
                    _Job(
                        window.market,
                        _within(f.scenario_of(draw, base, unit=unit, seed=seed + begin + at), window),
                        window.patience if windows is learn else None,
                    )
                    for window in windows  # each window's one after the other: a process keeps the last of history
                    for at, draw in enumerate(tried)
                ]
                rows = []
                for done, row in enumerate(measured(jobs), 1):
                    rows.append(row)
                    progress(what, done, len(jobs))
                return np.concatenate(np.array(rows).reshape(len(windows), len(tried), -1), axis=1)

            inferred = f.infer(
                priors,
                np.concatenate([s.vector(window.history) for window in learn]),
                lambda what, tried, begin: all_of(what, tried, learn, begin),
                draws=draws,
                kept=kept,
                seed=seed,
            )
            final = inferred.kept
            learnt = _by_window(inferred.vectors[list(final.index)], len(sides))
            scales = _by_window(inferred.scale[None, :], len(sides))
            tested = _by_window(all_of("kept draws on held-out blocks", final.draws, held_out, draws), len(sides))
            found_of = []
            for at, side in enumerate(sides):
                parts = _parts(side.begin, side.end, side.taken)
                windows, shown = [held_out[at]], [tested[at]]
                if len(parts) > 1:
                    windows = [_window(side.other, base, *part) for part in parts]
                    shown = [
                        all_of("kept draws, part by part", final.draws, [window], draws + len(final.draws))
                        for window in windows
                    ]
                least = np.maximum(0.25 * scales[at][0], 0.05)
                rolling = _rolled(learn[at], learnt[at], windows, shown, final.weights, least, seed)
                found_of.append(FitMarket(learn[at], held_out[at], learnt[at], tested[at], rolling))
    far = np.concatenate([s.vector(window.frictionless) - s.vector(window.history) for window in learn])
    return Fit(
        markets=tuple(found_of),
        priors=priors,
        kept=final,
        draws=draws,
        stopped=int((~np.isfinite(inferred.vectors).all(axis=1)).sum()),
        unit=unit,
        frictionless_distance=float(np.sqrt(((far / inferred.scale) ** 2).mean())),
        without_cap=without_cap,
    )


def poolable(lake: Lake, markets: Sequence[str]) -> None:
    """UserError, one line, where draws cannot be those of all these markets: they are of several protocols, whose
    liquidations are unlike, or count money in several currencies, in which draws say least profit and capital.
    """
    if twice := next((market for market in markets if markets.count(market) > 1), None):
        raise UserError(f"--market {twice} is given twice", "name each market once")
    first, *others = (lake.market_config(market) for market in markets)
    for other in others:
        if other.protocol != first.protocol:
            raise UserError(
                f"{first.name} is a market of {first.protocol}, {other.name} of {other.protocol}",
                "pool markets of one protocol: their liquidations follow the same rules",
            )
        if (other.base_currency, other.base_decimals) != (first.base_currency, first.base_decimals):
            raise UserError(
                f"{first.name} counts in {first.base_currency} ({first.base_decimals} decimals), {other.name} in"
                f" {other.base_currency} ({other.base_decimals})",
                "pool markets of one base currency: the draws' least profit and capital are in it",
            )


def _made(folder: str, name: str) -> Path:
    made = Path(folder) / name
    made.mkdir()
    return made


def _fees_to_cap(learn: Sequence[FitWindow], base: Scenario) -> tuple[tuple[float, float] | None, str]:
    """The median and the highest base fee of all windows together, gwei; or why a cap on it would say nothing."""
    if base.costs.gas is None:
        return None, "gas costs nothing; --scenario with costs.gas would fit one"
    fees = [fee / GWEI for window in learn for fee in window.fees]
    if not any(fees):
        return None, "no base fee above zero is known in the blocks learnt from"
    middle, highest = max(median(fees), min(fee for fee in fees if fee)), max(fees)
    if middle >= highest:
        return None, f"the base fee never rises above its median of {middle:g} gwei in the blocks learnt from"
    return (middle, highest), ""


def _priors(learn: Sequence[FitWindow], unit: int, fees: tuple[float, float] | None) -> tuple[f.Prior, ...]:
    """In units of what the median liquidation of all windows together repaid and gained; ``fees`` as those of
    ``priors_of``.
    """
    paid = [made for window in learn for made in window.taken if made.takes]
    return f.priors_of(
        max(median(made.seized_base - made.repaid_base for made in paid) / unit, 1e-6),
        max(median(made.repaid_base for made in paid) / unit, 1e-6),
        fees,
    )


def _by_window(vectors: Floats, windows: int) -> list[Floats]:
    """What ``all_of`` put side by side, apart: draws x measures for each window."""
    return [np.asarray(part) for part in np.split(vectors, windows, axis=1)]


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


@dataclass(frozen=True, slots=True)
class _Side:
    """Blocks ``first`` to ``last`` of a market are learnt from, ``begin`` to ``end`` of the ``other`` (mostly the same)
    are held out; with the blocks of the liquidations ``taken`` there.
    """

    own: Packed
    first: int
    last: int
    other: Packed
    begin: int
    end: int
    taken: tuple[int, ...]


def _blocks(market: Packed, base: Scenario) -> tuple[int, int, list[int]]:
    """The first and last block asked for, and that of each liquidation in them."""
    whole = material_in(market.folder)
    timeline = whole.timeline(base.oracle_delay)
    first = max(base.from_block or 0, timeline.first_block)
    last = timeline.last_known_block(base.to_block)
    every = whole.tables["liquidations"]["block_number"].to_pylist()
    return first, last, sorted(block for block in every if first <= block <= last)


def _sides(
    packed: Sequence[Packed], asked: Sequence[tuple[int, int, list[int]]], splits: Sequence[float | int]
) -> list[_Side]:
    """Each market split by itself. Of pooled ones each needs one liquidation to learn from and something after it; all
    together as many as one market alone.
    """
    if len(packed) == 1:
        cuts = [_split(*asked[0], splits[0])[1]]
    else:
        cuts = [_cut(happened, split) for (_, _, happened), split in zip(asked, splits, strict=True)]
        for own, (_, last, happened), cut in zip(packed, asked, cuts, strict=True):
            if not any(block <= cut for block in happened) or cut >= last:
                raise UserError(
                    f"{own.name} has no liquidation to learn from, or nothing after what is learnt from"
                    f" ({len(happened)} liquidations, split after block {cut})",
                    "leave it out of the pool; the pool's draws may be given for it: --ensemble FILE",
                )
        before = sum(block <= cut for (_, _, happened), cut in zip(asked, cuts, strict=True) for block in happened)
        after = sum(len(happened) for _, _, happened in asked) - before
        _enough(before, after, f"of {len(packed)} markets, up to the split", "after it")
    return [
        _Side(own, first, cut, own, cut + 1, last, tuple(block for block in happened if block > cut))
        for own, (first, last, happened), cut in zip(packed, asked, cuts, strict=True)
    ]


def _cut(blocks: Sequence[int], split: float | int) -> int:
    """The last block learnt from; before all blocks where none holds a liquidation."""
    if isinstance(split, int):
        return split - 1
    return blocks[max(0, round(split * len(blocks)) - 1)] if blocks else -1


def _split(first: int, last: int, blocks: Sequence[int], split: float | int) -> tuple[int, int, int]:
    """(first block, last one learnt from, last block)."""
    cut = _cut(blocks, split)
    before = sum(block <= cut for block in blocks)
    _enough(before, len(blocks) - before, f"in blocks {first} to {cut}", "after them")
    return first, cut, last


def _enough(before: int, after: int, where: str, then: str) -> None:
    if before < f.LEAST or after < FEWEST:
        raise UserError(
            f"--split leaves {before} liquidations {where} and {after} {then}",
            f"the part learnt from needs {f.LEAST} or more and the part held out {FEWEST}: give another",
        )


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
    start, end = timeline.timestamp_from(first), timeline.clock_at(last).timestamp
    waited = max(s.waited(stretches, taken), stood, AT_LEAST * len(taken))
    return FitWindow(
        market=market,
        first=first,
        last=last,
        start=start,
        seconds=end - start,
        history=s.shown(taken, stretches, past.horizons[0], unit=unit),
        frictionless=frictionless,
        taken=taken,
        patience=FAR * waited,
        fees=fees_within(base.costs.gas, material.market, material.base_fees(), start, end),
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
