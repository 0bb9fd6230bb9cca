"""What does not pay is told of many accounts at once: the same replays as when each is quoted and charged."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.model import AccountId
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.competition import unprofitable
from backtest.replay.competition.gas import BaseFees
from backtest.replay.competition.slippage import loss_up
from backtest.replay.competition.unprofitable import bounds
from backtest.replay.engine import replay
from backtest.replay.mechanisms.offers import Offers
from backtest.scenario import (
    Competitive,
    Contest,
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
from tests.support.aave_history import random_history

SAME = (
    "liquidations", "spells", "deficits", "totals", "horizons", "refused", "unpaid", "rules", "costs", "book",
)  # fmt: skip
USD, GWEI = 10**8, 10**9
FEES = BaseFees([0, 300, 600, 900], [30 * GWEI, 300 * GWEI, 40 * GWEI, 60 * GWEI])
STATED = Gas(fee="constant", base_fee=30 * GWEI, native_price=2_000 * USD)
MOVING = Gas(native_price=200 * USD)
ROOT = Slippage(model="square-root", daily_volume=10**7 * USD, daily_volatility=400)
POOL = Slippage(model="constant-product", reserve=10**6 * USD)
CURVE = Slippage(model="depth", curve=((1_000 * USD, 10), (5_000 * USD, 300)), depth=9_000)
OWN = (Searcher(name="a", capital=10**6 * USD, margin=20), Searcher(name="b", min_profit=5 * USD, gas_cap=50 * GWEI))
MODELS: tuple[Contest | Competitive, ...] = (
    Competitive(), Competitive(max_calls=1, gas_cost=10 * USD),
    SealedBid(private_cost=20 * USD), PriorityGas(private_cost=20 * USD, max_calls=1), LatencyRace(strategy="two-step"),
    Participation(mean=2_500), Oev(), SealedBid(searchers=OWN), Participation(searchers=OWN, mean=9_000, absent=4_000),
)  # fmt: skip
COSTS = (
    Costs(gas=STATED, slippage=(ROOT,)), Costs(gas=MOVING, slippage=(POOL,), flash_fee=9),
    Costs(gas=STATED, slippage=(CURVE,), sandwich=50), Costs(gas=MOVING),
)  # fmt: skip


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many accounts were left, or found to have nothing on offer, without a quote; books are small here."""
    monkeypatch.setattr(unprofitable, "FEW", 1)
    found: Counter[str] = Counter()
    let, nothing = Offers.let_all, Offers.nothing

    def counted_let(self: Offers, accounts: set[AccountId]) -> None:
        found["let"] += len(accounts)
        let(self, accounts)

    def counted_nothing(self: Offers, accounts: set[AccountId]) -> None:
        found["nothing"] += len(accounts)
        nothing(self, accounts)

    monkeypatch.setattr(Offers, "let_all", counted_let)
    monkeypatch.setattr(Offers, "nothing", counted_nothing)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_random_histories(part: int, told: Counter[str]) -> None:
    made = 0
    for seed in range(18):
        h, number = random_history(500 + 100 * part + seed), 4 * seed + part
        scenario = Scenario(
            liquidators=MODELS[seed % len(MODELS)], costs=COSTS[number % 4 - seed % 3], from_block=10, seed=seed
        )
        plain, quick = (
            replay(AAVE_V3, h.market, h.timeline(), scenario, samples=5, screened=screened, base_fees=FEES)
            for screened in (False, True)
        )
        for name in SAME:
            assert getattr(quick, name) == getattr(plain, name), (seed, name)
        made += len(plain.liquidations)
    assert told["let"] > 50
    assert told["nothing"] > 5
    assert made > 20


@given(
    size=st.integers(1, 2**62), depth=st.integers(1, 10_000), reserve=st.integers(1, 2**60), k=st.integers(1, 10**7),
    curve=st.dictionaries(st.integers(1, 2**50), st.integers(0, 10_000), min_size=1, max_size=4),
)  # fmt: skip
def test_floats_bound_what_a_sale_loses(size: int, depth: int, reserve: int, k: int, curve: dict[int, int]) -> None:
    points = tuple(zip(sorted(curve), sorted(curve.values()), strict=True))
    for terms in (
        Slippage(model="constant-product", reserve=reserve, depth=depth),
        Slippage(model="square-root", daily_volume=reserve, daily_volatility=k, depth=depth),
        Slippage(model="depth", curve=points, depth=depth),
    ):
        exact, _ = loss_up(size, terms)
        low, high = bounds(np.array([float(size)]), terms)
        assert low[0] - size * 1e-12 - 8 <= exact <= high[0] + size * 1e-12 + 8
