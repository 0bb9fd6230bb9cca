"""``backtest import``: files of facts that users have, through a mapping, into a lake.

    read files as text -> one SELECT for each kind of fact -> exact columns -> merge with what is stored -> one commit

Every row of a file ends as stored, known already, quarantined with its reason, or set aside by the mapping with its
reason: rows that are only looked up in, and rows that are not for this market. A mistake in the mapping or a file that
cannot be read leaves the lake as it was.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from backtest.errors import UserError, did_you_mean
from backtest.foreign import shown
from backtest.imports.convert import RefusedRow, convert, used
from backtest.imports.mapping import TARGETS, Loaded, load, shipped
from backtest.imports.merge import FACTS, Merged, merge
from backtest.imports.sources import SOURCE_ROW, File, Sources, read
from backtest.imports.tokens import known_decimals
from backtest.lake import Lake
from backtest.lake.mapped import TextDatabase
from backtest.markets import MarketConfig
from backtest.protocols.interface import LendingProtocol
from backtest.protocols.registry import folding_imports, protocol_named
from backtest.tables import IMPORTED
from backtest.unread import unread_imports

__all__ = ["FileCount", "ImportSummary", "import_files", "load", "shipped"]

QUARANTINE = "raw/import/Quarantine"
_MARKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_REASON = 500
_FOLDED = ("flow", "liquidation", "parameter")
"""Facts that a protocol's fold reads; prices and checkpoints are read for all protocols alike."""


@dataclass(slots=True)
class FileCount:
    """What became of the rows of one file."""

    source: str
    name: str
    digest: str
    rows: int
    stored: int = 0
    known: int = 0
    quarantined: int = 0
    aside: int = 0

    def __str__(self) -> str:
        aside = f", {self.aside} set aside" if self.aside else ""
        return f"{self.rows} rows: {self.stored} stored, {self.known} known, {self.quarantined} quarantined{aside}"


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did.

    ``reasons``: reason to number of rows quarantined, ``aside``: to number set aside; ``rows``: what the market holds
    now, by dataset; ``ambiguous``: rows of the market that are marked so; ``changed``: whether the lake is a new
    version; ``absent``: sources without files; ``repeated``: files given twice; ``unread``: what nothing reads of all
    that the market holds (``unread_imports``); ``queries_only``: nothing of the market is ever folded.
    """

    market: str
    files: Sequence[FileCount]
    reasons: Mapping[str, int]
    aside: Mapping[str, int]
    rows: Mapping[str, int]
    ambiguous: int
    changed: bool
    absent: Sequence[str] = field(default=())
    repeated: Sequence[str] = field(default=())
    unread: Mapping[str, int] = field(default_factory=dict)
    queries_only: bool = False


def import_files(
    lake: Lake,
    mapping: Loaded,
    *,
    market: str | None = None,
    folder: Path | None = None,
    sources: Mapping[str, Sequence[str]] | None = None,
    parameters: Mapping[str, str] | None = None,
    mended: bool = False,
) -> ImportSummary:
    """Import files into a market of a lake, in one commit.

    Args:
        market: its name; None takes the mapping's.
        folder: where the mapping's globs look for the sources that ``sources`` does not name.
        sources: source to paths or globs.
        parameters: values for the mapping's parameters.
        mended: the files are mended versions of earlier ones of the same names, whose quarantined rows are forgotten.

    Raises:
        UserError: a mistake in mapping, files or arguments, in one line; the lake is as it was.
        LakeError: another process writes to the lake.
    """
    values = _parameters(mapping, parameters or {})
    with lake.writer() as writer:
        config = _config(lake, mapping, market, values)
        held = config.name in lake.markets()
        protocol = _folding(lake, mapping, config, held)
        files = read(mapping.body.sources, folder, sources or {})
        new, refused, aside = _mapped(mapping, files, values, config.base_decimals, config.chain_id, protocol)
        stored = {
            name: lake.read(name, config.name)
            for name in (*FACTS, QUARANTINE)
            if held and lake.files(name, config.name)
        }
        merged = merge(stored, new, {file.digest: file.name for file in files.files})
        number = {file.digest: place for place, file in enumerate(files.files)}
        refused += [RefusedRow(number[digest], row, dataset, reason) for digest, row, dataset, reason in merged.refused]
        counts = _counts(mapping, files, merged, refused, aside)
        before = stored.get(QUARANTINE, IMPORTED[QUARANTINE].empty_table())
        quarantine = _quarantine(mapping, files, refused, before, mended)
        facts = {f"import {count.name} {count.digest[:12]}": f"{mapping.name}: {count}" for count in counts}
        known = lake.provenance(config.name) if held else {}
        facts = {key: value for key, value in facts.items() if key not in known}
        changed = bool(merged.taken or facts or not quarantine.equals(before))
        if changed:
            tables = {**merged.tables, QUARANTINE: quarantine}
            chunks = iter([(name, table) for name, table in tables.items() if table.num_rows])
            writer.replace(config.name, "raw/import/", chunks, stamp="", config=config, provenance=facts)
    reasons = Counter(
        [shown(row.reason, _REASON) for row in refused] + [shown(row.reason, _REASON) for row in files.bad]
    )
    rows = {name: table.num_rows for name, table in merged.tables.items()}
    return ImportSummary(
        config.name,
        counts,
        dict(reasons),
        dict(Counter(shown(row.reason, _REASON) for row in aside)),
        rows,
        merged.ambiguous,
        changed,
        files.absent,
        files.repeated,
        unread_imports(lake, config.name),
        mapping.body.market is not None and mapping.body.market.queries_only,
    )


def _parameters(mapping: Loaded, given: Mapping[str, str]) -> dict[str, str]:
    for name in given:
        if name not in mapping.body.parameters:
            raise UserError(
                f"mapping '{mapping.name}' has no parameter '{name}'", did_you_mean(name, mapping.body.parameters)
            )
    return {**mapping.body.parameters, **given}


def _config(lake: Lake, mapping: Loaded, market: str | None, values: Mapping[str, str]) -> MarketConfig:
    """The market to import into: one of the lake, else the one that the mapping describes."""
    made = mapping.config(market, values)
    name = market or (made.name if made else "")
    if name and not _MARKET.fullmatch(name):
        raise UserError(
            f"market '{shown(name, 70)}'", "name it with up to 64 letters, digits, '.', '_' and '-', a letter first"
        )
    if name in lake.markets():
        config = lake.market_config(name)
        if made is not None and made.protocol != config.protocol:
            raise UserError(
                f"market '{name}' is of protocol {config.protocol}, mapping '{mapping.name}' of {made.protocol}",
                "name another market",
            )
        for key, value in (made.parameters if made else {}).items():
            if config.parameters.get(key, value) != value:
                raise UserError(
                    f"market '{name}' has {key} {config.parameters[key]}, not {value}",
                    f"give --set {key}=..., or name another market",
                )
        return config
    if made is None:
        what = f"there is no market '{name}' in {lake.path}" if name else f"mapping '{mapping.name}' names no market"
        raise UserError(what, "name one of the lake with --market; import or fetch its events first")
    return made


def _folding(lake: Lake, mapping: Loaded, config: MarketConfig, held: bool) -> LendingProtocol[Any] | None:
    """The market's protocol as one that folds imports. None: the mapping says that nothing is to be folded, or brings
    only what is read for every protocol.

    Raises:
        UserError: nothing would ever read what the mapping brings.
    """
    can = ", ".join(folding_imports())
    try:
        protocol = protocol_named(config.protocol)
    except UserError as error:
        raise UserError(error.what, f"{error.fix}; {can} can be folded from imports") from None
    if protocol.imported_columns:
        return protocol
    folded = [target for target in _FOLDED if target in mapping.selects]
    fetched = held and bool(lake.sources(config.name))
    wanted = not (mapping.body.market and mapping.body.market.queries_only)
    if folded if fetched else wanted:
        raise UserError(
            f"market '{config.name}': {config.protocol} cannot be folded from imports; {can} can",
            "only prices and checkpoints can be added to a market that was fetched"
            if fetched
            else "take its raw logs or its decoded events, from files (backtest import logs), or a node (backtest fetch"
            f" {config.protocol}),"
            " or say queries_only = true under [market] if its"
            " rows are to be queried and no more",
        )
    return None


def _mapped(
    mapping: Loaded,
    files: Sources,
    parameters: Mapping[str, str],
    base_decimals: int,
    chain_id: int,
    protocol: LendingProtocol[Any] | None,
) -> tuple[dict[str, pa.Table], list[RefusedRow], list[RefusedRow]]:
    """What the SELECTs make of the files, by dataset; the rows that cannot be taken; and those left out on purpose."""
    selected = {}
    with TextDatabase(files.tables) as database:
        for target, sql in mapping.selects.items():
            selected[target] = database.select(sql, parameters, f"{mapping.where}/{target}.sql")
    new: dict[str, pa.Table] = {}
    refused: list[RefusedRow] = []
    aside: list[RefusedRow] = []
    now, tokens = int(time.time()), known_decimals(chain_id)
    for target, table in selected.items():
        made = convert(target, table, mapping, files, base_decimals, now, protocol, tokens)
        new[TARGETS[target].dataset] = made.table
        refused += made.refused
        aside += made.aside
    taken = used(selected.values())
    for name, table in files.tables.items():
        if mapping.body.sources[name].lookup:
            continue
        for text in table[SOURCE_ROW].to_pylist():
            if text not in taken:
                file, row = files.place(text) or (0, 0)
                refused.append(RefusedRow(file, row, None, "no SELECT of the mapping takes it"))
    wrong = {(files.files[row.file].digest, row.row) for row in refused}
    if wrong:  # a row that is refused in one table is not stored in another
        for name, table in new.items():
            rows = zip(table["source_digest"].to_pylist(), table["source_row"].to_pylist(), strict=True)
            new[name] = table.filter(pa.array([row not in wrong for row in rows], pa.bool_()))
    return new, refused, aside


def _counts(
    mapping: Loaded, files: Sources, merged: Merged, refused: Sequence[RefusedRow], aside: Sequence[RefusedRow]
) -> list[FileCount]:
    apart: list[set[int]] = [set() for _ in files.files]
    for file_number, row in [*((bad.file, bad.row) for bad in refused), *((bad.file, bad.row) for bad in files.bad)]:
        apart[file_number].add(row)
    taken: dict[bytes, set[int]] = defaultdict(set)
    for digest, row in merged.taken:
        taken[digest].add(row)
    left: list[set[int]] = [set() for _ in files.files]
    for skipped in aside:
        left[skipped.file].add(skipped.row)
    out = []
    for number, file in enumerate(files.files):
        count = FileCount(file.source, file.name, file.digest.hex(), file.rows, quarantined=len(apart[number]))
        rest = file.rows - count.quarantined
        if mapping.body.sources[file.source].lookup:
            count.aside = rest
        else:
            count.stored = len(taken[file.digest] - apart[number])
            count.aside = len(left[number] - apart[number] - taken[file.digest])
            count.known = rest - count.stored - count.aside
        out.append(count)
    return out


def _quarantine(
    mapping: Loaded, files: Sources, refused: Sequence[RefusedRow], stored: pa.Table, mended: bool
) -> pa.Table:
    """The stored quarantine, with what it holds of these files replaced by what this import says of them.

    ``mended``: also what it holds of other files of the same names.
    """
    texts = _texts(files, refused)
    found = [(row.file, row.row, row.dataset, row.reason, texts.get((row.file, row.row), "")) for row in refused]
    found += [(row.file, row.row, None, row.reason, row.text) for row in files.bad]
    held = stored.to_pylist()
    called = {old["source_digest"]: old["file"] for old in held}  # a renamed file keeps its first name here
    rows: list[dict[str, Any]] = []
    for number, row, dataset, reason, text in set(found):
        file: File = files.files[number]
        name = called.get(file.digest, file.name)
        about = {
            "mapping": mapping.name,
            "dataset": dataset,
            "source": file.source,
            "file": name,
            "source_digest": file.digest,
        }
        rows.append({**about, "source_row": row, "reason": shown(reason, _REASON), "text": text})
    digests, names = {file.digest for file in files.files}, {(file.source, file.name) for file in files.files}
    for old in held:
        again = old["source_digest"] in digests or (mended and (old["source"], old["file"]) in names)
        if old["mapping"] != mapping.name or not again:
            rows.append(old)
    rows.sort(
        key=lambda row: (
            row["mapping"],
            row["file"],
            row["source_digest"],
            row["source_row"],
            row["dataset"] or "",
            row["reason"],
        )
    )
    return pa.Table.from_pylist(rows, schema=IMPORTED[QUARANTINE])


def _texts(files: Sources, refused: Sequence[RefusedRow]) -> dict[tuple[int, int], str]:
    """Rows as JSON, by file and row."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for row in refused:
        wanted[files.files[row.file].source].append(f"{row.file}:{row.row}")
    out = {}
    for source, keys in wanted.items():
        table = files.tables[source]
        found = table.filter(pc.is_in(table[SOURCE_ROW], value_set=pa.array(keys, pa.string())))
        for line in found.to_pylist():
            place = files.place(line.pop(SOURCE_ROW))
            assert place is not None
            out[place] = json.dumps({name: value for name, value in line.items() if value is not None})
    return out
