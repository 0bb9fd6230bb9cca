"""Aave V2 deployed from its own bytecode (``@aave/protocol-v2`` 1.0.1), and a random crowd that lives in it.

Five reserves, prices in ETH with 18 decimals: WETH is one by definition, DAI and USDC have a feed proxy over an
aggregator, WBTC and LINK an aggregator that the oracle reads directly. Stable rates are on for DAI and WETH.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backtest.markets import MarketConfig
from tests.chain.contracts import artifact_v2, own
from tests.chain.node import UINT256_MAX, ZERO, Contract, Node, Transaction, revert_name

TREASURY = "0x7EA50000000000000000000000000000007EA500"
STABLE, VARIABLE = 1, 2
RAY_BPS = 10**23


@dataclass(frozen=True, slots=True)
class Listing:
    """How a reserve starts: price in wei, the rest in basis points; ``rates``: optimal usage, base, slope 1 and 2,
    stable slope 1 and 2.
    """

    symbol: str
    decimals: int
    price: int
    ltv: int
    threshold: int
    bonus: int
    reserve_factor: int
    rates: tuple[int, int, int, int, int, int]
    market_rate: int
    stable: bool = False


LISTINGS = (
    Listing("WETH", 18, 10**18, 8000, 8250, 10500, 1000, (6500, 0, 800, 10000, 1000, 10000), 300, True),
    Listing("DAI", 18, 5_190_000_000_000_000, 7500, 8000, 10500, 1000, (8000, 0, 400, 7500, 200, 7500), 390, True),
    Listing("USDC", 6, 5_150_000_000_000_000, 8000, 8500, 10500, 1000, (9000, 0, 400, 6000, 200, 6000), 390),
    Listing("WBTC", 8, 40_770_000_000_000_000_000, 7000, 7500, 11000, 2000, (6500, 0, 800, 10000, 1000, 10000), 300),
    Listing("LINK", 18, 19_800_000_000_000_000, 7000, 7500, 11000, 2000, (4500, 0, 700, 30000, 1000, 30000), 300),
)


@dataclass(slots=True)
class Reserve:
    symbol: str
    decimals: int
    asset: Contract
    a_token: Contract
    stable_token: Contract
    debt_token: Contract
    aggregator: Contract | None

    @property
    def unit(self) -> int:
        return int(10**self.decimals)


@dataclass(slots=True)
class MarketV2:
    """A deployed market, and its users' calls as transactions."""

    node: Node
    provider: Contract
    pool: Contract
    configurator: Contract
    oracle: Contract
    rate_oracle: Contract
    reader: Contract
    start_block: int
    reserves: dict[str, Reserve] = field(default_factory=dict)

    def market_config(self, name: str = "local-v2") -> MarketConfig:
        roles = {
            "provider": self.provider,
            "pool": self.pool,
            "configurator": self.configurator,
            "oracle": self.oracle,
        }
        return MarketConfig(
            name=name,
            protocol="aave-v2",
            chain_id=self.node.chain_id,
            start_block=self.start_block,
            contracts={role: contract.address for role, contract in roles.items()},
            base_decimals=18,
            base_currency="ETH",
        )

    def _pool(self, function: str, user: str, symbol: str, *args: Any) -> Transaction:
        return self.pool.transaction(function, self.reserves[symbol].asset.address, *args, sender=user)

    def deposit(self, user: str, symbol: str, amount: int, on_behalf_of: str | None = None) -> Transaction:
        return self._pool("deposit", user, symbol, amount, on_behalf_of or user, 0)

    def withdraw(self, user: str, symbol: str, amount: int = UINT256_MAX) -> Transaction:
        return self._pool("withdraw", user, symbol, amount, user)

    def borrow(self, user: str, symbol: str, amount: int, mode: int = VARIABLE) -> Transaction:
        return self._pool("borrow", user, symbol, amount, mode, 0, user)

    def repay(
        self, user: str, symbol: str, amount: int = UINT256_MAX, mode: int = VARIABLE, of: str | None = None
    ) -> Transaction:
        return self._pool("repay", user, symbol, amount, mode, of or user)

    def swap(self, user: str, symbol: str, mode: int) -> Transaction:
        """``mode`` is the one that the debt has now."""
        return self._pool("swapBorrowRateMode", user, symbol, mode)

    def rebalance(self, caller: str, symbol: str, user: str) -> Transaction:
        return self._pool("rebalanceStableBorrowRate", caller, symbol, user)

    def set_collateral(self, user: str, symbol: str, enabled: bool) -> Transaction:
        return self._pool("setUserUseReserveAsCollateral", user, symbol, enabled)

    def transfer(self, user: str, to: str, symbol: str, amount: int) -> Transaction:
        """Move aTokens."""
        return self.reserves[symbol].a_token.transaction("transfer", to, amount, sender=user)

    def liquidate(
        self, liquidator: str, collateral: str, debt: str, user: str, amount: int = UINT256_MAX, tokens: bool = False
    ) -> Transaction:
        owed = self.reserves[debt].asset.address
        return self._pool("liquidationCall", liquidator, collateral, owed, user, amount, tokens)

    def flash_loan(self, user: str, symbol: str, amount: int, receiver: str, mode: int) -> Transaction:
        """``mode`` 0 is paid back; the others become a debt of ``user``."""
        assets = [self.reserves[symbol].asset.address]
        return self.pool.transaction("flashLoan", receiver, assets, [amount], [mode], user, b"", 0, sender=user)

    def configure(self, function: str, symbol: str, *args: Any) -> Transaction:
        return self.configurator.transaction(function, self.reserves[symbol].asset.address, *args)

    # -- reads ---------------------------------------------------------------------------------------------------------
    def account_data(self, accounts: Sequence[str], block: int | str = "latest") -> list[tuple[int, ...] | None]:
        """``getUserAccountData`` of every account at the end of ``block``; None where it reverts."""
        data = self.node.call(
            self.reader.address,
            self.reader.function("accountData").encode((self.pool.address, list(accounts))),
            block=block,
        )
        words = [int.from_bytes(data[i : i + 32], "big") for i in range(64, len(data), 32)]
        rows = [tuple(words[i : i + 7]) for i in range(0, len(words), 7)]
        return [row[1:] if row[0] else None for row in rows]

    def prices(self) -> dict[str, int]:
        addresses = [reserve.asset.address for reserve in self.reserves.values()]
        return dict(zip(self.reserves, self.oracle.call("getAssetsPrices", addresses), strict=True))


def deploy_v2(node: Node) -> MarketV2:
    """A market of version 1.0.1, pool revision 2."""

    def made(name: str, *args: Any, libraries: dict[str, str] | None = None) -> Contract:
        return node.deploy(artifact_v2(name), *args, libraries=libraries)

    reader, start = node.deploy(own("Reader.sol")["Reader"]), node.block_number + 1
    provider = made("LendingPoolAddressesProvider", "local")
    for role in ("setPoolAdmin", "setEmergencyAdmin"):
        provider.send(role, node.admin)
    generic, reserve_logic = made("GenericLogic").address, made("ReserveLogic").address
    validation = made("ValidationLogic", libraries={"GenericLogic": generic}).address
    pool = made("LendingPool", libraries={"ReserveLogic": reserve_logic, "ValidationLogic": validation})
    provider.send("setLendingPoolImpl", pool.address)
    provider.send("setLendingPoolConfiguratorImpl", made("LendingPoolConfigurator").address)
    provider.send("setLendingPoolCollateralManager", made("LendingPoolCollateralManager").address)
    pool = Contract(node, provider.call("getLendingPool"), pool.abi)
    configurator = Contract(
        node, provider.call("getLendingPoolConfigurator"), artifact_v2("LendingPoolConfigurator").abi
    )
    tokens = {li.symbol: node.deploy(own("Token.sol")["Token"], li.symbol, li.decimals) for li in LISTINGS}
    feeds, sources = _feeds(node)
    addresses = [tokens[li.symbol].address for li in LISTINGS[1:]]
    oracle = made("AaveOracle", addresses, [sources[li.symbol] for li in LISTINGS[1:]], ZERO, tokens["WETH"].address)
    rate_oracle = made("LendingRateOracle")
    provider.send("setPriceOracle", oracle.address)
    provider.send("setLendingRateOracle", rate_oracle.address)
    market = MarketV2(node, provider, pool, configurator, oracle, rate_oracle, reader, start)
    for li in LISTINGS:
        _list(market, li, tokens[li.symbol], feeds.get(li.symbol))
    return market


def _feeds(node: Node) -> tuple[dict[str, Contract], dict[str, str]]:
    code = own("Feeds.sol")
    feeds, sources = {}, {}
    for li in LISTINGS[1:]:
        feeds[li.symbol] = node.deploy(code["Aggregator"], 18, f"{li.symbol} / ETH", li.price)
        proxied = li.symbol in ("DAI", "USDC")
        source = node.deploy(code["FeedProxy"], feeds[li.symbol].address) if proxied else feeds[li.symbol]
        sources[li.symbol] = source.address
    return feeds, sources


def _list(market: MarketV2, li: Listing, token: Contract, aggregator: Contract | None) -> None:
    node, pool = market.node, market.pool.address
    market.rate_oracle.send("setMarketBorrowRate", token.address, li.market_rate * RAY_BPS)
    a_token = node.deploy(artifact_v2("AToken"), pool, token.address, TREASURY, f"a{li.symbol}", f"a{li.symbol}", ZERO)
    debts = [
        node.deploy(artifact_v2(name), pool, token.address, f"{name} {li.symbol}", name, ZERO)
        for name in ("StableDebtToken", "VariableDebtToken")
    ]
    strategy = node.deploy(
        artifact_v2("DefaultReserveInterestRateStrategy"),
        market.provider.address,
        *(rate * RAY_BPS for rate in li.rates),
    )
    implementations = a_token.address, debts[0].address, debts[1].address
    market.configurator.send("initReserve", *implementations, li.decimals, strategy.address)
    data = market.pool.call("getReserveData", token.address)
    proxies = [Contract(node, data[7], a_token.abi), *(Contract(node, data[8 + i], debts[i].abi) for i in (0, 1))]
    market.reserves[li.symbol] = Reserve(li.symbol, li.decimals, token, *proxies, aggregator)
    for call in (
        market.configure("configureReserveAsCollateral", li.symbol, li.ltv, li.threshold, li.bonus),
        market.configure("enableBorrowingOnReserve", li.symbol, li.stable),
        market.configure("setReserveFactor", li.symbol, li.reserve_factor),
    ):
        node.send(call)


# -- a crowd ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """A call that was made alone in its block; ``error`` is why it failed, empty where it did not."""

    block: int
    kind: str
    user: str
    symbol: str
    amount: int
    error: str
    liquidator: str = ""
    debt: str = ""
    tokens: bool = False
    gas: int = 0


@dataclass(slots=True)
class Record:
    """What was played: who takes part, every call, and blocks to look at."""

    market: MarketV2
    accounts: list[str]
    requests: list[Request] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def liquidations(self) -> list[Request]:
        return [request for request in self.requests if request.kind == "liquidate" and not request.error]


KINDS = (
    *("deposit", "withdraw", "withdraw all", "borrow", "borrow stable", "repay", "repay all", "repay stable"),
    *("transfer", "transfer all", "collateral", "swap", "rebalance"),
)


class Crowd:
    """Random users of one market: they deposit, borrow at both rates, move, swap and repay, while prices fall and are
    liquidated by two liquidators.
    """

    def __init__(self, market: MarketV2, accounts: int, seed: int) -> None:
        self.market, self.random = market, random.Random(seed)
        self.users = [f"0x{0xB0000 + seed * 1000 + i:040x}" for i in range(accounts)]
        self.lender, *self.liquidators = market.node.accounts[1:4]
        self.symbols = list(market.reserves)
        everyone = [*self.users, self.lender, *self.liquidators]
        self.record = Record(market, [*everyone, TREASURY])
        for reserve in market.reserves.values():
            market.node.send(reserve.asset.transaction("mintMany", everyone, 10**12 * reserve.unit))

    def play(self, rounds: int) -> Record:
        market, node, draw = self.market, self.market.node, self.random
        for symbol, reserve in market.reserves.items():
            self.call("deposit", self.lender, symbol, self.worth(symbol, 3_000), only=market.deposit)
            for liquidator in self.liquidators:
                self.call("deposit", liquidator, symbol, reserve.unit, only=market.deposit)
        for user in self.users:
            self.settle_in(user)
        receiver = node.deploy(own("FlashBorrowerV2.sol")["FlashBorrowerV2"]).address
        for at in range(rounds):
            self.shake(at)
            if at % 3 == 0:
                symbol = draw.choice(self.symbols)
                amount = self.worth(symbol, 50)
                node.send(market.reserves[symbol].asset.transaction("mint", receiver, amount))
                for mode in (0, VARIABLE):
                    more = {"only": market.flash_loan, "receiver": receiver, "mode": mode}
                    self.call(f"flash loan {mode}", self.lender, symbol, amount, **more)
            for _ in range(len(self.users) // 2):
                self.anything(draw.choice(self.users))
            self.record.samples.append(node.block_number)
            self.liquidate_some()
            self.record.samples.append(node.block_number)
        return self.record

    def worth(self, symbol: str, ether: float) -> int:
        """Native units worth so much ETH."""
        reserve = self.market.reserves[symbol]
        return int(ether * 10**9) * 10**9 * reserve.unit // self.market.prices()[symbol]

    def call(self, kind: str, user: str, symbol: str, amount: int, *, only: Any = None, **more: Any) -> bool:
        """One transaction in a block of its own; recorded."""
        transaction = (only or getattr(self.market, kind))(user, symbol, amount, **more)
        return self._sent(transaction, kind=kind, user=user, symbol=symbol, amount=amount)

    def _sent(self, transaction: Transaction, **request: Any) -> bool:
        node, error = self.market.node, ""
        (receipt,) = node.send_block([transaction])
        if receipt["status"] != "0x1":
            error = revert_name(node, receipt["transactionHash"]) or "reverted"
        block, gas = int(receipt["blockNumber"], 16), int(receipt["gasUsed"], 16)
        self.record.requests.append(Request(block=block, error=error, gas=gas, **request))
        self.record.seen[f"{request['kind']} {'refused' if error else 'done'}"] += 1
        return not error

    def settle_in(self, user: str) -> None:
        """One to three collaterals, debts from dust to near the limit, some at a stable rate."""
        market, draw = self.market, self.random
        size = 10 ** draw.uniform(-6, 1.5)
        for symbol in draw.sample(self.symbols, draw.choice([1, 1, 2, 3])):
            self.call("deposit", user, symbol, self.worth(symbol, size) + draw.randrange(1, 1000), only=market.deposit)
        for symbol in draw.sample(self.symbols, draw.choice([1, 1, 2])):
            data = market.account_data([user])[0]
            assert data is not None
            amount = int(data[2] * draw.uniform(0.3, 1)) * market.reserves[symbol].unit // market.prices()[symbol]
            if amount:
                mode = STABLE if symbol in ("DAI", "WETH") and draw.random() < 0.5 else VARIABLE
                kind = "borrow" if mode == VARIABLE else "borrow stable"
                self.call(kind, user, symbol, amount, only=market.borrow, mode=mode)

    def anything(self, user: str) -> None:
        """A random call; many are refused."""
        market, draw = self.market, self.random
        kind, other = draw.choice(KINDS), draw.choice(self.users)
        symbol = draw.choice(self.symbols)
        if (
            kind.startswith(("withdraw", "transfer", "collateral", "repay", "swap", "rebalance"))
            and draw.random() < 0.9
        ):
            bits = market.pool.call("getUserConfiguration", user)[0]
            place = 0 if kind.startswith(("repay", "swap", "rebalance")) else 1
            symbol = draw.choice([s for i, s in enumerate(self.symbols) if bits >> 2 * i + place & 1] or self.symbols)
        reserve = market.reserves[symbol]
        held, stable, variable = (
            token.call("balanceOf", user) for token in (reserve.a_token, reserve.stable_token, reserve.debt_token)
        )
        if kind.startswith("repay"):
            kind = "repay stable" if stable else kind
        part = draw.choice([0.001, 0.05, 0.3, 1.0])
        if kind == "deposit":
            self.call(kind, user, symbol, self.worth(symbol, 10 ** draw.uniform(-9, 0)), only=market.deposit)
        elif kind == "withdraw":
            self.call(kind, user, symbol, int(held * part) + draw.randrange(2), only=market.withdraw)
        elif kind == "withdraw all":
            self.call(kind, user, symbol, UINT256_MAX, only=market.withdraw)
        elif kind in ("borrow", "borrow stable"):
            mode = STABLE if kind == "borrow stable" else VARIABLE
            self.call(kind, user, symbol, self.worth(symbol, 10 ** draw.uniform(-9, 1)), only=market.borrow, mode=mode)
        elif kind == "repay":
            self.call(kind, user, symbol, int(variable * part) + 1, only=market.repay)
        elif kind == "repay all":
            self.call(kind, user, symbol, UINT256_MAX, only=market.repay)
        elif kind == "repay stable":  # also less than the interest
            amount = draw.choice([1, int(stable * part) + 1, UINT256_MAX])
            self.call(kind, user, symbol, amount, only=market.repay, mode=STABLE)
        elif kind in ("transfer", "transfer all"):
            to = draw.choice([other, user, self.liquidators[0]])
            amount = held if kind == "transfer all" else int(held * part)
            self._sent(market.transfer(user, to, symbol, amount), kind=kind, user=user, symbol=symbol, amount=amount)
        elif kind == "collateral":
            on = draw.random() < 0.5
            self.call(kind, user, symbol, int(on), only=lambda u, s, a: market.set_collateral(u, s, bool(a)))
        elif kind == "swap":
            self.call(kind, user, symbol, STABLE if stable else VARIABLE, only=market.swap)
        else:
            self._sent(market.rebalance(other, symbol, user), kind=kind, user=user, symbol=symbol, amount=0)

    def shake(self, at: int) -> None:
        """Prices in ETH move, parameters change, time passes."""
        market, draw, node = self.market, self.random, self.market.node
        prices = market.prices()
        for symbol in self.symbols[1:]:
            if draw.random() < 0.8:
                move = draw.choice([0.85, 0.95, 1.0, 1.1, 1.25])
                aggregator = market.reserves[symbol].aggregator
                assert aggregator is not None
                node.send(aggregator.transaction("transmit", max(1, int(prices[symbol] * move))))
        if at % 3 == 1:
            li = draw.choice(LISTINGS)
            terms = li.ltv - 500, li.threshold - draw.choice([0, 100, 300]), li.bonus + 100
            node.send(market.configure("configureReserveAsCollateral", li.symbol, *terms))
            node.send(market.configure("setReserveFactor", draw.choice(self.symbols), draw.choice([0, 2000, 10_000])))
        if at % 5 == 4:
            node.send(market.configurator.transaction("setPoolPause", True))
            self.liquidate_some(2)
            node.send(market.configurator.transaction("setPoolPause", False))
        node.warp(draw.choice([60, 3600, 30 * 86_400]))
        node.mine()

    def liquidate_some(self, most: int = 1 << 30) -> None:
        """Whoever is below one, by a pair of theirs, and now and then somebody who is not or a pair that is not."""
        market, draw = self.market, self.random
        below = [
            user
            for user, data in zip(self.users, market.account_data(self.users), strict=True)
            if data is not None and (data[5] < 10**18 or draw.random() < 0.03)
        ]
        for user in below[:most]:
            bits = market.pool.call("getUserConfiguration", user)[0]
            held = [s for i, s in enumerate(self.symbols) if bits >> 2 * i + 1 & 1]
            owed = [s for i, s in enumerate(self.symbols) if bits >> 2 * i & 1]
            if not held or not owed or draw.random() < 0.05:
                held, owed = self.symbols, self.symbols
            collateral, debt = draw.choice(held), draw.choice(owed)
            reserve = market.reserves[debt]
            total = sum(token.call("balanceOf", user) for token in (reserve.stable_token, reserve.debt_token))
            amount = draw.choice([UINT256_MAX, UINT256_MAX, total // 2, total // 3, total, 1, 0, 1000])
            liquidator = user if draw.random() < 0.05 else draw.choice(self.liquidators)
            tokens = draw.random() < 0.4
            self._sent(
                market.liquidate(liquidator, collateral, debt, user, amount, tokens),
                kind="liquidate",
                user=user,
                symbol=collateral,
                amount=amount,
                liquidator=liquidator,
                debt=debt,
                tokens=tokens,
            )
