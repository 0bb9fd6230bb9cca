"""Records a session on the compiled Comet, for ``test_compound_v3_recorded.py``: logs, readings, and what the contract
says of every account. Comet is on no package registry and its licence keeps its source out of here: whoever has it may
record again. With its source compiled (solc 0.8.15, via IR, standard JSON) into a file that holds contract name to
[abi, creation code in hex]:

    python -m tests.protocols.compound_v3.record COMPILED.json tests/recorded/compound-v3

What is recorded: compound-finance/comet at d5a30b0aaeff7755f1431e87f818990902237b03 (29 May 2026).
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backtest.fetch.rpc import Rpc
from backtest.log_files import collect_facts
from backtest.markets import MarketConfig
from tests.chain.contracts import Artifact, own
from tests.chain.node import UINT256_MAX, ZERO, Contract, Node, Reverted

WAD, USD, DAY = 10**18, 10**8, 86_400
ADMIN, GOVERNOR, TREASURY = (f"0x{0xAD0000 + n:040x}" for n in range(3))
USERS = tuple(f"0x{0x05E4000 + n:040x}" for n in range(24))
BUYERS = tuple(f"0x{0xB0B000 + n:040x}" for n in range(3))
TOKENS = (("USDC", 6, USD), ("WETH", 18, 2_000 * USD), ("WBTC", 8, 30_000 * USD), ("COMP", 18, 50 * USD))
ADDED = ("UNI", 18, 5 * USD)
SAMPLED = 5
"""A block in so many is one whose accounts are told."""


@dataclass
class Session:
    """One market as it goes. ``prices`` are what each feed said last."""

    node: Node
    compiled: dict[str, Artifact]
    draw: random.Random
    tokens: dict[str, Contract] = field(default_factory=dict)
    feeds: dict[str, tuple[Contract, Contract]] = field(default_factory=dict)
    decimals: dict[str, int] = field(default_factory=dict)
    prices: dict[str, int] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def token(self, symbol: str, decimals: int, price: int) -> None:
        self.tokens[symbol] = self.node.deploy(self.compiled["FaucetToken"], 0, symbol, decimals, symbol)
        feed = own("Feeds.sol")
        aggregator = self.node.deploy(feed["Aggregator"], 8, f"{symbol} / USD", price)
        self.feeds[symbol] = aggregator, self.node.deploy(feed["FeedProxy"], aggregator.address)
        self.decimals[symbol], self.prices[symbol] = decimals, price

    def configuration(
        self, extension: Contract, rates: tuple[int, ...], assets: list[tuple[Any, ...]]
    ) -> tuple[Any, ...]:
        year = [rate * WAD // 10_000 for rate in rates]
        listed = [
            (self.tokens[symbol].address, self.feeds[symbol][1].address, self.decimals[symbol], *factors, cap)
            for symbol, factors, cap in assets
        ]
        return (
            GOVERNOR, GOVERNOR, self.tokens["USDC"].address, self.feeds["USDC"][1].address, extension.address, *year,
            WAD // 2, 10**15, 3 * 10**11, 7 * 10**10, 1_000 * 10**6, 100 * 10**6, 50_000 * 10**6, listed,
        )  # fmt: skip


def _factors(*points: int) -> list[int]:
    return [point * WAD // 10_000 for point in points]


def deploy(session: Session) -> tuple[Contract, list[Contract], int]:
    """The proxy as a Comet, implementations to come, and the block in which the proxy began."""
    node, compiled = session.node, session.compiled
    for token in (*TOKENS, ADDED):
        session.token(*token)
    lists = node.deploy(compiled["AssetListFactory"])
    extension = node.deploy(
        compiled["CometExtAssetList"], (b"Compound USDC".ljust(32, b"\0"), b"cUSDCv3".ljust(32, b"\0")), lists.address
    )
    first = (8_000, 325, 4_000, 0, 8_000, 350, 2_500, 150)
    steep = (8_500, 400, 9_000, 0, 8_000, 450, 20_000, 100)
    assets = [
        ("WETH", _factors(8_250, 8_950, 9_500), 10_000 * WAD),
        ("WBTC", _factors(7_000, 7_700, 9_500), 600 * 10**8),
        ("COMP", _factors(6_500, 7_000, 9_300), 40_000 * WAD),
    ]
    more = [
        *assets[:2],
        ("COMP", _factors(5_000, 6_000, 9_000), 60_000 * WAD),
        ("UNI", _factors(7_500, 8_100, 9_301), 10**6 * WAD),
    ]
    implementations = [
        node.deploy(compiled["CometWithExtendedAssetList"], session.configuration(extension, *terms))
        for terms in ((first, assets), (steep, assets), (steep, more))
    ]
    proxy = node.deploy(compiled["TransparentUpgradeableProxy"], implementations[0].address, ADMIN, b"")
    start = node.block_number
    abi = [
        *compiled["CometWithExtendedAssetList"].abi,
        *(entry for entry in compiled["CometExtAssetList"].abi if entry["type"] == "function"),
        *(entry for entry in compiled["TransparentUpgradeableProxy"].abi if entry.get("name") == "upgradeTo"),
    ]
    comet = Contract(node, proxy.address, abi)
    comet.send("initializeStorage")
    for symbol, token in session.tokens.items():
        unit = 10 ** session.decimals[symbol]
        for who in (*USERS, *BUYERS):
            node.send_block(
                [
                    token.transaction("allocateTo", who, 10**9 * unit),
                    token.transaction("approve", comet.address, UINT256_MAX, sender=who),
                ]
            )
    return comet, implementations, start


def _try(session: Session, comet: Contract, name: str, *args: Any, sender: str) -> bool:
    """One call in a block of its own; what failed leaves a block without logs of the market."""
    try:
        receipt = comet.send(name, *args, sender=sender)
    except Reverted as reverted:
        session.calls.append(
            {"block": int(reverted.receipt["blockNumber"], 16), "call": name, "refused": reverted.reason}
        )
        return False
    session.calls.append(
        {"block": int(receipt["blockNumber"], 16), "call": name, "gas": int(receipt["gasUsed"], 16), "refused": ""}
    )
    return True


def play(session: Session, comet: Contract, implementations: list[Contract], rounds: int = 400) -> None:
    """Users, prices that fall by half and come back in part, absorptions, purchases, upgrades, pauses."""
    draw, node = session.draw, session.node
    listed = ["WETH", "WBTC", "COMP"]
    for number, user in enumerate(USERS):
        if number < 4:
            _try(session, comet, "supply", session.tokens["USDC"].address, 100_000 * 10**6 + number, sender=user)
        else:
            _pledge(session, comet, user, draw.choice(listed))
    for turn in range(rounds):
        node.warp(draw.choice((12, 12, 36, 600, 7_200, DAY, 3 * DAY)))
        if turn in (rounds // 3, 2 * rounds // 3):
            comet.send("upgradeTo", implementations.pop(1).address, sender=ADMIN)
            if len(implementations) == 1:
                listed.append("UNI")
        if turn == rounds // 2:
            comet.send("pause", False, True, False, True, False, sender=GOVERNOR)
        if turn == rounds // 2 + 8:
            comet.send("pause", False, False, False, False, False, sender=GOVERNOR)
        if turn % 5 == 0:
            _reprice(session, turn / rounds, crash=turn in (rounds // 5, rounds * 3 // 5))
        for _ in range(2):
            _one(session, comet, listed)
        _absorb(session, comet, listed)
        if turn % SAMPLED == 0 or turn == rounds - 1:
            session.figures.append(told(session, comet, listed))


def _reprice(session: Session, progress: float, *, crash: bool) -> None:
    draw = session.draw
    for symbol, _, start in (*TOKENS[1:], ADDED):
        most = 1_050 if progress < 0.6 or symbol == "COMP" else 1_120
        moved = session.prices[symbol] * (draw.randint(550, 700) if crash else draw.randint(880, most)) // 1_000
        session.prices[symbol] = max(start // 8, moved)
        session.feeds[symbol][0].send("transmit", session.prices[symbol])
    session.prices["USDC"] = USD + draw.randint(-200_000, 200_000)
    session.feeds["USDC"][0].send("transmit", session.prices["USDC"])


def _one(session: Session, comet: Contract, listed: list[str]) -> None:
    draw = session.draw
    user, other = draw.sample(USERS[2:], 2)
    base, unit = session.tokens["USDC"].address, 10**6
    kind = draw.choice(
        ("supply", "withdraw", *5 * ("borrow",), "repay", *3 * ("collateral",), "take", "send", "move", "accrue",
         "nothing", "reserves")
    )  # fmt: skip
    owed = comet.call("borrowBalanceOf", user)
    symbol = draw.choice(listed)
    token = session.tokens[symbol].address
    if kind == "supply":
        _try(session, comet, "supply", base, draw.randint(1, 40_000 * unit), sender=user)
    elif kind == "withdraw":
        held = comet.call("balanceOf", user)
        _try(session, comet, "withdraw", base, draw.choice((UINT256_MAX, held // 3, held + 200 * unit)), sender=user)
    elif kind == "borrow":
        room = _most(session, comet, user, listed) * draw.randint(90, 100) // 100 - owed
        if room > 100 * unit:
            _try(session, comet, "withdraw", base, room, sender=user)
    elif kind == "repay":
        _try(session, comet, "supply", base, draw.choice((UINT256_MAX, owed // 2, owed + 77)), sender=user)
    elif kind == "collateral":
        _pledge(session, comet, user, symbol)
    elif kind == "take":
        held = comet.call("collateralBalanceOf", user, token)
        _try(session, comet, "withdraw", token, draw.choice((held, held // 2)), sender=user)
    elif kind == "send":
        held, theirs = comet.call("balanceOf", user), comet.call("borrowBalanceOf", other)
        if held and not theirs:  # debt that is sent leaves no log that says whose
            _try(session, comet, "transfer", other, draw.choice((UINT256_MAX, max(held // 3, 1))), sender=user)
    elif kind == "move":
        held = comet.call("collateralBalanceOf", user, token)
        _try(session, comet, "transferAsset", other, token, held // 4, sender=user)
    elif kind == "accrue":
        _try(session, comet, "accrueAccount", user, sender=user)
    elif kind == "nothing":
        _try(session, comet, "supply", base, 0, sender=user)
    elif kind == "reserves" and comet.call("getReserves") > 100 * unit:
        _try(session, comet, "withdrawReserves", TREASURY, comet.call("getReserves") // 10, sender=GOVERNOR)


def _pledge(session: Session, comet: Contract, user: str, symbol: str) -> None:
    """Some collateral, up to 30,000 dollars of it."""
    amount = session.draw.randint(1, 30_000) * USD * 10 ** session.decimals[symbol] // session.prices[symbol]
    _try(session, comet, "supply", session.tokens[symbol].address, amount, sender=user)


def _most(session: Session, comet: Contract, user: str, listed: list[str]) -> int:
    """About what may be owed, base tokens."""
    total = 0
    for place, symbol in enumerate(listed):
        info = comet.call("getAssetInfo", place)
        held = comet.call("collateralBalanceOf", user, session.tokens[symbol].address)
        total += held * session.prices[symbol] // 10 ** session.decimals[symbol] * info[4] // WAD
    return total * 10**6 // session.prices["USDC"]


def _absorb(session: Session, comet: Contract, listed: list[str]) -> None:
    """Some of those that may be, sometimes two at once; then somebody buys a part of what the protocol has."""
    draw = session.draw
    under = [user for user in USERS if comet.call("isLiquidatable", user)]
    some = under[: draw.choice((0, 0, 0, 1, 2))]
    if some:
        _try(session, comet, "absorb", BUYERS[0], some, sender=BUYERS[0])
    symbol = max(listed, key=lambda name: comet.call("getCollateralReserves", session.tokens[name].address))
    token = session.tokens[symbol].address
    reserves = comet.call("getCollateralReserves", token)
    if reserves and draw.random() < 0.6:
        whole = comet.call("quoteCollateral", token, 10**6)
        paid = max(1, reserves * draw.choice((20, 60, 99)) // 100 * 10**6 // max(whole, 1))
        _try(session, comet, "buyCollateral", token, 0, paid, draw.choice(BUYERS), sender=draw.choice(BUYERS))


def told(session: Session, comet: Contract, listed: list[str]) -> dict[str, Any]:
    """What the contract says at the end of the last block: totals, and each user's numbers in one row."""
    tokens = [session.tokens[symbol].address for symbol in listed]
    quotes = [comet.call("quoteCollateral", token, 123_456_789) for token in tokens]
    rows = []
    for user in USERS:
        principal, tracking, accrued, *_ = comet.call("userBasic", user)
        rows.append(
            [principal, tracking, accrued, comet.call("balanceOf", user), comet.call("borrowBalanceOf", user),
             *(comet.call("collateralBalanceOf", user, token) for token in tokens),
             int(comet.call("isLiquidatable", user)), int(comet.call("isBorrowCollateralized", user))]
        )  # fmt: skip
    return {
        "block": session.node.block_number,
        "time": session.node.timestamp(),
        "totals": [int(value) for value in comet.call("totalsBasic")],
        "collateral": [comet.call("totalsCollateral", token)[0] for token in tokens],
        "reserves": comet.call("getReserves"),
        "utilization": comet.call("getUtilization"),
        "rates": [comet.call(f"get{side}Rate", comet.call("getUtilization")) for side in ("Supply", "Borrow")],
        "quotes": quotes,
        "users": rows,
    }


def main(compiled: Path, out: Path) -> None:
    """Plays and writes."""
    artifacts = {name: Artifact(name, abi, code, {}) for name, (abi, code) in json.loads(compiled.read_text()).items()}
    out.mkdir(parents=True, exist_ok=True)
    with Node() as node:
        session = Session(node, artifacts, random.Random(29))
        comet, implementations, start = deploy(session)
        play(session, comet, implementations)
        config = MarketConfig(
            name="recorded-comet", protocol="compound-v3", chain_id=node.chain_id, start_block=start,
            contracts={"comet": comet.address.lower()}, description="",
        )  # fmt: skip
        with Rpc(node.url) as rpc:
            text, _ = collect_facts(config, rpc, finality=0)
        emitters = [comet.address, *(aggregator.address for aggregator, _ in session.feeds.values())]
        logs = node.get_logs(address=emitters)
    (out / "market.toml").write_text(
        f'name = "recorded-comet"\nprotocol = "compound-v3"\nchain_id = {config.chain_id}\nstart_block = {start}\n'
        f'[contracts]\ncomet = "{comet.address}"\n'
    )
    lines = (
        json.dumps(
            {
                "log_index": int(log["logIndex"], 16),
                "transaction_hash": log["transactionHash"],
                "transaction_index": int(log["transactionIndex"], 16),
                "block_hash": log["blockHash"],
                "block_number": int(log["blockNumber"], 16),
                "address": log["address"],
                "data": log["data"],
                "topics": log["topics"],
            }
        )
        for log in logs
    )
    told_of = {"tokens": [token.address for token in session.tokens.values()], "users": USERS, "zero": ZERO}
    figures = json.dumps({**told_of, "calls": session.calls, "figures": session.figures}, separators=(",", ":"))
    files = (("logs.json.gz", "\n".join(lines)), ("figures.json.gz", figures), ("facts.toml.gz", text))
    for name, body in files:
        with gzip.GzipFile(out / name, "wb", mtime=0) as file:
            file.write(body.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
