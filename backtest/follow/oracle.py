"""What a market's oracle says at the end of blocks of the head, asked of the node; and how old its feeds' answers
are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backtest.fetch.adapters import ROUND, calls_at, selector, word
from backtest.fetch.oracle import Oracles, uses_of
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.model import AssetId, Market, SourceChange
from backtest.prices.fold import read_sources
from backtest.prices.oracles import FEED, Source

Steps = dict[int, list[tuple[AssetId, int | None]]]
SOURCES = "raw/oracle/Source"


class HeadOracle:
    """A market's price sources, as its history up to some block names them."""

    def __init__(self, lake: Lake, market: Market, changes: Sequence[SourceChange]) -> None:
        self._assets = {asset.asset: asset.id for asset in market.assets}
        self._changes = [change for change in changes if change.asset in self._assets]
        self._of: dict[str, list[SourceChange]] = defaultdict(list)
        for change in self._changes:
            self._of[change.asset].append(change)
        held = SOURCES in lake.datasets(market.name)
        self._sources: Mapping[str, Source] = read_sources(lake.read(SOURCES, market.name)) if held else {}

    def prices(self, rpc: Rpc, first: int, last: int) -> Steps:
        """By block of an inclusive range, the oracle's own numbers at its end; None where it would revert."""
        uses = uses_of(self._changes, first, last)
        asked = [(use.asset, block) for use in uses for block in range(max(use.first, first), min(use.last, last) + 1)]
        found: Steps = defaultdict(list)
        told = Oracles(rpc, uses).prices(sorted(set(asked), key=lambda one: one[1])) if asked else {}
        for (asset, block), price in told.items():
            times = self._in_force(asset, block).times
            found[block].append((self._assets[asset], None if price is None else price * times))
        for change in self._changes:
            if change.fixed is not None and first <= change.block_number <= last:
                found[change.block_number].append((self._assets[change.asset], change.fixed))
        return found

    def _in_force(self, asset: str, block: int) -> SourceChange:
        own = self._of[asset]
        return own[bisect_right([change.block_number for change in own], block) - 1]

    def updated(self, rpc: Rpc, blocks: Iterable[int]) -> dict[int, dict[tuple[AssetId, str], int]]:
        """By block, when each feed that an asset's price is made of had last answered (seconds). Left out is what does
        not say it.
        """
        asked: list[tuple[int, AssetId, str]] = []
        for block in blocks:
            for asset, own in self._of.items():
                if own[0].block_number <= block and (change := self._in_force(asset, block)).fixed is None:
                    asked += [(block, self._assets[asset], feed) for feed in self._feeds(change)]
        calls = list(dict.fromkeys((feed, selector(ROUND), block) for block, _, feed in asked))
        told = dict(zip(calls, calls_at(rpc, calls), strict=True))
        found: dict[int, dict[tuple[AssetId, str], int]] = defaultdict(dict)
        for block, number, feed in asked:
            data: Any = told[feed, selector(ROUND), block]
            if data is not None and (seconds := word(data[96:])):
                found[block][number, feed] = seconds
        return found

    def _feeds(self, change: SourceChange) -> list[str]:
        """The feeds at the ends of a source; a source of which nothing is known may be one."""
        waiting, found = [change.source, *change.others], []
        for address in waiting:
            source = self._sources.get(address)
            if source is None or source.kind == FEED:
                found.append(address)
            else:
                waiting += [feed for feed in source.feeds if feed not in waiting]
        return list(dict.fromkeys(found))
