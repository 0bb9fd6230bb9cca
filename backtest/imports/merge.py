"""What is stored and what is new, together: known rows, contradictions, times of blocks, and the order within each
block.

All is worked out anew over both, so that what a lake holds does not depend on the order of imports. A row that was
stored stays.

Order within a block: rows that have a log index by it. Those without one that make nobody riskier (parameters, oracle
prices, deposits, repayments) come before them, the others (withdrawals, borrows, liquidations) behind them; among
themselves by kind, by the mapping's ``rank``, and by content. Where that leaves no room below the first log index, the
block is numbered anew from 0.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from backtest.blocks import consistent, place
from backtest.errors import UserError
from backtest.imports.convert import open_schema
from backtest.prices.imported import CHECKPOINT, PRICE, spine_rows
from backtest.tables import IMPORT_KEY, IMPORTED

Numbers = npt.NDArray[np.int64]
_KEY = [f.name for f in IMPORT_KEY]
_STORED_WEIGHT = 1 << 32
_SHARED = 3  # blocks that two files must both name before their times are compared
FACTS = ("raw/import/Parameter", PRICE, "raw/import/Flow", "raw/import/Liquidation", CHECKPOINT)
"""Datasets in the order in which rows without a log index come."""


@dataclass(slots=True)
class Merged:
    """The rows to store by dataset, in order, and what became of the new ones, by (digest, row): known before, taken,
    refused.
    """

    tables: dict[str, pa.Table]
    known: set[tuple[bytes, int]] = field(default_factory=set)
    taken: set[tuple[bytes, int]] = field(default_factory=set)
    refused: list[tuple[bytes, int, str, str]] = field(default_factory=list)  # digest, row, dataset, reason
    ambiguous: int = 0


def merge(stored: Mapping[str, pa.Table], new: Mapping[str, pa.Table], names: Mapping[bytes, str]) -> Merged:
    """Put new rows (``open_schema``) to those that are stored (the datasets' schemas).

    ``names`` are the files' names by digest, for messages.

    Raises:
        UserError: the times of a whole file contradict those of the others.
    """
    out = Merged({})
    tables = {}
    for dataset in FACTS:
        old = stored[dataset] if dataset in stored else IMPORTED[dataset].empty_table()
        both = pa.concat_tables([old.cast(open_schema(dataset)), new.get(dataset, open_schema(dataset).empty_table())])
        if both.num_rows:
            tables[dataset] = _unique(both, old.num_rows, dataset, out)
    tables = _timed(tables, names, out) if tables else {}
    for table, fresh in tables.values():
        rows = table.filter(pa.array(fresh))
        out.taken.update(zip(rows["source_digest"].to_pylist(), rows["source_row"].to_pylist(), strict=True))
    out.tables = _ordered({name: (_ambiguous(table), fresh) for name, (table, fresh) in tables.items()})
    out.ambiguous = sum(int(pc.sum(table["ambiguous"]).as_py() or 0) for table in out.tables.values())
    return out


_Part = tuple[pa.Table, npt.NDArray[np.bool_]]  # rows, and which of them are new


def _unique(table: pa.Table, old: int, dataset: str, out: Merged) -> _Part:
    """One row for each identity: the stored one, else the first."""
    fresh = np.arange(table.num_rows) >= old
    frame = pd.DataFrame({"identity": pd.factorize(_series(table["identity"]))[0]})
    repeated = frame["identity"].duplicated().to_numpy()
    if not repeated.any():
        return table, fresh
    first = frame.drop_duplicates("identity").reset_index().set_index("identity")["index"]
    origin = first.loc[frame["identity"]].to_numpy()
    # A row without a time does not contradict one that has it.
    times = pc.coalesce(table["timestamp"], table["timestamp"].take(pa.array(origin)))
    content = pd.factorize(_content(table.set_column(_KEY.index("timestamp"), "timestamp", times)))[0]
    digests, rows = table["source_digest"], table["source_row"]
    for row in np.flatnonzero(repeated).tolist():
        where = digests[row].as_py(), rows[row].as_py()
        if content[row] == content[origin[row]]:
            out.known.add(where)
        else:
            held = int(origin[row])
            other = "a stored row" if held < old else f"row {rows[held].as_py()}"
            reason = f"contradicts {other} with the same identity {table['identity'][row].as_py()}"
            out.refused.append((*where, dataset, reason))
    keep = ~repeated
    return table.filter(pa.array(keep)), fresh[keep]


def _series(column: Any) -> Any:
    return column.combine_chunks().to_pandas()


def _content(table: pa.Table) -> Any:
    """What a row says, as one text: its own columns, time, and block where the export has it."""
    own = [name for name in table.schema.names if name not in _KEY]
    block = pc.if_else(table["block_known"], table["block_number"], pa.scalar(-1, pa.int64()))
    columns = [block, table["timestamp"], table["own_index"], *(table[name] for name in own)]
    texts = [pc.fill_null(column.cast(pa.string()), "") for column in columns]
    return _series(pc.binary_join_element_wise(*texts, "|"))


def _ambiguous(table: pa.Table) -> pa.Table:
    """Mark rows without transaction hash of which there is an identical one."""
    bare = np.asarray(pc.is_null(table["transaction_hash"]))
    marked = np.zeros(table.num_rows, np.bool_)
    if bare.any():
        content = _content(table).where(bare)
        marked = content.duplicated(keep=False).to_numpy() & bare
    return table.set_column(_KEY.index("ambiguous"), "ambiguous", pa.array(marked))


# -- times
# ---------------------------------------------------------------------------------------------------------------------


def _timed(tables: Mapping[str, _Part], names: Mapping[bytes, str], out: Merged) -> dict[str, _Part]:
    """Every row with a block and a time that can be true together; the others refused."""
    pairs = pd.concat([_pairs(table, fresh) for table, fresh in tables.values()], ignore_index=True)
    _whole_files(pairs, names)
    counted = (
        pairs.groupby(["block", "time"], sort=True).agg(rows=("fresh", "size"), new=("fresh", "all")).reset_index()
    )
    weights = [
        rows if new else rows + _STORED_WEIGHT
        for rows, new in zip(counted["rows"].tolist(), counted["new"].tolist(), strict=True)
    ]
    kept = consistent(list(zip(counted["block"].tolist(), counted["time"].tolist(), weights, strict=True)))
    _mostly_out(pairs, kept, names)
    known = sorted(kept)
    blocks, times = [block for block, _ in known], [time for _, time in known]
    time_of = dict(known)
    placeless = [table.filter(pc.invert(table["block_known"])) for name, (table, _) in tables.items() if name != PRICE]
    loose = sorted({time for table in placeless for time in table["timestamp"].to_pylist()})
    block_at = dict(zip(loose, place(loose, blocks, times), strict=True))
    return {
        name: _fitted(name, table, fresh, time_of, (blocks, times), block_at, out)
        for name, (table, fresh) in tables.items()
    }


def _pairs(table: pa.Table, fresh: npt.NDArray[np.bool_]) -> pd.DataFrame:
    stated = np.asarray(pc.and_(table["block_known"], pc.is_valid(table["timestamp"])))
    rows = table.filter(pa.array(stated))
    return pd.DataFrame(
        {
            "block": rows["block_number"].to_numpy(),
            "time": rows["timestamp"].to_numpy(),
            "file": pd.Series(rows["source_digest"].to_pylist(), dtype=object),
            "fresh": fresh[stated],
        }
    )


def _whole_files(pairs: pd.DataFrame, names: Mapping[bytes, str]) -> None:
    """UserError for a file whose times are off by the same amount in nearly all blocks that other files name too."""
    worst: tuple[float, bytes, int, int] | None = None
    single = pairs.drop_duplicates(["block", "time", "file"])
    for file in pd.unique(pairs.loc[pairs["fresh"], "file"]):
        mine = single[single["file"] == file].drop_duplicates("block").set_index("block")["time"]
        others = single[single["file"] != file].drop_duplicates("block").set_index("block")["time"]
        both = mine.index.intersection(others.index)
        if len(both) < _SHARED:
            continue
        offset, count = Counter((mine.loc[both] - others.loc[both]).tolist()).most_common(1)[0]
        if offset and count >= 0.8 * len(both) and (worst is None or count / len(both) >= worst[0]):
            worst = (count / len(both), file, offset, len(both))
    if worst is not None:
        _, file, offset, shared = worst
        raise UserError(
            f"{names.get(file, 'a file')}: its times are {abs(offset)} seconds {'later' if offset > 0 else 'earlier'}"
            f" than those of other files in most of the {shared} blocks that both name",
            "another time zone? Give each time its offset in the SELECT, or state 'timezone' in mapping.toml; nothing"
            " was imported",
        )


def _mostly_out(pairs: pd.DataFrame, kept: set[tuple[int, int]], names: Mapping[bytes, str]) -> None:
    """UserError for a file most of whose times contradict the others."""
    if len(kept) == len(pairs.drop_duplicates(["block", "time"])):
        return
    out = [pair not in kept for pair in zip(pairs["block"].tolist(), pairs["time"].tolist(), strict=True)]
    share = pairs.assign(out=out).groupby("file")["out"].agg(["mean", "size"])
    for file, row in share.iterrows():
        if row["mean"] > 0.5 and row["size"] >= _SHARED:
            raise UserError(
                f"{names.get(file, 'a file')}: {row['mean']:.0%} of its times contradict those of other rows (blocks"
                " later, times earlier)",
                "another time zone, or columns mixed up? Mend the mapping; nothing was imported",
            )


def _fitted(
    dataset: str,
    table: pa.Table,
    fresh: npt.NDArray[np.bool_],
    time_of: Mapping[int, int],
    known: tuple[Sequence[int], Sequence[int]],
    block_at: Mapping[int, int | None],
    out: Merged,
) -> _Part:
    """A dataset with all blocks and times; rows for which there are none are refused."""
    blocks, times = table["block_number"].to_pylist(), table["timestamp"].to_pylist()
    bad: dict[int, str] = {}
    for row, (block, time, stated) in enumerate(zip(blocks, times, table["block_known"].to_pylist(), strict=True)):
        if not stated:
            blocks[row] = _price_block(time, *known) if dataset == PRICE else block_at[time]
            if blocks[row] is None:
                bad[row] = f"time {time}: there is no block left between the known ones around it"
        elif time is None:
            times[row] = time_of.get(block)
            if times[row] is None:
                bad[row] = f"block {block} has no time here, and no other row tells of it"
        elif time_of.get(block) != time:
            if block in time_of:
                bad[row] = f"block {block} has time {time} here and {time_of[block]} in other rows"
            else:
                bad[row] = f"block {block} at time {time} contradicts the blocks around it in other rows"
    for row, reason in bad.items():
        out.refused.append((table["source_digest"][row].as_py(), table["source_row"][row].as_py(), dataset, reason))
    keep = np.array([row not in bad for row in range(table.num_rows)], np.bool_)
    filled = table.set_column(0, "block_number", pa.array([block or 0 for block in blocks], pa.int64()))
    filled = filled.set_column(
        _KEY.index("timestamp"), "timestamp", pa.array([time or 0 for time in times], pa.int64())
    )
    return filled.filter(pa.array(keep)), fresh[keep]


def _price_block(time: int, blocks: Sequence[int], times: Sequence[int]) -> int:
    """The first known block at or after a time, else the last one; the time itself where none is known."""
    if not blocks:
        return time
    return blocks[min(bisect_left(times, time), len(blocks) - 1)]


# -- order
# ---------------------------------------------------------------------------------------------------------------------


def _ordered(parts: Mapping[str, _Part]) -> dict[str, pa.Table]:
    """Log indexes that are unique in each block, and the rows in that order."""
    held: dict[int, list[tuple[tuple[Any, ...], str, int]]] = defaultdict(list)
    index = {name: np.zeros(table.num_rows, np.int32) for name, (table, _) in parts.items()}
    for number, name in enumerate(FACTS):
        if name not in parts:
            continue
        table = parts[name][0]
        keys = _order_keys(name, number, table)
        blocks = table["block_number"].to_pylist()
        for row in np.flatnonzero(spine_rows(name, table)).tolist():
            held[blocks[row]].append((keys[row], name, row))
    for rows in held.values():
        rows.sort()
        own = [key[1] if key[0] == 0 else None for key, _, _ in rows]
        for (_, name, row), place_ in zip(rows, _indexes(own), strict=True):
            index[name][row] = place_
    out = {}
    for name, (table, _) in parts.items():
        placed = table.set_column(_KEY.index("log_index"), "log_index", pa.array(index[name])).cast(IMPORTED[name])
        out[name] = placed.sort_by(
            [(key, "ascending") for key in ("block_number", "log_index", "timestamp", "identity")]
        )
    return out


def _order_keys(name: str, number: int, table: pa.Table) -> list[tuple[Any, ...]]:
    """What a row is sorted by within its block: band (before -1, by log index 0, behind 1), index, kind, rank, content,
    source.
    """
    bands = np.where(np.asarray(table["own_index"].is_valid()), 0, -1 if name in ("raw/import/Parameter", PRICE) else 1)
    if name == "raw/import/Flow":
        calm = np.asarray(pc.equal(pc.equal(table["side"], "collateral"), pc.greater(table["amount"], 0)))
        bands = np.where((bands == 1) & calm, -1, bands)
    columns = (
        bands.tolist(),
        pc.fill_null(table["own_index"], 0).to_pylist(),
        table["rank"].to_pylist(),
        _content(table).tolist(),
    )
    sources = zip(table["source_digest"].to_pylist(), table["source_row"].to_pylist(), strict=True)
    return [
        (band, own, number, rank, content, source)
        for band, own, rank, content, source in zip(*columns, sources, strict=True)
    ]


def _indexes(own: Sequence[int | None]) -> list[int]:
    """Log indexes for the rows of one block in order: their own where that leaves room for those without, else from 0
    on.
    """
    indexed = [index for index in own if index is not None]
    before = own.index(indexed[0]) if indexed else 0
    if not indexed or indexed[0] < before or len(set(indexed)) < len(indexed):
        return list(range(len(own)))
    behind = len(own) - before - len(indexed)
    first, last = indexed[0], indexed[-1]
    return [*range(first - before, first), *indexed, *range(last + 1, last + 1 + behind)]
