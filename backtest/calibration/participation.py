"""How many searchers show up: from one published share, or from counts of bidders per auction.

A Poisson number with mean m is zero with e^-m and one with m e^-m; alone a bidder pays the reserve, two or more bid
everything away. A negative binomial number with mean m and size k has variance m + m^2 / k: the smaller k, the more
often nobody comes at the same mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from backtest.calibration.fitting import Counts, Floats, Test, chi_square
from backtest.errors import UserError

MOST = 10_000.0
"""Largest size of a negative binomial that is told from a Poisson."""
_HIGHEST = 1_000.0
_TINY = 1e-300


def recaptured(mean: float) -> float:
    """Share of what is at stake that is bid at a Poisson number of bidders: P(two or more) = 1 - e^-m (1 + m)."""
    return -math.expm1(-mean) - mean * math.exp(-mean)


def single_share(mean: float) -> float:
    """Share with exactly one bidder of the auctions with any, at a Poisson number of bidders: m e^-m / (1 - e^-m)."""
    return mean / math.expm1(mean)


def mean_of_recapture(share: float) -> float:
    """The Poisson mean at which this share of all that is at stake is bid."""
    _proper(share, "the share recaptured")
    return float(optimize.brentq(lambda mean: recaptured(mean) - share, 1e-9, _HIGHEST, xtol=1e-12))


def mean_of_single(share: float, *, conditional: bool) -> float:
    """The Poisson mean at which this share of auctions has exactly one bidder.

    Args:
        share: between 0 and 1.
        conditional: of the auctions with at least one bidder; otherwise of all.

    Raises:
        UserError: of all auctions, where no mean or two means give it.
    """
    _proper(share, "the share of single bidders")
    if conditional:
        return float(optimize.brentq(lambda mean: single_share(mean) - share, 1e-9, 700.0, xtol=1e-12))
    if share > 1 / math.e:
        raise UserError(
            f"{share:.4g} of all auctions with a single bidder: a Poisson number gives at most {1 / math.e:.4g}",
            "add --conditional where auctions without bidders are not counted",
        )
    low, high = (
        float(optimize.brentq(lambda mean: mean * math.exp(-mean) - share, start, end, xtol=1e-12))
        for start, end in ((0.0, 1.0), (1.0, 700.0))
    )
    raise UserError(
        f"{share:.4g} of all auctions with a single bidder: a mean of {low:.4f} and one of {high:.4f} give it",
        "add --conditional where auctions without bidders are not counted; otherwise give --none-share and --mean",
    )


def size_of_none(mean: float, share: float) -> float:
    """The size k of the negative binomial that has this mean and nobody in this share of auctions: (1 + m / k)^-k.

    UserError where nobody comes less often than at a Poisson number.
    """
    _proper(share, "the share without bidders")
    if not 0 < mean <= _HIGHEST:
        raise UserError(f"a mean of {mean:g} bidders", f"give a number above zero, {_HIGHEST:g} at most")
    if share <= math.exp(-mean) * (1 + 1e-6):
        raise UserError(
            f"nobody in {share:.4g} of auctions at a mean of {mean}: a Poisson number already gives"
            f" {math.exp(-mean):.4g}",
            "no negative binomial gives less; use the Poisson mean",
        )
    found = optimize.brentq(
        lambda log: -math.exp(log) * math.log1p(mean / math.exp(log)) - math.log(share), -30.0, 30.0, xtol=1e-13
    )
    return float(math.exp(found))


def _proper(share: float, what: str) -> None:
    if not 1e-6 <= share <= 1 - 1e-6:
        raise UserError(f"{what} is {share}", "give a share between 0 and 1: 0.36 is 36 %")


@dataclass(frozen=True, slots=True)
class ParticipationFit:
    """A distribution of the number of bidders by maximum likelihood."""

    mean: float
    """Of all auctions, those without bidders included."""
    size: float | None
    """Of a negative binomial; None: Poisson."""
    conditional: bool
    """The counts were of auctions with at least one bidder."""

    @property
    def name(self) -> str:
        """What tables call it."""
        return "poisson" if self.size is None else "negative-binomial"

    @property
    def parameters(self) -> int:
        """How many were fitted."""
        return 1 if self.size is None else 2

    def probabilities(self, most: int) -> Floats:
        """Of 0, 1, ..., ``most`` - 1 bidders, and last of ``most`` or more; given that there is one where the fit is
        conditional.
        """
        masses = np.append(self._law.pmf(np.arange(most)), self._law.sf(most - 1))
        if self.conditional:
            masses[0] = 0.0
            masses /= masses.sum()
        return np.asarray(masses, dtype=np.float64)

    @property
    def none(self) -> float:
        """Share of all auctions without a bidder."""
        return float(self._law.pmf(0))

    @property
    def alone(self) -> float:
        """Share of all auctions with exactly one bidder."""
        return float(self._law.pmf(1))

    def most(self, rarely: float = 1e-4) -> int:
        """The number that is passed in less than this share of auctions."""
        return max(1, int(self._law.isf(rarely)))

    @property
    def _law(self) -> Any:
        return (
            stats.poisson(self.mean)
            if self.size is None
            else stats.nbinom(self.size, self.size / (self.size + self.mean))
        )

    def log_likelihood(self, counts: Counts) -> float:
        """Of counts of 0, 1, ... bidders."""
        seen = np.nonzero(counts)[0]
        return float(counts[seen] @ np.log(np.maximum(self.probabilities(len(counts))[seen], _TINY)))

    def described(self) -> str:
        """Its parameters in words."""
        return f"mean {self.mean:.4f}" + ("" if self.size is None else f", size {self.size:.4f}")


def tally(bidders: Counts, most: int) -> Counts:
    """How often there were 0, 1, ..., ``most`` bidders."""
    return np.bincount(bidders, minlength=most + 1).astype(np.int64)


def poisson(counts: Counts, *, conditional: bool) -> ParticipationFit:
    """Maximum likelihood: the average, or where zeros are not seen the mean m with m / (1 - e^-m) equal to it."""
    average = _average(counts)
    if not conditional:
        return ParticipationFit(average, None, False)
    if average <= 1:
        raise UserError(
            "every auction has one bidder", "a share of single bidders of 1 fits no mean; give more auctions"
        )
    return ParticipationFit(
        float(optimize.brentq(lambda mean: mean / -math.expm1(-mean) - average, 1e-9, average, xtol=1e-12)), None, True
    )


def negative_binomial(counts: Counts, *, conditional: bool) -> ParticipationFit:
    """Maximum likelihood; where counts vary no more than a Poisson number its size reaches ``MOST``."""
    average = _average(counts)

    def of(values: Floats) -> ParticipationFit:
        return ParticipationFit(float(math.exp(values[0])), float(math.exp(values[1])), conditional)

    start = poisson(counts, conditional=conditional).mean
    if not conditional:  # the mean is the average
        found = optimize.minimize_scalar(
            lambda log: -ParticipationFit(average, float(math.exp(log)), False).log_likelihood(counts),
            bounds=(-8.0, math.log(MOST)),
            method="bounded",
        )
        return ParticipationFit(average, float(math.exp(found.x)), False)
    found = optimize.minimize(
        lambda values: -of(values).log_likelihood(counts),
        np.array([math.log(start), 0.0]),
        method="Nelder-Mead",
        bounds=[(-12.0, 8.0), (-8.0, math.log(MOST))],
        options={"xatol": 1e-6, "fatol": 1e-7, "maxiter": 4_000},
    )
    return of(found.x)


def _average(counts: Counts) -> float:
    average = float(counts @ np.arange(len(counts)) / counts.sum())
    if average <= 0:
        raise UserError("no auction has a bidder", "give auctions with some")
    return average


@dataclass(frozen=True, slots=True)
class ParticipationCandidate:
    """A distribution fitted on the first part and tested on the second."""

    fit: ParticipationFit
    fitted: float
    """Log-likelihood an auction on the first part."""
    held_out: float
    """Log-likelihood an auction on the second part."""
    test: Test
    """Chi-square on the first part."""
    test_held_out: Test
    """Chi-square on the second part, no parameter fitted."""


def candidates(first: Counts, second: Counts, *, conditional: bool) -> list[ParticipationCandidate]:
    """Both distributions, the better on what was held out first; Poisson where they are equal."""
    made = []
    for one in (poisson(first, conditional=conditional), negative_binomial(first, conditional=conditional)):
        fitted, held_out = (one.log_likelihood(part) / float(part.sum()) for part in (first, second))
        made.append(
            ParticipationCandidate(one, fitted, held_out, tested(one, first, one.parameters), tested(one, second, 0))
        )
    return sorted(made, key=lambda one: (-one.held_out, one.fit.parameters))


def tested(one: ParticipationFit, counts: Counts, parameters: int) -> Test:
    """Chi-square of a fit on counts of 0, 1, ... bidders, on which so many parameters were fitted."""
    return chi_square(np.append(counts, 0), one.probabilities(len(counts)), parameters)
