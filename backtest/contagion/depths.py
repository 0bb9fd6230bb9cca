"""What each token's market pays for more of it, as a scenario says, over several books."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from backtest.contagion.books import MarketBook, Token
from backtest.contagion.fire_sales import DepthOf
from backtest.replay.response import PriceResponse
from backtest.replay.response.curves import PoolCurve
from backtest.scenario import Scenario


def depths_of(scenario: Scenario, books: Sequence[MarketBook]) -> tuple[dict[Token, DepthOf], list[str]]:
    """What prices do, and that in words."""
    if not scenario.impact.assets:
        return {}, ["No price answers to sales: give --impact, or a scenario with [impact]."]
    markets = [book.book.market for book in books]
    response = PriceResponse(replace(scenario.impact, netting="none"), markets, ())
    for book in books:
        for pool in book.book.market.pools:
            own = response.market_of(pool.prices)
            if own is not None and isinstance(own.curve, PoolCurve) and pool.id in book.book.pools:
                own.curve.pool = book.book.pools[pool.id].copy()
    found, said = {}, []
    for token in sorted({asset.asset for market in markets for asset in market.assets}):
        own = response.market_of(token)
        if own is not None:
            found[token] = DepthOf(own.curve, None if own.into is None else own.into.token)
            said.append(own.terms.said)
    return found, said
