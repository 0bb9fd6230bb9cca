"""Prices that answer, over histories at random: the screen changes nothing, a baseline has history's rounds, and the
same comes out again.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from backtest.replay.competition.models import Competition
from backtest.replay.engine import replay
from backtest.replay.mechanisms.offers import Offers
from backtest.replay.record import Replay
from backtest.replay.response import PriceResponse
from backtest.scenario import Competitive, Participation, Scenario, SealedBid
from backtest.scenario.impact import (
    AssetImpact,
    BandsDepth,
    ChainlinkRule,
    ConstantProductDepth,
    Impact,
    LinearDepth,
    OsmRule,
    StableSwapDepth,
    Thinning,
    TwapRule,
)
from tests.sketches.history import USD, WETH, History, borrower, opened
from tests.support.random_history import random_history
from tests.support.sketch_history import POOL

pytestmark = pytest.mark.slow

CHAINLINK = ChainlinkRule(deviation=20, heartbeat=3_600, delay=12)
TERMS = Impact(
    assets=(
        AssetImpact(
            asset="A0",
            depth=ConstantProductDepth(reserve=30_000),
            half_life=14_400,
            permanent=1_000,
            buys=True,
            oracle=TwapRule(window=7_200),
        ),
        AssetImpact(
            asset="A1",
            depth=BandsDepth(curve=((1_000, 50), (20_000, 900))),
            sells=7_200,
            thinning=Thinning(calm=300, use=5_000),
            oracle=OsmRule(),
        ),
        AssetImpact(asset="A2", depth=LinearDepth(size=50_000, moves=2_000), fee=30, oracle=CHAINLINK),
        AssetImpact(asset="A3", depth=StableSwapDepth(reserve=9_000, amplification=30), into="A0", half_life=0),
    )
)
MODELS = {
    "competitive": Competitive(max_calls=5),
    "sealed-bid": SealedBid(searchers=3, size="most-profitable"),
    "participation": Participation(mean=15_000),
}


def outcome(found: Replay[Any]) -> list[Any]:
    names = ("liquidations", "deficits", "totals", "horizons", "actions", "refused", "points", "sales")
    return [list(value) if isinstance(value := getattr(found, name), list) else value for name in names]


def run(
    h: History, model: object, netted: object, *, screened: bool = True, terms: Impact = TERMS
) -> tuple[Replay[Any], PriceResponse]:
    response = PriceResponse(terms, [h.market], netted)
    scenario = Scenario(liquidators=model, seed=3)
    return replay(POOL, h.market, h.timeline(), scenario, response=response, samples=5, screened=screened), response


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_a_baseline_is_netted_out_of_itself_and_the_screen_changes_nothing(seed: int, model: str) -> None:
    h = random_history(seed, steps=60)
    base, response = run(h, MODELS[model], None)
    again, _ = run(h, MODELS[model], response.sales)
    assert outcome(base) == outcome(again)
    assert all(point.oracle == point.history for point in base.points)
    assert not any(sale.endogenous for sale in base.sales)
    plain, _ = run(h, MODELS[model], (), screened=False)
    screened, own = run(h, MODELS[model], ())
    assert outcome(plain) == outcome(screened)
    assert screened.sales
    sold = {sale.asset: 0 for sale in screened.sales}
    for sale in screened.sales:
        sold[sale.asset] += sale.amount
        assert sale.brought <= 10**27 or sale.amount < 0
    for asset, amount in sold.items():  # what was told to markets is what liquidations gave
        assert amount == sum(one.amount for one in own.sales if one.token == h.market.assets[asset].asset)


@pytest.mark.parametrize("seed", range(3))
def test_only_asking_again_for_what_may_be_the_best_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without purchases offers are only ever worth less after a sale: the same as asking for all of them again."""
    entry = AssetImpact(asset="WETH", depth=ConstantProductDepth(reserve=4_000), oracle=replace(CHAINLINK, delay=0))
    terms, draw = Impact(assets=(entry,)), random.Random(seed)
    h = opened(accounts=40)
    for account in range(38):
        size = int(draw.paretovariate(1.1))
        borrower(h, account, size, int(size * (1_550 - 100 * draw.random())))
    for block, price in ((10, 1_900), (11, 1_850), (12, 1_700)):
        h.block(block).price(WETH, price * USD)
    found = run(h, MODELS["competitive"], (), terms=terms)[0]
    asked = Counter[str]()
    quick = Competition._choose_lowered

    def counted(self: Competition, book: Any, open_to: Any) -> Any:
        asked["quick"] += 1
        return quick(self, book, open_to)

    monkeypatch.setattr(Competition, "_choose_lowered", counted)
    run(h, MODELS["competitive"], (), terms=terms)
    assert asked["quick"]
    monkeypatch.setattr(Offers, "lower_all", Offers.outdate_all)
    assert outcome(run(h, MODELS["competitive"], (), terms=terms)[0]) == outcome(found)


def test_the_histories_have_what_they_test() -> None:
    found = [run(random_history(seed, steps=60), MODELS["competitive"], ())[0] for seed in range(3)]
    points = [point for one in found for point in one.points]
    assert {"history", "sale", "time", "deviation", "period", "window"} <= {point.reason for point in points}
    assert any(sale.endogenous for one in found for sale in one.sales)
    assert any(sale.amount < 0 for one in found for sale in one.sales)
