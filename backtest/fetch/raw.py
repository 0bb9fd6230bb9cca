"""What a lake holds of a market's raw events, as a protocol reads it while the fetch still runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from backtest.abi import event_schema
from backtest.lake import Lake
from backtest.model import EventSpec
from backtest.tables import QUARANTINE, RAW_STATE

_ORDER = [pa.field("seq", pa.int64(), nullable=False), pa.field("timestamp", pa.int64())]


class LakeEvents:
    """``RawEvents`` over raw datasets. ``seq`` orders all events but is not dense, and ``timestamp`` is null:
    reconstruction, which needs the whole history to be there, knows better.
    """

    def __init__(
        self,
        lake: Lake,
        market: str,
        protocol: str,
        specs: Sequence[EventSpec],
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self.parameters = dict(parameters or {})
        self._lake, self._market, self._protocol = lake, market, protocol
        self._specs = {spec.name: spec for spec in specs}

    def table(self, event: str) -> pa.Table:
        """See ``RawEvents.table``."""
        dataset = event if "/" in event else f"raw/{self._protocol}/{event}"
        if dataset in self._lake.datasets(self._market):
            table = self._lake.read(dataset, self._market)
        elif dataset in RAW_STATE:
            table = RAW_STATE[dataset].empty_table()
        else:
            table = (event_schema(self._specs[event]) if event in self._specs else QUARANTINE).empty_table()
        if dataset in RAW_STATE:
            return table
        position = table.column("block_number").to_numpy().astype(np.int64) << 24 | table.column("log_index").to_numpy()
        keys = [pa.array(position, pa.int64()), pa.nulls(table.num_rows, pa.int64())]
        return pa.Table.from_arrays([*keys, *table.columns], schema=pa.schema([*_ORDER, *table.schema])).sort_by("seq")

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        """See ``RawEvents.segments``; here in one piece, whatever ``rows`` says."""
        yield {event: self.table(event).select(["seq", "timestamp", *wanted]) for event, wanted in columns.items()}
