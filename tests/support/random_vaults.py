"""Histories of one ilk at random, near the edge: for comparing ways of replaying them."""

from __future__ import annotations

import random
from dataclasses import replace

from backtest.protocols.vaults.state import COIN as DAI
from backtest.protocols.vaults.state import COLLATERAL
from backtest.units import RAY, WAD
from tests.sketches.history import History, market

VAULTS = 24


def random_vaults(seed: int, *, steps: int = 80) -> History:
    """Vaults of a few units up to a million, some alike; then prices that walk, fall in jumps, market
    prices, drips, and what owners do, under any of the liquidation contracts, curves and limits.
    """
    draw = random.Random(seed)
    h = History(
        replace(market(("ETH", 18), ("DAI", 18), protocol="maker", accounts=VAULTS), base_decimals=18)
    )  # fmt: skip
    ratio = draw.choice((13, 15))
    for name, value in (
        ("liquidation_ratio", ratio * RAY // 10), ("liquidation_penalty", 113 * WAD // 100),
        ("liquidation_system", draw.choice((20, 20, 20, 11, 10))), ("buf", draw.choice((11, 12, 13)) * RAY // 10),
        ("calc", draw.choice((0, 1, 1, 2))), ("calc_tau", draw.choice((1_000, 6 * 3_600))),
        ("step", draw.choice((30, 90))), ("cut", draw.choice((99, 97)) * RAY // 100),
        ("tail", draw.choice((600, 8_400))), ("cusp", draw.choice((4, 8)) * RAY // 10),
        ("dunk", 5_000 * WAD), ("lump", 5 * WAD), ("dust", draw.choice((0, 100)) * WAD),
        ("ttl", 600), ("tau", draw.choice((900, 7_200))), ("tip", draw.choice((0, 10)) * WAD),
    ):  # fmt: skip
        h.param(name, value)
    if draw.random() < 0.5:
        h.param("hole", draw.choice((3_000, 100_000, 10**9)) * WAD)
    if draw.random() < 0.3:
        h.param("box", draw.choice((6_000, 10**8)) * WAD)
    price, rate = 1_000.0, RAY
    h.index(DAI).price(DAI, WAD).price(COLLATERAL, int(price) * WAD)
    for vault in range(VAULTS):
        worth = draw.choice((300, 5_000, int(10 ** draw.uniform(0, 6))))
        h.position(vault, COLLATERAL, "collateral", worth * WAD // 1_000)
        share = draw.uniform(0.5, 1.01) * 10 / ratio
        h.position(vault, DAI, "debt", int(worth * share * 10**9) * 10**9 + 1, "borrow")
    block = 10
    for _ in range(steps):
        if draw.random() < 0.8:
            block += draw.choice((1, 1, 2, 8, 60))
            h.block(block, block * 12 + draw.randrange(12))
        kind, vault = draw.random(), draw.randrange(VAULTS)
        if kind < 0.7:
            price *= draw.choice((0.93, 0.98, 0.995, 0.999, 1.0, 1.001, 1.002, 1.02))
            h.price(COLLATERAL, int(price * 10**9) * 10**9)
        elif kind < 0.8:
            sold = int(price * draw.choice((0.9, 0.97, 1.0, 1.01)) * 10**9) * 10**9
            h.traded(COLLATERAL, None if draw.random() < 0.3 else sold)
        elif kind < 0.85:
            rate += rate // draw.choice((10**5, 10**3))
            h.index(DAI, borrow=rate)
        elif kind < 0.9:
            h.param(*draw.choice((("stopped", draw.randrange(4)), ("cut", 98 * RAY // 100), ("step", 60))))
        else:
            side, asset = draw.choice((("collateral", COLLATERAL), ("debt", DAI)))
            name = "supply" if side == "collateral" else "borrow"
            h.position(vault, asset, side, draw.randrange(1, 50) * WAD // (100 if asset == COLLATERAL else 1), name)
    return h
