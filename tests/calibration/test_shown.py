"""What a window shows, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backtest.calibration import shown as s
from backtest.model import AccountId, Clock
from backtest.replay.engine import replay
from backtest.replay.forecast import Alarm
from backtest.scenario import Competitive, Participation, Scenario
from tests.sketches.history import USD, USDC
from tests.support.contest_history import POOL, falling, one_account


def alarm(account: int, at: int, until: int) -> Alarm:
    return Alarm(
        account=AccountId(account), clock=Clock(at, 0, at), until=until, repaid=1, seized=1, repaid_base=1, debt_base=1,
        health=1, throughout=True,
    )  # fmt: skip


def test_alarms_without_a_gap_are_one_stretch() -> None:
    found = s.stretches_of([alarm(1, 10, 20), alarm(2, 10, 20), alarm(1, 20, 30), alarm(1, 50, 60)])
    assert found == {1: [(10, 30), (50, 60)], 2: [(10, 20)]}


def test_frictionless_liquidators_come_at_once() -> None:
    h = falling()
    outcome: Any = replay(POOL, h.market, h.timeline(), Scenario(liquidators=Competitive()))
    seen = s.shown(outcome.liquidations, s.stretches_in(outcome.spells), outcome.horizons[0], unit=USD)
    assert (seen.liquidations, seen.at_once, seen.long_delay, seen.concentration, seen.missed) == (
        len(outcome.liquidations), 1, 0, 1, 0,
    )  # fmt: skip
    assert seen.repaid == pytest.approx(sum(made.repaid_base for made in outcome.liquidations) / USD)


def test_a_delay_is_from_the_first_look_to_the_first_liquidation() -> None:
    h = one_account()
    h.block(7_200).price(USDC, USD)
    outcome: Any = replay(POOL, h.market, h.timeline(), Scenario(liquidators=Participation(mean=200), seed=5))
    first = outcome.liquidations[0]
    assert first.clock.timestamp > 10 * 12
    stretches = s.stretches_in(outcome.spells)
    seen = s.shown(outcome.liquidations, stretches, outcome.horizons[0], unit=USD)
    assert seen.median_delay == first.clock.timestamp - 10 * 12
    assert s.waited(stretches, outcome.liquidations) >= seen.median_delay
    nobody: Any = replay(POOL, h.market, h.timeline(), Scenario(liquidators=Participation(mean=0)))
    seen = s.shown(nobody.liquidations, s.stretches_in(nobody.spells), nobody.horizons[0], unit=USD)
    assert (seen.liquidations, seen.missed) == (0, 1)


def test_the_scale_of_measures_goes_both_ways() -> None:
    h = falling()
    outcome: Any = replay(POOL, h.market, h.timeline(), Scenario(liquidators=Participation(mean=3_000)))
    seen = s.shown(outcome.liquidations, s.stretches_in(outcome.spells), outcome.horizons[0], unit=USD)
    back = [s.plain(name, value) for name, value in zip(s.NAMES, s.vector(seen), strict=True)]
    assert back == pytest.approx([getattr(seen, name) for name in s.NAMES])
    hours = s.hourly(outcome.liquidations, 0, 3 * 3_600, unit=USD)
    assert len(hours) == 3
    assert np.sum(hours, axis=0) == pytest.approx([seen.liquidations, seen.repaid, seen.loss])
