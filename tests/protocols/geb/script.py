"""Logs of a GEB collateral type as its contracts write them, built from the ABI: a script of calls becomes a chain that
a node serves. It keeps a book of its own, by the formulas of the source.
"""

from __future__ import annotations

from pathlib import Path

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.reconstruct import reconstruct
from tests.support.maker_logs import RAD, RAY, WAD, address, event, text32
from tests.support.synthetic import CHAIN_ID, Chain, ChainNode, MadeBlocks

_NAMES = ("safe engine", "tax", "relayer", "liquidation engine", "fixed house", "increasing house")
ENGINE, TAX, RELAYER, LIQUIDATIONS, FIXED_HOUSE, HOUSE = (address(f"geb {name}") for name in _NAMES)
ILK, OTHER = text32("ETH-A"), text32("ETH-B")
LEDGER = address("geb accounting engine")
CONFIG = MarketConfig(
    name="safes",
    protocol="geb",
    chain_id=CHAIN_ID,
    start_block=1,
    base_decimals=18,
    price_decimals=27,
    parameters={"collateral_type": "ETH-A", "coin": "RAI"},
    contracts={
        "safe_engine": ENGINE,
        "tax_collector": TAX,
        "oracle_relayer": RELAYER,
        "liquidation_engine_1": LIQUIDATIONS,
        "collateral": address("weth"),
        "coin": address("rai"),
    },
)


class Script(MadeBlocks):
    """Calls, a block at a time."""

    def __init__(self) -> None:
        super().__init__(event(ENGINE, "InitializeCollateralType(bytes32)", OTHER))
        self.rate = self.redemption = RAY
        self.ink: dict[str, int] = {}
        self.art: dict[str, int] = {}

    def init(self) -> Script:
        return self.add(event(ENGINE, "InitializeCollateralType(bytes32)", ILK))

    def file(self, emitter: str, what: str, value: int, ilk: bytes = ILK) -> Script:
        return self.add(event(emitter, "ModifyParameters(bytes32,bytes32,uint256)", ilk, text32(what), value))

    def file_all(self, emitter: str, what: str, value: int) -> Script:
        return self.add(event(emitter, "ModifyParameters(bytes32,uint256)", text32(what), value))

    def use(self, house: str) -> Script:
        words = ILK, text32("collateralAuctionHouse"), house
        return self.add(event(LIQUIDATIONS, "ModifyParameters(bytes32,bytes32,address)", *words))

    def redeem(self, price: int) -> Script:
        self.redemption = price
        return self.add(event(RELAYER, "UpdateRedemptionPrice(uint256)", price))

    def price(self, price: int, liquidation: int, safety: int) -> Script:
        """``updateCollateralPrice``; ``price`` wad, the ratios ray."""
        quotient = price * 10**9 * RAY // self.redemption
        words = price, quotient * RAY // safety, quotient * RAY // liquidation
        return self.add(event(RELAYER, "UpdateCollateralPrice(bytes32!,uint256,uint256,uint256)", ILK, *words))

    def tax(self, delta: int) -> Script:
        self.rate += delta
        kinds = "UpdateAccumulatedRate(bytes32!,address,int256,uint256,uint256)"
        return self.add(event(ENGINE, kinds, ILK, LEDGER, delta, RAD, 10**9 * RAD))

    def modify(self, who: str, dink: int, dart: int, ilk: bytes = ILK) -> Script:
        if ilk == ILK:
            self._change(who, dink, dart)
        safe = address(who)
        kinds = "ModifySAFECollateralization(bytes32!,address!,address,address,int256,int256,uint256,uint256,uint256)"
        after = max(0, self.ink.get(who, 0)), max(0, self.art.get(who, 0)), 10**9 * RAD
        return self.add(event(ENGINE, kinds, ilk, safe, safe, safe, dink, dart, *after))

    def transfer(self, src: str, dst: str, dink: int, dart: int) -> Script:
        self._change(src, -dink, -dart)
        self._change(dst, dink, dart)
        kinds = (
            "TransferSAFECollateralAndDebt(bytes32!,address!,address!,int256,int256,uint256,uint256,uint256,uint256)"
        )
        after = self.ink[src], self.art[src], self.ink[dst], self.art[dst]
        return self.add(event(ENGINE, kinds, ILK, address(src), address(dst), dink, dart, *after))

    def confiscate(self, who: str, dink: int, dart: int) -> Script:
        self._change(who, -dink, -dart)
        kinds = "ConfiscateSAFECollateralAndDebt(bytes32!,address!,address,address,int256,int256,uint256)"
        return self.add(event(ENGINE, kinds, ILK, address(who), LIQUIDATIONS, LEDGER, -dink, -dart, RAD))

    def liquidate(self, who: str, dink: int, dart: int, penalty: int, house: str, number: int = 1) -> Script:
        self.pad().confiscate(who, dink, dart)
        due = dart * self.rate
        if house == FIXED_HOUSE:
            kinds = "StartAuction(uint256,uint256,uint256,uint256,uint256!,address!,address!,uint256)"
            words = number, number, dink, 0, due * penalty // WAD, address(who), LEDGER, 2**48 - 1
        else:
            discounted = "uint256,uint256,uint256,uint48,address!,address!"
            kinds = f"StartAuction(uint256,uint256,uint256,uint256,uint256!,{discounted})"
            raised, discounts = due * penalty // WAD, (95 * WAD // 100, 90 * WAD // 100, RAY, 10**9)
            words = number, number, dink, 0, raised, *discounts, address(who), LEDGER
        self.add(event(house, kinds, *words))
        kinds = "Liquidate(bytes32!,address!,uint256,uint256,uint256,address,uint256)"
        return self.add(event(LIQUIDATIONS, kinds, ILK, address(who), dink, dart, due, house, number))

    def _change(self, who: str, dink: int, dart: int) -> None:
        self.ink[who] = self.ink.get(who, 0) + dink
        self.art[who] = self.art.get(who, 0) + dart

    def chain(self) -> Chain:
        return Chain(self.block + 3, self.logs)


PENALTY = 11 * WAD // 10
RATIO, SAFETY = 135 * RAY // 100, 140 * RAY // 100
RATE = RAY + 5 * 10**18
"""Ray a second."""


def played() -> Script:
    """Bob is liquidated in part through the fixed house, Carol whole through the increasing one."""
    s = Script().at(1).init().file(ENGINE, "debtCeiling", 10_000_000 * RAD).file(ENGINE, "debtFloor", 500 * RAD)
    s.file(TAX, "stabilityFee", RAY + 10**18).file_all(TAX, "globalStabilityFee", 0)
    s.file(RELAYER, "safetyCRatio", SAFETY).file(RELAYER, "liquidationCRatio", RATIO)
    s.file(LIQUIDATIONS, "liquidationPenalty", PENALTY).file(LIQUIDATIONS, "liquidationQuantity", 2_200 * RAD)
    s.file_all(LIQUIDATIONS, "onAuctionSystemCoinLimit", 1_000_000 * RAD).use(FIXED_HOUSE)
    s.at(2).file_all(FIXED_HOUSE, "discount", 97 * WAD // 100).file_all(FIXED_HOUSE, "minimumBid", 10 * WAD)
    s.file_all(HOUSE, "maxDiscount", 90 * WAD // 100).file_all(HOUSE, "perSecondDiscountUpdateRate", RAY - 10**22)
    s.redeem(3 * RAY).price(2_000 * WAD, RATIO, SAFETY).file_all(RELAYER, "redemptionRate", RATE)
    s.at(10).modify("alice", 10 * WAD, 1_000 * WAD).modify("bob", 10 * WAD, 4_500 * WAD)
    s.modify("carol", 10 * WAD, 1_000 * WAD).modify("eve", WAD, 100 * WAD, OTHER)
    s.at(20).tax(10**24).modify("carol", 0, 2_000 * WAD).at(25).modify("alice", -WAD, -100 * WAD)
    s.transfer("alice", "dave", 2 * WAD, 500 * WAD)
    s.at(30).redeem(3 * RAY + 10**20).price(1_800 * WAD, RATIO, SAFETY)
    dart = 2_200 * RAD * WAD // s.rate // PENALTY
    s.at(31).liquidate("bob", 10 * WAD * dart // (4_500 * WAD), dart, PENALTY, FIXED_HOUSE)
    s.at(40).use(HOUSE).file(LIQUIDATIONS, "liquidationQuantity", 90_000 * RAD)
    s.at(50).redeem(3 * RAY + 2 * 10**20).price(1_200 * WAD, RATIO, SAFETY)
    return s.at(51).liquidate("carol", 10 * WAD, 3_000 * WAD, PENALTY, HOUSE).at(60).price(1_100 * WAD, RATIO, SAFETY)


def fetched(made: Script, path: Path) -> Lake:
    """The script's chain, fetched and reconstructed."""
    lake = Lake(path / "lake", create=True)
    with ChainNode(made.chain()) as node, Rpc(node.url, backoff=0.001, max_backoff=0.02) as rpc:
        fetch(lake, CONFIG, rpc, finality=0)
    reconstruct(lake, CONFIG.name)
    lake.refresh()
    return lake
