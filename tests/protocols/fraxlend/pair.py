"""A second writing of a pair's own bookkeeping: calls on it, the logs that they leave, and canonical tables of those.

``played`` is a short scripted sequence, ``wandered`` a random one of many users.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.markets import MarketConfig
from backtest.protocols.fraxlend.events import CURVE_GETTERS, EVENTS
from backtest.protocols.fraxlend.fold import fold
from backtest.protocols.fraxlend.math import RateCurve, new_rate_down
from backtest.tables import QUARANTINE, RAW_STATE
from tests.protocols.fraxlend.hand import E18, STEEP

PAIR, MODEL, ORACLE, FRAX, WETH, ALICE, LENDER, KEEPER = (bytes([number]) * 20 for number in range(1, 9))
SPECS = {spec.name: spec for spec in EVENTS}
Rows = dict[str, list[dict[str, Any]]]


def config(lent_decimals: int = 18) -> MarketConfig:
    """The market of a pair that lends a token of so many decimals against ether."""
    return MarketConfig(
        name="pair", protocol="fraxlend", chain_id=1, start_block=1, base_currency="WETH", base_decimals=18,
        price_decimals=36 - lent_decimals, contracts={"pair": "0x" + PAIR.hex()},
    )  # fmt: skip


class Script:
    """A pair, its logs, and what it then holds."""

    def __init__(self, curve: RateCurve = STEEP, decimals: int = 18, protocol_fee: int = 10_000) -> None:
        self.logs: list[tuple[int, str, dict[str, Any]]] = []
        self.curve, self.decimals, self.protocol_fee, self.fee = curve, decimals, protocol_fee, 10_000
        self.block, self.time, self.updated, self.full = 1, 1_000, 999, curve.max_full_util_rate
        self.times = {1: self.time}
        self.lent = self.fshares = self.owed = self.shares = self.rate = 0
        self.has: dict[tuple[str, bytes], int] = defaultdict(int)
        self.version, self.paused = 3, False
        self.accrue()
        self.priced(2_000)
        self.log("ChangeFee", new_fee=self.fee)

    def log(self, event: str, **columns: Any) -> None:
        self.logs.append((self.block, event, columns))

    def next(self, seconds: int, accrue: bool = True) -> None:
        """The block after the next, which has no log and is half of the way."""
        self.times |= {self.block + 1: self.time + seconds // 2, self.block + 2: self.time + seconds}
        self.block, self.time = self.block + 2, self.time + seconds
        if accrue:
            self.accrue()

    def accrue(self) -> None:
        """FraxlendPairCore._addInterest."""
        if self.paused or self.time == self.updated:
            return
        used = 10**5 * self.owed // self.lent if self.lent else 0
        rate, full = new_rate_down(self.curve, self.time - self.updated, used, self.full)
        interest = (self.time - self.updated) * self.owed * rate // E18
        self.owed += interest
        self.lent += interest
        fee = interest * self.fee // 10**5
        made = fee * self.fshares // (self.lent - fee) if fee else 0
        self.fshares += made
        self.has["lends", PAIR] += made
        self.log("UpdateRate", old_rate=0, old_full_rate=self.full, new_rate=rate, new_full_rate=full)
        self.log("AddInterest", interest=interest, rate=rate, fee_amount=fee, fee_shares=made)
        self.updated, self.full = self.time, full

    def priced(self, usd: int) -> None:
        self.rate = E18 * 10**18 // (usd * 10**self.decimals)
        self.log("UpdateExchangeRate", low=self.rate, high=self.rate)

    def pause(self, paused: bool) -> None:
        self.paused = paused
        self.log("PauseInterest", paused=paused)
        self.updated = self.updated if paused else self.time

    def lend(self, amount: int, who: bytes = LENDER) -> None:
        shares = amount * self.fshares // self.lent if self.lent else amount
        self.lent, self.fshares = self.lent + amount, self.fshares + shares
        self.has["lends", who] += shares
        self.log("Deposit", caller=who, owner=who, assets=amount, shares=shares)

    def redeem(self, shares: int, who: bytes = LENDER) -> None:
        amount = shares * self.lent // self.fshares
        self.lent, self.fshares = self.lent - amount, self.fshares - shares
        self.has["lends", who] -= shares
        self.log("Withdraw", caller=who, receiver=who, owner=who, assets=amount, shares=shares)

    def transfer(self, giver: bytes, taker: bytes, shares: int) -> None:
        self.has["lends", giver] -= shares
        self.has["lends", taker] += shares
        self.log("Transfer", value=shares, **{"from": giver, "to": taker})

    def borrow(self, amount: int, who: bytes = ALICE) -> None:
        shares = -(-amount * self.shares // self.owed) if self.owed else amount
        self.owed, self.shares = self.owed + amount, self.shares + shares
        self.has["owes", who] += shares
        self.log("BorrowAsset", borrower=who, receiver=who, assets=amount, shares=shares)

    def repay(self, shares: int, who: bytes = ALICE) -> None:
        amount = -(-shares * self.owed // self.shares)
        self.owed, self.shares = self.owed - amount, self.shares - shares
        self.has["owes", who] -= shares
        self.log("RepayAsset", payer=who, borrower=who, assets=amount, shares=shares)

    def pledge(self, amount: int, who: bytes = ALICE) -> None:
        self.has["pledges", who] += amount
        self.log("AddCollateral", sender=who, borrower=who, amount=amount)

    def ltv(self, who: bytes) -> int:
        """Of 10^5, cut twice (FraxlendPairCore._isSolvent)."""
        debt = -(-self.has["owes", who] * self.owed // self.shares) if self.shares else 0
        return debt * self.rate // E18 * 10**5 // max(1, self.has["pledges", who])

    def liquidate(self, shares: int, who: bytes = ALICE) -> None:
        """FraxlendPairCore.liquidate: a clean fee of 10 %, a dirty one of 9 %."""
        held, worth = self.has["pledges", who], shares * self.owed // self.shares * self.rate // E18
        whole = held <= worth * 110_000 // 10**5
        taken = held if whole else worth * 109_000 // 10**5
        fee = taken * self.protocol_fee // 10**5
        rest = self.has["owes", who] - shares if whole else 0
        repaid, lost = -(-shares * self.owed // self.shares), rest * self.owed // self.shares
        own = {"seized": taken - fee, "shares": shares, "repaid": repaid, "fee": fee}
        self.log("Liquidate", borrower=who, **own, lost_shares=rest, lost=lost)
        self.log("RepayAsset", payer=KEEPER, borrower=who, assets=repaid, shares=shares + rest)
        self.log("RemoveCollateral", sender=KEEPER, amount=taken - fee, receiver=KEEPER, borrower=who)
        self.log("RemoveCollateral", sender=KEEPER, amount=fee, receiver=PAIR, borrower=who)
        self.log("AddCollateral", sender=PAIR, borrower=PAIR, amount=fee)
        self.owed, self.lent, self.shares = self.owed - repaid - lost, self.lent - lost, self.shares - shares - rest
        self.has["owes", who] -= shares + rest
        self.has["pledges", who] -= taken
        self.has["pledges", PAIR] += fee


def played() -> Script:
    """A lender, alice, and the end of her loan: all her ether for a part of it, the rest is lost."""
    script = Script()
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
    script.liquidate(1_150 * E18)
    return script


def wandered(seed: int, curve: RateCurve = STEEP, decimals: int = 18, steps: int = 150) -> Script:
    """Random calls of a dozen users, at any utilisation, with pauses of seconds and of years."""
    draw, one = random.Random(seed), 10**decimals
    script = Script(curve, decimals)
    people = [bytes([number]) * 20 for number in range(20, 32)]
    for step in range(steps):
        script.next(draw.choice([1, 12, 3_600, 86_400, 3_000_000]), accrue=step % 9 != 5)
        if step % 9 == 5:
            giver = max(people, key=lambda who: script.has["lends", who])
            if held := script.has["lends", giver]:
                script.transfer(giver, draw.choice([who for who in people if who != giver]), draw.randint(1, held))
            continue
        if step % 3 == 0:
            script.priced(draw.choice([300, 800, 1_250, 1_700, 2_000, 2_500]))
        if step % 50 in (20, 24):
            script.pause(step % 50 == 20)
        if step % 60 == 40:
            script.fee = draw.choice([0, 3_333, 50_000])
            script.log("ChangeFee", new_fee=script.fee)
        who, free = draw.choice(people), script.lent - script.owed
        lends, owes = script.has["lends", who], script.has["owes", who]
        broken = [each for each in people if script.has["owes", each] and script.ltv(each) > 75_000]
        kind = draw.choice(["lend", "borrow", "borrow", "borrow", "redeem", "repay", "liquidate"])
        if kind == "lend" or script.lent < one:
            script.lend(draw.randrange(1, 10 ** draw.randrange(3, 8) * one), who)
        elif kind == "borrow" and free:
            amount = draw.choice([1, free, free // 2 + 1, draw.randint(1, free)])
            script.borrow(amount, who)
            script.pledge(amount * script.rate // E18 * draw.randrange(105_000, 200_000) // 10**5 + 1, who)
        elif kind == "redeem" and lends:
            shares = draw.randint(1, lends)
            if shares * script.lent // script.fshares <= free:
                script.redeem(shares, who)
        elif kind == "repay" and owes:
            script.repay(draw.choice([owes, draw.randint(1, owes)]), who)
        elif kind == "liquidate" and broken:
            owes = script.has["owes", broken[0]]
            script.liquidate(draw.choice([owes, draw.randint(1, owes)]), broken[0])
    script.next(draw.choice([5_000, 31_536_000]), accrue=False)
    return script


class Raw:
    """``RawEvents`` of a script."""

    parameters: Mapping[str, str] = {}

    def __init__(self, script: Script) -> None:
        self.script = script
        self.rows: Rows = defaultdict(list)
        for seq, (block, event, columns) in enumerate(script.logs):
            key = {"seq": seq, "timestamp": script.times[block], "block_number": block, "transaction_index": 0}
            key |= {"log_index": seq, "transaction_hash": bytes(32), "address": PAIR}
            self.rows[event].append({**key, **columns})

    def table(self, event: str) -> pa.Table:
        if event == "raw/chain/Token":
            listed = ((FRAX, "FRAX", self.script.decimals), (WETH, "WETH", 18))
            rows = [{"address": token, "symbol": name, "decimals": digits} for token, name, digits in listed]
            return pa.Table.from_pylist(rows, RAW_STATE[event])
        if event == "raw/chain/Reading":
            return pa.Table.from_pylist(self.read(), RAW_STATE[event])
        if event == "Quarantine":
            return QUARANTINE.empty_table()
        head = pa.schema([("seq", pa.int64()), ("timestamp", pa.int64())])
        return pa.Table.from_pylist(self.rows[event], pa.schema([*head, *event_schema(SPECS[event])]))

    def read(self) -> list[dict[str, Any]]:
        own: dict[str, tuple[Any, ...]] = {
            "version()": (self.script.version, 0, 0), "asset()": (FRAX,), "collateralContract()": (WETH,),
            "rateContract()": (MODEL,), "exchangeRateInfo()": (ORACLE, 5_000, 0, 0, 0), "maxLTV()": (75_000,),
            "cleanLiquidationFee()": (10_000,), "dirtyLiquidationFee()": (9_000,),
            "protocolLiquidationFee()": (self.script.protocol_fee,),
        }  # fmt: skip
        told = [(PAIR, call, words) for call, words in own.items()]
        told += [(MODEL, CURVE_GETTERS[name], (value,)) for name, value in self.script.curve._asdict().items()]
        return [{"block_number": 1, "address": who, "call": call, "value": _data(words)} for who, call, words in told]

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        yield {name: self.table(name).select(["seq", "timestamp", *wanted]) for name, wanted in columns.items()}


def _data(words: tuple[Any, ...]) -> bytes:
    return b"".join(each.rjust(32, b"\0") if isinstance(each, bytes) else each.to_bytes(32, "big") for each in words)


def folded(script: Script) -> Rows:
    """Canonical rows of a script's logs."""
    found: Rows = defaultdict(list)
    for name, table in fold(config(script.decimals), Raw(script)):
        found[name] += table.to_pylist()
    return found


def lake_rows(script: Script) -> Rows:
    """All canonical rows: with blocks, and the collateral's price, which is the unit."""
    rows = folded(script)
    unit = {"market": "pair", "seq": 0, "block_number": 1, "log_index": 0, "timestamp": script.times[1]}
    unit |= {"asset_id": 1, "price": E18, "price_rest": 0, "method": "fixed", "exact": True}
    blocks = [{"market": "pair", "block_number": block, "timestamp": time} for block, time in script.times.items()]
    return {**rows, "prices": [unit, *rows["prices"]], "blocks": blocks}
