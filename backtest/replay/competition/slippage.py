"""What selling collateral brings less than the market price: base units in, base units lost, rounded against who sells.
Integers only.

The market is as it was for each sale: what was sold before leaves no trace in these models (fetched pools move with
history alone).
"""

from __future__ import annotations

from math import isqrt

from backtest.scenario import Slippage
from backtest.units import BPS

_SCALE = 10**18


def constant_product_loss_up(value: int, reserve: int, fee: int) -> int:
    """Of selling ``value`` into a pool that holds ``reserve`` of the same asset: it brings v (1 - fee) / (1 + v (1 -
    fee) / x).
    """
    paid = value * (BPS - fee)
    return value - (paid * reserve // (BPS * reserve + paid) if reserve else 0)


def square_root_loss_up(value: int, daily_volume: int, daily_volatility: int, coefficient: int) -> int:
    """Y * sigma * sqrt(Q / V) of the value, taken as the loss of the whole sale (its average would be two thirds); all
    of it at most.
    """
    root = isqrt(value * _SCALE * _SCALE // daily_volume) + 1 if value else 0
    return min(value, -(-value * coefficient * daily_volatility * root // (BPS * BPS * _SCALE)))


def depth_loss_up(value: int, curve: tuple[tuple[int, int], ...]) -> tuple[int, bool]:
    """By a curve of (size, basis points): straight between its points and from nothing to the first, beyond the last
    with the square root of size; and whether it is beyond.
    """
    before = (0, 0)
    for point in curve:
        if value <= point[0]:
            (q0, s0), (q1, s1) = before, point
            return min(value, -(-value * (s0 * (q1 - q0) + (s1 - s0) * (value - q0)) // (BPS * (q1 - q0)))), False
        before = point
    size, slippage = curve[-1]
    root = isqrt(value * _SCALE * _SCALE // size) + 1
    return min(value, -(-value * slippage * root // (BPS * _SCALE))), True


def loss_up(value: int, terms: Slippage) -> tuple[int, bool]:
    """By a model of a scenario; and whether it went beyond what was measured. ``depth`` shrinks the market, so that a
    sale counts as larger.
    """
    if not value or terms.model == "none":
        return 0, False
    size = -(-value * BPS // terms.depth)
    beyond = False
    if terms.model == "constant-product":
        loss = constant_product_loss_up(size, terms.reserve or 0, terms.fee)
    elif terms.model == "square-root":
        loss = square_root_loss_up(size, terms.daily_volume or 1, terms.daily_volatility or 0, terms.coefficient)
    elif terms.model == "depth":
        loss, beyond = depth_loss_up(size, terms.curve)
    else:
        raise ValueError(terms.model)
    return min(value, -(-loss * value // size)), beyond
