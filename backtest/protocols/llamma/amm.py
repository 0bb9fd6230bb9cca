"""The AMM of one market: bands, deposits and withdrawals, exchanges, and what a user's bands are worth.

Source: curvefi/curve-stablecoin at 58289a42 (March 2024), ``contracts/AMM.vy``; each function names its own. Three
revisions differ: 1 of June 2023 (a95d6c3c; its controllers round debts down and take binary logarithms), 2 from August
2023 on (60cba5de, 5c61cdf2: ``max_band`` follows withdrawals, a middle of a band without roots), 3 from March 2024 on
(5c52fbff: the fee grows with the distance from the oracle's price).

x is the borrowed token, y the collateral, both here with 18 decimals whatever their tokens have; native amounts go in
and come out. Band n reaches from the price base * ((A - 1) / A)^n down to that of n + 1: above the active band there
is collateral only, below it borrowed tokens only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isqrt

from backtest.protocols.llamma.math import (
    AmmReverts,
    current_edge_down,
    distance_fee_down,
    exp_down,
    ln_of_factory,
    y0_down,
)
from backtest.units import WAD

MOST_BANDS = 50
MOST_SKIPPED = 1024
DEAD_SHARES = 1_000
DELAY = 120
"""Seconds in which a change of the oracle's price is limited and raises the fee."""
MOST_CHANGE = 125 * WAD // 100
RECENT_BANDS, DISTANCE_FEES = 2, 3
"""First revisions with what the module says."""

Ints = tuple[int, ...]


@dataclass(frozen=True)
class AmmTerms:
    """What is fixed about an AMM. ``borrowed_scale``, ``collateral_scale``: 10^(18 - decimals) of its tokens."""

    amplification: int
    base_price: int
    borrowed_scale: int = 1
    collateral_scale: int = 1
    revision: int = DISTANCE_FEES

    @cached_property
    def sqrt_ratio(self) -> int:
        """The root of A / (A - 1), wad (``ControllerFactory.add_market``)."""
        return isqrt(WAD * self.amplification // (self.amplification - 1) * WAD)

    @cached_property
    def log_ratio(self) -> int:
        """The natural logarithm of A / (A - 1), wad (``ControllerFactory.add_market``)."""
        return ln_of_factory(WAD * self.amplification // (self.amplification - 1))

    @cached_property
    def farthest(self) -> int:
        """How far the oracle's price may be from a band that is traded through, wad: 50 bands (``AMM.__init__``)."""
        a, less = self.amplification, self.amplification - 1
        if self.revision < RECENT_BANDS:
            return (a**25 * WAD // less**25) ** 2 // WAD
        found = WAD
        for _ in range(50):
            found = found * a // less
        return found


@dataclass(frozen=True, slots=True)
class Band:
    """What a band holds, and the shares of it that users have."""

    x: int = 0
    y: int = 0
    shares: int = 0


NOTHING = Band()


@dataclass(frozen=True, slots=True)
class Trade:
    """An exchange that is not made yet: native amounts in and out and what the administrators keep, the bands that it
    leaves (x, y), and the active one.
    """

    paid: int
    bought: int
    kept: int
    bands: Mapping[int, tuple[int, int]]
    active: int


@dataclass(slots=True)
class Amm:
    """One AMM. Rates are wad a second; ``low`` and ``high`` are ``min_band`` and ``max_band``; fees kept are native."""

    terms: AmmTerms
    fee: int = 0
    admin_fee: int = 0
    rate: int = 0
    rate_mul: int = WAD
    rate_time: int = 0
    active: int = 0
    low: int = 0
    high: int = 0
    bands: dict[int, Band] = field(default_factory=dict)
    old_price: int = 0
    old_fee: int = 0
    price_time: int = 0
    kept_x: int = 0
    kept_y: int = 0

    def copy(self) -> Amm:
        """Independent of this one."""
        return replace(self, bands=self.bands.copy())

    def band(self, n: int) -> Band:
        """What a band holds."""
        return self.bands.get(n, NOTHING)

    # -- prices --------------------------------------------------------------------------------------------------------

    def rate_mul_at(self, time: int) -> int:
        """One and the interest up to ``time``, wad (``_rate_mul``): simple from one call to the next."""
        return self.rate_mul * (WAD + self.rate * (time - self.rate_time)) // WAD

    def base_price_down(self, time: int) -> int:
        """The upper edge of band 0, which rises with interest (``_base_price``)."""
        return self.terms.base_price * self.rate_mul_at(time) // WAD

    def up(self, n: int, time: int) -> int:
        """The upper edge of a band as an oracle's price (``_p_oracle_up``); its lower one is that of n + 1."""
        return self.base_price_down(time) * exp_down(-n * self.terms.log_ratio) // WAD

    def limited(self, price: int, time: int) -> tuple[int, int]:
        """The oracle's price as the AMM takes it, and the least fee that its change makes, wad (``limit_p_o``)."""
        left = DELAY - min(DELAY, time - self.price_time)
        if left <= 0:
            return price, 0
        old, least = self.old_price, WAD**2 // MOST_CHANGE
        taken = price
        ratio = old * WAD // price if price > old else price * WAD // old
        if ratio < least:
            taken = old * MOST_CHANGE // WAD if price > old else old * WAD // MOST_CHANGE
            ratio = least
        return taken, min((WAD + self.old_fee - ratio**3 // WAD**2) * left // DELAY, WAD - 1)

    def price_down(self, oracle: int, time: int) -> int:
        """The AMM's own price at the active band, wad (``get_p``); ``oracle``: as ``limited`` has it."""
        return self._price_of(self.band(self.active), oracle, self.up(self.active, time))

    def _price_of(self, band: Band, oracle: int, up: int) -> int:
        a, less = self.terms.amplification, self.terms.amplification - 1
        if not band.x:
            low = current_edge_down(oracle, up)
            return low if band.y else low * a // less
        if not band.y:
            return current_edge_down(oracle, up * less // a)
        y0 = y0_down(band.x, band.y, oracle, up, a)
        f, g = a * y0 * oracle // up * oracle, less * y0 * up // oracle
        return (f + band.x * WAD) // (g + band.y)

    # -- users' calls, by the controller -------------------------------------------------------------------------------

    def can_skip(self, end: int) -> bool:
        """Whether nothing is in the way from the active band to another one (``can_skip_bands``)."""
        n = self.active
        for _ in range(MOST_SKIPPED):
            if end > n:
                if self.band(n).y:
                    return False
                n += 1
            else:
                if self.band(n).x:
                    return False
                n -= 1
            if n == end:
                break
        return True

    def active_after_skip(self) -> int:
        """The first band from the active one down that holds borrowed tokens (``active_band_with_skip``)."""
        n = self.active
        for _ in range(MOST_SKIPPED):
            if n < self.low:
                return self.active - MOST_SKIPPED
            if self.band(n).x:
                break
            n -= 1
        return n

    def deposit(self, amount: int, first: int, last: int) -> Ints:
        """Collateral (native) spread evenly over bands that hold no borrowed token; the user's shares of each
        (``deposit_range``). The first gets what is left over; shares are rounded down.
        """
        count, total = last - first + 1, amount * self.terms.collateral_scale
        each = total // count
        if count > MOST_BANDS or each <= 100:
            raise AmmReverts("too little for so many bands")
        active = self.active
        for place in range(MOST_SKIPPED + 1):
            if first > active:
                break
            if self.band(active).x or place == MOST_SKIPPED:
                raise AmmReverts("a deposit below the current band")
            active -= 1
        shares, filled = [], {}
        for n in range(first, last + 1):
            band, y = self.band(n), each if n != first else total - each * (count - 1)
            if band.x:
                raise AmmReverts("a band with borrowed tokens in it")
            share = (band.shares + DEAD_SHARES) * y // (band.y + 1)
            if not share:
                raise AmmReverts("too little for a share")
            shares.append(share)
            filled[n] = Band(0, band.y + y, band.shares + share)
        self.bands.update(filled)
        self.active, self.low, self.high = active, min(self.low, first), max(self.high, last)
        return tuple(shares)

    def withdraw(self, shares: Sequence[int], first: int, part: int) -> tuple[int, int, Ints]:
        """A part (wad) of a user's shares leaves: native x and y that it gives, both rounded down, and the shares left
        (``withdraw``). What the last shares of a band leave behind is the administrators'.
        """
        if not shares:
            raise AmmReverts("no deposits")
        terms, old_high = self.terms, self.high
        low, high = self.low, self.high if terms.revision < RECENT_BANDS else first - 1
        total_x = total_y = 0
        left = []
        for n, share in enumerate(shares, first):
            band, gone = self.band(n), part * share // WAD
            left.append(share - gone)
            dx, dy = ((held + 1) * gone // (band.shares + DEAD_SHARES) for held in (band.x, band.y))
            x, y, kept = band.x - dx, band.y - dy, band.shares - gone
            if x < 0 or y < 0:
                raise AmmReverts("more than the band holds")
            if not kept:
                self.kept_x += x // terms.borrowed_scale
                self.kept_y += y // terms.collateral_scale
                x = y = 0
            if n == low and not x and not y:
                low += 1
            if x or y:
                high = n
            self._put(n, Band(x, y, kept))
            total_x, total_y = total_x + dx, total_y + dy
        self.low = low
        if old_high <= first + len(shares) - 1:
            self.high = high
        return total_x // terms.borrowed_scale, total_y // terms.collateral_scale, tuple(left) if part < WAD else ()

    def _put(self, n: int, band: Band) -> None:
        if band == NOTHING:
            self.bands.pop(n, None)
        else:
            self.bands[n] = band

    # -- exchanges -----------------------------------------------------------------------------------------------------

    def trade(self, oracle: tuple[int, int], time: int, *, pump: bool, paid: int = 0, wanted: int = 0) -> Trade:
        """What an exchange comes to (``calc_swap_out``, or ``calc_swap_in`` where an amount out is wanted).

        Args:
            oracle: price and least fee as ``limited`` has them.
            pump: borrowed tokens in, collateral out, from the active band upwards; else the other way.
            paid, wanted: native; one of them.
        """
        terms, a = self.terms, self.terms.amplification
        less, price = a - 1, oracle[0]
        scales = (terms.borrowed_scale, terms.collateral_scale)[:: 1 if pump else -1]
        left = wanted * scales[1] if wanted else paid * scales[0]
        exact_out, n, edge = bool(wanted), self.active, self.high if pump else self.low
        up, fee = self.up(n, time), max(self.fee, oracle[1])
        x, y = self.band(n).x, self.band(n).y
        ins: list[int] = []
        first, rest, spent, got, kept = n, 0, 0, 0, 0
        for turn in range(MOST_BANDS + MOST_SKIPPED):
            asked, f, g, invariant = fee, 0, 0, 0
            if x or y:
                if not ins:
                    first = n
                y0 = y0_down(x, y, price, up, a)
                f, g = a * y0 * price // up * price // WAD, less * y0 * up // price
                invariant = (f + x) * (g + y)
                if terms.revision >= DISTANCE_FEES:
                    asked = max(distance_fee_down(price, up, a), fee)
            gross = WAD**2 // (WAD - min(asked, WAD - 1))
            if ins or x or y:
                ins.append(x if pump else y)
            # of what comes in (own side, its virtual part) and what goes out
            near, far, own, other = (f, g, x, y) if pump else (g, f, y, x)
            if other and far:
                if exact_out and other >= left:
                    rest = other - left
                    net = invariant // (far + rest) - near - own
                    cost = net * gross // WAD
                    share = (cost - net) * self.admin_fee // WAD
                    spent, got, kept = spent + cost, wanted * scales[1], kept + share
                    ins[-1] = own + cost - share
                    break
                net = invariant // far - near - own
                if net < 0:
                    raise AmmReverts("an invariant that does not hold")
                cost = net * gross // WAD
                if not exact_out and cost >= left:
                    net = left * WAD // gross
                    rest = min(invariant // (near + own + net) - far + 1, other)
                    share = (left - net) * self.admin_fee // WAD
                    ins[-1] = own + left - share
                    spent, got, kept = paid * scales[0], got + other - rest, kept + share
                    break
                cost = max(cost, 1)
                share = (cost - net) * self.admin_fee // WAD
                left -= other if exact_out else cost
                ins[-1] = own + cost - share
                spent, got, kept = spent + cost, got + other, kept + share
            if turn == MOST_BANDS + MOST_SKIPPED - 1 or n == edge or len(ins) == MOST_BANDS:
                break
            ratio = up * WAD // price
            if ratio < WAD**2 // terms.farthest if pump else ratio > terms.farthest:
                break
            if pump:
                n, up = n + 1, up * less // a
                x, y = 0, self.band(n).y
            else:
                n, up = n - 1, up * a // less
                x, y = self.band(n).x, 0
        step = 1 if pump else -1
        bands = {}
        for place, inside in enumerate(ins):
            at = first + step * place
            outside = rest if at == n else 0
            bands[at] = (inside, outside) if pump else (outside, inside)
        return Trade(-(-spent // scales[0]), got // scales[1], kept // scales[0], bands, n)

    def exchange(self, price: int, time: int, *, pump: bool, paid: int = 0, wanted: int = 0) -> Trade:
        """Makes an exchange at an oracle's price (``_exchange``); one that gives nothing for nothing leaves only the
        oracle's price behind.
        """
        oracle = self.limited(price, time)
        self.price_time, self.old_price, self.old_fee = time, *oracle
        done = self.trade(oracle, time, pump=pump, paid=paid, wanted=wanted)
        if not done.paid or not done.bought:
            return Trade(0, 0, 0, {}, self.active)
        if pump:
            self.kept_x += done.kept
        else:
            self.kept_y += done.kept
        for n, (x, y) in done.bands.items():
            self._put(n, Band(x, y, self.band(n).shares))
        self.active = done.active
        return done

    def amount_for_price(self, target: int, oracle: tuple[int, int], time: int) -> tuple[int, bool]:
        """What has to be paid, native and rounded up, so that the AMM's own price is ``target``, and whether in
        borrowed tokens (``get_amount_for_price``).
        """
        terms, a, price = self.terms, self.terms.amplification, oracle[0]
        less, n = a - 1, self.active
        up = self.up(n, time)
        low = current_edge_down(price, up)
        high = low * a**2 // less**2
        pump, amount, seen = target >= self._price_of(self.band(n), price, up), 0, 0
        fee = max(self.fee, oracle[1])
        for _ in range(MOST_BANDS + MOST_SKIPPED):
            band, asked, f, g, invariant = self.band(n), fee, 0, 0, 0
            holds = bool(band.x or band.y)
            if holds:
                y0 = y0_down(band.x, band.y, price, up, a)
                f, g = a * y0 * price // up * price // WAD, less * y0 * up // price
                invariant = (f + band.x) * (g + band.y)
                seen = max(seen, 1)
                if terms.revision >= DISTANCE_FEES:
                    asked = max(distance_fee_down(price, up, a), fee)
            gross = WAD**2 // (WAD - min(asked, WAD - 1)) if terms.revision >= DISTANCE_FEES else WAD
            if low <= target <= high:
                if holds:
                    y = max(isqrt(invariant * WAD // target), g) - g
                    x = max(invariant // (g + y), f) - f
                    amount += (max(x, band.x) - band.x if pump else max(y, band.y) - band.y) * gross // WAD
                break
            if holds:
                net = invariant // g - f - band.x if pump else invariant // f - g - band.y
                amount += net * gross // WAD
            ratio = up * WAD // price
            if n == (self.high if pump else self.low) or seen == MOST_BANDS:
                break
            if ratio < WAD**2 // terms.farthest if pump else ratio > terms.farthest:
                break
            if pump:
                n, low, high, up = n + 1, high, high * a**2 // less**2, up * less // a
            else:
                n, high, low, up = n - 1, low, low * less**2 // a**2, up * a // less
            seen += bool(seen)
        if terms.revision < DISTANCE_FEES:
            amount = amount * WAD // (WAD - min(fee, WAD - 1))
        scale = terms.borrowed_scale if pump else terms.collateral_scale
        return -(-amount // scale), pump

    # -- what a user has -----------------------------------------------------------------------------------------------

    def held_down(self, shares: Sequence[int], first: int) -> tuple[int, int]:
        """Native x and y behind a user's shares now (``get_sum_xy``)."""
        total_x = total_y = 0
        for n, share in enumerate(shares, first):
            band = self.band(n)
            total_x += (band.x + 1) * share // (band.shares + DEAD_SHARES)
            total_y += (band.y + 1) * share // (band.shares + DEAD_SHARES)
        return total_x // self.terms.borrowed_scale, total_y // self.terms.collateral_scale

    def worth_down(self, shares: Sequence[int], first: int, price: int, time: int, *, in_y: bool = False) -> int:
        """Borrowed tokens (native) that a user's bands come to if the price falls through them slowly, traded at the
        oracle's price all the way; or collateral, if it rises (``get_xy_up``: ``get_x_down``, ``get_y_up``).
        ``price``: as ``limited`` has it.
        """
        terms, a, down, total = self.terms, self.terms.amplification, self.up(first, time), 0
        less = a - 1
        for n, share in enumerate(shares, first):
            band, up = self.band(n), down
            down = down * less // a
            x, y = band.x if n <= self.active else 0, band.y if n >= self.active else 0
            if not (x or y) or not band.shares or not share:
                continue
            parts = band.shares + DEAD_SHARES
            if not (x and y) and not down <= price <= up:
                middle = price**2 // down * price
                middle = middle // up if terms.revision >= RECENT_BANDS else middle // down * less // a
                if price > up:
                    all_y = y or x * WAD // middle
                    value = all_y if in_y else all_y * up // terms.sqrt_ratio
                else:
                    all_x = x or y * middle // WAD
                    value = all_x * terms.sqrt_ratio // up if in_y else all_x
                total += value * share // parts
                continue
            y0 = y0_down(x, y, price, up, a)
            f, g = a * y0 * price // up * price // WAD, less * y0 * up // price
            invariant = (f + x) * (g + y)
            if price > up:
                there = max(invariant // f, g) - g
                value = there if in_y else there * up // terms.sqrt_ratio
            elif price < down:
                there = max(invariant // g, f) - f
                value = there * terms.sqrt_ratio // up if in_y else there
            else:
                if terms.revision >= RECENT_BANDS:
                    some_y = a * y0 * (price - down) // price
                else:
                    some_y = max(isqrt(invariant * WAD // price), g) - g
                some_x = max(invariant // (g + some_y), f) - f
                if in_y:
                    value = some_y + some_x * WAD // isqrt(up * price)
                else:
                    value = some_x + some_y * isqrt(down * price) // WAD
            total += value * share // parts
        return total // (terms.collateral_scale if in_y else terms.borrowed_scale)
