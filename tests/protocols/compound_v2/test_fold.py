"""Logs by hand to canonical rows: what the chain of the tests does not do."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from backtest.abi import event_schema
from backtest.errors import RulesError
from backtest.markets import MarketConfig
from backtest.protocols.compound_v2.events import EVENTS
from backtest.protocols.compound_v2.fold import fold
from backtest.tables import QUARANTINE, RAW_STATE

WAD = 10**18
COMPTROLLER, CTOKEN, TOKEN, MODEL, CODE = (bytes([n]) * 20 for n in (0xC0, 0xC7, 0x70, 0x30, 0xCD))
ANN, BOB = b"\xaa" * 20, b"\xbb" * 20
CONFIG = MarketConfig(
    name="m", protocol="compound-v2", chain_id=1, start_block=1, contracts={"comptroller": "0x" + COMPTROLLER.hex()},
    base_decimals=18, price_decimals=36,
    parameters={"accrual": "blocks", "periods_per_year": "2102400", "revision": "3"},
)  # fmt: skip


class Logs:
    """Events in order, each (event, address, block, transaction, arguments)."""

    parameters = CONFIG.parameters

    def __init__(self, *logs: tuple[str, bytes, int, int, dict[str, Any]], share: int | None = None) -> None:
        self._specs = {spec.name: spec for spec in EVENTS}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        for seq, (event, address, block, transaction, arguments) in enumerate(logs):
            place = {"seq": seq, "timestamp": 12 * block, "block_number": block, "transaction_index": transaction}
            rest = {"log_index": seq, "transaction_hash": bytes(32), "address": address}
            self._rows.setdefault(event, []).append({**place, **rest, **arguments})
        self._state = {
            "raw/chain/Reference": [{"address": CTOKEN, "name": "underlying", "target": TOKEN}],
            "raw/chain/Token": [{"address": TOKEN, "symbol": "USDC", "decimals": 6}],
            "raw/chain/Constant": [{"address": CODE, "name": "protocolSeizeShareMantissa", "value": share}],
        }

    def table(self, event: str) -> pa.Table:
        if event in RAW_STATE:
            return pa.Table.from_pylist(self._state.get(event, []), RAW_STATE[event])
        if event == "Quarantine":
            return QUARANTINE.empty_table()
        head = [pa.field("seq", pa.int64()), pa.field("timestamp", pa.int64())]
        schema = pa.schema([*head, *event_schema(self._specs[event])])
        return pa.Table.from_pylist(self._rows.get(event, []), schema)

    def segments(self, rows: int, columns: Any) -> Any:
        yield {e: self.table(e).select(["seq", "timestamp", *names]) for e, names in columns.items() if e in self._rows}


BEGUN = (
    ("ComptrollerImplementation", COMPTROLLER, 1, 0, {"before": bytes(20), "after": b"\x99" * 20}),
    ("NewMarketInterestRateModel", CTOKEN, 2, 0, {"before": bytes(20), "after": MODEL}),
    ("NewImplementation", CTOKEN, 2, 0, {"before": bytes(20), "after": CODE}),
    ("MarketListed", COMPTROLLER, 3, 0, {"ctoken": CTOKEN}),
    ("Mint", CTOKEN, 3, 1, {"minter": ANN, "amount": 1_000_000, "tokens": 50_000_000}),
    ("Transfer", CTOKEN, 3, 1, {"source": CTOKEN, "destination": ANN, "tokens": 50_000_000}),
)


def rows_of(logs: Logs, table: str, config: MarketConfig = CONFIG) -> list[dict[str, Any]]:
    return [row for name, rows in fold(config, logs) if name == table for row in rows.to_pylist()]  # type: ignore[arg-type]


def accrued(block: int, transaction: int, index: int, borrows: int, interest: int = 0) -> Any:
    told = {"interest": interest, "borrow_index": index, "total_borrows": borrows}
    return "AccrueInterestWithoutCash", CTOKEN, block, transaction, told


def borrowed(block: int, transaction: int, amount: int, owed: int) -> Any:
    told = {"borrower": ANN, "amount": amount, "account_borrows": owed, "total_borrows": owed}
    return "Borrow", CTOKEN, block, transaction, told


def test_code_before_2_3_logs_no_cash_and_accrues_at_every_call() -> None:
    """400,000 borrowed at block 4; 1e-5 a block for ten blocks is 1e-4: 40 of interest; a second call in block 14 adds
    nothing.
    """
    one = WAD + 10**14
    found = Logs(
        *BEGUN, accrued(4, 0, WAD, 0), borrowed(4, 0, 400_000, 400_000), accrued(14, 0, one, 400_040, 40),
        accrued(14, 1, one, 400_040), borrowed(14, 1, 60, 400_100),
    )  # fmt: skip
    rates = [(row["name"], int(row["value"])) for row in rows_of(found, "params") if row["name"].startswith("accrued")]
    assert rates == [
        ("accrued_with_action", 0),
        ("accrued", 10**13),
        ("accrued_with_action", 10**13),
    ]
    last = rows_of(found, "indexes")[-1]
    # cash 1,000,000 - 400,060 and 400,100 lent: 1,000,040 for 50,000,000 cTokens
    assert int(last["supply_index"]) == 20_000_800 * 10**9 * 10**9
    assert int(last["borrow_index"]) == one * 10**9


def test_interest_by_the_second() -> None:
    """Ten blocks are 120 seconds: 1e-6 each is 1.2e-4, of 400,000 48. A year of them is 31.536, shown in ray."""
    config = msgspec.structs.replace(
        CONFIG, parameters={"accrual": "seconds", "periods_per_year": "31536000", "revision": "2"}
    )
    after = WAD + 12 * 10**13
    logs = Logs(
        *BEGUN,
        accrued(4, 0, WAD, 0),
        borrowed(4, 0, 400_000, 400_000),
        accrued(14, 0, after, 400_048, 48),
        borrowed(14, 0, 0, 400_048),
    )
    rows = rows_of(logs, "params", config)
    assert [int(row["value"]) for row in rows if row["name"].startswith("accrued")] == [0, 10**12]
    known = rows_of(logs, "indexes", config)
    assert int(known[-1]["borrow_index"]) == after * 10**9
    running = [int(row["borrow_rate"]) for row in known if row["block_number"] == 4]
    assert running[-1] == 31_536 * 10**24


def test_a_transfer_to_the_ctoken_is_no_redemption() -> None:
    sent = ("Transfer", CTOKEN, 5, 0, {"source": ANN, "destination": CTOKEN, "tokens": 7})
    redeemed = (
        ("Transfer", CTOKEN, 6, 0, {"source": ANN, "destination": CTOKEN, "tokens": 50}),
        ("Redeem", CTOKEN, 6, 0, {"redeemer": ANN, "amount": 1, "tokens": 50}),
    )
    rows = rows_of(Logs(*BEGUN, sent, *redeemed), "position_events")
    assert [(row["action"], int(row["delta"])) for row in rows] == [
        ("supply", 50_000_000),
        ("transfer", -7),
        ("transfer", 7),
        ("withdraw", -50),
    ]


def liquidation(given: int, kept: int, share: int) -> list[Any]:
    """100 units repaid; of the cTokens seized some are given to the liquidator, some kept, worth a share."""
    told = {"payer": BOB, "borrower": ANN, "amount": 100, "account_borrows": 399_900, "total_borrows": 399_900}
    return [
        accrued(4, 0, WAD, 0), borrowed(4, 0, 400_000, 400_000),
        ("RepayBorrow", CTOKEN, 4, 1, told),
        ("Transfer", CTOKEN, 4, 1, {"source": ANN, "destination": BOB, "tokens": given}),
        ("Transfer", CTOKEN, 4, 1, {"source": ANN, "destination": CTOKEN, "tokens": kept}),
        ("ReservesAdded", CTOKEN, 4, 1, {"benefactor": CTOKEN, "amount": share, "total_reserves": share}),
        ("LiquidateBorrow", CTOKEN, 4, 1,
         {"liquidator": BOB, "borrower": ANN, "amount": 100, "collateral": CTOKEN, "tokens": given + kept}),
    ]  # fmt: skip


def test_the_share_of_code_from_2_9_is_read_and_checked() -> None:
    """10,000 cTokens seized: 2.8 % are 280, worth 5.6 units at 0.02, cut 5; 9,720 are 194.4, cut 194."""
    logs = liquidation(9_720, 280, 5)
    found = Logs(*BEGUN, *logs, share=28 * 10**15)
    (row,) = rows_of(found, "liquidations")
    assert (int(row["repaid"]), int(row["seized"]), int(row["protocol_fee"])) == (100, 194, 5)
    kept = [int(row["value"]) for row in rows_of(found, "setting_events") if row["setting"] == "protocol_share"]
    assert kept == [5]
    taken = [int(row["delta"]) for row in rows_of(found, "position_events") if row["action"] == "liquidation"]
    assert taken == [-100, -10_000, 9_720]
    with pytest.raises(RulesError, match=r"280 of 10000 cTokens seized were kept, .* 0x.*, 0, it would be 0"):
        rows_of(Logs(*BEGUN, *logs), "liquidations")


def test_what_no_rule_covers_is_refused_with_its_block() -> None:
    vai = ("NewVAIController", COMPTROLLER, 9, 0, {"before": bytes(20), "after": BOB})
    with pytest.raises(RulesError, match="block 9: accounts may owe VAI from here on"):
        rows_of(Logs(*BEGUN, vai), "params")
    told = {"liquidator": BOB, "borrower": ANN, "amount": 1, "collateral": CTOKEN, "tokens": 1}
    with pytest.raises(RulesError, match="block 9, log 7: the logs of a liquidation are not there"):
        rows_of(Logs(*BEGUN, accrued(9, 0, WAD, 0), ("LiquidateBorrow", CTOKEN, 9, 0, told)), "params")
    with pytest.raises(RulesError, match="accrues before it was made"):
        rows_of(Logs(BEGUN[0], BEGUN[3], accrued(9, 0, WAD, 0)), "params")
