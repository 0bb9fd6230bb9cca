"""What a market pays for tokens sold into it, and where that leaves its price: curves of what was sold and not bought
back.

A curve says, after ``q`` native units were sold into an undisturbed market, the price of the next unit as a part of the
undisturbed price, f(q), and what selling from there brings, the integral of f. Selling in two parts is selling in one.
Parts are of RAY; all is exact integers, rounded against who sells. Sources are on the structs of ``scenario.impact``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isqrt
from typing import NamedTuple, Protocol

from backtest.pools.uniswap_v3 import PoolState, mid_price, swap
from backtest.units import BPS, RAY

_BITS = 32


def _halves() -> list[int]:
    """2^64 / 2^(1 / 2^k) for k = 1, 2, ..., rounded down."""
    found, last = [], 1 << 63
    for _ in range(_BITS):
        last = isqrt(last << 64)
        found.append(last)
    return found


_HALVES = _halves()


def faded_up(amount: int, seconds: int, half_life: int) -> int:
    """What is left of an amount of which half goes every ``half_life`` seconds (0: at once), rounded up; the part of a
    half-life counts in steps of 2^-32.
    """
    if seconds <= 0 or not amount:
        return amount
    if not half_life or seconds >= 256 * half_life:
        return 0
    whole, rest = divmod(seconds, half_life)
    left = 1 << 64
    part = (rest << _BITS) // half_life
    for bit, half in enumerate(_HALVES, start=1):
        if part >> (_BITS - bit) & 1:
            left = left * half >> 64
    return -(-amount * left >> (64 + whole))


class Brought(NamedTuple):
    """What a sale brings: ``value`` in native units of the token at its undisturbed price, times RAY; ``sold`` of what
    was offered; ``beyond``: further than what was measured.
    """

    value: int
    sold: int
    beyond: bool


class PriceCurve(Protocol):
    """See the module."""

    def factor(self, q: int) -> int:
        """f(q), of RAY."""
        ...

    def brings_down(self, q: int, amount: int) -> Brought:
        """Of selling ``amount`` more after ``q``."""
        ...


class Summed(PriceCurve, Protocol):
    """A curve whose integral is known in closed form."""

    def area(self, q: int) -> int:
        """The integral of f from 0 to q, times RAY, rounded down."""
        ...

    def is_beyond(self, q: int) -> bool:
        """Whether q is further than what was measured."""
        return False

    def brings_down(self, q: int, amount: int) -> Brought:
        """See ``PriceCurve``."""
        return Brought(max(0, self.area(q + amount) - self.area(q)), amount, self.is_beyond(q + amount))


class Unmoved(Summed):
    """A market that nothing moves."""

    def factor(self, q: int) -> int:
        """One."""
        return RAY

    def area(self, q: int) -> int:
        """q."""
        return q * RAY


@dataclass(frozen=True)
class ProductCurve(Summed):
    """x y = k with ``reserve`` native units of the token: f = (x / (x + q))^2, integral x q / (x + q). A ``q`` below
    zero was bought: of the last unit nothing is left to buy.
    """

    reserve: int

    def factor(self, q: int) -> int:
        """See ``PriceCurve``."""
        whole = max(1, self.reserve + q)
        return self.reserve * self.reserve * RAY // (whole * whole)

    def area(self, q: int) -> int:
        """See ``Summed``."""
        q = max(q, 1 - self.reserve)
        return self.reserve * q * RAY // (self.reserve + q)


@dataclass(frozen=True)
class LinearCurve(Summed):
    """f = 1 - moves q / (size BPS), and nothing beyond where that is zero. A ``q`` below zero was bought."""

    size: int
    moves: int

    def factor(self, q: int) -> int:
        """See ``PriceCurve``."""
        return max(0, RAY - -(-RAY * self.moves * q // (BPS * self.size)))

    def area(self, q: int) -> int:
        """See ``Summed``."""
        q = min(q, BPS * self.size // self.moves)
        return RAY * q - -(-RAY * self.moves * q * q // (2 * BPS * self.size))


@dataclass(frozen=True)
class RootCurve(Summed):
    """f = 1 - Y sigma sqrt(q / V), and nothing beyond where that is zero. ``coefficient``: Y in ten-thousandths."""

    volume: int
    volatility: int
    coefficient: int

    def _falls(self, q: int) -> int:
        root = isqrt(q * RAY * RAY // self.volume) + 1 if q else 0
        return -(-root * self.coefficient * self.volatility // (BPS * BPS))

    @property
    def _end(self) -> int:
        strength = self.coefficient * self.volatility
        return self.volume * BPS**4 // (strength * strength)

    def factor(self, q: int) -> int:
        """See ``PriceCurve``."""
        return max(0, RAY - self._falls(q))

    def area(self, q: int) -> int:
        """See ``Summed``."""
        q = min(q, self._end)
        return max(0, RAY * q - -(-2 * q * self._falls(q) // 3))


class Piece(NamedTuple):
    """Between two quantities the price falls straight from one part to another, of RAY."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class PieceCurve(Summed):
    """Straight pieces from 0 on, falling. Behind the last: nothing is bought (``ends``), or what the price had fallen
    by there goes on growing with the square root of quantity.
    """

    pieces: tuple[Piece, ...]
    ends: bool
    _areas: list[int] = field(init=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        total = 0
        for piece in self.pieces:
            self._areas.append(total)
            total += (piece.stop - piece.start) * (piece.first + piece.last) // 2
        self._areas.append(total)

    @property
    def _last(self) -> Piece:
        return self.pieces[-1]

    def is_beyond(self, q: int) -> bool:
        """See ``Summed``."""
        return q > self._last.stop

    def _at(self, q: int) -> int:
        return bisect_right(self.pieces, q, key=lambda piece: piece.stop)

    def _within(self, piece: Piece, q: int) -> int:
        return piece.first - -(-(piece.first - piece.last) * (q - piece.start) // (piece.stop - piece.start))

    def factor(self, q: int) -> int:
        """See ``PriceCurve``. Of nothing sold, one."""
        if not q:
            return RAY
        at = self._at(q)
        if at < len(self.pieces):
            return self._within(self.pieces[at], q)
        if q == self._last.stop:
            return self._last.last
        return 0 if self.ends else max(0, RAY - self._falls(q))

    def _falls(self, q: int) -> int:
        """Beyond the last piece: what the price has fallen by, of RAY."""
        fallen = RAY - self._last.last
        return -(-fallen * (isqrt(q * RAY * RAY // self._last.stop) + 1) // RAY)

    def area(self, q: int) -> int:
        """See ``Summed``."""
        at = self._at(q)
        if at < len(self.pieces):
            piece = self.pieces[at]
            return self._areas[at] + (q - piece.start) * (piece.first + self._within(piece, q)) // 2
        total, end, fallen = self._areas[-1], self._last.stop, RAY - self._last.last
        if self.ends or q == end:
            return total
        if fallen:  # up to where nothing is paid any more
            q = min(q, end * RAY * RAY // (fallen * fallen))
        lost = -(-2 * (q * self._falls(q) - end * fallen) // 3)
        return total + max(0, RAY * (q - end) - max(0, lost))

    def brings_down(self, q: int, amount: int) -> Brought:
        """See ``PriceCurve``: a book that ends buys no more than it has."""
        sold = max(0, min(amount, self._last.stop - q)) if self.ends else amount
        return Brought(max(0, self.area(q + sold) - self.area(q)), sold, self.is_beyond(q + amount))


def bands(points: Sequence[tuple[int, int]]) -> PieceCurve:
    """From (quantity, basis points that the price itself is lower there), quantities rising. Where the falls do not
    rise, they are pooled to their mean, weighted by quantity, the least change that makes them (isotonic regression).
    """
    falls = _rising([fall * RAY // BPS for _, fall in points], [1] * len(points))
    pieces, start, first = [], 0, RAY
    for (stop, _), fall in zip(points, falls, strict=True):
        pieces.append(Piece(start, stop, first, RAY - fall))
        start, first = stop, RAY - fall
    return PieceCurve(tuple(pieces), ends=False)


def quoted(points: Sequence[tuple[int, int]]) -> PieceCurve:
    """From (quantity, basis points that selling it brings less on average), quantities rising: the price of each
    further part is what that quote brings more than the one before; where those prices rise, they are pooled to their
    mean by quantity (isotonic regression).
    """
    sizes = [0, *(size for size, _ in points)]
    worth = [0, *(size * (BPS - lost) for size, lost in points)]
    widths = [after - before for before, after in pairwise(sizes)]
    parts = [
        RAY - (after - before) * RAY // (BPS * width)
        for (before, after), width in zip(pairwise(worth), widths, strict=True)
    ]
    falls = _rising([min(max(part, 0), RAY) for part in parts], widths)
    return PieceCurve(
        tuple(
            Piece(start, start + width, RAY - fall, RAY - fall)
            for start, width, fall in zip(sizes, widths, falls, strict=False)
        ),
        ends=False,
    )


def book(levels: Sequence[tuple[int, int]]) -> PieceCurve:
    """From (quantity bid, basis points below the middle), best first: walked level by level, and empty behind the
    last.
    """
    pieces, start = [], 0
    for size, below in levels:
        price = RAY - below * RAY // BPS
        pieces.append(Piece(start, start + size, price, price))
        start += size
    return PieceCurve(tuple(pieces), ends=True)


def _rising(values: Sequence[int], weights: Sequence[int]) -> list[int]:
    """The nearest sequence that never falls (pool adjacent violators), means rounded down."""
    blocks: list[tuple[int, int, int]] = []
    for value, weight in zip(values, weights, strict=True):
        total, of, count = value * weight, weight, 1
        while blocks and blocks[-1][0] * of > total * blocks[-1][1]:
            before = blocks.pop()
            total, of, count = total + before[0], of + before[1], count + before[2]
        blocks.append((total, of, count))
    return [total // of for total, of, count in blocks for _ in range(count)]


@dataclass(frozen=True)
class StableCurve(Summed):
    """A StableSwap pool of two tokens, ``reserve`` of this one and ``other`` of the other, both with as many decimals.

    Rules of curvefi/curve-contract ``contracts/pool-templates/base/SwapTemplateBase.vy`` (``get_D``, ``get_y``) for two
    coins: A n (x + y) + D = A n D + D^3 / (4 x y); ``amplification`` is A.
    """

    reserve: int
    other: int
    amplification: int
    _sum: list[int] = field(init=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        self._sum.append(self._invariant())

    def _invariant(self) -> int:
        """D, by the contract's own iteration."""
        total, ann = self.reserve + self.other, 2 * self.amplification
        found = total
        for _ in range(255):
            product = found
            for held in (self.reserve, self.other):
                product = product * found // (held * 2)
            before = found
            found = (ann * total + 2 * product) * found // ((ann - 1) * found + 3 * product)
            if abs(found - before) <= 1:
                break
        return found

    def _left(self, held: int) -> int:
        """y for x, by the contract's own iteration."""
        invariant, ann = self._sum[0], 2 * self.amplification
        c = invariant * invariant // (held * 2) * invariant // (ann * 2)
        b = held + invariant // ann
        found = invariant
        for _ in range(255):
            before = found
            found = (found * found + c) // (2 * found + b - invariant)
            if abs(found - before) <= 1:
                break
        return found

    def _slope(self, held: int) -> tuple[int, int]:
        """-dy/dx as a fraction."""
        y, ann, d = self._left(held), 2 * self.amplification, self._sum[0]
        cube = d * d * d
        return y * (4 * ann * held * held * y + cube), held * (4 * ann * held * y * y + cube)

    def factor(self, q: int) -> int:
        """See ``PriceCurve``."""
        (up, down), (first, of) = self._slope(self.reserve + q), self._slope(self.reserve)
        return min(RAY, up * of * RAY // (down * first))

    def area(self, q: int) -> int:
        """See ``Summed``."""
        first, of = self._slope(self.reserve)
        return min(q * RAY, max(0, self._left(self.reserve) - self._left(self.reserve + q)) * of * RAY // first)


class PoolCurve(PriceCurve):
    """A fetched pool (Uniswap v3), by its exact rules: history's pool as it stands, after what was sold into it.

    What a sale brings is what the pool gives, fee taken, at the price of the undisturbed pool.
    """

    def __init__(self, pool: PoolState, zero_for_one: bool) -> None:
        """``zero_for_one``: the token is the pool's token 0."""
        self.pool, self._down = pool, zero_for_one
        self._after: dict[int, PoolState] = {}

    def changed(self) -> None:
        """History's pool moved."""
        self._after.clear()

    def _at(self, q: int) -> PoolState:
        """The pool after q was sold into it."""
        if not q:
            return self.pool
        if q not in self._after:
            if len(self._after) > 256:
                self._after.clear()
            done, pool = swap(self.pool, self._down, q), self.pool
            self._after[q] = PoolState(
                pool.fee, pool.spacing, done.sqrt_price, done.tick, done.liquidity, pool.gross, pool.net, pool.ticks
            )
        return self._after[q]

    def factor(self, q: int) -> int:
        """See ``PriceCurve``."""
        if not self.pool.sqrt_price:
            return RAY
        now, then = self._at(q).sqrt_price, self.pool.sqrt_price
        up, down = (now, then) if self._down else (then, now)
        return up * up * RAY // (down * down)

    def brings_down(self, q: int, amount: int) -> Brought:
        """See ``PriceCurve``."""
        if not self.pool.sqrt_price:
            return Brought(0, 0, True)
        done = swap(self._at(q), self._down, amount)
        up, down = mid_price(self.pool.sqrt_price) if self._down else mid_price(self.pool.sqrt_price)[::-1]
        return Brought(done.amount_out * down * RAY // up, done.amount_in, done.amount_in < amount)
