"""Rules as machine code against the same in Python, and the books of four protocols valued at once.

``python -m tests.bench.bench_words`` prints the rows; ``make bench`` collects ``run()``. What is compared is measured
in turns, and the least of each counts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from backtest import units
from backtest.model import AccountId, Asset, AssetId, Clock, IndexUpdate, Market, ParamChange, PositionChange, Prices
from backtest.protocols.aave_v3 import AAVE_V3
from backtest.protocols.compound_v3 import COMPOUND_V3
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.maker import MAKER
from backtest.protocols.morpho_blue import MORPHO_BLUE
from backtest.protocols.morpho_blue.irm import INITIAL_RATE_AT_TARGET
from backtest.units import RAY, WAD
from backtest.words import columns
from tests.protocols.compound_v3.hand import START, USD, WBTC, WETH, at, indexes, opened
from tests.support.aave_books import COL, DEBT, NOW, OTHER, Toy

ACCOUNTS = 100_000
ROWS = 20_000
ROUNDS = 9


def in_turns(*calls: Callable[[], Any], rounds: int = ROUNDS) -> list[float]:
    """Seconds of each, the least of all rounds."""
    least = [float("inf")] * len(calls)
    for _ in range(rounds):
        for place, call in enumerate(calls):
            start = time.perf_counter()
            call()
            least[place] = min(least[place], time.perf_counter() - start)
    return least


def _row(name: str, value: float, unit: str, shape: str, baseline: float | None = None) -> dict[str, Any]:
    ratio = None if baseline is None else baseline / value
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, "shape": shape}


def operations() -> list[dict[str, Any]]:
    """Nanoseconds a multiplication with a division, for numbers of some lengths in bits."""
    rows = []
    draw = random.Random(1)
    for lengths in ((60, 30, 60), (90, 60, 60), (90, 90, 60), (100, 90, 90), (120, 120, 126)):
        numbers = [[draw.getrandbits(n) | 1 << (n - 1) for _ in range(ROWS)] for n in lengths]
        words = [columns.words(column) for column in numbers]

        def one(words: Any = words) -> None:
            columns.over(units.mul_div_down, *words, rows=ROWS)

        def plain(numbers: Any = numbers) -> None:
            [units.mul_div_down(a, b, d) for a, b, d in zip(*numbers, strict=True)]

        one()
        seconds, in_python = in_turns(one, plain)
        shape = f"a * b // d of {lengths} bits, against Python"
        rows.append(_row("words: mul_div", seconds / ROWS * 1e9, "ns", shape, in_python / ROWS * 1e9))
    return rows


def aave(accounts: int) -> tuple[Any, Prices, Clock]:
    """Each account supplies one or two assets and borrows one."""
    toy = Toy(10, decimals=18)
    draw = random.Random(1)
    for asset in (COL, DEBT, OTHER):
        toy.index(asset, RAY * 11 // 10 + 7, RAY * 12 // 10 + 9, RAY // 50, RAY // 20)
    for number in range(accounts):
        worth = draw.randint(10**20, 10**24)
        toy.supply(COL, worth, AccountId(number))
        toy.borrow(DEBT, worth * draw.randint(30, 75) // 100, AccountId(number))
    oracle = dict.fromkeys((COL, DEBT, OTHER), 2_000 * 10**8 + 7)
    return toy.state, Prices(oracle, oracle, oracle), Clock(NOW.block_number, 0, NOW.timestamp + 3_600)


def _market(protocol: str, accounts: int, decimals: tuple[int, int], base: int, price: int | None) -> Market:
    assets = tuple(Asset(AssetId(i), f"0x{i:040x}", f"A{i}", each) for i, each in enumerate(decimals))
    names = tuple(f"0x{i:040x}" for i in range(accounts + 1))
    return Market(
        name="bench", protocol=protocol, chain_id=1, assets=assets, accounts=names, base_decimals=base,
        price_decimals=price,
    )  # fmt: skip


def two_assets(protocol: LendingProtocol[Any], accounts: int) -> tuple[Any, Prices, Clock]:
    """A Morpho market or a Maker ilk in which every account holds collateral and owes."""
    maker = protocol is MAKER
    shape = ((18, 18), 18, None) if maker else ((6, 18), 8, 24)
    state = protocol.open(_market(protocol.name, accounts, *shape))
    place = {"seq": 0, "block_number": 1, "log_index": 0, "timestamp": 1_000}
    settings = [("liquidation_ratio", 13 * RAY // 10)]
    if not maker:
        settings = [
            ("created", 1),
            ("liquidation_threshold", 86 * WAD // 100),
            ("rate_at_target", INITIAL_RATE_AT_TARGET),
        ]
    for name, value in settings:
        protocol.apply(state, ParamChange(**place, name=name, value=value, asset=AssetId(1)))
    rates = {"supply_index": RAY, "borrow_index": RAY * 11 // 10 + 7, "supply_rate": 0, "borrow_rate": 0}
    protocol.apply(state, IndexUpdate(**place, asset=AssetId(1 if maker else 0), **rates))
    draw = random.Random(1)
    held, owed = (AssetId(0), AssetId(1)) if maker else (AssetId(1), AssetId(0))

    def move(account: AccountId, asset: AssetId, side: Any, delta: int, amount: int) -> None:
        action = "supply" if side == "collateral" else "borrow"
        change = PositionChange(
            **place, account=account, asset=asset, side=side, delta=delta, action=action, action_seq=0, amount=amount
        )
        protocol.apply(state, change)

    for number in range(accounts):
        account, worth, share = AccountId(number), draw.randint(10**17, 10**22), draw.randint(30, 60)
        move(account, held, "collateral", worth, worth)
        if maker:
            move(account, owed, "debt", worth * 20 * share, worth * 20 * share)
        else:
            dollars = worth * 20 * share // 10**12
            move(account, owed, "debt", dollars * 10**6, dollars)
    if not maker:
        move(AccountId(accounts), owed, "collateral", 10**30, 10**24)
    oracle = {held: 2_000 * (WAD if maker else 10**24), owed: WAD if maker else 10**24}
    return state, Prices(oracle, oracle, oracle), Clock(9, 0, 1_000 + 3_600)


def comet(accounts: int) -> tuple[Any, Prices, Clock]:
    """A Comet in which every account holds both collaterals and owes."""
    state, draw = opened(indexes(10**15 + 7, 11 * 10**14 + 9, (10**9, 2 * 10**9))), random.Random(1)
    for number in range(accounts):
        account, worth = AccountId(number), draw.randint(10**17, 10**22)
        state.hold(account, WETH, worth)
        state.hold(account, WBTC, worth // 10**10)
        state.put(account, -(worth * draw.randint(30, 60) * 20 // 10**12))
    return state, at(2_000 * USD), Clock(20, 0, START + 3_600)


def books(accounts: int) -> list[dict[str, Any]]:
    """Milliseconds for the views and for the exposures of a whole book, at other prices each time."""
    made = {
        "Aave": (AAVE_V3, *aave(accounts)),
        "Morpho": (MORPHO_BLUE, *two_assets(MORPHO_BLUE, accounts)),
        "Maker": (MAKER, *two_assets(MAKER, accounts)),
        "Comet": (COMPOUND_V3, *comet(accounts)),
    }
    ids = [AccountId(number) for number in range(accounts)]
    step = 0

    def looked(protocol: Any, state: Any, prices: Prices, now: Clock) -> Callable[[], Any]:
        def views() -> Any:
            nonlocal step
            step += 1
            oracle = {asset: price + step for asset, price in prices.oracle.items()}
            return protocol.views(state, Prices(oracle, oracle, oracle), now)

        return views

    calls = {name: looked(*book) for name, book in made.items()}
    for name, call in calls.items():
        if call().rest:
            raise AssertionError(f"{name}: left to the plain rule")
    seconds = dict(zip(calls, in_turns(*calls.values()), strict=True))
    asked = [lambda b=book: b[0].exposures(b[1], ids, b[3]) for book in made.values()]
    screened = dict(zip(made, in_turns(*asked), strict=True))
    rows = []
    for name, (protocol, state, prices, now) in made.items():
        few = [AccountId(number) for number in range(0, accounts, max(1, accounts // 2_000))]
        (plain,) = in_turns(
            lambda p=protocol, s=state, q=prices, t=now, f=few: [p.view(s, a, q, t) for a in f], rounds=3
        )
        (copied,) = in_turns(lambda s=state: deepcopy(s), rounds=3)
        shape = (
            f"{accounts} accounts; one by one {plain / len(few) * accounts * 1e3:,.0f} ms; a copy of the book"
            f" {copied * 1e3:.1f} ms; against Aave"
        )
        rows.append(_row(f"views of a book, {name}", seconds[name] * 1e3, "ms", shape, seconds["Aave"] * 1e3))
        rows.append(_row(f"exposures, {name}", screened[name] * 1e3, "ms", shape, screened["Aave"] * 1e3))
    return rows


def run(accounts: int = ACCOUNTS) -> list[dict[str, Any]]:
    """See the module."""
    return operations() + books(accounts)


if __name__ == "__main__":
    for row in run():
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['name']:34} {row['value']:>10,.1f} {row['unit']:4} {ratio:>6} {row['shape']}")
