"""From a node to results: contracts of the tests' own (``tests/chain/contracts/Puppet.sol``) say what the contracts of
``system`` would, and everything after it is fetched, verified, folded, followed, replayed and stored as any market.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backtest.account import account_at
from backtest.fetch import fetch
from backtest.fetch.decode import topic0
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake, checks
from backtest.markets import MarketConfig
from backtest.reconstruct import reconstruct
from backtest.results import run
from backtest.scenario import Competitive, Scenario
from tests.chain.contracts import own
from tests.chain.node import Contract, Node, selector
from tests.protocols.euler_v2.system import (
    ADAPTER,
    CURVE,
    DECIMALS,
    E18,
    EVC,
    FACTORY,
    FEEDS,
    MODEL,
    ROUTER,
    SPECS,
    TOKENS,
    VAULTS,
    System,
    ahead,
    who,
)
from tests.support.heads import assert_head_is_as_fetched

pytestmark = pytest.mark.slow
NAME = "puppets"
LENDER, ALICE, SECOND, BOB, KEEPER = who(1), who(2), who(2, 5), who(3), who(9)
PEOPLE = (LENDER, ALICE, SECOND, BOB, KEEPER)
USDC = 10**6


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


@dataclass
class Stage:
    """The contracts by the address that the system made up, and how many of its logs they have said."""

    node: Node
    system: System
    conductor: Contract
    puppets: dict[bytes, Contract]
    aggregators: dict[str, Contract]
    start: int
    said: int = 0

    @property
    def config(self) -> MarketConfig:
        return MarketConfig(
            name=NAME, protocol="euler-v2", chain_id=self.node.chain_id, start_block=self.start, base_decimals=18,
            contracts={"evc": self.puppets[EVC].address.lower(), "factory": self.puppets[FACTORY].address.lower()},
            parameters={"vault": self.puppets[VAULTS["USDC"]].address.lower()},
        )  # fmt: skip

    def address(self, made_up: bytes) -> bytes:
        """The contract's own, for one that the system made up."""
        return bytes.fromhex(self.puppets[made_up].address[2:]) if made_up in self.puppets else made_up

    def call(self, *calls: Callable[[], None]) -> None:
        """A batch, in a block of its own."""
        self.system.time = self.node.timestamp() + 12
        assert self.system.batch(*calls)
        self.block()

    def block(self, *more: dict[str, str]) -> None:
        """What the system logged since, in one transaction, and what the vaults say after it."""
        logs, self.said = self.system.logs[self.said :], len(self.system.logs)
        targets, calls = [], []
        for *_, address, event, columns in logs:
            said = self.puppets[address].transaction("say", *self.encoded(event, columns))
            targets.append(said["to"])
            calls.append(bytes.fromhex(said["data"][2:]))
        made = [self.conductor.transaction("play", targets, calls), *more, *self.taught()]
        receipts = self.node.send_block(made)
        assert all(receipt["status"] == "0x1" for receipt in receipts)
        assert self.node.timestamp() == self.system.time

    def encoded(self, event: str, columns: dict[str, Any]) -> tuple[list[list[bytes]], list[bytes]]:
        """Topics and data."""
        spec = SPECS[event]
        topics, data, tail = [bytes.fromhex(topic0(spec)[2:])], b"", b""
        values = {name: self.address(v) if isinstance(v, bytes) and len(v) == 20 else v for name, v in columns.items()}
        if event == "ConfigSet":
            values["asset0"], values["asset1"] = sorted((values["asset0"], values["asset1"]))
        for argument in spec.signature.split("(")[1].rstrip(")").split(","):
            kind, name = argument.split()[0], argument.split()[-1]
            value = values["".join("_" + c.lower() if c.isupper() else c for c in name).replace("_l_t_v", "_ltv")]
            if kind == "bytes":
                parts = [self.address(value[at : at + 20]) for at in range(0, len(value), 20)]
                data, tail = data + words(96), words(len(value)) + b"".join(parts).ljust(64, b"\0")
                continue
            if isinstance(value, bytes):
                word = value.ljust(32, b"\0") if kind == "bytes19" else value.rjust(32, b"\0")
            else:
                word = words(value)
            if " indexed " in argument:
                topics.append(word)
            else:
                data += word
        return [topics], [data + tail]

    def taught(self) -> Iterator[dict[str, str]]:
        for name, vault in self.system.vaults.items():
            puppet, now = self.puppets[VAULTS[name]], ahead(vault)
            for account in PEOPLE:
                argument = account.rjust(32, b"\0")
                yield puppet.transaction(
                    "teach", selector("balanceOf(address)") + argument, words(vault.shares[account])
                )
                if name == "USDC":
                    debt = words(now.debt_of(account))
                    yield puppet.transaction("teach", selector("debtOfExact(address)") + argument, debt)

    def price(self, name: str, dollars: int) -> None:
        self.system.time = self.node.timestamp() + 12
        self.system.price[name] = dollars * E18
        self.block(self.aggregators[name].transaction("transmit", dollars * 10**8))


@pytest.fixture(scope="module")
def stage(chain_packages: None) -> Iterator[Stage]:
    with Node() as node:
        puppet, feeds, token = own("Puppet.sol")["Puppet"], own("Feeds.sol"), own("Token.sol")["Token"]
        puppets = {address: node.deploy(puppet) for address in (EVC, FACTORY, ROUTER, MODEL)}
        puppets |= {made_up: node.deploy(puppet) for of in (VAULTS, ADAPTER) for made_up in of.values()}
        aggregators = {}
        for name, dollars in (("USDC", 1), ("WETH", 2_000), ("WBTC", 30_000)):
            puppets[TOKENS[name]] = node.deploy(token, name, DECIMALS[name])
            aggregators[name] = node.deploy(feeds["Aggregator"], 8, f"{name} / USD", dollars * 10**8)
            puppets[FEEDS[name]] = node.deploy(feeds["FeedProxy"], aggregators[name].address)
        conductor = node.deploy(own("Conductor.sol")["Conductor"])
        teach = []
        for name in VAULTS:
            vault, adapter = puppets[VAULTS[name]], puppets[ADAPTER[name]]
            symbol = words(32, len(name) + 3) + f"e{name}-1".encode().ljust(32, b"\0")
            teach += [vault.transaction("teach", selector("symbol()"), symbol),
                      vault.transaction("teach", selector("decimals()"), words(DECIMALS[name]))]  # fmt: skip
            for call, of in (("feed()", FEEDS), ("base()", TOKENS)):
                teach.append(adapter.transaction("teach", selector(call), words(int(puppets[of[name]].address, 16))))
        for call, value in zip(("baseRate()", "slope1()", "slope2()", "kink()"), CURVE, strict=True):
            teach.append(puppets[MODEL].transaction("teach", selector(call), words(value)))
        node.send_block(teach)
        stage = Stage(node, System(node.timestamp() + 12), conductor, puppets, aggregators, node.block_number)
        stage.system.time = node.timestamp() + 12
        for owner in {each[:19]: each for each in PEOPLE if each[19] == 0x40}.values():
            stage.system.log(EVC, "OwnerRegistered", {"address_prefix": owner[:19], "owner": owner})
        stage.block()
        play(stage)
        yield stage


def play(stage: Stage) -> None:
    """Two loans before their collateral; a fall lets one be liquidated in part, then whole with bad debt; a debt is
    pulled; lenders leave.
    """
    system = stage.system
    lend, weth, wbtc = (system.vaults[name] for name in ("USDC", "WETH", "WBTC"))
    stage.call(lambda: lend.deposit(LENDER, 20_000 * USDC))
    stage.call(lambda: weth.deposit(KEEPER, 50 * E18))
    stage.call(lambda: system.control(KEEPER), lambda: system.enable(KEEPER, "WETH"))
    for account, vault, name, pledge, owed in (
        (SECOND, weth, "WETH", E18, 1_500 * USDC),
        (BOB, wbtc, "WBTC", 10**7, 2_000 * USDC),
        (ALICE, weth, "WETH", 9 * E18, 5_000 * USDC),
    ):
        stage.call(
            lambda a=account: system.control(a),
            lambda a=account, o=owed: lend.borrow(a, o),
            lambda a=account, n=name: system.enable(a, n),
            lambda a=account, v=vault, p=pledge: v.deposit(a, p),
        )  # type: ignore[misc]
    stage.price("WETH", 1_700)
    stage.call(lambda: lend.liquidate(KEEPER, SECOND, "WETH", 300 * USDC), lambda: lend.repay(KEEPER, None))
    stage.price("WETH", 1_400)
    stage.call(
        lambda: lend.liquidate(KEEPER, SECOND, "WETH", None),
        lambda: lend.repay(KEEPER, None),
        lambda: weth.redeem(KEEPER, E18),
    )
    stage.call(lambda: lend.pull_debt(ALICE, BOB, 500 * USDC))
    stage.call(lambda: lend.repay(BOB, 100 * USDC))
    stage.call(lambda: lend.withdraw(LENDER, 1_000 * USDC))
    stage.call(lambda: lend.borrow(ALICE, 7))


@pytest.fixture(scope="module")
def lake(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("puppets") / "lake", create=True)
    with Rpc(stage.node.url) as rpc:
        fetch(lake, stage.config, rpc, finality=0, headers="all")
    lake.refresh()
    reconstruct(lake, NAME)
    lake.refresh()
    return lake


def test_the_chain_agrees(stage: Stage, lake: Lake) -> None:
    with Rpc(stage.node.url) as rpc:
        report = verify(lake, NAME, rpc, blocks=12)
    assert report.mismatches == []
    assert report.compared["debt"] > 10
    assert report.compared["shares"] > 10


def test_the_lake_keeps_its_invariants(lake: Lake) -> None:
    failed = [(f.check, f.examples) for f in checks.run(lake) if not f.passed]
    assert failed == []


def test_history_is_explained_and_an_account_told(stage: Stage, lake: Lake) -> None:
    made = run(lake, NAME, Scenario())
    lake.refresh()
    rows = lake.sql(f"SELECT matches_history FROM run_liquidations WHERE run_id = '{made.run_id}'").fetchall()
    assert rows == [(True,)] * 2
    assert lake.sql("SELECT count(*) FROM deficits").fetchall() == [(1,)]
    last = lake.sql("SELECT max(block_number) FROM blocks").fetchall()[0][0]
    figures = account_at(lake, NAME, "0x" + ALICE.hex(), block=last).figures
    told: dict[str, Any] = {figure.name: figure.value for figure in figures}
    adjusted, liability = ahead(stage.system.vaults["USDC"]).liquidity(ALICE, True)
    assert (told["collateral_value_liquidation"], told["liability_value"]) == (adjusted, liability)
    assert told["debt_exact"] == ahead(stage.system.vaults["USDC"]).debt_of(ALICE)


def test_prices_are_the_feeds_own(lake: Lake) -> None:
    found = lake.sql("SELECT DISTINCT method, exact FROM prices").fetchall()
    assert found == [("feed", True)]


def test_a_model_liquidates_at_once_and_says_that_it_is_exact_by_vectors(lake: Lake) -> None:
    made = run(lake, NAME, Scenario(liquidators=Competitive()))
    assert any("exact by vectors" in note for note in made.notes)
    lake.refresh()
    ((count, least),) = lake.sql(
        f"SELECT count(*), min(profit_base) FROM run_liquidations WHERE run_id = '{made.run_id}'"
    ).fetchall()
    assert count == 1  # whole, where history's first took a part
    assert least > 0


def test_the_head_is_as_fetched(stage: Stage, lake: Lake, tmp_path: Path) -> None:
    assert_head_is_as_fetched(
        stage.config, stage.node.url, lake, stage.node.block_number - 6, tmp_path / "lake", least=2
    )
