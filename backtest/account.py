"""What one account was at any moment of a market's history, in the numbers of the protocol's own view, exact.

The history is replayed to the moment and the protocol asked by its rules; nothing is taken from SQL's doubles. A block
in which nothing of the market happened has the state of the last event before it, with interest up to its own time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from backtest.errors import PriceMissing, UserError
from backtest.lake import Lake
from backtest.model import AccountId, AssetId, Clock, Market, Prices
from backtest.prices.fold import read_sources
from backtest.prices.oracles import CAPPED_RATIO, DISCOUNTED, FEED, FIXED, SAMPLED, Source
from backtest.protocols.book import Book
from backtest.protocols.interface import Figure, Holding, LendingProtocol
from backtest.protocols.registry import protocol_named
from backtest.replay.timeline import END_OF_BLOCK, Timeline
from backtest.results import load_market, load_timeline
from backtest.scenario import seconds_of

_STANDING = (FEED, FIXED)
"""Kinds of sources, and methods of prices, that change at logs alone."""
_MOVING = (CAPPED_RATIO, DISCOUNTED, SAMPLED)
"""Kinds of sources that may answer otherwise although no log says so: by time, or by a rate of which none tells."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account at the end of ``block``, or at a time after it, with interest up to ``timestamp``.

    ``figures`` are the protocol's (``LendingProtocol.figures``); None where the contract would revert, with the reason
    in ``missing``. ``holdings`` are native and scaled amounts by asset, with symbols in ``symbols``; ``since`` is the
    block of the market's last event. ``prices`` are the oracle's that the figures took, by address of the asset;
    ``inexact`` names assets whose price is not known exactly at this moment.
    """

    market: str
    account: str
    block: int
    timestamp: int
    since: int
    figures: tuple[Figure, ...] | None
    missing: str | None
    holdings: tuple[Holding, ...]
    symbols: Mapping[int, str]
    prices: Mapping[str, int]
    inexact: tuple[str, ...]
    known: bool

    def __getitem__(self, name: str) -> int | None:
        """The value of one figure; KeyError for a name that the protocol does not have, or where there are none."""
        return {figure.name: figure.value for figure in self.figures or ()}[name]


class _Asked(dict[AssetId, int]):
    """Prices that remember which were asked for."""

    def __init__(self, prices: Mapping[AssetId, int]) -> None:
        super().__init__(prices)
        self.asked: set[AssetId] = set()

    def __getitem__(self, asset: AssetId) -> int:
        self.asked.add(asset)
        return super().__getitem__(asset)

    def get(self, asset: AssetId, default: Any = None) -> Any:
        self.asked.add(asset)
        return super().get(asset, default)


def account_at(
    lake: Lake, market: str, account: str, *, block: int | None = None, time: int | str | None = None
) -> AccountState:
    """One account of a market at a moment of its history.

    Args:
        account: address (any case), or the name that the market knows it by.
        block: at the end of this block. Its time is that of its header; where the lake has none, ``time`` must say it.
        time: seconds since 1970, or a date or time of day in UTC. Without ``block``: what a call at that second says,
            after the last known block at or before it. With neither: at the end of the history.

    Raises:
        UserError: the moment lies outside the history, its time is not known or cannot be, or there is no such account.
        LakeError: the market's canonical tables are missing or stale.
        RulesError: no rules cover the history up to there.
    """
    fixed, timeline = load_market(lake, market), load_timeline(lake, market)
    now = moment_of(timeline, market, block, time)
    name, id = _named(fixed, account)
    protocol = protocol_named(fixed.protocol)
    book: Book[Any] = Book.open(protocol, fixed)
    for transaction in timeline.transactions(now.block_number):
        for event in transaction:
            book.relive(event)
    prices = _Asked(book.oracle)
    figures, missing = None, None
    try:
        figures = tuple(protocol.figures(book.state, id, Prices(prices, prices, prices), now))
    except PriceMissing as error:
        missing = error.what
    if type(protocol).figures is LendingProtocol.figures:
        raise UserError(f"protocol '{fixed.protocol}' tells no figures of an account", "use the view positions_at")
    last = bisect_right(timeline.block, now.block_number)
    return AccountState(
        market=market,
        account=name,
        block=now.block_number,
        timestamp=now.timestamp,
        since=int(timeline.block[last - 1]) if last else now.block_number,
        figures=figures,
        missing=missing,
        holdings=tuple(protocol.holdings(book.state, id, now)),
        symbols={asset.id: asset.symbol for asset in fixed.assets},
        prices={fixed.assets[each].asset: book.oracle[each] for each in prices.asked if each in book.oracle},
        inexact=_inexact(lake, fixed, timeline, prices.asked, now),
        known=int(id) < len(fixed.accounts),
    )


def moment_of(timeline: Timeline, market: str, block: int | None, time: int | str | None) -> Clock:
    """The moment that a block, a time or neither names, as ``account_at`` takes them; UserError where there is none."""
    seconds = seconds_of(time, "time") if isinstance(time, str) else time
    blocks, times = timeline.blocks, timeline.timestamps
    first, last = timeline.first_block, timeline.last_block
    if block is None and seconds is None:
        return timeline.clock_at(last)
    if block is None:
        assert seconds is not None
        before = timeline.block_before(seconds)
        if before is None:
            raise UserError(
                f"the history of '{market}' does not hold the time {seconds}",
                f"it goes from {int(times[0])} (block {first}) to {int(times[-1])} (block {last}), seconds since 1970",
            )
        return Clock(before, END_OF_BLOCK, seconds)
    if not first <= block <= last:
        raise UserError(f"the history of '{market}' does not hold block {block}", f"it has blocks {first} to {last}")
    at = bisect_right(blocks, block)
    low, known = int(times[at - 1]), int(blocks[at - 1]) == block
    high = low if known else int(times[at])
    if seconds is None and low == high:  # blocks between two of one time have that time
        seconds = low
    if seconds is None:
        raise UserError(
            f"block {block} of '{market}' has no header in this lake, so its time is not known",
            f"give --time, between {low} (block {int(blocks[at - 1])}) and {high} (block {int(blocks[at])})",
        )
    if not low <= seconds <= high:
        said = f"is {low}" if known else f"lies between {low} and {high}"
        raise UserError(f"{seconds} is not the time of block {block}: that {said}", "correct --time or leave it out")
    return Clock(block, END_OF_BLOCK, seconds)


def _named(market: Market, account: str) -> tuple[str, AccountId]:
    """The account as the market names it, and its id: one that no account has where it is an address without events."""
    wanted = account.strip().lower()
    for id, name in enumerate(market.accounts):
        if name.lower() == wanted:
            return name, AccountId(id)
    if len(wanted) == 42 and wanted.startswith("0x") and not wanted.strip("0123456789abcdefx"):
        return wanted, AccountId(len(market.accounts))
    example = f", such as {market.accounts[0]}" if market.accounts else ""
    raise UserError(f"market '{market.name}' has no account '{account}'", f"give an address or a name{example}")


def _inexact(lake: Lake, market: Market, timeline: Timeline, assets: set[AssetId], now: Clock) -> tuple[str, ...]:
    """Symbols of those assets whose price is not known exactly at this moment."""
    columns = ["asset_id", "source", "method", "exact"]
    table = lake.read("canonical/prices", market.name, columns=[*columns, "block_number", "seq"])
    table = table.filter(pc.less_equal(table["block_number"], now.block_number)).sort_by("seq")
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    latest = {asset: rest for asset, *rest in rows if asset in assets}
    at = bisect_right(timeline.blocks, now.block_number)
    stepped = int(timeline.blocks[at - 1]) == now.block_number and int(timeline.timestamps[at - 1]) == now.timestamp
    held = "raw/oracle/Source" in lake.datasets(market.name)
    sources = read_sources(lake.read("raw/oracle/Source", market.name) if held else None)
    return tuple(
        market.assets[asset].symbol
        for asset, (source, method, exact) in sorted(latest.items())
        if not exact or not (stepped or method in _STANDING or (method == "formula" and _stands(source, sources)))
    )


def _stands(address: str, sources: Mapping[str, Source]) -> bool:
    """Whether a source that is computed answers the same until a log says otherwise. A plain source is computed only
    together with a fallback's, of which nothing is known here.
    """
    source = sources.get(address)
    if source is None or source.kind in (*_MOVING, *_STANDING):
        return False
    return all(sources[feed].kind in _STANDING or _stands(feed, sources) for feed in source.feeds)
