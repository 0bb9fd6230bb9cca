"""Panels of made-up prices whose law is known."""

from __future__ import annotations

import numpy as np

from backtest.shocks import Panel

STEP = 300


def panel(returns: np.ndarray, names: tuple[str, ...] | None = None, gas: np.ndarray | None = None) -> Panel:
    """These returns, all known; labels A0, A1 and so on."""
    count = returns.shape[1]
    return Panel(
        names or tuple(f"A{place}" for place in range(count)),
        STEP,
        1_600_000_000,
        returns,
        np.ones(count, np.bool_),
        gas,
    )


def garch_returns(rows: int, omega: float, alpha: float, beta: float, seed: int = 1) -> np.ndarray:
    """One asset, errors Student-t of six degrees with variance one."""
    draw = np.random.default_rng(seed)
    errors = draw.standard_t(6, rows) * np.sqrt(4 / 6)
    found, variance = np.empty(rows), omega / (1 - alpha - beta)
    for row in range(rows):
        found[row] = np.sqrt(variance) * errors[row]
        variance = omega + alpha * found[row] ** 2 + beta * variance
    return found


def student_returns(rows: int, freedom: float, correlation: float, scale: float = 0.002, seed: int = 2) -> np.ndarray:
    """Two assets, jointly Student-t."""
    draw = np.random.default_rng(seed)
    normal = draw.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], rows)
    return scale * normal * np.sqrt(freedom / draw.chisquare(freedom, rows))[:, None]
