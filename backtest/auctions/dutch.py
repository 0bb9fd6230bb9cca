"""Dutch auctions: how a price falls, and until when an auction may go on. Prices ray, times seconds. The rules are
those of makerdao/dss 2.0 ``src/abaci.sol`` and ``src/clip.sol``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from backtest.units import RAY, rpow_half_up

LINEAR, STAIRSTEP, EXPONENTIAL = 0, 1, 2
"""Kinds of a curve."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How the price of an auction falls: by a straight line, by steps, or each second. ``cut`` ray, ``step`` and
    ``tau`` seconds.
    """

    kind: int
    tau: int
    step: int
    cut: int

    def price_down(self, top: int, seconds: int) -> int:
        """``price(top, dur)`` of LinearDecrease, StairstepExponentialDecrease or ExponentialDecrease."""
        if self.kind == LINEAR:
            return 0 if seconds >= self.tau else top * ((self.tau - seconds) * RAY // self.tau) // RAY
        steps = seconds if self.kind == EXPONENTIAL else seconds // self.step
        return top * _power(self.cut, steps) // RAY


@lru_cache(maxsize=1 << 14)
def _power(cut: int, steps: int) -> int:
    """Many auctions ask the same."""
    return rpow_half_up(cut, steps)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Until when an auction may go on: ``tail`` seconds, and down to ``cusp`` (ray) of its starting price."""

    tail: int
    cusp: int

    def is_done(self, top: int, price: int, seconds: int) -> bool:
        """``status``: the auction must be reset before anybody may buy. An auction that starts at nothing is done."""
        return seconds > self.tail or not top or price * RAY // top < self.cusp
