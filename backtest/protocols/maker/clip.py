"""Dutch auctions of Liquidations 2.0 (dss ``src/clip.sol``, ``src/abaci.sol``). Prices ray, tabs rad, lots wad, times
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from backtest.protocols.maker.math import rdiv_down, rmul_down, rpow_half_up, wmul_down
from backtest.protocols.maker.params import EXPONENTIAL, LINEAR
from backtest.units import RAY
from backtest.words import rule


@dataclass(frozen=True, slots=True)
class Curve:
    """How the price of an auction falls: the Abacus that the Clip names, with its settings. ``cut`` ray, ``step`` and
    ``tau`` seconds.
    """

    kind: int
    tau: int
    step: int
    cut: int

    def price_down(self, top: int, seconds: int) -> int:
        """``price(top, dur)`` of LinearDecrease, StairstepExponentialDecrease or ExponentialDecrease."""
        if self.kind == LINEAR:
            return 0 if seconds >= self.tau else rmul_down(top, (self.tau - seconds) * RAY // self.tau)
        return rmul_down(top, rpow_half_up(self.cut, seconds if self.kind == EXPONENTIAL else seconds // self.step))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Until when an auction may go on: ``tail`` seconds, and down to ``cusp`` (ray) of its starting price."""

    tail: int
    cusp: int

    def is_done(self, top: int, price: int, seconds: int) -> bool:
        """``status``: the auction must be reset before anybody may buy. An auction that starts at nothing is done."""
        return seconds > self.tail or not top or rdiv_down(price, top) < self.cusp


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
