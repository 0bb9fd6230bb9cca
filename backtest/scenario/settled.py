"""One scenario, one form: what is written in several ways and means the same is hashed, stored and shown as one.

Names of assets become those that the market has, times the shortest text of their second, and overrides stand in an
order of their own wherever their order decides nothing. (That defaults may be spelled out or left out is the business
of ``Scenario.canonical``.)
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from backtest.scenario import AssetImpact, Gas, Impact, Override, Scenario, Slippage, seconds_of

Name = Callable[[str], str]
"""The one name of an asset that is given by symbol or address; what is unknown stays as it is."""
T = TypeVar("T", bound=msgspec.Struct)


def settled(scenario: Scenario, name: Name) -> Scenario:
    """The scenario as it is hashed and stored. ScenarioError where ``name`` finds a symbol ambiguous."""
    scenario = named(scenario, name)
    costs = scenario.costs
    slippage = sorted(costs.slippage, key=lambda entry: entry.asset or "")
    answering = sorted(scenario.impact.assets, key=lambda entry: entry.asset)
    impact = replace(scenario.impact, assets=tuple(answering)) if answering else Impact()  # which of none does nothing
    return replace(
        scenario,
        overrides=_ordered(scenario.overrides),
        costs=replace(costs, slippage=tuple(slippage)),
        impact=impact,
        from_block=scenario.from_block or None,
    )


def named(scenario: Scenario, name: Name) -> Scenario:
    """The scenario with one name for each asset and one text for each time, everything in its place."""
    costs = scenario.costs
    return replace(
        scenario,
        overrides=tuple(_named(_timed(override), name) for override in scenario.overrides),
        costs=replace(
            costs,
            slippage=tuple(_named(entry, name) for entry in costs.slippage),
            gas=None if costs.gas is None else _gas(costs.gas, name),
        ),
        impact=replace(scenario.impact, assets=tuple(_answering(entry, name) for entry in scenario.impact.assets)),
    )


def _named(part: T, name: Name) -> T:
    assert isinstance(part, Override | Slippage)
    return part if part.asset is None else replace(part, asset=name(part.asset))


def _answering(entry: AssetImpact, name: Name) -> AssetImpact:
    return replace(entry, asset=name(entry.asset), into=None if entry.into is None else name(entry.into))


def _gas(gas: Gas, name: Name) -> Gas:
    steps = tuple(replace(step, from_time=_time(step.from_time)) for step in gas.steps)
    moved = replace(gas, steps=steps, native=None if gas.native is None else name(gas.native))
    since, until = (None if text is None else _time(text) for text in (gas.spike_from, gas.spike_until))
    return replace(moved, spike_from=since, spike_until=until)


def _timed(override: Override) -> Override:
    since, until = (None if text is None else _time(text) for text in (override.from_time, override.until_time))
    return replace(override, from_time=since, until_time=until)


def _time(text: str) -> str:
    return datetime.fromtimestamp(seconds_of(text, "time"), UTC).strftime("%Y-%m-%dT%H:%M:%S").removesuffix("T00:00:00")


def _ordered(overrides: tuple[Override, ...]) -> tuple[Override, ...]:
    """Sorted; those of one parameter stay as they are if two of them may hold for the same asset from the same block
    on, since then the later one wins.
    """
    alike: dict[tuple[bool, str], list[Override]] = {}
    for override in overrides:
        own = alike.setdefault((override.asset is None, override.parameter), [])
        if override not in own[-1:]:
            own.append(override)
    found: list[Override] = []
    for _, own in sorted(alike.items()):
        if not any(_contend(one, other) for i, one in enumerate(own) for other in own[:i]):
            own = sorted(own, key=msgspec.json.encode)
        found += own
    return tuple(found)


def _contend(one: Override, other: Override) -> bool:
    """Whether it matters which of two of one parameter, both with an asset or both without, comes later in the list
    (``backtest.replay.what_if.overrides``; of two others the one with an asset wins).
    """
    if one.from_time is None and other.from_time is None and one.from_block != other.from_block:
        return False  # the later block wins
    if one.asset is not None:
        return one.asset == other.asset or (one.emode == other.emode == "all")
    return one.emode == other.emode or "all" in (one.emode, other.emode)
