"""A lake with markets of the sketches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.reconstruct import stamp
from tests.sketches.history import History

CONFIG = MarketConfig(
    name="sketch", protocol="sketch", chain_id=31337, start_block=1, contracts={"pool": "0x" + "11" * 20}
)


def lake_of(
    path: Path,
    h: History,
    *,
    stamped: str | None = None,
    config: MarketConfig = CONFIG,
    receipts: Mapping[str, str] = MappingProxyType({}),
) -> Lake:
    """A lake with this history as canonical tables, current unless stamped otherwise; called again with another
    ``config``, it gets another market. ``receipts``: by symbol, tokens that stand for deposits of an asset.
    """
    h.rows["accounts"] = [{"account_id": i, "account": a} for i, a in enumerate(h.market.accounts)]
    h.rows["assets"] = [
        {
            "asset_id": a.id,
            "asset": a.asset,
            "symbol": a.symbol,
            "decimals": a.decimals,
            "collateral_token": receipts.get(a.symbol),
            "debt_token": None,
        }
        for a in h.market.assets
    ]
    lake = Lake(path, create=True)
    with lake.writer() as writer:
        writer.set_market(config)
        chunks = ((f"canonical/{name}", table) for name, table in h.tables().items())
        writer.replace(config.name, "canonical/", chunks, stamp=stamped or stamp(lake, config.name))
    return lake
