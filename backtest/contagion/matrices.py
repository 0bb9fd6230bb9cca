"""Measures of how connected markets are, over plain numbers: overlap and its leading eigenvector, one round of fire
sales in linear form, DebtRank, and runs on deposits. Doubles: they rank and display.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


def overlap(exposures: Sequence[Sequence[float]], depth: Sequence[float | None]) -> Numbers:
    """Liquidity-weighted overlap, markets x markets: E diag(1 / depth) E'.

    Entry (p, q) is what p loses where q sells all that it holds, prices falling in proportion: an asset's price by all
    of itself when its ``depth`` is sold. ``exposures``: markets x assets, values; ``depth`` by asset, in the same
    units, None: nothing moves it. R. Cont and E. Schaanning, Monitoring indirect contagion, Journal of Banking and
    Finance 104 (2019).
    """
    held = np.asarray(exposures, dtype=np.float64).reshape(len(exposures), len(depth))
    return np.asarray((held * _per(depth)) @ held.T, dtype=np.float64)


def leading_eigenvector(matrix: Numbers) -> tuple[float, Numbers]:
    """The largest eigenvalue of a symmetric matrix without negative entries, and how much each row weighs in its vector
    (sum one): who is most exposed to, and most dangerous for, all others (the endogenous risk index of Cont and
    Schaanning).
    """
    if not matrix.any():
        return 0.0, np.zeros(len(matrix))
    values, vectors = np.linalg.eigh(matrix)
    vector = np.abs(vectors[:, -1])
    return float(values[-1]), vector / vector.sum()


@dataclass(frozen=True, slots=True)
class LinearRound:
    """One round of fire sales in linear form; losses as parts of equity.

    ``direct``: by the shock, of each market's own; ``indirect``: by the sales of all, of its own; ``systemicness``: by
    its sales alone, of the equity of all, whose sum is ``aggregate``.
    """

    direct: Numbers
    indirect: Numbers
    systemicness: Numbers
    aggregate: float


def linear_round(
    exposures: Sequence[Sequence[float]], debt: Sequence[float], depth: Sequence[float | None], shock: Sequence[float]
) -> LinearRound:
    """Each market sells, in proportion to what it holds, what keeps its leverage after a shock; prices fall in
    proportion to what is sold.

    The one-round cross-check of a simulation: R. Greenwood, A. Landier and D. Thesmar, Vulnerable banks, Journal of
    Financial Economics 115 (2015): the loss of bank n is that of a_n m_n L M' B A M f, where
    B = diag(debt / equity), L = diag(1 / depth) and f is the shock (negative parts of prices). ``exposures``: markets x
    assets, values; a market without equity, or that the shock leaves none, is left out of leverage (it sells all).
    """
    held = np.asarray(exposures, dtype=np.float64).reshape(len(debt), len(depth))
    fallen, owed = np.asarray(shock, dtype=np.float64), np.asarray(debt, dtype=np.float64)
    total = held.sum(axis=1)
    equity = total - owed
    lost = held @ fallen
    sold = np.where(equity > 0, np.minimum(-lost * owed / np.where(equity > 0, equity, 1.0), total), total)
    share = held / np.where(total > 0, total, 1.0)[:, None]
    by_each = (sold[:, None] * share * _per(depth)) @ held.T  # row: whose sales; column: who loses
    whole = float(equity[equity > 0].sum())
    own = np.where(equity > 0, equity, np.nan)
    return LinearRound(
        direct=(0 - lost) / own,
        indirect=by_each.sum(axis=0) / own,
        systemicness=by_each.sum(axis=1) / whole if whole else np.zeros(len(owed)),
        aggregate=float(by_each.sum()) / whole if whole else 0.0,
    )


def debt_rank(weights: npt.ArrayLike, distress: Sequence[float]) -> Numbers:
    """How distressed each market ends up, 0 to 1, where distress is passed on once along ``weights``: entry (q, p) is
    how much of q's distress p takes over (what p claims of q over p's equity, at most one).

    S. Battiston, M. Puliga, R. Kaushik, P. Tasca and G. Caldarelli, DebtRank, Scientific Reports 2:541 (2012).
    """
    passed = np.minimum(np.asarray(weights, dtype=np.float64), 1.0)
    level = np.asarray(distress, dtype=np.float64)
    active, spent = level > 0, np.zeros(len(level), dtype=np.bool_)
    while active.any():
        after = np.minimum(1.0, level + np.where(active, level, 0.0) @ passed)
        spent |= active
        active = (after > 0) & ~spent
        level = after
    return level


@dataclass(frozen=True, slots=True)
class RunOff:
    """A run on one asset's deposits. ``utilisation``: debt over what is supplied, before and after; ``withheld``: part
    of what depositors ask for that cannot be paid out.
    """

    before: float
    after: float
    withheld: float


def run_off(supplied: float, debt: float, share: float) -> RunOff:
    """Depositors ask for ``share`` of what is supplied, and nobody repays: what is lent out cannot be paid out, and at
    a utilisation of one liquidators get nothing but claims either.
    """
    asked = supplied * share
    paid = min(asked, max(0.0, supplied - debt))
    left = supplied - paid
    withheld = 1 - paid / asked if asked else 0.0
    return RunOff(debt / supplied if supplied else 0.0, min(1.0, debt / left) if left else float(debt > 0), withheld)


def _per(depth: Sequence[float | None]) -> Numbers:
    return np.array([0.0 if one is None else 1.0 / one for one in depth], dtype=np.float64)
