"""When a vault may be liquidated and what a liquidation takes from it, for each version of the liquidation contracts.

Which version is in force is data (``liquidation_system``), never a block number. Amounts: ink and lots wad, art wad,
rate ray, debts rad.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.protocols.maker.math import rdiv_down, rmul_down
from backtest.protocols.maker.params import CAT_1_0, CAT_1_1, DOG_2_0
from backtest.units import RAY, WAD

CONTRACTS = {CAT_1_0: "Cat 1.0", CAT_1_1: "Cat 1.1/1.2", DOG_2_0: "Dog 2.0"}


def spot_down(price: int, par: int, ratio: int) -> int:
    """Ray: the debt that one unit of collateral may carry. ``price`` wad, as the price feed says it; ``par`` and
    ``ratio`` ray.

    dss ``src/spot.sol`` ``poke``: rdiv(rdiv(val * 1e9, par), mat).
    """
    return rdiv_down(rdiv_down(price * 10**9, par), ratio)


def feed_down(price: int, par: int) -> int:
    """Ray: the price of one unit of collateral in DAI. dss ``src/clip.sol`` ``getFeedPrice``: rdiv(val * 1e9, par)."""
    return rdiv_down(price * 10**9, par)


def is_unsafe(ink: int, art: int, rate: int, spot: int) -> bool:
    """dss ``src/cat.sol`` ``bite`` and ``src/dog.sol`` ``bark`` ("not-unsafe"): spot > 0 and ink * spot < art *
    rate.
    """
    return spot > 0 and ink * spot < art * rate


def least_safe_price_up(ink: int, art: int, rate: int, par: int, ratio: int) -> int:
    """Wad: the least price of the price feed at which ``ink`` carries ``art``, so that neither "not-safe" (dss
    ``src/vat.sol`` ``frob``: tab <= ink * spot) nor a bite or bark can be: the inverse of ``spot_down``, exact. ``ink``
    and ``art`` above zero.
    """
    spot = -(-art * rate // ink)
    quotient = -(-spot * ratio // RAY)
    return -(-quotient * par // (RAY * 10**9))


@dataclass(frozen=True, slots=True)
class Seizure:
    """What leaves a vault for one auction: ``dink`` and ``dart`` wad; ``due`` (debt) and ``tab`` (with penalty) rad."""

    dink: int
    dart: int
    due: int
    tab: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds one auction. ``lump`` collateral wad, ``chop`` wad, the others rad; ``room`` is what all auctions
    together still may raise (None: no limit known).
    """

    chop: int
    dust: int = 0
    lump: int = 0
    dunk: int = 0
    room: int | None = None


def seizure(system: int, ink: int, art: int, rate: int, limits: Limits) -> Seizure | str:
    """What a bite or bark of an unsafe vault takes, or the contract's error in words."""
    if not limits.chop:
        return "no penalty is set"  # a division by zero there
    if system == CAT_1_0:
        return _cat_1_0(ink, art, rate, limits)
    return _cat_1_1(ink, art, rate, limits) if system == CAT_1_1 else _dog(ink, art, rate, limits)


def _cat_1_0(ink: int, art: int, rate: int, limits: Limits) -> Seizure | str:
    """dss 1.0.2 ``src/cat.sol`` ``bite``: at most ``lump`` of collateral, and its share of the debt; ``chop`` was a ray
    then.
    """
    if not ink:
        return "no collateral"
    lot = min(ink, limits.lump)
    dart = min(art, lot * art // ink)
    due = dart * rate
    return Seizure(lot, dart, due, rmul_down(due, limits.chop * (RAY // WAD)))


def _cat_1_1(ink: int, art: int, rate: int, limits: Limits) -> Seizure | str:
    """dss 1.1.0 ``src/cat.sol`` ``bite``: debt for at most ``dunk`` with penalty, and no more than the box has room
    for.
    """
    most = limits.dunk
    if limits.room is not None:
        if limits.room <= 0 or limits.room < limits.dust:
            return "liquidation limit hit"
        most = min(most, limits.room)
    dart = min(art, most * WAD // rate // limits.chop)
    dink = min(ink, ink * dart // art)
    if dart <= 0 or dink <= 0:
        return "null auction"
    due = dart * rate
    return Seizure(dink, dart, due, due * limits.chop // WAD)


def _dog(ink: int, art: int, rate: int, limits: Limits) -> Seizure | str:
    """dss 2.0 ``src/dog.sol`` ``bark``: all of the debt as far as the hole has room; a rest below ``dust`` goes
    along.
    """
    dart = art
    if limits.room is not None:
        if limits.room <= 0:
            return "liquidation limit hit"
        dart = min(art, limits.room * WAD // rate // limits.chop)
    if art > dart:
        if (art - dart) * rate < limits.dust:
            dart = art
        elif dart * rate < limits.dust:
            return "dusty auction from partial liquidation"
    dink = ink * dart // art
    if dink <= 0:
        return "null auction"
    due = dart * rate
    return Seizure(dink, dart, due, due * limits.chop // WAD)


def part(ink: int, art: int, rate: int, chop: int, dart: int) -> Seizure:
    """A seizure of a given share of the debt: what the contracts took where history says how much (all versions: dink =
    ink * dart / art).
    """
    due = dart * rate
    return Seizure(ink * dart // art, dart, due, due * chop // WAD)
