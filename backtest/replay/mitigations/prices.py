"""What stands between an oracle and the market: bands around its price, and parameters that follow its range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backtest import scenario as config
from backtest.model import AssetId, ParamChange, PriceUpdate
from backtest.protocols.book import Book
from backtest.replay.mitigations.part import Part
from backtest.replay.mitigations.ranges import Ranges
from backtest.replay.record import MitigationEffect
from backtest.units import BPS


class Banded(Part):
    """See ``scenario.PriceBand``. ``asset``: None is every one."""

    moves_prices = True

    def __init__(self, terms: config.PriceBand, asset: AssetId | None) -> None:
        self._terms, self._asset = terms, asset
        self._since: dict[AssetId, int] = {}
        """When rounds of an asset began to be beyond the band."""
        self._moved = 0

    def round(self, book: Book[Any], event: PriceUpdate) -> PriceUpdate:
        """As it is within the band, or once they were beyond it for long enough."""
        old, new, terms = book.oracle.get(event.asset), event.price, self._terms
        if self._asset not in (None, event.asset) or old is None or new is None:
            return event
        if abs(new - old) * BPS <= terms.move * old:
            self._since.pop(event.asset, None)
            return event
        since = self._since.setdefault(event.asset, event.timestamp)
        if terms.seconds and event.timestamp - since >= terms.seconds:
            del self._since[event.asset]
            return event
        self._moved += 1
        step = 0 if terms.beyond == "keep" else old * terms.move // BPS
        return replace(event, price=old + step if new > old else old - step)

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """How many rounds were not taken as they were."""
        return [self.did("moved", self._moved)] if self._moved else []


class Ranged(Part):
    """See ``scenario.VolatilityTiers``. ``units``: stored units of one basis point, by parameter. E-mode categories
    have parameters of their own, which stay.
    """

    def __init__(self, terms: config.VolatilityTiers, asset: AssetId, units: Mapping[str, int]) -> None:
        self._terms, self._asset, self._units = terms, asset, {name: units[name] for name in terms.names}
        self._ranges = Ranges(terms.window)
        self._own: dict[str, ParamChange] = {}
        """The last change of each parameter, as history or an override made it."""
        self._change = 0
        self._due: list[ParamChange] = []
        self._moved = 0

    def round(self, book: Book[Any], event: PriceUpdate) -> PriceUpdate:
        """Another range may be another tier."""
        if event.asset == self._asset:
            self._ranges.note(book, event)
            range_ = self._ranges.range_up(event.asset, event.timestamp)
            change = next((change for least, change in reversed(self._terms.tiers) if range_ >= least), 0)
            if change != self._change:
                self._change = change
                self._due = [
                    replace(
                        own,
                        seq=event.seq,
                        block_number=event.block_number,
                        log_index=event.log_index,
                        timestamp=event.timestamp,
                    )
                    for own in self._own.values()
                ]
                self._moved += len(self._due)
        return event

    def parameters_due(self) -> Sequence[ParamChange]:
        """Those of the asset, when the tier changed."""
        due, self._due = self._due, []
        return due

    def parameter(self, change: ParamChange) -> ParamChange:
        """By the tier's step, within 0 and 100 %; what is 0, no collateral, stays so."""
        if change.asset != self._asset or change.category is not None or change.name not in self._units:
            return change
        self._own[change.name] = change
        unit = self._units[change.name]
        if not change.value or not self._change:
            return change
        return replace(change, value=min(max(change.value + self._change * unit, 0), BPS * unit))

    @property
    def effects(self) -> Sequence[MitigationEffect]:
        """How many parameters were set anew."""
        return [self.did("moved", self._moved)] if self._moved else []
