"""A warning before a what-if: terms under which every liquidation leaves an account less healthy than it was."""

from __future__ import annotations

from collections.abc import Iterator

from backtest.model import AssetId, Clock, Market, ParamChange
from backtest.protocols.interface import LendingProtocol, State
from backtest.replay.timeline import Timeline
from backtest.replay.what_if.overrides import EMODE, Overrides
from backtest.scenario import FixedSpread, HealthDutch, ProtocolsOwn, Scenario, TargetHealth
from backtest.units import BPS, WAD

Place = tuple[AssetId | None, int | None]


def warnings(
    protocol: LendingProtocol[State], market: Market, timeline: Timeline, scenario: Scenario, first_block: int
) -> Iterator[str]:
    """One for each asset, or e-mode category, whose threshold times (1 + bonus) is one or more, by history's parameters
    at the first block and, in full, the scenario's changes of them. The protocol says what its parameters come to.

    A bonus that is capped by health or found by an auction has no such frontier.
    """
    for place, values in sorted(parameters_of(protocol, market, timeline, scenario, first_block).items(), key=_order):
        terms = protocol.liquidation_terms(values)
        bonus = _bonus(scenario, terms.bonus)
        if terms.threshold and bonus is not None and terms.threshold * bonus >= WAD * WAD:
            yield (
                f"Warning: {said(market, place)}: threshold x (1 + bonus) is"
                f" {100 * terms.threshold * bonus / WAD**2:.4g} %: every liquidation leaves the account less healthy,"
                " until its collateral is gone."
            )


def parameters_of(
    protocol: LendingProtocol[State], market: Market, timeline: Timeline, scenario: Scenario, first_block: int
) -> dict[Place, dict[str, int]]:
    """By asset or category: its own parameters (stored units) and those of the whole market; where no asset has any,
    the market's. Of history at the first block, with the scenario's changes in full.
    """
    found: dict[Place, dict[str, int]] = {}

    def take(change: ParamChange) -> None:
        found.setdefault((change.asset, change.category), {})[change.name.removeprefix(EMODE)] = change.value

    overrides = Overrides(market, scenario.overrides, timeline, protocol.parameters)
    for change in timeline.params:
        if change.block_number <= first_block:
            overrides.replaced(change)
            take(change)
    for block in overrides.waiting(timeline.last_block):
        for change in overrides.due(-1, Clock(block, -1, 0))[0]:
            take(change)
    whole = found.pop((None, None), {})
    if protocol.liquidation_terms(whole).threshold is not None:
        return {(None, None): whole}
    return {place: whole | own for place, own in found.items()}


def _order(entry: tuple[Place, object]) -> tuple[int, int]:
    asset, category = entry[0]
    return (-1 if category is None else category, -1 if asset is None else asset)


def said(market: Market, place: Place) -> str:
    """What a place is called."""
    asset, category = place
    if category is not None:
        return f"e-mode {category}"
    return market.name if asset is None else market.label(asset)


def _bonus(scenario: Scenario, own: int | None) -> int | None:
    """Wad: what the scenario's mechanism gives, or the protocol's own; None where that has no frontier."""
    match scenario.mechanism:
        case ProtocolsOwn():
            return own
        case HealthDutch(most=most):
            return BPS * WAD // (BPS - most)
        case FixedSpread(bonus=bonus) | TargetHealth(bonus=bonus):
            return bonus * WAD // BPS
    return None
