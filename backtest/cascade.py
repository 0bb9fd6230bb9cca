"""The cascade map of a market at one moment: what falls of prices would make liquidators sell, what those sales would
do to prices, and where that stops.

The book is the exact one, liquidated by the protocol's own rules; how prices answer is what the scenario says
(``[impact]``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from msgspec.structs import replace

from backtest.errors import ScenarioError
from backtest.lake import Lake
from backtest.model import AssetId
from backtest.protocols.book import Book
from backtest.protocols.registry import protocol_named
from backtest.replay.response import PriceResponse
from backtest.replay.response.cascade_map import (
    SCALE,
    FixedPoint,
    PriceLevel,
    SoldAt,
    critical_depth,
    depth_within,
    fixed_point,
    levels_of,
    rupture,
)
from backtest.replay.response.curves import PoolCurve
from backtest.replay.response.selling import TokenMarket
from backtest.replay.what_if.frictionless import liquidated_at_once
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import book_at, changed, standings
from backtest.results import load_material
from backtest.scenario import Scenario
from backtest.scenario.settled import settled
from backtest.units import RAY

SHOCKS = (500, 1_000, 2_000, 3_000, 4_000, 5_000)
"""Basis points."""
DEPTH_AT = 200
"""The fall at which depth is stated, basis points."""


@dataclass(frozen=True, slots=True)
class AssetCascade:
    """One asset. ``critical``: depth at which its map ruptures nowhere, as a part of the stated one; None: none does.
    ``depth``: what can be sold until the price is 2 % lower, whole tokens. ``with_it``: whose prices fall with it.
    """

    symbol: str
    price: float
    said: str
    levels: tuple[PriceLevel, ...]
    rupture: PriceLevel | None
    points: tuple[FixedPoint, ...]
    critical: float | None
    depth: float
    unit: int
    with_it: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cascades:
    """The answer. ``block`` and ``timestamp``: the moment; ``debt_base`` of the whole book."""

    market: str
    scenario: str
    block: int
    timestamp: int
    base_decimals: int
    base_currency: str
    accounts: int
    debt_base: int
    assets: tuple[AssetCascade, ...]

    def rows(self) -> Mapping[str, Any]:
        """As plain values."""
        return asdict(self)


def cascades(
    lake: Lake, market: str, scenario: Scenario, *, block: int | None = None, falls: Sequence[int] | None = None
) -> Cascades:
    """The cascade map of each asset whose price answers.

    Args:
        block: the moment is the end of this block; None: the last one of the history.
        falls: levels of the map, basis points from the smallest; every per cent up to 60 by default.

    Raises:
        UserError: the market has no current tables; the scenario names no asset whose price answers, or one that the
            market does not have.
    """
    if not scenario.impact.assets:
        raise ScenarioError(
            "no price answers to sales", "give --impact ASSET=constant-product:RESERVE, or a scenario with [impact]"
        )
    material = load_material(lake, market)
    scenario = settled(scenario, material.market.name_of)
    timeline, protocol = material.timeline(scenario.oracle_delay), protocol_named(material.config.protocol)
    at = timeline.last_known_block(block)
    book = book_at(protocol, material.market, timeline, at, ended=True)
    if scenario.overrides:
        book = changed(book, timeline, scenario.overrides)
    response = PriceResponse(replace(scenario.impact, netting="none"), [material.market], ())
    for pool in material.market.pools:
        found = response.market_of(pool.prices)
        if found is not None and isinstance(found.curve, PoolCurve) and pool.id in book.pools:
            found.curve.pool = book.pools[pool.id].copy()
    standing = list(standings(views_of(book)))
    return Cascades(
        market=market,
        scenario=scenario.name,
        block=at,
        timestamp=book.now.timestamp,
        base_decimals=material.config.base_decimals,
        base_currency=material.config.base_currency,
        accounts=sum(one.debt_base > 0 for one in standing),
        debt_base=sum(one.debt_base for one in standing),
        assets=tuple(cascades_of(book, response, falls or range(0, 6_100, 100))),
    )


def cascades_of(book: Book[Any], response: PriceResponse, falls: Sequence[int]) -> list[AssetCascade]:
    """Of each asset whose price answers and is not sold as another; ``falls`` as in ``cascades``. The book stays."""
    found = []
    for asset in book.market.assets:
        own = response.market_of(asset.asset)
        price = book.oracle.get(asset.id)
        if own is None or price is None or own.into is not None:
            continue
        others = {
            each.id: market
            for each in book.market.assets
            if (market := response.market_of(each.asset)) is not None and _ends_in(market, own)
        }
        sold_at = sold_at_of(book, asset.id, [asset.id, *others])
        levels = levels_of(sold_at, own.curve, falls)
        critical = critical_depth(levels, own.curve)
        found.append(
            AssetCascade(
                symbol=book.market.label(asset.id),
                price=price / _per_unit(book),
                said=own.terms.said,
                levels=levels,
                rupture=rupture(levels),
                points=tuple(fixed_point(sold_at, own.curve, shock) for shock in SHOCKS),
                critical=None if critical is None else critical / SCALE,
                depth=depth_within(own.curve, DEPTH_AT) / own.unit,
                unit=own.unit,
                with_it=tuple(book.market.label(each) for each in others),
            )
        )
    return found


def _per_unit(book: Book[Any]) -> int:
    """What makes a price units of the base currency."""
    market = book.market
    decimals = market.base_decimals if market.price_decimals is None else market.price_decimals
    return int(10**decimals)


def _ends_in(market: TokenMarket, own: TokenMarket) -> bool:
    here = market.into
    while here is not None:
        if here is own:
            return True
        here = here.into
    return False


def sold_at_of(book: Book[Any], asset: AssetId, falling: Sequence[AssetId]) -> Callable[[int], SoldAt]:
    """What is sold of an asset where it and those that end in it trade lower; the book stays as it is."""

    def sold(left: int) -> SoldAt:
        trial = book.copy()
        for prices in (trial.oracle, trial.traded):
            prices.update({each: prices[each] * left // RAY for each in falling if each in prices})
        risky = [one.account for one in standings(views_of(trial), unsafe=True)]
        taken = liquidated_at_once(trial, risky)
        amount = 0
        for each in falling:
            worth = taken.seized[each] * book.oracle.get(each, 0) * book.units[asset]
            amount += worth // (book.units[each] * book.oracle[asset])
        return SoldAt(amount, len(risky), taken.repaid_base)

    return sold
