"""From a node to results: contracts of the tests' own (``tests/chain/contracts/Puppet.sol``) say what the contracts of
``system`` would, and everything after it is fetched, verified, folded, followed, replayed and stored as any market.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from tests.protocols.liquity_v1.system import AT, E18, SPECS, System, who
from tests.support.heads import assert_head_is_as_fetched

pytestmark = pytest.mark.slow
NAME = "puppets"
PEOPLE = [who(number) for number in range(6)]
CALLER = who(9)


def words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


@dataclass
class Stage:
    """The contracts by name, and how many of the system's logs they have said."""

    node: Node
    system: System
    conductor: Contract
    puppets: dict[str, Contract]
    aggregator: Contract
    start: int
    said: int = 0

    @property
    def config(self) -> MarketConfig:
        return MarketConfig(
            name=NAME, protocol="liquity-v1", chain_id=self.node.chain_id, start_block=self.start, base_decimals=18,
            contracts={"trove_manager": self.puppets["manager"].address.lower()},
        )  # fmt: skip

    def address(self, made_up: bytes) -> bytes:
        """The contract's own, for one that the system made up."""
        name = next((name for name, address in AT.items() if address == made_up), None)
        return made_up if name is None else bytes.fromhex(self.puppets[name].address[2:])

    def block(self) -> None:
        """What the system logged since, in one transaction, and what the contracts say after it."""
        logs, self.said = self.system.logs[self.said :], len(self.system.logs)
        targets, calls = [], []
        for _, event, columns in logs:
            spec = SPECS[event]
            role = {"trove_manager": "manager", "borrower_operations": "borrowing", "stability_pool": "stability",
                    "active_pool": "active", "price_feed": "feed"}[spec.emitter]  # fmt: skip
            topics, data = [bytes.fromhex(topic0(spec)[2:])], b""
            for argument in spec.signature.split("(")[1].rstrip(")").split(","):
                value = columns[argument.split()[-1]]
                if isinstance(value, bytes):
                    value = int.from_bytes(self.address(value), "big")
                if " indexed " in argument:
                    topics.append(words(value))
                else:
                    data += words(value)
            said = self.puppets[role].transaction("say", [topics], [data])
            targets.append(said["to"])
            calls.append(bytes.fromhex(said["data"][2:]))
        made = [self.conductor.transaction("play", targets, calls), *self.taught()]
        receipts = self.node.send_block(made)
        assert all(receipt["status"] == "0x1" for receipt in receipts)

    def taught(self) -> Iterator[dict[str, str]]:
        s, manager, pool = self.system, self.puppets["manager"], self.puppets["stability"]
        whole = {
            "getEntireSystemColl()": s.active[0] + s.default[0],
            "getEntireSystemDebt()": s.active[1] + s.default[1],
            "L_ETH()": s.l_eth,
            "L_LUSDDebt()": s.l_debt,
            "totalStakes()": s.stakes,
            "totalStakesSnapshot()": s.stakes_snapshot,
            "totalCollateralSnapshot()": s.coll_snapshot,
        }
        for call, value in whole.items():
            yield manager.transaction("teach", selector(call), words(value))
        for call, value in {"getTotalLUSDDeposits()": s.total, "P()": s.p}.items():
            yield pool.transaction("teach", selector(call), words(value))
        for account in (*PEOPLE, CALLER, *(self.address(AT[name]) for name in ("stability", "default"))):
            argument = account.rjust(32, b"\0")
            has, put = account in s.troves, account in s.deposits
            (coll, debt), (more_coll, more_debt) = (s.whole(account), s.pending(account)) if has else ((0, 0), (0, 0))
            entire = words(debt, coll, more_debt, more_coll)
            yield manager.transaction("teach", selector("getEntireDebtAndColl(address)") + argument, entire)
            stake = words(s.troves[account][2] if has else 0)
            yield manager.transaction("teach", selector("getTroveStake(address)") + argument, stake)
            left = words(s.compounded(account) if put else 0)
            yield pool.transaction("teach", selector("getCompoundedLUSDDeposit(address)") + argument, left)
            gain = words(s.gain(account) if put else 0)
            yield pool.transaction("teach", selector("getDepositorETHGain(address)") + argument, gain)

    def price(self, dollars: int) -> None:
        self.system.move(dollars * E18)
        self.node.send(self.aggregator.transaction("transmit", dollars * 10**8))
        self.block()


@pytest.fixture(scope="module")
def stage(chain_packages: None) -> Iterator[Stage]:
    with Node() as node:
        puppet, feeds, token = own("Puppet.sol")["Puppet"], own("Feeds.sol"), own("Token.sol")["Token"]
        aggregator = node.deploy(feeds["Aggregator"], 8, "ETH / USD", 2_000 * 10**8)
        proxy = node.deploy(feeds["FeedProxy"], aggregator.address)
        puppets = {name: node.deploy(puppet) for name in AT if name != "lusd"}
        puppets["lusd"] = node.deploy(token, "LUSD", 18)
        node.send(puppets["feed"].transaction("teach", selector("priceAggregator()"), words(int(proxy.address, 16))))
        conductor = node.deploy(own("Conductor.sol")["Conductor"])
        stage = Stage(node, System(), conductor, puppets, aggregator, node.block_number)
        stage.block()
        play(stage)
        yield stage


def play(stage: Stage) -> None:
    """Six troves; two deposits; a fall closes two in one call, one shared out whole, of the other the pool has a part;
    a trove is topped up, a gain put into it; a redemption; somebody provides again.
    """
    system = stage.system
    stage.price(2_000)
    for number, user in enumerate(PEOPLE):
        system.open(user, (3 + 2 * number) * E18, (2_000 + 900 * number) * E18)
        stage.block()
    system.provide(PEOPLE[5], 2_000 * E18)
    stage.block()
    system.provide(PEOPLE[4], 500 * E18)
    stage.block()
    stage.price(650)
    low = sorted(system.troves, key=system.icr)[:3]
    system.liquidate(low, CALLER)
    assert system.epoch == 1
    stage.block()
    system.adjust(PEOPLE[5], E18, -500 * E18)
    stage.block()
    system.take_gain(PEOPLE[5])
    stage.block()
    stage.price(1_900)
    system.redeem(700 * E18)
    stage.block()
    system.provide(PEOPLE[4], E18)
    stage.block()
    stage.node.mine(2)


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
    assert report.compared["stake"] > 10
    assert report.compared["P"] > 3


def test_the_lake_keeps_its_invariants(lake: Lake) -> None:
    assert [(finding.check, finding.examples) for finding in checks.run(lake) if not finding.passed] == []


def test_history_is_explained_and_an_account_told(stage: Stage, lake: Lake) -> None:
    made = run(lake, NAME, Scenario())
    lake.refresh()
    rows = lake.sql(f"SELECT matches_history FROM run_liquidations WHERE run_id = '{made.run_id}'").fetchall()
    assert rows == [(True,)] * 2
    last = lake.sql("SELECT max(block_number) FROM blocks").fetchall()[0][0]
    figures = account_at(lake, NAME, "0x" + PEOPLE[5].hex(), block=last).figures
    told: dict[str, Any] = {figure.name: figure.value for figure in figures}
    assert (told["coll"], told["debt"]) == stage.system.whole(PEOPLE[5])
    assert told["collateral_ratio"] == stage.system.icr(PEOPLE[5])


def test_a_model_liquidates_at_once_and_says_that_it_is_exact_by_vectors(lake: Lake) -> None:
    made = run(lake, NAME, Scenario(liquidators=Competitive()))
    assert any("exact by vectors" in note for note in made.notes)
    lake.refresh()
    ((count, least),) = lake.sql(
        f"SELECT count(*), min(profit_base) FROM run_liquidations WHERE run_id = '{made.run_id}'"
    ).fetchall()
    assert count >= 2
    assert least > 200 * E18


def test_the_head_is_as_fetched(stage: Stage, lake: Lake, tmp_path: Path) -> None:
    assert_head_is_as_fetched(
        stage.config, stage.node.url, lake, stage.node.block_number - 9, tmp_path / "lake", least=3
    )
