"""Value at risk, expected shortfall and liquidations at risk of one loss a path, with intervals. Pure.

A loss is a whole number of base units, and so are the measures: of bad debt they are VaR and ES, of liquidated debt LaR
and its mean beyond. Levels are basis points (9900 is the 99th percentile). The horizon is the paths'.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy import stats

from backtest.errors import UserError
from backtest.units import BPS

Losses = Sequence[int] | npt.NDArray[np.integer]
"""One of each path, base units."""
LEVEL, CONFIDENCE = 9_900, 9_500


@dataclass(frozen=True, slots=True)
class TailRisk:
    """The upper tail of losses, base units.

    Attributes:
        level: percentile, basis points. confidence: of both intervals, basis points.
        paths: how many losses. losing: how many of them are above zero.
        mean: of all losses, rounded up.
        var: the loss that a share ``level`` of the paths does not exceed.
        var_low, var_high: two of the losses; None where there are too few paths for an end.
        es: the mean of the worst 1 - ``level``, rounded up.
        es_low, es_high: None where fewer than two losses lie beyond ``var``'s path.
        beyond: paths beyond ``var``'s own, which ``es`` rests on.
    """

    level: int
    confidence: int
    paths: int
    losing: int
    mean: int
    var: int
    var_low: int | None
    var_high: int | None
    es: int
    es_low: int | None
    es_high: int | None
    beyond: int


def tail_risk(losses: Losses, level: int = LEVEL, confidence: int = CONFIDENCE) -> TailRisk:
    """Of losses in any order.

    VaR is the order statistic of rank ceil(n level). Its interval is exact for any distribution: the number of losses
    up to the true quantile is binomial (n, level), so two order statistics hold it with at least ``confidence``, half
    of what is left on either side (David and Nagaraja, Order Statistics, 7.1); ties only widen it.

    ES is the mean of the worst n (1 - level), the loss at the rank counted for the fraction that is left (Acerbi and
    Tasche 2002, On the coherence of expected shortfall, definition 3.2). Its interval is ES plus and minus Student's t,
    with one degree less than there are losses in the tail, times the root of (s^2 + level (ES - VaR)^2) / (n (1 -
    level)), s^2 the variance beyond VaR (Manistre and Hancock 2005, Variance of the CTE estimator, with t in place of
    the normal). It is approximate: short where few heavy-tailed losses make the tail (docs/risk.md has its coverage).

    Raises:
        UserError: no losses, a level or confidence outside of 0 to 10000, or a loss that is no whole number.
    """
    check_level(level, "percentile")
    check_level(confidence, "confidence")
    ordered = _ordered(losses)
    return _tail(ordered, level, confidence)


def convergence(
    losses: Losses, level: int = LEVEL, confidence: int = CONFIDENCE, *, rows: int = 8
) -> tuple[TailRisk, ...]:
    """The measures of the first paths, in the order given: of all, of half of them, of a quarter ..., fewest first; at
    most ``rows`` rows, and none of fewer paths than put one beyond the percentile.

    Raises:
        UserError: as ``tail_risk``.
    """
    whole = tail_risk(losses, level, confidence)
    least = -(-BPS // (BPS - level))
    sizes = [whole.paths >> step for step in range(1, rows)]
    return (
        *(tail_risk(losses[:size], level, confidence) for size in reversed(sizes) if size >= least),
        whole,
    )


def paths_needed(level: int = LEVEL, confidence: int = CONFIDENCE) -> int:
    """How many paths it takes for both ends of VaR's interval to exist: level^n and (1 - level)^n at most half of what
    ``confidence`` leaves.
    """
    check_level(level, "percentile")
    check_level(confidence, "confidence")
    likely = max(level, BPS - level) / BPS
    return math.ceil(math.log(_half_left(confidence)) / math.log(likely))


def adjusted(losses: Losses, shortfalls: Losses) -> list[int]:
    """Losses with what selling adds, path by path: the measures of these are liquidity-adjusted. A path's shortfall is
    what its collateral fetches less than its price says (the sum of tail slippage times size).

    Raises:
        UserError: not one shortfall a loss.
    """
    if len(losses) != len(shortfalls):
        raise UserError(f"{len(losses)} losses and {len(shortfalls)} shortfalls", "give one of each for every path")
    return [loss + short for loss, short in zip(_plain(losses), _plain(shortfalls), strict=True)]


def coverage(reserves: int, var: int) -> Fraction | None:
    """Reserves as a multiple of a value at risk; None where nothing is at risk."""
    return Fraction(reserves, var) if var > 0 else None


def fund(losses: Losses, capital_cost: Fraction, social_cost: Fraction) -> int:
    """The insurance fund that costs least: VaR at 1 - r / kappa, where a unit held costs r a horizon and a unit of loss
    that it does not cover costs kappa (the newsvendor's rule; Chitra et al. 2025, arXiv 2512.01112). Base units.

    Raises:
        UserError: costs that are not positive.
    """
    if capital_cost <= 0 or social_cost <= 0:
        raise UserError("a fund's costs must be positive", "give what a unit held, and a unit of loss uncovered, costs")
    ordered = _ordered(losses)
    rank = math.ceil(len(ordered) * (1 - capital_cost / social_cost))
    return ordered[rank - 1] if rank >= 1 else 0


def check_level(level: int, what: str) -> None:
    """UserError unless basis points strictly between nothing and all."""
    if not 0 < level < BPS:
        raise UserError(f"a {what} of {level} basis points", "give basis points between 0 and 10000, such as 9900")


def _half_left(confidence: int) -> float:
    return (BPS - confidence) / (2 * BPS)


def _plain(losses: Losses) -> list[int]:
    if isinstance(losses, np.ndarray):
        if losses.dtype.kind not in "iu":
            raise UserError(f"losses of type {losses.dtype}", "give whole base units")
        found: list[int] = losses.tolist()
        return found
    try:
        return [operator.index(loss) for loss in losses]
    except TypeError:
        raise UserError("a loss that is no whole number", "give whole base units") from None


def _ordered(losses: Losses) -> list[int]:
    ordered = sorted(_plain(losses))
    if not ordered:
        raise UserError("no losses to measure", "give the loss of one path or more")
    return ordered


def _tail(ordered: Sequence[int], level: int, confidence: int) -> TailRisk:
    paths = len(ordered)
    rank = -(-paths * level // BPS)
    var, worst = ordered[rank - 1], ordered[rank:]
    es = Fraction((rank * BPS - paths * level) * var + BPS * sum(worst), paths * (BPS - level))
    low, high = _ranks(paths, level, confidence)
    es_low, es_high = _es_interval(worst, var, float(es), paths, level, confidence)
    return TailRisk(
        level=level,
        confidence=confidence,
        paths=paths,
        losing=sum(loss > 0 for loss in ordered),
        mean=-(-sum(ordered) // paths),
        var=var,
        var_low=None if low is None else ordered[low - 1],
        var_high=None if high is None else ordered[high - 1],
        es=math.ceil(es),
        es_low=es_low,
        es_high=es_high,
        beyond=len(worst),
    )


def _ranks(paths: int, level: int, confidence: int) -> tuple[int | None, int | None]:
    """Ranks from 1 of the two order statistics; None where an end lies outside of them."""
    half, share = _half_left(confidence), level / BPS
    counts = stats.binom(paths, share)
    # The lower one is above the quantile where fewer than its rank lie up to it: P(N <= low - 1).
    low = int(counts.ppf(half))
    while low >= 1 and counts.cdf(low - 1) > half:
        low -= 1
    # The upper one is below it where as many as its rank lie up to it: P(N >= high).
    high = int(counts.isf(half))
    while counts.sf(high - 1) > half:
        high += 1
    return low if low >= 1 else None, high if high <= paths else None


def _es_interval(
    worst: Sequence[int], var: int, es: float, paths: int, level: int, confidence: int
) -> tuple[int | None, int | None]:
    if len(worst) < 2:
        return None, None
    share = level / BPS
    spread = float(np.var(np.asarray(worst, dtype=np.float64), ddof=1)) + share * (es - var) ** 2
    width = float(stats.t.isf(_half_left(confidence), len(worst) - 1)) * math.sqrt(spread / (paths * (1 - share)))
    return math.floor(es - width), math.ceil(es + width)
