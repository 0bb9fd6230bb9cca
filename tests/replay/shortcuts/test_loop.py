"""The compiled loop against the plain replay, which looks at everyone at every decision."""

from __future__ import annotations

from collections import Counter

import pytest

from backtest.model import AccountId
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.replay.engine import replay
from backtest.replay.joint import JointPart, replay_jointly
from backtest.replay.shortcuts import stretch
from backtest.replay.watch import foresight
from backtest.scenario import Competitive, Override, Scenario
from tests.bench.bench_replay import market, timeline
from tests.support.aave_history import random_history
from tests.support.compiled_loop import compare, count_ends, outcome

FROM = 10
SCENARIOS = (
    Scenario(liquidators=Competitive(), from_block=FROM),
    Scenario(liquidators=Competitive(max_calls=2), from_block=FROM),
    Scenario(liquidators=Competitive(gas_cost=5 * 10**8), from_block=FROM),
    Scenario(
        liquidators=Competitive(), from_block=FROM, allow_invalid=True,
        overrides=(
            Override(
                parameter="liquidation_threshold", change=-300, asset="A0", from_block=12, until_block=40, steps=4
            ),
            Override(parameter="close_factor", value=10_000, from_block=20),
        ),
    ),
)  # fmt: skip


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    return count_ends(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_random_histories(part: int, ended: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretch, "ROOM", 1)
    monkeypatch.setattr(foresight, "RAMP", 1)
    total = 0
    for seed in range(30):
        h, scenario = random_history(100 * part + seed), SCENARIOS[(seed + part) % len(SCENARIOS)]
        total += compare(AAVE_V3, h, scenario, 100 * part + seed)
    assert total > 100
    assert ended["made"] > total // 2
    assert ended["no room"] > 3
    assert ended["not here"] > 0


def test_the_loop_makes_nearly_all_of_a_crash(ended: Counter[str]) -> None:
    history, of = timeline(300, 500, fall=0.4), market(300)
    scenario = Scenario(liquidators=Competitive(), from_block=2)
    quick, plain = replay(AAVE_V3, of, history, scenario), replay(AAVE_V3, of, history, scenario, screened=False)
    assert outcome(quick) == outcome(plain)
    assert ended["made"] > 0.9 * len(plain.liquidations) > 100


def test_who_is_left_out_is_not_the_loops_either(ended: Counter[str]) -> None:
    history, of = timeline(300, 500, fall=0.4), market(300)
    out = frozenset(AccountId(number) for number in range(0, 300, 3))
    part = JointPart(AAVE_V3, of, history, Scenario(liquidators=Competitive(), from_block=2), without=out)
    [quick], [plain] = replay_jointly([part]), replay_jointly([part], screened=False)
    assert outcome(quick) == outcome(plain)
    assert ended["made"] > 0.9 * len(plain.liquidations) > 60
    assert not any(made.fill.order.account in out for made in quick.liquidations)


def test_a_form_that_is_not_made_anew_is_noticed(ended: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison has teeth: whoever was liquidated is looked up by what it owed before."""
    from backtest.protocols.aave_v3 import moment
    from backtest.words.machine import with_words

    def half(columns, account, assets, owes, amounts):  # type: ignore[no-untyped-def]
        return 0, 0.0

    monkeypatch.setattr(moment, "form", with_words(half))
    history, of = timeline(300, 500, fall=0.4), market(300)
    scenario = Scenario(liquidators=Competitive(), from_block=2)
    quick, plain = replay(AAVE_V3, of, history, scenario), replay(AAVE_V3, of, history, scenario, screened=False)
    assert quick.liquidations != plain.liquidations
    assert ended["made"]
