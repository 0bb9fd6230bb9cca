"""A scripted sequence of logs, made by a second writing of the pair's own bookkeeping: the fold gives back its state,
and one unit more in a log stops it at its block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from msgspec.structs import replace

from backtest.abi import event_schema
from backtest.errors import RulesError, UserError
from backtest.markets import MarketConfig
from backtest.model import AccountId
from backtest.protocols.fraxlend.claims import claims
from backtest.protocols.fraxlend.events import CURVE_GETTERS, EVENTS, price_sources, readings, tokens
from backtest.protocols.fraxlend.fold import fold
from backtest.protocols.fraxlend.math import new_rate_down
from backtest.tables import CANONICAL, QUARANTINE, RAW_STATE
from tests.protocols.fraxlend.hand import E18, STEEP

PAIR, MODEL, ORACLE, FRAX, WETH, ALICE, LENDER, KEEPER = (bytes([number]) * 20 for number in range(1, 9))
SPECS = {spec.name: spec for spec in EVENTS}
CONFIG = MarketConfig(
    name="pair", protocol="fraxlend", chain_id=1, start_block=1, base_decimals=18, price_decimals=18,
    contracts={"pair": "0x" + PAIR.hex()},
)  # fmt: skip


class Script:
    """A pair that a lender, a borrower and a liquidator call; its logs, and what it then holds."""

    def __init__(self) -> None:
        self.logs: list[tuple[int, str, dict[str, Any]]] = []
        self.block, self.time, self.updated, self.full = 1, 1_000, 999, STEEP.max_full_util_rate
        self.lent = self.fshares = self.owed = self.shares = 0
        self.version = 3
        self.accrue()
        self.priced(2_000)

    def log(self, event: str, **columns: Any) -> None:
        self.logs.append((self.block, event, columns))

    def next(self, seconds: int) -> None:
        self.block, self.time = self.block + 1, self.time + seconds
        self.accrue()

    def accrue(self) -> None:
        """FraxlendPairCore._addInterest, with a fee of 10 %."""
        used = 10**5 * self.owed // self.lent if self.lent else 0
        rate, full = new_rate_down(STEEP, self.time - self.updated, used, self.full)
        interest = (self.time - self.updated) * self.owed * rate // E18
        self.owed += interest
        self.lent += interest
        fee = interest // 10
        made = fee * self.fshares // (self.lent - fee) if fee else 0
        self.fshares += made
        self.log("UpdateRate", old_rate=0, old_full_rate=self.full, new_rate=rate, new_full_rate=full)
        self.log("AddInterest", interest=interest, rate=rate, fee_amount=fee, fee_shares=made)
        self.updated, self.full = self.time, full

    def priced(self, usd: int) -> None:
        self.log("UpdateExchangeRate", low=E18 // usd, high=E18 // usd)

    def lend(self, amount: int) -> None:
        shares = amount * self.fshares // self.lent if self.lent else amount
        self.lent, self.fshares = self.lent + amount, self.fshares + shares
        self.log("Deposit", caller=LENDER, owner=LENDER, assets=amount, shares=shares)

    def borrow(self, amount: int) -> None:
        shares = -(-amount * self.shares // self.owed) if self.owed else amount
        self.owed, self.shares = self.owed + amount, self.shares + shares
        self.log("BorrowAsset", borrower=ALICE, receiver=ALICE, assets=amount, shares=shares)

    def pledge(self, amount: int) -> None:
        self.log("AddCollateral", sender=ALICE, borrower=ALICE, amount=amount)

    def liquidate(self, shares: int) -> None:
        """All of alice's ether for these shares; the rest is lost."""
        rest = self.shares - shares
        repaid, lost = -(-shares * self.owed // self.shares), rest * self.owed // self.shares
        own = {"seized": 9 * E18 // 10, "shares": shares, "repaid": repaid, "fee": E18 // 10}
        self.log("Liquidate", borrower=ALICE, **own, lost_shares=rest, lost=lost)
        self.log("RepayAsset", payer=KEEPER, borrower=ALICE, assets=repaid, shares=self.shares)
        self.log("RemoveCollateral", sender=KEEPER, amount=9 * E18 // 10, receiver=KEEPER, borrower=ALICE)
        self.log("RemoveCollateral", sender=KEEPER, amount=E18 // 10, receiver=PAIR, borrower=ALICE)
        self.log("AddCollateral", sender=PAIR, borrower=PAIR, amount=E18 // 10)
        self.owed, self.lent, self.shares = self.owed - repaid - lost, self.lent - lost, 0


def played() -> Script:
    script = Script()
    script.log("ChangeFee", new_fee=10_000)
    script.next(60)
    script.lend(10_000 * E18)
    script.next(86_400)
    script.priced(2_000)
    script.pledge(E18)
    script.borrow(1_400 * E18)
    script.next(40 * 86_400)
    script.lend(5 * E18)
    script.next(86_400)
    script.priced(1_250)
    script.liquidate(1_100 * E18)
    return script


class Raw:
    """``RawEvents`` of a script."""

    parameters: Mapping[str, str] = {}

    def __init__(self, script: Script) -> None:
        self.version = script.version
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        times = {1: 1_000, 2: 1_060, 3: 87_460, 4: 3_543_460, 5: 3_629_860}
        for seq, (block, event, columns) in enumerate(script.logs):
            key = {"seq": seq, "timestamp": times[block], "block_number": block, "transaction_index": 0}
            key |= {"log_index": seq, "transaction_hash": bytes(32), "address": PAIR}
            self.rows[event].append({**key, **columns})

    def table(self, event: str) -> pa.Table:
        if event == "raw/chain/Token":
            rows = [
                {"address": token, "symbol": name, "decimals": 18} for token, name in ((FRAX, "FRAX"), (WETH, "WETH"))
            ]
            return pa.Table.from_pylist(rows, RAW_STATE[event])
        if event == "raw/chain/Reading":
            return pa.Table.from_pylist(self.read(), RAW_STATE[event])
        if event == "Quarantine":
            return QUARANTINE.empty_table()
        head = pa.schema([("seq", pa.int64()), ("timestamp", pa.int64())])
        return pa.Table.from_pylist(self.rows[event], pa.schema([*head, *event_schema(SPECS[event])]))

    def read(self) -> list[dict[str, Any]]:
        own: dict[str, tuple[Any, ...]] = {
            "version()": (self.version, 0, 0), "asset()": (FRAX,), "collateralContract()": (WETH,),
            "rateContract()": (MODEL,), "exchangeRateInfo()": (ORACLE, 5_000, 0, 0, 0), "maxLTV()": (75_000,),
            "cleanLiquidationFee()": (10_000,), "dirtyLiquidationFee()": (9_000,),
            "protocolLiquidationFee()": (10_000,),
        }  # fmt: skip
        told = [(PAIR, call, words) for call, words in own.items()]
        told += [(MODEL, CURVE_GETTERS[name], (value,)) for name, value in STEEP._asdict().items()]
        return [{"block_number": 1, "address": who, "call": call, "value": _data(words)} for who, call, words in told]

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        yield {name: self.table(name).select(["seq", "timestamp", *wanted]) for name, wanted in columns.items()}


def _data(words: tuple[Any, ...]) -> bytes:
    return b"".join(each.rjust(32, b"\0") if isinstance(each, bytes) else each.to_bytes(32, "big") for each in words)


def folded(script: Script) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(CONFIG, Raw(script)):
        found[name] += table.to_pylist()
    return found


def test_the_fold_gives_back_the_state() -> None:
    script = played()
    rows = folded(script)
    names = [row["account"] for row in rows["accounts"]]
    assert names == ["0x" + each.hex() for each in (PAIR, LENDER, ALICE, KEEPER)]
    sums: dict[tuple[int, int, str], int] = defaultdict(int)
    for row in rows["position_events"]:
        sums[row["account_id"], row["asset_id"], row["side"]] += int(row["delta"])
    assert sums[0, 0, "collateral"] + sums[1, 0, "collateral"] == script.fshares
    assert (sums[2, 0, "debt"], sums[2, 1, "collateral"], sums[0, 1, "collateral"]) == (0, 0, E18 // 10)
    (row,), (lost,) = rows["liquidations"], rows["deficits"]
    assert (row["account_id"], row["liquidator_id"], int(row["debt_scaled"])) == (2, 3, 1_100 * E18)
    assert (int(row["seized"]), int(row["protocol_fee"])) == (9 * E18 // 10, E18 // 10)
    assert int(row["repaid"]) > 1_100 * E18
    assert int(lost["amount"]) > 300 * E18
    assert [int(each["price"]) for each in rows["prices"]] == [E18 // 2_000, E18 // 2_000, E18 // 1_250]
    assert sum(each["name"] == "accrued_with_action" for each in rows["params"]) == 4


@pytest.mark.parametrize(
    ("event", "column", "what"),
    [
        ("AddInterest", "interest", "interest and fee shares"),
        ("AddInterest", "fee_shares", "interest and fee shares"),
        ("UpdateRate", "new_full_rate", "a rate and a rate at full use"),
        ("RepayAsset", "shares", "other shares"),
        ("Liquidate", "fee", "without the logs"),
        ("Deposit", "assets", "a rate and a rate at full use|interest and fee shares"),
    ],
)
def test_a_log_that_says_something_else_stops_the_fold(event: str, column: str, what: str) -> None:
    script = played()
    place = next(n for n, log in enumerate(script.logs) if log[1] == event and (event == "UpdateRate" or n > 8))
    place = max(n for n, log in enumerate(script.logs) if log[1] == event) if event != "Deposit" else place
    script.logs[place][2][column] += 10**20 if event == "Deposit" else 1
    with pytest.raises(RulesError, match=what):
        folded(script)


def test_what_is_refused_by_name() -> None:
    script = played()
    script.version = 2
    with pytest.raises(RulesError, match="not of version 3"):
        folded(script)
    with pytest.raises(UserError, match="write base_decimals = 18 and price_decimals = 18"):
        list(fold(replace(CONFIG, base_decimals=8), Raw(played())))


def test_what_is_asked() -> None:
    raw = Raw(played())
    assert len(list(readings(raw))) == 17
    assert tokens(raw) == ["0x" + FRAX.hex(), "0x" + WETH.hex()]
    unit, price = price_sources(raw)
    assert (unit.fixed, price.oracle, price.getter, price.place) == (E18, "0x" + ORACLE.hex(), "getPrices()", 1)


def test_what_the_contract_must_return() -> None:
    script = played()
    rows = folded(script)

    def tables(name: str, columns: Sequence[str]) -> pa.Table:
        return pa.Table.from_pylist(rows[name], CANONICAL[name]).select(list(columns))

    lender = "0x" + LENDER.hex()
    told = {claim.function: claim.value for claim in claims(CONFIG, tables, [5], {AccountId(1): lender})}
    assert (told["totalAsset()"], told["totalBorrow()"]) == (script.fshares, script.shares)
    assert (told["totalCollateral()"], told["userBorrowShares(address)"]) == (E18 // 10, 0)
