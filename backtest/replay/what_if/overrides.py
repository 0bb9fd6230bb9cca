"""A scenario's overrides as a small delta on the stream of parameter changes: the timeline itself stays history's.

An override takes effect before the first transaction at or after its block, a step of a ramp before the first at or
after its own, and both hold against later historical changes of the same parameter; a relative one is added to whatever
history has. A collateral parameter (LTV, threshold, bonus) overridden for every asset, of an e-mode category, or by a
change, replaces values that history set and were not zero: an asset that is no collateral stays none. A value for a
named asset always holds. Where several apply, the one of the latest block wins, then one that names its asset, then the
later in the list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from backtest.errors import ScenarioError, did_you_mean
from backtest.model import AssetId, Clock, Market, ParamChange
from backtest.replay.timeline import Timeline
from backtest.scenario import PARAMETERS, Override, seconds_of

Key = tuple[str, AssetId | None, int | None]

EMODE = "emode_"
"""Before the name of a parameter that is one of an e-mode category."""


@dataclass
class _Rule:
    """One override with its names and moments resolved. ``step`` of ``steps`` holds now; ``starts`` are the blocks of
    the steps to come.
    """

    override: Override
    first: int
    unit: int
    assets: frozenset[AssetId]
    starts: list[int]
    steps: int
    text: str
    step: int = 0
    touched: set[Key] = field(default_factory=set)

    @property
    def everywhere(self) -> bool:
        """Replaces non-zero values of history only: a collateral parameter of no named asset, or one that is changed by
        so much.
        """
        return (self.override.asset is None or self.override.change is not None) and PARAMETERS[
            self.override.parameter
        ].per_category

    def value(self, history: int | None) -> int:
        """What a value of history becomes at this step: the way to the target in equal parts, rounded towards history;
        in stored units.
        """
        given = self.override
        before = history or 0
        word = PARAMETERS[given.parameter]
        low, high = word.low * self.unit, word.high * self.unit
        target = (
            given.value * self.unit
            if given.value is not None
            else min(max(before + (given.change or 0) * self.unit, low), high)
        )
        way = (abs(target - before) * self.step) // self.steps
        return before + way if target >= before else before - way


class Overrides:
    """The overrides of one replay, and history's own values as they pass.

    Args:
        market: names the assets.
        overrides: as in the scenario. ScenarioError for an unknown asset or a combination that makes no sense.
        timeline: says which block a date is.
        units: stored units of one, by parameter of the protocol.
    """

    def __init__(
        self, market: Market, overrides: Iterable[Override], timeline: Timeline, units: Mapping[str, int]
    ) -> None:
        self._rules = [_resolve(market, override, timeline, units) for override in overrides]
        self._active: list[_Rule] = []
        self._history: dict[Key, int] = {}

    @property
    def first_block(self) -> int | None:
        """The first block at which any of them takes effect; None: there are none."""
        return min((rule.first for rule in self._rules), default=None)

    def begins_within(self, after: int, before: int) -> bool:
        """Whether any of them, or a step of one, takes effect after one block and before another."""
        return any(after < start < before for rule in self._rules for start in rule.starts)

    @property
    def touched(self) -> dict[str, int]:
        """How many parameters each override replaced or set, by its text."""
        return {rule.text: len(rule.touched) for rule in self._rules}

    def compared(self, texts: Collection[str], clock: Clock) -> tuple[list[ParamChange], list[ParamChange]]:
        """The parameters that these overrides set, as history has them and as they are now; what history never set is
        left out.
        """
        values: dict[Key, tuple[int, int]] = {}
        for rule in self._active:
            for key in rule.touched if rule.text in texts else ():
                if (past := self._history.get(key)) is not None and self._strongest(key) is rule:
                    values[key] = past, rule.value(past)
        plain, ours = ([_changed(key, pair[which], -1, clock) for key, pair in values.items()] for which in (0, 1))
        return plain, ours

    def replaced(self, change: ParamChange) -> ParamChange:
        """What a historical change becomes."""
        key = (change.name, change.asset, change.category)
        self._history[key] = change.value
        for rule in reversed(self._active):
            if self._matches(rule, key, change.value):
                rule.touched.add(key)
                return replace(change, value=rule.value(change.value))
        return change

    def due(self, seq: int, clock: Clock) -> tuple[list[ParamChange], list[str]]:
        """The changes of overrides, or of steps of them, that start at or before the clock's block and have not
        started; and their texts.
        """
        changes: dict[Key, int] = {}
        begun: list[_Rule] = []
        for rule in self._rules:
            while rule.starts and rule.starts[0] <= clock.block_number:
                rule.starts.pop(0)
                rule.step += 1
                if rule not in begun:
                    begun.append(rule)
        for rule in begun:
            if rule not in self._active:
                self._active.append(rule)
        self._active.sort(key=lambda rule: (rule.first, rule.override.asset is not None))
        for rule in (rule for rule in self._active if rule in begun):
            keys = [key for key, value in self._history.items() if self._matches(rule, key, value)]
            keys += [key for key in self._named(rule) if key not in self._history]
            for key in keys:
                if self._strongest(key) is rule:
                    rule.touched.add(key)
                    changes[key] = rule.value(self._history.get(key))
        return [_changed(key, value, seq, clock) for key, value in changes.items()], [rule.text for rule in begun]

    @property
    def next_start(self) -> int:
        """The next block at which an override or a step of one starts; none is far away."""
        return min((rule.starts[0] for rule in self._rules if rule.starts), default=sys.maxsize)

    def waiting(self, last_block: int) -> list[int]:
        """Blocks up to this one at which overrides or steps of them have yet to start."""
        return sorted({start for rule in self._rules for start in rule.starts if start <= last_block})

    def _strongest(self, key: Key) -> _Rule | None:
        history = self._history.get(key)
        return next(
            (rule for rule in reversed(self._active) if self._matches(rule, key, history) or key in self._named(rule)),
            None,
        )

    def _named(self, rule: _Rule) -> list[Key]:
        """What an override sets even where history never did: its own asset's, or the market's, parameter."""
        given = rule.override
        if rule.everywhere or isinstance(given.emode, int) or given.change is not None:
            return []
        each = PARAMETERS[given.parameter].per_asset or given.asset is not None
        assets: list[AssetId | None] = [*sorted(rule.assets)] if each else [None]
        return [(given.parameter, asset, None) for asset in assets]

    def _matches(self, rule: _Rule, key: Key, history: int | None) -> bool:
        name, asset, category = key
        given = rule.override
        if rule.everywhere and not history:
            return False
        if category is not None:
            if given.emode is None or name != EMODE + given.parameter or not history:
                return False
            return given.emode == category or (given.emode == "all" and self._has_asset(rule, category))
        if name != given.parameter or isinstance(given.emode, int):
            return False
        return given.asset is None if asset is None else asset in rule.assets

    def _has_asset(self, rule: _Rule, category: int) -> bool:
        """Whether one of the override's assets is collateral of the category."""
        past = self._history
        return any(
            past.get(("emode_collateral", a, category)) or past.get(("emode_category", a, None)) == category
            for a in rule.assets
        )


def _changed(key: Key, value: int, seq: int, clock: Clock) -> ParamChange:
    name, asset, category = key
    block, log = clock.block_number, clock.log_index
    return ParamChange(
        seq=seq,
        block_number=block,
        log_index=log,
        timestamp=clock.timestamp,
        name=name,
        value=value,
        asset=asset,
        category=category,
    )


def check(
    market: Market,
    overrides: Iterable[Override],
    timeline: Timeline,
    units: Mapping[str, int],
    fault: Callable[[Mapping[str, int]], str | None],
    *,
    allow_invalid: bool = False,
) -> None:
    """Refuse overrides that can have no effect, or (unless allowed) leave a block with parameters that the market's
    configurator would refuse.
    """
    overrides = tuple(overrides)
    if not overrides:
        return
    unknown = next((o.parameter for o in overrides if o.parameter not in units), None)
    if unknown is not None:
        raise ScenarioError(
            f"override {unknown}: protocol {market.protocol} has no such parameter", did_you_mean(unknown, units)
        )
    live = Overrides(market, overrides, timeline, units)
    for override in overrides:
        _check_part(market, override, timeline, units)
    places: dict[tuple[AssetId | None, int | None], dict[str, int]] = {}
    ours: set[tuple[AssetId | None, int | None]] = set()
    collateral: set[tuple[AssetId | None, int | None]] = set()  # made so by history itself
    ended: set[tuple[AssetId | None, int | None]] = set()  # no longer: an asset that was dropped, and held by nobody
    block = -1

    def take(change: ParamChange, overridden: bool) -> None:
        place = change.asset, change.category
        places.setdefault(place, {})[change.name.removeprefix(EMODE)] = change.value
        if overridden and change.name.removeprefix(EMODE) in units:
            ours.add(place)

    def settled(*, at_last: bool = False) -> None:
        """The places that were touched pass, or wait: an asset that history has not made collateral yet is looked at
        when it does.
        """
        for place in sorted(ours, key=str):
            if place in ended or (not at_last and place not in collateral):
                continue
            ours.discard(place)
            reason = fault(places[place])
            if reason and not allow_invalid:
                where = (
                    f"e-mode {place[1]}"
                    if place[1] is not None
                    else market.label(place[0])
                    if place[0] is not None
                    else "the market"
                )
                raise ScenarioError(
                    f"{where} at block {block}: {reason}, which the configurator refuses",
                    "change the override, or let it pass with --allow-invalid (allow_invalid = true)",
                )

    def begun(until: int) -> None:
        """Steps that start up to this block, each for itself: a later one must not hide an earlier one."""
        nonlocal block
        for start in live.waiting(until):
            block = start
            for due in live.due(-1, Clock(start, -1, 0))[0]:
                take(due, overridden=True)
            settled()

    for change in timeline.params:
        if change.block_number != block:
            settled()
            begun(change.block_number)
            block = change.block_number
        if change.name.removeprefix(EMODE) == "liquidation_threshold":
            place = change.asset, change.category
            if change.value:
                collateral.add(place)
                ended.discard(place)
            elif place in collateral:
                collateral.discard(place)
                ended.add(place)
        replaced = live.replaced(change)
        take(replaced, overridden=replaced is not change)
    settled()
    begun(timeline.last_block)
    settled(at_last=True)
    for text, count in live.touched.items():
        if not count:
            raise ScenarioError(
                f"override {text} touches nothing in this history", "check its asset, e-mode category and from_block"
            )


def _check_part(market: Market, override: Override, timeline: Timeline, units: Mapping[str, int]) -> None:
    """ScenarioError where an override names an asset, and nothing of the kind is kept for it."""
    name, asset = override.parameter, override.asset
    if asset is None or PARAMETERS[name].per_asset:
        return
    kept = {each for each in units if PARAMETERS[each].per_part}
    parts = {change.asset for change in timeline.params if change.name in kept and change.asset is not None}
    found = market.asset_named(asset)
    if not parts:
        raise ScenarioError(f"override {name}: it is one for the whole market", "leave the asset out")
    if found is None or found.id not in parts:
        labels = ", ".join(market.label(part) for part in sorted(parts))
        raise ScenarioError(f"override {name}: '{asset}' has none of its own", f"give one of {labels}")


def _resolve(market: Market, override: Override, timeline: Timeline, units: Mapping[str, int]) -> _Rule:
    name = override.parameter
    asset = market.asset_named(override.asset) if override.asset is not None else None
    if override.asset is not None and asset is None:
        raise ScenarioError(
            f"override {name}: market {market.name} has no asset '{override.asset}'",
            did_you_mean(override.asset, market.names),
        )
    first = _block(override.from_block, override.from_time, timeline)
    last = None
    if override.until_block is not None or override.until_time is not None:
        last = _block(override.until_block or 0, override.until_time, timeline)
        if last <= first:
            raise ScenarioError(
                f"override {name}: the ramp ends at block {last}, not after its start, block {first}",
                "give a later end",
            )
    steps = override.steps
    starts = [first] if last is None else [first + k * (last - first) // steps for k in range(1, steps + 1)]
    where = (
        f" of {market.label(asset.id)}"
        if asset
        else f" of e-mode {override.emode}"
        if isinstance(override.emode, int)
        else ""
    )
    also = " and of e-modes with it" if override.emode == "all" else ""
    what = f"= {override.value}" if override.value is not None else f"{override.change:+d}"
    when = (
        f"from block {first}"
        if last is None
        else f"in {steps} {'step' if steps == 1 else 'steps'} from block {first} to {last}"
    )
    return _Rule(
        override=override,
        first=first,
        unit=units.get(name, 1),
        assets=frozenset([asset.id]) if asset else frozenset(a.id for a in market.assets),
        starts=starts,
        steps=steps,
        text=f"{name}{where}{also} {what} {when}",
    )


def _block(block: int, time: str | None, timeline: Timeline) -> int:
    """The block given, or the first with a known time at or after the date; one after the last where the history ends
    before.
    """
    return block if time is None else timeline.block_from(seconds_of(time, "time"))
