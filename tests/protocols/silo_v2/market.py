"""A second writing of the silos' own bookkeeping: calls on them, the logs that they leave, canonical tables of those.

``played`` is a short scripted sequence, ``wandered`` a random one of many users. Interest is the model's (``irm``).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.markets import MarketConfig
from backtest.protocols.silo_v2.events import EVENTS, call_of
from backtest.protocols.silo_v2.fold import fold
from backtest.protocols.silo_v2.irm import Gains, compound
from backtest.tables import QUARANTINE, RAW_STATE
from tests.protocols.silo_v2.hand import E6, E18, PERCENT, STEEP, TERMS

SILO0, SILO1, KEPT0, KEPT1, DEBT0, DEBT1, HOOK, CONFIG, MODEL, ORACLE, WETH, USDC, ALICE, BOB, LENDER, KEEPER = (
    bytes([number]) * 20 for number in range(1, 17)
)
NOBODY = bytes(20)
SPECS = {spec.name: spec for spec in EVENTS}
SILOS, KEPT, DEBT, TOKENS, DIGITS = (SILO0, SILO1), (KEPT0, KEPT1), (DEBT0, DEBT1), (WETH, USDC), (18, 6)
FEES = 15 * PERCENT
Rows = dict[str, list[dict[str, Any]]]


def config() -> MarketConfig:
    """The description of the market."""
    named = {"silo": SILOS, "protected": KEPT, "debt": DEBT}
    contracts = {f"{role}{n}": "0x" + own[n].hex() for role, own in named.items() for n in (0, 1)}
    return MarketConfig(
        name="silo", protocol="silo-v2", chain_id=1, start_block=1, base_currency="USDC", base_decimals=6,
        price_decimals=24, contracts={**contracts, "hook": "0x" + HOOK.hex()},
    )  # fmt: skip


class Script:
    """A market, its logs, and what it then holds. ``has``: shares by kind (lent, kept, owed), silo and account."""

    def __init__(self, curve: Gains = STEEP, fractions: bool = True) -> None:
        self.logs: list[tuple[int, int, bytes, str, dict[str, Any]]] = []
        self.curve, self.fractions = curve, fractions
        self.block, self.time, self.transaction, self.usd = 1, 1_000, 0, 2_000
        self.times = {1: self.time}
        self.assets: dict[tuple[str, int], int] = defaultdict(int)
        self.shares: dict[tuple[str, int], int] = defaultdict(int)
        self.has: dict[tuple[str, int, bytes], int] = defaultdict(int)
        self.backing: dict[bytes, int] = {}
        self.told: list[tuple[int, bytes, int]] = []
        self.prices: dict[int, int] = {}
        self.updated, self.model = [0, 0], [(10**9, 0), (10**9, 0)]
        self.left = [[0, 0], [0, 0]]
        for n in (0, 1):
            self.log(SILOS[n], "HooksUpdated", hooks_before=0, hooks_after=0)

    def log(self, who: bytes, event: str, **columns: Any) -> None:
        self.logs.append((self.block, self.transaction, who, event, columns))

    def next(self, seconds: int) -> None:
        """The block after the next, which has no log and is half of the way."""
        self.times |= {self.block + 1: self.time + seconds // 2, self.block + 2: self.time + seconds}
        self.block, self.time, self.transaction = self.block + 2, self.time + seconds, 0

    def accrue(self, *silos: int) -> None:
        """SiloLendingLib.accrueInterestForAsset, applyFractions."""
        for n in silos or (0, 1):
            seconds, first = self.time - self.updated[n], not self.updated[n]
            if not seconds:
                continue
            self.updated[n] = self.time
            if first:
                continue
            owed, lent = self.assets["owed", n], self.assets["lent", n]
            rcomp, ri, t_crit = compound(self.curve, *self.model[n], lent, owed, seconds)
            self.model[n] = ri, t_crit
            interest = owed * rcomp // E18
            fees = interest * FEES // E18
            self.assets["owed", n] += interest
            self.assets["lent", n] += interest - fees
            if self.fractions and rcomp and owed and owed < 10**13 and self.assets["lent", n]:
                whole = self.left[n][0] + owed * rcomp % E18
                one, self.left[n][0] = whole // E18, whole % E18
                interest += one
                whole = self.left[n][1] + interest * FEES % E18 if interest else self.left[n][1]
                fee, self.left[n][1] = whole // E18, whole % E18
                self.assets["owed", n] += one
                self.assets["lent", n] += one - fee
            if interest:
                self.log(SILOS[n], "AccruedInterest", interest=interest)

    def _token(self, kind: str, n: int) -> tuple[bytes, str]:
        return {"lent": (SILOS[n], "Transfer"), "kept": (KEPT[n], "ShareTransfer"), "owed": (DEBT[n], "ShareTransfer")}[
            kind
        ]

    def _sums(self, kind: str, n: int) -> tuple[int, int]:
        """Assets and shares with the virtual ones."""
        shares = self.shares[kind, n]
        assets = self.assets[kind, n] if shares else 0
        return (assets, shares) if kind == "owed" else (assets + 1, shares + 1_000)

    def worth(self, kind: str, n: int, shares: int) -> int:
        assets, total = self._sums(kind, n)
        if not shares:
            return 0
        return -(-shares * assets // total) if kind == "owed" else shares * assets // total

    def _minted(self, kind: str, n: int, who: bytes, shares: int, assets: int) -> None:
        token, event = self._token(kind, n)
        ends = {"from": NOBODY, "to": who} if shares > 0 else {"from": who, "to": NOBODY}
        self.has[kind, n, who] += shares
        self.shares[kind, n] += shares
        self.assets[kind, n] += assets
        self.log(token, event, value=abs(shares), **ends)

    def _moved(self, kind: str, n: int, giver: bytes, taker: bytes, shares: int) -> None:
        self.has[kind, n, giver] -= shares
        self.has[kind, n, taker] += shares
        token, event = self._token(kind, n)
        self.log(token, event, value=shares, **{"from": giver, "to": taker})

    def deposit(self, n: int, assets: int, who: bytes, kind: str = "lent", silent: bool = False) -> int:
        if not silent:
            self.accrue(n)
        total, shares = self._sums(kind, n)
        made = assets * shares // total
        self._minted(kind, n, who, made, assets)
        if not silent:
            event = "Deposit" if kind == "lent" else "DepositProtected"
            self.log(SILOS[n], event, sender=who, owner=who, assets=assets, shares=made)
        return made

    def redeem(
        self, n: int, shares: int, who: bytes, kind: str = "lent", taker: bytes = b"", silent: bool = False
    ) -> int:
        self.accrue()
        assets = self.worth(kind, n, shares)
        self._minted(kind, n, who, -shares, -assets)
        if not silent:
            event = "Withdraw" if kind == "lent" else "WithdrawProtected"
            self.log(SILOS[n], event, sender=who, receiver=taker or who, owner=who, assets=assets, shares=shares)
        return assets

    def transition(self, n: int, shares: int, who: bytes, kind: str = "lent") -> None:
        other = "kept" if kind == "lent" else "lent"
        assets = self.redeem(n, shares, who, kind, silent=True)
        made = self.deposit(n, assets, who, other, silent=True)
        events = ("Withdraw", "DepositProtected") if kind == "lent" else ("WithdrawProtected", "Deposit")
        self.log(SILOS[n], events[0], sender=who, receiver=who, owner=who, assets=assets, shares=shares)
        self.log(SILOS[n], events[1], sender=who, owner=who, assets=assets, shares=made)

    def borrow(self, n: int, assets: int, who: bytes, backing: int | None = None) -> None:
        backing = 1 - n if backing is None else backing
        self.accrue(*((0, 1) if backing != n else (n,)))
        total, shares = self._sums("owed", n)
        made = -(-assets * shares // total) if shares else assets
        changed = self.backing.get(who) != backing
        self._minted("owed", n, who, made, assets)
        self.log(SILOS[n], "Borrow", sender=KEEPER, receiver=who, owner=who, assets=assets, shares=made)
        if changed:
            self.backing[who] = backing
            self.told.append((self.block, who, backing))
            self.log(SILOS[n], "CollateralTypeChanged", borrower=KEEPER)

    def switch(self, who: bytes, backing: int) -> None:
        if any(self.has["owed", n, who] for n in (0, 1)):
            self.accrue()
        self.backing[who] = backing
        self.told.append((self.block, who, backing))
        self.log(SILOS[backing], "CollateralTypeChanged", borrower=who)

    def repay(self, n: int, assets: int, who: bytes, payer: bytes | None = None) -> int:
        self.accrue(n)
        total, shares = self._sums("owed", n)
        burnt = assets * shares // total
        if burnt >= self.has["owed", n, who]:
            burnt, assets = self.has["owed", n, who], self.worth("owed", n, self.has["owed", n, who])
        if burnt:
            self._minted("owed", n, who, -burnt, -assets)
            self.log(SILOS[n], "Repay", sender=payer or who, owner=who, assets=assets, shares=burnt)
        return assets if burnt else 0

    def transfer(self, kind: str, n: int, giver: bytes, taker: bytes, shares: int) -> None:
        owes = any(self.has["owed", each, giver] for each in (0, 1))
        if kind == "owed" or (owes and self.backing.get(giver) == n):
            self.accrue()
        if kind == "owed":
            self.backing.setdefault(taker, self.backing[giver])
        self._moved(kind, n, giver, taker, shares)

    def value(self, n: int, assets: int) -> int:
        return assets * self.usd * E6 // E18 if n == 0 else assets

    def standing(self, who: bytes) -> tuple[int, int, int, int, int]:
        """Silo of the debt; collateral and debt in assets, and as values."""
        n = 0 if self.has["owed", 0, who] else 1
        back = self.backing[who]
        held = sum(self.worth(kind, back, self.has[kind, back, who]) for kind in ("lent", "kept"))
        debt = self.worth("owed", n, self.has["owed", n, who])
        same = back == n
        return n, held, debt, held if same else self.value(back, held), debt if same else self.value(n, debt)

    def broken(self, who: bytes) -> bool:
        if not any(self.has["owed", n, who] for n in (0, 1)):
            return False
        _, _, _, held, debt = self.standing(who)
        return bool(held) and debt * E18 > TERMS["liquidation_threshold"] * held

    def liquidate(self, who: bytes, offer: int, tokens: bool = False) -> bool:
        """PartialLiquidation.liquidationCall; False: it would revert."""
        n = 0 if self.has["owed", 0, who] else 1
        back = self.backing[who]
        self.accrue(*sorted({n, back}))
        _, held, debt, held_value, debt_value = self.standing(who)
        if not held_value or debt_value * E18 <= TERMS["liquidation_threshold"] * held_value:
            return False
        target, fee = TERMS["liquidation_target_ltv"], TERMS["liquidation_bonus"] - E18
        if debt_value >= held_value:
            paid = min(offer, debt)
        else:
            wanted = (debt_value * E18 - target * held_value) // (E18 - target - target * fee // E18)
            if wanted > debt_value or wanted * E18 // debt_value > 9 * E18 // 10:
                paid = debt
            else:
                paid = min(offer, wanted * debt // debt_value)
        value = debt_value if paid == debt else paid * debt_value // debt
        taken = min(held_value, value + value * fee // E18) * held // held_value
        if paid > offer or not paid or not taken:
            return False
        kept = min(taken, self.worth("kept", back, self.has["kept", back, who]))
        parts = []
        for kind, assets in (("lent", taken - kept), ("kept", kept)):
            total, shares = self._sums(kind, back)
            parts.append((kind, assets * shares // total))
        got = [self.worth(kind, back, shares) for kind, shares in parts]
        free = self.assets["lent", back] - self.assets["owed", back]
        if not any(shares for _, shares in parts) or any(s and not g for (_, s), g in zip(parts, got, strict=True)):
            return False
        if not tokens and got[0] > free:
            return False
        taker = KEEPER if tokens else HOOK
        for kind, shares in parts:
            if shares:
                self._moved(kind, back, who, taker, shares)
        self.repay(n, paid, who, HOOK)
        if tokens:
            total = sum(self.worth(kind, back, shares) for kind, shares in parts)
        else:
            total = sum(self.redeem(back, shares, HOOK, kind, KEEPER) for kind, shares in parts if shares)
        call = {"repay_debt_assets": paid, "withdraw_collateral": total, "receive_s_token": tokens}
        self.prices[self.block] = self.usd
        self.log(HOOK, "LiquidationCall", liquidator=KEEPER, silo=SILOS[n], borrower=who, **call)
        return True


def played() -> Script:
    """A lender, alice against ether that is partly protected, two liquidations of hers; bob changes his mind."""
    script = Script()
    script.next(60)
    script.deposit(1, 10_000 * E6, LENDER)
    script.next(86_400)
    script.deposit(0, 3 * E18 // 4, ALICE)
    script.deposit(0, E18 // 4, ALICE, "kept")
    script.borrow(1, 1_400 * E6, ALICE)
    script.next(86_400)
    script.deposit(0, E18, BOB)
    script.transition(0, 5 * 10**20, BOB)
    script.transfer("kept", 0, BOB, KEEPER, 10**20)
    script.next(40 * 86_400)
    script.usd = 1_700
    assert script.liquidate(ALICE, 40 * E6)
    script.transaction = 1
    assert script.liquidate(ALICE, 10 * E6, tokens=True)
    script.next(86_400)
    script.repay(1, 2_000 * E6, ALICE)
    script.redeem(1, 10**11, LENDER)
    return script


def wandered(seed: int, curve: Gains = STEEP, fractions: bool = True, steps: int = 120) -> Script:
    """Random calls of a dozen users in both silos, at any utilisation, with pauses of seconds and of months."""
    draw = random.Random(seed)
    script = Script(curve, fractions)
    people = [bytes([number]) * 20 for number in range(20, 30)]
    one = (E18, 2_000 * E6)
    for n in (0, 1):
        script.next(60)
        script.deposit(n, draw.randrange(1, 50) * one[n] + draw.randrange(1_000), LENDER)
    for step in range(steps):
        script.next(draw.choice([1, 12, 3_600, 86_400, 1_000_000]))
        if step % 4 == 0:
            script.usd = draw.choice([900, 1_500, 1_800, 2_000, 2_600])
        who, n = draw.choice(people), draw.choice((0, 1))
        owes = next((each for each in (0, 1) if script.has["owed", each, who]), None)
        kind = draw.choice(["deposit", "borrow", "borrow", "redeem", "repay", "liquidate", "transition", "transfer"])
        sort = draw.choice(["lent", "kept"])
        held = script.has[sort, n, who]
        if kind == "deposit":
            script.deposit(n, draw.randrange(1, one[n]), who, sort)
        elif kind == "borrow" and owes in (None, n):
            script.accrue()
            free = script.assets["lent", n] - script.assets["owed", n]
            amount = draw.randrange(1, max(2, free // draw.choice([1, 2, 9])))
            if 0 < amount <= free:
                twice = script.value(n, amount) * 2 if n == 0 else amount * 2 * E18 // (script.usd * E6)
                script.deposit(1 - n, twice + 1, who, sort)
                script.borrow(n, amount, who)
        elif kind == "repay" and owes is not None:
            debt = script.worth("owed", owes, script.has["owed", owes, who])
            script.repay(owes, draw.choice([2 * debt + 1, draw.randint(1, debt)]), who)
        elif kind in ("redeem", "transition", "transfer") and held and owes is None:
            shares = draw.choice([held, draw.randint(1, held)])
            script.accrue()
            free = script.assets["lent", n] - script.assets["owed", n]
            if not script.worth(sort, n, shares) or (sort == "lent" and script.worth(sort, n, shares) > free):
                continue
            if kind == "redeem":
                script.redeem(n, shares, who, sort)
            elif kind == "transition":
                script.transition(n, shares, who, sort)
            else:
                script.transfer(sort, n, who, draw.choice([each for each in people if each != who]), shares)
        elif kind == "liquidate":
            for each in people:
                if script.broken(each):
                    script.liquidate(each, draw.choice([10**30, draw.randint(1, 10**9)]), draw.random() < 0.4)
                    script.transaction += 1
    script.next(draw.choice([5_000, 3_000_000]))
    return script


class Raw:
    """``RawEvents`` of a script."""

    parameters: Mapping[str, str] = {}

    def __init__(self, script: Script) -> None:
        self.script, self.other_model = script, False
        self.rows: Rows = defaultdict(list)
        for seq, (block, transaction, who, event, columns) in enumerate(script.logs):
            key = {"seq": seq, "timestamp": script.times[block], "block_number": block}
            key |= {"transaction_index": transaction, "log_index": seq, "address": who}
            key["transaction_hash"] = bytes([block % 256, transaction]) * 16
            self.rows[event].append({**key, **columns})

    def table(self, event: str) -> pa.Table:
        if event == "raw/chain/Token":
            symbols = ((WETH, "WETH", 18), (USDC, "USDC", 6), (KEPT0, "nbWETH-1", 18), (KEPT1, "nbUSDC-1", 18))
            rows = [{"address": token, "symbol": name, "decimals": digits} for token, name, digits in symbols]
            return pa.Table.from_pylist(rows, RAW_STATE[event])
        if event == "raw/chain/Reading":
            return pa.Table.from_pylist(self.read(), RAW_STATE[event])
        if event == "Quarantine":
            return QUARANTINE.empty_table()
        head = pa.schema([("seq", pa.int64()), ("timestamp", pa.int64())])
        return pa.Table.from_pylist(self.rows[event], pa.schema([*head, *event_schema(SPECS[event])]))

    def read(self) -> list[dict[str, Any]]:
        told: list[tuple[int, bytes, str, tuple[Any, ...]]] = [(1, SILO0, "config()", (CONFIG,))]
        told.append((1, SILO0, "getFractionsStorage()", (0, 0) if self.script.fractions else ()))
        terms = [TERMS[name] for name in ("ltv", "liquidation_threshold", "liquidation_target_ltv")]
        for n in (0, 1):
            argument, oracle = int.from_bytes(SILOS[n], "big"), (ORACLE, NOBODY)[n]
            words = (10 * PERCENT, 5 * PERCENT, SILOS[n], TOKENS[n], KEPT[n], SILOS[n], DEBT[n], oracle, oracle, MODEL)
            own = (*words, *terms, TERMS["liquidation_bonus"] - E18, 0, HOOK, 0)
            told.append((1, CONFIG, call_of("getConfig(address)", argument), own))
            model = () if self.other_model else (*self.script.curve, 10**9, 0)
            told.append((1, MODEL, call_of("getConfig(address)", argument), model))
        for block, who, backing in self.script.told:
            call = call_of("borrowerCollateralSilo(address)", int.from_bytes(who, "big"))
            told.append((block, CONFIG, call, (SILOS[backing],)))
        return [
            {"block_number": block, "address": who, "call": call, "value": _data(words) or None}
            for block, who, call, words in told
        ]

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        yield {name: self.table(name).select(["seq", "timestamp", *wanted]) for name, wanted in columns.items()}


def _data(words: tuple[Any, ...]) -> bytes:
    return b"".join(each.rjust(32, b"\0") if isinstance(each, bytes) else each.to_bytes(32, "big") for each in words)


def folded(script: Script) -> Rows:
    """Canonical rows of a script's logs."""
    found: Rows = defaultdict(list)
    for name, table in fold(config(), Raw(script)):
        found[name] += table.to_pylist()
    return found
