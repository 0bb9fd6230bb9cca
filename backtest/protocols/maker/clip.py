"""Dutch auctions of Liquidations 2.0 (dss ``src/clip.sol``): what a buyer gets and a starter is paid. How their price
falls is in ``auctions.dutch``. Prices ray, tabs rad, lots wad.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.protocols.vaults.math import wmul_down
from backtest.words import rule


@dataclass(frozen=True, slots=True)
class Bought:
    """One purchase: ``slice`` of the lot for ``owe``; ``tab`` and ``lot`` are what remains."""

    slice: int
    owe: int
    tab: int
    lot: int


def take(tab: int, lot: int, price: int, amount: int, chost: int) -> Bought | str:
    """``take`` of at most ``amount`` at ``price``, or the contract's error in words.

    Never for more than the tab; a buyer of a part leaves a tab of at least ``chost`` (rad), so that the rest is worth
    an auction.
    """
    piece = min(lot, amount)
    owe = piece * price
    if owe > tab:
        owe = tab
        piece = owe // price
    elif owe < tab and piece < lot and tab - owe < chost:
        if tab <= chost:
            return "no partial purchase"
        owe = tab - chost
        piece = owe // price
    return Bought(piece, owe, tab - owe, lot - piece)


@rule
def incentive_down(tip: int, chip: int, tab: int) -> int:
    """Rad that the protocol pays to whoever starts an auction (``kick``): ``tip`` (rad) and ``chip`` (wad) of the
    tab.
    """
    return tip + wmul_down(tab, chip)


@rule
def redo_incentive_down(tip: int, chip: int, tab: int, lot: int, feed: int, chost: int) -> int:
    """Rad for resetting an auction (``redo``): as for starting it, but nothing where tab or collateral is below
    ``chost``.
    """
    return incentive_down(tip, chip, tab) if tab >= chost and lot * feed >= chost else 0


@rule
def chost_down(dust: int, chop: int) -> int:
    """Rad: ``upchost``: the least tab that a partial purchase may leave. ``dust`` rad, ``chop`` wad."""
    return wmul_down(dust, chop)
