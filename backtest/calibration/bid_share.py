"""How the share that is bid rises with the number of searchers: sealed first-price bids with private costs even on [0,
C].

An auction worth V with n searchers pays V - 2C / (n + 1) on average, a share of s(n) = 1 - 2 (C / V) / (n + 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from backtest.calibration.fitting import Floats, Test
from backtest.errors import UserError


@dataclass(frozen=True, slots=True)
class BidShareFit:
    """A cost by least squares through s = 1 - cost * x, with x = 2 / ((n + 1) V), or 2 / (n + 1) where values are not
    known.
    """

    cost: float
    """C, in units of the values; or C / V."""
    error: float
    """Its standard error, the rows being independent."""
    r_squared: float
    """Share of the variance of s that the line explains; negative where the mean of s would do better."""
    rows: int

    def predicted(self, x: Floats) -> Floats:
        """The shares at these x."""
        return np.asarray(1 - self.cost * x)


def regressor(searchers: Floats, values: Floats | None) -> Floats:
    """x of each auction."""
    return np.asarray(2 / ((searchers + 1) * (1.0 if values is None else values)))


def fit(x: Floats, shares: Floats) -> BidShareFit:
    """Least squares of 1 - share on x, without a constant. UserError where bids do not fall short of the value."""
    squares = float(x @ x)
    cost = float(x @ (1 - shares)) / squares
    left = 1 - shares - cost * x
    spread = float(((shares - shares.mean()) ** 2).sum())
    if cost <= 0:
        raise UserError(
            f"the cost fitted is {cost:.4g}: bids are not below what is at stake",
            "check the column share: paid over what was at stake",
        )
    return BidShareFit(
        cost,
        math.sqrt(float(left @ left) / (len(x) - 1) / squares),
        1 - float(left @ left) / spread if spread else float("nan"),
        len(x),
    )


def lack_of_fit(one: BidShareFit, searchers: Floats, shares: Floats) -> Test:
    """F test of the line against a mean of its own for each number of searchers, where all auctions are worth the same
    (Fisher 1922).
    """
    groups = [shares[searchers == n] for n in np.unique(searchers)]
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    whole = float(((shares - one.predicted(regressor(searchers, None))) ** 2).sum())
    between, free = len(groups) - 1, len(shares) - len(groups)
    if between < 1 or free < 1 or within <= 0:
        return Test(float("nan"), None)
    statistic = (whole - within) / between / (within / free)
    return Test(statistic, float(stats.f.sf(statistic, between, free)), between)


def rmse(shares: Floats, predicted: Floats) -> float:
    """Root mean squared error."""
    return float(np.sqrt(((shares - predicted) ** 2).mean()))
