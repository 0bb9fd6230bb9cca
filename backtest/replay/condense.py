"""The past of a window in short: of an account whose past nobody asks about, only what it comes to.

Before a model acts, users' actions are made as recorded. What an account holds at the window's first block is then the sum of its changes, and its
settings are the last ones: every change but the last of each balance and setting is left out, and the last carries the sum. Accounts that took
part in a liquidation before the window keep their history, since it is re-enacted. Of market prices, and of prices that swaps left pools at
(with the liquidity active there), the last one counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backtest.model import HistoricalLiquidation, MarketEvent, MarketPrice, PoolChange, PositionChange, SettingChange
from backtest.replay.kernels import Ints, net
from backtest.replay.timeline import Timeline

Mask = npt.NDArray[np.bool_]
_CHANGES = (PositionChange, SettingChange)


@dataclass(frozen=True, slots=True)
class Condensed:
    """A shorter timeline, and how many events and users' actions it leaves out."""

    timeline: Timeline
    events: int = 0
    actions: int = 0


def condensed(timeline: Timeline, before: int) -> Condensed:
    """The timeline with its past before a block in short, for a protocol whose ``past_adds_up``; as it is where a balance would fall below zero,
    which the replay will explain."""
    past = {event: timeline.column(event, "block_number")[0] < before for event in (*_CHANGES, HistoricalLiquidation)}
    free = _without(_in_liquidations(timeline, past), timeline, past)
    kept: dict[type[MarketEvent], Mask] = {PositionChange: ~free[PositionChange], SettingChange: ~free[SettingChange]}
    kept |= {MarketPrice: _last(timeline, MarketPrice, "asset", before), PoolChange: _last(timeline, PoolChange, "pool", before)}
    deltas = timeline.column(PositionChange, "delta")[0]
    rows = np.flatnonzero(free[PositionChange])
    if len(rows):
        key = _key(timeline, PositionChange, rows, "account", "asset", "side")
        order = np.argsort(key, kind="stable")
        total = np.empty((len(rows), 2), dtype=np.int64)
        if not net(order, key, deltas[rows], total):
            return Condensed(timeline)
        last = order[np.append(np.diff(key[order]) != 0, True)]
        kept[PositionChange][rows[last]] = True
        deltas = deltas.copy()
        deltas[rows[last]] = total[last]
    rows = np.flatnonzero(free[SettingChange])
    if len(rows):
        key = _key(timeline, SettingChange, rows, "account", "asset", "setting")
        order = np.argsort(key, kind="stable")
        kept[SettingChange][rows[order[np.append(np.diff(key[order]) != 0, True)]]] = True
    short = timeline.thinned(kept, deltas[kept[PositionChange]])
    return Condensed(short, len(timeline) - len(short), _actions(timeline) - _actions(short))


def _last(timeline: Timeline, event: type[MarketPrice] | type[PoolChange], of: str, before: int) -> Mask:
    """All but those that a later one before the block replaces. Changes of a pool's liquidity are replaced by none."""
    _, (which, block, *upper) = timeline.floats(event, of, "block_number", *(("upper",) if event is PoolChange else ()))
    replaces = (block < before) & (np.isnan(upper[0]) if upper else True)
    kept = ~replaces
    for one in np.unique(which):
        mine = np.flatnonzero(replaces & (which == one))
        kept[mine[-1:]] = True
    return kept


def _in_liquidations(timeline: Timeline, past: dict[type[PositionChange | SettingChange | HistoricalLiquidation], Mask]) -> Ints:
    """Accounts that took part in one: borrowers, liquidators, and whoever else it moved something of."""
    found = [timeline.column(HistoricalLiquidation, side)[0][past[HistoricalLiquidation]] for side in ("account", "liquidator")]
    for event in _CHANGES:
        found.append(timeline.column(event, "account")[0][_of_liquidations(timeline, event) & past[event]])
    return np.unique(np.concatenate(found))


def _without(
    accounts: Ints, timeline: Timeline, past: dict[type[PositionChange | SettingChange | HistoricalLiquidation], Mask]
) -> dict[type[PositionChange | SettingChange], Mask]:
    """Changes in the past of all other accounts."""
    return {event: past[event] & ~np.isin(timeline.column(event, "account")[0], accounts) for event in _CHANGES}


def _of_liquidations(timeline: Timeline, event: type[PositionChange | SettingChange]) -> Mask:
    codes, names = timeline.column(event, "action")
    made: Mask = np.isin(codes, [place for place, name in enumerate(names or ()) if name == "liquidation"])
    return made


def _key(timeline: Timeline, event: type[PositionChange | SettingChange], rows: Ints, account: str, asset: str, name: str) -> Ints:
    """One number for each account, asset and name."""
    who, what, which = (timeline.column(event, attribute)[0][rows].astype(np.int64) for attribute in (account, asset, name))
    key: Ints = (who << 32) + (what << 16) + which
    return key


def _actions(timeline: Timeline) -> int:
    """Users' actions, liquidations apart."""
    seqs = [timeline.column(event, "action_seq")[0][~_of_liquidations(timeline, event)] for event in _CHANGES]
    every = np.sort(np.concatenate(seqs), kind="stable")  # two sorted runs: quicker than to hash them
    return int(np.count_nonzero(np.diff(every))) + 1 if len(every) else 0
