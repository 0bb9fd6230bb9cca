"""Ways of liquidating that a scenario may put in the place of the protocol's own, on any protocol."""

from __future__ import annotations

from typing import Any

from backtest import scenario as config
from backtest.replay.mechanism import Mechanism
from backtest.replay.mechanisms.agreed import ByHealth, Discounted, Fixed, ToTarget
from backtest.replay.mechanisms.auctions import DutchAuctions, EnglishAuctions, HybridLiquidations


def swapped(terms: config.Mechanism, cost: int = 0) -> Mechanism[Any] | None:
    """The way that a scenario names, new for each replay; None: the protocol's own. ``cost`` is what a call costs, base units."""
    match terms:
        case config.FixedSpread():
            return Fixed(terms)
        case config.HealthBonus():
            return ByHealth(terms)
        case config.TargetHealth():
            return ToTarget(terms)
        case config.HealthDutch():
            return Discounted(terms)
        case config.Dutch():
            return DutchAuctions(terms)
        case config.Hybrid():
            return HybridLiquidations(terms)
        case config.English():
            return EnglishAuctions(terms, cost)
    return None
