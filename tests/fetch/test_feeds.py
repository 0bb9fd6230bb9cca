"""Price sources on a real node: what is fetched and folded equals what the oracle says at every block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backtest.errors import FetchError
from backtest.fetch import feeds
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake, Writer
from backtest.prices.fold import round_gaps
from tests.chain.node import Node
from tests.support.feed_market import Market, assert_as_on_chain, at_end, build

YEAR = 31_536_000
RAY_RATIO = 10**18


@pytest.fixture
def market(anvil: Node, tmp_path: Path) -> Market:
    return Market(anvil, tmp_path / "lake")


def test_every_kind_of_source(market: Market) -> None:
    node, made = market.node, build(market)
    made["eth"].send("transmit", 1900_00000000)
    made["link"].send("transmit", 14_00000000)
    made["ratio"].send("setRatio", 12 * 10**17)  # above the cap, which then binds
    node.mine(3)
    made["eth"].send("transmitAll", [1850_00000000, 1840_00000000, 1845_00000000])
    made["capped"].send("setCapParameters", 13 * 10**17, node.timestamp() - 10, 900)
    made["scaled"].send(
        "setCapParameters", 103 * 10**16, node.timestamp() - 10, 5000
    )  # binds, growth with six more digits
    node.warp(86400 * 30)
    node.mine(2)
    made["scaled_ratio"].send("setRatio", 10**18)
    made["dai"].send("transmit", 1_05000000)  # above the stable cap
    made["stable"].send("setPriceCap", 1_06000000)
    made["discount"].send("setMaxDiscountPerYear", 800)
    made["fixed"].send("setPrice", 1_01000000)
    made["steth"].send("transmit", 98 * 10**16)
    # A new aggregator answers before it is put in force.
    fresh = market.deploy("Aggregator", 8, "feed", 1700_00000000)
    fresh.send("transmit", 1710_00000000)
    made["eth_proxy"].send("setAggregator", fresh.address)
    made["eth"].send("transmit", 9_00000000)  # the old one answers on, to nobody
    fresh.send("transmit", 1720_00000000)
    made["eth"].send("transmit", 9_10000000)
    made["opaque"].send("setBroken", True)
    node.mine(2)
    fresh.send("transmit", -1)  # no price: the fallback oracle would be asked
    fresh.send("transmit", 1500_00000000)
    market.list(made["dai_proxy"])
    market.book.send(
        "setAssetSources", [market.assets[1], market.assets[5]], [made["capped"].address, made["eth_proxy"].address]
    )
    node.warp(86400 * 80)
    made["ratio"].send("setRatio", 14 * 10**17)
    node.mine(3)

    market.list(made["ratio"])  # no price source at all

    prices = market.fetch()
    assert_as_on_chain(market, prices)
    expected = {
        "eth_proxy": "feed",
        "link": "feed",
        "capped": "capped-ratio",
        "scaled": "capped-ratio",
        "stable": "capped-feed",
        "fixed": "fixed",
        "constant": "fixed",
        "cross": "cross",
        "opaque": "sampled",
        "discount": "discounted",
    }
    assert {name: market.kinds[made[name].address.lower()] for name in expected} == expected
    assert prices.schema.metadata == {b"mismatches": b"0"}
    assert any("an adapter of unknown rule" in note for note in market.notes.said)
    assert any(made["ratio"].address.lower() in note and "it answers nothing" in note for note in market.notes.said)
    inexact = {row["asset"] for row in prices.to_pylist() if not row["exact"]}
    assert inexact <= {market.assets[8]}, "only the source of unknown rule may be inexact here"


def test_update_within_a_block_holds_from_its_own_log(market: Market) -> None:
    made = build(market)
    receipt = made["eth"].send("transmitAll", [1_00000000, 2_00000000, 3_00000000])
    block = int(receipt["blockNumber"], 16)
    prices = market.fetch()
    eth = [row for row in prices.to_pylist() if row["asset"] == market.assets[0] and row["block_number"] == block]
    assert [(row["log_index"], int(row["price"]), row["order"], row["exact"]) for row in eth] == [
        (n, (n + 1) * 10**8, 0, True) for n in range(3)
    ]
    opaque = [row for row in prices.to_pylist() if row["asset"] == market.assets[8] and row["block_number"] == block]
    assert [(row["log_index"], int(row["price"]), row["exact"]) for row in opaque] == [
        (0, 1000_00000000, False),
        (1, 1000_00000000, False),
        (2, 150000000, True),
    ]


def test_phase_switch_beside_other_events_is_not_exact(market: Market) -> None:
    made = build(market)
    fresh = market.deploy("Aggregator", 8, "feed", 1000_00000000)
    receipts = market.node.send_block(
        [made["eth"].transaction("transmit", 5_00000000), made["eth_proxy"].transaction("setAggregator", fresh.address)]
    )
    block = int(receipts[0]["blockNumber"], 16)
    prices = market.fetch()
    assert_as_on_chain(market, prices)
    rows = [row for row in prices.to_pylist() if row["asset"] == market.assets[0] and row["block_number"] == block]
    assert [row["exact"] for row in rows if row["exact"]] == [] != rows
    (switch,) = [row for row in market.raw["raw/oracle/Phase"].to_pylist() if row["phase"] == 2]
    assert (switch["from_block"], switch["exact"], switch["aggregator"].hex()) == (
        block,
        True,
        fresh.address[2:].lower(),
    )


def test_ratio_change_in_a_liquidation_block_is_not_exact(market: Market) -> None:
    made = build(market)
    market.node.mine(2)
    block = int(made["scaled_ratio"].send("setRatio", 102 * 10**16)["blockNumber"], 16)
    market.node.mine(2)
    prices = market.fetch(liquidations=[block])
    assert_as_on_chain(market, prices)
    (row,) = [row for row in prices.to_pylist() if row["asset"] == market.assets[3] and row["block_number"] == block]
    assert (row["order"], row["log_index"], row["exact"]) == (1, -1, False)
    read = {row["asset"] for row in market.raw["raw/oracle/Read"].to_pylist() if row["block_number"] == block}
    assert len(read) == len(market.assets), "all prices are read at a liquidation"


def test_ratio_that_moves_all_the_time_is_known_where_it_matters(market: Market) -> None:
    made = build(market)
    made["scaled"].send("setCapParameters", 2 * 10**18, market.node.timestamp() - 10, 5000)
    made["scaled_ratio"].send("setGrowth", 10**12)
    for _ in range(12):
        market.node.mine(40)
        last = made["eth"].send("transmit", 2100_00000000)
    prices = market.fetch()
    block = int(last["blockNumber"], 16)
    moving = market.assets[3]
    assert at_end(prices, market.first, block)[block, moving] == market.said(block, block)[block, moving]
    rows = [row for row in prices.to_pylist() if row["asset"] == moving and row["block_number"] == block]
    assert not rows[-1]["exact"]
    assert any(made["scaled"].address.lower() in note and "moves all the time" in note for note in market.notes.said)


def test_ranges_in_any_order_give_the_same_prices(market: Market) -> None:
    node, made = market.node, build(market)
    first = node.block_number + 2
    for step in range(4):
        made["eth"].send("transmit", (1900 + step) * 10**8)
        made["ratio"].send("setRatio", 11 * 10**17 + step * 10**14)
        node.mine(2)
    fresh = market.deploy("Aggregator", 8, "feed", 1700_00000000)
    made["eth_proxy"].send("setAggregator", fresh.address)
    made["fixed"].send("setPrice", 1_02000000)
    middle, end = first + 5, node.block_number
    whole = market.fetch((market.first, end))
    market.folder = market.folder.parent / "parts"
    late = market.fetch((middle, end))
    assert_as_on_chain(market, late, middle)
    market.folder = market.folder.parent / "other"
    assert_as_on_chain(market, market.fetch((middle, end), (market.first, middle - 1)))
    assert_as_on_chain(market, whole)


def test_fetching_again_changes_nothing(market: Market) -> None:
    build(market)
    market.node.mine(3)
    market.fetch()
    first, digest = market.summary, Lake(market.folder).digest("test")
    assert Lake(market.folder).covered("test", feeds.COVERAGE) == [(market.first, market.node.block_number)]
    market.fetch()
    assert first.reads > 0 == market.summary.reads
    assert Lake(market.folder).digest("test") == digest


def test_an_interrupted_fetch_goes_on_where_it_was(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build(market)
    for step in range(6):
        made["eth"].send("transmit", (1900 + step) * 10**8)
        made["ratio"].send("setRatio", 11 * 10**17 + step * 10**13)
    monkeypatch.setattr(feeds, "WINDOW", 10)
    whole = market.fetch()
    assert_as_on_chain(market, whole)
    digest = Lake(market.folder).digest("test")
    market.folder = market.folder.parent / "interrupted"
    commit, left = Writer.commit, iter(range(6))

    def fails(*args: Any, **more: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        commit(*args, **more)

    for _ in range(20):
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "commit", fails)
            try:
                market.fetch()
                break
            except KeyboardInterrupt:
                left = iter(range(4))
    else:
        pytest.fail("never done")
    assert Lake(market.folder).digest("test") == digest


class WithoutState(Rpc):
    """A node that forgot the state of old blocks."""

    oldest = 0

    def eth_calls(self, calls: Sequence[tuple[str, str, int]]) -> list[bytes | None]:
        if any(block < self.oldest for _, _, block in calls):
            raise FetchError("missing trie node", "use an archive node: prices and checks read the state of old blocks")
        return super().eth_calls(calls)


def test_node_without_old_state(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feeds alone do without: an aggregator keeps its rounds. Adapters do not: the error says what to use."""
    aggregator, proxy = market.feed(100_00000000)
    market.list(proxy)
    aggregator.send("transmit", 101_00000000)
    start = market.node.block_number + 1
    aggregator.send("transmit", 102_00000000)
    monkeypatch.setattr("tests.support.feed_market.Rpc", WithoutState)
    monkeypatch.setattr(WithoutState, "oldest", market.node.block_number)
    prices = market.fetch((start, market.node.block_number))
    rows = [(row["block_number"], row["log_index"], row["price"], row["exact"]) for row in prices.to_pylist()]
    assert rows[1:] == [(start, -1, 101_00000000, True), (start, 0, 102_00000000, True)]
    adapter = market.deploy("CappedStableAdapter", proxy.address, "capped", 1_04000000)
    market.list(adapter)
    start = market.node.block_number + 1
    aggregator.send("transmit", 103_00000000)
    monkeypatch.setattr(WithoutState, "oldest", market.node.block_number)
    with pytest.raises(FetchError, match="use an archive node"):
        market.fetch((start, market.node.block_number))


def test_phases_without_old_state_are_estimates(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    aggregator, proxy = market.feed(100_00000000)
    market.list(proxy)
    fresh = market.deploy("Aggregator", 8, "feed", 200_00000000)
    proxy.send("setAggregator", fresh.address)
    aggregator.send("transmit", 101_00000000)
    market.node.mine(2)
    monkeypatch.setattr("tests.support.feed_market.Rpc", WithoutState)
    monkeypatch.setattr(WithoutState, "oldest", market.node.block_number)
    prices = market.fetch()
    assert (
        at_end(prices, market.first, market.node.block_number)[market.node.block_number, market.assets[0]]
        == 200_00000000
    )
    assert [row["exact"] for row in market.raw["raw/oracle/Phase"].to_pylist()] == [False, False]
    assert any("estimated" in note for note in market.notes.said)
    assert any("not compared" in note for note in market.notes.said)


def test_answers_that_become_visible_later(market: Market) -> None:
    """A dual aggregator behind a proxy: no log says when an answer is seen, so its price is read, and found to the
    block.
    """
    delayed = market.deploy("DelayedAggregator", 8, 50_00000000, 100)
    proxy = market.deploy("FeedProxy", delayed.address)
    market.list(proxy, market.deploy("CappedStableAdapter", proxy.address, "over a delayed feed", 1000_00000000))
    for step in range(3):
        delayed.send("transmit", (51 + step) * 10**8)
        market.node.mine(20)
    prices = market.fetch()
    assert_as_on_chain(market, prices)
    assert set(market.kinds.values()) == {"sampled"}
    seen = [row for row in prices.to_pylist() if row["asset"] == market.assets[0] and row["order"] == 1]
    assert [int(row["price"]) // 10**8 for row in seen if row["exact"]] == [51, 52, 53]


def test_rate_feed_behind_a_ratio(market: Market) -> None:
    """A ratio that is a feed's answer moves with the feed's logs: no sampling."""
    node = market.node
    eth, eth_proxy = market.feed(2000_00000000)
    rate, rate_proxy = market.feed(105 * 10**16, 18)
    adapter = market.deploy(
        "RateFeedAdapter", eth_proxy.address, rate_proxy.address, "lst", 18, 105 * 10**16, node.timestamp() - 99, 1000
    )
    market.list(adapter)
    rate.send("transmit", 104 * 10**16)
    eth.send("transmit", 1999_00000000)
    rate.send("transmit", 106 * 10**16)
    node.mine(3)
    prices = market.fetch()
    assert_as_on_chain(market, prices)
    assert market.summary.samples == 0
    assert market.kinds[adapter.address.lower()] == "capped-ratio"


ACTIONS = (
    "eth",
    "dai",
    "steth",
    "ratio",
    "scaled_ratio",
    "cap",
    "stable",
    "fixed",
    "discount",
    "phase",
    "source",
    "mine",
    "warp",
    "broken",
)


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(1, 10**6), st.booleans()), min_size=4, max_size=16))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_actions(
    anvil: Node, tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, int, bool]]
) -> None:
    """Whatever happens to the sources, one action a block or two: the fold says what the oracle said at every block."""
    snapshot = anvil.snapshot()
    try:
        market = Market(anvil, tmp_path_factory.mktemp("random") / "lake")
        made = build(market)
        names = ("eth_proxy", "link", "capped", "scaled", "stable", "fixed", "constant", "cross", "discount")
        for action, number, more in actions:
            transactions = {
                "eth": lambda n: made["eth"].transaction("transmit", n * 10**5 - 10**9),
                "dai": lambda n: made["dai"].transaction("transmit", 98 * 10**6 + n * 10),
                "steth": lambda n: made["steth"].transaction("transmit", 10**18 - n * 10**11),
                "ratio": lambda n: made["ratio"].transaction("setRatio", 10**18 + n * 3 * 10**11),
                "scaled_ratio": lambda n: made["scaled_ratio"].transaction("setRatio", 10**18 + n * 10**11),
                "cap": (
                    lambda n: made["capped"].transaction(
                        "setCapParameters", 10**18 + n * 10**11, anvil.timestamp() - n % 9999, n % 2000
                    )
                ),
                "stable": lambda n: made["stable"].transaction("setPriceCap", 98 * 10**6 + n * 10),
                "fixed": lambda n: made["fixed"].transaction("setPrice", n),
                "discount": lambda n: made["discount"].transaction("setMaxDiscountPerYear", n % 3000 + 1),
                "broken": lambda n: made["opaque"].transaction("setBroken", n % 2 == 0),
                "source": lambda n: market.book.transaction(
                    "setAssetSources", [market.assets[n % 10]], [made[names[n % 9]].address]
                ),
            }
            if action == "mine":
                anvil.mine(number % 5 + 1)
            elif action == "warp":
                anvil.warp(number * 5)
                anvil.mine()
            elif action == "phase":
                fresh = market.deploy("Aggregator", 8, "feed", number * 10**5)
                made["eth_proxy"].send("setAggregator", fresh.address)
                made["eth"] = fresh
            else:
                anvil.send_block([transactions[action](number), *([transactions[action](number + 7)] if more else [])])
        prices = market.fetch()
        assert_as_on_chain(market, prices)
        assert prices.schema.metadata == {b"mismatches": b"0"}
        assert round_gaps(market.raw["raw/chainlink/AnswerUpdated"]) == []
    finally:
        anvil.revert(snapshot)


def test_round_gap_is_found(market: Market) -> None:
    made = build(market)
    made["eth"].send("transmit", 1)
    made["eth"].send("skipRound")
    block = int(made["eth"].send("transmit", 2)["blockNumber"], 16)
    market.fetch()
    (gap,) = round_gaps(market.raw["raw/chainlink/AnswerUpdated"])
    assert (gap.aggregator, gap.block_number, gap.after, gap.next_round) == (made["eth"].address.lower(), block, 2, 4)
