"""Liquity V1 as its contracts do it, call by call, with the logs that they emit: a plain second writing of
``TroveManager.sol``, ``StabilityPool.sol`` and ``BorrowerOperations.sol`` (liquity/dev at 5174ecd0) for tests, which
shares no line with the package's rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.protocols.liquity_v1.events import AGGREGATOR, EVENTS
from backtest.tables import QUARANTINE, RAW_STATE

E18 = 10**18
START = 1_620_000_000
NAMES = ("manager", "borrowing", "stability", "default", "active", "feed", "lusd")
AT = {name: bytes([0xC0 + number]) * 20 for number, name in enumerate(NAMES)}
SPECS = {spec.name: spec for spec in EVENTS}


class Reverted(Exception):
    """A call that the contracts refuse."""


def who(number: int) -> bytes:
    """A user's address."""
    return bytes([0x10 + number]) * 20


class System:
    """Amounts with 18 decimals. Each call is a transaction in a block of its own, twelve seconds after the last."""

    def __init__(self) -> None:
        self.logs: list[tuple[int, str, dict[str, Any]]] = []
        self.prices: list[tuple[int, int]] = []  # the place of a log, price
        self.block, self.price = 10, 0
        self.troves: dict[bytes, list[int]] = {}  # debt, coll, stake, L_ETH then, L_LUSD then
        self.stakes = self.stakes_snapshot = self.coll_snapshot = 0
        self.l_eth = self.l_debt = self.err_eth = self.err_debt = 0
        self.active = [0, 0]  # ETH, LUSD
        self.default = [0, 0]
        self.base_rate = self.fee_time = 0
        self.deposits: dict[bytes, list[int]] = {}  # value, P, S, scale, epoch
        self.total = self.pool_eth = self.scale = self.epoch = 0
        self.p = E18
        self.s: dict[tuple[int, int], int] = defaultdict(int)
        self.err_gain = self.err_loss = 0
        for name, event in (
            ("borrowing", "BorrowerOperationsAddressChanged"), ("stability", "StabilityPoolAddressChanged"),
            ("active", "ActivePoolAddressChanged"), ("default", "DefaultPoolAddressChanged"),
            ("feed", "PriceFeedAddressChanged"), ("lusd", "LUSDTokenAddressChanged"),
        ):  # fmt: skip
            self._emit(event, target=AT[name])

    def _emit(self, event: str, **columns: Any) -> None:
        self.logs.append((self.block, event, columns))

    @property
    def time(self) -> int:
        return START + 12 * self.block

    def _begin(self) -> None:
        self.block += 1
        self._emit("LastGoodPriceUpdated", price=self.price)

    def move(self, price: int) -> None:
        """Chainlink says another price, in a block of its own."""
        self.block += 1
        self.price = price
        self.prices.append((len(self.logs), price))
        self._emit("PriceFeedStatusChanged", status=0)

    # -- views

    def pending(self, account: bytes) -> tuple[int, int]:
        trove = self.troves[account]
        return trove[2] * (self.l_eth - trove[3]) // E18, trove[2] * (self.l_debt - trove[4]) // E18

    def whole(self, account: bytes) -> tuple[int, int]:
        """Collateral and debt."""
        eth, debt = self.pending(account)
        return self.troves[account][1] + eth, self.troves[account][0] + debt

    def icr(self, account: bytes) -> int:
        coll, debt = self.whole(account)
        return coll * self.price // debt

    def tcr(self, coll: int = 0, debt: int = 0) -> int:
        return (self.active[0] + self.default[0] + coll) * self.price // (self.active[1] + self.default[1] + debt)

    @property
    def recovery(self) -> bool:
        return bool(self.active[1] + self.default[1]) and self.tcr() < 15 * E18 // 10

    def compounded(self, account: bytes) -> int:
        value, p, _, scale, epoch = self.deposits[account]
        if epoch < self.epoch or self.scale - scale > 1:
            return 0
        left = value * self.p // p // (10**9 if self.scale > scale else 1)
        return left if left >= value // 10**9 else 0

    def gain(self, account: bytes) -> int:
        value, p, s, scale, epoch = self.deposits[account]
        return value * (self.s[epoch, scale] - s + self.s[epoch, scale + 1] // 10**9) // p // E18

    # -- BorrowerOperations

    def _fee(self, amount: int) -> int:
        minutes = (self.time - self.fee_time) // 60
        self.base_rate = self.base_rate * power(minutes) // E18
        self._rate()
        return min(E18 // 200 + self.base_rate, E18 // 20) * amount // E18

    def _rate(self) -> None:
        self._emit("BaseRateUpdated", rate=self.base_rate)
        if self.time - self.fee_time >= 60:
            self.fee_time = self.time
            self._emit("LastFeeOpTimeUpdated", time=self.time)

    def _stake(self, account: bytes) -> None:
        coll, old = self.troves[account][1], self.troves[account][2]
        new = coll * self.stakes_snapshot // self.coll_snapshot if self.coll_snapshot else coll
        self.troves[account][2] = new
        self.stakes += new - old
        self._emit("TotalStakesUpdated", stakes=self.stakes)

    def open(self, account: bytes, coll: int, amount: int) -> None:
        recovery = self.recovery
        if account in self.troves:
            raise Reverted
        fee = 0 if recovery else self._peek(amount)
        debt = amount + fee + 200 * E18
        ratio = coll * self.price // debt
        if amount + fee < 1800 * E18 or ratio < (15 if recovery else 11) * E18 // 10:
            raise Reverted
        if not recovery and self.tcr(coll, debt) < 15 * E18 // 10:
            raise Reverted
        self._begin()
        if not recovery:
            assert self._fee(amount) == fee
        self.troves[account] = [debt, coll, 0, self.l_eth, self.l_debt]
        self._stake(account)
        self.active[0] += coll
        self.active[1] += debt
        self._adjusted(account, 0)
        self._emit("LUSDBorrowingFeePaid", borrower=account, fee=fee)

    def _peek(self, amount: int) -> int:
        """The fee in the block of the next call."""
        minutes = (self.time + 12 - self.fee_time) // 60
        return min(E18 // 200 + self.base_rate * power(minutes) // E18, E18 // 20) * amount // E18

    def _adjusted(self, account: bytes, operation: int) -> None:
        debt, coll, stake = self.troves[account][:3]
        self._emit("TroveAdjusted", borrower=account, debt=debt, coll=coll, stake=stake, operation=operation)

    def _apply(self, account: bytes) -> None:
        if self.troves[account][3] >= self.l_eth:
            return
        eth, debt = self.pending(account)
        trove = self.troves[account]
        trove[0] += debt
        trove[1] += eth
        trove[3:] = [self.l_eth, self.l_debt]
        self.default = [self.default[0] - eth, self.default[1] - debt]
        self.active = [self.active[0] + eth, self.active[1] + debt]
        self._emit("TroveUpdated", borrower=account, debt=trove[0], coll=trove[1], stake=trove[2], operation=0)

    def adjust(self, account: bytes, by_coll: int, amount: int) -> None:
        recovery = self.recovery
        if account not in self.troves or (not by_coll and not amount):
            raise Reverted
        fee = self._peek(amount) if amount > 0 and not recovery else 0
        coll, debt = self.whole(account)
        new = coll + by_coll, debt + amount + fee
        if min(new) <= 0 or (amount < 0 and new[1] < 2000 * E18):
            raise Reverted
        ratio = new[0] * self.price // new[1]
        if recovery:
            old = coll * self.price // debt
            if by_coll < 0 or (amount > 0 and (ratio < 15 * E18 // 10 or ratio < old)):
                raise Reverted
        elif ratio < 11 * E18 // 10 or self.tcr(by_coll, amount + fee) < 15 * E18 // 10:
            raise Reverted
        self._begin()
        self._apply(account)
        if amount > 0 and not recovery:
            assert self._fee(amount) == fee
        trove = self.troves[account]
        trove[0], trove[1] = new[1], new[0]
        self.active = [self.active[0] + by_coll, self.active[1] + amount + fee]
        self._stake(account)
        self._adjusted(account, 2)
        self._emit("LUSDBorrowingFeePaid", borrower=account, fee=fee)

    def _remove(self, account: bytes) -> None:
        if len(self.troves) < 2:
            raise Reverted
        self.stakes -= self.troves.pop(account)[2]

    def close(self, account: bytes) -> None:
        if account not in self.troves or self.recovery or len(self.troves) < 2:
            raise Reverted
        coll, debt = self.whole(account)
        if self.tcr(-coll, -debt) < 15 * E18 // 10:
            raise Reverted
        self._begin()
        self._apply(account)
        self._remove(account)
        self.active = [self.active[0] - coll, self.active[1] - debt]
        self._emit("TroveAdjusted", borrower=account, debt=0, coll=0, stake=0, operation=1)

    # -- TroveManager

    def liquidate(self, accounts: Sequence[bytes], caller: bytes) -> None:
        """batchLiquidateTroves."""
        recovery = self.recovery
        left, system = self.total, [self.active[0] + self.default[0], self.active[1] + self.default[1]]
        back = False
        found: list[tuple[bytes, int, list[int]]] = []
        count = len(self.troves)
        for account in accounts:
            if account not in self.troves or any(account == done[0] for done in found):
                continue
            ratio = self.icr(account)
            coll, debt = self.whole(account)
            gas, result, operation = coll // 200, None, 1
            if recovery and not back:
                if ratio >= 11 * E18 // 10 and not left:
                    continue
                operation = 2
                total = system[0] * self.price // system[1]
                if count <= 1:
                    continue
                if ratio <= E18:
                    result = [0, 0, debt, coll - gas, gas, 0, coll]
                elif ratio < 11 * E18 // 10:
                    result = self._split(debt, coll, gas, left)
                elif ratio < total and debt <= left:
                    cap = debt * (11 * E18 // 10) // self.price
                    result = [debt, cap - cap // 200, 0, 0, cap // 200, coll - cap, cap - cap // 200]
            elif ratio < 11 * E18 // 10:
                if count <= 1:
                    raise Reverted
                result = self._split(debt, coll, gas, left)
            if result is not None:
                found.append((account, operation, [*result, debt, coll]))
                left -= result[0]
                count -= 1
            if recovery and not back:
                if result is not None:
                    system = [system[0] - result[1], system[1] - result[0]]
                back = system[0] * self.price // system[1] >= 15 * E18 // 10
        if not found:
            raise Reverted
        self._begin()
        for account, operation, result in found:
            eth, debt = self.pending(account)
            self.default = [self.default[0] - eth, self.default[1] - debt]
            self.active = [self.active[0] + eth, self.active[1] + debt]
            self._remove(account)
            self._emit("TroveLiquidated", borrower=account, debt=result[7], coll=result[6], operation=operation)
            self._emit("TroveUpdated", borrower=account, debt=0, coll=0, stake=0, operation=operation)
        offset, to_pool, debt, coll, gas, surplus = (sum(one[2][n] for one in found) for n in range(6))
        self._offset(offset, to_pool)
        if debt:
            for_eth, for_debt = coll * E18 + self.err_eth, debt * E18 + self.err_debt
            self.l_eth += for_eth // self.stakes
            self.l_debt += for_debt // self.stakes
            self.err_eth, self.err_debt = for_eth % self.stakes, for_debt % self.stakes
            self._emit("LTermsUpdated", coll_sum=self.l_eth, debt_sum=self.l_debt)
            self.active = [self.active[0] - coll, self.active[1] - debt]
            self.default = [self.default[0] + coll, self.default[1] + debt]
        self.active[0] -= surplus
        self.stakes_snapshot, self.coll_snapshot = self.stakes, self.active[0] - gas + self.default[0]
        self._emit("SystemSnapshotsUpdated", stakes=self.stakes_snapshot, colls=self.coll_snapshot)
        debts, colls = sum(one[2][7] for one in found), sum(one[2][8] for one in found)
        self._emit("Liquidation", debt=debts, coll=colls - gas - surplus, gas_coll=gas, gas_debt=200 * E18 * len(found))
        self.active[0] -= gas
        self._emit("EtherSent", target=caller, amount=gas)

    @staticmethod
    def _split(debt: int, coll: int, gas: int, left: int) -> list[int]:
        offset = min(debt, left)
        to_pool = (coll - gas) * offset // debt if offset else 0
        return [offset, to_pool, debt - offset, coll - gas - to_pool, gas, 0, coll]

    def _offset(self, debt: int, coll: int) -> None:
        if not self.total or not debt:
            return
        numerator = coll * E18 + self.err_gain
        if debt == self.total:
            loss, self.err_loss = E18, 0
        else:
            lost = debt * E18 - self.err_loss
            loss = lost // self.total + 1
            self.err_loss = loss * self.total - lost
        self.err_gain = numerator % self.total
        self.s[self.epoch, self.scale] += numerator // self.total * self.p
        word = self.s[self.epoch, self.scale].to_bytes(32, "big")
        self._emit("S_Updated", sum=word, epoch=self.epoch, scale=self.scale)
        factor = E18 - loss
        if not factor:
            self.epoch, self.scale, self.p = self.epoch + 1, 0, E18
        elif self.p * factor // E18 < 10**9:
            self.p, self.scale = self.p * factor * 10**9 // E18, self.scale + 1
        else:
            self.p = self.p * factor // E18
        self._emit("P_Updated", product=self.p)
        self.active = [self.active[0] - coll, self.active[1] - debt]
        self.pool_eth += coll
        self.total -= debt
        self._emit("StabilityPoolLUSDBalanceUpdated", balance=self.total)

    def redeem(self, amount: int) -> None:
        if self.tcr() < 11 * E18 // 10:
            raise Reverted
        order = sorted(self.troves, key=lambda each: self.whole(each)[0] * 10**20 // self.whole(each)[1])
        supply = self.active[1] + self.default[1]
        if not any(self.icr(each) >= 11 * E18 // 10 for each in order):
            raise Reverted
        saved, done, drawn = deepcopy(vars(self)), 0, 0
        self._begin()
        for account in order:
            if self.icr(account) < 11 * E18 // 10 or done == amount:
                continue
            self._apply(account)
            trove = self.troves[account]
            lot = min(amount - done, trove[0] - 200 * E18)
            eth = lot * E18 // self.price
            if trove[0] - lot == 200 * E18:
                if len(self.troves) < 2:
                    vars(self).update(saved)
                    raise Reverted
                self.active = [self.active[0] - trove[1], self.active[1] - trove[0]]
                self._remove(account)
                self._emit("TroveUpdated", borrower=account, debt=0, coll=0, stake=0, operation=3)
            elif trove[0] - lot < 2000 * E18:
                break
            else:
                trove[0] -= lot
                trove[1] -= eth
                self.active = [self.active[0] - eth, self.active[1] - lot]
                self._stake(account)
                self._emit("TroveUpdated", borrower=account, debt=trove[0], coll=trove[1], stake=trove[2], operation=3)
            done, drawn = done + lot, drawn + eth
        if not done:
            vars(self).update(saved)
            raise Reverted
        decayed = self.base_rate * power((self.time - self.fee_time) // 60) // E18
        self.base_rate = min(decayed + drawn * self.price // supply // 2, E18)
        self._rate()
        fee = min(E18 // 200 + self.base_rate, E18) * drawn // E18
        self._emit("Redemption", attempted=amount, redeemed=done, coll=drawn, fee=fee)

    # -- StabilityPool

    def provide(self, account: bytes, by: int) -> None:
        """provideToSP, or withdrawFromSP below zero."""
        before = self.deposits.get(account)
        if not by or (by < 0 and (before is None or any(self.icr(each) < 11 * E18 // 10 for each in self.troves))):
            raise Reverted
        self._begin()
        gain, left = (self.gain(account), self.compounded(account)) if before else (0, 0)
        by = max(by, -left)
        loss = (before[0] if before else 0) - left
        if by:
            self.total += by
            self._emit("StabilityPoolLUSDBalanceUpdated", balance=self.total)
        if left + by:
            self.deposits[account] = [left + by, self.p, self.s[self.epoch, self.scale], self.scale, self.epoch]
        else:
            self.deposits.pop(account, None)
        self._emit("UserDepositChanged", depositor=account, deposit=left + by)
        self._emit("ETHGainWithdrawn", depositor=account, gain=gain, loss=loss)
        self.pool_eth -= gain

    def take_gain(self, account: bytes) -> None:
        """withdrawETHGainToTrove."""
        if account not in self.deposits or account not in self.troves or not self.gain(account):
            raise Reverted
        gain, left = self.gain(account), self.compounded(account)
        loss = self.deposits[account][0] - left
        recovery = self.recovery
        coll, debt = self.whole(account)
        if not recovery and ((coll + gain) * self.price // debt < 11 * E18 // 10 or self.tcr(gain) < 15 * E18 // 10):
            raise Reverted
        self.block += 1
        if left:
            self.deposits[account] = [left, self.p, self.s[self.epoch, self.scale], self.scale, self.epoch]
        else:
            del self.deposits[account]
        self._emit("ETHGainWithdrawn", depositor=account, gain=gain, loss=loss)
        self._emit("UserDepositChanged", depositor=account, deposit=left)
        self.pool_eth -= gain
        self._emit("LastGoodPriceUpdated", price=self.price)
        self._apply(account)
        self.troves[account][1] += gain
        self.active[0] += gain
        self._stake(account)
        self._adjusted(account, 2)
        self._emit("LUSDBorrowingFeePaid", borrower=AT["stability"], fee=0)


def power(minutes: int) -> int:
    """0.999037758833783 to a power, by squaring, each product to nearest."""
    n, x, y = min(minutes, 525_600_000), 999_037_758_833_783_000, E18
    if not n:
        return E18
    while n > 1:
        if n % 2:
            y = (x * y + E18 // 2) // E18
        x = (x * x + E18 // 2) // E18
        n //= 2
    return (x * y + E18 // 2) // E18


class Raw:
    """``RawEvents`` of a system's logs."""

    parameters: Mapping[str, str] = {}

    def __init__(self, system: System) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        places: dict[int, int] = defaultdict(int)
        self.spine: list[dict[str, Any]] = []
        for seq, (block, event, columns) in enumerate(system.logs):
            key = {
                "seq": seq, "timestamp": START + 12 * block, "block_number": block, "transaction_index": 0,
                "log_index": places[block], "transaction_hash": block.to_bytes(32, "big"), "address": AT["manager"],
            }  # fmt: skip
            places[block] += 1
            self.rows[event].append({**key, **columns})
            self.spine.append(key)

    def table(self, event: str) -> pa.Table:
        """See ``RawEvents.table``."""
        if event == "raw/chain/Token":
            return pa.Table.from_pylist([{"address": AT["lusd"], "symbol": "LUSD", "decimals": 18}], RAW_STATE[event])
        if event == "raw/chain/Reference":
            row = {"block_number": 10, "address": AT["feed"], "name": AGGREGATOR, "target": b"\xfe" * 20}
            schema = RAW_STATE[event]
            return pa.Table.from_pylist([{name: row.get(name) for name in schema.names}], schema)
        if event == "Quarantine":
            return QUARANTINE.empty_table()
        head = pa.schema([("seq", pa.int64()), ("timestamp", pa.int64())])
        return pa.Table.from_pylist(self.rows[event], pa.schema([*head, *event_schema(SPECS[event])]))

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        """In one piece."""
        yield {name: self.table(name).select(["seq", "timestamp", *wanted]) for name, wanted in columns.items()}
