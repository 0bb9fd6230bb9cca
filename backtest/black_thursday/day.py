"""The day as a market: prices, rules, a book of vaults and keepers. Sources of the figures are named where they
stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from statistics import NormalDist
from typing import Any

import pyarrow as pa

from backtest.auctions.dutch import STAIRSTEP
from backtest.errors import UserError
from backtest.markets import MarketConfig
from backtest.model import Asset, AssetId, Market
from backtest.prices.proxy import proxy_steps
from backtest.protocols.maker import MAKER
from backtest.protocols.maker.ledger import Ledger
from backtest.protocols.maker.params import CAT_1_0, DOG_2_0
from backtest.protocols.vaults.state import COLLATERAL
from backtest.replay.competition.draws import Draws
from backtest.replay.timeline import Timeline
from backtest.scenario import Searcher
from backtest.tables import CANONICAL
from backtest.units import BPS, RAY, WAD

OUTCOME: Mapping[str, float] = {
    "zero_bid_share": 0.36,
    "zero_bid_collateral_usd": 8_320_000,
    "shortfall_dai": 5_670_000,
}
"""What happened on 12 and 13 March 2020 (whiterabbit, 14 March 2020): share of liquidations won for nothing, their
collateral, and the hole. Printed for comparison; nothing here is made to meet it.
"""

Gwei = 10**9
BLOCK_SECONDS = 13

RULES_1_0: Mapping[str, int] = {
    "liquidation_system": CAT_1_0,
    "liquidation_ratio": 150 * RAY // 100,
    "liquidation_penalty": 113 * WAD // 100,
    "dust": 20 * WAD,
    "lump": 50 * WAD,
    "beg": 103 * WAD // 100,
    "ttl": 600,
    "tau": 3 * 86_400,
}
"""ETH-A on 12 March 2020. lump, ttl and tau: makerdao/spells-mainnet ``archive/2020-03-12-DssSpell``, whose text and
test say what it replaced (50 ETH, 10 minutes, 3 days; by 500 ETH, 6 hours, 6 hours). Ratio, penalty, dust and beg: the
values before of ``archive/2020-05-01-DssSpell/DssSpell.t.sol``, which no spell since November 2019 had changed.
"""

RULES_2_0: Mapping[str, int] = {
    "liquidation_system": DOG_2_0,
    "liquidation_ratio": 150 * RAY // 100,
    "liquidation_penalty": 113 * WAD // 100,
    "dust": 20 * WAD,
    "hole": 22_000_000 * WAD,
    "buf": 130 * RAY // 100,
    "tail": 140 * 60,
    "cusp": 40 * RAY // 100,
    "chip": WAD // 1_000,
    "tip": 0,
    "calc": STAIRSTEP,
    "cut": 99 * RAY // 100,
    "step": 90,
}
"""ETH-A as Liquidations 2.0 began there: makerdao/spells-mainnet ``archive/2021-04-30-DssSpell``; ratio and dust those
of 2020.
"""


@dataclass(frozen=True, slots=True)
class Paths:
    """The market price (wad) and the gas price (wei) from each time (seconds) on; both begin at ``start`` and speak
    until ``end``.
    """

    times: Sequence[int]
    prices: Sequence[int]
    gas_times: Sequence[int]
    gas: Sequence[int]
    end: int

    def __post_init__(self) -> None:
        for what, times, values in (("prices", self.times, self.prices), ("gas prices", self.gas_times, self.gas)):
            if not times or list(times) != sorted(set(times)) or len(times) != len(values):
                raise UserError(
                    f"{what}: {len(times)} times, which are not in order or not distinct",
                    "give one row for each time, in order of time",
                )
            if any(value <= 0 for value in values):
                raise UserError(f"{what}: a value that is not above zero", "leave out rows without a value")
        if self.end <= max(self.times[-1], self.gas_times[-1]):
            raise ValueError("the end is not after the last row")

    @property
    def start(self) -> int:
        """The first time of which both are known."""
        return max(self.times[0], self.gas_times[0])

    def calm_gas(self, hours: int = 6) -> int:
        """Wei: the median gas price of the first hours, before the fall."""
        first = sorted(
            gas for time, gas in zip(self.gas_times, self.gas, strict=True) if time < self.start + hours * 3_600
        )
        return first[len(first) // 2]


@dataclass(frozen=True, slots=True)
class Vaults:
    """A book of vaults, as a distribution: log-normal debts that sum to ``debt`` (DAI), and collateral ratios that
    exceed the liquidation ratio by a log-normal share of it. Assumptions: the vaults of that day are not at hand.
    """

    number: int = 800
    debt: int = 100_000_000
    sample: int = 8
    """One in so many is replayed, and what comes of it counts so many times."""
    size_sigma: float = 1.5
    ratio_median: int = 30_000
    """Basis points of the debt: the ratio that half of the debts' vaults exceed when the day begins."""
    ratio_sigma: float = 0.6

    def __post_init__(self) -> None:
        if self.number < 1 or self.debt < 100 * self.number:
            raise UserError(
                f"{self.number} vaults with {self.debt} DAI together", "give at least one vault, and 100 DAI for each"
            )
        if not 1 <= self.sample <= self.number:
            raise UserError(f"one in {self.sample} of {self.number} vaults", "give a number from 1 to that of vaults")
        if self.ratio_median <= 15_000:
            raise UserError(
                f"a median ratio of {self.ratio_median / 100:g} %", "give one above the liquidation ratio of 150 %"
            )

    def drawn(self, price: int, draws: Draws) -> list[tuple[int, int]]:
        """(ink, art), wad, of each vault that is replayed, at the day's first price (wad). Whole DAI, whole basis
        points; at least 100 DAI.
        """
        sizes = [exp(self.size_sigma * _normal(draws, "vault size", i)) for i in range(self.number // self.sample)]
        scale = self.debt / self.sample / sum(sizes)
        found = []
        for i, size in enumerate(sizes):
            debt = max(100, round(size * scale))
            above = (self.ratio_median - 15_000) * exp(self.ratio_sigma * _normal(draws, "vault ratio", i))
            ratio = 15_000 + max(1, round(above))
            found.append((-(-debt * WAD * WAD * ratio // (price * BPS)), debt * WAD))
        return found


@dataclass(frozen=True, slots=True)
class Keepers:
    """Keepers that differ in the highest gas price at which they act: log-normal with this median (gwei). ``stuck``:
    seconds for which one is out
    once gas passed its cap while it had something to do. ``capital``: its own DAI, None: as much as it needs."""

    number: int
    cap_median: int
    cap_sigma: float = 0.75
    stuck: int = 0
    capital: int | None = None

    def drawn(self, draws: Draws, sample: int = 1) -> tuple[Searcher, ...]:
        """Each keeper, with a ``sample``-th of its capital; fewer keepers are the first of more, and a higher median
        raises each one's cap alike.
        """
        return tuple(
            Searcher(
                name=f"keeper-{i + 1}",
                gas_cap=round(self.cap_median * exp(self.cap_sigma * _normal(draws, "gas cap", i)) * Gwei),
                stuck=self.stuck,
                capital=None if self.capital is None else self.capital * WAD // sample,
            )
            for i in range(self.number)
        )


def _normal(draws: Draws, what: str, number: int) -> float:
    """Standard normal, from the middle of one of 2^53 equal cells."""
    return NormalDist().inv_cdf(((draws.word(what, number) >> 11) + 0.5) / 2**53)


def market_of(paths: Paths, vaults: Sequence[tuple[int, int]], rules: Mapping[str, int]) -> tuple[Market, Timeline]:
    """The market and its history: the book at ``start``, then the market's prices, at which bidders value lots, and the
    oracle's, which decide what
    is unsafe: the market's, cut to full hours and an hour old (the OSM).

    Until the first hour is over the oracle says the day's first price. Where both move at once, bidders know the
    market's before the oracle's.
    """
    config = MarketConfig(
        name="black-thursday", protocol=MAKER.name, chain_id=1, start_block=1, contracts={}, base_decimals=18
    )
    ledger = Ledger(
        config,
        ("0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", "ETH"),
        ("0x6b175474e89094c44da98b954eedeac495271d0f", "DAI"),
    )
    seq = iter(range(10**9))

    def place(timestamp: int) -> Mapping[str, Any]:
        return {
            "seq": next(seq),
            "block_number": 1 + (timestamp - paths.start) // BLOCK_SECONDS,
            "log_index": 0,
            "timestamp": timestamp,
        }

    ledger.open(place(paths.start))
    for name, value in rules.items():
        ledger.param(place(paths.start), name, value)
    ledger.price(place(paths.start), COLLATERAL, paths.prices[0], source=None, method="proxy", exact=False)
    for number, (ink, art) in enumerate(vaults):
        account = ledger.account(f"vault-{number + 1}")
        ledger.frob(place(paths.start), account, ink, art, "borrow", paid=art)
    oracle = {
        step.timestamp: step.price
        for step in proxy_steps(paths.times, paths.prices, delay=3_600)
        if paths.start < step.timestamp < paths.end
    }
    traded = {
        max(time, paths.start): price for time, price in zip(paths.times, paths.prices, strict=True)
    }  # at the start the last one before it
    market_prices = []
    for time in sorted(oracle.keys() | traded.keys()):
        if time in traded:
            market_prices.append({**place(time), "asset_id": COLLATERAL, "price": traded[time], "source": "market"})
        if time in oracle:
            ledger.price(place(time), COLLATERAL, oracle[time], source=None, method="proxy", exact=False)
    tables = dict(ledger.tables())
    schema = CANONICAL["market_prices"]
    tables["market_prices"] = pa.Table.from_pylist(
        market_prices, pa.schema([schema.field(name) for name in market_prices[0]])
    )
    ends = [paths.start, paths.end]
    tables["blocks"] = pa.table(
        {"block_number": [1 + (end - paths.start) // BLOCK_SECONDS for end in ends], "timestamp": ends}
    )
    assets = (
        Asset(AssetId(0), tables["assets"]["asset"][0].as_py(), "ETH", 18),
        Asset(AssetId(1), tables["assets"]["asset"][1].as_py(), "DAI", 18),
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
