"""Who acts in the scenario, and what they want: seeded, and decided from what the chain says at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from eth_utils.crypto import keccak

from tests.chain.deployment import Deployment
from tests.chain.node import UINT256_MAX, Transaction

BASE = 10**8
SIZES = (8, 60, 700, 1_500, 4_000, 20_000, 90_000)  # US dollars
STABLES, MAJORS = ("USDC", "DAI"), ("WETH", "WBTC", "wstETH", "LINK")

# share of accounts, collateral choices, debt choices, e-mode, lowest and highest use of what may be borrowed (per cent)
KINDS = {
    "lender": (22, ("WETH", "WBTC", "USDC", "DAI", "wstETH", "LINK"), (), 0, 0, 0),
    "long": (40, MAJORS, STABLES, 0, 35, 97),
    "short": (10, STABLES, ("WETH", "WBTC", "LINK"), 0, 30, 90),
    "staker": (10, ("wstETH",), ("WETH",), 1, 60, 98),
    "stable": (8, STABLES, STABLES, 2, 50, 98),
    "neglected": (10, ("WETH", "WBTC", "LINK"), (*STABLES, "LINK"), 0, 92, 99),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """A transaction that someone wants, and what it is."""

    kind: str
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Attempt:
    """Arguments of one liquidationCall: symbols, native units (UINT256_MAX: all that is allowed)."""

    liquidator: str
    collateral: str
    debt: str
    user: str
    amount: int
    receive_a_token: bool


@dataclass(slots=True)
class Holding:
    """What one account has: native units by symbol (no zeros), symbols of enabled collateral, account data of the
    pool.
    """

    supplied: dict[str, int]
    debts: dict[str, int]
    enabled: list[str]
    available: int
    health: int


def addresses(count: int, seed: int, role: str) -> list[str]:
    return ["0x" + keccak(text=f"{role}/{seed}/{i}")[12:].hex() for i in range(count)]


class Players:
    """Accounts, and the dice that all of them share."""

    def __init__(self, count: int, seed: int, *, cautious: bool) -> None:
        self.dice = Random(seed)
        self.cautious = cautious
        self.accounts = addresses(count, seed, "account")
        self.liquidators = addresses(5, seed, "liquidator")
        names = [name for name, kind in KINDS.items() for _ in range(kind[0])]
        self.kinds = {account: names[i % len(names)] for i, account in enumerate(self.accounts)}
        self.health: dict[str, int] = {}

    def holdings(self, market: Deployment, accounts: list[str], block: int | str = "latest") -> list[Holding]:
        symbols = list(market.reserves)
        rows = zip(
            market.balances(accounts, block),
            market.user_configuration(accounts, block),
            market.account_data(accounts, block),
            strict=True,
        )
        result = []
        for balances, bits, data in rows:
            supplied = {symbol: balance for symbol, balance in zip(symbols, balances, strict=False) if balance}
            debts = {
                symbol: balance for symbol, balance in zip(symbols, balances[len(symbols) :], strict=True) if balance
            }
            enabled = [symbol for i, symbol in enumerate(symbols) if bits >> (2 * i + 1) & 1]
            result.append(Holding(supplied, debts, enabled, data[2] if data else 0, data[5] if data else UINT256_MAX))
        return result

    def _amount(self, market: Deployment, symbol: str, value: float, prices: dict[str, int]) -> int:
        """Native units worth ``value`` base-currency units."""
        return max(1, int(value) * market.reserves[symbol].unit // prices[symbol])

    # -- the first positions -----------------------------------------------------------------------------------------
    def first_supplies(self, market: Deployment) -> Iterator[Wish]:
        prices = market.prices()
        for account in self.accounts:
            kind = self.kinds[account]
            _, choices, *_ = KINDS[kind]
            count = 1 if kind in ("staker", "stable") else self.dice.choice((1, 1, 2, 3))
            size = 400_000 if kind == "lender" else self.dice.choice(SIZES)
            for symbol in self.dice.sample(choices, min(count, len(choices))):
                value = size * self.dice.uniform(0.7, 1.6) * BASE
                yield Wish("supply", market.supply(account, symbol, self._amount(market, symbol, value, prices)))

    def first_emodes(self, market: Deployment) -> Iterator[Wish]:
        for account in self.accounts:
            if category := KINDS[self.kinds[account]][3]:
                yield Wish("emode", market.set_emode(account, category))

    def first_borrows(self, market: Deployment) -> Iterator[Wish]:
        prices = market.prices()
        for account, holding in zip(self.accounts, self.holdings(market, self.accounts), strict=True):
            _, _, choices, _, low, high = KINDS[self.kinds[account]]
            choices = tuple(symbol for symbol in choices if symbol not in holding.supplied)
            if not choices:
                continue
            use = self.dice.uniform(low, min(high, 60) if self.cautious else high) / 100
            picked = self.dice.sample(choices, min(len(choices), self.dice.choice((1, 1, 1, 2))))
            for symbol in picked:
                yield Wish(
                    "borrow",
                    market.borrow(
                        account, symbol, self._amount(market, symbol, holding.available * use / len(picked), prices)
                    ),
                )

    # -- everyday life -----------------------------------------------------------------------------------------------
    def everyday(self, market: Deployment, count: int) -> list[Wish]:
        """What ``count`` accounts do next. Balances are those of the block that will be mined, so that "all" can mean
        all.
        """
        prices = market.prices()
        chosen = self.dice.sample([account for account in self.accounts if self.kinds[account] != "neglected"], count)
        wishes = []
        for account, holding in zip(chosen, self.holdings(market, chosen, "pending"), strict=True):
            wish = self._everyday(market, account, holding, prices)
            if wish:
                wishes.append(wish)
        return wishes

    def _everyday(self, market: Deployment, account: str, holding: Holding, prices: dict[str, int]) -> Wish | None:
        dice, reckless = self.dice, not self.cautious
        free = reckless or not holding.debts
        actions = ["supply", "supply", "supply", "repay", "repay", "repay for another", "repay all"]
        actions += ["withdraw", "withdraw", "withdraw all", "transfer", "transfer", "transfer all"] if free else []
        borrows = tuple(holding.debts) if self.cautious else ("USDC", "DAI", "WETH", "WBTC")
        actions += ["borrow", "borrow", "borrow"] if reckless or (borrows and holding.health > 2 * 10**18) else []
        actions += ["flag", "emode", "repay with aTokens"] if reckless else []
        action = dice.choice(actions)
        if action == "supply":
            symbol = dice.choice(list(market.reserves))
            return Wish(
                action, market.supply(account, symbol, self._amount(market, symbol, dice.choice(SIZES) * BASE, prices))
            )
        if action == "emode":
            return Wish(action, market.set_emode(account, dice.choice((0, 0, 1, 2, 3))))
        if action == "borrow":
            symbol = dice.choice(borrows)
            share = dice.uniform(0.1, 0.95) if reckless else 0.1
            return Wish(
                action, market.borrow(account, symbol, self._amount(market, symbol, holding.available * share, prices))
            )
        if action.startswith("repay"):
            return self._repay(market, account, holding, action)
        if not holding.supplied:
            return None
        symbol = dice.choice(list(holding.supplied))
        share = int(holding.supplied[symbol] * dice.uniform(0.05, 0.6)) or 1
        if action == "flag":
            return Wish(action, market.set_collateral(account, symbol, symbol not in holding.enabled))
        if action.startswith("withdraw"):
            return Wish(action, market.withdraw(account, symbol, UINT256_MAX if action.endswith("all") else share))
        amount = holding.supplied[symbol] if action.endswith("all") else share
        return Wish(action, market.transfer(account, dice.choice(self.accounts), symbol, amount))

    def _repay(self, market: Deployment, account: str, holding: Holding, action: str) -> Wish | None:
        if not holding.debts:
            return None
        symbol = self.dice.choice(list(holding.debts))
        share = int(holding.debts[symbol] * self.dice.uniform(0.05, 0.7)) or 1
        if action == "repay with aTokens":
            both = [symbol for symbol in holding.debts if symbol in holding.supplied]
            return Wish(action, market.repay_with_a_tokens(account, both[0])) if both else None
        if action == "repay for another":
            return Wish(action, market.repay(self.dice.choice(self.accounts), symbol, share, account))
        return Wish(action, market.repay(account, symbol, UINT256_MAX if action == "repay all" else share))

    # -- liquidators -------------------------------------------------------------------------------------------------
    def look(self, market: Deployment, *, everyone: bool) -> None:
        """Note health factors (wad) as of now, of everyone or of those who were weak at the last look; liquidators act
        on it.
        """
        watched = (
            self.accounts if everyone else [account for account, health in self.health.items() if health < 13 * 10**17]
        )
        rows = zip(watched, market.account_data(watched), strict=True)
        self.health |= {account: row[5] for account, row in rows if row}

    def attempts(self, market: Deployment, below: int, *, zeal: float, spare_neglected: bool) -> list[Attempt]:
        """Liquidations of accounts whose health factor was under ``below`` (wad), each with probability ``zeal``."""
        weak = [account for account, health in self.health.items() if health < below]
        weak = [
            account
            for account in weak
            if not (spare_neglected and self.kinds[account] == "neglected") and self.dice.random() < zeal
        ]
        if not weak:
            return []
        found = []
        for account, holding in zip(weak, self.holdings(market, weak), strict=True):
            collaterals = [symbol for symbol in holding.enabled if symbol in holding.supplied]
            if not collaterals or not holding.debts:
                continue
            for _ in range(self.dice.choice((1, 1, 1, 1, 2))):
                debt = self.dice.choice(list(holding.debts))
                part = int(holding.debts[debt] * self.dice.uniform(0.02, 0.7)) or 1
                amount = self.dice.choice((UINT256_MAX, UINT256_MAX, UINT256_MAX, part, part, holding.debts[debt], 1))
                liquidator = self.dice.choice(self.liquidators)
                found.append(
                    Attempt(liquidator, self.dice.choice(collaterals), debt, account, amount, self.dice.random() < 0.35)
                )
        return found
