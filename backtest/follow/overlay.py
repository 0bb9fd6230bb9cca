"""Rows of blocks that may yet be undone, over a lake that stays as it is: what the parts of a fetch read and write
while they follow the head, in memory. The lake below holds final blocks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from backtest.errors import LakeError
from backtest.lake import Lake, Writer, parquet
from backtest.lake.manifest import merge
from backtest.markets import MarketConfig

Range = tuple[int, int]
_CHUNKS = 32


class Overlay(Lake):
    """One market of ``base`` with the rows of later blocks.

    ``final``: the last block whose rows are the base's. What the base holds is read once and kept.
    """

    def __init__(self, base: Lake, market: str, final: int) -> None:
        self.trust, self.storage, self.path = base.trust, base.storage, base.path
        self.manifest = base.manifest
        self._session = None
        self.market, self.final = market, final
        self.changes = 0
        """How often rows came or went."""
        self.facts: dict[str, str] = {}
        """Provenance that is not the base's."""
        self._named = frozenset(super().datasets(market))
        self._rows: dict[str, pa.Table] = {}
        self._replaced: set[str] = set()
        """Datasets of which all rows are here: somebody wrote them anew."""
        self._coverage: dict[str, tuple[Range, ...]] = {}
        self._below: dict[tuple[str, tuple[str, ...]], pa.Table] = {}

    @override
    def datasets(self, market: str | None = None) -> list[str]:
        return sorted({*self._named, *(name for name, table in self._rows.items() if table.num_rows)})

    def holds_below(self, dataset: str) -> bool:
        """Whether the base has rows of a dataset."""
        return dataset in self._named

    def holds(self, dataset: str) -> bool:
        """Whether there are rows of a dataset."""
        return dataset in self._named or dataset in self._rows

    @override
    def schema(self, dataset: str) -> pa.Schema:
        own = self._rows.get(dataset)
        return super().schema(dataset) if own is None else own.schema

    @override
    def read(
        self,
        dataset: str,
        market: str,
        *,
        columns: Sequence[str] | None = None,
        from_block: int | None = None,
        to_block: int | None = None,
    ) -> pa.Table:
        schema = self.schema(dataset)
        wanted = list(columns) if columns is not None else schema.names
        blocks = "block_number" in schema.names
        parts = []
        if dataset not in self._replaced and not (blocks and from_block is not None and from_block > self.final):
            parts.append(self._read_below(dataset, market, wanted, from_block, to_block))
        if (own := self._rows.get(dataset)) is not None:
            parts.append((_within(own, from_block, to_block) if blocks else own).select(wanted))
        if not parts:
            return pa.schema([schema.field(name) for name in wanted]).empty_table()
        return pa.concat_tables(parts) if len(parts) > 1 else parts[0]

    def _read_below(
        self, dataset: str, market: str, wanted: list[str], from_block: int | None, to_block: int | None
    ) -> pa.Table:
        if from_block is not None or (to_block is not None and to_block < self.final):
            return super().read(dataset, market, columns=wanted, from_block=from_block, to_block=to_block)
        key = dataset, tuple(wanted)
        if key not in self._below:
            self._below[key] = super().read(dataset, market, columns=wanted)
        return self._below[key]

    @override
    def covered(self, market: str, source: str) -> list[Range]:
        return list(merge([*super().covered(market, source), *self._coverage.get(source, ())]))

    @override
    def sources(self, market: str) -> list[str]:
        return sorted({*super().sources(market), *self._coverage})

    @override
    def provenance(self, market: str) -> dict[str, str]:
        return super().provenance(market) | self.facts

    @contextmanager
    @override
    def writer(self) -> Iterator[Writer]:
        yield OverlayWriter(self)

    # -- the blocks above -----------------------------------------------------------------------------------------

    def own(self, dataset: str, first: int, last: int) -> pa.Table:
        """Rows of an inclusive range above the final block."""
        return self.read(dataset, self.market, from_block=max(first, self.final + 1), to_block=last)

    def forget(self, first: int) -> None:
        """Blocks from ``first`` on are no more."""
        self._cut(lambda table: table.filter(pc.less(table["block_number"], first)))
        self._coverage = {
            source: kept
            for source, ranges in self._coverage.items()
            if (kept := tuple((low, min(high, first - 1)) for low, high in ranges if low < first))
        }
        self.facts = {}

    def above(self, base: Lake, final: int) -> Overlay:
        """What is left where the blocks up to ``final`` are the base's own."""
        left = Overlay(base, self.market, final)
        left._rows = dict(self._rows)
        for dataset, table in self._rows.items():
            if "block_number" not in table.schema.names:  # facts that the blocks which are left may need
                below = base.read(dataset, self.market).to_pylist() if left.holds_below(dataset) else []
                left._rows[dataset] = table.schema.empty_table()
                left.add(
                    dataset, pa.Table.from_pylist([row for row in table.to_pylist() if row not in below], table.schema)
                )
        left._cut(lambda table: table.filter(pc.greater(table["block_number"], final)))
        for source, ranges in self._coverage.items():
            if kept := tuple((max(low, final + 1), high) for low, high in ranges if high > final):
                left._coverage[source] = kept
        return left

    def _cut(self, keep: Callable[[pa.Table], pa.Table]) -> None:
        self.changes += 1
        for dataset, table in list(self._rows.items()):
            if "block_number" in table.schema.names:
                self._rows[dataset] = keep(table).combine_chunks()

    def add(self, dataset: str, table: pa.Table) -> None:
        """More rows."""
        if table.num_rows:
            self.changes += 1
            known = self._rows.get(dataset)
            schema = self._declared(dataset, table) if known is None else known.schema
            table = parquet.in_chain_order(parquet.conform(table, schema, dataset))
            whole = table if known is None else pa.concat_tables([known, table])
            self._rows[dataset] = whole.combine_chunks() if whole[0].num_chunks > _CHUNKS else whole

    def put(self, dataset: str, table: pa.Table) -> None:
        """All rows of a dataset, in the place of those there are."""
        self._rows.pop(dataset, None)
        self._replaced.add(dataset)
        self.add(dataset, table)

    def cover(self, source: str, blocks: Range) -> None:
        """An inclusive range is complete for a source."""
        self._coverage[source] = merge([*self._coverage.get(source, ()), blocks])

    def _declared(self, dataset: str, table: pa.Table) -> pa.Schema:
        try:
            return super().schema(dataset)
        except LakeError:  # an event that the base has none of
            return table.schema.remove_metadata()


class OverlayWriter(Writer):
    """Writes into an ``Overlay``: nothing is stored."""

    def __init__(self, overlay: Overlay) -> None:
        super().__init__(overlay)
        self._overlay = overlay

    @override
    def set_market(self, config: MarketConfig) -> None:
        """The base knows it."""

    @override
    def set_provenance(self, market: str, facts: Mapping[str, str]) -> None:
        self._overlay.facts |= facts

    @override
    def commit(
        self,
        market: str,
        data: Mapping[str, pa.Table],
        *,
        from_block: int,
        to_block: int,
        covers: Mapping[str, Range] | None = None,
        stamp: str = "",
    ) -> None:
        for dataset, table in data.items():
            self._overlay.add(dataset, table)
        for source, blocks in (covers or {}).items():
            self._overlay.cover(source, blocks)

    @override
    def append(self, market: str, dataset: str, table: pa.Table, *, stamp: str = "") -> None:
        self._overlay.add(dataset, table)

    @override
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
        for dataset, table in chunks:
            self._overlay.put(dataset, table)


def _within(table: pa.Table, first: int | None, last: int | None) -> pa.Table:
    for bound, holds in ((first, pc.greater_equal), (last, pc.less_equal)):
        if bound is not None:
            table = table.filter(holds(table["block_number"], bound))
    return table
