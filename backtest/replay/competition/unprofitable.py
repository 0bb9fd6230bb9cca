"""Which accounts have nothing on offer that pays, told of many at once: bounds in floats, wide enough for their own
rounding. What they leave open is quoted and charged exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.model import AccountId, AssetId
from backtest.protocols.book import Book
from backtest.protocols.interface import Ints, Spreads, State
from backtest.replay.competition.costs import CostModel
from backtest.replay.watch.compiled import Floats
from backtest.scenario import Slippage
from backtest.units import BPS

if TYPE_CHECKING:
    from backtest.replay.mechanisms.offers import Offers

FEW = 4
"""Fewer accounts are quoted one by one: arrays would take longer."""
_ERROR, _CUT = 1e-12, 8.0
"""Bounds of rounding: a share of the amounts, and base units."""


@dataclass(frozen=True, slots=True)
class Rents:
    """What the best pair of each account (increasing) leaves at least and at most before bids, base units. ``gas``: of
    a call, which is taken off.
    """

    account: Ints
    low: Floats
    high: Floats
    gas: int


def told(open_to: Offers, accounts: Sequence[AccountId], costs: CostModel) -> Spreads | None:
    """What is to be asked for is told, where that is possible and costs are of a kind that ``rents`` bounds."""
    if len(accounts) < FEW or costs.seat is not None or any(each.model == "pools" for each in costs.terms.slippage):
        return None
    return open_to.spreads(accounts)


def rents(book: Book[State], costs: CostModel, found: Spreads, *, owned: bool) -> Rents:
    """Of all accounts with a pair, where somebody settles now; ``owned``: with money of its own."""
    if not len(found.account):
        return Rents(found.account, np.empty(0), np.empty(0), 0)
    flash = costs.call_up(book, "liquidate", flash=True, sells=True)
    gas = float(costs.call_up(book, "liquidate", flash=False, sells=True) if owned else flash)
    funding = 0 if owned else costs.terms.flash_fee
    paid, brought = found.paid.astype(np.float64), found.brought.astype(np.float64)
    least, most = np.zeros(len(paid)), np.zeros(len(paid))
    for asset in np.flatnonzero(np.bincount(found.collateral_asset)).tolist():
        if (terms := costs.slippage_of(AssetId(asset))) is not None and terms.model != "none":
            rows = found.collateral_asset == asset
            least[rows], most[rows] = bounds(brought[rows], terms)
    other = brought * (costs.terms.sandwich / BPS) + paid * (funding / BPS) + gas
    rent, error = brought - paid - other, (brought + paid + other + most) * _ERROR + _CUT
    begins = np.flatnonzero(np.diff(found.account, prepend=-1))
    low, high = (np.maximum.reduceat(rent - each, begins) for each in (most + error, least - error))
    return Rents(found.account[begins], low, high, flash)


def count_sales(costs: CostModel, found: Spreads, accounts: Collection[AccountId], times: int) -> None:
    """The quotes of sales that ``CostModel.charged`` would count for these accounts, ``times`` each."""
    of = np.isin(found.account, np.fromiter(accounts, np.int64, len(accounts)))
    for asset in np.flatnonzero(np.bincount(found.collateral_asset[of])).tolist():
        if (terms := costs.slippage_of(AssetId(asset))) is not None and terms.model != "none":
            sold = found.brought[of & (found.collateral_asset == asset)]
            costs.sales += len(sold) * times
            if terms.model == "depth":
                costs.beyond += int(np.count_nonzero(sold > terms.curve[-1][0] * terms.depth // BPS)) * times


def bounds(value: Floats, terms: Slippage) -> tuple[Floats, Floats]:
    """What ``slippage.loss_up`` of sales lies between, but for rounding (``_ERROR`` of the value and ``_CUT``)."""
    size = value * (BPS / terms.depth)  # loss rises with size: those around this one bound that of the whole one
    return _lost(np.maximum(size * (1 - _ERROR) - 1, 0.0), terms), _lost(size * (1 + _ERROR) + 2, terms)


def _lost(size: Floats, terms: Slippage) -> Floats:
    """``slippage.loss_up`` of a size, to floats."""
    if terms.model == "constant-product":
        paid, reserve = size * (1 - terms.fee / BPS), float(terms.reserve or 0)
        loss = size - paid * reserve / (reserve + paid) if reserve else size
    elif terms.model == "square-root":
        loss = size * (terms.coefficient * (terms.daily_volatility or 0) / (BPS * BPS))
        loss *= np.sqrt(size / float(terms.daily_volume or 1))
    else:
        sizes, slippages = np.array([(0, 0), *terms.curve], np.float64).T
        loss = size * np.interp(size, sizes, slippages) / BPS * np.sqrt(np.maximum(size / sizes[-1], 1.0))
    return np.minimum(loss, size) * (terms.depth / BPS)
