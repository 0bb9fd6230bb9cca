"""What a liquidation of a SAFE takes. When a SAFE is unsafe is ``vaults.rules``; how its auction sells is ``house``.

Source: reflexer-labs/geb 1a59f16 ``src/single/``; @opendollar/contracts 0.0.0-e31c2151 ``src/contracts/`` agrees.
"""

from __future__ import annotations

from collections.abc import Mapping

from backtest.protocols.vaults.math import rmul_down
from backtest.protocols.vaults.rules import AuctionLimits, Seizure, affordable_down, with_penalty
from backtest.units import RAY, rpow_half_up
from backtest.words import rule

NO_ROOM, NO_PENALTY, NOTHING, LEAVES_DUST, NO_COLLATERAL, DUSTY = range(1, 7)
REASONS: Mapping[int, str] = {
    NO_ROOM: "liquidation limit hit",
    NO_PENALTY: "no penalty is set",  # a division by zero there
    NOTHING: "null auction",
    LEAVES_DUST: "dusty safe",
    NO_COLLATERAL: "null collateral to sell",
    DUSTY: "dusty auction",
}


def redemption_price_down(price: int, rate: int, seconds: int) -> int:
    """Ray: the redemption price so long after it was ``price``; never zero (``OracleRelayer.sol``
    ``updateRedemptionPrice``). ``rate`` ray a second.
    """
    return max(1, rmul_down(rpow_half_up(rate, seconds), price)) if seconds else price


def seizure(ink: int, art: int, rate: int, limits: AuctionLimits) -> Seizure | str:
    """What ``liquidateSAFE`` of an unsafe SAFE takes, or the contract's error in words."""
    room = 0 if limits.room is None else limits.room
    dink, dart, due, tab, refused = taken(
        ink, art, rate, limits.chop, limits.dust, limits.dunk, room, limits.room is not None
    )
    return REASONS[refused] if refused else Seizure(dink, dart, due, tab)


@rule
def taken(
    ink: int, art: int, rate: int, chop: int, dust: int, dunk: int, room: int, limited: bool
) -> tuple[int, int, int, int, int]:
    """The numbers of a seizure, and why there is none: 0, or a key of ``REASONS``. Arguments as in ``AuctionLimits``,
    ``room`` where it is ``limited``.

    ``LiquidationEngine.sol`` ``liquidateSAFE``: debt for at most ``dunk`` with penalty, and no more than there is room
    for; what is left owes nothing or the debt floor at least. ``CollateralAuctionHouse.sol`` ``startAuction``: one unit
    at least is to be raised.
    """
    if limited and (room <= 0 or room < dust):
        return 0, 0, 0, 0, NO_ROOM
    if not chop:
        return 0, 0, 0, 0, NO_PENALTY
    most = min(dunk, room) if limited else dunk
    dart = min(art, affordable_down(most, rate, chop))
    if dart <= 0:
        return 0, 0, 0, 0, NOTHING
    if dart != art and (art - dart) * rate < dust:
        return 0, 0, 0, 0, LEAVES_DUST
    dink = min(ink, ink * dart // art)
    if dink <= 0:
        return 0, 0, 0, 0, NO_COLLATERAL
    dink, dart, due, tab = with_penalty(dink, dart, rate, chop)
    return (dink, dart, due, tab, 0) if tab >= RAY else (0, 0, 0, 0, DUSTY)
