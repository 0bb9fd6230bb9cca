"""What each token's market pays for more of it, as a scenario says, over several books."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from backtest.contagion.books import MarketBook, Token
from backtest.contagion.fire_sales import DepthOf
from backtest.model import Market
from backtest.replay.response import PriceResponse
from backtest.replay.response.cascade_map import depth_within
from backtest.replay.response.curves import PoolCurve, Unmoved
from backtest.scenario import Scenario
from backtest.units import BPS

DEPTH_AT = 100
"""The fall by which linear measures take depth, basis points."""


def depths_of(scenario: Scenario, books: Sequence[MarketBook]) -> tuple[dict[Token, DepthOf], list[str]]:
    """What prices do, and that in words."""
    if not scenario.impact.assets:
        return {}, ["No price answers to sales: give --impact, or a scenario with [impact]."]
    found, said = curves_of(scenario, [book.book.market for book in books])
    for book in books:
        follow(found, book)
    return found, said


def curves_of(scenario: Scenario, markets: Sequence[Market]) -> tuple[dict[Token, DepthOf], list[str]]:
    """The same of markets whose pools nothing follows yet."""
    response = PriceResponse(replace(scenario.impact, netting="none"), markets, ())
    found, said = {}, []
    for token in sorted({asset.asset for market in markets for asset in market.assets}):
        own = response.market_of(token)
        if own is not None:
            found[token] = DepthOf(own.curve, None if own.into is None else own.into.token)
            said.append(own.terms.said)
    return found, said


def follow(depths: Mapping[Token, DepthOf], book: MarketBook) -> frozenset[Token]:
    """Pools are as a book has them; of which tokens."""
    followed = set()
    for pool in book.book.market.pools:
        curve = depths[pool.prices].curve if pool.prices in depths else None
        if isinstance(curve, PoolCurve) and pool.id in book.book.pools:
            curve.pool = book.book.pools[pool.id].copy()
            curve.changed()
            followed.add(pool.prices)
    return frozenset(followed)


def depth_value_up(token: Token, books: Sequence[MarketBook], depths: Mapping[Token, DepthOf]) -> int | None:
    """Common units whose sale takes all of a price where the first per cent is typical, rounded up, one at the least;
    None: nothing moves it.
    """
    curve = depths[token].curve if token in depths else None
    for market in books:
        asset = market.asset_of(token)
        if asset is not None and curve is not None and not isinstance(curve, Unmoved):
            return max(1, market.units_up(market.book.value_up(asset, depth_within(curve, DEPTH_AT)))) * BPS // DEPTH_AT
    return None
