"""Claims on claims in a joint replay, by hand: the markets of ``tests/contagion/test_fire_sales.py``, in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from backtest.contagion.books import MarketBook
from backtest.contagion.fire_sales import NetworkShock, fire_sale
from backtest.model import AssetId
from backtest.protocols.book import Book
from backtest.replay.claims import left_down
from backtest.replay.engine import replay
from backtest.replay.joint import JointPart, replay_jointly
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.replay.several import state_at
from backtest.scenario import (
    AssetImpact,
    ChainlinkRule,
    Competitive,
    ConstantProductDepth,
    Impact,
    OwnerTrigger,
    Pause,
    ReserveFund,
    Scenario,
)
from backtest.units import RAY
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market
from tests.support.sketch_history import POOL

TOKENS = tuple(f"0x{place:040x}" for place in range(3))
CLAIM = AssetId(2)
CLAIMS: Mapping[AssetId, tuple[str, str]] = {CLAIM: ("b", TOKENS[USDC])}


def _depth(reserve: int) -> Impact:
    rule = ChainlinkRule(deviation=50, heartbeat=3_600, delay=0)
    return Impact(assets=(AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=reserve), oracle=rule),))


ACTING = Scenario(liquidators=Competitive(), from_block=5)


def _lent(name: str, eth: int, usdc: int) -> History:
    """Account 0 borrows, all of its debt may be repaid at once; account 1 supplies 20,000 USDC."""
    h = History(market(("WETH", 18), ("USDC", 6), accounts=4, name=name))
    h.param("liquidation_threshold", 8000, asset=WETH).param("liquidation_bonus", 10500, asset=WETH)
    h.param("close_factor", 10_000).price(WETH, 2000 * USD).price(USDC, USD)
    borrower(h, 0, eth, usdc)
    return h.position(1, USDC, "collateral", 20_000 * 10**6)


def _claiming(usdc: int = 781) -> History:
    """1,000 claims on USDC of ``b``, at 1 $, stand behind 781 USDC."""
    h = History(market(("WETH", 18), ("USDC", 6), ("bUSDC", 6), accounts=4, name="c"))
    h.param("liquidation_threshold", 8000, asset=CLAIM).param("liquidation_bonus", 10500, asset=CLAIM)
    h.param("close_factor", 10_000).price(USDC, USD).price(CLAIM, USD)
    h.position(3, CLAIM, "collateral", 1_000 * 10**6).position(3, USDC, "debt", usdc * 10**6, "borrow")
    return h.block(5).price(USDC, USD)


def _two(*, scenario: Scenario = ACTING, usdc: int = 789, claims: bool = True) -> list[JointPart]:
    """WETH falls to 800 $ in ``b`` at 120 s; nothing else is said before 4,800 s."""
    b, c = _lent("b", 10, 8_200).block(10).price(WETH, 800 * USD), _claiming(usdc)
    return [
        JointPart(POOL, h.market, h.block(400).price(USDC, USD).timeline(), scenario, claims=own)
        for h, own in ((b, {}), (c, CLAIMS if claims else {}))
    ]


def _took(replayed: Replay[Any]) -> list[tuple[int, int, int]]:
    """Time of each liquidation, native units repaid and seized."""
    return [(r.clock.timestamp, r.fill.repaid, r.fill.seized) for r in replayed.liquidations]


def test_a_loss_reaches_claims_in_the_second_in_which_it_is_made() -> None:
    """At 800 $ ``b``'s 10 WETH pay for 8,000 / 1.05 = 7,619.047620 of 8,200 USDC: 580.952380 are written off. Its
    deposits were 20,000 USDC and 10 WETH at 2000 $: of each 98.547619... % are left. In ``c`` 1,000 claims weighed 800
    against 789, now 788.38: all is repaid at that second, for 789 * 1.05 / 0.98547619 = 840.659... claims.
    """
    b, c = replay_jointly(_two())
    assert _took(b) == [(120, 7_619_047_620, 10 * ETH)]
    assert [deficit.amount_base for deficit in b.deficits] == [58_095_238_000]
    price = USD * (40_000 * USD - 58_095_238_000) // (40_000 * USD)
    assert c.book.oracle[CLAIM] == price == 98_547_619
    seized = 789 * 10**6 * USD * 10_500 // (price * 10_000)
    assert _took(c) == [(120, 789 * 10**6, seized)]
    # tokens: what left c's account is what its liquidator has; value: depositors lose what was written off
    assert {h.asset: h.collateral for h in POOL.holdings(c.book.state, 3, c.book.now)} == {CLAIM: 10**9 - seized}
    deposits = 40_000 * USD
    assert 0 <= deposits - deposits * left_down(deposits, 58_095_238_000) // RAY - 58_095_238_000 <= 1
    # without the link nothing happens in c, and b is as it is
    apart = replay_jointly(_two(claims=False))
    assert [_took(one) for one in apart] == [_took(b), []]
    # the order of markets decides nothing
    assert [_took(one) for one in replay_jointly(_two()[::-1])] == [_took(c), _took(b)]


def test_the_static_round_is_the_same() -> None:
    """By rounds over the books before the fall, and in time: the same accounts, the same losses, the same units."""
    parts = _two()
    books = []
    for part in parts:
        state, prices, now = state_at(POOL, part.market, part.timeline, 1)
        book = Book(POOL, part.market, state, now)
        book.oracle.update(prices.oracle)
        books.append(MarketBook(part.market.name, book, claims=part.claims))
    static = fire_sale(books, NetworkShock({TOKENS[WETH]: 6_000}, {}), {})
    moved = replay_jointly(parts)
    assert [static.repaid[name] for name in "bc"] == [sum(r.repaid_base for r in one.liquidations) for one in moved]
    assert [static.lost[name] for name in "bc"] == [sum(d.amount_base for d in one.deficits) for one in moved]
    assert static.left[TOKENS[2]] * USD // RAY == moved[1].book.oracle[CLAIM]


def test_debt_without_cover_is_a_loss_too_and_sales_bring_it_about() -> None:
    """Sale, loss, claim, in one second. At 132 s ``a``'s account, of 23 WETH against 20,000 USDC, gives 10 WETH, which
    are sold into 390: 1050 becomes 998.15625 $. ``b``'s 10 WETH are worth 9,981.5625 against 10,200, and nobody takes
    them without a bonus: 218.4375 of 40,000 are without cover, 99.453... % are left of each claim. In ``c`` 800 times
    that is 795.63 against 797.
    """
    a, b, c = _lent("a", 23, 20_000), _lent("b", 10, 10_200), _claiming(797)
    a.param("close_factor", 5_000).block(11).price(WETH, 1050 * USD)
    b.param("liquidation_threshold", 9_800, asset=WETH).param("liquidation_bonus", 10_000, asset=WETH)
    b.block(10).price(WETH, 1050 * USD)
    parts = [
        JointPart(POOL, h.block(400).price(USDC, USD).market, h.timeline(), ACTING, claims=CLAIMS if h is c else {})
        for h in (a, b, c)
    ]
    first, second, third = replay_jointly(parts, response=PriceResponse(_depth(390), [h.market for h in (a, b, c)], ()))
    assert [(time, seized) for time, _, seized in _took(first)] == [(132, 10 * ETH)]
    assert _took(second) == []
    assert third.book.oracle[CLAIM] == USD * (40_000 * USD - 21_843_750_000) // (40_000 * USD)
    assert [(time, repaid) for time, repaid, _ in _took(third)] == [(132, 797 * 10**6)]
    [alone] = replay_jointly(parts[2:])
    assert _took(alone) == []


def test_a_fund_pays_before_depositors_do() -> None:
    """With 1,000 $ of reserve ``b``'s 580.95 reach nobody; with 500, 80.95 of 40,000 do, and ``c`` holds."""
    for reserve, price in ((1_000, USD), (500, 99_797_619)):
        fund = structs.replace(ACTING, mitigations=(ReserveFund(name="fund", reserve=reserve * USD),))
        c = replay_jointly(_two(scenario=fund))[1]
        assert (_took(c), c.book.oracle[CLAIM]) == ([], price)


def test_while_nobody_can_withdraw_claims_sell_for_nothing() -> None:
    """``c``'s account is unsafe from 1,200 s on (the claim's oracle says 0.9 $). ``b`` is paused until 2,000 s: claims
    cannot be turned into USDC, and liquidators leave them; they come in the second in which the pause is over.
    """
    pause = Pause(from_time="1970-01-01T00:10:00", until_time="1970-01-01T00:33:20")
    b, c = _lent("b", 10, 8_200), _claiming().block(100).price(CLAIM, 9 * USD // 10)
    parts = [
        JointPart(POOL, h.market, h.block(400).price(USDC, USD).timeline(), ACTING, claims=CLAIMS if h is c else {})
        for h in (b, c)
    ]
    assert [taken[0] for taken in _took(replay_jointly(parts)[1])] == [1_200]
    for stops, when in (("everything", 2_000), ("risk", 2_000), ("liquidations", 1_200)):
        held = structs.replace(pause, stops=stops)
        parts[0] = replace(parts[0], scenario=structs.replace(ACTING, mitigations=(held,)))
        found = replay_jointly(parts)[1]
        assert [taken[0] for taken in _took(found)] == [when]
        assert CLAIM not in found.book.traded  # over


def test_a_claim_follows_what_sales_do_to_what_it_stands_for() -> None:
    """A claim on WETH of ``a``: its oracle falls with that of WETH, by what ``a``'s own sale does to it."""
    a, c = _lent("a", 70, 60_000).block(11).price(WETH, 1050 * USD), _claiming()
    parts = [
        JointPart(POOL, h.market, h.block(400).price(USDC, USD).timeline(), ACTING, claims=own)
        for h, own in ((a, {}), (c, {CLAIM: ("a", TOKENS[WETH])}))
    ]
    first, second = replay_jointly(parts, response=PriceResponse(_depth(34_000), [a.market, c.market], ()))
    assert first.book.oracle[WETH] < 1050 * USD
    left = RAY * first.book.oracle[WETH] // (1050 * USD)
    assert second.book.oracle[CLAIM] == left * USD // RAY


@pytest.mark.parametrize("impact", [Impact(), _depth(340)], ids=["none", "shallow"])
def test_without_a_loss_a_claim_is_an_asset_as_any(impact: Impact) -> None:
    """``a`` and ``b`` with more collateral: sales, but no loss; ``c`` is as alone, and so is the order of markets."""
    a, b, c = _lent("a", 90, 60_000), _lent("b", 50, 8_200), _claiming()
    for h in (a, b, c):
        h.block(10)
        if h is not c:
            h.price(WETH, 800 * USD)
        h.block(400).price(USDC, USD)
    parts = [
        JointPart(POOL, h.market, h.timeline(), ACTING, claims=CLAIMS if h is c else {}, samples=5) for h in (a, b, c)
    ]
    alone = [
        replay(
            POOL, part.market, part.timeline, part.scenario, samples=5,
            response=PriceResponse(impact, [part.market], ()) if impact.assets and part is not parts[2] else None,
        )
        for part in parts
    ]  # fmt: skip
    response = PriceResponse(impact, [part.market for part in parts], ()) if impact.assets else None
    found = replay_jointly(parts, response=response)
    same = (0, 1, 2) if response is None else (2,)
    for place in same:
        assert list(found[place].liquidations) == list(alone[place].liquidations)
        assert (found[place].totals, found[place].horizons) == (alone[place].totals, alone[place].horizons)
    assert list(found[0].liquidations)


def test_claims_on_each_other_come_to_rest() -> None:
    """``b`` holds claims on ``c`` as ``c`` on ``b``: losses go round until they are what they are."""
    b = History(market(("WETH", 18), ("USDC", 6), ("cUSDC", 6), accounts=4, name="b"))
    c = History(market(("WETH", 18), ("USDC", 6), ("bUSDC", 6), accounts=4, name="c"))
    for h in (b, c):
        for asset, threshold in ((WETH, 8_000), (CLAIM, 9_000)):
            h.param("liquidation_threshold", threshold, asset=asset).param("liquidation_bonus", 10500, asset=asset)
        h.param("close_factor", 10_000).price(WETH, 2000 * USD).price(USDC, USD).price(CLAIM, USD)
        borrower(h, 0, 10, 15_000)
        h.position(1, USDC, "collateral", 20_000 * 10**6)
        h.position(3, CLAIM, "collateral", 1_000 * 10**6).position(3, USDC, "debt", 850 * 10**6, "borrow")
        h.block(5).price(USDC, USD)
    b.block(10).price(WETH, 1_000 * USD).block(400).price(USDC, USD)
    c.block(400).price(USDC, USD)
    parts = [
        JointPart(POOL, h.market, h.timeline(), ACTING, claims={CLAIM: (other, TOKENS[USDC])})
        for h, other in ((b, "c"), (c, "b"))
    ]
    first, second = replay_jointly(parts)
    [there], [here] = first.deficits, second.deficits
    assert there.amount_base == (15_000 * 10**6 - 9_523_809_524) * 100
    assert second.book.oracle[CLAIM] == USD * (41_000 * USD - there.amount_base) // (41_000 * USD)
    assert first.book.oracle[CLAIM] == USD * (41_000 * USD - here.amount_base) // (41_000 * USD) < USD
    again = replay_jointly(parts)
    assert [list(one.liquidations) for one in again] == [list(first.liquidations), list(second.liquidations)]


def test_owner_triggers_see_the_loss() -> None:
    """Who repays below a health of 1.02 is not liquidated for what ``b`` lost."""
    trigger = OwnerTrigger(health=10_200, target=11_000)
    parts = _two(usdc=781)
    parts[1] = replace(parts[1], scenario=structs.replace(ACTING, mitigations=(trigger,)))
    c = replay_jointly(parts)[1]
    assert _took(c) == []
    assert [effect.effect for effect in c.mitigations] == ["acted"]
