"""What is drawn, held against the data: tails, clustering, tail dependence and falls within half an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from backtest.shocks.panel import Bools, Floats, Panel

HALF_HOUR = 1_800
TAIL = 0.05
"""Share of the rows that are the tail."""
STATISTICS = {
    "deviation": "standard deviation of a step's log return",
    "kurtosis": "excess kurtosis of a step's log return",
    "hill": "tail index of losses (Hill 1975), of the worst twentieth",
    "clustering": "autocorrelation of the magnitude of returns, one step apart",
    "worst_step": "the lowest log return of a step",
    "fall_half_hour_99": "fall within 30 minutes that one path (or day of the data) in a hundred exceeds",
    "fall_half_hour_most": "the largest fall within 30 minutes",
    "tail_dependence": "chance that the asset is in its worst twentieth when the first moving one is",
}


@dataclass(frozen=True, slots=True)
class Compared:
    """One statistic of one asset; None: it cannot be told."""

    asset: str
    statistic: str
    data: float | None
    model: float | None


def table_of(panel: Panel, drawn: Sequence[Floats]) -> list[Compared]:
    """Of every moving asset. ``drawn``: returns (steps x assets) of some paths; none: the model's side is None."""
    moving = [asset for asset in range(len(panel.assets)) if panel.moving[asset]]
    steps = len(drawn[0]) if drawn else 86_400 // panel.step
    stretches = [panel.returns[at : at + steps] for at in range(0, len(panel) - steps + 1, steps)] or [panel.returns]
    found = []
    for asset in moving:
        data = _statistics(stretches, asset, moving[0], panel.step)
        model = _statistics(drawn, asset, moving[0], panel.step) if drawn else {}
        found += [Compared(panel.assets[asset], name, data.get(name), model.get(name)) for name in STATISTICS]
    return found


def _statistics(paths: Sequence[Floats], asset: int, other: int, step: int) -> dict[str, float | None]:
    own = [path[:, asset] for path in paths]
    every = np.concatenate(own)
    falls = np.array([fall_within(each, max(1, HALF_HOUR // step)) for each in own])
    deviation = float(every.std())
    if not len(every) or deviation == 0:
        return {}
    return {
        "deviation": deviation,
        "kurtosis": float((((every - every.mean()) / deviation) ** 4).mean() - 3),
        "hill": hill(-every),
        "clustering": clustering(own),
        "worst_step": float(every.min()),
        "fall_half_hour_99": float(np.quantile(falls, 0.99)),
        "fall_half_hour_most": float(falls.max()),
        "tail_dependence": dependence(np.concatenate([path[:, other] for path in paths]), every),
    }


def hill(losses: Floats) -> float | None:
    """The tail index by the largest twentieth of the losses (Hill 1975); None where fewer than ten are above zero."""
    count = int(len(losses) * TAIL)
    largest = np.sort(losses)[::-1][: count + 1]
    if count < 10 or largest[-1] <= 0:
        return None
    return float(1 / np.log(largest[:-1] / largest[-1]).mean())


def clustering(paths: Sequence[Floats]) -> float | None:
    """Of all paths together; no pair of steps lies in two of them."""
    first = np.abs(np.concatenate([path[:-1] for path in paths]))
    then = np.abs(np.concatenate([path[1:] for path in paths]))
    if len(first) < 3 or first.std() == 0 or then.std() == 0:
        return None
    return float(np.corrcoef(first, then)[0, 1])


def dependence(one: Floats, other: Floats) -> float | None:
    """How often ``other`` is in its worst twentieth among the rows in which ``one`` is; None with fewer than ten."""
    bad = _worst(one)
    if bad.sum() < 10:
        return None
    return float(_worst(other)[bad].mean())


def _worst(returns: Floats) -> Bools:
    """The worst twentieth; fewer where fewer are losses, as of an oracle that seldom speaks."""
    return np.asarray((returns <= np.quantile(returns, TAIL)) & (returns < 0))


def fall_within(returns: Floats, steps: int) -> float:
    """The largest fall (a share, above zero) of the price from any of its last ``steps`` values."""
    level = np.concatenate([[0.0], np.cumsum(returns)])
    most = max(
        (float((level[: len(level) - lag] - level[lag:]).max()) for lag in range(1, min(steps, len(level) - 1) + 1)),
        default=0.0,
    )
    return float(-np.expm1(-max(0.0, most)))
