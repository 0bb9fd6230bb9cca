"""When a vault may be liquidated and what a liquidation takes from it, for each version of the liquidation contracts.

Which version is in force is data (``liquidation_system``), never a block number. Amounts: ink and lots wad, art wad,
rate ray, debts rad.
"""

from __future__ import annotations

from collections.abc import Mapping

from backtest.protocols.maker.params import CAT_1_0, CAT_1_1, DOG_2_0
from backtest.protocols.vaults.math import rdiv_down, rmul_down
from backtest.protocols.vaults.rules import (
    AuctionLimits,
    Seizure,
    affordable_down,
    carried_down,
    with_penalty,
)
from backtest.units import RAY, WAD
from backtest.words import rule

_RAY_PER_WAD = RAY // WAD

CONTRACTS = {CAT_1_0: "Cat 1.0", CAT_1_1: "Cat 1.1/1.2", DOG_2_0: "Dog 2.0"}


@rule
def spot_down(price: int, par: int, ratio: int) -> int:
    """Ray: the debt that one unit of collateral may carry. ``price`` wad, as the price feed says it; ``par`` and
    ``ratio`` ray.

    dss ``src/spot.sol`` ``poke``: rdiv(rdiv(val * 1e9, par), mat).
    """
    return carried_down(price * 10**9, par, ratio)


@rule
def feed_down(price: int, par: int) -> int:
    """Ray: the price of one unit of collateral in DAI. dss ``src/clip.sol`` ``getFeedPrice``: rdiv(val * 1e9, par)."""
    return rdiv_down(price * 10**9, par)


Taken = tuple[int, int, int, int, int]
"""The numbers of a seizure, and why there is none: 0, or a key of ``REASONS``."""

NO_PENALTY, NO_COLLATERAL, NO_ROOM, NOTHING, LEAVES_DUST = range(1, 6)
REASONS: Mapping[int, str] = {
    NO_PENALTY: "no penalty is set",  # a division by zero there
    NO_COLLATERAL: "no collateral",
    NO_ROOM: "liquidation limit hit",
    NOTHING: "null auction",
    LEAVES_DUST: "dusty auction from partial liquidation",
}


def seizure(system: int, ink: int, art: int, rate: int, limits: AuctionLimits) -> Seizure | str:
    """What a bite or bark of an unsafe vault takes, or the contract's error in words."""
    room = 0 if limits.room is None else limits.room
    dink, dart, due, tab, refused = taken(
        system, ink, art, rate, limits.chop, limits.dust, limits.lump, limits.dunk, room, limits.room is not None
    )
    return REASONS[refused] if refused else Seizure(dink, dart, due, tab)


@rule
def taken(
    system: int, ink: int, art: int, rate: int, chop: int, dust: int, lump: int, dunk: int, room: int, limited: bool
) -> Taken:
    """See ``seizure``; arguments as in ``AuctionLimits``, ``room`` where it is ``limited``."""
    if not chop:
        return _none(NO_PENALTY)
    if system == CAT_1_0:
        return _cat_1_0(ink, art, rate, chop, lump)
    if system == CAT_1_1:
        return _cat_1_1(ink, art, rate, chop, dust, dunk, room, limited)
    return _dog(ink, art, rate, chop, dust, room, limited)


def _none(refused: int) -> Taken:
    return 0, 0, 0, 0, refused


def _cat_1_0(ink: int, art: int, rate: int, chop: int, lump: int) -> Taken:
    """dss 1.0.2 ``src/cat.sol`` ``bite``: at most ``lump`` of collateral, and its share of the debt; ``chop`` was a ray
    then.
    """
    if not ink:
        return _none(NO_COLLATERAL)
    lot = min(ink, lump)
    dart = min(art, lot * art // ink)
    due = dart * rate
    return lot, dart, due, rmul_down(due, chop * _RAY_PER_WAD), 0


def _cat_1_1(ink: int, art: int, rate: int, chop: int, dust: int, dunk: int, room: int, limited: bool) -> Taken:
    """dss 1.1.0 ``src/cat.sol`` ``bite``: debt for at most ``dunk`` with penalty, and no more than the box has room
    for.
    """
    most = dunk
    if limited:
        if room <= 0 or room < dust:
            return _none(NO_ROOM)
        most = min(most, room)
    dart = min(art, affordable_down(most, rate, chop))
    dink = min(ink, ink * dart // art)
    return _of(dink, dart, rate, chop) if dart > 0 and dink > 0 else _none(NOTHING)


def _dog(ink: int, art: int, rate: int, chop: int, dust: int, room: int, limited: bool) -> Taken:
    """dss 2.0 ``src/dog.sol`` ``bark``: all of the debt as far as the hole has room; a rest below ``dust`` goes
    along.
    """
    dart = art
    if limited:
        if room <= 0:
            return _none(NO_ROOM)
        dart = min(art, affordable_down(room, rate, chop))
    if art > dart:
        if (art - dart) * rate < dust:
            dart = art
        elif dart * rate < dust:
            return _none(LEAVES_DUST)
    dink = ink * dart // art
    return _of(dink, dart, rate, chop) if dink > 0 else _none(NOTHING)


def _of(dink: int, dart: int, rate: int, chop: int) -> Taken:
    dink, dart, due, tab = with_penalty(dink, dart, rate, chop)
    return dink, dart, due, tab, 0
