"""A protocol's own way of liquidating, and those that a scenario may put in its place, on any protocol."""

from __future__ import annotations

from typing import Any

from backtest import scenario as config
from backtest.protocols.interface import LendingProtocol, State
from backtest.protocols.mechanism import Mechanism, ProtocolSpread
from backtest.replay.mechanisms.agreed import ByHealth, Discounted, Fixed, ToTarget
from backtest.replay.mechanisms.auctions import DutchAuctions, EnglishAuctions, HybridLiquidations


def mechanism_of(protocol: LendingProtocol[State], cost: int = 0) -> Mechanism[Any]:
    """The protocol's own way of liquidating, new for each replay.

    ``cost`` is what a call costs the liquidator, base units.
    """
    return protocol.mechanism(cost) or ProtocolSpread()


def swapped(terms: config.Mechanism, cost: int = 0) -> Mechanism[Any] | None:
    """The way that a scenario names, new for each replay; None: the protocol's own. ``cost`` is what a call costs, base
    units.
    """
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
