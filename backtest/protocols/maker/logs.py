"""x"""
from __future__ import annotations
from collections.abc import Iterator
import pyarrow as pa
from backtest.markets import MarketConfig
from backtest.protocols import RawEvents
def fold_logs(config: MarketConfig, raw: RawEvents) -> Iterator[tuple[str, pa.Table]]:
    yield from ()
