"""How long liquidations take after the oracle's update: distances in blocks, fitted with truncation.

An update lies anywhere in its block and the liquidation comes T blocks of time later, so that a distance is d = floor(U
+ T) with U even on [0, 1), and P(d <= k) is the integral of T's distribution function F from k to k + 1. With G(t) the
integral of F from 0 to t, P(d = k) = G(k + 1) - 2 G(k) + G(k - 1): exact for every family whose partial mean is known.
What lies at or beyond the limit was not looked for, so probabilities are those of d given d < limit. Every family has a
shift: a time that nobody beats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special

from backtest.calibration.fitting import Counts, Floats, Test, ks_test

_TINY = 1e-300


def _exponential(t: Floats, scale: float) -> Floats:
    """The integral of the exponential distribution function from 0 to t >= 0."""
    return t - scale * -np.expm1(-t / scale)


def _gamma(t: Floats, shape: float, scale: float) -> Floats:
    return np.asarray(t * special.gammainc(shape, t / scale) - shape * scale * special.gammainc(shape + 1, t / scale))


def _log_normal(t: Floats, middle: float, sigma: float) -> Floats:
    """``middle`` is the logarithm of the median."""
    with np.errstate(divide="ignore"):
        z = (np.log(t) - middle) / sigma
    return np.asarray(t * special.ndtr(z) - np.exp(middle + sigma * sigma / 2) * special.ndtr(z - sigma))


@dataclass(frozen=True, slots=True)
class Family:
    """A distribution of the time in blocks from an update to its liquidation, beyond the shift."""

    name: str
    names: tuple[str, ...]
    """Parameters after the shift; ``share`` is the share of the first part, scales are blocks."""
    integral: Callable[..., Floats]
    """G(t) for t >= 0 and these parameters."""
    mean: Callable[..., float]
    """Mean of the excess over the shift, blocks."""
    starts: tuple[tuple[float, ...], ...]
    """Where the search begins."""

    @property
    def parameters(self) -> int:
        """How many are fitted, the shift among them."""
        return 1 + len(self.names)


EXPONENTIAL = Family("exponential", ("scale",), _exponential, lambda scale: scale, ((3.0,), (30.0,)))
"""What the race of a scenario draws: the fastest of several exponential times is exponential."""
FAMILIES = (
    EXPONENTIAL,
    Family("gamma", ("shape", "scale"), _gamma, lambda shape, scale: shape * scale, ((0.7, 5.0), (0.3, 50.0))),
    Family(
        "log-normal",
        ("log_median", "sigma"),
        _log_normal,
        lambda middle, sigma: float(np.exp(middle + sigma * sigma / 2)),
        ((0.5, 1.0), (3.0, 2.0)),
    ),
    Family(
        "at once or exponential",
        ("share", "scale"),
        lambda t, share, scale: share * t + (1 - share) * _exponential(t, scale),
        lambda share, scale: (1 - share) * scale,
        ((0.4, 10.0), (0.05, 40.0)),
    ),
    Family(
        "at once or log-normal",
        ("share", "log_median", "sigma"),
        lambda t, share, middle, sigma: share * t + (1 - share) * _log_normal(t, middle, sigma),
        lambda share, middle, sigma: float((1 - share) * np.exp(middle + sigma * sigma / 2)),
        ((0.4, 1.0, 1.0), (0.05, 3.0, 2.0)),
    ),
    Family(
        "two exponentials",
        ("share", "scale", "scale_of_the_rest"),
        lambda t, share, scale, other: share * _exponential(t, scale) + (1 - share) * _exponential(t, other),
        lambda share, scale, other: share * scale + (1 - share) * other,
        ((0.6, 1.0, 20.0), (0.15, 3.0, 50.0)),
    ),
)

_BOUNDS = {
    "shift": (0.0, 5.0),
    "share": (0.0, 1.0),
    "log_median": (-5.0, 7.0),
    "sigma": (0.05, 6.0),
    "shape": (0.02, 50.0),
}
_SCALE = (0.01, 2_000.0)


@dataclass(frozen=True, slots=True)
class LatencyFit:
    """A family with its parameters by maximum likelihood."""

    family: Family
    values: tuple[float, ...]
    """Shift in blocks, then the family's own."""
    limit: int
    """Distances are below this."""

    @property
    def shift(self) -> float:
        """Blocks of time that nobody beats."""
        return self.values[0]

    @property
    def excess(self) -> float:
        """Mean time beyond the shift, blocks, of the distribution without truncation."""
        return float(self.family.mean(*self.values[1:]))

    @property
    def probabilities(self) -> Floats:
        """Of distances 0, 1, ... given that they are below the limit."""
        return _probabilities(self.family, self.values, self.limit)[0]

    @property
    def beyond(self) -> float:
        """Share that the fit puts at or beyond the limit, which the data cannot show."""
        return _probabilities(self.family, self.values, self.limit)[1]

    def log_likelihood(self, counts: Counts) -> float:
        """Of counts of the distances 0, 1, ..."""
        return float(counts @ np.log(np.maximum(self.probabilities, _TINY)))

    def quantile(self, share: float) -> int:
        """The distance at or below which this share lies, among those below the limit."""
        return int(np.searchsorted(np.cumsum(self.probabilities), share))

    def described(self) -> str:
        """Its parameters in words."""
        own = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.family.names, self.values[1:], strict=True))
        return f"shift {self.shift:.4g}, {own}"


def _probabilities(family: Family, values: Sequence[float] | Floats, limit: int) -> tuple[Floats, float]:
    """Of each distance below the limit, given that it is; and of all others."""
    times = np.arange(-1, limit + 1) - values[0]
    whole = np.where(times > 0, family.integral(np.maximum(times, _TINY), *values[1:]), 0.0)
    masses = np.maximum(whole[2:] - 2 * whole[1:-1] + whole[:-2], 0.0)
    inside = float(masses.sum())
    if inside <= 0:
        return np.full(limit, 1 / limit), 1.0
    return masses / inside, max(0.0, 1 - inside)


class TimedLiquidation(NamedTuple):
    """A transaction that liquidated, at a distance from the update that allowed it."""

    block: int
    order: int
    """Within the block."""
    distance: int
    update: int | None
    """Block of the update, where it is known."""
    seconds: int | None
    """Of its block."""
    since: int | None
    """Seconds from update to liquidation by their blocks' times."""


def own_seconds(rows: Iterable[TimedLiquidation]) -> float | None:
    """Seconds a block by the rows' own times; None where they have none."""
    timed = [(row.since, row.distance) for row in rows if row.since is not None and row.distance]
    return sum(since for since, _ in timed) / sum(blocks for _, blocks in timed) if timed else None


def sharing(rows: Iterable[TimedLiquidation]) -> int:
    """How many follow an update that another one before them follows."""
    updates = [row.update for row in rows if row.update is not None]
    return len(updates) - len(set(updates))


def tally(distances: Sequence[int], limit: int) -> Counts:
    """How often each of 0, 1, ..., limit - 1 was seen."""
    return np.bincount(np.asarray(distances, dtype=np.int64), minlength=limit).astype(np.int64)


def fit(family: Family, counts: Counts, starts: Iterable[tuple[float, ...]] | None = None) -> LatencyFit:
    """Maximum likelihood, given that distances are below ``len(counts)``.

    The likelihood has several peaks: that of a shift has one on either side of where two blocks meet. The search begins
    at each of ``starts``.
    """
    limit = len(counts)
    bounds = [_BOUNDS["shift"], *(_BOUNDS.get(name, _SCALE) for name in family.names)]
    seen = np.nonzero(counts)[0]

    def loss(values: Floats) -> float:
        return -float(counts[seen] @ np.log(np.maximum(_probabilities(family, values, limit)[0][seen], _TINY)))

    best: Any = None
    for start in starts or [(shift, *own) for own in family.starts for shift in (0.2, 0.95, 1.3)]:
        options = {"xatol": 1e-5, "fatol": 1e-6, "maxiter": 4_000}
        found = optimize.minimize(loss, np.array(start), method="Nelder-Mead", bounds=bounds, options=options)
        if best is None or found.fun < best.fun:
            best = found
    return LatencyFit(family, tuple(float(value) for value in best.x), limit)


@dataclass(frozen=True, slots=True)
class LatencyCandidate:
    """A family fitted on the first part and tested on the second."""

    fit: LatencyFit
    """On the first part."""
    fitted: float
    """Log-likelihood a row on the first part."""
    held_out: float
    """Log-likelihood a row on the second part."""


def candidates(first: Counts, second: Counts) -> list[LatencyCandidate]:
    """Every family, the best on what was held out first; families with fewer parameters first where they are equal."""
    made = []
    for family in FAMILIES:
        one = fit(family, first)
        made.append(
            LatencyCandidate(
                one, one.log_likelihood(first) / int(first.sum()), one.log_likelihood(second) / int(second.sum())
            )
        )
    return sorted(made, key=lambda one: (-one.held_out, one.fit.family.parameters))


def tested(one: LatencyFit, counts: Counts, *, seed: int, draws: int) -> Test:
    """Kolmogorov-Smirnov of a fit on the counts it was fitted on; each draw is fitted anew, from the parameters it was
    drawn with.
    """
    return ks_test(
        counts,
        one.probabilities,
        seed=seed,
        draws=draws,
        refit=lambda sample: fit(one.family, sample, [one.values]).probabilities,
    )


def race_of(one: LatencyFit, *, searchers: int, block_seconds: float) -> tuple[int, int]:
    """Floor and each searcher's mean latency in milliseconds, of a race whose winner takes the time of an exponential
    fit.

    The fastest of n equal exponentials has an n-th of their mean.
    """
    milliseconds = 1_000 * block_seconds
    return round(one.shift * milliseconds), max(1, round(searchers * one.excess * milliseconds))
