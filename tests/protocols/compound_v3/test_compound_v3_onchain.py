"""From a node to results: a contract of the tests' own (``tests/chain/contracts/Puppet.sol``) says what a Comet would,
its feeds are feeds, and everything after it is fetched, verified, folded, replayed and stored as any market. The terms
are those of ``hand``, without interest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backtest.account import account_at
from backtest.errors import RulesError
from backtest.fetch import fetch
from backtest.fetch.decode import topic0
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake
from backtest.log_files import collect_facts
from backtest.markets import MarketConfig
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.compound_v3.events import EVENTS, TOTALS
from backtest.protocols.compound_v3.storage import IMPLEMENTATION
from backtest.prove import prove
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.results import load_market, load_timeline, run
from backtest.scenario import Competitive, Scenario
from tests.chain.contracts import own
from tests.chain.node import Contract, Node, selector
from tests.protocols.compound_v3.hand import BTC, ETH, MARKET, ONE, USD, USDC
from tests.protocols.compound_v3.raw import holds, who, words
from tests.support.heads import assert_head_is_as_fetched

NAME = "puppet"
SPECS = {spec.name: spec for spec in EVENTS}
LENDER, ALICE, BOB, BUYER = map(who, range(4))
NO_INTEREST = dict.fromkeys(("borrow_rate_base", "borrow_rate_slope_low", "borrow_rate_slope_high"), 0)
NO_INTEREST |= dict.fromkeys(("supply_rate_base", "supply_rate_slope_low", "supply_rate_slope_high"), 0)
NO_INTEREST |= {"base_tracking_supply_speed": 0, "base_tracking_borrow_speed": 0}


def _call(text: str) -> bytes:
    function, *arguments = text.split(" ")
    return selector(function) + words(*map(int, arguments))


@dataclass
class Stage:
    """The proxy and its implementation, tokens and feeds, and what the contract holds now. ``scaled`` is a feed of
    Compound's own for bitcoin: it answers ``latestRoundData`` alone, and names the feed that it reads.
    """

    node: Node
    proxy: Contract
    code: Contract
    tokens: list[Contract]
    feeds: list[tuple[Contract, Contract]]
    scaled: Contract
    start: int
    principals: dict[bytes, int] = field(default_factory=dict)
    held: dict[tuple[bytes, int], int] = field(default_factory=dict)

    @property
    def config(self) -> MarketConfig:
        return MarketConfig(
            name=NAME, protocol="compound-v3", chain_id=self.node.chain_id, start_block=self.start,
            contracts={"comet": self.proxy.address.lower()},
        )  # fmt: skip

    def teach(self, contract: Contract, call: bytes, answer: bytes) -> dict[str, str]:
        return contract.transaction("teach", call, answer)

    def log(self, event: str, indexed: list[bytes], *data: int) -> tuple[list[bytes], bytes]:
        topics = [bytes.fromhex(topic0(SPECS[event])[2:]), *(each.rjust(32, b"\0") for each in indexed)]
        return topics, words(*data)

    def price(self, asset: int, price: int) -> None:
        """The feed answers, and so does the proxy when it is asked for it."""
        source = bytes.fromhex(self.source(asset)[2:]).rjust(32, b"\0")
        said = [
            self.feeds[asset][0].transaction("transmit", price),
            self.teach(self.proxy, selector("getPrice(address)") + source, words(price)),
        ]
        if asset == 2:
            said.append(self.teach(self.scaled, selector("latestRoundData()"), words(1, price, 0, 0, 1)))
        self.node.send_block(said)

    def source(self, asset: int) -> str:
        """The feed that the implementation names."""
        return self.scaled.address if asset == 2 else self.feeds[asset][1].address

    def block(
        self, *said: tuple[list[bytes], bytes], principals: dict[bytes, int] | None = None, held: Any = None
    ) -> None:
        """A block with one call that has these logs, and what the contract says after it."""
        self.principals |= principals or {}
        self.held |= held or {}
        supply = sum(max(each, 0) for each in self.principals.values())
        borrow = sum(max(-each, 0) for each in self.principals.values())
        time = self.node.timestamp() + 12
        taught = [self.teach(self.proxy, _call(TOTALS), words(ONE, ONE, 0, 0, supply, borrow, time, 0))]
        for user in (LENDER, ALICE, BOB, BUYER):
            number = int.from_bytes(user, "big")
            basic = _call(f"userBasic(address) {number}")
            taught.append(self.teach(self.proxy, basic, words(self.principals.get(user, 0), 0, 0, 0, 0)))
            for asset in (1, 2):
                token = int(self.tokens[asset].address, 16)
                call = _call(f"collateralBalanceOf(address,address) {number} {token}")
                taught.append(self.teach(self.proxy, call, words(self.held.get((user, asset), 0))))
        for asset in (1, 2):
            every = sum(amount for (_, which), amount in self.held.items() if which == asset)
            call = _call(f"totalsCollateral(address) {int(self.tokens[asset].address, 16)}")
            taught.append(self.teach(self.proxy, call, words(every)))
        call = self.proxy.transaction("say", *map(list, zip(*said, strict=True)))
        receipts = self.node.send_block([call, *taught])
        assert all(receipt["status"] == "0x1" for receipt in receipts)
        assert self.node.timestamp() == time


@pytest.fixture(scope="module")
def stage(chain_packages: None) -> Iterator[Stage]:
    with Node() as node:
        puppet, feeds, token = own("Puppet.sol")["Puppet"], own("Feeds.sol"), own("Token.sol")["Token"]
        tokens = [node.deploy(token, asset.symbol, asset.decimals) for asset in MARKET.assets]
        pairs = []
        for asset, price in zip(MARKET.assets, (USD, 2_000 * USD, 30_000 * USD), strict=True):
            aggregator = node.deploy(feeds["Aggregator"], 8, f"{asset.symbol} / USD", price)
            pairs.append((aggregator, node.deploy(feeds["FeedProxy"], aggregator.address)))
        scaled, code, proxy = (node.deploy(puppet) for _ in range(3))
        stage = Stage(node, proxy, code, tokens, pairs, scaled, node.block_number)
        underlying = words(int(pairs[2][1].address, 16))
        for call, answer in (("underlyingPriceFeed()", underlying), ("decimals()", words(8))):
            node.send(stage.teach(scaled, selector(call), answer))
        for row in holds(**NO_INTEREST):
            value = row["value"]
            if row["call"] == "baseToken()":
                value = words(int(tokens[0].address, 16))
            elif row["call"] == "baseTokenPriceFeed()":
                value = words(int(pairs[0][1].address, 16))
            elif row["call"].startswith("getAssetInfo"):
                asset = 1 + int(row["call"][-1])
                value = value[:32] + words(int(tokens[asset].address, 16), int(stage.source(asset), 16)) + value[96:]
            node.send(stage.teach(code, _call(row["call"]), value))
        node.send(stage.teach(code, selector("baseScale()"), words(USDC)))
        node.rpc("anvil_setStorageAt", proxy.address, f"0x{IMPLEMENTATION:064x}", f"0x{int(code.address, 16):064x}")
        play(stage)
        yield stage


def play(stage: Stage) -> None:
    """The lender lends 10,000, alice owes 1,500 against an ether and 0.01 bitcoin, bob 800 against one ether; ether
    falls to 1,400, and alice is absorbed: 1,330 + 279 = 1,609 credited.
    """
    token = [bytes.fromhex(each.address[2:]) for each in stage.tokens]
    stage.block(stage.log("Upgraded", [bytes.fromhex(stage.code.address[2:])]))
    for asset, price in enumerate((USD, 2_000 * USD, 30_000 * USD)):
        stage.price(asset, price)
    stage.block(
        stage.log("Supply", [LENDER, LENDER], 10_000 * USDC),
        stage.log("Transfer", [bytes(20), LENDER], 10_000 * USDC),
        principals={LENDER: 10_000 * USDC},
    )
    pledges = ((ALICE, 1, ETH), (ALICE, 2, BTC // 100), (BOB, 1, ETH))
    for user, asset, amount in pledges:
        said = stage.log("SupplyCollateral", [user, user, token[asset]], amount)
        stage.block(said, held={(user, asset): amount})
    for user, amount in ((ALICE, 1_500 * USDC), (BOB, 800 * USDC)):
        stage.block(stage.log("Withdraw", [user, user], amount), principals={user: -amount})
    stage.price(1, 1_400 * USD)
    stage.node.mine(3)
    both = [BUYER, ALICE]
    stage.block(
        stage.log("AbsorbCollateral", [*both, token[1]], ETH, 1_400 * USD),
        stage.log("AbsorbCollateral", [*both, token[2]], BTC // 100, 300 * USD),
        stage.log("AbsorbDebt", both, 1_609 * USDC, 1_609 * USD),
        stage.log("Transfer", [bytes(20), ALICE], 109 * USDC),
        principals={ALICE: 109 * USDC},
        held={(ALICE, 1): 0, (ALICE, 2): 0},
    )
    stage.block(stage.log("BuyCollateral", [BUYER, token[1]], 1_365 * USDC, ETH))
    stage.node.mine(2)


@pytest.fixture(scope="module")
def lake(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("puppet") / "lake", create=True)
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
    assert report.compared["views"] > 20
    assert report.compared["principal"] > 10
    assert report.compared["all collateral"] > 5


def test_a_reading_that_the_chain_denies_is_named(stage: Stage, lake: Lake) -> None:
    with Rpc(stage.node.url) as rpc, Rpc(stage.node.url) as other:
        told = other.eth_calls

        def lie(calls: Any) -> Any:
            return [data and bytes(len(data)) if call[1] == "0x" + selector(TOTALS).hex() else data
                    for call, data in zip(calls, told(calls), strict=True)]  # fmt: skip

        rpc.eth_calls = lie  # type: ignore[method-assign]
        report = verify(lake, NAME, rpc, blocks=2)
    assert any("totalsBasic() of" in text and "is not what the lake says" in text for text in report.mismatches)


def test_history_is_explained_and_an_account_told(lake: Lake) -> None:
    made = run(lake, NAME, Scenario())
    lake.refresh()
    rows = lake.sql(
        f"SELECT repaid, seized, matches_history FROM run_liquidations WHERE run_id = '{made.run_id}'"
    ).fetchall()
    assert [(int(repaid), int(seized), same) for repaid, seized, same in rows] == [(1_500 * USDC, ETH, True)]
    last = lake.sql("SELECT max(block_number) FROM blocks").fetchall()[0][0]
    told = account_at(lake, NAME, "0x" + ALICE.hex(), block=last)
    assert {figure.name: figure.value for figure in told.figures}["balance"] == 109 * USDC


def test_a_model_absorbs_at_once_and_sells(lake: Lake) -> None:
    """In the block of the price: alice, and her two lots at 1,365 (1,400 x 0.975) and 289.5 (300 x 0.965) USDC."""
    market, timeline, scenario = load_market(lake, NAME), load_timeline(lake, NAME), Scenario(liquidators=Competitive())
    result = replay(COMPOUND_V3, market, timeline, scenario)
    rows = [
        (row.step, row.fill.repaid, row.fill.seized, MARKET.assets[row.fill.order.pair.collateral_asset].symbol)
        for row in result.liquidations
    ]
    assert rows == [
        ("absorb", 1_500 * USDC, ETH, "WETH"),
        ("buy", 1_365 * USDC, ETH, "WETH"),
        ("buy", 289_500_000, BTC // 100, "WBTC"),
    ]
    made = run(lake, NAME, scenario)
    assert any("exact by vectors" in note for note in made.notes)
    lake.refresh()
    ((auctions, tested),) = lake.sql(
        f"SELECT (SELECT count(*) FROM run_auctions WHERE run_id = '{made.run_id}' AND step = 'buy'),"
        f" bool_or(rules_tested) FROM run_liquidations WHERE run_id = '{made.run_id}'"
    ).fetchall()
    assert (auctions, tested) == (2, False)


def test_without_its_readings_the_market_is_refused(stage: Stage, tmp_path: Path) -> None:
    with Rpc(stage.node.url) as rpc:
        told = rpc.eth_calls

        def silent(calls: Any) -> Any:
            return [None if call[1] == "0x" + selector("supplyKink()").hex() else data
                    for call, data in zip(calls, told(calls), strict=True)]  # fmt: skip

        rpc.eth_calls = silent  # type: ignore[method-assign]
        lake = Lake(tmp_path / "lake", create=True)
        with pytest.raises(RulesError, match=r"supplyKink\(\) of the implementation .* gives nothing"):
            fetch(lake, stage.config, rpc, finality=0)


def test_a_feed_that_answers_rounds_alone_is_read_with_every_answer_of_the_one_it_names(
    stage: Stage, lake: Lake
) -> None:
    source = stage.scaled.address.lower()
    rows = lake.sql(
        f"SELECT kind, parameters FROM raw.oracle_Source WHERE address = from_hex('{source[2:]}')"
    ).fetchall()
    assert rows[0][0] == "sampled"
    assert stage.feeds[2][1].address.lower() in rows[0][1]
    prices = lake.sql(
        "SELECT price, method FROM prices JOIN assets USING (market, asset_id) WHERE symbol = 'WBTC' ORDER BY seq"
    ).fetchall()
    assert [(int(price), method) for price, method in prices if price is not None] == [(30_000 * USD, "read")]


def test_facts_hold_the_readings(stage: Stage) -> None:
    with Rpc(stage.node.url) as rpc:
        text, _ = collect_facts(stage.config, rpc, finality=0)
    assert text.count('"totalsBasic()"') == 4
    assert '"getAssetInfo(uint8) 1"' in text


def test_the_head_is_as_fetched(stage: Stage, lake: Lake, tmp_path: Path) -> None:
    middle = stage.node.block_number - 12  # both have borrowed, nobody is absorbed yet
    assert_head_is_as_fetched(stage.config, stage.node.url, lake, middle, tmp_path / "lake", least=1)


def test_accounts_are_proven_by_running_what_the_contract_says(stage: Stage, lake: Lake) -> None:
    """Nothing is taken on trust: puppet, proxy of feeds, adapter and aggregator run where the proof is read."""
    last = lake.sql("SELECT max(block_number) FROM blocks").fetchall()[0][0]
    with Rpc(stage.node.url) as rpc:
        owing = prove(lake, NAME, "0x" + BOB.hex(), rpc, block=last)
        freed = prove(lake, NAME, "0x" + ALICE.hex(), rpc, block=last)
    assert owing.differences == freed.differences == ()
    assert owing.checked.stated == frozenset()
    assert owing.checked.view is not None
    assert owing.checked.view.health == 1_400 * 895 * 10**15 // 800
    assert {each.name: each.value for each in freed.checked.figures or ()}["balance"] == 109 * USDC
    assert {each.what: each.value for each in owing.checked.inputs}["price of WETH"] == 1_400 * USD
