"""A warning before a what-if: terms under which every liquidation leaves an account less healthy than it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from backtest.model import AssetId, Market, ParamChange
from backtest.scenario import Dutch, English, HealthBonus, HealthDutch, Hybrid, ProtocolsOwn, Scenario
from backtest.units import BPS, RAY, WAD


def warnings(market: Market, params: Iterable[ParamChange], scenario: Scenario, first_block: int) -> Iterator[str]:
    """One for each asset whose threshold times (1 + bonus) is one or more, by history's parameters at the first block
    and the scenario's changes.

    Assets' own parameters only, not those of e-modes. A bonus that is capped by health or found by an auction has no
    such frontier.
    """
    if isinstance(scenario.mechanism, HealthBonus | Dutch | Hybrid | English):
        return
    thresholds: dict[AssetId, int] = {}
    bonuses: dict[AssetId, int] = {}
    for change in params:
        if change.block_number <= first_block and change.category is None:
            if change.name == "liquidation_threshold" and change.asset is not None:
                thresholds[change.asset] = change.value
            elif change.name == "liquidation_bonus" and change.asset is not None:
                bonuses[change.asset] = change.value
            elif change.name == "liquidation_ratio":  # Maker: of the one collateral
                thresholds[AssetId(0)] = BPS * RAY // change.value
            elif change.name == "lltv":  # Morpho Blue: of the one collateral
                thresholds[AssetId(1)] = change.value * BPS // WAD
    for override in scenario.overrides:
        known = {"liquidation_threshold": thresholds, "liquidation_bonus": bonuses}.get(override.parameter)
        if known is None or isinstance(override.emode, int):
            continue
        named = market.asset_named(override.asset) if override.asset else None
        for asset in [named.id] if named is not None else list(known):
            known[asset] = (
                override.value if override.value is not None else known.get(asset, 0) + (override.change or 0)
            )
    for asset, threshold in sorted(thresholds.items()):
        bonus = _bonus(scenario, bonuses.get(asset, BPS))
        if threshold and threshold * bonus >= BPS * BPS:
            yield (
                f"Warning: {market.label(asset)}: threshold x (1 + bonus) is {threshold * bonus / 10**6:.4g} %:"
                " every liquidation leaves the account less healthy, until its collateral is gone."
            )


def _bonus(scenario: Scenario, own: int) -> int:
    mechanism = scenario.mechanism
    if isinstance(mechanism, ProtocolsOwn):
        return own
    if isinstance(mechanism, HealthDutch):
        return BPS * BPS // (BPS - mechanism.most)
    return int(getattr(mechanism, "bonus", own))
