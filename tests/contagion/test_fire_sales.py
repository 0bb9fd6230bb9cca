"""A shock through several markets, by hand: joint losses against those of each alone, claims on claims, pauses, and who
matters most.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from backtest.contagion.books import MarketBook, connected
from backtest.contagion.fire_sales import DepthOf, NetworkShock, contagion_of, fire_sale, leave_one_out
from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.replay.joint import JointPart, replay_jointly
from backtest.replay.response import PriceResponse
from backtest.replay.response.curves import ProductCurve
from backtest.replay.several import state_at
from backtest.scenario import AssetImpact, ChainlinkRule, Competitive, ConstantProductDepth, Impact, Scenario
from backtest.units import RAY
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market
from tests.support.sketch_history import POOL

TOKENS = tuple(f"0x{place:040x}" for place in range(3))
HALVED = NetworkShock({TOKENS[WETH]: 4_750}, {})
SHALLOW = {TOKENS[WETH]: DepthOf(ProductCurve(340 * ETH))}


def _history(name: str, eth: int, usdc: int) -> History:
    """Account 0 borrows, all of its debt may be repaid at once; account 1 supplies 20,000 USDC."""
    h = History(market(("WETH", 18), ("USDC", 6), accounts=4, name=name))
    h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    h.param("close_factor", 10_000).price(WETH, 2000 * USD).price(USDC, USD)
    borrower(h, 0, eth, usdc)
    return h.position(1, USDC, "collateral", 20_000 * 10**6)


def _book(h: History, **more: object) -> MarketBook:
    timeline = h.timeline()
    state, prices, now = state_at(POOL, h.market, timeline, timeline.last_block)
    book = Book(POOL, h.market, state, now)
    book.oracle.update(prices.oracle)
    return MarketBook(h.market.name, book, **more)  # type: ignore[arg-type]


def _three() -> list[MarketBook]:
    """In ``c`` the third asset is a claim on deposits of USDC in ``b``: 1,000 of it stand behind 781 USDC."""
    c = History(market(("WETH", 18), ("USDC", 6), ("bUSDC", 6), accounts=4, name="c"))
    c.param("liquidation_threshold", 8000, asset=2).param("liquidation_bonus", 10500, asset=2)
    c.param("close_factor", 10_000).price(USDC, USD).price(2, USD)
    c.position(3, 2, "collateral", 1_000 * 10**6).position(3, USDC, "debt", 781 * 10**6, "borrow")
    books = [_book(_history("a", 70, 60_000)), _book(_history("b", 10, 8_200))]
    return [*books, _book(c, claims={AssetId(2): ("b", TOKENS[USDC])})]


def test_joint_against_separate_losses_by_hand() -> None:
    """WETH falls from 2000 to 1050 $. In ``a`` 70 * 840 = 58,800 stand against 60,000: all is repaid for 60 WETH, which
    are sold into 340: (340 / 400)^2 of 1050 is 758.625 $. In ``b`` 10 * 840 = 8,400 stood against 8,200; at 758.625
    its 10 WETH are worth 7,586.25, which pay for 7,225: 975 are written off. Alone ``b`` loses nothing, and ``a``
    never.
    """
    markets = _three()[:2]
    found = contagion_of(markets, HALVED, SHALLOW)
    assert (found.together.lost, found.together.repaid) == (
        {"a": 0, "b": 975 * USD},
        {"a": 60_000 * USD, "b": 7_225 * USD},
    )
    assert {name: (one.loss, one.repaid[name]) for name, one in found.alone.items()} == {
        "a": (0, 60_000 * USD),
        "b": (0, 0),
    }
    assert found.contagion == 975 * USD
    assert found.together.rounds == 2
    assert found.together.sold == {TOKENS[WETH]: 70 * ETH}
    assert found.together.left[TOKENS[WETH]] == RAY * 5_250 // 10_000 * (RAY * 340**2 // 410**2) // RAY
    # the books are as they were
    assert contagion_of(markets, HALVED, SHALLOW).together == found.together


def test_a_loss_reaches_claims_on_claims_by_hand() -> None:
    """``b`` has deposits of 20,000 USDC and 10 WETH at 2000 $: 975 of 40,000 are lost, 2.4375 %. In ``c`` claims on
    them were 800 of weight for 781; 780.5 are left, and they are liquidated.
    """
    markets = _three()
    found = fire_sale(markets, HALVED, SHALLOW)
    assert found.left[TOKENS[2]] == RAY * 975_625 // 1_000_000
    assert (found.accounts, found.repaid["c"]) == ({"a": 1, "b": 1, "c": 1}, 781 * USD)
    assert fire_sale(markets[2:], HALVED, SHALLOW).repaid["c"] == 0
    # paused, nobody in b is liquidated, what it would write off is short of cover, and claims on it cannot be sold
    paused = fire_sale(markets, replace(HALVED, paused=frozenset({"b"})), SHALLOW)
    assert (paused.accounts["b"], paused.accounts["c"]) == (0, 0)
    assert paused.lost["b"] == 8_200 * USD - 758_625 * USD // 100
    # half of b's deposits gone at first: 500 of claims stand against 781, and pay for 476.190477
    gone = fire_sale(markets, NetworkShock({}, {"b": 5_000}), SHALLOW)
    assert gone.lost == {"a": 0, "b": 0, "c": 781 * USD - 47_619_047_700}


def test_what_binds_markets_by_hand() -> None:
    found = connected(_three())
    assert found.tokens == (TOKENS[WETH], TOKENS[2])
    assert found.held == ((140_000 * USD, 0), (20_000 * USD, 0), (0, 1_000 * USD))
    assert found.debt == (60_000 * USD, 8_200 * USD, 781 * USD)
    assert found.claims == {("c", "b"): 1_000 * USD}
    assert found.linked() == [("0x" + "0" * 40, {"a": 60_000 * USD, "b": 8_200 * USD})]
    assert (found.common("a", "b"), found.common("a", "c")) == (8_200 * USD, 0)
    assert (found.supplied["b", TOKENS[USDC]], found.lent["b", TOKENS[USDC]]) == (20_000 * USD, 8_200 * USD)
    markets = _three()
    mapped = [*markets[:2], replace(markets[2], owners={AccountId(3): "0x" + "0" * 40})]
    assert connected(mapped).common("a", "c") == 781 * USD
    assert connected(mapped).largest(1) == ["0x" + "0" * 40]


def test_leave_one_out_ranks_what_matters() -> None:
    """Without ``a``, without WETH, or without the owner of the account in ``a`` and ``b`` nothing is lost."""
    markets = _three()[:2]
    ranked = leave_one_out(markets, HALVED, SHALLOW, owners=["0x" + "0" * 40, "0x" + "0" * 39 + "1"])
    assert [(one.kind, one.name[-1], one.spared // USD) for one in ranked] == [
        ("asset", "0", 975),
        ("market", "a", 975),
        ("market", "b", 975),
        ("owner", "0", 975),
        ("owner", "1", 0),
    ]
    # the owner of b alone: a's sale finds nobody
    apart = [markets[0], replace(markets[1], owners={AccountId(0): "other"})]
    assert [(one.name, one.spared // USD) for one in leave_one_out(apart, HALVED, SHALLOW, owners=["other"])][-1] == (
        "other",
        975,
    )


def test_the_static_fall_sells_what_the_replay_sells() -> None:
    """The two markets of ``tests/replay/test_joint.py``: in both WETH falls to 1050 $, and half a debt may be repaid.
    By replay with an oracle without delay, and by rounds over the books before the fall: the same, to the last unit.
    """
    histories = []
    for name, eth, usdc in (("a", 23, 20_000), ("b", 10, 8_200)):
        h = History(market(("WETH", 18), ("USDC", 6), accounts=2, name=name))
        h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
        histories.append(borrower(h.price(WETH, 2000 * USD).price(USDC, USD), 0, eth, usdc))
    depth = {TOKENS[WETH]: DepthOf(ProductCurve(390 * ETH))}
    found = fire_sale([_book(h) for h in histories], HALVED, depth)
    for h in histories:
        h.block(10).price(WETH, 1050 * USD).block(400).price(USDC, USD)
    rule = ChainlinkRule(deviation=50, heartbeat=3_600, delay=0)
    impact = Impact(assets=(AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=390), oracle=rule),))
    response = PriceResponse(impact, [h.market for h in histories], ())
    scenario = Scenario(liquidators=Competitive())
    parts = [JointPart(POOL, h.market, h.timeline(), scenario) for h in histories]
    replayed = replay_jointly(parts, response=response)
    assert found.sold == {TOKENS[WETH]: sum(sale.amount for sale in response.sales)}
    assert found.sold[TOKENS[WETH]] == 14_312_952_005_259_697_567
    assert list(found.repaid.values()) == [sum(r.repaid_base for r in one.liquidations) for one in replayed]
    assert replayed[0].book.oracle[WETH] == 2000 * USD * found.left[TOKENS[WETH]] // RAY


@pytest.mark.parametrize("reserve", [10, 100, 1_000, 10_000, 10**9])
def test_more_depth_never_makes_contagion_worse(reserve: int) -> None:
    markets = _three()
    less, more = (
        contagion_of(markets, HALVED, {TOKENS[WETH]: DepthOf(ProductCurve(size * ETH))}).together.loss
        for size in (reserve, reserve * 10)
    )
    assert more <= less


class _SubAccounts(type(POOL)):  # type: ignore[misc]
    """A pool of sub-accounts: the last byte of an address numbers those of its owner."""

    def owner_of(self, account: str) -> str:
        return account[:-2] + "00"


def test_a_protocol_may_tell_whose_a_sub_account_is() -> None:
    """Account 3 of ``c`` is the third of the owner of account 0 in ``a`` and ``b``; a mapping goes before that."""
    markets = _three()
    c = markets[2].book
    mine = replace(markets[2], book=Book(_SubAccounts(), c.market, c.state, c.now, oracle=c.oracle))
    assert connected([*markets[:2], mine]).common("a", "c") == 781 * USD
    mapped = replace(mine, owners={AccountId(3): "somebody"})
    assert connected([*markets[:2], mapped]).common("a", "c") == 0


def test_a_price_that_falls_to_nothing_is_not_one_that_nobody_knows() -> None:
    """All of both debts is lost but for what a millionth of the collateral pays; a price of zero would leave the
    accounts out, and no loss of theirs would count.
    """
    markets = _three()[:2]
    found = fire_sale(markets, NetworkShock({TOKENS[WETH]: 10_000}, {}), {})
    assert found.left[TOKENS[WETH]] == RAY // 10**6
    assert 68_199 * USD < found.loss <= 68_200 * USD
    assert found.loss >= fire_sale(markets, NetworkShock({TOKENS[WETH]: 9_999}, {}), {}).loss


def test_a_claim_on_nothing_is_worth_next_to_nothing() -> None:
    """All of ``b``'s deposits are gone: the 781 that claims on them stood for are lost."""
    found = fire_sale(_three(), NetworkShock({}, {"b": 10_000}), {})
    assert 780 * USD < found.lost["c"] <= 781 * USD
