"""What a buyer gets in an auction at a discount: prices, the discount at a moment, one purchase. Discounts are what is
paid of a unit of value (0.95e18 for 5 %), wad. Amounts to raise rad, bids wad, the redemption price ray.

Sources: reflexer-labs/geb 1a59f16 ``src/single/CollateralAuctionHouse.sol``
(FixedDiscountCollateralAuctionHouse, IncreasingDiscountCollateralAuctionHouse), and
@opendollar/contracts 0.0.0-e31c2151 ``src/contracts/CollateralAuctionHouse.sol``.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.protocols.vaults.math import rdiv_down, rmul_down, wmul_down
from backtest.units import RAY, WAD, rpow_half_up
from backtest.words import rule


@rule
def within_down(price: int, of: int, floor: int, ceiling: int) -> int:
    """``price``, but not below ``floor`` where it is below ``of``, nor else above ``ceiling``."""
    return max(price, floor) if price < of else min(price, ceiling)


@rule
def base_price_down(fsm: int, median: int, lower: int, upper: int) -> int:
    """Wad: ``getFinalBaseCollateralPrice``: the median, as far as it may deviate from the delayed price; that one
    without a median (0).
    """
    return within_down(median or fsm, fsm, wmul_down(fsm, lower), wmul_down(fsm, 2 * WAD - upper))


@rule
def coin_price_down(redemption: int, market: int, lower: int, upper: int, least: int) -> int:
    """Ray: ``getCollateralFSMAndFinalSystemCoinPrices``: the coin's market price (0: none) as far as it may deviate
    from the redemption price; a deviation below ``least`` counts as none.
    """
    if not market:
        return redemption
    floor, ceiling = wmul_down(redemption, lower), wmul_down(redemption, 2 * WAD - upper)
    floor = floor if floor <= wmul_down(redemption, least) else redemption
    ceiling = ceiling if ceiling >= wmul_down(redemption, 2 * WAD - least) else redemption
    return within_down(market, redemption, floor, ceiling)


@rule
def discounted_down(collateral: int, coin: int, discount: int) -> int:
    """Wad: coins for a unit of collateral; ``collateral`` wad, ``coin`` ray. GEB ``getDiscountedCollateralPrice``."""
    return wmul_down(rdiv_down(collateral, coin), discount)


@rule
def discounted_first_down(collateral: int, coin: int, discount: int) -> int:
    """The same of Open Dollar, ``_getBoughtCollateral``: the discount comes first."""
    return rdiv_down(wmul_down(collateral, discount), coin)


def next_discount_down(current: int, most: int, rate: int, updated: int, deadline: int, now: int) -> int:
    """Wad: IncreasingDiscountCollateralAuctionHouse ``getNextCurrentDiscount``: from where it was last updated on by
    ``rate`` a second, down to ``most``; at once from the deadline on.
    """
    if now < deadline and current > most:
        return max(rmul_down(rpow_half_up(rate, now - updated), current), most)
    return most if (not current and most) or (now >= deadline and current != most) else current


def discount_since_down(least: int, most: int, rate: int, seconds: int) -> int:
    """Wad: Open Dollar ``_getAuctionDiscount``: from ``least`` by ``rate`` a second, down to ``most``."""
    return max(rmul_down(rpow_half_up(rate, seconds), least), most)


@dataclass(frozen=True, slots=True)
class Purchase:
    """``paid`` coins (wad) for ``bought`` of the lot; ``left`` (wad) and ``raising`` (rad) remain, both 0 where the
    auction is over; ``freed`` rad is to be raised no more; ``back`` goes to the owner.
    """

    paid: int
    bought: int
    left: int
    raising: int
    freed: int
    back: int = 0


def _adjusted_up(raising: int, bid: int) -> int:
    """Wad: ``getAdjustedBid``: no more than what is to be raised, and one unit above it."""
    return raising // RAY + 1 if bid * RAY > raising else bid


def buy(left: int, raising: int, bid: int, price: int, minimum: int) -> Purchase | str:
    """``buyCollateral`` of both GEB houses, or the contract's error in words. ``price`` wad, above zero.

    Who bids more than the rest of the lot is worth pays it all the same.
    """
    if not left or not raising:
        return "inexistent auction"
    if not bid or bid < minimum:
        return "invalid bid"
    paid = _adjusted_up(raising, bid)
    bought = min(paid * WAD // price, left)
    if not bought:
        return "null bought amount"
    rest = max(0, raising - paid * RAY)
    if 0 < rest < RAY:
        return "invalid left to raise"
    if not rest or bought == left:
        return Purchase(paid, bought, 0, 0, raising, left - bought)
    return Purchase(paid, bought, left - bought, rest, paid * RAY)


def buy_readjusted(left: int, raising: int, bid: int, price: int, minimum: int) -> Purchase | str:
    """``buyCollateral`` of Open Dollar, or the contract's error in words: a bid beyond the rest of the lot is cut to
    what that costs (rounded down), and less than the minimum bid may not be left to raise.
    """
    if not bid or bid < minimum:
        return "invalid bid"
    if not left or not raising:
        return "inexistent auction"
    paid = _adjusted_up(raising, bid)
    bought = paid * WAD // price
    if bought > left:
        paid, bought = paid * left // bought, left
    if not bought:
        return "null bought amount"
    if paid * RAY >= raising or bought >= left:
        return Purchase(paid, bought, 0, 0, raising, left - bought)
    if raising - paid * RAY < minimum * RAY:
        return "invalid left to raise"
    return Purchase(paid, bought, left - bought, raising - paid * RAY, paid * RAY)


def whole_bid_up(left: int, raising: int, price: int, minimum: int) -> int:
    """Wad: the least bid that ends an auction: for all that is to be raised, or for all of the lot where that costs
    less.
    """
    every, lot = -(-raising // RAY), -(-left * price // WAD)
    if lot < every and raising - lot * RAY < RAY:  # less than a unit may not be left
        lot = every
    return max(min(every, lot), minimum, 1)
