"""What a protocol reads of a history that goes on: all of it so far, and the logs of its newest blocks as a segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from backtest.abi import event_schema
from backtest.errors import UserError
from backtest.fetch.headers import DATASET as HEADERS
from backtest.follow.overlay import Overlay
from backtest.markets import MarketConfig
from backtest.protocols.interface import LendingProtocol
from backtest.tables import QUARANTINE, RAW_STATE

_TIMES = ("block_number", "timestamp")
_OTHER_TIMES = "raw/chain/BlockTime"
Times = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _none() -> Times:
    return np.empty(0, np.int64), np.empty(0, np.int64)


class Told:
    """A market's events in an overlay, each with its place. ``seq`` orders all of them and is not dense."""

    def __init__(self, lake: Overlay, config: MarketConfig, protocol: LendingProtocol[Any]) -> None:
        self.lake, self.config = lake, config
        self.specs = {spec.name: spec for spec in protocol.events}
        self._below: dict[str, pa.Table] = {}
        self._final_times = self._times(0, lake.final)
        self._head_times: tuple[int, Times] = (-1, _none())

    def span(self, after: int, upto: int) -> Span:
        """The history up to the end of ``upto``, whose newest segment are the blocks behind ``after``."""
        return Span(self, after, upto)

    @property
    def head_times(self) -> Times:
        """Blocks above the final one, and their times."""
        if self._head_times[0] != self.lake.changes:
            self._head_times = self.lake.changes, self._times(self.lake.final + 1, None)
        return self._head_times[1]

    def _times(self, first: int, last: int | None) -> Times:
        """Known blocks of a range, and their times."""
        parts = [
            self.lake.read(name, self.config.name, columns=_TIMES, from_block=first or None, to_block=last)
            for name in (HEADERS, _OTHER_TIMES)
            if self.lake.holds(name)
        ]
        if not parts:
            return _none()
        table = pa.concat_tables([part.select(_TIMES).cast(parts[0].schema) for part in parts])
        blocks, at = np.unique(table["block_number"].to_numpy(), return_index=True)
        return blocks, table["timestamp"].to_numpy()[at]

    def below(self, dataset: str) -> pa.Table:
        """Placed rows of the final blocks, kept."""
        if dataset not in self._below:
            table = self.lake.read(dataset, self.config.name, to_block=self.lake.final)
            self._below[dataset] = placed(table, *self._final_times, self.config.name)
        return self._below[dataset]

    @property
    def final_times(self) -> Times:
        """Final blocks whose time is known, and their times."""
        return self._final_times


class Span:
    """``RawEvents`` at one moment of a history that goes on."""

    def __init__(self, told: Told, after: int, upto: int) -> None:
        self.parameters = dict(told.config.parameters)
        self._told, self._after, self._upto = told, after, upto

    def table(self, event: str) -> pa.Table:
        """See ``RawEvents.table``."""
        told = self._told
        lake, market = told.lake, told.config.name
        dataset = event if "/" in event else f"raw/{told.config.protocol}/{event}"
        held = lake.holds(dataset)
        if dataset in RAW_STATE:
            return lake.read(dataset, market) if held else RAW_STATE[dataset].empty_table()
        if dataset.endswith("/Quarantine"):
            return lake.read(dataset, market, to_block=self._upto) if held else QUARANTINE.empty_table()
        if not held:
            empty = (event_schema(told.specs[event]) if event in told.specs else QUARANTINE).empty_table()
            return placed(empty, *told.final_times, market)
        final = lake.final
        if self._upto < final:
            return placed(lake.read(dataset, market, to_block=self._upto), *told.final_times, market)
        parts = [told.below(dataset)]
        if self._upto > final and (rows := lake.own(dataset, final + 1, self._upto)).num_rows:
            parts.append(placed(rows, *told.head_times, market))
        return pa.concat_tables(parts) if len(parts) > 1 else parts[0]

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterator[Mapping[str, pa.Table]]:
        """See ``RawEvents.segments``: the newest blocks, in one piece whatever ``rows`` says."""
        told, final = self._told, self._told.lake.final
        found = {}
        for event, wanted in columns.items():
            dataset = f"raw/{told.config.protocol}/{event}"
            if not told.lake.holds(dataset):
                continue
            if self._after < final:
                table = self.table(event)
                table = table.filter(pa.array(table["block_number"].to_numpy() > self._after))
            else:
                own = told.lake.own(dataset, self._after + 1, self._upto)
                table = placed(own, *told.head_times, told.config.name)
            found[event] = table.select(["seq", "timestamp", *wanted])
        if any(table.num_rows for table in found.values()):
            yield found


def placed(table: pa.Table, blocks: npt.NDArray[np.int64], times: npt.NDArray[np.int64], market: str) -> pa.Table:
    """The table with ``seq`` and ``timestamp`` before its own columns, in order."""
    if not table.num_rows:
        none = pa.array([], pa.int64())
        return table.add_column(0, "seq", none).add_column(1, "timestamp", none)
    own = table["block_number"].to_numpy().astype(np.int64)
    seq = own << 24 | (table["log_index"].to_numpy() + 1)
    at = np.minimum(np.searchsorted(blocks, own), max(len(blocks) - 1, 0))
    wrong = blocks[at] != own if len(blocks) else np.ones(len(own), np.bool_)
    if wrong.any():
        raise UserError(
            f"market '{market}' has no header of block {int(own[wrong][0])}", "run the fetch again: it reads it"
        )
    found = pa.array(times[at] if len(blocks) else np.empty(0, np.int64))
    placed_table = table.add_column(0, "seq", pa.array(seq)).add_column(1, "timestamp", found)
    return placed_table if (seq[1:] >= seq[:-1]).all() else placed_table.sort_by("seq")
