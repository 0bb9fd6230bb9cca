"""Threshold and bonus in one unit, wad: each protocol says what its parameters come to, and what-ifs warn by that."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.interface import LiquidationTerms
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.params import DOG_2_0
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.math import incentive_factor
from backtest.replay.engine import replay
from backtest.replay.mechanisms.lint import warnings
from backtest.scenario import Competitive, Dutch, FixedSpread, HealthDutch, Override, Scenario
from backtest.units import RAY, WAD
from tests.sketches.fixed_spread import FixedSpreadPool
from tests.sketches.history import USD, WETH, History, market, opened
from tests.support.vault_history import history as vault

LLTV = 86 * WAD // 100


def morpho() -> History:
    h = History(replace(market(("USDC", 6), ("WETH", 18), protocol="morpho-blue"), base_decimals=8, price_decimals=24))
    h.param("created", 1).param("liquidation_threshold", LLTV, asset=1)
    return h.price(0, 10**24).price(1, 2_000 * 10**24).block(100).price(1, 1_900 * 10**24)


def said(protocol: Any, h: History, **more: Any) -> list[str]:
    scenario = Scenario(liquidators=Competitive(), allow_invalid=True, **more)
    return list(warnings(protocol, h.market, h.timeline(), scenario, 1))


def test_each_protocol_s_parameters_come_to_wads() -> None:
    assert AAVE_V3.liquidation_terms({"liquidation_threshold": 8_250, "liquidation_bonus": 10_500}) == LiquidationTerms(
        825 * 10**15, 1_050 * 10**15
    )
    assert AAVE_V3.liquidation_terms({"liquidation_threshold": 0, "liquidation_bonus": 0}) == LiquidationTerms(None)
    assert MORPHO_BLUE.liquidation_terms({"liquidation_threshold": LLTV}) == LiquidationTerms(
        LLTV, incentive_factor(LLTV)
    )
    assert MORPHO_BLUE.liquidation_terms({"liquidation_threshold": LLTV, "liquidation_bonus": WAD}).bonus == WAD
    terms = MAKER.liquidation_terms({"liquidation_ratio": 3 * RAY // 2, "liquidation_penalty": 113 * WAD // 100})
    assert terms == LiquidationTerms(2 * WAD // 3)  # what an auction is to raise is no gain of its buyer
    for protocol in (AAVE_V3, MORPHO_BLUE, MAKER):
        assert protocol.liquidation_terms({"dust": 1}) == LiquidationTerms(None)


@pytest.mark.parametrize("basis_points", [8_600, 9_400, 9_900])
def test_a_morpho_market_never_reaches_the_frontier_by_its_own_incentive(basis_points: int) -> None:
    """1 / (1 - 0.3 (1 - lltv)) is below 1 / lltv for every threshold below one."""
    override = Override(parameter="liquidation_threshold", asset="WETH", value=basis_points)
    assert said(MORPHO_BLUE, morpho(), overrides=(override,)) == []


def test_a_morpho_market_with_a_greater_incentive_is_warned_of_in_per_cent() -> None:
    override = Override(parameter="liquidation_bonus", asset="WETH", value=12_000)
    (warning,) = said(MORPHO_BLUE, morpho(), overrides=(override,))
    assert warning.startswith("Warning: WETH: threshold x (1 + bonus) is 103.2 %: ")
    (warning,) = said(MORPHO_BLUE, morpho(), mechanism=FixedSpread(bonus=11_800))
    assert "is 101.5 %" in warning  # 0.86 * 1.18 = 1.0148
    assert said(MORPHO_BLUE, morpho(), mechanism=FixedSpread(bonus=11_600)) == []


def test_a_morpho_run_s_record_has_the_same_words() -> None:
    h, override = morpho(), Override(parameter="liquidation_bonus", asset="WETH", value=12_000)
    result = replay(MORPHO_BLUE, h.market, h.timeline(), Scenario(liquidators=Competitive(), overrides=(override,)))
    assert [line for line in result.costs if "threshold x (1 + bonus) is 103.2 %" in line]


def test_maker_s_vaults_are_warned_of_where_a_fixed_bonus_takes_the_auction_s_place() -> None:
    """At 130 % the threshold is 1/1.3: 30 % of bonus is just below the frontier in whole wads, 31 % beyond."""
    h = vault(DOG_2_0, 1_290)
    (warning,) = said(MAKER, h, mechanism=FixedSpread(bonus=13_100))
    assert warning.startswith("Warning: sketch: threshold x (1 + bonus) is 100.8 %")
    assert said(MAKER, h, mechanism=FixedSpread(bonus=12_900)) == []
    assert said(MAKER, h, mechanism=HealthDutch(most=2_400))
    assert said(MAKER, h, mechanism=HealthDutch(most=2_200)) == []
    override = Override(parameter="liquidation_ratio", value=10_000)
    assert said(MAKER, h, overrides=(override,)) == []  # its auctions take collateral in proportion to the debt
    assert said(MAKER, h, overrides=(override,), mechanism=Dutch()) == []
    assert said(MAKER, h, overrides=(override,), mechanism=FixedSpread(bonus=10_001))


def test_categories_are_looked_at_like_assets() -> None:
    h = opened()
    h.param("emode_liquidation_threshold", 9_500, category=1).param("emode_liquidation_bonus", 10_100, category=1)
    h.block(100).price(WETH, 1_900 * USD)
    pool = FixedSpreadPool()
    assert said(pool, h, mechanism=FixedSpread(bonus=10_500)) == []
    (warning,) = said(pool, h, mechanism=FixedSpread(bonus=10_600))
    assert warning.startswith("Warning: e-mode 1: threshold x (1 + bonus) is 100.7 %")
    (warning,) = said(pool, h, overrides=(Override(parameter="liquidation_bonus", emode=1, change=500),))
    assert warning.startswith("Warning: e-mode 1: ")


def test_a_ramp_is_taken_in_full_and_a_dropped_asset_stays_none() -> None:
    h = opened()
    h.param("liquidation_threshold", 0, asset=1).param("liquidation_bonus", 0, asset=1)
    h.block(100).price(WETH, 1_900 * USD).block(200).price(WETH, 1_900 * USD)
    ramp = Override(parameter="liquidation_threshold", value=9_600, from_block=50, until_block=150, steps=5)
    assert Fraction(96, 100) * Fraction(105, 100) > 1
    (warning,) = said(FixedSpreadPool(), h, overrides=(ramp,))
    assert warning.startswith("Warning: WETH: threshold x (1 + bonus) is 100.8 %")
