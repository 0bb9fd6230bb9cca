"""Prices and indexes of a timeline as compiled code reads them (``shortcuts.loop.Events``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from backtest.model import IndexUpdate, MarketEvent, MarketPrice, PriceUpdate

if TYPE_CHECKING:
    from backtest.replay.timeline import Timeline

_WORD = (1 << 64) - 1
_KINDS = (PriceUpdate, IndexUpdate, MarketPrice)


class Passing:
    """What the loop reads of a timeline; made once. ``fits``: whether every number does."""

    def __init__(self, timeline: Timeline) -> None:
        from backtest.replay.shortcuts import loop

        code_of = np.full(len(timeline.kinds), loop.OTHER, np.int8)
        for number_of, event in enumerate(_KINDS):
            code_of[[kind.event is event for kind in timeline.kinds]] = number_of
        kind = code_of[timeline.kind]
        ends = timeline.ends
        begins = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        other = np.add.reduceat(kind == loop.OTHER, begins, dtype=np.int64) if len(ends) else ends
        ticks = np.add.reduceat(kind < loop.MARKET_PRICE, begins, dtype=np.int64) if len(ends) else ends
        block = timeline.block[ends - 1]
        time = timeline.timestamps[np.searchsorted(timeline.blocks, block)]
        self.fits = True
        asset, words, known = zip(
            *(self._column(timeline, event, name) for event, name in zip(_KINDS, ("price", "", "price"), strict=True)),
            strict=True,
        )
        self.events = loop.Events(
            ends, block, time, other == 0, (ticks > 0) & (other == 0), kind, timeline.places, asset[0], words[0],
            known[0], asset[1], words[1], asset[2], words[2], known[2],
        )  # fmt: skip
        self._breaks: npt.NDArray[np.int64] = np.flatnonzero(other)

    def later(self, time: int) -> int:
        """The first transaction later than that."""
        return int(np.searchsorted(self.events.time, time, side="right"))

    def next_break(self, place: int) -> int:
        """The first transaction from this one on that is not the loop's."""
        at = int(np.searchsorted(self._breaks, place))
        return int(self._breaks[at]) if at < len(self._breaks) else len(self.events.ends)

    def _column(self, timeline: Timeline, event: type[MarketEvent], price: str) -> tuple[Any, Any, Any]:
        """Of all events of a kind: asset, words, whether there is a price."""
        count = len(timeline.rows(event))
        asset = timeline.column(event, "asset")[0].astype(np.int64)
        names = (price,) if price else ("supply_index", "borrow_index", "supply_rate", "borrow_rate")
        known = ~timeline.nulls(event, price) if price else np.ones(count, np.bool_)
        parts = []
        for name in names if count else ():
            column = timeline.column(event, name)[0]
            if column.ndim == 2 and column.dtype.itemsize == 8:
                parts.append(column[:, ::-1].view(np.uint64))
                continue
            values = [value or 0 for value in timeline.values(event, np.ones(count, np.bool_), name)[0]]
            if max(values) >> 128:
                self.fits, values = False, [0] * count
            parts.append(np.array([(value >> 64, value & _WORD) for value in values], np.uint64))
            if price:
                known = np.array([value is not None for value in timeline.values(event, known | True, name)[0]])
        words = np.concatenate(parts, axis=1) if parts else np.empty((0, 2 * len(names)), np.uint64)
        return asset, np.ascontiguousarray(words), known
