"""Random batches on a ``System`` along prices that fall and recover; its logs folded, and as a timeline."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from backtest.markets import MarketConfig
from backtest.model import Asset, AssetId, Market
from backtest.protocols.euler_v2.fold import fold
from backtest.replay.timeline import Timeline
from backtest.tables import CANONICAL
from tests.protocols.euler_v2.system import DECIMALS, E18, EVC, FACTORY, TOKENS, VAULTS, Raw, System, who

CONFIG = MarketConfig(
    name="hand", protocol="euler-v2", chain_id=1, start_block=1, base_decimals=18,
    contracts={"evc": "0x" + EVC.hex(), "factory": "0x" + FACTORY.hex()}, parameters=dict(Raw.parameters),
)  # fmt: skip
ASSETS = (
    Asset(AssetId(0), "0x" + TOKENS["USDC"].hex(), "USDC", 6),
    *(Asset(AssetId(n), "0x" + VAULTS[v].hex(), f"e{v}-1", DECIMALS[v]) for n, v in ((1, "WETH"), (2, "WBTC"))),
)
NAMES = ("USDC", "WETH", "WBTC")
KEEPER = who(99)


def played(seed: int, calls: int = 400, users: int = 24) -> System:
    """Batches that revert leave nothing."""
    draw, system = random.Random(seed), System()
    lend = system.vaults["USDC"]
    for number in range(4):
        system.batch(lambda n=number: lend.deposit(who(100 + n), draw.randrange(5 * 10**10, 2 * 10**11)))  # type: ignore[misc]
    for name in ("WETH", "WBTC"):
        vault = system.vaults[name]
        system.batch(lambda v=vault: v.deposit(KEEPER, 10_000 * 10 ** DECIMALS[v.name]))  # type: ignore[misc]
        system.batch(lambda n=name: system.control(who(98), n), lambda n=name: system.enable(who(98), "USDC"))  # type: ignore[misc]
    system.batch(lambda: system.control(KEEPER), *(lambda n=n: system.enable(KEEPER, n) for n in ("WETH", "WBTC")))  # type: ignore[misc]
    system.next()
    for number in range(users):
        account = who(number // 2, number % 2)
        name = draw.choice(("WETH", "WBTC"))
        amount = draw.randrange(1, 40) * 10 ** DECIMALS[name] // 4
        worth = amount * system.price[name] // 10 ** DECIMALS[name] // 10**12
        system.batch(*_levers(system, account, name, amount, worth * draw.randrange(30, 84) // 100))
        system.next(draw.randrange(1, 90))
    for _ in range(calls):
        _call(draw, system, who(draw.randrange(users) // 2, draw.randrange(2)))
    return system


def _levers(system: System, account: bytes, name: str, amount: int, owed: int) -> list[Callable[[], None]]:
    """A loan before its collateral: only the end of a batch is checked."""
    return [
        lambda: system.control(account),
        lambda: system.vaults["USDC"].borrow(account, owed),
        lambda: None if name in system.enabled[account] else system.enable(account, name),
        lambda: system.vaults[name].deposit(account, amount),
    ]


def _call(draw: random.Random, system: System, user: bytes) -> None:
    lend, name = system.vaults["USDC"], draw.choice(("WETH", "WBTC"))
    vault, unit = system.vaults[name], 10 ** DECIMALS[name]
    kind = draw.randrange(24)
    system.next(draw.choice((0, 1, 12, 600, 40_000))) if kind > 4 else None
    if kind < 3:
        fall = draw.choice((88, 93, 96, 98, 100, 102, 104, 112))
        low, high = (900, 3_000) if name == "WETH" else (14_000, 45_000)
        new = min(max(system.price[name] * fall // 100 + draw.randrange(9), low * E18), high * E18)
        system.move(name, new // 10**10 * 10**10)
    elif kind < 6:
        amount = draw.randrange(1, 30 * unit)
        worth = amount * system.price[name] // unit // 10**12
        system.batch(*_levers(system, user, name, amount, worth * draw.randrange(20, 90) // 100 + 1))
    elif kind < 8:
        system.batch(lambda: lend.repay(user, draw.choice((None, draw.randrange(1, 10**10)))))
    elif kind < 9:
        system.batch(lambda: vault.redeem(user, draw.randrange(1, vault.shares[user] + 2)))
    elif kind < 10:
        system.batch(lambda: lend.borrow(user, draw.randrange(1, 10**10)))
    elif kind < 11:
        system.batch(
            lambda: lend.deposit(user, draw.randrange(1, 10**10)),
            lambda: lend.repay_with_shares(user, draw.randrange(1, 10**10)),
        )
    elif kind < 12:
        system.batch(lambda: vault.transfer(user, who(draw.randrange(12)), draw.randrange(1, 9 * unit)))
    elif kind < 13:
        other = user[:19] + bytes([user[19] ^ 1])
        system.batch(
            lambda: system.control(other),
            lambda: None if name in system.enabled[other] else system.enable(other, name),
            lambda: lend.pull_debt(other, user, draw.choice((None, draw.randrange(1, 10**9)))),
        )
    elif kind < 14:
        system.batch(lambda: lend.withdraw(who(100), draw.randrange(1, 10**9)), lambda: lend.deposit(who(101), 5))
    elif kind < 15:
        on = name not in system.enabled[user]
        system.batch(lambda: system.enable(user, name, on))
    elif kind < 16:
        _govern(draw, system)
    elif kind < 17:
        amount = draw.randrange(1, 10**9)
        borrower = who(98)
        system.batch(
            lambda: system.vaults["USDC"].deposit(borrower, 2 * 10**9), lambda: vault.deposit(who(102), unit // 7)
        )
        vault.ltv.setdefault("USDC", (9_000, 9_000, 0, 0, 0))
        system.batch(lambda: system.control(borrower, name), lambda: vault.borrow(borrower, amount % unit + 1))
    else:
        bad = [account for account in lend.owed if _violates(system, account)]
        if bad:
            account = draw.choice(sorted(bad))
            desired = draw.choice((None, None, draw.randrange(1, 10**9)))
            system.batch(
                lambda: lend.liquidate(KEEPER, account, draw.choice((name, name, "WETH")), desired),
                lambda: lend.repay(KEEPER, None),
            )


def _violates(system: System, account: bytes) -> bool:
    from tests.protocols.euler_v2.system import ahead

    adjusted, liability = ahead(system.vaults["USDC"]).liquidity(account, True)
    return adjusted <= liability


def _govern(draw: random.Random, system: System) -> None:
    lend, kind = system.vaults["USDC"], draw.randrange(5)
    if kind == 0:
        system.batch(lambda: lend.set_ltv("WBTC", 7_000, 7_500, draw.randrange(1, 200_000)))
    elif kind == 1:
        system.batch(lambda: lend.set_ltv("WBTC", 7_800, 8_000))
    elif kind == 2:
        fee = draw.choice((1_000, 2_000))
        system.batch(lambda: draw.choice((lend, system.vaults["WETH"])).set_fee(fee))
    elif kind == 3:
        system.batch(lambda: lend.convert_fees(who(103), who(104)))
    else:
        system.batch(lambda: lend.touch())


def folded(system: System) -> dict[str, list[dict[str, Any]]]:
    """Canonical rows by table."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(CONFIG, Raw(system)):
        found[name] += table.to_pylist()
    return found


def market(rows: dict[str, list[dict[str, Any]]]) -> Market:
    """The market that these rows are of."""
    names = tuple(row["account"] for row in sorted(rows["accounts"], key=lambda row: row["account_id"]))
    return Market(name="hand", protocol="euler-v2", chain_id=1, assets=ASSETS, accounts=names, base_decimals=18)


def lake_rows(system: System, rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """All canonical rows: with the spine, blocks, and prices where they moved."""
    spine = Raw(system).spine
    place = ("seq", "block_number", "log_index", "timestamp")
    prices = [
        {"market": "hand", **{name: spine[number][name] for name in place}, "asset_id": NAMES.index(name),
         "price": price, "method": "feed", "exact": True}
        for number, name, price in system.prices
    ]  # fmt: skip
    events = [{**{n: key[n] for n in (*place, "transaction_index")}, "market": "hand", "event": "log"} for key in spine]
    times = {key["block_number"]: key["timestamp"] for key in spine}
    blocks = [{"market": "hand", "block_number": block, "timestamp": time} for block, time in times.items()]
    return {**rows, "prices": prices, "events": events, "blocks": blocks}


def timeline(system: System, rows: dict[str, list[dict[str, Any]]]) -> Timeline:
    """The history as a replay takes it."""
    found = lake_rows(system, rows)
    names = [name for name in found if "seq" in CANONICAL[name].names]
    return Timeline.of({name: pa.Table.from_pylist(found[name], CANONICAL[name]) for name in names})
