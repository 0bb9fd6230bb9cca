"""What was left waits for the next moment at which somebody looks, and nobody is asked in between: the same
liquidations as with a look at every block.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.replay.competition.draws import MOST_AHEAD, WORD, Draws
from backtest.replay.competition.gas import BaseFees
from backtest.replay.competition.opportunities import NO_CAPITAL
from backtest.replay.competition.searchers import Searchers
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import Contest, Costs, Gas, Participation, PriorityGas, Scenario, SealedBid, Searcher
from tests.sketches.history import USD, USDC
from tests.support.contest_history import COSTLY, GWEI, POOL, falling, one_account

POOR = (Searcher(name="a", capital=15_000 * USD, recycle=500), Searcher(name="b", capital=9_000 * USD, recycle=1_000))
FEES = BaseFees([0, 500, 1_000, 1_031], [30 * GWEI, 300 * GWEI, 40 * GWEI, 60 * GWEI])
MOVING = Costs(gas=Gas(units=500_000))
MODELS: dict[str, Contest] = {
    "seldom": Participation(mean=300),
    "now and then": Participation(mean=2_500, searchers=2),
    "over-dispersed": Participation(distribution="negative-binomial", mean=2_000, dispersion=3_000),
    "of their own": Participation(
        distribution="searchers", searchers=(Searcher(name="a", shows_up=40), Searcher(name="b", shows_up=700))
    ),
    "one never": Participation(
        distribution="searchers", searchers=(Searcher(name="a", shows_up=0), Searcher(name="b", shows_up=300))
    ),
    "two steps": Participation(mean=1_500, strategy="two-step"),
    "patient": Participation(mean=1_500, strategy="patient"),
    "few calls": Participation(mean=3_000, max_calls=1),
    "short of money": Participation(mean=4_000, searchers=POOR),
    "capped": Participation(mean=3_000, searchers=(Searcher(name="a", gas_cap=50 * GWEI), Searcher(name="b"))),
    "stuck": Participation(mean=3_000, searchers=(Searcher(name="a", gas_cap=50 * GWEI, stuck=300),)),
    "away together": Participation(mean=6_000, absent=7_000, absence=600, absent_together=True),
    "away each": Participation(mean=9_000, searchers=3, absent=8_000, absence=400),
    "away and poor": Participation(mean=9_000, searchers=POOR, absent=6_000, absence=900),
    "accounts overlooked": Participation(mean=3_000, overlooked=6_000, overlooked_for=500),
    "all there but overlooked": SealedBid(searchers=2, overlooked=5_000, overlooked_for=300),
    "slow to react": Participation(mean=3_000, reaction=100),
    "all there but slow to react": SealedBid(searchers=2, private_cost=20 * USD, reaction=30),
    "slow, overlooked, away": Participation(
        mean=5_000, reaction=250, overlooked=5_000, overlooked_for=200, absent=5_000, absence=150
    ),
    "slow and stuck": Participation(
        mean=3_000, reaction=40, searchers=(Searcher(name="a", gas_cap=50 * GWEI, stuck=300),)
    ),
    "in part, of any pair": Participation(mean=3_000, partial=6_000, pair="any", searchers=POOR),
    "all there but away": SealedBid(searchers=2, absent=8_000, absence=700),
    "everybody, short of money": Participation(distribution="searchers", searchers=POOR),
}


def run(model: Contest, costs: Costs, seed: int) -> Replay[Any]:
    h = falling(12)
    scenario = Scenario(liquidators=model, costs=costs, seed=seed)
    return replay(POOL, h.market, h.timeline(), scenario, samples=7, base_fees=FEES)


def every_block(self: Searchers, key: object, reason: str, now: int, *, hopeful: bool) -> int | None:
    """The plain rule: whatever may change by time alone is looked at in the next block."""
    return now + self.terms.block_seconds if hopeful or reason != "unprofitable" else None


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("costs", [Costs(), COSTLY, MOVING], ids=["free", "costly", "moving gas"])
def test_the_same_as_a_look_at_every_block(name: str, costs: Costs, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = 0
    for seed in range(3):
        found = run(MODELS[name], costs, seed)
        with monkeypatch.context() as patched:
            patched.setattr(Searchers, "_worth_a_look", every_block)
            patched.setattr(Searchers, "_let_be", lambda *_: None)
            plain = run(MODELS[name], costs, seed)
        assert found.liquidations == plain.liquidations
        assert found.horizons == plain.horizons
        assert found.totals == plain.totals
        assert known(found) == known(plain)
        fewer += sum(spell.looks for spell in plain.spells) - sum(spell.looks for spell in found.spells)
    assert fewer > 0 or name == "stuck" or name == "slow and stuck"


def known(result: Replay[Any]) -> list[tuple[object, ...]]:
    """What came of each opportunity: all but how often somebody looked, and for which reasons in between."""
    begins: dict[int, Any] = {}
    for spell in result.spells:
        begins.setdefault(spell.opportunity, spell)
    ends = [spell for spell in result.spells if spell.ending != "missed"]
    firsts = [(spell.opportunity, spell.account, spell.begins, spell.repaid) for _, spell in sorted(begins.items())]
    return [*firsts, *((s.opportunity, s.begins, s.ends, s.repaid, s.profit_base, s.ending, s.reason, s.liquidation,
                        s.bids) for s in ends)]  # fmt: skip


def test_who_lacks_money_that_never_comes_back_is_not_asked_again() -> None:
    """Ten ETH of debt and a searcher of a dollar: a day of looks at every block took minutes."""
    h = one_account()
    h.block(7_200).price(USDC, USD)
    poor = Participation(distribution="searchers", searchers=(Searcher(name="poor", capital=USD),))
    [spell] = replay(POOL, h.market, h.timeline(), Scenario(liquidators=poor)).spells
    assert (spell.reason, spell.looks) == (NO_CAPITAL, 2)  # once a price


@given(
    seed=st.integers(0, WORD - 1),
    start=st.integers(0, 2**40),
    step=st.integers(1, 1_000),
    account=st.integers(0, 2**32),
    low=st.integers(0, WORD - 1),
    width=st.integers(WORD // 50, WORD - 1),
)
def test_the_first_time_is_that_of_asking_for_each(
    seed: int, start: int, step: int, account: int, low: int, width: int
) -> None:
    draws, high = Draws(seed), min(WORD - 1, low + width)
    found = draws.first_time(low, high, start, step, "number", account, 7)
    plain = start
    while not low <= draws.word("number", plain, account, 7) <= high and plain < start + 2_000 * step:
        plain += step
    assert found == plain or (plain == start + 2_000 * step and found > plain)


def test_what_is_next_to_impossible_is_looked_at_again_in_the_end() -> None:
    assert Draws(3).first_time(5, 5, 100, 12, "number", 1) == 100 + 12 * MOST_AHEAD


@pytest.mark.parametrize("model", [SealedBid, PriorityGas])
def test_costs_that_are_drawn_anew_are_looked_at_anew(model: type[SealedBid | PriorityGas]) -> None:
    """A searcher whose own costs of this block are above what a liquidation leaves may have lower ones in the next."""
    h = one_account()
    h.block(400).price(USDC, USD)
    late = 0
    for seed in range(8):
        result = replay(
            POOL, h.market, h.timeline(), Scenario(liquidators=model(searchers=1, private_cost=5_000 * USD), seed=seed)
        )
        made, spells = result.liquidations[0], [spell for spell in result.spells if spell.opportunity == 0]
        draws, account = Draws(seed), made.fill.order.account
        values = [made.waterfall.rent + made.waterfall.bid + made.waterfall.private]
        moment = h.timeline().clock_at(10).timestamp
        while draws.below(5_000 * USD + 1, "private cost", moment, account, 0, 0) > values[0]:
            moment += 12
        assert made.clock.timestamp == moment
        assert [spell.reason for spell in spells[:-1]] == ["costs of their own"] * (len(spells) - 1)
        late += len(spells) > 1
    assert late > 4
