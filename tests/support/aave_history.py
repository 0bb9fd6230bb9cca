"""Aave V3 histories at random, of a made-up market near the edge: for comparing ways of replaying them."""

from __future__ import annotations

import random

from backtest.units import RAY
from tests.sketches.history import History, market

USD = 10**8
ASSETS, ACCOUNTS = 5, 24
TREASURY, LENDER = ACCOUNTS - 1, ACCOUNTS - 2
REVISIONS = (1, 3, 4, 5, 7, 8, 9, 10, 11)


def random_history(seed: int, *, steps: int = 120) -> History:
    """Accounts with several collaterals and debts, some in an e-mode; then prices (several in a block, falling in
    jumps, sometimes none), indexes, market prices, users' actions, flags and parameters.
    """
    draw = random.Random(seed)
    h = History(
        market(*((f"A{i}", draw.choice((6, 8, 18))) for i in range(ASSETS)), accounts=ACCOUNTS, protocol="aave-v3")
    )
    units = [10**asset.decimals for asset in h.market.assets]
    price = [draw.choice((1, 20, 2_000)) * USD for _ in range(ASSETS)]
    indexes = [[RAY, RAY, 0, 0, 0] for _ in range(ASSETS)]
    revision = draw.choice(REVISIONS)
    h.param("pool_revision", revision)
    fee = draw.choice((0, 1_000))
    for asset in range(ASSETS):
        h.param("reserve_id", (asset * 3) % ASSETS, asset=asset)
        for name, value in (
            ("liquidation_threshold", draw.choice((7_000, 8_000, 8_500))), ("ltv", 6_500),
            ("liquidation_bonus", draw.choice((10_300, 10_500, 11_000))), ("liquidation_protocol_fee", fee),
            ("treasury", TREASURY), ("borrowing_enabled", 1), ("emode_category", int(asset < 2)),
        ):  # fmt: skip
            h.param(name, value, asset=asset)
        if revision >= 5 and asset < 2:
            h.param("emode_collateral", 1, asset=asset, category=1).param(
                "emode_borrowable", 1, asset=asset, category=1
            )
        h.price(asset, price[asset])
        h.position(LENDER, asset, "collateral", 10 ** draw.choice((4, 9)) * units[asset])
    for name, value in (
        ("emode_ltv", 9_000),
        ("emode_liquidation_threshold", 9_300),
        ("emode_liquidation_bonus", 10_100),
    ):
        h.param(name, value, category=1)
    for account in range(ACCOUNTS - 2):
        worth = 10 ** draw.uniform(0.5, 6)
        for asset in draw.sample(range(ASSETS), draw.choice((1, 1, 2, 3))):
            amount = int(worth * USD * units[asset] / price[asset]) + 1
            h.position(account, asset, "collateral", amount)
            if draw.random() < 0.9:
                h.setting(account, "collateral_enabled", 1, asset)
        if draw.random() < 0.3:
            h.setting(account, "emode", 1)
        for asset in draw.sample(range(ASSETS), draw.choice((0, 1, 1, 2))):
            owed = worth * draw.uniform(0.3, 0.6)
            h.position(account, asset, "debt", int(owed * USD * units[asset] / price[asset]) + 1, "borrow")
    block = 10
    for _ in range(steps):
        if draw.random() < 0.6:
            block += draw.choice((1, 1, 2, 500))
            h.block(block, block * 12)
        _step(h, draw, price, indexes, units)
    return h


def _step(h: History, draw: random.Random, price: list[int], indexes: list[list[int]], units: list[int]) -> None:
    kind, asset, account = draw.random(), draw.randrange(ASSETS), draw.randrange(ACCOUNTS - 2)
    if kind < 0.6:
        with h.transaction():
            for one in {asset, draw.randrange(ASSETS)}:
                price[one] = max(1, int(price[one] * draw.choice((0.8, 0.93, 0.97, 0.99, 1.001, 1.02, 1.1))))
                h.price(one, None if draw.random() < 0.03 else price[one])
    elif kind < 0.72:
        at, stored = h.now, indexes[asset]
        gap = at - stored[4]
        stored[0] += stored[0] * stored[2] * gap // RAY // 31_536_000
        stored[1] += stored[1] * stored[3] * gap // RAY // 31_536_000
        stored[2], stored[3], stored[4] = draw.randrange(RAY // 10), draw.randrange(RAY // 4), at
        h.index(asset, *stored[:4])
    elif kind < 0.78:
        h.traded(asset, None if draw.random() < 0.2 else int(price[asset] * draw.uniform(0.8, 1.05)))
    elif kind < 0.84:
        h.position(account, asset, "collateral", draw.randrange(1, 100) * units[asset])
    elif kind < 0.9:
        h.position(account, asset, "debt", max(1, 10 * USD * units[asset] // price[asset]), "borrow")
    elif kind < 0.93:
        h.setting(account, "collateral_enabled", 1, asset)
    elif kind < 0.96:
        h.param("liquidation_threshold", draw.choice((6_500, 7_500, 8_500)), asset=asset)
    elif kind < 0.98:
        h.param(draw.choice(("paused", "active")), draw.randrange(2), asset=asset)
    else:
        h.param("grace_until", h.now + 60, asset=asset)
