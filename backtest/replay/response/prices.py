"""Prices that answer to what is sold: of each asset the market's, the oracle's and history's, in exact integers.

    market's = history's last market price * own factor now / factor that is netted out, as of that price
    oracle's = history's last round * own factor / factor that is netted out, both as of what the oracle's rule saw

The historical path holds history's own impact already: a price holds that of what was sold before it. What is netted
out is what a baseline sold, under the same depth. A replay that sells the same has history's rounds to the last digit,
and from each of history's prices to the next its market falls by what is sold. Other venues' impact stays in the path.
 One ``PriceResponse`` may be shared by the replays of several markets on one clock: each has its
``Seat``.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from backtest.errors import PriceMissing, ScenarioError, did_you_mean
from backtest.model import AccountId, AssetId, Clock, Market, MarketEvent, MarketPrice, PoolChange, Prices, PriceUpdate
from backtest.pools.uniswap_v3 import PoolState
from backtest.protocols.book import Book
from backtest.protocols.changes import unplaced
from backtest.protocols.interface import Fill, State
from backtest.protocols.mechanism import Opportunity
from backtest.replay.response.curves import PoolCurve
from backtest.replay.response.oracles import FollowingOracle, follower_of, lookback
from backtest.replay.response.selling import (
    BASE,
    OWN,
    SAME,
    SLICES,
    FollowedPools,
    Ratio,
    Selling,
    Sold,
    Token,
    TokenMarket,
    curve_of,
    linked,
)
from backtest.scenario.impact import Impact
from backtest.units import RAY, WAD

Reason = Literal["history", "market", "sale", "time", "deviation", "heartbeat", "period", "window"]
"""Why a price changed: history's oracle or market did; somebody sold; buyers came, or what is netted out was sold; a
round by the oracle's rule (its deviation, heartbeat, period or window).
"""


class PricePoint(NamedTuple):
    """The three prices of an asset from here on, in ``Market.price_decimals``; None where there is none."""

    clock: Clock
    asset: AssetId
    history: int | None
    oracle: int | None
    market: int | None
    reason: str


class CollateralSale(NamedTuple):
    """What a liquidation (its ordinal) gave its liquidator to sell, or (an amount below zero) made it buy.

    ``brought``: of every RAY of what it was worth at the market price; of what is bought, what it cost. ``round``: how
    many rounds of oracles that history did not have came before it since history's last one. ``endogenous``: at
    history's prices the account could not have been liquidated.
    """

    ordinal: int
    clock: Clock
    account: AccountId
    asset: AssetId
    amount: int
    proceeds: AssetId
    market_before: int | None
    market_after: int | None
    brought: int
    round: int
    endogenous: bool


@dataclass(slots=True)
class _Followed:
    """One asset of one market, and what was last told about it."""

    asset: AssetId
    token: Token
    follower: FollowingOracle
    history: int | None = None
    """The oracle's in history,"""
    traded: int | None = None
    """and the market's, where it is known."""
    held: int = RAY
    """The factor of what is netted out, as of history's last market price,"""
    held_round: int = RAY
    """and as of its oracle's last round."""
    oracle: int | None = None
    market: int | None = None
    """The market price that was told; None: the oracle's stands for it."""
    last: PricePoint | None = None


class PriceResponse:
    """See the module. ``sales`` are what was sold, in order: what another replay may net out."""

    def __init__(self, terms: Impact, markets: Sequence[Market], netted: Sequence[Sold] | None = None) -> None:
        """``markets``: those that share it, which must all know each other's tokens by address. ``netted``: see
        ``selling.Selling``; None where this replay is the baseline itself.

        Raises:
            ScenarioError: no market has an asset that is named, or the words do not fit together.
        """
        self.terms = terms
        self._selling = Selling(netted, max((lookback(entry.oracle) for entry in terms.assets), default=0))
        self._pools = FollowedPools()
        self._numbers = {market.name: number for number, market in enumerate(markets)}
        named: dict[str, Token] = {}
        for entry in terms.assets:
            market, asset = _listed(entry.asset, markets)
            token = market.assets[asset].asset
            if token in self._selling.markets:
                raise ScenarioError(f"impact.assets: two entries of {entry.asset}", "give one for each")
            pool = self._pool_of(token, markets)
            unit = 10 ** market.assets[asset].decimals
            curve = curve_of(entry, unit, pool and (pool[0], pool[1]))
            if isinstance(curve, PoolCurve) and pool is not None:
                self._pools.moves(pool[2], curve)
            self._selling.markets[token] = TokenMarket(token, entry, curve, unit)
            named[entry.asset.lower()] = named[token] = token
            named[market.assets[asset].symbol.lower()] = token
        linked(self._selling.markets, lambda name: named.get(name.lower()))

    @property
    def idle(self) -> bool:
        """Prices are history's, the market's among them: nobody sold anything yet, and nothing is netted out."""
        return self._selling.idle

    @property
    def known(self) -> bool:
        """What oracles will say is history's, as far as can be told: nobody sold anything, or all that this replay
        itself sells is netted out.
        """
        return self._selling.netted is None or self._selling.idle

    def market_of(self, token: Token) -> TokenMarket | None:
        """A token's market; None where its price does not answer."""
        return self._selling.markets.get(token)

    @property
    def sales(self) -> Sequence[Sold]:
        """See the class."""
        return self._selling.sold

    def seat(self, market: Market, first_block: int = 0) -> Seat:
        """A market's place in it: what its replay asks. What is sold before ``first_block`` counts for nothing."""
        return Seat(self, market, first_block)

    def factor(self, token: Token, now: int) -> int:
        """What own sales left of a token's market price now (seconds), of RAY."""
        return self._selling.markets[token].factor(OWN, now)

    def loss_up(self, token: Token, amount: int, value: int, now: Clock) -> int:
        """What selling ``amount`` native units now brings less than their ``value`` at the market price, base units; of
        what is sold in parts, as if all of them brought what the first does. KeyError where the price does not answer.
        """
        parts = SLICES if self._selling.markets[token].terms.sells else 1
        return value - value * self.brings_down(token, -(-amount // parts), now) // RAY

    def brings_down(self, token: Token, amount: int, now: Clock) -> int:
        """What ``amount`` native units bring now, of every RAY of their worth at the market price."""
        self._selling.pass_to(now)
        value = self._selling.value_down(token, amount, now.timestamp)
        return min(RAY, value * RAY // (amount * self.factor(token, now.timestamp)))

    def held(self, token: Token, now: int) -> int:
        """The same of what is netted out: what a price of history from now on holds already."""
        return self._selling.markets[token].factor(OWN if self._selling.netted is None else BASE, now)

    def ratio_at(self, token: Token, then: int) -> Ratio:
        """Own factor and the one that is netted out, at a time that has passed (seconds)."""
        return SAME if self._selling.netted is None else self._selling.markets[token].ratio_at(then)

    def sentences(self) -> Iterator[str]:
        """What prices rest on."""
        if not self.terms.assets:
            return
        whose = {
            "baseline": "what the same liquidators sell under history's parameters",
            "observed": "what history's own liquidations sold",
            "none": "nothing, so that what history's own liquidations did to it counts twice",
        }[self.terms.netting]
        yield (
            f"Prices answer to sales. The historical path holds history's own impact: netted out is {whose}; the impact"
            " of other venues stays in the path."
        )
        for market in self._selling.markets.values():
            yield market.terms.said
            if market.beyond:
                yield f"{market.beyond:,} sales of {market.terms.asset} went beyond what was measured: extrapolated."
            if market.drained:
                yield (
                    f"{market.drained:,} sales of {market.terms.asset} found too few buyers: what was left brings"
                    " nothing."
                )
        if any(market.terms.sells for market in self._selling.markets.values()):
            yield (
                f"An inventory is sold in {SLICES} equal parts; its owner reckons with what one part would bring now,"
                " and carries what the price does until then."
            )

    def _pool_of(self, token: Token, markets: Sequence[Market]) -> tuple[PoolState, bool, str] | None:
        for market in markets:
            for pool in market.pools:
                if pool.prices == token:
                    state = self._pools.follow(self._numbers[market.name], pool.address, pool.fee, pool.spacing)
                    return state, pool.quote == 1, pool.address
        return None


class Seat:
    """One market's view of a ``PriceResponse``. Owned by one replay.

    Attributes:
        points: the three prices of its assets, whenever one of them changed.
        sales: what its liquidations gave to sell.
        rounds: rounds of its oracles that history did not have, since history's last one.
    """

    def __init__(self, response: PriceResponse, market: Market, first_block: int) -> None:
        self.response, self.market, self._first = response, market, first_block
        self._selling, self._pools = response._selling, response._pools
        self._number = response._numbers[market.name]
        self.assets = {
            asset.id: _Followed(asset.id, asset.asset, follower_of(self._selling.markets[asset.asset].terms.oracle))
            for asset in market.assets
            if asset.asset in self._selling.markets
        }
        self.buys = any(market.terms.buys for market in self._selling.markets.values())
        """Whether a liquidation may make what another one sells worth more."""
        self._history: dict[AssetId, int] = {}
        """History's oracle prices of its assets."""
        self.points: list[PricePoint] = []
        self.sales: list[CollateralSale] = []
        self.rounds = 0
        self._opened: dict[int, bool] = {}
        """Of each auction, whether it is endogenous."""

    def begin(self, book: Book[State]) -> None:
        """Where its replay begins with a book that stands: prices as they are in it, before anything is sold."""
        for asset, price in book.oracle.items():
            self.adjusted(PriceUpdate(**unplaced(book.now), asset=asset, price=price))
        for asset, price in book.traded.items():
            self.adjusted(MarketPrice(**unplaced(book.now), asset=asset, price=price))

    # -- history ----------------------------------------------------------------------------------------------------

    def adjusted(self, event: PriceUpdate | MarketPrice | PoolChange) -> Sequence[MarketEvent]:
        """What comes in the place of an event of history: the same with the ratio applied, and where that makes the
        market's price another than the oracle's, the market's as well.
        """
        if isinstance(event, PoolChange):
            self._pools.changed(self._number, self.market.pools[event.pool].address, event)
            return (event,)
        followed = self.assets.get(event.asset)
        if followed is None:
            return (event,)
        clock = Clock(event.block_number, event.log_index, event.timestamp)
        idle = self._selling.idle
        self._selling.pass_to(clock)
        told: list[MarketEvent] = []
        if isinstance(event, PriceUpdate):
            self.rounds = 0
            followed.history = event.price
            if event.price is None:
                self._history.pop(event.asset, None)
            else:
                self._history[event.asset] = event.price
            if not idle:
                followed.held_round = self.response.held(followed.token, clock.timestamp)
            ratio = followed.follower.history(clock.timestamp, _nothing_sold if idle else self._ratio_at(followed))
            followed.oracle = _times(event.price, ratio)
            told.append(event if followed.oracle == event.price else replace(event, price=followed.oracle))
        else:
            followed.traded = event.price
            followed.market = None
        if not idle and (isinstance(event, MarketPrice) or followed.traded is None):
            followed.held = self.response.held(followed.token, clock.timestamp)
        worth = followed.traded if followed.traded is not None else followed.history
        self._selling.told(followed.token, self._number, worth, self.market.unit(followed.asset), clock.timestamp)
        told += self._moved(followed, clock, "history" if isinstance(event, PriceUpdate) else "market")
        if isinstance(event, MarketPrice) and event.price is None and not told:
            told.append(event)
        return told

    def answered(self, asset: AssetId) -> Ratio:
        """What its oracle says of an asset, to what history's did."""
        followed = self.assets.get(asset)
        if followed is None or not followed.oracle or not followed.history:
            return SAME
        return followed.oracle, followed.history

    # -- time -------------------------------------------------------------------------------------------------------

    def rounds_due(self, clock: Clock) -> list[MarketEvent]:
        """Prices that changed since the seat was last asked, by sales of any market, by time, and by rounds of the
        oracles' own rules; in order of the assets.
        """
        self._selling.pass_to(clock)
        found: list[MarketEvent] = []
        if self._selling.idle:
            return found
        for followed in self.assets.values():
            why = followed.follower.due(clock.timestamp, self._ratio_between(followed))
            if why is not None and followed.history is not None:
                price = _times(followed.history, followed.follower.carried)
                if price != followed.oracle:
                    self.rounds += 1
                    followed.oracle = price
                    found.append(PriceUpdate(**unplaced(clock), asset=followed.asset, price=price))
            found += self._moved(followed, clock, why or "time")
        return found

    def wake(self, now: Clock) -> int | None:
        """The next time at which a price may change by itself, as far as that is known."""
        if self._selling.idle:
            return None
        times = [self._selling.next_slice(now.timestamp)]
        times += [
            followed.follower.wake(now.timestamp, self._ratio_between(followed)) for followed in self.assets.values()
        ]
        return min((time for time in times if time is not None), default=None)

    # -- liquidators ------------------------------------------------------------------------------------------------

    def loss_up(self, asset: AssetId, amount: int, value: int, now: Clock) -> int | None:
        """What selling ``amount`` native units now brings less than their ``value`` at the market price, base units;
        None where the asset's price does not answer.
        """
        followed = self.assets.get(asset)
        if followed is None or not amount:
            return None if followed is None else 0
        return self.response.loss_up(followed.token, amount, value, now)

    def premium_up(self, asset: AssetId, amount: int, cost: int, now: Clock) -> int:
        """What buying ``amount`` native units now costs more than their ``cost`` at the market price, base units."""
        followed = self.assets.get(asset)
        if followed is None or not amount or not self._selling.markets[followed.token].terms.buys:
            return 0
        self._selling.pass_to(now)
        worth = amount * self.response.factor(followed.token, now.timestamp)
        return max(0, -(-cost * self._selling.markets[followed.token].cost_up(amount, now.timestamp) // worth) - cost)

    def settled(self, book: Book[State], ordinal: int, fill: Fill, *, endogenous: bool) -> list[MarketEvent]:
        """A liquidation gave somebody collateral to sell (not its token of the protocol), and made somebody buy what
        was repaid: what becomes of prices.
        """
        if book.now.block_number < self._first:
            return []
        collateral, debt = fill.order.pair.collateral_asset, fill.order.pair.debt_asset
        moved: list[MarketEvent] = []
        if (bought := self.assets.get(debt)) is not None and self._selling.markets[bought.token].terms.buys:
            moved += self._trade(book, ordinal, fill, (debt, collateral), -fill.paid, endogenous)
        if collateral in self.assets and not fill.order.receive_collateral_token:
            moved += self._trade(book, ordinal, fill, (collateral, debt), fill.seized, endogenous)
        return moved

    def _trade(
        self,
        book: Book[State],
        ordinal: int,
        fill: Fill,
        pair: tuple[AssetId, AssetId],
        amount: int,
        endogenous: bool,
    ) -> list[MarketPrice]:
        """``amount`` of the first asset is sold for the other or, below zero, bought."""
        if not amount:
            return []
        asset, other = pair
        followed, rounds = self.assets[asset], self.rounds
        before = followed.last.market if followed.last is not None else None
        if amount > 0:
            brought = self.response.brings_down(followed.token, amount, book.now)
        else:
            worth = -amount * self.response.factor(followed.token, book.now.timestamp)
            market = self._selling.markets[followed.token]
            brought = -(-market.cost_up(-amount, book.now.timestamp) * RAY // worth)
        self.sold(followed.token, amount, self.market.assets[other].asset, book.now)
        moved = [event for each in self.assets.values() for event in self._moved(each, book.now, "sale")]
        self.sales.append(
            CollateralSale(
                ordinal,
                book.now,
                fill.order.account,
                asset,
                amount,
                other,
                before,
                followed.last.market if followed.last is not None else None,
                brought,
                rounds,
                endogenous,
            )
        )
        return moved

    def sold(self, token: Token, amount: int, proceeds: Token, clock: Clock) -> None:
        """Somebody has this much of a token to sell, or bought it (an amount below zero), whatever market or mechanism
        it came from.
        """
        if token in self._selling.markets:
            self._selling.sell(Sold(clock, token, amount, proceeds))

    def endogenous(self, book: Book[State], account: AccountId, lot: int | None, opportunity: Opportunity) -> bool:
        """Whether an account that can be liquidated could not be at history's oracle prices; of a step of an auction,
        whether that was so when it opened.
        """
        if lot is None:
            return self._only_here(book, account)
        if opportunity.opens:
            self._opened[lot] = self._only_here(book, account)
        return self._opened.get(lot, False)

    def _only_here(self, book: Book[State], account: AccountId) -> bool:
        if all(followed.oracle == followed.history for followed in self.assets.values()):
            return False
        oracle = ChainMap(self._history, book.oracle)
        try:
            health = book.protocol.view(book.state, account, Prices(oracle, oracle, oracle), book.now).health
        except PriceMissing:
            return False
        return health is not None and health >= WAD

    # -- within -----------------------------------------------------------------------------------------------------

    def _ratio_at(self, followed: _Followed) -> _RatioAt:
        return _RatioAt(self.response, followed.token)

    def _ratio_between(self, followed: _Followed) -> _RatioAt:
        """Between two rounds of history."""
        return _RatioAt(self.response, followed.token, followed.held_round)

    def _moved(self, followed: _Followed, clock: Clock, reason: str) -> list[MarketPrice]:
        """The market price, if it is another than was told; and the point, if any of the three is."""
        now = RAY if self._selling.idle else self.response.factor(followed.token, clock.timestamp)
        worth = followed.traded if followed.traded is not None else followed.history
        market = _times(worth, SAME if now == followed.held else (now, followed.held))
        known = market if followed.traded is not None or market != followed.oracle else None
        told: list[MarketPrice] = []
        if known != followed.market:
            followed.market = known
            told.append(MarketPrice(**unplaced(clock), asset=followed.asset, price=known))
        point = PricePoint(clock, followed.asset, followed.history, followed.oracle, market, reason)
        if (point[2:5] != (None, None, None)) if followed.last is None else followed.last[2:5] != point[2:5]:
            followed.last = point
            if clock.block_number >= self._first:
                self.points.append(point)
        return told


@dataclass(frozen=True, slots=True)
class _RatioAt:
    """See ``oracles.RatioAt``. With ``held``, a round's own: what is netted out since that round is not in history's
    price yet, so that less is sold than then raises no price before history's next round tells of it.
    """

    response: PriceResponse
    token: Token
    held: int | None = None

    def __call__(self, then: int) -> Ratio:
        ratio = self.response.ratio_at(self.token, then)
        if self.held is None or ratio[0] <= ratio[1]:
            return ratio
        own, netted = ratio[0], max(ratio[1], self.held)
        return (own, netted) if own > netted else SAME


def _nothing_sold(then: int) -> Ratio:
    return SAME


def _times(price: int | None, ratio: Ratio) -> int | None:
    """A price times a ratio, rounded down; a price stays above zero."""
    if price is None or ratio == SAME:
        return price
    return max(1, price * ratio[0] // ratio[1]) if price else price


def _listed(name: str, markets: Sequence[Market]) -> tuple[Market, AssetId]:
    """The first market that lists an asset of this name, and its id there."""
    for market in markets:
        asset = market.asset_named(name)
        if asset is not None:
            return market, asset.id
    names = [each for market in markets for each in market.names]
    raise ScenarioError(f"impact.assets: '{name}' is no asset of the market", did_you_mean(name, names))
