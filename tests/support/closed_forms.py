"""Closed forms of competition, as the literature has them: what models and calibration are tested against."""

from __future__ import annotations

import math
from collections.abc import Sequence


def sealed_bid_payment(value: float, cost: float, n: int) -> float:
    """What the winner of a sealed first-price auction pays on average: n >= 2 bidders, private costs even on [0, cost]:
    V - 2C / (n + 1).
    """
    return value - 2 * cost / (n + 1)


def sealed_bid_rent(cost: float, n: int) -> float:
    """What it keeps: C / (n + 1)."""
    return cost / (n + 1)


def bid_share(cost: float, n: int) -> float:
    """The payment as a share of the value, ``cost`` being C / V."""
    return sealed_bid_payment(1.0, cost, n)


def participation_share(p: float, n: int) -> float:
    """Share of the value that is bid where each of n alike shows up with probability p: one alone bids nothing, several
    all of it.
    """
    return 1 - (1 - p) ** n - n * p * (1 - p) ** (n - 1)


def poisson_share(mean: float) -> float:
    """The limit of ``participation_share`` for many with n p = mean."""
    return 1 - math.exp(-mean) * (1 + mean)


def single_bidder_share(mean: float) -> float:
    """Share with one bidder of the auctions with any, their number being Poisson."""
    return mean * math.exp(-mean) / (1 - math.exp(-mean))


def exponential_race(latencies: Sequence[float]) -> list[float]:
    """Who wins a race of exponential times with these means: mu_j / sum of mu, mu being 1 / latency."""
    speeds = [1 / latency for latency in latencies]
    return [speed / sum(speeds) for speed in speeds]


def softmax(latencies: Sequence[float], temperature: float) -> list[float]:
    """Who wins by exp(-latency / temperature)."""
    weights = [math.exp(-latency / temperature) for latency in latencies]
    return [weight / sum(weights) for weight in weights]


def two_step(
    collateral: float, debt: float, threshold: float, bonus: float, close_factor: float
) -> tuple[float, float]:
    """First repayment of the two-step liquidation of Qin et al. (IMC 2021), and by what share both steps gain more than
    one.
    """
    first = (debt - threshold * collateral) / (1 - threshold * (1 + bonus))
    return first, (1 - close_factor) * first / (close_factor * debt)
