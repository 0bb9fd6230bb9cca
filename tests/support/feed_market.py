"""A market of feeds on the local node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from backtest.fetch import feeds
from backtest.fetch.context import FetchContext, Silent
from backtest.fetch.logs import LogFetcher
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake, Writer
from backtest.markets import MarketConfig
from backtest.model import EventSpec, SourceChange
from backtest.prices.fold import fold_prices, read_sources
from tests.chain.contracts import own
from tests.chain.node import Contract, Node

SOURCE_UPDATED = "0x22c5b7b2d8561d39f7f210b6b326a1aa69f15311163082308ac4877db6339dc1"


def asset_number(number: int) -> str:
    return f"0x{number:040x}"


class Notes(Silent):
    """Remembers what a fetch said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


class Market:
    """Price sources of every kind behind one oracle, and a lake to fetch them into."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node, self.code, self.folder = node, own("Feeds.sol"), folder
        self.first = node.block_number + 1
        self.book = self.deploy("SourceBook")
        self.assets: list[str] = []
        self.notes = Notes()

    def deploy(self, name: str, *args: object) -> Contract:
        return self.node.deploy(self.code[name], *args)

    def feed(self, answer: int, decimals: int = 8) -> tuple[Contract, Contract]:
        aggregator = self.deploy("Aggregator", decimals, "feed", answer)
        return aggregator, self.deploy("FeedProxy", aggregator.address)

    def list(self, *sources: Contract) -> Sequence[str]:
        """Give new assets these sources, in one block."""
        assets = [asset_number(len(self.assets) + number + 1) for number in range(len(sources))]
        self.assets += assets
        self.book.send("setAssetSources", assets, [source.address for source in sources])
        return assets

    def changes(self) -> list[SourceChange]:
        logs = self.node.get_logs(address=self.book.address, topics=[SOURCE_UPDATED])
        return [
            SourceChange(
                int(log["blockNumber"], 16),
                int(log["logIndex"], 16),
                *(f"0x{topic[26:]}" for topic in log["topics"][1:]),
                self.book.address.lower(),
            )
            for log in logs
        ]

    def config(self) -> MarketConfig:
        return MarketConfig(name="test", protocol="test", chain_id=31337, start_block=self.first, contracts={})

    def fetch(self, *ranges: tuple[int, int], liquidations: Sequence[int] = ()) -> pa.Table:
        """Canonical prices of the ranges, fetched one by one into one lake."""
        lake = Lake(self.folder, create=True)
        config = self.config()
        with Rpc(self.node.url, workers=2) as rpc, lake.writer() as writer:
            writer.set_market(config)

            for first, last in ranges or ((self.first, self.node.block_number),):
                changes = [change for change in self.changes() if change.block_number <= last]
                self.summary = feeds.fetch_prices(self.context(lake, writer, rpc, first, last), changes, liquidations)
        self.raw = {dataset: lake.read(dataset, "test") for dataset in lake.datasets("test")}
        self.kinds = {address: source.kind for address, source in read_sources(self.raw["raw/oracle/Source"]).items()}
        blocks = {number: self.node.timestamp(number) for number in range(self.first - 1, self.node.block_number + 1)}
        return fold_prices(config, self.raw, self.changes(), blocks, liquidation_blocks=liquidations)

    def context(self, lake: Lake, writer: Writer, rpc: Rpc, first: int, last: int) -> FetchContext:
        """As ``backtest.fetch.fetch`` makes it."""
        logs = LogFetcher(lake, writer, "test", rpc, self.notes)

        def fetch_logs(
            specs: Sequence[EventSpec], addresses: Iterable[str], namespace: str, first: int, last: int
        ) -> int:
            emitters = list(addresses)
            return logs.fetch(namespace, specs, {spec.emitter: emitters for spec in specs}, first, last)

        return FetchContext(lake, writer, self.config(), rpc, first, last, self.notes, fetch_logs, logs.fetch_headers)

    def said(self, first: int, last: int) -> dict[tuple[int, str], int | None]:
        """What the oracle says at the end of every block about every asset that has a source."""
        listed = {change.asset: change.block_number for change in reversed(self.changes())}
        asked = [(block, asset) for block in range(first, last + 1) for asset in self.assets if block >= listed[asset]]
        data = [self.book.function("getAssetPrice").encode([asset]) for _, asset in asked]
        to = self.book.address
        calls = [
            ("eth_call", [{"to": to, "data": "0x" + code.hex()}, hex(block)])
            for (block, _), code in zip(asked, data, strict=True)
        ]
        return {
            key: int(found, 16) if isinstance(found, str) else None
            for key, found in zip(asked, self.node.batch(calls), strict=True)
        }


def at_end(prices: pa.Table, first: int, last: int) -> dict[tuple[int, str], int | None]:
    """The price of each asset at the end of every block, once it has one or is known to have none."""
    rows = prices.to_pylist()
    current: dict[str, int | None] = {}
    result = {}
    place = 0
    for block in range(first, last + 1):
        while place < len(rows) and rows[place]["block_number"] <= block:
            price = rows[place]["price"]
            current[rows[place]["asset"]] = None if price is None else int(price)
            place += 1
        result.update({(block, asset): price for asset, price in current.items()})
    return result


def assert_as_on_chain(market: Market, prices: pa.Table, first: int | None = None) -> None:
    start, end = first or market.first, market.node.block_number
    expected, got = market.said(start, end), at_end(prices, start, end)
    assert {
        key: (got.get(key, "nothing"), value) for key, value in expected.items() if got.get(key, "nothing") != value
    } == {}
    positions = list(zip(*(prices[name].to_pylist() for name in ("block_number", "log_index", "asset")), strict=True))
    assert positions == sorted(set(positions))


def build(market: Market) -> dict[str, Contract]:
    """One source of every kind, listed, with the contracts that move them."""
    now = market.node.timestamp()
    eth, eth_proxy = market.feed(2000_00000000)
    dai, dai_proxy = market.feed(1_00100000)
    steth, steth_proxy = market.feed(99 * 10**16, 18)
    link = market.deploy("Aggregator", 8, "LINK / USD", 15_00000000)
    rate, rate_proxy = market.feed(105 * 10**16, 18)
    ratio, scaled_ratio = market.deploy("RatioProvider", 11 * 10**17), market.deploy("RatioProvider", 104 * 10**16)
    snapshot = (11 * 10**17 - 10**12, now - 86400, 500)
    made = {
        "eth": eth,
        "eth_proxy": eth_proxy,
        "dai": dai,
        "steth": steth,
        "link": link,
        "rate": rate,
        "ratio": ratio,
        "scaled_ratio": scaled_ratio,
        "capped": market.deploy("CappedRatioAdapter", eth_proxy.address, ratio.address, "lst", 18, *snapshot),
        "scaled": market.deploy(
            "ScaledCappedRatioAdapter",
            eth_proxy.address,
            scaled_ratio.address,
            "lst2",
            18,
            104 * 10**16,
            now - 999,
            317,
        ),
        "stable": market.deploy("CappedStableAdapter", dai_proxy.address, "capped dai", 1_04000000),
        "fixed": market.deploy("FixedAdapter", 8, 1_00000000, "fixed"),
        "constant": market.deploy("ConstantAnswer"),
        "cross": market.deploy("CrossAdapter", eth_proxy.address, steth_proxy.address, 8, "steth / usd"),
        "opaque": market.deploy("OpaqueAdapter", eth_proxy.address),
    }
    made["discount"] = market.deploy("DiscountAdapter", made["stable"].address, now + 90 * 86400, 1500, "pt")
    made["rate_proxy"] = rate_proxy
    names = ("eth_proxy", "link", "capped", "scaled", "stable", "fixed", "constant", "cross", "opaque", "discount")
    made |= {"dai_proxy": dai_proxy}
    market.list(*(made[name] for name in names))
    return made
