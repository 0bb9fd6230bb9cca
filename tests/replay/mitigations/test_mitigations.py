"""Each mitigation by a case worked by hand: which liquidations are withheld, when they come, what bad debt becomes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.errors import ScenarioError
from backtest.replay.mitigations.offered import frontier_down
from backtest.replay.mitigations.ranges import Ranges
from backtest.scenario import (
    CircuitBreaker,
    Competitive,
    DepthCap,
    Dutch,
    DynamicBonus,
    DynamicCloseFactor,
    Grace,
    IsolatedMargin,
    Mitigation,
    Override,
    OwnerTrigger,
    Pause,
    PriceBand,
    ReserveFund,
    RiskSizing,
    Scenario,
    SizeTiers,
    SocialisedLoss,
    Throttle,
    ToxicHalt,
    VolatilityTiers,
)
from backtest.units import BPS, WAD
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, market, opened
from tests.support.contest_history import falling, one_account
from tests.support.mitigated import POINT, bad_debt, blocks, did, mitigated, outcome, squeezed

NEVER: tuple[Mitigation, ...] = (
    Pause(from_time="2030-01-01", until_time="2030-01-02"),
    CircuitBreaker(move=9_000, seconds=600, scope="market", stops="everything"),
    CircuitBreaker(move=9_000, seconds=600, window=3_600),
    Grace(seconds=600, after="stop"),
    PriceBand(move=9_999),
    Throttle(most_repaid=10**15 * USD, seconds=3_600),
    Throttle(most_repaid=10**15 * USD, seconds=3_600, asset="WETH"),
    SizeTiers(tiers=((10, 5_000),)),
    VolatilityTiers(asset="WETH", tiers=((10**6, -500),)),
    DynamicCloseFactor(target=99_000),
    OwnerTrigger(health=1, target=2),
    RiskSizing(ranges=1),
    ReserveFund(name="empty"),
    SocialisedLoss(),
)


# -- formulas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bonus", "ltv"), [(10_450, "0.9569"), (10_500, "0.9524"), (10_750, "0.9302"), (11_000, "0.9091")]
)
def test_the_toxic_frontier(bonus: int, ltv: str) -> None:
    """1 / (1 + i) at 4.5, 5, 7.5 and 10 %."""
    assert f"{frontier_down(bonus) / WAD:.4f}" == ltv
    assert 0 <= Fraction(BPS, bonus) - Fraction(frontier_down(bonus), WAD) < Fraction(1, WAD)


def test_the_frontier_where_selling_moves_the_price() -> None:
    """McFarlane: 1 / ((1 + i)(1 + 2c/y)); c/y = 5 %: 1 / (1.05 x 1.1)."""
    assert frontier_down(10_500, 11_000) / WAD == pytest.approx(1 / (1.05 * 1.1), abs=1e-12)


@given(
    st.integers(1, 10**12), st.integers(1, 10**12), st.integers(1, 10**12), st.sampled_from([10_450, 10_500, 11_000])
)
def test_a_liquidation_is_toxic_exactly_above_the_frontier(collateral: int, debt: int, repaid: int, bonus: int) -> None:
    """What is left has more debt for each collateral than there was, iff debt / collateral > 1 / (1 + i)."""
    seized = Fraction(repaid * bonus, BPS)
    if repaid < debt and seized < collateral:
        worse = (debt - repaid) / (collateral - seized) > Fraction(debt, collateral)
        assert worse == (Fraction(debt, collateral) > Fraction(BPS, bonus))


def test_a_range_is_that_of_its_window() -> None:
    h = opened()
    ranges = Ranges(100)
    from backtest.model import PriceUpdate
    from backtest.protocols.book import Book
    from tests.support.contest_history import POOL

    book = Book.open(POOL, h.market)
    book.oracle[WETH] = 1000

    def told(time: int, price: int) -> int:
        ranges.note(book, PriceUpdate(seq=0, block_number=0, log_index=0, timestamp=time, asset=WETH, price=price))
        return ranges.range_up(WETH, time)

    assert told(1_000, 1_100) == 1_000  # 1000 to 1100
    assert told(1_050, 990) == 1_112  # 990 to 1100: 11.11 %, rounded up
    assert told(1_120, 990) == 1_112  # 1100 was in force when the window began, at 1020
    assert told(1_151, 1_000) == 102  # 990 to 1000 alone
    assert ranges.range_up(USDC, 1_151) == 0


# -- standstills -------------------------------------------------------------------------------------------------------


def test_a_pause_withholds_until_it_ends() -> None:
    """Liquidatable from block 10 (120 s) on; paused until 300 s: liquidated then, between blocks 10 and 100."""
    h = one_account()
    h.block(100).price(USDC, USD)
    result = mitigated(h, Pause(from_time="1970-01-01T00:01:00", until_time="1970-01-01T00:05:00"))
    assert [made.clock.timestamp for made in result.liquidations][:1] == [300]
    assert blocks(mitigated(h))[0] == 10
    assert did(result, "withheld") == (1, 11_300 * USD)
    assert result.refused == {"withheld by a mitigation (pause)": 1}


@pytest.mark.parametrize(
    ("stops", "made"),
    [("liquidations", (True, True)), ("risk", (False, True)), ("both", (False, True)), ("everything", (False, False))],
)
def test_what_a_pause_stops(stops: str, made: tuple[bool, bool]) -> None:
    """A borrow and a repayment during it; after it both pass."""
    h = borrower(opened(), 0, 10, 5_000)
    h.block(10).position(0, USDC, "debt", 1_000 * 10**6, "borrow").position(0, USDC, "debt", -500 * 10**6, "repay")
    h.block(50).position(0, USDC, "debt", 100 * 10**6, "borrow").position(0, USDC, "debt", -100 * 10**6, "repay")
    pause = Pause(from_time="1970-01-01T00:01:00", until_time="1970-01-01T00:05:00", stops=stops)  # type: ignore[arg-type]
    result = mitigated(h, pause)
    refused = {count.action: count.value_base for count in result.actions}
    assert refused == {
        action: value
        for action, value, here in (("borrow", 1_000 * USD, made[0]), ("repay", 500 * USD, made[1]))
        if not here
    }
    assert all(count.reason == "withheld by a mitigation (pause)" for count in result.actions)


def test_a_pause_of_one_asset() -> None:
    """Of two borrowers against different collaterals one is liquidated."""
    h = History(market(("WETH", 18), ("USDC", 6), ("WBTC", 8)))
    for asset in (WETH, 2):
        h.param("liquidation_threshold", 8000, asset=asset).param("liquidation_bonus", 10500, asset=asset)
    h.price(WETH, 2000 * USD).price(USDC, USD).price(2, 20_000 * USD)
    borrower(h, 0, 10, 11_300).position(1, 2, "collateral", 10**8).position(1, USDC, "debt", 11_300 * 10**6, "borrow")
    h.block(10).price(WETH, 1400 * USD).price(2, 14_000 * USD)
    pause = Pause(from_time="1970-01-01", until_time="1971-01-01", asset="wbtc")
    assert {made.fill.order.account for made in mitigated(h, pause).liquidations} == {0}


def test_a_breaker_stops_one_asset_or_the_market() -> None:
    """WETH falls by 10 % in one round at block 10 (120 s): stopped for 300 s, which a further fall at 240 s begins
    anew.
    """
    h = borrower(opened(), 0, 10, 14_000)
    h.block(10).price(WETH, 1800 * USD).block(20).price(WETH, 1600 * USD).block(200).price(USDC, USD)
    assert blocks(mitigated(h))[0] == 20
    for scope in ("asset", "market"):
        result = mitigated(h, CircuitBreaker(move=1_000, seconds=300, scope=scope))  # type: ignore[arg-type]
        assert result.liquidations[0].clock.timestamp == 240 + 300
        assert did(result, "tripped") == (2, 0)
    assert blocks(mitigated(h, CircuitBreaker(move=1_200, seconds=300)))[0] == 20
    windowed = mitigated(h, CircuitBreaker(move=2_000, seconds=300, window=150))  # 20 % from 2000 $, which is 120 s ago
    assert windowed.liquidations[0].clock.timestamp == 540
    assert did(windowed, "tripped") == (1, 0)
    assert blocks(mitigated(h, CircuitBreaker(move=2_000, seconds=300, window=100)))[0] == 20
    other = mitigated(h, CircuitBreaker(move=1_000, seconds=300, asset="USDC", scope="market"))
    assert blocks(other)[0] == 20


def test_grace_lets_an_owner_save_itself() -> None:
    """Liquidatable from 120 s on; repays at 480 s. With ten minutes it is spared, with five it is not."""
    h = one_account()
    h.block(40).position(0, USDC, "debt", -2_000 * 10**6, "repay").block(100).price(USDC, USD)
    assert mitigated(h, Grace(seconds=600)).liquidations == []
    assert mitigated(h, Grace(seconds=300)).liquidations[0].clock.timestamp == 420
    h.block(200).price(WETH, 1000 * USD).block(400).price(USDC, USD)  # 2,280 s more: the time counts anew
    assert mitigated(h, Grace(seconds=600)).liquidations[0].clock.timestamp == 200 * 12 + 600


def test_grace_after_a_stop() -> None:
    """The pause ends at 300 s for users, at 900 s for liquidators."""
    h = one_account()
    h.block(40).position(0, USDC, "debt", 100 * 10**6, "borrow").position(0, USDC, "debt", -50 * 10**6, "repay")
    h.block(100).price(USDC, USD)
    pause = Pause(from_time="1970-01-01T00:01:00", until_time="1970-01-01T00:05:00")
    result = mitigated(h, pause, Grace(seconds=600, after="stop"))
    assert result.liquidations[0].clock.timestamp == 900
    assert {count.action: count.reason for count in result.actions} == {"borrow": "health would fall below 1"}


def test_an_auction_that_a_pause_withholds_does_not_begin() -> None:
    """Its price starts when the pause ends: the same take as without one, 180 s later."""
    h = one_account()
    h.block(2_000).price(USDC, USD)
    pause = Pause(from_time="1970-01-01T00:01:00", until_time="1970-01-01T00:05:00")
    plain, paused = (mitigated(h, *parts, mechanism=Dutch()).liquidations[0] for parts in ((), (pause,)))
    assert paused.clock.timestamp - plain.clock.timestamp == 180
    assert paused.fill.seized == plain.fill.seized


# -- the toxic frontier ------------------------------------------------------------------------------------------------


def test_a_toxic_spiral_that_a_halt_breaks() -> None:
    """Debt that jumps above the frontier and comes back. At 1620 $ the account owes 97,200 $ against 100,000 $: each
    call takes 5 % more than it repays, until nothing is left and debt stands without collateral. Halted above 95.24 %,
    it waits until 1300 $ (78,000 $) is healthy: no bad debt.
    """
    h = squeezed(1620, 1300)
    spiral, halted = mitigated(h), mitigated(h, ToxicHalt())
    assert bad_debt(spiral) > 0
    assert bad_debt(halted) == 0
    assert halted.liquidations == []
    assert did(halted, "withheld")[0] == 1
    # 100,000 $ / 1.05 is all that is repaid of 97,200 $
    assert spiral.horizons[0].realised_bad_debt_base == pytest.approx(97_200 * USD - 100_000 * USD / 1.05, rel=1e-6)


def test_a_halt_that_hurts() -> None:
    """The same jump, and the price goes on: liquidated at once 1,962 $ are lost, halted 20,000 $."""
    h = squeezed(1620, 2000)
    spiral, halted = mitigated(h), mitigated(h, ToxicHalt())
    assert bad_debt(spiral) == pytest.approx(1_962 * USD, rel=1e-3)
    assert bad_debt(halted) == 20_000 * USD


def test_a_halt_stands_exactly_above_the_frontier() -> None:
    """A debt of 60 WETH against 100,000 $ at 5 %: 95,238.095 $ is 1587.301587301 $ a WETH; 10^-8 $ above it the call
    still takes no unit of USDC more.
    """
    below, above = squeezed(), squeezed()
    below.block(30).price(WETH, 158_730_158_730)
    above.block(30).price(WETH, 158_730_158_734)
    assert mitigated(below, ToxicHalt()).liquidations
    assert not mitigated(above, ToxicHalt()).liquidations
    assert not mitigated(below, ToxicHalt(impact=10_100)).liquidations


def test_a_bonus_that_falls_is_never_toxic() -> None:
    """At a loan-to-value of 97.2 % the bonus is 1 / 0.972 - 1 = 2.88 %: the ratio stays and nothing is lost."""
    h = squeezed(1620)
    result = mitigated(h, DynamicBonus())
    first = result.liquidations[0]
    assert first.fill.repaid == 30 * ETH
    assert first.fill.seized == 50_000 * 10**6
    assert bad_debt(result) < USD
    insolvent = mitigated(squeezed(2000), DynamicBonus())  # 120,000 $: no bonus at all, and nobody comes
    assert insolvent.liquidations == []
    assert bad_debt(insolvent) == 20_000 * USD
    least = mitigated(squeezed(2000), DynamicBonus(least=10_050)).liquidations[0]
    assert (least.fill.repaid, least.fill.seized) == (30 * ETH, 60_300 * 10**6)


def test_a_call_repays_no_more_than_a_target_asks_for() -> None:
    """10 ETH at 1400 $, 11,300 $ owed: the close factor allows 5,650 $, a health of 1.01 needs less."""
    [first, *_] = mitigated(one_account(), DynamicCloseFactor(target=10_100)).liquidations
    exact = 11_300 * (Fraction(101, 100) - Fraction(11_200, 11_300)) / (Fraction(101, 100) - Fraction(84, 100))
    assert first.fill.repaid == pytest.approx(float(exact) * 10**6, rel=1e-6)
    assert first.health_after is not None
    assert 0 <= first.health_after - 101 * POINT < POINT // 10**4
    assert mitigated(one_account(), DynamicCloseFactor(target=20_000)).liquidations[0].fill.repaid == 5_650 * 10**6


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_a_throttle_makes_smaller_what_does_not_fit_and_lets_the_rest_wait() -> None:
    """1,000 $ in 600 s: at 120 s, then 600 s later, and so on until the window ends at 1,800 s."""
    h = one_account(1300)
    h.block(150).price(USDC, USD)
    result = mitigated(h, Throttle(most_repaid=1_000 * USD, seconds=600))
    assert [(made.clock.timestamp, made.fill.repaid) for made in result.liquidations] == [
        (time, 1_000 * 10**6) for time in (120, 720, 1_320)
    ]
    number, cut = did(result, "made smaller")
    assert (number, cut) == (1, 4_650 * USD)


def test_accounts_share_the_room_of_a_moment() -> None:
    """Two that are liquidatable at once, 5,650 $ each: 8,000 $ are 5,650 $ of one and 2,350 $ of the other."""
    h = borrower(borrower(opened(), 0, 10, 11_300), 1, 10, 11_300)
    h.block(10).price(WETH, 1400 * USD).block(20).price(USDC, USD)
    result = mitigated(h, Throttle(most_repaid=8_000 * USD, seconds=600))
    assert [made.fill.repaid // 10**6 for made in result.liquidations] == [5_650, 2_350]
    assert len({made.fill.order.account for made in result.liquidations}) == 2


def test_tiers_by_size() -> None:
    """Up to 10,000 $ below 0.95, up to 20,000 $ below 0.98, larger below 1; 10 ETH, prices in steps of 1 %."""
    h = opened(3)
    for account, owed in enumerate((8_000, 16_000, 32_000)):
        borrower(h, account, owed // 800, owed)  # health is 1 at 1000 $
    for block, price in enumerate((1_500, 999, 981, 979, 951, 949), 1):
        h.block(10 * block).price(WETH, price * USD)
    result = mitigated(h, SizeTiers(tiers=((10_000 * USD, 9_500), (20_000 * USD, 9_800))))
    first = {
        account: min(made.clock.block_number for made in result.liquidations if made.fill.order.account == account)
        for account in range(3)
    }
    assert first == {0: 60, 1: 40, 2: 20}


def test_thresholds_follow_the_range_of_prices() -> None:
    """2000 to 1900 $ is a range of 5.26 %: the threshold is 75 % and 14,500 $ against 10 x 1900 x 0.75 unhealthy. A
    day later, at a range of nothing, it is 80 % again.
    """
    h = borrower(opened(), 0, 10, 14_500).param("ltv", 7_500, asset=WETH)
    h.block(10).price(WETH, 1900 * USD).block(20).price(USDC, USD)
    tiers = VolatilityTiers(asset="weth", tiers=((300, -200), (500, -500)), parameters="liquidation_threshold")
    assert mitigated(h).liquidations == []
    assert blocks(mitigated(h, tiers))[0] == 10
    assert did(mitigated(h, tiers), "moved") == (1, 0)
    small = VolatilityTiers(asset="weth", tiers=((300, -100), (600, -500)), parameters="liquidation_threshold")
    assert mitigated(h, small).liquidations == []  # 79 %: 15,010 $
    late = borrower(opened(), 1, 10, 100)
    late.block(10).price(WETH, 1900 * USD).block(20_000).price(WETH, 1901 * USD)
    borrower(late, 0, 10, 14_500).block(20_001).price(USDC, USD)
    assert mitigated(late, tiers).liquidations == []
    assert did(mitigated(late, tiers), "moved") == (2, 0)


def test_an_override_and_a_tier_add_up() -> None:
    """70 % by the override from block 15 on, less five points."""
    h = borrower(opened(), 0, 10, 12_500)
    h.block(10).price(WETH, 1900 * USD).block(15).price(USDC, USD).block(20).price(USDC, USD)
    override = Override(parameter="liquidation_threshold", value=7_000, asset="WETH", from_block=15)
    tiers = VolatilityTiers(asset="WETH", tiers=((500, -500),), parameters="liquidation_threshold")
    assert mitigated(h, tiers).liquidations == []
    assert mitigated(h, overrides=(override,)).liquidations == []
    assert blocks(mitigated(h, tiers, overrides=(override,)))[0] == 15


# -- prices ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("band", "first"),
    [
        (PriceBand(move=1_000), None),  # 1300 $ is 35 % below 2000 $, and is never taken
        (PriceBand(move=1_000, seconds=300), 50),  # beyond since 240 s: at 600 s it is
        (PriceBand(move=1_000, beyond="clamp"), 40),  # 1800, 1620, 1458, and 1312.2 $ is below 1412.50 $
        (PriceBand(move=4_000), 20),
        (PriceBand(move=1_000, asset="USDC"), 20),
    ],
    ids=["kept", "kept for a while", "clamped", "wide", "another asset"],
)
def test_a_band_around_the_oracle_s_price(band: PriceBand, first: int | None) -> None:
    h = borrower(opened(), 0, 10, 11_300)
    h.block(10).price(WETH, 2000 * USD)
    for block in (20, 25, 30, 40, 50):
        h.block(block).price(WETH, 1300 * USD)
    assert next(iter(blocks(mitigated(h, band))), None) == first


def test_a_misprint_is_kept_out() -> None:
    """DAI at 1.30 $ for one round (26 November 2020): nobody is liquidated."""
    h = borrower(opened(), 0, 10, 14_000)
    h.block(10).price(USDC, 13 * USD // 10).block(20).price(USDC, USD)
    assert mitigated(h).liquidations
    assert mitigated(h, PriceBand(move=500, asset="USDC")).liquidations == []


# -- owners ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["repay", "top-up", "sell"])
def test_owners_act_at_a_health(by: str) -> None:
    """Below 1.05 up to 1.15: at 1400 $ before any liquidator; conservation of what is in the account and outside."""
    h = one_account()
    h.block(20).price(USDC, USD)
    result = mitigated(h, OwnerTrigger(health=10_500, target=11_500, by=by))  # type: ignore[arg-type]
    assert result.liquidations == []
    view = result.book.protocol.view(result.book.state, 0, result.book.prices, result.book.now)
    assert view.health is not None
    assert 0 <= view.health - 115 * POINT < POINT // 10**3
    end = result.horizons[0]
    left = view.collateral_base - view.debt_base + end.outside.get(0, 0)  # type: ignore[call-overload]
    assert abs(left - (14_000 - 11_300) * USD) <= 200  # nothing is lost but roundings
    number, value = did(result, "acted")
    needed = {
        "repay": 11_300 - 11_200 / 1.15,
        "top-up": (11_300 * 1.15 - 11_200) / 0.8,
        "sell": (11_300 * 1.15 - 11_200) / (1.15 - 0.8),
    }[by]
    assert number == 1
    assert value == pytest.approx(needed * USD, rel=1e-6)


def test_an_owner_that_is_late() -> None:
    """Unhealthy from 120 s on: with a delay the liquidator comes first; it is on time where health falls slowly."""
    assert mitigated(one_account(), OwnerTrigger(delay=60)).liquidations
    h = borrower(opened(), 0, 10, 11_300)
    h.block(10).price(WETH, 1440 * USD).block(30).price(WETH, 1400 * USD)
    assert mitigated(h).liquidations
    assert mitigated(h, OwnerTrigger(delay=60)).liquidations == []
    assert mitigated(h, OwnerTrigger(delay=300)).liquidations


def test_selling_costs() -> None:
    """1 % of what is sold, and no more."""
    h = one_account()
    free, costly = (mitigated(h, OwnerTrigger(by="sell", cost=cost)) for cost in (0, 100))
    lost = free.horizons[0].equity[0] - costly.horizons[0].equity[0]  # type: ignore[index]
    assert lost == pytest.approx(did(costly, "acted")[1] / 100, rel=1e-6)


def test_some_owners_have_it_the_same_whatever_else_happens() -> None:
    h = falling(20, 12)
    few, many, again = (
        mitigated(h, OwnerTrigger(share=share), *more)
        for share, more in ((3_000, ()), (8_000, ()), (3_000, (Grace(seconds=60),)))
    )
    spared = [
        set(range(20)) - {made.fill.order.account for made in result.liquidations} for result in (few, many, again)
    ]
    assert 0 < did(few, "acted")[0] < did(many, "acted")[0] < 20
    assert spared[0] < spared[1]
    assert did(again, "acted")[0] == did(few, "acted")[0]


def test_positions_are_opened_at_constant_risk() -> None:
    """2000 to 1800 $ is a range of 11.12 %: 1.5 times it is a health of 1 / (1 - 0.1668), 1.2002; 10 ETH at 1800 $
    carry 11,998 $ instead of the 14,000 $ asked for.
    """
    h = opened().position(0, WETH, "collateral", 10 * ETH)
    h.block(10).price(WETH, 1800 * USD).position(0, USDC, "debt", 14_000 * 10**6, "borrow")
    h.block(20).price(USDC, USD)
    result = mitigated(h, RiskSizing(ranges=15_000))
    view = result.book.protocol.view(result.book.state, 0, result.book.prices, result.book.now)
    assert view.debt_base == pytest.approx(14_400 * (1 - 1.5 * 0.1112) * USD, abs=100)
    [shrunk] = result.actions
    assert (shrunk.action, shrunk.outcome, shrunk.reason) == ("borrow", "shrunk", "beyond what its owner risks")
    assert shrunk.value_base == 14_000 * USD - view.debt_base
    assert result.horizons[0].outside == {}  # the equity of a smaller loan is the same
    refused = mitigated(h, RiskSizing(ranges=90_000))
    assert [count.outcome for count in refused.actions] == ["skipped"]


def test_a_cap_by_depth() -> None:
    """1,000,000 $ within the bonus, two times: 2,000,000 $, which 1,000 WETH are."""
    h = opened()
    h.position(0, WETH, "collateral", 999 * ETH).block(10)
    h.position(1, WETH, "collateral", ETH).position(2, WETH, "collateral", ETH).position(
        0, WETH, "collateral", -ETH, "withdraw"
    )
    h.position(2, WETH, "collateral", ETH).block(20).price(USDC, USD)
    result = mitigated(h, DepthCap(asset="WETH", depth_base=10**6 * USD))
    assert [(count.action, count.count, count.value_base) for count in result.actions] == [("supply", 1, 2_000 * USD)]
    assert result.horizons[0].totals.collateral_base == 2 * 10**6 * USD


def test_isolated_margin_of_the_same_users() -> None:
    """10 WETH (16,000 $ by threshold) and 1 WBTC (16,000 $) against 24,000 $: parted, 12,000 $ each. WETH at 1400 $:
    together 27,200 $ are healthy, alone 11,200 $ are not.
    """
    h = History(market(("WETH", 18), ("USDC", 6), ("WBTC", 8)))
    for asset in (WETH, 2):
        h.param("liquidation_threshold", 8000, asset=asset).param("liquidation_bonus", 10500, asset=asset)
    h.price(WETH, 2000 * USD).price(USDC, USD).price(2, 20_000 * USD)
    borrower(h.position(0, 2, "collateral", 10**8), 0, 10, 24_000)
    h.block(10).price(USDC, USD).block(20).price(WETH, 1400 * USD).block(30).price(WETH, 900 * USD)
    h.block(40).price(USDC, USD)
    cross, isolated = (mitigated(h, *parts, from_block=10) for parts in ((), (IsolatedMargin(),)))
    assert blocks(cross)[0] == 30
    assert blocks(isolated)[0] == 20
    assert did(isolated, "parted") == (1, 24_000 * USD)
    names = [isolated.book.address(made.fill.order.account) for made in isolated.liquidations]
    assert set(names) == {h.market.accounts[0]}  # WETH, the asset of the lower id, stays with the account
    part = len(isolated.book.market.accounts) - 1
    assert isolated.book.market.accounts[part] == f"{h.market.accounts[0]}#WBTC"
    held = isolated.book.protocol.holdings(isolated.book.state, part, isolated.book.now)  # type: ignore[arg-type]
    assert [(each.asset, each.collateral, each.debt) for each in held] == [(USDC, 0, 12_000 * 10**6), (2, 10**8, 0)]


# -- who pays ----------------------------------------------------------------------------------------------------------


def test_funds_pay_in_their_order_and_suppliers_share_the_rest() -> None:
    """1,961.9 $ are written off: 1,000 $ by the first fund, 500 $ by the second, 461.9 $ by suppliers."""
    h = squeezed(1620)
    lost = bad_debt(mitigated(h))
    first, second = ReserveFund(name="umbrella", reserve=1_000 * USD), ReserveFund(name="treasury", reserve=500 * USD)
    result = mitigated(h, first, second, SocialisedLoss())
    assert [(each.place, each.effect, each.detail, each.value_base) for each in result.mitigations] == [
        (0, "paid", "umbrella", 1_000 * USD),
        (1, "paid", "treasury", 500 * USD),
        (2, "shared", "WETH", lost - 1_500 * USD),
    ]
    assert [each.effect for each in mitigated(h, first).mitigations] == ["paid", "unpaid"]
    rich = mitigated(h, ReserveFund(name="rich", reserve=10**6 * USD), SocialisedLoss())
    assert did(rich, "paid") == (1, lost)
    assert outcome(rich)[:6] == outcome(mitigated(h))[:6]  # who pays changes no account


# -- what holds of all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mitigation", [*NEVER[:3], *NEVER[4:]], ids=lambda each: f"{each.kind} {NEVER.index(each)}")
def test_one_that_never_binds_changes_nothing(mitigation: Mitigation) -> None:
    h = falling(8, 12)
    assert outcome(mitigated(h, mitigation))[:6] == outcome(mitigated(h))[:6]


def test_all_that_never_bind_change_nothing_together() -> None:
    h = falling(8, 12)
    assert outcome(mitigated(h, *NEVER))[:6] == outcome(mitigated(h))[:6]


@pytest.mark.parametrize(
    ("mitigations", "said"),
    [
        ((DepthCap(asset="WBTC", depth_base=1),), "mitigation depth-cap: market sketch has no asset 'WBTC'"),
        (
            (Pause(from_time="2020-01-01", until_time="2020-01-02", asset="X"),),
            "mitigation pause: market sketch has no",
        ),
    ],
    ids=["cap", "pause"],
)
def test_what_a_market_does_not_have(mitigations: tuple[Mitigation, ...], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        mitigated(one_account(), *mitigations)


def test_observed_liquidators_did_not_see_them() -> None:
    with pytest.raises(ScenarioError, match="'observed' liquidators with mitigations"):
        Scenario(mitigations=(ToxicHalt(),))
    assert Scenario(liquidators=Competitive(), mitigations=(ToxicHalt(),)).alters
