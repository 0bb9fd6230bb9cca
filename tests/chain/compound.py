"""Compound V2's lineage as ``@venusprotocol/venus-protocol`` 0.7.0 ships it: a Comptroller that rounds to nearest (G1),
in the middle of a crash upgraded to one that cuts (G5), four cTokens, and a script of users on them.

vWETH, vUSDC, vWBTC   jump rate model
vGUSD (2 decimals)    straight rate model (WhitePaperInterestRateModel)

VToken 0.7.0 asks the Comptroller for a treasury percentage when it redeems, which G1 does not have: redemptions go
through from the upgrade on only.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import decode
from eth_utils.crypto import keccak

from backtest.markets import MarketConfig
from tests.chain.contracts import artifact_venus, own
from tests.chain.node import Contract, Node, RpcError, Transaction

LIQUIDATORS = tuple(f"0x{0x11D0000 + i:040x}" for i in range(3))
TREASURY = "0x0DE0000000000000000000000000000000000DE0"
DAY = 86_400
WAD = 10**18
CODE_SIZE_LIMIT = 60_000
FAILURE = "0x" + keccak(text="Failure(uint256,uint256,uint256)").hex()
SEIZED = "0x" + keccak(text="LiquidateBorrow(address,address,uint256,address,uint256)").hex()


@dataclass(slots=True)
class CToken:
    """One cToken. ``price`` is USD cents for a whole token."""

    symbol: str
    contract: Contract
    token: Contract
    decimals: int
    price: int
    model: Contract

    @property
    def mantissa(self) -> int:
        """What the oracle says: USD per native unit, times 1e36."""
        return self.price * 10 ** (34 - self.decimals)


@dataclass(slots=True)
class Snapshot:
    """Of one account: Comptroller.getAccountLiquidity, and by symbol CToken.getAccountSnapshot without its error."""

    liquidity: int
    shortfall: int
    ctokens: dict[str, tuple[int, int, int]]


@dataclass(slots=True)
class Deployment:
    """Comptroller, oracle and cTokens."""

    node: Node
    unitroller: Contract
    comptroller: Contract
    rounding: str
    oracle: Contract
    ctokens: dict[str, CToken]
    start_block: int

    def market_config(self) -> MarketConfig:
        return MarketConfig(
            name="compound",
            protocol="compound-v2",
            chain_id=self.node.chain_id,
            start_block=self.start_block,
            contracts={"comptroller": self.comptroller.address},
            base_decimals=18,
            price_decimals=36,
            parameters={
                "accrual": "blocks",
                "periods_per_year": str(31_536_000 // 3),
                "revision": "2",
                "rounding_implementations": self.rounding,
            },
        )

    def upgrade(self, name: str) -> str:
        """The Comptroller runs this code from now on; its address."""
        code = self.node.deploy(artifact_venus(name))
        self.unitroller.send("_setPendingImplementation", code.address)
        code.send("_become", self.unitroller.address)
        self.comptroller = Contract(self.node, self.unitroller.address, code.abi)
        return code.address

    def snapshots(self, accounts: Sequence[str], block: int) -> list[Snapshot]:
        """What the contracts say of accounts at the end of a block."""
        liquidity = self.comptroller.function("getAccountLiquidity")
        requests: list[tuple[str, Sequence[Any]]] = []
        tag = hex(block)
        for account in accounts:
            data = {"to": self.comptroller.address, "data": "0x" + liquidity.encode([account]).hex()}
            requests.append(("eth_call", [data, tag]))
            for ctoken in self.ctokens.values():
                call = ctoken.contract.function("getAccountSnapshot").encode([account])
                requests.append(("eth_call", [{"to": ctoken.contract.address, "data": "0x" + call.hex()}, tag]))
        answers = iter(self.node.batch(requests))
        found = []
        for _ in accounts:
            error, more, less = decode(["uint256"] * 3, _bytes(next(answers)))
            assert error == 0
            held = {}
            for symbol in self.ctokens:
                error, *values = decode(["uint256"] * 4, _bytes(next(answers)))
                assert error == 0
                held[symbol] = (values[0], values[1], values[2])
            found.append(Snapshot(more, less, held))
        return found

    def totals(self, block: int) -> dict[str, tuple[int, ...]]:
        """By symbol: cash, borrows, reserves, supply, borrow index, block of the last accrual."""
        names = ("getCash", "totalBorrows", "totalReserves", "totalSupply", "borrowIndex", "accrualBlockNumber")
        return {s: tuple(c.contract.call(name, block=block) for name in names) for s, c in self.ctokens.items()}


def _bytes(answer: Any) -> bytes:
    if isinstance(answer, RpcError):
        raise answer
    return bytes.fromhex(answer[2:])


def deploy(node: Node, *, quiet: bool = False) -> Deployment:
    """All of it, listed and with prices; nothing supplied yet. ``quiet``: no log says a price."""
    oracle = node.deploy(own("QuietOracle.sol")["QuietOracle"] if quiet else artifact_venus("SimplePriceOracle"))
    start = node.block_number + 1
    unitroller = node.deploy(artifact_venus("Unitroller"))
    made = Deployment(node, unitroller, unitroller, "", oracle, {}, start)
    made.rounding = made.upgrade("ComptrollerG1")
    admin = made.comptroller
    admin.send("_setPriceOracle", oracle.address)
    admin.send("_setCloseFactor", WAD // 2)
    admin.send("_setLiquidationIncentive", 108 * WAD // 100)
    admin.send("_setMaxAssets", 20)
    jump = ("JumpRateModel", WAD // 50, WAD // 5, 2 * WAD, 8 * WAD // 10)
    straight = ("WhitePaperInterestRateModel", WAD // 20, WAD // 4)
    for symbol, decimals, price, factor, reserve, how in (
        ("WETH", 18, 200_013, 75, 10, jump),
        ("USDC", 6, 100, 80, 7, jump),
        ("WBTC", 8, 3_012_377, 60, 20, jump),
        ("GUSD", 2, 101, 71, 5, straight),
    ):
        token = node.deploy(own("Token.sol")["Token"], symbol, decimals)
        model = node.deploy(artifact_venus(how[0]), *how[1:])
        rate = 2 * 10 ** (18 + decimals - 8 - 2)
        ctoken = node.deploy(
            artifact_venus("VBep20Immutable"), token.address, admin.address, model.address, rate, f"Venus {symbol}",
            f"v{symbol}", 8, node.admin,
        )  # fmt: skip
        made.ctokens[symbol] = CToken(symbol, ctoken, token, decimals, price, model)
        admin.send("_supportMarket", ctoken.address)
        oracle.send("setDirectPrice", token.address, made.ctokens[symbol].mantissa)
        admin.send("_setCollateralFactor", ctoken.address, factor * WAD // 100)
        ctoken.send("_setReserveFactor", reserve * WAD // 100)
    return made


@dataclass(frozen=True, slots=True)
class Request:
    """A ``liquidateBorrow`` call, by symbols. ``done``: it went through."""

    block: int
    liquidator: str
    borrower: str
    debt: str
    collateral: str
    repay: int
    done: bool


@dataclass(slots=True)
class Record:
    """What happened. ``accounts`` are all that can hold anything; ``done`` and ``refused`` count calls."""

    deployment: Deployment
    accounts: list[str]
    requests: list[Request] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    last_block: int = 0


class _Script:
    def __init__(self, node: Node, users: int, seed: int, *, calm: bool, quiet: bool) -> None:
        self.node, self.random, self.calm = node, random.Random(seed), calm
        self.market = deploy(node, quiet=quiet)
        self.users = [f"0x{0xB10E0000 + i:040x}" for i in range(users)]
        ctokens = [ctoken.contract.address for ctoken in self.market.ctokens.values()]
        self.record = Record(self.market, [*self.users, *LIQUIDATORS, *ctokens])

    def block(self, wishes: Sequence[tuple[str, Transaction]], wait: int = 12) -> None:
        """Mine the wishes in one block, ``wait`` seconds after the last; count what fails."""
        if not wishes:
            return
        receipts = self.node.send_block([wish[1] for wish in wishes], timestamp=self.node.timestamp() + wait)
        for (what, _), receipt in zip(wishes, receipts, strict=True):
            (self.record.done if went_through(receipt) else self.record.refused)[what] += 1

    def run(self) -> Record:
        ctokens = list(self.market.ctokens.values())
        for ctoken in ctokens:
            self.node.send(ctoken.token.transaction("mintMany", self.record.accounts[: len(self.users) + 3], 10**30))
        self._open(ctokens)
        for step in range(36):
            self._live(step, ctokens)
        for ctoken in ctokens:
            ctoken.contract.send("accrueInterest")
        self.record.last_block = self.node.block_number
        self.record.samples = sorted({*self.record.samples, self.record.last_block})
        return self.record

    def _worth(self, ctoken: CToken, cents: int) -> int:
        """Native units of so many USD cents."""
        return max(1, cents * 10**ctoken.decimals // ctoken.price)

    def _open(self, ctokens: Sequence[CToken]) -> None:
        """A fifth lend; the others put up one or two cTokens and borrow up to near their limit."""
        draw, lenders = self.random, self.users[: len(self.users) // 5]
        for ctoken in ctokens:
            self.block(
                [
                    (
                        "mint",
                        ctoken.contract.transaction(
                            "mint", self._worth(ctoken, draw.randrange(10**7, 4 * 10**8)) + 1, sender=user
                        ),
                    )
                    for user in lenders
                ],
                60,
            )
        every = [ctoken.contract.address for ctoken in ctokens]
        for user in self.users[len(lenders) :]:
            held = draw.sample(list(ctokens), draw.choice([1, 2, 2, 3]))
            cents = {ctoken.symbol: int(10 ** draw.uniform(3.5, 7)) for ctoken in held}
            wishes = [
                ("mint", c.contract.transaction("mint", self._worth(c, cents[c.symbol]), sender=user)) for c in held
            ]
            entered = every if draw.random() < 0.2 else [c.contract.address for c in held]
            wishes.append(("enter", self.market.comptroller.transaction("enterMarkets", entered, sender=user)))
            self.block(wishes)
            limit = self.market.snapshots([user], self.node.block_number)[0].liquidity // 10**16
            borrowed = draw.sample(list(ctokens), draw.choice([1, 1, 2]))
            share = draw.uniform(0.6, 0.999) / len(borrowed)
            self.block(
                [
                    (
                        "borrow",
                        c.contract.transaction("borrow", self._worth(c, max(1, int(limit * share))), sender=user),
                    )
                    for c in borrowed
                ]
            )

    # -- one step ------------------------------------------------------------------------------------------------------

    def _live(self, step: int, ctokens: Sequence[CToken]) -> None:
        draw = self.random
        self._govern(step, ctokens)
        for ctoken in ctokens:
            if ctoken.symbol in ("WETH", "WBTC") or draw.random() < 0.2:
                moves = (
                    [-0.004, 0.003] if step < 8 or self.calm else [-0.08, -0.05, 0.02] if step < 20 else [0.01, -0.03]
                )
                ctoken.price = max(1, int(ctoken.price * (1 + draw.choice(moves)))) if ctoken.price > 200 else (
                    ctoken.price + draw.choice([-1, 0, 1])
                )  # fmt: skip
                token, price = ctoken.token.address, ctoken.mantissa + draw.randrange(10**6)
                self.node.send(self.market.oracle.transaction("setDirectPrice", token, price))
        self.record.samples.append(self.node.block_number)
        if not self.calm:
            self._liquidate(ctokens)
        self._everyday(ctokens)
        if step % 5 == 0:
            self.node.mine(draw.choice([20, 300]))
            self.block([("accrue", draw.choice(ctokens).contract.transaction("accrueInterest", sender=self.users[0]))])
        self.record.samples.append(self.node.block_number)

    def _govern(self, step: int, ctokens: Sequence[CToken]) -> None:
        market = self.market
        if step == 5:
            market.comptroller.send("_setSeizePaused", True)
            market.comptroller.send("_setMintPaused", ctokens[2].contract.address, True)
        elif step == 7:
            market.comptroller.send("_setSeizePaused", False)
            market.comptroller.send("_setMintPaused", ctokens[2].contract.address, False)
        elif step == 10:
            market.comptroller.send("_setCollateralFactor", ctokens[0].contract.address, 70 * WAD // 100)
            market.comptroller.send("_setLiquidationIncentive", 11 * WAD // 10)
        elif step == 13:
            market.upgrade("ComptrollerG5")
        elif step == 15:
            market.comptroller.send("_setCloseFactor", 6 * WAD // 10)
            gusd = market.ctokens["GUSD"].contract
            gusd.send("_setInterestRateModel", self.node.deploy(
                artifact_venus("JumpRateModel"), WAD // 40, WAD // 6, WAD, 7 * WAD // 10).address)  # fmt: skip
            market.comptroller.send("_setMarketBorrowCaps", [gusd.address], [10**9])
        elif step == 18:
            market.comptroller.send("_setTreasuryData", TREASURY, TREASURY, WAD // 10_000)
        elif step in (9, 21):  # somebody sends tokens to a cToken
            usdc = market.ctokens["USDC"]
            self.node.send(usdc.token.transaction("transfer", usdc.contract.address, 123_456_789, sender=self.users[0]))
        elif step == 24:
            ctokens[0].contract.send("_reduceReserves", 10**10)
            self.node.send(ctokens[1].contract.transaction("_addReserves", 987_654, sender=self.users[0]))

    def _liquidate(self, ctokens: Sequence[CToken]) -> None:
        """Those who have a shortfall now, each by an amount drawn; now and then too much, or of someone without one."""
        market, draw = self.market, self.random
        block, named = self.node.block_number, {ctoken.symbol: ctoken for ctoken in ctokens}
        wishes = []
        for user, seen in zip(self.users, market.snapshots(self.users, block), strict=True):
            owing = [symbol for symbol, (_, owed, _) in seen.ctokens.items() if owed]
            held = [symbol for symbol, (tokens, _, _) in seen.ctokens.items() if tokens]
            if not owing or not held or (not seen.shortfall and draw.random() > 0.02) or draw.random() < 0.4:
                continue
            debt, collateral = draw.choice(owing), draw.choice(held)
            owed = seen.ctokens[debt][1]
            most = owed // 2
            tokens, _, rate = seen.ctokens[collateral]
            covers = tokens * rate // WAD * named[collateral].mantissa * 90 // (named[debt].mantissa * 100)
            how = draw.random()
            repay = min(most, covers) if how < 0.5 else draw.randrange(1, max(2, min(most, covers)))
            if how > 0.9:
                repay = owed if how > 0.95 else most
            wishes.append((draw.choice(LIQUIDATORS), user, debt, collateral, max(1, repay)))
        calls = [
            named[debt].contract.transaction(
                "liquidateBorrow", user, repay, named[collateral].contract.address, sender=liquidator
            )
            for liquidator, user, debt, collateral, repay in wishes
        ]
        if not calls:
            return
        receipts = self.node.send_block(calls, timestamp=self.node.timestamp() + 12)
        for wish, receipt in zip(wishes, receipts, strict=True):
            done = any(log["topics"][0] == SEIZED for log in receipt["logs"])
            self.record.requests.append(Request(int(receipt["blockNumber"], 16), *wish, done))
            (self.record.done if done else self.record.refused)["liquidateBorrow"] += 1

    def _everyday(self, ctokens: Sequence[CToken]) -> None:
        market, draw = self.market, self.random
        chosen = draw.sample(self.users, 14)
        wishes = []
        for user, seen in zip(chosen, market.snapshots(chosen, self.node.block_number), strict=True):
            ctoken = draw.choice(ctokens)
            tokens, owed, _ = seen.ctokens[ctoken.symbol]
            small = self._worth(ctoken, int(10 ** draw.uniform(1, 6)))
            whole = draw.random() < 0.3
            what, args = draw.choice(
                [
                    ("mint", (small,)),
                    ("redeem", (tokens if whole else draw.randrange(0, tokens + 1),)),
                    ("redeemUnderlying", (small,)),
                    ("borrow", (small,)),
                    ("repayBorrow", (2**256 - 1 if whole else draw.randrange(0, owed + 1),)),
                    ("transfer", (draw.choice(self.users), tokens if whole else draw.randrange(0, tokens + 1))),
                    ("exitMarket", ()),
                    ("enterMarkets", ()),
                    ("transfer", (ctoken.contract.address, min(tokens, 3))),
                ]
            )
            if what in ("exitMarket", "enterMarkets"):
                address = ctoken.contract.address
                given = address if what == "exitMarket" else [address]
                wishes.append((what, market.comptroller.transaction(what, given, sender=user)))
            elif what == "transfer" and args[0] == user:
                continue
            else:
                wishes.append((what, ctoken.contract.transaction(what, *args, sender=user)))
        self.block(wishes, draw.choice([12, 12, 3600]))


def went_through(receipt: dict[str, Any]) -> bool:
    """Whether a call did what it was for: contracts of Solidity 0.5 return errors, with a ``Failure`` log."""
    return receipt["status"] == "0x1" and all(log["topics"][0] != FAILURE for log in receipt["logs"])


def run(node: Node, *, users: int = 110, seed: int = 11, calm: bool = False, quiet: bool = False) -> Record:
    """Play the script on a node of its own, started with ``CODE_SIZE_LIMIT``. ``calm``: nobody is liquidated;
    ``quiet``: the oracle logs nothing.
    """
    return _Script(node, users, seed, calm=calm, quiet=quiet).run()
