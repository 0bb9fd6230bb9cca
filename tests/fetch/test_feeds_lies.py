"""Price sources on a real node that lies about calls or has no old state and does not say so: the fetch ends with a
line that says so, or its prices are those of a node without old state, and none is marked exact that is not.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from backtest.errors import FetchError
from backtest.fetch.adapters import ANSWER, selector
from backtest.fetch.oracle import ASSET_PRICE
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake, checks
from backtest.reconstruct import reconstruct
from backtest.resources import resource
from tests.chain.node import Node
from tests.support.feed_market import Market, assert_as_on_chain, at_end, build

PRICES = selector("getAssetsPrices(address[])")
Call = tuple[str, str, int]


@pytest.fixture
def market(anvil: Node, tmp_path: Path) -> Market:
    return Market(anvil, tmp_path / "lake")


class Silent(Rpc):
    """Old calls give no bytes, as without code there."""

    oldest = 0

    def eth_calls(self, calls: Sequence[Call]) -> list[bytes | None]:
        found = super().eth_calls(calls)
        return [b"" if call[2] < self.oldest else data for call, data in zip(calls, found, strict=True)]


class Reverting(Silent):
    """Old calls revert."""

    def eth_calls(self, calls: Sequence[Call]) -> list[bytes | None]:
        found = super().eth_calls(calls)
        return [None if call[2] < self.oldest else data for call, data in zip(calls, found, strict=True)]


class Latest(Silent):
    """Old calls are answered from the latest state."""

    def eth_calls(self, calls: Sequence[Call]) -> list[bytes | None]:
        return Rpc.eth_calls(self, [(to, data, max(block, self.oldest)) for to, data, block in calls])


@pytest.mark.parametrize("kind", [Silent, Reverting, Latest])
def test_a_node_without_old_state_that_does_not_say_so(
    market: Market, monkeypatch: pytest.MonkeyPatch, kind: type[Silent]
) -> None:
    """Plain feeds: their rounds tell the answers, phases are estimates, and it is said. Adapters: refused."""
    aggregator, proxy = market.feed(100_00000000)
    market.list(proxy)
    aggregator.send("transmit", 101_00000000)
    fresh = market.deploy("Aggregator", 8, "feed", 200_00000000)
    fresh.send("transmit", 201_00000000)
    proxy.send("setAggregator", fresh.address)
    market.node.mine(3)
    fresh.send("transmit", 202_00000000)
    end = market.node.block_number
    monkeypatch.setattr("tests.support.feed_market.Rpc", kind)
    monkeypatch.setattr(kind, "oldest", end)
    prices = market.fetch()
    assert at_end(prices, market.first, end)[end, market.assets[0]] == 202_00000000
    assert [row["exact"] for row in market.raw["raw/oracle/Phase"].to_pylist()] == [False, False]
    assert any("no old state" in note and "estimated" in note for note in market.notes.said)
    assert any("not compared" in note for note in market.notes.said)
    wrong = [row for row in prices.to_pylist() if row["exact"] and row["price"] is None]
    assert wrong == []
    (found,) = (found for found in checks.run(Lake(market.folder)) if found.check == "feeds__phases_read")
    assert found.violations == 2
    market.list(market.deploy("CappedStableAdapter", proxy.address, "capped", 1_04000000))
    fresh.send("transmit", 203_00000000)
    monkeypatch.setattr(kind, "oldest", market.node.block_number)
    market.folder = market.folder.parent / "other"
    with pytest.raises(FetchError, match=r"has no old state: at block \d+ 0x\w{40} answers.*archive node"):
        market.fetch()


def test_answers_before_a_window_are_not_those_of_the_end(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without old state: a window without a log of its own begins with the answer before the next log."""
    monkeypatch.setattr("backtest.fetch.feeds.WINDOW", 8)
    aggregator, proxy = market.feed(100_00000000)
    market.list(proxy)
    start = market.node.block_number + 1
    market.node.mine(20)
    aggregator.send("transmit", 101_00000000)
    monkeypatch.setattr("tests.support.feed_market.Rpc", Reverting)
    monkeypatch.setattr(Reverting, "oldest", market.node.block_number)
    prices = market.fetch((start, market.node.block_number))
    first = next(row for row in prices.to_pylist() if row["price"] is not None)
    assert int(first["price"]) == 100_00000000


class Denying(Rpc):
    """Reverts where the oracle is asked at some blocks; with ``once`` the first time only."""

    blocks: frozenset[int] = frozenset()
    once = False
    empty = False

    def eth_calls(self, calls: Sequence[Call]) -> list[bytes | None]:
        found = super().eth_calls(calls)
        lie = b"" if self.empty else None
        told = [
            lie
            if call[2] in self.blocks and call[1][:10] in (PRICES, selector(ASSET_PRICE), selector(ANSWER))
            else data
            for call, data in zip(calls, found, strict=True)
        ]
        if self.once and told != found:
            type(self).blocks = frozenset()
        return told


@pytest.mark.parametrize(("once", "empty"), [(True, False), (True, True), (False, False), (False, True)])
def test_a_node_that_denies_prices(market: Market, monkeypatch: pytest.MonkeyPatch, once: bool, empty: bool) -> None:
    made = build(market)
    made["eth"].send("transmit", 1900_00000000)
    market.node.mine(2)
    block = int(made["eth"].send("transmit", 1950_00000000)["blockNumber"], 16)
    market.node.mine(3)
    monkeypatch.setattr("tests.support.feed_market.Rpc", Denying)
    monkeypatch.setattr(Denying, "blocks", frozenset([block]))
    monkeypatch.setattr(Denying, "once", once)
    monkeypatch.setattr(Denying, "empty", empty)
    message = rf"at block {block} .*when asked again" if once else rf"at block {block}.*(own log|own logs|no price)"
    with pytest.raises(FetchError, match=message):
        market.fetch(liquidations=[block])
    monkeypatch.setattr("tests.support.feed_market.Rpc", Rpc)
    assert_as_on_chain(market, market.fetch(liquidations=[block]))


class Raising(Denying):
    """Answers of the oracle are one higher than they are."""

    def eth_calls(self, calls: Sequence[Call]) -> list[bytes | None]:
        found = Rpc.eth_calls(self, calls)
        told = [
            data[:-1] + bytes([data[-1] ^ 1]) if data and call[2] in self.blocks and call[1][:10] == PRICES else data
            for call, data in zip(calls, found, strict=True)
        ]
        if self.once and told != found:
            type(self).blocks = frozenset()
        return told


@pytest.mark.parametrize("once", [True, False])
def test_a_read_that_differs_from_the_logs_is_asked_again(
    market: Market, monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    aggregator, proxy = market.feed(100_00000000)
    market.list(proxy)
    market.node.mine(2)
    block = int(aggregator.send("transmit", 101_00000000)["blockNumber"], 16)
    market.node.mine(3)
    monkeypatch.setattr("tests.support.feed_market.Rpc", Raising)
    monkeypatch.setattr(Raising, "blocks", frozenset([block]))
    monkeypatch.setattr(Raising, "once", once)
    if once:
        with pytest.raises(
            FetchError, match=rf"at block {block} is \d+, and when asked again 10100000000; use another"
        ):
            market.fetch(liquidations=[block])
        return
    prices = market.fetch(liquidations=[block])
    assert market.summary.overruled == 1
    assert any("1 of 2 reads of the oracle differ from the feeds' own logs" in note for note in market.notes.said)
    assert [(row["method"], row["exact"]) for row in prices.to_pylist() if row["block_number"] == block][-1] == (
        "read",
        False,
    )


def test_reads_without_a_price_are_counted(market: Market) -> None:
    made = build(market)
    made["opaque"].send("setBroken", True)
    market.node.mine(3)
    market.fetch()
    assert market.summary.unanswered > 0
    assert any(f"{market.summary.unanswered} of {market.summary.reads} reads" in note for note in market.notes.said)


@pytest.mark.slow
def test_prices_that_were_never_read_are_named_by_the_check(tmp_path: Path) -> None:
    """What a node without old state leaves: feeds by their logs alone, and liquidations at unread prices."""
    shutil.copytree(resource("sample") / "lake", tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    market = "sample-crash"

    def found() -> checks.Finding:
        return next(one for one in checks.run(Lake(lake.path)) if one.check == "prices__read_at_liquidations")

    assert found().violations == 0
    reads = lake.read("raw/oracle/Read", market)
    hits = lake.read("canonical/liquidations", market)["block_number"].to_pylist()
    kept = reads.filter(pc.not_equal(reads["block_number"], hits[0]))
    assert kept.num_rows < reads.num_rows
    with lake.writer() as writer:
        writer.replace(market, "raw/oracle/Read", [("raw/oracle/Read", kept)], stamp="")
    one = found()
    assert one.violations
    assert f"first_block {hits[0]}" in one.examples[0]
    with lake.writer() as writer:
        writer.replace(market, "raw/oracle/Read", [("raw/oracle/Read", kept.slice(0, 0))], stamp="")
    assert f"missing {len(set(hits))}, demanded {len(set(hits))}" in found().examples[0]


@pytest.mark.slow
def test_prices_that_were_read_otherwise_than_computed_are_named_by_the_check(tmp_path: Path) -> None:
    shutil.copytree(resource("sample") / "lake", tmp_path / "lake")
    lake, market = Lake(tmp_path / "lake"), "sample-crash"

    def found() -> checks.Finding:
        return next(one for one in checks.run(Lake(lake.path)) if one.check == "prices__read_as_computed")

    assert found().violations == 0
    table = lake.read("raw/oracle/Read", market)
    prices = table["price"].to_pylist()
    prices[-1] += 1
    place = table.schema.get_field_index("price")
    false = table.set_column(place, table.schema.field(place), pa.array(prices, table.schema.field(place).type))
    with lake.writer() as writer:
        writer.replace(market, "raw/oracle/Read", [("raw/oracle/Read", false)], stamp="")
    reconstruct(Lake(lake.path), market)
    one = found()
    assert one.violations == 1
    assert f"first_block {table['block_number'].to_pylist()[-1]}" in one.examples[0]
