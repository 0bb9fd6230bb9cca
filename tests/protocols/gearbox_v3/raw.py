"""Raw events of a credit manager by hand, without a lake: the market of ``hand``, a log a line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.markets import MarketConfig
from backtest.protocols.gearbox_v3.events import (
    BALANCE,
    EVENTS,
    INFO,
    OF_FACADE,
    OF_MANAGER,
    OF_MODEL,
    OF_POOL,
    QUOTA,
    ROLES,
)
from backtest.protocols.gearbox_v3.fold import fold
from backtest.tables import QUARANTINE, RAW_STATE
from backtest.units import RAY
from tests.protocols.gearbox_v3.hand import MARKET, START

ADDRESSES = {role: bytes([0xC0 + n]) * 20 for n, role in enumerate(ROLES)}
MODEL = bytes.fromhex("d0" * 20)
TOKENS = [bytes.fromhex(asset.asset[2:]) for asset in MARKET.assets]
ACCOUNT, OTHER, OWNER, KEEPER = (bytes([0xA0 + n]) * 20 for n in range(4))
SPECS = {spec.name: spec for spec in EVENTS}
CONFIG = MarketConfig(
    name="hand",
    protocol="gearbox-v3",
    chain_id=1,
    start_block=1,
    contracts={role: "0x" + address.hex() for role, address in ADDRESSES.items()},
)
Columns = Mapping[str, Any]


def words(*numbers: int) -> bytes:
    """As a call returns them."""
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def reading(block: int, address: bytes, call: str, *numbers: int) -> dict[str, Any]:
    """What a call returned at the end of a block."""
    return {"block_number": block, "address": address, "call": call, "value": words(*numbers)}


def number(address: bytes) -> int:
    """As a word."""
    return int.from_bytes(address, "big")


def account(
    block: int, debt: int, index: int, balances: Sequence[int], quota: tuple[int, int], interest: int = 0, fees: int = 0
) -> list[dict[str, Any]]:
    """What is read of the account: it has a quota of the second token."""
    who = number(ACCOUNT)
    found = [reading(block, ADDRESSES["manager"], f"{INFO} {who}", debt, index, interest + 1, fees, 1, 0, block, 1)]
    found += [reading(block, TOKENS[n], f"{BALANCE} {who}", held) for n, held in enumerate(balances)]
    keeper, token = ADDRESSES["quota_keeper"], number(TOKENS[1])
    return [*found, reading(block, keeper, f"{QUOTA} {who} {token}", *quota)]


def pool(block: int, *numbers: int) -> list[dict[str, Any]]:
    """Index, rate, what is expected, available, borrowed, and revenue."""
    index, rate, *rest = numbers
    values = (index, rate, START + 12 * block, *rest)
    return [reading(block, ADDRESSES["pool"], call, value) for call, value in zip(OF_POOL, values, strict=True)]


BEGIN: list[tuple[int, str, Columns]] = [
    (2, "SetInterestRateModel", {"new_interest_rate_model": MODEL}),
    (2, "SetPoolQuotaKeeper", {"new_pool_quota_keeper": ADDRESSES["quota_keeper"]}),
    (2, "AddQuotaToken", {"token": TOKENS[1]}),
    (2, "UpdateTokenQuotaRate", {"token": TOKENS[1], "rate": 400}),
    (2, "SetTokenLimit", {"token": TOKENS[1], "limit": 10**12}),
    (2, "SetCreditConfigurator", {"new_configurator": ADDRESSES["configurator"]}),
    (2, "SetCreditFacade", {"credit_facade": ADDRESSES["facade"]}),
    (2, "AddCollateralToken", {"token": TOKENS[1]}),
    (2, "SetTokenLiquidationThreshold", {"token": TOKENS[1], "liquidation_threshold": 9_000}),
    (2, "AddCollateralToken", {"token": TOKENS[2]}),
    (2, "SetTokenLiquidationThreshold", {"token": TOKENS[2], "liquidation_threshold": 8_000}),
]


def begun(version: int = 310) -> list[dict[str, Any]]:
    """What the contracts were made with."""
    manager, facade = ADDRESSES["manager"], ADDRESSES["facade"]
    values = {
        "fees": (2_500, 150, 9_600, 100, 9_800),
        "underlying": (number(TOKENS[0]),),
        "version": (version,),
        "oracle": (number(ADDRESSES["price_oracle"]),),
    }
    return [
        *(reading(2, manager, OF_MANAGER[name], *value) for name, value in values.items()),
        reading(2, facade, OF_FACADE["limits"], 100 * 10**6, 10**11),
        reading(2, facade, OF_FACADE["expires"], 0),
        reading(2, MODEL, OF_MODEL["curve"], 8_000, 9_000, 0, 100, 125, 10_000),
        reading(2, MODEL, OF_MODEL["forbids"], 0),
        *pool(2, RAY, 0, 0, 0, 0, 0),
    ]


class Raw:
    """``RawEvents``: logs are (block, event, columns), in order, behind ``BEGIN``."""

    parameters: Mapping[str, str] = {}

    def __init__(
        self, logs: Sequence[tuple[int, str, Columns]] = (), readings: Iterable[Columns] = (), version: int = 310
    ) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        places: dict[int, int] = defaultdict(int)
        for seq, (block, event, columns) in enumerate((*BEGIN, *logs)):
            key = {
                "seq": seq,
                "timestamp": START + 12 * block,
                "block_number": block,
                "transaction_index": 0,
                "log_index": places[block],
                "transaction_hash": bytes(32),
                "address": ADDRESSES[SPECS[event].emitter],
            }
            places[block] += 1
            self.rows[event].append({**key, **columns})
        self.readings = [*begun(version), *readings]

    def table(self, event: str) -> pa.Table:
        """See ``RawEvents.table``."""
        if event == "raw/chain/Reading":
            return pa.Table.from_pylist(self.readings, RAW_STATE[event])
        if event == "raw/chain/Token":
            rows = [
                {"address": token, "symbol": asset.symbol, "decimals": asset.decimals}
                for token, asset in zip(TOKENS, MARKET.assets, strict=True)
            ]
            return pa.Table.from_pylist(rows, RAW_STATE[event])
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
