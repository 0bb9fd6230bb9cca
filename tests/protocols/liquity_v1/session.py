"""Random calls on a ``System`` along a price that falls and recovers; its logs folded, and as a timeline."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pyarrow as pa

from backtest.markets import MarketConfig
from backtest.model import Asset, AssetId, Market
from backtest.protocols.liquity_v1.events import ETHER
from backtest.protocols.liquity_v1.fold import fold
from backtest.replay.timeline import Timeline
from backtest.tables import CANONICAL
from tests.protocols.liquity_v1.system import AT, E18, Raw, Reverted, System, who

CONFIG = MarketConfig(
    name="hand", protocol="liquity-v1", chain_id=1, start_block=1, base_decimals=18,
    contracts={"trove_manager": "0x" + AT["manager"].hex()},
)  # fmt: skip
ASSETS = (Asset(AssetId(0), ETHER, "ETH", 18), Asset(AssetId(1), "0x" + AT["lusd"].hex(), "LUSD", 18))
CALLER = who(99)


def played(seed: int, calls: int = 500, users: int = 40) -> System:
    """Calls that revert leave nothing."""
    draw, system = random.Random(seed), System()
    system.move(2_000 * E18)
    for number in range(users):
        system.open(who(number), draw.randrange(2 * E18, 5 * E18), 2_000 * E18 + draw.randrange(500 * E18))
    for _ in range(calls):
        user = who(draw.randrange(users))
        try:
            _call(draw, system, user)
        except Reverted:
            continue
    return system


def _call(draw: random.Random, system: System, user: bytes) -> None:
    kind = draw.randrange(20)
    if kind < 4:
        fall = draw.choice((75, 85, 92, 96, 100, 103, 106, 111, 130))
        system.move(min(max(system.price * fall // 100 + draw.randrange(9), 500 * E18), 3_000 * E18))
    elif kind < 9:
        amount = draw.randrange(1_800 * E18, 9_000 * E18)
        system.open(user, (amount + 200 * E18) * draw.randrange(115, 260) // 100 * E18 // system.price, amount)
    elif kind < 11:
        system.adjust(
            user,
            draw.choice((0, -1, 1, 2)) * draw.randrange(3 * E18),
            draw.choice((0, -1, 1)) * draw.randrange(3_000 * E18),
        )
    elif kind < 12:
        system.close(user)
    elif kind < 15:
        system.provide(user, draw.choice((-1, 1, 1)) * draw.randrange(1, draw.choice((9, 20_000 * E18))))
    elif kind < 16:
        system.take_gain(user)
    elif kind < 17:
        system.redeem(draw.randrange(1, 6_000 * E18))
    else:
        low = sorted(system.troves, key=system.icr)[: draw.randrange(1, 6)]
        system.liquidate(low, CALLER)


def folded(system: System) -> dict[str, list[dict[str, Any]]]:
    """Canonical rows by table."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, table in fold(CONFIG, Raw(system)):
        found[name] += table.to_pylist()
    return found


def market(rows: dict[str, list[dict[str, Any]]]) -> Market:
    """The market that these rows are of."""
    names = tuple(row["account"] for row in sorted(rows["accounts"], key=lambda row: row["account_id"]))
    return Market(name="hand", protocol="liquity-v1", chain_id=1, assets=ASSETS, accounts=names, base_decimals=18)


def lake_rows(system: System, rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """All canonical rows: with the spine, blocks, and ether's prices where they moved; an LUSD is a dollar."""
    spine = Raw(system).spine
    place = ("seq", "block_number", "log_index", "timestamp")
    priced = [(number, 0, price) for number, price in system.prices] + [(0, 1, E18)]
    prices = [
        {"market": "hand", **{name: spine[number][name] for name in place}, "asset_id": asset, "price": price,
         "method": "feed", "exact": True}
        for number, asset, price in sorted(priced)
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
