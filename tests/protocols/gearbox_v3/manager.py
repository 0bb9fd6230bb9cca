"""A second writing of a credit manager's own bookkeeping, with its pool and its quotas: calls on them, the logs that
they leave and what is read at the end of each block, and canonical tables of those.

``wandered`` is a random sequence of many accounts, of other managers and of lenders. Cuts are those of ``math``.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backtest.protocols.gearbox_v3.events import BALANCE, INFO, OF_MODEL, OF_POOL, QUOTA
from backtest.protocols.gearbox_v3.math import (
    Owed,
    RateModel,
    decreased,
    fee_down,
    grown_down,
    increased,
    index_after_down,
    pool_interest_down,
    quota_index_after_down,
    quota_interest_down,
    revenue_change_to_zero,
)
from backtest.units import RAY
from tests.protocols.gearbox_v3.hand import START, USDC
from tests.protocols.gearbox_v3.raw import ADDRESSES, MODEL, TOKENS, Raw, folded, number, reading

Rows = dict[str, list[dict[str, Any]]]
STEEP = RateModel(8_000, 9_000, 0, 100, 125, 10_000)
"""That of ``raw``: nothing is charged for nothing lent."""
FLAT = RateModel(8_000, 9_000, 700, 0, 0, 0)
"""A rate that never moves, so that an index is all that an accrual writes."""
MANAGER, OTHERS = ADDRESSES["manager"], bytes.fromhex("77" * 20)
LENDER, KEEPER, OWNER = (bytes([0x70 + n]) * 20 for n in range(3))
PEOPLE = [bytes([0x10 + n]) * 20 for n in range(10)]
INTEREST_FEE, ETHER, BITCOIN = 2_500, 10**18, 10**8
UNITS = (USDC, ETHER, BITCOIN)


@dataclass
class Pool:
    """PoolV3's own numbers."""

    index: int = RAY
    rate: int = 0
    updated: int = START + 24
    expected: int = 0
    available: int = 0
    borrowed: int = 0
    revenue: int = 0
    revenue_updated: int = START + 24


@dataclass
class Own:
    """A credit account; ``quotas``: size and index of each token."""

    debt: int = 0
    last: int = 0
    interest: int = 0
    fees: int = 0
    held: list[int] = field(default_factory=lambda: [0, 0, 0])
    quotas: dict[int, tuple[int, int]] = field(default_factory=dict)


class Script:
    """A manager, its logs, what is read of it, and what it then holds."""

    def __init__(self, model: RateModel) -> None:
        self.logs: list[tuple[int, str, Mapping[str, Any]]] = []
        self.readings: list[dict[str, Any]] = []
        self.prices: list[tuple[int, int, int]] = []
        self.block, self.time = 3, START + 36
        self.model, self.pool, self.pools = STEEP, Pool(), set[int]()
        self.rates, self.indexes, self.rated = {1: 400, 2: 0}, {1: 1, 2: 1}, START + 24
        self.quoted: dict[int, int] = defaultdict(int)
        self.accounts: dict[bytes, Own] = {}
        self.touched: set[bytes] = set()
        self.log("AddQuotaToken", token=TOKENS[2])
        self.rate(1, 500)
        self.rate(2, 250)
        self.log("SetQuotaIncreaseFee", token=TOKENS[2], fee=30)
        self.settle()
        self.log("SetInterestRateModel", new_interest_rate_model=MODEL)
        words = {"curve": model[:6], "forbids": model[6:]}
        self.readings += [reading(self.block, MODEL, OF_MODEL[name], *value) for name, value in words.items()]
        self.accrue()
        self.model = model
        self.rerate()

    def log(self, event: str, **columns: Any) -> None:
        self.logs.append((self.block, event, columns))

    def price(self, asset: int, price: int) -> None:
        self.prices.append((self.block, asset, price))

    def settle(self, blocks: int = 1) -> None:
        """What is read at the end of the block; then some blocks on."""
        own = self.pool
        if self.block in self.pools:
            values = (own.index, own.rate, own.updated, own.expected, own.available, own.borrowed, own.revenue)
            calls = zip(OF_POOL, values, strict=True)
            self.readings += [reading(self.block, ADDRESSES["pool"], call, value) for call, value in calls]
        for who in sorted(self.touched):
            self._read(who)
        self.touched.clear()
        self.block, self.time = self.block + blocks, self.time + 12 * blocks

    def _read(self, who: bytes) -> None:
        own, word, keeper = self.accounts[who], number(who), ADDRESSES["quota_keeper"]
        told = (own.debt, own.last, own.interest + 1, own.fees, 1, 0, self.block, 1)
        self.readings.append(reading(self.block, MANAGER, f"{INFO} {word}", *told))
        for n, token in enumerate(TOKENS):
            self.readings.append(reading(self.block, token, f"{BALANCE} {word}", own.held[n]))
            quota = own.quotas.get(n, (0, 0))
            self.readings.append(reading(self.block, keeper, f"{QUOTA} {word} {number(token)}", *quota))

    # -- the pool ------------------------------------------------------------------------------------------------------

    def accrue(self, expected: int = 0, available: int = 0) -> None:
        """PoolV3._updateBaseInterest, before the rate."""
        own, seconds = self.pool, self.time - self.pool.updated
        own.expected += pool_interest_down(own.borrowed, own.rate, seconds) + self._revenue() + expected
        own.index = index_after_down(own.index, own.rate, seconds)
        own.available += available
        own.updated = own.revenue_updated = self.time
        self.pools.add(self.block)

    def rerate(self) -> None:
        self.pool.rate = self.model.rate_down(self.pool.expected, self.pool.available)

    def _revenue(self) -> int:
        return grown_down(self.pool.revenue, self.time - self.pool.revenue_updated)

    def _earning(self, more: int) -> None:
        self.pool.expected += self._revenue()
        self.pool.revenue = max(0, self.pool.revenue + more)  # cuts of many small changes may add up
        self.pool.revenue_updated = self.time

    def lend(self, assets: int) -> None:
        """A lender brings, or takes, some."""
        self.accrue(assets, assets)
        self.rerate()
        own = {"owner": LENDER, "assets": abs(assets), "shares": abs(assets)}
        self.log(*(("Deposit",) if assets > 0 else ("Withdraw",)), **own, sender=LENDER, receiver=LENDER)

    def others(self, amount: int) -> None:
        """Another manager borrows, or repays."""
        self.accrue(0, -amount)
        self.rerate()
        self.pool.borrowed += amount
        if amount > 0:
            self.log("Borrow", credit_manager=OTHERS, credit_account=OTHERS, amount=amount)
        else:
            self.log("Repay", credit_manager=OTHERS, borrowed_amount=-amount, profit=0, loss=0)

    # -- quotas --------------------------------------------------------------------------------------------------------

    def index(self, token: int) -> int:
        return quota_index_after_down(self.indexes[token], self.rates[token], self.time - self.rated)

    def rate(self, token: int, rate: int) -> None:
        """PoolQuotaKeeperV3.updateRates of one token; the other's rate is told again."""
        for each in (1, 2):
            self.indexes[each] = self.index(each)
        for each in (1, 2):
            after = rate if each == token else self.rates[each]
            quoted = self.quoted[each]
            self._earning(quoted * after // 10**4 - quoted * self.rates[each] // 10**4)
            self.rates[each] = after
            self.log("UpdateTokenQuotaRate", token=TOKENS[each], rate=after)
        self.rated = self.time

    def quote(self, who: bytes, token: int, change: int) -> None:
        """PoolQuotaKeeperV3.updateQuota; ``who`` may be another manager's."""
        self.quoted[token] += change
        self._earning(revenue_change_to_zero(self.rates[token], change))
        own = self.accounts.get(who)
        if own is not None:
            quota, last = own.quotas.pop(token, (0, 0))
            own.interest += quota_interest_down(quota, self.index(token), last)
            fee = 30 if token == 2 else 0
            own.fees += fee_down(change, fee) if change > 0 else 0
            if quota + change:
                own.quotas[token] = quota + change, self.index(token)
        self.log("UpdateQuota", credit_account=who, token=TOKENS[token], quota_change=change)

    # -- accounts ------------------------------------------------------------------------------------------------------

    def owed(self, own: Own) -> Owed:
        interest = own.interest
        for token, (quota, last) in own.quotas.items():
            interest += quota_interest_down(quota, self.index(token), last)
        index = index_after_down(self.pool.index, self.pool.rate, self.time - self.pool.updated)
        return Owed(own.debt, index, own.last, interest, own.fees, INTEREST_FEE)

    def begin(self, who: bytes) -> Own:
        if who not in self.accounts:
            self.accounts[who] = Own()
            self.log("OpenCreditAccount", credit_account=who, on_behalf_of=OWNER, caller=OWNER, code=0)
        self.touched.add(who)
        self.log("StartMultiCall", credit_account=who, caller=OWNER)
        return self.accounts[who]

    def add(self, who: bytes, token: int, amount: int) -> None:
        event = "AddCollateral" if amount > 0 else "WithdrawCollateral"
        self.accounts[who].held[token] += amount
        self.log(event, credit_account=who, token=TOKENS[token], amount=abs(amount), to=OWNER)

    def borrow(self, who: bytes, amount: int) -> None:
        own = self.accounts[who]
        self.accrue(0, -amount)
        self.rerate()
        self.pool.borrowed += amount
        own.debt, own.last = increased(amount, own.debt, self.pool.index, own.last)
        own.held[0] += amount
        self.log("Borrow", credit_manager=MANAGER, credit_account=who, amount=amount)

    def repay(self, who: bytes, amount: int) -> None:
        """CreditManagerV3.manageDebt; all of it where ``amount`` is as much, after its quotas ended."""
        own = self.accounts[who]
        if amount >= self.owed(own).total:
            for token, (quota, _) in list(own.quotas.items()):
                self.quote(who, token, -quota)
        owed = self.owed(own)
        paid = decreased(amount, owed)
        self._repaid(owed.debt - paid.debt, paid.amount, paid.profit, 0)
        own.debt, own.last, own.interest, own.fees = paid.debt, paid.last, paid.quota_interest, paid.quota_fees
        own.quotas = {token: (quota, self.index(token)) for token, (quota, _) in own.quotas.items()}
        own.held[0] = max(0, own.held[0] - paid.amount)

    def _repaid(self, principal: int, cash: int, profit: int, loss: int) -> None:
        self.accrue(profit - loss, cash)
        self.rerate()
        self.pool.borrowed -= principal
        self.log("Repay", credit_manager=MANAGER, borrowed_amount=principal, profit=profit, loss=loss)

    def liquidate(self, who: bytes, loss: int) -> None:
        """A whole account; ``loss``: what the pool lacks, else the treasury has its profit."""
        own = self.begin(who)
        self.log("FinishMultiCall")
        for token, (quota, _) in list(own.quotas.items()):
            self.quote(who, token, -quota)
        owed = self.owed(own)
        profit = 0 if loss else owed.fees + 7
        self._repaid(owed.debt, owed.debt + owed.interest + profit - loss, profit, loss)
        self.accounts[who] = Own(last=own.last, held=[own.held[0] // 2, 0, 0])
        ends = {"credit_account": who, "liquidator": KEEPER, "to": KEEPER}
        self.log("LiquidateCreditAccount", **ends, remaining_funds=0)


def wandered(seed: int, model: RateModel, steps: int = 120) -> Script:
    """Random calls, with pauses of seconds and of years; ramps of thresholds, new rates, a token without a quota."""
    draw, script = random.Random(seed), Script(model)
    for asset, price in ((0, 10**8), (1, 2_000 * 10**8), (2, 30_000 * 10**8)):
        script.price(asset, price)
    script.lend(10**7 * USDC)
    for step in range(steps):
        script.settle(draw.choice([1, 1, 300, 20_000, 250_000]))
        _others(draw, script, step)
        for who in draw.sample(PEOPLE, draw.choice([1, 1, 2])):
            _call(draw, script, who)
    script.settle(draw.choice([400, 2_000_000]))
    return script


def _others(draw: random.Random, script: Script, step: int) -> None:
    """What accounts of this manager do not do: two blocks of three have nothing of it."""
    if step % 3 == 0:
        script.price(1, draw.randrange(1_000, 3_000) * 10**8 + draw.randrange(10**8))
    if step % 10 == 4:
        script.price(0, draw.randrange(95, 105) * 10**6)
    if step % 6 == 1:
        free = script.pool.available
        script.lend(draw.choice([draw.randrange(1, 10**6 * USDC), -draw.randrange(1, max(free // 3, 2))]))
    elif step % 6 == 3 and script.pool.available > USDC:
        script.others(draw.randrange(1, script.pool.available // 2))
    if step % 14 == 9:
        script.rate(draw.choice([1, 2]), draw.choice([0, 333, 4_000]))
    if step % 11 == 5:
        script.quote(OTHERS, draw.choice([1, 2]), draw.randrange(1, 10**6 * USDC))
    if step == 40:
        ends = {"timestamp_ramp_start": script.time + 5_000, "timestamp_ramp_end": script.time + 4_000_001}
        own = {"liquidation_threshold_initial": 9_000, "liquidation_threshold_final": 7_001}
        script.log("ScheduleTokenLiquidationThresholdRamp", token=TOKENS[1], **own, **ends)
    if step == 100:
        script.log("SetTokenLiquidationThreshold", token=TOKENS[1], liquidation_threshold=8_800)
    if step == 60:
        fees = {"fee_liquidation": 100, "liquidation_premium": 500}
        script.log("UpdateFees", **fees, fee_liquidation_expired=100, liquidation_premium_expired=200)


def _call(draw: random.Random, script: Script, who: bytes) -> None:
    own, free = script.accounts.get(who, Own()), script.pool.available
    kind = draw.choice(["borrow", "borrow", "repay", "interest", "quota", "move", "liquidate"])
    if not own.debt:
        kind = "borrow"
    if kind == "liquidate":
        script.liquidate(who, draw.choice([0, 0, 3 * USDC]))
        return
    if kind == "borrow" and free < 2 * USDC:
        return
    own = script.begin(who)
    if kind == "borrow":
        amount = draw.randrange(USDC, min(free, 200_000 * USDC) + 1)
        token = draw.choice([1, 2])
        script.borrow(who, amount)
        per = 2_000 if token == 1 else 30_000
        script.add(who, token, amount * UNITS[token] // USDC // per * draw.randrange(50, 200) // 100 + 1)
        script.add(who, 0, -draw.randrange(own.held[0] + 1))
        if draw.random() < 0.9:
            script.quote(who, token, draw.randrange(amount // 2 + 1, 2 * amount))
    elif kind == "repay":
        total = script.owed(own).total
        script.repay(who, draw.choice([total, draw.randrange(max(1, total // 2), total + 1)]))
    elif kind == "interest":
        script.repay(who, draw.randrange(1, script.owed(own).total - own.debt + 2))
    elif kind == "quota" and own.quotas:
        token = draw.choice(sorted(own.quotas))
        quota = own.quotas[token][0]
        script.quote(who, token, draw.choice([-quota, quota // 2 + 1, -(quota // 3) - 1]))
    else:
        token = draw.choice([1, 2])
        script.add(who, token, draw.randrange(1, UNITS[token]))
    script.log("FinishMultiCall")


def raw_of(script: Script) -> Raw:
    """Logs and readings of a script, the last block's among them."""
    return Raw(script.logs, script.readings)


def lake_rows(script: Script) -> Rows:
    """All canonical rows, with prices and blocks: those with logs, and one between each two."""
    raw = raw_of(script)
    rows, first = folded(raw), {}
    for own in raw.rows.values():
        for row in own:
            first[row["block_number"]] = min(first.get(row["block_number"], row["seq"]), row["seq"])
    blocks = sorted({*first, script.block, *((one + two) // 2 for one, two in zip(first, [*first][1:], strict=False))})
    prices = [
        {
            "seq": first[block],
            "block_number": block,
            "log_index": 0,
            "timestamp": START + 12 * block,
            "asset_id": asset,
            "price": price,
            "method": "feed",
            "exact": True,
        }
        for block, asset, price in script.prices
    ]
    headers = [{"block_number": block, "timestamp": START + 12 * block} for block in blocks]
    return {**rows, "prices": prices, "blocks": headers}
