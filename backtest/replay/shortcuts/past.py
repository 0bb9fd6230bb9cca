"""The past of a window in short: of an account whose past nobody asks about, only what it comes to.

Before a model acts, users' actions are made as recorded. What an account holds at a block is then the sum of its
changes, and its settings are the
last ones: every change but the last of each balance and setting is left out, and the last carries the sum. Accounts
that took part in a liquidation keep their history, since it is re-enacted, and so do those that share an action with
them. A price or an index, and what a swap left in a pool, counts where the next one is not there yet when something is
re-enacted or read. Where a replay is read at several blocks, this holds between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from backtest.model import (
    AssetId,
    HistoricalLiquidation,
    IndexUpdate,
    MarketEvent,
    MarketPrice,
    PoolChange,
    PositionChange,
    PriceUpdate,
    SettingChange,
    Side,
)
from backtest.protocols.interface import Opening
from backtest.replay.timeline import Timeline
from backtest.replay.watch.compiled import Ints, net

Mask = npt.NDArray[np.bool_]
_CHANGES = (PositionChange, SettingChange)
_STEPS = ((PriceUpdate, "asset"), (IndexUpdate, "asset"), (MarketPrice, "asset"), (PoolChange, "pool"))
"""What holds until the next one of its asset or pool, apart from changes of a pool's liquidity: a swap leaves price and
active liquidity.
"""


@dataclass(frozen=True, slots=True)
class Condensed:
    """A shorter timeline, and how many events and users' actions it leaves out. ``opens``: changes in it (masks over
    those of a kind) that only say what somebody holds or has set before the first block that is read.
    """

    timeline: Timeline
    events: int = 0
    actions: int = 0
    opens: Mapping[type[MarketEvent], Mask] = field(default_factory=dict)
    whole: Timeline | None = None
    """What it is short for, where anything is left out,"""
    until: int = 0
    """up to this block."""

    def opened(self) -> tuple[Opening, Condensed]:
        """What these changes come to, and the timeline without them. The last transaction before the first block that
        is read stays: the replay stands at it.
        """
        timeline = self.timeline
        position, setting = self.opens[PositionChange], self.opens[SettingChange]
        balances = timeline.values(PositionChange, position, "account", "asset", "side", "delta")
        settings = timeline.values(SettingChange, setting, "account", "setting", "asset", "value", "block_number")
        kept = {PositionChange: ~position, SettingChange: ~setting}
        rest = timeline.thinned(kept, timeline.column(PositionChange, "delta")[0][~position])
        left_out = len(timeline) - len(rest)
        opening = Opening(
            list(zip(*balances, strict=True)),
            list(zip(*settings, strict=True)),
            _moved_between(self.whole or timeline, rest),
            self.until,
        )
        return opening, Condensed(rest, self.events + left_out, self.actions + _actions(timeline) - _actions(rest))


def condensed(timeline: Timeline, blocks: Sequence[int]) -> Condensed:
    """The timeline in short, for a protocol with ``open_accounts``: read before each of these blocks (increasing) it is
    as the whole one, and from the last one on it is the whole one. As it is where a balance would fall below zero,
    which the replay will explain.
    """
    stops = {
        event: np.searchsorted(timeline.column(event, "block_number")[0], blocks)
        for event in (*_CHANGES, HistoricalLiquidation)
    }
    hot = _hot(timeline, {event: int(rows[-1]) for event, rows in stops.items()})
    free: dict[type[MarketEvent], Mask] = {}
    for event in _CHANGES:
        account = timeline.column(event, "account")[0]
        free[event] = ~hot[account]
        free[event][stops[event][-1] :] = False
    kept = {event: ~mask for event, mask in free.items()}
    kept |= _steps(timeline, blocks, kept)
    deltas = timeline.column(PositionChange, "delta")[0]
    if free[PositionChange].any():
        (account, _), (asset, _), (side, sides) = (
            timeline.column(PositionChange, attribute) for attribute in ("account", "asset", "side")
        )
        slot = asset.astype(np.int32) * len(sides or ()) + side
        total = np.empty((len(deltas), 2), dtype=np.int64)
        past = slice(0, int(stops[PositionChange][-1]))
        summed = np.zeros(len(deltas), dtype=np.bool_)
        if not net(
            account[past],
            slot[past],
            deltas,
            free[PositionChange],
            stops[PositionChange],
            int(slot.max()) + 1,
            summed,
            total,
        ):
            return Condensed(timeline)
        mask = kept[PositionChange] = kept[PositionChange] | summed
        deltas = np.where(summed[mask, None], total[mask], deltas[mask])
    rows = np.flatnonzero(free[SettingChange])
    kept[SettingChange][
        rows[_last(_setting(timeline, rows), np.searchsorted(stops[SettingChange], rows, side="right"))]
    ] = True
    short = timeline.thinned(kept, deltas)
    last = int(np.searchsorted(short.ends, np.searchsorted(short.block, blocks[0])))
    begin = short.ends[last - 1] if last else 0
    opens: dict[type[MarketEvent], Mask] = {
        event: free[event][kept[event]] & (short.rows(event) < begin) for event in _CHANGES
    }
    left_out = len(timeline) - len(short), _actions(timeline) - _actions(short)
    return Condensed(short, *left_out, opens, timeline, int(blocks[-1]))


def _hot(timeline: Timeline, stops: dict[type[MarketEvent], int]) -> Mask:
    """By account, whether its history matters: it took part in a liquidation before the stops (rows of each kind), as
    borrower, as liquidator, or since it moved something of its; or it shares an action with such an account, whose
    actions may be made otherwise than in history.
    """
    parts = [
        timeline.column(HistoricalLiquidation, side)[0][: stops[HistoricalLiquidation]]
        for side in ("account", "liquidator")
    ]
    acted: list[tuple[Ints, Ints]] = []
    most = 0
    for event in _CHANGES:
        past = slice(0, stops[event])
        account, seq = (timeline.column(event, attribute)[0] for attribute in ("account", "action_seq"))
        parts.append(account[past][_of_liquidations(timeline, event)[past]])
        acted.append((account[past], seq[past]))
        most = max(most, int(account.max(initial=0)))
    found = np.unique(np.concatenate(parts)).astype(np.int64)
    hot = np.zeros(most + 1, dtype=np.bool_)
    hot[found[found < len(hot)]] = True
    if not len(found):
        return hot
    account, action = (np.concatenate([pair[which] for pair in acted]) for which in (0, 1))
    first = np.empty(int(action.max(initial=-1)) + 1, dtype=np.int32)
    first[action] = account
    several = np.zeros(len(first), dtype=np.bool_)
    several[action[first[action] != account]] = True
    shared = np.flatnonzero(several[action])
    account, action = account[shared], action[shared]
    before = -1
    while (now := int(np.count_nonzero(hot))) != before:
        before = now
        several[:] = False
        several[action[hot[account]]] = True
        hot[account[several[action]]] = True
    return hot


def _steps(
    timeline: Timeline, blocks: Sequence[int], kept: dict[type[MarketEvent], Mask]
) -> dict[type[MarketEvent], Mask]:
    """Of what holds until the next one the last before anything that stays, and before each of the blocks."""
    stops = np.searchsorted(timeline.block, blocks)
    reads = np.concatenate(
        [stops, timeline.rows(HistoricalLiquidation), *(timeline.rows(event)[kept[event]] for event in _CHANGES)]
    )
    reads = np.sort(reads[reads <= stops[-1]], kind="stable")
    found: dict[type[MarketEvent], Mask] = {}
    for event, of in _STEPS:
        rows, which = timeline.rows(event), timeline.column(event, of)[0]
        found[event] = rows >= stops[-1]
        if event is PoolChange:
            found[event] |= ~np.isnan(timeline.floats(event, "upper")[1][0])
        past = np.flatnonzero(~found[event])
        found[event][past[_last(which[past].astype(np.int64), np.searchsorted(reads, rows[past], side="right"))]] = True
    return found


def _moved_between(whole: Timeline, rest: Timeline) -> list[tuple[AssetId, Side, str, int | None]]:
    """Native units that the calls of the position changes moved which are in one timeline and not in the other."""
    found = _moved(whole)
    for key, (amount, nulls) in _moved(rest).items():
        before = found[key]
        found[key] = before[0] - amount, before[1] - nulls
    return [
        (asset, side, action, None if nulls else amount)
        for (asset, side, action), (amount, nulls) in found.items()
        if amount or nulls
    ]


def _moved(timeline: Timeline) -> dict[tuple[AssetId, Side, str], tuple[int, int]]:
    """By asset, side and action: the sum of amounts, exactly, and how many changes have none."""
    if not len(timeline.rows(PositionChange)):
        return {}
    (asset, _), (side, sides), (action, actions), (words, _) = (
        timeline.column(PositionChange, attribute) for attribute in ("asset", "side", "action", "amount")
    )
    null = timeline.nulls(PositionChange, "amount")
    key = (asset.astype(np.int64) * len(sides or ()) + side) * len(actions or ()) + action
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    low, high = words[order, 0].view(np.uint64), words[order, 1]
    present = ~null[order]
    low, high = np.where(present, low, 0), np.where(present, high, 0)
    # halves of 32 bits: no sum of them overflows
    parts = [np.add.reduceat(part.astype(np.int64), first).tolist() for part in (low & 0xFFFFFFFF, low >> 32, high)]
    nulls = np.add.reduceat(null[order].astype(np.int64), first).tolist()
    found: dict[tuple[AssetId, Side, str], tuple[int, int]] = {}
    for number, bottom, middle, top, without in zip(keys.tolist(), *parts, nulls, strict=True):
        place, what = divmod(number, len(actions or ()))
        of, which = divmod(place, len(sides or ()))
        name = AssetId(of), cast(Side, (sides or ())[which]), (actions or ())[what]
        found[name] = bottom + (middle << 32) + (top << 64), without
    return found


def _last(key: Ints, interval: Ints) -> Ints:
    """The last place of each key in each interval; intervals follow each other."""
    if not len(key):
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((interval, key))
    ends = (np.diff(key[order]) != 0) | (np.diff(interval[order]) != 0)
    found: Ints = order[np.append(ends, True)]
    return found


def _of_liquidations(timeline: Timeline, event: type[PositionChange | SettingChange]) -> Mask:
    codes, names = timeline.column(event, "action")
    made: Mask = np.isin(codes, [place for place, name in enumerate(names or ()) if name == "liquidation"])
    return made


def _setting(timeline: Timeline, rows: Ints) -> Ints:
    """One number for each account, asset and setting."""
    who, what, which = (
        timeline.column(SettingChange, attribute)[0][rows].astype(np.int64)
        for attribute in ("account", "asset", "setting")
    )
    key: Ints = (who << 32) + (what << 16) + which
    return key


def _actions(timeline: Timeline) -> int:
    """Users' actions, liquidations apart."""
    seqs = [timeline.column(event, "action_seq")[0][~_of_liquidations(timeline, event)] for event in _CHANGES]
    every = np.concatenate(seqs)
    seen = np.zeros(int(every.max(initial=-1)) + 1, dtype=np.bool_)
    seen[every] = True
    return int(np.count_nonzero(seen))
