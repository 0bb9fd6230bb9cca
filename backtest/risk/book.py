"""How far every account of a book is from liquidation, from liquidations that make it worse, and from insolvency; and
what is insolvent already. Exact: the protocol's own rules say who may be liquidated and what a liquidation takes. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, Literal

from backtest.errors import UserError
from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.protocols.interface import AccountView
from backtest.protocols.mechanism import Opportunity, ProtocolSpread
from backtest.replay.mechanisms import mechanism_of
from backtest.replay.what_if.impact import views_of
from backtest.replay.what_if.proposal import BookStanding, moved, standings
from backtest.units import BPS, WAD

Direction = Mapping[AssetId, int]
"""How prices move together: where the first falls by x, each falls by x times its weight, basis points; below zero it
rises.
"""
Kind = Literal["sound", "type I", "type II", "dust"]
FARTHEST = BPS - 1
"""Of a fall, basis points: a price of nothing is none."""
HALF = 5_000


@dataclass(frozen=True, slots=True)
class AccountRisk:
    """An account with debt; base units. Distances are the least falls along a direction, whole basis points, from
    which on it holds (0: it does now); None: no fall brings it.

    Attributes:
        health: wad.
        bonus: what the liquidation that pays best takes for each unit that it repays, wad; None where that is not
            settled at once, or no fall leads to one.
        liquidation: it may be liquidated.
        toxicity: debt over collateral is above 1 / ((1 + i) lambda): repaying leaves it with less behind each unit of
            debt. None too without ``bonus``.
        insolvency: it owes more than its collateral.
        kind: what it is now.
    """

    account: AccountId
    collateral: int
    debt: int
    health: int
    bonus: int | None
    liquidation: int | None
    toxicity: int | None
    insolvency: int | None
    kind: Kind


def moves(direction: Direction, fall: int) -> dict[AssetId, int]:
    """What prices are multiplied with, wad, at a fall along a direction (basis points); rounded down, nothing at
    least.
    """
    return {asset: max(0, WAD * (BPS * BPS - fall * weight) // (BPS * BPS)) for asset, weight in direction.items()}


def farthest(direction: Direction) -> int:
    """The largest fall along a direction that leaves every price something; where none falls, ten times the price."""
    steepest = max(direction.values(), default=0)
    if steepest > 0:
        return (BPS * BPS - 1) // steepest
    return 10 * BPS * BPS // -min((weight for weight in direction.values() if weight), default=-BPS)


def insolvency(collateral: int, debt: int, cost: int | None) -> Kind:
    """What an account is; all base units, ``cost`` that of closing it (None: not known, so that only the first type is
    told).

    Qin et al. 2021 (arXiv 2106.06389): type I owes more than its collateral; type II is solvent, but what is left
    beyond its debt does not pay for closing it. Dust is either of them with no more debt than closing it costs: nobody
    is paid for it whatever the bonus.
    """
    short = collateral < debt
    if not debt or (not short and (cost is None or collateral - debt >= cost)):
        return "sound"
    if cost is not None and debt <= cost:
        return "dust"
    return "type I" if short else "type II"


def toxic_frontier(bonus: int, held: int = 0, depth: int | None = None) -> Fraction:
    """The debt over collateral above which repaying makes an account worse: 1 / ((1 + i) lambda), ``bonus`` (1 + i),
    wad.

    McFarlane 2025 (arXiv 2510.10171): lambda = 1 + 2 c / y where collateral of value c is sold into a constant product
    whose other reserve is y (``held`` and ``depth``, base units); without a depth it is one.
    """
    slip = Fraction(1) if depth is None else 1 + Fraction(2 * held, depth)
    return 1 / (Fraction(bonus, WAD) * slip)


def standings_of(
    book: Book[Any],
    direction: Direction,
    *,
    cost: int | None = None,
    depth: Mapping[AssetId, int] | None = None,
) -> tuple[list[AccountRisk], int]:
    """Every account of a book that owes something, in id order, and how many accounts could not be valued for want of a
    price.

    A distance is found where a line through the book now and after half the fall says it, and then decided by the
    protocol's exact rule at that basis point and the one below. It rests on one crossing along the direction, as where
    collateral and debt are sums of amounts times prices.

    Args:
        direction: which prices fall, and how they move together.
        cost: of closing one account, base units.
        depth: of the pool that a collateral is sold into, its other reserve in base units.

    Raises:
        UserError: a depth that is not positive.
    """
    for asset, reserve in (depth or {}).items():
        if reserve <= 0:
            raise UserError(
                f"a depth of {reserve} for {book.market.label(asset)}", "give a positive one, or leave it out"
            )
    now, most = views_of(book), farthest(direction)
    half = min(HALF, most)
    then = {one.account: one for one in standings(views_of(moved(book, moves(direction, half))))}
    at_once = type(mechanism_of(book.protocol)) is ProtocolSpread
    fallen = cache(lambda fall: moved(book, moves(direction, fall)))
    found = []
    for one in standings(now):
        if one.health is None or not one.debt_base:
            continue
        look = _Look(fallen, one, then[one.account], half, most)
        liquidation = look.least(lambda view: view.health is not None and view.health < WAD, _margin)
        bonus, toxicity = None, None
        if liquidation is not None and at_once:
            bonus, frontier = _bonus(look.at(liquidation), one.account, depth or {}, book)
            if frontier is not None:
                up, down = frontier.numerator, frontier.denominator
                toxicity = look.least(
                    lambda view, up=up, down=down: view.debt_base * down > view.collateral_base * up,  # type: ignore[misc]
                    lambda view, share=float(frontier): view.collateral_base * share - view.debt_base,  # type: ignore[misc]
                )
        found.append(
            AccountRisk(
                account=one.account,
                collateral=one.collateral_base,
                debt=one.debt_base,
                health=one.health,
                bonus=bonus,
                liquidation=liquidation,
                toxicity=toxicity,
                insolvency=look.least(
                    lambda view: view.debt_base > view.collateral_base,
                    lambda view: float(view.collateral_base - view.debt_base),
                ),
                kind=insolvency(one.collateral_base, one.debt_base, cost),
            )
        )
    return found, sum(view is None for view in now.rest.values())


def _margin(one: BookStanding | AccountView) -> float:
    return one.debt_base * ((one.health or 0) / WAD - 1)


class _Look:
    """One account along a direction."""

    def __init__(
        self, at: Callable[[int], Book[Any]], one: BookStanding, half: BookStanding, fall: int, most: int
    ) -> None:
        self.at, self._one, self._half, self._fall, self._most = at, one, half, fall, most
        self._views: dict[int, AccountView] = {}

    def view(self, fall: int) -> AccountView:
        if fall not in self._views:
            book = self.at(fall)
            self._views[fall] = book.protocol.view(book.state, self._one.account, book.prices, book.now)
        return self._views[fall]

    def least(self, holds: Callable[[AccountView], bool], margin: Callable[[Any], float]) -> int | None:
        """The least fall from which on it holds; ``margin`` is about zero there and above before."""
        if holds(self.view(0)):
            return 0
        first, second = margin(self._one), margin(self._half)
        if first <= second and not holds(self.view(self._most)):
            return None
        guess = self._fall * first / (first - second) if first > second else 0.0
        low, high = 0, self._most  # it does not hold at low; at high it does, or nowhere
        near, step = min(max(math.ceil(guess), 1), self._most) if math.isfinite(guess) else self._most, 1
        while near < high and not holds(self.view(near)):
            low, near, step = near, near + step, 2 * step
        high = min(near, high)
        if not holds(self.view(high)):
            return None
        step = 1
        while high - step > low and holds(self.view(high - step)):
            high, step = high - step, 2 * step
        low = max(low, high - step)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(self.view(middle)) else (middle, high)
        return high


def _bonus(
    book: Book[Any], account: AccountId, depth: Mapping[AssetId, int], now: Book[Any]
) -> tuple[int | None, Fraction | None]:
    """What the best-paying liquidation of an account that may be liquidated takes for each unit it repays (wad, up),
    and its toxic frontier, with the collateral valued as it is ``now``.
    """
    offers = _offers(book, account, token=False) or _offers(book, account, token=True)
    if not offers:
        return None, None
    fill = max(offers, key=lambda offer: offer.profit).fill
    pair = fill.order.pair
    taken = (fill.seized + fill.protocol_fee) * book.oracle.get(pair.collateral_asset, 0)
    repaid = fill.repaid * book.oracle.get(pair.debt_asset, 0)
    if not taken or not repaid:
        return None, None
    units = book.units
    bonus = -(-taken * units[pair.debt_asset] * WAD // (repaid * units[pair.collateral_asset]))
    holdings = now.protocol.holdings(now.state, account, now.now)
    held = sum(one.collateral for one in holdings if one.asset == pair.collateral_asset)
    reserve = depth.get(pair.collateral_asset)
    return bonus, toxic_frontier(bonus, now.value_down(pair.collateral_asset, held), reserve)


def _offers(book: Book[Any], account: AccountId, *, token: bool) -> list[Opportunity]:
    """What a liquidator is offered; with ``token`` it takes the deposit token, where the market has not enough of the
    collateral itself.
    """
    found = ProtocolSpread[Any]().opportunities(
        book, account, AccountId(len(book.market.accounts)), receive_collateral_token=token
    )
    return [offer for offer in found if isinstance(offer, Opportunity)]


def debt_within(
    found: Sequence[AccountRisk], of: Callable[[AccountRisk], int | None], falls: Sequence[int]
) -> list[int]:
    """The debt of accounts whose distance is at most each of these falls, base units."""
    known = [(distance, one.debt) for one in found if (distance := of(one)) is not None]
    return [sum(debt for distance, debt in known if distance <= fall) for fall in falls]


@dataclass(frozen=True, slots=True)
class Insolvent:
    """Accounts of one kind: how many, what they owe, and how much of it no collateral stands behind; base units."""

    kind: Kind
    accounts: int
    debt: int
    short: int


def insolvent(found: Sequence[AccountRisk]) -> tuple[Insolvent, ...]:
    """By kind, the sound ones aside."""
    kinds: tuple[Kind, ...] = ("type I", "type II", "dust")
    return tuple(
        Insolvent(
            kind,
            len(own := [one for one in found if one.kind == kind]),
            sum(one.debt for one in own),
            sum(max(0, one.debt - one.collateral) for one in own),
        )
        for kind in kinds
    )
