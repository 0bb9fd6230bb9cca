"""Borrowers of a Morpho market who authorised pre-liquidation contracts, and a fall in steps that takes them past
their thresholds: calls by collateral and by shares, within the close factor and beyond it, from a healthy one and from
one that Morpho itself liquidates.

Contracts: ``early`` from 60 % on, its terms on a line; ``whole`` from 75 % on, all of a position at once; ``other``
asks an oracle of its own; ``endless`` has the largest close factor that there is; ``elsewhere`` is another market's.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from msgspec import structs

from backtest.markets import MarketConfig
from backtest.units import WAD
from tests.chain.contracts import artifacts_morpho, artifacts_pre_liquidation
from tests.chain.morpho import LIQUIDATORS, Deployment, Pair, deploy
from tests.chain.node import UINT256_MAX, Contract, Node, Transaction, revert_name

PERCENT = WAD // 100
TERMS = {
    "early": (60 * PERCENT, 10 * PERCENT, 70 * PERCENT, 101 * PERCENT, 108 * PERCENT),
    "whole": (75 * PERCENT, 80 * PERCENT, 160 * PERCENT, 102 * PERCENT, 102 * PERCENT),
    "other": (70 * PERCENT, 50 * PERCENT, 50 * PERCENT, 103 * PERCENT, 103 * PERCENT),
    "endless": (80 * PERCENT, 30 * PERCENT, UINT256_MAX, 102 * PERCENT, 105 * PERCENT),
    "elsewhere": (60 * PERCENT, 10 * PERCENT, 70 * PERCENT, 101 * PERCENT, 102 * PERCENT),
}
LENDER = f"0x{0xB20E0000:040x}"
BORROWERS = tuple(f"0x{0xB20E0001 + i:040x}" for i in range(24))


@dataclass(slots=True)
class Call:
    """A ``preLiquidate`` call, or (``contract`` empty) a ``liquidate`` of Morpho's; ``error`` is empty where it went
    through. ``gas`` is what the whole transaction used.
    """

    contract: str
    borrower: str
    seized: int
    shares: int
    block: int
    gas: int
    error: str


@dataclass(slots=True)
class Played:
    """What happened."""

    deployment: Deployment
    factory: Contract
    contracts: dict[str, Contract] = field(default_factory=dict)
    authorized: dict[str, tuple[str, ...]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    last_block: int = 0

    @property
    def pair(self) -> Pair:
        return self.deployment.pairs["weth-usdc"]

    def market_config(self) -> MarketConfig:
        """With the factory."""
        config = self.deployment.market_config("weth-usdc")
        return structs.replace(config, contracts={**config.contracts, "pre_liquidation_factory": self.factory.address})


def play(node: Node, seed: int = 3) -> Played:
    """The whole script."""
    draw, market = random.Random(seed), deploy(node)
    code = artifacts_pre_liquidation()
    played = Played(market, node.deploy(code["LineFactory"], market.morpho.address))
    pair, unit = played.pair, 10**6
    for token in (pair.loan, pair.collateral):
        node.send(token.transaction("mintMany", [LENDER, *BORROWERS, *LIQUIDATORS], 10**30))
    node.send(market.call(pair, "supply", 10**6 * unit, 0, LENDER, b"", sender=LENDER))
    _authorize(played, draw)
    for user in BORROWERS:
        coins = draw.randrange(10**17, 10**19)
        owed = coins * 2_000 * unit // 10**18 * draw.randrange(45, 70) // 100
        node.send_block(
            [
                market.call(pair, "supplyCollateral", coins, user, b"", sender=user),
                market.call(pair, "borrow", owed, 0, user, user, sender=user),
            ]
        )
    for step in range(16):
        pair.price = int(pair.price * (1 - draw.choice((0.01, 0.03, 0.06))))
        assert pair.feed is not None
        node.send(pair.feed.transmit(pair.price * 100_010 + draw.randrange(1000)))
        _liquidate(played, draw)
        if step == 9:  # one takes its word back
            user = next(user for user, names in played.authorized.items() if names == ("early",))
            node.send(_authorizes(played, user, played.contracts["early"], False))
            played.authorized[user] = ()
        node.send_block(
            [market.call(pair, "accrueInterest", sender=LENDER)], timestamp=node.timestamp() + draw.choice([12, 86_400])
        )
    played.last_block = node.block_number
    return played


def _authorize(played: Played, draw: random.Random) -> None:
    """Some before their contract is made, at the address that it will have."""
    node, deployment, pair = played.deployment.node, played.deployment, played.pair
    silent = node.deploy(artifacts_morpho()["SilentOracle"])
    silent.send("setPrice", 1_450 * 10**24)
    kinds = [("early",), ("whole",), ("early", "whole"), ("other",), ("endless",), ("early", "other"), ()]
    played.authorized = {user: kinds[place % len(kinds)] for place, user in enumerate(BORROWERS)}
    for name, terms in TERMS.items():
        market = deployment.pairs["wbtc-weth"] if name == "elsewhere" else pair
        oracle = silent.address if name == "other" else market.oracle.address
        wanted = bytes.fromhex(market.id[2:]), (*terms, oracle)
        code = artifacts_pre_liquidation()["Line"]
        made = Contract(node, played.factory.call("createPreLiquidation", *wanted), code.abi)
        users = [user for user, names in played.authorized.items() if name in names]
        before = users[: len(users) // 2] if name == "early" else []
        if before:
            node.send_block([_authorizes(played, user, made, True) for user in before])
        played.factory.send("createPreLiquidation", *wanted)
        node.send_block([_authorizes(played, user, made, True) for user in users if user not in before])
        played.contracts[name] = made
    node.send(_authorizes(played, LENDER, played.contracts["elsewhere"], True))


def _authorizes(played: Played, user: str, contract: Contract, allowed: bool) -> Transaction:
    return played.deployment.morpho.transaction("setAuthorization", contract.address, allowed, sender=user)


def _liquidate(played: Played, draw: random.Random) -> None:
    """Each account by a way drawn, now and then by one that it did not authorise."""
    market, pair, node = played.deployment, played.pair, played.deployment.node
    wishes: list[tuple[str, str, int, int, Transaction]] = []
    positions = market.positions(pair, BORROWERS)
    for user, (_, shares, collateral, _, owed, healthy) in zip(BORROWERS, positions, strict=True):
        worth = collateral * pair.price * 10**6 // 10**21
        if not shares or owed * 100 < worth * 58 or draw.random() < 0.4:
            continue
        ways = list(played.authorized[user]) or ["early"]
        name = draw.choice(ways) if healthy or draw.random() < 0.1 else ""
        sender, part = draw.choice(LIQUIDATORS), draw.choice((5, 10, 20, 40, 75, 100))
        form = draw.choice(("collateral", "shares"))
        seized = max(1, min(collateral, owed * 10**18 * 1000 // (pair.price * 10**6)) * part // 100)
        asked = (seized, 0) if form == "collateral" else (0, max(1, shares * part // 100))
        if name:
            call = played.contracts[name].transaction("preLiquidate", user, *asked, b"", sender=sender)
        else:
            call = market.call(pair, "liquidate", user, *asked, b"", sender=sender)
        wishes.append((name, user, *asked, call))
    receipts = node.send_block([wish[-1] for wish in wishes])
    for (name, user, seized, shares, _), receipt in zip(wishes, receipts, strict=True):
        error = ""
        if receipt["status"] != "0x1":
            error = revert_name(node, receipt["transactionHash"]) or "reverted"
        block, gas = int(receipt["blockNumber"], 16), int(receipt["gasUsed"], 16)
        played.calls.append(Call(name, user, seized, shares, block, gas, error))
        played.done[name or "liquidate"] += not error
