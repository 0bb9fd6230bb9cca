"""A plain second writing of Euler's vaults and connector, for tests: it shares no line with the rules.

Source: euler-xyz/euler-vault-kit at ``5b98b420`` (Vault, Borrowing, Liquidation, Cache, RiskManager, Governance) and
euler-xyz/ethereum-vault-connector. Calls log as the contracts do and revert whole, a batch with all its calls. Vaults
price what they convert to by ``price`` (18 decimals of the unit of account a token).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import pyarrow as pa

from backtest.abi import event_schema
from backtest.protocols.euler_v2.events import EVENTS
from backtest.tables import QUARANTINE, RAW_STATE

E18, RAY, ZERO = 10**18, 10**27, bytes(20)
USD = (840).to_bytes(20, "big")
EVC, FACTORY, ROUTER, MODEL = (bytes([number]) * 20 for number in (0xEC, 0xFA, 0x0A, 0x1D))
TOKENS = {"USDC": bytes([0x01]) * 20, "WETH": bytes([0x02]) * 20, "WBTC": bytes([0x03]) * 20}
VAULTS = {"USDC": bytes([0xA1]) * 20, "WETH": bytes([0xA2]) * 20, "WBTC": bytes([0xA3]) * 20}
DECIMALS = {"USDC": 6, "WETH": 18, "WBTC": 8}
ADAPTER = {"USDC": bytes([0xB1]) * 20, "WETH": bytes([0xB2]) * 20, "WBTC": bytes([0xB3]) * 20}
FEEDS = {"USDC": bytes([0xF1]) * 20, "WETH": bytes([0xF2]) * 20, "WBTC": bytes([0xF3]) * 20}
CURVE = (0, 218_407_859, 42_500_370_385, 3_865_470_566)
"""A base of nothing, 3 % a year at 90 % use, and steeply above."""
START = 1_700_000_000


def who(number: int, of: int = 0) -> bytes:
    """An owner's account."""
    return bytes([0xD0]) + number.to_bytes(18, "big") + bytes([0x40 ^ of])


class Reverted(Exception):
    """A call reverts."""


def need(condition: bool, why: str) -> None:
    if not condition:
        raise Reverted(why)


class PlainVault:
    """One EVault."""

    def __init__(self, system: System, name: str) -> None:
        self.system, self.name, self.address = system, name, VAULTS[name]
        self.cash = self.total = self.fees = self.debt = self.rate = 0
        self.acc, self.last, self.fee = RAY, system.time, 1_000
        self.shares: dict[bytes, int] = defaultdict(int)
        self.owed: dict[bytes, tuple[int, int]] = {}
        self.ltv: dict[str, tuple[int, int, int, int, int]] = {}
        self.discount = self.cool = self.flags = self.hooked = 0
        self.supply_cap = self.borrow_cap = 2**256
        self.model: tuple[int, int, int, int] | None = None
        self.snapshot: tuple[int, int] | None = None

    def log(self, event: str, **columns: Any) -> None:
        self.system.log(self.address, event, columns)

    def up(self, debt: int) -> int:
        whole, rest = divmod(debt, 2**31)
        return whole + (rest > 0)

    def touch(self) -> None:
        elapsed = self.system.time - self.last
        if elapsed:
            x, n, z = self.rate + RAY, elapsed, RAY
            if n % 2:
                z = x
            n >>= 1
            while n:
                x = (x * x + RAY // 2) // RAY
                if n % 2:
                    z = (z * x + RAY // 2) // RAY
                n >>= 1
            new = self.acc * z // RAY
            debt = self.debt * new // self.acc
            fee = (debt - self.debt) * self.fee // (10_000 << 31)
            if fee:
                assets = self.cash + self.up(debt)
                total = assets * self.total // (assets - fee)
                self.fees += total - self.total
                self.total = total
            self.debt, self.acc, self.last = debt, new, self.system.time
        if self.snapshot is None:
            self.snapshot = self.cash, self.up(self.debt)
        self.system.touched[self.name] = None

    @property
    def pool(self) -> tuple[int, int]:
        return self.cash + self.up(self.debt) + 10**6, self.total + 10**6

    def convert(self, shares: int) -> int:
        """As a view, at the system's time."""
        assets, total = ahead(self).pool
        return shares * assets // total

    def debt_of(self, account: bytes) -> int:
        debt, since = self.owed.get(account, (0, RAY))
        return debt * self.acc // since

    # calls

    def deposit(self, account: bytes, amount: int) -> None:
        self.op(1)
        self.touch()
        assets, total = self.pool
        shares = amount * total // assets
        need(shares > 0, "zero shares")
        self.cash += amount
        self._mint(account, account, amount, shares)

    def _mint(self, account: bytes, sender: bytes, amount: int, shares: int) -> None:
        self.shares[account] += shares
        self.total += shares
        self.log("Transfer", **{"from": ZERO, "to": account, "value": shares})
        self.log("Deposit", sender=sender, owner=account, assets=amount, shares=shares)

    def _burn(self, account: bytes, receiver: bytes, amount: int, shares: int) -> None:
        need(self.shares[account] >= shares, "balance")
        self.shares[account] -= shares
        self.total -= shares
        self.log("Transfer", **{"from": account, "to": ZERO, "value": shares})
        self.log("Withdraw", sender=account, receiver=receiver, owner=account, assets=amount, shares=shares)

    def withdraw(self, account: bytes, amount: int) -> None:
        self.op(4)
        self.touch()
        assets, total = self.pool
        self._out(account, amount, -(-amount * total // assets))

    def redeem(self, account: bytes, shares: int) -> None:
        self.op(8)
        self.touch()
        assets, total = self.pool
        need(shares * assets // total > 0, "zero assets")
        self._out(account, shares * assets // total, shares)

    def _out(self, account: bytes, amount: int, shares: int) -> None:
        need(0 < amount <= self.cash, "cash")
        self._burn(account, account, amount, shares)
        self.cash -= amount
        self.system.checked[account] = None

    def transfer(self, account: bytes, to: bytes, shares: int) -> None:
        self.touch()
        need(account != to and self.shares[account] >= shares, "balance")
        self.shares[account] -= shares
        self.shares[to] += shares
        self.log("Transfer", **{"from": account, "to": to, "value": shares})
        self.system.checked[account] = None

    def borrow(self, account: bytes, amount: int) -> None:
        self.op(64)
        self.touch()
        need(self.system.controller.get(account) == self.name, "controller")
        need(0 < amount <= self.cash, "cash")
        before, now = self.owed.get(account, (0, RAY))[0], self.debt_of(account)
        self.owed[account] = now + (amount << 31), self.acc
        self.debt += amount << 31
        self._said_borrow(account, amount, before, now + (amount << 31))
        self.cash -= amount
        self.system.checked[account] = None

    def _said_borrow(self, account: bytes, amount: int, before: int, after: int) -> None:
        interest = self.up(after) - self.up(before) - amount
        if interest:
            self.log("InterestAccrued", account=account, assets=interest)
        if amount:
            self.log("Borrow", account=account, assets=amount)

    def _decrease(self, account: bytes, amount: int) -> None:
        before, now = self.owed.get(account, (0, RAY))[0], self.debt_of(account)
        need(amount <= self.up(now), "too much")
        left = (self.up(now) - amount) << 31
        self.owed[account] = left, self.acc
        self.debt = self.debt - now + left if self.debt > now else left
        interest = self.up(left) + amount - self.up(before)
        if interest:
            self.log("InterestAccrued", account=account, assets=interest)
        if amount:
            self.log("Repay", account=account, assets=amount)

    def repay(self, account: bytes, amount: int | None) -> None:
        self.touch()
        amount = self.up(self.debt_of(account)) if amount is None else amount
        need(amount > 0, "nothing")
        self.cash += amount
        self._decrease(account, amount)

    def repay_with_shares(self, account: bytes, amount: int) -> None:
        self.touch()
        assets, total = self.pool
        amount = min(amount, self.up(self.debt_of(account)))
        need(amount > 0, "nothing")
        self._burn(account, account, amount, -(-amount * total // assets))
        self._decrease(account, amount)
        self.system.checked[account] = None

    def _hand(self, giver: bytes, taker: bytes, amount: int) -> None:
        exact = amount << 31
        stored, now = self.owed.get(giver, (0, RAY))[0], self.debt_of(giver)
        if (exact > now and exact - now < 1 << 31) or (exact < now and now - exact < 1 << 31):
            exact = now
        need(exact <= now, "debt")
        self.owed[giver] = now - exact, self.acc
        before, held = self.owed.get(taker, (0, RAY))[0], self.debt_of(taker)
        self.owed[taker] = held + exact, self.acc
        was, left = self.up(stored), self.up(now - exact)
        repaid = was - left if was > amount + left else amount
        if left + repaid - was:
            self.log("InterestAccrued", account=giver, assets=left + repaid - was)
        self.log("Repay", account=giver, assets=repaid)
        there, then = self.up(held + exact), self.up(before)
        self._said_borrow(taker, there - then if amount + then > there else amount, before, held + exact)

    def pull_debt(self, account: bytes, giver: bytes, amount: int | None) -> None:
        self.touch()
        need(account != giver and self.system.controller.get(account) == self.name, "controller")
        amount = self.up(self.debt_of(giver)) if amount is None else amount
        need(amount > 0, "nothing")
        self._hand(giver, account, amount)
        self.log("PullDebt", **{"from": giver, "to": account, "assets": amount})
        self.system.checked[account] = None

    def convert_fees(self, receiver: bytes, governor: bytes) -> None:
        self.touch()
        need(self.fees > 0, "no fees")
        mine = self.fees * 5_000 // 10_000
        theirs = self.fees - mine
        self.total -= self.fees
        self.fees = 0
        for to, shares in ((governor, mine), (receiver, theirs)):
            if shares:
                self._mint(to, ZERO, 0, shares)
        self.log(
            "ConvertFees", sender=receiver, protocol_receiver=receiver, governor_receiver=governor,
            protocol_shares=theirs, governor_shares=mine,
        )  # fmt: skip

    # health

    def ltv_of(self, name: str, liquidation: bool) -> int:
        borrow, target, initial, ends, lasts = self.ltv.get(name, (0, 0, 0, 0, 1))
        if not liquidation:
            return borrow
        if self.system.time >= ends or target >= initial:
            return target
        return target + (initial - target) * (ends - self.system.time) // lasts

    def value(self, account: bytes, name: str) -> int:
        tokens = self.system.vaults[name].convert(self.system.vaults[name].shares[account])
        return tokens * self.system.price[name] // 10 ** DECIMALS[name]

    def liquidity(self, account: bytes, liquidation: bool) -> tuple[int, int]:
        adjusted = 0
        for name in self.system.enabled[account]:
            ltv = self.ltv_of(name, liquidation)
            if ltv and self.system.vaults[name].shares[account]:
                adjusted += self.value(account, name) * ltv // 10_000
        owed = self.up(self.debt_of(account))
        return adjusted, owed * self.system.price[self.name] // 10 ** DECIMALS[self.name]

    def check(self, account: bytes) -> None:
        if self.owed.get(account, (0, RAY))[0]:
            adjusted, liability = self.liquidity(account, False)
            need(adjusted > liability, "account liquidity")

    def liquidate(self, liquidator: bytes, account: bytes, name: str, desired: int | None) -> None:
        self.op(2048)
        self.touch()
        system = self.system
        need(liquidator != account and name in self.ltv and name in system.enabled[account], "collateral")
        need(system.controller.get(account) == self.name == system.controller.get(liquidator), "controller")
        need(account not in system.checked, "deferred")
        need(system.time >= system.status.get(account, 0) + self.cool, "cool off")
        owed = self.up(self.debt_of(account))
        repay = shares = 0
        adjusted, liability = self.liquidity(account, True) if owed else (0, 0)
        vault = system.vaults[name]
        if liability and adjusted <= liability:
            factor = max(adjusted * E18 // liability, E18 - E18 * self.discount // 10_000)
            balance, worth = vault.shares[account], self.value(account, name)
            if worth == 0:
                shares = balance
            else:
                repay_value, yield_value = liability, liability * E18 // factor
                if worth < yield_value:
                    repay_value, yield_value = worth * factor // E18, worth
                repay, shares = repay_value * owed // liability, yield_value * balance // worth
        if desired is not None:
            need(desired <= repay, "excessive")
            if repay:
                repay, shares = desired, desired * shares // repay
        need(bool(repay or shares), "nothing")
        if repay:
            self._hand(account, liquidator, repay)
        if shares:
            vault.touch()
            vault.shares[account] -= shares
            vault.shares[liquidator] += shares
            vault.log("Transfer", **{"from": account, "to": liquidator, "value": shares})
        left = any(system.vaults[n].shares[account] for n in system.enabled[account] if n in self.ltv)
        if liability >= 10**6 and not self.flags & 1 and owed > repay and not left:
            self._decrease(account, owed - repay)
            self.log("Withdraw", sender=liquidator, receiver=ZERO, owner=ZERO, assets=owed - repay, shares=0)
            self.log("DebtSocialized", account=account, assets=owed - repay)
        self.log(
            "Liquidate", liquidator=liquidator, violator=account, collateral=vault.address, repay_assets=repay,
            yield_balance=shares,
        )  # fmt: skip
        system.checked[liquidator] = None

    def op(self, bit: int) -> None:
        need(not self.hooked & bit, "disabled")

    def new_rate(self) -> None:
        if self.model is not None:
            assets = self.cash + self.up(self.debt)
            base, low, high, kink = self.model
            used = self.up(self.debt) * (2**32 - 1) // assets if assets else 0
            self.rate = base + min(used, kink) * low + max(used - kink, 0) * high
            self.rate = min(self.rate, 291_867_278_914_945_094_175)

    def say(self) -> None:
        self.log(
            "VaultStatus", total_shares=self.total, total_borrows=self.up(self.debt), accumulated_fees=self.fees,
            cash=self.cash, interest_accumulator=self.acc, interest_rate=self.rate, at=self.system.time,
        )  # fmt: skip

    def status(self) -> None:
        self.new_rate()
        self.say()
        assert self.snapshot is not None
        cash, borrows = self.snapshot
        self.snapshot = None
        now = self.up(self.debt)
        need(not (now > self.borrow_cap and now > borrows), "borrow cap")
        supply = self.cash + (self.debt >> 31)
        need(not (supply > self.supply_cap and supply > cash + borrows), "supply cap")

    # governance

    def set_ltv(self, name: str, borrow: int, target: int, lasts: int = 0) -> None:
        current = self.ltv_of(name, True)
        need(not (target >= current and lasts), "ramp up")
        self.ltv[name] = borrow, target, current, self.system.time + lasts, lasts
        self.log(
            "GovSetLTV", collateral=VAULTS[name], borrow_ltv=borrow, liquidation_ltv=target,
            initial_liquidation_ltv=current, target_timestamp=self.system.time + lasts, ramp_duration=lasts,
        )  # fmt: skip

    def set_model(self, curve: tuple[int, int, int, int]) -> None:
        self.touch_quietly()
        self.model, self.rate = curve, 0
        self.new_rate()
        self.say()
        self.log("GovSetInterestRateModel", new_interest_rate_model=MODEL)

    def set_fee(self, fee: int) -> None:
        self.touch_quietly()
        self.say()
        self.fee = fee
        self.log("GovSetInterestFee", new_fee=fee)

    def touch_quietly(self) -> None:
        self.touch()
        self.snapshot = None
        self.system.touched.pop(self.name, None)


class _Nowhere:
    def __init__(self, time: int) -> None:
        self.time, self.touched = time, dict[str, None]()


def ahead(vault: PlainVault) -> PlainVault:
    """As ``loadVault`` sees it at the system's time; the vault itself stays."""
    copy = object.__new__(PlainVault)
    vars(copy).update(vars(vault))
    copy.system = _Nowhere(vault.system.time)  # type: ignore[assignment]
    copy.touch()
    copy.system = vault.system
    return copy


class System:
    """A lending vault of USDC against WETH and WBTC, whose vaults lend too, and the connector."""

    def __init__(self, time: int = START) -> None:
        self.block, self.transaction, self.time = 1, 0, time
        self.logs: list[tuple[int, int, int, bytes, str, dict[str, Any]]] = []
        self.prices: list[tuple[int, str, int]] = []
        self.price = {"USDC": E18, "WETH": 2_000 * E18, "WBTC": 30_000 * E18}
        self.controller: dict[bytes, str] = {}
        self.enabled: dict[bytes, list[str]] = defaultdict(list)
        self.status: dict[bytes, int] = {}
        self.checked: dict[bytes, None] = {}
        self.touched: dict[str, None] = {}
        self.vaults: dict[str, PlainVault] = {}
        for name in VAULTS:
            self.vaults[name] = PlainVault(self, name)
            creator = {"creator": FACTORY, "asset": TOKENS[name], "d_token": ZERO}
            self.log(VAULTS[name], "EVaultCreated", creator)
            self.vaults[name].say()
            made = {"proxy": VAULTS[name], "upgradeable": True, "implementation": ZERO}
            self.log(FACTORY, "ProxyCreated", {**made, "trailing_data": TOKENS[name] + ROUTER + USD})
        for name, token in TOKENS.items():
            pair = sorted((token, USD))
            self.log(ROUTER, "ConfigSet", {"asset0": pair[0], "asset1": pair[1], "oracle": ADAPTER[name]})
        for name in ("WETH", "WBTC"):
            self.log(ROUTER, "ResolvedVaultSet", {"vault": VAULTS[name], "asset": TOKENS[name]})
        lend = self.vaults["USDC"]
        for vault in self.vaults.values():
            vault.log("GovSetHookConfig", new_hook_target=ZERO, new_hooked_ops=0)
            vault.set_model(CURVE)
        lend.set_ltv("WETH", 8_300, 8_500)
        lend.set_ltv("WBTC", 7_800, 8_000)
        lend.discount, lend.cool = 1_500, 1
        lend.log("GovSetMaxLiquidationDiscount", new_discount=1_500)
        lend.log("GovSetLiquidationCoolOffTime", new_cool_off_time=1)
        for name, price in self.price.items():
            self.prices.append((len(self.logs) - 1, name, price))
        self.next()

    def log(self, address: bytes, event: str, columns: Mapping[str, Any]) -> None:
        self.logs.append((self.block, self.transaction, self.time, address, event, dict(columns)))

    def next(self, seconds: int = 12) -> None:
        """The next block."""
        self.block, self.transaction, self.time = self.block + 1, 0, self.time + seconds

    def move(self, name: str, price: int) -> None:
        """A price, from the next log on: it is a log of its own."""
        self.price[name] = price
        self.log(ROUTER, "FallbackOracleSet", {"fallback_oracle": ZERO})
        self.prices.append((len(self.logs) - 1, name, price))
        self.next()

    def enable(self, account: bytes, name: str, on: bool = True) -> None:
        need((name in self.enabled[account]) != on, "as it is")
        (self.enabled[account].append if on else self.enabled[account].remove)(name)
        self.log(EVC, "CollateralStatus", {"account": account, "collateral": VAULTS[name], "enabled": on})
        self.checked[account] = None

    def control(self, account: bytes, name: str = "USDC") -> None:
        """Its controller from here on."""
        self.controller[account] = name
        self.checked[account] = None

    def batch(self, *calls: Callable[[], None]) -> bool:
        """Calls of one transaction, all or none; whether they were made."""
        own = {key: value for key, value in vars(self).items() if key not in ("logs", "prices")}
        saved = deepcopy(own, {id(self): self})
        count = len(self.logs)
        self.transaction += 1
        try:
            for call in calls:
                call()
            for account in self.checked:
                if (name := self.controller.get(account)) is not None:
                    ahead(self.vaults[name]).check(account)
                    self.status[account] = self.time
                    self.log(EVC, "AccountStatusCheck", {"account": account, "controller": VAULTS[name]})
            for name in list(self.touched):
                self.vaults[name].status()
        except Reverted:
            vars(self).update(saved)
            del self.logs[count:]
            return False
        self.checked.clear()
        self.touched.clear()
        return True


SPECS = {spec.name: spec for spec in EVENTS}


class Raw:
    """``RawEvents`` of a system's logs."""

    parameters: Mapping[str, str] = {"vault": "0x" + VAULTS["USDC"].hex()}

    def __init__(self, system: System) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.spine: list[dict[str, Any]] = []
        places: dict[int, int] = defaultdict(int)
        for seq, (block, transaction, time, address, event, columns) in enumerate(system.logs):
            key = {
                "seq": seq, "timestamp": time, "block_number": block, "transaction_index": transaction,
                "log_index": places[block], "transaction_hash": block.to_bytes(31, "big") + bytes([transaction]),
                "address": address,
            }  # fmt: skip
            places[block] += 1
            self.spine.append(key)
            self.rows[event].append({**key, **columns})
        owners = {name[:19]: name for name in (who(number) for number in range(200))}
        for seq, (prefix, owner) in enumerate(owners.items()):
            key = {**self.spine[0], "seq": seq, "address": EVC}
            self.rows["OwnerRegistered"].append({**key, "address_prefix": prefix, "owner": owner})

    def table(self, event: str) -> pa.Table:
        """See ``RawEvents.table``."""
        if event == "raw/chain/Token":
            names = [(TOKENS[n], n, DECIMALS[n]) for n in TOKENS] + [
                (VAULTS[n], f"e{n}-1", DECIMALS[n]) for n in VAULTS
            ]
            rows = [{"address": address, "symbol": symbol, "decimals": digits} for address, symbol, digits in names]
            return pa.Table.from_pylist(rows, RAW_STATE[event])
        if event == "raw/chain/Reading":
            return pa.Table.from_pylist(self.readings(), RAW_STATE[event])
        if event == "Quarantine":
            return QUARANTINE.empty_table()
        head = pa.schema([("seq", pa.int64()), ("timestamp", pa.int64())])
        return pa.Table.from_pylist(self.rows[event], pa.schema([*head, *event_schema(SPECS[event])]))

    def readings(self) -> list[dict[str, Any]]:
        """What the model, adapters and feeds hold."""
        getters = ("baseRate()", "slope1()", "slope2()", "kink()")
        told = [(MODEL, call, value) for call, value in zip(getters, CURVE, strict=True)]
        for name in TOKENS:
            base, feed = (int.from_bytes(each[name], "big") for each in (TOKENS, FEEDS))
            told += [(ADAPTER[name], "feed()", feed), (ADAPTER[name], "base()", base), (FEEDS[name], "decimals()", 8)]
        return [
            {"block_number": 1, "address": address, "call": call, "value": value.to_bytes(32, "big")}
            for address, call, value in told
        ]

    def segments(self, rows: int, columns: Mapping[str, Sequence[str]]) -> Iterable[Mapping[str, pa.Table]]:
        """In one piece."""
        yield {name: self.table(name).select(["seq", "timestamp", *wanted]) for name, wanted in columns.items()}
