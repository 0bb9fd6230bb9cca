"""A scenario's overrides as a small delta on the stream of parameter changes: the timeline itself stays history's.

An override takes effect before the first transaction at or after its block and holds against later historical changes of the
same parameter. A collateral parameter (LTV, threshold, bonus) overridden for every asset, or of an e-mode category, replaces
values that history set and were not zero: an asset that is no collateral stays none. For a named asset it always holds.
Where several apply, the one of the latest block wins, then one that names its asset, then the later in the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from backtest.errors import ScenarioError, did_you_mean
from backtest.model import AssetId, Clock, Market, ParamChange
from backtest.scenario import Override
from backtest.units import BPS

Key = tuple[str, AssetId | None, int | None]

_COLLATERAL = frozenset({"ltv", "liquidation_threshold", "liquidation_bonus"})
_MARKET_WIDE = frozenset({"close_factor"})


@dataclass(frozen=True)
class _Rule:
    """One override with its names resolved; ``keys`` is None for 'whatever history sets'."""

    name: str
    value: int
    from_block: int
    category: int | None
    assets: frozenset[AssetId]
    everywhere: bool
    """For every asset: replaces non-zero values of history only, where ``name`` is a collateral parameter."""
    text: str

    def matches(self, key: Key, history: int | None) -> bool:
        name, asset, category = key
        if name != self.name or category != self.category or (asset is not None and asset not in self.assets):
            return False
        return not self.everywhere or bool(history)


class Overrides:
    """The overrides of one replay, and history's own values as they pass.

    Args:
        market: names the assets.
        overrides: as in the scenario. ScenarioError for an unknown asset or a combination that makes no sense.
    """

    def __init__(self, market: Market, overrides: Iterable[Override]) -> None:
        self._market = market
        self._waiting = sorted((_resolve(market, o) for o in overrides), key=lambda rule: (rule.from_block, len(rule.assets) == 1))
        self._active: list[_Rule] = []
        self._history: dict[Key, int] = {}
        self.touched: dict[str, int] = {rule.text: 0 for rule in self._waiting}
        """How many parameter values each override replaced or set."""

    def replaced(self, change: ParamChange) -> ParamChange:
        """What a historical change becomes."""
        key = (change.name, change.asset, change.category)
        self._history[key] = change.value
        for rule in reversed(self._active):
            if rule.matches(key, change.value):
                self.touched[rule.text] += 1
                return replace(change, value=rule.value)
        return change

    def due(self, seq: int, clock: Clock) -> list[ParamChange]:
        """The changes of overrides that start at or before the clock's block and have not started."""
        changes: dict[Key, ParamChange] = {}
        while self._waiting and self._waiting[0].from_block <= clock.block_number:
            rule = self._waiting.pop(0)
            self._active.append(rule)
            keys = [key for key, value in self._history.items() if rule.matches(key, value)]
            if not rule.everywhere:
                scope: list[AssetId | None] = [None] if rule.name in _MARKET_WIDE else [*sorted(rule.assets)]
                keys += [key for asset in scope if (key := (rule.name, asset, rule.category)) not in self._history]
            self.touched[rule.text] += len(keys)
            for key in keys:
                changes[key] = ParamChange(
                    seq=seq,
                    block_number=clock.block_number,
                    log_index=clock.log_index,
                    timestamp=clock.timestamp,
                    name=key[0],
                    value=rule.value,
                    asset=key[1],
                    category=key[2],
                )
        return list(changes.values())


def check(market: Market, overrides: Iterable[Override], history: Iterable[ParamChange], last_block: int) -> None:
    """Refuse overrides that can have no effect, or leave a block with a threshold and bonus whose product seizes more than everything.

    The configurator refuses the latter too (aave/aave-v3-core v1.19.3 PoolConfigurator.configureReserveAsCollateral).
    """
    overrides = tuple(overrides)
    if not overrides:
        return
    live = Overrides(market, overrides)
    values: dict[Key, int] = {}
    ours: dict[tuple[AssetId | None, int | None], int] = {}
    block = -1

    def take(change: ParamChange, overridden: bool) -> None:
        values[(change.name, change.asset, change.category)] = change.value
        if overridden and change.name.endswith(("liquidation_threshold", "liquidation_bonus")):
            ours[change.asset, change.category] = change.block_number

    for change in history:
        if change.block_number != block:
            _refuse_toxic(market, values, ours)
            block = change.block_number
        for due in live.due(change.seq, Clock(block, -1, change.timestamp)):
            take(due, overridden=True)
        replaced = live.replaced(change)
        take(replaced, overridden=replaced is not change)
    for due in live.due(-1, Clock(last_block, -1, 0)):
        take(due, overridden=True)
    _refuse_toxic(market, values, ours)
    for text, count in live.touched.items():
        if not count:
            raise ScenarioError(f"override {text} touches nothing in this history", "check its asset, e-mode category and from_block")


def _refuse_toxic(market: Market, values: dict[Key, int], places: Mapping[tuple[AssetId | None, int | None], int]) -> None:
    """ScenarioError if a liquidation at one of these places (with the block of its last change) would seize more than everything."""
    for (asset, category), block in places.items():
        prefix = "emode_" if asset is None else ""
        threshold = values.get((f"{prefix}liquidation_threshold", asset, category), 0)
        bonus = values.get((f"{prefix}liquidation_bonus", asset, category), 0)
        if threshold * bonus > BPS * BPS:
            where = f"e-mode {category}" if asset is None else market.assets[asset].symbol
            raise ScenarioError(
                f"{where}: threshold {threshold} with bonus {bonus} at block {block} would seize more than all collateral",
                "lower one of them: threshold x bonus must stay within 10000 x 10000",
            )


def _resolve(market: Market, override: Override) -> _Rule:
    name = override.parameter
    asset = market.asset_named(override.asset) if override.asset is not None else None
    if override.asset is not None and asset is None:
        raise ScenarioError(
            f"override {name}: market {market.name} has no asset '{override.asset}'",
            did_you_mean(override.asset, (a.symbol for a in market.assets)),
        )
    if override.emode is not None:
        name = f"emode_{name}"
    where = f" of {asset.symbol}" if asset else f" of e-mode {override.emode}" if override.emode is not None else ""
    return _Rule(
        name=name,
        value=override.value,
        from_block=override.from_block,
        category=override.emode,
        assets=frozenset([asset.id]) if asset else frozenset(a.id for a in market.assets),
        everywhere=asset is None and override.parameter in _COLLATERAL,
        text=f"{override.parameter}{where} = {override.value} from block {override.from_block}",
    )
