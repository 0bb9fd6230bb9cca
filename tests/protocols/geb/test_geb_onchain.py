"""Open Dollar's contracts, of GEB's lineage, on the local node: from their logs alone, what they say of every SAFE,
what each liquidation took, and what each purchase paid and got, to the last integer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.fetch.verify import verify
from backtest.lake import Lake
from backtest.model import (
    AccountId,
    AssetId,
    Clock,
    Market,
    ParamChange,
    PositionChange,
    Side,
)
from backtest.protocols.book import Book
from backtest.protocols.geb import GEB, house
from backtest.protocols.geb.params import OPEN_DOLLAR
from backtest.protocols.interface import Action, Fill, Order, Refusal
from backtest.protocols.vaults.state import COIN, COLLATERAL, PAIR
from backtest.reconstruct import reconstruct
from backtest.replay.engine import replay
from backtest.replay.timeline import Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import Scenario
from backtest.units import RAY
from tests.chain.node import Node
from tests.chain.safes import BUYER, ILK, LEAST, MINIMUM, MOST, OWNERS, RATE, Safes, play
from tests.support.sql_engine import assert_sql_is_the_engine, spread
from tests.support.walked import books_at

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("open-dollar")]
ERRORS = {
    "LiqEng_SAFENotUnsafe": "not unsafe",
    "LiqEng_LiquidationLimitHit": "liquidation limit hit",
    "LiqEng_DustySAFE": "dusty safe",
    "LiqEng_NullAuction": "null auction",
    "CAH_InvalidBid": "invalid bid",
    "CAH_InexistentAuction": "inexistent auction",
    "CAH_InvalidLeftToRaise": "invalid left to raise",
}


@dataclass(frozen=True)
class History:
    safes: Safes
    lake: Lake
    market: Market
    timeline: Timeline

    def id(self, who: str) -> AccountId | None:
        known = who.lower() in self.market.accounts
        return AccountId(self.market.accounts.index(who.lower())) if known else None

    def books(self, blocks: Iterable[int]) -> Iterator[tuple[int, Book[Any]]]:
        """The book at the end of each block, in one walk; read it before going on."""
        return books_at(GEB, self.market, self.timeline, blocks)


@pytest.fixture(scope="module")
def history(chain_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with Node() as node:
        safes, lake = play(node, 1), Lake(tmp_path_factory.mktemp("safes") / "lake", create=True)
        config = safes.market_config()
        with Rpc(node.url) as rpc:
            fetch(lake, config, rpc, finality=0, headers="all")
        reconstruct(lake, config.name)
        lake.refresh()
        yield History(safes, lake, load_market(lake, config.name), load_timeline(lake, config.name))


def test_the_script_covers_what_it_should(history: History) -> None:
    safes = history.safes
    tried = Counter(error for _, _, error in safes.attempts)
    assert tried[""] > 60
    assert tried["LiqEng_LiquidationLimitHit"] > 3
    assert tried["LiqEng_DustySAFE"] > 1
    refused = Counter(error for *_, error in safes.calls)
    assert refused[""] > 80
    assert refused["SAFEEng_SAFENotSafe"] > 10
    assert refused["SAFEEng_DustySAFE"] > 3
    bought = Counter(each.refused for each in safes.purchases)
    assert bought[None] > 40
    assert {"CAH_InvalidBid", "CAH_InexistentAuction", "CAH_InvalidLeftToRaise"} <= set(bought)
    assert {change.value for change in history.timeline.params if change.name == "liquidation_system"} == {OPEN_DOLLAR}


def test_safes_prices_and_rates_equal_the_chain(history: History) -> None:
    """Of every SAFE its collateral and debt, and the rate, safety price and liquidation price, at thirty blocks."""
    safes, last = history.safes, history.safes.node.block_number
    compared = 0
    for block, book in history.books(range(150, last, (last - 150) // 30)):
        *_, rate, safety, liquidation = safes.engine.call("cData", ILK, block=block)
        state, prices = book.state, book.prices
        assert (state.rate(), state.cap(prices), state.spot(prices)) == (rate, safety, liquidation)
        assert state.redemption_price(prices, book.now) == safes.relayer.call("calcRedemptionPrice", block=block)
        for who in OWNERS:
            account = history.id(who)
            held = (0, 0) if account is None else (state.ink.get(account, 0), state.art.get(account, 0))
            assert held == safes.engine.call("safes", ILK, who, block=block)
            unsafe = held[0] * liquidation < held[1] * rate
            assert account is None or bool(GEB.pairs(state, account, prices, book.now)) == unsafe
            compared += 1
    assert compared > 3_000


def test_owners_calls_pass_and_fail_where_they_did(history: History) -> None:
    """Made again by ``act`` in the book of the block before; a call of somebody without a SAFE as that of a new one."""
    safes = history.safes
    calls = {block: rest for block, *rest in safes.calls}
    new, found = AccountId(len(history.market.accounts)), Counter[str]()
    for before, book in history.books(block - 1 for block in calls):
        who, dink, dart, error = calls[before + 1]
        account = history.id(who)
        if account is None:
            account = new
        if error == "0x4e487b71":  # repays more than it owes: here it is cut to that
            continue
        place: dict[str, Any] = {"seq": 0, "block_number": before, "log_index": 0, "timestamp": book.now.timestamp}
        sides: tuple[tuple[AssetId, Side, int], ...] = ((COLLATERAL, "collateral", dink), (COIN, "debt", dart))
        changes = tuple(
            PositionChange(**place, account=account, asset=asset, side=side, delta=delta, action="x", action_seq=0)
            for asset, side, delta in sides
            if delta
        )
        name = "borrow" if dart > 0 else "repay"
        made = GEB.act(book.state, Action(name, changes), book.prices, book.now)
        reason = made.reason if isinstance(made, Refusal) else ""
        assert reason == {"SAFEEng_SAFENotSafe": "not safe", "SAFEEng_DustySAFE": "dust", "": ""}[error]
        found[reason] += 1
    assert min(found.values()) > 3
    assert len(found) == 3


def test_liquidations_take_what_the_contracts_took(history: History) -> None:
    """Made by the rules alone, with what was then on auction; and refused where they were refused."""
    safes, name = history.safes, history.market.name
    tried = {block: (who, error) for block, who, error in safes.attempts}
    taken = {
        row["block_number"]: (int(row["seized"]), int(row["debt_scaled"]))
        for row in history.lake.read("canonical/liquidations", name).to_pylist()
    }
    raised = {
        row["block_number"]: int.from_bytes(row["amount_to_raise"], "big")
        for row in history.lake.read("raw/geb/StartOD", name).to_pylist()
    }
    found: Counter[str] = Counter()
    for before, book in history.books(block - 1 for block in tried):
        who, error = tried[before + 1]
        account = history.id(who)
        assert account is not None
        book.state.params["raising"] = safes.liquidations.call("currentOnAuctionSystemCoins", block=before)
        made = GEB.quote(book.state, Order(account, PAIR, AccountId(-1)), book.prices, book.now)
        if error:
            assert not isinstance(made, Fill)
            assert made.reason == ERRORS[error]
        else:
            assert isinstance(made, Fill)
            art = book.state.art[account]
            assert (made.seized, -made.changes[1].delta) == taken[before + 1]  # type: ignore[union-attr]
            tab = made.changes[2]
            assert isinstance(tab, ParamChange)
            assert tab.value == raised[before + 1]
            found["part" if taken[before + 1][1] < art else "whole"] += 1
    assert found["part"] > 20
    assert found["whole"] > 10


def test_purchases_pay_and_get_what_the_contracts_say(history: History) -> None:
    """At the redemption price and the discount of their second, each compounded from where it stood before."""
    safes, done = history.safes, 0
    by_block = {each.block: each for each in safes.purchases}
    for before, book in history.books(block - 1 for block in by_block):
        each = by_block[before + 1]
        now = safes.node.timestamp(each.block)
        redemption = book.state.redemption_price(book.prices, Clock(each.block, 0, now))
        assert redemption == safes.relayer.call("calcRedemptionPrice", block=each.block)
        discount = house.discount_since_down(LEAST, MOST, RATE, now - each.started) if each.started else LEAST
        collateral = safes.outside.call("price", block=before)
        price = house.discounted_first_down(collateral, redemption, discount)
        made = house.buy_readjusted(each.left, each.raising, each.bid, price, MINIMUM)
        if each.refused is not None:
            assert made == ERRORS[each.refused]
            continue
        assert isinstance(made, house.Purchase)
        assert safes.house.call("auctions", each.number, block=each.block)[:2] == (made.left, made.raising)
        paid, got = (
            [safes.engine.call(name, *words, block=block) for block in (before, each.block)]
            for name, words in (("coinBalance", (BUYER,)), ("tokenCollateral", (ILK, BUYER)))
        )
        assert paid[0] - paid[1] == made.paid * RAY
        assert got[1] - got[0] == made.bought
        open_coins = [safes.liquidations.call("currentOnAuctionSystemCoins", block=b) for b in (before, each.block)]
        assert open_coins[0] - open_coins[1] == made.freed
        done += 1
    assert done > 40


def test_history_is_explained_and_verified(history: History) -> None:
    result = replay(GEB, history.market, history.timeline, Scenario())
    assert len(result.liquidations) > 60
    assert all(row.matches_history for row in result.liquidations)
    assert not result.mismatches
    with Rpc(history.safes.node.url) as rpc:
        checked = verify(history.lake, history.market.name, rpc)
    assert not checked.mismatches
    assert checked.compared
    assert_sql_is_the_engine(history.lake, history.market.name, spread(history.lake, history.market.name, 20))
