"""Mechanisms put in the place of a protocol's own: closed forms, and replays of them on several protocols."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.auctions.dutch import STAIRSTEP, Curve
from backtest.errors import ScenarioError
from backtest.lake import Lake
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.params import DOG_2_0
from backtest.replay.engine import replay
from backtest.replay.mechanisms.sizing import (
    debt_to_target_up,
    discount_factor_down,
    harmless_down,
    health_bonus_down,
    repaid_up,
    seized_down,
)
from backtest.replay.record import Replay
from backtest.resources import resource
from backtest.results import load_market, load_timeline
from backtest.scenario import (
    Competitive,
    Costs,
    Dutch,
    English,
    FixedSpread,
    Gas,
    HealthBonus,
    HealthDutch,
    Hybrid,
    Mechanism,
    Observed,
    Override,
    Scenario,
    SealedBid,
    TargetHealth,
)
from backtest.units import BPS, RAY, WAD
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import ETH, USD, USDC, WETH, History, borrower, opened
from tests.support.contest_history import POOL, one_account
from tests.support.vault_history import history as vault

EVERY: dict[str, Mechanism] = {
    "fixed-spread": FixedSpread(bonus=10_700, close_factor=3_000),
    "health-bonus": HealthBonus(),
    "target-health": TargetHealth(),
    "dutch-health": HealthDutch(),
    "dutch": Dutch(),
    "hybrid": Hybrid(blocks=3),
    "english": English(ttl=600, tau=3_600),
}


def run(h: History, mechanism: Mechanism, model: Any = None, **more: Any) -> Replay[Any]:
    """With the screen and without: the same result."""
    scenario = Scenario(liquidators=model or Competitive(), mechanism=mechanism, **more)
    result, plain = (replay(POOL, h.market, h.timeline(), scenario, screened=screened) for screened in (True, False))
    assert result.liquidations == plain.liquidations
    return result


def waiting(price: int = 1400, until: int = 2_000) -> History:
    """One account at 1400 $, and nothing else for a long time."""
    h = one_account(price)
    return h.block(until).price(USDC, USD)


# -- formulas ----------------------------------------------------------------------------------------------------------


def test_debt_to_a_target_by_hand() -> None:
    """C = 100, D = 84, threshold 0.83, bonus 5 %, target 1.1: 41.14 is repaid."""
    value = debt_to_target_up(84 * USD, WAD * 83 // 84, 11 * WAD // 10, 105 * WAD // 100, 83 * WAD // 100)
    assert value is not None
    assert value / USD == pytest.approx(41.14, abs=0.005)
    assert debt_to_target_up(84 * USD, WAD * 83 // 84, WAD, 13 * WAD // 10, 83 * WAD // 100) is None


@given(
    st.integers(1, 10**15),
    st.integers(WAD // 2, WAD - 1),
    st.integers(10_001, 15_000),
    st.integers(10_000, 12_000),
    st.integers(1, 9_500),
)
def test_the_target_is_reached(debt: int, health: int, target: int, bonus: int, threshold: int) -> None:
    """HF' = (HF D - LT (1 + i) r) / (D - r) is the target, or there is no such r below the debt."""
    lam = Fraction(bonus * threshold, BPS * BPS)
    value = debt_to_target_up(debt, health, target * WAD // BPS, bonus * WAD // BPS, threshold * WAD // BPS)
    if value is None:
        assert lam >= Fraction(target, BPS) - Fraction(2, WAD)
    elif value < debt:
        after = (Fraction(health * debt, WAD) - lam * value) / (debt - value)
        assert after >= Fraction(target, BPS) - Fraction(2, WAD) * debt
        assert (
            value == 0
            or (Fraction(health * debt, WAD) - lam * (value - 1)) / (debt - value + 1)
            < Fraction(target, BPS) + Fraction(2, WAD) * debt
        )


@given(st.integers(0, WAD - 1), st.integers(10_000, 12_000), st.integers(0, 10_000), st.integers(0, 9_999))
def test_the_bonus_grows_as_health_falls(health: int, bonus: int, least: int, lowest: int) -> None:
    factor = health_bonus_down(health, bonus, least, lowest)
    start = 1 + (Fraction(bonus, BPS) - 1) * Fraction(least, BPS)
    low = Fraction(lowest, BPS)
    here = Fraction(health, WAD)
    exact = Fraction(bonus, BPS) if here <= low else start + (Fraction(bonus, BPS) - start) * (1 - here) / (1 - low)
    assert 0 <= exact - Fraction(factor, WAD) < Fraction(3, WAD)
    assert health == 0 or factor <= health_bonus_down(health - 1, bonus, least, lowest)


@given(st.integers(WAD, 2 * WAD), st.integers(0, 10**15), st.integers(1, 10**15), st.integers(1, 10**12))
def test_a_capped_bonus_never_leaves_less_collateral_for_each_debt(
    factor: int, collateral: int, debt: int, repaid: int
) -> None:
    capped = harmless_down(factor, collateral, debt)
    assert WAD <= capped <= max(factor, WAD)
    if collateral >= debt:
        assert Fraction(capped, WAD) <= Fraction(collateral, debt)


@given(st.integers(1, WAD - 1), st.integers(1, 9_999))
def test_a_discount_is_what_health_is_below_one(health: int, most: int) -> None:
    discount = min(1 - Fraction(health, WAD), Fraction(most, BPS))
    assert (
        0
        <= 1 / (1 - discount) - Fraction(discount_factor_down(health, most), WAD)
        < Fraction(2, WAD) / (1 - discount) ** 2 + Fraction(1, WAD)
    )


@given(*[st.integers(1, 10**13)] * 3, st.sampled_from([10**6, 10**8, 10**18]), st.integers(WAD // 2, 2 * WAD))
def test_sizes_are_rounded_against_the_liquidator(
    repaid: int, debt_price: int, price: int, unit: int, factor: int
) -> None:
    seized = seized_down(repaid, debt_price, 10**6, price, unit, factor)
    exact = Fraction(repaid * debt_price * unit * factor, price * 10**6 * WAD)
    assert 0 <= exact - seized < 1
    if seized:
        assert repaid_up(seized, debt_price, 10**6, price, unit, factor) <= repaid


def test_maker_s_stair_steps_reach_par_after_960_seconds() -> None:
    """buf 1.10, cut 0.997, step 30 s: 960 s by steps, 952 s on the continuous curve; half of the price after 6,930 and
    6,921 s.
    """
    curve, top = Curve(STAIRSTEP, 0, 30, 997 * RAY // 1000), 11 * RAY // 10
    assert next(s for s in range(0, 5_000, 10) if curve.price_down(top, s) <= RAY) == 960
    assert next(s for s in range(0, 9_000, 10) if curve.price_down(top, s) <= top // 2) == 6_930
    assert 30 * math.log(1.1) / -math.log(0.997) == pytest.approx(952, abs=0.5)
    assert 30 * math.log(2) / -math.log(0.997) == pytest.approx(6_921, abs=0.5)


# -- replays -----------------------------------------------------------------------------------------------------------


def test_a_fixed_spread_of_the_protocol_s_own_terms_is_its_own() -> None:
    h = waiting()
    own, swapped = (
        run(h, FixedSpread(bonus=10_500, close_factor=5_000)),
        replay(POOL, h.market, h.timeline(), Scenario(liquidators=Competitive())),
    )
    what = [[(r.fill.repaid, r.fill.seized, r.health_after) for r in result.liquidations] for result in (own, swapped)]
    assert what[0] == what[1]


def test_any_close_factor_and_bonus() -> None:
    [first, *_] = run(waiting(), FixedSpread(bonus=11_000, close_factor=10_000)).liquidations
    assert first.fill.repaid == 11_300 * 10**6
    assert first.fill.seized == 11_300 * ETH * 11 // 10 // 1400


def test_a_call_reaches_the_target() -> None:
    [record] = run(waiting(), TargetHealth(target=11_000, bonus=10_500)).liquidations
    assert record.health_after is not None
    assert 0 <= record.health_after - 11 * WAD // 10 < WAD // 10**6
    assert run(waiting(), TargetHealth(target=11_000, dust=10_000 * USD)).liquidations[0].fill.repaid == 11_300 * 10**6


def test_a_discount_of_the_health_is_taken_once_it_pays() -> None:
    """Health 0.9912 at 1400 $: a discount of 0.88 %, 101 $, less than a call costs; at 1300 $ it is 8 %."""
    h = one_account()
    h.block(20).price(WETH, 1300 * USD)
    [record] = run(h, HealthDutch(), Competitive(gas_cost=120 * USD)).liquidations[:1]
    assert record.clock.block_number == 20
    health = Fraction(1300 * 8, 11_300)
    assert record.fill.seized == pytest.approx(11_300 / 1300 / float(health) * ETH, rel=1e-12)


def test_a_dutch_auction_is_taken_at_the_first_price_below_the_market() -> None:
    """1.1 x 0.997^k is below one from k = 32 on: after 960 s."""
    [record] = run(waiting(), Dutch()).liquidations
    assert (record.step, record.clock.timestamp) == ("take", 120 + 960)
    share = 1.1 * 0.997**32
    assert record.fill.repaid == 11_300 * 10**6
    assert record.fill.seized / ETH == pytest.approx(11_300 / (1400 * share), rel=1e-9)


def test_an_auction_ends_where_the_account_is_cured() -> None:
    h = one_account()
    h.block(50).position(0, USDC, "debt", -5_000 * 10**6, "repay").price(WETH, 1400 * USD)
    h.block(500).price(WETH, 700 * USD).block(2_000).price(USDC, USD)
    [record] = run(h, Dutch()).liquidations
    assert record.clock.timestamp == 6_000 + 960  # from the second fall on


def test_a_hybrid_is_the_protocol_s_own_at_first() -> None:
    [own, *_] = run(waiting(), Hybrid(blocks=3)).liquidations
    assert (own.step, own.clock.timestamp) == ("liquidate", 120)
    # Nobody wants the fixed bonus of 282 $; from the fourth block on the price falls to where 600 $ are left.
    late = run(waiting(), Hybrid(blocks=3), Competitive(gas_cost=600 * USD)).liquidations[0]
    steps = next(k for k in range(200) if 11_300 * (1 / (1.1 * 0.997**k) - 1) > 600)
    assert (late.step, late.clock.timestamp) == ("take", 120 + 36 + 30 * steps)


def test_an_english_auction_leaves_the_owner_what_nobody_needs() -> None:
    """The lot of 10 ETH is worth more than the debt: bids rise to it at once, then ask for 11,300 $ of ETH only; the
    winner pays after the ttl.
    """
    result = run(waiting(), English(ttl=600, tau=3_600))
    assert [r.step for r in result.liquidations] == ["tend", "dent", "deal"]
    assert [r.takes for r in result.liquidations] == [False, False, True]
    deal = result.liquidations[-1]
    assert deal.clock.timestamp == 120 + 601
    assert deal.fill.repaid == 11_300 * 10**6
    assert deal.fill.seized == -(-11_300 * ETH // 1400)
    assert deal.health_after is None


def test_a_winner_pays_the_interest_since_the_auction_began() -> None:
    """Half a year's interest accrues each year: a bid for all of the debt clears all of it, however long it had to
    stand.
    """
    h = opened()
    h.index(USDC, borrow_rate=RAY // 2)
    borrower(h, 0, 10, 11_300)
    h.block(10).price(WETH, 1400 * USD).block(2_000).price(USDC, USD)
    result = run(h, English(ttl=3_600, tau=7_200))
    deal = result.liquidations[-1]
    assert deal.step == "deal"
    assert deal.fill.repaid > 11_300 * 10**6 * (1 + 3_600 / 31_536_000 / 2)
    assert result.book.state.balances[0].get((USDC, "debt"), 0) <= 1  # the sketch burns its scaled debt rounded down


def test_few_bidders_pay_less_in_an_english_auction() -> None:
    """Alone one bids next to nothing for the whole lot; two bid it up to the debt. Bids are on record, those of nothing
    too.
    """
    h = waiting(1_120)  # 11,200 $ of collateral against 11,300 of debt
    results = [run(h, English(ttl=600, tau=3_600), SealedBid(searchers=n)) for n in (1, 2)]
    alone, two = (result.liquidations[-1] for result in results)
    assert (alone.step, two.step) == ("deal", "deal")
    assert alone.fill.repaid == 1
    assert two.fill.repaid == 11_200 * 10**6
    assert alone.fill.seized == two.fill.seized == 10 * ETH
    assert [[bid.bid for bid in result.spells[-1].bids] for result in results] == [[0], [11_200 * USD] * 2]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("model", [Competitive(), SealedBid(private_cost=10 * USD)], ids=["frictionless", "sealed-bid"])
def test_every_mechanism_settles_many_accounts(name: str, model: Any) -> None:
    h = opened(12)
    for account in range(12):
        borrower(h, account, 10, 12_000 + 250 * account)
    for step in range(1, 9):
        h.block(300 * step).price(WETH, (2000 - 90 * step) * USD)
    h.block(4_000).price(USDC, USD)
    result = run(h, EVERY[name], model)
    assert sum(r.ends and r.fill.repaid > 0 for r in result.liquidations) >= 6
    for r in result.liquidations:
        uses = sum(
            getattr(r.waterfall, f) for f in r.waterfall.__struct_fields__ if f not in ("bonus", "basis", "reward")
        )
        assert r.waterfall.bonus + r.waterfall.basis + r.waterfall.reward == uses


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_mechanism_on_aave_s_crash(name: str) -> None:
    lake = Lake(resource("sample") / "lake")
    costs = Costs(gas=Gas(fee="constant", base_fee=30 * 10**9))
    scenario = Scenario(liquidators=Competitive(), mechanism=EVERY[name], costs=costs, from_block=200, to_block=260)
    result = replay(AAVE_V3, load_market(lake, "sample-crash"), load_timeline(lake, "sample-crash"), scenario)
    assert any(r.ends and r.fill.repaid for r in result.liquidations)


def test_a_lone_bidder_pays_the_few_units_that_the_protocol_books() -> None:
    """One unit of debt is no scaled unit once the index is above one: its auctions end all the same."""
    lake = Lake(resource("sample") / "lake")
    scenario = Scenario(liquidators=SealedBid(searchers=1), mechanism=EVERY["english"], from_block=200, to_block=260)
    result = replay(AAVE_V3, load_market(lake, "sample-crash"), load_timeline(lake, "sample-crash"), scenario)
    paid = [r.fill.repaid for r in result.liquidations if r.step == "deal"]
    assert len(paid) > 50
    assert max(paid) <= 16
    assert not any("debt token" in reason for reason in result.refused)


@pytest.mark.parametrize("name", EVERY)
def test_every_mechanism_on_a_vault_of_maker(name: str) -> None:
    h = vault(DOG_2_0, 1_290)
    result = replay(MAKER, h.market, h.timeline(), Scenario(liquidators=Competitive(), mechanism=EVERY[name]))
    sold = [r for r in result.liquidations if r.ends and r.fill.repaid]
    assert sold
    art = result.book.state.art.get(0, 0)
    assert 10_000 * WAD - art == pytest.approx(sum(r.fill.repaid for r in sold), abs=len(sold))


def test_a_dutch_auction_with_maker_s_parameters_clears_when_maker_s_does() -> None:
    """The generic one sells only what the debt needs, without a penalty; both clear at the first price below the
    market, 960 s on.
    """
    h = vault(DOG_2_0, 1_290)
    own = replay(MAKER, h.market, h.timeline(), Scenario(liquidators=Competitive())).liquidations[-1]
    swapped = replay(
        MAKER, h.market, h.timeline(), Scenario(liquidators=Competitive(), mechanism=Dutch())
    ).liquidations[-1]
    assert (own.step, own.clock) == (swapped.step, swapped.clock)
    assert Fraction(own.fill.repaid, own.fill.seized) == pytest.approx(
        Fraction(swapped.fill.repaid, swapped.fill.seized), rel=1e-12
    )


# -- configuration -----------------------------------------------------------------------------------------------------


def test_a_mechanism_is_an_alternative() -> None:
    assert Scenario(liquidators=Competitive(), mechanism=Dutch()).alters
    with pytest.raises(ScenarioError, match="'observed' liquidators with another mechanism"):
        Scenario(liquidators=Observed(), mechanism=Dutch())


def test_a_protocol_that_does_not_say_what_collateral_counts() -> None:
    class Silent(FixedSpreadPool):
        def weight(self, state: object, account: int, asset: int) -> None:
            return None

    h = waiting()
    with pytest.raises(ScenarioError, match="sketch does not say what a collateral counts"):
        replay(Silent(), h.market, h.timeline(), Scenario(liquidators=Competitive(), mechanism=TargetHealth()))


def test_runs_warn_of_terms_beyond_the_toxic_frontier() -> None:
    override = Override(parameter="liquidation_threshold", asset="WETH", value=9_600)
    beyond = run(waiting(1_100), FixedSpread(bonus=10_500), overrides=(override,), allow_invalid=True)
    assert any("threshold x (1 + bonus) is 100.8 %" in warning for warning in beyond.costs)
    assert not any("threshold x (1 + bonus)" in warning for warning in run(waiting(), FixedSpread(bonus=10_500)).costs)
