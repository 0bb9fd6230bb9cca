"""When a vault is unsafe, what it is worth, and what one auction takes of it. Amounts: ink and lots wad, art wad, rate
ray, debts rad.

Sources: makerdao/dss ``src/`` and reflexer-labs/geb 1a59f16 ``src/single/``, whose arithmetic is the same here.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.protocols.vaults.math import rdiv_down
from backtest.units import RAY, WAD, mul_div_down, mul_div_up
from backtest.words import rule


@rule
def carried_down(value: int, par: int, ratio: int) -> int:
    """Ray: the debt that one unit of collateral may carry. All ray: ``value`` the collateral's price, ``par`` what a
    coin of debt is worth, ``ratio`` collateral over debt.

    dss ``src/spot.sol`` ``poke``: rdiv(rdiv(val * 1e9, par), mat); geb ``OracleRelayer.sol`` ``updateCollateralPrice``:
    the same with the redemption price as par.
    """
    return rdiv_down(rdiv_down(value, par), ratio)


@rule
def is_unsafe(ink: int, art: int, rate: int, spot: int) -> bool:
    """dss ``src/cat.sol`` ``bite`` and ``src/dog.sol`` ``bark`` ("not-unsafe"), geb ``LiquidationEngine.sol``
    ``liquidateSAFE`` ("safe-not-unsafe"): spot > 0 and ink * spot < art * rate.
    """
    return spot > 0 and ink * spot < art * rate


def least_safe_value_up(ink: int, art: int, rate: int, par: int, ratio: int) -> int:
    """Ray: the least price of a unit of collateral at which ``ink`` carries ``art``: the inverse of ``carried_down``,
    exact. ``ink`` and ``art`` above zero.
    """
    spot = -(-art * rate // ink)
    quotient = -(-spot * ratio // RAY)
    return -(-quotient * par // RAY)


@rule
def valued(
    ink: int, art: int, rate: int, price: int, unit: int, spot: int, cap: int, par: int
) -> tuple[int, int, int, int]:
    """Collateral, debt (rounded up) and the most that the owner may owe in base units (wad), and health (wad; 0
    without debt): ink * spot / (art * rate), below one exactly where ``is_unsafe``. ``unit``: by what a wad times the
    price is divided; ``cap`` ray: the debt that a unit of collateral may carry after the owner's call.
    """
    debt, carries = art * rate, ink * spot
    worth, power = mul_div_down(ink, price, unit), mul_div_down(ink * cap // RAY, par, RAY)
    if not debt:
        return worth, 0, power, 0
    # debt * par / ray^2, rounded up: in two steps, so that nothing in between is longer than a word
    owed = debt // RAY * par + mul_div_up(debt % RAY, par, RAY)
    return worth, mul_div_up(owed, 1, RAY), power, mul_div_down(carries, WAD, debt)


@dataclass(frozen=True, slots=True)
class Seizure:
    """What leaves a vault for one auction: ``dink`` and ``dart`` wad; ``due`` (debt) and ``tab`` (with penalty) rad."""

    dink: int
    dart: int
    due: int
    tab: int


@dataclass(frozen=True, slots=True)
class AuctionLimits:
    """What bounds one auction. ``lump`` collateral wad, ``chop`` wad, the others rad; ``room`` is what all auctions
    together still may raise (None: no limit known).
    """

    chop: int
    dust: int = 0
    lump: int = 0
    dunk: int = 0
    room: int | None = None


@rule
def affordable_down(limit: int, rate: int, chop: int) -> int:
    """Art whose debt with penalty is ``limit`` (rad) at most.

    dss 1.1.0 ``src/cat.sol`` ``bite``, 2.0 ``src/dog.sol`` ``bark``; geb ``LiquidationEngine.sol``
    ``getLimitAdjustedDebtToCover``: limit * wad / rate / penalty.
    """
    return limit * WAD // rate // chop


def part(ink: int, art: int, rate: int, chop: int, dart: int) -> Seizure:
    """A seizure of a given share of the debt: what the contracts took where history says how much (all versions: dink =
    ink * dart / art).
    """
    return Seizure(*with_penalty(ink * dart // art, dart, rate, chop))


@rule
def with_penalty(dink: int, dart: int, rate: int, chop: int) -> tuple[int, int, int, int]:
    """The numbers of a ``Seizure``."""
    due = dart * rate
    return dink, dart, due, due * chop // WAD
