"""What a market's imports brought and no fold reads: counted and named wherever a lake is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest.lake import Lake
from backtest.prices.imported import CHECKPOINT, PRICE, SAID
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.tables import IMPORT_KEY, IMPORTED

_PREFIX = "raw/import/"
_QUARANTINE = f"{_PREFIX}Quarantine"
_OF_ALL = (PRICE, CHECKPOINT, _QUARANTINE)
"""Datasets that are read for every protocol, and the quarantine."""
_KEY = frozenset(field.name for field in IMPORT_KEY)


def unread_imports(lake: Lake, market: str) -> dict[str, int]:
    """What no fold reads, in words, to how much of it there is.

    Rows of a kind that the protocol's fold does not read (``rows of Liquidation``), values in columns that it does not
    read (``values of Parameter.category``), prices of assets that the market does not have, and what an oracle said
    where the market's own oracle is known.
    """
    held = {name for name in lake.datasets(market) if name.startswith(_PREFIX)}
    if not held:
        return {}
    protocol = protocol_named(lake.market_config(market).protocol)
    found: dict[str, int] = {}
    for dataset in sorted(held - set(_OF_ALL)):
        found |= _unread(lake, market, dataset, protocol)
    if PRICE in held:
        found |= _unread_prices(lake, market)
    return found


def _unread(lake: Lake, market: str, dataset: str, protocol: LendingProtocol[Any]) -> dict[str, int]:
    name, own = dataset.removeprefix(_PREFIX), protocol.imported_columns.get(dataset)
    if own is None:
        return {f"rows of {name}": sum(file.rows for file in lake.files(dataset, market))}
    spare = [column for column in IMPORTED[dataset].names if column not in _KEY | own]
    if not spare:
        return {}
    table = lake.read(dataset, market, columns=spare)
    return {f"values of {name}.{column}": count for column in spare if (count := len(table) - table[column].null_count)}


def _unread_prices(lake: Lake, market: str) -> dict[str, int]:
    rows = lake.read(PRICE, market, columns=["asset", "kind"])
    found: dict[str, int] = {}
    if lake.sources(market) and (said := pc.sum(pc.is_in(rows["kind"], pa.array(SAID))).as_py()):
        found["oracle prices, beside the market's own oracle"] = int(said)
    if "canonical/assets" in lake.datasets(market):
        listed = lake.read("canonical/assets", market, columns=["asset", "symbol"])
        known = {*listed["asset"].to_pylist(), *(symbol.lower() for symbol in listed["symbol"].to_pylist())}
        for counted in pc.value_counts(rows["asset"]).to_pylist():
            if counted["values"] not in known:
                found[f"prices of {counted['values']}, which the market does not have"] = counted["counts"]
    return found


def in_words(unread: Mapping[str, int]) -> list[str]:
    """A line for each kind."""
    return [f"read by no fold: {count:,} {what}" for what, count in sorted(unread.items())]
