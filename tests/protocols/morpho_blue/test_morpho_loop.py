"""Morpho Blue in the compiled loop, and what does not pay told of many, against the plain replay."""

from __future__ import annotations

from collections import Counter

import pytest

from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.replay.competition import unprofitable
from backtest.replay.engine import replay
from backtest.replay.shortcuts import stretch
from backtest.scenario import Competitive, Costs, Override, Scenario, SealedBid, Slippage
from tests.bench.bench_protocols import two_assets
from tests.support.compiled_loop import compare, count_ends, outcome
from tests.support.morpho_history import random_history

FROM = 10
USD = 10**8
SCENARIOS = (
    Scenario(liquidators=Competitive(), from_block=FROM),
    Scenario(liquidators=Competitive(gas_cost=50 * USD), from_block=FROM),
    Scenario(liquidators=Competitive(max_calls=1), from_block=FROM),
    Scenario(
        liquidators=Competitive(), from_block=FROM, allow_invalid=True,
        overrides=(
            Override(
                parameter="liquidation_threshold", change=-300, asset="WETH", from_block=12, until_block=40, steps=4
            ),
            Override(parameter="liquidation_bonus", value=11_000, asset="WETH", from_block=20),
        ),
    ),
)  # fmt: skip
SLIPPAGE = Slippage(model="square-root", daily_volume=10**7 * USD, daily_volatility=400)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    return count_ends(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_random_histories(part: int, ended: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretch, "ROOM", 1)
    total = 0
    for seed in range(30):
        scenario = SCENARIOS[(seed + part) % len(SCENARIOS)]
        total += compare(MORPHO_BLUE, random_history(100 * part + seed), scenario, 100 * part + seed)
    assert total > 100
    assert ended["made"] > total // 2
    assert ended["no room"] > 3
    assert ended["not here"] > 0


def test_the_loop_makes_nearly_all_of_a_crash(ended: Counter[str]) -> None:
    of, history = two_assets("morpho-blue", 200, 300, fall=0.4)
    scenario = Scenario(liquidators=Competitive(), from_block=2)
    quick, plain = (replay(MORPHO_BLUE, of, history, scenario, screened=screened) for screened in (True, False))
    assert outcome(quick) == outcome(plain)
    assert ended["made"] > 0.9 * len(plain.liquidations) > 50


@pytest.mark.slow
def test_what_does_not_pay_is_told_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unprofitable, "FEW", 1)
    asked, made = 0, 0
    spreads = type(MORPHO_BLUE).spreads

    def counted(self: object, *args: object) -> object:
        nonlocal asked
        found = spreads(self, *args)  # type: ignore[arg-type]
        asked += found is not None
        return found

    monkeypatch.setattr(type(MORPHO_BLUE), "spreads", counted)
    for seed in range(300, 316):
        h = random_history(seed)
        scenario = Scenario(
            liquidators=SealedBid(private_cost=20 * USD) if seed % 2 else Competitive(),
            costs=Costs(slippage=(SLIPPAGE,), flash_fee=seed % 3), from_block=FROM, seed=seed,
        )  # fmt: skip
        plain, quick = (
            replay(MORPHO_BLUE, h.market, h.timeline(), scenario, samples=5, screened=screened)
            for screened in (False, True)
        )
        for name, value in (outcome(plain) | {"costs": plain.costs}).items():
            assert (outcome(quick) | {"costs": quick.costs})[name] == value, (seed, name)
        made += len(plain.liquidations)
    assert asked > 100
    assert made > 20
