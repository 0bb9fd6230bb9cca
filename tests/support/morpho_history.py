"""Histories of one Morpho market at random, near the edge: for comparing ways of replaying them."""

from __future__ import annotations

import random
from dataclasses import replace

from backtest.model import Asset, Market, ParamChange, PositionChange
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.irm import INITIAL_RATE_AT_TARGET
from backtest.protocols.morpho_blue.state import COLLATERAL, LOAN, MorphoState, index_update
from backtest.units import WAD
from tests.sketches.history import History

BORROWERS, LENDER = 20, 20
UNIT = 10**24
MARKET = Market(
    name="made", protocol="morpho-blue", chain_id=1,
    assets=(Asset(LOAN, "0x" + "01" * 20, "USDC", 6), Asset(COLLATERAL, "0x" + "02" * 20, "WETH", 18)),
    accounts=tuple(f"0x{97 * number % 101:040x}" for number in range(22)), base_decimals=8, price_decimals=24,
)  # fmt: skip


class _Written:
    """A history beside the book that it makes."""

    def __init__(self, h: History, state: MorphoState) -> None:
        self.h, self.state = h, state

    def place(self) -> dict[str, int]:
        return {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": self.h.now}

    def param(self, name: str, value: int, asset: int | None = LOAN) -> None:
        self.h.param(name, value, asset=asset)
        MORPHO_BLUE.apply(self.state, ParamChange(**self.place(), name=name, value=value, asset=asset))

    def move(self, account: int, asset: int, side: str, delta: int, amount: int, action: str) -> None:
        self.h.position(account, asset, side, delta, action, amount=amount)
        change = PositionChange(
            **self.place(), account=account, asset=asset, side=side, delta=delta, action=action, action_seq=0,
            amount=amount,
        )  # fmt: skip
        MORPHO_BLUE.apply(self.state, change)

    def accrue(self, next_rate: int) -> None:
        """Interest up to now; the rate of the next period, where no curve says it."""
        rate, end = self.state.totals.rates(self.h.now)
        if end is not None:
            self.param("rate_at_target", end)
        self.param("accrued", rate)
        totals = self.state.totals
        totals.rate = next_rate if end is None else totals.rates(totals.updated)[0]
        update = index_update(totals, self.place())
        self.h.index(LOAN, update.supply_index, update.borrow_index, update.supply_rate, update.borrow_rate)
        MORPHO_BLUE.apply(self.state, update)


def random_history(seed: int, *, steps: int = 120) -> History:
    """Positions of up to a million, sometimes from a few units on, some without collateral; then prices (several a
    block, falling in jumps, sometimes none), accruals by the adaptive curve or another model, market prices, and users'
    actions.
    """
    draw = random.Random(seed)
    h = History(MARKET)
    made = _Written(h, MORPHO_BLUE.open(MARKET))
    made.param("created", 1, None)
    lltv = draw.choice((86, 77, 98))
    made.param("liquidation_threshold", lltv * WAD // 100, COLLATERAL)
    if draw.random() < 0.5:
        made.param("rate_at_target", INITIAL_RATE_AT_TARGET * draw.choice((1, 10)))
    made.param("fee", draw.choice((0, WAD // 10)))
    price = 2_000.0
    h.price(LOAN, UNIT).price(COLLATERAL, int(price * 10**6) * UNIT // 10**6)
    lent = draw.choice((3 * 10**13, 10**14))
    made.move(LENDER, LOAN, "collateral", lent * 10**6, lent, "supply")
    least = draw.choice((0, 4, 5, 6))
    for account in range(BORROWERS):
        worth = int(10 ** draw.uniform(least, 12))
        if draw.random() < 0.95:
            held = worth * 10**12 // 2_000 * 10 // draw.randint(6, 11) * 100 // lltv
            made.move(account, COLLATERAL, "collateral", held, held, "supply")
        owed = worth * 9 // 10 + 1
        made.move(account, LOAN, "debt", owed * 10**6 - draw.choice((0, 1, 999_999)), owed, "borrow")
    block = 10
    for _ in range(steps):
        if draw.random() < 0.6:
            block += draw.choice((1, 1, 2, 500, 9_000))
            h.block(block, block * 12)
        kind, account = draw.random(), draw.randrange(BORROWERS)
        if kind < 0.7:
            price *= draw.choice((0.9, 0.97, 0.99, 0.999, 0.999, 1.001, 1.02, 1.05))
            h.price(COLLATERAL, None if draw.random() < 0.02 else int(price * 10**9) * UNIT // 10**9)
        elif kind < 0.78:
            sold = int(price * draw.choice((0.9, 0.97, 1.0, 1.01)) * 10**6) * UNIT // 10**6
            h.traded(COLLATERAL, None if draw.random() < 0.3 else sold)
        elif kind < 0.88:
            with h.transaction():
                made.accrue(draw.choice((0, 10**9, 3 * 10**9)))
        else:
            with h.transaction():
                made.accrue(draw.choice((0, 10**9, 3 * 10**9)))
                _act(made, draw, account)
    return h


def crowded_history(seed: int, *, borrowers: int = 30) -> History:
    """Positions of few sizes, many of them alike or a unit apart, some without collateral, at times some of a few
    units. In three of thirty blocks the price falls, each time below what many of them carry, and some are worth.
    """
    draw = random.Random(seed)
    names = tuple(f"0x{997 * number % 10_007:040x}" for number in range(borrowers + 1))
    h = History(replace(MARKET, accounts=names))
    made = _Written(h, MORPHO_BLUE.open(h.market))
    made.param("created", 1, None)
    lltv = draw.choice((86, 77, 98))
    made.param("liquidation_threshold", lltv * WAD // 100, COLLATERAL)
    made.param("fee", draw.choice((0, WAD // 10)))
    price = 2_000.0
    h.price(LOAN, UNIT).price(COLLATERAL, int(price * 10**6) * UNIT // 10**6)
    made.move(borrowers, LOAN, "collateral", 10**20, 10**14, "supply")
    sizes = draw.sample((10**3, 10**4, 10**6, 10**9, 10**11), 2) + draw.choice(([], [], [], [3], [20]))
    odd = draw.choice((0, 1, 999_999))
    for account in range(borrowers):
        worth = draw.choice(sizes) + draw.choice((0, 0, 0, 1, 2))
        if draw.random() < 0.97:
            held = worth * 10**12 // 2_000
            made.move(account, COLLATERAL, "collateral", held, held, "supply")
        owed = max(1, worth * (lltv - draw.choice((0, 1, 1, 5, 15))) // 100)
        made.move(account, LOAN, "debt", owed * 10**6 - odd, owed, "borrow")
    block, falls = 9, draw.sample(range(1, 30), 3)
    for step in range(30):
        block += draw.choice((1, 1, 900)) if step else 1
        h.block(block, block * 12)
        price *= draw.choice((0.85, 0.93, 0.97)) if step in falls else 1
        h.price(COLLATERAL, int(price * 10**9) * UNIT // 10**9)
    return h


def _act(made: _Written, draw: random.Random, account: int) -> None:
    totals, position = made.state.totals, made.state.positions.get(account)
    if draw.random() < 0.4:
        amount = int(10 ** draw.uniform(10, 20))
        made.move(account, COLLATERAL, "collateral", amount, amount, "supply")
    elif position is not None and position.borrow_shares and draw.random() < 0.5:
        shares = position.borrow_shares if draw.random() < 0.5 else position.borrow_shares // 2
        made.move(account, LOAN, "debt", -shares, totals.debt_up(shares), "repay")
    else:
        amount = int(10 ** draw.uniform(0, 10)) + 1
        made.move(account, LOAN, "debt", amount * totals.borrow_shares // totals.borrow_assets, amount, "borrow")
