"""Tests of measures of risk against what happened: Kupiec, Christoffersen, Acerbi and Szekely. Pure.

Days (or any periods) of a realised loss, each with the measure that was said of it before. P-values are exact or by
simulation from a stated seed, not from large-sample tables: of 250 days at the 99th percentile those reject a true
model nearly twice as often as they say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from backtest.calibration.fitting import Test, generator
from backtest.errors import UserError
from backtest.risk.tail import check_level
from backtest.units import BPS

_Floats = npt.NDArray[np.float64]
_Hits = npt.NDArray[np.bool_]
DRAWS = 4_999


@dataclass(frozen=True, slots=True)
class Exceedances:
    """What the tests of a value at risk say. ``days`` of which ``exceeded`` were expected to be ``expected``.

    ``coverage``: as many as said (Kupiec). ``independence``: one does not bring the next (Christoffersen); None where
    fewer than two days were exceeded, which says nothing of it. ``conditional``: both at once.
    """

    level: int
    days: int
    exceeded: int
    expected: float
    coverage: Test
    independence: Test | None
    conditional: Test


def exceedances(
    losses: Sequence[float] | _Floats,
    measures: Sequence[float] | _Floats,
    level: int,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Exceedances:
    """Of realised losses and the VaR said of each day before it, at a percentile in basis points.

    Kupiec 1995: LR_uc = -2 ln[(1-p)^(T-x) p^x / ((1-x/T)^(T-x) (x/T)^x)], p-value exact: the probability, under a
    binomial number of exceedances, of a ratio at least as large. Christoffersen 1998: LR_ind of a Markov chain of the
    first order against independence, p-value over permutations of the days (exact given x, as under independence all
    orders are as likely); LR_cc = LR_uc + LR_ind, p-value over independent days.

    Raises:
        UserError: not one measure a day, fewer than two days, numbers that are none, or a level out of range.
    """
    realised, said = _columns(losses, measures)
    check_level(level, "percentile")
    if draws < 1:
        raise UserError(f"{draws} draws", "give 1 or more")
    hits, chance = realised > said, 1 - level / BPS
    days, exceeded = len(hits), int(hits.sum())
    random = generator(seed)
    ratio, order = kupiec(days, exceeded, chance), markov(hits[None, :])[0]
    independence = None
    if exceeded >= 2:
        shuffled = random.permuted(np.broadcast_to(hits, (draws, days)), axis=1)
        independence = Test(float(order), _rank(markov(shuffled), float(order)))
    drawn = random.random((draws, days)) < chance
    whole = markov(drawn) + _kupiec(days, drawn.sum(axis=1), chance)
    return Exceedances(
        level=level,
        days=days,
        exceeded=exceeded,
        expected=days * chance,
        coverage=Test(ratio, kupiec_p(days, exceeded, chance)),
        independence=independence,
        conditional=Test(ratio + float(order), _rank(whole, ratio + float(order))),
    )


def kupiec(days: int, exceeded: int, chance: float) -> float:
    """The likelihood ratio of unconditional coverage, LR_uc."""
    return float(_kupiec(days, np.array([exceeded]), chance)[0])


def kupiec_p(days: int, exceeded: int, chance: float) -> float:
    """The probability of a likelihood ratio at least as large, over a binomial number of exceedances."""
    counts = np.arange(days + 1)
    ratios = _kupiec(days, counts, chance)
    return min(1.0, float(stats.binom.pmf(counts[ratios >= ratios[exceeded] - 1e-9], days, chance).sum()))


def _kupiec(days: int, exceeded: npt.NDArray[np.int64], chance: float) -> _Floats:
    share = exceeded / days
    seen = special.xlogy(days - exceeded, 1 - share) + special.xlogy(exceeded, share)
    said = (days - exceeded) * math.log1p(-chance) + exceeded * math.log(chance)
    found: _Floats = 2 * (seen - said)
    return found


def markov(hits: _Hits) -> _Floats:
    """The likelihood ratio of independence, LR_ind, of rows of days: how much better the chance of an exceedance is
    told by whether the day before had one.
    """
    before, after = hits[:, :-1], hits[:, 1:]
    n11 = (before & after).sum(axis=1)
    n10 = (before & ~after).sum(axis=1)
    n01 = (~before & after).sum(axis=1)
    n00 = hits.shape[1] - 1 - n11 - n10 - n01

    def best(yes: npt.NDArray[np.int64], no: npt.NDArray[np.int64]) -> _Floats:
        of = np.maximum(yes + no, 1)
        likely: _Floats = special.xlogy(yes, yes / of) + special.xlogy(no, no / of)
        return likely

    found: _Floats = 2 * (best(n01, n00) + best(n11, n10) - best(n01 + n11, n00 + n10))
    return np.maximum(found, 0.0)


@dataclass(frozen=True, slots=True)
class ShortfallTest:
    """What Acerbi and Szekely's tests say of an expected shortfall: about zero where it is right, below where losses
    were worse. P-values are one-sided: how often a right model comes to as little. ``first``: None without exceedances.
    """

    level: int
    days: int
    exceeded: int
    first: Test | None
    second: Test


def shortfall_test(
    losses: Sequence[float] | _Floats,
    values_at_risk: Sequence[float] | _Floats,
    shortfalls: Sequence[float] | _Floats,
    simulated: _Floats,
    level: int,
) -> ShortfallTest:
    """Of realised losses, and the VaR and ES said of each day before it.

    Acerbi and Szekely 2014, Backtesting expected shortfall, in losses L_t: Z1 = 1 - mean over exceedances of L_t /
    ES_t; Z2 = 1 - sum over exceedances of L_t / (T (1 - level) ES_t). Critical values are simulated: ``simulated``
    holds losses of each day drawn from the model that said the measures, and the tests are made of each row.

    Args:
        simulated: draws x days.

    Raises:
        UserError: not one measure a day, simulated losses of other days, an ES that is not positive, or numbers that
            are none.
    """
    check_level(level, "percentile")
    realised, var = _columns(losses, values_at_risk)
    _, es = _columns(losses, shortfalls)
    if simulated.ndim != 2 or simulated.shape[1] != len(realised) or not len(simulated):
        raise UserError(
            f"simulated losses of shape {simulated.shape} for {len(realised)} days", "give draws of each of the days"
        )
    if not np.isfinite(simulated).all():
        raise UserError("a simulated loss that is no number", "leave such draws out")
    if (es <= 0).any():
        raise UserError("an expected shortfall of nothing or less", "test days on which something is at risk")
    tail = len(realised) * (1 - level / BPS)

    def both(rows: _Floats) -> tuple[_Floats, _Floats]:
        hits = rows > var
        beyond = (np.where(hits, rows, 0.0) / es).sum(axis=1)
        count = hits.sum(axis=1)
        return np.where(count > 0, 1 - beyond / np.maximum(count, 1), np.nan), 1 - beyond / tail

    (first,), (second,) = both(realised[None, :])
    firsts, seconds = both(simulated)
    firsts = firsts[~np.isnan(firsts)]
    exceeded = int((realised > var).sum())
    return ShortfallTest(
        level=level,
        days=len(realised),
        exceeded=exceeded,
        first=Test(float(first), _rank(-firsts, -float(first))) if exceeded else None,
        second=Test(float(second), _rank(-seconds, -float(second))),
    )


def _rank(drawn: _Floats, seen: float) -> float:
    """The share of draws at least as large, the one seen among them (Davison and Hinkley 1997, 4.2)."""
    return float((drawn >= seen - 1e-9).sum() + 1) / (len(drawn) + 1)


def _columns(losses: Sequence[float] | _Floats, measures: Sequence[float] | _Floats) -> tuple[_Floats, _Floats]:
    realised, said = np.asarray(losses, dtype=np.float64), np.asarray(measures, dtype=np.float64)
    if realised.shape != said.shape or realised.ndim != 1:
        raise UserError(f"{realised.size} losses and {said.size} measures", "give one measure of each day")
    if len(realised) < 2:
        raise UserError(f"{len(realised)} days", "give two or more")
    if not (np.isfinite(realised).all() and np.isfinite(said).all()):
        raise UserError("a loss or a measure that is no number", "leave such days out")
    return realised, said
