"""Histories at random."""

from __future__ import annotations

import random
from collections import Counter

from backtest.units import RAY
from tests.sketches.history import History, market

USD = 10**8


def random_history(
    seed: int, *, steps: int = 60, accounts: int = 12, assets: int = 4, liquidations: bool = False
) -> History:
    """A book near the edge: loops of an asset against itself, high rates, long gaps, missing prices, parameter changes,
    and users who withdraw, repay and hand over what they have (the pool refuses a negative balance). With
    ``liquidations`` some of which the pool's rules explain and some which they do not, so that accounts differ from
    history after them.
    """
    draw = random.Random(seed)
    h = History(market(*((f"A{i}", draw.choice((6, 8, 18))) for i in range(assets)), accounts=accounts))
    units = [10**asset.decimals for asset in h.market.assets]
    price = [draw.choice((1, 100, 2000, 30_000)) * USD for _ in range(assets)]
    stored = [[RAY, RAY, 0, 0, 0] for _ in range(assets)]  # indexes, rates, time
    balances: Counter[tuple[int, int, str]] = Counter()
    time, block = 12, 1
    for asset in range(assets):
        h.param("liquidation_threshold", draw.choice((0, 7000, 9000)), asset=asset).param(
            "liquidation_bonus", 10500, asset=asset
        )
        h.price(asset, price[asset])
    for _ in range(steps):
        block += draw.randrange(1, 5)
        time += draw.choice((12, 3600, 86_400, 40 * 86_400))
        h.block(block, time)
        asset, account, kind = draw.randrange(assets), draw.randrange(accounts), draw.random()
        if kind < 0.35:
            price[asset] = max(1, int(price[asset] * draw.choice((0.7, 0.95, 0.99, 1.001, 1.02, 1.3))))
            h.price(asset, None if draw.random() < 0.1 else price[asset])
        elif kind < 0.55:
            s = stored[asset]
            gap = time - s[4]
            s[0] = s[0] * (RAY + s[2] * gap // 31_536_000) // RAY
            s[1] = s[1] * (RAY + s[3] * gap // 31_536_000) // RAY
            s[2], s[3], s[4] = draw.randrange(RAY // 5), draw.randrange(RAY), time
            h.index(asset, s[0], s[1], s[2], s[3])
        elif kind < 0.62:
            h.param("liquidation_threshold", draw.choice((0, 6000, 8000, 9500)), asset=asset)
        elif kind < 0.75 and (mine := sorted(key for key, held in balances.items() if held > 0)):
            who, what, side = draw.choice(mine)
            held = balances[who, what, side]
            part = held if draw.random() < 0.5 else draw.randrange(1, held + 1)
            balances[who, what, side] -= part
            if side == "collateral" and draw.random() < 0.4:
                last = h.next_seq + 1
                with h.transaction():
                    h.position(who, what, side, -part, "transfer", last).position(
                        account, what, side, part, "transfer", last
                    )
                balances[account, what, side] += part
            else:
                h.position(who, what, side, -part, "withdraw" if side == "collateral" else "repay")
        else:
            other = asset if draw.random() < 0.4 else draw.randrange(assets)
            size = draw.randrange(1, 1000)
            owed = size * price[asset] * draw.choice((60, 75, 80, 89, 95)) // 100
            h.position(account, asset, "collateral", size * units[asset])
            h.position(account, other, "debt", owed * units[other] // price[other] + 1, "borrow")
            balances[account, asset, "collateral"] += size * units[asset]
            balances[account, other, "debt"] += owed * units[other] // price[other] + 1
        if liquidations and draw.random() < 0.2:
            _liquidate(h, draw, balances, accounts)
    return h


def _liquidate(h: History, draw: random.Random, balances: Counter[tuple[int, int, str]], accounts: int) -> None:
    """Of somebody with debt, for amounts that are there."""
    debts = sorted(key for key, held in balances.items() if key[2] == "debt" and held > 0)
    if not debts:
        return
    who, debt, _ = draw.choice(debts)
    pledged = sorted(key for key, held in balances.items() if key[0] == who and key[2] == "collateral" and held > 0)
    if not pledged:
        return
    _, collateral, _ = draw.choice(pledged)
    repaid, seized = (
        max(1, balances[who, asset, side] // draw.choice((1, 2, 9)))
        for asset, side in ((debt, "debt"), (collateral, "collateral"))
    )
    balances[who, debt, "debt"] -= repaid
    balances[who, collateral, "collateral"] -= seized
    with h.transaction():
        last = h.next_seq + 2
        h.position(who, debt, "debt", -repaid, "liquidation", last).position(
            who, collateral, "collateral", -seized, "liquidation", last
        )
        h.liquidation(who, draw.randrange(accounts), debt, collateral, repaid, seized)
