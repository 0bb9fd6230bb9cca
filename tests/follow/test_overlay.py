"""Rows over a lake: what is undone goes, what becomes the lake's own goes, what later blocks need stays."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from backtest.follow.overlay import Overlay, OverlayWriter
from backtest.lake import Lake
from backtest.tables import RAW_STATE

HEADER, REVISION = "raw/chain/Header", "raw/chain/Revision"


def headers(first: int, last: int) -> pa.Table:
    rows = [
        {"block_number": n, "block_hash": bytes(32), "parent_hash": bytes(32), "timestamp": n, "base_fee": None}
        for n in range(first, last + 1)
    ]
    return pa.Table.from_pylist(rows, RAW_STATE[HEADER])


def revision(number: int) -> pa.Table:
    row = {"address": bytes(20), "implementation": number.to_bytes(20, "big"), "revision": number}
    return pa.Table.from_pylist([row], RAW_STATE[REVISION])


def numbers(lake: Lake) -> list[int]:
    found: list[int] = lake.read(HEADER, "m", columns=["block_number"])["block_number"].to_pylist()
    return found


def revisions(lake: Lake) -> list[int]:
    found: list[int] = lake.read(REVISION, "m")["revision"].to_pylist()
    return found


def test_rows_over_a_lake(tmp_path: Path) -> None:
    base = Lake(tmp_path / "lake", create=True)
    with base.writer() as writer:
        writer.commit("m", {HEADER: headers(1, 5)}, from_block=1, to_block=5, covers={"s": (1, 5)})
        writer.append("m", REVISION, revision(1))
    overlay = Overlay(base, "m", 5)
    writer = OverlayWriter(overlay)
    writer.commit("m", {HEADER: headers(6, 9)}, from_block=6, to_block=9, covers={"s": (6, 9)})
    writer.append("m", REVISION, revision(2))
    writer.append("m", REVISION, revision(3))
    assert (numbers(overlay), overlay.covered("m", "s"), sorted(revisions(overlay))) == (
        [*range(1, 10)],
        [(1, 9)],
        [1, 2, 3],
    )
    overlay.forget(8)
    assert (numbers(overlay), overlay.covered("m", "s")) == ([*range(1, 8)], [(1, 7)])
    with base.writer() as stored:  # blocks up to 6 become final, and what a fetch of them reads
        stored.commit("m", {HEADER: headers(6, 6)}, from_block=6, to_block=6, covers={"s": (6, 6)})
        stored.append("m", REVISION, revision(2))
    left = overlay.above(base, 6)
    assert (numbers(left), left.covered("m", "s")) == ([*range(1, 8)], [(1, 7)])
    assert left.own(HEADER, 0, 99)["block_number"].to_pylist() == [7]
    assert sorted(revisions(left)) == [1, 2, 3]  # the third is of a block that is not final yet
    assert (numbers(base), sorted(revisions(base))) == ([*range(1, 7)], [1, 2])
