"""Parts of a market's history fetched in any order, on real contracts: the lake ends as if fetched at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from backtest.fetch import FetchSummary, fetch
from backtest.fetch.rpc import Rpc
from backtest.lake import Lake
from backtest.reconstruct import reconstruct
from tests.chain.market import Record

NAME = "local-aave"


def fetched(record: Record, path: Path, parts: list[tuple[int, int]]) -> tuple[Lake, list[FetchSummary]]:
    """A lake filled part by part, and reconstructed."""
    lake, config = Lake(path, create=True), record.deployment.market_config(NAME)
    with Rpc(record.deployment.node.url, workers=4) as rpc:
        done = [fetch(lake, config, rpc, from_block=first, to_block=last, finality=0) for first, last in parts]
    reconstruct(lake, NAME)
    lake.refresh()
    return lake, done


@pytest.mark.chain
def test_parts_in_any_order_end_in_one_lake(market_upgraded: Record, tmp_path: Path) -> None:
    """Tokens and feeds are named in the first part; prices need to know the sources of every block before theirs."""
    start, last = market_upgraded.deployment.market_config(NAME).start_block, market_upgraded.last_block
    third, middle = start + (last - start) // 3, start + (last - start) // 2
    whole, _ = fetched(market_upgraded, tmp_path / "whole", [(start, last)])
    halves, done = fetched(market_upgraded, tmp_path / "halves", [(middle, last), (start, middle - 1)])
    assert done[0].prices is None
    assert f"prices wait for the blocks before {middle}: the market starts at block {start}" in done[0].notes
    assert (done[1].from_block, done[1].to_block) == (start, last)
    assert halves.digest(NAME) == whole.digest(NAME)
    # where prices are sampled hangs on how the blocks were cut; what follows from them does not
    parts, _ = fetched(market_upgraded, tmp_path / "parts", [(middle, last), (start, third), (third + 1, middle - 1)])
    assert parts.digest(NAME, "canonical/") == whole.digest(NAME, "canonical/")
