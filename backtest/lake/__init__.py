"""The lake: a folder of Parquet files, a manifest that says which of them count, and one writer at a time.

    lake = Lake("data/lake")
    lake.read("canonical/liquidations", "ethereum-core")
    with lake.writer() as writer:
        writer.commit(...)

A ``Lake`` is a snapshot: it sees the version that was newest when it was opened or last refreshed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from backtest.errors import LakeError, did_you_mean
from backtest.lake import content, integrity, parquet
from backtest.lake import manifest as m
from backtest.lake.answer import Answer
from backtest.lake.sql import Limits, Session
from backtest.lake.storage import Storage, open_storage
from backtest.lake.writer import Writer
from backtest.markets import MarketConfig

__all__ = ["Answer", "FileEntry", "Lake", "Limits", "Writer"]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file that counts. ``path`` is absolute (of a remote lake: where ``Lake.provide`` puts it);
    blocks are inclusive, None where rows have no block range."""

    market: str
    dataset: str
    path: str
    from_block: int | None
    to_block: int | None
    rows: int
    bytes: int
    sha256: str
    stamp: str


class Lake:
    """Read access to a lake, and the way to its writer.

    Args:
        path: the folder, or ``s3://bucket/prefix`` (``backtest.lake.bucket``).
        create: make an empty lake where there is none; otherwise that is a LakeError.
        trust: read files without comparing them with their digests first. Such a lake has no writer, so that nothing
            is stored that came from unchecked bytes.
    """

    def __init__(self, path: str | Path, *, create: bool = False, trust: bool = False) -> None:
        self.trust = trust
        self.storage: Storage = open_storage(path)
        self.path = self.storage.path
        found = m.load_newest(self.storage)
        if found is None:
            if not create:
                raise LakeError(
                    f"there is no lake at {self.path}",
                    "give its folder with --lake, or fetch one: backtest fetch --help",
                )
            self.storage.create()
            self.storage.put_if_absent(m.name_of(1), m.encode(m.Manifest(version=1)))
            found = m.load_newest(self.storage)
        assert found is not None
        self.manifest: m.Manifest = found
        self._session: tuple[int, Limits, Session] | None = None

    @classmethod
    @contextmanager
    def made(cls, path: str | Path) -> Iterator[Lake]:
        """The lake of a folder, made if there is none: where an error ends the block before anything was stored in a
        lake that was made for it, nothing of it is left behind.
        """
        here = m.load_newest(open_storage(path)) is not None
        lake = cls(path, create=True)
        try:
            yield lake
        except Exception:
            if not here:
                lake._remove_unless_used()
            raise

    def _remove_unless_used(self) -> None:
        with suppress(LakeError), self.storage.exclusive():  # of another process: it is used
            self.refresh()
            if self.manifest.version == 1:
                self.storage.remove(m.name_of(1))

    def refresh(self) -> None:
        """See what was committed since."""
        found = m.load_newest(self.storage)
        if found is None:
            raise LakeError(f"there is no lake at {self.path} any more", "was the folder moved?")
        self.manifest = found

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """The one writer; LakeError naming the process if there is another. The lake is refreshed first.

        On an object store, which has no locks, several may be open: of those that publish the same version one
        succeeds, the others get a LakeError.
        """
        if self.trust:
            raise LakeError(f"{self.path} was opened without a look at its digests", "open it without trust to write")
        with self.storage.exclusive():
            self.refresh()
            writer = Writer(self)
            writer.complete()
            yield writer

    # -- what there is ---------------------------------------------------------------------------------------------

    def markets(self) -> list[str]:
        """Names of all markets."""
        return list(self.manifest.markets)

    def market_config(self, market: str) -> MarketConfig:
        """The description stored when the market was fetched."""
        config = self._record(market).config
        if config is None:
            raise LakeError(f"market '{market}' has no description in this lake", "fetch it: backtest fetch --help")
        return config

    def provenance(self, market: str) -> dict[str, str]:
        """Facts that the fetcher noted about the origin of a market's data."""
        return dict(self._record(market).provenance)

    def datasets(self, market: str | None = None) -> list[str]:
        """Datasets that have rows, sorted."""
        return sorted({file.dataset for file in self.files(None, market)})

    def files(self, dataset: str | None, market: str | None = None) -> tuple[FileEntry, ...]:
        """The files of one dataset (None: of all) in block order."""
        markets = self.manifest.markets if market is None else {market: self._record(market)}
        return tuple(
            FileEntry(
                market=name,
                dataset=file.dataset,
                path=self.storage.location(file.path),
                from_block=file.from_block,
                to_block=file.to_block,
                rows=file.rows,
                bytes=file.bytes,
                sha256=file.sha256,
                stamp=file.stamp,
            )
            for name, record in markets.items()
            for file in record.files
            if dataset is None or file.dataset == dataset
        )

    def provide(self, files: Iterable[FileEntry]) -> None:
        """Make these files readable at their paths, and compare them with their digests when this process first opens
        them (unless the lake is trusted). Whatever reads rows asks here before.

        Raises:
            LakeError: a file is gone, or not the one that was written.
        """
        wanted = list(files)
        self.storage.provide(file.path for file in wanted)
        for file, what in self.damaged(wanted) if not self.trust else ():
            if not self.storage.renew(file.path) or integrity.fault(file) is not None:
                raise integrity.refusal(file, what, self.path)

    def damaged(self, files: Sequence[FileEntry]) -> list[tuple[FileEntry, str]]:
        """Those of these files that are not as the manifest says, each with what is wrong, in words."""
        return integrity.faults(files)

    def schema(self, dataset: str) -> pa.Schema:
        """The columns of a dataset, whether or not it has rows; LakeError if it is unknown."""
        declared = m.declared_schema(dataset)
        if declared is not None:
            return declared
        if dataset in self.manifest.schemas:
            return m.schema_from_text(self.manifest.schemas[dataset])
        for file in self.files(dataset):  # a lake of format 1 that no writer has touched since
            self.provide([file])
            return parquet.schema_of(file.path)
        raise LakeError(
            f"unknown dataset '{dataset}'", did_you_mean(dataset, [*self.manifest.schemas, "canonical/position_events"])
        )

    def read(
        self,
        dataset: str,
        market: str,
        *,
        columns: Sequence[str] | None = None,
        from_block: int | None = None,
        to_block: int | None = None,
    ) -> pa.Table:
        """Rows of a dataset in chain order, within an inclusive block range where the rows have blocks."""
        schema = self.schema(dataset)
        for name in columns or ():
            if name not in schema.names:
                raise LakeError(f"{dataset} has no column '{name}'", did_you_mean(name, schema.names))
        files = list(self.files(dataset, market))
        if "block_number" in schema.names:
            files = [file for file in files if _meets(file, from_block, to_block)]
        overlapping = any(
            a.to_block is not None and b.from_block is not None and b.from_block <= a.to_block
            for a, b in itertools.pairwise(files)
        )
        wanted = list(columns) if columns is not None else schema.names
        keys = [name for name in parquet.ORDER if name in schema.names and name not in wanted] if overlapping else []
        self.provide(files)
        parts = [parquet.read(file.path, schema, [*wanted, *keys], (from_block, to_block)) for file in files]
        if not parts:
            return pa.schema([schema.field(name) for name in wanted]).empty_table()
        table = pa.concat_tables(parts)
        return parquet.in_chain_order(table).select(wanted) if overlapping else table

    def sources(self, market: str) -> list[str]:
        """Sources with any coverage."""
        return sorted(self._record(market).coverage)

    def covered(self, market: str, source: str) -> list[tuple[int, int]]:
        """Inclusive block ranges that are complete for a source, merged, ascending; none for an unknown market or
        source.
        """
        record = self.manifest.markets.get(market)
        return list(record.coverage.get(source, ())) if record else []

    def digest(self, market: str, prefix: str = "raw/") -> str:
        """SHA-256 over the rows (and for raw datasets the coverage) of the datasets that start with ``prefix``.

        For raw datasets it depends on rows and coverage alone, not on how rows are cut into files or in which order
        they came (``backtest.lake.content``); for others on the files' own SHA-256.
        """
        record = self._record(market)
        rows: dict[str, list[str]] = {}
        for file in record.files:
            if file.dataset.startswith(prefix):
                rows.setdefault(file.dataset, []).append(
                    self._content(file) if file.dataset.startswith("raw/") else file.sha256
                )
        body: dict[str, Any] = {
            dataset: content.add(found) if dataset.startswith("raw/") else sorted(found)
            for dataset, found in sorted(rows.items())
        }
        if prefix.startswith("raw/"):
            body["coverage"] = {source: record.coverage[source] for source in sorted(record.coverage)}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def session(self, limits: Limits | None = None) -> Session:
        """The SQL session of the version that this lake sees; made once and kept until the lake moves on."""
        wanted = limits or (self._session[1] if self._session else Limits())
        if self._session is None or self._session[:2] != (self.manifest.version, wanted):
            self._session = (self.manifest.version, wanted, Session(self, wanted))
        return self._session[2]

    def sql(self, query: str, *, limits: Limits | None = None) -> Answer:
        """The result of one SELECT over the views of ``queries/``, with ``.df()``, ``.to_arrow_table()``,
        ``.fetchall()``; every digit of an amount is kept in each.

        Raises:
            LakeError: anything but one SELECT or EXPLAIN, an unknown name, a syntax error: in one line.
        """
        return self.session(limits).sql(query)

    def _content(self, file: m.FileRecord) -> str:
        """The content digest of a file, computed where a format-1 lake lacks it."""
        if file.content:
            return file.content
        where = self.storage.location(file.path)
        self.storage.provide([where])  # no digest to compare with
        return content.content_digest(parquet.read(where, self.schema(file.dataset), None, (None, None)))

    def _record(self, market: str) -> m.MarketRecord:
        if market not in self.manifest.markets:
            raise LakeError(
                f"there is no market '{market}' in {self.path}", did_you_mean(market, self.manifest.markets)
            )
        return self.manifest.markets[market]


def _meets(file: FileEntry, from_block: int | None, to_block: int | None) -> bool:
    return (from_block is None or file.to_block is None or file.to_block >= from_block) and (
        to_block is None or file.from_block is None or file.from_block <= to_block
    )
