"""What the oracle is asked, against the bytecode: fallback oracles (all versions), e-mode price sources (3.0).

A script plays each market on a local node; prices and account data of every block, every liquidation and every
borrow's limit are the contracts', from the fetched lake alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from backtest.errors import PriceMissing
from backtest.fetch import fetch
from backtest.fetch.context import Silent
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.health import health
from backtest.inexact import UNTOLD, doubts
from backtest.lake import Lake, checks
from backtest.model import AccountId, Asset, Market, PositionChange
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.aave_v3.account import account_data
from backtest.protocols.interface import Acted, Action
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.several import state_at
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import Competitive, Scenario
from backtest.units import WAD
from tests.chain.aave import EMODES
from tests.chain.contracts import artifact_v30, artifacts_v36, own
from tests.chain.deployment import Deployment
from tests.chain.node import ZERO, Contract, RpcError, Transaction
from tests.support.aave_stage import DAY, MARKET, Stage
from tests.support.aave_values import all_at_once, one_by_one

UNIT = 10**18


def _deployed(version: str, request: pytest.FixtureRequest) -> Deployment:
    market: Deployment = request.getfixturevalue("fresh_v30" if version == "3.0" else "fresh_v36")
    return market


def _price(market: Deployment, asset: str, block: int) -> int | None:
    """The oracle's answer; None where it reverts."""
    oracle = Contract(market.node, market.provider.call("getPriceOracle", block=block), market.oracle.abi)
    try:
        return int(oracle.call("getAssetPrice", asset, block=block))
    except RpcError:
        return None


def _check(stage: Stage, market: Market, timeline: Timeline, blocks: range) -> Counter[str]:
    """Prices of all assets and the six numbers of everybody, where they revert too, at these blocks."""
    ids, seen = {account: id for id, account in enumerate(market.accounts)}, Counter[str]()
    for block in blocks:
        state, prices, now = state_at(AAVE_V3, market, timeline, block)
        for asset in market.assets:
            theirs = _price(stage.market, asset.asset, block)
            assert (prices.oracle.get(asset.id) or None) == theirs, f"{asset.symbol} at block {block}"
            seen["no price"] += theirs is None
        for account, numbers in zip(stage.accounts, stage.market.account_data(stage.accounts, block), strict=True):
            if account.lower() not in ids:
                continue
            try:
                ours = tuple(account_data(state, ids[account.lower()], prices.oracle, now))
            except PriceMissing:
                ours = None
            assert ours == numbers, f"{account} at block {block}"
            seen["reverts"] += ours is None
            seen["in debt"] += bool(ours and ours[1])
    return seen


def _check_liquidations(market: Market, timeline: Timeline, done: int) -> None:
    """Every liquidation is what the rules make of the state before it, and none that the chain made is missing."""
    outcome = replay(AAVE_V3, market, timeline, Scenario())
    assert outcome.mismatches == []
    assert len(outcome.liquidations) == done
    assert all(row.matches_history and row.fill.rules_tested for row in outcome.liquidations)


def _check_sql(lake: Lake, market: Market, timeline: Timeline, blocks: Sequence[int]) -> int:
    """SQL health is that of the exact rules, and so are all accounts at once; how many healths were compared."""
    compared = 0
    for fast, sure in zip(
        lake.sql(f"FROM health(NULL, {list(blocks)}) ORDER BY block_number, account_id").to_arrow_table().to_pylist(),
        health(lake, MARKET, None, blocks, exact=True).to_pylist(),
        strict=True,
    ):
        state, prices, now = state_at(AAVE_V3, market, timeline, fast["block_number"])
        views = all_at_once(AAVE_V3.views(state, prices, now))
        assert views == one_by_one(state, prices, now)
        view = views.get(fast["account_id"])
        where = fast["account"], fast["block_number"]
        if view is None or view.health is None:
            owes = state.accounts[fast["account_id"]].debt
            assert fast["missing"] == ("price" if owes else "no debt"), where
            continue
        assert fast["missing"] is None, where
        assert int(sure["health_wad"]) == view.health, where
        assert fast["near_one"] or fast["health"] == pytest.approx(view.health / WAD, rel=1e-9, abs=0), where
        compared += 1
    return compared


def _found(lake: Lake) -> set[str]:
    """The checks of ``backtest check`` that find something."""
    return {one.check for one in checks.run(lake) if not one.passed}


def _inexact(lake: Lake) -> int:
    """How many prices are not exact."""
    return int(lake.sql("SELECT count(*) FILTER (NOT exact) FROM prices").fetchall()[0][0])


# -- fallback oracles --------------------------------------------------------------------------------------------------


class _Fallbacks:
    """A market whose oracle may fall back on ``first``, and that on ``second``; feeds of each by symbol."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.market, self.node = stage, stage.market, stage.node
        self.code = own("Feeds.sol")
        now = self.market.prices()
        self.feeds = {
            name: {symbol: self.feed(now[symbol] * percent // 100) for symbol in symbols}
            for name, percent, symbols in (
                ("first", 97, ("WETH", "LINK", "DAI")),
                ("second", 90, ("LINK", "wstETH", "USDC")),
            )
        }
        self.second = self.oracle(self.feeds["second"], ZERO)
        self.first = self.oracle(self.feeds["first"], ZERO)

    def feed(self, answer: int) -> Contract:
        return self.node.deploy(self.code["Aggregator"], 8, "fallback", answer)

    def oracle(self, feeds: dict[str, Contract], fallback: str) -> Contract:
        aave = artifact_v30("AaveOracle") if self.market.version == "3.0" else artifacts_v36()["AaveOracle"]
        assets = [self.market.reserves[symbol].asset.address for symbol in feeds]
        sources = [feed.address for feed in feeds.values()]
        return self.node.deploy(aave, self.market.provider.address, assets, sources, fallback, ZERO, 10**8)


def _populate(stage: Stage) -> None:
    market = stage.market
    one, two, three, four = stage.people
    stage.all(*(market.supply(stage.lender, symbol, 10**6 * row.unit) for symbol, row in market.reserves.items()))
    stage.all(
        market.supply(one, "WETH", 100 * UNIT),
        market.supply(two, "LINK", 10_000 * UNIT),
        market.supply(three, "wstETH", 50 * UNIT),
        market.supply(three, "WBTC", 10**8),
        market.supply(four, "WBTC", 10**8),
    )
    stage.all(
        market.borrow(one, "DAI", 13_000 * UNIT),
        market.borrow(two, "USDC", 18_000 * 10**6),
        market.borrow(three, "LINK", 2_500 * UNIT),
        market.borrow(four, "WETH", 12 * UNIT),
    )


@pytest.mark.parametrize("version", ["3.0", "3.6"])
@pytest.mark.parametrize("seed", range(2))
def test_a_fallback_oracle_s_price_counts_while_the_source_says_nothing(
    version: str, seed: int, chain_packages: None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Feeds that answer 0 or less for a while, sources that are removed, fallbacks of fallbacks that come and go, an
    oracle that is replaced by one that was born with a fallback.
    """
    stage = Stage(_deployed(version, request))
    market, node, draw = stage.market, stage.node, random.Random(seed)
    begin = node.block_number
    _populate(stage)
    backs = _Fallbacks(stage)
    start = market.prices()
    link = market.reserves["LINK"].asset.address
    oracle = market.oracle
    for turn in range(110):
        symbol = draw.choice(("WETH", "LINK", "DAI", "LINK"))
        moved = start[symbol] * draw.randrange(55, 130) // 100
        feed = market.reserves[symbol].feed
        backed, back = draw.choice([pair for feeds in backs.feeds.values() for pair in feeds.items()])
        user = draw.choice(stage.people)
        steps = {
            "answer": [feed.transmit(moved)],
            "silence": [feed.transmit(draw.choice((0, -1)))],
            "both": [feed.transmit(0), feed.transmit(moved), feed.transmit(0)],
            "fallback answer": [back.transaction("transmit", start[backed] * draw.randrange(55, 130) // 100)],
            "fallback silence": [back.transaction("transmit", draw.choice((0, -7)))],
            "fall back": [oracle.transaction("setFallbackOracle", draw.choice((backs.first, backs.second)).address)],
            "on nothing": [oracle.transaction("setFallbackOracle", ZERO)],
            "further": [
                backs.first.transaction("setFallbackOracle", draw.choice((backs.second.address, ZERO, oracle.address)))
            ],
            "removed": [oracle.transaction("setAssetSources", [link], [ZERO])],
            "given back": [oracle.transaction("setAssetSources", [link], [market.reserves["LINK"].feed.address])],
            "liquidate": [
                market.liquidate(stage.liquidator, collateral, debt, who, draw.choice((10**9, 2**256 - 1)))
                for who, collateral, debt in zip(
                    stage.people,
                    ("WETH", "LINK", draw.choice(("wstETH", "WBTC")), "WBTC"),
                    ("DAI", "USDC", "LINK", "WETH"),
                    strict=True,
                )
            ],
            "borrow": [market.borrow(user, "USDC", draw.randrange(1, 500 * 10**6))],
            "supply": [market.supply(user, "WBTC", 10**6)],
        }
        kind = draw.choice([*steps, "liquidate", "liquidate", "answer", "fallback answer", "fall back", "fall back"])
        if turn == 70:
            market.oracle = oracle = _reborn(stage, backs)
            continue
        stage.some(kind, *steps[kind])
        if draw.random() < 0.3:
            stage.wait(draw.choice((12, DAY)))
    fallen = _fall(stage, backs, start)
    lake, ours, timeline = stage.history(tmp_path)
    assert _inexact(lake) == 0
    seen = _check(stage, ours, timeline, range(begin, node.block_number + 1))
    assert min(seen["no price"], seen["reverts"]) > 10, seen
    assert seen["in debt"] > 200, seen
    assert fallen
    assert stage.done["liquidate"] >= 2 + fallen, stage.done
    _check_liquidations(ours, timeline, stage.done["liquidate"])
    _check_sql(lake, ours, timeline, range(begin, node.block_number + 1, 7))
    assert _found(lake) <= {"prices__answered"}, "where neither a source nor a fallback answers, a read has no price"
    assert verify(lake, MARKET, Rpc(node.url)).mismatches == []


def _fall(stage: Stage, backs: _Fallbacks, start: dict[str, int]) -> int:
    """WETH's feed is silent and LINK's source gone, and by the fallback both are worth next to nothing: how many of
    their holders are liquidated then.
    """
    market, before = stage.market, stage.done["liquidate"]
    calm = [row.feed.transmit(start[s]) for s, row in market.reserves.items() if s in ("WETH", "LINK", "DAI")]
    stage.all(
        *calm,
        market.oracle.transaction("setFallbackOracle", backs.first.address),
        backs.first.transaction("setFallbackOracle", ZERO),
    )
    stage.all(
        market.reserves["WETH"].feed.transmit(0),
        market.oracle.transaction("setAssetSources", [market.reserves["LINK"].asset.address], [ZERO]),
        *(backs.feeds["first"][symbol].transaction("transmit", start[symbol] // 3) for symbol in ("WETH", "LINK")),
    )
    for user, collateral, debt in zip(stage.people, ("WETH", "LINK"), ("DAI", "USDC"), strict=False):
        stage.some("liquidate", market.liquidate(stage.liquidator, collateral, debt, user))
    return stage.done["liquidate"] - before


def _reborn(stage: Stage, backs: _Fallbacks) -> Contract:
    """A new oracle with the market's sources, born with a fallback, and put in force."""
    market = stage.market
    feeds = {symbol: Contract(stage.node, row.source, []) for symbol, row in market.reserves.items()}
    oracle = backs.oracle(feeds, backs.first.address)
    stage.all(market.provider.transaction("setPriceOracle", oracle.address))
    return oracle


class _Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize("version", ["3.0", "3.6"])
def test_a_fallback_of_which_no_log_tells_is_read_and_its_prices_are_not_exact(
    version: str, chain_packages: None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """While the feed answers, prices are the feed's and exact. While it is silent they are read: right where they were
    read, flagged where they may have moved, and said to be so.
    """
    stage = Stage(_deployed(version, request))
    market, node = stage.market, stage.node
    begin, weth = node.block_number, market.reserves["WETH"]
    _populate(stage)
    silent = node.deploy(own("Oracles.sol")["SilentOracle"])
    price = market.prices()["WETH"]

    def say(percent: int) -> None:
        stage.all(silent.transaction("setAssetPrice", weth.asset.address, price * percent // 100))

    say(99)
    stage.all(market.oracle.transaction("setFallbackOracle", silent.address))
    stage.all(weth.feed.transmit(price * 98 // 100))
    stage.all(weth.feed.transmit(0))
    quiet = node.block_number
    stage.wait(3 * 3_600)
    say(95)
    stage.wait(3 * 3_600)
    say(45)
    stage.some("liquidate", market.liquidate(stage.liquidator, "WETH", "DAI", stage.people[0], 100 * UNIT))
    fallen = node.block_number
    stage.wait(3 * 3_600)
    stage.all(weth.feed.transmit(price))
    back = node.block_number
    stage.all(weth.feed.transmit(price * 101 // 100))
    assert stage.done["liquidate"] == 1
    lake, notes = Lake(tmp_path, create=True), _Notes()
    fetch(lake, market.market_config(MARKET), Rpc(node.url), finality=0, headers="all", progress=notes)
    lake.refresh()
    made = reconstruct(lake, MARKET)
    lake.refresh()
    ours, timeline = load_market(lake, MARKET), load_timeline(lake, MARKET)
    assert any("falls back on one whose sources no log tells" in text for text in notes.texts), notes.texts
    for blocks in (range(begin, quiet + 1), range(fallen, fallen + 1), range(back, node.block_number + 1)):
        _check(stage, ours, timeline, blocks)
    _check_liquidations(ours, timeline, 1)
    rows = lake.sql("SELECT block_number, exact FROM prices JOIN assets USING (market, asset_id) WHERE symbol = 'WETH'")
    flagged = {block for block, exact in rows.fetchall() if not exact}
    assert flagged, made
    found = {doubt.asset: doubt for doubt in doubts(lake, MARKET)}
    assert found.keys() == {"WETH", "wstETH"}  # whose exchange rate is of a silent feed
    assert {doubt.why for doubt in found.values()} == {UNTOLD}
    assert found["WETH"].steps == len(flagged)
    assert all(quiet <= block < back for block in flagged), (quiet, back, flagged)


# -- e-mode price sources of 3.0 ---------------------------------------------------------------------------------------


def _category(market: Deployment, number: int, source: str) -> Transaction:
    _, ltv, threshold, bonus, label, _ = EMODES[number - 1]
    return market.configurator.transaction("setEModeCategory", number, ltv, threshold, bonus, source, label)


def _play_categories(stage: Stage, seed: int, rounds: int = 110) -> list[int]:
    """Categories that take a price of their own, of an asset that is not listed or of a listed one, lose it and find it
    again; that asset's feed is silent or gone; assets change categories under those who owe them. Blocks to see.
    """
    market, node, draw, blocks = stage.market, stage.node, random.Random(seed), []
    own_price = "0x" + "e5" * 20
    code, start = own("Feeds.sol")["Aggregator"], market.prices()
    feed = node.deploy(code, 8, "ETH / USD, another", start["WETH"] * 104 // 100)
    usdc, weth = (market.reserves[symbol].asset.address for symbol in ("USDC", "WETH"))
    given = market.oracle.transaction("setAssetSources", [own_price], [feed.address])
    stage.all(given)
    one, two, three, four, five, six = stage.people
    stage.all(*(market.supply(stage.lender, symbol, 10**6 * row.unit) for symbol, row in market.reserves.items()))
    stage.all(
        *(market.supply(user, "wstETH", 30 * UNIT) for user in (one, two)),
        *(market.supply(user, "WBTC", 3 * 10**8) for user in (two, three, four)),
        *(market.supply(user, "DAI", 20_000 * UNIT) for user in (four, five)),
        market.supply(six, "WETH", 100 * UNIT),
        *(market.set_emode(user, 1) for user in (one, two, three)),
        *(market.set_emode(user, 2) for user in (four, five)),
    )
    stage.all(
        market.borrow(one, "WETH", 29 * UNIT),
        market.borrow(two, "WETH", 80 * UNIT),
        market.borrow(three, "WETH", 70 * UNIT),
        market.borrow(four, "USDC", 20_000 * 10**6),
        market.borrow(five, "USDC", 17_000 * 10**6),
        market.borrow(six, "LINK", 3_000 * UNIT),
    )
    stage.all(_category(market, 1, own_price), _category(market, 2, usdc))
    for _ in range(rounds):
        symbol, user = draw.choice(("WETH", "WBTC", "DAI", "LINK")), draw.choice(stage.people)
        debt = draw.choice(("WETH", "WETH", "USDC"))
        amount = draw.randrange(1, 5 * market.reserves[debt].unit)
        steps = {
            "own price": [feed.transaction("transmit", start["WETH"] * draw.randrange(80, 135) // 100)],
            "own silence": [feed.transaction("transmit", draw.choice((0, -3)))],
            "own gone": [market.oracle.transaction("setAssetSources", [own_price], [ZERO])],
            "own back": [feed.transaction("transmit", start["WETH"]), given],
            "answer": [market.reserves[symbol].feed.transmit(start[symbol] * draw.randrange(85, 120) // 100)],
            "usdc": [market.reserves["USDC"].feed.transmit(start["USDC"] * draw.randrange(90, 106) // 100)],
            "category 1": [_category(market, 1, draw.choice((own_price, own_price, weth, ZERO)))],
            "category 2": [_category(market, 2, draw.choice((usdc, usdc, own_price, ZERO)))],
            "moved": [market.configure("setAssetEModeCategory", draw.choice(("WETH", "LINK")), draw.choice((0, 1, 1)))],
            "mode": [market.set_emode(draw.choice((one, four, four, five)), draw.choice((0, 2, 2)))],
            "borrow": [market.borrow(user, debt, amount)],
            "repay": [market.repay(stage.lender, debt, amount, user)],
            "withdraw": [market.withdraw(user, "WBTC", draw.randrange(1, 10**6))],
            "supply": [market.supply(user, "DAI", 1000 * UNIT)],
            "liquidate": [
                market.liquidate(stage.liquidator, collateral, debt, who, draw.choice((10**18, 2**256 - 1)))
                for who, collateral, debt in (
                    (two, draw.choice(("WBTC", "wstETH")), "WETH"),
                    (three, "WBTC", "WETH"),
                    (four, draw.choice(("WBTC", "DAI")), "USDC"),
                    (six, "WETH", "LINK"),
                )
            ],
        }
        kind = draw.choice([*steps, "own price", "own price", "own back", "borrow", "liquidate", "liquidate"])
        stage.some(kind, *steps[kind])
        blocks.append(node.block_number)
        if draw.random() < 0.3:
            stage.wait(draw.choice((12, 5 * DAY)))
    prices = [market.reserves[symbol].feed.transmit(start[symbol]) for symbol in ("WETH", "WBTC", "DAI", "LINK")]
    members = [market.configure("setAssetEModeCategory", symbol, 1) for symbol in ("WETH", "wstETH")]
    stage.all(*prices, *members, feed.transaction("transmit", start["WETH"]), given, _category(market, 1, own_price))
    stage.some("borrow", *(market.borrow(user, "WETH", UNIT // 100) for user in (one, two, three)))
    stage.some("withdraw", *(market.withdraw(user, "WBTC", 10**5) for user in (two, three)))
    # All but WBTC has the category's price; then WETH is of it no more, and has that price only as it is liquidated.
    stage.all(feed.transaction("transmit", start["WETH"] * 25 // 10))
    left = [
        market.configure("setAssetEModeCategory", "WETH", 0),
        market.reserves["WETH"].feed.transmit(start["WETH"] * 24 // 10),
    ]
    for moved in ([], left, members):
        stage.all(*moved)
        for user, collateral, tokens in ((two, "WBTC", False), (two, "wstETH", True), (three, "WBTC", False)):
            stage.some("liquidate", market.liquidate(stage.liquidator, collateral, "WETH", user, UNIT, tokens))
        blocks.append(node.block_number)
        if moved is left:  # whoever is in the category has no totals, though nothing of the category is held
            stage.all(feed.transaction("transmit", 0))
            blocks.append(node.block_number)
            stage.all(feed.transaction("transmit", start["WETH"] * 25 // 10))
    stage.all(feed.transaction("transmit", start["WETH"]))
    blocks.append(node.block_number)
    return blocks


def _check_borrows(stage: Stage, market: Market, timeline: Timeline, block: int) -> int:
    """The most that everybody may borrow of every asset at a block; of how many the contract allows any."""
    state, prices, now = state_at(AAVE_V3, market, timeline, block)
    pool, able = stage.market.pool, 0
    of_symbol = {asset.symbol: asset for asset in market.assets}

    def chain_lets(user: str, asset: Asset, amount: int) -> bool:
        data = pool.function("borrow").encode((asset.asset, amount, 2, 0, user))
        try:
            stage.node.call(pool.address, data, sender=user, block=block)
        except RpcError:
            return False
        return True

    def we_let(account: AccountId, asset: Asset, amount: int) -> bool:
        at = {"seq": 0, "block_number": block, "log_index": 0, "timestamp": now.timestamp, "action_seq": 0}
        change = PositionChange(
            **at, action="borrow", account=account, asset=asset.id, side="debt", delta=amount, amount=amount
        )
        return isinstance(AAVE_V3.act(state, Action("borrow", (change,)), prices, now), Acted)

    for user in stage.people:
        account = AccountId(market.accounts.index(user.lower()))
        for symbol, row in stage.market.reserves.items():
            asset, low, high = of_symbol[symbol], 0, 10**5 * row.unit
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if chain_lets(user, asset, middle) else (low, middle)
                if not low and high < row.unit // 10**6:
                    break
            if not low:
                assert not we_let(account, asset, row.unit // 100), (user, symbol)
                continue
            able += 1
            assert we_let(account, asset, low), (user, symbol, low)
            assert not we_let(account, asset, high), (user, symbol, high)
    return able


@pytest.mark.parametrize("seed", range(2))
def test_an_e_mode_category_s_own_price_is_that_of_the_contracts(
    fresh_v30: Deployment, seed: int, tmp_path: Path
) -> None:
    stage = Stage(fresh_v30, people=6)
    begin, node = stage.node.block_number, stage.node
    blocks = _play_categories(stage, seed)
    lake, market, timeline = stage.history(tmp_path)
    assert _inexact(lake) == 0
    seen = _check(stage, market, timeline, range(begin, node.block_number + 1))
    assert min(seen["no price"], seen["reverts"]) > 5, seen
    assert seen["in debt"] > 200, seen
    for kind in ("category 1", "category 2", "moved", "mode", "borrow", "withdraw"):
        assert stage.done[kind], stage.done
    assert stage.done["liquidate"] >= 7, stage.done
    _check_liquidations(market, timeline, stage.done["liquidate"])
    assert _check_sql(lake, market, timeline, sorted({*range(begin, node.block_number, 5), *blocks[-8:]})) > 20
    outcome = replay(AAVE_V3, market, timeline, Scenario(rates="recomputed"))
    assert outcome.rate_check is not None
    assert (outcome.rate_check.differing, outcome.mismatches, outcome.actions) == (0, [], [])
    assert sum(_check_borrows(stage, market, timeline, block) for block in blocks[-1::-40]) > 5
    for model in (Competitive(), Competitive(looks="price-update")):
        fast, plain = (
            replay(AAVE_V3, market, timeline, Scenario(liquidators=model), screened=screened)
            for screened in (True, False)
        )
        assert fast.liquidations == plain.liquidations
        assert fast.liquidations
        assert fast.book.state == plain.book.state
    assert _found(lake) <= {"prices__answered"}, "where neither a source nor a fallback answers, a read has no price"
    assert verify(lake, MARKET, Rpc(node.url)).mismatches == []
