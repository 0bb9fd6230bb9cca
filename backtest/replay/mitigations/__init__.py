"""Mitigations that a scenario switches on: an engine with some asks here at each place where they may change what
happens; one without asks nobody.

A mechanism that withholds offers (``withheld``) stands around the protocol's or the scenario's own; prices,
parameters and users' calls pass by the parts on their way into the book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from backtest import scenario as config
from backtest.errors import ScenarioError, did_you_mean
from backtest.model import AccountId, AssetId, Market, ParamChange, PriceUpdate
from backtest.protocols.book import Book
from backtest.protocols.interface import AccountView, Acted, LendingProtocol, Refusal
from backtest.protocols.mechanism import Mechanism
from backtest.replay.competition.opportunities import WITHHELD
from backtest.replay.mitigations.funds import payments
from backtest.replay.mitigations.offered import Halted, Rebated, Throttled, Tiered, ToHealth
from backtest.replay.mitigations.owners import Acting, Capped, Host, Parted, Sized, Triggered
from backtest.replay.mitigations.part import Changes, Part
from backtest.replay.mitigations.prices import Banded, Ranged
from backtest.replay.mitigations.stops import Paused, Standstill, Tripped, Waited
from backtest.replay.mitigations.withheld import Withheld
from backtest.replay.record import MitigationEffect, Replay
from backtest.scenario.mitigations import asset_of

__all__ = ["MitigationEffect", "Mitigations", "mitigations_of"]


class Mitigations:
    """Those of one replay of one market."""

    def __init__(self, scenario: config.Scenario, protocol: LendingProtocol[Any], market: Market) -> None:
        self._scenario = scenario
        self._parts = _parts(scenario, protocol, market)
        self._acting = [part for part in self._parts if isinstance(part, Acting)]
        self._mechanism: Withheld | None = None
        self.moves_prices = any(part.moves_prices for part in self._parts)

    def around(self, inner: Mechanism[Any]) -> Mechanism[Any]:
        """A way of liquidating with what is withheld of it."""
        self._mechanism = Withheld(inner, self._parts)
        return self._mechanism

    @property
    def waiting(self) -> set[AccountId]:
        """Accounts of which something was withheld at the last look."""
        return self._mechanism.waiting if self._mechanism is not None else set()

    @property
    def binds_others(self) -> bool:
        """Whether what was just taken changes what is on offer of other accounts."""
        return any(part.binds_others for part in self._parts)

    def round(self, book: Book[Any], event: PriceUpdate, set_parameter: Callable[[ParamChange], None]) -> PriceUpdate:
        """What the book takes of an oracle's round; parameters that follow it are set at once."""
        for part in self._parts:
            event = part.round(book, event)
            for due in part.parameters_due():
                set_parameter(due)
        return event

    def parameter(self, change: ParamChange) -> ParamChange:
        """What a parameter takes instead."""
        for part in self._parts:
            change = part.parameter(change)
        return change

    def refuses(self, book: Book[Any], changes: Changes) -> Refusal | None:
        """A user's action that is not let through."""
        for part in self._parts:
            if part.refuses(book, changes):
                return Refusal(f"{WITHHELD} ({part.kind})")
        return None

    def locked(self, asset: AssetId, now: int) -> bool:
        """Whether nobody can withdraw an asset now (seconds)."""
        return any(part.locks(asset, now) for part in self._parts)

    def turns(self, now: int) -> int | None:
        """The next time at which that may change by itself."""
        return min((time for part in self._parts if (time := part.turns(now)) is not None), default=None)

    def within(self, book: Book[Any], acted: Acted) -> Callable[[AccountView], bool] | None:
        """How the account of a call that raises its risk may stand after it."""
        limits = [limit for part in self._parts if (limit := part.within(book, acted)) is not None]
        return (lambda view: all(limit(view) for limit in limits)) if limits else None

    def act(self, host: Host) -> None:
        """Owners act, before liquidators look."""
        for part in self._acting:
            part.act(host)

    def finish(self, result: Replay[Any]) -> list[MitigationEffect]:
        """What each did, in the scenario's order."""
        found = [effect for part in self._parts for effect in part.effects]
        found += self._mechanism.effects if self._mechanism is not None else []
        found += payments(result, self._scenario.mitigations)
        return sorted(found, key=lambda effect: effect.place)


def mitigations_of(scenario: config.Scenario, protocol: LendingProtocol[Any], market: Market) -> Mitigations | None:
    """Those that a scenario switches on, new for each replay; None without any. ScenarioError for what this protocol
    cannot do, or an asset that the market does not have.
    """
    return Mitigations(scenario, protocol, market) if scenario.mitigations else None


def _parts(scenario: config.Scenario, protocol: LendingProtocol[Any], market: Market) -> list[Part]:
    parts: list[Part] = []
    for place, terms in enumerate(scenario.mitigations):
        _can(terms, protocol)
        part = _part(terms, _asset(terms, market), scenario, protocol)
        part.kind, part.place = terms.kind, place
        parts.append(part)
    longest = max(
        (each.seconds for each in scenario.mitigations if isinstance(each, config.Grace) and each.after == "stop"),
        default=0,
    )
    for part in parts:
        if isinstance(part, Standstill):
            part.grace = longest
    return parts


def _part(
    terms: config.Mitigation, asset: AssetId | None, scenario: config.Scenario, protocol: LendingProtocol[Any]
) -> Part:
    match terms:
        case config.Pause():
            return Paused(terms, asset)
        case config.CircuitBreaker():
            return Tripped(terms, asset)
        case config.PriceBand():
            return Banded(terms, asset)
        case config.Grace(after="unhealthy"):
            return Waited(terms)
        case config.ToxicHalt():
            return Halted(terms)
        case config.Throttle():
            return Throttled(terms, asset)
        case config.SizeTiers():
            return Tiered(terms)
        case config.DynamicBonus():
            return Rebated(terms)
        case config.DynamicCloseFactor():
            return ToHealth(terms)
        case config.IsolatedMargin():
            return Parted()
        case config.OwnerTrigger():
            return Triggered(terms, scenario.seed)
        case config.RiskSizing():
            return Sized(terms)
    if asset is not None:
        match terms:
            case config.VolatilityTiers():
                return Ranged(terms, asset, protocol.parameters)
            case config.DepthCap():
                return Capped(terms, asset)
    return Part()  # a grace after stops, which they keep; funds and suppliers, who pay afterwards


def _asset(terms: config.Mitigation, market: Market) -> AssetId | None:
    named = asset_of(terms)
    if named is None:
        return None
    found = market.asset_named(named)
    if found is None:
        raise ScenarioError(
            f"mitigation {terms.kind}: market {market.name} has no asset '{named}'", did_you_mean(named, market.names)
        )
    return found.id


def _can(terms: config.Mitigation, protocol: LendingProtocol[Any]) -> None:
    """ScenarioError where the protocol does not provide what the mitigation needs."""
    lacks: Iterable[str] = ()
    instead = "leave it out for this market"
    weighs = type(protocol).weight is not LendingProtocol.weight
    match terms:
        case config.VolatilityTiers():
            lacks = [name for name in terms.names if name not in protocol.parameters]
            if has := [name for name in terms.names if name in protocol.parameters]:
                instead = f"give parameters = '{has[0]}'"
        case config.DynamicCloseFactor() if not weighs:
            lacks = ["say in what a collateral counts"]
        case config.IsolatedMargin():
            lacks = [] if protocol.parts_accounts else ["accounts that can be parted"]
            instead += "; where accounts have one collateral, margin is isolated already"
        case config.OwnerTrigger(by="top-up" | "sell") if not weighs:
            lacks = ["say in what a collateral counts"]
        case config.OwnerTrigger(by="sell"):
            lacks = [] if protocol.early else ["orders about healthy accounts"]
    if missing := ", ".join(lacks):
        raise ScenarioError(f"mitigation {terms.kind}: protocol {protocol.name} has no {missing}", instead)
