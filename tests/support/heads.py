"""The head above a lake, read into memory, against the same blocks fetched."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa

from backtest.fetch import fetch
from backtest.fetch.rpc import Rpc
from backtest.follow.head import Head, HeadStep
from backtest.lake import Lake
from backtest.markets import MarketConfig
from backtest.near import near_in_book, near_in_lake
from backtest.protocols.registry import protocol_named
from backtest.reconstruct import reconstruct

MOST_ROWS = 150
"""Of canonical tables that are held against a fold of the whole history after each block."""
EVERYONE = 9_999
"""Basis points within which everyone with debt is near."""


def assert_head_is_as_fetched(
    config: MarketConfig, url: str, whole: Lake, middle: int, folder: Path, *, least: int = 5
) -> None:
    """Every account with debt at the head of a lake filled up to ``middle``, taken on in one piece and after it was
    undone once, and in ``whole``, which has all blocks; ``least``: how many of them at least. What each block's logs
    are folded to, alone, is what a fold of the whole history up to there says of that block.
    """
    lake = Lake(folder, create=True)
    with Rpc(url, workers=4) as rpc:
        fetch(lake, config, rpc, to_block=middle, finality=0, headers="all")
        lake.refresh()
        reconstruct(lake, config.name)
        lake.refresh()
        head = Head(lake, config, rpc, protocol_named(config.protocol))
        step = head.step(lambda standing, changes: standing.take(changes), lambda step: None)
    assert isinstance(step, HeadStep)
    assert step.taken
    later = near_in_lake(whole, config.name, EVERYONE, block=head.standing.block)
    first = near_in_book(head.standing.book, head.standing.names, EVERYONE)
    head.standing = head.final.copy()
    differing, rows = [], 0
    for each in step.taken:  # the same block by block, as a follower meets them
        before, running = head.standing.block, deepcopy(head.standing._running)
        assert running is not None
        head.standing.advance(head.told, [each], head.oracle_reads)
        if rows < MOST_ROWS:
            span, whole_span = head.told.span(before, each.number), head.told.span(-1, each.number)
            made = _rows(head.protocol.fold_on(config, span, running), before)
            if made != _rows(head.protocol.fold(config, whole_span), before):
                differing.append(each.number)
            rows += sum(map(len, made.values()))
    assert differing == []
    assert rows
    second = near_in_book(head.standing.book, head.standing.names, EVERYONE)
    assert len(later.accounts) >= least
    for ours in (first, second):
        assert (ours.block, ours.timestamp, ours.of) == (later.block, later.timestamp, later.of)
        assert ours.accounts == later.accounts


def _rows(tables: Iterable[tuple[str, pa.Table]] | None, before: int) -> dict[str, list[dict[str, Any]]]:
    """Rows behind a block, by table."""
    assert tables is not None
    found: dict[str, list[dict[str, Any]]] = {}
    for name, table in tables:
        if "block_number" in table.column_names:
            new = [row for row in table.to_pylist() if row["block_number"] > before]
            found[name] = found.get(name, []) + new
    return {name: sorted(rows, key=lambda row: row["seq"]) for name, rows in found.items() if rows}
