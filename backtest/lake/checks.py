"""What must hold in a lake: its files are as the manifest says, and the queries in ``queries/checks`` find nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backtest.errors import LakeError
from backtest.lake import claims, content, parquet, queries, sandbox
from backtest.lake import manifest as m

if TYPE_CHECKING:
    from backtest.lake import Lake

SHOWN = 12
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. ``violations`` is their number, None where the check could not run; ``examples`` are a few, in
    words.
    """

    check: str
    purpose: str
    violations: int | None
    examples: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """No violation, and it ran."""
        return self.violations == 0


def run(lake: Lake, *, progress: Progress | None = None) -> Iterator[Finding]:
    """Every check of files, coverage and rows, as each is done. ``progress`` is told the name of each before it
    starts.
    """
    tell, sound = progress or (lambda _: None), True
    for check, purpose, look in (
        ("files", "every file is there with the bytes that the manifest names", _files),
        ("content", "the rows of every raw file have the digest that the manifest names", _content),
        ("coverage", "covered ranges are in order and apart, and no row lies outside its file's blocks", _coverage),
    ):
        tell(check)
        found = list(look(lake))
        yield Finding(check, purpose, len(found), tuple(found[:SHOWN]))
        if check == "files":
            sound = not found
    claimed = [
        f"{market}: {claims.in_words(ranges)}" for market in lake.markets() if (ranges := claims.claimed(lake, market))
    ]
    if claimed:
        yield Finding("claimed", "not shown by a node, complete as files claim:", 0, tuple(claimed[:SHOWN]))
    for query in queries.load():
        if query.folder == "checks":
            tell(query.name)
            unasked = Finding(query.name, query.purpose, None, ("not asked: files are not as they were written",))
            yield _query(lake, query) if sound else unasked


def _query(lake: Lake, query: queries.Query) -> Finding:
    import duckdb

    try:
        cursor = lake.session().cursor(query.select)
        counted = cursor.execute(f"SELECT count(*) FROM ({query.select})").fetchone()
        count = int(counted[0]) if counted else 0
        rows = cursor.execute(f"SELECT * FROM ({query.select}) LIMIT {SHOWN}").fetchall() if count else []
    except (duckdb.Error, LakeError) as error:
        return Finding(query.name, query.purpose, None, (sandbox.one_line(error),))
    named = (
        ", ".join(f"{name} {value}" for name, value in zip(query.columns, row, strict=True) if value is not None)
        for row in rows
    )
    return Finding(query.name, query.purpose, count, tuple(named))


def _files(lake: Lake) -> Iterator[str]:
    for record in lake.manifest.markets.values():
        for file in record.files:
            where = lake.storage.location(file.path)
            try:
                held = lake.storage.read(file.path)  # from the store itself, not from a copy
                if len(held) != file.bytes:
                    yield f"{where}: {len(held)} bytes, not {file.bytes}"
                elif file.sha256 and (found := hashlib.sha256(held).hexdigest()) != file.sha256:
                    yield f"{where}: SHA-256 {found[:16]}..., not {file.sha256[:16]}..."
                elif (rows := parquet.row_count(held)) != file.rows:
                    yield f"{where}: {rows} rows, not {file.rows}"
            except OSError as error:
                yield f"{where}: {error.strerror or error}"
            except LakeError as error:
                yield f"{where}: {error.what}"


def _content(lake: Lake) -> Iterator[str]:
    for record in lake.manifest.markets.values():
        for file in record.files:
            if not file.dataset.startswith("raw/"):
                continue
            where = lake.storage.location(file.path)
            try:
                lake.storage.provide([where])
                table = parquet.read(where, lake.schema(file.dataset), None, (None, None))
            except LakeError as error:
                yield error.what
                continue
            if file.content and content.content_digest(table) != file.content:
                yield f"{where}: the rows have another digest"


def _coverage(lake: Lake) -> Iterator[str]:
    for market, record in lake.manifest.markets.items():
        for source, ranges in record.coverage.items():
            if m.merge(ranges) != tuple(ranges) or any(start > stop for start, stop in ranges):
                yield f"{market}: the ranges of '{source}' overlap or are out of order"
        for file in record.files:
            if file.from_block is not None and file.to_block is not None and file.from_block > file.to_block:
                yield f"{market}: {file.path} ends before it starts"
            elif file.from_block is not None and "block_number" in lake.schema(file.dataset).names:
                low, high = parquet.block_range(lake.storage.location(file.path)) or (file.from_block, file.to_block)
                if low < file.from_block or (file.to_block is not None and high is not None and high > file.to_block):
                    yield f"{market}: {file.path} has rows of blocks {low} to {high}"
