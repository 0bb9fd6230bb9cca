"""Which frictions of liquidators resemble a market's history: a set of weighted parameter draws, not a point.

Approximate Bayesian computation (Beaumont et al., Biometrika 2009): draws from a prior are replayed, each is held
against history by what both show (``shown.Shown``), the nearest are kept and weighted by how near they are; then new
draws are made around those that were kept, with weights that undo it. What history cannot tell apart stays as wide as
the prior. A library of the kind would bring a scheduler, a database and random numbers of its own; draws here are
keyed: the same seed gives the same set on every machine, whoever computes which of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace
from scipy import stats

from backtest.calibration.fitting import Floats, generator
from backtest.errors import UserError
from backtest.scenario import Participation, Scenario
from backtest.scenario.liquidators import Searcher
from backtest.units import GWEI

LEAST = 10
"""Liquidations that history must have on either side of the split; fewer say nothing about frictions."""

# -- the prior
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of one parameter before the data: evenly spread between two bounds, on a logarithmic scale where
    ``log``; with ``none``, the chance that it is absent, in which case its value is 0. Or one of ``choices``.
    """

    name: str
    unit: str
    source: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    none: float = 0.0
    choices: tuple[str, ...] = ()

    def at(self, place: float) -> float:
        """The value at a place from 0 to 1."""
        if self.log:
            return float(self.low * (self.high / self.low) ** place)
        return float(self.low + (self.high - self.low) * place)

    def place(self, value: float) -> float:
        """Where a value that is not absent lies between the bounds."""
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)


_KINDS = (
    Prior("searchers", "of them", "assumed", 1.0, 12.0),
    Prior("strategy", "", "Qin et al. (FC 2021)", choices=("greedy", "two-step", "patient")),
    Prior(
        "pair",
        "",
        "the ways that scenarios know",
        choices=("most-profitable", "largest-debt", "largest-collateral", "any"),
    ),
)


def priors_of(gain: float, size: float, fees: tuple[float, float] | None = None) -> tuple[Prior, ...]:
    """Labelled assumptions, printed with every fit.

    Args:
        gain: what history's median liquidation took beyond the debt, units of the base currency.
        size: the debt that it repaid.
        fees: the median base fee and the highest, gwei, the second above the first; None: of a cap on it nothing can be
            learnt.
    """
    cap = (
        [Prior("gas_cap", "gwei", "assumed: from the median base fee to the highest", *fees, True, 0.5)] if fees else []
    )
    return (
        Prior("attention", "searchers a block", "wide around the published 1.78 to 3.3", 0.002, 20.0, log=True),
        Prior("overlooked", "% of accounts", "assumed", 2.0, 60.0, none=0.3),
        Prior("overlooked_for", "hours a stretch", "assumed", 1.0, 240.0, log=True),
        Prior("partial", "% of calls", "assumed", 5.0, 100.0, none=0.3),
        Prior("least_profit", "", "assumed: to three times the median gain", gain / 100, 3 * gain, log=True, none=0.3),
        Prior("margin", "% of the debt", "assumed: to the median gain", 0.02, max(0.04, 100 * gain / size), True, 0.3),
        Prior("absent", "% of the time", "assumed", 5.0, 98.0, none=0.3),
        Prior("absence", "hours a stretch", "assumed", 0.25, 12.0, log=True),
        Prior("away", "", "the two ways that scenarios know", choices=("each", "together")),
        Prior("capital", "each", "assumed: once to 1,000 times the median debt", size, 1_000 * size, True, 0.6),
        *_KINDS,
        *cap,
    )


PUBLISHED = (
    Prior(
        "attention",
        "searchers a block",
        "1.78: 36 % of Black Thursday's auctions had one bidder; 2.59: 73 % recaptured by Chainlink's SVR; 3.3: keepers"
        " of vaults, February 2021",
        1.78,
        3.3,
    ),
    *_KINDS,
)
"""Where history says too little: what others found elsewhere, and nothing that is about this market's money."""

Draw = dict[str, Any]
"""A value for each prior: floats, or the choice."""


def first_draws(priors: Sequence[Prior], seed: int, count: int) -> list[Draw]:
    """``count`` draws from the prior, the n-th the same whatever the count."""
    return [_draw(priors, generator(_key(seed, 0, number))) for number in range(count)]


def _key(seed: int, stage: int, number: int) -> int:
    return seed << 64 | stage << 40 | number


def _draw(priors: Sequence[Prior], random: np.random.Generator) -> Draw:
    made: Draw = {}
    for prior in priors:
        absent, where = random.random(), random.random()
        if prior.choices:
            made[prior.name] = prior.choices[int(where * len(prior.choices))]
        else:
            made[prior.name] = 0.0 if absent < prior.none else prior.at(where)
    return made


def model_of(draw: Draw, *, unit: int) -> Participation:
    """Liquidators with these frictions; ``unit``: base units of one unit of the base currency."""
    own = round(draw.get("capital", 0.0) * unit) or None
    searchers = tuple(
        Searcher(
            name=f"searcher-{number}",
            capital=own,
            gas_cap=round(draw.get("gas_cap", 0.0) * GWEI) or None,
            min_profit=round(draw.get("least_profit", 0.0) * unit),
            margin=round(draw.get("margin", 0.0) * 100),
        )
        for number in range(1, max(1, round(draw["searchers"])) + 1)
    )
    return Participation(
        searchers=searchers,
        mean=round(draw["attention"] * 10_000),
        strategy=draw["strategy"],
        pair=draw["pair"],
        absent=round(draw.get("absent", 0.0) * 100),
        absence=round(draw["absence"] * 3_600) if draw.get("absent") else 3_600,
        absent_together=bool(draw.get("absent")) and draw["away"] == "together",
        overlooked=round(draw.get("overlooked", 0.0) * 100),
        overlooked_for=round(draw["overlooked_for"] * 3_600) if draw.get("overlooked") else 86_400,
        partial=round(draw.get("partial", 0.0) * 100),
    )


def scenario_of(draw: Draw, base: Scenario, *, unit: int, seed: int) -> Scenario:
    """``base`` with liquidators of these frictions."""
    return replace(base, liquidators=model_of(draw, unit=unit), seed=seed)


# -- inference
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """The draws that are near history, with weights that sum to one, nearest first; ``distance`` of each, in units of
    how far draws of the prior lie from their median.
    """

    draws: tuple[Draw, ...]
    weights: Floats
    distance: Floats
    index: tuple[int, ...]
    """Which of the draws given they are."""

    @property
    def effective(self) -> float:
        """How many draws of equal weight say as much (Kish)."""
        return float(1 / (self.weights**2).sum())


def scale_of(vectors: Floats) -> Floats:
    """Of each measure, how far the prior's draws lie from their median (median absolute deviation); where they agree,
    their standard deviation, and where that is nothing, one.
    """
    middle = np.median(np.abs(vectors - np.median(vectors, axis=0)), axis=0)
    spread = vectors.std(axis=0)
    return np.asarray(np.where(middle > 1e-9, middle, np.where(spread > 1e-9, spread, 1.0)), np.float64)


def keep(draws: Sequence[Draw], vectors: Floats, seen: Floats, scale: Floats, count: int, prior: Floats) -> Kept:
    """The ``count`` nearest draws.

    Args:
        vectors: what each showed; a row that is not a number is of a draw that was stopped, and never kept.
        prior: each one's weight before the data (1, or what undoes how it was drawn).
    """
    distance = np.sqrt((((vectors - seen) / scale) ** 2).mean(axis=1))
    order = np.lexsort((np.arange(len(draws)), distance))  # what is not a number comes last
    order = order[: min(max(1, count), int(np.isfinite(distance).sum()))]
    kernel = 1 - (distance[order] / max(distance[order[-1]] * 1.05, 1e-12)) ** 2
    weights = np.maximum(kernel, 1e-3) * prior[order]
    return Kept(
        tuple(draws[at] for at in order), weights / weights.sum(), distance[order], tuple(int(at) for at in order)
    )


@dataclass(frozen=True, slots=True)
class Inferred:
    """What was kept of all draws, what each of them showed (not numbers where it was stopped), and the scale of each
    measure.
    """

    kept: Kept
    vectors: Floats
    scale: Floats


Measured = Callable[[str, Sequence[Draw], int], Floats]
"""What draws show, a row each: called with what is being done, the draws, and how many came before them."""


def infer(priors: Sequence[Prior], seen: Floats, measured: Measured, *, draws: int, kept: int, seed: int) -> Inferred:
    """Two thirds of the draws from the prior, the others around the nearest of those.

    Raises:
        UserError: too many draws were stopped.
    """
    again = draws // 3
    tried = first_draws(priors, seed, draws - again)
    vectors = measured("draws of the prior", tried, 0)
    done: npt.NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
    if done.sum() < kept:
        raise UserError(
            f"{len(done) - int(done.sum())} of {len(done)} draws were stopped, far from history",
            f"{kept} or more have to be near it: give more --draws, or other blocks",
        )
    scale = scale_of(vectors[done])
    stage = keep(tried, vectors, seen, scale, kept, np.ones(len(tried)))
    more = next_draws(priors, stage, seed, again)
    vectors = np.concatenate([vectors, measured("draws around the best", more, len(tried))])
    tried = [*tried, *more]
    before = undone(priors, tried, stage, again / draws)
    return Inferred(keep(tried, vectors, seen, scale, kept, before), vectors, scale)


STAY = 0.8
"""How probable it is that a choice, or absence, of a kept draw is kept by one drawn around it."""


def next_draws(priors: Sequence[Prior], kept: Kept, seed: int, count: int) -> list[Draw]:
    """Draws around those that were kept."""
    widths = _widths(priors, kept)
    return [_around(priors, kept, widths, generator(_key(seed, 1, number))) for number in range(count)]


def undone(priors: Sequence[Prior], draws: Sequence[Draw], around: Kept, share: float) -> Floats:
    """Of each draw the density of the prior over that of how they all were drawn: ``share`` of them around the kept
    ones, the others from the prior (Veach and Guibas' balance heuristic).
    """
    widths = _widths(priors, around)
    return np.array([1 / (1 - share + share * _proposal(priors, draw, around, widths)) for draw in draws])


def _around(priors: Sequence[Prior], kept: Kept, widths: Mapping[str, float], random: np.random.Generator) -> Draw:
    ends = np.cumsum(kept.weights)
    around = kept.draws[min(len(ends) - 1, int(np.searchsorted(ends, random.random())))]
    fresh = _draw(priors, random)
    draw: Draw = {}
    for prior in priors:
        value, stays = around[prior.name], random.random() < STAY
        step = widths.get(prior.name, 0.0) * random.standard_normal()
        if prior.choices or value == 0.0 or (prior.none and not stays):
            draw[prior.name] = value if stays else fresh[prior.name]
        else:
            place = abs(prior.place(value) + step) % 2  # reflected at both bounds
            draw[prior.name] = prior.at(place if place < 1 else 2 - place)
    return draw


def _widths(priors: Sequence[Prior], kept: Kept) -> dict[str, float]:
    """Of the step from a kept draw: twice the variance of the kept, as population Monte Carlo takes it."""
    widths = {}
    for prior in priors:
        if not prior.choices:
            places = np.array([prior.place(draw[prior.name]) for draw in kept.draws if draw[prior.name]] or [0.5])
            widths[prior.name] = float(np.clip(np.sqrt(2) * places.std(), 0.05, 0.5))
    return widths


def _proposal(priors: Sequence[Prior], draw: Draw, kept: Kept, widths: Mapping[str, float]) -> float:
    """Density of a draw around the kept ones, over that of the prior."""
    total = 0.0
    for weight, around in zip(kept.weights, kept.draws, strict=True):
        density = 1.0
        for prior in priors:
            value, centre = draw[prior.name], around[prior.name]
            if prior.choices:
                density *= STAY * (value == centre) * len(prior.choices) + (1 - STAY)
            elif centre == 0.0:  # absent: stays so, or drawn anew
                density *= (STAY / prior.none if value == 0.0 else 0.0) + (1 - STAY)
            elif value == 0.0:
                density *= 1 - STAY
            else:
                near = _near(prior.place(value), prior.place(centre), widths[prior.name])
                density *= STAY * near / (1 - prior.none) + (1 - STAY) if prior.none else near
        total += weight * density
    return total


def _near(place: float, centre: float, width: float) -> float:
    """Density of a normal step from ``centre`` that is reflected at 0 and 1."""
    images = np.array([place, -place, 2 - place, 2 + place, place - 2])
    return float(np.exp(-(((images - centre) / width) ** 2) / 2).sum() / (width * np.sqrt(2 * np.pi)))


# -- what is known then
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What the data say about one parameter: its least, weighted median and greatest value among the kept draws, or the
    share of each choice; and how much of the prior's width is left (1: nothing was learnt).

    The whole range, since a few draws say little about their own tails: in 28 made-up histories whose frictions were
    drawn from the prior, 5 and 95 % points of 12 kept draws held the truth in about seven of ten.
    """

    prior: Prior
    points: tuple[float, float, float] | None
    shares: Mapping[str, float]
    """Of each choice; of ``none`` where the parameter may be absent."""
    left: float

    @property
    def verdict(self) -> str:
        """Identifiability in words."""
        return "history tells" if self.left < 0.5 else "partly" if self.left < 0.85 else "cannot tell"


def known(priors: Sequence[Prior], kept: Kept) -> list[Known]:
    """Of every parameter."""
    found = []
    for prior in priors:
        values = [draw[prior.name] for draw in kept.draws]
        if prior.choices:
            share = {choice: float(kept.weights[[v == choice for v in values]].sum()) for choice in prior.choices}
            entropy = -sum(p * np.log(p) for p in share.values() if p > 0) / np.log(len(prior.choices))
            found.append(Known(prior, None, share, float(entropy)))
            continue
        low, middle, high = min(values), quantile(values, kept.weights, 0.5), max(values)
        absent = float(kept.weights[[v == 0.0 for v in values]].sum())
        # absent counts as a stretch below the lowest value, as long as it is probable in the prior
        spread = [prior.none + (1 - prior.none) * prior.place(v) if v else 0.0 for v in (low, high)]
        left = min(1.0, spread[1] - spread[0])
        found.append(Known(prior, (low, middle, high), {"none": absent} if prior.none else {}, left))
    return found


def quantile(values: Sequence[float] | Floats, weights: Floats, at: float) -> float:
    """Weighted."""
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(weights[order])
    return float(np.asarray(values)[order][min(len(ends) - 1, int(np.searchsorted(ends, at)))])


def log_scores(vectors: Floats, weights: Floats, seen: Floats, errors: Floats) -> Floats:
    """The log density of what was seen, measure by measure. Higher is better.

    A forecast of a window is a mixture over the draws of Student's t around what each showed: its scale is the root
    mean square of the errors on the windows before, and its degrees of freedom how many those were. It is what is
    forecast of an error of unknown size (a normal one, Jeffreys' prior): one error seen says little, so that tails are
    wide.

    Args:
        errors: of the windows before, one row each, on the scale of ``shown.vector``.
    """
    seen_before = len(errors)
    scale = np.sqrt((errors**2).mean(axis=0))
    gaps = (seen - vectors) / scale
    logs = stats.t.logpdf(gaps, df=seen_before) - np.log(scale) + np.log(weights)[:, None]
    top: npt.NDArray[np.float64] = logs.max(axis=0)
    return np.asarray(top + np.log(np.exp(logs - top).sum(axis=0)))


def naive(hours: Sequence[tuple[float, ...]], length: int, *, seed: int, draws: int) -> Floats:
    """A rate model: as many hours as the window has, each like one of the hours learnt from, at random.

    Args:
        hours: of each hour learnt from, what ``shown.RATED`` names.
        length: hours of the window.

    Returns:
        Sums on the scale of ``shown.vector``: draws x 3.
    """
    random, rows = generator(_key(seed, 2, 0)), np.array(hours, float)
    at = random.integers(0, len(rows), size=(draws, max(1, length)))
    return np.asarray(np.log1p(rows[at].sum(axis=1)), np.float64)
