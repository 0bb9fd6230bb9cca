"""Vaults that lend in a market (MetaMorpho): found by their factories, their caps and queues told, worked by hand from
logs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.markets import MarketConfig
from backtest.protocols.morpho_blue.events import EVENTS, discover
from backtest.protocols.morpho_blue.fold import fold
from backtest.tables import QUARANTINE, RAW_STATE
from tests.support.lake_tables import write

SPECS = {spec.name: spec for spec in EVENTS}
ID, OTHER = bytes([0x11]) * 32, bytes([0x22]) * 32
USDC, WETH, ORACLE, IRM, MORPHO, OLD, NEW = (bytes([n]) * 20 for n in range(1, 8))
VAULT, SECOND, FOREIGN, CALLER = (bytes([n]) * 20 for n in range(0xA1, 0xA5))
ZERO = bytes(20)


def text(address: bytes) -> str:
    return "0x" + address.hex()


CONFIG = MarketConfig(
    name="hand", protocol="morpho-blue", chain_id=1, start_block=1, base_currency="USDC", base_decimals=18,
    price_decimals=24, parameters={"id": "0x" + ID.hex()},
    contracts={"morpho": text(MORPHO), "vault_factory": text(OLD), "vault_factory_1_1": text(NEW)},
)  # fmt: skip


class Raw:
    """Logs in memory, a block each."""

    parameters = CONFIG.parameters

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.seq = 0

    def add(self, event: str, emitter: bytes, **arguments: Any) -> Raw:
        key = {"block_number": self.seq + 1, "transaction_index": 0, "log_index": 0, "transaction_hash": bytes(32)}
        place = {"seq": self.seq, "timestamp": 1_700_000_000 + self.seq, "address": emitter}
        self.rows[event].append({**place, **key, **arguments})
        self.seq += 1
        return self

    def table(self, event: str) -> pa.Table:
        if event == "raw/chain/Token":
            tokens = [(USDC, "USDC", 6), (WETH, "WETH", 18)]
            own = [{"address": token, "symbol": symbol, "decimals": digits} for token, symbol, digits in tokens]
            return pa.Table.from_pylist(own, RAW_STATE[event])
        schema = QUARANTINE if event == "Quarantine" else event_schema(SPECS[event])
        order = [pa.field("seq", pa.int64()), pa.field("timestamp", pa.int64())]
        return pa.Table.from_pylist(self.rows[event], pa.schema([*order, *schema]))

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterator[Mapping[str, pa.Table]]:
        yield {event: self.table(event).select(["seq", "timestamp", *own]) for event, own in columns.items()}


def vault(raw: Raw, address: bytes, asset: bytes, factory: bytes) -> None:
    raw.add(
        "CreateMetaMorpho", factory, meta_morpho=address, caller=CALLER, initial_owner=CALLER, initial_timelock=0,
        asset=asset, name="Some vault", symbol="sv", salt=bytes(32),
    )  # fmt: skip


def made() -> Raw:
    """Two vaults of USDC, one of WETH; the first lends 600 of its 1,000 here, the second, last in its queue, 200."""
    raw = Raw()
    terms = {"loan_token": USDC, "collateral_token": WETH, "oracle": ORACLE, "irm": IRM, "lltv": 86 * 10**16}
    raw.add("CreateMarket", MORPHO, id=ID, **terms)
    for address, asset, factory in ((VAULT, USDC, OLD), (SECOND, USDC, NEW), (FOREIGN, WETH, OLD)):
        vault(raw, address, asset, factory)
    raw.add("SetCap", VAULT, caller=CALLER, id=ID, cap=(1_000 * 10**6).to_bytes(32, "big"))
    raw.add("SetCap", VAULT, caller=CALLER, id=OTHER, cap=(7 * 10**6).to_bytes(32, "big"))
    raw.add("SetCap", SECOND, caller=CALLER, id=ID, cap=(2**184 - 1).to_bytes(32, "big"))
    raw.add("SetSupplyQueue", VAULT, caller=CALLER, new_supply_queue=OTHER + ID)
    raw.add("SetSupplyQueue", VAULT, caller=CALLER, new_supply_queue=ID)
    raw.add("SetSupplyQueue", SECOND, caller=CALLER, new_supply_queue=OTHER)  # not here, nor before: says nothing
    raw.add("SetWithdrawQueue", VAULT, caller=CALLER, new_withdraw_queue=OTHER + ID)
    for lender, amount in ((VAULT, 600), (SECOND, 200)):
        raw.add("Supply", MORPHO, id=ID, caller=lender, on_behalf=lender, assets=amount * 10**6, shares=amount * 10**12)
    raw.add("SupplyCollateral", MORPHO, id=ID, caller=CALLER, on_behalf=CALLER, assets=10**18)
    raw.add(
        "Borrow", MORPHO, id=ID, caller=CALLER, on_behalf=CALLER, receiver=CALLER, assets=500 * 10**6,
        shares=500 * 10**12,
    )  # fmt: skip
    raw.add("SetWithdrawQueue", VAULT, caller=CALLER, new_withdraw_queue=OTHER)
    return raw


def folded(raw: Raw) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(CONFIG, raw):
        found[name] += table.to_pylist()
    return found


def test_vaults_of_the_loan_token_are_found_by_their_factories() -> None:
    contracts = {role: frozenset({address}) for role, address in CONFIG.contracts.items()}
    found = discover(contracts, made())
    assert found["vault_maker"] == {text(OLD), text(NEW)}
    assert found["vault"] == {text(VAULT), text(SECOND)}
    assert "vault_maker" not in discover({"morpho": frozenset({text(MORPHO)})}, made())


def test_caps_and_places_are_parameters_of_the_vaults_account() -> None:
    rows = folded(made())
    who = {row["account_id"]: row["account"] for row in rows["accounts"]}
    names = ("lending_cap", "supply_place", "withdraw_place")
    told = [(who[row["category"]], row["name"], row["value"]) for row in rows["params"] if row["name"] in names]
    assert told == [
        (text(VAULT), "lending_cap", 1_000 * 10**6),
        (text(SECOND), "lending_cap", 10**38 - 1),  # 2^184 - 1 has 56 digits
        (text(VAULT), "supply_place", 2),
        (text(VAULT), "supply_place", 1),
        (text(VAULT), "withdraw_place", 2),
        (text(VAULT), "withdraw_place", 0),
    ]


def test_lenders_say_their_caps_and_places(tmp_path: Path) -> None:
    """Of 800 lent 500 are out: no lender takes out more than the 300 that are left."""
    rows = folded(made())
    rows["blocks"] = [{"block_number": n + 1, "timestamp": 1_700_000_000 + n} for n in range(20)]
    first = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 1_700_000_000, "method": "feed", "exact": True}
    rows["prices"] = [{**first, "asset_id": n, "price": p * 10**18} for n, p in ((0, 1), (1, 2_000))]
    lake = write(tmp_path / "lake", dict(rows), CONFIG)
    asked = "account, against, lent, share, withdrawable, cap, supply_place, withdraw_place"
    found = lake.sql(f"SELECT {asked} FROM lenders ORDER BY lent DESC").fetchall()
    assert found == [
        (text(VAULT), "WETH", 600, 0.75, 300, 1_000, 1, 0),
        (text(SECOND), "WETH", 200, 0.25, 200, 1e32, None, None),
    ]
