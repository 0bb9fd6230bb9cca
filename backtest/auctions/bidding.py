"""English auctions with few bidders: who bids what, given what the lot is worth to each that is there. Pure, integers
only.

Bidders there see each other. They raise until all but one have enough, so that the one to whom the lot is worth most
bids what the second would still have given, or the least that the auction accepts, whichever is more. Alone that is the
least: the first ``tend`` of makerdao/dss ``src/flip.sol`` needs a bid above zero and nothing else (``beg`` times no bid
is nothing), which is one part in 10^45 of a token of 18 decimals.
Whoever holds the standing bid does not outbid itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backtest.auctions.english import EnglishAuction
from backtest.units import BPS, RAY, WAD


@dataclass(frozen=True, slots=True)
class Bid:
    """What one searcher did about one opportunity at one moment, base units.

    ``value`` is what the opportunity leaves it before the bid; ``paid`` what it paid in the end: its bid, or gas of a
    reverted call.
    """

    searcher: str
    value: int
    bid: int
    paid: int
    won: bool


@dataclass(frozen=True, slots=True)
class Bidder:
    """One that can bid now, base units: what its calls cost and it wants to earn at least (``costs``), and how much it
    can pay (None: any). ``margin``: what it wants to earn on top, basis points of what it pays.
    """

    name: str
    costs: int
    margin: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Worth:
    """What a lot is worth to one bidder: ``bid`` (the tab at most) for all of it; ``lot``, the least of it for the
    whole tab, or None.
    """

    name: str
    bid: int
    lot: int | None = None


@dataclass(frozen=True, slots=True)
class Values:
    """What collateral sells for and debt costs, base units a ``unit`` of native ones. Bids and tabs are native units of
    the debt times a ray, lots native units of the collateral.
    """

    price: int
    unit: int
    debt_price: int
    debt_unit: int


def worth_to(bidder: Bidder, auction: EnglishAuction, proceeds: int, values: Values) -> Worth:
    """What a lot is worth that sells for ``proceeds`` (base units)."""
    most = max(0, proceeds - bidder.costs) * BPS // (BPS + bidder.margin)
    if bidder.most is not None:
        most = min(most, bidder.most)
    bid = most * RAY * values.debt_unit // values.debt_price
    if bid < auction.tab:
        return Worth(bidder.name, bid)
    pays = -(-auction.tab * values.debt_price // (RAY * values.debt_unit))
    needed = pays + -(-pays * bidder.margin // BPS) + bidder.costs
    return Worth(bidder.name, auction.tab, min(auction.lot, -(-needed * values.unit // values.price)))


def least_bid_up(auction: EnglishAuction, beg: int) -> int:
    """The least that ``tend`` accepts now."""
    return min(auction.tab, max(auction.bid + 1, -(-beg * auction.bid // WAD)))


def largest_lot_down(auction: EnglishAuction, beg: int) -> int:
    """The largest lot that ``dent`` accepts now."""
    return min(auction.lot - 1, auction.lot * WAD // beg)


def raised(auction: EnglishAuction, holder: str | None, there: Sequence[Worth], beg: int) -> tuple[str, int] | None:
    """Who has the standing bid once bidding comes to rest, and what it is; None where nobody moves."""
    least = least_bid_up(auction, beg)
    able = sorted((worth for worth in there if worth.bid >= least), key=lambda worth: -worth.bid)
    if auction.bid >= auction.tab or not able or (able[0].name == holder and len(able) == 1):
        return None
    return able[0].name, max(least, able[1].bid if len(able) > 1 else 0)


def lowered(auction: EnglishAuction, holder: str | None, there: Sequence[Worth], beg: int) -> tuple[str, int] | None:
    """The same once the bid is the tab: who takes the least lot, and what that is."""
    largest = largest_lot_down(auction, beg)
    able = sorted(
        ((worth.lot, worth.name) for worth in there if worth.lot is not None and worth.lot <= largest),
        key=lambda each: each[0],
    )
    if not able or (able[0][1] == holder and len(able) == 1):
        return None
    return able[0][1], min(largest, able[1][0] if len(able) > 1 else largest)


@dataclass(frozen=True, slots=True)
class Better:
    """The next bid: ``tend`` asks for a higher one, ``dent`` for a smaller lot at the whole tab. ``bids``: what
    everybody there did.
    """

    step: Literal["tend", "dent"]
    name: str
    asked: int
    bids: tuple[Bid, ...]


def better_bid(
    auction: EnglishAuction, holder: str | None, bidders: Sequence[Bidder], beg: int, proceeds: int, values: Values
) -> Better | None:
    """Where bidding among those who are there comes to rest; None where the standing bid is that."""
    there = [(bidder, worth_to(bidder, auction, proceeds, values)) for bidder in bidders]
    dents, worths = auction.bid == auction.tab, [worth for _, worth in there]
    found = lowered(auction, holder, worths, beg) if dents else raised(auction, holder, worths, beg)
    if found is None:
        return None
    name, asked = found
    return Better(
        "dent" if dents else "tend", name, asked, _bids(name, auction.tab if dents else asked, there, proceeds, values)
    )


def _bids(
    winner: str, paid: int, there: Sequence[tuple[Bidder, Worth]], proceeds: int, values: Values
) -> tuple[Bid, ...]:
    """Base units rounded down: the winner bids ``paid``, the others what they had gone up to."""
    return tuple(
        Bid(
            bidder.name,
            max(0, proceeds - bidder.costs),
            bid,
            bid if bidder.name == winner else 0,
            bidder.name == winner,
        )
        for bidder, worth in there
        for bid in (min(worth.bid, paid) * values.debt_price // (RAY * values.debt_unit),)
    )
