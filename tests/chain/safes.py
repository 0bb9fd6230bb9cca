"""GEB's lineage on the local node: the core of Open Dollar (SAFEEngine, OracleRelayer, LiquidationEngine,
CollateralAuctionHouse), and a script of owners, liquidators and buyers on it.

Parameters are set once more after the deployment, since what a contract is made with is in no log.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from eth_abi.abi import encode

from backtest.markets import MarketConfig
from tests.chain.contracts import artifacts_open_dollar
from tests.chain.node import Contract, Node, Reverted

WAD, RAY = 10**18, 10**27
RAD = WAD * RAY
ILK, BUYER = b"ETH-A".ljust(32, b"\0"), "0x00000000000000000000000000000000000b0b0b"
OWNERS = tuple(f"0x{0x5AFE00 + number:040x}" for number in range(100))
PENALTY, QUANTITY, LIMIT, FLOOR = 112 * WAD // 100, 10_000 * RAD, 400_000 * RAD, 2_000 * RAD
RATIO, SAFETY = 135 * RAY // 100, 145 * RAY // 100
MINIMUM, LEAST, MOST, RATE = 10 * WAD, 97 * WAD // 100, 85 * WAD // 100, RAY - 5 * 10**22


def _word(value: int | str) -> bytes:
    return encode(["address" if isinstance(value, str) else "uint256"], [value])


@dataclass
class Bought:
    """One purchase: the auction and the bid, what was left of it before, and the contracts' error."""

    number: int
    bid: int
    block: int
    left: int
    raising: int
    started: int
    refused: str | None


@dataclass
class Safes:
    """The deployment, and what its script did."""

    node: Node
    outside: Contract
    engine: Contract
    relayer: Contract
    liquidations: Contract
    house: Contract
    start_block: int
    purchases: list[Bought] = field(default_factory=list)
    calls: list[tuple[int, str, int, int, str]] = field(default_factory=list)
    """Of owners: block, SAFE, changes of collateral and debt, and the contracts' error, or nothing."""
    attempts: list[tuple[int, str, str]] = field(default_factory=list)
    """Liquidations: block, SAFE, and the contracts' error, or nothing."""

    def market_config(self) -> MarketConfig:
        return MarketConfig(
            name="safes",
            protocol="geb",
            chain_id=self.node.chain_id,
            start_block=self.start_block,
            base_decimals=18,
            price_decimals=27,
            parameters={"collateral_type": "ETH-A", "coin": "OD", "lineage": "open-dollar"},
            contracts={
                "safe_engine": self.engine.address.lower(),
                "oracle_relayer": self.relayer.address.lower(),
                "liquidation_engine_1": self.liquidations.address.lower(),
            },
        )

    def set(self, contract: Contract, parameter: str, value: int | str, *, typed: bool = True) -> None:
        name = parameter.encode().ljust(32, b"\0")
        if typed:
            contract.send("modifyParameters(bytes32,bytes32,bytes)", ILK, name, _word(value))
        else:
            contract.send("modifyParameters(bytes32,bytes)", name, _word(value))

    def price(self, value: int) -> None:
        """The feed moves on, and the relayer takes it up."""
        self.outside.send("setPrice", value)
        self.relayer.send("updateCollateralPrice", ILK)

    def tax(self, delta: int) -> None:
        self.engine.send("updateAccumulatedRate", ILK, BUYER, delta)

    def modify(self, who: str, dink: int, dart: int) -> None:
        """An owner's call."""
        if dink > 0:
            self.engine.send("modifyCollateralBalance", ILK, who, dink)
        refused = ""
        try:
            self.engine.send("modifySAFECollateralization", ILK, who, who, who, dink, dart, sender=who)
        except Reverted as error:
            refused = error.reason
        self.calls.append((self.node.block_number, who, dink, dart, refused))

    def liquidate(self, who: str) -> bool:
        try:
            self.liquidations.send("liquidateSAFE", ILK, who)
        except Reverted as error:
            self.attempts.append((self.node.block_number, who, error.reason))
            return False
        self.attempts.append((self.node.block_number, who, ""))
        return True

    def buy(self, number: int, bid: int) -> None:
        left, raising, started, *_ = self.house.call("auctions", number)
        refused = None
        try:
            self.house.send("buyCollateral", number, bid, sender=BUYER)
        except Reverted as error:
            refused = error.reason
        made = Bought(number, bid, self.node.block_number, left, raising, started, refused)
        self.purchases.append(made)


def deploy(node: Node) -> Safes:
    """All of it, authorised, with one collateral type."""
    made = artifacts_open_dollar()
    outside = node.deploy(made["Surroundings"])
    start = node.block_number + 1
    outside.send("setPrice", 2_000 * WAD)
    engine = node.deploy(made["SAFEEngine"], (10**60, 10**60))
    relayer = node.deploy(made["OracleRelayer"], engine.address, outside.address, (2 * RAY, 1))
    liquidations = node.deploy(made["LiquidationEngine"], engine.address, outside.address, (LIMIT, 10**6))
    house = node.deploy(
        made["CollateralAuctionHouse"],
        engine.address,
        liquidations.address,
        relayer.address,
        ILK,
        (MINIMUM, LEAST, MOST, RATE),
    )
    safes = Safes(node, outside, engine, relayer, liquidations, house, start)
    for contract in (relayer, liquidations):
        engine.send("addAuthorization", contract.address)
    safes.set(engine, "odSafeManager", outside.address, typed=False)
    engine.send("initializeCollateralType", ILK, encode(["uint256", "uint256"], [10**60, FLOOR]))
    of_relayer = encode(["address", "uint256", "uint256"], [outside.address, SAFETY, RATIO])
    relayer.send("initializeCollateralType", ILK, of_relayer)
    of_liquidations = encode(["address", "uint256", "uint256"], [house.address, PENALTY, QUANTITY])
    liquidations.send("initializeCollateralType", ILK, of_liquidations)
    for contract, name, value in (
        (engine, "debtFloor", FLOOR),
        (relayer, "safetyCRatio", SAFETY),
        (relayer, "liquidationCRatio", RATIO),
        (liquidations, "liquidationPenalty", PENALTY),
        (liquidations, "liquidationQuantity", QUANTITY),
        (liquidations, "collateralAuctionHouse", house.address),
    ):
        safes.set(contract, name, value)
    safes.set(liquidations, "onAuctionSystemCoinLimit", LIMIT, typed=False)
    for name, value in (
        ("minimumBid", MINIMUM), ("minDiscount", LEAST), ("maxDiscount", MOST), ("perSecondDiscountUpdateRate", RATE)
    ):  # fmt: skip
        safes.set(house, name, value, typed=False)
    engine.send("createUnbackedDebt", outside.address, BUYER, 10**9 * RAD)
    engine.send("approveSAFEModification", house.address, sender=BUYER)
    return safes


def play(node: Node, seed: int) -> Safes:
    """Twelve rounds: a redemption price that drifts, a price that falls, owners who draw and repay, a third of SAFEs
    liquidated where they may be, and purchases of parts and of all.
    """
    draw, safes = random.Random(seed), deploy(node)
    price = 2_000.0
    safes.price(int(price) * WAD)
    for who in OWNERS:
        worth = int(10 ** draw.uniform(0, 2.3) * WAD)
        share = draw.uniform(0.7, 1.01)
        safes.modify(who, worth, int(worth * price * share / 1.45))
    started = 0
    for _ in range(12):
        node.warp(draw.randrange(600, 7_200))
        price *= draw.choice((0.9, 0.95, 0.97, 1.01))
        safes.price(int(price * 10**6) * 10**12)
        _rate(safes, RAY + draw.choice((-3, 2, 5)) * 10**18)
        safes.tax(draw.randrange(10**23))
        for who in draw.sample(OWNERS, 4):
            safes.modify(who, draw.choice((0, WAD // 2)), draw.choice((-50, 30, 4_000)) * WAD)
        for who in draw.sample(OWNERS, len(OWNERS) // 3):
            locked, owed = safes.engine.call("safes", ILK, who)
            *_, rate, _, spot = safes.engine.call("cData", ILK)
            if owed and locked * spot < owed * rate and safes.liquidate(who):
                started += 1
        for auction in range(max(1, started - 8), started + 1):
            node.warp(draw.randrange(30, 900))
            safes.buy(auction, draw.choice((5, 200, 3_000, 9_995, 10**6)) * WAD)
    return safes


def _rate(safes: Safes, rate: int) -> None:
    """The redemption rate may only change in the second in which its price was updated."""
    node = safes.node
    node.send_block(
        [
            safes.relayer.transaction("redemptionPrice"),
            safes.relayer.transaction("updateRedemptionRate", rate),
        ]
    )
