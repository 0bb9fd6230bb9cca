"""Raw events of a Comet by hand, without a lake: the market of ``hand``, a log a line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.markets import MarketConfig
from backtest.protocols.compound_v3.events import (
    ASSET_INFO,
    BASE_FEED,
    BASE_TOKEN,
    COUNT,
    EVENTS,
    GETTERS,
    TOTALS,
)
from backtest.protocols.compound_v3.fold import fold
from backtest.tables import QUARANTINE, RAW_STATE
from tests.protocols.compound_v3.hand import MARKET, OF_ASSETS, PARAMS, START, WAD

PROXY, CODE = bytes.fromhex("c0" * 20), bytes.fromhex("0d" * 20)
ZERO = bytes(20)
TOKENS = [bytes.fromhex(asset.asset[2:]) for asset in MARKET.assets]
CONFIG = MarketConfig(
    name="hand", protocol="compound-v3", chain_id=1, start_block=1, contracts={"comet": "0x" + PROXY.hex()}
)
SPECS = {spec.name: spec for spec in EVENTS}


def who(number: int) -> bytes:
    """A user's address."""
    return bytes([0xA0 + number]) * 20


def words(*numbers: int) -> bytes:
    """As a call returns them."""
    return b"".join((number % (1 << 256)).to_bytes(32, "big") for number in numbers)


def holds(code: bytes = CODE, block: int = 2, **changed: int) -> list[dict[str, Any]]:
    """What an implementation says of itself: the market of ``hand``."""
    told = {getter: PARAMS[name] for name, getter in GETTERS.items()} | {COUNT: len(OF_ASSETS)}
    told |= {GETTERS.get(name, name): value for name, value in changed.items()}
    told |= {BASE_TOKEN: int.from_bytes(TOKENS[0], "big"), BASE_FEED: 0xFEED0}
    rows = [{"block_number": block, "address": code, "call": call, "value": words(told[call])} for call in told]
    for number, (asset, (ltv, threshold, factor, cap)) in enumerate(OF_ASSETS.items()):
        factors = (each * WAD // 1_000 for each in (ltv, threshold, factor))
        token, scale = int.from_bytes(TOKENS[asset], "big"), MARKET.unit(asset)
        value = words(number, token, 0xFEED0 + asset, scale, *factors, cap)
        rows.append({"block_number": block, "address": code, "call": f"{ASSET_INFO} {number}", "value": value})
    return rows


def totals(block: int, *numbers: int) -> dict[str, Any]:
    """``totalsBasic`` at the end of a block: indexes, those of rewards, principal, time, flags."""
    return {"block_number": block, "address": PROXY, "call": TOTALS, "value": words(*numbers)}


class Raw:
    """``RawEvents``: logs are (block, transaction, event, columns), in order. The proxy begins in block 2."""

    parameters: Mapping[str, str] = {}

    def __init__(
        self, logs: Sequence[tuple[int, int, str, Mapping[str, Any]]], readings: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        places: dict[int, int] = defaultdict(int)
        first = (2, 0, "Upgraded", {"implementation": CODE})
        for seq, (block, transaction, event, columns) in enumerate((first, *logs)):
            key = {
                "seq": seq, "timestamp": START + 12 * block, "block_number": block, "transaction_index": transaction,
                "log_index": places[block], "transaction_hash": bytes([transaction]) * 32, "address": PROXY,
            }  # fmt: skip
            places[block] += 1
            self.rows[event].append({**key, **columns})
        self.readings = [*holds(), *readings]

    def table(self, event: str) -> pa.Table:
        """See ``RawEvents.table``."""
        if event == "raw/chain/Reading":
            return pa.Table.from_pylist(self.readings, RAW_STATE[event])
        if event == "raw/chain/Token":
            return pa.Table.from_pylist(
                [
                    {"address": token, "symbol": asset.symbol, "decimals": asset.decimals}
                    for token, asset in zip(TOKENS, MARKET.assets, strict=True)
                ],
                RAW_STATE[event],
            )
        if event == "Quarantine":
            return QUARANTINE.empty_table()
        head = pa.schema([("seq", pa.int64()), ("timestamp", pa.int64())])
        return pa.Table.from_pylist(self.rows[event], pa.schema([*head, *event_schema(SPECS[event])]))

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        """In one piece."""
        yield {name: self.table(name).select(["seq", "timestamp", *wanted]) for name, wanted in columns.items()}


def folded(raw: Raw) -> dict[str, list[dict[str, Any]]]:
    """Canonical rows by table."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(CONFIG, raw):
        found[name] += table.to_pylist()
    return found
