"""Which assets of a market may fall: by what their prices did, and by who holds them. Pure."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from backtest.model import AssetId

MOVED = 1.1
"""An asset whose price was so many times as high at its highest as at its lowest is one that may fall."""


def that_moved(prices: pa.Table) -> list[AssetId]:
    """Assets whose price moved much in the history (canonical prices)."""
    known = prices.filter(pc.is_valid(prices["price"]))
    rows = known.group_by("asset_id").aggregate([("price", "min"), ("price", "max")]).to_pylist()
    return sorted(AssetId(row["asset_id"]) for row in rows if row["price_max"] > MOVED * float(row["price_min"]))


def held(positions: pa.Table) -> list[AssetId]:
    """Assets that were ever held as collateral (canonical position events)."""
    of = positions.filter(pc.equal(positions["side"].cast(pa.string()), "collateral"))
    return sorted(AssetId(asset) for asset in pc.unique(of["asset_id"]).to_pylist())
