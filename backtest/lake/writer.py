"""The one writer of a lake. Every public method is one commit: it appears whole or not at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from backtest import tables
from backtest.errors import LakeBusy, LakeError
from backtest.lake import manifest as m
from backtest.lake import parquet
from backtest.lake.content import content_digest
from backtest.lake.storage import is_unfinished
from backtest.markets import MarketConfig

if TYPE_CHECKING:
    from backtest.lake import Lake

_DATASET = re.compile(r"^(raw|canonical|results)(/[A-Za-z0-9][A-Za-z0-9._-]*){1,2}$")
_MARKET = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
FILE_ROWS = 1 << 20
"""``replace`` and ``compact`` cut files at about this many rows."""


class Writer:
    """Handed out by ``Lake.writer()``, which holds the lock meanwhile."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._storage = lake.storage
        self._base: m.Manifest | None = None
        """Within ``one_commit``: the version that it began with."""

    @contextmanager
    def one_commit(self) -> Iterator[None]:
        """Everything written within appears at once at the end; if an error is raised, the lake stays as it was.

        Meanwhile only this process's ``Lake`` sees it, and no garbage is collected.
        """
        base = self._lake.manifest
        self._base = base
        try:
            yield
            new, self._lake.manifest = self._lake.manifest, base
            self._base = None
            if new is not base:
                self._put(msgspec.structs.replace(new, version=base.version + 1))
        except BaseException:
            self._lake.manifest = base
            raise
        finally:
            self._base = None

    def withdraw(self, market: str, from_block: int, to_block: int, datasets: Callable[[str], bool]) -> int:
        """Take the rows of an inclusive block range out of the datasets that ``datasets`` accepts, all rows of those
        without blocks, and the range out of all coverage; the number of rows taken out.
        """
        record = self._market(market)
        files: list[m.FileRecord] = []
        taken = 0
        for file in record.files:
            schema = self._lake.schema(file.dataset)
            blocks = file.from_block is not None and file.to_block is not None and "block_number" in schema.names
            apart = blocks and (file.to_block < from_block or file.from_block > to_block)  # type: ignore[operator]
            if not datasets(file.dataset) or apart:
                files.append(file)
                continue
            taken += file.rows
            if not blocks:
                continue
            where = self._storage.location(file.path)
            self._storage.provide([where])
            table = parquet.read(where, schema, None, (None, None))
            block = table.column("block_number")
            for kept in (pc.less(block, from_block), pc.greater(block, to_block)):
                rest = table.filter(kept)
                taken -= rest.num_rows
                if rest.num_rows:
                    files.append(self._store(market, file.dataset, rest, _block_range(rest), file.stamp))
        cut = {
            source: tuple(part for start, stop in ranges for part in _without(start, stop, from_block, to_block))
            for source, ranges in record.coverage.items()
        }
        coverage = {source: ranges for source, ranges in cut.items() if ranges}
        self._publish(market, msgspec.structs.replace(record, files=_sorted(files), coverage=coverage))
        return taken

    def complete(self) -> None:
        """Give a lake of format 1 what its manifest lacks: digests of files and rows, schemas of event datasets. Else
        nothing.
        """
        for name, record in list(self._lake.manifest.markets.items()):
            lacking = [file for file in record.files if not file.sha256]
            if not lacking:
                continue
            schemas = dict(self._lake.manifest.schemas)
            files = [file for file in record.files if file.sha256]
            for file in lacking:
                schema = self._lake.schema(file.dataset)
                self._storage.provide([self._storage.location(file.path)])
                if m.declared_schema(file.dataset) is None:
                    schemas[file.dataset] = m.schema_to_text(schema)
                rows = parquet.read(self._storage.location(file.path), schema, None, (None, None))
                sha256 = hashlib.sha256(self._storage.read(file.path)).hexdigest()
                content = content_digest(rows) if file.dataset.startswith("raw/") else ""
                files.append(msgspec.structs.replace(file, sha256=sha256, content=content))
            self._publish(name, msgspec.structs.replace(record, files=_sorted(files)), schemas)

    def set_market(self, config: MarketConfig) -> None:
        """Store the description of a market. The same again changes nothing; a different one under its name is a
        LakeError.

        Pools may be added or described anew; those that the lake knows and ``config`` does not name are kept. Contracts
        may be added: nothing is known of their logs until they are fetched.
        """
        record = self._market(config.name)
        if record.config is not None:
            config = config.keeping_pools_of(record.config)
            if record.config == config:
                return
            changed = [
                name for name in config.__struct_fields__ if getattr(config, name) != getattr(record.config, name)
            ]
            allowed = {"description", "pools"}
            if config.contracts.items() >= record.config.contracts.items():
                allowed.add("contracts")
            if not set(changed) <= allowed:
                raise LakeError(
                    f"market '{config.name}' of this lake differs in {', '.join(changed)}",
                    "use another market name, or another lake",
                )
        self._publish(config.name, msgspec.structs.replace(record, config=config))

    def set_provenance(self, market: str, facts: Mapping[str, str]) -> None:
        """Add facts about where the data of a market come from (node's client version, last final block); never a
        URL.
        """
        record = self._market(market)
        self._publish(market, msgspec.structs.replace(record, provenance={**record.provenance, **facts}))

    def commit(
        self,
        market: str,
        data: Mapping[str, pa.Table],
        *,
        from_block: int,
        to_block: int,
        covers: Mapping[str, tuple[int, int]] | None = None,
        stamp: str = "",
    ) -> None:
        """Add rows of the inclusive block range, and say which sources it completes.

        Args:
            data: dataset to table; an empty table records the schema and stores no file. Rows are sorted into chain
                order.
            covers: source to the inclusive range that is now complete for it.

        Raises:
            LakeError: a row lies outside the range; columns do not fit the schema; a part of ``covers`` is covered
                already (a range is committed once, so fetch the gaps only).
        """
        covers = covers or {}
        record = self._market(market)
        coverage = dict(record.coverage)
        for source, (start, stop) in covers.items():
            if start > stop:
                raise LakeError(f"'{source}' covers {start} to {stop}", "give the first block first")
            if doubled := m.overlap(coverage.get(source, ()), (start, stop)):
                raise LakeError(
                    f"'{source}' holds blocks {doubled[0]} to {doubled[1]} already", "commit only what covered() lacks"
                )
            coverage[source] = m.merge([*coverage.get(source, ()), (start, stop)])
        schemas = dict(self._lake.manifest.schemas)
        files = []
        for dataset, table in data.items():
            table = self._checked(market, dataset, table, schemas)
            if not table.num_rows:
                continue
            blocks = _block_range(table)
            if blocks and (blocks[0] < from_block or blocks[1] > to_block):
                what = f"{dataset}: rows of blocks {blocks[0]} to {blocks[1]} in a commit of {from_block} to {to_block}"
                raise LakeError(what, "commit the range that the rows have")
            files.append(self._store(market, dataset, table, (from_block, to_block), stamp))
        self._publish(
            market, msgspec.structs.replace(record, files=_sorted([*record.files, *files]), coverage=coverage), schemas
        )

    def append(self, market: str, dataset: str, table: pa.Table, *, stamp: str = "") -> None:
        """Add rows without block coverage (results)."""
        self.append_all(market, {dataset: table}, stamp=stamp)

    def append_all(self, market: str, data: Mapping[str, pa.Table], *, stamp: str = "") -> None:
        """``append`` of several datasets in one commit."""
        record = self._market(market)
        schemas = dict(self._lake.manifest.schemas)
        checked = {dataset: self._checked(market, dataset, table, schemas) for dataset, table in data.items()}
        files = [
            self._store(market, dataset, table, _block_range(table), stamp)
            for dataset, table in checked.items()
            if table.num_rows
        ]
        self._publish(market, msgspec.structs.replace(record, files=_sorted([*record.files, *files])), schemas)

    def replace(
        self,
        market: str,
        prefix: str,
        chunks: Iterable[tuple[str, pa.Table]],
        *,
        stamp: str,
        config: MarketConfig | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        """Replace every file of the market whose dataset starts with ``prefix`` by these chunks, in one commit.

        Chunks of one dataset come in chain order; they are gathered into files of about ``FILE_ROWS`` rows. If the
        iterable raises, the lake stays as it was. ``config`` describes a market that is new; ``provenance`` adds facts.
        """
        record = self._market(market)
        if config is not None and record.config is None:
            record = msgspec.structs.replace(record, config=config)
        record = msgspec.structs.replace(record, provenance={**record.provenance, **(provenance or {})})
        schemas = dict(self._lake.manifest.schemas)
        waiting: dict[str, list[pa.Table]] = {}
        files: list[m.FileRecord] = []

        def flush(dataset: str) -> None:
            table = parquet.in_chain_order(pa.concat_tables(waiting.pop(dataset)))
            if table.num_rows:
                files.append(self._store(market, dataset, table, _block_range(table), stamp))

        for dataset, chunk in chunks:
            if not dataset.startswith(prefix):
                raise LakeError(f"'{dataset}' in a replacement of '{prefix}'", "replace only what the prefix names")
            held = waiting.setdefault(dataset, [])
            held.append(self._checked(market, dataset, chunk, schemas))
            if sum(table.num_rows for table in held) >= FILE_ROWS:
                flush(dataset)
        for dataset in list(waiting):
            flush(dataset)
        kept = [file for file in record.files if not file.dataset.startswith(prefix)]
        self._publish(market, msgspec.structs.replace(record, files=_sorted([*kept, *files])), schemas)
        self.collect_garbage()

    def edit(
        self,
        market: str,
        runs: Collection[str],
        change: Mapping[str, Callable[[pa.Table], pa.Table]],
        *,
        key: str = "run_id",
    ) -> int:
        """Change the result rows whose ``key`` is one of ``runs`` in the datasets of ``change``; without any, delete
        them everywhere. One commit; returns the number of rows that were changed or deleted.
        """
        record = self._market(market)
        wanted = pa.array(sorted(runs), pa.string())
        files: list[m.FileRecord] = []
        count = 0
        for file in record.files:
            own = file.dataset.startswith("results/") and key in self._lake.schema(file.dataset).names
            if not own or (change and file.dataset not in change):
                files.append(file)
                continue
            path = self._storage.location(file.path)
            self._lake.provide(entry for entry in self._lake.files(file.dataset, market) if entry.path == path)
            table = parquet.read(path, self._lake.schema(file.dataset), None, (None, None))
            chosen = pc.fill_null(pc.is_in(table[key].cast(pa.string()), wanted), False)
            hits = table.filter(chosen)
            if not hits.num_rows:
                files.append(file)
                continue
            count += hits.num_rows
            table = table.filter(pc.invert(chosen))
            if change:
                table = pa.concat_tables([table, change[file.dataset](hits)])
            if table.num_rows:
                blocks = None if file.from_block is None or file.to_block is None else (file.from_block, file.to_block)
                files.append(self._store(market, file.dataset, parquet.in_chain_order(table), blocks, file.stamp))
        if count:
            self._publish(market, msgspec.structs.replace(record, files=_sorted(files)))
        return count

    def compact(self, market: str | None = None) -> int:
        """Merge neighbouring small files of each dataset, in block order; returns how many files that saved.

        Which files are merged depends on the manifest alone, and content digests stay as they are.
        """
        saved = 0
        for name in [market] if market else list(self._lake.manifest.markets):
            record = self._market(name)
            files: list[m.FileRecord] = []
            for group in _groups(record.files):
                files.append(group[0] if len(group) == 1 else self._merge(name, group))
            if len(files) < len(record.files):
                saved += len(record.files) - len(files)
                self._publish(name, msgspec.structs.replace(record, files=_sorted(files)))
        self.collect_garbage()
        return saved

    def collect_garbage(self) -> None:
        """Delete manifests behind the newest ``KEEP_VERSIONS``, files that none of those names, and unfinished
        writes.
        """
        if self._base is not None:
            return
        self._forget_old_versions()
        numbers = m.versions(self._storage)
        needed: set[str] = set()
        for number in numbers:
            body = m.parse(self._storage.read(m.name_of(number)), self._storage.location(m.name_of(number)))
            needed.update(file.path for record in body.markets.values() for file in record.files)
        for key in self._storage.list("data", older_than=self._storage.grace):
            if key not in needed:
                self._storage.delete(key)
        for key in self._storage.list("manifest", older_than=self._storage.grace):
            if is_unfinished(key):
                self._storage.delete(key)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _market(self, name: str) -> m.MarketRecord:
        if not _MARKET.match(name):
            raise LakeError(f"'{name}' is not a market name", "use lower-case letters, digits, '-', '_' and '.'")
        return self._lake.manifest.markets.get(name) or m.MarketRecord()

    def _checked(
        self, market: str, dataset: str, table: pa.Table, schemas: dict[str, tuple[tuple[str, str, bool], ...]]
    ) -> pa.Table:
        """The table in its dataset's schema and in chain order; an unknown dataset's schema is recorded."""
        if not _DATASET.match(dataset):
            raise LakeError(
                f"'{dataset}' is not a dataset name", "use raw/<protocol>/<Event>, canonical/<table> or results/<table>"
            )
        schema = m.declared_schema(dataset)
        if schema is None and dataset in schemas:
            schema = m.schema_from_text(schemas[dataset])
        if schema is None:
            schema = table.schema.remove_metadata()
            if not dataset.startswith("raw/"):
                raise LakeError(f"'{dataset}' is not in backtest.tables", "declare its schema there")
            if list(schema)[: len(tables.RAW_KEY)] != tables.RAW_KEY:
                raise LakeError(
                    f"{dataset}: an event dataset starts with {', '.join(f.name for f in tables.RAW_KEY)}",
                    "see tables.RAW_KEY",
                )
            schemas[dataset] = m.schema_to_text(schema)
        table = parquet.conform(table, schema, dataset)
        if not dataset.startswith("results/") and "market" in schema.names and table.num_rows:
            found = pc.unique(table.column("market")).to_pylist()
            if found != [market]:
                raise LakeError(
                    f"{dataset}: rows of market {', '.join(map(str, found))}", f"commit rows of '{market}' only"
                )
        return parquet.in_chain_order(table)

    def _store(
        self, market: str, dataset: str, table: pa.Table, blocks: tuple[int, int] | None, stamp: str
    ) -> m.FileRecord:
        """Write one file; until a manifest names it nobody sees it."""
        data = memoryview(parquet.encode(table))
        sha256 = hashlib.sha256(data).hexdigest()
        span = f"{blocks[0]}-{blocks[1]}" if blocks else "rows"
        key = f"data/{market}/{dataset}/{span}-{sha256[:16]}.parquet"
        known = {file.path for file in self._market(market).files}
        if key in known:
            key = f"data/{market}/{dataset}/{span}-{sha256[:16]}-{self._lake.manifest.version + 1}.parquet"
        self._storage.put(key, data)
        return m.FileRecord(
            dataset=dataset,
            path=key,
            rows=table.num_rows,
            bytes=len(data),
            from_block=blocks[0] if blocks else None,
            to_block=blocks[1] if blocks else None,
            stamp=stamp,
            sha256=sha256,
            content=content_digest(table) if dataset.startswith("raw/") else "",
        )

    def _merge(self, market: str, group: list[m.FileRecord]) -> m.FileRecord:
        dataset = group[0].dataset
        schema = self._lake.schema(dataset)
        paths = {self._storage.location(file.path) for file in group}
        self._lake.provide(file for file in self._lake.files(dataset, market) if file.path in paths)
        parts = [parquet.read(self._storage.location(file.path), schema, None, (None, None)) for file in group]
        table = parquet.in_chain_order(pa.concat_tables(parts))
        starts = [file.from_block for file in group if file.from_block is not None]
        stops = [file.to_block for file in group if file.to_block is not None]
        blocks = (min(starts), max(stops)) if starts and stops else None
        return self._store(market, dataset, table, blocks, group[0].stamp)

    def _publish(
        self, market: str, record: m.MarketRecord, schemas: dict[str, tuple[tuple[str, str, bool], ...]] | None = None
    ) -> None:
        """Publish the next manifest version; LakeBusy if another writer did: without a lock that may happen."""
        old = self._lake.manifest
        new = msgspec.structs.replace(
            old,
            version=old.version + 1,
            schemas=dict(sorted((old.schemas if schemas is None else schemas).items())),
            markets=dict(sorted({**old.markets, market: record}.items())),
        )
        if self._base is None:
            self._put(new)
        else:
            self._lake.manifest = new

    def _put(self, new: m.Manifest) -> None:
        old = self._lake.manifest
        # A number far behind may be free again, its manifest forgotten: only the newest version may be followed.
        newest = m.versions(self._storage)[-1:]
        if newest != [old.version] or not self._storage.put_if_absent(m.name_of(new.version), m.encode(new)):
            raise LakeBusy(f"another writer published version {new.version} of {self._lake.path}", "run again")
        self._lake.manifest = new
        self._forget_old_versions()

    def _forget_old_versions(self) -> None:
        """Delete manifests behind the newest ``KEEP_VERSIONS``, of a store without locks those that are old as well."""
        superseded = {m.name_of(number) for number in m.versions(self._storage)[: -m.KEEP_VERSIONS]}
        for key in self._storage.list("manifest", older_than=self._storage.grace) if superseded else ():
            if key in superseded:
                self._storage.delete(key)


def _block_range(table: pa.Table) -> tuple[int, int] | None:
    if "block_number" not in table.schema.names or not table.num_rows:
        return None
    ends = pc.min_max(table.column("block_number"))
    return ends["min"].as_py(), ends["max"].as_py()


def _without(start: int, stop: int, first: int, last: int) -> list[tuple[int, int]]:
    """What of an inclusive range lies before ``first`` and after ``last``."""
    parts = [(start, min(stop, first - 1)), (max(start, last + 1), stop)]
    return [part for part in parts if part[0] <= part[1]]


def _sorted(files: Iterable[m.FileRecord]) -> tuple[m.FileRecord, ...]:
    return tuple(sorted(files, key=lambda file: (file.dataset, file.from_block or 0, file.to_block or 0, file.path)))


def _groups(files: tuple[m.FileRecord, ...]) -> list[list[m.FileRecord]]:
    """Neighbouring files of one dataset and stamp that together stay within ``FILE_ROWS``."""
    groups: list[list[m.FileRecord]] = []
    for file in files:
        last = groups[-1] if groups else None
        if (
            last
            and (last[0].dataset, last[0].stamp) == (file.dataset, file.stamp)
            and sum(f.rows for f in last) + file.rows <= FILE_ROWS
        ):
            last.append(file)
        else:
            groups.append([file])
    return groups
