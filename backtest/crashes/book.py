"""A model book along a price path that happened: an illustration. The accounts are no one's; prices are those of the
path; the replay is the engine's, exact.

The book is one of Maker vaults, the protocol whose state is one debt and one collateral, and liquidations settle at a
fixed spread in the place of its auctions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from backtest.crashes.catalogue import ModelBook, PricePath
from backtest.markets import MarketConfig
from backtest.model import Asset, AssetId, Market
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.ledger import Ledger
from backtest.protocols.maker.params import DOG_2_0
from backtest.protocols.vaults.state import COLLATERAL
from backtest.replay.engine import replay
from backtest.replay.timeline import Timeline
from backtest.scenario import Competitive, FixedSpread, Scenario
from backtest.tables import CANONICAL
from backtest.units import BPS, RAY, WAD

_BLOCK = 12


@dataclass(frozen=True, slots=True)
class Illustration:
    """What came of the book: counts, and wads of the debt's unit."""

    accounts: int
    liquidated: int
    liquidations: int
    debt: int
    repaid: int
    seized: int
    bad_debt: int


def illustrated(path: PricePath, book: ModelBook) -> Illustration:
    """Replay the book along the path: whoever profits liquidates at once, at no cost; the oracle says each point's
    price from its time on; nobody else does anything.
    """
    market, timeline = market_of(path, book)
    spread = FixedSpread(bonus=book.bonus, close_factor=book.close_factor)
    scenario = Scenario(name="illustration", liquidators=Competitive(), mechanism=spread, from_block=2)
    made = replay(MAKER, market, timeline, scenario)
    end, accounts = made.horizons[0], {step.fill.order.account for step in made.liquidations}
    return Illustration(
        accounts=book.accounts,
        liquidated=len(accounts),
        liquidations=end.liquidations,
        debt=book.debt * WAD,
        repaid=end.repaid_base,
        seized=end.seized_base,
        bad_debt=end.realised_bad_debt_base + end.open_bad_debt_base,
    )


def vaults_of(path: PricePath, book: ModelBook) -> list[tuple[int, int]]:
    """(collateral, debt) of each account, wad: equal debts that sum to the book's but for less than a unit each; health
    from the lower bound to the upper one in equal steps.
    """
    price, (low, high) = path.prices()[0], book.healths
    debt = book.debt * WAD // book.accounts
    found = []
    for number in range(book.accounts):
        health = low + (high - low) * number // max(book.accounts - 1, 1)
        found.append((-(-debt * WAD * health // (price * book.threshold)), debt))
    return found


def market_of(path: PricePath, book: ModelBook) -> tuple[Market, Timeline]:
    """The market and its history: the book at the path's first time, then its prices."""
    times, prices = path.times(), path.prices()
    config = MarketConfig(
        name="illustration", protocol=MAKER.name, chain_id=1, start_block=1, contracts={}, base_decimals=18
    )
    ledger = Ledger(config, ("collateral", path.collateral), ("debt", path.debt))
    seq = iter(range(10**9))

    def place(timestamp: int) -> Mapping[str, Any]:
        block = 1 + (timestamp - times[0]) // _BLOCK
        return {"seq": next(seq), "block_number": block, "log_index": 0, "timestamp": timestamp}

    ledger.open(place(times[0]))
    ratio = -(-RAY * BPS // book.threshold)
    for name, value in (("liquidation_system", DOG_2_0), ("liquidation_ratio", ratio), ("liquidation_penalty", WAD)):
        ledger.param(place(times[0]), name, value)
    ledger.price(place(times[0]), COLLATERAL, prices[0], source=None, method="feed", exact=True)
    for number, (held, owed) in enumerate(vaults_of(path, book)):
        ledger.frob(place(times[0]), ledger.account(f"account-{number + 1}"), held, owed, "borrow", paid=owed)
    for time, price in zip(times[1:], prices[1:], strict=True):
        ledger.price(place(time), COLLATERAL, price, source=None, method="feed", exact=True)
    tables = dict(ledger.tables())
    ends = [times[0], times[-1] + _BLOCK]
    blocks = [1 + (end - times[0]) // _BLOCK for end in ends]
    tables["blocks"] = pa.table({"block_number": blocks, "timestamp": ends})
    assets = (
        Asset(AssetId(0), tables["assets"]["asset"][0].as_py(), path.collateral, 18),
        Asset(AssetId(1), tables["assets"]["asset"][1].as_py(), path.debt, 18),
    )
    market = Market(
        name=config.name,
        protocol=MAKER.name,
        chain_id=1,
        assets=assets,
        accounts=tuple(tables["accounts"]["account"].to_pylist()),
        base_decimals=18,
    )
    return market, Timeline.of({name: table for name, table in tables.items() if name in CANONICAL or name == "blocks"})
