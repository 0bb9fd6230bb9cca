"""One path of a stress: what prices, gas and depth do from step to step, and when nothing happens at all."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from backtest.shocks.panel import Bools, Floats


@dataclass(frozen=True, slots=True)
class StressPath:
    """Everything is a multiple of what it is at the book's moment; arrays are changed by whoever makes the path only.

    Attributes:
        market: steps x assets, market prices.
        oracle: steps x assets, what the oracle says; NaN where it says nothing new.
        gas, depth: by step.
        open: by step, whether anything can happen in it: no oracle round, no liquidation.
        leaves: (step from one on, asset's column, share in basis points): suppliers who owe nothing take out so much of
            what they together hold, the largest first.
    """

    market: Floats
    oracle: Floats
    gas: Floats
    depth: Floats
    open: Bools
    leaves: list[tuple[int, int, int]] = field(default_factory=list)

    @classmethod
    def still(cls, steps: int, assets: int) -> StressPath:
        """Nothing moves."""
        market = np.ones((steps, assets))
        return cls(market, market.copy(), np.ones(steps), np.ones(steps), np.ones(steps, np.bool_))

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.gas)

    def said(self) -> Floats:
        """Steps x assets: the oracle's price as it holds, the last one where nothing new is said."""
        held = self.oracle.copy()
        held[~self.open] = np.nan
        before = np.ones(held.shape[1])
        for step in range(len(held)):
            before = held[step] = np.where(np.isnan(held[step]), before, held[step])
        return held
