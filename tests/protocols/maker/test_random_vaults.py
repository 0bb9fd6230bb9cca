"""Auctions that are not looked at until they may pay, or must be reset, against those that are looked at every time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from backtest.protocols.maker import MAKER
from backtest.protocols.maker.auctions import Auctions, IlkAuctions
from backtest.replay.competition.gas import BaseFees
from backtest.replay.engine import replay
from backtest.scenario import Competitive, Costs, Gas, Override, Participation, Scenario, SealedBid, Searcher
from tests.support.compiled_loop import outcome
from tests.support.random_vaults import random_vaults

GWEI = 10**9
FEES = BaseFees([0, 300, 600], [30 * GWEI, 300 * GWEI, 40 * GWEI])
GAS = Costs(gas=Gas(fee="constant", base_fee=30 * GWEI, native_price=100 * 10**18))
SCENARIOS = (
    Scenario(liquidators=Competitive(), from_block=10),
    Scenario(liquidators=Competitive(max_calls=1), from_block=12),
    Scenario(liquidators=Competitive(gas_cost=2 * 10**18), from_block=10),
    Scenario(liquidators=Competitive(), costs=GAS, from_block=10),
    Scenario(liquidators=SealedBid(), costs=GAS, from_block=10),
    Scenario(
        liquidators=Competitive(), from_block=10, allow_invalid=True,
        overrides=(
            Override(parameter="liquidation_ratio", change=500, from_block=20),
            Override(parameter="hole", value=50_000, from_block=30),
        ),
    ),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_random_vaults(part: int) -> None:
    steps: dict[str, int] = {}
    for seed in range(100 * part, 100 * part + 12):
        h, scenario = random_vaults(seed), SCENARIOS[seed % len(SCENARIOS)]
        largest = 50 * 10**18 if seed % 5 == 0 else None
        cost = scenario.liquidators.gas_cost if isinstance(scenario.liquidators, Competitive) else 0
        plain, quick = (
            replay(
                MAKER, h.market, h.timeline(), scenario, samples=5, screened=screened, base_fees=FEES,
                mechanism=Auctions(cost, largest),
            )
            for screened in (False, True)
        )  # fmt: skip
        for name, value in (outcome(plain) | {"costs": plain.costs}).items():
            assert (outcome(quick) | {"costs": quick.costs})[name] == value, (seed, name)
        for made in plain.liquidations:
            steps[made.step] = steps.get(made.step, 0) + 1
    assert all(steps.get(step, 0) > 10 for step in ("bark", "bite", "take", "redo", "tend", "deal")), steps


@pytest.mark.parametrize("seed", range(4))
def test_what_vaults_begin_with_stands_for_their_changes(seed: int) -> None:
    h = random_vaults(seed)
    block = h.rows["blocks"][-1]["block_number"] * 2 // 3
    scenario = Scenario(liquidators=Competitive(), from_block=block)
    plain, quick = (
        replay(MAKER, h.market, h.timeline(), scenario, samples=5, screened=screened) for screened in (False, True)
    )
    assert outcome(quick) == outcome(plain)
    assert quick.book.state.owed == {0: sum(quick.book.state.art.values())} == plain.book.state.owed


FEW = (
    Participation(mean=300),
    Participation(mean=2_000, searchers=3),
    Participation(
        mean=4_000,
        searchers=(
            Searcher(name="a", capital=3_000 * 10**18, recycle=300),
            Searcher(name="b", capital=20_000 * 10**18, min_profit=10**18),
        ),
    ),
    Participation(
        distribution="searchers",
        searchers=(Searcher(name="a", shows_up=100), Searcher(name="b", shows_up=700, margin=100)),
    ),
    Participation(mean=6_000, absent=7_000, absence=600, absent_together=True),
    Participation(
        mean=9_000, searchers=(Searcher(name="a", gas_cap=100 * GWEI), Searcher(name="b", gas_cap=35 * GWEI, stuck=200))
    ),
)


def test_lots_sleep_until_somebody_looks_at_them() -> None:
    """Against a look at every block: the same bids and sales, and what is on offer is looked at as often. English lots
    are never on offer for long, so that nothing tells of the looks that they are spared.
    """
    steps, spared = Counter[str](), 0
    for seed in (1, 3, 4, 8, 9, 17):
        h, terms = random_vaults(seed, steps=40), FEW[seed % len(FEW)]
        costs = (Costs(), GAS, Costs(gas=Gas(native_price=100 * 10**18)))[seed % 3]
        scenario = Scenario(liquidators=terms, costs=costs, from_block=10, seed=seed)
        looks, found = [], []
        for screened in (False, True):
            with pytest.MonkeyPatch.context() as patched:
                asked = _counted(patched)
                found.append(
                    replay(
                        MAKER, h.market, h.timeline(), scenario, samples=5, screened=screened, base_fees=FEES,
                        mechanism=Auctions(),
                    )
                )  # fmt: skip
            looks.append(asked[0])
        plain, quick = found
        assert outcome(quick) == outcome(plain), seed
        steps.update(made.step for made in plain.liquidations)
        spared += looks[0] - looks[1]
    assert all(steps[step] > 1 for step in ("bite", "tend", "dent", "deal", "take")), steps
    assert spared > 1_000


def _counted(patched: pytest.MonkeyPatch) -> list[int]:
    """How often an English lot is looked at."""
    found, looked = [0], IlkAuctions._english

    def counted(*args: Any) -> Any:
        found[0] += 1
        return looked(*args)

    patched.setattr(IlkAuctions, "_english", counted)
    return found
