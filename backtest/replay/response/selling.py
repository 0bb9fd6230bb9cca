"""What was sold of each token, and where that leaves its market: own sales beside those whose impact history's prices
hold already.

Everything is by token (its address on the chain), so that markets which share a token share what was sold of it.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from backtest.errors import ScenarioError
from backtest.model import Clock, PoolChange
from backtest.pools.uniswap_v3 import PoolState
from backtest.replay.response.curves import (
    Brought,
    LinearCurve,
    PoolCurve,
    PriceCurve,
    ProductCurve,
    RootCurve,
    StableCurve,
    Unmoved,
    bands,
    book,
    faded_up,
    quoted,
)
from backtest.scenario import impact as words
from backtest.units import BPS, RAY

Token = str
"""A token's address, lower-case 0x text, which is one on a chain whatever markets list it."""
Ratio = tuple[int, int]
"""What a price is multiplied with: own factor, and the one that history's price holds already."""
SAME: Ratio = (1, 1)
LEAST, MOST = RAY // 10**6, RAY * 10**6
"""No price falls below a millionth of what it was, or rises to more than a million times."""
SLICES = 20
"""Parts in which an inventory is sold."""
OWN, BASE = 0, 1


class Sold(NamedTuple):
    """Somebody got ``amount`` native units of ``token`` to sell, for ``proceeds``; ``clock``: when. An amount below
    zero was bought.
    """

    clock: Clock
    token: Token
    amount: int
    proceeds: Token


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What was sold of a token and not bought back yet (below zero: bought), native units: ``kept`` for good,
    ``fading`` as of ``at`` (seconds); ``used``: what dealers bought lately, likewise.
    """

    kept: int = 0
    fading: int = 0
    used: int = 0
    at: int = 0


_NOTHING = Outstanding()


@dataclass(slots=True)
class TokenMarket:
    """One token's market. ``unit``: native units of a whole token. ``sides``: what is outstanding by own sales, and by
    those that are netted out.
    """

    token: Token
    terms: words.AssetImpact
    curve: PriceCurve
    unit: int
    into: TokenMarket | None = None
    sides: list[Outstanding] = field(default_factory=lambda: [Outstanding(), Outstanding()])
    past: list[tuple[int, tuple[Outstanding, Outstanding]]] = field(default_factory=list)
    """Both from these times on."""
    prices: deque[tuple[int, int]] = field(default_factory=deque)
    """History's, of the window that volatility is taken over: (seconds, price)."""
    beyond: int = 0
    """Sales larger than what was measured,"""
    drained: int = 0
    """and larger than what the market takes."""
    _known: tuple[Outstanding | None, int, int] = (None, 0, 0)
    """What was last asked for: of what, when, and how much is outstanding."""

    def outstanding(self, side: Outstanding, now: int) -> int:
        """Native units that move the price now."""
        half_life = self.terms.half_life
        if half_life is None:
            return side.kept + side.fading
        of, when, known = self._known
        if of is not side or when != now:
            known = side.kept + (faded_up(side.fading, now - side.at, half_life) if half_life else 0)
            self._known = side, now, known
        return known

    def depth(self, side: Outstanding, now: int) -> int:
        """How much of the stated depth is there, basis points."""
        thin, left = self.terms.thinning, BPS
        if thin.calm is not None and self.prices:
            high, low = max(price for _, price in self.prices), min(price for _, price in self.prices)
            left = min(BPS, thin.calm * BPS * high // max(1, (high - low) * BPS))
        if thin.use is not None:
            size = thin.use * self.unit
            left = left * size // (size + faded_up(side.used, now - side.at, thin.refill))
        return max(thin.least, left) if left < BPS else BPS

    def factor(self, side: int, now: int) -> int:
        """The price's part that is left, of RAY, with that of what the token is sold into."""
        return self._factor(self.sides[side], side, now)

    def _factor(self, state: Outstanding, side: int, now: int) -> int:
        left = self._left(state, now)
        return left if self.into is None else max(LEAST, left * self.into.factor(side, now) // RAY)

    def _left(self, state: Outstanding, now: int) -> int:
        found = self.curve.factor(self.outstanding(state, now) * BPS // self.depth(state, now))
        return min(max(LEAST, found), MOST)

    def ratio_at(self, then: int) -> Ratio:
        """At a time not after the last sale's; depth as it is now."""
        own, base = self._at(then, OWN), self._at(then, BASE)
        return SAME if own == base else (own, base)

    def _at(self, then: int, side: int) -> int:
        if self.past and self.past[-1][0] <= then:
            state = self.past[-1][1][side]
        else:
            place = bisect_right(self.past, then, key=lambda each: each[0]) - 1
            state = self.past[place][1][side] if place >= 0 else _NOTHING
        left = self._left(state, then)
        return left if self.into is None else max(LEAST, left * self.into._at(then, side) // RAY)

    def brings(self, side: int, amount: int, now: int) -> Brought:
        """Of selling ``amount`` here now, before it is sold on."""
        state = self.sides[side]
        depth, fee = self.depth(state, now), self.terms.fee
        put_in = amount * (BPS - fee) // BPS
        found = self.curve.brings_down(self.outstanding(state, now) * BPS // depth, put_in * BPS // depth)
        if depth == BPS:
            return found
        return Brought(found.value * depth // BPS, min(put_in, found.sold * depth // BPS), found.beyond)

    def cost_up(self, amount: int, now: int) -> int:
        """Of buying ``amount`` now, in native units of the token at its undisturbed price, times RAY."""
        state, curve = self.sides[OWN], self.curve
        assert isinstance(curve, ProductCurve | LinearCurve)
        depth = self.depth(state, now)
        q, scaled = self.outstanding(state, now) * BPS // depth, -(-amount * BPS // depth)
        if isinstance(curve, ProductCurve) and q - scaled < 1 - curve.reserve:
            return amount * MOST
        paid = curve.area(q) - curve.area(q - scaled) + 1
        return -(-paid * depth // (BPS - self.terms.fee))

    def take(self, side: int, amount: int, now: int) -> None:
        """So much more is outstanding."""
        state, terms = self.sides[side], self.terms
        for_good = amount * terms.permanent // BPS
        fading = state.fading if terms.half_life is None else faded_up(state.fading, now - state.at, terms.half_life)
        if terms.half_life == 0:
            fading = 0
        used = faded_up(state.used, now - state.at, terms.thinning.refill) + abs(amount)
        self.sides[side] = Outstanding(state.kept + for_good, fading + amount - for_good, used, now)
        while self.past and self.past[-1][0] >= now:
            self.past.pop()
        self.past.append((now, (self.sides[OWN], self.sides[BASE])))

    def forget(self, before: int) -> None:
        """Nobody asks what was before a time."""
        place = bisect_right(self.past, before, key=lambda each: each[0]) - 1
        if place > 0:
            del self.past[:place]

    def told(self, now: int, price: int) -> None:
        """History's price."""
        if self.terms.thinning.calm is None:
            return
        self.prices.append((now, price))
        while len(self.prices) > 1 and self.prices[1][0] <= now - self.terms.thinning.window:
            self.prices.popleft()


def curve_of(entry: words.AssetImpact, unit: int, pool: tuple[PoolState, bool] | None) -> PriceCurve:
    """The curve of a scenario's words; ``pool``: the one that prices the token, and whether that is its token 0."""
    depth = entry.depth
    if isinstance(depth, words.ConstantProductDepth):
        return ProductCurve(depth.reserve * unit)
    if isinstance(depth, words.LinearDepth):
        return LinearCurve(depth.size * unit, depth.moves)
    if isinstance(depth, words.SquareRootDepth):
        return RootCurve(depth.daily_volume * unit, depth.daily_volatility, depth.coefficient)
    if isinstance(depth, words.BandsDepth):
        return bands([(size * unit, fall) for size, fall in depth.curve])
    if isinstance(depth, words.QuotesDepth):
        return quoted([(size * unit, lost) for size, lost in depth.curve])
    if isinstance(depth, words.BookDepth):
        return book([(size * unit, below) for size, below in depth.levels])
    if isinstance(depth, words.StableSwapDepth):
        other = depth.reserve if depth.other is None else depth.other
        return StableCurve(depth.reserve * unit, other * unit, depth.amplification)
    if isinstance(depth, words.PoolsDepth):
        if pool is None:
            raise ScenarioError(
                f"impact: depth kind 'pools' of {entry.asset}, which no fetched pool prices",
                "name another kind of depth, or fetch its pool: docs/impact.md",
            )
        return PoolCurve(*pool)
    return Unmoved()


class Selling:
    """All tokens' markets, and the sales that come to them in time.

    Attributes:
        netted: sales whose impact history's prices hold already, in order of time; None: all own ones, so that prices
            stay history's (this is how those sales become known).
        sold: own sales, in order.
    """

    def __init__(self, netted: Sequence[Sold] | None, lookback: int) -> None:
        self.netted, self.sold = netted, list[Sold]()
        self.markets: dict[Token, TokenMarket] = {}
        self._lookback = lookback
        self._next = 0
        self._slices: list[tuple[int, int, int, Token, int]] = []
        """A heap: when, which in order, whose, and how much of which token is sold."""
        self._count = 0
        self._history: dict[Token, dict[int, tuple[int, int]]] = {}
        """By token and market: (price, its unit)."""

    @property
    def idle(self) -> bool:
        """Nobody sold anything yet, and nothing is netted out: every factor is one."""
        return not self.sold and not self.netted

    def told(self, token: Token, by: int, price: int | None, unit: int, now: int) -> None:
        """History's price of a token in one market, whose ``unit`` makes native units times it base units."""
        known = self._history.setdefault(token, {})
        if price is None:
            known.pop(by, None)
            return
        known[by] = price, unit
        if by == min(known):
            self.markets[token].told(now, price)

    def pass_to(self, clock: Clock) -> None:
        """Time goes on: inventories are sold, and what is to be netted out was sold before now."""
        key = _key(clock)
        netted = self.netted or ()
        while True:
            due = netted[self._next] if self._next < len(netted) and _key(netted[self._next].clock) < key else None
            part = self._slices[0] if self._slices and self._slices[0][0] <= clock.timestamp else None
            if part is not None and (due is None or part[0] <= due.clock.timestamp):
                heapq.heappop(self._slices)
                self._sell(part[2], part[3], part[4], part[0])
            elif due is not None:
                self._next += 1
                self._enter(BASE, due.token, due.amount, due.clock.timestamp)
            else:
                return

    def sell(self, sale: Sold) -> None:
        """Somebody got tokens to sell: at once, or as the scenario says. The sale that is netted out in its place, if
        there is one at this moment, comes with it, so that two replays which sell the same have the same prices between
        two sales of one moment.
        """
        self.pass_to(sale.clock)
        self.sold.append(sale)
        self._enter(OWN, sale.token, sale.amount, sale.clock.timestamp)
        if self.netted is None or self._next == len(self.netted):
            return
        other = self.netted[self._next]
        if _key(other.clock) <= _key(sale.clock) and other.token == sale.token:
            self._next += 1
            self._enter(BASE, other.token, other.amount, other.clock.timestamp)

    def next_slice(self, after: int) -> int | None:
        """When somebody sells of an inventory next."""
        return min((part[0] for part in self._slices if part[2] == OWN and part[0] > after), default=None)

    def _enter(self, side: int, token: Token, amount: int, now: int) -> None:
        market = self.markets[token]
        if not market.terms.sells or amount < 0:
            self._sell(side, token, amount, now)
            return
        for number in range(SLICES):
            part = amount * (number + 1) // SLICES - amount * number // SLICES
            when = now + market.terms.sells * (number + 1) // SLICES
            self._count += 1
            heapq.heappush(self._slices, (when, self._count, side, token, part))

    def _sell(self, side: int, token: Token, amount: int, now: int) -> None:
        if amount < 0:
            self.markets[token].take(side, amount, now)
            self.markets[token].forget(now - self._lookback)
            return
        for market, taken, brought in self._on_the_way(side, token, amount, now):
            market.take(side, taken, now)
            market.forget(now - self._lookback)
            if side == OWN:
                market.beyond += brought.beyond
                market.drained += brought.sold < taken and not brought.beyond

    def value_down(self, token: Token, amount: int, now: int) -> int:
        """What selling an amount brings now, in its native units at the undisturbed price, times RAY."""
        value = RAY
        for _, taken, brought in self._on_the_way(OWN, token, amount, now, fees=True):
            value = value * brought.value // (taken * RAY) if taken else 0
        return amount * value

    def _on_the_way(
        self, side: int, token: Token, amount: int, now: int, *, fees: bool = False
    ) -> Iterator[tuple[TokenMarket, int, Brought]]:
        """The markets that a sale goes through: how much is put into each (with ``fees``: before they are taken), and
        what it brings.
        """
        market: TokenMarket | None = self.markets[token]
        while market is not None and amount:
            brought = market.brings(side, amount, now)
            yield market, amount if fees else min(brought.sold, amount), brought
            if (after := market.into) is not None:
                amount = self._converted(market, after, brought.value // RAY)
            market = after

    def _converted(self, market: TokenMarket, into: TokenMarket, amount: int) -> int:
        """Native units of one token as those of another, at history's prices in the first market that knows both; one
        whole for one whole where none does.
        """
        ours, theirs = self._history.get(market.token, {}), self._history.get(into.token, {})
        for by in sorted(ours.keys() & theirs.keys()):
            (price, unit), (other, of) = ours[by], theirs[by]
            if other:
                return amount * price * of // (unit * other)
        return amount * into.unit // market.unit


def _key(clock: Clock) -> tuple[int, int, int]:
    return clock.timestamp, clock.block_number, clock.log_index


class FollowedPools:
    """Pools that a response follows, as history leaves them. A pool that several markets know is told by the first."""

    def __init__(self) -> None:
        self._curves: dict[str, tuple[int, PoolState, PoolCurve | None]] = {}

    def follow(self, by: int, address: str, fee: int, spacing: int) -> PoolState:
        """The state of a pool, from now on told by a market."""
        if address not in self._curves:
            self._curves[address] = by, PoolState(fee, spacing), None
        return self._curves[address][1]

    def moves(self, address: str, curve: PoolCurve) -> None:
        """Whose curve is to know when it moves."""
        by, state, _ = self._curves[address]
        self._curves[address] = by, state, curve

    def changed(self, by: int, address: str, change: PoolChange) -> None:
        """Something happened to a pool."""
        known = self._curves.get(address)
        if known is not None and known[0] == by:
            known[1].apply(change)
            if known[2] is not None:
                known[2].changed()


def linked(markets: Mapping[Token, TokenMarket], token_of: Callable[[str], Token | None]) -> None:
    """Join what is sold on to where it goes. ScenarioError where that is no asset with an impact, or goes round."""
    for market in markets.values():
        name = market.terms.into
        if name is None:
            continue
        token = token_of(name)
        if token is None or token not in markets:
            raise ScenarioError(
                f"impact of {market.terms.asset}: into = '{name}' has no impact of its own",
                f"add an entry of impact.assets for {name}",
            )
        market.into = markets[token]
    for market in markets.values():
        seen, here = {market.token}, market.into
        while here is not None:
            if here.token in seen:
                raise ScenarioError(
                    f"impact of {market.terms.asset}: what it is sold into is sold into it", "leave one 'into' out"
                )
            seen.add(here.token)
            here = here.into
