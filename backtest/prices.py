"""Raw oracle facts to canonical prices: pure, in chain order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from backtest.markets import MarketConfig
from backtest.model import SourceChange
from backtest.tables import AMOUNT, TEXT

START_OF_BLOCK = -1

PRICES = pa.schema(
    [
        pa.field("block_number", pa.int64(), nullable=False),
        pa.field("log_index", pa.int32(), nullable=False),
        pa.field("order", pa.int8(), nullable=False),
        pa.field("asset", TEXT, nullable=False),
        pa.field("price", AMOUNT),
        pa.field("source", TEXT),
        pa.field("method", TEXT, nullable=False),
        pa.field("exact", pa.bool_(), nullable=False),
    ]
)


def fold_prices(
    config: MarketConfig,
    raw: Mapping[str, pa.Table],
    sources: Sequence[SourceChange],
    blocks: Mapping[int, int],
    *,
    liquidation_blocks: Collection[int] = (),
) -> pa.Table:
    """Every step of every asset's price, sorted by (block_number, log_index, asset), one row per position and asset.

    ``order`` 0: the price holds from the log at (block_number, log_index) on, and shares its seq. ``order`` 1: no log says so; the
    price holds from the start of the block, ``log_index`` is ``START_OF_BLOCK``, before the block's first log.

    Args:
        raw: dataset name to table: ``raw/chainlink/AnswerUpdated``, ``raw/oracle-adapters/*``, ``raw/oracle/*``; what a market does
            not have may be left out.
        sources: ``LendingProtocol.price_sources``.
        blocks: block number to timestamp of every known header; time-dependent prices step in these blocks.
        liquidation_blocks: blocks with a liquidation: a price that changed in one without a log is not exact there.

    Returns: a table with the schema ``PRICES``.
    """
    raise NotImplementedError
