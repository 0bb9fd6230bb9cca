"""Morpho Blue 1.0.0 from its own source, with two markets, and a script of users on them: a crash, liquidations of both
forms, bad debt.

weth-usdc   WETH (18) for USDC (6), 86 %; adaptive curve; oracle of two feed proxies (ETH / USD over USDC / USD)
wbtc-weth   WBTC (8) for WETH (18), 91.5 %; the package's mock curve; an oracle that no log tells of. Its price has 46
decimals.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from backtest.markets import MarketConfig
from tests.chain.contracts import artifacts_morpho, own
from tests.chain.deployment import Feed, ReadAt
from tests.chain.node import ZERO, Contract, Node, Transaction, revert_name

OWNER = "0x0DE0000000000000000000000000000000000DE0"
RECIPIENTS = ("0xFEE0000000000000000000000000000000000001", "0xFEE0000000000000000000000000000000000002")
LIQUIDATORS = tuple(f"0x{0x11D0000 + i:040x}" for i in range(3))
DAY = 86_400


@dataclass(slots=True)
class Pair:
    """One market. ``params`` is the contract's MarketParams; ``price`` what one whole collateral is worth now, in
    thousandths of a loan token.
    """

    name: str
    params: tuple[str, str, str, str, int]
    id: str
    loan: Contract
    collateral: Contract
    loan_decimals: int
    collateral_decimals: int
    oracle: Contract
    feed: Feed | None
    price: int

    @property
    def price_decimals(self) -> int:
        return 36 + self.loan_decimals - self.collateral_decimals


@dataclass(slots=True)
class Deployment:
    """The contract with both markets."""

    node: Node
    morpho: Contract
    reader: Contract
    pairs: dict[str, Pair]
    start_block: int

    def market_config(self, name: str) -> MarketConfig:
        pair = self.pairs[name]
        return MarketConfig(
            name=name,
            protocol="morpho-blue",
            chain_id=self.node.chain_id,
            start_block=self.start_block,
            contracts={"morpho": self.morpho.address},
            base_currency="loan token",
            base_decimals=18,
            price_decimals=pair.price_decimals,
            parameters={"id": pair.id},
        )

    def call(self, pair: Pair, function: str, *args: Any, sender: str) -> Transaction:
        return self.morpho.transaction(function, pair.params, *args, sender=sender)

    def totals(self, pair: Pair, block: ReadAt = "latest") -> tuple[int, ...]:
        """See MorphoReader.totals."""
        return tuple(self.reader.call("totals", self.morpho.address, pair.params, block=block))

    def positions(self, pair: Pair, users: Sequence[str], block: ReadAt = "latest") -> list[tuple[int, ...]]:
        """See MorphoReader.positions."""
        return [
            tuple(row)
            for row in self.reader.call("positions", self.morpho.address, pair.params, list(users), block=block)
        ]


def deploy(node: Node) -> Deployment:
    """Both markets, created; nothing supplied yet."""
    code, sources = artifacts_morpho(), own("Feeds.sol")
    tokens = {
        symbol: node.deploy(own("Token.sol")["Token"], symbol, decimals)
        for symbol, decimals in (("USDC", 6), ("WETH", 18), ("WBTC", 8))
    }
    feeds = {}
    for name, answer in (("ETH", 2_000_00000000), ("USDC", 1_00010000)):
        aggregator = node.deploy(sources["Aggregator"], 8, f"{name} / USD", answer)
        feeds[name] = Feed(aggregator, node.deploy(sources["FeedProxy"], aggregator.address))
    start = node.block_number + 1
    morpho = node.deploy(code["Morpho"], OWNER)
    curve, mock = node.deploy(code["AdaptiveCurve"], morpho.address), node.deploy(code["IrmMock"])
    quotient = node.deploy(code["QuotientOracle"], feeds["ETH"].address, ZERO, 18, feeds["USDC"].address, ZERO, 6)
    silent = node.deploy(code["SilentOracle"])
    silent.send("setPrice", 17_123 * 10**43 + 7)
    made = (
        ("weth-usdc", tokens["USDC"], tokens["WETH"], 6, 18, quotient, curve, 86, feeds["ETH"], 2_000_000),
        ("wbtc-weth", tokens["WETH"], tokens["WBTC"], 18, 8, silent, mock, 91.5, None, 17_123),
    )
    pairs: dict[str, Pair] = {}
    for name, loan, collateral, loan_decimals, collateral_decimals, oracle, irm, lltv, feed, price in made:
        wad = int(lltv * 10) * 10**15
        params = (loan.address, collateral.address, oracle.address, irm.address, wad)
        node.send_block(
            [
                morpho.transaction("enableIrm", irm.address, sender=OWNER),
                morpho.transaction("enableLltv", wad, sender=OWNER),
            ]
        )
        receipt = morpho.send("createMarket", params)
        market_id = next(
            log["topics"][1] for log in receipt["logs"] if log["address"].lower() == morpho.address.lower()
        )
        pairs[name] = Pair(
            name, params, market_id, loan, collateral, loan_decimals, collateral_decimals, oracle, feed, price
        )
    return Deployment(node, morpho, node.deploy(code["MorphoReader"]), pairs, start)


@dataclass(frozen=True, slots=True)
class Request:
    """A ``liquidate`` call. One of ``seized`` and ``shares`` is zero; ``error`` is empty where it went through."""

    pair: str
    block: int
    transaction_hash: str
    liquidator: str
    borrower: str
    seized: int
    shares: int
    error: str


@dataclass(slots=True)
class Record:
    """What happened. ``accounts`` are all that can hold anything; ``refused`` names calls of users that failed:
    (market, block, what, error).
    """

    deployment: Deployment
    accounts: list[str]
    requests: list[Request] = field(default_factory=list)
    refused: list[tuple[str, int, str, str]] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    last_block: int = 0


class _Script:
    def __init__(self, node: Node, users: int, seed: int) -> None:
        self.node, self.random = node, random.Random(seed)
        self.market = deploy(node)
        self.users = [f"0x{0xB10E0000 + i:040x}" for i in range(users)]
        self.record = Record(self.market, [*self.users, *LIQUIDATORS, *RECIPIENTS])

    def block(self, wishes: Sequence[tuple[str, Pair, Transaction]], wait: int = 12) -> None:
        """Mine the wishes (what, market, transaction) in one block, ``wait`` seconds after the last; count and name
        what fails.
        """
        receipts = self.node.send_block([wish[2] for wish in wishes], timestamp=self.node.timestamp() + wait)
        for (what, pair, _), receipt in zip(wishes, receipts, strict=True):
            if receipt["status"] == "0x1":
                self.record.done[what] += 1
            else:
                error = revert_name(self.node, receipt["transactionHash"])
                self.record.refused.append((pair.name, int(receipt["blockNumber"], 16), what, error))

    def run(self) -> Record:
        people = self.record.accounts
        for pair in self.market.pairs.values():
            for token in (pair.loan, pair.collateral):
                self.node.send(token.transaction("mintMany", people, 10**30))
            self._open(pair)
        for step in range(40):
            self._live(step)
        for pair in self.market.pairs.values():
            self._close(pair)
        self.record.last_block = self.node.block_number
        self.record.samples = sorted({*self.record.samples, self.record.last_block})
        return self.record

    def _open(self, pair: Pair) -> None:
        """A fifth lend, all others borrow up to near their limit."""
        draw, call = self.random, self.market.call
        unit, lenders = 10**pair.loan_decimals, len(self.users) // 5
        lent = {user: draw.randrange(4_000, 12_000) * unit + 1 for user in self.users[:lenders]}
        self.block([("supply", pair, call(pair, "supply", lent[user], 0, user, b"", sender=user)) for user in lent])
        borrowers = self.users[lenders:]
        worth = {user: int(10 ** draw.uniform(1.5, 4.2) * unit) for user in borrowers}
        collateral = {
            user: worth[user] * 1000 * 10**pair.collateral_decimals // (pair.price * unit) + 1 for user in borrowers
        }
        deposits = [
            ("supplyCollateral", pair, call(pair, "supplyCollateral", collateral[u], u, b"", sender=u))
            for u in borrowers
        ]
        self.block(deposits[:40], 300)
        self.block(deposits[40:], 3600)
        loans = []
        for user in borrowers:
            amount = int(worth[user] * pair.params[4] // 10**18 * draw.uniform(0.5, 0.999))
            loans.append(("borrow", pair, call(pair, "borrow", amount, 0, user, user, sender=user)))
        self.block(loans[:30], 60)
        self.block(loans[30:], 7 * DAY)

    # -- one step: prices, liquidations, everyday ----------------------------------------------------------------------
    def _live(self, step: int) -> None:
        draw = self.random
        if step == 3:
            self._govern("setFeeRecipient", RECIPIENTS[0])
            for pair in self.market.pairs.values():
                self._govern("setFee", pair.params, 10**17)
        if step == 20:
            self._govern("setFeeRecipient", RECIPIENTS[1])
            self._govern("setFee", self.market.pairs["weth-usdc"].params, 2 * 10**17)
        for pair in self.market.pairs.values():
            # Down by a half over the crash, in jumps that some accounts do not survive; then up again a little.
            moves = [-0.004, 0.003] if step < 10 else [-0.09, -0.05, 0.02] if step < 20 else [0.01, -0.008]
            pair.price = max(1, int(pair.price * (1 + draw.choice(moves))))
            self._report(pair)
            self._liquidate(pair)
            self._everyday(pair)
        if step % 4 == 0:
            self.node.send_block(
                [self.market.call(pair, "accrueInterest", sender=self.users[0]) for pair in self.market.pairs.values()],
                timestamp=self.node.timestamp() + draw.choice([12, DAY, 20 * DAY]),
            )
        self.record.samples.append(self.node.block_number)
        self.node.send_block([self._nothing()], timestamp=self.node.timestamp() + draw.choice([12, 1000, DAY]))
        if step > 3:  # a block in which nothing of the markets happens: interest is what the contract would accrue
            self.record.samples.append(self.node.block_number)

    def _nothing(self) -> Transaction:
        return {"from": self.users[0], "to": self.users[0], "data": "0x"}

    def _govern(self, function: str, *args: Any) -> None:
        self.market.morpho.send(function, *args, sender=OWNER)
        self.record.samples.append(self.node.block_number)

    def _report(self, pair: Pair) -> None:
        if pair.feed is None:
            scaled = pair.price * 10 ** (pair.price_decimals - 3) + self.random.randrange(10**9)
            self.node.send(pair.oracle.transaction("setPrice", scaled))
        else:
            self.node.send(pair.feed.transmit(pair.price * 100_010 + self.random.randrange(1000)))

    def _liquidate(self, pair: Pair) -> None:
        """Those who look unhealthy now, each by a form drawn; now and then too much is asked for, or of someone
        healthy.
        """
        market, draw = self.market, self.random
        positions = market.positions(pair, self.users)
        wishes: list[tuple[str, int, int, str]] = []
        for user, (_, owed_shares, collateral, *_rest, healthy) in zip(self.users, positions, strict=True):
            if healthy and not (owed_shares and draw.random() < 0.01):
                continue
            if draw.random() < 0.3:  # not everyone is looked at
                continue
            liquidator = draw.choice(LIQUIDATORS)
            form = draw.choice(
                ["all-collateral", "all-shares", "some-collateral", "some-shares", "all-but-one", "too-much"]
            )
            seized, shares = 0, 0
            if form == "all-collateral":
                seized = collateral
            elif form == "some-collateral":
                seized = draw.randrange(1, collateral + 1)
            elif form == "all-but-one":
                seized = max(collateral - 1, 1)
            elif form == "all-shares":
                shares = owed_shares
            elif form == "some-shares":
                shares = draw.randrange(1, owed_shares + 1)
            else:
                seized, shares = (collateral + 1, 0) if draw.random() < 0.5 else (0, owed_shares + 1)
            wishes.append((user, seized, shares, liquidator))
        if not wishes:
            return
        calls = [
            market.call(pair, "liquidate", user, seized, shares, b"", sender=liquidator)
            for user, seized, shares, liquidator in wishes
        ]
        receipts = self.node.send_block(calls, timestamp=self.node.timestamp() + draw.choice([12, 12, 600]))
        for (user, seized, shares, liquidator), receipt in zip(wishes, receipts, strict=True):
            error = (
                "" if receipt["status"] == "0x1" else revert_name(self.node, receipt["transactionHash"]) or "reverted"
            )
            self.record.done["liquidate"] += not error
            block = int(receipt["blockNumber"], 16)
            self.record.requests.append(
                Request(pair.name, block, receipt["transactionHash"], liquidator, user, seized, shares, error)
            )

    def _everyday(self, pair: Pair) -> None:
        market, draw, call = self.market, self.random, self.market.call
        unit, coin = 10**pair.loan_decimals, 10**pair.collateral_decimals
        chosen = draw.sample(self.users, 12)
        wishes = []
        for user, (lent, owed_shares, collateral, _, owed, _) in zip(
            chosen, market.positions(pair, chosen), strict=True
        ):
            what = draw.choice(["supply", "withdraw", "borrow", "repay", "supplyCollateral", "withdrawCollateral"])
            by_shares = draw.random() < 0.4
            if what == "supply":
                args = (
                    (0, draw.randrange(1, 10**3) * unit * 10**6, user, b"")
                    if by_shares
                    else (draw.randrange(1, 700 * unit), 0, user, b"")
                )
            elif what == "withdraw":
                if not lent:
                    continue
                args = (0, lent if draw.random() < 0.3 else draw.randrange(1, lent + 1), user, user)
                args = args if by_shares else (draw.randrange(1, 10**5 * unit), 0, user, user)
            elif what == "borrow":
                args = (
                    (0, draw.randrange(1, 10**9) * unit, user, user)
                    if by_shares
                    else (draw.randrange(1, 2_000 * unit), 0, user, user)
                )
            elif what == "repay":
                if not owed_shares:
                    continue
                args = (0, owed_shares if draw.random() < 0.3 else draw.randrange(1, owed_shares + 1), user, b"")
                args = args if by_shares else (draw.randrange(1, owed + 1), 0, user, b"")
            elif what == "supplyCollateral":
                args = (draw.randrange(1, coin), user, b"")
            else:
                args = (collateral if draw.random() < 0.3 else draw.randrange(1, max(collateral, 1) + 1), user, user)
            wishes.append((what, pair, call(pair, what, *args, sender=user)))
        self.block(wishes, draw.choice([12, 12, 3600]))

    def _close(self, pair: Pair) -> None:
        """One last accrual of everything."""
        self.node.send(self.market.call(pair, "accrueInterest", sender=self.users[0]))
        self.record.samples.append(self.node.block_number)


def run(node: Node, *, users: int = 110, seed: int = 7) -> Record:
    """Play the script on a node of its own."""
    return _Script(node, users, seed).run()
