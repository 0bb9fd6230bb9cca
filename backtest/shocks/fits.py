"""Fits of the models: GARCH and block lengths by ``arch``, the others by numpy and scipy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import stats

from backtest.shocks.panel import Bools, Floats, Panel

STEADY = 1e-7
"""An asset whose returns deviate by less than this is not fitted: it stands, or nearly."""
DECAY = 0.94
"""Of the variance that tells regimes apart (J.P. Morgan, RiskMetrics, 1996)."""
PERSISTENCE = 0.995
"""The most that alpha and beta come to. Months of crisis fit one, a variance without a mean to come back to: then beta
is lowered, and the mean is the data's (variance targeting; Francq, Horvath and Zakoian 2011).
"""
QUIET = 0.5
"""An asset more than this share of whose returns are zero, as of an oracle that seldom speaks, has a variance that dies
between two returns: no GARCH fits it.
"""
MOST = 20_000
"""Rows that a GARCH or a copula is fitted to, at most: the last ones."""


@dataclass(frozen=True, slots=True)
class Garch:
    """By asset: variance = omega + alpha * last return squared + beta * last variance; ``ahead`` is the variance of
    the next step, ``usual`` the mean of the data's, ``worst`` their highest. ``residuals``: rows x assets, returns over
    their deviation, with mean zero and deviation one. ``filtered``: whether the GARCH fitted; else the variance is
    constant, so that rows are drawn as they are.
    """

    omega: Floats
    alpha: Floats
    beta: Floats
    ahead: Floats
    usual: Floats
    worst: Floats
    residuals: Floats
    filtered: Bools


def garch(panel: Panel) -> Garch:
    """Of each asset by itself, errors Student-t."""
    fitted = [_garch(panel.returns[-MOST:, asset].tobytes()) for asset in range(len(panel.assets))]
    omega, alpha, beta, ahead, usual, worst = (np.array([one[place] for one in fitted]) for place in range(6))
    residuals = np.column_stack([one[6] for one in fitted])
    filtered = np.array([one[7] for one in fitted])
    return Garch(omega, alpha, beta, ahead, usual, worst, residuals - residuals.mean(axis=0), filtered)


@lru_cache(maxsize=64)
def _garch(data: bytes) -> tuple[float, float, float, float, float, float, Floats, bool]:
    """Several models of a suite fit the same columns."""
    returns = np.frombuffer(data)
    deviation = float(returns.std())
    if deviation < STEADY:
        variance = max(deviation, 1e-12) ** 2
        return variance, 0.0, 0.0, variance, variance, variance, returns / np.sqrt(variance), False
    terms = _fitted(returns / deviation)
    if terms is None:  # nothing is filtered: rows as they are
        variance = deviation**2
        return variance, 0.0, 0.0, variance, variance, variance, returns / deviation, False
    omega, alpha, beta = terms
    scaled, last = returns / deviation, 1.0
    variances = np.empty(len(scaled))
    for row, value in enumerate((scaled**2).tolist()):
        variances[row] = last
        last = omega + alpha * value + beta * last
    unit, residuals = deviation**2, scaled / np.sqrt(variances)
    return (
        omega * unit, alpha, beta, last * unit, float(variances.mean()) * unit, float(variances.max()) * unit,
        residuals / residuals.std(), True,
    )  # fmt: skip


def _fitted(returns: Floats) -> tuple[float, float, float] | None:
    """omega, alpha and beta of returns of deviation one; None where none fits."""
    if (returns == 0).mean() > QUIET:
        return None
    from arch import arch_model  # brings statsmodels, which takes a second to be there

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what does not converge is told by its flag
        model: Any = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
        found = model.fit(disp="off", show_warning=False)
    omega, alpha, beta = (float(found.params[name]) for name in ("omega", "alpha[1]", "beta[1]"))
    if found.convergence_flag != 0 or not np.isfinite([omega, alpha, beta]).all():
        return None
    if alpha + beta > PERSISTENCE:
        alpha = min(alpha, PERSISTENCE)
        beta = PERSISTENCE - alpha
        omega = 1 - PERSISTENCE
    return omega, alpha, beta


def block_length(panel: Panel) -> float:
    """The longest of the mean block lengths that Politis and White choose for the magnitude of each moving asset's
    returns, one step at least and a tenth of the rows at most.
    """
    from arch.bootstrap import optimal_block_length

    moves = [asset for asset in range(len(panel.assets)) if panel.returns[:, asset].std() >= STEADY]
    if not moves:
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optimal_block_length(np.abs(panel.returns[:, moves]))["stationary"].to_numpy()
    return float(np.clip(np.nanmax(found), 1.0, len(panel) / 10))


@dataclass(frozen=True, slots=True)
class RegimeFit:
    """``roots``: of the covariance in calm and in stress; ``leave``: the chance a step of leaving each; ``stressed``:
    by row of the data, 0 or 1.
    """

    roots: tuple[Floats, Floats]
    leave: Floats
    stressed: Floats


def regimes(panel: Panel, share: float) -> RegimeFit:
    """Rows whose decaying joint variance (mean of squared returns in deviations, decay 0.94) is in the highest
    ``share`` are stressed.
    """
    returns = panel.returns
    deviation = returns.std(axis=0)
    moves = deviation >= STEADY
    squares = ((returns[:, moves] / deviation[moves]) ** 2).mean(axis=1) if moves.any() else np.zeros(len(returns))
    level, found = 1.0, np.empty(len(squares))
    for row, value in enumerate(squares.tolist()):
        level = DECAY * level + (1 - DECAY) * value
        found[row] = level
    stressed = (found > np.quantile(found, 1 - share)).astype(np.float64)
    if stressed.min() == stressed.max():  # nothing moves: one regime
        stressed[-1] = 1 - stressed[0]
    changes = np.diff(stressed)
    counts = np.array([(stressed[:-1] == 0).sum(), (stressed[:-1] == 1).sum()])
    leave = np.array([(changes == 1).sum(), (changes == -1).sum()]) / np.maximum(counts, 1)
    calm, stress = (_root(_covariance(returns[stressed == which])) for which in (0, 1))
    return RegimeFit((calm, stress), leave, stressed)


@dataclass(frozen=True, slots=True)
class JumpFit:
    """``root``: of the diffusion's covariance a step; joint jumps: chance a step, mean and deviation by asset; own
    ones: chance a step and deviation by asset.
    """

    root: Floats
    joint_rate: float
    joint_mean: Floats
    joint_deviation: Floats
    own_rate: Floats
    own_deviation: Floats


def jumps(panel: Panel, threshold: float) -> JumpFit:
    """A row in which half of the moving assets (two at least, where there are two) jump is a joint jump."""
    returns, count = panel.returns, len(panel)
    size = np.abs(returns)
    bipower = np.sqrt(np.pi / 2 * (size[1:] * size[:-1]).mean(axis=0))
    deviation = np.where(bipower >= STEADY, bipower, returns.std(axis=0))
    beyond = (size > threshold * deviation) & (deviation >= STEADY)
    moving = panel.moving & (deviation >= STEADY)
    needed = max(min(2, int(moving.sum())), (int(moving.sum()) + 1) // 2)
    joint = (beyond & moving).sum(axis=1) >= max(needed, 1)
    own = beyond & ~joint[:, None]
    plain = np.where(beyond | joint[:, None], 0.0, returns)
    together = returns[joint]
    zeros = np.zeros(returns.shape[1])
    return JumpFit(
        root=_root(_covariance(plain)),
        joint_rate=float(joint.mean()),
        joint_mean=together.mean(axis=0) if len(together) else zeros,
        joint_deviation=together.std(axis=0) if len(together) else zeros,
        own_rate=own.sum(axis=0) / count,
        own_deviation=np.sqrt((np.where(own, returns, 0.0) ** 2).sum(axis=0) / np.maximum(own.sum(axis=0), 1)),
    )


def copula(panel: Panel, freedom: float | None) -> tuple[Floats, float]:
    """The root of the correlation (sine of Kendall's tau, made positive) and the degrees of freedom of the greatest
    likelihood, over ranks.
    """
    returns = panel.returns[-MOST:]
    count = returns.shape[1]
    moves = returns.std(axis=0) >= STEADY
    correlation = np.eye(count)
    for one in range(count):
        for other in range(one):
            if moves[one] and moves[other]:
                tau = stats.kendalltau(returns[:, one], returns[:, other]).statistic
                correlation[one, other] = correlation[other, one] = np.sin(np.pi / 2 * tau)
    values, vectors = np.linalg.eigh(correlation)
    correlation = (vectors * np.maximum(values, 1e-6)) @ vectors.T
    scale = np.sqrt(np.diag(correlation))
    correlation = correlation / np.outer(scale, scale)
    if freedom is None:
        freedom = _freedom(returns[:, moves], correlation[np.ix_(moves, moves)])
    return _root(correlation), float(freedom)


def _freedom(returns: Floats, correlation: Floats) -> float:
    """On a grid from 2 to 30."""
    if returns.shape[1] < 2:
        return 30.0
    ranks = stats.rankdata(returns, axis=0) / (len(returns) + 1)
    inverse, (_, logdet) = np.linalg.inv(correlation), np.linalg.slogdet(correlation)
    size = returns.shape[1]
    best, most = 30.0, -np.inf
    for degrees in (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0):
        student = stats.t.ppf(ranks, degrees)
        square = np.einsum("ij,jk,ik->i", student, inverse, student)
        joint = stats.multivariate_t(shape=np.eye(size), df=degrees).logpdf(np.zeros(size)) - logdet / 2
        likelihood = float(
            (joint - (degrees + size) / 2 * np.log1p(square / degrees)).sum() - stats.t.logpdf(student, degrees).sum()
        )
        if likelihood > most:
            best, most = degrees, likelihood
    return best


def _covariance(rows: Floats) -> Floats:
    """About zero, since drift is left out."""
    return np.asarray(rows.T @ rows / max(len(rows), 1))


def _root(matrix: Floats) -> Floats:
    """A root, also where some asset does not move."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
