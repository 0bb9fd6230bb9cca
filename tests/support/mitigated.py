"""A history replayed under mitigations, in every way that must come to the same."""

from __future__ import annotations

from typing import Any

from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import Competitive, Mitigation, Scenario
from backtest.scenario.settled import settled
from tests.sketches.history import ETH, USD, USDC, WETH, History, opened
from tests.support.contest_history import POOL

POINT = 10**16
"""A hundredth of a wad."""


def mitigated(h: History, *mitigations: Mitigation, protocol: Any = POOL, **more: Any) -> Replay[Any]:
    """With the screen and without: the same result."""
    fields = {"liquidators": Competitive(), **more}
    scenario = settled(Scenario(mitigations=mitigations, **fields), h.market.name_of)
    found = [
        replay(protocol, h.market, h.timeline(), scenario, screened=screened, samples=6) for screened in (True, False)
    ]
    assert outcome(found[0]) == outcome(found[1])
    return found[0]


def outcome(result: Replay[Any]) -> tuple[Any, ...]:
    """All of it that a run keeps."""
    return (
        list(result.liquidations), list(result.deficits), list(result.spells), result.horizons, result.totals,
        result.actions, result.mitigations, result.refused,
    )  # fmt: skip


def bad_debt(result: Replay[Any]) -> int:
    """Written off and open at the end of the window, base units."""
    end = result.horizons[0]
    return end.realised_bad_debt_base + end.open_bad_debt_base


def blocks(result: Replay[Any]) -> list[int]:
    """Of the liquidations."""
    return [made.clock.block_number for made in result.liquidations]


def did(result: Replay[Any], effect: str) -> tuple[int, int]:
    """Number and value of an effect, over all mitigations."""
    found = [each for each in result.mitigations if each.effect == effect]
    return sum(each.number for each in found), sum(each.value_base for each in found)


def squeezed(*prices: int, debt: int = 60, every: int = 10) -> History:
    """An account that owes whole WETH, worth 1000 $ each, against 100,000 USDC (threshold 80 %, bonus 5 %): as CRV was
    borrowed on 22 November 2022. WETH then takes the given prices (whole dollars) every so many blocks.
    """
    h = opened()
    h.price(WETH, 1000 * USD)
    h.param("liquidation_threshold", 8000, asset=USDC).param("liquidation_bonus", 10500, asset=USDC)
    h.param("liquidation_threshold", 0, asset=WETH)
    h.position(0, USDC, "collateral", 100_000 * 10**6).position(0, WETH, "debt", debt * ETH, "borrow")
    for number, price in enumerate(prices, 1):
        h.block(10 + every * number).price(WETH, price * USD)
    return h
