"""A fallen market with liquidators of a model: with the screen as without it."""

from __future__ import annotations

from typing import Any

from backtest.replay.engine import replay
from backtest.scenario import Competitive, Scenario
from tests.support.fallen_markets import FALLEN


def test_the_screen_never_misses() -> None:
    of = FALLEN["liquity-v2"]()
    scenario = Scenario(liquidators=Competitive())
    found: list[Any] = [
        replay(of.protocol, of.h.market, of.timeline(), scenario, screened=screened) for screened in (True, False)
    ]
    fills = [[(each.seq, each.fill) for each in result.liquidations] for result in found]
    assert fills[0] == fills[1]
    assert len(fills[0]) == 2
