"""A vault's history and its auctions, made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from backtest.protocols.maker import MAKER
from backtest.protocols.maker.auctions import Auctions
from backtest.protocols.maker.state import MakerState
from backtest.protocols.vaults.state import COIN as DAI
from backtest.replay.engine import replay
from backtest.replay.record import Replay
from backtest.scenario import Competitive, Scenario
from backtest.units import RAY, WAD
from tests.sketches.history import History, market

ETH, USD = 0, 1


START = 1_200


def history(
    system: int, price: int, *, end: int = 40_000, later: Callable[[History], None] | None = None, **params: int
) -> History:
    """The vault at 2,000; at 1,200 s the price falls; the history ends ``end`` seconds later. ``later`` writes what
    happens before the fall.
    """
    h = History(replace(market(("ETH", 18), ("DAI", 18), protocol="maker"), base_decimals=18))
    settings = {
        "liquidation_ratio": 13 * RAY // 10,
        "liquidation_penalty": 113 * WAD // 100,
        "liquidation_system": system,
        "buf": 11 * RAY // 10,
        "cut": 997 * RAY // 1_000,
        "step": 30,
        "dunk": 5_000 * WAD,
        "beg": 105 * WAD // 100,
        "ttl": 3_600,
        "tau": 7_200,
    }
    for name, value in {**settings, **params}.items():
        h.param(name, value)
    h.index(DAI).price(DAI, WAD).price(ETH, 2_000 * WAD)
    h.position(0, ETH, "collateral", 10 * WAD).position(0, DAI, "debt", 10_000 * WAD, "borrow")
    if later is not None:
        later(h)
    return h.block(100, START).price(ETH, price * WAD).block(4_000, START + end).price(DAI, WAD)


def run(h: History, auctions: Auctions | None = None, **options: Any) -> Replay[MakerState]:
    return replay(MAKER, h.market, h.timeline(), Scenario(liquidators=Competitive(**options)), mechanism=auctions)


def steps(result: Replay[MakerState]) -> list[tuple[str, int]]:
    return [(row.step, row.clock.timestamp - START) for row in result.liquidations]
