"""Records a session on the compiled AMM and controller, for ``test_llamma_recorded.py``: logs, readings, and what the
contracts say of the AMM, its bands and every user. They are on no package registry and their licence keeps their
source out of here: whoever has it may record again. With it compiled (Vyper 0.3.10) into a file that holds contract
name to [abi, creation code, blueprint code in hex]:

    python -m tests.protocols.llamma.record COMPILED.json tests/recorded/llamma
    python -m tests.protocols.llamma.record COMPILED.json tests/recorded/llamma-2023 AMM1 120

The second is of the contracts of June 2023 (a95d6c3c, named AMM1 and Controller1 in the file). What is recorded:
curvefi/curve-stablecoin at 58289a42 (``contracts/``: AMM, Controller, ControllerFactory, Stablecoin;
``contracts/testing/``: DummyPriceOracle, ConstantMonetaryPolicy, ERC20Mock).
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
from tests.chain.contracts import Artifact
from tests.chain.node import UINT256_MAX, Contract, Node, Reverted

WAD, DAY = 10**18, 86_400
A, FEE, ADMIN_FEE, LOAN, LIQUIDATION = 100, 6 * 10**15, WAD // 2, 9 * 10**16, 6 * 10**16
USERS = tuple(f"0x{0x05E4000 + n:040x}" for n in range(16))
TRADER, LIQUIDATOR = (f"0x{0xB0B000 + n:040x}" for n in range(2))
START, DECIMALS = 2_000 * WAD, 8
SAMPLED = 4
"""A block in so many is one whose users are told."""


@dataclass
class LlammaSession:
    """One market as it goes."""

    node: Node
    compiled: dict[str, Any]
    draw: random.Random
    price: int = START
    figures: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    contracts: dict[str, Contract] = field(default_factory=dict)
    revision: str = "AMM"

    @property
    def controller(self) -> str:
        """That of the same time, where it is there."""
        own = self.revision.replace("AMM", "Controller")
        return own if own in self.compiled else "Controller"

    def most(self, collateral: int, bands: int, debt: int) -> int:
        """What may be owed."""
        controller, name = self.contracts["controller"], "max_borrowable(uint256,uint256,uint256)"
        if controller.has(name):
            return int(controller.call(name, collateral, bands, debt))
        return int(controller.call("max_borrowable", collateral, bands))

    def artifact(self, name: str) -> Artifact:
        abi, code, _ = self.compiled[name]
        return Artifact(name, abi, code, {})

    def deploy(self) -> None:
        """A factory with one market: a collateral of 8 decimals, A = 100."""
        node, own = self.node, self.contracts
        admin = node.admin
        own["crvusd"] = node.deploy(self.artifact("Stablecoin"), "crvUSD", "crvUSD")
        own["token"] = node.deploy(self.artifact("ERC20Mock"), "Bitcoin", "WBTC", DECIMALS)
        own["oracle"] = node.deploy(self.artifact("DummyPriceOracle"), admin, self.price)
        own["policy"] = node.deploy(self.artifact("ConstantMonetaryPolicy"), admin)
        own["policy"].send("set_rate", 10**17 // (365 * DAY))
        factory = node.deploy(self.artifact("ControllerFactory"), own["crvusd"].address, admin, admin, admin)
        own["crvusd"].send("set_minter", factory.address)
        blueprints = [
            node.deploy(Artifact(name, [], self.compiled[name][2], {})).address
            for name in (self.controller, self.revision)
        ]
        factory.send("set_implementations", *blueprints)
        made = own["token"].address, A, FEE, ADMIN_FEE, own["oracle"].address, own["policy"].address
        factory.send("add_market", *made, LOAN, LIQUIDATION, 10**8 * WAD)
        own["factory"] = factory
        for role, name in (("amm", self.revision), ("controller", self.controller)):
            address = factory.call(f"{role}s", 0)
            own[role] = Contract(node, address, self.compiled[name][0])
        for who in (*USERS, TRADER, LIQUIDATOR):
            own["token"].send("_mint_for_testing", who, 10**6 * 10**DECIMALS)
            for token in ("token", "crvusd"):
                for spender in ("amm", "controller"):
                    own[token].send("approve", own[spender].address, UINT256_MAX, sender=who)
        factory.send("set_debt_ceiling", TRADER, 10**8 * WAD)
        factory.send("set_debt_ceiling", LIQUIDATOR, 10**8 * WAD)

    def attempt(self, contract: str, name: str, *args: Any, sender: str) -> bool:
        """One call in a block of its own; what failed leaves a block without logs of the market."""
        try:
            receipt = self.contracts[contract].send(name, *args, sender=sender)
        except Reverted as reverted:
            block = int(reverted.receipt["blockNumber"], 16)
            self.calls.append({"block": block, "call": name, "refused": reverted.reason})
            return False
        block = int(receipt["blockNumber"], 16)
        self.calls.append({"block": block, "call": name, "gas": int(receipt["gasUsed"], 16), "refused": ""})
        return True


def play(session: LlammaSession, rounds: int = 320) -> None:
    """Loans, a price that falls by a third and comes back in part, exchanges both ways, liquidations of both kinds."""
    draw, own = session.draw, session.contracts
    for user in USERS[:10]:
        _create(session, user)
    for turn in range(rounds):
        session.node.warp(draw.choice((12, 12, 36, 60, 130, 600, 7_200, DAY)))
        if turn % 2 == 0:
            _reprice(session, turn / rounds)
        if turn == rounds // 2:
            own["controller"].send("set_amm_fee", FEE // 2)
            own["controller"].send("set_borrowing_discounts", LOAN + WAD // 100, LIQUIDATION + WAD // 200)
        if turn % 40 == 13:
            own["policy"].send("set_rate", draw.randint(1, 4) * 10**17 // (365 * DAY))
        _one(session)
        _exchange(session)
        _liquidate(session)
        if turn % SAMPLED == 0 or turn == rounds - 1:
            session.figures.append(told(session))


def _reprice(session: LlammaSession, progress: float) -> None:
    draw = session.draw
    if 0.15 < progress < 0.45:
        moved = draw.randint(940, 1_030)
    elif 0.6 < progress < 0.7:
        moved = draw.randint(880, 1_010)
    else:
        moved = draw.randint(975, 1_030)
    session.price = max(session.price * moved // 1_000, START // 8)
    session.contracts["oracle"].send("set_price", session.price)


def _create(session: LlammaSession, user: str) -> None:
    draw = session.draw
    collateral, bands = draw.randint(10**7, 50 * 10**DECIMALS), draw.choice((4, 5, 10, 20, 50))
    most = session.contracts["controller"].call("max_borrowable(uint256,uint256)", collateral, bands)
    debt = most * draw.choice((70, 90, 97, 100)) // 100
    if debt:
        session.attempt("controller", "create_loan", collateral, debt, bands, sender=user)


def _one(session: LlammaSession) -> None:
    draw, controller = session.draw, session.contracts["controller"]
    user = draw.choice(USERS)
    if not controller.call("loan_exists", user):
        _create(session, user)
        return
    held, _, debt, bands = controller.call("user_state", user)
    kind = draw.choice(("more", "more", "add", "add", "remove", "repay", "repay", "close", "nothing"))
    if kind == "more":
        most = session.most(held + 10**6, bands, debt)
        extra = max(most - debt, debt // 50) * draw.choice((50, 99, 103)) // 100
        session.attempt("controller", "borrow_more", draw.choice((0, 10**6)), extra, sender=user)
    elif kind == "add":
        session.attempt("controller", "add_collateral", draw.randint(1, 10**DECIMALS), sender=user)
    elif kind == "remove":
        session.attempt("controller", "remove_collateral", max(held * draw.choice((2, 5, 60)) // 100, 1), sender=user)
    elif kind == "repay":
        session.attempt("controller", "repay", max(debt * draw.choice((3, 30)) // 100, 1), sender=user)
    elif kind == "close" and draw.random() < 0.5:
        session.attempt("controller", "repay", UINT256_MAX, sender=user)


def _exchange(session: LlammaSession) -> None:
    """To the oracle's price, or any amount, named by what is paid or what is bought."""
    draw, amm = session.draw, session.contracts["amm"]
    if draw.random() < 0.3:
        return
    amount, pump = amm.call("get_amount_for_price", amm.call("price_oracle") * draw.randint(985, 1_015) // 1_000)
    amount = amount * draw.choice((100, 100, 40, 130)) // 100
    if draw.random() < 0.15:
        amount, pump = (draw.randint(1, 30_000) * WAD, True) if pump else (draw.randint(1, 10**9), False)
    if not amount:
        return
    sides = (0, 1) if pump else (1, 0)
    if draw.random() < 0.3:
        out = amm.call("get_dy", *sides, amount)
        if out:
            session.attempt("amm", "exchange_dy", *sides, out * 99 // 100, UINT256_MAX, sender=TRADER)
            return
    session.attempt("amm", "exchange", *sides, amount, 0, sender=TRADER)


def _liquidate(session: LlammaSession) -> None:
    draw, controller = session.draw, session.contracts["controller"]
    positions = controller.call("users_to_liquidate")
    if positions and draw.random() < 0.5:
        user = draw.choice(positions)[0]
        if draw.random() < 0.5:
            session.attempt("controller", "liquidate", user, 0, sender=LIQUIDATOR)
        else:
            part = draw.randint(WAD // 100, WAD - 1)
            name, nobody = "liquidate_extended(address,uint256,uint256,address,uint256[])", "0x" + "00" * 20
            old = "liquidate_extended(address,uint256,uint256,bool,address,uint256[])"
            if controller.has(old):
                session.attempt("controller", old, user, 0, part, False, nobody, [], sender=LIQUIDATOR)
            else:
                session.attempt("controller", name, user, 0, part, nobody, [], sender=LIQUIDATOR)
    elif draw.random() < 0.03:
        user = draw.choice(USERS)
        session.attempt("controller", "liquidate", user, 0, sender=draw.choice((user, LIQUIDATOR)))


def told(session: LlammaSession) -> dict[str, Any]:
    """What the contracts say at the end of the last block; each user's numbers in one row."""
    amm, controller = session.contracts["amm"], session.contracts["controller"]
    active, low, high = (amm.call(name) for name in ("active_band", "min_band", "max_band"))
    rows = []
    for user in USERS:
        if not controller.call("loan_exists", user):
            rows.append([])
            continue
        bands = amm.call("read_user_tick_numbers", user)
        rows.append(
            [*controller.call("user_state", user)[:3], *bands, amm.call("get_x_down", user), amm.call("get_y_up", user),
             controller.call("health(address,bool)", user, False), controller.call("health(address,bool)", user, True),
             controller.call("liquidation_discounts", user)]
        )  # fmt: skip
    near = sorted({*range(low, min(low + 8, high + 1)), *range(max(active - 4, low), min(active + 5, high + 1))})
    price = amm.call("price_oracle")
    targets = [price * part // 1_000 for part in (950, 995, 1_005, 1_050)]
    return {
        "block": session.node.block_number,
        "time": session.node.timestamp(),
        "price": session.price,
        "limited": price,
        "amm": [active, low, high, amm.call("get_base_price"), amm.call("get_rate_mul"), amm.call("get_p"),
                amm.call("dynamic_fee"), amm.call("admin_fees_x"), amm.call("admin_fees_y")],
        "bands": [[n, amm.call("bands_x", n), amm.call("bands_y", n), amm.call("p_oracle_up", n)] for n in near],
        "amounts": [[target, *amm.call("get_amount_for_price", target)] for target in targets],
        "most": [controller.call("max_borrowable(uint256,uint256)", 10**DECIMALS, n) for n in (4, 10, 50)],
        "debt": controller.call("total_debt"),
        "users": rows,
    }  # fmt: skip


def main(compiled: Path, out: Path, revision: str = "AMM", rounds: str = "320") -> None:
    """Plays and writes."""
    out.mkdir(parents=True, exist_ok=True)
    with Node() as node:
        session = LlammaSession(node, json.loads(compiled.read_text()), random.Random(29), revision=revision)
        session.deploy()
        play(session, int(rounds))
        addresses = {role: session.contracts[role].address for role in ("amm", "controller")}
        rules = revision.removeprefix("AMM") or "3"
        config = MarketConfig(
            name="recorded-llamma", protocol="llamma", chain_id=node.chain_id, start_block=1, base_decimals=18,
            contracts={role: address.lower() for role, address in addresses.items()}, description="",
            parameters={"revision": rules},
        )  # fmt: skip
        with Rpc(node.url) as rpc:
            text, _ = collect_facts(config, rpc, finality=0)
        logs = node.get_logs(address=list(addresses.values()))
    (out / "market.toml").write_text(
        f'name = "recorded-llamma"\nprotocol = "llamma"\nchain_id = {config.chain_id}\nstart_block = 1\n'
        f'base_currency = "crvUSD"\nbase_decimals = 18\n\n[parameters]\nrevision = "{rules}"\n\n[contracts]\n'
        + "".join(f'{role} = "{address}"\n' for role, address in addresses.items())
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
    figures = json.dumps({"users": USERS, "calls": session.calls, "figures": session.figures}, separators=(",", ":"))
    files = (("logs.json.gz", "\n".join(lines)), ("figures.json.gz", figures), ("facts.toml.gz", text))
    for name, body in files:
        with gzip.GzipFile(out / name, "wb", mtime=0) as file:
            file.write(body.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
