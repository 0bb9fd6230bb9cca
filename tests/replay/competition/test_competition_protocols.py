"""Searchers that compete over real protocols' rules: Aave's on the bundled crash, Maker's auctions; every bonus
accounted for.
"""

from __future__ import annotations

from typing import Any

import pytest

from backtest.lake import Lake
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.params import CAT_1_1, DOG_2_0
from backtest.replay.engine import replay
from backtest.replay.record import Replay, Waterfall
from backtest.resources import resource
from backtest.results import load_market, load_timeline
from backtest.scenario import (
    Competitive,
    Costs,
    Gas,
    LatencyRace,
    Oev,
    Participation,
    PriorityGas,
    Scenario,
    SealedBid,
    Searcher,
    Slippage,
)
from backtest.units import WAD
from tests.support.vault_history import history as vault

GWEI = 10**9
COSTS = Costs(
    gas=Gas(fee="constant", base_fee=40 * GWEI, tip=GWEI),
    flash_fee=5,
    slippage=(Slippage(model="square-root", daily_volume=10**17, daily_volatility=500),),
)
MODELS: dict[str, Any] = {
    "frictionless": Competitive(),
    "priority-gas": PriorityGas(private_cost=10**9),
    "sealed-bid": SealedBid(private_cost=10**10, strategy="two-step"),
    "participation": Participation(),
    "latency-race": LatencyRace(
        searchers=(Searcher(name="own", capital=10**13), Searcher(name="borrower", latency=500))
    ),
    "oev": Oev(),
}


def accounted(result: Replay[Any]) -> None:
    for r in result.liquidations:
        if r.ends:
            w = r.waterfall
            uses = sum(
                getattr(w, name) for name in Waterfall.__struct_fields__ if name not in ("bonus", "basis", "reward")
            )
            assert w.bonus + w.basis + w.reward == uses
        assert r.profit_base == r.waterfall.rent


@pytest.fixture(scope="module")
def crash() -> Any:
    lake = Lake(resource("sample") / "lake")
    return load_market(lake, "sample-crash"), load_timeline(lake, "sample-crash")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_crash_of_aave(crash: Any, name: str) -> None:
    result = replay(AAVE_V3, *crash, Scenario(liquidators=MODELS[name], costs=COSTS, to_block=400))
    assert len(result.liquidations) > 30
    accounted(result)
    for r in result.liquidations:
        # Market prices are the oracle's here: what the bonus loses to the fee is the fee's own value, but for rounding.
        assert r.waterfall.basis == 0
        assert abs(r.waterfall.protocol_fee - r.protocol_fee_base) <= 1
        assert abs(r.waterfall.bonus - (r.seized_base + r.protocol_fee_base - r.repaid_base)) <= 2
    taken = [spell for spell in result.spells if spell.ending == "taken"]
    assert [spell.liquidation for spell in taken] == [r.ordinal for r in result.liquidations]


def test_frictionless_competition_without_costs_is_what_it_was(crash: Any) -> None:
    """Who wins changes nothing in the market where somebody always does, at once, and wants the same."""
    plain = replay(AAVE_V3, *crash, Scenario(liquidators=Competitive()))
    bids = replay(AAVE_V3, *crash, Scenario(liquidators=SealedBid()))

    def what(result: Replay[Any]) -> list[Any]:
        return [
            (r.clock, r.fill.order.account, r.fill.repaid, r.fill.seized, r.fill.protocol_fee)
            for r in result.liquidations
        ]

    assert what(plain) == what(bids)
    assert plain.horizons == bids.horizons


@pytest.mark.parametrize("system", [CAT_1_1, DOG_2_0])
@pytest.mark.parametrize("name", ["frictionless", "sealed-bid", "participation"])
def test_auctions_of_maker(system: int, name: str) -> None:
    h = vault(system, 1_290)
    costs = Costs(gas=Gas(fee="constant", base_fee=40 * GWEI))
    model = {
        "frictionless": Competitive(),
        "sealed-bid": SealedBid(private_cost=WAD),
        "participation": Participation(mean=40_000, searchers=9),
    }
    result = replay(MAKER, h.market, h.timeline(), Scenario(liquidators=model[name], costs=costs))
    accounted(result)
    assert result.liquidations[-1].step in ("take", "deal")
    gas = {r.step: r.waterfall.gas for r in result.liquidations}
    assert all(amount > 0 for amount in gas.values())
    opened = next(r for r in result.liquidations if r.stage == "opened")
    assert opened.waterfall.rent == opened.waterfall.reward - opened.waterfall.gas
